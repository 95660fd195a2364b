//! A run and its events as text for people, for every verb that shows them.

use serde_json::Value;

use super::print;
use crate::job::{Code, Outcome, RunId, Status};
use crate::view::run::document::{RunDocument, StepDocument, WorkstreamDocument};
use crate::view::run::events::RunEvent;
use crate::view::run::status::{RunStatus, WorkstreamStatus};

/// A run for people: status, workstreams with their steps, what to do next.
pub(super) fn describe(run: &RunDocument) -> Vec<String> {
    let commit: String = run.base.commit.chars().take(12).collect();
    let name = run.base.reference.as_deref().map(|name| name.trim_start_matches("refs/heads/"));
    let base = name.map_or_else(|| commit.clone(), |name| format!("{name} at {commit}"));
    let mut lines = vec![format!("{}  {}", run.run_id, run.status)];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    row("created", run.created_at.to_string());
    row("base", base);
    if let Some(seconds) = run.duration_s {
        row("took", format!("{seconds:.1} s"));
    }
    if let Some(used) = used(run.metrics.total_cost_usd, run.metrics.total_tokens) {
        row("used", used);
    }
    for workstream in &run.workstreams {
        lines.push(String::new());
        lines.extend(describe_workstream(workstream));
    }
    let next: Vec<String> =
        run.workstreams.iter().filter_map(|one| next(&run.run_id, run.status, one)).collect();
    if !next.is_empty() {
        lines.push(String::new());
        lines.extend(next.into_iter().map(|next| format!("next: {next}")));
    }
    lines
}

fn used(cost_usd: Option<f64>, tokens: Option<u64>) -> Option<String> {
    let cost = cost_usd.map(|cost| format!("{cost:.4} USD"));
    let tokens = tokens.map(|tokens| format!("{tokens} tokens"));
    let parts: Vec<String> = cost.into_iter().chain(tokens).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn describe_workstream(one: &WorkstreamDocument) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", one.ws_id, one.status)];
    let mut row = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<12} {value}")));
    };
    let reason = one.reason.as_ref();
    row("reason", reason.map(|reason| format!("{}: {}", reason.code, reason.message)));
    row("not before", one.not_before.map(|time| time.to_string()));
    row("branch", one.branch.clone());
    row("work tree", one.worktree.clone());
    row("changed", changed(one));
    row("used", one.usage.and_then(|usage| used(usage.cost_usd, usage.tokens)));
    for warning in &one.warnings {
        row("warning", Some(warning.clone()));
    }
    lines.extend(one.steps.iter().map(describe_step));
    lines
}

fn changed(one: &WorkstreamDocument) -> Option<String> {
    let files = usize::try_from(one.files_changed?).unwrap_or(usize::MAX);
    let mut text = print::counted(files, "file", "files");
    if let Some((more, less)) = one.insertions.zip(one.deletions) {
        text.push_str(&format!(", +{more} -{less}"));
    }
    Some(text)
}

fn describe_step(step: &StepDocument) -> String {
    let name = step.name.as_deref().unwrap_or("");
    let state = match (step.status, step.outcome) {
        (Status::Queued, Some(Outcome::Parked)) => "parked",
        (Status::Queued | Status::Running, _) => step.status.as_str(),
        (_, Some(outcome)) => outcome.as_str(),
        (_, None) => step.status.as_str(),
    };
    let mut text = format!("  {:02}-{:<9} {state:<11} {name}", step.n, step.kind).trim_end().to_owned();
    if let Some(seconds) = step.duration_s {
        text.push_str(&format!("  {seconds:.2} s"));
    }
    if let Some(code) = &step.reason_code {
        text.push_str(&format!("  {code}"));
    }
    text
}

/// What a person does next about a workstream.
pub(super) fn next(run: &RunId, status: RunStatus, one: &WorkstreamDocument) -> Option<String> {
    match one.status {
        WorkstreamStatus::Succeeded if status == RunStatus::Quarantined => None,
        // Without a commit of its own there is nothing to merge.
        WorkstreamStatus::Succeeded if one.head.is_some() && one.head == one.base => None,
        WorkstreamStatus::Succeeded => Some(format!("engine runs merge {run}")),
        WorkstreamStatus::Pending if one.reason.is_some() => Some(format!("engine run --resume {run}")),
        WorkstreamStatus::Pending | WorkstreamStatus::Parked => {
            Some(format!("engine work --run {run} --drain"))
        }
        WorkstreamStatus::Running
            if one.reason.as_ref().is_some_and(|reason| reason.code == Code::RunnerGone) =>
        {
            Some(format!("engine run --resume {run}"))
        }
        WorkstreamStatus::Running => Some(format!("engine runs events {run} --follow")),
        WorkstreamStatus::Blocked => Some(format!("engine explain {}", one.job_id)),
        WorkstreamStatus::Canceled => Some(format!("engine run --resume {run}")),
        WorkstreamStatus::Failed | WorkstreamStatus::Quarantined => {
            let is_bad = |step: &&StepDocument| step.outcome != Some(Outcome::Succeeded);
            let last = one.steps.iter().rev().find(is_bad).or(one.steps.last());
            let last = last.map_or(&one.job_id, |step| &step.job_id);
            Some(format!("engine log {last}; mend what it names, then engine run --resume {run}"))
        }
    }
}

/// An event as a line for people.
pub(super) fn event(event: &RunEvent) -> String {
    let mut text = format!("{}  {}", event.at, event.event.as_str());
    let whom = event.ws_id.clone().unwrap_or_else(|| event.run_id.to_string());
    text.push_str(&format!("  {whom}"));
    let value = |key: &str| event.payload.get(key).filter(|value| !value.is_null());
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let (Some(n), Some(kind)) = (value("n").and_then(Value::as_u64), value("kind").map(shown)) {
        text.push_str(&format!("  {n:02}-{kind}"));
    }
    for key in ["name", "tool", "status", "final_status", "reason_code", "reason", "patch_id", "message"] {
        if let Some(value) = value(key) {
            text.push_str(&format!("  {}", shown(value)));
        }
    }
    if let Some(seconds) = value("duration_s").and_then(Value::as_f64) {
        text.push_str(&format!("  {seconds:.2} s"));
    }
    text
}
