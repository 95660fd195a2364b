//! Who stands behind an id that is taken, and who may have a dedup key.
//!
//! Two jobs are the same if their documents are, `job_id` apart. Hard rule: a key is judged and taken over only under
//! the lease of the job that its file names; where the file names no job, under the lock of that file.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::claim::{self, Content};
use super::enter::{self, Door};
use super::situation::{self, Situation};
use super::{Result, places};
use crate::clock::{self, Clock, Timestamp};
use crate::fs::{self, Moved};
use crate::job::digest::sha256;
use crate::job::parse::{self, MAX_JOB_BYTES};
use crate::job::{JobId, Place, Reason, RecordLine};
use crate::store::{Lease, Store, keys};

/// How long a command waits, for all of its ids and keys together, for others that change them at this moment: a batch takes
/// milliseconds, and a process that stands still must not cost this time once for each job.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What is left of the time that a command waits for others.
#[derive(Debug)]
pub(super) struct Patience(Cell<Duration>);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Cell::new(LONGEST_WAIT))
    }

    fn is_over(&self) -> bool {
        self.0.get().is_zero()
    }

    /// Counts the time since a look began as waited.
    fn spend(&self, clock: &dyn Clock, begun: Duration) {
        self.0.set(self.0.get().saturating_sub(clock.monotonic().saturating_sub(begun)));
    }
}

/// What an id is once no process is about to change it.
pub(super) enum Settled {
    /// Free, under its lease.
    Free(Box<Lease>),
    /// A job has it.
    Taken(Existing),
    /// Something that is no job file has its name.
    Blocked(Reason),
    /// Another process is at it for longer than we wait.
    Busy,
}

/// A job that has an id.
#[derive(Debug)]
pub(super) struct Existing {
    pub id: JobId,
    pub situation: Situation,
    pub place: Place,
    /// Its lease, unless it runs.
    lease: Option<Box<Lease>>,
}

impl Existing {
    /// What must be synced before it is told that the job is accepted `SKIP_SYNC`: the file found in `queued/`, and the
    /// lines of a record whose writer may have been killed before his sync. The names in `queued/` come on top.
    pub(super) fn unsynced(&self, store: &Store) -> Vec<PathBuf> {
        let mut paths = vec![store.record_path(&self.id)];
        if self.place == Place::Queued {
            paths.push(store.job_file(&Place::Queued, &self.id));
        }
        paths
    }

    /// True for a queued file that is no job file: to count it would lose the job, for it will be quarantined.
    pub(super) fn is_unreadable(&self, store: &Store) -> Result<bool> {
        Ok(self.place == Place::Queued && self.content(store)?.is_none())
    }

    /// Whether it asks for the same as a document: as its file stands, or as it was accepted.
    pub(super) fn compared(&self, store: &Store, bytes: &[u8]) -> Result<Compared> {
        let content = self.content(store)?;
        if is_same(content.as_ref(), bytes) {
            return Ok(Compared::Same);
        }
        let record = store.read_record(&self.id)?;
        Ok(match content {
            _ if was_accepted_as(record.as_ref().map(|record| &record.line), bytes) => Compared::Same,
            Some(_) => Compared::Other,
            None => Compared::Unknown,
        })
    }

    /// Its document without the id; `None` if it cannot be read.
    pub(super) fn content(&self, store: &Store) -> Result<Option<Value>> {
        let read = |path: &Path| {
            let bytes = fs::read_limited(&fs::open_regular(path)?, path, MAX_JOB_BYTES)?;
            Ok(bytes.and_then(|bytes| parse::content(&bytes)))
        };
        Ok(places::read_moving(store, &self.id, Some(&self.place), &read)?.flatten())
    }
}

/// Whether a job asks for the same as a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Other,
    /// Its file is missing or is no job file, and the document is not the one that was accepted.
    Unknown,
}

/// True if a job file as it stands, given without its id, asks for the same as a document.
pub(super) fn is_same(stands: Option<&Value>, bytes: &[u8]) -> bool {
    stands.is_some_and(|stands| parse::content(bytes).as_ref() == Some(stands))
}

/// True if a job was accepted with this document, whatever its file says by now. That a last line has its end does not count:
/// `submit` adds it.
pub(super) fn was_accepted_as(line: Option<&RecordLine>, bytes: &[u8]) -> bool {
    let Some(accepted) = line.and_then(|line| line.job.sha256.as_ref()) else { return false };
    let bare = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    *accepted == sha256(bytes) || *accepted == sha256(bare) || *accepted == sha256(&[bare, b"\n"].concat())
}

