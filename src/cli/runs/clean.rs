//! `engine runs clean`: removes what ended runs left: worktrees, references, and branches if that is asked for.
//!
//! Hard rule: what is not merged goes only for a run that was named, and its commits only with `--branches`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::adapter;
use crate::cli::error::{CliError, NO};
use crate::cli::named_run::named;
use crate::cli::{global, print};
use crate::clock::{Clock, SystemClock};
use crate::fs::Create;
use crate::git::{Client, Deadline, Program, Repository, Stop};
use crate::job::{Reason, RunId, RunManifest, ToolId};
use crate::store::{Acquire, Durability, Lease, Store, run_dir};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self, Depth, Submitted, WorkstreamFacts};
use crate::worktree::clean::{self, Remains, TreeState};
use crate::worktree::{Counted, Place, is_free};

/// `engine runs clean`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs clean --dry-run\n  engine runs clean\n  engine runs clean r-20261201-101500-3f2a --branches\n\n\
    Without RUN: of every run whose changes are merged and whose worktree holds nothing else. Of a named run also worktrees\n\
    that are not merged or not clean: what no commit holds is put aside below refs/engine/. Only with --branches its branches\n\
    are deleted, and, if the run is named, also what is not merged. A run that can still move is left alone."
)]
pub struct RunsCleanArgs {
    /// The runs, or `last` (default: every run whose changes are merged)
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
    /// Delete the branches too
    #[arg(long)]
    pub branches: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// How long git may take for one workstream.
const GIT_TIME: Duration = Duration::from_secs(300);

/// What a workstream is to `clean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It can still move.
    Active,
    /// It has ended, and another process looks at it or changes it.
    InUse,
    /// Nothing would be lost.
    MergedAndClean,
    /// Its worktree holds something that no commit holds.
    MergedAndDirty,
    /// Its commits are in no branch of the user, or it did not succeed and something of it was put aside.
    Unmerged,
}

/// What is removed of a workstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Removal {
    tree: bool,
    references: bool,
    branch: bool,
}

/// What was done with a workstream, or with the directory of a run that was never made.
struct Done {
    run: RunId,
    ws: Option<String>,
    class: Option<Class>,
    removed: Vec<String>,
    /// Whether a branch stays that only `--branches` deletes.
    keeps_branch: bool,
    problem: Option<Reason>,
}

impl Done {
    fn new(run: &RunId, ws: Option<&str>) -> Self {
        Self {
            run: run.clone(),
            ws: ws.map(str::to_owned),
            class: None,
            removed: Vec::new(),
            keeps_branch: false,
            problem: None,
        }
    }
}

impl Class {
    fn of(remains: &Remains, has_succeeded: bool) -> Self {
        // A person may still want what was put aside.
        let is_merged = remains.is_merged && (has_succeeded || !remains.has_asides);
        match (is_merged, remains.tree) {
            (false, _) => Self::Unmerged,
            (true, TreeState::Dirty) => Self::MergedAndDirty,
            (true, TreeState::None | TreeState::Clean) => Self::MergedAndClean,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::InUse => "in use",
            Self::MergedAndClean => "merged and clean",
            Self::MergedAndDirty => "merged and dirty",
            Self::Unmerged => "unmerged",
        }
    }

    /// What is removed of a workstream of this class.
    fn removal(self, is_named: bool, branches: bool) -> Removal {
        let all = Removal { tree: true, references: true, branch: branches };
        match self {
            Self::Active | Self::InUse => Removal::default(),
            Self::MergedAndClean => all,
            Self::MergedAndDirty | Self::Unmerged if is_named && branches => all,
            Self::MergedAndDirty | Self::Unmerged => Removal { tree: is_named, ..Removal::default() },
        }
    }
}

/// Cleans up; 1 if a run that was named is active, or something could not be removed.
pub(super) fn run(store: &Store, args: &RunsCleanArgs) -> Result<u8, CliError> {
    let (mut all, mut is_partial) = (Vec::new(), false);
    if args.runs.is_empty() {
        let listed = run_dir::list(store)?;
        is_partial = !listed.unreadable.is_empty();
        for (_, error) in listed.unreadable {
            CliError::from(error).print(false);
        }
        for run in listed.unfinished {
            all.extend(unfinished(store, &run, args)?);
        }
        for manifest in listed.runs {
            all.extend(of_run(store, manifest, args)?);
        }
    }
    for name in &args.runs {
        let unmade = RunId::new(name).ok().filter(|run| run_dir::path(store, run).is_dir());
        let unmade = unmade.filter(|run| matches!(run_dir::read_manifest(store, run), Ok(None)));
        all.extend(match unmade {
            Some(run) => unfinished(store, &run, args)?,
            None => of_run(store, named(store, name)?, args)?,
        });
    }
    if args.json {
        all.iter().for_each(|done| print::json_line(&as_json(done)));
    } else {
        print::report(all.iter().map(|done| describe(done, args)));
    }
    let is_left = |done: &Done| matches!(done.class, Some(Class::Active | Class::InUse));
    let is_refused = |done: &Done| done.problem.is_some() || (!args.runs.is_empty() && is_left(done));
    Ok(if is_partial || all.iter().any(is_refused) { NO } else { 0 })
}

