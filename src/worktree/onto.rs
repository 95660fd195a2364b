//! A commit of a run brought into a branch of the user, on the user's word.
//!
//! Nothing else in the engine moves a branch of a person. What a crash leaves:
//!
//! ```text
//! merge      objects without a reference
//! move       the branch is old or new; a checkout is half written, and a mark says so (`half_merge`)
//! ```
//!
//! Run again, it makes the checkout whole, and goes on. Hard rule: the branch moves only from the commit that it was seen at, and uncommitted work is not
//! overwritten, ignored files included.

use std::path::{Path, PathBuf};

use super::Place;
use super::commit::{Signature, keep, write_commit};
use super::git::Repo;
use super::half_merge::{self, checkouts, locked};
use super::merge::{Conflict, Merge, Merging};
use crate::fs;
use crate::git::worktree::line_of;
use crate::git::{Call, Captured, Client, GitDir, Repository, write};
use crate::job::{Code, Reason};

/// A branch of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Its full name.
    pub full_name: String,
    /// Its commit.
    pub commit: String,
}

/// What became of the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Onto {
    /// It has the commit already.
    HasIt,
    /// It is now at the commit.
    FastForward,
    /// It is now at this commit, which merges both.
    Merged(String),
    /// It is where it was.
    Conflicts(Vec<Conflict>),
}

impl Branch {
    /// The name that people use.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.full_name.strip_prefix("refs/heads/").unwrap_or(&self.full_name)
    }

    /// The branch of this name; without one that of the checkout.
    ///
    /// # Errors
    /// `not_found` if there is none, `branch_in_use` for one of the engine, or a reason where git fails.
    pub(crate) fn find(repo: &Repo<'_>, name: Option<&str>) -> Result<Self, Reason> {
        let none = |message: String| Reason::new(Code::NotFound, message);
        let name = match name {
            Some(name) => name.strip_prefix("refs/heads/").unwrap_or(name).to_owned(),
            None => Repository::find(repo.top, repo.client)?.branch.ok_or_else(|| {
                let top = repo.top.display();
                none(format!("the checkout `{top}` is on no branch: name one by --into BRANCH"))
            })?,
        };
        if name.split('/').next() == Some("engine") {
            let message =
                format!("`{name}` is a branch of the engine: name one of your own by --into BRANCH");
            return Err(Reason::new(Code::BranchInUse, message));
        }
        let mut full_name = format!("refs/heads/{name}");
        // A branch that only leads to another one must not become one of its own.
        let other = repo.read(&["symbolic-ref", "-q", &full_name]).answer()?;
        if other.code == Some(0) {
            full_name = String::from_utf8_lossy(other.stdout.trim_ascii_end()).into_owned();
        }
        let shown = repo.read(&["show-ref", "--verify", "--hash", "--", &full_name]).answer()?;
        let commit = String::from_utf8_lossy(shown.stdout.trim_ascii_end()).into_owned();
        match shown.code {
            Some(0) => Ok(Self { full_name, commit }),
            _ => Err(none(format!("there is no branch `{name}` with a commit"))),
        }
    }
}

/// Brings a commit into a branch: by moving the branch there, or by a commit that merges both. The files of a checkout are written
/// by a client of its own, which is not to be stopped as easily: an end in the middle has to be mended by the next call.
///
/// # Errors
/// Where the branch is as it was: `local_changes` with the paths of uncommitted work in the way, `ref_moved`, `branch_in_use`
/// while it is being rebased, `not_found` if the commit is gone, `index_locked`, or a reason where git fails.
pub(crate) fn onto(
    repo: &Repo<'_>,
    writing: &Client,
    branch: &Branch,
    (commit, run): (&str, &str),
) -> Result<Onto, Reason> {
    half_merge::mend(repo, writing)?;
    let ours = branch.commit.as_str();
    let base = common(repo, ours, commit)?;
    if base.as_deref() == Some(commit) {
        return Ok(Onto::HasIt);
    }
    is_at_rest(repo, branch)?;
    let (to, done) = if base.as_deref() == Some(ours) {
        (commit.to_owned(), Onto::FastForward)
    } else {
        match Merging::open(repo, ours)?
            .merge(ours, commit)
            .map_err(|reason| not_merged(reason, branch, run))?
        {
            Merge::Conflicts(conflicts) => return Ok(Onto::Conflicts(conflicts)),
            Merge::Clean(tree) => {
                let message = format!("Merge run {run}\n\nEngine-Run: {run}\n");
                let made = write_commit(repo, (&message, Signature::User), &tree, &[ours, commit])?;
                keep(repo, &made, &[ours, commit])?;
                (made.clone(), Onto::Merged(made))
            }
        }
    };
    match checkouts(repo, &branch.full_name)?.as_slice() {
        [] => move_branch(repo, branch, (&to, run)),
        [top] => move_checkout(repo, writing, branch, (top, &to)),
        [one, other, ..] => {
            let (one, other) = (one.display(), other.display());
            let message = format!("`{}` is checked out twice, in `{one}` and `{other}`", branch.name());
            Err(Reason::new(Code::BranchInUse, message))
        }
    }?;
    Ok(done)
}

