//! `runs list`, `show`, `events`; `patches list`, `show`.
//!
//! A script plays the conductor of a workstream: it runs steps as its children and tells a verdict.

use std::path::Path;

use serde_json::{Value, json};

use super::Session;
use crate::support::{Project, shell, with};

const ENGINE: &str = env!("CARGO_BIN_EXE_engine");
const BASE: &str = "0123456789abcdef0123456789abcdef01234567";

/// A root with the adapter of the script.
fn project() -> Project {
    let project = Project::new();
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let adapter =
        json!({"id": "conductor", "executable": "sh", "args": ["-c", "{script}"], "reader": "verdict"});
    std::fs::write(project.root("adapters/conductor.json"), adapter.to_string()).unwrap();
    project
}

/// Makes a run of one workstream, at a second of its own, and submits nothing.
fn make(project: &Project, run: &str, second: u32) {
    make_in(project, "/repo", (run, second));
}

fn make_in(project: &Project, repo: &str, (run, second): (&str, u32)) {
    let manifest = json!({
        "schema_version": 1, "run_id": run, "created_at": format!("2026-06-15T12:00:{second:02}.000Z"),
        "engine_version": "0.1.0", "repo": repo, "base": {"ref": "refs/heads/main", "commit": BASE},
        "origin": {"trigger_type": "manual", "command": ["engine", "run"]}, "options": {"max_cost_usd": 2.0},
        "bundles": [{"ws_id": "ws-task", "file": null, "sha256": "0".repeat(64)}], "jobs_sha256": "",
        "order": [{"ws_id": "ws-task", "depends_on": [], "after": [], "reason": null, "wave": null}],
    });
    let dir = project.root("state/runs").join(run);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("run.json"), manifest.to_string()).unwrap();
}

/// The workstream's job: steps that its script runs, then a verdict.
fn workstream(run: &str, steps: &[(&str, Value)], verdict: &Value) -> Value {
    let id = format!("{run}.ws-task");
    let mut script = String::from("exec 2>/dev/null\n");
    for (step, more) in steps {
        let (n, kind) = step.split_once('-').unwrap();
        let job = json!({
            "job_id": format!("{id}.{step}"), "parent": id, "run_id": run, "workstream_id": "ws-task",
            "on_failure": "done",
        });
        let mut job = with(job, more);
        let tree = if n < "02" {
            "t0"
        } else if n < "04" {
            "t1"
        } else {
            "t2"
        };
        let check = if kind == "edit" { Value::Null } else { json!("ruff") };
        job["metadata"]["step"] = json!({
            "n": n.parse::<u32>().unwrap(), "kind": kind, "iteration": u32::from(kind == "fix"), "check": check,
            "life": 1, "tree": tree, "why": "not_proved",
        });
        script.push_str(&format!(
            "cat <<'JOB' | {ENGINE} run-job -q --output never --job-file -\n{job}\nJOB\n"
        ));
    }
    script.push_str(&format!("cat <<'VERDICT'\n{verdict}\nVERDICT\n"));
    let checks = json!([{"name": "ruff", "kind": "static"}]);
    json!({
        "job_id": id, "tool": "conductor", "run_id": run, "workstream_id": "ws-task", "on_failure": "done",
        "metadata": {"script": script, "checks": checks, "base": {"commit": BASE}},
    })
}

fn told(run: &str, head: &str) -> Value {
    json!({
        "base": BASE, "head": head, "branch": format!("engine/{run}/ws-task"), "worktree": format!("/trees/{run}/ws-task"),
        "phase": "done", "fixes": {"static": 1, "runtime": 0}, "files_changed": 1, "insertions": 2, "deletions": 1,
        "acceptance_not_run": [], "breaker": null, "put_aside": [], "cost_usd": null, "tokens": null,
        "warnings": ["refs/stash moved"],
    })
}

/// An agent whose patch was kept.
fn agent(patch: &str) -> Value {
    let verdict = json!({"verdict": "succeeded", "metadata": {"evidence": {"files_total": 1, "patch_path": "state/logs/p"}}});
    let write = format!("printf '%s\\n' '{patch}' > .engine/state/logs/p; echo '{verdict}'");
    json!({"tool": "conductor", "metadata": {"script": write}})
}

fn check(exit: u32) -> Value {
    let mut job = shell("x", &format!("exit {exit}"));
    job.as_object_mut().unwrap().remove("job_id");
    job
}

/// A run that succeeded after one fix, one that failed, one that was stopped before it was submitted.
fn usual(project: &Project) -> Session<'_> {
    let session = Session::new(project);
    let run = |job: Value, code| {
        project.job(&job);
        session.quietly(&format!("run-job --job-file {}.json", job["job_id"].as_str().unwrap()), code);
    };
    make(project, "r-good", 1);
    let verdict = json!({"verdict": "succeeded", "metadata": told("r-good", &"a".repeat(40))});
    let steps = [
        ("01-edit", agent("--- a/calc.py")),
        ("02-static", check(3)),
        ("03-fix", check(0)),
        ("04-static", check(0)),
    ];
    run(workstream("r-good", &steps, &verdict), 0);
    make(project, "r-bad", 2);
    let reason =
        json!({"code": "oscillation", "message": "after step 03 the tree is one that `ruff` has failed on"});
    let mut metadata = told("r-bad", BASE);
    metadata["breaker"] = json!({"rule": "oscillation", "steps": ["02", "03"]});
    metadata["put_aside"] = json!(["refs/engine/r-bad/ws-task/03"]);
    let verdict = json!({"verdict": "failed", "reason": reason, "metadata": metadata});
    run(workstream("r-bad", &steps[..3], &verdict), 1);
    make(project, "r-half", 3);
    session
}

