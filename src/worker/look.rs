//! Looking: what was told, what no event tells, and what dead runners left.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::ready_set::Lock;
use super::{
    DEPENDENCIES_AT_LEAST, DEPENDENCIES_EVERY, Event, LOCKS_EVERY, LOOK_EVERY, LeftAlone, POLL_EVERY,
    RECOVERIES, Recovering, Runner, WorkError, Worker, scan,
};
use crate::fs::Create;
use crate::fs::watch::Changes;
use crate::job::{Code, JobId, Place, Reason, Status};
use crate::queue::recovery::Recovered;
use crate::queue::{QueueError, places};
use crate::store::brief::Reader;
use crate::store::{Acquire, Lease, control, journal};

impl Worker<'_> {
    /// Brings the set up to date: by what was told, and now and then by looking.
    pub(super) fn look(&mut self) -> Result<(), QueueError> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let everything = !self.take_notices()? || monotonic >= self.next_look;
        if everything {
            self.next_look = monotonic + LOOK_EVERY;
            self.recover_abandoned()?;
        }
        let polls = monotonic >= self.next_poll;
        if everything || (polls && !self.all_is_told()) {
            scan::refresh(self.store, &self.orders.filter, &mut self.set)?;
            self.look_at_holds()?;
            // A name that came in while the directory was read may be missing there, and a later one not.
            if !self.take_notices()? {
                self.next_look = monotonic;
            }
        }
        if polls {
            // A release is told where inotify works; a try costs a process.
            self.next_poll = monotonic + if self.watch.works() { LOCKS_EVERY } else { POLL_EVERY };
            for lock in self.set.locks_waited_for() {
                self.set.wake_one_for_lock(&lock);
            }
        }
        if monotonic >= self.next_dependencies {
            self.next_dependencies = monotonic + DEPENDENCIES_EVERY;
            self.look_at_dependencies();
        }
        let set_back = self.last_look.was_set_back(now, monotonic);
        // By the clock as it is now, what waits for a time is judged anew before it starts.
        self.set.wake_due(if set_back { now.after(Duration::MAX) } else { now });
        Ok(())
    }

    /// True if the kernel tells of every change of the queue: what another machine does on a shared file system it does not.
    pub(super) fn all_is_told(&self) -> bool {
        self.watch.works() && self.store.is_of_this_machine()
    }

    /// Takes what was told; false if anything may have changed.
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
                    // One that is known was edited: it may rank otherwise, or not wait any more.
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
        let all = control::is_queue_held(self.store)?;
        let jobs: HashSet<JobId> = control::held_jobs(self.store)?.into_iter().collect();
        if (all, &jobs) != (self.queue_is_held, &self.held) {
            (self.queue_is_held, self.held) = (all, jobs);
            self.set.wake_held();
        }
        Ok(())
    }

    pub(super) fn look_at_dependencies(&mut self) {
        // No job ends without a line in the journal, unless its runner was killed in between; then a later look finds it.
        let (journal, monotonic) = (journal::live_end(self.store), self.clock.monotonic());
        if journal.is_some() && journal == self.journal && monotonic < self.next_dependencies_all {
            return;
        }
        self.journal = journal;
        self.next_dependencies_all = monotonic + DEPENDENCIES_AT_LEAST;
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
    }

    /// Has the jobs in `running/` recovered whose runner is dead: by processes, for what is left of one may need its time.
    pub(super) fn recover_abandoned(&mut self) -> Result<(), QueueError> {
        let recovering = self.recovering.values().chain(&self.to_recover).map(|one| &one.id);
        let ours: HashSet<Rc<JobId>> =
            recovering.chain(self.running.values().map(|running| &running.id)).cloned().collect();
        for id in places::ids(self.store, &Place::Running)? {
            let later = self.left_alone.get(&id).is_some_and(|left| self.clock.monotonic() < left.until);
            // Of one that runs, which is the usual thing, the lease tells without a process.
            if !later
                && !ours.contains(&id)
                && !matches!(Lease::acquire(self.store, &id, Create::No), Ok(Acquire::Busy))
            {
                self.recover(Rc::new(id), None);
            }
        }
        Ok(())
    }

    /// Has a job recovered when it is its turn.
    pub(super) fn recover(&mut self, id: Rc<JobId>, runner: Option<Runner>) {
        let at = match runner {
            Some(_) => self.to_recover.partition_point(Recovering::is_own),
            None => self.to_recover.len(),
        };
        self.to_recover.insert(at, Recovering { id, runner });
    }

    /// True if a job is recovered, or will be.
    pub(super) fn has_to_recover(&self) -> bool {
        !(self.recovering.is_empty() && self.to_recover.is_empty())
    }

    /// True if a job of a runner of ours that died is recovered, or will be.
    pub(super) fn has_own_to_recover(&self) -> bool {
        self.recovering.values().chain(&self.to_recover).any(Recovering::is_own)
    }

    /// Begins recoveries, a handful at a time; when the worker stops, only those of its own runners. Each ends by a deadline of its
    /// own, and one that could not be made comes last, so that every job has its turn.
    pub(super) fn start_recoveries(&mut self, stopping: bool) -> Result<(), WorkError> {
        while let Some(is_own) = self.to_recover.front().map(Recovering::is_own)
            && (is_own || !stopping)
            && self.recovering.len() < RECOVERIES + usize::from(is_own)
            && let Some(next) = self.to_recover.pop_front()
        {
            let number = self.runners.recover(&next.id).map_err(|gone| self.without_launcher(gone))?;
            self.recovering.insert(number, next);
        }
        Ok(())
    }

    /// Tells what became of a recovery, and when it is tried again if it could not be done; true if the record is as it must be.
    pub(super) fn is_recovered(
        &mut self,
        id: &JobId,
        recovered: Option<Result<Recovered, Reason>>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        match recovered {
            Some(Ok(Recovered::Healthy | Recovered::Alive)) => {
                // Its file is in `running/` for the moment: the next look is soon enough.
                let until = self.clock.monotonic() + LOOK_EVERY;
                self.left_alone.entry(id.clone()).or_insert(LeftAlone { times: 0, until }).until = until;
                true
            }
            Some(Ok(done)) if done.is_done() => {
                self.left_alone.remove(id);
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

    /// Told once; it is tried again after a while that grows.
    fn not_recovered(&mut self, id: &JobId, why: Result<Recovered, Reason>, tell: &mut dyn FnMut(Event<'_>)) {
        if self.leave_alone(id) > 1 {
            return;
        }
        match why {
            Ok(recovered) => tell(Event::Recovered(id, &recovered)),
            Err(reason) => tell(Event::NotRun(id, &reason)),
        }
    }

    /// Leaves a job that cannot be recovered alone for a while that grows; how often that was so far.
    fn leave_alone(&mut self, id: &JobId) -> u32 {
        let now = self.clock.monotonic();
        let left = self.left_alone.entry(id.clone()).or_insert(LeftAlone { times: 0, until: now });
        left.times += 1;
        left.until = now + LOOK_EVERY * (1 << left.times.min(7));
        left.times
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::os::fd::BorrowedFd;

    use super::super::{Ended, Filter, Gone, Left, Orders, Runners, Until};
    use super::*;
    use crate::clock::{Clock, SystemClock, Timestamp};
    use crate::job::parse_job;
    use crate::process::signals::Signals;
    use crate::queue::door::Incoming;
    use crate::queue::enter;
    use crate::store::Store;
    use crate::store::testing::store;

    /// A clock whose time goes on with each look at what has ended.
    struct Turned(Cell<Duration>);

    const TURN: Duration = Duration::from_millis(100);

    impl Clock for Turned {
        fn now(&self) -> Timestamp {
            SystemClock::start().now()
        }
        fn monotonic(&self) -> Duration {
            self.0.get()
        }
    }

    /// Runners whose jobs are gone at once, and recoveries that end one after the other, the first one last.
    struct Counting<'a> {
        null: std::fs::File,
        store: &'a Store,
        clock: &'a Turned,
        ended: Vec<Ended>,
        /// The jobs whose recovery has begun.
        begun: Vec<String>,
        open: VecDeque<i32>,
        most: usize,
        /// The jobs that were started, each with how many recoveries had begun, and the time.
        started: Vec<(String, usize, Duration)>,
        /// Dropped at this time.
        held: Option<(Duration, Box<Lease>)>,
    }

    impl<'a> Counting<'a> {
        fn new(store: &'a Store, clock: &'a Turned, held: Option<(Duration, Box<Lease>)>) -> Self {
            Self {
                null: std::fs::File::open("/dev/null").unwrap(),
                store,
                clock,
                ended: Vec::new(),
                begun: Vec::new(),
                open: VecDeque::new(),
                most: 0,
                started: Vec::new(),
                held,
            }
        }

        fn order(&self) -> Vec<&str> {
            self.started.iter().map(|(id, ..)| id.as_str()).collect()
        }
    }

    fn ended(number: i32, said: Option<Result<Recovered, Reason>>) -> Ended {
        Ended { number, runner: Runner { pid: Some(number), status: Some(0) }, said }
    }

    impl Runners for Counting<'_> {
        fn start(&mut self, id: &JobId) -> Result<i32, Gone> {
            self.started.push((id.to_string(), self.begun.len(), self.clock.monotonic()));
            crate::fs::remove(&self.store.job_file(&Place::Queued, id)).map_err(|_| Gone)?;
            self.ended.push(ended(-1, None));
            Ok(-1)
        }

        fn recover(&mut self, id: &JobId) -> Result<i32, Gone> {
            self.begun.push(id.to_string());
            let number = i32::try_from(self.begun.len()).unwrap();
            self.open.push_back(number);
            self.most = self.most.max(self.open.len());
            Ok(number)
        }

        fn ended(&mut self) -> Result<Vec<Ended>, Gone> {
            self.clock.0.set(self.clock.monotonic() + TURN);
            let now = self.clock.monotonic();
            self.held = self.held.take().filter(|(until, _)| now < *until);
            let next = self.open.remove(usize::from(self.open.len() > 1));
            let done = Some(Ok(Recovered::Lost(Place::Queued)));
            self.ended.extend(next.map(|number| ended(number, done)));
            Ok(std::mem::take(&mut self.ended))
        }

        fn fd(&self) -> BorrowedFd<'_> {
            std::os::fd::AsFd::as_fd(&self.null)
        }

        fn stop(&mut self, _: i32) {}
    }

    fn orders(left: BTreeSet<JobId>) -> Orders {
        let left = Left { jobs: left, is_all: false };
        Orders { slots: 1, until: Until::Drained, filter: Filter::default(), left }
    }

    /// Drains a queue; gives the jobs that were recovered.
    fn drain(runners: &mut Counting<'_>, left: BTreeSet<JobId>) -> Vec<String> {
        let (store, clock, signals) = (runners.store, runners.clock, Signals::install().unwrap());
        let mut recovered = Vec::new();
        let mut tell = |event: Event<'_>| {
            if let Event::Recovered(id, _) = event {
                recovered.push(id.to_string());
            }
        };
        Worker::new(store, clock, &signals, runners, orders(left)).run(&mut tell).unwrap();
        recovered
    }

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn named(store: &Store, text: &str) {
        let bytes = format!(r#"{{"job_id":"{text}","tool":"shell"}}"#);
        crate::fs::create_new(&store.job_file(&Place::Queued, &id(text)), bytes.as_bytes()).unwrap();
    }

    fn submitted(store: &Store, text: &str) {
        let bytes = format!(r#"{{"job_id":"{text}","tool":"shell","command":{{"exe":"true"}}}}"#);
        let job = parse_job(bytes.as_bytes(), "").unwrap().job;
        let incoming = Incoming { job: &job, bytes: bytes.as_bytes() };
        let entered = enter::park(store, &SystemClock::start(), incoming).unwrap();
        assert!(matches!(entered, enter::Entered::Inside(_)));
    }

    fn turned() -> Turned {
        Turned(Cell::new(Duration::ZERO))
    }

    #[test]
    fn a_thousand_abandoned_jobs_are_recovered_a_handful_at_a_time_behind_one_that_does_not_end() {
        let ((_dir, store), clock) = (store(), turned());
        named(&store, "next");
        let left = (0..1000).map(|number| id(&format!("a{number}"))).collect();
        let mut runners = Counting::new(&store, &clock, None);
        let recovered = drain(&mut runners, left);
        assert_eq!((runners.begun.len(), runners.most, recovered.len()), (1000, RECOVERIES, 1000));
        assert_eq!(recovered.last().map(String::as_str), Some("a0"), "the others waited for the first one");
        assert_eq!(
            (runners.order(), runners.started[0].1),
            (vec!["next"], 0),
            "the claim waited for recoveries"
        );
    }

    #[test]
    fn the_job_of_an_own_runner_that_died_is_recovered_before_what_was_abandoned_and_alone_at_a_stop() {
        let ((_dir, store), clock, signals) = (store(), turned(), Signals::install().unwrap());
        for (stopping, begun) in
            [(false, vec!["a0", "a1", "a2", "a3", "own", "second"]), (true, vec!["own", "second"])]
        {
            let mut runners = Counting::new(&store, &clock, None);
            let mut worker = Worker::new(&store, &clock, &signals, &mut runners, orders(BTreeSet::new()));
            (0..10).for_each(|number| worker.recover(Rc::new(id(&format!("a{number}"))), None));
            // None of them ends.
            worker.start_recoveries(stopping).unwrap();
            assert_eq!((worker.recovering.len(), worker.has_own_to_recover()), (begun.len() - 2, false));
            for own in ["own", "second"] {
                worker.recover(Rc::new(id(own)), Some(Runner { pid: Some(1), status: None }));
            }
            worker.start_recoveries(stopping).unwrap();
            assert!(worker.has_own_to_recover());
            // One that was abandoned ends: its place is the second one's.
            worker.recovering.remove(&1);
            worker.start_recoveries(stopping).unwrap();
            assert_eq!(runners.begun, begun);
        }
    }

    /// A batch of which a later job has its line already; the lease of the first one is held until a time.
    fn half_a_batch<'a>(store: &'a Store, clock: &'a Turned, until: Duration) -> Counting<'a> {
        let Acquire::Held(lease) = Lease::acquire(store, &id("step-1"), Create::IfMissing).unwrap() else {
            panic!("it is busy")
        };
        named(store, "step-1");
        submitted(store, "step-6");
        Counting::new(store, clock, Some((until, lease)))
    }

    #[test]
    fn what_came_in_later_is_not_started_before_one_whose_line_is_on_its_way() {
        let ((_dir, store), clock) = (store(), turned());
        let until = scan::COMES_IN_WITHIN - Duration::from_secs(1);
        let mut runners = half_a_batch(&store, &clock, until);
        drain(&mut runners, BTreeSet::new());
        assert_eq!(runners.order(), ["step-1", "step-6"]);
        assert_eq!(runners.started[0].2, until);
    }

    #[test]
    fn a_job_whose_lease_is_held_on_and_on_holds_up_the_queue_for_no_longer_than_a_submission_takes() {
        let ((_dir, store), clock) = (store(), turned());
        // By the clock its name stays new, as that of a file that is touched again and again.
        let mut runners = half_a_batch(&store, &clock, Duration::MAX);
        drain(&mut runners, BTreeSet::new());
        assert_eq!(
            runners.order(),
            ["step-1", "step-6"],
            "it is left to its runner, which looks at the lease"
        );
        assert_eq!(runners.started[0].2, TURN + scan::COMES_IN_WITHIN);
    }
}
