//! A run that cannot be made, and leaves something behind all the same: a directory, a reference, a worktree, a root.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::checkout::{Checkout, MENDS};
use crate::support::{Said, with};

/// All files below a directory, with what they hold.
fn all(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(all(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            found.insert(path, bytes);
        }
    }
    found
}

/// Says no before anything is made: exit 125, these words, and every file as it was.
#[track_caller]
fn refuses(checkout: &Checkout, args: &[&str], words: &[&str]) {
    refuses_with(checkout, args, words, None);
}

#[track_caller]
fn refuses_with(checkout: &Checkout, args: &[&str], words: &[&str], path: Option<&str>) {
    let look = || (all(checkout.project.dir()), all(&checkout.out("")));
    let before = look();
    let mut command = checkout.command(args, MENDS);
    path.map(|path| command.env("PATH", path));
    let said = Said::of(&command.output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (125, ""), "{args:?}: {}", said.err);
    for word in words.iter().chain(&["nothing was started"]) {
        assert!(said.err.contains(word), "{args:?}: no `{word}` in {}", said.err);
    }
    let (after, names) =
        (look(), |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>());
    assert_eq!((names(&after.0), names(&after.1)), (names(&before.0), names(&before.1)), "{args:?}");
    assert!(after == before, "{args:?}: a file has changed");
}

/// The task that is right in everything else.
fn task<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "--run", "r", "--task", "mend"];
    for (flag, value) in [("--files", "calc.py"), ("--tool", "ed"), ("--test", "true")] {
        if !more.contains(&flag) {
            args.extend([flag, value]);
        }
    }
    args.extend(more);
    args
}

fn bundle() -> Value {
    json!({"id": "ws-a", "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": ["calc.py"],
        "tasks": ["mend"], "tool": "ed"})
}

