//! The bundle and the settings of `engine run`: read from files, flags and variables.

use std::collections::BTreeSet;
use std::path::Path;

use super::args::{RunArgs, nothing};
use crate::adapter::{self, Environment};
use crate::bundle::settings::{self, Flags, Resolved};
use crate::bundle::{Bundle, ReadBundle, with_dependencies};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::{print, workstream_settings, workstreams};
use crate::job::ToolId;
use crate::store::Store;
use crate::workstream::prepare::WantedBundle;

/// The bundles of the run with their settings; a tool profile that one names stands for its adapter.
pub(super) fn bundles(
    args: &RunArgs,
    resolved: &Resolved,
    store: Option<&Store>,
    global: &Global,
) -> Result<Vec<WantedBundle>, CliError> {
    let reads = match &args.task {
        Some(task) => vec![task_bundle(task, &args.files, resolved.settings.tool.as_ref())?],
        None => only(bundles_of_files(args, global)?, &args.only)?,
    };
    let exists = |name: &str| {
        ToolId::new(name).is_ok_and(|tool| adapter::find(store, &tool).is_ok_and(|found| found.is_some()))
    };
    let wanted = |mut read: ReadBundle| {
        let agent = resolved.profiles.agent(read.bundle.tool.as_str(), exists);
        if let Some(adapter) = agent.and_then(|adapter| ToolId::new(adapter).ok()) {
            read.bundle.tool = adapter;
        }
        // What it says for itself outranks all but flags and variables.
        let resolved = resolved.for_bundle(&read.file, &read.bundle);
        WantedBundle { read, resolved }
    };
    Ok(reads.into_iter().map(wanted).collect())
}

const WITHOUT_BUNDLE: &str = "engine run PATH…, or --task TEXT --files PATH…";

fn bundles_of_files(args: &RunArgs, global: &Global) -> Result<Vec<ReadBundle>, CliError> {
    let bundles = match workstreams::sources(&args.paths, global)?.read() {
        Ok(bundles) => bundles,
        Err(refused) => {
            refused.errors.iter().for_each(|error| print::error_line(&error.line()));
            let error = nothing("the bundles are not valid");
            return Err(if args.paths.is_empty() { error.hint(WITHOUT_BUNDLE) } else { error });
        }
    };
    if !global.quiet {
        bundles.warnings.iter().for_each(|warning| print::note(&format!("warning: {}", warning.line())));
    }
    match bundles.bundles.is_empty() {
        true => Err(nothing("there is no bundle").hint(WITHOUT_BUNDLE)),
        false => Ok(bundles.bundles),
    }
}

/// The bundles of these names, with those that they depend on; without names all.
fn only(bundles: Vec<ReadBundle>, names: &[String]) -> Result<Vec<ReadBundle>, CliError> {
    if names.is_empty() {
        return Ok(bundles);
    }
    let known =
        bundles.iter().map(|one| (one.bundle.id.as_str(), one.bundle.depends_on.as_slice())).collect();
    let wanted: BTreeSet<String> = match with_dependencies(&known, names) {
        Ok(wanted) => wanted.into_iter().map(str::to_owned).collect(),
        Err((unknown, meant)) => {
            let error = nothing(&format!("no bundle is called `{unknown}`"));
            return Err(match meant {
                Some(name) => error.hint(format!("did you mean `{name}`?")),
                None => error.hint(format!("there are: {}", some(known.keys().copied()))),
            });
        }
    };
    Ok(bundles.into_iter().filter(|one| wanted.contains(one.bundle.id.as_str())).collect())
}

/// The first of some names.
fn some<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    const MOST: usize = 10;
    let more = names.len().saturating_sub(MOST);
    let named = names.take(MOST).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

fn task_bundle(task: &str, files: &[String], tool: Option<&ToolId>) -> Result<ReadBundle, CliError> {
    let tool =
        tool.ok_or_else(|| nothing("no tool is named").hint("--tool TOOL, or `tool` of [workstreams]"))?;
    let bundle = Bundle::of_task(task, files, tool).map_err(|problems| {
        problems.iter().for_each(|problem| print::error_line(problem));
        nothing("the task is not valid")
    })?;
    Ok(ReadBundle::of_command_line(bundle))
}

/// The settings of the run: flags, `PIPELINE_*`, `engine.toml`, the original files.
pub(super) fn settings(
    args: &RunArgs,
    store: Option<&Store>,
    environment: &Environment,
    project: &Path,
) -> Result<Resolved, CliError> {
    if args.task.is_none() && args.tool.is_some() {
        let error = CliError::usage("--tool is for a --task: each bundle names its own tool");
        return Err(error.hint("set `tool` in the bundles, or give --task TEXT --files PATH…"));
    }
    let tool = args.tool.as_deref().map(ToolId::new).transpose();
    let flags = Flags {
        max_workers: args.slots.map(u32::from),
        tool: tool.map_err(|error| CliError::usage(error.to_string()))?,
        checks: args.check.clone(),
        tests: args.test.clone(),
    };
    workstream_settings::resolved(&flags, store, environment, project).map_err(|faults| {
        faults.iter().for_each(|fault| print::error_line(&fault.to_string()));
        nothing("the settings cannot be used")
    })
}

/// Refuses a resume where the variables ask for a dry run, which it does not have: it would pay.
pub(super) fn not_dry(environment: &Environment) -> Result<(), CliError> {
    match settings::dry_run(&environment.beginning_with("PIPELINE_")) {
        Ok(false) => Ok(()),
        Ok(true) => Err(nothing("PIPELINE_DRY_RUN is set, and a resume has no dry run")
            .hint("engine runs show RUN says where it is; unset PIPELINE_DRY_RUN to go on")),
        Err(fault) => Err(nothing(&fault.to_string())),
    }
}
