//! Cancels jobs: a waiting job under its lease, a leased one by a request to the holder.
//!
//! Not responsible for waking the runner nor for waiting until it has ended the tool. Hard rule: no line is written but
//! under the lease `CANCEL_LOCK`, so a job either runs or is canceled, never both.

use super::attempt::{blank_result, next_line, summary};
use super::claim::{self, Content};
use super::situation::Situation;
use super::{Result, places};
use crate::causes::causes;
use crate::clock::Clock;
use crate::fs::Create;
use crate::job::state::{Event, transition};
use crate::job::{Attempt, Code, JobFile, JobId, JobResult, Outcome, Place, Reason, RecordLine};
use crate::store::control::{self, AttemptId, CancelWatch};
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store};

/// The reason of what a person canceled with `engine cancel`.
#[must_use]
pub(crate) fn by_user() -> Reason {
    Reason::new(Code::CanceledByUser, "canceled by `engine cancel`")
}

/// The outcome of a cancel.
#[derive(Debug)]
pub(crate) enum CancelAnswer {
    /// There is no such job.
    NotFound,
    /// It waited; now it is canceled.
    Canceled,
    /// It had ended, this is its durable last line. Canceled by us or by another process counts as canceled.
    Ended(Box<RecordLine>),
    /// A living process holds its lease, and the request to cancel is there; the last attempt, if one has begun: its runner
    /// may be the one. Look again when the holder has had time to honor it.
    Asked(Option<Box<Attempt>>),
    /// Another process holds its lease for a moment. Look again.
    Busy,
    /// Its runner is dead. The request is there: `recovery::recover_one` honors it; then look again.
    NeedsRecovery,
    /// It cannot be canceled, for this reason.
    Refused(Reason),
}

/// Cancels a waiting job, or asks its runner; idempotent.
pub(crate) fn look(store: &Store, clock: &dyn Clock, id: &JobId) -> Result<CancelAnswer> {
    let files = places::active_files(store, id)?;
    if let Some(reason) = files.in_the_way {
        return Ok(CancelAnswer::Refused(reason));
    }
    // A file that a person put there has no record yet.
    let has_file = files.queued || files.running;
    let create = if has_file { Create::IfMissing } else { Create::No };
    let mut lease = match Lease::acquire_soon(store, id, create)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy => return ask(store, clock, id, has_file),
        Acquire::NoRecord => return Ok(CancelAnswer::NotFound),
    };
    // [RECHECK_REC] Reads before the lease do not count.
    let line = lease.line().cloned();
    match (Situation::judge(line.as_ref(), &places::active_files(store, id)?), line) {
        (Situation::Ended | Situation::EndNotMoved, Some(line)) => {
            // [REC_RESYNC] It is reported, so it must be durable, whichever process wrote it.
            lease.resync(store)?;
            forget(store, &lease, AttemptId { life: line.life, attempt: u32::MAX });
            Ok(CancelAnswer::Ended(Box::new(line)))
        }
        (Situation::Queued, _) => waiting(store, clock, &mut lease),
        (Situation::Free, _) => Ok(CancelAnswer::NotFound),
        (_, line) => {
            control::request_cancel(store, id, AttemptId::open_or_next(line.as_ref()), clock.now())?;
            Ok(CancelAnswer::NeedsRecovery)
        }
    }
}

/// A job in `queued/`, under its lease. A crash before the line leaves it queued, one after it leaves a file that recovery
/// moves.
fn waiting(store: &Store, clock: &dyn Clock, lease: &mut Lease) -> Result<CancelAnswer> {
    let known = lease.line().is_some();
    match claim::read(store, lease.id(), known, clock.now())?.0 {
        Content::Foreign(reason) => return Ok(CancelAnswer::Refused(reason)),
        Content::Job(parsed, bytes) if !known => {
            write_with(store, clock, lease, by_user(), |line| line.job = summary(&parsed.job, &bytes))?;
        }
        Content::Job(..) | Content::Invalid(_) => drop(write(store, clock, lease, by_user())?),
    }
    Ok(CancelAnswer::Canceled)
}

