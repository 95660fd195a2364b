//! The document of `engine runs show --json`, and its text's source: a pure fold of what is known of a run.
//!
//! Its shape is final. What no record says is null.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::errors::{self, Failure};
use super::integration::{self, GateDocument, IntegrationDocument};
use super::patches::{self, PatchState};
use super::status::{RunStatus, WorkstreamStatus};
use super::usage::{self, BudgetStatus, Usage};
use super::{RunFacts, WorkstreamFacts, why};
use crate::clock::Timestamp;
use crate::job::run::{Base, Origin};
use crate::job::{Code, JobId, Outcome, Reason, RunId, SCHEMA_VERSION, Status, StepKind};
use crate::store::steps::StepFound;

/// A run, as its manifest and the records of its jobs say.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "engine run")]
pub(crate) struct RunDocument {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// The run.
    pub run_id: RunId,
    /// Its status.
    pub status: RunStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When the last of its jobs ended; null while something can still move.
    pub finished_at: Option<Timestamp>,
    /// From the first start to the last end, in seconds.
    pub duration_s: Option<f64>,
    /// A person's word that nothing of it may be used; null if there is none.
    pub quarantine: Option<QuarantineDocument>,
    /// The commit that it builds on.
    pub base: Base,
    /// What caused it.
    pub origin: Origin,
    /// The options that were given.
    pub options: Map<String, Value>,
    /// How much there was of what.
    pub counters: Counters,
    /// Its workstreams, in plan order.
    pub workstreams: Vec<WorkstreamDocument>,
    /// Its gates, which must succeed before workstreams start.
    pub gates: Vec<GateDocument>,
    /// Its integration; null for a run without one.
    pub integration: Option<IntegrationDocument>,
    /// Sums.
    pub metrics: Metrics,
    /// The failures of its steps, the same ones counted together, the first one first.
    pub errors: Vec<Failure>,
    /// Hints for a person, in the order in which they are followed: commands, some with a word of explanation.
    pub next: Vec<String>,
}

/// A person's word that nothing of a run may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct QuarantineDocument {
    /// Why.
    pub reason: String,
    /// When it was said.
    pub at: Timestamp,
    /// When a person took it back; null while it holds.
    pub acknowledged_at: Option<Timestamp>,
}

/// How much there was of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Counters {
    /// Attempts of steps.
    pub step_attempts: u32,
    /// Changes that agents left.
    pub patches_created: u32,
    /// Of these, those that were taken.
    pub patches_applied: u32,
    /// Steps that failed.
    pub errors: u32,
}

/// A workstream of a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WorkstreamDocument {
    /// The workstream.
    pub ws_id: String,
    /// Its job.
    pub job_id: JobId,
    /// Its status.
    pub status: WorkstreamStatus,
    /// Why it has that status.
    pub reason: Option<Reason>,
    /// The adapter that edits.
    pub tool: Option<String>,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended; null while it has not.
    pub finished_at: Option<Timestamp>,
    /// From the first start to the end, in seconds.
    pub duration_s: Option<f64>,
    /// Its wave, from 1.
    pub wave: Option<u32>,
    /// The workstreams that must have succeeded first.
    pub depends_on: Vec<String>,
    /// The workstreams that must be at rest first.
    pub after: Vec<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// Its worktree.
    pub worktree: Option<String>,
    /// The commit that it builds on.
    pub base: Option<String>,
    /// The commit that was taken last.
    pub head: Option<String>,
    /// It does not go on before this time.
    pub not_before: Option<Timestamp>,
    /// Its steps.
    pub steps: Vec<StepDocument>,
    /// How many fixes its last life had, by the kind of check.
    pub fixes: Option<Value>,
    /// How many files the branch changes.
    pub files_changed: Option<u64>,
    /// How many lines it adds.
    pub insertions: Option<u64>,
    /// How many lines it takes away.
    pub deletions: Option<u64>,
    /// The breaker that ended it.
    pub breaker: Option<Value>,
    /// What its agents used; null where no agent reported anything.
    pub usage: Option<Usage>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The references of what was put aside, for the text alone.
    #[serde(skip)]
    pub put_aside: Vec<String>,
    /// Its job file, likewise.
    #[serde(skip)]
    pub job_file: Option<String>,
    /// The command that takes away the hold that keeps it, likewise.
    #[serde(skip)]
    pub release: Option<String>,
}

