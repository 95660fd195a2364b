//! Calls of git: environment, options, time, and failures.
//!
//! Hard rule: a call reads the repository itself, writes a private git directory whose configuration is ours, or is one of
//! `write`. In the first two no filter, hook, file system monitor or ignore rule of an agent takes part; in the last no hook
//! and no file system monitor.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deadline::{Deadline, Stop};
use super::program::Program;
use crate::causes::Shortage;
use crate::fs;
use crate::job::{Code, Reason};
use crate::process::helper::{self, Captured, Helper, HelperError};

/// A list of paths longer than this is not read.
const MAX_LIST_BYTES: usize = 256 << 20;

/// Variables that would change what git answers, beside those that lead it elsewhere.
const REMOVED: [&str; 12] = [
    "GIT_ASKPASS",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DIFF_OPTS",
    "GIT_EXTERNAL_DIFF",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_INDEX_VERSION",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_TRACE",
];

/// Settings of the caller. On the repository itself they count (`safe.directory`), and those calls run no program; where
/// git reads files they could name a filter.
const SETTINGS_OF_THE_CALLER: [&str; 2] = ["GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"];

/// The options of every call.
const OPTIONS: [&str; 9] = [
    "-c",
    "core.quotePath=false",
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.untrackedCache=false",
];

/// The options of a call that writes. The safety of line breaks is a person's to judge: where it refuses a file, no tree can be
/// recorded. The other settings would start a program of their own, make two files of one index, or hide a change from git.
const OPTIONS_OF_WRITING: [&str; 12] = [
    "core.checkStat=default",
    "core.ignoreStat=false",
    "core.trustctime=true",
    "core.safecrlf=false",
    "core.splitIndex=false",
    "index.sparse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "log.showSignature=false",
    "submodule.recurse=false",
    "i18n.commitEncoding=UTF-8",
    "advice.addEmbeddedRepo=false",
];

/// git syncs no reference by itself.
const DURABLE: &str = "core.fsync=reference";

/// The variables of every call. Grafts, like replaced objects, would give a commit other parents than it has.
const SET: [(&str, &str); 5] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "true"),
    ("GIT_GRAFT_FILE", "/dev/null/none"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("LC_ALL", "C"),
];

/// The variables of every call that does not write. No protocol is allowed, so a missing object is never fetched: old versions
/// of git do not know `GIT_NO_LAZY_FETCH`. A checkout may fetch, because the files of a partial clone are nowhere else.
const SET_WITHOUT_FETCHING: [(&str, &str); 2] = [("GIT_NO_LAZY_FETCH", "1"), ("GIT_ALLOW_PROTOCOL", "none")];

/// The variables of a call on a private git directory. Its index is ours, so git may write into it what it saw of the files.
const SET_IN_PRIVATE: [(&str, &str); 4] = [
    ("GIT_OPTIONAL_LOCKS", "1"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
];

/// Calls git for one task.
#[derive(Debug, Clone)]
pub struct Client {
    /// The program.
    pub program: Program,
    /// The end of the task's time.
    pub deadline: Deadline,
    /// Ends the task early.
    pub stop: Stop,
}

impl Client {
    /// True if the task is over: a call that failed may have been ended, and then says nothing of the repository.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.deadline.is_over() || self.stop.is_asked()
    }

    /// True if the repository at `top` ignores a directory in it; false where git does not say.
    #[must_use]
    pub fn is_ignored(&self, top: &Path, dir: &Path) -> bool {
        let asked = Call::new(self, top, GitDir::Repository, &["check-ignore", "-q", "--"]).arg(dir).answer();
        asked.is_ok_and(|answer| answer.code == Some(0))
    }
}

/// The git directory of a call.
#[derive(Debug, Clone, Copy)]
pub enum GitDir<'a> {
    /// The repository's own, found from the working directory; read only.
    Repository,
    /// A private one of ours, with an index.
    Private {
        /// The git directory.
        git_dir: &'a Path,
        /// The worktree.
        work_tree: &'a Path,
        /// The index.
        index: &'a Path,
    },
    /// The repository's own, which the call changes; run by `write`.
    Written {
        /// The linked worktree that the call is about; if none, the repository of the working directory.
        work_tree: Option<WorkTree<'a>>,
        /// Whether references are synced; objects are not.
        durable: bool,
    },
}

