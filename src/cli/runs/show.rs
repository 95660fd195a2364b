//! `engine runs show`: everything about one run, and what to do next.

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::{print, run_text};
use crate::clock::{Clock, SystemClock};
use crate::store::Store;
use crate::view::run::document::document;
use crate::view::run::{self, Depth};

/// `engine runs show`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine runs show last\n  engine runs show last --json | jq .metrics")]
pub struct RunsShowArgs {
    /// The run, or `last`
    pub run: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Shows the run; 1 if there is none.
pub(super) fn run(store: &Store, args: &RunsShowArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let facts = run::read(store, manifest, Depth::Everything, SystemClock::start().now())?;
    let document = document(&facts);
    if args.json {
        print::json_pretty(&document);
    } else {
        print::report(run_text::describe(&document));
    }
    Ok(0)
}
