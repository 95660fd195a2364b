//! What is put aside: content that is not taken, under a reference of its step, from where a person or a parked step gets it back.
//!
//! A crash leaves objects without a reference, or the reference: then the next call finds the same tree and makes no second
//! commit. Hard rule: a reference only moves to a commit that has what it held as a parent.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Place;
use super::checkpoint::{Before, message, opened, reset_once, reset_unchanged};
use super::commit::commit;
use super::content::{Counted, Differing, Tree, differing, record};
use super::git::{Aside, Git, Heads, StepRun, heads};
use super::told::{ATTEMPT, REFUSED};
use crate::git::index::path_of;
use crate::git::{Client, write};
use crate::job::Reason;

/// Untracked files beyond so many bytes are not kept, the largest of them.
const MAX_UNTRACKED_BYTES: u64 = 32 << 20;

/// More rounds find nothing new, but what cannot be removed.
const MAX_ROUNDS: usize = 3;

/// What was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutAside {
    /// The reference.
    pub reference: String,
    /// Its commit.
    pub commit: String,
    /// Untracked files that are not in it, because they are too large.
    pub not_kept: Vec<PathBuf>,
    /// The tree, and what it could not hold.
    pub tree: Tree,
}

/// Puts the content of the worktree aside, untracked files included; `None` if it is that of the last checkpoint, and no refusal
/// is to be kept. The worktree stays as it is. The reason of a refusal stands in the commit, so that the next process finds it.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn put_aside(
    place: &Place,
    step: impl Into<StepRun>,
    counted: &Counted,
    why: Option<&Reason>,
    client: &Client,
) -> Result<Option<PutAside>, Reason> {
    let git = Git::at(place, client);
    let found = differing(&git, counted)?;
    let (tree, not_kept) = recorded(&git, found)?;
    put(&git, (step.into(), why), &heads(place, client)?, (&tree, not_kept))
}

/// Records what differs, but for what is too large, which is given too.
fn recorded(git: &Git<'_>, mut found: Differing) -> Result<(Tree, Vec<PathBuf>), Reason> {
    let (kept, not_kept) = within(git.place, std::mem::take(&mut found.untracked));
    found.untracked = kept;
    Ok((record(git, found)?, not_kept))
}

fn put(
    git: &Git<'_>,
    (run, why): (StepRun, Option<&Reason>),
    heads: &Heads,
    (tree, not_kept): (&Tree, Vec<PathBuf>),
) -> Result<Option<PutAside>, Reason> {
    let place = git.place;
    let head = heads.checkpoint(place)?;
    let held = heads.asides.iter().find(|aside| aside.step == run.n);
    let of_this_run = held.filter(|held| held.is_of(run));
    let refused_before = of_this_run.and_then(|held| held.refused.as_ref());
    let is_said = why.is_none() || why.map(|why| &why.code) == refused_before.map(|why| &why.code);
    if tree.id == head.tree && not_kept.is_empty() && is_said {
        return Ok(None);
    }
    let tree = tree.clone();
    let reference = place.aside_ref(run.n);
    if let Some(held) = of_this_run
        && is_said
        && is_of(git, &held.commit, [&tree.id, &head.commit])?
    {
        return Ok(Some(PutAside { reference, commit: held.commit.clone(), not_kept, tree }));
    }
    let held_commit = held.map(|held| held.commit.as_str());
    let parents: Vec<&str> = [head.commit.as_str()].into_iter().chain(held_commit).collect();
    let attempt = run.attempt.or(of_this_run.and_then(|held| held.attempt));
    let message = message_of(place, StepRun { attempt, ..run }, why.or(refused_before));
    let commit = commit(git, &message, &tree.id, &parents)?;
    git.move_ref(&reference, &commit, held_commit)?;
    Ok(Some(PutAside { reference, commit, not_kept, tree }))
}

