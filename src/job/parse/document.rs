//! From bytes to one JSON document.
//!
//! Responsible for the encoding, the size and the syntax. Not responsible for what the document means. Hard rule: no document
//! has a key twice, for two readers could take another one of them.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::locate::{Locations, position};
use super::problem::Problem;

/// Size above which a job file is refused unread.
pub(crate) const MAX_JOB_BYTES: u64 = 1_000_000;

/// The content of a file that a person writes, without the byte order mark that some editors put before it.
#[must_use]
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() as u64 > MAX_JOB_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    text_of(bytes)
}

/// The text of a file, without its byte order mark.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Problem::at(1, 1, "the file is UTF-16").expected("UTF-8; save it again as UTF-8"));
    }
    let bytes = without_mark(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        Problem::at(line, column, "the file is not UTF-8").expected("UTF-8 text")
    })?;
    // Zeros are what a power loss makes of a file whose data was not yet written.
    if text.trim_matches(|c: char| c.is_whitespace() || c == '\0').is_empty() {
        return Err(Problem::at(1, 1, "the file is empty").expected("a JSON object").torn());
    }
    Ok(text)
}

/// The problem of a file that was refused by its size.
#[must_use]
pub(crate) fn too_large(bytes: u64) -> Problem {
    Problem::at(1, 1, format!("the file has {bytes} bytes"))
        .expected(format!("at most {MAX_JOB_BYTES}; put large input into a file and name it in `stdin`"))
}

/// The document of a text. Every key that is in one object twice is a problem, as is a text that is not JSON.
pub(crate) fn document(text: &str) -> Result<Value, Vec<Problem>> {
    let repeated = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Unique { repeated: &repeated }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    let value = parsed.map_err(|error| vec![syntax(text, &error)])?;
    if !repeated.get() {
        return Ok(value);
    }
    let found = Locations::scan(text);
    let problem = |(pointer, (line, column)): (String, (usize, usize))| Problem {
        pointer,
        ..Problem::at(line, column, "duplicate key")
    };
    Err(found.duplicates.into_iter().map(problem).collect())
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    // serde_json counts columns in bytes; an editor counts characters.
    let line_text = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let bytes = line_text.as_bytes().get(..error.column()).unwrap_or(line_text.as_bytes());
    let column = String::from_utf8_lossy(bytes).chars().count().max(1);
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    if error.is_eof() {
        return Problem::at(error.line(), column, "the JSON text ends too early: the file is truncated")
            .torn();
    }
    if message.contains("recursion limit") {
        return Problem::at(error.line(), column, "the JSON is nested too deeply")
            .expected("at most 127 levels");
    }
    Problem::at(error.line(), column, format!("not JSON: {message}"))
}

/// A JSON value; notes whether an object has a key twice.
struct Unique<'a> {
    repeated: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Unique { repeated: self.repeated })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Unique { repeated: self.repeated })?;
            if object.insert(key, value).is_some() {
                self.repeated.set(true);
            }
        }
        Ok(Value::Object(object))
    }
}
