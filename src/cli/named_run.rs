//! The run that a command line names.

use super::error::CliError;
use crate::clock::{Clock, SystemClock};
use crate::job::parse::nearest::nearest;
use crate::job::{Code, JobId, RunId, RunManifest};
use crate::store::{Store, run_dir};
use crate::view::run::stays::{Stays, stays};
use crate::view::run::{self, Depth};

/// The run of a name on the command line; `last` is the newest.
///
/// # Errors
/// 1 if there is no such run; 2 if the name cannot be that of one.
pub(super) fn named(store: &Store, name: &str) -> Result<RunManifest, CliError> {
    if name == RunId::LAST {
        let hint = "engine runs list";
        return run_dir::last(store)?.ok_or_else(|| CliError::no("there is no run").hint(hint));
    }
    let run = RunId::new(name).map_err(|error| CliError::usage(error.to_string()))?;
    run_dir::read_manifest(store, &run)?.ok_or_else(|| not_found(store, &run))
}

fn not_found(store: &Store, run: &RunId) -> CliError {
    let known = run_dir::list(store).unwrap_or_default();
    if known.unfinished.contains(run) {
        let error = CliError::no(format!("the run `{run}` was never made: its directory has no manifest"));
        return error.hint(format!("start it again under the same id, or engine runs clean {run}"));
    }
    let names: Vec<&str> = known.runs.iter().map(|made| made.run_id.as_str()).collect();
    let error = CliError::no(format!("there is no run `{run}`"));
    match nearest(run.as_str(), &names) {
        Some(name) => error.hint(format!("did you mean `{name}`? All of them: engine runs list")),
        None => error.hint("engine runs list"),
    }
}

/// What is wrong with a run whose jobs are not in the queue, nor move; none of any other.
///
/// # Errors
/// File system errors.
pub(super) fn not_queued(store: &Store, manifest: &RunManifest) -> Result<Option<CliError>, CliError> {
    let run = &manifest.run_id;
    // First: a process that makes a run keeps its directory until the jobs are in the queue.
    let is_in_work = run_dir::is_in_work(store, run);
    let now = SystemClock::start().now();
    let facts = run::read(store, manifest.clone(), Depth::Status, now)?;
    if stays(&facts) != Some(Stays::NotQueued) {
        return Ok(None);
    }
    Ok(Some(if is_in_work {
        let error = CliError::no(format!("another process is submitting the jobs of the run `{run}`"));
        error.with_code(Code::IdBusy).hint("run the command again when that has ended")
    } else {
        let error = CliError::no(format!(
            "jobs of the run `{run}` are not in the queue: the process that made it was ended before it submitted them"
        ));
        error.with_code(Code::NotQueued).hint(format!("engine run --resume {run}"))
    }))
}

/// Why there is no job of a run of this name, which `engine run` may have made or not.
pub(super) fn no_job_of(store: &Store, name: &str) -> CliError {
    let made = RunId::new(name).ok().and_then(|run| run_dir::read_manifest(store, &run).ok()?);
    let not_queued = made.and_then(|manifest| not_queued(store, &manifest).ok()?);
    not_queued
        .unwrap_or_else(|| CliError::no(format!("there is no job of a run `{name}`")).hint("engine list"))
}

/// What is wrong with the id of a job that is not there, if it is the name of a run, or of a job of one.
pub(super) fn instead_of_job(store: &Store, id: &JobId) -> Option<CliError> {
    let made = |run: &RunId| run_dir::read_manifest(store, run).ok()?;
    if let Some(manifest) = RunId::new(id.as_str()).ok().and_then(|run| made(&run)) {
        let run = manifest.run_id;
        let error = CliError::no(format!("there is no job `{id}`, but a run of that name"));
        return Some(error.hint(format!("engine runs show {run}")));
    }
    let manifest = made(&RunId::of_part(id)?)?;
    let run = &manifest.run_id;
    let workstreams = manifest.order.iter().filter_map(|one| run.job_of(&one.ws_id).ok());
    let mut jobs = workstreams.chain(manifest.baseline_job()).chain(manifest.integration_job());
    let error = CliError::no(format!("the job `{id}` of the run `{run}` is not in the queue"));
    jobs.any(|job| job == *id).then(|| error.hint(format!("engine run --resume {run}")))
}
