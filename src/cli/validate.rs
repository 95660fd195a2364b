//! `engine validate`: says everything that is wrong with job files.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::json;

use super::args::{Global, ValidateArgs};
use super::error::{CliError, NO};
use super::{current_dir, documents, environment, print, root};
use crate::adapter::plan::{Plan, PlannedInput, Surroundings};
use crate::adapter::{self, Manifest, honored, registry};
use crate::job::locate::{self, Locations};
use crate::job::parse::{self, warnings_of_metadata};
use crate::job::split::Piece;
use crate::job::{JobFile, Parsed, Problem, Reason, ToolId, parse_job};
use crate::process::program::{self, Program};
use crate::queue::batch::Origin;
use crate::runner::{Directories, directories};
use crate::store::{Config, Store};

/// Validates each file; 1 if one of them is invalid.
pub fn run(args: &ValidateArgs, global: &Global) -> Result<u8, CliError> {
    let mut status = 0;
    let store = root::to_read_if_any(global)?;
    let mut known = KnownAdapters::of(store.as_ref());
    for file in &args.files {
        let Judged { jobs, problems, warnings } = judge(file, &mut known)?;
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
        match jobs {
            _ if !problems.is_empty() => {}
            1 => print::line(&format!("{name}: valid")),
            jobs => print::line(&format!("{name}: valid, {jobs} jobs")),
        }
    }
    Ok(status)
}

/// What was found in one file.
#[derive(Default)]
struct Judged {
    jobs: usize,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// Judges each document of a file, as `submit` takes them.
fn judge(file: &Path, known: &mut KnownAdapters<'_>) -> Result<Judged, CliError> {
    let mut judged = Judged::default();
    let name: Arc<str> = Arc::from(file.display().to_string());
    let read = documents::each(file, &mut |piece| {
        judged.jobs += 1;
        let Piece { line, column, content } = piece;
        let (problems, warnings) = match content {
            Ok(bytes) => judge_document(&bytes, known)?,
            Err(problem) => (vec![problem], Vec::new()),
        };
        let origin = Origin { file: name.clone(), line, column };
        judged.problems.extend(origin.problems(problems).problems);
        judged.warnings.extend(origin.problems(warnings).problems);
        Ok(())
    })?;
    if let Err(problem) = read {
        return Err(CliError::plain(format!("error reading the job file `{name}`: {problem}")));
    }
    if judged.jobs == 0 {
        judged.problems.extend(parse_job(b"", "").err().into_iter().flat_map(|problems| problems.problems));
    }
    Ok(judged)
}

fn judge_document(
    bytes: &[u8],
    known: &mut KnownAdapters<'_>,
) -> Result<(Vec<Problem>, Vec<Problem>), CliError> {
    Ok(match parse_job(bytes, "") {
        Ok(parsed) => {
            let mut warnings = known.warnings(&parsed, bytes);
            let unknown = known.unknown(&parsed.job, bytes);
            let starts = unknown.iter().all(|problem| problem.pointer != "/tool");
            warnings.extend(unknown);
            if starts {
                warnings.extend(refused_here(&parsed.job, known, bytes)?);
            }
            (Vec::new(), warnings)
        }
        Err(problems) => (problems.problems, parse::warnings_beside_errors(bytes)),
    })
}

/// What a valid job would not start for on this machine: a warning, for it may be meant for another.
fn refused_here(job: &JobFile, known: &KnownAdapters<'_>, bytes: &[u8]) -> Result<Option<Problem>, CliError> {
    let here = current_dir()?;
    let project = known.store.map_or(here.as_path(), Store::project_dir);
    let refused = match directories(project, job) {
        Err(reason) => Some((pointer_of(job, &reason), reason.message)),
        Ok(directories) => match planned(job, known, &directories) {
            Err((pointer, message)) => Some((pointer, message)),
            Ok(plan) => plan.and_then(|plan| missing(job, &plan, &directories)),
        },
    };
    Ok(refused.map(|(pointer, message)| {
        let (line, column) = Locations::of(&String::from_utf8_lossy(bytes)).value(pointer.as_str());
        Problem { pointer, ..Problem::at(line, column, format!("it would not start here: {message}")) }
    }))
}

/// The plan of a job; none where a prompt will be written to a place that is not known yet.
fn planned(
    job: &JobFile,
    known: &KnownAdapters<'_>,
    directories: &Directories,
) -> Result<Option<Plan>, (String, String)> {
    let manifest = match adapter::find(known.store, &job.tool) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(None),
        Err(error) => return Err(("/tool".to_owned(), error.to_string())),
    };
    let around = Surroundings {
        attempt: 1,
        repo_root: &directories.repo_root,
        working_dir: &directories.working_dir,
        prompt_file: job.metadata.known.message_file.as_deref().map(Path::new),
        attempt_dir: Some(&directories.working_dir),
        resumed: None,
        scope_files: job.metadata.known.files_scope.as_deref().unwrap_or_default(),
        environment: &environment(),
        config: &Config::default(),
    };
    match adapter::plan(job, &manifest, around) {
        Ok(plan) => Ok(Some(plan)),
        Err(error) if error.0.message.ends_with("`metadata.prompt_file`") => Ok(None),
        Err(error) => Err((pointer_of(job, &error.0), error.0.message)),
    }
}

