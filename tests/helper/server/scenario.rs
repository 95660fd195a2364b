//! The scenario: which reply a request gets. Its form is described at `Scenarios` and `Reply`.
//!
//! The one hard rule: an unknown key or an unknown kind is an error, so that no reply is something else than was meant.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Api, Tokens};

/// The replies by job marker: `{"jobs": {"NAME": [reply, ...]}}`.
///
/// In the place of the list may stand `{"chat": [...], "responses": [...], "messages": [...], "gemini": [...]}`; then
/// requests are counted for each protocol alone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenarios {
    jobs: BTreeMap<String, Script>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
enum Script {
    ForAll(Vec<Reply>),
    ByApi(BTreeMap<Api, Vec<Reply>>),
}

impl TryFrom<Value> for Script {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        if value.is_array() {
            return serde_json::from_value(value).map(Self::ForAll);
        }
        serde_json::from_value(value).map(Self::ByApi)
    }
}

impl Scenarios {
    /// Says in words what is wrong with `value`.
    pub fn from_value(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// The replies for a marker, and whether they are for this protocol alone.
    pub(super) fn script(&self, marker: &str, api: Api) -> (bool, Option<&[Reply]>) {
        match self.jobs.get(marker) {
            None => (false, None),
            Some(Script::ForAll(replies)) => (false, Some(replies)),
            Some(Script::ByApi(scripts)) => (true, scripts.get(&api).map(Vec::as_slice)),
        }
    }
}

/// What a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Prose: `text`.
    Text,
    /// Replaces `search` by `replace` in `file`, in the way of the tool; an empty `search` makes the file.
    Edit,
    /// The shell command `command`.
    Shell,
    /// The call of the tool `tool` with `args`.
    Tool,
    /// The model refuses; `code: "incomplete"` ends the answer early instead (responses), `code: "prompt"` blocks the
    /// prompt (gemini).
    Refusal,
    /// The answer is as long as it may be; `text` is what fitted.
    OutputLimit,
    /// A good answer with no text.
    Empty,
    /// The status `status` with the body `body`, or with the error body of the protocol for `code` and `message`.
    Status,
    /// The quota is used up until `resets_at`, in the form of the provider; for claude with the headers of a
    /// subscription, for gemini per day.
    Quota,
    /// The prompt is too long.
    ContextOverflow,
    /// Status 200 and an error event in the stream: `code` and `message`.
    StreamError,
    /// Status 200 and `text`, which is no JSON.
    Malformed,
    /// Reads the request and never answers.
    Hang,
}

/// One reply; keys that its kind does not name are ignored.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    #[serde(rename = "do")]
    pub kind: Kind,
    /// Also said before an edit or a call.
    pub text: Option<String>,
    #[serde(default = "default_file")]
    pub file: String,
    #[serde(default = "default_search")]
    pub search: String,
    #[serde(default = "default_replace")]
    pub replace: String,
    #[serde(default)]
    pub command: String,
    #[serde(default)]
    pub tool: String,
    #[serde(default)]
    pub args: Map<String, Value>,
    pub status: Option<u16>,
    pub body: Option<Value>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// Unix seconds.
    #[serde(default = "default_resets_at")]
    pub resets_at: i64,
    #[serde(default = "default_usage")]
    pub usage: Tokens,
    /// Added to the answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// From the first request that gets it on, all get it for so many seconds; the next one after them gets what follows.
    pub lasts_s: Option<u64>,
    /// For how many requests in sequence; `"always"` for all that follow.
    #[serde(default)]
    pub times: Times,
    /// Waits before the answer.
    #[serde(default)]
    pub delay_ms: u64,
    /// Closes the connection when so much of the body was sent.
    pub cut_after_bytes: Option<usize>,
    /// Stays silent when so much of the body was sent.
    pub hang_after_bytes: Option<usize>,
    /// Leaves out the event that ends the answer.
    #[serde(default)]
    pub no_final_event: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum Times {
    Count(usize),
    Always,
}

impl Default for Times {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl TryFrom<Value> for Times {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        if value == "always" {
            return Ok(Self::Always);
        }
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.map(Self::Count).ok_or(format!("`{value}` is neither a number nor `always`"))
    }
}

/// The reply for the request `ordinal`, which counts from 1.
pub(super) fn nth(script: &[Reply], ordinal: usize) -> Option<&Reply> {
    let mut upto: usize = 0;
    script.iter().find(|reply| {
        upto = match reply.times {
            Times::Count(count) => upto.saturating_add(count),
            Times::Always => usize::MAX,
        };
        ordinal <= upto
    })
}

fn default_file() -> String {
    "calc.py".to_owned()
}

fn default_search() -> String {
    "    return a - b".to_owned()
}

fn default_replace() -> String {
    "    return a + b".to_owned()
}

fn default_resets_at() -> i64 {
    1_900_000_000
}

fn default_usage() -> Tokens {
    Tokens { input: 1200, cached: 200, output: 80 }
}
