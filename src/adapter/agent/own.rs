//! An agent of one's own: its exit code and the worktree are the verdict, and a line of JSON may report its usage.
//!
//! `{"engine_usage": {"model": "m", "input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 2, "cost_usd": 0.1,
//! "session_id": "s"}}` is a line of its own on standard output; each key may be absent. Of several lines the last one of
//! each model counts, so an agent that prints its sums as it goes is held to its budget while it runs. A line without a
//! model counts for all models: it and the others replace each other.

use serde_json::Value;

use super::json::{at, event, name, number};
use super::seen::{Finish, ReadAgent, SessionFacts, StreamFacts, StreamUsage};
use crate::cost::usage::{ModelUsage, Tokens};
use crate::job::parse::nearest::unknown_keys;
use crate::process::Stream;
use crate::process::watch::Shown;

/// The key of the line.
const USAGE: &str = "engine_usage";

/// `EX_TEMPFAIL`: the service is busy, and the job goes on later.
pub(crate) const BUSY: i32 = 75;

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Own;

impl ReadAgent for Own {
    fn line<'a>(&mut self, stream: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
        // Most lines are prose: they are not looked through as JSON.
        if stream == Stream::Stdout
            && line.contains(USAGE)
            && let Some(event) = event(line)
            && let Some(usage) = at(&event, &[USAGE]).filter(|usage| usage.is_object())
        {
            take(usage, seen);
        }
        Shown::AsItIs
    }

    fn session_line(&mut self, _: &str, _: &mut SessionFacts) {}

    fn finish(&mut self, seen: &mut StreamFacts) {
        // It came to its end if its exit code says so.
        seen.finish = Some(Finish::Success);
        seen.exit_code_counts = true;
        seen.busy_exit_code = Some(BUSY);
    }
}

