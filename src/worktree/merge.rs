//! Merges of two commits: the tree that comes out, or what is in conflict.
//!
//! git writes objects for it, and nothing else: no reference, no index, no file of a worktree. Commits decide the result, with
//! the drivers for merges that the user's settings name; not the checkout, and not the settings for finding renames. Hard
//! rule: an answer of git that is not wholly understood is no merge.

use std::path::{Component, Path, PathBuf};

use super::git::Repo;
use super::tree::create_dirs;
use crate::fs::Scratch;
use crate::git::index::path_of;
use crate::git::{Call, GitDir, WorkTree, write};
use crate::job::{Code, Reason};

/// What comes out of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The name of the tree.
    Clean(String),
    /// The conflicts, in the order of their paths; at least one.
    Conflicts(Vec<Conflict>),
}

/// A conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The paths that it is about, the first of them to be named; none if the commits have no history in common.
    pub paths: Vec<PathBuf>,
    /// What is in conflict.
    pub kind: ConflictKind,
}

/// What is in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConflictKind {
    /// Both sides changed the same lines, or a file that has no lines.
    Content,
    /// One side changed a file that the other deleted.
    Delete,
    /// A file or a directory was renamed, and the other side does not fit.
    Rename,
    /// A file is a directory on the other side, a submodule differs, or the histories have nothing in common.
    Other,
}

impl ConflictKind {
    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Delete => "delete",
            Self::Rename => "rename",
            Self::Other => "other",
        }
    }

    /// The kind of a conflict as git names it.
    fn of(name: &str) -> Self {
        match name {
            "CONFLICT (contents)" | "CONFLICT (binary)" => Self::Content,
            "CONFLICT (modify/delete)" => Self::Delete,
            _ if name.contains("rename") => Self::Rename,
            _ => Self::Other,
        }
    }
}

/// Settings that decide what a merge is, as git has them by default: one of a user would make it depend on the machine.
const SETTINGS: [&str; 5] = [
    "merge.renames=true",
    "merge.directoryRenames=conflict",
    "merge.renameLimit=7000",
    "merge.conflictStyle=merge",
    "diff.algorithm=histogram",
];

/// A place for merges: a worktree that holds attributes and nothing else, until it is dropped.
///
/// git reads attributes from files alone, and a driver for merges makes its files in the worktree: neither may be the checkout.
#[derive(Debug)]
pub(super) struct Merging<'r, 'a> {
    repo: &'r Repo<'a>,
    scratch: Scratch,
}

impl<'r, 'a> Merging<'r, 'a> {
    /// Makes it, with the attributes of a commit.
    ///
    /// # Errors
    /// A reason where git fails or the directory cannot be written.
    pub(super) fn open(repo: &'r Repo<'a>, commit: &str) -> Result<Self, Reason> {
        let parent = repo.scratch.parent().unwrap_or(Path::new("/"));
        let name = repo.scratch.file_name().unwrap_or_default();
        create_dirs(parent)?;
        let scratch =
            Scratch::fresh(parent, &name.to_string_lossy()).map_err(|error| write::wrong(&error))?;
        for (path, bytes) in attributes(repo, commit)? {
            scratch.write(path, &bytes).map_err(|error| write::wrong(&error))?;
        }
        Ok(Self { repo, scratch })
    }

    /// Merges one commit into another.
    ///
    /// # Errors
    /// A reason where git fails or its answer is not understood.
    pub(super) fn merge(&self, ours: &str, theirs: &str) -> Result<Merge, Reason> {
        let Repo { top, common_dir, client, .. } = self.repo;
        let (git_dir, index) = (common_dir, self.scratch.path().join(".git/index"));
        let work_tree = WorkTree { git_dir, common_dir, top: self.scratch.path(), index: &index };
        let git_dir = GitDir::Written { work_tree: Some(work_tree), durable: false };
        let options: Vec<&str> = SETTINGS.iter().flat_map(|setting| ["-c", setting]).collect();
        let args = [&options, ["merge-tree", "--write-tree", "-z", ours, theirs].as_slice()].concat();
        let captured = write::answer(Call::new(client, self.scratch.path(), git_dir, &args))?;
        let said = String::from_utf8_lossy(&captured.stderr);
        let found = match captured.code {
            Some(0) if !captured.cut => clean(&captured.stdout),
            // Also the exit of some errors, but these give no tree.
            Some(1) if !captured.cut && !captured.stdout.is_empty() => {
                conflicts(&captured.stdout, [ours, theirs])
            }
            _ if said.contains("refusing to merge unrelated histories") => {
                Some(Merge::Conflicts(vec![Conflict { paths: Vec::new(), kind: ConflictKind::Other }]))
            }
            _ => return Err(write::refusal("merge-tree", top, &captured)),
        };
        found.ok_or_else(|| unknown("merge-tree"))
    }
}

fn unknown(verb: &str) -> Reason {
    Reason::new(Code::GitFailed, format!("the output of `git {verb}` has an unknown format"))
}

