//! The linked worktree itself: made, found, repaired, removed; its marks, and the lock files that a killed git leaves.
//!
//! What a crash leaves of `make`, and of a removal:
//!
//! ```text
//! no mark, no own index   whatever is there is removed, and made anew
//! no directory            likewise: a person may delete it at any time
//! files, no own git dir   put aside as step 00, then made anew
//! another `.git`          the file that leads to the own git directory is written again
//! ```
//!
//! Hard rule: what is there without being of the engine is refused, not removed.

use std::path::{Path, PathBuf};

use super::Place;
use super::aside::{PutAside, put_aside};
use super::checkpoint::give_index;
use super::content::{Counted, Tree, tree_now};
use super::git::{Git, Head, Heads, checkpoint, heads, lead_to, replace, unfinished};
use super::include::copy_included;
use super::look::forget;
use super::submodules;
use crate::clock::Timestamp;
use crate::fs;
use crate::git::worktree::{self, line_of};
use crate::git::{Client, RepositoryLock, wait_until_gone, write};
use crate::job::{Code, Reason};

/// The mark in the own git directory that the commands of `setup` have run: a digest of them.
const SETUP: &str = "engine-setup";

/// The mark beside the worktree that it is complete.
pub(super) const MADE: &str = "made";

/// How a worktree was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As it was left.
    AsLeft,
    /// The file that leads to its git directory was missing or wrong, and was written again.
    Repaired,
    /// Not there, or not whole: it was made, at the last checkpoint.
    Made,
}

/// Checks that linked worktrees of a repository can be made below a directory; nothing is written.
///
/// # Errors
/// `git_too_old`; `worktree_place` for a directory of another user, one that others can write, or, unless that is wanted, one in another work
/// tree: there the programs of a step would find the files of that worktree above them.
pub(crate) fn check(repo: &Path, dir: &Path, may_be_inside: bool, client: &Client) -> Result<(), Reason> {
    write::check_version(client, repo)?;
    let refused = |why: String| {
        let message = format!("{why}; name another directory in `[workstreams] worktrees`");
        Err(Reason::new(Code::WorktreePlace, message))
    };
    if !dir.is_absolute() {
        return refused(format!("`{}` is not absolute", dir.display()));
    }
    for above in dir.ancestors() {
        if !may_be_inside && fs::exists(&above.join(".git")).unwrap_or(false) {
            return refused(format!("`{}` is in the worktree `{}`", dir.display(), above.display()));
        }
    }
    let Some(there) = dir.ancestors().find(|above| std::fs::symlink_metadata(above).is_ok()) else {
        return Ok(());
    };
    let shown = there.display();
    match std::fs::symlink_metadata(there) {
        Ok(found) if !found.is_dir() => refused(format!("`{shown}` is not a directory")),
        Ok(found) if there == dir && !fs::is_own(&found) => refused(format!("`{shown}` is of another user")),
        Ok(found) if there == dir && fs::writable_by_others(&found) => {
            refused(format!("other users can write in `{shown}`"))
        }
        Ok(_) if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() => {
            refused(format!("`{shown}` cannot be written"))
        }
        Ok(_) => Ok(()),
        Err(error) => refused(format!("`{shown}` cannot be looked at: {error}")),
    }
}

/// Has a workstream without a step begin on a commit: what a former start had made it begin on counts no more. The files of a
/// worktree that is there stay; a reset brings them along. True if it was another commit.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn begin_at(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    let heads = heads(place, client)?;
    let seen = heads.head.as_ref().map(|head| head.commit.as_str());
    begin(place, commit, &heads, client)?;
    Ok(seen.is_some_and(|seen| seen != commit))
}

/// Has the last checkpoint begin at a commit; with a branch that is missing, which costs no second call.
fn begin(place: &Place, commit: &str, seen: &Heads, client: &Client) -> Result<(), Reason> {
    let (head_ref, branch) = (place.head_ref(), place.branch());
    let head = seen.head.as_ref().map(|head| head.commit.as_str());
    let both = [(&*head_ref, commit, head), (&*branch, commit, None)];
    let moves = if seen.branch.is_none() && head.is_none() { &both[..] } else { &both[..1] };
    Git::at(place, client).move_refs(moves)
}

/// Finds the worktree, repairs it, or makes it. The first time the reference of the last checkpoint begins at `base`.
///
/// # Errors
/// `worktree_place` if something else is there, `branch_in_use`, `worktree_locked`, or as `write::run`.
pub(crate) fn make_or_find(place: &Place, base: &str, client: &Client) -> Result<Found, Reason> {
    let mut heads = heads(place, client)?;
    if heads.head.is_none() {
        begin(place, base, &heads, client)?;
        let head = Head { commit: base.to_owned(), tree: String::new(), step: None };
        heads = Heads { branch: heads.branch.or_else(|| Some(head.clone())), head: Some(head), ..heads };
    }
    let own = place.own_git_dir();
    let is_whole = place.is_there().is_ok() && is_complete(place, own.as_deref());
    match own {
        Some(own) if is_whole => match lead_to(&own, place)? {
            true => Ok(Found::Repaired),
            false => Ok(Found::AsLeft),
        },
        own => {
            if is_whole {
                put_aside(place, 0, &Counted::of(&place.dir, &[], &[])?, None, client)?;
            } else if own.is_none() && !is_ours_to_remove(place) {
                let message = format!(
                    "`{}` is in the way of a worktree: move it away, or name another run",
                    place.dir.display()
                );
                return Err(Reason::new(Code::WorktreePlace, message));
            }
            make_at(place, &heads, client).map(|()| Found::Made)
        }
    }
}

