//! The job contract, held against generated documents: what the historical format allows is accepted, the types
//! and the schema accept the same, and nothing that anyone writes into a file makes the parser panic.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use engine::cli::SCHEMAS;
use engine::job::event::JournalLine;
use engine::job::parse::explain::Explainer;
use engine::job::schema::{HISTORICAL_SCHEMA, JOB_SCHEMA};
use engine::job::{ErrorReport, JobFile, JobResult, RecordLine, annotations, parse_job};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

static CURRENT: LazyLock<Explainer> = LazyLock::new(|| Explainer::new(JOB_SCHEMA).unwrap());
static HISTORICAL: LazyLock<Explainer> = LazyLock::new(|| Explainer::new(HISTORICAL_SCHEMA).unwrap());

/// So many cases, or `PROPTEST_CASES` if that is more.
fn cases(cases: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(cases), failure_persistence: None, ..usual }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The JSON files of a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    found.sort();
    found
}

// ---------------------------------------------------------------- generators

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        "[a-z0-9/._-]{1,12}",
        any::<String>(),
        Just("C:\\Users\\ä\\😀 – x".to_owned()),
        Just("{\"a\": \"\\u0000\"}\n".to_owned()),
        Just("x".repeat(5000)),
    ]
    .boxed()
}

/// Any JSON value; small and often almost right for some key of the format.
fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2i64..4).prop_map(Value::from),
        select(vec![-0.0, 0.5, 1.0, 2.0, 600.0, 1e300]).prop_map(Value::from),
        text().prop_map(Value::from),
        select(vec![
            "a",
            "critical",
            "urgent",
            "done",
            "requeue",
            "none",
            "retry_same_on_error",
            "escalate_to_",
            "gpu:2",
            "gpu:0",
            "2026-11-21T10:00:00Z",
            "2026-02-30T10:00:00Z",
            "fibonacci",
            "Critical",
            "a\n",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let key = prop_oneof![
            select(vec![
                "from_env",
                "text",
                "file",
                "log_bytes",
                "strategy",
                "jitter",
                "critical",
                "done",
                "requeue",
                "linear",
                "base_seconds",
                "_comment",
                "x-a",
                "$schema",
                "doc_id",
                "exe",
                "args",
            ])
            .prop_map(str::to_owned),
            text(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
    .boxed()
}

/// An integer in JSON's sense, from `least`.
fn whole(least: u32) -> BoxedStrategy<Value> {
    let more = least.max(1);
    prop_oneof![
        (least..1000).prop_map(Value::from),
        (least..1000).prop_map(|n| Value::from(f64::from(n))),
        (u64::from(more)..).prop_map(Value::from),
        select(vec![1e15, 1e19, 1e24, 1e300, f64::MAX]).prop_map(Value::from),
        if least == 0 { Just(json!(-0.0)).boxed() } else { Just(json!(1.0)).boxed() },
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<Value> {
    prop::collection::vec(text(), 0..4).prop_map(Value::from).boxed()
}

const NEW_TOP: [&str; 18] = [
    "after",
    "schema_version",
    "run_id",
    "depends_on",
    "priority",
    "not_before",
    "locks",
    "key",
    "stdin",
    "pty",
    "on_failure",
    "on_crash",
    "limits",
    "$schema",
    "doc_id",
    "_comment",
    "x-team",
    "Tool",
];
const NEW_METADATA: [&str; 20] = [
    "prompt",
    "idle_timeout_seconds",
    "grace_seconds",
    "stop_signal",
    "keep",
    "backoff",
    "model",
    "git_operation",
    "function",
    "arguments",
    "timeout_second",
    "job_id",
    "allow_no_change",
    "retry_budget_seconds",
    "max_parks",
    "max_cost_usd",
    "max_tokens",
    "fallback_on",
    "escalated_from",
    "escalated_from_job",
];
const NEW_INSIDE: [&str; 8] = ["_comment", "x-a", "doc_id", "cwd", "shell", "exe_", "log_files", "env"];

/// Keys that the historical format did not name, any value for each.
fn extras(known: &'static [&'static str]) -> BoxedStrategy<Map<String, Value>> {
    let key = prop_oneof![3 => select(known.to_vec()).prop_map(str::to_owned), 1 => text()];
    prop::collection::vec((key, anything()), 0..5).prop_map(|entries| entries.into_iter().collect()).boxed()
}

/// An object of the historical format: extra keys never replace one that it names.
fn with_extras(
    named: impl Strategy<Value = Map<String, Value>> + 'static,
    names: &'static [&'static str],
    known: &'static [&'static str],
) -> BoxedStrategy<Value> {
    (named, extras(known))
        .prop_map(move |(named, mut all)| {
            all.retain(|key, _| !names.contains(&key.as_str()));
            all.extend(named);
            Value::Object(all)
        })
        .boxed()
}

fn entry(key: &'static str, value: BoxedStrategy<Value>) -> BoxedStrategy<Map<String, Value>> {
    value.prop_map(move |value| Map::from_iter([(key.to_owned(), value)])).boxed()
}

/// Some of these entries, or all of them.
fn entries(
    required: bool,
    list: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Map<String, Value>> {
    list.into_iter()
        .map(|(key, value)| {
            let one = entry(key, value);
            if required { one } else { prop_oneof![Just(Map::new()), one].boxed() }
        })
        .fold(Just(Map::new()).boxed(), |all, one| {
            (all, one)
                .prop_map(|(mut all, one)| {
                    all.extend(one);
                    all
                })
                .boxed()
        })
}

fn string_value() -> BoxedStrategy<Value> {
    text().prop_map(Value::from).boxed()
}

fn one_of(words: &[&'static str]) -> BoxedStrategy<Value> {
    select(words.to_vec()).prop_map(Value::from).boxed()
}

fn historical() -> BoxedStrategy<Value> {
    const PATHS: [&str; 4] = ["repo_root", "working_dir", "log_file", "error_report"];
    const METADATA: [&str; 5] =
        ["retry_policy", "timeout_seconds", "max_retries", "message_file", "files_scope"];
    const TOP: [&str; 7] = ["job_id", "workstream_id", "tool", "command", "env", "paths", "metadata"];
    let command = entries(true, vec![("exe", string_value()), ("args", texts())]);
    let paths = entries(true, PATHS.iter().map(|key| (*key, string_value())).collect());
    let metadata = entries(
        false,
        vec![
            ("retry_policy", one_of(&["none", "retry_same", "escalate_to_codex", "escalate_to_claude"])),
            ("timeout_seconds", whole(1)),
            ("max_retries", whole(0)),
            ("message_file", string_value()),
            ("files_scope", texts()),
        ],
    );
    let metadata = with_extras(metadata, &METADATA, &NEW_METADATA);
    let env = prop::collection::vec((text(), text()), 0..4)
        .prop_map(|list| Value::Object(list.into_iter().map(|(key, value)| (key, value.into())).collect()))
        .boxed();
    let tools = ["aider", "codex", "gemini", "claude", "tests", "git", "error_pipeline", "mechanical"];
    let job_id =
        prop_oneof!["[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{3,8}", "[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{113}"]
            .prop_map(|tail| format!("job-{tail}").into())
            .boxed();
    let named = entries(
        true,
        vec![
            ("job_id", job_id),
            ("workstream_id", string_value()),
            ("tool", one_of(&tools)),
            ("command", with_extras(command, &["exe", "args"], &NEW_INSIDE)),
            ("env", env),
            ("paths", with_extras(paths, &PATHS, &NEW_INSIDE)),
        ],
    );
    let named = (named, prop_oneof![1 => Just(Map::new()).boxed(), 4 => entry("metadata", metadata)])
        .prop_map(|(mut all, metadata)| {
            all.extend(metadata);
            all
        });
    with_extras(named, &TOP, &NEW_TOP)
}

/// A valid document that uses every key.
fn rich() -> Value {
    json!({
        "$schema": "job.schema.json", "doc_id": "D1", "_comment": ["why"], "x-team": {"a": 1},
        "schema_version": 1, "job_id": "build.1", "run_id": "run-1", "workstream_id": "ws-1", "tool": "codex",
        "command": {"exe": "make", "args": ["-j", "2"], "_comment": "c"},
        "env": {"A": "1", "B": {"from_env": "HOME", "x-why": 1}},
        "paths": {
            "repo_root": ".", "working_dir": "sub", "log_file": "l.log", "error_report": "e.json", "doc_id": 1
        },
        "metadata": {
            "timeout_seconds": 600.0, "idle_timeout_seconds": 0.5, "grace_seconds": 1, "stop_signal": "USR1", "keep": ["sccache"], "max_retries": 2,
            "retry_policy": "escalate_to_claude_on_error", "files_scope": ["a.rs"], "prompt": "do it", "model": null,
            "allow_no_change": true, "retry_budget_seconds": 5.5, "max_parks": 3, "max_cost_usd": 1.5,
            "max_tokens": 1000, "fallback_on": ["quota", "auth", "absent"], "escalated_from": ["aider"], "escalated_from_job": "a",
            "backoff": {
                "strategy": "fibonacci", "base_seconds": 1, "max_seconds": 2.5, "jitter": true, "_comment": ""
            }
        },
        "depends_on": ["a", "b"], "after": ["c"], "priority": "high", "not_before": "2026-11-21T10:00:00+02:00",
        "locks": ["gpu", "db:3"], "key": "k", "stdin": {"text": "in", "x-a": 0}, "pty": false, "on_failure": "done",
        "on_crash": "requeue", "limits": {"log_bytes": 1000, "$schema": ""}
    })
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Insert(String, Value),
    IntoArray,
    IntoKey(String),
    IntoNullOf,
    ValuesOnly,
    Swap(Index),
}

fn change() -> BoxedStrategy<Change> {
    let key = prop_oneof![
        select(NEW_TOP.to_vec()).prop_map(str::to_owned),
        select(NEW_METADATA.to_vec()).prop_map(str::to_owned),
        select(NEW_INSIDE.to_vec()).prop_map(str::to_owned),
        select(vec![
            "from_env",
            "text",
            "file",
            "message_file",
            "doc_id2",
            "x",
            "$schema\n",
            "doc_id\n",
            "X-a"
        ])
        .prop_map(str::to_owned),
        text(),
    ]
    .boxed();
    prop_oneof![
        4 => anything().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        2 => (key.clone(), anything()).prop_map(|(key, value)| Change::Insert(key, value)),
        1 => Just(Change::IntoArray),
        1 => key.prop_map(Change::IntoKey),
        1 => Just(Change::IntoNullOf),
        1 => Just(Change::ValuesOnly),
        2 => any::<Index>().prop_map(Change::Swap),
    ]
    .boxed()
}

fn pointers(document: &Value) -> Vec<String> {
    fn walk(value: &Value, pointer: &str, found: &mut Vec<String>) {
        found.push(pointer.to_owned());
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    walk(value, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(value, &format!("{pointer}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

fn apply(document: &mut Value, at: &Index, change: Change) {
    let all = pointers(document);
    let pointer = at.get(&all).clone();
    let target = document.pointer_mut(&pointer).unwrap();
    match change {
        Change::Replace(value) => *target = value,
        Change::Insert(key, value) => match target {
            Value::Object(object) => drop(object.insert(key, value)),
            Value::Array(items) => items.push(value),
            other => *other = value,
        },
        Change::IntoArray => *target = json!([target.take()]),
        Change::IntoKey(key) => *target = json!({ key: target.take() }),
        Change::IntoNullOf => {
            let word = target.as_str().unwrap_or("text").to_owned();
            *target = json!({ word: null });
        }
        Change::ValuesOnly => {
            if let Value::Object(object) = target {
                *target = object.values().cloned().collect::<Vec<_>>().into();
            }
        }
        Change::Swap(other) => {
            let value = document.pointer(other.get(&all).as_str()).unwrap().clone();
            *document.pointer_mut(&pointer).unwrap() = value;
        }
        Change::Remove => {
            let Some((parent, key)) = pointer.rsplit_once('/') else { return };
            match document.pointer_mut(parent) {
                Some(Value::Object(object)) => {
                    object.remove(&key.replace("~1", "/").replace("~0", "~"));
                }
                Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
                _ => {}
            }
        }
    }
}

/// What the types say.
fn gate(document: &Value) -> Result<JobFile, String> {
    let mut stripped = document.clone();
    annotations::strip(&mut stripped);
    JobFile::read(&stripped).map_err(|error| error.to_string())
}

fn agree(document: &Value) -> Result<(), TestCaseError> {
    let (typed, by_schema) = (gate(document), CURRENT.accepts(document));
    prop_assert_eq!(
        typed.is_ok(),
        by_schema,
        "the types say {:?}, the schema {}: {}",
        typed.err(),
        by_schema,
        document
    );
    Ok(())
}

/// Asserts that a refusal names at least one problem and that each has a place in the text.
#[track_caller]
fn places_are_inside(bytes: &[u8]) {
    let Err(problems) = parse_job(bytes, "f") else { return };
    assert!(!problems.problems.is_empty());
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let lines: Vec<String> =
        text.split(|b| *b == b'\n').map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    for problem in &problems.problems {
        let line = problem.line.checked_sub(1).and_then(|index| lines.get(index));
        // One behind the last character is where something is missing.
        let inside = line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&problem.column));
        assert!(inside, "{problem:?} is not in {:?}", String::from_utf8_lossy(text));
        assert!(!problem.message.starts_with("internal"), "{problem:?}");
    }
}

// ---------------------------------------------------------------- job files

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn every_file_of_the_historical_format_is_accepted(document in historical(), pretty in any::<bool>()) {
        prop_assert!(HISTORICAL.accepts(&document), "the generator made an invalid document: {document}");
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let parsed = parse_job(text.unwrap().as_bytes(), "f");
        prop_assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
        prop_assert_eq!(Value::from(parsed.unwrap().job.job_id.as_str()), document["job_id"].clone());
    }

    #[test]
    fn whatever_is_ignored_in_a_historical_file_is_told(document in historical()) {
        let mut parsed = parse_job(document.to_string().as_bytes(), "f").unwrap();
        // A limit that is raised is in use.
        parsed.warnings.retain(|warning| warning.pointer != "/limits/log_bytes" || warning.message.ends_with("; it is ignored"));
        // A key of `metadata` that only looks like a known one is allowed by both.
        let refused = parsed.warnings.iter().any(|warning| !warning.message.contains("has no meaning"));
        prop_assert_eq!(!refused, gate(&document).is_ok(), "{:?}", parsed.warnings);
        for warning in parsed.warnings {
            prop_assert!(warning.message.ends_with("; it is ignored"), "{warning:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn the_types_and_the_schema_accept_the_same_documents(
        changes in prop::collection::vec((any::<Index>(), change()), 1..4),
    ) {
        let mut document = rich();
        for (at, change) in changes {
            apply(&mut document, &at, change);
        }
        agree(&document)?;
    }

    #[test]
    fn the_types_and_the_schema_accept_the_same_values_of_one_key(
        at in any::<Index>(), value in anything(),
    ) {
        let mut document = rich();
        apply(&mut document, &at, Change::Replace(value));
        agree(&document)?;
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        places_are_inside(&bytes);
    }

    #[test]
    fn no_damage_to_a_job_file_makes_the_parser_panic(
        damage in prop::collection::vec((any::<Index>(), any::<u8>(), 0..3), 1..6),
        cut in any::<Index>(),
        pretty in any::<bool>(),
        keep_all in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&rich()) } else { serde_json::to_string(&rich()) };
        let mut bytes = text.unwrap().into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if !keep_all {
            bytes.truncate(cut.index(bytes.len()));
        }
        places_are_inside(&bytes);
    }

    #[test]
    fn every_problem_of_a_wrong_document_has_a_place_in_its_text(
        changes in prop::collection::vec((any::<Index>(), change()), 1..6),
        bom in any::<bool>(),
    ) {
        let mut document = rich();
        for (at, change) in changes {
            apply(&mut document, &at, change);
        }
        let mut bytes = if bom { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        bytes.extend(serde_json::to_string_pretty(&document).unwrap().bytes());
        places_are_inside(&bytes);
        bytes.extend(b"\r\n\t \n");
        places_are_inside(&bytes);
    }
}

#[test]
fn the_document_that_is_mutated_uses_every_key_and_is_valid() {
    gate(&rich()).unwrap();
    agree(&rich()).unwrap();
    let schema: Value = serde_json::from_str(JOB_SCHEMA).unwrap();
    for (object, pointer) in [("", "/properties"), ("/metadata", "/properties/metadata/properties")] {
        let document = rich();
        let used = document.pointer(object).unwrap().as_object().unwrap();
        for key in schema.pointer(pointer).unwrap().as_object().unwrap().keys() {
            // One excludes `prompt`, the other being handed on.
            let excluded = ["message_file", "parent"].contains(&key.as_str());
            assert!(used.contains_key(key) || excluded, "{object}/{key} is not in the document");
        }
    }
}

/// serde reads a struct from an array and a word from `{"word": null}`; the format knows neither.
#[test]
fn more_locks_than_a_job_may_have_are_refused_by_types_and_schema_alike() {
    let job = |count: usize| {
        let locks: Vec<String> = (0..count).map(|n| format!("l{n}")).collect();
        json!({"job_id": "a", "tool": "t", "locks": locks})
    };
    for count in [0, 1, 64, 65, 60_000] {
        agree(&job(count)).unwrap();
        let refused = parse_job(job(count).to_string().as_bytes(), "f").map_err(|problems| problems.lines());
        let want = "f:1:23: /locks: found an array, expected a list of at most 64 names, or null";
        assert_eq!(
            refused.map_or_else(|lines| lines, |_| Vec::new()),
            if count > 64 { vec![want] } else { vec![] }
        );
    }
}

#[test]
fn what_only_serde_would_read_is_refused_by_both() {
    let with = |key: &str, value: Value| {
        let mut document = json!({"job_id": "a", "tool": "t"});
        document[key] = value;
        document
    };
    for document in [
        json!([1, "a", null, null, "t"]),
        with("command", json!([])),
        with("command", json!(["x", ["a"]])),
        with("paths", json!([])),
        with("limits", json!([])),
        with("metadata", json!({"backoff": []})),
        with("metadata", json!({"backoff": {"strategy": {"linear": null}}})),
        with("priority", json!({"critical": null})),
        with("on_failure", json!({"done": null})),
        with("on_crash", json!({"requeue": null})),
    ] {
        agree(&document).unwrap();
        assert!(parse_job(document.to_string().as_bytes(), "f").is_err(), "{document}");
    }
}

#[test]
fn historical_integers_may_be_written_in_any_way_and_be_of_any_size() {
    let text = |key: &str, literal: &str| {
        format!(
            r#"{{"job_id": "job-2025-11-20-001", "workstream_id": "", "tool": "git", "env": {{}},
                "command": {{"exe": "", "args": []}}, "metadata": {{"{key}": {literal}}},
                "paths": {{"repo_root": "", "working_dir": "", "log_file": "", "error_report": ""}}}}"#
        )
    };
    let both = [
        "600",
        "600.0",
        "6e2",
        "6.0E+2",
        "60000e-2",
        "18446744073709551616",
        "1e300",
        "99999999999999999999999",
    ];
    for literal in both {
        for key in ["timeout_seconds", "max_retries"] {
            let parsed = parse_job(text(key, literal).as_bytes(), "f");
            assert!(parsed.is_ok(), "{key} {literal}: {}", parsed.unwrap_err());
        }
    }
    for literal in ["0", "-0", "-0.0", "0e9"] {
        assert!(parse_job(text("max_retries", literal).as_bytes(), "f").is_ok(), "{literal}");
        assert!(parse_job(text("timeout_seconds", literal).as_bytes(), "f").is_err(), "{literal}");
    }
}

/// `depends_on` was no key of the historical format, so that anything could stand there.
#[test]
fn a_historical_file_that_names_itself_under_a_new_key_is_accepted() {
    let document = json!({
        "job_id": "job-2025-11-20-001", "workstream_id": "w", "tool": "git", "env": {},
        "command": {"exe": "git", "args": []}, "depends_on": ["job-2025-11-20-001"],
        "paths": {"repo_root": "", "working_dir": "", "log_file": "", "error_report": ""},
    });
    assert!(HISTORICAL.accepts(&document));
    let parsed = parse_job(document.to_string().as_bytes(), "f").unwrap();
    assert!(parsed.job.dependencies().is_empty());
    assert_eq!(parsed.warnings.len(), 1);
}

#[test]
fn the_shapes_of_real_job_files_are_accepted_as_they_are() {
    let mut dirs = vec![here("tests/data/jobs")];
    dirs.extend(
        Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/examples/jobs")))
            .filter(|dir| dir.is_dir()),
    );
    for dir in dirs {
        let mut seen = 0;
        for path in files(&dir) {
            let bytes = std::fs::read(&path).unwrap();
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            if document.get("command").is_none() {
                continue;
            }
            let parsed = parse_job(&bytes, "f").unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(parsed.warnings.is_empty(), "{}: {:?}", path.display(), parsed.warnings);
            seen += 1;
        }
        assert!(seen >= 5, "{seen} job files in {}", dir.display());
    }
}

#[test]
fn the_example_job_files_are_valid_without_warnings() {
    let paths = files(&here("examples/jobs"));
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let parsed = parse_job(&bytes, &path.display().to_string()).unwrap_or_else(|e| panic!("{e}"));
        assert!(parsed.warnings.is_empty(), "{}: {:?}", path.display(), parsed.warnings);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(parsed.job.job_id.as_str(), stem, "a queued file is named after its job");
        let known = engine::for_tests::find_adapter(None, &parsed.job.tool).unwrap();
        assert!(known.is_some(), "{stem}: there is no adapter `{}`", parsed.job.tool);
    }
}

// ---------------------------------------------------------------- records, results, reports, journal

fn optional(value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![Just(Value::Null), value].boxed()
}

fn time() -> BoxedStrategy<Value> {
    let millis = prop_oneof![0..4_102_444_800_000i64, Just(0), Just(-1), Just(253_402_207_200_000 - 1)];
    millis.prop_map(|millis| engine::clock::Timestamp::from_millis(millis).to_string().into()).boxed()
}

fn id() -> BoxedStrategy<Value> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}".prop_map(Value::from).boxed()
}

fn tool() -> BoxedStrategy<Value> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}".prop_map(Value::from).boxed()
}

