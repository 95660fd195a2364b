//! `engine requeue`: queues ended jobs again.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::error::{CliError, NO};
use super::global::Global;
use super::jobs::known_id;
use super::named_run::no_job_of;
use super::{print, root};
use crate::clock::{self, Clock, SystemClock};
use crate::job::{Code, JobId, Reason, Status};
use crate::queue::recovery::Again;
use crate::queue::requeue::{self, Requeued};
use crate::runner::exit_status::ENGINE;
use crate::runner::{recover, why_not_recovered};
use crate::store::{Store, archived};
use crate::view::members;

/// `engine requeue`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine requeue [OPTIONS] <ID>...\n       engine requeue [OPTIONS] --run <RUN> --failed",
    after_help = "Examples:\n  engine requeue nightly\n  engine requeue --run R --failed   all jobs of a run that did not succeed\n\n\
    Former attempts and results stay in the record: engine show ID --all.\n\
    Exit status: 0 if all are queued now, 1 if one could not be."
)]
pub struct RequeueArgs {
    /// The jobs
    #[arg(required_unless_present = "run", conflicts_with = "run", value_name = "ID")]
    pub ids: Vec<String>,
    /// The jobs of this run
    #[arg(long, value_name = "RUN", requires = "failed")]
    pub run: Option<String>,
    /// Only the jobs of that run that ended without success
    #[arg(long, requires = "run")]
    pub failed: bool,
    /// Print one JSON document for each job, a line each
    #[arg(long)]
    pub json: bool,
}

/// How long a runner that has ended its job may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Queues the jobs again; 1 if one of them could not be.
pub(super) fn run(args: &RequeueArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_change(global)?;
    let ids = match &args.run {
        Some(run) => failed_of(&store, run)?,
        None => args.ids.iter().map(|id| known_id(id)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut status = 0;
    if ids.is_empty() && !global.quiet {
        print::note("no job of that run has failed");
    }
    let clock = SystemClock::start();
    for (place, id) in (0..).zip(&ids) {
        let refused = match again(&store, &clock, id, place) {
            Ok(None) => None,
            Ok(Some(reason)) => {
                status = status.max(NO);
                Some(reason)
            }
            // A problem of one job does not keep the others from being queued.
            Err(error) => {
                status = ENGINE;
                Some(Reason::new(error.code, error.message))
            }
        };
        let (done, message) = match &refused {
            None => ("requeued".into(), "queued again".to_owned()),
            Some(reason) => (reason.code.as_str(), format!("not queued: {}", reason.message)),
        };
        if args.json {
            print::json_line(&json!({ "job_id": id, "done": done, "message": message }));
        } else if refused.is_none() {
            print::line(&format!("{id}: {message}"));
        } else {
            print::note(&format!("error: {id}: {message}"));
        }
    }
    Ok(status)
}

/// The jobs of a run that ended and did not succeed, in the order in which they came in; of one that was escalated, its
/// successor counts in its place.
fn failed_of(store: &Store, run: &str) -> Result<Vec<JobId>, CliError> {
    let found = members::of_run(store, run)?;
    for (id, error) in &found.unreadable {
        print::note(&format!("error: {id}, which may be of this run: {error}"));
    }
    if found.ids.is_empty() && !members::retired_of_run(store, run)?.is_empty() {
        let message = format!("gc has retired the jobs of the run `{run}`: their job files are gone");
        return Err(CliError::no(message)
            .hint(format!("submit them again; list them with: engine list --archived --run {run}")));
    }
    if found.ids.is_empty() {
        return Err(no_job_of(store, run));
    }
    let mut failed = Vec::new();
    for id in found.ids {
        let record = match store.read_record(&id) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                CliError::from(error).print(true);
                continue;
            }
        };
        let status = record.line.status;
        if status.is_terminal() && status != Status::Succeeded && record.line.escalated_to().is_none() {
            let accepted = record.line.acceptance();
            failed.push((accepted.at, accepted.place, id));
        }
    }
    failed.sort();
    Ok(failed.into_iter().map(|(_, _, id)| id).collect())
}

/// Queues one job again; a reason, if it could not be.
fn again(store: &Store, clock: &dyn Clock, id: &JobId, place: u32) -> Result<Option<Reason>, CliError> {
    let until = clock.monotonic() + PATIENCE;
    loop {
        match requeue::requeue(store, clock, id, place)? {
            Requeued::Done => return Ok(None),
            Requeued::NotFound => {
                let Some(retired) = archived::last_of(store, id)? else {
                    return Ok(Some(Reason::new(Code::NotFound, "no such job")));
                };
                let message =
                    format!("gc has retired it ({}): its job file is gone; submit it again", retired.file);
                return Ok(Some(Reason::new(Code::Archived, message)));
            }
            Requeued::Refused(reason) => return Ok(Some(reason)),
            Requeued::Busy if clock.monotonic() >= until => {
                let message = "another process is changing this job; try again";
                return Ok(Some(Reason::new(Code::IdRunning, message)));
            }
            Requeued::Busy => clock::sleep(Duration::from_millis(5)),
            Requeued::NeedsRecovery => {
                let recovered = recover(store, clock, id, Again::IfRepeatable)?;
                if let Err(reason) = why_not_recovered(recovered, id) {
                    return Ok(Some(reason));
                }
            }
        }
    }
}
