//! Finding the record of an archived id without unpacking the archive: `state/cache/archived-<YYYY-MM>`, the hash of each id
//! with the frame that holds it.
//!
//! A part of the cache: it says where to look, and the records are read from the archive itself. Each archive file has its
//! own index, so that a look unpacks one frame, and only what `gc` has added since the last one. Hard rule: an index that is
//! not of this very file is made anew, or, where there can be none, the file is read instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::archive::{self, Frames};
use super::hash::hash;
use super::identity::Origin;
use super::looked_up::{Known, MOST_REMEMBERED, Retired, Stamp};
use super::{Result, Store, json_line};
use crate::fs::{self, FsError};
use crate::job::JobId;

/// Bytes of an entry: the hash of an id, and the offset of the frame.
const ENTRY: u64 = 16;
/// Bytes before the entries: the header, filled up with spaces.
const HEADER: usize = 1024;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    origin: Origin,
    inode: u64,
    /// The end of the last frame that is in it.
    end: u64,
    /// A hash of the bytes before that: a frame whose sync failed was cut off, and another took its place.
    check: u64,
    entries: u64,
}

/// The state of a job when it was last retired; none if the archive does not hold it.
///
/// Says nothing of a record that is there: a crash may leave one in both places, and an id can be used again.
///
/// # Errors
/// File system errors of the archive; those of the index only make it slow.
pub(crate) fn last_of(store: &Store, id: &JobId) -> Result<Option<Retired>> {
    let files = archive::files(store)?;
    let Some(stamps) = files.iter().map(|path| Stamp::read(path)).collect() else {
        return find(store, &files, id);
    };
    let mut known = store.looked_up.0.lock().unwrap_or_else(PoisonError::into_inner);
    if known.stamps != stamps || known.found.len() >= MOST_REMEMBERED {
        *known = Known { stamps, found: BTreeMap::new() };
    }
    if let Some(found) = known.found.get(id) {
        return Ok(found.clone());
    }
    let found = find(store, &files, id)?;
    known.found.insert(id.clone(), found.clone());
    Ok(found)
}

fn find(store: &Store, files: &[PathBuf], id: &JobId) -> Result<Option<Retired>> {
    for path in files {
        let Some(frames) = Frames::open(path)? else { continue };
        let index = Index::current(store, path, &frames)?;
        for at in index.frames_of(id)?.into_iter().rev() {
            if let Some(record) = frames.last_of(at, id)? {
                return Ok(Some(Retired { file: archive::shown(store, path), record }));
            }
        }
    }
    Ok(None)
}

/// Where the ids of one archive file are.
enum Index {
    File {
        file: File,
        path: PathBuf,
        entries: u64,
    },
    /// Where no cache can be kept.
    Memory(BTreeSet<(u64, u64)>),
}

impl Index {
    /// The index with every whole frame of the file in it.
    fn current(store: &Store, archive: &Path, frames: &Frames<'_>) -> Result<Self> {
        let name = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = format!("archived-{}", name.trim_end_matches(".jsonl.zst"));
        let known = store.cache_dir().and_then(|dir| Self::open(store, &dir.join(&name), frames));
        let (mut entries, from) = match known {
            Some((index, end)) if end == frames.end() => return Ok(index),
            Some((index, end)) => (index.all()?, end),
            None => (BTreeSet::new(), 0),
        };
        frames.each_id_from(from, &mut |at, id| {
            entries.insert((hash(id.as_str().as_bytes()), at));
        })?;
        let index = Self::Memory(entries);
        if let Some(dir) = store.make_cache_dir() {
            index.keep(store, &dir.join(&name), frames)?;
        }
        Ok(index)
    }

    /// An index that is of this file, and how far it goes.
    fn open(store: &Store, path: &Path, frames: &Frames<'_>) -> Option<(Self, u64)> {
        let file = fs::open_regular(path).ok()?;
        let mut bytes = vec![0; HEADER];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let known: Header = serde_json::from_slice(&bytes).ok()?;
        let size = (HEADER as u64).saturating_add(known.entries.saturating_mul(ENTRY));
        let is_current = file.metadata().is_ok_and(|metadata| metadata.size() == size)
            && known.end <= frames.end()
            && known.origin.counts_beside(&store.origin())
            && header(known.origin.clone(), frames, known.end, known.entries)
                .is_ok_and(|header| header == known);
        is_current.then(|| (Self::File { file, path: path.to_path_buf(), entries: known.entries }, known.end))
    }

    fn all(&self) -> Result<BTreeSet<(u64, u64)>> {
        match self {
            Self::Memory(entries) => Ok(entries.clone()),
            Self::File { entries, .. } => Ok(self.entries(0, *entries)?.into_iter().collect()),
        }
    }

