//! The cases: what the model does in the edit and in the fixes of a workstream, and what must come of it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bench::BEFORE;
use crate::tool::{Login, Tool};

/// What must come of a case.
pub struct Want {
    pub status: &'static str,
    pub reason: &'static str,
    pub exit: i32,
    pub steps: &'static str,
    /// The steps whose changes are on the branch.
    pub branch: &'static str,
    /// The steps whose files were put aside.
    pub aside: &'static str,
    /// Whether a second attempt has the session of the first.
    pub session: &'static str,
    /// `calc.py` of the branch.
    pub calc: &'static str,
}

/// One case, the same for all tools.
pub struct Case {
    pub name: &'static str,
    pub replies: fn(Tool) -> Value,
    pub want: fn(Tool) -> Want,
    /// Arguments of `engine run` beside the task, its tool and its check.
    pub args: &'static [&'static str],
    /// Settings of the tool: as variables, or as the text of a file in its home.
    pub settings: fn(Tool) -> Settings,
    /// For claude; the other tools have but one way.
    pub login: Login,
}

/// Settings of a tool beside those that point it at the server.
#[derive(Default)]
pub struct Settings {
    pub env: Option<(&'static str, &'static str)>,
    pub file: Option<(&'static str, Value)>,
}

/// The case of this name.
pub fn named(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

const SCOPE: &[&str] = &["--files", "calc.py"];

/// All of them.
pub fn all() -> Vec<Case> {
    let case = |name, replies, want| Case {
        name,
        replies,
        want,
        args: SCOPE,
        settings: |_| Settings::default(),
        login: Login::Key,
    };
    vec![
        case("one_fix", |tool| turns(tool, &[edit(MINUS, TIMES), edit(TIMES, PLUS)]), |_| one_fix()),
        case(
            "swings",
            |tool| turns(tool, &[edit(MINUS, TIMES), edit(TIMES, DIVIDED), edit(DIVIDED, TIMES)]),
            |_| swings(),
        ),
        case(
            "outside",
            |tool| {
                turns(tool, &[json!({"do": "edit", "file": "notes.txt", "search": "", "replace": "notes"})])
            },
            |_| outside(),
        ),
        Case {
            args: &["--files", "calc.py", "--files", "tests"],
            settings: may_delete,
            ..case("deletes", deletes, |_| deleted())
        },
        Case {
            args: &["--files", "calc.py", "--max-cost-usd", "0.05"],
            ..case("budget", spends, over_budget)
        },
        Case { login: Login::Subscription, ..case("quota", quota, after_quota) },
    ]
}

const MINUS: &str = "a - b";
const TIMES: &str = "a * b";
const DIVIDED: &str = "a / b";
const PLUS: &str = "a + b";

fn edit(from: &str, to: &str) -> Value {
    json!({"do": "edit", "text": "I will correct add().", "search": format!("    return {from}"),
        "replace": format!("    return {to}")})
}

fn done() -> Value {
    json!({"do": "text", "text": "Done: add() is correct now.",
        "usage": {"input": 1400, "cached": 800, "output": 40}})
}

/// Each of these is what one step does. Aider asks no more after an edit that fits.
fn turns(tool: Tool, steps: &[Value]) -> Value {
    let of = |step: &Value| match tool {
        Tool::Aider => vec![step.clone()],
        _ => vec![step.clone(), done()],
    };
    steps.iter().flat_map(of).collect()
}

/// Aider deletes a file only in this format of its edits.
fn deletes(tool: Tool) -> Value {
    let patch = |text: &str| json!({"do": "text", "text": format!("*** Begin Patch\n{text}*** End Patch\n")});
    let steps = match tool {
        Tool::Aider => [
            patch("*** Update File: calc.py\n@@\n def add(a, b):\n-    return a - b\n+    return a * b\n"),
            patch("*** Delete File: tests/test_calc.py\n"),
        ],
        _ => [edit(MINUS, TIMES), json!({"do": "shell", "command": "rm tests/test_calc.py"})],
    };
    turns(tool, &steps)
}

/// Claude and codex delete within their directory without being asked.
fn may_delete(tool: Tool) -> Settings {
    let allowed = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}}, "tools": {"allowed": ["run_shell_command(rm)"]},
    });
    match tool {
        Tool::Aider => Settings { env: Some(("AIDER_EDIT_FORMAT", "patch")), ..Settings::default() },
        Tool::Gemini => Settings { file: Some((".gemini/settings.json", allowed)), ..Settings::default() },
        Tool::Codex | Tool::Claude => Settings::default(),
    }
}

