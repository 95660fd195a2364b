//! What a job did to the repository it worked in: the proof that an agent's own words are not.
//!
//! A look before and a look after, and the difference: the tree of the work tree (committed, uncommitted and untracked),
//! the commits, every file with its SHA-256 and whether it is in scope, the files of the git directory that can run
//! programs, and what was written through links. Hard rule: the repository is only read.
//!
//! Not seen: what git ignores by the rules of before is told for single files only, not for ignored directories; special
//! files; files outside that no link leads to. A clean filter (as of large file storage) is never run, so a file that it
//! covers counts as changed once it was written, though its content be the same.

pub mod changes;
pub mod deadline;
mod feed;
pub mod git;
pub mod guard;
mod hashing;
mod hidden;
pub mod index;
pub mod links;
pub mod patch;
pub mod repository;
pub mod scope;
pub mod stamp;
mod status;
pub mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::causes::causes;
use crate::fs::{self, Scratch};
use crate::job::Reason;

pub use changes::{Changes, FileChange, Kind};
pub use deadline::Deadline;
pub use links::{OutsideChange, OutsideKind};
pub use patch::Patch;
pub use repository::{Repository, is_repository};
pub use scope::Scope;
pub use tree::Snapshot;

/// A repository before a job, and what the job may touch in it.
#[derive(Debug)]
pub struct Before {
    snapshot: Snapshot,
    scope: Option<Scope>,
    files: Vec<PathBuf>,
}

/// Looks at the repository of a job that is about to start. No patterns mean no scope. `scratch` is a directory that may be
/// written; a directory `evidence` in it is ours alone, and is removed when the last of what is given here is dropped.
///
/// # Errors
/// A reason with a code: `git_missing`, `not_a_repository`, `repository_not_trusted`, `work_tree_not_writable`,
/// `working_dir_outside_repository`, `scope_invalid`, `scope_matches_nothing`, `evidence_failed`.
pub fn before(
    repo_root: &Path,
    working_dir: &Path,
    patterns: &[String],
    scratch: &Path,
) -> Result<Before, Reason> {
    let deadline = Deadline::of_a_look();
    let repository = is_repository(repo_root, deadline)?;
    let path = |path: &Path| fs::canonical(path).map_err(|error| Reason::new("path_missing", causes(&error)));
    let (root, working) = (path(repo_root)?, path(working_dir)?);
    if !working.starts_with(&repository.top) {
        let (dir, top) = (working_dir.display(), repository.top.display());
        let message = format!("the working directory `{dir}` is not in the repository `{top}`");
        return Err(Reason::new("working_dir_outside_repository", message));
    }
    if let Err(error) = rustix::fs::access(&working, rustix::fs::Access::WRITE_OK) {
        let message = format!("`{}` can not be written: {error}", working.display());
        return Err(Reason::new("work_tree_not_writable", message));
    }
    let scope = match patterns.is_empty() {
        true => None,
        false => Some(Scope::new(&relative(patterns, repo_root), &repository.top, &root)?),
    };
    let scratch = Scratch::fresh(scratch, "evidence");
    let scratch = Arc::new(scratch.map_err(|error| Reason::new("evidence_failed", causes(&error)))?);
    let snapshot = Snapshot::of(repository, &scratch, deadline)?;
    let files = match &scope {
        Some(scope) => {
            let paths: Vec<PathBuf> = snapshot.files();
            scope.check(&snapshot.repository.top, &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())?
        }
        None => Vec::new(),
    };
    Ok(Before { snapshot, scope, files })
}

/// A path below the repository as it was named, be it through a link, becomes relative.
fn relative(patterns: &[String], repo_root: &Path) -> Vec<String> {
    let relative = |pattern: &String| match Path::new(pattern).strip_prefix(repo_root) {
        Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        Ok(rest) if Path::new(pattern).is_absolute() => {
            let slash = if pattern.ends_with('/') { "/" } else { "" };
            format!("{}{slash}", rest.to_string_lossy())
        }
        _ => pattern.clone(),
    };
    patterns.iter().map(relative).collect()
}

impl Before {
    /// The files that the scope means, relative to the top of the repository; also those that are still to be created.
    #[must_use]
    pub fn scope_files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The look before.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Looks again, and says what is different. May be asked more than once.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn after(&self) -> Result<Changes, Reason> {
        self.snapshot.compare(&self.snapshot.again()?, self.scope.as_ref(), None)
    }

    /// The same without the files that are no change (`Scope::of_no_change`): they are neither told nor out of scope.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn after_without(&self, no_change: &Scope) -> Result<Changes, Reason> {
        self.snapshot.compare(&self.snapshot.again()?, self.scope.as_ref(), Some(no_change))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::helper;

    #[test]
    fn a_look_without_time_is_an_error_and_no_look_at_a_replaced_repository() {
        let dir = tempfile::tempdir().unwrap();
        let (top, scratch) = (dir.path().join("top"), dir.path().join("scratch"));
        for inner in ["", "inner"] {
            let path = top.join(inner);
            let init = ["init", "-q", &path.to_string_lossy()];
            let made = helper::run("git", &init, dir.path(), Duration::from_secs(60)).unwrap();
            assert_eq!(made.code, Some(0), "{}", made.text);
        }
        let before = before(&top, &top, &[], &scratch).unwrap();
        assert!(before.snapshot().again().is_ok());
        let over = Deadline::within(Duration::ZERO);
        let inner = before.snapshot().nested.values().next().unwrap();
        let looks = [
            is_repository(&top, over).err(),
            before.snapshot().again_until(over).err(),
            inner.again_until(over).err(),
        ];
        for reason in looks {
            let reason = reason.unwrap();
            assert_eq!(reason.code, "evidence_failed");
            let is_told =
                reason.message.contains("longer than 0 s") && reason.message.contains("`git rev-parse`");
            assert!(is_told, "{}", reason.message);
        }
    }
}
