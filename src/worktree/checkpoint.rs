//! Checkpoints: what was judged, as a commit; and the way back to the last one.
//!
//! A step is taken if a commit with its trailer is reachable from `refs/engine/<run>/<ws>/head`. What a crash leaves:
//!
//! ```text
//! commit       objects without a reference: taken again, by another commit of the same tree
//! sync         likewise
//! move head    taken; the branch may be old, and HEAD and the index of the worktree are: `settle` at the next call
//! settle       all of it, or a part that the next call completes
//! ```
//!
//! Hard rule: `head` moves only from where it was seen.

use std::io;
use std::path::{Path, PathBuf};

use super::commit::commit;
use super::content::{Counted, Differing, differing, record};
use super::git::{Git, Head, Heads, heads, heads_as_they_are, is_of, lead_to, replace, step_of};
use super::told::Told;
use super::{Place, unseen};
use crate::fs::{self, Sweep};
use crate::git::index::{self, path_of};
use crate::git::worktree::line_of;
use crate::git::{Client, write};
use crate::job::Reason;

/// What an unfinished merge, rebase or the like leaves in a git directory. git finds nothing unfinished without it.
const UNFINISHED: [&str; 12] = [
    "AUTO_MERGE",
    "BISECT_LOG",
    "BISECT_START",
    "CHERRY_PICK_HEAD",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "rebase-apply",
    "rebase-merge",
    "sequencer",
];

/// The kind of a checkpoint of what a person did.
pub(super) const HAND: &str = "hand";

/// A step that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Of a checkpoint `hand`: the number of the last step before it.
    pub hand: Option<u32>,
    /// Its kind, as `edit`.
    pub kind: String,
    /// The commit, its tree, and the number of the step.
    pub head: Head,
}

/// The checkpoints since the base up to a commit, the oldest first.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn taken(
    place: &Place,
    (base, head): (&str, &str),
    client: &Client,
) -> Result<Vec<Taken>, Reason> {
    if base == head {
        return Ok(Vec::new());
    }
    let format = "--format=%H%x00%T%x00%(trailers:key=Engine-Step,valueonly,separator=%x2C)%x00\
                  %(trailers:key=Engine-Job,valueonly,separator=%x2C)%x00%s";
    let git = Git::at(place, client);
    let list = ["rev-list", "--reverse", "--topo-order", "--no-commit-header", format];
    let listed = git.read(&list).arg(head).arg(format!("^{base}")).arg("--").output()?;
    Ok(String::from_utf8_lossy(&listed).lines().filter_map(|line| own(place, line)).collect())
}

/// A line of that list, if the commit is one of this workstream.
fn own(place: &Place, line: &str) -> Option<Taken> {
    let fields: Vec<&str> = line.split('\0').collect();
    let [commit, tree, step, job, subject] = fields.as_slice() else { return None };
    if !is_of(place, job) {
        return None;
    }
    let mut words = subject.strip_prefix(&format!("{}: ", place.ws))?.split(' ');
    let kind = words.next()?;
    let hand = words.next().filter(|_| kind == HAND).and_then(|number| number.parse().ok());
    let (commit, tree, step) = ((*commit).to_owned(), (*tree).to_owned(), step_of(place, [*job, *step]));
    Some(Taken { hand, kind: kind.to_owned(), head: Head { commit, tree, step } })
}

/// Takes a step: makes a checkpoint of the tree that was judged, and leaves HEAD, branch and index there. A step that is taken
/// is not taken again.
///
/// # Errors
/// `ref_moved` if another process moved the reference meanwhile, or as `write::run`.
pub(crate) fn take(
    place: &Place,
    base: &str,
    (kind, step): (&str, u32),
    tree: &str,
    client: &Client,
) -> Result<String, Reason> {
    let seen = heads(place, client)?;
    let head = seen.checkpoint(place)?.clone();
    // Numbers rise, so the list need not be asked behind a checkpoint with a lower one.
    let is_new = head.commit == base || head.step.is_some_and(|last| last < step);
    let done = match is_new {
        true => None,
        false => taken(place, (base, &head.commit), client)?
            .into_iter()
            .find(|taken| taken.head.step == Some(step)),
    };
    if let Some(taken) = done {
        settle(place, (&head.commit, seen.branch_commit()), client)?;
        return Ok(taken.head.commit);
    }
    let message = message(place, &format!("{}: {kind} {step:02}", place.ws), Some(step));
    let git = Git::at(place, client);
    let commit = commit(&git, &message, tree, &[&head.commit])?;
    place.commits.remember(&commit, Told::of_step((&place.run, &place.ws), step, tree));
    let (head_ref, branch) = (place.head_ref(), place.branch());
    git.move_refs(&[
        (&*head_ref, &*commit, Some(&*head.commit)),
        (&*branch, &*commit, seen.branch_commit()),
    ])?;
    settle(place, (&commit, Some(&commit)), client)?;
    Ok(commit)
}

