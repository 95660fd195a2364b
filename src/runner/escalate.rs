//! Hands a job on to another adapter after its last attempt: the linked job `<id>.<adapter>` describes the failure.
//!
//! The linked job is durable in the queue before this one ends; after a crash in between recovery writes that end
//! (`queue::handed_on`). A job never returns to an adapter that has had it.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Workplace;
use super::end::AttemptEnd;
use super::past::Past;
use crate::adapter;
use crate::causes::causes;
use crate::fs;
use crate::job::parse::MAX_JOB_BYTES;
use crate::job::result::shorten;
use crate::job::{Code, JobFile, JobId, Outcome, Reason, RecordLine, ToolId, parse_job};
use crate::process::program::{self, Program};
use crate::queue::door::Incoming;
use crate::queue::enter::{self, Entered};
use crate::queue::places;
use crate::store::spent::{Of, Spending};

/// A longer message file is ignored.
const LONGEST_FILE: u64 = 16 << 20;
/// How much of the task the prompt quotes: its head and its tail.
const LONGEST_TASK: usize = 256 << 10;
/// How much of a log the prompt quotes.
const LOG_TAIL: u64 = 8 << 10;
/// How much of the patches the prompt quotes, in bytes.
const PATCHES: usize = 48 << 10;

/// Hands the job on if its policy and its end say so; then the end names the linked job.
///
/// Gives true if it did.
pub(super) fn hand_on(
    place: &Workplace<'_>,
    incoming: Incoming<'_>,
    line: Option<&RecordLine>,
    ended: &mut AttemptEnd,
) -> bool {
    let job = incoming.job;
    let allowed = job.metadata.known.fallback_on.as_deref().unwrap_or_default();
    let Some(tool) = job.escalates_to().filter(|_| ended.goes_to_another(allowed)) else { return false };
    let was = ended.result.reason.clone();
    match linked_job(place, incoming, tool, (line, ended)) {
        Ok(id) => {
            let why = was.map_or_else(|| ended.result.outcome.to_string(), |was| was.message);
            ended.result.reason =
                Some(Reason::new(Code::Escalated, format!("handed on to `{id}` after it failed: {why}")));
            ended.result.outcome = Outcome::Failed;
            ended.result.metadata.insert("escalated_to".to_owned(), json!(id));
            true
        }
        Err(problem) => {
            tracing::warn!("{} cannot be handed on to `{tool}`: {problem}", job.job_id);
            ended.result.metadata.insert("not_escalated".to_owned(), problem.into());
            false
        }
    }
}

type Known<'a> = (Option<&'a RecordLine>, &'a AttemptEnd);

/// Puts the linked job into the queue, durable when this returns.
fn linked_job(
    place: &Workplace<'_>,
    incoming: Incoming<'_>,
    tool: &ToolId,
    known: Known<'_>,
) -> Result<JobId, String> {
    let job = incoming.job;
    let came_through = job.metadata.known.escalated_from.as_deref().unwrap_or_default();
    if *tool == job.tool || came_through.contains(tool) {
        return Err("the job came from that adapter".to_owned());
    }
    can_take(place, tool)?;
    let id = JobId::new(&format!("{}.{tool}", job.job_id)).map_err(|error| error.to_string())?;
    if let Some(other) = another_job(place, &id, &job.job_id)? {
        return Err(other);
    }
    // The file as it was claimed: a later change, such as one by the agent, does not count.
    let document = serde_json::from_slice(crate::job::parse::without_mark(incoming.bytes))
        .map_err(|error| error.to_string())?;
    let Value::Object(document) = document else { return Err("its file is not a JSON object".to_owned()) };
    let left = what_is_left(place, job, known.0)?;
    // A secret of the task would be in one more file.
    let manifest = adapter::find(place.store, &job.tool).ok().flatten();
    let prompt = place.environment.secrets_of(job, manifest.as_ref()).redact(&prompt(place, job, known));
    let mut text = format!("{:#}", linked_document(document, job, (&id, tool), (&prompt, left))).into_bytes();
    text.push(b'\n');
    let parsed = parse_job(&text, "the linked job").map_err(|problems| problems.to_string())?;
    let linked = Incoming { job: &parsed.job, bytes: &text };
    match enter::park(place.store, place.clock, linked).map_err(|error| causes(&error))? {
        Entered::Inside(_) | Entered::Waited(_) => Ok(id),
        Entered::Is(other) if other == id => Ok(id),
        Entered::Is(other) => Err(format!("it is the job `{other}`")),
        // A crash came between the linked job and the end of this one.
        Entered::Refused(reason) if reason.code == Code::IdQueued => Ok(id),
        Entered::Refused(reason) => Err(reason.message),
        Entered::NeedsRecovery => Err(format!("a crash left the job `{id}` unfinished")),
    }
}

