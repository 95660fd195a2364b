//! The names of the events of a run: those of the original where it has one.

use schemars::JsonSchema;
use serde::Serialize;

/// The name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventName {
    RunCreated,
    RunStarted,
    RunCompleted,
    RunQuarantined,
    RunCanceled,
    WorkstreamStart,
    WorkstreamEnd,
    IntegrationStart,
    IntegrationEnd,
    JobPaused,
    StepStarted,
    StepCompleted,
    TestGateExecuted,
    FixAttempt,
    BreakerTrip,
    ScopeViolation,
    PatchCreated,
    PatchQuarantined,
    MergeConflictDetected,
    BudgetWarning,
    BudgetExceeded,
}

impl EventName {
    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RunCreated => "run_created",
            Self::RunStarted => "run_started",
            Self::RunCompleted => "run_completed",
            Self::RunQuarantined => "run_quarantined",
            Self::RunCanceled => "run_canceled",
            Self::WorkstreamStart => "workstream_start",
            Self::WorkstreamEnd => "workstream_end",
            Self::IntegrationStart => "integration_start",
            Self::IntegrationEnd => "integration_end",
            Self::JobPaused => "job_paused",
            Self::StepStarted => "step_started",
            Self::StepCompleted => "step_completed",
            Self::TestGateExecuted => "test_gate_executed",
            Self::FixAttempt => "fix_attempt",
            Self::BreakerTrip => "breaker_trip",
            Self::ScopeViolation => "scope_violation",
            Self::PatchCreated => "patch_created",
            Self::PatchQuarantined => "patch_quarantined",
            Self::MergeConflictDetected => "merge_conflict_detected",
            Self::BudgetWarning => "budget_warning",
            Self::BudgetExceeded => "budget_exceeded",
        }
    }

    /// True for an event of the run as a whole.
    #[must_use]
    pub(super) fn is_of_run(self) -> bool {
        matches!(
            self,
            Self::RunCreated
                | Self::RunStarted
                | Self::RunCompleted
                | Self::RunQuarantined
                | Self::RunCanceled
        )
    }
}
