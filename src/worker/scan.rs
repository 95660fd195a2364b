//! Looks into `queued/`: which jobs are there, how they rank, and whether they are this worker's.
//!
//! A glance, made for a hundred thousand files: nothing is validated, nothing locked. Whoever claims a job reads its file
//! again. A file that can not be understood is a candidate too: its claim says what is wrong with it.

use serde::Deserialize;

use super::ready_set::{Conditions, Rank, ReadySet};
use crate::clock::Timestamp;
use crate::fs;
use crate::job::parse::MAX_JOB_BYTES;
use crate::job::spec::Priority;
use crate::job::{JobId, Place};
use crate::queue::{Result, places};
use crate::store::Store;

/// Which jobs a worker takes; nothing given is every job.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this run.
    pub run: Option<String>,
    /// Of this adapter.
    pub tool: Option<String>,
}

impl Filter {
    fn takes_all(&self) -> bool {
        self.run.is_none() && self.tool.is_none()
    }
}

/// Brings the set up to date with the directory: new files are added, and what is gone is forgotten.
///
/// # Errors
/// File system errors of the directory; a file that is gone or can not be opened is left out.
pub fn refresh(store: &Store, filter: &Filter, set: &mut ReadySet) -> Result<()> {
    let mut there = std::collections::HashSet::new();
    for name in fs::names(&store.place_dir(&Place::Queued))? {
        let Some(id) = id_of(&name) else { continue };
        if !set.knows(&id) {
            add(store, filter, set, &id)?;
        }
        there.insert(id);
    }
    let gone: Vec<JobId> = set.in_queue().filter(|id| !there.contains(*id)).cloned().collect();
    gone.iter().for_each(|id| set.forget(id));
    Ok(())
}

/// The id of a queued file's name.
#[must_use]
pub fn id_of(name: &str) -> Option<JobId> {
    JobId::new(name.strip_suffix(".json")?).ok()
}

/// Adds one job, if its file is there and ours.
///
/// # Errors
/// File system errors.
pub fn add(store: &Store, filter: &Filter, set: &mut ReadySet, id: &JobId) -> Result<()> {
    // One file that can not be looked at is that job's trouble, not the queue's.
    if !matches!(places::is_at(store, id, &Place::Queued), Ok(true)) {
        return Ok(());
    }
    let path = store.job_file(&Place::Queued, id);
    let Ok(file) = fs::open_regular(&path) else { return Ok(()) };
    let since = file.metadata().ok().and_then(|metadata| Timestamp::modified(&metadata));
    let bytes = fs::read_limited(&file, &path, MAX_JOB_BYTES).ok().flatten().unwrap_or_default();
    match glance(&bytes, filter) {
        Some((priority, conditions)) => {
            let since = since.unwrap_or(Timestamp::from_millis(0));
            set.add(id.clone(), Rank { priority, since }, conditions);
        }
        None => set.add_other(id.clone()),
    }
    Ok(())
}

/// What a worker wants to know of a job file before it claims it.
#[derive(Debug, Deserialize)]
struct Glance {
    #[serde(default)]
    priority: Option<Priority>,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    tool: Option<String>,
}

/// `None` if the job is not for this worker.
fn glance(bytes: &[u8], filter: &Filter) -> Option<(Priority, Conditions)> {
    let holds = |word: &str| memchr::memmem::find(bytes, word.as_bytes()).is_some();
    // A key may be written with escapes; then the file is read properly.
    let escaped = holds("\\u");
    let conditional = escaped || holds("\"depends_on\"") || holds("\"locks\"") || holds("\"not_before\"");
    let conditions = if conditional { Conditions::Some } else { Conditions::None };
    if filter.takes_all() && !escaped && !holds("\"priority\"") {
        return Some((Priority::Normal, conditions));
    }
    let Ok(glance) = serde_json::from_slice::<Glance>(crate::job::parse::without_mark(bytes)) else {
        return filter.takes_all().then_some((Priority::Normal, conditions));
    };
    let wanted = |want: &Option<String>, is: &Option<String>| want.is_none() || want == is;
    let ours = wanted(&filter.run, &glance.run_id) && wanted(&filter.tool, &glance.tool);
    ours.then_some((glance.priority.unwrap_or(Priority::Normal), conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Filter {
        Filter::default()
    }

    #[test]
    fn an_ordinary_file_is_not_parsed_and_a_key_with_escapes_is() {
        assert_eq!(glance(b"not json", &all()), Some((Priority::Normal, Conditions::None)));
        let high = br#"{"job_id":"a","tool":"shell","priority":"high"}"#;
        assert_eq!(glance(high, &all()), Some((Priority::High, Conditions::None)));
        let escaped = br#"{"job_id":"a","tool":"shell","\u0070riority":"low"}"#;
        assert_eq!(glance(escaped, &all()), Some((Priority::Low, Conditions::Some)));
        let marked = b"\xEF\xBB\xBF{\"job_id\":\"a\",\"tool\":\"shell\",\"priority\":\"low\"}";
        assert_eq!(glance(marked, &all()), Some((Priority::Low, Conditions::None)));
        let locks = br#"{"job_id":"a","tool":"shell","locks":["gpu"]}"#;
        assert_eq!(glance(locks, &all()), Some((Priority::Normal, Conditions::Some)));
    }

    #[test]
    fn a_worker_for_one_run_or_tool_takes_only_what_is_surely_its_own() {
        let filter = Filter { run: Some("r1".into()), tool: Some("shell".into()) };
        let of = |text: &str| glance(text.as_bytes(), &filter).is_some();
        assert!(of(r#"{"run_id":"r1","tool":"shell"}"#));
        assert!(!of(r#"{"run_id":"r2","tool":"shell"}"#));
        assert!(!of(r#"{"run_id":"r1","tool":"git"}"#));
        assert!(!of("torn {"));
    }
}
