//! The options of a submission, and its answer for each document.

use crate::job::{Code, JobId, Place, Problems};

/// How a batch is accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// What happens to a job whose id is taken.
    pub if_exists: IfExists,
    /// What happens to the others when one is refused.
    pub if_refused: IfRefused,
}

/// What happens to the other jobs of a batch when one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfRefused {
    /// They stay outside.
    Stop,
    /// They go in.
    GoOn,
}

/// What happens to a job whose id is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfExists {
    /// It is refused.
    Refuse,
    /// The job that is there counts as this one.
    Skip,
}

/// The outcome for a document of the batch.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// The job is durable in the queue, or was there before.
    Accepted(AcceptedJob),
    /// It is not.
    Refused(Refused),
}

/// A job that is accepted.
#[derive(Debug, Clone)]
pub(crate) struct AcceptedJob {
    /// Its id; of a reused job the id of the one that was there.
    pub id: JobId,
    /// Whether it is new.
    pub accepted_as: AcceptedAs,
    /// Where its file is.
    pub place: Place,
}

/// Whether an accepted job is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptedAs {
    /// It is.
    New,
    /// A job of its id was there before.
    Skipped,
    /// A job of its key and content was there before.
    Reused,
}

/// A document that is not accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its id, as far as it can be read.
    pub id: Option<JobId>,
    /// A word for programs.
    pub code: Code,
    /// Why, and the position in the input.
    pub problems: Problems,
    /// True if only the refusal of another is the reason.
    pub follows: bool,
}
