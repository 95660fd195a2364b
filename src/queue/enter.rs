//! How a job enters: submitted to wait, or given to `run-job` to run at once.
//!
//! There is one door `ONE_DOOR`: `queued/<id>.json`, under the lease, and only where the record is empty, says nothing
//! but `queued`, or (direct run) is terminal.

use std::collections::BTreeSet;
use std::path::Path;

use super::attempt::{new_life, next_line, summary};
use super::batch::WhyNot;
use super::claim::{self, Content};
use super::dedup::{self, Claimant, Patience, Taking};
use super::places::{self, TemporarySync};
use super::situation::Situation;
use super::{QueueError, Result};
use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create, Moved};
use crate::job::event::JournalLine;
use crate::job::record::{Acceptance, JobSummary};
use crate::job::state::{Event, transition};
use crate::job::{JobFile, JobId, Parsed, Place, Reason, RecordLine, parse};
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store, journal, keys};

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
    /// The same job waited in the queue already, and the lease is ours.
    Waited(Box<Waited>),
    /// It is this job: that of its key and its content, or the queued one of its id, which was accepted with its content and
    /// edited since.
    Is(JobId),
    /// The id is taken (`id_queued`, `id_running`), or its key (`key_taken`, `key_busy`), or it must not start now.
    Refused(Reason),
    /// A crash left something behind: `recovery::recover_one`, then try again.
    NeedsRecovery,
}

/// A job that waited in the queue, and was given to run once more: it is run as the job that it is.
#[derive(Debug)]
pub struct Waited {
    /// Its lease.
    pub lease: Box<Lease>,
    /// What stands in its file.
    pub parsed: Box<Parsed>,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
}

/// Whether a job may start; it is given the time before which the record says that it does not.
pub type WhyNotNow<'a> = dyn FnMut(Option<Timestamp>) -> Result<Option<Reason>> + 'a;

/// Lets a job in that waits in the queue, also one that ran before: durable when this returns.
///
/// # Errors
/// Store errors; the id stays free.
pub fn park(store: &Store, clock: &dyn Clock, incoming: Incoming<'_>) -> Result<Entered> {
    let id = &incoming.job.job_id;
    let mut lease = match door(store, id)? {
        Door::Open(lease) => lease,
        Door::Ended(lease, place) => {
            return match own_key(store, clock, incoming)? {
                Key::Own => run_again(store, clock, lease, place, incoming),
                Key::Not(entered) => Ok(entered),
            };
        }
        Door::Queued(lease) => {
            return Ok(match waited(store, clock, lease, incoming)? {
                // [PARK_SYNC] It is told that it waits; a person's `cp` was never synced.
                Entered::Waited(waited) => {
                    make_durable(store, id)?;
                    Entered::Inside(waited.lease)
                }
                other => other,
            });
        }
        shut => return Ok(kept_out(shut, id)),
    };
    if let Key::Not(entered) = own_key(store, clock, incoming)? {
        return Ok(entered);
    }
    let temporary = places::write_temporary(store, incoming.bytes, TemporarySync::Now)?;
    name(store, &temporary, id)?;
    let accepted = Accepted::of(incoming, 0);
    let durable = store.sync_dir(&store.place_dir(&Place::Queued)).map_err(QueueError::from);
    let told = match durable.and_then(|()| queued_line(store, clock, &mut lease, accepted)) {
        Ok(told) => told,
        Err(error) => {
            withdraw(store, &mut lease);
            return Err(error);
        }
    };
    if let Err(error) = journal::append(store, &told) {
        tracing::warn!(error = causes(&error), "journal line not written");
    }
    Ok(Entered::Inside(lease))
}

