//! The job file: what a person or a program asks for.
//!
//! The types are the gate: a document that they read is valid. `schema.rs` makes the JSON Schema from them, which
//! only explains. A key that is added here is optional, for the historical format stays valid.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::{JobId, LockName, ToolId};
use super::number::Count;
use crate::clock::Timestamp;

mod metadata;
pub(crate) mod strict;

pub use metadata::{Backoff, FallbackOn, KnownMetadata, Metadata, RetryPolicy, StopSignal, Strategy};
use strict::{EXPECTED_NAMES, MOST_NAMES, few_names, object, optional_object, optional_word};

/// One action: which tool runs where, with which input, limits and consequences.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "engine job file")]
pub struct JobFile {
    /// The version of this format; 1.
    #[serde(default)]
    pub schema_version: Option<FormatVersion>,
    /// The name of the job, unique in its root.
    pub job_id: JobId,
    /// The run that the job belongs to.
    #[serde(default)]
    pub run_id: Option<String>,
    /// The workstream that the job belongs to.
    #[serde(default)]
    pub workstream_id: Option<String>,
    /// The job that this one is a part of: it runs only under an attempt of that one, whose tool starts it.
    #[serde(default)]
    pub parent: Option<JobId>,
    /// The adapter that runs the job: `shell`, `tests`, `git`, `aider`, or one of your own.
    pub tool: ToolId,
    /// The command; without an `exe` the adapter builds it.
    #[serde(default, deserialize_with = "object")]
    pub command: Command,
    /// Environment variables for the tool, added to those of the engine.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// Where the tool works and where its output goes.
    #[serde(default, deserialize_with = "object")]
    pub paths: Paths,
    /// Settings of the engine and of the adapter; other keys are kept for adapters and templates.
    #[serde(default)]
    pub metadata: Metadata,
    /// Jobs that must have succeeded first.
    #[serde(default)]
    pub depends_on: Option<Vec<JobId>>,
    /// Jobs that must be at rest first: ended, whatever the outcome, or queued behind a dependency that ended without success.
    #[serde(default)]
    pub after: Option<Vec<JobId>>,
    /// Which queued job goes first: critical, high, normal (default) or low.
    #[serde(default, deserialize_with = "optional_word")]
    pub priority: Option<Priority>,
    /// The job does not start before this time.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Named locks that are held while the job runs, `gpu` or `db:3` (one of three slots); at most 64.
    #[serde(default, deserialize_with = "few_names")]
    #[schemars(length(max = MOST_NAMES), extend("x-expected" = EXPECTED_NAMES))]
    pub locks: Option<Vec<LockName>>,
    /// Deduplication: two jobs with one key and one content are one job.
    #[serde(default)]
    pub key: Option<String>,
    /// Standard input: null (default), a text, or a file that is opened at the start.
    #[serde(default)]
    pub stdin: Option<Stdin>,
    /// True to give the tool a terminal; false is the default.
    #[serde(default)]
    pub pty: Option<bool>,
    /// Where a failed job goes: quarantine (default) or done.
    #[serde(default, deserialize_with = "optional_word")]
    pub on_failure: Option<OnFailure>,
    /// What happens to the job if its runner is killed: requeue or quarantine; absent, the adapter decides.
    #[serde(default, deserialize_with = "optional_word")]
    pub on_crash: Option<OnCrash>,
    /// Limits of what the job may use.
    #[serde(default, deserialize_with = "optional_object")]
    pub limits: Option<Limits>,
}

/// Where a job file with so many dependencies names the job with this number in `JobFile::ahead`, and what it says of it.
#[must_use]
pub fn ahead_at(dependencies: usize, number: usize) -> (String, &'static str) {
    match number.checked_sub(dependencies) {
        None => (format!("/depends_on/{number}"), "depends on"),
        Some(number) => (format!("/after/{number}"), "comes after"),
    }
}

/// A literal command.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program: a name that is looked up in PATH, or a path (relative to `paths.working_dir`).
    #[serde(default)]
    pub exe: Option<String>,
    /// Its arguments; without an `exe` they are added to the command that the adapter builds.
    #[serde(default)]
    pub args: Vec<String>,
}

