//! Tests of worktrees on repositories of their own, with the real git.

mod asides;
mod checkpoints;
mod clean;
mod crashes;
mod hands;
mod hostile;
mod integrations;
mod merges;
mod odd;
mod refs;
mod trees;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Place;
use super::checkpoint::take;
use super::content::{Counted, tree_now};
use super::git::{Head, heads};
use super::tree::{Found, make_or_find};
use crate::evidence::Scope;
use crate::git::{Client, Deadline, Program, Repository, Stop};

/// A repository with one commit, and the place of a workstream `r1.ws-a`.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub(super) place: Place,
    pub(super) base: String,
}

/// A client of git with a home of its own.
pub(super) fn client(dir: &Path) -> Client {
    let home = Some(OsString::from(dir.join("home")));
    Client {
        program: Program::find(None, home, dir).unwrap(),
        deadline: Deadline::new("the test", Duration::from_secs(60)),
        stop: Stop::never(),
    }
}

/// Runs a script in a directory as a person or an agent would.
#[expect(clippy::disallowed_methods, reason = "plays the agent")]
pub(super) fn sh(home: &Path, dir: &Path, script: &str) -> String {
    let mut command = std::process::Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    let ended = command.args(["-ec", script]).current_dir(dir).env("HOME", home).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{script}: {said}");
    String::from_utf8_lossy(ended.stdout.trim_ascii_end()).into_owned()
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with("user.name=Ada user.email=ada@example.com", true)
    }

    pub(super) fn with(settings: &str, durable: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        let script = format!(
            "mkdir home repo; cd repo; git init -q -b main; mkdir src
             echo 'def add(a, b): return a - b' > src/calc.py; echo one > src/one.txt; echo two > src/two.txt
             echo 'def test_a(): pass' > src/test_calc.py
             printf 'build/\\n*.log\\nliteral.gen\\n' > .gitignore; ln -s one.txt src/link
             git add -A; git -c user.name=Ada -c user.email=a@b commit -q -m base
             for setting in {settings}; do git config \"${{setting%%=*}}\" \"${{setting#*=}}\"; done"
        );
        sh(&base.join("home"), &base, &script);
        let repository = Repository::find(&base.join("repo"), &client(&base)).unwrap();
        let place = Place::new(repository.clone(), base.join("trees/r1/ws-a"), ("r1", "ws-a"), durable);
        Self { dir, base: repository.head.unwrap(), place }
    }

    /// Another one of the same content, before anything was made.
    pub(super) fn copied(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        sh(&base, &self.path(), &format!("cp -a home repo {}", base.display()));
        let place = Place {
            repo: base.join("repo"),
            common_dir: base.join("repo/.git"),
            dir: base.join("trees/r1/ws-a"),
            ..self.place.clone()
        };
        Self { dir, base: self.base.clone(), place }
    }

    /// With the worktree made.
    pub(super) fn made() -> Self {
        let bench = Self::new();
        assert_eq!(bench.find(), Found::Made);
        bench
    }

    pub(super) fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap()
    }

    pub(super) fn client(&self) -> Client {
        client(&self.path())
    }

    pub(super) fn find(&self) -> Found {
        make_or_find(&self.place, &self.base, &self.client()).unwrap()
    }

    /// In the worktree.
    pub(super) fn agent(&self, script: &str) -> String {
        sh(&self.path().join("home"), &self.place.dir, script)
    }

    /// In the checkout of the user.
    pub(super) fn user(&self, script: &str) -> String {
        sh(&self.path().join("home"), &self.place.repo, script)
    }

    pub(super) fn tree(&self) -> String {
        tree_now(&self.place, &counted(&self.place, &["src"]), &self.client()).unwrap().id
    }

    pub(super) fn take(&self, kind: &str, step: u32) -> String {
        let tree = self.tree();
        take(&self.place, &self.base, (kind, step), &tree, &self.client()).unwrap()
    }

    pub(super) fn head(&self) -> Head {
        heads(&self.place, &self.client()).unwrap().head.unwrap()
    }

    /// Commits of head and branch.
    pub(super) fn heads(&self) -> [Option<String>; 2] {
        let found = heads(&self.place, &self.client()).unwrap();
        [found.head, found.branch].map(|head| head.map(|head| head.commit))
    }

    /// Checks that the worktree is at its last checkpoint, as git and a person see it.
    #[track_caller]
    pub(super) fn is_clean(&self) {
        let [head, branch] = self.heads();
        assert!(head.is_some() && head == branch, "{head:?} {branch:?}");
        assert_eq!(self.agent("git status --porcelain --untracked-files=all"), "");
        assert_eq!(self.agent("git symbolic-ref HEAD"), self.place.branch());
        assert_eq!(Some(self.agent("git rev-parse HEAD")), head);
        assert_eq!(self.user("git fsck --no-dangling 2>&1"), "");
    }

    /// Checks that nothing of the user changed: checkout, branch, settings.
    #[track_caller]
    pub(super) fn user_is_untouched(&self) {
        assert_eq!(self.user("git status --porcelain; git symbolic-ref HEAD"), "refs/heads/main");
        assert_eq!(self.user("git rev-parse main"), self.base);
    }
}

pub(super) fn counted(place: &Place, scope: &[&str]) -> Counted {
    let scope: Vec<String> = scope.iter().map(|pattern| (*pattern).to_owned()).collect();
    Counted {
        scope: Scope::new(&scope, &place.dir, &place.dir).unwrap(),
        no_change: Scope::of_no_change(&[".aider*".to_owned()], &place.dir).unwrap(),
    }
}
