//! The status of a workstream and of a run: pure folds of records.
//!
//! Computed, never written. A run of exactly one workstream has no job of its own: the workstream decides. Of several the
//! integration is the last job, and a run is at rest only after it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{RunFacts, WorkstreamFacts};
use crate::job::{Code, Outcome, RecordLine, Status};
use crate::store::run_dir::Quarantine;

/// Where a workstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkstreamStatus {
    /// No attempt of this life yet.
    Pending,
    /// An attempt is open, or follows by itself.
    Running,
    /// It waits for a quota or a service, and goes on by itself.
    Parked,
    /// It waits for something that only a person can change.
    Blocked,
    /// All its checks passed.
    Succeeded,
    /// It ended without success.
    Failed,
    /// It needs a person.
    Quarantined,
    /// A person stopped it.
    Canceled,
}

/// Where a run is. The order of the ends is from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunStatus {
    /// No attempt of any of its jobs yet.
    Pending,
    /// Something of it can still move.
    Running,
    /// Every workstream succeeded, and they were integrated.
    Succeeded,
    /// Only cancels kept it from succeeding.
    Canceled,
    /// A workstream failed, or the integration.
    Failed,
    /// A job is quarantined, or a person said so of the run.
    Quarantined,
}

/// What the status of a run follows from.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    /// The statuses of the gates and the workstreams.
    pub workstreams: Vec<WorkstreamStatus>,
    /// That of the job that integrates them; a run of exactly one has none.
    pub integration: Option<Integration>,
    /// True if one of the jobs has, or once had, an attempt.
    pub is_begun: bool,
    /// A person's word that nothing of the run may be used.
    pub word: Option<Word>,
}

impl Jobs {
    /// Those of a run.
    #[must_use]
    pub(crate) fn of(facts: &RunFacts) -> Self {
        let integration = facts.integration.as_ref().map(|one| Integration {
            status: WorkstreamStatus::of(one),
            is_incomplete: has_reason(one, &Code::Incomplete),
            is_outdated: is_outdated(one, &facts.workstreams),
        });
        Self {
            workstreams: facts.gates.iter().chain(&facts.workstreams).map(WorkstreamStatus::of).collect(),
            integration,
            is_begun: facts.jobs().any(has_begun),
            word: facts.quarantine.as_ref().map(Word::of),
        }
    }
}

/// What became of a person's word that nothing of a run may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It holds.
    Standing,
    /// A person took it back: the run has failed, until it is resumed.
    Acknowledged,
}

impl Word {
    /// What became of it, by its file.
    fn of(said: &Quarantine) -> Self {
        match said.acknowledged_at {
            None => Self::Standing,
            Some(_) => Self::Acknowledged,
        }
    }
}

/// Where the integration of a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integration {
    /// Its status; a job has the same ones as a workstream.
    pub status: WorkstreamStatus,
    /// True if it failed only because a workstream did not succeed.
    pub is_incomplete: bool,
    /// True if a workstream has brought something else since.
    pub is_outdated: bool,
}

/// True if a job has, or once had, an attempt. One that was canceled before and is requeued counts: a run does not become
/// pending again.
fn has_begun(one: &WorkstreamFacts) -> bool {
    let has_former_life = one.line.as_ref().is_some_and(|line| line.former.lives > 0);
    one.started_at.is_some() || has_former_life
}

/// True if an integration that has succeeded holds another head of a workstream than that one says now.
fn is_outdated(integration: &WorkstreamFacts, workstreams: &[WorkstreamFacts]) -> bool {
    let has_succeeded = WorkstreamStatus::of(integration) == WorkstreamStatus::Succeeded;
    let Some(heads) = integration.told_value("heads").filter(|_| has_succeeded) else { return false };
    workstreams.iter().any(|one| {
        let held = heads.get(&one.ordered.ws_id).and_then(Value::as_str);
        WorkstreamStatus::of(one) == WorkstreamStatus::Succeeded && held != one.told_text("head").as_deref()
    })
}

fn has_reason(one: &WorkstreamFacts, code: &Code) -> bool {
    let result = one.line.as_ref().and_then(|line| line.result.as_ref());
    result.and_then(|result| result.reason.as_ref()).is_some_and(|reason| reason.code == *code)
}

impl WorkstreamStatus {
    /// The status of a workstream.
    #[must_use]
    pub(crate) fn of(facts: &WorkstreamFacts) -> Self {
        match &facts.line {
            Some(line) => Self::of_line(line, facts.stuck.is_some()),
            // Whatever a record says that cannot be read, a person has to look at it.
            None if facts.problem.is_some() => Self::Blocked,
            None => Self::Pending,
        }
    }

    fn of_line(line: &RecordLine, is_stuck: bool) -> Self {
        match line.status {
            Status::Queued if is_stuck => Self::Blocked,
            Status::Queued => match line.attempts.last().map(|last| last.outcome) {
                None => Self::Pending,
                Some(Some(Outcome::Parked)) => Self::Parked,
                Some(_) => Self::Running,
            },
            Status::Running => Self::Running,
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::Quarantined => Self::Quarantined,
            Status::Canceled => Self::Canceled,
        }
    }

