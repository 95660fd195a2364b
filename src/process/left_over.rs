//! Processes that outlived their runner: found by the marker in their environment, and ended.
//!
//! A marker survives double forks and `setsid`, not `env -i`; those are found by the session of one that is found. The
//! pid in a record is never used. Hard rule: that nothing is left is said only when it is proved.

use std::time::Duration;

use rustix::process::Signal;

use super::tree::{self, Sent, Stat};
use crate::clock::{self, Clock};

/// The variable that every process of an attempt carries: `<store uuid>/<job id>/<attempt>`.
pub const MARKER: &str = "ENGINE_ATTEMPT";

/// Why an attempt cannot be said to be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOver {
    /// These processes are alive: pid and name.
    Alive(Vec<String>),
    /// Whether any process is alive cannot be told, for this reason.
    Unknown(String),
}

/// Whether a process runs something that is not ours to end; then what that is.
pub type Foreign<'a> = &'a dyn Fn(i32) -> Option<String>;

/// Ends all processes of one attempt: TERM, grace, KILL, and looks again until it is proved that there are none.
///
/// `marker` is the whole value of `MARKER`. Nothing is ended if a living ancestor of a marked process is `foreign`.
///
/// # Errors
/// `LeftOver`: then the attempt may still run.
pub fn end(clock: &dyn Clock, marker: &str, foreign: Foreign<'_>, grace: Duration) -> Result<(), LeftOver> {
    let variable = format!("{MARKER}={marker}");
    let kill_at = clock.monotonic() + grace;
    let give_up_at = kill_at + Duration::from_secs(5);
    let mut asked: Vec<(i32, u64)> = Vec::new();
    check_proc()?;
    loop {
        let found = match find(variable.as_bytes(), foreign)? {
            Found::None => return Ok(()),
            Found::These(found) => found,
            Found::TooBusy if clock.monotonic() >= give_up_at => {
                return unknown("processes are started faster than they can be looked at");
            }
            Found::TooBusy => continue,
        };
        let now = clock.monotonic();
        let denied =
            found.iter().filter(|stat| step(stat, now >= kill_at, &mut asked) == Sent::Denied).count();
        if now >= give_up_at || denied == found.len() {
            let alive = found.iter().map(|stat| format!("{} {}", stat.pid, stat.name)).collect();
            return Err(LeftOver::Alive(alive));
        }
        clock::sleep(Duration::from_millis(10));
    }
}

fn unknown<T>(why: impl Into<String>) -> Result<T, LeftOver> {
    Err(LeftOver::Unknown(why.into()))
}

fn step(stat: &Stat, kill: bool, asked: &mut Vec<(i32, u64)>) -> Sent {
    if kill {
        return tree::signal(stat, Signal::KILL);
    }
    if asked.contains(&(stat.pid, stat.started)) {
        return Sent::Yes;
    }
    asked.push((stat.pid, stat.started));
    let sent = tree::signal(stat, Signal::TERM);
    let _ = tree::signal(stat, Signal::CONT);
    sent
}

/// Says whether `/proc` can prove that a process is gone: one that is missing, or that shows another pid namespace, shows no
/// process of ours.
///
/// # Errors
/// `LeftOver::Unknown`, with what is missing.
pub fn check_proc() -> Result<(), LeftOver> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let shown = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
    if shown != Some(own) || tree::stat(own).is_none() {
        return unknown("/proc does not show the processes of this pid namespace; mount proc at /proc");
    }
    match std::fs::read("/proc/self/environ") {
        Ok(_) => Forks::so_far().map(drop),
        Err(error) => unknown(format!("the environments in /proc cannot be read: {error}")),
    }
}

/// What one look came to.
enum Found {
    /// Nothing is left.
    None,
    /// These are.
    These(Vec<Stat>),
    /// Nothing was seen, and more was started than could be looked at.
    TooBusy,
}

/// The marked processes and everything in their sessions; never this process or one that it descends from.
fn find(variable: &[u8], foreign: Foreign<'_>) -> Result<Found, LeftOver> {
    let before = Forks::so_far()?;
    let all = tree::all();
    let ours = line_of(&all, rustix::process::getpid().as_raw_nonzero().get());
    let living = || all.iter().filter(|stat| stat.state != 'Z' && !ours.contains(&stat.pid));
    let mut marked: Vec<&Stat> = Vec::new();
    for stat in living() {
        if is_marked(stat.pid, variable)? {
            marked.push(stat);
        }
    }
    if marked.is_empty() {
        return Ok(if nothing_came(before, variable)? { Found::None } else { Found::TooBusy });
    }
    let ancestors = marked.iter().flat_map(|stat| line_of(&all, stat.pid)).filter(|pid| !ours.contains(pid));
    if let Some(what) = ancestors.collect::<std::collections::BTreeSet<_>>().into_iter().find_map(foreign) {
        return Err(LeftOver::Alive(vec![what]));
    }
    // The tool made its session itself, so whatever is in it descends from the tool.
    let sessions: Vec<i32> = marked.iter().map(|stat| stat.session).collect();
    let own_session = all.iter().find(|stat| Some(&stat.pid) == ours.first()).map(|stat| stat.session);
    let these = living()
        .filter(|stat| {
            marked.iter().any(|found| found.pid == stat.pid)
                || (sessions.contains(&stat.session) && Some(stat.session) != own_session)
        })
        .cloned()
        .collect();
    Ok(Found::These(these))
}

