//! What a run needs, looked for before anything is made: its tools, its checks, its repository, its name.
//!
//! Hard rule: nothing is written here, and all that is wrong is told at once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::assignment::Assignment;
use super::create::{self, Prepared};
use super::{manifest, repository};
use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::bundle::settings::{Resolved, Settings};
use crate::bundle::{Acceptance, ReadBundle};
use crate::git::Program;
use crate::job::run::Origin;
use crate::job::{Code, JobFile, Reason, RunId, ToolId};
use crate::process::program::{self, Program as Found};
use crate::runner;
use crate::store::{Store, run_dir};

/// What a run is made of.
pub(crate) struct Wanted<'a> {
    /// Its name.
    pub run: RunId,
    /// Its one bundle.
    pub bundle: ReadBundle,
    /// Its settings, those of the bundle included.
    pub resolved: &'a Resolved,
    /// The directory whose repository it works on.
    pub project: &'a Path,
    /// The commit that it begins on; HEAD if none is named.
    pub base: Option<&'a str>,
    /// What it may cost.
    pub max_cost_usd: Option<f64>,
    /// The command that asked for it.
    pub origin: Origin,
    /// The environment of the steps.
    pub environment: &'a Environment,
    /// The directory of caches of this user.
    pub cache: PathBuf,
}

/// Checks everything, and says all that is wrong at once.
pub(crate) fn prepare(
    store: Option<&Store>,
    program: &Program,
    wanted: Wanted<'_>,
) -> Result<Prepared, Vec<Reason>> {
    let mut problems = Vec::new();
    let bundle = &wanted.bundle.bundle;
    let settings = &wanted.resolved.settings;
    let mut warnings: Vec<String> = wanted.resolved.warnings.iter().map(ToString::to_string).collect();
    let checks = wanted.resolved.checks.clone();
    for item in bundle.acceptance() {
        match item {
            Acceptance::Command(_) => {}
            Acceptance::Prose { text, hint } => warnings.push(prose(&text, hint.as_deref())),
        }
    }
    if checks.is_empty() {
        warnings.push("no check is set: whatever the agent leaves within its scope is taken".to_owned());
    }
    note(&mut problems, state(store, &wanted));
    problems.extend(agents(store, &wanted));
    problems.extend(programs(&checks, wanted.environment, wanted.project, !settings.setup.is_empty()));
    let found = repository::find(program, wanted.project, (&wanted.run, wanted.base));
    let found = match found {
        Ok(found) => Some(found),
        Err(reason) => {
            problems.push(reason);
            None
        }
    };
    let Some(found) = found.filter(|_| problems.is_empty()) else { return Err(problems) };
    let worktrees = create::worktrees(&settings.worktrees, &found.top, &wanted.cache);
    repository::check_place(program, &found.top, &worktrees, settings.worktrees.is_some())
        .map_err(|reason| vec![reason])?;
    if found.has_changes {
        warnings.push("uncommitted changes of the checkout are not part of the run".to_owned());
    }
    let repo = found.top.to_string_lossy().into_owned();
    let assignment = Assignment {
        bundle: bundle.clone(),
        checks,
        limits: wanted.resolved.limits.clone(),
        settings: settings.clone(),
        base: found.base.clone(),
        repo,
        worktree: String::new(),
        run_max_cost_usd: wanted.max_cost_usd,
    };
    Ok(Prepared {
        resolved: wanted.resolved.report(),
        repo: found.top,
        base: found.base,
        cache: wanted.cache,
        max_cost_usd: wanted.max_cost_usd,
        origin: wanted.origin,
        path: wanted.environment.get("PATH").map(|path| path.to_string_lossy().into_owned()),
        run: wanted.run,
        bundle: wanted.bundle,
        warnings,
        assignment,
    })
}

fn prose(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("acceptance test not run, only part of the prompt: {text}{hint}")
}

fn note(problems: &mut Vec<Reason>, found: Result<(), Reason>) {
    problems.extend(found.err());
}

/// The root: its space, and whether the name of the run is free.
fn state(store: Option<&Store>, wanted: &Wanted<'_>) -> Result<(), Reason> {
    let job = wanted.run.job_of(wanted.bundle.bundle.id.as_str());
    let job = job.map_err(|error| Reason::from_error(Code::Usage, &error))?;
    let Some(store) = store else { return Ok(()) };
    store.check_space()?;
    let is_taken = run_dir::read_manifest(store, &wanted.run)?.is_some()
        || store.read_record(&job)?.is_some_and(|r| !r.line.is_untouched());
    if is_taken {
        let message = format!("there is a run `{}`: engine run --resume {}", wanted.run, wanted.run);
        return Err(Reason::new(Code::IdTaken, message));
    }
    Ok(())
}

/// The tools that edit: each must be an adapter with a command of its own, and an agent must be able to start.
fn agents(store: Option<&Store>, wanted: &Wanted<'_>) -> Vec<Reason> {
    let settings = &wanted.resolved.settings;
    let bundle = &wanted.bundle.bundle;
    let mut problems = Vec::new();
    let tools =
        std::iter::once(&bundle.tool).filter(|_| bundle.has_edit()).chain(&settings.recovery.fallback);
    for tool in tools {
        let found = manifest(store, tool).and_then(|manifest| {
            if manifest.executable.is_none() {
                let message =
                    format!("the adapter `{tool}` has no command of its own: a bundle cannot name one");
                return Err(Reason::new(Code::CommandMissing, message));
            }
            runner::can_start(wanted.environment, &job_of(tool, settings)?, &manifest, wanted.project)
        });
        problems.extend(found.err());
    }
    problems
}

/// A job of a tool, as far as the look for its program and its key needs one.
fn job_of(tool: &ToolId, settings: &Settings) -> Result<JobFile, Reason> {
    let document = json!({ "job_id": "a", "tool": tool, "env": settings.env });
    JobFile::read(&document).map_err(|error| Reason::from_error(Code::EnvInvalid, &error))
}

/// The programs of the checks: in a tree that is prepared first, a path in it is looked for only then.
fn programs(checks: &[Check], environment: &Environment, project: &Path, has_setup: bool) -> Vec<Reason> {
    let missing = |check: &Check| {
        let program = check.program().filter(|_| !check.optional)?;
        if program.contains('/') && has_setup {
            return None;
        }
        match program::find(OsStr::new(&program), environment.get("PATH"), project) {
            Found::At(_) => None,
            Found::Missing if is_of_the_shell(&program) => None,
            Found::Missing => {
                let message = format!(
                    "`{program}` of the check `{}` was not found; is it installed, and in PATH?",
                    check.name
                );
                Some(Reason::new(Code::ToolMissing, message))
            }
            Found::NotExecutable(path) => {
                let message =
                    format!("`{}` of the check `{}` cannot be executed", path.display(), check.name);
                Some(Reason::new(Code::ToolMissing, message))
            }
        }
    };
    checks.iter().filter_map(missing).collect()
}

/// True for a word that `/bin/sh` itself knows.
fn is_of_the_shell(word: &str) -> bool {
    const WORDS: [&str; 30] = [
        "!", ".", ":", "[", "alias", "break", "case", "cd", "command", "echo", "eval", "exec", "exit",
        "export", "false", "for", "if", "printf", "read", "return", "set", "shift", "test", "trap", "true",
        "ulimit", "umask", "unset", "until", "while",
    ];
    WORDS.contains(&word) || word.starts_with(['(', '{'])
}
