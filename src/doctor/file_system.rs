//! Tests what the file system of a root really does, in a directory of its own, and reports what that means for the contract.
//!
//! Changes nothing but that directory, `.engine-probe-<uuid>` in the root, and removes it again.

use std::io;
use std::path::{Path, PathBuf};

use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::doctor::finding::Finding;
use crate::doctor::trials;
use crate::fs::mount::{self, FileSystem, Locking, Mount};
use crate::fs::{self, Create, Ordering};
use crate::lock::Locked;
use crate::store::{Durability, Store};

/// How the directories of the trials are named.
pub(crate) const PREFIX: &str = ".engine-probe-";

/// Tries everything. On a root that cannot be written the trials are left out, and it says so.
#[must_use]
pub(crate) fn file_system(store: &Store, clock: &dyn Clock) -> Vec<Finding> {
    let root = store.root();
    let mut found = Vec::new();
    match mount::file_system(root) {
        Ok(kind) => {
            let mount = mount::mount_of(root).ok().flatten().or_else(|| kind.mount.clone());
            found.push(what_it_is(&kind, mount.as_ref()));
            found.push(reach_of_locks(&kind));
        }
        Err(error) => found.push(Finding::fail("file_system", causes(&error), "its type is unknown")),
    }
    found.push(space(store));
    found.push(durability(store));
    if store.owner() != fs::this_user() {
        let meaning = "a root of another user is not tested";
        found.push(Finding::warn("writable", "the root belongs to another user".to_owned(), meaning));
        return found;
    }
    let dir = root.join(format!("{PREFIX}{}", uuid::Uuid::now_v7()));
    match fs::create_dir(&dir) {
        Ok(_) => {
            found.extend(trials(&dir, clock));
            if let Err(error) = trials::remove(&dir) {
                tracing::warn!(%error, "`{}` stays", dir.display());
            }
        }
        Err(error) => found.push(not_writable(root, &error)),
    }
    found
}

fn not_writable(root: &Path, error: &fs::FsError) -> Finding {
    let read_only = trials::is_read_only(root).unwrap_or(false);
    let why = if read_only { "it is mounted read-only".to_owned() } else { error.source.to_string() };
    let meaning =
        "reading commands work; submitting, running and repairing do not, and nothing was tested here";
    Finding::fail("writable", format!("cannot write to the root: {why}"), meaning)
        .remedy("mount it read-write, or use another root: --root DIR")
}

fn what_it_is(kind: &FileSystem, mount: Option<&Mount>) -> Finding {
    let shown = mount
        .map_or_else(|| "of unknown type".to_owned(), |m| format!("{} at {}", m.kind, m.point.display()));
    match (kind.ordering, mount.map(|mount| mount.kind.as_str())) {
        (Ordering::Journaled, _) => {
            Finding::ok("file_system", shown, "a synced file keeps its name after a power loss")
        }
        (_, Some("tmpfs" | "ramfs")) => {
            Finding::warn("file_system", shown, "in memory: nothing survives a reboot or a power loss")
                .remedy("put the root on a disk")
        }
        (_, Some("overlay")) => {
            Finding::warn("file_system", shown, "a container layer: everything is lost with the container")
                .remedy("mount a volume there")
        }
        _ => Finding::ok("file_system", shown, "names need a sync of their own: one more sync for each job"),
    }
}

fn reach_of_locks(kind: &FileSystem) -> Finding {
    match &kind.locking {
        Locking::Machine => Finding::ok(
            "locks_reach",
            "this machine; no other one mounts it",
            "two runners never run one job",
        ),
        Locking::Server => {
            let meaning =
                "two runners never run one job, on any machine, as long as the server keeps its locks";
            Finding::ok("locks_reach", "all machines, by the file server", meaning)
        }
        Locking::Unknown => {
            let meaning = "two runners on this machine never run one job; two machines might";
            Finding::warn("locks_reach", "unknown for this type", meaning).remedy(
                "use it from one machine only, or put the root on a local disk, NFS or a cluster file system",
            )
        }
        Locking::LocalOnly(why) => {
            let meaning =
                "two machines could run one job: changing commands stop with 125, `locks_unsupported`";
            Finding::fail("locks_reach", format!("this machine only: {why}"), meaning)
                .remedy("put the root on a local file system")
        }
    }
}

