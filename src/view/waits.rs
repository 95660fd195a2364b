//! Why queued jobs do not start, for lists of many of them: what `ready` and `facts` say, as far as the records tell.
//!
//! A job file is read only where a lock may keep it: if one is held at all, or if its adapter runs agents.

use std::collections::{HashMap, HashSet};

use crate::clock::Timestamp;
use crate::fs;
use crate::job::record::still_waits;
use crate::job::{Code, JobId, Reason, ToolId};
use crate::queue::claim::{self, Content};
use crate::queue::ready;
use crate::store::Store;
use crate::view::explain::agent;
use crate::view::facts::{self, TakenTree, Trees};
use crate::view::row::Row;

/// What was looked up once for all jobs of a list.
pub(super) struct Waits<'a> {
    store: &'a Store,
    now: Timestamp,
    control: HashSet<String>,
    /// What is wrong with a dependency; `None` if it has succeeded, or cannot be judged.
    dependencies: HashMap<JobId, Option<String>>,
    trees: &'a dyn Trees,
    /// True if a slot of a lock is not empty.
    some_lock_is_held: bool,
    /// Whether jobs of an adapter need a work tree.
    needs_tree: HashMap<ToolId, bool>,
}

impl<'a> Waits<'a> {
    pub(super) fn look(store: &'a Store, now: Timestamp, trees: &'a dyn Trees) -> Self {
        let control = fs::names(&store.state("control")).unwrap_or_default().into_iter().collect();
        let locks = store.state("locks");
        let is_held = |name: &String| locks.join(name).metadata().is_ok_and(|slot| slot.len() > 0);
        let some_lock_is_held = fs::names(&locks).unwrap_or_default().iter().any(is_held);
        let (dependencies, needs_tree) = (HashMap::new(), HashMap::new());
        Self { store, now, control, dependencies, trees, some_lock_is_held, needs_tree }
    }

    /// True if nothing at all is claimed.
    pub(super) fn queue_is_held(&self) -> bool {
        self.control.contains("HOLD")
    }

    pub(super) fn of(&mut self, row: &Row) -> Option<Reason> {
        let own = format!("{}.hold", row.id);
        if let Some(file) = ["HOLD", &own].into_iter().find(|name| self.control.contains(*name)) {
            return Some(Reason::new(Code::WaitingHold, format!("held by `state/control/{file}`")));
        }
        let not_before = still_waits(row.not_before, row.at, row.attempt.as_ref(), self.now);
        if let Some(time) = not_before.filter(|time| *time > self.now) {
            return Some(Reason::new(Code::WaitingTime, format!("not before {time}")));
        }
        let dependency = row.job.depends_on.iter().find_map(|dependency| {
            let problem = self.problem_of(dependency)?;
            let message = format!("waits for `{dependency}`, which {problem}");
            Some(Reason::new(Code::WaitingDependency, message))
        });
        dependency.or_else(|| self.lock_of(row))
    }

    /// The lock, or the work tree, that keeps a job from starting.
    fn lock_of(&mut self, row: &Row) -> Option<Reason> {
        let trees = self.trees;
        let tool = row.job.tool.as_ref();
        let needs_tree = tool.is_some_and(|tool| {
            *self.needs_tree.entry(tool.clone()).or_insert_with(|| trees.needs_one(tool))
        });
        if !needs_tree && !self.some_lock_is_held {
            return None;
        }
        let content = claim::read(self.store, &row.id, true, self.now).ok()?.0;
        let Content::Job(parsed, _) = content else { return None };
        if let Some(lock) = facts::taken_lock(self.store, &parsed.job) {
            let by = lock.holders.first().map(|(id, _)| id).or(lock.unreadable.first());
            let by = by.map_or_else(String::new, |by| format!(" by `{by}`"));
            return Some(Reason::new(Code::WaitingLock, format!("{}{by}", lock.what())));
        }
        let TakenTree { top, by } = trees.taken(&parsed.job).filter(|_| needs_tree)?;
        let message = format!("the work tree `{}` is held by {}", top.display(), agent(by.as_ref()));
        Some(Reason::new(Code::WaitingLock, message))
    }

    fn problem_of(&mut self, id: &JobId) -> Option<String> {
        if let Some(known) = self.dependencies.get(id) {
            return known.clone();
        }
        let judged = ready::dependency(self.store, id);
        let problem = judged.map_or_else(|error| Some(format!("cannot be judged: {error}")), Result::err);
        self.dependencies.insert(id.clone(), problem.clone());
        problem
    }
}
