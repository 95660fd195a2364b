//! Temporary files that a killed process left.

use std::path::{Path, PathBuf};

use super::Result;
use super::claim::STAND_STILL;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::Place;
use crate::store::{Store, run_dir, spent};

/// Removes temporary files of ours that no process can still be writing; how many.
pub(crate) fn remove(store: &Store, now: Timestamp) -> Result<usize> {
    let mut removed = 0;
    for path in stale(store, now)? {
        removed += usize::from(fs::remove(&path)?);
    }
    Ok(removed)
}

/// Temporary files of ours that no process can still be writing.
pub(crate) fn stale(store: &Store, now: Timestamp) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let below = ["", "control", "logs", "keys"].map(|name| store.state(name));
    let caches = store.cache_dir().into_iter().flat_map(|dir| [dir.join("runs"), dir.join(spent::DIR), dir]);
    let runs = fs::names(&run_dir::all(store))?.into_iter().map(|name| run_dir::all(store).join(name));
    let runs = runs.filter(|path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()));
    for dir in std::iter::once(store.place_dir(&Place::Queued)).chain(below).chain(caches).chain(runs) {
        let names = fs::names(&dir)?.into_iter().filter(|name| fs::is_temporary(name));
        let paths = names.map(|name| dir.join(name));
        found.extend(paths.filter(|path| is_old(path, now)));
    }
    Ok(found)
}

fn is_old(path: &Path, now: Timestamp) -> bool {
    let modified = std::fs::symlink_metadata(path).ok().and_then(|metadata| Timestamp::modified(&metadata));
    // A submission takes milliseconds between the temporary name and the real one.
    modified.is_some_and(|modified| now.since(modified) >= STAND_STILL * 12)
}
