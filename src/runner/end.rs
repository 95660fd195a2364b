//! The end of an attempt, and its consequence for the job.
//!
//! The verdict on a tool, the verdict on an agent (`agent/consequence.rs`), or the reason why neither was started
//! (`not_started.rs`) makes the `End` and says what should follow. This file decides whether the job may be retried or handed
//! on.

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::job::record::Work;
use crate::job::spec::FallbackOn;
use crate::job::state::Next;
use crate::job::{Code, ErrorReport, JobResult, Outcome, Reason};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    /// The outcome, as the attempt's own files tell it.
    pub outcome: Outcome,
    /// Why; none for a plain success.
    pub reason: Option<Reason>,
    /// The consequence.
    pub then: Then,
}

/// The consequence of an attempt for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Another attempt while the job has retries left. A tool that has run is then followed by another adapter, if the job names
    /// one.
    Retry,
    /// The job is parked until this time, and no retry is counted.
    Park(Timestamp),
    /// The same tool would fail again: another adapter follows, if the job names one.
    HandOn {
        /// The class that the job must allow for that, beside ordinary failures.
        only_on: Option<FallbackOn>,
        /// Until when the job is parked if it is not handed on.
        else_park: Option<Timestamp>,
    },
    /// The job ends.
    Stop(Stop),
}

/// Why a job ends with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing more follows by itself: it has succeeded, is parked, or is lost.
    Done,
    /// It is canceled.
    Canceled,
    /// No attempt of this job file can start.
    CannotStart,
    /// The budget is used up, or files out of scope are changed: no other tool may go on from here either.
    OutOfBounds,
    /// The tool itself told how it ended: it is not tried again.
    Told,
    /// It told that a person must look at it.
    Quarantined,
    /// Processes of the attempt are alive: another attempt beside them would be two at once.
    LeftAlive,
}

impl End {
    /// The end of an attempt that was started, with what follows such an outcome by itself.
    #[must_use]
    pub(super) fn from_outcome(outcome: Outcome, reason: Option<Reason>) -> Self {
        let then = match outcome {
            Outcome::Failed | Outcome::TimedOut | Outcome::Stalled | Outcome::Killed => Then::Retry,
            Outcome::Canceled => Then::Stop(Stop::Canceled),
            Outcome::NotStarted | Outcome::Invalid => Then::Stop(Stop::CannotStart),
            Outcome::Succeeded | Outcome::Parked | Outcome::Lost => Then::Stop(Stop::Done),
        };
        Self { outcome, reason, then }
    }

    /// The end of an attempt that was interrupted, by a signal or a request to cancel.
    #[must_use]
    pub(super) fn canceled(reason: Reason) -> Self {
        Self::from_outcome(Outcome::Canceled, Some(reason))
    }

    /// A failure after which no tool may go on.
    #[must_use]
    pub(super) fn out_of_bounds(reason: Reason) -> Self {
        Self { then: Then::Stop(Stop::OutOfBounds), ..Self::from_outcome(Outcome::Failed, Some(reason)) }
    }
}

/// The end of an attempt whose tool was not started.
impl From<Reason> for End {
    fn from(reason: Reason) -> Self {
        let hand_on = |cause| Then::HandOn { only_on: Some(cause), else_park: None };
        let then = match reason.code {
            _ if reason.shortage.is_some() => Then::Retry,
            Code::LogInUse | Code::JobFileNotMoved => Then::Retry,
            Code::ToolNotFound => hand_on(FallbackOn::Absent),
            Code::KeyMissing => hand_on(FallbackOn::Auth),
            _ => Then::Stop(Stop::CannotStart),
        };
        Self { then, ..Self::from_outcome(Outcome::NotStarted, Some(reason)) }
    }
}

/// The end of an attempt, with the details to write.
#[derive(Debug, Clone)]
pub(super) struct AttemptEnd {
    /// The result, which holds outcome and reason; the status in it is not yet decided.
    pub result: JobResult,
    /// The consequence.
    pub then: Then,
    /// Why it is not a success.
    pub error_report: Option<ErrorReport>,
    /// An agent's own name of its session.
    pub session_id: Option<String>,
    /// The changes of an agent to the worktree.
    pub work: Option<Work>,
}

impl AttemptEnd {
    /// Whether another attempt of the same tool follows, after so many tries.
    #[must_use]
    pub(super) fn next(&self, tries: u32, max_retries: u32) -> Next {
        if self.then == Then::Retry && tries <= max_retries { Next::Again } else { Next::Stop }
    }

    /// True if another adapter takes the job that is not tried again, where the job names one and allows this.
    #[must_use]
    pub(super) fn goes_to_another(&self, allowed: &[FallbackOn]) -> bool {
        match self.then {
            Then::Retry => self.result.outcome != Outcome::NotStarted,
            Then::HandOn { only_on, .. } => only_on.is_none_or(|cause| allowed.contains(&cause)),
            Then::Park(_) | Then::Stop(_) => false,
        }
    }

    /// Until when a job is parked that was not handed on.
    #[must_use]
    pub(super) fn parked_until(&self) -> Option<Timestamp> {
        match self.then {
            Then::Park(until) => Some(until),
            Then::HandOn { else_park, .. } => else_park,
            Then::Retry | Then::Stop(_) => None,
        }
    }

