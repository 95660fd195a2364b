//! Small trials of a file system, in a directory made for them.
//!
//! Each trial makes one or two system calls and returns the kernel's answer. No promise depends on them; `file_system`
//! interprets the answers.
#![expect(clippy::disallowed_methods, reason = "what is tried here is what the fences protect")]

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};

/// Renames over a taken name with the flag that forbids it; ok if the kernel refused.
///
/// # Errors
/// The kernel's, where the flag is not supported; `Other` where it replaced the file all the same.
pub(super) fn rename_noreplace(dir: &Path) -> io::Result<()> {
    let (one, other) = (dir.join("from"), dir.join("to"));
    std::fs::write(&one, b"1")?;
    std::fs::write(&other, b"2")?;
    match rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(io::Error::other("it replaced a file")),
    }
}

/// Renames over another file and reads the new content under the name.
///
/// # Errors
/// The kernel's; `Other` where the name has other content.
pub(super) fn rename_replaces(dir: &Path) -> io::Result<()> {
    let (one, other) = (dir.join("new"), dir.join("old"));
    std::fs::write(&one, b"new")?;
    std::fs::write(&other, b"old")?;
    std::fs::rename(&one, &other)?;
    if std::fs::read(&other)? == b"new" && !one.exists() {
        return Ok(());
    }
    Err(io::Error::other("the name does not have the new content"))
}

/// Gives a file a second name.
///
/// # Errors
/// The kernel's.
pub(super) fn hard_link(dir: &Path) -> io::Result<()> {
    let (one, other) = (dir.join("linked"), dir.join("link"));
    std::fs::write(&one, b"1")?;
    Ok(rustix::fs::linkat(CWD, &one, CWD, &other, AtFlags::empty())?)
}

/// Writes a file and syncs it and its directory.
///
/// # Errors
/// The kernel's.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    let path = dir.join("synced");
    let mut file = std::fs::File::create(&path)?;
    io::Write::write_all(&mut file, b"1")?;
    file.sync_data()?;
    std::fs::File::open(dir)?.sync_all()
}

/// Opens a path that leads out of a directory with the flag that forbids it; ok if the kernel refused.
///
/// # Errors
/// The kernel's, where the call is not there; `Other` where it led out.
pub(super) fn open_beneath(dir: &Path) -> io::Result<()> {
    let base = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(&base, "..", flags, Mode::empty(), ResolveFlags::BENEATH) {
        Err(rustix::io::Errno::XDEV) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(io::Error::other("the path left its directory")),
    }
}

/// Watches a directory, makes a file there, and reads whether an event reports it.
///
/// # Errors
/// The kernel's; `Other` where no event was reported.
pub(super) fn inotify(dir: &Path) -> io::Result<()> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, dir, WatchFlags::CREATE)?;
    std::fs::write(dir.join("new"), b"1")?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let is_reported = reader.next().map(|event| event.events().contains(ReadFlags::CREATE));
    match is_reported {
        Ok(true) => Ok(()),
        Ok(false) | Err(rustix::io::Errno::AGAIN) => Err(io::Error::other("no event was reported")),
        Err(error) => Err(error.into()),
    }
}

/// True if the mount of a path lets no user write.
///
/// # Errors
/// The kernel's.
pub(super) fn is_read_only(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statvfs(path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Removes the directory of the trials and what they left in it.
///
/// # Errors
/// The kernel's.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(rustix::fs::rmdir(dir)?)
}
