//! Builds the command of a job from its file and the manifest.
//!
//! Pure but for the environment it is given. Missing parts of this machine are found here or when the paths are opened,
//! never in validation.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::environment::Environment;
use super::manifest::{Argument, Manifest, StdinFrom};
use super::template::{self, Values};
use crate::job::id::ProgramName;
use crate::job::parse::locate;
use crate::job::spec::{EnvValue, Stdin, StopSignal};
use crate::job::{Code, JobFile, Reason};
use crate::process::redact::Secrets;
use crate::process::{Limits, Terminal};
use crate::store::Config;

/// A command, with everything but its open files.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The program.
    pub exe: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that are added to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Standard input.
    pub stdin: PlannedInput,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
    /// When it is stopped.
    pub limits: Limits,
    /// The programs that may outlive it.
    pub keep: Vec<ProgramName>,
    /// What must not be shown.
    pub secrets: Secrets,
}

/// Standard input, before a file is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedInput {
    /// Nothing.
    Null,
    /// This text.
    Text(String),
    /// This file, relative to the working directory.
    File(String),
}

/// What `plan` must know of the attempt beside the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The number of the attempt.
    pub attempt: u32,
    /// The repository.
    pub repo_root: &'a Path,
    /// The working directory.
    pub working_dir: &'a Path,
    /// The root.
    pub root: &'a Path,
    /// The file that holds the prompt, if there is one.
    pub prompt_file: Option<&'a Path>,
    /// The directory of this attempt, if it has one.
    pub attempt_dir: Option<&'a Path>,
    /// The session to go on with, and what to say to it.
    pub resumed: Option<Resumed<'a>>,
    /// The files that the scope of the job matches; as it is written, where it was not looked at.
    pub scope_files: &'a [String],
    /// The engine's own environment.
    pub environment: &'a Environment,
    /// The settings of the root.
    pub config: &'a Config,
}

/// A session that the tool goes on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed<'a> {
    /// The tool's own name of it.
    pub session_id: &'a str,
    /// The text for it, instead of the prompt that it has already.
    pub prompt: &'a str,
}

/// A job cannot run on this machine as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct CannotPlan(pub Reason);

/// The reason of a job that needs a prompt and has none.
#[must_use]
pub(crate) fn prompt_missing() -> Reason {
    Reason::new(Code::PromptMissing, "give `metadata.prompt`, `metadata.message_file` or a `command`")
        .at("/metadata")
}

/// Refuses programs that would outlive an agent, which job and adapter alone decide.
///
/// # Errors
/// `keep_refused`.
pub(crate) fn may_keep(job: &JobFile, manifest: &Manifest) -> Result<(), Reason> {
    let keeps = job.metadata.known.keep.as_ref().is_some_and(|keep| !keep.is_empty());
    if keeps && manifest.reader.dialect().is_some() {
        let message = "processes that an agent starts end with it: remove `metadata.keep`";
        return Err(Reason::new(Code::KeepRefused, message).at("/metadata/keep"));
    }
    Ok(())
}

/// Makes the command of a job.
///
/// # Errors
/// `CannotPlan` with the reason that is recorded.
pub(crate) fn plan(job: &JobFile, manifest: &Manifest, around: Surroundings<'_>) -> Result<Plan, CannotPlan> {
    let (exe, args) = command(job, manifest, around)?;
    for text in std::iter::once(&exe).chain(&args) {
        if text.contains('\0') {
            let reason = Reason::new(Code::ArgumentInvalid, "an argument holds a NUL character");
            return Err(CannotPlan(reason));
        }
    }
    let (env, secrets) = environment(job, manifest, around)?;
    let known = &job.metadata.known;
    let configured = around.config.timeouts.get(manifest.id.as_str());
    let grace = known.grace_seconds.or(around.config.grace_seconds).or(manifest.grace_seconds);
    let seconds = |s: crate::job::number::Seconds| s.duration();
    let pty = job.pty.unwrap_or(manifest.pty);
    Ok(Plan {
        exe,
        args,
        env,
        stdin: stdin(job, manifest, around),
        terminal: if pty { Terminal::Yes } else { Terminal::No },
        limits: Limits {
            total: known.timeout_seconds.or(configured.copied()).or(manifest.timeout_seconds).map(seconds),
            idle: known.idle_timeout_seconds.or(manifest.idle_timeout_seconds).map(seconds),
            grace: grace.map_or(Duration::from_secs(10), seconds),
            stop_signal: known.stop_signal.or(manifest.stop_signal).map(number_of),
        },
        keep: known.keep.clone().unwrap_or_default(),
        secrets,
    })
}

