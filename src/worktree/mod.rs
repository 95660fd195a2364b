//! The worktree of a workstream: a linked one, in which agents edit and checks run, and what becomes of their changes.
//!
//! Responsible for making, repairing and removing it (`tree`), for its content as a tree of git (`content`), for checkpoints,
//! for what is put aside, and for resets (`checkpoint`, `aside`), and for judging what a step left (`look`, `judge`); and for
//! merging what was taken (`merge`, `compose`, `integration`, `onto`). Not responsible for which step runs next. Hard rules: the
//! checkout of the user, its branches and its settings are never changed, but by `onto` on the user's word;
//! no content is removed before a reference below `refs/engine/` holds it; and nothing in the worktree, its index and its HEAD
//! included, decides what is recorded, because the step writes there.
//!
//! Every function can be called again after a crash: it finds what is done already by looking.

mod aside;
mod changes;
mod checkpoint;
pub(crate) mod clean;
mod commit;
mod compose;
mod content;
mod filters;
mod git;
mod half_merge;
mod hand;
mod include;
mod integration;
mod judge;
mod look;
mod merge;
mod onto;
mod parents;
mod protected;
mod refs;
mod submodules;
#[cfg(test)]
mod tests;
mod told;
mod torn;
mod tree;
mod unseen;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

pub(crate) use aside::{lay_out, put_aside, put_aside_and_reset};
pub(crate) use changes::{Stat, changes, patch};
pub(crate) use checkpoint::{
    AfterCheck, Taken, after_check, expected_head, is_head_at, put_back, put_back_head, take, taken,
};
pub(crate) use compose::{OfRun, Part, compose, merged_by_hand};
pub(crate) use content::{Counted, files};
pub(crate) use git::{Aside, Heads, Repo, StepRun, heads};
pub(crate) use hand::{hand, is_by_hand_upon, keep_branch, takes_over};
pub(crate) use integration::{Integrated, check_integration, integrate, name_of};
pub(crate) use judge::{Counts, Left, Rules, changed_by_check, fewer_tests, judge, left};
pub(crate) use look::{Look, Seen, forget, look, note, note_put_back, noted};
pub(crate) use merge::{Conflict, named as named_conflicts};
pub(crate) use onto::{Branch, Onto, is_free, onto};
pub(crate) use parents::make_directory;
pub(crate) use refs::{branches, check_names, delete_of_run, has_references, hold_base, put_back_base};
pub(crate) use told::Commits;
pub(crate) use torn::mend;
pub(crate) use tree::{
    Found, begin_at, check, made_at, make, make_or_find, mark_setup, put_aside_lost, remove_clean,
    remove_left_locks, setup_is_done, wait_for_locks,
};

use crate::fs;
use crate::git::{Client, Repository, worktree};
use crate::job::{Code, Reason};

/// The place of a workstream. All paths are absolute and lead through no link.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The top of the user's checkout.
    pub repo: PathBuf,
    /// The git directory that the worktree shares with it.
    pub common_dir: PathBuf,
    /// The worktree, `<run>/<ws>` below the directory for worktrees. `<ws>.index` beside it is the index of the engine.
    pub dir: PathBuf,
    /// The run.
    pub run: String,
    /// The workstream, as branches and references name it.
    pub ws: String,
    /// The part of the id of its job behind the run: a gate works on the branch of the integration.
    job: String,
    /// The length of an object's name, in bytes.
    pub hash_bytes: usize,
    /// Whether objects and references are synced.
    pub durable: bool,
    /// The last checkpoint, from the moment that its workstream knows it: other programs can move the reference.
    expected_head: RefCell<Option<String>>,
    /// The commits that were met.
    pub commits: Commits,
}

impl Place {
    /// The place of a job of a run, of its name behind the run, in a repository.
    #[must_use]
    pub(crate) fn new(repository: Repository, dir: PathBuf, (run, job): (&str, &str), durable: bool) -> Self {
        Self {
            repo: repository.top,
            common_dir: repository.common_dir,
            dir,
            run: run.to_owned(),
            ws: name_of(job).to_owned(),
            job: job.to_owned(),
            hash_bytes: repository.hash_bytes,
            durable,
            expected_head: RefCell::default(),
            commits: Commits::default(),
        }
    }

    /// Notes where the last checkpoint is. From now on `heads` refuses any other one, and what moves it here is noted.
    pub(crate) fn expect_head(&self, commit: &str) {
        *self.expected_head.borrow_mut() = Some(commit.to_owned());
    }

    /// Where the last checkpoint is, if that was noted.
    pub(crate) fn expected_head(&self) -> Option<String> {
        self.expected_head.borrow().clone()
    }

    /// Its repository.
    #[must_use]
    pub(crate) fn repository<'a>(&'a self, client: &'a Client) -> Repo<'a> {
        let Self { repo, common_dir, durable, .. } = self;
        Repo { top: repo, common_dir, scratch: self.beside("merge"), durable: *durable, client }
    }

    /// The full name of the branch.
    #[must_use]
    pub(crate) fn branch(&self) -> String {
        format!("refs/heads/engine/{}/{}", self.run, self.ws)
    }

    /// The branch as people name it.
    #[must_use]
    pub(crate) fn branch_name(&self) -> String {
        format!("engine/{}/{}", self.run, self.ws)
    }

    /// The reference to the last checkpoint. It decides what is taken; the branch only follows.
    #[must_use]
    pub(crate) fn head_ref(&self) -> String {
        self.refs("head")
    }

    /// The reference to what was put aside of a step.
    #[must_use]
    pub(crate) fn aside_ref(&self, step: u32) -> String {
        self.refs(&format!("{step:02}"))
    }

    fn refs(&self, name: &str) -> String {
        format!("refs/engine/{}/{}/{name}", self.run, self.ws)
    }

    /// Its own git directory; `None` if the repository knows no worktree there.
    #[must_use]
    pub(crate) fn own_git_dir(&self) -> Option<PathBuf> {
        worktree::git_dir_of(&self.common_dir, &self.dir)
    }

    /// Checks that the worktree is the directory that was made: a step can put a link to any other one in its place.
    fn is_there(&self) -> Result<(), Reason> {
        if fs::canonical(&self.dir).is_ok_and(|path| path == self.dir) {
            return Ok(());
        }
        let message = format!(
            "the worktree `{}` was removed or replaced; resume to have it made anew",
            self.dir.display()
        );
        Err(Reason::new(Code::TreeNotClean, message))
    }

    /// The index of the engine. It is beside the worktree, where no command of git that a step runs writes.
    fn index(&self) -> PathBuf {
        self.beside("index")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.dir.with_file_name(format!("{}.{ending}", self.ws))
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }
}
