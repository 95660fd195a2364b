//! `engine run-job`: runs one job and reports how it ended.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::global::{Global, current_dir, environment};
use super::{new, print, root, signals};
use crate::adapter;
use crate::causes::Shortage;
use crate::clock::SystemClock;
use crate::fs::steps::{Step, step};
use crate::job::parse::problem::Problems;
use crate::job::parse::{MAX_JOB_BYTES, too_large};
use crate::job::{Code, JobId, Reason, ToolId, parse_job};
use crate::process::Supervisor;
use crate::process::output::Onward;
use crate::process::pass_through::PassThrough;
use crate::runner::exit_status::ENGINE;
use crate::runner::{Conclusion, Patience, RunError, Workplace, run_claimed, run_direct};
use crate::store::Store;

mod report;

pub(crate) use report::When;
use report::{Report, tell_invalid};

/// `engine run-job`
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(
    override_usage = "engine run-job [OPTIONS] --job-file <FILE>\n       engine run-job [OPTIONS] --claim <ID>\n       \
    engine run-job [OPTIONS] -- <COMMAND>...",
    after_help = "Examples:\n  engine run-job -- make test\n  engine run-job --job-file job.json --json\n  \
    engine run-job --job-file nightly.json --output failure   (in a crontab)\n  \
    generate-job | engine run-job --job-file -"
)]
pub struct RunJobArgs {
    /// The job file; `-` reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["claim", "command"])]
    pub job_file: Option<PathBuf>,
    /// Make one attempt of this queued job
    #[arg(long, value_name = "ID", conflicts_with = "command")]
    pub claim: Option<String>,
    /// Print the result as one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// When to show the tool's output: live, or its head and tail after a failure (default: always, with --json never)
    #[arg(long, value_name = "WHEN")]
    pub output: Option<When>,
    /// Wait so many seconds for a hold, a time, a dependency or a lock that keeps the job from starting
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["park", "claim"])]
    pub wait: Option<u64>,
    /// Leave the job in the queue if it cannot start, or between two attempts (exit status 75)
    #[arg(long, conflicts_with = "claim")]
    pub park: bool,
    /// A command to run as a shell job with a generated id
    #[arg(last = true, value_name = "COMMAND", required_unless_present_any = ["job_file", "claim"])]
    pub command: Vec<OsString>,
}

/// Runs the job that the arguments name.
pub(super) fn run(args: &RunJobArgs, global: &Global) -> Result<u8, CliError> {
    // cron mails what is printed: with `failure` that is nothing where the job succeeds.
    if when(args) == When::Failure {
        print::hold_back();
    }
    let ran = run_and_tell(args, global);
    print::held_back().iter().for_each(|line| print::error_line(line));
    ran.map_err(|error| {
        if args.json {
            let reason = Reason::new(error.code.clone(), error.message.clone());
            print::json_line(&json!({ "success": false, "outcome": null, "reason": reason }));
        }
        error.with_status(ENGINE)
    })
}

/// Runs a queued job in this process, which a worker had forked for it; gives the exit status and, for the worker to tell, why
/// the job was not run.
pub(super) fn run_for_worker(store: &Store, id: &JobId) -> (u8, Option<Reason>) {
    let global = Global { quiet: true, ..Global::default() };
    let signals = match signals::install() {
        Ok(signals) => signals,
        Err(error) => return (ENGINE, Some(Reason::new(error.code, error.message))),
    };
    let clock = SystemClock::start();
    let environment = environment();
    let mut spawner = Supervisor::new(&signals, &clock);
    let onward = Onward::default();
    let mut place =
        Workplace { store, clock: &clock, spawner: &mut spawner, environment: &environment, onward };
    match run_claimed(&mut place, id) {
        Ok(Conclusion::Refused(_, reason)) => (ENGINE, Some(reason)),
        Ok(conclusion) => {
            step(Step::Tell, store.root());
            let report = Report { store, global: &global, json: false, output: When::Never, is_claim: true };
            (report.tell(&conclusion, &signals), None)
        }
        Err(RunError::Queue(error)) => {
            let code = Shortage::behind(&error).map_or(error.code(), |_| Code::StartFailed);
            (ENGINE, Some(Reason::from_error(code, &error)))
        }
        Err(error) => (CliError::from(error).print(true), None),
    }
}

/// The job to run.
enum What {
    File { bytes: Vec<u8>, name: String },
    Claim(JobId),
}

