//! All problems of a refused document, by its schema.
//!
//! The types decide; a schema only explains, and compiling one costs more than running a job, so it happens only then. Hard
//! rule: no value that may be secret is shown.

use std::sync::OnceLock;

use serde_json::Value;

use super::locate::{Locations, escape};
use super::nearest::nearest;
use super::problem::{Kind, Problem};
use crate::job::schema::{HISTORICAL_SCHEMA, JOB_SCHEMA};

/// A schema that a document is held against.
#[derive(Debug)]
pub struct Explainer {
    document: Value,
    validator: jsonschema::Validator,
}

/// The explainer of the job file, compiled once in a process: a batch may hold thousands of refused files.
///
/// # Errors
/// `BadSchema`
pub fn job() -> Result<&'static Explainer, BadSchema> {
    static JOB: OnceLock<Result<Explainer, BadSchema>> = OnceLock::new();
    JOB.get_or_init(|| Explainer::new(JOB_SCHEMA)).as_ref().map_err(Clone::clone)
}

/// The explainer of the historical format, likewise.
///
/// # Errors
/// `BadSchema`
pub fn historical_job() -> Result<&'static Explainer, BadSchema> {
    static HISTORICAL: OnceLock<Result<Explainer, BadSchema>> = OnceLock::new();
    HISTORICAL.get_or_init(|| Explainer::new(HISTORICAL_SCHEMA)).as_ref().map_err(Clone::clone)
}

/// A schema in this program is not a schema; a test keeps this from happening.
#[derive(Debug, Clone, thiserror::Error)]
#[error("internal error: an embedded JSON Schema does not compile: {0}")]
pub struct BadSchema(String);

impl From<BadSchema> for Vec<Problem> {
    fn from(error: BadSchema) -> Self {
        vec![Problem::at(1, 1, error.to_string())]
    }
}

impl Explainer {
    /// Compiles a schema.
    ///
    /// # Errors
    /// `BadSchema` if the text is not one.
    pub fn new(text: &str) -> Result<Self, BadSchema> {
        let document: Value = serde_json::from_str(text).map_err(|e| BadSchema(e.to_string()))?;
        let validator = jsonschema::options()
            .with_format("date-time", |text: &str| crate::clock::Timestamp::parse(text).is_ok())
            .should_validate_formats(true)
            .build(&document)
            .map_err(|e| BadSchema(e.to_string()))?;
        Ok(Self { document, validator })
    }

    /// True if the document is valid.
    #[must_use]
    pub fn accepts(&self, document: &Value) -> bool {
        self.validator.is_valid(document)
    }

    /// Everything that is wrong with a document, in the order of its text.
    #[must_use]
    pub fn explain(&self, document: &Value, places: &Locations) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.validator.iter_errors(document).flat_map(|error| self.problems(&error, places)).collect();
        problems.sort_by(|a, b| (a.line, a.column, &a.pointer).cmp(&(b.line, b.column, &b.pointer)));
        problems.dedup();
        problems
    }

    fn problems(&self, error: &jsonschema::ValidationError<'_>, places: &Locations) -> Vec<Problem> {
        use jsonschema::error::ValidationErrorKind as Error;
        let pointer = error.instance_path().to_string();
        let schema = self.schema_at(&error.schema_path().to_string());
        match error.kind() {
            Error::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| unknown_key(&pointer, key, schema, places)).collect()
            }
            Error::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let expected = schema.pointer(&format!("/properties/{}", escape(key)));
                let problem = Problem::of_value(places, pointer, format!("the key `{key}` is missing"));
                vec![Problem { expected: expected.and_then(expectation), ..problem }]
            }
            Error::Not { .. } => {
                vec![Problem::of_value(places, pointer, "`prompt` and `message_file` exclude each other")]
            }
            _ => {
                let found = found(error.instance(), &pointer);
                let expected = expectation(schema).or_else(|| Some(format!("{error:.80}")));
                vec![Problem { expected, ..Problem::of_value(places, pointer, found) }]
            }
        }
    }

    /// The schema that holds the keyword at a path.
    fn schema_at(&self, keyword: &str) -> &Value {
        let parent = keyword.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.document.pointer(parent).unwrap_or(&Value::Null)
    }
}

fn unknown_key(parent: &str, key: &str, schema: &Value, places: &Locations) -> Problem {
    let shown: String = key.chars().take(60).flat_map(char::escape_debug).collect();
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let did_you_mean = nearest(key, &known).map(str::to_owned);
    let pointer = format!("{parent}/{}", escape(key));
    let problem = Problem::of_key(places, pointer, format!("unknown key `{shown}`"));
    Problem { did_you_mean, kind: Kind::UnknownKey, ..problem }
}

/// The kind of a value, without showing what may be secret or long.
fn found(value: &Value, pointer: &str) -> String {
    let secret = pointer.starts_with("/env");
    match value {
        Value::Null => "found null".to_owned(),
        Value::Bool(value) => format!("found {value}"),
        Value::Number(number) if !secret => format!("found {number}"),
        Value::Number(_) => "found a number".to_owned(),
        Value::String(text) if !secret && text.chars().count() <= 60 => format!("found {text:?}"),
        Value::String(_) => "found a string".to_owned(),
        Value::Array(_) => "found an array".to_owned(),
        Value::Object(_) => "found an object".to_owned(),
    }
}

/// What a schema wants, in words.
fn expectation(schema: &Value) -> Option<String> {
    if let Some(text) = schema.get("x-expected").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let mut options = Vec::new();
    collect_options(schema, &mut options);
    match options.len() {
        0 => None,
        1 => options.pop(),
        _ if options.iter().all(|option| !is_kind(option)) => Some(format!("one of {}", options.join(", "))),
        _ => {
            let last = options.pop()?;
            Some(format!("{} or {last}", options.join(", ")))
        }
    }
}

/// Whether an option is a kind of value, and not a value.
fn is_kind(option: &str) -> bool {
    option.starts_with("a ") || option.starts_with("an ")
}

fn collect_options(schema: &Value, options: &mut Vec<String>) {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        options.extend(values.iter().map(ToString::to_string));
        return;
    }
    if let Some(value) = schema.get("const") {
        options.push(value.to_string());
        return;
    }
    for key in ["anyOf", "oneOf"] {
        for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            collect_options(part, options);
        }
    }
    if let Some(keys) = schema.get("required").and_then(Value::as_array).filter(|keys| keys.len() == 1) {
        options.push(format!("{{{}: …}}", keys.first().map(ToString::to_string).unwrap_or_default()));
        return;
    }
    match schema.get("type") {
        Some(Value::String(name)) => options.push(type_name(name)),
        Some(Value::Array(names)) => {
            options.extend(names.iter().filter_map(Value::as_str).map(type_name));
        }
        _ => {}
    }
}

fn type_name(name: &str) -> String {
    match name {
        "null" => "null".to_owned(),
        "array" | "object" | "integer" => format!("an {name}"),
        other => format!("a {other}"),
    }
}
