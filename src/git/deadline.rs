//! The end of a task of several calls of git: its time, and the word of another to end it before.

use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::job::{Code, Reason};

/// A hook that is asked while a task runs: true ends the task.
#[derive(Clone)]
pub struct Stop(Rc<dyn Fn() -> bool>);

impl Stop {
    /// Ends the task once the hook says so.
    pub fn new(hook: impl Fn() -> bool + 'static) -> Self {
        Self(Rc::new(hook))
    }

    /// Never ends it.
    #[must_use]
    pub fn never() -> Self {
        Self::new(|| false)
    }

    /// The hook itself.
    pub(super) fn hook(&self) -> &dyn Fn() -> bool {
        &*self.0
    }

    /// True if the task must end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").finish_non_exhaustive()
    }
}

/// How long a task may take: all its calls of git and all its reading together.
///
/// Hard rule: a task without time left is an error that names its last step, never a shorter answer.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    pub(super) task: &'static str,
    clock: SystemClock,
    wait: Duration,
}

impl Deadline {
    /// That of a task that begins now; messages name the task, as "the look at the worktree".
    #[must_use]
    pub fn new(task: &'static str, wait: Duration) -> Self {
        Self { task, clock: SystemClock::start(), wait }
    }

    /// The time left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.wait.saturating_sub(self.clock.monotonic())
    }

    /// True if no time is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The reason of a task that has no time left, with its last step, as "in `git status`".
    #[must_use]
    pub fn missed(&self, step: &str) -> Reason {
        let message = format!("{} took longer than {} s, last {step}", self.task, self.wait.as_secs());
        Reason::new(Code::EvidenceFailed, message)
    }
}
