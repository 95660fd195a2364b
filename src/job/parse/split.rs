//! Cuts a stream into job documents: one object, several, JSON Lines, or an array.
//!
//! Responsible for where each document begins and ends and which line that is; `parse` judges what is in it. Keeps one
//! document at a time, and of one that is too large nothing. Hard rule: no byte of a document is changed.
//!
//! Which of the four it is, the first bytes tell: `[` is an array; an object that ends on the line on which it begins
//! is followed by JSON Lines, where a mistake costs its own line only; an object over several lines is followed by
//! others of its kind. Whatever else comes is one document, which `parse` refuses.
//!
//! The stream reader of `serde_json` does not do: it ends with the first mistake, holds a document of any size whole, and
//! counts columns in bytes. Here a document that is broken or too large costs only itself, also within an array.

use super::document::{MAX_JOB_BYTES, too_large};
use super::problem::Problem;

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// One document of a stream, or the problem in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Its bytes, or the problem there, counted from line 1 and column 1.
    pub content: Result<Vec<u8>, Problem>,
}

/// Takes a stream in parts of any size.
#[derive(Debug)]
pub(crate) struct Splitter {
    mode: Mode,
    line: usize,
    column: usize,
    /// How much of a byte order mark has been seen; nothing else has then.
    mark: usize,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing but white space so far.
    Start,
    /// Objects, each over as many lines as it likes.
    Objects(Count),
    /// A document a line.
    Lines,
    Array(Expect),
    /// What follows is one document.
    Rest,
    /// The rest cannot be split any more.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    First,
    Later,
}

/// What an array goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    ValueOrEnd,
    Value,
    CommaOrEnd,
    Nothing,
}

/// A document that has begun.
#[derive(Debug)]
struct Open {
    line: usize,
    column: usize,
    bytes: Vec<u8>,
    length: u64,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Open {
    fn keep(&mut self, byte: u8) {
        self.length += 1;
        if self.length <= MAX_JOB_BYTES {
            self.bytes.push(byte);
        } else {
            // It will be refused by its size: nothing of it is needed.
            self.bytes = Vec::new();
        }
    }

    /// Follows brackets and strings; true if this byte closes the value that the document is.
    fn closes(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    return self.depth == 0;
                }
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl Default for Splitter {
    fn default() -> Self {
        Self { mode: Mode::Start, line: 1, column: 1, mark: 0, open: None }
    }
}

impl Splitter {
    /// Takes the next part of the stream; what ends in it is added to `found`.
    pub(crate) fn push(&mut self, part: &[u8], found: &mut Vec<Piece>) {
        for byte in part {
            self.byte(*byte, found);
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 1),
                // The later bytes of a character.
                0x80..=0xBF => {}
                _ => self.column += 1,
            }
        }
    }

    /// Says that the stream is at its end.
    pub(crate) fn finish(mut self, found: &mut Vec<Piece>) {
        if self.open.is_some() {
            // `parse` says what is missing in it.
            self.end(found);
            return;
        }
        match self.mode {
            Mode::Start => {
                let empty = Problem::at(1, 1, "the file is empty");
                self.wrong(empty.expected("a job, an array of jobs, or JSON Lines").torn(), found);
            }
            Mode::Array(Expect::Value | Expect::ValueOrEnd | Expect::CommaOrEnd) => {
                self.wrong(
                    Problem::at(1, 1, "the array ends too early: the file is truncated").torn(),
                    found,
                );
            }
            Mode::Array(Expect::Nothing) | Mode::Objects(_) | Mode::Lines | Mode::Rest | Mode::Lost => {}
        }
    }

    fn byte(&mut self, byte: u8, found: &mut Vec<Piece>) {
        if self.open.is_some() {
            self.inside(byte, found);
            return;
        }
        match self.mode {
            Mode::Lost => {}
            Mode::Start => self.first(byte),
            _ if byte.is_ascii_whitespace() => {}
            Mode::Objects(_) if byte != b'{' => self.begin(Mode::Rest, byte),
            Mode::Objects(_) | Mode::Lines | Mode::Rest => self.begin(self.mode, byte),
            Mode::Array(expect) => self.in_array(expect, byte, found),
        }
    }

