//! The reports of a worker: events, summary, errors.

use std::collections::HashMap;
use std::path::PathBuf;

use super::wait::Wait;
use crate::job::{JobId, JobResult, Reason, Status};
use crate::queue::QueueError;
use crate::queue::recovery::Recovered;

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// The queue's or the store's part.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The root was removed, or replaced by another one.
    #[error("the root `{}` no longer exists", root.display())]
    RootGone {
        /// Where it was.
        root: PathBuf,
    },
    /// The launcher was killed. Its runners end their jobs without it.
    #[error("the launcher of the runners was killed; up to {running} jobs keep running without this worker")]
    LauncherGone {
        /// How many jobs run.
        running: usize,
    },
}

/// A report of a worker while it works.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A job was started.
    Started(&'a JobId),
    /// A job ended for good.
    Ended(&'a JobId, Status, &'a JobResult),
    /// An attempt ended and the job is back in the queue.
    WillRetry(&'a JobId, &'a JobResult),
    /// A job was not run, for a reason that is not merely waiting.
    NotRun(&'a JobId, &'a Reason),
    /// Something that a dead runner left was recovered.
    Recovered(&'a JobId, &'a Recovered),
    /// Nothing can be started at the moment, for this reason; reported once until it changes.
    Paused(&'a str),
    /// It was asked to stop: no more jobs are started, so many still run.
    Stopping(usize),
    /// So many runners were asked to end their jobs.
    Asked(usize),
    /// So many runners were asked to kill their jobs.
    Killed(usize),
}

/// The summary of a worker.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Jobs that succeeded.
    pub succeeded: usize,
    /// Jobs that ended otherwise.
    pub failed: usize,
    /// True if it was asked to stop before it was done.
    pub stopped: bool,
    /// True if the whole queue is held.
    pub queue_is_held: bool,
    /// Why a drain ended with jobs that could start, if it did.
    pub low_space: Option<String>,
    /// Why jobs that wait were refused, again and again.
    pub refused: HashMap<JobId, Reason>,
    /// The jobs of the queue that wait, each with what for.
    pub waiting: Vec<(JobId, Wait)>,
}

impl Summary {
    /// True if there was nothing to do, and nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { succeeded, failed, stopped, queue_is_held, low_space, refused, waiting } = self;
        let is_idle = *succeeded == 0 && *failed == 0 && refused.is_empty() && waiting.is_empty();
        is_idle && !stopped && !queue_is_held && low_space.is_none()
    }
}
