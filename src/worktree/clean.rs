//! What a workstream that has ended leaves in a repository, and its removal on a person's word.
//!
//! Responsible for the worktree, the references below `refs/engine/` and the branch of one workstream. Not responsible for
//! whether it may go: the caller holds the lease of the workstream's job, and decides by `Remains`. A crash leaves less than
//! there was; the next call removes the rest. Hard rule: a reference and a branch go only where they were seen.

use super::Place;
use super::aside::put_aside_and_reset;
use super::content::{Counted, tree_now};
use super::git::{Git, heads, lines_by_git};
use super::half_merge::checkouts;
use super::refs;
use super::submodules;
use super::tree::remove;
use crate::git::{Client, write};
use crate::job::{Code, Reason, RunId};

/// What is there of a workstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Its worktree.
    pub tree: TreeState,
    /// True if everything that was taken is in a branch that is not the engine's.
    pub is_merged: bool,
    /// True if something was put aside, or a person's commit is kept.
    pub has_asides: bool,
    /// How many references it has below `refs/engine/`.
    pub references: usize,
    /// The commit of its branch.
    pub branch: Option<String>,
}

/// A worktree, as far as it matters for its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeState {
    /// There is none.
    None,
    /// It is as the last checkpoint, or not whole: a cache of its branch.
    Clean,
    /// It holds something that no commit holds.
    Dirty,
}

/// Looks at what is there.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn remains(place: &Place, counted: &Counted, client: &Client) -> Result<Remains, Reason> {
    let heads = heads(place, client)?;
    let branch = heads.branch.as_ref().map(|head| head.commit.clone());
    let mut is_merged = true;
    for commit in heads.head.iter().map(|head| &head.commit).chain(&branch) {
        is_merged = is_merged && is_in_a_branch(place, commit, client)?;
    }
    let tree =
        match heads.head.as_ref().filter(|_| place.dir.is_dir() && place.beside(super::tree::MADE).is_file())
        {
            Some(head) => {
                let is_clean = tree_now(place, counted, client)?.is_exactly(&head.tree)
                    && submodules::held(place, client)?.is_empty();
                if is_clean { TreeState::Clean } else { TreeState::Dirty }
            }
            None if !submodules::held(place, client)?.is_empty() => TreeState::Dirty,
            None if place.dir.exists() || place.own_git_dir().is_some() => TreeState::Clean,
            None => TreeState::None,
        };
    let has_asides = !heads.asides.is_empty() || !heads.by_hand.is_empty();
    let references = refs::count(&place.repo, &[place.refs("")], client)?;
    Ok(Remains { tree, is_merged, has_asides, references, branch })
}

/// True if a branch that is not the engine's, or one of a remote, has the commit.
fn is_in_a_branch(place: &Place, commit: &str, client: &Client) -> Result<bool, Reason> {
    let args = ["for-each-ref", "--format=%(refname)", "--contains", commit, "refs/heads/", "refs/remotes/"];
    let listed = Git::at(place, client).read(&args).output()?;
    let listed = String::from_utf8_lossy(&listed);
    Ok(listed.lines().any(|name| !name.starts_with("refs/heads/engine/")))
}

/// Removes the worktree; what it holds that no commit holds is put aside first, as of this step.
///
/// # Errors
/// `tree_not_clean` where something in it cannot be put aside, or a reason where git fails.
pub(crate) fn remove_tree(
    place: &Place,
    step: u32,
    counted: &Counted,
    client: &Client,
) -> Result<(), Reason> {
    // Before anything is put aside: the tree stays.
    submodules::check(place, client)?;
    if remains(place, counted, client)?.tree == TreeState::Dirty {
        let (aside, left) = put_aside_and_reset(place, step, counted, None, client)?;
        let not_kept = aside.into_iter().flat_map(|aside| aside.not_kept);
        let named: Vec<String> =
            left.into_iter().chain(not_kept).map(|path| path.display().to_string()).collect();
        if !named.is_empty() {
            let message = format!(
                "`{}` holds what cannot be put aside: {}; move it away, or remove the directory",
                place.dir.display(),
                named.join(", ")
            );
            return Err(Reason::new(Code::TreeNotClean, message));
        }
    }
    remove(place, counted, client)
}

/// Removes the references, also to what was put aside and to commits of a person; how many.
///
/// # Errors
/// As `refs::delete`.
pub(crate) fn remove_references(place: &Place, client: &Client) -> Result<usize, Reason> {
    refs::delete(&place.repo, &[place.refs("")], client)
}

/// Removes the branch.
///
/// # Errors
/// A reason where it is checked out somewhere, or git fails.
pub(crate) fn remove_branch(place: &Place, client: &Client) -> Result<(), Reason> {
    let branch = place.branch();
    let name = branch.trim_start_matches("refs/heads/");
    write::run(Git::at(place, client).repo(&["branch", "--quiet", "-D", "--", name])).map(drop)
}

/// Removes what is left below the names of a run whose workstreams are cleaned: the reference of its base, and what else a program
/// made there; gives that. Branches only if they are to go, and of a run that was not named only what is merged.
///
/// # Errors
/// `branch_in_use` where a branch is checked out, or as `refs::delete`.
pub(crate) fn remove_rest(
    place: &Place,
    run: &RunId,
    (is_named, branches): (bool, bool),
    client: &Client,
) -> Result<Vec<String>, Reason> {
    let (own, of_branches) = (format!("refs/engine/{run}/"), format!("refs/heads/engine/{run}/"));
    let base = format!("{own}base");
    let repo = place.repository(client);
    let found = lines_by_git(&repo, &[(&*own, true), (&*of_branches, branches)], None)?;
    let mut rest = Vec::new();
    for (name, commit) in found.into_iter().filter(|(name, _)| *name != base) {
        if !is_named && !is_in_a_branch(place, &commit, client).unwrap_or(false) {
            continue;
        }
        if let Some(top) = checkouts(&repo, &name)?.first() {
            let (name, top) = (name.trim_start_matches("refs/heads/"), top.display());
            let message = format!(
                "the branch `{name}` is checked out in `{top}`: switch that worktree to another branch"
            );
            return Err(Reason::new(Code::BranchInUse, message));
        }
        rest.push(name);
    }
    let names: Vec<String> = rest.iter().cloned().chain([base]).collect();
    refs::delete(&place.repo, &names, client)?;
    Ok(rest)
}
