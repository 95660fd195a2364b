//! Parses bytes to a job, or to all their problems.
//!
//! The typed parse is the gate. Only a refused document is held against the schemas, to explain it (`explain`) and to find
//! out whether it is valid in the historical format (`historical`). Hard rule: all problems are reported at once, each at
//! its place.

use std::cell::LazyCell;

use serde_json::Value;

use super::JobId;
use super::annotations;
use super::spec::JobFile;
use locate::Locations;
use problem::{Problem, Problems};
use semantics::{contradictions, likely_typos, secrets_in_plain};

mod document;
pub mod explain;
mod historical;
pub mod locate;
pub(crate) mod nearest;
pub mod problem;
mod semantics;
pub(crate) mod split;

use document::decode;
pub(crate) use document::{MAX_JOB_BYTES, document, text_of, too_large, without_mark};
use historical::Forgiven;

/// A valid job file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The job.
    pub job: JobFile,
    /// Warnings of ignored keys, and of values that should not be in it.
    pub warnings: Vec<Problem>,
    /// Keys of `metadata` that are almost ones that mean something. The adapter may hand them to a tool that knows them.
    pub likely_typos: Vec<Problem>,
}

/// Reads a job file; `file` names it in messages.
///
/// # Errors
/// `Problems` with everything that is wrong.
pub fn parse_job(bytes: &[u8], file: &str) -> Result<Parsed, Problems> {
    let parsed = decode(bytes).map_err(|problem| vec![problem]).and_then(parse_text);
    parsed.map_err(|problems| Problems { file: file.to_owned(), problems })
}

fn parse_text(text: &str) -> Result<Parsed, Vec<Problem>> {
    let document = document(text)?;
    let mut stripped = document.clone();
    annotations::strip(&mut stripped);
    let problems = match JobFile::read(&stripped) {
        Ok(job) => {
            let wrong = contradictions(&job, text);
            if wrong.is_empty() {
                let warnings = semantics::warnings(&job, &stripped, text);
                return Ok(Parsed { job, warnings, likely_typos: likely_typos(&stripped, text) });
            }
            wrong
        }
        Err(error) => refusal(text, &document, &error)?,
    };
    let Forgiven { job, document, ignored } = historical::forgive(text, document, problems)?;
    let mut warnings = ignored;
    warnings.extend(semantics::warnings(&job, &document, text));
    Ok(Parsed { job, warnings, likely_typos: Vec::new() })
}

/// The problems of a document that the types refused.
fn refusal(
    text: &str,
    document: &Value,
    gate: &serde_json::Error,
) -> Result<Vec<Problem>, explain::BadSchema> {
    let problems = explain::job()?.explain(document, &Locations::scan(text));
    // The types and the schema must agree; if they do not, the types win and at least say so.
    Ok(if problems.is_empty() { vec![Problem::at(1, 1, gate.to_string())] } else { problems })
}

/// Reads only the `job_id` of a document that may be invalid otherwise.
#[must_use]
pub(crate) fn readable_job_id(bytes: &[u8]) -> Option<JobId> {
    let document = document(decode(bytes).ok()?).ok()?;
    JobId::new(document.get("job_id")?.as_str()?).ok()
}

/// What a document asks for, whatever it is called: two jobs with one key and this in common are one job. `None` for
/// what is not JSON.
#[must_use]
pub(crate) fn content(bytes: &[u8]) -> Option<Value> {
    let mut document = document(decode(bytes).ok()?).ok()?;
    document.as_object_mut()?.remove("job_id");
    Some(document)
}

/// The warnings of a refused document: its author fixes both at once.
#[must_use]
pub(crate) fn warnings_beside_errors(bytes: &[u8]) -> Vec<Problem> {
    let Ok(text) = decode(bytes) else { return Vec::new() };
    let Ok(mut document) = document(text) else { return Vec::new() };
    annotations::strip(&mut document);
    let mut warnings = likely_typos(&document, text);
    warnings.extend(secrets_in_plain(&document, text));
    warnings
}

/// Warnings of keys of `metadata`, each with its message, at their places in the file.
#[must_use]
pub(crate) fn warnings_of_metadata(bytes: &[u8], keys: Vec<(&str, String)>) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::scan(decode(bytes).unwrap_or_default()));
    let warning = |(key, message): (&str, String)| {
        Problem::of_key(&places, format!("/metadata/{}", locate::escape(key)), message)
    };
    keys.into_iter().map(warning).collect()
}

