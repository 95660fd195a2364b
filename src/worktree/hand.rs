//! What a person did after a verdict, in the worktree or on the branch: taken as a checkpoint of its own.
//!
//! A crash after the move of `head` leaves the files or the branch behind it; the next call completes that. Hard rule: a branch is
//! not moved away from a commit of a person that no other reference holds.

use super::Place;
use super::checkpoint::{HAND, advance, message, reset, settle};
use super::commit::keep;
use super::content::{Counted, tree_now};
use super::git::{Git, HAND_REF, Head, Heads, heads};
use crate::git::Client;
use crate::job::Reason;

/// Takes what a person did after a step: a branch that was moved, and changed files. None if there is nothing of both.
///
/// The commit that the branch was moved to is kept (`keep_branch`). Changed files win: they were edited upon it, or are what the
/// person left.
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
    let head = seen.checkpoint(place)?.clone();
    let moved = seen.branch.clone().filter(|branch| branch.commit != head.commit);
    let now = tree_now(place, counted, client)?.id;
    let git = Git::at(place, client);
    if let Some(branch) = &moved
        && is_taken_already(&git, step, (&head, branch), &now)?
    {
        reset(place, counted, client)?;
        return Ok(Some(head.commit));
    }
    keep_branch(place, &seen, client)?;
    let is_dirty = now != head.tree;
    let tree = match &moved {
        Some(branch) if !is_dirty => branch.tree.clone(),
        _ => now,
    };
    let commit = match tree == head.tree {
        true => None,
        false => {
            let message = message(place, &format!("{}: {HAND} {step:02}", place.ws), None);
            Some(advance(place, &message, &tree, (&head, client))?)
        }
    };
    if is_dirty {
        settle(place, (commit.as_ref().unwrap_or(&head.commit), seen.branch_commit()), client)?;
    } else {
        reset(place, counted, client)?;
    }
    Ok(commit)
}

/// True if `head` took what a person did after this step, and the branch or the files are still as before that.
fn is_taken_already(
    git: &Git<'_>,
    step: u32,
    (head, branch): (&Head, &Head),
    now: &str,
) -> Result<bool, Reason> {
    let format = "--format=%H%x00%T%x00%s";
    let list = ["rev-list", "--max-count=2", "--first-parent", "--no-commit-header", format, &head.commit];
    let listed = git.read(&list).output()?;
    let listed = String::from_utf8_lossy(&listed);
    let mut commits = listed.lines().map(|line| line.splitn(3, '\0').collect::<Vec<_>>());
    let (Some(own), Some(parent)) = (commits.next(), commits.next()) else { return Ok(false) };
    let ([_, _, subject], [before, tree_before, _]) = (own.as_slice(), parent.as_slice()) else {
        return Ok(false);
    };
    if *subject != format!("{}: {HAND} {step:02}", git.place.ws) {
        return Ok(false);
    }
    let files_follow = now == *tree_before && branch.tree == head.tree;
    let branch_follows = now == head.tree && (branch.commit == *before || is_kept(git, branch)?);
    Ok(files_follow || branch_follows)
}

/// The reference that keeps a commit to which a person moved the branch.
fn kept_ref(place: &Place, branch: &Head) -> String {
    place.refs(&format!("{HAND_REF}{}", branch.commit))
}

fn is_kept(git: &Git<'_>, branch: &Head) -> Result<bool, Reason> {
    let kept = kept_ref(git.place, branch);
    let found = git.read(&["for-each-ref", "--format=%(objectname)", &kept]).output()?;
    Ok(found.trim_ascii() == branch.commit.as_bytes())
}

/// Keeps the commit that the branch was moved to under `refs/engine/<run>/<ws>/hand-<commit>`, unless the last checkpoint is built
/// upon it: the branch is moved back.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn keep_branch(place: &Place, seen: &Heads, client: &Client) -> Result<(), Reason> {
    let head = seen.checkpoint(place)?;
    let Some(branch) = seen.branch.as_ref().filter(|branch| branch.commit != head.commit) else {
        return Ok(());
    };
    let git = Git::at(place, client);
    let beyond = git.read(&["rev-list", "--max-count=1", &branch.commit, "--not", &head.commit]).output()?;
    if beyond.trim_ascii().is_empty() {
        return Ok(());
    }
    // Nothing else holds the commit once the branch has moved away.
    keep(&place.repository(client), &branch.commit, &[&head.commit])?;
    match is_kept(&git, branch)? {
        true => Ok(()),
        false => git.move_ref(&kept_ref(place, branch), &branch.commit, None),
    }
}
