//! Whether a job has ended, and how: for who waits for it.
//!
//! Reads only. Hard rule: an end is told only after it is durable, whoever wrote it `REC_RESYNC`.

use super::dependencies::waits_for;
use super::ready::{self, Followed};
use super::{Result, places};
use crate::job::dag::{self, Graph};
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

/// Why a queued job does not run until a person does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// A dependency, near or far, has ended and did not succeed, or cannot be judged.
    Behind {
        /// That one.
        on: JobId,
        /// True if gc has retired it, so that there is nothing to requeue.
        is_retired: bool,
    },
    /// It waits for jobs that wait for each other in a circle, or is one of them.
    Circle(Vec<JobId>),
}

impl Stuck {
    /// The circle, if it is one.
    #[must_use]
    pub fn circle(&self) -> Option<&Vec<JobId>> {
        match self {
            Self::Behind { .. } => None,
            Self::Circle(circle) => Some(circle),
        }
    }

    /// What to do about it, in the imperative or as a command; `id` is the job that waits.
    #[must_use]
    pub fn advice(&self, id: &JobId) -> String {
        match self {
            Self::Behind { on, is_retired: false } => format!("engine requeue {on}"),
            Self::Behind { on, is_retired: true } => format!("submit `{on}` anew"),
            Self::Circle(_) => format!("engine explain {id}"),
        }
    }
}

/// So many jobs are looked at for what a job waits for: more of them say nothing.
const LONGEST_WALK: usize = 10_000;

/// Why a queued job does not run until a person does something, if that is so.
///
/// # Errors
/// Errors of the records on the way.
pub fn stuck(store: &Store, id: &JobId) -> Result<Option<Stuck>> {
    let mut graph = Graph::new();
    let mut to_look_at = vec![id.clone()];
    while let Some(next) = to_look_at.pop() {
        if graph.contains_key(&next) || graph.len() >= LONGEST_WALK {
            continue;
        }
        let followed = ready::follow(store, &next)?;
        let is_archived = matches!(followed, Followed::Archived(_));
        match followed {
            Followed::Unreadable(..) if next != *id => {
                return Ok(Some(Stuck::Behind { on: next, is_retired: false }));
            }
            Followed::Job(line) | Followed::Archived(line)
                if next != *id && line.status.is_terminal() && line.status != Status::Succeeded =>
            {
                // Of one that was escalated only the successor may be retired.
                let is_retired = is_archived && line.job_id == next;
                return Ok(Some(Stuck::Behind { on: next, is_retired }));
            }
            _ => {}
        }
        let on = waits_for(store, &next)?;
        to_look_at.extend(on.iter().cloned());
        graph.insert(next, on);
    }
    Ok(dag::cycles(&graph).into_iter().next().map(Stuck::Circle))
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
