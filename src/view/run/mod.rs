//! Views of runs: their status, the document of `engine runs show`, their events and patches.
//!
//! `read` gathers the records of a run; everything else is a pure fold of what it found. Reads only; no decision depends on
//! it. Hard rule: what no record says is `None`, never 0.

pub(crate) mod document;
mod errors;
mod event_name;
pub(crate) mod events;
pub(crate) mod integration;
pub(crate) mod patches;
mod payload;
pub(crate) mod status;
pub(crate) mod stays;
#[cfg(test)]
mod tests;
mod usage;
pub(crate) mod why;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::causes::causes;
use crate::clock::Timestamp;
use crate::cost::usage::LedgerLine;
use crate::job::run::{BASELINE_GATE, Base, INTEGRATION, Ordered};
use crate::job::{JobId, Place, RecordLine, RunId, RunManifest, Status};
use crate::queue::{Result, places};
use crate::store::brief::Reader;
use crate::store::control::{self, Hold};
use crate::store::run_dir::{self, Quarantine};
use crate::store::spent::{Of, Spending};
use crate::store::steps::{self, StepFound};
use crate::store::{Store, archived};
use crate::view::outcome::{self, Stuck};
use crate::view::runner::{self, Runner};

/// What the files of a root say of a run.
#[derive(Debug)]
pub(crate) struct RunFacts {
    /// Its manifest.
    pub manifest: RunManifest,
    /// A person's word that nothing of it may be used.
    pub quarantine: Option<Quarantine>,
    /// The jobs that must succeed before its workstreams start.
    pub gates: Vec<WorkstreamFacts>,
    /// Its workstreams, in plan order.
    pub workstreams: Vec<WorkstreamFacts>,
    /// The job that integrates them, which has steps as they have; none of a run of one without a gate.
    pub integration: Option<WorkstreamFacts>,
    /// The lines of the usage ledger that are of the run.
    pub ledger: Vec<LedgerLine>,
    /// The time of the look.
    pub now: Timestamp,
}

/// What the files of a root say of a workstream.
#[derive(Debug)]
pub(crate) struct WorkstreamFacts {
    /// Its place in the order of the run.
    pub ordered: Ordered,
    /// Its job.
    pub id: JobId,
    /// The last line of its record; none: it is not submitted yet.
    pub line: Option<RecordLine>,
    /// True if its job file waits in the queue, where no record says so yet.
    pub is_in_queue: bool,
    /// Why its record, or that of a step, cannot be read.
    pub problem: Option<String>,
    /// When its first attempt started, of whichever life.
    pub started_at: Option<Timestamp>,
    /// The process that would end its open attempt.
    pub runner: Runner,
    /// Why it does not start until a person does something.
    pub stuck: Option<Stuck>,
    /// The file of a hold that keeps it from starting, and what it says.
    pub hold: Option<(String, Hold)>,
    /// Where its job file is.
    pub job_file: Option<PathBuf>,
    /// What that says; none if there is none, or it cannot be read.
    pub job: Option<Submitted>,
    /// Its steps.
    pub steps: Vec<StepFound>,
}

impl RunFacts {
    /// The run.
    #[must_use]
    pub(crate) fn run_id(&self) -> &RunId {
        &self.manifest.run_id
    }

    /// All jobs of the run.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &WorkstreamFacts> {
        self.gates.iter().chain(&self.workstreams).chain(&self.integration)
    }
}

impl WorkstreamFacts {
    /// What its conductor said of its last attempt that ended; none before the first.
    #[must_use]
    pub(crate) fn told(&self) -> Option<&Map<String, Value>> {
        Some(&self.line.as_ref()?.result.as_ref()?.metadata)
    }

    /// A value of that.
    #[must_use]
    pub(crate) fn told_value(&self, key: &str) -> Option<&Value> {
        self.told()?.get(key).filter(|value| !value.is_null())
    }

    /// A text of that.
    #[must_use]
    pub(crate) fn told_text(&self, key: &str) -> Option<String> {
        self.told_value(key)?.as_str().map(str::to_owned)
    }

    /// The references of what was put aside, as far as its conductor said so.
    #[must_use]
    pub(crate) fn put_aside_refs(&self) -> Vec<String> {
        let told = self.told_value("put_aside").and_then(Value::as_array).map(Vec::as_slice);
        let reference = |one: &Value| Some(one.as_str().or_else(|| one.get("ref")?.as_str())?.to_owned());
        told.unwrap_or_default().iter().filter_map(reference).collect()
    }

    /// The numbers of the steps whose changes these are.
    #[must_use]
    pub(crate) fn put_aside(&self) -> Vec<u32> {
        let number = |reference: &String| reference.rsplit('/').next()?.parse().ok();
        self.put_aside_refs().iter().filter_map(number).collect()
    }

    /// The names of its checks, in their order; none if its job file does not say.
    #[must_use]
    pub(crate) fn checks(&self) -> Option<Vec<&str>> {
        let checks = self.job.as_ref()?.checks.as_ref()?;
        Some(checks.iter().map(|check| check.name.as_str()).collect())
    }
}

/// What a view needs of the metadata of a workstream's job file.
#[derive(Debug, Deserialize)]
pub(crate) struct Submitted {
    base: Option<Base>,
    /// The worktree.
    pub worktree: Option<String>,
    checks: Option<Vec<Named>>,
    bundle: Option<Bundled>,
    run_max_cost_usd: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Bundled {
    tool: Option<String>,
}

#[derive(Deserialize)]
struct JobFile {
    job_id: JobId,
    metadata: Submitted,
}

impl Submitted {
    /// The commit that the run builds on.
    #[must_use]
    pub(crate) fn base(&self) -> Option<&str> {
        self.base.as_ref().map(|base| base.commit.as_str())
    }

