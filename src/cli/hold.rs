//! `engine hold` and `engine release`: files in `state/control/` that keep claimers away.

use clap::Args;

use super::error::{CliError, NO};
use super::global::Global;
use super::jobs::{known_id, no_job};
use super::{print, root};
use crate::clock::{Clock, SystemClock};
use crate::job::{JobId, Place, Status};
use crate::queue::places;
use crate::store::Store;
use crate::store::control::{self, Held};

/// `engine hold`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine hold [OPTIONS] <ID>...\n       engine hold [OPTIONS] --all",
    after_help = "Examples:\n  engine hold nightly --reason \"waits for the new disk\"\n  engine hold --all\n\n\
    A held job starts no attempt; a running attempt continues. By hand: touch state/control/ID.hold"
)]
pub struct HoldArgs {
    /// The jobs
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    pub ids: Vec<String>,
    /// The whole queue
    #[arg(long)]
    pub all: bool,
    /// Why; `engine explain` shows it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `engine release`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine release [OPTIONS] <ID>...\n       engine release [OPTIONS] --all",
    after_help = "Examples:\n  engine release nightly\n  engine release --all   release the queue; jobs with a hold of their own stay held"
)]
pub struct ReleaseArgs {
    /// The jobs
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    pub ids: Vec<String>,
    /// The whole queue
    #[arg(long)]
    pub all: bool,
}

/// Holds jobs, or the queue; 1 if no such job.
pub(super) fn hold(args: &HoldArgs, global: &Global) -> Result<u8, CliError> {
    let ids = args.ids.iter().map(|id| known_id(id)).collect::<Result<Vec<_>, _>>()?;
    let store = root::to_change(global)?;
    let now = SystemClock::start().now();
    let reason = args.reason.as_deref();
    if args.all {
        control::hold(&store, Held::Queue, reason, now)?;
        print::line("the queue is held");
        return Ok(0);
    }
    let mut status = 0;
    for id in &ids {
        let Some(status_now) = status_of(&store, id)? else {
            print::note(&format!("error: {}", no_job(&store, id)?.message));
            status = NO;
            continue;
        };
        control::hold(&store, Held::Job(id), reason, now)?;
        print::line(&format!("{id}: held"));
        match status_now {
            _ if global.quiet => {}
            Status::Running => {
                print::note(&format!("{id} keeps running; stop it with `engine cancel {id}`"));
            }
            ended if ended.is_terminal() => {
                print::note(&format!("{id} has ended ({ended}); the hold applies once it is queued again"));
            }
            _ => {}
        }
    }
    Ok(status)
}

/// Removes holds; 1 if there is no such job.
pub(super) fn release(args: &ReleaseArgs, global: &Global) -> Result<u8, CliError> {
    let ids = args.ids.iter().map(|id| known_id(id)).collect::<Result<Vec<_>, _>>()?;
    let store = root::to_change(global)?;
    if args.all {
        let was = control::release(&store, Held::Queue)?;
        print::line(if was { "the queue is released" } else { "the queue was not held" });
        let held = control::held_jobs(&store)?;
        if !held.is_empty() && !global.quiet {
            let held_by_themselves =
                print::counted(held.len(), "job has a hold of its own", "jobs have holds of their own");
            print::note(&format!("{held_by_themselves}, {} first", first(&held)));
        }
        return Ok(0);
    }
    let mut status = 0;
    for id in &ids {
        if control::release(&store, Held::Job(id))? {
            print::line(&format!("{id}: released"));
        } else if status_of(&store, id)?.is_some() {
            print::line(&format!("{id}: was not held"));
        } else {
            print::note(&format!("error: {}", no_job(&store, id)?.message));
            status = NO;
        }
        if let Some((file, _)) = control::hold_of(&store, id)?.filter(|_| !global.quiet) {
            print::note(&format!("{id} is still held by {file}: engine release --all"));
        }
    }
    Ok(status)
}

fn first(ids: &[JobId]) -> &str {
    ids.first().map_or("", JobId::as_str)
}

/// The state of a job; `None` if there is no such job.
fn status_of(store: &Store, id: &JobId) -> Result<Option<Status>, CliError> {
    match store.read_record(id)? {
        Some(record) => Ok(Some(record.line.status)),
        None => Ok(places::is_at(store, id, &Place::Queued)?.then_some(Status::Queued)),
    }
}
