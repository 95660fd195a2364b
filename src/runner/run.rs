//! A whole run: `run-job --job-file F` with all its attempts, and `run-job --claim ID` with one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempt::{self, ThisAttempt};
use super::end::AttemptEnd;
use super::entry::{
    CameIn, Locks, enter_or_recover, look_or_recover, not_recovered, ready_to_start, release, take_locks,
    with_tree,
};
use super::escalate;
use super::past::Past;
use super::paths::Places;
use super::{Patience, RunError, Told, Workplace, verdict};
use crate::adapter::{self, Manifest, ManifestError, registry};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::parse::problem::Problems;
use crate::job::record::Dependency;
use crate::job::spec::{OnCrash, OnFailure};
use crate::job::state::{Ending, Next, after_failure};
use crate::job::{Code, JobFile, JobId, JobResult, Outcome, Parsed, Place, Reason, Status};
use crate::policy;
use crate::process::Paused;
use crate::process::signals::{self, Asked};
use crate::queue::QueueError;
use crate::queue::attempt::{self as lines, End, Start, Started};
use crate::queue::cancel;
use crate::queue::claim::{self, Content, Ready};
use crate::queue::door::{self, Incoming};
use crate::queue::enter::{self, Entered};
use crate::queue::places;
use crate::queue::ready;
use crate::store::control::{AttemptId, CancelWatch};
use crate::store::named_locks;
use crate::store::{Lease, StoreError};

/// How often a runner in its backoff looks whether it was canceled, if no signal wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often an attempt is made again whose job file could not be moved, also of a job that is not to be retried: none of it
/// has run.
const MOVES_RETRIED: u32 = 3;

