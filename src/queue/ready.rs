//! Whether a job may start now: hold, time and dependencies.

use super::Result;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::record::Dependency;
use crate::job::{JobFile, JobId, Reason, Status};
use crate::store::Store;

/// Why a job does not start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For people and programs.
    pub reason: Reason,
    /// What it waits for.
    pub on: Blocker,
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// A hold, of the job or of the queue.
    Hold,
    /// A time.
    Time(Timestamp),
    /// The success of another job.
    Dependency(JobId),
}

impl Waiting {
    fn new(code: &str, message: String, on: Blocker) -> Self {
        Self { reason: Reason::new(code, message), on }
    }
}

/// Judges a job; if it may start, its dependencies as they were found.
///
/// # Errors
/// Errors of the records of its dependencies.
pub fn judge(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Vec<Dependency>, Waiting>> {
    if let Some(file) = held_by(store, &job.job_id)? {
        return Ok(Err(Waiting::new("waiting_hold", format!("held by `{file}`"), Blocker::Hold)));
    }
    let not_before = job.not_before.into_iter().chain(parked_until).max();
    if let Some(time) = not_before.filter(|time| *time > now) {
        return Ok(Err(Waiting::new("waiting_time", format!("not before {time}"), Blocker::Time(time))));
    }
    let mut judged = Vec::new();
    for id in job.dependencies() {
        match dependency(store, id)? {
            Ok(dependency) => judged.push(dependency),
            Err(problem) => {
                let message = format!("waits for `{id}`, which {problem}");
                let on = Blocker::Dependency(id.clone());
                return Ok(Err(Waiting::new("waiting_dependency", message, on)));
            }
        }
    }
    Ok(Ok(judged))
}

fn held_by(store: &Store, id: &JobId) -> Result<Option<String>> {
    for name in ["HOLD".to_owned(), format!("{id}.hold")] {
        if fs::exists(&store.state("control").join(&name))? {
            return Ok(Some(format!("state/control/{name}")));
        }
    }
    Ok(None)
}

/// A dependency that was escalated is judged by the job that it was escalated to.
fn dependency(store: &Store, id: &JobId) -> Result<std::result::Result<Dependency, String>> {
    const LONGEST_CHAIN: usize = 16;
    let mut asked = id.clone();
    for _ in 0..LONGEST_CHAIN {
        let Some(record) = store.read_record(&asked)? else {
            return Ok(Err("is not known here".to_owned()));
        };
        match record.line.escalated_to().and_then(|next| JobId::new(next).ok()) {
            Some(next) => asked = next,
            None if record.line.status == Status::Succeeded => {
                let (status, seq) = (record.line.status, record.line.seq);
                return Ok(Ok(Dependency { job_id: asked, status, seq }));
            }
            None => return Ok(Err(format!("is {}", record.line.status))),
        }
    }
    Ok(Err("was escalated too often".to_owned()))
}
