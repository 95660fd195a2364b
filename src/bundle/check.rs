//! One bundle by itself: unknown keys, schema, paths; and what is worth a warning.
//!
//! The typed parse is the gate; only a refused document is held against the schema. Hard rule: every problem is told, unknown
//! keys first and sorted, then the others in the order of the text.

use std::sync::OnceLock;

use serde_json::Value;

use super::acceptance::Acceptance;
use super::spec::Bundle;
use super::text::NOT_RENDERED;
use super::{SCHEMA, paths};
use crate::job::Problem;
use crate::job::annotations;
use crate::job::parse::explain::{BadSchema, Explainer};
use crate::job::parse::locate::{Locations, escape};
use crate::job::parse::nearest::nearest;
use crate::job::parse::problem::Kind;

/// The most that a bundle may have: it is a part of a job file, and its tasks are a part of a prompt.
const MOST_BYTES: usize = 256 << 10;

/// Reads a document.
///
/// # Errors
/// Every problem of it.
pub(super) fn check(document: &Value, places: &Locations) -> Result<Bundle, Vec<Problem>> {
    let bundle = Bundle::read(document).map_err(|error| refusal(document, places, &error))?;
    let wrong = contradictions(&bundle, document, places);
    if wrong.is_empty() { Ok(bundle) } else { Err(wrong) }
}

/// The explainer of the bundle, compiled once in a process.
fn explainer() -> Result<&'static Explainer, BadSchema> {
    static BUNDLE: OnceLock<Result<Explainer, BadSchema>> = OnceLock::new();
    BUNDLE.get_or_init(|| Explainer::new(SCHEMA)).as_ref().map_err(Clone::clone)
}

/// The problems of a document that the types refused.
fn refusal(document: &Value, places: &Locations, gate: &serde_json::Error) -> Vec<Problem> {
    let mut problems = match explainer() {
        Ok(explainer) => explainer.explain(document, places),
        Err(error) => return error.into(),
    };
    problems.extend(wrong_paths(document, places));
    if problems.is_empty() {
        // The types and the schema must agree; if they do not, the types win and at least say so.
        problems.push(Problem::of_value(places, "", gate.to_string()));
    }
    problems.sort_by_key(|problem| match problem.kind {
        Kind::UnknownKey => (0, 0, 0, problem.pointer.clone()),
        Kind::Wrong | Kind::Torn => (1, problem.line, problem.column, String::new()),
    });
    let is_template = |problem: &Problem| problem.pointer == "/id" && has_placeholder(document);
    problems
        .into_iter()
        .map(|problem| if is_template(&problem) { not_rendered(problem) } else { problem })
        .collect()
}

fn has_placeholder(document: &Value) -> bool {
    let id = document.get("id").and_then(Value::as_str).unwrap_or_default();
    id.split_once('{').is_some_and(|(_, rest)| rest.contains('}'))
}

fn not_rendered(problem: Problem) -> Problem {
    Problem { message: format!("{}: {NOT_RENDERED}", problem.message), ..problem }
}

/// What no schema can say.
fn contradictions(bundle: &Bundle, document: &Value, places: &Locations) -> Vec<Problem> {
    let mut problems = wrong_paths(document, places);
    let size = serde_json::to_string(bundle).map_or(0, |text| text.len());
    if size > MOST_BYTES {
        let found = format!("the bundle has {size} bytes");
        let expected = format!("at most {MOST_BYTES}; put long texts into files of the repository");
        problems.push(Problem::of_value(places, "", found).expected(expected));
    }
    problems
}

fn wrong_paths(document: &Value, places: &Locations) -> Vec<Problem> {
    let mut problems = Vec::new();
    for key in ["files_scope", "files_create"] {
        let items = document.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        for (at, path) in items.filter_map(|(at, item)| Some((at, item.as_str()?))) {
            if let Err(why) = paths::read(path) {
                let message = format!("`{path}` {why}");
                problems.push(Problem::of_value(places, format!("/{key}/{at}"), message));
            }
        }
    }
    problems
}

/// The objects of a bundle that are open, with the keys that have a meaning in them.
const OPEN: [(&str, &[&str]); 2] = [
    ("circuit_breaker", &["max_attempts", "max_error_repeats", "oscillation_threshold"]),
    ("capability_payload", &["files", "prompt", "timeout_ms", "max_retries"]),
];

const OF_A_GATE: &[&str] = &["type", "required", "blocking"];

/// What is to be said of a valid bundle.
pub(super) fn warnings(bundle: &Bundle, document: &Value, places: &Locations) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (key, known) in OPEN {
        warnings.extend(ignored(document.get(key), &format!("/{key}"), known, places));
    }
    let gates = document.get("test_gates").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (at, gate) in gates {
        warnings.extend(ignored(Some(gate), &format!("/test_gates/{at}"), OF_A_GATE, places));
    }
    warnings.extend(absolute(document, places));
    warnings.extend(not_run(bundle, places));
    warnings
}

/// A warning of each path that is absolute: as in the original it is one of the repository.
fn absolute(document: &Value, places: &Locations) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for key in ["files_scope", "files_create"] {
        let items = document.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        for (at, path) in items.filter_map(|(at, item)| Some((at, item.as_str()?))) {
            if let Some(read) = paths::read(path).ok().filter(|_| path.starts_with(['/', '\\'])) {
                let read = paths::shown(&read);
                let message =
                    format!("`{path}` is absolute: it means `{read}` from the top of the repository");
                warnings.push(Problem::of_value(places, format!("/{key}/{at}"), message));
            }
        }
    }
    warnings
}

