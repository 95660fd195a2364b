//! The integration of a run in its document: a pure fold of what its job said and of its steps.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::status::WorkstreamStatus;
use super::{RunFacts, WorkstreamFacts, why};
use crate::job::{Attempt, JobId, Reason, Status};

/// The integration of a run: what its workstreams become on one branch.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct IntegrationDocument {
    /// Its job.
    pub job_id: JobId,
    /// The status of that.
    pub status: WorkstreamStatus,
    /// Why it has that status.
    pub reason: Option<Reason>,
    /// Its branch; null before it is made.
    pub branch: Option<String>,
    /// The commit that the branch was built to; null before that.
    pub commit: Option<String>,
    /// The workstreams that are merged, in their order.
    pub merged: Vec<String>,
    /// Those that are not, because of another one: `{ws_id, with, type, path}`, one for each path.
    pub conflicts: Vec<Value>,
    /// Those that are not, because they build on one that is not.
    pub skipped: Vec<String>,
    /// How long its steps took together, in seconds; null where none has ended.
    pub duration_s: Option<f64>,
    /// The checks of the merged tree, each as its last run ended.
    pub checks: Vec<CheckDocument>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The step whose log says why it failed, for the text alone.
    #[serde(skip)]
    pub failed_step: Option<JobId>,
    /// The command that takes away the hold that keeps it, likewise.
    #[serde(skip)]
    pub release: Option<String>,
}

/// A check, and how its last run ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct CheckDocument {
    /// Its name.
    pub name: String,
    /// The status of its job.
    pub status: Status,
    /// The job of its last run, whose log says more.
    pub job_id: JobId,
    /// How long the last attempt of that took, in seconds.
    pub duration_s: Option<f64>,
}

/// A gate of a run: checks that must pass before workstreams start.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct GateDocument {
    /// Its job.
    pub job_id: JobId,
    /// The status of that.
    pub status: WorkstreamStatus,
    /// Why it has that status.
    pub reason: Option<Reason>,
    /// How long its steps took together, in seconds; null where none has ended.
    pub duration_s: Option<f64>,
    /// Its checks, each as its last run ended.
    pub checks: Vec<CheckDocument>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The step whose log says why it failed, for the text alone.
    #[serde(skip)]
    pub failed_step: Option<JobId>,
    /// The command that takes away the hold that keeps it, likewise.
    #[serde(skip)]
    pub release: Option<String>,
}

impl GateDocument {
    /// Its name: that of its job behind the run.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.job_id.as_str().split_once('.').map_or("", |(_, name)| name)
    }
}

/// The document of a gate.
#[must_use]
pub(super) fn gate(facts: &RunFacts, one: &WorkstreamFacts) -> GateDocument {
    let status = WorkstreamStatus::of(one);
    GateDocument {
        job_id: one.id.clone(),
        status,
        reason: why::reason(facts, one, status),
        checks: checks(one),
        warnings: why::warnings(one),
        failed_step: failed_step(one),
        duration_s: worked(one),
        release: why::release(one),
    }
}

/// How long an attempt took, in seconds; none while it is open.
pub(super) fn took(attempt: &Attempt) -> Option<f64> {
    Some(attempt.ended_at?.since(attempt.started_at).as_secs_f64())
}

/// How long the steps of a job took together; none where none has ended.
fn worked(one: &WorkstreamFacts) -> Option<f64> {
    let took: Vec<f64> = one.steps.iter().filter_map(|step| took(step.line.attempts.last()?)).collect();
    (!took.is_empty()).then(|| took.iter().sum())
}

/// The last step that did not succeed.
fn failed_step(one: &WorkstreamFacts) -> Option<JobId> {
    let failed = one.steps.iter().rev().find(|step| step.line.status != Status::Succeeded);
    failed.map(|step| step.id.clone())
}

/// How many gates failed: checks of the gates and of the merged tree, each as its last run ended, and gates that failed
/// without one. None of a run that has neither.
#[must_use]
pub(super) fn failed_gates(facts: &RunFacts) -> Option<u32> {
    let has_failed = |check: &CheckDocument| matches!(check.status, Status::Failed | Status::Quarantined);
    let checks = |one: &WorkstreamFacts| checks(one).iter().filter(|check| has_failed(check)).count();
    let of_gate = |one: &WorkstreamFacts| {
        let status = WorkstreamStatus::of(one);
        let is_failed = matches!(status, WorkstreamStatus::Failed | WorkstreamStatus::Quarantined);
        // Of a gate that is to run again nothing is known yet.
        if is_failed { checks(one).max(1) } else { 0 }
    };
    let has_gate = facts.gates.iter().chain(&facts.integration).any(|one| !self::checks(one).is_empty());
    let failed =
        facts.gates.iter().map(of_gate).sum::<usize>() + facts.integration.as_ref().map_or(0, checks);
    let count = u32::try_from(failed).unwrap_or(u32::MAX);
    (has_gate || !facts.gates.is_empty()).then_some(count)
}

/// The checks of a job that has no task, each as its last run ended.
fn checks(one: &WorkstreamFacts) -> Vec<CheckDocument> {
    let mut checks: Vec<CheckDocument> = Vec::new();
    for step in one.steps.iter().filter(|step| step.kind.is_check()) {
        let check = step.facts.as_ref().and_then(|facts| facts.check.clone());
        let name = check.unwrap_or_else(|| step.kind.to_string());
        let duration_s = step.line.attempts.last().and_then(took);
        let check = CheckDocument { name, status: step.line.status, job_id: step.id.clone(), duration_s };
        // A later run of the same check outranks the one before.
        match checks.iter_mut().find(|known| known.name == check.name) {
            Some(known) => *known = check,
            None => checks.push(check),
        }
    }
    checks
}

/// The document of the integration of a run.
#[must_use]
pub(super) fn document(facts: &RunFacts, one: &WorkstreamFacts) -> IntegrationDocument {
    let status = WorkstreamStatus::of(one);
    let list = |key: &str| one.told_value(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let names = |key: &str| list(key).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    IntegrationDocument {
        job_id: one.id.clone(),
        status,
        reason: why::reason(facts, one, status),
        branch: one.told_text("branch"),
        commit: one.told_text("commit"),
        merged: names("merged"),
        conflicts: list("conflicts"),
        skipped: names("skipped"),
        checks: checks(one),
        warnings: why::warnings(one),
        failed_step: failed_step(one),
        duration_s: worked(one),
        release: why::release(one),
    }
}

/// How many conflicts the integration found; none before it ended once.
#[must_use]
pub(super) fn conflicts(integration: &WorkstreamFacts) -> Option<u32> {
    let found = integration.told_value("conflicts")?.as_array()?.len();
    Some(u32::try_from(found).unwrap_or(u32::MAX))
}
