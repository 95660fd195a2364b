//! `engine runs clean` that loses work, touches what still moves, or leaves half of a run behind.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::checkout::{CHECK, Checkout, FAILS, MENDS, WAITS};
use crate::crash::traced;
use crate::support::{Said, eventually};

const CLEAN: [&str; 3] = ["runs", "clean", "r"];

/// A run `r` that has succeeded, whose worktree stays.
fn succeeded() -> Checkout {
    let checkout = Checkout::new();
    checkout.set("keep_worktrees = \"always\"\n");
    checkout.run(MENDS, &["--test", CHECK]).exits(0);
    checkout
}

impl Checkout {
    /// What is there of the run.
    fn left(&self) -> Vec<String> {
        let tree = self.worktree().exists().then(|| "worktree".to_owned());
        self.refs().into_keys().chain(tree).collect()
    }

    #[track_caller]
    fn cleans(&self, args: &[&str], code: i32, words: &[&str]) {
        let said = self.engine(&[&["runs", "clean"], args].concat());
        assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
        for word in words {
            assert!(said.out.contains(word), "{args:?}: no `{word}` in {}", said.out);
        }
    }
}

const BASE: &str = "refs/engine/r/base";
const HEAD: &str = "refs/engine/r/ws-task/head";
const BRANCH: &str = "refs/heads/engine/r/ws-task";

#[test]
fn each_class_loses_what_its_row_says_and_nothing_else() {
    let checkout = succeeded();
    let all = [BASE, HEAD, BRANCH, "worktree"];
    checkout.cleans(&[], 0, &["unmerged", "kept"]);
    assert_eq!(checkout.left(), all);
    checkout.engine(&["runs", "merge", "r"]).exits(0);
    std::fs::write(checkout.worktree().join("mine"), "by hand\n").unwrap();
    for args in [
        ["--dry-run"].as_slice(),
        &[],
        &["--branches"],
        &["r", "--dry-run"],
        &["r", "--branches", "--dry-run"],
    ] {
        checkout.cleans(args, 0, &["merged and dirty"]);
        assert_eq!(checkout.left(), all, "{args:?}");
    }
    // Of a run that was named the tree goes, and what it held is put aside.
    checkout.cleans(&["r"], 0, &["merged and dirty", "removed the work"]);
    let [_, aside, _, _] = checkout.left().try_into().unwrap();
    assert_eq!(checkout.file(&aside, "mine"), "by hand\n");
    assert_eq!(checkout.git(&["worktree", "list"]).lines().count(), 1);
    checkout.cleans(&["--branches"], 0, &["merged and clean", "2 references", "engine/r/ws-task"]);
    assert_eq!(checkout.left(), Vec::<String>::new());
    assert_eq!(checkout.git(&["log", "-1", "--format=%s"]), "ws-task: edit 01\n");
}

#[test]
fn a_run_that_still_moves_is_left_alone() {
    let checkout = Checkout::new();
    let args = ["run", "--run", "r", "--task", "t", "--files", "calc.py", "--tool", "ed", "--test", "false"];
    let running = checkout.start_editing(&args, &format!("{WAITS}; {FAILS}"));
    eventually("the edit has begun", || checkout.out("begun").exists());
    let before = checkout.left();
    checkout.cleans(&["--branches"], 0, &["active", "left alone"]);
    checkout.cleans(&["r", "--branches"], 1, &["active", "left alone"]);
    assert_eq!(checkout.left(), before);
    std::fs::write(checkout.out("go"), "").unwrap();
    let _ = running.wait().exits(1);
    checkout.cleans(&["r", "--branches"], 0, &["unmerged", "removed the work"]);
    assert_eq!(checkout.left(), Vec::<String>::new());
}

