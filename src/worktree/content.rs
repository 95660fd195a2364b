//! The content of the worktree as a tree of git: what its files are, with the user's filters on, litter apart.
//!
//! Responsible for bringing the index of the engine to what the files are. Hard rule: the index of the worktree is not read,
//! because a step can hide changes in it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::Place;
use super::git::{Git, checkpoint, joined, replace};
use super::torn::mend_own_git_dir;
use crate::evidence::Scope;
use crate::fs::{self, Sweep};
use crate::git::index::{self, path_of};
use crate::git::{Client, Status, objects, write};
use crate::job::{Code, Reason};

/// Which files of a worktree count.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// The scope. A file that it names literally counts also where git ignores it.
    pub scope: Scope,
    /// The files that are no change (`Scope::of_no_change`), unless the scope names them literally.
    pub no_change: Scope,
}

impl Counted {
    /// Those of this scope, which may be empty, in a worktree with the files that its tools write for themselves.
    ///
    /// # Errors
    /// `scope_invalid`, for a pattern that is none.
    pub(crate) fn of(dir: &Path, scope: &[String], own_files: &[String]) -> Result<Self, Reason> {
        Ok(Self { scope: Scope::new(scope, dir, dir)?, no_change: Scope::of_no_change(own_files, dir)? })
    }
}

/// The content of a worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The name of the tree.
    pub id: String,
    /// Repositories within, which are no submodules; the tree has nothing of them.
    pub nested: Vec<PathBuf>,
    /// Submodules that differ from the checkpoint; the tree has the old commit.
    pub submodules: Vec<PathBuf>,
    /// Files and directories that cannot be read; the tree has the old content.
    pub unread: Vec<PathBuf>,
    /// Files that git does not record, each with what it says of it. The tree has what is in them, without the filter that failed; of
    /// those with a name that git refuses it has the old content.
    pub refused: Vec<(PathBuf, String)>,
    /// Changed files of another user. The tree has them.
    pub foreign: Vec<PathBuf>,
}

impl Tree {
    /// True if the worktree holds nothing but a tree.
    pub(super) fn is_exactly(&self, tree: &str) -> bool {
        self.id == tree && self.nested.is_empty() && self.unread.is_empty() && self.refused.is_empty()
    }
}

/// What differs from the index of the engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Differing {
    /// Files that the index knows.
    pub tracked: Vec<Vec<u8>>,
    /// Files that it does not know.
    pub untracked: Vec<Vec<u8>>,
    /// As in `Tree`.
    pub nested: Vec<PathBuf>,
    /// As in `Tree`.
    pub submodules: Vec<PathBuf>,
    /// Directories that cannot be listed.
    pub unlisted: Vec<PathBuf>,
    /// Directories that git ignores.
    pub ignored: Vec<PathBuf>,
    /// Whether a file of the index differs that does not count.
    pub has_uncounted: bool,
    /// Pipes and the like in place of files of rules; they are gone.
    pub unblocked: Vec<PathBuf>,
}

impl Differing {
    /// True if the worktree is what the index says, as far as git sees it.
    pub(super) fn is_none(&self) -> bool {
        let lists = [&self.nested, &self.submodules, &self.unlisted];
        let is_empty = self.tracked.is_empty() && self.untracked.is_empty();
        is_empty && !self.has_uncounted && lists.iter().all(|list| list.is_empty())
    }
}

/// A longer look waits for something, or the worktree is very large: then it is made once more.
const FIRST_LOOK: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 20 });

/// So many calls find the files that git does not record.
const MAX_ADDS: usize = 200;

/// Looks at the worktree, and records its content in the repository, without a reference to it.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn tree_now(place: &Place, counted: &Counted, client: &Client) -> Result<Tree, Reason> {
    let git = Git::at(place, client);
    let differing = differing(&git, counted)?;
    record(&git, differing)
}

