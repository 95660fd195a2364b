//! A line of the journal, `state/events.jsonl`: one for each record line, and one when gc retires the job.

use super::code::Code;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{JobId, ToolId};
use super::outcome::Outcome;
use super::place::{Place, is_day};
use super::record::RecordLine;
use super::state::Status;
use crate::clock::Timestamp;

/// One event of one job; `(job_id, seq)` is the key until the record is retired (a `place` that begins with `archive/`), and
/// a line may be repeated.
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
    pub reason_code: Option<Code>,
    /// Where the job file belongs; of a job that gc retired the archive.
    pub place: Whereabouts,
    /// The run.
    pub run_id: Option<String>,
    /// The workstream.
    pub workstream_id: Option<String>,
    /// The job that this one is a part of; absent if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The adapter.
    pub tool: Option<ToolId>,
}

/// Longest journal line in bytes, its newlines included: one `write` of it is not torn by another's.
pub const MAX_LINE: usize = 4096;

impl JournalLine {
    /// The line for a record line.
    #[must_use]
    pub fn from_record(record: &RecordLine) -> Self {
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
            place: Whereabouts::Jobs(record.place.clone()),
            run_id: record.job.run_id.as_deref().map(short),
            workstream_id: record.job.workstream_id.as_deref().map(short),
            parent: record.job.parent.clone(),
            tool: record.job.tool.clone(),
        }
    }

    /// The last line of a job: it follows the last record line, and says that gc retired the record to this month.
    #[must_use]
    pub fn retired(record: &RecordLine, month: &str, now: Timestamp) -> Self {
        Self {
            at: now,
            seq: record.seq.saturating_add(1),
            place: Whereabouts::Archive(month.to_owned()),
            ..Self::from_record(record)
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Below `jobs/`.
    Jobs(Place),
    /// In the archive of this month, `YYYY-MM`.
    Archive(String),
}

/// What the place of a retired job begins with.
pub const ARCHIVE: &str = "archive/";

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jobs(place) => place.fmt(f),
            Self::Archive(month) => write!(f, "{ARCHIVE}{month}"),
        }
    }
}

impl Serialize for Whereabouts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Whereabouts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_month = |month: &&str| is_day(&format!("{month}-01"));
        match text.strip_prefix(ARCHIVE).filter(is_month) {
            Some(month) => Ok(Self::Archive(month.to_owned())),
            None => Place::deserialize(text.into_deserializer()).map(Self::Jobs),
        }
    }
}

impl JsonSchema for Whereabouts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Whereabouts".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(queued|running|quarantined|done/[0-9]{4}-[0-9]{2}-[0-9]{2}|archive/[0-9]{4}-[0-9]{2})$",
            "description": "where the job file belongs, below jobs/; archive/YYYY-MM once gc has retired the job",
        })
    }
}

/// Cuts a free text of the job file so that the line stays below `MAX_LINE` however it is escaped.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_of_the_queue_or_a_month_of_the_archive_and_nothing_else() {
        for text in ["queued", "running", "quarantined", "done/2026-11-30", "archive/2026-11"] {
            let place: Whereabouts = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(&place).unwrap(), text);
        }
        for text in ["", "archive", "archive/", "archive/2026-11-30", "archive/../x", "done/2026-11"] {
            assert!(serde_json::from_value::<Whereabouts>(text.into()).is_err(), "{text}");
        }
    }
}