fn number(range: std::ops::RangeInclusive<i64>) -> BoxedStrategy<Value> {
    let ends = [*range.start(), *range.end()];
    prop_oneof![range, select(ends.to_vec())].prop_map(Value::from).boxed()
}

/// Seconds to the microsecond, as the engine writes them.
fn seconds() -> BoxedStrategy<Value> {
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    (0..1u64 << 50).prop_map(|micros| (micros as f64 / 1e6).into()).boxed()
}

fn status() -> BoxedStrategy<Value> {
    one_of(&["queued", "running", "succeeded", "failed", "canceled", "quarantined"])
}

fn outcome() -> BoxedStrategy<Value> {
    one_of(&[
        "succeeded",
        "failed",
        "timed_out",
        "stalled",
        "killed",
        "canceled",
        "parked",
        "lost",
        "not_started",
        "invalid",
    ])
}

fn place() -> BoxedStrategy<Value> {
    one_of(&["queued", "running", "quarantined", "done/2026-11-21", "done/0001-01-01"])
}

fn object(list: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    entries(true, list).prop_map(Value::Object).boxed()
}

fn list(value: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(value, 0..=most).prop_map(Value::from).boxed()
}

fn reason() -> BoxedStrategy<Value> {
    object(vec![("code", string_value()), ("message", string_value())])
}

