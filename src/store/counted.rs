//! As what each job is counted: a sorted file of 8 bytes a job, and what has changed since it was written.
//!
//! Responsible for answering "what was this id when it was last looked at" without reading all of the file, so that an
//! answer costs the same with any number of finished jobs. A part of the cache: losing it costs a scan of the records.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Result;
use super::hash::hash;
use crate::fs::{self, FsError};
use crate::job::{JobId, Status};

/// Bytes of the file that are read to look up one id.
const PAGE: usize = 4096;
const ENTRY: usize = 8;
const CODE_BITS: u32 = 3;

/// The key of an id: the upper 61 bits of its hash. Two of a million ids share one with a chance of 1 in 4 million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// The key of an id.
    #[must_use]
    pub(crate) fn from_id(id: &JobId) -> Self {
        Self(hash(id.as_str().as_bytes()) >> CODE_BITS)
    }
}

/// A status as the file holds it; queued jobs are not in it, for their files are counted.
fn code(status: Status) -> u64 {
    match status {
        Status::Queued => 0,
        Status::Running => 1,
        Status::Succeeded => 2,
        Status::Failed => 3,
        Status::Canceled => 4,
        Status::Quarantined => 5,
    }
}

fn decode(code: u64) -> Option<Status> {
    match code {
        1 => Some(Status::Running),
        2 => Some(Status::Succeeded),
        3 => Some(Status::Failed),
        4 => Some(Status::Canceled),
        5 => Some(Status::Quarantined),
        _ => None,
    }
}

fn pack(key: Key, status: Option<Status>) -> u64 {
    key.0 << CODE_BITS | status.map_or(0, code)
}

fn unpack(packed: u64) -> (Key, Option<Status>) {
    (Key(packed >> CODE_BITS), decode(packed & ((1 << CODE_BITS) - 1)))
}

/// The sorted file, and what has changed since.
#[derive(Debug)]
pub(crate) struct Counted {
    base: Option<Base>,
    changes: BTreeMap<Key, Option<Status>>,
}

#[derive(Debug)]
struct Base {
    file: File,
    path: PathBuf,
    entries: u64,
    /// All of it, once so much is looked up that reading it page by page costs more.
    loaded: Option<Vec<u64>>,
}

impl Counted {
    /// Nothing is counted.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self { base: None, changes: BTreeMap::new() }
    }

    /// Opens the file that has so many entries, with the changes since; `None` if it is not that file.
    pub(crate) fn open(path: &Path, entries: u64, changes: &[u64]) -> Result<Option<Self>> {
        let file = match fs::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let size = file.metadata().map_err(reading(path))?.len();
        if size != entries.saturating_mul(ENTRY as u64) {
            return Ok(None);
        }
        let base = Some(Base { file, path: path.to_path_buf(), entries, loaded: None });
        Ok(Some(Self { base, changes: changes.iter().map(|packed| unpack(*packed)).collect() }))
    }

    /// As what an id is counted; `None`: it is not.
    pub(crate) fn get(&self, id: &JobId) -> Result<Option<Status>> {
        let key = Key::from_id(id);
        match (self.changes.get(&key), &self.base) {
            (Some(status), _) => Ok(*status),
            (None, Some(base)) => base.find(key),
            (None, None) => Ok(None),
        }
    }

    /// Makes ready for so many questions.
    pub(crate) fn expect(&mut self, questions: usize) -> Result<()> {
        if let Some(base) = &mut self.base
            && questions as u64 > base.entries / (PAGE / ENTRY) as u64
        {
            base.loaded = Some(base.all()?);
        }
        Ok(())
    }

    /// Counts an id as something else from now on.
    pub(crate) fn set(&mut self, id: &JobId, status: Option<Status>) {
        self.changes.insert(Key::from_id(id), status.filter(|status| *status != Status::Queued));
    }

    /// What has changed since the file was written.
    #[must_use]
    pub(crate) fn changes(&self) -> Vec<u64> {
        self.changes.iter().map(|(key, status)| pack(*key, *status)).collect()
    }

    /// Everything that is counted, as the bytes of a file.
    pub(crate) fn all(&self) -> Result<Vec<u8>> {
        let old = self.base.as_ref().map_or_else(|| Ok(Vec::new()), Base::all)?;
        let mut old =
            old.into_iter().map(unpack).filter(|(key, _)| !self.changes.contains_key(key)).peekable();
        let mut new = self.changes.iter().map(|(key, status)| (*key, *status)).peekable();
        let mut bytes = Vec::new();
        loop {
            let next = match (old.peek(), new.peek()) {
                (Some(one), Some(other)) if one.0 < other.0 => old.next(),
                (_, Some(_)) => new.next(),
                (_, None) => old.next(),
            };
            let Some((key, status)) = next else { return Ok(bytes) };
            if status.is_some() {
                bytes.extend(pack(key, status).to_le_bytes());
            }
        }
    }

    /// How many entries those bytes hold.
    #[must_use]
    pub(crate) fn entries(bytes: &[u8]) -> u64 {
        (bytes.len() / ENTRY) as u64
    }
}

