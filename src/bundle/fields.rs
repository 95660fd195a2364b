//! The small types of a bundle, and readers that take exactly what the schema allows.
//!
//! A derived reader takes null for an absent value, and an array of its values for an object. The original schema refuses both,
//! and so do these. Hard rule: what one of these reads, the generated schema accepts.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::job::number::Count;
use crate::job::spec::strict::{object, word};

/// The id of a bundle. It is a part of job ids, of branch names and of directory names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct WorkstreamId(String);

/// The longest id, so that a job id of run, workstream and step stays within its limit.
const LONGEST_ID: usize = 64;

const EXPECTED_ID: &str = "ws- and then a-z 0-9 -, at most 64 characters in all";

impl WorkstreamId {
    /// Checks a text.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("ws-").filter(|rest| !rest.is_empty() && text.len() <= LONGEST_ID)?;
        let plain = rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WorkstreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom(format!("expected {EXPECTED_ID}")))
    }
}

impl JsonSchema for WorkstreamId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkstreamId".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^ws-[a-z0-9-]+$", "maxLength": LONGEST_ID, "x-expected": EXPECTED_ID,
        })
    }
}

/// The issue that a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Issue {
    /// Its number.
    Number(Number),
    /// Its name, or its address.
    Text(String),
}

struct IssueVisitor;

impl Visitor<'_> for IssueVisitor {
    type Value = Issue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a string")
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Issue, E> {
        Ok(Issue::Number(value.into()))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Issue, E> {
        Ok(Issue::Number(value.into()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Issue, E> {
        let whole = Number::from_f64(value).filter(|_| value.fract() == 0.0);
        whole.map(Issue::Number).ok_or_else(|| E::custom("expected an integer or a string"))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Issue, E> {
        Ok(Issue::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Issue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IssueVisitor)
    }
}

impl Serialize for Issue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

impl JsonSchema for Issue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Issue".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"] })
    }
}

/// The open object `metadata`: everything as it was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct BundleMetadata(pub(super) Map<String, Value>);

/// The keys of `metadata` that decide a verdict.
pub(super) const FLAGS: [&str; 2] = ["allow_no_change", "allow_test_removal"];

impl BundleMetadata {
    /// True if a flag is set.
    pub(super) fn is_set(&self, flag: &str) -> bool {
        self.0.get(flag) == Some(&Value::Bool(true))
    }
}

impl<'de> Deserialize<'de> for BundleMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Map::deserialize(deserializer)?;
        match FLAGS.into_iter().find(|flag| all.get(*flag).is_some_and(|value| !value.is_boolean())) {
            Some(flag) => Err(de::Error::custom(format!("expected true or false for `{flag}`"))),
            None => Ok(Self(all)),
        }
    }
}

impl JsonSchema for BundleMetadata {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BundleMetadata".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "allow_no_change": {
                    "description": "True if the workstream may succeed without a change.",
                    "type": "boolean",
                },
                "allow_test_removal": {
                    "description": "True if tests may vanish.",
                    "type": "boolean",
                },
            },
        })
    }
}

/// Reads a value that is not null.
pub(super) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a word that is not null.
pub(super) fn some_word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    word(deserializer).map(Some)
}

/// Reads an object that is not null.
pub(super) fn some_object<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

/// Reads a list of objects.
pub(super) fn objects<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    objects.into_iter().map(T::deserialize).collect::<Result<_, _>>().map_err(de::Error::custom)
}

/// Reads a list of one item at least.
pub(super) fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let items = Vec::deserialize(deserializer)?;
    if items.is_empty() { Err(de::Error::custom("expected one item at least")) } else { Ok(items) }
}

/// Reads a number within bounds.
pub(super) fn count<'de, const LEAST: u64, const MOST: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Count, D::Error> {
    let count = Count::deserialize(deserializer)?;
    match (LEAST..=MOST).contains(&count.get()) {
        true => Ok(count),
        false => Err(de::Error::custom(format!("expected an integer from {LEAST} to {MOST}"))),
    }
}

/// Reads a number within bounds that is not null.
pub(super) fn some_count<'de, const LEAST: u64, const MOST: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Count>, D::Error> {
    count::<LEAST, MOST, D>(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_part_of_names_and_not_too_long() {
        let longest = format!("ws-{}", "a".repeat(61));
        for text in ["ws-a", "ws--", "ws-0-b", &longest] {
            assert_eq!(WorkstreamId::new(text).unwrap().as_str(), text);
        }
        for text in
            ["", "ws", "ws-", "WS-a", "ws-A", "ws-a.b", "ws-a/b", "ws-ä", "ws-a\n", &format!("{longest}a")]
        {
            assert_eq!(WorkstreamId::new(text), None, "{text:?}");
        }
    }
}
