//! The journal: `state/events.jsonl`, one line for each record line, for followers and lists.
//!
//! At least once, never repaired in place: a torn line is skipped by readers and followed by a newline. Nothing is
//! decided from it; recovery fills its gaps from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::{Record, Result, Store};
use crate::fs::{self, Create, FsError, Moved};
use crate::job::JobId;
use crate::job::event::{JournalLine, MAX_LINE};

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

/// Reads journal text: every line that parses; torn and foreign ones are skipped.
pub fn parse(bytes: &[u8]) -> impl DoubleEndedIterator<Item = JournalLine> {
    let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = bytes.get(..complete).unwrap_or_default().split(|b| *b == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok())
}

/// The journal's files, the oldest first, the live one last.
///
/// # Errors
/// File system errors.
pub fn files(store: &Store) -> Result<Vec<std::path::PathBuf>> {
    let dir = store.state("");
    let mut old: Vec<(i64, String)> = fs::names(&dir)?
        .into_iter()
        .filter_map(|name| {
            let stamp = name.strip_prefix("events.")?.strip_suffix(".jsonl")?.split('-').next()?.parse();
            Some((stamp.ok()?, name))
        })
        .collect();
    old.sort();
    let mut paths: Vec<_> = old.into_iter().map(|(_, name)| dir.join(name)).collect();
    paths.push(dir.join("events.jsonl"));
    Ok(paths)
}

/// Reads one journal file whole; a missing one is empty.
///
/// # Errors
/// File system errors.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::open_regular(path) {
        Ok(file) => Ok(fs::read_limited(&file, path, u64::MAX - 1)?.unwrap_or_default()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Writes again what the journal lacks of these jobs, from their records; the number of lines written.
///
/// # Errors
/// File system errors.
pub fn fill_gaps(store: &Store, ids: &BTreeSet<JobId>) -> Result<usize> {
    let mut written = 0;
    each_gap(store, ids, &mut |record| {
        written += 1;
        append(store, &JournalLine::of(&record.line))
    })?;
    Ok(written)
}

/// Visits the record lines of these jobs that the journal lacks.
///
/// # Errors
/// File system errors, and the visitor's.
pub fn each_gap(
    store: &Store,
    ids: &BTreeSet<JobId>,
    visit: &mut dyn FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let mut seen: BTreeMap<JobId, BTreeSet<u64>> = BTreeMap::new();
    for path in files(store)? {
        for line in parse(&read(&path)?).filter(|line| ids.contains(&line.job_id)) {
            seen.entry(line.job_id).or_default().insert(line.seq);
        }
    }
    for id in ids {
        let seen = seen.remove(id).unwrap_or_default();
        // An unreadable record stops its own job only.
        for record in store.record_history(id).unwrap_or_default() {
            if !seen.contains(&record.line.seq) {
                visit(&record)?;
            }
        }
    }
    Ok(())
}
