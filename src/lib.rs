//! `engine`: a job-file runner. Every action is a JSON job file, run by one process, recorded in files.
//!
//! A module uses only those that the table of ARCHITECTURE.md gives it; a test reads the code.

pub mod adapter;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod cost;
pub mod doctor;
pub mod evidence;
pub mod fs;
pub mod git;
pub mod job;
pub mod lock;
pub mod policy;
pub mod process;
pub mod queue;
pub mod runner;
pub mod store;
pub mod view;
pub mod worker;
