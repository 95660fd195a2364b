//! `engine work`: takes jobs from the queue and runs each in a process of its own.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::error::CliError;
use super::global::Global;
use super::{named_run, print, root, run_job, signals};
use crate::clock::SystemClock;
use crate::job::id::LockName;
use crate::job::{Code, JobId, Reason, RunId, Status};
use crate::policy::dag;
use crate::queue::recovery::{self, Options, Recovered};
use crate::runner::exit_status;
use crate::store::{Lease, Store, boot, run_dir};
use crate::view::members;
use crate::view::outcome::{self, Stuck};
use crate::worker::processes::Processes;
use crate::worker::scan::Filter;
use crate::worker::wait::{Lock, Wait};
use crate::worker::{Event, Left, Orders, Summary, Until, WorkError, Worker};

/// `engine work`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  \
    engine work                     run queued jobs, now and later, one at a time\n  \
    engine work --slots 4 --drain   run the queued jobs, four at a time, then exit; 1 if a job failed\n  \
    engine work --run nightly       only jobs with this run_id\n\n\
    Exit status of a drain: 0 all that ran succeeded, 1 some did not, or jobs are left that could not be run or can never run\n\
    (behind one that did not succeed, or in a circle), 125 jobs are left that could run, because the disk is full or nearly\n\
    full (min_free_bytes of engine.toml); 128+n after signal n. Jobs that wait for a time, a hold, a lock or a future job\n\
    do not count.\n\
    Ctrl-C or TERM: the first lets the running jobs end, the second asks them to stop, the third kills them.\n\
    Any number of workers may work on one root.")]
pub struct WorkArgs {
    /// How many jobs run at a time (default: `slots` of engine.toml, else 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// Exit when no job is left that can run
    #[arg(long)]
    pub drain: bool,
    /// Take only jobs of this run
    #[arg(long, value_name = "RUN_ID")]
    pub run: Option<String>,
    /// Take only jobs of this adapter
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
}

/// Works; 1 if it drained the queue and a job did not succeed, could not be run or can never run, 125 if it left jobs for want of space.
pub(super) fn run(args: &WorkArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_change(global)?;
    let clock = SystemClock::start();
    // The launcher first: what it forks must have neither our handlers nor our memory.
    let run = |id: &JobId| run_job::run_for_worker(&store, id);
    let mut runners = Processes::new(&store, &clock, &run)
        .map_err(|error| CliError::plain("error starting the launcher of runners").because(&error))?;
    let signals = signals::install()?;
    let left = recover_after_boot(&store, &clock, global)?;
    let slots = args.slots.map(usize::from).or_else(|| {
        let all = store.config.slots.map(crate::job::number::Count::get)?;
        usize::try_from(all).ok().filter(|slots| *slots > 0)
    });
    let orders = Orders {
        slots: slots.unwrap_or(1),
        until: if args.drain { Until::Drained } else { Until::Stopped },
        filter: Filter { run: args.run.clone(), tool: args.tool.clone() },
        left,
    };
    let worker = Worker::new(&store, &clock, &signals, &mut runners, orders);
    let summary = worker.run(&mut |event| tell(&event, global)).map_err(error)?;
    let drained = args.run.as_ref().filter(|_| args.drain && !summary.stopped);
    let not_queued = drained.map(|run| not_queued(&store, run)).transpose()?.flatten();
    if let Some(run) = drained.filter(|_| summary.is_empty()) {
        check_run(&store, run)?;
    }
    let stuck = if args.drain || !global.quiet { stuck(&store, &summary)? } else { Vec::new() };
    if !global.quiet {
        tell_summary(&summary, &stuck);
    }
    let never: usize = stuck.iter().map(|(_, jobs)| jobs.len()).sum();
    // A full disk is reported, and counts, for all jobs at once.
    let counts = |reason: &Reason| !reason.code.passes() && reason.code != Code::DiskFull;
    let refused = summary.refused.iter().filter(|(_, reason)| counts(reason));
    let refused: BTreeSet<&JobId> = refused.map(|(id, _)| id).collect();
    // The summary says so too, and what it was.
    if args.drain && global.quiet && summary.failed > 0 {
        let jobs = print::counted(summary.failed, "job", "jobs");
        print::note(&format!("error: {jobs} did not succeed: engine list --state quarantined"));
    }
    if args.drain && !summary.stopped {
        tell_left(never, &refused);
    }
    if let Some(error) = &not_queued {
        error.print(global.quiet);
    }
    if summary.low_space.is_some() {
        return Ok(exit_status::ENGINE);
    }
    // An interrupted drain has not succeeded.
    let interrupted = signals::exit_status(&signals).filter(|_| args.drain && summary.stopped);
    let failed =
        args.drain && (summary.failed > 0 || never > 0 || !refused.is_empty() || not_queued.is_some());
    Ok(interrupted.unwrap_or(u8::from(failed)))
}