/// Problems that have a pointer only, at their places in the file.
#[must_use]
pub(crate) fn placed(bytes: &[u8], problems: Vec<Problem>) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::scan(decode(bytes).unwrap_or_default()));
    let place = |problem: Problem| {
        let (line, column) = places.value(&problem.pointer);
        Problem { line, column, ..problem }
    };
    problems.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: impl AsRef<[u8]>) -> Vec<String> {
        match parse_job(text.as_ref(), "f") {
            Ok(_) => Vec::new(),
            Err(problems) => problems.lines(),
        }
    }

    #[test]
    fn two_keys_are_enough() {
        let parsed = parse_job(br#"{"job_id": "a", "tool": "shell"}"#, "f").unwrap();
        assert_eq!(parsed.job.max_retries(), 0);
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn a_problem_with_a_pointer_is_placed_in_the_file() {
        let problem = Problem { pointer: "/command/exe".to_owned(), ..Problem::at(1, 1, "m") };
        let text = b"\xEF\xBB\xBF{\n \"command\": {\"exe\": \"x\"}}";
        let placed = placed(text, vec![problem]);
        assert_eq!((placed[0].line, placed[0].column), (2, 21));
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_places() {
        let text = "{\n  \"job_id\": \"a/b\",\n  \"toll\": \"shell\",\n  \"env\": {\"A\": 1},\n  \
                    \"priority\": \"urgent\",\n  \"metadata\": {\"timeout_seconds\": 0}\n}";
        let lines = lines(text);
        assert_eq!(lines.len(), 6, "{lines:#?}");
        assert!(lines[0].starts_with("f:1:1: the key `tool` is missing"), "{}", lines[0]);
        assert!(lines[1].starts_with("f:2:13: /job_id: found \"a/b\", expected 1 to 128"), "{}", lines[1]);
        assert!(lines[2].contains("f:3:3: /toll: unknown key `toll` (did you mean `tool`?)"), "{}", lines[2]);
        assert!(
            lines[3].starts_with("f:4:16: /env/A: found a number, expected a string, or"),
            "{}",
            lines[3]
        );
        assert!(lines[4].starts_with("f:5:15: /priority: found \"urgent\", expected one of"), "{}", lines[4]);
        assert!(lines[5].starts_with("f:6:35: /metadata/timeout_seconds: found 0, expected"), "{}", lines[5]);
    }

    #[test]
    fn what_is_expected_is_a_sentence() {
        let expected = |rest: &str| lines(format!(r#"{{"job_id": "a", "tool": "t", {rest}}}"#)).concat();
        assert_eq!(
            expected(r#""depends_on": "x""#),
            r#"f:1:44: /depends_on: found "x", expected an array or null"#
        );
        let values = expected(r#""on_crash": "x""#);
        assert!(values.contains("expected one of \"requeue\", \"quarantine\""), "{values}");
    }

    #[test]
    fn what_is_not_a_json_text_is_named_as_what_it_is() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "the file is empty"),
            (b"\0\0\0", "the file is empty"),
            (b" \n", "the file is empty"),
            (b"\xFF\xFEa\0", "UTF-16"),
            (b"{\"job_id\": \"\xE4\"}", "f:1:13: the file is not UTF-8"),
            (b"{\"job_id\": \"a\", \"tool\": ", "ends too early"),
            (b"{\"job_id\": \"a\",}", "f:1:16: not JSON: trailing comma"),
            (b"{\"job_id\": \"a\"} x", "f:1:17: not JSON: trailing characters"),
        ];
        for (text, want) in cases {
            let lines = lines(text);
            assert!(lines.len() == 1 && lines[0].contains(want), "{lines:?} for {want}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(parse_job(b"\xEF\xBB\xBF{\"job_id\": \"a\", \"tool\": \"t\"}", "f").is_ok());
    }

    #[test]
    fn ten_thousand_levels_are_refused_without_a_stack_overflow() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(lines(deep)[0].contains("nested too deeply"));
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_place() {
        let lines = lines("{\"job_id\": \"a\", \"tool\": \"t\",\n \"env\": {\"A\": \"1\", \"A\": \"2\"}}");
        assert_eq!(lines, ["f:2:20: /env/A: duplicate key"]);
    }

    #[test]
    fn annotations_are_ignored_and_other_unknown_keys_are_not() {
        let ok = br#"{"$schema": 1, "doc_id": "D", "_comment1": [], "x-a": {}, "job_id": "a", "tool": "t",
            "command": {"exe": "x", "_comment": ""}, "stdin": {"text": "", "x-b": 1},
            "env": {"A": {"from_env": "B", "_comment": "c"}}}"#;
        parse_job(ok, "f").unwrap();
        assert_eq!(lines(r#"{"job_id": "a", "tool": "t", "comment": 1}"#).len(), 1);
    }

    #[test]
    fn a_job_that_depends_on_itself_is_refused() {
        assert!(
            lines(r#"{"job_id": "a", "tool": "t", "depends_on": ["b", "a"]}"#)[0].contains("/depends_on/1")
        );
    }

    #[test]
    fn a_key_of_metadata_that_is_almost_a_known_one_is_warned_of() {
        let text = r#"{"job_id": "a", "tool": "t", "metadata": {"timeout": 1, "max_retry": 1, "max_retrys": 2, "max_token": 3, "max_cost": 1, "fallback-on": [], "mine": 3}}"#;
        let parsed = parse_job(text.as_bytes(), "f").unwrap();
        assert_eq!(warnings_beside_errors(text.as_bytes()), parsed.likely_typos);
        let pointers: Vec<&str> =
            parsed.likely_typos.iter().map(|warning| warning.pointer.as_str()).collect();
        let typos = ["fallback-on", "max_cost", "max_retry", "max_retrys", "max_token", "timeout"];
        assert_eq!(pointers, typos.map(|key| format!("/metadata/{key}")));
    }

    #[test]
    fn a_secret_in_plain_is_warned_of_by_its_place_and_never_by_its_value() {
        let text = "{\"job_id\": \"a\", \"tool\": \"t\", \"env\": {\n  \"A/TOKEN\": \"hunter22\", \"KEYBOARD\": \"hunter22\",\n  \
                    \"KEY\": {\"from_env\": \"K\"}, \"MY_KEY\": \"hunter2\", \"DB_URL\": \"x://u:hunter22@h\", \"MY_URL\": \"x://u:hunter2@h\"}}";
        let parsed = parse_job(text.as_bytes(), "f").unwrap();
        let found: Vec<_> = parsed.warnings.iter().map(|w| (w.pointer.as_str(), w.line, w.column)).collect();
        assert_eq!(found, [("/env/A~1TOKEN", 2, 14), ("/env/DB_URL", 3, 60)]);
        let shown = format!("{:?}{}", parsed.warnings, parsed.warnings[0]);
        assert!(
            shown.contains("{\"from_env\": \"A/TOKEN\"} keeps it out") && !shown.contains("hunter"),
            "{shown}"
        );
    }

    #[test]
    fn a_secret_in_plain_is_warned_of_in_a_historical_file_too() {
        let text = HISTORICAL.replace(r#""env": {}"#, r#""env": {"MY_TOKEN": "hunter22"}"#);
        let parsed = parse_job(text.as_bytes(), "f").unwrap();
        assert_eq!(parsed.warnings.last().unwrap().pointer, "/env/MY_TOKEN");
        assert_eq!(parsed.warnings.len(), 5);
    }

    #[test]
    fn prompt_and_message_file_exclude_each_other() {
        let text = r#"{"job_id": "a", "tool": "t", "metadata": {"prompt": "p", "message_file": "f"}}"#;
        assert!(lines(text)[0].contains("exclude each other"));
    }

    const HISTORICAL: &str = r#"{"job_id": "job-2025-11-20-001", "workstream_id": "", "tool": "mechanical",
        "command": {"exe": "", "args": [], "shell": true}, "env": {}, "priority": 7,
        "paths": {"repo_root": "C:/x", "working_dir": "", "log_file": "", "error_report": "", "extra": 1},
        "metadata": {"retry_policy": "escalate_to_codex", "prompt": 1}}"#;

    #[test]
    fn in_a_historical_file_what_it_could_not_know_is_a_warning() {
        let parsed = parse_job(HISTORICAL.as_bytes(), "f").unwrap();
        let pointers: Vec<&str> = parsed.warnings.iter().map(|w| w.pointer.as_str()).collect();
        assert_eq!(pointers, ["/command/shell", "/priority", "/paths/extra", "/metadata/prompt"]);
        assert_eq!(parsed.job.max_retries(), 3);
        assert_eq!(parsed.job.priority, None);
    }

    #[test]
    fn the_same_keys_are_errors_in_a_file_that_is_not_historical() {
        let text = HISTORICAL.replace("job-2025-11-20-001", "other");
        assert_eq!(lines(text).len(), 4);
    }

    #[test]
    fn a_log_smaller_than_the_smallest_is_warned_of_and_valid() {
        let warnings = |bytes: &str| {
            let text =
                format!("{{\"job_id\": \"a\", \"tool\": \"t\",\n \"limits\": {{\"log_bytes\": {bytes}}}}}");
            let warnings = parse_job(text.as_bytes(), "f").unwrap().warnings;
            warnings.iter().map(|w| format!("{}:{}: {w}", w.line, w.column)).collect::<Vec<_>>()
        };
        for bytes in ["0", "1", "4095", "4095.0"] {
            assert_eq!(
                warnings(bytes),
                ["2:26: /limits/log_bytes: a log keeps at least 4096 bytes"],
                "{bytes}"
            );
        }
        assert_eq!(warnings("4096"), [""; 0]);
    }

    #[test]
    fn a_time_that_is_none_is_refused_by_types_and_schema_alike() {
        let text = r#"{"job_id": "a", "tool": "t", "not_before": "2026-13-01T00:00:00Z"}"#;
        assert!(lines(text)[0].contains("/not_before: found"), "{:?}", lines(text));
    }
}
