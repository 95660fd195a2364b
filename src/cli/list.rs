//! `engine list`: jobs and how they ended, the newest first.

use serde_json::json;

use super::error::CliError;
use super::global::Global;
use super::{print, root};
use crate::clock::{Clock, SystemClock};
use crate::job::{Code, Outcome, Place, Status};
use crate::queue::foreign::ForeignFile;
use crate::runner::WorkTrees;
use crate::store::Store;
use crate::view::listing::{self, Parts, Row, State, Wanted};
use crate::view::runner::{self, Runner};
use clap::{Args, ValueEnum};

/// `engine list`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine list --limit 20\n  engine list --state quarantined --since 24h\n  \
    engine list --run nightly --json | jq -r .job_id"
)]
pub struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateFilter>,
    /// Only jobs of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only jobs of this adapter
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
    /// Only jobs of this workstream
    #[arg(long, value_name = "WORKSTREAM")]
    pub workstream: Option<String>,
    /// Only jobs that changed since: a time such as 2026-11-21T10:00:00Z, or 90s, 30m, 2h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = super::since::Since::parse)]
    pub since: Option<super::since::Since>,
    /// Only the newest so many (default: all)
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Also the steps of workstreams, and other jobs with a `parent`
    #[arg(long)]
    pub steps: bool,
    /// List the jobs that gc retired instead
    #[arg(long)]
    pub archived: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// A state to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateFilter {
    Queued,
    /// Queued, and something keeps it from starting
    Waiting,
    Running,
    Succeeded,
    Failed,
    Canceled,
    Quarantined,
}

impl StateFilter {
    /// The status; `None` for a computed state.
    #[must_use]
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Waiting => None,
            Self::Queued => Some(Status::Queued),
            Self::Running => Some(Status::Running),
            Self::Succeeded => Some(Status::Succeeded),
            Self::Failed => Some(Status::Failed),
            Self::Canceled => Some(Status::Canceled),
            Self::Quarantined => Some(Status::Quarantined),
        }
    }
}

/// Lists jobs; a record that cannot be read is named on standard error.
pub(super) fn run(args: &ListArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let clock = SystemClock::start();
    let wanted = Wanted {
        state: args.state.map(state),
        run: args.run.clone(),
        workstream: args.workstream.clone(),
        tool: args.tool.clone(),
        parts: if args.steps { Parts::Beside } else { Parts::None },
        since: args.since.map(|since| since.resolve(&clock)),
        limit: args.limit,
    };
    let listed = listing::list(&store, clock.now(), &wanted, &WorkTrees(&store))?;
    for error in listed.unreadable {
        CliError::from(error).print(true);
    }
    if args.json {
        let jobs = listed.rows.iter().map(|row| as_json(&store, row));
        let lines = jobs.chain(listed.foreign.iter().map(foreign_as_json)).map(|line| format!("{line}\n"));
        print::json(&lines.collect::<String>());
        return Ok(0);
    }
    if listed.rows.is_empty() && listed.foreign.is_empty() {
        return Ok(0);
    }
    let mut table = vec![["ID", "STATUS", "TOOL", "TRIES", "AT", "WHY"].map(str::to_owned).to_vec()];
    table.extend(listed.rows.iter().map(|row| cells(&store, row)));
    table.extend(listed.foreign.iter().map(foreign_cells));
    print::table(&table);
    Ok(0)
}

/// A file that is no job has neither a tool nor attempts.
fn foreign_cells(file: &ForeignFile) -> Vec<String> {
    let ForeignFile { name, at, reason } = file;
    [name, Status::Quarantined.as_str(), "-", "0", &at.to_string(), &reason.code.as_str()]
        .map(str::to_owned)
        .to_vec()
}

fn foreign_as_json(file: &ForeignFile) -> serde_json::Value {
    json!({
        "job_id": null, "file": file.name, "status": Status::Quarantined, "place": Place::Quarantined,
        "at": file.at, "reason_code": file.reason.code, "reason": file.reason,
    })
}

fn state(filter: StateFilter) -> State {
    filter.status().map_or(State::Waiting, State::Is)
}

fn cells(store: &Store, row: &Row) -> Vec<String> {
    let waiting = row.waiting.as_ref().map(|reason| reason.code.clone());
    vec![
        row.id.to_string(),
        row.status.to_string(),
        row.job.tool.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        row.attempts.to_string(),
        row.at.to_string(),
        waiting.or_else(|| why(store, row)).map_or_else(String::new, |code| code.to_string()),
    ]
}

pub(super) fn as_json(store: &Store, row: &Row) -> serde_json::Value {
    let outcome = row.attempt.as_ref().and_then(|attempt| attempt.outcome).map(Outcome::as_str);
    json!({
        "job_id": row.id, "status": row.status, "place": row.place, "at": row.at, "tool": row.job.tool,
        "run_id": row.job.run_id, "workstream_id": row.job.workstream_id, "parent": row.job.parent,
        "attempts": row.attempts,
        "outcome": outcome, "reason_code": why(store, row), "waiting": row.waiting,
    })
}

/// The word for what a person should know: why the last attempt ended so, or that nothing ends it as things are.
pub(super) fn why(store: &Store, row: &Row) -> Option<Code> {
    if row.status == Status::Running {
        let attempt = row.attempt.as_ref();
        match attempt.map_or(Runner::Gone, |attempt| runner::probe(store, &row.id, attempt)) {
            Runner::Gone => return Some(Code::RunnerGone),
            Runner::Stopped => return Some(Code::RunnerStopped),
            Runner::Alive | Runner::Elsewhere | Runner::None => {}
        }
    }
    let reason = row.attempt.as_ref().and_then(|attempt| attempt.reason.as_ref());
    row.problem.clone().or_else(|| reason.map(|reason| reason.code.clone()))
}
