//! Retires finished jobs: archives their records, removes their files, and frees their ids.
//!
//! For each batch, under the leases of its jobs: records into the archive, synced · job files removed · their directories
//! synced `GC_SYNC` · the journal line · logs, reports, prompts and keys removed · the records, last `GC_LOCK`. A crash before
//! the first removal leaves everything, and some records in the archive, too; one after it leaves records that have ended,
//! which the next gc retires. The journal gets its line before the record goes, for afterwards nothing would be left that
//! lacks it; after a crash between the two it gets the line again, with one number, and a reader that asks the record finds the
//! job there. It gets the line after the job file went, so that no requeue can follow it. Directories of attempts that have
//! ended go whatever the limits say: they hold nothing that is needed again. The directory of a run goes after its jobs. Hard rule: nothing goes that has not ended, that is
//! needed, whose lease another process holds, or that is not in the archive; and no file or directory of an attempt that no
//! record names.

mod families;
pub(crate) mod needs;
mod parts;
mod report;
mod retire;
mod runs;
pub(crate) mod survey;

use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create, Scratch};
use crate::job::place::is_day;
use crate::job::{JobId, Place};
use crate::policy::retention::{Cause, Finished, Limits};
use crate::queue::gc::survey::{AttemptDir, Survey, attempt_dirs};
use crate::queue::situation::Situation;
use crate::queue::{QueueError, Result, places, temporary};
use crate::store::{Acquire, Lease, Store, archive, journal, spent};

pub(crate) use crate::store::gc_lock::GcLock;
pub(crate) use report::Report;
#[cfg(test)]
pub(crate) use report::Skip;
pub(crate) use runs::IsLeft;

/// Says what `collect` would do; changes nothing.
///
/// # Errors
/// File system errors of the directories; errors of one job are in the report.
pub(crate) fn plan(store: &Store, clock: &dyn Clock, limits: &Limits, is_left: IsLeft<'_>) -> Result<Report> {
    let mut survey = Survey::take(store)?;
    let plan = survey.decide(limits, clock.now());
    // An unreadable record proves no end.
    let has_ended = |dir: &AttemptDir| match store.read_record(&dir.id) {
        Ok(record) => dir.is_over(record.as_ref().map(|record| &record.line)),
        Err(_) => false,
    };
    let dirs = attempt_dirs(store)?.into_iter().filter(has_ended).count();
    Ok(Report {
        runs: runs::over(store, &plan.drop, is_left)?,
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
    (is_left, _one_at_a_time): (IsLeft<'_>, &GcLock),
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
    parts::cancel_waiting_parts(store, clock, &survey, &mut drop, &mut report);
    if !drop.is_empty() {
        archive::prepare(store)?;
        // [CHILD_GC_FIRST] No part is ever there without its parent.
        let (of_others, mut others): (Vec<_>, Vec<_>) =
            drop.into_iter().partition(|(job, _)| job.parent.is_some());
        retire::retire(store, &mut survey, &of_others, &mut report, now)?;
        parts::hold_back(&of_others, &mut others, &mut report);
        retire::retire(store, &mut survey, &others, &mut report, now)?;
    }
    report.runs = runs::retire(store, is_left)?;
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
        retire::remove_key(store, line)?;
    }
    lease.retire()?;
    Ok(true)
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
