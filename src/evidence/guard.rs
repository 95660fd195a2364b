//! Files of the git directory that git itself does not watch: settings, hooks, rules.
//!
//! Through them an agent can make a later user of the repository run a program, send code elsewhere, or miss a change. What a
//! linked worktree shares with others changes by their work too: there only the dangerous settings count (`settings`), and of
//! `info` the attributes, the ignore rules and the grafts. Hard rule: a change of one is listed whatever the scope holds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
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
    /// Settings that others change too.
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

/// A guarded file that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path that is shown.
    pub path: String,
    /// The kind of change.
    pub kind: Kind,
    /// The settings that count, where the file holds settings of which only some do.
    pub settings: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match self.settings.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.settings.join(", ")),
        }
    }
}

/// What changed between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The files that count.
    pub files: Vec<Change>,
    /// Settings that changed and are no danger, as `.git/config: user.name`.
    pub daily: Vec<String>,
}

impl Guarded {
    /// Looks at the files of a worktree: of its own git directory, of the one that it shares, and of its tracked files.
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
            found.settings_of_others(git_dir, common_dir);
            for name in ["attributes", "exclude", "grafts"] {
                found.file(&common_dir.join("info").join(name), &format!(".git/info/{name}"));
            }
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

    /// The settings of the other worktrees, that of the user among them, which count there once the common ones say so.
    fn settings_of_others(&mut self, git_dir: &Path, common_dir: &Path) {
        let name = "config.worktree";
        self.settings(&common_dir.join(name), &format!(".git/main-worktree/{name}"));
        let all = common_dir.join("worktrees");
        let others = fs::names(&all).unwrap_or_default();
        self.bounded |= others.len() > MAX_FILES;
        for other in others.iter().take(MAX_FILES).filter(|other| all.join(other) != git_dir) {
            self.settings(&all.join(other).join(name), &format!(".git/worktrees/{other}/{name}"));
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
    pub fn compare(&self, after: &Self, client: &Client) -> Result<Changes, Reason> {
        let mut changes = Changes::default();
        let added = after.files.keys().filter(|path| !self.files.contains_key(*path));
        for path in self.files.keys().chain(added) {
            let (old, new) = (self.files.get(path), after.files.get(path));
            if old == new {
                continue;
            }
            let kind = match (old, new) {
                (None, _) => Kind::Added,
                (_, None) => Kind::Deleted,
                _ => Kind::Modified,
            };
            let difference = match [old, new].map(text_of_settings) {
                [Some(before), Some(after)] => difference([before, after], client)?,
                _ => None,
            };
            let settings = match difference {
                None => Vec::new(),
                Some(found) => {
                    changes.daily.extend(found.daily.iter().map(|key| format!("{path}: {key}")));
                    if found.dangers.is_empty() {
                        continue;
                    }
                    found.dangers
                }
            };
            changes.files.push(Change { path: path.clone(), kind, settings });
        }
        Ok(changes)
    }
}

/// The text of a file of which only some settings count; one that is absent has none.
fn text_of_settings(content: Option<&Content>) -> Option<&[u8]> {
    match content {
        None => Some(b""),
        Some(Content::Settings(text)) => Some(text),
        Some(_) => None,
    }
}

/// What differs; none of a text that git cannot read.
fn difference(texts: [&[u8]; 2], client: &Client) -> Result<Option<settings::Difference>, Reason> {
    let list = ["config", "--file", "-", "--list", "-z", "--no-includes"];
    let mut read = Vec::new();
    for text in texts {
        let call = Call::new(client, Path::new("/"), GitDir::Repository, &list);
        let listed = call.input(text.to_vec()).answer()?;
        if listed.code != Some(0) {
            return Ok(None);
        }
        read.push(settings::read(&listed.stdout));
    }
    let [before, after] = read.as_slice() else { return Ok(None) };
    Ok(Some(settings::compare(before, after)))
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

    /// What a script in a repository and its linked worktree changes, as the one and as the other see it.
    fn changed(script: &str) -> [Vec<String>; 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonical(dir.path()).unwrap();
        let identity = "git config user.name a; git config user.email b@c; git config remote.known.url /x";
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
            let changes = before.compare(after, &client).unwrap();
            changes.files.into_iter().map(|change| change.path).collect()
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
            ("git config core.bare true; git config core.bare false; git remote add o /y", config(), vec![]),
            ("git remote set-url known /elsewhere", config(), config()),
            ("git config remote.known.pushurl /elsewhere", config(), config()),
            ("git config http.proxy localhost:1", config(), config()),
            (
                "git config extensions.worktreeConfig true; git config --worktree core.hooksPath /evil",
                config(),
                vec![".git/main-worktree/config.worktree".to_owned()],
            ),
            (
                "mkdir -p .git/worktrees/o; git config -f .git/worktrees/o/config.worktree core.sshCommand evil",
                vec![],
                vec![".git/worktrees/o/config.worktree".to_owned()],
            ),
            (
                "echo x > .git/info/grafts",
                vec![".git/info/grafts".to_owned()],
                vec![".git/info/grafts".to_owned()],
            ),
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
