//! Looks for changes: reported events, changes without an event, and left-overs of dead runners.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::holds::Holds;
use super::schedule::{DEPENDENCIES_AT_LEAST, DEPENDENCIES_EVERY, LOCKS_EVERY, LOOK_EVERY, POLL_EVERY};
use super::wait::Lock;
use super::{Event, WorkError, Worker, scan};
use crate::fs::Create;
use crate::fs::watch::Changes;
use crate::job::{Code, JobId, Place, Reason, Status};
use crate::queue::recovery::Recovered;
use crate::queue::{QueueError, places};
use crate::store::brief::Reader;
use crate::store::{Acquire, Lease, journal};

impl Worker<'_> {
    /// Brings the set up to date: by events, and now and then by a scan.
    pub(super) fn look(&mut self) -> Result<(), QueueError> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let everything = !self.take_notices()? || monotonic >= self.schedule.next_look;
        if everything {
            self.schedule.next_look = monotonic + LOOK_EVERY;
            self.recover_abandoned()?;
        }
        let polls = monotonic >= self.schedule.next_poll;
        if everything || (polls && !self.every_change_has_an_event()) {
            scan::refresh(self.store, &self.orders.filter, &mut self.set)?;
            self.look_at_holds()?;
            // A name that came in while the directory was read may be missing there, and a later one not.
            if !self.take_notices()? {
                self.schedule.next_look = monotonic;
            }
        }
        if polls {
            // Where inotify works, an event reports a release; a try costs a process.
            self.schedule.next_poll = monotonic + if self.watch.works() { LOCKS_EVERY } else { POLL_EVERY };
            for lock in self.set.locks_waited_for() {
                self.set.wake_one_for_lock(&lock);
            }
        }
        if monotonic >= self.schedule.next_dependencies {
            self.schedule.next_dependencies = monotonic + DEPENDENCIES_EVERY;
            self.look_at_dependencies();
        }
        let set_back = self.schedule.last_look.was_set_back(now, monotonic);
        // Jobs that wait for a time are judged again by the current clock before they start.
        self.set.wake_due(if set_back { now.after(Duration::MAX) } else { now });
        Ok(())
    }

    /// True if the kernel reports every change of the queue: it does not report changes by other machines on a shared file system.
    pub(super) fn every_change_has_an_event(&self) -> bool {
        self.watch.works() && self.store.is_of_this_machine()
    }

    /// Takes the events; false if anything may have changed.
    fn take_notices(&mut self) -> Result<bool, QueueError> {
        let Changes::Names(names) = self.watch.drain() else { return Ok(false) };
        let names: BTreeSet<(usize, String)> = names.into_iter().collect();
        let mut records = Reader::open(self.store)?;
        for (directory, name) in &names {
            self.take_notice(*directory, name, &mut records)?;
        }
        Ok(true)
    }

    fn take_notice(&mut self, directory: usize, name: &str, records: &mut Reader) -> Result<(), QueueError> {
        match directory {
            0 => {
                if let Some(id) = scan::id_of(name).filter(|id| !self.set.is_taken(id)) {
                    // A known job was edited: its rank may differ, or it may no longer wait.
                    self.set.forget(&id);
                    scan::add(self.store, &self.orders.filter, &mut self.set, records, &id);
                }
            }
            1 => self.look_at_holds()?,
            _ => {
                if let Some((lock, _)) = name.rsplit_once('.') {
                    self.set.wake_one_for_lock(&Lock::Named(lock.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Notes what is held; what no longer is may start again.
    fn look_at_holds(&mut self) -> Result<(), QueueError> {
        let holds = Holds::read(self.store)?;
        if holds != self.holds {
            self.holds = holds;
            self.set.wake_held();
        }
        Ok(())
    }

    pub(super) fn look_at_dependencies(&mut self) {
        // No job ends without a line in the journal, unless its runner was killed in between; then a later look finds it.
        let (journal, monotonic) = (journal::live_end(self.store), self.clock.monotonic());
        if journal.is_some()
            && journal == self.schedule.journal
            && monotonic < self.schedule.next_dependencies_all
        {
            return;
        }
        self.schedule.journal = journal;
        self.schedule.next_dependencies_all = monotonic + DEPENDENCIES_AT_LEAST;
        for id in self.set.waited_for() {
            let ended = self.store.read_record(&id).is_ok_and(|record| {
                record.is_some_and(|record| {
                    record.line.status == Status::Succeeded || record.line.escalated_to().is_some()
                })
            });
            if ended {
                self.set.wake_dependants(&id);
            }
        }
        for id in self.set.followed() {
            if self
                .store
                .read_record(&id)
                .is_ok_and(|record| record.is_some_and(|record| record.line.status.is_terminal()))
            {
                self.set.wake_followers(&id);
            }
        }
        if monotonic >= self.schedule.next_followers {
            self.judge_followers_again();
        }
    }

    /// Lets the jobs that come after others be judged once more, if anything was recorded since the last time: a job that they do
    /// not wait for may hold the one that they name. True if there are any.
    pub(super) fn judge_followers_again(&mut self) -> bool {
        self.schedule.next_followers = self.clock.monotonic() + DEPENDENCIES_AT_LEAST;
        let journal = Some(journal::live_end(self.store));
        if self.schedule.followers_judged_at == journal || self.set.followed().is_empty() {
            return false;
        }
        self.schedule.followers_judged_at = journal;
        self.set.wake_all_followers();
        true
    }

    /// Has the jobs in `running/` recovered whose runner is dead: by processes, for the left-overs of one may need time.
    pub(super) fn recover_abandoned(&mut self) -> Result<(), QueueError> {
        let mut ours = self.recoveries.ids();
        ours.extend(self.slots.ids().cloned());
        for id in places::ids(self.store, &Place::Running)? {
            let later = self.recoveries.leaves_alone(&id, self.clock.monotonic());
            // For a running job, the usual case, the lease tells without a process.
            if !later
                && !ours.contains(&id)
                && !matches!(Lease::acquire(self.store, &id, Create::No), Ok(Acquire::Busy))
            {
                self.recoveries.add(Rc::new(id), None);
            }
        }
        Ok(())
    }

    /// Begins the recoveries whose turn it is.
    pub(super) fn start_recoveries(&mut self, stopping: bool) -> Result<(), WorkError> {
        while let Some(next) = self.recoveries.next(stopping) {
            let number = self.runners.recover(&next.id).map_err(|gone| self.without_launcher(gone))?;
            self.recoveries.begin(number, next);
        }
        Ok(())
    }

    /// Reports the outcome of a recovery, and when a failed one is retried; true if the record is as it must be.
    pub(super) fn is_recovered(
        &mut self,
        id: &JobId,
        recovered: Option<Result<Recovered, Reason>>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        match recovered {
            Some(Ok(Recovered::Healthy | Recovered::Alive)) => {
                self.recoveries.pass_over(id, self.clock.monotonic());
                true
            }
            Some(Ok(done)) if done.is_done() => {
                self.recoveries.is_done(id);
                tell(Event::Recovered(id, &done));
                true
            }
            Some(other) => {
                self.not_recovered(id, other, tell);
                false
            }
            None => {
                let message = "the process that recovered it was killed".to_owned();
                self.not_recovered(id, Err(Reason::new(Code::Killed, message)), tell);
                false
            }
        }
    }

    /// Reported once; it is retried after a growing delay.
    fn not_recovered(&mut self, id: &JobId, why: Result<Recovered, Reason>, tell: &mut dyn FnMut(Event<'_>)) {
        if self.recoveries.leave_alone(id, self.clock.monotonic()) > 1 {
            return;
        }
        match why {
            Ok(recovered) => tell(Event::Recovered(id, &recovered)),
            Err(reason) => tell(Event::NotRun(id, &reason)),
        }
    }
}
