//! The bundle and the settings of `engine run`: read from files, flags and variables.

use std::collections::BTreeSet;
use std::path::Path;

use super::args::{RunArgs, nothing};
use crate::adapter::{self, Environment};
use crate::bundle::settings::{self, Flags, MOST_BYTES, ORIGINAL_FILES, Resolved, Sources, resolve};
use crate::bundle::{Bundle, OriginalFile, ReadBundle};
use crate::causes::causes;
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::{print, workstreams};
use crate::fs;
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
    let files: Vec<OriginalFile> = ORIGINAL_FILES
        .iter()
        .filter_map(|name| original(project, name).transpose())
        .collect::<Result<_, _>>()?;
    let table = store.map(|store| store.config.workstreams.clone()).unwrap_or_default();
    let (variables, adapters) = (environment.beginning_with("PIPELINE_"), adapters_for_checks(store));
    let sources =
        Sources { flags: &flags, variables: &variables, table: &table, files: &files, adapters: &adapters };
    resolve(&sources).map_err(|faults| {
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

/// A settings file of the original's, if it is there.
fn original(project: &Path, name: &str) -> Result<Option<OriginalFile>, CliError> {
    let path = project.join(name);
    match fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, MOST_BYTES)) {
        Ok(Some(bytes)) => Ok(Some(OriginalFile { name: name.to_owned(), bytes })),
        Ok(None) => Err(nothing(&format!("`{name}` has more than {MOST_BYTES} bytes"))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(nothing(&causes(&error))),
    }
}

/// The adapters that a check may name: those with a command of their own that are no agents.
fn adapters_for_checks(store: Option<&Store>) -> BTreeSet<String> {
    let listed = adapter::list(store).unwrap_or_default().into_values().filter_map(Result::ok);
    let usable = listed.filter(|(manifest, _)| {
        manifest.executable.is_some() && manifest.reader.dialect().is_none() && !manifest.needs_prompt
    });
    usable.map(|(manifest, _)| manifest.id.to_string()).collect()
}
