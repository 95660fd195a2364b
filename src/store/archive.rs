//! The archive: `state/archive/<YYYY-MM>.jsonl.zst`, the records of jobs that `gc` has retired.
//!
//! A file is a row of zstd frames, one for each batch, of record lines as they stood; `zstdcat` reads it. Before each frame
//! stands a skippable one of 24 bytes with the frame's length, so that a frame that a crash has torn is known without
//! unpacking anything. A crash between the archive and the removal archives a record twice: the same job with the same
//! first line is one record. Hard rule: what was synced here is never changed; only a torn end is cut.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::record::{self, Record};
use super::{Result, Store, StoreError};
use crate::clock::{self, Timestamp};
use crate::fs::{self, Create, FsError, holes};
use crate::job::JobId;
use crate::lock::Locked;

/// Magic number of a skippable frame, its length, and a word of ours: what stands before each frame's length.
const HEAD: [u8; 16] = *b"\x5e\x2a\x4d\x18\x10\x00\x00\x00engine 1";
const HEADER: u64 = 24;
/// So many bytes before an offset tell whether a file is the one that it is taken for.
const CHECKED: u64 = 512;

/// A record as it was when its job was retired.
#[derive(Debug, Clone)]
pub struct Archived {
    /// The file, as `state/archive/2026-11.jsonl.zst`.
    pub file: String,
    /// Its lines, oldest first; at least one.
    pub lines: Vec<Record>,
}

/// How an archive file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a whole frame, at this length.
    Clean(u64),
    /// With a part of a frame from this offset on: a crash in the middle of an append.
    Torn(u64),
    /// With something else from this offset on.
    Foreign(u64),
}

/// What one archive file is like.
#[derive(Debug)]
pub struct Health {
    /// The file.
    pub path: PathBuf,
    /// How it ends.
    pub end: End,
    /// Offsets of frames that cannot be unpacked.
    pub damaged: Vec<u64>,
}

