//! A run: everything is checked before anything is made, then it is made in an order that a crash may end anywhere.
//!
//! Hard rule: what is refused leaves nothing behind, no directory, no reference, no work tree.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::assignment::Assignment;
use super::{manifest, repository};
use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::bundle::settings::{Resolved, Settings};
use crate::bundle::{Acceptance, ReadBundle};
use crate::clock::Clock;
use crate::git::Program;
use crate::job::run::{Base, BundleRef, Ordered, Origin};
use crate::job::spec::Priority;
use crate::job::{
    Code, JobFile, JobId, Reason, RunId, RunManifest, SCHEMA_VERSION, Status, ToolId, parse_job,
};
use crate::process::program::{self, Program as Found};
use crate::queue::door::Incoming;
use crate::queue::requeue::{self, Requeued};
use crate::queue::submit::answer::{IfExists, IfRefused, Options, Submitted};
use crate::queue::submit::batch::{Batch, Origin as Place};
use crate::queue::submit::submit;
use crate::runner;
use crate::store::run_dir::{self, Created};
use crate::store::{Store, StoreError};

/// What a run is made of.
pub(crate) struct Wanted<'a> {
    /// Its name.
    pub run: RunId,
    /// Its one bundle.
    pub bundle: ReadBundle,
    /// Its settings, those of the bundle included.
    pub resolved: &'a Resolved,
    /// The directory whose repository it works on.
    pub project: &'a Path,
    /// The commit that it begins on; HEAD if none is named.
    pub base: Option<&'a str>,
    /// What it may cost.
    pub max_cost_usd: Option<f64>,
    /// The command that asked for it.
    pub origin: Origin,
    /// The environment of the steps.
    pub environment: &'a Environment,
    /// The directory of caches of this user.
    pub cache: PathBuf,
}

/// A run that can be made: nothing of it is written yet.
pub(crate) struct Prepared {
    /// Its name.
    pub run: RunId,
    /// What a person should know.
    pub warnings: Vec<String>,
    bundle: ReadBundle,
    resolved: Value,
    repo: PathBuf,
    base: Base,
    cache: PathBuf,
    max_cost_usd: Option<f64>,
    origin: Origin,
    path: Option<String>,
    assignment: Assignment,
}

/// Checks everything, and says all that is wrong at once.
pub(crate) fn prepare(
    store: Option<&Store>,
    program: &Program,
    wanted: Wanted<'_>,
) -> Result<Prepared, Vec<Reason>> {
    let mut problems = Vec::new();
    let bundle = &wanted.bundle.bundle;
    let settings = &wanted.resolved.settings;
    let timeout = settings.timeouts.runtime;
    let mut warnings: Vec<String> = wanted.resolved.warnings.iter().map(ToString::to_string).collect();
    let mut checks = wanted.resolved.checks.clone();
    for item in bundle.acceptance() {
        match item {
            Acceptance::Command(command) => checks.push(Check::acceptance(&command, timeout)),
            Acceptance::Prose { text, hint } => warnings.push(prose(&text, hint.as_deref())),
        }
    }
    if checks.is_empty() {
        warnings.push("no check is set: whatever the agent leaves within its scope is taken".to_owned());
    }
    note(&mut problems, state(store, &wanted));
    problems.extend(agents(store, &wanted));
    problems.extend(programs(&checks, wanted.environment, wanted.project, !settings.setup.is_empty()));
    let found = repository::find(program, wanted.project, wanted.base);
    let found = match found {
        Ok(found) => Some(found),
        Err(reason) => {
            problems.push(reason);
            None
        }
    };
    let Some(found) = found.filter(|_| problems.is_empty()) else { return Err(problems) };
    let worktrees = worktrees(&settings.worktrees, &found.top, &wanted.cache);
    repository::check_place(program, &found.top, &worktrees, settings.worktrees.is_some())
        .map_err(|reason| vec![reason])?;
    if found.has_changes {
        warnings.push("uncommitted changes of the checkout are not part of the run".to_owned());
    }
    let repo = found.top.to_string_lossy().into_owned();
    let assignment = Assignment {
        bundle: bundle.clone(),
        checks,
        limits: wanted.resolved.limits.clone(),
        settings: settings.clone(),
        base: found.base.clone(),
        repo,
        worktree: String::new(),
        run_max_cost_usd: wanted.max_cost_usd,
    };
    Ok(Prepared {
        resolved: wanted.resolved.report(),
        repo: found.top,
        base: found.base,
        cache: wanted.cache,
        max_cost_usd: wanted.max_cost_usd,
        origin: wanted.origin,
        path: wanted.environment.get("PATH").map(|path| path.to_string_lossy().into_owned()),
        run: wanted.run,
        bundle: wanted.bundle,
        warnings,
        assignment,
    })
}

