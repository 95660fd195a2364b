//! The calls of git for one workstream, and its references.
//!
//! Hard rule: no call finds its repository by the worktree.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Place;
use super::told::Told;
use crate::fs;
use crate::git::worktree::line_of;
use crate::git::{Call, Client, GitDir, WorkTree, refs, write};
use crate::job::{Code, Reason};

/// A place with its client of git.
#[derive(Debug)]
pub(super) struct Git<'a> {
    pub(super) place: &'a Place,
    pub(super) client: &'a Client,
    git_dir: PathBuf,
    index: PathBuf,
}

/// A repository, for calls that are about no worktree.
#[derive(Debug, Clone)]
pub(crate) struct Repo<'a> {
    /// The top of the user's checkout.
    pub top: &'a Path,
    /// The git directory.
    pub common_dir: &'a Path,
    /// A directory of ours that is made for a merge and removed after it. No other process may use it meanwhile.
    pub scratch: PathBuf,
    /// Whether objects and references are synced.
    pub durable: bool,
    /// Calls git.
    pub client: &'a Client,
}

impl<'a> Repo<'a> {
    /// A call that changes it.
    pub(super) fn change(&self, args: &[&str]) -> Call<'a> {
        Call::new(self.client, self.top, GitDir::Written { work_tree: None, durable: false }, args)
    }

    /// A call that only reads it.
    pub(super) fn read(&self, args: &[&str]) -> Call<'a> {
        Call::new(self.client, self.top, GitDir::Repository, args)
    }

    /// Moves a reference, if it is where it was seen; `None` means that it was not there.
    pub(super) fn move_ref(&self, name: &str, to: &str, from: Option<&str>) -> Result<(), Reason> {
        if from == Some(to) {
            return Ok(());
        }
        let args = ["update-ref", "--no-deref", name, to, from.unwrap_or_default()];
        let git_dir = GitDir::Written { work_tree: None, durable: self.durable };
        write::run(Call::new(self.client, self.top, git_dir, &args)).map(drop)
    }

    /// Moves several references at once, each as `move_ref` does: all of them, or none.
    pub(super) fn move_refs(&self, moves: &[(&str, &str, Option<&str>)]) -> Result<(), Reason> {
        let moves: Vec<_> = moves.iter().filter(|(_, to, from)| *from != Some(*to)).collect();
        if let [(name, to, from)] = moves.as_slice() {
            return self.move_ref(name, to, *from);
        }
        if moves.is_empty() {
            return Ok(());
        }
        let nothing = "0".repeat(moves.first().map_or(0, |(_, to, _)| to.len()));
        let line = |(name, to, from): &&(&str, &str, Option<&str>)| {
            format!("update {name} {to} {}\n", from.unwrap_or(&nothing))
        };
        let lines: String = moves.iter().map(line).collect();
        let git_dir = GitDir::Written { work_tree: None, durable: self.durable };
        let call = Call::new(self.client, self.top, git_dir, &["update-ref", "--no-deref", "--stdin"]);
        write::run(call.input(lines.into_bytes())).map(drop)
    }
}

/// The references of a workstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The last checkpoint, with its tree; none before the worktree is made.
    pub head: Option<Head>,
    /// The branch, likewise; none if it was deleted.
    pub branch: Option<Head>,
    /// What was put aside.
    pub asides: Vec<Aside>,
    /// Commits of a person that were on the branch.
    pub by_hand: Vec<String>,
}

/// The step, and the attempt of it, that left what is put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepRun {
    /// The number of the step.
    pub n: u32,
    /// The number of the attempt; none if that does not matter.
    pub attempt: Option<u32>,
}

impl From<u32> for StepRun {
    fn from(n: u32) -> Self {
        Self { n, attempt: None }
    }
}

/// What was put aside of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// The number of the step.
    pub step: u32,
    /// The attempt that left it, as far as that is known.
    pub attempt: Option<u32>,
    /// The commit.
    pub commit: String,
    /// Why it was refused, if it was.
    pub refused: Option<Reason>,
    /// False if another job on the same branch left it.
    pub is_own: bool,
}

impl Aside {
    /// True if this run of a step left it.
    pub(crate) fn is_of(&self, run: StepRun) -> bool {
        let is_of_attempt = run.attempt.is_none() || self.attempt.is_none() || self.attempt == run.attempt;
        self.is_own && self.step == run.n && is_of_attempt
    }
}

impl Heads {
    /// The commit of the branch.
    pub(super) fn branch_commit(&self) -> Option<&str> {
        self.branch.as_ref().map(|branch| branch.commit.as_str())
    }

