//! What the submodules of a worktree hold that is nowhere else: their git directories go with that of the worktree.
//!
//! Responsible for finding it. Hard rule: of what git cannot tell it counts as held.

use std::path::{Path, PathBuf};

use super::Place;
use super::git::Git;
use crate::fs;
use crate::git::index::{REPOSITORY, entries, path_of, read};
use crate::git::{Call, Client, GitDir, Status, write};
use crate::job::{Code, Reason};

/// So deep are submodules of submodules looked for.
const DEEPEST: usize = 8;

/// What is in a branch, or was stashed. Tags come from remotes too.
const LOCAL: [&str; 4] = ["rev-list", "--max-count=1", "--branches", "--glob=refs/stas[h]"];

/// Checks that a worktree that is as its last checkpoint holds nothing in a submodule that would be lost with it.
///
/// # Errors
/// `tree_not_clean` with the paths, or a reason where git fails.
pub(crate) fn check(place: &Place, client: &Client) -> Result<(), Reason> {
    let held = held(place, client)?;
    if held.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = held.iter().map(|path| path.display().to_string()).collect();
    let message = format!(
        "`{}` holds what cannot be put aside: commits, changes or new files in the submodule {}; push or move them, or remove \
         that directory",
        place.dir.display(),
        names.join(", ")
    );
    Err(Reason::new(Code::TreeNotClean, message))
}

/// The submodules with changes, new files, another commit than that of the checkpoint, or commits that no remote has.
///
/// # Errors
/// A reason where git fails.
pub(super) fn held(place: &Place, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    let mut held = differing(place, client)?;
    let Some(modules) = place.own_git_dir().map(|own| own.join("modules")) else { return Ok(held) };
    for dir in git_dirs(&modules, DEEPEST) {
        if has_own_commits(&dir, client)? && !held.iter().any(|path| dir.ends_with(path)) {
            // Where its files are, or were.
            held.push(dir.strip_prefix(&modules).map_or(dir.clone(), Path::to_path_buf));
        }
    }
    Ok(held)
}

/// The submodules that have files which are not those of the commit of the checkpoint.
fn differing(place: &Place, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    if place.is_there().is_err() {
        return Ok(Vec::new());
    }
    // A torn index is made again by those who put aside.
    let Ok(Some((bytes, _))) = read(&place.index()) else { return Ok(Vec::new()) };
    let Ok(entries) = entries(&bytes, place.hash_bytes) else { return Ok(Vec::new()) };
    let is_initialized = |path: &Path| fs::exists(&place.dir.join(path).join(".git")).unwrap_or(true);
    let paths = entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY).map(|(path, _)| path_of(path));
    let paths: Vec<PathBuf> = paths.filter(|path| is_initialized(path)).collect();
    if paths.is_empty() {
        return Ok(paths);
    }
    let captured = write::answer(Git::at(place, client).tree(&Status::ALL_OF_SUBMODULES))?;
    match Status::read(&captured) {
        Ok(status) => Ok(status.submodules.iter().map(|path| path_of(path)).collect()),
        Err(_) => Ok(paths),
    }
}

/// The git directories of submodules below a directory.
fn git_dirs(dir: &Path, deepest: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in fs::names(dir).unwrap_or_default() {
        let below = dir.join(name);
        if !below.symlink_metadata().is_ok_and(|found| found.is_dir()) || deepest == 0 {
            continue;
        }
        if below.join("HEAD").is_file() && below.join("objects").is_dir() {
            found.extend(git_dirs(&below.join("modules"), deepest - 1));
            found.push(below);
        } else {
            // The name of a submodule may have slashes.
            found.extend(git_dirs(&below, deepest - 1));
        }
    }
    found
}

/// True if a repository has commits that no remote has, that of HEAD included: a checkpoint names a commit, and does not hold it.
fn has_own_commits(dir: &Path, client: &Client) -> Result<bool, Reason> {
    let args = [LOCAL.as_slice(), &["HEAD", "--not", "--remotes"]].concat();
    let git_dir = dir.to_string_lossy();
    let call = Call::new(client, dir, GitDir::Repository, &args);
    let listed = call.variable("GIT_DIR", &git_dir).variable("GIT_WORK_TREE", &git_dir).answer()?;
    Ok(listed.code != Some(0) || !listed.stdout.is_empty())
}
