//! `engine doctor`: checks the guarantees of the file system and the kernel, and the root for damage.

use clap::Args;
use serde_json::{Value, json};

use super::error::CliError;
use super::global::Global;
use super::{print, recover, root};
use crate::adapter::registry;
use crate::causes::causes;
use crate::clock::SystemClock;
use crate::doctor::file_system;
use crate::doctor::finding::{Finding, Verdict};
use crate::doctor::kernel;
use crate::doctor::records::{self, Repaired};
use crate::fs::this_user;
use crate::queue::recovery::{self, Again, Options, Report};
use crate::runner::end_left_overs;
use crate::store::{Store, boot};

/// `engine doctor`
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine doctor                     check this machine and the root\n  \
    engine doctor --repair            recover from a crash, then check again\n  \
    engine doctor --json | jq -c '.checks[] | select(.verdict != \"ok\")'\n\n\
    Exit status: 0 the contract holds (warnings allowed), 1 a check failed, 125 the checks could not run.")]
pub struct DoctorArgs {
    /// Recover unfinished jobs, remove stray files, then check again
    #[arg(long)]
    pub repair: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

struct Part {
    name: &'static str,
    title: &'static str,
    /// True where a good answer is a guarantee, which is worth its meaning; else it is the absence of damage.
    guarantees: bool,
    findings: Vec<Finding>,
}

struct Repair {
    report: Report,
    rest: Repaired,
}

/// Looks at everything; 1 if something is wrong.
pub fn run(args: &DoctorArgs, global: &Global) -> Result<u8, CliError> {
    let store = if args.repair { root::to_change(global)? } else { root::to_read(global)? };
    let clock = SystemClock::start();
    let repair = if args.repair { Some(repair(&store, &clock)?) } else { None };
    let mut root = records::all(&store, &clock)?;
    root.extend(adapters(&store));
    let parts = [
        Part {
            name: "file_system",
            title: "file system",
            guarantees: true,
            findings: file_system::file_system(&store, &clock),
        },
        Part { name: "kernel", title: "kernel", guarantees: true, findings: kernel::kernel() },
        Part { name: "root", title: "root", guarantees: false, findings: root },
    ];
    let worst = parts.iter().flat_map(|part| &part.findings).map(|finding| finding.verdict).max();
    if args.json {
        print::json_pretty(&as_json(&store, &parts, worst, repair.as_ref()));
    } else {
        tell(&store, &parts, repair.as_ref(), global.quiet);
    }
    Ok(u8::from(worst == Some(Verdict::Fail)))
}

/// The manifests that cannot be used. Those of another user never can, and those of a root that is not accepted not yet.
fn adapters(store: &Store) -> Option<Finding> {
    if store.owner() != this_user() || !store.is_accepted() {
        return None;
    }
    let listed = match registry::list(store) {
        Ok(listed) => listed,
        Err(error) => return Some(Finding::fail("adapters", causes(&error), "the check could not run")),
    };
    let bad = listed.into_values().filter_map(|manifest| Some(causes(&manifest.err()?))).collect();
    let meaning = "a job of such an adapter does not run: its attempt ends at once";
    let found = Finding::none_of("adapters", "manifests that cannot be used", bad, Verdict::Warn, meaning);
    let is_bad = found.verdict != Verdict::Ok;
    Some(if is_bad {
        found.remedy("fix them, or remove them from adapters/: engine adapters")
    } else {
        found
    })
}

fn repair(store: &Store, clock: &SystemClock) -> Result<Repair, CliError> {
    let options = Options { host_is_dead: None, again: Again::IfRepeatable };
    let mut end = end_left_overs(store, clock);
    let report = recovery::recover_all(store, clock, &options, &mut *end)?;
    if report.is_complete() {
        boot::remember(store)?;
    }
    Ok(Repair { report, rest: records::repair(store, clock)? })
}

fn tell(store: &Store, parts: &[Part], repair: Option<&Repair>, quiet: bool) {
    let mut lines = repair.map(describe).unwrap_or_default();
    lines.push(store.root().display().to_string());
    for part in parts {
        lines.extend([String::new(), part.title.to_owned()]);
        for finding in part.findings.iter().filter(|finding| !quiet || finding.verdict != Verdict::Ok) {
            lines.extend(describe_finding(finding, part.guarantees));
        }
    }
    print::report(lines);
}

fn describe_finding(finding: &Finding, is_guarantee: bool) -> Vec<String> {
    const MOST: usize = 10;
    let (verdict, check) = (finding.verdict.as_str(), finding.check);
    let mut lines = vec![format!("  {verdict:<4}  {check:<16}  {}", finding.found)];
    let mut more = |line: &str| lines.push(format!("{:26}{line}", ""));
    if is_guarantee || finding.verdict != Verdict::Ok {
        more(finding.meaning);
    }
    finding.items.iter().take(MOST).for_each(|item| more(&format!("- {item}")));
    if finding.items.len() > MOST {
        more(&format!("- and {} more; list all with --json", finding.items.len() - MOST));
    }
    if !finding.remedy.is_empty() {
        more(&format!("→ {}", finding.remedy));
    }
    lines
}

fn describe(repair: &Repair) -> Vec<String> {
    let Report { jobs, foreign, failed, .. } = &repair.report;
    let mut lines = Vec::new();
    lines.extend(jobs.iter().map(|(id, done)| format!("{id}: {}", recover::describe(done))));
    lines.extend(foreign.iter().map(|(name, reason)| format!("{name}: quarantined, {}", reason.message)));
    lines.extend(failed.iter().map(|(id, error)| format!("{id}: not recovered: {error}")));
    let Repaired { requests, probes, archives, misplaced } = repair.rest;
    let files = repair.report.temporary + requests + probes;
    lines.push(format!(
        "repaired: {}, {} written again, {} removed, {} cut",
        print::counted(jobs.len() + misplaced, "job", "jobs"),
        print::counted(repair.report.journal_lines, "journal line", "journal lines"),
        print::counted(files, "stray file", "stray files"),
        print::counted(archives, "torn archive", "torn archives"),
    ));
    lines
}

fn as_json(store: &Store, parts: &[Part], worst: Option<Verdict>, repair: Option<&Repair>) -> Value {
    let mut checks = Vec::new();
    for part in parts {
        for finding in &part.findings {
            let mut document = json!(finding);
            document["part"] = json!(part.name);
            checks.push(document);
        }
    }
    let repaired = repair.map(|repair| {
        json!({
            "recovery": recover::as_json(&repair.report), "requests": repair.rest.requests,
            "probe_directories": repair.rest.probes, "torn_archives": repair.rest.archives,
            "misplaced_jobs": repair.rest.misplaced,
        })
    });
    json!({
        "schema_version": 1, "root": store.root().display().to_string(), "verdict": worst, "checks": checks,
        "repaired": repaired,
    })
}
