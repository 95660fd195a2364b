//! The base of a workstream that comes after others: their heads, as they were when it began.
//!
//! A new life takes up what they have finished since. Hard rule: within a life the base is one.

use super::conductor::{Conductor, broken};
use super::predecessors;
use super::settle::is_parked;
use crate::job::Reason;
use crate::store::run_dir;
use crate::worktree::{self, OfRun};

impl Conductor<'_, '_> {
    /// Finds the base, or makes it out of the predecessors.
    pub(super) fn find_base(&mut self) -> Result<(), Reason> {
        if self.request.assignment.predecessors.is_empty() {
            return Ok(());
        }
        let git = self.git();
        self.base = match worktree::kept_base(&self.place, &git)? {
            Some(kept) => kept,
            None => {
                let made = self.composed()?;
                worktree::keep_base(&self.place, &made, None, &git)?;
                made
            }
        };
        Ok(())
    }

    /// Takes up what the predecessors have finished since the life before, ahead of its first step. The worktree is settled.
    pub(super) fn take_up_base(&mut self) -> Result<(), Reason> {
        if self.life == 1 || self.request.assignment.predecessors.is_empty() {
            return Ok(());
        }
        let known = self.look()?;
        let is_of_this_life = |facts: &crate::job::step::StepFacts| facts.life == self.life;
        let has_begun = known.found.iter().any(|step| step.facts.as_ref().is_some_and(is_of_this_life));
        if has_begun || known.found.last().is_some_and(is_parked) {
            return Ok(());
        }
        let new = self.composed()?;
        if new == self.base {
            return Ok(());
        }
        let (git, n) = (self.git(), known.found.last().map_or(0, |step| step.n));
        worktree::take_up(&self.place, (&self.base, &new), n, &git)?;
        self.base = new;
        self.taken_at.replace(None);
        worktree::reset(&self.place, &self.counted, &git).map(drop)
    }

    /// The base that the predecessors make as they are now.
    fn composed(&self) -> Result<String, Reason> {
        let (store, request) = (self.means.store, self.request);
        let manifest = run_dir::read_manifest(store, &request.run)?;
        let manifest = manifest.ok_or_else(|| broken("a run without a manifest"))?;
        let parts = predecessors::succeeded(store, &request.run, &request.assignment.predecessors)?;
        let git = self.git();
        let run = OfRun { run: request.run.as_str(), made_at: manifest.created_at };
        worktree::compose(&self.place.repository(&git), run, &request.assignment.base.commit, &parts)
    }
}
