//! The difference between two looks at one worktree.
//!
//! Responsible for the list of files with their scope and their SHA-256, and for the commits. Hard rule: a list that was
//! cut says so, keeps the files out of scope, and is counted as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use super::content::{self, Hashing};
use super::guard::Guarded;
use super::known::Known;
use super::links::OutsideChange;
use super::look::Look;
use super::patch::{Difference, Patch};
use super::scope::Scope;
use super::snapshot::Snapshot;
use crate::git::index::{Entries, Kind, LINK, REPOSITORY, differences, path_of};
use crate::job::{Code, Reason};

/// The most commits that are listed.
const MAX_COMMITS: usize = 50;

/// The most files that are listed; the rest is only counted.
const MAX_FILES: usize = 1_000;

/// The most paths that a message names.
const MAX_NAMED: usize = 5;

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path from the top of the repository, with `/`; of the git directory as `.git/hooks/pre-commit`.
    pub path: String,
    /// True if the path is not UTF-8 and is shown with replacement characters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub path_is_lossy: bool,
    /// The kind of change.
    pub kind: Kind,
    /// True if HEAD moved and holds the file as it is now.
    pub committed: bool,
    /// SHA-256 of its content now, of a link the text of the link; `None` if it is gone, a repository, too large or unreadable,
    /// or if so much was read already that the list says `truncated`.
    pub sha256: Option<String>,
    /// Whether the scope holds it; `None` without a scope. Never true in the git directory.
    pub in_scope: Option<bool>,
}

/// The difference between two looks at one worktree.
#[derive(Debug, Clone, Serialize)]
pub struct Changes {
    /// True if any file is different; a change outside, which others may have made, is no proof of work.
    pub changed: bool,
    /// True if nothing of it is new: the repository held it before, in a commit that a reference led to or in the stash, and
    /// nothing uncommitted was taken away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_moved: bool,
    /// The tree of the worktree before, untracked files included.
    pub tree_before: String,
    /// The same now.
    pub tree_after: String,
    /// The commit of HEAD before.
    pub head_before: Option<String>,
    /// The same now.
    pub head_after: Option<String>,
    /// The branch before; `None` if HEAD was detached.
    pub branch_before: Option<String>,
    /// The same now.
    pub branch_after: Option<String>,
    /// Commits that HEAD reaches now and did not before, the newest first, at most 50.
    pub commits: Vec<String>,
    /// The files that changed, at most 1,000: those out of scope first where there are more, else by path.
    pub files: Vec<FileChange>,
    /// How many changed.
    pub files_total: usize,
    /// How many of them are out of scope, those outside of the repository included.
    pub violations_total: usize,
    /// Files outside of the repository that a link leads to.
    pub outside: Vec<OutsideChange>,
    /// Single files that git ignores by the rules of before and that changed; never out of scope.
    pub ignored: Vec<String>,
    /// True if a list was cut, or a bound of the work was hit.
    pub truncated: bool,
    #[serde(skip)]
    difference: Difference,
}

/// A change before its file is read.
struct Touched {
    path: Vec<u8>,
    kind: Kind,
    committed: bool,
    /// The mode in the tree, if it is in one.
    mode: Option<u32>,
}

#[derive(Default)]
struct Collected {
    files: BTreeMap<Vec<u8>, Touched>,
    guarded: BTreeMap<Vec<u8>, Touched>,
    outside: Vec<OutsideChange>,
    ignored: Vec<String>,
    bounded: bool,
}

