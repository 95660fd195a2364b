//! Which queued job is next: the ready ones in order, and those that wait, by what they wait for.
//!
//! Pure: no files, no clock. An id is in it once, from when it is found in the queue until it is forgotten.
//! Hard rule: it orders and remembers; whether a job may really start is decided under its lease by whoever claims it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use crate::clock::Timestamp;
use crate::job::JobId;
use crate::job::spec::Priority;

/// What decides the order: priority first, then age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The priority.
    pub priority: Priority,
    /// The time of the job file.
    pub since: Timestamp,
}

/// Whether a job names conditions of its start that can be looked at before a process is spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// None: no time, no dependency, no lock.
    None,
    /// Some.
    Some,
}

type Key = (Rank, Rc<JobId>);

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A time, because it says so or was parked.
    Time(Timestamp),
    /// A time, after which it is tried again by itself: a retry, or a start that was refused.
    Retry(Timestamp),
    /// A time, after a start that was refused again and again: nobody waits for it to end well.
    Refused(Timestamp),
    /// The success of another job.
    Dependency(JobId),
    /// A file in `state/control/`.
    Hold,
    /// A named lock.
    Lock(String),
}

#[derive(Debug)]
struct Known {
    rank: Rank,
    conditions: Conditions,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    /// It is not this worker's.
    NotOurs,
    Taken,
    Waiting(Wait),
}

/// The queue as one worker sees it.
#[derive(Debug, Default)]
pub struct ReadySet {
    known: HashMap<Rc<JobId>, Known>,
    ready: BTreeSet<Key>,
    timed: BTreeSet<(Timestamp, Key)>,
    dependants: HashMap<JobId, BTreeSet<Key>>,
    held: BTreeSet<Key>,
    locked: BTreeMap<String, BTreeSet<Key>>,
}

impl ReadySet {
    /// True if the id is in it.
    #[must_use]
    pub fn knows(&self, id: &JobId) -> bool {
        self.known.contains_key(id)
    }

    /// True if its runner was started and has not ended.
    #[must_use]
    pub fn is_taken(&self, id: &JobId) -> bool {
        self.known.get(id).is_some_and(|known| known.state == State::Taken)
    }

    /// True if it waits for a named lock.
    #[must_use]
    pub fn is_behind_a_lock(&self, id: &JobId) -> bool {
        self.known.get(id).is_some_and(|known| matches!(known.state, State::Waiting(Wait::Lock(_))))
    }

    /// Adds a job that was found in the queue; one that is known keeps its state.
    pub fn add(&mut self, id: JobId, rank: Rank, conditions: Conditions) {
        if !self.knows(&id) {
            let id = Rc::new(id);
            self.known.insert(id.clone(), Known { rank, conditions, state: State::Ready });
            self.ready.insert((rank, id));
        }
    }

    /// Remembers that a job is not this worker's, so that its file need not be read again.
    pub fn add_other(&mut self, id: JobId) {
        let rank = Rank { priority: Priority::Low, since: Timestamp::from_millis(0) };
        let known = Known { rank, conditions: Conditions::Some, state: State::NotOurs };
        self.known.entry(Rc::new(id)).or_insert(known);
    }

    /// Takes the first of the ready jobs; it stays known.
    pub fn take_first(&mut self) -> Option<(Rc<JobId>, Conditions)> {
        let (_, id) = self.ready.pop_first()?;
        self.set(&id, State::Taken);
        let conditions = self.known.get(&id).map_or(Conditions::Some, |known| known.conditions);
        Some((id, conditions))
    }

    /// Lets a job that was taken wait.
    pub fn wait(&mut self, id: &Rc<JobId>, wait: Wait) {
        let Some(known) = self.known.get_mut(id) else { return };
        // Whatever made it wait is looked at before the next start.
        known.conditions = Conditions::Some;
        let key = (known.rank, id.clone());
        match &wait {
            Wait::Time(time) | Wait::Retry(time) | Wait::Refused(time) => {
                self.timed.insert((*time, key));
            }
            Wait::Dependency(on) => drop(self.dependants.entry(on.clone()).or_default().insert(key)),
            Wait::Hold => drop(self.held.insert(key)),
            Wait::Lock(name) => drop(self.locked.entry(name.clone()).or_default().insert(key)),
        }
        self.set(id, State::Waiting(wait));
    }

