//! The jobs to recover beside the work: which one is next, and which are left alone for a while.
//!
//! Pure: no process is started here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::runners::Runner;
use super::schedule::LOOK_EVERY;
use crate::job::JobId;

/// So many jobs are recovered at a time. A crash can leave thousands, and each recovery is a process that looks at all processes
/// again and again until the left-overs have ended: together they must not delay the next claim. A runner of ours that died
/// has one place more, for its job was at work a moment ago.
pub(super) const RECOVERIES: usize = 4;

/// A job that is recovered.
#[derive(Debug)]
pub(super) struct Recovering {
    pub(super) id: Rc<JobId>,
    /// Our own runner that died, if it was ours.
    pub(super) runner: Option<Runner>,
}

impl Recovering {
    fn is_own(&self) -> bool {
        self.runner.is_some()
    }
}

/// A job that cannot be recovered from here: how often that was tried, and until when it is left alone.
#[derive(Debug)]
struct LeftAlone {
    times: u32,
    until: Duration,
}

/// The recoveries of a worker.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    begun: HashMap<i32, Recovering>,
    /// The jobs of our own runners, then the others, each in the order in which they were found.
    waiting: VecDeque<Recovering>,
    left_alone: HashMap<JobId, LeftAlone>,
}

impl Recoveries {
    /// Has a job recovered when it is its turn.
    pub(super) fn add(&mut self, id: Rc<JobId>, runner: Option<Runner>) {
        let at = match runner {
            Some(_) => self.waiting.partition_point(Recovering::is_own),
            None => self.waiting.len(),
        };
        self.waiting.insert(at, Recovering { id, runner });
    }

    /// The next one that may begin: a handful at a time; when the worker stops, only those of its own runners. Each ends by a
    /// deadline of its own, and one that could not be made comes last, so that every job has its turn.
    pub(super) fn next(&mut self, stopping: bool) -> Option<Recovering> {
        let is_own = self.waiting.front()?.is_own();
        let has_place = self.begun.len() < RECOVERIES + usize::from(is_own);
        self.waiting.pop_front_if(|_| has_place && (is_own || !stopping))
    }

    /// Notes that a recovery has begun under this number.
    pub(super) fn begin(&mut self, number: i32, recovering: Recovering) {
        self.begun.insert(number, recovering);
    }

    /// Takes out the recovery that has ended under this number, if it was one.
    pub(super) fn end(&mut self, number: i32) -> Option<Recovering> {
        self.begun.remove(&number)
    }

    fn all(&self) -> impl Iterator<Item = &Recovering> {
        self.begun.values().chain(&self.waiting)
    }

    /// The jobs that are recovered, or will be.
    pub(super) fn ids(&self) -> HashSet<Rc<JobId>> {
        self.all().map(|one| one.id.clone()).collect()
    }

    /// True if no job is recovered, nor will be.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.waiting.is_empty()
    }

    /// True if a job of a runner of ours that died is recovered, or will be.
    pub(super) fn has_own(&self) -> bool {
        self.all().any(Recovering::is_own)
    }

    /// True if it is too early to look at a job again.
    pub(super) fn leaves_alone(&self, id: &JobId, now: Duration) -> bool {
        self.left_alone.get(id).is_some_and(|left| now < left.until)
    }

    /// Leaves a job alone until the next look: its file is in `running/` for the moment.
    pub(super) fn pass_over(&mut self, id: &JobId, now: Duration) {
        let until = now + LOOK_EVERY;
        self.left_alone.entry(id.clone()).or_insert(LeftAlone { times: 0, until }).until = until;
    }

    /// Leaves a job that cannot be recovered alone for a while that grows; how often that was so far.
    pub(super) fn leave_alone(&mut self, id: &JobId, now: Duration) -> u32 {
        let left = self.left_alone.entry(id.clone()).or_insert(LeftAlone { times: 0, until: now });
        left.times += 1;
        left.until = now + LOOK_EVERY * (1 << left.times.min(7));
        left.times
    }

    /// Forgets that a job could not be recovered.
    pub(super) fn is_done(&mut self, id: &JobId) {
        self.left_alone.remove(id);
    }
}