fn usage() -> BoxedStrategy<Value> {
    object(vec![
        ("cpu_user_s", seconds()),
        ("cpu_system_s", seconds()),
        ("max_rss_bytes", number(0..=i64::MAX)),
    ])
}

/// What an adapter may put into `metadata`; its numbers have few digits.
fn free() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        string_value(),
        seconds(),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..3)
                .prop_map(|list| Value::Object(list.into_iter().collect())),
        ]
    })
    .boxed()
}

const U32: std::ops::RangeInclusive<i64> = 0..=4_294_967_295;
const I32: std::ops::RangeInclusive<i64> = -2_147_483_648..=2_147_483_647;

fn result() -> BoxedStrategy<Value> {
    let metadata = prop::collection::vec((text(), free()), 0..3)
        .prop_map(|list| Value::Object(list.into_iter().collect()))
        .boxed();
    object(vec![
        ("schema_version", Just(json!(1)).boxed()),
        ("job_id", id()),
        ("tool", optional(tool())),
        ("attempt", number(U32)),
        ("success", any::<bool>().prop_map(Value::from).boxed()),
        ("status", status()),
        ("outcome", outcome()),
        ("reason", optional(reason())),
        ("exit_code", optional(number(I32))),
        ("signal", optional(number(I32))),
        ("started_at", time()),
        ("finished_at", time()),
        ("duration_s", seconds()),
        ("usage", optional(usage())),
        ("log_path", optional(string_value())),
        ("error_report_path", optional(string_value())),
        ("stdout", string_value()),
        ("stderr", string_value()),
        ("metadata", metadata),
    ])
}

