//! The archive: `state/archive/<YYYY-MM>.jsonl.zst`, the records of jobs that `gc` has retired.
//!
//! Responsible for the records: which file one goes to, and finding it again. Not responsible for the form of a file (see
//! `frames`). A crash between the archive and the removal archives a record twice: the same job with the same first line is
//! one record. Hard rule: what was synced here is never changed; only a torn end is cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::record::{self, Record};
use super::{Result, Store, StoreError};
use crate::clock::Timestamp;
use crate::fs::{self, Create};
use crate::job::JobId;

mod frames;

pub(crate) use frames::End;
pub(super) use frames::Frames;
use frames::{cut_torn_end, encode, walk};

/// A record as it was when its job was retired.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    /// The file, as `state/archive/2026-11.jsonl.zst`.
    pub file: String,
    /// Its lines, oldest first; at least one.
    pub lines: Vec<Record>,
}

/// What one archive file is like.
#[derive(Debug)]
pub(crate) struct Health {
    /// The file.
    pub path: PathBuf,
    /// How it ends.
    pub end: End,
    /// Offsets of frames that cannot be unpacked.
    pub damaged: Vec<u64>,
}

/// The month that a record goes to.
#[must_use]
pub(crate) fn month(ended_at: Timestamp) -> String {
    ended_at.day().chars().take(7).collect()
}

fn file_name(month: &str) -> String {
    format!("{month}.jsonl.zst")
}

/// Makes the directory of the archive, its name durable.
pub(crate) fn prepare(store: &Store) -> Result<()> {
    fs::create_dir(&store.state("archive"))?;
    // Always: its maker may have been killed before the sync.
    store.sync_dir(&store.state(""))
}

/// Appends record lines as one frame, durable when this returns. One process at a time: `gc` holds its lock.
///
/// A crash leaves a torn frame, which the next append cuts, or one whose records are still there, too.
///
/// Where the file does not end as this program writes it, nothing is written and the error is `Unreadable`.
pub(crate) fn append(store: &Store, month: &str, lines: &[u8]) -> Result<()> {
    let dir = store.state("archive");
    let path = dir.join(file_name(month));
    let file = fs::open_append(&path, Create::IfMissing)?;
    let end = cut_torn_end(&file, &path)?;
    let frame = encode(lines);
    let kept = fs::append(&file, &path, &frame).map_err(StoreError::from);
    if let Err(error) = kept.and_then(|()| store.sync_data(&file, &path)) {
        // What was not written, or may only look written, must not precede what comes next.
        fs::truncate(&file, &path, end)?;
        return Err(error);
    }
    // Always, for the same reason as in `prepare`; it is one sync for a batch.
    store.sync_dir(&dir)
}

/// Cuts the torn ends of all archive files; how many had one. Under the lock of `gc`.
pub(crate) fn cut_torn_ends(store: &Store) -> Result<usize> {
    let mut cut = 0;
    for path in files(store)? {
        let file = fs::open_append(&path, Create::No)?;
        if let (_, End::Torn(end)) = walk(&file, &path)? {
            fs::truncate(&file, &path, end)?;
            cut += 1;
        }
    }
    Ok(cut)
}

/// The archive files, the newest month first.
pub(crate) fn files(store: &Store) -> Result<Vec<PathBuf>> {
    let dir = store.state("archive");
    let mut names = fs::names(&dir)?;
    names.retain(|name| is_file_name(name));
    names.sort();
    Ok(names.into_iter().rev().map(|name| dir.join(name)).collect())
}

fn is_file_name(name: &str) -> bool {
    name.strip_suffix(".jsonl.zst").is_some_and(|month| crate::job::place::is_day(&format!("{month}-01")))
}

/// Looks at every archive file.
pub(crate) fn health(store: &Store) -> Result<Vec<Health>> {
    let mut found = Vec::new();
    for path in files(store)? {
        let Some(frames) = Frames::open(&path)? else { continue };
        let mut damaged = Vec::new();
        for frame in &frames.frames {
            damaged.extend(frames.unpack(*frame)?.is_none().then_some(frame.0));
        }
        let end = frames.ends;
        found.push(Health { path, end, damaged });
    }
    Ok(found)
}

