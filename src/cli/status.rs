//! `engine status`: prints job counts by state, running jobs, and problems.

use clap::Args;
use serde_json::{Value, json};

use super::error::CliError;
use super::global::Global;
use super::jobs::note_of;
use super::{print, root};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::job::{Reason, SCHEMA_VERSION};
use crate::policy::dag;
use crate::runner::WorkTrees;
use crate::store::Store;
use crate::view::listing::Row;
use crate::view::overview::{self, Files, Overview};
use crate::view::runner::{self, Runner};

/// `engine status`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine status\n  engine status --json | jq .counts.queued\n  watch -n1 engine status\n\n\
    The time it takes does not grow with the number of finished jobs: their counts are kept in state/cache/, which may\n\
    be deleted at any time and is then made again from the records."
)]
pub struct StatusArgs {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The most files that are named.
const NAMED: usize = 10;

/// Shows the queue at a glance.
pub fn run(args: &StatusArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let clock = SystemClock::start();
    let overview = overview::look(&store, &clock, &WorkTrees(&store))?;
    if let Some(rebuilt) = &overview.counts.rebuilt {
        tracing::debug!("counted {} records again: {}", rebuilt.records, rebuilt.why);
    }
    for (id, problem) in &overview.counts.unreadable {
        print::note(&format!("error: {id}: {problem}"));
    }
    if args.json {
        print::json_pretty(&as_json(&store, &overview, clock.now()));
    } else {
        print::report(describe(&store, &overview, clock.now()));
    }
    Ok(0)
}

fn as_json(store: &Store, overview: &Overview, now: Timestamp) -> Value {
    let totals = overview.counts.totals;
    let waiting = overview.waiting.map(|waiting| {
        json!({
            "hold": waiting.hold, "time": waiting.time, "dependency": waiting.dependency, "lock": waiting.lock,
        })
    });
    let foreign: Vec<Value> =
        overview.foreign.iter().map(|file| json!({ "file": file.name, "reason": file.reason })).collect();
    let running: Vec<Value> = overview.running.iter().map(|row| running_as_json(store, row)).collect();
    let files = |files: &[(String, Reason)]| -> Vec<Value> {
        files.iter().map(|(file, reason)| json!({ "file": file, "reason": reason })).collect()
    };
    let unreadable: Vec<Value> = overview
        .counts
        .unreadable
        .iter()
        .map(|(id, problem)| json!({ "job_id": id, "problem": problem }))
        .collect();
    json!({
        "schema_version": SCHEMA_VERSION, "root": store.root(), "at": now,
        "counts": {
            "queued": overview.queued, "running": overview.running.len(), "succeeded": totals.succeeded,
            "failed": totals.failed, "canceled": totals.canceled, "quarantined": totals.quarantined,
        },
        "waiting": waiting, "running": running, "held": overview.held,
        "accepted": store.is_accepted(),
        "low_space": overview.low_space.as_ref().map(ToString::to_string),
        "left_alone": files(&overview.left_alone), "unreadable": unreadable, "foreign": foreign,
        "refused": overview.files.as_ref().map(|looked| files(&looked.refused)),
        "circles": overview.files.as_ref().map(|looked| &looked.circles),
    })
}

fn running_as_json(store: &Store, row: &Row) -> Value {
    let attempt = row.attempt.as_ref();
    json!({
        "job_id": row.id, "tool": row.job.tool, "run_id": row.job.run_id,
        "attempt": attempt.map(|attempt| attempt.attempt), "since": attempt.map(|attempt| attempt.started_at),
        "host": attempt.map(|attempt| &attempt.host), "pid": attempt.map(|attempt| attempt.pid),
        "runner_gone": runner(store, row) == Runner::Gone,
        "runner_stopped": runner(store, row) == Runner::Stopped,
    })
}

/// A file in `running/` of which no record tells an attempt has no runner either.
fn runner(store: &Store, row: &Row) -> Runner {
    row.attempt.as_ref().map_or(Runner::Gone, |attempt| runner::probe(store, &row.id, attempt))
}

fn describe(store: &Store, overview: &Overview, now: Timestamp) -> Vec<String> {
    let totals = overview.counts.totals;
    let mut lines = Vec::new();
    let mut row = |name: &str, count: u64, note: &str| {
        lines.push(format!("{name:<12}{count:>8}  {note}").trim_end().to_owned());
    };
    row("queued", overview.queued as u64, &waiting(overview));
    row("running", overview.running.len() as u64, "");
    row("succeeded", totals.succeeded, "");
    row("failed", totals.failed, "");
    row("canceled", totals.canceled, "");
    row("quarantined", totals.quarantined, "");
    if !overview.running.is_empty() {
        lines.push(String::new());
    }
    lines.extend(overview.running.iter().map(|job| describe_running(store, job, now)));
    for problem in problems(store, overview) {
        lines.extend([String::new(), problem]);
    }
    lines
}

fn waiting(overview: &Overview) -> String {
    let Some(waiting) = overview.waiting else { return String::new() };
    let parts = [
        (waiting.hold, "held"),
        (waiting.time, "for a time"),
        (waiting.dependency, "for another job"),
        (waiting.lock, "for a lock"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { String::new() } else { format!("waiting: {}", parts.join(", ")) }
}

fn describe_running(store: &Store, row: &Row, now: Timestamp) -> String {
    let tool = row.job.tool.as_ref().map_or("-", crate::job::ToolId::as_str);
    let pid = row.attempt.as_ref().map_or(0, |attempt| attempt.pid);
    let note = note_of(runner(store, row), pid).map_or_else(String::new, |note| format!("  {note}"));
    match &row.attempt {
        Some(attempt) => format!(
            "{}  {tool}  attempt {}  for {}  {}:{}{note}",
            row.id,
            attempt.attempt,
            duration(now.since(attempt.started_at).as_secs()),
            attempt.host,
            attempt.pid,
        ),
        None => format!("{}  {tool}{note}", row.id),
    }
}

pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn problems(store: &Store, overview: &Overview) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(error) = store.not_accepted() {
        lines.push(format!("nothing is started: {error}: {}", error.hint().unwrap_or_default()));
    }
    if overview.held {
        lines.push("the queue is held by state/control/HOLD: nothing is started".to_owned());
    }
    if let Some(error) = &overview.low_space {
        lines.push(format!("nothing is started: {error}"));
    }
    match &overview.files {
        Some(files) => lines.extend(of_files(files)),
        None => lines.push(format!(
            "{} jobs are queued: not looked for circles of dependencies and files that the next claim refuses (engine list --state queued)",
            overview.queued
        )),
    }
    if let Some(first) = overview.foreign.first() {
        let (name, why) = (&first.name, &first.reason.message);
        lines.push(match overview.foreign.len() {
            1 => format!("jobs/quarantined/{name} is no job: {why}"),
            count => format!("{count} files in jobs/quarantined are no jobs (engine list --state quarantined), the last: {name}: {why}"),
        });
    }
    lines.extend(
        overview.left_alone.iter().map(|(file, reason)| format!("{file} is left alone: {}", reason.message)),
    );
    lines
}

fn of_files(Files { circles, refused }: &Files) -> Vec<String> {
    let mut lines = Vec::new();
    for circle in circles {
        lines.push(format!("nothing of this runs, the dependencies run in a circle: {}", dag::shown(circle)));
    }
    lines.extend(
        refused
            .iter()
            .take(NAMED)
            .map(|(file, reason)| format!("{file} is refused by the next claim: {}", reason.message)),
    );
    if refused.len() > NAMED {
        let more = refused.len() - NAMED;
        lines.push(format!("{more} more files in jobs/queued are refused (engine list --state queued)"));
    }
    lines
}
