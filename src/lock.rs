//! Kernel locks on open files, the only proof of life in this program.
//!
//! Responsible for trying a `flock` and for giving it back. Not responsible for what a lock means (see `store::lease`).
//! Hard rule: nothing here waits, and nothing here deletes a file.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What became of an attempt to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryLock {
    /// The lock is ours until the descriptor is closed or the process dies.
    Acquired,
    /// A living process holds it.
    Busy,
}

/// A lock could not even be tried.
#[derive(Debug, thiserror::Error)]
#[error("error locking `{}`: this file system does not support file locks", path.display())]
pub struct LockError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Tries to take the exclusive lock of an open file (opened read-write and close-on-exec).
///
/// # Errors
/// `LockError` where the file system refuses locks altogether.
fn try_exclusive(file: &File, path: &Path) -> Result<TryLock, LockError> {
    // By trait path: std has methods of almost the same names with other semantics.
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(TryLock::Acquired),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TryLock::Busy),
        Err(source) => Err(LockError { path: path.to_path_buf(), source }),
    }
}

/// Tries to take the shared lock on an open file: others may share it, and no process can have it alone.
fn try_shared(file: &File, path: &Path) -> Result<TryLock, LockError> {
    match fs2::FileExt::try_lock_shared(file) {
        Ok(()) => Ok(TryLock::Acquired),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TryLock::Busy),
        Err(source) => Err(LockError { path: path.to_path_buf(), source }),
    }
}

/// True if the kernel reports that a lock of this file or directory is held, by whichever process. Takes none; only for
/// messages, and no more complete than the kernel's report (in a container that may be nothing).
#[must_use]
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    let held = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  WRITE 42 fd:01:7 0 EOF`; a waiting process has an arrow.
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    held.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.nth(3) == Some(file.as_str())
    })
}

/// A file with its lock, which is given back when this is dropped.
///
/// A `flock` belongs to the open file, and a fork of any thread duplicates that: until the child has executed its program,
/// closing our descriptor would leave the lock held. Unlocking ends it for all duplicates. For the same reason a process
/// that was forked while this was held must end, or execute a program, without dropping its copy.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Takes the exclusive lock of an open file; none if it is busy.
    pub(crate) fn exclusive(file: File, path: &Path) -> Result<Option<Self>, LockError> {
        Ok((try_exclusive(&file, path)? == TryLock::Acquired).then_some(Self(file)))
    }

    /// Takes the shared lock of an open file; none if it is busy.
    pub(crate) fn shared(file: File, path: &Path) -> Result<Option<Self>, LockError> {
        Ok((try_shared(&file, path)? == TryLock::Acquired).then_some(Self(file)))
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // If it fails, closing the descriptor gives the lock back as soon as no duplicate is left.
        let _ = fs2::FileExt::unlock(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_descriptor_finds_the_lock_busy_until_the_first_is_closed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let first = open();
        assert_eq!(try_exclusive(&first, file.path()).unwrap(), TryLock::Acquired);
        let second = open();
        assert_eq!(try_exclusive(&second, file.path()).unwrap(), TryLock::Busy);
        drop(first);
        assert_eq!(try_exclusive(&second, file.path()).unwrap(), TryLock::Acquired);
    }

    #[test]
    fn a_lock_that_is_dropped_is_free_although_a_duplicate_of_its_descriptor_lives_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        for take in [Locked::exclusive, Locked::shared] {
            let held = take(open(), file.path()).unwrap().unwrap();
            // What a fork of another thread makes.
            let duplicate = held.try_clone().unwrap();
            assert!(Locked::exclusive(open(), file.path()).unwrap().is_none());
            drop(held);
            assert!(Locked::exclusive(open(), file.path()).unwrap().is_some());
            drop(duplicate);
        }
    }
}
