//! Clearing away the oldest parts of the journal.
//!
//! What is cleared is remembered in `state/events.cleared.json`, so that recovery does not take old lines of records that
//! stay for lost ones and write them again. Hard rule: the live file and the two before it always stay.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{Result, Store, json_line};
use super::follow::DISORDER;
use super::read::{files, glances, part};
use crate::clock::Timestamp;
use crate::fs;
use crate::job::SCHEMA_VERSION;

/// So many parts that were moved aside stay, whatever their age.
const STAY: usize = 2;
/// A larger file is none of ours.
const LARGEST: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Cleared {
    schema_version: u32,
    before: Timestamp,
}

/// A part that may go, and when its latest line was written.
#[derive(Debug)]
pub struct Old {
    path: PathBuf,
    latest: Option<Timestamp>,
}

/// The parts that hold nothing of this time or later, the oldest first.
///
/// # Errors
/// File system errors.
pub fn old_parts(store: &Store, before: Timestamp) -> Result<Vec<Old>> {
    let mut paths = files(store)?;
    // The last one is the live file.
    paths.truncate(paths.len().saturating_sub(1 + STAY));
    let mut old = Vec::new();
    for path in paths {
        let Some(part) = part(&path)? else { continue };
        let last = part.backward()?.block()?;
        let latest = last.and_then(|block| glances(&block).map(|line| line.at).max());
        if latest.is_some_and(|latest| latest.after(DISORDER) >= before) {
            break;
        }
        old.push(Old { path, latest });
    }
    Ok(old)
}

/// Removes parts, and says how many of them were still there. A crash on the way leaves some of them, and a memory that says
/// more than is true of lines in the journal.
///
/// # Errors
/// File system errors.
pub fn remove(store: &Store, old: &[Old]) -> Result<usize> {
    let Some(latest) = old.iter().filter_map(|part| part.latest).max() else { return Ok(0) };
    let before = latest.after(std::time::Duration::from_millis(1));
    let path = store.state(FILE);
    fs::replace(&path, &json_line(&path, &Cleared { schema_version: SCHEMA_VERSION, before })?)?;
    let mut removed = 0;
    for part in old {
        removed += usize::from(fs::remove(&part.path)?);
    }
    Ok(removed)
}

const FILE: &str = "events.cleared.json";

/// Lines of records before this time may have been cleared away; none if nothing was.
#[must_use]
pub(super) fn cleared_before(store: &Store) -> Option<Timestamp> {
    let path = store.state(FILE);
    let file = fs::open_regular(&path).ok()?;
    let bytes = fs::read_limited(&file, &path, LARGEST).ok()??;
    let cleared: Cleared = serde_json::from_slice(&bytes).ok()?;
    (cleared.schema_version == SCHEMA_VERSION).then_some(cleared.before)
}
