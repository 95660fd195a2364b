//! `engine run`: makes a run of a bundle, or of a task, and works on it to its end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::error::{CliError, NO};
use super::follow_run::{self, How};
use super::global::{Global, environment};
use super::{named_run, print, root, run_job, run_text, signals, work, workstreams};
use crate::adapter::{self, Environment};
use crate::bundle::settings::{Flags, MOST_BYTES, ORIGINAL_FILES, Resolved, Sources, resolve};
use crate::bundle::{Bundle, OriginalFile, ReadBundle};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::git::Program;
use crate::job::run::Origin;
use crate::job::{Code, JobId, Reason, RunId, ToolId};
use crate::process::signals::Signals;
use crate::runner::exit_status::{ENGINE, PARKED};
use crate::store::{Store, run_dir};
use crate::view::run::document::{RunDocument, document};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self as view, Depth};
use crate::worker::processes::Processes;
use crate::worker::scan::Filter;
use crate::worker::{Left, Orders, Until, Worker};
use crate::workstream::create::{self, Wanted};

/// `engine run`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine run [OPTIONS] [PATH]...\n       engine run [OPTIONS] --task <TEXT> --files <PATH>... [--check <COMMAND>]... \
    [--test <COMMAND>]...\n       engine run [OPTIONS] --resume <RUN|last>",
    after_help = "Examples:\n  \
    engine run --task \"add() subtracts; mend it\" --files calc.py --tool claude --check \"ruff check .\" --test \"pytest -q\"\n  \
    engine run workstreams/ws-parser.json     run one bundle\n  \
    engine run --resume last                  go on with the newest run, after a crash or a failure\n  \
    engine run ws.json --park                 exit with 75 where only waiting is left: cron goes on\n\n\
    Exit status: 0 succeeded, 1 not, 75 it waits (--park), 125 nothing was started, 130 or 143 stopped.\n\
    Ctrl-C or TERM: the first starts nothing more, the second stops the workstream and leaves a clean tree, the third kills."
)]
pub struct RunArgs {
    /// Bundles: files, directories, `-` (default: PIPELINE_WORKSTREAM_DIR, else workstreams/)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The name of the run (default: one with the time)
    #[arg(long, value_name = "ID", conflicts_with = "resume")]
    pub run: Option<String>,
    /// What to do, instead of a bundle
    #[arg(long, value_name = "TEXT", conflicts_with = "paths", requires = "files")]
    pub task: Option<String>,
    /// The files that the task may change: paths and globs
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "task")]
    pub files: Vec<String>,
    /// The adapter that edits (default: `tool` of [workstreams])
    #[arg(long, value_name = "TOOL", requires = "task")]
    pub tool: Option<String>,
    /// A static check: a command line, or the name of a profile or adapter
    #[arg(long, value_name = "COMMAND")]
    pub check: Vec<String>,
    /// A check that runs the program, as tests do
    #[arg(long, value_name = "COMMAND")]
    pub test: Vec<String>,
    /// The commit to begin on (default: HEAD)
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// What the run may cost, in US dollars
    #[arg(long, value_name = "X")]
    pub max_cost_usd: Option<f64>,
    /// How many jobs of the run at a time (default: `max_workers` of [workstreams])
    #[arg(long, visible_alias = "max-workers", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// Exit with 75 where only waiting is left
    #[arg(long)]
    pub park: bool,
    /// Only submit: workers do it
    #[arg(long, conflicts_with = "park")]
    pub detach: bool,
    /// Print every job file and prompt as JSON Lines, and write nothing
    #[arg(long, conflicts_with_all = ["detach", "park"])]
    pub dry_run: bool,
    /// Go on with a run: recover, requeue what did not succeed, work
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "task", "dry_run"])]
    pub resume: Option<String>,
    /// Print the events of the run as JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// Runs; 0 if it succeeded.
