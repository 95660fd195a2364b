//! The calls of git, so that none of them runs a program that the repository names, waits, or changes the repository.
//!
//! Responsible for the environment and options of each call and for what its failure is called. Hard rule: a call on the
//! repository itself only reads; what writes an index or an object does it in a git directory of our own, whose
//! configuration is ours. So no filter, hook, file system monitor or ignore rule of an agent takes part.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::deadline::Deadline;
use crate::causes::causes;
use crate::job::Reason;
use crate::process::helper::{self, Captured, Helper, HelperError};

/// A list of paths longer than this is not read.
const MAX_LIST_BYTES: usize = 256 << 20;

/// Variables by which somebody's environment would lead git elsewhere, or make it start something.
const REMOVED: [&str; 22] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIFF_OPTS",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_INDEX_FILE",
    "GIT_INDEX_VERSION",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_WORK_TREE",
];

/// What holds for every call.
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

/// Whose git directory a call is about.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// The repository's own, found from the working directory; read only.
    Own,
    /// One of ours, with an index.
    Ours {
        /// The git directory.
        git_dir: &'a Path,
        /// The work tree.
        work_tree: &'a Path,
        /// The index.
        index: &'a Path,
    },
}

/// One call of git.
#[derive(Debug)]
pub struct Git<'a> {
    helper: Helper<'a>,
    deadline: Deadline,
}

impl<'a> Git<'a> {
    /// A call with these arguments in a directory, which has the time that the look has left.
    #[must_use]
    pub fn new(cwd: &'a Path, place: Place<'_>, args: &[&str], deadline: Deadline) -> Self {
        let mut set: Vec<(OsString, OsString)> = [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_EDITOR", "true"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("LC_ALL", "C"),
        ]
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        match place {
            Place::Own => set.push(("GIT_OPTIONAL_LOCKS".into(), "0".into())),
            Place::Ours { git_dir, work_tree, index } => {
                let paths = [("GIT_DIR", git_dir), ("GIT_WORK_TREE", work_tree), ("GIT_INDEX_FILE", index)];
                set.extend(paths.map(|(name, path)| (name.into(), path.into())));
                let settings = [
                    // The index is ours: what a look at a file has shown is kept for the next look.
                    ("GIT_OPTIONAL_LOCKS", "1"),
                    ("GIT_CONFIG_NOSYSTEM", "1"),
                    ("GIT_CONFIG_GLOBAL", "/dev/null"),
                    ("GIT_ATTR_NOSYSTEM", "1"),
                ];
                set.extend(settings.map(|(name, value)| (name.into(), value.into())));
            }
        }
        let args = OPTIONS.iter().chain(args).map(OsString::from).collect();
        let exe = OsStr::new("git");
        let (max_bytes, wait, input) = (MAX_LIST_BYTES, deadline.left(), Vec::new());
        Self { helper: Helper { exe, args, cwd, set, removed: &REMOVED, input, max_bytes, wait }, deadline }
    }

    /// Adds an argument that is a path.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.helper.args.push(arg.into());
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

    /// Runs it, whatever it answers.
    ///
    /// # Errors
    /// A reason where it could not be started or the time of the look is over.
    pub fn answer(mut self) -> Result<Captured, Reason> {
        let (what, deadline) = (format!("in `git {}`", self.verb()), self.deadline);
        let missed = || deadline.missed(&what);
        if deadline.is_over() {
            return Err(missed());
        }
        self.helper.wait = deadline.left();
        helper::capture(&self.helper).map_err(|error| match error {
            HelperError::TookTooLong { .. } => missed(),
            error @ HelperError::NotStarted { .. } => not_run(&error),
        })
    }

    /// Runs it, and gives what it printed.
    ///
    /// # Errors
    /// A reason where it failed, or printed more than is read.
    pub fn output(self) -> Result<Vec<u8>, Reason> {
        let what = self.verb();
        let captured = self.answer()?;
        if captured.cut {
            let message = format!("`git {what}` printed more than {} MB", MAX_LIST_BYTES >> 20);
            return Err(Reason::new("evidence_failed", message));
        }
        if captured.code != Some(0) {
            return Err(failed(&what, &captured));
        }
        Ok(captured.stdout)
    }

    fn verb(&self) -> String {
        let verb = self.helper.args.get(OPTIONS.len());
        verb.map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn not_run(error: &HelperError) -> Reason {
    match error {
        HelperError::NotStarted { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Reason::new("git_missing", "there is no program `git` on the PATH: install git")
        }
        _ => Reason::new("evidence_failed", causes(error)),
    }
}

/// What git's own failure means.
#[must_use]
pub fn failed(verb: &str, captured: &Captured) -> Reason {
    let said = String::from_utf8_lossy(&captured.stderr);
    let said = said.trim();
    if said.contains("dubious ownership") {
        let message = "git does not trust the repository, which belongs to another user: run as its owner, or \
                       allow it by `git config --global --add safe.directory DIR`";
        return Reason::new("repository_not_trusted", format!("{message} ({})", first_line(said)));
    }
    if said.contains("not a git repository") {
        return Reason::new("not_a_repository", first_line(said).to_owned());
    }
    let code = captured.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit {code}"));
    Reason::new("evidence_failed", format!("`git {verb}` failed with {code}: {}", last_line(said)))
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
        assert_eq!(reason.code, "repository_not_trusted");
        assert!(reason.message.contains("safe.directory") && reason.message.contains("'/r'"));
        let stderr = "fatal: not a git repository (or any of the parent directories): .git\n";
        assert_eq!(failed("rev-parse", &said(stderr)).code, "not_a_repository");
        let other = failed("status", &said("warning: x\nfatal: index file corrupt"));
        assert_eq!(other.code, "evidence_failed");
        assert!(other.message.contains("index file corrupt"), "{}", other.message);
    }
}
