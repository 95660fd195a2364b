//! The journal: `state/events.jsonl`, one line for each record line and one when gc retires a job, for followers and
//! lists.
//!
//! At least once, never repaired in place: a torn line is skipped by readers and followed by a newline. Nothing is
//! decided from it; recovery fills its gaps from the records.

pub(crate) mod follow;
mod gaps;
mod prune;
mod read;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::{Result, Store, json_line};
use crate::fs::{self, Create, FsError, Moved};
use crate::job::event::{JournalLine, MAX_LINE};

pub(crate) use gaps::each_gap;
pub use gaps::{fill_gaps, fill_latest};
pub(crate) use prune::Old;
pub use prune::{old_parts, remove};
pub(crate) use read::{Glance, Part, Position, Text, advance, glances, live_end, open, part};
pub use read::{live_inode, parse};

/// Size above which the journal is moved aside and begun anew.
const ROTATE_AT: u64 = 64 << 20;

/// Appends one line by one `write`.
///
/// # Errors
/// File system errors; the record remains valid.
pub fn append(store: &Store, line: &JournalLine) -> Result<()> {
    append_all(store, std::slice::from_ref(line))
}

/// Appends lines, as many whole ones by one `write` as are together no longer than one line may be.
///
/// # Errors
/// As `append`; the lines before it remain.
pub(crate) fn append_all(store: &Store, lines: &[JournalLine]) -> Result<()> {
    let Some(newest) = lines.last() else { return Ok(()) };
    let path = store.state("events.jsonl");
    let file = fs::open_append(&path, Create::IfMissing)?;
    let mut text = Vec::with_capacity(512);
    for line in lines {
        let line = encode(&path, line)?;
        if !text.is_empty() && text.len() + line.len() + 1 > MAX_LINE {
            append_text(&file, &path, &text)?;
            text.clear();
        }
        text.extend(line);
    }
    append_text(&file, &path, &text)?;
    rotate(store, &file, &path, newest)
}

/// Appends whole lines; a torn line of another process is ended first.
fn append_text(file: &File, path: &Path, text: &[u8]) -> Result<()> {
    let error = |source| FsError { action: "reading", path: path.to_path_buf(), source };
    let length = file.metadata().map_err(error)?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_at(&mut last, length - 1).map_err(error)?;
    }
    if last == [b'\n'] {
        return Ok(fs::append(file, path, text)?);
    }
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.push(b'\n');
    bytes.extend_from_slice(text);
    Ok(fs::append(file, path, &bytes)?)
}

fn rotate(store: &Store, file: &File, path: &Path, newest: &JournalLine) -> Result<()> {
    let error = |source| FsError { action: "looking at", path: path.to_path_buf(), source };
    let metadata = file.metadata().map_err(error)?;
    if metadata.len() > ROTATE_AT && fs::is_same_file(file, path)? {
        let aside = store.state(&format!("events.{}-{}.jsonl", newest.at.as_millis(), metadata.ino()));
        if fs::rename_noreplace(path, &aside)? == Moved::TargetExists {
            tracing::warn!(path = %aside.display(), "journal not rotated: the name is taken");
        }
    }
    Ok(())
}

fn encode(path: &Path, line: &JournalLine) -> Result<Vec<u8>> {
    let bytes = json_line(path, line)?;
    if bytes.len() < MAX_LINE {
        return Ok(bytes);
    }
    // Texts full of characters that JSON escapes: they are in the record.
    json_line(path, &JournalLine { run_id: None, workstream_id: None, ..line.clone() })
}
