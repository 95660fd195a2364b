//! `engine runs list`: runs and how they ended, the newest first.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::print;
use crate::clock::{Clock, SystemClock};
use crate::job::{Code, SCHEMA_VERSION};
use crate::store::{Store, run_dir};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self, Depth, RunFacts, WorkstreamFacts, why};

/// `engine runs list`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs list\n  engine runs list --json | jq -r 'select(.status == \"failed\") | .run_id'"
)]
pub struct RunsListArgs {
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// Lists the runs; a manifest that cannot be read is named on standard error.
pub(super) fn run(store: &Store, args: &RunsListArgs) -> Result<u8, CliError> {
    let listed = run_dir::list(store)?;
    for (_, error) in listed.unreadable {
        CliError::from(error).print(true);
    }
    let now = SystemClock::start().now();
    let mut runs = Vec::new();
    for manifest in listed.runs {
        runs.push(run::read(store, manifest, Depth::Status, now)?);
    }
    if args.json {
        print::json(&runs.iter().map(|facts| format!("{}\n", as_json(facts))).collect::<String>());
        return Ok(0);
    }
    if runs.is_empty() {
        return Ok(0);
    }
    let mut table = vec![["RUN", "STATUS", "CREATED", "WORKSTREAMS", "WHY"].map(str::to_owned).to_vec()];
    table.extend(runs.iter().map(cells));
    print::table(&table);
    Ok(0)
}

fn as_json(facts: &RunFacts) -> Value {
    let one = |workstream: &WorkstreamFacts| {
        json!({
            "ws_id": workstream.ordered.ws_id, "job_id": workstream.id,
            "status": WorkstreamStatus::of(workstream), "reason_code": code(facts, workstream),
        })
    };
    let workstreams: Vec<Value> = facts.workstreams.iter().map(one).collect();
    json!({
        "schema_version": SCHEMA_VERSION, "run_id": facts.manifest.run_id, "status": RunStatus::of(facts),
        "created_at": facts.manifest.created_at, "repo": facts.manifest.repo, "base": facts.manifest.base,
        "quarantine": facts.quarantine, "workstreams": workstreams,
    })
}

fn cells(facts: &RunFacts) -> Vec<String> {
    let statuses: Vec<WorkstreamStatus> = facts.workstreams.iter().map(WorkstreamStatus::of).collect();
    let done = statuses.iter().filter(|status| **status == WorkstreamStatus::Succeeded).count();
    let codes = facts.jobs().find_map(|one| code(facts, one)).map(|code| code.to_string());
    let word = facts.quarantine.as_ref().filter(|word| word.acknowledged_at.is_none());
    let why = word.map(|word| format!("quarantined: {}", word.reason)).or(codes);
    vec![
        facts.manifest.run_id.to_string(),
        RunStatus::of(facts).to_string(),
        facts.manifest.created_at.to_string(),
        format!("{done} of {}", statuses.len()),
        why.unwrap_or_default(),
    ]
}

/// The word for why a workstream did not succeed, or waits.
fn code(facts: &RunFacts, one: &WorkstreamFacts) -> Option<Code> {
    why::reason(facts, one, WorkstreamStatus::of(one)).map(|reason| reason.code)
}