#[test]
fn bundles_that_are_not_valid_are_named_by_their_line_and_make_nothing() {
    let checkout = Checkout::new();
    refuses(&checkout, &["run"], &["workstreams"]);
    refuses(&checkout, &["run", "none.json"], &["none.json:1:1: error reading"]);
    let changed = |change: &Value| with(bundle(), change).to_string();
    let two = |other: &Value| json!([bundle(), with(bundle(), other)]).to_string();
    for (text, word) in [
        (String::new(), "b.json:1:1: the file is empty"),
        (r#"{"id": "ws-a", "openspec"#.to_owned(), "b.json:1:24: the JSON text ends too early"),
        ("not JSON".to_owned(), "not JSON: expected ident"),
        (changed(&json!({"id": "{{id}}"})), "template that was not rendered"),
        (changed(&json!({"id": format!("ws-{}", "a".repeat(80))})), "at most 64 characters"),
        (changed(&json!({"id": "task"})), "/id: found"),
        (changed(&json!({"files_scope": []})), "/files_scope"),
        (changed(&json!({"gate": 0})), "/gate"),
        (changed(&json!({"bogus": 1})), "/bogus: unknown key `bogus`"),
        (changed(&json!({"files_scope": ["../x"]})), "`../x` leads out of the repository"),
        (changed(&json!({"files_scope": ["[a"]})), "`[a` is not a valid glob"),
        (changed(&json!({"depends_on": ["ws-z"]})), "there is no bundle `ws-z`"),
        (changed(&json!({"depends_on": ["ws-a"]})), "the bundles wait for each other: `ws-a`"),
        (changed(&json!({"tool": "nope"})), "no_adapter: there is no adapter `nope`"),
        (
            changed(&json!({"tool": "shell"})),
            "command_missing: the adapter `shell` has no command of its own",
        ),
        (two(&json!({})), "/id: duplicate id `ws-a`"),
    ] {
        std::fs::write(checkout.out("b.json"), &text).unwrap();
        let path = checkout.out("b.json").display().to_string();
        refuses(&checkout, &["run", "--run", "r", &path], &[word]);
    }
}

#[test]
fn all_that_is_wrong_with_a_task_is_told_at_once() {
    let checkout = Checkout::new();
    for (more, words) in [
        (vec!["--files", "[a"], vec!["`[a` in `--files` is not a valid glob"]),
        (vec!["--files", "../x"], vec!["`../x` in `--files` leads out"]),
        (vec!["--tool", "claude"], vec!["tool_not_found: `claude`"]),
        (vec!["--test", "no-such-program -q"], vec!["tool_missing: `no-such-program` of the check"]),
        (vec!["--check", "./none.sh"], vec!["tool_missing: `./none.sh` of the check"]),
        (vec!["--base", "nope"], vec!["base_missing: there is no commit `nope`"]),
        (vec!["--run", "a.b"], vec!["`a.b` is not a valid run id"]),
        (vec!["--run", "last"], vec!["is not a valid run id"]),
        (
            vec!["--tool", "nope", "--test", "no-such-program", "--base", "gone"],
            vec!["no_adapter", "tool_missing", "base_missing", "3 problems"],
        ),
    ] {
        let mut args = task(&more);
        if more.contains(&"--run") {
            args.drain(1..3);
        }
        refuses(&checkout, &args, &words);
    }
    std::fs::write(checkout.project.path("plain.sh"), "exit 0\n").unwrap();
    refuses(
        &checkout,
        &task(&["--check", "./plain.sh"]),
        &["tool_missing: `", "plain.sh` of the check", "cannot be executed"],
    );
    // An agent that is there, but has no key.
    std::fs::create_dir(checkout.out("bin")).unwrap();
    let claude = checkout.out("bin/claude");
    std::fs::write(&claude, "#!/bin/sh\nexit 9\n").unwrap();
    std::fs::set_permissions(&claude, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", checkout.out("bin").display(), std::env::var("PATH").unwrap());
    refuses_with(&checkout, &task(&["--tool", "claude"]), &["key_missing: "], Some(&path));
}

#[test]
fn settings_that_cannot_be_read_are_named_with_their_file_and_line() {
    for (file, text, word) in [
        (
            "circuit_breakers.yaml",
            "max_fix_iterations:\n  static: [\n",
            "config/circuit_breakers.yaml:3:1: not YAML",
        ),
        ("circuit_breaker_config.yaml", "defaults:\n\t- x\n", "config/circuit_breaker_config.yaml:2:"),
        ("tool_profiles.json", "{\"ruff\": \n", "config/tool_profiles.json:2:1: "),
    ] {
        let checkout = Checkout::new();
        std::fs::create_dir(checkout.project.path("config")).unwrap();
        std::fs::write(checkout.project.path("config").join(file), text).unwrap();
        refuses(&checkout, &task(&[]), &[word, "the settings cannot be used"]);
    }
}

#[test]
fn a_repository_that_does_not_fit_makes_nothing() {
    let checkout = Checkout::new();
    checkout.git(&["branch", "engine"]);
    refuses(&checkout, &task(&[]), &["branch_in_use: the reference `refs/heads/engine` is in the way"]);
    let hidden = checkout.out("git");
    std::fs::rename(checkout.project.path(".git"), &hidden).unwrap();
    refuses(&checkout, &task(&[]), &["not_a_repository: "]);
    checkout.git(&["init", "-q"]);
    refuses(&checkout, &task(&[]), &["base_missing: the repository has no commit yet"]);
}

#[test]
fn an_environment_that_loads_the_checkout_makes_nothing_unless_it_is_shared_on_purpose() {
    let checkout = Checkout::new();
    std::fs::write(checkout.project.path(".git/info/exclude"), ".venv\n").unwrap();
    let site = checkout.project.path(".venv/lib/python3.12/site-packages");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::create_dir(checkout.project.path(".venv/bin")).unwrap();
    std::fs::write(checkout.project.path(".venv/pyvenv.cfg"), "").unwrap();
    let python = checkout.project.path(".venv/bin/python3");
    std::fs::write(&python, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    let line = format!("{}\n", checkout.project.dir().display());
    std::fs::write(site.join("__editable__.calc-1.pth"), line).unwrap();
    let path = format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let with_check = task(&["--test", "python3 -c pass"]);
    let words = [
        "environment_of_checkout: `",
        "__editable__.calc-1.pth` leads Python to",
        "shared_environment = true",
    ];
    refuses_with(&checkout, &with_check, &words, Some(&path));
    checkout.set("shared_environment = true\n");
    let mut command = checkout.command(&with_check, MENDS);
    let said = Said::of(&command.env("PATH", path).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn a_table_of_prices_that_cannot_be_read_makes_nothing() {
    let checkout = Checkout::new();
    std::fs::write(checkout.project.root("prices.json"), "{}").unwrap();
    refuses(&checkout, &task(&[]), &["prices.json`: missing field"]);
}

#[test]
fn the_base_of_a_run_of_another_root_stays() {
    let checkout = Checkout::new();
    let base = "refs/engine/r/base";
    checkout.git(&["update-ref", base, "HEAD"]);
    refuses(&checkout, &task(&[]), &["id_taken: ", base]);
    assert!(checkout.refs().contains_key(base));
    // What a crash of this root left before its run was made.
    std::fs::create_dir_all(checkout.project.root("state/runs/r")).unwrap();
    let _ = checkout.engine_editing(&task(&[]), MENDS).exits(0);
}

#[test]
fn a_resume_does_not_pay_where_a_dry_run_is_asked_for() {
    let checkout = Checkout::new();
    let _ = checkout.engine_editing(&task(&[]), "exit 3").exits(1);
    let before = checkout.project.record("r.ws-task");
    for value in ["1", "perhaps"] {
        let mut command = checkout.command(&["run", "--resume", "r"], MENDS);
        let said = Said::of(&command.env("PIPELINE_DRY_RUN", value).output().unwrap());
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{}", said.err);
        assert!(said.err.contains("PIPELINE_DRY_RUN"), "{}", said.err);
    }
    assert_eq!(checkout.project.record("r.ws-task"), before);
}

#[test]
fn a_git_that_is_too_old_makes_nothing() {
    let checkout = Checkout::new();
    std::fs::create_dir(checkout.out("bin")).unwrap();
    let (fake, search) = (checkout.out("bin/git"), std::env::var("PATH").unwrap());
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = version ] && echo git version 2.30.2 && exit; done\nPATH='{search}' exec git \"$@\"\n"
    );
    std::fs::write(&fake, script).unwrap();
    std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{search}", checkout.out("bin").display());
    refuses_with(&checkout, &task(&[]), &["git_too_old: git version 2.30.2: install git 2.38"], Some(&path));
}

#[test]
fn a_directory_of_work_trees_that_is_not_ours_makes_nothing() {
    let checkout = Checkout::new();
    let place = checkout.out("cache/engine/worktrees");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "").unwrap();
    refuses(&checkout, &task(&[]), &["worktree_place: ", "is not a directory"]);
    std::fs::remove_file(&place).unwrap();
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o777)).unwrap();
    refuses(&checkout, &task(&[]), &["worktree_place: other users can write in"]);
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o700)).unwrap();
    // Below the worktree of another repository its files would be found by climbing.
    let other = checkout.out("cache");
    checkout.git_in(&other, &["init", "-q"]);
    refuses(&checkout, &task(&[]), &["worktree_place: ", "is in the worktree"]);
}

