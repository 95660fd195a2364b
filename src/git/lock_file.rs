//! Whether a lock file of git is left over: no process that can have made it is alive.
//!
//! git makes the file, may close it before it is done with it, and removes it. So a git counts as its holder if it was alive when
//! the file was first seen here, and so does a program of any name that has it open then. One that began later found the file
//! there. A git of another machine, or of another pid namespace, is not seen at all: a lock file that no process seen here holds
//! has to be old besides. Hard rule: where the processes cannot be listed nothing is proved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::NAME;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::fs::Stamp;
use crate::process::tree::{self, Stat};

/// A git that is not seen here is done with its lock file by then, unless it waits for a person.
const OLD: Duration = Duration::from_secs(10);

/// A lock file as it was seen first.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    stamp: Stamp,
    /// The processes that may hold it; none if that is not known.
    holders: Option<BTreeSet<(i32, u64)>>,
}

impl LockFile {
    /// Looks at the file; none if it is gone.
    #[must_use]
    pub(crate) fn see(path: &Path) -> Option<Self> {
        let stamp = Stamp::read(path)?;
        let may_hold = |process: &Stat| process.name.starts_with(NAME) || has_open(process.pid, path);
        let holders = alive().map(|all| all.iter().filter(|one| may_hold(one)).map(Stat::key).collect());
        Some(Self { path: path.to_path_buf(), stamp, holders })
    }

    /// True if it is still the same file at this path.
    #[must_use]
    pub(crate) fn is(&self, path: &Path) -> bool {
        self.path == path && Stamp::read(path).as_ref() == Some(&self.stamp)
    }

    /// True once none of the processes that may have made it is alive; where none was seen, once the file is old, too.
    #[must_use]
    pub(crate) fn is_left(&self) -> bool {
        let (Some(holders), Some(all)) = (&self.holders, alive()) else { return false };
        !all.iter().any(|process| holders.contains(&process.key()))
            && (!holders.is_empty() || is_old(&self.path))
    }
}

fn is_old(path: &Path) -> bool {
    let changed = path.symlink_metadata().ok().and_then(|metadata| Timestamp::modified(&metadata));
    changed.is_some_and(|changed| SystemClock::start().now().since(changed) >= OLD)
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
    use crate::fs;

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
        let unseen = LockFile { holders: Some(BTreeSet::new()), ..unknown };
        assert!(!unseen.is_left(), "a git of another machine may have made it just now");
        File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(unseen.is_left());
        fs::remove(&path).unwrap();
        fs::create_new(&path, b"new").unwrap();
        assert!(!held.is(&path), "another one has the name");
    }
}
