//! The situation of a job: what the last line of its record and the places of its files say together (protocol 3).
//!
//! | last line \ files        | none          | `queued/`     | `running/`, or both |
//! |--------------------------|---------------|---------------|---------------------|
//! | none, or only acceptance | `Free`        | `Queued`      | `StartNotRecorded`  |
//! | queued after a start     | `FileMissing` | `Queued`      | `RetryNotMoved`     |
//! | attempt open             | `AttemptOpen` | `AttemptOpen` | `AttemptOpen`       |
//! | ended                    | `Ended`       | `EndNotMoved` | `EndNotMoved`       |
//!
//! Pure but for `look`. Hard rule: what changes a job decides by a cell of this table, and only by what it read under the lease.
//! Lists, which read a part of each record, and the worker, which only decides whether a process is spent, look at less.

use super::Result;
use super::places::{self, ActiveFiles};
use crate::job::{Code, JobId, Reason, RecordLine, Status};
use crate::store::Store;

/// A cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Situation {
    /// Nothing was ever promised for the id, and it has no file: any job may take it.
    Free,
    /// It waits in the queue.
    Queued,
    /// It runs; where no living process has its lease, its runner is dead.
    AttemptOpen,
    /// It has ended, and its file is neither queued nor running.
    Ended,
    /// Its file is in `running/`, and no record tells of a start: an attempt that may have run.
    StartNotRecorded,
    /// It waits for another attempt, and its file was not moved back to `queued/`.
    RetryNotMoved,
    /// It has ended, and its file was not moved to its place.
    EndNotMoved,
    /// It waits for another attempt, and its file is gone.
    FileMissing,
}

/// What the last line of a record says.
enum Recorded {
    NothingPromised,
    Waits,
    AttemptOpen,
    Ended,
}

fn recorded(line: Option<&RecordLine>) -> Recorded {
    match line {
        Some(line) if line.status.is_terminal() => Recorded::Ended,
        Some(line) if line.status == Status::Running || line.open_attempt().is_some() => {
            Recorded::AttemptOpen
        }
        Some(line) if !line.is_untouched() => Recorded::Waits,
        Some(_) | None => Recorded::NothingPromised,
    }
}

impl Situation {
    /// Reads the table.
    #[must_use]
    pub(crate) fn judge(line: Option<&RecordLine>, files: &ActiveFiles) -> Self {
        match (recorded(line), files.queued, files.running) {
            (Recorded::NothingPromised, false, false) => Self::Free,
            (Recorded::NothingPromised | Recorded::Waits, true, false) => Self::Queued,
            (Recorded::NothingPromised, _, true) => Self::StartNotRecorded,
            (Recorded::Waits, false, false) => Self::FileMissing,
            (Recorded::Waits, _, true) => Self::RetryNotMoved,
            (Recorded::AttemptOpen, ..) => Self::AttemptOpen,
            (Recorded::Ended, false, false) => Self::Ended,
            (Recorded::Ended, ..) => Self::EndNotMoved,
        }
    }

    /// True if a file is not where the record says: a crash left it so, or the holder of the lease is about to move it.
    #[must_use]
    pub(crate) fn is_move_missing(self) -> bool {
        matches!(self, Self::StartNotRecorded | Self::RetryNotMoved | Self::EndNotMoved)
    }

    /// Why an id cannot be taken by another job, as code and message; `None` if it is free.
    pub(super) fn why_taken(self, id: &JobId) -> Option<(Code, String)> {
        Some(match self {
            Self::Free => return None,
            Self::Queued => (Code::IdQueued, format!("the job `{id}` is queued")),
            Self::Ended => (Code::IdTaken, format!("the id `{id}` is taken by a job that has ended")),
            // Until a recovery has shown that it does not.
            Self::AttemptOpen | Self::StartNotRecorded => {
                (Code::IdRunning, format!("the job `{id}` is running"))
            }
            Self::RetryNotMoved | Self::EndNotMoved | Self::FileMissing => {
                (Code::IdRunning, format!("the last change of the job `{id}` is not finished"))
            }
        })
    }
}

