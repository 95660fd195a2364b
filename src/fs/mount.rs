//! The kind of file system of a path: how its names become durable, and whether its locks reach every machine.
//!
//! The judgement is pure: a magic number of `statfs`, and for what that does not settle the type and options of the mount.
//! Hard rule: for an ordinary local file system one `statfs` is all it costs, for this runs for every job.

use std::path::{Path, PathBuf};

use super::error::{At, Result};
use super::steps;

/// How names become durable, as far as the protocol needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ordering {
    /// ext4, xfs or btrfs: a synced file has a durable name, and moves are seen in order.
    Journaled,
    /// Anything else: names are synced by themselves.
    Unknown,
}

/// The processes that an exclusive `flock` keeps out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Every process that can open the file: it is on a disk or in the memory of this machine.
    Machine,
    /// Every process on every machine, by the file server.
    Server,
    /// Nothing is known of this kind of file system: the kernel keeps its own processes out, at least.
    Unknown,
    /// Only this machine, although others can open the file; why.
    LocalOnly(&'static str),
}

/// One line of `/proc/self/mountinfo`, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its type, as `nfs4` or `fuse.sshfs`.
    pub kind: String,
    /// The options of the mount and of its file system, with commas.
    pub options: String,
}

/// The file system of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// How names become durable.
    pub ordering: Ordering,
    /// The processes that locks keep out.
    pub locking: Locking,
    /// Where it is mounted; read only where the kind alone does not say which processes locks keep out.
    pub mount: Option<Mount>,
}

const EXT4: i64 = 0xEF53;
const XFS: i64 = 0x5846_5342;
const BTRFS: i64 = 0x9123_683E;
/// File systems of this machine alone, beside those three: tmpfs, overlay, ramfs, f2fs, zfs, bcachefs, ecryptfs, exfat, vfat, ntfs3.
const LOCAL: [i64; 10] = [
    0x0102_1994,
    0x794C_7630,
    0x8584_58F6,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0xCA45_1A4E,
    0xF15F,
    0x2011_BAB0,
    0x4D44,
    0x7366_746E,
];

/// Asks the kernel what kind of file system a path is on.
pub(crate) fn file_system(path: &Path) -> Result<FileSystem> {
    if let Some(line) = steps::pretended_mount() {
        let mount = parse_line(&line);
        let locking = mount.as_ref().map_or(Locking::Unknown, locking_of);
        return Ok(FileSystem { ordering: Ordering::Unknown, locking, mount });
    }
    let magic = rustix::fs::statfs(path).at("looking at", path)?.f_type;
    let ordering = ordering_of(magic);
    if ordering == Ordering::Journaled || LOCAL.contains(&magic) {
        return Ok(FileSystem { ordering, locking: Locking::Machine, mount: None });
    }
    let mount = mount_of(path)?;
    let locking = mount.as_ref().map_or(Locking::Unknown, locking_of);
    Ok(FileSystem { ordering, locking, mount })
}

fn ordering_of(magic: i64) -> Ordering {
    if [EXT4, XFS, BTRFS].contains(&magic) { Ordering::Journaled } else { Ordering::Unknown }
}

/// Finds the mount that a path is on.
pub(crate) fn mount_of(path: &Path) -> Result<Option<Mount>> {
    let table = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(table).at("reading", table)?;
    let path = super::look::canonical(path)?;
    Ok(find(&String::from_utf8_lossy(&text), &path))
}

/// The mount that holds a path: the last one among those with the longest mount point above it.
fn find(table: &str, path: &Path) -> Option<Mount> {
    let above = table.lines().filter_map(parse_line).filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// Reads a line as `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let point = unescape(before.nth(4)?);
    let own_options = before.next()?;
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let options = format!("{own_options},{}", after.nth(1).unwrap_or_default());
    Some(Mount { point: point.into(), kind, options })
}

/// The kernel writes space, tab, newline and backslash of a path as `\040` and the like.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escaped, character);
    }
    plain
}

