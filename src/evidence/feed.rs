//! What an index of ours is told of the work tree: files, and repositories within it.
//!
//! Responsible for choosing how each is told: a large file without keeping its content, a repository by its commit and a
//! look of its own. Hard rule: what can not be read is kept by its stamp, so that its next change is seen.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::repository::Repository;
use super::stamp::Stamp;
use super::tree::{Ours, Snapshot};
use crate::fs;
use crate::job::Reason;

/// The content of a larger file is hashed, but not kept for the patch.
const MAX_KEPT_BYTES: u64 = 32 << 20;

/// Repositories within repositories are looked at down to this depth.
const MAX_DEPTH: usize = 4;

/// Of more repositories within one the rest is looked at by their HEAD alone.
const MAX_NESTED: usize = 64;

/// What an index of ours is told of the work tree.
#[derive(Debug)]
pub struct Feed<'a> {
    place: &'a Ours,
    before: Option<&'a Snapshot>,
    kept: Vec<u8>,
    large: Vec<u8>,
    /// Files whose content is not among our objects.
    pub not_kept: Vec<Vec<u8>>,
    /// What could not be read.
    pub unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// The repositories that were looked at.
    pub nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Whether there was a repository too many, or one that git does not read.
    pub bounded: bool,
    /// Whether the index was told anything.
    pub any: bool,
}

impl<'a> Feed<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(place: &'a Ours, before: Option<&'a Snapshot>) -> Self {
        Self {
            place,
            before,
            kept: Vec::new(),
            large: Vec::new(),
            not_kept: Vec::new(),
            unread: BTreeMap::new(),
            nested: BTreeMap::new(),
            bounded: false,
            any: false,
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
                None => self.file(path),
            }
        }
        let args = ["update-index", "--add", "--remove", "--replace"];
        let lists = [(std::mem::take(&mut self.large), true), (std::mem::take(&mut self.kept), false)];
        for (list, is_large) in lists.into_iter().filter(|(list, _)| !list.is_empty()) {
            let mut git = self.place.git(index, &args);
            if is_large {
                git = git.arg("--info-only");
            }
            git.arg("-z").arg("--stdin").input(list).output()?;
            self.any = true;
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8]) {
        let full = self.place.file(path);
        let metadata = std::fs::symlink_metadata(&full);
        let is_large = matches!(&metadata, Ok(file) if file.is_file() && file.len() > MAX_KEPT_BYTES);
        let is_readable = match &metadata {
            Ok(file) if file.is_file() => rustix::fs::access(&full, rustix::fs::Access::READ_OK).is_ok(),
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
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
    fn repository(&mut self, path: &[u8]) -> Result<(), Reason> {
        self.inner(path)?;
        match self.nested.get(path) {
            Some(inner) if inner.repository.head.is_some() => {
                self.kept.extend_from_slice(path);
                self.kept.push(0);
            }
            Some(_) => {}
            None => drop(self.unread.insert(path.to_vec(), Stamp::of(&self.place.file(path)))),
        }
        Ok(())
    }

    /// Looks at the repository that stands at a path of the work tree, if one does.
    ///
    /// # Errors
    /// A reason where git is missing or the time is over; a repository that git does not read is a bound that was hit.
    pub fn inner(&mut self, path: &[u8]) -> Result<(), Reason> {
        let dir = self.place.file(path);
        if self.nested.contains_key(path) || !fs::exists(&dir.join(".git")).unwrap_or(false) {
            return Ok(());
        }
        if self.place.depth >= MAX_DEPTH || self.nested.len() >= MAX_NESTED {
            self.bounded = true;
            return Ok(());
        }
        let looked = match self.before.and_then(|before| before.nested.get(path)) {
            Some(known) => known.again_until(self.place.deadline),
            None => self.first(&dir),
        };
        match looked {
            Ok(inner) => drop(self.nested.insert(path.to_vec(), inner)),
            Err(reason) if reason.code == "git_missing" || self.place.deadline.is_over() => {
                return Err(reason);
            }
            Err(_) => self.bounded = true,
        }
        Ok(())
    }

    fn first(&self, dir: &Path) -> Result<Snapshot, Reason> {
        let side = if self.before.is_some() { 'b' } else { 'a' };
        let repository = Repository::find(dir, self.place.deadline)?;
        if repository.top != dir {
            // Something that is called `.git` and is no repository: git sees plain files there.
            return Err(Reason::new("not_a_repository", format!("`{}` is no repository", dir.display())));
        }
        Snapshot::first(repository, self.place.within(&format!("{side}{}", self.nested.len())))
    }
}
