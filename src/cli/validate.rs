//! `engine validate`: says everything that is wrong with job files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::args::{Global, ValidateArgs};
use super::error::{CliError, NO};
use super::{current_dir, documents, environment, print, root};
use crate::adapter::known::would_not_start;
use crate::adapter::plan::{PlannedInput, Surroundings};
use crate::adapter::{self, Environment, Known, Manifest};
use crate::job::split::Piece;
use crate::job::{JobFile, Parsed, Problem, Reason, locate, parse, parse_job};
use crate::queue::batch::Origin;
use crate::runner::{Directories, directories};
use crate::store::{Config, Store};

/// Validates each file; 1 if one of them is invalid.
pub fn run(args: &ValidateArgs, global: &Global) -> Result<u8, CliError> {
    let mut status = 0;
    let store = root::to_read_if_any(global)?;
    let mut judge = Judge::of(store.as_ref())?;
    for file in &args.files {
        let Judged { jobs, problems, warnings } = judge.file(file)?;
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

/// Holds job files against what is here.
pub struct Judge<'a> {
    known: Known<'a>,
    environment: Environment,
    project: PathBuf,
}

impl<'a> Judge<'a> {
    /// One for the adapters and the project of a root, or for the working directory.
    pub fn of(store: Option<&'a Store>) -> Result<Self, CliError> {
        let project = store.map_or_else(current_dir, |store| Ok(store.project_dir().to_path_buf()))?;
        Ok(Self { known: Known::of(store), environment: environment(), project })
    }

    /// What is to be said of a valid job that is handed in: whether its files and directories are there is seen when it runs.
    pub fn at_the_door(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
        let mut warnings = self.known.warnings(parsed, bytes);
        let (not_here, _) = self.names(&parsed.job);
        warnings.extend(parse::placed(bytes, not_here));
        warnings
    }

    /// Judges each document of a file, as `submit` takes them.
    fn file(&mut self, file: &Path) -> Result<Judged, CliError> {
        let mut judged = Judged::default();
        let name: Arc<str> = Arc::from(file.display().to_string());
        let read = documents::each(file, &mut |piece| {
            judged.jobs += 1;
            let Piece { line, column, content } = piece;
            let (problems, warnings) = match content {
                Ok(bytes) => self.document(&bytes),
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
            let nothing = parse_job(b"", "").err().into_iter();
            judged.problems.extend(nothing.flat_map(|problems| problems.problems));
        }
        Ok(judged)
    }

    fn document(&mut self, bytes: &[u8]) -> (Vec<Problem>, Vec<Problem>) {
        match parse_job(bytes, "") {
            Ok(parsed) => {
                let mut warnings = self.known.warnings(&parsed, bytes);
                warnings.extend(parse::placed(bytes, self.not_here(&parsed.job)));
                (Vec::new(), warnings)
            }
            Err(problems) => (problems.problems, parse::warnings_beside_errors(bytes)),
        }
    }

    /// What a valid job would not start for on this machine: warnings, for it may be meant for another.
    fn not_here(&mut self, job: &JobFile) -> Vec<Problem> {
        let (mut warnings, directories) = self.names(job);
        match directories {
            // What another job makes is not there yet.
            Err(reason) if reason.code == "path_missing" && !job.dependencies().is_empty() => {}
            Err(reason) => warnings.push(would_not_start(&pointer_of(job, &reason), &reason.message)),
            Ok(directories) => {
                if let Ok(Some(manifest)) = self.known.find(&job.tool) {
                    warnings.extend(self.no_input(job, &manifest, &directories));
                }
            }
        }
        warnings
    }

    /// The adapters and the program that a job names and that are not here, and where it would run.
    fn names(&mut self, job: &JobFile) -> (Vec<Problem>, Result<Directories, Reason>) {
        let directories = directories(&self.project, job);
        let working_dir = directories.as_ref().ok().map(|found| found.working_dir.as_path());
        (self.known.not_here(job, &self.environment, working_dir), directories)
    }

    /// Why there is no command for a job, or the first file that it would read and that is not here.
    fn no_input(&self, job: &JobFile, manifest: &Manifest, directories: &Directories) -> Option<Problem> {
        let here = &directories.working_dir;
        let message_file = job.metadata.known.message_file.as_deref().filter(|name| !name.is_empty());
        let around = Surroundings {
            attempt: 1,
            repo_root: &directories.repo_root,
            working_dir: here,
            prompt_file: message_file.map(Path::new),
            attempt_dir: Some(here),
            resumed: None,
            scope_files: job.metadata.known.files_scope.as_deref().unwrap_or_default(),
            environment: &self.environment,
            config: &Config::default(),
        };
        let stdin = match adapter::plan(job, manifest, around) {
            Ok(plan) => plan.stdin,
            // A prompt will be written to a place that is not known yet.
            Err(error) if error.0.message.ends_with("`metadata.prompt_file`") => PlannedInput::Null,
            Err(error) => return Some(would_not_start(&pointer_of(job, &error.0), &error.0.message)),
        };
        let stdin = match &stdin {
            PlannedInput::File(name) => Some(("/stdin/file", name.as_str())),
            PlannedInput::Null | PlannedInput::Text(_) => None,
        };
        let files = stdin.into_iter().chain(message_file.map(|name| ("/metadata/message_file", name)));
        let is_missing = |(_, name): &(&str, &str)| !here.join(name).exists();
        let (pointer, name) = files.filter(|_| job.dependencies().is_empty()).find(is_missing)?;
        let message = format!("there is no file `{}`", here.join(name).display());
        Some(would_not_start(pointer, &message))
    }
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
        "keep_refused" => "/metadata/keep".to_owned(),
        "prompt_missing" => "/metadata".to_owned(),
        _ => String::new(),
    }
}
