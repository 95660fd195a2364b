//! The next step of a workstream, or its verdict, with the reason.
//!
//! The order of the questions is that of the points of the conductor's page: the setup of the worktree, what was interrupted,
//! the edit, the first check that has not passed on the present tree, its fix, success.

use std::time::Duration;

use super::breaker::{self, Trip};
use super::decision::{Again, End, How, NewStep, Next, Verdict};
use super::limits::{Fixes, OnTrip, Phase};
use super::recovery::{self, Try};
use super::{Check, Delay, Interruption, Plan, Present, Situation, Step, StepKind, StepState, Tool, Why};
use crate::job::{Code, Outcome, Reason};

/// How often in a row a check or a setup may be interrupted.
const MOST_INTERRUPTIONS: u32 = 10;

/// The wait before what was interrupted repeatedly is tried again.
const INTERRUPTION_WAIT: Duration = Duration::from_mins(1);

/// The next step, or the verdict. The steps are in the order of their numbers.
pub(crate) fn next(plan: &Plan, steps: &[Step], present: &Present) -> Next {
    let situation = Situation { plan, steps, present };
    refusal(situation)
        .or_else(|| setup(situation))
        .or_else(|| unfinished(situation))
        .or_else(|| unjudged(situation))
        .or_else(|| edit(situation))
        .or_else(|| breaker::after_a_fix(situation).map(|trip| tripped(situation, trip)))
        .or_else(|| checks(situation))
        .unwrap_or_else(|| success(situation))
}

/// How many fixes of each part were used in the present life.
pub(crate) fn used_fixes(plan: &Plan, steps: &[Step], present: &Present) -> Fixes {
    let situation = Situation { plan, steps, present };
    Fixes { of_static: situation.used_fixes(Phase::Static), of_runtime: situation.used_fixes(Phase::Runtime) }
}

/// The runs of checks that passed on a tree on which they had failed in the same life.
pub(crate) fn flaky(plan: &Plan, steps: &[Step]) -> Vec<u32> {
    let is_flaky = |at: usize, step: &Step| {
        let check = plan.checks.iter().find(|check| step.is_run_of(check))?;
        let before = steps.get(..at)?.iter();
        let mut same = before.filter(|other| other.tree == step.tree && other.life == step.life);
        (step.has_outcome(Outcome::Succeeded) && same.any(|other| other.is_failure_of(check)))
            .then_some(step.n)
    };
    steps.iter().enumerate().filter_map(|(at, step)| is_flaky(at, step)).collect()
}

fn end(verdict: Verdict, reason: Reason, evidence: Vec<u32>) -> Next {
    Next::End(End { verdict, reason: Some(reason), is_trip: false, evidence })
}

fn failed(code: Code, message: String, step: &Step) -> Next {
    end(Verdict::Failed, Reason::new(code, message), vec![step.n])
}

fn tripped(situation: Situation<'_>, trip: Trip) -> Next {
    let verdict = match situation.plan.limits.on_trip {
        OnTrip::Fail => Verdict::Failed,
        OnTrip::Quarantine => Verdict::Quarantined,
    };
    Next::End(End { verdict, reason: Some(trip.reason), is_trip: true, evidence: trip.evidence })
}

/// The word of a person or of the judge, or a budget that is used up, ends the life at once.
fn refusal(situation: Situation<'_>) -> Option<Next> {
    let last = situation.of_this_life().last()?;
    if let Some(violation) = last.violation() {
        return Some(end(Verdict::Quarantined, violation.clone(), vec![last.n]));
    }
    match last.code()? {
        Code::CanceledByUser if last.has_outcome(Outcome::Canceled) => {
            let message = format!("step {} was canceled by a person", last.n);
            Some(failed(Code::StepCanceled, message, last))
        }
        Code::BudgetExceeded if last.kind.is_agent() => {
            Some(end(Verdict::Failed, recovery::own_reason(last), vec![last.n]))
        }
        _ => None,
    }
}

fn setup(situation: Situation<'_>) -> Option<Next> {
    let Situation { plan, steps, present } = situation;
    if !plan.has_setup || present.has_setup_mark {
        return None;
    }
    let setups = || steps.iter().filter(|step| step.kind == StepKind::Setup);
    if let Some(step) = setups().find(|step| must_run_again(situation, step)) {
        return Some(repeat(situation, step));
    }
    match setups()
        .next_back()
        .filter(|step| step.life == present.life && !step.has_outcome(Outcome::Succeeded))
    {
        Some(step) => {
            let message = format!("the worktree could not be prepared: see the log of step {}", step.n);
            Some(failed(Code::SetupFailed, message, step))
        }
        None => Some(run(situation, StepKind::Setup, None, Why::Setup)),
    }
}

fn unfinished(situation: Situation<'_>) -> Option<Next> {
    let step = situation.steps.iter().find(|step| must_run_again(situation, step))?;
    Some(repeat(situation, step))
}