    fn first(&mut self, byte: u8) {
        let at_start = self.line == 1 && self.column == if self.mark == 0 { 1 } else { 2 };
        if at_start && BYTE_ORDER_MARK.get(self.mark) == Some(&byte) {
            self.mark += 1;
            if self.mark == BYTE_ORDER_MARK.len() {
                self.column = 1;
            }
            return;
        }
        if (1..BYTE_ORDER_MARK.len()).contains(&self.mark) {
            self.begin(Mode::Rest, BYTE_ORDER_MARK[0]);
            if let Some(open) = &mut self.open {
                open.column = 1;
                BYTE_ORDER_MARK.iter().take(self.mark).skip(1).for_each(|byte| open.keep(*byte));
                open.keep(byte);
            }
            return;
        }
        match byte {
            _ if byte.is_ascii_whitespace() => {}
            b'[' => self.mode = Mode::Array(Expect::ValueOrEnd),
            b'{' => self.begin(Mode::Objects(Count::First), byte),
            _ => self.begin(Mode::Rest, byte),
        }
    }

    fn begin(&mut self, mode: Mode, byte: u8) {
        let (line, column) = (self.line, self.column);
        self.mode = mode;
        let mut open =
            Open { line, column, bytes: Vec::new(), length: 0, depth: 0, in_string: false, escaped: false };
        open.closes(byte);
        open.keep(byte);
        self.open = Some(open);
    }

    fn inside(&mut self, byte: u8, found: &mut Vec<Piece>) {
        let Some(open) = &mut self.open else { return };
        match self.mode {
            Mode::Lines if byte == b'\n' => self.end(found),
            Mode::Lines | Mode::Rest | Mode::Start | Mode::Lost => open.keep(byte),
            Mode::Objects(count) => {
                open.keep(byte);
                if open.closes(byte) {
                    let on_one_line = open.line == self.line;
                    if count == Count::First && on_one_line {
                        self.mode = Mode::Lines;
                    } else {
                        self.mode = Mode::Objects(Count::Later);
                    }
                    self.end(found);
                }
            }
            Mode::Array(_) => self.inside_array(byte, found),
        }
    }

    fn inside_array(&mut self, byte: u8, found: &mut Vec<Piece>) {
        let Some(open) = &mut self.open else { return };
        let bare = open.depth == 0 && !open.in_string;
        if bare && (byte.is_ascii_whitespace() || matches!(byte, b',' | b']')) {
            // The end of a number or a word: it is not a part of it.
            self.end(found);
            self.byte(byte, found);
            return;
        }
        open.keep(byte);
        if open.closes(byte) {
            self.end(found);
        }
    }

