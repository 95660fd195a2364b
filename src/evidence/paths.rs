//! Paths as git tells them: bytes below the top of a work tree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// True if a path stays in the work tree: the index of a hostile repository may hold any.
#[must_use]
pub fn is_plain(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// A path of git as a path of the system.
#[must_use]
pub fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from(OsStr::from_bytes(path)))
}
