//! The lock of `gc`: `state/gc.lock`.
//!
//! Responsible for the right to retire jobs and to write the archive, and for telling whether a process has it. Hard rule: no
//! process waits for it longer than readers need to look.

use std::time::Duration;

use super::{Result, Store};
use crate::clock;
use crate::fs::{self, Create};
use crate::lock::Locked;

const GC_LOCK: &str = "gc.lock";

/// The right to retire jobs and to write the archive: one process at a time.
#[derive(Debug)]
pub(crate) struct GcLock(#[expect(dead_code, reason = "held until it is dropped")] Locked);

/// How often a busy lock is asked for, and how long between: readers look for an instant whether it is held.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

impl GcLock {
    /// Takes the lock of `gc`; none if another process has it.
    pub(crate) fn acquire(store: &Store) -> Result<Option<Self>> {
        let path = store.state(GC_LOCK);
        for _ in 0..TRIES {
            let file = fs::open_append(&path, Create::IfMissing)?;
            if let Some(locked) = Locked::exclusive(file, &path)? {
                return Ok(Some(Self(locked)));
            }
            clock::sleep(BETWEEN_TRIES);
        }
        Ok(None)
    }
}

/// True while a `gc` works, or where that cannot be determined.
#[must_use]
pub(crate) fn is_collected(store: &Store) -> bool {
    let path = store.state(GC_LOCK);
    match fs::open_regular(&path) {
        Ok(file) => !Locked::shared(file, &path).is_ok_and(|lock| lock.is_some()),
        Err(error) => !error.is_not_found(),
    }
}
