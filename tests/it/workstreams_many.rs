//! Runs of several bundles: two work on one thing at once, one builds on less than it should, a failure holds up too much or too
//! little, or the result depends on timing and kills.

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::checkout::Checkout;
use crate::support::{eventually, with};

/// Appends the workstream to the files of its scope; `ws-bad` changes nothing.
pub const APPENDS: &str = "[ \"$ENGINE_WORKSTREAM_ID\" = ws-bad ] && exit 0; for f in $(cat \"$OUT/of.$ENGINE_WORKSTREAM_ID\"); do \
    echo \"$ENGINE_WORKSTREAM_ID\" >> $f; done";

/// A bundle that appends to files.
pub fn bundle(checkout: &Checkout, id: &str, files: &[&str], more: &Value) {
    let bundle = json!({"id": id, "openspec_change": "-", "ccpm_issue": 0, "gate": 1, "files_scope": files,
        "tasks": ["append"], "tool": "ed"});
    std::fs::create_dir_all(checkout.out("bundles")).unwrap();
    let path = checkout.out("bundles").join(format!("{id}.json"));
    std::fs::write(path, with(bundle, more).to_string()).unwrap();
    std::fs::write(checkout.out(&format!("of.{id}")), files.join(" ")).unwrap();
}

/// A diamond, a chain by a shared file, and one beside them.
pub fn diamond(checkout: &Checkout) {
    bundle(checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(checkout, "ws-b", &["b.txt", "a.txt"], &json!({"depends_on": ["ws-a"]}));
    bundle(checkout, "ws-c", &["c.txt"], &json!({"depends_on": ["ws-a"]}));
    bundle(checkout, "ws-d", &["d.txt", "a.txt"], &json!({"depends_on": ["ws-b", "ws-c"]}));
    bundle(checkout, "ws-e", &["a.txt"], &json!({}));
    bundle(checkout, "ws-f", &["f.txt"], &json!({}));
}

/// What the integration of a diamond holds in the file that most of them share.
const SHARED: &str = "ws-a\nws-e\nws-b\nws-d\n";

fn run(checkout: &Checkout, more: &[&str]) -> crate::support::Said {
    let bundles = checkout.out("bundles").display().to_string();
    let args = [&["run", "--run", "r", &*bundles, "--check", "test -e calc.py"], more].concat();
    checkout.engine_editing(&args, APPENDS)
}

fn files_are_of_a_diamond(checkout: &Checkout) {
    let branch = "engine/r/integration";
    assert_eq!(checkout.file(branch, "a.txt"), SHARED);
    for (file, ws) in [("b.txt", "ws-b"), ("c.txt", "ws-c"), ("d.txt", "ws-d"), ("f.txt", "ws-f")] {
        assert_eq!(checkout.file(branch, file), format!("{ws}\n"), "{file}");
    }
}

#[test]
fn what_shares_files_builds_on_each_other_and_the_result_is_one_tree_whatever_the_slots() {
    let mut trees = Vec::new();
    for slots in ["1", "3"] {
        let checkout = Checkout::new();
        diamond(&checkout);
        run(&checkout, &["--slots", slots]).exits(0);
        files_are_of_a_diamond(&checkout);
        let shown = checkout.shown();
        assert_eq!(shown.status(), "succeeded", "{:#}", shown.0);
        let integration = &shown.0["integration"];
        let merged = ["ws-a", "ws-e", "ws-f", "ws-b", "ws-c", "ws-d"];
        assert_eq!((&integration["status"], &integration["merged"]), (&json!("succeeded"), &json!(merged)));
        has_checked(integration, "test -e calc.py");
        trees.push(checkout.git(&["rev-parse", "engine/r/integration^{tree}"]));
        checkout.engine(&["runs", "merge", "r"]).exits(0);
        assert_eq!(std::fs::read_to_string(checkout.project.path("a.txt")).unwrap(), SHARED);
    }
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn a_failure_holds_only_what_needs_it_and_a_resume_completes_the_rest() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-bad", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-needs", &["n.txt"], &json!({"depends_on": ["ws-bad"]}));
    bundle(&checkout, "ws-same", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-free", &["f.txt"], &json!({}));
    run(&checkout, &["--slots", "2"]).exits(1);
    let shown = checkout.shown();
    let status = |ws: &str| {
        let all = shown.0["workstreams"].as_array().unwrap();
        all.iter().find(|one| one["ws_id"] == ws).unwrap()["status"].as_str().unwrap().to_owned()
    };
    let want =
        [("ws-bad", "failed"), ("ws-needs", "blocked"), ("ws-same", "succeeded"), ("ws-free", "succeeded")];
    for (ws, want) in want {
        assert_eq!(status(ws), want, "{ws}");
    }
    let integration = &shown.0["integration"];
    assert_eq!(integration["reason"]["code"], "incomplete");
    assert_eq!(integration["merged"], json!(["ws-free", "ws-same"]));
    checkout.engine(&["runs", "merge", "r"]).exits(1);

    // What waits for the failure can be given up, and a resume brings it back.
    checkout.engine(&["runs", "cancel", "r"]).exits(0);
    let listed: Value = serde_json::from_str(&checkout.engine(&["runs", "list", "--json"]).exits(0)).unwrap();
    let needs =
        listed["workstreams"].as_array().unwrap().iter().find(|one| one["ws_id"] == "ws-needs").unwrap();
    let why = (&needs["status"], &needs["reason_code"], &listed["status"]);
    assert_eq!(why, (&json!("canceled"), &json!("canceled_by_user"), &json!("failed")));
    assert_eq!(checkout.engine(&["runs", "cancel", "r"]).code, 1);

    // A person does what the tool did not, in its worktree.
    let tree =
        shown.0["workstreams"].as_array().unwrap().iter().find(|one| one["ws_id"] == "ws-bad").unwrap();
    let tree = std::path::PathBuf::from(tree["worktree"].as_str().unwrap());
    std::fs::write(tree.join("by_hand.txt"), "mended\n").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r", "--slots", "2"], APPENDS).exits(0);
    let shown = checkout.shown();
    assert_eq!(shown.status(), "succeeded", "{:#}", shown.0);
    let branch = "engine/r/integration";
    assert_eq!(checkout.file(branch, "by_hand.txt"), "mended\n");
    assert_eq!(checkout.file(branch, "n.txt"), "ws-needs\n");
}

#[test]
fn workstreams_that_do_not_merge_are_named_by_path_and_the_others_are_integrated() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-bad", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-e", &["e.txt"], &json!({}));
    bundle(&checkout, "ws-f", &["f.txt"], &json!({"depends_on": ["ws-e"]}));
    run(&checkout, &[]).exits(1);
    let shown = checkout.shown();
    let tree = std::path::PathBuf::from(shown.0["workstreams"][0]["worktree"].as_str().unwrap());
    // What a person does is not judged for scope.
    std::fs::write(tree.join("e.txt"), "by hand\n").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(1);
    let shown = checkout.shown();
    let integration = &shown.0["integration"];
    assert_eq!((shown.status(), &integration["reason"]["code"]), ("failed", &json!("merge_conflict")));
    assert_eq!(integration["merged"], json!(["ws-bad"]));
    let conflict = json!([{"ws_id": "ws-e", "with": "ws-bad", "type": "content", "path": "e.txt"}]);
    assert_eq!((&integration["conflicts"], &integration["skipped"]), (&conflict, &json!(["ws-f"])));
    let text = checkout.engine(&["runs", "show", "r"]).exits(0);
    assert!(text.contains("conflict     ws-e with ws-bad: e.txt"), "{text}");
}

