//! Runs of which one process, or every one, is killed at random moments: `engine run --resume` ends them as if nothing had
//! happened. One workstream with a fix, and twelve with a diamond, a chain, a conflict group and a failure; these also without
//! kills, with other slots and random delays: it is one tree.
//!
//! In the suite a few times; `tests/workstreams/kill.sh` does it many times in a process namespace of its own.
//! `ENGINE_STRESS_SEED` repeats the choices (not the moments: the machine has its own).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::stress::{Random, pidfd, seed, variable};
use crate::support::{eventually, row};
use crate::workstream_bench::{Bench, CHAIN, End, ONE_FIX, TWELVE, undisturbed};
use crate::workstream_crash::aimed;

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

/// True for a process that a signal has stopped.
pub fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
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

const ALONE: [Victim; 5] =
    [Victim::RunnerOfWorkstream, Victim::Conductor, Victim::RunnerOfStep, Victim::Git, Victim::Tool];

/// How long is looked for a process of a kind: the short ones are seldom there.
const LOOK: Duration = Duration::from_secs(2);

/// Kills every process, or the worker, or one of a kind that was drawn before, so that the many short ones do not take every turn.
fn strike(bench: &Bench, command: &mut Child, random: &mut Random) -> Option<Victim> {
    let pid = i32::try_from(command.id()).unwrap();
    match random.below(100) {
        0..30 => return (kill_all(bench, pid) > 0).then_some(Victim::Everything),
        30..45 => return kill(bench, pid, (pid, Victim::Command)).then_some(Victim::Command),
        _ => {}
    }
    let wanted = ALONE[usize::try_from(random.below(ALONE.len() as u64)).unwrap()];
    let until = Instant::now() + LOOK;
    while Instant::now() < until && command.try_wait().unwrap().is_none() {
        let mut all = found(bench, pid);
        // What a shell makes of the end of a program that it ran is the tool's own affair.
        all.retain(|(pid, what)| *what == wanted && (wanted != Victim::Tool || is_started_by_engine(*pid)));
        let first = random.below(all.len().max(1) as u64);
        all.rotate_left(usize::try_from(first).unwrap());
        if all.into_iter().any(|process| kill(bench, pid, process)) {
            return Some(wanted);
        }
    }
    None
}

/// What is killed, how often, and what must be the same.
struct Trial<'a> {
    template: &'a Bench,
    want: &'a End,
    /// How long it takes undisturbed.
    longest: Duration,
    /// How many steps run at once.
    slots: usize,
    /// How often a run is struck at most.
    most: u64,
}

impl Trial<'_> {
    /// One run that is struck, and gone on with; what was killed, as far as the moments were not after its end.
    fn strike(&self, random: &mut Random, number: usize) -> Vec<Victim> {
        let bench = self.template.copy();
        let (mut victims, mut told) = (Vec::new(), Vec::new());
        let strikes = 1 + random.below(self.most);
        for _ in 0..strikes {
            let after = self.longest.mul_f64(random.below(1000) as f64 / 1000.0);
            let mut next = bench.next();
            let quiet = next.env("PAUSE", "0.05").stdout(Stdio::null()).stderr(Stdio::null());
            let mut command = quiet.spawn().unwrap();
            // The moment is the random thing here, and nothing is hoped of it.
            std::thread::sleep(after);
            let victim = strike(&bench, &mut command, random);
            let _ = command.wait();
            told.push(format!("{victim:?} was killed after {after:?}"));
            victims.extend(victim);
        }
        let at = format!("{number}: {}", told.join(", "));
        bench.go_on(&at);
        // The launcher is one of the runners, and has those of all slots below it.
        let lost = victims.iter().map(|victim| match victim {
            Victim::Everything | Victim::Command | Victim::RunnerOfWorkstream => self.slots,
            Victim::Conductor | Victim::RunnerOfStep | Victim::Git | Victim::Tool => 1,
        });
        bench.check(self.want, lost.sum(), &at);
        victims
    }

    /// So many of them, as a row of the table.
    fn strike_often(&self, what: &str, count: usize) {
        let mut random = Random(seed());
        let mut tally: BTreeMap<Victim, usize> = BTreeMap::new();
        let mut done = 0;
        while done < count {
            // A moment at which nothing was left to be killed is none.
            let victims = self.strike(&mut random, done);
            done += usize::from(!victims.is_empty());
            for victim in victims {
                *tally.entry(victim).or_default() += 1;
            }
        }
        let text: Vec<String> = tally.iter().map(|(victim, count)| format!("{count} {victim:?}")).collect();
        row(&format!("{what}: kill -9 at random moments ({})", text.join(", ")), count);
    }
}

