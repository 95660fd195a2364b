//! Runs one job: admits or claims it, makes its attempts, writes their results.
//!
//! One process runs one job. Nothing here prints; the report is returned as `Conclusion`.

mod agent;
mod attempt;
mod claimed;
mod direct;
mod end;
mod entry;
mod escalate;
mod evidence;
pub(crate) mod exit_status;
mod fill_in;
mod halt;
mod input;
mod not_started;
mod one_attempt;
mod past;
mod paths;
mod report;
mod tree_lock;
mod verdict;

pub(crate) use agent::can_start;
pub(crate) use claimed::run_claimed;
pub(crate) use direct::run_direct;
pub(crate) use paths::{Directories, directories};
pub use tree_lock::WorkTrees;
pub(crate) use tree_lock::work_tree;

use std::io;
use std::time::Duration;

use crate::adapter::{Environment, ManifestError};
use crate::causes::causes;
use crate::clock::Clock;
use crate::fs::Create;
use crate::job::{Attempt, Code, JobId, JobResult, Reason};
use crate::process::Spawner;
use crate::process::left_over::{LeftOver, Markers};
use crate::process::output::Onward;
use crate::process::{left_over, wake};
use crate::queue::QueueError;
use crate::queue::attempt::open_attempt;
use crate::queue::recovery::{self, Again, EndLeftOvers, Recovered};
use crate::store::named_locks::LastHolder;
use crate::store::{Acquire, Lease, Store, StoreError, journal};

/// The means of a run.
pub(crate) struct Workplace<'a> {
    /// The root.
    pub store: &'a Store,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Starts programs.
    pub spawner: &'a mut dyn Spawner,
    /// The engine's own environment.
    pub environment: &'a Environment,
    /// Where the tool's output is handed on to.
    pub onward: Onward,
}

impl std::fmt::Debug for Workplace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workplace").field("store", &self.store).finish_non_exhaustive()
    }
}

/// How a direct run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A job that cannot start is refused; between attempts the runner waits.
    Refuse,
    /// A job that cannot start is waited for, so long.
    Wait(Duration),
    /// A job that cannot start, or waits for its next attempt, stays in the queue.
    Park,
}

/// The conclusion of a run.
#[derive(Debug)]
pub(crate) enum Conclusion {
    /// An attempt ended; the job may be over or wait for its next attempt.
    Result(Box<JobResult>),
    /// It is another job by its key and content, which had ended: nothing was run, and this is its last result.
    Ended(Box<JobResult>),
    /// The job was left in the queue without an attempt, for this reason.
    Parked(JobId, Reason),
    /// Nothing was run and nothing was written.
    Refused(JobId, Reason),
}

/// A run could not be made, or its result not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The queue's or the store's part.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The result could not be written: recovery will declare the attempt lost.
    #[error("the job `{id}` ended ({outcome}) but its result could not be written")]
    ResultNotKept {
        /// The job.
        id: JobId,
        /// How it ended.
        outcome: crate::job::Outcome,
        /// The cause.
        #[source]
        source: QueueError,
    },
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Queue(error.into())
    }
}

impl RunError {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Queue(error) => error.code(),
            Self::ResultNotKept { .. } => Code::ResultNotKept,
        }
    }
}

/// Ends what the dead attempt of a job left behind, for recovery.
pub(crate) fn end_left_overs<'a>(store: &'a Store, clock: &'a dyn Clock) -> Box<EndLeftOvers<'a>> {
    Box::new(move |lease: &Lease| {
        let (id, line) = (lease.id(), lease.line());
        let open = line.and_then(crate::job::RecordLine::open_attempt);
        if let Some(attempt) = open {
            match run_elsewhere(store, id, attempt.pid, Whose::Any) {
                Ok(None) => {}
                Ok(Some(what)) => return Err(Recovered::StillRunning(vec![what])),
                Err(error) => {
                    return Err(Recovered::CannotTell(format!("cannot inspect its runner: {error}")));
                }
            }
        }
        // Of a job whose record tells of no attempt, the next one is declared lost.
        let attempt = open.map(|attempt| attempt.attempt);
        let attempt = attempt.or(line.map(crate::job::RecordLine::next_attempt)).unwrap_or(1);
        end_attempt(store, clock, id, attempt)?;
        if let Some(line) = line {
            agent::account_for(store, clock.now(), line);
        }
        Ok(())
    })
}

/// Ends the processes of one attempt whose runner is dead.
fn end_attempt(store: &Store, clock: &dyn Clock, id: &JobId, attempt: u32) -> Result<(), Recovered> {
    let grace =
        store.config.grace_seconds.map_or(Duration::from_secs(10), crate::job::number::Seconds::duration);
    let marker = |uuid: &str| format!("{uuid}/{id}/{attempt}");
    let former = store.former_uuids().iter().map(|uuid| marker(uuid)).collect();
    let markers = Markers { own: marker(store.uuid()), former };
    let foreign = |pid| run_elsewhere(store, id, pid, Whose::OfThisStore);
    left_over::end(clock, &markers, &foreign, grace).map_err(|left| match left {
        LeftOver::Alive(processes) => Recovered::StillRunning(processes),
        LeftOver::Unknown(why) => Recovered::CannotTell(why),
    })
}

