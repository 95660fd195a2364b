//! The events of a run under their historical names, derived from the lines of the journal.
//!
//! At least once, `(job_id, seq)` is the key; one line may give several events, which share it. Incremental: a teller is fed
//! each line as it comes, from the first line of the run on. Reads only; no decision depends on it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::patches;
use crate::clock::Timestamp;
use crate::job::event::{JournalLine, Whereabouts};
use crate::job::step::parse_step_id;
use crate::job::{Code, JobId, JobResult, RecordLine, RunId, RunManifest, SCHEMA_VERSION, Status, StepKind};
use crate::store::Store;
use crate::store::steps::{self, StepFound};

/// The name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventName {
    RunCreated,
    RunStarted,
    RunCompleted,
    RunQuarantined,
    RunCanceled,
    WorkstreamStart,
    WorkstreamEnd,
    StepStarted,
    StepCompleted,
    FixAttempt,
    BreakerTrip,
    ScopeViolation,
    PatchCreated,
    PatchQuarantined,
    MergeConflictDetected,
    BudgetExceeded,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "engine run event")]
pub(crate) struct RunEvent {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// When the record line was written.
    pub at: Timestamp,
    /// The name.
    pub event: EventName,
    /// The run.
    pub run_id: RunId,
    /// The workstream; null where the event is of the run as a whole.
    pub ws_id: Option<String>,
    /// The job whose record says so.
    pub job_id: JobId,
    /// The number of the record line.
    pub seq: u64,
    /// What belongs to the event.
    pub payload: Map<String, Value>,
}

impl EventName {
    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RunCreated => "run_created",
            Self::RunStarted => "run_started",
            Self::RunCompleted => "run_completed",
            Self::RunQuarantined => "run_quarantined",
            Self::RunCanceled => "run_canceled",
            Self::WorkstreamStart => "workstream_start",
            Self::WorkstreamEnd => "workstream_end",
            Self::StepStarted => "step_started",
            Self::StepCompleted => "step_completed",
            Self::FixAttempt => "fix_attempt",
            Self::BreakerTrip => "breaker_trip",
            Self::ScopeViolation => "scope_violation",
            Self::PatchCreated => "patch_created",
            Self::PatchQuarantined => "patch_quarantined",
            Self::MergeConflictDetected => "merge_conflict_detected",
            Self::BudgetExceeded => "budget_exceeded",
        }
    }
}

/// What a job of a run is.
enum Part {
    /// A workstream.
    Workstream,
    /// The integration.
    Integration,
    /// A step of one.
    Step { n: u32, kind: StepKind },
}

/// Makes events of journal lines.
#[derive(Debug)]
pub(crate) struct Teller {
    run: RunId,
    base: String,
    /// The workstreams, by their jobs.
    workstreams: BTreeMap<JobId, String>,
    /// The job that integrates them; none of a run of one.
    integration: Option<JobId>,
    /// The job whose acceptance and end are those of the run.
    decides: Option<JobId>,
    has_started: bool,
    seen: BTreeSet<(JobId, u64)>,
    started: BTreeSet<(JobId, u32)>,
}

impl Teller {
    /// Before the first line of a run. A run of exactly one workstream has no job of its own: the workstream stands for it.
    #[must_use]
    pub(crate) fn new(manifest: &RunManifest) -> Self {
        let run = manifest.run_id.clone();
        let names = manifest.order.iter().map(|ordered| ordered.ws_id.clone());
        let workstreams: BTreeMap<JobId, String> =
            names.filter_map(|name| Some((run.job_of(&name).ok()?, name))).collect();
        let integration = manifest.integration_job();
        let decides = integration.clone().or_else(|| workstreams.keys().next().cloned());
        let base = manifest.base.commit.clone();
        let (seen, started) = (BTreeSet::new(), BTreeSet::new());
        Self { run, base, workstreams, integration, decides, has_started: false, seen, started }
    }

