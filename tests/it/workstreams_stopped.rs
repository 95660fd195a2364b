//! A run that is stopped, canceled, or worked on twice: something stays alive, the tree stays dirty, or it cannot go on.

use std::fs::File;

use rustix::process::{Pid, Signal, kill_process};

use crate::checkout::{CHECK, Checkout, JOB, MENDS, WAITS, Working};
use crate::support::{Said, eventually};

/// Starts a run, and waits until the script of a step has begun.
fn start<'a>(checkout: &'a Checkout, edit: &str, check: &str) -> Working<'a> {
    let args = ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "ed", "--test", check];
    Working::start(checkout, checkout.command(&args, edit)).begun(&["begun"])
}

const FIRST: &str = "signal again to interrupt it";
const SECOND: &str = "was asked to stop; signal again to kill";
const THIRD: &str = "ws-task is killed";

/// True if a conductor of this root has its handler of TERM.
fn heeds_term(root: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let mut conductors = processes.filter(|process| {
        let line = read(process.join("cmdline"));
        line.contains(root) && line.split('\0').any(|word| word == "conduct")
    });
    conductors.any(|process| {
        let status = read(process.join("status"));
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(caught.trim(), 16).unwrap_or(0) & (1 << (Signal::TERM.as_raw() - 1)) != 0
    })
}

/// Leaves half an edit, waits for the word of the test, then mends.
fn waits() -> String {
    format!("sed -i 's/a - b/a ? b/' calc.py; {WAITS}; {MENDS}")
}

#[test]
fn after_the_first_signal_the_workstream_ends_as_it_would_have() {
    let checkout = Checkout::new();
    let working = start(&checkout, &waits(), CHECK);
    working.signal(Signal::TERM, FIRST);
    std::fs::write(checkout.out("go"), "").unwrap();
    working.exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn after_the_second_signal_the_tree_is_clean_and_the_same_steps_go_on() {
    for (signal, exit) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let checkout = Checkout::new();
        let working = start(&checkout, &waits(), CHECK);
        working.signal(signal, FIRST);
        working.signal(signal, SECOND);
        working.exits(exit);
        let shown = checkout.shown();
        assert_eq!((shown.status(), shown.steps().len()), ("canceled", 1), "{:#}", shown.0);
        checkout.is_at_rest();
        assert!(checkout.file("refs/engine/r/ws-task/01", "calc.py").contains("a ? b"));
        let _ = checkout.resume(MENDS).exits(0);
        checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
        assert_eq!(checkout.commits(), ["edit 01"]);
        checkout.is_at_rest();
    }
}

#[test]
fn a_check_that_is_stopped_is_no_verdict_and_runs_again_under_its_own_id() {
    let checkout = Checkout::new();
    let working = start(&checkout, MENDS, &format!("{WAITS}; {CHECK}"));
    working.signal(Signal::TERM, FIRST);
    working.signal(Signal::TERM, SECOND);
    working.exits(143);
    assert_eq!(checkout.shown().status(), "canceled");
    assert_eq!(checkout.commits(), ["edit 01"]);
    checkout.is_at_rest();
    std::fs::write(checkout.out("go"), "").unwrap();
    let _ = checkout.resume("exit 9").exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn after_the_third_signal_nothing_is_alive_and_a_resume_completes_the_run() {
    let checkout = Checkout::new();
    let edit = format!("trap 'touch \"$OUT/asked\"' TERM; {}", waits());
    let working = start(&checkout, &edit, CHECK);
    working.signal(Signal::TERM, FIRST);
    working.signal(Signal::TERM, SECOND);
    // Two signals that a process has not heeded yet are one.
    eventually("the tool was asked to stop", || checkout.out("asked").exists());
    working.signal(Signal::TERM, THIRD);
    working.exits(143);
    let alive = crate::support::processes_with(&checkout.out("").display().to_string());
    assert_eq!(alive, Vec::<i32>::new());
    // Nothing is left for a recovery.
    checkout.shown().is("canceled", "signal:15", &["01-edit crash"]);
    let said = checkout.engine(&["recover"]);
    assert!(said.err.contains("nothing to recover"), "{}{}", said.out, said.err);
    let _ = checkout.resume(MENDS).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    assert_eq!(checkout.commits(), ["edit 01"]);
    assert!(checkout.file("refs/engine/r/ws-task/01", "calc.py").contains("a ? b"));
    checkout.is_at_rest();
}

#[test]
fn signals_that_come_at_once_are_counted_and_the_third_kills() {
    let checkout = Checkout::new();
    let edit = format!("trap 'touch \"$OUT/asked\"' TERM; {}", waits());
    let working = start(&checkout, &edit, CHECK);
    working.signal(Signal::TERM, FIRST);
    // It heeds both at one look.
    let pid = Pid::from_child(&working.child);
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        kill_process(pid, signal).unwrap();
    }
    eventually(THIRD, || working.said().contains(THIRD));
    working.exits(143);
    // A conductor that was only asked to stop would have waited for its tool, and given a verdict.
    let record = checkout.project.record(JOB);
    assert!(record["result"]["metadata"]["verdict"].is_null(), "{record:#}");
    let _ = checkout.resume(MENDS).exits(0);
    checkout.is_at_rest();
}

