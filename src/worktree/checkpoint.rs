//! Checkpoints: what was judged, as a commit; and the way back to the last one.
//!
//! A step is taken if a commit with its trailer is reachable from `refs/engine/<run>/<ws>/head`. What a crash leaves:
//!
//! ```text
//! commit       objects without a reference: taken again, by another commit of the same tree
//! sync         likewise
//! move head    taken; the branch, HEAD and the index of the work tree are old: `settle` at the next call
//! settle       all of it, or a part that the next call completes
//! ```
//!
//! Hard rule: `head` moves only from where it was seen.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Place;
use super::content::{Counted, Differing, differing, tree_now};
use super::git::{Git, Head, Heads, heads, replace};
use crate::fs;
use crate::git::index::{self, path_of};
use crate::git::worktree::line_of;
use crate::git::{Client, write};
use crate::job::Reason;

/// Who made a commit, where git does not know the user.
const ENGINE: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "engine"),
    ("GIT_AUTHOR_EMAIL", "engine@localhost"),
    ("GIT_COMMITTER_NAME", "engine"),
    ("GIT_COMMITTER_EMAIL", "engine@localhost"),
];

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

/// So many directories that cannot be listed, one in the other, are opened.
const MAX_DEPTH_OF_CLOSED: usize = 16;

/// A step that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Its number; none of a checkpoint `hand`.
    pub step: Option<u32>,
    /// Of a checkpoint `hand`: the number of the last step before it.
    pub hand: Option<u32>,
    /// Its kind, as `edit`.
    pub kind: String,
    /// The commit and its tree.
    pub head: Head,
}

/// The checkpoints since the base, the oldest first.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn taken(place: &Place, base: &str, client: &Client) -> Result<Vec<Taken>, Reason> {
    taken_until(place, (base, &place.head_ref()), client)
}

/// The checkpoints since the base until a commit: whatever happens meanwhile, the same for the same two commits.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn taken_until(
    place: &Place,
    (base, head): (&str, &str),
    client: &Client,
) -> Result<Vec<Taken>, Reason> {
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
    if *job != format!("{}.{}", place.run, place.ws) {
        return None;
    }
    let number = step.strip_prefix(&format!("{}/", place.ws)).and_then(|number| number.parse().ok());
    let mut words = subject.strip_prefix(&format!("{}: ", place.ws))?.split(' ');
    let kind = words.next()?;
    let hand = words.next().filter(|_| kind == HAND).and_then(|number| number.parse().ok());
    let head = Head { commit: (*commit).to_owned(), tree: (*tree).to_owned() };
    Some(Taken { step: number, hand, kind: kind.to_owned(), head })
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
    let done = taken(place, base, client)?.into_iter().find(|taken| taken.step == Some(step));
    let commit = match done {
        Some(taken) => taken.head.commit,
        None => {
            let subject = format!("{}: {kind} {step:02}", place.ws);
            let seen = heads(place, client)?;
            let commit = advance(place, &seen, &message(place, &subject, Some(step)), tree, client)?;
            let head = Some(Head { commit: commit.clone(), tree: tree.to_owned() });
            settle_at(place, &Heads { head, ..seen }, client)?;
            return Ok(commit);
        }
    };
    settle(place, client)?;
    Ok(commit)
}

/// The message of a commit with its trailers.
pub(super) fn message(place: &Place, subject: &str, step: Option<u32>) -> String {
    let Place { run, ws, .. } = place;
    let step = step.map(|step| format!("Engine-Step: {ws}/{step:02}\n")).unwrap_or_default();
    format!("{subject}\n\nEngine-Run: {run}\nEngine-Job: {run}.{ws}\n{step}")
}

/// Makes a commit upon the last checkpoint, and moves the reference to it.
fn advance(
    place: &Place,
    seen: &Heads,
    message: &str,
    tree: &str,
    client: &Client,
) -> Result<String, Reason> {
    let git = Git::at(place, client);
    let head = seen.checkpoint(place)?;
    let commit = commit(&git, message, tree, &[&head.commit])?;
    git.move_ref(&place.head_ref(), &commit, Some(&head.commit))?;
    Ok(commit)
}

