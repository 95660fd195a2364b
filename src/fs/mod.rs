//! Files and directories: every call that changes or syncs one.
//!
//! Responsible for appending and syncing here, for moving in `moves`, with the path in every error, and for counting those
//! steps so that a test can end the process at any of them. Not responsible for what the files mean.
//! Hard rule: no other module of the crate changes a file system, and nothing is changed through a symbolic link in any
//! component of a path.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

mod beneath;
pub(crate) mod dir;
mod error;
pub(crate) mod holes;
mod look;
mod modes;
pub(crate) mod mount;
mod moves;
mod no_links;
pub(crate) mod readers;
mod replace;
mod scratch;
mod stamp;
pub(crate) mod steps;
mod sweep;
pub(crate) mod watch;
pub(crate) use beneath::open_beneath;
pub(crate) use dir::DirIdentity;
use error::At;
pub(crate) use error::{FsError, Result};
pub(crate) use look::{
    Entry, canonical, entry, exists, is_ours, is_own, is_same_entry, is_same_file, names, this_user,
    writable_by_others,
};
pub(crate) use mount::Ordering;
pub(crate) use moves::{Moved, publish, remove, remove_empty_dir, rename_noreplace, rename_replace};
pub(crate) use replace::{is_temporary, replace, temporary_in, unnamed};
pub(crate) use scratch::{Scratch, remove_tree};
pub(crate) use stamp::{Moment, Stamp};
use steps::{Step, step};
pub(crate) use sweep::{Sweep, Swept, sweep};

/// Makes a directory that only its user can change; true if it was not there before.
pub(crate) fn create_dir(path: &Path) -> Result<bool> {
    step(Step::Mkdir, path);
    let (dir, name) = no_links::parent(path).at("creating directory", path)?;
    match rustix::fs::mkdirat(dir, name, modes::directory_mode()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error).at("creating directory", path),
    }
}

/// Opens the append-only file of a record or journal, read-write, close-on-exec, never through a link.
pub(crate) fn open_append(path: &Path, create: Create) -> Result<File> {
    let mut flags = OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK;
    if create == Create::IfMissing {
        step(Step::Create, path);
        flags |= OFlags::CREATE;
    }
    regular(File::from(no_links::open(path, flags).at("opening", path)?), path)
}

fn regular(file: File, path: &Path) -> Result<File> {
    if file.metadata().at("looking at", path)?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")).at("opening", path)
}

/// Whether an open may create the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Never.
    No,
    /// If it is not there; only its user can change it.
    IfMissing,
}

/// Opens a regular file for reading without following a link or blocking on a FIFO.
///
/// A link or a special file is an error of kind `InvalidInput`.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .at("opening", path)?;
    regular(file, path)
}

/// Opens a directory to lock it, without passing a link.
pub(crate) fn open_dir(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Ok(File::from(no_links::open(path, flags).at("opening", path)?))
}

/// Reads a whole file of at most `limit` bytes; a larger one is not read: `Ok(None)`.
pub(crate) fn read_limited(file: &File, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let metadata = file.metadata().at("looking at", path)?;
    if metadata.is_file() && metadata.len() > limit {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    Read::take(file, limit.saturating_add(1)).read_to_end(&mut bytes).at("reading", path)?;
    Ok(if bytes.len() as u64 > limit { None } else { Some(bytes) })
}

/// Appends bytes by one `write`, so that a reader sees all of them or a torn last line.
///
/// If only a part could be written (full disk), that is an error.
pub(crate) fn append(mut file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(part) = steps::torn_write(Step::Append, path, bytes) {
        let _ = file.write(part);
        steps::die();
    }
    let written = file.write(bytes).at("appending to", path)?;
    if written < bytes.len() {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "only a part was written"))
            .at("appending to", path);
    }
    Ok(())
}

