//! A queued job as a worker finds it.
//!
//! Hard rule: what the files say at a glance; the claim reads them again.

use crate::job::JobId;
use crate::policy::order::Rank;

/// A job that was found in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its own place in the order.
    pub rank: Rank,
    /// Whether there is something to look at before it starts.
    pub conditions: Conditions,
    /// The jobs that it waits for.
    pub on: Vec<JobId>,
    /// Where its rank is from.
    pub source: Source,
}

/// Where a rank is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The record, which says when the job was accepted, or would: it is not looked at again before the claim.
    Record,
    /// The time of its file: it has no record, or none yet.
    File,
}

/// Whether a job names conditions of its start that can be looked at before a process is spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// None: no time, no dependency, no lock.
    None,
    /// Some.
    Some,
}