/// The processes that an exclusive `flock` on a mount keeps out.
#[must_use]
pub(crate) fn locking_of(mount: &Mount) -> Locking {
    let has = |wanted: &[&str]| mount.options.split(',').any(|option| wanted.contains(&option));
    match mount.kind.as_str() {
        "nfs" | "nfs4" if has(&["nolock", "local_lock=all", "local_lock=flock"]) => {
            Locking::LocalOnly("it is mounted with `nolock` or `local_lock`; mount it with `local_lock=none`")
        }
        "cifs" | "smb3" | "smbfs" if has(&["nobrl"]) => {
            Locking::LocalOnly("it is mounted with `nobrl`; mount it without")
        }
        "gfs2" | "ocfs2" | "lustre" if has(&["localflocks", "localflock", "lockproto=lock_nolock"]) => {
            Locking::LocalOnly("it is mounted with local locks; mount it with those of the cluster")
        }
        "lustre" if !has(&["flock"]) => {
            Locking::LocalOnly("it is mounted without `flock`; mount it with that option")
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "gfs2" | "ocfs2" | "lustre" | "ceph" | "afs" => {
            Locking::Server
        }
        "9p" => Locking::LocalOnly("servers of 9p answer to every lock that it is granted"),
        "virtiofs" | "vboxsf" | "vmhgfs" | "prl_fs" => {
            Locking::LocalOnly("a folder that a virtual machine shares with its host does not share locks")
        }
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "jfs" | "reiserfs" | "fuseblk" | "overlay" | "tmpfs" => {
            Locking::Machine
        }
        kind => kind.strip_prefix("fuse").map_or(Locking::Unknown, fuse),
    }
}

/// A program answers for this file system; the options do not say whether it passes locks on, so its name decides.
fn fuse(subtype: &str) -> Locking {
    match subtype.trim_start_matches('.') {
        // Layers over a disk of this machine.
        "fuse-overlayfs" | "overlayfs" | "gocryptfs" | "encfs" | "cryfs" | "securefs" | "mergerfs"
        | "unionfs" | "bindfs" | "ntfs-3g" | "exfat" | "lowntfs-3g" | "fuse2fs" | "zfs" => Locking::Machine,
        "glusterfs" | "ceph" | "ceph-fuse" | "juicefs" | "moosefs" | "mfs" | "lizardfs" | "seaweedfs" => {
            Locking::Server
        }
        _ => {
            Locking::LocalOnly("locks of this kind of fuse file system are not known to reach other machines")
        }
    }
}

/// A file system on which the lease would prove nothing.
#[derive(Debug, thiserror::Error)]
#[error("locks on `{}`, a mount of type {kind}, do not keep out other machines: {why}", point.display())]
pub struct LocksAreLocal {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its type.
    pub kind: String,
    /// How that is known.
    pub why: &'static str,
}

impl FileSystem {
    /// Refuses a file system on which two machines could run one job.
    ///
    /// # Errors
    /// `LocksAreLocal`.
    pub(crate) fn check_locks(&self) -> std::result::Result<(), LocksAreLocal> {
        let Locking::LocalOnly(why) = self.locking else { return Ok(()) };
        let (point, kind) = self.mount.clone().map(|mount| (mount.point, mount.kind)).unwrap_or_default();
        Err(LocksAreLocal { point, kind, why })
    }
}

/// Free bytes and free inodes for an unprivileged writer; no inodes where the file system does not count them.
pub(crate) fn free(path: &Path) -> std::io::Result<(u64, Option<u64>)> {
    let found = rustix::fs::statvfs(path)?;
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    Ok((found.f_bavail.saturating_mul(found.f_frsize), inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &str) -> Mount {
        Mount { point: "/mnt".into(), kind: kind.into(), options: options.into() }
    }

    #[test]
    fn locks_that_do_not_leave_the_machine_are_known_by_type_and_options() {
        for (kind, options) in [
            ("nfs", "rw,vers=3,nolock,addr=10.0.0.1"),
            ("nfs", "rw,vers=3,local_lock=all"),
            ("nfs4", "rw,vers=4.2,local_lock=flock"),
            ("cifs", "rw,vers=3.0,nobrl"),
            ("9p", "rw,trans=virtio,version=9p2000.L"),
            ("virtiofs", "rw"),
            ("vboxsf", "rw"),
            ("lustre", "rw,localflock"),
            ("lustre", "rw"),
            ("gfs2", "rw,localflocks"),
            ("fuse.sshfs", "rw,user_id=0"),
            ("fuse", "rw"),
        ] {
            let found = locking_of(&mount(kind, options));
            assert!(matches!(found, Locking::LocalOnly(_)), "{kind} {options}: {found:?}");
        }
    }

    #[test]
    fn locks_that_a_server_or_this_machine_keeps_are_trusted() {
        for (kind, options, want) in [
            ("nfs4", "rw,vers=4.2,local_lock=none", Locking::Server),
            ("nfs", "rw,vers=3", Locking::Server),
            ("cifs", "rw,vers=3.1.1", Locking::Server),
            ("lustre", "rw,flock", Locking::Server),
            ("fuse.glusterfs", "rw", Locking::Server),
            ("fuseblk", "rw", Locking::Machine),
            ("fuse.fuse-overlayfs", "rw", Locking::Machine),
            ("ext4", "rw", Locking::Machine),
            ("invented", "rw", Locking::Unknown),
        ] {
            assert_eq!(locking_of(&mount(kind, options)), want, "{kind} {options}");
        }
    }

    #[test]
    fn the_mount_of_a_path_is_the_last_of_the_deepest() {
        let table = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
            30 21 0:40 / /mnt rw shared:1 - nfs4 server:/a rw,vers=4.2,local_lock=none\n\
            31 30 0:41 / /mnt/a\\040b rw master:2 - 9p share rw,trans=virtio\n\
            32 21 0:42 / /mnt rw - nfs server:/b rw,nolock\n";
        let at = |path: &str| find(table, Path::new(path)).unwrap();
        assert_eq!(at("/home/x").kind, "ext4");
        assert_eq!(at("/mnt/x").options, "rw,rw,nolock");
        assert_eq!(at("/mnt/a b/x").kind, "9p");
        assert_eq!(at("/mntx").kind, "ext4");
    }

    #[test]
    fn a_line_that_is_no_mount_is_passed_over() {
        for line in ["", "1 2 3", "1 2 3:4 / - ext4", "a - b"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }

    #[test]
    fn an_ordinary_file_system_is_judged_without_its_mount() {
        let dir = tempfile::tempdir().unwrap();
        let found = file_system(dir.path()).unwrap();
        if found.locking == Locking::Machine {
            assert_eq!(found.mount, None);
        }
        assert!(found.check_locks().is_ok(), "{found:?}");
        assert!(mount_of(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_refusal_names_the_mount() {
        let mount = Some(mount("9p", "rw"));
        let locking = Locking::LocalOnly("why");
        let refused = FileSystem { ordering: Ordering::Unknown, locking, mount }.check_locks();
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, "locks on `/mnt`, a mount of type 9p, do not keep out other machines: why");
    }
}
