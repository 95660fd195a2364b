//! The error report of a failed attempt, its redaction, and the warnings of a result.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::Workplace;
use super::end::{AttemptEnd, Details};
use super::paths;
use crate::adapter::{self, Manifest, honored};
use crate::job::{ErrorReport, JobFile, JobResult, Reason};
use crate::process::redact::Secrets;

/// Takes secrets out of every text of a document: a report in a file did not pass the redaction of the streams.
pub(super) fn redact(secrets: &Secrets, object: &mut Map<String, Value>) {
    fn value(secrets: &Secrets, document: &mut Value) {
        match document {
            Value::String(text) => *text = secrets.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| value(secrets, item)),
            Value::Object(object) => redact(secrets, object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    *object = std::mem::take(object)
        .into_iter()
        .map(|(key, mut item)| {
            value(secrets, &mut item);
            (secrets.redact(&key), item)
        })
        .collect();
}

/// Adds to what a result warns of.
pub(super) fn warn(metadata: &mut Map<String, Value>, messages: impl IntoIterator<Item = String>) {
    let warnings = metadata.entry("warnings").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(warnings) = warnings {
        warnings.extend(messages.into_iter().map(Value::String));
    }
}

/// Notes which keys of the job had no effect: only the submitter saw the warning on a terminal, if at all.
pub(super) fn note_without_effect(
    place: &Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    result: &mut JobResult,
) {
    let without = honored::without_effect(job, |tool| match *tool == job.tool {
        true => Some(Rc::new(manifest.clone())),
        false => adapter::find(place.store, tool).ok().flatten().map(Rc::new),
    });
    if !without.is_empty() {
        warn(&mut result.metadata, without.into_iter().map(|without| without.message));
    }
}

/// Writes the error report, and puts it into the end of the attempt.
pub(super) fn write_report(place: &Workplace<'_>, job: &JobFile, end: &mut AttemptEnd, details: Details) {
    let result = &mut end.result;
    let summary = result.reason.as_ref().map_or_else(|| result.outcome.to_string(), |r| r.message.clone());
    let report = ErrorReport {
        job_id: job.job_id.clone(),
        workstream_id: job.workstream_id.clone(),
        tool: Some(job.tool.clone()),
        exit_code: result.exit_code,
        outcome: result.outcome,
        summary,
        details: details.lines,
        log_path: result.log_path.clone(),
        test_results: details.test_results,
        git_command: details.git_command,
    };
    match report_file(place, job, result.attempt, &report) {
        Ok(path) => result.error_report_path = Some(path.to_string_lossy().into_owned()),
        // The record has it too.
        Err(reason) => tracing::warn!(code = %reason.code, reason.message, "error report not written"),
    }
    end.error_report = Some(report);
}

fn report_file(
    place: &Workplace<'_>,
    job: &JobFile,
    number: u32,
    report: &ErrorReport,
) -> Result<PathBuf, Reason> {
    let default = format!("{}.{number}.error.json", job.job_id);
    let given = job.paths.error_report.as_deref();
    let by_default = || paths::target(place.store, Path::new("/"), "error_report", None, &default);
    // A job that could not start for its directories has its report at the default place.
    let target = match paths::directories(place.store.project_dir(), job) {
        Ok(found) => paths::target(place.store, &found.repo_root, "error_report", given, &default),
        Err(_) => by_default(),
    }
    .or_else(|_| by_default())?;
    // Two outputs in one file would be none.
    let is_log = report.log_path.as_ref().is_some_and(|log| target.path() == Path::new(log));
    let target = if is_log { by_default()? } else { target };
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    target.write_report(number, &text)
}
