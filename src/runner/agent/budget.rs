//! What a job and its run may spend: looked at before an agent starts, while it runs, and after.
//!
//! A budget of the job is always kept; that of `engine.toml` as its mode says. What was not told counts as nothing, and that is
//! said.

use super::super::agent::account::{cost_of, tokens_of};
use crate::adapter::agent::usage::used;
use crate::adapter::agent::watch::BudgetCheck;
use crate::causes::causes;
use crate::job::budget::{Ceiling, Spent, Standing, blind_spot, standing};
use crate::job::prices::PriceTable;
use crate::job::{JobFile, Reason};
use crate::store::config::BudgetMode;
use crate::store::{Store, prices, usage};

/// The word for a budget that is used up.
pub const CODE_EXCEEDED: &str = "budget_exceeded";

/// The limits that an attempt must keep, and the prices.
#[derive(Debug)]
pub struct Purse {
    limits: Vec<Limit>,
    prices: PriceTable,
}

#[derive(Debug, Clone)]
struct Limit {
    whose: &'static str,
    ceiling: Ceiling,
    before: Spent,
    mode: BudgetMode,
}

impl Purse {
    /// Looks what was spent before this attempt.
    pub fn open(store: &Store, job: &JobFile, first_attempt: u32) -> Result<Self, Reason> {
        let unreadable = |error: crate::store::StoreError| Reason::new(error.code(), causes(&error));
        let mut limits = Vec::new();
        let of_job = Ceiling::from(&job.metadata.known);
        if !of_job.is_open() {
            let before = usage::spent_by_job(store, &job.job_id, first_attempt).map_err(unreadable)?;
            limits.push(Limit { whose: "job", ceiling: of_job, before, mode: BudgetMode::Halt });
        }
        let budget = store.config.budget;
        let of_run = budget.ceiling();
        if !of_run.is_open() {
            let before = match &job.run_id {
                Some(run) => usage::spent_by_run(store, run),
                None => usage::spent_by_job(store, &job.job_id, first_attempt),
            };
            let before = before.map_err(unreadable)?;
            limits.push(Limit { whose: "run", ceiling: of_run, before, mode: budget.mode });
        }
        Ok(Self { limits, prices: prices::read(store.root()).map_err(unreadable)? })
    }

    /// The prices.
    pub fn prices(&self) -> &PriceTable {
        &self.prices
    }

    /// Refuses the start where a budget is used up already.
    pub fn let_start(&self) -> Result<(), Reason> {
        let (halt, warnings) = self.look(Spent::default());
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        halt.map_or(Ok(()), |what| Err(Reason::new(CODE_EXCEEDED, what)))
    }

    /// Why an attempt that has spent so much may not go on, if it may not; and what there is to warn of.
    pub fn look(&self, now: Spent) -> (Option<String>, Vec<String>) {
        look(&self.limits, now)
    }

    /// What is asked while an agent runs; none without a limit that ends it.
    pub fn check_while_it_runs(&self, model: Option<String>) -> Option<BudgetCheck<'_>> {
        if self.limits.iter().all(|limit| limit.mode == BudgetMode::Warn) {
            return None;
        }
        Some(Box::new(move |seen, session, before| {
            let so_far = used(seen, session, before);
            let cost = cost_of(&so_far.models, model.as_deref(), &self.prices);
            // What is not told yet is not unknown, only later.
            let spent = Spent { cost_usd: cost, tokens: tokens_of(&so_far.models), ..Spent::default() };
            self.look(spent).0
        }))
    }
}

fn look(limits: &[Limit], now: Spent) -> (Option<String>, Vec<String>) {
    let (mut halt, mut warnings) = (None, Vec::new());
    for limit in limits {
        let spent = limit.before.plus(now);
        match standing(&limit.ceiling, &spent) {
            Standing::Over { what } if limit.mode == BudgetMode::Halt => {
                halt.get_or_insert(format!("the budget of the {} is used up: {what}", limit.whose));
            }
            Standing::Over { what } => {
                warnings.push(format!("the budget of the {} is used up: {what}", limit.whose));
            }
            Standing::Near { what } => {
                warnings.push(format!("the budget of the {} is nearly used up: {what}", limit.whose));
            }
            Standing::Below => {}
        }
        if let Some(blind) = blind_spot(&limit.ceiling, &spent) {
            warnings.push(format!("the budget of the {} can not see everything: {blind}", limit.whose));
        }
    }
    (halt, warnings)
}
