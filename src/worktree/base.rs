//! The base of a workstream that builds on others: the commit of their heads, kept under a reference of its own.
//!
//! What a crash leaves:
//!
//! ```text
//! merge      objects without a reference: merged again, to the same tree
//! move head  the new base is in `head`, and `base` is the old one: found by the next call, which moves it
//! move base  done; the files follow by a reset
//! ```

use super::Place;
use super::checkpoint::message;
use super::commit::commit;
use super::git::{Git, heads};
use super::merge::{Merge, Merging, named};
use crate::git::Client;
use crate::job::{Code, Reason};

/// The kind of a checkpoint that takes up what others have finished since.
const BASE: &str = "base";

/// The base as it was kept; none if the workstream never began.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn kept_base(place: &Place, client: &Client) -> Result<Option<String>, Reason> {
    let name = place.refs(BASE);
    let list = ["for-each-ref", "--format=%(objectname)", &name];
    let listed = Git::at(place, client).read(&list).output()?;
    Ok(String::from_utf8_lossy(&listed).lines().next().map(str::to_owned))
}

/// Keeps a base, if it still is what it was seen as; none means that there was none.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn keep_base(
    place: &Place,
    commit: &str,
    seen: Option<&str>,
    client: &Client,
) -> Result<(), Reason> {
    Git::at(place, client).move_ref(&place.refs(BASE), commit, seen)
}

/// Takes a new base up: a workstream that has taken nothing begins on it, another merges it into its last checkpoint. The files
/// stay; a reset brings them there.
///
/// # Errors
/// `base_conflict` if it does not merge with what the workstream has taken, or a reason where git fails.
pub(crate) fn take_up(
    place: &Place,
    (old, new): (&str, &str),
    step: u32,
    client: &Client,
) -> Result<(), Reason> {
    let git = Git::at(place, client);
    let head = heads(place, client)?.checkpoint(place)?.clone();
    let count = git.read(&["rev-list", "--count", new]).arg(format!("^{}", head.commit)).output()?;
    let is_in = String::from_utf8_lossy(&count).trim() == "0";
    if head.commit == old {
        git.move_ref(&place.head_ref(), new, Some(old))?;
    } else if !is_in {
        let repo = place.repository(client);
        let tree = match Merging::open(&repo, old)?.merge(&head.commit, new)? {
            Merge::Clean(tree) => tree,
            Merge::Conflicts(conflicts) => {
                let message = format!(
                    "`{}` does not merge with what it builds on: {}; merge by hand in its worktree, then resume",
                    place.ws,
                    named(&conflicts)
                );
                return Err(Reason::new(Code::BaseConflict, message));
            }
        };
        let message = message(place, &format!("{}: {BASE} {step:02}", place.ws), None);
        let commit = commit(&git, &message, &tree, &[&head.commit, new])?;
        git.move_ref(&place.head_ref(), &commit, Some(&head.commit))?;
    }
    keep_base(place, new, Some(old), client)
}
