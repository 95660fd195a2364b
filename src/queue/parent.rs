//! A job that is a part of another one, its parent: a step of a workstream.
//!
//! Hard rule `CHILD_UNDER`: it runs only by a process whose environment names the open attempt of its parent. Such a process
//! is ended before that attempt is declared over, so the answer holds as long as the process does.

use std::ffi::OsStr;

use super::Result;
use crate::job::{Code, JobFile, Reason};
use crate::store::Store;

/// Why this process may not run a job, if it may not; `marker` is the attempt that its environment names.
///
/// # Errors
/// Store errors of the parent's record.
pub(crate) fn why_not_under(store: &Store, job: &JobFile, marker: Option<&OsStr>) -> Result<Option<Reason>> {
    let Some(parent) = &job.parent else { return Ok(None) };
    let refused = |why: &str| {
        let message = format!("it is a part of `{parent}`, and {why}");
        Ok(Some(Reason::new(Code::NotUnderParent, message).at("/parent")))
    };
    let Some(line) = store.read_record(parent)?.map(|record| record.line) else {
        return refused("there is no such job");
    };
    if line.job.parent.is_some() {
        return refused("that is a part of another job itself");
    }
    let Some(open) = line.open_attempt() else { return refused("that job is not running") };
    let wanted = format!("{}/{parent}/{}", store.uuid(), open.attempt);
    match marker {
        Some(marker) if *marker == *wanted => Ok(None),
        _ => refused("only the tool of that job starts it"),
    }
}
