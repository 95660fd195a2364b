//! `engine run`: makes a run of a bundle, or of a task, and works on it to its end.

mod args;
mod follow;
mod input;
mod live;
mod scope;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

pub(super) use args::RunArgs;
use args::nothing;
use follow::How;

use super::error::{CliError, NO};
use super::global::{Global, environment};
use super::run_next::{Merged, next_of_run};
use super::runs::merge::merge_of_run;
use super::runs::show::merged;
use super::{named_run, print, root, run_job, run_text, signals, work};
use crate::adapter::Environment;
use crate::causes::causes;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::git::Program;
use crate::job::run::Origin;
use crate::job::{Code, JobId, Reason, RunId, RunManifest};
use crate::process::signals::Signals;
use crate::queue::recovery::Again;
use crate::runner;
use crate::runner::exit_status::{ENGINE, PARKED};
use crate::store::{Store, run_dir};
use crate::view::run::document::{RunDocument, WorkstreamDocument, document};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::stays::{Stays, stays};
use crate::view::run::{self as view, Depth, WorkstreamFacts};
use crate::view::runner::Runner;
use crate::worker::processes::Processes;
use crate::worker::scan::Filter;
use crate::worker::{Left, Orders, Until, Worker};
use crate::workstream::prepare::{self, Wanted};
use crate::workstream::{create, resume};

/// Runs; 0 if it succeeded.
pub(super) fn run(args: &RunArgs, global: &Global) -> Result<u8, CliError> {
    if let Some(run) = &args.resume {
        return go_on(args, run, global);
    }
    let found = root::find(global, None)?;
    let known = found.as_deref().map(Store::open_to_read).transpose()?;
    let environment = environment();
    let here = root::project_dir(global)?;
    let resolved = input::settings(args, known.as_ref(), &environment, &here)?;
    let bundles = input::bundles(args, &resolved, known.as_ref(), global)?;
    let is_dry = args.dry_run || resolved.dry_run;
    let placed = scope::placed(&bundles);
    let clock = SystemClock::start();
    let wanted = Wanted {
        run: run_id(args, &clock)?,
        bundles,
        resolved: &resolved,
        is_merged: !args.no_integrate,
        is_fail_fast: args.fail_fast,
        has_baseline: args.baseline,
        project: &here,
        base: args.base.as_deref(),
        max_cost_usd: args.max_cost_usd,
        origin: origin(),
        environment: &environment,
        cache: cache(&environment),
    };
    let program = program(&environment, &here)?;
    let prepared = prepare::prepare(known.as_ref(), &program, wanted).map_err(|reasons| refused(&reasons))?;
    if !global.quiet {
        let of_scope = scope::warnings(&program, &prepared, &placed);
        let warnings = prepared.warnings.iter().chain(&of_scope);
        warnings.for_each(|warning| print::note(&format!("warning: {warning}")));
    }
    if is_dry {
        let documents = create::dry_run(known.as_ref(), &prepared).map_err(|reason| refused(&[reason]))?;
        documents.iter().for_each(print::json_line);
        return Ok(0);
    }
    let store = root::to_change_or_make(global, None)?.accepted()?;
    let since = clock.now();
    create::make(&store, &clock, &program, &prepared).map_err(|reason| refused(&[reason]))?;
    work((args, global), &store, (&prepared.run, since), resolved.settings.max_workers)
}

fn refused(reasons: &[Reason]) -> CliError {
    let code = reasons.first().map_or(Code::Error, |reason| reason.code.clone());
    reasons.iter().for_each(|reason| print::error_line(&format!("{}: {}", reason.code, reason.message)));
    let count = print::counted(reasons.len(), "problem", "problems");
    nothing(&count).with_code(code)
}

fn run_id(args: &RunArgs, clock: &SystemClock) -> Result<RunId, CliError> {
    match &args.run {
        Some(text) => RunId::new(text).map_err(|error| nothing(&error.to_string())),
        None => {
            let chance = uuid::Uuid::now_v7().as_u128() & 0xffff;
            Ok(RunId::made_at(clock.now(), u16::try_from(chance).unwrap_or(0)))
        }
    }
}

fn origin() -> Origin {
    let command = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    Origin { trigger_type: "manual".to_owned(), command }
}

/// The directory of caches of this user.
fn cache(environment: &Environment) -> PathBuf {
    let own = environment.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    own.unwrap_or_else(|| PathBuf::from(environment.home()).join(".cache"))
}

pub(super) fn program(environment: &Environment, dir: &Path) -> Result<Program, CliError> {
    let home = Some(environment.home().to_owned());
    Program::find(environment.get("PATH"), home, dir)
        .map_err(|reason| nothing(&reason.message).with_code(reason.code))
}

