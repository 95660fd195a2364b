//! What a run needs, looked for before anything is made: its tools, its checks, its repository, its name.
//!
//! Hard rule: nothing is written here, and all that is wrong is told at once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::assignment::{Assignment, job_of};
use super::create::{self, Piece, Prepared};
use super::repository::{self, FoundRepository};
use super::{environment, manifest};
use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::bundle::settings::{Resolved, Settings};
use crate::bundle::{Acceptance, Bundle, Paths, Place, Plan, ReadBundle};
use crate::git::Program;
use crate::job::run::{BASELINE_GATE, INTEGRATION, Origin};
use crate::job::{Code, JobFile, JobId, Reason, RunId, ToolId};
use crate::process::program::{self, Program as Found};
use crate::runner;
use crate::store::run_dir::{self, Remnant};
use crate::store::{Store, prices};

/// What a run is made of.
pub(crate) struct Wanted<'a> {
    /// Its name.
    pub run: RunId,
    /// Its bundles, by their ids.
    pub bundles: Vec<WantedBundle>,
    /// Its settings, those of the bundles apart.
    pub resolved: &'a Resolved,
    /// True if what has succeeded is merged at the end.
    pub is_merged: bool,
    /// True if a failure keeps what has not started from starting.
    pub is_fail_fast: bool,
    /// True if the checks of the merged tree must pass on the base commit before anything else starts.
    pub has_baseline: bool,
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

/// A bundle of a run.
pub(crate) struct WantedBundle {
    /// What was read.
    pub read: ReadBundle,
    /// The settings, its own included.
    pub resolved: Resolved,
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
    problems.extend(no_baseline(&wanted));
    let found = repository::find(program, wanted.project, (&wanted.run, remnant, wanted.base));
    let found = keep(&mut problems, found);
    if let Some(found) = found.as_ref().filter(|_| !settings.shared_environment) {
        for bundle in &wanted.bundles {
            let (checks, settings) = (&bundle.resolved.checks, &bundle.resolved.settings);
            problems.extend(environment::of_checkout(checks, settings, wanted.environment, &found.top));
        }
    }
    let Some(found) = found.filter(|_| problems.is_empty()) else { return Err(distinct(problems)) };
    let worktrees = create::worktrees(&settings.worktrees, &found.top, &wanted.cache);
    repository::check_place(program, &found.top, &worktrees, settings.worktrees.is_some())
        .map_err(|reason| vec![reason])?;
    let integration = integration(&wanted, &found);
    Ok(Prepared {
        warnings: warnings(store, &wanted, &found),
        integration,
        resolved: report(&wanted),
        base: found.base.clone(),
        worktrees: settings.worktrees.clone(),
        max_cost_usd: wanted.max_cost_usd,
        is_fail_fast: wanted.is_fail_fast,
        has_baseline: wanted.has_baseline,
        cache: wanted.cache.clone(),
        origin: wanted.origin.clone(),
        path: wanted.environment.get("PATH").map(|path| path.to_string_lossy().into_owned()),
        run: wanted.run.clone(),
        pieces: pieces(wanted, &found),
        repo: found.top,
    })
}

/// A thousand bundles may name one missing program.
fn distinct(problems: Vec<Reason>) -> Vec<Reason> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|reason| seen.insert((reason.code.clone(), reason.message.clone()))).collect()
}

/// The settings with their origins: those of a single bundle are those of the run.
fn report(wanted: &Wanted<'_>) -> Value {
    match wanted.bundles.as_slice() {
        [one] => one.resolved.report(),
        _ => wanted.resolved.report(),
    }
}

/// The workstreams in plan order.
fn pieces(wanted: Wanted<'_>, found: &FoundRepository) -> Vec<Piece> {
    let max_workers = usize::try_from(wanted.resolved.settings.max_workers).unwrap_or(usize::MAX);
    let (reads, resolved): (Vec<ReadBundle>, Vec<Resolved>) =
        wanted.bundles.into_iter().map(|one| (one.read, one.resolved)).unzip();
    let plan = Plan::of(&Paths::of(&reads), max_workers);
    let waves = plan.waves.wave_of();
    // Each has one place in the order.
    let mut both: Vec<Option<(ReadBundle, Resolved)>> = reads.into_iter().zip(resolved).map(Some).collect();
    let piece = |place: Place| {
        let (bundle, resolved) = both.get_mut(place.bundle)?.take()?;
        let run_max_cost_usd = wanted.max_cost_usd;
        let assignment =
            Assignment { run_max_cost_usd, ..assignment(bundle.bundle.clone(), resolved, found) };
        let wave = u32::try_from(waves[place.bundle]).unwrap_or(u32::MAX);
        Some(Piece { bundle, assignment, wave, place })
    };
    plan.order.places.into_iter().filter_map(piece).collect()
}

/// What integrates the workstreams; none of one without a gate.
fn integration(wanted: &Wanted<'_>, found: &FoundRepository) -> Option<Assignment> {
    if !has_integration(wanted) {
        return None;
    }
    let checks = wanted.resolved.integration.clone();
    let resolved = Resolved { checks, ..wanted.resolved.clone() };
    let assignment = assignment(Bundle::of_integration()?, resolved, found);
    Some(Assignment { is_not_merged: !wanted.is_merged, ..assignment })
}

fn has_integration(wanted: &Wanted<'_>) -> bool {
    wanted.bundles.len() > 1 || wanted.has_baseline
}

