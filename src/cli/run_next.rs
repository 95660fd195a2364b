//! What a person does next about a workstream: the hints of `runs show`, and of the end of `engine run`.

use std::collections::BTreeSet;

use crate::job::{Code, Outcome, Reason, RunId, StepKind};
use crate::view::run::document::{RunDocument, StepDocument, WorkstreamDocument};
use crate::view::run::integration::IntegrationDocument;
use crate::view::run::status::{RunStatus, WorkstreamStatus};

/// Whether a branch of the user has all that a run has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    /// It has: there is nothing to do.
    Yes,
    /// No, or that is not known.
    No,
}

/// The hints for a run, in the order in which they are followed; each once.
pub(super) fn next_of_run(run: &RunDocument, merged: Merged) -> Vec<String> {
    let id = &run.run_id;
    if merged == Merged::Yes {
        return Vec::new();
    }
    // Nothing else is possible before.
    let has_word = run.quarantine.as_ref().is_some_and(|word| word.acknowledged_at.is_none());
    if has_word && run.status == RunStatus::Quarantined {
        return vec![format!("engine runs quarantine {id} --ack takes it back")];
    }
    if let Some(integration) = run.integration.as_ref().filter(|_| run.status == RunStatus::Succeeded) {
        return match &integration.commit {
            Some(_) => vec![format!("engine runs merge {id}")],
            // Of `--no-integrate`.
            None => run.workstreams.iter().filter_map(merge_by_hand).collect(),
        };
    }
    let is_of_one = run.workstreams.len() == 1;
    // Of a run that did not succeed the branches of single workstreams are no result.
    let open = run.workstreams.iter().filter(|one| is_of_one || one.status != WorkstreamStatus::Succeeded);
    let failed_gates = run.gates.iter().filter(|one| !one.status.can_move());
    let unproved = run.integration.iter().filter(|one| is_unproved(one));
    let logs = failed_gates.filter_map(|one| one.failed_step.as_ref());
    let logs = logs.chain(unproved.filter_map(|one| one.failed_step.as_ref()));
    let releases = releases(run);
    let mut hints: Vec<String> = logs.map(|step| format!("engine log {step}; mend what it names")).collect();
    for hint in open.flat_map(|one| next(id, run.status, one)) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    if !releases.is_empty() {
        // A worker that runs before finds nothing to do.
        hints.retain(|hint| *hint != work(id));
        hints.extend(releases.into_iter().chain([work(id)]));
    }
    // One resume goes on with all of them, so it comes last.
    let resume = resume(id);
    let failed = run.integration.as_ref().filter(|one| one.status == WorkstreamStatus::Failed);
    let parts = run.gates.iter().map(|one| &one.reason).chain(run.integration.iter().map(|one| &one.reason));
    let is_missing = |reason: &Option<Reason>| reason.as_ref().is_some_and(|one| one.code == Code::NotQueued);
    let is_resumed = failed.is_some() || hints.contains(&resume) || parts.clone().any(is_missing);
    hints.retain(|hint| *hint != resume);
    hints.extend(Some(resume).filter(|_| is_resumed));
    hints
}

/// The commands that take away what holds jobs of the run.
fn releases(run: &RunDocument) -> BTreeSet<String> {
    let gates = run.gates.iter().map(|one| &one.release);
    let workstreams = run.workstreams.iter().map(|one| &one.release);
    gates
        .chain(workstreams)
        .chain(run.integration.iter().map(|one| &one.release))
        .flatten()
        .cloned()
        .collect()
}

/// True if a check failed on what was merged.
fn is_unproved(one: &IntegrationDocument) -> bool {
    one.reason.as_ref().is_some_and(|reason| reason.code == Code::IntegrationFailed)
}

fn merge_by_hand(one: &WorkstreamDocument) -> Option<String> {
    let has_changes = one.head.is_some() && one.head != one.base;
    one.branch.as_ref().filter(|_| has_changes).map(|branch| format!("git merge {branch}"))
}

fn resume(run: &RunId) -> String {
    format!("engine run --resume {run}")
}

fn work(run: &RunId) -> String {
    format!("engine work --run {run} --drain")
}

