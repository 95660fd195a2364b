//! One attempt of a job that waits in the queue: `run-job --claim ID`, and each runner of a worker.

use std::collections::BTreeSet;

use super::entry::{look_or_recover, release, take_locks, why_not_under_parent, with_tree};
use super::one_attempt::{Manifests, adapter_of, not_moved, one_attempt, start_of, usable};
use super::paths::Places;
use super::{Conclusion, RunError, Workplace};
use crate::job::parse::problem::Problems;
use crate::job::spec::OnFailure;
use crate::job::state::{Ending, Next};
use crate::job::{Code, JobFile, JobId, JobResult, Outcome, Place, Reason, Status};
use crate::queue::attempt::{self as lines, End, Start, Started};
use crate::queue::claim::{self, Content, Ready};
use crate::queue::door::Incoming;
use crate::queue::{cancel, enter, places, ready};
use crate::store::control::AttemptId;
use crate::store::{Lease, named_locks};

/// Makes one attempt of a job that waits in the queue.
///
/// # Errors
/// `RunError`: recovery may complete what was not reported.
pub(crate) fn run_claimed(place: &mut Workplace<'_>, id: &JobId) -> Result<Conclusion, RunError> {
    place.store.check_space()?;
    let ready = match look_or_recover(place, id)? {
        Ok(ready) => ready,
        Err(reason) => return Ok(Conclusion::Refused(id.clone(), reason)),
    };
    let Ready { mut lease, file, parked_until } = ready;
    let (parsed, bytes) = match file {
        Content::Job(parsed, bytes) => (parsed, bytes),
        Content::Foreign(reason) => {
            places::quarantine_foreign(place.store, &Place::Queued, &format!("{id}.json"), &reason)?;
            return Ok(Conclusion::Refused(id.clone(), reason));
        }
        Content::Invalid(problems) => {
            let result = end_invalid(place, &mut lease, invalid(&problems))?;
            return Ok(Conclusion::Result(Box::new(result)));
        }
    };
    let job = &parsed.job;
    if let Some(reason) = why_not_under_parent(place, job)? {
        return Ok(Conclusion::Refused(id.clone(), reason));
    }
    if let Some(result) = cancel::honor(place.store, place.clock, &mut lease, job, &bytes)? {
        return Ok(Conclusion::Result(Box::new(result)));
    }
    let met = match ready::judge_under(place.store, job, parked_until, place.clock.now())? {
        Ok(met) => met,
        Err(blocker) => return Ok(Conclusion::Refused(id.clone(), blocker.reason())),
    };
    let number = lease.line().map_or(1, crate::job::RecordLine::next_attempt);
    // Under its own lease it is recovered already, and to recover it again would find that lease busy.
    let names = named_locks::of_claim(place.store, job);
    let named = take_locks(place, job, &names, number, BTreeSet::from([id.clone()]))?;
    let (manifest, repeatable) = adapter_of(place, job);
    let locks = match with_tree(place, job, usable(&manifest), named) {
        Err(reason) if reason.shortage.is_none() => return Ok(Conclusion::Refused(id.clone(), reason)),
        locks => locks,
    };
    let incoming = Incoming { job, bytes: &bytes };
    let mut start = start_of(incoming, repeatable, met);
    let places_found = match &locks {
        Ok(_) => Places::find(place.store, job, number),
        // Without its locks it is not run: it is parked, as after any other shortage.
        Err(reason) => Places::none(reason),
    };
    start.log_path = places_found.log_path();
    start.waits_since = if lease.line().is_some() { None } else { claim::changed_at(place.store, id) };
    let result = match lines::start(place.store, place.clock, &mut lease, start)? {
        _ if locks.is_err() => one_attempt(place, &mut lease, incoming, &manifest, places_found)?.0,
        Started::Moved => attempt_of_file(place, &mut lease, job, &manifest, places_found)?,
        Started::NotMoved(error) => {
            one_attempt(place, &mut lease, incoming, &manifest, Places::none(&not_moved(&error)))?.0
        }
    };
    if let Ok(locks) = locks {
        release(locks);
    }
    if result.status == Status::Queued {
        // `PARK_SYNC` A person's `cp` was never synced; now the job is reported as waiting.
        enter::make_durable(place.store, id)?;
    }
    Ok(Conclusion::Result(Box::new(result)))
}

/// Makes the open attempt of the job file in `running/`: an editor may have saved it by rename until it left `queued/`, so what is
/// there now counts. Whatever is wrong with it ends the attempt.
fn attempt_of_file(
    place: &mut Workplace<'_>,
    lease: &mut Lease,
    judged: &JobFile,
    manifest: &Manifests,
    places_found: Places,
) -> Result<JobResult, RunError> {
    let id = &judged.job_id;
    let number = AttemptId::open_or_next(lease.line()).attempt;
    let path = place.store.job_file(&Place::Running, id);
    match claim::read_at(&path, id, true, place.clock.now()) {
        Ok((Content::Job(parsed, bytes), _)) if starts_like(&parsed.job, judged) => {
            let changed = parsed.job.paths != judged.paths;
            let found = if changed { Places::find(place.store, &parsed.job, number) } else { places_found };
            let claimed = Incoming { job: &parsed.job, bytes: &bytes };
            Ok(one_attempt(place, lease, claimed, manifest, found)?.0)
        }
        Ok((Content::Job(..), _)) => {
            let message = "the job file changed during the claim, in keys that decide when and how it starts";
            write_invalid(place, lease, Reason::new(Code::JobFileChanged, message))
        }
        Ok((Content::Foreign(reason), _)) => write_invalid(place, lease, reason),
        Ok((Content::Invalid(problems), _)) => write_invalid(place, lease, invalid(&problems)),
        Err(error) => {
            let message = format!("the job file was removed during the claim: {error}");
            write_invalid(place, lease, Reason::new(Code::JobFileMissing, message))
        }
    }
}

/// True if a changed file asks for what was judged before the start: the same adapter, conditions and locks.
fn starts_like(job: &JobFile, judged: &JobFile) -> bool {
    job.tool == judged.tool
        && job.parent == judged.parent
        && job.dependencies() == judged.dependencies()
        && job.comes_after() == judged.comes_after()
        && job.not_before == judged.not_before
        && job.locks == judged.locks
        && job.on_crash == judged.on_crash
}

fn invalid(problems: &Problems) -> Reason {
    let code = if problems.is_torn() { Code::JobFileMissing } else { Code::InvalidJobFile };
    Reason::new(code, problems.to_string())
}

/// Refuses a claimed job file on record.
fn end_invalid(place: &Workplace<'_>, lease: &mut Lease, reason: Reason) -> Result<JobResult, RunError> {
    let summary = lease.line().map_or_else(lines::unknown_summary, |line| line.job.clone());
    let met = ready::Met::default();
    let start = Start { summary, repeatable: false, met, log_path: None, waits_since: None };
    // Nothing is to be started, wherever the file is.
    let _: Started = lines::start(place.store, place.clock, lease, start)?;
    write_invalid(place, lease, reason)
}

/// Ends the open attempt of a job whose file cannot be run.
fn write_invalid(place: &Workplace<'_>, lease: &mut Lease, reason: Reason) -> Result<JobResult, RunError> {
    let now = place.clock.now();
    let line = lines::next_line(lease, now);
    let result = lines::blank_result(&line, Outcome::Invalid, Some(reason), now);
    let ending = Ending { outcome: Outcome::Invalid, next: Next::Stop, on_failure: OnFailure::Quarantine };
    let end = End { log_path: None, ..End::from_result(ending, result) };
    Ok(lines::end(place.store, place.clock, lease, end)?)
}