/// A linked worktree. Its paths are given to git, so nothing in the worktree decides which repository a call is about.
#[derive(Debug, Clone, Copy)]
pub struct WorkTree<'a> {
    /// Its own git directory.
    pub git_dir: &'a Path,
    /// The git directory of the repository.
    pub common_dir: &'a Path,
    /// The top of the worktree.
    pub top: &'a Path,
    /// The index.
    pub index: &'a Path,
}

/// The verb of arguments that settings may come before.
fn verb<'a>(args: &[&'a str]) -> &'a str {
    match args {
        ["-c", _, rest @ ..] => verb(rest),
        [verb, ..] => verb,
        [] => "",
    }
}

/// One call of git.
#[derive(Debug)]
pub struct Call<'a> {
    helper: Helper<'a>,
    deadline: Deadline,
    at_most: Duration,
    verb: String,
    kept: Kept,
}

/// What of a repository a call that is killed may leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    /// Nothing: it reads.
    Nothing,
    /// The lock file of an index that is ours alone.
    OwnLock(PathBuf),
    /// What its caller knows to complete.
    Unknown,
}

/// How often a call is made that is killed and may be repeated.
const MOST_CALLS: u32 = 3;

impl<'a> Call<'a> {
    /// A call with these arguments in a directory, with the time that the task has left.
    #[must_use]
    pub fn new(client: &'a Client, cwd: &'a Path, git_dir: GitDir<'_>, args: &[&str]) -> Self {
        let text = |(name, value): (&str, &str)| (OsString::from(name), OsString::from(value));
        let mut set: Vec<(OsString, OsString)> = SET.map(text).to_vec();
        set.push(("PATH".into(), client.program.search.clone()));
        set.extend(client.program.home.clone().map(|home| ("HOME".into(), home)));
        let mut removed: Vec<&str> = REMOVED.to_vec();
        let mut options: Vec<&str> = OPTIONS.to_vec();
        let mut paths: Vec<(&str, &Path)> = Vec::new();
        let mut kept = Kept::Unknown;
        match git_dir {
            GitDir::Repository => {
                kept = Kept::Nothing;
                set.extend(SET_WITHOUT_FETCHING.map(text));
                set.push(("GIT_OPTIONAL_LOCKS".into(), "0".into()));
            }
            GitDir::Private { git_dir, work_tree, index } => {
                let mut lock = index.as_os_str().to_owned();
                lock.push(".lock");
                kept = Kept::OwnLock(lock.into());
                paths.extend([("GIT_DIR", git_dir), ("GIT_WORK_TREE", work_tree), ("GIT_INDEX_FILE", index)]);
                set.extend(SET_WITHOUT_FETCHING.into_iter().chain(SET_IN_PRIVATE).map(text));
                removed.extend(SETTINGS_OF_THE_CALLER);
            }
            GitDir::Written { work_tree, durable } => {
                options.extend(OPTIONS_OF_WRITING.into_iter().flat_map(|option| ["-c", option]));
                options.extend(durable.then_some(["-c", DURABLE]).into_iter().flatten());
                if let Some(WorkTree { git_dir, common_dir, top, index }) = work_tree {
                    paths.extend([("GIT_DIR", git_dir), ("GIT_COMMON_DIR", common_dir)]);
                    paths.extend([("GIT_WORK_TREE", top), ("GIT_INDEX_FILE", index)]);
                }
            }
        }
        set.extend(paths.into_iter().map(|(name, path)| (name.into(), path.into())));
        let deadline = client.deadline;
        let helper = Helper {
            exe: client.program.exe.as_os_str(),
            args: options.iter().chain(args).map(OsString::from).collect(),
            cwd,
            set,
            removed,
            input: Vec::new(),
            max_bytes: MAX_LIST_BYTES,
            wait: deadline.left(),
            stop: client.stop.hook(),
        };
        Self { helper, deadline, at_most: Duration::MAX, verb: verb(args).to_owned(), kept }
    }

