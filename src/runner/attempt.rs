//! One attempt: prepares, runs and reads the tool. Writes logs and reports, never a record.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::agent::{self, Agent};
use super::end::{AttemptEnd, Details};
use super::evidence::ReportFiles;
use super::halt::Halt;
use super::past::Past;
use super::paths::{self, Directories, Places, Target};
use super::report::{note_without_effect, redact, write_report};
use super::verdict::{self, Judged};
use super::{Workplace, input, manifest_reason};
use crate::adapter::plan::Surroundings;
use crate::adapter::read::{self, Evidence, Report};
use crate::adapter::{self, Manifest, ManifestError, Plan, Reading, registry};
use crate::job::result::{Usage, shorten};
use crate::job::{Code, JobFile, JobResult, Outcome, Reason, SCHEMA_VERSION, Status};
use crate::process::excerpt::Excerpt;
use crate::process::left_over::MARKER;
use crate::process::log::{CappedLog, DEFAULT_BYTES, SMALLEST_BYTES};
use crate::process::output::Output;
use crate::process::redact::Secrets;
use crate::process::{CommandSpec, Ended, Exit, Input, SpawnError, StopCause};
use crate::queue::cancel;
use crate::store::Store;
use crate::store::control::{AttemptId, CancelWatch};

/// How often a job waits for the end of a shortage of descriptors, processes or memory: 5 seconds, and each time twice as long,
/// an hour and a half together.
const SHORTAGES_PARKED: u32 = 10;
const SHORTAGE_LASTS: Duration = Duration::from_secs(5);

/// The attempt that is made.
pub struct ThisAttempt<'a> {
    /// Which.
    pub target: AttemptId,
    /// What was before it.
    pub past: &'a Past,
    /// Where it works and logs.
    pub places: Places,
    /// Told the moment that an agent names its session.
    pub note_session: &'a mut dyn FnMut(&str),
}

/// A reason not to start, and whether it can pass by itself.
struct NotStarted {
    reason: Reason,
    may_pass: bool,
    interrupted: bool,
}

impl NotStarted {
    fn interrupted(reason: Reason) -> Self {
        Self { reason, may_pass: false, interrupted: true }
    }
}

impl From<Reason> for NotStarted {
    fn from(reason: Reason) -> Self {
        let may_pass =
            reason.shortage.is_some() || matches!(reason.code, Code::LogInUse | Code::JobFileNotMoved);
        Self { reason, may_pass, interrupted: false }
    }
}

/// What a tool that ran left.
struct Ran {
    judged: Judged,
    exit: Exit,
    reading: Option<Reading>,
    agent: Option<agent::AgentEnd>,
    output: Output<'static>,
    stream_path: Option<PathBuf>,
    unread_lines: u64,
    secrets: Secrets,
}

/// True if a preview is not all of a stream.
fn is_cut(stream: &Excerpt, preview: &str) -> bool {
    stream.whole().is_none_or(|whole| String::from_utf8_lossy(&whole) != preview)
}

