//! The holds that a worker has seen.

use std::collections::HashSet;

use crate::job::JobId;
use crate::store::{Result, Store, control};

/// The holds of a root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// True if the whole queue is held.
    pub(super) queue: bool,
    /// The jobs that are held.
    pub(super) jobs: HashSet<JobId>,
}

impl Holds {
    /// Reads them.
    pub(super) fn read(store: &Store) -> Result<Self> {
        let queue = control::is_queue_held(store)?;
        Ok(Self { queue, jobs: control::held_jobs(store)?.into_iter().collect() })
    }
}
