//! Shows the jobs that gc retired.
//!
//! A record that is in the archive and still there (a crash between the two, or a requeue after it) is not retired: it is
//! shown as the job that it is, and not here.

use std::collections::BTreeMap;

use serde_json::json;

use super::error::CliError;
use super::global::Global;
use super::list::ListArgs;
use super::{print, root};
use crate::clock::{SystemClock, Timestamp};
use crate::job::{Code, JobId, Outcome, RecordLine};
use crate::store::archive::{self, Archived};
use crate::store::{Record, Store};

/// The retired records of an id, the last one at the end.
pub(super) fn former(store: &Store, id: &JobId) -> Result<Vec<Archived>, CliError> {
    let mut found = archive::find(store, id)?;
    let begun = store.record_begun(id)?;
    found.retain(|one| one.lines.first().map(|first| first.line.at) != begun);
    Ok(found)
}

struct Row {
    seq: u64,
    at: Timestamp,
    line: Short,
    file: String,
}

/// What a row shows: archives may hold more records than fit into memory whole.
struct Short {
    status: &'static str,
    tool: Option<String>,
    run_id: Option<String>,
    workstream_id: Option<String>,
    parent: Option<JobId>,
    attempts: u32,
    outcome: Option<Outcome>,
    reason: Option<Code>,
}

/// `engine list --archived`: the jobs that were retired, the one that ended last first.
pub(super) fn list(args: &ListArgs, global: &Global) -> Result<u8, CliError> {
    let store = &root::to_read(global)?;
    let mut rows: BTreeMap<(JobId, Timestamp), Row> = BTreeMap::new();
    let since = args.since.map(|since| since.resolve(&SystemClock::start()));
    archive::each_last(store, &mut |file, begun, record| add(&mut rows, args, since, file, begun, record))?;
    let mut rows: Vec<(JobId, Row)> = rows
        .into_iter()
        .filter(|((id, begun), _)| store.record_begun(id).ok().flatten() != Some(*begun))
        .map(|((id, _), row)| (id, row))
        .collect();
    rows.sort_by(|(a_id, a), (b_id, b)| b.at.cmp(&a.at).then_with(|| a_id.cmp(b_id)));
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    if args.json {
        rows.iter().for_each(|(id, row)| print::json_line(&as_json(id, row)));
        return Ok(0);
    }
    if !rows.is_empty() {
        let mut table = vec![["ID", "STATUS", "TOOL", "TRIES", "AT", "WHY"].map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(|(id, row)| cells(id, row)));
        print::table(&table);
    }
    Ok(0)
}

/// Keeps the last line of a record, however often it was archived.
fn add(
    rows: &mut BTreeMap<(JobId, Timestamp), Row>,
    args: &ListArgs,
    since: Option<Timestamp>,
    file: &str,
    begun: Timestamp,
    record: Record,
) {
    let line = record.line;
    let is = |wanted: &Option<String>, value: Option<&str>| wanted.is_none() || wanted.as_deref() == value;
    let asked = args.state.is_none_or(|state| state.status() == Some(line.status))
        && (args.steps || line.job.parent.is_none())
        && is(&args.run, line.job.run_id.as_deref())
        && is(&args.workstream, line.job.workstream_id.as_deref())
        && is(&args.tool, line.job.tool.as_ref().map(crate::job::ToolId::as_str))
        && since.is_none_or(|since| line.at >= since);
    let key = (line.job_id.clone(), begun);
    if asked && rows.get(&key).is_none_or(|row| row.seq < line.seq) {
        rows.insert(key, Row { seq: line.seq, at: line.at, line: short(line), file: file.to_owned() });
    }
}

fn short(line: RecordLine) -> Short {
    let attempts = line.next_attempt() - 1;
    let last = line.attempts.into_iter().last();
    Short {
        status: line.status.as_str(),
        tool: line.job.tool.map(|tool| tool.to_string()),
        run_id: line.job.run_id,
        workstream_id: line.job.workstream_id,
        parent: line.job.parent,
        attempts,
        outcome: last.as_ref().and_then(|attempt| attempt.outcome),
        reason: last.and_then(|attempt| attempt.reason).map(|reason| reason.code),
    }
}

fn cells(id: &JobId, row: &Row) -> Vec<String> {
    vec![
        id.to_string(),
        row.line.status.to_owned(),
        row.line.tool.clone().unwrap_or_else(|| "-".to_owned()),
        row.line.attempts.to_string(),
        row.at.to_string(),
        row.line.reason.as_ref().map_or_else(String::new, ToString::to_string),
    ]
}

fn as_json(id: &JobId, row: &Row) -> serde_json::Value {
    json!({
        "job_id": id, "status": row.line.status, "archived": row.file, "at": row.at, "tool": row.line.tool,
        "run_id": row.line.run_id, "workstream_id": row.line.workstream_id, "parent": row.line.parent,
        "attempts": row.line.attempts,
        "outcome": row.line.outcome, "reason_code": row.line.reason,
    })
}
