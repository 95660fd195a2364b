//! Workstream bundles: what to change, where, with which tool, and when it is right; and the settings of a run.
//!
//! Pure: the caller reads the files and hands over their bytes with their names. Not responsible for whether what a bundle names is
//! there (the adapter, files, programs). Hard rule: everything that is wrong is told at once, each with its place.

mod acceptance;
mod check;
pub(crate) mod checks;
mod classify;
mod command_line;
mod fields;
mod finding;
mod forest;
mod graph;
pub(crate) mod layers;
mod levels;
mod limits;
mod meeting;
mod order;
mod original;
mod overlap;
mod paths;
mod plan;
pub(crate) mod profiles;
mod read;
pub(crate) mod settings;
mod spec;
pub(crate) mod table;
mod text;
mod waves;
pub(crate) mod yaml;

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use acceptance::Acceptance;
pub(crate) use classify::Classification;
pub(crate) use fields::Issue;
pub(crate) use finding::{Finding, FindingKind};
pub(crate) use graph::with_dependencies;
pub(crate) use meeting::Paths;
pub(crate) use order::{After, Order, Place, Why};
pub(crate) use original::OriginalFile;
pub(crate) use overlap::{PatternOverlap, overlap_findings, overlaps, pattern_overlaps};
pub(crate) use plan::Plan;
pub(crate) use read::{Bundles, ReadBundle, Refused, Source, read};
pub(crate) use spec::{Bundle, BundleKind};
pub(crate) use table::KeepWorktrees;
pub(crate) use text::MOST_BYTES;
pub(crate) use waves::Conflict;

/// The generated schema, as it is committed.
pub(crate) const SCHEMA: &str = include_str!("../../schema/jobs/workstream.schema.json");
