//! The real runners: a process for each job, forked by a launcher.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::launcher::{Launcher, RunJob};
use super::{Gone, Runners};
use crate::clock::Clock;
use crate::job::JobId;
use crate::queue::QueueError;
use crate::queue::recovery::{Again, Recovered};
use crate::runner;
use crate::store::Store;

/// Runners in processes of their own.
pub struct Processes<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
    launcher: Launcher,
    last: i32,
}

impl std::fmt::Debug for Processes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}

impl<'a> Processes<'a> {
    /// Starts the launcher; must be called before any signal handler is installed and while the process is small.
    ///
    /// # Errors
    /// The system's.
    pub fn new(store: &'a Store, clock: &'a dyn Clock, run: &RunJob<'_>) -> io::Result<Self> {
        Ok(Self { store, clock, launcher: Launcher::start(run)?, last: 0 })
    }
}

impl Runners for Processes<'_> {
    fn start(&mut self, id: &JobId) -> io::Result<i32> {
        self.last = self.last.wrapping_add(1);
        self.launcher.run(self.last, id)?;
        Ok(self.last)
    }

    fn ended(&mut self) -> Result<Vec<i32>, Gone> {
        let said = self.launcher.replies();
        if said.gone { Err(Gone) } else { Ok(said.ended) }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.launcher.as_fd()
    }

    fn stop(&mut self, number: i32) {
        // A launcher that is gone is noticed when its replies are read.
        let _ = self.launcher.stop(number);
    }

    fn recover(&mut self, id: &JobId) -> Result<Recovered, QueueError> {
        runner::recover(self.store, self.clock, id, Again::IfRepeatable)
    }
}
