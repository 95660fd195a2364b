//! An agent or a check that does to git, or to the worktree, what it must not: the run ends with a reason that names it, and the
//! user's checkout is as it was.

use crate::checkout::{BEFORE, CHECK, Checkout, FAILS, MENDS, WAITS};
use crate::support::eventually;

/// Runs an edit that mends the file and does something more.
fn after(more: &str) -> Checkout {
    let checkout = Checkout::new();
    let _ = checkout.run(&format!("{MENDS}; {more}"), &["--test", CHECK]);
    checkout
}

#[test]
fn what_an_agent_does_to_its_own_branch_and_head_is_no_matter() {
    for more in [
        "git commit -q -a -m mine",
        "git commit -q --amend -a -m rewritten",
        "git switch -q --detach HEAD",
        "git commit -q -a -m mine; git reset -q --hard HEAD~1; sed -i 's/a - b/a + b/' calc.py",
        "git update-ref -d refs/heads/engine/r/ws-task",
        "touch \"$(git rev-parse --git-dir)/index.lock\"",
        "git commit -q -a -m x; git checkout -q HEAD~1; git merge -q --no-ff --no-commit engine/r/ws-task",
        "git rm -q --cached calc.py",
    ] {
        let checkout = after(more);
        checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
        assert_eq!(checkout.commits(), ["edit 01"], "{more}");
        assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE.replace('-', "+"), "{more}");
        checkout.is_at_rest();
    }
}

#[test]
fn references_of_others_that_an_agent_moves_are_named() {
    for (more, name) in [
        ("git switch -q -c other", "refs/heads/other"),
        ("git stash -q; git stash apply -q", "refs/stash"),
        ("git worktree add -q \"$OUT/mine\"", "refs/heads/mine"),
        ("git tag mine", "refs/tags/mine"),
    ] {
        let checkout = after(more);
        let shown = checkout.shown();
        shown.is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
        assert!(shown.warnings().contains(&format!("`{name}` moved")), "{more}: {}", shown.warnings());
        assert_eq!(checkout.commits(), ["edit 01"], "{more}");
        checkout.is_at_rest();
    }
}

#[test]
fn settings_that_an_agent_changes_and_pipes_that_it_leaves_are_named() {
    let checkout = after("git config user.name Eve; git remote add evil /evil; mkfifo pipe .gitattributes");
    let shown = checkout.shown();
    shown.is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    for told in [
        "`.git/config: user.name` changed",
        "`.git/config: remote.evil.url` changed",
        "`pipe`",
        "`.gitattributes`",
    ] {
        assert!(shown.warnings().contains(told), "{told}: {}", shown.warnings());
    }
    checkout.git(&["config", "--unset", "user.name"]);
    checkout.git(&["remote", "remove", "evil"]);
    checkout.is_at_rest();
}

#[test]
fn a_directory_of_a_new_file_that_leads_elsewhere_is_refused_before_an_agent_starts() {
    let checkout = Checkout::new();
    std::os::unix::fs::symlink(checkout.out(""), checkout.project.path("door")).unwrap();
    checkout.git(&["add", "door"]);
    checkout.git(&["commit", "-q", "-m", "door"]);
    let all =
        ["run", "--run", "r", "--task", "mend", "--files", "door/new/x.py", "--tool", "ed", "--test", CHECK];
    let _ = checkout.engine_editing(&all, MENDS).exits(1);
    let shown = checkout.shown();
    assert_eq!((shown.status(), shown.code()), ("failed", "scope_invalid"), "{:#}", shown.0);
    assert!(shown.message().contains("`door` is a link"), "{}", shown.message());
    assert!(!checkout.out("new").exists());
}