    /// True if it goes on without a person.
    #[must_use]
    pub(crate) fn can_move(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Parked)
    }

    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Blocked => "blocked",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Canceled => "canceled",
        }
    }
}

impl RunStatus {
    /// The status of a run.
    #[must_use]
    pub(crate) fn of(facts: &RunFacts) -> Self {
        Self::fold(&Jobs::of(facts))
    }

    /// The status of a run of these jobs.
    #[must_use]
    pub(crate) fn fold(jobs: &Jobs) -> Self {
        let mut statuses = jobs.workstreams.iter().copied().chain(jobs.integration.map(|one| one.status));
        if statuses.clone().any(WorkstreamStatus::can_move) {
            return if jobs.is_begun { Self::Running } else { Self::Pending };
        }
        if jobs.word == Some(Word::Standing) || statuses.any(|status| status == WorkstreamStatus::Quarantined)
        {
            return Self::Quarantined;
        }
        if jobs.word == Some(Word::Acknowledged) {
            return Self::Failed;
        }
        let of_workstreams = Self::at_rest(&jobs.workstreams);
        match jobs.integration {
            // What it holds is not what there is: a resume makes it anew.
            Some(one) if one.is_outdated => of_workstreams.max(Self::Failed),
            // It only repeats that a workstream did not succeed, and that one says why.
            Some(one) if one.is_incomplete && of_workstreams != Self::Succeeded => of_workstreams,
            Some(one) => of_workstreams.max(Self::at_rest(&[one.status])),
            None => of_workstreams,
        }
    }

    /// The end of some jobs, none of which is quarantined. One that is blocked adds nothing to the end that blocks it.
    fn at_rest(statuses: &[WorkstreamStatus]) -> Self {
        let any = |wanted: WorkstreamStatus| statuses.contains(&wanted);
        if any(WorkstreamStatus::Failed) {
            Self::Failed
        } else if any(WorkstreamStatus::Canceled) {
            Self::Canceled
        } else if any(WorkstreamStatus::Blocked) {
            Self::Failed
        } else {
            Self::Succeeded
        }
    }

    /// True if a run may go from this status to another one. Only a resume, a requeue or a person's word leads out of an end.
    #[must_use]
    pub(crate) fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Pending, next) => matches!(next, Self::Running | Self::Canceled),
            (Self::Running, next) => next.is_at_rest(),
            (Self::Failed, Self::Quarantined) | (Self::Quarantined, Self::Failed) => true,
            (_, next) => next == Self::Running,
        }
    }

    /// Why it may not, in plain words and in those of the historical state machine.
    #[must_use]
    pub(crate) fn refusal(self, next: Self) -> String {
        let historical = match self {
            Self::Succeeded | Self::Quarantined | Self::Canceled => {
                format!("Cannot transition from terminal state '{self}'")
            }
            Self::Pending | Self::Running | Self::Failed => {
                format!("Invalid transition: '{self}' -> '{next}'")
            }
        };
        match self {
            Self::Pending => format!("the run has not begun ({historical})"),
            Self::Running => format!("the run has not ended ({historical})"),
            _ => format!("the run has ended as {self} ({historical})"),
        }
    }

    /// True if nothing of it moves without a person.
    #[must_use]
    pub(crate) fn is_at_rest(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word in documents.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Canceled => "canceled",
        }
    }
}

