//! The changes of the worktree as a patch.
//!
//! git compares the worktree with an index of the files that changed, as they were before. Content that the repository
//! does not have is kept in memory, within bounds. Hard rule: no program of the repository takes part, and the
//! patch has a bound and lists the files that it leaves out.

use std::collections::{BTreeMap, BTreeSet};

use super::look::PrivateGitDir;
use super::snapshot::Snapshot;
use crate::git::index::{self, Entry, REPOSITORY, differences, is_plain};
use crate::git::{failed, objects};
use crate::job::Reason;

/// A longer patch is cut behind its last whole line.
pub(super) const MAX_PATCH_BYTES: usize = 1 << 20;

/// The change of a larger file is not in the patch.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// A patch as `git apply` takes it, as long as it was not cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its bytes; a text file in it need not be UTF-8.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// Files whose change is not in it: too large, or their content before was not kept.
    pub left_out: Vec<String>,
}

/// The material of a patch.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    place: PrivateGitDir,
    hash: usize,
    /// The changed files, each as it was and as it is.
    files: BTreeMap<Vec<u8>, [Option<Entry>; 2]>,
    kept: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Difference {
    /// The files that differ between two looks at one worktree.
    #[must_use]
    pub(super) fn between(before: &Snapshot, after: &Snapshot, place: PrivateGitDir) -> Self {
        let files: BTreeMap<_, _> = differences(&before.entries, &after.entries)
            .into_iter()
            .map(|(path, both)| (path.clone(), both.map(Option::<&Entry>::cloned)))
            .collect();
        let is_kept = |(path, _): &(&Vec<u8>, &Option<Vec<u8>>)| files.contains_key(*path);
        let kept = before.kept.contents.iter().filter(is_kept);
        let kept = kept.map(|(path, content)| (path.clone(), content.clone())).collect();
        Self { place, hash: before.repository.hash_bytes, files, kept }
    }

    /// Makes the patch, in the time that the later look has left.
    ///
    /// # Errors
    /// A reason where git fails.
    pub(super) fn patch(&self) -> Result<Patch, Reason> {
        let known = self.lay_out_objects()?;
        let is_in = |path: &[u8], [before, after]: &[Option<Entry>; 2]| {
            let is_there = match before {
                Some(entry) if entry.mode != REPOSITORY => {
                    !self.kept.contains_key(path) || known.contains(path)
                }
                _ => true,
            };
            let is_small = after.is_none()
                || std::fs::symlink_metadata(self.place.file(path))
                    .is_ok_and(|file| !file.is_file() || file.len() <= MAX_FILE_BYTES);
            is_there && is_small && is_plain(path)
        };
        let (all, out): (Vec<_>, Vec<_>) = self.files.iter().partition(|(path, both)| is_in(path, both));
        let left_out = out.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        if all.is_empty() {
            return Ok(Patch { left_out, ..Patch::default() });
        }
        let entries = all.iter().filter_map(|(path, both)| match both {
            [Some(before), _] => Some((path.as_slice(), before, false)),
            [None, after] => Some((path.as_slice(), after.as_ref()?, true)),
        });
        let index = self.place.write("index.patch", &index::encode(entries, self.hash))?;
        let args = [
            "diff-files",
            "-p",
            "--binary",
            "--full-index",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
            "--ita-invisible-in-index",
            "--ignore-submodules=dirty",
        ];
        let captured = self.place.git(&index, &args).at_most(MAX_PATCH_BYTES).answer()?;
        if !captured.cut && captured.code != Some(0) {
            return Err(failed("diff-files", &captured));
        }
        let mut bytes = captured.stdout;
        if captured.cut {
            let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            bytes.truncate(end);
        }
        Ok(Patch { bytes, cut: captured.cut, left_out })
    }

    /// Lays out the kept content as objects. Content that git converts when it reads the file is not the object of the index.
    fn lay_out_objects(&self) -> Result<BTreeSet<&[u8]>, Reason> {
        let mut known = BTreeSet::new();
        for (path, content) in &self.kept {
            let before = self.files.get(path).and_then(|[before, _]| before.as_ref());
            let (Some(content), Some(before)) = (content, before) else { continue };
            let id = objects::id("blob", content, self.hash);
            if id == before.object {
                let (name, bytes) = objects::file("blob", content, &id);
                self.place.write(&name, &bytes)?;
                known.insert(path.as_slice());
            }
        }
        Ok(known)
    }
}
