//! The table `[workstreams]` of `engine.toml`: all keys optional, unknown keys refused.
//!
//! Not responsible for what a name stands for. Hard rule: what the loop could not use is refused here, where the line is known.

use std::collections::BTreeMap;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::fix_loop::limits::{OnTrip, Phase};
use crate::job::ToolId;
use crate::job::id::LockName;
use crate::job::number::{Count, Seconds};
use crate::job::spec::{EnvValue, OnCrash};

/// Settings of workstreams as a person wrote them.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorkstreamsTable {
    /// How many run at once.
    #[serde(deserialize_with = "above_zero")]
    pub max_workers: Option<Count>,
    /// The agent of `engine run --task`.
    pub tool: Option<ToolId>,
    /// Checks that look at the files.
    #[serde(rename = "static")]
    pub of_static: Option<Vec<CheckEntry>>,
    /// Checks that run the program or its tests.
    #[serde(rename = "runtime")]
    pub of_runtime: Option<Vec<CheckEntry>>,
    /// Checks of the merged tree of a run of several bundles; those of both kinds if it is missing.
    pub integration: Option<Vec<CheckEntry>>,
    /// Commands that run once in each new worktree.
    pub setup: Option<Vec<String>>,
    /// Environment variables of every step.
    pub env: Option<BTreeMap<String, EnvValue>>,
    /// Files that no agent may change unless its scope names them.
    pub protected: Option<Vec<String>>,
    /// Total time of a step by its kind.
    pub timeouts: Option<TimeoutsTable>,
    /// What follows a failed step of an agent.
    pub recovery: Option<RecoveryTable>,
    /// Limits of a change.
    pub patch: Option<PatchPolicy>,
    /// Which worktrees are kept.
    pub keep_worktrees: Option<KeepWorktrees>,
    /// The directory of all worktrees.
    pub worktrees: Option<String>,
    /// True if a check may run in an environment that holds an editable install of the checkout.
    pub shared_environment: Option<bool>,
    /// What happens to a step of an agent whose runner was killed.
    pub on_crash: Option<OnCrash>,
    /// The limits of the loop.
    pub limits: Option<LimitsTable>,
    /// Without effect; the original had it.
    #[serde(skip_serializing)]
    pub wave_delay_sec: Option<de::IgnoredAny>,
}

/// Total time of a step by its kind.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimeoutsTable {
    pub edit: Option<Seconds>,
    #[serde(rename = "static")]
    pub of_static: Option<Seconds>,
    pub runtime: Option<Seconds>,
    pub fix: Option<Seconds>,
}

/// What follows a failed step of an agent.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecoveryTable {
    pub retries: Option<Count>,
    pub backoff_seconds: Option<Count>,
    pub reduce_context: Option<bool>,
    pub fallback: Option<Vec<ToolId>>,
}

/// The limits of the loop.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsTable {
    pub fixes: Option<FixesTable>,
    #[serde(deserialize_with = "at_least_two")]
    pub window: Option<Count>,
    #[serde(deserialize_with = "at_least_two")]
    pub repeats: Option<Count>,
    #[serde(deserialize_with = "at_least_two")]
    pub same_failure: Option<Count>,
    pub fix_for: Option<Vec<Phase>>,
    #[serde(deserialize_with = "above_zero")]
    pub agent_attempts: Option<Count>,
    pub timeout_seconds: Option<Seconds>,
    pub on_trip: Option<OnTrip>,
}

/// How many fixes each part of the work is allowed.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FixesTable {
    #[serde(rename = "static")]
    pub of_static: Option<Count>,
    pub runtime: Option<Count>,
}

/// Limits of a change; an absent one limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PatchPolicy {
    /// Lines added and deleted together.
    pub max_lines_changed: Option<u64>,
    /// Files.
    pub max_files_changed: Option<u64>,
    /// True to refuse a change of a binary file.
    pub forbid_binary: bool,
    /// Patterns of files that must not change.
    pub forbidden_paths: Vec<String>,
}

/// Which worktrees are kept when their workstream has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeepWorktrees {
    /// All.
    Always,
    /// Those of workstreams that did not succeed.
    #[default]
    Failed,
    /// None.
    Never,
}

/// An item of a list of checks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CheckEntry {
    /// A command line for `/bin/sh -c`; a word without blanks may name a profile or an adapter.
    Text(String),
    /// All of it.
    Table(Box<CheckTable>),
}

/// A check with its settings: exactly one of `run`, `profile` and `adapter`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CheckTable {
    /// The name in reports; absent: the command line, or the name of profile or adapter.
    pub name: Option<String>,
    /// A command line for `/bin/sh -c`.
    pub run: Option<String>,
    /// A tool profile of the project.
    pub profile: Option<String>,
    /// An adapter with a command of its own.
    pub adapter: Option<String>,
    /// Total time; absent: that of the profile, else that of the kind of check.
    pub timeout_seconds: Option<Seconds>,
    /// Named locks that are held while it runs.
    pub locks: Vec<Lock>,
    /// True if the check does not run where its program is missing.
    pub optional: bool,
    /// The test report that it writes: a path, a directory or a glob.
    pub junit_file: Option<String>,
    /// Environment variables of this check.
    pub env: BTreeMap<String, EnvValue>,
}

/// A named lock as a job file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Lock(String);

impl Lock {
    /// The text of the job file.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        LockName::parse(&text).map_err(de::Error::custom)?;
        Ok(Self(text))
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = CheckEntry;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a command line, or a table with `run`, `profile` or `adapter`")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<CheckEntry, E> {
        match text.trim() {
            "" => Err(E::custom("a check is an empty text")),
            text => Ok(CheckEntry::Text(text.to_owned())),
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CheckEntry, A::Error> {
        let table = CheckTable::deserialize(MapAccessDeserializer::new(map))?;
        let named = [&table.run, &table.profile, &table.adapter].into_iter().flatten();
        let named: Vec<&str> = named.map(|text| text.trim()).collect();
        match named[..] {
            [""] => Err(de::Error::custom("a check is an empty text")),
            [_] => Ok(CheckEntry::Table(Box::new(table))),
            _ => Err(de::Error::custom("a check has exactly one of `run`, `profile` and `adapter`")),
        }
    }
}

impl<'de> Deserialize<'de> for CheckEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

impl Serialize for CheckEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

fn above_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Count>, D::Error> {
    at_least(1, deserializer)
}

fn at_least_two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Count>, D::Error> {
    at_least(2, deserializer)
}

fn at_least<'de, D: Deserializer<'de>>(least: u64, deserializer: D) -> Result<Option<Count>, D::Error> {
    let count = Option::<Count>::deserialize(deserializer)?;
    match count {
        Some(count) if count.get() < least => {
            Err(de::Error::custom(format!("expected an integer from {least}")))
        }
        count => Ok(count),
    }
}
