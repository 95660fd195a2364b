//! The loop of a workstream as pure functions: from its history to the next step, with the reason.
#![expect(dead_code, reason = "the conductor uses it")]

pub(crate) mod limits;
