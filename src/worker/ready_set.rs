//! Chooses the next queued job: keeps the ready jobs in order, and the waiting jobs by what they wait for.
//!
//! Pure: no files, no clock. An id is in it once, from when it is found in the queue until it is forgotten.
//! Hard rule: it orders and remembers; the claim decides under the lease whether a job may really start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::candidate::{Candidate, Conditions, Source};
use super::cursor::Cursor;
use super::wait::{Lock, Wait};
use crate::clock::Timestamp;
use crate::job::{JobId, Status};
use crate::policy::order::{self, Lender, Loan, Rank};

type Key = (Rank, Rc<JobId>);

#[derive(Debug)]
struct Known {
    own: Rank,
    /// The effective rank: its own, or a lent one.
    rank: Rank,
    conditions: Conditions,
    source: Source,
    state: State,
    /// How far it has come through the jobs that it comes after.
    cursor: Option<Box<Cursor>>,
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
pub(crate) struct ReadySet {
    known: HashMap<Rc<JobId>, Known>,
    ready: BTreeSet<Key>,
    timed: BTreeSet<(Timestamp, Key)>,
    dependants: HashMap<JobId, BTreeSet<Key>>,
    /// The jobs that wait for the end of another, whatever the outcome.
    followers: BTreeMap<JobId, BTreeSet<Key>>,
    held: BTreeSet<Key>,
    locked: BTreeMap<Lock, BTreeSet<Key>>,
    /// The jobs that depend on others, and what they lend.
    lenders: BTreeMap<JobId, Lender>,
    loans: BTreeMap<JobId, Loan>,
    /// True if the loans are not those of the lenders.
    loans_are_old: bool,
}

impl ReadySet {
    /// True if the id is in it.
    #[must_use]
    pub(crate) fn knows(&self, id: &JobId) -> bool {
        self.known.contains_key(id)
    }

    /// True if its runner was started and has not ended.
    #[must_use]
    pub(crate) fn is_taken(&self, id: &JobId) -> bool {
        self.known.get(id).is_some_and(|known| known.state == State::Taken)
    }

    /// True if it waits for a lock.
    #[must_use]
    pub(crate) fn is_behind_a_lock(&self, id: &JobId) -> bool {
        self.known.get(id).is_some_and(|known| matches!(known.state, State::Waiting(Wait::Lock(_))))
    }

    /// Adds a job that was found in the queue; a known job keeps its state.
    pub(crate) fn add(&mut self, id: JobId, seen: Candidate) {
        if let Some((id, rank)) = self.insert(id, seen, State::Ready) {
            self.ready.insert((rank, id));
        }
    }

    /// Remembers a job that is not this worker's, so that its file need not be read again: it lends like any other.
    pub(crate) fn add_other(&mut self, id: JobId, seen: Candidate) {
        self.insert(id, seen, State::NotOurs);
    }

    fn insert(&mut self, id: JobId, seen: Candidate, state: State) -> Option<(Rc<JobId>, Rank)> {
        if self.knows(&id) {
            return None;
        }
        let Candidate { rank: own, conditions, on, source } = seen;
        let rank = Loan::improve(self.loans.get(&id), own);
        // A dependency may have been absent when the others lent.
        self.loans_are_old |= !on.is_empty() || self.dependants.contains_key(&id);
        if !on.is_empty() {
            self.lenders.insert(id.clone(), Lender { rank: own, on });
        }
        let id = Rc::new(id);
        self.known.insert(id.clone(), Known { own, rank, conditions, source, state, cursor: None });
        Some((id, rank))
    }

    /// Takes the first of the ready jobs; it stays known.
    pub(crate) fn take_first(&mut self) -> Option<(Rc<JobId>, Conditions, Source)> {
        self.settle_loans();
        let (_, id) = self.ready.pop_first()?;
        self.set(&id, State::Taken);
        let known = self.known.get(&id);
        let (conditions, source) =
            known.map_or((Conditions::Some, Source::Record), |known| (known.conditions, known.source));
        Some((id, conditions, source))
    }

