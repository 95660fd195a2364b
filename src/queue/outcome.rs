//! Whether a job has ended, and how: for who waits for it.
//!
//! Reads only. Hard rule: an end is told only after it is durable, whoever wrote it `REC_RESYNC`.

use std::collections::BTreeSet;

use super::ready::{self, Followed};
use super::{Result, places};
use crate::job::{JobId, Place, RecordLine, Status};
use crate::store::Store;

/// Where a job is on its way.
#[derive(Debug)]
pub enum Progress {
    /// There is no such job.
    Unknown,
    /// It waits or runs; its last line, if it has one.
    Going(Option<Box<RecordLine>>),
    /// It has ended; the durable last line of the job that decides, which is its successor if it was escalated.
    Ended(Box<RecordLine>),
}

/// Looks at a job.
///
/// # Errors
/// Errors of its record, and of those of its successors.
pub fn look(store: &Store, id: &JobId) -> Result<Progress> {
    let line = match ready::follow(store, id)? {
        Followed::Job(line) => line,
        // What gc retired was durable before.
        Followed::Archived(line) => return Ok(Progress::Ended(line)),
        Followed::Unreadable(_, error) => return Err(error.into()),
        Followed::Unknown | Followed::TooLong => {
            // Of an escalated job the successor is not there yet, or its chain has no end.
            let own = store.read_record(id)?.map(|record| Box::new(record.line));
            return Ok(if is_known(store, id)? { Progress::Going(own) } else { Progress::Unknown });
        }
    };
    if line.status.is_terminal() {
        store.sync_record(&line.job_id)?;
        if line.job_id != *id {
            store.sync_record(id)?;
        }
        return Ok(Progress::Ended(line));
    }
    if !is_known(store, &line.job_id)? {
        return Ok(Progress::Unknown);
    }
    Ok(Progress::Going(Some(line)))
}

/// The job because of which a queued job does not run until a person does something: a dependency, near or far, that has
/// ended and did not succeed.
///
/// # Errors
/// Errors of the records on the way.
pub fn stuck_behind(store: &Store, id: &JobId) -> Result<Option<JobId>> {
    let mut seen = BTreeSet::from([id.clone()]);
    let mut to_look_at = vec![id.clone()];
    while let Some(next) = to_look_at.pop() {
        let line = match ready::follow(store, &next)? {
            Followed::Job(line) | Followed::Archived(line) => line,
            Followed::Unreadable(..) if next != *id => return Ok(Some(next)),
            _ => continue,
        };
        if line.status.is_terminal() {
            if next != *id && line.status != Status::Succeeded {
                return Ok(Some(next));
            }
        } else if line.status == Status::Queued {
            to_look_at.extend(line.job.depends_on.iter().filter(|on| seen.insert((*on).clone())).cloned());
        }
    }
    Ok(None)
}

/// True if there is such a job: it has a file that waits or runs, or a record that promises something.
///
/// # Errors
/// Errors of its record.
pub fn is_known(store: &Store, id: &JobId) -> Result<bool> {
    let promised = |store: &Store| {
        let record = store.read_record(id)?;
        Ok::<bool, crate::store::StoreError>(record.is_some_and(|record| !record.line.is_untouched()))
    };
    // The record is looked at once more: a claim writes it before it moves the file.
    Ok(promised(store)? || has_file(store, id)? || promised(store)?)
}

/// True if the job did what it was to do.
#[must_use]
pub fn is_success(line: &RecordLine) -> bool {
    line.status == Status::Succeeded
}

fn has_file(store: &Store, id: &JobId) -> Result<bool> {
    Ok(places::is_at(store, id, &Place::Queued)? || places::is_at(store, id, &Place::Running)?)
}