#[test]
fn only_the_bundles_that_are_named_run_with_those_that_they_need() {
    let checkout = Checkout::new();
    diamond(&checkout);
    run(&checkout, &["--only", "ws-c"]).exits(0);
    let ids: Vec<Value> = checkout.shown().0["workstreams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["ws_id"].clone())
        .collect();
    assert_eq!(json!(ids), json!(["ws-a", "ws-c"]));
    let said = checkout.engine(&["run", &checkout.out("bundles").display().to_string(), "--only", "ws-x"]);
    assert!(said.err.contains("no bundle is called `ws-x`"), "{}", said.err);
    let _ = said.exits(125);
}

#[test]
fn without_an_integration_nothing_is_merged_and_the_run_succeeds_all_the_same() {
    let checkout = Checkout::new();
    diamond(&checkout);
    run(&checkout, &["--no-integrate"]).exits(0);
    let shown = checkout.shown();
    assert_eq!((shown.status(), &shown.0["integration"]["merged"]), ("succeeded", &json!([])));
    assert!(!checkout.refs().keys().any(|name| name.contains("integration")), "{:?}", checkout.refs());
}

#[test]
fn a_check_that_fails_on_the_merged_tree_fails_the_run_and_no_agent_is_asked() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    let bundles = checkout.out("bundles").display().to_string();
    // Each of them passes alone.
    let args = ["run", "--run", "r", &bundles, "--check", "test ! -e a.txt -o ! -e b.txt"];
    let _ = checkout.engine_editing(&args, APPENDS).exits(1);
    let shown = checkout.shown();
    let integration = &shown.0["integration"];
    assert_eq!((shown.status(), &integration["reason"]["code"]), ("failed", &json!("integration_failed")));
    assert_eq!(integration["merged"], json!(["ws-a", "ws-b"]));
    assert_eq!(integration["checks"][0]["job_id"], "r.integration.01-static");
    let message = integration["reason"]["message"].as_str().unwrap();
    assert!(message.contains("failed") && !message.contains("prompt"), "{message}");
    let text = checkout.engine(&["runs", "show", "r"]).out;
    assert!(text.contains("next: engine log r.integration.01-static; mend what it names"), "{text}");
}