/// All records of one id, the one retired last at the end. An id may have been used again after it was archived.
///
/// What is damaged is traced and passed over.
pub(crate) fn find(store: &Store, id: &JobId) -> Result<Vec<Archived>> {
    let wanted = format!("\"job_id\":\"{id}\"");
    let mut found = Merged::default();
    for path in files(store)? {
        let file = shown(store, &path);
        let holds = |lines: &[u8]| std::str::from_utf8(lines).is_ok_and(|text| text.contains(&wanted));
        read(&path, &mut |lines| {
            if holds(lines) {
                groups(lines, &path)
                    .filter(|group| group.id == *id)
                    .for_each(|group| found.add(group, &file));
            }
        })?;
    }
    Ok(found.into_records())
}

/// Visits the last line of every archived record once, with its file; a later retirement of an id after an earlier one
/// of the same month, the newest month first.
///
/// What is damaged is traced and passed over.
pub(crate) fn each_last(store: &Store, visit: &mut dyn FnMut(&str, Timestamp, Record)) -> Result<()> {
    for path in files(store)? {
        let file = shown(store, &path);
        read(&path, &mut |lines| {
            for mut group in groups(lines, &path) {
                if let Some(last) = group.lines.pop() {
                    visit(&file, group.first_at, last);
                }
            }
        })?;
    }
    Ok(())
}

pub(super) fn shown(store: &Store, path: &Path) -> String {
    path.strip_prefix(store.root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
    let Some(frames) = Frames::open(path)? else { return Ok(()) };
    for frame in &frames.frames {
        frames.lines(*frame)?.iter().for_each(|lines| visit(lines));
    }
    let end = frames.ends;
    if let End::Foreign(at) = end {
        tracing::warn!("`{}` is damaged from byte {at} on: the rest cannot be read", path.display());
    }
    Ok(())
}

impl Frames<'_> {
    /// Visits each id of the frames from an offset on, with its frame.
    pub(in crate::store) fn each_id_from(&self, from: u64, visit: &mut dyn FnMut(u64, &JobId)) -> Result<()> {
        for frame in self.frames.iter().filter(|frame| frame.0 >= from) {
            if let Some(lines) = self.lines(*frame)? {
                groups(&lines, self.path).for_each(|group| visit(frame.0, &group.id));
            }
        }
        Ok(())
    }

    /// The last line of an id in the frame at an offset.
    pub(in crate::store) fn last_of(&self, at: u64, id: &JobId) -> Result<Option<Record>> {
        let Some(frame) = self.frames.iter().find(|frame| frame.0 == at) else { return Ok(None) };
        let Some(lines) = self.lines(*frame)? else { return Ok(None) };
        let last = groups(&lines, self.path).filter(|group| group.id == *id).last();
        Ok(last.and_then(|mut group| group.lines.pop()))
    }
}

/// The lines of one record in a frame.
struct Group {
    id: JobId,
    first_at: Timestamp,
    lines: Vec<Record>,
}

/// Takes the lines of a frame apart by record: those of one record are together, with rising numbers.
fn groups<'a>(lines: &'a [u8], path: &'a Path) -> impl Iterator<Item = Group> + 'a {
    let mut parsed =
        lines.split(|byte| *byte == b'\n').filter_map(|line| record::parse_any(line, path).ok()).peekable();
    std::iter::from_fn(move || {
        let first = parsed.next()?;
        let mut group = Group { id: first.line.job_id.clone(), first_at: first.line.at, lines: vec![first] };
        let follows = |group: &Group, next: &Record| {
            next.line.job_id == group.id
                && group.lines.last().is_some_and(|last| last.line.seq < next.line.seq)
        };
        while let Some(next) = parsed.next_if(|next| follows(&group, next)) {
            group.lines.push(next);
        }
        Some(group)
    })
}

/// Records that were archived more than once, made one: a crash before the removal leaves a record that may even go on.
#[derive(Default)]
struct Merged(BTreeMap<Timestamp, (String, BTreeMap<u64, Record>)>);

impl Merged {
    fn add(&mut self, group: Group, file: &str) {
        let (_, lines) = self.0.entry(group.first_at).or_insert_with(|| (file.to_owned(), BTreeMap::new()));
        lines.extend(group.lines.into_iter().map(|record| (record.line.seq, record)));
    }

    fn into_records(self) -> Vec<Archived> {
        let archived = |(file, lines): (String, BTreeMap<u64, Record>)| Archived {
            file,
            lines: lines.into_values().collect(),
        };
        self.0.into_values().map(archived).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_months_are_archives() {
        assert!(is_file_name("2026-11.jsonl.zst"));
        for name in ["2026-11.jsonl", "x.jsonl.zst", "2026-11-21.jsonl.zst", ".2026-11.jsonl.zst"] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