fn number_of(signal: StopSignal) -> i32 {
    match signal {
        StopSignal::Term => libc::SIGTERM,
        StopSignal::Int => libc::SIGINT,
        StopSignal::Hup => libc::SIGHUP,
        StopSignal::Quit => libc::SIGQUIT,
        StopSignal::Usr1 => libc::SIGUSR1,
        StopSignal::Usr2 => libc::SIGUSR2,
    }
}

fn command(
    job: &JobFile,
    manifest: &Manifest,
    around: Surroundings<'_>,
) -> Result<(String, Vec<String>), CannotPlan> {
    if let Some(exe) = &job.command.exe {
        if exe.is_empty() {
            return Err(command_missing("`command.exe` is empty".to_owned()));
        }
        return Ok((exe.clone(), job.command.args.clone()));
    }
    let Some(exe) = &manifest.executable else {
        let message = format!("the adapter `{}` has no command of its own: give `command.exe`", manifest.id);
        return Err(command_missing(message));
    };
    if manifest.needs_prompt && around.prompt_file.is_none() && job.metadata.known.prompt.is_none() {
        return Err(CannotPlan(prompt_missing()));
    }
    let templates = match (around.resumed, &manifest.resume_args) {
        (Some(_), Some(resume)) => resume,
        _ => &manifest.args,
    };
    let mut args = template::fill(templates, &values(job, around)).map_err(|m| no_value(manifest, &m))?;
    args.extend(job.command.args.iter().cloned());
    Ok((exe.clone(), args))
}

fn command_missing(message: String) -> CannotPlan {
    CannotPlan(Reason::new(Code::CommandMissing, message).at("/command"))
}

fn no_value(manifest: &Manifest, missing: &template::MissingValue) -> CannotPlan {
    let message = format!("the adapter `{}` needs `metadata.{}`", manifest.id, missing.name);
    CannotPlan(Reason::new(Code::ArgumentMissing, message).at(format!("/metadata/{}", missing.name)))
}

fn values(job: &JobFile, around: Surroundings<'_>) -> Values {
    let mut values: Values =
        job.metadata.all.iter().map(|(name, value)| (name.clone(), texts(value))).collect();
    let path = |path: &Path| vec![path.to_string_lossy().into_owned()];
    values.insert("job_id".to_owned(), vec![job.job_id.to_string()]);
    values.insert("attempt".to_owned(), vec![around.attempt.to_string()]);
    values.insert("repo_root".to_owned(), path(around.repo_root));
    values.insert("working_dir".to_owned(), path(around.working_dir));
    values.insert("root".to_owned(), path(around.root));
    values.insert("prompt_file".to_owned(), around.prompt_file.map(path).unwrap_or_default());
    values.insert("attempt_dir".to_owned(), around.attempt_dir.map(path).unwrap_or_default());
    // A job may hand its tool fewer files than the tool may change.
    values.entry("scope_files".to_owned()).or_insert_with(|| around.scope_files.to_vec());
    let session = around.resumed.map(|resumed| vec![resumed.session_id.to_owned()]);
    values.insert("session_id".to_owned(), session.unwrap_or_default());
    values
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![value.to_string()],
    }
}

type Variables = Vec<(OsString, OsString)>;

/// How many settings git finds in `GIT_CONFIG_KEY_0` and so on.
const GIT_CONFIG_COUNT: &str = "GIT_CONFIG_COUNT";

fn environment(
    job: &JobFile,
    manifest: &Manifest,
    around: Surroundings<'_>,
) -> Result<(Variables, Secrets), CannotPlan> {
    let inherited = around.environment;
    let mut variables = manifest_variables(job, manifest, around)?;
    // A value that the manifest sets is in the manifest: not a secret, whatever its name.
    let own = variables.len();
    let mut references = Vec::new();
    for (name, value) in &job.env {
        let set = variable(name, value, inherited)?;
        references.extend(matches!(value, EnvValue::FromEnv(_)).then_some(set));
        variables.push((name.into(), set.to_owned()));
    }
    let given = variables.get(own..).unwrap_or_default();
    let secrets = inherited.secrets(given, &references, &manifest.secrets);
    let has_home = variables.iter().any(|(name, value)| name == "HOME" && !value.is_empty());
    if !has_home && manifest.reader.dialect().is_some() {
        // An empty one would lead the tool's own files into the worktree.
        let home = inherited.of_agent(job, manifest, "HOME");
        variables.extend(home.map(|home| ("HOME".into(), home.to_owned())));
    }
    if let Some(count) = git_settings(manifest) {
        let count = count.saturating_add(git_settings_before(job, around));
        variables.push((GIT_CONFIG_COUNT.into(), count.to_string().into()));
    }
    Ok((variables, secrets))
}

