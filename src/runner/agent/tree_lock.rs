//! One agent at a time in a work tree: the lock is on its top directory, held as long as the agent works there.
//!
//! With two at once, what one changed would be the other's proof. Who comes second waits, as long as its own time lasts. The
//! lock is the kernel's and makes no file, so agents of another root keep it too. A repository that holds this one and does not
//! ignore it is shared: nobody works in all of it meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::paths::Directories;
use super::super::{Workplace, verdict};
use super::NotReady;
use crate::adapter::Manifest;
use crate::causes::causes;
use crate::fs;
use crate::job::{JobFile, Reason};
use crate::lock::{self, TryLock};
use crate::process::{Paused, helper};
use crate::queue::cancel;
use crate::store::control::{AttemptId, CancelWatch};

/// How often the lock is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long is waited where the job has no limit of its own.
const LONGEST: Duration = Duration::from_secs(600);
/// How long git may take to say whether it ignores a directory.
const GIT_WAIT: Duration = Duration::from_secs(10);

/// The locks of a work tree, given back when this is dropped.
#[derive(Debug, Default)]
pub struct TreeLock {
    _held: Vec<File>,
}

/// Takes the locks of the work tree; none where there is no repository, or the file system does not lock.
pub fn take(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
    target: AttemptId,
) -> Result<TreeLock, NotReady> {
    let tops = tops(&directories.repo_root);
    // What is wrong with the repository is told by who looks at the tree.
    let Some(top) = tops.first() else { return Ok(TreeLock::default()) };
    let limit = job.metadata.known.timeout_seconds.or(manifest.timeout_seconds);
    let limit = limit.map_or(LONGEST, crate::job::number::Seconds::duration);
    let cancel = CancelWatch::new(place.store, &job.job_id, target);
    let until = place.clock.monotonic().saturating_add(limit);
    let mut told = false;
    loop {
        if let Some(lock) = try_all(&tops) {
            return Ok(lock);
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

/// All of them or none: the first alone, the others shared. `None`: somebody has one.
fn try_all(tops: &[PathBuf]) -> Option<TreeLock> {
    let mut held = Vec::new();
    for (index, top) in tops.iter().enumerate() {
        let Ok(dir) = File::open(top) else { continue };
        let tried = if index == 0 { lock::try_exclusive(&dir, top) } else { lock::try_shared(&dir, top) };
        match tried {
            Ok(TryLock::Acquired) => held.push(dir),
            Ok(TryLock::Busy) => return None,
            Err(error) => {
                tracing::warn!(error = causes(&error), "another agent may work in the same tree");
            }
        }
    }
    Some(TreeLock { _held: held })
}

/// The work tree of a directory, and the ones that hold it, as far as each sees the one below.
fn tops(dir: &Path) -> Vec<PathBuf> {
    let Ok(dir) = fs::canonical(dir) else { return Vec::new() };
    let mut tops: Vec<PathBuf> = Vec::new();
    for above in dir.ancestors().filter(|above| above.join(".git").exists()) {
        if tops.last().is_some_and(|below| is_ignored(above, below)) {
            break;
        }
        tops.push(above.to_path_buf());
    }
    tops
}

fn is_ignored(top: &Path, dir: &Path) -> bool {
    let dir = dir.to_string_lossy();
    let asked = helper::run("git", &["check-ignore", "-q", "--", &dir], top, GIT_WAIT);
    asked.is_some_and(|answer| answer.code == Some(0))
}
