//! Why a job does not run, runs, or has ended: from facts to findings.
//!
//! Pure. Hard rule: a job that waits has at least one finding, and each says what to do where there is something.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::job::{Attempt, Code, JobId, RecordLine, Status};
use crate::policy::dag;
use crate::queue::follow::NotMet;
use crate::queue::ranking::{Ahead, Because};
use crate::queue::ready::Blocker;
use crate::queue::rest::Moving;
use crate::queue::situation::Situation;
use crate::view::facts::{Edited, Facts, File, LockSeen, TakenTree};
use crate::view::outcome::{self, Stuck};
use crate::view::runner::Runner;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A fixed word, as `waiting_dependency`.
    pub code: Code,
    /// A sentence.
    pub message: String,
    /// What to do, if anything.
    pub hint: Option<String>,
    /// The other job that it is about.
    pub job_id: Option<JobId>,
    /// Until when.
    pub until: Option<Timestamp>,
}

impl Finding {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, job_id: None, until: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn about(self, id: &JobId) -> Self {
        Self { job_id: Some(id.clone()), ..self }
    }
}

/// Explains a job; the most important finding comes first.
#[must_use]
pub(crate) fn explain(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    if let Some(reason) = &facts.in_the_way {
        let hint =
            "remove it, or make it a regular file that only you can write; until then the job is left alone";
        found.push(Finding::new(Code::JobFileNotTrusted, reason.message.clone()).hint(hint));
    }
    match (facts.situation, &facts.line) {
        (Situation::Ended | Situation::EndNotMoved, Some(line)) => ended(facts, line, &mut found),
        (Situation::AttemptOpen, Some(line)) => match line.open_attempt() {
            Some(attempt) => running(facts, attempt, &mut found),
            None => found.push(needs_recovery("its record says that it runs, and tells of no attempt")),
        },
        _ => waiting(facts, &mut found),
    }
    found
}

/// Explains a job that `gc` has retired to an archive file.
#[must_use]
pub(crate) fn retired(line: &RecordLine, file: &str) -> Finding {
    let message = format!("{} at {}; gc retired it to {file}: its id is free", line.status, line.at);
    Finding::new(Code::Archived, message).hint(format!("engine show {}", line.job_id))
}

fn ended(facts: &Facts, line: &RecordLine, found: &mut Vec<Finding>) {
    let id = &facts.id;
    if facts.needs_recovery {
        found.push(needs_recovery("it has ended, and its file was not moved"));
    }
    let reason = line.result.as_ref().and_then(|result| result.reason.as_ref());
    let why = reason.map_or_else(String::new, |reason| format!(": {}", reason.message));
    let last = line.attempts.last().map_or_else(String::new, |last| format!(", attempt {}", last.attempt));
    let when = line.at;
    let again = outcome::again(line.job.parent.as_ref().unwrap_or(id));
    if let Some(successor) = line.escalated_to() {
        let finding =
            Finding::new(Code::Escalated, format!("it was handed on to `{successor}` at {when}{why}"));
        found.push(finding.hint(format!("engine explain {successor}")));
    } else if line.status == Status::Quarantined {
        let finding = Finding::new(Code::Quarantined, format!("quarantined at {when}{last}{why}"));
        found.push(match &facts.file {
            File::Refused(_) => {
                finding.hint(format!("edit jobs/quarantined/{id}.json until it is valid, then {again}"))
            }
            File::Missing => finding.hint("its job file is missing: submit it under a new id"),
            File::Job(..) => finding.hint(format!("engine log {id}; then {again}")),
        });
    } else {
        let finding = Finding::new(Code::Ended, format!("{} at {when}{last}{why}", line.status));
        let over = line.status == Status::Succeeded;
        found.push(if over { finding } else { finding.hint(again) });
    }
    match &facts.file {
        File::Missing => {
            let message = format!("its job file is not in jobs/{}: it cannot be queued again", line.place);
            found.push(Finding::new(Code::JobFileMissing, message));
        }
        File::Refused(reason) => {
            found.push(Finding::new(Code::InvalidJobFile, format!("its job file: {}", reason.message)));
        }
        File::Job(..) => {}
    }
}

