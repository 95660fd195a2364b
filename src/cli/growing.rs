//! Reads a log while it grows, and while its middle is dropped (`process::log`).
//!
//! Hard rule: bytes dropped before they could be read are counted and reported, each once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::process::log::{MARK, left_out};

/// So many bytes before the position tell whether it is still one of this layout.
const KEPT: usize = 64;

/// A part of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Its next bytes.
    Bytes(&'a [u8]),
    /// So many bytes were dropped before they could be read.
    Dropped(u64),
}

/// The position of a reader.
#[derive(Debug, Default)]
pub(super) struct GrowingLog {
    position: u64,
    /// The last bytes before the position.
    last: Vec<u8>,
    /// The position of the mark that replaces the middle, and how much it replaces.
    mark: Option<(u64, u64)>,
    /// True if the layout was seen to change: its writer may be in the middle of it.
    changing: bool,
}

impl GrowingLog {
    /// Gives what was added since the last time, until `take` has had enough.
    ///
    /// # Errors
    /// The file system's, and that of `take`.
    pub(super) fn read_on(
        &mut self,
        path: &Path,
        take: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = crate::fs::open_regular(path).map_err(|error| error.source)?;
        if self.position == 0 && self.mark.is_none() {
            self.mark = match find_mark(&file)? {
                Some(at) => mark_at(&file, at)?.map(|count| (at, count)),
                None => None,
            };
        }
        if self.has_changed(&file)? {
            let settled = std::mem::replace(&mut self.changing, true);
            // The writer copies the end, writes the mark, and cuts the file: what it does takes less than a look.
            if !settled {
                return Ok(());
            }
            if let Some(dropped) = self.find_place(&file)? {
                take(Piece::Dropped(dropped))?;
            }
        }
        self.changing = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = file.read_at(&mut buffer, self.position)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.position += count as u64;
            self.last.extend_from_slice(bytes.get(count.saturating_sub(KEPT)..).unwrap_or_default());
            self.last.drain(..self.last.len().saturating_sub(KEPT));
            take(Piece::Bytes(bytes))?;
        }
    }

    fn has_changed(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() < self.position {
            return Ok(true);
        }
        if let Some((at, known)) = self.mark {
            return Ok(mark_at(file, at)? != Some(known));
        }
        let mut before = vec![0; self.last.len()];
        file.read_exact_at(&mut before, self.position - self.last.len() as u64)?;
        Ok(before != self.last)
    }

    /// Translates a position of the old layout into the new one; and how much was dropped in between, if anything.
    fn find_place(&mut self, file: &File) -> io::Result<Option<u64>> {
        let at = match self.mark {
            Some((at, _)) => at,
            None => find_mark(file)?.unwrap_or(0),
        };
        let Some(now) = mark_at(file, at)? else {
            // Another program cut it: it is read from its beginning.
            *self = Self::default();
            return Ok(None);
        };
        let before = self.mark.map_or(0, |(_, before)| before);
        let old_body = at + if before > 0 { MARK } else { 0 };
        self.mark = Some((at, now));
        if self.position <= at {
            return Ok(None);
        }
        // How many bytes of the output behind the head were read or reported as dropped.
        let read = before + self.position.saturating_sub(old_body);
        self.last.clear();
        self.position = at + MARK + read.saturating_sub(now);
        Ok(now.checked_sub(read).filter(|dropped| *dropped > 0))
    }
}

fn mark_at(file: &File, at: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; MARK as usize];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(left_out(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn find_mark(file: &File) -> io::Result<Option<u64>> {
    let begin = memchr::memmem::Finder::new("\n[engine: ");
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        for found in begin.find_iter(bytes) {
            if mark_at(file, at + found as u64)?.is_some() {
                return Ok(Some(at + found as u64));
            }
        }
        if count < MARK as usize {
            return Ok(None);
        }
        // A character across the edge.
        at += (count - MARK as usize + 1) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Locked;
    use crate::process::log::CappedLog;

    /// A log of at most 8 KiB of numbered lines, read after every so many of them.
    fn followed(every: usize, lines: usize) -> (String, u64, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = file.reopen().unwrap();
        let mut log = CappedLog::new(Locked::exclusive(opened, file.path()).unwrap().unwrap(), 8192).unwrap();
        let (mut shown, mut dropped, mut all) = (String::new(), 0, String::new());
        let mut reader = GrowingLog::default();
        let mut look = |shown: &mut String, dropped: &mut u64| {
            // Twice: the first look after a change waits.
            for _ in 0..2 {
                reader
                    .read_on(file.path(), &mut |piece| {
                        match piece {
                            Piece::Bytes(bytes) => shown.push_str(std::str::from_utf8(bytes).unwrap()),
                            Piece::Dropped(count) => *dropped += count,
                        }
                        Ok(())
                    })
                    .unwrap();
            }
        };
        for number in 0..lines {
            let line = format!("{number:07}\n");
            log.write(line.as_bytes()).unwrap();
            all.push_str(&line);
            if number % every == every - 1 {
                look(&mut shown, &mut dropped);
            }
        }
        look(&mut shown, &mut dropped);
        (shown, dropped, all)
    }

    #[test]
    fn a_reader_that_keeps_up_sees_every_byte_once_although_the_middle_is_dropped() {
        for every in [1, 7, 100, 250] {
            let (shown, dropped, all) = followed(every, 20_000);
            assert_eq!(dropped, 0, "{every}");
            assert!(shown == all, "{every}");
        }
    }

    #[test]
    fn what_a_slow_reader_missed_is_counted_to_the_byte() {
        for every in [601, 1000, 5003, 19_999] {
            let (shown, dropped, all) = followed(every, 20_000);
            // If the reader met the mark itself, the mark reports the gap.
            let (mut marked, mut kept) = (0, 0);
            for line in shown.split('\n') {
                match line
                    .strip_prefix("[engine: ")
                    .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
                {
                    Some(count) => marked += count,
                    None => kept += line.len() as u64 + 1,
                }
            }
            assert!(marked + dropped > 0, "{every}");
            // The newline before the mark, and the last piece of `split`.
            let extra = if marked > 0 { 2 } else { 1 };
            assert_eq!(kept - extra + marked + dropped, all.len() as u64, "{every}");
            assert!(shown.ends_with(&all[all.len() - 64..]), "{every}");
        }
    }
}
