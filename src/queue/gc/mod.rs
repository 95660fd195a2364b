//! Retires finished jobs: archives their records, removes their files, and frees their ids.
//!
//! For each batch, under the leases of its jobs: records into the archive, synced · job files removed · their directories
//! synced `GC_SYNC` · the journal line · logs, reports, prompts and keys removed · the records, last `GC_LOCK`. A crash before
//! the first removal leaves everything, and some records in the archive, too; one after it leaves records that have ended,
//! which the next gc retires. The journal gets its line before the record goes, for afterwards nothing would be left that
//! lacks it; after a crash between the two it gets the line again, with one number, and a reader that asks the record finds the
//! job there. It gets the line after the job file went, so that no requeue can follow it. Directories of attempts that have
//! ended go whatever the limits say: they hold nothing that is needed again. Hard rule: nothing goes that has not ended, that is
//! needed, whose lease another process holds, or that is not in the archive; and no file or directory of an attempt that no
//! record names.

pub(crate) mod needs;
pub(crate) mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create, Scratch};
use crate::job::event::JournalLine;
use crate::job::place::is_day;
use crate::job::{JobId, Place, RecordLine};
use crate::policy::retention::{Cause, Finished, Limits};
use crate::queue::gc::survey::{AttemptDir, Survey, attempt_dirs};
use crate::queue::situation::Situation;
use crate::queue::{QueueError, Result, places, temporary};
use crate::store::{Acquire, Lease, Store, archive, journal, keys, spent};

pub(crate) use crate::store::gc_lock::GcLock;

/// Most jobs in a batch: each holds an open file.
const BATCH: usize = 128;
/// A batch ends when the files of its jobs are larger than this: their records are packed in memory.
const BATCH_BYTES: u64 = 8 << 20;

/// Why a job that should go was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// Another process holds its lease.
    Held,
    /// It is not any more what it was when it was chosen: queued or run again.
    Changed,
    /// A job that came in meanwhile needs it.
    Needed,
    /// A crash left its file in the wrong directory: `engine recover`.
    NeedsRecovery,
}

impl Skip {
    /// The meaning, for people.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "another process holds it",
            Self::Changed => "it is queued or has run again",
            Self::Needed => "a queued job depends on it",
            Self::NeedsRecovery => "a crash left its file in the wrong directory: engine recover",
        }
    }
}

/// The actions of gc, done or planned.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The jobs that went to the archive, the oldest first, and why.
    pub dropped: Vec<(Finished, Cause)>,
    /// Free ids whose empty records were removed.
    pub free: Vec<JobId>,
    /// Jobs that a limit exceeds and others need.
    pub needed: Vec<JobId>,
    /// How many finished jobs no limit exceeds.
    pub kept: usize,
    /// Jobs that were left after all.
    pub skipped: Vec<(JobId, Skip)>,
    /// Jobs that could not be looked at or retired, and why; the others were.
    pub failed: Vec<(JobId, String)>,
    /// Temporary files, and directories of attempts that have ended, that were removed.
    pub temporary: usize,
    /// Parts of the journal that are older than what stays.
    pub journal_parts: usize,
}

impl Report {
    fn fail(&mut self, id: &JobId, error: &QueueError) {
        self.failed.push((id.clone(), causes(error)));
    }
}

/// Says what `collect` would do; changes nothing.
///
/// # Errors
/// File system errors of the directories; errors of one job are in the report.
pub(crate) fn plan(store: &Store, clock: &dyn Clock, limits: &Limits) -> Result<Report> {
    let mut survey = Survey::take(store)?;
    let plan = survey.decide(limits, clock.now());
    // An unreadable record proves no end.
    let has_ended = |dir: &AttemptDir| match store.read_record(&dir.id) {
        Ok(record) => dir.is_over(record.as_ref().map(|record| &record.line)),
        Err(_) => false,
    };
    let dirs = attempt_dirs(store)?.into_iter().filter(has_ended).count();
    Ok(Report {
        journal_parts: old_parts(store, &survey, &plan.drop, limits, clock.now())?.len(),
        dropped: plan.drop,
        free: survey.free,
        needed: plan.needed,
        kept: plan.kept,
        failed: survey.failed,
        temporary: temporary::stale(store, clock.now())?.len() + dirs,
        ..Report::default()
    })
}