/// A commit that both have; none if their histories have nothing in common.
fn common(repo: &Repo<'_>, ours: &str, theirs: &str) -> Result<Option<String>, Reason> {
    let is_there = repo.read(&["cat-file", "-e", &format!("{theirs}^{{commit}}")]).answer()?;
    if is_there.code != Some(0) {
        let message =
            format!("the commit {theirs} is gone: git has collected it, or the repository is another one");
        return Err(Reason::new(Code::NotFound, message));
    }
    let found = repo.read(&["merge-base", ours, theirs]).answer()?;
    match found.code {
        Some(0) => Ok(Some(String::from_utf8_lossy(found.stdout.trim_ascii_end()).into_owned())),
        Some(1) => Ok(None),
        _ => Err(write::refusal("merge-base", repo.top, &found)),
    }
}

/// Checks that no rebase or bisection of the branch is under way: it comes back to the commit that it began with.
fn is_at_rest(repo: &Repo<'_>, branch: &Branch) -> Result<(), Reason> {
    let linked = repo.common_dir.join("worktrees");
    let names = fs::names(&linked).unwrap_or_default();
    for dir in names.iter().map(|name| linked.join(name)).chain([repo.common_dir.to_path_buf()]) {
        for (file, what) in [
            ("rebase-merge/head-name", "rebase"),
            ("rebase-merge/update-refs", "rebase"),
            ("rebase-apply/head-name", "rebase"),
            ("BISECT_START", "bisection"),
        ] {
            let text = line_of(&dir.join(file)).unwrap_or_default();
            let is_it = |line: &[u8]| [branch.full_name.as_bytes(), branch.name().as_bytes()].contains(&line);
            if text.split(|byte| *byte == b'\n').any(is_it) {
                let message = format!("a {what} of `{}` is under way: finish it first", branch.name());
                return Err(Reason::new(Code::BranchInUse, message));
            }
        }
    }
    Ok(())
}

/// Checks that no worktree but its own has the branch of a workstream checked out.
///
/// # Errors
/// `branch_in_use` with the worktree, or a reason where git fails.
pub(crate) fn is_free(place: &Place, client: &Client) -> Result<(), Reason> {
    let is_own = |top: &PathBuf| *top == place.dir || fs::canonical(top).is_ok_and(|top| top == place.dir);
    let found = checkouts(&place.repository(client), &place.branch())?;
    let Some(top) = found.iter().find(|top| !is_own(top)) else { return Ok(()) };
    let (name, top) = (place.branch_name(), top.display());
    let message =
        format!("the branch `{name}` is checked out in `{top}`: switch that worktree to another branch");
    Err(Reason::new(Code::BranchInUse, message))
}

/// Moves a branch that is checked out nowhere.
fn move_branch(repo: &Repo<'_>, branch: &Branch, (to, run): (&str, &str)) -> Result<(), Reason> {
    let why = format!("merge run {run}");
    let args = ["update-ref", "--no-deref", "-m", &why, &branch.full_name, to, &branch.commit];
    let git_dir = GitDir::Written { work_tree: None, durable: repo.durable };
    match write::run(Call::new(repo.client, repo.top, git_dir, &args)) {
        Err(reason) if reason.code == Code::RefMoved => Err(moved(branch)),
        done => done.map(drop),
    }
}

/// The settings of a branch can name any option of a merge: what they would change is said again.
const FAST_FORWARD: [&str; 12] = [
    "-c",
    "merge.autoStash=false",
    "-c",
    "core.abbrev=no",
    "merge",
    "--ff-only",
    "--no-squash",
    "--commit",
    "--no-autostash",
    "--no-overwrite-ignore",
    "--no-stat",
    "--no-quiet",
];

/// Moves a branch with the worktree that has it checked out, by the command that a person would use.
fn move_checkout(
    repo: &Repo<'_>,
    writing: &Client,
    branch: &Branch,
    (top, to): (&Path, &str),
) -> Result<(), Reason> {
    if !top.is_dir() {
        let message = format!(
            "`{}` is checked out in `{}`, which is missing: git worktree prune, or bring it back",
            branch.name(),
            top.display()
        );
        return Err(Reason::new(Code::BranchInUse, message));
    }
    if repo.client.stop.is_asked() {
        return Err(Reason::new(Code::Interrupted, "interrupted before the checkout was touched"));
    }
    half_merge::begin(repo, &branch.full_name, [&branch.commit, to])?;
    let git_dir = GitDir::Written { work_tree: None, durable: repo.durable };
    let call = Call::new(writing, top, git_dir, &FAST_FORWARD).arg(to);
    // It was ended in the middle: the mark stays.
    let captured = write::answer(call).map_err(half_written)?;
    let done = match captured.code {
        Some(0) => stays_moved((repo.durable, writing), branch, top, &captured),
        _ => Err(not_moved(repo, writing, branch, (top, to), &captured)?),
    };
    half_merge::end(repo)?;
    done
}

