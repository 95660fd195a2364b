//! Gemini `generateContent` and `streamGenerateContent`, as gemini-cli uses them.

use serde_json::{Map, Value, json};

use super::Tokens;
use super::scenario::Reply;
use super::turn::{Answer, Call, End, Input, Turn};

pub(super) fn encode(turn: &Turn, is_stream: bool, serial: usize) -> Answer {
    let body = match &turn.end {
        End::Error { code, message } => error(500, Some(code), message),
        _ => content(turn, serial),
    };
    let answer =
        if is_stream { Answer::stream(format!("data: {body}\n\n")) } else { Answer::json(200, &body) };
    answer.with_tokens_of(turn)
}

/// The whole answer is one block: the tools show no difference.
fn content(turn: &Turn, serial: usize) -> Value {
    let used = turn.usage;
    let usage = json!({"promptTokenCount": used.input, "candidatesTokenCount": used.output,
        "cachedContentTokenCount": used.cached, "totalTokenCount": used.input + used.output});
    let id = format!("mock-{serial}");
    if turn.end == End::Blocked {
        return json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage,
            "modelVersion": "mock", "responseId": id});
    }
    let text = turn.text.iter().map(|text| json!({"text": text}));
    let call = |call: &Call| match &call.input {
        Input::Arguments(arguments) => json!({"functionCall": {"name": call.name, "args": arguments}}),
        Input::Text(text) => json!({"functionCall": {"name": call.name, "args": {"input": text}}}),
    };
    let parts: Vec<Value> = text.chain(turn.calls.iter().map(call)).collect();
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if turn.has_final_event {
        candidate["finishReason"] = json!(match turn.end {
            End::Refused => "SAFETY",
            End::Limit => "MAX_TOKENS",
            _ => "STOP",
        });
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "mock", "responseId": id})
}

/// Answers a check of the tool's own with the least that fits the form it asks for.
pub(super) fn side(is_stream: bool, body: &Value) -> Answer {
    let config = &body["generationConfig"];
    let schema = ["responseJsonSchema", "responseSchema"]
        .map(|key| &config[key])
        .into_iter()
        .find(|it| it.is_object());
    let text = schema.map_or_else(|| "ok".to_owned(), |schema| least(schema).to_string());
    let mut answer = encode(&Turn::text(&text, Tokens::default()), is_stream, 0);
    answer.tokens = None;
    answer
}

fn least(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "object" => {
            let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = names.map(|name| (name.to_owned(), least(&schema["properties"][name])));
            Value::Object(fields.collect::<Map<String, Value>>())
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "integer" | "number" => json!(0),
        _ => json!(""),
    }
}

pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Value {
    let default = match status {
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        501.. => "UNAVAILABLE",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": status, "message": message, "status": code.unwrap_or(default)}})
}

/// The quota of a day, which the tool does not wait for.
pub(super) fn quota(reply: &Reply) -> Answer {
    let message = reply.message.as_deref().unwrap_or("You exceeded your current quota.");
    let mut body = error(429, None, message);
    body["error"]["details"] = json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
            "quotaDimensions": {"location": "global", "model": "gemini-2.5-flash"}, "quotaValue": "250"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3600s"}]);
    Answer::json(429, &body)
}

pub(super) fn context_overflow() -> Value {
    error(
        400,
        None,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    )
}