/// A gate without a check would prove nothing.
fn no_baseline(wanted: &Wanted<'_>) -> Option<Reason> {
    let message = "no check is set that --baseline could run: set `integration`, `static` or `runtime` of [workstreams], \
                   or give --check or --test";
    let is_empty = wanted.has_baseline && wanted.resolved.integration.is_empty();
    is_empty.then(|| Reason::new(Code::ArgumentMissing, message))
}

fn assignment(bundle: Bundle, resolved: Resolved, found: &FoundRepository) -> Assignment {
    Assignment {
        bundle,
        checks: resolved.checks,
        limits: resolved.limits,
        settings: resolved.settings,
        base: found.base.clone(),
        repo: found.top.to_string_lossy().into_owned(),
        worktree: String::new(),
        is_not_merged: false,
        run_max_cost_usd: None,
    }
}

/// What a person should know before the run begins.
fn warnings(store: Option<&Store>, wanted: &Wanted<'_>, found: &FoundRepository) -> Vec<String> {
    let mut warnings: Vec<String> = wanted.resolved.warnings.iter().map(ToString::to_string).collect();
    for one in &wanted.bundles {
        let bundle = &one.read.bundle;
        for item in bundle.acceptance() {
            if let Acceptance::Prose { text, hint } = item {
                warnings.push(prose(&text, hint.as_deref()));
            }
        }
        if one.resolved.checks.is_empty() {
            warnings.push("no check is set: whatever the agent leaves within its scope is taken".to_owned());
        }
        if wanted.max_cost_usd.is_some() || bundle.max_cost_usd.is_some() {
            warnings.extend(without_cost(store, one));
        }
    }
    if wanted.bundles.len() > 1 && wanted.is_merged && wanted.resolved.integration.is_empty() {
        warnings.push("no check is set for the merged tree: it is not proved".to_owned());
    }
    if found.has_changes {
        warnings.push("uncommitted changes of the checkout are not part of the run".to_owned());
    }
    let mut seen = BTreeSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    warnings
}

/// The tools that a limit of cost does not bind, because they report none.
fn without_cost(store: Option<&Store>, one: &WantedBundle) -> Vec<String> {
    let reports_none =
        |tool: &&ToolId| manifest(store, tool).is_ok_and(|manifest| manifest.reader.dialect().is_none());
    let warning = |tool: &ToolId| {
        format!("`{tool}` is no agent that reports its cost: the limit of cost does not bind it")
    };
    one.tools().filter(reports_none).map(warning).collect()
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
    let names = wanted.bundles.iter().map(|one| one.read.bundle.id.as_str());
    let jobs: Vec<JobId> = names
        .chain([INTEGRATION, BASELINE_GATE])
        .map(|name| job_of(&wanted.run, name))
        .collect::<Result<_, _>>()?;
    let Some(store) = store else { return Ok(Remnant::None) };
    store.check_space()?;
    prices::read(store.root())?;
    let mut is_taken = run_dir::read_manifest(store, &wanted.run)?.is_some();
    for job in &jobs {
        is_taken = is_taken || store.read_record(job)?.is_some_and(|record| !record.line.is_untouched());
    }
    if is_taken {
        let message = format!("there is a run `{}`: engine run --resume {}", wanted.run, wanted.run);
        return Err(Reason::new(Code::IdTaken, message));
    }
    Ok(run_dir::remnant(store, &wanted.run)?)
}

impl WantedBundle {
    /// The tools that edit.
    fn tools(&self) -> impl Iterator<Item = &ToolId> {
        let bundle = &self.read.bundle;
        let first = std::iter::once(&bundle.tool).filter(|_| bundle.has_edit());
        first.chain(&self.resolved.settings.recovery.fallback)
    }
}

/// Each tool that edits must be an adapter with a command of its own, and an agent must be able to start.
fn agents(store: Option<&Store>, wanted: &Wanted<'_>) -> Vec<Reason> {
    let can_start = |tool: &ToolId, settings: &Settings| {
        let manifest = manifest(store, tool)?;
        if manifest.executable.is_none() {
            let message = format!("the adapter `{tool}` has no command of its own: a bundle cannot name one");
            return Err(Reason::new(Code::CommandMissing, message));
        }
        runner::can_start(wanted.environment, &job_with(tool, settings)?, &manifest, wanted.project)
    };
    let mut seen = BTreeSet::new();
    let of_bundle = |one: &WantedBundle| {
        let new = one.tools().filter(|tool| seen.insert((*tool).clone()));
        new.filter_map(|tool| can_start(tool, &one.resolved.settings).err()).collect::<Vec<_>>()
    };
    wanted.bundles.iter().flat_map(of_bundle).collect()
}

/// A job of a tool, as far as the look for its program and its key needs one.
fn job_with(tool: &ToolId, settings: &Settings) -> Result<JobFile, Reason> {
    let document = json!({ "job_id": "a", "tool": tool, "env": settings.env });
    JobFile::read(&document).map_err(|error| Reason::from_error(Code::EnvInvalid, &error))
}

/// The programs of the checks. What `setup` may install, a path in the tree, is looked for after it.
fn programs(wanted: &Wanted<'_>) -> Vec<Reason> {
    let missing = |check: &Check, has_setup: bool| {
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
    let all = |checks: &[Check], settings: &Settings| {
        let has_setup = !settings.setup.is_empty();
        checks.iter().filter_map(|check| missing(check, has_setup)).collect::<Vec<_>>()
    };
    let of_bundle = |one: &WantedBundle| all(&one.resolved.checks, &one.resolved.settings);
    let mut problems: Vec<Reason> = wanted.bundles.iter().flat_map(of_bundle).collect();
    if has_integration(wanted) {
        problems.extend(all(&wanted.resolved.integration, &wanted.resolved.settings));
    }
    problems
}