/// The value of a variable of the job.
fn variable<'a>(
    name: &str,
    value: &'a EnvValue,
    inherited: &'a Environment,
) -> Result<&'a OsStr, CannotPlan> {
    let wrong = |reason: Reason| CannotPlan(reason.at(format!("/env/{}", locate::escape(name))));
    let value = match value {
        EnvValue::Text(text) => OsStr::new(text),
        EnvValue::FromEnv(source) => inherited.get(source).ok_or_else(|| {
            let message = format!("`{name}` is taken from `{source}`, which is not in the environment");
            wrong(Reason::new(Code::EnvMissing, message))
        })?,
    };
    if name.is_empty() || name.contains(['=', '\0']) || value.as_encoded_bytes().contains(&0) {
        let message = format!("`{}` cannot be an environment variable", name.escape_debug());
        return Err(wrong(Reason::new(Code::EnvInvalid, message)));
    }
    Ok(value)
}

/// The variables of a job that cannot be set here, each with its reason; `plan` stops at the first.
#[must_use]
pub(crate) fn not_set<'a>(job: &'a JobFile, inherited: &Environment) -> BTreeMap<&'a str, Reason> {
    let wrong = |(name, value): (&'a String, &EnvValue)| {
        Some((name.as_str(), variable(name, value, inherited).err()?.0))
    };
    job.env.iter().filter_map(wrong).collect()
}

/// The variables of the manifest, as far as the job does not set them; the settings of git are numbered behind the job's or
/// the caller's.
fn manifest_variables(
    job: &JobFile,
    manifest: &Manifest,
    around: Surroundings<'_>,
) -> Result<Variables, CannotPlan> {
    let values = LazyCell::new(|| values(job, around));
    let first = git_settings(manifest).map_or(0, |_| git_settings_before(job, around));
    let mut variables = Variables::new();
    for (name, value) in manifest.env.iter().filter(|(name, _)| *name != GIT_CONFIG_COUNT) {
        let name = renumbered(name, first);
        if job.env.contains_key(&*name) {
            continue;
        }
        let value = if value.contains('{') {
            let filled = template::fill(&[Argument::One(value.clone())], &values);
            filled.map_err(|missing| no_value(manifest, &missing))?.concat()
        } else {
            value.clone()
        };
        variables.push((name.into_owned().into(), value.into()));
    }
    Ok(variables)
}

/// How many settings of git the manifest has, if it has any.
fn git_settings(manifest: &Manifest) -> Option<u32> {
    manifest.env.get(GIT_CONFIG_COUNT)?.parse().ok()
}

/// How many the job has or, if it says nothing, the caller.
fn git_settings_before(job: &JobFile, around: Surroundings<'_>) -> u32 {
    let count = around.environment.of_job(job, GIT_CONFIG_COUNT).and_then(OsStr::to_str);
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn renumbered(name: &str, first: u32) -> Cow<'_, str> {
    let of = |prefix: &str| {
        Some(format!("{prefix}{}", name.strip_prefix(prefix)?.parse::<u32>().ok()?.checked_add(first)?))
    };
    let new = (first > 0).then(|| of("GIT_CONFIG_KEY_").or_else(|| of("GIT_CONFIG_VALUE_")));
    new.flatten().map_or(Cow::Borrowed(name), Cow::Owned)
}

fn stdin(job: &JobFile, manifest: &Manifest, around: Surroundings<'_>) -> PlannedInput {
    if let (Some(resumed), Some(_), None) = (around.resumed, &manifest.resume_args, &job.stdin) {
        return PlannedInput::Text(resumed.prompt.to_owned());
    }
    match (&job.stdin, manifest.stdin) {
        (Some(Stdin::Text(text)), _) => PlannedInput::Text(text.clone()),
        (Some(Stdin::File(file)), _) => PlannedInput::File(file.clone()),
        (None, StdinFrom::None) => PlannedInput::Null,
        (None, StdinFrom::Prompt) => match (&job.metadata.known.prompt, around.prompt_file) {
            (Some(prompt), _) => PlannedInput::Text(prompt.clone()),
            (None, Some(file)) => PlannedInput::File(file.to_string_lossy().into_owned()),
            (None, None) => PlannedInput::Null,
        },
        (None, StdinFrom::Request) => PlannedInput::Text(request(job, around)),
    }
}