/// What is wrong with a run of that name whose jobs are not in the queue, so that none of it is drained.
fn not_queued(store: &Store, run: &str) -> Result<Option<CliError>, CliError> {
    // Jobs may have a `run_id` of their own that `engine run` has not made.
    let made = RunId::new(run).ok().and_then(|run| run_dir::read_manifest(store, &run).ok()?);
    made.map_or(Ok(None), |manifest| named_run::not_queued(store, &manifest))
}

/// Checks that there is something to drain, now or before: a name with a mistake in it would drain nothing for ever.
fn check_run(store: &Store, run: &str) -> Result<(), CliError> {
    let found = members::of_run(store, run)?;
    if found.ids.is_empty() && found.unreadable.is_empty() && members::retired_of_run(store, run)?.is_empty()
    {
        return Err(named_run::no_job_of(store, run));
    }
    Ok(())
}

/// Why a worker could not go on.
pub(super) fn error(error: WorkError) -> CliError {
    match error {
        WorkError::Queue(error) => CliError::from(error),
        WorkError::RootGone { .. } => CliError::plain(error.to_string()),
        WorkError::LauncherGone { .. } => CliError::plain(error.to_string()).hint("start the worker again"),
    }
}

/// Reports, even without a summary, that a drain is incomplete: jobs that can never run, and jobs that could not be run.
fn tell_left(never: usize, refused: &BTreeSet<&JobId>) {
    let left = |count| print::counted(count, "job is left that", "jobs are left that");
    if never > 0 {
        print::note(&format!("error: {} can never run: engine list --state waiting", left(never)));
    }
    if let Some(first) = refused.first() {
        print::note(&format!("error: {} could not be run: engine explain {first}", left(refused.len())));
    }
}

/// Looks at every record, if no worker of this boot has: what ends at once is recovered, and what takes its time is left to
/// the worker, beside its work.
fn recover_after_boot(store: &Store, clock: &SystemClock, global: &Global) -> Result<Left, CliError> {
    if !boot::needs_a_look_at_every_record(store)? {
        boot::remember(store)?;
        return Ok(Left::default());
    }
    let mut jobs = BTreeSet::new();
    let mut later = |lease: &Lease| {
        jobs.insert(lease.id().clone());
        Err(Recovered::Alive)
    };
    let report = recovery::recover_all(store, clock, &Options::default(), &mut later)?;
    if !report.jobs.is_empty() && !global.quiet {
        let jobs = print::counted(report.jobs.len(), "job that a crash had", "jobs that a crash had");
        print::note(&format!("recovered {jobs} left unfinished"));
    }
    for (id, error) in &report.failed {
        print::note(&format!("error: {id}: {error}"));
    }
    let left = Left { jobs, is_all: report.is_complete() };
    // Else the worker remembers it, or the next one looks again.
    if left.is_all && left.jobs.is_empty() {
        boot::remember(store)?;
    }
    Ok(left)
}

