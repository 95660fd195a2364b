//! What follows a step of an agent that came to no good end: another try, fewer files, another tool, or a person.
//!
//! A quota or a busy service is no matter of this file as long as the job waits for it: the base parks it.

use std::time::Duration;

use super::{Check, Delay, Interruption, Situation, Step, StepKind, StepState, Tool, Why};
use crate::job::{Code, Outcome, Reason};

/// How often in a row an agent's step may be interrupted before that counts as its failure: each time is paid for.
const MOST_INTERRUPTIONS: u32 = 3;

/// How often in a row the system may lack something: that costs nothing.
const MOST_SHORTAGES: u32 = 10;

/// The longest wait before the same tool tries again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// The consequence of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// The same tool tries again, as often as it may.
    SameTool,
    /// The same tool tries once more, with fewer files.
    FewerFiles,
    /// The same tool would fail again.
    OtherTool,
}

/// Another try of what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Try<'a> {
    pub(super) tool: &'a Tool,
    pub(super) why: Why,
    /// True if its context has fewer files.
    pub(super) is_reduced: bool,
    pub(super) delay: Option<Delay>,
}

impl<'a> Try<'a> {
    /// The first one, with the whole context and at once.
    pub(super) fn first(tool: &'a Tool, why: Why) -> Self {
        Self { tool, why, is_reduced: false, delay: None }
    }
}

/// True if an agent's step was interrupted so often that it counts as failed.
pub(super) fn is_given_up(step: &Step) -> bool {
    let most = match step.state {
        StepState::Interrupted(Interruption::Shortage, _) => MOST_SHORTAGES,
        StepState::Interrupted(..) | StepState::Open => MOST_INTERRUPTIONS,
        StepState::Queued | StepState::Parked(_) | StepState::Ended(_) => return false,
    };
    step.kind.is_agent() && step.kills >= most
}

/// The failed tries of one thing in this life, on the present tree: the edit, or the fix of a check.
pub(super) fn failed_tries<'a>(situation: Situation<'a>, check: Option<&Check>) -> Vec<&'a Step> {
    let kind = if check.is_some() { StepKind::Fix } else { StepKind::Edit };
    let is_it = |step: &&Step| step.kind == kind && check.is_none_or(|check| step.is_of(check));
    let failed = |step: &&Step| step.taken.is_none() && (step.ended().is_some() || is_given_up(step));
    situation
        .of_this_life()
        .filter(|step| step.tree == situation.present.tree)
        .filter(is_it)
        .filter(failed)
        .collect()
}

/// The next try after these; none if only a person can go on.
pub(super) fn next_try<'a>(situation: Situation<'a>, tries: &[&Step], last: &Step) -> Option<Try<'a>> {
    let of_its_tool: Vec<&Step> = tries.iter().filter(|step| step.tool == last.tool).copied().collect();
    let same = situation.plan.tools().find(|tool| tool.id == last.tool);
    let is_reduced = of_its_tool.iter().any(|step| step.why == Why::ReducedContext);
    let again = match remedy(last) {
        Remedy::FewerFiles if situation.plan.recovery.reduce_context && !is_reduced => {
            same.map(|tool| Try { tool, why: Why::ReducedContext, is_reduced: true, delay: None })
        }
        Remedy::SameTool => {
            let delay = delay_of_a_retry(situation, &of_its_tool, last);
            same.zip(delay).map(|(tool, delay)| Try { tool, why: Why::Retry, is_reduced, delay })
        }
        Remedy::FewerFiles | Remedy::OtherTool => None,
    };
    again.or_else(|| other_tool(situation, tries))
}

/// True if its context had fewer files: it, or a try of the same tool before it, was made for that.
pub(super) fn is_reduced(situation: Situation<'_>, step: &Step) -> bool {
    let is_try = |other: &&Step| {
        other.n <= step.n
            && other.life == step.life
            && other.kind == step.kind
            && other.check_digest == step.check_digest
            && other.tree == step.tree
            && other.tool == step.tool
    };
    situation.steps.iter().filter(is_try).any(|other| other.why == Why::ReducedContext)
}

fn remedy(step: &Step) -> Remedy {
    if step.has_outcome(Outcome::NotStarted) || step.has_outcome(Outcome::Invalid) || is_given_up(step) {
        return Remedy::OtherTool;
    }
    match step.code() {
        Some(Code::ContextOverflow) => Remedy::FewerFiles,
        // The base has waited for the last three of these as often as it may.
        Some(Code::Auth | Code::Billing | Code::Quota | Code::RateLimited | Code::Overloaded) => {
            Remedy::OtherTool
        }
        _ => Remedy::SameTool,
    }
}

/// The wait before the same tool tries again; none if it has tried as often as it may.
fn delay_of_a_retry(situation: Situation<'_>, of_its_tool: &[&Step], last: &Step) -> Option<Option<Delay>> {
    let failures = of_its_tool.iter().filter(|step| remedy(step) == Remedy::SameTool).count();
    let failures = u32::try_from(failures).unwrap_or(u32::MAX);
    let recovery = &situation.plan.recovery;
    let base = Duration::from_secs(recovery.backoff_seconds.into());
    let wait = base.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_BACKOFF);
    let since = last.ended()?.at;
    (failures <= recovery.retries).then(|| Some(Delay { since, wait }).filter(|_| !wait.is_zero()))
}

/// The next tool of the list that was not tried for this, and did not show in this life that it cannot be used at all.
fn other_tool<'a>(situation: Situation<'a>, tries: &[&Step]) -> Option<Try<'a>> {
    let is_fix = tries.iter().any(|step| step.kind == StepKind::Fix);
    let is_useless = |step: &Step| {
        step.has_outcome(Outcome::NotStarted) || matches!(step.code(), Some(Code::Auth | Code::Billing))
    };
    let was_tried = |tool: &Tool| {
        tries.iter().any(|step| step.tool == tool.id)
            || situation.of_this_life().any(|step| step.tool == tool.id && is_useless(step))
    };
    let mut left = situation.plan.tools().filter(|tool| !was_tried(tool));
    left.find(|tool| tool.takes_prompt || !is_fix).map(|tool| Try::first(tool, Why::Fallback))
}

/// Why a step came to no good end, in its own words as far as there are any.
pub(super) fn own_reason(step: &Step) -> Reason {
    let own = match &step.state {
        StepState::Interrupted(_, ended) => {
            let last =
                ended.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.message));
            let code = ended.reason.as_ref().map_or(Code::Killed, |reason| reason.code.clone());
            let (n, times) = (step.n, step.kills);
            return Reason::new(code, format!("step {n} was interrupted {times} times in a row{last}"));
        }
        StepState::Ended(ended) => ended.reason.as_ref().filter(|reason| reason.code != Code::Ok),
        StepState::Queued | StepState::Open | StepState::Parked(_) => None,
    };
    step.refused.as_ref().or(own).cloned().unwrap_or_else(|| {
        let (code, what) = if step.changed_nothing() {
            (Code::NoChange, "changed nothing")
        } else {
            (Code::Crash, "did not come to an end")
        };
        Reason::new(code, format!("step {} {what}", step.n))
    })
}
