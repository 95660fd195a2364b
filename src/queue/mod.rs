//! The queue: four directories of job files, changed only under the lease of the job.
//!
//! Responsible for how a job enters, is claimed, ends, and is recovered (protocol 2). Never starts a process. Hard
//! rules: the record outranks the directory, and nothing is decided from what was read before the lease.

pub mod attempt;
pub mod cancel;
pub mod claim;
pub mod door;
pub mod enter;
pub mod foreign;
pub mod gc;
mod handed_on;
pub mod places;
pub mod ranking;
pub mod ready;
pub mod recovery;
pub mod requeue;
pub mod situation;
pub mod submit;

use crate::job::Code;
use crate::job::state::Refused;
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
    /// What a submitted job waits for went while the job was on its way in.
    #[error("the job `{id}` depends on `{on}`, which was retired by gc just now")]
    DependencyRetired {
        /// The job that was to go in.
        id: crate::job::JobId,
        /// What it waits for.
        on: crate::job::JobId,
    },
}

impl From<crate::fs::FsError> for QueueError {
    fn from(error: crate::fs::FsError) -> Self {
        Self::Store(error.into())
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
pub type Result<T> = std::result::Result<T, QueueError>;
