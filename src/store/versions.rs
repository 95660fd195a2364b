//! Versions of tools, remembered by the program's file: `state/cache/versions.json`. Some tools take two seconds to print
//! theirs.
//!
//! A cache like the others: it may be deleted, and a program that is another file is asked again.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, json_line};
use crate::causes::causes;
use crate::fs;

/// A larger file is none of ours.
const LARGEST: u64 = 1 << 20;
/// With more programs than this the memory begins anew.
const MOST: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    /// Device, inode, size and modification time of the program's file.
    file: String,
    version: String,
}

/// The version that the program of this file printed before.
#[must_use]
pub(crate) fn remembered(store: &Store, program: &Path) -> Option<String> {
    let known = read(store).remove(program)?;
    (known.file == stamp(program)?).then_some(known.version)
}

/// Remembers the version of a program; that it cannot be is traced only.
pub(crate) fn remember(store: &Store, program: &Path, version: &str) {
    let Some(file) = stamp(program) else { return };
    let mut all = read(store);
    if all.len() >= MOST {
        all.clear();
    }
    all.insert(program.to_path_buf(), Remembered { file, version: version.to_owned() });
    let Some(path) = store.make_cache_dir().map(|dir| dir.join(FILE)) else { return };
    let kept = json_line(&path, &all).and_then(|bytes| Ok(fs::replace(&path, &bytes)?));
    if let Err(error) = kept {
        tracing::debug!(error = causes(&error), "the version of a tool is not remembered");
    }
}

const FILE: &str = "versions.json";

fn read(store: &Store) -> BTreeMap<PathBuf, Remembered> {
    let Some(path) = store.cache_dir().map(|dir| dir.join(FILE)) else { return BTreeMap::new() };
    let bytes = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, LARGEST));
    bytes.ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// What becomes another when the program is installed anew.
fn stamp(program: &Path) -> Option<String> {
    let metadata = std::fs::metadata(program).ok()?;
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    Some(format!("{}:{}:{}:{seconds}.{nanoseconds}", metadata.dev(), metadata.ino(), metadata.size()))
}
