//! JSON Schemas: generated from the types, and used to say everything that is wrong with a refused document.
//!
//! The types decide (see `parse`); compiling a schema costs more than running a job, so it happens only to explain.

use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value, json};

use super::annotations;
use super::locate::{Locations, escape};
use super::problem::Problem;

/// The generated schema of the job file, as it is committed.
pub const JOB_SCHEMA: &str = include_str!("../../schema/jobs/job.schema.json");

/// The schema of the format that this one grew from; what is valid under it is valid here.
pub const HISTORICAL_SCHEMA: &str = include_str!("../../schema/jobs/historical.job.schema.json");

/// Makes the schema of a type as pretty JSON with a final newline: the content of a committed file.
#[must_use]
pub fn generate<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(allow_annotations).transform(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Lets every closed object hold annotations.
fn allow_annotations(schema: &mut schemars::Schema) {
    if schema.get("additionalProperties") == Some(&json!(false)) {
        schema.insert("patternProperties".to_owned(), json!({ "^(_comment|x-|\\$schema$|doc_id$)": true }));
    }
}

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
        use jsonschema::error::ValidationErrorKind as Kind;
        let pointer = error.instance_path().to_string();
        let schema = self.schema_at(&error.schema_path().to_string());
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| unknown_key(&pointer, key, schema, places)).collect()
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let expected = schema.pointer(&format!("/properties/{}", escape(key)));
                let mut problem = problem(&pointer, places, format!("the key `{key}` is missing"));
                problem.expected = expected.and_then(expectation);
                vec![problem]
            }
            Kind::Not { .. } => {
                vec![problem(&pointer, places, "`prompt` and `message_file` exclude each other".to_owned())]
            }
            _ => {
                let mut problem = problem(&pointer, places, found(error.instance(), &pointer));
                problem.expected = expectation(schema).or_else(|| Some(format!("{error:.80}")));
                vec![problem]
            }
        }
    }

    /// The schema that holds the keyword at a path.
    fn schema_at(&self, keyword: &str) -> &Value {
        let parent = keyword.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.document.pointer(parent).unwrap_or(&Value::Null)
    }
}

fn problem(pointer: &str, places: &Locations, message: String) -> Problem {
    let (line, column) = places.value(pointer);
    Problem { pointer: pointer.to_owned(), ..Problem::at(line, column, message) }
}

fn unknown_key(parent: &str, key: &str, schema: &Value, places: &Locations) -> Problem {
    let pointer = format!("{parent}/{}", escape(key));
    let (line, column) = places.key(&pointer);
    let shown: String = key.chars().take(60).flat_map(char::escape_debug).collect();
    let mut problem = Problem::at(line, column, format!("unknown key `{shown}`"));
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    problem.did_you_mean = nearest(key, &known).map(str::to_owned);
    problem.pointer = pointer;
    problem
}

/// The name most like the given one, if any is like it at all.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(80).collect::<String>().to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A longer key of a tool is not shown: cut, it could hold half of a secret.
pub const LONGEST_SHOWN: usize = 60;

/// A sentence for each key of an object of a tool's that is none of the known ones. `place` says where it stands.
pub fn unknown_keys<'a>(
    object: &'a Map<String, Value>,
    known: &'a [&'a str],
    place: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let unknown = |key: &&String| !known.contains(&key.as_str()) && !annotations::is_annotation(key);
    object.keys().filter(unknown).map(move |key| {
        if key.len() > LONGEST_SHOWN {
            return format!("a key of {} bytes in {place} means nothing; it is ignored", key.len());
        }
        let hint = nearest(key, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        format!("`{key}` in {place} means nothing{hint}; it is ignored")
    })
}

/// What stands there, without showing what may be secret or long.
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
