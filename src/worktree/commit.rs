//! Commits of the engine: made, checked to be whole, and synced before a reference leads to them.
//!
//! Hard rule: no hook and no signer takes part, and no commit is given of which an object is missing.

use std::fs::File;
use std::path::PathBuf;

use super::git::Git;
use crate::fs;
use crate::git::write;
use crate::job::Reason;

/// Who made a commit, where git does not know the user.
const ENGINE: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "engine"),
    ("GIT_AUTHOR_EMAIL", "engine@localhost"),
    ("GIT_COMMITTER_NAME", "engine"),
    ("GIT_COMMITTER_EMAIL", "engine@localhost"),
];

/// So many objects are synced at the same time.
const SYNCED_AT_ONCE: usize = 8;

/// Makes a commit and syncs what it needs; no reference leads to it.
pub(super) fn commit(git: &Git<'_>, message: &str, tree: &str, parents: &[&str]) -> Result<String, Reason> {
    let made = whole_commit(git, message, tree, parents);
    if made.is_err() {
        // A user's `git gc --prune=now` removes what no reference leads to, and the index takes it for present.
        fs::remove(&git.place.index()).map_err(|error| write::wrong(&error))?;
    }
    made
}

fn whole_commit(git: &Git<'_>, message: &str, tree: &str, parents: &[&str]) -> Result<String, Reason> {
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
    let listed = objects(git, &commit, parents)?;
    if git.place.durable {
        sync(git, &listed)?;
    }
    Ok(commit)
}

/// The objects that a commit has beyond its parents.
///
/// # Errors
/// A reason also where one is missing.
fn objects(git: &Git<'_>, commit: &str, parents: &[&str]) -> Result<String, Reason> {
    let list = git.read(&["rev-list", "--objects", "--no-object-names", commit]);
    let list = parents.iter().fold(list, |list, parent| list.arg(format!("^{parent}")));
    let captured = list.answer()?;
    match captured.code {
        Some(0) if !captured.cut => Ok(String::from_utf8_lossy(&captured.stdout).into_owned()),
        _ => Err(write::refusal("rev-list", &git.place.repo, &captured)),
    }
}

/// Syncs objects, also those that an agent had added before. At once, because the file system syncs several files together almost
/// as fast as one.
fn sync(git: &Git<'_>, listed: &str) -> Result<(), Reason> {
    let objects = git.place.common_dir.join("objects");
    let names = listed.lines().filter_map(|name| name.split_at_checked(2));
    let paths: Vec<PathBuf> = names.map(|(dir, rest)| objects.join(dir).join(rest)).collect();
    let sync = |paths: &[PathBuf]| {
        paths.iter().try_for_each(|path| match File::open(path) {
            Ok(file) => fs::sync_data(&file, path),
            // It is in a pack, and git syncs packs.
            Err(_) => Ok(()),
        })
    };
    let each = paths.len().div_ceil(SYNCED_AT_ONCE).max(1);
    let synced: fs::Result<()> = std::thread::scope(|scope| {
        let threads: Vec<_> = paths.chunks(each).map(|some| scope.spawn(move || sync(some))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    });
    synced.map_err(|error| write::wrong(&error))
}