/// True for a step that comes before any new one: it came to no result, or a person canceled it in a former life. One whose
/// check a person has changed since is left as it is.
fn must_run_again(situation: Situation<'_>, step: &Step) -> bool {
    let is_planned =
        step.check_digest.is_none() || situation.plan.checks.iter().any(|check| step.is_of(check));
    let is_due = match step.ended() {
        Some(ended) => ended.outcome == Outcome::Canceled && step.life != situation.present.life,
        None => !recovery::is_given_up(step),
    };
    // The person's work goes on, not the agent's.
    let is_taken_over = situation.present.taken_over == Some(step.n);
    is_planned && is_due && !is_taken_over
}

fn repeat(situation: Situation<'_>, step: &Step) -> Next {
    if let StepState::Parked(until) = step.state {
        return again(situation, step, How::WhereItWaits { until }, None);
    }
    if let Some(end) = interrupted_too_often(situation, step) {
        return end;
    }
    if step.kind.is_agent() && budget_is_used_up(situation) {
        return over_budget(situation);
    }
    again(situation, step, How::FromCheckpoint, wait_before(step))
}

fn again(situation: Situation<'_>, step: &Step, how: How, delay: Option<Delay>) -> Next {
    Next::Again(Again {
        n: step.n,
        how,
        is_reduced: recovery::is_reduced(situation, step),
        max_cost_usd: situation.present.rest_usd().filter(|_| step.kind.is_agent()),
        delay,
    })
}

/// The first repetition comes at once, unless the system lacked something; further ones wait.
fn wait_before(step: &Step) -> Option<Delay> {
    let (since, least) = match step.state {
        StepState::Interrupted(Interruption::Shortage, ref ended) => (ended.at, 1),
        StepState::Interrupted(Interruption::Killed | Interruption::Lost, ref ended) => (ended.at, 2),
        _ => return None,
    };
    (step.kills >= least).then_some(Delay { since, wait: INTERRUPTION_WAIT })
}

fn interrupted_too_often(situation: Situation<'_>, step: &Step) -> Option<Next> {
    let crashed = matches!(
        step.state,
        StepState::Open | StepState::Interrupted(Interruption::Lost | Interruption::Killed, _)
    );
    if step.kind.is_agent() {
        let message = format!("step {} was interrupted, and `on_crash` is `quarantine`", step.n);
        // A person who resumes has seen it.
        let is_new = step.life == situation.present.life;
        return (crashed && is_new && situation.plan.quarantine_on_crash)
            .then(|| end(Verdict::Quarantined, Reason::new(Code::Crash, message), vec![step.n]));
    }
    let is_over = step.kills >= MOST_INTERRUPTIONS;
    let message = recovery::own_reason(step).message;
    let code = if step.kind == StepKind::Setup { Code::SetupFailed } else { Code::CheckKilled };
    is_over.then(|| failed(code, message, step))
}

/// The last step of an agent, if it ended well, in whichever life, and the judge has not said anything of it.
fn unjudged(situation: Situation<'_>) -> Option<Next> {
    let last = situation.steps.iter().rev().find(|step| step.kind.is_agent())?;
    let is_judged = last.taken.is_some() || last.tree_after.is_some() || last.refused.is_some();
    (last.has_outcome(Outcome::Succeeded) && !is_judged).then_some(Next::Judge(last.n))
}

fn edit(situation: Situation<'_>) -> Option<Next> {
    if is_edited(situation) {
        return None;
    }
    let tries = recovery::failed_tries(situation, None);
    if let Some(last) = tries.last() {
        return Some(recover(situation, None, &tries, last));
    }
    Some(hand_to_agent(situation, None, &Try::first(&situation.plan.tool, Why::Task)))
}

/// True if there is nothing to edit, or the edit was taken, or changed nothing and that is allowed, or a person stood in for
/// one that was refused, or took over what one had left that came to no end of its own.
fn is_edited(situation: Situation<'_>) -> bool {
    let Situation { plan, steps, present } = situation;
    let is_done = |step: &Step| {
        // The evidence of an agent says of itself that it broke the scope: then the step has not succeeded.
        let was_refused =
            step.has_outcome(Outcome::Succeeded) && step.refused.is_some() || step.violation().is_some();
        let is_replaced = was_refused && present.hand.is_some_and(|hand| step.n <= hand)
            || present.taken_over == Some(step.n);
        step.taken.is_some() || plan.no_change_allowed && step.changed_nothing() || is_replaced
    };
    !plan.has_tasks
        || present.is_changed
        || steps.iter().any(|step| step.kind == StepKind::Edit && is_done(step))
}

fn checks(situation: Situation<'_>) -> Option<Next> {
    let is_proved = |check: &Check| {
        situation
            .last_run(check)
            .is_some_and(|step| step.has_outcome(Outcome::Succeeded) && step.refused.is_none())
    };
    let (at, check) = situation.plan.checks.iter().enumerate().find(|(_, check)| !is_proved(check))?;
    if let Some(failed) = situation.failed_here(check) {
        return Some(mend(situation, at, check, failed));
    }
    let last = situation.last_run(check).filter(|step| step.life == situation.present.life);
    match last.filter(|step| !step.has_outcome(Outcome::Succeeded)) {
        Some(step) => Some(not_started(check, step)),
        None => Some(run(situation, check.kind.into(), Some(at), Why::NotProved)),
    }
}

