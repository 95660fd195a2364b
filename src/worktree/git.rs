//! The calls of git for one workstream, and its references.
//!
//! Hard rule: no call finds its repository by the work tree.

use std::path::{Path, PathBuf};

use super::Place;
use crate::fs;
use crate::git::{Call, Client, GitDir, WorkTree, write};
use crate::job::Reason;

/// A place with its client of git.
#[derive(Debug)]
pub(super) struct Git<'a> {
    pub(super) place: &'a Place,
    pub(super) client: &'a Client,
    git_dir: PathBuf,
    index: PathBuf,
}

/// The references of a workstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The last checkpoint, with its tree; none before the work tree is made.
    pub head: Option<Head>,
    /// The branch, likewise; none if it was deleted.
    pub branch: Option<Head>,
    /// What was put aside: the number of the step, and the commit.
    pub asides: Vec<(u32, String)>,
}

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
}

impl<'a> Git<'a> {
    /// The calls for a place. Where the own git directory is gone, that of the repository has the same objects and settings.
    pub(super) fn at(place: &'a Place, client: &'a Client) -> Self {
        let git_dir = place.own_git_dir().unwrap_or_else(|| place.common_dir.clone());
        Self { place, client, git_dir, index: place.index() }
    }

    /// A call that changes the repository alone.
    pub(super) fn repo(&self, args: &[&str]) -> Call<'a> {
        let git_dir = GitDir::Written { work_tree: None, durable: self.place.durable };
        Call::new(self.client, &self.place.repo, git_dir, args)
    }

    /// A call that only reads the repository.
    pub(super) fn read(&self, args: &[&str]) -> Call<'a> {
        Call::new(self.client, &self.place.repo, GitDir::Repository, args)
    }

    /// A call on the work tree, with the index of the engine.
    pub(super) fn tree(&self, args: &[&str]) -> Call<'a> {
        self.with_index(&self.index, args)
    }

    /// A call on the work tree, with another index.
    pub(super) fn with_index(&self, index: &Path, args: &[&str]) -> Call<'a> {
        let Place { common_dir, dir, durable, .. } = self.place;
        let work_tree = WorkTree { git_dir: &self.git_dir, common_dir, top: dir, index };
        let git_dir = GitDir::Written { work_tree: Some(work_tree), durable: *durable };
        Call::new(self.client, dir, git_dir, args)
    }

    /// Moves a reference, if it is where it was seen; `None` means that it was not there.
    pub(super) fn move_ref(&self, name: &str, to: &str, from: Option<&str>) -> Result<(), Reason> {
        if from == Some(to) {
            return Ok(());
        }
        write::run(self.repo(&["update-ref", "--no-deref", name, to, from.unwrap_or_default()])).map(drop)
    }
}

/// Reads the references of a workstream.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn heads(place: &Place, client: &Client) -> Result<Heads, Reason> {
    let (own, branch) = (place.refs(""), place.branch());
    let format = "--format=%(objectname) %(tree) %(refname)";
    let listed = Git::at(place, client).read(&["for-each-ref", format, &own, &branch]).output()?;
    let mut heads = Heads::default();
    for line in String::from_utf8_lossy(&listed).lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(commit), Some(tree), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let head = || Head { commit: commit.to_owned(), tree: tree.to_owned() };
        match name.strip_prefix(&own) {
            Some("head") => heads.head = Some(head()),
            Some(number) => heads.asides.extend(number.parse().ok().map(|n: u32| (n, commit.to_owned()))),
            None if name == branch => heads.branch = Some(head()),
            None => {}
        }
    }
    Ok(heads)
}

/// The last checkpoint.
///
/// # Errors
/// A reason where there is none: the work tree was never made, or a program deleted the reference.
pub(super) fn checkpoint(place: &Place, client: &Client) -> Result<Head, Reason> {
    let missing = || {
        let message = format!("the reference `{}` is missing", place.head_ref());
        Reason::new(crate::job::Code::RefMoved, message)
    };
    heads(place, client)?.head.ok_or_else(missing)
}

/// Gives a file of the engine, or of its work tree's git directory, new content.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    replace_by(&unfinished(path), path, bytes)
}

/// The same by an unfinished file of this name. A crash leaves it; the next call takes it over.
pub(super) fn replace_by(unfinished: &Path, path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    fs::remove(unfinished)
        .and_then(|_| fs::create_new(unfinished, bytes))
        .and_then(|_| fs::rename_replace(unfinished, path))
        .map_err(|error| write::wrong(&error))
}

/// The name of a file that is not finished.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Paths as git lists them.
pub(super) fn joined<'p>(paths: impl IntoIterator<Item = &'p Vec<u8>>) -> Vec<u8> {
    paths.into_iter().flat_map(|path| path.iter().copied().chain([0])).collect()
}
