//! `engine runs`: runs of workstreams. One file for each of its verbs.

mod cancel;
mod clean;
mod events;
mod list;
pub(super) mod merge;
mod quarantine;
mod report;
pub(super) mod show;

use clap::{Args, Subcommand};

use super::error::CliError;
use super::global::Global;
use super::root;

/// `engine runs`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs list\n  engine runs show last\n  engine runs show last --json | jq .workstreams[0].reason\n  \
    engine runs events last --follow\n  engine runs merge last"
)]
pub struct RunsArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: RunsVerb,
}

/// The verbs of `engine runs`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum RunsVerb {
    /// List runs, the newest first
    List(list::RunsListArgs),
    /// Show one run: its workstreams, their steps, and what to do next
    Show(show::RunsShowArgs),
    /// Report a run to others: as Markdown, a web page, or test results
    Report(report::RunsReportArgs),
    /// Print the events of a run, past and live
    Events(events::RunsEventsArgs),
    /// Cancel what waits of a run, and end what runs
    Cancel(cancel::RunsCancelArgs),
    /// Say that nothing of a run may be used
    Quarantine(quarantine::RunsQuarantineArgs),
    /// Merge what a run has changed into a branch of yours
    Merge(merge::RunsMergeArgs),
    /// Remove what ended runs left in the repository
    Clean(clean::RunsCleanArgs),
}

/// Does what was asked.
pub(super) fn run(args: &RunsArgs, global: &Global) -> Result<u8, CliError> {
    let store = match &args.verb {
        RunsVerb::Cancel(_) | RunsVerb::Quarantine(_) | RunsVerb::Merge(_) | RunsVerb::Clean(_) => {
            root::to_change(global)?
        }
        RunsVerb::List(_) | RunsVerb::Show(_) | RunsVerb::Report(_) | RunsVerb::Events(_) => {
            root::to_read(global)?
        }
    };
    match &args.verb {
        RunsVerb::List(args) => list::run(&store, args),
        RunsVerb::Show(args) => show::run(&store, args),
        RunsVerb::Report(args) => report::run(&store, args),
        RunsVerb::Events(args) => events::run(&store, args),
        RunsVerb::Cancel(args) => cancel::run(&store, args),
        RunsVerb::Quarantine(args) => quarantine::run(&store, args),
        RunsVerb::Merge(args) => merge::run(&store, args),
        RunsVerb::Clean(args) => clean::run(&store, args),
    }
}
