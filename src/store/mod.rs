//! The state store: a root directory, its records, journal and named locks.
//!
//! Responsible for the files below `state/` and for the layout of a root. Never starts a process. Hard rule:
//! a record is changed only through a `Lease`.

pub mod archive;
pub mod archived;
pub mod batch_sync;
pub mod boot;
pub mod brief;
pub mod cache;
pub mod config;
pub mod control;
pub mod counted;
pub mod hash;
pub mod identity;
pub mod journal;
pub mod keys;
pub mod lease;
pub mod named_locks;
pub mod prices;
pub mod record;
pub mod root;
pub mod runs;
pub mod spent;
pub mod usage;
pub mod version;
pub mod versions;

use std::path::{Path, PathBuf};

use crate::fs::{self, FsError, Ordering};
use crate::job::{JobId, Place};
use crate::lock::LockError;

pub use config::{Config, Durability};
pub use identity::Identity;
pub use lease::{Acquire, Lease};
pub use record::Record;

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
    /// The root belongs to another user, who does not let this one read it.
    #[error("the root `{}` is there, and you may not read it", path.display())]
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
    #[error("`{}` has format version {version}, this engine knows up to 1", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file does not hold what its format says.
    #[error("`{}` cannot be read: {problem}", path.display())]
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
    #[error("no engine root is made in `{}`: it is {problem}", path.display())]
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
    #[error("is a symbolic link: nothing in a root is changed through one")]
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
    #[error("is on another file system than the root: a job file is moved by one rename")]
    ElsewhereMounted,
}

