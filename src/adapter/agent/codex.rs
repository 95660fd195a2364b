//! codex: `codex exec --json`, and its rollout file.
//!
//! `error` events are not final: tries that are made again come before successes. Usage is that of the whole session. The
//! stream hides some commands; the rollout has them all.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{at, event, first_line, list, name, number, text};
use super::phrases;
use super::seen::{Command, Finish, ReadAgent, SessionFacts, StreamFacts, StreamUsage};
use crate::cost::usage::Tokens;
use crate::job::class::Class;
use crate::process::Stream;
use crate::process::watch::Shown;

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Codex {
    /// Calls of the rollout that wait for their output.
    open_calls: BTreeMap<String, String>,
}

impl ReadAgent for Codex {
    fn line<'a>(&mut self, stream: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
        if stream == Stream::Stderr {
            return stderr(line, seen);
        }
        let Some(event) = event(line) else {
            seen.reads_no_event(line);
            return Shown::AsItIs;
        };
        seen.events += 1;
        let shown = match text(&event, &["type"]) {
            "thread.started" => {
                seen.session_id = name(&event, &["thread_id"]);
                Some(format!("codex, session {}", text(&event, &["thread_id"])))
            }
            "turn.started" => {
                // A new turn takes back the end of the one before.
                seen.finish = None;
                None
            }
            "item.started" => at(&event, &["item"]).and_then(|item| item_started(item, seen)),
            "item.completed" => at(&event, &["item"]).and_then(|item| item_completed(item, seen)),
            "error" => Some(error(text(&event, &["message"]), seen)),
            "turn.completed" => {
                seen.goes_on();
                seen.turns = Some(seen.turns.unwrap_or(0) + 1);
                if let Some(usage) = at(&event, &["usage"]) {
                    seen.usage = StreamUsage::OfTheSession(tokens(usage));
                }
                seen.finish = Some(Finish::Success);
                Some("ended".to_owned())
            }
            "turn.failed" => Some(turn_failed(text(&event, &["error", "message"]), seen)),
            _ => None,
        };
        shown.map_or(Shown::Nothing, |text| Shown::Text(text.into()))
    }

    fn session_line(&mut self, line: &str, session: &mut SessionFacts) {
        let Some(event) = event(line) else { return };
        let payload = at(&event, &["payload"]).unwrap_or(&Value::Null);
        match (text(&event, &["type"]), text(payload, &["type"])) {
            ("turn_context", _) => {
                session.model = name(payload, &["model"]);
            }
            ("event_msg", "token_count") => {
                if let Some(usage) = at(payload, &["info", "total_token_usage"]) {
                    // It grows over the session: the last figure counts.
                    session.tokens = BTreeMap::from([(None, tokens(usage))]);
                    session.turns += 1;
                }
            }
            ("response_item", "function_call" | "custom_tool_call" | "local_shell_call") => {
                if let Some(command) = command_of(payload) {
                    self.open_calls.insert(command.call.clone(), command.command.clone());
                    super::seen::push_command(&mut session.commands, command);
                }
            }
            (
                "response_item",
                "function_call_output" | "custom_tool_call_output" | "local_shell_call_output",
            ) => {
                self.output(payload, session);
            }
            _ => {}
        }
    }

    fn finish(&mut self, seen: &mut StreamFacts) {
        let is_silent = seen.answer.as_deref().unwrap_or_default().is_empty() && !seen.answered;
        if seen.finish == Some(Finish::Success) && is_silent {
            // A refusal as content has no item at all; an empty answer has an empty one.
            let class = if seen.answer.is_none() { Class::Refused } else { Class::Protocol };
            seen.fails(class, "the model returned no answer");
        }
    }
}

impl Codex {
    fn output(&mut self, payload: &Value, session: &mut SessionFacts) {
        let call = text(payload, &["call_id"]);
        if self.open_calls.remove(call).is_none() {
            return;
        }
        let output = text(payload, &["output"]);
        let code = exit_code_in(output);
        if let Some(command) = session.commands.iter_mut().rev().find(|command| command.call == call) {
            command.exit_code = code;
        }
    }
}

/// The exit code in the output of a call: JSON with `metadata.exit_code`, or a line that says it.
fn exit_code_in(output: &str) -> Option<i32> {
    if let Some(document) = event(output) {
        let code = at(&document, &["metadata", "exit_code"]).or_else(|| at(&document, &["exit_code"]));
        return code.and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    }
    ["Exit code: ", "exited with code ", "exit_code: "].into_iter().find_map(|mark| {
        let (_, rest) = output.split_once(mark)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    })
}

/// A call of the shell in the rollout.
fn command_of(payload: &Value) -> Option<Command> {
    if text(payload, &["name"]) == "apply_patch" {
        return None;
    }
    let arguments = event(text(payload, &["arguments"])).unwrap_or_default();
    let from = |value: &Value| -> Option<String> {
        ["command", "cmd"].into_iter().find_map(|key| match at(value, &[key])? {
            Value::String(text) => Some(text.clone()),
            Value::Array(words) => Some(shell_words(words)),
            _ => None,
        })
    };
    let command = from(&arguments).or_else(|| from(at(payload, &["action"])?))?;
    let call = text(payload, &["call_id"]).to_owned();
    Some(Command { command, exit_code: None, source: "session_file", call })
}

