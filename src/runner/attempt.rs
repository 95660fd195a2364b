//! One attempt: prepares, runs and reads the tool. Writes logs and reports, never a record.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::evidence::ReportFile;
use super::exit_status::{CODE_NOT_EXECUTABLE, CODE_NOT_FOUND};
use super::paths::{self, Directories, Places, Target};
use super::verdict::{self, Judged};
use super::{Workplace, manifest_reason};
use crate::adapter::plan::{PlannedInput, Surroundings};
use crate::adapter::read::{self, Evidence, Report};
use crate::adapter::{self, Manifest, ManifestError, Plan, Reading};
use crate::causes::causes;
use crate::fs;
use crate::job::result::Usage;
use crate::job::spec::EnvValue;
use crate::job::{ErrorReport, JobFile, JobResult, Outcome, Reason, SCHEMA_VERSION, Status};
use crate::process::left_over::MARKER;
use crate::process::log::{CappedLog, DEFAULT_BYTES};
use crate::process::output::Output;
use crate::process::redact::Secrets;
use crate::process::{CommandSpec, Ended, Input, SpawnError};
use crate::queue::cancel;
use crate::store::control::{AttemptId, CancelWatch};

/// What came out of an attempt.
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    /// The result; the status in it is not yet decided.
    pub result: JobResult,
    /// Why it is not a success.
    pub error_report: Option<ErrorReport>,
    /// True if the cause of a failed start can pass by itself.
    pub cause_may_pass: bool,
    /// True if processes of the attempt could not be ended.
    pub left_alive: bool,
}

/// A reason not to start, and whether it can pass by itself.
struct NotStarted {
    reason: Reason,
    may_pass: bool,
    interrupted: bool,
}

impl From<Reason> for NotStarted {
    fn from(reason: Reason) -> Self {
        let may_pass = reason.code == "log_in_use";
        Self { reason, may_pass, interrupted: false }
    }
}

/// What a tool that ran left.
struct Ran {
    judged: Judged,
    ended: Ended,
    usage: Usage,
    stragglers: usize,
    left_alive: Vec<String>,
    reading: Option<Reading>,
    output: Output<'static>,
    secrets: Secrets,
}

/// Makes an attempt of a job.
pub fn run(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Result<Option<&Manifest>, &ManifestError>,
    places: Places,
    target: AttemptId,
) -> AttemptEnd {
    let started_at = place.clock.now();
    let start = place.clock.monotonic();
    let mut log_path = None;
    let ran = prepare_and_run(place, job, manifest, places, target, &mut log_path);
    let duration = place.clock.monotonic().saturating_sub(start);
    let mut end = AttemptEnd {
        result: JobResult {
            schema_version: SCHEMA_VERSION,
            job_id: job.job_id.clone(),
            tool: Some(job.tool.clone()),
            attempt: target.attempt,
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
            metadata: Map::new(),
        },
        error_report: None,
        cause_may_pass: false,
        left_alive: false,
    };
    let details = match ran {
        Ok(ran) => fill_in(place, &mut end, ran),
        Err(not_started) => {
            end.cause_may_pass = not_started.may_pass;
            if not_started.interrupted {
                end.result.outcome = Outcome::Canceled;
            }
            let secrets = known_secrets(place, job);
            let reason = not_started.reason;
            end.result.reason = Some(Reason { message: secrets.redact(&reason.message), code: reason.code });
            Details::default()
        }
    };
    if !end.result.success {
        write_report(place, job, &mut end, details);
    }
    end
}