/// A step of a workstream.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StepDocument {
    /// Its number, from 1.
    pub n: u32,
    /// What it does.
    pub kind: StepKind,
    /// The name of its check.
    pub name: Option<String>,
    /// Its job.
    pub job_id: JobId,
    /// The status of that.
    pub status: Status,
    /// How its last attempt ended; null while it is open.
    pub outcome: Option<Outcome>,
    /// The word of the reason.
    pub reason_code: Option<Code>,
    /// Which fix it belongs to, from 1; 0 before the first.
    pub iteration: Option<u32>,
    /// How many attempts it had.
    pub attempts: u32,
    /// When the last of them started.
    pub started_at: Option<Timestamp>,
    /// How long that took, in seconds.
    pub duration_s: Option<f64>,
    /// The log of that.
    pub log_path: Option<String>,
    /// The tree that it ran on.
    pub tree: Option<String>,
}

/// Sums over a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Metrics {
    /// As `duration_s`.
    pub total_duration_s: Option<f64>,
    /// US dollars, as far as they are known.
    pub total_cost_usd: Option<f64>,
    /// Tokens, as far as they are known.
    pub total_tokens: Option<u64>,
    /// How many workstreams succeeded.
    pub workstreams_completed: u32,
    /// How many ended without success, or are blocked.
    pub workstreams_failed: u32,
    /// How many waves were planned.
    pub wave_count: Option<u32>,
    /// How long a wave took, in seconds.
    pub avg_wave_duration_s: Option<f64>,
    /// How many fixes were tried.
    pub fix_rounds: u32,
    /// How many conflicts the integration found.
    pub merge_conflicts: Option<u32>,
    /// How many gates failed: checks of the gates and of the merged tree.
    pub test_gate_failures: Option<u32>,
    /// ok, warning or exceeded; null without a budget of the run.
    pub budget_status: Option<BudgetStatus>,
    /// How often each kind of failure occurred.
    pub error_frequency: BTreeMap<String, u32>,
}

/// The document of a run. What is next is for the caller to say, who knows what is merged.
#[must_use]
pub(crate) fn document(facts: &RunFacts) -> RunDocument {
    let manifest = &facts.manifest;
    let status = RunStatus::of(facts);
    let started_at = facts.jobs().filter_map(|job| job.started_at).min();
    let ends = facts.jobs().filter_map(|job| job.line.as_ref());
    let ends = ends.filter(|line| line.status.is_terminal()).map(|line| line.at);
    let finished_at = ends.max().filter(|_| status.is_at_rest());
    let duration_s = started_at.zip(finished_at).map(|(start, end)| end.since(start).as_secs_f64());
    let failures = errors::of_run(facts);
    RunDocument {
        schema_version: SCHEMA_VERSION,
        run_id: manifest.run_id.clone(),
        status,
        created_at: manifest.created_at,
        started_at,
        finished_at,
        duration_s,
        quarantine: facts.quarantine.as_ref().map(|word| QuarantineDocument {
            reason: word.reason.clone(),
            at: word.at,
            acknowledged_at: word.acknowledged_at,
        }),
        base: manifest.base.clone(),
        origin: manifest.origin.clone(),
        options: manifest.options.clone(),
        counters: counters(facts, &failures),
        workstreams: facts.workstreams.iter().map(|one| workstream(facts, one)).collect(),
        gates: facts.gates.iter().map(|one| integration::gate(facts, one)).collect(),
        integration: facts.integration.as_ref().map(|one| integration::document(facts, one)),
        metrics: metrics(facts, duration_s, &failures),
        errors: failures,
        next: Vec::new(),
    }
}

fn counters(facts: &RunFacts, failures: &[Failure]) -> Counters {
    let steps = facts.jobs().flat_map(|job| &job.steps);
    let patches = patches::of_run(facts);
    let applied = patches.iter().filter(|patch| patch.has_been(PatchState::Applied)).count();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Counters {
        step_attempts: steps.map(|step| step.line.next_attempt().saturating_sub(1)).sum(),
        patches_created: count(patches.len()),
        patches_applied: count(applied),
        errors: failures.iter().map(|failure| failure.count).sum(),
    }
}

