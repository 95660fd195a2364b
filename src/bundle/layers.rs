//! Values of settings, each with the place that it comes from, and which of several counts.
//!
//! Pure. Hard rule: no value without an origin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sourced {
    /// The value.
    pub value: Value,
    /// `flag --slots`, `PIPELINE_MAX_WORKERS`, `engine.toml`, `config/circuit_breakers.yaml:3`, `default`.
    pub from: String,
}

/// Values by their dotted keys: `limits.fixes.static`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Layer(BTreeMap<String, Sourced>);

/// The tables whose keys have origins of their own; any other table is one value.
const TABLES: [&str; 5] = ["checks", "limits", "limits.fixes", "recovery", "timeouts"];

impl Layer {
    /// The values of a document of one origin; a null is no value.
    pub(super) fn of(document: Value, from: &str) -> Self {
        let mut layer = Self::default();
        layer.add("", document, from);
        layer
    }

    fn add(&mut self, key: &str, value: Value, from: &str) {
        match value {
            Value::Null => {}
            Value::Object(table) if key.is_empty() || TABLES.contains(&key) => {
                for (name, value) in table {
                    self.add(&below(key, &name), value, from);
                }
            }
            // A count that is larger than any limit.
            Value::Number(count) if count.as_u64().is_some_and(|count| count > u64::from(u32::MAX)) => {
                self.set(key, u32::MAX, from);
            }
            value => self.set(key, value, from),
        }
    }

    /// One value.
    pub(super) fn one(key: &str, value: impl Into<Value>, from: &str) -> Self {
        let mut layer = Self::default();
        layer.set(key, value, from);
        layer
    }

    /// Sets a value, whatever was there.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>, from: impl Into<String>) {
        self.0.insert(key.to_owned(), Sourced { value: value.into(), from: from.into() });
    }

    /// Takes over what this one lacks.
    pub(super) fn fill(&mut self, lower: Self) {
        for (key, value) in lower.0 {
            self.0.entry(key).or_insert(value);
        }
    }

    /// Takes over all that another has.
    pub(super) fn overlay(&mut self, upper: Self) {
        self.0.extend(upper.0);
    }

    /// Keeps the values with some keys.
    pub(super) fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| keeps(key));
    }

    /// True if there is no value.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys with their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Sourced)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A value with its origin.
    #[must_use]
    pub(crate) fn get(&self, key: &str) -> Option<&Sourced> {
        self.0.get(key)
    }

    /// The values as nested tables.
    #[must_use]
    pub(super) fn tree(&self) -> Value {
        let mut tree = Map::new();
        for (key, sourced) in &self.0 {
            let mut table = &mut tree;
            let mut names = key.split('.').peekable();
            while let Some(name) = names.next() {
                if names.peek().is_none() {
                    table.insert(name.to_owned(), sourced.value.clone());
                    break;
                }
                let inner = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(inner) = inner else { break };
                table = inner;
            }
        }
        Value::Object(tree)
    }
}

fn below(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_higher_layer_counts_value_by_value() {
        let of = |value, from| Layer::of(value, from);
        let mut layer = of(json!({ "tool": null, "limits": { "fixes": { "static": 1 } } }), "flag --x");
        layer.fill(of(
            json!({ "tool": "codex", "limits": { "fixes": { "static": 2, "runtime": 2 } } }),
            "engine.toml",
        ));
        layer.fill(of(json!({ "tool": "aider", "patch": { "a": 1 }, "limits": { "window": 5 } }), "default"));
        let tree = json!({
            "tool": "codex", "patch": { "a": 1 }, "limits": { "fixes": { "static": 1, "runtime": 2 }, "window": 5 },
        });
        assert_eq!(layer.tree(), tree);
        let from = |key| layer.get(key).map(|sourced| sourced.from.as_str());
        assert_eq!(from("limits.fixes.static"), Some("flag --x"));
        assert_eq!(from("limits.fixes.runtime"), Some("engine.toml"));
        assert_eq!((from("patch"), from("limits"), from("patch.a")), (Some("default"), None, None));
    }

    #[test]
    fn an_overlay_counts_as_far_as_it_is_kept() {
        let mut layer = Layer::of(json!({ "tool": "a", "recovery": { "retries": 1 } }), "flag --tool");
        let mut upper = Layer::of(json!({ "tool": "b", "recovery": { "retries": 3 } }), "bundle");
        upper.retain(|key| key != "tool");
        layer.overlay(upper);
        assert_eq!(layer.tree(), json!({ "tool": "a", "recovery": { "retries": 3 } }));
    }
}
