//! The changes of a job to its repository: proof, unlike the agent's own words.
//!
//! A look before and a look after, and the difference: the tree of the worktree (committed, uncommitted and untracked),
//! the commits, every file with its SHA-256 and whether it is in scope, the files of the git directory that can run
//! programs, and what was written through links; and whether the repository held all of it before. Hard rule: the repository
//! is only read.
//!
//! Not seen: files in directories that git ignored before the job (single ignored files are listed); special files; files
//! outside that no link leads to. A clean filter (as of large file storage) is never run, so a file that it covers counts as
//! changed once it is written, even if its content is the same.

mod changes;
mod content;
mod guard;
mod known;
mod links;
mod look;
mod patch;
mod rules;
mod scope;
mod settings;
mod snapshot;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs;
use crate::git::{Client, Deadline, Program, Repository, Stop};
use crate::job::{Code, Reason};
use known::Known;
use look::Look;

pub use crate::git::index::Kind;
pub use changes::Changes;
pub(crate) use guard::Guarded;
pub(crate) use links::Links;
pub use scope::{Scope, Unmatched};
pub(crate) use snapshot::Snapshot;

/// A longer look is given up: nothing waits for ever for the evidence of a job that has ended.
const LOOK: Duration = Duration::from_secs(120);

/// The deadline of a look that begins now.
fn deadline() -> Deadline {
    Deadline::new("the look at the worktree", LOOK)
}

/// The means of a look.
#[derive(Debug, Clone)]
pub struct Means {
    /// The search path for git.
    pub search_path: Option<OsString>,
    /// The home directory of git; if none, the inherited one.
    pub home: Option<OsString>,
    /// Ends the look early.
    pub stop: Stop,
    /// The space that stays free.
    pub min_free_bytes: u64,
    /// What becomes of a pattern that matches nothing yet.
    pub unmatched: Unmatched,
}

/// A repository before a job, and what the job may touch in it. All of it is in memory.
#[derive(Debug)]
pub struct WorkTreeBefore {
    snapshot: Snapshot,
    known: Known,
    scope: Option<Scope>,
    files: Vec<PathBuf>,
    program: Program,
    scratch: PathBuf,
    min_free_bytes: u64,
}

/// Looks at the repository of a job that is about to start. No patterns mean no scope. `scratch` is a directory that may be
/// written; a look makes a directory `evidence` in it for itself, and removes it at its end.
///
/// # Errors
/// A reason with a code: `git_missing`, `not_a_repository`, `repository_not_trusted`, `work_tree_elsewhere`,
/// `work_tree_not_writable`, `working_dir_outside_repository`, `scope_invalid`, `scope_matches_nothing`, `interrupted`,
/// `evidence_failed`.
pub fn before(
    (repo_root, working_dir): (&Path, &Path),
    patterns: &[String],
    scratch: &Path,
    means: &Means,
) -> Result<WorkTreeBefore, Reason> {
    let program = Program::find(means.search_path.as_deref(), means.home.clone(), repo_root)?;
    let client = Client { program: program.clone(), deadline: deadline(), stop: means.stop.clone() };
    let repository = Repository::find_writable(repo_root, &client)?;
    let path =
        |path: &Path| fs::canonical(path).map_err(|error| Reason::from_error(Code::PathMissing, &error));
    let (root, working) = (path(repo_root)?, path(working_dir)?);
    if !working.starts_with(&repository.top) {
        let (dir, top) = (working_dir.display(), repository.top.display());
        let message = format!("the working directory `{dir}` is not in the repository `{top}`");
        return Err(Reason::new(Code::WorkingDirOutsideRepository, message));
    }
    if let Err(error) = rustix::fs::access(&working, rustix::fs::Access::WRITE_OK) {
        let message = format!("`{}` cannot be written: {error}", working.display());
        return Err(Reason::new(Code::WorkTreeNotWritable, message));
    }
    let scope = match patterns.is_empty() {
        true => None,
        false => Some(Scope::new(&relative(patterns, repo_root), &repository.top, &root)?),
    };
    let look = Look::begin(scratch, client, means.min_free_bytes)?;
    let known = Known::read(&repository, &look)?;
    let snapshot = Snapshot::take(repository, &look)?;
    let files = match &scope {
        Some(scope) => {
            let paths: Vec<PathBuf> = snapshot.files();
            let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
            scope.check(&snapshot.repository.top, &paths, means.unmatched)?
        }
        None => Vec::new(),
    };
    let (scratch, min_free_bytes) = (scratch.to_path_buf(), means.min_free_bytes);
    Ok(WorkTreeBefore { snapshot, known, scope, files, program, scratch, min_free_bytes })
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

impl WorkTreeBefore {
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

    /// Looks again, and gives the difference. It may be called more than once.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn after(&self) -> Result<Changes, Reason> {
        self.look_again(None, deadline(), Stop::never())
    }

    /// The same without the files that are no change (`Scope::of_no_change`): they are neither listed nor out of scope.
    ///
    /// # Errors
    /// A reason where git fails, or the look is ended before.
    pub fn after_without(&self, no_change: &Scope, stop: Stop) -> Result<Changes, Reason> {
        self.look_again(Some(no_change), deadline(), stop)
    }

    fn look_again(
        &self,
        no_change: Option<&Scope>,
        deadline: Deadline,
        stop: Stop,
    ) -> Result<Changes, Reason> {
        self.program.is_still_the_same()?;
        let client = Client { program: self.program.clone(), deadline, stop };
        let look = Look::begin(&self.scratch, client, self.min_free_bytes)?;
        let after = self.snapshot.again(&look)?;
        self.snapshot.compare(&after, &look, (self.scope.as_ref(), no_change), &self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::helper;

    #[test]
    fn a_look_without_time_is_an_error_and_no_look_at_a_replaced_repository() {
        let dir = tempfile::tempdir().unwrap();
        let (top, scratch) = (dir.path().join("top"), dir.path().join("scratch"));
        for inner in ["", "inner"] {
            let path = top.join(inner);
            let init = ["init", "-q", &path.to_string_lossy()];
            let wait = (Duration::from_secs(60), &(|| false) as &dyn Fn() -> bool);
            let made = helper::run("git", &init, dir.path(), wait).unwrap();
            assert_eq!(made.code, Some(0), "{}", made.text);
        }
        let means = Means {
            search_path: None,
            home: None,
            stop: Stop::never(),
            min_free_bytes: 0,
            unmatched: Unmatched::Refused,
        };
        let before = before((&top, &top), &[], &scratch, &means).unwrap();
        assert!(before.after().is_ok());
        let over = Deadline::new("a look", Duration::ZERO);
        let client = Client { program: before.program.clone(), deadline: over, stop: Stop::never() };
        let look = Look::begin(&scratch, client.clone(), 0).unwrap();
        let inner = before.snapshot().nested.values().next().unwrap();
        let looks = [
            Repository::find_writable(&top, &client).err(),
            before.snapshot().again(&look).err(),
            inner.again(&look).err(),
        ];
        for reason in looks {
            let reason = reason.unwrap();
            assert_eq!(reason.code, Code::EvidenceFailed);
            let is_told =
                reason.message.contains("longer than 0 s") && reason.message.contains("`git rev-parse`");
            assert!(is_told, "{}", reason.message);
        }
        let stopped = before.look_again(None, deadline(), Stop::new(|| true)).unwrap_err();
        assert_eq!(stopped.code, Code::Interrupted);
    }
}
