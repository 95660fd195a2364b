//! The process table, and how a process in it is signalled.
//!
//! This process is their reaper: the pid of a child that we have not waited for cannot be used again. Deeper
//! descendants are signalled through a descriptor that is opened before they are looked at again.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::clock;

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// R, S, D, T, Z …
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// How many threads it has; a process whose main thread has exited is a Z with other threads.
    threads: u64,
    flags: u64,
    /// How long its environment is; none while an `execve` has taken the old one away, or where there is no memory at all.
    environment: Option<u64>,
}

/// `PF_KTHREAD`: a thread of the kernel, which has no memory of its own.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// `PF_EXITING`: its memory is gone, and it is not yet a zombie.
const EXITING: u64 = 0x4;

impl Stat {
    /// True if nothing of it runs any more.
    #[must_use]
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }

    /// What no other process of this boot has.
    #[must_use]
    pub(crate) fn key(&self) -> (i32, u64) {
        (self.pid, self.started)
    }
}

/// Reads one process; `None` if it is gone or cannot be read.
#[must_use]
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    look(pid).ok().flatten()
}

/// Reads one process; `None` if it is gone or another user's.
pub(crate) fn look(pid: i32) -> io::Result<Option<Stat>> {
    let Some(bytes) = of_ours(pid, std::fs::read(format!("/proc/{pid}/stat")))? else { return Ok(None) };
    // The kernel cuts names at 15 bytes, also in the middle of a character.
    match parse(&String::from_utf8_lossy(&bytes)) {
        Some(stat) => Ok(Some(stat)),
        None => Err(io::Error::other(format!("/proc/{pid}/stat cannot be understood"))),
    }
}

/// What was read of a process; `None` if the error says that it is gone, another user's, or one with more rights than ours.
///
/// A process that made itself undumpable belongs to root in `/proc`, so it counts as another user's.
///
/// # Errors
/// Every other error: it says nothing of the process.
pub(crate) fn of_ours<T>(pid: i32, read: io::Result<T>) -> io::Result<Option<T>> {
    let error = match read {
        Ok(read) => return Ok(Some(read)),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Ok(None),
        Some(libc::EACCES | libc::EPERM) if is_of_others(pid) => Ok(None),
        _ => Err(error),
    }
}

fn is_of_others(pid: i32) -> bool {
    match std::fs::metadata(format!("/proc/{pid}")) {
        Ok(process) if process.uid() != rustix::process::geteuid().as_raw() => true,
        // What a tool of ours starts inherits no right that we lack.
        Ok(_) => matches!((rights(pid), rights(own_pid())), (Some(its), Some(own)) if its & !own != 0),
        Err(gone) => gone.kind() == io::ErrorKind::NotFound,
    }
}

/// `CapPrm:` in `/proc/<pid>/status`: a mask of capabilities.
fn rights(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapPrm:")?.trim(), 16).ok())
}

fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold anything, parentheses too.
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
    // The state is field 3.
    let field = |number: usize| fields.get(number - 3);
    let number = |of: usize| field(of)?.parse::<u64>().ok();
    let pid_in = |of: usize| field(of)?.parse::<i32>().ok();
    let environment = match (number(50), number(51)) {
        (Some(start), Some(end)) if end > 0 => Some(end.saturating_sub(start)),
        _ => None,
    };
    Some(Stat {
        pid: text.get(..open)?.trim().parse().ok()?,
        name: text.get(open + 1..close)?.to_owned(),
        state: field(3)?.chars().next()?,
        parent: pid_in(4)?,
        group: pid_in(5)?,
        session: pid_in(6)?,
        flags: number(9)?,
        threads: number(20)?,
        started: number(22)?,
        environment,
    })
}

/// All processes of the machine (of this pid namespace).
///
/// # Errors
/// If one cannot be read, or the list lacks this process: then it proves nothing.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        all.extend(look(pid)?);
    }
    match all.iter().any(|stat| stat.pid == own_pid()) {
        true => Ok(all),
        false => Err(io::Error::other("/proc does not list this process")),
    }
}

/// The file name of the program that a process runs; `None` if that cannot be seen. A replaced file keeps its name.
#[must_use]
pub(crate) fn executable(pid: i32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.to_str()?;
    Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}

