//! gemini-cli: `gemini --output-format stream-json`, and its chat file.
//!
//! A retry leaves no trace in the stream, only on standard error. `result.status` counts, the exit code (an HTTP status cut to
//! eight bits) does not. Without a `result` the tool was killed, whatever it exited with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{at, event, first_line, name, number, text};
use super::phrases;
use super::seen::{Command, Finish, ReadAgent, SessionFacts, StreamFacts, StreamUsage};
use crate::cost::usage::{ModelUsage, Tokens};
use crate::job::class::Class;
use crate::process::Stream;
use crate::process::watch::Shown;

/// More without a line break is shown without one.
const LONGEST_UNSHOWN: usize = 16 << 10;

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Gemini {
    /// The answer so far: it comes in pieces.
    open_answer: String,
    /// The part of it that the log does not show yet.
    unshown: String,
    /// A loop of its own was stopped: it calls that success.
    looped: bool,
    /// The tokens of each message of the chat file: a message may be there twice.
    messages: BTreeMap<String, (Option<String>, Tokens)>,
}

impl ReadAgent for Gemini {
    fn line<'a>(&mut self, stream: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
        if stream == Stream::Stderr {
            return stderr(line, seen);
        }
        let Some(event) = event(line) else {
            seen.reads_no_event(line);
            return Shown::AsItIs;
        };
        seen.events += 1;
        let kind = text(&event, &["type"]);
        let shown = match kind {
            "init" => {
                let (session, model) = (text(&event, &["session_id"]), text(&event, &["model"]));
                seen.session_id = name(&event, &["session_id"]);
                seen.model = name(&event, &["model"]);
                Some(format!("gemini, model {model}, session {session}"))
            }
            "message" => self.message(&event, seen),
            "tool_use" => self.tool_use(&event, seen),
            "tool_result" => tool_result(&event, seen),
            "error" => self.error(&event, seen),
            "result" => self.result(&event, seen),
            _ => None,
        };
        let shown = if kind == "message" { shown } else { self.with_unshown(shown) };
        shown.map_or(Shown::Nothing, |text| Shown::Text(text.into()))
    }

    fn session_line(&mut self, line: &str, session: &mut SessionFacts) {
        let Some(event) = event(line) else { return };
        let id = text(&event, &["id"]);
        let Some(usage) = at(&event, &["tokens"]).filter(|usage| usage.is_object()) else { return };
        if id.is_empty() {
            return;
        }
        let model = name(&event, &["model"]);
        session.model = model.clone().or(session.model.take());
        let (output, thoughts) = (number(usage, &["output"]), number(usage, &["thoughts"]));
        let tokens = Tokens {
            input_tokens: number(usage, &["input"]),
            cached_input_tokens: number(usage, &["cached"]),
            cache_write_tokens: None,
            output_tokens: output.map(|output| output.saturating_add(thoughts.unwrap_or(0))),
        };
        let before = self.messages.insert(id.to_owned(), (model.clone(), tokens));
        session.replaces(before, (model, tokens));
        session.turns = self.messages.len() as u64;
    }

    fn finish(&mut self, seen: &mut StreamFacts) {
        self.end_answer(seen);
        if self.looped {
            // The requests of the last rounds are recorded nowhere.
            seen.usage_is_wrong = true;
            seen.fails(Class::Failed, "it repeated itself, and its own guard stopped it");
        }
    }
}

impl Gemini {
    fn end_answer(&mut self, seen: &mut StreamFacts) {
        let answer = std::mem::take(&mut self.open_answer);
        if !answer.is_empty() {
            seen.says(&answer);
        }
    }

    fn message(&mut self, event: &Value, seen: &mut StreamFacts) -> Option<String> {
        // The prompt is repeated as a message of the user.
        if text(event, &["role"]) != "assistant" {
            return None;
        }
        seen.goes_on();
        seen.answered = true;
        let piece = text(event, &["content"]);
        if at(event, &["delta"]).and_then(Value::as_bool) != Some(true) {
            self.open_answer.clear();
        }
        self.open_answer.push_str(piece);
        if self.open_answer.len() > 8 * super::seen::LONGEST_ANSWER {
            self.open_answer = crate::job::result::shorten(&self.open_answer, super::seen::LONGEST_ANSWER);
        }
        let known = self.unshown.len();
        self.unshown.push_str(piece);
        let whole = match piece.rfind('\n') {
            Some(at) => known + at + 1,
            // Between words: what must not be shown is not cut in two.
            None if self.unshown.len() > LONGEST_UNSHOWN => {
                self.unshown.rfind(' ').map_or(self.unshown.len(), |at| at + 1)
            }
            None => return None,
        };
        let rest = self.unshown.split_off(whole);
        let shown = std::mem::replace(&mut self.unshown, rest);
        Some(shown.trim_end().to_owned()).filter(|shown| !shown.is_empty())
    }

    /// Puts what was said and not yet shown before what comes next.
    fn with_unshown(&mut self, next: Option<String>) -> Option<String> {
        let unshown = std::mem::take(&mut self.unshown);
        match (unshown.trim().is_empty(), next) {
            (true, next) => next,
            (false, None) => Some(unshown.trim().to_owned()),
            (false, Some(next)) => Some(format!("{}\n{next}", unshown.trim())),
        }
    }