/// Runs a job file that is not in the queue: all its attempts, unless it is parked.
///
/// # Errors
/// `RunError`: what was not told may be completed by recovery.
pub fn run_direct(
    place: &mut Workplace<'_>,
    parsed: &Parsed,
    bytes: &[u8],
    patience: Patience,
) -> Result<Told, RunError> {
    let job = &parsed.job;
    let incoming = Incoming { job, bytes };
    let begun = place.clock.monotonic();
    place.store.check_space()?;
    let adapter = adapter_of(place, job);
    let locks = match ready_to_start(place, job, usable(&adapter.0), patience)? {
        Ok(ready) => ready,
        Err(reason) if patience == Patience::Park => return park(place, incoming, reason),
        Err(reason) => return Ok(Told::Refused(job.job_id.clone(), reason)),
    };
    let told = match enter_or_recover(place, incoming)? {
        Ok(CameIn::New(mut lease, dependencies)) => {
            let held = Held { lease: &mut lease, locks: &locks, promised: Promised::Not };
            attempts(place, held, incoming, (adapter, dependencies), patience)
        }
        Ok(CameIn::Waited(mut waited, dependencies)) => {
            let incoming = Incoming { job: &waited.parsed.job, bytes: &waited.bytes };
            let lease = &mut waited.lease;
            match cancel::honor(place.store, place.clock, lease, incoming.job, incoming.bytes)? {
                Some(result) => Ok(Told::Result(Box::new(result))),
                None => {
                    let held = Held { lease, locks: &locks, promised: Promised::ToWait };
                    attempts(place, held, incoming, (adapter, dependencies), patience)
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
        Err(reason) => Ok(Told::Refused(job.job_id.clone(), reason)),
    };
    release(locks);
    told
}

/// Of a job that is another one by its key and content, or the one that waits under its id: how that one has ended, or what
/// comes of it when it is claimed. The patience of the run, which has begun at this time, counts for it too.
fn tell_other(
    place: &mut Workplace<'_>,
    id: &JobId,
    patience: Patience,
    begun: Duration,
) -> Result<Told, RunError> {
    let until = match patience {
        Patience::Wait(wait) => begun.saturating_add(wait),
        Patience::Refuse | Patience::Park => Duration::ZERO,
    };
    loop {
        if let Some(result) = result_of(place, id)? {
            return Ok(Told::Ended(result));
        }
        let told = run_claimed(place, id)?;
        let Told::Refused(_, reason) = &told else { return Ok(told) };
        let waits = reason.code.is_waiting();
        if waits && patience == Patience::Park && stays_queued(place, id)? {
            return Ok(Told::Parked(id.clone(), reason.clone()));
        }
        let passes = reason.code.passes();
        let left = until.saturating_sub(place.clock.monotonic());
        if !passes || left.is_zero() {
            // It may have ended between the two looks.
            return Ok(result_of(place, id)?.map_or(told, Told::Ended));
        }
        if let Paused::Interrupted(_) = place.spawner.pause(left.min(Duration::from_millis(200))) {
            return Ok(told);
        }
    }
}

/// The last result of a job that has ended.
fn result_of(place: &Workplace<'_>, id: &JobId) -> Result<Option<Box<JobResult>>, RunError> {
    let line = place.store.read_record(id)?.map(|record| record.line);
    let Some(result) = line.filter(|line| line.status.is_terminal()).and_then(|line| line.result) else {
        return Ok(None);
    };
    // [REC_RESYNC] It is told, so it must be durable, whoever wrote it.
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

/// What a direct run holds while it makes its attempts.
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

/// Makes one attempt of a job that waits in the queue.
///
/// # Errors
/// As `run_direct`.
pub fn run_claimed(place: &mut Workplace<'_>, id: &JobId) -> Result<Told, RunError> {
    place.store.check_space()?;
    let ready = match look_or_recover(place, id)? {
        Ok(ready) => ready,
        Err(reason) => return Ok(Told::Refused(id.clone(), reason)),
    };
    let Ready { mut lease, file, parked_until } = ready;
    let (parsed, bytes) = match file {
        Content::Job(parsed, bytes) => (parsed, bytes),
        Content::Foreign(reason) => {
            places::quarantine_foreign(place.store, &Place::Queued, &format!("{id}.json"), &reason)?;
            return Ok(Told::Refused(id.clone(), reason));
        }
        Content::Invalid(problems) => {
            let result = end_invalid(place, &mut lease, invalid(&problems))?;
            return Ok(Told::Result(Box::new(result)));
        }
    };
    let job = &parsed.job;
    if let Some(result) = cancel::honor(place.store, place.clock, &mut lease, job, &bytes)? {
        return Ok(Told::Result(Box::new(result)));
    }
    let dependencies = match ready::judge(place.store, job, parked_until, place.clock.now())? {
        Ok(dependencies) => dependencies,
        Err(blocker) => return Ok(Told::Refused(id.clone(), blocker.reason())),
    };
    let number = lease.line().map_or(1, crate::job::RecordLine::next_attempt);
    // Under its own lease it is recovered already, and to recover it again would find that lease busy.
    let names = named_locks::of_claim(place.store, job.locks.as_deref());
    let named = take_locks(place, job, &names, number, BTreeSet::from([id.clone()]))?;
    let (manifest, repeatable) = adapter_of(place, job);
    let locks = match with_tree(place, job, usable(&manifest), named) {
        Err(reason) if reason.shortage.is_none() => return Ok(Told::Refused(id.clone(), reason)),
        locks => locks,
    };
    let incoming = Incoming { job, bytes: &bytes };
    let mut start = start_of(incoming, repeatable, dependencies);
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
        // `PARK_SYNC` A person's `cp` was never synced; now it is told that the job waits.
        enter::make_durable(place.store, id)?;
    }
    Ok(Told::Result(Box::new(result)))
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
    let number = AttemptId::of(lease.line()).attempt;
    let path = place.store.job_file(&Place::Running, id);
    match claim::read_at(&path, id, true, place.clock.now()) {
        Ok((Content::Job(parsed, bytes), _)) if starts_like(&parsed.job, judged) => {
            let changed = parsed.job.paths != judged.paths;
            let found = if changed { Places::find(place.store, &parsed.job, number) } else { places_found };
            let claimed = Incoming { job: &parsed.job, bytes: &bytes };
            Ok(one_attempt(place, lease, claimed, manifest, found)?.0)
        }
        Ok((Content::Job(..), _)) => {
            let message =
                "the job file was changed while it was claimed, in what decides when and how it starts";
            write_invalid(place, lease, Reason::new(Code::JobFileChanged, message))
        }
        Ok((Content::Foreign(reason), _)) => write_invalid(place, lease, reason),
        Ok((Content::Invalid(problems), _)) => write_invalid(place, lease, invalid(&problems)),
        Err(error) => {
            let message = format!("the job file was taken away while it was claimed: {error}");
            write_invalid(place, lease, Reason::new(Code::JobFileMissing, message))
        }
    }
}

fn not_moved(error: &QueueError) -> Reason {
    let message = format!("the job file could not be moved to jobs/running: {}", causes(error));
    Reason::new(Code::JobFileNotMoved, message).because(error)
}

/// True if a changed file asks for what was judged before the start: the same adapter, conditions and locks.
fn starts_like(job: &JobFile, judged: &JobFile) -> bool {
    job.tool == judged.tool
        && job.dependencies() == judged.dependencies()
        && job.not_before == judged.not_before
        && job.locks == judged.locks
        && job.on_crash == judged.on_crash
}

fn invalid(problems: &Problems) -> Reason {
    let code = if problems.is_torn() { Code::JobFileMissing } else { Code::InvalidJobFile };
    Reason::new(code, problems.to_string())
}

type Manifests = Result<Option<Manifest>, ManifestError>;

fn usable(manifest: &Manifests) -> Option<&Manifest> {
    manifest.as_ref().ok()?.as_ref()
}

/// The adapter of a job, and whether a crash lets the job run again.
fn adapter_of(place: &Workplace<'_>, job: &JobFile) -> (Manifests, bool) {
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

fn start_of(incoming: Incoming<'_>, repeatable: bool, dependencies: Vec<Dependency>) -> Start {
    Start {
        summary: lines::summary(incoming.job, incoming.bytes),
        repeatable,
        dependencies,
        log_path: None,
        waits_since: None,
    }
}

/// All attempts of a direct run.
fn attempts(
    place: &mut Workplace<'_>,
    Held { lease, locks, promised }: Held<'_>,
    incoming: Incoming<'_>,
    ((manifest, repeatable), dependencies): ((Manifests, bool), Vec<Dependency>),
    patience: Patience,
) -> Result<Told, RunError> {
    let job = incoming.job;
    let mut start = start_of(incoming, repeatable, dependencies);
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
                // [PARK_SYNC] It is told that the job waits: from now on that must be true.
                enter::make_durable(place.store, &job.job_id)?;
            }
            return Ok(Told::Result(Box::new(result)));
        };
        let why = result.reason.as_ref().map_or("", |reason| reason.message.as_str());
        tracing::warn!(
            "attempt {number} {}: {why}; the next one in {:.1} s",
            result.outcome,
            wait.as_secs_f64()
        );
        if patience == Patience::Park {
            // [PARK_SYNC] It is told that the job waits: from now on that must be true.
            enter::make_durable(place.store, &job.job_id)?;
            return Ok(Told::Result(Box::new(result)));
        }
        if let Some(reason) = backoff(place, lease, wait) {
            let result = cancel::write(place.store, place.clock, lease, reason)?;
            return Ok(Told::Result(Box::new(result)));
        }
    }
}

/// Waits for the time of the next attempt; a reason, if the job is canceled meanwhile.
fn backoff(place: &mut Workplace<'_>, lease: &Lease, wait: Duration) -> Option<Reason> {
    let next = CancelWatch::new(place.store, lease.id(), AttemptId::of(lease.line()));
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

/// Makes the attempt that was started and writes its end; the wait until the next one, if there is one.
fn one_attempt(
    place: &mut Workplace<'_>,
    lease: &mut Lease,
    incoming: Incoming<'_>,
    manifest: &Manifests,
    found: Places,
) -> Result<(JobResult, Option<Duration>), RunError> {
    let job = incoming.job;
    let target = AttemptId::of(lease.line());
    let number = target.attempt;
    let usable = match manifest {
        Ok(manifest) => Ok(manifest.as_ref()),
        Err(error) => Err(error),
    };
    let past = Past::of(lease.line());
    let (store, clock) = (place.store, place.clock);
    let mut note_session = |session: &str| {
        if let Err(error) = lines::note_session(store, clock, lease, session) {
            tracing::warn!(error = causes(&error), "the session is not noted in the record");
        }
    };
    let this = ThisAttempt { target, past: &past, places: found, note_session: &mut note_session };
    let mut ended = attempt::run(place, job, usable, this);
    let outcome = ended.result.outcome;
    let was_moved = ended.result.reason.as_ref().is_none_or(|reason| reason.code != Code::JobFileNotMoved);
    let retries = if was_moved { job.max_retries() } else { job.max_retries().max(MOVES_RETRIED) };
    let mut next = after_failure(outcome, ended.cause_may_pass, past.tries, retries);
    if ended.left_alive || ended.for_good {
        next = Next::Stop;
    }
    if ended.left_alive && outcome == Outcome::Parked {
        // Another attempt beside what is left would be two at once.
        ended.result.outcome = Outcome::Failed;
        ended.not_before = None;
    }
    let cancel = CancelWatch::new(store, &job.job_id, target);
    // Once the linked job is in the queue it is that which is canceled.
    let is_over = next == Next::Stop && !matches!(outcome, Outcome::Succeeded | Outcome::Canceled);
    if is_over && job.escalates_to().is_some() {
        cancel_if_asked(&mut ended, &cancel);
    }
    let handed_on = next == Next::Stop && escalate::hand_on(place, incoming, lease.line(), &mut ended);
    if let Some(not_before) = ended.park_instead.filter(|_| !handed_on && !ended.left_alive) {
        ended.result.outcome = Outcome::Parked;
        ended.not_before = Some(not_before);
    }
    let wait = (next == Next::Again)
        .then(|| policy::backoff::wait(job.metadata.known.backoff.as_ref(), job.job_id.as_str(), past.tries));
    tracing::debug!(?wait, %outcome, "attempt {number} ended");
    let not_before = match wait {
        Some(wait) => Some(clock.now().after(wait)),
        None => ended.not_before,
    };
    let on_failure =
        if handed_on { OnFailure::Done } else { job.on_failure.unwrap_or(OnFailure::Quarantine) };
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
    ended.result.outcome = Outcome::Canceled;
    ended.result.reason = Some(reason);
    (ended.not_before, ended.park_instead) = (None, None);
}

fn end_of(ended: AttemptEnd, ending: Ending, not_before: Option<Timestamp>) -> End {
    let AttemptEnd { result, error_report, session_id, work, .. } = ended;
    End { not_before, session_id, work, error_report, ..End::of(ending, result) }
}

/// Leaves a job that cannot start now in the queue.
fn park(place: &mut Workplace<'_>, incoming: Incoming<'_>, reason: Reason) -> Result<Told, RunError> {
    let id = incoming.job.job_id.clone();
    match enter::park(place.store, place.clock, incoming)? {
        Entered::Inside(_) | Entered::Waited(_) => Ok(Told::Parked(id, reason)),
        Entered::Is(other) => {
            let begun = place.clock.monotonic();
            tell_other(place, &other, Patience::Park, begun)
        }
        Entered::Refused(reason) => Ok(Told::Refused(id, reason)),
        Entered::NeedsRecovery => Ok(Told::Refused(id.clone(), not_recovered(&id))),
    }
}

/// Refuses a claimed job file on record.
fn end_invalid(place: &Workplace<'_>, lease: &mut Lease, reason: Reason) -> Result<JobResult, RunError> {
    let summary = lease.line().map_or_else(lines::unknown_summary, |line| line.job.clone());
    let start =
        Start { summary, repeatable: false, dependencies: Vec::new(), log_path: None, waits_since: None };
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
    let end = End { log_path: None, ..End::of(ending, result) };
    Ok(lines::end(place.store, place.clock, lease, end)?)
}
