//! Claude Code: `claude -p --output-format stream-json --verbose`, and its transcript.
//!
//! `subtype: "success"` means nothing without `is_error`; `output_tokens` of a message in the stream is a placeholder and is
//! never added; `input_tokens` are without the cached ones.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{at, event, first_line, list, name, number, text};
use super::seen::{Command, Finish, ReadAgent, SessionFacts, StreamFacts, StreamUsage};
use super::{phrases, reset_time};
use crate::cost::usage::{ModelUsage, Tokens};
use crate::job::class::Class;
use crate::process::Stream;
use crate::process::watch::Shown;

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Claude {
    /// The tokens of each message of the transcript: a message is there once for each of its blocks.
    messages: BTreeMap<String, (Option<String>, Tokens)>,
}

impl ReadAgent for Claude {
    fn line<'a>(&mut self, stream: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
        if stream == Stream::Stderr {
            return Shown::AsItIs;
        }
        let Some(event) = event(line) else {
            seen.reads_no_event(line);
            return Shown::AsItIs;
        };
        seen.events += 1;
        seen.session_id = name(&event, &["session_id"]).or(seen.session_id.take());
        let shown = match text(&event, &["type"]) {
            "system" => system(&event, seen),
            "assistant" => assistant(&event, seen),
            "user" => user(&event, seen),
            "rate_limit_event" => rate_limit(&event, seen),
            "result" => result(&event, seen),
            _ => None,
        };
        shown.map_or(Shown::Nothing, |text| Shown::Text(text.into()))
    }

    fn session_line(&mut self, line: &str, session: &mut SessionFacts) {
        let Some(event) = event(line) else { return };
        let id = text(&event, &["message", "id"]);
        let model = name(&event, &["message", "model"]);
        if text(&event, &["type"]) != "assistant" || id.is_empty() || model.as_deref() == Some("<synthetic>")
        {
            return;
        }
        let Some(usage) = at(&event, &["message", "usage"]) else { return };
        session.model = model.clone().or(session.model.take());
        // The last of the lines of a message has its final figures.
        let tokens = tokens_of_api(usage);
        let before = self.messages.insert(id.to_owned(), (model.clone(), tokens));
        session.replaces(before, (model, tokens));
        session.turns = self.messages.len() as u64;
        for block in list(&event, &["message", "content"]) {
            if let Some(command) = command_of(block, "session_file") {
                super::seen::push_command(&mut session.commands, command);
            }
        }
    }

    fn finish(&mut self, _: &mut StreamFacts) {}
}

fn system(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    match text(event, &["subtype"]) {
        "init" => {
            // A new beginning takes back an end.
            seen.finish = None;
            let (model, version) = (text(event, &["model"]), text(event, &["claude_code_version"]));
            seen.model = name(event, &["model"]);
            Some(format!("claude {version}, model {model}, session {}", text(event, &["session_id"])))
        }
        "api_retry" => {
            let status = number(event, &["error_status"]).and_then(|status| u16::try_from(status).ok());
            let error = text(event, &["error"]);
            let attempt = number(event, &["attempt"]).unwrap_or(0);
            let most = number(event, &["max_retries"]).unwrap_or(0);
            let status_text = status.map_or_else(|| "no answer".to_owned(), |s| format!("status {s}"));
            let message = format!("try {attempt} of {most} failed: {status_text}, {error}");
            match class_of_word(error).filter(|_| status != Some(402)) {
                Some(class) => seen.is_in_trouble_of(class, &message, true),
                // No answer at all: the network or the service.
                None if status.is_none() => seen.is_in_trouble_of(Class::Overloaded, &message, true),
                None => seen.is_in_trouble(status, &message, true),
            }
            Some(message)
        }
        subtype if subtype.contains("refusal") => {
            seen.is_in_trouble_of(Class::Refused, "the model refused", false);
            Some("the model refused".to_owned())
        }
        _ => None,
    }
}

/// The class of the word that stands for an error in the stream, where the word is enough.
fn class_of_word(word: &str) -> Option<Class> {
    match word {
        "authentication_failed" | "oauth_org_not_allowed" => Some(Class::Auth),
        "billing_error" => Some(Class::Billing),
        "rate_limit" => Some(Class::RateLimited),
        "overloaded" | "server_error" => Some(Class::Overloaded),
        "max_output_tokens" | "model_not_found" => Some(Class::Failed),
        _ => None,
    }
}

