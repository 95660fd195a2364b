//! The user's repository, as a run needs it: where it is, the commit to begin on, and whether our branches fit in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::git::{Call, Client, Deadline, GitDir, Program, Repository, Stop};
use crate::job::run::Base;
use crate::job::{Code, Reason, RunId};
use crate::store::Store;
use crate::store::config::Durability;
use crate::store::run_dir::Remnant;
use crate::worktree;

/// How long the look at the repository may take.
const LOOK_TIME: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug)]
pub(super) struct FoundRepository {
    /// The top of the checkout.
    pub top: PathBuf,
    /// The commit to begin on.
    pub base: Base,
    /// True if the checkout has changes that no commit holds.
    pub has_changes: bool,
}

fn client(program: &Program) -> Client {
    Client {
        program: program.clone(),
        deadline: Deadline::new("the look at the repository", LOOK_TIME),
        stop: Stop::never(),
    }
}

/// Looks at the repository of a directory.
pub(super) fn find(
    program: &Program,
    project: &Path,
    (run, left, base): (&RunId, Remnant, Option<&str>),
) -> Result<FoundRepository, Reason> {
    let client = client(program);
    let repository = Repository::find(project, &client)?;
    let commit = match base {
        Some(base) => commit_of(&client, &repository.top, base)?,
        None => repository.head,
    };
    let Some(commit) = commit else {
        return Err(match base {
            Some(base) => Reason::new(Code::BaseMissing, format!("there is no commit `{base}`")),
            None => Reason::new(Code::BaseMissing, "the repository has no commit yet: make one"),
        });
    };
    worktree::check_names(&repository.top, run.as_str(), left == Remnant::Unfinished, &client)?;
    let status = Call::new(&client, &repository.top, GitDir::Repository, &STATUS).output()?;
    let reference = base.map(str::to_owned).or(repository.branch);
    let base = Base { reference, commit };
    Ok(FoundRepository { top: repository.top, base, has_changes: !status.is_empty() })
}

/// Whether something is changed or new, but for a root of the engine; which files is not asked.
const STATUS: [&str; 6] =
    ["status", "--porcelain", "--untracked-files=normal", "--", ".", ":(exclude,top).engine"];

/// The commit that a name means; none if there is no such commit.
fn commit_of(client: &Client, top: &Path, name: &str) -> Result<Option<String>, Reason> {
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
    let asked =
        Call::new(client, top, GitDir::Repository, &args).arg(format!("{name}^{{commit}}")).answer()?;
    let commit = String::from_utf8_lossy(asked.stdout.trim_ascii()).into_owned();
    Ok((asked.code == Some(0) && !commit.is_empty()).then_some(commit))
}

/// Whether the worktrees of a run can be made where they are to be.
pub(super) fn check_place(program: &Program, repo: &Path, dir: &Path, is_named: bool) -> Result<(), Reason> {
    worktree::check(repo, dir, is_named, &client(program))
}

/// Keeps the base of a run from being collected by git. What a run of that name that was never made had kept goes; without the
/// directory that such a run leaves it is of another root, which keeps it.
pub(super) fn keep_base(
    program: &Program,
    repo: &Path,
    (run, left): (&RunId, Remnant),
    (commit, store): (&str, &Store),
) -> Result<(), Reason> {
    let durable = store.config.durability == Durability::Full;
    let client = client(program);
    match left {
        Remnant::Unfinished => drop(worktree::delete_of_run(repo, run.as_str(), &client)?),
        Remnant::None => worktree::check_names(repo, run.as_str(), false, &client)?,
    }
    worktree::hold_base(repo, (run.as_str(), commit), (&client, durable))
}

/// Lets the base of a run go that was not made.
pub(super) fn drop_base(program: &Program, repo: &Path, run: &RunId) {
    if let Err(reason) = worktree::delete_of_run(repo, run.as_str(), &client(program)) {
        tracing::warn!("the reference of the base of `{run}` is left: {}", reason.message);
    }
}
