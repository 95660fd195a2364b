//! The queue: four directories of job files, changed only under the lease of the job.
//!
//! Responsible for how a job enters, is claimed, ends, and is recovered (protocol 2). Never starts a process. Hard
//! rules: the record outranks the directory, and nothing is decided from what was read before the lease.

pub(crate) mod attempt;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod door;
pub(crate) mod enter;
pub(crate) mod follow;
pub(crate) mod foreign;
pub(crate) mod gc;
mod handed_on;
mod held;
pub(crate) mod parent;
pub(crate) mod places;
pub(crate) mod ranking;
pub(crate) mod ready;
mod recovered;
pub(crate) mod recovery;
pub(crate) mod requeue;
pub(crate) mod rest;
pub(crate) mod situation;
pub(crate) mod submit;
pub(crate) mod temporary;
#[cfg(test)]
mod tests;

use crate::job::state::Refused;
use crate::job::{Code, Reason};
use crate::store::StoreError;

/// A change of the queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The store's part of it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A job that a submitted one waits for was retired during the submission.
    #[error("the job `{id}` waits for `{on}`, which gc has just retired")]
    DependencyRetired {
        /// The job that was to go in.
        id: crate::job::JobId,
        /// The one that it waits for.
        on: crate::job::JobId,
    },
}

impl From<crate::fs::FsError> for QueueError {
    fn from(error: crate::fs::FsError) -> Self {
        Self::Store(error.into())
    }
}

impl From<QueueError> for Reason {
    fn from(error: QueueError) -> Self {
        Self::from_error(error.code(), &error)
    }
}

impl QueueError {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::Refused(_) => Code::InternalError,
            Self::DependencyRetired { .. } => Code::UnknownDependency,
        }
    }
}

/// Result of a change of the queue.
pub(crate) type Result<T> = std::result::Result<T, QueueError>;