    /// Makes it the end of a canceled attempt.
    pub(super) fn cancel(&mut self, reason: Reason) {
        self.then = Then::Stop(Stop::Canceled);
        self.result.outcome = Outcome::Canceled;
        if let Some(report) = &mut self.error_report {
            report.outcome = Outcome::Canceled;
            report.summary.clone_from(&reason.message);
        }
        self.result.reason = Some(reason);
    }
}

/// The details of an attempt beside its end.
#[derive(Debug, Default)]
pub(super) struct Particulars {
    /// For the result.
    pub metadata: Map<String, Value>,
    /// For the error report.
    pub details: Details,
    /// An agent's own name of its session.
    pub session_id: Option<String>,
    /// The changes of an agent to the worktree.
    pub work: Option<Work>,
}

/// The details that only the error report has.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// The lines to read first.
    pub lines: Vec<String>,
    /// Counts and names of a test run.
    pub test_results: Option<Value>,
    /// The git operation that failed.
    pub git_command: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::Shortage;
    use crate::queue::attempt::blank_result;

    fn ended(end: End) -> AttemptEnd {
        let now = Timestamp::from_millis(0);
        let line = serde_json::from_value(serde_json::json!({
            "schema_version": 1, "seq": 1, "at": now, "job_id": "a", "status": "running", "place": "running",
            "not_before": null, "job": {"run_id": null, "workstream_id": null, "tool": null, "key": null,
            "priority": null, "depends_on": [], "sha256": null}, "life": 1, "first_attempt": 1,
            "former": crate::job::record::Former::default(), "attempts": [], "result": null, "error_report": null,
        }));
        let result = blank_result(&line.unwrap(), end.outcome, end.reason, now);
        AttemptEnd { result, then: end.then, error_report: None, session_id: None, work: None }
    }

    fn not_started(code: Code) -> End {
        Reason::new(code, "m").into()
    }

    const AUTH: FallbackOn = FallbackOn::Auth;
    const ABSENT: FallbackOn = FallbackOn::Absent;
    const ALL: [FallbackOn; 3] = [AUTH, FallbackOn::Quota, ABSENT];

    #[test]
    fn each_outcome_has_its_retries_and_its_way_to_another_adapter() {
        let of = |outcome| End::from_outcome(outcome, None);
        let short = Reason { shortage: Some(Shortage::Memory), ..Reason::new(Code::PathMissing, "m") };
        // Tried again; handed on where nothing more is allowed, and where everything is.
        for (end, again, to_another, if_allowed) in [
            (of(Outcome::Succeeded), false, false, false),
            (of(Outcome::Failed), true, true, true),
            (of(Outcome::TimedOut), true, true, true),
            (of(Outcome::Stalled), true, true, true),
            (of(Outcome::Killed), true, true, true),
            (of(Outcome::Canceled), false, false, false),
            (of(Outcome::Parked), false, false, false),
            (of(Outcome::Lost), false, false, false),
            (of(Outcome::Invalid), false, false, false),
            (of(Outcome::NotStarted), false, false, false),
            (End::canceled(Reason::new(Code::Interrupted, "m")), false, false, false),
            (End::out_of_bounds(Reason::new(Code::ScopeViolation, "m")), false, false, false),
            (not_started(Code::NoAdapter), false, false, false),
            (not_started(Code::LogInUse), true, false, false),
            (not_started(Code::JobFileNotMoved), true, false, false),
            (not_started(Code::ToolNotFound), false, false, true),
            (not_started(Code::KeyMissing), false, false, true),
            (not_started(Code::BudgetExceeded), false, false, false),
            (short.into(), true, false, false),
        ] {
            let ended = ended(end.clone());
            assert_eq!(ended.next(2, 2) == Next::Again, again, "{end:?}");
            assert_eq!(ended.next(3, 2), Next::Stop, "{end:?}");
            let goes = (ended.goes_to_another(&[]), ended.goes_to_another(&ALL));
            assert_eq!(goes, (to_another, if_allowed), "{end:?}");
            assert_eq!(ended.parked_until(), None, "{end:?}");
        }
    }

    #[test]
    fn what_a_job_must_allow_is_its_own_cause_and_no_other() {
        for (code, cause) in [(Code::ToolNotFound, ABSENT), (Code::KeyMissing, AUTH)] {
            let ended = ended(not_started(code));
            for allowed in ALL {
                assert_eq!(ended.goes_to_another(&[allowed]), allowed == cause, "{cause:?} {allowed:?}");
            }
        }
    }

    #[test]
    fn a_parked_job_is_neither_tried_again_nor_handed_on_and_a_canceled_one_is_not_parked() {
        let until = Timestamp::from_millis(5000);
        let hand_on = Then::HandOn { only_on: None, else_park: Some(until) };
        for (then, goes) in [(Then::Park(until), false), (hand_on, true)] {
            let mut ended = ended(End { then, ..End::from_outcome(Outcome::Failed, None) });
            assert_eq!((ended.next(0, 9), ended.goes_to_another(&[])), (Next::Stop, goes));
            assert_eq!(ended.parked_until(), Some(until));
            ended.cancel(Reason::new(Code::CanceledByUser, "m"));
            assert_eq!((ended.parked_until(), ended.goes_to_another(&ALL)), (None, false));
            assert_eq!(ended.result.outcome, Outcome::Canceled);
        }
    }
}
