//! A run that cannot move by itself: a command waits for it for ever, drains nothing and says nothing, or leaves a person without
//! the next command.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::checkout::{CHECK, Checkout, FAILS, JOB, MENDS};
use crate::support::Said;
use crate::workstreams_many::{APPENDS, bundle};

fn run(checkout: &Checkout, more: &[&str]) -> Said {
    let bundles = checkout.out("bundles").display().to_string();
    let args = [&["run", "--run", "r", &*bundles, "--check", "test -e calc.py"], more].concat();
    checkout.engine_editing(&args, APPENDS)
}

/// Takes a job back that was submitted: as it is where the process that made the run was killed before.
fn not_submitted(checkout: &Checkout, job: &str) {
    fs::remove_file(checkout.project.root(&format!("jobs/queued/{job}.json"))).unwrap();
    fs::remove_file(checkout.project.root(&format!("state/jobs/{job}.jsonl"))).unwrap();
}

const RESUME: &str = "engine run --resume r";

#[test]
fn a_run_that_was_never_submitted_keeps_no_command_waiting_and_each_says_how_it_goes_on() {
    let checkout = Checkout::new();
    let _ = checkout.run(MENDS, &["--test", CHECK, "--detach"]).exits(0);
    not_submitted(&checkout, JOB);
    for (args, exit) in [
        (&["runs", "events", "r", "--follow"][..], 0),
        (&["runs", "cancel", "r"], 1),
        (&["work", "--run", "r", "--drain"], 1),
        (&["work", "--run", "r", "--drain", "-q"], 1),
        (&["wait", "--run", "r"], 1),
        (&["requeue", "--run", "r", "--failed"], 1),
        (&["explain", JOB], 1),
        (&["show", JOB], 1),
        (&["log", JOB], 1),
    ] {
        let said = checkout.engine(args);
        let is_quiet = args.contains(&"-q");
        let has_word = said.err.contains(if is_quiet { "are not in the queue" } else { RESUME });
        assert!(said.code == exit && has_word, "{args:?}: {}: {}", said.code, said.err);
    }
    let shown = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(shown.contains(&format!("not_queued: it was not submitted: {RESUME}")), "{shown}");
    assert!(shown.ends_with(&format!("next: {RESUME}\n")), "{shown}");
    let _ = checkout.resume(MENDS).exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
}

#[test]
fn a_part_of_a_run_that_was_never_submitted_is_missed_once_the_rest_is_done() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    let _ = run(&checkout, &["--detach"]).exits(0);
    not_submitted(&checkout, "r.ws-b");
    not_submitted(&checkout, "r.integration");
    let said = checkout.engine_editing(&["work", "--run", "r", "--drain"], APPENDS);
    assert!(said.err.contains("1 succeeded") && said.err.contains(RESUME), "{}", said.err);
    let _ = said.exits(1);
    let said = checkout.engine(&["runs", "events", "r", "--follow"]);
    assert!(said.err.contains(RESUME), "{}", said.err);
    let _ = said.exits(0);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
}

#[test]
fn a_run_that_a_hold_keeps_ends_with_75_and_says_how_it_goes_on() {
    for (hold, release) in [
        (&["hold", "--all"][..], "engine release --all"),
        (&["hold", "r.ws-a"], "engine release r.ws-a"),
        (&["hold", "r.integration"], "engine release r.integration"),
    ] {
        let checkout = Checkout::new();
        bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
        bundle(&checkout, "ws-b", &["b.txt"], &json!({"depends_on": ["ws-a"]}));
        let _ = run(&checkout, &["--detach"]).exits(0);
        checkout.engine(hold).exits(0);
        let go_on = "next: engine work --run r --drain";
        for quiet in [&["-q"][..], &[]] {
            let said = checkout.engine_editing(&[&["run", "--resume", "r"], quiet].concat(), APPENDS);
            assert!(
                said.err.contains(&format!("next: {release}")) && said.err.contains(go_on),
                "{}",
                said.err
            );
            let _ = said.exits(75);
        }
        let shown = checkout.engine(&["runs", "show", "r"]).exits(0);
        assert!(shown.contains(&format!("next: {release}\n{go_on}\n")), "{shown}");
        let release: Vec<&str> = release.split(' ').skip(1).collect();
        checkout.engine(&release).exits(0);
        let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], APPENDS).exits(0);
        assert_eq!(checkout.shown().status(), "succeeded");
    }
}

