//! The real runners: a process `engine run-job --claim ID` for each job.

use std::ffi::OsStr;
use std::io;

use super::Runners;
use crate::clock::Clock;
use crate::job::JobId;
use crate::process::detached;
use crate::queue::QueueError;
use crate::queue::recovery::{Again, Recovered};
use crate::runner;
use crate::store::Store;

/// Starts this program once for each job.
pub struct Processes<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
}

impl std::fmt::Debug for Processes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}

impl<'a> Processes<'a> {
    /// Runners for the jobs of a root.
    #[must_use]
    pub fn new(store: &'a Store, clock: &'a dyn Clock) -> Self {
        Self { store, clock }
    }
}

impl Runners for Processes<'_> {
    fn start(&mut self, id: &JobId) -> io::Result<i32> {
        let root = self.store.root().as_os_str();
        let args: [&OsStr; 8] = [
            "--root".as_ref(),
            root,
            "run-job".as_ref(),
            "--quiet".as_ref(),
            "--output".as_ref(),
            "never".as_ref(),
            "--claim".as_ref(),
            id.as_str().as_ref(),
        ];
        detached::start(detached::OURSELVES, "engine", &args)
    }

    fn ended(&mut self) -> Vec<i32> {
        detached::ended()
    }

    fn stop(&mut self, number: i32) {
        detached::ask_to_end(number);
    }

    fn recover(&mut self, id: &JobId) -> Result<Recovered, QueueError> {
        runner::recover(self.store, self.clock, id, Again::IfRepeatable)
    }
}
