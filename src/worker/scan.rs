//! Scans `queued/`: finds the jobs, their ranks, and whether they are this worker's.
//!
//! Fast, for a hundred thousand files: validates nothing, locks nothing. The claim reads the file again. An invalid file is a
//! candidate too: its claim reports the problem.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::candidate::{Candidate, Conditions, Source};
use super::ready_set::ReadySet;
use crate::clock::{Clock, Timestamp};
use crate::fs;
use crate::job::parse::{MAX_JOB_BYTES, without_mark};
use crate::job::record::Acceptance;
use crate::job::spec::Priority;
use crate::job::{JobId, Place, RecordLine, Status};
use crate::policy::order::Rank;
use crate::queue::{Result, claim, places};
use crate::store::brief::Reader;
use crate::store::{Acquire, Lease, Store};

/// So long may a submission take between the first name and the last line of what it lets in; one that takes longer was stopped.
pub(super) const COMES_IN_WITHIN: Duration = Duration::from_secs(5);

/// Which jobs a worker takes; nothing given is every job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
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
/// File system errors of the directories; a file that is gone or cannot be opened is left out.
pub(crate) fn refresh(store: &Store, filter: &Filter, set: &mut ReadySet) -> Result<()> {
    let mut there = std::collections::HashSet::new();
    let mut records = Reader::open(store)?;
    for name in fs::names(&store.place_dir(&Place::Queued))? {
        let Some(id) = id_of(&name) else { continue };
        if !set.knows(&id) {
            add(store, filter, set, &mut records, &id);
        }
        there.insert(id);
    }
    let gone: Vec<JobId> = set.in_queue().filter(|id| !there.contains(*id)).cloned().collect();
    gone.iter().for_each(|id| set.forget(id));
    Ok(())
}

/// The id of a queued file's name.
#[must_use]
pub(crate) fn id_of(name: &str) -> Option<JobId> {
    JobId::new(name.strip_suffix(".json")?).ok()
}

/// Adds one job, if its file exists and is ours: an unreadable one is that job's problem, not the queue's.
pub(crate) fn add(store: &Store, filter: &Filter, set: &mut ReadySet, records: &mut Reader, id: &JobId) {
    match look(store, filter, records, id) {
        Some((Whose::Ours, seen)) => set.add(id.clone(), seen),
        Some((Whose::Others, seen)) => set.add_other(id.clone(), seen),
        None => {}
    }
}

/// Which worker takes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Others,
}

fn look(store: &Store, filter: &Filter, records: &mut Reader, id: &JobId) -> Option<(Whose, Candidate)> {
    if !matches!(places::is_at(store, id, &Place::Queued), Ok(true)) {
        return None;
    }
    let path = store.job_file(&Place::Queued, id);
    let file = fs::open_regular(&path).ok()?;
    let changed = file.metadata().ok().and_then(|metadata| Timestamp::modified(&metadata));
    let bytes = fs::read_limited(&file, &path, MAX_JOB_BYTES).ok().flatten().unwrap_or_default();
    // The record gets the descriptor: under a low limit there may be no other.
    drop(file);
    let Glance { whose, priority, not_before, on, mut conditions } = glance(&bytes, filter);
    let (line, source) = match records.last_line(id) {
        Ok(Some(line)) if line.status == Status::Queued => (Some(line), Source::Record),
        // A file in the queue whose record says that the job has ended is entering.
        Ok(line) => (line, Source::File),
        // Whether it has a record is unknown: its claim looks, and reports the problem.
        Err(_) => (None, Source::Record),
    };
    if line.as_ref().is_some_and(|line| line.not_before.is_some()) {
        conditions = Conditions::Some;
    }
    let accepted = line.as_ref().map(RecordLine::acceptance);
    let accepted = accepted.unwrap_or_else(|| Acceptance::of_file(changed));
    let rank = Rank::new(priority, accepted, not_before);
    Some((whose, Candidate { rank, conditions, on, source }))
}

/// True if a job that has no line in its record is on its way in: it was named a moment ago, and its lease is held. A submission
/// holds the leases of a group until all lines of the group are written. A process that changes the file, or holds its lease
/// for another reason, makes it look so for longer: the worker has a deadline of its own.
#[must_use]
pub(crate) fn is_coming_in(store: &Store, id: &JobId, now: Timestamp) -> bool {
    let named = claim::named_at(store, id);
    let is_new = named.is_some_and(|named| now.since(named) < COMES_IN_WITHIN && named <= now);
    is_new && matches!(Lease::acquire(store, id, fs::Create::No), Ok(Acquire::Busy))
}

/// The jobs that are put back because they are on their way in.
#[derive(Debug, Default)]
pub(super) struct ComingIn {
    /// True if the first ready job is entering: nothing starts before it.
    pub(super) is_first: bool,
    /// Until when that may be so.
    until: HashMap<Rc<JobId>, Duration>,
}

impl ComingIn {
    /// True if a job is entering, and was not put back for that longer than a submission takes.
    pub(super) fn delays(
        &mut self,
        store: &Store,
        clock: &dyn Clock,
        set: &ReadySet,
        id: &Rc<JobId>,
    ) -> bool {
        let monotonic = clock.monotonic();
        if !is_coming_in(store, id, clock.now()) {
            return false;
        }
        if !self.until.contains_key(id) {
            self.until.retain(|id, _| set.knows(id));
            self.until.insert(id.clone(), monotonic + COMES_IN_WITHIN);
        }
        self.until.get(id).is_some_and(|until| monotonic < *until)
    }
}