/// True if all files were there once. The index comes after them as the mark does; a step can remove the one, and whatever clears
/// caches the other.
fn is_complete(place: &Place, own: Option<&Path>) -> bool {
    place.beside(MADE).is_file() || own.is_some_and(|own| own.join("index").exists())
}

/// Puts aside and removes the files of a worktree of which a power loss has left nothing that says that it is one: without that
/// they would be refused as another's. Only for a place that a checkpoint is of. What cannot be kept stays, and is refused.
///
/// # Errors
/// A reason where git or the file system fails.
pub(crate) fn put_aside_lost(place: &Place, client: &Client) -> Result<(), Reason> {
    let is_lost = place.is_there().is_ok()
        && place.own_git_dir().is_none()
        && !is_complete(place, None)
        && !is_ours_to_remove(place)
        && !place.dir.join(".git").is_dir();
    if !is_lost || heads(place, client)?.head.is_none() {
        return Ok(());
    }
    let aside = put_aside(place, 0, &Counted::of(&place.dir, &[], &[])?, None, client)?;
    let is_kept = |aside: PutAside| {
        let Tree { nested, unread, refused, .. } = aside.tree;
        aside.not_kept.is_empty() && nested.is_empty() && unread.is_empty() && refused.is_empty()
    };
    if aside.is_none_or(is_kept) {
        clear(place)
    } else {
        fs::remove(&place.index()).map_err(|error| write::wrong(&error)).map(drop)
    }
}

/// True if there is nothing, or what a killed `make` leaves: an empty directory, or one that git has just begun.
fn is_ours_to_remove(place: &Place) -> bool {
    let is_begun = place.index().exists() || place.beside("index.lock").exists();
    let names = std::fs::read_dir(&place.dir).map_or(0, Iterator::count);
    is_begun || names == 0 || (names == 1 && place.dir.join(".git").is_file())
}

/// Removes what is there, and makes the worktree anew at the last checkpoint. Put aside first what must not be lost.
///
/// # Errors
/// As `make_or_find`.
pub(crate) fn make(place: &Place, client: &Client) -> Result<(), Reason> {
    make_at(place, &heads(place, client)?, client)
}

fn make_at(place: &Place, heads: &Heads, client: &Client) -> Result<(), Reason> {
    let head = heads.checkpoint(place)?.clone();
    clear(place)?;
    create_dirs(place.dir.parent().unwrap_or(&place.dir))?;
    {
        let lock = RepositoryLock::take(&place.common_dir, client)?;
        remove_own_git_dir(&lock, place)?;
        remove_torn_git_dirs(&lock, place)?;
        let begins_at = heads.branch.is_none().then_some(head.commit.as_str());
        worktree::add(&lock, (&place.repo, &place.dir), (&place.branch(), begins_at), client)?;
    }
    write::run(Git::at(place, client).tree(&["read-tree", "--reset", "-u", &head.commit]))?;
    copy_included(place, client)?;
    give_index(place)?;
    // Empty, and so never torn.
    fs::create_new(&place.beside(MADE), b"").map_err(|error| write::wrong(&error)).map(drop)
}

/// Removes the worktree, if it is as its last checkpoint: put aside and reset first. The branch and the references stay.
///
/// # Errors
/// `tree_not_clean` if it is not, or as `write::run`.
pub(crate) fn remove(place: &Place, counted: &Counted, client: &Client) -> Result<(), Reason> {
    if place.dir.is_dir() && is_complete(place, place.own_git_dir().as_deref()) {
        let (now, head) = (tree_now(place, counted, client)?, checkpoint(place, client)?);
        if !now.is_exactly(&head.tree) {
            let message = format!(
                "the worktree `{}` is not as its last checkpoint `{}`, and stays",
                place.dir.display(),
                head.commit
            );
            return Err(Reason::new(Code::TreeNotClean, message));
        }
    }
    remove_clean(place, client)
}

/// Removes a worktree that was just reset and holds nothing else. The branch and the references stay.
///
/// # Errors
/// `tree_not_clean` for what a submodule holds, or as `write::run`.
pub(crate) fn remove_clean(place: &Place, client: &Client) -> Result<(), Reason> {
    submodules::check(place, client)?;
    clear(place)?;
    forget(place)?;
    remove_own_git_dir(&RepositoryLock::take(&place.common_dir, client)?, place)?;
    let parent = place.dir.parent().unwrap_or(&place.dir);
    fs::remove_empty_dir(parent).map_err(|error| write::wrong(&error)).map(drop)
}