#[test]
fn a_branch_that_is_checked_out_keeps_all_of_its_workstream() {
    let checkout = succeeded();
    let before = checkout.left();
    std::fs::remove_dir_all(checkout.worktree()).unwrap();
    checkout.git(&["worktree", "prune"]);
    checkout.git(&["worktree", "unlock", checkout.worktree().to_str().unwrap()]);
    checkout.git(&["worktree", "prune"]);
    checkout.git(&["switch", "-q", "engine/r/ws-task"]);
    checkout.cleans(&["r", "--branches"], 1, &["error: ", "is checked out in"]);
    assert_eq!(checkout.left(), before[..3]);
    checkout.git(&["switch", "-q", "main"]);
    checkout.cleans(&["r", "--branches"], 0, &["unmerged"]);
    assert_eq!(checkout.left(), Vec::<String>::new());
}

#[test]
fn a_clean_that_is_killed_before_a_step_is_completed_by_the_next_one() {
    let args = [&CLEAN, ["--branches"].as_slice()].concat();
    let checkout = succeeded();
    let trace = checkout.out("trace");
    let dirt = |checkout: &Checkout| std::fs::write(checkout.worktree().join("mine"), "by hand\n").unwrap();
    dirt(&checkout);
    Said::of(&checkout.command(&args, "").env("ENGINE_TEST_TRACE", &trace).output().unwrap()).exits(0);
    let last = traced(&trace).last().unwrap().number;
    assert!(last > 8, "only {last} steps");
    // The first, the last, and some between them.
    for step in [1, 2, last / 4, last / 2, last - last / 4, last - 2, last - 1, last] {
        let checkout = succeeded();
        dirt(&checkout);
        let ended =
            checkout.command(&args, "").env("ENGINE_TEST_KILL_AT", step.to_string()).output().unwrap();
        // Threads that sync objects make the number of steps differ by a few.
        let is_killed = ended.status.signal() == Some(9);
        assert!(is_killed || step + 4 > last, "step {step} of {last}");
        checkout.cleans(&["r", "--branches"], 0, &[]);
        assert_eq!(checkout.left(), Vec::<String>::new(), "step {step}");
        assert_eq!(checkout.git(&["worktree", "list"]).lines().count(), 1, "step {step}");
        checkout.git(&["fsck", "--no-dangling"]);
    }
}

#[test]
fn what_an_agent_left_in_a_submodule_keeps_its_worktree() {
    let checkout = Checkout::new();
    let inner = checkout.out("inner");
    std::fs::create_dir(&inner).unwrap();
    checkout.git_in(&inner, &["init", "-q", "-b", "main"]);
    checkout.git_in(&inner, &["commit", "-q", "--allow-empty", "-m", "inner"]);
    let allow = "protocol.file.allow=always";
    checkout.git(&["-c", allow, "submodule", "--quiet", "add", inner.to_str().unwrap(), "sub"]);
    checkout.git(&["commit", "-q", "-m", "sub"]);
    checkout.set("setup = [\"git -c protocol.file.allow=always submodule update --init -q\"]\n");
    let said = checkout.run(&format!("{MENDS}; echo mine > sub/new"), &["--test", CHECK]);
    said.exits(0);
    let new = checkout.worktree().join("sub/new");
    assert!(new.exists(), "the file went with the worktree of a run that succeeded");
    assert!(checkout.shown().warnings().contains("the submodule sub"), "{}", checkout.shown().warnings());
    for args in [["r"].as_slice(), &["r", "--branches"]] {
        checkout.cleans(args, 1, &["error: ", "the submodule sub"]);
    }
    assert_eq!(std::fs::read_to_string(&new).unwrap(), "mine\n");
    std::fs::remove_file(new).unwrap();
    checkout.cleans(&["r", "--branches"], 0, &["removed the work"]);
    assert_eq!(checkout.left(), Vec::<String>::new());
}