/// Makes a commit and syncs what it needs; no reference leads to it.
pub(super) fn commit(git: &Git<'_>, message: &str, tree: &str, parents: &[&str]) -> Result<String, Reason> {
    let call = || {
        // Without that setting git makes an author up.
        let args = ["-c", "user.useConfigOnly=true", "commit-tree", "--no-gpg-sign", "-F", "-"];
        let call = parents.iter().fold(git.repo(&args), |call, parent| call.arg("-p").arg(*parent));
        call.arg(tree).input(message.as_bytes().to_vec())
    };
    let captured = write::answer(call())?;
    let commit = match captured.code {
        Some(0) => String::from_utf8_lossy(captured.stdout.trim_ascii_end()).into_owned(),
        _ if String::from_utf8_lossy(&captured.stderr).contains("auto-detection is disabled") => {
            write::line(ENGINE.into_iter().fold(call(), |call, (name, value)| call.variable(name, value)))?
        }
        _ => return Err(write::refusal("commit-tree", &git.place.repo, &captured)),
    };
    sync(git, &commit, parents)?;
    Ok(commit)
}

/// Syncs the objects that a commit has beyond its parents. git has synced those that it made here, and not those that an agent
/// had added before.
fn sync(git: &Git<'_>, commit: &str, parents: &[&str]) -> Result<(), Reason> {
    if !git.place.durable {
        return Ok(());
    }
    let list = git.read(&["rev-list", "--objects", "--no-object-names", commit]);
    let listed = parents.iter().fold(list, |list, parent| list.arg(format!("^{parent}"))).output()?;
    for name in String::from_utf8_lossy(&listed).lines() {
        let Some((dir, rest)) = name.split_at_checked(2) else { continue };
        let path = git.place.common_dir.join("objects").join(dir).join(rest);
        // What is not there is in a pack, and git syncs packs.
        if let Ok(file) = File::open(&path) {
            fs::sync_data(&file, &path).map_err(|error| write::wrong(&error))?;
        }
    }
    Ok(())
}

/// Brings branch, HEAD and index of the work tree to the last checkpoint, and removes what an unfinished merge or rebase left.
/// No file of the work tree changes. The index of the engine must be that of the files.
///
/// # Errors
/// A reason where git fails.
pub(super) fn settle(place: &Place, client: &Client) -> Result<(), Reason> {
    settle_at(place, &heads(place, client)?, client)
}

/// The same where the references are known.
fn settle_at(place: &Place, heads: &Heads, client: &Client) -> Result<(), Reason> {
    let git = Git::at(place, client);
    let head = heads.checkpoint(place)?;
    let branch = heads.branch.as_ref().map(|branch| branch.commit.as_str());
    git.move_ref(&place.branch(), &head.commit, branch)?;
    let Some(own) = place.own_git_dir() else { return Ok(()) };
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
        write::run(git.tree(&["read-tree", &head.commit]))?;
    }
    give_index(place)
}

/// Gives the work tree a copy of the index of the engine.
pub(super) fn give_index(place: &Place) -> Result<(), Reason> {
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    replace(&own.join("index"), &index::read_written(&place.index())?)
}

/// The kind of a checkpoint of what a person did.
const HAND: &str = "hand";

/// Takes what a person did after a step: a branch that was moved, and changed files. None if there is nothing of both.
///
/// The commit that the branch was moved to stays under `refs/engine/<run>/<ws>/hand-<commit>`. Changed files win: they were
/// edited upon it, or are what the person left.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn hand(
    place: &Place,
    step: u32,
    counted: &Counted,
    client: &Client,
) -> Result<Option<String>, Reason> {
    let seen = heads(place, client)?;
    let head = seen.checkpoint(place)?;
    let moved = seen.branch.as_ref().filter(|branch| branch.commit != head.commit);
    let now = tree_now(place, counted, client)?.id;
    let git = Git::at(place, client);
    if let Some(branch) = moved {
        let kept = place.refs(&format!("hand-{}", branch.commit));
        write::run(git.repo(&["update-ref", &kept, &branch.commit]))?;
    }
    let is_dirty = now != head.tree;
    let tree = match moved {
        Some(branch) if !is_dirty => branch.tree.clone(),
        _ => now,
    };
    let commit = match tree == head.tree {
        true => None,
        false => {
            let message = message(place, &format!("{}: {HAND} {step:02}", place.ws), None);
            Some(advance(place, &seen, &message, &tree, client)?)
        }
    };
    if is_dirty {
        settle(place, client)?;
    } else {
        reset(place, counted, client)?;
    }
    Ok(commit)
}