/// Where the tool works and where its output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The repository; relative to the project directory, which is also the default.
    #[serde(default)]
    pub repo_root: Option<String>,
    /// The working directory of the tool; relative to `repo_root`, which is also the default.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// The live log; inside `repo_root` or the project directory. Default: `state/logs/<id>.<n>.log`.
    #[serde(default)]
    pub log_file: Option<String>,
    /// The error report of an attempt that did not succeed; as `log_file`.
    #[serde(default)]
    pub error_report: Option<String>,
}

/// The version of a file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatVersion(pub u32);

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Count::deserialize(deserializer)?.as_u32() {
            super::SCHEMA_VERSION => Ok(Self(super::SCHEMA_VERSION)),
            other => Err(de::Error::custom(format!("expected schema_version 1, found {other}"))),
        }
    }
}

impl JsonSchema for FormatVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FormatVersion".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 1, "x-expected": "the format version 1" })
    }
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// The value itself.
    Text(String),
    /// The name of a variable of the engine's own environment: a secret by reference.
    FromEnv(String),
}

impl Serialize for EnvValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::FromEnv(name) => BTreeMap::from([("from_env", name)]).serialize(serializer),
        }
    }
}

struct EnvValueVisitor;

impl<'de> Visitor<'de> for EnvValueVisitor {
    type Value = EnvValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or {\"from_env\": NAME}")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<EnvValue, E> {
        Ok(EnvValue::Text(text.to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnvValue, A::Error> {
        let Some((key, name)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("expected {\"from_env\": NAME}"));
        };
        let extra = map.next_key::<String>()?;
        if key != "from_env" || name.is_empty() || extra.is_some() {
            return Err(de::Error::custom("expected {\"from_env\": NAME}"));
        }
        Ok(EnvValue::FromEnv(name))
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvValueVisitor)
    }
}

impl JsonSchema for EnvValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvValue".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-expected": "a string, or {\"from_env\": NAME} for a variable of the engine's own environment",
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": { "from_env": { "type": "string", "minLength": 1 } },
                    "required": ["from_env"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// Standard input of the tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// The text itself.
    Text(String),
    /// A file, relative to `paths.working_dir`, opened when the attempt starts.
    File(String),
}

/// Which queued job goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Priority {
    Critical,
    High,
    Normal,
    Low,
}

/// Where a failed job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// `jobs/quarantined/`: it needs a person.
    Quarantine,
    /// `jobs/done/`: failing is an answer.
    Done,
}

/// What happens to a job whose runner was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It runs again.
    Requeue,
    /// A person decides.
    Quarantine,
}

/// Limits of what a job may use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Size of the log of one attempt; of a longer output the head and the tail are kept. Default 32 MiB, at least 4 KiB.
    #[serde(default)]
    pub log_bytes: Option<Count>,
}

impl Limits {
    /// A smaller log is not kept.
    pub const SMALLEST_LOG_BYTES: u64 = 4 << 10;
}

impl JobFile {
    /// Reads a document without annotations: the gate. Only an object is a job.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(document: &Value) -> Result<Self, serde_json::Error> {
        let object = document.as_object().ok_or_else(|| de::Error::custom("expected an object"))?;
        Self::deserialize(object)
    }

    /// How often a failed attempt is repeated.
    #[must_use]
    pub fn max_retries(&self) -> u32 {
        let known = &self.metadata.known;
        match (&known.retry_policy, known.max_retries) {
            (Some(RetryPolicy::None), _) | (None, None) => 0,
            (_, Some(count)) => count.as_u32(),
            (Some(_), None) => 3,
        }
    }

    /// The adapter that the job is handed to after its last attempt.
    #[must_use]
    pub fn escalates_to(&self) -> Option<&ToolId> {
        match &self.metadata.known.retry_policy {
            Some(RetryPolicy::EscalateTo(tool)) => Some(tool),
            _ => None,
        }
    }

    /// The dependencies, none if the key is absent.
    #[must_use]
    pub fn dependencies(&self) -> &[JobId] {
        self.depends_on.as_deref().unwrap_or_default()
    }

    /// The jobs of `after`, none if the key is absent.
    #[must_use]
    pub fn comes_after(&self) -> &[JobId] {
        self.after.as_deref().unwrap_or_default()
    }

    /// Every job that this one waits for.
    pub fn ahead(&self) -> impl Iterator<Item = &JobId> {
        self.dependencies().iter().chain(self.comes_after())
    }
}
