//! What was found in the archive: remembered by an open root until an archive file changes.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::hash::hash;
use super::record::Record;
use crate::fs;
use crate::job::JobId;

/// The last line of a record that `gc` has retired.
#[derive(Debug, Clone)]
pub(crate) struct Retired {
    /// The archive file, as `state/archive/2026-11.jsonl.zst`.
    pub file: String,
    /// The state of the job when it was retired.
    pub record: Record,
}

/// More answers are not remembered.
pub(super) const MOST_REMEMBERED: usize = 1000;

/// What was found in the archive as it is: thousands of jobs may wait for one that is in it, and its frame holds thousands.
#[derive(Debug, Default)]
pub(super) struct LookedUp(pub(super) Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) stamps: Vec<Stamp>,
    pub(super) found: BTreeMap<JobId, Option<Retired>>,
}

/// What an archive file was when it was looked into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    /// A hash of its end: a frame whose sync failed is cut off, and another may have taken its place.
    check: u64,
}

impl Stamp {
    pub(super) const CHECKED: u64 = 512;

    pub(super) fn read(path: &Path) -> Option<Self> {
        let file = fs::open_regular(path).ok()?;
        let metadata = file.metadata().ok()?;
        let (inode, size) = (metadata.ino(), metadata.size());
        let from = size.saturating_sub(Self::CHECKED);
        let mut end = vec![0; usize::try_from(size - from).ok()?];
        file.read_exact_at(&mut end, from).ok()?;
        Some(Self { path: path.to_path_buf(), inode, size, check: hash(&end) })
    }
}
