//! The world of a worker under test: its runners, its signals and its time, played by a script on a real store.
//!
//! A scripted runner does to the store what a real one does, at times of a clock that advances only while the worker waits: an
//! hour of work takes no time, and equal scripts give equal runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::getpid;

use super::{Ended, Event, Filter, Gone, Left, Orders, Runner, Runners, Summary, Until, WorkError, Worker};
use crate::clock::testing::ManualClock;
use crate::clock::{Clock, SystemClock};
use crate::fs::mount::Ordering;
use crate::job::spec::OnFailure;
use crate::job::state::{Ending, Next};
use crate::job::{Code, JobId, Outcome, Parsed, Reason, parse_job};
use crate::process::signals::Requests;
use crate::queue::attempt::{self as lines, End, Start};
use crate::queue::cancel;
use crate::queue::claim::{self, Claimable, Content, Ready};
use crate::queue::door::Incoming;
use crate::queue::enter::{self, Entered};
use crate::queue::ready;
use crate::queue::recovery::{self, Recovered};
use crate::store::named_locks::{self, Holder, NamedLocks, TryLocks};
use crate::store::{Durability, Lease, Store, root};

/// The end of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Comes {
    /// To an end for good.
    To(Outcome),
    /// To a failure, and the next attempt is this much later.
    AgainIn(Duration),
    /// To a park of this long.
    ParkedFor(Duration),
    /// To no attempt: it is refused with this word.
    Refused(Code),
    /// To no attempt: it could not be forked.
    NotForked,
    /// It is killed in its attempt.
    Killed,
    /// It continues until it is asked to stop so many times.
    WhenAsked(u32),
    /// Another runner is faster, and succeeds.
    Late,
}

/// The activity of a runner or a recovery.
struct Doing {
    id: JobId,
    ends: Duration,
    comes: Comes,
    asked: u32,
    held: Option<(Box<Lease>, NamedLocks)>,
    /// Set for a recovery, and for a runner that makes no attempt.
    said: Said,
    pid: Option<i32>,
}

/// The report of a recovery; nothing if it is killed.
type Said = Option<Result<Recovered, Reason>>;

/// An event at a time, whatever the worker does.
type Happening<'s> = Box<dyn FnOnce(&Store, &ManualClock) + 's>;

/// A script and its outcome.
pub(super) struct World<'s> {
    store: &'s Store,
    pub(super) clock: ManualClock,
    /// The ends of the runners of a job, one after the other, each with its duration; by default success after a second.
    scripts: RefCell<HashMap<JobId, VecDeque<(Duration, Comes)>>>,
    /// The reports of the recoveries of a job; by default that of a real one.
    recoveries: RefCell<HashMap<JobId, VecDeque<Said>>>,
    /// How long the recovery of a job takes; else a tenth of a second.
    slow_recoveries: RefCell<HashMap<JobId, Duration>>,
    happenings: RefCell<BTreeMap<Duration, Vec<Happening<'s>>>>,
    doing: RefCell<BTreeMap<i32, Doing>>,
    last: Cell<i32>,
    requests: RefCell<BTreeSet<Duration>>,
    pub(super) launcher_gone_at: Cell<Option<Duration>>,
    waits: Cell<u32>,
    quiet: (OwnedFd, OwnedFd),
    /// The jobs that were started, each with the time.
    pub(super) started: RefCell<Vec<(String, Duration)>>,
    /// The jobs whose recovery was begun.
    pub(super) begun: RefCell<Vec<String>>,
    /// How many runners, and how many recoveries, there were at a time.
    pub(super) most: Cell<(usize, usize)>,
    /// How often a runner was started for a job that had to wait for a lock.
    pub(super) refused_for_locks: Cell<u32>,
    /// The reports of the worker.
    pub(super) events: RefCell<Vec<String>>,
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

/// A store in memory where there is such a file system, used like one on a disk of this machine: what survives a power loss is
/// tested elsewhere.
pub(super) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("root");
    root::create(&path).unwrap();
    let mut store = Store::open_to_change(&path).unwrap();
    store.config.durability = Durability::Fast;
    store.ordering = Ordering::Journaled;
    (dir, store)
}

