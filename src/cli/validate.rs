//! `engine validate`: says everything that is wrong with job files.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::json;

use super::args::{Global, ValidateArgs};
use super::error::{CliError, NO};
use super::{current_dir, environment, print, root, run_job};
use crate::adapter::plan::Surroundings;
use crate::adapter::{self, Manifest, honored};
use crate::job::parse::warnings_of_metadata;
use crate::job::{JobFile, Problem, ToolId, parse_job};
use crate::store::{Config, Store};

/// Validates each file; 1 if one of them is invalid.
pub fn run(args: &ValidateArgs, global: &Global) -> Result<u8, CliError> {
    let mut status = 0;
    let store = root::to_read_if_any(global)?;
    let mut known = KnownAdapters::of(store.as_ref());
    for file in &args.files {
        let (problems, warnings) = problems_of(file, &mut known)?;
        if !problems.is_empty() {
            status = NO;
        }
        let name = file.display().to_string();
        if args.json {
            print::json_line(&json!({
                "file": name, "valid": problems.is_empty(), "problems": problems, "warnings": warnings,
            }));
            continue;
        }
        let show = |kind: &str, problem: &Problem| {
            print::line(&format!("{name}:{}:{}: {kind}{problem}", problem.line, problem.column));
        };
        warnings.iter().for_each(|warning| show("warning: ", warning));
        problems.iter().for_each(|problem| show("", problem));
        if problems.is_empty() {
            print::line(&format!("{name}: valid"));
        }
    }
    Ok(status)
}

/// What a valid job would not start for on this machine: a warning, for it may be meant for another.
fn refused_here(job: &JobFile, known: &KnownAdapters<'_>) -> Result<Option<Problem>, CliError> {
    let message = match adapter::find(known.store, &job.tool) {
        Err(error) => error.to_string(),
        Ok(None) => format!("there is no adapter `{}`", job.tool),
        Ok(Some(manifest)) => {
            let here = current_dir()?;
            let around = Surroundings {
                attempt: 1,
                repo_root: &here,
                working_dir: &here,
                prompt_file: job.metadata.known.message_file.as_deref().map(Path::new),
                attempt_dir: Some(&here),
                resumed: None,
                scope_files: job.metadata.known.files_scope.as_deref().unwrap_or_default(),
                environment: &environment(),
                config: &Config::default(),
            };
            match adapter::plan(job, &manifest, around) {
                Ok(_) => return Ok(None),
                // Where a prompt will be written is not known yet.
                Err(error) if error.0.message.ends_with("`metadata.prompt_file`") => return Ok(None),
                Err(error) => error.0.message,
            }
        }
    };
    Ok(Some(Problem::at(1, 1, format!("it would not start here: {message}"))))
}

/// The adapters of a root, or the built-in ones, each read once.
pub struct KnownAdapters<'a> {
    store: Option<&'a Store>,
    manifests: BTreeMap<ToolId, Option<Rc<Manifest>>>,
}

impl<'a> KnownAdapters<'a> {
    /// Those that count in a root, if there is one.
    pub fn of(store: Option<&'a Store>) -> Self {
        Self { store, manifests: BTreeMap::new() }
    }

    /// A warning for each key of `metadata` that has no effect.
    pub fn without_effect(&mut self, job: &JobFile, bytes: &[u8]) -> Vec<Problem> {
        let without = honored::without_effect(job, |tool| {
            // What is wrong with a manifest is said where it is used.
            let read = || adapter::find(self.store, tool).ok().flatten().map(Rc::new);
            self.manifests.entry(tool.clone()).or_insert_with(read).clone()
        });
        let keys = without.into_iter().map(|without| (without.key, without.message));
        warnings_of_metadata(bytes, keys.collect())
    }
}

fn problems_of(file: &Path, known: &mut KnownAdapters<'_>) -> Result<(Vec<Problem>, Vec<Problem>), CliError> {
    let name = file.display().to_string();
    let bytes = match run_job::read_job_file(file)? {
        Ok(bytes) => bytes,
        Err(problems) => return Ok((problems.problems, Vec::new())),
    };
    Ok(match parse_job(&bytes, &name) {
        Ok(mut parsed) => {
            parsed.warnings.extend(known.without_effect(&parsed.job, &bytes));
            parsed.warnings.extend(refused_here(&parsed.job, known)?);
            (Vec::new(), parsed.warnings)
        }
        Err(problems) => (problems.problems, Vec::new()),
    })
}
