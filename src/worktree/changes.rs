//! What differs between two trees: paths with their kinds and lines, and a patch.
//!
//! Hard rule: no program that attributes or settings name takes part.

use std::path::PathBuf;

use super::Place;
use super::git::Git;
use crate::git::Client;
use crate::git::index::{Kind, REPOSITORY, path_of};
use crate::job::{Code, Reason};

/// The options of every comparison.
const COMPARE: [&str; 5] = ["diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv"];

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The path.
    pub path: PathBuf,
    /// How it differs. A renamed file is one that was deleted, and one that was added.
    pub kind: Kind,
    /// The new path of a deleted file, where git finds most of its content under an added one.
    pub renamed_to: Option<PathBuf>,
    /// Lines added and deleted; `None` of a binary file. Those of a renamed file are at its new path.
    pub lines: Option<(u64, u64)>,
    /// Whether it is or was a submodule.
    pub is_submodule: bool,
}

/// How much differs. A renamed file is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Files.
    pub files: u64,
    /// Added lines.
    pub insertions: u64,
    /// Deleted lines.
    pub deletions: u64,
}

impl Stat {
    /// The sum of changes.
    #[must_use]
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut sum = Self::default();
        for change in changes.iter().filter(|change| change.renamed_to.is_none()) {
            let (insertions, deletions) = change.lines.unwrap_or_default();
            sum.files += 1;
            sum.insertions += insertions;
            sum.deletions += deletions;
        }
        sum
    }
}

/// The changes from one tree or commit to another, by path.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn changes(
    place: &Place,
    (from, to): (&str, &str),
    client: &Client,
) -> Result<Vec<Change>, Reason> {
    if from == to {
        return Ok(Vec::new());
    }
    let git = Git::at(place, client);
    let listed = git.read(&COMPARE).arg("-z").arg("--raw").arg("--numstat").arg(from).arg(to).output()?;
    let unknown = || Reason::new(Code::EvidenceFailed, "the output of `git diff-tree` has an unknown format");
    let mut changes = parse(&listed).ok_or_else(unknown)?;
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

/// The difference as a patch, cut behind its last whole line; true if there was more.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn patch(
    place: &Place,
    (from, to): (&str, &str),
    at_most: usize,
    client: &Client,
) -> Result<(Vec<u8>, bool), Reason> {
    let git = Git::at(place, client);
    let call = git.read(&COMPARE).arg("-p").arg("--binary").arg("--full-index").arg("--no-color");
    let captured = call.arg(from).arg(to).at_most(at_most).answer()?;
    if !captured.cut && captured.code != Some(0) {
        return Err(crate::git::failed("diff-tree", &captured));
    }
    let mut bytes = captured.stdout;
    if captured.cut {
        bytes.truncate(memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1));
    }
    Ok((bytes, captured.cut))
}

/// Reads `--raw --numstat -z`: first all the one, then all the other, in the same order.
fn parse(listed: &[u8]) -> Option<Vec<Change>> {
    let mut fields = listed.split(|byte| *byte == 0).peekable();
    let mut changes = Vec::new();
    // Where each line of numbers belongs.
    let mut order = Vec::new();
    while let Some(field) = fields.next_if(|field| field.starts_with(b":")) {
        let text = std::str::from_utf8(field.get(1..)?).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        let [old_mode, new_mode, _, _, status] = words.as_slice() else { return None };
        let modes = [old_mode, new_mode].map(|mode| u32::from_str_radix(mode, 8).unwrap_or(0));
        let is_submodule = modes.contains(&REPOSITORY);
        let change = |path: &[u8], kind| Change {
            path: path_of(path),
            kind,
            renamed_to: None,
            lines: Some((0, 0)),
            is_submodule,
        };
        let path = fields.next()?;
        let kind = match status.as_bytes().first()? {
            b'A' => Kind::Added,
            b'D' => Kind::Deleted,
            b'T' => Kind::TypeChanged,
            b'R' => {
                let new = fields.next()?;
                changes.push(Change { renamed_to: Some(path_of(new)), ..change(path, Kind::Deleted) });
                order.push(changes.len());
                changes.push(change(new, Kind::Added));
                continue;
            }
            _ => Kind::Modified,
        };
        order.push(changes.len());
        changes.push(change(path, kind));
    }
    for place in order {
        let numbers = fields.next()?;
        let mut words = numbers.splitn(3, |byte| *byte == b'\t');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        changes.get_mut(place)?.lines = number().zip(number());
        // Of a renamed file the two names are fields of their own.
        if words.next()?.is_empty() {
            fields.next()?;
            fields.next()?;
        }
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_of_two_trees_is_read_with_renames_and_binary_files() {
        let listed = b":100644 100644 aa bb M\0a b\n\0:100644 100644 aa bb R090\0old\0new\0:000000 100644 00 bb A\0bin\0\
            :160000 160000 aa bb M\0sub\x003\t1\ta b\n\x002\t0\t\0old\0new\0-\t-\tbin\x001\t1\tsub\0";
        let changes = parse(listed).unwrap();
        let seen: Vec<_> = changes.iter().map(|c| (c.path.to_str().unwrap(), c.kind, c.lines)).collect();
        let want = [
            ("a b\n", Kind::Modified, Some((3, 1))),
            ("old", Kind::Deleted, Some((0, 0))),
            ("new", Kind::Added, Some((2, 0))),
            ("bin", Kind::Added, None),
            ("sub", Kind::Modified, Some((1, 1))),
        ];
        assert_eq!(seen, want);
        assert_eq!(changes[1].renamed_to, Some(PathBuf::from("new")));
        assert!(changes[4].is_submodule && !changes[0].is_submodule);
        assert_eq!(Stat::of(&changes), Stat { files: 4, insertions: 6, deletions: 2 });
        assert_eq!(parse(b""), Some(Vec::new()));
        for torn in
            [b":100644 100644 aa bb M\0".as_slice(), b":1 2 M\0a\0", b":100644 100644 aa bb R1\0old\0"]
        {
            assert_eq!(parse(torn), None);
        }
    }
}