#[test]
fn a_name_that_is_taken_and_a_disk_that_is_full_make_nothing() {
    let checkout = Checkout::new();
    let _ = checkout.run(MENDS, &["--test", "true"]).exits(0);
    refuses(&checkout, &task(&[]), &["id_taken: there is a run `r`: engine run --resume r"]);
    let toml = checkout.project.root("engine.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("min_free_bytes = {}\n{text}", 1u64 << 60)).unwrap();
    let args: Vec<&str> = task(&[]).into_iter().map(|arg| if arg == "r" { "other" } else { arg }).collect();
    refuses(&checkout, &args, &["disk_full: ", "min_free_bytes"]);
    for run in ["none", "a.b"] {
        let said = checkout.engine(&["run", "--resume", run]);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{}", said.err);
    }
}

#[test]
fn where_there_is_no_root_none_is_left() {
    let checkout = Checkout::without_root();
    refuses(&checkout, &task(&["--tool", "nope"]), &["no_adapter: there is no adapter `nope`"]);
    refuses(&checkout, &task(&["--base", "nope", "--tool", "aider"]), &["tool_not_found", "base_missing"]);
    refuses(&checkout, &["run", "none.json"], &["none.json"]);
    let said = checkout.engine(&["run", "--resume", "last"]);
    assert_eq!(said.code, 125, "{}", said.err);
    assert!(!checkout.project.root("").exists());
}
