//! Directories of runs, which go after their jobs.
//!
//! A crash leaves a run with its directory or without its manifest; the next gc, and `runs clean`, remove the rest. Hard rule:
//! nothing goes of a run that has a job or of which something is left in its repository, nor of one that has a job that never
//! came in, because a resume submits that.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::job::{JobId, RunId, RunManifest};
use crate::policy::retention::{Cause, Finished};
use crate::queue::{Result, places};
use crate::store::{Store, archived, run_dir};

/// True if something of a run of these jobs is left in its repository, or that is not known.
pub(crate) type IsLeft<'a> = &'a dyn Fn(&RunManifest, &[Value]) -> bool;

/// The runs of which nothing is left but their directories once these jobs are gone.
pub(super) fn over(store: &Store, gone: &[(Finished, Cause)], is_left: IsLeft<'_>) -> Result<Vec<RunId>> {
    let gone: BTreeSet<&JobId> = gone.iter().map(|(job, _)| &job.id).collect();
    let ids = store.recorded_ids()?;
    let stay = ids.iter().filter(|id| !gone.contains(id)).filter_map(|id| id.as_str().split_once('.'));
    let busy: BTreeSet<&str> = stay.map(|(run, _)| run).collect();
    let mut over = Vec::new();
    for manifest in run_dir::list(store)?.runs {
        if !busy.contains(manifest.run_id.as_str()) && is_over(store, &manifest, &gone, is_left)? {
            over.push(manifest.run_id);
        }
    }
    over.sort();
    Ok(over)
}

fn is_over(
    store: &Store,
    manifest: &RunManifest,
    gone: &BTreeSet<&JobId>,
    is_left: IsLeft<'_>,
) -> Result<bool> {
    let Ok(jobs) = run_dir::read_jobs(store, manifest) else { return Ok(false) };
    if is_left(manifest, &jobs) {
        return Ok(false);
    }
    for job in &jobs {
        let Some(Ok(id)) = job.get("job_id").and_then(Value::as_str).map(JobId::new) else {
            return Ok(false);
        };
        let is_retired = gone.contains(&id)
            || places::locate(store, &id, None)?.is_none() && archived::last_of(store, &id)?.is_some();
        if !is_retired {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the directories of runs of which nothing else is left; the others stay.
pub(super) fn retire(store: &Store, is_left: IsLeft<'_>) -> Result<Vec<RunId>> {
    let mut retired = Vec::new();
    for run in over(store, &[], is_left)? {
        // A resume holds it while it submits, so what is looked at again under the lock holds.
        let Some(dir) = run_dir::take(store, &run)? else { continue };
        if over(store, &[], is_left)?.contains(&run) && dir.remove()? {
            retired.push(run);
        }
    }
    Ok(retired)
}
