//! What can go wrong with the state store, in words and codes.

use crate::job::{Code, Reason};
use std::path::{Path, PathBuf};

use crate::fs::{self, FsError};
use crate::lock::LockError;

/// A step on the state store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The file system does not lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file system locks, but not against other machines.
    #[error(transparent)]
    LocksAreLocal(#[from] fs::mount::LocksAreLocal),
    /// There is no root where one was named or looked for.
    #[error("no engine root at `{}`", path.display())]
    NoRoot {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The root belongs to another user and this one may not read it.
    #[error("the root `{}` exists, but you may not read it", path.display())]
    NoReader {
        /// The root.
        path: PathBuf,
    },
    /// A directory of the root is not as it must be to be changed.
    #[error("`{}` {problem}", path.display())]
    NotTrusted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: Distrust,
    },
    /// The root was not made here, and no person has accepted it.
    #[error("the root `{}` was cloned, copied or restored, and is not accepted yet: the engine runs nothing from its files", path.display())]
    NotAccepted {
        /// The root.
        path: PathBuf,
    },
    /// A file was written by a newer program.
    #[error("`{}` has format version {version}; this engine knows up to 1", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file does not hold what its format says.
    #[error("cannot read `{}`: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is less free space than `min_free_bytes`.
    #[error("`{}` has {free} free bytes, fewer than the {wanted} of `min_free_bytes`", path.display())]
    LowSpace {
        /// The root.
        path: PathBuf,
        /// What is free.
        free: u64,
        /// What is wanted.
        wanted: u64,
    },
    /// A directory where no root may be made.
    #[error("cannot make a root in `{}`: it is {problem}", path.display())]
    NoPlaceForRoot {
        /// The directory.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
}

/// Why a directory of a root is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// A link in its place.
    #[error("is a symbolic link; the engine changes nothing through one")]
    Link,
    /// Something else in its place.
    #[error("is not a directory")]
    NoDirectory,
    /// Another user can change it.
    #[error("belongs to another user: whoever can write a job file runs commands as you")]
    OfAnotherUser,
    /// Other users can change it.
    #[error("is writable by others: whoever can write a job file runs commands as you")]
    WritableByOthers,
    /// It is mounted there.
    #[error("is not on the file system of the root: a job file moves by one rename")]
    ElsewhereMounted,
}

impl From<StoreError> for Reason {
    fn from(error: StoreError) -> Self {
        Self::from_error(error.code(), &error)
    }
}

impl StoreError {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Fs(error) if error.source.kind() == std::io::ErrorKind::StorageFull => Code::DiskFull,
            Self::Fs(_) => Code::StateNotWritable,
            Self::Lock(_) | Self::LocksAreLocal(_) => Code::LocksUnsupported,
            Self::NoRoot { .. } => Code::NoRoot,
            Self::NoReader { .. } => Code::RootNotReadable,
            Self::NotTrusted { .. } => Code::RootNotTrusted,
            Self::NotAccepted { .. } => Code::RootNotAccepted,
            Self::NewerFormat { .. } => Code::NewerFormat,
            Self::Unreadable { .. } => Code::StateUnreadable,
            Self::LowSpace { .. } => Code::DiskFull,
            Self::NoPlaceForRoot { .. } => Code::NoPlaceForRoot,
        }
    }

    /// True where the cause is that a path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Fs(error) if error.is_not_found())
    }

    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRoot { .. } => Some("make one with `engine init`, or name one with --root".to_owned()),
            Self::NoReader { .. } => {
                Some("its owner can let you read it with `engine init --shared-read`".to_owned())
            }
            Self::NotTrusted { path, problem: Distrust::WritableByOthers } => {
                Some(format!("chmod go-w {}", path.display()))
            }
            Self::NotTrusted { problem: Distrust::Link, .. } => Some(
                "make the root where its files belong and name it with --root, or bind-mount the directory"
                    .to_owned(),
            ),
            Self::NotTrusted { .. } => Some("run `engine doctor` for all such problems".to_owned()),
            Self::NotAccepted { path } => Some(format!(
                "review its jobs/queued/ and adapters/, then accept it: `engine init --adopt {}`",
                path.display()
            )),
            Self::NewerFormat { .. } => Some("use the engine that wrote it".to_owned()),
            Self::LowSpace { .. } => {
                Some("free some space, or lower min_free_bytes in engine.toml".to_owned())
            }
            Self::NoPlaceForRoot { .. } => Some("engine init DIR".to_owned()),
            Self::Lock(_) | Self::LocksAreLocal(_) => {
                Some("put the root on a local file system (`engine --root DIR`)".to_owned())
            }
            Self::Fs(_) | Self::Unreadable { .. } => None,
        }
    }

    /// True where a file server has forgotten a file that another machine removed while it was open here.
    pub(super) fn is_stale(&self) -> bool {
        let source = match self {
            Self::Fs(error) => &error.source,
            Self::Lock(error) => &error.source,
            _ => return false,
        };
        source.raw_os_error() == Some(libc::ESTALE)
    }
}

/// Makes a step anew whose file another machine removed in the middle of it: the name may lead to another file, or to none.
pub(super) fn unless_stale<T>(step: impl Fn() -> Result<T>) -> Result<T> {
    const TRIES: u32 = 10;
    const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(5);
    for _ in 1..TRIES {
        match step() {
            Err(error) if error.is_stale() => crate::clock::sleep(BETWEEN_TRIES),
            other => return other,
        }
    }
    step()
}

/// Result of a step on the store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// A document as one line of a file, with its end: never an empty one, which a reader would pass over in silence.
pub(super) fn json_line(path: &Path, document: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(document).map_err(|error| FsError {
        action: "encoding a line for",
        path: path.to_path_buf(),
        source: error.into(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn stale() -> StoreError {
        let source = std::io::Error::from_raw_os_error(libc::ESTALE);
        FsError { action: "reading", path: PathBuf::from("x"), source }.into()
    }

    #[test]
    fn a_step_on_a_stale_file_is_made_anew_and_not_for_ever() {
        let left = Cell::new(3);
        let step = || match left.replace(left.get() - 1) {
            0 => Ok("done"),
            _ => Err(stale()),
        };
        assert_eq!(unless_stale(step).unwrap(), "done");
        let tries = Cell::new(0);
        let never = || -> Result<()> {
            tries.set(tries.get() + 1);
            Err(stale())
        };
        assert!(unless_stale(never).unwrap_err().is_stale());
        assert_eq!(tries.get(), 10);
        let lock =
            LockError { path: PathBuf::from("x"), source: std::io::Error::from_raw_os_error(libc::ESTALE) };
        assert!(StoreError::from(lock).is_stale());
        let other = || -> Result<()> { Err(StoreError::NoRoot { path: PathBuf::new() }) };
        assert!(unless_stale(other).is_err());
    }
}