/// The message of a commit with its trailers.
pub(super) fn message(place: &Place, subject: &str, step: Option<u32>) -> String {
    let Place { run, ws, job, .. } = place;
    let step = step.map(|step| format!("Engine-Step: {ws}/{step:02}\n")).unwrap_or_default();
    format!("{subject}\n\nEngine-Run: {run}\nEngine-Job: {run}.{job}\n{step}")
}

/// Makes a commit upon the last checkpoint, with the commits that it merges, and moves the reference to it.
pub(super) fn advance(
    place: &Place,
    message: &str,
    tree: &str,
    (head, merged): (&Head, &[String]),
    client: &Client,
) -> Result<String, Reason> {
    let git = Git::at(place, client);
    let parents: Vec<&str> = std::iter::once(&head.commit).chain(merged).map(String::as_str).collect();
    let commit = commit(&git, message, tree, &parents)?;
    git.move_ref(&place.head_ref(), &commit, Some(&head.commit))?;
    Ok(commit)
}

/// Brings branch, HEAD and index of the worktree to the last checkpoint, and removes what an unfinished merge or rebase left.
/// No file of the worktree changes. The index of the engine must be that of the files.
///
/// # Errors
/// A reason where git fails.
pub(super) fn settle(
    place: &Place,
    (head, branch): (&str, Option<&str>),
    client: &Client,
) -> Result<(), Reason> {
    let git = Git::at(place, client);
    git.move_ref(&place.branch(), head, branch)?;
    // Where it is gone the worktree is made anew at the next start.
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    lead_to(&own, place)?;
    for name in UNFINISHED {
        let path = own.join(name);
        if fs::exists(&path).unwrap_or(false) {
            fs::remove_tree(&path).map_err(|error| write::wrong(&error))?;
        }
    }
    let on_branch = format!("ref: {}", place.branch());
    if line_of(&own.join("HEAD")).as_deref() != Some(on_branch.as_bytes()) {
        write::run(git.tree(&["symbolic-ref", "HEAD", &place.branch()]))?;
    }
    if !fs::exists(&place.index()).unwrap_or(false) {
        write::run(git.tree(&["read-tree", head]))?;
    }
    give_index(place)
}

/// Gives the worktree a copy of the index of the engine.
pub(super) fn give_index(place: &Place) -> Result<(), Reason> {
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    let (path, bytes) = (own.join("index"), index::read_written(&place.index())?);
    match index::read(&path) {
        Ok(Some((there, _))) if there == bytes => Ok(()),
        _ => replace(&path, &bytes),
    }
}

/// Makes the worktree that of the last checkpoint: files, index, HEAD and branch. Ignored files and litter stay. Put aside first
/// what must not be lost. Gives what it leaves in place: repositories within, changed submodules, and files that git does not
/// record or this user cannot remove.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn reset(place: &Place, counted: &Counted, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    let git = Git::at(place, client);
    let heads = heads(place, client)?;
    let (found, opened) = opened(&git, counted)?;
    let refused = record(&git, found)?.refused;
    reset_once(&git, counted, &Before { heads: &heads, refused: &refused, opened: &opened })?;
    // Rules of the step may have hidden files; they are shown by the rules that are back.
    let heads = Heads { branch: heads.head.clone(), ..heads };
    reset_once(&git, counted, &Before { heads: &heads, refused: &refused, opened: &[] })
}

/// What is known before a reset.
pub(super) struct Before<'a> {
    /// The references.
    pub heads: &'a Heads,
    /// Files that git does not record: they stay.
    pub refused: &'a [(PathBuf, String)],
    /// What was opened: git keeps no modes but one.
    pub opened: &'a [PathBuf],
}

/// As `reset`, by the ignore rules of now.
pub(super) fn reset_once(
    git: &Git<'_>,
    counted: &Counted,
    before: &Before<'_>,
) -> Result<Vec<PathBuf>, Reason> {
    let head = before.heads.checkpoint(git.place)?;
    let found = opened(git, counted)?.0;
    let mut left: Vec<PathBuf> = found.nested.iter().chain(&found.submodules).cloned().collect();
    for path in found.untracked.iter().map(|path| path_of(path)) {
        let is_refused = before.refused.iter().any(|(refused, _)| *refused == path);
        if is_refused || !is_removed(git.place, &path)? {
            left.push(path);
        }
    }
    for path in before.opened.iter().map(|path| git.place.file(path)).filter(|path| path.is_file()) {
        fs::remove(&path).map_err(|error| write::wrong(&error))?;
    }
    // It rewrites every file that differs from the index, also one that was no change, and removes those of the index alone.
    write::run(git.tree(&["read-tree", "--reset", "-u", &head.commit]))?;
    settle(git.place, (&head.commit, before.heads.branch_commit()), git.client)?;
    left.extend(unseen::sweep(git, &found, EVERYTHING)?.repositories);
    Ok(left)
}

/// What a reset removes and opens.
const EVERYTHING: Sweep = Sweep { special: true, empty: true, closed: true };