#[test]
fn what_an_agent_does_to_git_directories_and_references_of_the_engine_is_a_violation() {
    for (more, names) in [
        ("git config alias.x y", ".git/config: alias.x"),
        ("git config core.fsmonitor /bin/true", ".git/config: core.fsmonitor"),
        ("git config http.proxy localhost:1", ".git/config: http.proxy"),
        ("echo x > \"$(git rev-parse --git-path hooks)/pre-commit\"", ".git/hooks/pre-commit"),
        ("rm .git", "`.git`"),
        ("rm .git; git init -q .", "`.git`"),
        ("git update-ref refs/engine/r/ws-task/07 HEAD", "refs/engine/r/ws-task/07"),
        ("git update-ref -d refs/engine/r/ws-task/head", "refs/engine/r/ws-task/head"),
        (
            "git commit -q -a -m 'ws-task: edit 01' -m 'Engine-Job: r.ws-task\nEngine-Step: ws-task/01'; \
             git update-ref refs/engine/r/ws-task/head HEAD",
            "refs/engine/r/ws-task/head",
        ),
    ] {
        let checkout = after(more);
        let shown = checkout.shown();
        shown.is("quarantined", "git_dir_changed", &["01-edit succeeded"]);
        assert!(shown.message().contains(names), "{more}: {}", shown.message());
        assert_eq!(
            checkout.git(&["rev-parse", "refs/engine/r/ws-task/head"]),
            checkout.git(&["rev-parse", "main"])
        );
        assert_eq!(checkout.file("refs/engine/r/ws-task/01", "calc.py"), BEFORE.replace('-', "+"), "{more}");
    }
}

#[test]
fn a_work_tree_that_an_agent_removes_is_made_again_and_said() {
    for more in [
        "rm -rf \"$ENGINE_WORKSPACE_PATH\"",
        "git worktree remove --force --force \"$ENGINE_WORKSPACE_PATH\"",
    ] {
        let checkout = after(more);
        let shown = checkout.shown();
        shown.is("quarantined", "tree_not_clean", &["01-edit succeeded"]);
        assert!(shown.message().contains("removed its worktree"), "{}", shown.message());
        checkout.is_at_rest();
        let _ = checkout.resume(MENDS).exits(0);
        checkout.is_at_rest();
    }
    let checkout = Checkout::new();
    let check = "test -e \"$OUT/once\" || { touch \"$OUT/once\"; rm -rf \"$ENGINE_WORKSPACE_PATH\"; }";
    let _ = checkout.run(MENDS, &["--test", check]).exits(0);
    let shown = checkout.shown();
    let steps = ["01-edit succeeded", "02-runtime succeeded", "03-fix succeeded", "04-runtime succeeded"];
    shown.is("succeeded", "", &steps);
    assert!(shown.warnings().contains("removed the worktree"), "{}", shown.warnings());
    assert_eq!(checkout.commits(), ["edit 01"]);
    checkout.is_at_rest();
}

#[test]
fn a_tree_that_an_agent_makes_unreadable_or_in_which_it_makes_a_repository_is_not_taken() {
    crate::support::heeding_modes(|| {
        let checkout = after("chmod 000 calc.py");
        let shown = checkout.shown();
        shown.is("quarantined", "tree_not_clean", &["01-edit succeeded"]);
        assert!(shown.message().contains("`calc.py`"), "{}", shown.message());
        assert_eq!(checkout.commits(), Vec::<String>::new());
    });
    let checkout = Checkout::new();
    let edit =
        format!("{MENDS}; mkdir inner; cd inner; git init -q; echo x > x; git add x; git commit -q -m x");
    let all = ["run", "--run", "r", "--task", "mend", "--files", "*", "--tool", "ed", "--test", CHECK];
    let _ = checkout.engine_editing(&all, &edit).exits(1);
    checkout.shown().is("quarantined", "tree_not_clean", &["01-edit succeeded"]);
    assert!(checkout.worktree().join("inner/x").exists());
}

