//! The record of a job: what each line of `state/jobs/<id>.jsonl` holds.
//!
//! A line is the whole record at one moment. Every key is always written, `null` where there is nothing, so that
//! a reader sees one shape; keys of a newer program are carried on by `overlay`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::ahead::{AfterSeen, Dependency};
use super::code::Code;
use super::id::{JobId, ToolId};
use super::outcome::{Outcome, Reason};
use super::place::Place;
use super::result::{ErrorReport, JobResult, Usage};
use super::spec::Priority;
use super::state::Status;
use crate::clock::Timestamp;

/// One line of a record: everything known of the job at that moment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine job record, one line")]
pub struct RecordLine {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// Number of the line in its record, from 1.
    pub seq: u64,
    /// When the line was written.
    pub at: Timestamp,
    /// The job.
    pub job_id: JobId,
    /// Where the job is in its life.
    pub status: Status,
    /// Where the job file belongs: `queued`, `running`, `quarantined` or `done/YYYY-MM-DD`.
    pub place: Place,
    /// A queued job does not start before this time.
    pub not_before: Option<Timestamp>,
    /// What the job file said when it was accepted.
    pub job: JobSummary,
    /// How often the job was accepted, requeued or run again, from 1.
    pub life: u32,
    /// The number of the first attempt of this life.
    pub first_attempt: u32,
    /// The lives before this one.
    pub former: Former,
    /// The attempts of this life, oldest first.
    pub attempts: Vec<Attempt>,
    /// The result of the last attempt that ended.
    pub result: Option<JobResult>,
    /// Why that attempt did not succeed.
    pub error_report: Option<ErrorReport>,
    /// When and where in its batch the job was accepted; absent in lines of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

/// What decides the age of a job in the queue, however often its file is edited or it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    /// The life that was accepted: an older program carries the key of the last life on.
    pub life: u32,
    /// When.
    pub at: Timestamp,
    /// The number of the job among those that were submitted with it, from 0.
    pub place: u32,
}

impl Acceptance {
    /// That of a file without a record: a person put it into the queue when it was last changed, as far as that is known.
    #[must_use]
    pub fn of_file(changed: Option<Timestamp>) -> Self {
        Self { life: 1, at: changed.unwrap_or(Timestamp::from_millis(0)), place: 0 }
    }
}

/// What a reader wants to know of a job without opening its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// The run.
    pub run_id: Option<String>,
    /// The workstream.
    pub workstream_id: Option<String>,
    /// The job that this one is a part of; absent if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The adapter.
    pub tool: Option<ToolId>,
    /// The deduplication key.
    pub key: Option<String>,
    /// The priority.
    pub priority: Option<Priority>,
    /// The jobs that must have succeeded first.
    pub depends_on: Vec<JobId>,
    /// How many jobs must be at rest first, which the job file names; absent if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_count: u32,
    /// SHA-256 of the job file's bytes, hexadecimal; absent for a file that could not be read.
    pub sha256: Option<String>,
}

/// A count of the lives before the present one; their lines are further up in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Former {
    /// How many lives.
    pub lives: u32,
    /// How many attempts are only further up in the file.
    pub attempts: u32,
    /// How the last of those ended.
    pub last_outcome: Option<Outcome>,
    /// How many of the attempts of this life are only further up and were parked.
    #[serde(default)]
    pub parked: u32,
    /// How many of those were parked because the system lacked something; absent if none was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shortages: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Attempt {
    /// True if it waits because the system lacked descriptors, processes or memory before its tool was started.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        let is_code = self.reason.as_ref().is_some_and(|reason| reason.code == Code::StartFailed);
        self.outcome == Some(Outcome::Parked) && is_code
    }
}

