//! The repository of a directory, and the parts of it that a private git directory takes over.
//!
//! Responsible for finding it, and for reading the settings and ignore rules that decide what git sees. Hard rule: they are
//! read once, and kept in memory.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::client::{Call, Client, GitDir, failed};
use crate::fs;
use crate::job::{Code, Reason};

/// Settings that decide what the tree of a worktree is. Whatever could run a program is not among them.
const SETTINGS: &str = r"^(core\.(autocrlf|eol|filemode|symlinks|ignorecase|precomposeunicode|excludesfile|sparsecheckoutcone)|engine\.home)$";

/// A larger file of ignore rules is not taken over.
const MAX_RULES_BYTES: u64 = 16 << 20;

/// A `.git` that is a file holds one line.
const MAX_POINTER_BYTES: u64 = 64 << 10;

/// Files of a git directory, by their names in it.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A repository with a worktree, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The top of the worktree.
    pub top: PathBuf,
    /// Its git directory.
    pub git_dir: PathBuf,
    /// The git directory that it shares with other worktrees.
    pub common_dir: PathBuf,
    /// The identity of the git directory.
    pub identity: Option<Identity>,
    /// The length of an object's name.
    pub hash_bytes: usize,
    /// The commit of HEAD; `None` before the first.
    pub head: Option<String>,
    /// The tree of that commit.
    pub head_tree: Option<String>,
    /// The branch of HEAD; `None` if it is detached.
    pub branch: Option<String>,
}

/// The identity of a git directory. A number alone says too little: it is given to a new directory once the old one is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    dev: u64,
    inode: u64,
    made: Option<std::time::SystemTime>,
}

impl Identity {
    /// The identity of what a path names; `None` if it names nothing.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { dev: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() })
    }
}

impl Repository {
    /// Finds the repository of a directory, and checks that the directory and the top of the worktree can be written.
    ///
    /// # Errors
    /// A reason `not_a_repository`, `repository_not_trusted`, `work_tree_elsewhere`, `work_tree_not_writable`.
    pub fn find_writable(dir: &Path, client: &Client) -> Result<Self, Reason> {
        let repository = Self::find(dir, client)?;
        for place in [&repository.top, dir] {
            if let Err(error) = rustix::fs::access(place, rustix::fs::Access::WRITE_OK) {
                let message = format!("`{}` cannot be written: {error}", place.display());
                return Err(Reason::new(Code::WorkTreeNotWritable, message));
            }
        }
        Ok(repository)
    }

    /// Finds the repository that a directory is in.
    ///
    /// # Errors
    /// A reason, as `not_a_repository`, or `work_tree_elsewhere` if the settings name a worktree that is not the one of this
    /// git directory.
    pub fn find(dir: &Path, client: &Client) -> Result<Self, Reason> {
        let args = [
            "rev-parse",
            "--is-inside-work-tree",
            "--show-cdup",
            "--git-dir",
            "--git-common-dir",
            "--show-object-format",
            "HEAD",
            "HEAD^{tree}",
            "--symbolic-full-name",
            "HEAD",
        ];
        let none = |why: &str| {
            Reason::new(Code::NotARepository, format!("`{}` is not in a git worktree{why}", dir.display()))
        };
        if !dir.is_dir() {
            return Err(none(": no such directory"));
        }
        let captured = Call::new(client, dir, GitDir::Repository, &args).answer()?;
        let lines: Vec<&[u8]> = captured.stdout.split(|byte| *byte == b'\n').collect();
        let inside = lines.first().copied().unwrap_or_default();
        if inside == b"false" {
            return Err(none(", but in a git directory or a bare repository"));
        }
        let [_, up, git_dir, common_dir, format, rest @ ..] = lines.as_slice() else {
            let reason = failed("rev-parse", &captured);
            return Err(match reason.code {
                Code::NotARepository => none(""),
                _ => reason,
            });
        };
        let hash_bytes = match *format {
            b"sha1" => 20,
            b"sha256" => 32,
            // A line break in the path of the git directory moves the lines.
            _ => {
                return Err(Reason::new(
                    Code::EvidenceFailed,
                    "the output of `git rev-parse` has an unknown format",
                ));
            }
        };
        let place = |name: &[u8]| {
            let path = dir.join(OsString::from_vec(name.to_vec()));
            fs::canonical(&path).map_err(|error| Reason::from_error(Code::NotARepository, &error))
        };
        let (head, head_tree, branch) = match (captured.code, rest) {
            (Some(0), [head, tree, name, ..]) => {
                (Some(text(head)), Some(text(tree)), branch_name(&text(name)))
            }
            // The object of the commit is missing.
            (_, [head, ..]) if head.len() == 2 * hash_bytes => {
                (Some(text(head)), None, symbolic_branch(dir, client)?)
            }
            _ => (None, None, symbolic_branch(dir, client)?),
        };
        let (git_dir, top) = (place(git_dir)?, place(up)?);
        if !is_git_dir_of(&git_dir, &top) {
            let (git_dir, top) = (git_dir.display(), top.display());
            let message = format!(
                "the git directory `{git_dir}` names the worktree `{top}`, which is not its own: unset `core.worktree`"
            );
            return Err(Reason::new(Code::WorkTreeElsewhere, message));
        }
        Ok(Self {
            top,
            identity: Identity::read(&git_dir),
            git_dir,
            common_dir: place(common_dir)?,
            hash_bytes,
            head,
            head_tree,
            branch,
        })
    }

