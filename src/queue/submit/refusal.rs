//! Why a job is refused, in the words that its submitter reads, with the place in its document.

use super::existing::{Compared, Existing};
use crate::job::{Code, JobId};
use crate::queue::situation::Situation;
use crate::store::Store;

/// Why a job is refused, before its position in the input is known.
pub(crate) struct Refusal {
    pub code: Code,
    pub pointer: String,
    pub message: String,
    pub(super) follows: bool,
}

impl Refusal {
    pub(crate) fn new(code: Code, pointer: &str, message: String) -> Self {
        Self { code, pointer: pointer.to_owned(), message, follows: false }
    }

    /// Because another one is refused, which is reported in its own place.
    pub(crate) fn following(self) -> Self {
        Self { follows: true, ..self }
    }

    pub(crate) fn taken(situation: Situation, id: &JobId) -> Option<Self> {
        let (code, message) = situation.why_taken(id)?;
        Some(Self::new(code, "/job_id", message))
    }

    /// A job that is there was to be skipped, and asks for something else, or cannot be compared; `None`: it is the same.
    pub(crate) fn not_skipped(existing: &Existing, compared: Compared, store: &Store) -> Option<Self> {
        match compared {
            Compared::Same => None,
            Compared::Other => Some(Self::changed(existing, store)),
            Compared::Unknown => {
                let message = format!(
                    "the id `{}` is taken by a job whose file is missing or is not a job file: cannot tell whether this one is the same",
                    existing.id
                );
                Some(Self::new(Code::JobFileUnreadable, "/job_id", message))
            }
        }
    }

    fn changed(existing: &Existing, store: &Store) -> Self {
        let (id, path) = (&existing.id, store.job_file(&existing.place, &existing.id));
        let ways = match existing.situation {
            Situation::Ended => format!(
                "run this one by `engine run-job --job-file FILE`, or edit `{}` and `engine requeue {id}`",
                path.display()
            ),
            Situation::Queued => format!("edit `{}`, or `engine cancel {id}`", path.display()),
            _ => "wait for it to end".to_owned(),
        };
        let message = format!(
            "the id `{id}` is taken by a job with different content, which is not skipped; give this one a new `job_id`, or {ways}"
        );
        Self::new(Code::IdChanged, "/job_id", message)
    }

    pub(crate) fn key_busy() -> Self {
        Self::new(Code::KeyBusy, "/key", "another process is taking the key; try again".to_owned())
    }

    pub(crate) fn key_not_compared(owner: &JobId) -> Self {
        let message = format!(
            "the key belongs to the job `{owner}`, which cannot be compared now: its file is missing or unreadable, or the job is changing"
        );
        Self::new(Code::KeyTaken, "/key", message)
    }

    pub(crate) fn key_taken(owner: &JobId) -> Self {
        Self::new(
            Code::KeyTaken,
            "/key",
            format!("the key belongs to the job `{owner}`, which has different content"),
        )
    }
}
