//! The life of a job as one table: (status, event) to (status, directory).
//!
//! Pure. Everything that changes a record asks `transition`; what the table refuses cannot be written.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::spec::OnFailure;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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

/// The state of a job after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextState {
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
pub fn transition(status: Option<Status>, event: Event) -> Result<NextState, Refused> {
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

const AT_QUEUED: NextState = NextState { status: Status::Queued, directory: Directory::Queued };
const AT_RUNNING: NextState = NextState { status: Status::Running, directory: Directory::Running };
const AT_CANCELED: NextState = NextState { status: Status::Canceled, directory: Directory::Done };
const AT_QUARANTINE: NextState = NextState { status: Status::Quarantined, directory: Directory::Quarantined };

fn after_crash(next: Next) -> NextState {
    match next {
        Next::Again => AT_QUEUED,
        Next::Stop => AT_QUARANTINE,
    }
}

fn after_end(ending: Ending) -> NextState {
    match ending.outcome {
        Outcome::Succeeded => NextState { status: Status::Succeeded, directory: Directory::Done },
        Outcome::Canceled => AT_CANCELED,
        Outcome::Parked => AT_QUEUED,
        Outcome::Invalid => AT_QUARANTINE,
        Outcome::Lost => after_crash(ending.next),
        Outcome::Failed | Outcome::TimedOut | Outcome::Stalled | Outcome::Killed | Outcome::NotStarted => {
            match (ending.next, ending.on_failure) {
                (Next::Again, _) => AT_QUEUED,
                (Next::Stop, OnFailure::Quarantine) => AT_QUARANTINE,
                (Next::Stop, OnFailure::Done) => {
                    NextState { status: Status::Failed, directory: Directory::Done }
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    use Outcome::{
        Canceled, Failed, Invalid, Killed, Lost, NotStarted, Parked, Stalled, Succeeded, TimedOut,
    };

    /// Where a job goes; `NO` if the event is refused.
    type Cell = Option<(Status, Directory)>;
    const NO: Cell = None;
    const Q: Cell = Some((Status::Queued, Directory::Queued));
    const R: Cell = Some((Status::Running, Directory::Running));
    const S: Cell = Some((Status::Succeeded, Directory::Done));
    const F: Cell = Some((Status::Failed, Directory::Done));
    const C: Cell = Some((Status::Canceled, Directory::Done));
    const X: Cell = Some((Status::Quarantined, Directory::Quarantined));

    /// The columns of `TABLE`.
    const STATUSES: [Option<Status>; 7] = [
        None,
        Some(Status::Queued),
        Some(Status::Running),
        Some(Status::Succeeded),
        Some(Status::Failed),
        Some(Status::Canceled),
        Some(Status::Quarantined),
    ];

    const TABLE: [(Event, [Cell; 7]); 8] = [
        (Event::Accept, [Q, Q, NO, NO, NO, NO, NO]),
        (Event::Claim, [R, R, NO, NO, NO, NO, NO]),
        (Event::Cancel, [C, C, NO, NO, NO, NO, NO]),
        (Event::Abandon(Next::Again), [Q, Q, Q, NO, NO, NO, NO]),
        (Event::Abandon(Next::Stop), [X, X, X, NO, NO, NO, NO]),
        (Event::AbandonCanceled, [C, C, C, NO, NO, NO, NO]),
        (Event::FileMissing, [NO, X, X, NO, NO, NO, NO]),
        (Event::RunAgain, [NO, NO, NO, Q, Q, Q, Q]),
    ];

    /// The columns of `ENDS`: what follows, and where a failure goes.
    const ENDINGS: [(Next, OnFailure); 4] = [
        (Next::Again, OnFailure::Quarantine),
        (Next::Again, OnFailure::Done),
        (Next::Stop, OnFailure::Quarantine),
        (Next::Stop, OnFailure::Done),
    ];

    /// The ends of the attempt of a running job; no other job has one to end.
    const ENDS: [(Outcome, [Cell; 4]); 10] = [
        (Succeeded, [S, S, S, S]),
        (Failed, [Q, Q, X, F]),
        (TimedOut, [Q, Q, X, F]),
        (Stalled, [Q, Q, X, F]),
        (Killed, [Q, Q, X, F]),
        (Canceled, [C, C, C, C]),
        (Parked, [Q, Q, Q, Q]),
        (Lost, [Q, Q, X, X]),
        (NotStarted, [Q, Q, X, F]),
        (Invalid, [X, X, X, X]),
    ];

    #[track_caller]
    fn cell(status: Option<Status>, event: Event, want: Cell) {
        let want = want.map(|(status, directory)| NextState { status, directory });
        assert_eq!(transition(status, event), want.ok_or(Refused { status, event }));
    }

    #[test]
    fn every_cell_of_the_table_is_as_it_is_written_here() {
        for (event, row) in TABLE {
            for (status, want) in STATUSES.into_iter().zip(row) {
                cell(status, event, want);
            }
        }
        for (outcome, row) in ENDS {
            for ((next, on_failure), want) in ENDINGS.into_iter().zip(row) {
                let event = Event::End(Ending { outcome, next, on_failure });
                for status in STATUSES {
                    cell(status, event, if status == Some(Status::Running) { want } else { NO });
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_event_and_the_status() {
        let refused = |status| transition(status, Event::FileMissing).unwrap_err().to_string();
        assert_eq!(refused(None), "FileMissing cannot happen to a job that is free");
        assert_eq!(refused(Some(Status::Failed)), "FileMissing cannot happen to a job that is failed");
    }

    #[test]
    fn what_runs_or_waits_has_not_ended_and_each_status_has_its_word() {
        let told =
            STATUSES.into_iter().flatten().map(|status| (format!("{status:>9}"), status.is_terminal()));
        let want = [
            ("   queued", false),
            ("  running", false),
            ("succeeded", true),
            ("   failed", true),
            (" canceled", true),
            ("quarantined", true),
        ];
        assert_eq!(told.collect::<Vec<_>>(), want.map(|(word, ended)| (word.to_owned(), ended)));
    }

    #[test]
    fn a_crash_repeats_only_what_is_repeatable_and_three_crashes_are_poison() {
        for (crashes, of_a_repeatable_job) in
            [(0, Next::Again), (1, Next::Again), (2, Next::Again), (3, Next::Stop), (4, Next::Stop)]
        {
            assert_eq!(after_loss(true, crashes), of_a_repeatable_job, "{crashes}");
            assert_eq!(after_loss(false, crashes), Next::Stop, "{crashes}");
        }
    }
}
