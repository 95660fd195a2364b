//! Processes that outlived their runner: found by the marker in their environment, and ended.
//!
//! A marker survives double forks and `setsid`, not `env -i`; those are found by the session of one that is found. The
//! pid in a record is never used. Hard rule: that nothing is left is said only when it is proved.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::tree::{self, Sent, Stat};
use crate::clock::{self, Clock};

/// The variable that every process of an attempt carries: `<store uuid>/<job id>/<attempt>`.
pub(crate) const MARKER: &str = "ENGINE_ATTEMPT";

/// The same of the job that the attempt's own is a part of.
pub(crate) const PARENT_MARKER: &str = "ENGINE_PARENT_ATTEMPT";

/// The variables that the processes of an attempt carry: its own, and those of the jobs that are a part of its job.
#[must_use]
pub(super) fn variables(marker: &str) -> [Vec<u8>; 2] {
    [MARKER, PARENT_MARKER].map(|name| format!("{name}={marker}").into_bytes())
}

/// Why an attempt cannot be said to be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeftOver {
    /// These processes are alive: pid and name.
    Alive(Vec<String>),
    /// Whether any process is alive cannot be determined, for this reason.
    Unknown(String),
}

/// Whether a process runs something that is not ours to end; then what that is. An error: that cannot be determined.
pub(crate) type Foreign<'a> = &'a dyn Fn(i32) -> io::Result<Option<String>>;

/// The whole values of `MARKER` that the processes of one attempt may carry.
#[derive(Debug)]
pub(crate) struct Markers {
    /// That of this root.
    pub own: String,
    /// Those of the roots that this one is a copy of: what carries them may be the original's.
    pub former: Vec<String>,
}

/// Ends all processes of one attempt: TERM, grace, KILL, and looks again until it is proved that there are none.
///
/// What belongs to jobs that are a part of this one comes last `CHILD_RUNNER_FIRST`: their runners carry the marker of this
/// one, and one that was asked first records that it was, and not what its tool made of the signal.
///
/// Nothing is ended if a living ancestor of a marked process is `foreign`, or if this process descends from a marked one. What
/// carries a former marker is never ended.
///
/// # Errors
/// `LeftOver`: then the attempt may still run.
pub(crate) fn end(
    clock: &dyn Clock,
    markers: &Markers,
    foreign: Foreign<'_>,
    grace: Duration,
) -> Result<(), LeftOver> {
    let own = variables(&markers.own);
    check_proc()?;
    let prove_by = end_marked(clock, &own, foreign, grace)?;
    if markers.former.is_empty() {
        return Ok(());
    }
    let former: Vec<Vec<u8>> = markers.former.iter().flat_map(|marker| variables(marker)).collect();
    match look(clock, &former, foreign, prove_by)?.0 {
        found if found.is_empty() => Ok(()),
        found => Err(LeftOver::Alive(found.iter().map(of_the_original).collect())),
    }
}

fn of_the_original(stat: &Stat) -> String {
    let Stat { pid, name, .. } = stat;
    format!("{pid} {name}, which carries the marker of the original of this copied root")
}

/// Looks until something is found or it is proved that there is nothing; with the time that the last look took.
fn look(
    clock: &dyn Clock,
    variables: &[Vec<u8>],
    foreign: Foreign<'_>,
    prove_by: Duration,
) -> Result<(Vec<Stat>, Duration), LeftOver> {
    loop {
        let begun = clock.monotonic();
        let found = find(variables, foreign)?;
        let now = clock.monotonic();
        let took = now.saturating_sub(begun);
        if let Some(found) = found {
            return Ok((found, took));
        }
        if now >= prove_by {
            return unknown("processes start faster than they can be inspected");
        }
        clock::sleep(pause(took).min(prove_by.saturating_sub(now)));
    }
}

/// How long to wait after a look that took so long. Each look reads all of `/proc`, and several recoveries may look at once: a
/// look takes a tenth of the time at most, so that the jobs that are started meanwhile have the processor.
fn pause(look_took: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(10);
    /// On a machine where a look takes longer than a ninth of that, a recovery must still end.
    const LONGEST: Duration = Duration::from_secs(1);
    (look_took * 9).clamp(SHORTEST, LONGEST)
}

