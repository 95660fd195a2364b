//! Goes on with a run: recovers what a crash left, submits what is missing, and requeues what ended without success.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::assignment::job_of;
use super::create::submit_jobs;
use crate::clock::{self, Clock};
use crate::job::parse::nearest::nearest;
use crate::job::{Code, JobId, Reason, RunId, RunManifest, Status};
use crate::queue::recovery::Again;
use crate::queue::requeue::{self, Requeued};
use crate::runner;
use crate::store::Store;
use crate::store::run_dir::{self, RunDir};
use crate::view::run::status::RunStatus;
use crate::view::run::{self as view, Depth};

/// What a resume found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// Everything has succeeded.
    HasSucceeded,
    /// There is work.
    HasWork,
}

/// Prepares a run to go on; with names only these workstreams, and those whose success they need.
pub(crate) fn resume(
    store: &Store,
    clock: &dyn Clock,
    manifest: &RunManifest,
    (jobs, only): (&[Value], &[String]),
) -> Result<Resumed, Reason> {
    let wanted = wanted(manifest, only)?;
    let alone = alone(store, clock, &manifest.run_id)?;
    if let Some(word) = run_dir::quarantine(store, &manifest.run_id)? {
        if word.acknowledged_at.is_none() {
            let run = &manifest.run_id;
            let message = format!(
                "the run `{run}` is quarantined ({}): engine runs quarantine {run} --ack",
                word.reason
            );
            return Err(Reason::new(Code::RunQuarantined, message));
        }
        alone.remove_quarantine(store)?;
    }
    submit_jobs(store, clock, &missing(store, jobs)?)?;
    let mut resumed = Resumed::HasSucceeded;
    if let Some(gate) = manifest.baseline_job() {
        resumed = requeue(store, clock, &gate, (0, false))?;
    }
    for (place, ordered) in (0..).zip(&manifest.order) {
        if !wanted.contains(ordered.ws_id.as_str()) {
            continue;
        }
        let id = job_of(&manifest.run_id, &ordered.ws_id)?;
        if requeue(store, clock, &id, (place, false))? == Resumed::HasWork {
            resumed = Resumed::HasWork;
        }
    }
    match manifest.integration_job() {
        Some(id) => integrate_again(store, clock, (&id, manifest, resumed)),
        None => Ok(resumed),
    }
}

/// The workstreams of these names, with those that they depend on; without names all.
fn wanted<'m>(manifest: &'m RunManifest, only: &'m [String]) -> Result<BTreeSet<&'m str>, Reason> {
    let known: BTreeMap<&str, &[String]> =
        manifest.order.iter().map(|one| (one.ws_id.as_str(), one.depends_on.as_slice())).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains_key(name.as_str())) {
        let all: Vec<&str> = known.keys().copied().collect();
        let hint = nearest(unknown, &all).map_or_else(
            || format!("engine runs show {} lists them", manifest.run_id),
            |name| format!("did you mean `{name}`?"),
        );
        let message = format!("the run `{}` has no workstream `{unknown}`; {hint}", manifest.run_id);
        return Err(Reason::new(Code::NotFound, message));
    }
    let mut next: Vec<&str> = match only {
        [] => known.keys().copied().collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    let mut wanted = BTreeSet::new();
    while let Some(name) = next.pop() {
        if wanted.insert(name) {
            next.extend(known.get(name).copied().unwrap_or_default().iter().map(String::as_str));
        }
    }
    Ok(wanted)
}

/// The integration comes last, and again where a workstream does, or has brought something else since, also if it has succeeded.
fn integrate_again(
    store: &Store,
    clock: &dyn Clock,
    (id, manifest, workstreams): (&JobId, &RunManifest, Resumed),
) -> Result<Resumed, Reason> {
    let facts = view::read(store, manifest.clone(), Depth::Status, clock.now())?;
    let is_whole = workstreams == Resumed::HasSucceeded && RunStatus::of(&facts) == RunStatus::Succeeded;
    requeue(store, clock, id, (u32::MAX, !is_whole))
}

/// How long another process may hold the directory of the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps `runs clean` and another resume out until the run is in the queue.
fn alone(store: &Store, clock: &dyn Clock, run: &RunId) -> Result<RunDir, Reason> {
    let until = clock.monotonic().saturating_add(PATIENCE);
    loop {
        let taken = run_dir::take(store, run)?;
        if let Some(dir) = taken {
            return Ok(dir);
        }
        if clock.monotonic() >= until {
            let message = format!("another process works on the directory of the run `{run}`");
            return Err(Reason::new(Code::IdBusy, message));
        }
        clock::sleep(BETWEEN_TRIES);
    }
}

const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The jobs without a record. What a person has changed in the file of another since it was submitted is to count.
fn missing(store: &Store, jobs: &[Value]) -> Result<Vec<Value>, Reason> {
    let mut missing = Vec::new();
    for job in jobs {
        let id = JobId::new(job["job_id"].as_str().unwrap_or_default())
            .map_err(|error| Reason::from_error(Code::InvalidJobFile, &error))?;
        let record = store.read_record(&id)?;
        if record.is_none() {
            missing.push(job.clone());
        }
    }
    Ok(missing)
}

/// How often a job is looked at again that another process changes at the same time.
const LOOKS: u32 = 5;

/// Requeues a job that has ended; one that has succeeded only `also_succeeded`.
fn requeue(
    store: &Store,
    clock: &dyn Clock,
    id: &JobId,
    (place, also_succeeded): (u32, bool),
) -> Result<Resumed, Reason> {
    for _ in 0..LOOKS {
        let line = store.read_record(id)?.map(|record| record.line);
        match line.map(|line| line.status) {
            Some(Status::Succeeded) if !also_succeeded => return Ok(Resumed::HasSucceeded),
            None | Some(Status::Queued) => return Ok(Resumed::HasWork),
            Some(Status::Running) => {
                let recovered = runner::recover(store, clock, id, Again::IfRepeatable);
                // One that runs goes on: this process waits for it.
                recovered?;
                return Ok(Resumed::HasWork);
            }
            Some(Status::Succeeded | Status::Failed | Status::Quarantined | Status::Canceled) => {}
        }
        let done = requeue::requeue(store, clock, id, place)?;
        match done {
            Requeued::Done => return Ok(Resumed::HasWork),
            Requeued::Refused(reason) if reason.code == Code::IdQueued => return Ok(Resumed::HasWork),
            Requeued::Refused(reason) => return Err(reason),
            Requeued::NotFound => {
                return Err(Reason::new(Code::NotFound, format!("the job `{id}` of the run is gone")));
            }
            Requeued::Busy | Requeued::NeedsRecovery => {
                let recovered = runner::recover(store, clock, id, Again::IfRepeatable);
                recovered?;
            }
        }
    }
    Err(Reason::new(Code::IdBusy, format!("another process keeps working on `{id}`")))
}
