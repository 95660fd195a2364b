//! Which jobs others still need: what the jobs that have not ended depend on or come after.
//!
//! Reads job files, not records: a file may have been edited, put there by a person, or be on its way in under a temporary
//! name. Hard rule: what cannot be read is asked of its record, never taken for a job without dependencies. The record does not
//! hold `after`: of a job whose file is unreadable those may be retired, and their archived ends count.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fs;
use crate::job::parse::MAX_JOB_BYTES;
use crate::job::{JobId, Place, RecordLine};
use crate::queue::Result;
use crate::store::{Store, steps};

/// The dependencies of what is queued or runs.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    dependencies: BTreeSet<JobId>,
    /// The files that were read, by directory and name.
    seen: BTreeSet<(Place, String)>,
}

impl Needs {
    /// Reads the job files that have come since the last look; true if something more is needed because of them.
    ///
    /// # Errors
    /// File system errors of the directories; a file that is gone again is looked for in the next directory.
    pub(crate) fn look(&mut self, store: &Store) -> Result<bool> {
        let before = self.dependencies.len();
        // In the order in which a file moves, and the first once more for a retry: none is missed in between.
        for place in [Place::Queued, Place::Running, Place::Queued] {
            for name in fs::names(&store.place_dir(&place))? {
                let key = (place.clone(), name);
                if !self.seen.contains(&key) {
                    self.read(store, &key.0, &key.1);
                    self.seen.insert(key);
                }
            }
        }
        Ok(self.dependencies.len() > before)
    }

    /// Adds what the record of a job that has not ended says.
    pub(crate) fn add(&mut self, dependencies: &[JobId]) {
        self.dependencies.extend(dependencies.iter().cloned());
    }

    /// The dependencies that were found.
    #[must_use]
    pub(crate) fn dependencies(&self) -> &BTreeSet<JobId> {
        &self.dependencies
    }

    fn read(&mut self, store: &Store, place: &Place, name: &str) {
        let path = store.place_dir(place).join(name);
        if !matches!(fs::entry(&path, store.owner()), Ok(fs::Entry::Ours)) {
            return;
        }
        let file = fs::open_regular(&path);
        let bytes = file.and_then(|file| fs::read_limited(&file, &path, MAX_JOB_BYTES)).ok().flatten();
        match bytes.as_deref().and_then(dependencies_of) {
            Some(found) => self.dependencies.extend(found),
            None => self.ask_record(store, name),
        }
    }

    fn ask_record(&mut self, store: &Store, name: &str) {
        let id = name.strip_suffix(".json").and_then(|stem| JobId::new(stem).ok());
        if let Some(Ok(Some(record))) = id.map(|id| store.read_record(&id)) {
            self.add(&record.line.job.depends_on);
        }
    }
}

/// The jobs that one comes after which has ended without an attempt: it has not waited for them, so the jobs after it do.
#[must_use]
pub(crate) fn after_of(store: &Store, line: &RecordLine) -> Vec<JobId> {
    let document = steps::job_document(store, line);
    let ids = document.as_ref().and_then(|document| document.get("after")?.as_array());
    ids.into_iter().flatten().filter_map(|id| JobId::new(id.as_str()?).ok()).collect()
}

/// The dependencies of a job file; `None` if it is not JSON.
fn dependencies_of(bytes: &[u8]) -> Option<Vec<JobId>> {
    let text = std::str::from_utf8(crate::job::parse::without_mark(bytes)).ok()?;
    // Most jobs depend on nothing; a key may be written with escapes.
    let names_none = !["depends_on", "\"after\"", "\\u"].iter().any(|word| text.contains(word));
    if names_none && text.trim_end().ends_with('}') {
        return Some(Vec::new());
    }
    let document: Value = serde_json::from_str(text).ok()?;
    let ids = ["depends_on", "after"].iter().filter_map(|key| document.get(key)?.as_array()).flatten();
    Some(ids.filter_map(|id| JobId::new(id.as_str()?).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<Vec<String>> {
        Some(dependencies_of(text.as_bytes())?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(found("\u{feff}{\"depends_on\": [\"a\"]}").unwrap(), ["a"]);
    }

    #[test]
    fn dependencies_are_found_however_their_key_is_written() {
        let want = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(found(r#"{"depends_on": ["a", "b"]}"#), want);
        assert_eq!(found(r#"{"\u0064epends_on": ["a", "b"]}"#), want);
        assert_eq!(found(r#"{"after": ["b"], "depends_on": ["a"]}"#), want);
        assert_eq!(found(r#"{"\u0061fter": ["a", "b"]}"#), want);
        assert_eq!(found(r#"{"job_id": "after"}"#), Some(vec![]));
        assert_eq!(found(r#"{"job_id": "depends_on"}"#), Some(vec![]));
        assert_eq!(found(r#"{"job_id": "x"}"#), Some(vec![]));
        assert_eq!(found(r#"{"depends_on": null}"#), Some(vec![]));
    }

    #[test]
    fn a_half_written_file_is_not_taken_for_one_without_dependencies() {
        for torn in ["", "{\"job_id\": \"x\", ", "{\"depends_on\": [\"a\"", "{\"job_id\": \"x\""] {
            assert_eq!(found(torn), None, "{torn}");
        }
    }
}