fn running(facts: &Facts, attempt: &Attempt, found: &mut Vec<Finding>) {
    let id = &facts.id;
    let number = attempt.attempt;
    let what =
        format!("attempt {number} since {} on {} (pid {})", attempt.started_at, attempt.host, attempt.pid);
    found.push(match facts.runner {
        Runner::Gone => {
            Finding::new(Code::RunnerGone, format!("its runner is gone: {what}")).hint("engine recover")
        }
        Runner::Elsewhere => {
            let message = format!("it runs on another machine, or in another container: {what}");
            let hint = format!("if that machine is dead: engine recover --host-is-dead {}", attempt.host);
            Finding::new(Code::RunningElsewhere, message).hint(hint)
        }
        Runner::Stopped => {
            let message = format!("its runner is stopped (SIGSTOP, or Ctrl-Z) and keeps no limit: {what}");
            let hint = format!("kill -CONT {} (or `fg`); engine cancel {id} wakes it too", attempt.pid);
            Finding::new(Code::RunnerStopped, message).hint(hint)
        }
        Runner::Alive | Runner::None => {
            Finding::new(Code::Running, format!("it runs: {what}")).hint(format!("engine log {id} --follow"))
        }
    });
    if facts.cancel_asked {
        found.push(Finding::new(Code::CancelRequested, "its runner was asked to cancel it"));
    }
    if let Some((file, hold)) = &facts.hold {
        let message =
            format!("it is held by {file}{}: this attempt goes on", because(hold.reason.as_deref()));
        found.push(Finding::new(Code::Held, message));
    }
    if let File::Job(_, Edited::Yes) | File::Refused(_) = &facts.file {
        let message = "the job file was edited after the start; this attempt does not use the edit";
        found.push(Finding::new(Code::JobFileChanged, message));
    }
}

fn waiting(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.needs_recovery {
        found.push(needs_recovery("its file is in jobs/running and no attempt is open"));
    }
    if facts.situation == Situation::FileMissing && facts.in_the_way.is_none() {
        let message = "it waits for its next attempt, but its job file is missing";
        found.push(Finding::new(Code::JobFileMissing, message).hint("engine recover quarantines it"));
    }
    match &facts.file {
        File::Refused(reason) => {
            let hint = format!("edit jobs/queued/{}.json; as it is, the next claim quarantines it", facts.id);
            let code = if reason.code == Code::InvalidJobFile { Code::InvalidJobFile } else { Code::NotAJob };
            found.push(Finding::new(code, reason.message.clone()).hint(hint));
        }
        File::Job(_, edited) => {
            conditions(facts, found);
            if *edited == Edited::Yes {
                let message = "the job file was edited after submission; the edited version will run";
                found.push(Finding::new(Code::JobFileChanged, message));
            }
        }
        File::Missing => {}
    }
    let blocks =
        |code: &Code| !matches!(code, Code::JobFileChanged | Code::LockSlotsDisagree | Code::ClockWasFast);
    if !found.iter().any(|finding| blocks(&finding.code)) {
        found.push(next(facts));
    }
    // A job that waits for ever has no place.
    if facts.circle.is_none() {
        order(facts, found);
    }
}

/// Nothing keeps it from starting but the jobs ahead of it.
fn next(facts: &Facts) -> Finding {
    match (facts.position.ahead.first(), facts.position.ahead.len()) {
        (Some(Ahead { id: first, because }), count) => {
            let come = if count == 1 {
                "job of higher priority or older comes"
            } else {
                "jobs of higher priority or older come"
            };
            let why = match because {
                Because::Order => String::new(),
                Because::Age => ", of lower priority: each hour of waiting counts one priority".to_owned(),
                Because::Lent(lender) => format!(", for which `{lender}` waits"),
            };
            let message = format!("it is ready; {count} {come} first: `{first}`{why}");
            Finding::new(Code::Behind, message)
                .about(first)
                .hint("workers take jobs in this order: engine work")
        }
        (None, _) => {
            let message = "it is ready and starts next";
            let hint = format!("engine work, or for this one: engine run-job --claim {}", facts.id);
            Finding::new(Code::Ready, message).hint(hint)
        }
    }
}

