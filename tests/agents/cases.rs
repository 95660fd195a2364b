//! The cases: what the service does, what is done to the engine meanwhile, and what must come of it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::tool::{Login, Tool};

/// What is done beside running the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Nothing,
    /// SIGTERM to the engine when the first edit is made and the service is silent.
    Term,
    /// SIGKILL to it then, and `engine recover`.
    Kill,
    /// The job is parked, and claimed again when its time has come.
    Resume,
}

/// What must come of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub outcome: &'static str,
    /// The class, or the word of the reason where nothing was judged.
    pub class: &'static str,
    pub exit: i32,
    /// What the engine says of the worktree; none where no result is written.
    pub changed: Option<bool>,
}

/// One case, the same for all tools that it is for.
pub struct Case {
    pub name: &'static str,
    pub tools: &'static [Tool],
    pub replies: fn(Tool) -> Value,
    pub want: fn(Tool) -> Want,
    pub metadata: Value,
    pub deed: Deed,
    /// False where nothing listens at the address.
    pub is_served: bool,
    /// For claude; the other tools have but one way.
    pub login: Login,
    /// Arguments after those of the adapter.
    pub args: fn(Tool) -> &'static [&'static str],
}

/// The case of this name.
pub fn named(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

fn want(outcome: &'static str, class: &'static str, exit: i32, changed: bool) -> Want {
    Want { outcome, class, exit, changed: Some(changed) }
}

fn ok() -> Want {
    want("succeeded", "ok", 0, true)
}

fn failed(class: &'static str, exit: i32) -> Want {
    want("failed", class, exit, false)
}

fn parked(class: &'static str) -> Want {
    want("parked", class, 75, false)
}

fn case(name: &'static str, replies: fn(Tool) -> Value, want: fn(Tool) -> Want) -> Case {
    Case {
        name,
        tools: &Tool::ALL,
        replies,
        want,
        metadata: Value::Null,
        deed: Deed::Nothing,
        is_served: true,
        login: Login::Key,
        args: |_| &[],
    }
}

fn edit() -> Value {
    json!({"do": "edit", "text": "I will correct add()."})
}

fn done() -> Value {
    json!({"do": "text", "text": "Done: add() adds now.", "usage": {"input": 1400, "cached": 800, "output": 40}})
}

/// Aider asks no more after an edit that fits.
fn edit_and_done(tool: Tool) -> Vec<Value> {
    if tool == Tool::Aider { vec![edit()] } else { vec![edit(), done()] }
}

/// An edit, and then a request that gets no answer. Aider asks again only where one of two edits does not fit.
fn edit_and_hang(tool: Tool) -> Value {
    let half = "I will correct add() twice.\n\ncalc.py\n```python\n<<<<<<< SEARCH\n    return a * b\n=======\n    \
                return b + a\n>>>>>>> REPLACE\n```\n";
    let mut edit = edit();
    if tool == Tool::Aider {
        edit["text"] = json!(half);
    }
    json!([edit, always(json!({"do": "hang"}))])
}

fn always(mut reply: Value) -> Value {
    reply["times"] = json!("always");
    reply
}

fn status(number: u16) -> Value {
    json!([always(json!({"do": "status", "status": number}))])
}

fn after(first: Value, tool: Tool) -> Value {
    Value::Array(std::iter::once(first).chain(edit_and_done(tool)).collect())
}

/// Gemini's exit code is the HTTP status modulo 256; the others were ended or say 1.
fn code(tool: Tool, of_gemini: i32) -> i32 {
    if tool == Tool::Gemini { of_gemini } else { 1 }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = ends();
    cases.extend(refusals());
    cases.extend(breaks());
    cases.extend(deeds());
    cases
}

fn ends() -> Vec<Case> {
    let prose = |_| {
        json!([{"do": "text", "text": "The function looks fine to me.",
            "usage": {"input": 1200, "cached": 200, "output": 30}}])
    };
    vec![
        case("success", |tool| json!(edit_and_done(tool)), |_| ok()),
        case("no_change", prose, |_| failed("no_change", 1)),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        case("dead_server", |_| json!([]), |_| parked("overloaded")).not_served(),
        case("http_401", |_| status(401), |tool| failed("auth", code(tool, 145))),
        case("http_402", |_| status(402), |tool| failed("billing", code(tool, 146))),
        case(
            "rate_429_once",
            |tool| after(json!({"do": "status", "status": 429, "headers": {"retry-after": "1"}}), tool),
            |_| ok(),
        ),
        case("rate_429", |_| status(429), |_| parked("rate_limited")),
        Case {
            login: Login::Subscription,
            ..case("quota", |_| json!([always(json!({"do": "quota"}))]), |_| parked("quota"))
        },
        case(
            "context_overflow",
            |_| json!([always(json!({"do": "context_overflow"}))]),
            |tool| failed("context_overflow", code(tool, 144)),
        ),
    ]
}

fn breaks() -> Vec<Case> {
    vec![
        Case {
            metadata: json!({"idle_timeout_seconds": 20}),
            ..case(
                "hang",
                |_| json!([always(json!({"do": "hang"}))]),
                |_| want("stalled", "stalled", 124, false),
            )
        },
        case(
            "cut_stream",
            |_| json!([always(json!({"do": "edit", "cut_after_bytes": 200}))]),
            |tool| match tool {
                // It says the same of a service that is not there.
                Tool::Aider => parked("overloaded"),
                _ => failed("protocol", 1),
            },
        ),
        case(
            "malformed",
            |tool| match tool {
                Tool::Gemini => {
                    json!([always(json!({"do": "malformed", "text": "data: {this is not JSON\n\n"}))])
                }
                _ => json!([always(json!({"do": "malformed"}))]),
            },
            |_| failed("protocol", 1),
        ),
    ]
}

fn deeds() -> Vec<Case> {
    let canceled = |_| want("canceled", "signal:15", 143, true);
    let lost = |_| Want { changed: None, ..want("lost", "crash", -9, true) };
    vec![
        Case { deed: Deed::Term, ..case("term", edit_and_hang, canceled) },
        Case { deed: Deed::Kill, ..case("kill", edit_and_hang, lost) },
        Case {
            tools: &[Tool::Codex, Tool::Claude],
            args: |tool| if tool == Tool::Claude { &["--allowedTools", "Bash"] } else { &[] },
            ..case("detached", detached, |_| ok())
        },
        Case {
            tools: &[Tool::Codex, Tool::Claude, Tool::Gemini],
            deed: Deed::Resume,
            login: Login::Subscription,
            ..case("resume", quota_for_a_moment, |_| ok())
        },
    ]
}

/// The shell of the agent shows the key, in two forms, and leaves a process that wants to stay.
fn detached(_: Tool) -> Value {
    let command = "echo \"key $ENGINE_CANARY\"; printf %s \"$ENGINE_CANARY\" | base64 -w 0; \
                   setsid nohup sleep 600 >/dev/null 2>&1 & sleep 0.5";
    json!([{"do": "shell", "command": command}, edit(), done()])
}

/// The quota is used up for some seconds only, and each tool is told in the way of its provider.
fn quota_for_a_moment(tool: Tool) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let refusal = match tool {
        // Codex tells whole minutes.
        Tool::Codex => json!({"do": "quota", "resets_at": (now + 8) / 60 * 60 + 60}),
        Tool::Gemini => json!({"do": "status", "status": 429,
            "message": "You have exhausted your quota on this model. Please retry in 5s."}),
        _ => json!({"do": "quota", "resets_at": now + 8}),
    };
    after(refusal, tool)
}

impl Case {
    fn not_served(self) -> Self {
        Self { is_served: false, ..self }
    }
}
