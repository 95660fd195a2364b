//! Reading the journal in windows of bounded size: forward from a known position, or backward from its end.
//!
//! Gives whole lines only. Follows rotation: the files are known by their inodes, not by their names. Nothing is decided
//! from its lines: a line says which record to look at.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::hash::hash;
use super::super::{Result, Store};
use crate::clock::Timestamp;
use crate::fs::{self, FsError, holes};
use crate::job::Status;
use crate::job::event::{ARCHIVE, JournalLine};

/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;
/// A longer line is not one of ours.
const LONGEST: usize = 4 << 20;
/// How many bytes before a position tell whether it is one of this file.
const CHECKED: u64 = 512;

/// Reads journal text: every line that parses; torn and foreign ones are skipped.
pub fn parse(bytes: &[u8]) -> impl DoubleEndedIterator<Item = JournalLine> {
    whole_lines(bytes).filter_map(|line| serde_json::from_slice(line).ok())
}

/// As `parse`, of what a search needs.
pub(crate) fn glances(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Glance<'_>> {
    whole_lines(bytes).filter_map(|line| serde_json::from_slice(line).ok())
}

fn whole_lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let complete = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
    bytes.get(..complete).unwrap_or_default().split(|b| *b == b'\n')
}

/// What a search needs of a journal line.
#[derive(Debug, Deserialize)]
pub(crate) struct Glance<'a> {
    /// When the record line was written.
    pub at: Timestamp,
    /// The job.
    #[serde(borrow)]
    pub job_id: Cow<'a, str>,
    /// The number of the record line.
    pub seq: u64,
    /// The status of the job.
    pub status: Status,
    /// The run, cut as in `JournalLine`.
    #[serde(borrow)]
    pub run_id: Option<Text<'a>>,
    /// The workstream, cut as in `JournalLine`.
    #[serde(borrow)]
    pub workstream_id: Option<Text<'a>>,
    /// The adapter.
    #[serde(borrow)]
    pub tool: Option<Text<'a>>,
    /// Where the job is.
    #[serde(borrow)]
    pub place: Option<Text<'a>>,
}

impl Glance<'_> {
    /// True if it says that gc retired the job: it belongs to no record line.
    #[must_use]
    pub(crate) fn is_retirement(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.0.starts_with(ARCHIVE))
    }
}

/// A text of a line, borrowed where it holds no escapes.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// One file of the journal.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where it was when it was opened.
    pub path: PathBuf,
    /// What it is known by: a rotation renames it.
    pub inode: u64,
    file: File,
}

/// Up to where a part was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The part.
    pub inode: u64,
    /// The byte after the last whole line that was read.
    pub offset: u64,
    /// A hash of the bytes before it: another file may have got the inode.
    pub check: u64,
}

/// Why positions do not hold for the journal that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed(pub &'static str);

