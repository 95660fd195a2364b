//! The events of a run under their historical names, derived from the lines of the journal.
//!
//! At least once, `(job_id, seq)` is the key; one line may give several events, which share it. Incremental: a teller is fed
//! each line as it comes, from the first line of the run on. Reads only; no decision depends on it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub(crate) use super::event_name::EventName;
use super::patches;
use super::payload::{Told, conflicts, end, ends, is_aside, object, patch, paused, run_ends, took, with};
use super::usage::BudgetStatus;
use crate::clock::Timestamp;
use crate::cost::totals::Totals;
use crate::job::event::{JournalLine, Whereabouts};
use crate::job::step::{StepFacts, parse_step_id};
use crate::job::{JobId, Outcome, RecordLine, RunId, RunManifest, SCHEMA_VERSION, Status, StepKind};
use crate::store::Store;
use crate::store::spent::{Of, Spending};
use crate::store::steps::{self, StepFound};

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

/// What a job of a run is.
enum Part {
    /// A workstream.
    Workstream,
    /// The integration.
    Integration,
    /// A gate before the workstreams.
    Gate,
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
    /// The job that integrates them; none of a run of one without a gate.
    integration: Option<JobId>,
    /// The gate before them.
    gate: Option<JobId>,
    /// What the run may cost, until a reader was warned.
    budget_usd: Option<f64>,
    /// Steps of which it is not known yet whether they have changed anything, by their workstreams.
    unclear: BTreeMap<JobId, StepFound>,
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
        Self {
            run,
            base: manifest.base.commit.clone(),
            workstreams,
            integration,
            gate: manifest.baseline_job(),
            budget_usd: manifest.options.get("max_cost_usd").and_then(Value::as_f64),
            unclear: BTreeMap::new(),
            decides,
            has_started: false,
            seen: BTreeSet::new(),
            started: BTreeSet::new(),
        }
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
            Part::Workstream | Part::Integration | Part::Gate => self.of_job(line, &part, &record),
            Part::Step { n, kind } => {
                let found = || Some(steps::with_facts(store, (n, kind), record()?));
                let mut told = self.of_step(line, &found, (n, kind));
                told.extend(self.warns_of_budget(store, line, kind));
                told
            }
        };
        let event = |(event, payload): Told| RunEvent {
            schema_version: SCHEMA_VERSION,
            at: line.at,
            event,
            run_id: self.run.clone(),
            ws_id: ws_id.clone().filter(|_| !event.is_of_run()),
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
        if self.gate.as_ref() == Some(id) {
            return Some((Part::Gate, None));
        }
        if let Some(name) = self.workstreams.get(id) {
            return Some((Part::Workstream, Some(name.clone())));
        }
        let (parent, n, kind) = parse_step_id(id)?;
        let name = self.workstreams.get(&parent).cloned();
        let is_of_run = name.is_some() || [&self.integration, &self.gate].contains(&&Some(parent));
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
    ) -> Vec<Told> {
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
            let start = match part {
                Part::Workstream => Some(EventName::WorkstreamStart),
                Part::Integration => Some(EventName::IntegrationStart),
                Part::Gate | Part::Step { .. } => None,
            };
            told.extend(start.map(|start| (start, object(json!({"attempt": line.attempt})))));
        }
        if line.status == Status::Queued && line.outcome == Some(Outcome::Parked) {
            told.push(paused(line, record().filter(|record| record.seq == line.seq).as_ref()));
        }
        if line.status.is_terminal() {
            let result = record().filter(|record| record.seq == line.seq).and_then(|record| record.result);
            let message = result.as_ref().and_then(|result| Some(result.reason.as_ref()?.message.clone()));
            match part {
                Part::Integration => {
                    told.extend(result.as_ref().map(conflicts).unwrap_or_default());
                    told.push((EventName::IntegrationEnd, end(line, message.as_deref())));
                }
                Part::Gate | Part::Step { .. } => {}
                Part::Workstream => {
                    let unclear = self.unclear.remove(&line.job_id);
                    let head = result.as_ref().and_then(|result| result.metadata.get("head")?.as_str());
                    let is_left = |step: &StepFound| {
                        patches::has_moved(step.facts.as_ref(), head) || is_aside(result.as_ref(), step.n)
                    };
                    told.extend(unclear.filter(is_left).map(|step| patch(&step.id, step.kind)));
                    told.extend(ends(line, message.as_deref()));
                }
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
    ) -> Vec<Told> {
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
        let parent = line.parent.as_ref();
        if starts {
            let why = facts.and_then(|facts| facts.why.clone());
            let mut told = Vec::new();
            if let Some(before) = parent.and_then(|parent| self.unclear.remove(parent)) {
                let tree = |facts: Option<&StepFacts>| facts.and_then(|facts| facts.tree.clone());
                let is_changed = before.id != line.job_id && tree(before.facts.as_ref()) != tree(facts);
                told.extend(is_changed.then(|| patch(&before.id, before.kind)));
            }
            told.push((EventName::StepStarted, with(common.clone(), json!({"why": why}))));
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
        if let Some(gate) =
            parent.filter(|parent| [&self.integration, &self.gate].contains(&&Some((*parent).clone())))
            && kind.is_check()
        {
            let payload = json!({
                "gate_id": gate, "gate_type": kind, "name": name, "status": line.status, "reason": line.reason_code,
            });
            told.push((EventName::TestGateExecuted, object(payload)));
        }
        match step {
            Some(step) if patches::left_change(&step, false).is_some() => told.push(patch(&step.id, kind)),
            Some(step) if patches::may_have_changed(&step) => {
                if let Some(parent) = parent {
                    self.unclear.insert(parent.clone(), step);
                }
            }
            _ => {}
        }
        told
    }

    /// Warns once where the steps so far have used most of what the run may cost. A step is in the ledger before it has ended.
    fn warns_of_budget(&mut self, store: &Store, line: &JournalLine, kind: StepKind) -> Option<Told> {
        let most = self.budget_usd.filter(|_| kind.is_agent() && line.outcome.is_some())?;
        let spending = Spending::open(store, Of::run(self.run.as_str())).ok()?;
        let spent =
            Totals::sum_lines(spending.lines().iter().filter(|spent| spent.at <= line.at)).spent_usd.known?;
        if BudgetStatus::of(spent, most) == BudgetStatus::Ok {
            return None;
        }
        self.budget_usd = None;
        let share = 100.0 * spent / most;
        let payload = json!({"total_cost_usd": spent, "budget_usd": most, "usage_pct": share});
        Some((EventName::BudgetWarning, object(payload)))
    }
}
