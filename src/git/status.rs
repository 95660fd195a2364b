//! The answer of `git status --porcelain=v2 -z`.
//!
//! Hard rule: every name is taken as its bytes.

use super::client::failed;
use crate::job::Reason;
use crate::process::helper::Captured;

/// What `git status` says of a worktree.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Whether the index differs from the tree of HEAD.
    pub staged: bool,
    /// Paths that differ from the index, and untracked ones; a repository in it ends in `/`.
    pub changed: Vec<Vec<u8>>,
    /// How many of `changed`, from the first, the index knows.
    pub known: usize,
    /// Those of `changed` that are submodules.
    pub submodules: Vec<Vec<u8>>,
    /// Single ignored files.
    pub ignored: Vec<Vec<u8>>,
    /// Ignored directories; each ends in `/`.
    pub ignored_directories: Vec<Vec<u8>>,
    /// Directories that git could not list: new files in them are not in the answer.
    pub unlisted: Vec<Vec<u8>>,
}

impl Status {
    /// The call whose answer this is.
    pub(crate) const ARGUMENTS: [&str; 7] = [
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
        "--ignored=matching",
    ];

    /// The call whose answer also has submodules with changed files.
    pub(crate) const WITH_SUBMODULES: [&str; 7] = {
        let mut arguments = Self::ARGUMENTS;
        arguments[5] = "--ignore-submodules=untracked";
        arguments
    };

    /// The call whose answer also has submodules with files that they do not know.
    pub(crate) const ALL_OF_SUBMODULES: [&str; 7] = {
        let mut arguments = Self::ARGUMENTS;
        arguments[5] = "--ignore-submodules=none";
        arguments
    };

    /// Reads the answer.
    ///
    /// # Errors
    /// A reason where git failed.
    pub(crate) fn read(captured: &Captured) -> Result<Self, Reason> {
        if captured.code != Some(0) || captured.cut {
            return Err(failed("status", captured));
        }
        Ok(Self { unlisted: unlisted(&captured.stderr), ..parse_status(&captured.stdout) })
    }
}

/// The directories of which git warns. It exits with 0 all the same.
fn unlisted(said: &[u8]) -> Vec<Vec<u8>> {
    let path = |line: &[u8]| {
        let rest = line.strip_prefix(b"warning: could not open directory '")?;
        // Git cuts a longer message: then only the beginning of the path is known.
        let end = memchr::memmem::rfind(rest, b"': ").unwrap_or(rest.len());
        let path = rest.get(..end)?;
        Some(path.strip_suffix(b"/").unwrap_or(path).to_vec())
    };
    said.split(|byte| *byte == b'\n').filter_map(path).collect()
}

fn parse_status(printed: &[u8]) -> Status {
    let mut status = Status::default();
    for line in printed.split(|byte| *byte == 0) {
        let field =
            |count: usize| line.splitn(count, |byte| *byte == b' ').nth(count - 1).map(<[u8]>::to_vec);
        match line.first() {
            Some(b'1') => {
                status.staged |= line.get(2) != Some(&b'.');
                if line.get(3) != Some(&b'.') {
                    status.changed.extend(field(9));
                    if line.get(5) == Some(&b'S') {
                        status.submodules.extend(field(9));
                    }
                }
            }
            Some(b'u') => {
                status.staged = true;
                status.changed.extend(field(11));
            }
            Some(b'?') => status.changed.extend(field(2)),
            Some(b'!') => match field(2) {
                Some(path) if path.ends_with(b"/") => status.ignored_directories.push(path),
                path => status.ignored.extend(path),
            },
            _ => {}
        }
        if matches!(line.first(), Some(b'1' | b'u')) {
            status.known = status.changed.len();
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_every_name_that_a_file_can_have() {
        let status = parse_status(
            b"1 .M N... 100644 100644 100644 aa bb a b\nc\x001 M. N... 100644 100644 100644 aa bb staged\0\
              u UU N... 1 2 3 4 a b c in conflict\0? new\xff\0? repo/\0! ig nored\0! dir/\0",
        );
        assert!(status.staged);
        let want: [&[u8]; 4] = [b"a b\nc", b"in conflict", b"new\xff", b"repo/"];
        assert_eq!(status.changed, want);
        assert_eq!((status.ignored, status.known), (vec![b"ig nored".to_vec()], 2));
        assert_eq!(status.ignored_directories, [b"dir/"]);
        let inner = parse_status(b"1 .M SC.. 160000 160000 160000 aa aa sub\x001 .M N... 1 1 1 a a b\0");
        assert_eq!((inner.submodules, inner.changed.len()), (vec![b"sub".to_vec()], 2));
        assert!(!parse_status(b"1 .M N... 1 2 3 a b x\0").staged);
        let said = b"warning: could not open directory 'a b'': /c/': Permission denied\nother\n\
            warning: could not open directory 'd/': File name too long\n";
        let want: [&[u8]; 2] = [b"a b'': /c", b"d"];
        assert_eq!(unlisted(said), want);
    }
}
