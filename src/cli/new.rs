//! `engine new`: writes a valid job file to start from.

use serde_json::{Map, Value, json};

use super::error::CliError;
use super::global::Global;
use super::global::{current_dir, variable};
use super::{print, root};
use crate::adapter;
use crate::clock::{Clock, SystemClock};
use crate::job::{JobId, ToolId};
use crate::process::program::{self, Program};
use clap::Args;
use std::path::PathBuf;

/// `engine new`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine new shell -- make test\n  engine new tests --file nightly.json -- pytest -x\n  \
    engine new codex --file -"
)]
pub struct NewArgs {
    /// The adapter
    pub tool: String,
    /// The job id (default: made from the adapter, the time and a random part)
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The file to write, `-` for standard output (default: ID.json here)
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The command of the job
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Writes the file and prints its path.
pub(super) fn run(args: &NewArgs, global: &Global) -> Result<u8, CliError> {
    let tool = ToolId::new(&args.tool).map_err(|error| CliError::usage(error.to_string()))?;
    let id = match &args.id {
        Some(id) => JobId::new(id).map_err(|error| CliError::usage(error.to_string()))?,
        None => generated_id(&tool)?,
    };
    let store = root::to_read_if_any(global)?;
    let Some(manifest) = adapter::find(store.as_ref(), &tool)? else {
        let near = adapter::registry::nearest(store.as_ref(), &tool);
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let message = format!("there is no adapter `{tool}`");
        return Err(CliError::no(message).hint(format!("{near}All of them: engine adapters")));
    };
    if manifest.executable.is_none() && args.command.is_empty() {
        let message = format!("the adapter `{tool}` has no command of its own");
        return Err(CliError::usage(message).hint(format!("engine new {tool} -- COMMAND")));
    }
    let text = text(&document(&id, &manifest, &args.command));
    if args.file.as_deref().is_some_and(|file| file.as_os_str() == "-") {
        print::json(&text);
        return Ok(0);
    }
    let path = args.file.clone().unwrap_or_else(|| format!("{id}.json").into());
    let named = current_dir()?.join(&path);
    // A person may name it through a link.
    let real = named.parent().map(crate::fs::canonical).transpose()?;
    let target = real.zip(named.file_name()).map_or_else(|| named.clone(), |(dir, name)| dir.join(name));
    crate::fs::create_new(&target, text.as_bytes())?;
    print::line(&path.display().to_string());
    Ok(0)
}

/// An id from the adapter, the time and a random part.
pub(super) fn generated_id(tool: &ToolId) -> Result<JobId, CliError> {
    let now = SystemClock::start().now().to_string();
    let time: String = now.chars().filter(char::is_ascii_digit).take(14).collect();
    let random = uuid::Uuid::now_v7().simple().to_string();
    let tail = random.get(24..).unwrap_or_default();
    let day = time.get(..8).unwrap_or_default();
    let clock = time.get(8..).unwrap_or_default();
    JobId::new(&format!("{tool}-{day}-{clock}-{tail}")).map_err(|error| CliError::plain(error.to_string()))
}

/// A job document as a file.
pub(super) fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// The document of a shell job that works in the directory where the command was typed.
pub(super) fn shell_document(id: &JobId, command: &[String], here: &str) -> Value {
    let mut document = Map::new();
    document.insert("job_id".to_owned(), json!(id));
    document.insert("tool".to_owned(), json!("shell"));
    document.insert("command".to_owned(), command_of(command));
    document.insert("paths".to_owned(), json!({ "working_dir": here }));
    Value::Object(document)
}

fn command_of(command: &[String]) -> Value {
    match command.split_first() {
        Some((exe, args)) => json!({ "exe": exe, "args": args }),
        None => json!({}),
    }
}

/// True if the words are a command: `tests -- pytest -x` is one, `git -- commit -m x` adds to the adapter's own.
fn is_program(manifest: &adapter::Manifest, command: &[String]) -> bool {
    let (Some(own), Some(first)) = (&manifest.executable, command.first()) else { return true };
    let here = current_dir().unwrap_or_default();
    let found = program::find(first.as_ref(), variable("PATH").as_deref(), &here);
    own == first || found != Program::Missing
}

fn document(id: &JobId, manifest: &adapter::Manifest, command: &[String]) -> Value {
    let mut document = json!({ "schema_version": 1, "job_id": id, "tool": manifest.id });
    if !command.is_empty() {
        document["command"] =
            if is_program(manifest, command) { command_of(command) } else { json!({ "args": command }) };
    }
    if let Some(seconds) = manifest.timeout_seconds {
        document["metadata"] = json!({ "timeout_seconds": seconds });
    }
    if manifest.needs_prompt && command.is_empty() {
        document["metadata"]["prompt"] = json!("Describe the task here.");
    }
    if manifest.id.as_str() == "git" && command.is_empty() {
        document["metadata"]["git_operation"] = json!("status");
    }
    if manifest.id.as_str() == "python" && command.is_empty() {
        document["metadata"]["function"] = json!("platform:python_version");
        document["metadata"]["arguments"] = json!([]);
    }
    document
}