/// The situation as it looks without the lease, and what is in the way of the id's file.
pub(super) fn look(store: &Store, id: &JobId) -> Result<(Situation, Option<Reason>)> {
    let record = store.read_record(id)?;
    let files = places::active_files(store, id)?;
    let line = record.as_ref().map(|record| &record.line);
    Ok((Situation::judge(line, &files), files.in_the_way))
}

/// True if an id is taken, as it looks without its lease.
pub(crate) fn is_taken(store: &Store, id: &JobId) -> Result<bool> {
    Ok(look(store, id)?.0 != Situation::Free)
}

#[cfg(test)]
mod tests {
    use super::Situation::{
        AttemptOpen, EndNotMoved, Ended, FileMissing, Free, Queued, RetryNotMoved, StartNotRecorded,
    };
    use super::*;
    use crate::clock::Timestamp;
    use crate::job::Outcome;
    use crate::queue::attempt::{first_line, open_attempt};
    use crate::store::testing::store;

    fn line(status: Status, life: u32, attempts: &[Option<Outcome>]) -> Option<RecordLine> {
        let (_dir, store) = store();
        let now = Timestamp::from_millis(0);
        let attempts = attempts.iter().zip(1..);
        let attempts = attempts
            .map(|(outcome, number)| crate::job::Attempt {
                outcome: *outcome,
                ..open_attempt(&store, number, now)
            })
            .collect();
        Some(RecordLine { status, life, attempts, ..first_line(&JobId::new("a").unwrap(), now) })
    }

    #[test]
    fn every_cell_of_the_table_is_as_the_protocol_says() {
        use Status::{Canceled, Failed, Quarantined, Running, Succeeded};
        let files = [(false, false), (true, false), (false, true), (true, true)];
        let (lost, ok) = (Some(Outcome::Lost), Some(Outcome::Succeeded));
        let free = [Free, Queued, StartNotRecorded, StartNotRecorded];
        let waits = [FileMissing, Queued, RetryNotMoved, RetryNotMoved];
        let open = [AttemptOpen, AttemptOpen, AttemptOpen, AttemptOpen];
        let ended = [Ended, EndNotMoved, EndNotMoved, EndNotMoved];
        let table = [
            ("no record, or an empty one", None, free),
            ("accepted", line(Status::Queued, 1, &[]), free),
            ("requeued", line(Status::Queued, 2, &[]), waits),
            ("waits for a retry", line(Status::Queued, 1, &[lost]), waits),
            ("first attempt runs", line(Running, 1, &[None]), open),
            ("a retry runs", line(Running, 1, &[lost, None]), open),
            ("runs, by its status alone", line(Running, 1, &[]), open),
            ("succeeded", line(Succeeded, 1, &[ok]), ended),
            ("failed", line(Failed, 1, &[lost]), ended),
            ("quarantined", line(Quarantined, 3, &[lost]), ended),
            ("canceled while it waited", line(Canceled, 1, &[]), ended),
        ];
        for (name, line, cells) in &table {
            for ((queued, running), cell) in files.into_iter().zip(cells) {
                let files = ActiveFiles { queued, running, in_the_way: None };
                let situation = Situation::judge(line.as_ref(), &files);
                assert_eq!(situation, *cell, "{name}, queued {queued}, running {running}");
            }
        }
    }

    #[test]
    fn an_id_is_free_only_where_nothing_was_promised_and_nothing_waits() {
        let id = JobId::new("a").unwrap();
        let code = |situation: Situation| situation.why_taken(&id).map(|(code, _)| code);
        assert_eq!(code(Free), None);
        assert_eq!(code(Queued), Some(Code::IdQueued));
        assert_eq!(code(Ended), Some(Code::IdTaken));
        for unclear in [AttemptOpen, StartNotRecorded, RetryNotMoved, EndNotMoved, FileMissing] {
            assert_eq!(code(unclear), Some(Code::IdRunning), "{unclear:?}");
        }
    }
}
