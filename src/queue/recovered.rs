//! What recovery came to for a job, with its word for programs. What it does is in `recovery`.

use serde::{Deserialize, Serialize};

use crate::job::{Place, Reason};

/// The outcome of a recovery for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Recovered {
    /// Nothing was to be done.
    Healthy,
    /// A living process holds its lease.
    Alive,
    /// Its file was moved to where the record says.
    Moved(Place),
    /// Its attempt was declared lost; where the job is now.
    Lost(Place),
    /// Its attempt was declared lost, and the job is canceled, as a person had asked; where it is now.
    Canceled(Place),
    /// It was quarantined, for this reason.
    Quarantined(Reason),
    /// It runs, or ran, on another machine, which only a person can declare dead.
    Elsewhere(String),
    /// Processes of its dead attempt are alive, and cannot or must not be ended: pid and name.
    StillRunning(Vec<String>),
    /// This process cannot tell whether its attempt still runs, for this reason.
    CannotTell(String),
}

impl Recovered {
    /// The word for programs.
    #[must_use]
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Alive => "alive",
            Self::Moved(_) => "moved",
            Self::Lost(_) => "lost",
            Self::Canceled(_) => "canceled",
            Self::Quarantined(_) => "quarantined",
            Self::Elsewhere(_) => "elsewhere",
            Self::StillRunning(_) => "still_running",
            Self::CannotTell(_) => "cannot_tell",
        }
    }

    /// True unless the job had to be left as it is, so that it is to be looked at again.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        !matches!(self, Self::Elsewhere(_) | Self::StillRunning(_) | Self::CannotTell(_))
    }
}