#[test]
fn a_wait_for_another_git_in_the_work_tree_ends_with_the_second_signal_and_leaves_its_lock() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    let pointer = std::fs::read_to_string(checkout.worktree().join(".git")).unwrap();
    let lock = format!("{}/index.lock", pointer.trim().strip_prefix("gitdir: ").unwrap());
    // A program that is alive has it open.
    let mut holder =
        std::process::Command::new("sleep").arg("1000").stdout(File::create(&lock).unwrap()).spawn().unwrap();
    let command = checkout.command(&["run", "--resume", "r"], MENDS);
    let working = Working::start(&checkout, command);
    let root = checkout.project.root("").display().to_string();
    eventually("the conductor heeds signals", || heeds_term(root.trim_end_matches('/')));
    working.signal(Signal::TERM, FIRST);
    working.signal(Signal::TERM, SECOND);
    working.exits(143);
    // It was not killed.
    let result = &checkout.project.record(JOB)["result"];
    assert_eq!(result["metadata"]["verdict"], "failed", "{result:#}");
    assert!(std::path::Path::new(&lock).exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Now it is left over.
    let _ = checkout.resume(MENDS).exits(0);
    assert!(!std::path::Path::new(&lock).exists());
    checkout.is_at_rest();
}

#[test]
fn a_run_that_only_waits_ends_at_the_first_signal_and_says_how_it_goes_on() {
    let checkout = Checkout::new();
    let args =
        ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "agent", "--test", CHECK];
    let command = checkout.command(&args, "exit 75");
    let working = Working::start(&checkout, command);
    eventually("it is parked", || {
        checkout.project.record_if_any(JOB).is_some_and(|line| !line["not_before"].is_null())
    });
    kill_process(Pid::from_child(&working.child), Signal::TERM).unwrap();
    eventually("it says how it goes on", || working.said().contains("engine work --run r --drain"));
    working.exits(143);
    assert_eq!(checkout.shown().workstream()["status"], "parked");
    let alive = crate::support::processes_with(&checkout.out("").display().to_string());
    assert_eq!(alive, Vec::<i32>::new());
    checkout.let_time_pass(&[JOB, "r.ws-task.01-edit"]);
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], MENDS).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn a_workstream_or_a_step_that_is_canceled_ends_the_run_until_it_is_resumed() {
    for (job, status, code) in
        [(JOB, "canceled", "canceled_by_user"), ("r.ws-task.01-edit", "failed", "step_canceled")]
    {
        let checkout = Checkout::new();
        let working = start(&checkout, &waits(), CHECK);
        let _ = checkout.engine(&["cancel", job]).exits(0);
        working.exits(1);
        let shown = checkout.shown();
        assert_eq!((shown.status(), shown.code(), shown.steps().len()), (status, code, 1), "{:#}", shown.0);
        checkout.is_at_rest();
        assert!(checkout.file("refs/engine/r/ws-task/01", "calc.py").contains("a ? b"));
        let _ = checkout.resume(MENDS).exits(0);
        checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
        checkout.is_at_rest();
    }
}

