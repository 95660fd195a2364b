//! What is to be said of bundles, each at its place in a file.

use serde::Serialize;

use crate::job::{Problem, Problems};

/// One thing that is wrong with a bundle, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) kind: FindingKind,
    /// The file as it was named.
    pub(crate) file: String,
    /// The bundle's id, as far as it has one.
    pub(crate) id: Option<String>,
    /// The place and the message.
    pub(crate) problem: Problem,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FindingKind {
    /// A bundle by itself.
    Schema,
    /// A bundle that it depends on.
    Dependency,
    /// Bundles that wait for each other.
    Cycle,
    /// A path that another bundle has too.
    Overlap,
    /// The files.
    Config,
}

impl Finding {
    /// A finding about files.
    pub(crate) fn of_files(file: impl Into<String>, problem: Problem) -> Self {
        Self { kind: FindingKind::Config, file: file.into(), id: None, problem }
    }

    /// `file:line:column: /pointer: text`.
    pub(crate) fn line(&self) -> String {
        Problems::one(&self.file, self.problem.clone()).lines().concat()
    }
}