/// Brings a worktree whose files are those of the last checkpoint to it: HEAD, branch, index, and what git does not see.
pub(super) fn reset_unchanged(
    git: &Git<'_>,
    heads: &Heads,
    found: &Differing,
) -> Result<Vec<PathBuf>, Reason> {
    settle(git.place, (&heads.checkpoint(git.place)?.commit, heads.branch_commit()), git.client)?;
    Ok(unseen::sweep(git, found, EVERYTHING)?.repositories)
}

/// What a check left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AfterCheck {
    /// Files of the last checkpoint that it changed.
    pub changed: Vec<PathBuf>,
    /// Files that it added; they stay for the checks after it.
    pub added: Vec<PathBuf>,
    /// Repositories within and changed submodules; they stay too.
    pub left: Vec<PathBuf>,
    /// True if git sees nothing that differs.
    pub is_clean: bool,
}

/// Looks at what a check left. Where it changed no file of the last checkpoint, HEAD, branch and index are put back; else the
/// caller puts the files back, or aside. `branch` is where the branch was seen.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn after_check(
    place: &Place,
    counted: &Counted,
    (head, branch): (&Head, Option<&str>),
    client: &Client,
) -> Result<AfterCheck, Reason> {
    let git = Git::at(place, client);
    place.is_there()?;
    let index = index::read(&place.index())?;
    let tree = index.and_then(|(bytes, _)| index::tree(&bytes, place.hash_bytes));
    if tree.as_ref() != Some(&head.tree) {
        // What was added before is not of the checkpoint.
        write::run(git.tree(&["read-tree", "--reset", &head.commit]))?;
    }
    let mut found = differing(&git, counted)?;
    if !found.tracked.is_empty() || !found.unlisted.is_empty() {
        found = opened(&git, counted)?.0;
    }
    if found.tracked.is_empty() {
        settle(place, (&head.commit, branch), client)?;
    }
    let is_clean = found.is_none();
    let paths = |all: Vec<Vec<u8>>| all.iter().map(|path| path_of(path)).collect();
    let left = found.nested.into_iter().chain(found.submodules).collect();
    Ok(AfterCheck { changed: paths(found.tracked), added: paths(found.untracked), left, is_clean })
}

/// Puts the files of the last checkpoint back, with HEAD, branch and index, after `after_check`; what was added stays.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn put_back(
    place: &Place,
    (head, branch): (&Head, Option<&str>),
    client: &Client,
) -> Result<(), Reason> {
    write::run(Git::at(place, client).tree(&["read-tree", "--reset", "-u", &head.commit]))?;
    settle(place, (&head.commit, branch), client)
}

/// What differs, after this user can read and change each file and directory of its own, and what had to be opened for that. Files
/// at which a program would wait for ever are gone.
pub(super) fn opened(git: &Git<'_>, counted: &Counted) -> Result<(Differing, Vec<PathBuf>), Reason> {
    let found = differing(git, counted)?;
    let swept = unseen::sweep(git, &found, Sweep { empty: false, ..EVERYTHING })?;
    match swept.opened.is_empty() {
        true => Ok((found, Vec::new())),
        false => Ok((differing(git, counted)?, swept.opened)),
    }
}

/// Removes a file of the worktree, and the directories that it leaves empty; false if this user may not.
fn is_removed(place: &Place, path: &Path) -> Result<bool, Reason> {
    match fs::remove(&place.file(path)) {
        Err(error)
            if matches!(
                error.source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(false);
        }
        removed => removed.map_err(|error| write::wrong(&error))?,
    };
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if !fs::remove_empty_dir(&place.file(above)).unwrap_or(false) {
            break;
        }
    }
    Ok(true)
}

/// The commit that `head` may be at after a run of a step that began at a checkpoint: there, or where the step was taken upon it.
/// A step can move the reference, while no process of the engine watches, also to a commit with a forged trailer.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn expected_head(
    place: &Place,
    (step, began_at): (u32, &str),
    client: &Client,
) -> Result<String, Reason> {
    let Some(head) = heads(place, client)?.head.filter(|head| head.step == Some(step)) else {
        return Ok(began_at.to_owned());
    };
    let list = ["rev-list", "--max-count=1", "--no-commit-header", "--format=%P", &head.commit];
    let parents = Git::at(place, client).read(&list).output()?;
    Ok(if parents.trim_ascii() == began_at.as_bytes() { head.commit } else { began_at.to_owned() })
}

/// True if the reference of the last checkpoint is at a commit.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn is_head_at(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    // Mostly the file of the reference shows without a call of git that nothing moved.
    let line = line_of(&place.common_dir.join(place.head_ref()));
    if line.as_deref() == Some(commit.as_bytes()) {
        return Ok(true);
    }
    Ok(heads_as_they_are(place, client)?.head.is_some_and(|head| head.commit == commit))
}

/// Puts the reference of the last checkpoint back where it was before a step that moved it; false if none did.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn put_back_head(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    if is_head_at(place, commit, client)? {
        return Ok(false);
    }
    let now = heads_as_they_are(place, client)?.head.map(|head| head.commit);
    Git::at(place, client).move_ref(&place.head_ref(), commit, now.as_deref()).map(|()| true)
}