/// One attempt to run the job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Its number over all lives of the job, from 1.
    pub attempt: u32,
    /// When its start was recorded.
    pub started_at: Timestamp,
    /// When it ended; null while it is open.
    pub ended_at: Option<Timestamp>,
    /// How it ended; null while it is open.
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// The tool's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the tool, if one did.
    pub signal: Option<i32>,
    /// Processor time and memory of the tool and its descendants.
    pub usage: Option<Usage>,
    /// The log of the attempt; a relative path is below the root.
    pub log_path: Option<String>,
    /// An agent's own name of its session, from the moment that it is known.
    #[serde(default)]
    pub session_id: Option<String>,
    /// What the attempts of this life, this one the last, did to the worktree; of agents only.
    #[serde(default)]
    pub work: Option<Work>,
    /// The machine of the runner.
    pub host: String,
    /// The boot of that machine.
    pub boot_id: String,
    /// The pid namespace of the runner.
    pub pid_namespace: String,
    /// The runner's pid: a hint for people, never a key.
    pub pid: i32,
    /// True if a crash of the runner lets the job run again.
    pub repeatable: bool,
    /// The dependencies as they were judged at the start.
    pub dependencies: Vec<Dependency>,
    /// The jobs of `after` as they were judged at the start; absent if it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AfterSeen>,
}

/// What attempts did to a git worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// The tree before the first of them.
    pub origin_tree: String,
    /// The tree after the last of them.
    pub tree: String,
    /// True if they made it another.
    pub changed: bool,
    /// True if a file out of `files_scope` was changed.
    pub out_of_scope: bool,
}

/// The time before which a job does not start that a line set at `at`, after this last attempt. A retry that would wait for more
/// than twice its backoff was set by a clock that was fast and has been set right since: it waits no longer. The same holds
/// of a parked job whose line is of a time to come; else its time is that of a service.
#[must_use]
pub(crate) fn still_waits(
    not_before: Option<Timestamp>,
    at: Timestamp,
    last: Option<&Attempt>,
    now: Timestamp,
) -> Option<Timestamp> {
    let is_ours = last.is_some_and(|last| match last.outcome {
        None => false,
        Some(Outcome::Parked) => at > now,
        Some(_) => true,
    });
    not_before.filter(|time| !is_ours || time.since(now) <= time.since(at) * 2)
}

impl RecordLine {
    /// The attempt that has started and not ended.
    #[must_use]
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.outcome.is_none())
    }

    /// The time before which the job does not start, as `still_waits` judges it.
    #[must_use]
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        still_waits(self.not_before, self.at, self.attempts.last(), now)
    }

    /// When the job was accepted for this life, as far as the line says.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        self.accepted.filter(|accepted| accepted.life == self.life).unwrap_or_else(|| {
            // Of an older program: the line of acceptance, or the first attempt.
            let at = self.attempts.first().map_or(self.at, |first| first.started_at);
            Acceptance { life: self.life, at, place: 0 }
        })
    }

    /// Visits every path of a log, report, stream or patch that the line names.
    pub(crate) fn each_path(&mut self, visit: &mut dyn FnMut(&mut String)) {
        self.attempts.iter_mut().filter_map(|attempt| attempt.log_path.as_mut()).for_each(&mut *visit);
        if let Some(result) = &mut self.result {
            result.each_path(visit);
        }
        if let Some(path) = self.error_report.as_mut().and_then(|report| report.log_path.as_mut()) {
            visit(path);
        }
    }

    /// True if nothing but acceptance was ever recorded: such an id is free where it has no job file.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.status == Status::Queued && self.attempts.is_empty() && self.life == 1
    }

    /// The number that the next attempt gets.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        let here = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.former.attempts.saturating_add(here).saturating_add(1)
    }

    /// How many attempts this life has had, the open one included.
    #[must_use]
    pub fn attempts_of_this_life(&self) -> u32 {
        self.next_attempt().saturating_sub(self.first_attempt)
    }

    /// Leaves the older attempts of a long life to the lines further up; crashes stay, for they are counted.
    pub(crate) fn fold_old_attempts(&mut self) {
        const KEPT: usize = 20;
        let old = self.attempts.len().saturating_sub(KEPT);
        let mut index = 0;
        let mut folded = 0u32;
        let mut last = self.former.last_outcome;
        let Former { mut parked, mut shortages, .. } = self.former;
        self.attempts.retain(|attempt| {
            index += 1;
            let keep = index > old || attempt.outcome == Some(Outcome::Lost);
            if !keep {
                folded += 1;
                last = attempt.outcome;
                parked += u32::from(attempt.outcome == Some(Outcome::Parked));
                shortages += u32::from(attempt.is_shortage());
            }
            keep
        });
        self.former.attempts = self.former.attempts.saturating_add(folded);
        self.former.last_outcome = last;
        self.former.parked = parked;
        self.former.shortages = shortages;
    }

    /// How many of the parks of this life were for a shortage, and for no service.
    #[must_use]
    pub fn shortages_of_this_life(&self) -> u32 {
        let here = self.attempts.iter().filter(|attempt| attempt.is_shortage()).count();
        self.former.shortages.saturating_add(u32::try_from(here).unwrap_or(u32::MAX))
    }

    /// How often the job was parked in this life.
    #[must_use]
    pub fn parks_of_this_life(&self) -> u32 {
        let here = u32::try_from(self.count(Outcome::Parked)).unwrap_or(u32::MAX);
        self.former.parked.saturating_add(here)
    }

    /// How many attempts of this life count as tries, the open one included: crashes have a count of their own, and one that
    /// only waits does not try.
    #[must_use]
    pub fn tries_of_this_life(&self) -> u32 {
        let lost = u32::try_from(self.count(Outcome::Lost)).unwrap_or(u32::MAX);
        self.attempts_of_this_life().saturating_sub(lost).saturating_sub(self.parks_of_this_life())
    }

    /// How many attempts of this life ended with this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.attempts.iter().filter(|attempt| attempt.outcome == Some(outcome)).count()
    }

    /// The other job that this one ended in, if it was escalated.
    #[must_use]
    pub fn escalated_to(&self) -> Option<&str> {
        self.result.as_ref()?.metadata.get("escalated_to")?.as_str()
    }
}