#[test]
fn processes_that_an_agent_leaves_are_ended_and_a_flood_of_output_is_kept_within_bounds() {
    let checkout = after("setsid sleep 300 & yes 0123456789012345678901234567890123456789 | head -c 4000000");
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn a_check_that_passes_on_files_that_it_changed_itself_has_not_passed_on_those_that_are_handed_over() {
    let checkout = Checkout::new();
    let edit = "if [ \"$ENGINE_STEP\" = edit ]; then sed -i 's/a - b/a  +  b/' calc.py; else sed -i 's/  +  / + /' calc.py; fi";
    let formats = "sed -i 's/  +  / + /' calc.py; rm -f other.txt; git checkout -q -- other.txt";
    let _ = checkout.run(edit, &["--test", formats, "--test", CHECK]).exits(0);
    let shown = checkout.shown();
    let steps = ["01-edit", "02-runtime", "03-fix", "04-runtime", "05-runtime"]
        .map(|step| format!("{step} succeeded"));
    shown.is("succeeded", "", &steps.each_ref().map(String::as_str));
    assert!(shown.warnings().contains("passed, and changed files itself"), "{}", shown.warnings());
    let prompt = std::fs::read_to_string(checkout.out("prompt")).unwrap();
    assert!(prompt.contains("changed files itself, so the pass does not count: `calc.py`;"), "{prompt}");
    assert_eq!(checkout.file("engine/r/ws-task~1", "calc.py"), BEFORE.replace("a - b", "a  +  b"));
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE.replace('-', "+"));
    assert_eq!(checkout.file("refs/engine/r/ws-task/02", "calc.py"), BEFORE.replace('-', "+"));
    let kept = checkout.git(&["log", "-1", "--format=%(trailers)", "refs/engine/r/ws-task/02"]);
    assert!(kept.contains("Engine-Attempt: 1\nEngine-Refused: check_changed_files\n"), "{kept}");
    checkout.is_at_rest();
}

#[test]
fn a_check_that_changes_the_same_file_after_each_fix_trips_a_breaker() {
    let checkout = Checkout::new();
    let _ = checkout.run(FAILS, &["--test", "echo '# by the check' >> calc.py"]).exits(1);
    let shown = checkout.shown();
    assert_eq!(
        (shown.status(), shown.code(), shown.steps().len()),
        ("failed", "no_progress", 6),
        "{:#}",
        shown.0
    );
    assert!(!checkout.file("engine/r/ws-task", "calc.py").contains("by the check"));
    checkout.is_at_rest();
}

#[test]
fn what_a_failing_check_changes_is_put_back_and_what_a_check_makes_stays_for_those_after_it() {
    let checkout = Checkout::new();
    let makes = "echo new > made.txt";
    let changes = "echo '# x' >> calc.py; rm other.txt; grep nothing calc.py";
    let _ = checkout.run(FAILS, &["--test", makes, "--test", "cat made.txt", "--test", changes]).exits(1);
    let shown = checkout.shown();
    let steps = shown.steps();
    let want = ["02-runtime succeeded", "03-runtime succeeded", "04-runtime exit_code"];
    assert_eq!(steps[1..4], want, "{:#}", shown.0);
    assert!(shown.warnings().contains("changed `calc.py`, `other.txt`; put back"), "{}", shown.warnings());
    assert_eq!(checkout.file("refs/engine/r/ws-task/04", "made.txt"), "new\n");
    assert!(!checkout.file("engine/r/ws-task", "calc.py").contains("# x"));
    checkout.is_at_rest();
}

#[test]
fn what_a_check_or_a_setup_does_beside_its_tree_is_a_violation_like_an_agents() {
    for (check, names) in [
        ("git config core.hooksPath /tmp/x", ".git/config"),
        ("echo x > \"$(git rev-parse --git-path hooks)/pre-push\"; exit 3", ".git/hooks/pre-push"),
        ("git update-ref -d refs/engine/r/ws-task/head", "refs/engine/r/ws-task/head"),
    ] {
        let checkout = Checkout::new();
        let _ = checkout.run(MENDS, &["--test", CHECK, "--test", check]).exits(1);
        let shown = checkout.shown();
        assert_eq!(
            (shown.status(), shown.code(), shown.steps().len()),
            ("quarantined", "git_dir_changed", 3)
        );
        assert!(shown.message().contains(names), "{check}: {}", shown.message());
        assert_eq!(checkout.commits(), ["edit 01"], "{check}");
        checkout.is_at_rest();
    }
    let checkout = Checkout::new();
    checkout.set("setup = [\"git config core.hooksPath .husky\"]\n");
    let _ = checkout.run(MENDS, &["--test", CHECK]).exits(1);
    checkout.shown().is("quarantined", "git_dir_changed", &["01-setup succeeded"]);
    // What is there now counts as the person's: the same setting is no change.
    let _ = checkout.resume(MENDS).exits(0);
    checkout.is_at_rest();
}

