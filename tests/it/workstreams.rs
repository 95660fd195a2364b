//! `engine run` that ends with the wrong word, the wrong steps or the wrong files: one bundle from its task to its branch.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::checkout::{BEFORE, CHECK, Checkout, FAILS, JOB, MENDS};

const MENDED: &str = "def add(a, b):\n    return a + b\n";

/// Half an edit first, then a fix.
const IN_TWO: &str = "if [ \"$ENGINE_STEP\" = edit ]; then sed -i 's/a - b/a * b/' calc.py; else sed -i 's/a \\* b/a + b/' calc.py; fi";

#[test]
fn an_edit_that_fails_its_check_passes_after_one_fix() {
    let checkout = Checkout::new();
    let said = checkout.run(IN_TWO, &["--test", CHECK]);
    assert!(said.err.ends_with("next: engine runs merge r\n"), "{}", said.err);
    assert_eq!(said.exits(0), "r\n");
    let shown = checkout.shown();
    shown.is(
        "succeeded",
        "",
        &["01-edit succeeded", "02-runtime exit_code", "03-fix succeeded", "04-runtime succeeded"],
    );
    assert_eq!(checkout.commits(), ["fix 03", "edit 01"]);
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), MENDED);
    assert_eq!(std::fs::read_to_string(checkout.project.path("calc.py")).unwrap(), BEFORE);
    let work = shown.workstream();
    assert_eq!((&work["fixes"], &work["files_changed"]), (&json!({"static": 0, "runtime": 1}), &json!(1)));
    let prompt = std::fs::read_to_string(checkout.out("prompt")).unwrap();
    assert!(prompt.contains(CHECK) && prompt.contains("mend add"), "{prompt}");
    assert!(!checkout.worktree().exists());
    let refs: Vec<String> = checkout.refs().into_keys().collect();
    assert_eq!(refs, ["refs/engine/r/base", "refs/engine/r/ws-task/head", "refs/heads/engine/r/ws-task"]);
    assert_eq!(checkout.git(&["worktree", "list"]).lines().count(), 1);
    checkout.is_at_rest();
    let message = checkout.git(&["log", "-1", "--format=%B", "engine/r/ws-task"]);
    assert_eq!(
        message.trim(),
        "ws-task: fix 03\n\nEngine-Run: r\nEngine-Job: r.ws-task\nEngine-Step: ws-task/03"
    );
}

#[test]
fn fixes_that_swing_between_two_states_end_when_the_first_comes_back() {
    let checkout = Checkout::new();
    let swings = "if grep -q 'a \\* b' calc.py; then sed -i 's/a \\* b/a \\/ b/' calc.py; else sed -i 's/a [-\\/] b/a * b/' calc.py; fi";
    let said = checkout.run(swings, &["--check", CHECK]);
    assert!(said.err.contains("engine run --resume r"), "{}", said.err);
    let _ = said.exits(1);
    let shown = checkout.shown();
    shown.is(
        "failed",
        "oscillation",
        &[
            "01-edit succeeded",
            "02-static exit_code",
            "03-fix succeeded",
            "04-static exit_code",
            "05-fix succeeded",
        ],
    );
    assert_eq!(shown.workstream()["breaker"], json!({"rule": "oscillation", "steps": [2, 5]}));
    assert_eq!(checkout.commits(), ["fix 05", "fix 03", "edit 01"]);
    checkout.is_at_rest();
}

/// A violation: quarantined after one step, nothing taken, what was changed put aside.
#[track_caller]
fn is_quarantined(checkout: &Checkout, edit: &str, code: &str, names: &str) {
    let _ = checkout.run(edit, &["--test", CHECK]).exits(1);
    let shown = checkout.shown();
    shown.is("quarantined", code, &["01-edit succeeded"]);
    assert!(shown.message().contains(names) && shown.message().contains("resume"), "{}", shown.message());
    assert_eq!(checkout.commits(), Vec::<String>::new());
    assert_eq!(checkout.file("refs/engine/r/ws-task/01", "calc.py"), MENDED);
    assert_eq!(checkout.project.places(JOB), ["quarantined"]);
    checkout.is_at_rest();
}

