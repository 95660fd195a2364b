//! Files whose change a rule hides that was changed while the job ran.
//!
//! `git::Repository` freezes the rules outside of the worktree. The rules in it are kept in memory as they were before. Each
//! file that is ignored now is checked against the former ignore rules (`.gitignore`); where attributes (`.gitattributes`)
//! changed, each file that was written since is compared byte by byte. Hard rule: a rule hides neither itself nor a change
//! that came with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::content;
use super::look::PrivateGitDir;
use crate::fs::{Moment, Stamp};
use crate::git::index::{self, Entries, Entry, LINK, REPOSITORY, is_plain};
use crate::git::{failed, objects};
use crate::job::Reason;

const IGNORE: &[u8] = b".gitignore";
const ATTRIBUTES: &[u8] = b".gitattributes";

/// A larger file of rules is not taken over, and counts as changed.
const MAX_BYTES: u64 = 1 << 20;

/// A larger file that was written while attributes changed counts as changed.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The ignore rules and the attributes in a worktree, by the paths of their files. A file that could not be read has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Rules {
    /// Reads them: those that git keeps, and those that are ignored themselves.
    #[must_use]
    pub fn look(top: &Path, entries: &Entries, ignored: &[Vec<u8>]) -> Self {
        let is_rule = |path: &&Vec<u8>| is(path, IGNORE) || is(path, ATTRIBUTES);
        let paths = entries.keys().chain(ignored).filter(is_rule);
        Self(paths.map(|path| (path.clone(), content::read(top, path, MAX_BYTES))).collect())
    }

    /// Whether those of this name are others than before; one that could not be read may be.
    fn differ(&self, before: &Self, name: &[u8]) -> bool {
        let of = |rules: &Self| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
            let found = rules.0.iter().filter(|(path, _)| is(path, name));
            found.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
        };
        let (now, before) = (of(self), of(before));
        now != before || now.iter().any(|(_, bytes)| bytes.is_none())
    }
}

fn is(path: &[u8], name: &[u8]) -> bool {
    path.strip_suffix(name).is_some_and(|dir| dir.is_empty() || dir.ends_with(b"/"))
}

/// The files that were written since `begun` and hold other bytes than before, with what they are now, where attributes
/// changed. One that git had converted before counts as changed once it is written.
#[must_use]
pub(super) fn behind_attributes(
    place: &PrivateGitDir,
    (before, after): (&Rules, &Rules),
    (entries, begun): (&Entries, Moment),
    hash: usize,
) -> Entries {
    let mut found = Entries::new();
    if !after.differ(before, ATTRIBUTES) {
        return found;
    }
    let is_file = |entry: &Entry| entry.mode != LINK && entry.mode != REPOSITORY;
    for (path, entry) in entries.iter().filter(|(_, entry)| is_file(entry)) {
        if Stamp::read(&place.file(path)).is_some_and(|stamp| stamp.is_since(begun)) {
            let bytes = content::read(&place.top, path, MAX_FILE_BYTES).unwrap_or_default();
            let object = objects::id("blob", &bytes, hash);
            if object != entry.object {
                found.insert(path.clone(), Entry { object, ..*entry });
            }
        }
    }
    found
}

/// The files that are ignored now and would not have been by the rules of before. Costs nothing if no rule was changed.
///
/// # Errors
/// A reason where git fails.
pub(super) fn newly_ignored(
    place: &PrivateGitDir,
    index: &Path,
    (before, after): (&Rules, &Rules),
    hash: usize,
) -> Result<Vec<Vec<u8>>, Reason> {
    if !after.differ(before, IGNORE) {
        return Ok(Vec::new());
    }
    let list = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"];
    let ignored = place.git(index, &list).output()?;
    let ignored: Vec<&[u8]> = ignored.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    if ignored.is_empty() {
        return Ok(Vec::new());
    }
    let rules_dir = place.dir("rules")?;
    for (path, bytes) in before.0.iter().filter(|(path, _)| is_plain(path)) {
        if let (Some(bytes), Ok(path)) = (bytes, std::str::from_utf8(path)) {
            place.write(&format!("rules/{path}"), bytes)?;
        }
    }
    let empty = place.write("index.rules", &index::empty(hash))?;
    let ours = place.with_top(rules_dir);
    // A repository ends in `/`. The directory that is asked is empty, so the question is about a file in the repository.
    let asked =
        |path: &&[u8]| if path.ends_with(b"/") { [path, b"x".as_slice()].concat() } else { path.to_vec() };
    let input = ignored.iter().flat_map(|path| asked(path).into_iter().chain([0])).collect();
    let ask = ours.git(&empty, &["check-ignore", "--no-index", "-z", "--stdin"]);
    let answer = ask.input(input).answer()?;
    // 1 means that none is ignored.
    if !matches!(answer.code, Some(0 | 1)) {
        return Err(failed("check-ignore", &answer));
    }
    let still: BTreeSet<&[u8]> = answer.stdout.split(|byte| *byte == 0).collect();
    Ok(ignored
        .into_iter()
        .filter(|path| !still.contains(asked(path).as_slice()))
        .map(<[u8]>::to_vec)
        .collect())
}
