//! The breakers: what proves that another fix would not help, or is not allowed.
//!
//! Each looks at one life of the workstream, and gives the steps that it saw as evidence.

use std::collections::BTreeSet;

use super::limits::Phase;
use super::{Check, Situation, Step, StepKind, Tool};
use crate::job::{Code, Reason};

/// A breaker that has tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trip {
    /// Which one, and what it saw.
    pub(super) reason: Reason,
    /// The numbers of the steps that it saw.
    pub(super) evidence: Vec<u32>,
}

impl Trip {
    fn new<'a>(code: Code, message: String, seen: impl IntoIterator<Item = &'a Step>) -> Self {
        let evidence = seen.into_iter().map(|step| step.n).collect();
        Self { reason: Reason::new(code, message), evidence }
    }
}

/// Trips if the last fix led back to a tree on which a check had failed before. No check has to run again to know that.
pub(super) fn after_a_fix(situation: Situation<'_>) -> Option<Trip> {
    let taken = |step: &&Step| step.kind == StepKind::Fix && step.taken.is_some();
    let fix = situation.of_this_life().rev().find(taken)?;
    let before = |check: &Check| situation.failed_here(check).filter(|failed| failed.n < fix.n);
    let (check, failed) =
        situation.plan.checks.iter().find_map(|check| before(check).map(|step| (check, step)))?;
    let message = format!(
        "fix {} restored the files of step {}, for which `{}` had failed: mend the worktree and resume",
        fix.n, failed.n, check.name
    );
    Some(Trip::new(Code::Oscillation, message, [failed, fix]))
}

/// Trips if the check that has just failed must not be mended by this tool, or cannot be mended by more of the same.
pub(super) fn before_a_fix(
    situation: Situation<'_>,
    check: &Check,
    failed: &Step,
    tool: &Tool,
) -> Option<Trip> {
    disabled(situation, check, failed, tool)
        .or_else(|| oscillation(situation, check))
        .or_else(|| no_progress(situation, check))
        .or_else(|| used_up(situation, check, failed))
}

/// Trips if this life has had as many steps of agents as it may have.
pub(super) fn before_an_agent(situation: Situation<'_>) -> Option<Trip> {
    let limit = situation.plan.limits.agent_attempts?;
    let made: Vec<&Step> = situation.of_this_life().filter(|step| step.kind.is_agent()).collect();
    let message = format!("{} steps of agents are all that `agent_attempts` = {limit} allows", made.len());
    (made.len() >= limit as usize).then(|| Trip::new(Code::AttemptLimit, message, made))
}

fn disabled(situation: Situation<'_>, check: &Check, failed: &Step, tool: &Tool) -> Option<Trip> {
    let phase = check.kind.phase();
    let why = if !situation.plan.limits.fix_for.contains(&phase) {
        format!("`fix_for` does not contain `{}`", phase.as_str())
    } else if !tool.takes_prompt {
        format!("`{}` takes no prompt", tool.id)
    } else {
        return None;
    };
    let message = match situation.plan.has_tasks {
        true => format!("`{}` failed and is not mended: {why}", check.name),
        // No tool was asked for anything.
        false => format!("`{}` failed", check.name),
    };
    Some(Trip::new(Code::FixDisabled, message, [failed]))
}

/// The failures of a check in the present life, oldest first.
fn failures<'a>(situation: Situation<'a>, check: &Check) -> Vec<&'a Step> {
    situation.of_this_life().filter(|step| step.is_failure_of(check)).collect()
}

/// True if two failures are the same, as far as their signatures are known.
fn are_same(one: &Step, other: &Step) -> bool {
    one.signature.is_some() && one.signature == other.signature
}

/// A failure that comes back after another one: it occurs `repeats` times among the last `window`, each time anew.
fn oscillation(situation: Situation<'_>, check: &Check) -> Option<Trip> {
    let limits = &situation.plan.limits;
    let all = failures(situation, check);
    let in_window = all.get(all.len().saturating_sub(limits.window as usize)..).unwrap_or_default();
    let mut changes: Vec<&Step> = in_window.to_vec();
    changes.dedup_by(|later, earlier| are_same(later, earlier));
    let last = *changes.last()?;
    let returns = changes.iter().filter(|step| step.n == last.n || are_same(step, last)).count();
    let message = format!(
        "the same failure of `{}` came back {} times after another one: mend the worktree and resume",
        check.name,
        returns.saturating_sub(1)
    );
    (returns >= limits.repeats.max(2) as usize).then(|| Trip::new(Code::Oscillation, message, changes))
}

/// The same failure in a row, on trees that differ.
fn no_progress(situation: Situation<'_>, check: &Check) -> Option<Trip> {
    let runs: Vec<&Step> =
        situation.of_this_life().filter(|step| step.is_run_of(check) && step.ended().is_some()).collect();
    let last = *runs.last()?;
    let is_same = |step: &&&Step| step.is_failure_of(check) && are_same(step, last);
    let row: Vec<&Step> = runs.iter().rev().take_while(is_same).copied().collect();
    let trees: BTreeSet<&str> = row.iter().map(|step| &*step.tree).collect();
    let message = format!(
        "`{}` failed in the same way on {} states of the files in a row: mend the worktree and resume",
        check.name,
        trees.len()
    );
    let is_stuck = trees.len() >= situation.plan.limits.same_failure.max(2) as usize;
    is_stuck.then(|| Trip::new(Code::NoProgress, message, row.into_iter().rev()))
}

fn used_up(situation: Situation<'_>, check: &Check, failed: &Step) -> Option<Trip> {
    let phase: Phase = check.kind.phase();
    let (used, limit) = (situation.used_fixes(phase), situation.plan.limits.fixes.of(phase));
    let message = format!(
        "`{}` failed, and {used} of {limit} fixes of `{}` checks were used: mend the worktree and resume",
        check.name,
        phase.as_str()
    );
    let fixes = situation.of_this_life().filter(|step| step.is_used_fix());
    (used >= limit).then(|| Trip::new(Code::FixLimit, message, fixes.chain([failed])))
}