fn tell(event: &Event<'_>, global: &Global) {
    if let Some(text) = text(event, global.verbose)
        && (!global.quiet || matches!(event, Event::NotRun(..) | Event::Paused(_)))
    {
        print::note(&text);
    }
}

fn text(event: &Event<'_>, verbose: u8) -> Option<String> {
    Some(match event {
        Event::Started(id) if verbose > 0 => format!("{id} started"),
        Event::Ended(id, Status::Succeeded, result) if verbose > 0 => {
            format!("{id} succeeded in {:.2} s", result.duration_s)
        }
        Event::Started(_) | Event::Ended(_, Status::Succeeded, _) => return None,
        Event::Ended(id, status, result) => {
            let why =
                result.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.message));
            let outcome = result.outcome.as_str().replace('_', " ");
            let kept = if *status == Status::Quarantined { "; quarantined" } else { "" };
            format!("{id} {outcome} after {:.2} s{why}{kept}", result.duration_s)
        }
        Event::WillRetry(id, result) => {
            let why =
                result.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.message));
            format!("{id}: attempt {} {}{why}; it will be retried", result.attempt, result.outcome.as_str())
        }
        Event::NotRun(id, reason) => format!("{id} was not run: {}", reason.message),
        Event::Recovered(id, Recovered::Lost(place)) => {
            format!("{id}: its runner died; the attempt is lost, the job is now in jobs/{place}")
        }
        Event::Recovered(id, Recovered::Canceled(_)) => {
            format!("{id}: its runner died after it was asked to cancel; the job is canceled")
        }
        Event::Recovered(id, Recovered::Elsewhere(host)) => {
            format!(
                "{id} was started on {host}; if that machine is dead: engine recover --host-is-dead {host}"
            )
        }
        Event::Recovered(id, Recovered::StillRunning(processes)) => {
            format!("{id}: processes of its dead attempt are alive: {}", processes.join(", "))
        }
        Event::Recovered(id, Recovered::CannotTell(why)) => {
            format!("{id}: cannot tell whether its attempt still runs: {why}")
        }
        Event::Recovered(id, Recovered::Quarantined(reason)) => {
            format!("{id} is quarantined: {}", reason.message)
        }
        Event::Recovered(..) => return None,
        Event::Paused(why) => format!("starting no jobs: {why}"),
        Event::Stopping(0) => "stopping".to_owned(),
        Event::Stopping(running) => {
            let jobs = print::counted(*running, "running job", "running jobs");
            format!("stopping: waiting for {jobs}; signal again to interrupt")
        }
        Event::Killed(running) => {
            print::counted(*running, "running job is killed", "running jobs are killed")
        }
        Event::Asked(running) => {
            let jobs = print::counted(*running, "running job was", "running jobs were");
            format!("{jobs} asked to stop; signal again to kill")
        }
    })
}

/// The causes for which jobs are left that can never run by themselves, each with its jobs.
type AllStuck = [(Stuck, Vec<JobId>)];

fn stuck(store: &Store, summary: &Summary) -> Result<Vec<(Stuck, Vec<JobId>)>, CliError> {
    let behind =
        summary.waiting.iter().filter(|(_, wait)| matches!(wait, Wait::Dependency(_) | Wait::After { .. }));
    let behind: BTreeSet<JobId> = behind.map(|(id, _)| id.clone()).collect();
    let mut causes: Vec<(Stuck, Vec<JobId>)> = Vec::new();
    for (id, why) in outcome::all_stuck(store, &behind)? {
        match causes.iter_mut().find(|(known, _)| *known == why) {
            Some((_, jobs)) => jobs.push(id),
            None => causes.push((why, vec![id])),
        }
    }
    Ok(causes)
}

/// How many jobs are named one by one.
const NAMED: usize = 10;

