//! Why nothing of a run moves by itself, though it has not ended: jobs of it were never submitted, or holds keep them.

use std::collections::BTreeSet;

use super::status::WorkstreamStatus;
use super::{RunFacts, WorkstreamFacts};

/// What keeps a run that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    /// Jobs of it are not in the queue. The process that made it is about to submit them, or was ended before.
    NotQueued,
    /// Holds.
    Held,
}

/// What keeps a run from moving; none of one that moves, or has ended.
#[must_use]
pub(crate) fn stays(facts: &RunFacts) -> Option<Stays> {
    let mut why = None;
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let gates: Vec<&str> = facts.gates.iter().map(|gate| gate.ordered.ws_id.as_str()).collect();
    // Those that a job waits for come before it.
    for job in facts.jobs() {
        let status = WorkstreamStatus::of(job);
        if !status.can_move() {
            continue;
        }
        let waits_for = job.ordered.depends_on.iter().chain(&job.ordered.after).map(String::as_str);
        let is_behind = || waits_for.chain(gates.iter().copied()).any(|other| kept.contains(other));
        if is_missing(job) {
            why = Some(Stays::NotQueued);
        } else if status == WorkstreamStatus::Running {
            return None;
        } else if job.hold.is_some() {
            why = why.or(Some(Stays::Held));
        } else if !is_behind() {
            return None;
        }
        kept.insert(&job.ordered.ws_id);
    }
    why
}

/// True for a job that was never submitted.
fn is_missing(job: &WorkstreamFacts) -> bool {
    job.line.is_none() && job.problem.is_none() && !job.is_in_queue
}
