//! What becomes of the tree that an agent's step has left: it is taken, or put aside.
//!
//! A crash leaves, after each line: the tree as it was, which is judged again to the same end · a reference to what was put
//! aside, with the reason in it, and the tree as it was · the checkpoint. Hard rule: what is committed is the tree that was
//! judged.

use super::conductor::{Conductor, Known, named};
use crate::bundle::checks::Check;
use crate::job::step::parse_step_id;
use crate::job::{Code, JobId, Outcome, Reason, StepKind};
use crate::worktree::{self, Left, Rules, Seen};

impl Conductor<'_, '_> {
    /// Judges what the step `n` has left.
    pub(super) fn judge(&mut self, known: &Known, n: u32) -> Result<(), Reason> {
        let Some(found) = known.found.iter().find(|found| found.n == n) else {
            return Err(Reason::new(Code::InternalError, format!("step {n} has no record")));
        };
        if self.is_tree_gone {
            let message =
                "the step removed its work tree, which was made again: look at the log, then resume";
            self.judged.refuse(n, Reason::new(Code::TreeNotClean, message));
            return Ok(());
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
        let seen = self.seen()?;
        for reference in &seen.moved_refs {
            self.warn(format!("`{reference}` moved while `{}` ran", found.id));
        }
        for setting in &seen.settings {
            self.warn(format!("`{setting}` changed while `{}` ran", found.id));
        }
        // A fix that changes nothing is told apart from one that mends.
        let bundle = &self.request.assignment.bundle;
        let allow_no_change = bundle.allow_no_change() && found.kind == StepKind::Edit;
        match self.violation(&left, &seen, allow_no_change)? {
            None if left.changes.is_empty() => self.judged.leave(n),
            None => {
                worktree::take(&self.place, self.base(), (found.kind.as_str(), n), &left.tree.id, &git)?;
            }
            Some(refused) => {
                if refused.code != Code::NoChange {
                    self.put_aside(n, Some(&refused))?;
                }
                self.judged.refuse(n, refused);
            }
        }
        Ok(())
    }

    /// Judges what a step that did not end well has changed beside its tree, which is not judged: a repetition would take the
    /// change for what was there before it.
    pub(super) fn judge_beside_the_tree(&mut self, id: &JobId) -> Result<(), Reason> {
        let line = self.means.store.read_record(id)?.map(|record| record.line);
        let outcome = line.and_then(|line| line.attempts.last().and_then(|last| last.outcome));
        let Some((_, n, _)) = parse_step_id(id) else { return Ok(()) };
        if matches!(outcome, None | Some(Outcome::Succeeded)) {
            return Ok(());
        }
        if let Some(refused) = self.violation(&Left::default(), &self.seen()?, true)? {
            self.put_aside(n, Some(&refused))?;
            self.judged.refuse(n, refused);
        }
        Ok(())
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

    /// What was seen beside the tree. Of a step that ended before this process began only the tree can be judged, and what its
    /// own evidence says, if it is an agent's.
    fn seen(&self) -> Result<Seen, Reason> {
        let Some(before) = &self.before else { return Ok(Seen::default()) };
        let mut seen =
            before.compare(&worktree::look(&self.place, &self.git())?, &self.place, &self.git())?;
        seen.git_dir.extend(self.moved.iter().cloned());
        Ok(seen)
    }
}
