//! The program git.
//!
//! Responsible for finding it outside of what it is run on. Hard rule: a job decides neither which file runs as git nor which
//! programs git finds.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::fs::{self, Stamp};
use crate::job::{Code, Reason};
use crate::process::program::{self, Program as Found};

/// Its name, and the beginning of those of its parts.
pub(super) const NAME: &str = "git";

/// The program git, found once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(super) exe: PathBuf,
    /// The search path for what git itself starts.
    pub(super) search: OsString,
    /// The home directory that it is given; if none, the inherited one.
    pub(super) home: Option<OsString>,
    /// Of the file, and of what it is a link to.
    stamps: [Option<Stamp>; 2],
}

impl Program {
    /// Finds git in a search path. It skips relative entries, entries in the outermost worktree that `dir` is in, and links
    /// that lead there: a job that writes in the worktree would decide what runs. `home` is the home directory that git is given:
    /// without one it refuses every setting that begins with `~/`.
    ///
    /// # Errors
    /// `git_missing`, with the entries that were skipped.
    pub fn find(search: Option<&OsStr>, home: Option<OsString>, dir: &Path) -> Result<Self, Reason> {
        let dir = fs::canonical(dir).unwrap_or_else(|_| dir.to_path_buf());
        let is_top = |above: &&Path| std::fs::symlink_metadata(above.join(".git")).is_ok();
        let inside = dir.ancestors().filter(is_top).last().unwrap_or(&dir);
        let is_safe = |path: &Path| {
            path.is_absolute() && fs::canonical(path).map_or(true, |path| !path.starts_with(inside))
        };
        let all = search.unwrap_or(OsStr::new(program::DEFAULT_PATH));
        let (safe, unsafe_): (Vec<PathBuf>, Vec<PathBuf>) =
            std::env::split_paths(all).partition(|entry| is_safe(entry));
        let search = std::env::join_paths(&safe).unwrap_or_default();
        for entry in &safe {
            if let Found::At(exe) = program::find(OsStr::new(NAME), Some(entry.as_os_str()), Path::new("/"))
                && is_safe(&exe)
            {
                return Ok(Self { stamps: stamps(&exe), exe, search, home });
            }
        }
        let passed_over = unsafe_.iter().map(|entry| format!("`{}`", entry.display())).collect::<Vec<_>>();
        let but = match passed_over.is_empty() {
            true => String::new(),
            false => format!(
                " (not searched, because they are relative or in the worktree `{}`: {})",
                inside.display(),
                passed_over.join(", ")
            ),
        };
        Err(Reason::new(Code::GitMissing, format!("there is no program `git` on the PATH{but}: install git")))
    }

    /// Checks that it is still the file that was found.
    ///
    /// # Errors
    /// `evidence_failed` if it was replaced.
    pub fn is_still_the_same(&self) -> Result<(), Reason> {
        if stamps(&self.exe) == self.stamps {
            return Ok(());
        }
        let message = format!("`{}` was replaced while the tool ran, and is not run", self.exe.display());
        Err(Reason::new(Code::EvidenceFailed, message))
    }
}

fn stamps(exe: &Path) -> [Option<Stamp>; 2] {
    [Stamp::read(exe), fs::canonical(exe).ok().and_then(|path| Stamp::read(&path))]
}
