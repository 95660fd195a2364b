//! Sums over the lines of the usage ledger, by job, run, tool, model or day.
//!
//! Pure. Hard rule: a sum counts the attempts that it cannot see; an unreported number is never 0 in it.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::cost::budget::Spent;
use crate::cost::usage::LedgerLine;
use crate::job::Outcome;
use crate::job::id::JobId;

/// What the lines are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The job.
    Job,
    /// The run; a job without one is a run by itself.
    Run,
    /// The adapter.
    Tool,
    /// The model.
    Model,
    /// The UTC day on which the line was written.
    Day,
}

impl By {
    /// The word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Run => "run",
            Self::Tool => "tool",
            Self::Model => "model",
            Self::Day => "day",
        }
    }
}

/// What the lines of a row have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Their job, run, tool, model or day.
    Named(String),
    /// A job that belongs to no run, where lines are put together by run.
    JobWithoutRun(String),
    /// Nothing is known: no tool, no model.
    Unknown,
}

impl Key {
    /// The key of a line.
    #[must_use]
    pub(crate) fn from_line(line: &LedgerLine, by: By) -> Self {
        let named = |text: Option<&str>| text.map_or(Self::Unknown, |text| Self::Named(text.to_owned()));
        match by {
            By::Job => named(Some(line.job_id.as_str())),
            By::Run => match &line.run_id {
                Some(run) => named(Some(run)),
                None => Self::JobWithoutRun(line.job_id.to_string()),
            },
            By::Tool => named(line.tool.as_ref().map(crate::job::id::ToolId::as_str)),
            By::Model => named(line.model.as_deref()),
            By::Day => Self::Named(line.at.day()),
        }
    }
}

/// A sum over attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum<T> {
    /// The sum of what is known; none if nothing is.
    pub known: Option<T>,
    /// How many attempts reported nothing, or only a part.
    pub unknown_attempts: u32,
}

/// The usage of all attempts of some lines.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Totals {
    /// How many attempts there are.
    pub attempts: u32,
    /// How many of them ended and did not succeed.
    pub failed_attempts: u32,
    /// How often a model was asked.
    pub turns: Sum<u64>,
    /// All tokens of the prompts.
    pub input_tokens: Sum<u64>,
    /// Of these, those that were read from a cache.
    pub cached_input_tokens: Sum<u64>,
    /// Of these, those that were written to a cache.
    pub cache_write_tokens: Sum<u64>,
    /// All tokens of the answers.
    pub output_tokens: Sum<u64>,
    /// Input and output together.
    pub tokens: Sum<u64>,
    /// What the tools report, in US dollars.
    pub cost_usd: Sum<f64>,
    /// What the tokens cost by the price table, in US dollars.
    pub computed_cost_usd: Sum<f64>,
    /// What counts against a budget: what is reported, else what is computed.
    pub spent_usd: Sum<f64>,
    /// Of this, what the failed attempts cost.
    pub failed_spent_usd: Sum<f64>,
}

impl Totals {
    /// Sums lines, of which no two have one key.
    #[must_use]
    pub(crate) fn sum_lines<'a>(lines: impl IntoIterator<Item = &'a LedgerLine>) -> Self {
        let mut attempts: BTreeMap<(&JobId, u32, Option<Timestamp>), Attempt> = BTreeMap::new();
        for line in lines {
            attempts.entry((&line.job_id, line.attempt, line.started_at)).or_default().add(line);
        }
        let mut totals = Self::default();
        for attempt in attempts.values() {
            totals.add(attempt);
        }
        if totals.attempts > 0 && totals.failed_attempts == 0 {
            // This 0 is known.
            totals.failed_spent_usd.known = Some(0.0);
        }
        totals
    }

    /// What counts against a budget.
    #[must_use]
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            cost_usd: self.spent_usd.known,
            tokens: self.tokens.known,
            unknown_cost: self.spent_usd.unknown_attempts,
            unknown_tokens: self.tokens.unknown_attempts,
        }
    }

    /// What part of the money went to failed attempts, from 0 to 1; none where the cost of one is not known.
    #[must_use]
    pub(crate) fn failed_share(&self) -> Option<f64> {
        let all = self.spent_usd.known.filter(|usd| *usd > 0.0 && self.spent_usd.unknown_attempts == 0)?;
        Some(self.failed_spent_usd.known.unwrap_or(0.0) / all)
    }

    fn add(&mut self, attempt: &Attempt) {
        self.attempts = self.attempts.saturating_add(1);
        // Only the first line of an attempt has its turns: their absence from the others is not unknown.
        add(&mut self.turns, Figure { missing: attempt.turns.known.is_none(), ..attempt.turns });
        add(&mut self.input_tokens, attempt.input);
        add(&mut self.cached_input_tokens, attempt.cached);
        add(&mut self.cache_write_tokens, attempt.written);
        add(&mut self.output_tokens, attempt.output);
        add(&mut self.tokens, attempt.tokens);
        add(&mut self.cost_usd, attempt.reported);
        add(&mut self.computed_cost_usd, attempt.computed);
        add(&mut self.spent_usd, attempt.spent);
        if attempt.outcome.is_some_and(|outcome| outcome != Outcome::Succeeded) {
            self.failed_attempts = self.failed_attempts.saturating_add(1);
            add(&mut self.failed_spent_usd, attempt.spent);
        }
    }
}

