//! The life of a job as one table: (status, event) to (status, directory).
//!
//! Pure. Everything that changes a record asks `transition`; what the table refuses cannot be written.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::spec::OnFailure;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted, not started; or waiting for its next attempt.
    Queued,
    /// An attempt is open.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, and that is an answer (`on_failure: done`).
    Failed,
    /// A person stopped it.
    Canceled,
    /// Needs a person.
    Quarantined,
}

impl Status {
    /// True if nothing more happens to the job by itself.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Quarantined => true,
        }
    }

    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A directory of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the directories")]
pub enum Directory {
    Queued,
    Running,
    Done,
    Quarantined,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A free id gets a job file.
    Accept,
    /// An attempt starts.
    Claim,
    /// The open attempt ends.
    End(Ending),
    /// Recovery finds an attempt, or a file in `running/`, without a runner.
    Abandon(Next),
    /// Recovery finds the same, and a request to cancel that attempt.
    AbandonCanceled,
    /// A queued job is canceled.
    Cancel,
    /// An ended job is queued or run again.
    RunAgain,
    /// A job that was tried before has no job file.
    FileMissing,
}

/// How an attempt ended, with what decides where the job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether another attempt follows.
    pub next: Next,
    /// Where a failure goes.
    pub on_failure: OnFailure,
}

/// Whether another attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Yes.
    Again,
    /// No.
    Stop,
}

/// Where a job is after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Its status.
    pub status: Status,
    /// Where its file belongs.
    pub directory: Directory,
}

/// The event cannot happen to a job in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a job that is {}", status.map_or("free", Status::as_str))]
pub struct Refused {
    /// The status; none for a record without a line.
    pub status: Option<Status>,
    /// The event.
    pub event: Event,
}

/// The table. `None` is a record without a line: a free id.
///
/// # Errors
/// `Refused` for every pair that the protocol does not know.
pub fn transition(status: Option<Status>, event: Event) -> Result<After, Refused> {
    use Status::{Canceled, Failed, Quarantined, Queued, Running, Succeeded};
    match (status, event) {
        (None | Some(Queued), Event::Accept) => Ok(AT_QUEUED),
        (None | Some(Queued), Event::Claim) => Ok(AT_RUNNING),
        (None | Some(Queued), Event::Cancel) => Ok(AT_CANCELED),
        (None | Some(Queued | Running), Event::Abandon(next)) => Ok(after_crash(next)),
        (None | Some(Queued | Running), Event::AbandonCanceled) => Ok(AT_CANCELED),
        (Some(Queued | Running), Event::FileMissing) => Ok(AT_QUARANTINE),
        (Some(Running), Event::End(ending)) => Ok(after_end(ending)),
        (Some(Succeeded | Failed | Canceled | Quarantined), Event::RunAgain) => Ok(AT_QUEUED),
        (None | Some(Queued), Event::End(_) | Event::RunAgain)
        | (None, Event::FileMissing)
        | (Some(Running), Event::Accept | Event::Claim | Event::Cancel | Event::RunAgain)
        | (
            Some(Succeeded | Failed | Canceled | Quarantined),
            Event::Accept
            | Event::Claim
            | Event::End(_)
            | Event::Abandon(_)
            | Event::AbandonCanceled
            | Event::Cancel
            | Event::FileMissing,
        ) => Err(Refused { status, event }),
    }
}

const AT_QUEUED: After = After { status: Status::Queued, directory: Directory::Queued };
const AT_RUNNING: After = After { status: Status::Running, directory: Directory::Running };
const AT_CANCELED: After = After { status: Status::Canceled, directory: Directory::Done };
const AT_QUARANTINE: After = After { status: Status::Quarantined, directory: Directory::Quarantined };

fn after_crash(next: Next) -> After {
    match next {
        Next::Again => AT_QUEUED,
        Next::Stop => AT_QUARANTINE,
    }
}

fn after_end(ending: Ending) -> After {
    match ending.outcome {
        Outcome::Succeeded => After { status: Status::Succeeded, directory: Directory::Done },
        Outcome::Canceled => AT_CANCELED,
        Outcome::Parked => AT_QUEUED,
        Outcome::Invalid => AT_QUARANTINE,
        Outcome::Lost => after_crash(ending.next),
        Outcome::Failed | Outcome::TimedOut | Outcome::Stalled | Outcome::Killed | Outcome::NotStarted => {
            match (ending.next, ending.on_failure) {
                (Next::Again, _) => AT_QUEUED,
                (Next::Stop, OnFailure::Quarantine) => AT_QUARANTINE,
                (Next::Stop, OnFailure::Done) => After { status: Status::Failed, directory: Directory::Done },
            }
        }
    }
}

