//! What attempts cost: tokens, prices, sums over the ledger, and budgets. Pure.

pub mod budget;
pub mod prices;
pub mod totals;
pub mod usage;
