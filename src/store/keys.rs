//! Dedup keys: `state/keys/<sha256 of the key>` holds the id of the job that owns the key.
//!
//! Responsible for the files. The right to a key is judged in `queue::submit::key`. Hard rule: a key file that names a job
//! is replaced or removed only under the lease of that job, and one that names no job only under its own lock, so that of
//! two processes that find a key without owner exactly one is the first.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Result, Store};
use crate::fs::{self, Create, Moved};
use crate::job::JobId;
use crate::job::digest::sha256;
use crate::lock::Locked;

/// The file of a key.
#[must_use]
pub(crate) fn path(store: &Store, key: &str) -> PathBuf {
    dir(store).join(sha256(key.as_bytes()))
}

/// The directory of the keys; made with the first of them.
#[must_use]
pub(crate) fn dir(store: &Store) -> PathBuf {
    store.state("keys")
}

/// The job that a key file names; `None` if there is none, or one that was torn by a power loss.
pub(crate) fn owner(store: &Store, key: &str) -> Result<Option<JobId>> {
    Ok(look(store, key)?.flatten())
}

/// What a key file names, by one look: `None` if there is no file, `Some(None)` if it names no job.
pub(crate) fn look(store: &Store, key: &str) -> Result<Option<Option<JobId>>> {
    let path = path(store, key);
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(named_in(&file, &path)?))
}

/// The job that a key file names. Without its newline the name is torn: it may be the beginning of another.
fn named_in(file: &File, path: &Path) -> Result<Option<JobId>> {
    let bytes = fs::read_limited(file, path, 4096)?.unwrap_or_default();
    let name = bytes.strip_suffix(b"\n").and_then(|name| std::str::from_utf8(name).ok());
    Ok(name.and_then(|name| JobId::new(name.trim()).ok()))
}

/// The lock of a key file that names no job, under which it may be replaced. None where another process holds it, and where
/// the key has an owner, or no file, by now.
///
/// # Errors
/// File system and lock errors.
pub(crate) fn lock_torn(store: &Store, key: &str) -> Result<Option<Locked>> {
    let path = path(store, key);
    let file = match fs::open_append(&path, Create::No) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(file) = Locked::exclusive(file, &path)? else { return Ok(None) };
    // [RECHECK] The first process has put a whole file in its place.
    let is_torn = fs::is_same_file(&file, &path)? && named_in(&file, &path)?.is_none();
    Ok(is_torn.then_some(file))
}

/// Writes a key file under a temporary name beside it, unsynced, and gives that name.
///
/// # Errors
/// File system errors; nothing is left behind.
pub(crate) fn write_temporary(store: &Store, id: &JobId) -> Result<PathBuf> {
    if fs::create_dir(&dir(store))? {
        store.sync_dir(&store.state(""))?;
    }
    let temporary = fs::temporary_in(&dir(store));
    if let Err(error) = fs::create_new(&temporary, format!("{id}\n").as_bytes()) {
        let _ = fs::remove(&temporary);
        return Err(error.into());
    }
    Ok(temporary)
}

/// Gives a key that no job has to the job that the temporary file names; the file is gone afterwards.
///
/// # Errors
/// File system errors; a key that another job has is an answer.
pub(crate) fn take(store: &Store, temporary: &Path, key: &str) -> Result<Moved> {
    Ok(fs::publish(temporary, &path(store, key))?)
}

/// Gives a key to the job that the temporary file names, whichever job had it. Under the lease of its former owner, or the
/// lock of a file that names no job.
pub(crate) fn take_over(store: &Store, temporary: &Path, key: &str) -> Result<()> {
    Ok(fs::rename_replace(temporary, &path(store, key))?)
}

/// Frees a key that a job has, under the lease of that job.
pub(crate) fn give_back(store: &Store, key: &str, id: &JobId) -> Result<()> {
    if owner(store, key)?.as_ref() == Some(id) {
        fs::remove(&path(store, key))?;
    }
    Ok(())
}
