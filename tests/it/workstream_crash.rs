//! Workstreams of which each process is killed at every durable step, calls of git included: `engine run --resume` ends them as if
//! nothing had happened. One with a fix; and a run in which one builds on the merge of two others, and is integrated.
//!
//! In the suite a sample of these steps; `tests/workstreams/crash.sh` takes all. `ENGINE_STRESS_SEED` repeats a sample, and a
//! failure names its process and its step.

use std::path::Path;

use crate::crash::{Step, traced};
use crate::stress::{Random, seed};
use crate::support::row;
use crate::workstream_bench::{Bench, End, MERGES, ONE_FIX, Scenario, undisturbed};

/// The environment that interferes with one process of a run.
pub fn aimed(bench: &Bench, process: (&str, u32), more: (&str, &str)) -> Vec<(String, String)> {
    let dir = bench.outside.path().join("turns");
    std::fs::create_dir(&dir).unwrap();
    let trace = bench.outside.path().join("trace");
    vec![
        ("ENGINE_TEST_AIM".into(), format!("{}:{}:{}", process.0, process.1, dir.display())),
        ("ENGINE_TEST_TRACE".into(), trace.to_str().unwrap().into()),
        (more.0.into(), more.1.into()),
    ]
}

/// The durable steps of one process of a run.
pub fn steps(template: &Bench, process: (&str, u32)) -> Vec<Step> {
    let bench = template.copy();
    let mut command = bench.begin();
    command.envs(aimed(&bench, process, ("UNUSED", "")));
    command.output().unwrap();
    bench.has_ended("undisturbed, with a trace");
    traced(&bench.outside.path().join("trace"))
}

/// One end of one process.
struct Point {
    process: (&'static str, u32),
    variable: &'static str,
    number: u64,
}

fn points(template: &Bench, process: (&'static str, u32)) -> Vec<Point> {
    let steps = steps(template, process);
    assert!(steps.len() > 5, "only {} steps of {process:?}", steps.len());
    let writes = steps.iter().filter(|step| step.bytes > 0);
    let torn = writes.map(|step| Point { process, variable: "ENGINE_TEST_TEAR_AT", number: step.number });
    let killed =
        steps.iter().map(|step| Point { process, variable: "ENGINE_TEST_KILL_AT", number: step.number });
    killed.chain(torn).collect()
}

/// True if a process came as far as a step, by its trace. Several threads sync objects at the same time: of those before the one
/// that ends the process some may have counted their step, and not traced it.
pub fn is_just_before(trace: &Path, number: u64) -> bool {
    let last = traced(trace).iter().map(|step| step.number).max().unwrap_or(0);
    last < number && last + 8 >= number
}

fn end_at(template: &Bench, want: &End, point: &Point) {
    let bench = template.copy();
    let at = format!("{:?} with {}={}", point.process, point.variable, point.number);
    let mut command = bench.begin();
    command.envs(aimed(&bench, point.process, (point.variable, &point.number.to_string())));
    let _ = command.output().unwrap();
    // The process that died was there, and came as far as this step.
    assert!(
        is_just_before(&bench.outside.path().join("trace"), point.number),
        "{at}: not the same steps each time"
    );
    bench.go_on(&at);
    bench.check(want, 1, &at);
}

/// Leaves so many of all points, unless all are asked for.
pub fn sample_of<T>(all: &mut Vec<T>, sample: u64) {
    if std::env::var_os("ENGINE_WORKSTREAM_CRASH").is_none_or(|value| value != "all") {
        let mut random = Random(seed());
        let chosen = |_| all.swap_remove(usize::try_from(random.below(all.len() as u64)).unwrap());
        *all = (0..sample).map(chosen).collect();
    }
}

/// Ends these processes at each step, or at so many of them.
fn at_each_step(scenario: &'static Scenario, what: &str, processes: &[(&'static str, u32)], sample: u64) {
    let template = Bench::new(scenario);
    let want = undisturbed(&template);
    let mut all: Vec<Point> = processes.iter().flat_map(|process| points(&template, *process)).collect();
    sample_of(&mut all, sample);
    all.iter().for_each(|point| end_at(&template, &want, point));
    row(&format!("{what} ends before a step, or in a write"), all.len());
}

#[test]
fn the_conductor() {
    at_each_step(&ONE_FIX, "a workstream with one fix: its conductor", &[("conduct", 1)], 5);
}

#[test]
fn the_runner_of_a_step() {
    let runners = [("run-job", 1), ("run-job", 2), ("run-job", 3), ("run-job", 4)];
    at_each_step(&ONE_FIX, "a workstream with one fix: the runner of a step", &runners, 4);
}

#[test]
fn the_runner_of_the_workstream() {
    at_each_step(&ONE_FIX, "a workstream with one fix: its runner", &[("fork", 1)], 3);
}

#[test]
fn the_command_itself() {
    at_each_step(&ONE_FIX, "a workstream with one fix: `engine run`", &[("run", 1)], 3);
}

/// The conductor of a run with one slot whose job this is: they come in the order of the plan, the integration last.
fn conductor_of(name: &str) -> (&'static str, u32) {
    let template = Bench::new(&MERGES);
    let is_it = |turn: &u32| {
        let steps = steps(&template, ("conduct", *turn));
        steps.iter().any(|step| step.path.contains(&format!("/r/{name}.made")))
    };
    ("conduct", (1..=5).rev().find(is_it).unwrap_or_else(|| panic!("no conductor of {name}")))
}

#[test]
fn the_conductor_that_composes_its_base() {
    at_each_step(&MERGES, "a workstream upon two others: its conductor", &[conductor_of("ws-c")], 3);
}

#[test]
fn the_integration() {
    at_each_step(&MERGES, "an integration of four: its conductor", &[conductor_of("integration")], 3);
}