    /// Removes a job that left the queue.
    pub fn forget(&mut self, id: &JobId) {
        let Some((id, Known { rank, state, .. })) = self.known.remove_entry(id) else { return };
        let key = (rank, id);
        match state {
            State::Ready => drop(self.ready.remove(&key)),
            State::Taken | State::NotOurs => {}
            State::Waiting(Wait::Time(time) | Wait::Retry(time) | Wait::Refused(time)) => {
                self.timed.remove(&(time, key));
            }
            State::Waiting(Wait::Dependency(on)) => {
                remove_from(self.dependants.get_mut(&on), &key);
                self.dependants.retain(|_, keys| !keys.is_empty());
            }
            State::Waiting(Wait::Hold) => drop(self.held.remove(&key)),
            State::Waiting(Wait::Lock(name)) => remove_from(self.locked.get_mut(&name), &key),
        }
    }

    /// Makes the jobs ready whose time has come.
    pub fn wake_due(&mut self, now: Timestamp) {
        while let Some((time, _)) = self.timed.first()
            && *time <= now
            && let Some((_, key)) = self.timed.pop_first()
        {
            self.make_ready(key);
        }
    }

    /// Makes the jobs ready that wait for a job.
    pub fn wake_dependants(&mut self, of: &JobId) {
        for key in self.dependants.remove(of).unwrap_or_default() {
            self.make_ready(key);
        }
    }

    /// Makes the jobs ready that were held.
    pub fn wake_held(&mut self) {
        for key in std::mem::take(&mut self.held) {
            self.make_ready(key);
        }
    }

    /// Makes the first of the jobs ready that wait for a lock.
    pub fn wake_one_for_lock(&mut self, name: &str) {
        let Some(keys) = self.locked.get_mut(name) else { return };
        let first = keys.pop_first();
        if keys.is_empty() {
            self.locked.remove(name);
        }
        if let Some(key) = first {
            self.make_ready(key);
        }
    }

    /// The jobs that others wait for.
    #[must_use]
    pub fn waited_for(&self) -> Vec<JobId> {
        self.dependants.keys().cloned().collect()
    }

    /// The locks that jobs wait for.
    #[must_use]
    pub fn locks_waited_for(&self) -> Vec<String> {
        self.locked.keys().cloned().collect()
    }

    /// True if a job waits for this lock.
    #[must_use]
    pub fn waits_for_lock(&self, name: &str) -> bool {
        self.locked.contains_key(name)
    }

    /// When the next job that waits for a time becomes ready.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timed.first().map(|(time, _)| *time)
    }

    /// True if a job is ready.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// True if some job will become ready without anybody's doing: a retry, a lock that is held, or one that waits for
    /// such a job or for one that `runs`.
    #[must_use]
    pub fn moves_by_itself(&self, runs: &mut dyn FnMut(&JobId) -> bool) -> bool {
        let is_retry = |(_, (_, id)): &(Timestamp, Key)| {
            matches!(self.known.get(id), Some(Known { state: State::Waiting(Wait::Retry(_)), .. }))
        };
        // A job that waits for another of this set moves only if the other does, and that one stands here itself.
        !self.ready.is_empty()
            || !self.locked.is_empty()
            || self.timed.iter().any(is_retry)
            || self.dependants.keys().any(|on| !self.knows(on) && runs(on))
    }

    /// The jobs that wait, each with what for, in order.
    pub fn waiting(&self) -> impl Iterator<Item = (&JobId, &Wait)> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .filter_map(|(id, known)| match &known.state {
                State::Waiting(wait) => Some((known.rank, id, wait)),
                State::Ready | State::Taken | State::NotOurs => None,
            })
            .collect();
        all.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        all.into_iter().map(|(_, id, wait)| (id.as_ref(), wait))
    }

    /// The ids that are ready or wait: what a look into the queue must find again.
    pub fn in_queue(&self) -> impl Iterator<Item = &JobId> {
        self.known.iter().filter(|(_, known)| known.state != State::Taken).map(|(id, _)| id.as_ref())
    }

    fn make_ready(&mut self, key: Key) {
        self.set(&key.1, State::Ready);
        self.ready.insert(key);
    }

    fn set(&mut self, id: &Rc<JobId>, to: State) {
        if let Some(known) = self.known.get_mut(id) {
            known.state = to;
        }
    }
}