/// The directory of a run that was never made, unless a process is making it.
fn unfinished(store: &Store, run: &RunId, args: &RunsCleanArgs) -> Result<Vec<Done>, CliError> {
    let mut done = Done::new(run, None);
    match run_dir::take(store, run)? {
        Some(dir) if run_dir::read_manifest(store, run)?.is_none() => {
            if !args.dry_run {
                dir.remove()?;
            }
            done.removed.push("the directory of a run that was never made".to_owned());
        }
        _ => done.class = Some(Class::InUse),
    }
    Ok(vec![done])
}

fn of_run(store: &Store, manifest: RunManifest, args: &RunsCleanArgs) -> Result<Vec<Done>, CliError> {
    let run = manifest.run_id.clone();
    let repo = PathBuf::from(&manifest.repo);
    let lock = run_dir::take(store, &run)?;
    let facts = run::read(store, manifest, Depth::Everything, SystemClock::start().now())?;
    let left = match (RunStatus::of(&facts).is_at_rest(), &lock) {
        (false, _) => Some(Class::Active),
        (true, None) => Some(Class::InUse),
        (true, Some(_)) => None,
    };
    let mut all = Vec::new();
    let mut keeps_references = false;
    let mut last = None;
    // A gate has the place of the integration.
    for workstream in facts.workstreams.iter().chain(&facts.integration) {
        let mut done = Done::new(&run, Some(&workstream.ordered.ws_id));
        // The conductor and a requeue need it too.
        let lease = Lease::acquire(store, &workstream.id, Create::No)?;
        if left.is_some() || !is_at_rest(&lease) {
            done.class = left.or(Some(Class::Active));
        } else {
            let place = Tree::open(store, &repo, &run, workstream);
            let cleaned = place.and_then(|tree| {
                tree.clean(args, &mut done)?;
                Ok(tree)
            });
            match cleaned {
                Ok(tree) => last = Some(tree),
                Err(reason) => done.problem = Some(reason),
            }
        }
        let removal = done.class.map(|class| class.removal(!args.runs.is_empty(), args.branches));
        keeps_references |= done.problem.is_some() || removal.is_none_or(|removal| !removal.references);
        all.push(done);
    }
    if let (Some(tree), false, false) = (last, keeps_references, args.dry_run)
        && let Some(done) = all.last_mut()
    {
        let how = (!args.runs.is_empty(), args.branches);
        match clean::remove_rest(&tree.place, &run, how, &tree.client) {
            Ok(rest) => done.removed.extend(rest),
            Err(reason) => done.problem = Some(reason),
        }
    }
    Ok(all)
}

/// True if no conductor runs, and none is going to by itself. Of a retired job there is no record.
fn is_at_rest(lease: &Acquire) -> bool {
    match lease {
        Acquire::Held(lease) => lease.line().is_some_and(|line| line.status.is_terminal()),
        Acquire::NoRecord => true,
        Acquire::Busy => false,
    }
}

/// The place of a workstream, with what is needed to clean it.
struct Tree {
    place: Place,
    own_files: Vec<String>,
    step: u32,
    has_succeeded: bool,
    client: Client,
}

impl Tree {
    fn open(
        store: &Store,
        repo: &std::path::Path,
        run: &RunId,
        workstream: &WorkstreamFacts,
    ) -> Result<Self, Reason> {
        let environment = global::environment();
        let client = Client {
            program: Program::find(environment.get("PATH"), global::home(), repo)?,
            deadline: Deadline::new("cleaning up after a workstream", GIT_TIME),
            stop: Stop::never(),
        };
        let repository = Repository::find(repo, &client)?;
        let named = workstream.job.as_ref().and_then(|job| job.worktree.as_deref());
        // One that its job does not name was never made.
        let dir = named.map_or_else(|| run_dir::path(store, run).join("none"), PathBuf::from);
        let names = (run.as_str(), workstream.ordered.ws_id.as_str());
        let place = Place::new(repository, dir, names, store.config.durability == Durability::Full);
        let tool = workstream.job.as_ref().and_then(Submitted::tool);
        let tool = tool.and_then(|tool| ToolId::new(tool).ok());
        let manifest = tool.and_then(|tool| adapter::find(store, &tool).ok().flatten());
        let own_files = manifest.map(|manifest| manifest.own_files).unwrap_or_default();
        let step = workstream.steps.last().map_or(0, |step| step.n);
        let has_succeeded = WorkstreamStatus::of(workstream) == WorkstreamStatus::Succeeded;
        Ok(Self { place, own_files, step, has_succeeded, client })
    }

