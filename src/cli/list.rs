//! `engine list`: jobs and how they ended, the newest first.

use serde_json::json;

use super::args::{Global, ListArgs};
use super::error::CliError;
use super::log::runner_is_gone;
use super::{print, root};
use crate::clock::Timestamp;
use crate::fs;
use crate::job::record::JobSummary;
use crate::job::{JobId, Place, RecordLine, Status};
use crate::queue::attempt::{summary, unknown_summary};
use crate::queue::claim::{self, Content};
use crate::queue::places;
use crate::store::Store;

struct Row {
    id: JobId,
    at: Timestamp,
    status: Status,
    place: Place,
    job: JobSummary,
    outcome: Option<&'static str>,
    reason: Option<String>,
    attempts: u32,
}

/// Lists jobs; a record that can not be read is named on standard error.
pub fn run(args: &ListArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    if args.archived {
        return super::archived::list(args, &store);
    }
    let mut rows = recorded(&store)?;
    rows.extend(put_there(&store, &rows)?);
    rows.retain(|row| args.state.is_none_or(|state| state.status() == row.status));
    rows.retain(|row| args.run.as_ref().is_none_or(|run| row.job.run_id.as_ref() == Some(run)));
    rows.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    if args.json {
        rows.iter().for_each(|row| print::json_line(&as_json(row)));
        return Ok(0);
    }
    if rows.is_empty() {
        return Ok(0);
    }
    let mut table = vec![["ID", "STATUS", "TOOL", "TRIES", "AT", "WHY"].map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(cells));
    print::table(&table);
    Ok(0)
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.status.to_string(),
        row.job.tool.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        row.attempts.to_string(),
        row.at.to_string(),
        row.reason.as_deref().map(print::plain).unwrap_or_default(),
    ]
}

fn as_json(row: &Row) -> serde_json::Value {
    json!({
        "job_id": row.id, "status": row.status, "place": row.place, "at": row.at, "tool": row.job.tool,
        "run_id": row.job.run_id, "workstream_id": row.job.workstream_id, "attempts": row.attempts,
        "outcome": row.outcome, "reason_code": row.reason,
    })
}

fn recorded(store: &Store) -> Result<Vec<Row>, CliError> {
    let mut rows = Vec::new();
    for id in store.recorded_ids()? {
        let line = match store.read_record(&id) {
            Ok(Some(record)) => record.line,
            Ok(None) => continue,
            Err(error) => {
                CliError::from(error).print(true);
                continue;
            }
        };
        // A free id: nothing was ever run, and nothing waits.
        if line.is_untouched() && !fs::exists(&store.job_file(&Place::Queued, &id))? {
            continue;
        }
        let last = line.attempts.last();
        rows.push(Row {
            at: line.at,
            status: line.status,
            outcome: last.and_then(|attempt| attempt.outcome).map(crate::job::Outcome::as_str),
            reason: why(store, &line),
            attempts: line.next_attempt() - 1,
            place: line.place,
            job: line.job,
            id,
        });
    }
    Ok(rows)
}

/// The word for what a person should know: why the last attempt ended so, or that nobody ends it any more.
fn why(store: &Store, line: &RecordLine) -> Option<String> {
    if line.open_attempt().is_some_and(|attempt| runner_is_gone(store, attempt)) {
        return Some("runner_gone".to_owned());
    }
    Some(line.attempts.last()?.reason.as_ref()?.code.clone())
}

/// Job files that a person put into the queue.
fn put_there(store: &Store, known: &[Row]) -> Result<Vec<Row>, CliError> {
    let known: std::collections::BTreeSet<&str> = known.iter().map(|row| row.id.as_str()).collect();
    let mut rows = Vec::new();
    for id in places::ids(store, &Place::Queued)? {
        if known.contains(id.as_str()) {
            continue;
        }
        let path = store.job_file(&Place::Queued, &id);
        let modified = std::fs::metadata(&path).ok().and_then(|metadata| Timestamp::modified(&metadata));
        let at = modified.unwrap_or(Timestamp::from_millis(0));
        let (job, reason) = match claim::read(store, &id, true, at) {
            Ok((Content::Job(parsed, bytes), _)) => (summary(&parsed.job, &bytes), None),
            Ok((Content::Invalid(_), _)) => (unknown_summary(), Some("invalid_job_file".to_owned())),
            Ok((Content::Foreign(reason), _)) => (unknown_summary(), Some(reason.code)),
            Err(_) => continue,
        };
        rows.push(Row {
            id,
            at,
            status: Status::Queued,
            place: Place::Queued,
            job,
            outcome: None,
            reason,
            attempts: 0,
        });
    }
    Ok(rows)
}
