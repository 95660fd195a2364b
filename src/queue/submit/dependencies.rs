//! Checks the dependencies of a batch: each of them exists, and none of them forms a circle.
//!
//! Looks without leases: what a job waits for is judged again when it is claimed. Hard rule: of what was there before, only
//! a bounded part is read.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Refused;
use super::batch::{Batch, Fate};
use super::refusal::Refusal;
use crate::clock::Timestamp;
use crate::job::{Code, JobId, Place, Status};
use crate::policy::dag::{self, Graph};
use crate::queue::claim::{self, Content};
use crate::queue::{Result, places, situation};
use crate::store::{Store, archived};

/// How many jobs that were there before are looked at for a circle through them. Only a batch that was cut short by a
/// crash, or a person's `cp`, can have left one that waits for a job to come.
const LONGEST_WALK: usize = 1000;

impl Batch {
    fn goes(&self, id: &JobId) -> bool {
        let member = self.by_id.get(id).and_then(|index| self.members.get(*index));
        member.is_some_and(|member| member.fate == Fate::Goes)
    }

    /// Refuses each job that waits for a job that neither enters nor exists, and the jobs that wait for it.
    pub(super) fn check_dependencies(
        &mut self,
        store: Option<&Store>,
        refused: &mut Vec<(usize, Refused)>,
    ) -> Result<()> {
        let mut dependants: BTreeMap<JobId, Vec<usize>> = BTreeMap::new();
        let mut asked: Vec<usize> = Vec::new();
        for (index, member) in self.members.iter().enumerate().filter(|(_, m)| m.fate == Fate::Goes) {
            for id in &member.ahead {
                dependants.entry(id.clone()).or_default().push(index);
            }
            if !member.ahead.is_empty() {
                asked.push(index);
            }
        }
        let mut known: BTreeMap<JobId, bool> = BTreeMap::new();
        // A refused job takes its dependents with it: they are checked once more.
        while let Some(index) = asked.pop() {
            let Some(member) = self.members.get(index).filter(|member| member.fate == Fate::Goes) else {
                continue;
            };
            let mut missing = None;
            for (position, id) in member.ahead.iter().enumerate() {
                let is_known = match known.get(id) {
                    _ if self.goes(id) => true,
                    Some(is_known) => *is_known,
                    None => {
                        let is_known = store.map_or(Ok(false), |store| is_known(store, id))?;
                        *known.entry(id.clone()).or_insert(is_known)
                    }
                };
                if !is_known {
                    missing = Some((position, id.clone()));
                    break;
                }
            }
            let Some((position, id)) = missing else { continue };
            let (pointer, waits) = member.ahead_at(position);
            let why = |message| Refusal::new(Code::UnknownDependency, &pointer, message);
            let why = if self.refused.contains(&id) {
                why(format!("the job {waits} `{id}`, which is also refused")).following()
            } else {
                why(not_known(waits, &id))
            };
            let own = member.id.clone();
            refused.push((index, self.refuse(index, why)?));
            asked.extend(dependants.remove(&own).unwrap_or_default());
        }
        Ok(())
    }

    /// Refuses each job on a circle.
    pub(super) fn check_circles(
        &mut self,
        store: Option<&Store>,
        refused: &mut Vec<(usize, Refused)>,
    ) -> Result<()> {
        let mut graph = Graph::new();
        for member in self.members.iter().filter(|m| m.fate == Fate::Goes && !m.ahead.is_empty()) {
            graph.insert(member.id.clone(), member.ahead.clone());
        }
        if graph.is_empty() {
            return Ok(());
        }
        if let Some(store) = store {
            self.add_waiting(store, &mut graph)?;
        }
        for circle in dag::cycles(&graph) {
            let whole = format!("the dependencies run in a circle: {}", dag::shown(&circle));
            let mut whole = Some(whole);
            let Some(first) = circle.first() else { continue };
            for (id, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                let index = self.by_id.get(id).copied().filter(|_| self.goes(id));
                let Some(member) = index.and_then(|index| self.members.get(index)) else { continue };
                let position = member.ahead.iter().position(|other| other == next).unwrap_or(0);
                let (pointer, _) = member.ahead_at(position);
                // The circle is reported once: in each of its jobs it would be as long as all of them together.
                let why = match whole.take() {
                    Some(message) => Refusal::new(Code::DependencyCycle, &pointer, message),
                    None => {
                        let message = format!("it is on the circle of `{first}`");
                        Refusal::new(Code::DependencyCycle, &pointer, message).following()
                    }
                };
                if let Some(index) = index {
                    refused.push((index, self.refuse(index, why)?));
                }
            }
        }
        Ok(())
    }

    /// Adds the queued jobs that the batch waits for, and their dependencies.
    fn add_waiting(&self, store: &Store, graph: &mut Graph) -> Result<()> {
        let mut ahead: Vec<JobId> = graph.values().flatten().filter(|id| !self.goes(id)).cloned().collect();
        let mut seen: BTreeSet<JobId> = BTreeSet::new();
        while let Some(id) = ahead.pop() {
            if seen.len() >= LONGEST_WALK {
                tracing::debug!(
                    "the dependencies reach more than {LONGEST_WALK} jobs: not all are checked for a circle"
                );
                break;
            }
            if self.goes(&id) || !seen.insert(id.clone()) {
                continue;
            }
            let Ahead { depends_on: mut on, after } = waits_for(store, &id)?;
            on.extend(after);
            ahead.extend(on.iter().cloned());
            graph.insert(id, on);
        }
        Ok(())
    }
}

/// Why a job does not run that waits for this one, for people.
#[must_use]
pub(crate) fn not_known(waits: &str, id: &JobId) -> String {
    format!("the job {waits} `{id}`, which is neither in the batch nor known here")
}

/// True for a job that is here, or that gc has retired.
pub(crate) fn is_known(store: &Store, id: &JobId) -> Result<bool> {
    Ok(situation::is_taken(store, id)? || archived::last_of(store, id)?.is_some())
}

/// The jobs that another one waits for.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Its dependencies, and the job that it is a part of.
    pub depends_on: Vec<JobId>,
    /// Those that it comes after.
    pub after: Vec<JobId>,
}

/// What a job waits for; one that runs or has ended waits for no other. Its file counts, which may have been edited.
pub(crate) fn waits_for(store: &Store, id: &JobId) -> Result<Ahead> {
    let line = store.read_record(id)?.map(|record| record.line);
    if line.as_ref().is_some_and(|line| line.status != Status::Queued) {
        return Ok(Ahead::default());
    }
    if places::is_at(store, id, &Place::Queued)?
        && let Ok((Content::Job(parsed, _), _)) = claim::read(store, id, false, Timestamp::from_millis(0))
    {
        let depends_on = parsed.job.dependencies().iter().chain(&parsed.job.parent).cloned().collect();
        return Ok(Ahead { depends_on, after: parsed.job.after.unwrap_or_default() });
    }
    // A file that is not a job file is judged when it is claimed.
    let depends_on = line.map(|line| line.job.depends_on.into_iter().chain(line.job.parent).collect());
    Ok(Ahead { depends_on: depends_on.unwrap_or_default(), after: Vec::new() })
}
