//! Small questions to a JSON event of which nothing is certain.

use serde_json::Value;

/// The text at a path of keys; empty if there is none.
#[must_use]
pub fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a path of keys, if there is one that is not empty.
#[must_use]
pub fn name(value: &Value, path: &[&str]) -> Option<String> {
    Some(text(value, path)).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The value at a path of keys.
#[must_use]
pub fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// The whole number at a path of keys.
#[must_use]
pub fn number(value: &Value, path: &[&str]) -> Option<u64> {
    at(value, path).and_then(Value::as_u64)
}

/// The list at a path of keys; empty if there is none.
#[must_use]
pub fn list<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A line that should be an event: an object.
#[must_use]
pub fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(Value::is_object)
}

/// The first line of a text, at most 200 characters of it: for the log.
#[must_use]
pub fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(200).collect();
    if short.len() < text.trim().len() {
        short.push_str(" ...");
    }
    short
}
