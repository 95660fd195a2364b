//! Signals as events: counted by handlers, waited for by one pipe.
//!
//! INT, TERM, HUP and QUIT are requests to stop, USR1 and CHLD only wake the loop. A signal that was ignored when the
//! engine started (`nohup`, a background job of a shell) stays ignored. Two pending signals of one number are one to the kernel, so
//! a launcher repeats its request with a real-time signal (`again`), which the kernel counts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;

use crate::clock::timespec;

/// A signal that asks this process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Int,
    Term,
    Hup,
    Quit,
}

impl Interrupt {
    /// The signal's number.
    #[must_use]
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Int => libc::SIGINT,
            Self::Term => libc::SIGTERM,
            Self::Hup => libc::SIGHUP,
            Self::Quit => libc::SIGQUIT,
        }
    }
}

/// The signal of a request that follows another one at once.
pub(super) fn again() -> i32 {
    libc::SIGRTMIN()
}

static REQUESTS: AtomicUsize = AtomicUsize::new(0);
static FIRST: AtomicI32 = AtomicI32::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);
static TERMINAL_STOP: AtomicBool = AtomicBool::new(false);

/// The installed handlers; one for the life of the process.
#[derive(Debug)]
pub(crate) struct Signals {
    reader: OwnedFd,
    _writer: OwnedFd,
}

/// How often this process was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Never.
    Not,
    /// Once: ask the tool to end.
    Once(Interrupt),
    /// Again: kill.
    Again(Interrupt),
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The system's, where no pipe or handler could be made.
    pub(crate) fn install() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        WAKE.store(writer.as_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, again()] {
            if !is_ignored(signal) {
                // SAFETY: the handler only touches atomics and calls write(2), both async-signal-safe.
                unsafe { signal_hook::low_level::register(signal, move || request(signal)) }?;
            }
        }
        for signal in [libc::SIGCHLD, libc::SIGUSR1] {
            // SAFETY: as above.
            unsafe { signal_hook::low_level::register(signal, wake) }?;
        }
        unblock();
        // SAFETY: ignoring a signal runs no code of ours. A file size limit must fail a write, not end the supervision.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        Ok(Self { reader, _writer: writer })
    }

    /// What was asked so far.
    #[must_use]
    pub(crate) fn asked(&self) -> Asked {
        asked()
    }

    /// How many requests to stop there were.
    #[must_use]
    pub(crate) fn requests(&self) -> usize {
        requests()
    }

    /// Waits for a signal, or until one of these is readable, at most so long; true if one of them is, or is at its end.
    pub(crate) fn wait(&self, also: &[BorrowedFd<'_>], at_most: Duration) -> bool {
        let mut fds = vec![PollFd::new(self, PollFlags::IN)];
        fds.extend(also.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let found = rustix::event::poll(&mut fds, Some(&timespec(at_most)));
        let is_readable = found.is_ok() && fds.iter().skip(1).any(|fd| !fd.revents().is_empty());
        self.drain();
        is_readable
    }

    /// Empties the pipe after a wake-up.
    pub(crate) fn drain(&self) {
        let mut bytes = [0u8; 64];
        while matches!(rustix::io::read(&self.reader, &mut bytes), Ok(n) if n > 0) {}
    }
}

/// What was asked so far; nothing in a process without the handlers.
#[must_use]
pub(crate) fn asked() -> Asked {
    let first = match FIRST.load(Ordering::SeqCst) {
        libc::SIGINT => Interrupt::Int,
        libc::SIGHUP => Interrupt::Hup,
        libc::SIGQUIT => Interrupt::Quit,
        _ => Interrupt::Term,
    };
    match REQUESTS.load(Ordering::SeqCst) {
        0 => Asked::Not,
        1 => Asked::Once(first),
        _ => Asked::Again(first),
    }
}

/// How often this process was asked to stop; a caller compares it with an earlier count.
#[must_use]
pub(crate) fn requests() -> usize {
    REQUESTS.load(Ordering::SeqCst)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// The seam for signals: requests to stop, and the wait that one of them ends.
pub(crate) trait Requests {
    /// How often this process was asked to stop.
    fn requests(&self) -> usize;

    /// Waits until one of these is readable or a signal comes, at most so long.
    fn wait(&self, readable: &[BorrowedFd<'_>], at_most: Duration);
}

impl Requests for Signals {
    fn requests(&self) -> usize {
        Self::requests(self)
    }

    fn wait(&self, readable: &[BorrowedFd<'_>], at_most: Duration) {
        Self::wait(self, readable, at_most);
    }
}

fn request(signal: i32) {
    let _ = FIRST.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    REQUESTS.fetch_add(1, Ordering::SeqCst);
    wake();
}

fn wake() {
    let fd = WAKE.load(Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: write(2) on a descriptor that `Signals` keeps open; a full pipe is as good as a written byte.
        unsafe { libc::write(fd, [1u8].as_ptr().cast(), 1) };
    }
}

/// While it lives, a terminal's Ctrl-Z (TSTP) is reported instead of obeyed, so that the tool can be stopped first.
#[derive(Debug)]
pub(crate) struct TerminalStop {
    before: libc::sighandler_t,
}

impl TerminalStop {
    /// Catches the signal, unless it is ignored.
    #[must_use]
    pub(crate) fn catch() -> Self {
        let before = set_terminal_stop(note_terminal_stop as *const () as libc::sighandler_t);
        if before == libc::SIG_IGN {
            set_terminal_stop(libc::SIG_IGN);
        }
        Self { before }
    }

    /// Whether it came since this was asked last.
    #[must_use]
    pub(crate) fn is_asked() -> bool {
        TERMINAL_STOP.swap(false, Ordering::SeqCst)
    }

    /// Does what the signal does to a process that does not handle it; returns when this process goes on.
    pub(crate) fn obey() {
        let handler = set_terminal_stop(libc::SIG_DFL);
        // SAFETY: a plain system call. A process group without a shell is not stopped by it: nothing could wake it.
        unsafe { libc::raise(libc::SIGTSTP) };
        set_terminal_stop(handler);
    }
}

impl Drop for TerminalStop {
    fn drop(&mut self) {
        set_terminal_stop(self.before);
    }
}

extern "C" fn note_terminal_stop(_: libc::c_int) {
    TERMINAL_STOP.store(true, Ordering::SeqCst);
    wake();
}

/// Sets the handler of TSTP, and gives the one of before.
fn set_terminal_stop(handler: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: all-zero sigactions are valid values; the handler only touches an atomic and calls write(2).
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGTSTP, &raw const new, &raw mut before);
        before.sa_sigaction
    }
}

/// Lets the signals through that a parent blocked before it became us: without CHLD the end of a tool is not seen, and
/// without the others the job cannot be canceled. A caller that wants them ignored must ignore them.
fn unblock() {
    // SAFETY: an all-zero set is a valid value to be overwritten; no old mask is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        let wakes = [libc::SIGCHLD, libc::SIGUSR1, libc::SIGTSTP];
        let requests = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, again()];
        for signal in wakes.into_iter().chain(requests) {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is a valid value to be overwritten; a null new action changes nothing.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}
