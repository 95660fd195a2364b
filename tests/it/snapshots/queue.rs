//! `submit`, `work`, `hold`, `release`, `cancel`, `requeue`, `wait`.

use serde_json::json;

use super::{Session, shell, with};
use crate::support::Project;

#[test]
fn submit() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[
        shell("a", "true"),
        with(shell("b", "true"), &json!({"depends_on": ["a"], "key": "k"})),
        with(shell("again", "true"), &json!({"key": "k"})),
        with(shell("orphan", "true"), &json!({"depends_on": ["nobody"]})),
        with(shell("ring-1", "true"), &json!({"depends_on": ["ring-2"]})),
        with(shell("ring-2", "true"), &json!({"depends_on": ["ring-1"]})),
    ]);
    session.file("wrong.json", "{\"job_id\": \"wrong\", \"tol\": \"shell\"}");
    session.engine_all(&[
        "submit --dry-run a.json b.json",
        "submit a.json",
        "submit b.json --json",
        "submit a.json",
        "submit a.json --json",
        "submit a.json --skip-existing",
        "submit a.json --skip-existing --json",
        "submit again.json",
        "submit orphan.json",
        "submit ring-1.json ring-2.json",
        "submit wrong.json nowhere.json",
        "submit wrong.json nowhere.json --json",
        "submit wrong.json a.json --keep-going --skip-existing",
        "submit -- true",
    ]);
    let batch = [shell("c", "true"), shell("d", "true")].map(|job| job.to_string()).join("\n");
    session.engine_reads("submit -", &batch);
    session.engine_reads("submit -", "");
    session.job(&shell("a", "false"));
    session.engine("submit a.json --skip-existing");
    session.engine("--root nowhere submit a.json");
    session.matches("submit");
}

#[test]
fn work() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine("work --drain");
    session.jobs(&[
        shell("good", "echo not shown"),
        shell("bad", "exit 3"),
        with(shell("behind", "true"), &json!({"depends_on": ["bad"]})),
        with(shell("later", "true"), &json!({"not_before": "2999-01-01T00:00:00Z"})),
    ]);
    session.engine("submit good.json bad.json behind.json later.json");
    session.engine_all(&[
        "work --drain --slots 1",
        "work --drain -q",
        "work --slots 0",
        "work --slots many",
        "work --drain --run none",
    ]);
    session.engine("--root nowhere work --drain");
    session.matches("work");
}

#[test]
fn hold_and_release() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[shell("a", "true"), shell("over", "true")]);
    session.engine("run-job --job-file over.json");
    session.engine("submit a.json");
    session.engine_all(&[
        "hold a --reason 'not before noon'",
        "hold a",
        "run-job --claim a",
        "list",
        "hold over",
        "hold unknown",
        "hold",
        "hold --all --reason 'the disk is new'",
        "status",
        "work --drain",
        "release a",
        "release a",
        "release unknown",
        "release",
        "release --all",
        "release --all",
        "--root nowhere hold --all",
        "--root nowhere release --all",
    ]);
    session.matches("hold-release");
}

#[test]
fn cancel() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[
        shell("a", "true"),
        shell("b", "true"),
        with(shell("behind", "true"), &json!({"depends_on": ["a"]})),
        shell("over", "true"),
    ]);
    session.engine("run-job --job-file over.json");
    session.engine("submit a.json b.json behind.json");
    for line in
        ["cancel a", "cancel a", "cancel b unknown over --json", "cancel over", "cancel unknown", "cancel"]
    {
        session.engine(line);
    }
    let running = session.start("runs", &json!({}));
    session.engine("cancel runs");
    session.engine("cancel runs --json");
    session.show("run-job --job-file runs.json", &running.wait());
    session.engine("show runs");
    let running = session.start("asked", &json!({}));
    session.engine("cancel asked --no-wait --json");
    session.show("run-job --job-file asked.json", &running.wait());
    session.engine("--root nowhere cancel a");
    session.matches("cancel");
}

#[test]
fn requeue() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let of_run = json!({"run_id": "r"});
    session.jobs(&[
        with(shell("good", "true"), &of_run),
        with(shell("bad", "exit 3"), &of_run),
        shell("waits", "true"),
    ]);
    session.engine("run-job --job-file good.json");
    session.engine("run-job --job-file bad.json");
    session.engine("submit waits.json");
    session.engine_all(&[
        "requeue bad",
        "requeue bad",
        "requeue bad --json",
        "requeue waits",
        "requeue unknown",
        "requeue good unknown --json",
        "work --drain",
        "requeue --run r --failed",
        "requeue --run r",
        "requeue --run none",
        "requeue good --run r",
        "--root nowhere requeue good",
    ]);
    session.matches("requeue");
}

#[test]
fn wait() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let of_run = json!({"run_id": "r"});
    session.jobs(&[
        with(shell("good", "true"), &of_run),
        with(shell("bad", "exit 3"), &of_run),
        with(shell("behind", "true"), &json!({"depends_on": ["bad"]})),
        shell("waits", "true"),
    ]);
    session.engine("run-job --job-file good.json");
    session.engine("run-job --job-file bad.json");
    session.engine("submit behind.json waits.json");
    session.engine_all(&[
        "wait good",
        "wait good --json",
        "wait good bad",
        "wait good bad --json",
        "wait behind",
        "wait waits --timeout 0",
        "wait --run r",
        "wait unknown",
        "wait --run none",
        "wait",
        "--root nowhere wait good",
    ]);
    session.engine_reads("wait -", "good\nbad\n");
    session.matches("wait");
}
