//! Why a workstream, or the integration, is where it is: the reason that its records say, and what a person should know.

use serde_json::Value;

use super::status::WorkstreamStatus;
use super::{RunFacts, WorkstreamFacts};
use crate::job::{Code, Reason};
use crate::view::outcome::Stuck;
use crate::view::runner::Runner;

/// Why a workstream has its status, if a record says so.
#[must_use]
pub(crate) fn reason(facts: &RunFacts, one: &WorkstreamFacts, status: WorkstreamStatus) -> Option<Reason> {
    if let Some(problem) = &one.problem {
        return Some(Reason::new(Code::StateUnreadable, problem.clone()));
    }
    if let Some(stuck) = &one.stuck {
        return Some(Reason::new(Code::WaitingDependency, behind(stuck, one)));
    }
    let Some(line) = &one.line else {
        if one.is_in_queue {
            return None;
        }
        let message = format!("it was not submitted: engine run --resume {}", facts.run_id());
        return Some(Reason::new(Code::NotQueued, message));
    };
    if let Some((file, hold)) = one.hold.as_ref().filter(|_| line.open_attempt().is_none()) {
        let because = hold.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let message = format!("it is held by {file}{because}: {}", release_from(one, file));
        return Some(Reason::new(Code::WaitingHold, message));
    }
    match one.runner {
        Runner::Gone => {
            let message = format!("its conductor's runner is gone: engine run --resume {}", facts.run_id());
            return Some(Reason::new(Code::RunnerGone, message));
        }
        Runner::Stopped => {
            let message = "its conductor's runner is stopped (SIGSTOP, or Ctrl-Z) and keeps no limit";
            return Some(Reason::new(Code::RunnerStopped, message));
        }
        Runner::Alive | Runner::Elsewhere | Runner::None => {}
    }
    let last = || line.attempts.last()?.reason.clone();
    match status {
        WorkstreamStatus::Pending | WorkstreamStatus::Blocked => None,
        WorkstreamStatus::Running | WorkstreamStatus::Parked => last(),
        WorkstreamStatus::Succeeded
        | WorkstreamStatus::Failed
        | WorkstreamStatus::Quarantined
        | WorkstreamStatus::Canceled => {
            line.result.as_ref().and_then(|result| result.reason.clone()).or_else(last)
        }
    }
}

/// What keeps it from starting, and the command that changes that.
fn behind(stuck: &Stuck, one: &WorkstreamFacts) -> String {
    let advice = stuck.advice(&one.id);
    match stuck {
        Stuck::Behind { on, .. } => format!("it needs `{on}`, which did not succeed: {advice}"),
        Stuck::Circle(_) => format!("the dependencies run in a circle: {advice}"),
    }
}

/// The command that takes the hold away that keeps it; none of one that no hold keeps.
#[must_use]
pub(super) fn release(one: &WorkstreamFacts) -> Option<String> {
    let (file, _) = one.hold.as_ref()?;
    let is_open = one.line.as_ref().is_some_and(|line| line.open_attempt().is_some());
    (!is_open).then(|| release_from(one, file))
}

fn release_from(one: &WorkstreamFacts, file: &str) -> String {
    match file.ends_with("/HOLD") {
        true => "engine release --all".to_owned(),
        false => format!("engine release {}", one.id),
    }
}

/// What a person should know of a job of a run.
#[must_use]
pub(super) fn warnings(one: &WorkstreamFacts) -> Vec<String> {
    let texts = |key: &str| {
        let told = one.told_value(key).and_then(Value::as_array).map(Vec::as_slice);
        told.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let not_run = texts("acceptance_not_run");
    let not_run = not_run.into_iter().map(|text| format!("not run, because it is no command: {text}"));
    texts("warnings").into_iter().chain(not_run).collect()
}