/// Why it has its position, if its priority and age alone do not explain it.
fn order(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(lender) = &facts.position.lender {
        let message = format!("it takes the place of `{lender}` in the order, which waits for it");
        found.push(Finding::new(Code::PriorityLent, message).about(lender));
    }
    if let Some(passed) = &facts.position.passes {
        let message = format!(
            "it comes before `{passed}` of higher priority: each hour of waiting counts one priority"
        );
        found.push(Finding::new(Code::PriorityAged, message).about(passed));
    }
}

fn conditions(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some((why, hint)) = &facts.not_accepted {
        found.push(Finding::new(Code::RootNotAccepted, why.clone()).hint(hint));
    }
    let (on_others, own): (Vec<_>, Vec<_>) = facts
        .blockers
        .iter()
        .partition(|blocker| matches!(blocker, Blocker::Dependency(..) | Blocker::After(..)));
    found.extend(own.into_iter().map(|blocker| blocked(facts, blocker)));
    let line = facts.line.as_ref();
    let parked = line.and_then(|line| line.waits_until(facts.now));
    if let (Some(time), None) = (line.and_then(|line| line.not_before), parked) {
        let message = format!("its retry was set for {time} by a fast clock; it no longer waits");
        found.push(Finding::new(Code::ClockWasFast, message));
    }
    if let Some(circle) = &facts.circle {
        let message = format!("the dependencies run in a circle: {}", dag::shown(circle));
        let hint = "edit one of the job files in jobs/queued, or cancel one of the jobs";
        found.push(Finding::new(Code::DependencyCircle, message).hint(hint));
    }
    let (after, depends): (Vec<_>, Vec<_>) =
        on_others.into_iter().partition(|blocker| matches!(blocker, Blocker::After(..)));
    let shown = depends.into_iter().chain(after.iter().copied().take(MOST_AFTER));
    found.extend(shown.map(|blocker| blocked(facts, blocker)));
    if after.len() > MOST_AFTER {
        let more = after.len() - MOST_AFTER;
        let message = format!("it comes after {more} more that can still move");
        found.push(Finding::new(Code::WaitingAfter, message));
    }
    for lock in &facts.locks {
        locks(lock, found);
    }
    if let Some(TakenTree { top, by }) = &facts.tree {
        let by = by.as_ref();
        let message = format!("the worktree `{}` is held by {}", top.display(), agent(by));
        let finding = Finding { job_id: by.cloned(), ..Finding::new(Code::WaitingLock, message) };
        found.push(match by {
            Some(by) => finding.hint(format!("engine explain {by}")),
            None => finding,
        });
    }
    if let Some(problem) = &facts.low_space {
        found.push(Finding::new(Code::LowSpace, problem.clone()).hint("free some space"));
    }
}

fn blocked(facts: &Facts, blocker: &Blocker) -> Finding {
    match blocker {
        Blocker::Hold(file, hold) => {
            let since = hold.at.map_or_else(String::new, |at| format!(" since {at}"));
            let message = format!("held by {file}{since}{}", because(hold.reason.as_deref()));
            let what = if file.ends_with("/HOLD") { "--all" } else { facts.id.as_str() };
            Finding::new(Code::WaitingHold, message).hint(format!("engine release {what}"))
        }
        Blocker::Time(time) => {
            let line = facts.line.as_ref().filter(|line| line.waits_until(facts.now) == Some(*time));
            let after = line.and_then(|line| line.attempts.last()).map_or_else(String::new, |last| {
                let why = last.reason.as_ref().map_or("", |reason| reason.message.as_str());
                format!(": attempt {} did not succeed ({why})", last.attempt)
            });
            let finding = Finding::new(Code::WaitingTime, format!("it does not start before {time}{after}"));
            Finding { until: Some(*time), ..finding }
        }
        Blocker::Dependency(id, why) => dependency(id, why),
        Blocker::After(id, moving) => after(id, moving),
        Blocker::Parent(parent) => {
            let message = format!("it is a part of `{parent}`, whose tool starts it");
            Finding::new(Code::WaitingParent, message).about(parent).hint(format!("engine explain {parent}"))
        }
    }
}

