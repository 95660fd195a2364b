//! `engine plan`: shows the order of workstreams and the reasons for it. Runs nothing and writes nothing.

mod document;
mod drawing;
mod planned;
mod text;

use std::path::PathBuf;

use clap::Args;

use super::error::{CliError, NO};
use super::global::{Global, environment};
use super::{print, root, workstream_settings, workstreams};
use crate::bundle::settings::{Fault, Flags, Resolved};
use crate::bundle::{Bundles, Finding, Refused};
use crate::clock::{Clock, SystemClock};
use crate::job::Problem;
use crate::store::Store;
use crate::workstream::estimate;
use planned::Planned;

/// `engine plan`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine plan                                    the order of workstreams, with reasons\n  \
    engine plan --max-workers 8 --json | jq .parallelism\n  engine plan --dot | dot -Tsvg > plan.svg\n\n\
    Exit status: 0 valid, 1 not."
)]
pub struct PlanArgs {
    /// Bundles: files, directories, `-` (default: PIPELINE_WORKSTREAM_DIR, else workstreams/)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How many workstreams at a time (default: `max_workers` of [workstreams])
    #[arg(long, visible_alias = "slots", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_workers: Option<u16>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print a graph for Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// Print a graph for Mermaid
    #[arg(long, conflicts_with_all = ["json", "dot"])]
    pub mermaid: bool,
}

/// Runs the command.
pub(super) fn run(args: &PlanArgs, global: &Global) -> Result<u8, CliError> {
    let found = root::find(global, None)?;
    let store = found.as_deref().map(Store::open_to_read).transpose()?;
    let settings = settings(args, store.as_ref(), global)?;
    let sources = workstreams::sources(&args.paths, global)?;
    let clock = SystemClock::start();
    let (settings, Bundles { bundles, warnings }) = match (settings, sources.read()) {
        (Ok(settings), Ok(read)) => (settings, read),
        (settings, read) => {
            refuse(args, settings.err(), read);
            return Ok(NO);
        }
    };
    let read = clock.monotonic();
    let planned = Planned::of(&bundles, settings);
    let took = clock.monotonic().saturating_sub(read);
    tracing::debug!(?read, planned = ?took, "{} bundles", bundles.len());
    let durations = store.as_ref().map(estimate::read).transpose()?.unwrap_or_default();
    let planned = planned.with_estimate(&durations);
    match args {
        PlanArgs { json: true, .. } => print::json_pretty(&document::valid(&planned, &warnings)),
        PlanArgs { dot: true, .. } => print::text(&drawing::dot(&planned)),
        PlanArgs { mermaid: true, .. } => print::text(&drawing::mermaid(&planned)),
        _ => print::lines(text::describe(&planned)),
    }
    if !args.json && !global.quiet {
        planned.warnings(&warnings).for_each(|warning| print::error_line(&format!("warning: {warning}")));
    }
    Ok(0)
}

/// The settings, or their errors.
fn settings(
    args: &PlanArgs,
    store: Option<&Store>,
    global: &Global,
) -> Result<Result<Resolved, Vec<Finding>>, CliError> {
    let flags = Flags { max_workers: args.max_workers.map(u32::from), ..Flags::default() };
    let project = root::project_dir(global)?;
    let resolved = workstream_settings::resolved(&flags, store, &environment(), &project);
    Ok(resolved.map_err(|faults| {
        let finding = |fault: Fault| {
            let (line, column) = fault.place.unwrap_or((1, 1));
            Finding::of_files(fault.source, Problem::at(line, column, fault.message))
        };
        faults.into_iter().map(finding).collect()
    }))
}

fn refuse(args: &PlanArgs, of_settings: Option<Vec<Finding>>, read: Result<Bundles, Refused>) {
    let (mut errors, warnings) = match read {
        Ok(read) => (Vec::new(), read.warnings),
        Err(refused) => (refused.errors, refused.warnings),
    };
    errors.extend(of_settings.into_iter().flatten());
    match args.json {
        true => print::json_pretty(&document::refused(&errors, &warnings)),
        false => errors.iter().for_each(|error| print::error_line(&error.line())),
    }
}