/// The secrets of a job that has no plan.
fn known_secrets(place: &Workplace<'_>, job: &JobFile) -> Secrets {
    let references: Vec<&OsStr> = job
        .env
        .values()
        .filter_map(|value| match value {
            EnvValue::FromEnv(name) => place.environment.get(name),
            EnvValue::Text(_) => None,
        })
        .collect();
    place.environment.secrets(&[], &references, &[])
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn prepare_and_run(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Result<Option<&Manifest>, &ManifestError>,
    places: Places,
    target: AttemptId,
    log_path: &mut Option<PathBuf>,
) -> Result<Ran, NotStarted> {
    let number = target.attempt;
    let manifest = manifest.map_err(manifest_reason)?.ok_or_else(|| no_adapter(place, job))?;
    let (directories, log) = (places.directories?, places.log?);
    let prompt = prompt_file(place, job, manifest, &directories, number)?;
    let plan = adapter::plan(
        job,
        manifest,
        Surroundings {
            attempt: number,
            repo_root: &directories.repo_root,
            working_dir: &directories.working_dir,
            prompt_file: prompt.as_deref(),
            environment: place.environment,
            config: &place.store.config,
        },
    )
    .map_err(|error| error.0)?;
    let stdin = open_stdin(&plan, &directories)?;
    *log_path = Some(log.path());
    let log = open_log(job, log, number)?;
    let report = ReportFile::before(job, &directories.working_dir);
    run_plan(place, job, manifest, Prepared { plan, stdin, log, report, directories, target })
}

/// The log that the job names is opened and locked now, the default one when there is something to write: its name is this
/// attempt's alone, and a file for each silent tool is a file too many.
fn open_log(job: &JobFile, target: Target, number: u32) -> Result<CappedLog, Reason> {
    let limit = job.limits.as_ref().and_then(|limits| limits.log_bytes);
    let limit = limit.map_or(DEFAULT_BYTES, crate::job::number::Count::get);
    if !target.is_given() {
        let open = move || target.open_log(number).map_err(|reason| io::Error::other(reason.message));
        return Ok(CappedLog::later(Box::new(open), limit));
    }
    CappedLog::new(target.open_log(number)?, limit)
        .map_err(|error| Reason::new("log_not_writable", format!("{}: {error}", target.path().display())))
}

struct Prepared {
    plan: Plan,
    stdin: Input,
    log: CappedLog,
    report: Option<ReportFile>,
    directories: Directories,
    target: AttemptId,
}

fn run_plan(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    prepared: Prepared,
) -> Result<Ran, NotStarted> {
    let Prepared { plan, stdin, log, report, directories, target } = prepared;
    let mut env = plan.env;
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
    };
    let onward = std::mem::take(&mut place.onward);
    let mut output = Output::new(Some(log), &plan.secrets, read::keep(manifest), onward);
    let cancel = CancelWatch::new(place.store, &job.job_id, target);
    let exit = match place.spawner.run(spec, &|| cancel.is_asked(), &mut output) {
        Ok(exit) => exit,
        Err(error) => {
            place.onward = output.into_onward();
            return Err(why_not_started(&error));
        }
    };
    let report = report.map_or(Report::NotNamed, |report| report.after());
    let reading = match (exit.ended, exit.stopped) {
        (Ended::Code(exit_code), None) => Some(read::read(
            manifest.reader,
            &Evidence {
                exe: &plan.exe,
                exit_code,
                success_exit_codes: &manifest.success_exit_codes,
                args: &plan.args,
                stdout: output.stdout(),
                stderr: output.stderr(),
                report: &report,
            },
        )),
        _ => None,
    };
    let judged = verdict::judge(&exit, plan.limits, reading.as_ref());
    tracing::debug!(exe = plan.exe, stragglers = exit.stragglers, "the tool ended");
    let (ended, usage, stragglers, left_alive) = (exit.ended, exit.usage, exit.stragglers, exit.left_alive);
    Ok(Ran { judged, ended, usage, stragglers, left_alive, reading, output, secrets: plan.secrets })
}

fn no_adapter(place: &Workplace<'_>, job: &JobFile) -> NotStarted {
    let listed = adapter::list(place.store.root()).unwrap_or_default();
    let known: Vec<&str> = listed.keys().map(String::as_str).collect();
    let near = crate::job::schema::nearest(job.tool.as_str(), &known);
    let hint =
        near.map_or_else(|| "see `engine adapters`".to_owned(), |near| format!("did you mean `{near}`?"));
    Reason::new("no_adapter", format!("there is no adapter `{}`; {hint}", job.tool)).into()
}

