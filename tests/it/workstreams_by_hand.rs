//! What a person changes between two lives of a workstream: its task, its files, its branch.

use serde_json::{Value, json};

use crate::checkout::{BEFORE, CHECK, Checkout, MENDS, WAITS, Working};
use crate::workstreams_many::{APPENDS, bundle};
use rustix::process::Signal;

/// Changes the job file of the workstream as an editor would.
fn edit_job(checkout: &Checkout, change: impl Fn(&mut Value)) {
    let days = std::fs::read_dir(checkout.project.root("jobs/done")).unwrap().flatten();
    let path = days.map(|day| day.path().join("r.ws-task.json")).find(|path| path.exists()).unwrap();
    let mut job: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut job);
    std::fs::write(&path, job.to_string()).unwrap();
}

#[test]
fn a_task_that_a_person_changed_is_what_an_interrupted_step_is_asked_when_it_goes_on() {
    let checkout = Checkout::new();
    let args =
        ["run", "--run", "r", "--task", "an old wish", "--files", "calc.py", "--tool", "ed", "--test", CHECK];
    let working = Working::start(&checkout, checkout.command(&args, WAITS)).begun(&["begun"]);
    working.signal(Signal::INT, "signal again to interrupt it");
    working.signal(Signal::INT, "was asked to stop; signal again to kill");
    working.exits(130);
    edit_job(&checkout, |job| {
        job["metadata"]["bundle"]["tasks"] = json!(["a new wish"]);
        job["metadata"]["bundle"]["files_scope"] = json!(["calc.py", "other.txt"]);
    });
    let _ = checkout.resume(&format!("{MENDS}; echo y > other.txt")).exits(0);
    let prompt = std::fs::read_to_string(checkout.out("prompt")).unwrap();
    assert!(prompt.contains("a new wish") && !prompt.contains("an old wish"), "{prompt}");
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "y\n");
    checkout.is_at_rest();
}

#[test]
fn a_change_of_the_scope_by_hand_stands_for_an_edit_that_failed() {
    let checkout = Checkout::new();
    let _ = checkout.run("exit 3", &["--test", CHECK]).exits(1);
    std::fs::write(checkout.worktree().join("calc.py"), BEFORE.replace('-', "+")).unwrap();
    let _ = checkout.resume("touch \"$OUT/asked\"; exit 9").exits(0);
    assert!(!checkout.out("asked").exists(), "no agent is asked");
    assert!(checkout.commits()[0].starts_with("hand 0"), "{:?}", checkout.commits());
    checkout.is_at_rest();
}

#[test]
fn a_fix_that_changes_nothing_is_told_with_the_check_that_still_fails() {
    let checkout = Checkout::new();
    let edit = "[ \"$ENGINE_STEP\" = fix ] || sed -i 's/a - b/a * b/' calc.py";
    let args =
        ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "agent", "--check", CHECK];
    let said = checkout.engine_editing(&args, edit);
    let shown = checkout.shown();
    assert_eq!(shown.code(), "no_change", "{:#}", shown.0);
    assert!(shown.message().contains("still fails") && !shown.message().contains("allow_no_change"));
    assert!(!said.err.contains("allow_no_change"), "{}", said.err);
    let _ = said.exits(1);
}

/// A run of which one workstream has succeeded and the other failed.
fn half_done() -> Checkout {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-bad", &["b.txt"], &json!({}));
    let bundles = checkout.out("bundles").display().to_string();
    let _ = checkout.engine_editing(&["run", "--run", "r", &bundles], APPENDS).exits(1);
    checkout
}

/// Makes the other one succeed, too.
const ALL: &str =
    "for f in $(cat \"$OUT/of.$ENGINE_WORKSTREAM_ID\"); do echo \"$ENGINE_WORKSTREAM_ID\" >> $f; done";

#[test]
fn a_branch_that_was_moved_back_or_to_another_history_undoes_nothing_that_has_succeeded() {
    for commit in ["main", "$(git commit-tree -m other $(git mktree < /dev/null))"] {
        let checkout = half_done();
        let script = format!("git branch -f engine/r/ws-a {commit}");
        let moved = std::process::Command::new("sh")
            .args(["-ec", &script])
            .current_dir(checkout.project.dir())
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "b"), ("GIT_COMMITTER_NAME", "a")])
            .env("GIT_COMMITTER_EMAIL", "b")
            .status();
        // git refuses to move a branch that a worktree has; a program can all the same.
        if !moved.unwrap().success() {
            let update = script.replace("git branch -f engine", "git update-ref refs/heads/engine");
            let mut command = std::process::Command::new("sh");
            command.args(["-ec", &update]).current_dir(checkout.project.dir());
            command.envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "b"), ("GIT_COMMITTER_NAME", "a")]);
            assert!(command.env("GIT_COMMITTER_EMAIL", "b").status().unwrap().success(), "{update}");
        }
        let _ = checkout.engine_editing(&["run", "--resume", "r"], ALL).exits(0);
        let branch = "engine/r/integration";
        assert_eq!(
            (checkout.file(branch, "a.txt"), checkout.file(branch, "b.txt")),
            ("ws-a\n".to_owned(), "ws-bad\n".to_owned()),
            "{commit}"
        );
        assert_eq!(checkout.file("engine/r/ws-a", "a.txt"), "ws-a\n", "{commit}");
    }
}

#[test]
fn commits_on_a_branch_that_change_files_outside_of_the_scope_are_named() {
    let checkout = half_done();
    let tree = checkout.worktree().with_file_name("ws-a");
    let dir = if tree.is_dir() {
        tree
    } else {
        checkout.git(&["switch", "-q", "engine/r/ws-a"]);
        checkout.project.dir().to_path_buf()
    };
    std::fs::write(dir.join("calc.py"), "evil\n").unwrap();
    checkout.git_in(&dir, &["commit", "-q", "-a", "-m", "innocent"]);
    checkout.git(&["switch", "-q", "main"]);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], ALL).exits(0);
    let shown = checkout.shown();
    let warnings = shown.0["workstreams"][0]["warnings"].to_string();
    assert!(warnings.contains("outside of the scope they change `calc.py`"), "{warnings}");
}
