//! The loop of a workstream as pure functions: its history, and from it the next step with its reason.
//!
//! This file holds the history: the steps as their records and the commits of the branch tell them, the plan, and the present
//! state. Not responsible for reading them. Hard rule: no file, no clock, no environment; equal arguments give equal answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::{Code, Outcome, Reason, StepKind, ToolId};
use limits::{CheckKind, Limits, Phase, Recovery};

mod breaker;
pub(crate) mod context;
pub(crate) mod decision;
pub(crate) mod limits;
pub(crate) mod next;
pub(crate) mod progress;
mod recovery;
pub(crate) mod signature;

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;

impl From<CheckKind> for StepKind {
    fn from(kind: CheckKind) -> Self {
        match kind {
            CheckKind::Static => Self::Static,
            CheckKind::Runtime => Self::Runtime,
            CheckKind::Accept => Self::Accept,
        }
    }
}

/// Why a step was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The worktree has no mark of its setup.
    Setup,
    /// There are tasks, and no change was taken.
    Task,
    /// The check has not passed on the present tree.
    NotProved,
    /// A check failed.
    Mend,
    /// A fix changed nothing: its check runs once more.
    NothingChanged,
    /// The same tool tries again.
    Retry,
    /// The same tool tries with fewer files in its context.
    ReducedContext,
    /// Another tool tries.
    Fallback,
}

/// How a step was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Its runner died.
    Lost,
    /// It was stopped with the workstream.
    Stopped,
    /// A signal that came from outside ended it.
    Killed,
    /// The system lacked something: room on the disk, memory, processes.
    Shortage,
}

/// Where a step is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepState {
    /// It has never started.
    Queued,
    /// Its last attempt has no end yet, and its runner is gone.
    Open,
    /// Its last attempt ended so, which is no result.
    Interrupted(Interruption, Ended),
    /// It waits for a service, its session goes on.
    Parked(Option<Timestamp>),
    /// It came to a result.
    Ended(Ended),
}

/// How and when an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why it ended so.
    pub(crate) reason: Option<Reason>,
    /// When.
    pub(crate) at: Timestamp,
}

impl StepState {
    /// The state after an attempt that ended and was not parked.
    pub(crate) fn of_end(outcome: Outcome, reason: Option<Reason>, at: Timestamp) -> Self {
        let how = interruption(outcome, reason.as_ref().map(|reason| &reason.code));
        let ended = Ended { outcome, reason, at };
        match how {
            Some(how) => Self::Interrupted(how, ended),
            None => Self::Ended(ended),
        }
    }
}

/// How an attempt was interrupted; none if it came to a result. A signal that a program brings upon itself by what it does, such
/// as a segmentation fault, is a result. So is the word of a person who canceled that very step.
pub(crate) fn interruption(outcome: Outcome, code: Option<&Code>) -> Option<Interruption> {
    match (outcome, code) {
        (Outcome::Lost, _) => Some(Interruption::Lost),
        (Outcome::Canceled, Some(Code::CanceledByUser)) => None,
        (Outcome::Canceled, _) => Some(Interruption::Stopped),
        (Outcome::Killed, Some(Code::Signal(signal))) if OWN_DOING.contains(signal) => None,
        (Outcome::Killed, _) | (_, Some(Code::Killed | Code::Interrupted)) => Some(Interruption::Killed),
        (_, Some(Code::DiskFull | Code::StartFailed | Code::IndexLocked)) => Some(Interruption::Shortage),
        _ => None,
    }
}

/// ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS.
const OWN_DOING: [i32; 9] = [4, 5, 6, 7, 8, 11, 24, 25, 31];

