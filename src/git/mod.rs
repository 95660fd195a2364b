//! The one client of git: the program, its calls, and git's formats of index, objects, and status.
//!
//! Responsible for which program runs, with which environment and options, for how long, and for what its failure is called.
//! Not responsible for what a job did (`evidence`), nor for which jobs may share a worktree (`runner::tree_lock`). Hard rule:
//! no other module starts git, and no call waits for ever or runs a program that a repository names.
//!
//! A call names the git directory that it is about (`GitDir`). Each of them promises what a call may change: the repository's
//! own nothing, a private one only itself, and one that is written what the call is for. Options and environment follow from
//! the variant. A call that writes is run by `write` alone; it keeps the hooks of the repository from running, and the
//! filters of the user on, because only with them the files are what a person would have.

mod client;
mod deadline;
pub(crate) mod index;
mod lock_file;
pub(crate) mod objects;
mod program;
pub(crate) mod refs;
mod repository;
mod repository_lock;
mod status;
pub(crate) mod worktree;
pub(crate) mod write;

pub(crate) use crate::process::helper::Captured;
pub(crate) use client::{Call, Client, GitDir, WorkTree, failed};
pub(crate) use deadline::Deadline;
pub use deadline::Stop;
pub(crate) use lock_file::wait_until_gone;
pub(crate) use program::Program;
pub(crate) use repository::{Files, Repository};
pub(crate) use repository_lock::RepositoryLock;
pub(crate) use status::Status;
