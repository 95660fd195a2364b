//! Gathers the facts about a job; `explain` judges them.
//!
//! Reads only, without a lease: facts may be outdated when they are read. Scans the whole queue, so it is not for loops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::id::LockName;
use crate::job::{Code, JobFile, JobId, Place, Reason, RecordLine, Status, ToolId};
use crate::queue::Result;
use crate::queue::claim::{self, Content};
use crate::queue::places::{self, ActiveFiles};
use crate::queue::ranking::{QueuePosition, Ranking, Start};
use crate::queue::ready::{self, Blocker};
use crate::queue::situation::Situation;
use crate::store::control::{self, AttemptId, CancelWatch, Hold};
use crate::store::{Store, named_locks};
use crate::view::outcome::{self, Stuck};
use crate::view::runner::{self, Runner};

/// Everything that decides whether and why a job runs.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The job.
    pub id: JobId,
    /// The time of the look.
    pub now: Timestamp,
    /// Its record.
    pub line: Option<RecordLine>,
    /// The entry with its name in the queue that is not a job file.
    pub in_the_way: Option<Reason>,
    /// The situation by its record and its files.
    pub situation: Situation,
    /// True if its file is not where its record says, and no process is about to move it.
    pub needs_recovery: bool,
    /// Its file, where its record says or where it was found.
    pub file: File,
    /// The runner of its open attempt.
    pub runner: Runner,
    /// True if the end of that attempt has been asked for.
    pub cancel_asked: bool,
    /// The file of a hold, and what it says.
    pub hold: Option<(String, Hold)>,
    /// The blockers of its start, except locks.
    pub blockers: Vec<Blocker>,
    /// The named locks that it wants.
    pub locks: Vec<LockSeen>,
    /// The circle of dependencies that keeps it from ever starting.
    pub circle: Option<Vec<JobId>>,
    /// The worktree that another agent has, if it needs it.
    pub tree: Option<TakenTree>,
    /// Its position among the jobs that could start now.
    pub position: QueuePosition,
    /// Why nothing starts on this disk.
    pub low_space: Option<String>,
    /// Why nothing of this root starts, and what helps.
    pub not_accepted: Option<(String, String)>,
}

/// A job file as it was found.
#[derive(Debug)]
pub(crate) enum File {
    /// There is no file.
    Missing,
    /// A valid one, and whether it was edited after its record was written.
    Job(Box<JobFile>, Edited),
    /// A file that the claim refuses, and why.
    Refused(Reason),
}

/// Whether a file is the one that its record describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edited {
    /// It is, or there is no record.
    No,
    /// It was changed since.
    Yes,
}

/// A named lock that the job wants.
#[derive(Debug)]
pub(crate) struct LockSeen {
    /// Its name.
    pub name: String,
    /// How many slots the job says that it has.
    pub slots: u32,
    /// The holders of slots: each job, and since when.
    pub holders: Vec<(JobId, Timestamp)>,
    /// The holders of slots whose records cannot be read.
    pub unreadable: Vec<JobId>,
    /// Why no slot can be taken, if what has the name of one is no file of ours.
    pub unusable: Option<String>,
    /// Jobs that say another number of slots.
    pub disagree: Vec<(JobId, u32)>,
}

impl LockSeen {
    /// True if there is no slot for another job.
    #[must_use]
    pub(crate) fn is_taken(&self) -> bool {
        self.unusable.is_some()
            || self.holders.len() + self.unreadable.len() >= usize::try_from(self.slots).unwrap_or(usize::MAX)
    }

    /// The state of the lock, for people.
    #[must_use]
    pub(crate) fn what(&self) -> String {
        if let Some(why) = &self.unusable {
            format!("the lock `{}` cannot be taken: {why}", self.name)
        } else if self.name == LockName::OF_THE_ROOT {
            format!("all {} slots of the root (engine.toml) are taken", self.slots)
        } else {
            format!("the lock `{}` is held", self.name)
        }
    }
}

/// A worktree that an agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenTree {
    /// Its top directory.
    pub top: PathBuf,
    /// The job of this root that has it; `None`: that is not known, as of an agent of another root.
    pub by: Option<JobId>,
}

