//! Names that become file names: job ids, tool ids, lock names.
//!
//! Hard rule: whatever is in one of these types can be put into a path.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;

/// A text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a valid {what}: expected {expected}")]
pub struct BadName {
    shown: String,
    what: &'static str,
    expected: &'static str,
}

const EXPECTED_ID: &str = "1 to 128 characters A-Z a-z 0-9 . _ -, the first a letter or digit";
const EXPECTED_RUN: &str =
    "1 to 48 characters A-Z a-z 0-9 _ -, the first a letter or digit; `last` names the newest run";
const EXPECTED_TOOL: &str = "1 to 64 characters A-Z a-z 0-9 . _ -, the first a letter or digit";
const EXPECTED_LOCK: &str = "a name of 1 to 64 characters A-Z a-z 0-9 . _ -, or name:N with N from 1 to 9999";

fn is_name(text: &str, longest: usize) -> bool {
    let first = text.bytes().next();
    text.len() <= longest
        && first.is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn bad(text: &str, what: &'static str, expected: &'static str) -> BadName {
    BadName { shown: text.chars().take(80).flat_map(char::escape_debug).collect(), what, expected }
}

/// Without a dot: the first dot of a job id ends the id of its run.
fn is_run_id(text: &str) -> bool {
    is_name(text, 48) && !text.contains('.') && text != RunId::LAST
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $is_valid:expr, $expected:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// `BadName` with what was expected.
            pub fn new(text: &str) -> Result<Self, BadName> {
                if $is_valid(text) { Ok(Self(text.to_owned())) } else { Err(bad(text, $what, $expected)) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "x-expected": $expected })
            }
        }
    };
}

name_type!(
    /// The name of a job, unique in a root; ids that differ by case are two ids.
    JobId, "job id", |text| is_name(text, 128), EXPECTED_ID, "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
);
name_type!(
    /// The name of an adapter.
    ToolId, "tool name", |text| is_name(text, 64), EXPECTED_TOOL, "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
);
name_type!(
    /// The name of a run; the ids of its jobs begin with it and a dot.
    RunId, "run id", is_run_id, EXPECTED_RUN, "^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$"
);

impl RunId {
    /// What names the newest run on a command line.
    pub const LAST: &str = "last";

    /// The id of a run that is made now; `chance` tells those of one second apart.
    #[must_use]
    pub fn made_at(now: Timestamp, chance: u16) -> Self {
        let digits: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
        let (day, time) = digits.split_at_checked(8).unwrap_or((&digits, ""));
        Self(format!("r-{day}-{time}-{chance:04x}"))
    }

    /// The run that a job id belongs to by its form.
    #[must_use]
    pub fn of_job(id: &JobId) -> Option<Self> {
        Self::new(id.as_str().split_once('.')?.0).ok()
    }

    /// The job of a workstream.
    ///
    /// # Errors
    /// `BadName` where the id would be too long or the name of the workstream has another form.
    pub fn job_of(&self, workstream: &str) -> Result<JobId, BadName> {
        JobId::new(&format!("{self}.{workstream}"))
    }
}

/// The file name of an executable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramName(String);

const EXPECTED_PROGRAM: &str = "the file name of a program: 1 to 255 bytes, no `/` and no NUL";

impl ProgramName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ProgramName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.is_empty() || text.len() > 255 || text.contains(['/', '\0']) {
            true => Err(serde::de::Error::custom(bad(&text, "program name", EXPECTED_PROGRAM))),
            false => Ok(Self(text)),
        }
    }
}

impl JsonSchema for ProgramName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProgramName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^/\\x00]{1,255}$", "x-expected": EXPECTED_PROGRAM })
    }
}

/// A named lock as a job asks for it: `gpu` (one holder) or `db:3` (three slots).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockName {
    /// The name without the number.
    pub name: String,
    /// How many may hold it at once.
    pub slots: u32,
}

impl LockName {
    /// The name of the slots that all workers of a root share; no job can name it.
    pub const OF_THE_ROOT: &str = ".slots";

    /// The slots that all workers of a root share.
    #[must_use]
    pub fn of_the_root(slots: u32) -> Self {
        Self { name: Self::OF_THE_ROOT.to_owned(), slots }
    }

    /// Reads `name` or `name:N`.
    ///
    /// # Errors
    /// `BadName` with what was expected.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let (name, slots) = match text.split_once(':') {
            None => (text, Some(1)),
            Some((name, number)) => (name, slots(number)),
        };
        match slots {
            Some(slots) if is_name(name, 64) => Ok(Self { name: name.to_owned(), slots }),
            _ => Err(bad(text, "lock", EXPECTED_LOCK)),
        }
    }
}

fn slots(text: &str) -> Option<u32> {
    let plain = text.len() <= 4 && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

impl<'de> Deserialize<'de> for LockName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for LockName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LockName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[1-9][0-9]{0,3})?$",
            "x-expected": EXPECTED_LOCK,
        })
    }
}

impl ToolId {
    /// Stands for the adapter of a job whose file could not be read.
    #[must_use]
    pub(crate) fn unknown() -> Self {
        Self("unknown".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for text in ["", ".", "..", ".a", "-a", "_a", "a/b", "a\0", "a b", "ä", "a\n", &"a".repeat(129)] {
            assert!(JobId::new(text).is_err(), "{text:?}");
        }
        for text in ["a", "A.b-c_9", "0", &"a".repeat(128)] {
            assert!(JobId::new(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn the_id_of_a_run_ends_at_the_first_dot_of_a_job_id() {
        for text in ["", "a.b", "_a", "-a", "last", "a b", &"a".repeat(49)] {
            assert!(RunId::new(text).is_err(), "{text:?}");
        }
        let made = RunId::made_at(Timestamp::from_millis(1_796_083_200_123), 0xab);
        assert_eq!(made.as_str(), "r-20261201-000000-00ab");
        let job = made.job_of("ws-x").unwrap();
        assert_eq!((job.as_str(), RunId::of_job(&job)), ("r-20261201-000000-00ab.ws-x", Some(made)));
        assert_eq!(RunId::of_job(&JobId::new("alone").unwrap()), None);
    }

    #[test]
    fn a_lock_has_one_slot_unless_it_says_how_many() {
        let of = |text| LockName::parse(text).map(|l| (l.name, l.slots));
        assert_eq!(of("gpu"), Ok(("gpu".to_owned(), 1)));
        assert_eq!(of("db:3"), Ok(("db".to_owned(), 3)));
        for text in ["", ":3", "db:", "db:0", "db:03", "db:10000", "db:+1", "db:1:2"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