    fn entries(&self, first: u64, count: u64) -> Result<Vec<(u64, u64)>> {
        let Self::File { file, path, .. } = self else { return Ok(Vec::new()) };
        let mut bytes = vec![0; usize::try_from(count * ENTRY).unwrap_or(0)];
        let read = file.read_exact_at(&mut bytes, HEADER as u64 + first * ENTRY);
        read.map_err(|source| FsError { action: "reading", path: path.clone(), source })?;
        let (words, _) = bytes.as_chunks::<8>();
        let (pairs, _) = words.as_chunks::<2>();
        Ok(pairs.iter().map(|[hash, at]| (u64::from_le_bytes(*hash), u64::from_le_bytes(*at))).collect())
    }

    fn entry(&self, number: u64) -> Result<(u64, u64)> {
        Ok(self.entries(number, 1)?.first().copied().unwrap_or_default())
    }

    /// The frames that may hold an id, in the order of the file.
    fn frames_of(&self, id: &JobId) -> Result<Vec<u64>> {
        let wanted = hash(id.as_str().as_bytes());
        let entries = match self {
            Self::Memory(entries) => {
                return Ok(entries.range((wanted, 0)..=(wanted, u64::MAX)).map(|entry| entry.1).collect());
            }
            Self::File { entries, .. } => *entries,
        };
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut found = Vec::new();
        for number in low..entries {
            match self.entry(number)? {
                (hash, at) if hash == wanted => found.push(at),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Nothing depends on it, so a failure is only traced.
    fn keep(&self, store: &Store, path: &Path, frames: &Frames<'_>) -> Result<()> {
        let Self::Memory(entries) = self else { return Ok(()) };
        let header = header(store.origin(), frames, frames.end(), entries.len() as u64)?;
        let mut bytes = json_line(path, &header)?;
        bytes.resize(HEADER, b' ');
        for (hash, at) in entries {
            bytes.extend([hash.to_le_bytes(), at.to_le_bytes()].concat());
        }
        if let Err(error) = fs::replace(path, &bytes) {
            tracing::debug!(%error, "the index of an archive is not kept");
        }
        Ok(())
    }
}

fn header(origin: Origin, frames: &Frames<'_>, end: u64, entries: u64) -> Result<Header> {
    Ok(Header { origin, inode: frames.inode()?, end, check: hash(&frames.before(end)?), entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Create;
    use crate::store::testing;
    use serde_json::json;

    fn store() -> (tempfile::TempDir, Store) {
        let (dir, store) = testing::store();
        archive::prepare(&store).unwrap();
        (dir, store)
    }

    fn line(id: &str, seq: u64, day: u32) -> String {
        let at = format!("2026-11-{day:02}T00:00:00.000Z");
        let job = json!({"depends_on": []});
        let line = json!({"schema_version": 1, "seq": seq, "at": at, "job_id": id, "status": "succeeded",
            "place": "done/2026-11-01", "job": job, "life": 1, "first_attempt": 1,
            "former": {"lives": 0, "attempts": 0, "last_outcome": null}, "attempts": []});
        format!("{line}\n")
    }

    fn found(store: &Store, id: &str) -> Option<(String, u64)> {
        let retired = last_of(store, &JobId::new(id).unwrap()).unwrap()?;
        Some((retired.file, retired.record.line.seq))
    }

    fn index(store: &Store) -> PathBuf {
        store.state("cache/archived-2026-11")
    }

    fn in_november(seq: u64) -> Option<(String, u64)> {
        Some(("state/archive/2026-11.jsonl.zst".to_owned(), seq))
    }

    #[test]
    fn the_last_line_is_found_in_the_newest_frame_and_month_as_the_archive_grows() {
        let (_dir, store) = store();
        assert_eq!(found(&store, "a"), None);
        archive::append(&store, "2026-10", line("old", 4, 1).as_bytes()).unwrap();
        for round in 1..=30 {
            let lines: String = (0..50)
                .map(|n| line(&format!("job-{round}-{n}"), 1, 1) + &line(&format!("job-{round}-{n}"), 2, 1))
                .collect();
            archive::append(&store, "2026-11", (lines + &line("a", round, 2)).as_bytes()).unwrap();
            assert_eq!(found(&store, "a"), in_november(round));
            assert_eq!(found(&store, &format!("job-{round}-7")), in_november(2));
            assert_eq!(found(&store, "job-1-49"), in_november(2));
        }
        assert_eq!(found(&store, "old"), Some(("state/archive/2026-10.jsonl.zst".to_owned(), 4)));
        assert_eq!(found(&store, "job-1-50"), None);
    }

    #[test]
    fn an_index_that_is_gone_torn_or_of_another_file_is_made_anew_and_none_can_be_kept_either() {
        let (_dir, store) = store();
        archive::append(&store, "2026-11", line("a", 1, 1).as_bytes()).unwrap();
        assert_eq!(found(&store, "a"), in_november(1));
        let good = std::fs::read(index(&store)).unwrap();
        for bad in [&b""[..], b"{}", &good[..good.len() - 1], &vec![0; good.len()]] {
            let store = Store::open_to_change(store.root()).unwrap();
            fs::replace(&index(&store), bad).unwrap();
            assert_eq!(found(&store, "a"), in_november(1));
            assert_eq!(std::fs::read(index(&store)).unwrap(), good);
        }
        // Moved aside, and another with the same name came.
        let path = store.state("archive/2026-11.jsonl.zst");
        fs::remove(&path).unwrap();
        archive::append(&store, "2026-11", line("b", 1, 1).as_bytes()).unwrap();
        assert_eq!((found(&store, "a"), found(&store, "b")), (None, in_november(1)));
        // A frame whose sync failed was cut off, and another took its place: the file is the same.
        let before = std::fs::metadata(&path).unwrap().len();
        archive::append(&store, "2026-11", line("c", 1, 1).as_bytes()).unwrap();
        assert_eq!(found(&store, "c"), in_november(1));
        let file = fs::open_append(&path, Create::No).unwrap();
        fs::truncate(&file, &path, before).unwrap();
        archive::append(&store, "2026-11", line("d", 1, 1).as_bytes()).unwrap();
        assert_eq!((found(&store, "c"), found(&store, "d")), (None, in_november(1)));
        fs::remove(&index(&store)).unwrap();
        fs::create_dir(&index(&store)).unwrap();
        let store = Store::open_to_change(store.root()).unwrap();
        assert_eq!(found(&store, "b"), in_november(1));
    }

    #[test]
    fn a_look_unpacks_one_frame_however_many_there_are() {
        let (_dir, store) = store();
        for round in 0..20 {
            archive::append(&store, "2026-11", line(&format!("job-{round}"), 1, 1).as_bytes()).unwrap();
        }
        let path = store.state("archive/2026-11.jsonl.zst");
        let whole = std::fs::read(&path).unwrap();
        fs::remove(&path).unwrap();
        let file = fs::create_new(&path, &whole).unwrap();
        assert_eq!(found(&store, "job-3"), in_november(1));
        // With every other frame damaged only an index can tell where it is.
        let frames = Frames::open(&path).unwrap().unwrap();
        let index = Index::current(&store, &path, &frames).unwrap();
        assert!(matches!(index, Index::File { entries: 20, .. }));
        let place = |id: &str| {
            let at = index.frames_of(&JobId::new(id).unwrap()).unwrap();
            assert_eq!(at.len(), 1, "{id}");
            at[0]
        };
        for round in (0..20).filter(|round| *round != 3) {
            // Its magic number, so that it is not a frame.
            fs::write_at(&file, place(&format!("job-{round}")), &[0; 4]).unwrap();
        }
        let store = Store::open_to_change(store.root()).unwrap();
        assert_eq!(found(&store, "job-3"), in_november(1));
        assert!(last_of(&store, &JobId::new("job-4").unwrap()).is_ok_and(|found| found.is_none()), "damaged");
    }

    #[test]
    fn one_id_is_looked_up_once_however_many_ask_until_the_archive_changes() {
        let (_dir, store) = store();
        let path = store.state("archive/2026-11.jsonl.zst");
        let lines: String = (0..400).map(|n| line(&format!("job-{n}"), 1, 1)).collect();
        archive::append(&store, "2026-11", lines.as_bytes()).unwrap();
        let good = std::fs::read(&path).unwrap();
        fs::remove(&path).unwrap();
        let file = fs::create_new(&path, &good).unwrap();
        assert_eq!((found(&store, "job-3"), found(&store, "none")), (in_november(1), None));
        // A frame that cannot be unpacked any more shows that it is not unpacked again.
        let middle = good.len() as u64 / 2;
        assert!(middle + 8 < good.len() as u64 - Stamp::CHECKED, "{}", good.len());
        fs::write_at(&file, middle, &[0x55; 8]).unwrap();
        assert_eq!(found(&Store::open_to_change(store.root()).unwrap(), "job-3"), None);
        for _ in 0..10 {
            assert_eq!((found(&store, "job-3"), found(&store, "none")), (in_november(1), None));
        }
        fs::write_at(&file, 0, &good).unwrap();
        archive::append(&store, "2026-11", (line("job-3", 2, 2) + &line("none", 1, 2)).as_bytes()).unwrap();
        assert_eq!((found(&store, "job-3"), found(&store, "none")), (in_november(2), in_november(1)));
    }

    #[test]
    fn what_is_torn_or_damaged_hides_nothing_else() {
        let (_dir, store) = store();
        let path = store.state("archive/2026-11.jsonl.zst");
        archive::append(&store, "2026-11", line("a", 1, 1).as_bytes()).unwrap();
        archive::append(&store, "2026-11", line("b", 1, 1).as_bytes()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let size = bytes.len();
        bytes[size - 9] ^= 0x55;
        bytes.extend(&bytes.clone()[..40]);
        fs::replace(&path, &bytes).unwrap();
        assert_eq!((found(&store, "a"), found(&store, "b")), (in_november(1), None));
    }
}
