//! `engine cancel`: cancels waiting jobs here, and asks the runners of running jobs to end them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::error::{CliError, NO};
use super::global::Global;
use super::jobs::{known_id, no_job};
use super::{print, root};
use crate::clock::{Clock, SystemClock};
use crate::fs::watch::Watch;
use crate::job::{Attempt, Code, JobId, Outcome, Place, RecordLine, Status};
use crate::process::wake;
use crate::queue::cancel::{self, CancelAnswer};
use crate::queue::claim::{self, Content};
use crate::queue::recovery::{Again, Recovered};
use crate::runner::exit_status::ENGINE;
use crate::runner::{recover, why_not_recovered};
use crate::store::Store;
use crate::store::identity::Judge;

/// `engine cancel`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine cancel nightly\n  engine list --run R --json | jq -r .job_id | xargs engine cancel\n  \
    engine cancel --no-wait nightly   ask its runner and return at once\n\n\
    The tool gets TERM, or its `stop_signal`, and KILL after its grace. A stopped runner (Ctrl-Z, kill -STOP) is woken.\n\
    Jobs that depend on it stay queued.\n\
    Exit status: 0 if all are canceled, 1 if not (for example, one had already ended)."
)]
pub struct CancelArgs {
    /// The jobs
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Do not wait until the runner of a running job has ended it
    #[arg(long)]
    pub no_wait: bool,
    /// Print one JSON document for each job, a line each
    #[arg(long)]
    pub json: bool,
}

/// How long a runner may take beside the grace of its job.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process that is only about to change a job is waited for, where its runner is not.
const NO_WAIT: Duration = Duration::from_secs(5);
/// The default grace of a job.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// The outcome for a job, as a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Canceled,
    AlreadyCanceled,
    Asked,
    Ended,
    Archived,
    NotFound,
    Refused,
    Busy,
    TimedOut,
    Error,
}

/// The outcome for a job.
struct Answer {
    done: Done,
    message: String,
}

impl Answer {
    fn new(done: Done, message: impl Into<String>) -> Self {
        Self { done, message: message.into() }
    }

    fn status(&self) -> u8 {
        match self.done {
            Done::Canceled | Done::AlreadyCanceled | Done::Asked => 0,
            Done::Error => ENGINE,
            Done::Ended | Done::Archived | Done::NotFound | Done::Refused | Done::Busy | Done::TimedOut => NO,
        }
    }
}

/// A job whose runner was asked.
struct Asked {
    until: Duration,
    /// True once the request is in force.
    requested: bool,
    /// True if no attempt was open at the last look: the process that has the job may be about to start one.
    waits: bool,
    /// The attempt whose runner was woken last, and whether it had ended.
    woken: Option<(u32, bool)>,
    /// True if its runner was stopped by a signal.
    was_stopped: bool,
    /// The line of its record that was there before the last look.
    seq: Option<u64>,
}

/// Cancels the jobs; 1 if one of them is not.
pub(super) fn run(args: &CancelArgs, global: &Global) -> Result<u8, CliError> {
    let mut ids = args.ids.iter().map(|id| known_id(id)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    Ok(cancel_all(&root::to_change(global)?, ids, How { no_wait: args.no_wait, json: args.json }))
}

/// How jobs are canceled, and the form of the report.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Do not wait until the runners have ended them.
    pub no_wait: bool,
    /// Print a JSON document for each.
    pub json: bool,
}

/// Cancels the jobs, in this order, and tells of each; the exit status.
pub(super) fn cancel_all(store: &Store, ids: Vec<JobId>, how: How) -> u8 {
    let clock = SystemClock::start();
    // Made before the first look: every later change is reported.
    let watch = Watch::new(&[&store.state("jobs")]);
    let mut pause = Duration::ZERO;
    let mut status = 0;
    let mut tell = |id: &JobId, answer: &Answer| {
        status = status.max(answer.status());
        if how.json {
            print::json_line(&json!({ "job_id": id, "done": answer.done, "message": answer.message }));
        } else {
            print::report([format!("{id}: {}", answer.message)]);
        }
    };
    let mut pending: BTreeMap<JobId, Asked> = BTreeMap::new();
    for id in ids {
        let patience = if how.no_wait { NO_WAIT } else { patience(store, &id) };
        let until = clock.monotonic() + patience;
        let mut asked =
            Asked { until, requested: false, waits: false, woken: None, was_stopped: false, seq: None };
        match look(store, &clock, &id, &mut asked).or_else(|| asked.answer(how.no_wait)) {
            Some(answer) => tell(&id, &answer),
            None => drop(pending.insert(id, asked)),
        }
    }
    while !pending.is_empty() {
        let start = clock.monotonic();
        let mut ended = Vec::new();
        for (id, asked) in &mut pending {
            let answer = match look(store, &clock, id, asked).or_else(|| asked.answer(how.no_wait)) {
                None if clock.monotonic() >= asked.until => Some(too_late(id, asked)),
                answer => answer,
            };
            if let Some(answer) = answer {
                tell(id, &answer);
                ended.push(id.clone());
            }
        }
        pending.retain(|id, _| !ended.contains(id));
        let now = clock.monotonic();
        pause = watch.pause(now.saturating_sub(start), !ended.is_empty(), pause);
        wait_for_a_line(store, &clock, &watch, &pending, pause);
    }
    status
}