    /// Sorts every job by its own rank, or the one lent to it.
    fn settle_loans(&mut self) {
        if !std::mem::take(&mut self.loans_are_old) {
            return;
        }
        let loans = order::loans(&self.lenders);
        let old = std::mem::replace(&mut self.loans, loans);
        let concerned: BTreeSet<JobId> = old.into_keys().chain(self.loans.keys().cloned()).collect();
        for id in concerned {
            let Some((id, known)) = self.known.get_key_value(&id) else { continue };
            let (from, to) = (known.rank, Loan::improve(self.loans.get(id.as_ref()), known.own));
            if from == to {
                continue;
            }
            let (id, state) = (id.clone(), known.state.clone());
            self.take_out(&state, &(from, id.clone()));
            if let Some(known) = self.known.get_mut(&id) {
                known.rank = to;
            }
            self.put_in(&state, (to, id));
        }
    }

    /// Lets a job that was taken wait.
    pub(crate) fn wait(&mut self, id: &Rc<JobId>, wait: Wait) {
        let Some(known) = self.known.get_mut(id) else { return };
        // The cause of its wait is checked before the next start.
        known.conditions = Conditions::Some;
        let (key, state) = ((known.rank, id.clone()), State::Waiting(wait));
        self.put_in(&state, key);
        self.set(id, state);
    }

    /// Makes a job that was taken ready again: it was not its moment.
    pub(crate) fn put_back(&mut self, id: &Rc<JobId>) {
        if let Some(known) = self.known.get(id) {
            let key = (known.rank, id.clone());
            self.make_ready(key);
        }
    }

    /// Removes a job that left the queue.
    pub(crate) fn forget(&mut self, id: &JobId) {
        let Some((id, Known { rank, state, .. })) = self.known.remove_entry(id) else { return };
        if let Some(lender) = self.lenders.remove(id.as_ref()) {
            self.loans_are_old |= lender.on.iter().any(|on| self.knows(on));
        }
        self.take_out(&state, &(rank, id));
    }

    fn put_in(&mut self, state: &State, key: Key) {
        match state {
            State::Ready => drop(self.ready.insert(key)),
            State::Taken | State::NotOurs => {}
            State::Waiting(Wait::Time(time) | Wait::Retry(time) | Wait::Refused(time)) => {
                self.timed.insert((*time, key));
            }
            State::Waiting(Wait::Dependency(on)) => {
                self.dependants.entry(on.clone()).or_default().insert(key);
            }
            State::Waiting(Wait::After { of, on }) => {
                for job in [of, on] {
                    self.followers.entry(job.clone()).or_default().insert(key.clone());
                }
            }
            State::Waiting(Wait::Hold) => drop(self.held.insert(key)),
            State::Waiting(Wait::Lock(lock)) => {
                self.locked.entry(lock.clone()).or_default().insert(key);
            }
        }
    }

    fn take_out(&mut self, state: &State, key: &Key) {
        match state {
            State::Ready => drop(self.ready.remove(key)),
            State::Taken | State::NotOurs => {}
            State::Waiting(Wait::Time(time) | Wait::Retry(time) | Wait::Refused(time)) => {
                self.timed.remove(&(*time, key.clone()));
            }
            State::Waiting(Wait::Dependency(on)) => {
                remove_from(self.dependants.get_mut(on), key);
                self.dependants.retain(|_, keys| !keys.is_empty());
            }
            State::Waiting(Wait::After { of, on }) => {
                for job in [of, on] {
                    remove_from(self.followers.get_mut(job), key);
                    if self.followers.get(job).is_some_and(BTreeSet::is_empty) {
                        self.followers.remove(job);
                    }
                }
            }
            State::Waiting(Wait::Hold) => drop(self.held.remove(key)),
            State::Waiting(Wait::Lock(lock)) => {
                remove_from(self.locked.get_mut(lock), key);
                self.locked.retain(|_, keys| !keys.is_empty());
            }
        }
    }