/// Cancels a queued job whose lease we hold; returns the answer. The result of its last attempt stays, under
/// the outcome of this.
///
/// # Errors
/// Store errors: then the job is queued.
pub(crate) fn write(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    reason: Reason,
) -> Result<JobResult> {
    write_with(store, clock, lease, reason, |_| {})
}

/// Cancels a job that waits for its first attempt, for a reason that is none of a person; one that a process holds, that has
/// started, or that has ended stays as it is. True if it is canceled by this.
///
/// # Errors
/// Store errors.
pub(crate) fn untouched(store: &Store, clock: &dyn Clock, id: &JobId, reason: &Reason) -> Result<bool> {
    let Acquire::Held(mut lease) = Lease::acquire_soon(store, id, Create::No)? else { return Ok(false) };
    // [RECHECK_REC] Reads before the lease do not count.
    let line = lease.line().cloned();
    let waits =
        matches!(Situation::judge(line.as_ref(), &places::active_files(store, id)?), Situation::Queued);
    if !waits || line.is_none_or(|line| !line.attempts.is_empty()) {
        return Ok(false);
    }
    write(store, clock, &mut lease, reason.clone())?;
    Ok(true)
}

/// Cancels a queued job whose lease we hold, if a request promised it while another process held the lease
/// `CANCEL_CLAIM`: that one may have looked for a request before it came.
///
/// # Errors
/// Store errors: then the job is queued.
pub(crate) fn honor(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    job: &JobFile,
    bytes: &[u8],
) -> Result<Option<JobResult>> {
    let next = AttemptId::open_or_next(lease.line());
    if !CancelWatch::new(store, lease.id(), next).is_asked() {
        return Ok(None);
    }
    let known = lease.line().is_some();
    let complete = |line: &mut RecordLine| {
        if !known {
            line.job = summary(job, bytes);
        }
    };
    write_with(store, clock, lease, by_user(), complete).map(Some)
}

fn write_with(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    reason: Reason,
    complete: impl FnOnce(&mut RecordLine),
) -> Result<JobResult> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::Cancel)?;
    let mut line = next_line(lease, now);
    complete(&mut line);
    let target = AttemptId::open_or_next(Some(&line));
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    line.not_before = None;
    let result = match line.result.take() {
        Some(result) => JobResult {
            status: after.status,
            outcome: Outcome::Canceled,
            reason: Some(reason),
            success: false,
            ..result
        },
        None => blank_result(&line, Outcome::Canceled, Some(reason), now),
    };
    line.result = Some(result.clone());
    let to = line.place.clone();
    lease.commit(store, line, Sync::Now)?;
    lease.give_back();
    // The record has it: recovery makes up for a failed move.
    if let Err(error) = places::settle(store, lease.id(), &Place::Queued, &to) {
        tracing::warn!(error = causes(&error), "job file not moved");
    }
    forget(store, lease, target);
    Ok(result)
}

/// Removes a request to cancel that has nothing to say any more. A request that stays names a former attempt: it is
/// untidy and does nothing.
pub(crate) fn forget(store: &Store, lease: &Lease, upto: AttemptId) {
    if let Err(error) = control::forget_cancel(store, lease.id(), upto) {
        tracing::warn!(error = causes(&error), "request to cancel not removed");
    }
}

/// A job whose lease is not free: asks the holder, once for each attempt.
fn ask(store: &Store, clock: &dyn Clock, id: &JobId, has_file: bool) -> Result<CancelAnswer> {
    let line = store.read_record(id)?.map(|record| record.line);
    if let Some(line) = line.as_ref().filter(|line| line.status.is_terminal()) {
        // Its runner is about to go. [REC_RESYNC] as under the lease.
        store.sync_record(id)?;
        return Ok(CancelAnswer::Ended(Box::new(line.clone())));
    }
    if line.as_ref().is_none_or(RecordLine::is_untouched) && !has_file {
        return Ok(CancelAnswer::Busy);
    }
    let target = AttemptId::open_or_next(line.as_ref());
    if control::cancel_request(store, id).is_none_or(|there| there.target() < target) {
        control::request_cancel(store, id, target, clock.now())?;
    }
    Ok(CancelAnswer::Asked(line.and_then(|line| line.attempts.last().cloned()).map(Box::new)))
}
