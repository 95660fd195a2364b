//! The bundle and the settings of `engine run`: read from files, flags and variables.

use std::path::Path;

use super::args::{RunArgs, nothing};
use crate::adapter::{self, Environment};
use crate::bundle::settings::{self, Flags, Resolved};
use crate::bundle::{Bundle, ReadBundle};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::{print, workstream_settings, workstreams};
use crate::job::ToolId;
use crate::store::Store;

/// The one bundle of the run; a tool profile that it names stands for its adapter.
pub(super) fn bundle(
    args: &RunArgs,
    resolved: &Resolved,
    store: Option<&Store>,
    global: &Global,
) -> Result<ReadBundle, CliError> {
    let mut bundle = match &args.task {
        Some(task) => task_bundle(task, &args.files, resolved.settings.tool.as_ref())?,
        None => bundle_of_files(args, global)?,
    };
    let exists = |name: &str| {
        ToolId::new(name).is_ok_and(|tool| adapter::find(store, &tool).is_ok_and(|found| found.is_some()))
    };
    let agent = resolved.profiles.agent(bundle.bundle.tool.as_str(), exists);
    if let Some(adapter) = agent.and_then(|adapter| ToolId::new(adapter).ok()) {
        bundle.bundle.tool = adapter;
    }
    Ok(bundle)
}

fn bundle_of_files(args: &RunArgs, global: &Global) -> Result<ReadBundle, CliError> {
    let bundles = match workstreams::sources(&args.paths, global)?.read() {
        Ok(bundles) => bundles,
        Err(refused) => {
            refused.errors.iter().for_each(|error| print::error_line(&error.line()));
            return Err(nothing("the bundles are not valid"));
        }
    };
    if !global.quiet {
        bundles.warnings.iter().for_each(|warning| print::note(&format!("warning: {}", warning.line())));
    }
    let count = bundles.bundles.len();
    let mut found = bundles.bundles.into_iter();
    match (found.next(), count) {
        (Some(bundle), 1) => Ok(bundle),
        _ => Err(nothing(&format!("{count} bundles: one workstream at a time in this version"))
            .hint("name the file of one of them")),
    }
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

/// The same for a bundle: what that says for itself outranks all but flags and variables.
pub(super) fn of_bundle(resolved: &Resolved, bundle: &ReadBundle) -> Resolved {
    resolved.for_bundle(&bundle.file, &bundle.bundle)
}
