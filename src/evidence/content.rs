//! The content of files: SHA-256, whole small files, and those that are kept for the patch.
//!
//! Hard rule: no look reads or keeps more than a bound, or reads longer than its deadline, and nothing is read through a link.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::git::Deadline;
use crate::git::index::path_of;
use crate::job::{Reason, digest};

/// A larger file has no SHA-256 here.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Of more bytes the rest is not read.
const MAX_BYTES: u64 = 2 << 30;

/// So much is kept in all.
const MAX_KEPT_BYTES: u64 = 8 << 20;

/// The content of a larger file is not kept: its change would not find room in the patch.
const MAX_KEPT_FILE_BYTES: u64 = 1 << 20;

/// So many files are kept: to read more takes longer than the look.
const MAX_KEPT_FILES: usize = 250;

/// What may still be read.
#[derive(Debug)]
pub(super) struct Hashing {
    left: u64,
    deadline: Deadline,
    /// True if a file was left out because of the sum.
    pub cut: bool,
}

impl Hashing {
    /// Begins with the whole bound.
    #[must_use]
    pub(super) fn until(deadline: Deadline) -> Self {
        Self { left: MAX_BYTES, deadline, cut: false }
    }

    /// The SHA-256 of a file; `None` if it is too large, too much, unreadable or no file. Never through a link, neither at the
    /// end of the path nor on the way.
    ///
    /// # Errors
    /// A reason where the time is over.
    pub(super) fn file(&mut self, top: &Path, path: &[u8]) -> Result<Option<String>, Reason> {
        let Some((file, length)) = open(top, path) else { return Ok(None) };
        if length > MAX_FILE_BYTES {
            return Ok(None);
        }
        if length > self.left {
            self.cut = true;
            return Ok(None);
        }
        self.left -= length;
        let deadline = self.deadline;
        match digest::sha256_of(InTime { file: file.take(MAX_FILE_BYTES), deadline }) {
            Ok(sha256) => Ok(Some(sha256)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let path = path_of(path);
                Err(self.deadline.missed(&format!("reading `{}`", path.display())))
            }
            Err(_) => Ok(None),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only reads, and nothing may lead out of the worktree")]
fn open(top: &Path, path: &[u8]) -> Option<(File, u64)> {
    let dir = File::open(top).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = File::from(rustix::fs::openat2(&dir, path_of(path), flags, Mode::empty(), resolve).ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata.len()))
}

/// The content of a file; `None` if it is larger than this, unreadable or no file. Never through a link.
#[must_use]
pub(super) fn read(top: &Path, path: &[u8], max: u64) -> Option<Vec<u8>> {
    let (file, length) = open(top, path).filter(|(_, length)| *length <= max)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(max + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= max).then_some(bytes)
}

/// The SHA-256 of the text of a link.
#[must_use]
pub(super) fn of_link(path: &Path) -> Option<String> {
    let text = std::fs::read_link(path).ok()?;
    Some(digest::sha256(text.as_os_str().as_bytes()))
}

/// A file that is read as long as there is time.
struct InTime {
    file: io::Take<File>,
    deadline: Deadline,
}

impl Read for InTime {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buffer)
    }
}

/// Files whose content the repository does not have: untracked, or changed before the job. Those that found no room have
/// no content.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    pub(super) contents: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    files: usize,
    bytes: u64,
}

impl Kept {
    /// Keeps the content of a file or the text of a link, if there is room.
    pub fn keep(&mut self, top: &Path, path: &[u8]) {
        let left = MAX_KEPT_BYTES.saturating_sub(self.bytes).min(MAX_KEPT_FILE_BYTES);
        let link = || Some(std::fs::read_link(top.join(path_of(path))).ok()?.into_os_string().into_vec());
        let content = match self.files < MAX_KEPT_FILES {
            true => read(top, path, left).or_else(link),
            false => None,
        };
        if let Some(content) = &content {
            self.files += 1;
            self.bytes += content.len() as u64;
        }
        self.contents.insert(path.to_vec(), content);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::Code;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test plays the agent")]
    fn so_many_large_files_are_read_and_no_more_and_none_after_the_time() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), "12345").unwrap();
        }
        let mut hashing =
            Hashing { left: 9, ..Hashing::until(Deadline::new("a look", Duration::from_secs(60))) };
        let sha256 = Some(digest::sha256(b"12345"));
        assert_eq!(hashing.file(dir.path(), b"a"), Ok(sha256));
        assert!(!hashing.cut);
        assert_eq!(hashing.file(dir.path(), b"b"), Ok(None));
        assert!(hashing.cut);
        let mut late = Hashing::until(Deadline::new("a look", Duration::ZERO));
        let reason = late.file(dir.path(), b"c").unwrap_err();
        assert_eq!(reason.code, Code::EvidenceFailed);
        assert!(reason.message.contains("reading `c`"), "{}", reason.message);
    }
}