/// Makes the data of a file durable.
///
/// Never repeat a failed sync on the same bytes: the kernel has dropped them.
pub(crate) fn sync_data(file: &File, path: &Path) -> Result<()> {
    if steps::fails(Step::Sync, path) {
        return Err(Errno::IO).at("syncing", path);
    }
    file.sync_data().at("syncing", path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    step(Step::SyncDir, path);
    let dir = File::open(path).at("opening", path)?;
    dir.sync_all().at("syncing directory", path)
}

/// Makes everything durable that was written to the file system of an open directory: one journal commit for many new files,
/// where each `fsync` would be one. Failures since the directory was opened are reported.
pub(crate) fn sync_file_system(dir: &File, path: &Path) -> Result<()> {
    step(Step::Sync, path);
    rustix::fs::syncfs(dir).at("syncing the file system of", path)
}

/// Cuts a file to a length, and gives back what was reserved behind it.
pub(crate) fn truncate(file: &File, path: &Path, length: u64) -> Result<()> {
    steps::cut(path, length);
    file.set_len(length).at("truncating", path)
}

/// Reserves disk space behind the end of a file without changing its size; true if the file system can do it.
///
/// Fails where the disk is full.
pub(crate) fn reserve(file: &File, path: &Path, offset: u64, length: u64) -> Result<bool> {
    step(Step::Reserve, path);
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error).at("reserving space in", path),
    }
}

/// Creates a file that must not exist and that only its user can change, and writes it.
pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> Result<File> {
    step(Step::Create, path);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let mut file = File::from(no_links::open(path, flags).at("creating", path)?);
    if let Some(part) = steps::torn_write(Step::Write, path, bytes) {
        let _ = file.write(part);
        steps::die();
    }
    file.write_all(bytes).at("writing", path)?;
    Ok(file)
}

/// Overwrites a small file in place from its start (a named lock's holder line; nothing that must survive).
pub(crate) fn overwrite(file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(part) = steps::torn_write(Step::Write, path, bytes) {
        let _ = file.set_len(0);
        let _ = rustix::io::pwrite(file, part, 0);
        steps::die();
    }
    file.set_len(0).at("truncating", path)?;
    rustix::io::pwrite(file, bytes, 0).at("writing", path)?;
    Ok(())
}

/// Writes at an offset of a file that only this process writes.
///
/// The error names no path: the caller knows it.
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Cuts a log at a length; what it costs to lose it is what a log costs, so no test ends the process here.
pub(crate) fn cut_at(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;

    use super::*;

    #[test]
    fn a_move_never_replaces_and_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        create_new(&a, b"1").unwrap();
        create_new(&b, b"2").unwrap();
        assert_eq!(rename_noreplace(&a, &b).unwrap(), Moved::TargetExists);
        assert_eq!(std::fs::read(&b).unwrap(), b"2");
        remove(&b).unwrap();
        assert_eq!(rename_noreplace(&a, &b).unwrap(), Moved::Done);
        assert_eq!(rename_noreplace(&a, &b).unwrap(), Moved::SourceMissing);
    }

    #[test]
    fn neither_dots_nor_links_lead_out_of_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        create_dir(&base).unwrap();
        std::os::unix::fs::symlink(dir.path(), base.join("out")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("x"), base.join("file")).unwrap();
        let open = |p: &str| open_beneath(&base, Path::new(p));
        for escape in ["../x", "out/x", "a/../../x", "file", "/etc/x"] {
            assert!(open(escape).is_err(), "{escape}");
        }
        assert!(!dir.path().join("x").exists());
        open("logs/a/b.log").unwrap();
        assert!(base.join("logs/a/b.log").exists());
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create_new(&path, b"12345").unwrap();
        let read = |limit| read_limited(&open_regular(&path).unwrap(), &path, limit).unwrap();
        assert_eq!(read(4), None);
        assert_eq!(read(5).unwrap(), b"12345");
    }

    #[test]
    fn a_fifo_or_a_link_in_place_of_a_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert!(open_regular(&fifo).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(open_regular(&link).is_err());
        assert_eq!(entry(&link, this_user()).unwrap(), Entry::NotRegular);
    }
}