/// Ends them; gives the time until which it may take to prove that others are not there.
fn end_marked(
    clock: &dyn Clock,
    own: &[Vec<u8>],
    foreign: Foreign<'_>,
    grace: Duration,
) -> Result<Duration, LeftOver> {
    let kill_at = clock.monotonic() + grace;
    let give_up_at = kill_at + Duration::from_secs(5);
    // A busy machine forks behind each look for a while.
    let prove_by = kill_at + Duration::from_secs(30);
    let mut asked: Vec<(i32, u64)> = Vec::new();
    loop {
        let (found, took) = look(clock, own, foreign, prove_by)?;
        if found.is_empty() {
            return Ok(prove_by);
        }
        let now = clock.monotonic();
        let denied =
            found.iter().filter(|stat| step(stat, now >= kill_at, &mut asked) == Sent::Denied).count();
        if now >= give_up_at || denied == found.len() {
            let alive = found.iter().map(|stat| format!("{} {}", stat.pid, stat.name)).collect();
            return Err(LeftOver::Alive(alive));
        }
        // The kill is not to be late.
        let next = if now < kill_at { kill_at } else { give_up_at };
        clock::sleep(pause(took).min(next.saturating_sub(now)));
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
pub(crate) fn check_proc() -> Result<(), LeftOver> {
    let own = tree::own_pid();
    let shown = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
    if shown != Some(own) || tree::stat(own).is_none() {
        return unknown("/proc does not show the processes of this pid namespace; mount proc at /proc");
    }
    match std::fs::read("/proc/self/environ") {
        Ok(_) => Forks::so_far().map(drop),
        Err(error) => unknown(format!("the environments in /proc cannot be read: {error}")),
    }
}

fn cannot_see(error: &io::Error) -> LeftOver {
    LeftOver::Unknown(format!("cannot inspect the processes of this machine: {error}"))
}

/// The marked processes and everything in their sessions, never this process; none if nothing was seen and more was started than
/// could be looked at.
fn find(variables: &[Vec<u8>], foreign: Foreign<'_>) -> Result<Option<Vec<Stat>>, LeftOver> {
    let before = Forks::so_far()?;
    let all = tree::all().map_err(|error| cannot_see(&error))?;
    let own = tree::own_pid();
    let living = || all.iter().filter(|stat| !stat.is_dead() && stat.pid != own);
    let mut marked: Vec<&Stat> = Vec::new();
    for stat in living() {
        if is_marked(stat.pid, variables)? {
            marked.push(stat);
        }
    }
    if marked.is_empty() {
        return Ok(nothing_came(before, variables)?.then(Vec::new));
    }
    let lines: BTreeSet<i32> = marked.iter().flat_map(|stat| line_of(&all, stat.pid)).collect();
    for pid in lines {
        if let Some(what) = foreign(pid).map_err(|error| cannot_see(&error))? {
            return Err(LeftOver::Alive(vec![what]));
        }
    }
    marked = those_of_the_attempt(marked, variables)?;
    let ours = line_of(&all, own);
    if let Some(stat) = marked.iter().find(|stat| ours.contains(&stat.pid)) {
        let what = format!("{} {}, an ancestor of this process", stat.pid, stat.name);
        return Err(LeftOver::Alive(vec![what]));
    }
    // The tool made its session itself, so whatever is in it descends from the tool.
    let sessions: Vec<i32> = marked.iter().map(|stat| stat.session).collect();
    let own_session = all.iter().find(|stat| stat.pid == own).map(|stat| stat.session);
    let these = living()
        .filter(|stat| {
            marked.iter().any(|found| found.pid == stat.pid)
                || (sessions.contains(&stat.session)
                    && Some(stat.session) != own_session
                    && !ours.contains(&stat.pid))
        })
        .cloned()
        .collect();
    Ok(Some(these))
}

/// Of the marked processes those of the attempt itself, if there are any; else all.
fn those_of_the_attempt<'s>(marked: Vec<&'s Stat>, variables: &[Vec<u8>]) -> Result<Vec<&'s Stat>, LeftOver> {
    let own = variables.get(..1).unwrap_or_default();
    let mut of_the_attempt = Vec::new();
    for stat in &marked {
        if is_marked(stat.pid, own)? {
            of_the_attempt.push(*stat);
        }
    }
    Ok(if of_the_attempt.is_empty() { marked } else { of_the_attempt })
}

