//! Recovers from a crash or a power loss: brings the files to where the records say.
//!
//! Idempotent, and itself safe to crash at any step. Ending the left-over processes of a dead attempt is the caller's
//! task (this layer starts and ends no process), and comes before anything else happens to the job `KILL_FIRST`.

use std::collections::BTreeSet;

use super::attempt::{blank_result, next_line, open_attempt};
use super::claim::{self, Content};
use super::places::{self, ActiveFiles};
pub(crate) use super::recovered::Recovered;
use super::situation::Situation;
use super::{Result, cancel, handed_on, temporary};
use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::fs::Create;
use crate::job::result::ErrorReport;
use crate::job::spec::OnCrash;
use crate::job::state::{CRASHES_ALLOWED, Event, Next, after_loss, transition};
use crate::job::{Attempt, Code, JobFile, JobId, Outcome, Place, Reason, RecordLine};
use crate::store::control::{AttemptId, CancelWatch};
use crate::store::identity::Judge;
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store, StoreError, journal};

/// Options of recovery.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// A machine that a person says is dead: its attempts may be declared lost.
    pub host_is_dead: Option<String>,
    /// Whether a repeatable job is queued again.
    pub again: Again,
}

/// Whether a repeatable job is queued again after a crash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Again {
    /// If the job or its adapter says that it may.
    #[default]
    IfRepeatable,
    /// No: the recovering process runs it itself.
    Never,
}

/// Ends the left-over processes of the attempt that is to be declared lost; else why it must not be.
pub(crate) type EndLeftOvers<'a> = dyn FnMut(&Lease) -> std::result::Result<(), Recovered> + 'a;

/// The report of `recover_all`.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The jobs for which something was done or found, in order.
    pub jobs: Vec<(JobId, Recovered)>,
    /// The jobs that could not be recovered, and why; the others were.
    pub failed: Vec<(JobId, String)>,
    /// Files that are no jobs, moved to quarantine.
    pub foreign: Vec<(String, Reason)>,
    /// Temporary files that were removed.
    pub temporary: usize,
    /// Journal lines that were written again.
    pub journal_lines: usize,
}

impl Report {
    /// True if every job was looked at to its end, so that the next worker need not look at every record again. What is on
    /// another machine waits for a person, however often recovery checks it.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        let is_open =
            |done: &Recovered| matches!(done, Recovered::StillRunning(_) | Recovered::CannotTell(_));
        self.failed.is_empty() && !self.jobs.iter().any(|(_, done)| is_open(done))
    }
}

/// Recovers every job that may need it: those with a file in `queued/` or `running/`, and those whose record is open or
/// waits for another attempt `REC_SCAN`.
///
/// # Errors
/// File system errors of the directories; errors of one job are in the report.
pub(crate) fn recover_all(
    store: &Store,
    clock: &dyn Clock,
    options: &Options,
    end_left_overs: &mut EndLeftOvers<'_>,
) -> Result<Report> {
    let mut report = Report { temporary: temporary::remove(store, clock.now())?, ..Report::default() };
    let mut ids: BTreeSet<JobId> = BTreeSet::new();
    for place in [Place::Running, Place::Queued] {
        ids.extend(places::ids(store, &place)?);
    }
    let mut with_record = BTreeSet::new();
    for id in store.recorded_ids()? {
        match store.read_record(&id) {
            Ok(Some(record)) if !record.line.status.is_terminal() => drop(ids.insert(id.clone())),
            Ok(_) => {}
            Err(error) => report.failed.push((id.clone(), causes(&error))),
        }
        with_record.insert(id);
    }
    // Before the moves, so that a crash in between leaves what makes us look again.
    match journal::fill_gaps(store, &with_record) {
        Ok(lines) => report.journal_lines = lines,
        Err(error) => tracing::warn!(error = causes(&error), "cannot fill the gaps of the journal"),
    }
    for id in &ids {
        if report.failed.iter().any(|(failed, _)| failed == id) {
            continue;
        }
        match recover_one(store, clock, id, options, end_left_overs) {
            Ok(Recovered::Healthy | Recovered::Alive) => {}
            Ok(Recovered::Quarantined(reason)) if !with_record.contains(id) => {
                report.foreign.push((format!("{id}.json"), reason));
            }
            Ok(done) => report.jobs.push((id.clone(), done)),
            Err(error) => report.failed.push((id.clone(), causes(&error))),
        }
    }
    Ok(report)
}