/// Puts the content of the worktree aside, and makes the worktree that of the last checkpoint. Gives all that was put aside, and
/// what is left in place (`reset`).
///
/// # Errors
/// A reason where git fails.
pub(crate) fn put_aside_and_reset(
    place: &Place,
    step: impl Into<StepRun>,
    counted: &Counted,
    why: Option<&Reason>,
    client: &Client,
) -> Result<(Option<PutAside>, Vec<PathBuf>), Reason> {
    let (git, run) = (Git::at(place, client), step.into());
    let mut all: Option<PutAside> = None;
    let mut left = Vec::new();
    // Ignore rules of the step may have hidden files; they are shown by the rules that are back, and are put aside after it.
    for _ in 0..MAX_ROUNDS {
        let heads = heads(place, client)?;
        let (found, opened) = opened(&git, counted)?;
        let unchanged = (found.is_none() && opened.is_empty()).then(|| found.clone());
        let (tree, not_kept) = recorded(&git, found)?;
        let aside = put(&git, (run, why), &heads, (&tree, not_kept))?;
        left = match unchanged.filter(|_| aside.is_none()) {
            Some(found) => reset_unchanged(&git, &heads, &found)?,
            None => {
                let before = Before { heads: &heads, refused: &tree.refused, opened: &opened };
                reset_once(&git, counted, &before)?
            }
        };
        let Some(aside) = aside else { break };
        let not_kept = all.into_iter().flat_map(|all| all.not_kept).chain(aside.not_kept).collect();
        all = Some(PutAside { not_kept, ..aside });
    }
    Ok((all, left))
}

/// The message of a commit that holds what was put aside.
fn message_of(place: &Place, run: StepRun, refused: Option<&Reason>) -> String {
    let mut subject = format!("{}: put aside {:02}", place.ws, run.n);
    if let Some(refused) = refused {
        // One paragraph: the trailers are the last one.
        let words: Vec<&str> = refused.message.split_whitespace().collect();
        let _ = write!(subject, "\n\n{}", words.join(" "));
    }
    let mut message = message(place, &subject, None);
    if let Some(attempt) = run.attempt {
        let _ = writeln!(message, "{ATTEMPT}: {attempt}");
    }
    if let Some(refused) = refused {
        let _ = writeln!(message, "{REFUSED}: {}", refused.code);
    }
    message
}

/// The untracked files that are kept, the smallest first, and the others.
fn within(place: &Place, untracked: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<PathBuf>) {
    let size =
        |path: &Vec<u8>| std::fs::symlink_metadata(place.file(&path_of(path))).map_or(0, |file| file.len());
    let mut sized: Vec<(u64, Vec<u8>)> = untracked.into_iter().map(|path| (size(&path), path)).collect();
    sized.sort();
    let (mut kept, mut not_kept, mut sum) = (Vec::new(), Vec::new(), 0u64);
    for (size, path) in sized {
        sum = sum.saturating_add(size);
        match sum <= MAX_UNTRACKED_BYTES {
            true => kept.push(path),
            false => not_kept.push(path_of(&path)),
        }
    }
    (kept, not_kept)
}

/// True if a commit has this tree and this first parent.
fn is_of(git: &Git<'_>, commit: &str, [tree, parent]: [&str; 2]) -> Result<bool, Reason> {
    let list = ["rev-list", "--max-count=1", "--no-commit-header", "--format=%T %P", commit];
    let listed = git.read(&list).output()?;
    let listed = String::from_utf8_lossy(&listed);
    let mut words = listed.split_whitespace();
    Ok(words.next() == Some(tree) && words.next() == Some(parent))
}

/// Lays out what was put aside of a run of a step onto a worktree that is at the last checkpoint; false if nothing was put aside.
/// HEAD and the index of the worktree stay at the checkpoint.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn lay_out(place: &Place, step: impl Into<StepRun>, client: &Client) -> Result<bool, Reason> {
    let run = step.into();
    let found = heads(place, client)?.asides.into_iter().find(|aside| aside.is_of(run));
    let Some(Aside { commit, .. }) = found else { return Ok(false) };
    place.is_there()?;
    write::run(Git::at(place, client).tree(&["read-tree", "--reset", "-u", &commit]))?;
    Ok(true)
}
