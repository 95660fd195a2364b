//! What the record tells of the attempts before this one, as far as the next one is decided by it.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::job::{Outcome, RecordLine};

/// The attempts of this life of a job, the open one included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// When this attempt started, by the record.
    pub started_at: Option<Timestamp>,
    /// The number of the first attempt of this life.
    pub first_attempt: u32,
    /// How many attempts count as tries.
    pub tries: u32,
    /// How often the job had to wait for a service.
    pub parks: u32,
    /// An agent's session that had to wait, and that the next attempt goes on with.
    pub parked_session: Option<String>,
    /// What the attempt that had to wait, and those before it that had to, did to the work tree.
    pub parked_work: Option<ParkedWork>,
}

/// What attempts that had to wait did to the work tree: it counts for the one that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedWork {
    /// The tree before the first of them.
    pub origin_tree: String,
    /// True if they changed anything.
    pub changed: bool,
    /// True if they changed anything out of scope.
    pub out_of_scope: bool,
}

impl ParkedWork {
    /// Reads it from the evidence in the result of the attempt that had to wait.
    fn of(evidence: &Value) -> Option<Self> {
        let origin_tree = evidence.get("origin_tree")?.as_str()?.to_owned();
        let flag = |key: &str| evidence.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Self {
            origin_tree,
            changed: flag("changed_since_origin"),
            out_of_scope: flag("out_of_scope_since_origin"),
        })
    }
}

impl Past {
    /// Reads it from the last line of the record, in which the attempt is open.
    #[must_use]
    pub fn of(line: Option<&RecordLine>) -> Self {
        let Some(line) = line else { return Self { first_attempt: 1, tries: 1, ..Self::default() } };
        let before = line.attempts.iter().rev().find(|attempt| attempt.outcome.is_some());
        let parked = before.filter(|attempt| attempt.outcome == Some(Outcome::Parked));
        Self {
            started_at: line.open_attempt().map(|attempt| attempt.started_at),
            first_attempt: line.first_attempt,
            tries: line.tries_of_this_life(),
            parks: line.parks_of_this_life(),
            parked_session: parked.and_then(|attempt| attempt.session_id.clone()),
            parked_work: line
                .result
                .as_ref()
                .filter(|result| result.outcome == Outcome::Parked && parked.is_some())
                .and_then(|result| ParkedWork::of(result.metadata.get("evidence")?)),
        }
    }
}
