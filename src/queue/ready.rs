//! Whether a job may start now: hold, time and dependencies.

use super::{Result, places};
use crate::clock::Timestamp;
use crate::job::record::Dependency;
use crate::job::{Code, JobFile, JobId, Place, Reason, RecordLine, Status};
use crate::store::{Store, StoreError, archived, control};

/// Why a job does not start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For people and programs.
    pub reason: Reason,
    /// What it waits for.
    pub on: Blocker,
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// A hold, of the job or of the queue.
    Hold,
    /// A time.
    Time(Timestamp),
    /// The success of another job.
    Dependency(JobId),
}

impl Waiting {
    fn new(code: Code, message: String, on: Blocker) -> Self {
        Self { reason: Reason::new(code, message), on }
    }
}

/// Judges a job; if it may start, its dependencies as they were found.
///
/// # Errors
/// Errors of the records of its dependencies.
pub fn judge(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Vec<Dependency>, Waiting>> {
    if let Some(message) = held_by(store, &job.job_id)? {
        return Ok(Err(Waiting::new(Code::WaitingHold, message, Blocker::Hold)));
    }
    let not_before = job.not_before.into_iter().chain(parked_until).max();
    if let Some(time) = not_before.filter(|time| *time > now) {
        return Ok(Err(Waiting::new(Code::WaitingTime, format!("not before {time}"), Blocker::Time(time))));
    }
    let mut judged = Vec::new();
    for id in job.dependencies() {
        match dependency(store, id)? {
            Ok(dependency) => judged.push(dependency),
            Err(problem) => {
                let message = format!("waits for `{id}`, which {problem}");
                let on = Blocker::Dependency(id.clone());
                return Ok(Err(Waiting::new(Code::WaitingDependency, message, on)));
            }
        }
    }
    Ok(Ok(judged))
}

fn held_by(store: &Store, id: &JobId) -> Result<Option<String>> {
    let hold = control::hold_of(store, id)?;
    Ok(hold.map(|(file, hold)| match hold.reason {
        Some(reason) => format!("held by `{file}`: {reason}"),
        None => format!("held by `{file}`"),
    }))
}

/// A dependency as it is judged, or what keeps it from having succeeded.
pub(crate) fn dependency(store: &Store, id: &JobId) -> Result<std::result::Result<Dependency, String>> {
    Ok(match follow(store, id)? {
        Followed::Unknown => Err("is not known here".to_owned()),
        Followed::Queued(_) => Err(format!("is {}", Status::Queued)),
        Followed::TooLong => Err("was escalated too often".to_owned()),
        Followed::Unreadable(..) => Err("has a record that cannot be read".to_owned()),
        Followed::Job(line) | Followed::Archived(line) if line.status == Status::Succeeded => {
            Ok(Dependency { job_id: line.job_id.clone(), status: line.status, seq: line.seq })
        }
        Followed::Job(line) => Err(format!("is {}", line.status)),
        Followed::Archived(line) => Err(format!("was {} when gc retired it", line.status)),
    })
}

/// The job whose end counts for another.
#[derive(Debug)]
pub enum Followed {
    /// There is no such job.
    Unknown,
    /// This one, whose file waits in the queue and has no record yet.
    Queued(JobId),
    /// It was escalated too often.
    TooLong,
    /// The record of this one cannot be read.
    Unreadable(JobId, StoreError),
    /// This one, as its record says.
    Job(Box<RecordLine>),
    /// This one, as it stood when gc retired it.
    Archived(Box<RecordLine>),
}

/// Finds the job that decides for an id: a job that was escalated is judged by the one that it was escalated to.
///
/// # Errors
/// Errors of the records.
pub fn follow(store: &Store, id: &JobId) -> Result<Followed> {
    const LONGEST_CHAIN: usize = 16;
    let mut asked = id.clone();
    for _ in 0..LONGEST_CHAIN {
        let mut decided: fn(Box<RecordLine>) -> Followed = Followed::Job;
        let record = match store.read_record(&asked) {
            Ok(Some(record)) => record,
            // A file that is there is a job to come, whatever was archived under its name.
            Ok(None) if places::is_at(store, &asked, &Place::Queued)? => return Ok(Followed::Queued(asked)),
            Ok(None) => match archived::last_of(store, &asked)? {
                Some(retired) => {
                    decided = Followed::Archived;
                    retired.record
                }
                None => return Ok(Followed::Unknown),
            },
            Err(error @ (StoreError::Unreadable { .. } | StoreError::NewerFormat { .. })) => {
                return Ok(Followed::Unreadable(asked, error));
            }
            Err(error) => return Err(error.into()),
        };
        match record.line.escalated_to().and_then(|next| JobId::new(next).ok()) {
            Some(next) => asked = next,
            None => return Ok(decided(Box::new(record.line))),
        }
    }
    Ok(Followed::TooLong)
}
