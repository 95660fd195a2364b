//! Takes the children of this process that have ended, one by one.
//!
//! A child may make this process its tracer (`PTRACE_TRACEME`); then `wait4` reports stops too. Hard rule: a stop is never
//! taken for an end, and a child that stopped for its tracer goes on, for this is not a debugger.

use rustix::process::Pid;

use super::Ended;
use crate::job::result::Usage;

/// What one look for an ended child came to.
#[derive(Debug)]
pub(crate) enum Reaped {
    /// None has ended.
    Nothing,
    /// There is no child any more.
    NoChild,
    /// One was let go on, or a signal came: look again.
    Again,
    /// One has ended.
    Ended(Child),
}

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    /// Its pid, which may now be given to another process.
    pub pid: i32,
    /// How it ended.
    pub ended: Ended,
    /// What it and the children that it waited for have used.
    pub usage: Usage,
}

/// Looks for a child that has ended; waits for none.
#[must_use]
pub(crate) fn next() -> Reaped {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value to be overwritten; both pointers live through the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    match pid {
        0 => Reaped::Nothing,
        pid if pid > 0 && libc::WIFSTOPPED(status) => {
            let_go(pid, libc::WSTOPSIG(status));
            Reaped::Again
        }
        pid if pid > 0 => Reaped::Ended(Child { pid, ended: how_ended(status), usage: usage_of(&usage) }),
        _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => Reaped::Again,
        // ECHILD: the proof that nothing is left.
        _ => Reaped::NoChild,
    }
}

/// A child that has ended, and which `next` takes next; leaves it as it is.
#[must_use]
pub(crate) fn peek() -> Option<Pid> {
    // SAFETY: an all-zero siginfo is a valid value to be overwritten, and its pid stays 0 if none has ended.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_ALL, 0, &raw mut info, options) == 0).then(|| Pid::from_raw(info.si_pid()))?
    }
}

/// Ends the tracing of a child, which gets the signal that it stopped at.
fn let_go(pid: i32, signal: i32) {
    // SAFETY: plain system calls on a child that stopped for us; an all-zero siginfo is a valid value to be overwritten.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let nothing = std::ptr::null_mut::<libc::c_void>();
        let known = libc::ptrace(libc::PTRACE_GETSIGINFO, pid, nothing, &raw mut info) == 0;
        // After an `execve` the kernel stops a traced process by a TRAP in its own name, which is meant for the tracer.
        let for_tracer =
            known && signal == libc::SIGTRAP && info.si_code == libc::SI_USER && info.si_pid() == pid;
        let passed_on = if for_tracer { 0 } else { signal };
        libc::ptrace(libc::PTRACE_DETACH, pid, nothing, libc::c_long::from(passed_on));
    }
}

fn how_ended(status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        Ended::Signal(libc::WTERMSIG(status))
    } else {
        Ended::Code(libc::WEXITSTATUS(status))
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of processor time")]
fn usage_of(usage: &libc::rusage) -> Usage {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Usage {
        cpu_user_s: seconds(usage.ru_utime),
        cpu_system_s: seconds(usage.ru_stime),
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}
