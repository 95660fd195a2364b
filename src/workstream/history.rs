//! The history of a workstream: its records and the commits of its branch, as `fix_loop` reads them.
//!
//! Reads only. Hard rule: nothing else is known of a step than its record, the commit that took it, the reference that keeps
//! what was put aside, and the judgement of this process, which the next one makes again from the same tree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::clock::Timestamp;
use crate::fix_loop::signature;
use crate::fix_loop::{Ended, Interruption, Step, StepState, Why, interruption};
use crate::job::step::StepFacts;
use crate::job::{Attempt, Code, Outcome, Reason, RecordLine, Status, StepKind, ToolId};
use crate::store::Store;
use crate::store::steps::StepFound;
use crate::worktree::{Aside, Counts, StepRun, Taken, fewer_tests};

/// What the judgements add to the records, by the number of the step.
#[derive(Debug, Default)]
pub(super) struct Judged {
    refused: BTreeMap<u32, Reason>,
    unchanged: BTreeSet<u32>,
    interrupted: BTreeSet<u32>,
}

impl Judged {
    /// Notes that what a step left was refused.
    pub(super) fn refuse(&mut self, n: u32, reason: Reason) {
        self.refused.insert(n, reason);
    }

    /// Notes that a step left the tree as it was, and may.
    pub(super) fn leave(&mut self, n: u32) {
        self.unchanged.insert(n);
    }

    /// Notes that what a step left is not there any more, or is not what it left: its end counts for nothing.
    pub(super) fn interrupt(&mut self, n: u32) {
        self.interrupted.insert(n);
    }

    /// True if what a step left was refused.
    pub(super) fn is_refused(&self, n: u32) -> bool {
        self.refused.contains_key(&n)
    }

    /// Forgets what is noted of a step that runs again.
    pub(super) fn forget(&mut self, n: u32) {
        self.refused.remove(&n);
        self.unchanged.remove(&n);
        self.interrupted.remove(&n);
    }
}

/// What the history is folded from.
pub(super) struct Sources<'a> {
    /// The root.
    pub store: &'a Store,
    /// When the present life of the workstream began.
    pub life_began: Timestamp,
    /// The steps that have a record.
    pub found: &'a [StepFound],
    /// The commits that took one.
    pub taken: &'a [Taken],
    /// The judgements.
    pub judged: &'a Judged,
    /// What was put aside, and of it what was refused.
    pub asides: &'a [Aside],
    /// The path of the worktree, which is no part of a failure.
    pub worktree: &'a str,
    /// True if fewer tests are allowed to run.
    pub allow_test_removal: bool,
}

/// Folds the records of the steps.
pub(super) fn fold(sources: &Sources<'_>) -> Vec<Step> {
    let mut best: BTreeMap<String, Counts> = BTreeMap::new();
    let last = sources.found.last().map(|step| step.n);
    sources.found.iter().map(|found| step(sources, found, last == Some(found.n), &mut best)).collect()
}

fn step(
    sources: &Sources<'_>,
    found: &StepFound,
    is_last: bool,
    best: &mut BTreeMap<String, Counts>,
) -> Step {
    let facts = found.facts.clone().unwrap_or_default();
    let state = match state(&found.line) {
        StepState::Ended(ended) if sources.judged.interrupted.contains(&found.n) => {
            StepState::Interrupted(Interruption::Lost, ended)
        }
        state => state,
    };
    let ended = if let StepState::Ended(Ended { outcome, .. }) = &state { Some(*outcome) } else { None };
    let ended_well = ended == Some(Outcome::Succeeded);
    let taken = sources.taken.iter().find(|taken| taken.head.step == Some(found.n)).map(|taken| &taken.head);
    let judged = sources.judged.refused.get(&found.n).cloned();
    let mut refused = judged.or_else(|| refusal(sources.asides, found)).filter(|_| taken.is_none());
    // Whatever an earlier step had left was taken or put aside before the next one was made.
    let is_settled = !is_last || sources.judged.unchanged.contains(&found.n);
    let is_unchanged = found.kind.is_agent() && ended_well && taken.is_none() && is_settled;
    if found.kind.is_check() && ended_well && refused.is_none() && !sources.allow_test_removal {
        refused = fewer(found, &facts, best);
    }
    let mut signature = (found.kind.is_check() && ended.is_some() && !ended_well)
        .then(|| signature::of_record(&found.line, sources.worktree));
    // A check that mends has failed, whatever it says; not so a violation, which a person decides.
    let state = match (state, refused.take_if(|reason| reason.code == Code::CheckChangedFiles)) {
        (StepState::Ended(ended), Some(reason)) => {
            signature = Some(signature::of_message(&found.line, &reason.message));
            StepState::Ended(Ended { outcome: Outcome::Failed, reason: Some(reason), ..ended })
        }
        (state, _) => state,
    };
    let tree_after = taken.map(|head| head.tree.clone());
    Step {
        n: found.n,
        kind: found.kind,
        signature,
        tree_after: tree_after.or_else(|| facts.tree.clone().filter(|_| is_unchanged && refused.is_none())),
        taken: taken.map(|head| head.commit.clone()),
        kills: kills(&attempts(sources.store, &found.line), sources.life_began),
        tool: found.line.job.tool.clone().unwrap_or_else(ToolId::unknown),
        life: facts.life,
        iteration: facts.iteration,
        tree: facts.tree.unwrap_or_default(),
        why: why(facts.why.as_deref()),
        check: facts.check,
        // That of a setup is of its commands, and no check.
        check_digest: facts.check_digest.filter(|_| found.kind != StepKind::Setup),
        state,
        refused,
    }
}

