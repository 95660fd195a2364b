//! The earlier attempts in the record, as far as they decide about the next one.

use crate::clock::Timestamp;
use crate::job::record::Work;
use crate::job::{Attempt, Outcome, RecordLine};

/// The attempts of this life of a job, the open one included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// When this attempt started, by the record.
    pub started_at: Option<Timestamp>,
    /// The number of the first attempt of this life.
    pub first_attempt: u32,
    /// When that started, if the record still has it: an id may have had other jobs before.
    pub life_began: Option<Timestamp>,
    /// True if this life had no attempt before this one.
    pub is_first: bool,
    /// How many attempts count as tries.
    pub tries: u32,
    /// How often the job had to wait for a service.
    pub parks: u32,
    /// How often it had to wait because the system lacked something.
    pub shortages: u32,
    /// An agent's session that had to wait, and that the next attempt goes on with.
    pub parked_session: Option<String>,
    /// What the attempts before this one did to the worktree: the job is judged by all of it.
    pub work: Option<Work>,
}

impl Past {
    /// Reads it from the last line of the record, in which the attempt is open.
    #[must_use]
    pub(super) fn from_last_line(line: Option<&RecordLine>) -> Self {
        let Some(line) = line else {
            return Self { first_attempt: 1, is_first: true, tries: 1, ..Self::default() };
        };
        // An attempt that lacked a resource at its start changed nothing.
        let has_run = |attempt: &&Attempt| attempt.outcome.is_some() && !attempt.is_shortage();
        let before = line.attempts.iter().rev().find(has_run);
        let parked = before.filter(|attempt| attempt.outcome == Some(Outcome::Parked));
        let first = line.attempts.first().filter(|attempt| attempt.attempt == line.first_attempt);
        Self {
            started_at: line.open_attempt().map(|attempt| attempt.started_at),
            first_attempt: line.first_attempt,
            life_began: first.map(|attempt| attempt.started_at),
            is_first: line.attempts_of_this_life() <= 1,
            tries: line.tries_of_this_life(),
            parks: line.parks_of_this_life().saturating_sub(line.shortages_of_this_life()),
            shortages: line.shortages_of_this_life(),
            parked_session: parked.and_then(|attempt| attempt.session_id.clone()),
            work: line.attempts.iter().rev().find_map(|attempt| attempt.work.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::record::Former;

    fn attempt(number: u32, outcome: &str, code: &str) -> Attempt {
        serde_json::from_value(json!({
            "attempt": number, "started_at": "2026-11-21T10:00:00Z", "ended_at": "2026-11-21T10:00:01Z",
            "outcome": outcome, "reason": {"code": code, "message": "m"}, "exit_code": null, "signal": null,
            "usage": null, "log_path": null, "session_id": (code == "quota").then_some("s"), "host": "h",
            "boot_id": "b", "pid_namespace": "n", "pid": 1, "repeatable": false, "dependencies": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_shortage_is_no_park_of_a_service_and_leaves_the_session() {
        let mut line: RecordLine = serde_json::from_value(json!({
            "schema_version": 1, "seq": 1, "at": "2026-11-21T10:00:00Z", "job_id": "a", "status": "running",
            "place": "running", "not_before": null, "job": {"run_id": null, "workstream_id": null, "tool": null,
            "key": null, "priority": null, "depends_on": [], "sha256": null}, "life": 1, "first_attempt": 1,
            "former": Former::default(), "attempts": [], "result": null, "error_report": null,
        }))
        .unwrap();
        line.attempts = vec![attempt(1, "parked", "quota"), attempt(2, "parked", "start_failed")];
        let past = Past::from_last_line(Some(&line));
        assert_eq!((past.parks, past.shortages, past.parked_session.as_deref()), (1, 1, Some("s")));
        // Both counts outlast the attempts that a long life leaves to the lines further up.
        line.attempts.extend((3..=40).map(|number| attempt(number, "parked", "start_failed")));
        line.fold_old_attempts();
        assert_eq!(line.attempts.len(), 20);
        let past = Past::from_last_line(Some(&line));
        assert_eq!((past.parks, past.shortages, past.tries), (1, 39, 0));
        // An older program writes no such count.
        let former = serde_json::to_value(Former::default()).unwrap();
        assert!(former.get("shortages").is_none());
        // A start that failed for another reason does not count.
        line.attempts = vec![attempt(1, "not_started", "start_failed")];
        line.former = Former::default();
        assert_eq!(Past::from_last_line(Some(&line)).shortages, 0);
    }
}
