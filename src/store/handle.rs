//! An open root: its paths, its syncs, its settings.

use std::path::{Path, PathBuf};

use super::config::{Config, Durability};
use super::error::{Result, StoreError};
use super::identity::{Identity, Origin};
use super::looked_up::LookedUp;
use crate::fs::{self, Ordering};
use crate::job::{JobId, Place};

/// An open root.
#[derive(Debug)]
pub struct Store {
    pub(super) root: PathBuf,
    pub(super) uuid: String,
    pub(super) former_uuids: Vec<String>,
    pub(crate) ordering: Ordering,
    pub(super) owner: u32,
    pub(super) is_accepted: bool,
    pub(super) looked_up: LookedUp,
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
        project_of(&self.root)
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
        // A file system that does not report its free space stops no job.
        let free = fs::mount::free(&self.root).map_or(u64::MAX, |(free, _)| free);
        if free < wanted {
            return Err(StoreError::LowSpace { path: self.root.clone(), free, wanted });
        }
        Ok(())
    }

    /// The writer of a cache that is written now.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(&self.uuid, &self.identity)
    }
}

/// The project of a root: the root itself, or the parent of one named `.engine`.
#[must_use]
pub(crate) fn project_of(root: &Path) -> &Path {
    match root.file_name() {
        Some(name) if name == ".engine" => root.parent().unwrap_or(root),
        _ => root,
    }
}
