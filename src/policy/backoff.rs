//! The wait between two attempts.
//!
//! Formulas of the historical retry policy, with n counted from 0: immediate 0; linear `base*(n+1)`;
//! exponential `base*2^n`; fibonacci `base*fib(n+1)`; all cut at the maximum.

use std::time::Duration;

use crate::job::spec::{Backoff, Strategy};

/// The wait after `failures` (at least 1) failed attempts; equal arguments give equal waits, jitter included.
#[must_use]
pub(crate) fn wait(backoff: Option<&Backoff>, job_id: &str, failures: u32) -> Duration {
    let default = Backoff::default();
    let backoff = backoff.unwrap_or(&default);
    let base = backoff.base_seconds.map_or(Duration::from_secs(1), crate::job::number::Seconds::duration);
    let longest = backoff.max_seconds.map_or(Duration::from_secs(300), crate::job::number::Seconds::duration);
    let n = failures.saturating_sub(1);
    let factor = match backoff.strategy.unwrap_or(Strategy::Exponential) {
        Strategy::Immediate => return Duration::ZERO,
        Strategy::Linear => f64::from(n) + 1.0,
        Strategy::Exponential => 2f64.powi(i32::try_from(n.min(1000)).unwrap_or(1000)),
        Strategy::Fibonacci => fibonacci(n),
    };
    let spread = if backoff.jitter == Some(true) { jitter(job_id, failures) } else { 1.0 };
    let seconds = (base.as_secs_f64() * factor * spread).min(longest.as_secs_f64());
    Duration::from_secs_f64(seconds)
}

/// How long a job waits for a service that does not say when it can go on: half a minute, or five minutes for a used-up quota,
/// twice as long each time; spread by half, so that not all come back at once. Never less than 15 s or more than half an hour;
/// of a quota never less than 150 s or more than an hour.
#[must_use]
pub(crate) fn park_wait(is_quota: bool, job_id: &str, parks: u32) -> Duration {
    let (base, longest) = if is_quota { (300.0, 3600.0) } else { (30.0, 1800.0) };
    let seconds: f64 = base * 2f64.powi(i32::try_from(parks.min(16)).unwrap_or(16));
    // Cut before, the spread would lead beyond; cut only after, nothing would be spread once it is long enough.
    Duration::from_secs_f64((seconds.min(longest) * jitter(job_id, parks)).min(longest))
}

/// The delay beyond the announced time, so that jobs that wait for one moment do not all come at once: up to a tenth of the
/// wait, and up to half a minute.
#[must_use]
pub(crate) fn spread(wait: Duration, job_id: &str, parks: u32) -> Duration {
    let most = (wait / 10).min(Duration::from_secs(30));
    most.mul_f64(jitter(job_id, parks) - 0.5)
}

fn fibonacci(n: u32) -> f64 {
    let (mut a, mut b) = (1.0, 1.0);
    for _ in 0..n.min(1000) {
        (a, b) = (b, a + b);
    }
    a
}

/// A factor from 0.5 to 1.5, spread evenly over job ids and attempts (FNV-1a), the same for the same arguments.
fn jitter(job_id: &str, failures: u32) -> f64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in job_id.bytes().chain(failures.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let top = u32::try_from((hash ^ (hash >> 29)) & 0xffff).unwrap_or(0);
    0.5 + f64::from(top) / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(text: &str) -> Vec<f64> {
        let backoff: Backoff = serde_json::from_str(text).unwrap();
        (1..=6).map(|n| wait(Some(&backoff), "a", n).as_secs_f64()).collect()
    }

    #[test]
    fn a_parked_job_waits_longer_each_time_and_never_for_ever() {
        for (is_quota, shortest, longest) in [(false, 15, 1800), (true, 150, 3600)] {
            let bounds = Duration::from_secs(shortest)..=Duration::from_secs(longest);
            for id in (0..200).map(|n| format!("job-{n}")) {
                let waits: Vec<Duration> = (0..40).map(|parks| park_wait(is_quota, &id, parks)).collect();
                assert!(waits.iter().all(|wait| bounds.contains(wait)), "{id} {waits:?}");
                assert!(waits[39] >= Duration::from_secs(longest / 2), "{id} {waits:?}");
            }
            let late = |n: u32| park_wait(is_quota, &format!("job-{n}"), 20);
            assert!((0..200).any(|n| late(n) != late(0)), "not all come back at once");
        }
    }

    #[test]
    fn each_strategy_grows_as_its_formula_says() {
        assert_eq!(waits(r#"{"strategy":"immediate"}"#), [0.0; 6]);
        assert_eq!(waits(r#"{"strategy":"linear","base_seconds":2}"#), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(waits(r#"{"max_seconds":10}"#), [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(waits(r#"{"strategy":"fibonacci"}"#), [1.0, 1.0, 2.0, 3.0, 5.0, 8.0]);
    }

    #[test]
    fn a_wait_is_spread_by_a_factor_of_the_job_and_the_attempt() {
        let backoff: Backoff = serde_json::from_str(r#"{"strategy":"linear","jitter":true}"#).unwrap();
        for failures in 1..6 {
            let factor = f64::from(failures) * jitter("a", failures);
            assert_eq!(wait(Some(&backoff), "a", failures), Duration::from_secs_f64(factor));
        }
        for (is_quota, waits) in
            [(false, [30, 60, 120, 240, 480, 960]), (true, [300, 600, 1200, 2400, 3600, 3600])]
        {
            for (parks, wait) in (0..).zip(waits) {
                let spread = f64::from(wait) * jitter("a", parks);
                let longest = if is_quota { 3600.0 } else { 1800.0 };
                let wanted = Duration::from_secs_f64(spread.min(longest));
                assert_eq!(park_wait(is_quota, "a", parks), wanted, "{is_quota} {parks}");
            }
        }
    }

    #[test]
    fn jobs_that_wait_for_one_moment_come_up_to_a_tenth_or_half_a_minute_later() {
        for (wait, most) in [(0, 0), (100, 10), (300, 30), (100_000, 30)] {
            let most = Duration::from_secs(most);
            let late = |n: u32| spread(Duration::from_secs(wait), &format!("job-{n}"), 1);
            let all: Vec<Duration> = (0..200).map(late).collect();
            assert!(all.iter().all(|late| *late <= most), "{wait}: {all:?}");
            let latest = all.iter().max().copied().unwrap();
            assert!(
                latest >= most.mul_f64(0.9) && all.iter().any(|late| *late <= most / 10),
                "{wait}: {all:?}"
            );
        }
    }

    #[test]
    fn a_wait_never_overflows() {
        let backoff = Backoff::default();
        assert_eq!(wait(Some(&backoff), "a", u32::MAX), Duration::from_secs(300));
    }

    #[test]
    fn jitter_spreads_jobs_between_half_and_one_and_a_half() {
        let all: Vec<f64> = (0..1000).map(|n| jitter(&format!("job-{n}"), 1)).collect();
        assert!(all.iter().all(|f| (0.5..1.5).contains(f)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
        // Workers of different builds agree on when a job comes.
        let three = [jitter("a", 1), jitter("a", 2), jitter("b", 1)].map(|factor| (factor * 65_536.0) as u32);
        assert_eq!(three, [63464, 37913, 46671]);
    }
}
