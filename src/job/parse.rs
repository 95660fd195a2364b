//! From bytes to a job, or to everything that is wrong with them.
//!
//! The typed parse is the gate. Only a refused document is held against the schemas, to explain it and to find
//! out whether it is valid in the historical format, where unknown keys were allowed.

use std::cell::{Cell, LazyCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::annotations;
use super::locate::{self, Locations, position};
use super::problem::{Problem, Problems};
use super::schema;
use super::secret_names::secret_part;
use super::spec::{JobFile, Limits};

/// Size above which a job file is refused unread.
pub const MAX_JOB_BYTES: u64 = 1_000_000;

/// A valid job file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The job.
    pub job: JobFile,
    /// What was ignored in it, and what should not stand in it.
    pub warnings: Vec<Problem>,
    /// Keys of `metadata` that are almost ones that mean something. The adapter may hand them to a tool that knows them.
    pub likely_typos: Vec<Problem>,
}

/// Reads a job file; `file` names it in messages.
///
/// # Errors
/// `Problems` with everything that is wrong.
pub fn parse_job(bytes: &[u8], file: &str) -> Result<Parsed, Problems> {
    let text = decode(bytes).map_err(|problem| Problems::one(file, problem))?;
    let document = document(text).map_err(|problems| Problems { file: file.to_owned(), problems })?;
    let mut stripped = document.clone();
    annotations::strip(&mut stripped);
    let parsed = match JobFile::read(&stripped) {
        Ok(job) => {
            let wrong = contradictions(&job, text);
            if wrong.is_empty() {
                let likely_typos = likely_typos(&stripped, text);
                let mut warnings = secrets_in_plain(&stripped, text);
                warnings.extend(small_log(&job, text));
                Ok(Parsed { job, warnings, likely_typos })
            } else {
                forgive(text, document, wrong)
            }
        }
        Err(error) => explain(text, document, &error.to_string()),
    };
    parsed.map_err(|problems| Problems { file: file.to_owned(), problems })
}

/// Reads only the `job_id` of a document that may be invalid otherwise.
#[must_use]
pub fn readable_job_id(bytes: &[u8]) -> Option<super::JobId> {
    let document = document(decode(bytes).ok()?).ok()?;
    super::JobId::new(document.get("job_id")?.as_str()?).ok()
}

/// What a document asks for, whatever it is called: two jobs with one key and this in common are one job. `None` for
/// what is not JSON.
#[must_use]
pub fn content(bytes: &[u8]) -> Option<Value> {
    let mut document = document(decode(bytes).ok()?).ok()?;
    document.as_object_mut()?.remove("job_id");
    Some(document)
}

/// The content of a file that a person writes, without the byte order mark that some editors put before it.
#[must_use]
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() as u64 > MAX_JOB_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Problem::at(1, 1, "the file is UTF-16").expected("UTF-8; save it again as UTF-8"));
    }
    let bytes = without_mark(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        Problem::at(line, column, "the file is not UTF-8").expected("UTF-8 text")
    })?;
    // Zeros are what a power loss makes of a file whose data was not yet written.
    if text.trim_matches(|c: char| c.is_whitespace() || c == '\0').is_empty() {
        return Err(Problem::at(1, 1, "the file is empty").expected("a JSON object").torn());
    }
    Ok(text)
}

/// The problem of a file that was refused by its size.
#[must_use]
pub fn too_large(bytes: u64) -> Problem {
    Problem::at(1, 1, format!("the file has {bytes} bytes"))
        .expected(format!("at most {MAX_JOB_BYTES}; put large input into a file and name it in `stdin`"))
}

fn document(text: &str) -> Result<Value, Vec<Problem>> {
    let repeated = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Unique { repeated: &repeated }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    let value = parsed.map_err(|error| vec![syntax(text, &error)])?;
    if !repeated.get() {
        return Ok(value);
    }
    let found = Locations::of(text);
    let problem = |(pointer, (line, column)): (String, (usize, usize))| Problem {
        pointer,
        ..Problem::at(line, column, "the key stands twice in one object")
    };
    Err(found.duplicates.into_iter().map(problem).collect())
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    // serde_json counts columns in bytes; an editor counts characters.
    let line_text = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let bytes = line_text.as_bytes().get(..error.column()).unwrap_or(line_text.as_bytes());
    let column = String::from_utf8_lossy(bytes).chars().count().max(1);
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    if error.is_eof() {
        return Problem::at(error.line(), column, "the JSON text ends too early: the file is truncated")
            .torn();
    }
    if message.contains("recursion limit") {
        return Problem::at(error.line(), column, "the JSON is nested too deeply")
            .expected("at most 127 levels");
    }
    Problem::at(error.line(), column, format!("not JSON: {message}"))
}

