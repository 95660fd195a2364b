//! What the loop decides: a new step, a step again, or the verdict.

use super::{Delay, StepKind, Tool, Why};
use crate::clock::Timestamp;
use crate::job::Reason;

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// A new step.
    Run(NewStep),
    /// A step that is there already, under its own id.
    Again(Again),
    /// An agent's step ended well, and what it left was not judged yet.
    Judge(u32),
    /// The verdict.
    End(End),
}

/// A new step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewStep {
    /// Its number.
    pub(crate) n: u32,
    /// Its kind.
    pub(crate) kind: StepKind,
    /// The check of the plan that it is, or mends: an index.
    pub(crate) check: Option<usize>,
    /// The agent's tool.
    pub(crate) tool: Option<Tool>,
    /// Why it is made.
    pub(crate) why: Why,
    /// Which fix of its part of the work, from 1; of other steps, the fixes before it.
    pub(crate) iteration: u32,
    /// True if an agent's context has fewer files.
    pub(crate) is_reduced: bool,
    /// What an agent may cost.
    pub(crate) max_cost_usd: Option<f64>,
    /// The wait before it.
    pub(crate) delay: Option<Delay>,
}

/// How a step is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// From the last checkpoint, with its job file written anew.
    FromCheckpoint,
    /// Where it waits: the tree stays as it is, the session goes on.
    WhereItWaits {
        /// Not before this time.
        until: Option<Timestamp>,
    },
}

/// A step that is run again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Again {
    /// Its number.
    pub(crate) n: u32,
    /// How.
    pub(crate) how: How,
    /// True if an agent's context has fewer files.
    pub(crate) is_reduced: bool,
    /// What an agent may cost from now on.
    pub(crate) max_cost_usd: Option<f64>,
    /// The wait before it.
    pub(crate) delay: Option<Delay>,
}

/// How a workstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Succeeded,
    Failed,
    Quarantined,
}

/// The end of a workstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Why; none after a success.
    pub(crate) reason: Option<Reason>,
    /// True if a breaker ended it.
    pub(crate) is_trip: bool,
    /// The numbers of the steps that prove it.
    pub(crate) evidence: Vec<u32>,
}
