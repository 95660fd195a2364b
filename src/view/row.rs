//! A job as lists show it.

use crate::clock::Timestamp;
use crate::job::record::{Acceptance, JobSummary};
use crate::job::{Attempt, Code, JobId, Place, Reason, RecordLine, Status};

/// A job in a list.
#[derive(Debug, Clone)]
pub struct Row {
    /// The job.
    pub id: JobId,
    /// When its record last changed; when its file did, if it has none.
    pub at: Timestamp,
    /// Its status.
    pub status: Status,
    /// Where its file belongs.
    pub place: Place,
    /// The summary of its job file.
    pub job: JobSummary,
    /// Its last attempt in this life.
    pub attempt: Option<Attempt>,
    /// How many attempts there were in all its lives.
    pub attempts: u32,
    /// It does not start before this time.
    pub not_before: Option<Timestamp>,
    /// The problem of a file that a person put into the queue, as a word.
    pub problem: Option<Code>,
    /// Why it does not start, as far as its record tells.
    pub waiting: Option<Reason>,
    /// When it was accepted.
    pub accepted: Acceptance,
}

impl Row {
    pub(super) fn from_last_line(line: RecordLine) -> Self {
        Self {
            at: line.at,
            accepted: line.acceptance(),
            status: line.status,
            attempts: line.next_attempt().saturating_sub(1),
            not_before: line.not_before,
            place: line.place,
            job: line.job,
            attempt: line.attempts.into_iter().next_back(),
            problem: None,
            waiting: None,
            id: line.job_id,
        }
    }

    pub(super) fn without_record(id: &JobId, place: Place, at: Timestamp, job: JobSummary) -> Self {
        let status = if place == Place::Running { Status::Running } else { Status::Queued };
        Self {
            id: id.clone(),
            at,
            accepted: Acceptance::of_file(Some(at)),
            status,
            place,
            job,
            attempt: None,
            attempts: 0,
            not_before: None,
            problem: None,
            waiting: None,
        }
    }
}
