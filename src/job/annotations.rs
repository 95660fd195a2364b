//! Keys that a reader keeps and ignores: `$schema`, `doc_id`, and whatever begins with `_comment` or `x-`.

use serde_json::{Map, Value};

/// True if the key is an annotation wherever the engine names the keys (not in `env` and `metadata`).
#[must_use]
pub fn is_annotation(key: &str) -> bool {
    key == "$schema" || key == "doc_id" || key.starts_with("_comment") || key.starts_with("x-")
}

/// Takes the annotations out of a job document, so that the typed parse can refuse every other unknown key.
pub fn strip(document: &mut Value) {
    let Some(top) = document.as_object_mut() else { return };
    strip_object(top);
    for key in ["command", "paths", "limits", "stdin"] {
        if let Some(Value::Object(object)) = top.get_mut(key) {
            strip_object(object);
        }
    }
    if let Some(Value::Object(env)) = top.get_mut("env") {
        for value in env.values_mut() {
            if let Value::Object(object) = value {
                strip_object(object);
            }
        }
    }
    if let Some(Value::Object(backoff)) = top.get_mut("metadata").and_then(|m| m.get_mut("backoff")) {
        strip_object(backoff);
    }
}

fn strip_object(object: &mut Map<String, Value>) {
    // Most files have none: look before rebuilding.
    if object.keys().any(|key| is_annotation(key)) {
        object.retain(|key, _| !is_annotation(key));
    }
}
