//! Which jobs belong to a run: as their records say, and the files of those that have none yet.
//!
//! Reads only. Slow for a large root, for it reads every record.

use std::collections::BTreeMap;

use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::JobId;
use crate::queue::claim::{self, Content};
use crate::queue::{Result, places};
use crate::store::{Store, archive};
use crate::view::outcome;

/// The jobs of a run.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The jobs that surely belong to it, sorted.
    pub ids: Vec<JobId>,
    /// The jobs whose records cannot be read, and why: they may belong to it.
    pub unreadable: Vec<(JobId, String)>,
}

/// The jobs of a run.
pub(crate) fn of_run(store: &Store, run: &str) -> Result<Members> {
    let mut members = Members::default();
    for id in places::all_ids(store)? {
        match store.read_record(&id) {
            Err(error) => members.unreadable.push((id, causes(&error))),
            Ok(_) if run_of(store, &id).as_deref() == Some(run) => members.ids.push(id),
            Ok(_) => {}
        }
    }
    Ok(members)
}

/// The jobs of a run that `gc` has retired, as they were then, sorted; without those whose id another job has now. Reads the
/// whole archive.
pub(crate) fn retired_of_run(store: &Store, run: &str) -> Result<Vec<JobId>> {
    let mut last: BTreeMap<JobId, (Timestamp, bool)> = BTreeMap::new();
    archive::each_last(store, &mut |_, _, record| {
        let line = record.line;
        let is_of_run = line.job.parent.is_none() && line.job.run_id.as_deref() == Some(run);
        let found = (line.at, is_of_run);
        let kept = last.entry(line.job_id).or_insert(found);
        *kept = found.max(*kept);
    })?;
    let mut ids = Vec::new();
    for id in last.into_iter().filter(|(_, (_, is_of_run))| *is_of_run).map(|(id, _)| id) {
        if !outcome::is_known(store, &id)? {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The run that a job is a member of; `None` if it has none, or if that is not known yet. A part of another job goes with that one.
#[must_use]
pub(crate) fn run_of(store: &Store, id: &JobId) -> Option<String> {
    match store.read_record(id) {
        Ok(Some(record)) if !store.is_free(&record.line).unwrap_or(false) => {
            record.line.job.run_id.filter(|_| record.line.job.parent.is_none())
        }
        Ok(_) => match claim::read(store, id, false, Timestamp::from_millis(0)) {
            Ok((Content::Job(parsed, _), _)) => parsed.job.run_id.filter(|_| parsed.job.parent.is_none()),
            _ => None,
        },
        Err(_) => None,
    }
}
