//! Adapters as data: a manifest says how a tool is called and how its output becomes a verdict.
//!
//! `plan` turns a job into a command, a reader turns what came back into a verdict. An adapter never writes state.

pub(crate) mod agent;
pub(crate) mod detect;
pub(crate) mod environment;
pub(crate) mod honored;
pub(crate) mod known;
pub(crate) mod manifest;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod registry;
pub(crate) mod template;

pub(crate) use environment::Environment;
pub(crate) use known::Known;
pub(crate) use manifest::Manifest;
pub(crate) use plan::{Plan, plan};
pub(crate) use read::{Reading, Telling, Told, Verdict};
pub use registry::find;
pub(crate) use registry::{ManifestError, Manifests, list};
