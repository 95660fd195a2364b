//! Adapters as data: a manifest says how a tool is called and how its output becomes a verdict.
//!
//! `plan` turns a job into a command, a reader turns what came back into a verdict. An adapter never writes state.

pub mod agent;
pub mod detect;
pub mod environment;
pub mod honored;
pub mod known;
pub mod manifest;
pub mod plan;
pub mod read;
pub mod registry;
pub mod template;

pub use environment::Environment;
pub use known::Known;
pub use manifest::{Manifest, ReaderName};
pub use plan::{CannotPlan, Plan, plan};
pub use read::{Evidence, Reading, Verdict};
pub use registry::{ManifestError, Manifests, find, list};
