//! Kernel locks on open files, the only proof of life in this program.
//!
//! Responsible for trying an exclusive `flock`. Not responsible for what a lock means (see `store::lease`).
//! Hard rule: nothing here waits, and nothing here deletes a file.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What became of an attempt to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryLock {
    /// The lock is ours until the descriptor is closed or the process dies.
    Acquired,
    /// Somebody alive holds it.
    Busy,
}

/// A lock could not even be tried.
#[derive(Debug, thiserror::Error)]
#[error("error locking `{}`: this file system does not lock files", path.display())]
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
pub fn try_exclusive(file: &File, path: &Path) -> Result<TryLock, LockError> {
    // By trait path: std has methods of almost the same names with other semantics.
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(TryLock::Acquired),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TryLock::Busy),
        Err(source) => Err(LockError { path: path.to_path_buf(), source }),
    }
}

/// Tries to take the shared lock on an open file: others may share it, nobody has it alone.
///
/// # Errors
/// As `try_exclusive`.
pub fn try_shared(file: &File, path: &Path) -> Result<TryLock, LockError> {
    match fs2::FileExt::try_lock_shared(file) {
        Ok(()) => Ok(TryLock::Acquired),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TryLock::Busy),
        Err(source) => Err(LockError { path: path.to_path_buf(), source }),
    }
}

/// Free bytes on the file system of a path, for an unprivileged writer.
///
/// # Errors
/// The cause, where the file system does not tell.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    fs2::available_space(path)
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
}
