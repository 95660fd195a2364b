//! An agent's attempt: a snapshot before it, a watch while it runs, and evidence after it.
//!
//! What the tool says of itself is a claim; the worktree before and after is the proof.

mod account;
mod budget;
mod consequence;
mod end;
mod lost;
mod preflight;
mod ran;
mod tell;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use lost::account_for;
pub(crate) use preflight::can_start;
pub(super) use ran::Ran;

use super::Workplace;
use super::halt::Halt;
use super::past::Past;
use super::paths::Directories;
use crate::adapter::agent::Dialect;
use crate::adapter::agent::session::{self, SessionFile};
use crate::adapter::agent::watch::{AgentWatch, Rules};
use crate::adapter::plan::{Resumed, may_keep};
use crate::adapter::{Environment, Manifest, Plan};
use crate::clock::Clock;
use crate::evidence::{self, Means, Unmatched, WorkTreeBefore};
use crate::fs::{self, Scratch};
use crate::job::number::Seconds;
use crate::job::{Code, JobFile, Reason};
use crate::process::Limits;
use crate::store::Store;
use crate::store::control::AttemptId;
use budget::Purse;

/// How long an agent may go on trying a service that fails, if the job does not say.
const RETRY_BUDGET: Duration = Duration::from_secs(60);

/// The prompt of a resumed session.
const GO_ON: &str = "You were interrupted because the service was not available. Go on with the task from where you \
                     stopped, and finish it.\n";

/// Where tools keep files of their own: variables, and globs below the directory that each names.
const TOOL_HOMES: [(&str, &[&str]); 4] = [
    (
        "HOME",
        &[".claude/**", ".claude.json*", ".codex/**", ".gemini/**", ".aider/**", ".cache/**", ".npm/**"],
    ),
    ("CODEX_HOME", &["**"]),
    ("CLAUDE_CONFIG_DIR", &["**"]),
    ("GEMINI_CLI_HOME", &[".gemini/**"]),
];

/// Variables that say where a tool keeps its sessions.
const SESSION_VARIABLES: [&str; 4] = ["HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "GEMINI_CLI_HOME"];

/// An agent that is about to run.
#[derive(Debug)]
pub(crate) struct Agent {
    dialect: Dialect,
    /// True if the job gives the whole command.
    is_literal: bool,
    scratch: Scratch,
    /// The worktree before; none where a literal command works outside of a repository.
    before: Option<WorkTreeBefore>,
    scope_files: Vec<String>,
    /// Files of the engine's own in the repository, as globs: the log and the report that the job names.
    engine_files: Vec<String>,
    working_dir: PathBuf,
    session: Option<String>,
    purse: Purse,
}

impl Agent {
    /// Checks everything that must hold before an agent starts; `None` if the tool is not an agent.
    ///
    /// # Errors
    /// The reason of an attempt that is not started.
    pub(crate) fn prepare(
        place: &Workplace<'_>,
        job: &JobFile,
        manifest: &Manifest,
        directories: &Directories,
        (target, past, halt): (AttemptId, &Past, &Halt),
    ) -> Result<Option<Self>, Reason> {
        let Some(dialect) = manifest.reader.dialect() else { return Ok(None) };
        let is_literal = job.command.exe.is_some();
        may_keep(job, manifest)?;
        if !is_literal {
            preflight::check(place, job, manifest, directories, halt)?;
        }
        let purse = Purse::open(place.store, job, past)?;
        purse.let_start(account::asked_model(job))?;
        let scratch = scratch_of(place.store, job, target.attempt)?;
        let means = Means {
            search_path: place.environment.get("PATH").map(ToOwned::to_owned),
            home: Some(place.environment.home().to_owned()),
            stop: halt.stop(),
            min_free_bytes: place.store.config.min_free_bytes,
            unmatched: if job.parent.is_some() { Unmatched::Counts } else { Unmatched::Refused },
        };
        let before = look_before(job, directories, is_literal, (scratch.path(), &means))?;
        let scope_files = match &before {
            Some(before) => {
                before.scope_files().iter().map(|path| path.to_string_lossy().into_owned()).collect()
            }
            None => job.metadata.known.files_scope.clone().unwrap_or_default(),
        };
        let engine_files = before.as_ref().map_or_else(Vec::new, |before| {
            engine_files((place.store, place.environment), (job, manifest), directories, before)
        });
        let session = past.parked_session.clone().filter(|_| manifest.resume_args.is_some() && !is_literal);
        // As the tool sees it: the name of the directory of a session is made of it.
        let working_dir = fs::canonical(&directories.working_dir).unwrap_or_default();
        Ok(Some(Self {
            dialect,
            is_literal,
            scratch,
            before,
            scope_files,
            engine_files,
            working_dir,
            session,
            purse,
        }))
    }

    /// The directory of this attempt.
    #[must_use]
    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The files that the scope means.
    #[must_use]
    pub(crate) fn scope_files(&self) -> &[String] {
        &self.scope_files
    }

    /// Forgets a session whose file is gone: then the agent starts a new one.
    pub(crate) fn check_session(&mut self, job: &JobFile, manifest: &Manifest, environment: &Environment) {
        let Some(id) = &self.session else { return };
        // An agent of one's own has no file of its session that is known here.
        if self.dialect == Dialect::Own {
            return;
        }
        let variables = |name: &str| environment.of_agent(job, manifest, name).map(OsStr::to_owned);
        if session::find(self.dialect, id, Some(&self.working_dir), &variables).is_none() {
            tracing::warn!("the session `{id}` no longer exists: the agent starts a new session");
            self.session = None;
        }
    }

    /// The session to go on with.
    #[must_use]
    pub(crate) fn resumed(&self) -> Option<Resumed<'_>> {
        self.session.as_deref().map(|session_id| Resumed { session_id, prompt: GO_ON })
    }

    /// The watch that reads along while it runs.
    #[must_use]
    pub(crate) fn watch<'w>(
        &'w self,
        job: &JobFile,
        plan: &Plan,
        (store, environment, clock): (&'w Store, &Environment, &'w dyn Clock),
        note_session: &'w mut dyn FnMut(&str),
    ) -> AgentWatch<'w> {
        let variables = session_variables(plan, environment);
        let dialect = self.dialect;
        let model = account::asked_model(job).map(str::to_owned);
        lost::leave_note(&self.scratch, &variables, (model.as_deref(), self.session.is_some()));
        if let Some(id) = &self.session {
            note_session(id);
        }
        let find = move |id: &str| -> Option<SessionFile> {
            let path =
                session::find(dialect, id, Some(&self.working_dir), &|name| variables.get(name).cloned())?;
            Some(SessionFile::at(path))
        };
        let known = match (dialect, &self.session) {
            (Dialect::Aider, _) => Some(SessionFile::at(self.dir().join("analytics.jsonl"))),
            (_, Some(id)) => find(id),
            (_, None) => None,
        };
        let rules = Rules {
            stay_after_end: stay_after_end(plan.limits),
            retry_budget: job.metadata.known.retry_budget_seconds.map_or(RETRY_BUDGET, Seconds::duration),
            on_session: Box::new(note_session),
            find_file: Box::new(find),
            budget_check: self.purse.check_while_it_runs(store, model),
        };
        let mut watch = AgentWatch::new(dialect.reader(), known.unwrap_or_default(), rules, clock);
        if self.session.is_some() {
            watch.goes_on_with_session();
        }
        watch
    }
}

