//! Goes on with a run: recovers what a crash left, submits what is missing, and requeues what ended without success.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::assignment::job_of;
use super::conductor;
use super::create::submit_jobs;
use crate::bundle::with_dependencies;
use crate::clock::{self, Clock};
use crate::git::Program;
use crate::job::{Code, JobId, Reason, RunId, RunManifest, Status};
use crate::queue::recovery::{Again, Recovered};
use crate::queue::requeue::{self, Requeued};
use crate::runner;
use crate::store::run_dir::{self, RunDir};
use crate::store::{Store, archived};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self as view, Depth, WorkstreamFacts};
use crate::worktree;

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
    (manifest, jobs, only): (&RunManifest, &[Value], &[String]),
    program: &Program,
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
    let missing = missing(store, jobs)?;
    if let Some(resumed) = retired(store, clock, manifest, &missing)? {
        return Ok(resumed);
    }
    submit_jobs(store, clock, &missing)?;
    let moved = moved_by_hand(store, clock, manifest, program)?;
    let mut resumed = Resumed::HasSucceeded;
    if let Some(gate) = manifest.baseline_job() {
        resumed = requeue(store, clock, &gate, (0, false))?;
    }
    for (place, ordered) in (0..).zip(&manifest.order) {
        if !wanted.contains(ordered.ws_id.as_str()) {
            continue;
        }
        let id = job_of(&manifest.run_id, &ordered.ws_id)?;
        let is_moved = moved.contains(&ordered.ws_id);
        if requeue(store, clock, &id, (place, is_moved))? == Resumed::HasWork {
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
    let known = manifest.order.iter().map(|one| (one.ws_id.as_str(), one.depends_on.as_slice())).collect();
    with_dependencies(&known, only).map_err(|(unknown, meant)| {
        let hint = meant.map_or_else(
            || format!("engine runs show {} lists them", manifest.run_id),
            |name| format!("did you mean `{name}`?"),
        );
        let message = format!("the run `{}` has no workstream `{unknown}`; {hint}", manifest.run_id);
        Reason::new(Code::NotFound, message)
    })
}

/// The workstreams that have succeeded and on whose branch a person has worked since, in a run that has not succeeded: so what does
/// not merge, or fails only together, is mended.
fn moved_by_hand(
    store: &Store,
    clock: &dyn Clock,
    manifest: &RunManifest,
    program: &Program,
) -> Result<BTreeSet<String>, Reason> {
    let facts = view::read(store, manifest.clone(), Depth::Status, clock.now())?;
    let is_whole = RunStatus::of(&facts) == RunStatus::Succeeded;
    let has_succeeded = |one: &&WorkstreamFacts| WorkstreamStatus::of(one) == WorkstreamStatus::Succeeded;
    let succeeded: Vec<_> = facts.workstreams.iter().filter(has_succeeded).collect();
    if is_whole || succeeded.is_empty() {
        return Ok(BTreeSet::new());
    }
    let git = conductor::client(program);
    let branches = worktree::branches(Path::new(&manifest.repo), manifest.run_id.as_str(), &git)?;
    let is_moved = |one: &&&WorkstreamFacts| {
        let branch = branches.get(&one.ordered.ws_id);
        branch.is_some() && branch.cloned() != one.told_text("head")
    };
    Ok(succeeded.iter().filter(is_moved).map(|one| one.ordered.ws_id.clone()).collect())
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

/// What becomes of a run that gc has retired: it is not done again. None for one that is here.
fn retired(
    store: &Store,
    clock: &dyn Clock,
    manifest: &RunManifest,
    missing: &[Value],
) -> Result<Option<Resumed>, Reason> {
    let run = &manifest.run_id;
    for id in missing.iter().filter_map(|job| JobId::new(job["job_id"].as_str()?).ok()) {
        if archived::last_of(store, &id)?.is_none() {
            continue;
        }
        let facts = view::read(store, manifest.clone(), Depth::Status, clock.now())?;
        if RunStatus::of(&facts) == RunStatus::Succeeded {
            return Ok(Some(Resumed::HasSucceeded));
        }
        let message = format!(
            "`engine gc` has retired `{id}`, so the run `{run}` cannot go on. What was done is on its branches \
            (git branch --list 'engine/{run}/*'); start a new run for the rest"
        );
        return Err(Reason::new(Code::NotFound, message));
    }
    Ok(None)
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
                let recovered = runner::recover(store, clock, id, Again::IfRepeatable)?;
                if matches!(
                    recovered,
                    Recovered::Alive
                        | Recovered::CannotTell(_)
                        | Recovered::Elsewhere(_)
                        | Recovered::StillRunning(_)
                ) {
                    // It goes on, or the work says why it cannot.
                    return Ok(Resumed::HasWork);
                }
                // Where that was a crash too many, what comes after it would start without it.
                continue;
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
