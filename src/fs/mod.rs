//! Files and directories: every call that changes or syncs one.
//!
//! Responsible for publishing, moving, appending and syncing, with the path in every error, and for counting
//! those steps so that a test can end the process at any of them. Not responsible for what the files mean.
//! Hard rule: no other module of the crate changes a file system, and nothing is changed through a symbolic link in any
//! component of a path.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

mod beneath;
pub mod dir;
mod error;
pub mod holes;
mod modes;
pub mod mount;
mod no_links;
pub mod readers;
mod replace;
mod scratch;
mod stamp;
pub mod steps;
pub mod watch;
pub use beneath::{Beneath, open_beneath};
pub use dir::DirIdentity;
use error::At;
pub use error::{FsError, Result};
pub use mount::Ordering;
pub use replace::{is_temporary, replace, temporary_in};
pub use scratch::Scratch;
pub use stamp::{Moment, Stamp};
use steps::{Step, Target, step};

/// What became of a move that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The file has its new name.
    Done,
    /// The new name is taken; nothing was changed.
    TargetExists,
    /// There is no file of the old name (it was moved before).
    SourceMissing,
}

/// What a directory entry is to us, looked at without opening anything that could block or lead elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
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
pub fn writable_by_others(metadata: &std::fs::Metadata) -> bool {
    may_be_written_by_others(metadata.mode(), metadata.uid(), metadata.gid())
}

fn may_be_written_by_others(mode: u32, uid: u32, gid: u32) -> bool {
    mode & 0o002 != 0 || (mode & 0o020 != 0 && gid != uid)
}

/// True if the file belongs to the user of this process.
#[must_use]
pub fn is_own(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == this_user()
}

/// The user of this process.
#[must_use]
pub fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True if only the user of this process can change an open file.
///
/// # Errors
/// `FsError` with the path.
pub fn is_ours(file: &File, path: &Path) -> Result<bool> {
    let metadata = file.metadata().at("looking at", path)?;
    Ok(is_own(&metadata) && !writable_by_others(&metadata))
}

/// Says what is at a path, without following a link, where a file must belong to `owner`.
///
/// # Errors
/// Any failure but "not found".
pub fn entry(path: &Path, owner: u32) -> Result<Entry> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::Missing),
        Err(error) => Err(error).at("looking at", path),
        Ok(metadata) if !metadata.is_file() => Ok(Entry::NotRegular),
        Ok(metadata) if metadata.uid() != owner || writable_by_others(&metadata) => Ok(Entry::NotTrusted),
        Ok(_) => Ok(Entry::Ours),
    }
}

/// Makes a directory that only its user can change; true if it was not there before.
///
/// # Errors
/// Any failure but "exists".
pub fn create_dir(path: &Path) -> Result<bool> {
    step(Step::Mkdir, path);
    let (dir, name) = no_links::parent(path).at("creating directory", path)?;
    match rustix::fs::mkdirat(dir, name, modes::directory_mode()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error).at("creating directory", path),
    }
}