/// The files of the last checkpoint, each with its bytes.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn files(place: &Place, client: &Client) -> Result<Vec<(PathBuf, u64)>, Reason> {
    let git = Git::at(place, client);
    let listed = git.read(&["ls-tree", "-r", "-l", "-z"]).arg(checkpoint(place, client)?.tree).output()?;
    let one = |line: &[u8]| {
        let tab = memchr::memchr(b'\t', line)?;
        let (facts, path) = (line.get(..tab)?, line.get(tab + 1..)?);
        let bytes = std::str::from_utf8(facts).ok()?.split_whitespace().nth(3)?.parse().ok()?;
        Some((path_of(path), bytes))
    };
    Ok(listed.split(|byte| *byte == 0).filter_map(one).collect())
}

/// Compares the worktree with the index of the engine. An index that is missing or torn is made again from the checkpoint.
pub(super) fn differing(git: &Git<'_>, counted: &Counted) -> Result<Differing, Reason> {
    git.place.is_there()?;
    mend_own_git_dir(git.place)?;
    let index = git.place.index();
    distrust(git)?;
    let status = || status(git);
    let (status, unblocked) = match fs::exists(&index).unwrap_or(false).then(status) {
        Some(Ok(status)) => status,
        Some(Err(reason)) if git.client.is_over() || reason.code != Code::GitFailed => return Err(reason),
        _ => {
            fs::remove(&index).map_err(|error| write::wrong(&error))?;
            let head = checkpoint(git.place, git.client)?;
            write::run(git.tree(&["read-tree", &head.commit]))?;
            status()?
        }
    };
    let status = without_unwritten(git.place, status)?;
    Ok(Differing { unblocked, ..sort(git.place, counted, status) })
}

/// The status without the files whose bytes are those that the index names: git takes one for changed that it would convert now, as
/// one that was committed with CRLF before `.gitattributes` called it a text. No step has written it.
fn without_unwritten(place: &Place, mut status: Status) -> Result<Status, Reason> {
    if status.known == 0 {
        return Ok(status);
    }
    let Some((bytes, _)) = index::read(&place.index())? else { return Ok(status) };
    let Ok(entries) = index::entries(&bytes, place.hash_bytes) else { return Ok(status) };
    let is_as_named = |path: &Vec<u8>| {
        let Some(entry) = entries.get(path) else { return false };
        let full = place.file(&path_of(path));
        let Ok(file) = std::fs::symlink_metadata(&full) else { return false };
        let is_mode = file.is_file() && (entry.mode & 0o100 == 0) == (file.mode() & 0o100 == 0);
        is_mode
            && entry.mode & 0o170_000 == 0o100_000
            && std::fs::read(&full)
                .is_ok_and(|body| objects::id("blob", &body, place.hash_bytes) == entry.object)
    };
    let known = status.changed.get(..status.known).unwrap_or_default();
    let unwritten: BTreeSet<Vec<u8>> = known.iter().filter(|path| is_as_named(path)).cloned().collect();
    status.changed.retain(|path| !unwritten.contains(path));
    status.known -= unwritten.len();
    Ok(status)
}

/// Has git look anew at each file that was changed in the second in which the index was written: git compares whole seconds, so
/// one of the same size that got its former time back would be taken for unchanged. Marks that hide a file go too.
fn distrust(git: &Git<'_>) -> Result<(), Reason> {
    let path = git.place.index();
    let Ok(Some((mut bytes, written))) = index::read(&path) else { return Ok(()) };
    let is_there = |path: &[u8]| std::fs::symlink_metadata(git.place.file(&path_of(path))).is_ok();
    match index::distrust(&mut bytes, git.place.hash_bytes, written.0, is_there) {
        Ok(()) => replace(&path, &bytes),
        // It is torn, and git says so.
        Err(_) => Ok(()),
    }
}

/// Asks git. A program can leave a pipe in place of a file of rules, at which git would wait for ever: it is removed and given too.
fn status(git: &Git<'_>) -> Result<(Status, Vec<PathBuf>), Reason> {
    let mut unblocked = Vec::new();
    let call = || git.tree(&Status::WITH_SUBMODULES);
    let captured = match write::answer(call().within(FIRST_LOOK)) {
        Err(reason) if reason.code == Code::GitFailed && !git.client.is_over() => {
            unblocked = unblock(git.place)?;
            // The first one had it.
            fs::remove(&git.place.beside("index.lock")).map_err(|error| write::wrong(&error))?;
            write::answer(call())?
        }
        answered => answered?,
    };
    let status = Status::read(&captured);
    let status = status.map_err(|_| write::refusal("status", &git.place.dir, &captured))?;
    Ok((status, unblocked))
}

