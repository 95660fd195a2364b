//! The command line of runs of several bundles: a base that is wrong from the start, a merge that is asked for with the run, a
//! resume of some of them, holds, and hints that lead nowhere.

use serde_json::{Value, json};

use crate::checkout::{CHECK, Checkout, MENDS};
use crate::support::Said;
use crate::workstreams_many::{APPENDS, bundle, diamond};

const MENDED: &str = "def add(a, b):\n    return a + b\n";

fn run(checkout: &Checkout, edit: &str, more: &[&str]) -> Said {
    let bundles = checkout.out("bundles").display().to_string();
    checkout.engine_editing(&[&["run", "--run", "r", &*bundles], more].concat(), edit)
}

fn events(checkout: &Checkout) -> Vec<Value> {
    let said = checkout.engine(&["runs", "events", "r", "--json"]).exits(0);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn workstream<'s>(shown: &'s Value, ws: &str) -> &'s Value {
    shown["workstreams"].as_array().unwrap().iter().find(|one| one["ws_id"] == ws).unwrap()
}

#[test]
fn a_base_that_does_not_pass_ends_the_run_before_an_agent_is_asked_and_a_resume_looks_again() {
    let checkout = Checkout::new();
    diamond(&checkout);
    let edit = format!("touch \"$OUT/asked\"; {APPENDS}");
    let said = run(&checkout, &edit, &["--baseline", "--check", "test -e \"$OUT/right\""]);
    assert!(said.err.contains("next: engine log r.gate-0.01-static; mend what it names"), "{}", said.err);
    let _ = said.exits(1);
    assert!(!checkout.out("asked").exists());
    let shown = checkout.shown().0;
    let gate = &shown["gates"][0];
    let told = json!([shown["status"], gate["status"], gate["reason"]["code"], gate["checks"][0]["status"]]);
    assert_eq!(told, json!(["failed", "failed", "baseline_failed", "failed"]), "{shown:#}");
    assert_eq!(shown["metrics"]["test_gate_failures"], 1);
    for one in shown["workstreams"].as_array().unwrap() {
        assert_eq!(
            (&one["status"], &one["reason"]["code"]),
            (&json!("blocked"), &json!("waiting_dependency"))
        );
        let message = one["reason"]["message"].as_str().unwrap();
        assert!(message.contains("engine run --resume r"), "{message}");
    }
    let explained = checkout.engine(&["explain", "r.ws-a"]).out;
    assert!(explained.contains("engine run --resume r") && !explained.contains("requeue"), "{explained}");
    let gates: Vec<Value> =
        events(&checkout).into_iter().filter(|event| event["event"] == "test_gate_executed").collect();
    assert_eq!((gates.len(), &gates[0]["payload"]["status"]), (1, &json!("failed")));
    assert_eq!(gates[0]["payload"]["gate_id"], "r.gate-0");

    std::fs::write(checkout.out("right"), "").unwrap();
    let _ = checkout.resume_many(&edit, &[]).exits(0);
    let shown = checkout.shown().0;
    assert_eq!(json!([shown["status"], shown["gates"][0]["status"]]), json!(["succeeded", "succeeded"]));
    assert_eq!(shown["metrics"]["test_gate_failures"], 0);
    checkout.engine(&["runs", "merge", "r"]).exits(0);
    checkout.engine(&["runs", "clean", "r", "--branches"]).exits(0);
    assert!(checkout.refs().is_empty(), "{:?}", checkout.refs());
}

#[test]
fn a_gate_whose_check_was_refused_refuses_no_check_of_the_integration() {
    let checkout = Checkout::new();
    diamond(&checkout);
    let check = "test -e \"$OUT/right\" || echo more >> calc.py";
    let said = run(&checkout, APPENDS, &["--baseline", "--check", check]);
    assert!(said.err.contains("calc.py"), "{}", said.err);
    let _ = said.exits(1);
    std::fs::write(checkout.out("right"), "").unwrap();
    let said = checkout.resume_many(APPENDS, &[]);
    assert!(!said.err.contains("put aside"), "{}", said.err);
    let _ = said.exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
}

impl Checkout {
    fn resume_many(&self, edit: &str, more: &[&str]) -> Said {
        self.engine_editing(&[&["run", "--resume", "r"], more].concat(), edit)
    }
}

#[test]
fn a_gate_without_a_check_is_refused_and_nothing_is_made() {
    let checkout = Checkout::new();
    let said = checkout.run(MENDS, &["--baseline"]);
    assert!(said.err.contains("no check is set that --baseline could run"), "{}", said.err);
    let _ = said.exits(125);
    assert!(!checkout.project.root("state/runs/r").exists());
}

#[test]
fn one_workstream_behind_a_gate_is_merged_at_the_end_if_that_is_asked() {
    let checkout = Checkout::new();
    let said = checkout.run(MENDS, &["--test", "test -e calc.py", "--baseline", "--merge"]);
    assert!(said.err.contains("`main` is now at ") && !said.err.contains("next: "), "{}", said.err);
    let _ = said.exits(0);
    assert_eq!(std::fs::read_to_string(checkout.project.path("calc.py")).unwrap(), MENDED);
    let text = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(text.contains("gate-0  succeeded") && !text.contains("next: "), "{text}");
}

