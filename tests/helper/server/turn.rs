//! A turn of the model before it has the form of a protocol, and an answer that has it.

use serde_json::{Map, Value, json};

use super::scenario::{Kind, Reply};
use super::{Api, Tokens, responses};

/// What the model says and does in one answer.
pub(super) struct Turn {
    pub text: Option<String>,
    pub calls: Vec<Call>,
    pub end: End,
    pub usage: Tokens,
    pub has_final_event: bool,
}

/// A call of a tool that the client offers.
pub(super) struct Call {
    pub name: String,
    pub input: Input,
}

pub(super) enum Input {
    Arguments(Value),
    /// Codex's tools of the type `custom` take plain text.
    Text(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Refused,
    /// Refused in the other way that the protocol has.
    Blocked,
    Limit,
    /// An error event in the place of the rest.
    Error {
        code: String,
        message: String,
    },
}

impl Turn {
    pub fn text(text: &str, usage: Tokens) -> Self {
        Self { text: Some(text.to_owned()), calls: Vec::new(), end: End::Done, usage, has_final_event: true }
    }
}

/// What goes over the wire.
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub tokens: Option<Tokens>,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self { status, content_type: "application/json", headers: Vec::new(), body, tokens: None }
    }

    pub fn stream(body: String) -> Self {
        Self { content_type: "text/event-stream", body: body.into_bytes(), ..Self::json(200, &Value::Null) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An error event has no usage that counts.
    pub fn with_tokens_of(mut self, turn: &Turn) -> Self {
        let is_error = matches!(turn.end, End::Error { .. });
        self.tokens = (!is_error && turn.has_final_event).then_some(turn.usage);
        self
    }
}

/// One block of a server-sent stream.
pub(super) fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// Makes a turn of a reply; what the tool offers (codex) stands in the request.
pub(super) fn of(api: Api, reply: &Reply, body: &Value) -> Turn {
    let said = |default: &str| Some(reply.text.clone().unwrap_or_else(|| default.to_owned()));
    let mut turn = Turn {
        text: reply.text.clone(),
        calls: Vec::new(),
        end: End::Done,
        usage: reply.usage,
        has_final_event: !reply.no_final_event,
    };
    match reply.kind {
        Kind::Edit if api == Api::Chat => turn.text = Some(edit_block(reply)),
        Kind::Shell if api == Api::Chat => turn.text = Some(format!("```bash\n{}\n```\n", reply.command)),
        Kind::Edit => turn.calls = edit_calls(api, reply, body),
        Kind::Shell => turn.calls = vec![shell_call(api, reply, body)],
        Kind::Tool => turn.calls = vec![call(&reply.tool, Value::Object(reply.args.clone()))],
        Kind::Refusal => {
            turn.end = if reply.code.is_some() { End::Blocked } else { End::Refused };
            turn.text = Some(reply.text.clone().unwrap_or_default());
        }
        Kind::OutputLimit => {
            turn.end = End::Limit;
            turn.text = said("I will now explain at length");
        }
        Kind::Empty => turn.text = Some(String::new()),
        Kind::StreamError => {
            turn.end = End::Error {
                code: reply.code.clone().unwrap_or_else(|| "server_error".to_owned()),
                message: reply.message.clone().unwrap_or_else(|| message_of(500).to_owned()),
            }
        }
        // The other kinds are no turns and do not come here.
        _ => turn.text = said("Done: add() adds now."),
    }
    turn
}

/// Something else than the client waits for, with the status of success, as from a proxy on the way.
pub(super) fn malformed(reply: &Reply) -> Answer {
    let text = reply.text.as_deref().unwrap_or("<html>this is not JSON</html>\n");
    let content_type = match text {
        _ if text.starts_with("data:") => "text/event-stream",
        _ if text.starts_with('<') => "text/html",
        _ => "application/json",
    };
    Answer { content_type, body: text.as_bytes().to_vec(), ..Answer::json(200, &Value::Null) }
}

pub(super) fn call(name: &str, arguments: Value) -> Call {
    Call { name: name.to_owned(), input: Input::Arguments(arguments) }
}

/// Aider's form of an edit.
fn edit_block(reply: &Reply) -> String {
    let said = reply.text.as_deref().unwrap_or("I will correct it.");
    let search = if reply.search.is_empty() { String::new() } else { format!("{}\n", reply.search) };
    format!(
        "{said}\n\n{}\n```python\n<<<<<<< SEARCH\n{search}=======\n{}\n>>>>>>> REPLACE\n```\n",
        reply.file, reply.replace
    )
}

fn edit_calls(api: Api, reply: &Reply, body: &Value) -> Vec<Call> {
    let change = json!({"file_path": reply.file, "old_string": reply.search, "new_string": reply.replace});
    match api {
        Api::Responses => vec![responses::edit_call(reply, body)],
        // Claude refuses to edit a file that it has not read.
        Api::Messages if reply.search.is_empty() => vec![call("Edit", change)],
        Api::Messages => vec![call("Read", json!({"file_path": reply.file})), call("Edit", change)],
        Api::Chat | Api::Gemini => {
            let mut change: Map<String, Value> = change.as_object().cloned().unwrap_or_default();
            change.insert("instruction".to_owned(), json!("Correct the function."));
            vec![call("replace", Value::Object(change))]
        }
    }
}

fn shell_call(api: Api, reply: &Reply, body: &Value) -> Call {
    match api {
        Api::Responses => responses::shell_call(&reply.command, body),
        Api::Messages => call("Bash", json!({"command": reply.command, "description": "Runs a command"})),
        Api::Chat | Api::Gemini => {
            call("run_shell_command", json!({"command": reply.command, "description": "Runs a command"}))
        }
    }
}

/// The message of an error that the scenario gives no words for.
pub(super) fn message_of(status: u16) -> &'static str {
    match status {
        400 => "The request is not valid.",
        401 => "Incorrect API key provided: x.",
        402 => "Your credit balance is too low.",
        403 => "This key has no access to the model.",
        404 => "The model does not exist.",
        429 => "Rate limit reached. Please slow down.",
        529 => "Overloaded",
        _ => "The server had an error while processing the request.",
    }
}
