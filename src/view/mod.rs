//! Views of jobs: lists, counts, reasons for waiting, outcomes. Reads only, without leases; no decision depends on it.

pub(crate) mod explain;
pub(crate) mod facts;
pub(crate) mod listing;
pub(crate) mod members;
pub(crate) mod outcome;
pub(crate) mod overview;
mod row;
pub(crate) mod run;
pub(crate) mod runner;
mod waits;