/// The lines by what they have in common, in the order of their keys.
#[must_use]
pub(crate) fn by(lines: &[LedgerLine], by: By) -> BTreeMap<Key, Totals> {
    let mut groups: BTreeMap<Key, Vec<&LedgerLine>> = BTreeMap::new();
    for line in lines {
        groups.entry(Key::from_line(line, by)).or_default().push(line);
    }
    groups.into_iter().map(|(key, lines)| (key, Totals::sum_lines(lines))).collect()
}

/// One figure of one attempt, from all its lines.
#[derive(Debug, Clone, Copy, Default)]
struct Figure<T> {
    known: Option<T>,
    missing: bool,
}

impl<T: Plus> Figure<T> {
    fn add(&mut self, value: Option<T>) {
        self.missing |= value.is_none();
        self.known = plus(self.known, value);
    }
}

fn add<T: Plus>(sum: &mut Sum<T>, told: Figure<T>) {
    sum.known = plus(sum.known, told.known);
    sum.unknown_attempts = sum.unknown_attempts.saturating_add(u32::from(told.missing));
}

#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    outcome: Option<Outcome>,
    turns: Figure<u64>,
    input: Figure<u64>,
    cached: Figure<u64>,
    written: Figure<u64>,
    output: Figure<u64>,
    tokens: Figure<u64>,
    reported: Figure<f64>,
    computed: Figure<f64>,
    spent: Figure<f64>,
}

impl Attempt {
    fn add(&mut self, line: &LedgerLine) {
        self.outcome = line.outcome.or(self.outcome);
        self.turns.add(line.turns);
        self.input.add(line.input_tokens);
        self.cached.add(line.cached_input_tokens);
        self.written.add(line.cache_write_tokens);
        self.output.add(line.output_tokens);
        self.tokens.add(line.tokens().total());
        // Half of them is not all of them.
        self.tokens.missing |= line.input_tokens.is_none() || line.output_tokens.is_none();
        self.reported.add(line.cost_usd);
        self.computed.add(line.computed_cost_usd);
        self.spent.add(line.cost());
    }
}

trait Plus: Copy {
    fn plus(self, other: Self) -> Self;
}