/// Makes the work tree that of the last checkpoint: files, index, HEAD and branch. Ignored files and litter stay. Put aside first
/// what must not be lost. Gives what it leaves in place: repositories within, and files that this user cannot remove.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn reset(place: &Place, counted: &Counted, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    reset_once(place, counted, client)?;
    // Rules of the step may have hidden files; they are shown by the rules that are back.
    reset_once(place, counted, client)
}

/// Puts tracked files back that a check has changed, and gives their paths. What it left untracked stays.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn restore_tracked(
    place: &Place,
    counted: &Counted,
    client: &Client,
) -> Result<Vec<PathBuf>, Reason> {
    let git = Git::at(place, client);
    let changed: Vec<PathBuf> = differing(&git, counted)?.tracked.iter().map(|path| path_of(path)).collect();
    if !changed.is_empty() {
        let heads = heads(place, client)?;
        write::run(git.tree(&["read-tree", "--reset", "-u", &heads.checkpoint(place)?.commit]))?;
        settle_at(place, &heads, client)?;
    }
    Ok(changed)
}

/// As `reset`, by the ignore rules of now.
pub(super) fn reset_once(place: &Place, counted: &Counted, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    let git = Git::at(place, client);
    let heads = heads(place, client)?;
    let found = opened(&git, counted)?;
    let mut left = found.nested;
    for path in found.untracked.iter().map(|path| path_of(path)) {
        if !is_removed(place, &path)? {
            left.push(path);
        }
    }
    // It rewrites every file that differs from the index, also one that was no change, and removes those of the index alone.
    write::run(git.tree(&["read-tree", "--reset", "-u", &heads.checkpoint(place)?.commit]))?;
    settle_at(place, &heads, client)?;
    Ok(left)
}

/// What differs, after each directory that it is in lets its files be listed and changed.
fn opened(git: &Git<'_>, counted: &Counted) -> Result<Differing, Reason> {
    let mut found = differing(git, counted)?;
    for _ in 0..MAX_DEPTH_OF_CLOSED {
        let above = found.tracked.iter().chain(&found.untracked).map(|path| path_of(path));
        let above: BTreeSet<PathBuf> = above.filter_map(|path| Some(path.parent()?.to_path_buf())).collect();
        for dir in above.iter().chain(&found.unlisted) {
            // Where it fails, the removal does too, and tells.
            let _ = fs::open_up(&git.place.file(dir));
        }
        if found.unlisted.is_empty() {
            break;
        }
        found = differing(git, counted)?;
    }
    Ok(found)
}

/// Removes a file of the work tree, and the directories that it leaves empty; false if this user may not.
fn is_removed(place: &Place, path: &Path) -> Result<bool, Reason> {
    match fs::remove(&place.file(path)) {
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        removed => removed.map_err(|error| write::wrong(&error))?,
    };
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if !fs::remove_empty_dir(&place.file(above)).unwrap_or(false) {
            break;
        }
    }
    Ok(true)
}

/// Puts the reference of the last checkpoint back where it was before a step that moved it; false if none did.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn put_back_head(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    // Mostly the file of the reference shows without a call of git that nothing moved.
    let line = line_of(&place.common_dir.join(place.head_ref()));
    if line.as_deref() == Some(commit.as_bytes()) {
        return Ok(false);
    }
    let now = heads(place, client)?.head.map(|head| head.commit);
    if now.as_deref() == Some(commit) {
        return Ok(false);
    }
    Git::at(place, client).move_ref(&place.head_ref(), commit, now.as_deref()).map(|()| true)
}
