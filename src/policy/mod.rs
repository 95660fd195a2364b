//! Decisions from a state and a time: when to try again, what comes first, what may be deleted. Pure.

pub mod backoff;
pub mod dag;
pub mod order;
pub mod retention;
