//! The job file: what a person or a program asks for.
//!
//! The types are the gate: a document that they read is valid. `schema.rs` makes the JSON Schema from them, which
//! only explains. A key that is added here is optional, for the historical format stays valid.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{JobId, LockName, ProgramName, ToolId};
use super::number::{Count, Seconds, Usd};
use crate::clock::Timestamp;

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

/// Reads a struct from an object only: derived readers take an array of its values too, which the schema refuses.
fn object<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(Map::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// As `object`, or null.
fn optional_object<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    object.map(T::deserialize).transpose().map_err(de::Error::custom)
}

/// Reads one of some words from a string only: derived readers take `{"word": null}` too. Or null.
fn optional_word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    word.map(|word| T::deserialize(word.into_deserializer())).transpose()
}

/// Each lock leaves files in the root and is tried at each look at the queue; each program is compared with each process.
const MOST_NAMES: usize = 64;

const EXPECTED_NAMES: &str = "a list of at most 64 names, or null";

fn few_names<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let names = Option::<Vec<T>>::deserialize(deserializer)?;
    match &names {
        Some(names) if names.len() > MOST_NAMES => {
            Err(de::Error::custom(format!("expected {EXPECTED_NAMES}")))
        }
        _ => Ok(names),
    }
}

/// As `optional_word`, for a list of them.
fn optional_words<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let words = Option::<Vec<String>>::deserialize(deserializer)?;
    let read =
        |words: Vec<String>| words.into_iter().map(|w| T::deserialize(w.into_deserializer())).collect();
    words.map(read).transpose()
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
}
