//! Short helper commands that are not the job: is a tool there, which version has it, what does git say.
//!
//! Never used while a job's tool runs: the supervisor waits for every child of this process. Hard rule: neither the time
//! nor the memory that a helper takes is without a bound.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{Clock, SystemClock, timespec};

/// What is kept of standard error.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// What a helper command printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// Standard output and standard error together.
    pub text: String,
}

/// A helper command, and what it may take.
#[derive(Debug, Clone)]
pub struct Helper<'a> {
    /// The program: a name for PATH, or a path.
    pub exe: &'a OsStr,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub cwd: &'a Path,
    /// Variables that are set.
    pub set: Vec<(OsString, OsString)>,
    /// Variables that are taken out of the environment of this process.
    pub removed: &'a [&'a str],
    /// Standard input.
    pub input: Vec<u8>,
    /// After so many bytes of standard output it is ended.
    pub max_bytes: usize,
    /// After this time it is ended.
    pub wait: Duration,
}

/// What became of a helper that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Standard output, as far as it was read.
    pub stdout: Vec<u8>,
    /// The first part of standard error.
    pub stderr: Vec<u8>,
    /// Whether there was more on standard output than was asked for; then it was ended.
    pub cut: bool,
}

/// A helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It could not be started.
    #[error("error starting `{exe}`")]
    NotStarted {
        /// The program.
        exe: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was ended after its time.
    #[error("`{exe}` took longer than {} s", wait.as_secs())]
    TookTooLong {
        /// The program.
        exe: String,
        /// Its time.
        wait: Duration,
    },
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

/// Runs a helper with its streams apart.
///
/// # Errors
/// `HelperError`; an exit code other than 0 is an answer.
pub fn capture(helper: &Helper<'_>) -> Result<Captured, HelperError> {
    let exe = || helper.exe.to_string_lossy().into_owned();
    let clock = SystemClock::start();
    let left = || helper.wait.saturating_sub(clock.monotonic());
    let not_started = |source| HelperError::NotStarted { exe: exe(), source };
    let (handle, mut streams) = start(helper).map_err(not_started)?;
    let ended = match read_streams(&mut streams, left) {
        Ok(Progress::AllRead) => handle.wait_timeout(left()),
        Ok(Progress::TooMuch) => handle.kill().and_then(|()| handle.wait_timeout(left())),
        Ok(Progress::NoTimeLeft) => Ok(None),
        Err(error) => Err(error),
    };
    let code = match ended {
        Ok(Some(output)) => output.status.code(),
        Ok(None) => {
            let _ = handle.kill();
            return Err(HelperError::TookTooLong { exe: exe(), wait: helper.wait });
        }
        Err(source) => {
            let _ = handle.kill();
            return Err(not_started(source));
        }
    };
    let [stdout, stderr] = streams;
    Ok(Captured { code, stdout: stdout.bytes, stderr: stderr.bytes, cut: stdout.full })
}

fn start(helper: &Helper<'_>) -> io::Result<(duct::Handle, [Stream; 2])> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let mut command = duct::cmd(helper.exe, &helper.args).dir(helper.cwd).unchecked();
    // What is said first is done last: a variable that is removed may be set all the same.
    for (name, value) in &helper.set {
        command = command.env(name, value);
    }
    for name in helper.removed {
        command = command.env_remove(name);
    }
    command = match helper.input.is_empty() {
        true => command.stdin_null(),
        false => command.stdin_bytes(helper.input.as_slice()),
    };
    let handle = command.stdout_file(stdout_end).stderr_file(stderr_end).start()?;
    Ok((handle, [Stream::of(stdout, helper.max_bytes), Stream::of(stderr, MAX_ERROR_BYTES)]))
}

/// One output stream, until its end.
struct Stream {
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

/// Why the reading ended.
enum Progress {
    AllRead,
    TooMuch,
    NoTimeLeft,
}

impl Stream {
    fn of(pipe: PipeReader, limit: usize) -> Self {
        Self { pipe: Some(pipe), bytes: Vec::new(), limit, full: false }
    }

    /// Takes what is there; what is beyond the limit is read and dropped.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = [0u8; 64 << 10];
        let length = pipe.read(&mut buffer)?;
        if length == 0 {
            self.pipe = None;
        }
        let wanted = self.limit.saturating_sub(self.bytes.len()).min(length);
        self.full |= wanted < length;
        self.bytes.extend_from_slice(buffer.get(..wanted).unwrap_or_default());
        Ok(())
    }
}

fn read_streams(streams: &mut [Stream; 2], left: impl Fn() -> Duration) -> io::Result<Progress> {
    loop {
        let open: Vec<usize> =
            (0..2).filter(|at| streams.get(*at).is_some_and(|s| s.pipe.is_some())).collect();
        if open.is_empty() {
            return Ok(Progress::AllRead);
        }
        let ready = {
            let mut polled: Vec<PollFd<'_>> = streams
                .iter()
                .filter_map(|stream| stream.pipe.as_ref())
                .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
                .collect();
            let wait = left();
            match poll(&mut polled, Some(&timespec(wait))) {
                Ok(0) | Err(rustix::io::Errno::INTR) if left().is_zero() => return Ok(Progress::NoTimeLeft),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            polled.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
        };
        for (at, _) in open.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            if let Some(stream) = streams.get_mut(at) {
                stream.read()?;
            }
        }
        if streams[0].full {
            return Ok(Progress::TooMuch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], max_bytes: usize, wait: Duration) -> Result<Captured, HelperError> {
        capture(&Helper {
            exe: OsStr::new("sh"),
            args: vec!["-c".into(), script.into()],
            cwd: Path::new("/"),
            set: vec![("GIVEN".into(), "yes".into())],
            removed: &["HOME", "GIVEN"],
            input: input.to_vec(),
            max_bytes,
            wait,
        })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_streams_are_apart_and_the_environment_is_as_asked() {
        let script = "cat; echo $GIVEN${HOME-none}; printf 'a\\377' >&2; exit 3";
        let ended = sh(script, b"in\0put\n", 1000, LONG).unwrap();
        assert_eq!(ended.stdout, b"in\0put\nyesnone\n");
        assert_eq!((ended.stderr.as_slice(), ended.code, ended.cut), (b"a\xff".as_slice(), Some(3), false));
    }

    #[test]
    fn endless_output_is_cut_and_its_writer_ended() {
        let ended = sh("exec cat /dev/zero", b"", 100_000, LONG).unwrap();
        assert!(ended.cut);
        assert_eq!(ended.stdout.len(), 100_000);
        let noisy = sh("head -c 1000000 /dev/zero >&2; echo done", b"", 100, LONG).unwrap();
        assert_eq!((noisy.stdout.as_slice(), noisy.stderr.len()), (b"done\n".as_slice(), MAX_ERROR_BYTES));
    }

    #[test]
    fn one_that_does_not_end_is_ended_and_one_that_is_missing_is_named() {
        let silent = sh("exec sleep 1000", b"", 10, Duration::from_millis(50));
        assert!(matches!(silent, Err(HelperError::TookTooLong { .. })));
        let closed = sh("exec sleep 1000 >&- 2>&-", b"", 10, Duration::from_millis(50));
        assert!(matches!(closed, Err(HelperError::TookTooLong { .. })));
        let mut helper = Helper {
            exe: OsStr::new("there-is-no-such-program"),
            args: Vec::new(),
            cwd: Path::new("/"),
            set: Vec::new(),
            removed: &[],
            input: Vec::new(),
            max_bytes: 1,
            wait: LONG,
        };
        let Err(HelperError::NotStarted { exe, .. }) = capture(&helper) else { panic!("it was started") };
        assert_eq!(exe, "there-is-no-such-program");
        helper.exe = OsStr::new("true");
        assert_eq!(capture(&helper).unwrap().code, Some(0));
    }
}
