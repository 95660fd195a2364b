//! The status of a workstream and of a run: pure folds of records.
//!
//! Computed, never written. A run of exactly one workstream has no job of its own: the workstream decides.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{RunFacts, WorkstreamFacts};
use crate::job::{Outcome, RecordLine, Status};

/// Where a workstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkstreamStatus {
    /// No attempt of this life yet.
    Pending,
    /// An attempt is open, or follows by itself.
    Running,
    /// It waits for a quota or a service, and goes on by itself.
    Parked,
    /// It waits for something that only a person can change.
    Blocked,
    /// All its checks passed.
    Succeeded,
    /// It ended without success.
    Failed,
    /// It needs a person.
    Quarantined,
    /// A person stopped it.
    Canceled,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunStatus {
    /// No attempt of any of its jobs yet.
    Pending,
    /// Something of it can still move.
    Running,
    /// Every workstream succeeded.
    Succeeded,
    /// A workstream failed or is blocked.
    Failed,
    /// A job is quarantined, or a person said so of the run.
    Quarantined,
    /// Only cancels kept it from succeeding.
    Canceled,
}

impl WorkstreamStatus {
    /// The status of a workstream.
    #[must_use]
    pub(crate) fn of(facts: &WorkstreamFacts) -> Self {
        match &facts.line {
            Some(line) => Self::of_line(line, facts.stuck.is_some()),
            // Whatever a record says that cannot be read, a person has to look at it.
            None if facts.problem.is_some() => Self::Blocked,
            None => Self::Pending,
        }
    }

    fn of_line(line: &RecordLine, is_stuck: bool) -> Self {
        match line.status {
            Status::Queued if is_stuck => Self::Blocked,
            Status::Queued => match line.attempts.last().map(|last| last.outcome) {
                None => Self::Pending,
                Some(Some(Outcome::Parked)) => Self::Parked,
                Some(_) => Self::Running,
            },
            Status::Running => Self::Running,
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::Quarantined => Self::Quarantined,
            Status::Canceled => Self::Canceled,
        }
    }

    /// True if it goes on without a person.
    #[must_use]
    pub(crate) fn can_move(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Parked)
    }

    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Blocked => "blocked",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Canceled => "canceled",
        }
    }
}

impl RunStatus {
    /// The status of a run.
    #[must_use]
    pub(crate) fn of(facts: &RunFacts) -> Self {
        let workstreams: Vec<WorkstreamStatus> = facts.workstreams.iter().map(WorkstreamStatus::of).collect();
        let is_begun = facts.workstreams.iter().any(|workstream| workstream.started_at.is_some());
        Self::fold(&workstreams, is_begun, facts.quarantine.is_some())
    }

    /// The status of a run of these workstreams.
    #[must_use]
    pub(crate) fn fold(workstreams: &[WorkstreamStatus], is_begun: bool, is_quarantined: bool) -> Self {
        let any = |wanted: &[WorkstreamStatus]| workstreams.iter().any(|status| wanted.contains(status));
        if workstreams.iter().any(|status| status.can_move()) {
            return if is_begun { Self::Running } else { Self::Pending };
        }
        if is_quarantined || any(&[WorkstreamStatus::Quarantined]) {
            Self::Quarantined
        } else if any(&[WorkstreamStatus::Failed, WorkstreamStatus::Blocked]) {
            Self::Failed
        } else if any(&[WorkstreamStatus::Canceled]) {
            Self::Canceled
        } else {
            Self::Succeeded
        }
    }

    /// True if nothing of it moves without a person.
    #[must_use]
    pub(crate) fn is_at_rest(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Canceled => "canceled",
        }
    }
}

impl fmt::Display for WorkstreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkstreamStatus as W;

    #[test]
    fn a_run_is_over_only_when_nothing_moves_and_the_worst_end_counts() {
        let table: [(&[W], bool, bool, RunStatus); 13] = [
            (&[W::Pending], false, false, RunStatus::Pending),
            (&[W::Pending], true, false, RunStatus::Running),
            (&[W::Running, W::Failed], true, false, RunStatus::Running),
            (&[W::Parked], true, false, RunStatus::Running),
            (&[W::Parked, W::Quarantined], true, true, RunStatus::Running),
            (&[W::Succeeded, W::Succeeded], true, false, RunStatus::Succeeded),
            (&[W::Succeeded], true, true, RunStatus::Quarantined),
            (&[W::Quarantined, W::Failed], true, false, RunStatus::Quarantined),
            (&[W::Failed, W::Canceled], true, false, RunStatus::Failed),
            (&[W::Blocked, W::Succeeded], true, false, RunStatus::Failed),
            (&[W::Canceled, W::Succeeded], true, false, RunStatus::Canceled),
            (&[W::Canceled], false, false, RunStatus::Canceled),
            (&[W::Pending, W::Canceled], false, false, RunStatus::Pending),
        ];
        for (workstreams, is_begun, is_quarantined, want) in table {
            assert_eq!(RunStatus::fold(workstreams, is_begun, is_quarantined), want, "{workstreams:?}");
        }
    }
}
