//! Handles the end of a runner: the record holds the outcome, the runner says why it made no attempt, and the exit status
//! only says whether it canceled the job before one.

use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;

use super::recoveries::Recovering;
use super::slots::Running;
use super::start::was_parked;
use super::wait::{Lock, Wait};
use super::{Ended, Event, Runner, Worker};
use crate::fs::Create;
use crate::job::{Code, JobFile, JobId, Outcome, Place, Reason, RecordLine, Status};
use crate::queue::claim::{self, Content};
use crate::queue::{QueueError, Result, places};
use crate::runner::{exit_status, work_tree};
use crate::store::identity::Judge;
use crate::store::{Acquire, Lease, boot, named_locks};
use crate::view::facts;

impl Worker<'_> {
    /// Handles the job of a runner, or of a recovery, that has ended.
    pub(super) fn after(&mut self, ended: Ended, tell: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if let Some(Recovering { id, runner }) = self.recoveries.end(ended.number) {
            let is_recovered = self.is_recovered(&id, ended.said, tell);
            if let Some(runner) = runner {
                self.after_loss(&id, runner, is_recovered, tell);
            }
            if is_recovered && self.orders.left.jobs.remove(id.as_ref()) {
                self.remember_boot()?;
            }
            return Ok(());
        }
        let Some(Running { id, locks }) = self.slots.end(ended.number) else { return Ok(()) };
        let refused = ended.said.and_then(std::result::Result::err);
        if let Err(error) = self.look_at_record(&id, (ended.runner, refused), tell) {
            self.refuse(&id, Reason::from_error(error.code(), &error), tell);
        }
        // A refused job gave nothing back: waking the next one for it would never end.
        if !self.set.is_behind_a_lock(&id) {
            locks.into_iter().for_each(|name| self.set.wake_one_for_lock(&Lock::Named(name)));
            let trees =
                self.set.locks_waited_for().into_iter().filter(|lock| matches!(lock, Lock::WorkTree(_)));
            trees.for_each(|tree| self.set.wake_one_for_lock(&tree));
        }
        Ok(())
    }

    /// Remembers this boot when the last job is recovered that it had left.
    fn remember_boot(&self) -> Result<()> {
        if self.orders.left.is_all && self.orders.left.jobs.is_empty() {
            boot::remember(self.store)?;
        }
        Ok(())
    }

    /// Continues with the job of a dead runner, once it is recovered.
    fn after_loss(
        &mut self,
        id: &Rc<JobId>,
        runner: Runner,
        is_recovered: bool,
        tell: &mut dyn FnMut(Event<'_>),
    ) {
        let looked = if is_recovered { self.judge(id, (runner, None), tell) } else { Ok(()) };
        match looked {
            Ok(()) if is_recovered => {}
            // The recovery has reported why not.
            Ok(()) => self.try_again_later(id, ended_early()),
            Err(error) => self.refuse(id, Reason::from_error(error.code(), &error), tell),
        }
    }

    fn look_at_record(
        &mut self,
        id: &Rc<JobId>,
        (runner, refused): (Runner, Option<Reason>),
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let line = self.store.read_record(id)?.map(|record| record.line);
        let is_open = line.as_ref().is_some_and(|line| line.open_attempt().is_some());
        // The runner died, or another one has the job by now: the lease tells.
        if is_open && !matches!(Lease::acquire(self.store, id, Create::No)?, Acquire::Busy) {
            self.recoveries.add(id.clone(), Some(runner));
            return Ok(());
        }
        self.judge(id, (runner, refused), tell)
    }

    /// Continues with a job as its record says, or as its runner says, if it was refused.
    fn judge(
        &mut self,
        id: &Rc<JobId>,
        (runner, refused): (Runner, Option<Reason>),
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let line = self.store.read_record(id)?.map(|record| record.line);
        let own = line
            .as_ref()
            .is_some_and(|line| self.is_attempt_of(line, runner) || is_canceled_by(line, runner));
        if own {
            self.refusals.forget(id);
        }
        match line {
            Some(line) if line.status.is_terminal() => {
                if own && let Some(result) = &line.result {
                    self.count(result.outcome);
                    tell(Event::Ended(id, line.status, result));
                }
                self.set.wake_dependants(id);
                self.set.wake_followers(id);
                if line.status != Status::Succeeded {
                    // It may hold one that others come after, whatever they wait for.
                    self.schedule.next_followers = Duration::ZERO;
                }
                match refused {
                    // Its file cannot be moved. Forgotten, it would be found again without end.
                    Some(reason) if places::is_at(self.store, id, &Place::Queued)? => {
                        self.refuse(id, reason, tell);
                    }
                    _ => self.forget(id),
                }
            }
            Some(line) if line.open_attempt().is_some() => self.forget(id),
            line => {
                // Its recovery has reported that it is lost.
                self.set.wake_followers(id);
                if own
                    && let Some(result) = line.as_ref().and_then(|line| line.result.as_ref())
                    && result.outcome != Outcome::Lost
                {
                    tell(Event::WillRetry(id, result));
                }
                self.still_queued(id, (line.as_ref(), refused), tell)?;
            }
        }
        Ok(())
    }

    /// True if the last attempt was made by this process, a runner of ours: others may have run the job beside it. Where this
    /// process does not know where it runs, its pid has to do.
    fn is_attempt_of(&self, line: &RecordLine, runner: Runner) -> bool {
        line.attempts.last().is_some_and(|last| {
            let judge = self.store.identity.judge(last);
            Some(last.pid) == runner.pid && matches!(judge, Judge::Here | Judge::Unknown)
        })
    }

    fn forget(&mut self, id: &JobId) {
        self.refusals.forget(id);
        self.set.forget(id);
    }

    /// The job was not run, or waits for its next attempt, or its file has left the queue.
    fn still_queued(
        &mut self,
        id: &Rc<JobId>,
        (line, refused): (Option<&RecordLine>, Option<Reason>),
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        if !places::is_at(self.store, id, &Place::Queued)? {
            // Its runner put it aside: no record tells of it, and it was to run.
            if let Some(reason) = refused.filter(claim::is_foreign) {
                tell(Event::NotRun(id, &reason));
                self.summary.failed += 1;
            }
            self.forget(id);
            return Ok(());
        }
        let now = self.clock.now();
        let until = line.and_then(|line| line.waits_until(now)).filter(|time| *time > now);
        if let Some(time) = until.filter(|_| line.is_some_and(|line| line.result.is_some())) {
            self.set.wait(id, if was_parked(line) { Wait::Time(time) } else { Wait::Retry(time) });
            return Ok(());
        }
        match refused {
            Some(reason) if reason.code.is_waiting() => self.waits(id, reason),
            Some(reason) => {
                self.refuse(id, reason, tell);
                Ok(())
            }
            None => {
                self.try_again_later(id, ended_early());
                Ok(())
            }
        }
    }

    /// Lets a job wait for the blocker that its runner reported.
    fn waits(&mut self, id: &Rc<JobId>, reason: Reason) -> Result<()> {
        let content = match claim::read(self.store, id, true, self.clock.now()) {
            // Another worker was faster.
            Err(QueueError::Store(error)) if error.is_not_found() => {
                self.forget(id);
                return Ok(());
            }
            other => other?.0,
        };
        if reason.code == Code::WaitingAfter {
            // [AFTER_RESET] One that was seen at rest moves again.
            self.set.take_cursor(id);
        }
        let Content::Job(parsed, _) = content else {
            self.try_again_later(id, reason);
            return Ok(());
        };
        let wait = match self.why_waits(&parsed.job)? {
            None if reason.code == Code::WaitingLock => self.lock_of(&parsed.job).map(Wait::Lock),
            wait => wait,
        };
        match wait {
            Some(wait) => self.set.wait(id, wait),
            // It is out of the way by now.
            None => self.try_again_later(id, reason),
        }
        Ok(())
    }

    /// The lock that kept a job from starting: a held one, else one that may have been held.
    fn lock_of(&self, job: &JobFile) -> Option<Lock> {
        if let Some(taken) = facts::taken_lock(self.store, job) {
            // No release of ours makes one free that is no file.
            return taken.unusable.is_none().then_some(Lock::Named(taken.name));
        }
        if let Some(top) = work_tree(self.store, job) {
            return Some(Lock::WorkTree(top));
        }
        let wanted = named_locks::of_claim(self.store, job);
        wanted.into_iter().next().map(|lock| Lock::Named(lock.name))
    }
}

/// Why a job was not run whose runner said nothing.
fn ended_early() -> Reason {
    Reason::new(Code::Killed, "its runner did not start, or was killed before its attempt")
}

/// True if this runner canceled the job when it claimed it: then no attempt tells of it.
fn is_canceled_by(line: &RecordLine, runner: Runner) -> bool {
    line.status == Status::Canceled
        && runner.status == Some(exit_status::for_signal(Signal::TERM.as_raw()))
        && line.result.as_ref().is_some_and(|result| result.outcome == Outcome::Canceled)
}
