//! Workstreams: makes a run of jobs out of bundles, and conducts each of them.
#![cfg_attr(not(test), expect(dead_code, reason = "the conductor uses it"))]

pub(crate) mod prompt;
#[cfg(test)]
mod prompt_snapshots;
pub(crate) mod tried;
