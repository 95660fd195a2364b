//! What `gc` has done, or would do.

use crate::causes::causes;
use crate::job::{JobId, RunId};
use crate::policy::retention::{Cause, Finished};
use crate::queue::QueueError;

/// Why a job that should go was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// Another process holds its lease.
    Held,
    /// It is not any more what it was when it was chosen: queued or run again.
    Changed,
    /// A job that came in meanwhile needs it.
    Needed,
    /// A crash left its file in the wrong directory: `engine recover`.
    NeedsRecovery,
    /// A part of it stays.
    Part,
}

impl Skip {
    /// The meaning, for people.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "another process holds it",
            Self::Changed => "it is queued or has run again",
            Self::Needed => "a queued job depends on it",
            Self::NeedsRecovery => "a crash left its file in the wrong directory: engine recover",
            Self::Part => "a job that is a part of it stays",
        }
    }
}

/// The actions of gc, done or planned.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The jobs that went to the archive, the oldest first, and why.
    pub dropped: Vec<(Finished, Cause)>,
    /// The runs of which nothing is left.
    pub runs: Vec<RunId>,
    /// Free ids whose empty records were removed.
    pub free: Vec<JobId>,
    /// Jobs that a limit exceeds and others need.
    pub needed: Vec<JobId>,
    /// How many finished jobs no limit exceeds.
    pub kept: usize,
    /// Jobs that were left after all.
    pub skipped: Vec<(JobId, Skip)>,
    /// Jobs that could not be looked at or retired, and why; the others were.
    pub failed: Vec<(JobId, String)>,
    /// Temporary files, and directories of attempts that have ended, that were removed.
    pub temporary: usize,
    /// Parts of the journal that are older than what stays.
    pub journal_parts: usize,
}

impl Report {
    pub(super) fn fail(&mut self, id: &JobId, error: &QueueError) {
        self.failed.push((id.clone(), causes(error)));
    }
}
