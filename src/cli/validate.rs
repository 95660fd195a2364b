//! `engine validate`: says everything that is wrong with job files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::args::{Global, ValidateArgs};
use super::error::{CliError, NO};
use super::{current_dir, documents, environment, print, root};
use crate::adapter::known::{warning, would_not_start};
use crate::adapter::plan::{PlannedInput, Surroundings, not_set};
use crate::adapter::{self, Environment, Known, Manifest};
use crate::job::split::Piece;
use crate::job::{JobFile, JobId, Parsed, Problem, Reason, locate, parse, parse_job};
use crate::queue::batch::Origin;
use crate::queue::dependencies::{self, not_known};
use crate::runner::{Directories, directories};
use crate::store::{Config, Store};

/// Validates each file; 1 if one of them is invalid.
pub fn run(args: &ValidateArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read_if_any(global)?;
    let mut judge = Judge::of(store.as_ref())?;
    let mut read = Vec::new();
    // What cannot be read ends it, after what was read before.
    let failed = args.files.iter().find_map(|file| match judge.file(file) {
        Ok(judged) => {
            read.push((file.display().to_string(), judged));
            None
        }
        Err(error) => Some(error),
    });
    let mut status = 0;
    for (name, mut judged) in read {
        judge.add_unknown(&mut judged)?;
        if !judged.problems.is_empty() {
            status = NO;
        }
        tell(&name, &judged, args.json);
    }
    failed.map_or(Ok(status), Err)
}