#[test]
fn a_write_outside_the_scope_is_put_aside_however_it_was_made() {
    for how in ["", "; git add . && git commit -q -m mine", "; git add ."] {
        let edit = format!("{MENDS}; echo y > other.txt{how}");
        is_quarantined(&Checkout::new(), &edit, "scope_violation", "`other.txt`");
    }
    let checkout = Checkout::new();
    std::fs::write(checkout.out("victim"), "kept").unwrap();
    symlink(checkout.out("victim"), checkout.project.path("link")).unwrap();
    checkout.git(&["add", "link"]);
    checkout.git(&["commit", "-q", "--amend", "-m", "start"]);
    let edit = format!("{MENDS}; echo y > link");
    is_quarantined(&checkout, &edit, "scope_violation", &checkout.out("victim").display().to_string());
}

#[test]
fn a_test_that_is_deleted_or_a_gate_that_is_changed_stops_the_work() {
    for (edit, code, name) in [
        ("rm test_calc.py", "tests_vanished", "`test_calc.py`"),
        ("git rm -q test_calc.py", "tests_vanished", "`test_calc.py`"),
        ("mv test_calc.py calc_tests.txt", "tests_vanished", "`test_calc.py`"),
        ("echo '[tool.pytest]' > pyproject.toml", "gate_tampered", "`pyproject.toml`"),
        ("echo exit 0 > check.sh", "gate_tampered", "`check.sh`"),
    ] {
        let checkout = Checkout::new();
        std::fs::write(checkout.project.path("check.sh"), format!("{CHECK}\n")).unwrap();
        checkout.git(&["add", "check.sh"]);
        checkout.git(&["commit", "-q", "--amend", "-m", "start"]);
        let edit = format!("{MENDS}; {edit}");
        let all =
            ["run", "--run", "r", "--task", "mend", "--files", "*", "--tool", "ed", "--test", "sh check.sh"];
        let _ = checkout.engine_editing(&all, &edit).exits(1);
        let shown = checkout.shown();
        shown.is("quarantined", code, &["01-edit succeeded"]);
        assert!(shown.message().contains(name), "{}", shown.message());
        assert_eq!(checkout.commits(), Vec::<String>::new());
        checkout.is_at_rest();
    }
}

/// The sum of the ledger is that of the run.
#[track_caller]
fn has_spent(checkout: &Checkout, cost: f64) {
    let ledger = std::fs::read_to_string(checkout.project.root("state/usage.jsonl")).unwrap();
    let lines = ledger.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told: f64 = lines.map(|line| line["cost_usd"].as_f64().unwrap()).sum();
    let shown = checkout.shown();
    let run = shown.workstream()["usage"]["cost_usd"].as_f64().unwrap();
    let total = shown.0["metrics"]["total_cost_usd"].as_f64().unwrap();
    for sum in [told, run, total] {
        assert!((sum - cost).abs() < 1e-9, "{told} in the ledger, {run} in the run, {total} in all");
    }
}

#[test]
fn a_budget_that_is_used_up_ends_the_work_before_the_next_fix_or_within_a_step() {
    let checkout = Checkout::new();
    let spends = |cost: f64| format!("echo '{{\"engine_usage\": {{\"cost_usd\": {cost}}}}}'\n");
    let agent = ["--tool", "agent", "--max-cost-usd", "1", "--test", CHECK];
    let _ = checkout.run(&format!("{}{FAILS}", spends(0.6)), &agent).exits(1);
    let shown = checkout.shown();
    shown.is(
        "failed",
        "budget_exceeded",
        &["01-edit succeeded", "02-runtime exit_code", "03-fix succeeded", "04-runtime exit_code"],
    );
    has_spent(&checkout, 1.2);
    assert_eq!(checkout.commits(), ["fix 03", "edit 01"]);
    checkout.is_at_rest();

    let checkout = Checkout::new();
    let endless = format!("{}{MENDS}\nwhile :; do sleep 0.05; done", spends(1.5));
    let _ = checkout.run(&endless, &agent).exits(1);
    checkout.shown().is("failed", "budget_exceeded", &["01-edit budget_exceeded"]);
    has_spent(&checkout, 1.5);
    assert_eq!(checkout.file("refs/engine/r/ws-task/01", "calc.py"), MENDED);
    checkout.is_at_rest();
}