#[test]
fn the_reason_of_a_quarantine_is_shown_wherever_the_run_is_and_how_it_is_taken_back() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    checkout.engine(&["runs", "quarantine", "r", "--reason", "licensed code"]).exits(0);
    let next = "engine runs quarantine r --ack takes it back";
    let shown = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(shown.contains("quarantine   licensed code (at 20"), "{shown}");
    assert!(shown.ends_with(&format!("\n\nnext: {next}\n")), "{shown}");
    let document = checkout.shown().0;
    assert_eq!(
        (&document["quarantine"]["reason"], &document["next"]),
        (&json!("licensed code"), &json!([next]))
    );
    assert_eq!(document["quarantine"]["acknowledged_at"], Value::Null);
    let listed = checkout.engine(&["runs", "list"]).exits(0);
    assert!(listed.contains("quarantined: licensed code"), "{listed}");
    let listed = checkout.engine(&["runs", "list", "--json"]).json();
    assert_eq!(listed["quarantine"]["reason"], "licensed code");
    for format in ["text", "md", "html"] {
        let report = checkout.engine(&["runs", "report", "r", "--format", format]).exits(0);
        assert!(report.contains("licensed code") && report.contains(next), "{report}");
    }
    checkout.engine(&["runs", "quarantine", "r", "--ack"]).exits(0);
    let shown = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(shown.contains(", taken back at 20") && shown.contains(&format!("next: {RESUME}\n")), "{shown}");
}

#[test]
fn what_is_blocked_names_the_dependency_and_what_has_ended_is_told_in_plain_words() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-bad", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({"depends_on": ["ws-bad"]}));
    let _ = run(&checkout, &[]).exits(1);
    let shown = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(shown.contains(&format!("it needs `r.ws-bad`, which did not succeed: {RESUME}\n")), "{shown}");
    checkout.engine(&["runs", "cancel", "r"]).exits(0);
    let again = checkout.engine(&["runs", "cancel", "r"]);
    let words = "the run has ended as failed (Invalid transition: 'failed' -> 'canceled')";
    assert!(again.err.contains(words), "{}", again.err);
    let _ = again.exits(1);
}

#[test]
fn a_verb_of_jobs_that_gets_the_name_of_a_run_says_which_verb_is_meant() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    for verb in ["show", "log", "explain"] {
        let said = checkout.engine(&[verb, "r"]);
        assert!(said.err.contains("hint: engine runs show r\n"), "{verb}: {}", said.err);
        let _ = said.exits(1);
    }
}

