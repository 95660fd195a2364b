//! The names of files that are not finished, and new content for a file that may be lost: a cache, or what stands elsewhere
//! too.
//!
//! Nothing is synced, so nothing that must survive is written by this.

use std::path::{Path, PathBuf};

use super::error::Result;
use super::{create_new, remove, rename_replace};

/// A new name in a directory for a file that gets its real name when it is finished; what a crash leaves of it is known by
/// `is_temporary`.
#[must_use]
pub fn temporary_in(dir: &Path) -> PathBuf {
    dir.join(format!(".engine-{}.tmp", uuid::Uuid::now_v7()))
}

/// True for the name of a file that was never finished.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    let middle = name.strip_prefix(".engine-").and_then(|rest| rest.strip_suffix(".tmp"));
    middle.is_some_and(|middle| uuid::Uuid::try_parse(middle).is_ok())
}

/// Gives a name new content at once: a reader sees the old or the new. Nothing is synced.
///
/// # Errors
/// `FsError`; then the old content stands, and no temporary file is left.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_in(path.parent().unwrap_or(Path::new(".")));
    let replaced = create_new(&temporary, bytes).and_then(|_| rename_replace(&temporary, path));
    if replaced.is_err() {
        let _ = remove(&temporary);
    }
    replaced
}
