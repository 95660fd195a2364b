//! The seam for who reads a tool's output while it comes: line by line, with a say in what the log shows and in when the
//! tool is ended.
//!
//! Everything that a `Watch` gets has passed the redaction. Hard rule: it never blocks.

use std::borrow::Cow;
use std::time::Duration;

use super::output::Stream;

/// Longest line that is handed to a watch; of a longer one nothing is, and it is counted.
pub const LONGEST_LINE: usize = 4 << 20;

/// Reads the output of a tool while it comes.
pub trait Watch {
    /// Takes one line, without its end and redacted; gives what the log shows of it.
    fn line<'a>(&mut self, stream: Stream, line: &'a str, now: Duration) -> Shown<'a>;

    /// Takes note of the time; called whenever the supervisor is awake, at least once a second.
    fn tick(&mut self, now: Duration);

    /// The monotonic time from which the tool is to be ended, if it is.
    fn stop_at(&self) -> Option<Duration>;
}

/// What a log shows of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The line as it is.
    AsItIs,
    /// Nothing.
    Nothing,
    /// This text instead, of one line or several, without the last line's end.
    Text(Cow<'a, str>),
}

/// The lines of one stream, put together from the pieces in which it was read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Vec<u8>,
    /// True while the rest of a line that is too long is thrown away.
    skipping: bool,
    too_long: u64,
}

impl Lines {
    /// Takes bytes and hands on each line that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&str)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.skipping {
                self.skipping = false;
            } else if self.open.is_empty() {
                self.hand_on(line, take);
            } else if self.open.len() + line.len() > LONGEST_LINE {
                self.drop_open();
            } else {
                self.open.extend_from_slice(line);
                let line = std::mem::take(&mut self.open);
                self.hand_on(&line, take);
                // The room is kept for the next line, unless it was an unusual one.
                if line.capacity() <= 1 << 16 {
                    self.open = line;
                    self.open.clear();
                }
            }
        }
        if self.skipping {
            return;
        }
        if self.open.len() + bytes.len() > LONGEST_LINE {
            self.drop_open();
            self.skipping = true;
        } else {
            self.open.extend_from_slice(bytes);
        }
    }

    /// Hands on what stands behind the last line's end.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.open);
        if !line.is_empty() {
            self.hand_on(&line, take);
        }
    }

    /// How many lines were too long.
    pub(super) fn too_long(&self) -> u64 {
        self.too_long
    }

    fn drop_open(&mut self) {
        self.open = Vec::new();
        self.too_long += 1;
    }

    fn hand_on(&mut self, line: &[u8], take: &mut dyn FnMut(&str)) {
        if line.len() > LONGEST_LINE {
            self.too_long += 1;
            return;
        }
        take(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8], piece: usize) -> Vec<String> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for bytes in text.chunks(piece) {
            lines.push(bytes, &mut |line| got.push(line.to_owned()));
        }
        lines.finish(&mut |line| got.push(line.to_owned()));
        got
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        let text = "one\n\ntwo \u{e4}\r\nthree".as_bytes();
        for piece in 1..=text.len() {
            assert_eq!(lines_of(text, piece), ["one", "", "two \u{e4}", "three"], "pieces of {piece}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_counted_and_the_next_one_is_there() {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for _ in 0..5 {
            lines.push(&vec![b'x'; 1 << 20], &mut |line| got.push(line.len()));
        }
        lines.push(b"\nnext\n", &mut |line| got.push(line.len()));
        assert_eq!((got.as_slice(), lines.too_long()), ([4].as_slice(), 1));
        assert!(lines.open.capacity() <= 1 << 16);
    }
}