#[test]
fn a_quota_in_the_middle_of_a_fix_parks_the_run_and_the_same_session_goes_on_in_the_same_files() {
    let checkout = Checkout::new();
    let edit = "
        tell() { echo \"{\\\"engine_usage\\\": {\\\"session_id\\\": \\\"s-1\\\", \\\"cost_usd\\\": $1}}\"; }
        case \"$ENGINE_STEP ${1-}\" in
            'edit ') tell 0.5; sed -i 's/a - b/a * b/' calc.py;;
            'fix ') tell 0.25; echo '# half' >> calc.py; exit 75;;
            'fix s-1') tell 0.125; grep -q '# half' calc.py && sed -i 's/a . b/a + b/' calc.py;;
            *) exit 8;;
        esac";
    let said = checkout.run(edit, &["--tool", "agent", "--test", CHECK, "--park"]);
    assert!(said.err.contains("engine work --run r --drain"), "{}", said.err);
    let _ = said.exits(75);
    let shown = checkout.shown();
    let steps = ["01-edit succeeded", "02-runtime exit_code", "03-fix overloaded"];
    assert_eq!((shown.status(), shown.steps()), ("running", steps.map(str::to_owned).to_vec()));
    assert_eq!(shown.workstream()["status"], "parked");
    // Nothing is due: a worker finds nothing to do, and requeues nothing.
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], edit);
    assert_eq!(checkout.shown().steps().last().unwrap(), "03-fix overloaded");
    checkout.let_time_pass(&[JOB, "r.ws-task.03-fix"]);
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], edit).exits(0);
    checkout.shown().is(
        "succeeded",
        "",
        &["01-edit succeeded", "02-runtime exit_code", "03-fix succeeded", "04-runtime succeeded"],
    );
    has_spent(&checkout, 0.875);
    assert_eq!(checkout.commits(), ["fix 03", "edit 01"]);
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), format!("{MENDED}# half\n"));
    checkout.is_at_rest();
}

#[test]
fn what_a_person_mends_in_the_work_tree_is_taken_and_proved() {
    for commits in [false, true] {
        let checkout = Checkout::new();
        let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
        let shown = checkout.shown();
        assert_eq!((shown.code(), shown.steps().len()), ("no_progress", 6), "{:#}", shown.0);
        let worktree = checkout.worktree();
        std::fs::write(worktree.join("calc.py"), MENDED).unwrap();
        std::fs::write(worktree.join("other.txt"), "by hand\n").unwrap();
        if commits {
            checkout.git_in(&worktree, &["commit", "-q", "-a", "-m", "by hand"]);
        }
        let _ = checkout.resume("exit 9").exits(0);
        let shown = checkout.shown();
        assert_eq!((shown.status(), shown.steps().len()), ("succeeded", 7), "{:#}", shown.0);
        assert!(shown.warnings().contains("by hand"), "{}", shown.warnings());
        assert_eq!(checkout.commits()[0], "hand 06");
        assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "by hand\n");
        checkout.is_at_rest();
        let said = checkout.resume("exit 9");
        assert!(said.err.contains("nothing to do"), "{}", said.err);
        assert_eq!(said.exits(0), "r\n");
    }
}

