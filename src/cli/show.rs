//! `engine show`: everything about one job.

use serde_json::{Map, Value, json};

use super::error::CliError;
use super::global::Global;
use super::jobs::{known_id, not_found, note_of};
use super::named_root;
use super::{archived, list, print, root, show_agent};
use crate::adapter;
use crate::adapter::manifest::ReaderName;
use crate::clock::{Clock, SystemClock};
use crate::job::record::overlay;
use crate::job::{Attempt, JobId, Place, Reason, RecordLine, Status};
use crate::queue::claim::{self, Content};
use crate::queue::{places, ready};
use crate::runner::WorkTrees;
use crate::store::{Record, Store};
use crate::view::listing::{self, Parts, Row, Wanted};
use crate::view::runner;
use clap::Args;

/// `engine show`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine show nightly\n  engine show nightly --json | jq .result.outcome\n  engine show nightly --all | jq -c .status"
)]
pub struct ShowArgs {
    /// The job
    pub id: String,
    /// Print the record as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print every line of the record, former lives too (JSON Lines)
    #[arg(long)]
    pub all: bool,
}

/// Shows the job; 1 if there is none.
pub(super) fn run(args: &ShowArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let id = known_id(&args.id)?;
    if args.all {
        return all(&store, &id);
    }
    let waiting = why_waiting(&store, &id);
    let record = store.read_record(&id)?;
    let steps = record.as_ref().map(|record| steps_of(&store, &record.line)).transpose()?.flatten();
    match record {
        Some(record) if args.json => {
            let mut document = as_json(&store, record);
            document["waiting"] = json!(waiting);
            if let Some(steps) = steps {
                document["steps"] = steps.iter().map(|row| list::as_json(&store, row)).collect();
            }
            print::json_pretty(&document);
        }
        Some(mut record) => {
            store.show_paths(&mut record.line);
            let open = record.line.open_attempt();
            let runner = open.and_then(|attempt| note_of(runner::probe(&store, &id, attempt), attempt.pid));
            let note = waiting.map(|reason| reason.message).or(runner);
            let steps = steps.iter().flatten().map(|row| step(&store, row));
            print::lines(describe(&record.line, note.as_deref()).into_iter().chain(steps));
        }
        None => without_record(args, &store, &id)?,
    }
    Ok(0)
}

/// The parts of a job whose tool tells its own verdict, by their ids: the steps of a workstream. Of others none is looked for: it
/// takes a look at every job of the run.
fn steps_of(store: &Store, line: &RecordLine) -> Result<Option<Vec<Row>>, CliError> {
    let manifest = line.job.tool.as_ref().and_then(|tool| adapter::find(store, tool).ok().flatten());
    if manifest.is_none_or(|manifest| manifest.reader != ReaderName::Verdict) {
        return Ok(None);
    }
    let parts = Parts::Of(line.job_id.clone());
    let wanted = Wanted { run: line.job.run_id.clone(), parts, ..Wanted::default() };
    let mut rows = listing::list(store, SystemClock::start().now(), &wanted, &WorkTrees(store))?.rows;
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Some(rows))
}

fn step(store: &Store, row: &Row) -> String {
    let why = list::why(store, row).map_or_else(String::new, |code| format!(", {code}"));
    format!("  {:<12} {}  {}{why}", "step", row.id, row.status)
}

/// The line with the paths of this root.
fn as_json(store: &Store, mut record: Record) -> Value {
    store.show_paths(&mut record.line);
    overlay(record.raw, json!(record.line))
}

fn all(store: &Store, id: &JobId) -> Result<u8, CliError> {
    let mut history: Vec<Record> =
        archived::former(store, id)?.into_iter().flat_map(|one| one.lines).collect();
    history.extend(store.record_history(id)?);
    if history.is_empty() {
        return Err(not_found(store, id));
    }
    // Unchanged: archived lines are compared with it.
    history.iter().for_each(|record| print::json_line(&record.raw));
    Ok(0)
}

/// A file that a person put into the queue has no record until it is claimed.
fn without_record(args: &ShowArgs, store: &Store, id: &JobId) -> Result<(), CliError> {
    if !places::is_at(store, id, &Place::Queued)? {
        return from_archive(args, store, id);
    }
    let now = SystemClock::start().now();
    let problem = match claim::read(store, id, true, now)?.0 {
        Content::Job(..) => None,
        Content::Invalid(problems) => Some(problems.to_string()),
        Content::Foreign(reason) => Some(reason.message),
    };
    let waiting = why_waiting(store, id);
    if args.json {
        print::json_pretty(&json!({
            "job_id": id, "status": Status::Queued, "place": Place::Queued, "waiting": waiting, "problem": problem,
        }));
        return Ok(());
    }
    let why = problem.into_iter().chain(waiting.map(|reason| format!("waits: {}", reason.message)));
    print::report(std::iter::once(format!("{id}  queued")).chain(why.map(|line| format!("  {line}"))));
    Ok(())
}

