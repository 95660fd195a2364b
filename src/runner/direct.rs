//! A direct run: `run-job --job-file F` with all its attempts.

use std::time::Duration;

use super::claimed::run_claimed;
use super::entry::{
    CameIn, Locks, enter_or_recover, not_recovered, ready_to_start, release, why_not_under_parent,
};
use super::one_attempt::{Manifests, adapter_of, not_moved, one_attempt, start_of, usable};
use super::paths::Places;
use super::{Conclusion, Patience, RunError, Workplace, verdict};
use crate::job::{Code, JobId, JobResult, Parsed, Reason, Status};
use crate::process::Paused;
use crate::queue::QueueError;
use crate::queue::attempt::{self as lines, Started};
use crate::queue::cancel;
use crate::queue::door::{self, Incoming};
use crate::queue::enter::{self, Entered};
use crate::queue::ready::Met;
use crate::store::control::{AttemptId, CancelWatch};
use crate::store::{Lease, StoreError};

/// How often a runner in its backoff looks whether it was canceled, if no signal wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs a job file that is not in the queue: all its attempts, unless it is parked.
///
/// # Errors
/// `RunError`: recovery may complete what was not reported.
pub(crate) fn run_direct(
    place: &mut Workplace<'_>,
    parsed: &Parsed,
    bytes: &[u8],
    patience: Patience,
) -> Result<Conclusion, RunError> {
    let job = &parsed.job;
    let incoming = Incoming { job, bytes };
    let begun = place.clock.monotonic();
    place.store.check_space()?;
    if let Some(reason) = why_not_under_parent(place, job)? {
        return Ok(Conclusion::Refused(job.job_id.clone(), reason));
    }
    let adapter = adapter_of(place, job);
    let locks = match ready_to_start(place, job, usable(&adapter.0), patience)? {
        Ok(ready) => ready,
        Err(reason) if patience == Patience::Park => return park(place, incoming, reason),
        Err(reason) => return Ok(Conclusion::Refused(job.job_id.clone(), reason)),
    };
    let conclusion = match enter_or_recover(place, incoming)? {
        Ok(CameIn::New(mut lease, met)) => {
            let held = Held { lease: &mut lease, locks: &locks, promised: Promised::Not };
            attempts(place, held, incoming, (adapter, met), patience)
        }
        Ok(CameIn::Waited(mut waited, met)) => {
            let incoming = Incoming { job: &waited.parsed.job, bytes: &waited.bytes };
            let lease = &mut waited.lease;
            match cancel::honor(place.store, place.clock, lease, incoming.job, incoming.bytes)? {
                Some(result) => Ok(Conclusion::Result(Box::new(result))),
                None => {
                    let held = Held { lease, locks: &locks, promised: Promised::ToWait };
                    attempts(place, held, incoming, (adapter, met), patience)
                }
            }
        }
        Ok(CameIn::Is(other)) => {
            release(locks);
            return tell_other(place, &other, patience, begun);
        }
        Err(reason) if patience == Patience::Park && reason.code == Code::WaitingTime => {
            release(locks);
            return park(place, incoming, reason);
        }
        Err(reason) => Ok(Conclusion::Refused(job.job_id.clone(), reason)),
    };
    release(locks);
    conclusion
}

/// Of a job that is another one by its key and content, or the one that waits under its id: how that one has ended, or what
/// comes of it when it is claimed. The patience of the run, which has begun at this time, counts for it too.
fn tell_other(
    place: &mut Workplace<'_>,
    id: &JobId,
    patience: Patience,
    begun: Duration,
) -> Result<Conclusion, RunError> {
    let until = match patience {
        Patience::Wait(wait) => begun.saturating_add(wait),
        Patience::Refuse | Patience::Park => Duration::ZERO,
    };
    loop {
        if let Some(result) = result_of(place, id)? {
            return Ok(Conclusion::Ended(result));
        }
        let conclusion = run_claimed(place, id)?;
        let Conclusion::Refused(_, reason) = &conclusion else { return Ok(conclusion) };
        let waits = reason.code.is_waiting();
        if waits && patience == Patience::Park && stays_queued(place, id)? {
            return Ok(Conclusion::Parked(id.clone(), reason.clone()));
        }
        let passes = reason.code.passes();
        let left = until.saturating_sub(place.clock.monotonic());
        if !passes || left.is_zero() {
            // It may have ended between the two looks.
            return Ok(result_of(place, id)?.map_or(conclusion, Conclusion::Ended));
        }
        if let Paused::Interrupted(_) = place.spawner.pause(left.min(Duration::from_millis(200))) {
            return Ok(conclusion);
        }
    }
}