/// What the module that runs agents knows of worktrees.
pub trait Trees {
    /// True if jobs of this adapter need a worktree for themselves.
    fn needs_one(&self, tool: &ToolId) -> bool;

    /// The worktree that a queued job needs, if an agent has it.
    fn taken(&self, job: &JobFile) -> Option<TakenTree>;
}

/// Gathers the facts; `None` if no such job.
pub(crate) fn gather(store: &Store, id: &JobId, now: Timestamp, trees: &dyn Trees) -> Result<Option<Facts>> {
    let (mut line, mut files) = seen(store, id)?;
    let mut situation = Situation::judge(line.as_ref(), &files);
    let mut needs_recovery = situation.is_move_missing();
    if needs_recovery {
        // A process that has the record open is about to move the file, or has moved it by now.
        let is_moving = runner::is_open_elsewhere(&store.record_path(id));
        (line, files) = seen(store, id)?;
        situation = Situation::judge(line.as_ref(), &files);
        needs_recovery = situation.is_move_missing() && !is_moving;
    }
    if situation == Situation::Free && files.in_the_way.is_none() {
        return Ok(None);
    }
    let file = file(store, id, line.as_ref())?;
    let open = line.as_ref().and_then(RecordLine::open_attempt);
    let cancel_asked =
        open.is_some() && CancelWatch::new(store, id, AttemptId::open_or_next(line.as_ref())).is_asked();
    let mut facts = Facts {
        id: id.clone(),
        now,
        runner: open.map_or(Runner::None, |attempt| runner::probe(store, id, attempt)),
        cancel_asked,
        line,
        in_the_way: files.in_the_way,
        situation,
        needs_recovery,
        file,
        hold: control::hold_of(store, id)?,
        blockers: Vec::new(),
        locks: Vec::new(),
        circle: None,
        tree: None,
        position: QueuePosition::default(),
        low_space: store.check_space().err().map(|error| error.to_string()),
        not_accepted: store.not_accepted().map(|error| (error.to_string(), error.hint().unwrap_or_default())),
    };
    let waits = !matches!(situation, Situation::AttemptOpen | Situation::Ended | Situation::EndNotMoved);
    if let (File::Job(job, _), true) = (&facts.file, waits) {
        let parked = facts.line.as_ref().and_then(|line| line.waits_until(now));
        facts.blockers = ready::blockers(store, job, parked, now)?;
    }
    if files.queued {
        look_around(store, &mut facts, trees)?;
    }
    Ok(Some(facts))
}

fn seen(store: &Store, id: &JobId) -> Result<(Option<RecordLine>, ActiveFiles)> {
    let line = store.read_record(id)?.map(|record| record.line);
    Ok((line, places::active_files(store, id)?))
}

fn file(store: &Store, id: &JobId, line: Option<&RecordLine>) -> Result<File> {
    let read = |path: &Path| Ok(claim::read_at(path, id, line.is_some(), Timestamp::from_millis(0))?.0);
    let found = places::read_moving(store, id, line.map(|line| &line.place), &read)?;
    let Some(content) = found else { return Ok(File::Missing) };
    Ok(match content {
        Content::Job(parsed, bytes) => {
            let is = crate::queue::attempt::summary(&parsed.job, &bytes).sha256;
            let was = line.and_then(|line| line.job.sha256.clone());
            File::Job(Box::new(parsed.job), if was.is_some() && was != is { Edited::Yes } else { Edited::No })
        }
        Content::Invalid(problems) => File::Refused(Reason::new(Code::InvalidJobFile, problems.to_string())),
        Content::Foreign(reason) => File::Refused(reason),
    })
}