/// The files of a worktree that git reads by itself.
const RULES: [&str; 3] = [".gitattributes", ".gitignore", ".gitmodules"];

/// Removes the files of rules at which git would wait for ever.
fn unblock(place: &Place) -> Result<Vec<PathBuf>, Reason> {
    let found = fs::sweep(&place.dir, Sweep::default(), &|_| false).map_err(|error| write::wrong(&error))?;
    let mut removed = found.special;
    removed.retain(|path| RULES.iter().any(|name| path.ends_with(name)));
    for path in &removed {
        fs::remove(&place.file(path)).map_err(|error| write::wrong(&error))?;
    }
    Ok(removed)
}

fn sort(place: &Place, counted: &Counted, status: Status) -> Differing {
    let counts = |path: &Vec<u8>| {
        let path = path_of(path);
        !counted.no_change.contains(&path) || counted.scope.names(&path)
    };
    let forced = forced(place, counted, &status);
    let Status { changed, known, submodules, unlisted, ignored_directories, .. } = status;
    let submodules: BTreeSet<Vec<u8>> = submodules.into_iter().collect();
    let (mut tracked, mut untracked, mut nested) = (Vec::new(), forced, Vec::new());
    let mut has_uncounted = false;
    for (number, path) in changed.into_iter().enumerate() {
        if let Some(repository) = path.strip_suffix(b"/") {
            nested.push(path_of(repository));
        } else if !submodules.contains(&path) && counts(&path) {
            if number < known { &mut tracked } else { &mut untracked }.push(path);
        } else {
            has_uncounted |= number < known;
        }
    }
    let paths = |all: Vec<Vec<u8>>| all.iter().map(|path| path_of(path)).collect();
    let submodules = paths(submodules.into_iter().collect());
    let (unlisted, ignored) = (paths(unlisted), paths(ignored_directories));
    Differing {
        tracked,
        untracked,
        nested,
        submodules,
        unlisted,
        ignored,
        has_uncounted,
        unblocked: Vec::new(),
    }
}

/// The ignored files that the scope names.
fn forced(place: &Place, counted: &Counted, status: &Status) -> Vec<Vec<u8>> {
    let is_ignored = |path: &str| {
        let in_directory = status.ignored_directories.iter().any(|dir| path.as_bytes().starts_with(dir));
        in_directory || status.ignored.iter().any(|ignored| ignored == path.as_bytes())
    };
    let is_file = |path: &str| {
        std::fs::symlink_metadata(place.dir.join(path)).is_ok_and(|file| file.is_file() || file.is_symlink())
    };
    let named = counted.scope.literal().filter(|path| is_ignored(path) && is_file(path));
    named.map(|path| path.as_bytes().to_vec()).collect()
}

/// Brings the index of the engine to what the files are, and makes its tree.
pub(super) fn record(git: &Git<'_>, differing: Differing) -> Result<Tree, Reason> {
    let Differing { tracked, untracked, nested, submodules, unlisted, .. } = differing;
    let all: Vec<Vec<u8>> = tracked.into_iter().chain(untracked).collect();
    let place = git.place;
    let look = |path: &Vec<u8>| std::fs::symlink_metadata(place.file(&path_of(path))).ok();
    let is_foreign = |path: &&Vec<u8>| look(path).is_some_and(|file| !fs::is_own(&file));
    let foreign = all.iter().filter(is_foreign).map(|path| path_of(path)).collect();
    // git takes only files and links; a repository in place of a file would become a submodule.
    // A path that is too long for this process is short enough for git, which is in the worktree.
    let is_gone = |path: &Vec<u8>| match std::fs::symlink_metadata(place.file(&path_of(path))) {
        Ok(file) => !file.is_file() && !file.is_symlink(),
        Err(error) => error.kind() != io::ErrorKind::InvalidFilename,
    };
    let (gone, there): (Vec<Vec<u8>>, Vec<Vec<u8>>) = all.into_iter().partition(is_gone);
    if !gone.is_empty() {
        write::run(git.tree(&["update-index", "--force-remove", "-z", "--stdin"]).input(joined(&gone)))?;
    }
    let mut tree = Tree { nested, submodules, foreign, ..Tree::default() };
    add(git, there, &mut tree)?;
    tree.unread.extend(unlisted);
    Ok(Tree { id: written(git)?, ..tree })
}

