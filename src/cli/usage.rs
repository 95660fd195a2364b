//! `engine usage`: what agents used, and what that costs.
//!
//! An unreported value is `?`, and an incomplete sum ends in `+?`: neither is ever shown as 0.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::error::CliError;
use super::global::Global;
use super::since::Since;
use super::{print, root};
use crate::clock::SystemClock;
use crate::cost::budget::dollars;
use crate::cost::totals::{self, By, Key, Sum, Totals};
use crate::cost::usage::LedgerLine;
use crate::job::event::short;
use crate::store::usage;

/// `engine usage`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine usage --by model --since 7d\n  engine usage --run nightly\n  \
    engine usage --by day --json | jq '.total.spent_usd'\n\n\
    `?` means unknown; a sum with `+?` omits attempts that did not report. FAILED counts attempts that ended and did not\n\
    succeed, OF COST is their share of the cost. Costs are in US dollars: REPORTED by the tools, COMPUTED from the\n\
    tokens and prices.json.")]
pub struct UsageArgs {
    /// What a row is
    #[arg(long, value_name = "WHAT", default_value = "job")]
    pub by: By,
    /// Only what was used since: a time such as 2026-11-21T10:00:00Z, or 90s, 30m, 2h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Only jobs of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only jobs of this workstream
    #[arg(long, value_name = "WORKSTREAM")]
    pub workstream: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

impl ValueEnum for By {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Job, Self::Run, Self::Tool, Self::Model, Self::Day]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Job => "A job",
            Self::Run => "A run; a job without a run counts as one",
            Self::Tool => "An adapter",
            Self::Model => "A model",
            Self::Day => "A day (UTC)",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

/// Sums up the ledger.
pub fn run(args: &UsageArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let mut lines = usage::read(&store)?;
    let is_empty = lines.is_empty();
    let wanted = wanted(args);
    lines.retain(wanted);
    if lines.is_empty() && !global.quiet {
        print::note(if is_empty {
            "the usage ledger is empty: no agent has reported its usage"
        } else {
            "the usage ledger has no entries for this time, run and workstream"
        });
    }
    let rows = totals::by(&lines, args.by);
    let total = Totals::sum_lines(&lines);
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|(key, totals)| row(key, totals)).collect();
        print::json_pretty(&json!({ "by": args.by.as_str(), "rows": rows, "total": sums(&total) }));
        return Ok(0);
    }
    if lines.is_empty() {
        return Ok(0);
    }
    let head = ["ATTEMPTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REPORTED", "COMPUTED", "OF COST"];
    let mut table = vec![cells(args.by.as_str().to_uppercase(), head.map(str::to_owned))];
    table.extend(rows.iter().map(|(key, totals)| cells(name(key), figures(totals))));
    table.push(cells("total".to_owned(), figures(&total)));
    print::table(&table);
    Ok(0)
}

fn wanted(args: &UsageArgs) -> impl Fn(&LedgerLine) -> bool + use<> {
    let since = args.since.map(|since| since.resolve(&SystemClock::start()));
    // The ledger holds them cut.
    let run = args.run.as_deref().map(short);
    let workstream = args.workstream.as_deref().map(short);
    move |line| {
        since.is_none_or(|since| line.at >= since)
            && run.as_ref().is_none_or(|run| line.run_id.as_ref() == Some(run))
            && workstream.as_ref().is_none_or(|stream| line.workstream_id.as_ref() == Some(stream))
    }
}

fn cells(name: String, figures: [String; 8]) -> Vec<String> {
    std::iter::once(name).chain(figures).collect()
}

fn name(key: &Key) -> String {
    match key {
        Key::Named(name) => name.clone(),
        Key::JobWithoutRun(job) => format!("(job {job})"),
        Key::Unknown => "?".to_owned(),
    }
}

fn figures(totals: &Totals) -> [String; 8] {
    let tokens = |sum: &Sum<u64>| shown(sum.known.map(|tokens| tokens.to_string()), sum.unknown_attempts);
    let usd = |sum: &Sum<f64>| shown(sum.known.map(dollars), sum.unknown_attempts);
    [
        totals.attempts.to_string(),
        totals.failed_attempts.to_string(),
        tokens(&totals.input_tokens),
        tokens(&totals.cached_input_tokens),
        tokens(&totals.output_tokens),
        usd(&totals.cost_usd),
        usd(&totals.computed_cost_usd),
        match totals.failed_share() {
            _ if totals.failed_attempts == 0 => "-".to_owned(),
            Some(share) => format!("{:.0}%", share * 100.0),
            None => "?".to_owned(),
        },
    ]
}

fn shown(known: Option<String>, unknown_attempts: u32) -> String {
    match (known, unknown_attempts) {
        (Some(known), 0) => known,
        (Some(known), _) => format!("{known}+?"),
        (None, _) => "?".to_owned(),
    }
}

fn row(key: &Key, totals: &Totals) -> Value {
    let mut row = sums(totals);
    if let Some(object) = row.as_object_mut() {
        let name = match key {
            Key::Named(name) => Some(name),
            Key::JobWithoutRun(_) | Key::Unknown => None,
        };
        object.insert("key".to_owned(), json!(name));
        // A run and a job may have one name.
        if let Key::JobWithoutRun(job) = key {
            object.insert("job_id".to_owned(), json!(job));
        }
    }
    row
}

fn sums(totals: &Totals) -> Value {
    json!({
        "attempts": totals.attempts,
        "failed_attempts": totals.failed_attempts,
        "turns": totals.turns.known,
        "input_tokens": totals.input_tokens.known,
        "cached_input_tokens": totals.cached_input_tokens.known,
        "cache_write_tokens": totals.cache_write_tokens.known,
        "output_tokens": totals.output_tokens.known,
        "cost_usd": totals.cost_usd.known,
        "computed_cost_usd": totals.computed_cost_usd.known,
        "spent_usd": totals.spent_usd.known,
        "failed_spent_usd": totals.failed_spent_usd.known,
        "unknown_attempts": {
            "turns": totals.turns.unknown_attempts,
            "input_tokens": totals.input_tokens.unknown_attempts,
            "cached_input_tokens": totals.cached_input_tokens.unknown_attempts,
            "cache_write_tokens": totals.cache_write_tokens.unknown_attempts,
            "output_tokens": totals.output_tokens.unknown_attempts,
            "cost_usd": totals.cost_usd.unknown_attempts,
            "computed_cost_usd": totals.computed_cost_usd.unknown_attempts,
            "spent_usd": totals.spent_usd.unknown_attempts,
            "failed_spent_usd": totals.failed_spent_usd.unknown_attempts,
        },
    })
}
