//! Bundles of all generations of the format, and bundles with one mistake.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::SCHEMA;
use super::finding::FindingKind;
use super::read::{Source, read};
use super::spec::Bundle;
use crate::job::annotations::is_annotation;
use crate::job::parse::explain::Explainer;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9 ./_-]{0,12}", "[ -~äß€😀\n]{0,20}"]
}

fn texts() -> impl Strategy<Value = Value> {
    proptest::collection::vec(text(), 0..4).prop_map(Value::from)
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof!["[a-z]{1,4}", "[a-z]{1,3}\\.py", Just("*".to_owned()), Just("**".to_owned())];
    let slash = select(vec!["/", "\\"]);
    (proptest::collection::vec(part, 1..4), slash, select(vec!["", "/"]))
        .prop_map(|(parts, slash, end)| parts.join(slash) + end)
}

fn paths(least: usize) -> impl Strategy<Value = Value> {
    proptest::collection::vec(path(), least..4).prop_map(Value::from)
}

/// An object of which each key may be absent.
fn some_of(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Map<String, Value>> {
    let entry = |(key, value): (&'static str, BoxedStrategy<Value>)| {
        proptest::option::of(value).prop_map(move |value| value.map(|value| (key.to_owned(), value)))
    };
    let entries: Vec<_> = keys.into_iter().map(entry).collect();
    entries.prop_map(|entries| entries.into_iter().flatten().collect()).boxed()
}

fn object(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    some_of(keys).prop_map(Value::Object).boxed()
}

fn number(from: u64, to: u64) -> BoxedStrategy<Value> {
    (from..=to).prop_map(Value::from).boxed()
}

fn word(words: &[&'static str]) -> BoxedStrategy<Value> {
    select(words.to_vec()).prop_map(Value::from).boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn required() -> BoxedStrategy<Map<String, Value>> {
    let issue = prop_oneof![any::<i32>().prop_map(Value::from), text().prop_map(Value::from)];
    (text(), issue, 1u64..9, paths(1), texts(), "[a-z][a-z0-9-]{0,8}")
        .prop_map(|(change, issue, gate, scope, tasks, tool)| {
            let document = json!({
                "openspec_change": change, "ccpm_issue": issue, "gate": gate, "files_scope": scope, "tasks": tasks,
                "tool": tool,
            });
            document.as_object().cloned().unwrap()
        })
        .boxed()
}

fn first_generation() -> BoxedStrategy<Map<String, Value>> {
    let breaker = vec![
        ("max_attempts", number(1, 9)),
        ("max_error_repeats", number(0, 9)),
        ("oscillation_threshold", number(0, 9)),
    ];
    some_of(vec![
        ("files_create", paths(0).boxed()),
        ("acceptance_tests", texts().boxed()),
        ("circuit_breaker", object(breaker)),
        ("metadata", object(vec![("owner", texts().boxed()), ("allow_no_change", flag())])),
    ])
}

fn second_generation() -> BoxedStrategy<Map<String, Value>> {
    let payload = vec![
        ("files", paths(0).boxed()),
        ("prompt", text().prop_map(Value::from).boxed()),
        ("timeout_ms", number(1000, u64::MAX >> 12)),
        ("max_retries", number(0, 5)),
    ];
    some_of(vec![
        ("capability", word(&["code_generation", "linting", "refactoring", "testing", "version_checking"])),
        ("capability_payload", object(payload)),
    ])
}

fn third_generation() -> BoxedStrategy<Map<String, Value>> {
    let gate = word(&["GATE_LINT", "GATE_UNIT", "GATE_INTEGRATION", "GATE_SECURITY"]);
    let gate =
        (gate, some_of(vec![("required", flag()), ("blocking", flag())])).prop_map(|(kind, mut gate)| {
            gate.insert("type".to_owned(), kind);
            Value::Object(gate)
        });
    some_of(vec![
        ("parallel_ok", flag()),
        ("conflict_group", text().prop_map(Value::from).boxed()),
        ("kind", word(&["design", "impl", "test", "docs", "infra", "refactor", "background", "spike"])),
        ("priority", word(&["foreground", "background"])),
        ("estimated_context_tokens", number(0, 1 << 40)),
        ("max_cost_usd", (0.0..100.0).prop_map(Value::from).boxed()),
        ("compensation_actions", texts().boxed()),
        ("test_gates", proptest::collection::vec(gate, 0..3).prop_map(Value::from).boxed()),
    ])
}

fn annotations() -> BoxedStrategy<Map<String, Value>> {
    some_of(vec![("_comment", texts().boxed()), ("doc_id", flag()), ("$schema", flag()), ("x-team", flag())])
}

/// Valid bundles of one generation, each with dependencies on earlier ones only.
fn bundles() -> BoxedStrategy<Vec<Value>> {
    let one = (1usize..=3).prop_flat_map(|generation| {
        let nothing = || Just(Map::new()).boxed();
        let later = |at, keys: BoxedStrategy<_>| if generation >= at { keys } else { nothing() };
        let keys = (
            required(),
            first_generation(),
            later(2, second_generation()),
            later(3, third_generation()),
            annotations(),
        );
        keys.prop_map(|(mut all, first, second, third, notes)| {
            all.extend([first, second, third, notes].into_iter().flatten());
            all
        })
    });
    let on = proptest::collection::vec(any::<Index>(), 0..3);
    proptest::collection::vec((one, on), 1..5)
        .prop_map(|found| {
            let bundle = |(at, (mut bundle, on)): (usize, (Map<String, Value>, Vec<Index>))| {
                bundle.insert("id".to_owned(), json!(format!("ws-{at}")));
                if at > 0 {
                    let on: Vec<String> = on.iter().map(|on| format!("ws-{}", on.index(at))).collect();
                    bundle.insert("depends_on".to_owned(), json!(on));
                }
                Value::Object(bundle)
            };
            found.into_iter().enumerate().map(bundle).collect()
        })
        .boxed()
}

/// How the bundles are written.
#[derive(Debug, Clone, Copy)]
struct Style {
    one_file: bool,
    pretty: bool,
    comments: bool,
    mark: bool,
}

fn style() -> impl Strategy<Value = Style> {
    any::<[bool; 4]>().prop_map(|[one_file, pretty, comments, mark]| Style {
        one_file,
        pretty,
        comments,
        mark,
    })
}

fn written(bundles: &[Value], style: Style) -> Vec<Source> {
    let documents = if style.one_file { vec![Value::from(bundles)] } else { bundles.to_vec() };
    let source = |(at, document): (usize, &Value)| {
        let json = if style.pretty {
            serde_json::to_string_pretty(document)
        } else {
            serde_json::to_string(document)
        };
        let mut text = json.unwrap();
        if style.comments {
            text = format!("/* \"ä\" {{ // */ {text} // the end \"");
        }
        if style.mark {
            text.insert(0, '\u{feff}');
        }
        Source { file: format!("{at}.json"), bytes: text.into_bytes() }
    };
    documents.iter().enumerate().map(source).collect()
}

/// A document as it is written back: without annotations, and without lists that say nothing.
fn plain(document: &Value) -> Value {
    let mut object = document.as_object().cloned().unwrap();
    let is_empty = |key: &str, value: &Value| {
        !["files_scope", "tasks"].contains(&key)
            && (*value == json!([]) || key == "metadata" && *value == json!({}))
    };
    object.retain(|key, value| !is_annotation(key) && !is_empty(key, value));
    if let Some(Value::Object(payload)) = object.get_mut("capability_payload") {
        payload.retain(|_, value| *value != json!([]));
    }
    Value::Object(object)
}

/// A mistake: where it is planted, and the text that stands at the place that is to be named.
fn mistake() -> BoxedStrategy<(&'static str, Value, &'static str)> {
    const TEXT: &str = "\"PLANTED\"";
    let planted = || json!("PLANTED");
    select(vec![
        ("PLANTED", json!(1), TEXT),
        ("openspec_change", json!(99_887_766), "99887766"),
        ("ccpm_issue", json!(99_887_766.5), "99887766.5"),
        ("gate", planted(), TEXT),
        ("files_scope", planted(), TEXT),
        ("files_scope", json!(["a", "../PLANTED"]), "\"../PLANTED\""),
        ("files_create", json!(["PLANTED[", "b"]), "\"PLANTED[\""),
        ("tasks", json!(["a", 99_887_766]), "99887766"),
        ("tool", json!("PLANTED!/"), "\"PLANTED!/\""),
        ("depends_on", json!(["PLANTED"]), TEXT),
        ("circuit_breaker", json!({"max_attempts": "PLANTED"}), TEXT),
        ("metadata", json!({"allow_test_removal": "PLANTED"}), TEXT),
        ("capability", planted(), TEXT),
        ("capability_payload", json!({"max_retries": 99_887_766}), "99887766"),
        ("kind", planted(), TEXT),
        ("parallel_ok", planted(), TEXT),
        ("max_cost_usd", json!(-99_887_766), "-99887766"),
        ("test_gates", json!([{"type": "GATE_LINT"}, {"type": "PLANTED"}]), TEXT),
    ])
    .boxed()
}

/// Line and column, counted as a person does.
fn place_of(text: &str, marker: &str) -> (usize, usize) {
    let before = text.split(marker).next().unwrap();
    let line = before.split('\n').next_back().unwrap();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_bundles_of_every_generation_are_read_and_written_back(bundles in bundles(), style in style()) {
        let read = match read(&written(&bundles, style), Vec::new()) {
            Ok(read) => read.bundles,
            Err(refused) => return Err(TestCaseError::fail(refused.summary)),
        };
        let written: Vec<Value> = read.iter().map(|read| serde_json::to_value(&read.bundle).unwrap()).collect();
        prop_assert_eq!(&written, &bundles.iter().map(plain).collect::<Vec<_>>());
        for (read, written) in read.iter().zip(&written) {
            prop_assert_eq!(&Bundle::read(written).unwrap(), &read.bundle);
        }
    }

    #[test]
    fn one_mistake_is_named_at_its_place_and_nothing_else_is(
        mut bundles in bundles(), style in style(), at in any::<Index>(), (key, value, marker) in mistake(),
    ) {
        let at = at.index(bundles.len());
        bundles[at][key] = value;
        let sources = written(&bundles, style);
        let source = if style.one_file { &sources[0] } else { &sources[at] };
        let text = std::str::from_utf8(&source.bytes).unwrap().trim_start_matches('\u{feff}');
        let refused = read(&sources, Vec::new()).unwrap_err();
        prop_assert_eq!(refused.errors.len(), 1, "{:?}", refused.errors);
        let found = &refused.errors[0];
        prop_assert_eq!((found.problem.line, found.problem.column), place_of(text, marker), "{}", found.line());
        prop_assert_eq!((&found.file, found.id.as_ref()), (&source.file, Some(&format!("ws-{at}"))));
        prop_assert_eq!(found.kind == FindingKind::Dependency, key == "depends_on");
    }

    #[test]
    fn a_circle_and_a_second_id_are_named_at_their_places(bundles in bundles(), style in style()) {
        let mut circle = bundles.clone();
        let last = format!("ws-{}", bundles.len() - 1);
        for (at, bundle) in circle.iter_mut().enumerate() {
            bundle["depends_on"] = if at == 0 { json!([last]) } else { json!([format!("ws-{}", at - 1)]) };
        }
        let refused = read(&written(&circle, style), Vec::new()).unwrap_err();
        prop_assert_eq!(refused.errors.len(), 1);
        prop_assert_eq!((refused.errors[0].kind, refused.errors[0].id.as_deref()), (FindingKind::Cycle, Some("ws-0")));
        prop_assert_eq!(&refused.errors[0].problem.pointer, "/depends_on/0");
        let mut twice = bundles;
        twice.push(twice[0].clone());
        let refused = read(&written(&twice, style), Vec::new()).unwrap_err();
        prop_assert_eq!(refused.errors.len(), 1);
        prop_assert_eq!((refused.errors[0].kind, &*refused.errors[0].problem.pointer), (FindingKind::Schema, "/id"));
    }

    #[test]
    fn types_and_schema_accept_the_same(
        bundles in bundles(), key in any::<Index>(), value in select(strange()),
    ) {
        let explainer = Explainer::new(SCHEMA).unwrap();
        for mut document in bundles {
            let keys: Vec<String> = document.as_object().unwrap().keys().cloned().collect();
            document[key.get(&keys)] = value.clone();
            prop_assert_eq!(Bundle::read(&document).is_ok(), explainer.accepts(&document), "{}", document);
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_answered(text in "[{}\\[\\]\",:/*a-c0-2 \n\\\\ä-]{0,40}") {
        let source = Source { file: "f".to_owned(), bytes: text.clone().into_bytes() };
        for error in read(&[source], Vec::new()).unwrap_err().errors {
            let lines = text.matches('\n').count() + 1;
            prop_assert!((1..=lines).contains(&error.problem.line) && error.problem.column >= 1, "{:?}", error);
        }
    }
}

/// Values that are almost right somewhere.
fn strange() -> Vec<Value> {
    let of_objects = [json!({"testing": null}), json!({"type": "GATE_LINT"}), json!({"max_attempts": null})];
    let of_lists =
        [json!([]), json!([1]), json!(["ws-a"]), json!([["GATE_LINT"]]), json!([{"type": "GATE_LINT"}])];
    let others = [
        Value::Null,
        json!(true),
        json!(0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("ws-a\n"),
        json!("ws-a"),
        json!("impl"),
        json!({}),
        json!({"allow_no_change": null}),
        json!({"max_retries": 6}),
    ];
    of_objects.into_iter().chain(of_lists).chain(others).collect()
}
