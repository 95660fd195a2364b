//! Finds a program in a search path, before anything is forked.
//!
//! An `execve` that fails costs ten times a look at the file, and does not say that the file is there but may not be
//! executed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

/// What was found of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// Here.
    At(PathBuf),
    /// Only a file that may not be executed.
    NotExecutable(PathBuf),
    /// Nothing.
    Missing,
}

/// Where programs are without PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// Finds a program as a shell would: a name with a slash is a path, relative to `cwd`; any other is looked up in `path`.
#[must_use]
pub(crate) fn find(exe: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Program {
    if exe.as_encoded_bytes().contains(&b'/') {
        let path = cwd.join(exe);
        // A directory is found, too, but nothing that runs.
        return match look(&path) {
            // It may be there where a directory that leads to it cannot be entered.
            Program::Missing if may_be_there(&path) => Program::NotExecutable(path),
            found => found,
        };
    }
    let mut not_executable = Program::Missing;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        match look(&cwd.join(dir).join(exe)) {
            Program::At(found) => return Program::At(found),
            found @ Program::NotExecutable(_) if not_executable == Program::Missing => not_executable = found,
            Program::NotExecutable(_) | Program::Missing => {}
        }
    }
    not_executable
}

fn may_be_there(path: &Path) -> bool {
    path.try_exists().unwrap_or_else(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn look(candidate: &Path) -> Program {
    match rustix::fs::access(candidate, Access::EXEC_OK) {
        // Most directories of a search path do not have it.
        Err(Errno::NOENT) => Program::Missing,
        Ok(()) if candidate.is_file() => Program::At(candidate.to_path_buf()),
        Err(_) if candidate.is_file() => Program::NotExecutable(candidate.to_path_buf()),
        Ok(()) | Err(_) => Program::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_executable_file_counts_and_a_mere_file_is_told_apart_from_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            crate::fs::create_dir(path.parent().unwrap()).unwrap();
            let file = crate::fs::create_new(&path, b"").unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("a/tool", 0o600);
        put("b/tool", 0o700);
        put("a/only", 0o600);
        let find = |exe: &str| find(exe.as_ref(), Some("a:b".as_ref()), dir.path());
        assert_eq!(find("tool"), Program::At(dir.path().join("b/tool")));
        assert_eq!(find("only"), Program::NotExecutable(dir.path().join("a/only")));
        assert_eq!(find("none"), Program::Missing);
        assert_eq!(find("./b/tool"), Program::At(dir.path().join("./b/tool")));
        assert_eq!(find("./a"), Program::NotExecutable(dir.path().join("./a")));
    }
}
