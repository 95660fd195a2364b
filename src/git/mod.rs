//! The one client of git: the program, its calls, and git's formats of index, objects, and status.
//!
//! Responsible for which program runs, with which environment and options, for how long, and for what its failure is called.
//! Not responsible for what a job did (`evidence`), nor for which jobs may share a work tree (`runner::tree_lock`). Hard rule:
//! no other module starts git, and no call waits for ever or runs a program that a repository names.
//!
//! A call names the git directory that it is about (`GitDir`). Each of them promises what a call may change: the repository's
//! own nothing, a private one only itself. A group of commands that changes a repository, as those of linked work trees do, is
//! a file of its own here (`git/worktree.rs`) with a variant of its own of `GitDir`: options and environment follow from the
//! variant, and must keep the filters and hooks of the repository from running.

mod client;
pub(crate) mod index;
pub(crate) mod objects;
mod program;
mod repository;
mod status;

pub use client::Stop;
pub(crate) use client::{Call, Client, Deadline, GitDir, failed};
pub(crate) use program::Program;
pub(crate) use repository::{Files, Repository};
pub(crate) use status::Status;
