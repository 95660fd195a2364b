//! What several verbs print about a job: its id, that it does not exist, its runner.

use super::error::CliError;
use super::named_run::instead_of_job;
use crate::job::parse::nearest::nearest;
use crate::job::{Code, JobId, Place, Reason};
use crate::queue::places;
use crate::store::{Store, archived};
use crate::view::runner::Runner;

/// An id from the command line.
pub(super) fn known_id(text: &str) -> Result<JobId, CliError> {
    JobId::new(text).map_err(|error| CliError::usage(error.to_string()))
}

/// Says that no such job, with the name that was perhaps meant.
pub(super) fn not_found(store: &Store, id: &JobId) -> CliError {
    if let Some(error) = instead_of_job(store, id) {
        return error;
    }
    let mut known = store.recorded_ids().unwrap_or_default();
    known.extend(places::ids(store, &Place::Queued).unwrap_or_default());
    // A free id has an empty record until gc.
    known.retain(|known| known != id);
    let names: Vec<&str> = known.iter().map(JobId::as_str).collect();
    let error = CliError::no(format!("there is no job `{id}`"));
    match nearest(id.as_str(), &names) {
        Some(name) => error.hint(format!("did you mean `{name}`? All of them: engine list")),
        None => error.hint("engine list"),
    }
}

/// Why no command applies to an id without a job: it is unknown, or gc has retired its job.
pub(super) fn no_job(store: &Store, id: &JobId) -> Result<Reason, CliError> {
    Ok(match archived::last_of(store, id)? {
        None => Reason::new(Code::NotFound, format!("there is no job `{id}`")),
        Some(retired) => {
            let (status, file) = (retired.record.line.status, retired.file);
            let message = format!("gc has retired the job `{id}` ({status}) to {file}: engine show {id}");
            Reason::new(Code::Archived, message)
        }
    })
}

/// The advice about the runner of an open attempt, if any.
pub(super) fn note_of(runner: Runner, pid: i32) -> Option<String> {
    match runner {
        Runner::Gone => Some("its runner is gone: engine recover".to_owned()),
        Runner::Stopped => Some(format!("its runner is stopped and keeps no limit: kill -CONT {pid}")),
        Runner::Alive | Runner::Elsewhere | Runner::None => None,
    }
}
