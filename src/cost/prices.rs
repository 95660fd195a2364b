//! The price of tokens: the price table `prices.json`, the built-in one and a root's own over it.
//!
//! Pure. Hard rule: no price is guessed. The cost of a model that no table names is unknown, never 0.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::cost::usage::Tokens;
use crate::job::annotations::is_annotation;
use crate::job::number::Usd;
use crate::job::place::is_day;
use crate::job::spec::FormatVersion;

const BUILT_IN: &str = include_str!("../../prices.json");

/// Makers that price their own models: `openai/gpt-5` is `gpt-5`. What others ask for the same model is another price.
const MAKERS: [&str; 4] = ["anthropic", "gemini", "google", "openai"];

/// A price table cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` is not a valid price table: {problem}")]
pub(crate) struct PricesError {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub problem: String,
}

/// The file `prices.json`. Prices are list prices for requests of ordinary length.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "engine price table")]
#[expect(dead_code, reason = "the version and the source are of the format: a file may and must have them")]
pub(crate) struct PriceFile {
    /// The version of this format; 1.
    #[serde(default)]
    pub schema_version: Option<FormatVersion>,
    /// The name of the table; each cost that is computed by it says so.
    pub table: String,
    /// The day that the prices are of.
    pub date: Day,
    /// Where they come from.
    pub source: String,
    /// The prices by model, as the tools name it; a date or `-latest` at its end may be left out.
    pub models: BTreeMap<String, ModelPrices>,
}

/// What a million tokens of one model cost, in US dollars.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPrices {
    /// Tokens of the prompt.
    pub input_usd_per_million: Usd,
    /// Of these, those that were read from a cache. Default: as the others.
    #[serde(default)]
    pub cached_input_usd_per_million: Option<Usd>,
    /// Of these, those that were written to a cache. Default: as the others.
    #[serde(default)]
    pub cache_write_usd_per_million: Option<Usd>,
    /// Tokens of the answer.
    pub output_usd_per_million: Usd,
    /// The day that this price is of. Default: that of the table.
    #[serde(default)]
    pub date: Option<Day>,
}

/// A day, `YYYY-MM-DD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Day(String);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_day(&text) && Timestamp::parse(&format!("{text}T00:00:00Z")).is_ok() {
            return Ok(Self(text));
        }
        Err(de::Error::custom("expected a day such as 2026-11-21"))
    }
}

impl JsonSchema for Day {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Day".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            "x-expected": "a day such as 2026-11-21",
        })
    }
}

/// What each model costs, by one table or several over each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct PriceTable {
    models: BTreeMap<String, Price>,
}

#[derive(Debug, Clone)]
struct Price {
    prices: ModelPrices,
    source: String,
}

/// What tokens cost, and by which price.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Priced {
    /// US dollars.
    pub usd: f64,
    /// The price that was taken: `<table>:<model>:<date>`.
    pub source: String,
}

impl PriceTable {
    /// The prices that are part of the program.
    #[must_use]
    pub(crate) fn built_in() -> &'static Self {
        static TABLE: OnceLock<PriceTable> = OnceLock::new();
        TABLE.get_or_init(|| Self::parse(BUILT_IN.as_bytes(), "built-in").unwrap_or_default())
    }

    /// Reads a table; `file` is what an error names.
    ///
    /// # Errors
    /// `PricesError` with the first thing that is wrong.
    pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Self, PricesError> {
        let read =
            read(bytes).map_err(|error| PricesError { file: file.to_owned(), problem: error.to_string() })?;
        let PriceFile { table, date, models, .. } = read;
        let priced = models.into_iter().map(|(model, prices)| {
            let Day(day) = prices.date.as_ref().unwrap_or(&date);
            let source = format!("{table}:{model}:{day}");
            (model, Price { prices, source })
        });
        Ok(Self { models: priced.collect() })
    }

    /// This table with another one over it: a model that both name has the price of the other, whole.
    #[must_use]
    pub(crate) fn overridden_by(&self, other: Self) -> Self {
        let mut models = self.models.clone();
        models.extend(other.models);
        Self { models }
    }

    /// What the tokens cost; none if the model has no price, or the tokens are not known or contradict each other.
    ///
    /// Tokens that are not said to be cached count as not cached. Requests that are dearer for their length, or caches that
    /// are kept for longer, are not seen in a sum of tokens: the true cost may be higher.
    #[must_use]
    pub(crate) fn cost(&self, model: &str, tokens: &Tokens) -> Option<Priced> {
        let Price { prices, source } = self.find(model)?;
        let (input, output) = (tokens.input_tokens?, tokens.output_tokens?);
        let cached = tokens.cached_input_tokens.unwrap_or(0);
        let written = tokens.cache_write_tokens.unwrap_or(0);
        let plain = input.checked_sub(cached)?.checked_sub(written)?;
        let whole = prices.input_usd_per_million;
        let usd = million(plain) * whole.get()
            + million(cached) * prices.cached_input_usd_per_million.unwrap_or(whole).get()
            + million(written) * prices.cache_write_usd_per_million.unwrap_or(whole).get()
            + million(output) * prices.output_usd_per_million.get();
        Some(Priced { usd, source: source.clone() })
    }

    /// The exact name first, then without its maker, then without the date at its end.
    fn find(&self, model: &str) -> Option<&Price> {
        let bare = without_maker(model);
        let names = [Some(model), Some(bare), without_date(model), without_date(bare)];
        names.into_iter().flatten().find_map(|name| self.models.get(name))
    }
}