#[test]
fn everything_below_the_names_of_a_run_goes_with_the_last_of_it() {
    let checkout = succeeded();
    checkout.engine(&["runs", "merge", "r"]).exits(0);
    let odd = ["refs/heads/engine/r/integration/x", "refs/engine/r/ws-b/head/x"];
    let alone = checkout.git(&["commit-tree", "-m", "of an agent", "main^{tree}"]);
    for name in odd {
        checkout.git(&["update-ref", name, alone.trim()]);
    }
    // What is not merged goes only for a run that was named.
    checkout.cleans(&[], 0, &["merged and clean", "removed the work"]);
    assert_eq!(
        checkout.left(),
        [odd[1], BRANCH, odd[0]]
            .map(str::to_owned)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    checkout.cleans(&["r"], 0, &[odd[1]]);
    checkout.cleans(&["r"], 0, &["nothing to remove but its branch: --branches"]);
    checkout.cleans(&["r", "--branches"], 0, &[odd[0]]);
    assert_eq!(checkout.left(), Vec::<String>::new());
}

/// A run of two workstreams, whose records say that all of it was integrated into a commit upon `main`.
#[test]
fn a_run_of_several_is_merged_by_its_integration_and_cleaned_with_it() {
    let checkout = Checkout::new();
    checkout.adapter(
        &json!({"id": "tells", "executable": "sh", "args": ["-c", "{script}"], "reader": "verdict"}),
    );
    let base = checkout.git(&["rev-parse", "HEAD"]).trim().to_owned();
    checkout.git(&["switch", "-q", "-c", "side"]);
    std::fs::write(checkout.project.path("calc.py"), "integrated\n").unwrap();
    checkout.git(&["commit", "-q", "-a", "-m", "integrated"]);
    let commit = checkout.git(&["rev-parse", "HEAD"]).trim().to_owned();
    checkout.git(&["switch", "-q", "main"]);
    checkout.git(&["branch", "-q", "-D", "side"]);
    let order = |ws: &str| json!({"ws_id": ws, "depends_on": [], "after": [], "reason": null, "wave": 1});
    let bundle = |ws: &str| json!({"ws_id": ws, "file": null, "sha256": ""});
    let names = ["ws-a", "ws-b"];
    let manifest = json!({
        "schema_version": 1, "run_id": "r", "created_at": "2026-06-15T12:00:00.000Z", "engine_version": "0.1.0",
        "repo": std::fs::canonicalize(checkout.project.dir()).unwrap(), "base": {"ref": null, "commit": base},
        "origin": {"trigger_type": "manual", "command": []}, "options": {}, "jobs_sha256": "",
        "bundles": names.map(bundle), "order": names.map(order),
    });
    let dir = checkout.project.root("state/runs/r");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("run.json"), manifest.to_string()).unwrap();
    for (ws, told) in [("ws-a", "head"), ("ws-b", "head"), ("integration", "commit")] {
        let verdict = json!({"verdict": "succeeded", "metadata": {told: commit}});
        let script = format!("echo '{verdict}'");
        let job = json!({"job_id": format!("r.{ws}"), "tool": "tells", "run_id": "r", "workstream_id": ws,
            "metadata": {"script": script}});
        checkout.project.run(&job).exits(0);
    }
    let place = |ws: &str| [format!("refs/engine/r/{ws}/head"), format!("refs/heads/engine/r/{ws}")];
    let places = ["ws-a", "ws-b", "integration"].into_iter().flat_map(place);
    for name in places.chain([BASE.to_owned()]) {
        checkout.git(&["update-ref", &name, &commit]);
    }
    checkout.cleans(&["--branches"], 0, &["r  integration  unmerged  kept"]);
    checkout.engine(&["runs", "merge", "r"]).exits(0);
    assert_eq!(std::fs::read_to_string(checkout.project.path("calc.py")).unwrap(), "integrated\n");
    checkout.cleans(
        &["--branches"],
        0,
        &["r  integration  merged and clean  removed", "engine/r/integration"],
    );
    assert!(checkout.refs().is_empty(), "{:?}", checkout.refs());
}
