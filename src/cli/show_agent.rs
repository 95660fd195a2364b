//! What `engine show` prints about an agent's result: session, usage, changes, answer.

use serde_json::{Map, Value};

/// How many changed files are named.
const FILES: usize = 10;

/// Rows of name and text; none for a result of another tool. An answer that is in the details is not repeated.
pub(super) fn rows(metadata: &Map<String, Value>, has_details: bool) -> Vec<(&'static str, String)> {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut rows = Vec::new();
    rows.extend(text("session_id").map(|session| ("session", session)));
    rows.extend(usage(metadata).map(|usage| ("usage", usage)));
    if let Some(evidence) = metadata.get("evidence") {
        rows.extend(changes(evidence));
    }
    rows.extend(text("stream_path").map(|path| ("stream", path)));
    rows.extend(text("escalated_to").map(|id| ("handed on to", id)));
    for (key, name) in [("budget_warnings", "budget"), ("warnings", "warning")] {
        let warnings = metadata.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        rows.extend(warnings.iter().filter_map(|warning| Some((name, warning.as_str()?.to_owned()))));
    }
    let answer = text("answer").filter(|answer| !has_details && !answer.trim().is_empty());
    for (index, line) in answer.iter().flat_map(|answer| answer.trim().lines()).take(FILES).enumerate() {
        rows.push((if index == 0 { "answer" } else { "" }, line.to_owned()));
    }
    rows
}

/// Model, tokens and costs; what is not known is `?`.
fn usage(metadata: &Map<String, Value>) -> Option<String> {
    let tokens = metadata.get("tokens")?;
    let count = |key: &str| tokens.get(key).and_then(Value::as_u64).map_or("?".to_owned(), |n| n.to_string());
    let model = metadata.get("model").and_then(Value::as_str).unwrap_or("?");
    let mut text = format!("{model}: {} tokens in, {} out", count("input_tokens"), count("output_tokens"));
    let costs = [("cost_usd", "reported"), ("computed_cost_usd", "computed")];
    for (key, how) in costs {
        if let Some(cost) = metadata.get(key).and_then(Value::as_f64) {
            text.push_str(&format!(", {cost:.4} USD {how}"));
        }
    }
    Some(text)
}

fn changes(evidence: &Value) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let files = evidence.get("files").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let total = evidence.get("files_total").and_then(Value::as_u64);
    if let Some(total) = total {
        rows.push(("changed", if total == 1 { "1 file".to_owned() } else { format!("{total} files") }));
    }
    for file in files.iter().take(FILES) {
        let is_out = file.get("in_scope").and_then(Value::as_bool) == Some(false);
        let note = if is_out { ", out of scope" } else { "" };
        rows.push(("", format!("{} ({}{note})", text(file, "path"), text(file, "kind"))));
    }
    let patch = text(evidence, "patch_path");
    if !patch.is_empty() {
        rows.push(("patch", patch));
    }
    rows
}
