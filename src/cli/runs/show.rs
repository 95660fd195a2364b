//! `engine runs show`: everything about one run, and what to do next.

use clap::Args;

use super::merge::is_merged;
use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::run_next::{Merged, next_of_run};
use crate::cli::{print, run_text};
use crate::clock::{Clock, SystemClock};
use crate::job::RunManifest;
use crate::store::Store;
use crate::view::run::document::{RunDocument, document};
use crate::view::run::status::RunStatus;
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

/// Whether a branch of the user has all that the run has changed.
pub(crate) fn merged(run: &RunDocument, repo: &str) -> Merged {
    let commit = match (&run.integration, run.workstreams.as_slice()) {
        (Some(integration), _) => integration.commit.as_deref(),
        (None, [one]) => one.head.as_deref(),
        (None, _) => None,
    };
    let commit = commit.filter(|_| run.status == RunStatus::Succeeded);
    match commit.is_some_and(|commit| is_merged(repo, commit)) {
        true => Merged::Yes,
        false => Merged::No,
    }
}

/// Shows the run; 1 if there is none.
pub(super) fn run(store: &Store, args: &RunsShowArgs) -> Result<u8, CliError> {
    let (document, merged) = whole(store, named(store, &args.run)?)?;
    if args.json {
        print::json_pretty(&document);
    } else {
        print::report(run_text::describe(&document, merged));
    }
    Ok(0)
}

/// The document of a run with what is next, and whether it is merged.
pub(super) fn whole(store: &Store, manifest: RunManifest) -> Result<(RunDocument, Merged), CliError> {
    let repo = manifest.repo.clone();
    let facts = run::read(store, manifest, Depth::Everything, SystemClock::start().now())?;
    let mut document = document(&facts);
    let merged = merged(&document, &repo);
    document.next = next_of_run(&document, merged);
    Ok((document, merged))
}
