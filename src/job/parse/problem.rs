//! The problems of a file, all at once, each at its place.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::locate::Locations;

/// One thing that is wrong, or that was ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer to the value, empty for the whole document.
    pub pointer: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The message.
    pub message: String,
    /// What would be right.
    pub expected: Option<String>,
    /// A key that may have been meant.
    pub did_you_mean: Option<String>,
    /// What a problem of this kind says about the file.
    #[serde(skip)]
    pub kind: Kind,
}

/// What a problem says about the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// What was written is wrong.
    #[default]
    Wrong,
    /// A key that has no meaning.
    UnknownKey,
    /// The content is gone or cut off, as a power loss or a copy that still goes on leave it.
    Torn,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub struct Problems {
    /// The file as it was named.
    pub file: String,
    /// The problems; at least one.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem at a place of the text.
    pub fn at(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self {
            pointer: String::new(),
            line,
            column,
            message: message.into(),
            expected: None,
            did_you_mean: None,
            kind: Kind::Wrong,
        }
    }

    /// A problem of a value, at its position.
    pub fn of_value(places: &Locations, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let pointer = pointer.into();
        let (line, column) = places.value(&pointer);
        Self { pointer, ..Self::at(line, column, message) }
    }

    /// A problem of a key, at its position.
    pub fn of_key(places: &Locations, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let pointer = pointer.into();
        let (line, column) = places.key(&pointer);
        Self { pointer, ..Self::at(line, column, message) }
    }

    /// Says that the content is gone or cut off.
    #[must_use]
    pub fn torn(mut self) -> Self {
        self.kind = Kind::Torn;
        self
    }

    /// The same problem of a text that begins at a place of a larger one.
    #[must_use]
    pub fn moved(mut self, line: usize, column: usize) -> Self {
        if self.line == 1 {
            self.column += column.saturating_sub(1);
        }
        self.line += line.saturating_sub(1);
        self
    }

    /// Adds what would be right.
    #[must_use]
    pub fn expected(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", one_line(&self.pointer))?;
        }
        f.write_str(&one_line(&self.message))?;
        if let Some(expected) = &self.expected {
            write!(f, ", expected {}", one_line(expected))?;
        }
        if let Some(key) = &self.did_you_mean {
            write!(f, " (did you mean `{}`?)", one_line(key))?;
        }
        Ok(())
    }
}

/// A text on one line: what would begin another line, or another column, is shown as an escape. Keys and values of a file
/// hold what others chose.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(breaks_the_line) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if breaks_the_line(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.into()
}

/// Whether a character ends a line or a column; U+2028 and U+2029 do so for some readers.
#[must_use]
pub fn breaks_the_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}')
}

impl Problems {
    /// One problem of a file.
    #[must_use]
    pub fn one(file: &str, problem: Problem) -> Self {
        Self { file: file.to_owned(), problems: vec![problem] }
    }

    /// True if the content is gone or cut off.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == Kind::Torn)
    }

    /// A line for each problem, as `file:line:column: /pointer: text`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let file = one_line(&self.file);
        self.problems.iter().map(|p| format!("{file}:{}:{}: {p}", p.line, p.column)).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}