/// Refuses what could not do anything with a prompt, or is not here.
fn can_take(place: &Workplace<'_>, tool: &ToolId) -> Result<(), String> {
    let manifest = adapter::find(place.store, tool).map_err(|error| causes(&error))?;
    let manifest = manifest.ok_or_else(|| format!("there is no adapter `{tool}`"))?;
    if !manifest.needs_prompt {
        return Err(format!("the adapter `{tool}` takes no prompt"));
    }
    let Some(exe) = &manifest.executable else { return Ok(()) };
    match program::find(OsStr::new(exe), place.environment.get("PATH"), place.store.project_dir()) {
        Program::Missing => Err(format!("`{exe}` is not installed")),
        Program::At(_) | Program::NotExecutable(_) => Ok(()),
    }
}

/// The reason if the job of that id is unrelated to this one; `None` if this one was handed on to it, or if there is none.
fn another_job(place: &Workplace<'_>, id: &JobId, from: &JobId) -> Result<Option<String>, String> {
    let record = place.store.read_record(id).map_err(|error| causes(&error))?;
    let at = record.map(|record| record.line.place);
    let read = |path: &Path| Ok(fs::read_limited(&fs::open_regular(path)?, path, MAX_JOB_BYTES)?);
    let found = places::read_moving(place.store, id, at.as_ref(), &read).map_err(|error| causes(&error))?;
    let Some(bytes) = found else { return Ok(None) };
    let parsed = parse_job(&bytes.unwrap_or_default(), "it").ok();
    let linked_from = parsed.and_then(|parsed| parsed.job.metadata.known.escalated_from_job);
    let is_ours = linked_from.as_ref() == Some(from);
    Ok((!is_ours).then(|| format!("there is another job `{id}`")))
}

/// The rest of the budgets of the job, for the linked one.
type Left = (Option<f64>, Option<u64>);

fn what_is_left(place: &Workplace<'_>, job: &JobFile, line: Option<&RecordLine>) -> Result<Left, String> {
    let known = &job.metadata.known;
    if known.max_cost_usd.is_none() && known.max_tokens.is_none() {
        return Ok((None, None));
    }
    let past = Past::from_last_line(line);
    let from = (past.first_attempt, past.life_began);
    let spent =
        Spending::open(place.store, Of::Job(job.job_id.clone())).map_err(|error| causes(&error))?.spent(from);
    let cost = known.max_cost_usd.map(|most| most.get() - spent.cost_usd.unwrap_or(0.0));
    let tokens = known.max_tokens.map(|most| most.get().saturating_sub(spent.tokens.unwrap_or(0)));
    if cost.is_some_and(|left| left <= 0.0) || tokens == Some(0) {
        return Err("its budget is used up".to_owned());
    }
    Ok((cost, tokens))
}

/// The job file of the linked job: what is the tool's own is left out.
fn linked_document(
    mut document: Map<String, Value>,
    job: &JobFile,
    (id, tool): (&JobId, &ToolId),
    (prompt, (cost, tokens)): (&str, Left),
) -> Value {
    for key in ["command", "stdin", "key", "not_before", "depends_on", "after", "pty"] {
        document.remove(key);
    }
    document.insert("job_id".to_owned(), json!(id));
    document.insert("tool".to_owned(), json!(tool));
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        paths.remove("log_file");
        paths.remove("error_report");
    }
    let mut through = job.metadata.known.escalated_from.clone().unwrap_or_default();
    through.push(job.tool.clone());
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        // The model is the other tool's; a policy that hands on to this one has done so.
        for key in ["message_file", "model", "keep", "retry_policy", "max_retries", "fallback_on"] {
            metadata.remove(key);
        }
        metadata.insert("prompt".to_owned(), json!(prompt));
        metadata.insert("escalated_from".to_owned(), json!(through));
        metadata.insert("escalated_from_job".to_owned(), json!(job.job_id));
        if let Some(cost) = cost {
            metadata.insert("max_cost_usd".to_owned(), json!(cost));
        }
        if let Some(tokens) = tokens {
            metadata.insert("max_tokens".to_owned(), json!(tokens));
        }
    }
    Value::Object(document)
}

