//! A line of the journal, `state/events.jsonl`: one for each record line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{JobId, ToolId};
use super::record::{Outcome, Place, RecordLine};
use super::state::Status;
use crate::clock::Timestamp;

/// What happened to one job at one moment; `(job_id, seq)` is the key, and a line may stand twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine journal line")]
pub struct JournalLine {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// When the record line was written.
    pub at: Timestamp,
    /// The job.
    pub job_id: JobId,
    /// The number of the record line.
    pub seq: u64,
    /// The attempt, if there was one.
    pub attempt: Option<u32>,
    /// The status of the job.
    pub status: Status,
    /// How the attempt ended, if it has.
    pub outcome: Option<Outcome>,
    /// The word of the reason.
    pub reason_code: Option<String>,
    /// Where the job file belongs.
    pub place: Place,
    /// The run.
    pub run_id: Option<String>,
    /// The workstream.
    pub workstream_id: Option<String>,
    /// The adapter.
    pub tool: Option<ToolId>,
}

/// Longest journal line in bytes, its newlines included: one `write` of it is not torn by another's.
pub const MAX_LINE: usize = 4096;

impl JournalLine {
    /// The line for a record line.
    #[must_use]
    pub fn of(record: &RecordLine) -> Self {
        let last = record.attempts.last();
        Self {
            schema_version: super::SCHEMA_VERSION,
            at: record.at,
            job_id: record.job_id.clone(),
            seq: record.seq,
            attempt: last.map(|attempt| attempt.attempt),
            status: record.status,
            outcome: last.and_then(|attempt| attempt.outcome),
            reason_code: last.and_then(|a| a.reason.as_ref()).map(|reason| reason.code.clone()),
            place: record.place.clone(),
            run_id: record.job.run_id.as_deref().map(short),
            workstream_id: record.job.workstream_id.as_deref().map(short),
            tool: record.job.tool.clone(),
        }
    }
}

/// Cuts a free text of the job file so that the line stays below `MAX_LINE` however it is escaped.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(128).collect()
}
