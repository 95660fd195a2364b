//! One attempt: prepares, runs and reads the tool. Writes logs and reports, never a record.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Map;

use super::agent::{self, Agent};
use super::end::{AttemptEnd, Details, End, Particulars, Stop, Then};
use super::evidence::ReportFiles;
use super::exit_status::for_signal;
use super::fill_in::{Ran, fill_in, without_secrets};
use super::halt::Halt;
use super::not_started::{no_adapter, spawn_failed};
use super::past::Past;
use super::paths::{self, Directories, Places, Target};
use super::report::{note_without_effect, write_report};
use super::{Workplace, input, manifest_reason, verdict};
use crate::adapter::manifest::ReaderName;
use crate::adapter::plan::Surroundings;
use crate::adapter::read::{self, Evidence, Report};
use crate::adapter::{self, Manifest, ManifestError, Plan, Reading};
use crate::clock::Timestamp;
use crate::job::{Code, JobFile, JobResult, Outcome, Reason, SCHEMA_VERSION, Status};
use crate::process::left_over::{MARKER, PARENT_MARKER};
use crate::process::log::{CappedLog, DEFAULT_BYTES, SMALLEST_BYTES};
use crate::process::output::Output;
use crate::process::{CommandSpec, Ended, Input, StopCause};
use crate::store::Store;
use crate::store::control::{AttemptId, CancelWatch};

/// How often a job waits for the end of a shortage of descriptors, processes or memory: 5 seconds, and each time twice as long,
/// an hour and a half together.
const SHORTAGES_PARKED: u32 = 10;
const SHORTAGE_LASTS: Duration = Duration::from_secs(5);

/// The attempt that is made.
pub(super) struct ThisAttempt<'a> {
    /// Which.
    pub target: AttemptId,
    /// The earlier attempts.
    pub past: &'a Past,
    /// Where it works and logs.
    pub places: Places,
    /// Conclusion the moment that an agent names its session.
    pub note_session: &'a mut dyn FnMut(&str),
}

/// Makes an attempt of a job.
pub(super) fn run(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Result<Option<&Manifest>, &ManifestError>,
    this: ThisAttempt<'_>,
) -> AttemptEnd {
    let started_at = place.clock.now();
    let start = place.clock.monotonic();
    let mut log_path = None;
    let (number, shortages) = (this.target.attempt, this.past.shortages);
    let ran = prepare_and_run(place, job, manifest, this, &mut log_path);
    let duration = place.clock.monotonic().saturating_sub(start);
    let mut end = AttemptEnd {
        result: JobResult {
            schema_version: SCHEMA_VERSION,
            job_id: job.job_id.clone(),
            tool: Some(job.tool.clone()),
            attempt: number,
            success: false,
            status: Status::Running,
            outcome: Outcome::NotStarted,
            reason: None,
            exit_code: None,
            signal: None,
            started_at,
            finished_at: place.clock.now(),
            duration_s: rounded(duration),
            usage: None,
            log_path: log_path.map(|path: PathBuf| path.to_string_lossy().into_owned()),
            error_report_path: None,
            stdout: String::new(),
            stderr: String::new(),
            stdout_truncated: false,
            stderr_truncated: false,
            metadata: Map::new(),
        },
        then: Then::Stop(Stop::CannotStart),
        error_report: None,
        session_id: None,
        work: None,
    };
    let details = match ran {
        Ok(ran) => fill_in(place, &mut end, ran),
        Err(not_started) => {
            // The log is made with the first output.
            end.result.log_path.take_if(|log| !Path::new(log).exists());
            let not_started = parked_for_a_shortage(not_started, shortages, place.clock.now());
            end.then = not_started.then;
            end.result.outcome = not_started.outcome;
            let secrets = place.environment.secrets_of(job, manifest.ok().flatten());
            end.result.reason = not_started.reason.map(|reason| without_secrets(reason, &secrets));
            Details::default()
        }
    };
    if let Ok(Some(manifest)) = manifest {
        note_without_effect(place, job, manifest, &mut end.result);
    }
    if !end.result.success {
        write_report(place, job, &mut end, details);
    }
    end
}