    /// Makes the jobs ready whose time has come.
    pub(crate) fn wake_due(&mut self, now: Timestamp) {
        while let Some((time, _)) = self.timed.first()
            && *time <= now
            && let Some((_, key)) = self.timed.pop_first()
        {
            self.make_ready(key);
        }
    }

    /// Makes the jobs ready that wait for a job.
    pub(crate) fn wake_dependants(&mut self, of: &JobId) {
        for key in self.dependants.remove(of).unwrap_or_default() {
            self.make_ready(key);
        }
    }

    /// `AFTER_ENDS`: makes the jobs ready that wait for the end of a job, whatever the outcome.
    pub(crate) fn wake_followers(&mut self, of: &JobId) {
        for key in self.followers.get(of).cloned().unwrap_or_default() {
            let state = self.known.get(&key.1).map_or(State::Ready, |known| known.state.clone());
            self.take_out(&state, &key);
            self.make_ready(key);
        }
    }

    /// Makes all jobs ready that wait for the end of another: something else may have let one of them start.
    pub(crate) fn wake_all_followers(&mut self) {
        while let Some(of) = self.followers.keys().next().cloned() {
            self.wake_followers(&of);
        }
    }

    /// Takes out how far a job has come through those that it comes after.
    pub(crate) fn take_cursor(&mut self, id: &JobId) -> Option<Box<Cursor>> {
        self.known.get_mut(id)?.cursor.take()
    }

    /// Keeps how far it has come, until it is forgotten.
    pub(crate) fn keep_cursor(&mut self, id: &JobId, cursor: Box<Cursor>) {
        if let Some(known) = self.known.get_mut(id) {
            known.cursor = Some(cursor);
        }
    }

    /// Makes the jobs ready that were held.
    pub(crate) fn wake_held(&mut self) {
        for key in std::mem::take(&mut self.held) {
            self.make_ready(key);
        }
    }

    /// Makes the first of the jobs ready that wait for a lock.
    pub(crate) fn wake_one_for_lock(&mut self, lock: &Lock) {
        self.settle_loans();
        let Some(keys) = self.locked.get_mut(lock) else { return };
        let first = keys.pop_first();
        if keys.is_empty() {
            self.locked.remove(lock);
        }
        if let Some(key) = first {
            self.make_ready(key);
        }
    }

    /// The jobs for whose success others wait.
    #[must_use]
    pub(crate) fn waited_for(&self) -> Vec<JobId> {
        self.dependants.keys().cloned().collect()
    }

    /// True if a job waits for another.
    #[must_use]
    pub(crate) fn waits_for_others(&self) -> bool {
        !(self.dependants.is_empty() && self.followers.is_empty())
    }

    /// The jobs for whose end others wait.
    #[must_use]
    pub(crate) fn followed(&self) -> Vec<JobId> {
        self.followers.keys().cloned().collect()
    }

    /// The locks that jobs wait for.
    #[must_use]
    pub(crate) fn locks_waited_for(&self) -> Vec<Lock> {
        self.locked.keys().cloned().collect()
    }

    /// True if a job waits for this lock.
    #[must_use]
    pub(crate) fn waits_for_lock(&self, lock: &Lock) -> bool {
        self.locked.contains_key(lock)
    }

    /// When the next job that waits for a time becomes ready.
    #[must_use]
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.timed.first().map(|(time, _)| *time)
    }

    /// True if a job is ready.
    #[must_use]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// True if some job will become ready by itself: a retry, a lock that is held, or one that waits for such a job or, by the
    /// status of that, for one that runs elsewhere. A wait that has been over since the last look counts too `AFTER_DRAIN`.
    #[must_use]
    pub(crate) fn moves_by_itself(&self, status: &mut dyn FnMut(&JobId) -> Option<Status>) -> bool {
        let is_retry = |(_, (_, id)): &(Timestamp, Key)| {
            matches!(self.known.get(id), Some(Known { state: State::Waiting(Wait::Retry(_)), .. }))
        };
        // A job that waits for another of this set moves only if the other does, and that one is in this set itself.
        !self.ready.is_empty()
            || !self.locked.is_empty()
            || self.timed.iter().any(is_retry)
            || self
                .dependants
                .keys()
                .filter(|on| !self.knows(on))
                .any(|on| matches!(status(on), Some(Status::Running | Status::Succeeded)))
            || self
                .followers
                .keys()
                .filter(|on| !self.knows(on))
                .any(|on| status(on).is_some_and(|status| status != Status::Queued))
    }