    /// The events of a line; none for a line of another run, and for one that was told before.
    pub(crate) fn tell(&mut self, store: &Store, line: &JournalLine) -> Vec<RunEvent> {
        let is_retirement = matches!(line.place, Whereabouts::Archive(_));
        if is_retirement || RunId::of_job(&line.job_id).as_ref() != Some(&self.run) {
            return Vec::new();
        }
        let Some((part, ws_id)) = self.part(&line.job_id) else { return Vec::new() };
        if !self.seen.insert((line.job_id.clone(), line.seq)) {
            return Vec::new();
        }
        let record = || store.read_line(&line.job_id).ok().flatten();
        let told = match part {
            Part::Workstream | Part::Integration => self.of_job(line, &part, &record),
            Part::Step { n, kind } => {
                self.of_step(line, &|| Some(steps::with_facts(store, (n, kind), record()?)), (n, kind))
            }
        };
        let event = |(event, payload): (EventName, Map<String, Value>)| RunEvent {
            schema_version: SCHEMA_VERSION,
            at: line.at,
            event,
            run_id: self.run.clone(),
            ws_id: ws_id.clone().filter(|_| !is_of_run(event)),
            job_id: line.job_id.clone(),
            seq: line.seq,
            payload,
        };
        told.into_iter().map(event).collect()
    }

    /// What a job is, and the workstream that it belongs to.
    fn part(&self, id: &JobId) -> Option<(Part, Option<String>)> {
        if self.integration.as_ref() == Some(id) {
            return Some((Part::Integration, None));
        }
        if let Some(name) = self.workstreams.get(id) {
            return Some((Part::Workstream, Some(name.clone())));
        }
        let (parent, n, kind) = parse_step_id(id)?;
        let name = self.workstreams.get(&parent).cloned();
        let is_of_run = name.is_some() || self.integration == Some(parent);
        is_of_run.then_some((Part::Step { n, kind }, name))
    }

    /// True for the first line of an attempt: others follow while it is open.
    fn starts(&mut self, line: &JournalLine) -> bool {
        let open = line.attempt.filter(|_| line.status == Status::Running && line.outcome.is_none());
        open.is_some_and(|attempt| self.started.insert((line.job_id.clone(), attempt)))
    }

    fn of_job(
        &mut self,
        line: &JournalLine,
        part: &Part,
        record: &dyn Fn() -> Option<RecordLine>,
    ) -> Vec<(EventName, Map<String, Value>)> {
        let decides = self.decides.as_ref() == Some(&line.job_id);
        let mut told = Vec::new();
        if line.seq == 1 && decides {
            let payload = object(json!({"workstreams": self.workstreams.len(), "base": self.base}));
            told.push((EventName::RunCreated, payload));
        }
        if self.starts(line) {
            if !self.has_started {
                self.has_started = true;
                told.push((EventName::RunStarted, Map::new()));
            }
            let start = (EventName::WorkstreamStart, object(json!({"attempt": line.attempt})));
            told.extend(Some(start).filter(|_| matches!(part, Part::Workstream)));
        }
        if line.status.is_terminal() {
            let result = record().filter(|record| record.seq == line.seq).and_then(|record| record.result);
            let message = result.as_ref().and_then(|result| Some(result.reason.as_ref()?.message.clone()));
            match part {
                Part::Integration => told.extend(result.as_ref().map(conflicts).unwrap_or_default()),
                _ => told.extend(ends(line, message.as_deref())),
            }
            if decides {
                let status = result.as_ref().and_then(|result| result.metadata.get("run_status"));
                let status = status.cloned().unwrap_or_else(|| json!(line.status));
                told.extend(run_ends(line, &status, message.as_deref()));
            }
        }
        told
    }

