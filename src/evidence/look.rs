//! The directory of one look, and the private git directories in it.
//!
//! Responsible for laying them out from memory. Hard rule: nothing in the directory outlives the look, so nothing that a job
//! writes there is ever read, and `min_free_bytes` stay free.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::fs::{FsError, Scratch, Stamp, mount};
use crate::git::{Call, Client, Files, GitDir, index};
use crate::job::{Code, Reason};

/// One look: its client of git, and its directory, which is removed with it.
#[derive(Debug)]
pub struct Look {
    scratch: Scratch,
    /// Its client of git.
    pub client: Client,
    min_free: u64,
}

/// The place of a repository among those of a look.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The name of its private git directory.
    name: String,
    /// The top of the outermost worktree.
    pub outermost: PathBuf,
    depth: usize,
}

impl Spot {
    /// That of the outermost worktree.
    #[must_use]
    pub fn outermost(top: &Path) -> Self {
        Self { name: "ours".to_owned(), outermost: top.to_path_buf(), depth: 0 }
    }
}

/// A private git directory for one worktree, as long as the look lasts.
#[derive(Debug, Clone)]
pub struct PrivateGitDir {
    look: Rc<Look>,
    /// Which repository it is for.
    pub spot: Spot,
    /// The git directory.
    pub git_dir: PathBuf,
    /// The top of the worktree.
    pub top: PathBuf,
}

/// An error of the file system, as a reason.
#[must_use]
pub(super) fn wrong(error: &FsError) -> Reason {
    Reason::from_error(Code::EvidenceFailed, error)
}

impl Look {
    /// Begins one, in a fresh directory below `parent`.
    ///
    /// # Errors
    /// A reason where the directory cannot be made.
    pub fn begin(parent: &Path, client: Client, min_free: u64) -> Result<Rc<Self>, Reason> {
        let scratch = Scratch::fresh(parent, "evidence").map_err(|error| wrong(&error))?;
        Ok(Rc::new(Self { scratch, client, min_free }))
    }

    /// Checks that so much may be written.
    ///
    /// # Errors
    /// A reason with the numbers, if not.
    pub fn has_room(&self, bytes: usize) -> Result<(), Reason> {
        let path = self.scratch.path();
        let free = mount::free(path).map_or(u64::MAX, |(free, _)| free);
        if free >= self.min_free.saturating_add(bytes as u64) {
            return Ok(());
        }
        let message = format!(
            "`{}` has {free} free bytes: the look needs {bytes} beyond the {} of `min_free_bytes`",
            path.display(),
            self.min_free
        );
        Err(Reason::new(Code::EvidenceFailed, message))
    }
}

impl PrivateGitDir {
    /// That of a repository in a look. `lay_out` makes its files.
    #[must_use]
    pub fn new(look: &Rc<Look>, spot: Spot, top: &Path) -> Self {
        let git_dir = look.scratch.path().join(&spot.name);
        Self { look: Rc::clone(look), spot, git_dir, top: top.to_path_buf() }
    }

    /// The same, with its files.
    ///
    /// # Errors
    /// A reason where they cannot be written.
    pub fn lay_out(look: &Rc<Look>, spot: Spot, top: &Path, files: &Files) -> Result<Self, Reason> {
        let place = Self::new(look, spot, top);
        for (name, bytes) in files {
            place.write(name, bytes)?;
        }
        place.dir("refs/heads")?;
        Ok(place)
    }

    /// A call of git on the worktree with an index of ours.
    #[must_use]
    pub fn git<'a>(&'a self, index: &Path, args: &[&str]) -> Call<'a> {
        let place = GitDir::Private { git_dir: &self.git_dir, work_tree: &self.top, index };
        Call::new(&self.look.client, &self.top, place, args)
    }

    /// Paths whose entries in an index of ours are not as a tree of the repository has them.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn differing(&self, index: &Path, tree: &str) -> Result<BTreeSet<Vec<u8>>, Reason> {
        let args = ["diff-index", "--cached", "-z", "--no-renames", "--name-only", tree, "--"];
        let printed = self.git(index, &args).output()?;
        Ok(printed.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
    }

    /// Makes a whole index of one that is spread over files of `git_dir`, or in which a directory replaces the files below it.
    ///
    /// # Errors
    /// A reason where git fails or a file is missing.
    pub fn unfold(&self, git_dir: &Path, index: &[u8], shared: Option<&str>) -> Result<Vec<u8>, Reason> {
        if let Some(name) = shared {
            self.write(name, &index::read_written(&git_dir.join(name))?)?;
        }
        let path = self.write("index", index)?;
        self.git(&path, &["update-index", "--no-split-index", "--force-write-index"]).output()?;
        index::read_written(&path)
    }

    /// The spot of a repository within this one.
    #[must_use]
    pub fn within(&self, name: &str) -> Spot {
        let Spot { name: own, outermost, depth } = &self.spot;
        Spot { name: format!("{own}.{name}"), outermost: outermost.clone(), depth: depth + 1 }
    }

    /// Paths of the tree, each with its stamp; none where it cannot be read.
    pub(super) fn stamps<'a>(
        &'a self,
        paths: &'a [Vec<u8>],
    ) -> impl Iterator<Item = (Vec<u8>, Option<Stamp>)> + 'a {
        paths.iter().map(|path| (path.clone(), Stamp::read(&self.file(path))))
    }

    /// The full path of a path of the tree.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> PathBuf {
        self.top.join(OsStr::from_bytes(path))
    }

    /// The same git directory with another worktree.
    #[must_use]
    pub fn with_top(&self, top: PathBuf) -> Self {
        Self { top, ..self.clone() }
    }

    /// Writes a file of the git directory.
    ///
    /// # Errors
    /// A reason with the path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Reason> {
        let name = format!("{}/{name}", self.spot.name);
        self.look.has_room(bytes.len())?;
        self.look.scratch.write(&name, bytes).map_err(|error| wrong(&error))
    }

    /// Makes a directory in the git directory.
    ///
    /// # Errors
    /// A reason with the path.
    pub fn dir(&self, name: &str) -> Result<PathBuf, Reason> {
        let name = format!("{}/{name}", self.spot.name);
        self.look.scratch.dir(&name).map_err(|error| wrong(&error))
    }

    /// The look that it belongs to.
    #[must_use]
    pub fn look(&self) -> &Rc<Look> {
        &self.look
    }

    /// The client of git.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.look.client
    }

    /// The number of repositories that it is within.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.spot.depth
    }
}