/// Goes on with a run.
fn go_on(args: &RunArgs, run: &str, global: &Global) -> Result<u8, CliError> {
    input::not_dry(&environment())?;
    let store = root::to_change(global)?;
    let clock = SystemClock::start();
    let manifest = named_run::named(&store, run).map_err(|error| error.with_status(ENGINE))?;
    let jobs = run_dir::read_jobs(&store, &manifest)?;
    let since = clock.now();
    let program = program(&environment(), Path::new(&manifest.repo))?;
    let again = resume::resume(&store, &clock, (&manifest, &jobs, &args.only), &program);
    let again = again.map_err(|reason| refused(&[reason]))?;
    if again == resume::Resumed::HasSucceeded {
        tell_id(args, &manifest.run_id);
        if !global.quiet {
            print::note(&format!("the run `{}` has succeeded: nothing to do", manifest.run_id));
        }
        if args.merge {
            tell_merge((args, global), &store, &manifest.run_id)?;
        }
        return Ok(0);
    }
    let slots = args.slots.map_or_else(|| slots_of(&manifest), u32::from);
    work((args, global), &store, (&manifest.run_id, since), slots)
}

/// How many workstreams at once the run was made for.
fn slots_of(manifest: &RunManifest) -> u32 {
    let value = manifest.options.get("settings").and_then(|settings| settings.get("max_workers"));
    let count = value.and_then(|value| value.get("value")?.as_u64());
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn tell_id(args: &RunArgs, run: &RunId) {
    if !args.json {
        print::line(run.as_str());
    }
}

/// Works on a run to its end, in the foreground.
fn work(
    (args, global): (&RunArgs, &Global),
    store: &Store,
    (run, since): (&RunId, Timestamp),
    slots: u32,
) -> Result<u8, CliError> {
    tell_id(args, run);
    let clock = SystemClock::start();
    if args.detach {
        if !global.quiet {
            let slots = if slots > 1 { format!(" --slots {slots}") } else { String::new() };
            print::note(&format!(
                "submitted: engine work --run {run} --drain{slots} works on it; engine runs show {run}"
            ));
        }
        return Ok(0);
    }
    // The launcher first: what it forks must have neither our handlers nor our memory.
    let run_job = |id: &JobId| run_job::run_for_worker(store, id);
    let mut runners = Processes::new(store, &clock, &run_job)
        .map_err(|error| CliError::plain("error starting the launcher of runners").because(&error))?;
    let signals = signals::install()?;
    let manifest = manifest_of(store, run)?;
    let how = match (args.json, global.quiet) {
        (true, _) => How::Json,
        (false, true) => How::Quiet,
        (false, false) => How::Lines,
    };
    let teller = follow::Teller::start(store, manifest.clone(), since, how);
    let working = || working(store, &manifest, &clock);
    let orders = Orders {
        slots: usize::try_from(slots).unwrap_or(1).max(1),
        until: Until::Drained,
        filter: Filter { run: Some(run.to_string()), tool: None },
        left: Left::default(),
    };
    let mut holds = BTreeSet::new();
    let status = loop {
        let worker = Worker::new(store, &clock, &signals, &mut runners, orders.clone());
        let worked =
            worker.run(&mut |event| follow::of_worker(&event, global, &working)).map_err(work::error)?;
        let facts = look(store, run, &clock)?;
        let is_kept = worked.queue_is_held || worked.low_space.is_some() || facts.is_held;
        let only_waits = facts.waits_until.is_some() || is_kept;
        follow::of_holds(&facts.document, &mut holds, global);
        let is_over = facts.status.is_at_rest() || facts.stays.is_some();
        if signals.requests() > 0 || is_over || args.park && only_waits {
            break facts;
        }
        teller.waits(facts.waits_until);
        pause(&signals, &clock, facts.waits_until);
        teller.waits(None);
    };
    teller.end();
    let status = match signals.requests() {
        0..KILLS => status,
        _ => after_kill(store, &clock, run, &status)?,
    };
    let merges = args.merge && status.status == RunStatus::Succeeded;
    // Before the report, which says what is next.
    let merge = merges.then(|| tell_merge((args, global), store, run));
    let exit = report(global, &status, (&signals, manifest.repo.as_str()), run);
    merge.unwrap_or(Ok(())).map(|()| exit)
}

/// Merges a run that has succeeded, as `runs merge` does.
fn tell_merge((args, global): (&RunArgs, &Global), store: &Store, run: &RunId) -> Result<(), CliError> {
    let (document, text) = merge_of_run(store, run);
    if args.json {
        print::json_line(&json!({ "merge": document }));
    }
    let text = text?;
    if !global.quiet {
        print::note(&text);
    }
    Ok(())
}

/// The request that kills the running workstream.
const KILLS: usize = 3;

/// Recovers the steps that a kill has left open, so that none seems to run; gives the run as it is then.
fn after_kill(store: &Store, clock: &SystemClock, run: &RunId, facts: &Facts) -> Result<Facts, CliError> {
    for id in &facts.open {
        if let Err(error) = runner::recover(store, clock, id, Again::Never) {
            print::note(&format!("error: {id}: {}", causes(&error)));
        }
    }
    look(store, run, clock)
}

/// Where a run is.
struct Facts {
    status: RunStatus,
    /// When the first of what only waits goes on; none if something moves by itself.
    waits_until: Option<Timestamp>,
    /// True if nothing runs, and a hold keeps a job of it.
    is_held: bool,
    /// What keeps all of it from moving, if something does.
    stays: Option<Stays>,
    /// True if a job of it runs.
    is_elsewhere: bool,
    /// The steps that seem to run.
    open: Vec<JobId>,
    document: RunDocument,
}

fn manifest_of(store: &Store, run: &RunId) -> Result<RunManifest, CliError> {
    run_dir::read_manifest(store, run)?.ok_or_else(|| nothing("the manifest of the run is gone"))
}

fn look(store: &Store, run: &RunId, clock: &SystemClock) -> Result<Facts, CliError> {
    let found = view::read(store, manifest_of(store, run)?, Depth::Everything, clock.now())?;
    let waits = found.jobs().map(|job| match WorkstreamStatus::of(job) {
        WorkstreamStatus::Parked => Some(job.line.as_ref()?.not_before),
        _ => None,
    });
    let is_running = |job: &&WorkstreamFacts| WorkstreamStatus::of(job) == WorkstreamStatus::Running;
    let runs = found.jobs().any(|job| is_running(&job));
    let is_held = !runs && found.jobs().any(|job| job.hold.is_some());
    let is_elsewhere =
        found.jobs().filter(is_running).any(|job| matches!(job.runner, Runner::Alive | Runner::Elsewhere));
    let waits_until = waits.flatten().flatten().min().filter(|_| !runs);
    let open = found.jobs().flat_map(|job| &job.steps).filter(|step| step.line.open_attempt().is_some());
    let open = open.map(|step| step.id.clone()).collect();
    Ok(Facts {
        status: RunStatus::of(&found),
        waits_until,
        is_held,
        stays: stays(&found),
        is_elsewhere,
        open,
        document: document(&found),
    })
}

/// How long a look at a run that others work on is apart from the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits for the time at which something goes on; without one for what other workers do.
fn pause(signals: &Signals, clock: &SystemClock, until: Option<Timestamp>) {
    let wait = until.map_or(LOOK_EVERY, |until| until.since(clock.now()).clamp(LEAST_PAUSE, LONGEST_PAUSE));
    signals.wait(&[], wait);
}

/// A time that is over already must not become a busy loop: another worker may be at it.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// A clock may be set while it is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The names of the jobs of a run that run at this moment.
fn working(store: &Store, manifest: &RunManifest, clock: &SystemClock) -> Vec<String> {
    let facts = view::read(store, manifest.clone(), Depth::Status, clock.now());
    let Ok(facts) = facts else { return Vec::new() };
    let is_open =
        |job: &&WorkstreamFacts| job.line.as_ref().is_some_and(|line| line.open_attempt().is_some());
    facts.jobs().filter(is_open).map(|job| job.ordered.ws_id.clone()).collect()
}

/// The exit status of a run in this state. A failure outranks a stop.
fn exit_status(facts: &Facts, signals: &Signals) -> u8 {
    let document = &facts.document;
    let of_gates = document.gates.iter().map(|one| one.status);
    let has_failed = document
        .workstreams
        .iter()
        .map(|one| one.status)
        .chain(of_gates)
        .any(|status| matches!(status, WorkstreamStatus::Failed | WorkstreamStatus::Quarantined));
    match (facts.status, signals::exit_status(signals)) {
        (RunStatus::Succeeded, _) => 0,
        (RunStatus::Failed | RunStatus::Quarantined, _) => NO,
        (_, Some(_)) if has_failed => NO,
        (_, Some(stopped)) => stopped,
        (RunStatus::Canceled, None) => NO,
        (RunStatus::Pending | RunStatus::Running, None) => PARKED,
    }
}

/// Says how it ended, and what to do next; gives the exit status.
fn report(global: &Global, facts: &Facts, (signals, repo): (&Signals, &str), run: &RunId) -> u8 {
    let status = exit_status(facts, signals);
    if global.quiet {
        // It would go on by itself otherwise, as it does after a release.
        if facts.stays == Some(Stays::Held) && signals.requests() == 0 {
            print::note("error: a hold keeps the run");
            let next = next_of_run(&facts.document, Merged::No);
            next.iter().for_each(|next| print::note(&format!("next: {next}")));
        }
        return status;
    }
    run_text::describe(&facts.document, merged(&facts.document, repo))
        .iter()
        .for_each(|line| print::note(line));
    if matches!(facts.status, RunStatus::Pending | RunStatus::Running) {
        let when = facts.waits_until.map_or_else(String::new, |until| format!(" after {until}"));
        let is_stopped = |one: &WorkstreamDocument| {
            matches!(one.status, WorkstreamStatus::Canceled | WorkstreamStatus::Failed)
        };
        if facts.is_elsewhere {
            print::note(&format!("another worker goes on with it: engine runs cancel {run} ends it"));
            return status;
        }
        if facts.stays.is_some() {
            // The lines above say how.
            return status;
        }
        // A worker requeues nothing.
        match facts.document.workstreams.iter().any(is_stopped) {
            true => print::note(&format!("it goes on by: engine run --resume {run}")),
            false => print::note(&format!("it goes on{when} by: engine work --run {run} --drain")),
        }
    }
    status
}
