//! The exit status of `run-job`: one table (contracts 6).

use crate::job::{Code, JobResult, Outcome, Status};

/// The verdict is success.
pub(crate) const SUCCESS: u8 = 0;
/// The tool said 0 but the verdict is failure.
pub(crate) const VERDICT_FAILURE: u8 = 1;
/// The job waits in the queue.
pub(crate) const PARKED: u8 = 75;
/// Timed out or stalled.
pub(crate) const TIMED_OUT: u8 = 124;
/// An engine error.
pub(crate) const ENGINE: u8 = 125;
/// The tool cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The tool was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// A key of the result's `metadata`: the engine ended the tool for what it printed, and its exit code says only that.
pub(crate) const ENDED_BY_ENGINE: &str = "ended_by_engine";

/// The exit status for a result.
#[must_use]
pub(crate) fn for_result(result: &JobResult) -> u8 {
    if result.status == Status::Queued {
        return PARKED;
    }
    let code = result.reason.as_ref().map(|reason| &reason.code);
    match result.outcome {
        Outcome::Succeeded => SUCCESS,
        Outcome::Failed if result.metadata.contains_key(ENDED_BY_ENGINE) => VERDICT_FAILURE,
        Outcome::Failed => match result.exit_code {
            Some(tool @ 1..=255) => u8::try_from(tool).unwrap_or(VERDICT_FAILURE),
            _ => VERDICT_FAILURE,
        },
        Outcome::TimedOut | Outcome::Stalled => TIMED_OUT,
        Outcome::Killed => for_signal(result.signal.unwrap_or(libc::SIGKILL)),
        Outcome::Canceled => {
            let signal = if let Some(Code::Signal(number)) = code { *number } else { libc::SIGTERM };
            for_signal(signal)
        }
        Outcome::Parked => PARKED,
        Outcome::NotStarted => match code {
            Some(Code::ToolNotExecutable) => NOT_EXECUTABLE,
            Some(Code::ToolNotFound) => NOT_FOUND,
            _ => ENGINE,
        },
        Outcome::Lost | Outcome::Invalid => ENGINE,
    }
}

/// The exit status for an end by a signal: 128 and its number.
#[must_use]
pub(crate) fn for_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