/// The reason of a merge that git has failed at before anything of the user was touched.
fn not_merged(reason: Reason, branch: &Branch, run: &str) -> Reason {
    if reason.code != Code::GitFailed {
        return reason;
    }
    let why = reason.message.split_once(": ").map_or(&*reason.message, |(_, why)| why);
    let message = format!(
        "git could not merge `{run}` into `{}`, which is as it was; a driver for merges may have failed: {why}",
        branch.name()
    );
    Reason { message, ..reason }
}

fn half_written(reason: Reason) -> Reason {
    let message = format!(
        "{}; the checkout may be half written: run the command again, which mends that",
        reason.message
    );
    Reason { message, ..reason }
}

/// The reason of a fast-forward that failed. What git has written before it failed is undone.
fn not_moved(
    repo: &Repo<'_>,
    writing: &Client,
    branch: &Branch,
    (top, to): (&Path, &str),
    captured: &Captured,
) -> Result<Reason, Reason> {
    let said = String::from_utf8_lossy(&captured.stderr);
    if let Some(reason) = refused(branch, top, &said) {
        return Ok(reason);
    }
    let reason = write::refusal("merge", top, captured);
    match reason.code {
        Code::IndexLocked | Code::RefLocked => {
            // git takes the lock of the branch last, after it has written the files.
            if reason.code == Code::RefLocked {
                half_merge::undo(top, [&branch.commit, to], writing)?;
            }
            let path = said.split_once("Unable to create '").and_then(|(_, rest)| rest.split_once('\''));
            return Ok(locked(top, Path::new(path.map_or("index.lock", |(path, _)| path))));
        }
        Code::GitKilled => half_merge::mend(repo, writing)?,
        _ => half_merge::undo(top, [&branch.commit, to], writing)?,
    }
    let why = reason.message.split_once(": ").map_or(&*reason.message, |(_, why)| why);
    let message = format!("git could not write the checkout `{}`, which is as it was: {why}", top.display());
    Ok(Reason { message, ..reason })
}

/// Checks that git has moved the branch from where it was seen; else that is taken back.
fn stays_moved(
    (durable, writing): (bool, &Client),
    branch: &Branch,
    top: &Path,
    captured: &Captured,
) -> Result<(), Reason> {
    // git merges into whatever is checked out now, from wherever that is now.
    let said = String::from_utf8_lossy(&captured.stdout).into_owned();
    let from =
        said.lines().find_map(|line| line.strip_prefix("Updating ")?.split_once("..")).map(|(from, _)| from);
    let head = Call::new(writing, top, GitDir::Repository, &["symbolic-ref", "-q", "HEAD"]).answer()?;
    let is_on_it = head.stdout.trim_ascii_end() == branch.full_name.as_bytes();
    match from {
        None if is_on_it => Ok(()),
        None => Err(moved(branch)),
        Some(from) if from == branch.commit && is_on_it => Ok(()),
        Some(from) => {
            let git_dir = GitDir::Written { work_tree: None, durable };
            write::run(Call::new(writing, top, git_dir, &["reset", "--quiet", "--keep", from]))?;
            Err(moved(branch))
        }
    }
}

/// The reason of a fast-forward that git refuses, as far as it is one of the checkout.
fn refused(branch: &Branch, top: &Path, said: &str) -> Option<Reason> {
    let has = |text: &str| said.contains(text);
    if has("Not possible to fast-forward") {
        return Some(moved(branch));
    }
    let mut paths = in_the_way(said);
    if paths.is_empty()
        && (has("unmerged files") || has("not concluded your merge") || has("unresolved conflict"))
    {
        paths.push("an unfinished merge");
    }
    if paths.is_empty() {
        return None;
    }
    let (name, top, what) = (branch.name(), top.display(), paths.join(", "));
    let message = format!(
        "what is not committed in `{top}` is in the way of `{name}`: {what}; commit or move it first"
    );
    Some(Reason::new(Code::LocalChanges, message))
}

/// The paths that git lists, each after a tab, below one of its own lines; a filter or a driver may print any line.
fn in_the_way(said: &str) -> Vec<&str> {
    const HEADERS: [&str; 3] =
        ["would be overwritten by merge", "would be removed by merge", "would lose untracked files"];
    let (mut paths, mut is_listed) = (Vec::new(), false);
    for line in said.lines() {
        match line.strip_prefix('\t') {
            Some(path) if is_listed => paths.push(path),
            Some(_) => {}
            None => is_listed = HEADERS.iter().any(|header| line.contains(header)),
        }
    }
    paths
}

fn moved(branch: &Branch) -> Reason {
    let message = format!(
        "the branch `{}` was moved meanwhile, and is left as it is: run the command again",
        branch.name()
    );
    Reason::new(Code::RefMoved, message)
}
