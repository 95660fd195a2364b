//! What is shown of jobs: lists, numbers, reasons for waiting, outcomes. Reads only, without leases: nothing is decided by it.

pub mod explain;
pub mod facts;
pub mod listing;
pub mod members;
pub mod outcome;
pub mod overview;
mod row;
pub mod runner;
mod waits;
