//! A root of version 0.1 (`tests/data/root-0.1`, made by that program): every command reads it, accepts it, runs and
//! recovers what is in it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::Session;
use crate::fake_agent::{Fakes, case};

const JOBS: [&str; 16] = [
    "after-archived",
    "after-quarantined",
    "after-queued",
    "archived-good",
    "by-hand",
    "canceled",
    "done",
    "failed",
    "held",
    "later",
    "lost",
    "needs-gpu",
    "paid",
    "parked",
    "quarantined",
    "queued",
];

/// A project whose root is a copy of that one, as a restore leaves it, with the repository as it was then.
fn restored() -> Fakes {
    let fakes = Fakes::new();
    std::fs::remove_dir_all(fakes.project.root("")).unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/root-0.1"), &fakes.project.root(""));
    fakes.write("repo/calc.py", "def add(a, b):\n    return a + b\n");
    fakes.git(&["commit", "-q", "-a", "-m", "what `paid` did"]);
    fakes.write("repeatable.started", "");
    fakes
}

/// Git keeps neither modes nor empty directories.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            std::fs::set_permissions(&target, PermissionsExt::from_mode(0o600)).unwrap();
        }
    }
}

fn session(fakes: &Fakes) -> Session<'_> {
    Session { env: fakes.env(), ..Session::new(&fakes.project) }
}

/// The codes of what explains a job.
fn codes(session: &Session<'_>, id: &str) -> Vec<String> {
    let explained = session.said(&format!("explain {id} --json")).json();
    let findings = explained["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_root_of_version_0_1_is_read_by_every_command_before_it_is_accepted() {
    let fakes = restored();
    let mut session = session(&fakes);
    session.engine_all(&[
        "status",
        "status --json",
        "list",
        "list --json",
        "list --state waiting",
        "list --run r",
        "list --archived",
        "list --archived --json",
        "events",
        "events --json --job quarantined",
        "usage",
        "usage --json",
    ]);
    for id in JOBS {
        session.engine(&format!("show {id}"));
    }
    session.engine_all(&[
        "show paid --json",
        "show parked --json",
        "show done --all",
        "show archived-bad --all",
        "log done",
        "log done --attempt 1",
        "log quarantined --attempt 2",
        "wait done archived-good",
        "wait quarantined",
        "gc --older-than 0s --dry-run",
        "validate .engine/jobs/queued/queued.json",
        "adapters",
    ]);
    session.matches("root-0.1-read");
}

#[test]
fn a_root_of_version_0_1_runs_once_it_is_accepted() {
    let fakes = restored();
    fakes.play("codex", &fakes.replay(&case("codex", "success"), "echo '# done' >> calc.py\n"));
    let mut session = session(&fakes);
    for line in ["work --drain", "recover", "requeue quarantined", "init --adopt"] {
        session.engine(line);
    }
    for id in ["queued", "needs-gpu", "parked", "after-quarantined", "held", "later", "lost", "repeatable"] {
        session.engine(&format!("explain {id}"));
    }
    for line in [
        "explain lost --json",
        "recover --json",
        "recover",
        "cancel lost",
        "requeue lost",
        "recover --host-is-dead old-host",
        "doctor --repair -q",
        "work --drain --slots 1",
        "requeue quarantined",
        "work --drain --slots 1",
        "requeue canceled",
        "release held",
        "work --drain --slots 1",
        "list",
        "show lost",
        "show repeatable",
        "show parked",
        "show quarantined",
        "usage",
    ] {
        // What they say depends on the machine, and on the processes that are being started on it.
        if line.starts_with("doctor") || line.starts_with("recover --host-is-dead") {
            session.note(&format!("engine {line}"));
            session.quietly(line, 0);
        } else {
            session.engine(line);
        }
    }
    let ours = json!({"job_id": "of-the-same-key", "tool": "shell", "command": {"exe": "sh", "args": ["-c", "echo ran"]},
        "priority": "high", "key": "the key"});
    session.job(&ours);
    for line in ["submit of-the-same-key.json", "gc --older-than 0s", "list", "list --archived", "status"] {
        session.engine(line);
    }
    session.matches("root-0.1-run");
}

#[test]
fn a_crash_under_version_0_1_is_recovered_alone_on_the_machine_where_it_was() {
    let fakes = restored();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for id in ["lost", "repeatable"] {
        let path = fakes.project.root(&format!("state/jobs/{id}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap();
        let here = text.replace("\"host\":\"old-host\"", &format!("\"host\":{}", Value::from(host.as_str())));
        assert_ne!(text, here);
        std::fs::write(&path, here).unwrap();
    }
    let session = session(&fakes);
    session.quietly("init -q --adopt", 0);
    assert_eq!(codes(&session, "lost"), ["runner_gone"]);
    session.quietly("recover", 0);
    let places = ["lost", "repeatable"].map(|id| fakes.project.places(id));
    assert_eq!(places, [["quarantined"], ["queued"]]);
    session.quietly("work --drain -q", 1);
    assert_eq!(fakes.project.record("repeatable")["status"], "succeeded");
    assert_eq!(fakes.project.record("needs-gpu")["status"], "succeeded");
}
