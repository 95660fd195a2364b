//! Starts runners for ready jobs, as far as slots, space, conditions and locks allow.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::candidate::{Conditions, Source};
use super::cursor::Cursor;
use super::slots::Running;
use super::wait::{Lock, Wait};
use super::{Event, WorkError, Worker, scan};
use crate::job::id::LockName;
use crate::job::{JobFile, JobId, Outcome, Reason, RecordLine, Status};
use crate::queue::claim::{self, Content};
use crate::queue::ready::{self, Blocker};
use crate::queue::{QueueError, Result};
use crate::store::brief::Reader;

/// Whether a job may start, before its runner is started.
enum Readiness {
    /// It may start; these are the locks that it needs, each with its slots.
    Start(BTreeMap<String, u32>),
    /// It waits.
    Wait(Wait),
    /// It left the queue.
    Gone,
}

/// True if the last attempt ended because something has to pass first.
pub(super) fn was_parked(line: Option<&RecordLine>) -> bool {
    let last = line.and_then(|line| line.attempts.last());
    last.is_some_and(|attempt| attempt.outcome == Some(Outcome::Parked))
}

impl Worker<'_> {
    /// Starts jobs until the slots are full or none is ready.
    pub(super) fn start_ready(
        &mut self,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> std::result::Result<(), WorkError> {
        self.coming_in.is_first = false;
        while self.may_start() {
            // A job that waits for a slot of the root was first in the order.
            if self.set.waits_for_lock(&Lock::Named(LockName::OF_THE_ROOT.to_owned())) {
                return Ok(());
            }
            if let Err(error) = self.store.check_space() {
                let why = crate::causes::causes(&error);
                if self.paused.is_none() {
                    tell(Event::Paused(&why));
                }
                self.paused = Some(why);
                return Ok(());
            }
            self.paused = None;
            let Some((id, conditions, source)) = self.set.take_first() else { return Ok(()) };
            match source {
                Source::Record => {}
                Source::File if self.ranks_otherwise(&id)? => continue,
                Source::File if self.coming_in.delays(self.store, self.clock, &self.set, &id) => {
                    // Later jobs of its batch may have their lines already: none of them starts before this one.
                    self.set.put_back(&id);
                    self.coming_in.is_first = true;
                    return Ok(());
                }
                Source::File => {}
            }
            if self.holds.jobs.contains(id.as_ref()) {
                self.set.wait(&id, Wait::Hold);
                continue;
            }
            let before = match conditions {
                Conditions::None => Ok(Readiness::Start(BTreeMap::new())),
                Conditions::Some => self.readiness(&id),
            };
            match before {
                Ok(Readiness::Start(locks)) => self.start(&id, locks, tell)?,
                Ok(Readiness::Wait(wait)) => self.set.wait(&id, wait),
                Ok(Readiness::Gone) => self.set.forget(&id),
                Err(error) => self.refuse(&id, Reason::from_error(error.code(), &error), tell),
            }
        }
        Ok(())
    }

    /// True if a slot is free, a job is ready, and nothing was asked meanwhile that comes before it.
    fn may_start(&self) -> bool {
        let is_asked = self.signals.requests() > self.requests_seen;
        self.slots.len() < self.orders.slots && self.set.has_ready() && !self.holds.queue && !is_asked
    }

    /// Looks whether a job that was ranked by its file has a record by now, which counts more; true if it is ranked again.
    fn ranks_otherwise(&mut self, id: &Rc<JobId>) -> Result<bool> {
        let mut records = Reader::open(self.store)?;
        let is_recorded = |line: Option<RecordLine>| line.is_some_and(|line| line.status == Status::Queued);
        if !records.last_line(id).is_ok_and(is_recorded) {
            return Ok(false);
        }
        self.set.forget(id);
        scan::add(self.store, &self.orders.filter, &mut self.set, &mut records, id);
        Ok(true)
    }

    /// Checks the conditions of the start in the file and the record.
    fn readiness(&mut self, id: &Rc<JobId>) -> Result<Readiness> {
        let now = self.clock.now();
        // Of a job that comes after many the file is not read again for each of them.
        if let Some(cursor) = self.set.take_cursor(id)
            && let Some(wait) = self.advance(id, cursor)?
        {
            return Ok(Readiness::Wait(wait));
        }
        let content = match claim::read(self.store, id, true, now) {
            Ok((content, _)) => content,
            Err(QueueError::Store(error)) if error.is_not_found() => return Ok(Readiness::Gone),
            Err(error) => return Err(error),
        };
        // An invalid job is claimed, and so refused on record.
        let Content::Job(parsed, _) = content else { return Ok(Readiness::Start(BTreeMap::new())) };
        if let Some(wait) = self.why_waits(&parsed.job)? {
            return Ok(Readiness::Wait(wait));
        }
        let mut locks: BTreeMap<String, u32> = BTreeMap::new();
        for lock in parsed.job.locks.iter().flatten() {
            let slots = locks.entry(lock.name.clone()).or_default();
            *slots = lock.slots.max(*slots);
        }
        match self.slots.full_lock(&locks) {
            Some(name) => Ok(Readiness::Wait(Wait::Lock(Lock::Named(name.clone())))),
            None => Ok(Readiness::Start(locks)),
        }
    }

    /// Goes on through the jobs that one comes after.
    fn advance(&mut self, id: &JobId, mut cursor: Box<Cursor>) -> Result<Option<Wait>> {
        let wait = cursor.advance(self.store)?;
        self.set.keep_cursor(id, cursor);
        Ok(wait)
    }

    /// The wait of a valid job, if it waits.
    pub(super) fn why_waits(&mut self, job: &JobFile) -> Result<Option<Wait>> {
        let line = self.store.read_record(&job.job_id)?.map(|record| record.line);
        let now = self.clock.now();
        let parked_until = line.as_ref().and_then(|line| line.waits_until(now));
        let judged = ready::judge_but_after(self.store, job, parked_until, now)?;
        let Err(blocker) = judged else {
            let Some(after) = job.after.as_deref().filter(|after| !after.is_empty()) else { return Ok(None) };
            let known = self.set.take_cursor(&job.job_id);
            return self.advance(&job.job_id, known.unwrap_or_else(|| Box::new(Cursor::new(after))));
        };
        Ok(Some(match blocker {
            Blocker::Hold(..) => Wait::Hold,
            // A retry is part of running the job; what was asked to start later, or parked, is not.
            Blocker::Time(time) if job.not_before != Some(time) && !was_parked(line.as_ref()) => {
                Wait::Retry(time)
            }
            Blocker::Time(time) => Wait::Time(time),
            Blocker::Parent(on) | Blocker::Dependency(on, _) => Wait::Dependency(on),
            Blocker::After(of, moving) => {
                let (of, on) = moving.waited_for(of);
                Wait::After { of, on }
            }
        }))
    }

    fn start(
        &mut self,
        id: &Rc<JobId>,
        locks: BTreeMap<String, u32>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> std::result::Result<(), WorkError> {
        let number = self.runners.start(id).map_err(|gone| self.without_launcher(gone))?;
        tell(Event::Started(id));
        self.slots.begin(number, Running { id: id.clone(), locks: locks.into_keys().collect() });
        Ok(())
    }

    /// Reports why a job was not run, unless already reported, and lets it wait.
    pub(super) fn refuse(&mut self, id: &Rc<JobId>, reason: Reason, tell: &mut dyn FnMut(Event<'_>)) {
        if self.refusals.is_new(id, &reason) {
            tell(Event::NotRun(id, &reason));
        }
        self.try_again_later(id, reason);
    }

    /// Lets a job wait for a while that grows each time.
    pub(super) fn try_again_later(&mut self, id: &Rc<JobId>, reason: Reason) {
        let wait = self.refusals.add(id, reason, self.clock.now());
        self.set.wait(id, wait);
    }
}