    /// What its run may cost, as far as it says.
    #[must_use]
    pub(crate) fn run_max_cost_usd(&self) -> Option<f64> {
        self.run_max_cost_usd
    }

    /// The tool that its bundle names.
    #[must_use]
    pub(crate) fn tool(&self) -> Option<&str> {
        self.bundle.as_ref()?.tool.as_deref()
    }
}

/// How much is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What the status needs.
    Status,
    /// Everything: steps, ledger, job files.
    Everything,
}

/// Gathers what the files say of a run. A record that cannot be read is part of the answer.
///
/// # Errors
/// File system errors of the archive, the ledger and the directory of the run.
pub(crate) fn read(store: &Store, manifest: RunManifest, depth: Depth, now: Timestamp) -> Result<RunFacts> {
    let run = &manifest.run_id;
    let mut records = Reader::open(store)?;
    let mut gates = Vec::new();
    if let Some(id) = manifest.baseline_job() {
        let ordered = Ordered { ws_id: BASELINE_GATE.to_owned(), ..Ordered::default() };
        gates.push(workstream((store, &mut records), ordered, id, depth)?);
    }
    let mut workstreams = Vec::new();
    for ordered in &manifest.order {
        // A name from which no id can be made never got a job.
        let Ok(id) = run.job_of(&ordered.ws_id) else { continue };
        workstreams.push(workstream((store, &mut records), ordered.clone(), id, depth)?);
    }
    let mut integration = None;
    if let Some(id) = manifest.integration_job() {
        let after = manifest.order.iter().map(|ordered| ordered.ws_id.clone()).collect();
        let ordered = Ordered { ws_id: INTEGRATION.to_owned(), after, ..Ordered::default() };
        integration = Some(workstream((store, &mut records), ordered, id, depth)?);
    }
    let mut ledger = Vec::new();
    if depth == Depth::Everything {
        ledger = Spending::open(store, Of::run(run.as_str()))?.lines().to_vec();
        let all = gates.iter_mut().chain(&mut workstreams).chain(&mut integration);
        add_submitted(store, &manifest, all);
    }
    let quarantine = run_dir::quarantine(store, run)?;
    Ok(RunFacts { quarantine, gates, workstreams, integration, ledger, now, manifest })
}

fn workstream(
    (store, records): (&Store, &mut Reader),
    ordered: Ordered,
    id: JobId,
    depth: Depth,
) -> Result<WorkstreamFacts> {
    let mut facts = WorkstreamFacts {
        ordered,
        line: None,
        is_in_queue: false,
        problem: None,
        started_at: None,
        runner: Runner::None,
        stuck: None,
        hold: None,
        job_file: None,
        job: None,
        steps: Vec::new(),
        id,
    };
    let mut is_live = true;
    let line = records.whole_line(&facts.id).and_then(|line| match line {
        Some(line) => Ok(Some(line)),
        None => {
            is_live = false;
            Ok(archived::last_of(store, &facts.id)?.map(|retired| retired.record.line))
        }
    });
    let steps = match (&line, depth) {
        (Ok(Some(_)), Depth::Everything) if is_live => steps::steps_of(store, records, &facts.id),
        (Ok(Some(_)), Depth::Everything) => steps::retired(store, &facts.id),
        _ => Ok(Vec::new()),
    };
    // The rest is shown all the same.
    let problem = line.as_ref().err().or(steps.as_ref().err());
    facts.problem = problem.map(|error| causes(error));
    (facts.line, facts.steps) = (line.ok().flatten(), steps.unwrap_or_default());
    // As a reader is to be told them.
    facts.steps.iter_mut().for_each(|step| store.show_paths(&mut step.line));
    facts.is_in_queue = facts.line.is_none() && places::is_at(store, &facts.id, &Place::Queued)?;
    if let Some(line) = &facts.line {
        if depth == Depth::Everything {
            // A person may have edited the file.
            facts.job = steps::read_job::<JobFile>(store, line).map(|job| job.metadata);
        }
        facts.job_file = Some(store.job_file(&line.place, &facts.id)).filter(|_| is_live);
        facts.started_at = started(store, line)?;
        let open = line.open_attempt();
        facts.runner = open.map_or(Runner::None, |attempt| runner::probe(store, &facts.id, attempt));
        if line.status == Status::Queued {
            facts.hold = control::hold_of(store, &facts.id)?;
            if !line.job.depends_on.is_empty() {
                facts.stuck = outcome::stuck(store, &facts.id)?;
            }
        }
    }
    Ok(facts)
}

/// When the first attempt started.
fn started(store: &Store, line: &RecordLine) -> Result<Option<Timestamp>> {
    let first = |line: &RecordLine| line.attempts.first().map(|attempt| attempt.started_at);
    if line.former.lives == 0 && line.former.attempts == 0 {
        return Ok(first(line));
    }
    let history = store.record_history(&line.job_id)?;
    Ok(history.iter().find_map(|record| first(&record.line)).or_else(|| first(line)))
}

/// Has workstreams whose job files are gone say the metadata as they were submitted.
fn add_submitted<'f>(
    store: &Store,
    manifest: &RunManifest,
    workstreams: impl Iterator<Item = &'f mut WorkstreamFacts>,
) {
    let gone: Vec<_> = workstreams.filter(|facts| facts.job.is_none()).collect();
    if gone.is_empty() {
        return;
    }
    let jobs = run_dir::read_jobs(store, manifest).unwrap_or_default();
    let jobs = jobs.into_iter().filter_map(|job| serde_json::from_value::<JobFile>(job).ok());
    let mut submitted: BTreeMap<JobId, Submitted> = jobs.map(|job| (job.job_id, job.metadata)).collect();
    for facts in gone {
        facts.job = submitted.remove(&facts.id);
    }
}
