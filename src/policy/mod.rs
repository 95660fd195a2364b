//! Decisions from a state and a time: when to try again, what comes first, what may be deleted. Pure.

pub(crate) mod backoff;
pub(crate) mod dag;
pub(crate) mod order;
pub(crate) mod retention;
