//! The patches of a run: what its agents changed, and what became of it.
//!
//! Derived from records alone. A patch is taken if the next step ran on another tree than its own did, or if its workstream
//! ended without putting it aside. Hard rule: a state has the record behind it that says so, with its time.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{RunFacts, WorkstreamFacts};
use crate::clock::Timestamp;
use crate::job::step::StepFacts;
use crate::job::{Attempt, Code, JobId, Outcome, RunId, Status, StepKind};
use crate::store::steps::StepFound;

/// What became of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PatchState {
    /// An agent left it.
    Created,
    /// It was judged, and nothing was against it.
    Validated,
    /// It is a commit of the workstream.
    Applied,
    /// Every check passed on it.
    Verified,
    /// It is in the branch of a workstream that succeeded.
    Committed,
    /// It is a violation, and was put aside.
    Quarantined,
    /// It was put aside.
    Dropped,
}

/// A change of the state of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct PatchMove {
    /// The state since then.
    pub state: PatchState,
    /// When.
    pub at: Timestamp,
    /// Why, if a record says so.
    pub reason: Option<Code>,
}

/// What an agent's step changed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "engine patch")]
pub(crate) struct Patch {
    /// The id of its step.
    pub patch_id: JobId,
    /// The run.
    pub run_id: RunId,
    /// The workstream.
    pub ws_id: String,
    /// The kind of its step.
    pub kind: StepKind,
    /// The adapter that made it.
    pub tool: Option<String>,
    /// What became of it last.
    pub state: PatchState,
    /// What became of it, in order.
    pub state_history: Vec<PatchMove>,
    /// How many files it changes; null where the adapter is no agent.
    pub files_changed: Option<u64>,
    /// Where its text is, in a record as in a result; null where none was kept.
    pub patch_path: Option<String>,
    /// SHA-256 of that, hexadecimal.
    pub patch_sha256: Option<String>,
}

impl Patch {
    /// True if it ever had that state.
    #[must_use]
    pub(crate) fn has_been(&self, state: PatchState) -> bool {
        self.state_history.iter().any(|one| one.state == state)
    }
}

impl PatchState {
    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Validated => "validated",
            Self::Applied => "applied",
            Self::Verified => "verified",
            Self::Committed => "committed",
            Self::Quarantined => "quarantined",
            Self::Dropped => "dropped",
        }
    }
}

impl fmt::Display for PatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The patches of a run, in the order of their workstreams and steps.
#[must_use]
pub(crate) fn of_run(facts: &RunFacts) -> Vec<Patch> {
    let each = |workstream| {
        let patch = move |index| of_step(facts.run_id(), workstream, index);
        (0..workstream.steps.len()).filter_map(patch)
    };
    facts.workstreams.iter().flat_map(each).collect()
}

fn of_step(run_id: &RunId, workstream: &WorkstreamFacts, index: usize) -> Option<Patch> {
    let step = workstream.steps.get(index)?;
    let is_aside = workstream.put_aside().contains(&step.n);
    let created = left_change(step, is_aside).or_else(|| changed_by_trees(workstream, index))?;
    let mut history = vec![PatchMove { state: PatchState::Created, at: created.ended_at?, reason: None }];
    history.extend(moves(workstream, index, is_aside));
    let evidence = step.line.result.as_ref().and_then(|result| result.metadata.get("evidence"));
    let text = |key: &str| evidence?.get(key)?.as_str().map(str::to_owned);
    Some(Patch {
        patch_id: step.id.clone(),
        run_id: run_id.clone(),
        ws_id: workstream.ordered.ws_id.clone(),
        kind: step.kind,
        tool: step.line.job.tool.as_ref().map(ToString::to_string),
        state: history.last().map_or(PatchState::Created, |last| last.state),
        state_history: history,
        files_changed: evidence.and_then(|evidence| evidence.get("files_total")?.as_u64()),
        patch_path: text("patch_path"),
        patch_sha256: text("patch_sha256"),
    })
}

/// The attempt of an agent's step that left a change, as its record says or what was put aside.
#[must_use]
pub(super) fn left_change(step: &StepFound, is_aside: bool) -> Option<&Attempt> {
    let last = step.line.attempts.last().filter(|_| step.kind.is_agent())?;
    last.outcome?;
    let is_changed = last.work.as_ref().is_some_and(|work| work.changed);
    (is_changed || is_aside).then_some(last)
}

/// True for a step of an adapter that is no agent: it succeeded, and its record does not say whether it changed anything.
#[must_use]
pub(super) fn may_have_changed(step: &StepFound) -> bool {
    let last = step.line.attempts.last().filter(|_| step.kind.is_agent());
    last.is_some_and(|last| last.work.is_none() && last.outcome == Some(Outcome::Succeeded))
}

/// The attempt of such a step, if the next one ran on another tree, or the workstream ended at another commit.
fn changed_by_trees(workstream: &WorkstreamFacts, index: usize) -> Option<&Attempt> {
    let step = workstream.steps.get(index).filter(|step| may_have_changed(step))?;
    let before = step.facts.as_ref();
    let later = workstream.steps.get(index + 1..).unwrap_or_default();
    let next = later.iter().find_map(|step| step.facts.as_ref()?.tree.as_ref());
    let is_changed = match next {
        Some(tree) => before.and_then(|facts| facts.tree.as_ref()) != Some(tree),
        None => ended(workstream).is_some() && has_moved(before, workstream.told_text("head").as_deref()),
    };
    step.line.attempts.last().filter(|_| is_changed)
}