/// One step: what its job file, its record and the commits of the branch tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its number, from 1.
    pub(crate) n: u32,
    /// Its kind.
    pub(crate) kind: StepKind,
    /// The name of the check that it is, or mends.
    pub(crate) check: Option<String>,
    /// The digest of that check.
    pub(crate) check_digest: Option<String>,
    /// The life of the workstream that made it or last ran it again.
    pub(crate) life: u32,
    /// Which fix of its part of the work, from 1; of other steps, the fixes before it.
    pub(crate) iteration: u32,
    /// The tool that ran it.
    pub(crate) tool: ToolId,
    /// The tree that it ran on.
    pub(crate) tree: String,
    /// Why it was made.
    pub(crate) why: Why,
    /// Where it is in its life.
    pub(crate) state: StepState,
    /// How many of its last attempts in a row were interrupted in the present life of the workstream; those that were stopped
    /// are not counted, and neither they nor parks end the row.
    pub(crate) kills: u32,
    /// The signature of a failed check.
    pub(crate) signature: Option<String>,
    /// The commit that took what an agent left.
    pub(crate) taken: Option<String>,
    /// The tree that an agent left, once it was judged.
    pub(crate) tree_after: Option<String>,
    /// Why the judge refused what the step left.
    pub(crate) refused: Option<Reason>,
}

impl Step {
    /// The result, if it came to one.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.state {
            StepState::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// The code of its result, the judge's word first.
    pub(crate) fn code(&self) -> Option<&Code> {
        let reason = self.ended().and_then(|ended| ended.reason.as_ref());
        self.refused.as_ref().or(reason).map(|reason| &reason.code)
    }

    pub(crate) fn has_outcome(&self, outcome: Outcome) -> bool {
        self.ended().is_some_and(|ended| ended.outcome == outcome)
    }

    /// True for an agent's step that came to its end and left the tree as it was.
    pub(crate) fn changed_nothing(&self) -> bool {
        let is_same = self.taken.is_none() && self.tree_after.as_ref() == Some(&self.tree);
        self.kind.is_agent()
            && (self.code() == Some(&Code::NoChange) || is_same && self.has_outcome(Outcome::Succeeded))
    }

    /// The judge's word, if it says that a rule was broken.
    pub(crate) fn violation(&self) -> Option<&Reason> {
        self.refused.as_ref().filter(|reason| reason.code != Code::NoChange).or_else(|| {
            let reason = self.ended().and_then(|ended| ended.reason.as_ref());
            reason.filter(|reason| reason.code == Code::ScopeViolation)
        })
    }

    /// True for the fix that counts: the agent came to its end, whatever it left.
    pub(crate) fn is_used_fix(&self) -> bool {
        self.kind == StepKind::Fix && (self.taken.is_some() || self.changed_nothing())
    }

    /// True if it is, or mends, this check.
    pub(crate) fn is_of(&self, check: &Check) -> bool {
        self.check_digest.as_ref() == Some(&check.digest)
    }

    /// True if it is a run of this check.
    pub(crate) fn is_run_of(&self, check: &Check) -> bool {
        self.kind == check.kind.into() && self.is_of(check)
    }

    /// True if it is a run of this check that failed, and says something of the work.
    pub(crate) fn is_failure_of(&self, check: &Check) -> bool {
        let failed = [Outcome::Failed, Outcome::TimedOut, Outcome::Stalled, Outcome::Killed];
        self.is_run_of(check) && self.ended().is_some_and(|ended| failed.contains(&ended.outcome))
    }
}

/// A check of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its name, for people.
    pub(crate) name: String,
    /// Its kind.
    pub(crate) kind: CheckKind,
    /// The digest of its definition: results are known by it.
    pub(crate) digest: String,
}

/// A tool that may edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its adapter.
    pub(crate) id: ToolId,
    /// True if it takes a prompt: only such a tool can mend.
    pub(crate) takes_prompt: bool,
}

