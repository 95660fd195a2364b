//! Keeps requests to end this process back while a helper runs.
//!
//! A helper has a session of its own, so a terminal's Ctrl-C reaches this process alone. Where no one handles it, it would
//! end this process at once and leave the helper: so it is held back until the helper was ended. Hard rule: a signal that is
//! handled or ignored is left as it is.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that end a process which does not handle them.
const REQUESTS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The signals of this thread that are held back, until it is dropped: then they do what they do.
#[derive(Debug)]
pub(super) struct HeldSignals {
    before: libc::sigset_t,
    came: OwnedFd,
}

impl HeldSignals {
    /// Holds back what would end this process.
    ///
    /// # Errors
    /// The system's, where there is no descriptor left.
    pub(super) fn take() -> io::Result<Self> {
        let (mut held, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are written before they are read, and the descriptor is new and ours.
        unsafe {
            libc::sigemptyset(held.as_mut_ptr());
            for signal in REQUESTS.into_iter().filter(|signal| ends_this_process(*signal)) {
                libc::sigaddset(held.as_mut_ptr(), signal);
            }
            let came = libc::signalfd(-1, held.as_ptr(), libc::SFD_CLOEXEC);
            if came < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), before.as_mut_ptr());
            Ok(Self { before: before.assume_init(), came: OwnedFd::from_raw_fd(came) })
        }
    }

    /// Readable once one of them came.
    #[must_use]
    pub(super) fn came(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }

    /// What a helper is to have: the mask of before.
    #[must_use]
    pub(super) fn before(&self) -> libc::sigset_t {
        self.before
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set is one that the system gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn ends_this_process(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing; what is read was written where the call says so.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_DFL
    }
}
