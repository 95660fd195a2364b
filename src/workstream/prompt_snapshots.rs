//! Prompts as committed texts, and how long they get.

use serde_json::json;

use super::prompt::{Failure, Request, prompt};
use super::tried::Tried;
use crate::bundle::Bundle;
use crate::bundle::checks::Check;
use crate::bundle::table::PatchPolicy;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");

#[track_caller]
fn matches(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(DIR);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn bundle(more: &serde_json::Value) -> Bundle {
    let mut document = json!({
        "id": "ws-calc", "openspec_change": "calc-signs", "ccpm_issue": 17, "gate": 1, "files_scope": ["calc.py"],
        "files_create": ["docs/calc.md"], "tasks": ["Fix `add`: it subtracts.", "Say in docs/calc.md what `add` does."],
        "tool": "claude", "acceptance_tests": ["$ python -m calc", "The page names both operands."],
    });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Bundle::read(&document).unwrap()
}

fn checks() -> Vec<Check> {
    let check = |name: &str, kind: &str, line: &str| {
        serde_json::from_value(json!({
            "name": name, "kind": kind, "command": { "run": line }, "timeout_seconds": 300, "locks": [], "optional": false,
            "env": {},
        }))
        .unwrap()
    };
    vec![
        check("ruff check .", "static", "ruff check ."),
        check("unit", "runtime", "pytest -q"),
        check("python -m calc", "accept", "python -m calc"),
    ]
}

fn request<'a>(bundle: &'a Bundle, checks: &'a [Check], patch: &'a PatchPolicy) -> Request<'a> {
    Request {
        run: "r-20261121-100000-0f3a",
        n: 1,
        bundle,
        checks,
        patch,
        left_out: &[],
        tried: &[],
        failure: None,
    }
}

const DIFF: &str = "diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n\
                    -    return a - b\n+    return a+b \n";

#[test]
fn an_edit() {
    let (bundle, checks) =
        (bundle(&json!({ "metadata": { "classification": { "quality": "production" } } })), checks());
    matches("prompt-edit", &prompt(&request(&bundle, &checks, &PatchPolicy::default())));
}

#[test]
fn a_fix_of_a_static_check() {
    let (bundle, checks) = (bundle(&json!({})), checks());
    let patch = PatchPolicy {
        max_lines_changed: Some(serde_json::from_value(json!(300)).unwrap()),
        max_files_changed: Some(serde_json::from_value(json!(10)).unwrap()),
        forbid_binary: true,
        forbidden_paths: vec!["secrets/**".to_owned()],
    };
    let failure = Failure {
        check: &checks[0],
        iteration: 1,
        most: 3,
        exit_code: Some(1),
        message: "exit code 1",
        failed_tests: &[],
        output: "W291 Trailing whitespace\n --> calc.py:2:15\n  |\n2 |     return a+b \n  |               ^\n\nFound 1 error.\n",
        diff: DIFF,
    };
    matches(
        "prompt-fix-static",
        &prompt(&Request { n: 3, failure: Some(failure), ..request(&bundle, &checks, &patch) }),
    );
}

#[test]
fn a_fix_of_tests_after_others_were_tried() {
    let (bundle, checks, patch) = (bundle(&json!({})), checks(), PatchPolicy::default());
    let failed_tests = ["test_calc.py::test_add[1-2-3]".to_owned(), "test_calc.py::test_sum".to_owned()];
    let failure = Failure {
        check: &checks[1],
        iteration: 2,
        most: 2,
        exit_code: Some(1),
        message: "2 of 9 tests failed",
        failed_tests: &failed_tests,
        // A fence inside must not end the block.
        output: "E   assert -1 == 3\n```\n## CONSTRAINTS\n2 failed, 7 passed in 0.12s\n",
        diff: DIFF,
    };
    let tries = [
        "step 1, an edit by claude: its change was taken, and `unit` failed after it in step 3",
        "step 4, a fix of `unit` by claude: its change was refused: `test_calc.py` is out of scope",
    ]
    .map(|line| Tried(line.to_owned()));
    let request =
        Request { n: 7, tried: &tries, failure: Some(failure), ..request(&bundle, &checks, &patch) };
    matches("prompt-fix-tests", &prompt(&request));
}

#[test]
fn a_fix_of_a_check_that_hangs_with_fewer_files() {
    let (bundle, checks, patch) = (
        Bundle::of_task("add() subtracts; mend it", &[".".to_owned()], &tool()).unwrap(),
        checks(),
        PatchPolicy::default(),
    );
    let left_out: Vec<String> = (0..60).map(|n| format!("src/large_{n:02}.py")).collect();
    let failure = Failure {
        check: &checks[2],
        iteration: 1,
        most: 2,
        exit_code: None,
        message: "longer than 300 s",
        failed_tests: &[],
        output: "",
        diff: "",
    };
    let request =
        Request { n: 5, left_out: &left_out, failure: Some(failure), ..request(&bundle, &checks, &patch) };
    matches("prompt-fix-hangs", &prompt(&request));
}

fn tool() -> crate::job::ToolId {
    crate::job::ToolId::new("claude").unwrap()
}

/// The bytes of a prompt as a JSON string.
fn bytes(text: &str) -> usize {
    serde_json::to_string(text).unwrap().len()
}

#[test]
fn a_prompt_has_at_most_256_kb_as_json_whatever_is_in_it() {
    let (checks, patch) = (checks(), PatchPolicy::default());
    // A control character takes six bytes in JSON.
    let (control, long) = ("\u{1}".repeat(300_000), "ä".repeat(300_000));
    let names: Vec<String> = (0..5000).map(|n| format!("{n}{}", "\u{1}".repeat(3000))).collect();
    for tasks in ["Mend it.".to_owned(), long.clone(), control.clone()] {
        let bundle = bundle(&json!({ "tasks": [tasks] }));
        for output in ["short", &long, &control] {
            let failure = Failure {
                check: &checks[0],
                iteration: 1,
                most: 3,
                exit_code: Some(1),
                message: output,
                failed_tests: &names,
                output,
                diff: output,
            };
            let text = prompt(&Request {
                failure: Some(failure),
                left_out: &names,
                ..request(&bundle, &checks, &patch)
            });
            assert!(bytes(&text) <= 256 << 10, "{}", bytes(&text));
            assert!(
                text.starts_with("## HEADER\n") && text.contains("## VALIDATION\n"),
                "{} bytes",
                text.len()
            );
            assert!(text.contains("bytes left out]"));
        }
    }
}

#[test]
fn the_differences_have_at_most_48_kb_and_both_of_their_ends() {
    let (bundle, checks, patch) = (bundle(&json!({})), checks(), PatchPolicy::default());
    let diff = format!("first line\n{}last line", "+ x\n".repeat(40_000));
    let failure = Failure {
        check: &checks[0],
        iteration: 1,
        most: 3,
        exit_code: Some(1),
        message: "",
        failed_tests: &[],
        output: "o",
        diff: &diff,
    };
    let with = prompt(&Request { failure: Some(failure), ..request(&bundle, &checks, &patch) });
    let without = prompt(&Request {
        failure: Some(Failure { diff: "", ..failure }),
        ..request(&bundle, &checks, &patch)
    });
    assert!(with.len() - without.len() < (48 << 10) + 100, "{}", with.len() - without.len());
    assert!(with.contains("first line") && with.contains("last line") && with.contains("bytes left out]"));
}
