//! What the agents of a run used, by the lines of the ledger.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cost::totals::Totals;
use crate::cost::usage::LedgerLine;
use crate::job::JobId;
use crate::job::step::parse_step_id;

/// What agents used. A figure that no attempt reported is null, and one that only some reported is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Usage {
    /// How many attempts of agents there were.
    pub agent_attempts: u32,
    /// US dollars: reported by the tool, else computed.
    pub cost_usd: Option<f64>,
    /// Input and output together.
    pub tokens: Option<u64>,
    /// Tokens of the prompts.
    pub input_tokens: Option<u64>,
    /// Tokens of the answers.
    pub output_tokens: Option<u64>,
    /// How many attempts did not report their cost, or only a part of it.
    pub unknown_cost: u32,
}

/// What is left of the budget of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BudgetStatus {
    /// Enough.
    Ok,
    /// Less than a fifth.
    Warning,
    /// Nothing.
    Exceeded,
}

impl BudgetStatus {
    /// How near a sum is to what may be spent.
    #[must_use]
    pub(super) fn of(spent: f64, most: f64) -> Self {
        const NEAR: f64 = 0.8;
        match spent {
            spent if spent >= most => Self::Exceeded,
            spent if spent >= most * NEAR => Self::Warning,
            _ => Self::Ok,
        }
    }
}

/// The sum of some lines; none if there are none.
#[must_use]
pub(super) fn of<'a>(lines: impl IntoIterator<Item = &'a LedgerLine>) -> Option<Usage> {
    let totals = Totals::sum_lines(lines);
    (totals.attempts > 0).then_some(Usage {
        agent_attempts: totals.attempts,
        cost_usd: totals.spent_usd.known,
        tokens: totals.tokens.known,
        input_tokens: totals.input_tokens.known,
        output_tokens: totals.output_tokens.known,
        unknown_cost: totals.spent_usd.unknown_attempts,
    })
}

/// The lines of the steps of a workstream.
pub(super) fn of_workstream<'a>(
    lines: &'a [LedgerLine],
    workstream_job: &'a JobId,
) -> impl Iterator<Item = &'a LedgerLine> {
    lines
        .iter()
        .filter(move |line| parse_step_id(&line.job_id).is_some_and(|(job, ..)| job == *workstream_job))
}