    /// The jobs that wait, each with what for, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&JobId, &Wait)> {
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
    pub(crate) fn in_queue(&self) -> impl Iterator<Item = &JobId> {
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
    use crate::job::record::Acceptance;
    use crate::job::spec::Priority;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn named(lock: &str) -> Lock {
        Lock::Named(lock.to_owned())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn candidate(priority: Priority, since: i64, on: &[&str]) -> Candidate {
        let rank = Rank::new(Some(priority), Acceptance { life: 1, at: at(since), place: 0 }, None);
        let on = on.iter().map(|on| id(on)).collect();
        Candidate { rank, conditions: Conditions::None, on, source: Source::Record }
    }

    fn set(jobs: &[(&str, Priority, i64)]) -> ReadySet {
        let mut set = ReadySet::default();
        for (name, priority, since) in jobs {
            set.add(id(name), candidate(*priority, *since, &[]));
        }
        set
    }

    fn order(set: &mut ReadySet) -> Vec<String> {
        std::iter::from_fn(|| set.take_first()).map(|(id, ..)| id.to_string()).collect()
    }

    #[test]
    fn a_job_has_the_rank_of_what_waits_for_it_until_that_leaves_the_queue() {
        let mut set = set(&[("a", Priority::Normal, 1), ("b", Priority::Low, 2)]);
        set.add(id("urgent"), candidate(Priority::High, 3, &["b"]));
        let b = set.take_first().unwrap().0;
        assert_eq!(b.as_str(), "b");
        set.wait(&b, Wait::Retry(at(9)));
        let urgent = set.take_first().unwrap().0;
        assert_eq!(urgent.as_str(), "urgent");
        set.wait(&urgent, Wait::Dependency(id("b")));
        set.forget(&id("urgent"));
        set.wake_due(at(9));
        assert_eq!(order(&mut set), ["a", "b"]);
    }

    #[test]
    fn a_dependency_that_comes_in_after_what_waits_for_it_has_its_rank_too() {
        let mut set = set(&[("a", Priority::Normal, 1)]);
        set.add_other(id("urgent"), candidate(Priority::Critical, 3, &["b"]));
        assert_eq!(order(&mut set), ["a"]);
        set.add(id("c"), candidate(Priority::High, 4, &[]));
        set.add(id("b"), candidate(Priority::Low, 5, &[]));
        assert_eq!(order(&mut set), ["b", "c"]);
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
        set.add(id("a"), candidate(Priority::Normal, 1, &[]));
        assert_eq!(set.take_first(), None);
        set.wait(&a, Wait::Hold);
        set.add(id("a"), candidate(Priority::Normal, 1, &[]));
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
        let waits = [Wait::Time(at(10)), Wait::Dependency(id("x")), Wait::Lock(named("gpu"))];
        for wait in waits {
            let first = set.take_first().unwrap().0;
            set.wait(&first, wait);
        }
        assert_eq!(set.next_due(), Some(at(10)));
        set.wake_due(at(9));
        set.wake_dependants(&id("y"));
        set.wake_one_for_lock(&named("db"));
        set.wake_held();
        assert_eq!(set.take_first(), None);
        set.wake_one_for_lock(&named("gpu"));
        assert_eq!(order(&mut set), ["l"]);
        set.wake_dependants(&id("x"));
        assert_eq!(order(&mut set), ["d"]);
        set.wake_due(at(10));
        assert_eq!(order(&mut set), ["t"]);
    }

    #[test]
    fn what_it_says_of_itself_follows_what_the_jobs_wait_for() {
        let mut set =
            set(&[("a", Priority::Normal, 1), ("b", Priority::Normal, 2), ("c", Priority::Normal, 3)]);
        set.add_other(id("other"), candidate(Priority::Normal, 4, &[]));
        let names = |set: &ReadySet| {
            let mut names: Vec<String> = set.in_queue().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let a = set.take_first().unwrap().0;
        assert_eq!(["a", "b", "other", "x"].map(|name| set.is_taken(&id(name))), [true, false, false, false]);
        assert_eq!(["a", "other", "x"].map(|name| set.knows(&id(name))), [true, true, false]);
        assert_eq!(names(&set), ["b", "c", "other"], "what runs has left the queue");
        set.wait(&a, Wait::Lock(named("gpu")));
        let b = set.take_first().unwrap().0;
        set.wait(&b, Wait::Dependency(id("x")));
        assert!(set.has_ready());
        let c = set.take_first().unwrap().0;
        set.wait(&c, Wait::Time(at(10)));
        assert!(!set.has_ready() && !set.is_taken(&c));
        assert_eq!(["a", "b", "x"].map(|name| set.is_behind_a_lock(&id(name))), [true, false, false]);
        assert_eq!((set.waits_for_lock(&named("gpu")), set.waits_for_lock(&named("db"))), (true, false));
        assert_eq!((set.locks_waited_for(), set.waited_for()), (vec![named("gpu")], vec![id("x")]));
        assert_eq!(set.next_due(), Some(at(10)));
        let waiting: Vec<(&str, Wait)> =
            set.waiting().map(|(id, wait)| (id.as_str(), wait.clone())).collect();
        let [lock, on, time] = [Wait::Lock(named("gpu")), Wait::Dependency(id("x")), Wait::Time(at(10))];
        assert_eq!(waiting, [("a", lock), ("b", on), ("c", time)]);
        set.wake_one_for_lock(&named("gpu"));
        set.wake_dependants(&id("x"));
        assert_eq!((set.locks_waited_for(), set.waited_for()), (vec![], vec![]));
        set.put_back(&a);
        assert_eq!(order(&mut set), ["a", "b"]);
    }

    #[test]
    fn one_after_the_other_gets_a_lock_the_best_first() {
        let mut set = set(&[("a", Priority::Low, 1), ("b", Priority::High, 2), ("c", Priority::Normal, 3)]);
        while let Some((taken, ..)) = set.take_first() {
            set.wait(&taken, Wait::Lock(named("gpu")));
        }
        for name in ["b", "c", "a"] {
            assert!(set.waits_for_lock(&named("gpu")));
            set.wake_one_for_lock(&named("gpu"));
            assert_eq!(order(&mut set), [name]);
        }
        assert!(!set.waits_for_lock(&named("gpu")));
    }

    #[test]
    fn a_job_that_leaves_while_it_waits_is_not_woken() {
        for wait in [Wait::Time(at(1)), Wait::Dependency(id("x")), Wait::Lock(named("gpu")), Wait::Hold] {
            let mut set = set(&[("a", Priority::Normal, 1)]);
            let a = set.take_first().unwrap().0;
            set.wait(&a, wait);
            set.forget(&a);
            set.wake_due(at(9));
            set.wake_dependants(&id("x"));
            set.wake_one_for_lock(&named("gpu"));
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
        let moves = |set: &ReadySet, running: &str| {
            set.moves_by_itself(&mut |on| (on.as_str() == running).then_some(Status::Running))
        };
        assert!(moves(&with(Wait::Retry(at(5))), ""));
        assert!(moves(&with(Wait::Lock(named("gpu"))), ""));
        assert!(moves(&with(Wait::Dependency(id("x"))), "x"));
        assert!(!moves(&with(Wait::Dependency(id("x"))), "y"));
        assert!(!moves(&with(Wait::Time(at(5))), ""));
        assert!(!moves(&with(Wait::Hold), ""));
    }
}