/// Lets a job in that runs at once, under the lease that is returned.
///
/// `why_not_now` is asked under the lease: a reason keeps the job out.
/// For a free id nothing is synced but its key: nothing has been told before the start line. For an ended one this is a requeue,
/// then the queued file is replaced by the new one. A job that waits in the queue with the same content is that job.
///
/// # Errors
/// Store errors; a free id stays free.
pub fn direct(
    store: &Store,
    clock: &dyn Clock,
    incoming: Incoming<'_>,
    why_not_now: &mut WhyNotNow<'_>,
) -> Result<Entered> {
    let id = &incoming.job.job_id;
    let door = door(store, id)?;
    // Judged under the lease, and before anything is written.
    if let (Door::Open(_) | Door::Ended(..), Some(reason)) = (&door, why_not_now(None)?) {
        return Ok(Entered::Refused(reason));
    }
    if let Door::Open(_) | Door::Ended(..) = &door
        && let Key::Not(entered) = own_key(store, clock, incoming)?
    {
        return Ok(entered);
    }
    match door {
        Door::Open(lease) => {
            let temporary = places::write_temporary(store, incoming.bytes, TemporarySync::Never)?;
            name(store, &temporary, id)?;
            Ok(Entered::Inside(lease))
        }
        Door::Ended(lease, place) => run_again(store, clock, lease, place, incoming),
        Door::Queued(lease) => {
            let until = lease.line().and_then(|line| line.waits_until(clock.now()));
            let waited = waited(store, clock, lease, incoming)?;
            match (&waited, why_not_now(until)?) {
                (Entered::Waited(_), Some(reason)) => Ok(Entered::Refused(reason)),
                _ => Ok(waited),
            }
        }
        shut => Ok(kept_out(shut, id)),
    }
}

/// A queued job under its lease: the one that is to enter, if it asks for the same as its file stands, or as it was accepted.
fn waited(store: &Store, clock: &dyn Clock, lease: Box<Lease>, incoming: Incoming<'_>) -> Result<Entered> {
    let known = lease.line().is_some();
    Ok(match claim::read(store, lease.id(), known, clock.now())?.0 {
        Content::Job(parsed, bytes) if dedup::is_same(parse::content(&bytes).as_ref(), incoming.bytes) => {
            Entered::Waited(Box::new(Waited { lease, parsed, bytes }))
        }
        // What stands there now may need other locks than those that the caller has: it is claimed like any other.
        Content::Job(..) if dedup::was_accepted_as(lease.line(), incoming.bytes) => {
            Entered::Is(lease.id().clone())
        }
        _ => {
            let message = format!("the job `{}` is queued with another content", lease.id());
            Entered::Refused(Reason::new("id_queued", message))
        }
    })
}

/// Whether a job has its key, if it asks for one.
enum Key {
    Own,
    /// It does not enter.
    Not(Entered),
}

/// Makes the key of a job its own, durable, under its lease.
///
/// A crash behind this leaves a key file of a free id, which the next claimant takes over.
fn own_key(store: &Store, clock: &dyn Clock, incoming: Incoming<'_>) -> Result<Key> {
    let id = &incoming.job.job_id;
    let Some((key, content)) = incoming.job.key.as_deref().zip(parse::content(incoming.bytes)) else {
        return Ok(Key::Own);
    };
    let claimant = Claimant { id, key, content: &content };
    let refused = |why: WhyNot| Key::Not(Entered::Refused(Reason::new(why.code, why.message)));
    Ok(match dedup::take(store, clock, claimant, (&BTreeSet::new(), &Patience::new()))? {
        Taking::Ours => {
            let path = keys::path(store, key);
            store.sync_data(&fs::open_regular(&path)?, &path)?;
            store.sync_dir(&keys::dir(store))?;
            Key::Own
        }
        Taking::Same(existing) => Key::Not(Entered::Is(existing.id)),
        Taking::Other(owner) => refused(WhyNot::key_taken(&owner)),
        Taking::NotCompared(owner) => refused(WhyNot::key_not_compared(&owner)),
        Taking::Busy => refused(WhyNot::key_busy()),
    })
}

/// Makes up for the syncs that a direct run of a free id skipped, before it is told that the job waits `PARK_SYNC`.
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
    if lease.line().is_none_or(RecordLine::is_untouched)
        && let Err(error) = fs::remove(&store.job_file(&Place::Queued, lease.id()))
    {
        tracing::warn!(error = causes(&error), "a job file that was not started is still queued");
    }
}

