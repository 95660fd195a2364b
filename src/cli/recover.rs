//! `engine recover`: completes jobs that a crash left unfinished, or declares them lost.

use serde_json::json;

use super::error::CliError;
use super::global::Global;
use super::{print, root};
use crate::clock::SystemClock;
use crate::queue::recovery::{self, Again, Options, Recovered, Report};
use crate::runner::end_left_overs;
use crate::store::boot;
use clap::Args;

/// `engine recover`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine recover                            after a crash; safe at any time\n  engine recover --host-is-dead build-7     for jobs that ran on a dead machine"
)]
pub struct RecoverArgs {
    /// Declare a machine dead, so that its running jobs can be declared lost
    #[arg(long, value_name = "HOST")]
    pub host_is_dead: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Recovers the whole root; 125 if some jobs could not be.
pub(super) fn run(args: &RecoverArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_change(global)?;
    let clock = SystemClock::start();
    let options = Options { host_is_dead: args.host_is_dead.clone(), again: Again::IfRepeatable };
    let mut end = end_left_overs(&store, &clock);
    let report = recovery::recover_all(&store, &clock, &options, &mut *end)?;
    if report.is_complete() {
        boot::remember(&store)?;
    }
    if args.json {
        print::json_pretty(&as_json(&report));
    } else {
        for (id, done) in &report.jobs {
            print::line(&format!("{id}: {}", describe(done)));
        }
        if report.jobs.is_empty() && report.foreign.is_empty() && report.failed.is_empty() && !global.quiet {
            print::note("nothing to recover");
        }
        for (name, reason) in &report.foreign {
            print::line(&format!("{name}: quarantined, {}", reason.message));
        }
    }
    for (id, error) in &report.failed {
        print::note(&format!("error: {id}: {error}"));
    }
    Ok(if report.failed.is_empty() { 0 } else { crate::runner::exit_status::ENGINE })
}

/// What was done for a job, for people.
pub(super) fn describe(done: &Recovered) -> String {
    match done {
        Recovered::Healthy => "nothing to do".to_owned(),
        Recovered::Alive => "running".to_owned(),
        Recovered::Moved(place) => format!("moved to jobs/{place}"),
        Recovered::Lost(place) => format!("its attempt is lost; now in jobs/{place}"),
        Recovered::Canceled(place) => format!("its attempt is lost, and it is canceled; now in jobs/{place}"),
        Recovered::Quarantined(reason) => format!("quarantined: {}", reason.message),
        Recovered::Elsewhere(host) => {
            format!(
                "was started on {host}, or in another container; `--host-is-dead {host}` declares it lost"
            )
        }
        Recovered::StillRunning(processes) => {
            format!("left alone: processes that are alive: {}", processes.join(", "))
        }
        Recovered::CannotTell(why) => {
            format!("left alone: cannot tell whether its attempt still runs: {why}")
        }
    }
}

/// The report as a document.
pub(super) fn as_json(report: &Report) -> serde_json::Value {
    let jobs: Vec<_> = report
        .jobs
        .iter()
        .map(|(id, done)| json!({ "job_id": id, "done": done.as_str(), "message": describe(done) }))
        .collect();
    let failed: Vec<_> =
        report.failed.iter().map(|(id, error)| json!({ "job_id": id, "error": error })).collect();
    let foreign: Vec<_> =
        report.foreign.iter().map(|(name, reason)| json!({ "file": name, "reason": reason })).collect();
    json!({
        "jobs": jobs, "failed": failed, "foreign": foreign,
        "temporary_files": report.temporary, "journal_lines": report.journal_lines,
    })
}
