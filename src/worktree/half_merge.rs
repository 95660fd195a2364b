//! A merge into a checkout that ends in the middle: noted before git writes the files, and undone.
//!
//! git writes the files one by one, then the index, then the branch. What an end at each of these leaves:
//!
//! ```text
//! mark      nothing
//! files     index and branch are old, some files new, one perhaps torn or missing; `index.lock`
//! index     files and index are new, the branch is old
//! branch    done, but for the mark
//! ```
//!
//! Hard rule: a file is removed only if it is what git has written there, or the beginning of that, and only while the mark says
//! that git was writing; what a person has written stays.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::git::{Repo, joined};
use crate::clock::{Clock, SystemClock};
use crate::fs::{self, FsError};
use crate::git::index::path_of;
use crate::git::{Call, Client, GitDir, wait_until_gone, write};
use crate::job::{Code, Reason, SCHEMA_VERSION};

/// A left-over lock file is known for one after a while (`LockFile`); this is longer.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// A larger mark is none of ours, and a larger file is not compared.
const LARGEST_MARK: u64 = 64 << 10;
const LARGEST_FILE: u64 = 256 << 20;

/// So many paths are named.
const NAMED: usize = 5;

/// What is there while git writes a checkout: beside the place for merges of the run.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    schema_version: u32,
    branch: String,
    from: String,
    to: String,
}

/// A file of a commit: its mode and its object.
type Version = (String, String);

/// A path that differs between two commits.
#[derive(Debug)]
struct Differing {
    path: Vec<u8>,
    old: Option<Version>,
    new: Option<Version>,
}

const LINK: &str = "120000";
const SUBMODULE: &str = "160000";
const PROGRAM: &str = "100755";