    fn tool_use(&mut self, event: &Value, seen: &mut StreamFacts) -> Option<String> {
        seen.goes_on();
        seen.answered = true;
        // What was said before a call is not the answer.
        self.open_answer.clear();
        let tool = text(event, &["tool_name"]);
        let parameter = |key| text(event, &["parameters", key]);
        if tool == "run_shell_command" {
            let command = parameter("command").to_owned();
            let call = text(event, &["tool_id"]).to_owned();
            seen.ran(Command { command, exit_code: None, source: "stream", call });
        }
        let target = ["command", "file_path", "absolute_path", "dir_path", "path", "pattern", "query"]
            .into_iter()
            .map(parameter)
            .find(|text| !text.is_empty())
            .unwrap_or_default();
        Some(format!("> {tool} {}", first_line(target)))
    }

    fn error(&mut self, event: &Value, seen: &mut StreamFacts) -> Option<String> {
        let message = text(event, &["message"]);
        self.looped |= message.contains("Loop detected");
        if text(event, &["severity"]) != "warning" {
            seen.is_in_trouble_of(phrases::class_in(message).unwrap_or(Class::Protocol), message, false);
        }
        Some(format!("error: {}", first_line(message)))
    }

    fn result(&mut self, event: &Value, seen: &mut StreamFacts) -> Option<String> {
        self.end_answer(seen);
        seen.usage = usage(event);
        if text(event, &["status"]) == "success" {
            seen.finish = Some(Finish::Success);
            return Some("ended".to_owned());
        }
        let before = seen.trouble.take();
        let message = text(event, &["error", "message"]);
        let told = before.as_ref().map_or("", |trouble| trouble.message.as_str());
        let message = if message.is_empty() { told } else { message };
        let class = phrases::class_in(message).or(before.as_ref().map(|trouble| trouble.class));
        seen.fails(class.unwrap_or(Class::Failed), message);
        Some(format!("failed: {}", first_line(message)))
    }
}

fn tool_result(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    let call = text(event, &["tool_id"]);
    if text(event, &["status"]) != "error" {
        seen.command_ended(call, 0);
        return None;
    }
    let (kind, message) = (text(event, &["error", "type"]), text(event, &["error", "message"]));
    let message = if message.is_empty() { text(event, &["output"]) } else { message };
    match kind {
        "tool_not_registered" | "policy_violation" | "permission_denied" => seen.was_denied(message),
        _ if seen.commands.iter().any(|command| command.call == call) => {}
        _ => seen.edit_failed(message),
    }
    Some(format!("  failed: {}", first_line(message)))
}

/// What it says on standard error when it is not set up for a service.
const AUTH_WORDS: [&str; 3] =
    ["Invalid auth method", "set an Auth method", "you must specify the GEMINI_API_KEY"];

/// `Attempt 1 failed with status 429. Retrying with backoff...`; everything else there is noise.
fn stderr<'a>(line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
    if line.starts_with("Attempt ") && line.contains(" failed") {
        let status = phrases::status_in(line);
        let class = phrases::class_of(status, line).unwrap_or(Class::Overloaded);
        seen.is_in_trouble_of(class, line, true);
    } else if AUTH_WORDS.iter().any(|words| line.contains(words)) {
        seen.is_in_trouble_of(Class::Auth, line, false);
    }
    Shown::AsItIs
}

/// The statistics of a run: by answering model, the input with what was read from the cache.
fn usage(event: &Value) -> StreamUsage {
    let tokens = |stats: &Value| Tokens {
        input_tokens: number(stats, &["input_tokens"]),
        cached_input_tokens: number(stats, &["cached"]),
        cache_write_tokens: None,
        output_tokens: number(stats, &["output_tokens"]).map(|output| {
            // Only the total includes thinking.
            let (total, input) = (number(stats, &["total_tokens"]), number(stats, &["input_tokens"]));
            total.zip(input).map_or(output, |(total, input)| total.saturating_sub(input).max(output))
        }),
    };
    let Some(stats) = at(event, &["stats"]) else { return StreamUsage::Untold };
    let by_model = at(stats, &["models"]).and_then(Value::as_object);
    let mut models: Vec<ModelUsage> = by_model
        .into_iter()
        .flatten()
        .map(|(model, stats)| ModelUsage {
            model: Some(model.clone()),
            tokens: tokens(stats),
            cost_usd: None,
        })
        .filter(|usage| usage.tokens.total().unwrap_or(0) > 0)
        .collect();
    let sum = models.iter().fold(Tokens::default(), |sum, usage| sum.plus(usage.tokens));
    if sum.total() != tokens(stats).total() && tokens(stats).total().unwrap_or(0) > 0 {
        models = vec![ModelUsage { model: None, tokens: tokens(stats), cost_usd: None }];
    }
    if models.is_empty() { StreamUsage::Untold } else { StreamUsage::OfThisRun(models) }
}
