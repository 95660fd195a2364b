//! A directory for short-lived private files: it is removed when it is dropped.
//!
//! Nothing in it is synced, and no step in it is counted: after a crash its content means nothing, and the next scratch
//! directory of the same name begins by removing it. Hard rule: only what lies below it is ever written or removed; a
//! link in it, or in its place, is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::{At, Result};
use super::no_links;
use super::steps::{Step, step};

/// A directory of our own, with all that is in it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory `name` in `parent`, which is made if it is missing; what was left there is removed.
    ///
    /// Fails also where `parent` or a directory above it is a link.
    pub(crate) fn fresh(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(name);
        super::create_dir(parent)?;
        remove_all(&path)?;
        super::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, with the directories that lead to it; an old one is replaced.
    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<PathBuf> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            let dir = self.make(no_links::directory(name))?;
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
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
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
        let _ = remove_all(&self.path);
    }
}

/// Removes whatever has a name, with all that is below it; nothing there is fine. No link is followed.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    step(Step::Unlink, path);
    remove_all(path)
}

fn remove_all(path: &Path) -> Result<()> {
    let removed = match no_links::parent(path) {
        Ok((dir, name)) => remove_at(&dir, name).map_err(std::io::Error::from),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("removing", path),
        _ => Ok(()),
    }
}

/// Removes whatever has a name. A directory in a directory is first moved up to the top, so that neither its depth nor the
/// length of its path is a bound.
fn remove_at(dir: &impl AsFd, name: &OsStr) -> std::result::Result<(), Errno> {
    if is_removed(dir, name)? {
        return Ok(());
    }
    let top = no_links::list_at(dir, name)?;
    let mut moved = 0u64;
    loop {
        let names = names_in(&top)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if is_removed(&top, &name)? {
                continue;
            }
            let inner = no_links::list_at(&top, &name)?;
            for below in names_in(&inner)? {
                if !is_removed(&inner, &below)? {
                    move_up(&inner, &below, &top, &mut moved)?;
                }
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// Removes a name that is not a directory: of a link itself, not what it leads to. False for a directory.
fn is_removed(dir: &impl AsFd, name: &OsStr) -> std::result::Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

fn names_in(dir: &OwnedFd) -> std::result::Result<Vec<OsString>, Errno> {
    let names = rustix::fs::Dir::read_from(dir)?.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
    let names = names.collect::<std::result::Result<Vec<_>, Errno>>()?;
    Ok(names
        .into_iter()
        .filter(|name| !matches!(name.as_slice(), b"." | b".."))
        .map(OsString::from_vec)
        .collect())
}

fn move_up(from: &OwnedFd, name: &OsStr, top: &OwnedFd, moved: &mut u64) -> std::result::Result<(), Errno> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, top, format!("{moved}")) {
            // A tree may hold such a name of its own.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return other,
        }
    }
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
    fn a_tree_that_is_deeper_than_any_path_goes() {
        let (_kept, dir) = base();
        let scratch = Scratch::fresh(&dir, "s").unwrap();
        let mut at = no_links::dir(scratch.path()).unwrap();
        for number in 0..3_000 {
            rustix::fs::mkdirat(&at, "1", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, format!("empty{number}"), Mode::RWXU).unwrap();
            at = no_links::list_at(&at, "1".as_ref()).unwrap();
        }
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
