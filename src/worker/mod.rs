//! The worker: has a runner process started for each job that is ready, and looks at the record when it has ended.
//!
//! It holds no lease and runs no job itself: a crash of it costs nothing, and any number of workers need nothing but the
//! locks of the records. What it believes of a job only decides whether a process is spent on it; the runner decides
//! under the lease.

pub mod ended;
mod last_look;
pub mod launcher;
mod look;
pub mod processes;
pub mod ready_set;
pub mod scan;
mod start;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Clock;
use crate::fs::watch::{For, Watch};
use crate::job::{Code, JobId, JobResult, Outcome, Place, Reason, Status};
use crate::process::signals::Signals;
use crate::queue::QueueError;
use crate::queue::recovery::Recovered;
use crate::store::Store;
use last_look::LastLook;
use ready_set::{ReadySet, Wait};
use scan::Filter;

/// What a worker is asked to do.
#[derive(Debug, Clone)]
pub struct Orders {
    /// How many jobs at a time.
    pub slots: usize,
    /// When it ends by itself.
    pub until: Until,
    /// Which jobs it takes.
    pub filter: Filter,
    /// What it recovers beside its work.
    pub left: Left,
}

/// What a look at every record left to be recovered, which takes its time.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// The jobs.
    pub jobs: BTreeSet<JobId>,
    /// True if with them everything is recovered, so that no other worker of this boot need look.
    pub is_all: bool,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When nothing is left that can run.
    Drained,
}

/// The seam for runners: the real ones are processes, those of tests end at once.
pub trait Runners {
    /// Starts the runner of a queued job; gives the number under which it ends.
    ///
    /// # Errors
    /// Nothing can be started any more: the job is as it was.
    fn start(&mut self, id: &JobId) -> Result<i32, Gone>;

    /// Starts what recovers a job that a dead runner left; gives the number under which it ends.
    ///
    /// # Errors
    /// As `start`.
    fn recover(&mut self, id: &JobId) -> Result<i32, Gone>;

    /// What was started and has ended since the last call.
    ///
    /// # Errors
    /// That cannot be told any more: the runners go on by themselves.
    fn ended(&mut self) -> Result<Vec<Ended>, Gone>;

    /// Readable when something has ended.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Asks a runner to stop its job; the second time to kill it.
    fn stop(&mut self, number: i32);
}

/// The end of what `Runners` had started.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub number: i32,
    /// The process that it was.
    pub runner: Runner,
    /// What it said before it ended: what it recovered, or why it could not, or why its job was not run.
    pub said: Option<Result<Recovered, Reason>>,
}

/// A process that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runner {
    /// Which one; `None` if it could not be started.
    pub pid: Option<i32>,
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<u8>,
}

/// What starts the runners is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The queue's or the store's part.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The root was removed, or another one stands in its place.
    #[error("the root `{}` is not there any more", root.display())]
    RootGone {
        /// Where it was.
        root: PathBuf,
    },
    /// The launcher was killed. Its runners end their jobs without it.
    #[error("the launcher of the runners was killed; at most {running} jobs go on without this worker")]
    LauncherGone {
        /// How many jobs run.
        running: usize,
    },
}