/// Submits a shell job with more keys.
pub(super) fn submit(store: &Store, clock: &dyn Clock, name: &str, more: &str) {
    let text = format!(r#"{{"job_id":"{name}","tool":"shell","command":{{"exe":"true"}}{more}}}"#);
    let job = parse_job(text.as_bytes(), "").unwrap().job;
    let entered = enter::park(store, clock, Incoming { job: &job, bytes: text.as_bytes() }).unwrap();
    assert!(matches!(entered, Entered::Inside(_)), "{name}: {entered:?}");
}

impl<'s> World<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        Self {
            store,
            clock: ManualClock::starting_at(SystemClock::start().now()),
            scripts: RefCell::default(),
            recoveries: RefCell::default(),
            slow_recoveries: RefCell::default(),
            happenings: RefCell::default(),
            doing: RefCell::default(),
            last: Cell::new(0),
            requests: RefCell::default(),
            launcher_gone_at: Cell::default(),
            waits: Cell::new(0),
            quiet: rustix::pipe::pipe().unwrap(),
            started: RefCell::default(),
            begun: RefCell::default(),
            most: Cell::default(),
            refused_for_locks: Cell::new(0),
            events: RefCell::default(),
        }
    }

    /// Submits a job now.
    pub(super) fn submit(&self, name: &str, more: &str) {
        submit(self.store, &self.clock, name, more);
    }

    /// Scripts the end of the next runner of a job, and its duration.
    pub(super) fn script(&self, name: &str, after: Duration, comes: Comes) {
        self.scripts.borrow_mut().entry(id(name)).or_default().push_back((after, comes));
    }

    /// Scripts the report of the next recovery of a job; `None`: it is killed.
    pub(super) fn script_recovery(&self, name: &str, said: Said) {
        self.recoveries.borrow_mut().entry(id(name)).or_default().push_back(said);
    }

    pub(super) fn slow_recovery(&self, name: &str, takes: Duration) {
        self.slow_recoveries.borrow_mut().insert(id(name), takes);
    }

    /// Lets something happen at a time.
    pub(super) fn at(&self, time: Duration, happens: impl FnOnce(&Store, &ManualClock) + 's) {
        self.happenings.borrow_mut().entry(time).or_default().push(Box::new(happens));
    }

    /// Asks the worker to stop at a time.
    pub(super) fn request_at(&self, time: Duration) {
        self.requests.borrow_mut().insert(time);
    }

    /// Lets a worker work, and notes what it tells.
    pub(super) fn work(&self, orders: Orders) -> Result<Summary, WorkError> {
        let mut runners = self;
        let worker = Worker::new(self.store, &self.clock, self, &mut runners, orders);
        worker.run(&mut |event| self.events.borrow_mut().push(words(&event)))
    }

    /// Drains the queue with so many slots.
    pub(super) fn drain(&self, slots: usize) -> Summary {
        self.work(orders(slots, Until::Drained)).unwrap()
    }

    /// The jobs in the order in which they were started.
    pub(super) fn order(&self) -> Vec<String> {
        self.started.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    /// The reports without the starts.
    pub(super) fn news(&self) -> Vec<String> {
        self.events.borrow().iter().filter(|event| !event.starts_with("started")).cloned().collect()
    }

    fn note(&self, doing: Doing) -> i32 {
        self.last.set(self.last.get() + 1);
        let mut all = self.doing.borrow_mut();
        all.insert(self.last.get(), doing);
        let recoveries = all.values().filter(|one| matches!(one.said, Some(Ok(_)))).count();
        let (runners, most) = (all.len() - recoveries, self.most.get());
        self.most.set((most.0.max(runners), most.1.max(recoveries)));
        self.last.get()
    }

    /// As `runner::run_claimed` up to the start of the tool: what it holds, or why it is refused.
    fn admit(&self, id: &JobId) -> Result<(Box<Lease>, NamedLocks), Reason> {
        let ready = match claim::look(self.store, id, self.clock.now()).unwrap() {
            Claimable::Ready(ready) => ready,
            Claimable::Refused(reason) => return Err(reason),
            Claimable::NeedsRecovery => return Err(Reason::new(Code::NeedsRecovery, "left by a crash")),
        };
        let Ready { mut lease, file, parked_until } = *ready;
        let Content::Job(parsed, bytes) = file else {
            return Err(Reason::new(Code::InvalidJobFile, "no job"));
        };
        let Parsed { job, .. } = *parsed;
        let met = ready::judge(self.store, &job, parked_until, self.clock.now()).unwrap();
        let met = met.map_err(|blocker| blocker.reason())?;
        let names = named_locks::of_claim(self.store, &job);
        let by = Holder { id, attempt: 1 };
        let mut recovered = BTreeSet::new();
        let locks = loop {
            match NamedLocks::acquire(self.store, &names, by, &recovered).unwrap() {
                TryLocks::Held(locks) => break locks,
                TryLocks::Busy { lock, .. } => return Err(Reason::new(Code::WaitingLock, lock)),
                // The script lets nothing outlive a runner that is killed.
                TryLocks::Abandoned { holder, .. } => drop(recovered.insert(holder.id)),
            }
        };
        let summary = lines::summary(&job, &bytes);
        let start = Start { summary, repeatable: true, met, log_path: None, waits_since: None };
        let _ = lines::start(self.store, &self.clock, &mut lease, start).unwrap();
        Ok((lease, locks))
    }

    /// Applies the end of a due runner to the store.
    fn end(&self, number: i32, doing: Doing) -> Ended {
        let Doing { id, comes, held, said, pid, .. } = doing;
        if let Some((mut lease, locks)) = held {
            let (outcome, next, wait) = match comes {
                Comes::To(outcome) => (outcome, Next::Stop, None),
                Comes::AgainIn(wait) => (Outcome::Failed, Next::Again, Some(wait)),
                Comes::ParkedFor(wait) => (Outcome::Parked, Next::Stop, Some(wait)),
                Comes::WhenAsked(_) => (Outcome::Canceled, Next::Stop, None),
                Comes::Killed => {
                    drop(lease);
                    return Ended { number, runner: Runner { pid, status: None }, said: None };
                }
                Comes::Refused(_) | Comes::NotForked | Comes::Late => (Outcome::Succeeded, Next::Stop, None),
            };
            let line = lines::next_line(&lease, self.clock.now());
            let result = lines::blank_result(&line, outcome, Some(cancel::by_user()), self.clock.now());
            let ending = Ending { outcome, next, on_failure: OnFailure::Quarantine };
            let not_before = wait.map(|wait| self.clock.now().after(wait));
            lines::end(
                self.store,
                &self.clock,
                &mut lease,
                End { not_before, ..End::from_result(ending, result) },
            )
            .unwrap();
            locks.release().unwrap();
        } else if said == Some(Ok(Recovered::Healthy)) {
            let options = recovery::Options::default();
            let done = recovery::recover_one(self.store, &self.clock, &id, &options, &mut |_| Ok(()));
            return Ended { number, runner: Runner { pid, status: Some(0) }, said: Some(Ok(done.unwrap())) };
        }
        Ended { number, runner: Runner { pid, status: pid.map(|_| 0) }, said }
    }

    /// Lets everything happen that was to happen by now.
    fn happen(&self) {
        while let Some(first) =
            self.happenings.borrow_mut().first_entry().filter(|e| *e.key() <= self.clock.monotonic())
        {
            let all = first.remove();
            all.into_iter().for_each(|happens| happens(self.store, &self.clock));
        }
    }
}

