//! Documents of the historical format, where unknown keys were allowed.
//!
//! Responsible for reading one without the keys that it could not know. Hard rule: a key that the historical format knew is
//! never ignored.

use serde_json::Value;

use super::problem::Problem;
use super::semantics::contradictions;
use super::{explain, locate};
use crate::job::annotations;
use crate::job::spec::JobFile;

/// A historical document, read without what it could not know.
pub(super) struct Forgiven {
    pub(super) job: JobFile,
    /// What was read.
    pub(super) document: Value,
    /// What was ignored.
    pub(super) ignored: Vec<Problem>,
}

/// Reads a document that is valid in the historical format without the keys that the problems are about.
pub(super) fn forgive(
    text: &str,
    mut document: Value,
    mut problems: Vec<Problem>,
) -> Result<Forgiven, Vec<Problem>> {
    if !explain::historical_job()?.accepts(&document) {
        return Err(problems);
    }
    annotations::strip(&mut document);
    // Once for what the schema said, and once more for a contradiction that showed only then.
    for _ in 0..2 {
        for problem in &problems {
            ignore(&mut document, &problem.pointer);
        }
        let Ok(job) = JobFile::read(&document) else { return Err(problems) };
        let wrong = contradictions(&job, text);
        if wrong.is_empty() {
            return Ok(Forgiven { job, document, ignored: problems.into_iter().map(ignored).collect() });
        }
        problems.extend(wrong);
    }
    Err(problems)
}

fn ignored(problem: Problem) -> Problem {
    Problem { message: format!("{}; it is ignored", problem.message), ..problem }
}

/// Takes the key that a problem is about out of a historically valid document: a key that the historical format
/// did not know, so that any value was allowed for it.
fn ignore(document: &mut Value, pointer: &str) {
    let mut parts = pointer.split('/').skip(1).map(locate::unescape);
    let Some(top) = parts.next() else { return };
    let Some(object) = document.as_object_mut() else { return };
    match (top.as_str(), parts.next()) {
        ("command" | "paths" | "metadata", Some(key)) => {
            if let Some(Value::Object(inner)) = object.get_mut(&top) {
                inner.remove(&key);
            }
        }
        ("metadata", None) => {
            if let Some(Value::Object(inner)) = object.get_mut("metadata") {
                inner.remove("prompt");
            }
        }
        _ => drop(object.remove(&top)),
    }
}
