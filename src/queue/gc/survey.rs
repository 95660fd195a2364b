//! What `gc` finds before it takes any lease: the jobs that have ended, free ids, and what is needed.
//!
//! Reads only. Hard rule: it says where to look; nothing is removed because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::causes::causes;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::{JobId, Place, RecordLine, Status};
use crate::policy::retention::{self, Finished, Limits};
use crate::queue::gc::families::{self, Part, Parts, State, Unfinished};
use crate::queue::gc::needs::{self, Needs};
use crate::queue::{Result, places};
use crate::store::Store;

/// The survey.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    finished: Vec<Finished>,
    parts: Parts,
    unfinished: Unfinished,
    /// When the first line of each record was written, as far as its last line or, after another life, the record tells.
    began: BTreeMap<JobId, Timestamp>,
    is_partial: bool,
    escalated_to: BTreeMap<JobId, JobId>,
    /// Ids whose records hold nothing, and that have no job file.
    pub free: Vec<JobId>,
    /// Records that cannot be read, and why.
    pub failed: Vec<(JobId, String)>,
    /// The dependencies of the jobs that have not ended.
    pub needs: Needs,
    /// Jobs that have ended without an attempt, each with those that it comes after: a chain goes on through them.
    not_waited: BTreeMap<JobId, Vec<JobId>>,
    /// Files of attempts in `state/logs/` and `state/prompts/`, by job, each with its attempt.
    pub attempt_files: BTreeMap<JobId, Vec<(u32, PathBuf)>>,
}

impl Survey {
    /// Reads all records, and the job files that wait or run.
    ///
    /// # Errors
    /// File system errors of the directories; those of one job are in `failed`.
    pub(crate) fn take(store: &Store) -> Result<Self> {
        let mut survey = Self { attempt_files: attempt_files(store)?, ..Self::default() };
        for id in store.recorded_ids()? {
            match store.read_record(&id) {
                Ok(None) => survey.free.push(id),
                Ok(Some(record)) => survey.add(store, record.line),
                Err(error) => survey.failed.push((id, causes(&error))),
            }
        }
        survey.is_partial = !survey.failed.is_empty();
        survey.needs.look(store)?;
        let waits = |id: &JobId| places::is_at(store, id, &Place::Queued).unwrap_or(true);
        survey.free.retain(|id| !waits(id));
        let free: BTreeSet<&JobId> = survey.free.iter().collect();
        survey.began.retain(|id, _| !free.contains(id));
        Ok(survey)
    }

    /// When the first job that is not among these began; `None` if that is unknown, or there is none.
    #[must_use]
    pub(crate) fn oldest_but(&self, gone: &[(Finished, retention::Cause)]) -> Option<Timestamp> {
        let gone: BTreeSet<&JobId> = gone.iter().map(|(job, _)| &job.id).collect();
        let stay = self.began.iter().filter(|(id, _)| !gone.contains(id));
        stay.map(|(_, began)| *began).min().filter(|_| !self.is_partial)
    }

    fn add(&mut self, store: &Store, line: RecordLine) {
        self.began.insert(line.job_id.clone(), began(store, &line));
        if line.is_untouched() {
            self.needs.add(&line.job.depends_on);
            if line.job.parent.is_some() && places::is_at(store, &line.job_id, &Place::Queued).unwrap_or(true)
            {
                self.add_part(store, line);
                return;
            }
            if line.job.parent.is_none() {
                self.unfinished.insert(line.job_id.clone(), line.job.run_id);
            }
            self.free.push(line.job_id);
        } else if line.job.parent.is_some() {
            if !line.status.is_terminal() {
                self.needs.add(&line.job.depends_on);
            }
            self.add_part(store, line);
        } else if line.status.is_terminal() {
            if let Some(next) = line.escalated_to().and_then(|next| JobId::new(next).ok()) {
                self.escalated_to.insert(line.job_id.clone(), next);
            }
            if line.attempts.is_empty() {
                self.not_waited.insert(line.job_id.clone(), needs::after_of(store, &line));
            }
            self.finished.push(self.finished_job(store, line));
        } else {
            self.needs.add(&line.job.depends_on);
            self.unfinished.insert(line.job_id, line.job.run_id);
        }
    }

    fn add_part(&mut self, store: &Store, line: RecordLine) {
        let Some(parent) = line.job.parent.clone() else { return };
        let state = match line.status {
            status if status.is_terminal() => State::Ended,
            Status::Queued => State::Waits,
            _ => State::Open,
        };
        let job = self.finished_job(store, line);
        self.parts.entry(parent).or_default().push(Part { job, state });
    }

    /// What a limit judges of a job.
    pub(crate) fn finished_job(&self, store: &Store, line: RecordLine) -> Finished {
        let bytes = self.bytes_of(store, &line);
        let RecordLine { job_id: id, status, at: ended_at, seq, job, .. } = line;
        Finished { id, status, ended_at, seq, bytes, parent: job.parent, run_id: job.run_id }
    }