/// The journal's files, the oldest first, the live one last.
pub(crate) fn files(store: &Store) -> Result<Vec<PathBuf>> {
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

/// Opens the files of the journal, the oldest first, the live one last.
pub(crate) fn open(store: &Store) -> Result<Vec<Part>> {
    const TRIES: usize = 10;
    let mut names = files(store)?;
    let mut parts = Vec::new();
    for _ in 0..TRIES {
        parts.clear();
        for path in &names {
            parts.extend(part(path)?);
        }
        // A rotation between the listing and the opening would hide the file that was just moved aside.
        let again = files(store)?;
        if again == names {
            break;
        }
        names = again;
    }
    Ok(parts)
}

/// Opens a file of whole lines; none if there is none.
pub(crate) fn part(path: &std::path::Path) -> Result<Option<Part>> {
    match fs::open_regular(path) {
        Ok(file) => Ok(Some(Part { inode: metadata(&file, path)?.ino(), path: path.to_path_buf(), file })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The inode and the length of the live file, if there is one: while both stay, nothing was added.
#[must_use]
pub(crate) fn live_end(store: &Store) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(store.state("events.jsonl")).ok()?;
    Some((metadata.ino(), metadata.len()))
}

/// The inode of the live file, if there is one.
#[must_use]
pub fn live_inode(store: &Store) -> Option<u64> {
    live_end(store).map(|(inode, _)| inode)
}

/// Reads everything behind the given positions, by blocks of whole lines, and gives the new positions. A part without a
/// position is read whole, wherever it is: more may have been appended to a file that was just moved aside.
pub(crate) fn advance(
    parts: &[Part],
    known: &[Position],
    each: &mut dyn FnMut(&[u8]),
) -> Result<std::result::Result<Vec<Position>, Changed>> {
    // Older parts may be cleared away; the one that was live can only have been moved aside.
    if known.last().is_some_and(|last| parts.iter().all(|part| part.inode != last.inode)) {
        return Ok(Err(Changed("it is of another journal")));
    }
    for part in parts {
        if let Some(position) = known.iter().find(|position| position.inode == part.inode)
            && part.check(position.offset)? != Some(position.check)
        {
            return Ok(Err(Changed("the journal is not the one that it was made from")));
        }
    }
    let mut positions = Vec::with_capacity(parts.len());
    for part in parts {
        let known = known.iter().find(|position| position.inode == part.inode);
        let offset = part.forward(known.map_or(0, |position| position.offset), each)?;
        positions.push(part.position(offset)?);
    }
    Ok(Ok(positions))
}

impl Part {
    /// Its size now.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(metadata(&self.file, &self.path)?.len())
    }

    /// The position behind its last whole line.
    pub(crate) fn end(&self) -> Result<Position> {
        let mut backward = self.backward()?;
        // What was read precedes the end that it was read from.
        let offset = backward.block()?.map_or(0, |block| backward.end + block.len() as u64);
        self.position(offset)
    }

    fn position(&self, offset: u64) -> Result<Position> {
        let check = self.check(offset)?.unwrap_or_default();
        Ok(Position { inode: self.inode, offset, check })
    }

    /// Reads blocks of whole lines from an offset to the end, and gives the offset behind the last one.
    pub(crate) fn forward(&self, from: u64, each: &mut dyn FnMut(&[u8])) -> Result<u64> {
        // Nothing of the window's size is needed to see that nothing is new.
        if self.size()? <= from {
            return Ok(from);
        }
        let mut buffer = vec![0; WINDOW];
        let (mut start, mut kept, mut complete) = (from, 0, from);
        loop {
            let room = buffer.get_mut(kept..).unwrap_or_default();
            let count = self.read_at(room, start + kept as u64)?;
            if count == 0 {
                return Ok(complete);
            }
            let filled = kept + count;
            let bytes = buffer.get(..filled).unwrap_or_default();
            if let Some(end) = memchr::memrchr(b'\n', bytes).map(|at| at + 1) {
                each(bytes.get(..end).unwrap_or_default());
                start += end as u64;
                complete = start;
                buffer.copy_within(end..filled, 0);
                kept = filled - end;
            } else if filled >= LONGEST {
                // Whatever this is, its end is looked for without keeping it.
                start = holes::next_data(&self.file, start + filled as u64);
                kept = 0;
            } else {
                kept = filled;
                if kept == buffer.len() {
                    buffer.resize(2 * kept, 0);
                }
            }
        }
    }

    /// Reads it backward from its end.
    pub(crate) fn backward(&self) -> Result<Backward<'_>> {
        Ok(Backward { part: self, end: self.size()?, window: WINDOW / 4, at_end: true })
    }

    /// The hash of what precedes an offset; `None` if the file is shorter or no line ends there.
    fn check(&self, offset: u64) -> Result<Option<u64>> {
        let length = usize::try_from(offset.min(CHECKED)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let count = self.read_at(&mut bytes, offset - length as u64)?;
        let ends_a_line = bytes.last().is_none_or(|last| *last == b'\n');
        Ok((count == length && ends_a_line).then(|| hash(&bytes)))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut count = 0;
        while let Some(room) = buffer.get_mut(count..).filter(|room| !room.is_empty()) {
            match self.file.read_at(room, offset + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(FsError { action: "reading", path: self.path.clone(), source }.into());
                }
            }
        }
        Ok(count)
    }
}

/// The blocks of one part, the last one first.
#[derive(Debug)]
pub(crate) struct Backward<'a> {
    part: &'a Part,
    end: u64,
    window: usize,
    at_end: bool,
}

