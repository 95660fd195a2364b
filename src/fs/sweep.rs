//! One walk of a directory of another program's, for what git does not see in it: files that are neither regular nor links,
//! empty directories, names that their user closed, and `.git` where git has no repository.
//!
//! Responsible for finding these, and for removing or opening them where that is asked for. Hard rules: no link is followed and
//! no other file system entered; neither the depth of the tree nor the length of a path is a bound; a directory that is moved
//! meanwhile ends the walk.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{At, Result};
use super::no_links;
use super::steps::{Step, step};

/// What a walk is for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sweep {
    /// Whether files are removed that are neither regular nor links: a program that opens one may wait for ever.
    pub special: bool,
    /// Whether empty directories are removed.
    pub empty: bool,
    /// Whether what its user closed is opened.
    pub closed: bool,
}

/// What a walk found. All paths are relative to the top.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Files that are neither regular nor links; they are gone if that was asked for.
    pub special: Vec<PathBuf>,
    /// Names `.git` below the top.
    pub repositories: Vec<PathBuf>,
    /// What was opened.
    pub opened: Vec<PathBuf>,
}

/// Walks a directory; `skips` says which directories below are not entered.
///
/// # Errors
/// File system errors, and a directory that was moved meanwhile. What this user may not list is no error.
pub(crate) fn sweep(top: &Path, wanted: Sweep, skips: &dyn Fn(&Path) -> bool) -> Result<Swept> {
    let mut walk = Walk { top, wanted, skips, path: PathBuf::new(), found: Swept::default() };
    walk.run().at("looking at", top)?;
    Ok(walk.found)
}

struct Walk<'a> {
    top: &'a Path,
    wanted: Sweep,
    skips: &'a dyn Fn(&Path) -> bool,
    /// Where it is, relative to the top.
    path: PathBuf,
    found: Swept,
}

/// A directory on the way from the top to where the walk is.
struct Level {
    place: (u64, u64),
    /// The names that are still to be looked at.
    names: Vec<(OsString, FileType)>,
    /// Whether something stays in it.
    is_kept: bool,
}

impl Level {
    fn read(dir: &OwnedFd) -> std::result::Result<Self, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push((name, entry.file_type()));
            }
        }
        Ok(Self { place: place(&rustix::fs::fstat(dir)?), names, is_kept: false })
    }
}

