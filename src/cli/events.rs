//! `engine events`: prints the events of the journal, past and live.

use std::time::Duration;

use clap::Args;

use super::error::CliError;
use super::global::Global;
use super::jobs::known_id;
use super::print::Reader;
use super::since::Since;
use super::{print, root, scrub};
use crate::clock::{SystemClock, Timestamp};
use crate::job::event::{JournalLine, Whereabouts, short};
use crate::store::journal;
use crate::store::journal::follow::Follower;

/// How long a follower rests.
const REST: Duration = Duration::from_millis(50);

/// `engine events`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine events --since 2h\n  engine events --follow --json | jq -c 'select(.outcome == \"failed\")'\n  \
    engine events --job nightly\n\n\
    A line may come twice or late: (job_id, seq) is its key, and `engine show ID` shows the state of the job."
)]
pub struct EventsArgs {
    /// Keep printing new events
    #[arg(short, long)]
    pub follow: bool,
    /// Only what happened since: a time such as 2026-11-21T10:00:00Z, or 90s, 30m, 2h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Only this job
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// Only jobs of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Print the lines of the journal as they are (JSON Lines)
    #[arg(long)]
    pub json: bool,
}

/// Prints the journal, oldest first; with `--follow` until its reader is gone.
pub fn run(args: &EventsArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let filter = Filter {
        since: args.since.map(|since| since.resolve(&SystemClock::start())),
        job: args.job.as_deref().map(known_id).transpose()?.map(|id| id.to_string()),
        run: args.run.as_deref().map(short),
    };
    let mut follower = Follower::start(&store, filter.since)?;
    loop {
        let mut printed = Ok(());
        follower.more(&store, &mut |block| {
            if printed.is_ok() {
                printed = print::bytes(text(block, &filter, args.json).as_bytes());
            }
        })?;
        if printed.is_err() || !args.follow || print::wait(REST) == Reader::Gone {
            return Ok(0);
        }
    }
}

struct Filter {
    since: Option<Timestamp>,
    job: Option<String>,
    run: Option<String>,
}

impl Filter {
    fn wants(&self, line: &JournalLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && self.job.as_ref().is_none_or(|job| line.job_id.as_str() == job)
            && self.run.as_ref().is_none_or(|run| line.run_id.as_ref() == Some(run))
    }
}

/// The wanted lines of a block; what is no line of a journal is left out.
fn text(block: &[u8], filter: &Filter, json: bool) -> String {
    let mut text = String::new();
    for raw in block.split_inclusive(|b| *b == b'\n') {
        for line in journal::parse(raw).filter(|line| filter.wants(line)) {
            if json {
                text.push_str(&scrub::json(&String::from_utf8_lossy(raw)));
            } else {
                text.push_str(&describe(&line));
            }
        }
    }
    text
}

fn describe(line: &JournalLine) -> String {
    let mut text = format!("{}  {:<11}  {}", line.at, line.status, line.job_id);
    let mut part = |part: String| {
        text.push_str("  ");
        text.push_str(&part);
    };
    if let Some(attempt) = line.attempt {
        part(format!("attempt {attempt}"));
    }
    if let Some(outcome) = line.outcome {
        part(outcome.to_string());
    }
    if let Some(reason) = &line.reason_code {
        part(reason.to_string());
    }
    if let Some(run) = &line.run_id {
        part(format!("run {run}"));
    }
    if let Whereabouts::Archive(_) = &line.place {
        part(format!("retired to {}", line.place));
    }
    scrub::line(&text) + "\n"
}
