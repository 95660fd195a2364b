//! The job file of a step. Pure.
//!
//! A step is a job like any other: it can be looked at, canceled and repeated. Hard rule: an agent's prompt stands in the job
//! file and reaches it on standard input, never as an argument of a program.

use serde_json::{Map, Value, json};

use super::assignment::Request;
use crate::bundle::checks::Check;
use crate::bundle::settings::Settings;
use crate::fix_loop::Why;
use crate::job::number::Seconds;
use crate::job::spec::EnvValue;
use crate::job::step::StepFacts;
use crate::job::{JobId, SCHEMA_VERSION, StepKind, ToolId};

/// What is common to the steps of one workstream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'a> {
    /// The workstream.
    pub request: &'a Request,
    /// The job of the step.
    pub id: &'a JobId,
    /// What the step is, and on which tree it is made.
    pub facts: &'a StepFacts,
}

/// What an agent is asked for.
#[derive(Debug, Clone)]
pub(super) struct AgentStep<'a> {
    /// Its adapter.
    pub tool: &'a ToolId,
    /// Its prompt.
    pub prompt: &'a str,
    /// The only files of the scope that its tool is handed; none if it gets them all. The scope is the same: what the tool changes
    /// without having been handed it is no violation.
    pub only: Option<Vec<String>>,
    /// What it may cost.
    pub max_cost_usd: Option<f64>,
}

/// The facts of a new step.
pub(super) fn facts(n: u32, kind: StepKind, check: Option<&Check>, why: Why) -> StepFacts {
    StepFacts {
        n,
        kind: Some(kind),
        name: Some(check.map_or_else(|| kind.as_str().to_owned(), |check| check.name.clone())),
        check: check.map(|check| check.name.clone()),
        check_digest: check.map(Check::digest),
        why: serde_json::to_value(why).ok().and_then(|word| word.as_str().map(str::to_owned)),
        ..StepFacts::default()
    }
}

/// The job of an agent.
pub(super) fn agent(common: Common<'_>, step: &AgentStep<'_>) -> Value {
    let settings = &common.request.assignment.settings;
    let timeout = match common.facts.kind {
        Some(StepKind::Fix) => settings.timeouts.fix,
        _ => settings.timeouts.edit,
    };
    let mut metadata = Map::from_iter([
        ("prompt".to_owned(), json!(step.prompt)),
        ("files_scope".to_owned(), json!(common.request.assignment.bundle.writable())),
        ("timeout_seconds".to_owned(), json!(timeout)),
        // Whether nothing was to be changed is judged by the conductor.
        ("allow_no_change".to_owned(), json!(true)),
    ]);
    metadata.extend(step.only.as_ref().map(|files| ("scope_files".to_owned(), json!(files))));
    metadata.extend(step.max_cost_usd.map(|most| ("max_cost_usd".to_owned(), json!(most))));
    document(common, step.tool.as_str(), metadata)
}

/// The job of a check.
pub(super) fn check(common: Common<'_>, check: &Check, files: &[String]) -> Value {
    let job = check.job(&common.request.assignment.worktree, files);
    let mut document = document(common, &job.tool, job.metadata);
    if let Some(exe) = job.exe {
        document["command"] = json!({ "exe": exe, "args": job.args });
    } else if !job.args.is_empty() {
        document["command"] = json!({ "args": job.args });
    }
    if let Some(dir) = job.working_dir {
        document["paths"]["working_dir"] = json!(dir);
    }
    if !job.locks.is_empty() {
        document["locks"] = json!(job.locks);
    }
    // An edit of the same length within the same second leaves the time and the size by which Python knows its cache.
    let no_cache = ("PYTHONDONTWRITEBYTECODE".to_owned(), EnvValue::Text("1".to_owned()));
    add_env(&mut document, std::iter::once(no_cache).chain(job.env));
    document
}

/// The job that prepares a new worktree: all commands in order, up to the first that fails.
pub(super) fn setup(common: Common<'_>, settings: &Settings) -> Value {
    let script = settings.setup.iter().map(|line| format!("{line}\n")).collect::<String>();
    let metadata = Map::from_iter([("timeout_seconds".to_owned(), json!(SETUP_TIMEOUT))]);
    let mut document = document(common, "shell", metadata);
    document["command"] = json!({ "exe": "/bin/sh", "args": ["-e", "-c", script] });
    let checkout = EnvValue::Text(common.request.assignment.repo.clone());
    add_env(&mut document, [("ENGINE_ROOT_PATH".to_owned(), checkout)].into_iter());
    document
}

/// A setup may have to fetch packages.
const SETUP_TIMEOUT: Seconds = Seconds::HOUR;

fn document(common: Common<'_>, tool: &str, mut metadata: Map<String, Value>) -> Value {
    let Common { request, id, facts } = common;
    let assignment = &request.assignment;
    metadata.insert("step".to_owned(), json!(facts));
    let mut document = json!({
        "schema_version": SCHEMA_VERSION,
        "job_id": id,
        "run_id": request.run,
        "workstream_id": request.ws(),
        "parent": request.job_id,
        "tool": tool,
        "paths": { "repo_root": assignment.worktree },
        "env": {},
        // The conductor decides what follows a failure, and what a crash.
        "on_failure": "done",
        "on_crash": "quarantine",
        "metadata": metadata,
    });
    let text = |name: &str, value: String| (name.to_owned(), EnvValue::Text(value));
    let own = [
        text("ENGINE_RUN_ID", request.run.to_string()),
        text("ENGINE_WORKSTREAM_ID", request.ws().to_owned()),
        text("ENGINE_STEP", facts.kind.map(StepKind::as_str).unwrap_or_default().to_owned()),
        text("ENGINE_STEP_NUMBER", facts.n.to_string()),
        text("ENGINE_FIX_ITERATION", facts.iteration.to_string()),
        text("ENGINE_WORKSPACE_PATH", assignment.worktree.clone()),
    ];
    add_env(&mut document, assignment.settings.env.clone().into_iter().chain(own));
    document
}

fn add_env(document: &mut Value, variables: impl Iterator<Item = (String, EnvValue)>) {
    let Some(env) = document.get_mut("env").and_then(Value::as_object_mut) else { return };
    env.extend(variables.map(|(name, value)| (name, json!(value))));
}
