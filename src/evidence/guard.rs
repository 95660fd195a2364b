//! Files of the git directory that git itself does not watch: settings, hooks, rules.
//!
//! Through them an agent can make a later user of the repository run a program, or hide files from git.
//! Hard rule: a change of one is listed whatever the scope holds.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fs::{self, Stamp};
use crate::git::Repository;
use crate::git::index::{Entries, Kind};
use crate::job::digest;

/// The most files of a directory that are looked at.
const MAX_FILES: usize = 1_000;

/// A larger file is known by its stamp alone.
const MAX_BYTES: u64 = 1 << 20;

/// The content of a guarded file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text { executable: bool, sha256: String },
    Link(std::path::PathBuf),
    Other(Option<Stamp>),
}

/// The guarded files by the path that is shown, as `.git/hooks/pre-commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    files: BTreeMap<String, Content>,
    /// Whether a directory held more files than were looked at.
    pub bounded: bool,
}

impl Guarded {
    /// Looks at the files of a repository.
    #[must_use]
    pub fn look(repository: &Repository, entries: &Entries) -> Self {
        let mut found = Self::default();
        let Repository { git_dir, common_dir, .. } = repository;
        found.file(&common_dir.join("config"), ".git/config");
        found.file(&git_dir.join("config.worktree"), ".git/config.worktree");
        // By it the objects of another repository become those of this one.
        found.file(&common_dir.join("objects/info/alternates"), ".git/objects/info/alternates");
        found.directory(&common_dir.join("hooks"), ".git/hooks");
        found.directory(&common_dir.join("info"), ".git/info");
        if git_dir != common_dir {
            found.directory(&git_dir.join("info"), ".git/info");
        }
        found.laid_over(&repository.top, entries);
        found
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
            Content::Link(std::fs::read_link(path).unwrap_or_default())
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
    #[must_use]
    pub fn compare(&self, after: &Self) -> Vec<(String, Kind)> {
        let gone = self.files.keys().filter(|path| !after.files.contains_key(*path));
        let mut changes: Vec<_> = gone.map(|path| (path.clone(), Kind::Deleted)).collect();
        for (path, content) in &after.files {
            match self.files.get(path) {
                None => changes.push((path.clone(), Kind::Added)),
                Some(before) if before != content => changes.push((path.clone(), Kind::Modified)),
                Some(_) => {}
            }
        }
        changes
    }
}
