//! A run: everything is checked before anything is made, then it is made in an order that a crash may end anywhere.
//!
//! Hard rule: what is refused leaves nothing behind, no directory, no reference, no worktree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::assignment::{Assignment, job_of};
use super::given_up::FAIL_FAST;
use super::repository;
use crate::bundle::{Place, ReadBundle};
use crate::clock::{Clock, Timestamp};
use crate::git::Program;
use crate::job::run::{BASELINE, BASELINE_GATE, Base, BundleRef, INTEGRATION, Ordered, Origin};
use crate::job::spec::Priority;
use crate::job::{Code, JobId, Reason, RunId, RunManifest, SCHEMA_VERSION, parse_job};
use crate::queue::door::Incoming;
use crate::queue::submit::answer::{IfExists, IfRefused, Options, Refused, Submitted};
use crate::queue::submit::batch::{Batch, Origin as Line};
use crate::queue::submit::submit;
use crate::store::Store;
use crate::store::run_dir::{self, Created, RunDir};

/// A run that can be made: nothing of it is written yet.
pub(crate) struct Prepared {
    /// Its name.
    pub run: RunId,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Its workstreams, in plan order.
    pub(super) pieces: Vec<Piece>,
    /// What integrates them; none of one without a gate.
    pub(super) integration: Option<Assignment>,
    pub(super) resolved: Value,
    /// The top of the checkout.
    pub(crate) repo: PathBuf,
    /// The commit to begin on.
    pub(crate) base: Base,
    pub(super) worktrees: Option<String>,
    pub(super) max_cost_usd: Option<f64>,
    pub(super) is_fail_fast: bool,
    pub(super) has_baseline: bool,
    pub(super) cache: PathBuf,
    pub(super) origin: Origin,
    pub(super) path: Option<String>,
}

/// A workstream that can be made.
pub(super) struct Piece {
    pub(super) bundle: ReadBundle,
    pub(super) assignment: Assignment,
    /// Its place in the order of the run.
    pub(super) place: Place,
    /// Its wave, from 1.
    pub(super) wave: u32,
}

/// The directory of all worktrees.
pub(super) fn worktrees(named: &Option<String>, repo: &Path, cache: &Path) -> PathBuf {
    named.as_ref().map_or_else(|| cache.join("engine/worktrees"), |dir| repo.join(dir))
}

impl Prepared {
    /// The jobs of the run in a root, in plan order; the gate before them is the first, the integration the last.
    fn jobs(&self, uuid: &str) -> Result<Vec<Value>, Reason> {
        let mut jobs = Vec::new();
        let whole = self.integration.as_ref().map(|integration| Assignment {
            worktree: self.worktree(uuid, INTEGRATION),
            ..integration.clone()
        });
        let gate = whole.as_ref().filter(|_| self.has_baseline);
        if let Some(whole) = gate {
            let gate = Assignment { is_not_merged: false, ..whole.clone() };
            jobs.push(self.job(BASELINE_GATE, "integration", INTEGRATION, &gate)?);
        }
        for piece in &self.pieces {
            let ws = piece.bundle.bundle.id.as_str();
            let assignment = Assignment { worktree: self.worktree(uuid, ws), ..piece.assignment.clone() };
            let mut job = self.job(ws, "workstream", ws, &assignment)?;
            if piece.bundle.bundle.is_background() {
                job["priority"] = json!(Priority::Low);
            }
            self.waits(&mut job, "depends_on", &piece.place.depends_on)?;
            if gate.is_some() && piece.place.depends_on.is_empty() {
                job["depends_on"] = json!([job_of(&self.run, BASELINE_GATE)?]);
            }
            let after: Vec<usize> = piece.place.after.iter().map(|after| after.place).collect();
            self.waits(&mut job, "after", &after)?;
            jobs.push(job);
        }
        if let Some(whole) = &whole {
            let mut job = self.job(INTEGRATION, "integration", INTEGRATION, whole)?;
            self.waits(&mut job, "after", &(0..self.pieces.len()).collect::<Vec<_>>())?;
            jobs.push(job);
        }
        Ok(jobs)
    }

