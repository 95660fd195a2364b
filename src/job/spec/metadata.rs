//! The open object `metadata`: the settings that the engine reads, and every key as it was written.
//!
//! Not responsible for keys that only an adapter reads. Hard rule: a key that is not known is kept, never refused.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::strict::{EXPECTED_NAMES, MOST_NAMES, few_names, optional_object, optional_word, optional_words};
use crate::job::id::{JobId, ProgramName, ToolId};
use crate::job::number::{Count, Seconds, Usd};

/// Settings in `metadata` that the engine reads; an adapter may read others.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct KnownMetadata {
    /// The tool is stopped after this time. Default by tool: agents 600, tests, plugin, python 300, git 60.
    #[serde(default)]
    pub timeout_seconds: Option<Seconds>,
    /// The tool is stopped when it printed nothing for this time. Default: agents 300, others none.
    #[serde(default)]
    pub idle_timeout_seconds: Option<Seconds>,
    /// How long the tool may take to end after it was asked to, before it is killed. Default 10.
    #[serde(default)]
    pub grace_seconds: Option<Seconds>,
    /// The signal that asks the tool to end: TERM, INT, HUP, QUIT, USR1 or USR2. Default: INT after a Ctrl-C, else TERM.
    #[serde(default, deserialize_with = "optional_word")]
    pub stop_signal: Option<StopSignal>,
    /// Programs that may outlive the job, by the file names of their executables: build servers such as `sccache`. Such a
    /// program is kept with what it started, as far as it is alive when the tool ends. A limit or a cancel ends it if it is still
    /// in the process group of the tool. At most 64; not with agents. Default none.
    #[serde(default, deserialize_with = "few_names")]
    #[schemars(length(max = MOST_NAMES), extend("x-expected" = EXPECTED_NAMES))]
    pub keep: Option<Vec<ProgramName>>,
    /// How often a failed attempt is repeated. Default 3 with a `retry_policy`, 0 without.
    #[serde(default)]
    pub max_retries: Option<Count>,
    /// `none`, `retry_same`, or `escalate_to_<adapter>` (retries, then hands the job on).
    #[serde(default)]
    pub retry_policy: Option<RetryPolicy>,
    /// How long to wait between attempts.
    #[serde(default, deserialize_with = "optional_object")]
    pub backoff: Option<Backoff>,
    /// What an agent is asked to do; not together with `message_file`.
    #[serde(default)]
    pub prompt: Option<String>,
    /// A file with what an agent is asked to do, relative to `paths.working_dir`.
    #[serde(default)]
    pub message_file: Option<String>,
    /// The files that an agent may change: paths and globs (`src/**/*.rs`), relative to `paths.repo_root`. Absent: all.
    #[serde(default)]
    pub files_scope: Option<Vec<String>>,
    /// True if an agent that changes nothing has succeeded (a review, a plan). Default false.
    #[serde(default)]
    pub allow_no_change: Option<bool>,
    /// How long an agent may go on trying a service that fails, before it is ended. Default 60.
    #[serde(default)]
    pub retry_budget_seconds: Option<Seconds>,
    /// How often the job may wait for a quota or a busy service, before that is a failure. Default 10.
    #[serde(default)]
    pub max_parks: Option<Count>,
    /// What all attempts of the job may cost, in US dollars.
    #[serde(default)]
    pub max_cost_usd: Option<Usd>,
    /// How many tokens all attempts of the job may use, input and output together.
    #[serde(default)]
    pub max_tokens: Option<Count>,
    /// With `escalate_to_<adapter>`: what besides failures hands the job on, instead of waiting or ending it.
    #[serde(default, deserialize_with = "optional_words")]
    pub fallback_on: Option<Vec<FallbackOn>>,
    /// The adapters that a job came through; the engine writes it when it hands a job on.
    #[serde(default)]
    pub escalated_from: Option<Vec<ToolId>>,
    /// The job that was handed on as this one; the engine writes it.
    #[serde(default)]
    pub escalated_from_job: Option<JobId>,
}

/// A signal that asks a tool to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the signals'")]
pub enum StopSignal {
    Term,
    Int,
    Hup,
    Quit,
    Usr1,
    Usr2,
}

/// What besides a failure hands a job on to another adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackOn {
    /// The quota is used up.
    Quota,
    /// The service refuses the key, or wants to be paid.
    Auth,
    /// The tool is not on this machine.
    Absent,
}

/// The open object `metadata`: what the engine reads, and everything as it was written.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// The keys that the engine reads.
    pub known: KnownMetadata,
    /// All keys, for adapters and templates.
    pub all: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Map::deserialize(deserializer)?;
        let known = KnownMetadata::deserialize(&all).map_err(de::Error::custom)?;
        if known.prompt.is_some() && known.message_file.is_some() {
            return Err(de::Error::custom("`prompt` and `message_file` exclude each other"));
        }
        Ok(Self { known, all })
    }
}

impl JsonSchema for Metadata {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Metadata".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = KnownMetadata::json_schema(generator);
        schema.insert(
            "not".to_owned(),
            serde_json::json!({
                "required": ["prompt", "message_file"],
                "properties": { "prompt": { "type": "string" }, "message_file": { "type": "string" } },
            }),
        );
        schema
    }
}

/// Whether and how a failed job is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never, whatever `max_retries` says.
    None,
    /// With the same tool.
    RetrySame,
    /// With the same tool, and in the end with another.
    EscalateTo(ToolId),
}

impl RetryPolicy {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("_on_error").unwrap_or(text);
        match text {
            "none" => Some(Self::None),
            "retry_same" => Some(Self::RetrySame),
            _ => ToolId::new(text.strip_prefix("escalate_to_")?).ok().map(Self::EscalateTo),
        }
    }
}

const EXPECTED_POLICY: &str = "none, retry_same or escalate_to_<adapter>";

impl<'de> Deserialize<'de> for RetryPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("expected {EXPECTED_POLICY}")))
    }
}

impl JsonSchema for RetryPolicy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryPolicy".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(none|retry_same|escalate_to_[A-Za-z0-9][A-Za-z0-9._-]{0,63})(_on_error)?$",
            "x-expected": EXPECTED_POLICY,
        })
    }
}

/// The wait between two attempts: `base_seconds` shaped by the strategy, at most `max_seconds`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// immediate, linear, exponential (default) or fibonacci.
    #[serde(default, deserialize_with = "optional_word")]
    pub strategy: Option<Strategy>,
    /// The first wait. Default 1.
    #[serde(default)]
    pub base_seconds: Option<Seconds>,
    /// The longest wait. Default 300.
    #[serde(default)]
    pub max_seconds: Option<Seconds>,
    /// True to spread the waits of many jobs by a factor of 0.5 to 1.5. Default false.
    #[serde(default)]
    pub jitter: Option<bool>,
}

/// How the waits between attempts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Strategy {
    Immediate,
    Linear,
    Exponential,
    Fibonacci,
}
