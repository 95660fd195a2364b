//! The usage of agents: the lines of the ledger `state/usage.jsonl`.
//!
//! Hard rule: an unknown value is `null`, never 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::id::{JobId, ToolId};
use crate::job::{Code, Outcome};

/// Tokens of an agent's requests. A number that the tool does not report is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// All tokens of the prompts; those read from and written to a cache are among them.
    pub input_tokens: Option<u64>,
    /// Of these, how many were read from a cache.
    pub cached_input_tokens: Option<u64>,
    /// Of these, how many were written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// All tokens of the answers, reasoning included.
    pub output_tokens: Option<u64>,
}

impl Tokens {
    /// Input and output together; none if neither is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        match (self.input_tokens, self.output_tokens) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        }
    }

    /// The sum; what only one of them knows is taken from it.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: sum(self.input_tokens, other.input_tokens),
            cached_input_tokens: sum(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_tokens: sum(self.cache_write_tokens, other.cache_write_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
        }
    }

    /// What was used since `before`: for tools whose figures grow over a session.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let less = |now: Option<u64>, then: Option<u64>| now.map(|n| n.saturating_sub(then.unwrap_or(0)));
        Self {
            input_tokens: less(self.input_tokens, before.input_tokens),
            cached_input_tokens: less(self.cached_input_tokens, before.cached_input_tokens),
            cache_write_tokens: less(self.cache_write_tokens, before.cache_write_tokens),
            output_tokens: less(self.output_tokens, before.output_tokens),
        }
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    }
}

/// Where the numbers of a line come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// What the tool printed.
    Stream,
    /// The tool's own file of the session.
    SessionFile,
    /// Nowhere: the tool reported nothing.
    None,
}

/// What an attempt used of one model, as a reader found it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelUsage {
    /// The model, if the tool names it.
    pub model: Option<String>,
    /// The tokens.
    pub tokens: Tokens,
    /// What the tool says that it costs, in US dollars.
    pub cost_usd: Option<f64>,
}

/// One line of the ledger: one attempt and one model. `(job_id, attempt, started_at, model)` is the key; of two lines the last
/// counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "engine usage ledger line")]
pub(crate) struct LedgerLine {
    /// The version of this format; 1.
    pub schema_version: u32,
    /// When it was written.
    pub at: Timestamp,
    /// The job.
    pub job_id: JobId,
    /// The attempt.
    pub attempt: u32,
    /// When the attempt started: the number begins anew where an id is used again.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// The run.
    pub run_id: Option<String>,
    /// The workstream.
    pub workstream_id: Option<String>,
    /// The adapter.
    pub tool: Option<ToolId>,
    /// The model; null if the tool does not name it.
    pub model: Option<String>,
    /// The tool's own name of the session.
    pub session_id: Option<String>,
    /// How the attempt ended; null while it is open.
    pub outcome: Option<Outcome>,
    /// The word of the reason.
    pub reason_code: Option<Code>,
    /// How often the model was asked; null on the lines of an attempt's other models.
    pub turns: Option<u64>,
    /// All tokens of the prompts, cached ones included.
    pub input_tokens: Option<u64>,
    /// Of these, how many were read from a cache.
    pub cached_input_tokens: Option<u64>,
    /// Of these, how many were written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// All tokens of the answers, reasoning included.
    pub output_tokens: Option<u64>,
    /// Where the tokens come from.
    pub tokens_source: UsageSource,
    /// What the tool says that it costs, in US dollars.
    pub cost_usd: Option<f64>,
    /// What the tokens cost by the price table, in US dollars.
    pub computed_cost_usd: Option<f64>,
    /// The price that was taken: `<table>:<model>:<date>`.
    pub price_source: Option<String>,
}

impl LedgerLine {
    /// The tokens of the line.
    #[must_use]
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens {
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            cache_write_tokens: self.cache_write_tokens,
            output_tokens: self.output_tokens,
        }
    }

    /// What counts against a budget: what the tool reports, else what is computed.
    #[must_use]
    pub(crate) fn cost(&self) -> Option<f64> {
        self.cost_usd.or(self.computed_cost_usd)
    }
}