/// Adds files to the index, and notes those that cannot be read, and those that git refuses: it has names that it does not
/// record, and a filter may fail.
fn add(git: &Git<'_>, files: Vec<Vec<u8>>, tree: &mut Tree) -> Result<(), Reason> {
    let mut rest = vec![files];
    for _ in 0..MAX_ADDS {
        let Some(files) = rest.pop() else { return Ok(()) };
        if files.is_empty() {
            continue;
        }
        let args = ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"];
        let captured = write::answer(git.tree(&args).input(joined(&files)))?;
        if captured.code == Some(0) {
            if memchr::memmem::find(&captured.stderr, b"Ignoring path").is_some() {
                tree.refused.extend(passed_over(git.place, &files)?);
            }
            continue;
        }
        let refused = write::refusal("update-index", &git.place.dir, &captured);
        // One file is enough, and then nothing was written.
        let (read, closed): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|path| is_readable(git.place, path));
        if !closed.is_empty() {
            tree.unread.extend(closed.iter().map(|path| path_of(path)));
            rest.push(read);
        } else if refused.code != Code::GitFailed {
            return Err(refused);
        } else if let [path] = read.as_slice() {
            tree.refused.push((path_of(path), refused.message));
            add_as_it_is(git, path)?;
        } else {
            let (one, other) = read.split_at(read.len() / 2);
            rest.extend([one.to_vec(), other.to_vec()]);
        }
    }
    let message = "git refuses more files of the worktree than are looked for";
    Err(Reason::new(Code::GitFailed, message))
}

/// Adds a file without its filter, which may have failed: what is put aside has to hold its content. A name that git refuses is
/// left out.
fn add_as_it_is(git: &Git<'_>, path: &[u8]) -> Result<(), Reason> {
    let Ok(file) = std::fs::symlink_metadata(git.place.file(&path_of(path))) else { return Ok(()) };
    if !file.is_file() {
        return Ok(());
    }
    let hash = write::line(git.tree(&["hash-object", "-w", "--no-filters", "--"]).arg(path_of(path)))?;
    let mode = if file.mode() & 0o100 == 0 { "100644" } else { "100755" };
    let entry = [format!("{mode} {hash}\t").as_bytes(), path, b"\0"].concat();
    let captured = write::answer(git.tree(&["update-index", "--add", "-z", "--index-info"]).input(entry))?;
    match captured.code {
        None => Err(write::refusal("update-index", &git.place.dir, &captured)),
        Some(_) => Ok(()),
    }
}

/// The files that git was to add and passed over, because of a name that it takes for its own.
fn passed_over(place: &Place, files: &[Vec<u8>]) -> Result<Vec<(PathBuf, String)>, Reason> {
    let entries = index::entries(&index::read_written(&place.index())?, place.hash_bytes)?;
    let missing = files.iter().filter(|path| !entries.contains_key(*path)).map(|path| path_of(path));
    Ok(missing.map(|path| (path, "git takes the name for its own".to_owned())).collect())
}

fn is_readable(place: &Place, path: &[u8]) -> bool {
    let full = place.file(&path_of(path));
    full.is_symlink() || rustix::fs::access(&full, rustix::fs::Access::READ_OK) != Err(Errno::ACCESS)
}

/// The tree of the index; git is not asked where the index names it.
fn written(git: &Git<'_>) -> Result<String, Reason> {
    let bytes = index::read_written(&git.place.index())?;
    match index::tree(&bytes, git.place.hash_bytes) {
        Some(tree) => Ok(tree),
        None => write::line(git.tree(&["write-tree"])),
    }
}
