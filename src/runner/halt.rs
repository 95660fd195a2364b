//! Cancels an attempt before its tool starts, or after it has ended.

use super::verdict;
use crate::git::Stop;
use crate::job::Reason;
use crate::process::signals::{self, Asked};
use crate::queue::cancel;
use crate::store::control::CancelWatch;

/// Cancels an attempt before its tool starts, or after it has ended: a signal or a request to cancel.
#[derive(Debug, Clone)]
pub(super) struct Halt {
    /// This many requests to stop do not count.
    heeded: usize,
    cancel: Option<CancelWatch>,
}

impl Halt {
    /// Counts every request since the engine started.
    #[must_use]
    pub(super) fn of_start(cancel: CancelWatch) -> Self {
        Self { heeded: 0, cancel: Some(cancel) }
    }

    /// Counts later requests only: an earlier one has ended the tool. `None` if that was a request to cancel.
    #[must_use]
    pub(super) fn from_now(cancel: Option<CancelWatch>) -> Self {
        Self { heeded: signals::requests(), cancel }
    }

    /// Why the attempt is canceled, if it is.
    #[must_use]
    pub(super) fn reason(&self) -> Option<Reason> {
        if signals::requests() > self.heeded
            && let Asked::Once(interrupt) | Asked::Again(interrupt) = signals::asked()
        {
            return Some(verdict::interrupted(interrupt));
        }
        self.cancel.as_ref().filter(|cancel| cancel.is_asked()).map(|_| cancel::by_user())
    }

    /// Asked by what takes long and is not the tool.
    #[must_use]
    pub(super) fn stop(&self) -> Stop {
        let halt = self.clone();
        Stop::new(move || halt.reason().is_some())
    }
}
