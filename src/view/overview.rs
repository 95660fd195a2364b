//! An overview of the queue: job counts by state, running jobs, problems. A part of another job is none of its own.
//!
//! Looks at the files in `queued/` and `running/` and at the cache of counts; never at the finished jobs. Changes nothing
//! but that cache.

use std::collections::HashSet;

use crate::clock::{Clock, Timestamp};
use crate::fs::Entry;
use crate::job::{Code, JobId, Place, Reason, Status};
use crate::policy::dag::{self, Graph};
use crate::queue::Result;
use crate::queue::claim::{self, Content};
use crate::queue::foreign::{self, ForeignFile};
use crate::store::cache::{self, Counts};
use crate::store::{Store, StoreError, brief};
use crate::view::facts::Trees;
use crate::view::listing::{Row, in_directory, job_files};
use crate::view::waits::Waits;

/// With more queued jobs than this, neither their records nor their files are read, which takes about 40 µs for each: the cache
/// tells the few that are not what they seem.
const FEW: usize = 1000;

/// The queue at one moment.
#[derive(Debug)]
pub(crate) struct Overview {
    /// How many jobs are queued.
    pub queued: usize,
    /// How many of them wait for something; `None`: too many are queued to look at each.
    pub waiting: Option<Waiting>,
    /// The running jobs, and those whose runner died.
    pub running: Vec<Row>,
    /// How many have ended.
    pub counts: Counts,
    /// True if nothing is claimed because of `state/control/HOLD`.
    pub held: bool,
    /// Why claims pause, if the disk is nearly full.
    pub low_space: Option<StoreError>,
    /// Job files that will not be run, and why not.
    pub left_alone: Vec<(String, Reason)>,
    /// The waits of the queued jobs by their files; `None`: too many are queued to read each.
    pub files: Option<Files>,
    /// Files in `quarantined/` that are no jobs.
    pub foreign: Vec<ForeignFile>,
}

/// Problems of the files of queued jobs.
#[derive(Debug)]
pub(crate) struct Files {
    /// Circles of dependencies.
    pub circles: Vec<Vec<JobId>>,
    /// Files that the next claim refuses, and why.
    pub refused: Vec<(String, Reason)>,
}

/// Counts of queued jobs by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Held by a person.
    pub hold: usize,
    /// For a time: `not_before`, a backoff, a quota.
    pub time: usize,
    /// For another job.
    pub dependency: usize,
    /// For a named lock, a slot of the root or a worktree.
    pub lock: usize,
}

/// Reads the overview of the queue.
pub(crate) fn look(store: &Store, clock: &dyn Clock, trees: &dyn Trees) -> Result<Overview> {
    let mut left_alone = Vec::new();
    let running = ours(store, &Place::Running, &mut left_alone)?;
    let mut queued = ours(store, &Place::Queued, &mut left_alone)?;
    let twice: HashSet<&JobId> = running.iter().collect();
    queued.retain(|id| !twice.contains(id));
    let mut counts = cache::counts(store, clock)?;
    let mut waits = Waits::look(store, clock.now(), trees);

    let (sure, doubtful) = split(&mut counts, queued)?;
    let mut rows = rows(store, &running, &Place::Running)?;
    rows.extend(self::rows(store, &doubtful, &Place::Queued)?);
    rows.retain(|row| row.job.parent.is_none());
    let waiting = sure.is_empty().then(|| waiting(&mut waits, &rows));
    let queued = sure.len() + rows.iter().filter(|row| row.status == Status::Queued).count();
    let files = sure.is_empty().then(|| files(store, &rows));
    rows.retain(|row| row.status == Status::Running);
    rows.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.id.cmp(&b.id)));
    Ok(Overview {
        queued,
        waiting,
        running: rows,
        counts,
        held: waits.queue_is_held(),
        low_space: store.check_space().err(),
        left_alone,
        files,
        foreign: foreign::quarantined(store)?,
    })
}

/// Reads the files of queued jobs. The dependencies of an invalid job do not count: it is claimed and refused.
fn files(store: &Store, rows: &[Row]) -> Files {
    let (mut graph, mut refused) = (Graph::new(), Vec::new());
    for Row { id, .. } in rows.iter().filter(|row| row.status == Status::Queued) {
        let why = match claim::read(store, id, true, Timestamp::from_millis(0)) {
            Ok((Content::Job(parsed, _), _)) => {
                graph.insert(id.clone(), parsed.job.ahead().cloned().collect());
                continue;
            }
            Ok((Content::Invalid(problems), _)) => Reason::new(Code::InvalidJobFile, problems.to_string()),
            Ok((Content::Foreign(why), _)) => why,
            // It was claimed at this moment, or recovery finds the problem.
            Err(_) => continue,
        };
        refused.push((format!("jobs/queued/{id}.json"), why));
    }
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    Files { circles: dag::cycles(&graph), refused }
}

/// Our job files at a place; notes other entries with the name of a job file.
fn ours(store: &Store, place: &Place, left_alone: &mut Vec<(String, Reason)>) -> Result<Vec<JobId>> {
    let mut ids = Vec::new();
    for (id, look) in job_files(store, place)? {
        match look.entry {
            Entry::Ours => ids.push(id),
            Entry::NotTrusted => {
                let path = store.job_file(place, &id);
                let problem = if look.own {
                    format!("others can write it (mode {:04o}): chmod go-w {}", look.mode, path.display())
                } else {
                    "it belongs to another user".to_owned()
                };
                let name = format!("jobs/{place}/{id}.json");
                left_alone.push((name, Reason::new(Code::JobFileNotTrusted, problem)));
            }
            Entry::NotRegular | Entry::Missing => {}
        }
    }
    ids.sort();
    left_alone.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(ids)
}

/// Of many queued files, those that are not counted otherwise are queued; of few, each record is read.
fn split(counts: &mut Counts, queued: Vec<JobId>) -> Result<(Vec<JobId>, Vec<JobId>)> {
    if queued.len() <= FEW {
        return Ok((Vec::new(), queued));
    }
    counts.expect(queued.len())?;
    let (mut sure, mut doubtful) = (Vec::new(), Vec::new());
    for id in queued {
        if counts.status_of(&id)?.is_none() { sure.push(id) } else { doubtful.push(id) }
    }
    Ok((sure, doubtful))
}

fn rows(store: &Store, ids: &[JobId], place: &Place) -> Result<Vec<Row>> {
    Ok(brief::read_many(store, ids, |id, line| in_directory(store, id, place, line.ok()?))?)
}

fn waiting(waits: &mut Waits<'_>, rows: &[Row]) -> Waiting {
    let mut waiting = Waiting::default();
    for row in rows.iter().filter(|row| row.status == Status::Queued && row.problem.is_none()) {
        match waits.reason(row).map(|reason| reason.code) {
            Some(Code::WaitingHold) => waiting.hold += 1,
            Some(Code::WaitingTime) => waiting.time += 1,
            Some(Code::WaitingLock) => waiting.lock += 1,
            Some(_) => waiting.dependency += 1,
            None => {}
        }
    }
    waiting
}