/// What is found at the door of an id, under its lease.
pub(super) enum Door {
    /// The id is free: nothing was ever promised for it `TAKE_OVER`.
    Open(Box<Lease>),
    /// The id has ended; where its file is.
    Ended(Box<Lease>, Option<Place>),
    /// The id waits in the queue.
    Queued(Box<Lease>),
    /// A crash left the id half-way.
    LeftByCrash(Box<Lease>),
    /// A living process has the lease.
    Busy,
    /// Something that is no job file has its name.
    Blocked(Reason),
}

fn kept_out(door: Door, id: &JobId) -> Entered {
    match door {
        Door::LeftByCrash(_) => Entered::NeedsRecovery,
        Door::Blocked(reason) => Entered::Refused(reason),
        Door::Queued(_) => refused(Situation::Queued, id),
        Door::Open(_) | Door::Ended(..) | Door::Busy => refused(Situation::AttemptOpen, id),
    }
}

fn refused(situation: Situation, id: &JobId) -> Entered {
    let taken = situation.why_taken(id);
    taken.map_or(Entered::NeedsRecovery, |(code, message)| Entered::Refused(Reason::new(code, message)))
}

/// Takes the lease of an id and looks whether it may enter. Everything is read under the lease `READ_LOCKED`.
pub(super) fn door(store: &Store, id: &JobId) -> Result<Door> {
    door_by(store, id, Lease::acquire_soon)
}

type AcquireLease = fn(&Store, &JobId, Create) -> crate::store::Result<Acquire>;

/// As `door`, for who takes the lease in a way of its own.
pub(super) fn door_by(store: &Store, id: &JobId, acquire: AcquireLease) -> Result<Door> {
    let lease = match acquire(store, id, Create::IfMissing)? {
        Acquire::Held(lease) => lease,
        Acquire::Busy | Acquire::NoRecord => return Ok(Door::Busy),
    };
    let files = places::active_files(store, id)?;
    let situation = Situation::judge(lease.line(), &files);
    if let Some(reason) = files.in_the_way {
        return Ok(Door::Blocked(reason));
    }
    Ok(match situation {
        Situation::Free => Door::Open(lease),
        Situation::Queued => Door::Queued(lease),
        Situation::Ended => {
            let place = places::locate(store, id, lease.line().map(|line| &line.place))?;
            Door::Ended(lease, place)
        }
        Situation::AttemptOpen
        | Situation::StartNotRecorded
        | Situation::RetryNotMoved
        | Situation::EndNotMoved
        | Situation::FileMissing => Door::LeftByCrash(lease),
    })
}

/// Gives a written job file its name in `queued/`, which must be free `NOREPLACE`; if it is not, the file is gone.
pub(super) fn name(store: &Store, temporary: &Path, id: &JobId) -> Result<()> {
    let target = store.job_file(&Place::Queued, id);
    match fs::rename_noreplace(temporary, &target) {
        Ok(Moved::Done) => Ok(()),
        other => {
            let _ = fs::remove(temporary);
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

/// What the first line of a life says of the job file.
#[derive(Debug)]
pub(super) struct Accepted {
    not_before: Option<Timestamp>,
    summary: JobSummary,
    /// Its number in its batch.
    place: u32,
}

impl Accepted {
    pub(super) fn of(incoming: Incoming<'_>, place: usize) -> Self {
        Self {
            not_before: incoming.job.not_before,
            summary: summary(incoming.job, incoming.bytes),
            place: u32::try_from(place).unwrap_or(u32::MAX),
        }
    }
}

/// Records that a job was accepted, once its file is durable.
pub(super) fn queued_line(
    store: &Store,
    clock: &dyn Clock,
    lease: &mut Lease,
    accepted: Accepted,
) -> Result<JournalLine> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::Accept)?;
    let mut line = next_line(lease, now);
    line.status = after.status;
    line.place = Place::of(after.directory, now);
    line.not_before = accepted.not_before;
    line.job = accepted.summary;
    line.accepted = Some(Acceptance { life: line.life, at: now, place: accepted.place });
    // Not synced: the file in `queued/` is what was promised.
    Ok(lease.commit_untold(store, line, Sync::Later)?)
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
