//! Files of the git directory that git itself does not watch: settings, hooks, rules.
//!
//! Through them an agent can make a later user of the repository run a program, or hide files from git. What a linked work tree
//! shares with others changes by their work too: there only the settings that name a program count, and of `info` the attributes
//! and ignore rules. Hard rule: a change of one is listed whatever the scope holds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::settings;
use crate::fs::{self, Stamp};
use crate::git::index::{Entries, Kind};
use crate::git::{Call, Client, GitDir};
use crate::job::{Reason, digest};

/// The most files of a directory that are looked at.
const MAX_FILES: usize = 1_000;

/// A larger file is known by its stamp alone.
const MAX_BYTES: u64 = 1 << 20;

/// The content of a guarded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Content {
    Text {
        executable: bool,
        sha256: String,
    },
    /// Settings of which only those count that name a program.
    Settings(Vec<u8>),
    Link(OsString),
    Other(Option<Stamp>),
}

/// The guarded files by the path that is shown, as `.git/hooks/pre-commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    files: BTreeMap<String, Content>,
    /// Whether a directory held more files than were looked at.
    pub bounded: bool,
}

impl Guarded {
    /// Looks at the files of a work tree: of its own git directory, of the one that it shares, and of its tracked files.
    #[must_use]
    pub fn look((git_dir, common_dir, top): (&Path, &Path, &Path), entries: &Entries) -> Self {
        let mut found = Self::default();
        found.file(&git_dir.join("config.worktree"), ".git/config.worktree");
        // By it the objects of another repository become those of this one.
        found.file(&common_dir.join("objects/info/alternates"), ".git/objects/info/alternates");
        found.directory(&common_dir.join("hooks"), ".git/hooks");
        if git_dir == common_dir {
            found.file(&common_dir.join("config"), ".git/config");
            found.directory(&common_dir.join("info"), ".git/info");
            // `git gc` writes it.
            found.files.remove(".git/info/refs");
        } else {
            found.settings(&common_dir.join("config"), ".git/config");
            found.file(&common_dir.join("info/attributes"), ".git/info/attributes");
            found.file(&common_dir.join("info/exclude"), ".git/info/exclude");
            found.directory(&git_dir.join("info"), ".git/info");
        }
        found.laid_over(top, entries);
        found
    }

    fn settings(&mut self, path: &Path, shown: &str) {
        let read = fs::open_regular(path).and_then(|file| fs::read_limited(&file, path, MAX_BYTES));
        match read {
            Ok(Some(bytes)) => drop(self.files.insert(shown.to_owned(), Content::Settings(bytes))),
            _ => self.file(path, shown),
        }
    }

    /// Repositories in directories of tracked files, which git takes for plain directories.
    fn laid_over(&mut self, top: &Path, entries: &Entries) {
        let mut last: &[u8] = b"";
        for path in entries.keys() {
            let dir = memchr::memrchr(b'/', path).and_then(|at| path.get(..at)).unwrap_or_default();
            if dir == last {
                continue;
            }
            last = dir;
            let own = top.join(OsStr::from_bytes(dir)).join(".git");
            if !dir.is_empty() && Stamp::read(&own).is_some() {
                let shown = format!("{}/.git", String::from_utf8_lossy(dir));
                self.files.insert(shown, Content::Other(None));
            }
        }
    }

    fn directory(&mut self, dir: &Path, shown: &str) {
        self.file(dir, shown);
        let walk = walkdir::WalkDir::new(dir).min_depth(1).max_depth(2).follow_root_links(true);
        for (count, entry) in walk.into_iter().filter_map(Result::ok).enumerate() {
            if count >= MAX_FILES {
                self.bounded = true;
                return;
            }
            let name = entry.path().strip_prefix(dir).unwrap_or(entry.path());
            self.file(entry.path(), &format!("{shown}/{}", name.to_string_lossy()));
        }
    }

    fn file(&mut self, path: &Path, shown: &str) {
        let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
        let content = if metadata.is_dir() {
            return;
        } else if metadata.is_symlink() {
            Content::Link(std::fs::read_link(path).unwrap_or_default().into_os_string())
        } else {
            let read = fs::open_regular(path).and_then(|file| fs::read_limited(&file, path, MAX_BYTES));
            let executable = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o111 != 0;
            match read {
                Ok(Some(bytes)) => Content::Text { executable, sha256: digest::sha256(&bytes) },
                _ => Content::Other(Stamp::read(path)),
            }
        };
        self.files.insert(shown.to_owned(), content);
    }

