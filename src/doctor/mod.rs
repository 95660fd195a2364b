//! What holds on this machine and in this root, and what is wrong there. Repairs nothing but what `records::repair` names.

pub mod file_system;
mod files;
pub mod finding;
pub mod kernel;
pub mod records;
pub mod state;
mod trials;
