//! Whether a job has ended, and how: for who waits for it.
//!
//! Reads only. Hard rule: an end is told only after it is durable, whoever wrote it `REC_RESYNC`.

use std::collections::{BTreeMap, BTreeSet};

use super::dependencies::waits_for;
use super::ready::{self, Followed};
use super::{Result, places};
use crate::job::dag::{self, Graph};
use crate::job::{JobId, Place, RecordLine, Status};
use crate::store::Store;

/// Where a job is on its way.
#[derive(Debug)]
pub enum Progress {
    /// There is no such job.
    Unknown,
    /// It waits or runs; its last line, if it has one.
    Going(Option<Box<RecordLine>>),
    /// It has ended; the durable last line of the job that decides, which is its successor if it was escalated.
    Ended(Box<RecordLine>),
}

/// Looks at a job.
///
/// # Errors
/// Errors of its record, and of those of its successors.
pub fn look(store: &Store, id: &JobId) -> Result<Progress> {
    let line = match ready::follow(store, id)? {
        Followed::Job(line) => line,
        // What gc retired was durable before.
        Followed::Archived(line) => return Ok(Progress::Ended(line)),
        Followed::Unreadable(_, error) => return Err(error.into()),
        Followed::Unknown | Followed::TooLong => {
            // Of an escalated job the successor is not there yet, or its chain has no end.
            let own = store.read_record(id)?.map(|record| Box::new(record.line));
            return Ok(if is_known(store, id)? { Progress::Going(own) } else { Progress::Unknown });
        }
    };
    if line.status.is_terminal() {
        store.sync_record(&line.job_id)?;
        if line.job_id != *id {
            store.sync_record(id)?;
        }
        return Ok(Progress::Ended(line));
    }
    if !is_known(store, &line.job_id)? {
        return Ok(Progress::Unknown);
    }
    Ok(Progress::Going(Some(line)))
}

/// Why a queued job does not run until a person does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// A dependency, near or far, has ended and did not succeed, or cannot be judged.
    Behind {
        /// That one.
        on: JobId,
        /// True if gc has retired it, so that there is nothing to requeue.
        is_retired: bool,
    },
    /// It waits for jobs that wait for each other in a circle, or is one of them.
    Circle(Vec<JobId>),
}

impl Stuck {
    /// The circle, if it is one.
    #[must_use]
    pub fn circle(&self) -> Option<&Vec<JobId>> {
        match self {
            Self::Behind { .. } => None,
            Self::Circle(circle) => Some(circle),
        }
    }

    /// What to do about it, in the imperative or as a command; `id` is the job that waits.
    #[must_use]
    pub fn advice(&self, id: &JobId) -> String {
        match self {
            Self::Behind { on, is_retired: false } => format!("engine requeue {on}"),
            Self::Behind { on, is_retired: true } => format!("submit `{on}` anew"),
            Self::Circle(_) => format!("engine explain {id}"),
        }
    }
}

/// So many jobs are looked at for what jobs wait for, beside those themselves: more of them say nothing.
const LONGEST_WALK: usize = 10_000;

/// Why a queued job does not run until a person does something, if that is so.
///
/// # Errors
/// Errors of the records on the way.
pub fn stuck(store: &Store, id: &JobId) -> Result<Option<Stuck>> {
    let all = all_stuck(store, std::slice::from_ref(id))?;
    Ok(all.into_iter().next().map(|(why, _)| why))
}

/// Why some of these queued jobs do not run until a person does something: each cause, with those of them that it concerns.
/// What is waited for is read once, however many wait for it.
///
/// # Errors
/// Errors of the records on the way.
pub fn all_stuck(store: &Store, ids: &[JobId]) -> Result<Vec<(Stuck, Vec<JobId>)>> {
    let mut graph = Graph::new();
    let mut causes = Vec::new();
    let mut to_look_at = ids.to_vec();
    while let Some(next) = to_look_at.pop() {
        if graph.contains_key(&next) || graph.len() >= LONGEST_WALK + ids.len() {
            continue;
        }
        let on = match has_failed(store, &next)? {
            Some(failed) => {
                causes.push(failed);
                Vec::new()
            }
            None => waits_for(store, &next)?,
        };
        to_look_at.extend(on.iter().cloned());
        graph.insert(next, on);
    }
    causes.extend(dag::cycles(&graph).into_iter().map(Stuck::Circle));
    let concerned = concerned(&graph, &causes, &ids.iter().collect());
    Ok(causes.into_iter().zip(concerned).filter(|(_, jobs)| !jobs.is_empty()).collect())
}

/// A job as what those are behind that wait for it, if it has ended and did not succeed, or cannot be judged.
fn has_failed(store: &Store, id: &JobId) -> Result<Option<Stuck>> {
    let behind = |is_retired| Some(Stuck::Behind { on: id.clone(), is_retired });
    let failed = |line: &RecordLine| line.status.is_terminal() && line.status != Status::Succeeded;
    Ok(match ready::follow(store, id)? {
        Followed::Unreadable(..) => behind(false),
        Followed::Job(line) if failed(&line) => behind(false),
        // Of one that was escalated only the successor may be retired.
        Followed::Archived(line) if failed(&line) => behind(line.job_id == *id),
        _ => None,
    })
}

/// Of the jobs that were asked for those that each cause keeps waiting; one is named for its first cause alone.
fn concerned(graph: &Graph, causes: &[Stuck], asked: &BTreeSet<&JobId>) -> Vec<Vec<JobId>> {
    let mut dependants: BTreeMap<&JobId, Vec<&JobId>> = BTreeMap::new();
    for (id, on) in graph {
        on.iter().for_each(|on| dependants.entry(on).or_default().push(id));
    }
    let mut seen: BTreeSet<&JobId> = BTreeSet::new();
    let mut all = Vec::new();
    for cause in causes {
        let (failed, mut next) = match cause {
            Stuck::Behind { on, .. } => (Some(on), vec![on]),
            Stuck::Circle(circle) => (None, circle.iter().collect()),
        };
        let mut jobs: Vec<JobId> = Vec::new();
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if asked.contains(id) && Some(id) != failed {
                jobs.push(id.clone());
            }
            next.extend(dependants.get(id).into_iter().flatten());
        }
        jobs.sort();
        all.push(jobs);
    }
    all
}

/// True if there is such a job: it has a file that waits or runs, or a record that promises something.
///
/// # Errors
/// Errors of its record.
pub fn is_known(store: &Store, id: &JobId) -> Result<bool> {
    let promised = |store: &Store| {
        let record = store.read_record(id)?;
        Ok::<bool, crate::store::StoreError>(record.is_some_and(|record| !record.line.is_untouched()))
    };
    // The record is looked at once more: a claim writes it before it moves the file.
    Ok(promised(store)? || has_file(store, id)? || promised(store)?)
}

/// True if the job did what it was to do.
#[must_use]
pub fn is_success(line: &RecordLine) -> bool {
    line.status == Status::Succeeded
}

fn has_file(store: &Store, id: &JobId) -> Result<bool> {
    Ok(places::is_at(store, id, &Place::Queued)? || places::is_at(store, id, &Place::Running)?)
}
