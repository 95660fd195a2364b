//! `engine validate`: reports every problem of job files, and warns of all that would keep a job from starting here.
//!
//! It looks, without starting a program, at adapters, the program, directories, variables, the prompt, the files that are read,
//! and dependencies. A home, a key, a version and the place of the log are checked at the start only. Of what the adapter needs
//! of its command it reports only the first missing value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::error::{CliError, NO};
use super::global::Global;
use super::global::{current_dir, environment};
use super::{documents, print, root};
use crate::adapter::known::{warning, would_not_start};
use crate::adapter::plan::{PlannedInput, Surroundings, may_keep, not_set};
use crate::adapter::{self, Environment, Known, Manifest};
use crate::causes::causes;
use crate::job::parse::split::Piece;
use crate::job::spec::ahead_at;
use crate::job::{Code, JobFile, JobId, Parsed, Problem, Reason, parse, parse_job};
use crate::queue::submit::batch::Origin;
use crate::queue::submit::dependencies::{self, not_known};
use crate::runner::{Directories, directories};
use crate::store::{Config, Store};
use clap::Args;

/// `engine validate`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine validate jobs/*.json\n  generate-job | engine validate -")]
pub struct ValidateArgs {
    /// Files of jobs: an object, an array or JSON Lines each; `-` for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON document for each file, a line each
    #[arg(long)]
    pub json: bool,
}

