//! The real runners: a process for each job, forked by a launcher.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::Runners;
use super::launcher::{Launcher, RunJob};
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
    run: &'a RunJob<'a>,
    launcher: Launcher,
    running: BTreeSet<i32>,
    last: i32,
}

impl std::fmt::Debug for Processes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<'a> Processes<'a> {
    /// Starts the launcher; must be called before any signal handler is installed and while the process is small.
    ///
    /// # Errors
    /// The system's.
    pub fn new(store: &'a Store, clock: &'a dyn Clock, run: &'a RunJob<'a>) -> io::Result<Self> {
        Ok(Self { store, clock, run, launcher: Launcher::start(run)?, running: BTreeSet::new(), last: 0 })
    }
}

impl Runners for Processes<'_> {
    fn start(&mut self, id: &JobId) -> io::Result<i32> {
        self.last = self.last.wrapping_add(1);
        self.launcher.run(self.last, id)?;
        self.running.insert(self.last);
        Ok(self.last)
    }

    fn ended(&mut self) -> Vec<i32> {
        let said = self.launcher.replies();
        self.running.retain(|number| !said.ended.contains(number));
        if !said.gone {
            return said.ended;
        }
        // Somebody killed it; its runners go on, and the records say what becomes of them.
        if let Ok(launcher) = Launcher::start(self.run) {
            self.launcher = launcher;
        }
        said.ended.into_iter().chain(std::mem::take(&mut self.running)).collect()
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