    /// The newest commits that HEAD reaches and the old one does not, at most so many; those of HEAD where the old one is gone.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn commits_since(
        &self,
        old: Option<&str>,
        at_most: usize,
        client: &Client,
    ) -> Result<Vec<String>, Reason> {
        let Some(head) = self.head.as_deref().filter(|head| Some(*head) != old) else {
            return Ok(Vec::new());
        };
        let count = format!("--max-count={at_most}");
        let list = |without: Option<&str>| {
            let call = Call::new(client, &self.top, GitDir::Repository, &["rev-list", &count, head]);
            let call = without.into_iter().fold(call, |call, old| call.arg(format!("^{old}")));
            call.arg("--").output()
        };
        let printed = list(old).or_else(|_| list(None))?;
        Ok(String::from_utf8_lossy(&printed).lines().map(str::to_owned).collect())
    }

    /// The parts of a private git directory: the settings and rules of now, and where the objects are.
    ///
    /// # Errors
    /// A reason where git fails.
    pub fn freeze(&self, client: &Client) -> Result<Files, Reason> {
        let list = Call::new(client, &self.top, GitDir::Repository, &["-c", "engine.home=~/"]);
        let list = list.arg("config").arg("-z").arg("--type=path").arg("--get-regexp").arg(SETTINGS);
        let listed = list.answer()?;
        if listed.code != Some(0) {
            return Err(failed("config", &listed));
        }
        let mut config = format!(
            "[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tfsync = none\n\tcompression = 0\n\
             \tsparseCheckout = true\n\tsplitIndex = false\n\texcludesFile = /dev/null\n\
             \tattributesFile = /dev/null\n[index]\n\tsparse = false\n[gc]\n\tauto = 0\n\
             [extensions]\n\tobjectFormat = {}\n[core]\n",
            if self.hash_bytes == 32 { "sha256" } else { "sha1" }
        )
        .into_bytes();
        let mut rules = None;
        for setting in listed.stdout.split(|byte| *byte == 0).filter(|setting| !setting.is_empty()) {
            let (key, value) = match memchr::memchr(b'\n', setting) {
                Some(at) => {
                    (setting.get(..at).unwrap_or_default(), setting.get(at + 1..).unwrap_or_default())
                }
                None => (setting, b"true".as_slice()),
            };
            let path = || self.top.join(OsString::from_vec(value.to_vec()));
            match key.strip_prefix(b"core.") {
                Some(b"excludesfile") => rules = Some(path()),
                Some(name) => {
                    config
                        .extend_from_slice(&[b"\t", name, b" = ", quoted(value).as_slice(), b"\n"].concat());
                }
                None => rules = rules.or_else(|| Some(path().join(".config/git/ignore"))),
            }
        }
        // The rules of the person first: among rules of one rank the last decides, and those of the repository rank higher.
        let mut excluded = rules.map(|path| read(&path)).unwrap_or_default();
        excluded.push(b'\n');
        excluded.extend(read(&self.common_dir.join("info/exclude")));
        let head = self.head.clone().unwrap_or_else(|| "ref: refs/heads/none".to_owned());
        let files = [
            ("config", config),
            ("info/exclude", excluded),
            ("info/sparse-checkout", read(&self.git_dir.join("info/sparse-checkout"))),
            ("objects/info/alternates", alternates(&self.common_dir.join("objects"))),
            ("HEAD", format!("{head}\n").into_bytes()),
        ];
        Ok(files.map(|(name, bytes)| (name.to_owned(), bytes)).into())
    }
}

/// True if `.git` at the top of a worktree is this git directory, or the file or link that leads to it, as in a linked
/// worktree and in a submodule.
fn is_git_dir_of(git_dir: &Path, top: &Path) -> bool {
    let own = top.join(".git");
    let is_it = |path: &Path| fs::canonical(path).is_ok_and(|path| path == git_dir);
    if is_it(&own) {
        return true;
    }
    let read = fs::open_regular(&own).and_then(|file| fs::read_limited(&file, &own, MAX_POINTER_BYTES));
    let Ok(Some(text)) = read else { return false };
    let named = text.trim_ascii_end().strip_prefix(b"gitdir: ");
    named.is_some_and(|named| is_it(&top.join(OsString::from_vec(named.to_vec()))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn branch_name(full: &str) -> Option<String> {
    full.strip_prefix("refs/heads/").map(str::to_owned)
}

fn symbolic_branch(dir: &Path, client: &Client) -> Result<Option<String>, Reason> {
    let captured = Call::new(client, dir, GitDir::Repository, &["symbolic-ref", "-q", "HEAD"]).answer()?;
    Ok(branch_name(text(&captured.stdout).trim_end()))
}

/// Rules that are not there or not readable are none.
fn read(path: &Path) -> Vec<u8> {
    // The rules of a person are often a link to where the person keeps such files.
    let path = fs::canonical(path).unwrap_or_else(|_| path.to_path_buf());
    let read = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, MAX_RULES_BYTES));
    read.ok().flatten().unwrap_or_default()
}

/// A value as it is written in a configuration.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in value {
        match byte {
            b'"' | b'\\' => quoted.extend_from_slice(&[b'\\', *byte]),
            b'\n' => quoted.extend_from_slice(b"\\n"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// A line of `objects/info/alternates`; one in quotes may hold a line break.
fn alternates(objects: &Path) -> Vec<u8> {
    let mut line = quoted(objects.as_os_str().as_bytes());
    line.push(b'\n');
    line
}
