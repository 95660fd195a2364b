//! The payloads of the events of a run, and the events that an end is reported as: from a journal line and its record.

use serde_json::{Map, Value, json};

use super::event_name::EventName;
use crate::job::event::JournalLine;
use crate::job::{Code, JobId, JobResult, RecordLine, Status, StepKind};

/// An event without what all of them have.
pub(super) type Told = (EventName, Map<String, Value>);

/// The conflicts that an integration ended with.
pub(super) fn conflicts(result: &JobResult) -> Vec<Told> {
    let found = result.metadata.get("conflicts").and_then(Value::as_array).map(Vec::as_slice);
    let one = |conflict: &Value| (EventName::MergeConflictDetected, object(conflict.clone()));
    found.unwrap_or_default().iter().map(one).collect()
}

pub(super) fn took(record: &RecordLine, attempt: Option<u32>) -> Option<f64> {
    let found = record.attempts.iter().find(|one| Some(one.attempt) == attempt)?;
    Some(found.ended_at?.since(found.started_at).as_secs_f64())
}

/// A job waits by itself for a quota, a service or the machine.
pub(super) fn paused(line: &JournalLine, record: Option<&RecordLine>) -> Told {
    let reason = record.and_then(|record| record.attempts.last()?.reason.as_ref());
    let until = record.and_then(|record| record.not_before);
    let message = reason.map(|reason| reason.message.clone());
    let payload = json!({"reason": line.reason_code, "message": message, "not_before": until});
    (EventName::JobPaused, object(payload))
}

/// True if a workstream ended with the change of this step put aside.
pub(super) fn is_aside(result: Option<&JobResult>, n: u32) -> bool {
    let aside = result.and_then(|result| result.metadata.get("put_aside")?.as_array());
    let ending = format!("/{n:02}");
    aside.into_iter().flatten().any(|one| one.as_str().is_some_and(|one| one.ends_with(&ending)))
}

pub(super) fn patch(step: &JobId, kind: StepKind) -> Told {
    (EventName::PatchCreated, object(json!({"patch_id": step, "kind": kind})))
}

/// The payload of the end of a workstream or of the integration.
pub(super) fn end(line: &JournalLine, message: Option<&str>) -> Map<String, Value> {
    object(json!({"final_status": line.status, "reason": line.reason_code, "message": message}))
}

/// What the end of a workstream means, and the end itself.
pub(super) fn ends(line: &JournalLine, message: Option<&str>) -> Vec<Told> {
    let code = line.reason_code.as_ref();
    let payload = object(json!({"reason": code, "message": message}));
    let mut told: Vec<_> = code.and_then(meaning).into_iter().map(|name| (name, payload.clone())).collect();
    if line.status == Status::Quarantined && code.is_some_and(is_violation) {
        told.push((EventName::PatchQuarantined, payload.clone()));
    }
    told.push((EventName::WorkstreamEnd, end(line, message)));
    told
}

/// The event that stands for the reason of a workstream's end.
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
pub(super) fn run_ends(line: &JournalLine, status: &Value, message: Option<&str>) -> Vec<Told> {
    let reason = object(json!({"reason": line.reason_code, "message": message}));
    let first = match status.as_str() {
        Some("quarantined") => Some((EventName::RunQuarantined, reason)),
        Some("canceled") => Some((EventName::RunCanceled, reason)),
        _ => None,
    };
    let end = (EventName::RunCompleted, object(json!({"status": status})));
    first.into_iter().chain([end]).collect()
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn with(value: Value, more: Value) -> Map<String, Value> {
    let mut map = object(value);
    map.extend(object(more));
    map
}
