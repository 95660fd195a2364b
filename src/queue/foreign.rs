//! Files in `quarantined/` that are no jobs: `NAME~1.json`, each with its reason beside it.
//!
//! Reads only. A file that a person put there has no reason and is not listed.

use std::cmp::Reverse;

use serde::Deserialize;

use super::Result;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::{Code, Place, Reason};
use crate::store::Store;

const ENDING: &str = ".json.reason.json";
const MOST_BYTES: u64 = 64 << 10;

/// A file that was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFile {
    /// Its name in `quarantined/`.
    pub name: String,
    /// When that was.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

#[derive(Deserialize)]
struct Beside {
    reason: Reason,
}

/// The files that were moved aside, the newest first.
pub(crate) fn quarantined(store: &Store) -> Result<Vec<ForeignFile>> {
    let dir = store.place_dir(&Place::Quarantined);
    let read = |name: String| {
        let stem = name.strip_suffix(ENDING).filter(|stem| stem.contains('~'))?;
        let file = format!("{stem}.json");
        std::fs::symlink_metadata(dir.join(&file)).ok()?;
        let path = dir.join(&name);
        let beside = fs::open_regular(&path).ok()?;
        let at = beside.metadata().ok().and_then(|metadata| Timestamp::modified(&metadata))?;
        let bytes = fs::read_limited(&beside, &path, MOST_BYTES).ok().flatten().unwrap_or_default();
        let unknown = || Reason::new(Code::Unknown, "its reason cannot be read");
        let reason =
            serde_json::from_slice(&bytes).map_or_else(|_| unknown(), |beside: Beside| beside.reason);
        Some(ForeignFile { name: file, at, reason })
    };
    let mut found: Vec<ForeignFile> = fs::names(&dir)?.into_iter().filter_map(read).collect();
    found.sort_by(|a, b| (Reverse(a.at), &a.name).cmp(&(Reverse(b.at), &b.name)));
    Ok(found)
}
