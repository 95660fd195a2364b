//! Where a job file belongs, as a record line names it.
//!
//! Not responsible for paths of a root. Hard rule: a place from a record never leads out of `jobs/`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::state::Directory;
use crate::clock::Timestamp;

/// Where a job file belongs: a directory of the queue, for `done/` with its day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `jobs/queued/`
    Queued,
    /// `jobs/running/`
    Running,
    /// `jobs/quarantined/`
    Quarantined,
    /// `jobs/done/<day>/`
    Done(String),
}

impl Place {
    /// The place of a directory; the day counts only for `done/`.
    #[must_use]
    pub fn for_directory(directory: Directory, now: Timestamp) -> Self {
        match directory {
            Directory::Queued => Self::Queued,
            Directory::Running => Self::Running,
            Directory::Quarantined => Self::Quarantined,
            Directory::Done => Self::Done(now.day()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "queued" => Some(Self::Queued),
            "running" => Some(Self::Running),
            "quarantined" => Some(Self::Quarantined),
            _ => {
                let day = text.strip_prefix("done/")?;
                is_day(day).then(|| Self::Done(day.to_owned()))
            }
        }
    }
}

/// True for `YYYY-MM-DD`.
#[must_use]
pub fn is_day(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued => f.write_str("queued"),
            Self::Running => f.write_str("running"),
            Self::Quarantined => f.write_str("quarantined"),
            Self::Done(day) => write!(f, "done/{day}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a place"))
    }
}

impl JsonSchema for Place {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Place".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(queued|running|quarantined|done/[0-9]{4}-[0-9]{2}-[0-9]{2})$",
            "description": "where the job file belongs, below jobs/",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_the_path_below_jobs() {
        for text in ["queued", "running", "quarantined", "done/2026-11-21"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in ["done", "done/", "done/..", "done/2026-11-2x", "../queued"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
