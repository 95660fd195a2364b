//! The lines that start and end an attempt, and the moves that follow them.
//!
//! Order of a start: line, sync, move to `running/`. Order of an end: line, sync, journal, move, unlock, tell. A crash
//! between line and move leaves a file in the wrong directory, which recovery moves where the record says.

use super::ready::Met;
use super::{QueueError, Result, places};
use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::job::digest::sha256;
use crate::job::record::{Acceptance, Attempt, Former, JobSummary, Work};
use crate::job::result::{ErrorReport, JobResult, Usage};
use crate::job::state::{Ending, Event, transition};
use crate::job::{JobFile, JobId, Outcome, Place, Reason, RecordLine, SCHEMA_VERSION};
use crate::store::batch_sync::BatchSync;
use crate::store::lease::Sync;
use crate::store::{Lease, Store};

/// The part of a job file that the record keeps.
#[must_use]
pub(crate) fn summary(job: &JobFile, bytes: &[u8]) -> JobSummary {
    JobSummary {
        run_id: job.run_id.clone(),
        workstream_id: job.workstream_id.clone(),
        parent: job.parent.clone(),
        tool: Some(job.tool.clone()),
        key: job.key.clone(),
        priority: job.priority,
        depends_on: job.dependencies().to_vec(),
        after_count: u32::try_from(job.comes_after().len()).unwrap_or(u32::MAX),
        sha256: Some(sha256(bytes)),
    }
}

/// The part of an unreadable job file that the record keeps.
#[must_use]
pub fn unknown_summary() -> JobSummary {
    JobSummary {
        run_id: None,
        workstream_id: None,
        parent: None,
        tool: None,
        key: None,
        priority: None,
        depends_on: Vec::new(),
        after_count: 0,
        sha256: None,
    }
}

/// The line that follows the last one of a record, or its first.
#[must_use]
pub fn next_line(lease: &Lease, now: Timestamp) -> RecordLine {
    match lease.line() {
        Some(last) => RecordLine { at: now, ..last.clone() },
        None => first_line(lease.id(), now),
    }
}

pub(super) fn first_line(id: &JobId, now: Timestamp) -> RecordLine {
    RecordLine {
        schema_version: SCHEMA_VERSION,
        seq: 1,
        at: now,
        job_id: id.clone(),
        status: crate::job::Status::Queued,
        place: Place::Queued,
        not_before: None,
        job: unknown_summary(),
        life: 1,
        first_attempt: 1,
        former: Former::default(),
        attempts: Vec::new(),
        result: None,
        error_report: None,
        accepted: None,
    }
}

/// The line that begins a new life of an ended job: its attempts are counted, not carried on.
#[must_use]
pub fn new_life(last: &RecordLine, summary: JobSummary, now: Timestamp) -> RecordLine {
    let life = last.life.saturating_add(1);
    RecordLine {
        at: now,
        status: crate::job::Status::Queued,
        place: Place::Queued,
        not_before: None,
        job: summary,
        life,
        first_attempt: last.next_attempt(),
        former: Former {
            lives: last.life,
            attempts: last.next_attempt().saturating_sub(1),
            last_outcome: last.attempts.last().and_then(|a| a.outcome).or(last.former.last_outcome),
            parked: 0,
            shortages: 0,
        },
        attempts: Vec::new(),
        result: None,
        error_report: None,
        accepted: Some(Acceptance { life, at: now, place: last.acceptance().place }),
        ..last.clone()
    }
}

/// An attempt that starts now, in this process.
#[must_use]
pub fn open_attempt(store: &Store, number: u32, now: Timestamp) -> Attempt {
    Attempt {
        attempt: number,
        started_at: now,
        ended_at: None,
        outcome: None,
        reason: None,
        exit_code: None,
        signal: None,
        usage: None,
        log_path: None,
        session_id: None,
        work: None,
        host: store.identity.host.clone(),
        boot_id: store.identity.boot_id.clone(),
        pid_namespace: store.identity.pid_namespace.clone(),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        repeatable: false,
        dependencies: Vec::new(),
        after: None,
    }
}

/// The start of an attempt, as written to the record.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// Of the job file.
    pub summary: JobSummary,
    /// True if a crash lets the job run again.
    pub repeatable: bool,
    /// What it waited for, as it was found.
    pub met: Met,
    /// Where the log will be, if that can be said.
    pub log_path: Option<String>,
    /// Since when a job waits that has no record, if it has waited.
    pub waits_since: Option<Timestamp>,
}

/// The outcome of a start. The attempt is open either way.
#[derive(Debug)]
#[must_use]
pub(crate) enum Started {
    /// The file is in `running/`: the tool may be started.
    Moved,
    /// The file could not be moved: the tool must not be started, and the caller ends the attempt as not started.
    NotMoved(QueueError),
}