/// The directory of all work trees.
fn worktrees(named: &Option<String>, repo: &Path, cache: &Path) -> PathBuf {
    named.as_ref().map_or_else(|| cache.join("engine/worktrees"), |dir| repo.join(dir))
}

fn prose(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("acceptance test not run, only part of the prompt: {text}{hint}")
}

fn note(problems: &mut Vec<Reason>, found: Result<(), Reason>) {
    problems.extend(found.err());
}

/// The root: its space, and whether the name of the run is free.
fn state(store: Option<&Store>, wanted: &Wanted<'_>) -> Result<(), Reason> {
    let job = wanted.run.job_of(wanted.bundle.bundle.id.as_str());
    let job = job.map_err(|error| Reason::from_error(Code::Usage, &error))?;
    let Some(store) = store else { return Ok(()) };
    store.check_space().map_err(|error| of_store(&error))?;
    let is_taken = run_dir::read_manifest(store, &wanted.run).map_err(|error| of_store(&error))?.is_some()
        || store.read_record(&job).map_err(|error| of_store(&error))?.is_some_and(|r| !r.line.is_untouched());
    if is_taken {
        let message = format!("there is a run `{}`: engine run --resume {}", wanted.run, wanted.run);
        return Err(Reason::new(Code::IdTaken, message));
    }
    Ok(())
}

/// The tools that edit: each must be an adapter with a command of its own, and an agent must be able to start.
fn agents(store: Option<&Store>, wanted: &Wanted<'_>) -> Vec<Reason> {
    let settings = &wanted.resolved.settings;
    let bundle = &wanted.bundle.bundle;
    let mut problems = Vec::new();
    let tools =
        std::iter::once(&bundle.tool).filter(|_| bundle.has_edit()).chain(&settings.recovery.fallback);
    for tool in tools {
        let found = manifest(store, tool).and_then(|manifest| {
            if manifest.executable.is_none() {
                let message =
                    format!("the adapter `{tool}` has no command of its own: a bundle cannot name one");
                return Err(Reason::new(Code::CommandMissing, message));
            }
            runner::can_start(wanted.environment, &job_of(tool, settings)?, &manifest, wanted.project)
        });
        problems.extend(found.err());
    }
    problems
}

/// A job of a tool, as far as the look for its program and its key needs one.
fn job_of(tool: &ToolId, settings: &Settings) -> Result<JobFile, Reason> {
    let document = json!({ "job_id": "a", "tool": tool, "env": settings.env });
    JobFile::read(&document).map_err(|error| Reason::from_error(Code::EnvInvalid, &error))
}

/// The programs of the checks: in a tree that is prepared first, a path in it is looked for only then.
fn programs(checks: &[Check], environment: &Environment, project: &Path, has_setup: bool) -> Vec<Reason> {
    let missing = |check: &Check| {
        let program = check.program().filter(|_| !check.optional)?;
        if program.contains('/') && has_setup {
            return None;
        }
        match program::find(OsStr::new(&program), environment.get("PATH"), project) {
            Found::At(_) => None,
            Found::Missing if is_of_the_shell(&program) => None,
            Found::Missing => {
                let message = format!(
                    "`{program}` of the check `{}` was not found; is it installed, and in PATH?",
                    check.name
                );
                Some(Reason::new(Code::ToolMissing, message))
            }
            Found::NotExecutable(path) => {
                let message =
                    format!("`{}` of the check `{}` cannot be executed", path.display(), check.name);
                Some(Reason::new(Code::ToolMissing, message))
            }
        }
    };
    checks.iter().filter_map(missing).collect()
}

/// True for a word that `/bin/sh` itself knows.
fn is_of_the_shell(word: &str) -> bool {
    const WORDS: [&str; 30] = [
        "!", ".", ":", "[", "alias", "break", "case", "cd", "command", "echo", "eval", "exec", "exit",
        "export", "false", "for", "if", "printf", "read", "return", "set", "shift", "test", "trap", "true",
        "ulimit", "umask", "unset", "until", "while",
    ];
    WORDS.contains(&word) || word.starts_with(['(', '{'])
}