/// The right to retire jobs and to write the archive: one process at a time.
#[derive(Debug)]
pub struct GcLock(#[expect(dead_code, reason = "held until it is dropped")] Locked);

/// How often a busy lock is asked for, and how long between: readers look for an instant whether it is held.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

impl GcLock {
    /// Takes the lock of `gc`; none if another process has it.
    ///
    /// # Errors
    /// File system and lock errors.
    pub fn acquire(store: &Store) -> Result<Option<Self>> {
        let path = store.state(GC_LOCK);
        for _ in 0..TRIES {
            let file = fs::open_append(&path, Create::IfMissing)?;
            if let Some(locked) = Locked::exclusive(file, &path)? {
                return Ok(Some(Self(locked)));
            }
            clock::sleep(BETWEEN_TRIES);
        }
        Ok(None)
    }
}

const GC_LOCK: &str = "gc.lock";

/// True while a `gc` works, or where that cannot be told.
#[must_use]
pub fn is_collected(store: &Store) -> bool {
    let path = store.state(GC_LOCK);
    match fs::open_regular(&path) {
        Ok(file) => !Locked::shared(file, &path).is_ok_and(|lock| lock.is_some()),
        Err(error) => !error.is_not_found(),
    }
}

/// The month that a record goes to.
#[must_use]
pub fn month(ended_at: Timestamp) -> String {
    ended_at.day().chars().take(7).collect()
}

fn file_name(month: &str) -> String {
    format!("{month}.jsonl.zst")
}

/// Makes the directory of the archive, its name durable.
///
/// # Errors
/// File system errors.
pub fn prepare(store: &Store) -> Result<()> {
    fs::create_dir(&store.state("archive"))?;
    // Always: who made it may have been killed before his sync.
    store.sync_dir(&store.state(""))
}

/// Appends record lines as one frame, durable when this returns. One process at a time: `gc` holds its lock.
///
/// A crash leaves a torn frame, which the next append cuts, or one whose records are still there, too.
///
/// # Errors
/// File system errors; `Unreadable` where the file does not end as this program writes it: then nothing was written.
pub fn append(store: &Store, month: &str, lines: &[u8]) -> Result<()> {
    let dir = store.state("archive");
    let path = dir.join(file_name(month));
    let file = fs::open_append(&path, Create::IfMissing)?;
    let end = cut_torn_end(&file, &path)?;
    let frame = encode(lines);
    let kept = fs::append(&file, &path, &frame).map_err(StoreError::from);
    if let Err(error) = kept.and_then(|()| store.sync_data(&file, &path)) {
        // What was not written, or may only look written, must not stand before what comes next.
        fs::truncate(&file, &path, end)?;
        return Err(error);
    }
    // Always, for the same reason as in `prepare`; it is one sync for a batch.
    store.sync_dir(&dir)
}

fn cut_torn_end(file: &File, path: &Path) -> Result<u64> {
    match walk(file, path)?.1 {
        End::Clean(end) => Ok(end),
        End::Torn(end) => {
            fs::truncate(file, path, end)?;
            Ok(end)
        }
        End::Foreign(at) => Err(foreign(path, at)),
    }
}

fn foreign(path: &Path, at: u64) -> StoreError {
    let problem =
        format!("from byte {at} on it is not what the engine wrote; move it aside and run `gc` again");
    StoreError::Unreadable { path: path.to_path_buf(), problem }
}

/// Cuts the torn ends of all archive files; how many had one. Under the lock of `gc`.
///
/// # Errors
/// File system errors.
pub fn cut_torn_ends(store: &Store) -> Result<usize> {
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

/// A header and a frame. What was packed is unpacked again at once: the records are removed because of it.
fn encode(lines: &[u8]) -> Vec<u8> {
    let mut frame = compress_to_vec(lines, CompressionLevel::Fastest);
    if decode(&frame).is_none_or(|unpacked| unpacked != lines) {
        frame = compress_to_vec(lines, CompressionLevel::Uncompressed);
    }
    let mut bytes = HEAD.to_vec();
    bytes.extend((frame.len() as u64).to_le_bytes());
    bytes.extend(frame);
    bytes
}

/// Unpacks a frame; `None` if it is damaged.
fn decode(frame: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = StreamingDecoder::new(frame).ok()?;
    let mut lines = Vec::new();
    decoder.read_to_end(&mut lines).ok()?;
    let decoder = decoder.into_frame_decoder();
    (decoder.get_checksum_from_data() == decoder.get_calculated_checksum()).then_some(lines)
}

/// Offset and length of each whole frame, and how the file ends.
fn walk(file: &File, path: &Path) -> Result<(Vec<(u64, u64)>, End)> {
    let error = |source| FsError { action: "reading", path: path.to_path_buf(), source };
    let size = file.metadata().map_err(error)?.len();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < size {
        let mut header = [0; HEADER as usize];
        let room = usize::try_from(HEADER.min(size - at)).unwrap_or(0);
        let here = header.get_mut(..room).unwrap_or_default();
        file.read_exact_at(here, at).map_err(error)?;
        let known = room.min(HEAD.len());
        if here.iter().all(|byte| *byte == 0) && is_zero_from(file, at, size).map_err(error)? {
            // A power loss kept the length of an append and lost its data.
            return Ok((frames, End::Torn(at)));
        }
        if here.get(..known) != HEAD.get(..known) {
            return Ok((frames, End::Foreign(at)));
        }
        let length = header.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let end = (at + HEADER).saturating_add(length);
        if size < at + HEADER || size < end {
            return Ok((frames, End::Torn(at)));
        }
        frames.push((at + HEADER, length));
        at = end;
    }
    Ok((frames, End::Clean(at)))
}

fn is_zero_from(file: &File, mut at: u64, size: u64) -> io::Result<bool> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut buffer = ZEROS;
    while at < size {
        at = holes::next_data(file, at);
        let length = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(part, at)?;
        // Whole pieces are compared, which a damaged file of gigabytes makes worth it.
        if ZEROS.get(..length) != Some(&*part) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}

/// The archive files, the newest month first.
///
/// # Errors
/// File system errors.
pub fn files(store: &Store) -> Result<Vec<PathBuf>> {
    let dir = store.state("archive");
    let mut names = fs::names(&dir)?;
    names.retain(|name| is_file_name(name));
    names.sort();
    Ok(names.into_iter().rev().map(|name| dir.join(name)).collect())
}

fn is_file_name(name: &str) -> bool {
    name.strip_suffix(".jsonl.zst").is_some_and(|month| crate::job::record::is_day(&format!("{month}-01")))
}

/// The whole frames of one archive file.
pub(super) struct Frames<'a> {
    path: &'a Path,
    file: File,
    /// Offset and length of each.
    frames: Vec<(u64, u64)>,
    ends: End,
}

impl<'a> Frames<'a> {
    /// Finds them without unpacking any; none if there is no such file.
    pub(super) fn open(path: &'a Path) -> Result<Option<Self>> {
        let file = match fs::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (frames, ends) = walk(&file, path)?;
        Ok(Some(Self { path, file, frames, ends }))
    }

    fn reading(&self, source: io::Error) -> StoreError {
        FsError { action: "reading", path: self.path.to_path_buf(), source }.into()
    }

    /// Where the last whole frame ends.
    pub(super) fn end(&self) -> u64 {
        self.frames.last().map_or(0, |(at, length)| at + length)
    }

    pub(super) fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.reading(error))?.ino())
    }

    /// Some bytes before an offset.
    pub(super) fn before(&self, end: u64) -> Result<Vec<u8>> {
        let length = end.min(CHECKED);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut bytes, end - length);
        read.map_err(|error| self.reading(error))?;
        Ok(bytes)
    }

    /// Unpacks one; none if it is damaged.
    fn unpack(&self, (at, length): (u64, u64)) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut frame, at).map_err(|error| self.reading(error))?;
        Ok(decode(&frame))
    }

    /// Unpacks one; what is damaged is traced.
    fn lines(&self, frame: (u64, u64)) -> Result<Option<Vec<u8>>> {
        let lines = self.unpack(frame)?;
        if lines.is_none() {
            let at = frame.0;
            tracing::warn!("`{}` is damaged at byte {at}: these records cannot be read", self.path.display());
        }
        Ok(lines)
    }

    /// Visits each id of the frames from an offset on, with its frame.
    pub(super) fn each_id_from(&self, from: u64, visit: &mut dyn FnMut(u64, &JobId)) -> Result<()> {
        for frame in self.frames.iter().filter(|frame| frame.0 >= from) {
            if let Some(lines) = self.lines(*frame)? {
                groups(&lines, self.path).for_each(|group| visit(frame.0, &group.id));
            }
        }
        Ok(())
    }

    /// The last line of an id in the frame at an offset.
    pub(super) fn last_of(&self, at: u64, id: &JobId) -> Result<Option<Record>> {
        let Some(frame) = self.frames.iter().find(|frame| frame.0 == at) else { return Ok(None) };
        let Some(lines) = self.lines(*frame)? else { return Ok(None) };
        let last = groups(&lines, self.path).filter(|group| group.id == *id).last();
        Ok(last.and_then(|mut group| group.lines.pop()))
    }
}

