//! The work tree of a repository as it stands: tracked, uncommitted and untracked files as one tree of git.
//!
//! Responsible for computing that tree without changing the repository: a copy of the index, objects and settings of our
//! own. The look after starts from the index of the look before, never from the repository's, so nothing that was done to
//! the index or the settings in between hides a change. Hard rule: what could not be read is kept by its stamp, not left out.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::deadline::Deadline;
use super::feed::Feed;
use super::git::{Git, Place};
use super::guard::Guarded;
use super::index::{self, Entries, Form, LINK, REPOSITORY};
use super::links::Links;
use super::repository::Repository;
use super::stamp::{Moment, Stamp};
use super::status::status;
use crate::causes::causes;
use crate::fs::{self, FsError, Scratch};
use crate::job::Reason;

/// The names of more ignored files than this are not kept.
const MAX_IGNORED: usize = 10_000;

/// A work tree at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The repository as it stood.
    pub repository: Repository,
    /// The tree of everything that is not ignored.
    pub tree: String,
    /// Every path of that tree.
    pub entries: Entries,
    /// What could not be read, by what can be told of it.
    pub unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// Files whose content is not among our objects.
    pub not_kept: Vec<Vec<u8>>,
    /// The repositories in it.
    pub nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Single ignored files.
    pub ignored: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// What git does not watch.
    pub guarded: Guarded,
    /// Links that lead out.
    pub links: Links,
    /// When the look began.
    pub begun: Moment,
    /// Whether the repository of before is still there; only of a look after.
    pub is_replaced: bool,
    /// Whether there were more ignored files or repositories than were looked at.
    pub bounded: bool,
    /// Our git directory.
    pub place: Ours,
    index: Vec<u8>,
}

/// A git directory of our own for one work tree.
#[derive(Debug, Clone)]
pub struct Ours {
    scratch: Arc<Scratch>,
    name: String,
    /// The git directory.
    pub git_dir: PathBuf,
    /// The top of the work tree.
    pub top: PathBuf,
    /// The top of the outermost work tree.
    outermost: PathBuf,
    /// How many repositories it is within.
    pub depth: usize,
    /// When the look ends that it was made for.
    pub deadline: Deadline,
}

/// An error of the file system, as a reason.
#[must_use]
pub fn wrong(error: &FsError) -> Reason {
    Reason::new("evidence_failed", causes(error))
}

impl Ours {
    /// A call of git on the work tree with an index of ours.
    #[must_use]
    pub fn git<'a>(&'a self, index: &Path, args: &[&str]) -> Git<'a> {
        let place = Place::Ours { git_dir: &self.git_dir, work_tree: &self.top, index };
        Git::new(&self.top, place, args, self.deadline)
    }

    /// The place of a repository within this one, not made yet.
    #[must_use]
    pub fn within(&self, name: &str) -> Self {
        let name = format!("{}.{name}", self.name);
        Self { name, depth: self.depth + 1, git_dir: PathBuf::new(), top: PathBuf::new(), ..self.clone() }
    }

    /// The full path of a path of the tree.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> PathBuf {
        self.top.join(OsStr::from_bytes(path))
    }

    /// The same git directory with another work tree.
    #[must_use]
    pub fn with_top(&self, top: PathBuf) -> Self {
        Self { top, ..self.clone() }
    }

    /// The scratch directory.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The name of this git directory in the scratch directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Snapshot {
    /// Looks at the work tree that `dir` is in. The repository is not changed; what is needed for it is kept in `scratch`.
    ///
    /// # Errors
    /// A reason, as `not_a_repository`.
    pub fn take(dir: &Path, scratch: &Arc<Scratch>) -> Result<Self, Reason> {
        let deadline = Deadline::of_a_look();
        Self::of(Repository::find(dir, deadline)?, scratch, deadline)
    }

    /// Looks at the work tree of a repository.
    ///
    /// # Errors
    /// A reason.
    pub fn of(repository: Repository, scratch: &Arc<Scratch>, deadline: Deadline) -> Result<Self, Reason> {
        let place = Ours {
            scratch: Arc::clone(scratch),
            name: "git".to_owned(),
            git_dir: PathBuf::new(),
            top: PathBuf::new(),
            outermost: repository.top.clone(),
            depth: 0,
            deadline,
        };
        Self::first(repository, place)
    }

    /// The first look at a repository, with a place that is not made yet.
    pub(super) fn first(repository: Repository, place: Ours) -> Result<Self, Reason> {
        let git_dir = repository.freeze(&place.scratch, &place.name, place.deadline)?;
        let place = Ours { git_dir, top: repository.top.clone(), ..place };
        let path = repository.git_dir.join("index");
        let found = read_index(&path)?;
        let (mut index, written) = found.unwrap_or_else(|| (index::empty(repository.hash_bytes), (0, 0)));
        if index::form(&index, repository.hash_bytes) == Form::Folded {
            index = unfold(&place, &repository, &index)?;
        }
        look(place, repository, index, written.0, None)
    }

    /// Every file of the tree, relative to its top; repositories within are left out.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.entries.iter().filter(|(_, entry)| entry.mode != REPOSITORY);
        files.map(|(path, _)| path_of(path)).collect()
    }

    /// Looks at the same work tree again.
    ///
    /// # Errors
    /// A reason.
    pub fn again(&self) -> Result<Self, Reason> {
        self.again_until(Deadline::of_a_look())
    }

    /// The same within a time.
    ///
    /// # Errors
    /// A reason, also where the time is over.
    pub fn again_until(&self, deadline: Deadline) -> Result<Self, Reason> {
        let found = Repository::find(&self.place.top, deadline);
        let same =
            |found: &Repository| found.top == self.place.top && found.identity == self.repository.identity;
        let (repository, is_replaced) = match found {
            Ok(found) if same(&found) => (found, false),
            // Of a look without an answer nothing is known of the repository.
            Err(reason) if reason.code == "git_missing" || deadline.is_over() => return Err(reason),
            _ => (Repository { head: None, head_tree: None, branch: None, ..self.repository.clone() }, true),
        };
        let place = Ours { deadline, ..self.place.clone() };
        let mut after = look(place, repository, self.index.clone(), self.begun.0, Some(self))?;
        after.is_replaced = is_replaced;
        Ok(after)
    }
}

