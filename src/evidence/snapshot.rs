//! A work tree at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use super::guard::Guarded;
use super::hidden::Rules;
use super::index::{Entries, REPOSITORY};
use super::kept::Kept;
use super::links::Links;
use super::paths::path_of;
use super::place::{Look, Ours, Spot};
use super::repository::{Files, Repository};
use super::stamp::{Moment, Stamp};
use crate::job::Reason;

/// A work tree at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The repository as it stood.
    pub repository: Repository,
    /// The tree of everything that is not ignored.
    pub tree: String,
    /// Every path of that tree.
    pub entries: Rc<Entries>,
    /// What could not be read, by what can be told of it.
    pub unread: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// Files whose content the repository does not have.
    pub kept: Kept,
    /// The repositories in it.
    pub nested: BTreeMap<Vec<u8>, Snapshot>,
    /// Single ignored files.
    pub ignored: BTreeMap<Vec<u8>, Option<Stamp>>,
    /// The ignore rules in the work tree.
    pub rules: Rules,
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
    pub(super) spot: Spot,
    pub(super) files: Files,
    pub(super) index: Vec<u8>,
}

impl Snapshot {
    /// Every file of the tree, relative to its top; repositories within are left out.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.entries.iter().filter(|(_, entry)| entry.mode != REPOSITORY);
        files.map(|(path, _)| path_of(path)).collect()
    }

    /// Where a look has its git directory of ours.
    #[must_use]
    pub fn place(&self, look: &Rc<Look>) -> Ours {
        Ours::of(look, self.spot.clone(), &self.repository.top)
    }

    /// Paths that were not as a tree of the repository has them.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn uncommitted_at(&self, tree: &str, look: &Rc<Look>) -> Result<BTreeSet<Vec<u8>>, Reason> {
        let place = self.place(look);
        place.look().has_room(2 * self.index.len())?;
        let index = place.write("index.before", &self.index)?;
        let args = ["diff-index", "--cached", "-z", "--no-renames", "--name-only", tree, "--"];
        let printed = place.git(&index, &args).output()?;
        Ok(printed.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
    }
}
