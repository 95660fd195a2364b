//! What an index of ours is told of the work tree: files, and repositories within it.
//!
//! Responsible for choosing how each is told: a file by its hash, a repository by its commit and a look of its own. Hard
//! rule: what cannot be read is kept by its stamp, so that its next change is seen.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::Access;

use super::kept::Kept;
use super::place::{Look, Ours, Spot};
use super::repository::Repository;
use super::snapshot::Snapshot;
use super::stamp::Stamp;
use crate::fs;
use crate::job::{Code, Reason};

/// Repositories within repositories are looked at down to this depth.
const MAX_DEPTH: usize = 4;

/// Of more repositories within one the rest is looked at by their HEAD alone.
const MAX_NESTED: usize = 64;

/// Looks at a repository for the first time: those within are looked at as the outer one is.
pub type FirstLook = fn(Repository, &Rc<Look>, Spot) -> Result<Snapshot, Reason>;

/// What an index of ours is told of the work tree.
#[derive(Debug)]
pub struct Feed<'a> {
    place: &'a Ours,
    before: Option<&'a Snapshot>,
    first: FirstLook,
    list: Vec<u8>,
    /// What it was told before the job.
    pub kept: Kept,
    /// What could not be read.
    pub unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// The repositories that were looked at.
    pub nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Whether there was a repository too many, or one that git does not read.
    pub bounded: bool,
    /// How many paths it was told.
    pub told: usize,
}

impl<'a> Feed<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(place: &'a Ours, before: Option<&'a Snapshot>, first: FirstLook) -> Self {
        Self {
            place,
            before,
            first,
            list: Vec::new(),
            kept: Kept::default(),
            unread: BTreeMap::new(),
            nested: BTreeMap::new(),
            bounded: false,
            told: 0,
        }
    }

    /// Tells an index of paths that differ from it; that of a repository ends in `/`.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn tell(&mut self, index: &Path, changed: &[Vec<u8>]) -> Result<(), Reason> {
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
        let stamped = unread.into_iter().map(|path| (path.to_vec(), Stamp::of(&self.place.file(path))));
        let stamped: Vec<_> = stamped.collect();
        self.unread.extend(stamped);
        Ok(())
    }

    /// True also of what is gone, and of what has no content.
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
        self.told += 1;
    }

    /// A repository that the index does not know: its commit if it has one, and in any case its files.
    fn repository(&mut self, path: &[u8]) -> Result<(), Reason> {
        self.inner(path)?;
        match self.nested.get(path) {
            Some(inner) if inner.repository.head.is_some() => {
                self.add(path);
            }
            Some(_) => {}
            None => drop(self.unread.insert(path.to_vec(), Stamp::of(&self.place.file(path)))),
        }
        Ok(())
    }

    /// Looks at the repository that stands at a path of the work tree, if one does.
    ///
    /// # Errors
    /// A reason where git is missing, the system lacks something or the time is over; a repository that git does not read is a bound that was hit.
    pub fn inner(&mut self, path: &[u8]) -> Result<(), Reason> {
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
            // Something that is called `.git` and is no repository: git sees plain files there.
            return Err(Reason::new(Code::NotARepository, format!("`{}` is no repository", dir.display())));
        }
        let spot = self.place.within(&format!("{side}{}", self.nested.len()));
        (self.first)(repository, self.place.look(), spot)
    }
}