/// The bytes of an index and when it was written; `None` if there is none yet.
fn read_index(path: &Path) -> Result<Option<(Vec<u8>, Moment)>, Reason> {
    let file = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let unreadable = |source| wrong(&FsError { action: "looking at", path: path.to_path_buf(), source });
    let written = Stamp::from(&file.metadata().map_err(unreadable)?).modified();
    let bytes = fs::read_limited(&file, path, 2 << 30).map_err(|error| wrong(&error))?;
    let too_large = || Reason::new("evidence_failed", format!("`{}` is larger than 2 GB", path.display()));
    Ok(Some((bytes.ok_or_else(too_large)?, written)))
}

/// An index that git has just written.
fn written_index(path: &Path) -> Result<Vec<u8>, Reason> {
    let gone = || Reason::new("evidence_failed", format!("`{}` is gone", path.display()));
    Ok(read_index(path)?.ok_or_else(gone)?.0)
}

/// Makes one whole index of one that is spread over files, or in which a directory stands for what is below.
fn unfold(place: &Ours, repository: &Repository, index: &[u8]) -> Result<Vec<u8>, Reason> {
    for name in fs::names(&repository.git_dir).map_err(|error| wrong(&error))? {
        if name.starts_with("sharedindex.") {
            let bytes = written_index(&repository.git_dir.join(&name))?;
            place.scratch.write(&format!("{}/{name}", place.name), &bytes).map_err(|error| wrong(&error))?;
        }
    }
    let path = place.scratch.write(&format!("{}/index", place.name), index).map_err(|error| wrong(&error))?;
    place.git(&path, &["update-index", "--no-split-index", "--force-write-index"]).output()?;
    written_index(&path)
}

/// Looks at a work tree from an index in which what was changed in or after the second `trusted_before` is looked at anew.
fn look(
    place: Ours,
    repository: Repository,
    mut index: Vec<u8>,
    trusted_before: i64,
    before: Option<&Snapshot>,
) -> Result<Snapshot, Reason> {
    let hash = repository.hash_bytes;
    index::distrust(&mut index, hash, trusted_before, |path| Stamp::of(&place.file(path)).is_some())?;
    let side = if before.is_some() { "after" } else { "before" };
    let name = format!("{}/index.{side}", place.name);
    let path = place.scratch.write(&name, &index).map_err(|error| wrong(&error))?;
    let begun = Stamp::of(&path).map(|stamp| stamp.changed()).unwrap_or_default();
    let status = status(&place, &path, before.is_some())?;
    let mut feed = Feed::new(&place, before);
    feed.tell(&path, &status.changed)?;
    index = written_index(&path)?;
    let mut entries = index::entries(&index, hash)?;
    let hidden = match before {
        Some(before) => super::hidden::newly_ignored(&place, &path, &before.entries, &entries)?,
        None => Vec::new(),
    };
    if !hidden.is_empty() {
        feed.tell(&path, &hidden)?;
        index = written_index(&path)?;
        entries = index::entries(&index, hash)?;
    }
    for (path, _) in entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY) {
        feed.inner(path)?;
    }
    let tree = match (before, &repository.head_tree) {
        (None, Some(tree)) if !feed.any && !status.staged => tree.clone(),
        (Some(before), _) if !feed.any => before.tree.clone(),
        _ => write_tree(&place, &path)?,
    };
    let bounded = feed.bounded || status.ignored.len() > MAX_IGNORED;
    let stamped = |path: Vec<u8>| {
        let stamp = Stamp::of(&place.file(&path));
        (path, stamp)
    };
    let ignored: BTreeMap<_, _> = status.ignored.into_iter().take(MAX_IGNORED).map(stamped).collect();
    let is_link = |entry: &(&Vec<u8>, &Option<Stamp>)| entry.1.is_some_and(|stamp| stamp.is_link());
    let tracked = entries.iter().filter(|(_, entry)| entry.mode == LINK).map(|(path, _)| path);
    let links = tracked.chain(ignored.iter().filter(is_link).map(|(path, _)| path));
    let Feed { unread, not_kept, nested, .. } = feed;
    Ok(Snapshot {
        guarded: Guarded::look(&repository, &entries),
        links: Links::look(&place.top, &place.outermost, links),
        is_replaced: false,
        unread,
        not_kept,
        ignored,
        repository,
        tree,
        entries,
        nested,
        begun,
        bounded,
        place,
        index,
    })
}

fn write_tree(place: &Ours, index: &Path) -> Result<String, Reason> {
    let printed = place.git(index, &["write-tree", "--missing-ok"]).output()?;
    Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
}

/// A path of git as a path of the system.
#[must_use]
pub fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from(OsStr::from_bytes(path)))
}
