//! The jobs that another one waited for, as its attempt found them when it started.
//!
//! Hard rule: of `after` a summary, however many jobs it names: the whole list stands in the job file alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::JobId;
use super::state::Status;

/// A dependency as it was found when the attempt started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dependency {
    /// The job.
    pub job_id: JobId,
    /// Its status.
    pub status: Status,
    /// The number of the record line that said so.
    pub seq: u64,
}

/// The jobs of `after` when the attempt started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AfterSeen {
    /// How many had each status; `queued` ones wait for a job that ended without success.
    pub counts: BTreeMap<Status, u64>,
    /// The first 50 that had not succeeded, in the order of the job file. Of a job that was escalated, status and line are
    /// those of its successor.
    pub not_succeeded: Vec<Dependency>,
}

impl AfterSeen {
    /// The most jobs that are named.
    pub const MOST_NAMED: usize = 50;

    /// Adds a job as it was found.
    pub fn add(&mut self, found: Dependency) {
        *self.counts.entry(found.status).or_default() += 1;
        if found.status != Status::Succeeded && self.not_succeeded.len() < Self::MOST_NAMED {
            self.not_succeeded.push(found);
        }
    }

    /// Whether one of these jobs had succeeded; `None` if it may be one of those that are not named.
    #[must_use]
    pub fn had_succeeded(&self, id: &JobId) -> Option<bool> {
        let had_not = self.counts.iter().filter(|(status, _)| **status != Status::Succeeded);
        let are_all_named = had_not.map(|(_, count)| count).sum::<u64>() == self.not_succeeded.len() as u64;
        match self.not_succeeded.iter().any(|found| found.job_id == *id) {
            true => Some(false),
            false => are_all_named.then_some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_and_the_first_that_had_not_succeeded_are_named() {
        let id = |n: usize| JobId::new(&format!("j{n}")).unwrap();
        let mut seen = AfterSeen::default();
        for n in 0..120 {
            let status = if n % 2 == 0 { Status::Succeeded } else { Status::Failed };
            seen.add(Dependency { job_id: id(n), status, seq: 3 });
            assert_eq!(seen.had_succeeded(&id(0)), (n <= 100).then_some(true), "{n}");
        }
        assert_eq!(seen.counts, BTreeMap::from([(Status::Succeeded, 60), (Status::Failed, 60)]));
        assert_eq!(seen.not_succeeded.len(), AfterSeen::MOST_NAMED);
        assert_eq!(seen.had_succeeded(&id(99)), Some(false));
        assert_eq!(seen.had_succeeded(&id(119)), None);
    }
}
