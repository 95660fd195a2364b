//! What a job waits for, as a worker sees it.
//!
//! Hard rule: it says by what the job is to be woken; the claim decides under the lease whether it may start.

use std::path::PathBuf;

use crate::clock::Timestamp;
use crate::job::JobId;

/// The wait of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A time, because it says so or was parked.
    Time(Timestamp),
    /// A time, after which it is tried again by itself: a retry, or a start that was refused.
    Retry(Timestamp),
    /// A time, after a start that was refused again and again: nothing says when it would succeed.
    Refused(Timestamp),
    /// The success of another job.
    Dependency(JobId),
    /// The end of another job, whatever the outcome: of the one that `after` names, or of the first below that can still move.
    After {
        /// The one that it names, unless that has ended and waits through its own `after`: then the first below.
        of: JobId,
        /// The first below.
        on: JobId,
    },
    /// A file in `state/control/`.
    Hold,
    /// A lock.
    Lock(Lock),
}

/// A lock that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    /// One with a name.
    Named(String),
    /// The worktree in which another agent works.
    WorkTree(PathBuf),
}
