//! Heads of workstreams merged upon a base, one after the other in plan order.
//!
//! This makes the base of a workstream out of its predecessors, and the commit of an integration out of a run. Commits have the
//! date of the run and the name of the engine, so the same heads give the same commits, whoever merges them and when: what a
//! workstream was built on is not merged a second time. Hard rule: no reference is moved here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::commit::{Signature, keep, write_commit};
use super::git::Repo;
use super::merge::{Conflict, Merge, Merging, named};
use crate::clock::Timestamp;
use crate::git::index::path_of;
use crate::job::{Code, Reason};

/// A workstream that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name.
    pub ws: String,
    /// The commit that it was built on.
    pub base: String,
    /// Its last commit.
    pub head: String,
    /// The workstreams that it depends on.
    pub depends_on: Vec<String>,
}

/// The commits of a run, as far as their messages and dates go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfRun<'a> {
    /// The name of the run.
    pub run: &'a str,
    /// When it was made.
    pub made_at: Timestamp,
}

/// What was merged, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// The commit that holds all that was merged.
    pub commit: String,
    /// Its parts, in their order.
    pub merged: Vec<String>,
    /// The parts that were not merged, each with its conflicts and the earlier part that changed the same paths.
    pub refused: Vec<(String, Option<String>, Vec<Conflict>)>,
    /// The parts that depend, or are built, on one that was not merged.
    pub skipped: Vec<String>,
}

/// The base of a workstream: the base of the run with the heads of its predecessors, in plan order. It is on the disk.
///
/// # Errors
/// `base_conflict` where two of them do not merge, or a reason where git fails.
pub(crate) fn compose(
    repo: &Repo<'_>,
    run: OfRun<'_>,
    base: &str,
    predecessors: &[Part],
) -> Result<String, Reason> {
    let merged = merge_parts(repo, run, base, predecessors)?;
    let Some((ws, with, conflicts)) = merged.refused.first() else { return Ok(merged.commit) };
    let (which, how) = match with {
        Some(with) => {
            let how = merged_by_hand(run.run, ws, with);
            (format!("`{with}` and `{ws}` do not merge with each other"), how)
        }
        None => {
            let how = format!("change its branch so that it does (git switch engine/{}/{ws})", run.run);
            (format!("`{ws}` does not merge with what comes before it"), how)
        }
    };
    let message = format!("{which}: {}; {how}, go back to your branch, and resume", named(conflicts));
    Err(Reason::new(Code::BaseConflict, message))
}

/// How a person merges two branches of a run. The merge becomes part of the one when the run is resumed.
pub(crate) fn merged_by_hand(run: &str, ws: &str, with: &str) -> String {
    format!(
        "merge them by hand: git switch engine/{run}/{ws} && git merge engine/{run}/{with}, resolve, commit"
    )
}

/// Merges parts upon a base. A part that has conflicts is left out, with all that depends on it or holds its commits.
pub(super) fn merge_parts(
    repo: &Repo<'_>,
    run: OfRun<'_>,
    base: &str,
    parts: &[Part],
) -> Result<Merged, Reason> {
    let mut upon = Upon::read((repo, run), base, parts)?;
    let mut merged = Merged::default();
    let mut left_out: Vec<&Part> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let reached = upon.reached(&part.head);
        let needs = |other: &Part| part.depends_on.contains(&other.ws) || reached.contains(&*other.head);
        if left_out.iter().any(|other| needs(other)) {
            merged.skipped.push(part.ws.clone());
            left_out.push(part);
            continue;
        }
        match upon.add(part, reached)? {
            None => merged.merged.push(part.ws.clone()),
            Some(conflicts) => {
                let before = parts.get(..at).unwrap_or_default().iter();
                let before = before.filter(|other| merged.merged.contains(&other.ws));
                let with = partner(repo, &before.collect::<Vec<_>>(), &conflicts)?;
                merged.refused.push((part.ws.clone(), with, conflicts));
                left_out.push(part);
            }
        }
    }
    if upon.is_new {
        let heads = parts.iter().map(|part| part.head.as_str());
        keep(repo, &upon.commit, &std::iter::once(base).chain(heads).collect::<Vec<_>>())?;
    }
    merged.commit = upon.commit;
    Ok(merged)
}