impl StoreError {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fs(error) if error.source.kind() == std::io::ErrorKind::StorageFull => "disk_full",
            Self::Fs(_) => "state_not_writable",
            Self::Lock(_) | Self::LocksAreLocal(_) => "locks_unsupported",
            Self::NoRoot { .. } => "no_root",
            Self::NoReader { .. } => "root_not_readable",
            Self::NotTrusted { .. } => "root_not_trusted",
            Self::NotAccepted { .. } => "root_not_accepted",
            Self::NewerFormat { .. } => "newer_format",
            Self::Unreadable { .. } => "state_unreadable",
            Self::LowSpace { .. } => "disk_full",
            Self::NoPlaceForRoot { .. } => "no_place_for_root",
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
            Self::NoReader { .. } => Some("its owner can let you read it with `engine init --shared-read`".to_owned()),
            Self::NotTrusted { path, problem: Distrust::WritableByOthers } => {
                Some(format!("chmod go-w {}", path.display()))
            }
            Self::NotTrusted { problem: Distrust::Link, .. } => Some(
                "make the root where its files are to lie and name it with --root, or bind-mount the directory"
                    .to_owned(),
            ),
            Self::NotTrusted { .. } => Some("`engine doctor` names everything of the kind".to_owned()),
            Self::NotAccepted { path } => Some(format!(
                "look at its jobs/queued/ and adapters/, then accept it: `engine init --adopt {}`",
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
}

impl StoreError {
    /// True where a file server has forgotten a file that another machine removed while it was open here.
    fn is_stale(&self) -> bool {
        let source = match self {
            Self::Fs(error) => &error.source,
            Self::Lock(error) => &error.source,
            _ => return false,
        };
        source.raw_os_error() == Some(libc::ESTALE)
    }
}

/// Makes a step anew whose file another machine removed in the middle of it: the name may lead to another file, or to none.
fn unless_stale<T>(step: impl Fn() -> Result<T>) -> Result<T> {
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
pub type Result<T> = std::result::Result<T, StoreError>;

/// A document as one line of a file, with its end: never an empty one, which a reader would pass over in silence.
fn json_line(path: &Path, document: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(document).map_err(|error| FsError {
        action: "encoding a line for",
        path: path.to_path_buf(),
        source: error.into(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An open root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    uuid: String,
    former_uuids: Vec<String>,
    ordering: Ordering,
    owner: u32,
    is_accepted: bool,
    looked_up: archived::LookedUp,
    /// The settings of `engine.toml`.
    pub config: Config,
    /// This machine, boot and pid namespace.
    pub identity: Identity,
}

impl Store {
    /// The root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The uuid of the store, part of the marker that every process of a job carries.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The uuids that the store had before it was copied or restored: a process that carries one may belong to an attempt of
    /// this root, or to the original.
    #[must_use]
    pub fn former_uuids(&self) -> &[String] {
        &self.former_uuids
    }

    /// The user that the root belongs to.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Why a reader has to say that nothing of this root is run: only its owner can accept it.
    #[must_use]
    pub fn not_accepted(&self) -> Option<StoreError> {
        let is_refused = !self.is_accepted && self.owner == fs::this_user();
        is_refused.then(|| StoreError::NotAccepted { path: self.root.clone() })
    }

    /// True if the root was made here or a person has accepted it; else nothing that its files name is run.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// The directory of caches, if there is one that only we can write; that of another user is as good as none.
    #[must_use]
    pub fn cache_dir(&self) -> Option<PathBuf> {
        let dir = self.state("cache");
        let found = std::fs::symlink_metadata(&dir).ok()?;
        (found.is_dir() && fs::is_own(&found) && !fs::writable_by_others(&found)).then_some(dir)
    }

    /// The same to write in: it is made if it is missing. A reader makes nothing in a root of another user.
    #[must_use]
    pub fn make_cache_dir(&self) -> Option<PathBuf> {
        if self.owner != fs::this_user() {
            return None;
        }
        if let Err(error) = fs::create_dir(&self.state("cache")) {
            tracing::debug!(%error, "there is no cache");
        }
        self.cache_dir()
    }

    /// The project: the root, or the parent of a root named `.engine`.
    #[must_use]
    pub fn project_dir(&self) -> &Path {
        root::project_of(&self.root)
    }

    /// A path below `state/`.
    #[must_use]
    pub fn state(&self, relative: &str) -> PathBuf {
        self.root.join("state").join(relative)
    }

    /// The directory of a place.
    #[must_use]
    pub fn place_dir(&self, place: &Place) -> PathBuf {
        self.root.join("jobs").join(place.to_string())
    }

    /// The job file of an id at a place.
    #[must_use]
    pub fn job_file(&self, place: &Place, id: &JobId) -> PathBuf {
        self.place_dir(place).join(format!("{id}.json"))
    }

    /// The record of an id.
    #[must_use]
    pub fn record_path(&self, id: &JobId) -> PathBuf {
        self.root.join("state/jobs").join(format!("{id}.jsonl"))
    }

    /// True if the root is on a file system that no other machine changes, as far as that is known.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        self.ordering == Ordering::Journaled
    }

    /// Makes the data of an open file durable, unless durability is `fast`.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync_data(&self, file: &std::fs::File, path: &Path) -> Result<()> {
        match self.config.durability {
            Durability::Full => Ok(fs::sync_data(file, path)?),
            Durability::Fast => Ok(()),
        }
    }

    /// Makes the names in a directory durable, unless durability is `fast`.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        match self.config.durability {
            Durability::Full => Ok(fs::sync_dir(path)?),
            Durability::Fast => Ok(()),
        }
    }

    /// Refuses to start work while the disk is nearly full.
    ///
    /// # Errors
    /// `LowSpace`.
    pub fn check_space(&self) -> Result<()> {
        let wanted = self.config.min_free_bytes;
        // A file system that does not tell how much is free does not stop anybody.
        let free = fs::mount::free(&self.root).map_or(u64::MAX, |(free, _)| free);
        if free < wanted {
            return Err(StoreError::LowSpace { path: self.root.clone(), free, wanted });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Store, root};

    /// A root in a directory of its own, which is gone when the first is dropped.
    pub(crate) fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        root::create(&path).unwrap();
        let store = Store::open_to_change(&path).unwrap();
        (dir, store)
    }
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
