//! The worker: has a runner process started for each ready job, and reads the record when the runner has ended.
//!
//! It holds no lease and runs no job itself: a crash of it costs nothing, and any number of workers need nothing but the
//! locks of the records. What it believes of a job only decides whether a process is spent on it; the runner decides
//! under the lease.

mod candidate;
mod cursor;
pub(crate) mod ended;
#[cfg(test)]
mod fake;
mod holds;
pub(crate) mod launcher;
mod look;
pub(crate) mod processes;
pub(crate) mod ready_set;
mod recoveries;
mod refusals;
mod report;
mod runners;
pub(crate) mod scan;
mod schedule;
mod slots;
mod start;
pub(crate) mod wait;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use report::{Event, Summary, WorkError};
pub(crate) use runners::{Ended, Gone, Runner, Runners};

use crate::clock::Clock;
use crate::fs::watch::{For, Watch};
use crate::job::{Code, JobId, Outcome, Place, Reason};
use crate::process::signals::Requests;
use crate::queue::QueueError;
use crate::store::Store;
use holds::Holds;
use ready_set::ReadySet;
use recoveries::Recoveries;
use refusals::Refusals;
use scan::{ComingIn, Filter};
use schedule::{DEPENDENCIES_EVERY, LOOK_EVERY, Schedule};
use slots::Slots;
use wait::Wait;

/// When to look again at a job whose submission has not ended.
const COMES_IN_SOON: Duration = Duration::from_millis(10);

/// The orders of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    /// How many jobs at a time.
    pub slots: usize,
    /// When it ends by itself.
    pub until: Until,
    /// Which jobs it takes.
    pub filter: Filter,
    /// The recoveries beside its work.
    pub left: Left,
}

/// The jobs that a look at every record left to be recovered, which takes time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left {
    /// The jobs.
    pub jobs: BTreeSet<JobId>,
    /// True if with them everything is recovered, so that no other worker of this boot need look.
    pub is_all: bool,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Never.
    Stopped,
    /// When nothing is left that can run.
    Drained,
}

/// A worker at its work.
pub(crate) struct Worker<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
    signals: &'a dyn Requests,
    runners: &'a mut dyn Runners,
    orders: Orders,
    set: ReadySet,
    watch: Watch,
    slots: Slots,
    recoveries: Recoveries,
    refusals: Refusals,
    coming_in: ComingIn,
    holds: Holds,
    schedule: Schedule,
    requests_seen: usize,
    /// Why nothing is started at the moment.
    paused: Option<String>,
    summary: Summary,
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("orders", &self.orders).finish_non_exhaustive()
    }
}

impl<'a> Worker<'a> {
    /// Prepares a worker.
    #[must_use]
    pub(crate) fn new(
        store: &'a Store,
        clock: &'a dyn Clock,
        signals: &'a dyn Requests,
        runners: &'a mut dyn Runners,
        orders: Orders,
    ) -> Self {
        let queued = store.place_dir(&Place::Queued);
        // Before the first look, so that nothing falls between the two.
        let (control, locks) = (store.state("control"), store.state("locks"));
        let watch =
            Watch::for_events(&[(&queued, For::Names), (&control, For::Names), (&locks, For::Content)]);
        Self {
            store,
            clock,
            signals,
            runners,
            orders,
            set: ReadySet::default(),
            watch,
            slots: Slots::default(),
            recoveries: Recoveries::default(),
            refusals: Refusals::default(),
            coming_in: ComingIn::default(),
            holds: Holds::default(),
            schedule: Schedule::default(),
            requests_seen: 0,
            paused: None,
            summary: Summary::default(),
        }
    }