/// Recovers one job.
pub(crate) fn recover_one(
    store: &Store,
    clock: &dyn Clock,
    id: &JobId,
    options: &Options,
    end_left_overs: &mut EndLeftOvers<'_>,
) -> Result<Recovered> {
    let create = if places::is_at(store, id, &Place::Running)? { Create::IfMissing } else { Create::No };
    let mut lease = match Lease::acquire(store, id, create)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy => return Ok(Recovered::Alive),
        Acquire::NoRecord if is_no_job(store, clock, id)?.is_none() => return Ok(Recovered::Healthy),
        // It will be moved under the lease: a valid job of that name may enter at any moment.
        Acquire::NoRecord => match Lease::acquire(store, id, Create::IfMissing)? {
            Acquire::Held(lease) => lease,
            Acquire::Busy | Acquire::NoRecord => return Ok(Recovered::Alive),
        },
    };
    // [RECHECK_REC] Under the lease: what the record says, then where the file is.
    let files = places::active_files(store, id)?;
    match Situation::judge(lease.line(), &files) {
        Situation::Free | Situation::Ended => Ok(Recovered::Healthy),
        // A process took the lease and wrote nothing: the file has as little of a record as without one.
        Situation::Queued if lease.line().is_none() => unrecorded(store, clock, id),
        Situation::Queued => unreadable(store, clock, &mut lease),
        Situation::AttemptOpen | Situation::StartNotRecorded => {
            lost(store, clock, &mut lease, files.places().next(), options, end_left_overs)
        }
        Situation::RetryNotMoved | Situation::EndNotMoved => move_files(store, &lease, &files),
        Situation::FileMissing => {
            lease.resync(store)?;
            let reason = Reason::new(
                Code::JobFileMissing,
                "the job waits for its next attempt, but its job file is missing",
            );
            quarantine(store, clock, &mut lease, None, reason)
        }
    }
}

/// The record was written, the move was not made: the file goes where the record says; a second one is a duplicate.
fn move_files(store: &Store, lease: &Lease, files: &ActiveFiles) -> Result<Recovered> {
    let Some(line) = lease.line() else { return Ok(Recovered::Healthy) };
    // [REC_RESYNC] Its writer may have been killed before its sync.
    lease.resync(store)?;
    for place in files.places() {
        places::settle(store, lease.id(), &place, &line.place)?;
    }
    Ok(Recovered::Moved(line.place.clone()))
}

/// Why the death of an attempt's runner cannot be judged from here, if it cannot.
#[must_use]
pub(crate) fn undecided(store: &Store, attempt: &Attempt) -> Option<Recovered> {
    match store.identity.judge(attempt) {
        Judge::Here | Judge::BeforeReboot => None,
        Judge::Elsewhere => Some(Recovered::Elsewhere(attempt.host.clone())),
        Judge::Unknown => Some(Recovered::CannotTell(
            "the boot and the pid namespace of this process are unknown; mount proc at /proc".to_owned(),
        )),
    }
}

/// An attempt without a runner: it may have run.
fn lost(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    file: Option<Place>,
    options: &Options,
    end_left_overs: &mut EndLeftOvers<'_>,
) -> Result<Recovered> {
    if let Some(attempt) = lease.line().and_then(RecordLine::open_attempt)
        && options.host_is_dead.as_ref() != Some(&attempt.host)
        && let Some(undecided) = undecided(store, attempt)
    {
        return Ok(undecided);
    }
    lease.resync(store)?;
    if let Err(why) = end_left_overs(lease) {
        return Ok(why);
    }
    let now = clock.now();
    let mut line = next_line(lease, now);
    if line.open_attempt().is_none() {
        let attempt = open_attempt(store, line.next_attempt(), now);
        line.attempts.push(attempt);
    }
    let job = job_of(store, lease.id(), file.as_ref());
    if let (Some(job), Some(attempt), Some(Place::Running)) = (&job, line.open_attempt(), &file)
        && let Some(linked) = handed_on::linked_job(store, job, attempt.started_at)
        && lease.line().is_some_and(|line| line.open_attempt().is_some())
    {
        return Ok(Recovered::Moved(handed_on::end(store, clock, lease, &linked)?));
    }
    let (readable, wish) = (job.is_some(), job.and_then(|job| job.on_crash));
    let crashes = line.count(Outcome::Lost) + 1;
    let manifest = line.attempts.last().is_some_and(|attempt| attempt.repeatable);
    let repeatable = wish.map_or(manifest, |wish| wish == OnCrash::Requeue);
    // No job file, no second run.
    let next = match options.again {
        Again::IfRepeatable if readable => after_loss(repeatable, crashes),
        _ => Next::Stop,
    };
    // Its runner was asked to cancel it, and died before, or while, it did so.
    let target = AttemptId::open_or_next(Some(&line));
    let canceled = CancelWatch::new(store, lease.id(), target).is_asked();
    let (event, reason) = match canceled {
        true => (
            Event::AbandonCanceled,
            Reason::new(Code::CanceledByUser, format!("{MAY_HAVE_RUN}; it is canceled")),
        ),
        false => (Event::Abandon(next), why_lost(readable, repeatable, crashes, next)),
    };
    let after = transition(lease.line().map(|line| line.status), event)?;
    if let Some(attempt) = line.attempts.last_mut() {
        attempt.outcome = Some(Outcome::Lost);
        // The log is made with the first output.
        attempt.log_path.take_if(|log| !store.path_of_record(lease.id(), log).exists());
        attempt.ended_at = Some(now);
        attempt.reason = Some(reason.clone());
    }
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    let result = blank_result(&line, Outcome::Lost, Some(reason.clone()), now);
    line.error_report = Some(report(&line, Outcome::Lost, &reason));
    line.result = Some(result);
    let place = line.place.clone();
    close(store, lease, line, file)?;
    cancel::forget(store, lease, target);
    Ok(if canceled { Recovered::Canceled(place) } else { Recovered::Lost(place) })
}

