//! The content of the work tree as a tree of git: what its files are, with the user's filters on, litter apart.
//!
//! Responsible for bringing the index of the engine to what the files are. Hard rule: the index of the work tree is not read,
//! because a step can hide changes in it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Place;
use super::git::{Git, checkpoint, joined};
use crate::evidence::Scope;
use crate::fs;
use crate::git::index::{self, path_of};
use crate::git::{Client, Status, write};
use crate::job::{Code, Reason};

/// Which files of a work tree count.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// The scope. A file that it names literally counts also where git ignores it.
    pub scope: Scope,
    /// The files that are no change (`Scope::of_no_change`), unless the scope names them literally.
    pub no_change: Scope,
}

/// The content of a work tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The name of the tree.
    pub id: String,
    /// Repositories within, which are no submodules; the tree has nothing of them.
    pub nested: Vec<PathBuf>,
    /// Submodules that differ from the checkpoint; the tree has the old commit.
    pub submodules: Vec<PathBuf>,
    /// Files and directories that cannot be read; the tree has the old content.
    pub unread: Vec<PathBuf>,
    /// Changed files of another user. The tree has them.
    pub foreign: Vec<PathBuf>,
}

/// What differs from the index of the engine.
#[derive(Debug, Default)]
pub(super) struct Differing {
    /// Files that the index knows.
    pub tracked: Vec<Vec<u8>>,
    /// Files that it does not know.
    pub untracked: Vec<Vec<u8>>,
    /// As in `Tree`.
    pub nested: Vec<PathBuf>,
    /// As in `Tree`.
    pub submodules: Vec<PathBuf>,
    /// Directories that cannot be listed.
    pub unlisted: Vec<PathBuf>,
}

/// Looks at the work tree, and records its content in the repository, without a reference to it.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn tree_now(place: &Place, counted: &Counted, client: &Client) -> Result<Tree, Reason> {
    let git = Git::at(place, client);
    let differing = differing(&git, counted)?;
    record(&git, differing)
}

/// The files of the last checkpoint, each with its bytes.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn files(place: &Place, client: &Client) -> Result<Vec<(PathBuf, u64)>, Reason> {
    let git = Git::at(place, client);
    let listed = git.read(&["ls-tree", "-r", "-l", "-z"]).arg(checkpoint(place, client)?.tree).output()?;
    let one = |line: &[u8]| {
        let tab = memchr::memchr(b'\t', line)?;
        let (facts, path) = (line.get(..tab)?, line.get(tab + 1..)?);
        let bytes = std::str::from_utf8(facts).ok()?.split_whitespace().nth(3)?.parse().ok()?;
        Some((path_of(path), bytes))
    };
    Ok(listed.split(|byte| *byte == 0).filter_map(one).collect())
}

/// Compares the work tree with the index of the engine. An index that is missing or torn is made again from the checkpoint.
pub(super) fn differing(git: &Git<'_>, counted: &Counted) -> Result<Differing, Reason> {
    git.place.is_there()?;
    let status = || {
        let captured = write::answer(git.tree(&Status::WITH_SUBMODULES))?;
        Status::read(&captured).map_err(|_| write::refusal("status", &git.place.dir, &captured))
    };
    let index = git.place.index();
    let status = match fs::exists(&index).unwrap_or(false).then(status) {
        Some(Ok(status)) => status,
        Some(Err(reason)) if git.client.is_over() || reason.code != Code::GitFailed => return Err(reason),
        _ => {
            fs::remove(&index).map_err(|error| write::wrong(&error))?;
            let head = checkpoint(git.place, git.client)?;
            write::run(git.tree(&["read-tree", &head.commit]))?;
            status()?
        }
    };
    Ok(sort(git.place, counted, status))
}

