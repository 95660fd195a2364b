//! What no schema can say of a document: keys that contradict each other, and valid ones that are worth a warning.
//!
//! Not responsible for the shape of a document. Hard rule: no value that may be secret is repeated.

use std::cell::LazyCell;

use serde_json::{Map, Value};

use super::locate::{self, Locations};
use super::problem::Problem;
use crate::job::JobId;
use crate::job::secret_names::secret_part;
use crate::job::spec::{JobFile, Limits};

/// Keys that contradict each other.
pub(super) fn contradictions(job: &JobFile, text: &str) -> Vec<Problem> {
    let itself = |ids: &[JobId]| ids.iter().position(|id| *id == job.job_id);
    let mut wrong: Vec<(String, &str)> = Vec::new();
    let on_itself = itself(job.dependencies());
    wrong.extend(on_itself.map(|index| (format!("/depends_on/{index}"), "the job depends on itself")));
    let after_itself = itself(job.comes_after());
    wrong.extend(after_itself.map(|index| (format!("/after/{index}"), "the job comes after itself")));
    if job.parent.as_ref() == Some(&job.job_id) {
        wrong.push(("/parent".to_owned(), "the job is a part of itself"));
    }
    if job.parent.is_some() && job.escalates_to().is_some() {
        wrong.push(("/metadata/retry_policy".to_owned(), "a job with a `parent` is not handed on"));
    }
    if wrong.is_empty() {
        return Vec::new();
    }
    let places = Locations::scan(text);
    wrong.into_iter().map(|(pointer, message)| Problem::of_value(&places, pointer, message)).collect()
}

/// Warnings of valid job files.
pub(super) fn warnings(job: &JobFile, document: &Value, text: &str) -> Vec<Problem> {
    let mut warnings = secrets_in_plain(document, text);
    warnings.extend(small_log(job, text));
    warnings
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

/// Any key is allowed in `metadata`; one that is almost a key that means something is probably meant to be it.
pub(super) fn likely_typos(document: &Value, text: &str) -> Vec<Problem> {
    // The text is scanned once for all of them, and only if there are any.
    let places = LazyCell::new(|| Locations::scan(text));
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
        let message = format!("`{key}` has no meaning to the engine; it is ignored");
        let problem = Problem::of_key(&places, format!("/metadata/{}", locate::escape(key)), message);
        Some(Problem { did_you_mean: Some(meant.to_owned()), ..problem })
    };
    unknown.filter_map(likely).collect()
}

/// A secret of fewer bytes than this is not warned of: most such values only look like one.
const SHORTEST_WARNED_OF: usize = 8;

/// Secrets whose values are in the job file, where everything that reads the queue sees them. The value is not repeated.
pub(super) fn secrets_in_plain(document: &Value, text: &str) -> Vec<Problem> {
    let places = LazyCell::new(|| Locations::scan(text));
    let env = document.get("env").and_then(Value::as_object).into_iter().flatten();
    let in_plain = env.filter(|(name, value)| {
        let secret = value.as_str().and_then(|value| secret_part(name.as_bytes(), value.as_bytes()));
        secret.is_some_and(|secret| secret.len() >= SHORTEST_WARNED_OF)
    });
    let warning = |(name, _): (&String, &Value)| {
        let message = format!(
            "the value looks like a secret and is in the job file; {{\"from_env\": \"{name}\"}} keeps it out"
        );
        Problem::of_value(&places, format!("/env/{}", locate::escape(name)), message)
    };
    in_plain.map(warning).collect()
}

/// A limit of the log that is raised.
fn small_log(job: &JobFile, text: &str) -> Option<Problem> {
    job.limits.as_ref()?.log_bytes.filter(|bytes| bytes.get() < Limits::SMALLEST_LOG_BYTES)?;
    let message = format!("a log keeps at least {} bytes", Limits::SMALLEST_LOG_BYTES);
    Some(Problem::of_value(&Locations::scan(text), "/limits/log_bytes", message))
}
