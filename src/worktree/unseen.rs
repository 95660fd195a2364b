//! What git does not see in a worktree: files that are neither regular nor links, empty directories, closed names, and names
//! `.git` that are no repository.
//!
//! A program that opens such a file may wait for ever. Hard rule: nothing with content is removed here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::content::Differing;
use super::git::Git;
use crate::fs::{self, Sweep, Swept};
use crate::git::index::{self, Entries, REPOSITORY, path_of};
use crate::git::write;
use crate::job::Reason;

/// Walks the worktree, but for what git ignores and for repositories within, which are left as they are.
///
/// # Errors
/// A reason where the file system fails.
pub(super) fn sweep(git: &Git<'_>, found: &Differing, wanted: Sweep) -> Result<Swept, Reason> {
    let place = git.place;
    let entries = index::entries(&index::read_written(&place.index())?, place.hash_bytes)?;
    let commits = entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY).map(|(path, _)| path_of(path));
    let told = [&found.ignored, &found.nested, &found.submodules];
    let skipped: BTreeSet<PathBuf> = told.into_iter().flatten().cloned().chain(commits).collect();
    let skips = |path: &Path| skipped.contains(path);
    let mut swept = fs::sweep(&place.dir, wanted, &skips).map_err(|error| write::wrong(&error))?;
    // In a directory of tracked files only one that is new counts, by the two looks.
    swept.repositories.retain(|path| !has_entries(&entries, path.parent().unwrap_or(path)));
    Ok(swept)
}

fn has_entries(entries: &Entries, dir: &Path) -> bool {
    let below = [std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()), b"/"].concat();
    entries.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
}
