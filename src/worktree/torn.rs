//! What a power loss leaves of files that git does not sync: empty, torn, or gone.
//!
//! References of the engine and the objects that they lead to are synced, so nothing of a checkpoint is lost. Hard rule: what is
//! removed here cannot be read by git, or is made again from what can.

use std::path::Path;

use super::Place;
use super::git::{Git, heads, is_name, replace};
use crate::fs;
use crate::git::worktree::line_of;
use crate::git::{Client, write};
use crate::job::Reason;

/// Mends what a power loss may have torn. Not for an engine that was only killed: that leaves whole files.
///
/// # Errors
/// A reason where git or the file system fails.
pub(crate) fn mend(place: &Place, client: &Client) -> Result<(), Reason> {
    remove(&place.index())?;
    // It follows the reference of the engine, and is made again.
    let branch = place.common_dir.join(place.branch());
    if branch.is_file() && !line_of(&branch).is_some_and(|line| is_name(&line, place)) {
        remove(&branch)?;
    }
    mend_own_git_dir(place)?;
    if let Some(own) = place.own_git_dir()
        && line_of(&own.join("commondir")).is_none_or(|line| !own.join(path(&line)).join("objects").is_dir())
    {
        replace(&own.join("commondir"), b"../..\n")?;
    }
    remove_torn_objects(place, client)
}

/// Gives the own git directory a HEAD that git can read: without one it takes the directory for none of its own.
///
/// # Errors
/// A reason where the file system fails.
pub(super) fn mend_own_git_dir(place: &Place) -> Result<(), Reason> {
    let Some(own) = place.own_git_dir() else { return Ok(()) };
    let head = own.join("HEAD");
    let is_head = |line: Vec<u8>| line.starts_with(b"ref: refs/") || is_name(&line, place);
    if line_of(&head).is_some_and(is_head) {
        return Ok(());
    }
    fs::remove_tree(&head).map_err(|error| write::wrong(&error))?;
    replace(&head, format!("ref: {}\n", place.branch()).as_bytes())
}

fn path(line: &[u8]) -> std::path::PathBuf {
    crate::git::index::path_of(line)
}

fn remove(path: &Path) -> Result<(), Reason> {
    fs::remove(path).map(drop).map_err(|error| write::wrong(&error))
}

/// Removes the objects that git finds torn: it would take one for there, and not write it again. Of those that are older than
/// the run none is touched.
fn remove_torn_objects(place: &Place, client: &Client) -> Result<(), Reason> {
    let modified = |path: &Path| std::fs::symlink_metadata(path).and_then(|file| file.modified()).ok();
    let base = modified(&place.common_dir.join(format!("refs/engine/{}/base", place.run)));
    let Some(head) = heads(place, client)?.head else { return Ok(()) };
    // All loose objects, and what one tree leads to: not the whole history.
    let args = ["fsck", "--no-full", "--no-dangling", "--no-reflogs", "--no-progress"];
    let captured = Git::at(place, client).read(&args).arg(head.tree).answer()?;
    let said = [captured.stdout, captured.stderr].concat();
    for word in said.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| is_name(word, place)) {
        let name = String::from_utf8_lossy(word);
        let (dir, rest) = name.split_at_checked(2).unwrap_or_default();
        let object = place.common_dir.join("objects").join(dir).join(rest);
        if modified(&object).is_some_and(|object| base.is_none_or(|base| object >= base))
            && !is_whole(place, &name, client)?
        {
            remove(&object)?;
        }
    }
    Ok(())
}

fn is_whole(place: &Place, name: &str, client: &Client) -> Result<bool, Reason> {
    let git = Git::at(place, client);
    let kind = git.read(&["cat-file", "-t", name]).answer()?;
    let kind = String::from_utf8_lossy(kind.stdout.trim_ascii()).into_owned();
    if kind.is_empty() {
        return Ok(false);
    }
    let content = git.read(&["cat-file", &kind, name]).answer()?;
    if content.code != Some(0) {
        return Ok(false);
    }
    Ok(content.cut
        || crate::git::index::hexadecimal(&crate::git::objects::id(&kind, &content.stdout, place.hash_bytes))
            == name)
}
