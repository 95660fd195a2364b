//! A run of an agent that has ended.

use super::super::end::End;
use super::super::halt::Halt;
use super::super::past::Past;
use crate::adapter::Manifest;
use crate::adapter::agent::watch::Watched;
use crate::job::JobFile;
use crate::process::redact::Secrets;
use crate::process::{Exit, StopCause};
use crate::store::control::AttemptId;

/// How often a job may wait for a service, if it does not say.
const MAX_PARKS: u32 = 10;

/// A run that ended, and whose it was.
#[derive(Debug)]
pub(crate) struct Ran<'a> {
    /// The job.
    pub job: &'a JobFile,
    /// Its adapter.
    pub manifest: &'a Manifest,
    /// The attempt.
    pub target: AttemptId,
    /// The earlier attempts.
    pub past: &'a Past,
    /// How the tool ended.
    pub exit: &'a Exit,
    /// The observations of the watch.
    pub watched: Watched,
    /// The end by what the engine or a signal did to it, if that decides.
    pub by_force: Option<End>,
    /// Ends the look after it.
    pub halt: Halt,
    /// How many lines of its output were too long to be read.
    pub unread_lines: u64,
    /// The secrets to hide.
    pub secrets: &'a Secrets,
}

impl Ran<'_> {
    /// True if the engine ended an agent that had declared its end before, for no reason but that it stayed.
    #[must_use]
    pub(crate) fn outstayed(&self) -> bool {
        let is_limit = match self.exit.stopped {
            Some(StopCause::TotalTime | StopCause::IdleTime) => true,
            Some(StopCause::Watch) => self.watched.stopped_for.is_none() && self.watched.halted.is_none(),
            Some(StopCause::Interrupt(_) | StopCause::Requested) | None => false,
        };
        is_limit && self.watched.ended_before_stop
    }

    /// True if the job may wait for a service once more.
    #[must_use]
    pub(crate) fn may_park(&self) -> bool {
        let most = self.job.metadata.known.max_parks.map_or(MAX_PARKS, crate::job::number::Count::as_u32);
        self.past.parks < most
    }
}