fn error_report() -> BoxedStrategy<Value> {
    object(vec![
        ("job_id", id()),
        ("workstream_id", optional(string_value())),
        ("tool", optional(tool())),
        ("exit_code", optional(number(I32))),
        ("outcome", outcome()),
        ("summary", string_value()),
        ("details", texts()),
        ("log_path", optional(string_value())),
        ("test_results", optional(free())),
        ("git_command", optional(string_value())),
    ])
}

fn attempt() -> BoxedStrategy<Value> {
    let dependency = object(vec![("job_id", id()), ("status", status()), ("seq", number(0..=i64::MAX))]);
    object(vec![
        ("attempt", number(U32)),
        ("started_at", time()),
        ("ended_at", optional(time())),
        ("outcome", optional(outcome())),
        ("reason", optional(reason())),
        ("exit_code", optional(number(I32))),
        ("signal", optional(number(I32))),
        ("usage", optional(usage())),
        ("log_path", optional(string_value())),
        ("session_id", optional(string_value())),
        (
            "work",
            optional(object(vec![
                ("origin_tree", string_value()),
                ("tree", string_value()),
                ("changed", any::<bool>().prop_map(Value::from).boxed()),
                ("out_of_scope", any::<bool>().prop_map(Value::from).boxed()),
            ])),
        ),
        ("host", string_value()),
        ("boot_id", string_value()),
        ("pid_namespace", string_value()),
        ("pid", number(I32)),
        ("repeatable", any::<bool>().prop_map(Value::from).boxed()),
        ("dependencies", list(dependency, 2)),
    ])
}

