//! The manifest of an adapter: `adapters/<id>.json`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::agent::Dialect;
use crate::job::ToolId;
use crate::job::number::Seconds;
use crate::job::spec::{FormatVersion, StopSignal};

/// How a tool is called, limited and read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "engine adapter manifest")]
pub struct Manifest {
    /// The version of this format; 1.
    #[serde(default)]
    pub schema_version: Option<FormatVersion>,
    /// The name of the adapter, as in `tool` of a job; the file is named after it.
    pub id: ToolId,
    /// One line for `engine adapters`.
    #[serde(default)]
    pub summary: Option<String>,
    /// The program that runs when a job has no `command.exe`; absent, the job must have one.
    #[serde(default)]
    pub executable: Option<String>,
    /// Its arguments; `{name}` is replaced. See `Argument`.
    #[serde(default)]
    pub args: Vec<Argument>,
    /// Environment variables; those of the job win. `{name}` is replaced as in `args`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the tool reads on standard input if the job does not say: nothing by default.
    #[serde(default)]
    pub stdin: StdinFrom,
    /// Its arguments when it goes on with a session that had to wait: `{session_id}` has a value there. Absent: it begins
    /// anew.
    #[serde(default)]
    pub resume_args: Option<Vec<Argument>>,
    /// Files of the worktree that the tool writes for itself, as globs: they are no change.
    #[serde(default)]
    pub own_files: Vec<String>,
    /// True if the tool needs a terminal.
    #[serde(default)]
    pub pty: bool,
    /// Total time; absent: unlimited.
    #[serde(default)]
    pub timeout_seconds: Option<Seconds>,
    /// Time without output; absent: unlimited.
    #[serde(default)]
    pub idle_timeout_seconds: Option<Seconds>,
    /// Time between asking the tool to end and killing it. Default 10.
    #[serde(default)]
    pub grace_seconds: Option<Seconds>,
    /// The signal that asks the tool to end: TERM, INT, HUP, QUIT, USR1 or USR2. Default: INT after a Ctrl-C, else TERM.
    #[serde(default)]
    pub stop_signal: Option<StopSignal>,
    /// The exit codes that do not mean failure. Default: 0.
    #[serde(default = "zero")]
    pub success_exit_codes: Vec<i32>,
    /// What the tool can do, as `code_editing`: for routing.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// True if a job may run again when its runner was killed.
    #[serde(default)]
    pub repeatable: bool,
    /// True if a job without command needs `metadata.prompt` or `metadata.message_file`.
    #[serde(default)]
    pub needs_prompt: bool,
    /// Environment variables whose values are taken out of all output.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What the tool needs to be let in; looked for before it is started. Absent: nothing is looked for.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// The oldest version whose output is understood; an older one is not started.
    #[serde(default)]
    pub min_version: Option<String>,
    /// How `engine adapters` finds out the version. Default: `--version`.
    #[serde(default)]
    pub detect: Option<Detect>,
    /// What turns exit and streams into a verdict.
    #[serde(default)]
    pub reader: ReaderName,
}

fn zero() -> Vec<i32> {
    vec![0]
}

impl Manifest {
    /// True if the tool is told what to do by a prompt.
    #[must_use]
    pub(crate) fn takes_prompt(&self) -> bool {
        let names_it = |text: &str| text.contains("{prompt}") || text.contains("{prompt_file}");
        let of_args = |argument: &Argument| match argument {
            Argument::One(text) => names_it(text),
            Argument::Optional(texts) => texts.iter().any(|text| names_it(text)),
        };
        self.needs_prompt || self.stdin != StdinFrom::None || self.args.iter().any(of_args)
    }
}

/// How a tool is asked for its version.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// The arguments that make it print its version.
    pub args: Vec<String>,
}

