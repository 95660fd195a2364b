//! The engine, the real agent tools and a scripted model server, together.
//!
//! `tests/agents/install.sh` installs the tools; a tool that is not there is told and passed over, unless
//! `ENGINE_AGENTS_REQUIRED=1`. A few cases run as ordinary tests; all of them run in `matrix` and `workstreams`, with
//! `ENGINE_AGENT_MATRIX=1` (`tests/agents/matrix.sh`, `tests/workstreams/matrix.sh`). The one hard rule: nothing here leaves the
//! machine.
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
mod tables;
mod tool;
mod workstreams;

use matrix::Table;
use tables::{JOBS, WORKSTREAMS};
use tool::Tool;

/// Runs one case of one tool, in a process of its own that has no network but loopback.
fn run(test: &str, table: &Table, tool: Tool, case: &str) {
    if !tool.is_there() || alone::elsewhere(test) {
        return;
    }
    let played = table.play(tool, case);
    assert!(played.problems.is_empty(), "{} {case}:\n{}", tool.name(), played.report());
}

/// Everything of a table, two at a time.
fn run_all(test: &str, table: &Table) {
    if std::env::var_os("ENGINE_AGENT_MATRIX").is_none_or(|value| value != "1") {
        return alone::tell(&format!("not run: all of {test} ({})", table.script));
    }
    let tools: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| tool.is_there()).collect();
    if !alone::elsewhere(test) {
        table.run(&tools);
    }
}

#[test]
fn matrix() {
    run_all("matrix", &JOBS);
}

#[test]
fn workstreams() {
    run_all("workstreams", &WORKSTREAMS);
}

macro_rules! ordinary {
    ($table:ident: $($name:ident: $tool:ident $case:literal;)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), &$table, Tool::$tool, $case);
        })*
    };
}

ordinary! {
    WORKSTREAMS:
    codex_mends_in_a_workstream_what_it_did_wrong: Codex "one_fix";
    claude_mends_in_a_workstream_what_it_did_wrong: Claude "one_fix";
}

ordinary! {
    JOBS:
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