const MAY_HAVE_RUN: &str = "the runner died before the attempt ended: it may have run";

fn why_lost(readable: bool, repeatable: bool, crashes: usize, next: Next) -> Reason {
    let text = MAY_HAVE_RUN;
    match next {
        Next::Again => Reason::new(Code::Crash, format!("{text}; the job is repeatable and is queued again")),
        Next::Stop if !readable => {
            Reason::new(Code::JobFileMissing, format!("{text}; its job file cannot be read"))
        }
        Next::Stop if repeatable && crashes >= CRASHES_ALLOWED => {
            Reason::new(Code::Poison, format!("{text}; its runner crashed {crashes} times"))
        }
        Next::Stop => Reason::new(Code::Crash, text),
    }
}

/// The job of an attempt without a runner, if its file can be read.
fn job_of(store: &Store, id: &JobId, place: Option<&Place>) -> Option<JobFile> {
    let path = store.job_file(place?, id);
    match claim::read_at(&path, id, true, Timestamp::from_millis(0)) {
        Ok((Content::Job(parsed, _), _)) => Some(parsed.job),
        _ => None,
    }
}

/// A queued job of ours whose file cannot be read any more.
fn unreadable(store: &Store, clock: &dyn Clock, lease: &mut Lease) -> Result<Recovered> {
    match claim::read(store, lease.id(), true, clock.now())? {
        (Content::Invalid(problems), true) if problems.is_torn() => {
            let reason = Reason::new(Code::JobFileMissing, problems.to_string());
            lease.resync(store)?;
            quarantine(store, clock, lease, Some(Place::Queued), reason)
        }
        // The claim refuses a merely invalid job on record.
        _ => Ok(Recovered::Healthy),
    }
}

fn quarantine(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    file: Option<Place>,
    reason: Reason,
) -> Result<Recovered> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::FileMissing)?;
    let mut line = next_line(lease, now);
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    line.not_before = None;
    line.result = Some(blank_result(&line, Outcome::Invalid, Some(reason.clone()), now));
    line.error_report = Some(report(&line, Outcome::Invalid, &reason));
    close(store, lease, line, file)?;
    Ok(Recovered::Quarantined(reason))
}

/// Writes what recovery decided, durable, and then moves the file to where that line says.
fn close(store: &Store, lease: &mut Lease, line: RecordLine, file: Option<Place>) -> Result<()> {
    let place = line.place.clone();
    lease.commit(store, line, Sync::Now)?;
    lease.give_back();
    match file {
        Some(file) => places::settle(store, lease.id(), &file, &place),
        None => Ok(()),
    }
}

/// A queued file without a record: healthy if it is a job, else foreign once it stays unchanged. Under the lease.
fn unrecorded(store: &Store, clock: &dyn Clock, id: &JobId) -> Result<Recovered> {
    let Some(reason) = is_no_job(store, clock, id)? else { return Ok(Recovered::Healthy) };
    places::quarantine_foreign(store, &Place::Queued, &format!("{id}.json"), &reason)?;
    Ok(Recovered::Quarantined(reason))
}

/// Why a queued file is not a job, if it is none and has stayed unchanged.
fn is_no_job(store: &Store, clock: &dyn Clock, id: &JobId) -> Result<Option<Reason>> {
    if !places::is_at(store, id, &Place::Queued)? {
        return Ok(None);
    }
    match claim::read(store, id, false, clock.now()) {
        Ok((Content::Foreign(reason), true)) => Ok(Some(reason)),
        Ok(_) => Ok(None),
        Err(super::QueueError::Store(StoreError::Fs(error))) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn report(line: &RecordLine, outcome: Outcome, reason: &Reason) -> ErrorReport {
    ErrorReport {
        job_id: line.job_id.clone(),
        workstream_id: line.job.workstream_id.clone(),
        tool: line.job.tool.clone(),
        exit_code: None,
        outcome,
        summary: reason.message.clone(),
        details: Vec::new(),
        log_path: line.attempts.last().and_then(|attempt| attempt.log_path.clone()),
        test_results: None,
        git_command: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_complete_only_if_every_job_was_looked_at_to_its_end() {
        let with = |done: Recovered| {
            let jobs = vec![(JobId::new("a").unwrap(), done)];
            Report { jobs, ..Report::default() }.is_complete()
        };
        assert!(with(Recovered::Lost(Place::Queued)));
        assert!(with(Recovered::Elsewhere("other".into())));
        assert!(!with(Recovered::StillRunning(vec!["7 sh".into()])));
        assert!(!with(Recovered::CannotTell("no proc".into())));
        let failed = vec![(JobId::new("a").unwrap(), "unreadable".to_owned())];
        assert!(!Report { failed, ..Report::default() }.is_complete());
    }
}
