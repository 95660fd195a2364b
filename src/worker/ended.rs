//! When a runner has ended: the record says what came of it; the exit status says nothing.

use std::rc::Rc;

use super::ready_set::Wait;
use super::start::was_parked;
use super::{Event, Running, Worker};
use crate::job::id::LockName;
use crate::job::{JobId, Place, Reason, RecordLine};
use crate::queue::claim::{self, Content};
use crate::queue::recovery::Recovered;
use crate::queue::{QueueError, Result, places};
use crate::runner::work_tree;

/// What a job waits for in whose work tree another agent works; no name of a lock begins so.
const WORK_TREE: &str = "work tree ";

impl Worker<'_> {
    /// Looks at the job of a runner that has ended.
    pub(super) fn after(&mut self, number: i32, tell: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Some(Running { id, locks }) = self.running.remove(&number) else { return Ok(()) };
        for name in &locks {
            if let Some(held) = self.locks.get_mut(name) {
                *held -= 1;
                if *held == 0 {
                    self.locks.remove(name);
                }
            }
        }
        if let Err(error) = self.look_at_record(&id, tell) {
            self.tell_error(&id, &error, tell);
            self.try_again_later(&id);
        }
        // One that was refused gave nothing back: to wake the next one for it would go on without end.
        if !self.set.is_behind_a_lock(&id) {
            locks.iter().for_each(|name| self.set.wake_one_for_lock(name));
            let trees = self.set.locks_waited_for().into_iter().filter(|name| name.starts_with(WORK_TREE));
            trees.for_each(|name| self.set.wake_one_for_lock(&name));
        }
        Ok(())
    }

    fn look_at_record(&mut self, id: &Rc<JobId>, tell: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut line = self.store.read_record(id)?.map(|record| record.line);
        if line.as_ref().is_some_and(|line| line.open_attempt().is_some()) {
            // The runner died, or another one has the job by now: the lease tells.
            let recovered = self.runners.recover(id)?;
            if recovered != Recovered::Alive {
                tell(Event::Recovered(id, &recovered));
            }
            if !recovered.is_done() {
                self.try_again_later(id);
                return Ok(());
            }
            line = self.store.read_record(id)?.map(|record| record.line);
        }
        match line {
            Some(line) if line.status.is_terminal() => self.ended(id, &line, tell),
            Some(line) if line.open_attempt().is_some() => self.forget(id),
            line => self.still_queued(id, line.as_ref(), tell)?,
        }
        Ok(())
    }

    fn ended(&mut self, id: &Rc<JobId>, line: &RecordLine, tell: &mut dyn FnMut(Event<'_>)) {
        if let Some(result) = &line.result {
            self.count(result.outcome);
            tell(Event::Ended(id, line.status, result));
        }
        self.forget(id);
        self.set.wake_dependants(id);
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
        if let (Some(time), Some(result)) = (
            line.and_then(|line| line.waits_until(self.clock.now())),
            line.and_then(|line| line.result.as_ref()),
        ) && time > self.clock.now()
        {
            tell(Event::WillRetry(id, result));
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
                // Nothing else keeps it: one of its locks is held by somebody else.
                None => match parsed.job.locks.iter().flatten().next() {
                    Some(lock) => self.set.wait(id, Wait::Lock(lock.name.clone())),
                    None if self.store.config.shared_slots().is_some() => {
                        self.set.wait(id, Wait::Lock(LockName::OF_THE_ROOT.to_owned()));
                    }
                    None => match work_tree(self.store, &parsed.job) {
                        Some(top) => self.set.wait(id, Wait::Lock(format!("{WORK_TREE}{}", top.display()))),
                        None => self.try_again_later(id),
                    },
                },
            },
            (Content::Invalid(problems), _) => {
                self.not_run(id, &Reason::new("invalid_job_file", problems.to_string()), tell);
            }
            (Content::Foreign(reason), _) => self.not_run(id, &reason, tell),
        }
        Ok(())
    }
}