#[test]
fn a_step_cannot_be_requeued_and_a_workstream_that_is_requeued_goes_on() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    let said = checkout.engine(&["requeue", "r.ws-task.01-edit"]);
    assert_ne!(said.code, 0, "{}", said.err);
    let _ = checkout.engine(&["requeue", JOB]).exits(0);
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], MENDS).exits(0);
    let shown = checkout.shown();
    assert_eq!((shown.status(), checkout.commits().len()), ("succeeded", 1), "{:#}", shown.0);
    checkout.is_at_rest();
}

#[test]
fn two_resumes_of_one_run_at_once_do_its_work_once_and_end_with_its_status() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    let edit = format!("echo x >> \"$OUT/edits\"; {WAITS}; {MENDS}");
    let resume = || checkout.start_editing(&["run", "--resume", "r"], &edit);
    let first = resume();
    eventually("the step has begun", || checkout.out("begun").exists());
    let second = resume();
    // It has found the work that the first one does once it follows its events.
    std::fs::write(checkout.out("go"), "").unwrap();
    let ended: [Said; 2] = [first.wait(), second.wait()];
    for said in ended {
        assert_eq!(said.code, 0, "{}", said.err);
    }
    assert_eq!(std::fs::read_to_string(checkout.out("edits")).unwrap(), "x\n");
    let shown = checkout.shown();
    assert_eq!(shown.status(), "succeeded");
    assert_eq!(shown.steps().last().unwrap().split('-').nth(1), Some("runtime succeeded"));
    checkout.is_at_rest();
}

#[test]
fn a_run_that_is_canceled_ends_what_runs_and_cannot_be_canceled_twice() {
    let checkout = Checkout::new();
    let working = start(&checkout, &waits(), CHECK);
    let said = checkout.engine(&["runs", "cancel", "r"]).exits(0);
    assert!(said.contains("r.ws-task: canceled"), "{said}");
    working.exits(1);
    let shown = checkout.shown();
    assert_eq!(
        (shown.status(), shown.code(), shown.steps().len()),
        ("canceled", "canceled_by_user", 1),
        "{:#}",
        shown.0
    );
    checkout.is_at_rest();
    let again = checkout.engine(&["runs", "cancel", "r"]);
    assert!(again.err.contains("Cannot transition from terminal state 'canceled'"), "{}", again.err);
    let _ = again.exits(1);
    let _ = checkout.resume(MENDS).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
}

#[test]
fn a_run_that_a_person_quarantined_is_not_resumed_until_that_is_taken_back() {
    let checkout = Checkout::new();
    let quarantine = |args: &[&str]| checkout.engine(&[&["runs", "quarantine", "r"], args].concat());
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    let early = quarantine(&["--ack"]);
    assert!(early.err.contains("Invalid transition: 'failed' -> 'failed'"), "{}", early.err);
    let _ = early.exits(1);
    let _ = quarantine(&["--reason", "licensed code"]).exits(0);
    assert_eq!(checkout.shown().status(), "quarantined");
    let refused = checkout.resume(MENDS);
    assert!(refused.err.contains("licensed code") && refused.err.contains("--ack"), "{}", refused.err);
    let _ = refused.exits(125);
    let _ = quarantine(&["--ack"]).exits(0);
    assert_eq!(checkout.shown().status(), "failed");
    let _ = checkout.resume(MENDS).exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
    let late = quarantine(&["--reason", "too late"]);
    assert!(late.err.contains("Cannot transition from terminal state 'succeeded'"), "{}", late.err);
    let _ = late.exits(1);
    checkout.is_at_rest();
}