fn is_marked(pid: i32, variables: &[Vec<u8>]) -> Result<bool, LeftOver> {
    tree::carries(pid, variables).map_err(|error| cannot_see(&error))
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

/// How many processes the kernel has made so far; `None` if it does not say.
pub(super) fn forks() -> Option<u64> {
    Forks::so_far().ok().map(|forks| forks.made)
}

impl Forks {
    /// The count is read first: what is made between the two reads is at or below `last`, and counts as made later.
    fn so_far() -> Result<Self, LeftOver> {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .or_else(|error| unknown(format!("the proof needs `{path}`, which cannot be read: {error}")))
        };
        let (stat, load) = (read("/proc/stat")?, read("/proc/loadavg")?);
        match Self::parse(&stat, &load) {
            Some(forks) => Ok(forks),
            None => unknown("/proc does not say how many processes were made"),
        }
    }

    /// A kernel that does not count shows 0.
    fn parse(stat: &str, load: &str) -> Option<Self> {
        let made = stat.lines().find_map(|line| line.strip_prefix("processes ")?.trim().parse().ok())?;
        let last = load.split_whitespace().last()?.parse().ok()?;
        (made > 0 && last > 0).then_some(Self { made, last })
    }
}

/// True if no marked process can have been made since `before` and still be alive.
///
/// `/proc` is walked by ascending pid, so a process that is forked behind the walk is not seen, and its parent may be gone
/// when the walk gets there. If nothing was forked meanwhile, the walk saw everything. Else each pid that was given away since
/// then is looked at, by ascending pid again, a child after its parent, until no more are given away.
fn nothing_came(mut before: Forks, variables: &[Vec<u8>]) -> Result<bool, LeftOver> {
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
            if is_marked(pid, variables)? {
                return Ok(false);
            }
        }
        (before, looked) = (after, true);
    }
    Ok(false)
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
    fn a_look_takes_a_tenth_of_the_time_at_most_and_a_fast_one_is_soon_repeated() {
        let millis = |took: u64| pause(Duration::from_millis(took)).as_millis();
        assert_eq!([0, 1, 2, 5, 50, 5000].map(millis), [10, 10, 18, 45, 450, 1000]);
    }

    #[test]
    fn a_count_that_stands_still_at_0_is_no_count() {
        let load = "0.00 0.01 0.05 1/100 4711\n";
        assert_eq!(Forks::parse("cpu 1\nprocesses 9\n", load), Some(Forks { made: 9, last: 4711 }));
        assert_eq!(Forks::parse("cpu 1\nprocesses 0\n", load), None);
        assert_eq!(Forks::parse("processes 9\n", "0.00 0.00 0.00 0/0 0\n"), None);
        assert_eq!(Forks::parse("cpu 1\n", load), None);
    }

    #[test]
    fn a_process_that_came_during_the_walk_is_seen_by_its_pid() {
        let marker = format!("a-process-that-came/{}", std::process::id());
        let variables = variables(&marker);
        let before = Forks::so_far().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").env(MARKER, &marker).spawn().unwrap();
        assert!(!nothing_came(before, &variables).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        // Others fork meanwhile; that nothing is left is proved all the same.
        let mut looks = 0..1000;
        assert!(looks.any(|_| nothing_came(Forks::so_far().unwrap(), &variables).unwrap()));
    }

    #[test]
    fn only_the_whole_marker_counts() {
        let marker = format!("only-the-whole/{}/1", std::process::id());
        let mut child = std::process::Command::new("sleep").arg("60").env(MARKER, &marker).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let carries = |marker: &str| is_marked(pid, &variables(marker)).unwrap();
        assert!(carries(&marker));
        assert!(!carries(&format!("{marker}2")));
        assert!(!carries(marker.trim_end_matches('1')));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
