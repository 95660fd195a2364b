//! What attempts cost: tokens, prices, sums over the ledger, and budgets. Pure.

pub(crate) mod budget;
pub(crate) mod prices;
pub(crate) mod totals;
pub(crate) mod usage;
