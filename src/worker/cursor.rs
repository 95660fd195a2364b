//! How far a worker has come through the jobs that one job comes after, so that each of them is looked at once.
//!
//! Hard rule: a hint. What was at rest may be requeued; the claim looks at all of them under the lease, and a claim that was
//! refused for one of them makes the worker begin again `AFTER_RESET`.

use std::collections::VecDeque;

use super::wait::Wait;
use crate::job::JobId;
use crate::queue::Result;
use crate::queue::rest::{Rest, Walk};
use crate::store::Store;

/// The jobs of `after` that were not at rest at the last look, and those behind them.
#[derive(Debug)]
pub(crate) struct Cursor {
    rest: VecDeque<JobId>,
    walk: Walk,
}

impl Cursor {
    /// At the first of these jobs.
    #[must_use]
    pub(crate) fn new(after: &[JobId]) -> Self {
        Self { rest: after.iter().cloned().collect(), walk: Walk::default() }
    }

    /// Goes on to the first job that is not at rest, if there is one.
    ///
    /// # Errors
    /// Those of the look.
    pub(crate) fn advance(&mut self, store: &Store) -> Result<Option<Wait>> {
        self.walk.begin();
        while let Some(of) = self.rest.front() {
            match self.walk.look(store, of)? {
                Rest::AtRest(..) => drop(self.rest.pop_front()),
                Rest::Moves(moving) => {
                    let (of, on) = moving.waited_for(of.clone());
                    return Ok(Some(Wait::After { of, on }));
                }
            }
        }
        Ok(None)
    }
}
