//! The commit that a workstream begins on, as long as it has no step.

use super::Place;
use super::git::{Git, heads};
use crate::git::Client;
use crate::job::Reason;

/// Has a workstream without a step begin on a commit: what a former start had made it begin on counts no more. The files of a
/// worktree that is there stay; a reset brings them along. True if it was another commit.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn begin_at(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    let head = heads(place, client)?.head;
    let seen = head.as_ref().map(|head| head.commit.as_str());
    Git::at(place, client).move_ref(&place.head_ref(), commit, seen)?;
    Ok(seen.is_some_and(|seen| seen != commit))
}