/// True if a workstream ended at another commit than the one on which a step ran.
#[must_use]
pub(super) fn has_moved(before: Option<&StepFacts>, head: Option<&str>) -> bool {
    let before = before.and_then(|facts| facts.checkpoint.as_deref());
    before.is_some() && head.is_some() && before != head
}

/// What became of the change of a step after it was made.
fn moves(workstream: &WorkstreamFacts, index: usize, is_aside: bool) -> Vec<PatchMove> {
    match fate(workstream, index, is_aside) {
        Fate::Open => Vec::new(),
        Fate::Gone(at, reason) => vec![gone(workstream, index, at, reason)],
        Fate::Taken(at) => {
            let mut moves = vec![
                PatchMove { state: PatchState::Validated, at, reason: None },
                PatchMove { state: PatchState::Applied, at, reason: None },
            ];
            let verified = verified_at(workstream, index);
            moves.extend(verified.map(|at| PatchMove { state: PatchState::Verified, at, reason: None }));
            let succeeded = ended(workstream).filter(|(status, ..)| *status == Status::Succeeded);
            moves.extend(succeeded.map(|(_, at, _)| PatchMove {
                state: PatchState::Committed,
                at,
                reason: None,
            }));
            moves
        }
    }
}

enum Fate {
    /// It is not judged yet.
    Open,
    /// It became a checkpoint, at the latest then.
    Taken(Timestamp),
    /// It is no part of the worktree any more.
    Gone(Timestamp, Option<Code>),
}

fn fate(workstream: &WorkstreamFacts, index: usize, is_aside: bool) -> Fate {
    let (Some(step), later) = (workstream.steps.get(index), workstream.steps.get(index + 1..)) else {
        return Fate::Open;
    };
    let before = step.facts.as_ref().and_then(|facts| facts.tree.as_ref());
    let next = later.unwrap_or_default().iter().find_map(|step| {
        let tree = step.facts.as_ref()?.tree.as_ref()?;
        Some((tree, step.line.attempts.first().map_or(step.line.at, |first| first.started_at)))
    });
    // What was put aside may be of an earlier attempt: what the last one left is taken if the next step ran on it.
    let left = step.line.attempts.last().and_then(|last| last.work.as_ref()).map(|work| &work.tree);
    let is_aside = is_aside && (left.is_none() || left != next.map(|(tree, _)| tree));
    match (next, ended(workstream)) {
        (Some((_, at)), _) if is_aside => Fate::Gone(at, None),
        (Some((tree, at)), _) if before.is_some() && before != Some(tree) => Fate::Taken(at),
        (Some((_, at)), _) => Fate::Gone(at, None),
        (None, Some((_, at, code))) if is_aside => Fate::Gone(at, code),
        (None, Some((Status::Quarantined, at, code))) => Fate::Gone(at, code),
        (None, Some((_, at, code))) => match step.line.status {
            Status::Succeeded => Fate::Taken(at),
            _ => Fate::Gone(at, code),
        },
        (None, None) => Fate::Open,
    }
}

/// A patch that is gone with the end of a quarantined workstream is what it was quarantined for.
fn gone(workstream: &WorkstreamFacts, index: usize, at: Timestamp, reason: Option<Code>) -> PatchMove {
    let is_last = workstream.steps.get(index + 1..).is_none_or(<[StepFound]>::is_empty);
    let is_quarantined = ended(workstream).is_some_and(|(status, ..)| status == Status::Quarantined);
    let state = if is_last && is_quarantined { PatchState::Quarantined } else { PatchState::Dropped };
    PatchMove { state, at, reason }
}

/// How and when a workstream ended, and the word of its reason.
fn ended(workstream: &WorkstreamFacts) -> Option<(Status, Timestamp, Option<Code>)> {
    let line = workstream.line.as_ref().filter(|line| line.status.is_terminal())?;
    let reason = line.result.as_ref().and_then(|result| result.reason.as_ref());
    Some((line.status, line.at, reason.map(|reason| reason.code.clone())))
}

/// When every check had passed after a step and before the next change.
fn verified_at(workstream: &WorkstreamFacts, index: usize) -> Option<Timestamp> {
    let after = workstream.steps.get(index + 1..).unwrap_or_default();
    let checks = after.iter().take_while(|step| !step.kind.is_agent()).filter(|step| step.kind.is_check());
    let passed: Vec<(&str, Timestamp)> = checks
        .filter(|step| step.line.status == Status::Succeeded)
        .filter_map(|step| {
            Some((step.facts.as_ref()?.check.as_deref()?, step.line.attempts.last()?.ended_at?))
        })
        .collect();
    let wanted = workstream.checks()?;
    let has_passed = |check: &&str| passed.iter().any(|(name, _)| name == check);
    wanted.iter().all(has_passed).then(|| passed.iter().map(|(_, at)| *at).max())?
}
