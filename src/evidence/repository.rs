//! Which repository a job works on, and what of it is taken over into a git directory of our own.
//!
//! Responsible for finding it, for the preconditions of a job that needs one, and for freezing the settings and ignore
//! rules that decide what git sees. Hard rule: after the first look its configuration is not read again.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::deadline::Deadline;
use super::git::{Git, Place, failed};
use super::stamp::Identity;
use crate::causes::causes;
use crate::fs::{self, Scratch};
use crate::job::Reason;

/// Settings that decide what the tree of a work tree is. Whatever could run a program is not among them.
const SETTINGS: &str = r"^(core\.(autocrlf|eol|filemode|symlinks|ignorecase|precomposeunicode|excludesfile|sparsecheckoutcone)|engine\.home)$";

/// A larger file of ignore rules is not taken over.
const MAX_RULES_BYTES: u64 = 16 << 20;

/// A repository with a work tree, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The top of the work tree.
    pub top: PathBuf,
    /// Its git directory.
    pub git_dir: PathBuf,
    /// The git directory that it shares with other work trees.
    pub common_dir: PathBuf,
    /// Which directory the git directory is.
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

/// Says that a directory is in a work tree of git, and that both can be written.
///
/// # Errors
/// A reason `git_missing`, `not_a_repository`, `repository_not_trusted`, `work_tree_not_writable`.
pub fn is_repository(dir: &Path, deadline: Deadline) -> Result<Repository, Reason> {
    let repository = Repository::find(dir, deadline)?;
    for place in [&repository.top, dir] {
        if let Err(error) = rustix::fs::access(place, rustix::fs::Access::WRITE_OK) {
            let message = format!("`{}` can not be written: {error}", place.display());
            return Err(Reason::new("work_tree_not_writable", message));
        }
    }
    Ok(repository)
}

impl Repository {
    /// Finds the repository that a directory is in.
    ///
    /// # Errors
    /// A reason, as `not_a_repository`.
    pub fn find(dir: &Path, deadline: Deadline) -> Result<Self, Reason> {
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
            Reason::new("not_a_repository", format!("`{}` is not in a work tree of git{why}", dir.display()))
        };
        if !dir.is_dir() {
            return Err(none(": there is no such directory"));
        }
        let captured = Git::new(dir, Place::Own, &args, deadline).answer()?;
        let lines: Vec<&[u8]> = captured.stdout.split(|byte| *byte == b'\n').collect();
        let inside = lines.first().copied().unwrap_or_default();
        if inside == b"false" {
            return Err(none(", but in a git directory or a bare repository"));
        }
        let [_, up, git_dir, common_dir, format, rest @ ..] = lines.as_slice() else {
            let reason = failed("rev-parse", &captured);
            return Err(match reason.code.as_str() {
                "not_a_repository" => none(""),
                _ => reason,
            });
        };
        let hash_bytes = match *format {
            b"sha1" => 20,
            b"sha256" => 32,
            // A line break in the path of the git directory moves the lines.
            _ => {
                return Err(Reason::new(
                    "evidence_failed",
                    "the answer of `git rev-parse` is not in a known form",
                ));
            }
        };
        let place = |name: &[u8]| {
            let path = dir.join(OsString::from_vec(name.to_vec()));
            fs::canonical(&path).map_err(|error| Reason::new("not_a_repository", causes(&error)))
        };
        let (head, head_tree, branch) = match (captured.code, rest) {
            (Some(0), [head, tree, name, ..]) => {
                (Some(text(head)), Some(text(tree)), branch_name(&text(name)))
            }
            // The object of the commit is missing.
            (_, [head, ..]) if head.len() == 2 * hash_bytes => {
                (Some(text(head)), None, symbolic_branch(dir, deadline)?)
            }
            _ => (None, None, symbolic_branch(dir, deadline)?),
        };
        let git_dir = place(git_dir)?;
        Ok(Self {
            top: place(up)?,
            identity: Identity::of(&git_dir),
            git_dir,
            common_dir: place(common_dir)?,
            hash_bytes,
            head,
            head_tree,
            branch,
        })
    }

    /// Makes the git directory of our own: the objects of the repository and the settings of now, nothing else.
    ///
    /// # Errors
    /// A reason with the path that could not be read or written.
    pub fn freeze(&self, scratch: &Scratch, name: &str, deadline: Deadline) -> Result<PathBuf, Reason> {
        let list = Git::new(&self.top, Place::Own, &["-c", "engine.home=~/"], deadline);
        let list = list.arg("config").arg("-z").arg("--type=path").arg("--get-regexp").arg(SETTINGS);
        let listed = list.answer()?;
        if listed.code != Some(0) {
            return Err(failed("config", &listed));
        }
        let mut config = format!(
            "[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tfsync = none\n\tcompression = 0\n\
             \tsparseCheckout = true\n\tsplitIndex = false\n[index]\n\tsparse = false\n[gc]\n\tauto = 0\n\
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
        let common = scratch.path().join(name).join("info");
        let excludes = common.join("global_rules");
        config.extend_from_slice(b"\texcludesFile = ");
        config.extend_from_slice(&quoted(excludes.as_os_str().as_bytes()));
        config.push(b'\n');
        let write = |file: &str, bytes: &[u8]| {
            let written = scratch.write(&format!("{name}/{file}"), bytes);
            written.map_err(|error| Reason::new("evidence_failed", causes(&error)))
        };
        write("config", &config)?;
        write("info/global_rules", &rules.map(|path| read(&path)).unwrap_or_default())?;
        write("info/exclude", &read(&self.common_dir.join("info/exclude")))?;
        write("info/sparse-checkout", &read(&self.git_dir.join("info/sparse-checkout")))?;
        write("objects/info/alternates", &alternates(&self.common_dir.join("objects")))?;
        let head = self.head.clone().unwrap_or_else(|| "ref: refs/heads/none".to_owned());
        write("HEAD", format!("{head}\n").as_bytes())?;
        let refs = scratch.dir(&format!("{name}/refs/heads"));
        refs.map_err(|error| Reason::new("evidence_failed", causes(&error)))?;
        Ok(scratch.path().join(name))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn branch_name(full: &str) -> Option<String> {
    full.strip_prefix("refs/heads/").map(str::to_owned)
}

fn symbolic_branch(dir: &Path, deadline: Deadline) -> Result<Option<String>, Reason> {
    let captured = Git::new(dir, Place::Own, &["symbolic-ref", "-q", "HEAD"], deadline).answer()?;
    Ok(branch_name(text(&captured.stdout).trim_end()))
}

/// Rules that are not there or not readable are none.
fn read(path: &Path) -> Vec<u8> {
    // The rules of a person are often a link to where the person keeps such files.
    let path = fs::canonical(path).unwrap_or_else(|_| path.to_path_buf());
    let read = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, MAX_RULES_BYTES));
    read.ok().flatten().unwrap_or_default()
}

/// A value as it stands in a configuration.
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