    fn ws(&self, place: usize) -> Option<&str> {
        Some(self.pieces.get(place)?.bundle.bundle.id.as_str())
    }

    fn worktree(&self, uuid: &str, ws: &str) -> String {
        let worktrees = worktrees(&self.worktrees, &self.repo, &self.cache);
        worktrees.join(uuid).join(self.run.as_str()).join(ws).to_string_lossy().into_owned()
    }

    /// Names the jobs of these places in a key of a job.
    fn waits(&self, job: &mut Value, key: &str, places: &[usize]) -> Result<(), Reason> {
        let ids: Vec<JobId> = places
            .iter()
            .filter_map(|place| self.ws(*place))
            .map(|ws| job_of(&self.run, ws))
            .collect::<Result<_, _>>()?;
        if !ids.is_empty() {
            job[key] = json!(ids);
        }
        Ok(())
    }

    fn job(&self, name: &str, tool: &str, ws: &str, assignment: &Assignment) -> Result<Value, Reason> {
        let mut metadata = json!(assignment);
        metadata["timeout_seconds"] = json!(assignment.limits.timeout_seconds);
        metadata["max_retries"] = json!(CRASHES);
        let env: Value =
            self.path.iter().map(|path| ("PATH".to_owned(), json!(path))).collect::<Map<_, _>>().into();
        Ok(json!({
            "schema_version": SCHEMA_VERSION,
            "job_id": job_of(&self.run, name)?,
            "run_id": self.run,
            "workstream_id": ws,
            "tool": tool,
            "priority": Priority::Normal,
            "paths": { "repo_root": assignment.repo },
            "env": env,
            "on_failure": "done",
            "on_crash": "requeue",
            "metadata": metadata,
        }))
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::from_iter([
            ("max_cost_usd".to_owned(), json!(self.max_cost_usd)),
            ("settings".to_owned(), self.resolved.clone()),
        ]);
        if self.is_fail_fast {
            options.insert(FAIL_FAST.to_owned(), Value::from(true));
        }
        if self.has_baseline {
            options.insert(BASELINE.to_owned(), Value::from(true));
        }
        options
    }

    fn manifest(&self, jobs_sha256: String, now: Timestamp) -> RunManifest {
        let bundles = self.pieces.iter().map(|piece| BundleRef {
            ws_id: piece.bundle.bundle.id.to_string(),
            file: Some(piece.bundle.file.clone()),
            sha256: piece.bundle.sha256.clone(),
        });
        let names = |places: &mut dyn Iterator<Item = usize>| {
            places.filter_map(|place| self.ws(place)).map(str::to_owned).collect::<Vec<_>>()
        };
        let ordered = self.pieces.iter().map(|piece| {
            let why: BTreeSet<String> =
                piece.place.after.iter().flat_map(|after| &after.why).map(ToString::to_string).collect();
            let why = why.into_iter().collect::<Vec<_>>().join(", ");
            Ordered {
                ws_id: piece.bundle.bundle.id.to_string(),
                depends_on: names(&mut piece.place.depends_on.iter().copied()),
                after: names(&mut piece.place.after.iter().map(|after| after.place)),
                reason: Some(why).filter(|why| !why.is_empty()),
                wave: Some(piece.wave),
            }
        });
        RunManifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.run.clone(),
            created_at: now,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            repo: self.repo.to_string_lossy().into_owned(),
            base: self.base.clone(),
            origin: self.origin.clone(),
            options: self.options(),
            bundles: bundles.collect(),
            jobs_sha256,
            order: ordered.collect(),
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
    let commit = &prepared.base.commit;
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
        let origin = Line { file: "jobs.jsonl".into(), line, column: 1 };
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
