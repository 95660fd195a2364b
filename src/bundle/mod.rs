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
mod graph;
pub(crate) mod layers;
mod limits;
mod original;
mod overlap;
mod paths;
pub(crate) mod profiles;
mod read;
pub(crate) mod settings;
mod spec;
pub(crate) mod table;
mod text;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

pub(crate) use acceptance::Acceptance;
pub(crate) use classify::Classification;
pub(crate) use fields::Issue;
pub(crate) use finding::Finding;
pub(crate) use original::OriginalFile;
pub(crate) use overlap::{PatternOverlap, overlap_findings, overlaps, pattern_overlaps};
pub(crate) use read::{Bundles, ReadBundle, Refused, Source, read};
pub(crate) use spec::Bundle;
pub(crate) use table::KeepWorktrees;
pub(crate) use text::MOST_BYTES;

/// The generated schema, as it is committed.
pub(crate) const SCHEMA: &str = include_str!("../../schema/jobs/workstream.schema.json");
