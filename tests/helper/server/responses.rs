//! OpenAI Responses, as codex uses it.

use serde_json::{Value, json};

use super::scenario::Reply;
use super::turn::{Answer, Call, End, Input, Turn, call, event};

pub(super) fn encode(turn: &Turn, body: &Value, is_stream: bool, serial: usize) -> Answer {
    let id = format!("resp_mock_{serial}");
    let items = items(turn, serial);
    let (kind, response) = end(turn, &id, body, &items);
    if !is_stream {
        return Answer::json(200, &response).with_tokens_of(turn);
    }
    let created = json!({"id": id, "object": "response", "status": "in_progress", "model": body["model"], "output": []});
    let mut blocks = event("response.created", &json!({"type": "response.created", "response": created}));
    for (at, item) in items.iter().enumerate() {
        for kind in ["response.output_item.added", "response.output_item.done"] {
            blocks += &event(kind, &json!({"type": kind, "output_index": at, "item": item}));
        }
    }
    if turn.has_final_event {
        blocks += &event(kind, &json!({"type": kind, "response": response}));
    }
    Answer::stream(blocks).with_tokens_of(turn)
}

fn items(turn: &Turn, serial: usize) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(text) = &turn.text {
        let part = match turn.end {
            End::Refused => json!({"type": "refusal", "refusal": text}),
            _ => json!({"type": "output_text", "text": text, "annotations": []}),
        };
        items.push(json!({"type": "message", "id": format!("msg_mock_{serial}"), "role": "assistant", "status": "completed",
            "content": [part]}));
    }
    for (at, call) in turn.calls.iter().enumerate() {
        let (id, call_id) = (format!("item_mock_{serial}_{at}"), format!("call_mock_{serial}_{at}"));
        items.push(match &call.input {
            Input::Text(text) => {
                json!({"type": "custom_tool_call", "id": id, "call_id": call_id, "name": call.name,
                "input": text, "status": "completed"})
            }
            Input::Arguments(arguments) => json!({"type": "function_call", "id": id, "call_id": call_id,
                "name": call.name, "arguments": arguments.to_string(), "status": "completed"}),
        });
    }
    items
}

fn end(turn: &Turn, id: &str, body: &Value, items: &[Value]) -> (&'static str, Value) {
    let (kind, status, error, incomplete) = match &turn.end {
        End::Done | End::Refused => ("response.completed", "completed", Value::Null, Value::Null),
        End::Blocked => {
            ("response.incomplete", "incomplete", Value::Null, json!({"reason": "content_filter"}))
        }
        End::Limit => {
            ("response.incomplete", "incomplete", Value::Null, json!({"reason": "max_output_tokens"}))
        }
        End::Error { code, message } => {
            ("response.failed", "failed", json!({"code": code, "message": message}), Value::Null)
        }
    };
    let used = turn.usage;
    let usage = json!({"input_tokens": used.input, "input_tokens_details": {"cached_tokens": used.cached},
        "output_tokens": used.output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.input + used.output});
    let usage = if error.is_null() { usage } else { Value::Null };
    let response = json!({"id": id, "object": "response", "status": status, "model": body["model"], "output": items,
        "error": error, "incomplete_details": incomplete, "usage": usage});
    (kind, response)
}

/// The patch goes to the tool that the client offers for it, or through its shell.
pub(super) fn edit_call(reply: &Reply, body: &Value) -> Call {
    let patch = patch(reply);
    match offered(body, "apply_patch") {
        Some("custom") => Call { name: "apply_patch".to_owned(), input: Input::Text(patch) },
        Some(_) => call("apply_patch", json!({"input": patch})),
        None => shell_call(&format!("apply_patch <<'EOF'\n{patch}EOF\n"), body),
    }
}

pub(super) fn shell_call(command: &str, body: &Value) -> Call {
    if offered(body, "exec_command").is_some() {
        return call("exec_command", json!({"cmd": command}));
    }
    if offered(body, "shell").is_some() {
        return call("shell", json!({"command": ["bash", "-lc", command]}));
    }
    call("shell_command", json!({"command": command}))
}

/// The type of a tool that the request offers.
fn offered<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body["tools"].as_array()?.iter().find(|tool| tool["name"] == name)?["type"].as_str()
}

fn patch(reply: &Reply) -> String {
    let lines =
        |sign: char, text: &str| text.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
    let file = &reply.file;
    if reply.search.is_empty() {
        return format!(
            "*** Begin Patch\n*** Add File: {file}\n{}*** End Patch\n",
            lines('+', &reply.replace)
        );
    }
    let (old, new) = (lines('-', &reply.search), lines('+', &reply.replace));
    format!("*** Begin Patch\n*** Update File: {file}\n@@\n{old}{new}*** End Patch\n")
}

/// The form of a subscription, the only one that tells a time.
pub(super) fn quota(reply: &Reply) -> Answer {
    let message = reply.message.as_deref().unwrap_or("The usage limit has been reached");
    let error = json!({"type": "usage_limit_reached", "message": message, "plan_type": "plus",
        "resets_at": reply.resets_at});
    Answer::json(429, &json!({"error": error}))
}
