//! The base of a workstream that comes after others: the heads of those that had succeeded when its first step began.
//!
//! The record of that step says which commit it was, so no later life begins on another one, and no reference that a step can
//! write decides it. What others have finished since meets it in the integration.

use super::conductor::Conductor;
use super::predecessors;
use crate::job::{Code, Reason};
use crate::store::run_dir;
use crate::store::steps::StepFound;
use crate::worktree::{self, OfRun};

impl Conductor<'_, '_> {
    /// Finds the base, or makes it before the first step; true if the workstream had been made to begin on another one.
    pub(super) fn find_base(&mut self, found: &[StepFound]) -> Result<bool, Reason> {
        let manifest = run_dir::read_manifest(self.means.store, &self.request.run)?;
        let Some(manifest) = manifest.filter(|manifest| manifest.order.len() > 1) else { return Ok(false) };
        if let Some(first) = found.first() {
            let began_at = first.facts.as_ref().and_then(|facts| facts.checkpoint.clone());
            self.base = began_at.ok_or_else(|| {
                let message = format!("the job file of `{}` does not say on which commit it began", first.id);
                Reason::new(Code::JobFileMissing, message)
            })?;
            return Ok(false);
        }
        let parts = predecessors::succeeded(self.means.store, &manifest, self.request.ws())?;
        let git = self.git();
        let run = OfRun { run: manifest.run_id.as_str(), made_at: manifest.created_at };
        let base = &self.request.assignment.base.commit;
        self.base = worktree::compose(&self.place.repository(&git), run, base, &parts)?;
        worktree::begin_at(&self.place, &self.base, &git)
    }
}
