//! What came out of an attempt.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::job::class::Class;
use crate::job::record::Work;
use crate::job::{ErrorReport, JobResult};

/// What came out of an attempt.
#[derive(Debug, Clone)]
pub(super) struct AttemptEnd {
    /// The result; the status in it is not yet decided.
    pub result: JobResult,
    /// Why it is not a success.
    pub error_report: Option<ErrorReport>,
    /// True if the cause of a failed start can pass by itself.
    pub cause_may_pass: bool,
    /// True if another attempt of the same tool would fail as well.
    pub for_good: bool,
    /// True if processes of the attempt could not be ended.
    pub left_alive: bool,
    /// An agent's own name of its session.
    pub session_id: Option<String>,
    /// When a parked job goes on.
    pub not_before: Option<Timestamp>,
    /// When the job goes on if it cannot be handed on.
    pub park_instead: Option<Timestamp>,
    /// True if it is not handed on.
    pub stays_here: bool,
    /// What became of an agent.
    pub class: Option<Class>,
    /// What an agent did to the work tree.
    pub work: Option<Work>,
}

/// What only the error report has.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// What to look at first.
    pub lines: Vec<String>,
    /// Counts and names of a test run.
    pub test_results: Option<Value>,
    /// The git operation that failed.
    pub git_command: Option<String>,
}
