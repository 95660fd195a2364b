//! Waking the process that holds the lock of a file.
//!
//! A wake-up is SIGUSR1, which ends a process that does not expect it. Hard rule: it is sent only to a process that holds
//! the lock of that very file and catches the signal; the pid that was written down is where to look, never the proof.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::tree;

/// True if a signal has stopped a process (Ctrl-Z, `kill -STOP`), so that it does nothing until it gets CONT.
#[must_use]
pub(crate) fn is_stopped(pid: i32) -> bool {
    tree::stat(pid).is_some_and(|stat| stat.state == 'T')
}

/// Wakes a process, if it is the one that holds the lock of a file, also one that is stopped; true if it was.
#[must_use]
pub(crate) fn holder(pid: i32, locked: &Path) -> bool {
    let Some(target) = Pid::from_raw(pid) else { return false };
    // Opened before the look: the pid cannot become another process's between the look and the signal.
    let Ok(handle) = rustix::process::pidfd_open(target, PidfdFlags::empty()) else { return false };
    let woken = catches_usr1(pid)
        && holds_lock(pid, locked)
        && rustix::process::pidfd_send_signal(&handle, Signal::USR1).is_ok();
    if woken && is_stopped(pid) {
        let _ = rustix::process::pidfd_send_signal(&handle, Signal::CONT);
    }
    woken
}

/// Where a process has another locked file open whose path ends as this one's does (`state/jobs/<id>.jsonl`), if it does.
///
/// # Errors
/// If that cannot be determined, except of a process that is gone or another user's.
pub(crate) fn holds_namesake(pid: i32, path: &Path) -> io::Result<Option<PathBuf>> {
    let end = |path: &Path| path.iter().rev().take(3).map(ToOwned::to_owned).collect::<Vec<_>>();
    let (name, ours) = (end(path), std::fs::symlink_metadata(path).ok());
    let Some(descriptors) = tree::of_ours(pid, std::fs::read_dir(format!("/proc/{pid}/fd")))? else {
        return Ok(None);
    };
    for descriptor in descriptors {
        let Some(descriptor) = tree::of_ours(pid, descriptor)? else { return Ok(None) };
        let Some(target) = tree::of_ours(pid, std::fs::read_link(descriptor.path()))? else { continue };
        if end(&target) != name {
            continue;
        }
        let Some(open) = tree::of_ours(pid, std::fs::metadata(descriptor.path()))? else { continue };
        let is_ours = ours.as_ref().is_some_and(|ours| ours.ino() == open.ino() && ours.dev() == open.dev());
        if !is_ours && is_locked(pid, &descriptor.file_name().to_string_lossy())? {
            return Ok(Some(target));
        }
    }
    Ok(None)
}

/// True if one of its descriptors is this file, and is locked.
fn holds_lock(pid: i32, path: &Path) -> bool {
    let Ok(file) = std::fs::symlink_metadata(path) else { return false };
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let same = std::fs::metadata(descriptor.path())
            .is_ok_and(|open| open.ino() == file.ino() && open.dev() == file.dev());
        same && is_locked(pid, &descriptor.file_name().to_string_lossy()).unwrap_or(false)
    })
}

/// `lock: 1: FLOCK  ADVISORY  WRITE 4711 08:01:123 0 EOF` in `/proc/<pid>/fdinfo/<fd>` (Linux 4.1).
fn is_locked(pid: i32, descriptor: &str) -> io::Result<bool> {
    let read = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}"));
    let info = tree::of_ours(pid, read)?.unwrap_or_default();
    Ok(info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK") && line.contains("WRITE")))
}

/// `SigCgt:` in `/proc/<pid>/status`: a mask of signals, the first in the lowest bit.
fn catches_usr1(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (libc::SIGUSR1 - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Locked;

    #[test]
    fn a_process_without_the_lock_or_without_a_handler_is_not_signalled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!holds_lock(own, file.path()), "it is open but not locked");
        let _held = Locked::exclusive(file.reopen().unwrap(), file.path()).unwrap().unwrap();
        assert!(holds_lock(own, file.path()));
        assert!(!is_stopped(own));
        // This process has no handler: the signal would end it.
        assert!(!catches_usr1(own));
        assert!(!holder(own, file.path()));
        assert!(!holder(0, file.path()));
        assert!(!holder(i32::MAX, file.path()));
    }
}
