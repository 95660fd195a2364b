//! Budgets: compares the amount spent with its ceiling.
//!
//! Pure. Hard rule: an unreported amount is never counted as 0 in silence; a `Spent` counts the attempts without one.

use crate::job::spec::KnownMetadata;

/// Part of a ceiling from which on it is near.
const NEAR: f64 = 0.8;

/// A ceiling; `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ceiling {
    /// US dollars.
    pub max_cost_usd: Option<f64>,
    /// Tokens, input and output together.
    pub max_tokens: Option<u64>,
}

impl Ceiling {
    /// True if nothing is limited.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&KnownMetadata> for Ceiling {
    fn from(metadata: &KnownMetadata) -> Self {
        Self {
            max_cost_usd: metadata.max_cost_usd.map(crate::job::number::Usd::get),
            max_tokens: metadata.max_tokens.map(crate::job::number::Count::get),
        }
    }
}

/// The amount spent, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spent {
    /// US dollars; none if no attempt reported any.
    pub cost_usd: Option<f64>,
    /// Tokens, input and output together; none if no attempt reported any.
    pub tokens: Option<u64>,
    /// How many attempts did not report their cost, or only a part of it.
    pub unknown_cost: u32,
    /// How many attempts did not report their tokens, or only a part of them.
    pub unknown_tokens: u32,
}

impl Spent {
    /// The sum, of different attempts.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        let cost = [self.cost_usd, other.cost_usd].into_iter().flatten().reduce(|one, more| one + more);
        let tokens = [self.tokens, other.tokens].into_iter().flatten().reduce(u64::saturating_add);
        Self {
            cost_usd: cost,
            tokens,
            unknown_cost: self.unknown_cost.saturating_add(other.unknown_cost),
            unknown_tokens: self.unknown_tokens.saturating_add(other.unknown_tokens),
        }
    }
}

impl std::iter::Sum for Spent {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Self::plus)
    }
}

/// The state of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BudgetState {
    /// Less than 80 % of every limit, as far as it is known.
    Below,
    /// From 80 % of a limit on.
    Near {
        /// What and of what: `0.84 of 1.00 USD`.
        what: String,
    },
    /// A limit is used up.
    Over {
        /// What and of what: `1000 of 1000 tokens`.
        what: String,
    },
}

/// Compares the amount spent with a ceiling; the worse of two limits counts.
///
/// A limit is used up when all of it is spent, and a limit of 0 before anything is.
#[must_use]
pub(crate) fn budget_state(ceiling: &Ceiling, spent: &Spent) -> BudgetState {
    let limits = [cost(ceiling, spent), tokens(ceiling, spent)];
    let at = |wanted: Level| -> Option<String> {
        let texts: Vec<&str> = limits
            .iter()
            .flatten()
            .filter(|(level, _)| *level == wanted)
            .map(|(_, text)| text.as_str())
            .collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    if let Some(what) = at(Level::Over) {
        return BudgetState::Over { what };
    }
    at(Level::Near).map_or(BudgetState::Below, |what| BudgetState::Near { what })
}

/// What a ceiling cannot see: attempts that did not report what it limits.
#[must_use]
pub(crate) fn blind_spot(ceiling: &Ceiling, spent: &Spent) -> Option<String> {
    let blind = |limited: bool, count: u32, what: &str| {
        let attempts = if count == 1 { "attempt" } else { "attempts" };
        (limited && count > 0).then(|| format!("the {what} of {count} {attempts} is unknown"))
    };
    let cost = blind(ceiling.max_cost_usd.is_some(), spent.unknown_cost, "cost");
    let tokens = blind(ceiling.max_tokens.is_some(), spent.unknown_tokens, "tokens");
    let texts: Vec<String> = cost.into_iter().chain(tokens).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Below,
    Near,
    Over,
}

fn cost(ceiling: &Ceiling, spent: &Spent) -> Option<(Level, String)> {
    let limit = ceiling.max_cost_usd?;
    let cost = spent.cost_usd.unwrap_or(0.0);
    let unknown = unknown(spent.unknown_cost);
    let text = format!("{} of {} USD{unknown}", dollars(cost), dollars(limit));
    Some((level(cost, limit), text))
}

fn tokens(ceiling: &Ceiling, spent: &Spent) -> Option<(Level, String)> {
    let limit = ceiling.max_tokens?;
    let tokens = spent.tokens.unwrap_or(0);
    let text = format!("{tokens} of {limit} tokens{}", unknown(spent.unknown_tokens));
    // Whole numbers: a limit beyond the precision of a float is kept to the token.
    let level = if tokens >= limit { Level::Over } else { level_below(as_float(tokens), as_float(limit)) };
    Some((level, text))
}

fn unknown(attempts: u32) -> String {
    match attempts {
        0 => String::new(),
        1 => " (1 attempt unknown)".to_owned(),
        more => format!(" ({more} attempts unknown)"),
    }
}

/// Ten times 0.1 is less than 1 in floating point: what lacks a billionth is there.
const LACK: f64 = 1.0 + 1e-9;

fn level(spent: f64, limit: f64) -> Level {
    if spent * LACK >= limit { Level::Over } else { level_below(spent, limit) }
}

fn level_below(spent: f64, limit: f64) -> Level {
    if spent * LACK >= limit * NEAR { Level::Near } else { Level::Below }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "only for the 80 %, where a token more or less does not matter"
)]
fn as_float(tokens: u64) -> f64 {
    tokens as f64
}

