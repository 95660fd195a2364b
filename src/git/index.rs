//! The index of git, read without a process: every path with its mode and object.
//!
//! Responsible for versions 2 to 4 of git's `index-format`, and for preparing a copy before git reads it again: marks that
//! hide a change are cleared, and git looks anew at a file that it looked at in the second of the file's last change. Hard
//! rule: no entry is moved, so that every extension behind the entries stays true.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::fs::{self, FsError, Moment, Stamp};
use crate::job::{Code, Reason};

/// The mode of a symbolic link.
pub(crate) const LINK: u32 = 0o120_000;
/// The mode of another repository's commit.
pub(crate) const REPOSITORY: u32 = 0o160_000;

const ASSUME_VALID: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const STAGE: u16 = 0x3000;
const LENGTH: u16 = 0x0fff;
const SKIP_WORKTREE: u16 = 0x4000;
const INTENT_TO_ADD: u16 = 0x2000;

/// A larger index is not looked at: five million files.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// The bytes before the object's name: two times, and seven numbers.
const OBJECT_AT: usize = 40;

/// A name as text.
#[must_use]
pub(crate) fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One path of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File type and executable bit.
    pub mode: u32,
    /// The name of the object, as bytes.
    pub object: Vec<u8>,
}

/// Every path of an index that is not in conflict, in git's order.
pub(crate) type Entries = BTreeMap<Vec<u8>, Entry>;

/// True if a path stays in the worktree: the index of a hostile repository may hold any.
#[must_use]
pub(crate) fn is_plain(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// A path of git as a path of the system.
#[must_use]
pub(crate) fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from(OsStr::from_bytes(path)))
}

/// The paths whose entries differ, with the old and the new one, in git's order.
#[must_use]
pub(crate) fn differences<'e>(
    old: &'e Entries,
    new: &'e Entries,
) -> Vec<(&'e Vec<u8>, [Option<&'e Entry>; 2])> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let one = if order.is_le() { old.next() } else { None };
        let other = if order.is_ge() { new.next() } else { None };
        let entries = [one, other].map(|pair| pair.map(|(_, entry)| entry));
        if let Some((path, _)) = one.or(other).filter(|_| entries[0] != entries[1]) {
            found.push((path, entries));
        }
    }
}

/// The kind of change of a path between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Added,
    /// It has another content or mode.
    Modified,
    /// It is gone.
    Deleted,
    /// A file became a link, or a repository, or the like.
    TypeChanged,
}

/// Whether an index needs other files beside its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it is here.
    Whole,
    /// A part is in another file, whose name is given, or a directory replaces the files below it.
    Folded(Option<String>),
}

struct Slot<'a> {
    start: usize,
    flags_at: usize,
    flags: u16,
    more_flags: u16,
    mode: u32,
    object: &'a [u8],
    path: &'a [u8],
}

fn broken(what: &str) -> Reason {
    Reason::new(Code::EvidenceFailed, format!("the index of the repository cannot be read: {what}"))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let two: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_be_bytes(two))
}

