//! The commits that a repository held before a job. A checkout of them is no work: not of a commit that a reference led to,
//! nor of the stash, nor of a merge of such commits that has each file as one of them has it.
//!
//! Responsible for keeping the commits that references named before in memory, and for the question whether every
//! difference comes from them. Hard rule: a removal is a change. Where a file was not as its commit had it, its new content
//! is work, wherever it comes from.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::look::Look;
use super::snapshot::Snapshot;
use crate::git::{Call, GitDir, Repository};
use crate::job::Reason;

/// The reference of the stash.
const STASH: &[u8] = b"refs/stash";

/// The most new merges, and the most commits that they merge, that are looked at; a merge of more is work.
const MAX_MERGES: usize = 50;

/// The commits that references named.
#[derive(Debug, Default)]
pub struct Known {
    tips: BTreeSet<String>,
    stash: Option<String>,
}

impl Known {
    /// Reads the references of a repository.
    ///
    /// # Errors
    /// A reason where the look is over. Where git cannot list them nothing is known.
    pub fn read(repository: &Repository, look: &Look) -> Result<Self, Reason> {
        let args = ["for-each-ref", "--format=%(objectname) %(refname)"];
        let listed = Call::new(&look.client, &repository.top, GitDir::Repository, &args).output();
        let listed = match listed {
            Err(reason) if look.client.is_over() => return Err(reason),
            listed => listed.unwrap_or_default(),
        };
        let mut known = Self::default();
        for line in listed.split(|byte| *byte == b'\n') {
            let Some((tip, name)) = line.split_at_checked(2 * repository.hash_bytes) else { continue };
            let tip = String::from_utf8_lossy(tip).into_owned();
            if name.trim_ascii_start() == STASH {
                known.stash = Some(tip.clone());
            }
            known.tips.insert(tip);
        }
        known.tips.extend(repository.head.clone());
        Ok(known)
    }

    /// The known commits that a commit was merged from: none if it was reachable itself. `None` if a commit that is new is no
    /// merge, or there are too many.
    fn sides(&self, commit: &str, (after, look): (&Snapshot, &Look)) -> Option<BTreeSet<String>> {
        if self.tips.contains(commit) {
            return Some(BTreeSet::new());
        }
        let input: String = self.tips.iter().map(|tip| format!("^{tip}\n")).collect();
        let most = format!("--max-count={}", MAX_MERGES + 1);
        let args = ["rev-list", "--ignore-missing", "--parents", &most, "--stdin"];
        let git = Call::new(&look.client, &after.repository.top, GitDir::Repository, &args);
        let listed = git.input(format!("{commit}\n{input}").into_bytes()).output().ok()?;
        let listed = String::from_utf8(listed).ok()?;
        let (mut new, mut sides) = (BTreeSet::new(), BTreeSet::new());
        for line in listed.lines() {
            let mut ids = line.split(' ').map(str::to_owned);
            new.extend(ids.next());
            let parents = ids.collect::<Vec<_>>();
            if parents.len() < 2 {
                return None;
            }
            sides.extend(parents);
        }
        sides.retain(|side| !new.contains(side));
        (new.len() <= MAX_MERGES && sides.len() <= MAX_MERGES).then_some(sides)
    }

    /// True if a commit was reachable, or is merged of what was and has each of these files as one side of the merge has it.
    fn holds<'p>(
        &self,
        commit: &str,
        mut files: impl Iterator<Item = &'p [u8]>,
        (after, look): (&Snapshot, &Look),
    ) -> Result<bool, Reason> {
        let Some(sides) = self.sides(commit, (after, look)) else { return Ok(false) };
        let mut differing: Vec<BTreeSet<Vec<u8>>> = Vec::new();
        for side in &sides {
            let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", side, commit];
            let listed =
                Call::new(&look.client, &after.repository.top, GitDir::Repository, &args).output()?;
            differing.push(listed.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect());
        }
        let is_of_a_side = |path: &[u8]| differing.iter().any(|differing| !differing.contains(path));
        Ok(sides.is_empty() || files.all(is_of_a_side))
    }

    /// True if the whole worktree is that of the stash.
    fn is_stash(&self, (after, look): (&Snapshot, &Look)) -> bool {
        let Some(stash) = &self.stash else { return false };
        let tree = format!("{stash}^{{tree}}");
        let args = ["rev-parse", "--verify", "-q", &tree];
        let found = Call::new(&look.client, &after.repository.top, GitDir::Repository, &args).output();
        found.is_ok_and(|found| found.trim_ascii() == after.tree.as_bytes())
    }

    /// True if each changed file has the content that a known commit has, and before the job had the content of its own commit.
    /// `files` are all changed files, each with whether HEAD moved and has it as it is now.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn has_all<'p>(
        &self,
        (before, after): (&Snapshot, &Snapshot),
        look: &Rc<Look>,
        files: impl Iterator<Item = (&'p [u8], bool)> + Clone,
    ) -> Result<bool, Reason> {
        let Some(head) = &after.repository.head else { return Ok(false) };
        let is_here = |path: &[u8]| before.entries.contains_key(path) || after.entries.contains_key(path);
        // What is in a repository within, or could not be read, is not looked at here.
        if !files.clone().all(|(path, _)| is_here(path)) {
            return Ok(false);
        }
        let with = (after, &**look);
        let is_moved = after.repository.head != before.repository.head;
        let is_known = match is_moved && files.clone().all(|(_, committed)| committed) {
            true => self.holds(head, files.clone().map(|(path, _)| path), with)?,
            false => !is_moved && self.is_stash(with),
        };
        if !is_known {
            return Ok(false);
        }
        let Some(tree) = &before.repository.head_tree else { return Ok(false) };
        let uncommitted = before.uncommitted_at(tree, look)?;
        Ok(!files.map(|(path, _)| path).any(|path| uncommitted.contains(path)))
    }
}
