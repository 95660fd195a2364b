//! A step of a workstream: its kind, its id, and what `metadata.step` of its job file says.
//!
//! Hard rule: the id `<run>.<ws>.<nn>-<kind>` is made and taken apart here alone.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{BadName, JobId};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Prepares a new worktree.
    Setup,
    /// An agent does the task.
    Edit,
    /// A static check.
    Static,
    /// A check that runs the program.
    Runtime,
    /// An acceptance test of the bundle.
    Accept,
    /// An agent mends what a check found.
    Fix,
}

impl StepKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Setup, Self::Edit, Self::Static, Self::Runtime, Self::Accept, Self::Fix];

    /// The word in ids and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Edit => "edit",
            Self::Static => "static",
            Self::Runtime => "runtime",
            Self::Accept => "accept",
            Self::Fix => "fix",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// True if an agent works in the tree: such a step may change it.
    #[must_use]
    pub fn is_agent(self) -> bool {
        matches!(self, Self::Edit | Self::Fix)
    }

    /// True if the step judges the worktree.
    #[must_use]
    pub fn is_check(self) -> bool {
        matches!(self, Self::Static | Self::Runtime | Self::Accept)
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The id of a step: `<run>.<ws>.<nn>-<kind>`.
///
/// # Errors
/// `BadName` where it would be too long.
pub fn step_id(workstream_job: &JobId, n: u32, kind: StepKind) -> Result<JobId, BadName> {
    JobId::new(&format!("{workstream_job}.{n:02}-{kind}"))
}

/// The workstream's job, the number and the kind of a step, by its id; none for another job.
#[must_use]
pub fn parse_step_id(id: &JobId) -> Option<(JobId, u32, StepKind)> {
    let (job, step) = id.as_str().rsplit_once('.')?;
    let (n, word) = step.split_once('-')?;
    let kind = StepKind::of_word(word)?;
    let job = JobId::new(job).ok().filter(|job| job.as_str().contains('.'))?;
    let n = n.parse().ok().filter(|n| *n > 0)?;
    // `7-edit` and `+07-edit` are no steps.
    (step_id(&job, n, kind).as_ref() == Ok(id)).then_some((job, n, kind))
}

/// `metadata.step` of a step's job file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StepFacts {
    /// The number of the step, from 1.
    pub n: u32,
    /// What it does; absent in a file that is none of a step.
    pub kind: Option<StepKind>,
    /// The name of its check; of a fix that of the check that failed.
    pub name: Option<String>,
    /// Which fix it is of its life, from 1; 0 before the first.
    pub iteration: u32,
    /// The name of the check that it runs or mends.
    pub check: Option<String>,
    /// The digest of that check's definition.
    pub check_digest: Option<String>,
    /// The life of the workstream in which it was made.
    pub life: u32,
    /// The tree that it ran on.
    pub tree: Option<String>,
    /// The commit that it ran on.
    pub checkpoint: Option<String>,
    /// Why it was made.
    pub why: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_step_is_taken_apart_as_it_was_made_and_no_other_is() {
        let job = JobId::new("r-1.ws-a").unwrap();
        for (n, kind, want) in
            [(1, StepKind::Edit, "r-1.ws-a.01-edit"), (120, StepKind::Fix, "r-1.ws-a.120-fix")]
        {
            let id = step_id(&job, n, kind).unwrap();
            assert_eq!((id.as_str(), parse_step_id(&id)), (want, Some((job.clone(), n, kind))));
        }
        for other in [
            "r-1.ws-a",
            "r-1.ws-a.1-edit",
            "r-1.ws-a.00-edit",
            "r-1.ws-a.01-undo",
            "ws-a.01-edit",
            "r.a.+1-fix",
        ] {
            let parsed = JobId::new(other).ok().and_then(|id| parse_step_id(&id));
            assert_eq!(parsed, None, "{other}");
        }
    }

    #[test]
    fn what_a_job_file_leaves_out_or_a_newer_program_adds_is_no_problem() {
        let facts: StepFacts =
            serde_json::from_str(r#"{"n": 3, "kind": "fix", "iteration": 1, "later": []}"#).unwrap();
        assert_eq!((facts.n, facts.kind, facts.check), (3, Some(StepKind::Fix), None));
    }
}
