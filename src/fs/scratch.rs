//! A directory for what is needed for a short time and by no one else: it is removed when it is dropped.
//!
//! Nothing in it is synced, and no step in it is counted: after a crash its content means nothing, and the next scratch
//! directory of the same name begins by removing it. Hard rule: only what lies below it is ever written or removed; a
//! link in it, or in its place, is never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{At, Result, no_links};

/// A directory of our own, with all that is in it, until it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory `name` in `parent`, which is made if it is missing; what was left there is removed.
    ///
    /// # Errors
    /// `FsError` with the path, also where `parent` or a directory above it is a link.
    pub fn fresh(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(name);
        super::create_dir(parent)?;
        remove_tree(&path)?;
        super::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, with the directories that lead to it; an old one is replaced.
    ///
    /// # Errors
    /// `FsError` with the path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            let dir = self.make(no_links::directory(Path::new(name)))?;
            let file = no_links::last(&path)?;
            // Not written in place: that would pass a link, or change whatever else has this inode.
            match rustix::fs::unlinkat(&dir, file, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            File::from(rustix::fs::openat(&dir, file, flags, mode)?).write_all(bytes)
        };
        write().at("writing", &path)?;
        Ok(path)
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// `FsError` with the path.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        self.make(Path::new(name)).at("creating directory", &path)?;
        Ok(path)
    }

    /// Makes directories below, and opens the last one.
    fn make(&self, relative: &Path) -> std::io::Result<OwnedFd> {
        let mut dir = no_links::dir(&self.path)?;
        for part in relative.components().filter(|part| *part != Component::CurDir) {
            match rustix::fs::mkdirat(&dir, part.as_os_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            dir = no_links::list_at(&dir, part.as_os_str())?;
        }
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What could not be removed is removed by the next one of this name.
        let _ = remove_tree(&self.path);
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    let removed = match no_links::parent(path) {
        Ok((dir, name)) => remove_at(&dir, name, MAX_DEPTH).map_err(std::io::Error::from),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("removing", path),
        _ => Ok(()),
    }
}

/// Deeper trees stay: each level holds a descriptor and a frame.
const MAX_DEPTH: usize = 500;

fn remove_at(dir: &impl AsFd, name: &OsStr, depth: usize) -> std::result::Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        // What is no directory is gone; a link is removed, not what it leads to.
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    if depth == 0 {
        return Err(Errno::NAMETOOLONG);
    }
    let inner = no_links::list_at(dir, name)?;
    let names: Vec<_> = rustix::fs::Dir::read_from(&inner)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    for name in names {
        let name = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
        match remove_at(&inner, name, depth - 1) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(dir.path()).unwrap();
        (dir, path)
    }

    #[test]
    fn what_a_killed_predecessor_left_is_gone_and_nothing_outlives_it() {
        let (_kept, dir) = base();
        let left = Scratch::fresh(&dir, "s").unwrap();
        left.write("a/b", b"1").unwrap();
        std::mem::forget(left);
        let scratch = Scratch::fresh(&dir, "s").unwrap();
        assert!(!scratch.path().join("a").exists());
        scratch.write("c/d", b"1").unwrap();
        drop(scratch);
        assert!(std::fs::read_dir(&dir).unwrap().next().is_none());
    }

    #[test]
    fn a_link_in_it_or_in_its_place_is_not_followed() {
        let (_kept, dir) = base();
        let other = dir.join("other");
        std::fs::create_dir_all(other.join("s")).unwrap();
        std::fs::write(other.join("s/kept"), "1").unwrap();
        let link = |name: &Path| std::os::unix::fs::symlink(&other, name).unwrap();
        let scratch = Scratch::fresh(&dir, "s").unwrap();
        link(&scratch.path().join("link"));
        assert!(scratch.write("link/new", b"1").is_err());
        assert!(scratch.write("link/s/kept", b"2").is_err());
        std::os::unix::fs::symlink(other.join("s/kept"), scratch.path().join("file")).unwrap();
        scratch.write("file", b"2").unwrap();
        // A job can put a link in place of the directory itself.
        std::fs::remove_dir_all(scratch.path()).unwrap();
        link(scratch.path());
        assert!(scratch.write("kept", b"2").is_err());
        drop(scratch);
        link(&dir.join("parent"));
        assert!(Scratch::fresh(&dir.join("parent"), "s").is_err());
        assert_eq!(std::fs::read(other.join("s/kept")).unwrap(), b"1");
        assert!(!other.join("new").exists());
    }
}
