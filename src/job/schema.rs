//! JSON Schemas, generated from the types.
//!
//! Not responsible for judging a document: the types decide (see `parse`).

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::json;

/// The generated schema of the job file, as it is committed.
pub const JOB_SCHEMA: &str = include_str!("../../schema/jobs/job.schema.json");

/// The schema of the format that this one grew from; what is valid under it is valid here.
pub const HISTORICAL_SCHEMA: &str = include_str!("../../schema/jobs/historical.job.schema.json");

/// Makes the schema of a type as pretty JSON with a final newline: the content of a committed file.
#[must_use]
pub fn generate<T: JsonSchema>() -> String {
    generate_by::<T>(SchemaSettings::draft2020_12())
}

/// The same in draft 7, for a format whose authors' tools read that.
#[must_use]
pub(crate) fn generate_draft_7<T: JsonSchema>() -> String {
    generate_by::<T>(SchemaSettings::draft07())
}

fn generate_by<T: JsonSchema>(settings: SchemaSettings) -> String {
    let settings = settings.with(|settings| settings.inline_subschemas = true);
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