/// The hints for a workstream.
fn next(run: &RunId, status: RunStatus, one: &WorkstreamDocument) -> Vec<String> {
    let resume = || resume(run);
    match one.status {
        WorkstreamStatus::Succeeded if status == RunStatus::Quarantined => Vec::new(),
        // Without a commit of its own there is nothing to merge.
        WorkstreamStatus::Succeeded if one.head.is_some() && one.head == one.base => Vec::new(),
        WorkstreamStatus::Succeeded => vec![format!("engine runs merge {run}")],
        WorkstreamStatus::Pending | WorkstreamStatus::Parked if is_held(one) => vec![work(run)],
        WorkstreamStatus::Pending if one.reason.is_some() => vec![resume()],
        WorkstreamStatus::Pending => vec![work(run)],
        WorkstreamStatus::Parked => {
            let when = one.not_before.map_or_else(String::new, |time| format!(" goes on after {time}"));
            vec![format!("{}{when}", work(run))]
        }
        WorkstreamStatus::Running if has_code(one, &Code::RunnerGone) => vec![resume()],
        WorkstreamStatus::Running => vec![format!("engine runs events {run} --follow")],
        WorkstreamStatus::Blocked if is_stuck(one) => vec![resume()],
        WorkstreamStatus::Blocked => vec![format!("engine explain {}", one.job_id)],
        WorkstreamStatus::Canceled => vec![resume()],
        WorkstreamStatus::Failed | WorkstreamStatus::Quarantined => after_failure(one, &resume()),
    }
}

fn has_code(one: &WorkstreamDocument, code: &Code) -> bool {
    one.reason.as_ref().is_some_and(|reason| reason.code == *code)
}

/// True for one that is held.
fn is_held(one: &WorkstreamDocument) -> bool {
    has_code(one, &Code::WaitingHold)
}

/// True for one behind a job of the run that ended without success.
fn is_stuck(one: &WorkstreamDocument) -> bool {
    has_code(one, &Code::WaitingDependency)
}

fn after_failure(one: &WorkstreamDocument, resume: &str) -> Vec<String> {
    let code = one.reason.as_ref().map(|reason| &reason.code);
    let mut hints = Vec::new();
    match one.put_aside.last().filter(|_| code.is_some_and(is_refusal)) {
        Some(reference) => {
            hints.push(format!("git show {reference} prints what was refused"));
            hints.extend(one.worktree.as_ref().map(|tree| format!("{} takes it", restore(tree, reference))));
        }
        None => hints.push(format!("engine log {}; {}", log_of(one), mend(one, code))),
    }
    let no_edit = || has_code(one, &Code::NoChange) && one.steps.last().is_some_and(is_edit);
    let no_change = || no_edit().then_some("`metadata.bundle.metadata.allow_no_change`");
    if let Some((key, file)) = code.and_then(permission).or_else(no_change).zip(one.job_file.as_ref()) {
        hints.push(format!("to allow it: change {key} in {file}"));
    }
    hints.push(resume.to_owned());
    hints
}

/// The command that lays out what was put aside.
pub(super) fn restore(worktree: &str, reference: &str) -> String {
    format!("git -C {worktree} restore --source={reference} -SW -- .")
}

/// The job whose log says most: the last step that did not succeed.
fn log_of(one: &WorkstreamDocument) -> &crate::job::JobId {
    let is_bad = |step: &&StepDocument| step.outcome != Some(Outcome::Succeeded);
    let last = one.steps.iter().rev().find(is_bad).or(one.steps.last());
    last.map_or(&one.job_id, |step| &step.job_id)
}

fn mend(one: &WorkstreamDocument, code: Option<&Code>) -> &'static str {
    match one.worktree.is_some() && code.is_some_and(is_breaker) {
        true => "mend by hand in its worktree",
        false => "mend what it names",
    }
}

/// Of a fix that changes nothing no setting makes a success.
fn is_edit(step: &StepDocument) -> bool {
    step.kind == StepKind::Edit
}

/// True for a reason to refuse what an agent left.
fn is_refusal(code: &Code) -> bool {
    matches!(
        code,
        Code::ScopeViolation
            | Code::GateTampered
            | Code::TestsVanished
            | Code::PatchPolicy
            | Code::GitDirChanged
            | Code::SubmoduleChanged
            | Code::TreeNotClean
    )
}

/// True for a limit of the loop.
fn is_breaker(code: &Code) -> bool {
    matches!(
        code,
        Code::Oscillation | Code::NoProgress | Code::FixLimit | Code::FixDisabled | Code::AttemptLimit
    )
}

/// What of the job file allows what a reason forbids. Everything is frozen there, also what came from flags and settings.
fn permission(code: &Code) -> Option<&'static str> {
    match code {
        Code::ScopeViolation | Code::GateTampered => Some("`metadata.bundle.files_scope` (`--files`)"),
        Code::TestsVanished => Some(
            "`metadata.bundle.files_scope` (`--files`), or set `metadata.bundle.metadata.allow_test_removal`,",
        ),
        Code::PatchPolicy => Some("`metadata.settings.patch`"),
        Code::FixDisabled => Some("`metadata.limits.fix_for`"),
        Code::AttemptLimit => Some("`metadata.limits.agent_attempts`"),
        Code::BudgetExceeded => {
            Some("`metadata.run_max_cost_usd` (`--max-cost-usd`) or `metadata.bundle.max_cost_usd`")
        }
        _ => None,
    }
}