#[test]
fn a_merge_that_is_refused_at_the_end_leaves_a_run_that_has_succeeded() {
    let checkout = Checkout::new();
    std::fs::write(checkout.project.path("calc.py"), "mine\n").unwrap();
    let said = checkout.run(MENDS, &["--test", CHECK, "--merge"]);
    assert!(said.err.contains("calc.py") && said.err.contains("not committed"), "{}", said.err);
    let _ = said.exits(1);
    assert_eq!(checkout.shown().status(), "succeeded");
    checkout.git(&["checkout", "-q", "--", "calc.py"]);
    let _ = checkout.resume_many(MENDS, &["--merge"]).exits(0);
    assert_eq!(std::fs::read_to_string(checkout.project.path("calc.py")).unwrap(), MENDED);
}

#[test]
fn a_resume_of_some_goes_on_with_those_and_what_they_need_and_leaves_the_others() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({"depends_on": ["ws-a"]}));
    bundle(&checkout, "ws-c", &["c.txt"], &json!({}));
    let edit =
        format!("[ -e \"$OUT/good\" ] || exit 3; echo \"$ENGINE_WORKSTREAM_ID\" >> \"$OUT/ran\"; {APPENDS}");
    let check = ["--check", "test -e calc.py"];
    let _ = run(&checkout, &edit, &check).exits(1);
    let unknown = checkout.resume_many(&edit, &["--only", "ws-x"]);
    assert!(unknown.err.contains("the run `r` has no workstream `ws-x`"), "{}", unknown.err);
    let _ = unknown.exits(125);
    std::fs::write(checkout.out("good"), "").unwrap();
    let _ = checkout.resume_many(&edit, &["--only", "ws-b"]).exits(1);
    assert_eq!(std::fs::read_to_string(checkout.out("ran")).unwrap(), "ws-a\nws-b\n");
    let shown = checkout.shown().0;
    assert_eq!(
        (&workstream(&shown, "ws-c")["status"], &shown["status"]),
        (&json!("failed"), &json!("failed"))
    );
    assert_eq!(shown["integration"]["merged"], json!(["ws-a", "ws-b"]));

    // What a merge by force leaves out is named.
    let document = checkout.engine(&["runs", "merge", "r", "--force", "--json"]).json();
    assert_eq!(document["left_out"], json!(["ws-c"]));
    let again = checkout.engine(&["runs", "merge", "r", "--force"]).exits(0);
    assert!(again.contains("; without ws-c; the run has not succeeded"), "{again}");

    let _ = checkout.resume_many(&edit, &[]).exits(0);
    assert_eq!(std::fs::read_to_string(checkout.out("ran")).unwrap(), "ws-a\nws-b\nws-c\n");
}

#[test]
fn a_workstream_that_is_held_says_so_and_how_it_is_released() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    let _ = run(&checkout, APPENDS, &["--check", "test -e calc.py", "--detach"]).exits(0);
    checkout.engine(&["hold", "r.ws-a", "--reason", "later"]).exits(0);
    let said = checkout.resume_many(APPENDS, &["--park"]);
    let hint = "it is held by state/control/r.ws-a.hold (later): engine release r.ws-a";
    assert!(said.err.contains(&format!("r.ws-a waits: {hint}")), "{}", said.err);
    let _ = said.exits(75);
    let text = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(text.contains(&format!("waiting_hold: {hint}")), "{text}");
    checkout.engine(&["release", "r.ws-a"]).exits(0);
    let _ = checkout.resume_many(APPENDS, &[]).exits(0);
}

#[test]
fn a_dry_run_of_clean_says_what_clean_does() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    let _ = run(&checkout, APPENDS, &["--check", "test -e calc.py", "--merge"]).exits(0);
    let dry = checkout.engine(&["runs", "clean", "r", "--branches", "--dry-run"]).exits(0);
    let done = checkout.engine(&["runs", "clean", "r", "--branches"]).exits(0);
    assert_eq!(dry.replace("would remove", "removed"), done);
    assert!(done.contains("integration") && done.contains("references"), "{done}");
}

#[test]
fn the_tool_of_a_task_is_not_that_of_a_bundle_and_a_quarantine_comes_too_late_for_a_success() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    let said = run(&checkout, APPENDS, &["--tool", "ed"]);
    assert!(said.err.contains("--tool is for a --task: each bundle names its own tool"), "{}", said.err);
    let _ = said.exits(2);
    let _ = run(&checkout, APPENDS, &["--check", "test -e calc.py"]).exits(0);
    let late = checkout.engine(&["runs", "quarantine", "r", "--reason", "late"]);
    let words = ["Cannot transition from terminal state 'succeeded'", "engine runs clean r --branches"];
    assert!(words.iter().all(|word| late.err.contains(word)), "{}", late.err);
    let _ = late.exits(1);
}

#[test]
fn an_integration_has_events_of_its_own_and_a_step_that_changed_nothing_left_no_patch() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-bad", &["b.txt"], &json!({"metadata": {"allow_no_change": true}}));
    let _ = run(&checkout, APPENDS, &["--check", "test -e calc.py"]).exits(0);
    let events = events(&checkout);
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let patches: Vec<&Value> =
        of("patch_created").iter().map(|event| &event["payload"]["patch_id"]).collect();
    assert_eq!(json!(patches), json!(["r.ws-a.01-edit"]));
    let listed = checkout.engine(&["patches", "list", "--run", "r"]).exits(0);
    assert!(listed.contains("r.ws-a.01-edit") && !listed.contains("ws-bad"), "{listed}");
    let ends = [of("integration_start").len(), of("integration_end").len()];
    assert_eq!((ends, &of("integration_end")[0]["payload"]["final_status"]), ([1, 1], &json!("succeeded")));
    assert!(of("integration_end")[0]["ws_id"].is_null());
}
