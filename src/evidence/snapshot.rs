//! One look at the worktree of a repository: tracked, uncommitted and untracked files as one tree of git.
//!
//! Responsible for computing that tree without changing the repository: a copy of the index and settings of our own, in a
//! directory that is made for one look and removed with it. Between two looks everything that decides is in memory: the
//! settings, the rules and the index of before, so nothing that was done meanwhile to the repository or to our directory
//! hides a change. Content is hashed, never copied. Hard rule: an unreadable file is kept by its stamp, not left out, so
//! that its next change is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::Access;

use super::content::Kept;
use super::guard::Guarded;
use super::links::Links;
use super::look::{Look, PrivateGitDir, Spot};
use super::rules::{self, Rules};
use crate::fs::{self, Moment, Stamp};
use crate::git::index::{self, Entries, Form, LINK, REPOSITORY, path_of};
use crate::git::{Files, Repository, Status, objects};
use crate::job::{Code, Reason};

/// The names of more ignored files are not kept.
const MAX_IGNORED: usize = 10_000;

/// What git writes for an entry of the index beside its path, in the index and in a tree.
const ENTRY_BYTES: usize = 150;

/// Of more files that the repository does not have the whole is also made a commit of ours: to list each as new takes longer
/// than to look at them.
const MANY: usize = 500;

/// Repositories within repositories are looked at down to this depth.
const MAX_DEPTH: usize = 4;

/// Of more repositories within one the rest is looked at by their HEAD alone.
const MAX_NESTED: usize = 64;

/// A worktree at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The repository at that moment.
    pub repository: Repository,
    /// The tree of everything that is not ignored.
    pub tree: String,
    /// Every path of that tree.
    pub entries: Rc<Entries>,
    /// The paths that could not be read, with their stamps.
    pub unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// Files whose content the repository does not have.
    pub kept: Kept,
    /// The repositories in it.
    pub nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Single ignored files.
    pub ignored: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// The ignore rules in the worktree.
    pub rules: Rules,
    /// The files that git does not watch.
    pub guarded: Guarded,
    /// Links that lead out.
    pub links: Links,
    /// When the look began.
    pub begun: Moment,
    /// Whether the repository of before is still there; only of a look after.
    pub is_replaced: bool,
    /// Whether there were more ignored files or repositories than were looked at.
    pub bounded: bool,
    pub(super) spot: Spot,
    pub(super) files: Files,
    pub(super) index: Vec<u8>,
}

impl Snapshot {
    /// Looks at the worktree of a repository.
    ///
    /// # Errors
    /// A reason where git fails or the time is over.
    pub fn take(repository: Repository, look: &Rc<Look>) -> Result<Self, Reason> {
        let spot = Spot::outermost(&repository.top);
        Self::first(repository, look, spot)
    }

    /// The first look at a repository.
    pub(super) fn first(repository: Repository, look: &Rc<Look>, spot: Spot) -> Result<Self, Reason> {
        let files = repository.freeze(&look.client)?;
        let place = PrivateGitDir::lay_out(look, spot, &repository.top, &files)?;
        let path = repository.git_dir.join("index");
        let found = index::read(&path)?;
        let (mut index, written) = found.unwrap_or_else(|| (index::empty(repository.hash_bytes), (0, 0)));
        if let Form::Folded(shared) = index::form(&index, repository.hash_bytes) {
            index = place.unfold(&repository.git_dir, &index, shared.as_deref())?;
        }
        look_at(&place, repository, (index, files), written.0, None)
    }

    /// Looks at the same worktree again.
    ///
    /// # Errors
    /// A reason where git fails or the time is over.
    pub fn again(&self, look: &Rc<Look>) -> Result<Self, Reason> {
        let found = Repository::find(&self.repository.top, &look.client);
        let known = &self.repository;
        let same = |found: &Repository| {
            found.top == known.top && found.identity == known.identity && found.common_dir == known.common_dir
        };
        let (repository, is_replaced) = match found {
            Ok(found) if same(&found) => (found, false),
            // Of a look without an answer nothing is known of the repository.
            Err(reason) if reason.code == Code::GitMissing || look.client.is_over() => return Err(reason),
            _ => (Repository { head: None, head_tree: None, branch: None, ..self.repository.clone() }, true),
        };
        let place = PrivateGitDir::lay_out(look, self.spot.clone(), &self.repository.top, &self.files)?;
        let index = (self.index.clone(), Files::new());
        let mut after = look_at(&place, repository, index, self.begun.0, Some(self))?;
        after.is_replaced = is_replaced;
        Ok(after)
    }

    /// Every file of the tree, relative to its top; repositories within are left out.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.entries.iter().filter(|(_, entry)| entry.mode != REPOSITORY);
        files.map(|(path, _)| path_of(path)).collect()
    }

    /// The private git directory that a look has for it.
    #[must_use]
    pub fn place(&self, look: &Rc<Look>) -> PrivateGitDir {
        PrivateGitDir::new(look, self.spot.clone(), &self.repository.top)
    }

    /// Paths that were not as a tree of the repository has them.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn uncommitted_at(&self, tree: &str, look: &Rc<Look>) -> Result<BTreeSet<Vec<u8>>, Reason> {
        let place = self.place(look);
        look.has_room(2 * self.index.len())?;
        let index = place.write("index.before", &self.index)?;
        place.differing(&index, tree)
    }
}