fn record() -> BoxedStrategy<Value> {
    let job = object(vec![
        ("run_id", optional(string_value())),
        ("workstream_id", optional(string_value())),
        ("tool", optional(tool())),
        ("key", optional(string_value())),
        ("priority", optional(one_of(&["critical", "high", "normal", "low"]))),
        ("depends_on", list(id(), 2)),
        ("after_count", number(1..=i64::from(u32::MAX))),
        ("sha256", optional(string_value())),
    ]);
    let former = object(vec![
        ("lives", number(U32)),
        ("attempts", number(U32)),
        ("last_outcome", optional(outcome())),
        ("parked", number(U32)),
    ]);
    object(vec![
        ("schema_version", Just(json!(1)).boxed()),
        ("seq", number(0..=i64::MAX)),
        ("at", time()),
        ("job_id", id()),
        ("status", status()),
        ("place", place()),
        ("not_before", optional(time())),
        ("job", job),
        ("life", number(U32)),
        ("first_attempt", number(U32)),
        ("former", former),
        ("attempts", list(attempt(), 2)),
        ("result", optional(result())),
        ("error_report", optional(error_report())),
    ])
}

fn journal_line() -> BoxedStrategy<Value> {
    object(vec![
        ("schema_version", Just(json!(1)).boxed()),
        ("at", time()),
        ("job_id", id()),
        ("seq", number(0..=i64::MAX)),
        ("attempt", optional(number(U32))),
        ("status", status()),
        ("outcome", optional(outcome())),
        ("reason_code", optional(string_value())),
        ("place", place()),
        ("run_id", optional(string_value())),
        ("workstream_id", optional(string_value())),
        ("tool", optional(tool())),
    ])
}