#[test]
fn runs() {
    let project = project();
    let mut session = usual(&project);
    session.engine_all(&[
        "runs list",
        "runs list --json",
        "runs show r-good",
        "runs show r-bad",
        "runs show last",
    ]);
    session.engine_all(&[
        "runs show r-good --json",
        "runs events r-bad",
        "runs events r-good --follow --json",
    ]);
    for line in [
        "runs show r-god",
        "runs show r-none --json",
        "runs show no.run",
        "runs events none",
        "runs",
        "runs show",
    ] {
        session.engine(line);
    }
    std::fs::create_dir_all(project.root("state/runs/r-torn")).unwrap();
    session.note("a crash left state/runs/r-torn without a manifest");
    session.engine_all(&["runs show r-torn", "--root nowhere runs list"]);
    session.matches("runs");
}

#[test]
fn patches() {
    let project = project();
    let mut session = Session::new(&project);
    session.engine_all(&["patches list", "patches list --run last", "runs list"]);
    let mut session = Session { text: session.text, ..usual(&project) };
    session.engine_all(&[
        "patches list",
        "patches list --run r-bad --json",
        "patches show r-good.ws-task.01-edit",
        "patches show r-good.ws-task.01-edit --json",
        "patches show r-good.ws-task.03-fix",
        "patches show r-bad.ws-task.03-fix",
    ]);
    for line in [
        "patches show r-good.ws-task.02-static",
        "patches show r-none.ws-task.01-edit",
        "patches show x",
        "patches",
    ] {
        session.engine(line);
    }
    std::fs::remove_file(project.root("state/logs/p")).unwrap();
    session.note("state/logs/p is gone");
    session.engine("patches show r-good.ws-task.01-edit");
    session.matches("patches");
}

/// Runs git in a directory, with nothing of the user's settings.
fn git(dir: &Path, line: &str) -> String {
    let mut command = std::process::Command::new("git");
    command.args(line.split(' ')).current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    for (who, at) in [("AUTHOR", "a"), ("COMMITTER", "c")] {
        command.env(format!("GIT_{who}_NAME"), at).env(format!("GIT_{who}_EMAIL"), at);
        command.env(format!("GIT_{who}_DATE"), "2026-06-15T12:00:00Z");
    }
    let said = command.output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(said.stdout.trim_ascii()).into_owned()
}

#[test]
fn runs_clean() {
    let project = project();
    let repo = project.path("repo");
    std::fs::create_dir(&repo).unwrap();
    git(&repo, "init -q -b main");
    git(&repo, "commit -q --allow-empty -m base");
    let mut session = Session::new(&project);
    for (run, merged, second) in [("r-merged", true, 1), ("r-other", false, 2)] {
        make_in(&project, repo.to_str().unwrap(), (run, second));
        let verdict = json!({"verdict": "succeeded", "metadata": told(run, BASE)});
        project.job(&workstream(run, &[], &verdict));
        session.quietly(&format!("run-job --job-file {run}.ws-task.json"), 0);
        let commit = match merged {
            true => git(&repo, "rev-parse HEAD"),
            false => git(&repo, "commit-tree -p HEAD -m edit HEAD^{tree}"),
        };
        for name in [
            format!("refs/engine/{run}/base"),
            format!("refs/engine/{run}/ws-task/head"),
            format!("refs/engine/{run}/ws-task/03"),
            format!("refs/heads/engine/{run}/ws-task"),
        ] {
            git(&repo, &format!("update-ref {name} {commit}"));
        }
    }
    make_in(&project, repo.to_str().unwrap(), ("r-half", 3));
    std::fs::create_dir_all(project.root("state/runs/r-torn")).unwrap();
    let references =
        |session: &mut Session<'_>| session.note(&git(&repo, "for-each-ref --format=%(refname)"));
    session.note("r-merged is in main, r-other is not, r-half was not submitted, r-torn has no manifest");
    session.engine_all(&["runs clean --dry-run --branches", "runs clean"]);
    references(&mut session);
    session.engine_all(&[
        "runs clean r-merged",
        "runs clean r-other",
        "runs clean r-half",
        "runs clean nope",
    ]);
    session.engine_all(&["runs clean r-other r-merged --branches --json", "runs clean last"]);
    references(&mut session);
    std::fs::remove_dir_all(&repo).unwrap();
    session.note("repo is gone");
    session.engine("runs clean r-other");
    session.matches("runs-clean");
}
