//! The position of a queued job, from files and records: explains the order of `policy::order`.
//!
//! Reads only.

use std::collections::BTreeMap;

use super::claim;
use crate::job::record::Acceptance;
use crate::job::spec::Priority;
use crate::job::{JobFile, JobId, RecordLine};
use crate::policy::order::{self, Lender, Loan, Rank};
use crate::store::Store;

/// A job that comes before another one.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// The job.
    pub id: JobId,
    /// Why.
    pub because: Because,
}

/// Why a job comes before another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// Its priority is higher, or it is the same and the job is older.
    Order,
    /// Its priority is lower, and it has waited so much longer.
    Age,
    /// This job of a better rank waits for it.
    Lent(JobId),
}

/// The position of a job.
#[derive(Debug, Default)]
pub(crate) struct QueuePosition {
    /// The jobs that come before it, in their order.
    pub ahead: Vec<Ahead>,
    /// The job that lends it its rank, because it waits for this one.
    pub lender: Option<JobId>,
    /// A job of higher priority that it comes before, because it has waited so much longer.
    pub passes: Option<JobId>,
}

/// The queued jobs, as far as they decide the order.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    lenders: BTreeMap<JobId, Lender>,
    jobs: BTreeMap<JobId, Ranked>,
}

/// Whether something that is written down keeps a job from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Possible,
    Kept,
}

#[derive(Debug)]
struct Ranked {
    rank: Rank,
    priority: Priority,
    start: Start,
}

impl Ranking {
    /// Adds a queued job, with its record: a job that cannot start is ahead of no other, but lends its rank.
    pub(crate) fn add(&mut self, store: &Store, job: &JobFile, line: Option<&RecordLine>, start: Start) {
        let accepted = accepted(store, &job.job_id, line);
        let rank = Rank::new(job.priority, accepted, job.not_before);
        let lender = Lender { rank, on: job.ahead().cloned().collect() };
        let priority = job.priority.unwrap_or(Priority::Normal);
        self.lenders.insert(job.job_id.clone(), lender);
        self.jobs.insert(job.job_id.clone(), Ranked { rank, priority, start });
    }

    /// The position of one of them.
    pub(crate) fn position(&self, id: &JobId) -> QueuePosition {
        let Some(&Ranked { rank: own, priority, .. }) = self.jobs.get(id) else {
            return QueuePosition::default();
        };
        let loans = order::loans(&self.lenders);
        let lent = |id: &JobId, own: Rank| loans.get(id).filter(|loan| loan.rank < own);
        let own_key = (Loan::improve(loans.get(id), own), id);
        let mut found =
            QueuePosition { lender: lent(id, own).map(|loan| loan.from.clone()), ..QueuePosition::default() };
        let mut ahead: Vec<((Rank, &JobId), Because)> = Vec::new();
        for (other, job) in self.jobs.iter().filter(|(_, job)| job.start == Start::Possible) {
            let Ranked { rank, priority: theirs, .. } = *job;
            let key = (Loan::improve(loans.get(other), rank), other);
            if key > own_key {
                if theirs < priority && (rank, other) > (own, id) {
                    found.passes.get_or_insert_with(|| other.clone());
                }
            } else if key < own_key {
                let because = match lent(other, rank) {
                    Some(loan) if (rank, other) > own_key => Because::Lent(loan.from.clone()),
                    _ if theirs > priority => Because::Age,
                    _ => Because::Order,
                };
                ahead.push((key, because));
            }
        }
        ahead.sort_by_key(|(key, _)| *key);
        found.ahead = ahead.into_iter().map(|((_, id), because)| Ahead { id: id.clone(), because }).collect();
        found
    }
}

/// When a queued job was accepted: its record says so, else its file.
fn accepted(store: &Store, id: &JobId, line: Option<&RecordLine>) -> Acceptance {
    let by_file = || Acceptance::of_file(claim::changed_at(store, id));
    line.map_or_else(by_file, RecordLine::acceptance)
}
