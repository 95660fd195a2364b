//! Follows the events of a run in the journal, for every verb that shows them.

use std::time::Duration;

use super::error::CliError;
use super::print::Reader;
use crate::job::RunManifest;
use crate::store::journal::follow::Follower;
use crate::store::{Store, journal};
use crate::view::run::events::{RunEvent, Teller};

/// How long a follower rests between two looks.
const REST: Duration = Duration::from_millis(50);

/// The listener to the events of a run.
pub(super) trait Audience {
    /// True if no event follows any more. Asked before the journal is read: what it ended with is then among the events.
    fn is_over(&mut self) -> Result<bool, CliError>;

    /// Takes an event; they come oldest first, from the first one of the run on.
    fn hear(&mut self, event: &RunEvent) -> Reader;

    /// Rests between two looks.
    fn rest(&mut self, time: Duration) -> Reader;
}

/// Tells all events of a run, past and live, until the audience ends it.
///
/// # Errors
/// Those of the journal and of the audience.
pub(super) fn follow(
    store: &Store,
    manifest: &RunManifest,
    audience: &mut dyn Audience,
) -> Result<(), CliError> {
    let mut teller = Teller::new(manifest);
    let mut follower = Follower::start(store, Some(manifest.created_at))?;
    loop {
        let is_over = audience.is_over()?;
        let mut reader = Reader::There;
        follower.more(store, &mut |block| {
            let mut events = journal::parse(block).flat_map(|line| teller.tell(store, &line));
            while reader == Reader::There
                && let Some(event) = events.next()
            {
                reader = audience.hear(&event);
            }
        })?;
        if is_over || reader == Reader::Gone || audience.rest(REST) == Reader::Gone {
            return Ok(());
        }
    }
}
