//! The start of a conductor: ends what a former one left running, makes or repairs the worktree, and decides whose the
//! changes in it are.
//!
//! Each line here may be the last of a process; every one finds the next start at the same decision:
//! - after a step was recovered: its record is ended, the tree as it was left;
//! - after `head` was put back: nothing; the look before the step, which is there until the step is judged, shows what it
//!   moved;
//! - after the worktree was made: it is found, its branch too;
//! - after something was put aside and before the reset: it is put aside again, as the same tree.

use std::time::Duration;

use super::conductor::{Conductor, Files, Known, named};
use super::former::{Former, starts};
use super::history::{self, run_of};
use crate::evidence::{self, Unmatched};
use crate::fs::Scratch;
use crate::git::{Client, Deadline, Stop};
use crate::job::{Code, JobId, Outcome, Reason, RecordLine, Status, StepKind};
use crate::process::signals;
use crate::queue::recovery::{Again, Recovered};
use crate::runner;
use crate::store::steps::{self, StepFound};
use crate::worktree::{self, Found};

/// A runner that was killed with its workstream, or ends by itself, is gone before that.
const LONGEST_END: Duration = Duration::from_secs(60);

/// A person's git is done before that.
const LONGEST_LOCK: Duration = Duration::from_secs(60);

/// How long one look at a step that another process works on is apart from the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Conductor<'_, '_> {
    /// Brings everything to where the next step can begin.
    pub(super) fn settle(&mut self, former: Former) -> Result<(), Reason> {
        self.unsettled = Some(former);
        self.recover_steps()?;
        // What an earlier try of this process has seen does not hold any more.
        (self.files, self.before) = (Files::Unknown, None);
        self.wait_for_locks(former)?;
        if self.request.is_integration() {
            return self.settle_integration(former);
        }
        let git = self.git();
        let found = steps::steps(self.means.store, &self.request.job_id)?;
        let is_moved = self.find_base(&found)?;
        let last = last_run(&found);
        // Before the first step there is no attempt that tells of its boot.
        if last.map_or(former.is_killed, |last| !self.is_of_this_boot(last)) {
            worktree::mend(&self.place, &git)?;
            worktree::put_aside_lost(&self.place, &git)?;
        }
        match last {
            Some(last) if former.has_worked => self.expect_head(last)?,
            // What a person did since is no step's.
            last => {
                worktree::forget(&self.place)?;
                if last.is_some() {
                    self.put_back_since_verdict()?;
                }
            }
        }
        let is_made = worktree::make_or_find(&self.place, self.base(), &git)? == Found::Made;
        let known = self.look()?;
        self.hold_references(&known)?;
        worktree::keep_branch(&self.place, &known.heads, &git)?;
        let is_moved_by_hand = known.heads.branch.as_ref() != known.heads.head.as_ref();
        if last.is_none() && is_made && !is_moved_by_hand {
            self.files = Files::Fresh;
            self.unsettled = None;
            return Ok(());
        }
        match last {
            Some(last) if former.has_worked => self.settle_run(&known, last, is_made)?,
            Some(last) if is_parked(last) => self.lay_out_if_lost(last)?,
            _ if is_made && (former.has_worked || is_moved) => {}
            _ if former.has_worked || is_moved => drop(self.clear(&known)?),
            _ => self.take_hand(&known)?,
        }
        self.unsettled = None;
        self.mark_setup_that_passed(&known)
    }

    /// An integration changes no file: whatever differs from the merged commit is put aside, and a check that no process has judged
    /// yet runs again.
    fn settle_integration(&mut self, former: Former) -> Result<(), Reason> {
        let git = self.git();
        worktree::forget(&self.place)?;
        worktree::make_or_find(&self.place, self.base(), &git)?;
        let known = self.look()?;
        self.hold_references(&known)?;
        if let Some(last) = last_run(&known.found).filter(|_| former.is_killed) {
            self.judged.interrupt(last.n);
        }
        self.clear(&known)?;
        self.unsettled = None;
        Ok(())
    }

    /// Puts `head` back if the last step moved it while no process of the engine watched.
    fn expect_head(&mut self, last: &StepFound) -> Result<(), Reason> {
        let Some(began_at) = last.facts.as_ref().and_then(|facts| facts.checkpoint.clone()) else {
            return Ok(());
        };
        // The look is forgotten before a step is taken: as long as it is there, a commit that takes the step is forged.
        let expected = match worktree::noted(&self.place, last.id.as_str()) {
            Some(_) => began_at,
            None => worktree::expected_head(&self.place, (last.n, &began_at), &self.git())?,
        };
        self.put_back_head(&expected, &last.id)
    }

    /// Settles what the last run of a step left, the process that was to judge it being gone.
    fn settle_run(&mut self, known: &Known, last: &StepFound, is_made: bool) -> Result<(), Reason> {
        let step = known.steps.iter().find(|step| step.n == last.n);
        let is_judged = history::refusal(&known.heads.asides, last).is_some()
            || step.is_some_and(|step| step.taken.is_some());
        if is_judged {
            return self.clear_unless(is_made, known);
        }
        self.before = match self.is_of_this_boot(last) {
            true => worktree::noted(&self.place, last.id.as_str()),
            false => None,
        };
        let has_passed = last.line.attempts.last().and_then(|last| last.outcome) == Some(Outcome::Succeeded);
        if last.kind.is_agent() && has_passed {
            return self.settle_work(known, last, is_made);
        }
        if has_passed && is_made && self.before.is_some() {
            // It, or a person, removed the files on which it passed.
            self.judged.interrupt(last.n);
        }
        self.judge_end(known, last)?;
        match is_parked(last) && !self.judged.is_refused(last.n) {
            true => self.lay_out_if_lost(last),
            false => self.clear_unless(is_made, known),
        }
    }

    /// Leaves what an agent's step left to the judge, if it is still that; else the step counts as interrupted.
    fn settle_work(&mut self, known: &Known, last: &StepFound, is_made: bool) -> Result<(), Reason> {
        let work = last.line.attempts.last().and_then(|attempt| attempt.work.as_ref());
        let is_of_this_boot = self.is_of_this_boot(last);
        let is_as_left = match work {
            _ if is_made => false,
            Some(work) => self.tree_by_evidence()? == work.tree,
            // After the loss of power files that no one synced are not what the agent wrote.
            None => is_of_this_boot,
        };
        if is_as_left {
            return Ok(());
        }
        self.warn(format!("the files are not as `{}` left them: it runs again", last.id));
        self.judged.interrupt(last.n);
        if !is_of_this_boot && !is_made {
            self.clear(known)?;
            return worktree::make(&self.place, &self.git());
        }
        self.clear_unless(is_made, known)
    }

    /// The tree of the files as the evidence of an agent's step counts it.
    fn tree_by_evidence(&self) -> Result<String, Reason> {
        let (store, environment) = (self.means.store, self.means.environment);
        let means = evidence::Means {
            search_path: environment.get("PATH").map(ToOwned::to_owned),
            home: Some(environment.home().to_owned()),
            stop: Stop::never(),
            min_free_bytes: store.config.min_free_bytes,
            unmatched: Unmatched::Counts,
        };
        let name = self.request.job_id.to_string();
        let scratch = Scratch::fresh(&store.state("attempts"), &name)
            .map_err(|error| Reason::from_error(Code::StateNotWritable, &error))?;
        let dir = self.place.dir.as_path();
        let looked = evidence::before((dir, dir), &[], scratch.path(), &means)?;
        Ok(looked.snapshot().tree.clone())
    }

    fn clear_unless(&mut self, is_made: bool, known: &Known) -> Result<(), Reason> {
        // What was just made holds nothing else.
        if is_made { Ok(()) } else { self.clear(known).map(drop) }
    }

    /// Lays out the files of a step that waits, if the worktree has lost them.
    fn lay_out_if_lost(&mut self, last: &StepFound) -> Result<(), Reason> {
        let git = self.git();
        let heads = worktree::heads(&self.place, &git)?;
        let head = heads.checkpoint(&self.place)?;
        if worktree::left(&self.place, head, &self.counted, &git)?.changes.is_empty() {
            worktree::lay_out(&self.place, run_of(last), &git)?;
        }
        Ok(())
    }

    /// Takes what a person did in the worktree, which the last conductor had left clean.
    fn take_hand(&mut self, known: &Known) -> Result<(), Reason> {
        let n = known.found.last().map_or(0, |step| step.n);
        let Some(commit) = worktree::hand(&self.place, n, &self.counted, &self.git())? else {
            let moved = known.heads.branch.as_ref().zip(known.heads.head.as_ref());
            if let Some((branch, head)) = moved.filter(|(branch, head)| branch.commit != head.commit) {
                let (name, was, is) = (self.place.branch_name(), &branch.commit, &head.commit);
                self.warn(format!(
                    "`{name}` was moved to {was:.12}, which brings nothing upon what was taken; put back to {is:.12}"
                ));
            }
            return Ok(());
        };
        let changed = worktree::changes(&self.place, (&format!("{commit}^1"), &commit), &self.git())?;
        let beyond = changed.into_iter().map(|change| change.path);
        let beyond: Vec<_> = beyond.filter(|path| !self.counted.scope.contains(path)).collect();
        let beyond = match beyond.is_empty() {
            true => String::new(),
            // Whoever made them: a branch is not protected from other programs.
            false => format!("; outside of the scope they change {}", named(&beyond)),
        };
        self.warn(format!(
            "changes by hand in the worktree or on its branch were taken as {commit:.12}{beyond}"
        ));
        Ok(())
    }

    /// Waits for a git that works on the worktree; what a killed one left is removed.
    pub(super) fn wait_for_locks(&mut self, former: Former) -> Result<(), Reason> {
        if former.is_killed {
            return worktree::remove_left_locks(&self.place).map(drop);
        }
        let removed = worktree::wait_for_locks(&self.place, &self.waits_for_locks())?;
        if !removed.is_empty() {
            self.warn(format!("lock files that no git held were removed: {}", named(&removed)));
        }
        Ok(())
    }

    /// A client for the wait for a git that works on the worktree; a request to stop ends it.
    fn waits_for_locks(&self) -> Client {
        let deadline = Deadline::new("the wait for the locks of git", LONGEST_LOCK);
        Client { deadline, stop: Stop::new(|| signals::requests() > 0), ..self.git() }
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

    /// What there was before the attempt that runs.
    pub(super) fn former_end(&self) -> Result<Former, Reason> {
        // The line of a new attempt has no result any more: that of the last one is in the line that ended it.
        let history = self.means.store.record_history(&self.request.job_id);
        let history = history?;
        let lines: Vec<RecordLine> = history.into_iter().map(|record| record.line).collect();
        let found = steps::steps(self.means.store, &self.request.job_id)?;
        Ok(Former::of(&lines, starts(&found)))
    }

    /// A conductor may have been killed between the end of a setup and its mark.
    fn mark_setup_that_passed(&self, known: &Known) -> Result<(), Reason> {
        let last = known.found.iter().rev().find(|step| step.kind == StepKind::Setup);
        let Some(step) = last.filter(|step| !self.judged.is_refused(step.n)) else { return Ok(()) };
        let Some(ended) = step.line.attempts.last() else { return Ok(()) };
        let digest = step.facts.as_ref().and_then(|facts| facts.check_digest.clone());
        let is_of_this_tree = digest == Some(self.setup_digest())
            && worktree::made_at(&self.place).is_some_and(|made| made <= ended.started_at);
        let is_refused = history::refusal(&known.heads.asides, step).is_some();
        if ended.outcome == Some(Outcome::Succeeded) && is_of_this_tree && !is_refused {
            worktree::mark_setup(&self.place, &self.setup_digest())?;
        }
        Ok(())
    }
}

/// The step that ran last, with its last attempt. Only the last one is ever repeated; a clock that was set back does not count.
fn last_run(found: &[StepFound]) -> Option<&StepFound> {
    found.iter().rev().find(|step| !step.line.attempts.is_empty())
}

fn is_parked(step: &StepFound) -> bool {
    let outcome = step.line.attempts.last().and_then(|last| last.outcome);
    step.kind.is_agent() && step.line.status == Status::Queued && outcome == Some(Outcome::Parked)
}