#[test]
fn a_work_tree_and_a_branch_that_a_person_deleted_are_made_again() {
    let deletions: [fn(&Checkout); 4] = [
        |checkout| std::fs::remove_dir_all(checkout.worktree()).unwrap(),
        |checkout| drop(checkout.git(&["update-ref", "-d", "refs/heads/engine/r/ws-task"])),
        |checkout| {
            let path = checkout.worktree().display().to_string();
            checkout.git(&["worktree", "remove", "--force", "--force", &path]);
            checkout.git(&["branch", "-q", "-D", "engine/r/ws-task"]);
        },
        |checkout| {
            std::fs::remove_dir_all(checkout.worktree()).unwrap();
            checkout.git(&["worktree", "prune", "--expire=now"]);
            checkout.git(&["gc", "-q", "--prune=now"]);
        },
    ];
    for (at, delete) in deletions.into_iter().enumerate() {
        let checkout = Checkout::new();
        let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
        let before = checkout.refs()["refs/engine/r/ws-task/head"].clone();
        delete(&checkout);
        let _ = checkout.resume(MENDS).exits(0);
        let shown = checkout.shown();
        let steps = shown.steps();
        assert_eq!(steps[6..], ["07-runtime exit_code", "08-fix succeeded", "09-runtime succeeded"], "{at}");
        assert_eq!(checkout.git(&["rev-parse", "engine/r/ws-task~1"]).trim(), before);
        checkout.is_at_rest();
    }
}

#[test]
fn after_a_violation_a_wider_scope_or_what_was_put_aside_goes_on() {
    let edit = format!("{MENDS}; echo y > other.txt");
    let checkout = Checkout::new();
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(1);
    let file = checkout.project.root("jobs/quarantined/r.ws-task.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let wider = text.replace(r#""files_scope":["calc.py"]"#, r#""files_scope":["calc.py","other.txt"]"#);
    assert_ne!(text, wider);
    std::fs::write(&file, wider).unwrap();
    let _ = checkout.resume(&edit).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-edit succeeded", "03-runtime succeeded"]);
    assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "y\n");
    // The job file is another one than the run was made with, and stays what counts.
    let _ = checkout.resume("exit 9").exits(0);
    checkout.is_at_rest();

    let checkout = Checkout::new();
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(1);
    let restore = ["restore", "--source=refs/engine/r/ws-task/01", "-SW", "--", "."];
    checkout.git_in(&checkout.worktree(), &restore);
    let _ = checkout.resume("exit 9").exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    assert_eq!(checkout.commits(), ["hand 01"]);
    checkout.is_at_rest();
}