/// The keys of a job file that a worker needs before the claim.
#[derive(Debug, PartialEq, Eq)]
struct Glance {
    whose: Whose,
    priority: Option<Priority>,
    not_before: Option<Timestamp>,
    on: Vec<JobId>,
    conditions: Conditions,
}

#[derive(Debug, Deserialize)]
struct Keys {
    #[serde(default)]
    priority: Option<Priority>,
    #[serde(default)]
    not_before: Value,
    #[serde(default)]
    depends_on: Value,
    #[serde(default)]
    after: Value,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    parent: Value,
    #[serde(default)]
    tool: Option<String>,
}

fn id_in(value: &Value) -> Option<JobId> {
    JobId::new(value.as_str()?).ok()
}

/// A file that is no valid job is taken by every worker, for it is claimed to be refused. A part of another job is taken by none:
/// that job runs it.
fn glance(bytes: &[u8], filter: &Filter) -> Glance {
    let holds = |word: &str| memchr::memmem::find(bytes, word.as_bytes()).is_some();
    // A key may be written with escapes; then the file is read properly.
    let escaped = holds("\\u");
    let ordered = escaped || holds("\"depends_on\"") || holds("\"after\"") || holds("\"not_before\"");
    let conditions = if ordered || holds("\"locks\"") { Conditions::Some } else { Conditions::None };
    let is_part = escaped || holds("\"parent\"");
    let all = filter.takes_all();
    let plain = Glance { whose: Whose::Ours, priority: None, not_before: None, on: Vec::new(), conditions };
    if all && !ordered && !is_part && !holds("\"priority\"") {
        return plain;
    }
    let Ok(keys) = serde_json::from_slice::<Keys>(without_mark(bytes)) else {
        return if all { plain } else { Glance { whose: Whose::Others, ..plain } };
    };
    let wanted = |want: &Option<String>, is: &Option<String>| want.is_none() || want == is;
    let ours = keys.parent.is_null() && wanted(&filter.run, &keys.run_id) && wanted(&filter.tool, &keys.tool);
    Glance {
        whose: if ours { Whose::Ours } else { Whose::Others },
        priority: keys.priority,
        not_before: keys.not_before.as_str().and_then(|time| Timestamp::parse(time).ok()),
        on: [&keys.depends_on, &keys.after]
            .iter()
            .filter_map(|ids| ids.as_array())
            .flatten()
            .filter_map(id_in)
            .collect(),
        conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Filter {
        Filter::default()
    }

    #[test]
    fn an_ordinary_file_is_not_parsed_and_a_key_with_escapes_is() {
        let of = |text: &str| {
            let found = glance(text.as_bytes(), &all());
            (found.priority, found.conditions)
        };
        assert_eq!(of("not json"), (None, Conditions::None));
        assert_eq!(of(r#"{"tool":"shell","priority":"high"}"#), (Some(Priority::High), Conditions::None));
        assert_eq!(of(r#"{"tool":"shell","\u0070riority":"low"}"#), (Some(Priority::Low), Conditions::Some));
        assert_eq!(
            of("\u{feff}{\"tool\":\"shell\",\"priority\":\"low\"}"),
            (Some(Priority::Low), Conditions::None)
        );
        assert_eq!(of(r#"{"tool":"shell","locks":["gpu"]}"#), (None, Conditions::Some));
    }

    #[test]
    fn what_a_job_depends_on_and_its_own_time_are_read() {
        let text = br#"{"depends_on":["a","/","b"],"not_before":"2026-01-01T00:00:00Z"}"#;
        let found = glance(text, &all());
        assert_eq!(found.on.iter().map(JobId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found.not_before, Timestamp::parse("2026-01-01T00:00:00Z").ok());
        assert_eq!(found.conditions, Conditions::Some);
    }

    #[test]
    fn a_worker_for_one_run_or_tool_takes_only_what_is_surely_its_own() {
        let filter = Filter { run: Some("r1".into()), tool: Some("shell".into()) };
        let of = |text: &str| glance(text.as_bytes(), &filter).whose == Whose::Ours;
        assert!(of(r#"{"run_id":"r1","tool":"shell"}"#));
        assert!(!of(r#"{"run_id":"r2","tool":"shell"}"#));
        assert!(!of(r#"{"run_id":"r1","tool":"git"}"#));
        assert!(!of("torn {"));
    }

    #[test]
    fn a_part_of_another_job_is_left_to_that_one() {
        let of = |text: &str| glance(text.as_bytes(), &all()).whose;
        assert_eq!(of(r#"{"tool":"shell","parent":"p"}"#), Whose::Others);
        assert_eq!(of(r#"{"tool":"shell","p\u0061rent":"p"}"#), Whose::Others);
        assert_eq!(of(r#"{"tool":"shell","parent":null}"#), Whose::Ours);
        assert_eq!(of(r#"{"tool":"shell","command":{"args":["\"parent\""]}}"#), Whose::Ours);
    }
}