/// A commit that grows by merges, and what it holds.
struct Upon<'r, 'a> {
    repo: &'r Repo<'a>,
    run: OfRun<'r>,
    base: &'r str,
    commit: String,
    /// True if the commit was made here.
    is_new: bool,
    /// The commits that it holds, but for those that its base held.
    holds: HashSet<String>,
    /// The parents of each commit beyond the base. A commit that is missing here is one of the base.
    parents: HashMap<String, Vec<String>>,
    /// Made for the first merge.
    merging: Option<Merging<'r, 'a>>,
}

impl<'r, 'a> Upon<'r, 'a> {
    /// Asks git once for all commits, because a run may have a thousand parts.
    fn read((repo, run): (&'r Repo<'a>, OfRun<'r>), base: &'r str, parts: &[Part]) -> Result<Self, Reason> {
        let heads: String = parts.iter().map(|part| format!("{}\n", part.head)).collect();
        let mut parents = HashMap::new();
        if !parts.is_empty() {
            let list = repo.read(&["rev-list", "--parents", "--stdin"]);
            let listed = list.input(format!("^{base}\n{heads}").into_bytes()).output()?;
            for line in String::from_utf8_lossy(&listed).lines() {
                let mut names = line.split(' ').map(str::to_owned);
                let Some(commit) = names.next() else { continue };
                parents.insert(commit, names.collect());
            }
        }
        let (commit, holds) = (base.to_owned(), [base.to_owned()].into());
        Ok(Self { repo, run, base, commit, is_new: false, holds, parents, merging: None })
    }

    /// The commits that a head has and this one has not, with those of this one that it is built on.
    fn reached(&self, head: &str) -> HashSet<String> {
        let (mut reached, mut next) = (HashSet::new(), vec![head]);
        while let Some(commit) = next.pop() {
            let is_first = reached.insert(commit.to_owned());
            if is_first && !self.holds.contains(commit) {
                next.extend(self.parents.get(commit).into_iter().flatten().map(String::as_str));
            }
        }
        reached
    }

    /// Merges a part; gives the conflicts if there are some.
    fn add(&mut self, part: &Part, reached: HashSet<String>) -> Result<Option<Vec<Conflict>>, Reason> {
        if self.holds.contains(&part.head) || !self.parents.contains_key(&part.head) {
            return Ok(None);
        }
        let is_new = !reached.contains(&self.commit);
        self.commit = match is_new {
            false => part.head.clone(),
            true => match self.merge(&part.head)? {
                Merge::Conflicts(conflicts) => return Ok(Some(conflicts)),
                Merge::Clean(tree) => {
                    let message = format!("merge {}\n\nEngine-Run: {}\n", part.ws, self.run.run);
                    let signed = (&*message, Signature::Engine(self.run.made_at));
                    write_commit(self.repo, signed, &tree, &[&self.commit, &part.head])?
                }
            },
        };
        self.is_new = is_new;
        self.holds.extend(reached);
        self.holds.insert(self.commit.clone());
        Ok(None)
    }

    /// By the attributes of the base for all: they do not depend on which parts there are.
    fn merge(&mut self, head: &str) -> Result<Merge, Reason> {
        let merging = match self.merging.take() {
            Some(merging) => merging,
            None => Merging::open(self.repo, self.base)?,
        };
        let merge = merging.merge(&self.commit, head);
        self.merging = Some(merging);
        merge
    }
}

/// The last of these parts that changed a path of the conflicts; else one that changed something beside such a path, as where a
/// directory was renamed.
fn partner(repo: &Repo<'_>, before: &[&Part], conflicts: &[Conflict]) -> Result<Option<String>, Reason> {
    let paths: Vec<&PathBuf> = conflicts.iter().flat_map(|conflict| &conflict.paths).collect();
    let mut beside = None;
    for part in before.iter().rev().filter(|_| !paths.is_empty()) {
        let changed = changed(repo, part)?;
        let meets = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
        if changed.iter().any(|one| paths.iter().any(|path| meets(one, path))) {
            return Ok(Some(part.ws.clone()));
        }
        let is_beside = |one: &PathBuf| paths.iter().any(|path| path.parent() == one.parent());
        if beside.is_none() && changed.iter().any(is_beside) {
            beside = Some(part.ws.clone());
        }
    }
    Ok(beside)
}

/// The paths that a part changed.
fn changed(repo: &Repo<'_>, part: &Part) -> Result<BTreeSet<PathBuf>, Reason> {
    let list = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv"];
    let listed = repo.read(&list).arg(&*part.base).arg(&*part.head).output()?;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(path_of).collect())
}