    /// Adds an argument that is a path.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.helper.args.push(arg.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.helper.set.push((name.into(), value.into()));
        self
    }

    /// Gives it standard input.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.helper.input = bytes;
        self
    }

    /// Cuts its output.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.helper.max_bytes = bytes;
        self
    }

    /// Ends it after this time, if the task has not less.
    #[must_use]
    pub fn within(mut self, wait: Duration) -> Self {
        self.at_most = wait;
        self
    }

    /// Runs it, and gives its answer, whether or not it succeeded. One that only reads, or writes to a directory of ours, is made
    /// again if it is killed: that says nothing of the repository.
    ///
    /// # Errors
    /// A reason where it could not be started or the task is over.
    pub fn answer(mut self) -> Result<Captured, Reason> {
        for _ in 1..MOST_CALLS {
            let captured = self.run()?;
            match &self.kept {
                // One that printed too much was ended here.
                _ if captured.cut || captured.code.is_some() || (self.helper.stop)() => return Ok(captured),
                Kept::Unknown => return Ok(captured),
                Kept::Nothing => {}
                Kept::OwnLock(lock) => drop(fs::remove(lock)),
            }
        }
        self.run()
    }

    fn run(&mut self) -> Result<Captured, Reason> {
        let (step, deadline) = (format!("in `git {}`", self.verb), self.deadline);
        let missed = || deadline.missed(&step);
        if deadline.is_over() {
            return Err(missed());
        }
        self.helper.wait = deadline.left().min(self.at_most);
        helper::capture(&self.helper).map_err(|error| match error {
            HelperError::TookTooLong { .. } => missed(),
            HelperError::Interrupted { .. } => {
                Reason::new(Code::Interrupted, format!("{} was interrupted {step}", deadline.task))
            }
            error @ HelperError::NotStarted { .. } if self.helper.cwd.is_dir() => not_run(&error),
            HelperError::NotStarted { .. } => {
                let message = format!("the directory `{}` is gone", self.helper.cwd.display());
                Reason::new(Code::PathMissing, message)
            }
        })
    }

    /// Runs it, and gives its output.
    ///
    /// # Errors
    /// A reason where it failed, or printed more than is read.
    pub fn output(self) -> Result<Vec<u8>, Reason> {
        let verb = self.verb.clone();
        let captured = self.answer()?;
        if captured.cut {
            let message = format!("`git {verb}` printed more than {} MB", MAX_LIST_BYTES >> 20);
            return Err(Reason::new(Code::EvidenceFailed, message));
        }
        if captured.code != Some(0) {
            return Err(failed(&verb, &captured));
        }
        Ok(captured.stdout)
    }

    /// The verb, and the directory that it is run in.
    pub(super) fn about(&self) -> (String, &'a Path) {
        (self.verb.clone(), self.helper.cwd)
    }
}

fn not_run(error: &HelperError) -> Reason {
    match error {
        HelperError::NotStarted { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Reason::new(Code::GitMissing, "there is no program `git` on the PATH: install git")
        }
        _ => Reason::from_error(Code::EvidenceFailed, error),
    }
}

/// The reason of a call that failed.
#[must_use]
pub(crate) fn failed(verb: &str, captured: &Captured) -> Reason {
    let said = String::from_utf8_lossy(&captured.stderr);
    let said = said.trim();
    if said.contains("dubious ownership") {
        let message = "git does not trust the repository, which belongs to another user: run as its owner, or \
                       allow it by `git config --global --add safe.directory DIR`";
        return Reason::new(Code::RepositoryNotTrusted, format!("{message} ({})", first_line(said)));
    }
    if said.contains("not a git repository") {
        return Reason::new(Code::NotARepository, first_line(said).to_owned());
    }
    let Some(code) = captured.code else {
        return Reason::new(Code::GitKilled, format!("`git {verb}` was killed by a signal"));
    };
    let message = format!("`git {verb}` failed with exit {code}: {}", last_line(said));
    Reason { shortage: Shortage::reported_by(said), ..Reason::new(Code::EvidenceFailed, message) }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str) -> Captured {
        Captured { code: Some(128), stdout: Vec::new(), stderr: stderr.into(), cut: false }
    }

    #[test]
    fn a_repository_of_another_user_is_told_from_a_directory_that_is_none() {
        let stderr = "fatal: detected dubious ownership in repository at '/r'\nTo add an exception\n";
        let reason = failed("rev-parse", &said(stderr));
        assert_eq!(reason.code, Code::RepositoryNotTrusted);
        assert!(reason.message.contains("safe.directory") && reason.message.contains("'/r'"));
        let stderr = "fatal: not a git repository (or any of the parent directories): .git\n";
        assert_eq!(failed("rev-parse", &said(stderr)).code, Code::NotARepository);
        let other = failed("status", &said("warning: x\nfatal: index file corrupt"));
        assert_eq!(other.code, Code::EvidenceFailed);
        assert!(other.message.contains("index file corrupt"), "{}", other.message);
        assert_eq!(other.shortage, None);
        let short =
            failed("status", &said("warning: x\nfatal: cannot fork: Resource temporarily unavailable\n"));
        assert_eq!(short.shortage, Some(Shortage::Processes));
    }
}