/// What does not change in a life of the workstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// True if a new worktree has to be prepared.
    pub(crate) has_setup: bool,
    /// True if there is something to edit.
    pub(crate) has_tasks: bool,
    /// True if an edit that changes nothing is done.
    pub(crate) no_change_allowed: bool,
    /// The tool of the edit.
    pub(crate) tool: Tool,
    /// Those that may take over, in order: `fallback` of the recovery.
    pub(crate) fallback: Vec<Tool>,
    /// The checks: static, runtime, acceptance. What cannot run and is optional is left out.
    pub(crate) checks: Vec<Check>,
    /// The limits.
    pub(crate) limits: Limits,
    /// What follows an agent's failure.
    pub(crate) recovery: Recovery,
    /// True if an agent's step that a crash interrupted is not run again in the same life.
    pub(crate) quarantine_on_crash: bool,
}

impl Plan {
    /// Every tool that may edit, the first choice first.
    pub(crate) fn tools(&self) -> impl Iterator<Item = &Tool> {
        std::iter::once(&self.tool).chain(&self.fallback)
    }
}

/// The present state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Present {
    /// The life of the workstream.
    pub(crate) life: u32,
    /// The tree of the last checkpoint.
    pub(crate) tree: String,
    /// True if a commit of an edit or a fix is reachable from the head.
    pub(crate) is_changed: bool,
    /// True if the worktree has the mark of its setup.
    pub(crate) has_setup_mark: bool,
    /// The number of the last step before the newest checkpoint of a person's hand.
    pub(crate) hand: Option<u32>,
    /// The number of the step whose work, which was put aside, that checkpoint has taken over.
    pub(crate) taken_over: Option<u32>,
    /// The highest number in the trailers of the branch: records may be gone.
    pub(crate) last_n: u32,
    /// What the bundle's budget has left, in US dollars.
    pub(crate) bundle_rest_usd: Option<f64>,
    /// What the run's budget has left.
    pub(crate) run_rest_usd: Option<f64>,
}

impl Present {
    /// The smaller rest of the budgets.
    pub(crate) fn rest_usd(&self) -> Option<f64> {
        [self.bundle_rest_usd, self.run_rest_usd].into_iter().flatten().reduce(f64::min)
    }
}

/// All that a decision depends on. The steps are in the order of their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) steps: &'a [Step],
    pub(crate) present: &'a Present,
}

impl<'a> Situation<'a> {
    /// The steps of the present life.
    pub(crate) fn of_this_life(self) -> impl DoubleEndedIterator<Item = &'a Step> {
        self.steps.iter().filter(move |step| step.life == self.present.life)
    }

    /// The last run of a check on the present tree that came to a result, whatever the life.
    pub(crate) fn last_run(self, check: &Check) -> Option<&'a Step> {
        let here = |step: &&Step| step.tree == self.present.tree && step.is_run_of(check);
        self.steps.iter().rev().find(|step| here(step) && step.ended().is_some())
    }

    /// That run, if it failed in the present life.
    pub(crate) fn failed_here(self, check: &Check) -> Option<&'a Step> {
        self.last_run(check).filter(|step| step.life == self.present.life && step.is_failure_of(check))
    }

    /// How many fixes of a part of the work were used in the present life.
    pub(crate) fn used_fixes(self, phase: Phase) -> u32 {
        let of_phase = |step: &&Step| step.is_used_fix() && self.phase_of(step) == Some(phase);
        u32::try_from(self.of_this_life().filter(of_phase).count()).unwrap_or(u32::MAX)
    }

    /// The part of the work that a fix mended; none if the plan has its check no more.
    fn phase_of(self, fix: &Step) -> Option<Phase> {
        self.plan.checks.iter().find(|check| fix.is_of(check)).map(|check| check.kind.phase())
    }
}

/// A wait that counts from a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    /// The moment.
    pub(crate) since: Timestamp,
    /// How long.
    pub(crate) wait: Duration,
}

impl Delay {
    /// What is left of it; never more than the whole, also where the clock was set back.
    pub(crate) fn left(self, now: Timestamp) -> Duration {
        self.since.after(self.wait).since(now).min(self.wait)
    }
}
