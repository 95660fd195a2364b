//! Workstreams: makes a run of jobs out of bundles, and conducts each of them.
//!
//! `create` writes what a run is made of and submits its jobs; `conduct` is the tool of such a job: one process that decides the
//! next step, has it run by a process of its own, judges what it left, and takes it. Not responsible for which job runs when
//! (`worker`). Nothing here prints.

mod assignment;
mod base;
mod conduct;
mod conductor;
pub(crate) mod create;
mod environment;
pub(crate) mod estimate;
mod former;
mod given_up;
mod history;
mod integrate;
mod judging;
mod predecessors;
pub(crate) mod prepare;
mod prompt;
#[cfg(test)]
mod prompt_snapshots;
mod prompts;
mod references;
mod repository;
mod result;
pub(crate) mod resume;
mod settle;
mod spent;
mod step;
mod tried;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

pub(crate) use conductor::{Event, Means};
pub(crate) use result::Verdict;

use crate::adapter::{self, Manifest, Manifests};
use crate::bundle;
use crate::clock::Timestamp;
use crate::fix_loop::progress::Progress;
use crate::fix_loop::{Plan, Tool};
use crate::git::Repository;
use crate::job::spec::OnCrash;
use crate::job::{Code, Reason, ToolId};
use crate::store::Store;
use crate::store::config::Durability;
use crate::worktree::{Counted, Place};
use assignment::{Assignment, Request};
use conductor::Conductor;

/// Conducts the workstream of a request to a verdict.
pub(crate) fn conduct(means: &mut Means<'_>, request: &[u8]) -> Verdict {
    let request = match Request::read(request) {
        Ok(request) => request,
        Err(reason) => return Verdict::failed(reason),
    };
    if request.is_integration() {
        return integrate::integrate(means, &request)
            .unwrap_or_else(|reason| could_not_go_on(means, &request, reason));
    }
    let mut conductor = match conductor(means, &request) {
        Ok(conductor) => conductor,
        Err(reason) => return could_not_go_on(means, &request, reason),
    };
    let verdict = match conductor.work() {
        Ok(verdict) => verdict,
        Err(reason) => {
            let verdict = could_not_go_on(conductor.means, &request, reason);
            conductor.give_up(verdict)
        }
    };
    // What did not start yet may be canceled by hand as well: the verdict of this one is not lost for it.
    if let Err(reason) = given_up::give_up_others(means, &request.run, &verdict) {
        (means.tell)(&Event::Warning(&format!("others of the run were not canceled: {}", reason.message)));
    }
    verdict
}

/// The verdict of a workstream that an error of git, of the store or of the machine has stopped.
fn could_not_go_on(means: &Means<'_>, request: &Request, reason: Reason) -> Verdict {
    match waits_for_the_machine(means, request, &reason) {
        Some(until) => Verdict::parked(reason, until),
        None => Verdict::failed(reason),
    }
}

/// How long a workstream waits for what the machine lacks.
const SHORTAGE_WAIT: Duration = Duration::from_mins(1);

/// How often in one life it waits for that.
const MOST_SHORTAGES: u32 = 10;

/// When a workstream goes on that the machine, and not its work, has stopped; none if that cannot pass by itself, or has not
/// passed for too long.
fn waits_for_the_machine(means: &Means<'_>, request: &Request, reason: &Reason) -> Option<Timestamp> {
    let is_shortage = reason.shortage.is_some()
        || matches!(
            reason.code,
            Code::DiskFull
                | Code::LowSpace
                | Code::StartFailed
                | Code::IndexLocked
                | Code::RefLocked
                | Code::GitKilled
        );
    let line = means.store.read_record(&request.job_id).ok()??.line;
    let may_wait = is_shortage && line.parks_of_this_life() < MOST_SHORTAGES;
    may_wait.then(|| means.clock.now().after(SHORTAGE_WAIT))
}

fn conductor<'a, 'm>(means: &'a mut Means<'m>, request: &'a Request) -> Result<Conductor<'a, 'm>, Reason> {
    let assignment = &request.assignment;
    let checks = assignment.checks.clone();
    let line = means.store.read_record(&request.job_id)?;
    let (plan, counted) = (plan(means.store, assignment, &checks)?, counted(means.store, assignment)?);
    let record = line.map(|record| record.line);
    let repository = Repository::find(Path::new(&assignment.repo), &conductor::client(&means.program))?;
    let names = (request.run.as_str(), request.name());
    let is_durable = means.store.config.durability == Durability::Full;
    let place = Place::new(repository, PathBuf::from(&assignment.worktree), names, is_durable);
    Ok(Conductor {
        life: record.as_ref().map_or(1, |line| line.life),
        life_began: record.as_ref().map_or_else(|| means.clock.now(), |line| line.acceptance().at),
        means,
        request,
        place,
        counted,
        plan,
        judged: history::Judged::default(),
        taken_at: RefCell::new(None),
        checks,
        warnings: Vec::new(),
        has_chosen_checks: false,
        base: assignment.base.commit.clone(),
        heeded: 0,
        killed_runners: 0,
        progress: Progress::default(),
        before: None,
        moved: None,
        is_tree_gone: false,
        files: conductor::Files::Unknown,
        stat: None,
        unsettled: Some(former::Former::UNKNOWN),
    })
}

/// The adapter of a tool of a workstream.
fn manifest<'a>(store: impl Into<Manifests<'a>>, tool: &ToolId) -> Result<Manifest, Reason> {
    match adapter::find(store, tool) {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(Reason::new(
            Code::NoAdapter,
            format!("there is no adapter `{tool}`: engine adapters lists them"),
        )),
        Err(error) => Err(Reason::from_error(Code::AdapterInvalid, &error)),
    }
}

/// What the loop may do.
fn plan(store: &Store, assignment: &Assignment, checks: &[bundle::checks::Check]) -> Result<Plan, Reason> {
    let bundle = &assignment.bundle;
    let tool = |id: &ToolId| Ok(Tool { id: id.clone(), takes_prompt: manifest(store, id)?.takes_prompt() });
    Ok(Plan {
        has_setup: !assignment.settings.setup.is_empty(),
        has_tasks: bundle.has_edit(),
        no_change_allowed: bundle.allow_no_change(),
        tool: tool(&bundle.tool)?,
        fallback: assignment.settings.recovery.fallback.iter().map(tool).collect::<Result<_, Reason>>()?,
        checks: checks.iter().map(conductor::of_plan).collect(),
        limits: assignment.limits.clone(),
        recovery: assignment.settings.recovery.clone(),
        quarantine_on_crash: assignment.settings.on_crash == OnCrash::Quarantine,
    })
}

/// What counts as a change.
fn counted(store: &Store, assignment: &Assignment) -> Result<Counted, Reason> {
    let own_files = manifest(store, &assignment.bundle.tool)?.own_files;
    Counted::of(Path::new(&assignment.worktree), &assignment.bundle.writable(), &own_files)
}

/// The job files of the first steps of the workstreams of a run that is not made, as far as nothing has to be known before.
fn first_steps(store: Option<&Store>, jobs: &[Value]) -> Result<Vec<Value>, Reason> {
    let mut documents = Vec::new();
    for job in jobs {
        let request = Request::read(job.to_string().as_bytes())?;
        manifest(store, &request.assignment.bundle.tool)?;
        documents.extend(prompts::first_step(&request)?);
    }
    Ok(documents)
}
