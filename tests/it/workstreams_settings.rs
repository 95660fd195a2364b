//! A bundle or a setting that `engine run` reads and does not heed.

use serde_json::{Value, json};

use crate::checkout::{BEFORE, CHECK, Checkout, FAILS, MENDS};
use crate::support::{Said, with};

/// Runs a bundle, which edits `calc.py` with the tool `ed` unless it says otherwise.
fn run(checkout: &Checkout, change: &Value, edit: &str, more: &[&str]) -> Said {
    let bundle = json!({"id": "ws-task", "openspec_change": "c", "ccpm_issue": 1, "gate": 1,
        "files_scope": ["calc.py"], "tasks": ["mend add"], "tool": "ed"});
    let path = checkout.out("bundle.json");
    std::fs::write(&path, with(bundle, change).to_string()).unwrap();
    let path = path.display().to_string();
    checkout.engine_editing(&[&["run", "--run", "r", &path][..], more].concat(), edit)
}

#[test]
fn acceptance_tests_that_are_commands_run_last_and_prose_is_told_as_not_run() {
    let checkout = Checkout::new();
    let acceptance = json!({"acceptance_tests": ["$ grep mended calc.py", "it adds", format!("`{CHECK}`")]});
    let edit = format!("{MENDS}; [ \"$ENGINE_STEP\" = edit ] || echo '# mended' >> calc.py");
    let said = run(&checkout, &acceptance, &edit, &["--check", "true"]);
    assert!(said.err.contains("acceptance test not run, only part of the prompt: it adds"), "{}", said.err);
    let _ = said.exits(0);
    let steps = [
        "01-edit succeeded",
        "02-static succeeded",
        "03-accept exit_code",
        "04-fix succeeded",
        "05-static succeeded",
        "06-accept succeeded",
        "07-accept succeeded",
    ];
    checkout.shown().is("succeeded", "", &steps);
    let result = &checkout.project.record("r.ws-task")["result"]["metadata"];
    assert_eq!(result["acceptance_not_run"], json!(["it adds"]));
    checkout.is_at_rest();
}