#[test]
fn a_check_that_hangs_says_nothing_or_dies_by_its_own_doing_has_failed() {
    for (check, code) in [
        ("while :; do sleep 0.05; done", "timed_out"),
        ("exit 3", "exit_code"),
        ("kill -SEGV $$", "signal:11"),
    ] {
        let checkout = Checkout::new();
        let edit = format!("{MENDS}; echo \"# $ENGINE_STEP_NUMBER\" >> calc.py");
        let _ = checkout.run(&edit, &["--check", check]).exits(1);
        let shown = checkout.shown();
        let failed = format!("02-static {code}");
        assert_eq!(shown.steps()[..2], ["01-edit succeeded".to_owned(), failed], "{:#}", shown.0);
        assert_eq!((shown.status(), shown.code()), ("failed", "no_progress"), "{:#}", shown.0);
        checkout.is_at_rest();
    }
}

#[test]
fn a_check_that_was_killed_from_outside_is_tried_again_and_no_agent_is_asked_to_mend_it() {
    let checkout = Checkout::new();
    let check = "test -e \"$OUT/killed\" || { touch \"$OUT/killed\"; kill -9 $$; }";
    let _ = checkout.run(MENDS, &["--test", check]).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    checkout.is_at_rest();
}

#[test]
fn what_a_person_does_in_the_checkout_meanwhile_is_no_violation() {
    let checkout = Checkout::new();
    let edit = format!("{WAITS}; {MENDS}");
    let args = ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "ed", "--test", CHECK];
    let running = checkout.start_editing(&args, &edit);
    eventually("the step has begun", || checkout.out("begun").exists());
    std::fs::write(checkout.project.path("other.txt"), "of the user\n").unwrap();
    checkout.git(&["commit", "-q", "-a", "-m", "start"]);
    for args in [
        &["config", "user.name", "someone"][..],
        &["branch", "other"],
        &["tag", "v1"],
        &["remote", "add", "origin", "/nonexistent"],
        &["worktree", "prune", "--expire=now"],
        &["gc", "-q", "--prune=now"],
    ] {
        let _ = checkout.git(args);
    }
    std::fs::write(checkout.out("go"), "").unwrap();
    let _ = running.wait().exits(0);
    let shown = checkout.shown();
    shown.is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
    assert!(shown.warnings().contains("`refs/heads/main` moved"), "{}", shown.warnings());
    assert_eq!(checkout.git(&["diff", "--name-only", "main~1", "engine/r/ws-task"]).trim(), "calc.py");
    assert_eq!(std::fs::read_to_string(checkout.project.path("other.txt")).unwrap(), "of the user\n");
    checkout.is_at_rest();
}

/// The commands that `runs show` names as next, but for the resume; the words after a command are none of it.
fn next_commands(checkout: &Checkout) -> Vec<String> {
    let text = checkout.engine(&["runs", "show", "r"]).exits(0);
    let hints = text.lines().filter_map(|line| line.strip_prefix("next: git "));
    let command = |hint: &str| {
        let end = hint.find(" prints ").or(hint.find(" takes it"));
        format!("git {}", end.map_or(hint, |end| &hint[..end]))
    };
    hints.map(command).collect()
}