/// The last run of a step.
pub(super) fn run_of(step: &StepFound) -> StepRun {
    StepRun { n: step.n, attempt: step.line.attempts.last().map(|attempt| attempt.attempt) }
}

/// The refusal of the last run of a step, if what it left was put aside with one.
pub(super) fn refusal(asides: &[Aside], found: &StepFound) -> Option<Reason> {
    asides.iter().find(|aside| aside.is_of(run_of(found)))?.refused.clone()
}

/// The judgement of a passing check that ran fewer tests than its best run.
fn fewer(found: &StepFound, facts: &StepFacts, best: &mut BTreeMap<String, Counts>) -> Option<Reason> {
    let counts = counts(&found.line)?;
    let digest = facts.check_digest.clone()?;
    let most = *best.get(&digest).unwrap_or(&counts);
    let vanished = fewer_tests(counts, most, facts.check.as_deref().unwrap_or_default());
    if vanished.is_none() {
        best.insert(digest, counts);
    }
    vanished
}

/// The counts of a run of tests; none of another check.
fn counts(line: &RecordLine) -> Option<Counts> {
    let metadata = &line.result.as_ref()?.metadata;
    let number = |key: &str| metadata.get(key).and_then(Value::as_u64);
    Some(Counts { passed: number("passed")?, skipped: number("skipped")? })
}

/// The state of a step by its record.
fn state(line: &RecordLine) -> StepState {
    if line.open_attempt().is_some() {
        return StepState::Open;
    }
    let last = line.attempts.last();
    let of_result = || line.result.as_ref().and_then(|result| result.reason.clone());
    match (line.status, last.and_then(|last| last.outcome)) {
        (Status::Queued, None) => StepState::Queued,
        (Status::Queued, Some(Outcome::Parked)) => StepState::Parked(line.not_before),
        // Also between two attempts, or before the first.
        (Status::Canceled, _) | (_, None) => StepState::of_end(Outcome::Canceled, of_result(), line.at),
        (_, Some(outcome)) => StepState::of_end(outcome, last.and_then(|last| last.reason.clone()), line.at),
    }
}

/// How many of the last attempts in a row were interrupted since the workstream's life began; those that were stopped or wait
/// neither count nor end the row.
pub(super) fn kills(attempts: &[Attempt], since: Timestamp) -> u32 {
    let mut count = 0;
    for attempt in attempts.iter().rev().take_while(|attempt| attempt.started_at >= since) {
        let code = attempt.reason.as_ref().map(|reason| &reason.code);
        let how = attempt.outcome.and_then(|outcome| interruption(outcome, code));
        match (attempt.outcome, how) {
            (Some(Outcome::Parked), _) | (_, Some(Interruption::Stopped)) => {}
            (None, _) | (_, Some(_)) => count += 1,
            (Some(_), None) => break,
        }
    }
    count
}

/// Every attempt of a step, also those of its former lives: a step that is repeated begins a new one.
fn attempts(store: &Store, line: &RecordLine) -> Vec<Attempt> {
    if line.former.lives == 0 {
        return line.attempts.clone();
    }
    // What cannot be read is a repetition too few in the count, no more.
    let history = store.record_history(&line.job_id).unwrap_or_default();
    let all = history.into_iter().flat_map(|record| record.line.attempts);
    all.map(|attempt| (attempt.attempt, attempt)).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn why(word: Option<&str>) -> Why {
    let known = word.and_then(|word| serde_json::from_value(Value::from(word)).ok());
    known.unwrap_or(Why::Task)
}