impl Plus for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Plus for f64 {
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

fn plus<T: Plus>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.plus(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn line(job: &str, attempt: u32, more: &serde_json::Value) -> LedgerLine {
        let mut line = json!({
            "schema_version": 1, "at": "2026-11-21T10:00:00.000Z", "job_id": job, "attempt": attempt,
            "run_id": null, "workstream_id": null, "tool": "codex", "model": "m", "session_id": null,
            "outcome": "succeeded", "reason_code": null, "turns": null, "input_tokens": null,
            "cached_input_tokens": null, "cache_write_tokens": null, "output_tokens": null,
            "tokens_source": "none", "cost_usd": null, "computed_cost_usd": null, "price_source": null,
        });
        let (line_object, more) = (line.as_object_mut().unwrap(), more.as_object().unwrap().clone());
        line_object.extend(more);
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn an_attempt_that_told_nothing_is_counted_and_adds_no_0() {
        let silent = line("a", 1, &json!({"outcome": "failed"}));
        let alone = Totals::sum_lines([&silent]);
        assert_eq!((alone.attempts, alone.failed_attempts), (1, 1));
        assert_eq!(alone.input_tokens, Sum { known: None, unknown_attempts: 1 });
        assert_eq!(alone.spent_usd, Sum { known: None, unknown_attempts: 1 });
        assert_eq!(alone.failed_share(), None);
        let told = line("a", 2, &json!({"input_tokens": 10, "output_tokens": 0, "cost_usd": 0.5}));
        let both = Totals::sum_lines([&silent, &told]);
        assert_eq!(both.input_tokens, Sum { known: Some(10), unknown_attempts: 1 });
        // A reported 0 is known.
        assert_eq!(both.output_tokens, Sum { known: Some(0), unknown_attempts: 1 });
        let spent = Spent { cost_usd: Some(0.5), tokens: Some(10), unknown_cost: 1, unknown_tokens: 1 };
        assert_eq!(both.spent(), spent);
    }

    #[test]
    fn the_lines_of_an_attempts_models_are_one_attempt() {
        let lines = [
            line(
                "a",
                1,
                &json!({"model": "big", "turns": 3, "cost_usd": 1.0, "input_tokens": 5, "output_tokens": 1}),
            ),
            line("a", 1, &json!({"model": "small", "computed_cost_usd": 0.25, "input_tokens": 7})),
        ];
        let totals = Totals::sum_lines(&lines);
        assert_eq!(totals.attempts, 1);
        assert_eq!(totals.turns, Sum { known: Some(3), unknown_attempts: 0 });
        assert_eq!(totals.cost_usd, Sum { known: Some(1.0), unknown_attempts: 1 });
        assert_eq!(totals.computed_cost_usd, Sum { known: Some(0.25), unknown_attempts: 1 });
        assert_eq!(totals.spent_usd, Sum { known: Some(1.25), unknown_attempts: 0 });
        // The output of one is not known.
        assert_eq!(totals.tokens, Sum { known: Some(13), unknown_attempts: 1 });
    }

    #[test]
    fn what_failed_attempts_cost_is_told_apart() {
        let lines = [
            line("a", 1, &json!({"outcome": "timed_out", "cost_usd": 3.0})),
            line("a", 2, &json!({"cost_usd": 1.0})),
            // It is open: it has not failed.
            line("a", 3, &json!({"outcome": null, "cost_usd": 0.0})),
        ];
        let totals = Totals::sum_lines(&lines);
        assert_eq!((totals.attempts, totals.failed_attempts), (3, 1));
        assert_eq!(totals.failed_spent_usd.known, Some(3.0));
        assert_eq!(totals.failed_share(), Some(0.75));
        assert_eq!(Totals::sum_lines(&lines[1..]).failed_spent_usd.known, Some(0.0));
        assert_eq!(Totals::sum_lines(&[]).failed_spent_usd.known, None);
    }

    #[test]
    fn a_job_without_run_is_a_run_by_itself_and_no_run_of_its_name() {
        let lines =
            [line("a", 1, &json!({})), line("a", 2, &json!({})), line("b", 1, &json!({"run_id": "a"}))];
        let rows = by(&lines, By::Run);
        let counts: Vec<_> = rows.iter().map(|(key, totals)| (key.clone(), totals.attempts)).collect();
        assert_eq!(counts, [(Key::Named("a".to_owned()), 1), (Key::JobWithoutRun("a".to_owned()), 2)]);
    }

    fn some_line() -> impl Strategy<Value = LedgerLine> {
        let count = || proptest::option::of(0u64..1000);
        // Quarters of a dollar: their sums are exact, in any order.
        let usd = || proptest::option::of((0u32..1000).prop_map(|quarters| f64::from(quarters) / 4.0));
        let names = (0..4u8, 1..4u32, 0..3u8, 0..3u8, 0..3u8, 1..4u8);
        (names, (count(), count(), count(), count(), count()), (usd(), usd()), any::<bool>()).prop_map(
            |((job, attempt, run, tool, model, day), (turns, input, cached, written, output), cost, ok)| {
                line(
                    &format!("j{job}"),
                    attempt,
                    &json!({
                        "run_id": (run > 0).then(|| format!("r{run}")), "tool": (tool > 0).then(|| format!("t{tool}")),
                        "model": (model > 0).then(|| format!("m{model}")), "at": format!("2026-11-0{day}T00:00:00Z"),
                        "outcome": if ok { "succeeded" } else { "failed" }, "turns": turns, "input_tokens": input,
                        "cached_input_tokens": cached, "cache_write_tokens": written, "output_tokens": output,
                        "cost_usd": cost.0, "computed_cost_usd": cost.1,
                    }),
                )
            },
        )
    }

    fn sums(totals: &Totals) -> ([Option<u64>; 6], [Option<f64>; 3]) {
        let Totals { turns, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, .. } =
            totals;
        let counts =
            [turns, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, &totals.tokens];
        let costs = [&totals.cost_usd, &totals.computed_cost_usd, &totals.spent_usd];
        (counts.map(|sum| sum.known), costs.map(|sum| sum.known))
    }

    proptest! {
        #[test]
        fn the_rows_of_any_partition_add_up_to_the_total(lines in proptest::collection::vec(some_line(), 0..40)) {
            let total = Totals::sum_lines(&lines);
            for partition in [By::Job, By::Run, By::Tool, By::Model, By::Day] {
                let rows = by(&lines, partition);
                let added = rows.values().map(sums).fold(sums(&Totals::default()), |(counts, costs), row| {
                    (
                        std::array::from_fn(|i| plus(counts[i], row.0[i])),
                        std::array::from_fn(|i| plus(costs[i], row.1[i])),
                    )
                });
                prop_assert_eq!(added, sums(&total), "{:?}", partition);
                let attempts: u32 = rows.values().map(|row| row.attempts).sum();
                prop_assert!(attempts >= total.attempts);
                prop_assert!(partition != By::Job || attempts == total.attempts);
                // A row is blind for an attempt if, and only if, the total is.
                let blind = rows.values().any(|row| row.spent_usd.unknown_attempts > 0);
                prop_assert_eq!(blind, total.spent_usd.unknown_attempts > 0);
            }
        }
    }
}