/// The file that holds the prompt: the one that the job names, or one that is written here because the adapter wants
/// a file.
fn prompt_file(
    place: &Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
    number: u32,
) -> Result<Option<PathBuf>, NotStarted> {
    if let Some(name) = job.metadata.known.message_file.as_deref().filter(|name| !name.is_empty()) {
        let path = directories.working_dir.join(name);
        // A literal command names the file itself, and may make it first.
        if job.command.exe.is_none() && !path.is_file() {
            let message = format!("`metadata.message_file` `{}` is not a file", path.display());
            return Err(Reason::new("path_missing", message).into());
        }
        return Ok(Some(path).filter(|path| path.is_file()));
    }
    let wanted = manifest.args.iter().any(|argument| match argument {
        adapter::manifest::Argument::One(text) => text.contains("{prompt_file}"),
        adapter::manifest::Argument::Optional(texts) => texts.iter().any(|t| t.contains("{prompt_file}")),
    });
    let Some(prompt) = job.metadata.known.prompt.as_ref().filter(|_| wanted) else { return Ok(None) };
    let dir = place.store.state("prompts");
    let path = dir.join(format!("{}.{number}.md", job.job_id));
    let written = fs::create_dir(&dir)
        .and_then(|_| fs::remove(&path))
        .and_then(|_| fs::create_new(&path, prompt.as_bytes()));
    match written {
        Ok(_) => Ok(Some(path)),
        Err(error) => Err(Reason::new("state_not_writable", causes(&error)).into()),
    }
}

fn open_stdin(plan: &Plan, directories: &Directories) -> Result<Input, Reason> {
    match &plan.stdin {
        PlannedInput::Null => Ok(Input::Null),
        PlannedInput::Text(text) => Ok(Input::Bytes(text.clone().into_bytes())),
        PlannedInput::File(name) => {
            let path = directories.working_dir.join(name);
            // Opening a pipe waits for a writer, when no limit holds yet and no signal is heeded: it is not waited for.
            let opened =
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
            let opened = opened.and_then(|file| {
                let kind = file.metadata()?.file_type();
                rustix::io::ioctl_fionbio(&file, false)?;
                Ok((file, kind))
            });
            match opened {
                Ok((file, kind)) if kind.is_file() || kind.is_char_device() => Ok(Input::File(file)),
                Ok(_) => {
                    let message =
                        format!("standard input `{}` is neither a file nor a device", path.display());
                    Err(Reason::new("stdin_not_a_file", message))
                }
                Err(error) => {
                    Err(Reason::new("path_missing", format!("standard input `{}`: {error}", path.display())))
                }
            }
        }
    }
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
            Reason::new(CODE_NOT_FOUND, format!("{message}; {hint}")).into()
        }
        SpawnError::NotExecutable { .. } => Reason::new(CODE_NOT_EXECUTABLE, message).into(),
        SpawnError::Interrupted(interrupt) => {
            NotStarted { reason: verdict::interrupted(*interrupt), may_pass: false, interrupted: true }
        }
        SpawnError::Requested => NotStarted { reason: cancel::by_user(), may_pass: false, interrupted: true },
        // No memory, no process slots: that can pass.
        SpawnError::System { .. } => {
            NotStarted { reason: Reason::new("start_failed", message), may_pass: true, interrupted: false }
        }
    }
}

/// A longer line of details is cut, after the redaction.
const LONGEST_DETAIL: usize = 1000;

/// What only the error report has.
#[derive(Debug, Default)]
struct Details {
    lines: Vec<String>,
    test_results: Option<Value>,
    git_command: Option<String>,
}

