//! OpenAI Chat Completions, as aider uses it.

use serde_json::{Value, json};

use super::scenario::Reply;
use super::turn::{Answer, Call, End, Input, Turn};

pub(super) fn encode(turn: &Turn, body: &Value, is_stream: bool, serial: usize) -> Answer {
    if let End::Error { code, message } = &turn.end {
        return Answer::stream(format!("data: {}\n\n", error(500, Some(code), message)));
    }
    let finish = match turn.end {
        End::Refused | End::Blocked => "content_filter",
        End::Limit => "length",
        _ if !turn.calls.is_empty() => "tool_calls",
        _ => "stop",
    };
    let id = format!("chatcmpl-mock-{serial}");
    let text = turn.text.clone().unwrap_or_default();
    let calls: Vec<Value> =
        turn.calls.iter().enumerate().map(|(at, call)| tool_call(call, serial, at)).collect();
    let answer = if is_stream {
        stream(turn, body, &id, &text, finish)
    } else {
        let mut message = json!({"role": "assistant", "content": text});
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        let whole = json!({"id": id, "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [choice], "usage": usage(turn)});
        Answer::json(200, &whole)
    };
    answer.with_tokens_of(turn)
}

fn stream(turn: &Turn, body: &Value, id: &str, text: &str, finish: &str) -> Answer {
    let block = |choices: Value, usage: Value| {
        let chunk = json!({"id": id, "object": "chat.completion.chunk", "created": 0, "model": body["model"],
            "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = json!([{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}]);
    let mut blocks = block(delta, Value::Null);
    if turn.has_final_event {
        blocks += &block(json!([{"index": 0, "delta": {}, "finish_reason": finish}]), Value::Null);
        blocks += &block(json!([]), usage(turn));
        blocks += "data: [DONE]\n\n";
    }
    Answer::stream(blocks)
}

fn tool_call(call: &Call, serial: usize, at: usize) -> Value {
    let arguments = match &call.input {
        Input::Arguments(arguments) => arguments.to_string(),
        Input::Text(text) => text.clone(),
    };
    json!({"id": format!("call_{serial}_{at}"), "type": "function",
        "function": {"name": call.name, "arguments": arguments}})
}

fn usage(turn: &Turn) -> Value {
    json!({"prompt_tokens": turn.usage.input, "completion_tokens": turn.usage.output,
        "total_tokens": turn.usage.input + turn.usage.output,
        "prompt_tokens_details": {"cached_tokens": turn.usage.cached}})
}

/// Also the form of the Responses protocol.
pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Value {
    let (kind, default) = match status {
        401 => ("invalid_request_error", "invalid_api_key"),
        402 => ("billing_error", "billing_error"),
        403 => ("invalid_request_error", "forbidden"),
        404 => ("invalid_request_error", "model_not_found"),
        429 => ("requests", "rate_limit_exceeded"),
        529 => ("overloaded_error", "overloaded"),
        500.. => ("server_error", "server_error"),
        _ => ("invalid_request_error", "invalid_request"),
    };
    let kind = code.filter(|code| *code == "insufficient_quota").unwrap_or(kind);
    json!({"error": {"message": message, "type": kind, "param": null, "code": code.unwrap_or(default)}})
}

pub(super) fn quota(reply: &Reply) -> Answer {
    let message = reply.message.as_deref().unwrap_or("You have exhausted your quota, resets in 1h.");
    let code = reply.code.as_deref().unwrap_or("rate_limit_exceeded");
    Answer::json(429, &error(429, Some(code), message)).header("retry-after", "3600")
}

/// Also the form of the Responses protocol.
pub(super) fn context_overflow() -> Value {
    let message = "This model's maximum context length is 128000 tokens. However, your messages resulted in 131072 \
        tokens. Please reduce the length of the messages.";
    error(400, Some("context_length_exceeded"), message)
}
