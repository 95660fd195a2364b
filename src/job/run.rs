//! The manifest of a run: `state/runs/<run>/run.json`, immutable.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{JobId, RunId};
use crate::clock::Timestamp;

/// What was asked of a run, as it was when the run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine run manifest")]
pub struct RunManifest {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// The run.
    pub run_id: RunId,
    /// When it was made.
    pub created_at: Timestamp,
    /// The version of the engine that made it.
    pub engine_version: String,
    /// The repository: the top directory of its worktree.
    pub repo: String,
    /// The commit that it builds on.
    pub base: Base,
    /// What caused it.
    pub origin: Origin,
    /// The options that were given.
    pub options: Map<String, Value>,
    /// Its bundles.
    pub bundles: Vec<BundleRef>,
    /// SHA-256 of `jobs.jsonl`, hexadecimal.
    pub jobs_sha256: String,
    /// Its workstreams in plan order.
    pub order: Vec<Ordered>,
}

/// What follows the run in the id of the job that integrates it, and in the name of its branch.
pub(crate) const INTEGRATION: &str = "integration";

/// What follows the run in the id of the gate that checks the base commit before anything else starts.
pub(crate) const BASELINE_GATE: &str = "gate-0";

/// The option of a run that asks for that gate.
pub(crate) const BASELINE: &str = "baseline";

impl RunId {
    /// The run of a job that `engine run` has made, by the form of its id: a workstream, a gate or the integration.
    #[must_use]
    pub(crate) fn of_part(id: &JobId) -> Option<Self> {
        let (run, name) = id.as_str().split_once('.')?;
        let is_part =
            name.starts_with("ws-") && !name.contains('.') || name == INTEGRATION || name == BASELINE_GATE;
        Self::new(run).ok().filter(|_| is_part)
    }
}

impl RunManifest {
    /// The job that integrates the workstreams. A run of exactly one without a gate has none: the workstream decides.
    #[must_use]
    pub(crate) fn integration_job(&self) -> Option<JobId> {
        let is_one = self.order.len() == 1 && !self.has_baseline();
        (!is_one).then(|| self.run_id.job_of(INTEGRATION).ok()).flatten()
    }

    /// The gate before the workstreams, if the run has one.
    #[must_use]
    pub(crate) fn baseline_job(&self) -> Option<JobId> {
        self.has_baseline().then(|| self.run_id.job_of(BASELINE_GATE).ok()).flatten()
    }

    fn has_baseline(&self) -> bool {
        self.options.get(BASELINE).and_then(Value::as_bool) == Some(true)
    }
}

/// A commit, and the name under which it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Base {
    /// The name, as `refs/heads/main`; null for a commit that was named by its hash, or a detached HEAD.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The commit.
    pub commit: String,
}

/// What caused a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// manual, ci, `error_pipeline`, scheduled or other.
    pub trigger_type: String,
    /// The command line, one argument each.
    pub command: Vec<String>,
}

/// A bundle of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BundleRef {
    /// The workstream.
    pub ws_id: String,
    /// The file that it was read from; null for one that was made of flags or standard input.
    pub file: Option<String>,
    /// SHA-256 of the file, or of what was read, hexadecimal.
    pub sha256: String,
}

/// A workstream in the order of its run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ordered {
    /// The workstream.
    pub ws_id: String,
    /// The workstreams that must have succeeded first.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// The workstreams that must be at rest first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Why it comes after those.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its wave, from 1, where waves were planned.
    #[serde(default)]
    pub wave: Option<u32>,
}
