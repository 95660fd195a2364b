//! The assignment of a conductor: what `metadata` of a workstream's job file says, and what its id says.
//!
//! Self-contained: settings are frozen into it when the run is made, so that a later change of a file changes no run. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::bundle::checks::Check;
use crate::bundle::settings::Settings;
use crate::fix_loop::limits::Limits;
use crate::job::run::{BASELINE_GATE, Base, INTEGRATION};
use crate::job::{Code, JobId, Reason, RunId};
use crate::worktree::name_of;

/// `metadata` of the job of a workstream, as far as the conductor reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// What to change, where, with which tool, and when it is right.
    pub bundle: Bundle,
    /// The checks in their order; acceptance tests are the last.
    pub checks: Vec<Check>,
    /// When to give up.
    pub limits: Limits,
    /// The settings of the run.
    pub settings: Settings,
    /// The commit that the work begins on.
    pub base: Base,
    /// The top of the user's checkout.
    pub repo: String,
    /// The worktree.
    pub worktree: String,
    /// True if an integration merges nothing, and only says whether all have succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_not_merged: bool,
    /// What the run may cost, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_max_cost_usd: Option<f64>,
}

/// The request on the standard input of a conductor.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The job of the workstream.
    pub job_id: JobId,
    /// Its run.
    pub run: RunId,
    /// What to do.
    pub assignment: Assignment,
}

impl Request {
    /// True for a job that has no task: it integrates what a run has changed, or checks its base.
    pub(crate) fn is_integration(&self) -> bool {
        self.name() == INTEGRATION || self.is_baseline()
    }

    /// True for the gate that checks the base of a run.
    pub(crate) fn is_baseline(&self) -> bool {
        self.name() == BASELINE_GATE
    }

    /// The workstream, as branches and references name it.
    pub(crate) fn ws(&self) -> &str {
        name_of(self.name())
    }

    /// The part of its id behind the run.
    pub(super) fn name(&self) -> &str {
        let id = self.job_id.as_str();
        id.get(self.run.as_str().len() + 1..).unwrap_or(id)
    }

    /// Reads the request that the runner writes.
    ///
    /// # Errors
    /// `invalid_job_file`, with what is wrong.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Reason> {
        #[derive(Deserialize)]
        struct Document {
            job_id: JobId,
            metadata: Value,
        }
        let invalid = |what: String| Reason::new(Code::InvalidJobFile, what);
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the request is not valid: {error}")))?;
        let run = RunId::of_job(&document.job_id).ok_or_else(|| {
            let id = &document.job_id;
            invalid(format!(
                "`{id}` is no id of a workstream, which is `<run>.<workstream>`: engine run makes it"
            ))
        })?;
        let assignment = serde_json::from_value(document.metadata)
            .map_err(|error| invalid(format!("`metadata` is not that of a workstream: {error}")))?;
        Ok(Self { job_id: document.job_id, run, assignment })
    }
}

/// The job of a run with this name: a workstream, or its integration.
pub(super) fn job_of(run: &RunId, name: &str) -> Result<JobId, Reason> {
    run.job_of(name).map_err(|error| Reason::from_error(Code::Usage, &error))
}