#[test]
fn after_a_failure_with_fail_fast_nothing_starts_and_a_resume_goes_on() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-bad", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-later", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-next", &["a.txt"], &json!({}));
    run(&checkout, &["--fail-fast"]).exits(1);
    let shown = checkout.shown();
    let all = shown.0["workstreams"].as_array().unwrap();
    let told: Vec<_> = all.iter().map(|one| json!([one["status"], one["reason"]["code"]])).collect();
    let want = json!([["failed", "no_change"], ["canceled", "given_up"], ["canceled", "given_up"]]);
    assert_eq!((json!(told), shown.status()), (want, "failed"));
    let mends = "echo \"$ENGINE_WORKSTREAM_ID\" >> a.txt";
    let _ = checkout.engine_editing(&["run", "--resume", "r"], mends).exits(0);
    assert_eq!(checkout.file("engine/r/integration", "a.txt"), "ws-bad\nws-later\nws-next\n");
}

#[test]
fn what_succeeded_only_later_is_part_of_the_base_of_those_that_had_not_begun() {
    let checkout = Checkout::new();
    for id in ["ws-a", "ws-b", "ws-c"] {
        bundle(&checkout, id, &[&format!("{}.txt", &id[3..])], &json!({"conflict_group": "g"}));
    }
    let edit = format!("[ -e \"$OUT/good\" ] || [ \"$ENGINE_WORKSTREAM_ID\" = ws-b ] || exit 3; {APPENDS}");
    let bundles = checkout.out("bundles").display().to_string();
    let _ = checkout.engine_editing(&["run", "--run", "r", &bundles, "--fail-fast"], &edit).exits(1);
    std::fs::write(checkout.out("good"), "").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r"], &edit).exits(0);
    let files = checkout.git(&["ls-tree", "--name-only", "engine/r/ws-c"]);
    assert!(["a.txt", "b.txt", "c.txt"].iter().all(|file| files.contains(file)), "{files}");
}