impl Snapshot {
    /// The difference to a later look, without the files that are no change. A file of the git directory that can run programs
    /// is a change whatever its name.
    ///
    /// # Errors
    /// A reason where git fails or the time of the later look is over.
    pub fn compare(
        &self,
        after: &Self,
        look: &Rc<Look>,
        (scope, no_change): (Option<&Scope>, Option<&Scope>),
        known: &Known,
    ) -> Result<Changes, Reason> {
        let mut collected = Collected::default();
        collected.compare((Some(self), after), look, b"")?;
        let Collected { mut files, guarded, mut outside, mut ignored, mut bounded } = collected;
        // Before anything is counted or cut: else enough of them would fill the list and hide the changes that count.
        if let Some(no_change) = no_change {
            files.retain(|path, _| !no_change.contains(&path_of(path)));
            let is_none = |path: &str| no_change.contains(Path::new(path.trim_start_matches('/')));
            outside.retain(|change| !is_none(&change.path));
        }
        let told = files.values().map(|touched| (touched.path.as_slice(), touched.committed));
        let only_moved =
            !files.is_empty() && guarded.is_empty() && known.has_all((self, after), look, told)?;
        let inside = |touched: &Touched| scope.map(|scope| scope.contains(&path_of(&touched.path)));
        let mut all: Vec<(Touched, Option<bool>)> = files
            .into_values()
            .map(|touched| {
                let inside = inside(&touched);
                (touched, inside)
            })
            .collect();
        all.extend(guarded.into_values().map(|touched| (touched, Some(false))));
        let files_total = all.len();
        let out_of_scope = all.iter().filter(|(_, inside)| *inside == Some(false)).count();
        if all.len() > MAX_FILES {
            all.sort_by_key(|(_, inside)| *inside != Some(false));
            all.truncate(MAX_FILES);
            bounded = true;
        }
        all.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        let outside_total = outside.len();
        outside.truncate(MAX_FILES);
        bounded |= outside.len() < outside_total || ignored.len() > MAX_FILES;
        ignored.truncate(MAX_FILES);
        let mut hashing = Hashing::until(look.client.deadline);
        let top = &self.repository.top;
        let told = |(touched, inside): (Touched, _)| touched.into_file_change(top, inside, &mut hashing);
        let files = all.into_iter().map(told).collect::<Result<_, _>>()?;
        bounded |= hashing.cut;
        Ok(Changes {
            changed: files_total > 0,
            only_moved,
            tree_before: self.tree.clone(),
            tree_after: after.tree.clone(),
            head_before: self.repository.head.clone(),
            head_after: after.repository.head.clone(),
            branch_before: self.repository.branch.clone(),
            branch_after: after.repository.branch.clone(),
            commits: after.repository.commits_since(
                self.repository.head.as_deref(),
                MAX_COMMITS,
                &look.client,
            )?,
            files,
            files_total,
            violations_total: out_of_scope + if scope.is_some() { outside_total } else { 0 },
            outside,
            ignored,
            truncated: bounded,
            difference: Difference::between(self, after, after.place(look)),
        })
    }
}

impl Changes {
    /// The patch between the two looks, as long as the scratch directory is there, which lives as long as this.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn patch(&self) -> Result<Patch, Reason> {
        self.difference.patch()
    }

    /// The changes out of scope, as a reason; `None` if there are none.
    #[must_use]
    pub fn scope_violation(&self) -> Option<Reason> {
        if self.violations_total == 0 {
            return None;
        }
        let files =
            self.files.iter().filter(|file| file.in_scope == Some(false)).map(|file| file.path.as_str());
        let outside = self.outside.iter().map(|outside| outside.path.as_str());
        let named: Vec<String> =
            files.chain(outside).take(MAX_NAMED).map(|path| format!("`{path}`")).collect();
        let more = self.violations_total.saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("files outside the scope remain changed: {}{more}", named.join(", "));
        Some(Reason::new(Code::ScopeViolation, message))
    }
}

impl Touched {
    fn into_file_change(
        self,
        top: &Path,
        in_scope: Option<bool>,
        hashing: &mut Hashing,
    ) -> Result<FileChange, Reason> {
        let sha256 = match (self.kind, self.mode) {
            (Kind::Deleted, _) | (_, Some(REPOSITORY)) => None,
            (_, Some(LINK)) => content::of_link(&top.join(path_of(&self.path))),
            _ => hashing.file(top, &self.path)?,
        };
        Ok(FileChange {
            path_is_lossy: std::str::from_utf8(&self.path).is_err(),
            path: String::from_utf8_lossy(&self.path).into_owned(),
            kind: self.kind,
            committed: self.committed,
            sha256,
            in_scope,
        })
    }
}

/// Paths of the worktree that are not as HEAD has them; `None` if HEAD did not move, and nothing new is committed.
fn uncommitted(
    before: Option<&Snapshot>,
    after: &Snapshot,
    look: &Rc<Look>,
) -> Result<Option<BTreeSet<Vec<u8>>>, Reason> {
    let old = before.and_then(|before| before.repository.head.as_ref());
    let Some(tree) = &after.repository.head_tree else { return Ok(None) };
    if after.repository.head.as_ref() == old {
        return Ok(None);
    }
    if *tree == after.tree {
        return Ok(Some(BTreeSet::new()));
    }
    let place = after.place(look);
    place.differing(&place.git_dir.join("index.now"), tree).map(Some)
}

fn join(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { path.to_vec() } else { [prefix, b"/", path].concat() }
}

impl Collected {
    fn compare(
        &mut self,
        (before, after): (Option<&Snapshot>, &Snapshot),
        look: &Rc<Look>,
        prefix: &[u8],
    ) -> Result<(), Reason> {
        let nothing = Entries::new();
        let old = before.map_or(&nothing, |before| before.entries.as_ref());
        let uncommitted = uncommitted(before, after, look)?;
        let is_committed = |path: &[u8]| uncommitted.as_ref().is_some_and(|paths| !paths.contains(path));
        let is_same = before.is_some_and(|before| Rc::ptr_eq(&before.entries, &after.entries));
        let different = if is_same { Vec::new() } else { differences(old, &after.entries) };
        for (path, [one, other]) in different {
            let kind = match (one, other) {
                (Some(one), Some(other)) if one.mode >> 12 != other.mode >> 12 => Kind::TypeChanged,
                (Some(_), Some(_)) => Kind::Modified,
                (Some(_), None) => Kind::Deleted,
                // It was there, but could not be read.
                (None, _) if before.is_some_and(|before| before.unread.contains_key(path)) => Kind::Modified,
                (None, _) => Kind::Added,
            };
            let mode = other.map(|entry| entry.mode);
            self.touch(prefix, path, kind, is_committed(path), mode);
        }
        self.unread(before, after, prefix);
        self.ignored(before, after, prefix);
        self.guarded((before, after), look, prefix)?;
        self.nested((before, after), look, prefix)?;
        self.outside(before, after, prefix);
        self.bounded |= after.bounded || after.links.bounded || after.guarded.bounded;
        self.bounded |= before.is_some_and(|b| b.bounded || b.links.bounded || b.guarded.bounded);
        Ok(())
    }