/// Lays a new document over the old one: what the new one does not know is carried on.
#[must_use]
pub(crate) fn overlay(old: Value, new: Value) -> Value {
    match (old, new) {
        (Value::Object(mut old), Value::Object(new)) => {
            for (key, value) in new {
                let merged = match old.remove(&key) {
                    Some(before) => overlay(before, value),
                    None => value,
                };
                old.insert(key, merged);
            }
            Value::Object(old)
        }
        (Value::Array(old), Value::Array(new)) if old.len() <= new.len() => {
            let mut old = old.into_iter();
            Value::Array(new.into_iter().map(|v| old.next().map_or(v.clone(), |o| overlay(o, v))).collect())
        }
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_retry_waits_for_its_backoff_and_not_for_a_clock_that_was_fast() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let attempt = |outcome: &str| -> Attempt {
            serde_json::from_value(json!({
                "attempt": 1, "started_at": at(0), "outcome": outcome, "host": "h", "boot_id": "b",
                "pid_namespace": "p", "pid": 1, "repeatable": false, "dependencies": []
            }))
            .unwrap()
        };
        let (failed, parked) = (attempt("failed"), attempt("parked"));
        // Set at 7200 for 7260: a backoff of a minute.
        for (now, last, waits) in [
            (7200, Some(&failed), true),
            (7141, Some(&failed), true),
            (7100, Some(&failed), false),
            (0, Some(&failed), false),
            (0, Some(&parked), false),
            (7200, Some(&parked), true),
            (7210, Some(&parked), true),
            (0, None, true),
        ] {
            assert_eq!(
                still_waits(Some(at(7260)), at(7200), last, at(now)).is_some(),
                waits,
                "{now} {last:?}"
            );
        }
        assert_eq!(still_waits(None, at(7200), Some(&failed), at(0)), None);
    }

    #[test]
    fn keys_of_a_newer_program_are_carried_on() {
        let old = json!({"a": 1, "new": {"x": 1}, "list": [{"n": 1, "extra": 2}], "gone": 3});
        let new = json!({"a": 2, "list": [{"n": 1}, {"n": 2}], "gone": null});
        let want = json!({"a": 2, "new": {"x": 1}, "list": [{"n": 1, "extra": 2}, {"n": 2}], "gone": null});
        assert_eq!(overlay(old, new), want);
    }
}
