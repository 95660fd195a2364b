//! `engine runs events`: prints the events of a run, past and live.

use std::time::Duration;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::print::{self, Reader};
use crate::cli::run_events::{self, Audience};
use crate::cli::{run_text, scrub};
use crate::clock::{Clock, SystemClock};
use crate::job::RunManifest;
use crate::store::{Store, run_dir};
use crate::view::run::events::RunEvent;
use crate::view::run::status::RunStatus;
use crate::view::run::stays::{Stays, stays};
use crate::view::run::{self, Depth, RunFacts};

/// `engine runs events`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs events last\n  engine runs events last --follow --json | jq -c 'select(.event == \"step_completed\")'\n\n\
    An event may come twice or late: (job_id, seq, event) is its key. With --follow the command ends when nothing of the\n\
    run can move any more."
)]
pub struct RunsEventsArgs {
    /// The run, or `last`
    pub run: String,
    /// Keep printing new events until the run is at rest
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// Prints the events, oldest first.
pub(super) fn run(store: &Store, args: &RunsEventsArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let mut printer = Printer { store, manifest: &manifest, args, kept: None };
    run_events::follow(store, &manifest, &mut printer)?;
    if let Some(why) = &printer.kept {
        print::note(why);
    }
    Ok(0)
}

struct Printer<'a> {
    store: &'a Store,
    manifest: &'a RunManifest,
    args: &'a RunsEventsArgs,
    /// Why nothing follows, though the run has not ended.
    kept: Option<String>,
}

impl Printer<'_> {
    fn facts(&self) -> Result<RunFacts, CliError> {
        let now = SystemClock::start().now();
        Ok(run::read(self.store, self.manifest.clone(), Depth::Status, now)?)
    }
}

impl Audience for Printer<'_> {
    fn is_over(&mut self) -> Result<bool, CliError> {
        if !self.args.follow {
            return Ok(true);
        }
        let facts = self.facts()?;
        // Only then: a process that makes a run keeps its directory until the jobs are in the queue.
        let is_kept = stays(&facts) == Some(Stays::NotQueued)
            && !run_dir::is_in_work(self.store, &self.manifest.run_id)
            && stays(&self.facts()?) == Some(Stays::NotQueued);
        if is_kept {
            let run = &self.manifest.run_id;
            let why =
                format!("nothing follows: jobs of the run are not in the queue: engine run --resume {run}");
            self.kept = Some(why);
        }
        Ok(is_kept || RunStatus::of(&facts).is_at_rest())
    }

    fn hear(&mut self, event: &RunEvent) -> Reader {
        match print::bytes(line(event, self.args.json).as_bytes()) {
            Ok(()) => Reader::There,
            Err(_) => Reader::Gone,
        }
    }

    fn rest(&mut self, time: Duration) -> Reader {
        print::wait(time)
    }
}

fn line(event: &RunEvent, json: bool) -> String {
    match json {
        true => scrub::json(&serde_json::to_string(event).unwrap_or_default()).into_owned() + "\n",
        false => scrub::line(&run_text::event(event)) + "\n",
    }
}
