//! Commits of the engine: made, checked to be whole, and synced before a reference leads to them.
//!
//! Hard rule: no hook and no signer takes part, and no commit is given of which an object is missing.

use std::fs::File;
use std::path::PathBuf;

use super::git::{Git, Repo};
use crate::clock::Timestamp;
use crate::fs;
use crate::git::{Call, write};
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

/// The name and the time that a commit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    /// The user's name as git knows it, or else the engine's; the present time.
    User,
    /// The engine's name, and this time: the same inputs give the same commit.
    Engine(Timestamp),
}

/// Makes a commit and syncs what it needs; no reference leads to it.
pub(super) fn commit(git: &Git<'_>, message: &str, tree: &str, parents: &[&str]) -> Result<String, Reason> {
    let repo = git.repository();
    let made = write_commit(&repo, (message, Signature::User), tree, parents)
        .and_then(|commit| keep(&repo, &commit, parents).map(|()| commit));
    if made.is_err() {
        // A user's `git gc --prune=now` removes what no reference leads to, and the index takes it for present.
        fs::remove(&git.place.index()).map_err(|error| write::wrong(&error))?;
    }
    made
}

/// Makes a commit. It is not known to be whole, nor to be on the disk, before `keep`.
pub(super) fn write_commit(
    repo: &Repo<'_>,
    (message, signature): (&str, Signature),
    tree: &str,
    parents: &[&str],
) -> Result<String, Reason> {
    let call = || {
        // Without that setting git makes an author up.
        let args = ["-c", "user.useConfigOnly=true", "commit-tree", "--no-gpg-sign", "-F", "-"];
        let call = parents.iter().fold(repo.change(&args), |call, parent| call.arg("-p").arg(*parent));
        call.arg(tree).input(message.as_bytes().to_vec())
    };
    if let Signature::Engine(at) = signature {
        // With the mark git takes any number for seconds.
        let date = format!("@{} +0000", at.as_millis().div_euclid(1000));
        let dates = ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"];
        return write::line(dates.iter().fold(by_engine(call()), |call, name| call.variable(name, &date)));
    }
    let captured = write::answer(call())?;
    match captured.code {
        Some(0) => Ok(String::from_utf8_lossy(captured.stdout.trim_ascii_end()).into_owned()),
        _ if String::from_utf8_lossy(&captured.stderr).contains("auto-detection is disabled") => {
            write::line(by_engine(call()))
        }
        _ => Err(write::refusal("commit-tree", repo.top, &captured)),
    }
}

fn by_engine(call: Call<'_>) -> Call<'_> {
    ENGINE.into_iter().fold(call, |call, (name, value)| call.variable(name, value))
}

/// Checks that a commit is whole, and syncs the objects that it has beyond commits that are on the disk.
///
/// # Errors
/// A reason also where an object is missing.
pub(super) fn keep(repo: &Repo<'_>, commit: &str, beyond: &[&str]) -> Result<(), Reason> {
    // By standard input: the command line is too short for all workstreams of a run.
    let revisions: String = beyond.iter().map(|commit| format!("^{commit}\n")).collect();
    let list = repo.read(&["rev-list", "--objects", "--no-object-names", "--stdin"]);
    let captured = list.input(format!("{commit}\n{revisions}").into_bytes()).answer()?;
    match captured.code {
        Some(0) if !captured.cut && repo.durable => sync(repo, &String::from_utf8_lossy(&captured.stdout)),
        Some(0) if !captured.cut => Ok(()),
        _ => Err(write::refusal("rev-list", repo.top, &captured)),
    }
}

/// Syncs objects, also those that an agent had added before. At once, because the file system syncs several files together almost
/// as fast as one.
fn sync(repo: &Repo<'_>, listed: &str) -> Result<(), Reason> {
    let objects = repo.common_dir.join("objects");
    let names = listed.lines().filter_map(|name| name.split_at_checked(2));
    let paths: Vec<PathBuf> = names.map(|(dir, rest)| objects.join(dir).join(rest)).collect();
    let sync = |paths: &[PathBuf]| {
        paths.iter().try_for_each(|path| match File::open(path) {
            Ok(file) => fs::sync_data(&file, path),
            // It is in a pack, and git syncs packs.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(fs::FsError { action: "opening", path: path.clone(), source }),
        })
    };
    let each = paths.len().div_ceil(SYNCED_AT_ONCE).max(1);
    let synced: fs::Result<()> = std::thread::scope(|scope| {
        let threads: Vec<_> = paths.chunks(each).map(|some| scope.spawn(move || sync(some))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    });
    synced.map_err(|error| write::wrong(&error))
}