#[test]
fn a_bundle_without_tasks_is_only_checked_and_one_that_may_change_nothing_succeeds_so() {
    let checkout = Checkout::new();
    let _ = run(&checkout, &json!({"tasks": []}), "exit 9", &["--test", "grep 'a - b' calc.py"]).exits(0);
    checkout.shown().is("succeeded", "", &["01-runtime succeeded"]);
    assert_eq!(checkout.commits(), Vec::<String>::new());
    checkout.is_at_rest();
    let checkout = Checkout::new();
    let allowed = json!({"metadata": {"allow_no_change": true}});
    let _ = run(&checkout, &allowed, "true", &["--test", "true"]).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    let checkout = Checkout::new();
    let _ = run(&checkout, &json!({}), "true", &["--test", "true"]).exits(1);
    checkout.shown().is("failed", "no_change", &["01-edit succeeded", "02-edit succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn files_that_are_to_be_created_may_be_and_their_directories_are_there_before() {
    let checkout = Checkout::new();
    let edit = format!("{MENDS}; echo new > src/deep/new.py");
    let _ = run(&checkout, &json!({"files_create": ["src/deep/new.py"]}), &edit, &["--test", CHECK]).exits(0);
    assert_eq!(checkout.file("engine/r/ws-task", "src/deep/new.py"), "new\n");
    checkout.is_at_rest();
}

#[test]
fn a_setup_runs_once_in_each_new_work_tree_before_everything_else() {
    let checkout = Checkout::new();
    checkout.set("setup = ['test \"$PWD\" != \"$ENGINE_ROOT_PATH\"', 'echo x >> \"$OUT/setups\"']\n");
    let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
    let setups = || std::fs::read_to_string(checkout.out("setups")).unwrap();
    assert_eq!((checkout.shown().steps()[0].as_str(), setups().as_str()), ("01-setup succeeded", "x\n"));
    let _ = checkout.resume("exit 9").exits(1);
    assert_eq!(setups(), "x\n");
    std::fs::remove_dir_all(checkout.worktree()).unwrap();
    let _ = checkout.resume(MENDS).exits(0);
    assert_eq!(setups(), "x\nx\n");
    checkout.is_at_rest();

    let checkout = Checkout::new();
    checkout.set("setup = ['exit 3']\n");
    let _ = checkout.run(MENDS, &["--test", CHECK]).exits(1);
    checkout.shown().is("failed", "setup_failed", &["01-setup exit_code"]);
    checkout.is_at_rest();
}

#[test]
fn an_optional_check_that_setup_installs_runs_and_one_that_is_nowhere_is_told_as_not_run() {
    let checkout = Checkout::new();
    let bin = checkout.out("bin");
    std::fs::create_dir(&bin).unwrap();
    checkout.set("setup = ['cp /bin/false \"$OUT/bin/lint\"']\n");
    checkout.set("static = [{ run = 'lint .', optional = true }, { run = 'lint-2 .', optional = true }, { run = 'cd .', optional = true }]\n");
    let args = ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "ed"];
    let mut command = checkout.command(&args, "cp /bin/true \"$OUT/bin/lint\"; echo '#' >> calc.py");
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let said = Said::of(&command.output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    let steps = ["01-setup succeeded", "02-edit succeeded", "03-static succeeded", "04-static succeeded"];
    checkout.shown().is("succeeded", "", &steps);
    let warnings = checkout.shown().warnings();
    assert!(warnings.contains("`lint-2 .` was not run: its program is missing"), "{warnings}");
    assert!(!warnings.contains("`lint .`") && !warnings.contains("`cd .`"), "{warnings}");
}

#[test]
fn a_limit_of_cost_that_does_not_bind_a_tool_is_told_before_the_run_and_in_a_dry_run() {
    let warning = "`ed` is no agent that reports its cost: the limit of cost does not bind it";
    for (more, is_told) in [
        (&["--max-cost-usd", "1"][..], true),
        (&["--max-cost-usd", "1", "--dry-run"], true),
        (&["--max-cost-usd", "1", "--tool", "agent"], false),
        (&["--dry-run"], false),
    ] {
        let checkout = Checkout::new();
        let said = checkout.run(&format!("{MENDS}; exit 3"), more);
        assert_eq!(said.err.contains(warning), is_told, "{more:?}: {}", said.err);
    }
}

#[test]
fn a_tool_that_fails_is_followed_by_the_next_one_of_the_list() {
    let checkout = Checkout::new();
    let toml = checkout.project.root("engine.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    let fallback =
        text.replace("backoff_seconds = 0", "backoff_seconds = 0, retries = 0, fallback = ['agent']");
    assert_ne!(text, fallback);
    std::fs::write(&toml, fallback).unwrap();
    let edit = format!(
        "echo \"$0\" >> \"$OUT/tools\"; echo half >> other.txt; [ \"$0\" = agent ] || exit 3; git checkout -q other.txt; {MENDS}"
    );
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit exit_code", "02-edit succeeded", "03-runtime succeeded"]);
    assert_eq!(checkout.file("refs/engine/r/ws-task/01", "other.txt"), "x\nhalf\n");
    assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "x\n");
    checkout.is_at_rest();
}

#[test]
fn limits_of_a_bundle_and_of_settings_end_the_work_at_their_word() {
    let checkout = Checkout::new();
    let limit = json!({"circuit_breaker": {"max_attempts": 2}});
    let _ = run(&checkout, &limit, FAILS, &["--test", CHECK]).exits(1);
    let steps = ["01-edit succeeded", "02-runtime exit_code", "03-fix succeeded", "04-runtime exit_code"];
    checkout.shown().is("failed", "attempt_limit", &steps);
    let checkout = Checkout::new();
    checkout.set("[workstreams.limits]\nfixes = { runtime = 0 }\n");
    let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
    checkout.shown().is("failed", "fix_limit", &steps[..2]);
    let checkout = Checkout::new();
    checkout.set("patch = { max_lines_changed = 1 }\n");
    let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
    checkout.shown().is("quarantined", "patch_policy", &steps[..1]);
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE);
    checkout.is_at_rest();
}

#[test]
fn a_work_tree_is_kept_as_the_settings_say() {
    for (keep, edit, is_kept) in [("always", MENDS, true), ("never", "exit 3", false)] {
        let checkout = Checkout::new();
        checkout.set(&format!("keep_worktrees = '{keep}'\n"));
        let _ = checkout.run(edit, &["--test", CHECK]);
        assert_eq!(checkout.out("cache").exists() && checkout.worktree().exists(), is_kept, "{keep}");
        checkout.is_at_rest();
    }
}