fn assistant(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    let blocks = list(event, &["message", "content"]);
    let error = text(event, &["error"]);
    if !error.is_empty() {
        let said = blocks.iter().map(|block| text(block, &["text"])).collect::<Vec<_>>().join(" ");
        let message = if said.is_empty() { error } else { &said };
        let known = class_of_word(error).filter(|class| *class != Class::RateLimited);
        match known.filter(|class| *class != Class::Overloaded || phrases::class_of(None, &said).is_none()) {
            Some(class) => seen.is_in_trouble_of(class, message, false),
            None => seen.is_in_trouble(phrases::status_in(message), message, false),
        }
        return Some(format!("error: {}", first_line(message)));
    }
    let is_main = at(event, &["parent_tool_use_id"]).is_none_or(Value::is_null);
    seen.goes_on();
    let mut shown = Vec::new();
    for block in blocks {
        match text(block, &["type"]) {
            "text" => {
                let said = text(block, &["text"]);
                if is_main {
                    seen.says(said);
                }
                shown.push(said.trim().to_owned());
            }
            "tool_use" => {
                seen.answered = true;
                if let Some(command) = command_of(block, "stream") {
                    seen.ran(command);
                }
                shown.push(format!("> {} {}", text(block, &["name"]), first_line(&target(block))));
            }
            _ => {}
        }
    }
    shown.retain(|text| !text.is_empty());
    (!shown.is_empty()).then(|| shown.join("\n"))
}

/// What a tool call is about: a command, a file, or its whole input.
fn target(block: &Value) -> String {
    let input = ["command", "file_path", "path", "pattern", "url", "query", "description"]
        .into_iter()
        .map(|key| text(block, &["input", key]))
        .find(|text| !text.is_empty());
    input.map_or_else(|| at(block, &["input"]).map_or_else(String::new, Value::to_string), str::to_owned)
}

fn command_of(block: &Value, source: &'static str) -> Option<Command> {
    let is_shell = text(block, &["type"]) == "tool_use" && text(block, &["name"]) == "Bash";
    is_shell.then(|| Command {
        command: text(block, &["input", "command"]).to_owned(),
        exit_code: None,
        source,
        call: text(block, &["id"]).to_owned(),
    })
}

fn user(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    let mut shown = Vec::new();
    for block in list(event, &["message", "content"]) {
        if text(block, &["type"]) != "tool_result" {
            continue;
        }
        let call = text(block, &["tool_use_id"]);
        let is_error = is_error(block);
        let said = match at(block, &["content"]) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().map(|part| text(part, &["text"])).collect::<String>(),
            _ => String::new(),
        };
        let is_command = seen.commands.iter().any(|command| command.call == call);
        if !is_error {
            seen.command_ended(call, 0);
            continue;
        }
        let lower = said.to_lowercase();
        if lower.contains("requires approval")
            || lower.contains("was blocked")
            || lower.contains("haven't granted")
        {
            seen.was_denied(&said);
        } else if let Some(code) = said.strip_prefix("Exit code ").and_then(leading_number) {
            seen.command_ended(call, code);
        } else if !is_command {
            seen.edit_failed(&said);
        }
        shown.push(format!("  failed: {}", first_line(&said)));
    }
    (!shown.is_empty()).then(|| shown.join("\n"))
}

/// Anything but a clear no is an error.
fn is_error(event: &Value) -> bool {
    !matches!(at(event, &["is_error"]), None | Some(Value::Null | Value::Bool(false)))
}

