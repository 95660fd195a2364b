//! The bytes of one line of a record.
//!
//! Responsible for what a line keeps from the one before, and for what it gives up to fit. Not responsible for writing it
//! (see `lease`). Hard rule: no line is longer than readers reach.

use std::path::Path;

use serde_json::Value;

use super::{Result, StoreError, json_line};
use crate::job::record::{RecordLine, overlay};
use crate::job::result::shorten;

/// Longest line of a record, its newline included; that much is reserved while an attempt is open.
pub(super) const MAX_LINE: usize = 64 << 10;

/// A line as bytes of at most `MAX_LINE`; what does not fit is cut, the largest free texts first.
///
/// Keys of a newer program in the line before are carried on, but not into a line that is cut.
pub(super) fn encode(path: &Path, carried: &Value, line: &mut RecordLine) -> Result<Vec<u8>> {
    let mut bytes = json_line(path, line)?;
    if !carried.is_null() {
        let typed = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        bytes = json_line(path, &overlay(carried.clone(), typed))?;
    }
    for cut in CUTS {
        if bytes.len() <= MAX_LINE {
            break;
        }
        cut(line);
        bytes = json_line(path, line)?;
    }
    if bytes.len() > MAX_LINE {
        let problem = format!("its next line has {} bytes; the limit is {MAX_LINE}", bytes.len());
        return Err(StoreError::Unreadable { path: path.to_path_buf(), problem });
    }
    Ok(bytes)
}

/// By this key dependants are judged: it is never given up.
const ESCALATED_TO: &str = "escalated_to";

/// The parts that are given up, in this order, until a line fits.
const CUTS: [fn(&mut RecordLine); 6] = [
    |line| shorten_texts(line, 8 << 10),
    |line| shorten_texts(line, 1 << 10),
    |line| {
        if let Some(result) = &mut line.result {
            result.metadata.retain(|key, value| key == ESCALATED_TO || value.to_string().len() <= 2048);
        }
    },
    RecordLine::fold_old_attempts,
    |line| {
        shorten_texts(line, 100);
        if let Some(result) = &mut line.result {
            result.metadata.retain(|key, _| key == ESCALATED_TO);
        }
        line.job.depends_on.clear();
        line.job.run_id = line.job.run_id.as_deref().map(|text| text.chars().take(200).collect());
        line.job.workstream_id = line.job.workstream_id.as_deref().map(|t| t.chars().take(200).collect());
        line.job.key = line.job.key.as_deref().map(|text| text.chars().take(200).collect());
    },
    shorten_all,
];

/// Shortens every text that is left, whichever field it is in: a line whose beginning readers do not reach makes the record
/// unreadable.
fn shorten_all(line: &mut RecordLine) {
    let paths = line.attempts.iter_mut().map(|attempt| &mut attempt.log_path);
    let result =
        line.result.iter_mut().flat_map(|result| [&mut result.log_path, &mut result.error_report_path]);
    let report = line.error_report.iter_mut().map(|report| &mut report.log_path);
    for path in paths.chain(result).chain(report) {
        // A part of a path leads nowhere.
        path.take_if(|path| path.len() > LONGEST_TEXT);
    }
    line.attempts.iter_mut().for_each(|attempt| attempt.dependencies.clear());
    let mut value = serde_json::to_value(&*line).unwrap_or(Value::Null);
    shorten_values(&mut value);
    if let Ok(short) = serde_json::from_value(value) {
        *line = short;
    }
}

/// Ids are shorter.
const LONGEST_TEXT: usize = 300;

fn shorten_values(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT => *text = shorten(text, 200),
        Value::Array(values) => values.iter_mut().for_each(shorten_values),
        Value::Object(map) => map.values_mut().for_each(shorten_values),
        _ => {}
    }
}

fn shorten_texts(line: &mut RecordLine, longest: usize) {
    let shorten = |text: &mut String| {
        if text.len() > longest {
            *text = shorten(text, longest);
        }
    };
    if let Some(result) = &mut line.result {
        result.stdout_truncated |= result.stdout.len() > longest;
        result.stderr_truncated |= result.stderr.len() > longest;
        shorten(&mut result.stdout);
        shorten(&mut result.stderr);
        if let Some(reason) = &mut result.reason {
            shorten(&mut reason.message);
        }
    }
    if let Some(report) = &mut line.error_report {
        let mut room = longest;
        report.details.retain(|detail| {
            room = room.saturating_sub(detail.len());
            room > 0
        });
        shorten(&mut report.summary);
        if report.test_results.as_ref().is_some_and(|value| value.to_string().len() > longest) {
            report.test_results = None;
        }
    }
    for attempt in &mut line.attempts {
        attempt.dependencies.truncate(longest / 16);
        if let Some(after) = &mut attempt.after {
            after.not_succeeded.truncate(longest / 160);
        }
        if let Some(reason) = &mut attempt.reason {
            shorten(&mut reason.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A line in which each free text is of this length.
    fn long_line(length: usize) -> RecordLine {
        let text = "\u{1}".repeat(length);
        let reason = json!({"code": text, "message": text});
        let on = json!({"job_id": "d".repeat(128), "status": "succeeded", "seq": 1});
        let attempt = json!({
            "attempt": 1, "started_at": "2026-01-01T00:00:00.000Z", "ended_at": "2026-01-01T00:00:00.000Z",
            "outcome": "lost", "reason": reason, "exit_code": 1, "signal": null, "usage": null, "log_path": text,
            "session_id": text, "work": {"origin_tree": text, "tree": text, "changed": true, "out_of_scope": true},
            "host": text, "boot_id": text, "pid_namespace": text, "pid": 1, "repeatable": true,
            "dependencies": vec![on; 1000],
        });
        let result = json!({
            "schema_version": 1, "job_id": "a", "tool": "git", "attempt": 1, "success": false, "status": "failed",
            "outcome": "failed", "reason": reason, "exit_code": 1, "signal": null, "duration_s": 1.0, "usage": null,
            "started_at": "2026-01-01T00:00:00.000Z", "finished_at": "2026-01-01T00:00:00.000Z", "stdout": text,
            "stderr": text, "log_path": text, "error_report_path": text, "metadata": {"x": text, "escalated_to": "e"},
        });
        let report = json!({
            "job_id": "a", "workstream_id": text, "tool": "git", "exit_code": 1, "outcome": "failed", "summary": text,
            "details": [text], "log_path": text, "test_results": {"x": text}, "git_command": text,
        });
        let line = json!({
            "schema_version": 1, "seq": 1, "at": "2026-01-01T00:00:00.000Z", "job_id": "a", "status": "failed",
            "place": "quarantined", "not_before": null, "life": 1, "first_attempt": 1, "attempts": vec![attempt; 3],
            "job": {"run_id": text, "workstream_id": text, "tool": "git", "key": text, "priority": null,
                "depends_on": vec!["d".repeat(128); 1000], "sha256": "0".repeat(64)},
            "former": {"lives": 0, "attempts": 0, "last_outcome": null}, "result": result, "error_report": report,
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn a_line_is_never_longer_than_it_may_be_whichever_texts_are_long() {
        for length in [10, 200, 300, 4000, 20_000] {
            let mut line = long_line(length);
            let bytes = encode(Path::new("x"), &Value::Null, &mut line).unwrap();
            assert!(bytes.len() <= MAX_LINE, "{length}: {}", bytes.len());
            let back: RecordLine = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((back.attempts.len(), back.escalated_to()), (3, Some("e")), "{length}");
            assert_eq!(serde_json::to_value(&line).unwrap(), serde_json::to_value(&back).unwrap());
        }
    }
}