/// The first thing that a plan needs and that is not here.
fn missing(job: &JobFile, plan: &Plan, directories: &Directories) -> Option<(String, String)> {
    let here = &directories.working_dir;
    let own_path = plan.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = own_path.or_else(|| environment().get("PATH").map(ToOwned::to_owned));
    if program::find(plan.exe.as_ref(), path.as_deref(), here) == Program::Missing {
        let pointer = if job.command.exe.is_some() { "/command/exe" } else { "/tool" };
        return Some((pointer.to_owned(), format!("there is no program `{}`", plan.exe)));
    }
    if let PlannedInput::File(name) = &plan.stdin
        && !here.join(name).exists()
    {
        return Some(("/stdin/file".to_owned(), format!("there is no file `{}`", here.join(name).display())));
    }
    let message_file = job.metadata.known.message_file.as_deref().filter(|name| !name.is_empty())?;
    let message_file = here.join(message_file);
    let text = format!("there is no file `{}`", message_file.display());
    (!message_file.exists()).then(|| ("/metadata/message_file".to_owned(), text))
}

/// The value of a job that a reason is about.
fn pointer_of(job: &JobFile, reason: &Reason) -> String {
    let no_name = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
    match reason.code.as_str() {
        "env_invalid" => job
            .env
            .keys()
            .find(no_name)
            .map_or_else(|| "/env".to_owned(), |name| format!("/env/{}", locate::escape(name))),
        "path_missing" | "path_foreign" => {
            let key = if reason.message.contains("`paths.repo_root`") { "repo_root" } else { "working_dir" };
            format!("/paths/{key}")
        }
        "command_missing" => "/command".to_owned(),
        "prompt_missing" => "/metadata".to_owned(),
        _ => String::new(),
    }
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

    fn find(&mut self, tool: &ToolId) -> Option<Rc<Manifest>> {
        // What is wrong with a manifest is said where it is used.
        let read = || adapter::find(self.store, tool).ok().flatten().map(Rc::new);
        self.manifests.entry(tool.clone()).or_insert_with(read).clone()
    }

    /// What is to be said of a valid job wherever it comes in: what was ignored in it, and what has no effect.
    pub fn warnings(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
        let mut warnings = parsed.warnings.clone();
        if !parsed.likely_typos.is_empty() {
            let manifest = self.find(&parsed.job.tool);
            let is_used = |problem: &Problem| {
                let key = problem.pointer.rsplit('/').next().unwrap_or_default();
                manifest.as_ref().is_some_and(|manifest| honored::is_handed_on(&parsed.job, manifest, key))
            };
            warnings.extend(parsed.likely_typos.iter().filter(|typo| !is_used(typo)).cloned());
        }
        let without = honored::without_effect(&parsed.job, |tool| self.find(tool));
        let keys = without.into_iter().map(|without| (without.key, without.message));
        warnings.extend(warnings_of_metadata(bytes, keys.collect()));
        warnings
    }

    /// A warning for each adapter that a job names and that is not here, with the nearest that is.
    pub fn unknown(&mut self, job: &JobFile, bytes: &[u8]) -> Vec<Problem> {
        let named = [("/tool", Some(&job.tool)), ("/metadata/retry_policy", job.escalates_to())];
        let mut warnings = Vec::new();
        for (pointer, tool) in named {
            let Some(tool) = tool.filter(|tool| self.find(tool).is_none()) else { continue };
            // One that is there and can not be read is no unknown one.
            if adapter::find(self.store, tool).is_err() {
                continue;
            }
            let (line, column) = Locations::of(&String::from_utf8_lossy(bytes)).value(pointer);
            let message = format!("it would not start here: there is no adapter `{tool}`");
            let message = match pointer {
                "/tool" => message,
                _ => format!("there is no adapter `{tool}` here to escalate to"),
            };
            let did_you_mean = self.nearest(tool);
            let pointer = pointer.to_owned();
            warnings.push(Problem { pointer, did_you_mean, ..Problem::at(line, column, message) });
        }
        warnings
    }

    fn nearest(&self, tool: &ToolId) -> Option<String> {
        let names = registry::list(self.store).unwrap_or_default().into_keys();
        let likeness = |name: &String| strsim::normalized_damerau_levenshtein(tool.as_str(), name);
        let likely = names.map(|name| (likeness(&name), name)).filter(|(likeness, _)| *likeness >= 0.5);
        likely.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
    }
}