/// An amount for people: two digits behind the point, up to four where they matter.
#[must_use]
pub(crate) fn dollars(amount: f64) -> String {
    if amount > 0.0 && amount < 0.000_05 {
        return "<0.0001".to_owned();
    }
    let text = format!("{amount:.4}");
    let text = text.strip_suffix('0').unwrap_or(&text);
    text.strip_suffix('0').unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one attempt spent.
    fn by_attempt(cost_usd: Option<f64>, tokens: Option<u64>) -> Spent {
        Spent {
            cost_usd,
            tokens,
            unknown_cost: u32::from(cost_usd.is_none()),
            unknown_tokens: u32::from(tokens.is_none()),
        }
    }

    fn ceiling(cost: impl Into<Option<f64>>, tokens: impl Into<Option<u64>>) -> Ceiling {
        Ceiling { max_cost_usd: cost.into(), max_tokens: tokens.into() }
    }

    fn near(what: &str) -> BudgetState {
        BudgetState::Near { what: what.to_owned() }
    }

    fn over(what: &str) -> BudgetState {
        BudgetState::Over { what: what.to_owned() }
    }

    #[test]
    fn the_borders_are_80_percent_and_all_of_it() {
        let limit = ceiling(1.0, None);
        let at = |cost: f64| budget_state(&limit, &by_attempt(Some(cost), None));
        assert_eq!(at(0.0), BudgetState::Below);
        assert_eq!(at(0.7999), BudgetState::Below);
        assert_eq!(at(0.8), near("0.80 of 1.00 USD"));
        assert_eq!(at(0.84), near("0.84 of 1.00 USD"));
        assert_eq!(at(0.9999), near("0.9999 of 1.00 USD"));
        assert_eq!(at(1.0), over("1.00 of 1.00 USD"));
        assert_eq!(at(27.6), over("27.60 of 1.00 USD"));
        let limit = ceiling(None, 1000);
        let at = |tokens: u64| budget_state(&limit, &by_attempt(Some(99.0), Some(tokens)));
        assert_eq!(at(799), BudgetState::Below);
        assert_eq!(at(800), near("800 of 1000 tokens"));
        assert_eq!(at(999), near("999 of 1000 tokens"));
        assert_eq!(at(1000), over("1000 of 1000 tokens"));
    }

    #[test]
    fn a_sum_of_floats_that_lacks_a_billionth_is_used_up() {
        let spent: Spent = (0..10).map(|_| by_attempt(Some(0.1), None)).sum();
        assert!(spent.cost_usd.unwrap() < 1.0);
        assert!(matches!(budget_state(&ceiling(1.0, None), &spent), BudgetState::Over { .. }));
        let spent: Spent = (0..8).map(|_| by_attempt(Some(0.1), None)).sum();
        assert!(matches!(budget_state(&ceiling(1.0, None), &spent), BudgetState::Near { .. }));
    }

    #[test]
    fn a_limit_beyond_floats_is_kept_to_the_token() {
        let at = |tokens| budget_state(&ceiling(None, u64::MAX), &by_attempt(None, Some(tokens)));
        assert!(matches!(at(u64::MAX - 1), BudgetState::Near { .. }));
        assert!(matches!(at(u64::MAX), BudgetState::Over { .. }));
        let full = by_attempt(None, Some(u64::MAX)).plus(by_attempt(None, Some(1)));
        assert_eq!(full.tokens, Some(u64::MAX));
    }

    #[test]
    fn unknown_spending_is_no_0_in_silence() {
        let spent = by_attempt(None, Some(10)).plus(by_attempt(Some(0.9), None));
        assert_eq!(
            spent,
            Spent { cost_usd: Some(0.9), tokens: Some(10), unknown_cost: 1, unknown_tokens: 1 }
        );
        assert_eq!(budget_state(&ceiling(1.0, None), &spent), near("0.90 of 1.00 USD (1 attempt unknown)"));
        assert_eq!(
            blind_spot(&ceiling(1.0, None), &spent).as_deref(),
            Some("the cost of 1 attempt is unknown")
        );
        let silent: Spent = (0..3).map(|_| by_attempt(None, None)).sum();
        assert_eq!((silent.cost_usd, silent.tokens), (None, None));
        assert_eq!(budget_state(&ceiling(1.0, 5), &silent), BudgetState::Below);
        assert_eq!(
            blind_spot(&ceiling(1.0, 5), &silent).as_deref(),
            Some("the cost of 3 attempts is unknown, the tokens of 3 attempts is unknown")
        );
        // What is not limited need not be known.
        assert_eq!(blind_spot(&ceiling(None, None), &silent), None);
        assert_eq!(blind_spot(&ceiling(1.0, 5), &Spent::default()), None);
    }

    #[test]
    fn a_limit_of_0_is_used_up_before_anything_is_spent_and_no_limit_never() {
        assert_eq!(budget_state(&ceiling(0.0, None), &Spent::default()), over("0.00 of 0.00 USD"));
        assert_eq!(budget_state(&ceiling(None, 0), &Spent::default()), over("0 of 0 tokens"));
        let much = by_attempt(Some(1e9), Some(u64::MAX));
        assert_eq!(budget_state(&Ceiling::default(), &much), BudgetState::Below);
        assert!(Ceiling::default().is_open() && !ceiling(0.0, None).is_open());
    }

    #[test]
    fn of_two_limits_the_worse_counts() {
        let at = |cost, tokens| budget_state(&ceiling(1.0, 100), &by_attempt(Some(cost), Some(tokens)));
        assert_eq!(at(0.9, 100), over("100 of 100 tokens"));
        assert_eq!(at(2.0, 90), over("2.00 of 1.00 USD"));
        assert_eq!(at(0.9, 90), near("0.90 of 1.00 USD, 90 of 100 tokens"));
        assert_eq!(at(0.9, 1), near("0.90 of 1.00 USD"));
        assert_eq!(at(0.1, 1), BudgetState::Below);
    }

    #[test]
    fn amounts_are_short_and_never_look_like_nothing() {
        for (amount, text) in [
            (0.0, "0.00"),
            (0.000_01, "<0.0001"),
            (0.000_1, "0.0001"),
            (0.005, "0.005"),
            (0.84, "0.84"),
            (1.0, "1.00"),
            (100.0, "100.00"),
            (1_234.567_89, "1234.5679"),
        ] {
            assert_eq!(dollars(amount), text);
        }
    }
}