const KEYS: [&str; 6] =
    ["model", "input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "session_id"];

/// The warning of a key whose value is of the wrong kind.
fn not_taken((key, value): (&String, &Value)) -> Option<String> {
    let (is_taken, wanted) = match key.as_str() {
        "model" | "session_id" => (value.is_string(), "a text"),
        "cost_usd" => (super::seen::usd(Some(value)).is_some(), "a non-negative amount"),
        key if KEYS.contains(&key) => (value.as_u64().is_some(), "a non-negative whole number"),
        _ => return None,
    };
    let is_wrong = !is_taken && !value.is_null();
    is_wrong.then(|| format!("`{key}` in `{USAGE}` is not {wanted}; it is ignored"))
}

fn take(usage: &Value, seen: &mut StreamFacts) {
    seen.events += 1;
    if let Some(usage) = usage.as_object() {
        unknown_keys(usage, &KEYS, "`engine_usage`").for_each(|warning| seen.warn(warning));
        usage.iter().filter_map(not_taken).for_each(|warning| seen.warn(warning));
    }
    seen.session_id = name(usage, &["session_id"]).or(seen.session_id.take());
    let model = name(usage, &["model"]);
    seen.model = model.clone().or(seen.model.take());
    let used = ModelUsage {
        model: model.clone(),
        tokens: Tokens {
            input_tokens: number(usage, &["input_tokens"]),
            cached_input_tokens: number(usage, &["cached_input_tokens"]),
            cache_write_tokens: None,
            output_tokens: number(usage, &["output_tokens"]),
        },
        cost_usd: super::seen::usd(at(usage, &["cost_usd"])),
    };
    if used.tokens == Tokens::default() && used.cost_usd.is_none() {
        return;
    }
    let mut models = match std::mem::take(&mut seen.usage) {
        StreamUsage::OfThisRun(models) => models,
        StreamUsage::Untold | StreamUsage::OfTheSession(_) => Vec::new(),
    };
    models.retain(|known| known.model.is_some() && model.is_some());
    let has_room = models.len() < super::seen::KEPT;
    match models.iter_mut().find(|known| known.model == model) {
        Some(known) => *known = used,
        None if has_room => models.push(used),
        None => {}
    }
    seen.usage = StreamUsage::OfThisRun(models);
}

#[cfg(test)]
mod tests {
    use super::super::usage::{SessionBefore, used};
    use super::*;
    use crate::cost::usage::UsageSource;

    fn seen(lines: &[&str]) -> StreamFacts {
        let (mut own, mut seen) = (Own, StreamFacts::default());
        for line in lines {
            own.line(Stream::Stdout, line, &mut seen);
        }
        own.finish(&mut seen);
        seen
    }

    #[test]
    fn the_last_line_of_each_model_counts_and_prose_and_nonsense_do_not() {
        let seen = seen(&[
            "I read {\"engine_usage\": {\"cost_usd\": 9}}",
            r#"{"engine_usage": {"model": "a", "input_tokens": 10, "cost_usd": 0.5, "session_id": "s-1"}}"#,
            r#"{"engine_usage": {"model": "b", "output_tokens": 7}}"#,
            r#"  {"engine_usage": {"model": "a", "input_tokens": 30, "cached_input_tokens": 20, "output_tokens": 5, "cost_usd": 1.5}}"#,
            r#"{"engine_usage": [1]}"#,
            r#"{"engine_usage": {"#,
            r#"{"usage": {"cost_usd": 7}}"#,
        ]);
        assert_eq!(seen.session_id.as_deref(), Some("s-1"));
        let used = used(&seen, &SessionFacts::default(), SessionBefore::New);
        let told: Vec<_> =
            used.models.iter().map(|u| (u.model.as_deref(), u.tokens.total(), u.cost_usd)).collect();
        assert_eq!(told, [(Some("a"), Some(35), Some(1.5)), (Some("b"), Some(7), None)]);
    }

    #[test]
    fn a_line_without_a_model_counts_for_all_models_and_nothing_is_counted_twice() {
        let a = r#"{"engine_usage": {"model": "a", "input_tokens": 10}}"#;
        let b = r#"{"engine_usage": {"model": "b", "input_tokens": 20}}"#;
        let all = r#"{"engine_usage": {"input_tokens": 35}}"#;
        let session = r#"{"engine_usage": {"session_id": "s-1"}}"#;
        let sums = |lines: &[&str]| {
            let used = used(&seen(lines), &SessionFacts::default(), SessionBefore::New);
            used.models.iter().map(|usage| usage.tokens.total()).collect::<Vec<_>>()
        };
        assert_eq!(sums(&[a, b, all, session]), [Some(35)]);
        assert_eq!(sums(&[all, session, a, b]), [Some(10), Some(20)]);
        assert_eq!(sums(&[all, all]), [Some(35)]);
    }

    #[test]
    fn what_is_not_read_of_a_line_is_warned_of_once_with_the_nearest_key() {
        let misspelled =
            r#"{"engine_usage": {"input_token": 3, "cost": 1, "_comment": "c", "output_tokens": 7}}"#;
        let found = seen(&[misspelled, misspelled]);
        let want = [
            "unknown key `cost` in `engine_usage` (did you mean `cost_usd`?); it is ignored",
            "unknown key `input_token` in `engine_usage` (did you mean `input_tokens`?); it is ignored",
        ];
        assert_eq!(found.warnings, want);
        let wrong =
            r#"{"engine_usage": {"cost_usd": "1", "input_tokens": 1.5, "model": 4, "session_id": null}}"#;
        let want = [
            "`cost_usd` in `engine_usage` is not a non-negative amount; it is ignored",
            "`input_tokens` in `engine_usage` is not a non-negative whole number; it is ignored",
            "`model` in `engine_usage` is not a text; it is ignored",
        ];
        assert_eq!(seen(&[wrong]).warnings, want);
        let many: Vec<String> = (0..100).map(|n| format!(r#"{{"engine_usage": {{"zzz{n}": 1}}}}"#)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(seen(&many).warnings.len(), super::super::seen::MOST_WARNINGS);
    }

    #[test]
    fn a_cost_without_tokens_is_a_cost_and_numbers_that_are_none_are_not_known() {
        let of = |line: &str| used(&seen(&[line]), &SessionFacts::default(), SessionBefore::New);
        let costs = of(r#"{"engine_usage": {"cost_usd": 2}}"#);
        assert_eq!((costs.models[0].cost_usd, costs.source), (Some(2.0), UsageSource::Stream));
        let nonsense = of(r#"{"engine_usage": {"input_tokens": -3, "output_tokens": "9", "cost_usd": -1}}"#);
        assert_eq!((nonsense.models[0].cost_usd, nonsense.source), (None, UsageSource::None));
    }
}