    fn bytes_of(&self, store: &Store, line: &RecordLine) -> u64 {
        let id = &line.job_id;
        let own = [store.record_path(id), store.job_file(&line.place, id)];
        let files = own.iter().chain(self.files_of(line));
        files.filter_map(|path| Some(std::fs::symlink_metadata(path).ok()?.len())).sum()
    }

    /// The files of the attempts that a record tells of.
    pub(crate) fn files_of(&self, line: &RecordLine) -> impl Iterator<Item = &PathBuf> {
        let next = line.next_attempt();
        let all = self.attempt_files.get(&line.job_id).into_iter().flatten();
        all.filter(move |(attempt, _)| *attempt < next).map(|(_, path)| path)
    }

    /// Decides about the jobs that have ended; they are then gone from here.
    pub(crate) fn decide(&mut self, limits: &Limits, now: Timestamp) -> retention::Plan {
        let (finished, parts) = (std::mem::take(&mut self.finished), std::mem::take(&mut self.parts));
        families::decide(finished, parts, (&self.unfinished, &self.needed()), limits, now)
    }

    /// The jobs that others need.
    #[must_use]
    pub(crate) fn needed(&self) -> BTreeSet<JobId> {
        let mut needed = self.needs.dependencies().clone();
        let mut next: Vec<JobId> = needed.iter().cloned().collect();
        while let Some(id) = next.pop() {
            let before = self.not_waited.get(&id).into_iter().flatten();
            next.extend(before.filter(|before| needed.insert((*before).clone())).cloned());
        }
        retention::needed(needed, &self.escalated_to)
    }
}

/// When the first line of a record was written.
fn began(store: &Store, line: &RecordLine) -> Timestamp {
    let is_whole = line.life == 1 && line.former.attempts == 0;
    let history = if is_whole { Vec::new() } else { store.record_history(&line.job_id).unwrap_or_default() };
    let times = [
        line.accepted.map(|accepted| accepted.at),
        line.attempts.first().map(|attempt| attempt.started_at),
        history.first().map(|first| first.line.at),
    ];
    times.into_iter().flatten().fold(line.at, Timestamp::min)
}

/// A directory of an attempt in `state/attempts/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptDir {
    /// Whose it is.
    pub id: JobId,
    /// The attempt's number.
    pub attempt: u32,
    /// Its name.
    pub name: String,
}

impl AttemptDir {
    /// True if the record says that the engine began this attempt, and that it has ended: no runner works in the directory,
    /// and recovery does not read it. Without such a record it may be a person's.
    #[must_use]
    pub(crate) fn is_over(&self, line: Option<&RecordLine>) -> bool {
        line.is_some_and(|line| {
            let is_open = line.open_attempt().is_some_and(|open| open.attempt == self.attempt);
            self.attempt < line.next_attempt() && !is_open
        })
    }
}

/// The directories `<id>.<n>` of `state/attempts/`, by name; anything else there belongs to no attempt.
pub(crate) fn attempt_dirs(store: &Store) -> Result<Vec<AttemptDir>> {
    let dir = store.state("attempts");
    let mut names = fs::names(&dir)?;
    names.sort();
    let read = |name: String| {
        let (id, attempt) = name.rsplit_once('.')?;
        let (id, attempt) = (JobId::new(id).ok()?, attempt.parse().ok()?);
        let is_dir = std::fs::symlink_metadata(dir.join(&name)).is_ok_and(|metadata| metadata.is_dir());
        is_dir.then_some(AttemptDir { id, attempt, name })
    };
    Ok(names.into_iter().filter_map(read).collect())
}

/// The files of an attempt in `state/logs/`: log, agent's stream, evidence, patch, and error report.
const LOG_ENDINGS: [&str; 5] = [".log", ".error.json", ".stream", ".evidence.json", ".patch"];

/// The files `<id>.<n>.log`, `<id>.<n>.md` and so on that attempts have by default. A log that a job names
/// itself is its user's.
fn attempt_files(store: &Store) -> Result<BTreeMap<JobId, Vec<(u32, PathBuf)>>> {
    let mut found: BTreeMap<JobId, Vec<(u32, PathBuf)>> = BTreeMap::new();
    for (dir, endings) in [("logs", &LOG_ENDINGS[..]), ("prompts", &[".md"])] {
        let dir = store.state(dir);
        for name in fs::names(&dir)? {
            let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
            let Some((id, number)) = stem.and_then(|stem| stem.rsplit_once('.')) else { continue };
            if let (Ok(id), Ok(attempt)) = (JobId::new(id), number.parse()) {
                found.entry(id).or_default().push((attempt, dir.join(name)));
            }
        }
    }
    Ok(found)
}
