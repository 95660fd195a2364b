//! Looking at names without opening what they lead to.
//!
//! Responsible for what a name is and whose it is. Nothing here changes a file system. Hard rule: no link is followed, but
//! where a path is made free of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{At, Result};

/// What a directory entry is to us, looked at without opening anything that could block or lead elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A regular file of the root's owner that others cannot write.
    Ours,
    /// No such entry.
    Missing,
    /// A link, directory, FIFO, socket or device.
    NotRegular,
    /// A file of another user, or one that others can write.
    NotTrusted,
}

/// True if a user other than the owner can write: the mode's bit for others, or the group's where the group
/// is not the owner's own (the same number, as user private groups have it).
#[must_use]
pub(crate) fn writable_by_others(metadata: &std::fs::Metadata) -> bool {
    may_be_written_by_others(metadata.mode(), metadata.uid(), metadata.gid())
}

pub(super) fn may_be_written_by_others(mode: u32, uid: u32, gid: u32) -> bool {
    mode & 0o002 != 0 || (mode & 0o020 != 0 && gid != uid)
}

/// True if the file belongs to the user of this process.
#[must_use]
pub(crate) fn is_own(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == this_user()
}

/// The user of this process.
#[must_use]
pub(crate) fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True if only the user of this process can change an open file.
pub(crate) fn is_ours(file: &File, path: &Path) -> Result<bool> {
    let metadata = file.metadata().at("looking at", path)?;
    Ok(is_own(&metadata) && !writable_by_others(&metadata))
}

/// Returns what is at a path, without following a link, where a file must belong to `owner`.
pub(crate) fn entry(path: &Path, owner: u32) -> Result<Entry> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::Missing),
        Err(error) => Err(error).at("looking at", path),
        Ok(metadata) if !metadata.is_file() => Ok(Entry::NotRegular),
        Ok(metadata) if metadata.uid() != owner || writable_by_others(&metadata) => Ok(Entry::NotTrusted),
        Ok(_) => Ok(Entry::Ours),
    }
}

/// True if something has this name (a dangling link too).
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("looking at", path),
    }
}

/// True if the open file still is what the path names.
pub(crate) fn is_same_file(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().at("looking at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("looking at", path),
    }
}

/// True if both paths name one file.
pub(crate) fn is_same_entry(one: &Path, other: &Path) -> Result<bool> {
    let look = |path: &Path| std::fs::symlink_metadata(path).at("looking at", path);
    let (one, other) = (look(one)?, look(other)?);
    Ok(one.ino() == other.ino() && one.dev() == other.dev())
}

/// The names in a directory, unsorted; a missing directory has none.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("listing", path),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is not an id; it is left alone.
        if let Ok(name) = entry.at("listing", path)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The absolute path of something that exists, without links.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).at("looking at", path)
}