impl Backward<'_> {
    /// The next earlier block of whole lines; `None` at the beginning of the file.
    pub(crate) fn block(&mut self) -> Result<Option<Vec<u8>>> {
        let mut window = self.window;
        while self.end > 0 {
            let start = self.end.saturating_sub(window as u64);
            let mut bytes = vec![0; usize::try_from(self.end - start).unwrap_or(0)];
            let count = self.part.read_at(&mut bytes, start)?;
            bytes.truncate(count);
            // What follows the last newline of the file is being written, or is torn.
            if self.at_end {
                bytes.truncate(memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1));
            }
            let first = if start == 0 { Some(0) } else { memchr::memchr(b'\n', &bytes).map(|at| at + 1) };
            let whole = first.filter(|first| *first < bytes.len() || start == 0);
            if let Some(first) = whole {
                self.end = start + first as u64;
                self.at_end = false;
                self.window = WINDOW;
                return Ok(Some(bytes.split_off(first)));
            }
            if window >= LONGEST {
                // No line of ours is that long: it is passed over.
                self.end = holes::end_of_data(&self.part.file, start);
                self.at_end = true;
                window = self.window;
            } else {
                window *= 2;
            }
        }
        Ok(None)
    }
}

fn metadata(file: &File, path: &std::path::Path) -> Result<std::fs::Metadata> {
    file.metadata()
        .map_err(|source| FsError { action: "looking at", path: path.to_path_buf(), source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(content: &[u8]) -> (tempfile::TempDir, Part) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        fs::create_new(&path, content).unwrap();
        let file = fs::open_regular(&path).unwrap();
        let inode = file.metadata().unwrap().ino();
        (dir, Part { path, inode, file })
    }

    fn backward(part: &Part) -> Vec<u8> {
        let mut blocks = Vec::new();
        let mut reader = part.backward().unwrap();
        while let Some(block) = reader.block().unwrap() {
            blocks.push(block);
        }
        blocks.reverse();
        blocks.concat()
    }

    fn forward(part: &Part, from: u64) -> (Vec<u8>, u64) {
        let mut all = Vec::new();
        let end = part.forward(from, &mut |block| all.extend_from_slice(block)).unwrap();
        (all, end)
    }

    #[test]
    fn both_directions_give_every_whole_line_and_never_a_torn_end() {
        let mut content = Vec::new();
        for number in 0..20_000 {
            content.extend(format!("{number} {}\n", "x".repeat(number % 90)).bytes());
        }
        // A line longer than a window.
        content.extend(vec![b'y'; 3 * WINDOW]);
        content.extend(b"\nlast\n");
        let whole = content.clone();
        content.extend(b"torn");
        let (_dir, part) = part(&content);
        assert_eq!(forward(&part, 0), (whole.clone(), whole.len() as u64));
        assert!(backward(&part) == whole);
        assert_eq!(forward(&part, whole.len() as u64 - 5), (b"last\n".to_vec(), whole.len() as u64));
    }

    #[test]
    fn what_has_no_line_ends_for_megabytes_is_passed_over() {
        let mut content = b"first\n".to_vec();
        content.extend(vec![b'z'; 3 * LONGEST]);
        content.extend(b"\nlast\n");
        let (_dir, part) = part(&content);
        for text in [forward(&part, 0).0, backward(&part)] {
            assert!(text.starts_with(b"first\n") && text.ends_with(b"\nlast\n"), "{} bytes", text.len());
            assert!(text.len() < content.len());
        }
    }

    #[test]
    fn an_empty_or_torn_file_has_no_lines() {
        for content in [&b""[..], b"torn"] {
            let (_dir, part) = part(content);
            assert_eq!(forward(&part, 0), (Vec::new(), 0));
            assert_eq!(backward(&part), b"");
        }
    }

    #[test]
    fn a_position_holds_only_for_the_file_that_it_was_made_from() {
        let (_dir, one) = part(b"one\ntwo\n");
        let made = advance(std::slice::from_ref(&one), &[], &mut |_| {}).unwrap().unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(
            advance(std::slice::from_ref(&one), &made, &mut |_| panic!("nothing is new")).unwrap(),
            Ok(made.clone())
        );
        for content in [&b"one\n"[..], b"one\nTWO\n", b""] {
            let (_dir, other) = part(content);
            // The inode was given to another file.
            let other = Part { inode: one.inode, ..other };
            assert!(advance(&[other], &made, &mut |_| {}).unwrap().is_err(), "{content:?}");
        }
        assert!(advance(&[], &made, &mut |_| {}).unwrap().is_err());
    }
}