/// A job whose record gc has retired: as it was then.
fn from_archive(args: &ShowArgs, store: &Store, id: &JobId) -> Result<(), CliError> {
    let former = archived::former(store, id)?;
    let Some((file, record)) = former.last().and_then(|one| Some((&one.file, one.lines.last()?))) else {
        return Err(not_found(store, id));
    };
    if args.json {
        let mut document = as_json(store, record.clone());
        document["archived"] = json!(file);
        print::json_pretty(&document);
    } else {
        let note = format!("archived in {file}; its job file and logs are gone, and the id is free");
        print::lines(describe_archived(&record.line, &note));
    }
    Ok(())
}

/// Why a queued job does not start; computed, never written.
pub(super) fn why_waiting(store: &Store, id: &JobId) -> Option<Reason> {
    let now = SystemClock::start().now();
    let record = store.read_record(id).ok()?;
    if record.as_ref().is_some_and(|record| record.line.status != Status::Queued) {
        return None;
    }
    let parked = record.and_then(|record| record.line.waits_until(now));
    let Ok((Content::Job(parsed, _), _)) = claim::read(store, id, true, now) else { return None };
    match ready::judge(store, &parsed.job, parked, now) {
        Ok(Err(blocker)) => Some(blocker.reason()),
        _ => None,
    }
}

/// A job whose files are gone: none of them is named.
fn describe_archived(line: &RecordLine, note: &str) -> Vec<String> {
    let mut line = line.clone();
    if let Some(result) = &mut line.result {
        (result.log_path, result.error_report_path) = (None, None);
        result.metadata.remove("stream_path");
        if let Some(evidence) = result.metadata.get_mut("evidence").and_then(Value::as_object_mut) {
            evidence.retain(|key, _| !key.ends_with("_path"));
        }
    }
    rows(&line, "archived", Some(note))
}

fn describe(line: &RecordLine, note: Option<&str>) -> Vec<String> {
    rows(line, &format!("jobs/{}/{}.json", line.place, line.job_id), note)
}

fn rows(line: &RecordLine, place: &str, note: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("{}  {}  ({place})", line.job_id, line.status)];
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("  {name:<12} {value}"));
        }
    };
    row("tool", line.job.tool.as_ref().map(ToString::to_string));
    row("run", line.job.run_id.clone());
    row("workstream", line.job.workstream_id.clone());
    row("note", note.map(|note| named_root::in_commands(note).into_owned()));
    let not_before = line.not_before.map(|time| time.to_string());
    // The note may say so already.
    row("not before", not_before.filter(|time| !note.is_some_and(|note| note.contains(time))));
    if line.life > 1 {
        let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let attempts = print::counted(count(line.former.attempts), "attempt", "attempts");
        let lives = print::counted(count(line.former.lives), "life", "lives");
        row("former", Some(format!("{attempts} in {lives}")));
    }
    for attempt in &line.attempts {
        row(&format!("attempt {}", attempt.attempt), Some(describe_attempt(attempt)));
    }
    if let Some(result) = &line.result {
        row("reason", result.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.message)));
        row("log", result.log_path.clone());
        row("report", result.error_report_path.clone());
        row("kept", kept(&result.metadata));
        let has_details = line.error_report.as_ref().is_some_and(|report| !report.details.is_empty());
        for (name, text) in show_agent::rows(&result.metadata, has_details) {
            row(name, Some(text));
        }
    }
    for detail in line.error_report.iter().flat_map(|report| report.details.iter().take(10)) {
        row("", Some(detail.clone()));
    }
    lines
}

/// The processes that outlived the job because its `keep` names them.
fn kept(metadata: &Map<String, Value>) -> Option<String> {
    let named = metadata.get("kept")?.as_array()?;
    let one = |kept: &Value| Some(format!("{} {}", kept.get("pid")?, kept.get("name")?.as_str()?));
    let mut shown = named.iter().filter_map(one).collect::<Vec<_>>().join(", ");
    let count = metadata.get("kept_processes").and_then(Value::as_u64).unwrap_or(0);
    if count > named.len() as u64 {
        shown.push_str(&format!(" and {} more", count - named.len() as u64));
    }
    Some(shown)
}

fn describe_attempt(attempt: &Attempt) -> String {
    let outcome = attempt.outcome.map_or("running", |outcome| outcome.as_str());
    let mut text = format!("{outcome}, started {}", attempt.started_at);
    if let Some(ended) = attempt.ended_at {
        text.push_str(&format!(", took {:.2} s", ended.since(attempt.started_at).as_secs_f64()));
    }
    if let Some(code) = attempt.exit_code {
        text.push_str(&format!(", exit code {code}"));
    }
    if let Some(usage) = attempt.usage {
        let cpu = usage.cpu_user_s + usage.cpu_system_s;
        text.push_str(&format!(", cpu {cpu:.2} s, memory {} KiB", usage.max_rss_bytes / 1024));
    }
    text
}