/// The prompt of the next tool: the task, the attempts, the last failure, and the changes so far.
fn prompt(place: &Workplace<'_>, job: &JobFile, (line, ended): Known<'_>) -> String {
    let result = &ended.result;
    let mut text = task(place, job);
    let _ = writeln!(text, "\n# Previous attempts\n");
    let _ = writeln!(text, "`{}` tried this task and did not succeed.\n", job.tool);
    let before = line.map(|line| line.attempts.as_slice()).unwrap_or_default();
    for attempt in before.iter().filter(|attempt| attempt.outcome.is_some()) {
        let why = attempt.reason.as_ref().map_or("", |reason| reason.message.as_str());
        let outcome = attempt.outcome.map_or("", Outcome::as_str);
        let _ = writeln!(text, "- attempt {}: {outcome}, {}", attempt.attempt, first_line(why));
    }
    let why = result.reason.as_ref().map_or("", |reason| reason.message.as_str());
    let _ = writeln!(text, "- attempt {}: {}, {}", result.attempt, result.outcome, first_line(why));
    let _ = writeln!(text, "\n# Last failure\n\n{why}");
    if let Some(code) = result.exit_code {
        let _ = writeln!(text, "Exit code: {code}");
    }
    let details = ended.error_report.iter().flat_map(|report| &report.details);
    for detail in details.take(40) {
        let _ = writeln!(text, "{detail}");
    }
    let log = result.log_path.as_deref().and_then(|path| tail(Path::new(path), LOG_TAIL));
    if let Some(log) = log.filter(|log| !log.trim().is_empty()) {
        let _ = writeln!(text, "\n# End of its output\n\n```\n{}\n```", log.trim_end());
    }
    let patches = patches(place, job, before.iter().map(|attempt| attempt.attempt).chain([result.attempt]));
    if !patches.is_empty() {
        let _ = writeln!(text, "\n# Changes so far\n\nThe worktree contains these changes.\n\n```diff");
        let _ = writeln!(text, "{}\n```", patches.trim_end());
    }
    text
}

fn task(place: &Workplace<'_>, job: &JobFile) -> String {
    let known = &job.metadata.known;
    if let Some(prompt) = &known.prompt {
        return format!("{}\n", prompt.trim_end());
    }
    let file = known.message_file.as_deref().filter(|name| !name.is_empty());
    let dir = super::paths::directories(place.store.project_dir(), job).ok();
    let message = file.zip(dir).and_then(|(name, dir)| tail(&dir.working_dir.join(name), LONGEST_FILE));
    if let Some(message) = message {
        return format!("{}\n", shorten(message.trim_end(), LONGEST_TASK));
    }
    let words: Vec<&str> = job.command.exe.iter().chain(&job.command.args).map(String::as_str).collect();
    format!("Fix the code until this command succeeds:\n\n```\n{}\n```\n", words.join(" "))
}

/// The patches that attempts left, as far as there is room.
fn patches(place: &Workplace<'_>, job: &JobFile, attempts: impl Iterator<Item = u32>) -> String {
    let mut text = String::new();
    for number in attempts {
        let path = place.store.state("logs").join(format!("{}.{number}.patch", job.job_id));
        text.push_str(&tail(&path, 1 << 20).unwrap_or_default());
    }
    shorten(&text, PATCHES)
}

/// The last bytes of a file as text.
fn tail(path: &Path, bytes: u64) -> Option<String> {
    use std::os::unix::fs::FileExt;
    let file = fs::open_regular(path).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(bytes);
    let mut text = vec![0; usize::try_from(length - from).ok()?];
    let read = file.read_at(&mut text, from).ok()?;
    text.truncate(read);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}
