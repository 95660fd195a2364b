//! What a run needs, looked for before anything is made: its tools, its checks, its repository, its name.
//!
//! Hard rule: nothing is written here, and all that is wrong is told at once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::assignment::Assignment;
use super::create::{self, Prepared};
use super::repository::{self, FoundRepository};
use super::{environment, manifest};
use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::bundle::settings::{Resolved, Settings};
use crate::bundle::{Acceptance, ReadBundle};
use crate::git::Program;
use crate::job::run::Origin;
use crate::job::{Code, JobFile, Reason, RunId, ToolId};
use crate::process::program::{self, Program as Found};
use crate::runner;
use crate::store::run_dir::{self, Remnant};
use crate::store::{Store, prices};

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
    let settings = &wanted.resolved.settings;
    let mut problems = Vec::new();
    let remnant = keep(&mut problems, state(store, &wanted)).unwrap_or(Remnant::None);
    problems.extend(agents(store, &wanted));
    problems.extend(programs(&wanted));
    let found = repository::find(program, wanted.project, (&wanted.run, remnant, wanted.base));
    let found = keep(&mut problems, found);
    if let Some(found) = found.as_ref().filter(|_| !settings.shared_environment) {
        let checks = &wanted.resolved.checks;
        problems.extend(environment::of_checkout(checks, settings, wanted.environment, &found.top));
    }
    let Some(found) = found.filter(|_| problems.is_empty()) else { return Err(problems) };
    let worktrees = create::worktrees(&settings.worktrees, &found.top, &wanted.cache);
    repository::check_place(program, &found.top, &worktrees, settings.worktrees.is_some())
        .map_err(|reason| vec![reason])?;
    Ok(Prepared {
        warnings: warnings(store, &wanted, &found),
        assignment: assignment(&wanted, &found),
        resolved: wanted.resolved.report(),
        repo: found.top,
        cache: wanted.cache,
        origin: wanted.origin,
        path: wanted.environment.get("PATH").map(|path| path.to_string_lossy().into_owned()),
        run: wanted.run,
        bundle: wanted.bundle,
    })
}

fn assignment(wanted: &Wanted<'_>, found: &FoundRepository) -> Assignment {
    Assignment {
        bundle: wanted.bundle.bundle.clone(),
        checks: wanted.resolved.checks.clone(),
        limits: wanted.resolved.limits.clone(),
        settings: wanted.resolved.settings.clone(),
        base: found.base.clone(),
        repo: found.top.to_string_lossy().into_owned(),
        worktree: String::new(),
        run_max_cost_usd: wanted.max_cost_usd,
    }
}

/// What a person should know before the run begins.
fn warnings(store: Option<&Store>, wanted: &Wanted<'_>, found: &FoundRepository) -> Vec<String> {
    let bundle = &wanted.bundle.bundle;
    let mut warnings: Vec<String> = wanted.resolved.warnings.iter().map(ToString::to_string).collect();
    for item in bundle.acceptance() {
        if let Acceptance::Prose { text, hint } = item {
            warnings.push(prose(&text, hint.as_deref()));
        }
    }
    if wanted.resolved.checks.is_empty() {
        warnings.push("no check is set: whatever the agent leaves within its scope is taken".to_owned());
    }
    if wanted.max_cost_usd.is_some() || bundle.max_cost_usd.is_some() {
        warnings.extend(without_cost(store, wanted));
    }
    if found.has_changes {
        warnings.push("uncommitted changes of the checkout are not part of the run".to_owned());
    }
    warnings
}

/// The tools that a limit of cost does not bind, because they report none.
fn without_cost(store: Option<&Store>, wanted: &Wanted<'_>) -> Vec<String> {
    let reports_none =
        |tool: &&ToolId| manifest(store, tool).is_ok_and(|manifest| manifest.reader.dialect().is_none());
    let warning = |tool: &ToolId| {
        format!("`{tool}` is no agent that reports its cost: the limit of cost does not bind it")
    };
    wanted.tools().filter(reports_none).map(warning).collect()
}

/// The answer; its problem goes to the others.
fn keep<T>(problems: &mut Vec<Reason>, found: Result<T, Reason>) -> Option<T> {
    found.map_err(|reason| problems.push(reason)).ok()
}

fn prose(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("acceptance test not run, only part of the prompt: {text}{hint}")
}

/// The root: its space, its prices, and whether the name of the run is free.
fn state(store: Option<&Store>, wanted: &Wanted<'_>) -> Result<Remnant, Reason> {
    let job = wanted.run.job_of(wanted.bundle.bundle.id.as_str());
    let job = job.map_err(|error| Reason::from_error(Code::Usage, &error))?;
    let Some(store) = store else { return Ok(Remnant::None) };
    store.check_space()?;
    prices::read(store.root())?;
    let is_taken = run_dir::read_manifest(store, &wanted.run)?.is_some()
        || store.read_record(&job)?.is_some_and(|r| !r.line.is_untouched());
    if is_taken {
        let message = format!("there is a run `{}`: engine run --resume {}", wanted.run, wanted.run);
        return Err(Reason::new(Code::IdTaken, message));
    }
    Ok(run_dir::remnant(store, &wanted.run)?)
}

impl Wanted<'_> {
    /// The tools that edit.
    fn tools(&self) -> impl Iterator<Item = &ToolId> {
        let bundle = &self.bundle.bundle;
        let first = std::iter::once(&bundle.tool).filter(|_| bundle.has_edit());
        first.chain(&self.resolved.settings.recovery.fallback)
    }
}

/// Each tool that edits must be an adapter with a command of its own, and an agent must be able to start.
fn agents(store: Option<&Store>, wanted: &Wanted<'_>) -> Vec<Reason> {
    let can_start = |tool: &ToolId| {
        let manifest = manifest(store, tool)?;
        if manifest.executable.is_none() {
            let message = format!("the adapter `{tool}` has no command of its own: a bundle cannot name one");
            return Err(Reason::new(Code::CommandMissing, message));
        }
        let job = job_of(tool, &wanted.resolved.settings)?;
        runner::can_start(wanted.environment, &job, &manifest, wanted.project)
    };
    wanted.tools().filter_map(|tool| can_start(tool).err()).collect()
}

/// A job of a tool, as far as the look for its program and its key needs one.
fn job_of(tool: &ToolId, settings: &Settings) -> Result<JobFile, Reason> {
    let document = json!({ "job_id": "a", "tool": tool, "env": settings.env });
    JobFile::read(&document).map_err(|error| Reason::from_error(Code::EnvInvalid, &error))
}

/// The programs of the checks. What `setup` may install, a path in the tree, is looked for after it.
fn programs(wanted: &Wanted<'_>) -> Vec<Reason> {
    let has_setup = !wanted.resolved.settings.setup.is_empty();
    let missing = |check: &Check| {
        let program =
            check.program().filter(|program| !(check.optional || has_setup && program.contains('/')))?;
        let message =
            match program::find(OsStr::new(&program), wanted.environment.get("PATH"), wanted.project) {
                Found::At(_) => return None,
                Found::Missing => format!(
                    "`{program}` of the check `{}` was not found; is it installed, and in PATH?",
                    check.name
                ),
                Found::NotExecutable(path) => {
                    format!("`{}` of the check `{}` cannot be executed", path.display(), check.name)
                }
            };
        Some(Reason::new(Code::ToolMissing, message))
    };
    wanted.resolved.checks.iter().filter_map(missing).collect()
}