fn space(store: &Store) -> Finding {
    const FEW: u64 = 1000;
    let wanted = store.config.min_free_bytes;
    let meaning = "no job starts below `min_free_bytes`, so that every result can be written";
    match mount::free(store.root()) {
        Err(error) => Finding::warn("space", format!("cannot be read: {error}"), meaning),
        Ok((bytes, inodes)) => {
            let files = inodes.map_or_else(String::new, |inodes| format!(", {inodes} more files"));
            let shown = format!("{bytes} bytes free{files}; at least {wanted} needed");
            let advice = "free some space (`engine gc`), or lower min_free_bytes in engine.toml";
            if bytes < wanted || inodes == Some(0) {
                Finding::fail("space", shown, meaning).remedy(advice)
            } else if inodes.is_some_and(|inodes| inodes < FEW) {
                Finding::warn("space", shown, meaning).remedy(advice)
            } else {
                Finding::ok("space", shown, meaning)
            }
        }
    }
}

fn durability(store: &Store) -> Finding {
    match store.config.durability {
        Durability::Full => {
            Finding::ok("durability", "full", "reported results survive kill -9 and power loss")
        }
        Durability::Fast => {
            let meaning = "reported results survive kill -9, but not a power loss";
            Finding::warn("durability", "fast", meaning).remedy("durability = \"full\" in engine.toml")
        }
    }
}

fn trials(dir: &Path, clock: &dyn Clock) -> Vec<Finding> {
    vec![
        Finding::ok("writable", "the root can be written", "jobs can be submitted and run"),
        exclusion(dir),
        replacing(dir),
        judged(
            "rename_noreplace",
            trials::rename_noreplace(dir),
            "a move never replaces a job file that appeared meanwhile",
            Finding::warn,
            "the engine checks first instead, under the lease: only a manual cp can still interfere",
        ),
        judged(
            "hard_link",
            trials::hard_link(dir),
            "when two processes create a root or a key, exactly one wins",
            Finding::fail,
            "a root cannot be created here",
        ),
        syncing(dir, clock),
        reserving(dir),
        judged(
            "openat2",
            trials::open_beneath(dir),
            "a log that a job names cannot lead out of its repository",
            Finding::warn,
            "jobs that name a log_file or an error_report are not started; some containers forbid the call",
        ),
        judged(
            "inotify",
            trials::inotify(dir),
            "a worker sees a new job at once",
            Finding::warn,
            "workers find new jobs by polling, as they always do for files from other machines",
        ),
        time(dir, clock),
    ]
}

/// A trial: `good` is what it means if it went well, `bad` if not.
fn judged(
    check: &'static str,
    tried: io::Result<()>,
    good: &'static str,
    otherwise: fn(&'static str, String, &'static str) -> Finding,
    bad: &'static str,
) -> Finding {
    match tried {
        Ok(()) => Finding::ok(check, "works", good),
        Err(error) => otherwise(check, format!("does not work: {error}"), bad),
    }
}

fn replacing(dir: &Path) -> Finding {
    let meaning = "a reader sees the old or the new file, never a part";
    judged("rename", trials::rename_replaces(dir), meaning, Finding::fail, "the root cannot be used here")
}

fn exclusion(dir: &Path) -> Finding {
    const MEANING: &str =
        "the lease: only one process changes a job, and a free lease proves that its runner is dead";
    let tried = || -> Result<Finding, crate::store::StoreError> {
        let path = dir.join("lock");
        let take = |create| {
            Ok::<_, crate::store::StoreError>(Locked::exclusive(fs::open_append(&path, create)?, &path)?)
        };
        let first = take(Create::IfMissing)?;
        let second = take(Create::No)?;
        let excludes = first.is_some() && second.is_none();
        drop(first);
        let third = take(Create::No)?;
        Ok(match third {
            Some(_) if excludes => {
                Finding::ok("flock", "excludes a second descriptor until the first releases it", MEANING)
            }
            _ => Finding::fail(
                "flock",
                "does not exclude a second descriptor",
                "two runners could run one job",
            )
            .remedy("put the root on a local file system"),
        })
    };
    tried().unwrap_or_else(|error| {
        let meaning = "changing commands stop with 125, `locks_unsupported`";
        Finding::fail("flock", causes(&error), meaning).remedy("put the root on a local file system")
    })
}

