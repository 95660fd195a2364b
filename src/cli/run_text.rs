//! A run and its events as text for people, for every verb that shows them.

use serde_json::Value;

use super::print;
use super::run_next::{Merged, next_of_run, restore};
use crate::job::{Outcome, Reason, Status};
use crate::view::run::document::{QuarantineDocument, RunDocument, StepDocument, WorkstreamDocument};
use crate::view::run::events::RunEvent;
use crate::view::run::integration::{CheckDocument, GateDocument, IntegrationDocument};
use crate::view::run::status::WorkstreamStatus;

/// A run for people: status, workstreams with their steps, what to do next.
pub(super) fn describe(run: &RunDocument, merged: Merged) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", run.run_id, run.status)];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    if let Some(word) = &run.quarantine {
        row("quarantine", said(word));
    }
    row("created", run.created_at.to_string());
    row("base", base(run));
    if let Some(seconds) = run.duration_s {
        row("took", format!("{seconds:.1} s"));
    }
    if let Some(used) = used(run.metrics.total_cost_usd, run.metrics.total_tokens) {
        row("used", used);
    }
    for gate in &run.gates {
        lines.push(String::new());
        lines.extend(describe_part(gate.name(), gate.status, gate_rows(gate)));
    }
    for workstream in &run.workstreams {
        lines.push(String::new());
        lines.extend(describe_workstream(workstream));
    }
    if let Some(integration) = &run.integration {
        lines.push(String::new());
        lines.extend(describe_part("integration", integration.status, integration_rows(integration)));
    }
    let next = next_of_run(run, merged);
    if !next.is_empty() {
        lines.push(String::new());
        lines.extend(next.into_iter().map(|next| format!("next: {next}")));
    }
    lines
}

/// A person's word on a run, for people.
pub(super) fn said(word: &QuarantineDocument) -> String {
    let back = word.acknowledged_at.map_or_else(String::new, |at| format!(", taken back at {at}"));
    format!("{} (at {}{back})", word.reason, word.at)
}

/// The commit that a run builds on, for people.
pub(super) fn base(run: &RunDocument) -> String {
    let commit: String = run.base.commit.chars().take(12).collect();
    let name = run.base.reference.as_deref().map(|name| name.trim_start_matches("refs/heads/"));
    name.map_or_else(|| commit.clone(), |name| format!("{name} at {commit}"))
}

/// US dollars and tokens, as far as they are known.
pub(super) fn used(cost_usd: Option<f64>, tokens: Option<u64>) -> Option<String> {
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
    row("worktree", one.worktree.clone());
    row("changed", changed(one));
    for reference in &one.put_aside {
        let back = match &one.worktree {
            Some(tree) => restore(tree, reference),
            None => format!("git show {reference}"),
        };
        row("put aside", Some(format!("{reference}; back with: {back}")));
    }
    row("used", one.usage.and_then(|usage| used(usage.cost_usd, usage.tokens)));
    for warning in &one.warnings {
        row("warning", Some(warning.clone()));
    }
    lines.extend(one.steps.iter().map(describe_step));
    lines
}

/// A part of a run: its name, its status, and what is known of it.
fn describe_part(name: &str, status: WorkstreamStatus, rows: Vec<(&'static str, String)>) -> Vec<String> {
    let rows = rows.into_iter().map(|(name, value)| format!("  {name:<12} {value}"));
    std::iter::once(format!("{name}  {status}")).chain(rows).collect()
}

fn gate_rows(one: &GateDocument) -> Vec<(&'static str, String)> {
    reason_row(one.reason.as_ref()).into_iter().chain(proof_rows(&one.checks, &one.warnings)).collect()
}

fn reason_row(reason: Option<&Reason>) -> Option<(&'static str, String)> {
    reason.map(|reason| ("reason", format!("{}: {}", reason.code, reason.message)))
}

/// The checks of a part, and what a person should know of it.
fn proof_rows(checks: &[CheckDocument], warnings: &[String]) -> Vec<(&'static str, String)> {
    let checks = checks.iter().map(|check| ("check", format!("{}  {}", check.name, check.status)));
    checks.chain(warnings.iter().map(|warning| ("warning", warning.clone()))).collect()
}

/// What is known of an integration: name and value.
pub(super) fn integration_rows(one: &IntegrationDocument) -> Vec<(&'static str, String)> {
    let mut rows = Vec::from_iter(reason_row(one.reason.as_ref()));
    let mut row = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    let some = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
    row("branch", one.branch.clone());
    row("merged", some(&one.merged));
    for conflict in &one.conflicts {
        let text = |key: &str| conflict.get(key).and_then(Value::as_str);
        let with = text("with").map_or_else(String::new, |with| format!(" with {with}"));
        let path = text("path").map_or_else(String::new, |path| format!(": {path}"));
        row("conflict", text("ws_id").map(|ws| format!("{ws}{with}{path}")));
    }
    row("skipped", some(&one.skipped));
    rows.extend(proof_rows(&one.checks, &one.warnings));
    rows
}

/// How much a workstream changes.
pub(super) fn changed(one: &WorkstreamDocument) -> Option<String> {
    let files = usize::try_from(one.files_changed?).unwrap_or(usize::MAX);
    let mut text = print::counted(files, "file", "files");
    if let Some((more, less)) = one.insertions.zip(one.deletions) {
        text.push_str(&format!(", +{more} -{less}"));
    }
    Some(text)
}

/// A step on a line.
pub(super) fn describe_step(step: &StepDocument) -> String {
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
    // That a step repeats another one is the only word on a wait before it.
    let is_repeated = |why: &&Value| matches!(why.as_str(), Some("retry" | "reduced_context" | "fallback"));
    if let Some(why) = value("why").filter(is_repeated) {
        text.push_str(&format!("  {}", shown(why)));
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