/// Opens the append-only file of a record or journal, read-write, close-on-exec, never through a link.
///
/// # Errors
/// `FsError`; "not found" if it is absent and `create` is `Create::No`.
pub fn open_append(path: &Path, create: Create) -> Result<File> {
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
/// # Errors
/// `FsError`; a link or a special file is an error of kind `InvalidInput`.
pub fn open_regular(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .at("opening", path)?;
    regular(file, path)
}

/// Reads a whole file of at most `limit` bytes; a larger one is not read: `Ok(None)`.
///
/// # Errors
/// `FsError` with the path.
pub fn read_limited(file: &File, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
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
/// # Errors
/// `FsError`; also where only a part could be written (full disk).
pub fn append(mut file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
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
/// # Errors
/// `FsError`. Never repeat a failed sync on the same bytes: the kernel has dropped them.
pub fn sync_data(file: &File, path: &Path) -> Result<()> {
    if steps::fails(Step::Sync, path) {
        return Err(Errno::IO).at("syncing", path);
    }
    file.sync_data().at("syncing", path)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// `FsError` with the directory's path.
pub fn sync_dir(path: &Path) -> Result<()> {
    step(Step::SyncDir, path);
    let dir = File::open(path).at("opening", path)?;
    dir.sync_all().at("syncing directory", path)
}

/// Makes everything durable that was written to the file system of an open directory: one journal commit for many new
/// files, where each `fsync` would be one. Failures since the directory was opened are told.
///
/// # Errors
/// `FsError` with the directory's path.
pub fn sync_file_system(dir: &File, path: &Path) -> Result<()> {
    step(Step::Sync, path);
    rustix::fs::syncfs(dir).at("syncing the file system of", path)
}

/// A file without a name: nothing is left of it when this process ends, however it ends.
///
/// # Errors
/// `FsError` with the directory's path.
pub fn unnamed(dir: &Path) -> Result<File> {
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

/// Cuts a file to a length, and gives back what was reserved behind it.
///
/// # Errors
/// `FsError` with the path.
pub fn truncate(file: &File, path: &Path, length: u64) -> Result<()> {
    steps::cut(path, length);
    file.set_len(length).at("truncating", path)
}

/// Reserves disk space behind the end of a file without changing its size; true if the file system can do it.
///
/// # Errors
/// `FsError`, above all where the disk is full.
pub fn reserve(file: &File, path: &Path, offset: u64, length: u64) -> Result<bool> {
    step(Step::Reserve, path);
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error).at("reserving space in", path),
    }
}

/// Creates a file that must not exist and that only its user can change, and writes it.
///
/// # Errors
/// `FsError`; `AlreadyExists` if something of that name is there.
pub fn create_new(path: &Path, bytes: &[u8]) -> Result<File> {
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
///
/// # Errors
/// `FsError` with the path.
pub fn overwrite(file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(part) = steps::torn_write(Step::Write, path, bytes) {
        let _ = file.set_len(0);
        let _ = rustix::io::pwrite(file, part, 0);
        steps::die();
    }
    file.set_len(0).at("truncating", path)?;
    rustix::io::pwrite(file, bytes, 0).at("writing", path)?;
    Ok(())
}

/// Moves a file to a name that must be free.
///
/// # Errors
/// `FsError` with the source's path; a missing source and a taken target are answers, not errors.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<Moved> {
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
///
/// # Errors
/// `FsError` with the source's path.
pub fn rename_replace(from: &Path, to: &Path) -> Result<()> {
    steps::moved(Step::Rename, from, to, Target::Replaced);
    let (old_dir, old_name) = no_links::parent(from).at("moving", from)?;
    let (new_dir, new_name) = no_links::parent(to).at("moving", from)?;
    rustix::fs::renameat(old_dir, old_name, new_dir, new_name).at("moving", from)
}

/// Removes one file; true if it was there.
///
/// # Errors
/// Any failure but "not found".
pub fn remove(path: &Path) -> Result<bool> {
    unlink(path, AtFlags::empty())
}

/// Removes a directory that is empty; true if it was there and was.
///
/// # Errors
/// Any failure but "not found" and "not empty".
pub fn remove_empty_dir(path: &Path) -> Result<bool> {
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

/// True if something has this name (a dangling link too).
///
/// # Errors
/// Any failure but "not found".
pub fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("looking at", path),
    }
}

/// True if the open file still is what the path names.
///
/// # Errors
/// `FsError` with the path.
pub fn is_same_file(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().at("looking at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("looking at", path),
    }
}

/// True if both paths name one file.
///
/// # Errors
/// `FsError` with the path.
pub fn is_same_entry(one: &Path, other: &Path) -> Result<bool> {
    let look = |path: &Path| std::fs::symlink_metadata(path).at("looking at", path);
    let (one, other) = (look(one)?, look(other)?);
    Ok(one.ino() == other.ino() && one.dev() == other.dev())
}

/// The names in a directory, unsorted; a missing directory has none.
///
/// # Errors
/// `FsError` with the directory's path.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("listing", path),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is no id; it is left alone.
        if let Ok(name) = entry.at("listing", path)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Writes at an offset of a file that only this process writes.
///
/// # Errors
/// The cause; the caller knows the path.
pub fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Cuts a log at a length; what it costs to lose it is what a log costs, so no test ends the process here.
///
/// # Errors
/// The file system's.
pub fn cut_at(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

/// The absolute path of something that exists, without links. As `std::fs::canonicalize`, but into memory of our own: libc's
/// is mapped and unmapped each time.
///
/// # Errors
/// `FsError` with the path.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let action = "looking at";
    let name =
        std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from).at(action, path)?;
    let mut found = [0u8; libc::PATH_MAX as usize];
    // SAFETY: `realpath` writes at most PATH_MAX bytes, which is the length of the buffer, its NUL included.
    let done = unsafe { libc::realpath(name.as_ptr(), found.as_mut_ptr().cast()) };
    if done.is_null() {
        return Err(io::Error::last_os_error()).at(action, path);
    }
    let length = found.iter().position(|byte| *byte == 0).unwrap_or(0);
    let found = found.get(..length).unwrap_or_default().to_vec();
    Ok(PathBuf::from(std::ffi::OsString::from_vec(found)))
}

/// Publishes a file under a name that must be free, by a hard link, and drops the old name.
///
/// # Errors
/// `FsError`; a taken name is an answer.
pub fn publish(from: &Path, to: &Path) -> Result<Moved> {
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
        let open = |p: &str| open_beneath(&base, Path::new(p), Beneath::CreateIfMissing);
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
