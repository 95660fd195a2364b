//! Dedup keys: `state/keys/<sha256 of the key>` holds the id of the job that owns the key.
//!
//! Responsible for the files. Who may have a key is judged in `queue::dedup`. Hard rule: a key file that names a job is
//! replaced or removed only under the lease of that job, so that of two who find its owner gone one is the first.

use std::path::PathBuf;

use super::{Result, Store};
use crate::fs::{self, Moved};
use crate::job::JobId;
use crate::job::digest::sha256;

/// The file of a key.
#[must_use]
pub fn path(store: &Store, key: &str) -> PathBuf {
    dir(store).join(sha256(key.as_bytes()))
}

/// The directory of the keys; made with the first of them.
#[must_use]
pub fn dir(store: &Store) -> PathBuf {
    store.state("keys")
}

/// The job that a key file names; `None` if there is none, or one that was torn by a power loss.
///
/// # Errors
/// File system errors.
pub fn owner(store: &Store, key: &str) -> Result<Option<JobId>> {
    Ok(look(store, key)?.flatten())
}

/// What a key file names, by one look: `None` if there is no file, `Some(None)` if it names nobody.
///
/// # Errors
/// File system errors.
pub fn look(store: &Store, key: &str) -> Result<Option<Option<JobId>>> {
    let path = path(store, key);
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = fs::read_limited(&file, &path, 4096)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(JobId::new(text.trim()).ok()))
}

/// Writes a key file under a temporary name beside it, unsynced, and gives that name.
///
/// # Errors
/// File system errors; nothing is left behind.
pub fn write_temporary(store: &Store, id: &JobId) -> Result<PathBuf> {
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

/// Gives a key that nobody has to the job that the temporary file names; the file is gone afterwards.
///
/// # Errors
/// File system errors; a key that somebody has is an answer.
pub fn take(store: &Store, temporary: &std::path::Path, key: &str) -> Result<Moved> {
    Ok(fs::publish(temporary, &path(store, key))?)
}

/// Gives a key to the job that the temporary file names, whoever had it. Under the lease of its former owner.
///
/// # Errors
/// File system errors.
pub fn take_over(store: &Store, temporary: &std::path::Path, key: &str) -> Result<()> {
    Ok(fs::rename_replace(temporary, &path(store, key))?)
}

/// Frees a key that a job has, under the lease of that job.
///
/// # Errors
/// File system errors.
pub fn give_back(store: &Store, key: &str, id: &JobId) -> Result<()> {
    if owner(store, key)?.as_ref() == Some(id) {
        fs::remove(&path(store, key))?;
    }
    Ok(())
}