    /// The last checkpoint.
    ///
    /// # Errors
    /// `ref_moved` where there is none: the worktree was never made, or a program deleted the reference.
    pub(crate) fn checkpoint(&self, place: &Place) -> Result<&Head, Reason> {
        let missing = || {
            let message = format!("the reference `{}` is missing", place.head_ref());
            Reason::new(Code::RefMoved, message)
        };
        self.head.as_ref().ok_or_else(missing)
    }
}

/// The beginning of the last part of a reference to a commit of a person.
pub(super) const HAND_REF: &str = "hand-";

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
    /// The number of the step that it is the checkpoint of, if it is one.
    pub step: Option<u32>,
}

/// True if a trailer `Engine-Job` names the job of a place.
pub(super) fn is_of(place: &Place, job: &str) -> bool {
    job.split_once('.') == Some((&*place.run, &*place.job))
}

/// The number in the trailers `Engine-Job` and `Engine-Step` of a workstream.
pub(super) fn step_of(place: &Place, [job, step]: [&str; 2]) -> Option<u32> {
    let step = step.strip_prefix(&*place.ws).filter(|_| is_of(place, job))?;
    step.strip_prefix('/')?.parse().ok()
}

impl<'a> Git<'a> {
    /// The calls for a place. Where the own git directory is gone, that of the repository has the same objects and settings.
    pub(super) fn at(place: &'a Place, client: &'a Client) -> Self {
        let git_dir = place.own_git_dir().unwrap_or_else(|| place.common_dir.clone());
        Self { place, client, git_dir, index: place.index() }
    }

    /// The repository alone.
    pub(super) fn repository(&self) -> Repo<'a> {
        self.place.repository(self.client)
    }

    /// A call that changes the repository alone.
    pub(super) fn repo(&self, args: &[&str]) -> Call<'a> {
        self.repository().change(args)
    }

    /// A call that only reads the repository.
    pub(super) fn read(&self, args: &[&str]) -> Call<'a> {
        self.repository().read(args)
    }

    /// A call on the worktree, with the index of the engine.
    pub(super) fn tree(&self, args: &[&str]) -> Call<'a> {
        let Place { common_dir, dir, .. } = self.place;
        let work_tree = WorkTree { git_dir: &self.git_dir, common_dir, top: dir, index: &self.index };
        let git_dir = GitDir::Written { work_tree: Some(work_tree), durable: false };
        Call::new(self.client, dir, git_dir, args)
    }

    /// Moves a reference, if it is where it was seen; `None` means that it was not there. A branch is not synced: it only follows.
    pub(super) fn move_ref(&self, name: &str, to: &str, from: Option<&str>) -> Result<(), Reason> {
        let durable = self.place.durable && name.starts_with("refs/engine/");
        Repo { durable, ..self.repository() }.move_ref(name, to, from)?;
        self.expect(name, to);
        Ok(())
    }

    /// Moves references at once, all or none; a branch among them is synced too.
    pub(super) fn move_refs(&self, moves: &[(&str, &str, Option<&str>)]) -> Result<(), Reason> {
        self.repository().move_refs(moves)?;
        moves.iter().for_each(|(name, to, _)| self.expect(name, to));
        Ok(())
    }

    /// Where this process has moved the last checkpoint to is where it is to be.
    fn expect(&self, name: &str, to: &str) {
        if name == self.place.head_ref() && self.place.expected_head().is_some() {
            self.place.expect_head(to);
        }
    }
}

/// Reads the references of a workstream.
///
/// # Errors
/// `ref_moved` if the last checkpoint is not where the workstream has left it, or a reason where git fails.
pub(crate) fn heads(place: &Place, client: &Client) -> Result<Heads, Reason> {
    let heads = heads_as_they_are(place, client)?;
    let now = heads.head.as_ref().map(|head| &head.commit);
    match place.expected_head() {
        Some(expected) if now != Some(&expected) => {
            let message = format!("`{}` was moved by something else than its workstream", place.head_ref());
            Err(Reason::new(Code::RefMoved, message))
        }
        _ => Ok(heads),
    }
}

