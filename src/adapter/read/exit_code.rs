//! The exit code is the verdict.

use super::{Evidence, Reading};

/// Success where the code is one of the manifest's `success_exit_codes`.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    Reading::of_exit_code(evidence)
}
