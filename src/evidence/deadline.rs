//! How long one look at a work tree may take, all its calls of git and all its reading together.
//!
//! Hard rule: a look that has no time left is an error that says at what, never a look that saw less.

use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::job::{Code, Reason};

/// A longer look is given up: no one waits for ever for the evidence of a job that has ended.
const LOOK: Duration = Duration::from_secs(120);

/// The end of the time of one look.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    clock: SystemClock,
    wait: Duration,
}

impl Deadline {
    /// That of a look that begins now.
    #[must_use]
    pub fn of_a_look() -> Self {
        Self::within(LOOK)
    }

    /// So much from now on.
    #[must_use]
    pub fn within(wait: Duration) -> Self {
        Self { clock: SystemClock::start(), wait }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.wait.saturating_sub(self.clock.monotonic())
    }

    /// True if nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// What is said when it is over, with what was being done.
    #[must_use]
    pub fn missed(&self, what: &str) -> Reason {
        let message = format!(
            "the look at the work tree took longer than {} s, at the end {what}",
            self.wait.as_secs()
        );
        Reason::new(Code::EvidenceFailed, message)
    }
}