/// Retires what exceeds the limits, and removes what is of no use: empty records of free ids, stray temporary files, empty
/// directories of former days.
///
/// # Errors
/// File system errors of the directories; errors of one job are in the report.
pub(crate) fn collect(
    store: &Store,
    clock: &dyn Clock,
    limits: &Limits,
    _one_at_a_time: &GcLock,
) -> Result<Report> {
    let now = clock.now();
    let temporary = temporary::remove(store, now)?;
    let mut survey = Survey::take(store)?;
    let plan = survey.decide(limits, now);
    let mut report = Report { needed: plan.needed, kept: plan.kept, temporary, ..Report::default() };
    report.failed.append(&mut survey.failed);
    // While the records of the jobs are still there.
    for dir in attempt_dirs(store)? {
        match remove_attempt_dir(store, &dir) {
            Ok(removed) => report.temporary += usize::from(removed),
            Err(error) => report.fail(&dir.id, &error),
        }
    }
    for id in std::mem::take(&mut survey.free) {
        match free(store, &id) {
            Ok(true) => report.free.push(id),
            Ok(false) => {}
            Err(error) => report.fail(&id, &error),
        }
    }
    // A job with files that could not be removed keeps its record: without it the files would belong to no job.
    let mut drop = plan.drop;
    drop.retain(|(job, _)| !report.failed.iter().any(|(failed, _)| *failed == job.id));
    if !drop.is_empty() {
        archive::prepare(store)?;
        let mut rest = drop.iter();
        while !rest.as_slice().is_empty() {
            retire_some(store, &mut survey, &mut rest, &mut report, now)?;
        }
    }
    let old = old_parts(store, &survey, &report.dropped, limits, now)?;
    report.journal_parts = journal::remove(store, &old)?;
    remove_empty_days(store, now)?;
    remove_old_spending(store, now)?;
    Ok(report)
}

/// Removes the directory of an attempt that has ended; false if it may be in use, or may not be the engine's.
fn remove_attempt_dir(store: &Store, dir: &AttemptDir) -> Result<bool> {
    let Acquire::Held(lease) = Lease::acquire(store, &dir.id, Create::No)? else { return Ok(false) };
    if !dir.is_over(lease.line()) {
        return Ok(false);
    }
    // It is gone when this is dropped.
    drop(Scratch::fresh(&store.state("attempts"), &dir.name)?);
    Ok(true)
}

/// Removes the record of an id that was never accepted; false if it is accepted by now.
fn free(store: &Store, id: &JobId) -> Result<bool> {
    let Acquire::Held(lease) = Lease::acquire(store, id, Create::No)? else { return Ok(false) };
    let files = places::active_files(store, id)?;
    let is_free = Situation::judge(lease.line(), &files) == Situation::Free;
    if !is_free || files.in_the_way.is_some() || places::locate(store, id, None)?.is_some() {
        return Ok(false);
    }
    if let Some(line) = lease.line() {
        remove_key(store, line)?;
    }
    lease.retire()?;
    Ok(true)
}

/// A job under its lease that is about to go.
struct Leaving {
    lease: Box<Lease>,
    place: Option<Place>,
    job: Finished,
    cause: Cause,
}

enum Chosen {
    Goes(Leaving),
    Stays(Skip),
}

/// Retires jobs whose leases fit into one hand; takes them from the front of `rest`.
fn retire_some(
    store: &Store,
    survey: &mut Survey,
    rest: &mut std::slice::Iter<'_, (Finished, Cause)>,
    report: &mut Report,
    now: Timestamp,
) -> Result<()> {
    let mut leaving = Vec::new();
    let mut bytes = 0;
    for (job, cause) in rest.by_ref() {
        match choose(store, job, *cause) {
            Ok(Chosen::Goes(job)) => leaving.push(job),
            Ok(Chosen::Stays(skip)) => report.skipped.push((job.id.clone(), skip)),
            Err(error) => report.fail(&job.id, &error),
        }
        bytes += job.bytes;
        if leaving.len() == BATCH || bytes > BATCH_BYTES {
            break;
        }
    }
    // A job that needs one of these may have entered; it is searched for as late as possible.
    if survey.needs.look(store)? {
        let needed = survey.needed();
        let (stay, go) = leaving.into_iter().partition(|one: &Leaving| needed.contains(&one.job.id));
        leaving = go;
        report.skipped.extend(stay.into_iter().map(|one| (one.job.id, Skip::Needed)));
    }
    let archived = keep_records(store, leaving, report);
    remove(store, survey, archived, report, now)
}

/// Takes the lease of a job and looks whether it still is what was chosen.
fn choose(store: &Store, job: &Finished, cause: Cause) -> Result<Chosen> {
    let lease = match Lease::acquire(store, &job.id, Create::No)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy => return Ok(Chosen::Stays(Skip::Held)),
        Acquire::NoRecord => return Ok(Chosen::Stays(Skip::Changed)),
    };
    // [GC_LOCK] [RECHECK_REC] Only what is read under the lease counts.
    let Some(line) = lease.line().filter(|line| line.seq == job.seq) else {
        return Ok(Chosen::Stays(Skip::Changed));
    };
    let files = places::active_files(store, &job.id)?;
    match Situation::judge(Some(line), &files) {
        Situation::Ended if files.in_the_way.is_none() => {}
        Situation::Ended | Situation::EndNotMoved => return Ok(Chosen::Stays(Skip::NeedsRecovery)),
        _ => return Ok(Chosen::Stays(Skip::Changed)),
    }
    let place = places::locate(store, &job.id, Some(&line.place))?;
    if place.is_none() {
        // [REC_RESYNC] A file that was moved proves that the line before was synced; without one nothing does.
        lease.resync(store)?;
    }
    Ok(Chosen::Goes(Leaving { lease, place, job: job.clone(), cause }))
}