fn fill_in(place: &mut Workplace<'_>, end: &mut AttemptEnd, ran: Ran) -> Details {
    let Ran { judged, ended, usage, stragglers, left_alive, reading, output, secrets } = ran;
    let result = &mut end.result;
    result.outcome = judged.outcome;
    result.success = judged.outcome == Outcome::Succeeded;
    result.reason =
        judged.reason.map(|reason| Reason { message: secrets.redact(&reason.message), code: reason.code });
    match ended {
        Ended::Code(code) => result.exit_code = Some(code),
        Ended::Signal(signal) => result.signal = Some(signal),
    }
    result.usage = Some(usage);
    result.stdout = output.stdout().preview(100, 16 << 10);
    result.stderr = output.stderr().preview(50, 8 << 10);
    if !output.has_log() {
        result.log_path = None;
    }
    if let Some(error) = output.log_error() {
        result.metadata.insert("log_error".to_owned(), error.to_string().into());
    }
    if stragglers > 0 {
        // The verdict is the tool's; but who left something behind should know.
        result.metadata.insert("left_over_processes".to_owned(), stragglers.into());
        tracing::warn!("{stragglers} processes outlived the tool and were ended");
    }
    if !left_alive.is_empty() {
        // Another attempt beside them would be two at once.
        end.left_alive = true;
        result.metadata.insert("left_alive".to_owned(), left_alive.into());
    }
    let mut details = Details::default();
    if let Some(reading) = reading {
        result.metadata.extend(reading.metadata);
        details.lines = reading.details;
        details.test_results = reading.test_results;
        details.git_command = reading.git_command;
    } else {
        details.lines = read::last_lines(output.stderr(), 20);
    }
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

/// Takes secrets out of every text of a document: a report in a file did not pass the redaction of the streams.
fn redact(secrets: &Secrets, object: &mut Map<String, Value>) {
    fn value(secrets: &Secrets, document: &mut Value) {
        match document {
            Value::String(text) => *text = secrets.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| value(secrets, item)),
            Value::Object(object) => redact(secrets, object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    *object = std::mem::take(object)
        .into_iter()
        .map(|(key, mut item)| {
            value(secrets, &mut item);
            (secrets.redact(&key), item)
        })
        .collect();
}

fn write_report(place: &Workplace<'_>, job: &JobFile, end: &mut AttemptEnd, details: Details) {
    let result = &mut end.result;
    let summary = result.reason.as_ref().map_or_else(|| result.outcome.to_string(), |r| r.message.clone());
    let report = ErrorReport {
        job_id: job.job_id.clone(),
        workstream_id: job.workstream_id.clone(),
        tool: Some(job.tool.clone()),
        exit_code: result.exit_code,
        outcome: result.outcome,
        summary,
        details: details.lines,
        log_path: result.log_path.clone(),
        test_results: details.test_results,
        git_command: details.git_command,
    };
    match report_file(place, job, result.attempt, &report) {
        Ok(path) => result.error_report_path = Some(path.to_string_lossy().into_owned()),
        // It stands in the record too.
        Err(reason) => tracing::warn!(code = reason.code, reason.message, "error report not written"),
    }
    end.error_report = Some(report);
}

fn report_file(
    place: &Workplace<'_>,
    job: &JobFile,
    number: u32,
    report: &ErrorReport,
) -> Result<PathBuf, Reason> {
    let default = format!("{}.{number}.error.json", job.job_id);
    let given = job.paths.error_report.as_deref();
    let by_default = || paths::target(place.store, Path::new("/"), "error_report", None, &default);
    // A job that could not start for its directories has its report at the default place.
    let target = match paths::directories(place.store, job) {
        Ok(found) => paths::target(place.store, &found.repo_root, "error_report", given, &default),
        Err(_) => by_default(),
    }
    .or_else(|_| by_default())?;
    // Two outputs in one file would be none.
    let is_log = report.log_path.as_ref().is_some_and(|log| target.path() == Path::new(log));
    let target = if is_log { by_default()? } else { target };
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    target.write_report(number, &text)
}