fn run_and_tell(args: &RunJobArgs, global: &Global) -> Result<u8, CliError> {
    let what = match what(args, global)? {
        Ok(what) => what,
        Err(problems) => return Ok(tell_invalid(args.json, &problems)),
    };
    let parsed = match &what {
        What::File { bytes, name } => match parse_job(bytes, name) {
            Ok(parsed) => Some(parsed),
            Err(problems) => return Ok(tell_invalid(args.json, &problems)),
        },
        What::Claim(_) => None,
    };
    let signals = signals::install()?;
    let store = match &what {
        What::File { .. } => root::to_change_or_make(global, args.job_file.as_deref())?,
        What::Claim(_) => root::to_change(global)?,
    };
    if let (What::File { bytes, .. }, Some(parsed), false) = (&what, &parsed, global.quiet) {
        for warning in adapter::Known::new(&store).warnings(parsed, bytes) {
            print::note(&format!("warning: {warning}"));
        }
    }
    let clock = SystemClock::start();
    let environment = environment();
    let mut spawner = Supervisor::new(&signals, &clock);
    let mut place = Workplace {
        store: &store,
        clock: &clock,
        spawner: &mut spawner,
        environment: &environment,
        onward: onward(args)?,
    };
    let conclusion = match (&what, &parsed) {
        (What::File { bytes, .. }, Some(parsed)) => run_direct(&mut place, parsed, bytes, patience(args))?,
        (What::Claim(id), _) => run_claimed(&mut place, id)?,
        (What::File { .. }, None) => return Err(CliError::plain("internal error: nothing to run")),
    };
    step(Step::Tell, store.root());
    // The result is safe: now a slow reader of the tool's output may take its time.
    place.onward.flush(&signals);
    let succeeded =
        matches!(&conclusion, Conclusion::Result(result) | Conclusion::Ended(result) if result.success);
    let report = Report {
        store: &store,
        global,
        json: args.json,
        output: when(args),
        is_claim: matches!(what, What::Claim(_)),
    };
    report.tell_if_another(parsed.as_ref().map(|parsed| &parsed.job.job_id), &conclusion);
    for line in print::held_back().iter().filter(|_| !succeeded) {
        print::error_line(line);
    }
    if let Some(error) = place.onward.failure() {
        print::lost(&error);
    }
    Ok(report.tell(&conclusion, &signals))
}

fn what(args: &RunJobArgs, global: &Global) -> Result<Result<What, Problems>, CliError> {
    if let Some(id) = &args.claim {
        let id = JobId::new(id).map_err(|error| CliError::plain(error.to_string()))?;
        return Ok(Ok(What::Claim(id)));
    }
    if let Some(file) = &args.job_file {
        let name = file.display().to_string();
        return Ok(read_job_file(file)?.map(|bytes| What::File { bytes, name }));
    }
    let bytes = command_as_job(&args.command, global)?;
    Ok(Ok(What::File { bytes, name: "the command".to_owned() }))
}

/// The file of a shell job that runs a command here, with a generated id.
pub(super) fn command_as_job(command: &[OsString], global: &Global) -> Result<Vec<u8>, CliError> {
    let command: Option<Vec<String>> = command.iter().map(|arg| arg.to_str().map(str::to_owned)).collect();
    let command =
        command.ok_or_else(|| CliError::plain("the command is not UTF-8, which a job file must be"))?;
    let tool = ToolId::new("shell").map_err(|error| CliError::plain(error.to_string()))?;
    let id = new::generated_id(&tool)?;
    let here = current_dir()?;
    // Inside the project the path is relative, so that the job still works after the project is moved or copied.
    let here = match here.strip_prefix(root::project_dir(global)?) {
        Ok(inside) if inside.as_os_str().is_empty() => Path::new("."),
        Ok(inside) => inside,
        Err(_) => &here,
    };
    let here = here.to_str().ok_or_else(|| CliError::plain("the working directory is not UTF-8"))?;
    Ok(new::text(&new::shell_document(&id, &command, here)).into_bytes())
}

/// Reads a job file; refuses one that is too large.
pub(super) fn read_job_file(path: &Path) -> Result<Result<Vec<u8>, Problems>, CliError> {
    let error = |source: std::io::Error| {
        CliError::plain(format!("error reading the job file `{}`", path.display())).because(&source)
    };
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_JOB_BYTES + 1).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if metadata.is_file() && metadata.len() > MAX_JOB_BYTES {
            return Ok(Err(Problems::one(&path.display().to_string(), too_large(metadata.len()))));
        }
        bytes.reserve(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        file.take(MAX_JOB_BYTES + 1).read_to_end(&mut bytes)
    };
    read.map_err(error)?;
    Ok(Ok(bytes))
}

fn patience(args: &RunJobArgs) -> Patience {
    match args.wait {
        Some(seconds) => Patience::Wait(std::time::Duration::from_secs(seconds)),
        None if args.park => Patience::Park,
        None => Patience::Refuse,
    }
}

fn when(args: &RunJobArgs) -> When {
    args.output.unwrap_or(if args.json { When::Never } else { When::Always })
}

fn onward(args: &RunJobArgs) -> Result<Onward, CliError> {
    if when(args) != When::Always {
        return Ok(Onward::default());
    }
    let dup = |fd: std::os::fd::BorrowedFd<'_>| {
        let own = reopened(fd).map_or_else(|| rustix::io::fcntl_dupfd_cloexec(fd, 3), Ok);
        own.map_err(std::io::Error::from)
            .map(PassThrough::new)
            .map_err(|error| CliError::plain("error duplicating standard output").because(&error))
    };
    let err = Some(dup(std::io::stderr().as_fd())?);
    // With a document on standard output the tool's output must go elsewhere.
    let out = if args.json { dup(std::io::stderr().as_fd())? } else { dup(std::io::stdout().as_fd())? };
    Ok(Onward { stdout: Some(out), stderr: err })
}

/// A terminal or pipe opened again, so that our writes never block and those of other processes are not changed by that.
fn reopened(fd: std::os::fd::BorrowedFd<'_>) -> Option<std::os::fd::OwnedFd> {
    use rustix::fs::{FileType, Mode, OFlags};
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
