//! Linked worktrees of a repository: found, and added.
//!
//! git keeps a directory for each in `worktrees/` of the common git directory, named by a number where names repeat. Hard rule:
//! the worktree itself is not asked which of them is its own, because a program in it can write any answer.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::client::{Call, Client, GitDir};
use super::repository_lock::RepositoryLock;
use super::write;
use crate::fs;
use crate::job::{Code, Reason};

/// A file of one line is not longer than this.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The text of a small file without the line break at its end; `None` if it cannot be read.
#[must_use]
pub(crate) fn line_of(path: &Path) -> Option<Vec<u8>> {
    let file = fs::open_regular(path).ok()?;
    let mut line = fs::read_limited(&file, path, MAX_LINE_BYTES).ok()??;
    line.truncate(line.trim_ascii_end().len());
    Some(line)
}

/// The own git directory of the linked worktree at `top`; `None` if the repository knows none there.
#[must_use]
pub(crate) fn git_dir_of(common_dir: &Path, top: &Path) -> Option<PathBuf> {
    let all = common_dir.join("worktrees");
    let is_of_it = |name: &String| {
        let line = line_of(&all.join(name).join("gitdir"))?;
        // git 2.48 can write a path that is relative to this directory.
        let named = all.join(name).join(PathBuf::from(std::ffi::OsString::from_vec(line)));
        Some(named == top.join(".git") || fs::canonical(named.parent()?).is_ok_and(|path| path == top))
    };
    // git names it like the worktree, if it can.
    let likely = top.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    if let Some(name) = likely.filter(|name| is_of_it(name) == Some(true)) {
        return Some(all.join(name));
    }
    let names = fs::names(&all).unwrap_or_default();
    let name = names.into_iter().find(|name| is_of_it(name) == Some(true))?;
    Some(all.join(name))
}

/// Adds a linked worktree without files. Where the branch is missing, it begins at `commit`.
///
/// A crash leaves the branch, or the own git directory, with or without the directory at `top`: the caller has a mark of its
/// own for a worktree that is complete, removes another one, and calls this again.
///
/// # Errors
/// `branch_in_use` when another worktree has the branch, or as `write::run`.
pub(crate) fn add(
    _lock: &RepositoryLock,
    (repo, top): (&Path, &Path),
    (branch, begins_at): (&str, Option<&str>),
    client: &Client,
) -> Result<(), Reason> {
    let name = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    let args = ["worktree", "add", "--quiet", "--lock", "--reason", "engine", "--no-checkout"];
    let mut call = Call::new(client, repo, GitDir::Written { work_tree: None, durable: false }, &args);
    if begins_at.is_some() {
        call = call.arg("--no-track").arg("-b").arg(name);
    }
    let captured = write::answer(call.arg("--").arg(top).arg(begins_at.unwrap_or(name)))?;
    if captured.code == Some(0) {
        return Ok(());
    }
    let reason = write::refusal("worktree add", repo, &captured);
    let is_taken = reason.message.contains("already checked out at")
        || reason.message.contains("already used by worktree at");
    if !is_taken {
        return Err(reason);
    }
    let message = format!("{}: switch that worktree to another branch", reason.message);
    Err(Reason::new(Code::BranchInUse, message))
}