fn longest(template: &Bench) -> Duration {
    let (begun, bench) = (Instant::now(), template.copy());
    bench.begin().env("PAUSE", "0.05").output().unwrap();
    let longest = begun.elapsed();
    bench.has_ended("with a pause");
    longest
}

fn times(name: &str, of_the_suite: usize) -> usize {
    variable(name).and_then(|count| usize::try_from(count).ok()).unwrap_or(of_the_suite)
}

#[test]
fn random_kills_of_one_process_and_of_all() {
    let template = Bench::new(&ONE_FIX);
    let (want, longest) = (undisturbed(&template), longest(&template));
    let trial = Trial { template: &template, want: &want, longest, slots: 1, most: 1 };
    trial.strike_often("a workstream with one fix", times("ENGINE_WORKSTREAM_KILLS", 4));
}

#[test]
fn random_kills_of_a_run_of_twelve() {
    let template = Bench::new(&TWELVE);
    let (want, longest) = (undisturbed(&template), longest(&template));
    let trial = Trial { template: &template, want: &want, longest, slots: 3, most: 3 };
    trial.strike_often("twelve workstreams, three slots", times("ENGINE_WORKSTREAMS_KILLS", 2));
}

#[test]
fn one_that_crashed_too_often_is_begun_anew_before_what_comes_after_it_starts() {
    let template = Bench::new(&CHAIN);
    let want = undisturbed(&template);
    let bench = template.copy();
    // The third crash is before the step, which would wait.
    for crash in 1..=3 {
        let mut next = bench.next();
        match crash {
            3 => next.envs(aimed(&bench, ("conduct", 1), ("ENGINE_TEST_STOP_AT", "1"))),
            _ => next.env("PAUSE", "60"),
        };
        let mut command = next.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(command.id()).unwrap();
        eventually("the workstream is worked on", || match crash {
            3 => found(&bench, pid).iter().any(|(pid, what)| *what == Victim::Conductor && is_stopped(*pid)),
            _ => bench.starts().get("ws-e/1") == Some(&crash),
        });
        kill_all(&bench, pid);
        command.wait().unwrap();
    }
    bench.go_on("after three crashes");
    bench.check(&want, 2, "after three crashes");
}

/// The run of twelve with so many slots, and a random delay in each step.
fn with_slots(slots: &str) {
    let template = Bench::new(&TWELVE);
    let want = undisturbed(&template);
    let times = times("ENGINE_WORKSTREAMS_RUNS", 2);
    for number in 0..times {
        let bench = template.copy();
        bench.begin_with(Some(slots)).env("PAUSE", "random").output().unwrap();
        bench.check(&want, 0, &format!("{slots} slots, run {number}"));
    }
    row(
        &format!("twelve workstreams, random delays, {slots} slots: the trees of three without delays"),
        times,
    );
}

#[test]
fn one_slot_gives_the_same_trees() {
    with_slots("1");
}

#[test]
fn two_slots_give_the_same_trees() {
    with_slots("2");
}

#[test]
fn three_slots_give_the_same_trees_with_delays() {
    with_slots("3");
}

#[test]
fn eight_slots_give_the_same_trees() {
    with_slots("8");
}