    fn of_step(
        &mut self,
        line: &JournalLine,
        step: &dyn Fn() -> Option<StepFound>,
        (n, kind): (u32, StepKind),
    ) -> Vec<(EventName, Map<String, Value>)> {
        let starts = self.starts(line);
        if !starts && !line.status.is_terminal() {
            return Vec::new();
        }
        let step = step();
        let facts = step.as_ref().and_then(|step| step.facts.as_ref());
        let name = facts.and_then(|facts| facts.name.as_ref().or(facts.check.as_ref()));
        let iteration = facts.map(|facts| facts.iteration);
        let common = json!({
            "n": n, "kind": kind, "name": name, "iteration": iteration, "tool": line.tool, "attempt": line.attempt,
        });
        if starts {
            let why = facts.and_then(|facts| facts.why.clone());
            let mut told = vec![(EventName::StepStarted, with(common.clone(), json!({"why": why})))];
            if kind == StepKind::Fix {
                told.push((EventName::FixAttempt, object(common)));
            }
            return told;
        }
        let took = step.as_ref().and_then(|step| took(&step.line, line.attempt));
        let end = json!({
            "status": line.status, "outcome": line.outcome, "reason_code": line.reason_code, "duration_s": took,
        });
        let mut told = vec![(EventName::StepCompleted, with(common, end))];
        if step.as_ref().is_some_and(|step| patches::left_change(step, false).is_some()) {
            told.push((EventName::PatchCreated, object(json!({"patch_id": line.job_id, "kind": kind}))));
        }
        told
    }
}

/// True for an event of the run as a whole.
fn is_of_run(event: EventName) -> bool {
    matches!(
        event,
        EventName::RunCreated
            | EventName::RunStarted
            | EventName::RunCompleted
            | EventName::RunQuarantined
            | EventName::RunCanceled
    )
}

/// The conflicts that an integration ended with.
fn conflicts(result: &JobResult) -> Vec<(EventName, Map<String, Value>)> {
    let found = result.metadata.get("conflicts").and_then(Value::as_array).map(Vec::as_slice);
    let one = |conflict: &Value| (EventName::MergeConflictDetected, object(conflict.clone()));
    found.unwrap_or_default().iter().map(one).collect()
}

fn took(record: &RecordLine, attempt: Option<u32>) -> Option<f64> {
    let found = record.attempts.iter().find(|one| Some(one.attempt) == attempt)?;
    Some(found.ended_at?.since(found.started_at).as_secs_f64())
}

/// What the end of a workstream means, and the end itself.
fn ends(line: &JournalLine, message: Option<&str>) -> Vec<(EventName, Map<String, Value>)> {
    let code = line.reason_code.as_ref();
    let payload = object(json!({"reason": code, "message": message}));
    let mut told: Vec<_> = code.and_then(meaning).into_iter().map(|name| (name, payload.clone())).collect();
    if line.status == Status::Quarantined && code.is_some_and(is_violation) {
        told.push((EventName::PatchQuarantined, payload.clone()));
    }
    told.push((
        EventName::WorkstreamEnd,
        object(json!({"final_status": line.status, "reason": code, "message": message})),
    ));
    told
}

/// The event that a reason of a workstream's end is told as.
fn meaning(code: &Code) -> Option<EventName> {
    match &*code.as_str() {
        "oscillation" | "no_progress" | "fix_limit" | "fix_disabled" | "attempt_limit" => {
            Some(EventName::BreakerTrip)
        }
        "scope_violation" => Some(EventName::ScopeViolation),
        "budget_exceeded" => Some(EventName::BudgetExceeded),
        _ => None,
    }
}

/// True for a reason that is about what an agent changed.
fn is_violation(code: &Code) -> bool {
    const VIOLATIONS: [&str; 7] = [
        "scope_violation",
        "git_dir_changed",
        "submodule_changed",
        "gate_tampered",
        "tests_vanished",
        "tree_not_clean",
        "patch_policy",
    ];
    VIOLATIONS.contains(&&*code.as_str())
}

/// The end of a run. Its integration fails also where a workstream was canceled or quarantined, and says what that makes of
/// the run.
fn run_ends(
    line: &JournalLine,
    status: &Value,
    message: Option<&str>,
) -> Vec<(EventName, Map<String, Value>)> {
    let reason = object(json!({"reason": line.reason_code, "message": message}));
    let first = match status.as_str() {
        Some("quarantined") => Some((EventName::RunQuarantined, reason)),
        Some("canceled") => Some((EventName::RunCanceled, reason)),
        _ => None,
    };
    let end = (EventName::RunCompleted, object(json!({"status": status})));
    first.into_iter().chain([end]).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn with(value: Value, more: Value) -> Map<String, Value> {
    let mut map = object(value);
    map.extend(object(more));
    map
}
