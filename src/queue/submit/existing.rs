//! The job behind an id that is taken, and whether it is the same as the one on its way in.
//!
//! Two jobs are the same if their documents are, `job_id` apart.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::clock::{self, Clock};
use crate::fs;
use crate::job::digest::sha256;
use crate::job::parse::{self, MAX_JOB_BYTES};
use crate::job::{JobId, Place, Reason, RecordLine};
use crate::queue::door::{self, Door};
use crate::queue::situation::{self, Situation};
use crate::queue::{Result, places};
use crate::store::{Lease, Store};

/// How long a command waits, for all of its ids and keys together, for others that change them at this moment: a batch takes
/// milliseconds, and a process that stands still must not cost this time once for each job.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What is left of the time that a command waits for others.
#[derive(Debug)]
pub(crate) struct Patience(Cell<Duration>);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Cell::new(LONGEST_WAIT))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.get().is_zero()
    }

    /// Counts the time since a look began as waited.
    pub(super) fn spend(&self, clock: &dyn Clock, begun: Duration) {
        self.0.set(self.0.get().saturating_sub(clock.monotonic().saturating_sub(begun)));
    }
}

/// What an id is once no process is about to change it.
pub(crate) enum Settled {
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
pub(crate) struct Existing {
    pub id: JobId,
    pub situation: Situation,
    pub place: Place,
    /// Its lease, unless it runs.
    pub(super) lease: Option<Box<Lease>>,
}

impl Existing {
    /// What must be synced before it is told that the job is accepted `SKIP_SYNC`: the file found in `queued/`, and the
    /// lines of a record whose writer may have been killed before his sync. The names in `queued/` come on top.
    pub(crate) fn unsynced(&self, store: &Store) -> Vec<PathBuf> {
        let mut paths = vec![store.record_path(&self.id)];
        if self.place == Place::Queued {
            paths.push(store.job_file(&Place::Queued, &self.id));
        }
        paths
    }

    /// True for a queued file that is no job file: to count it would lose the job, for it will be quarantined.
    pub(crate) fn is_unreadable(&self, store: &Store) -> Result<bool> {
        Ok(self.place == Place::Queued && self.content(store)?.is_none())
    }

    /// Whether it asks for the same as a document: as its file stands, or as it was accepted.
    pub(crate) fn compared(&self, store: &Store, bytes: &[u8]) -> Result<Compared> {
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
    pub(crate) fn content(&self, store: &Store) -> Result<Option<Value>> {
        let read = |path: &Path| {
            let bytes = fs::read_limited(&fs::open_regular(path)?, path, MAX_JOB_BYTES)?;
            Ok(bytes.and_then(|bytes| parse::content(&bytes)))
        };
        Ok(places::read_moving(store, &self.id, Some(&self.place), &read)?.flatten())
    }
}

/// Whether a job asks for the same as a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Other,
    /// Its file is missing or is no job file, and the document is not the one that was accepted.
    Unknown,
}

/// True if a job file as it stands, given without its id, asks for the same as a document.
pub(crate) fn is_same(stands: Option<&Value>, bytes: &[u8]) -> bool {
    stands.is_some_and(|stands| parse::content(bytes).as_ref() == Some(stands))
}

/// True if a job was accepted with this document, whatever its file says by now. That a last line has its end does not count:
/// `submit` adds it.
pub(crate) fn was_accepted_as(line: Option<&RecordLine>, bytes: &[u8]) -> bool {
    let Some(accepted) = line.and_then(|line| line.job.sha256.as_ref()) else { return false };
    let bare = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    *accepted == sha256(bytes) || *accepted == sha256(bare) || *accepted == sha256(&[bare, b"\n"].concat())
}

/// Takes the lease of an id, or finds who has it.
pub(crate) fn settled(store: &Store, clock: &dyn Clock, id: &JobId, patience: &Patience) -> Result<Settled> {
    let taken =
        |situation, place, lease| Settled::Taken(Existing { id: id.clone(), situation, place, lease });
    loop {
        let begun = clock.monotonic();
        let acquire = if patience.is_over() { Lease::acquire } else { Lease::acquire_soon };
        match door::look_by(store, id, acquire)? {
            Door::Open(lease) => return Ok(Settled::Free(lease)),
            Door::Queued(lease) => return Ok(taken(Situation::Queued, Place::Queued, Some(lease))),
            Door::Ended(lease, place) => {
                let place = place.unwrap_or_else(|| recorded_place(&lease));
                return Ok(taken(Situation::Ended, place, Some(lease)));
            }
            Door::LeftByCrash(lease, situation) => {
                let expected = recorded_place(&lease);
                let place = places::locate(store, id, Some(&expected))?.unwrap_or(expected);
                return Ok(taken(situation, place, Some(lease)));
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

/// The job that has an id, as it looks without its lease.
pub(crate) fn find(store: &Store, id: &JobId) -> Result<Option<Existing>> {
    let (situation, _) = situation::look(store, id)?;
    if situation == Situation::Free {
        return Ok(None);
    }
    let recorded = store.read_record(id)?.map(|record| record.line.place);
    let place = places::locate(store, id, recorded.as_ref())?.or(recorded).unwrap_or(Place::Queued);
    Ok(Some(Existing { id: id.clone(), situation, place, lease: None }))
}