pub(super) fn run(args: &RunArgs, global: &Global) -> Result<u8, CliError> {
    if let Some(run) = &args.resume {
        return resume(args, run, global);
    }
    let found = root::find(global, None)?;
    let known = found.as_deref().map(Store::open_to_read).transpose()?;
    let environment = environment();
    let here = root::project_dir(global)?;
    let resolved = settings(args, known.as_ref(), &environment, &here)?;
    let bundle = bundle(args, &resolved, known.as_ref(), global)?;
    let resolved = of_bundle(&resolved, &bundle);
    let is_dry = args.dry_run || resolved.dry_run;
    let clock = SystemClock::start();
    let wanted = Wanted {
        run: run_id(args, &clock)?,
        bundle,
        resolved: &resolved,
        project: &here,
        base: args.base.as_deref(),
        max_cost_usd: args.max_cost_usd,
        origin: origin(),
        environment: &environment,
        cache: cache(&environment),
    };
    let program = program(&environment, &here)?;
    let prepared = create::prepare(known.as_ref(), &program, wanted).map_err(refused)?;
    prepared
        .warnings
        .iter()
        .filter(|_| !global.quiet)
        .for_each(|warning| print::note(&format!("warning: {warning}")));
    if is_dry {
        let documents = create::dry_run(known.as_ref(), &prepared).map_err(|reason| refused(vec![reason]))?;
        documents.iter().for_each(print::json_line);
        return Ok(0);
    }
    let store = root::to_change_or_make(global, None)?.accepted()?;
    let since = clock.now();
    create::make(&store, &clock, &program, &prepared).map_err(|reason| refused(vec![reason]))?;
    work((args, global), &store, (&prepared.run, since), resolved.settings.max_workers)
}

/// The one bundle of the run; a tool profile that it names stands for its adapter.
fn bundle(
    args: &RunArgs,
    resolved: &Resolved,
    store: Option<&Store>,
    global: &Global,
) -> Result<ReadBundle, CliError> {
    let mut bundle = match &args.task {
        Some(task) => task_bundle(task, &args.files, resolved.settings.tool.as_ref())?,
        None => bundle_of_files(args, global)?,
    };
    let exists = |name: &str| {
        ToolId::new(name).is_ok_and(|tool| adapter::find(store, &tool).is_ok_and(|found| found.is_some()))
    };
    let agent = resolved.profiles.agent(bundle.bundle.tool.as_str(), exists);
    if let Some(adapter) = agent.and_then(|adapter| ToolId::new(adapter).ok()) {
        bundle.bundle.tool = adapter;
    }
    Ok(bundle)
}

fn bundle_of_files(args: &RunArgs, global: &Global) -> Result<ReadBundle, CliError> {
    let bundles = match workstreams::sources(&args.paths, global)?.read() {
        Ok(bundles) => bundles,
        Err(refused) => {
            refused.errors.iter().for_each(|error| print::error_line(&error.line()));
            return Err(nothing("the bundles are not valid"));
        }
    };
    if !global.quiet {
        bundles.warnings.iter().for_each(|warning| print::note(&format!("warning: {}", warning.line())));
    }
    let count = bundles.bundles.len();
    let mut found = bundles.bundles.into_iter();
    match (found.next(), count) {
        (Some(bundle), 1) => Ok(bundle),
        _ => Err(nothing(&format!("{count} bundles: one workstream at a time in this version"))
            .hint("name the file of one of them")),
    }
}

fn task_bundle(task: &str, files: &[String], tool: Option<&ToolId>) -> Result<ReadBundle, CliError> {
    let tool =
        tool.ok_or_else(|| nothing("no tool is named").hint("--tool TOOL, or `tool` of [workstreams]"))?;
    let bundle = Bundle::of_task(task, files, tool).map_err(|problems| {
        problems.iter().for_each(|problem| print::error_line(problem));
        nothing("the task is not valid")
    })?;
    Ok(ReadBundle::of_command_line(bundle))
}