fn sort(place: &Place, counted: &Counted, status: Status) -> Differing {
    let counts = |path: &Vec<u8>| {
        let path = path_of(path);
        !counted.no_change.contains(&path) || counted.scope.names(&path)
    };
    let forced = forced(place, counted, &status);
    let Status { changed, known, submodules, unlisted, .. } = status;
    let submodules: BTreeSet<Vec<u8>> = submodules.into_iter().collect();
    let (mut tracked, mut untracked, mut nested) = (Vec::new(), forced, Vec::new());
    for (number, path) in changed.into_iter().enumerate() {
        if let Some(repository) = path.strip_suffix(b"/") {
            nested.push(path_of(repository));
        } else if !submodules.contains(&path) && counts(&path) {
            if number < known { &mut tracked } else { &mut untracked }.push(path);
        }
    }
    let paths = |all: Vec<Vec<u8>>| all.iter().map(|path| path_of(path)).collect();
    let submodules = paths(submodules.into_iter().collect());
    Differing { tracked, untracked, nested, submodules, unlisted: paths(unlisted) }
}

/// The ignored files that the scope names.
fn forced(place: &Place, counted: &Counted, status: &Status) -> Vec<Vec<u8>> {
    let is_ignored = |path: &str| {
        let in_directory = status.ignored_directories.iter().any(|dir| path.as_bytes().starts_with(dir));
        in_directory || status.ignored.iter().any(|ignored| ignored == path.as_bytes())
    };
    let is_file = |path: &str| {
        std::fs::symlink_metadata(place.dir.join(path)).is_ok_and(|file| file.is_file() || file.is_symlink())
    };
    let named = counted.scope.literal().filter(|path| is_ignored(path) && is_file(path));
    named.map(|path| path.as_bytes().to_vec()).collect()
}

/// Brings the index of the engine to what the files are, and makes its tree.
pub(super) fn record(git: &Git<'_>, differing: Differing) -> Result<Tree, Reason> {
    let Differing { tracked, untracked, nested, submodules, unlisted } = differing;
    let all: Vec<Vec<u8>> = tracked.into_iter().chain(untracked).collect();
    let place = git.place;
    let look = |path: &Vec<u8>| std::fs::symlink_metadata(place.file(&path_of(path))).ok();
    let is_foreign = |path: &&Vec<u8>| look(path).is_some_and(|file| !fs::is_own(&file));
    let foreign = all.iter().filter(is_foreign).map(|path| path_of(path)).collect();
    // git takes only files and links; a repository in place of a file would become a submodule.
    let is_gone = |path: &Vec<u8>| look(path).is_none_or(|file| !file.is_file() && !file.is_symlink());
    let (gone, there): (Vec<Vec<u8>>, Vec<Vec<u8>>) = all.into_iter().partition(is_gone);
    if !gone.is_empty() {
        write::run(git.tree(&["update-index", "--force-remove", "-z", "--stdin"]).input(joined(&gone)))?;
    }
    let mut unread = add(git, there)?;
    unread.extend(unlisted);
    Ok(Tree { id: written(git)?, nested, submodules, unread, foreign })
}

/// Adds files to the index, and gives those that cannot be read.
fn add(git: &Git<'_>, files: Vec<Vec<u8>>) -> Result<Vec<PathBuf>, Reason> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let add = |files: &[Vec<u8>]| {
        write::answer(
            git.tree(&["update-index", "--add", "--remove", "--replace", "-z", "--stdin"])
                .input(joined(files)),
        )
    };
    let captured = add(&files)?;
    if captured.code == Some(0) {
        return Ok(Vec::new());
    }
    // One file that cannot be read is enough, and then nothing was written.
    let is_readable = |path: &Vec<u8>| {
        let full = git.place.file(&path_of(path));
        full.is_symlink() || rustix::fs::access(&full, rustix::fs::Access::READ_OK).is_ok()
    };
    let (read, unread): (Vec<Vec<u8>>, Vec<Vec<u8>>) = files.into_iter().partition(is_readable);
    if unread.is_empty() {
        return Err(write::refusal("update-index", &git.place.dir, &captured));
    }
    if !read.is_empty() {
        let captured = add(&read)?;
        if captured.code != Some(0) {
            return Err(write::refusal("update-index", &git.place.dir, &captured));
        }
    }
    Ok(unread.iter().map(|path| path_of(path)).collect())
}

/// The tree of the index; git is not asked where the index names it.
fn written(git: &Git<'_>) -> Result<String, Reason> {
    let bytes = index::read_written(&git.place.index())?;
    match index::tree(&bytes, git.place.hash_bytes) {
        Some(tree) => Ok(tree),
        None => write::line(git.tree(&["write-tree"])),
    }
}