#[test]
fn a_dry_run_prints_the_jobs_and_the_prompt_and_writes_nothing() {
    let checkout = Checkout::without_root();
    let task =
        ["run", "--run", "r", "--task", "mend add", "--files", "calc.py", "--test", CHECK, "--dry-run"];
    std::fs::create_dir(checkout.out("bin")).unwrap();
    let claude = checkout.out("bin/claude");
    std::fs::write(&claude, "#!/bin/sh\nexit 9\n").unwrap();
    std::fs::set_permissions(&claude, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", checkout.out("bin").display(), std::env::var("PATH").unwrap());
    let mut command = checkout.command(&[&task[..], &["--tool", "claude"]].concat(), "");
    command.env("PATH", path).env("ANTHROPIC_API_KEY", "a key that must not be shown");
    let said = crate::support::Said::of(&command.output().unwrap());
    let out = said.exits(0);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = lines.iter().map(|line| line["job_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [JOB, "r.ws-task.01-edit"]);
    assert!(lines[1]["metadata"]["prompt"].as_str().unwrap().contains("mend add"), "{}", lines[1]);
    assert!(!out.contains("a key that must"), "{out}");
    assert!(!checkout.project.root("").exists() && !checkout.out("cache").exists());
    assert_eq!(checkout.refs().len(), 0);
}

#[test]
fn a_run_that_is_only_submitted_is_worked_on_by_a_worker() {
    let checkout = Checkout::new();
    let said = checkout.run(MENDS, &["--test", CHECK, "--detach"]);
    assert!(said.err.contains("engine work --run r --drain"), "{}", said.err);
    assert_eq!(said.exits(0), "r\n");
    let shown = checkout.shown();
    shown.is("pending", "", &[]);
    assert!(!checkout.out("cache").exists());
    let _ = checkout.engine_editing(&["work", "--run", "r", "--drain"], MENDS).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn a_run_begins_on_the_commit_that_is_named_and_leaves_uncommitted_work_alone() {
    let checkout = Checkout::new();
    std::fs::write(checkout.project.path("calc.py"), "nothing\n").unwrap();
    checkout.git(&["commit", "-q", "-a", "-m", "start"]);
    std::fs::write(checkout.project.path("other.txt"), "not committed\n").unwrap();
    let said = checkout.run(MENDS, &["--test", CHECK, "--base", "main~1"]);
    assert!(said.err.contains("uncommitted changes of the checkout are not part of the run"), "{}", said.err);
    let _ = said.exits(0);
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), MENDED);
    assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "x\n");
    assert_eq!(std::fs::read_to_string(checkout.project.path("other.txt")).unwrap(), "not committed\n");
    let base = checkout.git(&["rev-parse", "main~1"]);
    assert_eq!(checkout.shown().0["base"], json!({"ref": "main~1", "commit": base.trim()}));
}

#[test]
fn with_json_the_events_of_a_run_are_lines_that_end_with_its_end() {
    let checkout = Checkout::new();
    let out = checkout.run(IN_TWO, &["--test", CHECK, "--json"]).exits(0);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[1], names[2]), ("run_created", "run_started", "workstream_start"));
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["payload"]["status"]), (&json!("run_completed"), &json!("succeeded")));
    for (name, count) in
        [("step_started", 4), ("step_completed", 4), ("fix_attempt", 1), ("patch_created", 2)]
    {
        assert_eq!(names.iter().filter(|found| **found == name).count(), count, "{name}: {names:?}");
    }
}

#[test]
fn what_a_failed_try_left_is_put_aside_while_the_next_one_waits_and_is_not_taken_for_a_persons() {
    let checkout = Checkout::new();
    // Longer than what a conductor waits for itself.
    let settings = "[workstreams]\nrecovery = { backoff_seconds = 6 }\n";
    std::fs::write(checkout.project.root("engine.toml"), settings).unwrap();
    let edit = format!(
        "if [ -e \"$OUT/again\" ]; then {MENDS}; else touch \"$OUT/again\"; echo half >> calc.py; echo x > stray; exit 7; fi"
    );
    let _ = checkout.run(&edit, &["--test", CHECK, "--park"]).exits(75);
    let _ = checkout.engine_editing(&["run", "--resume", "r"], &edit).exits(0);
    assert_eq!(checkout.commits(), ["edit 02"]);
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), MENDED);
    checkout.is_at_rest();
}

#[test]
fn a_failed_try_that_changed_the_settings_of_git_is_not_tried_again_on_them() {
    let checkout = Checkout::new();
    let edit = format!("git config alias.st '!id'; {MENDS}; exit 7");
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(1);
    checkout.shown().is("quarantined", "git_dir_changed", &["01-edit exit_code"]);
    checkout.git(&["config", "--unset", "alias.st"]);
}

#[test]
fn the_directory_of_a_run_goes_with_its_last_job_once_nothing_is_left_in_the_repository() {
    let checkout = Checkout::new();
    let _ = checkout.run(MENDS, &["--test", CHECK]).exits(0);
    let dir = checkout.project.root("state/runs/r");
    let gc = || checkout.engine(&["gc", "--keep-count", "0", "--json"]).exits(0);
    let _ = gc();
    assert!(dir.exists(), "`runs clean` needs it");
    let _ = checkout.engine(&["runs", "clean", "r", "--branches"]).exits(0);
    let said = gc();
    assert!(said.contains("\"runs\": [\n    \"r\"\n  ]"), "{}", said);
    assert!(!dir.exists());
    assert_eq!(checkout.git(&["for-each-ref", "refs/engine", "refs/heads/engine"]), "");
}
