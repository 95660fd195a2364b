//! Who stands behind an id that is taken, and who may have a dedup key.
//!
//! Two jobs are the same if their documents are, `job_id` apart. Hard rule: a key is judged and taken over only under
//! the lease of the job that its file names.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::enter::{self, Door, Standing};
use super::{Result, places};
use crate::clock::{self, Clock};
use crate::fs;
use crate::job::parse::{self, MAX_JOB_BYTES};
use crate::job::{JobId, Place, Reason};
use crate::store::{Lease, Store, keys};

/// How long somebody who changes an id at this moment is waited for: a batch takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an id is once nobody is about to change it.
pub(super) enum Settled {
    /// Free, under its lease.
    Free(Box<Lease>),
    /// A job has it.
    Taken(Existing),
    /// Something that is no job file has its name.
    Blocked(Reason),
    /// Somebody is at it for longer than we wait.
    Busy,
}

/// A job that has an id.
#[derive(Debug)]
pub(super) struct Existing {
    pub id: JobId,
    pub standing: Standing,
    pub place: Place,
    /// Its lease, unless it runs.
    lease: Option<Box<Lease>>,
}

impl Existing {
    /// What must be synced before somebody is told that the job is accepted `SKIP_SYNC`: the file found in `queued/`, and the
    /// lines of a record whose writer may have been killed before his sync. The names in `queued/` come on top.
    pub(super) fn unsynced(&self, store: &Store) -> Vec<PathBuf> {
        let mut paths = vec![store.record_path(&self.id)];
        if self.place == Place::Queued {
            paths.push(store.job_file(&Place::Queued, &self.id));
        }
        paths
    }

    /// Its document without the id; `None` if it can not be read.
    pub(super) fn content(&self, store: &Store) -> Result<Option<Value>> {
        let path = store.job_file(&self.place, &self.id);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(fs::read_limited(&file, &path, MAX_JOB_BYTES)?.and_then(|bytes| parse::content(&bytes)))
    }
}

/// Takes the lease of an id, or finds who has it.
pub(super) fn settled(store: &Store, clock: &dyn Clock, id: &JobId) -> Result<Settled> {
    let until = clock.monotonic().saturating_add(PATIENCE);
    let taken = |standing, place, lease| Settled::Taken(Existing { id: id.clone(), standing, place, lease });
    loop {
        match enter::door(store, id)? {
            Door::Open(lease) => return Ok(Settled::Free(lease)),
            Door::Queued(lease) => return Ok(taken(Standing::Queued, Place::Queued, Some(lease))),
            Door::Ended(lease, place) => {
                let place = place.unwrap_or_else(|| recorded_place(&lease));
                return Ok(taken(Standing::Ended, place, Some(lease)));
            }
            Door::LeftByCrash(lease) => {
                let expected = recorded_place(&lease);
                let place = places::locate(store, id, Some(&expected))?.unwrap_or(expected);
                return Ok(taken(Standing::Between, place, Some(lease)));
            }
            Door::Blocked(reason) => return Ok(Settled::Blocked(reason)),
            Door::Busy => {}
        }
        // Who has it: a runner, for as long as he likes, or a submission that is about to end one way or the other.
        if let Some(record) = store.read_record(id)?.filter(|record| !record.line.is_untouched()) {
            return Ok(taken(Standing::Between, record.line.place, None));
        }
        if clock.monotonic() >= until {
            return Ok(Settled::Busy);
        }
        clock::sleep(Duration::from_millis(2));
    }
}

fn recorded_place(lease: &Lease) -> Place {
    lease.line().map_or(Place::Queued, |line| line.place.clone())
}

/// Whether a job may have a key.
pub(super) enum Claim {
    /// Nobody has it.
    Free,
    /// The job itself has it, from a submission that did not get further.
    Own,
    /// Its file names a job that is free again, or has another key now. The lease of that job, unless we hold it anyway,
    /// is kept until the key is taken over.
    Abandoned(JobId, Option<Box<Lease>>),
    /// A job that asks for the same.
    Same(Existing),
    /// A job that asks for something else, or that can not be judged now.
    Other(JobId),
}

/// Who claims a key.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub id: &'a JobId,
    pub key: &'a str,
    /// Its document without the id.
    pub content: &'a Value,
}

/// Judges a claim. `held` are the free ids whose leases this process holds: none of them has the key.
pub(super) fn judge(
    store: &Store,
    clock: &dyn Clock,
    claimant: Claimant<'_>,
    held: &BTreeSet<JobId>,
) -> Result<Claim> {
    loop {
        // By one look: between two of them another claimant may take the key.
        let owner = match keys::look(store, claimant.key)? {
            None => return Ok(Claim::Free),
            // A key file that names nobody, as a power loss leaves it without syncs, is nobody's.
            Some(None) => return Ok(Claim::Abandoned(claimant.id.clone(), None)),
            Some(Some(owner)) => owner,
        };
        if owner == *claimant.id {
            return Ok(Claim::Own);
        }
        if held.contains(&owner) {
            return Ok(Claim::Abandoned(owner, None));
        }
        let settled = settled(store, clock, &owner)?;
        // Under that lease: the file that was read before may name somebody else by now.
        if keys::owner(store, claimant.key)?.as_ref() != Some(&owner) {
            continue;
        }
        let existing = match settled {
            Settled::Free(lease) => return Ok(Claim::Abandoned(owner, Some(lease))),
            Settled::Blocked(_) | Settled::Busy => return Ok(Claim::Other(owner)),
            Settled::Taken(existing) => existing,
        };
        let content = existing.content(store)?;
        let has_key = |content: &Value| content.get("key").and_then(Value::as_str) == Some(claimant.key);
        return Ok(match content {
            Some(content) if content == *claimant.content => Claim::Same(existing),
            Some(content) if !has_key(&content) && existing.lease.is_some() => {
                Claim::Abandoned(owner, existing.lease)
            }
            _ => Claim::Other(owner),
        });
    }
}