/// Calls `each` for every entry; gives where the entries end.
fn walk(bytes: &[u8], hash: usize, mut each: impl FnMut(&Slot<'_>)) -> Option<usize> {
    let version = number(bytes, 4).filter(|_| bytes.starts_with(b"DIRC"))?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let mut at = 12usize;
    let mut path = Vec::new();
    for _ in 0..number(bytes, 8)? {
        let flags_at = at + OBJECT_AT + hash;
        let flags = short(bytes, flags_at)?;
        let extended = version >= 3 && flags & EXTENDED != 0;
        let more_flags = if extended { short(bytes, flags_at + 2)? } else { 0 };
        let mut name_at = flags_at + if extended { 4 } else { 2 };
        if version == 4 {
            let (dropped, length) = varint(bytes.get(name_at..)?)?;
            path.truncate(path.len().checked_sub(dropped)?);
            name_at += length;
        } else {
            path.clear();
        }
        let rest = bytes.get(name_at..)?;
        let end = memchr::memchr(0, rest)?;
        path.extend_from_slice(rest.get(..end)?);
        each(&Slot {
            start: at,
            flags_at,
            flags,
            more_flags,
            mode: number(bytes, at + 24)?,
            object: bytes.get(at + OBJECT_AT..flags_at)?,
            path: &path,
        });
        at = match version {
            4 => name_at + end + 1,
            // Padded with one to eight NULs.
            _ => at + ((name_at + end - at + 8) & !7),
        };
    }
    Some(at)
}

/// A number as git packs offsets.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        if at > 0 {
            value = value.checked_add(1)?;
        }
        value = (value << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// An index without entries.
#[must_use]
pub(crate) fn empty(hash: usize) -> Vec<u8> {
    let mut bytes = b"DIRC\0\0\0\x02\0\0\0\0".to_vec();
    bytes.resize(bytes.len() + hash, 0);
    bytes
}

/// Makes an index (version 3) of entries that are in git's order, without anything known of the files. One with `true` is
/// only meant to be added: for git the file is new.
#[must_use]
pub(crate) fn encode<'e>(
    entries: impl IntoIterator<Item = (&'e [u8], &'e Entry, bool)>,
    hash: usize,
) -> Vec<u8> {
    let mut bytes = b"DIRC\0\0\0\x03\0\0\0\0".to_vec();
    let mut count = 0u32;
    for (path, entry, is_new) in entries {
        let start = bytes.len();
        bytes.resize(start + 24, 0);
        bytes.extend_from_slice(&entry.mode.to_be_bytes());
        bytes.resize(start + OBJECT_AT, 0);
        bytes.extend_from_slice(&entry.object);
        let length = u16::try_from(path.len()).unwrap_or(LENGTH).min(LENGTH);
        bytes.extend_from_slice(&(length | if is_new { EXTENDED } else { 0 }).to_be_bytes());
        if is_new {
            bytes.extend_from_slice(&INTENT_TO_ADD.to_be_bytes());
        }
        bytes.extend_from_slice(path);
        bytes.resize(start + ((bytes.len() - start + 8) & !7), 0);
        count += 1;
    }
    if let Some(number) = bytes.get_mut(8..12) {
        number.copy_from_slice(&count.to_be_bytes());
    }
    bytes.resize(bytes.len() + hash, 0);
    bytes
}

/// Replaces everything behind the entries by the extension `TREE`; false if the bytes are no index, or one with a conflict.
pub(crate) fn remember(bytes: &mut Vec<u8>, hash: usize, tree: &[u8]) -> bool {
    let mut in_conflict = false;
    let end = walk(bytes, hash, |slot| in_conflict |= slot.flags & STAGE != 0);
    let (Some(end), Ok(length)) = (end.filter(|_| !in_conflict), u32::try_from(tree.len())) else {
        return false;
    };
    bytes.truncate(end);
    bytes.extend_from_slice(b"TREE");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(tree);
    bytes.resize(bytes.len() + hash, 0);
    true
}

fn unreadable(error: &FsError) -> Reason {
    Reason::from_error(Code::EvidenceFailed, error)
}

/// The bytes of an index and when it was written; `None` if there is none yet.
///
/// # Errors
/// A reason where it cannot be read, or is too large.
pub(crate) fn read(path: &Path) -> Result<Option<(Vec<u8>, Moment)>, Reason> {
    let file = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let metadata = file
        .metadata()
        .map_err(|source| unreadable(&FsError { action: "looking at", path: path.to_path_buf(), source }))?;
    let written = Stamp::from(&metadata).modified();
    let bytes = fs::read_limited(&file, path, MAX_INDEX_BYTES).map_err(|error| unreadable(&error))?;
    let too_large =
        || Reason::new(Code::EvidenceFailed, format!("`{}` is larger than 512 MB", path.display()));
    Ok(Some((bytes.ok_or_else(too_large)?, written)))
}

/// An index that git has just written.
///
/// # Errors
/// A reason where it is not there, or as `read`.
pub(crate) fn read_written(path: &Path) -> Result<Vec<u8>, Reason> {
    let gone = || Reason::new(Code::EvidenceFailed, format!("`{}` is gone", path.display()));
    Ok(read(path)?.ok_or_else(gone)?.0)
}

/// Reads the entries of an index; of a path in conflict none.
///
/// # Errors
/// A reason where the bytes are no index.
pub(crate) fn entries(bytes: &[u8], hash: usize) -> Result<Entries, Reason> {
    let mut found = Entries::new();
    let end = walk(bytes, hash, |slot| {
        if slot.flags & STAGE == 0 {
            found.insert(slot.path.to_vec(), Entry { mode: slot.mode, object: slot.object.to_vec() });
        }
    });
    end.map(|_| found).ok_or_else(|| broken("its entries have an unknown format"))
}

