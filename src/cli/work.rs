//! `engine work`: takes jobs from the queue and runs each in a process of its own.

use clap::Args;

use super::args::Global;
use super::error::CliError;
use super::{print, root, run_job};
use crate::clock::SystemClock;
use crate::job::id::LockName;
use crate::job::{JobId, Status, dag};
use crate::process::signals::{Asked, Signals};
use crate::queue::outcome::{self, Stuck};
use crate::queue::recovery::{self, Options, Recovered};
use crate::runner::{end_left_overs, exit_status};
use crate::store::{Store, boot};
use crate::worker::ended::WORK_TREE;
use crate::worker::processes::Processes;
use crate::worker::ready_set::Wait;
use crate::worker::scan::Filter;
use crate::worker::{Event, Orders, Summary, Until, WorkError, Worker};

/// `engine work`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  \
    engine work                     run what is queued, and what will be, one job at a time\n  \
    engine work --slots 4 --drain   run what is queued, four at a time, and end; 1 if a job failed\n  \
    engine work --run nightly       only jobs with this run_id\n\n\
    Exit status of a drain: 0 all that ran succeeded, 1 some did not, 125 jobs are left that could run, because the disk is\n\
    nearly full (min_free_bytes of engine.toml); 128+n after signal n.\n\
    Ctrl-C or TERM: the first lets the running jobs end, the second asks them to stop, the third kills them.\n\
    Any number of workers may work on one root.")]
pub struct WorkArgs {
    /// How many jobs run at a time (default: `slots` of engine.toml, else 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// End when nothing is left that can run
    #[arg(long)]
    pub drain: bool,
    /// Take only jobs of this run
    #[arg(long, value_name = "RUN_ID")]
    pub run: Option<String>,
    /// Take only jobs of this adapter
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
}

/// Works; 1 if it drained the queue and a job did not succeed, 125 if it left jobs for want of space.
pub fn run(args: &WorkArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_change(global)?;
    let clock = SystemClock::start();
    recover_after_boot(&store, &clock, global)?;
    // The launcher first: what it forks must have neither our handlers nor our memory.
    let run = |id: &JobId| run_job::run_for_worker(&store, id);
    let mut runners = Processes::new(&store, &clock, &run)
        .map_err(|error| CliError::plain("error starting the launcher of runners").because(&error))?;
    let signals = Signals::install()
        .map_err(|error| CliError::plain("error installing the signal handlers").because(&error))?;
    let slots = args.slots.map(usize::from).or_else(|| {
        let all = store.config.slots.map(crate::job::number::Count::get)?;
        usize::try_from(all).ok().filter(|slots| *slots > 0)
    });
    let orders = Orders {
        slots: slots.unwrap_or(1),
        until: if args.drain { Until::Drained } else { Until::Stopped },
        filter: Filter { run: args.run.clone(), tool: args.tool.clone() },
    };
    let worker = Worker::new(&store, &clock, &signals, &mut runners, orders);
    let summary = worker.run(&mut |event| tell(&event, global)).map_err(|error| match error {
        WorkError::Queue(error) => CliError::from(error),
        WorkError::RootGone { .. } => CliError::plain(error.to_string()),
        WorkError::LauncherGone { .. } => CliError::plain(error.to_string()).hint("start the worker again"),
    })?;
    if !global.quiet {
        tell_summary(&store, &summary);
    }
    if summary.low_space.is_some() {
        return Ok(exit_status::ENGINE);
    }
    Ok(match signals.asked() {
        // A drain that was interrupted has not said yes.
        Asked::Once(interrupt) | Asked::Again(interrupt) if args.drain && summary.stopped => {
            exit_status::of_signal(interrupt.number())
        }
        _ => u8::from(args.drain && summary.failed > 0),
    })
}

fn recover_after_boot(store: &Store, clock: &SystemClock, global: &Global) -> Result<(), CliError> {
    if boot::needs_a_look_at_every_record(store)? {
        let mut end = end_left_overs(store, clock);
        let report = recovery::recover_all(store, clock, &Options::default(), &mut *end)?;
        if !report.jobs.is_empty() && !global.quiet {
            let jobs = print::counted(report.jobs.len(), "job that was", "jobs that were");
            print::note(&format!("recovered {jobs} left by the last boot"));
        }
        for (id, error) in &report.failed {
            print::note(&format!("error: {id}: {error}"));
        }
        if !report.is_complete() {
            // The next worker looks again.
            return Ok(());
        }
    }
    Ok(boot::remember(store)?)
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
            format!(
                "{id}: attempt {} {}{why}; it will be tried again",
                result.attempt,
                result.outcome.as_str()
            )
        }
        Event::NotRun(id, reason) => format!("{id} was not run: {}", reason.message),
        Event::Recovered(id, Recovered::Lost(place)) => {
            format!("{id}: its runner died; the attempt is lost, the job is now in jobs/{place}")
        }
        Event::Recovered(id, Recovered::Canceled(_)) => {
            format!("{id}: its runner died after it was asked to cancel; the job is canceled")
        }
        Event::Recovered(id, Recovered::Elsewhere(host)) => {
            format!("{id} was started on {host}; if that is dead: engine recover --host-is-dead {host}")
        }
        Event::Recovered(id, Recovered::StillRunning(processes)) => {
            format!("{id}: processes of its dead attempt are alive: {}", processes.join(", "))
        }
        Event::Recovered(id, Recovered::CannotTell(why)) => {
            format!("{id}: whether its attempt still runs cannot be told: {why}")
        }
        Event::Recovered(id, Recovered::Quarantined(reason)) => {
            format!("{id} is quarantined: {}", reason.message)
        }
        Event::Recovered(..) => return None,
        Event::Paused(why) => format!("nothing is started: {why}"),
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

fn tell_summary(store: &Store, summary: &Summary) {
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
    let told = summary.waiting.iter().filter(|(_, wait)| !(summary.queue_is_held && *wait == Wait::Hold));
    for (id, wait) in told.take(10) {
        print::note(&format!("  {id} waits {}", what_for(store, id, wait)));
    }
    if summary.waiting.len() > 10 {
        print::note("  the others: engine list --state waiting");
    }
}

fn what_for(store: &Store, id: &JobId, wait: &Wait) -> String {
    match wait {
        Wait::Time(time) | Wait::Retry(time) => format!("until {time}"),
        Wait::Dependency(on) => match outcome::stuck(store, id).ok().flatten() {
            Some(Stuck::Circle(circle)) => {
                format!("for ever: the dependencies run in a circle: {}", dag::shown(&circle))
            }
            Some(Stuck::Behind(failed)) if failed == *on => {
                format!("for {on}, which did not succeed: engine requeue {on}")
            }
            Some(Stuck::Behind(failed)) => {
                format!("for {on}, behind {failed}, which did not succeed: engine requeue {failed}")
            }
            None => format!("for {on}: engine explain {on}"),
        },
        Wait::Refused(_) => format!("because it was refused: engine explain {id}"),
        Wait::Hold => format!("for its release: engine release {id}"),
        Wait::Lock(name) if name == LockName::OF_THE_ROOT => "for a slot of the root".to_owned(),
        Wait::Lock(name) => match name.strip_prefix(WORK_TREE) {
            Some(tree) => format!("for the agent that works in {tree}"),
            None => format!("for the lock {name}"),
        },
    }
}
