//! When a runner has ended: the record says what came of it, and the exit status only whether that one canceled the job
//! before an attempt.

use std::rc::Rc;

use rustix::process::Signal;

use super::ready_set::{Lock, Wait};
use super::start::was_parked;
use super::{Ended, Event, Recovering, Runner, Running, Worker};
use crate::fs::Create;
use crate::job::{JobFile, JobId, Outcome, Place, Reason, RecordLine, Status};
use crate::queue::claim::{self, Content};
use crate::queue::{QueueError, Result, facts, places};
use crate::runner::{exit_status, work_tree};
use crate::store::{Acquire, Identity, Lease, boot, named_locks};

impl Worker<'_> {
    /// Looks at the job of a runner, or of a recovery, that has ended.
    pub(super) fn after(&mut self, ended: Ended, tell: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if let Some(Recovering { id, runner }) = self.recovering.remove(&ended.number) {
            let is_recovered = self.is_recovered(&id, ended.recovered, tell);
            if let Some(runner) = runner {
                self.after_loss(&id, runner, is_recovered, tell);
            }
            if is_recovered && self.orders.left.jobs.remove(id.as_ref()) {
                self.remember_boot()?;
            }
            return Ok(());
        }
        let Some(Running { id, locks }) = self.running.remove(&ended.number) else { return Ok(()) };
        for name in &locks {
            if let Some(held) = self.locks.get_mut(name) {
                *held -= 1;
                if *held == 0 {
                    self.locks.remove(name);
                }
            }
        }
        if let Err(error) = self.look_at_record(&id, ended.runner, tell) {
            self.tell_error(&id, &error, tell);
            self.try_again_later(&id);
        }
        // One that was refused gave nothing back: to wake the next one for it would go on without end.
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

    /// Goes on with the job of a runner that died, once it is recovered.
    fn after_loss(
        &mut self,
        id: &Rc<JobId>,
        runner: Runner,
        is_recovered: bool,
        tell: &mut dyn FnMut(Event<'_>),
    ) {
        let looked = if is_recovered { self.judge(id, runner, tell) } else { Ok(()) };
        if let Err(error) = &looked {
            self.tell_error(id, error, tell);
        }
        if !is_recovered || looked.is_err() {
            self.try_again_later(id);
        }
    }

    fn look_at_record(
        &mut self,
        id: &Rc<JobId>,
        runner: Runner,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let line = self.store.read_record(id)?.map(|record| record.line);
        let is_open = line.as_ref().is_some_and(|line| line.open_attempt().is_some());
        // The runner died, or another one has the job by now: the lease tells.
        if is_open && !matches!(Lease::acquire(self.store, id, Create::No)?, Acquire::Busy) {
            self.recover(id.clone(), Some(runner), tell);
            return Ok(());
        }
        self.judge(id, runner, tell)
    }

    /// Goes on with a job as its record says.
    fn judge(&mut self, id: &Rc<JobId>, runner: Runner, tell: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let line = self.store.read_record(id)?.map(|record| record.line);
        let own = line
            .as_ref()
            .is_some_and(|line| self.is_attempt_of(line, runner) || is_canceled_by(line, runner));
        match line {
            Some(line) if line.status.is_terminal() => {
                if own && let Some(result) = &line.result {
                    self.count(result.outcome);
                    tell(Event::Ended(id, line.status, result));
                }
                self.forget(id);
                self.set.wake_dependants(id);
            }
            Some(line) if line.open_attempt().is_some() => self.forget(id),
            line => {
                // That it is lost was told by its recovery.
                if own
                    && let Some(result) = line.as_ref().and_then(|line| line.result.as_ref())
                    && result.outcome != Outcome::Lost
                {
                    tell(Event::WillRetry(id, result));
                }
                self.still_queued(id, line.as_ref(), tell)?;
            }
        }
        Ok(())
    }

    /// True if the last attempt was made by this process, a runner of ours: others may have run the job beside it.
    fn is_attempt_of(&self, line: &RecordLine, runner: Runner) -> bool {
        let Identity { host, boot_id, pid_namespace } = &self.store.identity;
        line.attempts.last().is_some_and(|last| {
            Some(last.pid) == runner.pid
                && (&last.host, &last.boot_id, &last.pid_namespace) == (host, boot_id, pid_namespace)
        })
    }

    /// Told once: it is tried again until it is a job, or has stood still long enough to be moved aside.
    fn not_run(&mut self, id: &Rc<JobId>, reason: &Reason, tell: &mut dyn FnMut(Event<'_>)) {
        if !self.refused.contains_key(id.as_ref()) {
            tell(Event::NotRun(id, reason));
        }
        self.try_again_later(id);
    }

    fn forget(&mut self, id: &JobId) {
        self.refused.remove(id);
        self.set.forget(id);
    }

    /// The job was not run, or waits for its next attempt, or its file has left the queue.
    fn still_queued(
        &mut self,
        id: &Rc<JobId>,
        line: Option<&RecordLine>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        if !places::is_at(self.store, id, &Place::Queued)? {
            self.forget(id);
            return Ok(());
        }
        let now = self.clock.now();
        let until = line.and_then(|line| line.waits_until(now)).filter(|time| *time > now);
        if let Some(time) = until.filter(|_| line.is_some_and(|line| line.result.is_some())) {
            self.set.wait(id, if was_parked(line) { Wait::Time(time) } else { Wait::Retry(time) });
            return Ok(());
        }
        let content = match claim::read(self.store, id, true, self.clock.now()) {
            // Another worker was faster.
            Err(QueueError::Store(error)) if error.is_not_found() => {
                self.forget(id);
                return Ok(());
            }
            other => other?,
        };
        match content {
            (Content::Job(parsed, _), _) => match self.why_waits(&parsed.job)? {
                Some(wait) => self.set.wait(id, wait),
                None => match self.lock_of(&parsed.job) {
                    Some(lock) => self.set.wait(id, Wait::Lock(lock)),
                    None => self.try_again_later(id),
                },
            },
            (Content::Invalid(problems), _) => {
                self.not_run(id, &Reason::new("invalid_job_file", problems.to_string()), tell);
            }
            (Content::Foreign(reason), _) => self.not_run(id, &reason, tell),
        }
        Ok(())
    }

    /// The lock because of which a job was refused that nothing else keeps: one that is held, else one that may have been.
    fn lock_of(&self, job: &JobFile) -> Option<Lock> {
        if let Some(taken) = facts::taken_lock(self.store, job) {
            // No release of ours makes one free that is no file.
            return taken.unusable.is_none().then_some(Lock::Named(taken.name));
        }
        if let Some(top) = work_tree(self.store, job) {
            return Some(Lock::WorkTree(top));
        }
        let wanted = named_locks::of_claim(self.store, job.locks.as_deref());
        wanted.into_iter().next().map(|lock| Lock::Named(lock.name))
    }
}

/// True if this runner canceled the job when it claimed it: then no attempt tells of it.
fn is_canceled_by(line: &RecordLine, runner: Runner) -> bool {
    line.status == Status::Canceled
        && runner.status == Some(exit_status::of_signal(Signal::TERM.as_raw()))
        && line.result.as_ref().is_some_and(|result| result.outcome == Outcome::Canceled)
}
