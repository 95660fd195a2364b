//! The jobs that run, and the locks that they hold among them.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::job::JobId;

/// A job that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: Rc<JobId>,
    /// The names of its locks.
    pub(super) locks: Vec<String>,
}

/// The runners that were started and have not ended, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Slots {
    running: HashMap<i32, Running>,
    /// How many of them hold each lock.
    locks: HashMap<String, u32>,
}

impl Slots {
    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// True if none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i32> {
        self.running.keys().copied()
    }

    /// Their jobs.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Rc<JobId>> {
        self.running.values().map(|running| &running.id)
    }

    /// The first lock of these, each with its slots, that has no slot left.
    pub(super) fn full_lock<'l>(&self, locks: &'l BTreeMap<String, u32>) -> Option<&'l String> {
        let is_full =
            |(name, slots): &(&String, &u32)| self.locks.get(*name).is_some_and(|held| held >= *slots);
        locks.iter().find(is_full).map(|(name, _)| name)
    }

    /// Notes that a runner was started.
    pub(super) fn begin(&mut self, number: i32, running: Running) {
        for name in &running.locks {
            *self.locks.entry(name.clone()).or_default() += 1;
        }
        self.running.insert(number, running);
    }

    /// Takes out the runner that has ended under this number, if it was one.
    pub(super) fn end(&mut self, number: i32) -> Option<Running> {
        let running = self.running.remove(&number)?;
        for name in &running.locks {
            if let Some(held) = self.locks.get_mut(name) {
                *held -= 1;
                if *held == 0 {
                    self.locks.remove(name);
                }
            }
        }
        Some(running)
    }
}