/// Notes that git is going to write the checkout of a branch.
///
/// # Errors
/// A reason where the file cannot be written.
pub(super) fn begin(repo: &Repo<'_>, branch: &str, [from, to]: [&str; 2]) -> Result<(), Reason> {
    let mark = Mark {
        schema_version: SCHEMA_VERSION,
        branch: branch.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let text = serde_json::to_vec(&mark).map_err(|error| Reason::from_error(Code::GitFailed, &error))?;
    let (path, wrong) = (mark_of(repo), |error: FsError| write::wrong(&error));
    let dir = path.parent().unwrap_or(&path);
    super::tree::create_dirs(dir)?;
    let temporary = fs::temporary_in(dir);
    let file = fs::create_new(&temporary, &text).map_err(wrong)?;
    if repo.durable {
        fs::sync_data(&file, &temporary).map_err(wrong)?;
    }
    fs::rename_replace(&temporary, &path).map_err(wrong)?;
    if repo.durable {
        fs::sync_dir(dir).map_err(wrong)?;
    }
    Ok(())
}

/// Takes that back.
///
/// # Errors
/// A reason where the file cannot be removed.
pub(super) fn end(repo: &Repo<'_>) -> Result<(), Reason> {
    fs::remove(&mark_of(repo)).map_err(|error| write::wrong(&error)).map(drop)
}

fn mark_of(repo: &Repo<'_>) -> PathBuf {
    repo.scratch.with_extension("json")
}

fn read(repo: &Repo<'_>) -> Result<Option<Mark>, Reason> {
    let path = mark_of(repo);
    let bytes = match fs::open_regular(&path) {
        Ok(file) => fs::read_limited(&file, &path, LARGEST_MARK).map_err(|error| write::wrong(&error))?,
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(write::wrong(&error)),
    };
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Makes a checkout whole that the last merge of this run was writing when it was ended, if there is one: as before that merge, or
/// as after it. What a person has done since stays.
///
/// # Errors
/// `index_locked` where a lock file of git does not turn out to be left over, or as `undo`.
pub(super) fn mend(repo: &Repo<'_>, client: &Client) -> Result<(), Reason> {
    if let Some(mark) = read(repo)?
        && let [top] = checkouts(repo, &mark.branch)?.as_slice()
    {
        if !top.is_dir() {
            let message = format!(
                "a merge was ended while git wrote `{}`, which is missing: bring it back, and run the command again",
                top.display()
            );
            return Err(Reason::new(Code::BranchInUse, message));
        }
        remove_left_locks(repo, (top, &mark.branch), client)?;
        undo(top, [&mark.from, &mark.to], client)?;
    }
    end(repo)
}

/// The worktrees that have the branch checked out.
pub(super) fn checkouts(repo: &Repo<'_>, full_name: &str) -> Result<Vec<PathBuf>, Reason> {
    let listed = repo.read(&["worktree", "list", "--porcelain", "-z"]).output()?;
    let (mut found, mut top) = (Vec::new(), PathBuf::new());
    for line in listed.split(|byte| *byte == 0) {
        if let Some(path) = line.strip_prefix(b"worktree ") {
            top = path_of(path);
        } else if line.strip_prefix(b"branch ") == Some(full_name.as_bytes()) {
            found.push(top.clone());
        }
    }
    Ok(found)
}

/// Waits until no lock file of git is in the way, and removes those whose maker is not alive any more.
fn remove_left_locks(repo: &Repo<'_>, (top, branch): (&Path, &str), client: &Client) -> Result<(), Reason> {
    let asked = Call::new(client, top, GitDir::Repository, &["rev-parse", "--absolute-git-dir"]).output()?;
    let git_dir = path_of(asked.trim_ascii_end());
    let mut paths = ["index", "HEAD", "ORIG_HEAD"].map(|name| git_dir.join(format!("{name}.lock"))).to_vec();
    paths.push(repo.common_dir.join(format!("{branch}.lock")));
    let clock = SystemClock::start();
    let find = || paths.iter().find(|path| fs::exists(path).unwrap_or(false)).cloned();
    let is_over = || clock.monotonic() > LOCK_WAIT;
    wait_until_gone(&find, (&client.stop, &is_over), &|path| locked(top, path)).map(drop)
}

/// The reason of a checkout that a git works on, or has left a lock file in.
pub(super) fn locked(top: &Path, path: &Path) -> Reason {
    let message = format!(
        "another git works on `{}`, or was killed there: `{}` is there; if a merge of another run was ended there, repeat \
         that merge; else remove that file once no git works there",
        top.display(),
        path.display()
    );
    Reason::new(Code::IndexLocked, message)
}

/// Makes a checkout again what it was before git began to bring it from one commit to another.
///
/// # Errors
/// `git_failed` with what to do where a file cannot be written back, or a reason where git fails.
pub(super) fn undo(top: &Path, [from, to]: [&str; 2], client: &Client) -> Result<(), Reason> {
    let top = &fs::canonical(top).map_err(|error| write::wrong(&error))?;
    let read = |args: &[&str]| Call::new(client, top, GitDir::Repository, args);
    let head = read(&["rev-parse", "--verify", "HEAD"]).output()?;
    if head.trim_ascii_end() != from.as_bytes() {
        return Ok(());
    }
    let listed =
        read(&["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", from, to]).output()?;
    let mut all = differing(&listed);
    let index = staged(&read(&["ls-files", "-z", "--stage", "--full-name"]).output()?);
    if all.iter().all(|one| index.get(&one.path) == one.new.as_ref()) {
        unstage(top, &all, client)?;
    } else {
        // What a person has staged since is theirs.
        all.retain(|one| index.get(&one.path) == one.old.as_ref());
    }
    let hashes = hashes(top, &all, client)?;
    let mut emptied = Vec::new();
    for one in &all {
        let Some(path) = within(top, &one.path) else { continue };
        if is_written(one, (&path, hashes.get(&one.path)), (top, client))? {
            fs::remove(&path).map_err(|error| write::wrong(&error))?;
            let above = path.ancestors().skip(1).take_while(|above| *above != top).map(Path::to_path_buf);
            emptied.extend(above);
        } else if one.old.as_ref().is_some_and(|(mode, _)| mode != SUBMODULE) {
            // git makes it for files below, or for a submodule.
            emptied.push(path);
        }
    }
    // The deepest first.
    emptied.sort_by(|one, other| other.cmp(one));
    emptied.dedup();
    for dir in emptied.into_iter().filter(|dir| dir.symlink_metadata().is_ok_and(|dir| dir.is_dir())) {
        fs::remove_empty_dir(&dir).map_err(|error| write::wrong(&error))?;
    }
    restore(top, &all, client)
}

/// Gives the index the old versions back, of these paths alone.
fn unstage(top: &Path, all: &[Differing], client: &Client) -> Result<(), Reason> {
    if all.is_empty() {
        return Ok(());
    }
    let git_dir = GitDir::Written { work_tree: None, durable: false };
    let args = ["reset", "--quiet", "--pathspec-from-file=-", "--pathspec-file-nul"];
    let call = Call::new(client, top, git_dir, &args).variable("GIT_LITERAL_PATHSPECS", "1");
    write::run(call.input(joined(all.iter().map(|one| &one.path)))).map(drop)
}

/// Writes back what is missing; nothing is overwritten.
fn restore(top: &Path, all: &[Differing], client: &Client) -> Result<(), Reason> {
    let is_missing = |one: &Differing| {
        one.old.as_ref().is_some_and(|(mode, _)| mode != SUBMODULE)
            && within(top, &one.path).is_some_and(|path| path.symlink_metadata().is_err())
    };
    let missing: Vec<&Differing> = all.iter().filter(|one| is_missing(one)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let git_dir = GitDir::Written { work_tree: None, durable: false };
    let call = Call::new(client, top, git_dir, &["checkout-index", "-u", "-z", "--stdin"]);
    let captured = write::answer(call.input(joined(missing.iter().map(|one| &one.path))))?;
    if captured.code == Some(0) {
        return Ok(());
    }
    let reason = write::refusal("checkout-index", top, &captured);
    let names =
        missing.iter().filter(|one| is_missing(one)).map(|one| path_of(&one.path).display().to_string());
    let names: Vec<String> = names.take(NAMED).collect();
    let message = format!(
        "{}; the checkout is half written: mend that, then git checkout -- {}",
        reason.message,
        names.join(" ")
    );
    Err(Reason { message, ..reason })
}

fn differing(listed: &[u8]) -> Vec<Differing> {
    let version = |mode: &str, id: &str| {
        let is_there = mode.bytes().any(|byte| byte != b'0');
        is_there.then(|| (mode.to_owned(), id.to_owned()))
    };
    let mut fields = listed.split(|byte| *byte == 0);
    let mut all = Vec::new();
    while let (Some(about), Some(path)) = (fields.next(), fields.next()) {
        let about = String::from_utf8_lossy(about).into_owned();
        let words: Vec<&str> = about.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old, new, ..] = words.as_slice() else { continue };
        all.push(Differing { path: path.to_vec(), old: version(old_mode, old), new: version(new_mode, new) });
    }
    all
}

fn staged(listed: &[u8]) -> BTreeMap<Vec<u8>, Version> {
    let one = |line: &[u8]| {
        let tab = memchr::memchr(b'\t', line)?;
        let about = String::from_utf8_lossy(line.get(..tab)?).into_owned();
        let [mode, id, "0"] = about.split(' ').collect::<Vec<_>>()[..] else { return None };
        Some((line.get(tab + 1..)?.to_vec(), (mode.to_owned(), id.to_owned())))
    };
    listed.split(|byte| *byte == 0).filter_map(one).collect()
}

/// The path in the checkout; none if a link leads away from it.
fn within(top: &Path, path: &[u8]) -> Option<PathBuf> {
    let relative = path_of(path);
    let above = relative.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    let leads_away = |above: &Path| {
        let found = top.join(above).symlink_metadata();
        found.is_ok_and(|found| !found.is_dir())
    };
    let is_within = !above.into_iter().any(leads_away);
    is_within.then(|| top.join(relative))
}

/// The names of the objects that git would record of the files.
fn hashes(top: &Path, all: &[Differing], client: &Client) -> Result<BTreeMap<Vec<u8>, String>, Reason> {
    let is_file = |one: &&Differing| {
        let path = within(top, &one.path);
        path.and_then(|path| path.symlink_metadata().ok()).is_some_and(|found| found.is_file())
    };
    let git_dir = || GitDir::Written { work_tree: None, durable: false };
    let lines =
        |said: &[u8]| -> Vec<String> { String::from_utf8_lossy(said).lines().map(str::to_owned).collect() };
    let paths: Vec<&Vec<u8>> = all.iter().filter(is_file).map(|one| &one.path).collect();
    let (plain, odd): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| !path.contains(&b'\n') && path.first() != Some(&b'"'));
    let mut found = BTreeMap::new();
    let mut single = odd;
    if !plain.is_empty() {
        let input = plain.iter().flat_map(|path| path.iter().copied().chain([b'\n'])).collect();
        let call = Call::new(client, top, git_dir(), &["hash-object", "--stdin-paths"]).input(input);
        let captured = write::answer(call)?;
        let ids = lines(&captured.stdout);
        if captured.code == Some(0) && ids.len() == plain.len() {
            found.extend(plain.into_iter().cloned().zip(ids));
        } else {
            // A filter has failed for one of them.
            single.extend(plain);
        }
    }
    for path in single {
        let call = Call::new(client, top, git_dir(), &["hash-object", "--"]).arg(path_of(path));
        let captured = write::answer(call)?;
        if let (Some(0), [id]) = (captured.code, lines(&captured.stdout).as_slice()) {
            found.insert(path.clone(), id.clone());
        }
    }
    Ok(found)
}

/// True if what is at a path is what git has written there of the new commit, or the beginning of it.
fn is_written(
    one: &Differing,
    (path, hash): (&Path, Option<&String>),
    (top, client): (&Path, &Client),
) -> Result<bool, Reason> {
    let Some((mode, id)) = one.new.as_ref().filter(|(mode, _)| mode != SUBMODULE) else { return Ok(false) };
    let Ok(found) = path.symlink_metadata() else { return Ok(false) };
    let blob = || Call::new(client, top, GitDir::Repository, &["cat-file", "blob", id]).answer();
    if found.is_symlink() {
        let target =
            std::fs::read_link(path).map_or_else(|_| Vec::new(), |to| to.as_os_str().as_bytes().to_vec());
        return Ok(mode == LINK && blob()?.stdout == target);
    }
    if !found.is_file() {
        return Ok(false);
    }
    let is_program = found.permissions().mode() & 0o100 != 0;
    let is_old =
        one.old.as_ref().is_some_and(|(mode, id)| Some(id) == hash && (mode == PROGRAM) == is_program);
    if is_old {
        return Ok(false);
    }
    if Some(id) == hash || found.len() == 0 {
        return Ok(true);
    }
    let file = fs::open_regular(path).map_err(|error| write::wrong(&error))?;
    let bytes = fs::read_limited(&file, path, LARGEST_FILE).map_err(|error| write::wrong(&error))?;
    let Some(bytes) = bytes else { return Ok(false) };
    if blob()?.stdout.starts_with(&bytes) {
        return Ok(true);
    }
    // As a filter writes it.
    let git_dir = GitDir::Written { work_tree: None, durable: false };
    let named = format!("--path={}", String::from_utf8_lossy(&one.path));
    let filtered = write::answer(Call::new(client, top, git_dir, &["cat-file", "--filters", &named, id]))?;
    Ok(filtered.code == Some(0) && filtered.stdout.starts_with(&bytes))
}