/// A JSON value; notes whether an object has a key twice.
struct Unique<'a> {
    repeated: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Unique { repeated: self.repeated })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Unique { repeated: self.repeated })?;
            if object.insert(key, value).is_some() {
                self.repeated.set(true);
            }
        }
        Ok(Value::Object(object))
    }
}

/// Says what is wrong with a document that the types refused, or reads it as a historical one.
fn explain(text: &str, document: Value, gate: &str) -> Result<Parsed, Vec<Problem>> {
    let places = Locations::of(text);
    let current = schema::job().map_err(|e| internal(&e))?;
    let problems = current.explain(&document, &places);
    if problems.is_empty() {
        // The types and the schema must agree; if they do not, the types win and at least say so.
        return Err(internal(&gate));
    }
    forgive(text, document, problems)
}

fn internal(error: &dyn fmt::Display) -> Vec<Problem> {
    vec![Problem::at(1, 1, error.to_string())]
}

/// Reads a document that is valid in the historical format without the keys that the problems are about.
fn forgive(text: &str, mut document: Value, mut problems: Vec<Problem>) -> Result<Parsed, Vec<Problem>> {
    let historical = schema::historical_job().map_err(|e| internal(&e))?;
    if !historical.accepts(&document) {
        return Err(problems);
    }
    annotations::strip(&mut document);
    // Once for what the schema said, and once more for a contradiction that showed only then.
    for _ in 0..2 {
        for problem in &problems {
            ignore(&mut document, &problem.pointer);
        }
        let Ok(job) = JobFile::read(&document) else { return Err(problems) };
        let wrong = contradictions(&job, text);
        if wrong.is_empty() {
            let mut warnings: Vec<Problem> = problems.into_iter().map(ignored).collect();
            warnings.extend(secrets_in_plain(&document, text));
            warnings.extend(small_log(&job, text));
            return Ok(Parsed { job, warnings, likely_typos: Vec::new() });
        }
        problems.extend(wrong);
    }
    Err(problems)
}

fn ignored(problem: Problem) -> Problem {
    Problem { message: format!("{}; it is ignored", problem.message), ..problem }
}

/// Takes the key that a problem is about out of a historically valid document: a key that the historical format
/// did not know, so that any value was allowed for it.
fn ignore(document: &mut Value, pointer: &str) {
    let mut parts = pointer.split('/').skip(1).map(locate::unescape);
    let Some(top) = parts.next() else { return };
    let Some(object) = document.as_object_mut() else { return };
    match (top.as_str(), parts.next()) {
        ("command" | "paths" | "metadata", Some(key)) => {
            if let Some(Value::Object(inner)) = object.get_mut(&top) {
                inner.remove(&key);
            }
        }
        ("metadata", None) => {
            if let Some(Value::Object(inner)) = object.get_mut("metadata") {
                inner.remove("prompt");
            }
        }
        _ => drop(object.remove(&top)),
    }
}

/// Keys of `metadata` that the engine and the built-in adapters read.
const METADATA_KEYS: [&str; 25] = [
    "allow_no_change",
    "retry_budget_seconds",
    "max_parks",
    "max_cost_usd",
    "max_tokens",
    "fallback_on",
    "escalated_from",
    "escalated_from_job",
    "timeout_seconds",
    "idle_timeout_seconds",
    "grace_seconds",
    "stop_signal",
    "keep",
    "max_retries",
    "retry_policy",
    "backoff",
    "prompt",
    "message_file",
    "files_scope",
    "junit_file",
    "test_paths",
    "git_operation",
    "function",
    "arguments",
    "model",
];

