//! `engine`: a job-file runner. Every action is a JSON job file, run by one process, recorded in files.
//!
//! The layers, lowest first: `causes`, `fs`, `lock`, `clock`; pure `job`; `store` and `queue`; `process`; `adapter`, `evidence`;
//! `runner`; `worker`; `cli`. A module uses lower layers only (a test reads the `use` lines); see ARCHITECTURE.md.

pub mod adapter;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod cost;
pub mod doctor;
pub mod evidence;
pub mod fs;
pub mod job;
pub mod lock;
pub mod policy;
pub mod process;
pub mod queue;
pub mod runner;
pub mod store;
pub mod view;
pub mod worker;
