//! `gc`, `doctor`, `recover`, and what reads the archive.

use serde_json::{Value, json};

use super::{Session, shell, with};
use crate::support::Project;

#[test]
fn gc() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine("gc --older-than 30d");
    session.jobs(&[
        with(shell("good", "echo out"), &json!({"run_id": "r"})),
        with(shell("bad", "exit 3"), &json!({"run_id": "r"})),
        shell("needed", "true"),
        with(
            shell("behind", "true"),
            &json!({"depends_on": ["needed", "good"], "not_before": "2999-01-01T00:00:00Z"}),
        ),
        with(shell("late", "true"), &json!({"depends_on": ["good"]})),
    ]);
    for (id, code) in [("good", 0), ("bad", 3), ("needed", 0)] {
        session.quietly(&format!("run-job --job-file {id}.json"), code);
    }
    session.quietly("submit behind.json", 0);
    session.note("the first three have run, `behind` is queued");
    session.engine_all(&[
        "gc --older-than 0s --dry-run",
        "gc --older-than 30d --json",
        "gc",
        "gc --older-than soon",
        "cancel behind",
        "gc --older-than 0s --keep-count 3 --dry-run",
        "gc --older-than 0s",
        "gc --older-than 0s --json",
        "list",
        "list --archived",
        "list --archived --json",
        "list --archived --run r --state quarantined",
        "show bad",
        "show bad --json",
        "show bad --all",
        "explain bad",
        "explain bad --json",
        "log good",
        "wait good bad",
        "requeue bad",
        "requeue bad --json",
        "requeue --run r --failed",
        "cancel good",
        "cancel good --json",
        "hold good",
        "events --job bad",
        "status",
        "submit late.json",
        "run-job --job-file late.json",
        "--root nowhere gc --older-than 1d",
    ]);
    session.matches("gc");
}

#[test]
fn recover() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine("recover");
    for (id, more) in [("once", json!({})), ("again", json!({"on_crash": "requeue"}))] {
        let running = session.start(id, &more);
        session.abandon(id, running);
    }
    session.engine_all(&[
        "status",
        "list",
        "explain once",
        "show once",
        "log once --follow",
        "requeue once",
        "recover",
        "recover --json",
    ]);
    for line in ["list", "explain once", "explain again", "show again", "recover --host-is-dead elsewhere"] {
        session.engine(line);
    }
    session.engine("--root nowhere recover");
    session.matches("recover");
}

/// The keys, the names of all checks, and what those of the root mean; what the machine is found to be differs.
#[test]
fn doctor() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let found = session.said("doctor --json").json();
    let keys =
        |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(", ");
    let checks = found["checks"].as_array().unwrap();
    session.note(&format!("engine doctor --json: {}\nits checks: {}", keys(&found), keys(&checks[0])));
    for check in checks {
        assert_eq!(keys(check), keys(&checks[0]));
        let text = |key: &str| check[key].as_str().unwrap();
        let meaning = if text("part") == "root" { text("meaning") } else { "(of this machine)" };
        session.note(&format!("{} {}: {meaning}", text("part"), text("check")));
    }
    session.engine("doctor --nonsense");
    session.engine("--root nowhere doctor");
    session.matches("doctor");
}

/// What is wrong in the root itself does not depend on the machine.
#[test]
fn doctor_of_a_root_that_is_not_well() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.file(".engine/jobs/queued/torn.json", "{");
    session.file(".engine/jobs/queued/notes.txt", "no job");
    session.file(".engine/state/jobs/broken.jsonl", "no record\n");
    session.file(".engine/adapters/torn.json", "{");
    session.file(".engine/state/control/HOLD", "");
    for (line, mark) in [("doctor", "before"), ("doctor --repair", "after")] {
        let said = session.said(line);
        let root: Vec<&str> = said.out.lines().skip_while(|line| *line != "root").collect();
        session.note(&format!(
            "engine {line}: exit status {}, from the part `root` on ({mark})\n{}\n{}",
            said.code,
            root.join("\n"),
            said.err
        ));
    }
    session.matches("doctor-unwell");
}