fn remove_from(keys: Option<&mut BTreeSet<Key>>, key: &Key) {
    if let Some(keys) = keys {
        keys.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn set(jobs: &[(&str, Priority, i64)]) -> ReadySet {
        let mut set = ReadySet::default();
        for (name, priority, since) in jobs {
            set.add(id(name), Rank { priority: *priority, since: at(*since) }, Conditions::None);
        }
        set
    }

    fn order(set: &mut ReadySet) -> Vec<String> {
        std::iter::from_fn(|| set.take_first()).map(|(id, _)| id.to_string()).collect()
    }

    #[test]
    fn priority_counts_before_age_and_age_before_the_name() {
        let mut set = set(&[
            ("d", Priority::Low, 1),
            ("c", Priority::Normal, 2),
            ("b", Priority::Normal, 1),
            ("a", Priority::Normal, 2),
            ("e", Priority::Critical, 9),
        ]);
        assert_eq!(order(&mut set), ["e", "b", "a", "c", "d"]);
    }

    #[test]
    fn a_job_that_is_found_twice_is_there_once_also_while_it_runs_or_waits() {
        let mut set = set(&[("a", Priority::Normal, 1), ("a", Priority::High, 1)]);
        let a = set.take_first().unwrap().0;
        set.add(id("a"), Rank { priority: Priority::Normal, since: at(1) }, Conditions::None);
        assert_eq!(set.take_first(), None);
        set.wait(&a, Wait::Hold);
        set.add(id("a"), Rank { priority: Priority::Normal, since: at(1) }, Conditions::None);
        assert_eq!(set.take_first(), None);
        set.wake_held();
        assert_eq!(order(&mut set), ["a"]);
        set.forget(&id("a"));
        assert!(!set.knows(&id("a")));
    }

    #[test]
    fn each_wait_ends_by_its_own_cause_alone() {
        let mut set =
            set(&[("t", Priority::Normal, 1), ("d", Priority::Normal, 2), ("l", Priority::Normal, 3)]);
        let waits = [Wait::Time(at(10)), Wait::Dependency(id("x")), Wait::Lock("gpu".into())];
        for wait in waits {
            let first = set.take_first().unwrap().0;
            set.wait(&first, wait);
        }
        assert_eq!(set.next_due(), Some(at(10)));
        set.wake_due(at(9));
        set.wake_dependants(&id("y"));
        set.wake_one_for_lock("db");
        set.wake_held();
        assert_eq!(set.take_first(), None);
        set.wake_one_for_lock("gpu");
        assert_eq!(order(&mut set), ["l"]);
        set.wake_dependants(&id("x"));
        assert_eq!(order(&mut set), ["d"]);
        set.wake_due(at(10));
        assert_eq!(order(&mut set), ["t"]);
    }

    #[test]
    fn a_job_that_leaves_while_it_waits_is_not_woken() {
        for wait in [Wait::Time(at(1)), Wait::Dependency(id("x")), Wait::Lock("gpu".into()), Wait::Hold] {
            let mut set = set(&[("a", Priority::Normal, 1)]);
            let a = set.take_first().unwrap().0;
            set.wait(&a, wait);
            set.forget(&a);
            set.wake_due(at(9));
            set.wake_dependants(&id("x"));
            set.wake_one_for_lock("gpu");
            set.wake_held();
            assert_eq!(set.take_first(), None);
        }
    }

    #[test]
    fn a_drain_waits_for_retries_and_running_dependencies_and_for_nothing_else() {
        let with = |wait: Wait| {
            let mut set = set(&[("a", Priority::Normal, 1)]);
            let a = set.take_first().unwrap().0;
            set.wait(&a, wait);
            set
        };
        let moves = |set: &ReadySet, running: &str| set.moves_by_itself(&mut |on| on.as_str() == running);
        assert!(moves(&with(Wait::Retry(at(5))), ""));
        assert!(moves(&with(Wait::Lock("gpu".into())), ""));
        assert!(moves(&with(Wait::Dependency(id("x"))), "x"));
        assert!(!moves(&with(Wait::Dependency(id("x"))), "y"));
        assert!(!moves(&with(Wait::Time(at(5))), ""));
        assert!(!moves(&with(Wait::Hold), ""));
    }
}
