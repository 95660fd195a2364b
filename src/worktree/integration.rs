//! The branch of a run that holds what has succeeded: built anew from the base each time, and moved at the end.
//!
//! What a crash leaves:
//!
//! ```text
//! merges   objects without a reference: made again, with the same names
//! next     the branch is where it was
//! branch   it is at `next`: taken for ours, and `head` follows
//! head     done
//! ```
//!
//! Hard rule: a branch that is neither at `head` nor at `next` was moved by a person, and stays.

use super::Place;
use super::compose::{OfRun, Part, merge_parts};
use super::git::{Repo, lines};
use super::onto::is_free;
use crate::git::Client;
use crate::job::run::{BASELINE_GATE, INTEGRATION};
use crate::job::{Code, Reason};

/// The name by which branches and references know a job of a run, of its name behind the run: a gate works on the branch of the
/// integration.
#[must_use]
pub(crate) fn name_of(job: &str) -> &str {
    if job == BASELINE_GATE { INTEGRATION } else { job }
}

/// A conflict of a workstream that was not merged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct NotMerged {
    /// The workstream.
    pub ws_id: String,
    /// The earlier one that changed the same path, as far as that is known.
    pub with: Option<String>,
    /// What is in conflict.
    #[serde(rename = "type")]
    pub kind: super::merge::ConflictKind,
    /// Where; none if the histories have nothing in common.
    pub path: Option<String>,
}

/// What was integrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Integrated {
    /// The commit of the branch.
    pub commit: String,
    /// The workstreams that it holds, in plan order.
    pub merged: Vec<String>,
    /// The conflicts of those that it does not hold.
    pub conflicts: Vec<NotMerged>,
    /// Those that depend, or are built, on one that has conflicts.
    pub skipped: Vec<String>,
}

/// The references of the integration.
#[derive(Debug, Default)]
struct Seen {
    branch: Option<String>,
    /// Where the branch was moved to last.
    head: Option<String>,
    /// Where it is being moved to.
    next: Option<String>,
}

/// Merges the workstreams that have succeeded, in plan order, upon the base of the run, and moves the branch there.
///
/// The place is that of `INTEGRATION`. A worktree of it is not touched: it has to be reset to the new head.
///
/// # Errors
/// `integration_moved` if a person moved the branch, `branch_in_use` if a person has it checked out, or a reason where git fails.
pub(crate) fn integrate(
    place: &Place,
    run: OfRun<'_>,
    (base, parts): (&str, &[Part]),
    client: &Client,
) -> Result<Integrated, Reason> {
    let repo = place.repository(client);
    let seen = Seen::read(place, client)?;
    seen.is_ours(place)?;
    let merged = merge_parts(&repo, run, base, parts)?;
    if seen.branch.as_ref() != Some(&merged.commit) {
        // Its files would not follow.
        is_free(place, client)?;
    }
    seen.publish(place, &repo, &merged.commit)?;
    let mut conflicts = Vec::new();
    for (ws_id, with, found) in merged.refused {
        conflicts.extend(found.into_iter().map(|conflict| NotMerged {
            ws_id: ws_id.clone(),
            with: with.clone(),
            kind: conflict.kind,
            path: conflict.paths.first().map(|path| path.to_string_lossy().into_owned()),
        }));
    }
    Ok(Integrated { commit: merged.commit, merged: merged.merged, conflicts, skipped: merged.skipped })
}

/// Checks that no person has moved the branch of the integration.
///
/// # Errors
/// `integration_moved` if one has, or a reason where git fails.
pub(crate) fn check_integration(place: &Place, client: &Client) -> Result<(), Reason> {
    Seen::read(place, client)?.is_ours(place)
}

impl Seen {
    fn read(place: &Place, client: &Client) -> Result<Self, Reason> {
        let (own, branch) = (place.refs(""), place.branch());
        let mut found = lines(&place.repository(client), &[(&*own, true), (&*branch, true)])?;
        let mut take = |name: &str| found.remove(name);
        let seen =
            Self { branch: take(&branch), head: take(&place.head_ref()), next: take(&next_ref(place)) };
        Ok(seen)
    }

    /// Checks that the branch is where the engine left it. One that is missing is made again.
    fn is_ours(&self, place: &Place) -> Result<(), Reason> {
        if self.branch.is_none() || [&self.head, &self.next].contains(&&self.branch) {
            return Ok(());
        }
        let name = place.branch_name();
        let message = format!(
            "the branch `{name}` is not where the engine left it: rename it (git branch -m {name} NAME), and resume"
        );
        Err(Reason::new(Code::IntegrationMoved, message))
    }

    /// Moves the branch. Each line is durable before the next one.
    fn publish(&self, place: &Place, repo: &Repo<'_>, commit: &str) -> Result<(), Reason> {
        let (head, next, branch) = (place.head_ref(), next_ref(place), place.branch());
        let mut at = self.head.as_deref();
        if self.branch.as_deref() == Some(commit) && at == Some(commit) {
            return Ok(());
        }
        if let Some(moved) = self.branch.as_deref().filter(|moved| at != Some(moved)) {
            // A crash came before `head`: without it `next` is all that says whose the branch is.
            repo.move_ref(&head, moved, at)?;
            at = Some(moved);
        }
        repo.move_ref(&next, commit, self.next.as_deref())?;
        repo.move_ref(&branch, commit, self.branch.as_deref())?;
        repo.move_ref(&head, commit, at)
    }
}

/// The reference to where the branch is being moved.
fn next_ref(place: &Place) -> String {
    place.refs("next")
}
