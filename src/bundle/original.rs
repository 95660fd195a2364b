//! A file of the original: JSON or YAML to a document, and typed access to it with every mistake at its place.
//!
//! Not responsible for what a key means. Hard rule: a value of the wrong type is a fault, never a default.

use std::fmt;

use serde_json::{Map, Value};

use super::yaml::{self, Document};
use crate::job::number::Seconds;
use crate::job::parse::locate::{Locations, Position, escape};
use crate::job::parse::problem::one_line;
use crate::job::{Problem, annotations, parse};

/// A mistake in the settings, or something in them that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file, the variable or the flag.
    pub source: String,
    /// Line and column in a file, from 1.
    pub place: Option<Position>,
    /// The message.
    pub message: String,
}

impl Fault {
    /// A fault of something that has no lines.
    pub(crate) fn of(source: impl Into<String>, message: impl Into<String>) -> Self {
        Self { source: source.into(), place: None, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.source))?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", one_line(&self.message))
    }
}

/// A file as the caller found it.
#[derive(Debug, Clone)]
pub(crate) struct OriginalFile {
    /// Its path, relative to the project.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Original<'f> {
    pub name: &'f str,
    document: Document,
}

impl<'f> Original<'f> {
    /// Reads JSON where the name says so, else YAML.
    ///
    /// # Errors
    /// All problems of a JSON text, the first one of a YAML text.
    pub(super) fn read(file: &'f OriginalFile) -> Result<Self, Vec<Fault>> {
        let at = |problem: Problem| Fault {
            source: file.name.clone(),
            place: Some((problem.line, problem.column)),
            message: problem.to_string(),
        };
        let is_json =
            std::path::Path::new(&file.name).extension().is_some_and(|extension| extension == "json");
        let document = if is_json { json(&file.bytes) } else { yaml(&file.bytes) };
        let document = document.map_err(|problems| problems.into_iter().map(at).collect::<Vec<_>>())?;
        Ok(Self { name: &file.name, document })
    }

    /// The whole document.
    #[must_use]
    pub(super) fn top(&self) -> Node<'_> {
        let value = &self.document.value;
        Node { file: self.name, document: &self.document, pointer: String::new(), value }
    }
}

fn yaml(bytes: &[u8]) -> Result<Document, Vec<Problem>> {
    let bytes = parse::without_mark(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = parse::locate::position(bytes, error.valid_up_to());
        Problem::at(line, column, "the file is not UTF-8")
    });
    text.and_then(yaml::read).map_err(|problem| vec![problem])
}

/// A comment that names a document is usual before the JSON of the original.
fn json(bytes: &[u8]) -> Result<Document, Vec<Problem>> {
    let text = super::text::read(bytes).map_err(|problem| vec![problem])?.json;
    Ok(Document { value: parse::document(&text)?, places: Locations::scan(&text), ..Document::default() })
}

/// A value of a file with its place.
#[derive(Debug, Clone)]
pub(super) struct Node<'d> {
    file: &'d str,
    document: &'d Document,
    pointer: String,
    pub value: &'d Value,
}

impl<'d> Node<'d> {
    fn child(&self, part: &str, value: &'d Value) -> Self {
        Self { pointer: format!("{}/{}", self.pointer, escape(part)), value, ..self.clone() }
    }

    /// The value of a key; none where it is absent or null.
    #[must_use]
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.child(key, value))
    }

    /// The first of several names of one setting.
    #[must_use]
    pub(super) fn first(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// The entries of an object without annotations; none of anything else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Self)> + use<'_, 'd> {
        let entries = self.value.as_object().into_iter().flat_map(Map::iter);
        entries
            .filter(|(key, _)| !annotations::is_annotation(key))
            .map(|(key, value)| (key.as_str(), self.child(key, value)))
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> + use<'_, 'd> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(at, value)| self.child(&at.to_string(), value))
    }

    /// Where a value comes from: `file:line`.
    #[must_use]
    pub(super) fn origin(&self) -> String {
        format!("{}:{}", self.file, self.document.places.key(&self.pointer).0)
    }

    /// A fault at this value.
    #[must_use]
    pub(super) fn fault(&self, message: impl fmt::Display) -> Fault {
        let message = match self.pointer.as_str() {
            "" => message.to_string(),
            pointer => format!("{pointer}: {message}"),
        };
        Fault {
            source: self.file.to_owned(),
            place: Some(self.document.places.value(&self.pointer)),
            message,
        }
    }

    /// An object.
    pub(super) fn object(self) -> Result<Self, Fault> {
        if self.value.is_object() { Ok(self) } else { Err(self.fault("expected an object")) }
    }

    /// An integer from 0.
    pub(super) fn count(&self) -> Result<u32, Fault> {
        let count = serde_json::from_value::<crate::job::number::Count>(self.value.clone());
        count.map(crate::job::number::Count::as_u32).map_err(|_| self.fault("expected an integer from 0"))
    }

    /// A number of seconds.
    pub(super) fn seconds(&self) -> Result<Seconds, Fault> {
        serde_json::from_value(self.value.clone())
            .map_err(|_| self.fault("expected a number of seconds above 0"))
    }

    /// A text.
    pub(super) fn text(&self) -> Result<&'d str, Fault> {
        self.value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| self.fault("expected a text"))
    }

    /// A list of texts; numbers and booleans count as they were written.
    pub(super) fn texts(&self) -> Result<Vec<String>, Fault> {
        let wrong = || self.fault("expected a list of texts");
        self.value.as_array().ok_or_else(wrong)?;
        self.items().map(|item| item.scalar().ok_or_else(wrong)).collect()
    }

    /// An object of texts, as an environment is.
    pub(super) fn variables(self) -> Result<Vec<(String, String)>, Fault> {
        let object = self.object()?;
        let one = |(key, value): (&str, Node<'_>)| match value.scalar() {
            Some(text) => Ok((key.to_owned(), text)),
            None => Err(value.fault("expected a text")),
        };
        object.entries().map(one).collect()
    }

    /// A scalar as it was written.
    fn scalar(&self) -> Option<String> {
        let written = self.document.texts.get(&self.pointer);
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                Some(written.cloned().unwrap_or_else(|| self.value.to_string()))
            }
            _ => None,
        }
    }
}
