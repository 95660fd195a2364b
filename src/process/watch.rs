//! The seam for a watcher of a tool's output while it comes: line by line, with a say in what the log shows and in when the
//! tool is ended.
//!
//! Everything that a `Watch` gets has passed the redaction. Hard rule: it never blocks.

use std::borrow::Cow;
use std::time::Duration;

use super::stream::Stream;

/// Longest line that is handed to a watch; of a longer one nothing is, and it is counted.
pub(crate) const LONGEST_LINE: usize = 4 << 20;
/// Longest line that is handed on as it is: the texts of a longer one are cut (see `Shortener`).
const LONGEST_WHOLE: usize = 1 << 20;
/// So much is kept of each text in quotes of a line that is too long.
const LONGEST_TEXT: usize = 64 << 10;

/// Reads the output of a tool while it comes.
pub trait Watch {
    /// Takes one line, without its end and redacted; gives what the log shows of it.
    fn line<'a>(&mut self, stream: Stream, line: &'a str, now: Duration) -> Shown<'a>;

    /// Takes note of the time; called whenever the supervisor is awake, at least once a second.
    fn tick(&mut self, now: Duration);

    /// The monotonic time from which the tool is to be ended, if it is.
    fn stop_at(&self) -> Option<Duration>;

    /// Takes note that the tool is asked to end: what it says from now on is not an end of its own.
    fn asked_to_end(&mut self);
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
    shortener: Option<Shortener>,
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
            if self.open.is_empty() && !self.skipping && line.len() <= LONGEST_WHOLE {
                hand_on(line, take);
                continue;
            }
            self.extend(line);
            self.shortener = None;
            if !std::mem::take(&mut self.skipping) {
                let line = std::mem::take(&mut self.open);
                hand_on(&line, take);
                // The room is kept for the next line, unless it was an unusual one.
                if line.capacity() <= 1 << 16 {
                    self.open = line;
                    self.open.clear();
                }
            }
        }
        self.extend(bytes);
    }

    /// Adds to the open line, as short as it has to be.
    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.shortener.is_none() && self.open.len() + bytes.len() <= LONGEST_WHOLE {
            return self.open.extend_from_slice(bytes);
        }
        let open = &mut self.open;
        let shortener = self.shortener.get_or_insert_with(|| {
            let mut shortener = Shortener::default();
            open.retain(|byte| shortener.keeps(*byte));
            shortener
        });
        open.extend(bytes.iter().filter(|byte| shortener.keeps(**byte)));
        if open.len() > LONGEST_LINE {
            (self.open, self.shortener, self.skipping) = (Vec::new(), None, true);
            self.too_long += 1;
        }
    }

    /// Hands on what follows the last line's end.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.open);
        if !line.is_empty() {
            hand_on(&line, take);
        }
    }

    /// How many lines were too long.
    pub(super) fn too_long(&self) -> u64 {
        self.too_long
    }
}

fn hand_on(line: &[u8], take: &mut dyn FnMut(&str)) {
    take(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).as_ref());
}

/// Cuts each text in quotes of a line, so that JSON stays JSON: neither an escape nor a character is cut in two.
#[derive(Debug, Default)]
struct Shortener {
    in_text: bool,
    is_escaped: bool,
    /// The code of the last `\u`, and how many of its digits are still to come.
    code: u32,
    digits: u8,
    kept: usize,
    is_cut: bool,
}

impl Shortener {
    /// Whether the next byte of the line is kept.
    fn keeps(&mut self, byte: u8) -> bool {
        if !self.in_text {
            *self = Self { in_text: byte == b'"', ..Self::default() };
            return true;
        }
        let was_escaped = std::mem::take(&mut self.is_escaped);
        match byte {
            b'"' if !was_escaped => {
                self.in_text = false;
                return true;
            }
            b'u' if was_escaped => (self.digits, self.code) = (4, 0),
            _ if was_escaped => self.code = 0,
            _ if self.digits > 0 => {
                self.digits -= 1;
                self.code = self.code * 16 + char::from(byte).to_digit(16).unwrap_or(0);
            }
            byte => {
                // The second half of a character belongs to the first, and so does a continuation byte.
                let is_inside = (0xd800..0xdc00).contains(&self.code) || byte & 0xc0 == 0x80;
                self.is_cut |= self.kept >= LONGEST_TEXT && !is_inside;
                self.is_escaped = byte == b'\\';
                self.code = if self.is_escaped { self.code } else { 0 };
            }
        }
        self.kept += 1;
        !self.is_cut
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
    fn of_an_event_that_is_too_long_each_text_is_cut_and_the_rest_is_there() {
        for text in ["x", "\u{e4}", "\\u00e4\u{1f600}\"", "\\\\ \u{1f600}", "\u{1}\n"] {
            let long = text.repeat((5 << 18) / text.len());
            let event = serde_json::json!({"a": long, "is_error": false, "b": [long, "short"], "end": "\\"});
            let line = format!("{event}\nnext\n");
            for piece in [1000, 64 << 10] {
                let (mut lines, mut got) = (Lines::default(), Vec::new());
                for bytes in line.as_bytes().chunks(piece) {
                    lines.push(bytes, &mut |line| got.push(line.to_owned()));
                    assert!(lines.open.len() <= LONGEST_LINE);
                }
                assert_eq!((got.len(), lines.too_long()), (2, 0), "{text}");
                let read: serde_json::Value = serde_json::from_str(&got[0]).unwrap();
                assert_eq!((&read["is_error"], &read["b"][1]), (&event["is_error"], &event["b"][1]));
                assert_eq!(read["end"], "\\");
                for cut in [&read["a"], &read["b"][0]] {
                    let cut = cut.as_str().unwrap();
                    assert!(long.starts_with(cut) && cut.len() > LONGEST_TEXT / 8, "{text} {}", cut.len());
                }
            }
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