/// A warning of each key of an open object that has no meaning.
fn ignored(object: Option<&Value>, pointer: &str, known: &[&str], places: &Locations) -> Vec<Problem> {
    let keys = object.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key);
    let unknown = keys.filter(|key| !known.contains(&key.as_str()) && !annotations::is_annotation(key));
    let warning = |key: &String| {
        let message = format!("`{key}` has no meaning here; it is ignored");
        let problem = Problem::of_key(places, format!("{pointer}/{}", escape(key)), message);
        Problem { did_you_mean: nearest(key, known).map(str::to_owned), ..problem }
    };
    unknown.map(warning).collect()
}

/// Which acceptance tests are commands and which are not run.
fn not_run(bundle: &Bundle, places: &Locations) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (at, item) in bundle.acceptance().into_iter().enumerate() {
        let Acceptance::Prose { hint, .. } = item else { continue };
        let mut message = "prose, which is not run".to_owned();
        if let Some(hint) = hint {
            message += &format!("; to run it, write \"{hint}\"");
        }
        warnings.push(Problem::of_value(places, format!("/acceptance_tests/{at}"), message));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bundle() -> Value {
        json!({"id": "ws-a", "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": ["a"], "tasks": [],
            "tool": "aider"})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut document = bundle();
        document[key] = value;
        document
    }

    fn problems(document: &Value) -> Vec<String> {
        let text = document.to_string();
        let found = check(document, &Locations::scan(&text)).err().unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    fn warned(document: &Value) -> Vec<String> {
        let places = Locations::scan(&document.to_string());
        let bundle = check(document, &places).unwrap();
        warnings(&bundle, document, &places).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_come_first_and_sorted_then_the_rest_in_the_order_of_the_text() {
        let text = "{\"id\": \"a\", \"zeta\": 1, \"gate\": 0, \"alpha\": 2, \"files_scope\": [\"../x\"]}";
        let document: Value = serde_json::from_str(text).unwrap();
        let found = check(&document, &Locations::scan(text)).unwrap_err();
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/alpha", "/zeta", "", "", "", "", "/id", "/gate", "/files_scope/0"]);
        assert!(found[8].message.contains("leads out of the repository"));
    }

    #[test]
    fn what_the_original_refuses_is_refused() {
        for (key, value) in [
            ("id", json!("WS-1")),
            ("id", json!(format!("ws-{}", "a".repeat(62)))),
            ("openspec_change", json!(1)),
            ("ccpm_issue", json!(1.5)),
            ("ccpm_issue", Value::Null),
            ("gate", json!(0)),
            ("files_scope", json!([])),
            ("tasks", json!("a")),
            ("files_create", Value::Null),
            ("circuit_breaker", json!({"max_attempts": 0})),
            ("circuit_breaker", json!([1])),
            ("capability", json!("flying")),
            ("capability", json!({"testing": null})),
            ("capability_payload", json!({"timeout_ms": 999})),
            ("capability_payload", json!({"max_retries": 6})),
            ("parallel_ok", json!("yes")),
            ("kind", json!("chore")),
            ("priority", json!("high")),
            ("max_cost_usd", json!(-1)),
            ("test_gates", json!([{"required": true}])),
            ("test_gates", json!([["GATE_LINT"]])),
            ("metadata", json!([])),
            ("metadata", json!({"allow_no_change": "yes"})),
            ("steps", json!([])),
        ] {
            let found = problems(&with(key, value.clone()));
            assert_eq!(found.len(), 1, "{key}: {value}: {found:?}");
            assert!(found[0].starts_with(&format!("/{key}")), "{found:?}");
        }
        assert_eq!(problems(&json!([])).len(), 1);
    }

    #[test]
    fn a_placeholder_as_id_is_a_template() {
        let found = problems(&with("id", json!("{ws_id}")));
        assert!(found[0].contains(NOT_RENDERED), "{found:?}");
        assert!(!problems(&with("id", json!("Ws")))[0].contains(NOT_RENDERED));
    }

    #[test]
    fn a_bundle_that_no_job_file_can_hold_is_refused() {
        let found = problems(&with("tasks", json!(["x".repeat(300_000)])));
        assert!(found.len() == 1 && found[0].contains("expected at most 262144"), "{found:?}");
    }

    #[test]
    fn what_is_ignored_and_what_is_not_run_is_warned_of() {
        let mut document =
            with("circuit_breaker", json!({"max_attempt": 3, "_comment": "", "max_attempts": 2}));
        document["test_gates"] = json!([{"type": "GATE_LINT", "blockin": true}]);
        document["acceptance_tests"] = json!(["$ pytest", "all is well", "make test"]);
        document["metadata"] = json!({"owner": "me"});
        assert_eq!(
            warned(&document),
            [
                "/circuit_breaker/max_attempt: `max_attempt` has no meaning here; it is ignored (did you mean \
                 `max_attempts`?)",
                "/test_gates/0/blockin: `blockin` has no meaning here; it is ignored (did you mean `blocking`?)",
                "/acceptance_tests/1: prose, which is not run",
                "/acceptance_tests/2: prose, which is not run; to run it, write \"$ make test\"",
            ]
        );
    }
}
