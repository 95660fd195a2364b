//! The journal: `state/events.jsonl`, one line for each record line, for followers and lists.
//!
//! At least once, never repaired in place: a torn line is skipped by readers and followed by a newline. Nothing is
//! decided from it; recovery fills its gaps from the records.

pub mod follow;
mod gaps;
mod read;

use std::os::unix::fs::{FileExt, MetadataExt};

use super::{Result, Store};
use crate::fs::{self, Create, FsError, Moved};
use crate::job::event::{JournalLine, MAX_LINE};

pub use gaps::{each_gap, fill_gaps};
pub use read::{
    Backward, Changed, Glance, Part, Position, Text, advance, files, glances, live_end, live_inode, open,
    parse,
};

/// Size above which the journal is moved aside and begun anew.
const ROTATE_AT: u64 = 64 << 20;

/// Appends one line by one `write`.
///
/// # Errors
/// File system errors; the record stands all the same.
pub fn append(store: &Store, line: &JournalLine) -> Result<()> {
    let path = store.state("events.jsonl");
    let file = fs::open_append(&path, Create::IfMissing)?;
    let error = |source| FsError { action: "reading", path: path.clone(), source };
    let metadata = file.metadata().map_err(error)?;
    let mut last = [b'\n'];
    if metadata.len() > 0 {
        file.read_at(&mut last, metadata.len() - 1).map_err(error)?;
    }
    let mut bytes = Vec::with_capacity(512);
    if last != [b'\n'] {
        bytes.push(b'\n');
    }
    bytes.extend(encode(line));
    bytes.push(b'\n');
    fs::append(&file, &path, &bytes)?;
    if metadata.len() > ROTATE_AT && fs::is_same_file(&file, &path)? {
        let aside = store.state(&format!("events.{}-{}.jsonl", line.at.as_millis(), metadata.ino()));
        if fs::rename_noreplace(&path, &aside)? == Moved::TargetExists {
            tracing::warn!(path = %aside.display(), "journal not rotated: the name is taken");
        }
    }
    Ok(())
}

fn encode(line: &JournalLine) -> Vec<u8> {
    let bytes = serde_json::to_vec(line).unwrap_or_default();
    if bytes.len() + 2 <= MAX_LINE {
        return bytes;
    }
    // Texts full of characters that JSON escapes: they are in the record.
    let short = JournalLine { run_id: None, workstream_id: None, ..line.clone() };
    serde_json::to_vec(&short).unwrap_or_default()
}
