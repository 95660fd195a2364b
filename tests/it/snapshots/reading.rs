//! `show`, `list`, `status`, `events`, `log`, `usage`, `explain`.

use serde_json::{Value, json};

use super::{Session, shell, with};
use crate::support::Project;

/// A root with one job in each of the usual states.
fn usual(project: &Project) -> Session<'_> {
    let mut session = Session::new(project);
    let of_run = json!({"run_id": "r", "workstream_id": "w"});
    session.jobs(&[
        with(shell("good", "echo out; echo err >&2"), &of_run),
        with(shell("bad", "echo out; echo err >&2; exit 3"), &of_run),
        with(shell("retried", "exit 4"), &json!({
            "metadata": {"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}},
        })),
        with(shell("failed", "exit 5"), &json!({"on_failure": "done"})),
        with(shell("behind", "true"), &json!({"depends_on": ["bad", "good"], "priority": "high", "key": "k"})),
        with(shell("later", "true"), &json!({"not_before": "2999-01-01T00:00:00Z"})),
        shell("canceled", "true"),
        shell("ready", "true"),
    ]);
    for (id, code) in [("good", 0), ("bad", 3), ("retried", 4), ("failed", 5)] {
        session.quietly(&format!("run-job --job-file {id}.json"), code);
    }
    for id in ["behind", "later", "canceled", "ready"] {
        session.quietly(&format!("submit {id}.json"), 0);
    }
    session.quietly("cancel canceled", 0);
    session.note("the first four have run, the others were submitted, `canceled` was canceled");
    session
}

#[test]
fn show() {
    let project = Project::new();
    let mut session = usual(&project);
    for id in ["good", "bad", "retried", "failed", "behind", "later", "canceled", "ready"] {
        session.engine(&format!("show {id}"));
    }
    for line in ["show bad --json", "show behind --json", "show retried --all", "show ready --json"] {
        session.engine(line);
    }
    for line in
        ["show unknown", "show bda", "show unknown --json", "show 'no id'", "show", "--root nowhere show bad"]
    {
        session.engine(line);
    }
    session.matches("show");
}

#[test]
fn list() {
    let project = Project::new();
    let mut session = usual(&project);
    for line in
        ["list", "list --json", "list --limit 2", "list --run r", "list --tool git", "list --workstream w"]
    {
        session.engine(line);
    }
    for state in ["queued", "waiting", "running", "succeeded", "failed", "canceled", "quarantined"] {
        session.engine(&format!("list --state {state}"));
    }
    for line in ["list --since 1h --limit 1", "list --since yesterday", "list --archived", "list --limit few"]
    {
        session.engine(line);
    }
    session.file(".engine/jobs/queued/foreign.json", "not a job");
    session.engine("list --state queued");
    session.engine("--root nowhere list");
    session.matches("list");
}

#[test]
fn status() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine("status");
    session.matches("status-empty");
    let mut session = usual(&project);
    session.engine("status");
    session.engine("status --json");
    let running = session.start("runs", &json!({}));
    session.engine_all(&[
        "status",
        "status --json",
        "list --state running",
        "show runs",
        "explain runs",
        "explain runs --json",
    ]);
    session.quietly("cancel runs", 0);
    running.wait().exits(143);
    session.engine("--root nowhere status");
    session.matches("status");
}

#[test]
fn events() {
    let project = Project::new();
    let mut session = usual(&project);
    session.engine_all(&[
        "events",
        "events --json --job retried",
        "events --run r",
        "events --job unknown",
        "events --since 1h --job good",
        "events --since soon",
        "--root nowhere events",
    ]);
    session.matches("events");
}

#[test]
fn log() {
    let project = Project::new();
    let mut session = usual(&project);
    session.engine_all(&[
        "log good",
        "log bad --follow",
        "log retried --attempt 1",
        "log retried --attempt 3",
        "log ready",
        "log canceled",
        "log unknown",
        "log unknown --follow",
        "log good --attempt none",
        "--root nowhere log good",
    ]);
    session.note("rm .engine/state/logs/good.1.log");
    std::fs::remove_file(project.root("state/logs/good.1.log")).unwrap();
    session.engine("log good");
    session.matches("log");
}

#[test]
fn explain() {
    let project = Project::new();
    let mut session = usual(&project);
    for id in ["good", "bad", "retried", "failed", "behind", "later", "canceled", "ready"] {
        session.engine(&format!("explain {id}"));
    }
    session.engine_all(&[
        "explain behind --json",
        "explain bad --json",
        "explain unknown",
        "explain unknown --json",
        "--root nowhere explain bad",
    ]);
    session.matches("explain");
}

/// A line of the ledger, as an agent's attempt leaves it.
fn spent(job: &str, run: &str, tool: &str, more: &Value) -> String {
    let line = json!({
        "schema_version": 1, "at": "2026-11-21T10:00:00.000Z", "job_id": job, "attempt": 1, "run_id": run,
        "workstream_id": null, "tool": tool, "model": "large", "session_id": null, "outcome": "succeeded",
        "reason_code": null, "turns": null, "input_tokens": null, "cached_input_tokens": null,
        "cache_write_tokens": null, "output_tokens": null, "tokens_source": "stream", "cost_usd": null,
        "computed_cost_usd": null, "price_source": null,
    });
    with(line, more).to_string()
}

#[test]
fn usage() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine("usage");
    let lines = [
        spent(
            "a",
            "r",
            "claude",
            &json!({"input_tokens": 1000, "output_tokens": 200, "cost_usd": 0.25, "turns": 3}),
        ),
        spent(
            "b",
            "r",
            "codex",
            &json!({"input_tokens": 4000, "cached_input_tokens": 500, "output_tokens": 10}),
        ),
        spent("b", "s", "codex", &json!({"attempt": 2, "outcome": "failed", "cost_usd": 0.5})),
    ];
    session.file(".engine/state/usage.jsonl", &(lines.join("\n") + "\n"));
    for line in ["usage", "usage --json", "usage --run r", "usage --workstream none", "usage --by nonsense"] {
        session.engine(line);
    }
    for by in ["run", "tool", "model", "day"] {
        session.engine(&format!("usage --by {by}"));
    }
    session.engine("--root nowhere usage");
    session.matches("usage");
}
