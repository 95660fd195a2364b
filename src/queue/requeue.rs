//! Puts an ended job back into the queue: a new life that keeps the history of the former ones.
//!
//! Hard rule `REQ_ORDER`: the file is in `queued/`, durable, before the record says `queued`, and that line is durable
//! before the requeue is reported.

use super::attempt::{new_life, summary};
use super::cancel;
use super::claim::{self, Content};
use super::places;
use super::situation::Situation;
use super::{QueueError, Result};
use crate::clock::Clock;
use crate::fs::{self, Create};
use crate::job::record::Acceptance;
use crate::job::state::{Event, transition};
use crate::job::{Code, JobId, Place, Reason, Status};
use crate::store::control::AttemptId;
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store};

/// The outcome of a requeue.
#[derive(Debug)]
pub(crate) enum Requeued {
    /// It is queued.
    Done,
    /// There is no such job.
    NotFound,
    /// It cannot be queued, for this reason.
    Refused(Reason),
    /// It has ended, and the process that ended it is still there: try again.
    Busy,
    /// A crash left something behind: `recovery::recover_one`, then try again.
    NeedsRecovery,
}

/// Puts an ended job back into the queue; durable when this returns. `place` is its number among those that are put back with
/// it: of jobs that come in at the same time the smaller one is taken first.
///
/// # Errors
/// Store errors; the job is then ended as it was, or recovery moves its file back.
pub(crate) fn requeue(store: &Store, clock: &dyn Clock, id: &JobId, place: u32) -> Result<Requeued> {
    let files = places::active_files(store, id)?;
    if let Some(reason) = files.in_the_way {
        return Ok(Requeued::Refused(reason));
    }
    let mut lease = match Lease::acquire_soon(store, id, Create::No)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy => return busy(store, id),
        Acquire::NoRecord if files.queued => return Ok(is_queued(id)),
        Acquire::NoRecord => return Ok(Requeued::NotFound),
    };
    match Situation::judge(lease.line(), &places::active_files(store, id)?) {
        Situation::Free => Ok(Requeued::NotFound),
        Situation::Queued => Ok(is_queued(id)),
        Situation::Ended => again(store, clock, &mut lease, place),
        Situation::AttemptOpen
        | Situation::StartNotRecorded
        | Situation::RetryNotMoved
        | Situation::EndNotMoved
        | Situation::FileMissing => Ok(Requeued::NeedsRecovery),
    }
}

/// A lease that is not free says that a process works on the job; its record says what it does.
fn busy(store: &Store, id: &JobId) -> Result<Requeued> {
    Ok(match store.read_record(id)?.map(|record| record.line.status) {
        Some(status) if status.is_terminal() => Requeued::Busy,
        Some(Status::Queued) => is_queued(id),
        _ => Requeued::Refused(Reason::new(Code::IdRunning, format!("the job `{id}` is running"))),
    })
}

fn is_queued(id: &JobId) -> Requeued {
    Requeued::Refused(Reason::new(Code::IdQueued, format!("the job `{id}` is already queued")))
}

/// An ended job under its lease. A crash up to the line leaves it ended, with a file that recovery moves back; after the
/// line it is queued.
fn again(store: &Store, clock: &dyn Clock, lease: &mut Lease, number: u32) -> Result<Requeued> {
    let Some(line) = lease.line().cloned() else { return Ok(Requeued::NotFound) };
    let id = &line.job_id;
    if let Some(parent) = &line.job.parent {
        // [CHILD_REQUEUE] Nothing would run it.
        let message = format!("`{id}` is a part of `{parent}`: requeue that one");
        return Ok(Requeued::Refused(Reason::new(Code::NotUnderParent, message)));
    }
    let Some(place) = places::locate(store, id, Some(&line.place))? else {
        let message = format!("the job file of `{id}` is missing: submit it under a new id");
        return Ok(Requeued::Refused(Reason::new(Code::JobFileMissing, message)));
    };
    let path = store.job_file(&place, id);
    let (job, bytes) = match claim::read_at(&path, id, true, clock.now())?.0 {
        Content::Job(parsed, bytes) => (parsed.job, bytes),
        Content::Foreign(reason) => return Ok(Requeued::Refused(reason)),
        Content::Invalid(problems) => {
            let message = format!("the job file is invalid; edit `{}`: {problems}", path.display());
            return Ok(Requeued::Refused(Reason::new(Code::InvalidJobFile, message)));
        }
    };
    transition(Some(line.status), Event::RunAgain)?;
    // [REC_RESYNC] That it ended may be known to the page cache only.
    lease.resync(store)?;
    let entered = (|| {
        places::settle(store, id, &place, &Place::Queued)?;
        // [REQ_SYNC] [REQ_DATA] An editor's save was never synced either.
        let target = store.job_file(&Place::Queued, id);
        let file = fs::open_regular(&target)?;
        store.sync_data(&file, &target)?;
        store.sync_dir(&store.place_dir(&Place::Queued))?;
        let mut life = new_life(&line, summary(&job, &bytes), clock.now());
        life.accepted = life.accepted.map(|accepted| Acceptance { place: number, ..accepted });
        lease.commit(store, life, Sync::Now)?;
        Ok::<(), QueueError>(())
    })();
    if let Err(error) = entered {
        // After a failed sync the line may be there or not: only what the record says is undone.
        if lease.line().is_some_and(|last| last.seq == line.seq) {
            let _ = places::settle(store, id, &Place::Queued, &place);
        }
        return Err(error);
    }
    // A request that outlived its life.
    cancel::forget(store, lease, AttemptId { life: line.life, attempt: u32::MAX });
    Ok(Requeued::Done)
}