/// A run that was not made.
fn nothing(why: &str) -> CliError {
    CliError::plain(format!("nothing was started: {why}")).with_status(ENGINE)
}

fn refused(reasons: Vec<Reason>) -> CliError {
    let code = reasons.first().map_or(Code::Error, |reason| reason.code.clone());
    reasons.iter().for_each(|reason| print::error_line(&format!("{}: {}", reason.code, reason.message)));
    let count = print::counted(reasons.len(), "problem", "problems");
    nothing(&count).with_code(code)
}

/// The settings of the run: flags, `PIPELINE_*`, `engine.toml`, the original files.
fn settings(
    args: &RunArgs,
    store: Option<&Store>,
    environment: &Environment,
    project: &Path,
) -> Result<Resolved, CliError> {
    let tool = args.tool.as_deref().map(ToolId::new).transpose();
    let flags = Flags {
        max_workers: args.slots.map(u32::from),
        tool: tool.map_err(|error| CliError::usage(error.to_string()))?,
        checks: args.check.clone(),
        tests: args.test.clone(),
    };
    let files: Vec<OriginalFile> = ORIGINAL_FILES
        .iter()
        .filter_map(|name| original(project, name).transpose())
        .collect::<Result<_, _>>()?;
    let table = store.map(|store| store.config.workstreams.clone()).unwrap_or_default();
    let (variables, adapters) = (environment.beginning_with("PIPELINE_"), adapters_for_checks(store));
    let sources =
        Sources { flags: &flags, variables: &variables, table: &table, files: &files, adapters: &adapters };
    resolve(&sources).map_err(|faults| {
        faults.iter().for_each(|fault| print::error_line(&fault.to_string()));
        nothing("the settings cannot be used")
    })
}

/// The same for a bundle: what that says for itself outranks all but flags and variables.
fn of_bundle(resolved: &Resolved, bundle: &ReadBundle) -> Resolved {
    resolved.for_bundle(&bundle.file, &bundle.bundle)
}

/// A settings file of the original's, if it is there.
fn original(project: &Path, name: &str) -> Result<Option<OriginalFile>, CliError> {
    let path = project.join(name);
    match crate::fs::open_regular(&path).and_then(|file| crate::fs::read_limited(&file, &path, MOST_BYTES)) {
        Ok(Some(bytes)) => Ok(Some(OriginalFile { name: name.to_owned(), bytes })),
        Ok(None) => Err(nothing(&format!("`{name}` has more than {MOST_BYTES} bytes"))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(nothing(&crate::causes::causes(&error))),
    }
}

/// The adapters that a check may name: those with a command of their own that are no agents.
fn adapters_for_checks(store: Option<&Store>) -> BTreeSet<String> {
    let listed = adapter::list(store).unwrap_or_default().into_values().filter_map(Result::ok);
    let usable = listed.filter(|(manifest, _)| {
        manifest.executable.is_some() && manifest.reader.dialect().is_none() && !manifest.needs_prompt
    });
    usable.map(|(manifest, _)| manifest.id.to_string()).collect()
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
fn resume(args: &RunArgs, run: &str, global: &Global) -> Result<u8, CliError> {
    let store = root::to_change(global)?;
    let clock = SystemClock::start();
    let manifest = named_run::named(&store, run).map_err(|error| error.with_status(ENGINE))?;
    let jobs = run_dir::read_jobs(&store, &manifest)?;
    let since = clock.now();
    let again = create::resume(&store, &clock, &manifest, &jobs).map_err(|reason| refused(vec![reason]))?;
    if again == create::Resumed::HasSucceeded {
        tell_id(args, &manifest.run_id);
        if !global.quiet {
            print::note(&format!("the run `{}` has succeeded: nothing to do", manifest.run_id));
        }
        return Ok(0);
    }
    let slots = args.slots.map_or(1, u32::from);
    work((args, global), &store, (&manifest.run_id, since), slots)
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
            print::note(&format!(
                "submitted: engine work --run {run} --drain works on it; engine runs show {run}"
            ));
        }
        return Ok(0);
    }
    // The launcher first: what it forks must have neither our handlers nor our memory.
    let run_job = |id: &JobId| run_job::run_for_worker(store, id);
    let mut runners = Processes::new(store, &clock, &run_job)
        .map_err(|error| CliError::plain("error starting the launcher of runners").because(&error))?;
    let signals = signals::install()?;
    let manifest =
        run_dir::read_manifest(store, run)?.ok_or_else(|| nothing("the manifest of the run is gone"))?;
    let how = match (args.json, global.quiet) {
        (true, _) => How::Json,
        (false, true) => How::Quiet,
        (false, false) => How::Lines,
    };
    let teller = follow_run::Teller::start(store, manifest, since, how);
    let orders = Orders {
        slots: usize::try_from(slots).unwrap_or(1).max(1),
        until: Until::Drained,
        filter: Filter { run: Some(run.to_string()), tool: None },
        left: Left::default(),
    };
    let status = loop {
        let worker = Worker::new(store, &clock, &signals, &mut runners, orders.clone());
        worker.run(&mut |event| follow_run::of_worker(&event, global)).map_err(work::error)?;
        let facts = look(store, run, &clock)?;
        let only_waits = facts.waits_until.is_some();
        if signals.requests() > 0 || facts.status.is_at_rest() || args.park && only_waits {
            break facts;
        }
        pause(&signals, &clock, facts.waits_until);
    };
    teller.end();
    Ok(report(global, &status, &signals, run))
}

