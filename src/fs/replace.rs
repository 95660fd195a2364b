//! The names of files that are not finished, and new content for a file that may be lost: a cache, or a copy of what is
//! elsewhere too.
//!
//! Nothing is synced, so nothing that must survive is written by this.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::{At, Result};
use super::moves::{remove, rename_replace};
use super::{create_new, no_links};

/// A new name in a directory for a file that gets its real name when it is finished; what a crash leaves of it is known by
/// `is_temporary`.
#[must_use]
pub(crate) fn temporary_in(dir: &Path) -> PathBuf {
    dir.join(format!(".engine-{}.tmp", uuid::Uuid::now_v7()))
}

/// True for the name of a file that was never finished.
#[must_use]
pub(crate) fn is_temporary(name: &str) -> bool {
    let middle = name.strip_prefix(".engine-").and_then(|rest| rest.strip_suffix(".tmp"));
    middle.is_some_and(|middle| uuid::Uuid::try_parse(middle).is_ok())
}

/// Gives a name new content at once: a reader sees the old or the new. Nothing is synced.
///
/// If it fails, the old content remains, and no temporary file is left.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_in(path.parent().unwrap_or(Path::new(".")));
    let replaced = create_new(&temporary, bytes).and_then(|_| rename_replace(&temporary, path));
    if replaced.is_err() {
        let _ = remove(&temporary);
    }
    replaced
}

/// A file without a name: nothing is left of it when this process ends, however it ends.
pub(crate) fn unnamed(dir: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE;
    match no_links::open(dir, flags) {
        Ok(file) => Ok(File::from(file)),
        // A file system without such files: the name is gone before anything is written.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) =>
        {
            let path = temporary_in(dir);
            let file = create_new(&path, b"")?;
            remove(&path)?;
            Ok(file)
        }
        Err(error) => Err(error).at("creating a temporary file in", dir),
    }
}
