//! A workstream with one fix of which one process, or every one, is killed at a random moment: `engine run --resume` ends it as
//! if nothing had happened.
//!
//! In the suite a few times; `tests/workstreams/kill.sh N` does it N times in a process namespace of its own.
//! `ENGINE_STRESS_SEED` repeats the choices (not the moments: the machine has its own).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::stress::{Random, pidfd, seed, variable};
use crate::support::row;
use crate::workstream_crash::{Bench, End, undisturbed};

/// What a process of the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Command,
    RunnerOfWorkstream,
    Conductor,
    RunnerOfStep,
    Git,
    Tool,
    Everything,
}

/// What a process is, if it belongs to the run of this bench.
fn kind(bench: &Bench, command: i32, pid: i32) -> Option<Victim> {
    let proc = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| std::fs::read(proc.join(name)).unwrap_or_default();
    let (environment, line) = (read("environ"), read("cmdline"));
    let outside = bench.outside.path().to_str().unwrap().as_bytes();
    let of_bench = |bytes: &[u8]| bytes.windows(outside.len()).any(|part| part == outside);
    let is_below = std::fs::read_link(proc.join("cwd"))
        .is_ok_and(|cwd| cwd.starts_with(bench.project.dir()) || cwd.starts_with(bench.outside.path()));
    if !of_bench(&environment) && !of_bench(&line) && !is_below {
        return None;
    }
    let exe = std::fs::read_link(proc.join("exe")).ok()?;
    let says = |word: &str| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes());
    Some(match exe.file_name()?.to_str()? {
        "engine" if says("conduct") => Victim::Conductor,
        "engine" if says("run-job") => Victim::RunnerOfStep,
        "engine" if pid == command => Victim::Command,
        "engine" => Victim::RunnerOfWorkstream,
        "git" => Victim::Git,
        _ => Victim::Tool,
    })
}

/// The processes of a run.
pub fn found(bench: &Bench, command: i32) -> Vec<(i32, Victim)> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|name| name.file_name().to_str()?.parse().ok());
    let own = i32::try_from(std::process::id()).unwrap();
    pids.filter(|pid| *pid != own).filter_map(|pid| Some((pid, kind(bench, command, pid)?))).collect()
}

fn is_started_by_engine(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    std::fs::read_link(format!("/proc/{parent}/exe")).is_ok_and(|exe| exe.ends_with("engine"))
}

/// Kills a process, if it is still what it was.
fn kill(bench: &Bench, command: i32, (pid, victim): (i32, Victim)) -> bool {
    let Some(pidfd) = pidfd(pid) else { return false };
    kind(bench, command, pid) == Some(victim)
        && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
}

/// Kills every process of a run, also those that begin meanwhile; how many there were.
pub fn kill_all(bench: &Bench, command: i32) -> usize {
    let mut killed = 0;
    loop {
        let all = found(bench, command);
        let now = all.into_iter().filter(|process| kill(bench, command, *process)).count();
        killed += now;
        // One that is dying is killed again, until it is gone.
        if now == 0 {
            return killed;
        }
    }
}

/// Kills one process of a kind that was drawn before, so that the many short ones do not take every turn; or all of them.
fn strike(bench: &Bench, command: &Child, random: &mut Random) -> Option<Victim> {
    let command = i32::try_from(command.id()).unwrap();
    if random.chance(30) {
        return (kill_all(bench, command) > 0).then_some(Victim::Everything);
    }
    let mut all = found(bench, command);
    // What a shell makes of the end of a program that it ran is the tool's own affair.
    all.retain(|(pid, victim)| *victim != Victim::Tool || is_started_by_engine(*pid));
    let kinds: BTreeSet<Victim> = all.iter().map(|(_, victim)| *victim).collect();
    let kinds: Vec<Victim> = kinds.into_iter().collect();
    let wanted = kinds.get(usize::try_from(random.below(kinds.len().max(1) as u64)).unwrap())?;
    let of_kind: Vec<_> = all.into_iter().filter(|(_, victim)| victim == wanted).collect();
    let process = of_kind[usize::try_from(random.below(of_kind.len() as u64)).unwrap()];
    kill(bench, command, process).then_some(*wanted)
}

/// One run that is struck once; what was killed, if the moment was not after its end.
fn struck(
    template: &Bench,
    want: &End,
    longest: Duration,
    random: &mut Random,
    number: usize,
) -> Option<Victim> {
    let bench = template.copy();
    let after = longest.mul_f64(random.below(1000) as f64 / 1000.0);
    let mut begin = bench.begin();
    let mut command = begin.env("PAUSE", "0.05").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The moment is the random thing here, and nothing is hoped of it.
    std::thread::sleep(after);
    let victim = strike(&bench, &command, random);
    let _ = command.wait();
    let at = format!("{number}: {victim:?} was killed after {after:?}");
    bench.go_on(&at);
    bench.check(want, 1, &at);
    victim
}

#[test]
fn random_kills_of_one_process_and_of_all() {
    let count =
        variable("ENGINE_WORKSTREAM_KILLS").and_then(|count| usize::try_from(count).ok()).unwrap_or(4);
    let template = Bench::new();
    let want = undisturbed(&template);
    let begun = Instant::now();
    let bench = template.copy();
    assert!(bench.begin().env("PAUSE", "0.05").output().unwrap().status.success());
    let longest = begun.elapsed();
    let mut random = Random(seed());
    let mut tally: BTreeMap<Victim, usize> = BTreeMap::new();
    let mut done = 0;
    while done < count {
        // A moment at which nothing was left to be killed is none.
        if let Some(victim) = struck(&template, &want, longest, &mut random, done) {
            *tally.entry(victim).or_default() += 1;
            done += 1;
        }
    }
    let text: Vec<String> = tally.iter().map(|(victim, count)| format!("{count} {victim:?}")).collect();
    row(&format!("a workstream with one fix: kill -9 at a random moment ({})", text.join(", ")), count);
}
