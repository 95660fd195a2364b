//! Processes that outlived their runner: found by the marker in their environment, and ended.
//!
//! A marker survives double forks and `setsid`, not `env -i`; those are found by the session of one that is found. The
//! pid in a record is never used.

use std::time::Duration;

use rustix::process::Signal;

use super::tree::{self, Sent, Stat};
use crate::clock::{self, Clock};

/// The variable that every process of an attempt carries: `<store uuid>/<job id>/<attempt>`.
pub const MARKER: &str = "ENGINE_ATTEMPT";

/// What became of the left-overs of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOvers {
    /// How many were ended.
    pub ended: usize,
    /// Those that could not be: pid and name.
    pub alive: Vec<String>,
}

/// Ends all processes of all attempts of a job: TERM, grace, KILL, and looks again until there are none.
pub fn end(clock: &dyn Clock, store_uuid: &str, job_id: &str, grace: Duration) -> LeftOvers {
    let prefix = format!("{MARKER}={store_uuid}/{job_id}/");
    let mut ended: Vec<(i32, u64)> = Vec::new();
    let kill_at = clock.monotonic() + grace;
    let give_up_at = kill_at + Duration::from_secs(5);
    let mut asked: Vec<(i32, u64)> = Vec::new();
    loop {
        let found = find(prefix.as_bytes());
        if found.is_empty() {
            return LeftOvers { ended: ended.len(), alive: Vec::new() };
        }
        let now = clock.monotonic();
        let denied =
            found.iter().filter(|stat| step(stat, now >= kill_at, &mut asked) == Sent::Denied).count();
        for stat in &found {
            if !ended.contains(&(stat.pid, stat.started)) {
                ended.push((stat.pid, stat.started));
            }
        }
        if now >= give_up_at || denied == found.len() {
            let alive = found.iter().map(|stat| format!("{} {}", stat.pid, stat.name)).collect();
            return LeftOvers { ended: ended.len().saturating_sub(found.len()), alive };
        }
        clock::sleep(Duration::from_millis(10));
    }
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

/// The marked processes and everything in their sessions; never this process or one that it descends from.
fn find(prefix: &[u8]) -> Vec<Stat> {
    let all = tree::all();
    let ours = ancestors(&all);
    let living = || all.iter().filter(|stat| stat.state != 'Z' && !ours.contains(&stat.pid));
    let marked: Vec<&Stat> = living().filter(|stat| is_marked(stat.pid, prefix)).collect();
    // The tool made its session itself, so whatever is in it descends from the tool.
    let sessions: Vec<i32> = marked.iter().map(|stat| stat.session).collect();
    let own_session = all.iter().find(|stat| Some(&stat.pid) == ours.first()).map(|stat| stat.session);
    living()
        .filter(|stat| {
            marked.iter().any(|found| found.pid == stat.pid)
                || (sessions.contains(&stat.session) && Some(stat.session) != own_session)
        })
        .cloned()
        .collect()
}

fn ancestors(all: &[Stat]) -> Vec<i32> {
    let mut pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut line = Vec::new();
    while pid > 0 && !line.contains(&pid) {
        line.push(pid);
        pid = all.iter().find(|stat| stat.pid == pid).map_or(0, |stat| stat.parent);
    }
    line
}

fn is_marked(pid: i32, prefix: &[u8]) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|b| *b == 0).any(|variable| variable.starts_with(prefix))
}
