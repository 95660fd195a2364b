//! `engine plan`: the order of workstreams, and what each waits for. Runs nothing and writes nothing.

mod document;
mod drawing;
mod text;

use std::path::PathBuf;

use clap::Args;

use super::error::{CliError, NO};
use super::global::{Global, environment};
use super::{print, root, workstream_settings, workstreams};
use crate::bundle::settings::{Flags, Resolved};
use crate::bundle::{Bundles, Finding, Paths, Plan, ReadBundle};
use crate::job::Problem;
use crate::store::Store;
use crate::workstream::estimate::{self, Durations, Estimate};

/// `engine plan`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine plan                                    what waits for what, and why\n  \
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
    let read =
        match (settings(args, store.as_ref(), global)?, workstreams::sources(&args.paths, global)?.read()) {
            (Ok(settings), Ok(read)) => (settings, read),
            (settings, read) => {
                let (mut errors, warnings) = match read {
                    Ok(read) => (Vec::new(), read.warnings),
                    Err(refused) => (refused.errors, refused.warnings),
                };
                errors.extend(settings.err().into_iter().flatten());
                refuse(args, &errors, &warnings);
                return Ok(NO);
            }
        };
    let (settings, Bundles { bundles, warnings }) = read;
    let durations = store.as_ref().map(estimate::read).transpose()?.unwrap_or_default();
    let planned = Planned::of(&bundles, settings, &durations);
    match args {
        PlanArgs { json: true, .. } => print::json_pretty(&document::valid(&planned, &warnings)),
        PlanArgs { dot: true, .. } => print::text(&drawing::dot(&planned)),
        PlanArgs { mermaid: true, .. } => print::text(&drawing::mermaid(&planned)),
        _ => print::lines(text::describe(&planned)),
    }
    if !args.json && !global.quiet {
        let of_files = warnings.iter().map(Finding::line);
        let of_settings = planned.settings.warnings.iter().map(ToString::to_string);
        let all = of_files.chain(of_settings).chain(planned.plan.warnings.iter().cloned());
        all.for_each(|warning| print::error_line(&format!("warning: {warning}")));
    }
    Ok(0)
}

/// The settings, or what is wrong with them.
fn settings(
    args: &PlanArgs,
    store: Option<&Store>,
    global: &Global,
) -> Result<Result<Resolved, Vec<Finding>>, CliError> {
    let flags = Flags { max_workers: args.max_workers.map(u32::from), ..Flags::default() };
    let project = root::project_dir(global)?;
    let resolved = workstream_settings::resolved(&flags, store, &environment(), &project);
    Ok(resolved.map_err(|faults| {
        let finding = |fault: crate::bundle::settings::Fault| {
            let (line, column) = fault.place.unwrap_or((1, 1));
            Finding::of_files(fault.source, Problem::at(line, column, fault.message))
        };
        faults.into_iter().map(finding).collect()
    }))
}

fn refuse(args: &PlanArgs, errors: &[Finding], warnings: &[Finding]) {
    match args.json {
        true => print::json_pretty(&document::refused(errors, warnings)),
        false => errors.iter().for_each(|error| print::error_line(&error.line())),
    }
}

/// What is planned, and what it was made of.
struct Planned<'a> {
    bundles: &'a [ReadBundle],
    plan: Plan,
    settings: Resolved,
    max_workers: usize,
    estimate: Option<Estimate>,
}

impl<'a> Planned<'a> {
    fn of(bundles: &'a [ReadBundle], settings: Resolved, durations: &Durations) -> Self {
        let max_workers = usize::try_from(settings.settings.max_workers).unwrap_or(usize::MAX);
        let plan = Plan::of(&Paths::of(bundles), max_workers);
        let took = |bundle: usize| durations.of_bundle(&bundles.get(bundle)?.bundle);
        let estimate = estimate::estimate(&plan.order, max_workers, took);
        Self { bundles, plan, settings, max_workers, estimate }
    }

    /// The id of a bundle.
    fn id(&self, bundle: usize) -> &'a str {
        self.bundles.get(bundle).map_or("", |read| read.bundle.id.as_str())
    }

    /// The id of the workstream at a place of the order.
    fn id_at(&self, place: usize) -> &'a str {
        self.plan.order.places.get(place).map_or("", |place| self.id(place.bundle))
    }
}