/// Writes the records into the archive, one frame a month; returns those that are durable there.
fn keep_records(store: &Store, leaving: Vec<Leaving>, report: &mut Report) -> Vec<Leaving> {
    let mut months: BTreeMap<String, (Vec<u8>, Vec<Leaving>)> = BTreeMap::new();
    for one in leaving {
        match one.lease.history() {
            Ok(lines) => {
                let month = months.entry(archive::month(one.job.ended_at)).or_default();
                month.0.extend(lines);
                month.1.push(one);
            }
            Err(error) => report.fail(&one.job.id, &error.into()),
        }
    }
    let mut archived = Vec::new();
    for (month, (lines, jobs)) in months {
        match archive::append(store, &month, &lines).map_err(QueueError::from) {
            Ok(()) => archived.extend(jobs),
            Err(error) => jobs.iter().for_each(|one| report.fail(&one.job.id, &error)),
        }
    }
    archived
}

/// Removes what is in the archive now, the records last.
fn remove(
    store: &Store,
    survey: &Survey,
    mut leaving: Vec<Leaving>,
    report: &mut Report,
    now: Timestamp,
) -> Result<()> {
    let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
    leaving.retain(|Leaving { job, place, .. }| {
        let Some(place) = place else { return true };
        touched.insert(store.place_dir(place));
        let removed = fs::remove(&store.job_file(place, &job.id)).map_err(QueueError::from);
        removed.map_err(|error| report.fail(&job.id, &error)).is_ok()
    });
    // [GC_SYNC] Else a power loss could leave a job file without a record: a job that was never run.
    for dir in &touched {
        store.sync_dir(dir)?;
    }
    let lines = leaving.iter().filter_map(|one| retirement(one, now)).collect::<Vec<_>>();
    if let Err(error) = journal::append_all(store, &lines) {
        let error = QueueError::from(error);
        leaving.iter().for_each(|one| report.fail(&one.job.id, &error));
        return Ok(());
    }
    for Leaving { lease, job, cause, .. } in leaving {
        match remove_rest(store, survey, &lease).and_then(|()| Ok(lease.retire()?)) {
            Ok(()) => report.dropped.push((job, cause)),
            Err(error) => report.fail(&job.id, &error),
        }
    }
    Ok(())
}

/// The journal line of a retired job.
fn retirement(one: &Leaving, now: Timestamp) -> Option<JournalLine> {
    Some(JournalLine::retired(one.lease.line()?, &archive::month(one.job.ended_at), now))
}

/// The parts of the journal that tell of no time that a limit keeps: older than the age, or, without one, than the first line
/// of each job that stays. Where that is not known none goes.
fn old_parts(
    store: &Store,
    survey: &Survey,
    gone: &[(Finished, Cause)],
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<journal::Old>> {
    if limits.are_none() {
        return Ok(Vec::new());
    }
    let before = match limits.older_than {
        Some(age) => Some(now.before(age)),
        None => survey.oldest_but(gone),
    };
    Ok(before.map_or_else(|| Ok(Vec::new()), |before| journal::old_parts(store, before))?)
}

/// Removes what belongs to a job beside its file and its record.
fn remove_rest(store: &Store, survey: &Survey, lease: &Lease) -> Result<()> {
    for path in lease.line().into_iter().flat_map(|line| survey.files_of(line)) {
        fs::remove(path)?;
    }
    if let Some(line) = lease.line() {
        remove_key(store, line)?;
    }
    // It asks for an attempt that has ended. A hold stays until its owner removes it.
    let control = store.state("control");
    let request = control.join(format!("{}.cancel", lease.id()));
    if fs::exists(&request)? && fs::remove(&request)? {
        // [GC_REQUEST] Should it come back after a power loss, it would cancel the next job of this id.
        store.sync_dir(&control)?;
    }
    Ok(())
}

/// Removes the dedup key of a job, if it is this job's: while the record is there no other job takes the key over.
fn remove_key(store: &Store, line: &RecordLine) -> Result<()> {
    match &line.job.key {
        Some(key) => Ok(keys::give_back(store, key, &line.job_id)?),
        None => Ok(()),
    }
}

/// Removes what the cache holds of budgets that were not looked at for long: one that is looked at again is rebuilt.
fn remove_old_spending(store: &Store, now: Timestamp) -> Result<()> {
    const OLD: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
    let Some(dir) = store.cache_dir().map(|dir| dir.join(spent::DIR)) else { return Ok(()) };
    for name in fs::names(&dir)? {
        let path = dir.join(name);
        let modified = std::fs::symlink_metadata(&path).ok().and_then(|found| Timestamp::modified(&found));
        if modified.is_some_and(|modified| now.since(modified) > OLD) {
            fs::remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the empty directories of days that are over: into that of today, and for a while of yesterday, files move.
fn remove_empty_days(store: &Store, now: Timestamp) -> Result<()> {
    let yesterday = Timestamp::from_millis(now.as_millis() - 86_400_000).day();
    for name in fs::names(&store.root().join("jobs/done"))? {
        if is_day(&name) && name < yesterday {
            fs::remove_empty_dir(&store.place_dir(&Place::Done(name))).map_err(QueueError::from)?;
        }
    }
    Ok(())
}