fn syncing(dir: &Path, clock: &dyn Clock) -> Finding {
    let start = clock.monotonic();
    let tried = trials::sync(dir);
    let took = clock.monotonic().saturating_sub(start);
    match tried {
        Ok(()) => {
            let shown = format!("a file and its directory in {:.2} ms", took.as_secs_f64() * 1000.0);
            Finding::ok("fsync", shown, "reported results survive a power loss, if the disk honors syncs")
        }
        Err(error) => {
            let meaning = "durability cannot be promised: submissions and results are refused";
            Finding::fail("fsync", format!("does not work: {error}"), meaning)
        }
    }
}

fn reserving(dir: &Path) -> Finding {
    let path = dir.join("reserved");
    let tried =
        fs::open_append(&path, Create::IfMissing).and_then(|file| fs::reserve(&file, &path, 0, 64 << 10));
    match tried {
        Ok(true) => {
            Finding::ok("fallocate", "works", "a result can be written even if the tool fills the disk")
        }
        Ok(false) => {
            let meaning =
                "if the disk fills while a job runs, its result may be lost: the attempt is then `lost`";
            Finding::warn("fallocate", "is not supported", meaning).remedy("keep min_free_bytes high")
        }
        Err(error) => Finding::fail("fallocate", causes(&error), "no job can start"),
    }
}

/// Compares the clock of the file system (another machine's, on a share) with ours.
fn time(dir: &Path, clock: &dyn Clock) -> Finding {
    const MOST_MILLIS: i64 = 2000;
    let modified = || -> Option<Timestamp> {
        let path = dir.join("time");
        fs::create_new(&path, b"1").ok()?;
        Timestamp::modified(&std::fs::metadata(path).ok()?)
    };
    let Some(there) = modified() else {
        return Finding::warn(
            "file_time",
            "files have no modification time",
            "the age of queued jobs is unknown",
        );
    };
    let apart = there.as_millis() - clock.now().as_millis();
    let meaning = "jobs start by age, and an unreadable file is judged after 5 s without a change";
    let shown = format!("file times and the clock are {:.3} s apart", apart.unsigned_abs() as f64 / 1000.0);
    if apart.abs() <= MOST_MILLIS {
        return Finding::ok("file_time", shown, meaning);
    }
    Finding::warn("file_time", shown, meaning)
        .remedy("set the clocks of this machine and of the file server (NTP)")
}

/// Directories of trials whose process was killed.
pub(crate) fn left(store: &Store, now: Timestamp) -> crate::store::Result<Vec<PathBuf>> {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);
    let names = fs::names(store.root())?;
    let paths = names.into_iter().filter(|name| name.starts_with(PREFIX)).map(|name| store.root().join(name));
    let is_old = |path: &PathBuf| {
        let metadata = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
        metadata.and_then(|m| Timestamp::modified(&m)).is_some_and(|changed| now.since(changed) >= LONGEST)
    };
    Ok(paths.filter(is_old).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    fn on(kind: &str, ordering: Ordering, locking: Locking) -> (FileSystem, Mount) {
        let mount = Mount { point: "/mnt".into(), kind: kind.into(), options: "rw".into() };
        (FileSystem { ordering, locking, mount: Some(mount.clone()) }, mount)
    }

    #[test]
    fn a_loss_at_a_reboot_or_with_a_container_is_reported() {
        for (kind, want) in [("tmpfs", Verdict::Warn), ("overlay", Verdict::Warn), ("zfs", Verdict::Ok)] {
            let (found, mount) = on(kind, Ordering::Unknown, Locking::Machine);
            assert_eq!(what_it_is(&found, Some(&mount)).verdict, want, "{kind}");
        }
    }

    #[test]
    fn locks_that_do_not_reach_others_fail_and_unknown_ones_warn() {
        for (locking, want) in [
            (Locking::Machine, Verdict::Ok),
            (Locking::Server, Verdict::Ok),
            (Locking::Unknown, Verdict::Warn),
            (Locking::LocalOnly("why"), Verdict::Fail),
        ] {
            let (found, _) = on("x", Ordering::Unknown, locking);
            assert_eq!(reach_of_locks(&found).verdict, want);
        }
    }
}
