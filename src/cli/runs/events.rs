//! `engine runs events`: prints the events of a run, past and live.

use std::time::Duration;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::print::{self, Reader};
use crate::cli::{run_text, scrub};
use crate::clock::{Clock, SystemClock};
use crate::job::RunManifest;
use crate::store::journal::follow::Follower;
use crate::store::{Store, journal};
use crate::view::run::events::{RunEvent, Teller};
use crate::view::run::status::RunStatus;
use crate::view::run::{self, Depth};

/// How long a follower rests.
const REST: Duration = Duration::from_millis(50);

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
    let mut teller = Teller::new(&manifest);
    let mut follower = Follower::start(store, Some(manifest.created_at))?;
    loop {
        // Looked at before the journal is read: what it ended with is then among the lines.
        let is_over = !args.follow || is_at_rest(store, &manifest)?;
        let mut printed = Ok(());
        follower.more(store, &mut |block| {
            if printed.is_ok() {
                printed = print::bytes(text(store, &mut teller, block, args.json).as_bytes());
            }
        })?;
        if printed.is_err() || is_over || print::wait(REST) == Reader::Gone {
            return Ok(0);
        }
    }
}

fn is_at_rest(store: &Store, manifest: &RunManifest) -> Result<bool, CliError> {
    let facts = run::read(store, manifest.clone(), Depth::Status, SystemClock::start().now())?;
    Ok(RunStatus::of(&facts).is_at_rest())
}

fn text(store: &Store, teller: &mut Teller, block: &[u8], json: bool) -> String {
    let events = journal::parse(block).flat_map(|line| teller.tell(store, &line));
    let line = |event: RunEvent| match json {
        true => scrub::json(&serde_json::to_string(&event).unwrap_or_default()).into_owned() + "\n",
        false => scrub::line(&run_text::event(&event)) + "\n",
    };
    events.map(line).collect()
}
