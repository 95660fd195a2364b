//! The manifest of an adapter: `adapters/<id>.json`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::job::ToolId;
use crate::job::number::Seconds;
use crate::job::spec::FormatVersion;

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
    /// Environment variables; those of the job win.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the tool reads on standard input if the job does not say: nothing by default.
    #[serde(default)]
    pub stdin: StdinFrom,
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

/// How a tool is asked for its version.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// The arguments that make it print its version.
    pub args: Vec<String>,
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
/// `{name}` is replaced by `job_id`, `attempt`, `repo_root`, `working_dir`, `prompt_file` or a key of the job's
/// `metadata`. A name whose value is a list makes one argument for each item; in a list of texts, all of them are
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
