//! Whether the clock was set back between two looks.

use std::time::Duration;

use crate::clock::Timestamp;

/// A clock that is set back by more was fast before.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// What the clock and the monotonic time were at the last look.
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
