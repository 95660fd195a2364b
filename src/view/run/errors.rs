//! The failures of a run's steps, the same ones counted together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{RunFacts, WorkstreamFacts};
use crate::clock::Timestamp;
use crate::fix_loop::signature;
use crate::job::{Attempt, Code, Outcome};
use crate::store::steps::StepFound;

/// A failure that one or more steps ended with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Failure {
    /// What tells the failure of a check from others, hexadecimal; null for another step.
    pub signature: Option<String>,
    /// The word of its reason.
    pub kind: Code,
    /// How many steps ended with it.
    pub count: u32,
    /// When the first of them ended.
    pub first_seen: Timestamp,
    /// When the last of them ended.
    pub last_seen: Timestamp,
    /// The reason of the last of them, as a sentence.
    pub message: String,
}

/// The failures of all steps, those of gates and of the integration among them, the first one first. Those with one kind of step, check, reason and signature are one.
#[must_use]
pub(super) fn of_run<'a>(facts: &'a RunFacts) -> Vec<Failure> {
    let mut found: BTreeMap<[String; 4], Failure> = BTreeMap::new();
    let of_one = |workstream: &'a WorkstreamFacts| {
        workstream.steps.iter().filter_map(move |step| Some((workstream, step, failed(step)?)))
    };
    for (workstream, step, attempt) in facts.jobs().flat_map(of_one) {
        let Some((reason, ended_at)) = attempt.reason.as_ref().zip(attempt.ended_at) else { continue };
        let check = step.facts.as_ref().and_then(|facts| facts.check.clone()).unwrap_or_default();
        let signature = step.kind.is_check().then(|| {
            let worktree = workstream.job.as_ref().and_then(|job| job.worktree.as_deref());
            signature::of_record(&step.line, worktree.unwrap_or_default())
        });
        let told = signature.clone().unwrap_or_default();
        let key = [step.kind.to_string(), check, reason.code.to_string(), told];
        let failure = found.entry(key).or_insert_with(|| Failure {
            signature,
            kind: reason.code.clone(),
            count: 0,
            first_seen: ended_at,
            last_seen: ended_at,
            message: String::new(),
        });
        failure.count += 1;
        failure.first_seen = failure.first_seen.min(ended_at);
        failure.last_seen = failure.last_seen.max(ended_at);
        failure.message.clone_from(&reason.message);
    }
    let mut all: Vec<Failure> = found.into_values().collect();
    all.sort_by_key(|failure| failure.first_seen);
    all
}

/// The last attempt of a step, if it ended badly by itself.
fn failed(step: &StepFound) -> Option<&Attempt> {
    let last = step.line.attempts.last()?;
    let is_failure = match last.outcome? {
        Outcome::Succeeded | Outcome::Canceled | Outcome::Parked => false,
        Outcome::Failed
        | Outcome::TimedOut
        | Outcome::Stalled
        | Outcome::Killed
        | Outcome::Lost
        | Outcome::NotStarted
        | Outcome::Invalid => true,
    };
    is_failure.then_some(last)
}

/// How often each kind of failure occurred.
#[must_use]
pub(super) fn frequency(failures: &[Failure]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for failure in failures {
        *counts.entry(failure.kind.to_string()).or_default() += failure.count;
    }
    counts
}