fn schema(name: &str) -> Explainer {
    let text = SCHEMAS.iter().find(|schema| schema.name == name).unwrap().text;
    Explainer::new(text).unwrap()
}

/// Reading, writing and reading again changes nothing, and what is written is valid and on one line.
#[track_caller]
fn survives<T: Serialize + DeserializeOwned>(document: &Value, schema: &Explainer) {
    let value = T::deserialize(document).unwrap_or_else(|e| panic!("{e}: {document}"));
    let line = serde_json::to_string(&value).unwrap();
    assert!(!line.contains('\n'));
    let written: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(&written, document, "a key was lost, added or changed");
    let again: T = serde_json::from_str(&line).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), line);
    assert!(
        schema.accepts(&written),
        "{:?}",
        schema.explain(&written, &engine::job::parse::locate::Locations::scan(&line))
    );
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn what_is_written_is_read_back_and_is_valid(
        record in record(), line in journal_line(), result in result(), report in error_report(),
    ) {
        static ALL: LazyLock<[Explainer; 4]> =
            LazyLock::new(|| ["record", "event", "result", "error_report"].map(schema));
        survives::<RecordLine>(&record, &ALL[0]);
        survives::<JournalLine>(&line, &ALL[1]);
        survives::<JobResult>(&result, &ALL[2]);
        survives::<ErrorReport>(&report, &ALL[3]);
        // A record holds a result and a report: the store reads the line back as it is.
        let bytes = serde_json::to_vec(&record).unwrap();
        let read = engine::for_tests::parse_record(&bytes, Path::new("r"), &id_of(&record)).unwrap();
        prop_assert_eq!(&read.raw, &record);
        let event = JournalLine::from_record(&read.line);
        let mut text = serde_json::to_vec(&event).unwrap();
        text.push(b'\n');
        prop_assert_eq!(engine::for_tests::journal::parse(&text).collect::<Vec<_>>(), vec![event]);
    }
}

