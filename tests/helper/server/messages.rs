//! Anthropic Messages, as claude uses it.

use serde_json::{Value, json};

use super::scenario::Reply;
use super::turn::{Answer, Call, End, Input, Turn, event};

pub(super) fn encode(turn: &Turn, body: &Value, is_stream: bool, serial: usize) -> Answer {
    let content = content(turn, serial);
    let stop_reason = match turn.end {
        End::Refused | End::Blocked => "refusal",
        End::Limit => "max_tokens",
        _ if !turn.calls.is_empty() => "tool_use",
        _ => "end_turn",
    };
    let message = |content: Value, stop_reason: Value, output: u64| {
        json!({"id": format!("msg_mock_{serial}"), "type": "message", "role": "assistant", "model": body["model"],
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {"input_tokens": turn.usage.input, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": turn.usage.cached, "output_tokens": output}})
    };
    if !is_stream {
        let whole = message(Value::Array(content), json!(stop_reason), turn.usage.output);
        return Answer::json(200, &whole).with_tokens_of(turn);
    }
    // The count at the start is a placeholder, as with the real provider.
    let start = message(json!([]), Value::Null, 1);
    let mut blocks = event("message_start", &json!({"type": "message_start", "message": start}));
    for (at, block) in content.iter().enumerate() {
        blocks += &content_block(at, block);
    }
    if let End::Error { code, message } = &turn.end {
        blocks += &event("error", &json!({"type": "error", "error": {"type": code, "message": message}}));
    } else if turn.has_final_event {
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": turn.usage.output}});
        blocks += &event("message_delta", &delta);
        blocks += &event("message_stop", &json!({"type": "message_stop"}));
    }
    Answer::stream(blocks).with_tokens_of(turn)
}

fn content(turn: &Turn, serial: usize) -> Vec<Value> {
    let text = turn.text.iter().filter(|_| turn.end != End::Refused);
    let text = text.map(|text| json!({"type": "text", "text": text}));
    let call = |(at, call): (usize, &Call)| {
        let input = match &call.input {
            Input::Arguments(arguments) => arguments.clone(),
            Input::Text(text) => json!({"input": text}),
        };
        json!({"type": "tool_use", "id": format!("toolu_mock_{serial}_{at}"), "name": call.name, "input": input})
    };
    text.chain(turn.calls.iter().enumerate().map(call)).collect()
}

fn content_block(at: usize, block: &Value) -> String {
    let mut start = block.clone();
    let delta = if block["type"] == "text" {
        start["text"] = json!("");
        json!({"type": "text_delta", "text": block["text"]})
    } else {
        start["input"] = json!({});
        json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})
    };
    let start = json!({"type": "content_block_start", "index": at, "content_block": start});
    let delta = json!({"type": "content_block_delta", "index": at, "delta": delta});
    let stop = json!({"type": "content_block_stop", "index": at});
    [("content_block_start", start), ("content_block_delta", delta), ("content_block_stop", stop)]
        .map(|(name, data)| event(name, &data))
        .concat()
}

pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Value {
    let default = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": code.unwrap_or(default), "message": message}})
}

/// The form of a subscription; its headers are the only place with a time.
pub(super) fn quota(reply: &Reply) -> Answer {
    let message = reply.message.as_deref().unwrap_or("This request would exceed your account's rate limit.");
    let resets_at = reply.resets_at.to_string();
    Answer::json(429, &error(429, None, message))
        .header("anthropic-ratelimit-unified-status", "rejected")
        .header("anthropic-ratelimit-unified-reset", &resets_at)
        .header("anthropic-ratelimit-unified-representative-claim", "five_hour")
        .header("anthropic-ratelimit-unified-5h-status", "rejected")
        .header("anthropic-ratelimit-unified-5h-reset", &resets_at)
        .header("anthropic-ratelimit-unified-5h-utilization", "1.0")
        .header("retry-after", "3600")
}

pub(super) fn context_overflow() -> Value {
    error(400, None, "prompt is too long: 215000 tokens > 200000 maximum")
}
