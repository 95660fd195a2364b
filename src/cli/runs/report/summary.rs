//! What a report says of a run, in whichever format: facts of the whole, a row for each workstream, the worst first.
//!
//! Pure. The texts are as the records have them: each format makes them harmless in its own way.

use std::collections::BTreeMap;

use crate::cli::run_text::{base, changed, describe_step, integration_rows, said, used};
use crate::clock::Timestamp;
use crate::job::{self, Code, Status, StepKind};
use crate::view::run::document::{RunDocument, WorkstreamDocument};
use crate::view::run::integration::{CheckDocument, GateDocument, IntegrationDocument};
use crate::view::run::status::{RunStatus, WorkstreamStatus};

/// A report.
pub(super) struct Summary {
    /// The run.
    pub run: String,
    /// Its status.
    pub status: RunStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// How long it took, in seconds; none while something can still move.
    pub duration_s: Option<f64>,
    /// What is known of the whole: name and value.
    pub facts: Vec<(String, String)>,
    /// Its workstreams, the worst first; of equal ones in plan order.
    pub rows: Vec<Row>,
    /// Its gates and its integration, in the order in which they run.
    pub parts: Vec<Part>,
    /// The failures of its steps, the same ones counted together: how many, and which.
    pub failures: Vec<(u32, Reason)>,
    /// What to do next.
    pub next: Vec<String>,
}

/// A reason: its word and its sentence.
pub(super) struct Reason {
    pub code: Code,
    pub message: String,
}

/// A workstream.
pub(super) struct Row {
    pub name: String,
    pub status: WorkstreamStatus,
    pub reason: Option<Reason>,
    /// Files and lines.
    pub changed: Option<String>,
    /// How many fixes its steps were.
    pub fixes: usize,
    /// US dollars and tokens.
    pub used: Option<String>,
    /// How long its steps took together, in seconds; none where none has ended.
    pub seconds: Option<f64>,
    /// Each step on a line.
    pub steps: Vec<String>,
    /// What a person should know, what was not run among it.
    pub warnings: Vec<String>,
}

/// A gate, or the integration.
pub(super) struct Part {
    pub name: String,
    pub status: WorkstreamStatus,
    pub reason: Option<Reason>,
    /// How long its steps took together, in seconds.
    pub seconds: Option<f64>,
    /// Its checks.
    pub checks: Vec<Check>,
}

/// A check of a gate or of the integration.
pub(super) struct Check {
    pub name: String,
    pub status: Status,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
}

/// What a report says of a run.
pub(super) fn of(run: &RunDocument) -> Summary {
    let mut rows: Vec<Row> = run.workstreams.iter().map(row).collect();
    rows.sort_by_key(|row| rank(row.status));
    Summary {
        run: run.run_id.to_string(),
        status: run.status,
        created_at: run.created_at,
        duration_s: run.duration_s,
        facts: facts(run),
        rows,
        parts: run.gates.iter().map(gate).chain(run.integration.as_ref().map(integration)).collect(),
        failures: run
            .errors
            .iter()
            .map(|one| (one.count, Reason { code: one.kind.clone(), message: one.message.clone() }))
            .collect(),
        next: run.next.clone(),
    }
}

/// The worst first.
fn rank(status: WorkstreamStatus) -> u8 {
    match status {
        WorkstreamStatus::Quarantined => 0,
        WorkstreamStatus::Failed => 1,
        WorkstreamStatus::Blocked => 2,
        WorkstreamStatus::Canceled => 3,
        WorkstreamStatus::Parked => 4,
        WorkstreamStatus::Running => 5,
        WorkstreamStatus::Pending => 6,
        WorkstreamStatus::Succeeded => 7,
    }
}

fn row(one: &WorkstreamDocument) -> Row {
    let took: Vec<f64> = one.steps.iter().filter_map(|step| step.duration_s).collect();
    Row {
        name: one.ws_id.clone(),
        status: one.status,
        reason: reason(one.reason.as_ref()),
        changed: changed(one),
        fixes: one.steps.iter().filter(|step| step.kind == StepKind::Fix).count(),
        used: one.usage.and_then(|usage| used(usage.cost_usd, usage.tokens)),
        seconds: (!took.is_empty()).then(|| took.iter().sum()),
        steps: one.steps.iter().map(|step| describe_step(step).trim().to_owned()).collect(),
        warnings: one.warnings.clone(),
    }
}

fn reason(reason: Option<&job::Reason>) -> Option<Reason> {
    reason.map(|reason| Reason { code: reason.code.clone(), message: reason.message.clone() })
}

fn gate(one: &GateDocument) -> Part {
    Part {
        name: one.name().to_owned(),
        status: one.status,
        reason: reason(one.reason.as_ref()),
        seconds: one.duration_s,
        checks: checks(&one.checks),
    }
}

fn integration(one: &IntegrationDocument) -> Part {
    Part {
        name: "integration".to_owned(),
        status: one.status,
        reason: reason(one.reason.as_ref()),
        seconds: one.duration_s,
        checks: checks(&one.checks),
    }
}

fn checks(checks: &[CheckDocument]) -> Vec<Check> {
    let check =
        |one: &CheckDocument| Check { name: one.name.clone(), status: one.status, seconds: one.duration_s };
    checks.iter().map(check).collect()
}

fn facts(run: &RunDocument) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: Option<String>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    fact("quarantine", run.quarantine.as_ref().map(said));
    fact("workstreams", Some(counts(run)));
    fact("created", Some(run.created_at.to_string()));
    fact("base", Some(base(run)));
    fact("took", run.duration_s.map(|seconds| format!("{seconds:.1} s")));
    let metrics = &run.metrics;
    fact("used", used(metrics.total_cost_usd, metrics.total_tokens));
    fact("of it without success", in_vain(run).map(|cost| format!("{cost:.4} USD")));
    let budget = metrics.budget_status.and_then(|status| serde_json::to_value(status).ok());
    fact("budget", budget.and_then(|status| status.as_str().map(str::to_owned)));
    fact("fixes", (metrics.fix_rounds > 0).then(|| metrics.fix_rounds.to_string()));
    for gate in &run.gates {
        let reason = gate.reason.as_ref().map(|reason| format!(": {}: {}", reason.code, reason.message));
        fact("gate", Some(format!("{}  {}{}", gate.job_id, gate.status, reason.unwrap_or_default())));
    }
    if let Some(one) = &run.integration {
        fact("integration", Some(one.status.to_string()));
        for (name, value) in integration_rows(one) {
            fact(name, Some(value));
        }
    }
    facts
}

/// How many workstreams there are of each status.
fn counts(run: &RunDocument) -> String {
    let mut counts: BTreeMap<u8, (usize, WorkstreamStatus)> = BTreeMap::new();
    for one in &run.workstreams {
        counts.entry(rank(one.status)).or_insert((0, one.status)).0 += 1;
    }
    let counts = counts.into_values().rev().map(|(count, status)| format!("{count} {status}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// What the agents of workstreams cost that have ended without success; none if none of that is known.
fn in_vain(run: &RunDocument) -> Option<f64> {
    let is_in_vain = |one: &&WorkstreamDocument| {
        matches!(
            one.status,
            WorkstreamStatus::Failed | WorkstreamStatus::Quarantined | WorkstreamStatus::Canceled
        )
    };
    let costs: Vec<f64> =
        run.workstreams.iter().filter(is_in_vain).filter_map(|one| one.usage?.cost_usd).collect();
    (!costs.is_empty()).then(|| costs.iter().sum())
}
