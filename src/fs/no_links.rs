//! Reaches a name without passing a symbolic link, in any component of its path.
//!
//! A root can hold a link in place of each of its directories: one that came with a clone, or one that a job made. A name
//! below it must then lead nowhere else. So every call of this crate that changes a file names it by an open directory
//! and one last component. The caller resolves what a person named (`fs::canonical`) once; from then on no link is
//! followed. Hard rule: nothing here changes a file.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A path leads through a symbolic link.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is a symbolic link; the engine changes nothing through one", link.display())]
struct ThroughLink {
    link: PathBuf,
}

/// Opens a directory as a place for names; nothing can be read from what is returned.
pub(super) fn dir(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Splits a path into its directory, opened, and its last component.
pub(super) fn parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = last(path)?;
    Ok((dir(directory(path))?, name))
}

/// The last component of a path, which must be a name.
pub(super) fn last(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))
}

/// The directory of a path; `.` for a name alone.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a path that has no link in it, not at its end either; close-on-exec. Only the user of this process can
/// change a file that is made.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let makes = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    // `openat2` refuses a mode where nothing is made.
    let mode = if makes { super::modes::file_mode() } else { Mode::empty() };
    let opened = match rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS) {
        // A kernel before 5.6, or a container that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(path, flags, mode),
        other => other,
    };
    opened.map_err(|error| explain(path, error))
}

fn step_by_step(path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let start = if path.is_absolute() { "/" } else { "." };
    let mut at = rustix::fs::openat(CWD, start, through, Mode::empty())?;
    let mut parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let Some(mut name) = parts.next() else { return rustix::fs::openat(&at, ".", flags, mode) };
    for next in parts {
        at = rustix::fs::openat(&at, name.as_os_str(), through, Mode::empty())?;
        name = next;
    }
    rustix::fs::openat(&at, name.as_os_str(), flags, mode)
}

/// Names the link, where one is the cause. A link that is opened as a directory is `ENOTDIR`.
fn explain(path: &Path, error: Errno) -> io::Error {
    if !matches!(error, Errno::LOOP | Errno::NOTDIR) {
        return error.into();
    }
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    match above.into_iter().find(|part| part.is_symlink()) {
        Some(link) => io::Error::new(io::ErrorKind::InvalidInput, ThroughLink { link: link.to_path_buf() }),
        None => error.into(),
    }
}

/// Opens a name in an open directory as a directory that can be listed; never through a link.
pub(super) fn list_at(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_anywhere_in_a_path_is_refused_and_named_also_where_the_kernel_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(base.join("real/inner")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        std::os::unix::fs::symlink("inner", base.join("real/last")).unwrap();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
        for (path, link) in [("link/inner", "link"), ("link", "link"), ("real/last", "real/last")] {
            let path = base.join(path);
            let error = super::dir(&path).unwrap_err();
            assert!(
                error.to_string().contains(&format!("`{}` is a symbolic link", base.join(link).display()))
            );
            assert!(step_by_step(&path, flags, Mode::empty()).is_err());
        }
        for path in [base.join("real/inner"), base.join("real/inner/.."), base.clone()] {
            super::dir(&path).unwrap();
            step_by_step(&path, flags, Mode::empty()).unwrap();
        }
        assert_eq!(super::dir(&base.join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