/// Whether what a tool uses is known while it works.
fn is_ended_by_its_budget(tool: Tool) -> bool {
    matches!(tool, Tool::Codex | Tool::Claude)
}

/// A fix that costs too much. A tool that is to be ended in the middle waits for an answer that does not come.
fn spends(tool: Tool) -> Value {
    let mut dear = edit(TIMES, DIVIDED);
    dear["usage"] = json!({"input": 90_000, "cached": 0, "output": 1000});
    if is_ended_by_its_budget(tool) {
        return json!([edit(MINUS, TIMES), done(), dear, {"do": "hang", "times": "always"}]);
    }
    turns(tool, &[edit(MINUS, TIMES), dear])
}

/// The quota is used up after the fix has edited; aider has but one request, which it repeats again and again.
fn quota(tool: Tool) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let refusal = match tool {
        Tool::Aider => {
            json!({"do": "quota", "message": "You have exhausted your quota, resets in 12s.", "lasts_s": 8})
        }
        // Codex tells whole minutes.
        Tool::Codex => json!({"do": "quota", "resets_at": (now + 30) / 60 * 60 + 60}),
        Tool::Claude => json!({"do": "quota", "resets_at": now + 30}),
        Tool::Gemini => json!({"do": "status", "status": 429,
            "message": "You have exhausted your quota on this model. Please retry in 9s."}),
    };
    match tool {
        Tool::Aider => json!([edit(MINUS, TIMES), refusal, edit(TIMES, PLUS)]),
        _ => json!([edit(MINUS, TIMES), done(), edit(TIMES, PLUS), refusal, done()]),
    }
}

fn one_fix() -> Want {
    Want {
        status: "succeeded",
        reason: "-",
        exit: 0,
        steps: "01-edit 02-runtime 03-fix 04-runtime",
        branch: "01 03",
        aside: "-",
        session: "-",
        calc: "def add(a, b):\n    return a + b",
    }
}

fn swings() -> Want {
    Want {
        status: "failed",
        reason: "oscillation",
        exit: 1,
        steps: "01-edit 02-runtime 03-fix 04-runtime 05-fix",
        branch: "01 03 05",
        calc: "def add(a, b):\n    return a * b",
        ..one_fix()
    }
}

fn outside() -> Want {
    Want {
        status: "quarantined",
        reason: "scope_violation",
        exit: 1,
        steps: "01-edit",
        branch: "-",
        aside: "01",
        calc: BEFORE.trim_ascii_end(),
        ..one_fix()
    }
}

fn deleted() -> Want {
    Want {
        status: "quarantined",
        reason: "tests_vanished",
        exit: 1,
        steps: "01-edit 02-runtime 03-fix",
        branch: "01",
        aside: "03",
        calc: "def add(a, b):\n    return a * b",
        ..one_fix()
    }
}

fn over_budget(tool: Tool) -> Want {
    let want = Want { status: "failed", reason: "budget_exceeded", ..deleted() };
    if is_ended_by_its_budget(tool) {
        return want;
    }
    let calc = "def add(a, b):\n    return a / b";
    Want { steps: "01-edit 02-runtime 03-fix 04-runtime", branch: "01 03", aside: "-", calc, ..want }
}

fn after_quota(tool: Tool) -> Want {
    // What the fix had written when it began to wait is kept as well.
    let (session, aside) = if tool == Tool::Aider { ("new", "-") } else { ("same", "03") };
    Want { steps: "01-edit 02-runtime 03-fix ×2 04-runtime", session, aside, ..one_fix() }
}