const ATTRIBUTES: &[u8] = b".gitattributes";

/// The files of attributes of a commit.
fn attributes(repo: &Repo<'_>, commit: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, Reason> {
    let listed = repo.read(&["ls-tree", "-r", "-z", "--full-tree", commit]).output()?;
    let (mut paths, mut ids) = (Vec::new(), Vec::new());
    for entry in listed.split(|byte| *byte == 0).filter(|entry| entry.ends_with(ATTRIBUTES)) {
        let (about, path) = split_at(entry, b'\t').ok_or_else(|| unknown("ls-tree"))?;
        // git does not follow a link of this name. A tree that was made by hand may lead out of the directory.
        let is_file = about.starts_with(b"100") && (path == ATTRIBUTES || path.ends_with(b"/.gitattributes"));
        let path = path_of(path);
        if is_file && path.components().all(|part| matches!(part, Component::Normal(_))) {
            paths.push(path);
            ids.extend_from_slice(about.rsplit(|byte| *byte == b' ').next().unwrap_or_default());
            ids.push(b'\n');
        }
    }
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let told = repo.read(&["cat-file", "--batch"]).input(ids).output()?;
    let mut rest = told.as_slice();
    let mut next = || {
        let (about, after) = split_at(rest, b'\n')?;
        let size = std::str::from_utf8(about).ok()?.rsplit(' ').next()?.parse().ok()?;
        let (bytes, after) = after.split_at_checked(size)?;
        rest = after.strip_prefix(b"\n")?;
        Some(bytes.to_vec())
    };
    let read = paths.into_iter().map(|path| Some((path, next()?)));
    read.collect::<Option<_>>().ok_or_else(|| unknown("cat-file"))
}

fn split_at(bytes: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = bytes.split_at_checked(memchr::memchr(mark, bytes)?)?;
    Some((before, after.get(1..)?))
}

/// The answer of a clean merge: a tree alone.
fn clean(listed: &[u8]) -> Option<Merge> {
    tree(listed.strip_suffix(b"\0")?).map(Merge::Clean)
}

fn tree(name: &[u8]) -> Option<String> {
    let is_name = matches!(name.len(), 40 | 64) && name.iter().all(u8::is_ascii_hexdigit);
    is_name.then(|| String::from_utf8_lossy(name).into_owned())
}

/// The answer of a merge with conflicts: a tree, the entries of an index, an empty field, and messages.
fn conflicts(listed: &[u8], sides: [&str; 2]) -> Option<Merge> {
    let mut fields = listed.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    tree(fields.next()?)?;
    let mut unmerged = Vec::new();
    loop {
        match fields.next()? {
            b"" => break,
            entry => unmerged.push(plain(split_at(entry, b'\t')?.1, sides)),
        }
    }
    let mut found = Vec::new();
    while let Some(count) = fields.next() {
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        let paths = (0..count).map(|_| Some(plain(fields.next()?, sides))).collect::<Option<Vec<_>>>()?;
        let (kind, _) = (std::str::from_utf8(fields.next()?).ok()?, fields.next()?);
        if kind.starts_with("CONFLICT") || kind.starts_with("ERROR") {
            found.push(Conflict { paths, kind: ConflictKind::of(kind) });
        }
    }
    for path in unmerged {
        if !found.iter().any(|conflict| conflict.paths.contains(&path)) {
            found.push(Conflict { paths: vec![path], kind: ConflictKind::Other });
        }
    }
    (!found.is_empty()).then(|| Merge::Conflicts(one_a_path(found)))
}

/// A path as the commits have it: git puts the commit behind the name of a file that gives way to a directory.
fn plain(path: &[u8], sides: [&str; 2]) -> PathBuf {
    let cut = |side: &str| path.strip_suffix(side.as_bytes())?.strip_suffix(b"~");
    path_of(sides.into_iter().find_map(cut).unwrap_or(path))
}

/// git says of a submodule that its content is in conflict too, of a file that gives way that it is missing: the last kind counts.
fn one_a_path(mut found: Vec<Conflict>) -> Vec<Conflict> {
    found.sort_by(|one, other| {
        (one.paths.first(), one.kind, &one.paths).cmp(&(other.paths.first(), other.kind, &other.paths))
    });
    found.dedup_by(|later, kept| {
        let is_same = later.paths.first() == kept.paths.first();
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    found
}

/// Conflicts for a message: kinds and paths, the first few of them.
#[must_use]
pub(crate) fn named(conflicts: &[Conflict]) -> String {
    const AT_MOST: usize = 5;
    let one = |conflict: &Conflict| match conflict.paths.first() {
        Some(path) => format!("{} ({})", path.display(), conflict.kind.as_str()),
        None => "their histories have nothing in common".to_owned(),
    };
    let first: Vec<String> = conflicts.iter().take(AT_MOST).map(one).collect();
    match conflicts.len().saturating_sub(AT_MOST) {
        0 => first.join(", "),
        more => format!("{}, and {more} more", first.join(", ")),
    }
}