#[test]
fn an_integration_of_other_heads_than_there_are_now_is_made_anew() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    run(&checkout, &[]).exits(0);
    // A person commits on the branch, and has the workstream judged once more.
    checkout.git(&["switch", "-q", "engine/r/ws-a"]);
    std::fs::write(checkout.project.path("late.txt"), "late\n").unwrap();
    checkout.git(&["add", "late.txt"]);
    checkout.git(&["commit", "-q", "-m", "late"]);
    checkout.git(&["switch", "-q", "main"]);
    let _ = checkout.engine(&["requeue", "r.ws-a"]).exits(0);
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], APPENDS).exits(0);
    assert_eq!(checkout.shown().status(), "failed", "the integration is outdated");
    let _ = checkout.engine(&["runs", "merge", "r"]).exits(1);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
    assert_eq!(
        (checkout.shown().status(), &*checkout.file("engine/r/integration", "late.txt")),
        ("succeeded", "late\n")
    );
}

/// It has one check, which has passed.
#[track_caller]
fn has_checked(integration: &Value, name: &str) {
    let checks = integration["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 1, "{integration:#}");
    assert_eq!([&checks[0]["name"], &checks[0]["status"]], [name, "succeeded"]);
}

#[test]
fn the_merged_tree_has_checks_of_its_own_where_settings_name_some() {
    let checkout = Checkout::new();
    checkout.set("integration = [\"grep ws-b b.txt\"]\n");
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    run(&checkout, &[]).exits(0);
    has_checked(&checkout.shown().0["integration"], "grep ws-b b.txt");
}

#[test]
fn kills_of_the_whole_run_change_nothing_of_its_result() {
    let checkout = Checkout::new();
    diamond(&checkout);
    run(&checkout, &["--slots", "2"]).exits(0);
    let want = checkout.git(&["rev-parse", "engine/r/integration^{tree}"]);
    for step in [3, 20, 45, 70, 110] {
        let checkout = Checkout::new();
        diamond(&checkout);
        let bundles = checkout.out("bundles").display().to_string();
        let args = ["run", "--run", "r", &*bundles, "--check", "test -e calc.py", "--slots", "2"];
        let ended =
            checkout.command(&args, APPENDS).env("ENGINE_TEST_KILL_AT", step.to_string()).output().unwrap();
        if ended.status.signal() != Some(9) {
            assert_eq!(ended.status.code(), Some(0), "step {step}");
        }
        let is_made = checkout.project.root("state/runs/r/run.json").exists();
        let args = match is_made {
            true => vec!["run", "--resume", "r", "--slots", "2"],
            false => args.to_vec(),
        };
        checkout.engine_editing(&args, APPENDS).exits(0);
        assert_eq!(checkout.git(&["rev-parse", "engine/r/integration^{tree}"]), want, "step {step}");
        checkout.git(&["fsck", "--no-dangling"]);
        eventually("nothing is alive", || {
            crate::support::processes_with(&checkout.out("").display().to_string()).is_empty()
        });
    }
}

/// The text of the reason of a job of the run: a workstream, or the integration.
fn reason(shown: &crate::checkout::Shown, of: &str) -> (String, String) {
    let one = match of {
        "integration" => &shown.0["integration"],
        ws => shown.0["workstreams"].as_array().unwrap().iter().find(|one| one["ws_id"] == ws).unwrap(),
    };
    let text = |key: &str| one["reason"][key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

fn warnings(shown: &crate::checkout::Shown, of: &str) -> String {
    match of {
        "integration" => shown.0["integration"]["warnings"].to_string(),
        ws => {
            let all = shown.0["workstreams"].as_array().unwrap();
            all.iter().find(|one| one["ws_id"] == ws).unwrap()["warnings"].to_string()
        }
    }
}

/// Two workstreams that do not merge, one of them by hand; what is there `more` is built on both.
fn in_conflict(more: &[&str]) -> Checkout {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-bad", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-e", &["e.txt"], &json!({}));
    for id in more {
        bundle(&checkout, id, &["z.txt"], &json!({"depends_on": ["ws-bad", "ws-e"]}));
    }
    run(&checkout, &[]).exits(1);
    let shown = checkout.shown();
    let tree = std::path::PathBuf::from(shown.0["workstreams"][0]["worktree"].as_str().unwrap());
    std::fs::write(tree.join("e.txt"), "by hand\n").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(1);
    checkout
}

/// Does what a message says, in the user's checkout: the commands in it, as far as it says them.
fn merge_as_told(checkout: &Checkout, message: &str, resolved: (&str, &str)) {
    let told = message.split("merge them by hand: ").nth(1).unwrap();
    let commands = told.split(", resolve").next().unwrap();
    let (switch, merge) = commands.split_once(" && ").unwrap();
    checkout.git(&switch.split(' ').skip(1).collect::<Vec<_>>());
    let mut command = std::process::Command::new("git");
    let ended = command.args(merge.split(' ').skip(1)).current_dir(checkout.project.dir()).output().unwrap();
    assert!(!ended.status.success(), "{merge}: it was to conflict");
    std::fs::write(checkout.project.path(resolved.0), resolved.1).unwrap();
    checkout.git(&["add", resolved.0]);
    checkout.git(&["commit", "-q", "-m", "merged by hand"]);
    checkout.git(&["switch", "-q", "main"]);
}

#[test]
fn workstreams_that_do_not_merge_are_merged_by_hand_as_the_reason_says_and_a_resume_goes_on_with_that() {
    let checkout = in_conflict(&[]);
    let (code, message) = reason(&checkout.shown(), "integration");
    assert_eq!(code, "merge_conflict", "{message}");
    merge_as_told(&checkout, &message, ("e.txt", "both\n"));
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(0);
    let shown = checkout.shown();
    assert_eq!((shown.status(), &shown.0["integration"]["conflicts"]), ("succeeded", &json!([])));
    assert_eq!(checkout.file("engine/r/integration", "e.txt"), "both\n");
    checkout.engine(&["runs", "merge", "r"]).exits(0);
    assert_eq!(std::fs::read_to_string(checkout.project.path("e.txt")).unwrap(), "both\n");
}

#[test]
fn predecessors_that_do_not_merge_are_merged_by_hand_as_the_reason_says_and_a_resume_goes_on_with_that() {
    let checkout = in_conflict(&["ws-z"]);
    let (code, message) = reason(&checkout.shown(), "ws-z");
    assert_eq!(code, "base_conflict", "{message}");
    merge_as_told(&checkout, &message, ("e.txt", "both\n"));
    let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
    assert_eq!(checkout.shown().status(), "succeeded");
    let branch = "engine/r/integration";
    assert_eq!((&*checkout.file(branch, "e.txt"), &*checkout.file(branch, "z.txt")), ("both\n", "ws-z\n"));
}

#[test]
fn what_a_person_does_in_the_worktree_of_the_integration_is_named_and_a_mended_branch_is_integrated() {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
    bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
    let bundles = checkout.out("bundles").display().to_string();
    let args = ["run", "--run", "r", &bundles, "--check", "test ! -e a.txt -o ! -e b.txt -o -e mended.txt"];
    let _ = checkout.engine_editing(&args, APPENDS).exits(1);
    let (code, message) = reason(&checkout.shown(), "integration");
    assert_eq!(code, "integration_failed");
    assert!(message.contains("git switch engine/r/WS"), "{message}");

    let tree = checkout.worktree().with_file_name("integration");
    assert!(message.contains(&tree.display().to_string()), "{message}");
    std::fs::write(tree.join("mended.txt"), "by hand\n").unwrap();
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(1);
    let told = warnings(&checkout.shown(), "integration");
    let kept =
        told.split('`').find(|word| word.starts_with("refs/engine/r/integration/")).unwrap().to_owned();
    assert_eq!(checkout.file(&kept, "mended.txt"), "by hand\n");

    checkout.git(&["switch", "-q", "engine/r/ws-b"]);
    checkout.git(&["restore", &format!("--source={kept}"), "-SW", "--", "mended.txt"]);
    checkout.git(&["commit", "-q", "-m", "mended"]);
    checkout.git(&["switch", "-q", "main"]);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(0);
    assert_eq!(checkout.file("engine/r/integration", "mended.txt"), "by hand\n");
}

#[test]
fn a_branch_of_the_integration_that_a_person_committed_to_is_renamed_and_a_resume_goes_on() {
    let checkout = in_conflict(&[]);
    // Where another program moves its reference, no person has moved the branch.
    checkout.git(&["update-ref", "refs/engine/r/integration/head", "main"]);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(1);
    assert_eq!(reason(&checkout.shown(), "integration").0, "merge_conflict");
    let tree = checkout.worktree().with_file_name("integration");
    checkout.git(&["worktree", "prune"]);
    let dir = if tree.is_dir() { tree } else { checkout.project.dir().to_path_buf() };
    if dir == checkout.project.dir() {
        checkout.git(&["switch", "-q", "engine/r/integration"]);
    }
    std::fs::write(dir.join("mine.txt"), "mine\n").unwrap();
    checkout.git_in(&dir, &["add", "mine.txt"]);
    checkout.git_in(&dir, &["commit", "-q", "-m", "mine"]);
    checkout.git(&["switch", "-q", "main"]);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(1);
    let (code, message) = reason(&checkout.shown(), "integration");
    assert_eq!(code, "integration_moved", "{message}");
    assert!(message.contains("git branch -m engine/r/integration NAME"), "{message}");
    let said = checkout.engine(&["runs", "merge", "r", "--force"]);
    assert!(
        said.code == 1 && said.err.contains("is not where the engine left it"),
        "{}{}",
        said.out,
        said.err
    );
    assert!(said.err.contains("git merge WS for each of engine/r/ws-"), "{}", said.err);
    checkout.git(&["branch", "-m", "engine/r/integration", "kept"]);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], "exit 9").exits(1);
    assert_eq!(reason(&checkout.shown(), "integration").0, "merge_conflict");
    assert_eq!(checkout.file("kept", "mine.txt"), "mine\n");
}

/// An agent of `ws-b` that does something to references of the run.
fn attacks(script: &str) -> String {
    format!("{APPENDS}; [ \"$ENGINE_WORKSTREAM_ID\" = ws-b ] || exit 0; {script}")
}

#[test]
fn an_agent_that_moves_references_of_a_workstream_at_rest_is_refused_and_those_are_not_believed() {
    for (script, name) in [
        ("git update-ref refs/engine/r/ws-a/head HEAD", "refs/engine/r/ws-a/head"),
        ("git update-ref -d refs/engine/r/ws-a/head", "refs/engine/r/ws-a/head"),
        ("git update-ref refs/engine/r/ws-a/07 HEAD", "refs/engine/r/ws-a/07"),
        ("git update-ref refs/engine/r/ws-c/head/x HEAD", "refs/engine/r/ws-c/head/x"),
        ("git update-ref -d refs/engine/r/base", "refs/engine/r/base"),
        ("git update-ref refs/engine/r/integration/head HEAD", "refs/engine/r/integration/head"),
    ] {
        let checkout = Checkout::new();
        bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
        bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
        let bundles = checkout.out("bundles").display().to_string();
        let args = ["run", "--run", "r", &bundles, "--slots", "1"];
        let _ = checkout.engine_editing(&args, &attacks(script)).exits(1);
        let shown = checkout.shown();
        let (code, message) = reason(&shown, "ws-b");
        assert_eq!(code, "git_dir_changed", "{script}: {:#}", shown.0);
        assert!(message.contains(name), "{script}: {message}");
        assert_eq!(shown.0["workstreams"][0]["status"], "succeeded", "{script}");
        assert_eq!(
            checkout.git(&["rev-parse", "refs/engine/r/base"]),
            checkout.git(&["rev-parse", "main"]),
            "{script}"
        );
        let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
        let files = checkout.git(&["ls-tree", "--name-only", "engine/r/integration"]);
        assert!(files.contains("a.txt") && files.contains("b.txt"), "{script}: {files}");
    }
}

#[test]
fn a_workstream_at_rest_whose_references_an_agent_moved_or_locked_goes_on_from_where_it_was() {
    let forged = "git commit-tree -p HEAD -m 'ws-a: edit 01' -m 'Engine-Job: r.ws-a\nEngine-Step: ws-a/01' HEAD^{tree}";
    let common = "$(git rev-parse --git-common-dir)";
    for (script, told, is_of_agent) in [
        // What an agent moves while nothing else works is put back at once.
        (format!("git update-ref refs/engine/r/ws-a/head $({forged})"), "", true),
        (format!("git update-ref refs/engine/r/ws-a/head $({forged})"), "moved by something else", false),
        ("git update-ref -d refs/engine/r/ws-a/head".to_owned(), "moved by something else", false),
        (
            format!("touch -d '1 minute ago' {common}/refs/engine/r/ws-a/head.lock"),
            "lock files that no git held",
            true,
        ),
        (
            format!("touch -d '1 minute ago' {common}/refs/heads/engine/r/ws-a.lock"),
            "lock files that no git held",
            true,
        ),
    ] {
        let checkout = Checkout::new();
        bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
        bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
        let bundles = checkout.out("bundles").display().to_string();
        let args =
            ["run", "--run", "r", &bundles, "--slots", "1", "--check", "test ! -e a.txt -o -e \"$OUT/good\""];
        let attack = if is_of_agent { attacks(&script) } else { APPENDS.to_owned() };
        let _ = checkout.engine_editing(&args, &attack).exits(1);
        if !is_of_agent {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-ec", &script]).current_dir(checkout.project.dir());
            shell.envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "b"), ("GIT_COMMITTER_NAME", "a")]);
            assert!(shell.env("GIT_COMMITTER_EMAIL", "b").status().unwrap().success(), "{script}");
        }
        assert_eq!(reason(&checkout.shown(), "ws-a").0, "no_progress");
        std::fs::write(checkout.out("good"), "").unwrap();
        let _ = checkout.engine_editing(&["run", "--resume", "r"], APPENDS).exits(0);
        let shown = checkout.shown();
        assert!(warnings(&shown, "ws-a").contains(told), "{script}: {:#}", shown.0);
        assert_eq!(checkout.file("engine/r/integration", "b.txt").lines().next(), Some("ws-b"));
        let subjects = checkout.git(&["log", "--format=%s", "--reverse", "main..refs/engine/r/ws-a/head"]);
        assert_eq!(subjects.lines().next(), Some("ws-a: edit 01"), "{script}");
        assert!(checkout.file("refs/engine/r/ws-a/head", "a.txt").starts_with("ws-a\n"), "{script}");
        let refs = checkout.refs();
        assert!(!refs.keys().any(|name| name.ends_with("/07") || name.ends_with("/x")), "{script}: {refs:?}");
    }
}