/// Waits until a record says something new, at most so long. Only reads: to look with the lease in hand opens the record
/// for writing, which would be reported as a change of its own, and so on without end.
fn wait_for_a_line(
    store: &Store,
    clock: &dyn Clock,
    watch: &Watch,
    pending: &BTreeMap<JobId, Asked>,
    at_most: Duration,
) {
    let until = clock.monotonic() + at_most;
    while !pending.is_empty() && pending.iter().all(|(id, asked)| last_seq(store, id) == asked.seq) {
        let left = until.saturating_sub(clock.monotonic());
        if left.is_zero() {
            return;
        }
        watch.wait(left);
        // Which record it was does not matter: all are read.
        let _ = watch.drain();
    }
}

fn last_seq(store: &Store, id: &JobId) -> Option<u64> {
    Some(store.read_record(id).ok()??.line.seq)
}

fn patience(store: &Store, id: &JobId) -> Duration {
    let path = store.job_file(&Place::Running, id);
    let own = match claim::read_at(&path, id, true, crate::clock::Timestamp::from_millis(0)) {
        Ok((Content::Job(parsed, _), _)) => parsed.job.metadata.known.grace_seconds,
        _ => None,
    };
    let grace = own.or(store.config.grace_seconds);
    PATIENCE + grace.map_or(DEFAULT_GRACE, crate::job::number::Seconds::duration)
}

impl Asked {
    /// The answer of `--no-wait`: only facts that already hold.
    fn answer(&self, no_wait: bool) -> Option<Answer> {
        let woken = if self.was_stopped { ", which was stopped, is woken and" } else { " is" };
        let message = if self.waits {
            "it is queued, but another process holds it; that process is asked to start no attempt".to_owned()
        } else {
            format!("its runner{woken} asked to end it")
        };
        (no_wait && self.requested).then(|| Answer::new(Done::Asked, message))
    }
}

fn too_late(id: &JobId, asked: &Asked) -> Answer {
    if !asked.requested {
        let message = "not canceled: another process is changing the job; nothing was written";
        return Answer::new(Done::Busy, message);
    }
    Answer::new(
        Done::TimedOut,
        format!("still running; the cancel request remains in force: engine explain {id}"),
    )
}

/// One look: the answer, if there is one already. A problem of one job does not keep the others from being canceled.
fn look(store: &Store, clock: &dyn Clock, id: &JobId, asked: &mut Asked) -> Option<Answer> {
    asked.seq = last_seq(store, id);
    try_look(store, clock, id, asked).unwrap_or_else(|error| Some(Answer::new(Done::Error, error.message)))
}

fn try_look(
    store: &Store,
    clock: &dyn Clock,
    id: &JobId,
    asked: &mut Asked,
) -> Result<Option<Answer>, CliError> {
    Ok(match cancel::look(store, clock, id)? {
        CancelAnswer::NotFound => {
            let reason = no_job(store, id)?;
            Some(match reason.code {
                Code::Archived => Answer::new(Done::Archived, reason.message),
                _ => Answer::new(Done::NotFound, "no such job"),
            })
        }
        CancelAnswer::Canceled => Some(Answer::new(Done::Canceled, "canceled; it was queued")),
        CancelAnswer::Ended(line) => Some(ended(&line, asked)),
        CancelAnswer::Refused(reason) => {
            Some(Answer::new(Done::Refused, format!("not canceled: {}", reason.message)))
        }
        CancelAnswer::Asked(attempt) => {
            asked.requested = true;
            asked.waits = attempt.as_ref().is_none_or(|attempt| attempt.outcome.is_some());
            if let Some(attempt) = attempt {
                wake_runner(store, id, &attempt, asked);
            }
            None
        }
        CancelAnswer::Busy => None,
        CancelAnswer::NeedsRecovery => {
            asked.requested = true;
            // It finds the request and honors it.
            match recover(store, clock, id, Again::IfRepeatable)? {
                Recovered::Canceled(_) => Some(Answer::new(Done::Canceled, "canceled; its runner had died")),
                other => match why_not_recovered(other, id) {
                    Ok(()) => None,
                    Err(reason) => Some(Answer::new(
                        Done::Refused,
                        format!("not canceled yet: {}; the cancel request remains in force", reason.message),
                    )),
                },
            }
        }
    })
}

fn ended(line: &RecordLine, asked: &Asked) -> Answer {
    match line.status {
        Status::Canceled if asked.woken.is_some() => {
            let stopped = line.attempts.last().filter(|last| last.outcome == Some(Outcome::Canceled));
            let how = stopped.map_or_else(
                || "it waited for its next attempt".to_owned(),
                |last| format!("attempt {} was ended", last.attempt),
            );
            Answer::new(Done::Canceled, format!("canceled; {how}"))
        }
        Status::Canceled => Answer::new(Done::AlreadyCanceled, "is canceled"),
        status => {
            let why = line.attempts.last().and_then(|attempt| attempt.reason.as_ref());
            let why = why.map_or_else(String::new, |reason| format!(" ({})", reason.message));
            Answer::new(Done::Ended, format!("not canceled: it had ended, {status}{why}"))
        }
    }
}

/// Wakes the runner of an attempt once, and each time that it is found stopped; should that fail, it looks by itself within a
/// second.
fn wake_runner(store: &Store, id: &JobId, attempt: &Attempt, asked: &mut Asked) {
    let now = Some((attempt.attempt, attempt.outcome.is_some()));
    let is_stopped = wake::is_stopped(attempt.pid);
    if asked.woken == now && !is_stopped {
        return;
    }
    asked.woken = now;
    let here = store.identity.judge(attempt) == Judge::Here;
    let woken = here && wake::holder(attempt.pid, &store.record_path(id));
    asked.was_stopped |= woken && is_stopped;
    tracing::debug!(woken, pid = attempt.pid, "asked the runner of {id}");
}
