//! The position of each value and key in a JSON text.
//!
//! Works on text that a JSON parser has accepted, and only when there is something to explain; on any other text
//! it finds less, never panics. Not responsible for judging the text.

use std::collections::BTreeMap;

/// A place in a text: line and column in characters, from 1.
pub type Position = (usize, usize);

/// The places of all values and keys of a JSON text, by JSON pointer.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    values: BTreeMap<String, Position>,
    keys: BTreeMap<String, Position>,
    /// Pointers of keys that are repeated in one object, with the place of the repetition.
    pub duplicates: Vec<(String, Position)>,
}

impl Locations {
    /// Scans a text.
    #[must_use]
    pub fn scan(text: &str) -> Self {
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            text,
            at: 0,
            found: Self::default(),
            depth: 0,
            mark: (0, (1, 1)),
        };
        scanner.value("");
        scanner.found
    }

    /// Notes the place of a value, for a reader of another format.
    pub(crate) fn place_value(&mut self, pointer: String, at: Position) {
        self.values.insert(pointer, at);
    }

    /// Notes the place of a key, for a reader of another format.
    pub(crate) fn place_key(&mut self, pointer: String, at: Position) {
        self.keys.insert(pointer, at);
    }

    /// The places below a pointer, with their pointers from there.
    #[must_use]
    pub fn below(&self, pointer: &str) -> Self {
        let part = |places: &BTreeMap<String, Position>| {
            let from = places.range(pointer.to_owned()..).take_while(|(key, _)| key.starts_with(pointer));
            let within = from.filter_map(|(key, place)| Some((key.strip_prefix(pointer)?, *place)));
            let own = within.filter(|(rest, _)| rest.is_empty() || rest.starts_with('/'));
            own.map(|(rest, place)| (rest.to_owned(), place)).collect()
        };
        Self { values: part(&self.values), keys: part(&self.keys), duplicates: Vec::new() }
    }

    /// The place of a value; of its nearest ancestor if it has none; else the start.
    #[must_use]
    pub fn value(&self, pointer: &str) -> Position {
        let mut pointer = pointer;
        loop {
            if let Some(position) = self.values.get(pointer) {
                return *position;
            }
            match pointer.rsplit_once('/') {
                Some((parent, _)) => pointer = parent,
                None => return (1, 1),
            }
        }
    }

    /// The place of a key.
    #[must_use]
    pub fn key(&self, pointer: &str) -> Position {
        self.keys.get(pointer).copied().unwrap_or_else(|| self.value(pointer))
    }
}

/// Line and column of a byte offset.
#[must_use]
pub fn position(text: &[u8], offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
    (line, column)
}

/// A key as a part of a JSON pointer.
#[must_use]
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The key of a part of a JSON pointer.
#[must_use]
pub fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

struct Scanner<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    found: Locations,
    depth: usize,
    /// An offset and its place; the next place is counted from there, so that a scan stays linear.
    mark: (usize, Position),
}

impl Scanner<'_> {
    fn peek(&mut self) -> u8 {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn here(&mut self) -> Position {
        let (offset, (mut line, mut column)) = self.mark;
        for byte in self.bytes.get(offset..self.at).unwrap_or_default() {
            match byte {
                b'\n' => (line, column) = (line + 1, 1),
                // The later bytes of a character.
                0x80..=0xBF => {}
                _ => column += 1,
            }
        }
        self.mark = (self.at, (line, column));
        (line, column)
    }

    fn value(&mut self, pointer: &str) {
        let first = self.peek();
        // The first of two equal keys keeps its place.
        let here = self.here();
        self.found.values.entry(pointer.to_owned()).or_insert(here);
        self.depth += 1;
        match first {
            _ if self.depth > 200 => self.at = self.bytes.len(),
            b'{' => self.object(pointer),
            b'[' => self.array(pointer),
            b'"' => drop(self.string()),
            _ => {
                while self.bytes.get(self.at).is_some_and(|b| !b.is_ascii_whitespace() && !b",]}".contains(b))
                {
                    self.at += 1;
                }
            }
        }
        self.depth -= 1;
    }

    fn object(&mut self, pointer: &str) {
        self.at += 1;
        while self.peek() == b'"' {
            let here = self.here();
            let key = self.string();
            let child = format!("{pointer}/{}", escape(&key));
            if self.found.keys.insert(child.clone(), here).is_some() {
                self.found.duplicates.push((child.clone(), here));
            }
            if self.peek() == b':' {
                self.at += 1;
            }
            self.value(&child);
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn array(&mut self, pointer: &str) {
        self.at += 1;
        let mut index = 0usize;
        while !matches!(self.peek(), b']' | b'}' | 0) {
            self.value(&format!("{pointer}/{index}"));
            index += 1;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at = self.at.saturating_add(1).min(self.bytes.len());
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_keys_are_found_at_their_lines_and_columns() {
        let text = "{\n  \"a\": {\"b/c\": [1, {\"d\": 2}]},\n  \"ä\": \"x\\\"}\", \"e\": 3\n}";
        let found = Locations::scan(text);
        assert_eq!(found.value(""), (1, 1));
        assert_eq!(found.key("/a"), (2, 3));
        assert_eq!(found.value("/a/b~1c/1/d"), (2, 26));
        assert_eq!(found.key("/e"), (3, 16));
        assert_eq!(found.value("/e/absent"), found.value("/e"));
    }

    #[test]
    fn repeated_keys_are_found_where_they_are_repeated() {
        let found = Locations::scan("{\"a\": {\"b\": 1,\n\"b\": 2}, \"c\": 1}");
        assert_eq!(found.duplicates, [("/a/b".to_owned(), (2, 1))]);
    }

    #[test]
    fn a_part_of_a_document_has_its_own_pointers_and_the_places_of_the_file() {
        let items: Vec<String> = (0..12).map(|n| format!("{{\"a\": {n}}}")).collect();
        let found = Locations::scan(&format!("[{}]", items.join(",\n")));
        let (first, last) = (found.below("/1"), found.below("/11"));
        assert_eq!((first.value(""), first.key("/a"), first.value("/a")), ((2, 1), (2, 2), (2, 7)));
        assert_eq!((last.value("/a"), last.value("/absent")), ((12, 7), (12, 1)));
    }

    #[test]
    fn text_that_is_not_json_does_no_harm() {
        for text in ["", "{", "[[[", "{\"a", "{\"a\\", "}{", "[}", "\"", &"[".repeat(100_000)] {
            let _ = Locations::scan(text);
        }
    }
}
