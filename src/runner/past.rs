//! What the record tells of the attempts before this one, as far as the next one is decided by it.

use crate::clock::Timestamp;
use crate::job::record::Work;
use crate::job::{Outcome, RecordLine};

/// The attempts of this life of a job, the open one included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// When this attempt started, by the record.
    pub started_at: Option<Timestamp>,
    /// The number of the first attempt of this life.
    pub first_attempt: u32,
    /// When that started, if the record still has it: an id may have had other jobs before.
    pub life_began: Option<Timestamp>,
    /// How many attempts count as tries.
    pub tries: u32,
    /// How often the job had to wait for a service.
    pub parks: u32,
    /// An agent's session that had to wait, and that the next attempt goes on with.
    pub parked_session: Option<String>,
    /// What the attempts before this one did to the work tree: the job is judged by all of it.
    pub work: Option<Work>,
}

impl Past {
    /// Reads it from the last line of the record, in which the attempt is open.
    #[must_use]
    pub fn of(line: Option<&RecordLine>) -> Self {
        let Some(line) = line else { return Self { first_attempt: 1, tries: 1, ..Self::default() } };
        let before = line.attempts.iter().rev().find(|attempt| attempt.outcome.is_some());
        let parked = before.filter(|attempt| attempt.outcome == Some(Outcome::Parked));
        let first = line.attempts.first().filter(|attempt| attempt.attempt == line.first_attempt);
        Self {
            started_at: line.open_attempt().map(|attempt| attempt.started_at),
            first_attempt: line.first_attempt,
            life_began: first.map(|attempt| attempt.started_at),
            tries: line.tries_of_this_life(),
            parks: line.parks_of_this_life(),
            parked_session: parked.and_then(|attempt| attempt.session_id.clone()),
            work: line.attempts.iter().rev().find_map(|attempt| attempt.work.clone()),
        }
    }
}
