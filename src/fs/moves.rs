//! Giving files other names, and removing them.
//!
//! Nothing is synced: where a move is lost, the record says where the file belongs. Hard rule: a move never replaces what it
//! was not asked to replace.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{At, Result};
use super::look::exists;
use super::no_links;
use super::steps::{self, Step, Target, step};

/// What became of a move that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The file has its new name.
    Done,
    /// The new name is taken; nothing was changed.
    TargetExists,
    /// There is no file of the old name (it was moved before).
    SourceMissing,
}

/// Moves a file to a name that must be free.
///
/// A missing source and a taken target are answers, not errors.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> Result<Moved> {
    steps::moved(Step::Rename, from, to, Target::MustBeFree);
    let move_by = |flags| {
        let (old_dir, old_name) = no_links::parent(from)?;
        let (new_dir, new_name) = no_links::parent(to)?;
        Ok(rustix::fs::renameat_with(&old_dir, old_name, &new_dir, new_name, flags)?)
    };
    let Err(error) = move_by(RenameFlags::NOREPLACE) else { return Ok(Moved::Done) };
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => Ok(Moved::TargetExists),
        Some(Errno::NOENT) if !exists(from)? => Ok(Moved::SourceMissing),
        // File systems without that flag: the caller holds the lease, so looking first is enough.
        Some(Errno::INVAL | Errno::NOSYS) if exists(to)? => Ok(Moved::TargetExists),
        Some(Errno::INVAL | Errno::NOSYS) => {
            move_by(RenameFlags::empty()).at("moving", from)?;
            Ok(Moved::Done)
        }
        _ => Err(error).at("moving", from),
    }
}

/// Moves a file over whatever regular file has the new name.
pub(crate) fn rename_replace(from: &Path, to: &Path) -> Result<()> {
    steps::moved(Step::Rename, from, to, Target::Replaced);
    let (old_dir, old_name) = no_links::parent(from).at("moving", from)?;
    let (new_dir, new_name) = no_links::parent(to).at("moving", from)?;
    rustix::fs::renameat(old_dir, old_name, new_dir, new_name).at("moving", from)
}

/// Publishes a file under a name that must be free, by a hard link, and drops the old name.
///
/// A taken name is an answer, not an error.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<Moved> {
    steps::moved(Step::Link, from, to, Target::MustBeFree);
    let (old_dir, old_name) = no_links::parent(from).at("publishing", to)?;
    let (new_dir, new_name) = no_links::parent(to).at("publishing", to)?;
    let answer = match rustix::fs::linkat(old_dir, old_name, new_dir, new_name, AtFlags::empty()) {
        Ok(()) => Moved::Done,
        Err(Errno::EXIST) => Moved::TargetExists,
        Err(error) => return Err(error).at("publishing", to),
    };
    remove(from)?;
    Ok(answer)
}

/// Removes one file; true if it was there.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    unlink(path, AtFlags::empty())
}

/// Removes a directory that is empty; true if it was there and was.
pub(crate) fn remove_empty_dir(path: &Path) -> Result<bool> {
    unlink(path, AtFlags::REMOVEDIR)
}

fn unlink(path: &Path, flags: AtFlags) -> Result<bool> {
    step(Step::Unlink, path);
    let (dir, name) = match no_links::parent(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).at("removing", path),
    };
    match rustix::fs::unlinkat(dir, name, flags) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error).at("removing", path),
    }
}