/// The words of a command as one text; of `bash -lc TEXT` the text.
fn shell_words(words: &[Value]) -> String {
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    match words.as_slice() {
        [shell, "-lc" | "-c", script] if shell.ends_with("sh") => (*script).to_owned(),
        words => words.join(" "),
    }
}

fn item_started(item: &Value, seen: &mut StreamFacts) -> Option<String> {
    (text(item, &["type"]) == "command_execution").then(|| {
        note_command(item, seen);
        format!("> {}", first_line(&plain_command(text(item, &["command"]))))
    })
}

fn note_command(item: &Value, seen: &mut StreamFacts) {
    let exit_code =
        at(item, &["exit_code"]).and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    seen.answered = true;
    // The ids of items are used again in a later turn: the command is part of the name.
    let command = plain_command(text(item, &["command"]));
    let call = format!("{} {command}", text(item, &["id"]));
    seen.ran(Command { command, exit_code, source: "stream", call });
}

/// `/bin/bash -lc 'x'` without its wrapping.
fn plain_command(command: &str) -> String {
    let inner = command.split_once(" -lc ").map_or(command, |(_, script)| script);
    let inside = |quote| inner.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('\'').or_else(|| inside('"')).unwrap_or(inner).to_owned()
}

fn item_completed(item: &Value, seen: &mut StreamFacts) -> Option<String> {
    let kind = text(item, &["type"]);
    match kind {
        "agent_message" => {
            let said = text(item, &["text"]);
            seen.goes_on();
            if said.is_empty() {
                seen.answer = Some(String::new());
                return None;
            }
            seen.says(said);
            Some(said.trim().to_owned())
        }
        "command_execution" => {
            seen.goes_on();
            note_command(item, seen);
            if text(item, &["status"]) == "declined" {
                seen.was_denied(text(item, &["command"]));
            }
            let code = at(item, &["exit_code"]).and_then(Value::as_i64).unwrap_or(0);
            (code != 0).then(|| format!("  exited with {code}"))
        }
        "file_change" => {
            seen.goes_on();
            seen.answered = true;
            let paths: Vec<String> = list(item, &["changes"])
                .iter()
                .map(|change| format!("> {} {}", text(change, &["kind"]), text(change, &["path"])))
                .collect();
            if text(item, &["status"]) == "failed" {
                seen.edit_failed(&paths.join(", "));
            }
            Some(paths.join("\n"))
        }
        "mcp_tool_call" => {
            seen.answered = true;
            Some(format!("> {} {}", text(item, &["server"]), text(item, &["tool"])))
        }
        "web_search" => Some(format!("> search {}", first_line(text(item, &["query"])))),
        "error" => Some(format!("error: {}", first_line(text(item, &["message"])))),
        _ => None,
    }
}

fn error(message: &str, seen: &mut StreamFacts) -> String {
    let retrying = message.starts_with("Reconnecting");
    seen.is_in_trouble(phrases::status_in(message), message, retrying);
    if let Some(trouble) = &mut seen.trouble {
        // It obeys the service's time without a word, be it an hour, and waits for a network for ever.
        trouble.sleeps = trouble.class == Class::RateLimited || message.contains("waiting for network");
    }
    format!("error: {}", first_line(message))
}

fn turn_failed(message: &str, seen: &mut StreamFacts) -> String {
    let before = seen.trouble.take();
    let class = class_of_failure(message).or(before.map(|trouble| trouble.class));
    seen.fails(class.unwrap_or(Class::Failed), message);
    format!("failed: {}", first_line(message))
}

fn class_of_failure(message: &str) -> Option<Class> {
    if message.contains("max_output_tokens") {
        return Some(Class::Failed);
    }
    phrases::class_in(message)
}

fn stderr<'a>(line: &'a str, seen: &mut StreamFacts) -> Shown<'a> {
    if let Some((_, what)) = line.split_once("apply_patch verification failed") {
        seen.edit_failed(what.trim_start_matches([':', ' ']));
    } else if line.contains("rm -f style commands are not permitted") {
        seen.was_denied(line);
    } else if line.contains("No prompt provided") && seen.trouble.is_none() {
        seen.is_in_trouble_of(Class::Failed, line, false);
    }
    Shown::AsItIs
}

/// Usage as codex writes it: the input with what was read from the cache.
fn tokens(usage: &Value) -> Tokens {
    Tokens {
        input_tokens: number(usage, &["input_tokens"]),
        cached_input_tokens: number(usage, &["cached_input_tokens"]),
        cache_write_tokens: number(usage, &["cache_write_input_tokens"]),
        output_tokens: number(usage, &["output_tokens"]),
    }
}
