//! The order in which the jobs of a queue are taken.
//!
//! Pure, and the only place that says so: workers, lists and explanations ask here. A rank does not change with the time:
//! each level of priority counts as much as an hour of waiting, so a job that is older by that much precedes it from the
//! beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::JobId;
use crate::job::record::Acceptance;
use crate::job::spec::Priority;

/// So long must a job wait to count one priority higher.
const LEVEL: Duration = Duration::from_secs(3600);

/// The place of a job in the order; the smallest is taken first, of equal ones that with the smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// When it would have come in with the lowest priority, to have this rank; in milliseconds.
    due: i64,
    accepted: i64,
    place: u32,
}

impl Rank {
    /// The rank of a job that does not start before a time of its own.
    #[must_use]
    pub(crate) fn new(
        priority: Option<Priority>,
        accepted: Acceptance,
        not_before: Option<Timestamp>,
    ) -> Self {
        let levels = match priority.unwrap_or(Priority::Normal) {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
            Priority::Critical => 3,
        };
        let since = not_before.map_or(accepted.at, |time| time.max(accepted.at));
        let gain = levels * i64::try_from(LEVEL.as_millis()).unwrap_or(i64::MAX);
        Self {
            due: since.as_millis().saturating_sub(gain),
            accepted: accepted.at.as_millis(),
            place: accepted.place,
        }
    }
}

/// A job that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lender {
    /// Its own rank.
    pub rank: Rank,
    /// What it waits for.
    pub on: Vec<JobId>,
}

/// The rank that a job has from another one, which waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loan {
    /// The rank.
    pub rank: Rank,
    /// The job whose own rank that is; others may come between the two.
    pub from: JobId,
}

impl Loan {
    /// The rank that counts of a job: the better one.
    #[must_use]
    pub(crate) fn improve(loan: Option<&Self>, own: Rank) -> Rank {
        loan.map_or(own, |loan| loan.rank.min(own))
    }
}

/// What each job has from those that wait for it, near or far: the best of their ranks.
#[must_use]
pub(crate) fn loans(waiting: &BTreeMap<JobId, Lender>) -> BTreeMap<JobId, Loan> {
    let mut best_first: Vec<(&JobId, &Lender)> = waiting.iter().collect();
    best_first.sort_by_key(|(id, lender)| (lender.rank, *id));
    let mut loans: BTreeMap<JobId, Loan> = BTreeMap::new();
    for (from, lender) in best_first {
        let mut ahead: Vec<&JobId> = lender.on.iter().collect();
        while let Some(on) = ahead.pop() {
            // An earlier visitor lent more, and to all that follow.
            if loans.contains_key(on) || on == from {
                continue;
            }
            loans.insert(on.clone(), Loan { rank: lender.rank, from: from.clone() });
            ahead.extend(waiting.get(on).into_iter().flat_map(|next| &next.on));
        }
    }
    loans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn rank(priority: Priority, minute: i64, place: u32) -> Rank {
        let at = Timestamp::from_millis(minute * 60_000);
        Rank::new(Some(priority), Acceptance { life: 1, at, place }, None)
    }

    #[test]
    fn the_order_is_priority_then_acceptance_then_place_in_the_batch() {
        let low = rank(Priority::Low, 0, 0);
        let early = rank(Priority::Normal, 1, 9);
        let first = rank(Priority::Normal, 2, 2);
        let second = rank(Priority::Normal, 2, 10);
        let critical = rank(Priority::Critical, 9, 0);
        let mut all = [low, second, early, critical, first];
        all.sort();
        assert_eq!(all, [critical, early, first, second, low]);
    }

    #[test]
    fn an_hour_of_waiting_counts_as_one_priority() {
        assert!(rank(Priority::Low, 0, 0) > rank(Priority::Normal, 59, 0));
        assert!(rank(Priority::Low, 0, 0) < rank(Priority::Normal, 61, 0));
        assert!(rank(Priority::Low, 0, 0) > rank(Priority::High, 119, 0));
        assert!(rank(Priority::Low, 0, 0) < rank(Priority::Critical, 181, 0));
    }

    #[test]
    fn a_job_with_a_time_of_its_own_waits_from_then_on() {
        let accepted = Acceptance { life: 1, at: Timestamp::from_millis(0), place: 0 };
        let later = Rank::new(None, accepted, Some(Timestamp::from_millis(600_000)));
        assert!(later > rank(Priority::Normal, 9, 0));
        assert!(later < rank(Priority::Normal, 11, 0));
        assert_eq!(Rank::new(None, accepted, Some(Timestamp::from_millis(-5))), rank(Priority::Normal, 0, 0));
    }

    fn lenders(jobs: &[(&str, Rank, &[&str])]) -> BTreeMap<JobId, Lender> {
        let lender = |(name, rank, on): &(&str, Rank, &[&str])| {
            (id(name), Lender { rank: *rank, on: on.iter().map(|on| id(on)).collect() })
        };
        jobs.iter().map(lender).collect()
    }

    #[test]
    fn what_waits_lends_its_rank_to_all_that_stands_before_it_and_the_best_counts() {
        let (high, low) = (rank(Priority::High, 5, 0), rank(Priority::Low, 0, 0));
        let found = loans(&lenders(&[
            ("end", high, &["middle"]),
            ("middle", low, &["begin"]),
            ("other", low, &["begin", "side"]),
        ]));
        let of = |name: &str| found.get(&id(name)).map(|loan| (loan.rank, loan.from.as_str()));
        assert_eq!(of("middle"), Some((high, "end")));
        assert_eq!(of("begin"), Some((high, "end")));
        assert_eq!(of("side"), Some((low, "other")));
        assert_eq!(of("end"), None);
        assert_eq!(Loan::improve(found.get(&id("begin")), low), high);
        assert_eq!(Loan::improve(found.get(&id("side")), high), high);
    }

    #[test]
    fn a_circle_lends_and_ends() {
        let (high, low) = (rank(Priority::High, 0, 0), rank(Priority::Low, 0, 0));
        let found = loans(&lenders(&[("a", high, &["b"]), ("b", low, &["a", "c"])]));
        assert_eq!(found.get(&id("c")).unwrap().rank, high);
        assert_eq!(found.get(&id("b")).unwrap().from, id("a"));
    }
}
