//! One agent at a time in a work tree: `state/locks/work-tree-<hash>.0`, locked as long as the agent works there.
//!
//! With two at once, what one changed would be the other's proof. Who comes second waits, as long as its own time lasts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::paths::Directories;
use super::super::{Workplace, verdict};
use super::NotReady;
use crate::adapter::Manifest;
use crate::causes::causes;
use crate::fs::{self, Create};
use crate::job::digest::sha256;
use crate::job::{JobFile, Reason};
use crate::lock::{self, TryLock};
use crate::process::Paused;
use crate::queue::cancel;
use crate::store::control::{AttemptId, CancelWatch};

/// How often the lock is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long is waited where the job has no limit of its own.
const LONGEST: Duration = Duration::from_secs(600);

/// Takes the lock of the work tree; none where there is no repository.
pub fn take(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
    target: AttemptId,
) -> Result<Option<File>, NotReady> {
    // What is wrong with the repository is told by who looks at the tree.
    let Some(top) = top_of(&directories.repo_root) else { return Ok(None) };
    let limit = job.metadata.known.timeout_seconds.or(manifest.timeout_seconds);
    let limit = limit.map_or(LONGEST, crate::job::number::Seconds::duration);
    let unwritable = |error: &dyn std::error::Error| Reason::new("state_not_writable", causes(error));
    let dir = place.store.state("locks");
    fs::create_dir(&dir).map_err(|error| unwritable(&error))?;
    let name: String = sha256(top.as_os_str().as_encoded_bytes()).chars().take(16).collect();
    let path = dir.join(format!("work-tree-{name}.0"));
    let file = fs::open_append(&path, Create::IfMissing).map_err(|error| unwritable(&error))?;
    let cancel = CancelWatch::new(place.store, &job.job_id, target);
    let until = place.clock.monotonic().saturating_add(limit);
    let mut told = false;
    loop {
        if lock::try_exclusive(&file, &path).map_err(|error| unwritable(&error))? == TryLock::Acquired {
            return Ok(Some(file));
        }
        if !told {
            told = true;
            tracing::warn!("another agent works in `{}`: waiting for its end", top.display());
        }
        if place.clock.monotonic() >= until {
            let message = format!("another agent still works in `{}`", top.display());
            return Err(Reason::new("work_tree_in_use", message).into());
        }
        if let Paused::Interrupted(interrupt) = place.spawner.pause(ASK_EVERY) {
            return Err(NotReady::Interrupted(verdict::interrupted(interrupt)));
        }
        if cancel.is_asked() {
            return Err(NotReady::Interrupted(cancel::by_user()));
        }
    }
}

/// The nearest directory that has a `.git`, without links.
fn top_of(dir: &Path) -> Option<PathBuf> {
    let dir = fs::canonical(dir).ok()?;
    dir.ancestors().find(|above| above.join(".git").exists()).map(Path::to_path_buf)
}
