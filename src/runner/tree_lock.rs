//! One agent at a time in a worktree: the lock is on its top directory, held from before the attempt until after it.
//!
//! With two at once, what one changed would be the other's proof. The lock is the kernel's and makes no file, so agents of another
//! root keep it too. A repository that holds this one and does not ignore it is shared: no agent works in all of it meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::paths;
use crate::adapter::{self, Environment, Manifest};
use crate::causes::{Shortage, causes};
use crate::clock::Timestamp;
use crate::fs;
use crate::git::{Client, Deadline, Program, Stop};
use crate::job::{Code, JobFile, JobId, Place, Reason, ToolId};
use crate::lock::{Locked, is_held};
use crate::process::signals;
use crate::queue::claim::{self, Content};
use crate::queue::places;
use crate::store::Store;
use crate::view::facts::{TakenTree, Trees};

/// How long git may take to say whether it ignores a directory.
const GIT_WAIT: Duration = Duration::from_secs(10);

/// The locks of a worktree, given back when this is dropped; none for a job that is no agent's.
#[derive(Debug, Default)]
pub(super) struct TreeLock {
    _held: Vec<Locked>,
}

/// Takes the locks of the worktree that an agent's job works in, if they are free.
///
/// # Errors
/// `waiting_lock`; `start_failed` if the system lacks what a lock needs.
pub(super) fn try_take(
    store: &Store,
    environment: &Environment,
    job: &JobFile,
    manifest: Option<&Manifest>,
) -> Result<TreeLock, Reason> {
    let tops = agent_dir(store, job, manifest).map(|dir| tops(&dir, environment)).unwrap_or_default();
    try_all(&tops)?.ok_or_else(|| {
        let top = tops.first().map_or_else(String::new, |top| top.display().to_string());
        Reason::new(Code::WaitingLock, format!("another agent works in `{top}`"))
    })
}

/// The worktree of an agent's job, for a process that waits for it. Runs nothing.
#[must_use]
pub(crate) fn work_tree(store: &Store, job: &JobFile) -> Option<PathBuf> {
    let manifest = adapter::find(store, &job.tool).ok().flatten();
    let dir = agent_dir(store, job, manifest.as_ref())?;
    dir.ancestors().find(|above| above.join(".git").exists()).map(Path::to_path_buf)
}

/// The worktrees of agents' jobs, for views of waiting jobs. Runs nothing, and takes no lock: a try would be in the way.
#[derive(Debug, Clone, Copy)]
pub struct WorkTrees<'a>(pub &'a Store);

impl Trees for WorkTrees<'_> {
    fn needs_one(&self, tool: &ToolId) -> bool {
        let manifest = adapter::find(self.0, tool).ok().flatten();
        manifest.is_some_and(|manifest| manifest.reader.dialect().is_some())
    }

    fn taken(&self, job: &JobFile) -> Option<TakenTree> {
        let Self(store) = self;
        let top = work_tree(store, job)?;
        let works_there = |id: &JobId| {
            let path = store.job_file(&Place::Running, id);
            let read = claim::read_at(&path, id, true, Timestamp::from_millis(0)).ok();
            let Some((Content::Job(parsed, _), _)) = read else { return false };
            *id != job.job_id && work_tree(store, &parsed.job).as_ref() == Some(&top)
        };
        let by = places::ids(store, &Place::Running).ok()?.into_iter().find(works_there);
        (by.is_some() || is_held(&top)).then_some(TakenTree { top, by })
    }
}

/// Where an agent's job works, without links. The attempt reports problems of adapter, paths or repository.
fn agent_dir(store: &Store, job: &JobFile, manifest: Option<&Manifest>) -> Option<PathBuf> {
    manifest?.reader.dialect()?;
    fs::canonical(&paths::directories(store.project_dir(), job).ok()?.repo_root).ok()
}

/// All of them or none: the first alone, the others shared. `None`: one is taken. A tree that cannot be locked at all is passed
/// over; a shortage is an error, for it passes, and a second agent could then work in the same tree.
fn try_all(tops: &[PathBuf]) -> Result<Option<TreeLock>, Reason> {
    let mut held = Vec::new();
    for (index, top) in tops.iter().enumerate() {
        let dir = match File::open(top) {
            Ok(dir) => dir,
            Err(error) if Shortage::behind(&error).is_some() => return Err(short(top, &error)),
            Err(_) => continue,
        };
        let tried = if index == 0 { Locked::exclusive(dir, top) } else { Locked::shared(dir, top) };
        match tried {
            Ok(Some(locked)) => held.push(locked),
            Ok(None) => return Ok(None),
            Err(error) if Shortage::behind(&error).is_some() => return Err(short(top, &error)),
            Err(error) => {
                tracing::warn!(error = causes(&error), "another agent may work in the same tree");
            }
        }
    }
    Ok(Some(TreeLock { _held: held }))
}

fn short(top: &Path, error: &(dyn std::error::Error + 'static)) -> Reason {
    let message = format!("the worktree `{}` cannot be locked: {}", top.display(), causes(error));
    Reason::new(Code::StartFailed, message).because(error)
}

/// The worktree of a directory, and the ones that hold it, as far as each sees the one below.
fn tops(dir: &Path, environment: &Environment) -> Vec<PathBuf> {
    let mut tops: Vec<PathBuf> = Vec::new();
    for above in dir.ancestors().filter(|above| above.join(".git").exists()) {
        if tops.last().is_some_and(|below| is_ignored(above, below, environment)) {
            break;
        }
        tops.push(above.to_path_buf());
    }
    tops
}

/// Without an answer it is not: then one lock more is taken.
fn is_ignored(top: &Path, dir: &Path, environment: &Environment) -> bool {
    let home = Some(environment.home().to_owned());
    let Ok(program) = Program::find(environment.get("PATH"), home, top) else { return false };
    let (deadline, stop) =
        (Deadline::new("`git check-ignore`", GIT_WAIT), Stop::new(|| signals::requests() > 0));
    Client { program, deadline, stop }.is_ignored(top, dir)
}
