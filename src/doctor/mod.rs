//! Checks this machine and this root. Repairs nothing but what `records::repair` names.

pub(crate) mod file_system;
mod files;
pub(crate) mod finding;
pub(crate) mod kernel;
pub(crate) mod records;
pub(crate) mod state;
mod trials;