fn read(bytes: &[u8]) -> serde_json::Result<PriceFile> {
    let bytes = crate::job::parse::without_mark(bytes);
    serde_json::from_slice(bytes).or_else(|first| {
        // An annotation, perhaps: without them the document shows whether something else is wrong.
        let mut document: Value = serde_json::from_slice(bytes)?;
        if !strip(&mut document) {
            return Err(first);
        }
        PriceFile::deserialize(&document)
    })
}

/// Takes the annotations out; true if there were any. The names of the models are the user's: `x-ai/grok-4` is one.
fn strip(document: &mut Value) -> bool {
    let mut any = false;
    let mut strip_object = |object: &mut Value| {
        if let Some(object) = object.as_object_mut() {
            let before = object.len();
            object.retain(|key, _| !is_annotation(key));
            any |= object.len() < before;
        }
    };
    strip_object(document);
    let models = document.get_mut("models").and_then(Value::as_object_mut);
    models.into_iter().flat_map(serde_json::Map::values_mut).for_each(strip_object);
    any
}

fn without_maker(model: &str) -> &str {
    match model.split_once('/') {
        Some((maker, name)) if MAKERS.contains(&maker) => name,
        _ => model,
    }
}

/// `a-20250929`, `a-2025-09-29` and `a-latest` without their ends.
fn without_date(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let cut = |digits: usize| model.len().checked_sub(digits + 1).and_then(|at| model.split_at_checked(at));
    let compact = cut(8).filter(|(_, end)| end.bytes().skip(1).all(|b| b.is_ascii_digit()));
    let dashed = cut(10).filter(|(_, end)| end.get(1..).is_some_and(is_day));
    compact.or(dashed).filter(|(_, end)| end.starts_with('-')).map(|(name, _)| name)
}

