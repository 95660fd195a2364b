//! The steps of a workstream, found by their ids: `<run>.<ws>.<nn>-<kind>` for n = 1, 2, … until no kind has a record. A number is
//! given once, so one kind has it at most.
//!
//! Reads only. Hard rule: no list and no index says which steps there are, so none can be outdated.

use serde::Deserialize;
use serde_json::Value;

use super::brief::Reader;
use super::{Result, Store, archived};
use crate::fs;
use crate::job::parse::{MAX_JOB_BYTES, without_mark};
use crate::job::step::{StepFacts, step_id};
use crate::job::{JobId, Place, RecordLine, StepKind};

/// A step that has a record.
#[derive(Debug, Clone)]
pub(crate) struct StepFound {
    /// Its number, from 1.
    pub n: u32,
    /// What it does.
    pub kind: StepKind,
    /// Its job.
    pub id: JobId,
    /// The last line of its record.
    pub line: RecordLine,
    /// `metadata.step` of its job file, if that can be read.
    pub facts: Option<StepFacts>,
}

/// The steps of a workstream, in the order of their numbers.
///
/// # Errors
/// File system errors, and those of a record that cannot be read.
pub(crate) fn steps(store: &Store, workstream_job: &JobId) -> Result<Vec<StepFound>> {
    probe(store, workstream_job, &mut |id| store.read_line(id))
}

/// The same for many workstreams, by an open directory of records.
///
/// # Errors
/// As `steps`.
pub(crate) fn steps_of(
    store: &Store,
    records: &mut Reader,
    workstream_job: &JobId,
) -> Result<Vec<StepFound>> {
    probe(store, workstream_job, &mut |id| records.whole_line(id))
}

/// The steps of a workstream that gc has retired: their job files are gone.
///
/// # Errors
/// File system errors of the archive.
pub(crate) fn retired(store: &Store, workstream_job: &JobId) -> Result<Vec<StepFound>> {
    probe(store, workstream_job, &mut |id| {
        Ok(archived::last_of(store, id)?.map(|retired| retired.record.line))
    })
}

fn probe(
    store: &Store,
    workstream_job: &JobId,
    look: &mut dyn FnMut(&JobId) -> Result<Option<RecordLine>>,
) -> Result<Vec<StepFound>> {
    let mut found: Vec<StepFound> = Vec::new();
    for n in 1.. {
        // Mostly one kind follows the other.
        let last = found.last().and_then(|step| StepKind::ALL.iter().position(|kind| *kind == step.kind));
        let first = last.map_or(0, |at| at + 1);
        let before = found.len();
        for kind in StepKind::ALL.into_iter().cycle().skip(first).take(StepKind::ALL.len()) {
            // An id that would be too long was never given.
            let Ok(id) = step_id(workstream_job, n, kind) else { return Ok(found) };
            if let Some(line) = look(&id)? {
                found.push(with_facts(store, (n, kind), line));
                break;
            }
        }
        if found.len() == before {
            break;
        }
    }
    Ok(found)
}

/// One step of a workstream; none without a record.
///
/// # Errors
/// File system errors, and those of a record that cannot be read.
pub(crate) fn step(store: &Store, (id, n, kind): (&JobId, u32, StepKind)) -> Result<Option<StepFound>> {
    Ok(store.read_line(id)?.map(|line| with_facts(store, (n, kind), line)))
}

/// A step of a record, with what its job file says.
#[must_use]
pub(crate) fn with_facts(store: &Store, (n, kind): (u32, StepKind), line: RecordLine) -> StepFound {
    let facts = facts(store, &line);
    StepFound { n, kind, id: line.job_id.clone(), line, facts }
}

/// The job file of a record as a document, wherever it is; none if it is missing or cannot be read.
#[must_use]
pub(crate) fn job_document(store: &Store, line: &RecordLine) -> Option<Value> {
    read_job(store, line)
}

/// The same, as far as it is read.
#[must_use]
pub(crate) fn read_job<T: serde::de::DeserializeOwned>(store: &Store, line: &RecordLine) -> Option<T> {
    // The record is written before the file is moved.
    let others = [Place::Queued, Place::Running, Place::Quarantined];
    let places = std::iter::once(&line.place).chain(&others);
    let bytes = places.into_iter().find_map(|place| {
        let path = store.job_file(place, &line.job_id);
        fs::read_limited(&fs::open_regular(&path).ok()?, &path, MAX_JOB_BYTES).ok()?
    })?;
    serde_json::from_slice(without_mark(&bytes)).ok()
}

fn facts(store: &Store, line: &RecordLine) -> Option<StepFacts> {
    #[derive(Deserialize)]
    struct Document {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        step: StepFacts,
    }
    read_job::<Document>(store, line).map(|document| document.metadata.step)
}