#[test]
fn a_workstream_whose_references_are_moved_while_it_works_is_not_blamed_and_keeps_its_own() {
    for script in [
        "git update-ref refs/engine/r/ws-a/head $(git rev-parse main)",
        "git update-ref -d refs/engine/r/ws-a/head",
        "git update-ref refs/engine/r/ws-a/09 HEAD",
        "touch $(git rev-parse --git-common-dir)/refs/engine/r/ws-a/head.lock",
    ] {
        let checkout = Checkout::new();
        bundle(&checkout, "ws-a", &["a.txt"], &json!({}));
        bundle(&checkout, "ws-b", &["b.txt"], &json!({}));
        let bundles = checkout.out("bundles").display().to_string();
        // The check of `ws-a` waits for the agent of `ws-b`, and that one for the check.
        let check =
            "test ! -e a.txt || { touch \"$OUT/waits\"; while [ ! -e \"$OUT/done\" ]; do sleep 0.02; done; }";
        let waits =
            format!("while [ ! -e \"$OUT/waits\" ]; do sleep 0.02; done; {script}; touch \"$OUT/done\"");
        let args = ["run", "--run", "r", &bundles, "--slots", "2", "--test", check];
        let _ = checkout.engine_editing(&args, &attacks(&waits)).exits(0);
        let shown = checkout.shown();
        assert_eq!(shown.status(), "succeeded", "{script}: {:#}", shown.0);
        assert!(!checkout.refs().contains_key("refs/engine/r/ws-a/09"), "{script}");
        let subjects = checkout.git(&["log", "--format=%s", "main..refs/engine/r/ws-a/head"]);
        assert_eq!(subjects, "ws-a: edit 01\n", "{script}");
    }
}