fn leading_number(text: &str) -> Option<i32> {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn rate_limit(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    if text(event, &["rate_limit_info", "status"]) != "rejected" {
        return None;
    }
    let kind = text(event, &["rate_limit_info", "rateLimitType"]).replace('_', " ");
    let message = format!("the limit of `{kind}` is used up");
    seen.is_in_trouble_of(Class::Quota, &message, false);
    let reset_at = at(event, &["rate_limit_info", "resetsAt"]).and_then(Value::as_i64);
    if let Some(trouble) = &mut seen.trouble {
        trouble.reset_at = reset_at.and_then(reset_time::in_seconds_since_1970);
    }
    Some(message)
}

fn result(event: &Value, seen: &mut StreamFacts) -> Option<String> {
    let said = text(event, &["result"]);
    let is_error = is_error(event);
    let subtype = text(event, &["subtype"]);
    seen.turns = number(event, &["num_turns"]);
    seen.usage = usage_of_result(event);
    for denial in list(event, &["permission_denials"]) {
        let input = at(denial, &["tool_input"]).map_or_else(String::new, Value::to_string);
        let what = format!("{} {}", text(denial, &["tool_name"]), first_line(&input));
        seen.was_denied(&what);
    }
    if !is_error && subtype == "success" && text(event, &["stop_reason"]) != "refusal" {
        seen.says(said);
        seen.finish = Some(Finish::Success);
        return Some(format!("ended after {} turns", seen.turns.unwrap_or(0)));
    }
    let errors: Vec<&str> = list(event, &["errors"]).iter().filter_map(Value::as_str).collect();
    let message = if said.is_empty() { errors.join("; ") } else { said.to_owned() };
    let message = if message.is_empty() { subtype.to_owned() } else { message };
    fail(event, subtype, &message, seen);
    seen.finish = seen.trouble.clone().map(Finish::Failure);
    Some(format!("ended: {}", first_line(&message)))
}

fn fail(event: &Value, subtype: &str, message: &str, seen: &mut StreamFacts) {
    let status = number(event, &["api_error_status"]).and_then(|status| u16::try_from(status).ok());
    let before = seen.trouble.take();
    let known = match (text(event, &["stop_reason"]), text(event, &["terminal_reason"]), subtype) {
        ("refusal", ..) => Some(Class::Refused),
        (_, "prompt_too_long", _) => Some(Class::ContextOverflow),
        (.., "error_max_turns" | "error_max_budget_usd") => Some(Class::Failed),
        // It is not tried again where the service says that it is of no use.
        _ if status == Some(429) && seen.retries_in_a_row == 0 => Some(Class::Quota),
        _ => phrases::class_of(status, message),
    };
    let known = match before.as_ref().map(|trouble| trouble.class) {
        Some(Class::Quota) => Some(Class::Quota),
        class if status.is_none() && known.is_none() => class,
        _ => known,
    };
    seen.is_in_trouble_of(known.unwrap_or(Class::Failed), message, false);
    if let (Some(trouble), Some(before)) = (&mut seen.trouble, before) {
        trouble.reset_at = before.reset_at;
    }
}

/// The usage of all requests by model; of an older version, or of a run that ended early, the sum without a model.
fn usage_of_result(event: &Value) -> StreamUsage {
    let by_model = at(event, &["modelUsage"]).and_then(Value::as_object);
    let mut models: Vec<ModelUsage> = Vec::new();
    for (model, usage) in by_model.into_iter().flatten() {
        let plain = number(usage, &["inputTokens"]);
        let cached = number(usage, &["cacheReadInputTokens"]);
        let written = number(usage, &["cacheCreationInputTokens"]);
        models.push(ModelUsage {
            model: Some(model.clone()),
            tokens: Tokens {
                input_tokens: plain.map(|plain| with_cached(plain, cached, written)),
                cached_input_tokens: cached,
                cache_write_tokens: written,
                output_tokens: number(usage, &["outputTokens"]),
            },
            cost_usd: super::seen::usd(at(usage, &["costUSD"])),
        });
    }
    if models.is_empty()
        && let Some(usage) = at(event, &["usage"])
        && tokens_of_api(usage).total().unwrap_or(0) > 0
    {
        let cost_usd = super::seen::usd(at(event, &["total_cost_usd"]));
        models.push(ModelUsage { model: None, tokens: tokens_of_api(usage), cost_usd });
    }
    if models.is_empty() { StreamUsage::Untold } else { StreamUsage::OfThisRun(models) }
}

fn with_cached(plain: u64, cached: Option<u64>, written: Option<u64>) -> u64 {
    plain.saturating_add(cached.unwrap_or(0)).saturating_add(written.unwrap_or(0))
}

/// Usage as the Messages API writes it: the input without what was read from or written to the cache.
fn tokens_of_api(usage: &Value) -> Tokens {
    let plain = number(usage, &["input_tokens"]);
    let cached = number(usage, &["cache_read_input_tokens"]);
    let written = number(usage, &["cache_creation_input_tokens"]);
    Tokens {
        input_tokens: plain.map(|plain| with_cached(plain, cached, written)),
        cached_input_tokens: cached,
        cache_write_tokens: written,
        output_tokens: number(usage, &["output_tokens"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_success_only_if_its_error_flag_is_absent_or_a_clear_no() {
        let succeeded = |flag: &str| {
            let line = format!(r#"{{"type": "result", "subtype": "success", {flag} "result": "done"}}"#);
            let mut seen = StreamFacts::default();
            Claude::default().line(Stream::Stdout, &line, &mut seen);
            seen.finish.unwrap() == Finish::Success
        };
        for flag in ["", r#""is_error": false,"#, r#""is_error": null,"#] {
            assert!(succeeded(flag), "{flag}");
        }
        for value in ["true", r#""true""#, r#""false""#, "1", "0", "[]", "{}"] {
            assert!(!succeeded(&format!(r#""is_error": {value},"#)), "{value}");
        }
    }
}
