//! An open directory: the kinds and contents of many of its files, without resolving its path for each.
//!
//! Responsible for looking and opening only; nothing here changes a file. A link is never followed.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{At, Result};
use super::look::{Entry, may_be_written_by_others};
use crate::clock::Timestamp;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// The identity of a directory, wherever it is: a copy is another one, even in the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirIdentity {
    inode: u64,
    /// Seconds since 1970 with nine decimals; none where the file system does not keep it.
    born: Option<String>,
}

impl DirIdentity {
    /// Looks at a directory, not through a link.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted).at("looking at", path)?;
        let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = has_birth.then(|| format!("{}.{:09}", found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
        Ok(Self { inode: found.stx_ino, born })
    }
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether it is a file of the directory's owner that others cannot write.
    pub entry: Entry,
    /// Its permission bits.
    pub mode: u32,
    /// True if it belongs to the directory's owner.
    pub own: bool,
    /// When its content was last changed.
    pub modified: Timestamp,
}

impl Dir {
    /// Opens a directory; `None` if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => {
                let owner = rustix::fs::fstat(&fd).at("looking at", path)?.st_uid;
                Ok(Some(Self { fd, path: path.to_path_buf(), owner }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).at("opening", path),
        }
    }

    /// The path of a name in it, for errors.
    #[must_use]
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading without following a link or blocking on a FIFO; `None` if it is missing. That it is a
    /// regular file is not checked.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).at("opening", &self.path_of(name)),
        }
    }

    /// Says what a name is, without following a link; `None` if it is missing.
    pub(crate) fn look(&self, name: &str) -> Result<Option<Look>> {
        let stat = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).at("looking at", &self.path_of(name)),
        };
        let own = stat.st_uid == self.owner;
        let entry = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            Entry::NotRegular
        } else if !own || may_be_written_by_others(stat.st_mode, stat.st_uid, stat.st_gid) {
            Entry::NotTrusted
        } else {
            Entry::Ours
        };
        let millis = stat
            .st_mtime
            .saturating_mul(1000)
            .saturating_add(i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0));
        let modified = Timestamp::from_millis(millis);
        Ok(Some(Look { entry, mode: stat.st_mode & 0o7777, own, modified }))
    }
}