impl Prepared {
    /// The jobs of the run in a root.
    fn jobs(&self, uuid: &str) -> Result<Vec<Value>, Reason> {
        let worktrees = worktrees(&self.assignment.settings.worktrees, &self.repo, &self.cache);
        let ws = self.bundle.bundle.id.as_str();
        let place = worktrees.join(uuid).join(self.run.as_str()).join(ws);
        let assignment =
            Assignment { worktree: place.to_string_lossy().into_owned(), ..self.assignment.clone() };
        let id = self.run.job_of(ws).map_err(|error| Reason::from_error(Code::Usage, &error))?;
        let mut metadata = json!(assignment);
        metadata["timeout_seconds"] = json!(assignment.limits.timeout_seconds);
        metadata["max_retries"] = json!(CRASHES);
        let priority = match self.bundle.bundle.is_background() {
            true => Priority::Low,
            false => Priority::Normal,
        };
        let env: Value =
            self.path.iter().map(|path| ("PATH".to_owned(), json!(path))).collect::<Map<_, _>>().into();
        Ok(vec![json!({
            "schema_version": SCHEMA_VERSION,
            "job_id": id,
            "run_id": self.run,
            "workstream_id": ws,
            "tool": "workstream",
            "priority": priority,
            "paths": { "repo_root": assignment.repo },
            "env": env,
            "on_failure": "done",
            "on_crash": "requeue",
            "metadata": metadata,
        })])
    }

    fn manifest(&self, jobs_sha256: String, now: crate::clock::Timestamp) -> RunManifest {
        let ws_id = self.bundle.bundle.id.to_string();
        RunManifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.run.clone(),
            created_at: now,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            repo: self.repo.to_string_lossy().into_owned(),
            base: self.base.clone(),
            origin: self.origin.clone(),
            options: Map::from_iter([
                ("max_cost_usd".to_owned(), json!(self.max_cost_usd)),
                ("settings".to_owned(), self.resolved.clone()),
            ]),
            bundles: vec![BundleRef {
                ws_id: ws_id.clone(),
                file: Some(self.bundle.file.clone()),
                sha256: self.bundle.sha256.clone(),
            }],
            jobs_sha256,
            order: vec![Ordered {
                ws_id,
                depends_on: Vec::new(),
                after: Vec::new(),
                reason: None,
                wave: Some(1),
            }],
        }
    }
}

/// How often a conductor that was killed is started again.
const CRASHES: u32 = 3;

/// Makes the run. A crash leaves, after each line: nothing · a directory that the same name takes over · the reference as
/// well · the jobs as well · the run, without its jobs in the queue, which `--resume` submits · all of it.
pub(crate) fn make(
    store: &Store,
    clock: &dyn Clock,
    program: &Program,
    prepared: &Prepared,
) -> Result<(), Reason> {
    let jobs = prepared.jobs(store.uuid())?;
    let dir = match run_dir::create(store, &prepared.run).map_err(|error| of_store(&error))? {
        Created::Ours(dir) => dir,
        Created::Taken => {
            let message = format!("there is a run `{0}`: engine run --resume {0}", prepared.run);
            return Err(Reason::new(Code::IdTaken, message));
        }
        Created::Busy => {
            let message = format!("another process is making the run `{}`", prepared.run);
            return Err(Reason::new(Code::IdBusy, message));
        }
    };
    let made = repository::keep_base(program, &prepared.repo, &prepared.run, (&prepared.base.commit, store))
        .and_then(|()| {
            let sha256 = dir.write_jobs(store, &jobs).map_err(|error| of_store(&error))?;
            let manifest = prepared.manifest(sha256, clock.now());
            dir.publish_manifest(store, &manifest).map_err(|error| of_store(&error))
        });
    if let Err(reason) = made {
        repository::drop_base(program, &prepared.repo, &prepared.run);
        // What is left of it is taken over by the next run of that name.
        let _ = dir.remove();
        return Err(reason);
    }
    submit_jobs(store, clock, &jobs)
}