fn tell_summary(summary: &Summary, stuck: &AllStuck) {
    let ended = summary.succeeded + summary.failed;
    let jobs = print::counted(ended, "job", "jobs");
    let mut text = format!("{jobs} ended: {} succeeded, {} did not", summary.succeeded, summary.failed);
    if !summary.waiting.is_empty() {
        text.push_str(&format!("; {}", print::counted(summary.waiting.len(), "waits", "wait")));
    }
    if let Some(why) = &summary.low_space {
        text.push_str(&format!("; the rest stays queued: {why}"));
    }
    if summary.queue_is_held {
        text.push_str("; the queue is held: engine release --all");
    }
    print::note(&text);
    let causes: BTreeMap<&JobId, &Stuck> =
        stuck.iter().flat_map(|(why, jobs)| jobs.iter().map(move |id| (id, why))).collect();
    // All jobs of a circle are listed at once.
    let is_listed = |id: &JobId, wait: &Wait| {
        let in_circle = causes.get(id).is_some_and(|why| why.circle().is_some());
        !(in_circle || summary.queue_is_held && *wait == Wait::Hold)
    };
    let listed: Vec<_> = summary.waiting.iter().filter(|(id, wait)| is_listed(id, wait)).collect();
    for (id, wait) in listed.iter().take(NAMED) {
        print::note(&format!("  {id} waits {}", what_for(id, wait, summary, causes.get(id).copied())));
    }
    let circles: Vec<_> = stuck.iter().filter_map(|(why, jobs)| Some((why.circle()?, jobs))).collect();
    for (circle, jobs) in circles.iter().take(NAMED) {
        tell_circle(circle, jobs);
    }
    if listed.len() > NAMED || circles.len() > NAMED {
        print::note("  the others: engine list --state waiting");
    }
}

/// Tells a circle once, and which of the jobs that are left wait in it and behind it.
fn tell_circle(circle: &[JobId], jobs: &[JobId]) {
    print::note(&format!("  the dependencies run in a circle: {}", dag::shown(circle)));
    let within: BTreeSet<&JobId> = circle.iter().collect();
    let (inside, behind): (Vec<_>, Vec<_>) = jobs.iter().partition(|id| within.contains(id));
    for (ids, how) in [(inside, "in it"), (behind, "behind it")] {
        let named: Vec<&str> = ids.iter().take(NAMED).map(|id| id.as_str()).collect();
        let more = ids.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let verb = if ids.len() == 1 { "waits" } else { "wait" };
        if !ids.is_empty() {
            print::note(&format!("  {}{more} {verb} for ever {how}", named.join(", ")));
        }
    }
}

fn what_for(id: &JobId, wait: &Wait, summary: &Summary, stuck: Option<&Stuck>) -> String {
    match wait {
        Wait::Time(time) | Wait::Retry(time) => format!("until {time}"),
        Wait::Dependency(on) => match stuck {
            Some(why @ Stuck::Behind { on: failed, .. }) => {
                let behind = if failed == on { String::new() } else { format!(", behind {failed}") };
                format!("for {on}{behind}, which did not succeed: {}", why.advice(id))
            }
            Some(Stuck::Circle(_)) | None => format!("for {on}: engine explain {id}"),
        },
        Wait::After { of, on } => {
            let first = if of == on { String::new() } else { format!(", which is behind {on}") };
            format!("for the end of {of}{first}: engine explain {id}")
        }
        Wait::Refused(_) => match summary.refused.get(id) {
            Some(reason) => format!("because it could not be run: {}", reason.message),
            None => format!("because it could not be run: engine explain {id}"),
        },
        Wait::Hold => format!("for its release: engine release {id}"),
        Wait::Lock(Lock::Named(name)) if name == LockName::OF_THE_ROOT => "for a slot of the root".to_owned(),
        Wait::Lock(Lock::Named(name)) => format!("for the lock {name}"),
        Wait::Lock(Lock::WorkTree(tree)) => format!("for the agent that works in {}", tree.display()),
    }
}
