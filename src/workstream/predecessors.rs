//! The workstreams that another one builds on: those before it in the order of the run, as far as they have succeeded.
//!
//! Orders are chains: what comes before a workstream that did not succeed counts in its place. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::job::{JobId, Reason, RecordLine, RunId, Status};
use crate::store::{Store, steps};
use crate::worktree::Part;

/// What the job file of a workstream says of its place in the order.
#[derive(Debug, Deserialize)]
struct Placed {
    bundle: Bundle,
    #[serde(default)]
    place: usize,
    #[serde(default)]
    predecessors: Vec<String>,
}

/// The nearest predecessors that have succeeded, in plan order. Those before them are in their heads.
///
/// # Errors
/// A reason where a record cannot be read.
pub(super) fn succeeded(store: &Store, run: &RunId, nearest: &[String]) -> Result<Vec<Part>, Reason> {
    let (mut seen, mut next) = (BTreeSet::new(), nearest.to_vec());
    let mut found = BTreeMap::new();
    while let Some(ws) = next.pop() {
        if !seen.insert(ws.clone()) {
            continue;
        }
        let Some(line) = record(store, run, &ws)? else { continue };
        let Some(placed) = placed(store, &line) else { continue };
        match part(&line, ws, placed.bundle.depends_on) {
            Some(part) => drop(found.insert((placed.place, part.ws.clone()), part)),
            None => next.extend(placed.predecessors),
        }
    }
    Ok(found.into_values().collect())
}

/// All workstreams of a run that have succeeded, in the given order, and how many there are of them all.
///
/// # Errors
/// As `succeeded`.
pub(super) fn all(store: &Store, run: &RunId, order: &[(String, Vec<String>)]) -> Result<Vec<Part>, Reason> {
    let mut found = Vec::new();
    for (ws, depends_on) in order {
        let line = record(store, run, ws)?;
        found.extend(line.and_then(|line| part(&line, ws.clone(), depends_on.clone())));
    }
    Ok(found)
}

fn record(store: &Store, run: &RunId, ws: &str) -> Result<Option<RecordLine>, Reason> {
    let id: JobId =
        run.job_of(ws).map_err(|error| Reason::from_error(crate::job::Code::InternalError, &error))?;
    Ok(store.read_record(&id)?.map(|record| record.line))
}

fn placed(store: &Store, line: &RecordLine) -> Option<Placed> {
    let document = steps::job_document(store, line)?;
    Placed::deserialize(document.get("metadata")?).ok()
}

/// What a workstream has brought, if it has succeeded.
fn part(line: &RecordLine, ws: String, depends_on: Vec<String>) -> Option<Part> {
    if line.status != Status::Succeeded {
        return None;
    }
    let told = &line.result.as_ref()?.metadata;
    let commit = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Part { ws, base: commit("base")?, head: commit("head")?, depends_on })
}
