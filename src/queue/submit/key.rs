//! The job that a dedup key belongs to.
//!
//! Hard rule: a key is judged and taken over only under the lease of the job that its file names; where the file names no
//! job, under the lock of that file.

use std::collections::BTreeSet;

use serde_json::Value;

use super::existing::{self, BETWEEN_LOOKS, Existing, Patience, Settled};
use crate::clock::{self, Clock, Timestamp};
use crate::fs::Moved;
use crate::job::JobId;
use crate::queue::claim::{self, Content};
use crate::queue::{Result, places, situation};
use crate::store::{Lease, Store, keys};

/// Whether a job may have a key.
pub(crate) enum Claim {
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

/// The claimant of a key.
#[derive(Clone, Copy)]
pub(crate) struct Claimant<'a> {
    pub id: &'a JobId,
    pub key: &'a str,
    /// Its document without the id.
    pub content: &'a Value,
}

/// True if a document has this key.
fn has_key(content: &Value, key: &str) -> bool {
    content.get("key").and_then(Value::as_str) == Some(key)
}

/// Gives a key to a job, whichever job had it.
fn give(store: &Store, key: &str, owner: &JobId) -> Result<()> {
    let temporary = keys::write_temporary(store, owner)?;
    Ok(keys::take_over(store, &temporary, key)?)
}

/// The outcome of a claim.
pub(crate) enum Taking {
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
pub(crate) fn take(
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
                    // The records outrank the file: the owner by the records is judged next, as ever.
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
pub(crate) fn refused_by(store: &Store, claimant: Claimant<'_>) -> Result<Option<JobId>> {
    let Some(owner) = keys::owner(store, claimant.key)?.filter(|owner| owner != claimant.id) else {
        return Ok(None);
    };
    let Some(existing) = existing::find(store, &owner)? else { return Ok(None) };
    let content = existing.content(store)?;
    let differs =
        content.is_some_and(|content| content != *claimant.content && has_key(&content, claimant.key));
    Ok(differs.then_some(owner))
}

/// Judges a claim. `held` are the free ids whose leases this process holds: none of them has the key.
pub(crate) fn judge(
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
        let settled = existing::settled(store, clock, &owner, patience)?;
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
