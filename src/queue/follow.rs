//! The job that decides for an id: where a dependency, or a job of `after`, leads through escalations.
//!
//! Looks without leases. Hard rule: of one id the record counts, then its file in the queue, then the archive.

use std::fmt;

use super::{Result, places};
use crate::causes::causes;
use crate::job::record::Dependency;
use crate::job::{JobId, Place, RecordLine, Status};
use crate::store::{Store, StoreError, archived};

/// Why a dependency is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotMet {
    /// There is no such job.
    Unknown,
    /// It was escalated too often.
    TooLong,
    /// The record of the job that decides cannot be read, for this reason.
    Unreadable(JobId, String),
    /// The job that decides has this status.
    Is(JobId, Status),
    /// The job that decides had this status when gc retired it.
    Was(JobId, Status),
}

impl fmt::Display for NotMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("is not known here"),
            Self::TooLong => f.write_str("was escalated too often"),
            Self::Unreadable(..) => f.write_str("has a record that cannot be read"),
            Self::Is(_, status) => write!(f, "is {status}"),
            Self::Was(_, status) => write!(f, "was {status} when gc retired it"),
        }
    }
}

/// A dependency as it is judged, or what keeps it from having succeeded.
pub(crate) fn dependency(store: &Store, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
    Ok(match follow(store, id)? {
        Followed::Unknown => Err(NotMet::Unknown),
        Followed::Queued(decides) => Err(NotMet::Is(decides, Status::Queued)),
        Followed::TooLong => Err(NotMet::TooLong),
        Followed::Unreadable(decides, error) => Err(NotMet::Unreadable(decides, causes(&error))),
        Followed::Job(line) | Followed::Archived(line) if line.status == Status::Succeeded => {
            Ok(Dependency { job_id: line.job_id.clone(), status: line.status, seq: line.seq })
        }
        Followed::Job(line) => Err(NotMet::Is(line.job_id, line.status)),
        Followed::Archived(line) => Err(NotMet::Was(line.job_id, line.status)),
    })
}

/// The job whose end counts for another.
#[derive(Debug)]
pub(crate) enum Followed {
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
    /// This one, as it was when gc retired it.
    Archived(Box<RecordLine>),
}

/// Finds the job that decides for an id: a job that was escalated is judged by the one that it was escalated to.
pub(crate) fn follow(store: &Store, id: &JobId) -> Result<Followed> {
    follow_through(store, id, &mut |_| {})
}

/// As `follow`; tells each job that was escalated on the way.
pub(super) fn follow_through(
    store: &Store,
    id: &JobId,
    escalated: &mut dyn FnMut(&JobId),
) -> Result<Followed> {
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
            Some(next) => escalated(&std::mem::replace(&mut asked, next)),
            None => return Ok(decided(Box::new(record.line))),
        }
    }
    Ok(Followed::TooLong)
}