/// Makes an attempt of a job.
pub fn run(
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
        error_report: None,
        cause_may_pass: false,
        for_good: false,
        left_alive: false,
        session_id: None,
        not_before: None,
        park_instead: None,
        stays_here: false,
        class: None,
        work: None,
    };
    let details = match ran {
        Ok(ran) => fill_in(place, &mut end, ran),
        Err(mut not_started) => {
            end.cause_may_pass = not_started.may_pass;
            // The log is made with the first output.
            end.result.log_path.take_if(|log| !Path::new(log).exists());
            if not_started.reason.shortage.is_some() && shortages < SHORTAGES_PARKED {
                // The tool is not to blame, nor its retries to be used up; and another one would not start either.
                end.for_good = true;
                end.stays_here = true;
                let wait = SHORTAGE_LASTS * (1 << shortages);
                end.park_instead = Some(place.clock.now().after(wait));
                // By this word it is known among the other parks of the job.
                not_started.reason.code = Code::StartFailed;
            }
            if not_started.interrupted {
                end.result.outcome = Outcome::Canceled;
            }
            let secrets = place.environment.secrets_of(job, manifest.ok().flatten());
            end.result.reason = Some(without_secrets(not_started.reason, &secrets));
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

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn prepare_and_run(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Result<Option<&Manifest>, &ManifestError>,
    this: ThisAttempt<'_>,
    log_path: &mut Option<PathBuf>,
) -> Result<Ran, NotStarted> {
    let ThisAttempt { target, past, places, note_session } = this;
    let number = target.attempt;
    let manifest = manifest.map_err(manifest_reason)?.ok_or_else(|| no_adapter(place, job))?;
    let (directories, log) = (places.directories?, places.log?);
    let prompt = input::prompt_file(place, job, manifest, &directories, number)?;
    let halt = Halt::of_start(CancelWatch::new(place.store, &job.job_id, target));
    let prepared = Agent::prepare(place, job, manifest, &directories, (target, past, &halt));
    let mut agent = prepared.map_err(|reason| match halt.reason() {
        Some(reason) => NotStarted::interrupted(reason),
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
        Some(agent) => run_agent(place, job, manifest, prepared, Who { agent: &agent, past, note_session }),
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

/// The command with the marker by which recovery finds what is left of it.
fn command(place: &Workplace<'_>, job: &JobFile, prepared: Prepared) -> (CommandSpec, Plan, CappedLog) {
    let Prepared { mut plan, stdin, log, directories, target } = prepared;
    let mut env = std::mem::take(&mut plan.env);
    let marker = format!("{}/{}/{}", place.store.uuid(), job.job_id, target.attempt);
    env.push((MARKER.into(), marker.into()));
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
) -> Result<Ran, NotStarted> {
    let cancel = CancelWatch::new(place.store, &job.job_id, prepared.target);
    let (spec, plan, log) = command(place, job, prepared);
    let onward = std::mem::take(&mut place.onward);
    let mut output = Output::new(Some(log), &plan.secrets, read::keep(manifest), onward);
    let exit = match place.spawner.run(spec, &|| cancel.is_asked(), &mut output) {
        Ok(exit) => exit,
        Err(error) => {
            place.onward = output.into_onward();
            return Err(why_not_started(&error));
        }
    };
    let halt = Halt::from_now(Some(cancel));
    let mut given_up = None;
    let reading = match (exit.ended, exit.stopped) {
        (Ended::Code(exit_code), None) => {
            let report = report.map_or(Report::NotNamed, |report| report.after(halt.stop()));
            given_up =
                Some(&report).filter(|report| matches!(report, Report::Unreadable(_))).and(halt.reason());
            let evidence = Evidence {
                exe: &plan.exe,
                exit_code,
                success_exit_codes: &manifest.success_exit_codes,
                args: &plan.args,
                stdout: output.stdout(),
                stderr: output.stderr(),
                report: &report,
            };
            Some(read::read(manifest.reader, &evidence))
        }
        _ => None,
    };
    let judged = match given_up {
        Some(reason) => Judged { outcome: Outcome::Canceled, reason: Some(reason) },
        None => verdict::judge(&exit, plan.limits, reading.as_ref()),
    };
    tracing::debug!(exe = plan.exe, stragglers = exit.stragglers, "the tool ended");
    let secrets = plan.secrets;
    Ok(Ran { judged, exit, reading, agent: None, output, stream_path: None, unread_lines: 0, secrets })
}

/// An agent, and whom it tells its session.
struct Who<'a> {
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
    who: Who<'_>,
) -> Result<Ran, NotStarted> {
    let Who { agent, past, note_session } = who;
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
            return Err(why_not_started(&error));
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
        by_force: verdict::by_force(&exit, plan.limits).map(|judged| (judged.outcome, judged.reason)),
        unread_lines,
        secrets: &plan.secrets,
    };
    let end = agent.end(place.store, clock.now(), &ran);
    let judged = Judged { outcome: end.outcome, reason: Some(end.reason.clone()) };
    let stream_path = has_raw.then_some(stream_path);
    let secrets = plan.secrets;
    Ok(Ran { judged, exit, reading: None, agent: Some(end), output, stream_path, unread_lines, secrets })
}

/// Where standard output of an agent is kept as it came.
fn stream_file(store: &Store, job: &JobFile, number: u32) -> Result<Target, Reason> {
    let default = format!("{}.{number}.stream", job.job_id);
    paths::target(store, Path::new("/"), "stream", None, &default)
}

fn no_adapter(place: &Workplace<'_>, job: &JobFile) -> NotStarted {
    let near = registry::nearest(place.store, &job.tool);
    let hint =
        near.map_or_else(|| "see `engine adapters`".to_owned(), |near| format!("did you mean `{near}`?"));
    Reason::new(Code::NoAdapter, format!("there is no adapter `{}`; {hint}", job.tool)).into()
}

fn why_not_started(error: &SpawnError) -> NotStarted {
    let message = match error {
        SpawnError::System { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    match error {
        SpawnError::NotFound { exe } => {
            let is_line = exe.contains(char::is_whitespace);
            let hint = if is_line {
                "a command line needs a shell: sh -c '…'"
            } else {
                "is it installed, and in PATH?"
            };
            Reason::new(Code::ToolNotFound, format!("{message}; {hint}")).into()
        }
        SpawnError::NotExecutable { .. } => Reason::new(Code::ToolNotExecutable, message).into(),
        SpawnError::Interrupted(interrupt) => NotStarted::interrupted(verdict::interrupted(*interrupt)),
        SpawnError::Requested => NotStarted::interrupted(cancel::by_user()),
        SpawnError::System { .. } => {
            let reason = Reason { shortage: error.shortage(), ..Reason::new(Code::StartFailed, message) };
            NotStarted { reason, may_pass: true, interrupted: false }
        }
    }
}

/// A longer line of details is cut, after the redaction.
const LONGEST_DETAIL: usize = 1000;

/// So is a longer message: it may quote what a report says.
const LONGEST_MESSAGE: usize = 4 << 10;

/// So many kept processes are named in a result: a line of a record has a bound.
const KEPT_NAMED: usize = 20;

fn without_secrets(reason: Reason, secrets: &Secrets) -> Reason {
    Reason { message: shorten(&secrets.redact(&reason.message), LONGEST_MESSAGE), ..reason }
}

fn fill_in(place: &mut Workplace<'_>, end: &mut AttemptEnd, ran: Ran) -> Details {
    let Ran { judged, exit, reading, agent, output, stream_path, unread_lines, secrets } = ran;
    let result = &mut end.result;
    result.outcome = judged.outcome;
    result.success = judged.outcome == Outcome::Succeeded;
    result.reason = judged.reason.map(|reason| without_secrets(reason, &secrets));
    match exit.ended {
        Ended::Code(code) => result.exit_code = Some(code),
        Ended::Signal(signal) => result.signal = Some(signal),
    }
    let usage: Usage = exit.usage;
    result.usage = Some(usage);
    result.stdout = output.stdout().preview(100, 16 << 10);
    result.stderr = output.stderr().preview(50, 8 << 10);
    result.stdout_truncated = is_cut(output.stdout(), &result.stdout);
    result.stderr_truncated = is_cut(output.stderr(), &result.stderr);
    if !output.has_log() {
        result.log_path = None;
    }
    if let Some(error) = output.log_error() {
        result.metadata.insert("log_error".to_owned(), error.to_string().into());
    }
    let stragglers = exit.stragglers;
    if stragglers > 0 {
        // The verdict is the tool's; but who left something behind should know.
        result.metadata.insert("left_over_processes".to_owned(), stragglers.into());
        let (processes, were) = if stragglers == 1 { ("process", "was") } else { ("processes", "were") };
        tracing::warn!("{stragglers} {processes} outlived the tool and {were} ended");
    }
    if !exit.left_alive.is_empty() {
        // Another attempt beside them would be two at once.
        end.left_alive = true;
        result.metadata.insert("left_alive".to_owned(), exit.left_alive.into());
    }
    if !exit.kept.is_empty() {
        result.metadata.insert("kept_processes".to_owned(), exit.kept.len().into());
        let first =
            exit.kept.into_iter().take(KEPT_NAMED).map(|kept| json!({"pid": kept.pid, "name": kept.name}));
        result.metadata.insert("kept".to_owned(), first.collect());
    }
    if unread_lines > 0 {
        result.metadata.insert("unread_lines".to_owned(), unread_lines.into());
    }
    if let Some(path) = stream_path {
        result.metadata.insert("stream_path".to_owned(), path.to_string_lossy().into());
    }
    let mut details = Details::default();
    if let Some(agent) = agent {
        result.metadata.extend(agent.metadata);
        details.lines = agent.details;
        end.session_id = agent.session_id;
        end.not_before = agent.not_before;
        end.for_good = agent.for_good;
        end.stays_here = agent.stays_here;
        end.park_instead = agent.park_instead;
        end.class = agent.class;
        end.work = agent.work;
        if exit.stopped == Some(StopCause::Watch) {
            result.metadata.insert(super::exit_status::ENDED_BY_ENGINE.to_owned(), true.into());
        }
    } else if let Some(reading) = reading {
        result.metadata.extend(reading.metadata);
        details.lines = reading.details;
        details.test_results = reading.test_results;
        details.git_command = reading.git_command;
    }
    if details.lines.is_empty() {
        details.lines = read::last_lines(output.stderr(), 20);
    }
    let result = &mut end.result;
    if !secrets.is_empty() {
        redact(&secrets, &mut result.metadata);
        details.lines = details.lines.iter().map(|line| secrets.redact(line)).collect();
        details.git_command = details.git_command.map(|command| secrets.redact(&command));
        if let Some(Value::Object(results)) = &mut details.test_results {
            redact(&secrets, results);
        }
    }
    for line in &mut details.lines {
        *line = line.chars().take(LONGEST_DETAIL).collect();
    }
    place.onward = output.into_onward();
    details
}
