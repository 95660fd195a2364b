//! `state/VERSION`: the format of a root, the uuid of its store, and whether a person has accepted it here.
//!
//! A user that can write a job file or a manifest runs commands, so a root that was cloned, copied or restored runs nothing
//! until a person accepts it. It is known by the inode and the time of birth of `state/`, never by its path: a root that is
//! moved, or seen through a bind mount, stays accepted. A copy also gets a uuid of its own at its first change, so that its
//! recovery never takes the processes of the original for its own. Where a file system has no times of birth, the inode
//! alone decides. Hard rule: the file is never changed in place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Result, StoreError, json_line};
use crate::clock::{self, Clock, SystemClock};
use crate::fs::{self, Create, DirIdentity, Moved};
use crate::lock::Locked;

/// How long another process may take to write the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// A root that was copied more often forgets its first uuids.
const MOST_FORMER: usize = 32;

/// Whether what the files of a root name may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It was made here, or a person has accepted it.
    Yes,
    /// It came from elsewhere.
    No,
}

/// What a root says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// The version of the format.
    pub number: u64,
    /// The uuid of the store.
    pub uuid: String,
    /// Whether it is accepted, as long as `state/` is the directory for which that was written.
    pub accepted: Accepted,
    /// The uuids that the store had before it was copied or restored, the latest last. Processes of attempts from that time
    /// carry them.
    pub former: Vec<String>,
    state: Option<DirIdentity>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    schema_version: u64,
    #[serde(default)]
    store: String,
    #[serde(default)]
    state: Option<DirIdentity>,
    #[serde(default)]
    accepted: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
}

impl Version {
    fn is_of(&self, state: &DirIdentity) -> bool {
        self.state.as_ref() == Some(state)
    }

    /// True if the root is accepted and ours.
    #[must_use]
    pub(crate) fn is_accepted(&self, root: &Path) -> bool {
        let is_ours = std::fs::symlink_metadata(root).is_ok_and(|found| fs::is_own(&found));
        is_ours
            && self.accepted == Accepted::Yes
            && DirIdentity::read(&root.join("state")).is_ok_and(|state| self.is_of(&state))
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("state/VERSION")
}

/// Reads it; none where no command has changed the root yet.
///
/// # Errors
/// `NewerFormat`, `Unreadable`, file system errors.
pub(crate) fn read(root: &Path) -> Result<Option<Version>> {
    let path = path(root);
    let unreadable =
        || StoreError::Unreadable { path: path.clone(), problem: "not a version file".to_owned() };
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = fs::read_limited(&file, &path, 4096)?.ok_or_else(unreadable)?;
    let found: OnDisk = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    if found.schema_version > 1 {
        return Err(StoreError::NewerFormat { path, version: found.schema_version });
    }
    if found.store.is_empty() {
        return Err(unreadable());
    }
    let accepted = if found.accepted { Accepted::Yes } else { Accepted::No };
    let OnDisk { schema_version: number, store: uuid, state, former, .. } = found;
    Ok(Some(Version { number, uuid, accepted, former, state }))
}

/// Gives a root that is about to be changed its version, and a copy a uuid of its own.
///
/// # Errors
/// As `read`; `Unreadable` where another process holds the file for too long.
pub(crate) fn settle(root: &Path) -> Result<Version> {
    let found = match read(root)? {
        Some(found) => found,
        None => publish(root, Accepted::No)?,
    };
    match found.is_of(&DirIdentity::read(&root.join("state"))?) {
        true => Ok(found),
        false => rewrite(root, Accepted::No),
    }
}

/// Accepts a root in the name of a person.
pub(crate) fn accept(root: &Path) -> Result<()> {
    if settle(root)?.accepted == Accepted::No {
        rewrite(root, Accepted::Yes)?;
    }
    Ok(())
}

/// Makes the file; of two makers the loser reads the winner's.
pub(crate) fn publish(root: &Path, accepted: Accepted) -> Result<Version> {
    let version = fresh(root, accepted)?;
    let temporary = write(root, &version)?;
    if fs::publish(&temporary, &path(root))? == Moved::Done {
        fs::sync_dir(&root.join("state"))?;
        return Ok(version);
    }
    Ok(read(root)?.unwrap_or(version))
}

/// Replaces the file under its lock. A crash leaves the former one, or this one.
fn rewrite(root: &Path, accepted: Accepted) -> Result<Version> {
    let path = path(root);
    let clock = SystemClock::start();
    loop {
        let file = fs::open_append(&path, Create::No)?;
        if let Some(locked) = Locked::exclusive(file, &path)?
            && fs::is_same_file(&locked, &path)?
        {
            let state = DirIdentity::read(&root.join("state"))?;
            let written = read(root)?;
            let found = written.clone().filter(|found| found.is_of(&state));
            if let Some(found) =
                found.clone().filter(|found| accepted == Accepted::No || found.accepted == accepted)
            {
                return Ok(found);
            }
            let version = match (found, written) {
                (Some(found), _) => Version { accepted, ..found },
                (None, Some(copied)) => Version { former: former_of(copied), ..fresh(root, accepted)? },
                (None, None) => fresh(root, accepted)?,
            };
            let temporary = write(root, &version)?;
            fs::rename_replace(&temporary, &path)?;
            fs::sync_dir(&root.join("state"))?;
            return Ok(version);
        }
        if clock.monotonic() > PATIENCE {
            let problem = "another process keeps it locked".to_owned();
            return Err(StoreError::Unreadable { path, problem });
        }
        clock::sleep(Duration::from_millis(5));
    }
}

fn fresh(root: &Path, accepted: Accepted) -> Result<Version> {
    let state = Some(DirIdentity::read(&root.join("state"))?);
    Ok(Version { number: 1, uuid: uuid::Uuid::now_v7().to_string(), accepted, former: Vec::new(), state })
}

/// The uuids that a copy had, as far as their attempts can still be alive.
fn former_of(copied: Version) -> Vec<String> {
    let mut former = copied.former;
    former.push(copied.uuid);
    former.split_off(former.len().saturating_sub(MOST_FORMER))
}

fn write(root: &Path, version: &Version) -> Result<PathBuf> {
    let document = OnDisk {
        schema_version: version.number,
        store: version.uuid.clone(),
        state: version.state.clone(),
        accepted: version.accepted == Accepted::Yes,
        former: version.former.clone(),
    };
    let temporary = fs::temporary_in(&root.join("state"));
    let file = fs::create_new(&temporary, &json_line(&temporary, &document)?)?;
    fs::sync_data(&file, &temporary)?;
    Ok(temporary)
}