/// Reads the references of a workstream, wherever they are.
pub(super) fn heads_as_they_are(place: &Place, client: &Client) -> Result<Heads, Reason> {
    let (own, branch) = (place.refs(""), place.branch());
    let repo = place.repository(client);
    let found = lines(&repo, &[(&*own, true), (&*branch, true)])?;
    let commits: Vec<&str> = found.values().map(String::as_str).collect();
    let told = place.commits.read(|args| repo.read(args), &commits)?;
    let mut heads = Heads::default();
    for ((name, commit), told) in found.iter().zip(told) {
        let Told { tree, job, step, refused, attempt, body } = told;
        let (step, is_own) = (step_of(place, [&job, &step]), is_of(place, &job));
        let head = Head { commit: commit.clone(), tree, step };
        match name.strip_prefix(&own) {
            Some("head") => heads.head = Some(head),
            Some(name) if name.starts_with(HAND_REF) => heads.by_hand.push(head.commit),
            Some(number) => {
                let Ok(step) = number.parse() else { continue };
                let refused = refusal(&refused, &body);
                heads.asides.push(Aside {
                    step,
                    attempt: attempt.trim().parse().ok(),
                    commit: head.commit,
                    refused,
                    is_own,
                });
            }
            None if *name == branch => heads.branch = Some(head),
            None => {}
        }
    }
    Ok(heads)
}

/// True for the name of an object of the repository.
pub(super) fn is_name(line: &[u8], place: &Place) -> bool {
    line.len() == 2 * place.hash_bytes && line.iter().all(u8::is_ascii_hexdigit)
}

/// True for the name of an object of any repository.
pub(super) fn is_object(line: &str) -> bool {
    matches!(line.len(), 40 | 64) && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// References by their names, each with its object.
///
/// # Errors
/// A reason where git fails.
pub(super) fn lines(repo: &Repo<'_>, rules: refs::Rules<'_>) -> Result<refs::Lines, Reason> {
    let are_objects = |found: &refs::Lines| found.values().all(|line| is_object(line));
    if let Some(found) = refs::read(repo.common_dir, rules).filter(are_objects) {
        return Ok(found);
    }
    lines_by_git(repo, rules, None)
}

/// The same by git, of the first so many that are below what is wanted.
pub(super) fn lines_by_git(
    repo: &Repo<'_>,
    rules: refs::Rules<'_>,
    most: Option<usize>,
) -> Result<refs::Lines, Reason> {
    let most = most.map(|most| format!("--count={most}"));
    let names = rules.iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| *name);
    let args: Vec<&str> = ["for-each-ref", "--format=%(objectname) %(refname)"]
        .into_iter()
        .chain(most.as_deref())
        .chain(names)
        .collect();
    let listed = String::from_utf8_lossy(&repo.read(&args).output()?).into_owned();
    let all = listed.lines().filter_map(|line| line.split_once(' '));
    let wanted = all.filter(|(_, name)| refs::is_wanted(rules, name));
    Ok(wanted.map(|(object, name)| (name.to_owned(), object.to_owned())).collect())
}

/// The refusal that a commit tells: the value of its trailer, then its body.
fn refusal(code: &str, body: &str) -> Option<Reason> {
    let message = body.split("\n\nEngine-Run:").next().unwrap_or_default();
    (!code.trim().is_empty()).then(|| Reason::new(Code::of_word(code.trim()), message))
}

/// The last checkpoint.
///
/// # Errors
/// `ref_moved` where there is none.
pub(super) fn checkpoint(place: &Place, client: &Client) -> Result<Head, Reason> {
    heads(place, client)?.checkpoint(place).cloned()
}

/// Gives a file of the engine, or of its worktree's git directory, new content.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    replace_by(&unfinished(path), path, bytes)
}

/// The same by an unfinished file of this name. A crash leaves it; the next call takes it over.
pub(super) fn replace_by(unfinished: &Path, path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    fs::remove(unfinished)
        .and_then(|_| fs::create_new(unfinished, bytes))
        .and_then(|_| fs::rename_replace(unfinished, path))
        .map_err(|error| write::wrong(&error))
}

/// The name of a file that is not finished.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Paths as git lists them.
pub(super) fn joined<'p>(paths: impl IntoIterator<Item = &'p Vec<u8>>) -> Vec<u8> {
    paths.into_iter().flat_map(|path| path.iter().copied().chain([0])).collect()
}

/// Writes the file that leads from the worktree to its own git directory; true unless it was there and right.
pub(super) fn lead_to(own: &Path, place: &Place) -> Result<bool, Reason> {
    let pointer = place.dir.join(".git");
    let leads_there = || {
        let line = line_of(&pointer)?;
        let named = OsString::from_vec(line.strip_prefix(b"gitdir: ")?.to_vec());
        fs::canonical(&place.dir.join(named)).ok().filter(|path| path == own)
    };
    if leads_there().is_some() {
        return Ok(false);
    }
    // A step may have put a repository of its own there.
    fs::remove_tree(&pointer).map_err(|error| write::wrong(&error))?;
    // Not within the worktree, where it would be a new file.
    let line = [b"gitdir: ", own.as_os_str().as_bytes(), b"\n"].concat();
    replace_by(&place.beside("git.new"), &pointer, &line)?;
    Ok(true)
}