impl Runners for &World<'_> {
    fn start(&mut self, id: &JobId) -> Result<i32, Gone> {
        let now = self.clock.monotonic();
        self.started.borrow_mut().push((id.to_string(), now));
        let next = self.scripts.borrow_mut().get_mut(id).and_then(VecDeque::pop_front);
        let (after, comes) = next.unwrap_or((seconds(1), Comes::To(Outcome::Succeeded)));
        let own = getpid().as_raw_nonzero().get();
        let mut doing = Doing {
            id: id.clone(),
            ends: now + after,
            comes: comes.clone(),
            asked: 0,
            held: None,
            said: None,
            pid: Some(own),
        };
        match &comes {
            Comes::Refused(code) => doing.said = Some(Err(Reason::new(code.clone(), "the script says so"))),
            Comes::NotForked => doing.pid = None,
            _ => match self.admit(id) {
                Ok(held) => doing.held = Some(held),
                Err(reason) => {
                    let waits = u32::from(reason.code == Code::WaitingLock);
                    self.refused_for_locks.set(self.refused_for_locks.get() + waits);
                    (doing.ends, doing.said) = (now, Some(Err(reason)));
                }
            },
        }
        if comes == Comes::Late {
            doing.pid = Some(own + 1);
        }
        if matches!(comes, Comes::WhenAsked(_)) {
            doing.ends = Duration::MAX;
        }
        Ok(self.note(doing))
    }

    fn recover(&mut self, id: &JobId) -> Result<i32, Gone> {
        self.begun.borrow_mut().push(id.to_string());
        let takes = self.slow_recoveries.borrow().get(id).copied().unwrap_or(Duration::from_millis(100));
        let next = self.recoveries.borrow_mut().get_mut(id).and_then(VecDeque::pop_front);
        let said = next.unwrap_or(Some(Ok(Recovered::Healthy)));
        let ends = self.clock.monotonic() + takes;
        Ok(self.note(Doing {
            id: id.clone(),
            ends,
            comes: Comes::NotForked,
            asked: 0,
            held: None,
            said,
            pid: Some(1),
        }))
    }

    fn ended(&mut self) -> Result<Vec<Ended>, Gone> {
        let now = self.clock.monotonic();
        if self.launcher_gone_at.get().is_some_and(|at| at <= now) {
            return Err(Gone);
        }
        let mut due: Vec<(Duration, i32)> = self
            .doing
            .borrow()
            .iter()
            .filter(|(_, one)| one.ends <= now)
            .map(|(n, one)| (one.ends, *n))
            .collect();
        due.sort_unstable();
        let take = |(_, number)| Some((number, self.doing.borrow_mut().remove(&number)?));
        let due: Vec<(i32, Doing)> = due.into_iter().filter_map(take).collect();
        Ok(due.into_iter().map(|(number, doing)| self.end(number, doing)).collect())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.quiet.0.as_fd()
    }

    fn stop(&mut self, number: i32) {
        let now = self.clock.monotonic();
        if let Some(doing) = self.doing.borrow_mut().get_mut(&number) {
            doing.asked += 1;
            if matches!(doing.comes, Comes::WhenAsked(times) if doing.asked >= times) {
                doing.ends = now;
            }
        }
    }
}