/// Says whether all of the index is in its own file.
#[must_use]
pub(crate) fn form(bytes: &[u8], hash: usize) -> Form {
    let Some(mut at) = walk(bytes, hash, |_| {}) else { return Form::Whole };
    let mut form = Form::Whole;
    while let (Some(name), Some(length)) = (bytes.get(at..at + 4), number(bytes, at + 4)) {
        if at + hash >= bytes.len() {
            break;
        }
        if name == b"link" {
            let shared = bytes.get(at + 8..at + 8 + hash).filter(|id| id.iter().any(|byte| *byte != 0));
            form = Form::Folded(shared.map(|id| format!("sharedindex.{}", hexadecimal(id))));
        } else if name == b"sdir" && form == Form::Whole {
            form = Form::Folded(None);
        }
        at = at.saturating_add(8).saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    }
    form
}

/// The tree of all entries, as the extension `TREE` names it; `None` where an entry was changed since git computed it.
#[must_use]
pub(crate) fn tree(bytes: &[u8], hash: usize) -> Option<String> {
    let mut at = walk(bytes, hash, |_| {})?;
    loop {
        let (name, length) = (bytes.get(at..at + 4)?, usize::try_from(number(bytes, at + 4)?).ok()?);
        let body = bytes.get(at + 8..(at + 8).checked_add(length)?)?;
        if name == b"TREE" {
            // Its name, which is empty, then `entries trees`: a negative number means that it is not known.
            let line = body.strip_prefix(b"\0")?;
            let end = memchr::memchr(b'\n', line)?;
            let is_known = line.first().is_some_and(u8::is_ascii_digit);
            return line.get(end + 1..end + 1 + hash).filter(|_| is_known).map(hexadecimal);
        }
        at += 8 + length;
    }
}

/// Makes git look again at what may have changed unseen: every file that was changed in or after the second `since`
/// (git compares whole seconds), and every file that is there although it is marked as "assume unchanged" or "skip".
///
/// # Errors
/// A reason where the bytes are no index.
pub(crate) fn distrust(
    bytes: &mut [u8],
    hash: usize,
    since: i64,
    is_there: impl Fn(&[u8]) -> bool,
) -> Result<(), Reason> {
    let mut changes: Vec<(usize, Vec<u8>)> = Vec::new();
    let copy = &*bytes;
    let end = walk(copy, hash, |slot| {
        let seconds = [slot.start, slot.start + 8].map(|at| number(copy, at).map_or(0, i64::from));
        if seconds.iter().any(|second| *second >= since) {
            changes.push((slot.start, vec![0; 16]));
        }
        if slot.flags & ASSUME_VALID != 0 {
            changes.push((slot.flags_at, (slot.flags & !ASSUME_VALID).to_be_bytes().to_vec()));
        }
        if slot.more_flags & SKIP_WORKTREE != 0 && is_there(slot.path) {
            let flags = slot.more_flags & !SKIP_WORKTREE;
            changes.push((slot.flags_at + 2, flags.to_be_bytes().to_vec()));
        }
    });
    end.ok_or_else(|| broken("its entries have an unknown format"))?;
    // git takes a sum of zeros for "not summed".
    changes.push((bytes.len().saturating_sub(hash), vec![0; hash]));
    for (at, new) in changes {
        if let Some(old) = bytes.get_mut(at..at + new.len()) {
            old.copy_from_slice(&new);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_index_is_an_error_and_never_a_panic() {
        assert!(entries(&empty(20), 20).unwrap().is_empty());
        assert!(entries(b"", 20).is_err());
        let mut bytes = b"DIRC\0\0\0\x02\0\0\0\x01".to_vec();
        for _ in 0..200 {
            assert!(entries(&bytes, 20).is_err(), "{} bytes", bytes.len());
            assert_eq!(form(&bytes, 20), Form::Whole);
            bytes.push(0xff);
        }
        assert!(entries(b"DIRC\0\0\0\x09\0\0\0\0", 20).is_err());
        assert!(entries(b"something else entirely", 20).is_err());
    }

    #[test]
    fn a_packed_number_is_read_as_git_writes_it() {
        assert_eq!(varint(&[0x05]), Some((5, 1)));
        assert_eq!(varint(&[0x80, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0x81, 0x01]), Some((257, 2)));
        assert_eq!(varint(&[0x80; 20]), None);
    }
}
