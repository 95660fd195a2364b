//! Requests that need no lease: `state/control/<id>.cancel`, `<id>.hold` and `HOLD`.
//!
//! Responsible for writing, reading and removing them. Not responsible for what follows: the holder of the lease acts.
//! Hard rule: a request to cancel names one attempt of one life, and counts for that one and for those after it in the
//! same life `CANCEL_LIFE` `CANCEL_EARLIER`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, Store, json_line};
use crate::clock::Timestamp;
use crate::fs;
use crate::job::{JobId, RecordLine, SCHEMA_VERSION};

/// A larger file is none of ours.
const LONGEST: u64 = 64 << 10;

/// The attempt that a request to cancel is about. Later ones compare as greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptId {
    /// The life of the job.
    pub life: u32,
    /// The attempt; the next one, where none is open.
    pub attempt: u32,
}

impl AttemptId {
    /// What a request must name that is made when the record ends with this line: the open attempt, or the next one.
    #[must_use]
    pub(crate) fn open_or_next(line: Option<&RecordLine>) -> Self {
        let Some(line) = line else { return Self { life: 1, attempt: 1 } };
        let open = line.open_attempt().map(|attempt| attempt.attempt);
        Self { life: line.life, attempt: open.unwrap_or_else(|| line.next_attempt()) }
    }
}

/// A person's wish to end a job whose lease another process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CancelRequest {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// The job.
    pub job_id: JobId,
    /// The life that is meant.
    pub life: u32,
    /// The attempt that is meant.
    pub attempt: u32,
    /// When it was made.
    pub at: Timestamp,
}

impl CancelRequest {
    /// What it names.
    #[must_use]
    pub(crate) fn target(&self) -> AttemptId {
        AttemptId { life: self.life, attempt: self.attempt }
    }
}

/// Looks again and again for a request to cancel one attempt, without the store.
#[derive(Debug, Clone)]
pub(crate) struct CancelWatch {
    path: PathBuf,
    target: AttemptId,
}

impl CancelWatch {
    /// Of an attempt.
    #[must_use]
    pub(crate) fn new(store: &Store, id: &JobId, target: AttemptId) -> Self {
        Self { path: cancel_path(store, id), target }
    }

    /// True if there is a request for this attempt, or for an earlier one of the same life: between the look and the request
    /// of the cancellation, the job may have come to its next attempt. What cannot be read is none.
    #[must_use]
    pub(crate) fn is_asked(&self) -> bool {
        read::<CancelRequest>(&self.path)
            .is_some_and(|request| request.life == self.target.life && request.attempt <= self.target.attempt)
    }
}

fn cancel_path(store: &Store, id: &JobId) -> PathBuf {
    store.state("control").join(format!("{id}.cancel"))
}

/// Asks for the end of an attempt, durable and whole for its readers.
///
/// A crash before the rename leaves a temporary file, which recovery removes; after it the request is valid.
pub(crate) fn request_cancel(store: &Store, id: &JobId, target: AttemptId, now: Timestamp) -> Result<()> {
    let request = CancelRequest {
        schema_version: SCHEMA_VERSION,
        job_id: id.clone(),
        life: target.life,
        attempt: target.attempt,
        at: now,
    };
    publish(store, &cancel_path(store, id), &request)
}

/// The request to cancel a job, if there is one.
#[must_use]
pub(crate) fn cancel_request(store: &Store, id: &JobId) -> Option<CancelRequest> {
    read(&cancel_path(store, id))
}

/// Removes a request to cancel that was honored, or that names nothing after this target. Without sync: should it come
/// back after a power loss, it names an attempt that is over.
pub(crate) fn forget_cancel(store: &Store, id: &JobId, upto: AttemptId) -> Result<()> {
    let path = cancel_path(store, id);
    if fs::exists(&path)? && read::<CancelRequest>(&path).is_none_or(|request| request.target() <= upto) {
        fs::remove(&path)?;
    }
    Ok(())
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held<'a> {
    /// Every job.
    Queue,
    /// One job.
    Job(&'a JobId),
}

impl Held<'_> {
    fn file_name(self) -> String {
        match self {
            Self::Queue => "HOLD".to_owned(),
            Self::Job(id) => format!("{id}.hold"),
        }
    }
}

/// The content of a hold; a person's `touch` makes an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hold {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// When it was made, if it says so.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Keeps claimers away, from now on and after a power loss.
pub(crate) fn hold(store: &Store, what: Held<'_>, reason: Option<&str>, now: Timestamp) -> Result<()> {
    let path = store.state("control").join(what.file_name());
    // To hold a held job again, without a new reason, changes nothing.
    if reason.is_none() && fs::exists(&path)? {
        return Ok(());
    }
    let hold = Hold { schema_version: SCHEMA_VERSION, at: Some(now), reason: reason.map(ToOwned::to_owned) };
    publish(store, &path, &hold)
}

/// Takes a hold away; false if there was none.
pub(crate) fn release(store: &Store, what: Held<'_>) -> Result<bool> {
    let path = store.state("control").join(what.file_name());
    if !fs::exists(&path)? || !fs::remove(&path)? {
        return Ok(false);
    }
    store.sync_dir(&store.state("control"))?;
    Ok(true)
}

/// The hold that keeps a job from starting, with the name of its file below the root: the whole queue's first.
pub(crate) fn hold_of(store: &Store, id: &JobId) -> Result<Option<(String, Hold)>> {
    for what in [Held::Queue, Held::Job(id)] {
        let path = store.state("control").join(what.file_name());
        if fs::exists(&path)? {
            let hold = read(&path).unwrap_or_default();
            return Ok(Some((format!("state/control/{}", what.file_name()), hold)));
        }
    }
    Ok(None)
}

/// True if the whole queue is held.
pub(crate) fn is_queue_held(store: &Store) -> Result<bool> {
    Ok(fs::exists(&store.state("control").join(Held::Queue.file_name()))?)
}

/// The jobs that are held by themselves, sorted.
pub(crate) fn held_jobs(store: &Store) -> Result<Vec<JobId>> {
    let names = fs::names(&store.state("control"))?;
    let mut ids: Vec<JobId> =
        names.iter().filter_map(|name| JobId::new(name.strip_suffix(".hold")?).ok()).collect();
    ids.sort();
    Ok(ids)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let file = fs::open_regular(path).ok()?;
    let bytes = fs::read_limited(&file, path, LONGEST).ok()??;
    serde_json::from_slice(&bytes).ok()
}

fn publish(store: &Store, path: &Path, document: &impl Serialize) -> Result<()> {
    let dir = store.state("control");
    let temporary = fs::temporary_in(&dir);
    let text = json_line(path, document)?;
    let done = fs::create_new(&temporary, &text).map_err(Into::into).and_then(|file| {
        store.sync_data(&file, &temporary)?;
        fs::rename_replace(&temporary, path)?;
        store.sync_dir(&dir)
    });
    if done.is_err() {
        let _ = fs::remove(&temporary);
    }
    done
}
