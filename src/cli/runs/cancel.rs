//! `engine runs cancel`: cancels what waits of a run, and asks the runners of what runs to end it.

use clap::Args;

use crate::cli::cancel::{How, cancel_all};
use crate::cli::error::CliError;
use crate::cli::named_run::{named, not_queued};
use crate::clock::{Clock, SystemClock};
use crate::job::JobId;
use crate::store::Store;
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self, Depth};

/// `engine runs cancel`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs cancel last\n  engine runs cancel last --no-wait   ask the runners and return at once\n\n\
    A workstream that runs stops its step, leaves a clean worktree, and keeps what it has taken: engine run --resume goes on.\n\
    Exit status: 0 if nothing of the run moves any more, 1 if not, or if it had ended."
)]
pub struct RunsCancelArgs {
    /// The run, or `last`
    pub run: String,
    /// Do not wait until the runners have ended what runs
    #[arg(long)]
    pub no_wait: bool,
    /// Print one JSON document for each job, a line each
    #[arg(long)]
    pub json: bool,
}

/// Cancels the run; 1 if it has ended.
pub(super) fn run(store: &Store, args: &RunsCancelArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let facts = run::read(store, manifest.clone(), Depth::Status, SystemClock::start().now())?;
    let status = RunStatus::of(&facts);
    let can_end = |status: WorkstreamStatus| status.can_move() || status == WorkstreamStatus::Blocked;
    let jobs = facts
        .jobs()
        .filter(|job| (job.line.is_some() || job.is_in_queue) && can_end(WorkstreamStatus::of(job)));
    // The last first: the end of one lets those start that come after it.
    let mut ids: Vec<JobId> = jobs.map(|job| job.id.clone()).collect();
    ids.reverse();
    // A cancel of jobs that are not in the queue would keep nothing from being submitted later.
    if ids.is_empty()
        && let Some(error) = not_queued(store, &manifest)?
    {
        return Err(error);
    }
    // A run that has failed can have workstreams that wait for what failed.
    if ids.is_empty() && status.is_at_rest() {
        return Err(CliError::no(status.refusal(RunStatus::Canceled)));
    }
    let canceled = cancel_all(store, ids, How { no_wait: args.no_wait, json: args.json });
    // The rest of it was never submitted.
    Ok(match not_queued(store, &manifest)? {
        Some(error) => error.print(false).max(canceled),
        None => canceled,
    })
}
