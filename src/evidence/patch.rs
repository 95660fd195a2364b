//! What changed in the work tree, as a patch.
//!
//! Hard rule: no program of the repository takes part, and the patch has a bound; that it was cut is told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::tree::{Ours, Snapshot};
use crate::job::Reason;

/// A longer patch is cut behind its last whole line.
pub const MAX_PATCH_BYTES: usize = 1 << 20;

/// A patch as `git apply` takes it, as long as it was not cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its bytes; a text file in it need not be UTF-8.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// Large files whose change is not in it.
    pub left_out: Vec<String>,
}

/// What a patch is made of.
#[derive(Debug, Clone)]
pub struct Trees {
    place: Ours,
    before: String,
    after: String,
    not_kept: Vec<Vec<u8>>,
}

impl Trees {
    /// The trees of two looks at one work tree.
    #[must_use]
    pub fn of(before: &Snapshot, after: &Snapshot) -> Self {
        let mut not_kept: Vec<_> = before.not_kept.iter().chain(&after.not_kept).cloned().collect();
        not_kept.sort();
        not_kept.dedup();
        Self { place: after.place.clone(), before: before.tree.clone(), after: after.tree.clone(), not_kept }
    }

    /// Makes the patch, in the time that the later look has left.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn patch(&self) -> Result<Patch, Reason> {
        if self.before == self.after {
            return Ok(Patch::default());
        }
        let args = ["diff-tree", "-r", "-p", "--binary", "--full-index", "--no-color", "--no-ext-diff"];
        let index = self.place.git_dir.join("index.after");
        let mut git =
            self.place.git(&index, &args).arg("--no-textconv").arg("--no-renames").at_most(MAX_PATCH_BYTES);
        git = git.arg(&self.before).arg(&self.after).arg("--").arg(".");
        for path in &self.not_kept {
            let mut exclude = OsString::from(":(top,exclude,literal)");
            exclude.push(std::ffi::OsStr::from_bytes(path));
            git = git.arg(exclude);
        }
        let captured = git.answer()?;
        if !captured.cut && captured.code != Some(0) {
            return Err(super::git::failed("diff-tree", &captured));
        }
        let mut bytes = captured.stdout;
        if captured.cut {
            let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            bytes.truncate(end);
        }
        let left_out = self.not_kept.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        Ok(Patch { bytes, cut: captured.cut, left_out })
    }
}
