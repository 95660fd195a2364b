//! Whether a lock file of git is left over: no process that can have made it is alive.
//!
//! git makes the file, may close it before it is done with it, and removes it. So a git counts as its holder if it was alive when
//! the file was first seen here, and so does a program of any name that has it open then. One that began later found the file
//! there. A git of another machine, or of another pid namespace, is not seen at all: a lock file that no process seen here
//! had open has to be old besides. Hard rule: where the processes cannot be listed nothing is proved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deadline::Stop;
use super::program::NAME;
use super::write;
use crate::clock::{self, Clock, SystemClock, Timestamp};
use crate::fs::{self, Stamp};
use crate::job::{Code, Reason};
use crate::process::tree::{self, Stat};

/// How long one look at a lock file is apart from the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A git that is not seen here is done with its lock file by then, unless it waits for a person.
const OLD: Duration = Duration::from_secs(10);

/// A lock file as it was seen first.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    stamp: Stamp,
    /// The processes that may hold it; none if that is not known.
    holders: Option<BTreeSet<(i32, u64)>>,
    /// True if one of these had it open: any other git may work elsewhere.
    is_known: bool,
}

impl LockFile {
    /// Looks at the file; none if it is gone.
    #[must_use]
    pub(crate) fn see(path: &Path) -> Option<Self> {
        let stamp = Stamp::read(path)?;
        let all = alive();
        let (mut holders, mut is_known) = (all.as_ref().map(|_| BTreeSet::new()), false);
        for process in all.into_iter().flatten() {
            let is_open = has_open(process.pid, path);
            is_known |= is_open;
            if is_open || process.name.starts_with(NAME) {
                holders.get_or_insert_default().insert(process.key());
            }
        }
        Some(Self { path: path.to_path_buf(), stamp, holders, is_known })
    }

    /// True if it is still the same file at this path.
    #[must_use]
    pub(crate) fn is(&self, path: &Path) -> bool {
        self.path == path && Stamp::read(path).as_ref() == Some(&self.stamp)
    }

    /// True once none of the processes that may have made it is alive; where none had it open, once the file is old, too.
    #[must_use]
    pub(crate) fn is_left(&self) -> bool {
        let (Some(holders), Some(all)) = (&self.holders, alive()) else { return false };
        !all.iter().any(|process| holders.contains(&process.key())) && (self.is_known || is_old(&self.path))
    }
}

fn is_old(path: &Path) -> bool {
    let changed = path.symlink_metadata().ok().and_then(|metadata| Timestamp::modified(&metadata));
    changed.is_some_and(|changed| SystemClock::start().now().since(changed) >= OLD)
}

/// Waits until no lock file is found. One whose maker is not alive any more is removed: those are given.
///
/// # Errors
/// `interrupted` if the wait is to end before, the reason of `locked` if it is over, or one of a file that cannot be removed.
pub(crate) fn wait_until_gone(
    find: &dyn Fn() -> Option<PathBuf>,
    (stop, is_over): (&Stop, &dyn Fn() -> bool),
    locked: &dyn Fn(&Path) -> Reason,
) -> Result<Vec<PathBuf>, Reason> {
    let (mut removed, mut seen) = (Vec::new(), None::<LockFile>);
    loop {
        let Some(path) = find() else { return Ok(removed) };
        match seen.take().filter(|seen| seen.is(&path)) {
            Some(same) if same.is_left() => {
                fs::remove(&path).map_err(|error| write::wrong(&error))?;
                removed.push(path);
                continue;
            }
            Some(same) => seen = Some(same),
            None => seen = LockFile::see(&path),
        }
        if stop.is_asked() {
            let message = format!("interrupted while `{}` was there", path.display());
            return Err(Reason::new(Code::Interrupted, message));
        }
        if is_over() {
            return Err(locked(&path));
        }
        clock::sleep(BETWEEN_LOOKS);
    }
}

fn alive() -> Option<Vec<Stat>> {
    let all = tree::all().ok()?;
    Some(all.into_iter().filter(|process| !process.is_dead()).collect())
}

fn has_open(pid: i32, path: &Path) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|open| open == path)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_lock_file_that_a_living_process_has_open_is_held_and_one_without_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(dir.path()).unwrap().join("head.lock");
        assert!(LockFile::see(&path).is_none());
        fs::create_new(&path, b"").unwrap();
        let file = File::open(&path).unwrap();
        let held = LockFile::see(&path).unwrap();
        assert!(held.is(&path) && !held.is_left());
        // git may close it before it is done.
        drop(file);
        assert!(!held.is_left());
        let unknown = LockFile { holders: None, ..LockFile::see(&path).unwrap() };
        assert!(!unknown.is_left(), "nothing is proved");
        let unseen = LockFile { holders: Some(BTreeSet::new()), is_known: false, ..unknown };
        assert!(!unseen.is_left(), "a git of another machine may have made it just now");
        File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(unseen.is_left());
        fs::remove(&path).unwrap();
        fs::create_new(&path, b"new").unwrap();
        assert!(!held.is(&path), "another one has the name");
    }
}
