//! Processes that are started and left to themselves: each in a process group of its own, none dies with this process.
//!
//! For programs that look after their own work (the worker's runners); a job's tool is started by `spawn`. Hard rule: only
//! the process that started them reaps them.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// This program, also when its file was replaced since it was started.
pub const OURSELVES: &str = "/proc/self/exe";

/// Starts a program without input and output; what it says goes to our standard error. Gives its pid.
///
/// # Errors
/// The system's; then nothing was started.
pub fn start(program: &str, name: &str, args: &[&OsStr]) -> io::Result<i32> {
    let child = Command::new(program)
        .arg0(name)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // The terminal's signals reach us alone.
        .process_group(0)
        .spawn()?;
    // It is reaped by `ended`, never through this handle, whose drop does nothing.
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// Reaps the children that have ended, without waiting.
#[must_use]
pub fn ended() -> Vec<i32> {
    let mut pids = Vec::new();
    loop {
        // SAFETY: a plain system call; no status is asked for.
        let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        if pid <= 0 {
            return pids;
        }
        pids.push(pid);
    }
}

/// Asks a child to end; one that was not yet reaped still has its pid, so nobody else is met.
pub fn ask_to_end(pid: i32) {
    // SAFETY: a plain system call on a child that was not yet waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}
