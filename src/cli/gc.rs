//! `engine gc`: retires finished jobs by age, count and bytes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::error::CliError;
use super::global::{self, Global};
use super::{print, root};
use crate::clock::SystemClock;
use crate::git::{Client, Deadline, Program, Stop};
use crate::job::RunManifest;
use crate::job::number::Count;
use crate::policy::retention::{Cause, Finished, Limits};
use crate::queue::gc::{self, GcLock, Report};
use crate::runner::exit_status::ENGINE;
use crate::store::config::Retention;
use crate::worktree;

/// `engine gc`
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine gc --dry-run                  jobs to retire by [retention] in engine.toml\n  \
    engine gc --older-than 30d           jobs that ended more than 30 days ago\n  \
    engine gc --keep-count 1000 -q       all but the last 1000 (in a crontab)\n  \
    engine list --archived               retired jobs; `engine show ID` shows one\n\n\
    gc retires only ended jobs that no queued or running job depends on. Their records go to\n\
    state/archive/, compressed; their job files and logs are removed and their ids are free again.\n\
    A run goes with its last job, once `engine runs clean` has removed its worktrees and references."
)]
pub struct GcArgs {
    /// Print the jobs that would be retired, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Retire jobs that ended longer ago: 30d, 12h, 90m, 45s; a number alone is days (default: retention.days)
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Keep only so many finished jobs, the latest (default: retention.count)
    #[arg(long, value_name = "N")]
    pub keep_count: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Reads an age as `30d`, `12h`, `90m`, `45s` or `30` (days).
fn age(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok().filter(|_| seconds > 0);
    let number = number.ok_or("expected a time such as 30d, 12h, 90m or 45s")?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Retires what exceeds the limits; 125 if some jobs could not be retired.
pub fn run(args: &GcArgs, global: &Global) -> Result<u8, CliError> {
    let store = if args.dry_run { root::to_read(global)? } else { root::to_change(global)? };
    let limits = limits(args, &store.config.retention);
    let clock = SystemClock::start();
    let report = if args.dry_run {
        gc::plan(&store, &clock, &limits, &is_left)?
    } else {
        let lock =
            GcLock::acquire(&store)?.ok_or_else(|| CliError::plain("another `engine gc` runs here"))?;
        gc::collect(&store, &clock, &limits, (&is_left, &lock))?
    };
    if args.json {
        print::json_pretty(&as_json(&report, &limits, args.dry_run));
    } else if !global.quiet {
        tell(&report, &limits, args.dry_run);
    }
    complain(&report);
    Ok(if report.failed.is_empty() { 0 } else { ENGINE })
}

/// How long git may take for one run.
const GIT_TIME: Duration = Duration::from_secs(60);

/// True if a run has a worktree, or its repository has a reference or a branch of it; also if git does not say.
fn is_left(manifest: &RunManifest, jobs: &[Value]) -> bool {
    let worktree = |job: &Value| job.pointer("/metadata/worktree").and_then(Value::as_str).map(PathBuf::from);
    if jobs.iter().filter_map(worktree).any(|dir| dir.symlink_metadata().is_ok()) {
        return true;
    }
    let repo = Path::new(&manifest.repo);
    // The repository may be gone, and all references with it.
    let has_references = || {
        let client = Client {
            program: Program::find(global::environment().get("PATH"), global::home(), repo)?,
            deadline: Deadline::new("the look at what is left of a run", GIT_TIME),
            stop: Stop::never(),
        };
        worktree::has_references(repo, manifest.run_id.as_str(), &client)
    };
    repo.exists() && has_references().unwrap_or(true)
}

/// The options, and the settings where an option is not given.
fn limits(args: &GcArgs, settings: &Retention) -> Limits {
    let days = settings.days.map(|days| Duration::from_secs(days.get().saturating_mul(86_400)));
    Limits {
        older_than: args.older_than.or(days),
        keep_count: args.keep_count.or(settings.count.map(Count::get)),
        keep_bytes: settings.bytes.map(Count::get),
    }
}

fn tell(report: &Report, limits: &Limits, dry_run: bool) {
    for (job, cause) in &report.dropped {
        print::line(&format!("{}  {}  {}  {}", job.id, job.status, job.ended_at, cause.as_str()));
    }
    let bytes: u64 = report.dropped.iter().map(|(job, _)| job.bytes).sum();
    let (retired, removed) = if dry_run { ("would retire", "would remove") } else { ("retired", "removed") };
    if limits.are_none() {
        print::note(
            "no limit is set, so no finished job goes: [retention] days, count or bytes in engine.toml, \
             --older-than or --keep-count",
        );
    } else {
        let jobs = print::counted(report.dropped.len(), "job", "jobs");
        // Those that stay although a limit exceeds them are of them; each of the skipped is named below.
        let stay = report.kept + report.needed.len() + report.skipped.len();
        let stay = print::counted(stay, "stays", "stay");
        let needed = match report.needed.len() {
            0 => String::new(),
            needed => format!(", {needed} of them because a job that waits or runs depends on it"),
        };
        print::note(&format!("{retired} {jobs} ({bytes} bytes of files), {stay}{needed}"));
    }
    if !report.runs.is_empty() {
        let runs = print::counted(report.runs.len(), "run", "runs");
        print::note(&format!("{removed} {runs} of which nothing else is left"));
    }
    let (free, temporary) = (report.free.len(), report.temporary);
    if free + temporary > 0 {
        let free = print::counted(free, "empty record", "empty records");
        let temporary = print::counted(temporary, "temporary file", "temporary files");
        print::note(&format!("{removed} {free} and {temporary}"));
    }
    if report.journal_parts > 0 {
        let parts = print::counted(report.journal_parts, "old part", "old parts");
        print::note(&format!("{removed} {parts} of the journal"));
    }
}

/// Names the jobs that stay, on standard error.
fn complain(report: &Report) {
    const MOST: usize = 20;
    for (id, skip) in report.skipped.iter().take(MOST) {
        print::note(&format!("{id} stays: {}", skip.as_str()));
    }
    for (id, error) in report.failed.iter().take(MOST) {
        print::note(&format!("error: {id}: {error}"));
    }
    let rest = report.skipped.len().saturating_sub(MOST) + report.failed.len().saturating_sub(MOST);
    if rest > 0 {
        print::note(&format!("and {rest} more; --json names them all"));
    }
}

fn as_json(report: &Report, limits: &Limits, dry_run: bool) -> Value {
    let dropped = |(job, cause): &(Finished, Cause)| {
        json!({
            "job_id": job.id, "status": job.status, "ended_at": job.ended_at, "bytes": job.bytes,
            "cause": cause.as_str(),
        })
    };
    let skipped: Vec<_> =
        report.skipped.iter().map(|(id, skip)| json!({ "job_id": id, "reason": skip.as_str() })).collect();
    let failed: Vec<_> =
        report.failed.iter().map(|(id, error)| json!({ "job_id": id, "error": error })).collect();
    json!({
        "schema_version": 1, "dry_run": dry_run,
        "limits": {
            "older_than_seconds": limits.older_than.map(|age| age.as_secs()),
            "keep_count": limits.keep_count, "keep_bytes": limits.keep_bytes,
        },
        "retired": report.dropped.iter().map(dropped).collect::<Vec<_>>(),
        "runs": report.runs, "kept": report.kept, "needed": report.needed, "skipped": skipped, "failed": failed,
        "free_ids": report.free, "temporary_files": report.temporary, "journal_parts": report.journal_parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        let seconds = |text| age(text).map(|age| age.as_secs()).ok();
        assert_eq!(seconds("30d"), Some(30 * 86_400));
        assert_eq!(seconds("30"), Some(30 * 86_400));
        assert_eq!(seconds("12h"), Some(43_200));
        assert_eq!(seconds("90m"), Some(5400));
        assert_eq!(seconds("0s"), Some(0));
        for text in ["", "d", "-1d", "1w", "1.5d", "1 d", "99999999999999999999d"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