/// What a worker has to tell while it works.
#[derive(Debug)]
pub enum Event<'a> {
    /// A job was started.
    Started(&'a JobId),
    /// A job ended for good.
    Ended(&'a JobId, Status, &'a JobResult),
    /// An attempt ended and the job is back in the queue.
    WillRetry(&'a JobId, &'a JobResult),
    /// A job was not run, for a reason that is not merely waiting.
    NotRun(&'a JobId, &'a Reason),
    /// Something that a dead runner left was recovered.
    Recovered(&'a JobId, &'a Recovered),
    /// Nothing can be started at the moment, for this reason; told once until it changes.
    Paused(&'a str),
    /// It was asked to stop: no more jobs are started, so many still run.
    Stopping(usize),
    /// So many runners were asked to end their jobs.
    Asked(usize),
    /// So many runners were asked to kill their jobs.
    Killed(usize),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Jobs that succeeded.
    pub succeeded: usize,
    /// Jobs that ended otherwise.
    pub failed: usize,
    /// True if it was asked to stop before it was done.
    pub stopped: bool,
    /// True if the whole queue is held.
    pub queue_is_held: bool,
    /// Why a drain ended with jobs that could start, if it did.
    pub low_space: Option<String>,
    /// Why jobs that wait were refused, again and again.
    pub refused: HashMap<JobId, Reason>,
    /// The jobs of the queue that wait, each with what for.
    pub waiting: Vec<(JobId, Wait)>,
}

/// How often everything is looked at that no event tells about: abandoned jobs, names that inotify missed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same for dependencies, which other workers end.
const DEPENDENCIES_EVERY: Duration = Duration::from_secs(1);
/// The same for dependencies where the journal says that nothing happened.
const DEPENDENCIES_AT_LEAST: Duration = Duration::from_secs(30);
/// The same for locks, whose release a dead machine does not tell.
const LOCKS_EVERY: Duration = Duration::from_secs(1);
/// The same for everything where inotify does not work.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// When a job is looked at again whose submission has not ended.
const COMES_IN_SOON: Duration = Duration::from_millis(10);
/// So many jobs are recovered at a time. A crash can leave thousands, and each recovery is a process that looks at all processes
/// again and again until the left-overs have ended: together they must not delay the next claim. A runner of ours that died
/// has one place more, for its job was at work a moment ago.
const RECOVERIES: usize = 4;

/// A worker at its work.
pub struct Worker<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
    signals: &'a Signals,
    runners: &'a mut dyn Runners,
    orders: Orders,
    set: ReadySet,
    watch: Watch,
    running: HashMap<i32, Running>,
    recovering: HashMap<i32, Recovering>,
    /// Jobs whose recovery has not begun: those of our own runners, then the others, each in the order in which they were found.
    to_recover: VecDeque<Recovering>,
    /// Locks that our own runners hold, and how often.
    locks: HashMap<String, u32>,
    /// Jobs that were refused without a reason that could be waited for.
    refused: HashMap<JobId, Refused>,
    /// Jobs that cannot be recovered from here.
    left_alone: HashMap<JobId, LeftAlone>,
    next_look: Duration,
    next_dependencies: Duration,
    /// When dependencies are looked at even if the journal says that nothing happened.
    next_dependencies_all: Duration,
    journal: Option<(u64, u64)>,
    queue_is_held: bool,
    held: HashSet<JobId>,
    next_poll: Duration,
    last_look: LastLook,
    requests_seen: usize,
    /// True if the first of the ready jobs is on its way in: nothing is started before it.
    first_comes_in: bool,
    /// Jobs that were put back because they were on their way in, and until when that may be so.
    comes_in_until: HashMap<Rc<JobId>, Duration>,
    /// Why nothing is started at the moment.
    paused: Option<String>,
    summary: Summary,
}

/// A job whose start was refused.
struct Refused {
    /// How often in a row.
    times: u32,
    /// Why, the last time.
    reason: Reason,
}

struct LeftAlone {
    times: u32,
    until: Duration,
}

struct Running {
    id: Rc<JobId>,
    locks: Vec<String>,
}

/// A job that is recovered.
struct Recovering {
    id: Rc<JobId>,
    /// Our own runner that died, if it was ours.
    runner: Option<Runner>,
}

impl Recovering {
    fn is_own(&self) -> bool {
        self.runner.is_some()
    }
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("orders", &self.orders).finish_non_exhaustive()
    }
}

impl<'a> Worker<'a> {
    /// Prepares a worker.
    #[must_use]
    pub fn new(
        store: &'a Store,
        clock: &'a dyn Clock,
        signals: &'a Signals,
        runners: &'a mut dyn Runners,
        orders: Orders,
    ) -> Self {
        let queued = store.place_dir(&Place::Queued);
        // Before the first look, so that nothing falls between the two.
        let (control, locks) = (store.state("control"), store.state("locks"));
        let watch = Watch::of(&[(&queued, For::Names), (&control, For::Names), (&locks, For::Content)]);
        Self {
            store,
            clock,
            signals,
            runners,
            orders,
            set: ReadySet::default(),
            watch,
            running: HashMap::new(),
            recovering: HashMap::new(),
            to_recover: VecDeque::new(),
            locks: HashMap::new(),
            refused: HashMap::new(),
            left_alone: HashMap::new(),
            next_look: Duration::ZERO,
            next_dependencies: Duration::ZERO,
            next_dependencies_all: Duration::ZERO,
            journal: None,
            queue_is_held: false,
            held: HashSet::new(),
            next_poll: Duration::ZERO,
            last_look: LastLook::default(),
            requests_seen: 0,
            first_comes_in: false,
            comes_in_until: HashMap::new(),
            paused: None,
            summary: Summary::default(),
        }
    }

