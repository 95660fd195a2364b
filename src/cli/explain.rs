//! `engine explain`: explains why a job does not run, or how it ended. Reads only.

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::global::Global;
use super::jobs::{known_id, not_found};
use super::{print, root};
use crate::clock::{Clock, SystemClock};
use crate::job::Status;
use crate::runner::WorkTrees;
use crate::store::archived;
use crate::view::{explain, facts};

/// `engine explain`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine explain nightly\n  engine explain nightly --json | jq -r '.findings[].code'\n\n\
    Codes: ready behind priority_lent priority_aged waiting_hold waiting_time waiting_dependency waiting_after dependency_circle waiting_lock lock_slots_disagree low_space\n\
    invalid_job_file not_a_job job_file_changed job_file_missing job_file_not_trusted needs_recovery\n\
    running runner_gone runner_stopped running_elsewhere cancel_requested held ended escalated quarantined archived"
)]
pub struct ExplainArgs {
    /// The job
    pub id: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Explains the job; 1 if it does not exist.
pub(super) fn run(args: &ExplainArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let id = known_id(&args.id)?;
    let now = SystemClock::start().now();
    let (status, findings) = match facts::gather(&store, &id, now, &WorkTrees(&store))? {
        Some(facts) => {
            let status = facts.line.as_ref().map_or(Status::Queued, |line| line.status);
            (status, explain::explain(&facts))
        }
        None => {
            let retired = archived::last_of(&store, &id)?.ok_or_else(|| not_found(&store, &id))?;
            (retired.record.line.status, vec![explain::retired(&retired.record.line, &retired.file)])
        }
    };
    if args.json {
        print::json_pretty(&json!({
            "schema_version": 1, "job_id": id, "status": status, "at": now, "findings": findings,
        }));
        return Ok(0);
    }
    let mut lines = vec![format!("{id}  {status}")];
    for finding in &findings {
        lines.push(format!("  {}", finding.message));
        lines.extend(finding.hint.iter().map(|hint| format!("    -> {hint}")));
    }
    print::report(lines);
    Ok(0)
}
