//! The engine, the real agent tools and a scripted model server, together.
//!
//! `tests/agents/install.sh` installs the tools; a tool that is not there is told and passed over, unless
//! `ENGINE_AGENTS_REQUIRED=1`. A few cases run as ordinary tests; all of them run in `matrix`, with `ENGINE_AGENT_MATRIX=1`
//! (`tests/agents/matrix.sh`). The one hard rule: nothing here leaves the machine.
#![expect(clippy::disallowed_methods, reason = "a test plays the user and the service")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test needs and does not find fails it")]

mod alone;
mod bench;
mod cases;
mod check;
mod ledger;
mod matrix;
mod play;
#[path = "../helper/server/mod.rs"]
mod server;
mod tool;

use tool::Tool;

/// Runs one case of one tool, in a process of its own that has no network but loopback.
fn run(test: &str, tool: Tool, case: &str) {
    if !tool.is_there() || alone::elsewhere(test) {
        return;
    }
    let case = cases::named(case);
    let played = play::play(tool, &case);
    assert!(played.problems.is_empty(), "{} {}:\n{}", tool.name(), case.name, played.report());
}

/// Everything, two at a time, and the table of it.
#[test]
fn matrix() {
    if std::env::var_os("ENGINE_AGENT_MATRIX").is_none_or(|value| value != "1") {
        return alone::tell("not run: the matrix of the agents (tests/agents/matrix.sh)");
    }
    let tools: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| tool.is_there()).collect();
    if !alone::elsewhere("matrix") {
        matrix::run(&tools);
    }
}

macro_rules! ordinary {
    ($($name:ident: $tool:ident $case:literal;)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), Tool::$tool, $case);
        })*
    };
}

ordinary! {
    an_edit_of_aider_is_a_success: Aider "success";
    an_edit_of_codex_is_a_success: Codex "success";
    an_edit_of_claude_is_a_success: Claude "success";
    an_edit_of_gemini_is_a_success: Gemini "success";
    prose_of_aider_is_no_change: Aider "no_change";
    prose_of_codex_is_no_change: Codex "no_change";
    prose_of_claude_is_no_change: Claude "no_change";
    prose_of_gemini_is_no_change: Gemini "no_change";
    a_key_that_is_refused_ends_aider_at_once: Aider "http_401";
    a_key_that_is_refused_ends_codex_at_once: Codex "http_401";
    a_key_that_is_refused_ends_claude_at_once: Claude "http_401";
    a_key_that_is_refused_ends_gemini_at_once: Gemini "http_401";
    aider_does_not_outlive_a_killed_engine: Aider "kill";
    codex_does_not_outlive_a_killed_engine: Codex "kill";
    claude_does_not_outlive_a_killed_engine: Claude "kill";
    gemini_does_not_outlive_a_killed_engine: Gemini "kill";
}