/// Any key may stand in `metadata`; one that is almost a key that means something is probably meant to be it.
fn likely_typos(document: &Value, text: &str) -> Vec<Problem> {
    // The text is scanned once for all of them, and only if there are any.
    let places = LazyCell::new(|| Locations::of(text));
    let metadata = document.get("metadata").and_then(Value::as_object);
    let keys = metadata.into_iter().flat_map(Map::keys);
    let unknown = keys.filter(|key| !METADATA_KEYS.contains(&key.as_str()));
    let likely = |key: &String| {
        let plain = key.to_lowercase().replace('-', "_");
        let likeness = |known: &str| {
            let is_part = known.strip_prefix(&plain).is_some_and(|rest| rest.starts_with('_'))
                || known.strip_suffix(&plain).is_some_and(|rest| rest.ends_with('_'));
            if is_part { 0.9 } else { strsim::normalized_damerau_levenshtein(&plain, known) }
        };
        // Those of the engine's own are never meant.
        let meant = METADATA_KEYS.into_iter().filter(|known| !known.starts_with("escalated_"));
        let likely = meant.map(|known| (likeness(known), known));
        let (_, meant) =
            likely.filter(|(likeness, _)| *likeness >= 0.7).max_by(|one, other| one.0.total_cmp(&other.0))?;
        let pointer = format!("/metadata/{}", locate::escape(key));
        let (line, column) = places.key(&pointer);
        let message = format!("`{key}` means nothing to the engine; it is ignored");
        let did_you_mean = Some(meant.to_owned());
        Some(Problem { pointer, did_you_mean, ..Problem::at(line, column, message) })
    };
    unknown.filter_map(likely).collect()
}

/// A secret of fewer bytes than this is not warned of: most such values only look like one.
const SHORTEST_WARNED_OF: usize = 8;

/// Secrets whose values stand in the job file, where everything that reads the queue sees them. The value is not repeated.
fn secrets_in_plain(document: &Value, text: &str) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::of(text));
    let env = document.get("env").and_then(Value::as_object).into_iter().flatten();
    let in_plain = env.filter(|(name, value)| {
        let secret = value.as_str().and_then(|value| secret_part(name.as_bytes(), value.as_bytes()));
        secret.is_some_and(|secret| secret.len() >= SHORTEST_WARNED_OF)
    });
    let warning = |(name, _): (&String, &Value)| {
        let pointer = format!("/env/{}", locate::escape(name));
        let (line, column) = places.value(&pointer);
        let message = format!(
            "the value looks like a secret and stands in the job file; {{\"from_env\": \"{name}\"}} keeps it out"
        );
        Problem { pointer, ..Problem::at(line, column, message) }
    };
    in_plain.map(warning).collect()
}

/// A limit of the log that is raised.
fn small_log(job: &JobFile, text: &str) -> Option<Problem> {
    let pointer = "/limits/log_bytes";
    job.limits.as_ref()?.log_bytes.filter(|bytes| bytes.get() < Limits::SMALLEST_LOG_BYTES)?;
    let (line, column) = Locations::of(text).value(pointer);
    let message = format!("a log keeps at least {} bytes", Limits::SMALLEST_LOG_BYTES);
    Some(Problem { pointer: pointer.to_owned(), ..Problem::at(line, column, message) })
}

/// What can be said of a document beside what is wrong with it: whoever mends one mends the other.
#[must_use]
pub fn warnings_beside_errors(bytes: &[u8]) -> Vec<Problem> {
    let Ok(text) = decode(bytes) else { return Vec::new() };
    let Ok(mut document) = document(text) else { return Vec::new() };
    annotations::strip(&mut document);
    let mut warnings = likely_typos(&document, text);
    warnings.extend(secrets_in_plain(&document, text));
    warnings
}

/// Warnings of keys of `metadata`, each with what is to be said of it, at their places in the file.
#[must_use]
pub fn warnings_of_metadata(bytes: &[u8], keys: Vec<(&str, String)>) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::of(decode(bytes).unwrap_or_default()));
    let warning = |(key, message): (&str, String)| {
        let pointer = format!("/metadata/{}", locate::escape(key));
        let (line, column) = places.key(&pointer);
        Problem { pointer, ..Problem::at(line, column, message) }
    };
    keys.into_iter().map(warning).collect()
}

/// Problems that have a pointer only, at their places in the file.
#[must_use]
pub fn placed(bytes: &[u8], problems: Vec<Problem>) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::of(decode(bytes).unwrap_or_default()));
    let place = |problem: Problem| {
        let (line, column) = places.value(&problem.pointer);
        Problem { line, column, ..problem }
    };
    problems.into_iter().map(place).collect()
}

/// What no schema can say: keys that contradict each other.
fn contradictions(job: &JobFile, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(index) = job.dependencies().iter().position(|id| *id == job.job_id) {
        let pointer = format!("/depends_on/{index}");
        let (line, column) = Locations::of(text).value(&pointer);
        problems.push(Problem { pointer, ..Problem::at(line, column, "the job depends on itself") });
    }
    problems
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
        assert_eq!(lines, ["f:2:20: /env/A: the key stands twice in one object"]);
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