    fn in_array(&mut self, expect: Expect, byte: u8, found: &mut Vec<Piece>) {
        let next = match (expect, byte) {
            (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') => Expect::Nothing,
            (Expect::CommaOrEnd, b',') => Expect::Value,
            (Expect::ValueOrEnd | Expect::Value, byte) if !matches!(byte, b',' | b']' | b'}') => {
                self.begin(Mode::Array(Expect::CommaOrEnd), byte);
                return;
            }
            _ => {
                let (message, expected) = match expect {
                    Expect::Value => ("not JSON: a value is missing", "a job"),
                    Expect::ValueOrEnd => ("not JSON: a value is missing", "a job or `]`"),
                    Expect::CommaOrEnd => ("not JSON: two jobs are not separated", "`,` or `]`"),
                    Expect::Nothing => ("not JSON: trailing characters", "nothing after the array"),
                };
                self.wrong(Problem::at(1, 1, message).expected(expected), found);
                self.mode = Mode::Lost;
                return;
            }
        };
        self.mode = Mode::Array(next);
    }

    fn end(&mut self, found: &mut Vec<Piece>) {
        let Some(mut open) = self.open.take() else { return };
        let blank = open.bytes.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
        open.bytes.truncate(open.bytes.len() - blank);
        let content = if open.length > MAX_JOB_BYTES { Err(too_large(open.length)) } else { Ok(open.bytes) };
        found.push(Piece { line: open.line, column: open.column, content });
    }

    fn wrong(&self, problem: Problem, found: &mut Vec<Piece>) {
        found.push(Piece { line: self.line, column: self.column, content: Err(problem) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, column and text or problem of each piece; the same for parts of every size.
    fn split(text: impl AsRef<[u8]>) -> Vec<(usize, usize, String)> {
        let cut = |size: usize| {
            let (mut splitter, mut found) = (Splitter::default(), Vec::new());
            text.as_ref().chunks(size).for_each(|part| splitter.push(part, &mut found));
            splitter.finish(&mut found);
            found
        };
        let whole = cut(1 << 20);
        for size in [1, 2, 7] {
            assert_eq!(cut(size), whole, "{size}");
        }
        let shown = |content: Result<Vec<u8>, Problem>| match content {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(problem) => format!("! {problem}"),
        };
        whole.into_iter().map(|piece| (piece.line, piece.column, shown(piece.content))).collect()
    }

    fn piece(line: usize, column: usize, text: &str) -> (usize, usize, String) {
        (line, column, text.to_owned())
    }

    #[test]
    fn an_object_is_kept_as_it_is_without_the_space_around_it() {
        assert_eq!(
            split("\n {\"a\": \"}\\\"\",\n \"b\": {}}\n\n"),
            [piece(2, 2, "{\"a\": \"}\\\"\",\n \"b\": {}}")]
        );
    }

    #[test]
    fn a_line_that_is_not_closed_does_not_swallow_the_next_one() {
        let found = split("{\"a\": 1}\r\n\n{\"b\": \n{\"c\": 3}\n  {\"d\": 4} \n");
        let want = [
            piece(1, 1, "{\"a\": 1}"),
            piece(3, 1, "{\"b\":"),
            piece(4, 1, "{\"c\": 3}"),
            piece(5, 3, "{\"d\": 4}"),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn objects_over_several_lines_may_follow_each_other() {
        let found = split("{\n\"a\": 1\n}\n{\n\"b\": 2\n} {\"c\": 3}");
        assert_eq!(
            found,
            [piece(1, 1, "{\n\"a\": 1\n}"), piece(4, 1, "{\n\"b\": 2\n}"), piece(6, 3, "{\"c\": 3}")]
        );
    }

    #[test]
    fn an_array_yields_its_elements_whatever_they_are() {
        let found = split(" [ {\"ä\": [\"]\"]}, {\"b\": 2},\n7,\"x,]\",[1]] \n");
        let want = [
            piece(1, 4, "{\"ä\": [\"]\"]}"),
            piece(1, 18, "{\"b\": 2}"),
            piece(2, 1, "7"),
            piece(2, 3, "\"x,]\""),
            piece(2, 9, "[1]"),
        ];
        assert_eq!(found, want);
        assert_eq!(split("[]"), []);
        assert_eq!(split("[\n]\n"), []);
    }

    #[test]
    fn a_broken_array_is_told_at_the_place_where_it_breaks() {
        let last = |text: &str| split(text).pop().unwrap();
        assert_eq!(last("[{},\n]"), piece(2, 1, "! not JSON: a value is missing, expected a job"));
        assert_eq!(
            last("[{} {}]"),
            piece(1, 5, "! not JSON: two jobs are not separated, expected `,` or `]`")
        );
        assert_eq!(
            last("[{}] x"),
            piece(1, 6, "! not JSON: trailing characters, expected nothing after the array")
        );
        assert_eq!(last("[{},"), piece(1, 5, "! the array ends too early: the file is truncated"));
        assert_eq!(last("["), piece(1, 2, "! the array ends too early: the file is truncated"));
        assert_eq!(split("[{\"a\": "), [piece(1, 2, "{\"a\":")]);
    }

    #[test]
    fn what_is_no_json_is_one_document() {
        assert_eq!(split("hello\nworld\n"), [piece(1, 1, "hello\nworld")]);
        assert_eq!(split(b"\xFF\xFE{\0"), [piece(1, 1, "\u{fffd}\u{fffd}{\0")]);
        assert_eq!(split(b"\xEF\xBB{}"), [piece(1, 1, "\u{fffd}{}")]);
        assert_eq!(
            split("{\"a\": 1} x\ny"),
            [piece(1, 1, "{\"a\": 1}"), piece(1, 10, "x"), piece(2, 1, "y")]
        );
        let empty = "! the file is empty, expected a job, an array of jobs, or JSON Lines";
        assert_eq!(split(""), [piece(1, 1, empty)]);
        assert_eq!(split("\n\n"), [piece(3, 1, empty)]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(split("\u{feff}{\"a\": 1}"), [piece(1, 1, "{\"a\": 1}")]);
        assert_eq!(split("\u{feff}[{\"a\": 1}]"), [piece(1, 2, "{\"a\": 1}")]);
    }

    #[test]
    fn a_document_over_the_limit_costs_only_itself() {
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(1_000_000));
        let found = split(format!("{{}}\n{large}\n{{\"b\": 1}}\n"));
        assert_eq!((found.len(), &found[0], &found[2]), (3, &piece(1, 1, "{}"), &piece(3, 1, "{\"b\": 1}")));
        assert!(found[1].2.starts_with("! the file has 1000009 bytes"), "{:?}", found[1]);
        let found = split(format!("[{{\"a\": nul}}, {large}, {{\"ä\": tru}}, {{\"b\": 1}}]"));
        let places: Vec<usize> = found.iter().map(|(_, column, _)| *column).collect();
        assert_eq!(places, [2, 14, 14 + large.len() + 2, 14 + large.len() + 14]);
        assert_eq!((&*found[0].2, &*found[3].2), ("{\"a\": nul}", "{\"b\": 1}"));
        assert!(found[1].2.starts_with("! the file has 1000009 bytes"), "{:?}", found[1]);
    }
}