fn workstream(facts: &RunFacts, one: &WorkstreamFacts) -> WorkstreamDocument {
    let status = WorkstreamStatus::of(one);
    let number = |key: &str| one.told_value(key).and_then(Value::as_u64);
    let base = || one.job.as_ref()?.base().map(str::to_owned);
    let begun = || one.started_at.map(|_| format!("engine/{}/{}", facts.run_id(), one.ordered.ws_id));
    let ended = one.line.as_ref().filter(|line| line.status.is_terminal());
    let finished_at = ended.map(|line| line.at);
    let took = one.started_at.zip(finished_at).map(|(start, end)| end.since(start).as_secs_f64());
    let waits = one.line.as_ref().filter(|line| line.status == Status::Queued);
    WorkstreamDocument {
        ws_id: one.ordered.ws_id.clone(),
        job_id: one.id.clone(),
        status,
        reason: why::reason(facts, one, status),
        tool: one.job.as_ref().and_then(|job| job.tool().map(str::to_owned)),
        started_at: one.started_at,
        finished_at,
        duration_s: took,
        wave: one.ordered.wave,
        depends_on: one.ordered.depends_on.clone(),
        after: one.ordered.after.clone(),
        branch: one.told_text("branch").or_else(begun),
        worktree: worktree(one),
        base: one.told_text("base").or_else(base),
        head: one.told_text("head"),
        not_before: waits.and_then(|line| line.waits_until(facts.now)),
        steps: one.steps.iter().map(step).collect(),
        fixes: one.told_value("fixes").cloned(),
        files_changed: number("files_changed"),
        insertions: number("insertions"),
        deletions: number("deletions"),
        breaker: one.told_value("breaker").cloned(),
        usage: usage::of(usage::of_workstream(&facts.ledger, &one.id)),
        warnings: why::warnings(one),
        put_aside: one.put_aside_refs(),
        job_file: one.job_file.as_ref().map(|path| path.display().to_string()),
        release: why::release(one),
    }
}

/// The worktree: as its conductor said, which may have removed it; before that, as its job names it.
fn worktree(one: &WorkstreamFacts) -> Option<String> {
    if one.told().is_some_and(|told| told.contains_key("worktree")) {
        return one.told_text("worktree");
    }
    one.started_at.and_then(|_| one.job.as_ref()?.worktree.clone())
}

fn step(found: &StepFound) -> StepDocument {
    let last = found.line.attempts.last();
    let facts = found.facts.as_ref();
    StepDocument {
        n: found.n,
        kind: found.kind,
        name: facts.and_then(|facts| facts.name.clone().or_else(|| facts.check.clone())),
        job_id: found.id.clone(),
        status: found.line.status,
        outcome: last.and_then(|attempt| attempt.outcome),
        reason_code: last.and_then(|attempt| attempt.reason.as_ref()).map(|reason| reason.code.clone()),
        iteration: facts.map(|facts| facts.iteration),
        attempts: found.line.next_attempt().saturating_sub(1),
        started_at: last.map(|attempt| attempt.started_at),
        duration_s: last.and_then(integration::took),
        log_path: last.and_then(|attempt| attempt.log_path.clone()),
        tree: facts.and_then(|facts| facts.tree.clone()),
    }
}

fn metrics(facts: &RunFacts, duration_s: Option<f64>, failures: &[Failure]) -> Metrics {
    let total = usage::of(&facts.ledger);
    let statuses: Vec<WorkstreamStatus> = facts.workstreams.iter().map(WorkstreamStatus::of).collect();
    let count = |wanted: &[WorkstreamStatus]| {
        let found = statuses.iter().filter(|status| wanted.contains(status)).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    let steps = facts.workstreams.iter().flat_map(|workstream| &workstream.steps);
    let fixes = steps.filter(|step| step.kind == StepKind::Fix).count();
    let total_cost_usd = total.and_then(|total| total.cost_usd);
    Metrics {
        total_duration_s: duration_s,
        total_cost_usd,
        total_tokens: total.and_then(|total| total.tokens),
        workstreams_completed: count(&[WorkstreamStatus::Succeeded]),
        workstreams_failed: count(&[
            WorkstreamStatus::Failed,
            WorkstreamStatus::Quarantined,
            WorkstreamStatus::Canceled,
            WorkstreamStatus::Blocked,
        ]),
        wave_count: facts.workstreams.iter().filter_map(|workstream| workstream.ordered.wave).max(),
        avg_wave_duration_s: None,
        fix_rounds: u32::try_from(fixes).unwrap_or(u32::MAX),
        merge_conflicts: facts.integration.as_ref().and_then(integration::conflicts),
        test_gate_failures: integration::failed_gates(facts),
        budget_status: budget(facts, total_cost_usd),
        error_frequency: errors::frequency(failures),
    }
}

/// How near the run is to what it may cost; what no one has reported cannot exceed that. A person may have changed it in the
/// job files since the run was made.
fn budget(facts: &RunFacts, spent: Option<f64>) -> Option<BudgetStatus> {
    let asked = facts.manifest.options.get("max_cost_usd").and_then(Value::as_f64);
    let of_jobs = facts.workstreams.iter().filter_map(|one| one.job.as_ref()?.run_max_cost_usd());
    let most = of_jobs.reduce(f64::max).or(asked)?;
    Some(BudgetStatus::of(spent.unwrap_or(0.0), most))
}