/// Takes the lease of an id, or finds who has it.
pub(super) fn settled(store: &Store, clock: &dyn Clock, id: &JobId, patience: &Patience) -> Result<Settled> {
    let taken =
        |situation, place, lease| Settled::Taken(Existing { id: id.clone(), situation, place, lease });
    loop {
        let begun = clock.monotonic();
        let acquire = if patience.is_over() { Lease::acquire } else { Lease::acquire_soon };
        match enter::door_by(store, id, acquire)? {
            Door::Open(lease) => return Ok(Settled::Free(lease)),
            Door::Queued(lease) => return Ok(taken(Situation::Queued, Place::Queued, Some(lease))),
            Door::Ended(lease, place) => {
                let place = place.unwrap_or_else(|| recorded_place(&lease));
                return Ok(taken(Situation::Ended, place, Some(lease)));
            }
            Door::LeftByCrash(lease) => {
                let expected = recorded_place(&lease);
                let place = places::locate(store, id, Some(&expected))?.unwrap_or(expected);
                return Ok(taken(Situation::AttemptOpen, place, Some(lease)));
            }
            Door::Blocked(reason) => return Ok(Settled::Blocked(reason)),
            Door::Busy => {}
        }
        // Who has it: a runner, for as long as he likes, or a submission that is about to end one way or the other.
        if let Some(record) = store.read_record(id)?.filter(|record| !record.line.is_untouched()) {
            patience.spend(clock, begun);
            return Ok(taken(Situation::AttemptOpen, record.line.place, None));
        }
        if patience.is_over() {
            return Ok(Settled::Busy);
        }
        clock::sleep(BETWEEN_LOOKS);
        patience.spend(clock, begun);
    }
}

fn recorded_place(lease: &Lease) -> Place {
    lease.line().map_or(Place::Queued, |line| line.place.clone())
}

/// Whether a job may have a key.
pub(super) enum Claim {
    /// No job has it.
    Free,
    /// The job itself has it, from a submission that did not get further.
    Own,
    /// Its file names a job that is free again, or has another key now. The lease of that job, unless we hold it anyway,
    /// is kept until the key is taken over.
    Abandoned(JobId, Option<Box<Lease>>),
    /// Its file names no job, as a power loss leaves it without syncs.
    Torn,
    /// A job that asks for the same.
    Same(Existing),
    /// A job that asks for something else.
    Other(JobId),
    /// A job that cannot be compared now.
    NotCompared(JobId),
}

/// Who claims a key.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub id: &'a JobId,
    pub key: &'a str,
    /// Its document without the id.
    pub content: &'a Value,
}

/// True if a document has this key.
fn has_key(content: &Value, key: &str) -> bool {
    content.get("key").and_then(Value::as_str) == Some(key)
}

/// Gives a key to a job, whoever had it.
fn give(store: &Store, key: &str, owner: &JobId) -> Result<()> {
    let temporary = keys::write_temporary(store, owner)?;
    Ok(keys::take_over(store, &temporary, key)?)
}

/// What became of a claim.
pub(super) enum Taking {
    /// The key is the claimant's; its file is not synced.
    Ours,
    /// A job that asks for the same has it.
    Same(Existing),
    /// A job that asks for something else has it.
    Other(JobId),
    /// A job has it that cannot be compared now.
    NotCompared(JobId),
    /// Another process is at the key for longer than we wait.
    Busy,
}