/// Whose record a live runner holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Any,
    OfThisStore,
}

/// Whether a process is the live runner of this job in another root; then what it runs. A copied root has the uuid, and so
/// the marker, of the original: what runs there is not ours to end.
fn run_elsewhere(store: &Store, id: &JobId, pid: i32, whose: Whose) -> io::Result<Option<String>> {
    let Some(path) = wake::holds_namesake(pid, &store.record_path(id))? else { return Ok(None) };
    // A runner that descends from the tool of a job of the same name in an independent root is no copy's.
    let other = path.ancestors().nth(3).and_then(|root| Store::open_to_read(root).ok());
    let independent = other.is_some_and(|other| other.uuid() != store.uuid());
    let held = whose == Whose::Any || !independent;
    Ok(held.then(|| format!("{pid} engine, which runs it as `{}`: this root is a copy", path.display())))
}

/// Recovers one job: ends the left-overs of its dead attempt, and brings record and file to where they belong.
pub(crate) fn recover(
    store: &Store,
    clock: &dyn Clock,
    id: &JobId,
    again: Again,
) -> Result<Recovered, QueueError> {
    if let Acquire::Held(lease) = Lease::acquire(store, id, Create::No)? {
        let open = lease.line().and_then(crate::job::RecordLine::open_attempt);
        if let Some(undecided) = open.and_then(|attempt| recovery::undecided(store, attempt)) {
            return Ok(undecided);
        }
    } else if store.read_record(id)?.is_some() {
        return Ok(Recovered::Alive);
    }
    let options = recovery::Options { host_is_dead: None, again };
    let mut end = end_left_overs(store, clock);
    // The journal lines that its runner missed are written before the move: after it no recovery looks at the job again.
    if let Err(error) = journal::fill_latest(store, id) {
        tracing::warn!(error = causes(&error), "cannot fill the gaps of the journal");
    }
    recovery::recover_one(store, clock, id, &options, &mut *end)
}

/// Recovers the last holder of a slot whose lock was free, which proves that its runner is dead.
///
/// Of a record that cannot be read nothing is recorded. But the slot names the attempt: when nothing of that is left, the slot
/// is free for others.
fn recover_holder(
    store: &Store,
    clock: &dyn Clock,
    holder: &LastHolder,
    again: Again,
) -> Result<Recovered, QueueError> {
    let error = match recover(store, clock, &holder.id, again) {
        Err(QueueError::Store(error @ (StoreError::Unreadable { .. } | StoreError::NewerFormat { .. }))) => {
            error
        }
        other => return other,
    };
    let Some((number, identity)) = holder.attempt.as_ref().filter(|_| error.code() == Code::StateUnreadable)
    else {
        return Ok(Recovered::CannotTell(causes(&error)));
    };
    let attempt = Attempt {
        host: identity.host.clone(),
        boot_id: identity.boot_id.clone(),
        pid_namespace: identity.pid_namespace.clone(),
        ..open_attempt(store, *number, clock.now())
    };
    if let Some(undecided) = recovery::undecided(store, &attempt) {
        return Ok(undecided);
    }
    match end_attempt(store, clock, &holder.id, *number) {
        Ok(()) => {
            tracing::warn!(
                error = causes(&error),
                "no process of `{}` is left: its locks are free",
                holder.id
            );
            Ok(Recovered::Healthy)
        }
        Err(why) => Ok(why),
    }
}

/// Whether a job was recovered, so that it can be changed again; else why not.
///
/// # Errors
/// `id_running`, with the way out.
pub(crate) fn why_not_recovered(recovered: Recovered, id: &JobId) -> Result<(), Reason> {
    match recovered {
        Recovered::Healthy
        | Recovered::Moved(_)
        | Recovered::Lost(_)
        | Recovered::Canceled(_)
        | Recovered::Quarantined(_) => Ok(()),
        Recovered::Alive => Err(Reason::new(Code::IdRunning, format!("the job `{id}` is running"))),
        Recovered::Elsewhere(host) => {
            let message = format!(
                "the job `{id}` was started on `{host}` (or in another container there); if that machine is dead, \
                 run `engine recover --host-is-dead {host}`"
            );
            Err(Reason::new(Code::IdRunning, message))
        }
        Recovered::StillRunning(processes) => {
            let message = format!("processes of the job `{id}` are alive: {}", processes.join(", "));
            Err(Reason::new(Code::IdRunning, message))
        }
        Recovered::CannotTell(why) => {
            let message = format!("cannot tell whether the job `{id}` still runs: {why}");
            Err(Reason::new(Code::IdRunning, message))
        }
    }
}

/// Why a manifest cannot be used, as the reason of an attempt that was not started.
fn manifest_reason(error: &ManifestError) -> Reason {
    Reason::from_error(Code::AdapterInvalid, error)
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
