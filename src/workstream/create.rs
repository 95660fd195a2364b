//! A run: everything is checked before anything is made, then it is made in an order that a crash may end anywhere.
//!
//! Hard rule: what is refused leaves nothing behind, no directory, no reference, no work tree.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::assignment::Assignment;
use super::repository;
use crate::bundle::ReadBundle;
use crate::clock::{Clock, Timestamp};
use crate::git::Program;
use crate::job::run::{BundleRef, Ordered, Origin};
use crate::job::spec::Priority;
use crate::job::{Code, Reason, RunId, RunManifest, SCHEMA_VERSION, parse_job};
use crate::queue::door::Incoming;
use crate::queue::submit::answer::{IfExists, IfRefused, Options, Refused, Submitted};
use crate::queue::submit::batch::{Batch, Origin as Place};
use crate::queue::submit::submit;
use crate::store::Store;
use crate::store::run_dir::{self, Created, RunDir};

/// A run that can be made: nothing of it is written yet.
pub(crate) struct Prepared {
    /// Its name.
    pub run: RunId,
    /// What a person should know.
    pub warnings: Vec<String>,
    pub(super) bundle: ReadBundle,
    pub(super) resolved: Value,
    pub(super) repo: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) origin: Origin,
    pub(super) path: Option<String>,
    pub(super) assignment: Assignment,
}

/// The directory of all work trees.
pub(super) fn worktrees(named: &Option<String>, repo: &Path, cache: &Path) -> PathBuf {
    named.as_ref().map_or_else(|| cache.join("engine/worktrees"), |dir| repo.join(dir))
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

    fn manifest(&self, jobs_sha256: String, now: Timestamp) -> RunManifest {
        let ws_id = self.bundle.bundle.id.to_string();
        RunManifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.run.clone(),
            created_at: now,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            repo: self.repo.to_string_lossy().into_owned(),
            base: self.assignment.base.clone(),
            origin: self.origin.clone(),
            options: Map::from_iter([
                ("max_cost_usd".to_owned(), json!(self.assignment.run_max_cost_usd)),
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
    let (dir, left) = match run_dir::create(store, &prepared.run)? {
        Created::Ours(dir, left) => (dir, left),
        Created::Taken => {
            let message = format!("there is a run `{0}`: engine run --resume {0}", prepared.run);
            return Err(Reason::new(Code::IdTaken, message));
        }
        Created::Busy => {
            let message = format!("another process is making the run `{}`", prepared.run);
            return Err(Reason::new(Code::IdBusy, message));
        }
    };
    let commit = &prepared.assignment.base.commit;
    let kept = repository::keep_base(program, &prepared.repo, (&prepared.run, left), (commit, store));
    let made = kept.and_then(|()| {
        publish(store, clock, &dir, (prepared, &jobs)).inspect_err(|_| {
            repository::drop_base(program, &prepared.repo, &prepared.run);
        })
    });
    if let Err(reason) = made {
        // What is left of it is taken over by the next run of that name.
        let _ = dir.remove();
        return Err(reason);
    }
    submit_jobs(store, clock, &jobs).map_err(|reason| {
        let run = &prepared.run;
        let message = format!(
            "the run `{run}` is made, but not in the queue: {}; engine run --resume {run}",
            reason.message
        );
        Reason { message, ..reason }
    })
}

fn publish(
    store: &Store,
    clock: &dyn Clock,
    dir: &RunDir,
    (prepared, jobs): (&Prepared, &[Value]),
) -> Result<(), Reason> {
    let sha256 = dir.write_jobs(store, jobs)?;
    Ok(dir.publish_manifest(store, &prepared.manifest(sha256, clock.now()))?)
}

/// Puts the jobs of a run into the queue; those that are there stay as they are.
pub(super) fn submit_jobs(store: &Store, clock: &dyn Clock, jobs: &[Value]) -> Result<(), Reason> {
    let mut batch = Batch::new(store.root());
    for (line, job) in (1..).zip(jobs) {
        let bytes = format!("{job}\n").into_bytes();
        let parsed = parse_job(&bytes, "jobs.jsonl")
            .map_err(|problems| Reason::new(Code::InvalidJobFile, problems.to_string()))?;
        let origin = Place { file: "jobs.jsonl".into(), line, column: 1 };
        let added = batch.add(Incoming { job: &parsed.job, bytes: &bytes }, origin);
        added?.map_err(|refused| of_refused(&refused))?;
    }
    if let Some(refused) = batch.check(Some(store), IfExists::Skip)?.first() {
        return Err(of_refused(refused));
    }
    let mut refused = None;
    let options = Options { if_exists: IfExists::Skip, if_refused: IfRefused::Stop };
    submit(&mut batch, store, clock, options, &mut |submitted| {
        if let Submitted::Refused(why) = submitted {
            refused = Some(of_refused(&why));
        }
    })?;
    refused.map_or(Ok(()), Err)
}

fn of_refused(refused: &Refused) -> Reason {
    Reason::new(refused.code.clone(), refused.problems.to_string())
}

/// Every job file of a run that would be made, and the prompt of its first step.
pub(crate) fn dry_run(store: Option<&Store>, prepared: &Prepared) -> Result<Vec<Value>, Reason> {
    let mut documents = prepared.jobs(store.map_or("STORE", Store::uuid))?;
    documents.extend(super::first_steps(store, &documents)?);
    Ok(documents)
}
