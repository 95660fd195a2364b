//! When a worker polls for changes that no event reports.

use std::time::Duration;

use crate::clock::Timestamp;

/// How often the worker polls for changes without an event: abandoned jobs, names that inotify missed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same for dependencies, which other workers end.
pub(super) const DEPENDENCIES_EVERY: Duration = Duration::from_secs(1);
/// The same for dependencies where the journal says that nothing happened.
pub(super) const DEPENDENCIES_AT_LEAST: Duration = Duration::from_secs(30);
/// The same for locks, whose release a dead machine does not tell.
pub(super) const LOCKS_EVERY: Duration = Duration::from_secs(1);
/// The same for everything where inotify does not work.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(100);

/// When it looks next, by the monotonic clock, and what it saw the last time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// At everything.
    pub(super) next_look: Duration,
    /// At locks, and at everything where inotify does not work.
    pub(super) next_poll: Duration,
    /// At dependencies.
    pub(super) next_dependencies: Duration,
    /// At dependencies even if the journal says that nothing happened.
    pub(super) next_dependencies_all: Duration,
    /// The end of the journal at the last look at dependencies.
    pub(super) journal: Option<(u64, u64)>,
    /// At the jobs that come after others.
    pub(super) next_followers: Duration,
    /// The end of the journal when all of these were last judged.
    pub(super) followers_judged_at: Option<Option<(u64, u64)>>,
    /// The clocks at the last look.
    pub(super) last_look: LastLook,
}

/// A clock that is set back by more was fast before.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The clock and the monotonic time at the last look.
#[derive(Debug, Default)]
pub(super) struct LastLook(Option<(Timestamp, Duration)>);

impl LastLook {
    /// True if the clock was set back since then.
    pub(super) fn was_set_back(&mut self, now: Timestamp, monotonic: Duration) -> bool {
        let (then, at) = self.0.replace((now, monotonic)).unwrap_or((now, monotonic));
        then.after(monotonic.saturating_sub(at)).since(now) > CLOCK_STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_goes_back_while_time_goes_on_was_set_back() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let mut last = LastLook::default();
        for (now, monotonic, set_back) in [
            (9000, 0, false),
            (9005, 5, false),
            (9006, 9, true),
            (9016, 19, false),
            (99_999, 20, false),
            (9000, 21, true),
        ] {
            assert_eq!(last.was_set_back(at(now), Duration::from_secs(monotonic)), set_back, "{now}");
        }
    }
}