    /// Works until it is stopped, or drained.
    ///
    /// # Errors
    /// Store errors of the directories; errors of one job concern that job only.
    pub(crate) fn run(mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<Summary, WorkError> {
        for id in self.orders.left.jobs.clone() {
            self.recoveries.add(Rc::new(id), None);
        }
        loop {
            let ended = self.runners.ended().map_err(|gone| self.without_launcher(gone))?;
            for ended in ended {
                self.after(ended, tell)?;
            }
            self.heed_requests(tell);
            let stopping = self.requests_seen > 0;
            if !stopping {
                self.check_root()?;
                self.look()?;
                self.start_ready(tell)?;
            }
            let is_done = if stopping { !self.recoveries.has_own() } else { self.is_drained()? };
            if self.slots.is_empty() && is_done {
                // [AFTER_AGAIN] What is woken may start now.
                if !stopping && self.judge_followers_again() {
                    continue;
                }
                return Ok(self.summary(stopping));
            }
            self.start_recoveries(stopping)?;
            let wait = self.until_next_look(stopping);
            // A stopping worker takes no events of directories, so it does not wait for them.
            let watched = self.watch.fd().filter(|_| !stopping);
            let descriptors: Vec<BorrowedFd<'_>> = watched.into_iter().chain([self.runners.fd()]).collect();
            self.signals.wait(&descriptors, wait);
        }
    }

    /// The summary at the end.
    fn summary(self, stopped: bool) -> Summary {
        let waiting: Vec<_> = self.set.waiting().map(|(id, wait)| (id.clone(), wait.clone())).collect();
        let again_and_again = waiting.iter().filter(|(_, wait)| matches!(wait, Wait::Refused(_)));
        let refused: HashMap<JobId, Reason> = again_and_again
            .filter_map(|(id, _)| Some((id.clone(), self.refusals.reason(id)?.clone())))
            .collect();
        let low_space = self.paused.filter(|_| self.set.has_ready());
        // The space of a record's last line is reserved at its start, whatever `min_free_bytes` says.
        let disk_full = refused.values().find(|reason| reason.code == Code::DiskFull);
        let low_space = low_space.or_else(|| disk_full.map(|reason| reason.message.clone()));
        Summary {
            stopped,
            queue_is_held: self.holds.queue,
            low_space: low_space.filter(|_| !stopped),
            refused,
            waiting,
            ..self.summary
        }
    }

    fn without_launcher(&self, Gone: Gone) -> WorkError {
        WorkError::LauncherGone { running: self.slots.len() }
    }

    /// An empty queue is an answer only while the root is there.
    fn check_root(&self) -> Result<(), WorkError> {
        let is_due = self.clock.monotonic() >= self.schedule.next_look || self.slots.is_empty();
        if is_due && !self.store.is_still_there().map_err(QueueError::from)? {
            return Err(WorkError::RootGone { root: self.store.root().to_path_buf() });
        }
        Ok(())
    }

    /// First request: claim nothing more and wait. Second: ask the runners. Third: they kill.
    fn heed_requests(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        let requests = self.signals.requests();
        while self.requests_seen < requests {
            self.requests_seen += 1;
            if self.requests_seen == 1 {
                tell(Event::Stopping(self.slots.len()));
            } else {
                let running = self.slots.len();
                tell(if self.requests_seen == 2 { Event::Asked(running) } else { Event::Killed(running) });
                self.slots.numbers().for_each(|number| self.runners.stop(number));
            }
        }
    }

    /// True if nothing is left that can run.
    fn is_drained(&mut self) -> Result<bool, QueueError> {
        let could_start = self.set.has_ready() && !self.holds.queue;
        if self.orders.until == Until::Stopped || (could_start && self.paused.is_none()) {
            return Ok(false);
        }
        // Nothing tells when there will be space: a drain that waited for it would be met by the next one.
        if could_start {
            return Ok(self.recoveries.is_empty());
        }
        // A last look at everything: what was missed would be left behind.
        self.recover_abandoned()?;
        if !self.recoveries.is_empty() {
            return Ok(false);
        }
        scan::refresh(self.store, &self.orders.filter, &mut self.set)?;
        self.look_at_dependencies();
        if self.holds.queue {
            return Ok(true);
        }
        let store = self.store;
        let mut status = |id: &JobId| Some(store.read_record(id).ok().flatten()?.line.status);
        Ok(!self.set.moves_by_itself(&mut status))
    }

    fn until_next_look(&self, stopping: bool) -> Duration {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let left = |until: Duration| until.saturating_sub(monotonic);
        if stopping {
            return LOOK_EVERY;
        }
        if self.paused.is_some() && self.set.has_ready() {
            return DEPENDENCIES_EVERY;
        }
        if self.coming_in.is_first {
            return COMES_IN_SOON;
        }
        let mut wait = left(self.schedule.next_look);
        if !self.every_change_has_an_event() || !self.set.locks_waited_for().is_empty() {
            wait = wait.min(left(self.schedule.next_poll));
        }
        if self.set.waits_for_others() {
            wait = wait.min(left(self.schedule.next_dependencies));
        }
        if let Some(due) = self.set.next_due() {
            wait = wait.min(due.since(now));
        }
        // A millisecond of rounding must not become a busy loop.
        wait.max(Duration::from_millis(1))
    }

    fn count(&mut self, outcome: Outcome) {
        if outcome == Outcome::Succeeded {
            self.summary.succeeded += 1;
        } else {
            self.summary.failed += 1;
        }
    }
}

#[cfg(test)]
mod after_tests;
#[cfg(test)]
mod tests;