fn reading(path: &Path) -> impl Fn(std::io::Error) -> FsError {
    move |source| FsError { action: "reading", path: path.to_path_buf(), source }
}

impl Base {
    /// Looks an id up, page by page: the hashes are sorted.
    fn find(&self, key: Key) -> Result<Option<Status>> {
        if let Some(loaded) = &self.loaded {
            let found = loaded.binary_search_by_key(&key, |packed| unpack(*packed).0).ok();
            return Ok(found.and_then(|at| loaded.get(at)).and_then(|packed| unpack(*packed).1));
        }
        let per_page = (PAGE / ENTRY) as u64;
        let (mut low, mut high) = (0, self.entries.div_ceil(per_page));
        while low < high {
            let middle = low + (high - low) / 2;
            let first = middle * per_page;
            let page = self.read(first, per_page.min(self.entries - first))?;
            let keys: Vec<Key> = page.iter().map(|packed| unpack(*packed).0).collect();
            match (keys.first(), keys.last()) {
                (Some(first), _) if key < *first => high = middle,
                (_, Some(last)) if key > *last => low = middle + 1,
                _ => {
                    let found = keys.binary_search(&key).ok().and_then(|at| page.get(at));
                    return Ok(found.and_then(|packed| unpack(*packed).1));
                }
            }
        }
        Ok(None)
    }

    fn all(&self) -> Result<Vec<u64>> {
        self.read(0, self.entries)
    }

    fn read(&self, first: u64, count: u64) -> Result<Vec<u64>> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * ENTRY];
        self.file.read_exact_at(&mut bytes, first * ENTRY as u64).map_err(reading(&self.path))?;
        Ok(bytes.as_chunks::<ENTRY>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 5] =
        [Status::Running, Status::Succeeded, Status::Failed, Status::Canceled, Status::Quarantined];

    fn id(number: usize) -> JobId {
        JobId::new(&format!("job-{number}")).unwrap()
    }

    #[test]
    fn what_was_set_is_found_through_any_number_of_writes() {
        let dir = tempfile::tempdir().unwrap();
        let mut counted = Counted::empty();
        let mut expected = BTreeMap::new();
        for round in 0..6 {
            for number in (round * 1000..round * 1000 + 2000).step_by(1 + round) {
                let status = STATUSES.get((number + round) % 7).copied();
                counted.set(&id(number), status);
                expected.insert(number, status);
            }
            counted.set(&id(1), Some(Status::Queued));
            expected.insert(1, None);
            let bytes = counted.all().unwrap();
            assert_eq!(Counted::entries(&bytes), expected.values().flatten().count() as u64);
            let path = dir.path().join(round.to_string());
            fs::create_new(&path, &bytes).unwrap();
            let entries = Counted::entries(&bytes);
            assert!(Counted::open(&path, entries + 1, &[]).unwrap().is_none(), "it is torn");
            counted = Counted::open(&path, entries, &[]).unwrap().unwrap();
            if round % 2 == 1 {
                counted.expect(9000).unwrap();
            }
            for number in 0..9000 {
                assert_eq!(
                    counted.get(&id(number)).unwrap(),
                    expected.get(&number).copied().flatten(),
                    "{number}"
                );
            }
        }
        counted.set(&id(5), Some(Status::Failed));
        let again =
            Counted::open(&dir.path().join("5"), counted.base.as_ref().unwrap().entries, &counted.changes());
        assert_eq!(again.unwrap().unwrap().get(&id(5)).unwrap(), Some(Status::Failed));
    }

    #[test]
    fn every_status_but_queued_is_told_apart() {
        for status in STATUSES {
            assert_eq!(unpack(pack(Key(1 << 60), Some(status))), (Key(1 << 60), Some(status)));
        }
        assert_eq!(decode(code(Status::Queued)), None);
    }
}
