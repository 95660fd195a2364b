//! Whether a process still works on an attempt, as far as is visible without its lease.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::job::{Attempt, JobId};
use crate::process::wake;
use crate::store::Store;
use crate::store::identity::Judge;

/// The process that would end an open attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// No attempt is open.
    None,
    /// It seems to live.
    Alive,
    /// It lives and is stopped by a signal: it keeps no limit and heeds no request until it gets CONT.
    Stopped,
    /// It is gone.
    Gone,
    /// It is on another machine or in another container.
    Elsewhere,
}

/// Looks for the runner of an attempt. For people: only the holder of the lease knows.
#[must_use]
pub(crate) fn probe(store: &Store, id: &JobId, attempt: &Attempt) -> Runner {
    match store.identity.judge(attempt) {
        Judge::BeforeReboot => Runner::Gone,
        Judge::Elsewhere => Runner::Elsewhere,
        Judge::Here if !has_open(store, id, attempt.pid) => Runner::Gone,
        Judge::Here if wake::is_stopped(attempt.pid) => Runner::Stopped,
        // Without `/proc` nothing shows that it is gone.
        Judge::Here | Judge::Unknown => Runner::Alive,
    }
}

/// True if the process has the record open, or may have (it is another user's).
fn has_open(store: &Store, id: &JobId, pid: i32) -> bool {
    let Ok(record) = std::fs::symlink_metadata(store.record_path(id)) else { return false };
    let is_it = |open: &std::fs::Metadata| open.ino() == record.ino() && open.dev() == record.dev();
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        // By inode: another process may see the root under another name.
        Ok(open) => {
            open.flatten().any(|entry| std::fs::metadata(entry.path()).is_ok_and(|open| is_it(&open)))
        }
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// True if another process of ours has a file open: a record or lock that is just being worked on.
#[must_use]
pub(crate) fn is_open_elsewhere(path: &Path) -> bool {
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    // `self` and `thread-self` are this process.
    let others = processes.flatten().filter(|process| {
        process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).is_some_and(|pid| pid != own)
    });
    others.into_iter().any(|process| {
        let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.into_iter().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path))
    })
}
