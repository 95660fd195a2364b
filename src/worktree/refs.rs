//! The references of a run: whether its names are free, the base that it holds, and their end.
//!
//! Hard rule: a reference goes only where it was seen.

use std::collections::BTreeMap;
use std::path::Path;

use super::Place;
use crate::git::worktree::line_of;
use crate::git::{Call, Client, GitDir, write};
use crate::job::{Code, Reason};

/// Where branches are, and where everything else of the engine is.
const ROOTS: [&str; 2] = ["refs/heads/engine", "refs/engine"];

/// Checks that a new run can have its names in a repository. A run that was never made may have left its base, which is then ours.
///
/// # Errors
/// `branch_in_use` where a reference has the name of a directory of them, `id_taken` where a run of this id has left some.
pub(crate) fn check_names(repo: &Path, run: &str, base_is_ours: bool, client: &Client) -> Result<(), Reason> {
    let listed = list(repo, &ROOTS.map(str::to_owned), "%(refname)", client)?;
    for name in listed.lines() {
        for root in ROOTS {
            let of_run = format!("{root}/{run}");
            if name == root || name == of_run {
                let message = format!("the reference `{name}` is in the way of `{of_run}/`: rename it");
                return Err(Reason::new(Code::BranchInUse, message));
            }
            let is_ours = base_is_ours && name == format!("refs/engine/{run}/base");
            if name.starts_with(&format!("{of_run}/")) && !is_ours {
                let message = format!("a run `{run}` has left `{name}` in this repository: take another id");
                return Err(Reason::new(Code::IdTaken, message));
            }
        }
    }
    Ok(())
}

/// Holds the base commit of a run, so that no collection of garbage removes it; once it is held it stays.
///
/// # Errors
/// `ref_moved` where the run holds another one, or as `write::run`.
pub(crate) fn hold_base(
    repo: &Path,
    (run, commit): (&str, &str),
    (client, durable): (&Client, bool),
) -> Result<(), Reason> {
    let name = base_ref(run);
    if list(repo, std::slice::from_ref(&name), "%(objectname)", client)?.trim_end() == commit {
        return Ok(());
    }
    let git_dir = GitDir::Written { work_tree: None, durable };
    write::run(Call::new(client, repo, git_dir, &["update-ref", "--no-deref", &name, commit, ""])).map(drop)
}

/// Holds the base commit of a run again, if the reference was moved or deleted; true if it was.
///
/// # Errors
/// As for any call of git.
pub(crate) fn put_back_base(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    let name = base_ref(&place.run);
    // Mostly the file of the reference shows without a call of git that nothing moved.
    if line_of(&place.common_dir.join(&name)).as_deref() == Some(commit.as_bytes()) {
        return Ok(false);
    }
    let listed = list(&place.repo, std::slice::from_ref(&name), "%(objectname)", client)?;
    let now = Some(listed.trim_end()).filter(|now| !now.is_empty());
    if now == Some(commit) {
        return Ok(false);
    }
    place.repository(client).move_ref(&name, commit, now).map(|()| true)
}

/// The reference to the base of a run.
fn base_ref(run: &str) -> String {
    format!("refs/engine/{run}/base")
}

/// The branches of a run, by the name of the workstream, and their commits.
///
/// # Errors
/// As for any call of git.
pub(crate) fn branches(repo: &Path, run: &str, client: &Client) -> Result<BTreeMap<String, String>, Reason> {
    let of_run = format!("refs/heads/engine/{run}/");
    let listed = list(repo, std::slice::from_ref(&of_run), "%(objectname) %(refname)", client)?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    let named = pairs.filter_map(|(commit, name)| Some((name.strip_prefix(&of_run)?, commit)));
    Ok(named.map(|(name, commit)| (name.to_owned(), commit.to_owned())).collect())
}

/// True if a repository has a reference or a branch of a run.
///
/// # Errors
/// As for any call of git.
pub(crate) fn has_references(repo: &Path, run: &str, client: &Client) -> Result<bool, Reason> {
    Ok(!list(repo, &ROOTS.map(|root| format!("{root}/{run}/")), "%(refname)", client)?.is_empty())
}

/// Deletes the references of a run; its branches stay. Gives how many there were.
///
/// # Errors
/// As `delete`.
pub(crate) fn delete_of_run(repo: &Path, run: &str, client: &Client) -> Result<usize, Reason> {
    delete(repo, &[format!("refs/engine/{run}/")], client)
}

/// Deletes every reference that has one of these names, or is below one that ends in `/`: all of them or none, and only where
/// they were seen. Gives how many there were.
///
/// # Errors
/// `ref_moved` if one moved meanwhile, or as `write::run`.
pub(super) fn delete(repo: &Path, names: &[String], client: &Client) -> Result<usize, Reason> {
    let listed = list(repo, names, "delete %(refname) %(objectname)", client)?;
    if !listed.is_empty() {
        let git_dir = GitDir::Written { work_tree: None, durable: false };
        let call = Call::new(client, repo, git_dir, &["update-ref", "--no-deref", "--stdin"]);
        write::run(call.input(listed.clone().into_bytes()))?;
    }
    Ok(listed.lines().count())
}

/// How many references have one of these names, or are below one that ends in `/`.
///
/// # Errors
/// As for any call of git.
pub(super) fn count(repo: &Path, names: &[String], client: &Client) -> Result<usize, Reason> {
    Ok(list(repo, names, "%(refname)", client)?.lines().count())
}

fn list(repo: &Path, patterns: &[String], format: &str, client: &Client) -> Result<String, Reason> {
    let format = format!("--format={format}");
    let call = Call::new(client, repo, GitDir::Repository, &["for-each-ref", &format]);
    let listed = patterns.iter().fold(call, Call::arg).output()?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}
