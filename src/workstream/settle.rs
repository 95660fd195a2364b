//! The start of a conductor: ends what a former one left running, makes or repairs the work tree, and decides whose the
//! changes in it are.
//!
//! Each line here may be the last of a process; every one finds the next start at the same decision:
//! - after a step was recovered: its record is ended, the tree as it was left;
//! - after the work tree was made: it is found, its branch too;
//! - after something was put aside and before the reset: it is put aside again, as the same tree.

use std::time::Duration;

use super::conductor::{Conductor, Known};
use crate::fix_loop::StepState;
use crate::job::{Attempt, JobId, JobResult, Outcome, Reason, RecordLine};
use crate::queue::recovery::{Again, Recovered};
use crate::runner;
use crate::store::steps;
use crate::worktree::{self, Found};

/// A runner that was killed with its workstream, or ends by itself, is gone before that.
const LONGEST_END: Duration = Duration::from_secs(60);

/// How long one look at a step that another process works on is apart from the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Whose the changes in a work tree are that no commit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dirt {
    /// Of a step that waits: its session goes on in it.
    OfParked,
    /// Of a step that ended well and is judged next.
    ToJudge,
    /// Of a person: the last conductor had left the tree clean.
    ByHand,
    /// Of a step that was interrupted.
    Interrupted,
}

impl Conductor<'_, '_> {
    /// Brings everything to where the next step can begin.
    pub(super) fn settle(&mut self, former: Former) -> Result<(), Reason> {
        self.recover_steps()?;
        let git = self.git();
        match former {
            Former::None | Former::Verdict => worktree::wait_for_locks(&self.place, &git)?,
            Former::Interrupted { .. } => drop(worktree::remove_left_locks(&self.place)?),
        }
        if matches!(former, Former::Interrupted { before_reboot: true }) {
            worktree::mend(&self.place, &git)?;
        }
        let found = worktree::make_or_find(&self.place, self.base(), &git)?;
        let known = self.look()?;
        self.mark_setup_that_passed(&known)?;
        match self.dirt(&known, former) {
            Dirt::OfParked if found == Found::Made => {
                let n = known.found.last().map_or(0, |step| step.n);
                worktree::lay_out(&self.place, n, &git)?;
            }
            Dirt::ToJudge if matches!(former, Former::Interrupted { before_reboot: true }) => {
                // What a power loss left of files that no one synced is not what the agent wrote.
                self.clear(&known)?;
                worktree::make(&self.place, &git)?;
            }
            Dirt::OfParked | Dirt::ToJudge => {}
            Dirt::ByHand => {
                let n = known.found.last().map_or(0, |step| step.n);
                if let Some(commit) = worktree::hand(&self.place, n, &self.counted, &git)? {
                    self.warn(format!("changes by hand in the work tree were taken as {commit:.12}"));
                }
            }
            // What was just made holds nothing else.
            Dirt::Interrupted if found == Found::Made => {}
            Dirt::Interrupted => drop(self.clear(&known)?),
        }
        Ok(())
    }

    pub(super) fn recover_steps(&self) -> Result<(), Reason> {
        let (store, clock) = (self.means.store, self.means.clock);
        let found = steps::steps(store, &self.request.job_id)?;
        let until = clock.monotonic().saturating_add(LONGEST_END);
        for step in found.iter().filter(|step| step.line.open_attempt().is_some()) {
            self.recover_step(&step.id, until)?;
        }
        Ok(())
    }

    /// Recovers one, or waits for the process that is at it: a worker that recovers as well, or its runner, which ends.
    fn recover_step(&self, id: &JobId, until: Duration) -> Result<(), Reason> {
        let (store, clock) = (self.means.store, self.means.clock);
        loop {
            let recovered = runner::recover(store, clock, id, Again::Never)?;
            let is_over = self.is_stopped() || clock.monotonic() >= until;
            if recovered != Recovered::Alive || is_over {
                return runner::why_not_recovered(recovered, id);
            }
            self.means.signals.wait(&[], BETWEEN_LOOKS);
        }
    }

    /// How the last attempt of this job ended, before the one that runs.
    pub(super) fn former_end(&self) -> Result<Former, Reason> {
        // The line of a new attempt has no result any more: that of the last one is in the line that ended it.
        let history = self.means.store.record_history(&self.request.job_id);
        let history = history?;
        let lines: Vec<RecordLine> = history.into_iter().map(|record| record.line).collect();
        Ok(Former::of(&lines, &self.means.store.identity.boot_id))
    }

    /// A conductor may have been killed between the end of a setup and its mark.
    fn mark_setup_that_passed(&self, known: &Known) -> Result<(), Reason> {
        let last = known.found.iter().rev().find(|step| step.kind == crate::job::StepKind::Setup);
        let Some(ended) = last.and_then(|step| step.line.attempts.last()) else { return Ok(()) };
        let digest = last.and_then(|step| step.facts.as_ref()).and_then(|facts| facts.check_digest.clone());
        let is_of_this_tree = digest == Some(self.setup_digest())
            && worktree::made_at(&self.place).is_some_and(|made| made <= ended.started_at);
        if ended.outcome == Some(Outcome::Succeeded) && is_of_this_tree {
            worktree::mark_setup(&self.place, &self.setup_digest())?;
        }
        Ok(())
    }

    fn dirt(&self, known: &Known, former: Former) -> Dirt {
        let last = known.steps.last();
        if last.is_some_and(|step| step.kind.is_agent() && matches!(step.state, StepState::Parked(_))) {
            return Dirt::OfParked;
        }
        if former == Former::Verdict {
            return Dirt::ByHand;
        }
        let ended_well = last.is_some_and(|step| {
            let is_open = step.taken.is_none() && step.refused.is_none();
            step.kind.is_agent() && step.has_outcome(Outcome::Succeeded) && is_open
        });
        if ended_well { Dirt::ToJudge } else { Dirt::Interrupted }
    }
}

/// How the last attempt of the workstream's job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Former {
    /// There was none.
    None,
    /// With a verdict of a conductor, which had left the tree clean.
    Verdict,
    /// Its conductor, or its runner, was killed.
    Interrupted {
        /// True if the machine was started again since.
        before_reboot: bool,
    },
}

impl Former {
    fn of(history: &[RecordLine], boot: &str) -> Self {
        let ended =
            history.iter().flat_map(|line| &line.attempts).filter(|attempt| attempt.outcome.is_some());
        let Some(last) = ended.max_by_key(|attempt| attempt.attempt) else { return Self::None };
        let mut results = history.iter().rev().filter_map(|line| line.result.as_ref());
        let result = results.find(|result| result.attempt == last.attempt);
        match result.is_some_and(|result| has_verdict(last, result)) {
            true => Self::Verdict,
            false => Self::Interrupted { before_reboot: last.boot_id != boot },
        }
    }
}

/// True if a conductor ended this attempt and left the tree clean. One that could not go on tells a verdict as well, but says
/// nothing of the work.
fn has_verdict(attempt: &Attempt, result: &JobResult) -> bool {
    let is_whole = ["verdict", "head"].iter().all(|key| result.metadata.contains_key(*key));
    is_whole && !matches!(attempt.outcome, Some(Outcome::Lost | Outcome::Killed))
}
