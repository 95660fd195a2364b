//! Why queued jobs do not start, for lists of many of them: what `ready` says, as far as the records tell.
//!
//! Named locks are tried when a job is claimed and are not looked at here.

use std::collections::{HashMap, HashSet};

use super::listing::Row;
use super::ready;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::record::still_waits;
use crate::job::{JobId, Reason};
use crate::store::Store;

/// What was looked up once for all jobs of a list.
pub(super) struct Waits<'a> {
    store: &'a Store,
    now: Timestamp,
    control: HashSet<String>,
    /// What is wrong with a dependency; `None` if it has succeeded, or can not be judged.
    dependencies: HashMap<JobId, Option<String>>,
}

impl<'a> Waits<'a> {
    pub(super) fn look(store: &'a Store, now: Timestamp) -> Self {
        let control = fs::names(&store.state("control")).unwrap_or_default().into_iter().collect();
        Self { store, now, control, dependencies: HashMap::new() }
    }

    /// True if nothing at all is claimed.
    pub(super) fn queue_is_held(&self) -> bool {
        self.control.contains("HOLD")
    }

    pub(super) fn of(&mut self, row: &Row) -> Option<Reason> {
        let own = format!("{}.hold", row.id);
        if let Some(file) = ["HOLD", &own].into_iter().find(|name| self.control.contains(*name)) {
            return Some(Reason::new("waiting_hold", format!("held by `state/control/{file}`")));
        }
        let not_before = still_waits(row.not_before, row.at, row.attempt.as_ref(), self.now);
        if let Some(time) = not_before.filter(|time| *time > self.now) {
            return Some(Reason::new("waiting_time", format!("not before {time}")));
        }
        row.job.depends_on.iter().find_map(|dependency| {
            let problem = self.problem_of(dependency)?;
            let message = format!("waits for `{dependency}`, which {problem}");
            Some(Reason::new("waiting_dependency", message))
        })
    }

    fn problem_of(&mut self, id: &JobId) -> Option<String> {
        if let Some(known) = self.dependencies.get(id) {
            return known.clone();
        }
        let judged = ready::dependency(self.store, id);
        let problem = judged.map_or_else(|error| Some(format!("can not be judged: {error}")), Result::err);
        self.dependencies.insert(id.clone(), problem.clone());
        problem
    }
}
