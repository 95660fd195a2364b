//! A directory for what is needed for a short time and by nobody else: it is removed when it is dropped.
//!
//! Nothing in it is synced, and no step in it is counted: after a crash its content means nothing, and whoever makes a
//! scratch directory of the same name begins by removing it. Hard rule: only what lies below it is ever written.

use std::io;
use std::path::{Path, PathBuf};

use super::{At, Result};

/// A directory of our own, with all that is in it, until it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory `name` in `parent`, which is made if it is missing; what was left there is removed.
    ///
    /// # Errors
    /// `FsError` with the path.
    pub fn fresh(parent: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(parent).at("creating directory", parent)?;
        let parent = super::canonical(parent)?;
        let path = parent.join(name);
        remove_tree(&path)?;
        super::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is, without links.
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
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).at("creating directory", parent)?;
        }
        std::fs::write(&path, bytes).at("writing", &path)?;
        Ok(path)
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// `FsError` with the path.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).at("creating directory", &path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What could not be removed is removed by the next one of this name.
        let _ = remove_tree(&self.path);
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("removing", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_predecessor_left_is_gone_and_nothing_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let left = Scratch::fresh(dir.path(), "s").unwrap();
        left.write("a/b", b"1").unwrap();
        std::mem::forget(left);
        let scratch = Scratch::fresh(dir.path(), "s").unwrap();
        assert!(!scratch.path().join("a").exists());
        scratch.write("c/d", b"1").unwrap();
        drop(scratch);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "1").unwrap();
        let scratch = Scratch::fresh(dir.path(), "s").unwrap();
        std::os::unix::fs::symlink(&other, scratch.path().join("link")).unwrap();
        drop(scratch);
        assert!(other.join("kept").exists());
    }
}