/// How often a job may lose its runner before it counts as poison.
pub const CRASHES_ALLOWED: usize = 3;

/// Whether a lost attempt is followed by another: only if the job is repeatable and has crashed fewer than
/// three times, the present crash included.
#[must_use]
pub fn after_loss(repeatable: bool, crashes: usize) -> Next {
    if repeatable && crashes < CRASHES_ALLOWED { Next::Again } else { Next::Stop }
}

/// Whether a failed attempt is followed by another.
///
/// `failures` counts the ended attempts of this life, this one included. An attempt that was not started is
/// repeated only where its cause can pass by itself.
#[must_use]
pub fn after_failure(outcome: Outcome, cause_may_pass: bool, failures: u32, max_retries: u32) -> Next {
    let may_repeat = match outcome {
        Outcome::Failed | Outcome::TimedOut | Outcome::Stalled | Outcome::Killed => true,
        Outcome::NotStarted => cause_may_pass,
        Outcome::Succeeded | Outcome::Canceled | Outcome::Parked | Outcome::Lost | Outcome::Invalid => false,
    };
    if may_repeat && failures <= max_retries { Next::Again } else { Next::Stop }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Option<Status>; 7] = [
        None,
        Some(Status::Queued),
        Some(Status::Running),
        Some(Status::Succeeded),
        Some(Status::Failed),
        Some(Status::Canceled),
        Some(Status::Quarantined),
    ];
    const OUTCOMES: [Outcome; 10] = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Stalled,
        Outcome::Killed,
        Outcome::Canceled,
        Outcome::Parked,
        Outcome::Lost,
        Outcome::NotStarted,
        Outcome::Invalid,
    ];

    fn events() -> Vec<Event> {
        let mut events = vec![
            Event::Accept,
            Event::Claim,
            Event::Cancel,
            Event::RunAgain,
            Event::FileMissing,
            Event::AbandonCanceled,
        ];
        for next in [Next::Again, Next::Stop] {
            events.push(Event::Abandon(next));
            for outcome in OUTCOMES {
                for on_failure in [OnFailure::Quarantine, OnFailure::Done] {
                    events.push(Event::End(Ending { outcome, next, on_failure }));
                }
            }
        }
        events
    }

    #[test]
    fn every_pair_is_answered_and_status_and_directory_agree() {
        for status in STATUSES {
            for event in events() {
                let Ok(after) = transition(status, event) else { continue };
                let expected = match after.status {
                    Status::Queued => Directory::Queued,
                    Status::Running => Directory::Running,
                    Status::Succeeded | Status::Failed | Status::Canceled => Directory::Done,
                    Status::Quarantined => Directory::Quarantined,
                };
                assert_eq!(after.directory, expected, "{status:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_terminal_status_is_left_only_by_running_again() {
        for status in STATUSES.into_iter().flatten().filter(|s| s.is_terminal()) {
            for event in events() {
                assert_eq!(transition(Some(status), event).is_ok(), event == Event::RunAgain, "{event:?}");
            }
        }
    }

    #[test]
    fn only_a_running_job_ends_an_attempt_and_only_a_queued_one_starts_one() {
        for status in STATUSES {
            for event in events() {
                let allowed = transition(status, event).is_ok();
                match event {
                    Event::End(_) => assert_eq!(allowed, status == Some(Status::Running)),
                    Event::Claim | Event::Cancel | Event::Accept => {
                        assert_eq!(allowed, matches!(status, None | Some(Status::Queued)));
                    }
                    Event::Abandon(_) | Event::AbandonCanceled | Event::RunAgain | Event::FileMissing => {}
                }
            }
        }
    }

    #[test]
    fn a_failure_is_repeated_as_often_as_allowed_and_a_cancel_never() {
        assert_eq!(after_failure(Outcome::Failed, false, 1, 0), Next::Stop);
        assert_eq!(after_failure(Outcome::Failed, false, 2, 2), Next::Again);
        assert_eq!(after_failure(Outcome::Stalled, false, 3, 2), Next::Stop);
        assert_eq!(after_failure(Outcome::Canceled, true, 1, 9), Next::Stop);
        assert_eq!(after_failure(Outcome::NotStarted, false, 1, 9), Next::Stop);
        assert_eq!(after_failure(Outcome::NotStarted, true, 1, 9), Next::Again);
    }

    #[test]
    fn a_crash_repeats_only_what_is_repeatable_and_three_crashes_are_poison() {
        assert_eq!(after_loss(false, 1), Next::Stop);
        assert_eq!(after_loss(true, 2), Next::Again);
        assert_eq!(after_loss(true, 3), Next::Stop);
    }
}
