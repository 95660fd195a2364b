//! Each reason of an agent's attempt, as the run and `show` tell it: what it lacks before it starts, and what became of it.

use serde_json::{Value, json};

use super::Session;
use crate::fake_agent::{EDIT, Fakes, case};
use crate::support::Said;

/// A session in the project of the fakes, with their keys in the environment.
fn session(fakes: &Fakes) -> Session<'_> {
    Session { env: fakes.env(), ..Session::new(&fakes.project) }
}

/// Runs a job and tells what became of it. Of a tool that has told its error, the engine may be faster than the end: then it
/// has no exit code, and what it had started outlives it.
fn outcome(session: &mut Session<'_>, document: &Value) {
    session.job(document);
    let id = document["job_id"].as_str().unwrap();
    for line in [format!("run-job --output never --job-file {id}.json"), format!("show {id}")] {
        let said = session.said(&line);
        let out = said.out.replace(" s, exit code 1, cpu", " s, cpu");
        let err = said.err.replace("engine: warn: 1 process outlived the tool and was ended\n", "");
        session.show(&line, &Said { out, err, ..said });
    }
}

#[test]
fn of_an_agent_that_is_not_started() {
    let fakes = Fakes::new();
    let mut session = session(&fakes);
    let job = |id: &str, metadata: &Value| Fakes::job(id, "claude", metadata);
    let mut no_prompt = job("prompt-missing", &json!({}));
    no_prompt["metadata"] = json!({});
    let at = |id: &str, key: &str, value: &str| {
        let mut document = job(id, &json!({}));
        document["paths"][key] = json!(value);
        document
    };
    std::fs::create_dir(fakes.path("plain")).unwrap();
    for document in [
        no_prompt,
        job("prompt-empty", &json!({"prompt": " \n"})),
        job("budget-exceeded", &json!({"max_tokens": 0})),
        job("scope-matches-nothing", &json!({"files_scope": ["src/**/*.rs"]})),
        job("scope-invalid", &json!({"files_scope": ["../calc.py"]})),
        job("keep-refused", &json!({"keep": ["sccache"]})),
        at("not-a-repository", "repo_root", "plain"),
        at("working-dir-outside", "working_dir", "../plain"),
    ] {
        outcome(&mut session, &document);
    }
    let mut relative = job("home-missing", &json!({}));
    relative["env"] = json!({"HOME": "home", "CLAUDE_CONFIG_DIR": ""});
    outcome(&mut session, &relative);
    fakes.git(&["config", "core.worktree", fakes.project.dir().to_str().unwrap()]);
    session.note("core.worktree is another directory");
    outcome(&mut session, &job("work-tree-elsewhere", &json!({})));
    fakes.git(&["config", "--unset", "core.worktree"]);
    std::fs::write(fakes.path("repo/.git/index"), "no index").unwrap();
    session.note("the index is no index");
    outcome(&mut session, &job("evidence-failed", &json!({})));
    fakes.install("claude", "2.1.99");
    session.note("claude is of version 2.1.99");
    outcome(&mut session, &job("tool-version", &json!({})));
    session.note("no key is in the environment");
    session.env.retain(|(name, _)| !name.ends_with("_API_KEY"));
    outcome(&mut session, &job("key-missing", &json!({})));
    session.note("there is no git");
    let alone = fakes.path("bin").display().to_string();
    fakes.install("claude", "2.1.197");
    std::os::unix::fs::symlink("/bin/cat", fakes.path("bin/cat")).unwrap();
    session.env = fakes.env();
    session.env.retain(|(name, _)| name != "PATH");
    session.env.push(("PATH".to_owned(), alone));
    outcome(&mut session, &job("git-missing", &json!({})));
    session.matches("reasons-agent-not-started");
}

#[test]
fn of_an_agent_that_has_run() {
    let fakes = Fakes::new();
    let mut session = session(&fakes);
    for (tool, name) in [
        ("claude", "success"),
        ("claude", "no_change"),
        ("claude", "bad_edit"),
        ("claude", "refusal"),
        ("claude", "denied"),
        ("codex", "http_401"),
        ("claude", "http_402"),
        ("claude", "quota"),
        ("codex", "rate_429"),
        ("codex", "http_529"),
        ("claude", "context_overflow"),
        ("claude", "malformed"),
    ] {
        let edit = if name == "success" { EDIT } else { "" };
        fakes.play(tool, &fakes.replay(&case(tool, name), edit));
        let id = name.replace('_', "-");
        outcome(&mut session, &Fakes::job(&id, tool, &json!({"retry_policy": "none"})));
    }
    session.matches("reasons-agent-ended");
}

#[test]
fn of_an_agent_that_did_not_end_by_itself_or_did_too_much() {
    let fakes = Fakes::new();
    let mut session = session(&fakes);
    fakes.play("claude", "exec sleep 600");
    outcome(
        &mut session,
        &Fakes::job("stalled", "claude", &json!({"idle_timeout_seconds": 0.2, "max_retries": 0})),
    );
    outcome(
        &mut session,
        &Fakes::job("timed-out", "claude", &json!({"timeout_seconds": 0.2, "max_retries": 0})),
    );
    let beyond = format!("{EDIT}echo x > beyond.txt\n");
    fakes.play("claude", &fakes.replay(&case("claude", "success"), &beyond));
    outcome(&mut session, &Fakes::job("scope-violation", "claude", &json!({"files_scope": ["calc.py"]})));
    fakes.play("claude", "exit 1");
    fakes.play("codex", &fakes.replay(&case("codex", "success"), "echo >> calc.py\n"));
    let hand_on = json!({"retry_policy": "escalate_to_codex", "max_retries": 0});
    outcome(&mut session, &Fakes::job("escalated", "claude", &hand_on));
    session.engine_all(&[
        "explain escalated",
        "explain escalated --json",
        "show escalated.codex",
        "work --drain",
        "wait escalated --json",
        "explain escalated",
    ]);
    session.matches("reasons-agent-ended-by-engine");
}