    /// Works until it is stopped, or drained.
    ///
    /// # Errors
    /// Store errors of the directories; errors of one job concern that job only.
    pub fn run(mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<Summary, WorkError> {
        for id in self.orders.left.jobs.clone() {
            self.recover(Rc::new(id), None);
        }
        loop {
            let ended = self.runners.ended().map_err(|gone| self.without_launcher(gone))?;
            for ended in ended {
                self.after(ended, tell)?;
            }
            self.heed_requests(tell);
            let stopping = self.requests_seen > 0;
            if !stopping {
                self.check_root()?;
                self.look()?;
                self.start_ready(tell)?;
            }
            let is_done = if stopping { !self.has_own_to_recover() } else { self.is_drained()? };
            if self.running.is_empty() && is_done {
                return Ok(self.summary(stopping));
            }
            self.start_recoveries(stopping)?;
            let wait = self.until_next_look(stopping);
            // While it stops, what is told of the directories is not taken: then it is not waited on.
            let watched = self.watch.fd().filter(|_| !stopping);
            let told: Vec<BorrowedFd<'_>> = watched.into_iter().chain([self.runners.fd()]).collect();
            self.signals.wait(&told, wait);
        }
    }

    /// What came of it, at the end.
    fn summary(self, stopped: bool) -> Summary {
        let waiting: Vec<_> = self.set.waiting().map(|(id, wait)| (id.clone(), wait.clone())).collect();
        let mut all = self.refused;
        let again_and_again = waiting.iter().filter(|(_, wait)| matches!(wait, Wait::Refused(_)));
        let refused: HashMap<JobId, Reason> =
            again_and_again.filter_map(|(id, _)| Some((id.clone(), all.remove(id)?.reason))).collect();
        let low_space = self.paused.filter(|_| self.set.has_ready());
        // The space of a record's last line is reserved at its start, whatever `min_free_bytes` says.
        let disk_full = refused.values().find(|reason| reason.code == Code::DiskFull);
        let low_space = low_space.or_else(|| disk_full.map(|reason| reason.message.clone()));
        Summary {
            stopped,
            queue_is_held: self.queue_is_held,
            low_space: low_space.filter(|_| !stopped),
            refused,
            waiting,
            ..self.summary
        }
    }

    fn without_launcher(&self, Gone: Gone) -> WorkError {
        WorkError::LauncherGone { running: self.running.len() }
    }

    /// An empty queue is an answer only while the root is there.
    fn check_root(&self) -> Result<(), WorkError> {
        let is_due = self.clock.monotonic() >= self.next_look || self.running.is_empty();
        if is_due && !self.store.is_still_there().map_err(QueueError::from)? {
            return Err(WorkError::RootGone { root: self.store.root().to_path_buf() });
        }
        Ok(())
    }

    /// First request: claim nothing more and wait. Second: ask the runners. Third: they kill.
    fn heed_requests(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        let requests = self.signals.requests();
        while self.requests_seen < requests {
            self.requests_seen += 1;
            if self.requests_seen == 1 {
                tell(Event::Stopping(self.running.len()));
            } else {
                let running = self.running.len();
                tell(if self.requests_seen == 2 { Event::Asked(running) } else { Event::Killed(running) });
                self.running.keys().for_each(|number| self.runners.stop(*number));
            }
        }
    }

    /// True if nothing is left that can run.
    fn is_drained(&mut self) -> Result<bool, QueueError> {
        let could_start = self.set.has_ready() && !self.queue_is_held;
        if self.orders.until == Until::Stopped || (could_start && self.paused.is_none()) {
            return Ok(false);
        }
        // Nothing tells when there will be space: a drain that waited for it would be met by the next one.
        if could_start {
            return Ok(!self.has_to_recover());
        }
        // A last look at everything: what was missed would be left behind.
        self.recover_abandoned()?;
        if self.has_to_recover() {
            return Ok(false);
        }
        scan::refresh(self.store, &self.orders.filter, &mut self.set)?;
        self.look_at_dependencies();
        if self.queue_is_held {
            return Ok(true);
        }
        let store = self.store;
        let mut runs = |id: &JobId| {
            let record = store.read_record(id).ok().flatten();
            // One that has succeeded since the last look is as good.
            record.is_some_and(|record| matches!(record.line.status, Status::Running | Status::Succeeded))
        };
        Ok(!self.set.moves_by_itself(&mut runs))
    }

    fn until_next_look(&self, stopping: bool) -> Duration {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let left = |until: Duration| until.saturating_sub(monotonic);
        if stopping {
            return LOOK_EVERY;
        }
        if self.paused.is_some() && self.set.has_ready() {
            return DEPENDENCIES_EVERY;
        }
        if self.first_comes_in {
            return COMES_IN_SOON;
        }
        let mut wait = left(self.next_look);
        if !self.all_is_told() || !self.set.locks_waited_for().is_empty() {
            wait = wait.min(left(self.next_poll));
        }
        if !self.set.waited_for().is_empty() {
            wait = wait.min(left(self.next_dependencies));
        }
        if let Some(due) = self.set.next_due() {
            wait = wait.min(due.since(now));
        }
        // A millisecond of rounding must not become a busy loop.
        wait.max(Duration::from_millis(1))
    }

    fn count(&mut self, outcome: Outcome) {
        if outcome == Outcome::Succeeded {
            self.summary.succeeded += 1;
        } else {
            self.summary.failed += 1;
        }
    }
}