impl Requests for World<'_> {
    fn requests(&self) -> usize {
        self.requests.borrow().range(..=self.clock.monotonic()).count()
    }

    fn wait(&self, readable: &[BorrowedFd<'_>], at_most: Duration) {
        self.waits.set(self.waits.get() + 1);
        let events = self.events.borrow();
        assert!(
            self.waits.get() < 5000,
            "the worker does not end: {:?}",
            events.iter().rev().take(9).collect::<Vec<_>>()
        );
        let mut fds: Vec<PollFd<'_>> = readable.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        if rustix::event::poll(&mut fds, Some(&crate::clock::timespec(Duration::ZERO)))
            .is_ok_and(|count| count > 0)
        {
            return;
        }
        let now = self.clock.monotonic();
        let ends = self.doing.borrow().values().map(|one| one.ends).min();
        let happens = self.happenings.borrow().keys().next().copied();
        let request = self.requests.borrow().iter().find(|at| **at > now).copied();
        let next = [ends, happens, request, self.launcher_gone_at.get()].into_iter().flatten().min();
        self.clock.sleep(next.map_or(at_most, |next| next.saturating_sub(now).min(at_most)));
        self.happen();
    }
}

pub(super) fn orders(slots: usize, until: Until) -> Orders {
    Orders { slots, until, filter: Filter::default(), left: Left::default() }
}

fn words(event: &Event<'_>) -> String {
    match event {
        Event::Started(id) => format!("started {id}"),
        Event::Ended(id, status, _) => format!("{id} {status}"),
        Event::WillRetry(id, result) => format!("{id} {}, again", result.outcome),
        Event::NotRun(id, reason) => format!("{id} not run: {}", reason.code),
        Event::Recovered(id, done) => format!("{id} {done:?}"),
        Event::Paused(_) => "paused".to_owned(),
        Event::Stopping(count) => format!("stopping, {count} run"),
        Event::Asked(count) => format!("{count} asked"),
        Event::Killed(count) => format!("{count} killed"),
    }
}