fn tell(name: &str, judged: &Judged, json: bool) {
    let Judged { jobs, problems, warnings, .. } = judged;
    if json {
        return print::json_line(&json!({
            "file": name, "valid": problems.is_empty(), "problems": problems, "warnings": warnings,
        }));
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

/// What was found in one file.
#[derive(Default)]
struct Judged {
    jobs: usize,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The dependencies that stand in no document before theirs, each with what is said if it is not known at all.
    dependencies: Vec<(JobId, Problem)>,
}

/// Holds job files against what is here.
pub struct Judge<'a> {
    known: Known<'a>,
    environment: Environment,
    project: PathBuf,
    store: Option<&'a Store>,
    /// The jobs of all files.
    ids: BTreeSet<JobId>,
}

impl<'a> Judge<'a> {
    /// One for the adapters and the project of a root, or for the working directory.
    pub fn of(store: Option<&'a Store>) -> Result<Self, CliError> {
        let project = store.map_or_else(current_dir, |store| Ok(store.project_dir().to_path_buf()))?;
        Ok(Self { known: Known::of(store), environment: environment(), project, store, ids: BTreeSet::new() })
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
            let origin = Origin { file: name.clone(), line, column };
            let (problems, warnings) = match content {
                Ok(bytes) => {
                    judged.dependencies.extend(self.dependencies(&bytes, &origin));
                    self.document(&bytes)
                }
                Err(problem) => (vec![problem], Vec::new()),
            };
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

    /// Notes the job of a document, and gives its dependencies that were not noted before.
    fn dependencies(&mut self, bytes: &[u8], origin: &Origin) -> Vec<(JobId, Problem)> {
        self.ids.extend(parse::readable_job_id(bytes));
        let Ok(parsed) = parse_job(bytes, "") else { return Vec::new() };
        let ahead = |(_, id): &(usize, &JobId)| !self.ids.contains(*id);
        let ahead: Vec<_> = parsed.job.dependencies().iter().enumerate().filter(ahead).collect();
        let unknown = ahead.iter().map(|(at, id)| warning(&format!("/depends_on/{at}"), not_known(id)));
        let told = origin.problems(parse::placed(bytes, unknown.collect())).problems;
        ahead.into_iter().map(|(_, id)| id.clone()).zip(told).collect()
    }

    /// Adds a warning of each dependency that is neither in one of the files nor here.
    fn add_unknown(&self, judged: &mut Judged) -> Result<(), CliError> {
        for (id, warning) in judged.dependencies.drain(..) {
            let is_here = || self.store.map_or(Ok(false), |store| dependencies::is_known(store, &id));
            if !self.ids.contains(&id) && !is_here()? {
                judged.warnings.push(warning);
            }
        }
        Ok(())
    }

    /// All that a valid job would not start for on this machine: warnings, for it may be meant for another.
    fn not_here(&mut self, job: &JobFile) -> Vec<Problem> {
        let (mut warnings, directories) = self.names(job);
        if let Err(reason) = &directories {
            let also = self.working_dir_beside(job, reason);
            // What another job makes is not there yet.
            let is_made = |reason: &&Reason| reason.code == "path_missing" && !job.dependencies().is_empty();
            let told = std::iter::once(reason).chain(&also).filter(|reason| !is_made(reason));
            warnings.extend(told.map(|reason| would_not_start(pointer_of(reason), &reason.message)));
        }
        let not_set = not_set(job, &self.environment);
        warnings.extend(not_set.iter().map(|(name, reason)| {
            would_not_start(&format!("/env/{}", locate::escape(name)), &reason.message)
        }));
        if let Ok(Some(manifest)) = self.known.find(&job.tool) {
            let mut rest = job.clone();
            rest.env.retain(|name, _| !not_set.contains_key(name.as_str()));
            warnings.extend(self.no_input(&rest, &manifest, directories.as_ref().ok()));
        }
        warnings
    }

    /// What is wrong with the working directory beside the repository, where it does not lie in that.
    fn working_dir_beside(&self, job: &JobFile, reason: &Reason) -> Option<Reason> {
        let given = job.paths.working_dir.as_deref().filter(|_| pointer_of(reason) == "/paths/repo_root")?;
        let mut alone = job.clone();
        alone.paths.repo_root = None;
        let other = directories(&self.project, &alone).err()?;
        (Path::new(given).is_absolute() || other.code != "path_missing").then_some(other)
    }

    /// The adapters and the program that a job names and that are not here, and where it would run.
    fn names(&mut self, job: &JobFile) -> (Vec<Problem>, Result<Directories, Reason>) {
        let directories = directories(&self.project, job);
        let working_dir = directories.as_ref().ok().map(|found| found.working_dir.as_path());
        (self.known.not_here(job, &self.environment, working_dir), directories)
    }

    /// Why there is no command for a job, and the files that it would read and that are not here. Without its directories only
    /// absolute paths are looked at.
    fn no_input(&self, job: &JobFile, manifest: &Manifest, found: Option<&Directories>) -> Vec<Problem> {
        let here = found.map_or(&self.project, |found| &found.working_dir);
        let message_file = job.metadata.known.message_file.as_deref().filter(|name| !name.is_empty());
        let around = Surroundings {
            attempt: 1,
            repo_root: found.map_or(&self.project, |found| &found.repo_root),
            working_dir: here,
            prompt_file: message_file.map(Path::new),
            attempt_dir: Some(here),
            resumed: None,
            scope_files: job.metadata.known.files_scope.as_deref().unwrap_or_default(),
            environment: &self.environment,
            config: &Config::default(),
        };
        let (stdin, mut wrong) = match adapter::plan(job, manifest, around) {
            Ok(plan) => (plan.stdin, Vec::new()),
            // A prompt will be written to a place that is not known yet.
            Err(error) if error.0.message.ends_with("`metadata.prompt_file`") => {
                (PlannedInput::Null, Vec::new())
            }
            Err(error) => (PlannedInput::Null, vec![would_not_start(pointer_of(&error.0), &error.0.message)]),
        };
        // The prompt as standard input is the message file, which is told by itself.
        let stdin = match &stdin {
            PlannedInput::File(name) if job.stdin.is_some() => Some(("/stdin/file", name.as_str())),
            PlannedInput::File(_) | PlannedInput::Null | PlannedInput::Text(_) => None,
        };
        // A literal command may make its message file first.
        let prompt = message_file.filter(|_| job.command.exe.is_none());
        let files = stdin.into_iter().chain(prompt.map(|name| ("/metadata/message_file", name)));
        let is_missing = |(_, name): &(&str, &str)| {
            (found.is_some() || name.starts_with('/')) && !here.join(name).exists()
        };
        let missing = files.filter(|_| job.dependencies().is_empty()).filter(is_missing);
        wrong.extend(missing.map(|(pointer, name)| {
            would_not_start(pointer, &format!("there is no file `{}`", here.join(name).display()))
        }));
        wrong
    }
}

/// The value that a reason is about.
fn pointer_of(reason: &Reason) -> &'static str {
    match reason.code.as_str() {
        "path_missing" | "path_foreign" | "path_invalid" if reason.message.contains("`paths.repo_root`") => {
            "/paths/repo_root"
        }
        "path_missing" | "path_foreign" | "path_invalid" => "/paths/working_dir",
        "command_missing" => "/command",
        "keep_refused" => "/metadata/keep",
        "prompt_missing" => "/metadata",
        _ => "",
    }
}
