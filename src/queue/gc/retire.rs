//! Retires jobs, batch by batch, under their leases; `gc` says in which order, and what a crash leaves.
//!
//! Hard rule: a record goes last, and only when it is in the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::report::{Report, Skip};
use super::survey::Survey;
use crate::clock::Timestamp;
use crate::fs::{self, Create};
use crate::job::event::JournalLine;
use crate::job::{Place, RecordLine};
use crate::policy::retention::{Cause, Finished};
use crate::queue::situation::Situation;
use crate::queue::{QueueError, Result, places};
use crate::store::{Acquire, Lease, Store, archive, journal, keys};

/// Most jobs in a batch: each holds an open file.
const BATCH: usize = 128;
/// A batch ends when the files of its jobs are larger than this: their records are packed in memory.
const BATCH_BYTES: u64 = 8 << 20;

/// Retires these jobs.
pub(super) fn retire(
    store: &Store,
    survey: &mut Survey,
    jobs: &[(Finished, Cause)],
    report: &mut Report,
    now: Timestamp,
) -> Result<()> {
    let mut rest = jobs.iter();
    while !rest.as_slice().is_empty() {
        retire_some(store, survey, &mut rest, report, now)?;
    }
    Ok(())
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
pub(super) fn remove_key(store: &Store, line: &RecordLine) -> Result<()> {
    match &line.job.key {
        Some(key) => Ok(keys::give_back(store, key, &line.job_id)?),
        None => Ok(()),
    }
}
