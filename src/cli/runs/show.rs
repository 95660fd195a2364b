//! `engine runs show`: everything about one run, and what to do next.

use clap::Args;

use super::named;
use crate::cli::error::CliError;
use crate::cli::print;
use crate::clock::{Clock, SystemClock};
use crate::job::{Outcome, RunId, Status};
use crate::store::Store;
use crate::view::run::document::{RunDocument, StepDocument, WorkstreamDocument, document};
use crate::view::run::status::{RunStatus, WorkstreamStatus};
use crate::view::run::{self, Depth};

/// `engine runs show`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine runs show last\n  engine runs show last --json | jq .metrics")]
pub struct RunsShowArgs {
    /// The run, or `last`
    pub run: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Shows the run; 1 if there is none.
pub(super) fn run(store: &Store, args: &RunsShowArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let facts = run::read(store, manifest, Depth::Everything, SystemClock::start().now())?;
    let document = document(&facts);
    if args.json {
        print::json_pretty(&document);
    } else {
        print::report(describe(&document));
    }
    Ok(0)
}

/// A run for people: status, workstreams with their steps, what to do next.
pub(in crate::cli) fn describe(run: &RunDocument) -> Vec<String> {
    let commit: String = run.base.commit.chars().take(12).collect();
    let name = run.base.reference.as_deref().map(|name| name.trim_start_matches("refs/heads/"));
    let base = name.map_or_else(|| commit.clone(), |name| format!("{name} at {commit}"));
    let mut lines = vec![format!("{}  {}", run.run_id, run.status)];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    row("created", run.created_at.to_string());
    row("base", base);
    if let Some(seconds) = run.duration_s {
        row("took", format!("{seconds:.1} s"));
    }
    if let Some(used) = used(run.metrics.total_cost_usd, run.metrics.total_tokens) {
        row("used", used);
    }
    for workstream in &run.workstreams {
        lines.push(String::new());
        lines.extend(describe_workstream(workstream));
    }
    let next: Vec<String> =
        run.workstreams.iter().filter_map(|one| next(&run.run_id, run.status, one)).collect();
    if !next.is_empty() {
        lines.push(String::new());
        lines.extend(next.into_iter().map(|next| format!("next: {next}")));
    }
    lines
}

fn used(cost_usd: Option<f64>, tokens: Option<u64>) -> Option<String> {
    let cost = cost_usd.map(|cost| format!("{cost:.4} USD"));
    let tokens = tokens.map(|tokens| format!("{tokens} tokens"));
    let parts: Vec<String> = cost.into_iter().chain(tokens).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn describe_workstream(one: &WorkstreamDocument) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", one.ws_id, one.status)];
    let mut row = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<12} {value}")));
    };
    let reason = one.reason.as_ref();
    row("reason", reason.map(|reason| format!("{}: {}", reason.code, reason.message)));
    row("not before", one.not_before.map(|time| time.to_string()));
    row("branch", one.branch.clone());
    row("work tree", one.worktree.clone());
    row("changed", changed(one));
    row("used", one.usage.and_then(|usage| used(usage.cost_usd, usage.tokens)));
    for warning in &one.warnings {
        row("warning", Some(warning.clone()));
    }
    lines.extend(one.steps.iter().map(describe_step));
    lines
}

fn changed(one: &WorkstreamDocument) -> Option<String> {
    let files = usize::try_from(one.files_changed?).unwrap_or(usize::MAX);
    let mut text = print::counted(files, "file", "files");
    if let Some((more, less)) = one.insertions.zip(one.deletions) {
        text.push_str(&format!(", +{more} -{less}"));
    }
    Some(text)
}

fn describe_step(step: &StepDocument) -> String {
    let name = step.name.as_deref().unwrap_or("");
    let state = match (step.status, step.outcome) {
        (Status::Queued, Some(Outcome::Parked)) => "parked",
        (Status::Queued | Status::Running, _) => step.status.as_str(),
        (_, Some(outcome)) => outcome.as_str(),
        (_, None) => step.status.as_str(),
    };
    let mut text = format!("  {:02}-{:<9} {state:<11} {name}", step.n, step.kind).trim_end().to_owned();
    if let Some(seconds) = step.duration_s {
        text.push_str(&format!("  {seconds:.2} s"));
    }
    if let Some(code) = &step.reason_code {
        text.push_str(&format!("  {code}"));
    }
    text
}

/// What a person does next about a workstream.
pub(in crate::cli) fn next(run: &RunId, status: RunStatus, one: &WorkstreamDocument) -> Option<String> {
    match one.status {
        WorkstreamStatus::Succeeded if status == RunStatus::Quarantined => None,
        // A branch without a commit of its own has nothing to merge.
        WorkstreamStatus::Succeeded if one.head.is_some() && one.head == one.base => None,
        WorkstreamStatus::Succeeded => Some(format!("git merge {}", one.branch.as_deref()?)),
        WorkstreamStatus::Pending if one.reason.is_some() => Some(format!("engine run --resume {run}")),
        WorkstreamStatus::Pending | WorkstreamStatus::Parked => {
            Some(format!("engine work --run {run} --drain"))
        }
        WorkstreamStatus::Running => Some(format!("engine runs events {run} --follow")),
        WorkstreamStatus::Blocked => Some(format!("engine explain {}", one.job_id)),
        WorkstreamStatus::Canceled => Some(format!("engine run --resume {run}")),
        WorkstreamStatus::Failed | WorkstreamStatus::Quarantined => {
            let last = one.steps.last().map_or(&one.job_id, |step| &step.job_id);
            Some(format!("engine log {last}; mend what it names, then engine run --resume {run}"))
        }
    }
}