/// A process and its ancestors, as far as they are shown.
fn line_of(all: &[Stat], mut pid: i32) -> Vec<i32> {
    let mut line = Vec::new();
    while pid > 0 && !line.contains(&pid) {
        line.push(pid);
        pid = all.iter().find(|stat| stat.pid == pid).map_or(0, |stat| stat.parent);
    }
    line
}

/// How many processes the kernel has made so far, and the pid that it gave away last in this namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forks {
    made: u64,
    last: i32,
}

impl Forks {
    /// The count is read first: what is made between the two reads is at or below `last`, and counts as made later.
    fn so_far() -> Result<Self, LeftOver> {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .or_else(|error| unknown(format!("the proof needs `{path}`, which cannot be read: {error}")))
        };
        let (stat, load) = (read("/proc/stat")?, read("/proc/loadavg")?);
        let made = stat.lines().find_map(|line| line.strip_prefix("processes ")?.trim().parse().ok());
        let last = load.split_whitespace().last().and_then(|pid| pid.parse().ok());
        match (made, last) {
            (Some(made), Some(last)) => Ok(Self { made, last }),
            _ => unknown("/proc does not say how many processes were made"),
        }
    }
}

/// True if no marked process can have been made since `before` and still be alive.
///
/// `/proc` is walked by ascending pid, so a process that is forked behind the walk is not seen, and its parent may be gone
/// when the walk gets there. If nothing was forked meanwhile, the walk saw everything. Else each pid that was given away since
/// then is looked at, by ascending pid again, a child after its parent, until no more are given away.
fn nothing_came(mut before: Forks, variable: &[u8]) -> Result<bool, LeftOver> {
    /// More than that, and the pids may have wrapped around: the least `pid_max` is 301.
    const MANY: u64 = 256;
    /// So far below the last pid a fork may have been under way, its pid taken and its process not yet there.
    const UNDER_WAY: i32 = 64;
    const ROUNDS: u32 = 100;
    let first = before;
    let mut looked = false;
    for _ in 0..ROUNDS {
        let after = Forks::so_far()?;
        // The count is that of the whole machine; the last pid is that of this namespace.
        if after.made == before.made || (looked && after.last == before.last) {
            return Ok(true);
        }
        if after.made.wrapping_sub(before.made) >= MANY || after.last < first.last {
            return Ok(false);
        }
        for pid in before.last.saturating_sub(UNDER_WAY)..=after.last {
            if is_marked(pid, variable)? {
                return Ok(false);
            }
        }
        (before, looked) = (after, true);
    }
    Ok(false)
}

/// Whether a process carries the variable. One that is just executing a program has no environment for a moment.
fn is_marked(pid: i32, variable: &[u8]) -> Result<bool, LeftOver> {
    const LOOKS: u32 = 200;
    for _ in 0..LOOKS {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return Ok(false) };
        if !environment.is_empty() {
            return Ok(environment.split(|b| *b == 0).any(|found| found == variable));
        }
        if !tree::stat(pid).is_some_and(|stat| stat.executes) {
            return Ok(false);
        }
        clock::sleep(Duration::from_millis(1));
    }
    unknown(format!("the process {pid} does not finish its execve"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the processes that are looked for")]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_counted_and_its_pid_is_the_last_one() {
        let before = Forks::so_far().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let after = Forks::so_far().unwrap();
        child.wait().unwrap();
        assert!(after.made > before.made);
        assert!(after.last != before.last);
    }

    #[test]
    fn a_process_that_came_during_the_walk_is_seen_by_its_pid() {
        let variable = format!("{MARKER}=a-process-that-came/{}", std::process::id());
        let before = Forks::so_far().unwrap();
        let (name, value) = variable.split_once('=').unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").env(name, value).spawn().unwrap();
        assert!(!nothing_came(before, variable.as_bytes()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        // Others fork meanwhile; that nothing is left is proved all the same.
        let mut looks = 0..1000;
        assert!(looks.any(|_| nothing_came(Forks::so_far().unwrap(), variable.as_bytes()).unwrap()));
    }

    #[test]
    fn only_the_whole_marker_counts() {
        let marker = format!("only-the-whole/{}/1", std::process::id());
        let mut child = std::process::Command::new("sleep").arg("60").env(MARKER, &marker).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(is_marked(pid, format!("{MARKER}={marker}").as_bytes()).unwrap());
        assert!(!is_marked(pid, format!("{MARKER}={marker}2").as_bytes()).unwrap());
        let beginning = marker.trim_end_matches('1');
        assert!(!is_marked(pid, format!("{MARKER}={beginning}").as_bytes()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
