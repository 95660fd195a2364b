//! What came out of an attempt: the result that `run-job --json` prints, and the error report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{JobId, ToolId};
use super::outcome::{Outcome, Reason};
use super::state::Status;
use crate::clock::Timestamp;

/// The result of the last attempt of a job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine job result")]
pub struct JobResult {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// The job.
    pub job_id: JobId,
    /// The adapter.
    pub tool: Option<ToolId>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// True if the verdict is success.
    pub success: bool,
    /// The status of the job after the attempt.
    pub status: Status,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Why it ended so; null for a plain success.
    pub reason: Option<Reason>,
    /// The tool's exit code; null if it did not exit.
    pub exit_code: Option<i32>,
    /// The signal that ended the tool, if one did.
    pub signal: Option<i32>,
    /// When the attempt started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Processor time and memory; null if no tool ran.
    pub usage: Option<Usage>,
    /// Where the log is. In a record a path in the project is relative to the root, as all of a result are; what `run-job --json`
    /// and `show --json` print is absolute.
    pub log_path: Option<String>,
    /// Where the error report is; null after a success.
    pub error_report_path: Option<String>,
    /// Head and tail of standard output, at most 100 lines, redacted.
    pub stdout: String,
    /// Head and tail of standard error, at most 50 lines, redacted.
    pub stderr: String,
    /// True if `stdout` is not all that was printed; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdout_truncated: bool,
    /// True if `stderr` is not all that was printed; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stderr_truncated: bool,
    /// What the adapter read: test counts, commit, answer.
    pub metadata: Map<String, Value>,
}

impl JobResult {
    /// Visits every path of a log, report, stream or patch.
    pub fn each_path(&mut self, visit: &mut dyn FnMut(&mut String)) {
        self.log_path.iter_mut().chain(&mut self.error_report_path).for_each(&mut *visit);
        let mut all = |object: &mut Map<String, Value>| {
            for (_, value) in object.iter_mut().filter(|(key, _)| OUR_PATHS.contains(&key.as_str())) {
                if let Value::String(path) = value {
                    visit(path);
                }
            }
        };
        all(&mut self.metadata);
        if let Some(Value::Object(evidence)) = self.metadata.get_mut("evidence") {
            all(evidence);
        }
    }
}

/// The keys of an agent's metadata and evidence that name files of the engine.
const OUR_PATHS: [&str; 3] = ["stream_path", "evidence_path", "patch_path"];

/// What the tool and all its descendants used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time in user mode, in seconds.
    pub cpu_user_s: f64,
    /// Processor time in the kernel, in seconds.
    pub cpu_system_s: f64,
    /// Largest resident set of any one process, in bytes.
    pub max_rss_bytes: u64,
}

/// Why an attempt did not succeed, for people and for the next agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine error report")]
pub struct ErrorReport {
    /// The job.
    pub job_id: JobId,
    /// The workstream.
    pub workstream_id: Option<String>,
    /// The adapter.
    pub tool: Option<ToolId>,
    /// The tool's exit code; null if it did not exit.
    pub exit_code: Option<i32>,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// One sentence.
    pub summary: String,
    /// What to look at first: names of failed tests, lines of standard error.
    pub details: Vec<String>,
    /// Where the log is; in a record as in a result.
    pub log_path: Option<String>,
    /// Counts and names of a test run.
    pub test_results: Option<Value>,
    /// The git operation that failed.
    pub git_command: Option<String>,
}

/// Cuts a text to about `longest` bytes: its head and its tail, and between them how much is left out.
#[must_use]
pub fn shorten(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let half = longest / 2;
    let head_end = (0..=half).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let tail_start =
        (text.len() - half..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    let (head, tail) = (text.get(..head_end).unwrap_or_default(), text.get(tail_start..).unwrap_or_default());
    format!("{head}\n[engine: {} bytes left out]\n{tail}", tail_start - head_end)
}
