//! How a job enters: submitted to wait, or given to `run-job` to run at once.
//!
//! There is one door `ONE_DOOR`: `queued/<id>.json`, under the lease, and only where the record is empty, says nothing
//! but `queued`, or (direct run) is terminal.

use super::attempt::{new_life, next_line, summary};
use super::places::{self, TemporarySync};
use super::{QueueError, Result};
use crate::causes::causes;
use crate::clock::Clock;
use crate::fs::{self, Create, Moved};
use crate::job::state::{Event, transition};
use crate::job::{JobFile, JobId, Place, Reason, Status};
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store};

/// A valid job file on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The job.
    pub job: &'a JobFile,
    /// Its bytes, which become the queued file.
    pub bytes: &'a [u8],
}

/// What became of a job at the door.
#[derive(Debug)]
pub enum Entered {
    /// Its file is in `queued/`, and the lease is ours.
    Inside(Box<Lease>),
    /// The id is taken: `id_queued` or `id_running`.
    Refused(Reason),
    /// A crash left something behind: `recovery::recover_one`, then try again.
    NeedsRecovery,
}

/// Whether an id that has ended may enter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfEnded {
    /// No: a submission has an id of its own.
    Refuse,
    /// Yes: it is a new execution, as a direct run is.
    RunAgain,
}

/// Lets a job in that waits in the queue: durable when this returns.
///
/// # Errors
/// Store errors; the id stays free.
pub fn submit(store: &Store, clock: &dyn Clock, incoming: Incoming<'_>, again: IfEnded) -> Result<Entered> {
    let mut lease = match door(store, &incoming.job.job_id)? {
        Door::Open(lease, Before::Free) => lease,
        Door::Open(_, Before::Ended(_)) if again == IfEnded::Refuse => {
            return Ok(Entered::Refused(taken(&incoming.job.job_id, "id_taken")));
        }
        Door::Open(lease, Before::Ended(place)) => return run_again(store, clock, lease, place, incoming),
        Door::Shut(entered) => return Ok(entered),
    };
    publish(store, incoming, TemporarySync::Now)?;
    store.sync_dir(&store.place_dir(&Place::Queued))?;
    queued_line(store, clock, &mut lease, incoming)?;
    Ok(Entered::Inside(lease))
}

/// Lets a job in that runs at once, under the lease that is returned.
///
/// `why_not_now` is asked under the lease: a reason keeps the job out.
/// For a free id nothing is synced: nothing has been told before the start line. For an ended one this is a requeue,
/// then the queued file is replaced by the new one.
///
/// # Errors
/// Store errors; a free id stays free.
pub fn direct(
    store: &Store,
    clock: &dyn Clock,
    incoming: Incoming<'_>,
    why_not_now: &mut dyn FnMut() -> Result<Option<Reason>>,
) -> Result<Entered> {
    let door = door(store, &incoming.job.job_id)?;
    // Judged under the lease, and before anything is written.
    if let (Door::Open(..), Some(reason)) = (&door, why_not_now()?) {
        return Ok(Entered::Refused(reason));
    }
    match door {
        Door::Shut(entered) => Ok(entered),
        Door::Open(lease, Before::Free) => {
            publish(store, incoming, TemporarySync::Never)?;
            Ok(Entered::Inside(lease))
        }
        Door::Open(lease, Before::Ended(place)) => run_again(store, clock, lease, place, incoming),
    }
}

/// Makes up for the syncs that a direct run of a free id skipped, before somebody is told that it waits `PARK_SYNC`.
///
/// # Errors
/// Store errors.
pub fn make_durable(store: &Store, id: &JobId) -> Result<()> {
    let path = store.job_file(&Place::Queued, id);
    let file = fs::open_regular(&path)?;
    store.sync_data(&file, &path)?;
    store.sync_dir(&store.place_dir(&Place::Queued))?;
    Ok(())
}

/// Takes a job that was let in and never started out again, after a failure.
pub fn withdraw(store: &Store, lease: &mut Lease) {
    lease.give_back();
    if lease.line().is_none_or(crate::job::RecordLine::is_untouched)
        && let Err(error) = fs::remove(&store.job_file(&Place::Queued, lease.id()))
    {
        tracing::warn!(error = causes(&error), "a job file that was not started is still queued");
    }
}

enum Door {
    Open(Box<Lease>, Before),
    Shut(Entered),
}

enum Before {
    Free,
    Ended(Option<Place>),
}

fn taken(id: &JobId, code: &str) -> Reason {
    let message = match code {
        "id_running" => format!("the job `{id}` is running"),
        "id_queued" => format!("the job `{id}` is queued"),
        _ => format!("the id `{id}` is taken"),
    };
    Reason::new(code, message)
}