/// Makes a key the claimant's own, before anything can see the job.
pub(super) fn take(
    store: &Store,
    clock: &dyn Clock,
    claimant: Claimant<'_>,
    (held, patience): (&BTreeSet<JobId>, &Patience),
) -> Result<Taking> {
    let Claimant { id, key, .. } = claimant;
    loop {
        let begun = clock.monotonic();
        match judge(store, clock, claimant, (held, patience))? {
            Claim::Own => return Ok(Taking::Ours),
            Claim::Free => {
                let temporary = keys::write_temporary(store, id)?;
                if keys::take(store, &temporary, key)? == Moved::Done {
                    return Ok(Taking::Ours);
                }
            }
            Claim::Abandoned(owner, lease) => {
                give(store, key, id)?;
                tracing::debug!("the key of {id} was taken over from {owner}");
                drop(lease);
                return Ok(Taking::Ours);
            }
            Claim::Torn => match keys::lock_torn(store, key)? {
                Some(lock) => {
                    // The records outrank the file: whoever has the key there is judged next, as ever.
                    let owner = recorded_owner(store, key)?.unwrap_or_else(|| id.clone());
                    give(store, key, &owner)?;
                    tracing::warn!(
                        "the file of the key of {id} named no job; by the records it is of {owner}"
                    );
                    drop(lock);
                }
                None if patience.is_over() => return Ok(Taking::Busy),
                None => {
                    clock::sleep(BETWEEN_LOOKS);
                    patience.spend(clock, begun);
                }
            },
            Claim::Same(existing) => return Ok(Taking::Same(existing)),
            Claim::Other(owner) => return Ok(Taking::Other(owner)),
            Claim::NotCompared(owner) => return Ok(Taking::NotCompared(owner)),
        }
    }
}

/// The job that has a key by what the records and the queued files say, the first by its id. Reads all of them: only for a
/// key whose file names no job.
fn recorded_owner(store: &Store, key: &str) -> Result<Option<JobId>> {
    for id in places::all_ids(store)? {
        if !situation::is_taken(store, &id)? {
            continue;
        }
        let recorded = store.read_record(&id).ok().flatten().and_then(|record| record.line.job.key);
        let has_it = match recorded {
            Some(recorded) => recorded == key,
            // Its file was promised before its record says so.
            None => match claim::read(store, &id, false, Timestamp::from_millis(0)) {
                Ok((Content::Job(parsed, _), _)) => parsed.job.key.as_deref() == Some(key),
                _ => false,
            },
        };
        if has_it {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The job that refuses a key to a claimant, as it looks without a lease; nothing is changed.
pub(super) fn refused_by(store: &Store, claimant: Claimant<'_>) -> Result<Option<JobId>> {
    let Some(owner) = keys::owner(store, claimant.key)?.filter(|owner| owner != claimant.id) else {
        return Ok(None);
    };
    let Some(existing) = existing(store, &owner)? else { return Ok(None) };
    let content = existing.content(store)?;
    let differs =
        content.is_some_and(|content| content != *claimant.content && has_key(&content, claimant.key));
    Ok(differs.then_some(owner))
}

/// The job that has an id, as it looks without its lease.
pub(super) fn existing(store: &Store, id: &JobId) -> Result<Option<Existing>> {
    let (situation, _) = situation::look(store, id)?;
    if situation == Situation::Free {
        return Ok(None);
    }
    let recorded = store.read_record(id)?.map(|record| record.line.place);
    let place = places::locate(store, id, recorded.as_ref())?.or(recorded).unwrap_or(Place::Queued);
    Ok(Some(Existing { id: id.clone(), situation, place, lease: None }))
}

/// Judges a claim. `held` are the free ids whose leases this process holds: none of them has the key.
pub(super) fn judge(
    store: &Store,
    clock: &dyn Clock,
    claimant: Claimant<'_>,
    (held, patience): (&BTreeSet<JobId>, &Patience),
) -> Result<Claim> {
    loop {
        // By one look: between two of them another claimant may take the key.
        let owner = match keys::look(store, claimant.key)? {
            None => return Ok(Claim::Free),
            Some(None) => return Ok(Claim::Torn),
            Some(Some(owner)) => owner,
        };
        if owner == *claimant.id {
            return Ok(Claim::Own);
        }
        if held.contains(&owner) {
            return Ok(Claim::Abandoned(owner, None));
        }
        let settled = settled(store, clock, &owner, patience)?;
        // Under that lease: the file that was read before may name another job by now.
        if keys::owner(store, claimant.key)?.as_ref() != Some(&owner) {
            continue;
        }
        let existing = match settled {
            Settled::Free(lease) => return Ok(Claim::Abandoned(owner, Some(lease))),
            Settled::Blocked(_) | Settled::Busy => return Ok(Claim::NotCompared(owner)),
            Settled::Taken(existing) => existing,
        };
        let content = existing.content(store)?;
        return Ok(match content {
            Some(content) if content == *claimant.content => Claim::Same(existing),
            Some(content) if !has_key(&content, claimant.key) && existing.lease.is_some() => {
                Claim::Abandoned(owner, existing.lease)
            }
            Some(_) => Claim::Other(owner),
            None => Claim::NotCompared(owner),
        });
    }
}