fn place(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Walk<'_> {
    /// Only one directory is open at a time, however deep it is: the way back is by `..`.
    fn run(&mut self) -> io::Result<()> {
        let mut at = no_links::open(self.top, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut levels = vec![Level::read(&at)?];
        while let Some(level) = levels.last_mut() {
            if let Some((name, kind)) = level.names.pop() {
                if let Some(inner) = self.entered(&at, (&name, kind), level)? {
                    self.path.push(&name);
                    levels.push(Level::read(&inner)?);
                    at = inner;
                }
                continue;
            }
            let Some(done) = levels.pop() else { break };
            let Some(above) = levels.last_mut() else { break };
            at = no_links::list_at(&at, "..".as_ref())?;
            if place(&rustix::fs::fstat(&at)?) != above.place {
                return Err(io::Error::other(format!("`{}` was moved meanwhile", self.path.display())));
            }
            let name = self.path.file_name().unwrap_or_default().to_owned();
            let is_gone =
                self.wanted.empty && !done.is_kept && self.is_removed(&at, &name, AtFlags::REMOVEDIR);
            above.is_kept |= !is_gone;
            self.path.pop();
        }
        Ok(())
    }

    /// Deals with one name; the directory, if it is one that is entered.
    fn entered(
        &mut self,
        at: &OwnedFd,
        (name, kind): (&OsStr, FileType),
        level: &mut Level,
    ) -> io::Result<Option<OwnedFd>> {
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(look(at, name)?.st_mode),
            kind => kind,
        };
        let path = self.path.join(name);
        if name == ".git" {
            level.is_kept = true;
            if !self.path.as_os_str().is_empty() {
                self.found.repositories.push(path);
            }
            return Ok(None);
        }
        match kind {
            FileType::Directory => {
                let inner = match (self.skips)(&path) {
                    true => None,
                    false => self.opened(at, name, level.place.0)?,
                };
                level.is_kept |= inner.is_none();
                return Ok(inner);
            }
            FileType::RegularFile => {
                level.is_kept = true;
                if self.wanted.closed {
                    self.open_up(at, name, 0o600)?;
                }
            }
            FileType::Symlink => level.is_kept = true,
            _ => {
                level.is_kept |= !(self.wanted.special && self.is_removed(at, name, AtFlags::empty()));
                self.found.special.push(path);
            }
        }
        Ok(None)
    }

    /// Opens a directory that can be left again; none of one that this user closed, or that is a file system of its own.
    fn opened(&mut self, at: &OwnedFd, name: &OsStr, device: u64) -> io::Result<Option<OwnedFd>> {
        if self.wanted.closed {
            self.open_up(at, name, 0o700)?;
        }
        let inner = match no_links::list_at(at, name) {
            Ok(inner) => inner,
            Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if rustix::fs::fstat(&inner)?.st_dev != device {
            return Ok(None);
        }
        match no_links::list_at(&inner, "..".as_ref()) {
            Ok(_) => Ok(Some(inner)),
            Err(Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives this user what it needs of a file or directory of its own. Where it may not, whoever needs it says so.
    fn open_up(&mut self, at: &OwnedFd, name: &OsStr, needed: u32) -> io::Result<()> {
        let mode = look(at, name)?.st_mode & 0o7777;
        if mode & needed == needed {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(at, name, flags, Mode::empty())?;
        // A descriptor of a closed file cannot be changed, but its name below `/proc` can.
        let below_proc = format!("/proc/self/fd/{}", opened.as_raw_fd());
        if std::fs::set_permissions(below_proc, PermissionsExt::from_mode(mode | needed)).is_ok() {
            self.found.opened.push(self.path.join(name));
        }
        Ok(())
    }

    fn is_removed(&self, at: &OwnedFd, name: &OsStr, flags: AtFlags) -> bool {
        step(Step::Unlink, &self.top.join(&self.path));
        rustix::fs::unlinkat(at, name, flags).is_ok()
    }
}

fn look(at: &OwnedFd, name: &OsStr) -> std::result::Result<Stat, Errno> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sweep = Sweep { special: true, empty: true, closed: true };

    fn tree(build: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        build(&top);
        (dir, top)
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }

    #[test]
    fn what_git_does_not_see_is_found_and_goes_and_what_is_skipped_or_behind_a_link_stays() {
        let (_kept, top) = tree(|top| {
            for dir in ["empty/er", "full/empty", "skipped/empty", "own/.git", "other/deep", ".git/empty"] {
                std::fs::create_dir_all(top.join(dir)).unwrap();
            }
            std::fs::write(top.join("full/file"), "").unwrap();
            std::os::unix::fs::symlink("other", top.join("link")).unwrap();
            for name in ["full/fifo", "skipped/fifo", "pipe\nline", ".git/fifo"] {
                fifo(&top.join(name));
            }
            std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
        });
        let skips = |path: &Path| path == Path::new("skipped");
        let mut found = sweep(&top, Sweep::default(), &skips).unwrap();
        found.special.sort();
        assert_eq!(found.special, ["full/fifo", "pipe\nline", "socket"].map(PathBuf::from));
        assert_eq!(found.repositories, [PathBuf::from("own/.git")]);
        assert!(top.join("full/fifo").exists() && top.join("empty/er").exists(), "nothing was asked for");
        sweep(&top, ALL, &skips).unwrap();
        let mut left: Vec<_> = walkdir::WalkDir::new(&top).min_depth(1).into_iter().flatten().collect();
        left.sort_by(|one, other| one.path().cmp(other.path()));
        let left: Vec<_> = left.iter().map(|entry| entry.path().strip_prefix(&top).unwrap()).collect();
        let want = [
            ".git",
            ".git/empty",
            ".git/fifo",
            "full",
            "full/file",
            "link",
            "own",
            "own/.git",
            "skipped",
            "skipped/empty",
            "skipped/fifo",
        ];
        assert_eq!(left, want.map(Path::new));
        assert!(sweep(&top, ALL, &skips).unwrap().special.is_empty());
    }

    #[test]
    fn a_tree_that_is_deeper_than_any_path_is_walked_to_its_end() {
        let (_kept, top) = tree(|_| ());
        let mut at = no_links::dir(&top).unwrap();
        for _ in 0..4_000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = no_links::list_at(&at, "deep".as_ref()).unwrap();
        }
        rustix::fs::mknodat(&at, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let found = sweep(&top, Sweep { empty: false, ..ALL }, &|_| false).unwrap();
        assert_eq!(found.special.len(), 1);
        assert!(top.join("deep").exists());
        sweep(&top, ALL, &|_| false).unwrap();
        assert!(std::fs::read_dir(&top).unwrap().next().is_none());
    }

    #[test]
    fn what_its_user_closed_is_opened_and_not_to_others() {
        let (_kept, top) = tree(|top| {
            std::fs::create_dir_all(top.join("closed/in")).unwrap();
            std::fs::write(top.join("closed/in/file"), "").unwrap();
            for (name, mode) in [("closed/in/file", 0o040), ("closed/in", 0o600), ("closed", 0)] {
                std::fs::set_permissions(top.join(name), PermissionsExt::from_mode(mode)).unwrap();
            }
        });
        let found = sweep(&top, ALL, &|_| false).unwrap();
        assert_eq!(found.opened, ["closed", "closed/in", "closed/in/file"].map(PathBuf::from));
        let mode = |name: &str| std::fs::metadata(top.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["closed", "closed/in", "closed/in/file"].map(mode), [0o700, 0o700, 0o640]);
        assert_eq!(sweep(&top, ALL, &|_| false).unwrap(), Swept::default());
    }
}