/// Removes the directory, and what is beside it. First what says that it is complete, so that a part of it is not taken for a whole.
fn clear(place: &Place) -> Result<(), Reason> {
    let own_index = place.own_git_dir().map(|own| own.join("index"));
    let mark = place.beside(MADE);
    let first = [unfinished(&mark), mark].into_iter().chain(own_index);
    let beside = ["index", "index.lock", "look.new", "git.new", "merge"].map(|ending| place.beside(ending));
    for path in first.chain([place.dir.clone()]).chain(beside) {
        if fs::exists(&path).unwrap_or(false) {
            fs::remove_tree(&path).map_err(|error| write::wrong(&error))?;
        }
    }
    Ok(())
}

fn remove_own_git_dir(_lock: &RepositoryLock, place: &Place) -> Result<(), Reason> {
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    fs::remove_tree(&own).map_err(|error| write::wrong(&error))?;
    // git removes the directory of all worktrees with the last one.
    fs::remove_empty_dir(&place.common_dir.join("worktrees")).map_err(|error| write::wrong(&error)).map(drop)
}

/// Removes own git directories of this name that lead to no worktree, as a power loss leaves them; git keeps them, because
/// they are locked.
fn remove_torn_git_dirs(_lock: &RepositoryLock, place: &Place) -> Result<(), Reason> {
    let all = place.common_dir.join("worktrees");
    for name in fs::names(&all).unwrap_or_default() {
        let number = name.strip_prefix(&*place.ws);
        if number.is_none_or(|number| !number.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        let dir = all.join(&name);
        let leads = line_of(&dir.join("gitdir")).is_some_and(|line| line.ends_with(b"/.git"));
        // Its lock may be lost as well.
        let is_ours = line_of(&dir.join("locked")).is_none_or(|line| b"engine".starts_with(&line));
        if !leads && is_ours {
            fs::remove_tree(&dir).map_err(|error| write::wrong(&error))?;
        }
    }
    Ok(())
}

pub(super) fn create_dirs(dir: &Path) -> Result<(), Reason> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    for above in missing.into_iter().rev() {
        fs::create_dir(above).map_err(|error| write::wrong(&error))?;
    }
    Ok(())
}

/// When the worktree was made, as far as the file system keeps that.
#[must_use]
pub(crate) fn made_at(place: &Place) -> Option<Timestamp> {
    let made = std::fs::metadata(place.own_git_dir()?).ok()?.created().ok()?;
    let since = made.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?))
}

/// True if the commands of `setup` with this digest have run in the worktree.
#[must_use]
pub(crate) fn setup_is_done(place: &Place, digest: &str) -> bool {
    let mark = place.own_git_dir().and_then(|own| line_of(&own.join(SETUP)));
    mark.as_deref() == Some(digest.as_bytes())
}

/// Marks that the commands of `setup` with this digest have run.
///
/// # Errors
/// A reason where the mark cannot be written.
pub(crate) fn mark_setup(place: &Place, digest: &str) -> Result<(), Reason> {
    let gone =
        || Reason::new(Code::GitFailed, format!("the git directory of `{}` is gone", place.dir.display()));
    replace(&place.own_git_dir().ok_or_else(gone)?.join(SETUP), digest.as_bytes())
}

/// The lock files of git that are of this workstream alone: in its own git directory, of its references, of its index.
fn locks(place: &Place) -> Vec<PathBuf> {
    let branch = place.common_dir.join(place.branch());
    let parent = |path: &Path| path.parent().map(Path::to_path_buf);
    let own = place.own_git_dir();
    let dirs =
        [own.clone(), own.map(|own| own.join("reftable")), parent(&place.common_dir.join(place.refs("x")))];
    let mut found = vec![branch.with_file_name(format!("{}.lock", place.ws)), place.beside("index.lock")];
    for dir in dirs.into_iter().flatten() {
        let names = fs::names(&dir).unwrap_or_default();
        found.extend(names.into_iter().filter(|name| name.ends_with(".lock")).map(|name| dir.join(name)));
    }
    found.retain(|path| path.is_file());
    found
}

/// Removes the lock files of this workstream; only once no git of it can be alive.
///
/// # Errors
/// A reason where one cannot be removed.
pub(crate) fn remove_left_locks(place: &Place) -> Result<Vec<PathBuf>, Reason> {
    let found = locks(place);
    for path in &found {
        fs::remove(path).map_err(|error| write::wrong(&error))?;
    }
    Ok(found)
}

/// Waits until no lock file of this workstream is there. One whose maker is not alive any more is removed: a program that has nothing
/// to do with the workstream can leave one. Gives those.
///
/// # Errors
/// `worktree_locked` with the file if one is still there when the task is over, `interrupted` if it is to end before.
pub(crate) fn wait_for_locks(place: &Place, client: &Client) -> Result<Vec<PathBuf>, Reason> {
    let locked = |path: &Path| {
        let message = format!(
            "`{}` is there: a git works on the worktree, or was killed; remove the file once none does",
            path.display()
        );
        Reason::new(Code::WorktreeLocked, message)
    };
    let find = || locks(place).into_iter().next();
    wait_until_gone(&find, (&client.stop, &|| client.deadline.is_over()), &locked)
}
