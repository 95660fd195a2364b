//! The budgets of a job and its run, checked before an agent starts, while it runs, and after.
//!
//! A budget of the job is always kept; a budget of `engine.toml` as its mode says. Unreported usage counts as zero, with a
//! warning.

use super::super::past::Past;
use super::account;
use crate::adapter::agent::usage::used;
use crate::adapter::agent::watch::BudgetCheck;
use crate::clock::Timestamp;
use crate::cost::budget::{BudgetState, Ceiling, Spent, blind_spot, budget_state};
use crate::cost::prices::PriceTable;
use crate::cost::usage::Tokens;
use crate::job::{Code, JobFile, Reason};
use crate::store::config::BudgetMode;
use crate::store::spent::{Of, Spending};
use crate::store::{Store, StoreError, prices};

/// How often the ledger is read again while an agent runs: others spend of the same budget.
const READ_AGAIN: u32 = 10;

/// The limits that an attempt must keep, and the prices.
#[derive(Debug)]
pub(super) struct Purse {
    limits: Vec<Limit>,
    prices: PriceTable,
}

#[derive(Debug, Clone)]
struct Limit {
    /// Whose budget it is: `job` or `run`.
    name: &'static str,
    spending: Spending,
    from: (u32, Option<Timestamp>),
    ceiling: Ceiling,
    before: Spent,
    mode: BudgetMode,
}

impl Purse {
    /// Looks what was spent before this attempt.
    pub(super) fn open(store: &Store, job: &JobFile, past: &Past) -> Result<Self, Reason> {
        let unreadable = |error: StoreError| Reason::from_error(error.code(), &error);
        let from = (past.first_attempt, past.life_began);
        let budget = store.config.budget;
        // A job without a run is a run by itself.
        let own = Of::Job(job.job_id.clone());
        let run = job.run_id.as_deref().map_or_else(|| own.clone(), Of::run);
        let all = [
            ("job", own, Ceiling::from(&job.metadata.known), BudgetMode::Halt),
            ("run", run, budget.ceiling(), budget.mode),
        ];
        let mut limits = Vec::new();
        for (name, of, ceiling, mode) in all.into_iter().filter(|(_, _, ceiling, _)| !ceiling.is_open()) {
            let spending = match of {
                // What it may have spent is all behind the ledger's end, however long the ledger is.
                Of::Job(_) if past.is_first => Spending::begin(store, of),
                of => Spending::open(store, of),
            };
            let spending = spending.map_err(unreadable)?;
            let before = spending.spent(from);
            limits.push(Limit { name, spending, from, ceiling, before, mode });
        }
        Ok(Self { limits, prices: prices::read(store.root()).map_err(unreadable)? })
    }

    /// The prices.
    pub(super) fn prices(&self) -> &PriceTable {
        &self.prices
    }

    /// Refuses the start where a budget is used up already; warns of what it cannot see.
    pub(super) fn let_start(&self, model: Option<&str>) -> Result<(), Reason> {
        let (halt, mut warnings) = self.look(Spent::default());
        let is_dear = self.limits.iter().any(|limit| limit.ceiling.max_cost_usd.is_some());
        if let Some(model) = model.filter(|model| is_dear && self.prices.cost(model, &NO_TOKENS).is_none()) {
            warnings.push(format!("the price of `{model}` is unknown: a budget in dollars holds only if the tool reports its cost; set max_tokens, or a price in prices.json"));
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        halt.map_or(Ok(()), |what| Err(Reason::new(Code::BudgetExceeded, what)))
    }

    /// Why an attempt that has spent so much may not go on, if it may not; and what there is to warn of.
    pub(super) fn look(&self, now: Spent) -> (Option<String>, Vec<String>) {
        look(&self.limits, now)
    }

    /// The check while an agent runs; `None` without a limit.
    pub(super) fn check_while_it_runs<'w>(
        &'w self,
        store: &'w Store,
        model: Option<String>,
    ) -> Option<BudgetCheck<'w>> {
        if self.limits.is_empty() {
            return None;
        }
        let (mut limits, mut looks, mut warned) = (self.limits.clone(), 0u32, false);
        Some(Box::new(move |seen, session, before| {
            looks += 1;
            if looks.is_multiple_of(READ_AGAIN) {
                for limit in &mut limits {
                    // An unreadable ledger counts as it was read before.
                    if limit.spending.read_on(store).is_ok() {
                        limit.before = limit.spending.spent(limit.from);
                    }
                }
            }
            let so_far = used(seen, session, before);
            let known = account::spent(&so_far.models, model.as_deref(), &self.prices);
            // Usage that is not reported yet is late, not unknown.
            let (halt, warnings) = look(&limits, Spent { unknown_cost: 0, unknown_tokens: 0, ..known });
            if !warnings.is_empty() && !warned {
                warned = true;
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            halt
        }))
    }
}

const NO_TOKENS: Tokens = Tokens {
    input_tokens: Some(0),
    cached_input_tokens: None,
    cache_write_tokens: None,
    output_tokens: Some(0),
};

fn look(limits: &[Limit], now: Spent) -> (Option<String>, Vec<String>) {
    let (mut halt, mut warnings) = (None, Vec::new());
    for limit in limits {
        let spent = limit.before.plus(now);
        match budget_state(&limit.ceiling, &spent) {
            BudgetState::Over { what } if limit.mode == BudgetMode::Halt => {
                halt.get_or_insert(format!("the budget of the {} is used up: {what}", limit.name));
            }
            BudgetState::Over { what } => {
                warnings.push(format!("the budget of the {} is used up: {what}", limit.name));
            }
            BudgetState::Near { what } => {
                warnings.push(format!("the budget of the {} is nearly used up: {what}", limit.name));
            }
            BudgetState::Below => {}
        }
        if let Some(blind) = blind_spot(&limit.ceiling, &spent) {
            warnings.push(format!("the budget of the {} does not see everything: {blind}", limit.name));
        }
    }
    (halt, warnings)
}
