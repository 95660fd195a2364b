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

use super::git::{Git, Place, failed};
use super::guard::Guarded;
use super::index::{self, Entries, Form, REPOSITORY};
use super::links::Links;
use super::repository::Repository;
use super::stamp::{Moment, Stamp};
use crate::causes::causes;
use crate::fs::{self, FsError, Scratch};
use crate::job::Reason;

/// The content of a larger file is hashed, but not kept for the patch.
const MAX_KEPT_BYTES: u64 = 32 << 20;

/// Repositories within repositories are looked at down to this depth.
const MAX_DEPTH: usize = 4;

/// Of more repositories within one the rest is looked at by their HEAD alone.
const MAX_NESTED: usize = 64;

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
    depth: usize,
}

/// What `git status` says of a work tree.
#[derive(Debug, Default)]
struct Status {
    /// Whether the index is the tree of HEAD.
    staged: bool,
    /// Paths that differ from the index, and untracked ones; a repository in it ends in `/`.
    changed: Vec<Vec<u8>>,
    ignored: Vec<Vec<u8>>,
}

fn wrong(error: &FsError) -> Reason {
    Reason::new("evidence_failed", causes(error))
}

impl Ours {
    /// A call of git on the work tree with an index of ours.
    #[must_use]
    pub fn git<'a>(&'a self, index: &Path, args: &[&str]) -> Git<'a> {
        Git::new(&self.top, Place::Ours { git_dir: &self.git_dir, work_tree: &self.top, index }, args)
    }

    fn file(&self, path: &[u8]) -> PathBuf {
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
        Self::of(Repository::find(dir)?, scratch)
    }

    /// Looks at the work tree of a repository.
    ///
    /// # Errors
    /// A reason.
    pub fn of(repository: Repository, scratch: &Arc<Scratch>) -> Result<Self, Reason> {
        let outermost = repository.top.clone();
        Self::first(repository, scratch, "git".to_owned(), outermost, 0)
    }

    fn first(
        repository: Repository,
        scratch: &Arc<Scratch>,
        name: String,
        outermost: PathBuf,
        depth: usize,
    ) -> Result<Self, Reason> {
        let git_dir = repository.freeze(scratch, &name)?;
        let top = repository.top.clone();
        let place = Ours { scratch: Arc::clone(scratch), name, git_dir, top, outermost, depth };
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
        let found = Repository::find(&self.place.top);
        let same =
            |found: &Repository| found.top == self.place.top && found.identity == self.repository.identity;
        let (repository, is_replaced) = match found {
            Ok(found) if same(&found) => (found, false),
            Err(reason) if reason.code == "git_missing" => return Err(reason),
            _ => (Repository { head: None, head_tree: None, branch: None, ..self.repository.clone() }, true),
        };
        let mut after = look(self.place.clone(), repository, self.index.clone(), self.begun.0, Some(self))?;
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
    let mut feed = Feed::default();
    let mut nested = BTreeMap::new();
    let mut bounded = false;
    for changed in &status.changed {
        match changed.strip_suffix(b"/") {
            Some(inner) => feed.repository(&place, inner, before, &mut nested)?,
            None => feed.file(&place, changed),
        }
    }
    feed.write(&place, &path)?;
    index = written_index(&path)?;
    let mut entries = index::entries(&index, hash)?;
    if let Some(before) = before {
        let hidden = super::hidden::newly_ignored(&place, &path, &before.entries, &entries)?;
        if !hidden.is_empty() {
            feed = Feed { not_kept: feed.not_kept, unread: feed.unread, ..Feed::default() };
            hidden.iter().for_each(|path| feed.file(&place, path));
            feed.write(&place, &path)?;
            feed.any = true;
            index = written_index(&path)?;
            entries = index::entries(&index, hash)?;
        }
    }
    for (path, _) in entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY) {
        bounded |= !inner(&place, path, before, &mut nested)?;
    }
    let tree = match (before, &repository.head_tree) {
        (None, Some(tree)) if !feed.any && !status.staged => tree.clone(),
        (Some(before), _) if !feed.any => before.tree.clone(),
        _ => write_tree(&place, &path)?,
    };
    bounded |= status.ignored.len() > MAX_IGNORED;
    let ignored = status.ignored.into_iter().take(MAX_IGNORED);
    let ignored =
        ignored.map(|path| (Stamp::of(&place.file(&path)), path)).map(|(stamp, path)| (path, stamp));
    Ok(Snapshot {
        guarded: Guarded::look(&repository, &entries),
        links: Links::look(&place.top, &place.outermost, &entries),
        ignored: ignored.collect(),
        unread: feed.unread,
        not_kept: feed.not_kept,
        is_replaced: false,
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

fn status(place: &Ours, index: &Path, is_after: bool) -> Result<Status, Reason> {
    let args = [
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
        "--ignored=matching",
    ];
    let mut captured = place.git(index, &args).long().answer()?;
    if captured.code != Some(0) && is_after {
        // The commit of before may be gone, with everything that was in the repository. The index needs none.
        let head = format!("{}/HEAD", place.name);
        place.scratch.write(&head, b"ref: refs/heads/none\n").map_err(|error| wrong(&error))?;
        captured = place.git(index, &args).long().answer()?;
    }
    if captured.code != Some(0) || captured.cut {
        return Err(failed("status", &captured));
    }
    Ok(parse_status(&captured.stdout))
}

fn parse_status(printed: &[u8]) -> Status {
    let mut status = Status::default();
    for line in printed.split(|byte| *byte == 0) {
        let field =
            |count: usize| line.splitn(count, |byte| *byte == b' ').nth(count - 1).map(<[u8]>::to_vec);
        match line.first() {
            Some(b'1') => {
                status.staged |= line.get(2) != Some(&b'.');
                if line.get(3) != Some(&b'.') {
                    status.changed.extend(field(9));
                }
            }
            Some(b'u') => {
                status.staged = true;
                status.changed.extend(field(11));
            }
            Some(b'?') => status.changed.extend(field(2)),
            Some(b'!') => status.ignored.extend(field(2).filter(|path| !path.ends_with(b"/"))),
            _ => {}
        }
    }
    status
}

/// What an index of ours is told of the work tree.
#[derive(Debug, Default)]
struct Feed {
    kept: Vec<u8>,
    large: Vec<u8>,
    not_kept: Vec<Vec<u8>>,
    unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    any: bool,
}

impl Feed {
    fn file(&mut self, place: &Ours, path: &[u8]) {
        let full = place.file(path);
        let metadata = std::fs::symlink_metadata(&full);
        let is_large = matches!(&metadata, Ok(file) if file.is_file() && file.len() > MAX_KEPT_BYTES);
        let is_readable = match &metadata {
            Ok(file) if file.is_file() => rustix::fs::access(&full, rustix::fs::Access::READ_OK).is_ok(),
            Ok(_) => true,
            Err(error) => {
                matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
            }
        };
        if !is_readable {
            self.unread.insert(path.to_vec(), metadata.ok().map(|metadata| Stamp::from(&metadata)));
            return;
        }
        let list = if is_large { &mut self.large } else { &mut self.kept };
        list.extend_from_slice(path);
        list.push(0);
        if is_large {
            self.not_kept.push(path.to_vec());
        }
    }

    /// A repository that the index does not know: its commit if it has one, and in any case its files.
    fn repository(
        &mut self,
        place: &Ours,
        path: &[u8],
        before: Option<&Snapshot>,
        nested: &mut BTreeMap<Vec<u8>, Snapshot>,
    ) -> Result<(), Reason> {
        let is_known = inner(place, path, before, nested)?;
        let has_commit = nested.get(path).is_some_and(|inner| inner.repository.head.is_some());
        if has_commit {
            self.kept.extend_from_slice(path);
            self.kept.push(0);
        } else if !is_known || !nested.contains_key(path) {
            self.unread.insert(path.to_vec(), Stamp::of(&place.file(path)));
        }
        Ok(())
    }

    fn write(&mut self, place: &Ours, index: &Path) -> Result<(), Reason> {
        let args = ["update-index", "--add", "--remove", "--replace"];
        let lists = [(std::mem::take(&mut self.large), true), (std::mem::take(&mut self.kept), false)];
        for (list, is_large) in lists.into_iter().filter(|(list, _)| !list.is_empty()) {
            let mut git = place.git(index, &args);
            if is_large {
                git = git.arg("--info-only");
            }
            git.arg("-z").arg("--stdin").input(list).long().output()?;
            self.any = true;
        }
        Ok(())
    }
}

/// Looks at a repository within the work tree; false if that would be one too many.
fn inner(
    place: &Ours,
    path: &[u8],
    before: Option<&Snapshot>,
    nested: &mut BTreeMap<Vec<u8>, Snapshot>,
) -> Result<bool, Reason> {
    let dir = place.file(path);
    let own = dir.join(".git");
    if nested.contains_key(path) || !fs::exists(&own).unwrap_or(false) {
        return Ok(true);
    }
    if place.depth >= MAX_DEPTH || nested.len() >= MAX_NESTED {
        return Ok(false);
    }
    if let Some(known) = before.and_then(|before| before.nested.get(path)) {
        nested.insert(path.to_vec(), known.again()?);
        return Ok(true);
    }
    let side = if before.is_some() { 'b' } else { 'a' };
    let name = format!("{}.{side}{}", place.name, nested.len());
    let repository = match Repository::find(&dir) {
        Ok(found) if found.top == dir => found,
        // Something that is called `.git` and is no repository: git sees plain files there.
        Ok(_) => return Ok(true),
        Err(reason) if reason.code == "git_missing" => return Err(reason),
        Err(_) => return Ok(true),
    };
    let outermost = place.outermost.clone();
    let first = Snapshot::first(repository, &place.scratch, name, outermost, place.depth + 1)?;
    nested.insert(path.to_vec(), first);
    Ok(true)
}

/// A path of git as a path of the system.
#[must_use]
pub fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_every_name_that_a_file_can_have() {
        let status = parse_status(
            b"1 .M N... 100644 100644 100644 aa bb a b\nc\x001 M. N... 100644 100644 100644 aa bb staged\0\
              u UU N... 1 2 3 4 a b c in conflict\0? new\xff\0? repo/\0! ig nored\0! dir/\0",
        );
        assert!(status.staged);
        let want: [&[u8]; 4] = [b"a b\nc", b"in conflict", b"new\xff", b"repo/"];
        assert_eq!(status.changed, want);
        assert_eq!(status.ignored, [b"ig nored"]);
        assert!(!parse_status(b"1 .M N... 1 2 3 a b x\0").staged);
    }
}
