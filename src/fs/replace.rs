//! New content for a file that may be lost: one of a cache.
//!
//! Nothing is synced, so nothing that must survive is written by this.

use std::path::Path;

use super::{Result, create_new, remove, rename_replace};

/// Gives a name new content at once: a reader sees the old or the new. Nothing is synced.
///
/// # Errors
/// `FsError`; then the old content stands, and no temporary file is left.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let temporary = dir.join(format!(".engine-{}.tmp", uuid::Uuid::now_v7()));
    let replaced = create_new(&temporary, bytes).and_then(|_| rename_replace(&temporary, path));
    if replaced.is_err() {
        let _ = remove(&temporary);
    }
    replaced
}
