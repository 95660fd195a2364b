//! What becomes of what a step has left: it is taken, or put aside; and whether its end counts.
//!
//! A crash leaves, after each line: the tree as it was, and the look before the step, which are judged again to the same end · a
//! reference to what was put aside, with the reason in it, and the tree as it was · the checkpoint. Hard rules: what is committed
//! is the tree that was judged; and a refusal is kept by its reference before the look is forgotten.

use super::conductor::{Conductor, Files, Known, named};
use super::history::run_of;
use crate::bundle::checks::Check;
use crate::job::{Code, Outcome, Reason, StepKind};
use crate::store::steps::StepFound;
use crate::worktree::{self, AfterCheck, Left, Look, Rules, Seen, Stat};

impl Conductor<'_, '_> {
    /// Judges what the step `n` of an agent has left, that ended well.
    pub(super) fn judge(&mut self, known: &Known, n: u32) -> Result<(), Reason> {
        let Some(found) = known.found.iter().find(|found| found.n == n) else {
            return Err(Reason::new(Code::InternalError, format!("step {n} has no record")));
        };
        if self.is_tree_gone {
            let message = "the step removed its worktree, which was made again: look at the log, then resume";
            return self.refuse(found, Reason::new(Code::TreeNotClean, message));
        }
        let git = self.git();
        let head = known.heads.checkpoint(&self.place)?;
        let left = worktree::left(&self.place, head, &self.counted, &git)?;
        if !left.removed.is_empty() {
            let removed = named(&left.removed);
            self.warn(format!(
                "`{}` left pipes, sockets or devices, which were removed: {removed}",
                found.id
            ));
        }
        let (seen, _) = self.seen(found)?;
        // A fix that changes nothing is another thing than one that mends.
        let bundle = &self.request.assignment.bundle;
        let allow_no_change = bundle.allow_no_change() && found.kind == StepKind::Edit;
        match self.violation(&left, &seen, allow_no_change)? {
            Some(refused) if refused.code != Code::NoChange => return self.refuse(found, refused),
            // The next process comes to the same, by the same tree.
            Some(refused) => self.judged.refuse(n, refused),
            None if left.changes.is_empty() => self.judged.leave(n),
            None => {
                worktree::forget(&self.place)?;
                self.before = None;
                let step = (found.kind.as_str(), n);
                let commit = worktree::take(&self.place, self.base(), step, &left.tree.id, &git)?;
                if head.commit == self.base {
                    self.stat = Some(([self.base.clone(), commit], Stat::of(&left.changes)));
                }
                return Ok(());
            }
        }
        worktree::forget(&self.place)
    }

    /// Judges what a step has done beside its tree, and of a check what it did to the files of its tree. What an agent left in the
    /// tree is judged by itself if it ended well, and not at all otherwise: a repetition would take what is beside the tree for
    /// what was there before.
    pub(super) fn judge_end(&mut self, known: &Known, found: &StepFound) -> Result<(), Reason> {
        let Some(outcome) = found.line.attempts.last().and_then(|last| last.outcome) else { return Ok(()) };
        if found.kind.is_agent() && outcome == Outcome::Succeeded {
            return Ok(());
        }
        let (seen, after) = self.seen(found)?;
        if let Some(refused) = self.violation(&Left::default(), &seen, true)? {
            return self.refuse(found, refused);
        }
        if !found.kind.is_agent() {
            let has_changed = self.judge_files(known, (found, outcome), after.branch())?;
            self.before = Some(after).filter(|_| !has_changed);
        }
        worktree::forget(&self.place)
    }