#[expect(clippy::cast_precision_loss, reason = "no one pays for 2^53 tokens")]
fn million(tokens: u64) -> f64 {
    tokens as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, cached: u64, written: u64, output: u64) -> Tokens {
        Tokens {
            input_tokens: Some(input),
            cached_input_tokens: Some(cached),
            cache_write_tokens: Some(written),
            output_tokens: Some(output),
        }
    }

    fn table(models: &str) -> PriceTable {
        let text =
            format!(r#"{{"table": "mine", "date": "2026-11-01", "source": "me", "models": {models}}}"#);
        PriceTable::parse(text.as_bytes(), "prices.json").unwrap()
    }

    fn refused(text: &str) -> String {
        PriceTable::parse(text.as_bytes(), "prices.json").unwrap_err().to_string()
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let text = format!("\u{feff}{BUILT_IN}");
        assert!(!PriceTable::parse(text.as_bytes(), "prices.json").unwrap().models.is_empty());
    }

    #[test]
    fn the_built_in_table_is_valid_and_names_the_models_of_all_makers() {
        let table = PriceTable::parse(BUILT_IN.as_bytes(), "built-in").unwrap();
        assert!((25..=45).contains(&table.models.len()), "{}", table.models.len());
        for model in ["claude-opus-4-6", "gpt-5.2-codex", "gemini-2.5-pro"] {
            let priced = table.cost(model, &tokens(1_000_000, 0, 0, 0)).unwrap();
            assert!(
                priced.usd > 0.0 && priced.source == format!("built-in:{model}:2026-02-05"),
                "{priced:?}"
            );
        }
    }

    /// Runs of aider's polyglot benchmark (its `polyglot_leaderboard.yml`): prompt and completion tokens, the total that
    /// aider reported, and what the list price makes of the tokens.
    #[test]
    fn published_runs_cost_what_was_reported_or_more_where_a_cache_made_them_cheaper() {
        for (model, input, output, reported, computed) in [
            ("claude-opus-4-20250514", 2_671_437, 380_717, 68.6253, 68.6253),
            ("claude-opus-4-20250514", 2_567_514, 363_142, 65.7484, 65.7484),
            ("o3-pro", 2_372_636, 1_235_902, 146.3249, 146.3249),
            ("claude-sonnet-4-20250514", 3_460_663, 433_373, 15.8155, 16.8826),
            ("openai/gpt-5", 2_675_561, 2_623_429, 29.0829, 29.5787),
            ("openai/gpt-5", 2_827_261, 1_468_799, 17.6930, 18.2221),
            ("openai/gpt-5", 2_534_059, 779_568, 10.3713, 10.9633),
        ] {
            let used = Tokens { input_tokens: Some(input), output_tokens: Some(output), ..Tokens::default() };
            let usd = PriceTable::built_in().cost(model, &used).unwrap().usd;
            assert!((usd - computed).abs() < 0.000_1 && usd > reported - 0.000_1, "{model}: {usd}");
        }
    }

    #[test]
    fn tokens_of_a_cache_are_among_the_input_and_are_not_paid_twice() {
        let table = table(
            r#"{"a": {"input_usd_per_million": 10, "cached_input_usd_per_million": 1,
                "cache_write_usd_per_million": 12.5, "output_usd_per_million": 100}}"#,
        );
        // 500 000 plain, 300 000 read, 200 000 written, 10 000 answered.
        let usd = table.cost("a", &tokens(1_000_000, 300_000, 200_000, 10_000)).unwrap().usd;
        assert!(near(usd, 5.0 + 0.3 + 2.5 + 1.0), "{usd}");
    }

    #[test]
    fn a_price_that_the_table_leaves_out_is_that_of_the_input_and_never_nothing() {
        let table = table(r#"{"a": {"input_usd_per_million": 10, "output_usd_per_million": 0}}"#);
        let usd = table.cost("a", &tokens(1_000_000, 300_000, 200_000, 10_000)).unwrap().usd;
        assert!(near(usd, 10.0), "{usd}");
    }

    #[test]
    fn what_is_not_known_costs_nobody_knows_what_and_not_0() {
        let table = table(r#"{"a": {"input_usd_per_million": 1, "output_usd_per_million": 1}}"#);
        let known = tokens(10, 0, 0, 10);
        for (model, tokens) in [
            ("b", known),
            ("", known),
            ("a", Tokens::default()),
            ("a", Tokens { input_tokens: None, ..known }),
            ("a", Tokens { output_tokens: None, ..known }),
            // More was cached than there was: the tool counts in another way.
            ("a", tokens(10, 11, 0, 0)),
            ("a", tokens(10, 6, 6, 0)),
            ("a", tokens(10, u64::MAX, u64::MAX, 0)),
        ] {
            assert_eq!(table.cost(model, &tokens), None, "{model} {tokens:?}");
        }
        let silent = Tokens { cached_input_tokens: None, cache_write_tokens: None, ..known };
        assert_eq!(table.cost("a", &silent), table.cost("a", &known));
    }

    #[test]
    fn a_model_is_known_with_its_maker_or_its_date_and_never_by_likeness() {
        let table = PriceTable::built_in();
        let found = |model: &str| table.find(model).map(|price| price.source.as_str());
        let sonnet = Some("built-in:claude-sonnet-4-5:2026-02-05");
        for model in [
            "claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5-latest",
            "anthropic/claude-sonnet-4-5",
            "anthropic/claude-sonnet-4-5-20250929",
        ] {
            assert_eq!(found(model), sonnet, "{model}");
        }
        assert_eq!(found("openai/gpt-5-2025-08-07"), Some("built-in:gpt-5:2026-02-05"));
        // It had another price than what is called so today.
        assert_eq!(found("gpt-4o-2024-05-13"), Some("built-in:gpt-4o-2024-05-13:2026-02-05"));
        for model in [
            "claude-sonnet-4-5-2025",
            "claude-sonnet-4-5-2025092x",
            "claude-sonnet-4-5-",
            "claude-sonnet-4-5[1m]",
            "Claude-Sonnet-4-5",
            "claude-sonnet",
            "gpt-5.2-codex-spark",
            "gpt",
            "fast/gpt-5",
            "github_copilot/gpt-5",
            "openrouter/openai/gpt-5",
            "/gpt-5",
            "-20250929",
            "-latest",
            "ä20250929",
            "gpt-5-2025-8-07",
        ] {
            assert_eq!(found(model), None, "{model}");
        }
    }

    #[test]
    fn a_roots_table_adds_and_overrides_model_by_model() {
        let mine = table(
            r#"{"gpt-5": {"input_usd_per_million": 7, "output_usd_per_million": 7, "date": "2026-10-31"},
                "x-ai/grok-4": {"input_usd_per_million": 3, "output_usd_per_million": 15, "_comment": "mine"}}"#,
        );
        let both = PriceTable::built_in().overridden_by(mine);
        let priced = |model: &str| both.cost(model, &tokens(1_000_000, 1_000_000, 0, 0)).unwrap();
        // The price is replaced whole: a discount of the built-in one does not go with it.
        assert_eq!(
            priced("gpt-5-2025-08-07"),
            Priced { usd: 7.0, source: "mine:gpt-5:2026-10-31".to_owned() }
        );
        assert_eq!(priced("x-ai/grok-4").source, "mine:x-ai/grok-4:2026-11-01");
        assert_eq!(priced("gpt-5-mini").source, "built-in:gpt-5-mini:2026-02-05");
    }

    #[test]
    fn a_table_that_is_wrong_is_refused_with_its_name_and_what_is_wrong() {
        let head = r#""table": "t", "date": "2026-11-01", "source": "s""#;
        for (text, wanted) in [
            ("", "EOF"),
            ("[]", "expected"),
            (r#"{"table": "t"}"#, "missing field `date`"),
            (&format!(r#"{{{head}, "models": {{}}, "prices": 1}}"#), "unknown field `prices`"),
            (&format!(r#"{{{head}, "models": {{}}, "_comment": 1, "prices": 1}}"#), "unknown field `prices`"),
            (&format!(r#"{{{head}, "models": {{}}, "schema_version": 2}}"#), "expected schema_version 1"),
            (
                &format!(r#"{{{head}, "models": {{"a": {{"input_usd_per_million": 1}}}}}}"#),
                "output_usd_per_million",
            ),
            (
                &format!(
                    r#"{{{head}, "models": {{"a": {{"input_usd_per_million": -1, "output_usd_per_million": 1}}}}}}"#
                ),
                "an amount in US dollars from 0",
            ),
            (
                &format!(
                    r#"{{{head}, "models": {{"a": {{"input_usd_per_million": 1, "output_usd_per_million": 1,
                    "input": 1}}}}}}"#
                ),
                "unknown field `input`",
            ),
            (r#"{"table": "t", "date": "2026-13-01", "source": "s", "models": {}}"#, "a day such as"),
            (r#"{"table": "t", "date": "today", "source": "s", "models": {}}"#, "a day such as"),
        ] {
            let problem = refused(text);
            assert!(problem.starts_with("`prices.json` is not a valid price table: "), "{problem}");
            assert!(problem.contains(wanted), "{problem} does not say {wanted}");
        }
        let annotated = format!(r#"{{{head}, "models": {{}}, "$schema": "s", "x-mine": 1, "_comment": []}}"#);
        assert!(PriceTable::parse(annotated.as_bytes(), "prices.json").is_ok());
    }
}