fn request(job: &JobFile, around: Surroundings<'_>) -> String {
    let request = json!({
        "schema_version": 1,
        "job_id": job.job_id,
        "attempt": around.attempt,
        "tool": job.tool,
        "repo_root": around.repo_root.to_string_lossy(),
        "working_dir": around.working_dir.to_string_lossy(),
        "metadata": job.metadata.all,
    });
    format!("{request}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse_job;

    fn planned(tool: &str, rest: &str) -> Result<Plan, CannotPlan> {
        let text = format!(r#"{{"job_id": "j", "tool": "{tool}"{rest}}}"#);
        let job = parse_job(text.as_bytes(), "f").unwrap().job;
        let manifest = super::super::find(None, &job.tool).unwrap().unwrap();
        let environment = Environment::new([("A_KEY".into(), "sk-123456".into())]);
        let prompt = job.metadata.known.message_file.clone();
        let around = Surroundings {
            attempt: 2,
            repo_root: Path::new("/repo"),
            working_dir: Path::new("/repo/sub"),
            root: Path::new("/repo/.engine"),
            prompt_file: prompt.as_deref().map(Path::new),
            attempt_dir: Some(Path::new("/attempt")),
            resumed: None,
            scope_files: job.metadata.known.files_scope.as_deref().unwrap_or_default(),
            environment: &environment,
            config: &Config::default(),
        };
        plan(&job, &manifest, around)
    }

    #[test]
    fn a_literal_command_is_run_literally() {
        let plan = planned("tests", r#", "command": {"exe": "pytest", "args": ["-k", "{x}"]}"#).unwrap();
        assert_eq!(
            (plan.exe.as_str(), plan.args.as_slice()),
            ("pytest", ["-k", "{x}"].map(str::to_owned).as_slice())
        );
        assert_eq!(plan.limits.total, Some(Duration::from_secs(300)));
    }

    #[test]
    fn without_an_exe_the_adapter_builds_the_command_and_the_jobs_arguments_follow() {
        let plan =
            planned("git", r#", "command": {"args": ["-s"]}, "metadata": {"git_operation": "status"}"#);
        assert_eq!(plan.unwrap().args, ["status", "-s"]);
    }

    #[test]
    fn an_agent_gets_its_prompt_by_stdin_or_file_and_never_by_an_argument() {
        for tool in ["aider", "codex", "claude", "gemini"] {
            let refused = planned(tool, "").unwrap_err();
            assert_eq!(refused.0.code, Code::PromptMissing);
            let plan = planned(tool, r#", "metadata": {"message_file": "p.md"}"#).unwrap();
            assert!(
                plan.args.contains(&"p.md".to_owned()) || plan.stdin == PlannedInput::File("p.md".to_owned())
            );
        }
        let plan = planned("codex", r#", "metadata": {"prompt": "do it"}"#).unwrap();
        assert_eq!(plan.stdin, PlannedInput::Text("do it".to_owned()));
        assert!(!plan.args.iter().any(|arg| arg.contains("do it")));
    }

    #[test]
    fn a_job_can_hand_its_tool_fewer_files_than_its_scope_has() {
        let metadata =
            r#", "metadata": {"message_file": "p", "files_scope": ["a", "b"], "scope_files": ["b"]}"#;
        let args = planned("aider", metadata).unwrap().args;
        let files = args.iter().zip(args.iter().skip(1)).filter(|(flag, _)| *flag == "--file");
        assert_eq!(files.map(|(_, file)| file.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_files_scope_is_spread_over_the_arguments() {
        let plan =
            planned("aider", r#", "metadata": {"message_file": "p", "files_scope": ["a", "b"]}"#).unwrap();
        let text = plan.args.join(" ");
        assert!(text.contains("--file a --file b"), "{text}");
    }

    #[test]
    fn a_secret_by_reference_is_resolved_and_an_unset_one_is_refused() {
        let plan =
            planned("shell", r#", "command": {"exe": "x"}, "env": {"B": {"from_env": "A_KEY"}}"#).unwrap();
        assert_eq!(plan.env, [("B".into(), "sk-123456".into())]);
        let refused = planned("shell", r#", "command": {"exe": "x"}, "env": {"B": {"from_env": "NO"}}"#);
        assert_eq!(refused.unwrap_err().0.code, Code::EnvMissing);
    }

    #[test]
    fn what_can_not_be_executed_is_named_before_anything_starts() {
        for (rest, code) in [
            ("", Code::CommandMissing),
            (r#", "command": {"exe": ""}"#, Code::CommandMissing),
            (r#", "command": {"exe": "x", "args": ["a\u0000"]}"#, Code::ArgumentInvalid),
            (r#", "command": {"exe": "x"}, "env": {"A=B": ""}"#, Code::EnvInvalid),
            (r#", "command": {"exe": "x"}, "env": {"A": "\u0000"}"#, Code::EnvInvalid),
        ] {
            assert_eq!(planned("shell", rest).unwrap_err().0.code, code, "{rest}");
        }
    }
}
