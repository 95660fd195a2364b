//! The seam of a worker beside files, time and signals: the processes that it starts.
//!
//! The real one is `Processes`; tests script it.

use std::os::fd::BorrowedFd;

use crate::job::{JobId, Reason};
use crate::queue::recovery::Recovered;

/// The seam for runners: the real ones are processes, those of tests end at once.
pub(crate) trait Runners {
    /// Starts the runner of a queued job; gives the number under which it ends.
    ///
    /// # Errors
    /// No process can be started any more: the job is unchanged.
    fn start(&mut self, id: &JobId) -> Result<i32, Gone>;

    /// Starts what recovers a job that a dead runner left; gives the number under which it ends.
    fn recover(&mut self, id: &JobId) -> Result<i32, Gone>;

    /// The runners and recoveries that have ended since the last call.
    ///
    /// # Errors
    /// The worker cannot report it any more: the runners continue by themselves.
    fn ended(&mut self) -> Result<Vec<Ended>, Gone>;

    /// Readable when something has ended.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Asks a runner to stop its job; the second time to kill it.
    fn stop(&mut self, number: i32);
}

/// The end of what `Runners` had started.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its number.
    pub number: i32,
    /// The process that it was.
    pub runner: Runner,
    /// Its report before it ended: what it recovered, why it could not, or why its job was not run.
    pub said: Option<Result<Recovered, Reason>>,
}

/// A process that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runner {
    /// Which one; `None` if it could not be started.
    pub pid: Option<i32>,
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<u8>,
}

/// The launcher of the runners is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;