/// What a tool needs to be let in: any one of these is enough.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Environment variables; one that begins with `*` stands for all names with that ending.
    #[serde(default)]
    pub env: Vec<String>,
    /// Files: `~/` is the home directory, `$NAME/` the directory that a variable names, else relative to the repository.
    #[serde(default)]
    pub files: Vec<String>,
}

/// What turns exit and streams into a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReaderName {
    /// The exit code alone.
    #[default]
    ExitCode,
    /// pytest's own summary, or the `JUnit` file named by `metadata.junit_file`; no test run is not a success.
    Pytest,
    /// The `JUnit` file named by `metadata.junit_file`; no test run is not a success.
    Junit,
    /// The exit code, and from git's words why it failed.
    Git,
    /// One JSON object on standard output: `{"success": true, "message": "…", "content": …}`.
    PluginJson,
    /// A program that tells its verdict on the last line of standard output, as one JSON object: `{"verdict": "succeeded",
    /// "reason": {"code": …, "message": …}, "not_before": …, "metadata": {…}}`. The verdict is `succeeded`, `failed`,
    /// `quarantined`, `parked` (until `not_before`) or `canceled`. It counts also where the engine stopped the program; a
    /// program that told one is not tried again.
    Verdict,
    /// An agent that prints like aider; its analytics log is `{attempt_dir}/analytics.jsonl`.
    Aider,
    /// An agent that prints the events of `claude -p --output-format stream-json`.
    Claude,
    /// An agent that prints the events of `codex exec --json`.
    Codex,
    /// An agent that prints the events of `gemini --output-format stream-json`.
    Gemini,
    /// An agent of your own: a success is an exit code of 0 and a change in the worktree; 75 means that its service is busy,
    /// and the job waits. What it used may stand on a line of standard output by itself, of which the last one counts:
    /// `{"engine_usage": {"model": "m", "input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 2, "cost_usd": 0.1,
    /// "session_id": "s"}}`.
    Agent,
}

impl std::fmt::Display for ReaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Serialize::serialize(self, f)
    }
}

impl ReaderName {
    /// The family of agents whose stream it reads, if it does.
    #[must_use]
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Aider => Some(Dialect::Aider),
            Self::Claude => Some(Dialect::Claude),
            Self::Codex => Some(Dialect::Codex),
            Self::Gemini => Some(Dialect::Gemini),
            Self::Agent => Some(Dialect::Own),
            Self::ExitCode | Self::Pytest | Self::Junit | Self::Git | Self::PluginJson | Self::Verdict => {
                None
            }
        }
    }
}

/// What a tool reads on standard input if the job does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdinFrom {
    /// Nothing.
    #[default]
    None,
    /// The prompt of the job.
    Prompt,
    /// One JSON object: `schema_version`, `job_id`, `attempt`, `tool`, `repo_root`, `working_dir`, `metadata`.
    Request,
}

/// An argument template: a text, or a list of texts that is left out when one of its names has no value.
///
/// `{name}` is replaced by `job_id`, `attempt`, `root` (of the engine), `repo_root`, `working_dir`, `prompt_file`, `attempt_dir` (a directory of this
/// attempt alone, gone after it), `session_id`, `scope_files` (the files that `files_scope` matches, or those that
/// `metadata.scope_files` names instead) or a key of the job's `metadata`. A name whose value is a list makes one argument for each item; in a list of texts, all of them are
/// repeated for each item: `["--file", "{files_scope}"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// One argument; a name without a value is an error.
    One(String),
    /// Several, or none.
    Optional(Vec<String>),
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or an array of strings")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Argument, E> {
        Ok(Argument::One(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Argument, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element()? {
            texts.push(text);
        }
        Ok(Argument::Optional(texts))
    }
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgumentVisitor)
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(text) => text.serialize(serializer),
            Self::Optional(texts) => texts.serialize(serializer),
        }
    }
}

impl JsonSchema for Argument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Argument".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-expected": "a string, or an array of strings that is left out if one of its {names} has no value",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}