/// The last result of a job that has ended.
fn result_of(place: &Workplace<'_>, id: &JobId) -> Result<Option<Box<JobResult>>, RunError> {
    let line = place.store.read_record(id)?.map(|record| record.line);
    let Some(result) = line.filter(|line| line.status.is_terminal()).and_then(|line| line.result) else {
        return Ok(None);
    };
    // [REC_RESYNC] It is reported, so it must be durable, whichever process wrote it.
    place.store.sync_record(id)?;
    Ok(Some(Box::new(result)))
}

/// Makes it durable that a job waits `PARK_SYNC`; false if it has been claimed meanwhile.
fn stays_queued(place: &Workplace<'_>, id: &JobId) -> Result<bool, RunError> {
    match enter::make_durable(place.store, id) {
        Ok(()) => Ok(true),
        Err(QueueError::Store(StoreError::Fs(error))) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The lease and the locks of a direct run while it makes its attempts.
struct Held<'a> {
    lease: &'a mut Lease,
    locks: &'a Locks,
    promised: Promised,
}

/// Whether a job must stay in the queue if its first attempt cannot even be recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promised {
    Not,
    /// It was accepted before this run.
    ToWait,
}

/// All attempts of a direct run.
fn attempts(
    place: &mut Workplace<'_>,
    Held { lease, locks, promised }: Held<'_>,
    incoming: Incoming<'_>,
    ((manifest, repeatable), met): ((Manifests, bool), Met),
    patience: Patience,
) -> Result<Conclusion, RunError> {
    let job = incoming.job;
    let mut start = start_of(incoming, repeatable, met);
    loop {
        let number = lease.line().map_or(1, crate::job::RecordLine::next_attempt);
        let mut found = Places::find(place.store, job, number);
        start.log_path = found.log_path();
        let named = locks.name_attempt(place.store, &job.job_id, number).map_err(QueueError::from);
        match named.and_then(|()| lines::start(place.store, place.clock, lease, start.clone())) {
            Ok(Started::Moved) => {}
            Ok(Started::NotMoved(error)) => found = Places::none(&not_moved(&error)),
            Err(error) => {
                match promised {
                    Promised::Not => door::withdraw(place.store, lease),
                    Promised::ToWait => lease.give_back(),
                }
                return Err(error.into());
            }
        }
        let (result, wait) = one_attempt(place, lease, incoming, &manifest, found)?;
        let Some(wait) = wait else {
            if result.status == Status::Queued {
                // [PARK_SYNC] The job is reported as waiting: from now on that must be true.
                enter::make_durable(place.store, &job.job_id)?;
            }
            return Ok(Conclusion::Result(Box::new(result)));
        };
        let why = result.reason.as_ref().map_or("", |reason| reason.message.as_str());
        tracing::warn!(
            "attempt {number} {}: {why}; next attempt in {:.1} s",
            result.outcome,
            wait.as_secs_f64()
        );
        if patience == Patience::Park {
            // [PARK_SYNC] The job is reported as waiting: from now on that must be true.
            enter::make_durable(place.store, &job.job_id)?;
            return Ok(Conclusion::Result(Box::new(result)));
        }
        if let Some(reason) = backoff(place, lease, wait) {
            let result = cancel::write(place.store, place.clock, lease, reason)?;
            return Ok(Conclusion::Result(Box::new(result)));
        }
    }
}

/// Waits for the time of the next attempt; a reason, if the job is canceled meanwhile.
fn backoff(place: &mut Workplace<'_>, lease: &Lease, wait: Duration) -> Option<Reason> {
    let next = CancelWatch::new(place.store, lease.id(), AttemptId::open_or_next(lease.line()));
    let until = place.clock.monotonic().saturating_add(wait);
    loop {
        if next.is_asked() {
            return Some(cancel::by_user());
        }
        let left = until.saturating_sub(place.clock.monotonic());
        if left.is_zero() {
            return None;
        }
        if let Paused::Interrupted(interrupt) = place.spawner.pause(left.min(LOOK_EVERY)) {
            return Some(verdict::interrupted(interrupt));
        }
    }
}

/// Leaves a job that cannot start now in the queue.
fn park(place: &mut Workplace<'_>, incoming: Incoming<'_>, reason: Reason) -> Result<Conclusion, RunError> {
    let id = incoming.job.job_id.clone();
    match enter::park(place.store, place.clock, incoming)? {
        Entered::Inside(_) | Entered::Waited(_) => Ok(Conclusion::Parked(id, reason)),
        Entered::Is(other) => {
            let begun = place.clock.monotonic();
            tell_other(place, &other, Patience::Park, begun)
        }
        Entered::Refused(reason) => Ok(Conclusion::Refused(id, reason)),
        Entered::NeedsRecovery => Ok(Conclusion::Refused(id.clone(), not_recovered(&id))),
    }
}
