//! Workstream bundles and the settings that a run of them has.
#![expect(dead_code, reason = "the conductor uses it")]

pub(crate) mod checks;
mod command_line;
pub(crate) mod layers;
mod limits;
mod original;
pub(crate) mod profiles;
pub(crate) mod settings;
pub(crate) mod table;
pub(crate) mod yaml;