/// Asks git which paths differ from an index of ours, and which are ignored.
fn status(place: &PrivateGitDir, index: &Path, is_after: bool) -> Result<Status, Reason> {
    let ask = || place.git(index, &Status::ARGUMENTS).answer();
    let mut captured = ask()?;
    if captured.code != Some(0) && is_after {
        // The commit of before may be gone, with everything that was in the repository. The index needs none.
        place.write("HEAD", b"ref: refs/heads/none\n")?;
        captured = ask()?;
    }
    Status::read(&captured)
}

/// Adds what differs from an index of so many bytes to it.
fn add_changed<'a>(
    place: &'a PrivateGitDir,
    path: &Path,
    bytes: usize,
    status: &Status,
    before: Option<&'a Snapshot>,
) -> Result<IndexUpdate<'a>, Reason> {
    let names: usize = status.changed.iter().map(|path| path.len() + ENTRY_BYTES).sum();
    place.look().has_room(2 * (bytes + names))?;
    let mut update = IndexUpdate::new(place, before);
    update.add_all(path, &status.changed)?;
    update.unread.extend(place.stamps(&status.unlisted));
    Ok(update)
}

/// Looks at a worktree from an index; git looks anew at each file that changed in or after the second `trusted_before`.
fn look_at(
    place: &PrivateGitDir,
    repository: Repository,
    (mut index, mut files): (Vec<u8>, Files),
    trusted_before: i64,
    before: Option<&Snapshot>,
) -> Result<Snapshot, Reason> {
    let hash = repository.hash_bytes;
    index::distrust(&mut index, hash, trusted_before, |path| Stamp::read(&place.file(path)).is_some())?;
    place.look().has_room(3 * index.len())?;
    let path = place.write("index.now", &index)?;
    let begun = Stamp::read(&path).map(|stamp| stamp.changed()).unwrap_or_default();
    let status = status(place, &path, before.is_some())?;
    let mut update = add_changed(place, &path, index.len(), &status, before)?;
    // A second look that finds nothing has the entries of the first.
    let mut entries = match before.filter(|_| update.added == 0) {
        Some(before) => Rc::clone(&before.entries),
        None => {
            index = index::read_written(&path)?;
            Rc::new(index::entries(&index, hash)?)
        }
    };
    let rules = Rules::look(&place.top, &entries, &status.ignored);
    let hidden = match before {
        Some(before) => rules::newly_ignored(place, &path, (&before.rules, &rules), hash)?,
        None => Vec::new(),
    };
    if !hidden.is_empty() {
        update.add_all(&path, &hidden)?;
        index = index::read_written(&path)?;
        entries = Rc::new(index::entries(&index, hash)?);
    }
    if let Some(before) = before {
        let known = (&*entries, before.begun);
        let behind = rules::behind_attributes(place, (&before.rules, &rules), known, hash);
        if !behind.is_empty() {
            Rc::make_mut(&mut entries).extend(behind);
        }
    }
    for (path, _) in entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY) {
        update.inner(path)?;
    }
    let tree = match (before, &repository.head_tree) {
        (None, Some(tree)) if update.added == 0 && !status.staged => tree.clone(),
        (Some(before), _) if Rc::ptr_eq(&before.entries, &entries) => before.tree.clone(),
        _ => {
            let tree = objects::tree(&entries, hash);
            if before.is_none() && update.added > MANY && index::remember(&mut index, hash, &tree.extension) {
                files.extend(objects::commit(&tree, hash));
            }
            index::hexadecimal(&tree.id)
        }
    };
    let bounded = update.bounded || status.ignored.len() > MAX_IGNORED;
    let ignored: BTreeMap<_, _> = place.stamps(&status.ignored).take(MAX_IGNORED).collect();
    let is_link = |entry: &(&Vec<u8>, &Option<Stamp>)| entry.1.is_some_and(|stamp| stamp.is_link());
    let tracked = entries.iter().filter(|(_, entry)| entry.mode == LINK).map(|(path, _)| path);
    let links = tracked.chain(ignored.iter().filter(is_link).map(|(path, _)| path));
    let IndexUpdate { unread, kept, nested, .. } = update;
    let directories = (&*repository.git_dir, &*repository.common_dir, &*repository.top);
    Ok(Snapshot {
        guarded: Guarded::look(directories, &entries),
        links: Links::look(&place.top, &place.spot.outermost, links),
        is_replaced: false,
        unread,
        kept,
        ignored,
        rules,
        repository,
        tree,
        entries,
        nested,
        begun,
        bounded,
        spot: place.spot.clone(),
        files,
        index,
    })
}