    fn clean(&self, args: &RunsCleanArgs, done: &mut Done) -> Result<(), Reason> {
        let Self { place, client, .. } = self;
        let counted = Counted::of(&place.dir, &[], &self.own_files)?;
        let remains = clean::remains(place, &counted, client)?;
        let class = Class::of(&remains, self.has_succeeded);
        done.class = Some(class);
        let removal = class.removal(!args.runs.is_empty(), args.branches);
        done.keeps_branch = remains.branch.is_some() && !removal.branch;
        if removal.branch {
            // Before anything is removed: a part of it would be left.
            is_free(place, client)?;
        }
        if removal.tree && remains.tree != TreeState::None {
            if !args.dry_run {
                clean::remove_tree(place, self.step, &counted, client)?;
            }
            done.removed.push(format!("the worktree {}", place.dir.display()));
        }
        if removal.references && remains.references > 0 {
            let mut count = remains.references;
            if !args.dry_run {
                count = clean::remove_references(place, client)?;
            }
            done.removed.push(print::counted(count, "reference", "references"));
        }
        if removal.branch && remains.branch.is_some() {
            if !args.dry_run {
                clean::remove_branch(place, client)?;
            }
            done.removed.push(format!("the branch {}", place.branch().trim_start_matches("refs/heads/")));
        }
        Ok(())
    }
}

fn as_json(done: &Done) -> serde_json::Value {
    let class = done.class.map(|class| class.as_str().replace(' ', "_"));
    json!({
        "run_id": done.run, "ws_id": done.ws, "class": class, "removed": done.removed, "problem": done.problem,
    })
}

fn describe(done: &Done, args: &RunsCleanArgs) -> String {
    let mut text = done.run.to_string();
    for part in done.ws.iter().map(String::as_str).chain(done.class.map(Class::as_str)) {
        text.push_str(&format!("  {part}"));
    }
    if !done.removed.is_empty() {
        let what = if args.dry_run { "would remove" } else { "removed" };
        text.push_str(&format!("  {what} {}", done.removed.join(", ")));
    }
    if let Some(reason) = &done.problem {
        text.push_str(&format!("  error: {}", reason.message));
    } else if done.removed.is_empty() {
        text.push_str(&format!("  {}", kept(done, args)));
    }
    text
}

/// Why nothing was removed, and what removes it.
fn kept(done: &Done, args: &RunsCleanArgs) -> String {
    let run = &done.run;
    match done.class {
        Some(Class::Active) => format!("left alone: engine runs show {run}"),
        Some(Class::InUse) => {
            "left alone: another process works on it; run the command again when that has ended".to_owned()
        }
        Some(Class::MergedAndDirty | Class::Unmerged) if args.runs.is_empty() => {
            format!("kept: engine runs clean {run} removes its worktree, and with --branches all of it")
        }
        Some(Class::MergedAndDirty | Class::Unmerged) if !args.branches => {
            "kept: --branches deletes its branch and what was put aside".to_owned()
        }
        _ if done.keeps_branch => "nothing to remove but its branch: --branches deletes that".to_owned(),
        _ => "nothing to remove".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_of_a_workstream_that_did_not_succeed_may_still_be_wanted() {
        let remains = |is_merged, has_asides, tree| Remains {
            tree,
            is_merged,
            has_asides,
            references: 0,
            branch: None,
        };
        for (found, has_succeeded, want) in [
            (remains(true, true, TreeState::None), true, Class::MergedAndClean),
            (remains(true, true, TreeState::None), false, Class::Unmerged),
            (remains(true, false, TreeState::Clean), false, Class::MergedAndClean),
            (remains(true, false, TreeState::Dirty), true, Class::MergedAndDirty),
            (remains(false, false, TreeState::Clean), true, Class::Unmerged),
        ] {
            assert_eq!(Class::of(&found, has_succeeded), want, "{found:?}");
        }
    }

    #[test]
    fn what_is_not_merged_goes_only_for_a_named_run_and_its_commits_only_with_branches() {
        let nothing = Removal::default();
        let tree = Removal { tree: true, ..nothing };
        let references = Removal { references: true, ..tree };
        let all = Removal { branch: true, ..references };
        for (class, want) in [
            (Class::Active, [nothing, nothing, nothing, nothing]),
            (Class::InUse, [nothing, nothing, nothing, nothing]),
            (Class::MergedAndClean, [references, all, references, all]),
            (Class::MergedAndDirty, [nothing, nothing, tree, all]),
            (Class::Unmerged, [nothing, nothing, tree, all]),
        ] {
            let flags = [(false, false), (false, true), (true, false), (true, true)];
            assert_eq!(flags.map(|(named, branches)| class.removal(named, branches)), want, "{class:?}");
        }
    }
}
