//! Filters of git that give another content each time for the same file.
//!
//! Such a file differs from every checkpoint without anyone's doing. Only files are looked at that a step would be blamed for.

use std::path::{Path, PathBuf};

use super::git::Git;
use crate::fs;
use crate::job::Reason;

/// Of so many files it is asked.
const MAX_ASKED: usize = 10;

/// A larger file is not read.
const MAX_BYTES: u64 = 16 << 20;

/// The files among these that hold what the old tree lays out, or that git now gives another name than the new tree has.
pub(super) fn unstable(git: &Git<'_>, files: &[&Path], trees: [&str; 2]) -> Result<Vec<PathBuf>, Reason> {
    let filtered = filtered(git, files.get(..files.len().min(MAX_ASKED)).unwrap_or_default())?;
    let mut unstable = Vec::new();
    for path in filtered {
        if is_unstable(git, &path, trees)? {
            unstable.push(path);
        }
    }
    Ok(unstable)
}

fn filtered(git: &Git<'_>, files: &[&Path]) -> Result<Vec<PathBuf>, Reason> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let call = git.tree(&["check-attr", "-z", "filter", "--"]);
    let listed = files.iter().fold(call, |call, file| call.arg(*file)).output()?;
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let is_set = |fields: &&[&[u8]]| !matches!(fields, [_, _, b"unspecified" | b"unset" | b"set"]);
    let files = fields.chunks_exact(3).filter(is_set).filter_map(|fields| fields.first());
    Ok(files.map(|path| crate::git::index::path_of(path)).collect())
}

fn is_unstable(git: &Git<'_>, path: &Path, [before, now]: [&str; 2]) -> Result<bool, Reason> {
    let blob = |tree: &str| {
        let mut name = std::ffi::OsString::from(format!("{tree}:"));
        name.push(path);
        name
    };
    let full = git.place.file(path);
    let read = fs::open_regular(&full).and_then(|file| fs::read_limited(&file, &full, MAX_BYTES));
    let Ok(Some(bytes)) = read else { return Ok(false) };
    let laid_out = git.tree(&["cat-file", "--filters"]).arg(blob(before)).output()?;
    if laid_out == bytes {
        return Ok(true);
    }
    let line = |bytes: Vec<u8>| bytes.trim_ascii_end().to_vec();
    let named = line(git.tree(&["hash-object", "--path"]).arg(path).arg("--stdin").input(bytes).output()?);
    Ok(named != line(git.tree(&["rev-parse", "--verify", "--quiet"]).arg(blob(now)).output()?))
}