/// Starts an attempt: reserves the space of its last line, writes and syncs the start, moves the file.
///
/// # Errors
/// Store errors: the line was not written, and nothing has changed.
pub(crate) fn start(store: &Store, clock: &dyn Clock, lease: &mut Lease, start: Start) -> Result<Started> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::Claim)?;
    lease.reserve()?;
    let mut line = next_line(lease, now);
    let attempt = open_attempt(store, line.next_attempt(), now);
    line.attempts.push(Attempt {
        repeatable: start.repeatable,
        dependencies: start.met.dependencies,
        after: start.met.after,
        log_path: start.log_path,
        ..attempt
    });
    line.accepted = Some(match lease.line() {
        Some(last) => last.acceptance(),
        None => Acceptance { life: line.life, at: start.waits_since.unwrap_or(now), place: 0 },
    });
    line.job = start.summary;
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    line.not_before = None;
    // [REC_RESYNC] A power loss must not undo the basis of the start; its writer may be about to sync it.
    for dependency in line.attempts.last().map(|attempt| &attempt.dependencies).into_iter().flatten() {
        match store.sync_record(&dependency.job_id) {
            // A retired job is durable in the archive.
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    // [AFTER_SYNC] Likewise of what it comes after, however many jobs that are.
    if !start.met.ends.is_empty() {
        let paths: Vec<_> = start.met.ends.iter().map(|id| store.record_path(id)).collect();
        BatchSync::begin(store)?.sync(store, &paths)?;
    }
    // [REC_FIRST] [START_REC] [START_SYNC] Whoever sees the file in `running/`, or its tool, finds this line.
    lease.commit(store, line, Sync::Now)?;
    // An open attempt whose runner gives up would be called lost, although its tool has never run.
    let moved = places::settle(store, lease.id(), &Place::Queued, &Place::Running);
    Ok(moved.map_or_else(Started::NotMoved, |()| Started::Moved))
}

/// Notes in the open attempt an agent's own name of its session, so that it is known whatever happens.
///
/// Nothing depends on the line: it is not synced, and the next one holds all of it.
///
/// # Errors
/// Store errors: then the session is known at the end of the attempt only.
pub(crate) fn note_session(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    session_id: &str,
) -> Result<()> {
    let mut line = next_line(lease, clock.now());
    if let Some(attempt) = line.attempts.last_mut().filter(|attempt| attempt.outcome.is_none()) {
        attempt.session_id = Some(session_id.to_owned());
        lease.commit(store, line, Sync::Later)?;
    }
    Ok(())
}

/// The end of an attempt, as written to the record.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// How, and what follows.
    pub ending: Ending,
    /// When the next attempt may start, if there is one.
    pub not_before: Option<Timestamp>,
    /// Why.
    pub reason: Option<Reason>,
    /// The tool's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it used.
    pub usage: Option<Usage>,
    /// The log.
    pub log_path: Option<String>,
    /// An agent's own name of its session.
    pub session_id: Option<String>,
    /// The changes of an agent to the worktree.
    pub work: Option<Work>,
    /// The result; its status is set here.
    pub result: JobResult,
    /// Why it is not a success.
    pub error_report: Option<ErrorReport>,
}

impl End {
    /// The end that a result tells, with nothing beside it.
    #[must_use]
    pub(crate) fn from_result(ending: Ending, result: JobResult) -> Self {
        Self {
            ending,
            not_before: None,
            reason: result.reason.clone(),
            exit_code: result.exit_code,
            signal: result.signal,
            usage: result.usage,
            log_path: result.log_path.clone(),
            session_id: None,
            work: None,
            result,
            error_report: None,
        }
    }
}

/// Ends the open attempt: writes and syncs the end, gives back the space, moves the file.
///
/// # Errors
/// Store errors: then the attempt is open, and recovery will call it lost.
pub(crate) fn end(store: &Store, clock: &dyn Clock, lease: &mut Lease, end: End) -> Result<JobResult> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::End(end.ending))?;
    let mut line = next_line(lease, now);
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    line.not_before = end.not_before;
    if let Some(attempt) = line.attempts.last_mut() {
        attempt.ended_at = Some(now);
        attempt.outcome = Some(end.ending.outcome);
        attempt.reason = end.reason;
        attempt.exit_code = end.exit_code;
        attempt.signal = end.signal;
        attempt.usage = end.usage;
        attempt.log_path = end.log_path;
        attempt.work = end.work;
        attempt.session_id = end.session_id.or(attempt.session_id.take());
    }
    let result = JobResult { status: after.status, finished_at: now, ..end.result };
    line.result = Some(result.clone());
    line.error_report = end.error_report;
    let place = line.place.clone();
    // [FIN_SYNC] [FIN_ORDER] [RETRY_ORDER] The record first and durable, then the file.
    lease.commit(store, line, Sync::Now)?;
    lease.give_back();
    // The verdict is in the record: recovery makes up for a failed move.
    if let Err(error) = places::settle(store, lease.id(), &Place::Running, &place) {
        tracing::warn!(error = causes(&error), "job file not moved");
    }
    Ok(result)
}

/// The result of an attempt whose end no process saw.
#[must_use]
pub(crate) fn blank_result(
    line: &RecordLine,
    outcome: Outcome,
    reason: Option<Reason>,
    now: Timestamp,
) -> JobResult {
    let last = line.attempts.last();
    let started_at = last.map_or(now, |attempt| attempt.started_at);
    JobResult {
        schema_version: SCHEMA_VERSION,
        job_id: line.job_id.clone(),
        tool: line.job.tool.clone(),
        attempt: last.map_or(0, |attempt| attempt.attempt),
        success: false,
        status: line.status,
        outcome,
        reason,
        exit_code: None,
        signal: None,
        started_at,
        finished_at: now,
        duration_s: now.since(started_at).as_secs_f64(),
        usage: None,
        log_path: last.and_then(|attempt| attempt.log_path.clone()),
        error_report_path: None,
        stdout: String::new(),
        stderr: String::new(),
        stdout_truncated: false,
        stderr_truncated: false,
        metadata: serde_json::Map::new(),
    }
}
