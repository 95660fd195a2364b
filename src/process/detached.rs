//! Processes that are forked and left to themselves: none dies with this process.
//!
//! For copies of this program that look after their own work (the worker's launcher and runners); a job's tool is started
//! by `spawn`. Must be used while this process has one thread. Hard rule: only the process that forked them reaps them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::signals;

/// Which of the two processes goes on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one; the pid of the new one.
    Parent(i32),
}

/// Forks this process into a process group of its own, which the terminal's signals do not reach.
///
/// # Errors
/// The system's; then there is no child.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: this process has one thread, so the child may do whatever the parent might.
    match unsafe { libc::fork() } {
        pid if pid < 0 => Err(io::Error::last_os_error()),
        0 => {
            let _ = rustix::process::setpgid(None, None);
            Ok(Forked::Child)
        }
        pid => {
            // Both do it, so that it is done whichever runs first.
            let _ = rustix::process::setpgid(rustix::process::Pid::from_raw(pid), None);
            Ok(Forked::Parent(pid))
        }
    }
}

/// Gives this process an empty standard input and a standard output that goes nowhere.
///
/// # Errors
/// The system's.
pub(crate) fn without_input_and_output() -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Ends a forked process without running what the parent had arranged for its own end.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Reaps the children that have ended, without waiting: the pid of each, and its exit status unless a signal ended it.
#[must_use]
pub(crate) fn ended() -> Vec<(i32, Option<u8>)> {
    let mut ended = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: a plain system call that fills in the status, which lives until it returns.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return ended;
        }
        let own = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        ended.push((pid, own.and_then(|own| u8::try_from(own).ok())));
    }
}

/// Waits for a child that is ending, and reaps it. One that was reaped already is not waited for.
pub(crate) fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: a plain system call that fills in the status, which lives until it returns.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Which request to end a child gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    First,
    /// The child counts it also where it has not heeded the one before.
    Again,
}

/// Asks a child to end; one that was not yet reaped still has its pid, so no other process is met.
pub(crate) fn ask_to_end(pid: i32, request: Request) {
    let signal = match request {
        Request::First => libc::SIGTERM,
        Request::Again => signals::again(),
    };
    // SAFETY: a plain system call on a child that was not yet waited for.
    unsafe { libc::kill(pid, signal) };
}

/// A descriptor that is readable when a child has ended, or a signal came that is meant to end this process.
#[derive(Debug)]
pub(crate) struct ChildEnds(OwnedFd);

impl ChildEnds {
    /// Blocks CHLD and begins to watch it, and the signals that a shutdown sends to every process: what has to end ends by
    /// itself. No handler is installed: a fork would inherit it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn watch() -> io::Result<Self> {
        let set = mask_signals(libc::SIG_BLOCK);
        // SAFETY: the set is initialised; the descriptor is ours.
        unsafe {
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                fd if fd < 0 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Takes the report.
    pub(crate) fn drain(&self) {
        let mut bytes = [0u8; 128];
        while matches!(rustix::io::read(&self.0, &mut bytes), Ok(n) if n > 0) {}
    }

    /// In a forked child: closes it and lets all signals through again.
    pub(crate) fn forget(self) {
        drop(self);
        mask_signals(libc::SIG_UNBLOCK);
    }
}

impl AsFd for ChildEnds {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn mask_signals(how: i32) -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value to be overwritten; no old mask is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
        set
    }
}
