//! The door of the queue `ONE_DOOR`: `queued/<id>.json`, under the lease, and only where the id is free or has ended.
//!
//! Checks an id before it enters, and holds the steps that all entries share. `enter` and `submit` decide which job enters,
//! in which order and with which syncs.

use std::path::Path;

use super::Result;
use super::attempt::{next_line, summary};
use super::places;
use super::situation::Situation;
use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create, Moved};
use crate::job::event::JournalLine;
use crate::job::record::{Acceptance, JobSummary};
use crate::job::state::{Event, transition};
use crate::job::{JobFile, JobId, Place, Reason, RecordLine};
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store};

/// A valid job file that is to enter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// The job.
    pub job: &'a JobFile,
    /// Its bytes, which become the queued file.
    pub bytes: &'a [u8],
}

/// The state of an id at the door, under its lease.
pub(super) enum Door {
    /// The id is free: nothing was ever promised for it `TAKE_OVER`.
    Open(Box<Lease>),
    /// The id has ended; where its file is.
    Ended(Box<Lease>, Option<Place>),
    /// The id waits in the queue.
    Queued(Box<Lease>),
    /// A crash left the id half-way.
    LeftByCrash(Box<Lease>, Situation),
    /// A living process has the lease.
    Busy,
    /// Something that is no job file has its name.
    Blocked(Reason),
}

/// Takes the lease of an id and looks whether it may enter. Everything is read under the lease `READ_LOCKED`.
pub(super) fn look(store: &Store, id: &JobId) -> Result<Door> {
    look_by(store, id, Lease::acquire_soon)
}

type AcquireLease = fn(&Store, &JobId, Create) -> crate::store::Result<Acquire>;

/// As `look`, with another way to take the lease.
pub(super) fn look_by(store: &Store, id: &JobId, acquire: AcquireLease) -> Result<Door> {
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
        | Situation::FileMissing => Door::LeftByCrash(lease, situation),
    })
}

/// Gives a written job file its name in `queued/`, which must be free `NOREPLACE`; if it is not, the file is gone.
pub(super) fn name(store: &Store, temporary: &Path, id: &JobId) -> Result<()> {
    let target = store.job_file(&Place::Queued, id);
    match fs::rename_noreplace(temporary, &target) {
        Ok(Moved::Done) => Ok(()),
        other => {
            let _ = fs::remove(temporary);
            // Under the lease only a person's `cp` can have interfered.
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
pub(super) struct FirstLine {
    not_before: Option<Timestamp>,
    summary: JobSummary,
    /// Its number in its batch.
    place: u32,
}

impl FirstLine {
    pub(super) fn new(incoming: Incoming<'_>, place: usize) -> Self {
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
    first: FirstLine,
) -> Result<JournalLine> {
    let now = clock.now();
    let after = transition(lease.line().map(|line| line.status), Event::Accept)?;
    let mut line = next_line(lease, now);
    line.status = after.status;
    line.place = Place::for_directory(after.directory, now);
    line.not_before = first.not_before;
    line.job = first.summary;
    line.accepted = Some(Acceptance { life: line.life, at: now, place: first.place });
    // Not synced: the file in `queued/` is what was promised.
    Ok(lease.commit_unjournaled(store, line, Sync::Later)?)
}

/// Withdraws an admitted job that never started, after a failure.
pub(crate) fn withdraw(store: &Store, lease: &mut Lease) {
    lease.give_back();
    if lease.line().is_none_or(RecordLine::is_untouched)
        && let Err(error) = fs::remove(&store.job_file(&Place::Queued, lease.id()))
    {
        tracing::warn!(error = causes(&error), "a job file that was not started is still queued");
    }
}
