//! What the agents of a workstream have used, and what its budgets have left.

use super::assignment::Request;
use crate::cost::totals::Totals;
use crate::job::Reason;
use crate::job::number::Usd;
use crate::store::spent::{Of, Spending};
use crate::store::steps::StepFound;
use crate::store::{Store, usage};

/// What is left to be spent, in US dollars; none where there is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    pub(super) bundle: Option<f64>,
    pub(super) run: Option<f64>,
}

/// What the steps of a workstream have used.
pub(super) struct Used {
    pub(super) cost_usd: Option<f64>,
    pub(super) tokens: Option<u64>,
}

pub(super) fn used(store: &Store, found: &[StepFound]) -> Result<Used, Reason> {
    let mut lines = Vec::new();
    for step in found.iter().filter(|step| step.kind.is_agent()) {
        lines.extend(usage::of_job(store, &step.id)?);
    }
    let spent = Totals::sum_lines(&lines).spent();
    Ok(Used { cost_usd: spent.cost_usd, tokens: spent.tokens })
}

/// What is left of the limits of the bundle and of the run.
pub(super) fn rest(store: &Store, request: &Request, found: &[StepFound]) -> Result<Rest, Reason> {
    let assignment = &request.assignment;
    let (bundle, run) = (assignment.bundle.max_cost_usd.map(Usd::get), assignment.run_max_cost_usd);
    if bundle.is_none() && run.is_none() {
        return Ok(Rest::default());
    }
    let cost = used(store, found)?.cost_usd.unwrap_or(0.0);
    let of_run = match run {
        Some(_) => Spending::open(store, Of::run(request.run.as_str()))?.lines().to_vec(),
        None => Vec::new(),
    };
    let of_run = Totals::sum_lines(&of_run).spent().cost_usd.unwrap_or(0.0);
    Ok(Rest { bundle: bundle.map(|most| most - cost), run: run.map(|most| most - of_run) })
}
