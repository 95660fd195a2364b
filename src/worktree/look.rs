//! Two looks at what a tree of git does not show: files of the git directories that can run programs, links that lead out, and
//! references.
//!
//! For steps of adapters that are no agents, whose evidence holds the first two; references are looked at for every step. A look
//! is in memory: of a step whose conductor died meanwhile nothing is compared.

use std::collections::BTreeMap;

use super::Place;
use super::git::Git;
use crate::evidence::{Guarded, Links};
use crate::fs::{self, Moment, Stamp};
use crate::git::index::{self, LINK};
use crate::git::worktree::line_of;
use crate::git::{Client, write};
use crate::job::Reason;

/// The most references that are looked at.
const MAX_REFS: usize = 20_000;

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    guarded: Guarded,
    links: Links,
    /// The files that join the work tree with its git directory.
    joints: BTreeMap<String, Option<Vec<u8>>>,
    refs: BTreeMap<String, String>,
    begun: Moment,
}

/// What happened between two looks, or what an agent's evidence tells of its attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Files of git directories that changed, as `.git/hooks/pre-commit`. One that ends in `/.git` is a repository that was made in a
    /// directory of tracked files.
    pub git_dir: Vec<String>,
    /// Files outside of the work tree that were changed behind a link.
    pub outside: Vec<String>,
    /// References of others that moved meanwhile, by whichever program.
    pub moved_refs: Vec<String>,
    /// Settings of git that changed meanwhile, likewise, and are no danger: as `.git/config: user.name`.
    pub settings: Vec<String>,
}

/// Looks. The index of the engine must be that of the files: a second look comes after `left`.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn look(place: &Place, client: &Client) -> Result<Look, Reason> {
    let begun = begun(place)?;
    let entries = index::entries(&index::read_written(&place.index())?, place.hash_bytes)?;
    let own = place.own_git_dir();
    let git_dir = own.clone().unwrap_or_else(|| place.common_dir.clone());
    let links = entries.iter().filter(|(_, entry)| entry.mode == LINK).map(|(path, _)| path);
    let joints = [".git".into(), "commondir".into(), "gitdir".into()].map(|name: String| {
        let dir = if name == ".git" { Some(&place.dir) } else { own.as_ref() };
        let line = dir.and_then(|dir| line_of(&dir.join(&name)));
        (name, line)
    });
    Ok(Look {
        guarded: Guarded::look((&git_dir, &place.common_dir, &place.dir), &entries),
        links: Links::look(&place.dir, &place.dir, links),
        joints: joints.into(),
        refs: refs(place, client)?,
        begun,
    })
}

/// The moment by the clock of the file system.
fn begun(place: &Place) -> Result<Moment, Reason> {
    let path = place.beside("look");
    let made = || {
        fs::remove(&path)?;
        fs::create_new(&path, b"")?;
        let begun = Stamp::read(&path).map(|stamp| stamp.changed()).unwrap_or_default();
        fs::remove(&path)?;
        Ok(begun)
    };
    made().map_err(|error| write::wrong(&error))
}

/// Every reference but those that conductors of other workstreams move, and the branch, which a step may move.
fn refs(place: &Place, client: &Client) -> Result<BTreeMap<String, String>, Reason> {
    let count = format!("--count={MAX_REFS}");
    let args = ["for-each-ref", &count, "--format=%(objectname) %(refname)"];
    let listed = Git::at(place, client).read(&args).output()?;
    let text = String::from_utf8_lossy(&listed);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let own = place.refs("");
    let is_meant = |name: &str| {
        name.starts_with(&own)
            || !(name.starts_with("refs/engine/") || name.starts_with("refs/heads/engine/"))
    };
    let meant = pairs.filter(|(_, name)| is_meant(name));
    Ok(meant.map(|(commit, name)| (name.to_owned(), commit.to_owned())).collect())
}

impl Look {
    /// What happened up to a later look at the same place.
    ///
    /// # Errors
    /// A reason where git fails.
    pub(crate) fn compare(&self, after: &Self, place: &Place, client: &Client) -> Result<Seen, Reason> {
        let guarded = self.guarded.compare(&after.guarded, client)?;
        let mut git_dir: Vec<String> = guarded.files.iter().map(ToString::to_string).collect();
        let joints = self.joints.iter().filter(|(name, line)| after.joints.get(*name) != Some(*line));
        git_dir.extend(joints.map(|(name, _)| match name.as_str() {
            ".git" => name.clone(),
            name => format!(".git/{name}"),
        }));
        let outside = self.links.clone().compare(&after.links, self.begun);
        let outside = outside.into_iter().map(|change| change.path).collect();
        let names = self.refs.keys().chain(after.refs.keys().filter(|name| !self.refs.contains_key(*name)));
        let moved = names.filter(|name| self.refs.get(*name) != after.refs.get(*name));
        let (own, moved_refs): (Vec<String>, Vec<String>) =
            moved.cloned().partition(|name| name.starts_with(&place.refs("")));
        git_dir.extend(own);
        Ok(Seen { git_dir, outside, moved_refs, settings: guarded.daily })
    }
}
