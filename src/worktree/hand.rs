//! What a person did after a verdict, in the worktree or on the branch: taken as a checkpoint of its own.
//!
//! A crash after the move of `head` leaves the files or the branch behind it; the next call completes that. Hard rule: a branch is
//! not moved away from a commit of a person that no other reference holds, and what a person merged stays merged.

use std::collections::BTreeSet;
use std::path::Path;

use super::Place;
use super::changes::changes;
use super::checkpoint::{HAND, advance, message, reset, settle};
use super::commit::keep;
use super::content::{Counted, tree_now};
use super::git::{Git, HAND_REF, Head, Heads, heads, is_name};
use crate::git::index::path_of;
use crate::git::worktree::line_of;
use crate::git::{Call, Client, GitDir, WorkTree};
use crate::job::{Code, Reason};

/// What git keeps in the git directory of a worktree as long as this is not finished.
const UNFINISHED: [(&str, &str); 3] = [
    ("rebase-merge", "a rebase (git rebase --continue, or --abort)"),
    ("rebase-apply", "a rebase (git rebase --continue, or --abort)"),
    ("BISECT_LOG", "a bisection (git bisect reset)"),
];

/// Takes what a person did after a step: a branch that was moved, changed files, a merge. None if there is nothing of these.
///
/// The commit that the branch was moved to is kept (`keep_branch`). Changed files win: they were edited upon it, or are what the
/// person left.
///
/// # Errors
/// `merge_unfinished` where a person is in the middle of a merge or a rebase, or a reason where git fails.
pub(crate) fn hand(
    place: &Place,
    step: u32,
    counted: &Counted,
    client: &Client,
) -> Result<Option<String>, Reason> {
    let git = Git::at(place, client);
    is_finished(&git)?;
    let seen = heads(place, client)?;
    let head = seen.checkpoint(place)?.clone();
    let moved = match seen.branch.clone().filter(|branch| branch.commit != head.commit) {
        Some(branch) if goes_on(&git, &head, &branch)? => Some(branch),
        // Not taken: it would undo what was.
        _ => None,
    };
    let now = tree_now(place, counted, client)?.id;
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
    let merged = merged(&git, &head, moved.as_ref())?;
    let commit = match tree == head.tree && merged.is_empty() {
        true => None,
        false => {
            let message = message(place, &format!("{}: {HAND} {step:02}", place.ws), None);
            Some(advance(place, &message, &tree, (&head, &merged), client)?)
        }
    };
    if is_dirty {
        settle(place, (commit.as_ref().unwrap_or(&head.commit), seen.branch_commit()), client)?;
    } else {
        reset(place, counted, client)?;
    }
    Ok(commit)
}

/// True if a branch has something that the last checkpoint has not, and both come from one commit. One that was moved back, or to
/// another history, is no work upon it.
fn goes_on(git: &Git<'_>, head: &Head, branch: &Head) -> Result<bool, Reason> {
    let beyond = git.read(&["rev-list", "--max-count=1", &branch.commit, "--not", &head.commit]).output()?;
    let common = git.read(&["merge-base", &head.commit, &branch.commit]).answer()?;
    Ok(!beyond.trim_ascii().is_empty() && common.code == Some(0))
}

/// Checks that the person is done: the marks of a conflict, or half of a rebase, are no work.
fn is_finished(git: &Git<'_>) -> Result<(), Reason> {
    let place = git.place;
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    let unfinished = |what: &str| {
        let message = format!("`{}` is in the middle of {what}; then resume", place.dir.display());
        Err(Reason::new(Code::MergeUnfinished, message))
    };
    if let Some((_, what)) = UNFINISHED.iter().find(|(name, _)| own.join(name).exists()) {
        return unfinished(&format!("{what}: finish it"));
    }
    let index = own.join("index");
    if !index.exists() {
        return Ok(());
    }
    // The index that the person's git writes; nothing of it is recorded.
    let tree = WorkTree { git_dir: &own, common_dir: &place.common_dir, top: &place.dir, index: &index };
    let git_dir = GitDir::Written { work_tree: Some(tree), durable: false };
    let listed = Call::new(git.client, &place.dir, git_dir, &["ls-files", "--unmerged", "-z"]).output()?;
    let paths: BTreeSet<_> = listed
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.splitn(2, |byte| *byte == b'\t').nth(1))
        .map(|path| path_of(path).display().to_string())
        .collect();
    match paths.first() {
        None => Ok(()),
        Some(first) => {
            let more = match paths.len() {
                1 => String::new(),
                many => format!(" and {} more", many - 1),
            };
            let what = format!("a merge with conflicts in `{first}`{more}");
            unfinished(&format!(
                "{what}: resolve them and add them (git add), or drop them (git reset --hard)"
            ))
        }
    }
}

/// The commits that the person's work merges: where the branch or the worktree is, if there is a merge on the way there, and
/// what a merge that is not committed yet brings.
fn merged(git: &Git<'_>, head: &Head, moved: Option<&Head>) -> Result<Vec<String>, Reason> {
    let beyond = |tip: &str, only: &str| {
        let list = ["rev-list", "--max-count=1", only, tip, "--not", &head.commit];
        git.read(&list).output().map(|listed| !listed.trim_ascii().is_empty())
    };
    let of_file = |own: &Path, name: &str| {
        let text = line_of(&own.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| is_name(line.as_bytes(), git.place))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let own = git.place.own_git_dir();
    let of_own = |name: &str| own.as_ref().map(|own| of_file(own, name)).unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    // A file HEAD that holds a name is detached from its branch.
    for tip in moved.map(|branch| branch.commit.clone()).into_iter().chain(of_own("HEAD")) {
        if !found.contains(&tip) && beyond(&tip, "--min-parents=2")? {
            found.push(tip);
        }
    }
    for tip in of_own("MERGE_HEAD") {
        if !found.contains(&tip) && beyond(&tip, "--min-parents=0")? {
            found.push(tip);
        }
    }
    Ok(found)
}

/// True if a person's commit has a path as it was put aside of a step, where that had changed it: the person took that work over.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn takes_over(place: &Place, hand: &str, aside: &str, client: &Client) -> Result<bool, Reason> {
    let differs: BTreeSet<_> =
        changes(place, (aside, hand), client)?.into_iter().map(|change| change.path).collect();
    let left = changes(place, (&format!("{aside}^1"), aside), client)?;
    Ok(left.iter().any(|change| !differs.contains(&change.path)))
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

/// True if `head` is what a person did, taken upon a commit: a crash can come between that and the next verdict.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn is_by_hand_upon(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    let git = Git::at(place, client);
    let list = ["rev-list", "--max-count=1", "--first-parent", "--no-commit-header", "--format=%P%x00%s"];
    let listed = git.read(&list).arg(place.head_ref()).answer()?.stdout;
    let listed = String::from_utf8_lossy(&listed);
    let Some((parents, subject)) = listed.trim_end().split_once('\0') else { return Ok(false) };
    Ok(parents.split(' ').next() == Some(commit) && subject.starts_with(&format!("{}: {HAND} ", place.ws)))
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
