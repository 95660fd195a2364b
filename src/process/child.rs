//! One program that this process starts, passes its own requests to stop on to, and waits for.
//!
//! For copies of this program that supervise a job themselves: unlike a tool, such a program is not killed here as long as it can be
//! watched, and what it started is its own affair. It has a session of its own, so that a signal to this process's group does not reach it twice.
//! Hard rule: it is asked to end once for each request that this process gets, and is waited for until it has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::signals::Requests;

/// How long one wait for its end lasts; every signal and its end cut it short.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is read of its standard output.
const MOST_OUTPUT: u64 = 4 << 20;

/// The program and its streams; its standard error is that of this process.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// Its path.
    pub exe: &'a str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its standard input.
    pub input: &'a [u8],
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: Vec<u8>,
}

/// Runs a program to its end. Requests to stop that came before `heeded` were passed on to an earlier one.
///
/// # Errors
/// The system's: then it was not started, or was killed because it could not be watched.
pub(crate) fn run(program: &Program<'_>, signals: &dyn Requests, heeded: &mut usize) -> io::Result<Finished> {
    let input = in_memory(program.input)?;
    let mut output = in_memory(b"")?;
    #[expect(clippy::disallowed_methods, reason = "this module starts programs")]
    let mut command = std::process::Command::new(program.exe);
    command.args(&program.args).stdin(Stdio::from(input)).stdout(Stdio::from(output.try_clone()?));
    // SAFETY: between fork and exec only a plain system call is made.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    let mut started = Started(command.spawn()?);
    let ended = open(&started.0)?;
    let status = loop {
        if let Some(status) = started.0.try_wait()? {
            break status;
        }
        while *heeded < signals.requests() {
            *heeded += 1;
            let _ = rustix::process::pidfd_send_signal(&ended, Signal::TERM);
        }
        signals.wait(&[ended.as_fd()], LOOK_EVERY);
    };
    output.rewind()?;
    let mut bytes = Vec::new();
    output.take(MOST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(Finished { code: status.code(), output: bytes })
}

/// A program that runs. One that this process can no longer watch is not left behind: it is killed, and reaped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Of one that was reaped both do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(rustix::process::pidfd_open(pid.ok_or(io::ErrorKind::InvalidData)?, PidfdFlags::empty())?)
}

/// A file in memory that holds these bytes, read or written from its start: neither side ever waits for the other.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("engine", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use super::*;

    /// No request; a handler in the process of all tests would be one of the other tests' as well.
    struct Never;

    impl Requests for Never {
        fn requests(&self) -> usize {
            0
        }
        fn wait(&self, also: &[BorrowedFd<'_>], at_most: Duration) {
            use rustix::event::{PollFd, PollFlags, poll};
            let mut fds: Vec<PollFd<'_>> = also.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&crate::clock::timespec(at_most))).unwrap();
        }
    }

    fn shell(script: &str, input: &[u8]) -> Finished {
        let args = vec!["-c".into(), script.into()];
        run(&Program { exe: "/bin/sh", args, input }, &Never, &mut 0).unwrap()
    }

    #[test]
    fn it_reads_all_of_its_input_and_its_output_is_kept_whichever_comes_first() {
        let large = vec![b'x'; 1 << 20];
        let finished = shell("echo first; cat; exit 3", &large);
        assert_eq!(finished.code, Some(3));
        assert_eq!(finished.output.len(), "first\n".len() + large.len());
        assert_eq!(shell("exec kill -9 $$", b"").code, None);
    }

    #[test]
    fn one_that_cannot_be_watched_is_killed_and_reaped() {
        #[expect(clippy::disallowed_methods, reason = "this module starts programs")]
        let child = std::process::Command::new("/bin/sleep").arg("300").spawn().unwrap();
        let watch = open(&child).unwrap();
        drop(Started(child));
        assert_eq!(
            rustix::process::pidfd_send_signal(&watch, Signal::KILL).unwrap_err(),
            rustix::io::Errno::SRCH,
            "it is reaped"
        );
    }
}