#[test]
fn a_schema_refuses_a_record_with_a_wrong_value() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let document = record().new_tree(&mut runner).unwrap().current();
    let schema = schema("record");
    assert!(schema.accepts(&document));
    for (key, wrong) in [
        ("status", json!("waiting")),
        ("place", json!("done")),
        ("at", json!("yesterday")),
        ("seq", json!(-1)),
        ("attempts", json!(null)),
        ("job_id", json!("a/b")),
    ] {
        let mut bad = document.clone();
        bad[key] = wrong;
        assert!(!schema.accepts(&bad), "{key}");
        assert!(RecordLine::deserialize(&bad).is_err(), "{key}");
    }
}

fn id_of(record: &Value) -> engine::job::JobId {
    engine::job::JobId::new(record["job_id"].as_str().unwrap()).unwrap()
}

#[test]
fn the_time_for_a_job_file_does_not_grow_with_the_square_of_its_variables_secrets_and_keys() {
    let project = crate::support::Project::new();
    let many = |count: usize, name: &str, value: &str| -> Value {
        (0..count).map(|n| (format!("{name}{n}"), Value::from(format!("{value}{n:08}")))).collect()
    };
    let shell = json!({"tool": "shell", "command": {"exe": "true"}});
    let with = |id: &str, key: &str, value: Value| {
        let mut job = shell.clone();
        job["job_id"] = id.into();
        job[key] = value;
        job
    };
    let started = std::time::Instant::now();
    project.run(&with("variables", "env", many(40_000, "V", ""))).exits(0);
    for job in [
        with("secrets", "env", many(8_000, "KEY_", "a value ")),
        with("typos", "metadata", many(4_000, "max_retries", "")),
    ] {
        let name = project.job(&job);
        let said = project.engine(&["validate", "--json", &name]);
        assert!(said.json()["warnings"].as_array().unwrap().len() >= 4_000, "{}", said.err);
    }
    // With a loop in a loop each of the three takes minutes; without, all of them a second or two.
    assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
}