/// The pid of this process.
#[must_use]
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Whether the environment of a process has one of these `NAME=value`.
///
/// A process in the middle of an `execve` has no environment, and a read that meets the `execve` is cut: so it is read again
/// until its length is what the kernel says.
///
/// # Errors
/// If that cannot be read, or does not come to an end.
pub(crate) fn carries(pid: i32, variables: &[Vec<u8>]) -> io::Result<bool> {
    const LOOKS: u32 = 2000;
    let has_one = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|found| variables.iter().any(|wanted| found == wanted))
    };
    for _ in 0..LOOKS {
        let environment = match std::fs::read(format!("/proc/{pid}/environ")) {
            // It is gone, or its main thread is.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Vec::new(),
            read => match of_ours(pid, read)? {
                Some(environment) => environment,
                None => return Ok(false),
            },
        };
        if has_one(&environment) {
            return Ok(true);
        }
        let Some(stat) = look(pid)? else { return Ok(false) };
        match stat.environment {
            Some(length) if length == environment.len() as u64 => return Ok(false),
            None if stat.flags & KERNEL_THREAD != 0 || stat.is_dead() => return Ok(false),
            None if stat.threads > 1 => {
                if let Some(environment) = environment_of_a_thread(pid)? {
                    return Ok(has_one(&environment));
                }
            }
            None if stat.flags & EXITING != 0 => return Ok(false),
            _ => {}
        }
        clock::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other(format!("the process {pid} does not finish its execve")))
}

/// The environment of a process whose main thread has exited.
fn environment_of_a_thread(pid: i32) -> io::Result<Option<Vec<u8>>> {
    let Some(threads) = of_ours(pid, std::fs::read_dir(format!("/proc/{pid}/task")))? else {
        return Ok(None);
    };
    for thread in threads {
        let Some(thread) = of_ours(pid, thread)? else { return Ok(None) };
        match of_ours(pid, std::fs::read(thread.path().join("environ")))? {
            Some(environment) if !environment.is_empty() => return Ok(Some(environment)),
            _ => {}
        }
    }
    Ok(None)
}

/// Asks without reaping anything.
#[must_use]
pub(crate) fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The process has it.
    Yes,
    /// The process is gone, or its pid is another's.
    Gone,
    /// It belongs to another user.
    Denied,
}

/// Signals exactly the process that was seen, not a later one of the same pid.
#[must_use]
pub(crate) fn signal(seen: &Stat, signal: Signal) -> Sent {
    let Some(pid) = Pid::from_raw(seen.pid) else { return Sent::Gone };
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Sent::Gone };
    if stat(seen.pid).is_none_or(|now| now.started != seen.started) {
        return Sent::Gone;
    }
    match rustix::process::pidfd_send_signal(&handle, signal) {
        Ok(()) => Sent::Yes,
        Err(rustix::io::Errno::PERM) => Sent::Denied,
        Err(_) => Sent::Gone,
    }
}

/// Asks processes to end: TERM, and CONT for those that are stopped.
pub(crate) fn ask(processes: &[Stat]) {
    for process in processes {
        let _ = signal(process, Signal::TERM);
        let _ = signal(process, Signal::CONT);
    }
}

/// The children of this process, those of its first thread, the oldest first.
#[must_use]
pub(crate) fn children() -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/children", own_pid())).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The session of a process, or of this one; 0 if its leader is in another pid namespace (`docker exec`, `unshare --pid`), where
/// the same call of the crate asserts that it never is.
#[must_use]
pub(crate) fn session_of(process: Option<Pid>) -> i32 {
    // SAFETY: a plain system call.
    unsafe { libc::getsid(Pid::as_raw(process)) }
}

/// The process group of a process; `None` if it is gone, or its leader is in another pid namespace.
fn group_of(process: Pid) -> Option<Pid> {
    // SAFETY: a plain system call.
    let group = unsafe { libc::getpgid(Pid::as_raw(Some(process))) };
    (group > 0).then(|| Pid::from_raw(group))?
}

/// Kills the process group of a child of the tool's that is not reaped yet, unless it is one of these.
///
/// An orphan that forks and exits within a millisecond outruns a signal to its pid, but not one to its group: the kernel gives
/// that to all members at once, and completes no `fork` of one that has it. The group cannot be another's by now: the child
/// keeps it until it is reaped, and what leaves the session of the tool leaves it for a new one.
pub(crate) fn kill_group_of(child: Pid, killed: &mut HashSet<Pid>) {
    let Some(group) = group_of(child) else { return };
    let is_in_our_session = session_of(Some(child)) == session_of(None);
    if killed.insert(group) && !is_in_our_session {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let text = "42 (a) (b c) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        let stat = parse(text).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state), (42, "a) (b c", 'S'));
        assert_eq!((stat.parent, stat.group, stat.session, stat.started), (7, 8, 9, 12_345));
        assert_eq!((stat.threads, stat.flags, stat.environment), (1, 4_194_304, None));
    }

    #[test]
    fn this_process_reads_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(stat(pid).unwrap().pid, pid);
        assert!(all().unwrap().iter().any(|stat| stat.pid == pid));
    }
}