#[test]
fn what_a_run_does_not_find_is_said_with_what_there_is() {
    let checkout = Checkout::new();
    // What is optional is absent, and says nothing.
    fs::write(checkout.project.path("config"), "mine\n").unwrap();
    let said = checkout.engine(&["run"]);
    assert!(said.err.contains("workstreams:1:1: there is no such directory"), "{}", said.err);
    assert!(said.err.contains("hint: engine run PATH…, or --task TEXT --files PATH…"), "{}", said.err);
    let _ = said.exits(125);
    bundle(&checkout, "ws-a", &["no/such/a.txt", "/b.txt", "made/*.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["other/b.txt"], &json!({"depends_on": ["ws-a"]}));
    let said = run(&checkout, &["--only", "ws-parser"]);
    assert!(said.err.contains("hint: there are: ws-a, ws-b\n"), "{}", said.err);
    let _ = said.exits(125);
    fs::remove_file(checkout.project.path("config")).unwrap();
    let said = run(&checkout, &["--detach"]);
    let warnings: Vec<&str> = said.err.lines().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(
        warnings[0].contains("/files_scope/1: `/b.txt` is absolute: it means `b.txt` from the top"),
        "{warnings:#?}"
    );
    assert!(
        warnings[1].ends_with("warning: ws-a: `no/such/a.txt`: the base commit has no directory `no/such`"),
        "{warnings:#?}"
    );
    let _ = said.exits(0);
}

#[test]
fn a_bare_repository_is_called_so() {
    let checkout = Checkout::new();
    let bare = checkout.out("bare.git");
    checkout.git_in(&checkout.out(""), &["init", "-q", "--bare", "bare.git"]);
    let args = ["run", "--task", "t", "--files", "a", "--tool", "aider", "--test", "true"];
    let mut command: Command = checkout.command(&args, MENDS);
    let said = Said::of(&command.current_dir(&bare).output().unwrap());
    assert!(said.err.contains("a bare repository"), "{}", said.err);
    let _ = said.exits(125);
}

#[test]
fn the_document_counts_what_failed_in_the_integration_and_says_when_and_where_each_step_ran() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    // It passes in each alone.
    let check = "echo looked; test ! -e a.txt || test ! -e b.txt";
    let bundles = checkout.out("bundles").display().to_string();
    let _ = checkout.engine_editing(&["run", "--run", "r", &bundles, "--check", check], APPENDS).exits(1);
    let shown = checkout.shown().0;
    let metrics = &shown["metrics"];
    assert_eq!(metrics["test_gate_failures"], 1, "{shown:#}");
    assert_eq!(metrics["error_frequency"], json!({"exit_code": 1}));
    assert_eq!((&shown["errors"][0]["kind"], &shown["counters"]["errors"]), (&json!("exit_code"), &json!(1)));
    let next = json!(["engine log r.integration.01-static; mend what it names", RESUME]);
    assert_eq!(shown["next"], next);
    let work = &shown["workstreams"][0];
    assert_eq!(work["tool"], "ed");
    for one in [work, &work["steps"][0]] {
        assert!(one["started_at"].is_string() && one["duration_s"].is_f64(), "{work:#}");
    }
    assert!(work["finished_at"].is_string(), "{work:#}");
    let step = &work["steps"][1];
    assert_eq!(step["attempts"], 1);
    assert!(fs::exists(step["log_path"].as_str().unwrap()).unwrap(), "{step:#}");
    let integration = &shown["integration"];
    assert!(
        integration["duration_s"].is_f64() && integration["checks"][0]["duration_s"].is_f64(),
        "{shown:#}"
    );
}

#[test]
fn a_budget_that_was_raised_in_the_job_file_is_not_exceeded_any_more() {
    let checkout = Checkout::new();
    let edit = format!("echo '{{\"engine_usage\": {{\"cost_usd\": 0.6}}}}'\n{FAILS}");
    let agent = ["--tool", "agent", "--max-cost-usd", "1", "--test", CHECK];
    let _ = checkout.run(&edit, &agent).exits(1);
    assert_eq!(checkout.shown().0["metrics"]["budget_status"], "exceeded");
    let day = fs::read_dir(checkout.project.root("jobs/done")).unwrap().flatten().next().unwrap();
    let file = day.path().join("r.ws-task.json");
    let text = fs::read_to_string(&file).unwrap();
    let raised = text.replace(r#""run_max_cost_usd":1.0"#, r#""run_max_cost_usd":10.0"#);
    assert_ne!(raised, text);
    fs::write(&file, raised).unwrap();
    let _ = checkout.resume(MENDS).exits(0);
    assert_eq!(checkout.shown().0["metrics"]["budget_status"], "ok");
}
