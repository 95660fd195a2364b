//! Why queued jobs do not start, for lists of many of them: judged by `ready`, with records in place of job files.
//!
//! A job file is read only where a lock may keep the job, if one is held at all or if its adapter runs agents, and for the jobs
//! that it comes after.

use std::collections::{HashMap, HashSet};

use crate::causes::causes;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::record::{Dependency, still_waits};
use crate::job::{Code, JobId, Parsed, Reason, ToolId};
use crate::queue::Result;
use crate::queue::claim::{self, Content};
use crate::queue::follow::{self, NotMet};
use crate::queue::ready::{self, Conditions, LookUp};
use crate::queue::rest::{Moving, Rest, Walk};
use crate::store::Store;
use crate::store::control::Hold;
use crate::view::explain::agent;
use crate::view::facts::{self, TakenTree, Trees};
use crate::view::row::Row;

/// Facts looked up once for all jobs of a list.
pub(super) struct Waits<'a> {
    store: &'a Store,
    now: Timestamp,
    control: HashSet<String>,
    /// Dependencies as they were judged.
    dependencies: HashMap<JobId, std::result::Result<Dependency, NotMet>>,
    /// Jobs that others come after, as they were judged.
    rests: HashMap<JobId, Rest>,
    walk: Walk,
    trees: &'a dyn Trees,
    /// True if a slot of a lock is not empty.
    some_lock_is_held: bool,
    /// Whether jobs of an adapter need a worktree.
    needs_tree: HashMap<ToolId, bool>,
}

impl<'a> Waits<'a> {
    pub(super) fn look(store: &'a Store, now: Timestamp, trees: &'a dyn Trees) -> Self {
        let control = fs::names(&store.state("control")).unwrap_or_default().into_iter().collect();
        let locks = store.state("locks");
        let is_held = |name: &String| locks.join(name).metadata().is_ok_and(|slot| slot.len() > 0);
        let some_lock_is_held = fs::names(&locks).unwrap_or_default().iter().any(is_held);
        let (dependencies, rests, needs_tree) = (HashMap::new(), HashMap::new(), HashMap::new());
        let walk = Walk::default();
        Self { store, now, control, dependencies, rests, walk, trees, some_lock_is_held, needs_tree }
    }

    /// True if nothing at all is claimed.
    pub(super) fn queue_is_held(&self) -> bool {
        self.control.contains("HOLD")
    }

    pub(super) fn reason(&mut self, row: &Row) -> Option<Reason> {
        let not_before = still_waits(row.not_before, row.at, row.attempt.as_ref(), self.now);
        let (parent, depends_on) = (row.job.parent.as_ref(), row.job.depends_on.as_slice());
        // The record holds no more than how many these are.
        let file = if row.job.after_count > 0 { self.file_of(row) } else { None };
        let after = file.as_ref().map_or(&[][..], |parsed| parsed.job.comes_after());
        let conditions = Conditions { id: &row.id, parent, not_before, depends_on, after };
        let now = self.now;
        match ready::judge_by(self, conditions, now).ok()? {
            Ok(_) => self.lock_of(row),
            Err(blocker) => Some(blocker.reason()),
        }
    }

    fn file_of(&self, row: &Row) -> Option<Box<Parsed>> {
        match claim::read(self.store, &row.id, true, self.now).ok()?.0 {
            Content::Job(parsed, _) => Some(parsed),
            Content::Invalid(_) | Content::Foreign(_) => None,
        }
    }

    /// The lock, or the worktree, that keeps a job from starting.
    fn lock_of(&mut self, row: &Row) -> Option<Reason> {
        let trees = self.trees;
        let tool = row.job.tool.as_ref();
        let needs_tree = tool.is_some_and(|tool| {
            *self.needs_tree.entry(tool.clone()).or_insert_with(|| trees.needs_one(tool))
        });
        if !needs_tree && !self.some_lock_is_held {
            return None;
        }
        let parsed = self.file_of(row)?;
        if let Some(lock) = facts::taken_lock(self.store, &parsed.job) {
            let by = lock.holders.first().map(|(id, _)| id).or(lock.unreadable.first());
            let by = by.map_or_else(String::new, |by| format!(" by `{by}`"));
            return Some(Reason::new(Code::WaitingLock, format!("{}{by}", lock.what())));
        }
        let TakenTree { top, by } = trees.taken(&parsed.job).filter(|_| needs_tree)?;
        let message = format!("the worktree `{}` is held by {}", top.display(), agent(by.as_ref()));
        Some(Reason::new(Code::WaitingLock, message))
    }
}

impl LookUp for Waits<'_> {
    /// Without its job file, which would have to be read.
    fn hold(&mut self, id: &JobId) -> Result<Option<(String, Hold)>> {
        let own = format!("{id}.hold");
        let file = ["HOLD", &own].into_iter().find(|name| self.control.contains(*name));
        Ok(file.map(|file| (format!("state/control/{file}"), Hold::default())))
    }

    fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
        if let Some(known) = self.dependencies.get(id) {
            return Ok(known.clone());
        }
        let unknown = |error| Err(NotMet::Unreadable(id.clone(), causes(&error)));
        let judged = follow::dependency(self.store, id).unwrap_or_else(unknown);
        self.dependencies.insert(id.clone(), judged.clone());
        Ok(judged)
    }

    fn rest(&mut self, id: &JobId) -> Result<Rest> {
        if let Some(known) = self.rests.get(id) {
            return Ok(known.clone());
        }
        let found = self.walk.look(self.store, id).unwrap_or_else(|error| {
            let why = NotMet::Unreadable(id.clone(), causes(&error));
            Rest::Moves(Moving { why, first: id.clone(), runs: false })
        });
        self.rests.insert(id.clone(), found.clone());
        Ok(found)
    }
}
