//! Makes the attempt that is open in the record, ends it there, and applies its consequence.

use std::time::Duration;

use super::attempt::{self, ThisAttempt};
use super::end::{AttemptEnd, Stop, Then};
use super::past::Past;
use super::paths::Places;
use super::{RunError, Workplace, escalate, verdict};
use crate::adapter::{self, Manifest, ManifestError, registry};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::spec::{OnCrash, OnFailure};
use crate::job::state::{Ending, Next};
use crate::job::{Code, JobFile, JobResult, Outcome, Reason, Status};
use crate::policy;
use crate::process::signals::{self, Asked};
use crate::queue::QueueError;
use crate::queue::attempt::{self as lines, Start};
use crate::queue::cancel;
use crate::queue::door::Incoming;
use crate::queue::ready::Met;
use crate::store::Lease;
use crate::store::control::{AttemptId, CancelWatch};

/// How often an attempt is made again whose job file could not be moved, also of a job that is not to be retried: none of it
/// has run.
const MOVES_RETRIED: u32 = 3;

/// Makes the started attempt and writes its end; returns the wait until the next one, if any.
pub(super) fn one_attempt(
    place: &mut Workplace<'_>,
    lease: &mut Lease,
    incoming: Incoming<'_>,
    manifest: &Manifests,
    found: Places,
) -> Result<(JobResult, Option<Duration>), RunError> {
    let job = incoming.job;
    let target = AttemptId::open_or_next(lease.line());
    let number = target.attempt;
    let usable = match manifest {
        Ok(manifest) => Ok(manifest.as_ref()),
        Err(error) => Err(error),
    };
    let past = Past::from_last_line(lease.line());
    let (store, clock) = (place.store, place.clock);
    let mut note_session = |session: &str| {
        if let Err(error) = lines::note_session(store, clock, lease, session) {
            tracing::warn!(error = causes(&error), "cannot note the session in the record");
        }
    };
    let this = ThisAttempt { target, past: &past, places: found, note_session: &mut note_session };
    let mut ended = attempt::run(place, job, usable, this);
    let cancel = CancelWatch::new(store, &job.job_id, target);
    if job.parent.is_some() && ended.result.outcome != Outcome::Canceled {
        // [CHILD_CANCELED] A tool that was stopped with its parent has given no verdict of the work.
        cancel_if_asked(&mut ended, &cancel);
    }
    let outcome = ended.result.outcome;
    let was_moved = ended.result.reason.as_ref().is_none_or(|reason| reason.code != Code::JobFileNotMoved);
    let retries = if was_moved { job.max_retries() } else { job.max_retries().max(MOVES_RETRIED) };
    let next = ended.next(past.tries, retries);
    if ended.then == Then::Stop(Stop::LeftAlive) && outcome == Outcome::Parked {
        ended.result.outcome = Outcome::Failed;
    }
    // Once the linked job is in the queue it is that which is canceled.
    let is_over = next == Next::Stop && !matches!(outcome, Outcome::Succeeded | Outcome::Canceled);
    if is_over && job.escalates_to().is_some() {
        cancel_if_asked(&mut ended, &cancel);
    }
    let handed_on = next == Next::Stop && escalate::hand_on(place, incoming, lease.line(), &mut ended);
    let parked_until = ended.parked_until().filter(|_| !handed_on);
    if parked_until.is_some() {
        ended.result.outcome = Outcome::Parked;
    }
    let wait = (next == Next::Again)
        .then(|| policy::backoff::wait(job.metadata.known.backoff.as_ref(), job.job_id.as_str(), past.tries));
    tracing::debug!(?wait, then = ?ended.then, %outcome, "attempt {number} ended");
    let not_before = match wait {
        Some(wait) => Some(clock.now().after(wait)),
        None => parked_until,
    };
    let on_failure = match ended.then {
        _ if handed_on => OnFailure::Done,
        Then::Stop(Stop::Quarantined) => OnFailure::Quarantine,
        _ => job.on_failure.unwrap_or(OnFailure::Quarantine),
    };
    let outcome = ended.result.outcome;
    let ending = Ending { outcome, next, on_failure };
    let end = end_of(ended, ending, not_before);
    let kept = lines::end(store, clock, lease, end);
    let result =
        kept.map_err(|source| RunError::ResultNotKept { id: job.job_id.clone(), outcome, source })?;
    let goes_on = result.status == Status::Queued;
    if goes_on && cancel.is_asked() {
        // The tool failed before it could be stopped: what was asked for is that there is no other attempt.
        let result = cancel::write(store, clock, lease, cancel::by_user())?;
        return Ok((result, None));
    }
    if !goes_on {
        cancel::forget(store, lease, target);
    }
    Ok((result, wait))
}

/// Makes a canceled one of an attempt whose end would start another adapter: that is what a person does not want any more.
fn cancel_if_asked(ended: &mut AttemptEnd, cancel: &CancelWatch) {
    let reason = match signals::asked() {
        Asked::Once(interrupt) | Asked::Again(interrupt) => verdict::interrupted(interrupt),
        Asked::Not if cancel.is_asked() => cancel::by_user(),
        Asked::Not => return,
    };
    ended.cancel(reason);
}

fn end_of(ended: AttemptEnd, ending: Ending, not_before: Option<Timestamp>) -> lines::End {
    let AttemptEnd { result, error_report, session_id, work, .. } = ended;
    lines::End { not_before, session_id, work, error_report, ..lines::End::from_result(ending, result) }
}

/// The adapter of a job, if there is one and it is valid.
pub(super) type Manifests = Result<Option<Manifest>, ManifestError>;

pub(super) fn usable(manifest: &Manifests) -> Option<&Manifest> {
    manifest.as_ref().ok()?.as_ref()
}

/// The adapter of a job, and whether a crash lets the job run again.
pub(super) fn adapter_of(place: &Workplace<'_>, job: &JobFile) -> (Manifests, bool) {
    let manifest = adapter::find(place.store, &job.tool);
    if let Some(path) = registry::not_used(place.store, &job.tool) {
        tracing::warn!(
            "the built-in adapter is used instead of `{}`: the root is not accepted yet (`engine init --adopt`)",
            path.display()
        );
    }
    let by_adapter = matches!(&manifest, Ok(Some(manifest)) if manifest.repeatable);
    let repeatable = job.on_crash.map_or(by_adapter, |wish| wish == OnCrash::Requeue);
    (manifest, repeatable)
}

pub(super) fn start_of(incoming: Incoming<'_>, repeatable: bool, met: Met) -> Start {
    Start {
        summary: lines::summary(incoming.job, incoming.bytes),
        repeatable,
        met,
        log_path: None,
        waits_since: None,
    }
}

/// Why an attempt is not made whose job file did not move.
pub(super) fn not_moved(error: &QueueError) -> Reason {
    let message = format!("the job file could not be moved to jobs/running: {}", causes(error));
    Reason::new(Code::JobFileNotMoved, message).because(error)
}