    fn touch(&mut self, prefix: &[u8], path: &[u8], kind: Kind, committed: bool, mode: Option<u32>) {
        let path = join(prefix, path);
        self.files.entry(path.clone()).or_insert(Touched { path, kind, committed, mode });
    }

    fn unread(&mut self, before: Option<&Snapshot>, after: &Snapshot, prefix: &[u8]) {
        let nothing = BTreeMap::new();
        let old = before.map_or(&nothing, |before| &before.unread);
        for (path, stamp) in &after.unread {
            if old.get(path) != Some(stamp) {
                let is_known = before.is_some_and(|before| before.entries.contains_key(path));
                let kind = if is_known || old.contains_key(path) { Kind::Modified } else { Kind::Added };
                self.touch(prefix, path, kind, false, None);
            }
        }
        for path in old.keys().filter(|path| !after.unread.contains_key(*path)) {
            let is_there = after.entries.contains_key(path) || after.nested.contains_key(path);
            self.touch(prefix, path, if is_there { Kind::Modified } else { Kind::Deleted }, false, None);
        }
    }

    fn ignored(&mut self, before: Option<&Snapshot>, after: &Snapshot, prefix: &[u8]) {
        let Some(before) = before else { return };
        let paths: BTreeSet<_> = before.ignored.keys().chain(after.ignored.keys()).collect();
        let differs = |path: &&Vec<u8>| before.ignored.get(*path) != after.ignored.get(*path);
        let told =
            |path: &&Vec<u8>| !after.entries.contains_key(*path) && !before.entries.contains_key(*path);
        let shown = |path: &Vec<u8>| String::from_utf8_lossy(&join(prefix, path)).into_owned();
        self.ignored.extend(paths.into_iter().filter(differs).filter(told).map(shown));
    }

    fn guarded(
        &mut self,
        (before, after): (Option<&Snapshot>, &Snapshot),
        look: &Look,
        prefix: &[u8],
    ) -> Result<(), Reason> {
        let nothing = Guarded::default();
        let old = before.map_or(&nothing, |before| &before.guarded);
        let changes = old.compare(&after.guarded, &look.client)?.files;
        let mut changes: Vec<_> = changes.into_iter().map(|change| (change.path, change.kind)).collect();
        if before.is_none() {
            // The whole repository is new; its git directory is listed as one change, beside its files.
            changes = vec![(".git".to_owned(), Kind::Added)];
        } else if after.is_replaced {
            changes.push((".git".to_owned(), Kind::Modified));
        }
        for (path, kind) in changes {
            let path = join(prefix, path.as_bytes());
            self.guarded.insert(path.clone(), Touched { path, kind, committed: false, mode: None });
        }
        Ok(())
    }

    fn nested(
        &mut self,
        (before, after): (Option<&Snapshot>, &Snapshot),
        look: &Rc<Look>,
        prefix: &[u8],
    ) -> Result<(), Reason> {
        for (path, inner) in &after.nested {
            let old = before.and_then(|before| before.nested.get(path));
            self.compare((old, inner), look, &join(prefix, path))?;
        }
        let gone = before.into_iter().flat_map(|before| &before.nested);
        for (path, inner) in gone.filter(|(path, _)| !after.nested.contains_key(*path)) {
            let inside = join(prefix, path);
            for file in inner.entries.keys() {
                let now = after.entries.get(&join(path, file));
                if now.is_none() {
                    self.touch(&inside, file, Kind::Deleted, false, None);
                }
            }
            let path = join(&inside, b".git");
            self.guarded
                .insert(path.clone(), Touched { path, kind: Kind::Deleted, committed: false, mode: None });
        }
        Ok(())
    }

    fn outside(&mut self, before: Option<&Snapshot>, after: &Snapshot, prefix: &[u8]) {
        let mut links = before.map(|before| before.links.clone()).unwrap_or_default();
        let begun = before.map_or(after.begun, |before| before.begun);
        let prefix = String::from_utf8_lossy(prefix);
        let within = |change: OutsideChange| match prefix.is_empty() {
            true => change,
            false => OutsideChange { link: format!("{prefix}/{}", change.link), ..change },
        };
        self.outside.extend(links.compare(&after.links, begun).into_iter().map(within));
        self.bounded |= links.bounded;
    }
}
