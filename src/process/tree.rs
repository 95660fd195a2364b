//! The processes below this one, and how they are ended.
//!
//! This process is their reaper: the pid of a child that we have not waited for can not be used again. Deeper
//! descendants are signalled through a descriptor that is opened before they are looked at again.

use rustix::process::{Pid, PidfdFlags, Signal};

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
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
    /// True while an `execve` of it has taken the old memory away and has not yet placed the new environment.
    pub executes: bool,
}

/// `PF_KTHREAD`: a thread of the kernel, which has no memory of its own.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Reads one process; `None` if it is gone.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    // The kernel cuts names at 15 bytes, also in the middle of a character.
    parse(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
}

fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold anything, parentheses too.
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text.get(close + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse::<i64>().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    // Field 9 is the flags, 22 the start time, 51 the end of the environment: 0 while there is none.
    let flags = fields.nth(2)?.parse::<u64>().ok()?;
    let started = fields.nth(12)?.parse::<u64>().ok()?;
    let no_environment = fields.nth(28) == Some("0");
    Some(Stat {
        pid: text.get(..open)?.trim().parse().ok()?,
        name: text.get(open + 1..close)?.to_owned(),
        state,
        parent: i32::try_from(parent).ok()?,
        group: i32::try_from(group).ok()?,
        session: i32::try_from(session).ok()?,
        started,
        executes: no_environment && flags & KERNEL_THREAD == 0 && state != 'Z',
    })
}

/// All processes of the machine (of this pid namespace).
#[must_use]
pub fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The processes below this one.
#[derive(Debug, Default)]
pub struct Family {
    /// Those that live and descend from the job's tool.
    pub ours: Vec<Stat>,
    /// How many children of this process are none of the job's: its shell's, from before, or orphans of those.
    pub bystanders: usize,
}

/// Looks at the processes below this one. `strangers` are children from before the tool was started. The tool makes a
/// session of its own, so whatever is in ours is not its descendant either.
#[must_use]
pub fn family(strangers: &[i32]) -> Family {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut rest = all();
    let session = rest.iter().find(|stat| stat.pid == own).map_or(0, |stat| stat.session);
    let is_bystander = |stat: &Stat| strangers.contains(&stat.pid) || stat.session == session;
    let mut family = Family::default();
    let mut parents = vec![own];
    while !parents.is_empty() {
        let (children, others): (Vec<Stat>, Vec<Stat>) =
            rest.into_iter().partition(|stat| parents.contains(&stat.parent));
        rest = others;
        let (bystanders, ours): (Vec<Stat>, Vec<Stat>) = children.into_iter().partition(is_bystander);
        family.bystanders += bystanders.len();
        parents = ours.iter().map(|stat| stat.pid).collect();
        family.ours.extend(ours);
    }
    family.ours.retain(|stat| stat.state != 'Z');
    family
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The process has it.
    Yes,
    /// The process is gone, or its pid is another's.
    Gone,
    /// It belongs to another user.
    Denied,
}

/// Signals exactly the process that was seen, not a later one of the same pid.
#[must_use]
pub fn signal(seen: &Stat, signal: Signal) -> Sent {
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
pub fn ask(processes: &[Stat]) {
    for process in processes {
        let _ = signal(process, Signal::TERM);
        let _ = signal(process, Signal::CONT);
    }
}

/// Kills the children that this process has now, the newest first, and gives their pids; only for a process that has no others.
///
/// It needs no walk through the process table, so an orphan that forks and exits within a millisecond is met all the same. None
/// of them can be another process by now, for none was waited for.
pub fn kill_children() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let text = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    let children: Vec<i32> = text.split_whitespace().rev().filter_map(|pid| pid.parse().ok()).collect();
    for pid in children.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    children
}

/// Kills all descendants: first stops them until no new one appears, so that none can fork away from the sweep, as long as there
/// is time. The ones that belong to another user are returned.
#[must_use]
pub fn kill_descendants(strangers: &[i32], has_time: &dyn Fn() -> bool) -> Vec<Stat> {
    const SWEEPS: usize = 50;
    let mut stopped: Vec<(i32, u64)> = Vec::new();
    for _ in 0..SWEEPS {
        let new: Vec<Stat> = family(strangers)
            .ours
            .into_iter()
            .filter(|stat| !stopped.contains(&(stat.pid, stat.started)))
            .collect();
        if new.is_empty() || !has_time() {
            break;
        }
        for process in &new {
            let _ = signal(process, Signal::STOP);
            stopped.push((process.pid, process.started));
        }
    }
    let all = family(strangers).ours;
    all.into_iter().filter(|process| signal(process, Signal::KILL) == Sent::Denied).collect()
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
    }

    #[test]
    fn this_process_reads_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(stat(pid).unwrap().pid, pid);
        assert!(all().iter().any(|stat| stat.pid == pid));
    }
}