/// Where a run is.
struct Facts {
    status: RunStatus,
    /// When the first of what only waits goes on; none if something moves by itself.
    waits_until: Option<Timestamp>,
    document: RunDocument,
}

fn look(store: &Store, run: &RunId, clock: &SystemClock) -> Result<Facts, CliError> {
    let manifest =
        run_dir::read_manifest(store, run)?.ok_or_else(|| nothing("the manifest of the run is gone"))?;
    let found = view::read(store, manifest, Depth::Everything, clock.now())?;
    let waits = found.workstreams.iter().map(|workstream| match WorkstreamStatus::of(workstream) {
        WorkstreamStatus::Parked => Some(workstream.line.as_ref()?.not_before),
        _ => None,
    });
    let waits_until = waits.flatten().flatten().min();
    Ok(Facts { status: RunStatus::of(&found), waits_until, document: document(&found) })
}

/// How long a look at a run that others work on is apart from the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits for the time at which something goes on; without one for what other workers do.
fn pause(signals: &Signals, clock: &SystemClock, until: Option<Timestamp>) {
    let wait = until.map_or(LOOK_EVERY, |until| until.since(clock.now()).clamp(MOMENT, LONGEST_PAUSE));
    signals.wait(&[], wait);
}

/// A millisecond of rounding must not become a busy loop.
const MOMENT: Duration = Duration::from_millis(5);

/// A clock may be set while it is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Says how it ended, and what to do next; gives the exit status.
fn report(global: &Global, facts: &Facts, signals: &Signals, run: &RunId) -> u8 {
    let status = match facts.status {
        RunStatus::Succeeded => 0,
        RunStatus::Failed | RunStatus::Quarantined | RunStatus::Canceled if signals.requests() == 0 => NO,
        RunStatus::Failed | RunStatus::Quarantined => NO,
        RunStatus::Canceled => signals::exit_status(signals).unwrap_or(NO),
        RunStatus::Pending | RunStatus::Running => signals::exit_status(signals).unwrap_or(PARKED),
    };
    if global.quiet {
        return status;
    }
    run_text::describe(&facts.document).iter().for_each(|line| print::note(line));
    if matches!(facts.status, RunStatus::Pending | RunStatus::Running) {
        let when = facts.waits_until.map_or_else(String::new, |until| format!(" after {until}"));
        print::note(&format!("it goes on{when} by: engine work --run {run} --drain"));
    }
    status
}
