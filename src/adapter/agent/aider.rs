//! aider: its prose, and the analytics log, which is its only channel for programs.
//!
//! The exit code is 0 after nearly every failure. A message that was begun and never counted failed at the service; for what
//! does not fit the context it invents numbers, and for an answer that was cut off it reports none.

use serde_json::Value;

use super::json::{at, event, name, number, text};
use super::phrases;
use super::seen::{Finish, ReadAgent, SessionFacts, StreamFacts};
use crate::cost::usage::Tokens;
use crate::job::class::Class;
use crate::process::Stream;
use crate::process::watch::Shown;

/// An error is this many lines long at most.
const ERROR_LINES: usize = 12;

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Aider {
    line_before: String,
    /// The words of the last error that its library named.
    failure: Option<String>,
    /// How many lines of it were taken.
    error_lines: usize,
    reflections_used_up: bool,
    empty: bool,
    token_limit: bool,
    /// Messages that were begun, and messages that were counted; none without an analytics log.
    begun: u64,
    counted: u64,
    /// True if the log reports its end: it is not there after a crash or a signal.
    exited: bool,
    last_completion: u64,
}

impl ReadAgent for Aider {
    fn line<'a>(&mut self, _: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
        let line_text = line.trim();
        if line_text.is_empty() {
            return Shown::AsItIs;
        }
        if line_text.starts_with("Tokens: ") || line_text.starts_with("Applied edit to ") {
            seen.answered = true;
            seen.goes_on();
            self.failure = None;
        }
        self.look(line_text);
        self.look_at_error(line_text, seen);
        Shown::AsItIs
    }

    fn session_line(&mut self, line: &str, session: &mut SessionFacts) {
        let Some(event) = event(line) else { return };
        match text(&event, &["event"]) {
            "message_send_starting" => self.begun += 1,
            "exit" => self.exited = true,
            "message_send" => {
                self.counted += 1;
                self.message_counted(at(&event, &["properties"]).unwrap_or(&Value::Null), session);
            }
            _ => {}
        }
    }

    /// Its prose has no end, its log has.
    fn has_ended(&self, _: &StreamFacts) -> bool {
        self.exited
    }

    fn finish(&mut self, seen: &mut StreamFacts) {
        seen.events = self.begun;
        seen.exit_code_counts = true;
        let failed_at_the_service = self.begun > self.counted;
        let trouble = if self.token_limit {
            // A context that is too long is counted, with numbers of its own invention; a cut answer is not.
            seen.usage_is_wrong = true;
            let was_cut = failed_at_the_service || self.last_completion > 0;
            let class = if was_cut { Class::Failed } else { Class::ContextOverflow };
            let what = if was_cut { "the answer was cut at its limit" } else { "the context is too long" };
            Some((class, what.to_owned()))
        } else if failed_at_the_service || (self.begun == 0 && self.failure.is_some()) {
            let words = self.failure.as_deref().map_or("the service did not answer", str::trim).to_owned();
            Some((class_of(&words).unwrap_or(Class::Failed), words))
        } else if self.empty {
            let class = if self.last_completion > 0 { Class::Refused } else { Class::Protocol };
            Some((class, "the model returned no answer".to_owned()))
        } else if self.reflections_used_up {
            Some((Class::Failed, "its edits did not apply three times in a row".to_owned()))
        } else {
            None
        };
        match trouble {
            Some((class, message)) => seen.fails(class, &message),
            None if self.counted > 0 && self.exited => {
                seen.answered = true;
                seen.finish = Some(Finish::Success);
            }
            None => {}
        }
    }
}

impl Aider {
    /// What it says of itself, as whole lines: an answer may hold the same words.
    fn look(&mut self, line: &str) {
        let is_used_up = line.strip_prefix("Only ").is_some_and(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit()) == " reflections allowed, stopping."
        });
        self.reflections_used_up |= is_used_up;
        self.empty |= line == "Empty response received from LLM. Check your provider account?";
        // A long name of a model breaks the line.
        let joined = format!("{} {line}", self.line_before);
        let limit = "has hit a token limit!";
        self.token_limit |=
            joined.ends_with(limit) && (line.starts_with("Model ") || self.line_before.starts_with("Model "));
        line.clone_into(&mut self.line_before);
    }

    /// The error of its library, and whether it tries again: the lines as aider prints them, for an answer may speak of both.
    fn look_at_error(&mut self, line: &str, seen: &mut StreamFacts) {
        if line.starts_with("litellm.") && line.contains("Error") {
            self.failure = Some(String::new());
            self.error_lines = 0;
        }
        if line.contains("not able to authenticate you") && self.failure.is_none() {
            self.failure = Some(String::new());
        }
        let is_retry = is_retry(line);
        if let Some(failure) = self.failure.as_mut().filter(|_| self.error_lines < ERROR_LINES && !is_retry) {
            failure.push_str(line);
            failure.push(' ');
            self.error_lines += 1;
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| is_retry) {
            let class = class_of(failure).unwrap_or(Class::Overloaded);
            seen.is_in_trouble_of(class, failure.trim(), true);
        }
    }

    fn message_counted(&mut self, properties: &Value, session: &mut SessionFacts) {
        // It hides the names of models that it does not know.
        let model = name(properties, &["main_model"]).filter(|model| !model.ends_with("REDACTED"));
        self.last_completion = number(properties, &["completion_tokens"]).unwrap_or(0);
        let tokens = Tokens {
            input_tokens: number(properties, &["prompt_tokens"]),
            cached_input_tokens: None,
            cache_write_tokens: None,
            output_tokens: number(properties, &["completion_tokens"]),
        };
        let sum = session.tokens.entry(model.clone()).or_default();
        *sum = sum.plus(tokens);
        // 0 is what it says of a model whose price it does not know.
        if let Some(cost) = super::seen::usd(at(properties, &["cost"])).filter(|cost| *cost > 0.0) {
            *session.costs.entry(model.clone()).or_default() += cost;
        }
        session.model = model.or(session.model.take());
        session.turns += 1;
    }
}

/// `Retrying in 0.5 seconds...`, and nothing else on the line.
fn is_retry(line: &str) -> bool {
    let number = line.strip_prefix("Retrying in ").and_then(|rest| rest.strip_suffix(" seconds..."));
    number.is_some_and(|number| number.parse::<f64>().is_ok())
}

/// The class of an error: its words first, for one name covers several things; then its name.
fn class_of(words: &str) -> Option<Class> {
    let by_words = phrases::class_in(words);
    let named = |name: &str| words.contains(name);
    match by_words {
        Some(Class::Overloaded) | None if named("AuthenticationError") => Some(Class::Auth),
        None if named("RateLimitError") => Some(Class::RateLimited),
        None if named("NotFoundError") || named("BadRequestError") => Some(Class::Failed),
        None if named("APIError") || named("InternalServerError") => Some(Class::Overloaded),
        other => other,
    }
}