    /// Judges what a check or a setup did to the files of its tree; true if it changed any. A check that passes has to pass on the
    /// files that are handed over; what another one changed is put back.
    fn judge_files(
        &mut self,
        known: &Known,
        (found, outcome): (&StepFound, Outcome),
        branch: Option<&str>,
    ) -> Result<bool, Reason> {
        let Some(head) = &known.heads.head else { return Ok(false) };
        let (git, at) = (self.git(), (head, branch));
        let has_passed = found.kind.is_check() && outcome == Outcome::Succeeded;
        let AfterCheck { changed, is_clean, .. } =
            worktree::after_check(&self.place, &self.counted, at, &git)?;
        if is_clean && !self.is_tree_gone {
            self.files = Files::Unchanged;
        }
        let changed = if self.is_tree_gone { vec![self.place.dir.clone()] } else { changed };
        if changed.is_empty() {
            return Ok(false);
        }
        if has_passed && self.is_of_this_boot(found) {
            let facts = found.facts.as_ref();
            let check = facts.and_then(|facts| facts.check.as_deref()).unwrap_or(found.id.as_str());
            if let Some(refused) = worktree::changed_by_check(&changed, check) {
                self.warn(format!("`{}`: {}", found.id, refused.message));
                self.refuse(found, refused)?;
            }
            return Ok(true);
        }
        if has_passed {
            // Who changed the files, the check or the loss of the power, is not known.
            self.judged.interrupt(found.n);
        }
        worktree::put_back(&self.place, at, &git)?;
        self.warn(format!("`{}` changed {}; put back", found.id, named(&changed)));
        Ok(true)
    }

    /// Puts aside what a step left, with the reason, and so that the next process knows it.
    fn refuse(&mut self, found: &StepFound, refused: Reason) -> Result<(), Reason> {
        self.put_aside(run_of(found), Some(&refused))?;
        self.judged.refuse(found.n, refused);
        worktree::forget(&self.place)
    }

    /// The first rule that is broken.
    fn violation(&self, left: &Left, seen: &Seen, allow_no_change: bool) -> Result<Option<Reason>, Reason> {
        let assignment = &self.request.assignment;
        let executed: Vec<String> = assignment.checks.iter().flat_map(Check::executes).collect();
        let rules = Rules {
            scope: &self.counted.scope,
            protected: &assignment.settings.protected,
            executed: &executed,
            patch: assignment.settings.patch.clone(),
            allow_no_change,
            allow_test_removal: assignment.bundle.allow_test_removal(),
        };
        worktree::judge(left, seen, &rules)
    }

    /// What was seen beside the tree, and the look at it now. Without a look from before only what was put back is known, and,
    /// of an agent, what its own evidence says.
    fn seen(&mut self, found: &StepFound) -> Result<(Seen, Look), Reason> {
        let git = self.git();
        let after = worktree::look(&self.place, &git)?;
        let before = self.before.take();
        let mut seen = match &before {
            Some(before) => before.compare(&after, &self.place, &git)?,
            None => Seen::default(),
        };
        let is_put_back = self.judge_references((found, &mut seen), (before.as_ref(), &after))?;
        // The next step begins on what was put back.
        let after = if is_put_back { worktree::look(&self.place, &git)? } else { after };
        for reference in &seen.moved_refs {
            self.warn(format!("`{reference}` moved while `{}` ran", found.id));
        }
        for setting in &seen.settings {
            self.warn(format!("`{setting}` changed while `{}` ran", found.id));
        }
        Ok((seen, after))
    }

    /// The step whose work a person has taken over: the last one of an agent, if it was not taken. As a whole or in part, after it was
    /// put aside; or, of one that failed, by a change of any file of the scope.
    pub(super) fn taken_over(&self, known: &Known) -> Result<Option<u32>, Reason> {
        let hand = known.taken.iter().rev().find(|taken| taken.hand.is_some());
        let last = known.found.iter().rev().find(|found| found.kind.is_agent());
        let (Some(hand), Some(last)) = (hand, last) else { return Ok(None) };
        let is_taken = known.taken.iter().any(|taken| taken.head.step == Some(last.n));
        if is_taken || hand.hand < Some(last.n) {
            return Ok(None);
        }
        let commit = &hand.head.commit;
        let outcome = last.line.attempts.last().and_then(|attempt| attempt.outcome);
        if matches!(outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Stalled)) {
            let changed = worktree::changes(&self.place, (&format!("{commit}^1"), commit), &self.git())?;
            if changed.iter().any(|change| self.counted.scope.contains(&change.path)) {
                return Ok(Some(last.n));
            }
        }
        let aside = known.heads.asides.iter().find(|aside| aside.step == last.n);
        let Some(aside) = aside else { return Ok(None) };
        let takes_over = worktree::takes_over(&self.place, commit, &aside.commit, &self.git())?;
        Ok(takes_over.then_some(last.n))
    }

    /// True if the last attempt of a step began since the machine was started: files are as it left them.
    pub(super) fn is_of_this_boot(&self, found: &StepFound) -> bool {
        found.line.attempts.last().is_some_and(|last| last.boot_id == self.means.store.identity.boot_id)
    }
}