    /// The changes up to a later look.
    ///
    /// # Errors
    /// A reason where git has to read settings, and cannot be asked.
    pub fn compare(&self, after: &Self, client: &Client) -> Result<Vec<(String, Kind)>, Reason> {
        let gone = self.files.keys().filter(|path| !after.files.contains_key(*path));
        let mut changes: Vec<_> = gone.map(|path| (path.clone(), Kind::Deleted)).collect();
        for (path, content) in &after.files {
            match self.files.get(path) {
                None => changes.push((path.clone(), Kind::Added)),
                Some(before) if differ(before, content, client)? => {
                    changes.push((path.clone(), Kind::Modified));
                }
                Some(_) => {}
            }
        }
        Ok(changes)
    }
}

fn differ(before: &Content, after: &Content, client: &Client) -> Result<bool, Reason> {
    if before == after {
        return Ok(false);
    }
    match (before, after) {
        (Content::Settings(before), Content::Settings(after)) => {
            Ok(programs(before, client)? != programs(after, client)?)
        }
        _ => Ok(true),
    }
}

/// The settings that name a program; `None` of a text that git cannot read.
fn programs(settings: &[u8], client: &Client) -> Result<Option<Vec<Vec<u8>>>, Reason> {
    let list = ["config", "--file", "-", "--list", "-z", "--no-includes"];
    let call = Call::new(client, Path::new("/"), GitDir::Repository, &list);
    let listed = call.input(settings.to_vec()).answer()?;
    let is_meant = |setting: &&[u8]| {
        let key = setting.split(|byte| *byte == b'\n').next().unwrap_or_default();
        settings::may_run_a_program(&String::from_utf8_lossy(key))
    };
    let meant = listed.stdout.split(|byte| *byte == 0).filter(is_meant).map(<[u8]>::to_vec);
    Ok((listed.code == Some(0)).then(|| meant.collect()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::git::{Deadline, Program, Stop};
    use crate::process::helper;

    fn sh(dir: &Path, script: &str) {
        let wait = (Duration::from_secs(60), &(|| false) as &dyn Fn() -> bool);
        let ended = helper::run("sh", &["-ec", script], dir, wait).unwrap();
        assert_eq!(ended.code, Some(0), "{script}: {}", ended.text);
    }

    /// What a script in a repository and its linked work tree changes, as the one and as the other see it.
    fn changed(script: &str) -> [Vec<String>; 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonical(dir.path()).unwrap();
        let identity = "git config user.name a; git config user.email b@c";
        sh(
            &path,
            &format!(
                "git init -q r; cd r; {identity}; git commit -q --allow-empty -m i; git worktree add -q ../w"
            ),
        );
        let (top, linked) = (path.join("r"), path.join("w"));
        let common = top.join(".git");
        let own = common.join("worktrees/w");
        let client = Client {
            program: Program::find(None, None, &path).unwrap(),
            deadline: Deadline::new("the test", Duration::from_secs(60)),
            stop: Stop::never(),
        };
        let entries = Entries::new();
        let look = || {
            [(&*common, &*top), (&*own, &*linked)]
                .map(|(git_dir, top)| Guarded::look((git_dir, &common, top), &entries))
        };
        let before = look();
        sh(&top, script);
        let [one, other] = look();
        let paths = |before: &Guarded, after: &Guarded| {
            before.compare(after, &client).unwrap().into_iter().map(|(path, _)| path).collect()
        };
        [paths(&before[0], &one), paths(&before[1], &other)]
    }

    #[test]
    fn what_a_user_does_meanwhile_is_no_change_of_a_work_tree_that_shares_the_repository() {
        let config = || vec![".git/config".to_owned()];
        for (script, own, shared) in [
            ("git gc -q; git update-server-info; git pack-refs --all", vec![], vec![]),
            ("git config remote.o.url /x; git config user.name z", config(), vec![]),
            ("git sparse-checkout init 2> /dev/null || true", vec![".git/config".to_owned()], vec![]),
            ("git config core.fsmonitor evil", config(), config()),
            ("printf '[include]\\npath=x' >> .git/config", config(), config()),
            ("echo '[' >> .git/config", config(), config()),
            (
                "mkdir -p .git/hooks; echo x > .git/hooks/post-commit",
                vec![".git/hooks/post-commit".to_owned()],
                vec![".git/hooks/post-commit".to_owned()],
            ),
            (
                "echo x >> .git/info/exclude",
                vec![".git/info/exclude".to_owned()],
                vec![".git/info/exclude".to_owned()],
            ),
        ] {
            let [one, other] = changed(script);
            let is_there = own.iter().all(|path| one.contains(path)) && one.is_empty() == own.is_empty();
            assert!(is_there, "{script}: {one:?}");
            assert_eq!(other, shared, "{script}");
        }
    }
}