impl fmt::Display for WorkstreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkstreamStatus as W;

    fn jobs(workstreams: &[W], integration: Option<Integration>, is_begun: bool, word: Option<Word>) -> Jobs {
        Jobs { workstreams: workstreams.to_vec(), integration, is_begun, word }
    }

    #[test]
    fn a_run_is_over_only_when_nothing_moves_and_the_worst_end_counts() {
        let table: [(&[W], bool, bool, RunStatus); 13] = [
            (&[W::Pending], false, false, RunStatus::Pending),
            (&[W::Pending], true, false, RunStatus::Running),
            (&[W::Running, W::Failed], true, false, RunStatus::Running),
            (&[W::Parked], true, false, RunStatus::Running),
            (&[W::Parked, W::Quarantined], true, true, RunStatus::Running),
            (&[W::Succeeded, W::Succeeded], true, false, RunStatus::Succeeded),
            (&[W::Succeeded], true, true, RunStatus::Quarantined),
            (&[W::Quarantined, W::Failed], true, false, RunStatus::Quarantined),
            (&[W::Failed, W::Canceled], true, false, RunStatus::Failed),
            (&[W::Blocked, W::Succeeded], true, false, RunStatus::Failed),
            (&[W::Canceled, W::Succeeded], true, false, RunStatus::Canceled),
            (&[W::Canceled], false, false, RunStatus::Canceled),
            (&[W::Pending, W::Canceled], false, false, RunStatus::Pending),
        ];
        for (workstreams, is_begun, is_quarantined, want) in table {
            let word = is_quarantined.then_some(Word::Standing);
            let jobs = jobs(workstreams, None, is_begun, word);
            assert_eq!(RunStatus::fold(&jobs), want, "{workstreams:?}");
        }
    }

    const ALL: [W; 8] =
        [W::Pending, W::Running, W::Parked, W::Blocked, W::Succeeded, W::Failed, W::Quarantined, W::Canceled];

    /// Where a job can be after one line of its record, or after one of a job that it waits for.
    fn moves(from: W) -> &'static [W] {
        match from {
            W::Pending => &[W::Running, W::Blocked, W::Canceled],
            W::Running | W::Parked => {
                &[W::Running, W::Parked, W::Succeeded, W::Failed, W::Quarantined, W::Canceled]
            }
            W::Blocked => &[W::Pending, W::Canceled],
            W::Succeeded => &[],
            W::Failed | W::Quarantined | W::Canceled => &[W::Pending],
        }
    }

    /// True for a state that a run can be in: the integration ends last and depends on nothing, what is blocked is so by an
    /// end, and before an attempt nothing ends
    /// but by a cancel, and no word is said.
    fn is_of_a_run(state: &Jobs) -> bool {
        let any = |wanted: &[W]| state.workstreams.iter().any(|status| wanted.contains(status));
        let integration = state.integration.unwrap().status;
        let is_last = integration.can_move() || !any(&[W::Pending, W::Running, W::Parked]);
        let is_blocked_by_an_end = !any(&[W::Blocked]) || any(&[W::Failed, W::Quarantined, W::Canceled]);
        let is_without = |status: W| matches!(status, W::Pending | W::Blocked | W::Canceled);
        let mut all = state.workstreams.iter().copied().chain([integration]);
        let has_attempts = state.is_begun || state.word.is_none() && all.all(is_without);
        integration != W::Blocked && is_last && is_blocked_by_an_end && has_attempts
    }

    /// The rules as the documentation has them, each as a sentence.
    fn by_the_book(jobs: &Jobs) -> RunStatus {
        let integration = jobs.integration.unwrap();
        let all: Vec<W> = jobs.workstreams.iter().copied().chain([integration.status]).collect();
        let any = |wanted: &[W]| all.iter().any(|status| wanted.contains(status));
        let workstream = |wanted: &[W]| jobs.workstreams.iter().any(|status| wanted.contains(status));
        let integration_failed = matches!(integration.status, W::Failed | W::Blocked);
        if any(&[W::Pending, W::Running, W::Parked]) {
            return if jobs.is_begun { RunStatus::Running } else { RunStatus::Pending };
        }
        // A cancel explains what it blocks, and that the integration is incomplete.
        let is_explained = workstream(&[W::Canceled]);
        let failures = [
            jobs.word == Some(Word::Acknowledged),
            workstream(&[W::Failed]),
            workstream(&[W::Blocked]) && !is_explained,
            integration_failed && !(integration.is_incomplete && is_explained),
        ];
        if jobs.word == Some(Word::Standing) || any(&[W::Quarantined]) {
            RunStatus::Quarantined
        } else if failures.contains(&true) {
            RunStatus::Failed
        } else if any(&[W::Canceled]) {
            RunStatus::Canceled
        } else {
            RunStatus::Succeeded
        }
    }

    /// Every state of a run of two workstreams and their integration.
    fn every_state() -> Vec<Jobs> {
        let mut states = Vec::new();
        for (first, second, third) in
            ALL.into_iter().flat_map(|a| ALL.into_iter().flat_map(move |b| ALL.map(move |c| (a, b, c))))
        {
            for word in [None, Some(Word::Standing), Some(Word::Acknowledged)] {
                for bits in 0..4u8 {
                    let is_incomplete = bits & 1 != 0 && third == W::Failed;
                    let integration = Some(Integration { status: third, is_incomplete, is_outdated: false });
                    states.push(jobs(&[first, second], integration, bits & 2 != 0, word));
                }
            }
        }
        states
    }

    #[test]
    fn the_status_of_three_jobs_is_that_of_the_rules_in_every_state() {
        for state in every_state() {
            assert_eq!(RunStatus::fold(&state), by_the_book(&state), "{state:?}");
        }
    }

    #[test]
    fn no_single_move_of_a_job_makes_a_move_of_the_run_that_is_not_allowed() {
        for state in every_state().into_iter().filter(is_of_a_run) {
            let from = RunStatus::fold(&state);
            for place in 0..3 {
                let now = match place {
                    2 => state.integration.unwrap().status,
                    place => state.workstreams[place],
                };
                // An integration depends on nothing: it only comes after.
                for to in moves(now).iter().filter(|to| place < 2 || **to != W::Blocked) {
                    let mut next = state.clone();
                    match place {
                        2 => {
                            next.integration =
                                Some(Integration { status: *to, is_incomplete: false, is_outdated: false });
                        }
                        place => next.workstreams[place] = *to,
                    }
                    // A requeue, of the job or of one that it waits for, is of a life that was.
                    let is_again = matches!(now, W::Blocked | W::Failed | W::Quarantined | W::Canceled);
                    next.is_begun |= is_again || *to == W::Running;
                    let reached = RunStatus::fold(&next);
                    let is_allowed = from == reached || from.may_become(reached);
                    assert!(is_allowed, "{from} to {reached}: {state:?} to {next:?}");
                }
            }
        }
    }
}