/// Validates each file; 1 if one of them is invalid. An unreadable file ends it, after the report of the files before.
pub(super) fn run(args: &ValidateArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read_if_any(global)?;
    let mut judge = Judge::for_store(store.as_ref())?;
    let mut status = 0;
    let mut tell = |name: String, judged: Judged| {
        if !judged.problems.is_empty() {
            status = NO;
        }
        tell(&name, &judged, args.json);
    };
    // In their order, each as soon as it waits for no file to come.
    let mut waiting = VecDeque::new();
    let mut failed = None;
    for file in &args.files {
        match judge.file(file) {
            Ok(judged) => waiting.push_back((file.display().to_string(), judged)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        while let Some((name, judged)) = waiting.pop_front_if(|(_, judged)| judge.is_settled(judged)) {
            tell(name, judged);
        }
    }
    for (name, mut judged) in waiting {
        judge.add_unknown(&mut judged);
        tell(name, judged);
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

/// The findings of one file.
#[derive(Default)]
struct Judged {
    jobs: usize,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The dependencies that are neither in an earlier document nor known here, each with the warning to print if it
    /// is in no document at all.
    dependencies: Vec<(JobId, Problem)>,
}

/// Checks job files against this machine.
pub(super) struct Judge<'a> {
    known: Known<'a>,
    environment: Environment,
    project: PathBuf,
    store: Option<&'a Store>,
    /// The jobs of all files.
    ids: BTreeSet<JobId>,
    /// The warning of a dependency that is in none of them; `None` if it is known here.
    not_known: BTreeMap<(&'static str, JobId), Option<String>>,
}

impl<'a> Judge<'a> {
    /// One for the adapters and the project of a root, or for the working directory.
    pub(super) fn for_store(store: Option<&'a Store>) -> Result<Self, CliError> {
        let project = store.map_or_else(current_dir, |store| Ok(store.project_dir().to_path_buf()))?;
        Ok(Self {
            known: Known::new(store),
            environment: environment(),
            project,
            store,
            ids: BTreeSet::new(),
            not_known: BTreeMap::new(),
        })
    }

    /// What is to be said of a valid job that is handed in: whether its files and directories are there is seen when it runs.
    pub(super) fn at_the_door(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
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
                Ok(bytes) => match parse_job(&bytes, "") {
                    Ok(parsed) => {
                        judged.dependencies.extend(self.dependencies(&parsed.job, &bytes, &origin));
                        (Vec::new(), self.warnings(&parsed, &bytes))
                    }
                    Err(problems) => {
                        // A dependency on it is not a mistake.
                        self.ids.extend(parse::readable_job_id(&bytes));
                        (problems.problems, parse::warnings_beside_errors(&bytes))
                    }
                },
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

    fn warnings(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
        let mut warnings = self.known.warnings(parsed, bytes);
        warnings.extend(parse::placed(bytes, self.not_here(&parsed.job)));
        warnings
    }

    /// Notes a job, and gives those that it waits for and that are neither noted before nor known here.
    fn dependencies(&mut self, job: &JobFile, bytes: &[u8], origin: &Origin) -> Vec<(JobId, Problem)> {
        self.ids.insert(job.job_id.clone());
        let mut ahead = Vec::new();
        let mut warnings = Vec::new();
        for (at, id) in job.ahead().enumerate().filter(|(_, id)| !self.ids.contains(*id)) {
            let store = self.store;
            let (pointer, waits) = ahead_at(job.dependencies().len(), at);
            let key = (waits, id.clone());
            let why = self.not_known.entry(key).or_insert_with(|| why_not_known(store, waits, id));
            if let Some(why) = why {
                warnings.push(warning(&pointer, why.clone()));
                ahead.push(id.clone());
            }
        }
        let warnings = origin.problems(parse::placed(bytes, warnings)).problems;
        ahead.into_iter().zip(warnings).collect()
    }

    /// True if a file waits for no job of a later one.
    fn is_settled(&self, judged: &mut Judged) -> bool {
        while judged.dependencies.pop_if(|(id, _)| self.ids.contains(id)).is_some() {}
        judged.dependencies.is_empty()
    }

    /// Adds a warning of each dependency that is neither in one of the files nor here.
    fn add_unknown(&self, judged: &mut Judged) {
        let unknown = judged.dependencies.drain(..).filter(|(id, _)| !self.ids.contains(id));
        judged.warnings.extend(unknown.map(|(_, warning)| warning));
    }

    /// What a valid job would not start for on this machine: warnings, for it may be meant for another.
    fn not_here(&mut self, job: &JobFile) -> Vec<Problem> {
        let (mut warnings, directories) = self.names(job);
        if let Err(reason) = &directories {
            let also = self.working_dir_beside(job, reason);
            // Another job may make it later.
            let is_made = |reason: &&Reason| reason.code == Code::PathMissing && job.ahead().next().is_some();
            let missing = std::iter::once(reason).chain(&also).filter(|reason| !is_made(reason));
            warnings.extend(missing.map(at_its_value));
        }
        let not_set = not_set(job, &self.environment);
        warnings.extend(not_set.values().map(at_its_value));
        if let Ok(Some(manifest)) = self.known.find(&job.tool) {
            let mut rest = job.clone();
            rest.env.retain(|name, _| !not_set.contains_key(name.as_str()));
            warnings.extend(may_keep(job, &manifest).err().iter().map(at_its_value));
            warnings.extend(self.no_input(&rest, &manifest, directories.as_ref().ok()));
        }
        warnings
    }

    /// The second problem of a working directory that is not inside its repository.
    fn working_dir_beside(&self, job: &JobFile, reason: &Reason) -> Option<Reason> {
        let given = job.paths.working_dir.as_deref().filter(|_| reason.pointer == "/paths/repo_root")?;
        let mut alone = job.clone();
        alone.paths.repo_root = None;
        let other = directories(&self.project, &alone).err()?;
        (Path::new(given).is_absolute() || other.code != Code::PathMissing).then_some(other)
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
            root: &self.project,
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
            Err(error) if error.0.pointer == "/metadata/prompt_file" => (PlannedInput::Null, Vec::new()),
            Err(error) => (PlannedInput::Null, vec![at_its_value(&error.0)]),
        };
        // The prompt as standard input is the message file, which is checked below.
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
        let missing = files.filter(|_| job.ahead().next().is_none()).filter(is_missing);
        wrong.extend(missing.map(|(pointer, name)| {
            would_not_start(pointer, &format!("there is no file `{}`", here.join(name).display()))
        }));
        wrong
    }
}

/// A warning of a reason not to start, at the value that it is about.
fn at_its_value(reason: &Reason) -> Problem {
    would_not_start(&reason.pointer, &reason.message)
}

/// Why it is not known that a job is here; nothing if it is. One file of the root that cannot be read is no reason to say
/// nothing of the others.
fn why_not_known(store: Option<&Store>, waits: &str, id: &JobId) -> Option<String> {
    match store.map_or(Ok(false), |store| dependencies::is_known(store, id)) {
        Ok(true) => None,
        Ok(false) => Some(not_known(waits, id)),
        Err(error) => Some(format!("cannot check whether `{id}` is known here: {}", causes(&error))),
    }
}
