//! Short helper commands that are not the job: is a tool there, which version has it.
//!
//! Never used while a job's tool runs: the supervisor waits for every child of this process.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// What a helper command printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// Standard output and standard error together.
    pub text: String,
}

/// Runs a command with no input; `None` if it could not be started or took too long.
#[must_use]
pub fn run(exe: &str, args: &[&str], cwd: &Path, wait: Duration) -> Option<Printed> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let handle = duct::cmd(exe, args)
        .dir(cwd)
        .stdin_null()
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .start()
        .ok()?;
    let Ok(Some(output)) = handle.wait_timeout(wait) else {
        // Whatever it started and left behind is not waited for.
        let _ = handle.kill();
        return None;
    };
    Some(Printed { code: output.status.code(), text: String::from_utf8_lossy(&output.stdout).into_owned() })
}
