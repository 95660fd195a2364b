//! Admits a single job, to wait or to run at once. `submit` admits a batch.
//!
//! Hard rule: nothing is written before the door says that the id is free, has ended, or waits as the same job.

use std::collections::BTreeSet;

use super::attempt::{new_life, summary};
use super::claim::{self, Content};
use super::door::{self, Door, FirstLine, Incoming};
use super::places::{self, TemporarySync};
use super::situation::Situation;
use super::submit::existing::{Patience, is_same, was_accepted_as};
use super::submit::key::{self, Claimant, Taking};
use super::submit::refusal::Refusal;
use super::{QueueError, Result};
use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::fs;
use crate::job::state::{Event, transition};
use crate::job::{Code, JobId, Parsed, Place, Reason, parse};
use crate::store::lease::Sync;
use crate::store::{Lease, Store, journal, keys};

/// The outcome for a job at the door.
#[derive(Debug)]
pub(crate) enum Entered {
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
pub(crate) struct Waited {
    /// Its lease.
    pub lease: Box<Lease>,
    /// The content of its file.
    pub parsed: Box<Parsed>,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
}

/// Whether a job may start; it is given the time before which the record says that it does not.
pub(crate) type RefusalNow<'a> = dyn FnMut(Option<Timestamp>) -> Result<Option<Reason>> + 'a;

/// Admits a job to wait in the queue, even one that ran before: durable when this returns.
///
/// # Errors
/// Store errors; the id stays free.
pub(crate) fn park(store: &Store, clock: &dyn Clock, incoming: Incoming<'_>) -> Result<Entered> {
    let id = &incoming.job.job_id;
    let mut lease = match door::look(store, id)? {
        Door::Open(lease) => lease,
        Door::Ended(lease, place) => {
            return match own_key(store, clock, incoming)? {
                Key::Own => run_again(store, clock, lease, place, incoming),
                Key::Not(entered) => Ok(entered),
            };
        }
        Door::Queued(lease) => {
            return Ok(match waited(store, clock, lease, incoming)? {
                // [PARK_SYNC] The job is reported as waiting; a person's `cp` was never synced.
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
    door::name(store, &temporary, id)?;
    let first = FirstLine::new(incoming, 0);
    let durable = store.sync_dir(&store.place_dir(&Place::Queued)).map_err(QueueError::from);
    let line = match durable.and_then(|()| door::queued_line(store, clock, &mut lease, first)) {
        Ok(line) => line,
        Err(error) => {
            door::withdraw(store, &mut lease);
            return Err(error);
        }
    };
    if let Err(error) = journal::append(store, &line) {
        tracing::warn!(error = causes(&error), "journal line not written");
    }
    Ok(Entered::Inside(lease))
}

/// Lets a job in that runs at once, under the lease that is returned.
///
/// `why_not_now` runs under the lease: a reason keeps the job out.
/// For a free id nothing is synced but its key: nothing is reported before the start line. For an ended one this is a requeue,
/// then the queued file is replaced by the new one. A job that waits in the queue with the same content is that job.
///
/// # Errors
/// Store errors; a free id stays free.
pub(crate) fn direct(
    store: &Store,
    clock: &dyn Clock,
    incoming: Incoming<'_>,
    why_not_now: &mut RefusalNow<'_>,
) -> Result<Entered> {
    let id = &incoming.job.job_id;
    let door = door::look(store, id)?;
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
            door::name(store, &temporary, id)?;
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

/// A queued job under its lease: the one that is to enter, if its content is that of the current file or of the accepted job. Of
/// a part of another job the queued file is replaced.
fn waited(store: &Store, clock: &dyn Clock, lease: Box<Lease>, incoming: Incoming<'_>) -> Result<Entered> {
    let known = lease.line().is_some();
    let mut content = claim::read(store, lease.id(), known, clock.now())?.0;
    let is_other = match &content {
        Content::Job(_, bytes) => !is_same(parse::content(bytes).as_ref(), incoming.bytes),
        Content::Invalid(_) => true,
        Content::Foreign(_) => false,
    };
    if is_other && incoming.job.parent.is_some() {
        // Only its parent starts it, and that wants it so by now.
        let temporary = places::write_temporary(store, incoming.bytes, TemporarySync::Now)?;
        fs::rename_replace(&temporary, &store.job_file(&Place::Queued, lease.id()))?;
        content = claim::read(store, lease.id(), known, clock.now())?.0;
    }
    Ok(match content {
        Content::Job(parsed, bytes) if is_same(parse::content(&bytes).as_ref(), incoming.bytes) => {
            Entered::Waited(Box::new(Waited { lease, parsed, bytes }))
        }
        // The current file may need other locks than those that the caller has: it is claimed like any other.
        Content::Job(..) if was_accepted_as(lease.line(), incoming.bytes) => Entered::Is(lease.id().clone()),
        _ => {
            let message = format!("the job `{}` is queued with different content", lease.id());
            Entered::Refused(Reason::new(Code::IdQueued, message))
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
    let refused = |why: Refusal| Key::Not(Entered::Refused(Reason::new(why.code, why.message)));
    Ok(match key::take(store, clock, claimant, (&BTreeSet::new(), &Patience::new()))? {
        Taking::Ours => {
            let path = keys::path(store, key);
            store.sync_data(&fs::open_regular(&path)?, &path)?;
            store.sync_dir(&keys::dir(store))?;
            Key::Own
        }
        Taking::Same(existing) => Key::Not(Entered::Is(existing.id)),
        Taking::Other(owner) => refused(Refusal::key_taken(&owner)),
        Taking::NotCompared(owner) => refused(Refusal::key_not_compared(&owner)),
        Taking::Busy => refused(Refusal::key_busy()),
    })
}

/// Makes up for the syncs that a direct run of a free id skipped, before the job is reported as waiting `PARK_SYNC`.
pub(crate) fn make_durable(store: &Store, id: &JobId) -> Result<()> {
    let path = store.job_file(&Place::Queued, id);
    let file = fs::open_regular(&path)?;
    store.sync_data(&file, &path)?;
    store.sync_dir(&store.place_dir(&Place::Queued))?;
    Ok(())
}

fn kept_out(door: Door, id: &JobId) -> Entered {
    match door {
        Door::LeftByCrash(..) => Entered::NeedsRecovery,
        Door::Blocked(reason) => Entered::Refused(reason),
        Door::Queued(_) => refused(Situation::Queued, id),
        Door::Open(_) | Door::Ended(..) | Door::Busy => refused(Situation::AttemptOpen, id),
    }
}

fn refused(situation: Situation, id: &JobId) -> Entered {
    let taken = situation.why_taken(id);
    taken.map_or(Entered::NeedsRecovery, |(code, message)| Entered::Refused(Reason::new(code, message)))
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
