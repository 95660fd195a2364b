//! The run that a command line names.

use super::error::CliError;
use crate::job::parse::nearest::nearest;
use crate::job::{RunId, RunManifest};
use crate::store::{Store, run_dir};

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