/// Takes the lease of an id and looks whether it may enter. Everything is read under the lease `READ_LOCKED`.
fn door(store: &Store, id: &JobId) -> Result<Door> {
    let lease = match Lease::acquire_soon(store, id, Create::IfMissing)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy | Acquire::NoRecord => {
            return Ok(Door::Shut(Entered::Refused(taken(id, "id_running"))));
        }
    };
    if let Some(reason) = places::in_the_way(store, id)? {
        return Ok(Door::Shut(Entered::Refused(reason)));
    }
    let queued = places::is_at(store, id, &Place::Queued)?;
    let running = places::is_at(store, id, &Place::Running)?;
    let line = lease.line().cloned();
    let Some(line) = line.filter(|line| !line.is_untouched()) else {
        return Ok(match (running, queued) {
            (true, _) => Door::Shut(Entered::NeedsRecovery),
            (false, true) => Door::Shut(Entered::Refused(taken(id, "id_queued"))),
            // [TAKE_OVER] Nothing was ever promised for it.
            (false, false) => Door::Open(lease, Before::Free),
        });
    };
    if line.status.is_terminal() && !queued && !running {
        let place = places::locate(store, id, Some(&line.place))?;
        return Ok(Door::Open(lease, Before::Ended(place)));
    }
    // The lease was free: a job that is queued in its directory waits, anything else was left by a crash.
    if line.status == Status::Queued && queued && !running {
        return Ok(Door::Shut(Entered::Refused(taken(id, "id_queued"))));
    }
    Ok(Door::Shut(Entered::NeedsRecovery))
}

/// Gives a new job file its name in `queued/`, which must be free `NOREPLACE`.
fn publish(store: &Store, incoming: Incoming<'_>, sync: TemporarySync) -> Result<()> {
    let temporary = places::write_temporary(store, incoming.bytes, sync)?;
    let target = store.job_file(&Place::Queued, &incoming.job.job_id);
    match fs::rename_noreplace(&temporary, &target) {
        Ok(Moved::Done) => Ok(()),
        other => {
            let _ = fs::remove(&temporary);
            // Under the lease only a person's `cp` can have come in between.
            let error = other.err().unwrap_or(fs::FsError {
                action: "publishing",
                path: target,
                source: std::io::ErrorKind::AlreadyExists.into(),
            });
            Err(error.into())
        }
    }
}

fn queued_line(store: &Store, clock: &dyn Clock, lease: &mut Lease, incoming: Incoming<'_>) -> Result<()> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::Accept)?;
    let mut line = next_line(lease, now);
    line.status = after.status;
    line.place = Place::of(after.directory, now);
    line.not_before = incoming.job.not_before;
    line.job = summary(incoming.job, incoming.bytes);
    // Not synced: the file in `queued/` is what was promised.
    Ok(lease.commit(store, line, Sync::Later)?)
}

/// Begins a new life of an ended job. Each step can be the last before a crash: up to the line the job is ended, with
/// its file in `queued/` or not (recovery moves it back); after it, it is queued.
fn run_again(
    store: &Store,
    clock: &dyn Clock,
    mut lease: Box<Lease>,
    place: Option<Place>,
    incoming: Incoming<'_>,
) -> Result<Entered> {
    transition(lease.line().map(|line| line.status), Event::RunAgain)?;
    let id = incoming.job.job_id.clone();
    let target = store.job_file(&Place::Queued, &id);
    let temporary = places::write_temporary(store, incoming.bytes, TemporarySync::Now)?;
    let entered = (|| {
        // On a disk that is too full for an attempt the job stays ended: queued, it would refuse the next run.
        lease.reserve()?;
        // [REQ_ORDER] The former file first goes back through the door, then it is replaced.
        if let Some(place) = place {
            places::settle(store, &id, &place, &Place::Queued)?;
        }
        fs::rename_replace(&temporary, &target)?;
        // [REQ_SYNC] Data and name are durable before the record says `queued`.
        store.sync_dir(&store.place_dir(&Place::Queued))?;
        let now = clock.now();
        let line = lease.line().map(|last| new_life(last, summary(incoming.job, incoming.bytes), now));
        if let Some(line) = line {
            lease.commit(store, line, Sync::Now)?;
        }
        Ok::<(), QueueError>(())
    })();
    if let Err(error) = entered {
        let _ = fs::remove(&temporary);
        lease.give_back();
        return Err(error);
    }
    Ok(Entered::Inside(lease))
}