#[test]
fn after_a_change_of_the_git_directory_each_hint_works_and_nothing_has_to_be_undone() {
    let edit = format!("{MENDS}; git config alias.x y; git update-ref refs/engine/r/ws-task/07 HEAD");
    // By a resume alone: the agent edits again, and what is there counts as the person's.
    let checkout = Checkout::new();
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(1);
    checkout.shown().is("quarantined", "git_dir_changed", &["01-edit succeeded"]);
    assert!(!checkout.refs().contains_key("refs/engine/r/ws-task/07"), "put back");
    let _ = checkout.resume(MENDS).exits(0);
    assert_eq!(checkout.git(&["config", "alias.x"]), "y\n");
    // With what was refused: no agent is asked.
    let checkout = Checkout::new();
    let _ = checkout.run(&edit, &["--test", CHECK]).exits(1);
    let commands = next_commands(&checkout);
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        checkout.git(&command.split(' ').skip(1).collect::<Vec<_>>());
    }
    let _ = checkout.resume("exit 9").exits(0);
    assert_eq!(checkout.commits(), ["hand 01"]);
    checkout.is_at_rest();
}

#[test]
fn a_part_of_what_an_edit_left_that_came_to_no_end_stands_for_it_and_another_change_does_not() {
    let both = "sed -i 's/a - b/a + b/' calc.py; echo bad > bad.txt; exit 3";
    let restored = |checkout: &Checkout, file: &str| {
        let asides = checkout.refs();
        let last = asides.keys().rfind(|name| name.starts_with("refs/engine/r/ws-task/0")).unwrap();
        checkout.git_in(&checkout.worktree(), &["restore", &format!("--source={last}"), "-SW", "--", file]);
    };
    let checkout = Checkout::new();
    let _ = checkout.run(both, &["--test", CHECK]).exits(1);
    restored(&checkout, "calc.py");
    let _ = checkout.resume("touch \"$OUT/asked\"; exit 9").exits(0);
    assert!(!checkout.out("asked").exists(), "no agent is asked");
    assert!(checkout.commits()[0].starts_with("hand 0"), "{:?}", checkout.commits());
    assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE.replace('-', "+"));
    assert!(!checkout.git(&["ls-tree", "--name-only", "engine/r/ws-task"]).contains("bad.txt"));
    checkout.is_at_rest();

    // What a person changes beside it is no edit of the task.
    let checkout = Checkout::new();
    let _ = checkout.run(both, &["--test", CHECK]).exits(1);
    std::fs::write(checkout.worktree().join("other.txt"), "y\n").unwrap();
    let _ = checkout.resume(MENDS).exits(0);
    assert!(checkout.commits()[0].starts_with("edit 0"), "{:?}", checkout.commits());
}

#[test]
fn conflicts_that_a_person_has_not_resolved_are_no_work_and_the_reason_leads_on() {
    let checkout = Checkout::new();
    let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
    std::fs::write(checkout.project.path("calc.py"), BEFORE.replace("a - b", "b + a")).unwrap();
    checkout.git(&["stash", "-q"]);
    let tree = checkout.worktree();
    let mut command = std::process::Command::new("git");
    let applied = command.args(["stash", "apply", "-q"]).current_dir(&tree).output().unwrap();
    assert!(!applied.status.success(), "it was to conflict");
    let _ = checkout.resume("exit 9").exits(1);
    let shown = checkout.shown();
    assert_eq!((shown.status(), shown.code()), ("failed", "merge_unfinished"), "{:#}", shown.0);
    assert!(shown.message().contains("conflicts in `calc.py`"), "{}", shown.message());
    // Nothing of it is touched, however often it is resumed.
    assert!(std::fs::read_to_string(tree.join("calc.py")).unwrap().contains("<<<<<<<"));
    let _ = checkout.resume("exit 9").exits(1);
    std::fs::write(tree.join("calc.py"), BEFORE.replace('-', "+")).unwrap();
    checkout.git_in(&tree, &["add", "calc.py"]);
    let _ = checkout.resume("exit 9").exits(0);
    assert!(checkout.commits()[0].starts_with("hand "), "{:?}", checkout.commits());
}