/// Puts the jobs of a run into the queue; those that are there stay as they are.
fn submit_jobs(store: &Store, clock: &dyn Clock, jobs: &[Value]) -> Result<(), Reason> {
    let mut batch = Batch::new(store.root());
    for (line, job) in (1..).zip(jobs) {
        let bytes = format!("{job}\n").into_bytes();
        let parsed = parse_job(&bytes, "jobs.jsonl")
            .map_err(|problems| Reason::new(Code::InvalidJobFile, problems.to_string()))?;
        let origin = Place { file: "jobs.jsonl".into(), line, column: 1 };
        let added = batch.add(Incoming { job: &parsed.job, bytes: &bytes }, origin);
        added
            .map_err(|error| Reason::from_error(error.code(), &error))?
            .map_err(|refused| of_refused(&refused))?;
    }
    let of_queue = |error: crate::queue::QueueError| Reason::from_error(error.code(), &error);
    if let Some(refused) = batch.check(Some(store), IfExists::Skip).map_err(of_queue)?.first() {
        return Err(of_refused(refused));
    }
    let mut refused = None;
    let options = Options { if_exists: IfExists::Skip, if_refused: IfRefused::Stop };
    submit(&mut batch, store, clock, options, &mut |submitted| {
        if let Submitted::Refused(why) = submitted {
            refused = Some(of_refused(&why));
        }
    })
    .map_err(of_queue)?;
    refused.map_or(Ok(()), Err)
}

fn of_refused(refused: &crate::queue::submit::answer::Refused) -> Reason {
    Reason::new(refused.code.clone(), refused.problems.to_string())
}

pub(super) fn of_store(error: &StoreError) -> Reason {
    Reason::from_error(error.code(), error)
}

/// What a resume found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// Everything has succeeded.
    HasSucceeded,
    /// There is work.
    HasWork,
}

/// Prepares a run to go on: recovers what a crash left, submits what is missing, and requeues what ended without success.
pub(crate) fn resume(
    store: &Store,
    clock: &dyn Clock,
    manifest: &RunManifest,
    jobs: &[Value],
) -> Result<Resumed, Reason> {
    submit_jobs(store, clock, jobs)?;
    let mut resumed = Resumed::HasSucceeded;
    for (place, ordered) in (0..).zip(&manifest.order) {
        let id = manifest
            .run_id
            .job_of(&ordered.ws_id)
            .map_err(|error| Reason::from_error(Code::Usage, &error))?;
        if requeue(store, clock, &id, place)? == Resumed::HasWork {
            resumed = Resumed::HasWork;
        }
    }
    Ok(resumed)
}

/// How often a job is looked at again that another process changes at the same time.
const LOOKS: u32 = 5;

fn requeue(store: &Store, clock: &dyn Clock, id: &JobId, place: u32) -> Result<Resumed, Reason> {
    for _ in 0..LOOKS {
        let line = store.read_record(id).map_err(|error| of_store(&error))?.map(|record| record.line);
        match line.map(|line| line.status) {
            Some(Status::Succeeded) => return Ok(Resumed::HasSucceeded),
            None | Some(Status::Queued) => return Ok(Resumed::HasWork),
            Some(Status::Running) => {
                let recovered =
                    runner::recover(store, clock, id, crate::queue::recovery::Again::IfRepeatable);
                // One that runs goes on: this process waits for it.
                recovered.map_err(|error| Reason::from_error(error.code(), &error))?;
                return Ok(Resumed::HasWork);
            }
            Some(Status::Failed | Status::Quarantined | Status::Canceled) => {}
        }
        let done = requeue::requeue(store, clock, id, place)
            .map_err(|error| Reason::from_error(error.code(), &error))?;
        match done {
            Requeued::Done => return Ok(Resumed::HasWork),
            Requeued::Refused(reason) if reason.code == Code::IdQueued => return Ok(Resumed::HasWork),
            Requeued::Refused(reason) => return Err(reason),
            Requeued::NotFound => {
                return Err(Reason::new(Code::NotFound, format!("the job `{id}` of the run is gone")));
            }
            Requeued::Busy | Requeued::NeedsRecovery => {
                let recovered =
                    runner::recover(store, clock, id, crate::queue::recovery::Again::IfRepeatable);
                recovered.map_err(|error| Reason::from_error(error.code(), &error))?;
            }
        }
    }
    Err(Reason::new(Code::IdBusy, format!("another process keeps working on `{id}`")))
}

/// Every job file of a run that would be made, and the prompt of its first step.
pub(crate) fn dry_run(store: Option<&Store>, prepared: &Prepared) -> Result<Vec<Value>, Reason> {
    let mut documents = prepared.jobs(store.map_or("STORE", Store::uuid))?;
    documents.extend(super::first_steps(store, &documents)?);
    Ok(documents)
}
