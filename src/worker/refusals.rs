//! The jobs whose start was refused for a reason that no wait resolves.

use std::collections::HashMap;
use std::time::Duration;

use super::wait::Wait;
use crate::clock::Timestamp;
use crate::job::{JobId, Reason};

/// So often is a refused start taken for something that passes; a drain waits that long for it.
const PATIENCE: u32 = 3;

/// How often a start was refused in a row, and why the last time.
#[derive(Debug)]
struct Refused {
    times: u32,
    reason: Reason,
}

/// Every job whose last start was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<JobId, Refused>);

impl Refusals {
    /// True if the job was not refused for this reason the last time.
    pub(super) fn is_new(&self, id: &JobId, reason: &Reason) -> bool {
        self.0.get(id).is_none_or(|before| before.reason.code != reason.code)
    }

    /// Notes a refusal; the job waits for a while that grows each time.
    pub(super) fn add(&mut self, id: &JobId, reason: Reason, now: Timestamp) -> Wait {
        let times = self.0.get(id).map_or(0, |before| before.times);
        let until = now.after(Duration::from_millis(200 << times.min(7)));
        self.0.insert(id.clone(), Refused { times: times + 1, reason });
        if times >= PATIENCE { Wait::Refused(until) } else { Wait::Retry(until) }
    }

    /// Forgets a job that was started, or is gone.
    pub(super) fn forget(&mut self, id: &JobId) {
        self.0.remove(id);
    }

    /// Why a job was refused the last time.
    pub(super) fn reason(&self, id: &JobId) -> Option<&Reason> {
        self.0.get(id).map(|refused| &refused.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Code;

    #[test]
    fn a_refused_start_is_retried_by_a_drain_three_times_and_then_left_for_longer_each_time() {
        let (mut refusals, now) = (Refusals::default(), Timestamp::from_millis(0));
        let id = JobId::new("a").unwrap();
        let refuse = |refusals: &mut Refusals| refusals.add(&id, Reason::new(Code::IdRunning, "m"), now);
        let until = |millis| Timestamp::from_millis(millis);
        for millis in [200, 400, 800] {
            assert_eq!(refuse(&mut refusals), Wait::Retry(until(millis)));
        }
        for millis in [1600, 3200, 6400, 12_800, 25_600, 25_600] {
            assert_eq!(refuse(&mut refusals), Wait::Refused(until(millis)));
        }
        assert!(!refusals.is_new(&id, &Reason::new(Code::IdRunning, "other words")));
        assert!(refusals.is_new(&id, &Reason::new(Code::DiskFull, "m")));
        refusals.forget(&id);
        assert!(refusals.reason(&id).is_none());
        assert_eq!(refuse(&mut refusals), Wait::Retry(until(200)));
    }
}