/// A check that was not started says nothing of the work: an agent is not asked to mend a machine.
fn not_started(check: &Check, step: &Step) -> Next {
    let own = recovery::own_reason(step).message;
    failed(Code::ToolMissing, format!("`{}` was not started: {own}", check.name), step)
}

fn mend(situation: Situation<'_>, at: usize, check: &Check, failed: &Step) -> Next {
    let tries = recovery::failed_tries(situation, Some(check));
    let last = tries.last();
    if last.is_some_and(|fix| fix.changed_nothing() && fix.n > failed.n) {
        return run(situation, check.kind.into(), Some(at), Why::NothingChanged);
    }
    let tool = last.map_or_else(|| tool_of_the_edit(situation), |fix| tool_named(situation, fix));
    if let Some(trip) = breaker::before_a_fix(situation, check, failed, tool) {
        return tripped(situation, trip);
    }
    match last {
        Some(last) => recover(situation, Some(at), &tries, last),
        None => hand_to_agent(situation, Some(at), &Try::first(tool, Why::Mend)),
    }
}

fn tool_named<'a>(situation: Situation<'a>, step: &Step) -> &'a Tool {
    situation.plan.tools().find(|tool| tool.id == step.tool).unwrap_or(&situation.plan.tool)
}

/// The tool of the last step that was taken: after a fallback the first one need not fail again.
fn tool_of_the_edit(situation: Situation<'_>) -> &Tool {
    let last = situation.steps.iter().rev().find(|step| step.kind.is_agent() && step.taken.is_some());
    last.map_or(&situation.plan.tool, |step| tool_named(situation, step))
}

fn recover(situation: Situation<'_>, check: Option<usize>, tries: &[&Step], last: &Step) -> Next {
    match recovery::next_try(situation, tries, last) {
        Some(another) => hand_to_agent(situation, check, &another),
        None => {
            let evidence = tries.iter().map(|step| step.n).collect();
            let mut reason = recovery::own_reason(last);
            if let Some(check) = check.and_then(|at| situation.plan.checks.get(at))
                && reason.code == Code::NoChange
            {
                let n = last.n;
                reason.message = format!("fix {n} changed nothing, and `{}` still fails", check.name);
            }
            end(Verdict::Failed, reason, evidence)
        }
    }
}

fn budget_is_used_up(situation: Situation<'_>) -> bool {
    situation.present.rest_usd().is_some_and(|rest| rest <= 0.0)
}

fn over_budget(situation: Situation<'_>) -> Next {
    let of_run = situation.present.run_rest_usd.is_some_and(|rest| rest <= 0.0);
    let whose = if of_run { "run" } else { "bundle" };
    let message = format!("the budget of the {whose} is used up: raise `max_cost_usd` and resume");
    let agents = situation.of_this_life().filter(|step| step.kind.is_agent());
    end(Verdict::Failed, Reason::new(Code::BudgetExceeded, message), agents.map(|step| step.n).collect())
}

fn hand_to_agent(situation: Situation<'_>, check: Option<usize>, what: &Try<'_>) -> Next {
    if budget_is_used_up(situation) {
        return over_budget(situation);
    }
    if let Some(trip) = breaker::before_an_agent(situation) {
        return tripped(situation, trip);
    }
    let kind = if check.is_some() { StepKind::Fix } else { StepKind::Edit };
    let step = new_step(situation, kind, check, what.why);
    Next::Run(NewStep {
        iteration: step.iteration + u32::from(check.is_some()),
        tool: Some(what.tool.clone()),
        is_reduced: what.is_reduced,
        max_cost_usd: situation.present.rest_usd(),
        delay: what.delay,
        ..step
    })
}

fn run(situation: Situation<'_>, kind: StepKind, check: Option<usize>, why: Why) -> Next {
    Next::Run(new_step(situation, kind, check, why))
}

fn new_step(situation: Situation<'_>, kind: StepKind, check: Option<usize>, why: Why) -> NewStep {
    let last = situation.steps.last().map_or(0, |step| step.n).max(situation.present.last_n);
    let phase = check.and_then(|at| situation.plan.checks.get(at)).map(|check| check.kind.phase());
    NewStep {
        n: last.saturating_add(1),
        kind,
        check,
        tool: None,
        why,
        iteration: phase.map_or(0, |phase| situation.used_fixes(phase)),
        is_reduced: false,
        max_cost_usd: None,
        delay: None,
    }
}

/// Every check passed on the tree that is handed over; the runs that prove it are the evidence.
fn success(situation: Situation<'_>) -> Next {
    let proofs = situation.plan.checks.iter().filter_map(|check| situation.last_run(check));
    let evidence = proofs.map(|step| step.n).collect();
    Next::End(End { verdict: Verdict::Succeeded, reason: None, is_trip: false, evidence })
}
