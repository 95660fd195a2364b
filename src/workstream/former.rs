//! What a conductor finds of the one before it, by the record of the workstream's job: whether that was killed, and whose the
//! changes in the worktree are that no commit holds.
//!
//! Pure. Hard rule: no clock decides, because a clock can be set back.

use serde_json::Value;

use crate::job::{Attempt, JobResult, Outcome, RecordLine};
use crate::store::steps::StepFound;

/// How often steps were started, over all lives.
pub(super) fn starts(found: &[StepFound]) -> u64 {
    found.iter().filter_map(|step| step.line.attempts.last()).map(|last| u64::from(last.attempt)).sum()
}

/// The key of a result that says how often steps had been started by then.
pub(super) const STARTS: &str = "step_starts";

/// The key of a result that says whether the worktree was left clean.
pub(super) const LEFT_CLEAN: &str = "left_clean";

/// What there was before this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Former {
    /// True if the last process did not come to an end of its own: its git may have left lock files.
    pub(super) is_killed: bool,
    /// True if a step was started since the last verdict, which left the tree clean; then what is not taken is of that step. Else
    /// it is of a person. Counted, because a clock can be set back.
    pub(super) has_worked: bool,
}

impl Former {
    /// Before the records are read: nothing is assumed to be in order.
    pub(super) const UNKNOWN: Self = Self { is_killed: true, has_worked: true };

    /// By all lines of the record, and how often steps were started by now.
    pub(super) fn of(history: &[RecordLine], starts: u64) -> Self {
        let mut ended: Vec<&Attempt> = history.iter().flat_map(|line| &line.attempts).collect();
        ended.retain(|attempt| attempt.outcome.is_some());
        ended.sort_by_key(|attempt| attempt.attempt);
        let verdict = |attempt: &&Attempt| {
            let mut results = history.iter().rev().filter_map(|line| line.result.as_ref());
            let result = results.find(|result| result.attempt == attempt.attempt)?;
            has_verdict(attempt, result).then_some(result)
        };
        let is_killed = ended.last().is_some_and(|last| verdict(last).is_none());
        let last_verdict = ended.iter().rev().find_map(verdict);
        let then = last_verdict.map(|result| result.metadata.get(STARTS).and_then(Value::as_u64));
        let has_worked = match then {
            None => true,
            Some(None) => is_killed,
            Some(Some(then)) => then != starts,
        };
        Self { is_killed, has_worked }
    }

    /// True if the worktree holds nothing but the last checkpoint, and what a person did since.
    pub(super) fn is_left_clean(self) -> bool {
        !self.is_killed && !self.has_worked
    }
}

/// True if a conductor ended this attempt and left the tree clean. One that could not go on tells a verdict as well, and says
/// whether it could do that.
fn has_verdict(attempt: &Attempt, result: &JobResult) -> bool {
    let is_whole = ["verdict", "head"].iter().all(|key| result.metadata.contains_key(*key));
    let is_clean = result.metadata.get(LEFT_CLEAN) != Some(&Value::Bool(false));
    is_whole && is_clean && !matches!(attempt.outcome, Some(Outcome::Lost | Outcome::Killed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The lines of a record: after each attempt, with its outcome and the metadata of its result, one that ends it.
    fn history(attempts: &[(&str, Value)]) -> Vec<RecordLine> {
        let attempt = |number: usize, outcome: &str| {
            json!({"attempt": number, "started_at": "2026-01-01T00:00:00.000Z", "ended_at": null, "outcome": outcome,
                "reason": null, "exit_code": null, "signal": null, "usage": null, "log_path": null, "host": "h",
                "boot_id": "b", "pid_namespace": "p", "pid": 1, "repeatable": true, "dependencies": []})
        };
        let line = |at: usize, (outcome, metadata): &(&str, Value)| {
            let ended: Vec<Value> = attempts
                .iter()
                .take(at + 1)
                .zip(1..)
                .map(|((outcome, _), number)| attempt(number, outcome))
                .collect();
            let result = json!({"schema_version": 1, "job_id": "r.ws-a", "tool": "workstream", "exit_code": 0, "signal": null, "success": false, "status": "failed", "outcome": outcome,
                "reason": null, "duration_s": 0.0, "error_report_path": null, "log_path": null, "stdout": "", "stderr": "",
                "started_at": "2026-01-01T00:00:00.000Z", "finished_at": "2026-01-01T00:00:00.000Z", "attempt": at + 1,
                "usage": null, "metadata": metadata});
            json!({"schema_version": 1, "seq": at + 1, "at": "2026-01-01T00:00:00.000Z", "job_id": "r.ws-a", "life": 1, "first_attempt": 1,
                "status": "queued", "place": "queued", "not_before": null, "attempts": ended, "result": result, "former": {"lives": 0, "attempts": 0, "last_outcome": null},
                "error_report": null, "job": {"run_id": "r", "workstream_id": "ws-a", "tool": "workstream", "key": null,
                "priority": null, "depends_on": [], "sha256": null}})
        };
        let lines = attempts.iter().enumerate().map(|(at, ended)| line(at, ended));
        lines.map(|line| serde_json::from_value(line).unwrap()).collect()
    }

    #[test]
    fn only_a_verdict_after_which_no_step_was_started_leaves_the_changes_to_a_person() {
        let verdict = |starts: u64| ("failed", json!({"verdict": "failed", "head": "c", (STARTS): starts}));
        let gave_up = ("failed", json!({"verdict": "failed", "head": "c", (STARTS): 5, (LEFT_CLEAN): false}));
        let (lost, killed) =
            (("lost", json!({})), ("killed", json!({"verdict": "failed", "head": "c", (STARTS): 5})));
        let old = ("failed", json!({"verdict": "failed", "head": "c"}));
        for (attempts, starts, is_killed, has_worked) in [
            (vec![], 0, false, true),
            (vec![verdict(5)], 5, false, false),
            (vec![verdict(5)], 6, false, true),
            (vec![verdict(5), lost.clone()], 5, true, false),
            (vec![verdict(5), lost.clone()], 6, true, true),
            (vec![verdict(5), lost.clone(), verdict(7)], 7, false, false),
            (vec![verdict(4), gave_up.clone()], 5, true, true),
            (vec![gave_up], 5, true, true),
            (vec![killed], 5, true, true),
            (vec![lost.clone()], 0, true, true),
            (vec![old.clone()], 5, false, false),
            (vec![old, lost], 5, true, true),
        ] {
            let found = Former::of(&history(&attempts), starts);
            assert_eq!(found, Former { is_killed, has_worked }, "{attempts:?}, {starts}");
        }
    }
}
