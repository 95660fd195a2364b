//! Three-stage stop of runs of several bundles: a stage that does not say what it waits for, a wrong exit status, or a run that
//! cannot go on.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::checkout::{Checkout, Working};
use crate::support::{eventually, not_run, processes_with};
use crate::workstreams_many::{APPENDS, bundle};

/// Each waits for the word of the test, but `ws-bad`, which fails at once.
fn waits() -> String {
    format!(
        "[ \"$ENGINE_WORKSTREAM_ID\" = ws-bad ] && exit 3; touch \"$OUT/begun.$ENGINE_WORKSTREAM_ID\"; \
         while [ ! -e \"$OUT/go\" ]; do sleep 0.05; done; {APPENDS}"
    )
}

/// The run of three workstreams, two of which run.
fn made() -> Checkout {
    let checkout = Checkout::new();
    for ws in ["ws-a", "ws-b", "ws-c"] {
        bundle(&checkout, ws, &[&format!("{ws}.txt")], &json!({}));
    }
    checkout
}

/// What two of them make when they begin.
const BEGUN: [&str; 2] = ["begun.ws-a", "begun.ws-b"];

fn command(checkout: &Checkout, slots: &str, edit: &str) -> Command {
    let bundles = checkout.out("bundles").display().to_string();
    let args = ["run", "--run", "r", &*bundles, "--check", "test -e calc.py", "--slots", slots];
    checkout.command(&args, edit)
}

/// Starts a run, and waits until two have begun.
fn start<'a>(checkout: &'a Checkout, slots: &str, edit: &str) -> Working<'a> {
    Working::start(checkout, command(checkout, slots, edit)).begun(&BEGUN)
}

const FIRST: &str = "stopping: ws-a, ws-b end first; signal again to interrupt them";
const SECOND: &str = "ws-a, ws-b were asked to stop; signal again to kill";
const THIRD: &str = "ws-a, ws-b are killed";

/// A resume completes what was stopped.
fn completes(checkout: &Checkout) {
    std::fs::write(checkout.out("go"), "").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
    eventually("nothing is alive", || processes_with(&checkout.out("").display().to_string()).is_empty());
}

#[test]
fn after_the_first_signal_what_runs_ends_and_nothing_else_starts() {
    for (signal, exit) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let checkout = made();
        let working = start(&checkout, "2", &waits());
        working.signal(signal, FIRST);
        std::fs::write(checkout.out("go"), "").unwrap();
        working.exits(exit);
        let shown = checkout.shown();
        let statuses: Vec<_> =
            shown.0["workstreams"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
        assert_eq!(json!(statuses), json!(["succeeded", "succeeded", "pending"]), "{:#}", shown.0);
        assert!(!checkout.out("begun.ws-c").exists());
        completes(&checkout);
    }
}

#[test]
fn after_the_second_signal_each_is_canceled_with_a_clean_tree_and_after_the_third_nothing_is_alive() {
    for is_third in [false, true] {
        let checkout = made();
        let working = start(&checkout, "2", &waits());
        working.signal(Signal::TERM, FIRST);
        working.signal(Signal::TERM, SECOND);
        if is_third {
            // Before they have ended: they wait for their tools.
            kill_process(Pid::from_child(&working.child), Signal::TERM).unwrap();
        }
        working.exits(143);
        let shown = checkout.shown();
        assert_eq!(shown.status(), "running", "one was not started: {:#}", shown.0);
        for ws in ["ws-a", "ws-b"] {
            let one =
                shown.0["workstreams"].as_array().unwrap().iter().find(|one| one["ws_id"] == ws).unwrap();
            assert_eq!(one["status"], "canceled", "{one:#}");
        }
        let alive = processes_with(&checkout.out("").display().to_string());
        assert_eq!(alive, Vec::<i32>::new());
        completes(&checkout);
    }
}

#[test]
fn a_tool_that_ignores_the_second_signal_is_named_by_the_third() {
    let checkout = Checkout::new();
    for ws in ["ws-a", "ws-b"] {
        bundle(&checkout, ws, &[&format!("{ws}.txt")], &json!({}));
    }
    let edit = format!("trap 'touch \"$OUT/asked.$ENGINE_WORKSTREAM_ID\"' TERM; {}", waits());
    let working = start(&checkout, "2", &edit);
    working.signal(Signal::TERM, FIRST);
    working.signal(Signal::TERM, SECOND);
    eventually("the tools were asked", || {
        ["ws-a", "ws-b"].iter().all(|ws| checkout.out(&format!("asked.{ws}")).exists())
    });
    working.signal(Signal::TERM, THIRD);
    working.exits(143);
    completes(&checkout);
}

#[test]
fn a_failure_before_the_stop_outranks_it() {
    let checkout = made();
    bundle(&checkout, "ws-bad", &["bad.txt"], &json!({}));
    let working = start(&checkout, "4", &waits());
    eventually("one has failed", || {
        checkout.project.record_if_any("r.ws-bad").is_some_and(|line| line["status"] == "failed")
    });
    working.signal(Signal::TERM, "end first; signal again to interrupt them");
    working.signal(Signal::TERM, "were asked to stop; signal again to kill");
    working.exits(1);
}

/// Ctrl-C on a terminal reaches the whole foreground group; a terminal that goes away sends HUP.
#[test]
fn on_a_terminal_ctrl_c_is_heeded_once_and_a_terminal_that_goes_away_ends_the_run_in_order() {
    let is_there = Command::new("setsid").args(["--ctty", "--version"]).output();
    if !is_there.is_ok_and(|said| said.status.success()) {
        return not_run("there is no `setsid --ctty`");
    }
    for (goes_away, exit) in [(false, 130), (true, 129)] {
        let checkout = made();
        let pty = engine::for_tests::open_terminal().unwrap();
        let plain = command(&checkout, "2", &waits());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(plain.get_current_dir().unwrap());
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // Its descriptor of the terminal ends with the command.
        command.stdin(Stdio::from(pty.tool));
        let working = Working::start(&checkout, command).begun(&BEGUN);
        let mut terminal = File::from(pty.engine);
        if goes_away {
            drop(terminal);
        } else {
            terminal.write_all(b"\x03").unwrap();
        }
        eventually(FIRST, || working.said().contains(FIRST));
        std::fs::write(checkout.out("go"), "").unwrap();
        working.exits(exit);
        completes(&checkout);
    }
}
