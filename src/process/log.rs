//! The live log of an attempt: in order, written at once, of bounded size.
//!
//! Of a longer output the head and the tail are kept: behind the head the file grows to twice the tail, then its last
//! part is copied forward and the rest cut. A reader that follows the file sees all of it; a crash in the middle of the
//! copy leaves some of the tail twice.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::fs;
use crate::lock::Locked;

/// Size of a log if the job does not say: 32 MiB.
pub(crate) const DEFAULT_BYTES: u64 = 32 << 20;

/// A smaller limit is not kept: each time that the tail is full it is moved, and of a tail of a few bytes that would be
/// slower than any tool writes.
pub(crate) const SMALLEST_BYTES: u64 = 4 << 10;

/// A larger limit is none.
const LARGEST_BYTES: u64 = 1 << 50;

/// Opens the file of a log at its first byte.
pub(crate) type OpenLater = Box<dyn FnOnce() -> io::Result<Locked>>;

enum Source {
    Open(Locked),
    Later(Option<OpenLater>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Open(_)) { "Open" } else { "Later" })
    }
}

/// A log file of which this process is the only writer.
#[derive(Debug)]
pub(crate) struct CappedLog {
    source: Source,
    /// Where the log begins; something of others may precede it.
    start: u64,
    head_limit: u64,
    tail_limit: u64,
    /// Bytes of the head and, behind it, of mark and tail.
    length: u64,
    left_out: u64,
    failed: bool,
}

impl CappedLog {
    /// Begins a log at the end of a file; of more than `limit` bytes the head and the tail are kept.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn new(file: Locked, limit: u64) -> io::Result<Self> {
        let start = file.metadata()?.len();
        Ok(Self { start, ..Self::with(Source::Open(file), limit) })
    }

    /// Begins a log whose file is opened when there is something to write: a silent tool leaves none.
    #[must_use]
    pub(crate) fn later(open: OpenLater, limit: u64) -> Self {
        Self::with(Source::Later(Some(open)), limit)
    }

    fn with(source: Source, limit: u64) -> Self {
        let limit = limit.clamp(SMALLEST_BYTES, LARGEST_BYTES);
        let (head_limit, tail_limit) = (limit / 2, (limit / 4).max(1));
        Self { source, start: 0, head_limit, tail_limit, length: 0, left_out: 0, failed: false }
    }

    /// True once there is a file.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.source, Source::Open(_))
    }

    /// Appends bytes. After a failure (full disk) the log stays as it is.
    ///
    /// # Errors
    /// The first failure; later calls do nothing.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let written = self.append(bytes);
        self.failed = written.is_err();
        written
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Source::Later(open) = &mut self.source
            && let Some(open) = open.take()
        {
            let file = open()?;
            self.start = file.metadata()?.len();
            self.source = Source::Open(file);
        }
        for piece in bytes.chunks(usize::try_from(self.tail_limit).unwrap_or(usize::MAX)) {
            fs::write_at(self.file()?, self.start + self.length, piece)?;
            self.length += piece.len() as u64;
            if self.length > self.head_limit + MARK + 2 * self.tail_limit {
                self.drop_middle()?;
            }
        }
        Ok(())
    }

    fn file(&self) -> io::Result<&File> {
        match &self.source {
            Source::Open(file) => Ok(file),
            Source::Later(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn drop_middle(&mut self) -> io::Result<()> {
        let old_body = self.head_limit + if self.left_out == 0 { 0 } else { MARK };
        let keep_from = self.length - self.tail_limit;
        self.left_out += keep_from - old_body;
        let file = self.file()?;
        let target = self.head_limit + MARK;
        let mut buffer = vec![0; usize::try_from(self.tail_limit).unwrap_or(usize::MAX).min(256 << 10)];
        let mut copied = 0;
        while copied < self.tail_limit {
            let want = usize::try_from(self.tail_limit - copied).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..want).unwrap_or_default();
            file.read_exact_at(part, self.start + keep_from + copied)?;
            fs::write_at(file, self.start + target + copied, part)?;
            copied += want as u64;
        }
        fs::write_at(file, self.start + self.head_limit, mark(self.left_out).as_bytes())?;
        let length = target + self.tail_limit;
        fs::cut_at(file, self.start + length)?;
        self.length = length;
        Ok(())
    }
}

/// Length of the line that stands for what is left out.
pub(crate) const MARK: u64 = 64;

/// How many bytes such a line stands for; none if it is not such a line.
#[must_use]
pub(crate) fn left_out(mark: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(mark).ok()?.strip_prefix("\n[engine: ")?;
    let (number, rest) = text.split_once(" bytes left out]")?;
    let rest = rest.strip_suffix('\n')?;
    number.parse().ok().filter(|_| rest.bytes().all(|byte| byte == b'-'))
}

fn mark(left_out: u64) -> String {
    format!("\n{:-<62}\n", format!("[engine: {left_out} bytes left out]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(limit: u64, pieces: &[&[u8]]) -> String {
        let file = tempfile::tempfile().unwrap();
        let locked = Locked::exclusive(file.try_clone().unwrap(), "log".as_ref()).unwrap().unwrap();
        let mut log = CappedLog::new(locked, limit).unwrap();
        for piece in pieces {
            log.write(piece).unwrap();
        }
        let mut text = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn output_below_the_limit_is_all_there() {
        assert_eq!(logged(100, &[b"one\n", b"two\n"]), "one\ntwo\n");
    }

    #[test]
    fn of_a_long_output_the_head_the_tail_and_the_count_are_there() {
        let lines: Vec<String> = (0..50_000).map(|n| format!("{n:06}\n")).collect();
        let pieces: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        let text = logged(14_000, &pieces);
        assert!(text.len() <= 14_000 + 64, "{}", text.len());
        assert!(text.starts_with("000000\n000001\n") && text.ends_with("049998\n049999\n"));
        let (head, rest) = text.split_once("\n[engine: ").unwrap();
        let (number, rest) = rest.split_once(' ').unwrap();
        let tail = rest.split_once("-\n").unwrap().1;
        let left_out: usize = number.parse().unwrap();
        assert_eq!(head.len() + left_out + tail.len(), 350_000);
    }

    #[test]
    fn one_huge_write_is_cut_like_many_small_ones() {
        let text = logged(8192, &[&vec![b'x'; 1_000_000]]);
        assert!(text.len() <= 8192 + 64, "{}", text.len());
    }
}
