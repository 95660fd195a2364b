//! `engine runs merge`: brings what a run has changed into a branch of the user.
//!
//! Hard rule: all of it, or nothing.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::{global, print, signals};
use crate::clock::{Clock, SystemClock};
use crate::git::{Call, Client, Deadline, GitDir, Program, Repository, Stop};
use crate::job::{Code, Reason, RunId, RunManifest, SCHEMA_VERSION};
use crate::process::signals::requests;
use crate::store::{Durability, Store, run_dir};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self, Depth, RunFacts, WorkstreamFacts};
use crate::worktree::{Branch, Onto, Repo, named_conflicts, onto};

/// `engine runs merge`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs merge last\n  engine runs merge r-20261201-101500-3f2a --into develop\n\n\
    By a fast-forward if the branch has not moved since, else by a merge commit. Uncommitted work stays as it is: where it is in\n\
    the way, or changes conflict, nothing is merged, the paths are named, and the exit status is 1. With --force also what was\n\
    taken of a run that has ended without success; no check has passed on that. A run that can still move, or\n\
    that a person has quarantined, is never merged."
)]
pub struct RunsMergeArgs {
    /// The run, or `last`
    pub run: String,
    /// The branch to merge into (default: that of the checkout)
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// Merge a run that has ended without success
    #[arg(long)]
    pub force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// How long git may take.
const GIT_TIME: Duration = Duration::from_secs(600);

/// The request that ends git also while it writes a checkout.
const ENDS: usize = 3;

/// What was done.
struct Done {
    branch: Branch,
    commit: String,
    what: Onto,
    /// The workstreams whose changes are not in it.
    left_out: Vec<String>,
    /// True if the run has succeeded: every check has passed on the commit.
    is_proved: bool,
}

/// Merges; 1 if that is refused.
pub(super) fn run(store: &Store, args: &RunsMergeArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let run = manifest.run_id.clone();
    // git is to end by itself: what it writes is to be whole.
    let signals = signals::install()?;
    let merged = merge(store, manifest, (args.into.as_deref(), args.force));
    if args.json {
        print::json_pretty(&document_of(&run, &merged));
    }
    let text = merged.and_then(|done| text(&run, &done)).map_err(|error| {
        let stopped = signals::exit_status(&signals).filter(|_| error.code == Code::Interrupted);
        stopped.into_iter().fold(error, CliError::with_status)
    })?;
    if !args.json {
        print::report([text]);
    }
    Ok(0)
}

/// Merges a run that has succeeded into the branch of the checkout; what was done, for people, and the document that tells it.
pub(crate) fn merge_of_run(store: &Store, run: &RunId) -> (Value, Result<String, CliError>) {
    let merged = named(store, run.as_str()).and_then(|manifest| merge(store, manifest, (None, false)));
    (document_of(run, &merged), merged.and_then(|done| text(run, &done)))
}

/// True if a branch of the user, or of a remote, has the commit.
pub(crate) fn is_merged(repo: &str, commit: &str) -> bool {
    let listed = client(Path::new(repo)).and_then(|client| {
        let args =
            ["for-each-ref", "--format=%(refname)", "--contains", commit, "refs/heads/", "refs/remotes/"];
        Call::new(&client, Path::new(repo), GitDir::Repository, &args).output()
    });
    // Of a repository that is gone nothing is known.
    let listed = listed.unwrap_or_default();
    String::from_utf8_lossy(&listed).lines().any(|name| !name.starts_with("refs/heads/engine/"))
}

fn merge(
    store: &Store,
    manifest: RunManifest,
    (into, force): (Option<&str>, bool),
) -> Result<Done, CliError> {
    let run = manifest.run_id.clone();
    // `runs clean` and a resume stay out meanwhile.
    let Some(_alone) = run_dir::take(store, &run)? else {
        let error = CliError::no(format!("another process works on the run `{run}`")).with_code(Code::IdBusy);
        return Err(error.hint("run the command again when that has ended"));
    };
    let repo = manifest.repo.clone();
    let facts = run::read(store, manifest, Depth::Status, SystemClock::start().now())?;
    let commit = commit_of(&facts, force)?;
    let (branch, what) =
        bring(store, Path::new(&repo), (&run, &commit), into).map_err(|reason| of_reason(&reason))?;
    let is_proved = RunStatus::of(&facts) == RunStatus::Succeeded;
    let left_out = if is_proved { Vec::new() } else { left_out(&facts) };
    Ok(Done { branch, commit, what, left_out, is_proved })
}

/// The workstreams whose changes the integration does not hold. The only one of a run is held as far as it came.
fn left_out(facts: &RunFacts) -> Vec<String> {
    let Some(integration) = &facts.integration else { return Vec::new() };
    let merged = integration.told_value("merged").and_then(Value::as_array);
    let is_merged = |ws: &str| merged.is_some_and(|merged| merged.iter().any(|one| one == ws));
    let names = facts.workstreams.iter().map(|one| &one.ordered.ws_id);
    names.filter(|ws| !is_merged(ws)).cloned().collect()
}

/// The commit that holds what the run has changed.
fn commit_of(facts: &RunFacts, force: bool) -> Result<String, CliError> {
    let (run, status) = (facts.run_id(), RunStatus::of(facts));
    if !status.is_at_rest() {
        let error = CliError::no(format!("the run `{run}` has not ended")).with_code(Code::Running);
        return Err(error.hint(format!("engine runs events {run} --follow")));
    }
    if let Some(word) = facts.quarantine.as_ref().filter(|word| word.acknowledged_at.is_none()) {
        let message = format!("the run `{run}` is quarantined: {}", word.reason);
        let error = CliError::no(message).with_code(Code::Quarantined);
        return Err(error.hint(format!("engine runs quarantine {run} --ack takes that back")));
    }
    if status != RunStatus::Succeeded && !force {
        let error =
            CliError::no(format!("the run `{run}` has not succeeded: {status}")).with_code(Code::Failed);
        return Err(error.hint(format!("engine runs show {run}; --force merges what it has all the same")));
    }
    // The branch may have been moved; what was taken stands in the result.
    let commit = match (&facts.integration, facts.workstreams.as_slice()) {
        (Some(integration), [one]) => integration.told_text("commit").or_else(|| one.told_text("head")),
        (Some(integration), _) => integration.told_text("commit"),
        (None, [one]) => one.told_text("head"),
        (None, _) => None,
    };
    commit.ok_or_else(|| no_commit(facts))
}

/// The error of a run that has no commit of its own, though its workstreams may have.
fn no_commit(facts: &RunFacts) -> CliError {
    let run = facts.run_id();
    let has_succeeded = |one: &&WorkstreamFacts| WorkstreamStatus::of(one) == WorkstreamStatus::Succeeded;
    let branches: Vec<String> = facts
        .workstreams
        .iter()
        .filter(has_succeeded)
        .map(|one| format!("engine/{run}/{}", one.ordered.ws_id))
        .collect();
    if branches.is_empty() {
        return CliError::no(format!("the run `{run}` has taken no commit"));
    }
    let result = facts.integration.as_ref().and_then(|one| one.line.as_ref()?.result.as_ref());
    let reason = result.and_then(|result| result.reason.as_ref());
    let each = format!("git merge WS for each of {}", branches.join(", "));
    match reason {
        Some(reason) if reason.code == Code::IntegrationMoved => {
            let branch = format!("engine/{run}/integration");
            let message = format!(
                "nothing of the run `{run}` is integrated: its branch `{branch}` is not where the engine left it, and stays as it is"
            );
            CliError::no(message).with_code(Code::IntegrationMoved).hint(format!(
                "rename it (git branch -m {branch} NAME), then engine run --resume {run}; by hand: {each}"
            ))
        }
        Some(reason) => {
            let message = format!("nothing of the run `{run}` is integrated: {}", reason.message);
            CliError::no(message).with_code(reason.code.clone()).hint(format!("by hand: {each}"))
        }
        None => {
            let message =
                format!("the run `{run}` was not integrated: each workstream has a branch of its own");
            CliError::no(message).with_code(Code::NotFound).hint(each)
        }
    }
}

fn client(repo: &Path) -> Result<Client, Reason> {
    let environment = global::environment();
    Ok(Client {
        program: Program::find(environment.get("PATH"), global::home(), repo)?,
        deadline: Deadline::new("the merge of a run", GIT_TIME),
        stop: Stop::never(),
    })
}

fn bring(
    store: &Store,
    repo: &Path,
    (run, commit): (&RunId, &str),
    into: Option<&str>,
) -> Result<(Branch, Onto), Reason> {
    let before = requests();
    let client = Client { stop: Stop::new(move || requests() > before), ..client(repo)? };
    let writing = Client { stop: insisted(before), ..client.clone() };
    let repository = Repository::find(repo, &client)?;
    let repo = Repo {
        top: &repository.top,
        common_dir: &repository.common_dir,
        scratch: run_dir::path(store, run).join("merge"),
        durable: store.config.durability == Durability::Full,
        client: &client,
    };
    let branch = Branch::find(&repo, into)?;
    let what = onto(&repo, &writing, &branch, (commit, run.as_str()))?;
    Ok((branch, what))
}

/// Ends git in the middle of a checkout only for a person who insists.
fn insisted(before: usize) -> Stop {
    let is_told = Cell::new(false);
    Stop::new(move || {
        let more = requests().saturating_sub(before);
        if more > 0 && !is_told.replace(true) {
            print::note("the merge stops once git is done; send two more signals to stop it at once");
        }
        more >= ENDS
    })
}

/// A refusal, whatever git says; an engine error where git cannot be asked at all.
fn of_reason(reason: &Reason) -> CliError {
    let error = CliError::no(reason.message.clone()).with_code(reason.code.clone());
    match reason.code {
        Code::GitMissing | Code::GitTooOld | Code::NotARepository | Code::RepositoryNotTrusted => {
            error.with_status(crate::runner::exit_status::ENGINE)
        }
        _ => error,
    }
}

/// What was done, for people; an error for conflicts.
fn text(run: &RunId, done: &Done) -> Result<String, CliError> {
    let name = done.branch.name();
    let mut text = match &done.what {
        Onto::HasIt => format!("`{name}` has all of `{run}` already"),
        Onto::FastForward => format!("`{name}` is now at {}", short(&done.commit)),
        Onto::Merged(commit) => format!("`{name}` is now at {}, a merge of `{run}`", short(commit)),
        Onto::Conflicts(conflicts) => {
            let message = format!("`{run}` and `{name}` do not merge: {}", named_conflicts(conflicts));
            let has_nothing_in_common = conflicts.iter().all(|conflict| conflict.paths.is_empty());
            let flag = if has_nothing_in_common { "--allow-unrelated-histories " } else { "" };
            let commit = short(&done.commit);
            let hint = format!("git switch {name} && git merge {flag}{commit}, and resolve them there");
            return Err(CliError::no(message).with_code(Code::MergeConflict).hint(hint));
        }
    };
    if !done.left_out.is_empty() {
        text.push_str(&format!("; without {}", done.left_out.join(", ")));
    }
    if !done.is_proved {
        text.push_str("; the run has not succeeded: no check has proved this commit");
    }
    Ok(text)
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// What was done, or why nothing was.
fn document_of(run: &RunId, merged: &Result<Done, CliError>) -> Value {
    match merged {
        Ok(done) => document(run, done),
        Err(error) => json!({
            "schema_version": SCHEMA_VERSION, "run_id": run, "into": null, "commit": null, "outcome": "refused",
            "from": null, "to": null, "conflicts": [], "left_out": [],
            "reason": { "code": error.code, "message": error.message },
        }),
    }
}

fn document(run: &RunId, done: &Done) -> Value {
    let from = done.branch.commit.as_str();
    let (outcome, to) = match &done.what {
        Onto::HasIt => ("already_merged", from),
        Onto::FastForward => ("fast_forward", done.commit.as_str()),
        Onto::Merged(commit) => ("merged", commit.as_str()),
        Onto::Conflicts(_) => ("conflict", from),
    };
    let conflicts: Vec<Value> = match &done.what {
        Onto::Conflicts(conflicts) => conflicts.iter().map(conflict).collect(),
        _ => Vec::new(),
    };
    json!({
        "schema_version": SCHEMA_VERSION, "run_id": run, "into": done.branch.full_name, "commit": done.commit,
        "outcome": outcome, "from": from, "to": to, "conflicts": conflicts, "left_out": done.left_out,
    })
}

fn conflict(conflict: &crate::worktree::Conflict) -> Value {
    json!({ "type": conflict.kind, "path": conflict.paths.first().map(|path| path.to_string_lossy()) })
}