/// How long an agent may stay after its end: its grace, but not so long that it would be called silent.
fn stay_after_end(limits: Limits) -> Duration {
    const AT_LEAST: Duration = Duration::from_secs(1);
    let grace = limits.grace.max(AT_LEAST);
    limits.idle.map_or(grace, |idle| grace.min(idle))
}

/// What the engine itself writes in the repository meanwhile: its root, and the log and the report that the job names, with what
/// former attempts left of them.
fn engine_files(
    (store, environment): (&Store, &Environment),
    (job, manifest): (&JobFile, &Manifest),
    directories: &Directories,
    before: &WorkTreeBefore,
) -> Vec<String> {
    let top = &before.snapshot().repository.top;
    let given = [&job.paths.log_file, &job.paths.error_report];
    let below = |name: &String| {
        let path = fs::canonical(&directories.repo_root).ok()?.join(name);
        let path = path.strip_prefix(top).ok()?.to_string_lossy().into_owned();
        let plain = glob::Pattern::escape(&path);
        Some([plain.clone(), format!("{plain}.[0-9]*")])
    };
    let mut files: Vec<String> = given.into_iter().flatten().filter_map(below).flatten().collect();
    let root = fs::canonical(store.root()).ok();
    // A home in the repository: the tool's own files are no work of it.
    let below = |path: PathBuf| fs::canonical(&path).ok()?.strip_prefix(top).ok().map(Path::to_path_buf);
    for (variable, names) in TOOL_HOMES {
        let named = environment.of_agent(job, manifest, variable).map(PathBuf::from);
        if let Some(home) = named.filter(|home| home.is_absolute()).and_then(below) {
            files.extend(names.iter().map(|name| {
                let home = glob::Pattern::escape(&home.to_string_lossy());
                if home.is_empty() { (*name).to_owned() } else { format!("{home}/{name}") }
            }));
        }
    }
    if let Some(root) = root.as_deref().and_then(|root| root.strip_prefix(top).ok()) {
        let in_root = |name: &str| glob::Pattern::escape(&root.join(name).to_string_lossy());
        files.extend(["jobs", "state"].map(|name| format!("{}/**", in_root(name))));
    }
    files
}

/// The variables of the tool that say where its sessions are.
fn session_variables(plan: &Plan, environment: &Environment) -> BTreeMap<String, OsString> {
    let of_plan =
        |name: &str| plan.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    SESSION_VARIABLES
        .into_iter()
        .filter_map(|name| {
            let value = of_plan(name).or_else(|| environment.get(name).map(ToOwned::to_owned))?;
            Some((name.to_owned(), value))
        })
        .collect()
}

/// `state/attempts/<id>.<n>/`; what a crash left there is removed.
fn scratch_of(store: &Store, job: &JobFile, number: u32) -> Result<Scratch, Reason> {
    let made = Scratch::fresh(&store.state("attempts"), &format!("{}.{number}", job.job_id));
    made.map_err(|error| Reason::from_error(Code::StateNotWritable, &error))
}

/// Why there is no look at a worktree, where none need be.
const ELSEWHERE: [Code; 3] = [Code::NotARepository, Code::GitMissing, Code::WorkingDirOutsideRepository];

/// The worktree before. A literal command may work outside of a repository, if it has no scope to keep.
fn look_before(
    job: &JobFile,
    directories: &Directories,
    is_literal: bool,
    (scratch, means): (&Path, &Means),
) -> Result<Option<WorkTreeBefore>, Reason> {
    let patterns = job.metadata.known.files_scope.as_deref().unwrap_or_default();
    let places = (directories.repo_root.as_path(), directories.working_dir.as_path());
    match evidence::before(places, patterns, scratch, means) {
        Ok(before) => Ok(Some(before)),
        Err(reason) if is_literal && patterns.is_empty() && ELSEWHERE.contains(&reason.code) => Ok(None),
        Err(reason) => Err(reason),
    }
}
