//! Which finished jobs are kept, and which go to the archive: by age, count and bytes.
//!
//! Pure: the jobs, their needs, the limits and the time in, the decision out. Hard rule: a job that another one still needs
//! is kept, whatever the limits say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{JobId, Status};

/// What may be kept; a job that exceeds one of them goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Jobs that ended longer ago than this go.
    pub older_than: Option<Duration>,
    /// So many jobs are kept, the latest.
    pub keep_count: Option<u64>,
    /// The latest jobs are kept up to so many bytes in all.
    pub keep_bytes: Option<u64>,
}

impl Limits {
    /// True if nothing would ever go.
    #[must_use]
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The job.
    pub id: JobId,
    /// How it ended.
    pub status: Status,
    /// When.
    pub ended_at: Timestamp,
    /// The number of its last record line, by which it is known again under its lease.
    pub seq: u64,
    /// What its record, job file and logs take.
    pub bytes: u64,
    /// The job that it is a part of.
    pub parent: Option<JobId>,
    /// Its run.
    pub run_id: Option<String>,
}

/// Why a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It ended too long ago.
    Age,
    /// There are enough later ones.
    Count,
    /// The later ones fill the space.
    Bytes,
}

impl Cause {
    /// The word for programs and people.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
            Self::Bytes => "bytes",
        }
    }
}

/// The decision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The jobs that go, the oldest first.
    pub drop: Vec<(Finished, Cause)>,
    /// The jobs that would go and are needed by others.
    pub needed: Vec<JobId>,
    /// How many stay because no limit is exceeded.
    pub kept: usize,
}

/// Decides. Jobs that are needed count as kept.
#[must_use]
pub(crate) fn decide(
    mut finished: Vec<Finished>,
    needed: &BTreeSet<JobId>,
    limits: &Limits,
    now: Timestamp,
) -> Plan {
    finished.sort_by(|a, b| b.ended_at.cmp(&a.ended_at).then_with(|| a.id.cmp(&b.id)));
    let mut plan = Plan::default();
    let mut bytes = 0u64;
    for (later, job) in finished.into_iter().enumerate() {
        bytes = bytes.saturating_add(job.bytes);
        match cause(&job, later, bytes, limits, now) {
            None => plan.kept += 1,
            Some(_) if needed.contains(&job.id) => plan.needed.push(job.id),
            Some(cause) => plan.drop.push((job, cause)),
        }
    }
    plan.drop.reverse();
    plan
}

fn cause(job: &Finished, later: usize, bytes: u64, limits: &Limits, now: Timestamp) -> Option<Cause> {
    if limits.older_than.is_some_and(|longest| now.since(job.ended_at) > longest) {
        Some(Cause::Age)
    } else if limits.keep_count.is_some_and(|count| later as u64 >= count) {
        Some(Cause::Count)
    } else if limits.keep_bytes.is_some_and(|most| bytes > most) {
        Some(Cause::Bytes)
    } else {
        None
    }
}

/// The needed jobs: the dependencies of the jobs that have not ended, and the jobs that those were escalated to, by which
/// they are judged.
#[must_use]
pub(crate) fn needed(
    dependencies: BTreeSet<JobId>,
    escalated_to: &BTreeMap<JobId, JobId>,
) -> BTreeSet<JobId> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<JobId> = dependencies.into_iter().collect();
    while let Some(id) = open.pop() {
        open.extend(escalated_to.get(&id).filter(|next| !needed.contains(*next)).cloned());
        needed.insert(id);
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-21T12:00:00Z").unwrap()
    }

    /// Jobs `j0`, `j1`, …, the n-th ended n days ago, each of 100 bytes.
    fn finished(count: u64) -> Vec<Finished> {
        let at =
            |days: u64| Timestamp::from_millis(now().as_millis() - i64::try_from(days * DAY * 1000).unwrap());
        (0..count)
            .map(|n| Finished {
                id: id(&format!("j{n}")),
                status: Status::Succeeded,
                ended_at: at(n),
                seq: 3,
                bytes: 100,
                parent: None,
                run_id: None,
            })
            .collect()
    }

    fn dropped(limits: &Limits, needed: &[&str]) -> Vec<(String, Cause)> {
        let needed = needed.iter().map(|text| id(text)).collect();
        let plan = decide(finished(5), &needed, limits, now());
        assert_eq!(plan.drop.len() + plan.kept + plan.needed.len(), 5);
        plan.drop.into_iter().map(|(job, cause)| (job.id.to_string(), cause)).collect()
    }

    fn all_of(names: &[&str], cause: Cause) -> Vec<(String, Cause)> {
        names.iter().map(|name| ((*name).to_owned(), cause)).collect()
    }

    #[test]
    fn without_limits_everything_is_kept() {
        assert_eq!(dropped(&Limits::default(), &[]), []);
        assert!(Limits::default().are_none());
        assert!(!Limits { keep_bytes: Some(1 << 40), ..Limits::default() }.are_none());
    }

    #[test]
    fn each_cause_has_its_word() {
        assert_eq!([Cause::Age, Cause::Count, Cause::Bytes].map(Cause::as_str), ["age", "count", "bytes"]);
    }

    #[test]
    fn the_oldest_go_by_age_by_count_and_by_bytes() {
        let days = Limits { older_than: Some(Duration::from_secs(3 * DAY)), ..Limits::default() };
        assert_eq!(dropped(&days, &[]), all_of(&["j4"], Cause::Age));
        let count = Limits { keep_count: Some(2), ..Limits::default() };
        assert_eq!(dropped(&count, &[]), all_of(&["j4", "j3", "j2"], Cause::Count));
        let bytes = Limits { keep_bytes: Some(399), ..Limits::default() };
        assert_eq!(dropped(&bytes, &[]), all_of(&["j4", "j3"], Cause::Bytes));
    }

    #[test]
    fn the_first_limit_that_is_exceeded_is_named() {
        let age = Some(Duration::from_secs(3 * DAY));
        let limits = Limits { older_than: age, keep_count: Some(3), keep_bytes: Some(0) };
        let want = [("j4", Cause::Age), ("j3", Cause::Count), ("j2", Cause::Bytes)];
        let found = dropped(&limits, &[]);
        assert_eq!(&found[..3], want.map(|(name, cause)| (name.to_owned(), cause)));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn what_is_needed_stays_whatever_the_limits_say() {
        let limits = Limits { keep_count: Some(0), ..Limits::default() };
        assert_eq!(dropped(&limits, &["j4", "j1"]), all_of(&["j3", "j2", "j0"], Cause::Count));
    }

    #[test]
    fn a_job_of_the_future_is_not_old() {
        let mut jobs = finished(1);
        jobs[0].ended_at = now().after(Duration::from_secs(DAY));
        let limits = Limits { older_than: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(decide(jobs, &BTreeSet::new(), &limits, now()).kept, 1);
    }

    #[test]
    fn an_escalation_is_followed_and_a_circle_ends() {
        let to = BTreeMap::from([(id("a"), id("a.x")), (id("a.x"), id("a.y")), (id("a.y"), id("a"))]);
        let found = needed(BTreeSet::from([id("a"), id("b")]), &to);
        assert_eq!(found, BTreeSet::from([id("a"), id("a.x"), id("a.y"), id("b")]));
    }
}