/// Parks a job whose tool the system lacked something for, as long as that may be waited for: the tool is not to blame, its retries
/// are not to be used up, and another tool would not start either.
fn parked_for_a_shortage(end: End, shortages: u32, now: Timestamp) -> End {
    match end.reason {
        Some(reason) if reason.shortage.is_some() && shortages < SHORTAGES_PARKED => {
            let until = now.after(SHORTAGE_LASTS * (1 << shortages));
            // By this code it is known among the other parks of the job.
            let reason = Some(Reason { code: Code::StartFailed, ..reason });
            End { reason, then: Then::Park(until), ..end }
        }
        _ => end,
    }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn prepare_and_run(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Result<Option<&Manifest>, &ManifestError>,
    this: ThisAttempt<'_>,
    log_path: &mut Option<PathBuf>,
) -> Result<Ran, End> {
    let ThisAttempt { target, past, places, note_session } = this;
    let number = target.attempt;
    let manifest = manifest.map_err(manifest_reason)?.ok_or_else(|| no_adapter(place, job))?;
    let (directories, log) = (places.directories?, places.log?);
    let prompt = input::prompt_file(place, job, manifest, &directories, number)?;
    let halt = Halt::of_start(CancelWatch::new(place.store, &job.job_id, target));
    let prepared = Agent::prepare(place, job, manifest, &directories, (target, past, &halt));
    let mut agent = prepared.map_err(|reason| match halt.reason() {
        Some(reason) => End::canceled(reason),
        None => reason.into(),
    })?;
    if let Some(agent) = &mut agent {
        agent.check_session(job, manifest, place.environment);
    }
    let given_scope = job.metadata.known.files_scope.as_deref().unwrap_or_default();
    let around = Surroundings {
        attempt: number,
        repo_root: &directories.repo_root,
        working_dir: &directories.working_dir,
        root: place.store.root(),
        prompt_file: prompt.as_ref().map(|prompt| prompt.path.as_path()),
        attempt_dir: agent.as_ref().map(Agent::dir),
        resumed: agent.as_ref().and_then(Agent::resumed),
        scope_files: agent.as_ref().map_or(given_scope, Agent::scope_files),
        environment: place.environment,
        config: &place.store.config,
    };
    let plan = adapter::plan(job, manifest, around).map_err(|error| error.0)?;
    let stdin = input::open_stdin(&plan, &directories)?;
    *log_path = Some(log.path());
    let log = open_log(job, log, number)?;
    let report = ReportFiles::before(job, &directories.working_dir, place.clock.now(), halt.stop());
    let prepared = Prepared { plan, stdin, log, directories, target };
    match agent {
        Some(agent) => {
            run_agent(place, job, manifest, prepared, AgentContext { agent: &agent, past, note_session })
        }
        None => run_plan(place, job, manifest, prepared, report),
    }
}

/// The log that the job names is opened and locked now, the default one when there is something to write: its name is this
/// attempt's alone, and a file for each silent tool is a file too many.
fn open_log(job: &JobFile, target: Target, number: u32) -> Result<CappedLog, Reason> {
    if !target.is_given() {
        return Ok(open_later(job, target, number));
    }
    CappedLog::new(target.open_log(number)?, log_limit(job)).map_err(|error| {
        let message = format!("{}: {error}", target.path().display());
        Reason::new(Code::LogNotWritable, message).because(&error)
    })
}

fn open_later(job: &JobFile, target: Target, number: u32) -> CappedLog {
    let open = move || target.open_log(number).map_err(|reason| io::Error::other(reason.message));
    CappedLog::later(Box::new(open), log_limit(job))
}

// `process` knows no jobs.
const _: () = assert!(SMALLEST_BYTES == crate::job::spec::Limits::SMALLEST_LOG_BYTES);

fn log_limit(job: &JobFile) -> u64 {
    let limit = job.limits.as_ref().and_then(|limits| limits.log_bytes);
    limit.map_or(DEFAULT_BYTES, crate::job::number::Count::get)
}

struct Prepared {
    plan: Plan,
    stdin: Input,
    log: CappedLog,
    directories: Directories,
    target: AttemptId,
}

/// The command with the marker by which recovery finds its left-overs.
fn command(place: &Workplace<'_>, job: &JobFile, prepared: Prepared) -> (CommandSpec, Plan, CappedLog) {
    let Prepared { mut plan, stdin, log, directories, target } = prepared;
    let mut env = std::mem::take(&mut plan.env);
    let marker = format!("{}/{}/{}", place.store.uuid(), job.job_id, target.attempt);
    env.push((MARKER.into(), marker.into()));
    if let Some(of_parent) = place.environment.get(MARKER).filter(|_| job.parent.is_some()) {
        // [CHILD_MARK] A recovery of the parent ends this tool too, whatever session it makes.
        env.push((PARENT_MARKER.into(), of_parent.to_owned()));
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let spec = CommandSpec {
        exe: plan.exe.clone().into(),
        search_path: path.or_else(|| place.environment.get("PATH").map(OsStr::to_owned)),
        args: plan.args.iter().map(OsString::from).collect(),
        cwd: directories.working_dir,
        env,
        stdin,
        terminal: plan.terminal,
        limits: plan.limits,
        keep: plan.keep.iter().map(|name| name.as_str().to_owned()).collect(),
    };
    (spec, plan, log)
}

fn run_plan(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    prepared: Prepared,
    report: Option<ReportFiles>,
) -> Result<Ran, End> {
    let cancel = CancelWatch::new(place.store, &job.job_id, prepared.target);
    let (spec, plan, log) = command(place, job, prepared);
    let onward = std::mem::take(&mut place.onward);
    let mut output = Output::new(Some(log), &plan.secrets, read::keep(manifest), onward);
    let exit = match place.spawner.run(spec, &|| cancel.is_asked(), &mut output) {
        Ok(exit) => exit,
        Err(error) => {
            place.onward = output.into_onward();
            return Err(spawn_failed(&error));
        }
    };
    let halt = Halt::from_now(Some(cancel));
    let mut given_up = None;
    let evidence = |exit_code, report| Evidence {
        exe: &plan.exe,
        exit_code,
        success_exit_codes: &manifest.success_exit_codes,
        args: &plan.args,
        stdout: output.stdout(),
        stderr: output.stderr(),
        report,
    };
    let reading = match (exit.ended, exit.stopped) {
        (ended, _) if manifest.reader == ReaderName::Verdict => {
            let exit_code = match ended {
                Ended::Code(code) => code,
                Ended::Signal(signal) => i32::from(for_signal(signal)),
            };
            Some(read::read(manifest.reader, &evidence(exit_code, &Report::NotNamed)))
        }
        (Ended::Code(exit_code), None) => {
            let report = report.map_or(Report::NotNamed, |report| report.after(halt.stop()));
            given_up =
                Some(&report).filter(|report| matches!(report, Report::Unreadable(_))).and(halt.reason());
            Some(read::read(manifest.reader, &evidence(exit_code, &report)))
        }
        _ => None,
    };
    let end = match given_up {
        Some(reason) => End::canceled(reason),
        None => verdict::judge(&exit, plan.limits, reading.as_ref(), place.clock.now()),
    };
    let particulars = reading.map(of_reading).unwrap_or_default();
    tracing::debug!(exe = plan.exe, stragglers = exit.stragglers, "the tool ended");
    let secrets = plan.secrets;
    Ok(Ran { end, particulars, exit, output, stream_path: None, unread_lines: 0, secrets })
}

fn of_reading(reading: Reading) -> Particulars {
    let Reading { details: lines, metadata, test_results, git_command, .. } = reading;
    Particulars { metadata, details: Details { lines, test_results, git_command }, ..Particulars::default() }
}

/// An agent, and whom it tells its session.
struct AgentContext<'a> {
    agent: &'a Agent,
    past: &'a Past,
    note_session: &'a mut dyn FnMut(&str),
}

/// As `run_plan`, with a reader of the output beside.
fn run_agent(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    prepared: Prepared,
    context: AgentContext<'_>,
) -> Result<Ran, End> {
    let AgentContext { agent, past, note_session } = context;
    let (target, clock) = (prepared.target, place.clock);
    let cancel = CancelWatch::new(place.store, &job.job_id, target);
    let stream = stream_file(place.store, job, target.attempt)?;
    let stream_path = stream.path();
    let raw = open_later(job, stream, target.attempt);
    let mut watch = agent.watch(job, &prepared.plan, (place.store, place.environment, clock), note_session);
    let (spec, plan, log) = command(place, job, prepared);
    let onward = std::mem::take(&mut place.onward);
    let output = Output::new(Some(log), &plan.secrets, read::keep(manifest), onward);
    let mut output = output.watched_by(&mut watch, raw);
    let exit = place.spawner.run(spec, &|| cancel.is_asked(), &mut output);
    let (has_raw, unread_lines) = (output.has_raw(), output.unread_lines());
    let output = output.unwatched();
    let exit = match exit {
        Ok(exit) => exit,
        Err(error) => {
            place.onward = output.into_onward();
            return Err(spawn_failed(&error));
        }
    };
    tracing::debug!(exe = plan.exe, stragglers = exit.stragglers, "the agent ended");
    let ran = agent::Ran {
        job,
        manifest,
        target,
        past,
        exit: &exit,
        watched: watch.finish(),
        halt: Halt::from_now(Some(cancel).filter(|_| exit.stopped != Some(StopCause::Requested))),
        by_force: verdict::by_force(&exit, plan.limits),
        unread_lines,
        secrets: &plan.secrets,
    };
    let (end, particulars) = agent.end(place.store, clock.now(), &ran);
    let stream_path = has_raw.then_some(stream_path);
    let secrets = plan.secrets;
    Ok(Ran { end, particulars, exit, output, stream_path, unread_lines, secrets })
}

/// Where standard output of an agent is kept as it came.
fn stream_file(store: &Store, job: &JobFile, number: u32) -> Result<Target, Reason> {
    let default = format!("{}.{number}.stream", job.job_id);
    paths::target(store, Path::new("/"), "stream", None, &default)
}