/// Looks at every archive file.
///
/// # Errors
/// File system errors.
pub fn health(store: &Store) -> Result<Vec<Health>> {
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
/// # Errors
/// File system errors. What is damaged is traced and passed over.
pub fn find(store: &Store, id: &JobId) -> Result<Vec<Archived>> {
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
/// # Errors
/// File system errors. What is damaged is traced and passed over.
pub fn each_last(store: &Store, visit: &mut dyn FnMut(&str, Timestamp, Record)) -> Result<()> {
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

/// The lines of one record in a frame.
struct Group {
    id: JobId,
    first_at: Timestamp,
    lines: Vec<Record>,
}

/// Takes the lines of a frame apart by record: those of one record stand together, with rising numbers.
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

    fn file_with(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file.as_file(), bytes).unwrap();
        file
    }

    fn end_of(bytes: &[u8]) -> (usize, End) {
        let file = file_with(bytes);
        let (frames, end) = walk(file.as_file(), file.path()).unwrap();
        (frames.len(), end)
    }

    #[test]
    fn what_was_packed_is_unpacked_whole() {
        for lines in [&b""[..], b"one\n", &b"{\"a\":1}\n".repeat(50_000)] {
            let packed = encode(lines);
            assert_eq!(decode(&packed[24..]).unwrap(), lines);
        }
    }

    #[test]
    fn a_frame_torn_at_any_byte_is_known_and_the_one_before_is_kept() {
        let one = encode(b"one\n");
        let mut two = one.clone();
        two.extend(encode(b"two\n"));
        assert_eq!(end_of(&two), (2, End::Clean(two.len() as u64)));
        for length in one.len() + 1..two.len() {
            assert_eq!(end_of(&two[..length]), (1, End::Torn(one.len() as u64)), "{length}");
        }
        assert_eq!(end_of(&one), (1, End::Clean(one.len() as u64)));
        assert_eq!(end_of(b""), (0, End::Clean(0)));
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_a_torn_frame() {
        let mut bytes = encode(b"one\n");
        let end = bytes.len() as u64;
        bytes.extend(b"something else");
        assert_eq!(end_of(&bytes), (1, End::Foreign(end)));
        let file = file_with(&bytes);
        assert!(cut_torn_end(file.as_file(), file.path()).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), bytes, "nothing was cut");
    }

    #[test]
    fn a_flipped_bit_is_seen_and_does_not_hide_the_next_frame() {
        let mut bytes = encode(&b"{\"a\":1}\n".repeat(100));
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        bytes.extend(encode(b"two\n"));
        let file = file_with(&bytes);
        let frames = Frames::open(file.path()).unwrap().unwrap();
        let found: Vec<_> = frames.frames.iter().map(|frame| frames.unpack(*frame).unwrap()).collect();
        assert_eq!(found, [None, Some(b"two\n".to_vec())]);
    }

    #[test]
    fn only_months_are_archives() {
        assert!(is_file_name("2026-11.jsonl.zst"));
        for name in ["2026-11.jsonl", "x.jsonl.zst", "2026-11-21.jsonl.zst", ".2026-11.jsonl.zst"] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