fn dependency(id: &JobId, why: &NotMet) -> Finding {
    let (decides, hint) = match why {
        NotMet::Unknown => (id, format!("submit `{id}`")),
        NotMet::TooLong => (id, format!("engine explain {id}")),
        NotMet::Unreadable(decides, why) => {
            let message = format!("it depends on `{id}`, whose state is unknown: {why}");
            return Finding::new(Code::WaitingDependency, message).about(decides).hint("engine doctor");
        }
        NotMet::Is(decides, Status::Queued | Status::Running | Status::Succeeded) => {
            (decides, format!("engine explain {decides}"))
        }
        NotMet::Is(decides, _) => {
            (decides, Stuck::Behind { on: decides.clone(), is_retired: false }.advice(id))
        }
        NotMet::Was(decides, _) => {
            (decides, Stuck::Behind { on: decides.clone(), is_retired: true }.advice(id))
        }
    };
    let by = if decides == id { String::new() } else { format!(" (handed on to `{decides}`)") };
    Finding::new(Code::WaitingDependency, format!("it depends on `{id}`{by}, which {why}"))
        .about(decides)
        .hint(hint)
}

/// So many of the jobs that a job comes after are explained one by one.
const MOST_AFTER: usize = 10;

fn after(id: &JobId, Moving { why, first, .. }: &Moving) -> Finding {
    let behind = if first == id { String::new() } else { format!("; `{first}` comes first") };
    let message = format!("it comes after `{id}`, which {why}{behind}");
    let hint = match why {
        NotMet::Unknown => format!("submit `{id}`"),
        NotMet::Unreadable(..) => "engine doctor".to_owned(),
        NotMet::TooLong | NotMet::Is(..) | NotMet::Was(..) => format!("engine explain {first}"),
    };
    Finding::new(Code::WaitingAfter, message).about(first).hint(hint)
}

/// The agent that works in a tree.
pub(super) fn agent(by: Option<&JobId>) -> String {
    by.map_or_else(|| "another agent".to_owned(), |by| format!("the agent of `{by}`"))
}

fn locks(lock: &LockSeen, found: &mut Vec<Finding>) {
    let name = &lock.name;
    // Two jobs that disagree: the largest counts.
    let slots = lock.disagree.iter().map(|(_, slots)| *slots).chain([lock.slots]).max().unwrap_or(lock.slots);
    let own_slots = usize::try_from(lock.slots).unwrap_or(usize::MAX);
    if lock.unusable.is_some() {
        let hint = "remove the file; the engine creates it again";
        found.push(Finding::new(Code::WaitingLock, lock.what()).hint(hint));
    }
    if lock.holders.len() >= own_slots
        && let Some((holder, since)) = lock.holders.first()
    {
        let others = match lock.holders.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("{} by `{holder}` since {since}{others}", lock.what());
        found.push(
            Finding::new(Code::WaitingLock, message).about(holder).hint(format!("engine explain {holder}")),
        );
    }
    if let Some(holder) = lock.unreadable.first()
        && lock.holders.len() < own_slots
        && lock.holders.len() + lock.unreadable.len() >= own_slots
    {
        let message = format!(
            "`{holder}`, whose record cannot be read, took the lock `{name}`; the next claim of this job first ends the processes of `{holder}`"
        );
        let finding = Finding::new(Code::WaitingLock, message).about(holder);
        found.push(finding.hint("engine work; check the record with: engine doctor"));
    }
    if let Some((other, theirs)) = lock.disagree.first() {
        let message = format!(
            "this job gives the lock `{name}` {} slots, `{other}` gives it {theirs}: {slots} may run at once",
            lock.slots
        );
        let hint = format!("write the same number after `{name}:` in all jobs");
        found.push(Finding::new(Code::LockSlotsDisagree, message).about(other).hint(hint));
    }
}

fn needs_recovery(message: &str) -> Finding {
    Finding::new(Code::NeedsRecovery, message).hint("engine recover")
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}
