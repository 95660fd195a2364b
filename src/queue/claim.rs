//! Claims a waiting job in `queued/` by its id.

use std::os::unix::fs::MetadataExt;

use super::situation::Situation;
use super::{Result, places};
use crate::clock::Timestamp;
use crate::fs::{self, Create};
use crate::job::parse::problem::Problems;
use crate::job::parse::{MAX_JOB_BYTES, readable_job_id, too_large};
use crate::job::{Code, JobId, Parsed, Place, Reason, parse_job};
use crate::store::{Acquire, Lease, Store};

/// How long an unreadable file must stay unchanged before it is judged: a copy may be in progress.
pub(crate) const STAND_STILL: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a job may be claimed, as its record, its files and its lease say.
#[derive(Debug)]
pub(crate) enum Claimable {
    /// The lease is ours, the job may be claimed.
    Ready(Box<Ready>),
    /// The job cannot be claimed now, for this reason.
    Refused(Reason),
    /// A crash left something behind: `recovery::recover_one`, then try again.
    NeedsRecovery,
}

/// A job under its lease, with its file in `queued/`.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The lease.
    pub lease: Box<Lease>,
    /// The content of the file.
    pub file: Content,
    /// The job does not start before this time, says its record.
    pub parked_until: Option<Timestamp>,
}

/// The content of a queued file.
#[derive(Debug)]
pub(crate) enum Content {
    /// A valid job of this id.
    Job(Box<Parsed>, Vec<u8>),
    /// A job of this id that is not valid: it is claimed to be refused on record.
    Invalid(Problems),
    /// Something else: not ours to record.
    Foreign(Reason),
}

/// Takes the lease of a queued job and reads its file.
pub(crate) fn look(store: &Store, id: &JobId, now: Timestamp) -> Result<Claimable> {
    let files = places::active_files(store, id)?;
    if let Some(reason) = files.in_the_way {
        return Ok(Claimable::Refused(reason));
    }
    let acquired = match (files.queued, files.running) {
        (true, _) => Lease::acquire_soon(store, id, Create::IfMissing)?,
        (false, true) => Lease::acquire(store, id, Create::No)?,
        (false, false) => Acquire::NoRecord,
    };
    let lease = match acquired {
        Acquire::Held(lease) => lease,
        Acquire::Busy => return Ok(refused(Code::IdRunning, format!("the job `{id}` is running"))),
        Acquire::NoRecord => return Ok(not_queued(id)),
    };
    // [RECHECK] [REC_WINS] Reads before the lease do not count, and the record decides.
    match Situation::judge(lease.line(), &places::active_files(store, id)?) {
        Situation::Queued => {}
        Situation::Free | Situation::Ended | Situation::FileMissing => return Ok(not_queued(id)),
        Situation::AttemptOpen
        | Situation::StartNotRecorded
        | Situation::RetryNotMoved
        | Situation::EndNotMoved => return Ok(Claimable::NeedsRecovery),
    }
    let known = lease.line().is_some();
    let (file, still) = read(store, id, known, now)?;
    if !still && !matches!(file, Content::Job(..)) {
        let message = "the job file cannot be read yet: it was changed less than 5 s ago".to_owned();
        return Ok(refused(Code::JobFileChanging, message));
    }
    let parked_until = lease.line().and_then(|line| line.waits_until(now));
    Ok(Claimable::Ready(Box::new(Ready { lease, file, parked_until })))
}

fn refused(code: Code, message: String) -> Claimable {
    Claimable::Refused(Reason::new(code, message))
}

fn not_queued(id: &JobId) -> Claimable {
    refused(Code::NotQueued, format!("the job `{id}` is not queued"))
}

/// Reads a queued file, and whether it has not changed for 5 seconds.
pub(crate) fn read(store: &Store, id: &JobId, known: bool, now: Timestamp) -> Result<(Content, bool)> {
    let path = store.job_file(&Place::Queued, id);
    read_at(&path, id, known, now)
}

/// When a queued file was last changed.
#[must_use]
pub(crate) fn changed_at(store: &Store, id: &JobId) -> Option<Timestamp> {
    let metadata = std::fs::symlink_metadata(store.job_file(&Place::Queued, id)).ok()?;
    Timestamp::modified(&metadata)
}

/// When a queued file got its name, or was last changed after that.
#[must_use]
pub(crate) fn named_at(store: &Store, id: &JobId) -> Option<Timestamp> {
    let metadata = std::fs::symlink_metadata(store.job_file(&Place::Queued, id)).ok()?;
    Some(Timestamp::from_millis(
        metadata.ctime().saturating_mul(1000).saturating_add(metadata.ctime_nsec() / 1_000_000),
    ))
}

/// As `read`, of a file anywhere.
pub(crate) fn read_at(
    path: &std::path::Path,
    id: &JobId,
    known: bool,
    now: Timestamp,
) -> Result<(Content, bool)> {
    let file = fs::open_regular(path)?;
    let metadata = file.metadata().map_err(|source| fs::FsError {
        action: "looking at",
        path: path.to_path_buf(),
        source,
    })?;
    let changed = Timestamp::modified(&metadata).unwrap_or(Timestamp::from_millis(0));
    // A clock that was set back must not make a file look young for ever.
    let still = now.since(changed) >= STAND_STILL || changed > now.after(STAND_STILL);
    let name = path.display().to_string();
    let Some(bytes) = fs::read_limited(&file, path, MAX_JOB_BYTES)? else {
        let problems = Problems::one(&name, too_large(metadata.len()));
        return Ok((if known { Content::Invalid(problems) } else { foreign(&problems) }, still));
    };
    Ok((classify(bytes, &name, id, known), still))
}

fn classify(bytes: Vec<u8>, name: &str, id: &JobId, known: bool) -> Content {
    match parse_job(&bytes, name) {
        Ok(parsed) if parsed.job.job_id == *id => Content::Job(Box::new(parsed), bytes),
        Ok(parsed) => wrong_name(&parsed.job.job_id, id),
        Err(problems) => match readable_job_id(&bytes) {
            Some(inside) if inside == *id => Content::Invalid(problems),
            Some(inside) => wrong_name(&inside, id),
            None if known => Content::Invalid(problems),
            None => foreign(&problems),
        },
    }
}

/// True if a reason is that of `Content::Foreign`.
#[must_use]
pub(crate) fn is_foreign(reason: &Reason) -> bool {
    matches!(reason.code, Code::NotAJobFile | Code::WrongName)
}

fn foreign(problems: &Problems) -> Content {
    Content::Foreign(Reason::new(Code::NotAJobFile, problems.to_string()))
}

fn wrong_name(inside: &JobId, name: &JobId) -> Content {
    let message = format!("the file is named `{name}.json` but its `job_id` is `{inside}`");
    Content::Foreign(Reason::new(Code::WrongName, message))
}