/// Facts from the rest of the queue: circles, locks, and the jobs ahead.
fn look_around(store: &Store, facts: &mut Facts, trees: &dyn Trees) -> Result<()> {
    let File::Job(job, _) = &facts.file else { return Ok(()) };
    facts.tree = trees.taken(job);
    if job.ahead().next().is_some() {
        facts.circle = outcome::stuck(store, &facts.id)?.as_ref().and_then(Stuck::circle).cloned();
    }
    facts.locks = locks_of(store, job);
    let mut ranking = Ranking::default();
    ranking.add(store, job, facts.line.as_ref(), Start::Possible);
    let mut starts = Starts::new(store, trees);
    for place in [Place::Queued, Place::Running] {
        for id in places::ids(store, &place)?.into_iter().filter(|id| *id != facts.id) {
            let path = store.job_file(&place, &id);
            let Ok((Content::Job(other, _), _)) = claim::read_at(&path, &id, true, facts.now) else {
                continue;
            };
            let other = other.job;
            for lock in &mut facts.locks {
                let theirs = other.locks.iter().flatten().find(|theirs| theirs.name == lock.name);
                let differs = theirs.filter(|theirs| theirs.slots != lock.slots);
                lock.disagree.extend(differs.map(|theirs| (id.clone(), theirs.slots)));
            }
            if place == Place::Queued {
                let line = store.read_record(&id).ok().flatten().map(|record| record.line);
                let start = starts.judge(&other, line.as_ref(), facts.now);
                ranking.add(store, &other, line.as_ref(), start);
            }
        }
    }
    facts.position = ranking.position(&facts.id);
    Ok(())
}

/// The locks that a job takes when it is claimed, in the order in which it takes them.
pub(super) fn locks_of(store: &Store, job: &JobFile) -> Vec<LockSeen> {
    let locks = named_locks::of_claim(store, job).into_iter();
    locks.map(|lock| lock_seen(store, &job.job_id, lock)).collect()
}

/// A lock, with its holders other than the job that wants it.
fn lock_seen(store: &Store, wanted_by: &JobId, lock: LockName) -> LockSeen {
    let (mut holders, mut unreadable) = (Vec::new(), Vec::new());
    let slots = named_locks::look(store, &lock);
    for holder in slots.holders.into_iter().filter(|holder| holder != wanted_by) {
        match store.read_record(&holder) {
            Ok(record) => {
                let since = record.as_ref().and_then(|record| record.line.open_attempt());
                holders.extend(since.map(|attempt| (holder, attempt.started_at)));
            }
            Err(_) => unreadable.push(holder),
        }
    }
    let unusable = slots.unusable.map(|error| causes(&error));
    let LockName { name, slots } = lock;
    LockSeen { name, slots, holders, unreadable, unusable, disagree: Vec::new() }
}

/// The first lock that keeps a job from starting, as far as its file and the records of its holders tell.
#[must_use]
pub(crate) fn taken_lock(store: &Store, job: &JobFile) -> Option<LockSeen> {
    locks_of(store, job).into_iter().find(LockSeen::is_taken)
}

/// Whether queued jobs could start: shared conditions are checked once.
struct Starts<'a> {
    store: &'a Store,
    trees: &'a dyn Trees,
    /// Whether a lock, with so many slots, is taken.
    taken: BTreeMap<(String, u32), bool>,
    needs_tree: BTreeMap<ToolId, bool>,
}

impl<'a> Starts<'a> {
    fn new(store: &'a Store, trees: &'a dyn Trees) -> Self {
        Self { store, trees, taken: BTreeMap::new(), needs_tree: BTreeMap::new() }
    }

    fn judge(&mut self, job: &JobFile, line: Option<&RecordLine>, now: Timestamp) -> Start {
        let waits = line.is_none_or(|line| line.status == Status::Queued);
        let parked = line.and_then(|line| line.waits_until(now));
        let is_ready = waits && matches!(ready::judge(self.store, job, parked, now), Ok(Ok(_)));
        if is_ready && !self.is_locked_out(job) { Start::Possible } else { Start::Kept }
    }

    fn is_locked_out(&mut self, job: &JobFile) -> bool {
        let Self { store, trees, taken, needs_tree } = self;
        let is_taken = named_locks::of_claim(store, job).into_iter().any(|lock| {
            let key = (lock.name.clone(), lock.slots);
            *taken.entry(key).or_insert_with(|| lock_seen(store, &job.job_id, lock).is_taken())
        });
        is_taken
            || *needs_tree.entry(job.tool.clone()).or_insert_with(|| trees.needs_one(&job.tool))
                && trees.taken(job).is_some()
    }
}
