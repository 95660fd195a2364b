//! The workstreams that another one builds on: all before it in the order of the run, as far as they have succeeded.
//!
//! Orders are chains, and one in the middle of a chain may have begun before those at its start had succeeded, so all of them
//! count, not the nearest alone. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::assignment::job_of;
use crate::job::run::Ordered;
use crate::job::{Reason, RecordLine, RunId, RunManifest, Status};
use crate::store::Store;
use crate::worktree::Part;

/// Those before a workstream that have succeeded, in plan order.
///
/// # Errors
/// A reason where a record cannot be read.
pub(super) fn succeeded(store: &Store, manifest: &RunManifest, ws: &str) -> Result<Vec<Part>, Reason> {
    let known: BTreeMap<&str, &Ordered> =
        manifest.order.iter().map(|ordered| (ordered.ws_id.as_str(), ordered)).collect();
    let (mut before, mut next) = (BTreeSet::new(), vec![ws]);
    while let Some(ordered) = next.pop().and_then(|ws| known.get(ws)) {
        let nearest = ordered.depends_on.iter().chain(&ordered.after).map(String::as_str);
        next.extend(nearest.filter(|ws| before.insert(*ws)));
    }
    let order = manifest.order.iter().filter(|ordered| before.contains(ordered.ws_id.as_str()));
    parts(store, &manifest.run_id, order)
}

/// All workstreams of a run that have succeeded, in plan order.
///
/// # Errors
/// As `succeeded`.
pub(super) fn all(store: &Store, manifest: &RunManifest) -> Result<Vec<Part>, Reason> {
    parts(store, &manifest.run_id, manifest.order.iter())
}

fn parts<'o>(
    store: &Store,
    run: &RunId,
    order: impl Iterator<Item = &'o Ordered>,
) -> Result<Vec<Part>, Reason> {
    let mut found = Vec::new();
    for ordered in order {
        let line = store.read_line(&job_of(run, &ordered.ws_id)?)?;
        found.extend(line.and_then(|line| part(&line, ordered)));
    }
    Ok(found)
}

/// What a workstream has brought, if it has succeeded.
fn part(line: &RecordLine, ordered: &Ordered) -> Option<Part> {
    if line.status != Status::Succeeded {
        return None;
    }
    let told = &line.result.as_ref()?.metadata;
    let commit = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    let (ws, depends_on) = (ordered.ws_id.clone(), ordered.depends_on.clone());
    Some(Part { ws, base: commit("base")?, head: commit("head")?, depends_on })
}
