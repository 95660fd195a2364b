//! Whether and how a job has ended, for commands that wait for it.
//!
//! Reads only. Hard rule: an end is reported only after it is durable, whichever process wrote it `REC_RESYNC`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::job::{JobId, RecordLine, RunId, Status};
use crate::policy::dag::{self, Graph};
use crate::queue::follow::{Followed, follow};
use crate::queue::submit::dependencies::{Ahead, waits_for};
use crate::queue::{Result, situation};
use crate::store::Store;

/// The progress of a job.
#[derive(Debug)]
pub(crate) enum Progress {
    /// There is no such job.
    Unknown,
    /// It waits or runs; its last line, if it has one.
    Going(Option<Box<RecordLine>>),
    /// It has ended; the durable last line of the job that decides, which is its successor if it was escalated.
    Ended(Box<RecordLine>),
}

/// Looks at a job.
pub(crate) fn look(store: &Store, id: &JobId) -> Result<Progress> {
    let line = match follow(store, id)? {
        Followed::Job(line) => line,
        // A retired job was durable before.
        Followed::Archived(line) => return Ok(Progress::Ended(line)),
        Followed::Unreadable(_, error) => return Err(error.into()),
        Followed::Unknown | Followed::Queued(_) | Followed::TooLong => {
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
pub(crate) enum Stuck {
    /// A dependency, near or far, has ended and did not succeed, or cannot be judged.
    Behind {
        /// The dependency.
        on: JobId,
        /// True if gc has retired it, so that there is nothing to requeue.
        is_retired: bool,
    },
    /// It waits for jobs that wait for each other in a circle, or is one of them.
    Circle(Arc<Vec<JobId>>),
}

impl Stuck {
    /// The circle, if it is one.
    #[must_use]
    pub(crate) fn circle(&self) -> Option<&Vec<JobId>> {
        match self {
            Self::Behind { .. } => None,
            Self::Circle(circle) => Some(circle.as_ref()),
        }
    }

    /// The remedy, in the imperative or as a command; `id` is the job that waits.
    #[must_use]
    pub(crate) fn advice(&self, id: &JobId) -> String {
        match self {
            Self::Behind { on, is_retired: false } => again(on),
            Self::Behind { on, is_retired: true } => format!("submit `{on}` again"),
            Self::Circle(_) => format!("engine explain {id}"),
        }
    }
}

/// The command that has a job run again which has ended without success: of a run all of it goes on.
#[must_use]
pub(crate) fn again(id: &JobId) -> String {
    match RunId::of_part(id) {
        Some(run) => format!("engine run --resume {run}"),
        None => format!("engine requeue {id}"),
    }
}

/// Jobs, each with why those that wait for it do not run.
type Reasons = VecDeque<(JobId, Stuck)>;

/// The search for a dependency visits so many jobs; beyond that it gives no answer.
const LONGEST_WALK: usize = 10_000;

/// Why a queued job does not run until a person does something, if that is so.
pub(crate) fn stuck(store: &Store, id: &JobId) -> Result<Option<Stuck>> {
    Ok(all_stuck(store, &BTreeSet::from([id.clone()]))?.remove(id))
}

/// The same for many jobs: the stuck ones, and why. What they wait for is looked up once for all.
pub(crate) fn all_stuck(store: &Store, ids: &BTreeSet<JobId>) -> Result<BTreeMap<JobId, Stuck>> {
    let (mut depends_on, mut after) = (Graph::new(), Graph::new());
    let (mut ended, mut unclear) = (Reasons::new(), Reasons::new());
    let mut to_look_at: Vec<JobId> = ids.iter().cloned().collect();
    let most = LONGEST_WALK.saturating_add(ids.len());
    while let Some(next) = to_look_at.pop() {
        if depends_on.contains_key(&next) || depends_on.len() >= most {
            continue;
        }
        let mut on = Ahead::default();
        match ahead_of(store, &next)? {
            Reach::Waits(ahead) => on = ahead,
            Reach::Ended(why) => ended.push_back((next.clone(), why)),
            Reach::Unclear(why) => unclear.push_back((next.clone(), why)),
        }
        to_look_at.extend(on.depends_on.iter().chain(&on.after).cloned());
        depends_on.insert(next.clone(), on.depends_on);
        after.insert(next, on.after);
    }
    // Behind a job that has ended comes first: there one command helps. It is at rest, so what comes after it may start.
    let mut found = BTreeMap::new();
    spread(&depends_on, ended, &mut found);
    for (id, on) in &mut depends_on {
        let others = after.remove(id).unwrap_or_default();
        on.extend(others.into_iter().filter(|other| !found.contains_key(other)));
    }
    let graph = depends_on;
    spread(&graph, unclear, &mut found);
    let mut circles = VecDeque::new();
    for circle in dag::cycles(&graph).into_iter().map(Arc::new) {
        for id in circle.iter() {
            found.entry(id.clone()).or_insert_with(|| Stuck::Circle(Arc::clone(&circle)));
            circles.push_back((id.clone(), Stuck::Circle(Arc::clone(&circle))));
        }
    }
    spread(&graph, circles, &mut found);
    found.retain(|id, _| ids.contains(id));
    Ok(found)
}

/// What is ahead of a job that waits for others; or why no job that depends on it runs.
enum Reach {
    Waits(Ahead),
    /// It has ended and did not succeed.
    Ended(Stuck),
    /// It cannot be judged: nor does a job run that comes after it.
    Unclear(Stuck),
}

fn ahead_of(store: &Store, id: &JobId) -> Result<Reach> {
    let behind = |is_retired| Stuck::Behind { on: id.clone(), is_retired };
    let successor = |next| Reach::Waits(Ahead { depends_on: vec![next], after: Vec::new() });
    let failed = |line: &RecordLine| line.status.is_terminal() && line.status != Status::Succeeded;
    Ok(match follow(store, id)? {
        // It was escalated: what its successor waits for counts.
        Followed::Job(line) | Followed::Archived(line) if line.job_id != *id => successor(line.job_id),
        Followed::Unreadable(next, _) | Followed::Queued(next) if next != *id => successor(next),
        Followed::Unreadable(..) => Reach::Unclear(behind(false)),
        Followed::Job(line) if failed(&line) => Reach::Ended(behind(false)),
        Followed::Archived(line) if failed(&line) => Reach::Ended(behind(true)),
        _ => Reach::Waits(waits_for(store, id)?),
    })
}

/// Passes the reasons of these jobs on to all jobs that wait for them, near or far; a job with a reason keeps it.
fn spread(graph: &Graph, mut reasons: Reasons, found: &mut BTreeMap<JobId, Stuck>) {
    let mut waiting: BTreeMap<&JobId, Vec<&JobId>> = BTreeMap::new();
    for (id, on) in graph {
        on.iter().for_each(|on| waiting.entry(on).or_default().push(id));
    }
    while let Some((on, why)) = reasons.pop_front() {
        for id in waiting.remove(&on).unwrap_or_default() {
            if !found.contains_key(id) {
                found.insert(id.clone(), why.clone());
                reasons.push_back((id.clone(), why.clone()));
            }
        }
    }
}

/// True if there is such a job: it has a file that waits or runs, or a record that promises something.
pub(crate) fn is_known(store: &Store, id: &JobId) -> Result<bool> {
    // Looked at once more: a claim writes the record before it moves the file.
    Ok(situation::is_taken(store, id)? || situation::is_taken(store, id)?)
}

/// True if the job did what it was to do.
#[must_use]
pub(crate) fn is_success(line: &RecordLine) -> bool {
    line.status == Status::Succeeded
}
