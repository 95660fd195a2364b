//! The lock of a repository: `flock` on its common git directory.
//!
//! Processes of any root take it before they add or remove a linked worktree, because git fails where two of these meet. git
//! itself does not know it. Hard rule: no process waits for it longer than its task may take.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::client::Client;
use crate::clock;
use crate::fs::FsError;
use crate::job::{Code, Reason};
use crate::lock::Locked;

const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// The right to add and remove linked worktrees of one repository.
#[derive(Debug)]
pub(crate) struct RepositoryLock(#[expect(dead_code, reason = "held until it is dropped")] Locked);

impl RepositoryLock {
    /// Waits for the lock until the task is over.
    ///
    /// # Errors
    /// `worktree_locked` when it stays busy, `locks_unsupported`, `interrupted`.
    pub(crate) fn take(common_dir: &Path, client: &Client) -> Result<Self, Reason> {
        loop {
            let opened = File::open(common_dir);
            let path = || common_dir.to_path_buf();
            let file = opened.map_err(|source| {
                super::write::wrong(&FsError { action: "opening", path: path(), source })
            })?;
            let locked = Locked::exclusive(file, common_dir);
            let locked = locked.map_err(|error| Reason::from_error(Code::LocksUnsupported, &error))?;
            if let Some(locked) = locked {
                return Ok(Self(locked));
            }
            if client.stop.is_asked() {
                let message = format!("interrupted while `{}` was locked", common_dir.display());
                return Err(Reason::new(Code::Interrupted, message));
            }
            if client.deadline.is_over() {
                let message = format!(
                    "another process keeps the repository `{}` locked: end it, or try again later",
                    common_dir.display()
                );
                return Err(Reason::new(Code::WorktreeLocked, message));
            }
            clock::sleep(BETWEEN_TRIES);
        }
    }
}
