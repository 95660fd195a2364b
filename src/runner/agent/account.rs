//! Turns the usage of an agent into lines of the ledger.

use serde_json::{Map, Value, json};

use crate::adapter::agent::usage::Used;
use crate::clock::Timestamp;
use crate::cost::budget::Spent;
use crate::cost::prices::{PriceTable, Priced};
use crate::cost::usage::{LedgerLine, ModelUsage, Tokens};
use crate::job::{Code, JobFile, JobId, Outcome, SCHEMA_VERSION, ToolId};

/// The identity of an attempt in the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// When it is written.
    pub at: Timestamp,
    /// When the attempt started.
    pub started_at: Timestamp,
    /// The job.
    pub job_id: &'a JobId,
    /// Its run.
    pub run_id: Option<&'a str>,
    /// Its workstream.
    pub workstream_id: Option<&'a str>,
    /// Its adapter.
    pub tool: Option<&'a ToolId>,
    /// The model that it asks for.
    pub asked_model: Option<&'a str>,
    /// The attempt.
    pub attempt: u32,
    /// The session.
    pub session_id: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason_code: Option<&'a Code>,
}

/// The model that a job asks for.
pub(super) fn asked_model(job: &JobFile) -> Option<&str> {
    job.metadata.all.get("model").and_then(Value::as_str)
}

fn price(usage: &ModelUsage, asked: Option<&str>, prices: &PriceTable) -> Option<Priced> {
    let model = usage.model.as_deref().or(asked)?;
    prices.cost(model, &usage.tokens)
}

/// The spending of a run so far: the known part, and whether there is more.
pub(super) fn spent(models: &[ModelUsage], asked: Option<&str>, prices: &PriceTable) -> Spent {
    let costs: Vec<Option<f64>> = models
        .iter()
        .map(|usage| usage.cost_usd.or_else(|| price(usage, asked, prices).map(|priced| priced.usd)))
        .collect();
    sum(&costs, tokens_of(models))
}

/// The spending in the lines of an attempt.
pub(super) fn spent_by(lines: &[LedgerLine]) -> Spent {
    let costs: Vec<Option<f64>> = lines.iter().map(LedgerLine::cost).collect();
    sum(&costs, lines.iter().fold(Tokens::default(), |sum, line| sum.plus(line.tokens())).total())
}

fn sum(costs: &[Option<f64>], tokens: Option<u64>) -> Spent {
    let known: Vec<f64> = costs.iter().copied().flatten().collect();
    Spent {
        cost_usd: (!known.is_empty()).then(|| known.iter().sum()),
        tokens,
        unknown_cost: u32::from(known.len() < costs.len()),
        unknown_tokens: u32::from(tokens.is_none()),
    }
}

/// The tokens of all models; `None` if unknown.
fn tokens_of(models: &[ModelUsage]) -> Option<u64> {
    models.iter().fold(Tokens::default(), |sum, usage| sum.plus(usage.tokens)).total()
}

/// The lines of an attempt, one a model.
pub(super) fn lines(entry: Entry<'_>, used: &Used, prices: &PriceTable) -> Vec<LedgerLine> {
    let asked = entry.asked_model;
    let line = |(index, usage): (usize, &ModelUsage)| {
        let priced = price(usage, asked, prices);
        LedgerLine {
            schema_version: SCHEMA_VERSION,
            at: entry.at,
            job_id: entry.job_id.clone(),
            attempt: entry.attempt,
            started_at: Some(entry.started_at),
            run_id: entry.run_id.map(str::to_owned),
            workstream_id: entry.workstream_id.map(str::to_owned),
            tool: entry.tool.cloned(),
            model: usage.model.clone().or_else(|| asked.map(str::to_owned)),
            session_id: entry.session_id.map(str::to_owned),
            outcome: Some(entry.outcome),
            reason_code: entry.reason_code.cloned(),
            turns: used.turns.filter(|_| index == 0),
            input_tokens: usage.tokens.input_tokens,
            cached_input_tokens: usage.tokens.cached_input_tokens,
            cache_write_tokens: usage.tokens.cache_write_tokens,
            output_tokens: usage.tokens.output_tokens,
            tokens_source: used.source,
            cost_usd: usage.cost_usd,
            computed_cost_usd: priced.as_ref().map(|priced| priced.usd),
            price_source: priced.map(|priced| priced.source),
        }
    };
    used.models.iter().enumerate().map(line).collect()
}

/// The same for the result: sums, and the model if there is only one.
pub(super) fn ledger_summary(lines: &[LedgerLine]) -> Map<String, Value> {
    let tokens = lines.iter().fold(Tokens::default(), |sum, line| sum.plus(line.tokens()));
    let sum = |part: &dyn Fn(&LedgerLine) -> Option<f64>| lines.iter().map(part).sum::<Option<f64>>();
    let mut summary = Map::new();
    let first = lines.first();
    summary.insert("model".to_owned(), json!(first.and_then(|line| line.model.clone())));
    summary.insert("turns".to_owned(), json!(first.and_then(|line| line.turns)));
    summary.insert("tokens".to_owned(), json!(tokens));
    summary.insert("tokens_source".to_owned(), json!(first.map(|line| line.tokens_source)));
    summary.insert("cost_usd".to_owned(), json!(sum(&|line| line.cost_usd)));
    summary.insert("computed_cost_usd".to_owned(), json!(sum(&|line| line.computed_cost_usd)));
    summary.insert("price_source".to_owned(), json!(first.and_then(|line| line.price_source.clone())));
    summary
}