/// Brings an index of ours to what the worktree holds.
#[derive(Debug)]
struct IndexUpdate<'a> {
    place: &'a PrivateGitDir,
    before: Option<&'a Snapshot>,
    list: Vec<u8>,
    /// The content of the files that it added before the job.
    kept: Kept,
    /// The files that could not be read.
    unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// The repositories that were looked at.
    nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Whether there was a repository too many, or one that git does not read.
    bounded: bool,
    /// How many paths it added.
    added: usize,
}

impl<'a> IndexUpdate<'a> {
    fn new(place: &'a PrivateGitDir, before: Option<&'a Snapshot>) -> Self {
        Self {
            place,
            before,
            list: Vec::new(),
            kept: Kept::default(),
            unread: BTreeMap::new(),
            nested: BTreeMap::new(),
            bounded: false,
            added: 0,
        }
    }

    /// Adds paths that differ from an index; that of a repository ends in `/`.
    fn add_all(&mut self, index: &Path, changed: &[Vec<u8>]) -> Result<(), Reason> {
        for path in changed {
            match path.strip_suffix(b"/") {
                Some(path) => self.repository(path)?,
                None => {
                    if self.before.is_none() {
                        self.kept.keep(&self.place.top, path);
                    }
                    self.add(path);
                }
            }
        }
        let list = std::mem::take(&mut self.list);
        if list.is_empty() {
            return Ok(());
        }
        // Only the hash: to copy what is untracked could fill the disk.
        let args = ["update-index", "--add", "--remove", "--replace", "--info-only", "-z", "--stdin"];
        let hash = |list: Vec<u8>| self.place.git(index, &args).input(list);
        if hash(list.clone()).answer()?.code == Some(0) {
            return Ok(());
        }
        // One path that cannot be read is enough, and then nothing was written. To ask for each first takes long.
        let is_readable = |path: &&[u8]| self.is_readable(path);
        let paths = list.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        let (read, unread): (Vec<&[u8]>, Vec<&[u8]>) = paths.partition(is_readable);
        let read: Vec<u8> = read.into_iter().flat_map(|path| path.iter().copied().chain([0])).collect();
        if !read.is_empty() {
            hash(read).output()?;
        }
        let stamped = unread.into_iter().map(|path| (path.to_vec(), Stamp::read(&self.place.file(path))));
        let stamped: Vec<_> = stamped.collect();
        self.unread.extend(stamped);
        Ok(())
    }

    /// True also of a path that is gone, and of one without content.
    fn is_readable(&self, path: &[u8]) -> bool {
        let full = self.place.file(path);
        match std::fs::symlink_metadata(&full) {
            Ok(file) if file.is_file() => rustix::fs::access(&full, Access::READ_OK).is_ok(),
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    fn add(&mut self, path: &[u8]) {
        self.list.extend_from_slice(path);
        self.list.push(0);
        self.added += 1;
    }

    /// A repository that the index does not know: its commit if it has one, and in any case its files.
    fn repository(&mut self, path: &[u8]) -> Result<(), Reason> {
        self.inner(path)?;
        match self.nested.get(path) {
            Some(inner) if inner.repository.head.is_some() => {
                self.add(path);
            }
            Some(_) => {}
            None => drop(self.unread.insert(path.to_vec(), Stamp::read(&self.place.file(path)))),
        }
        Ok(())
    }

    /// Looks at the repository at a path of the worktree, if there is one. Git missing, a shortage and the end of the time are
    /// errors; a repository that git does not read is a bound that was hit.
    fn inner(&mut self, path: &[u8]) -> Result<(), Reason> {
        let dir = self.place.file(path);
        if self.nested.contains_key(path) || !fs::exists(&dir.join(".git")).unwrap_or(false) {
            return Ok(());
        }
        if self.place.depth() >= MAX_DEPTH || self.nested.len() >= MAX_NESTED {
            self.bounded = true;
            return Ok(());
        }
        let looked = match self.before.and_then(|before| before.nested.get(path)) {
            Some(known) => known.again(self.place.look()),
            None => self.first(&dir),
        };
        match looked {
            Ok(inner) => drop(self.nested.insert(path.to_vec(), inner)),
            Err(reason)
                if reason.code == Code::GitMissing
                    || reason.shortage.is_some()
                    || self.place.client().is_over() =>
            {
                return Err(reason);
            }
            Err(_) => self.bounded = true,
        }
        Ok(())
    }

    fn first(&self, dir: &Path) -> Result<Snapshot, Reason> {
        let side = if self.before.is_some() { 'b' } else { 'a' };
        let repository = Repository::find(dir, self.place.client())?;
        if repository.top != dir {
            // Something that is called `.git` and is not a repository: git sees plain files there.
            return Err(Reason::new(
                Code::NotARepository,
                format!("`{}` is not a repository", dir.display()),
            ));
        }
        let spot = self.place.within(&format!("{side}{}", self.nested.len()));
        Snapshot::first(repository, self.place.look(), spot)
    }
}
