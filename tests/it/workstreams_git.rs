//! git itself does not do what it is asked to do: each call of it is killed once, or a filter refuses a file.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::checkout::{Checkout, MENDS};
use crate::support::{Said, row};
use crate::workstream_crash::sample_of;
use crate::workstreams_many::{APPENDS, bundle};

/// Counts the calls of git, and kills the one of this number; 0 kills none.
const WRAPPER: &str = "#!/bin/sh
echo x >> \"$OUT/calls\"
[ \"$(wc -l < \"$OUT/calls\")\" -eq \"${GIT_KILLED:-0}\" ] && { echo \"$*\" > \"$OUT/victim\"; kill -9 $$; }
PATH=${PATH#*:} exec git \"$@\"
";

/// A run of two workstreams, one upon the other by a shared file, with a git of which one call is killed.
fn run_with(number: u64) -> (Checkout, Said) {
    let checkout = Checkout::new();
    bundle(&checkout, "ws-a", &["a.txt"], &json!({"tool": "agent"}));
    bundle(&checkout, "ws-b", &["a.txt", "b.txt"], &json!({}));
    let dir = checkout.out("bin");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("git"), WRAPPER).unwrap();
    std::fs::set_permissions(dir.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    let bundles = checkout.out("bundles").display().to_string();
    let args = ["run", "--run", "r", &bundles, "--slots", "1", "--check", "test -e a.txt"];
    let mut command = checkout.command(&args, APPENDS);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", dir.display())).env("GIT_KILLED", number.to_string());
    let said = Said::of(&command.output().unwrap());
    (checkout, said)
}

#[test]
fn whichever_call_of_git_is_killed_the_run_ends_as_without_that() {
    let (checkout, said) = run_with(0);
    let _ = said.exits(0);
    let tree = |checkout: &Checkout| checkout.git(&["rev-parse", "engine/r/integration^{tree}"]);
    let want = tree(&checkout);
    let calls = std::fs::read_to_string(checkout.out("calls")).unwrap().lines().count() as u64;
    // Before anything is made a killed git is an error of the command.
    let mut all: Vec<u64> = (1..=calls).collect();
    sample_of(&mut all, 8);
    let times = all.len();
    for number in all {
        let (checkout, said) = run_with(number);
        let victim = std::fs::read_to_string(checkout.out("victim")).unwrap_or_default();
        if said.code == 125 {
            assert!(!checkout.project.root("state/runs/r").exists(), "{number}, {victim}: {}", said.err);
            continue;
        }
        assert_eq!(said.code, 0, "{number}, {victim}: {}\n{:#}", said.err, checkout.shown().0);
        assert_eq!(tree(&checkout), want, "{number}, {victim}");
        checkout.is_at_rest();
    }
    row("two workstreams and their integration, each call of git killed once", times);
}

#[test]
fn what_a_filter_refuses_is_put_aside_as_it_is() {
    let checkout = Checkout::new();
    let filter = checkout.out("filter");
    std::fs::write(&filter, "#!/bin/sh\n[ -e \"$OUT/broken\" ] && exit 1\ncat\n").unwrap();
    std::fs::set_permissions(&filter, PermissionsExt::from_mode(0o755)).unwrap();
    for key in ["clean", "smudge"] {
        checkout.git(&["config", &format!("filter.f.{key}"), &filter.display().to_string()]);
    }
    checkout.git(&["config", "filter.f.required", "true"]);
    std::fs::write(checkout.project.path(".gitattributes"), "*.dat filter=f\n").unwrap();
    std::fs::write(checkout.project.path("a.dat"), "one\n").unwrap();
    checkout.git(&["add", "."]);
    checkout.git(&["reset", "-q", "--", ".engine"]);
    checkout.git(&["commit", "-q", "-m", "filtered"]);
    let edit = format!("{MENDS}; echo precious >> a.dat; echo new > b.dat; touch \"$OUT/broken\"");
    let args = ["run", "--run", "r", "--task", "mend", "--files", "**", "--tool", "ed", "--test", "true"];
    let _ = checkout.engine_editing(&args, &edit).exits(1);
    std::fs::remove_file(checkout.out("broken")).unwrap();
    let shown = checkout.shown();
    assert!(shown.message().contains("filter"), "{:#}", shown.0);
    let kept = "refs/engine/r/ws-task/01";
    if !checkout.refs().contains_key(kept) {
        // git did not even list what differs, so nothing was touched; the next start puts it aside.
        assert_eq!(std::fs::read_to_string(checkout.worktree().join("a.dat")).unwrap(), "one\nprecious\n");
        std::fs::write(checkout.out("broken"), "").unwrap();
        let _ = checkout.resume(MENDS);
        std::fs::remove_file(checkout.out("broken")).unwrap();
    }
    if !checkout.refs().contains_key(kept) {
        assert_eq!(std::fs::read_to_string(checkout.worktree().join("a.dat")).unwrap(), "one\nprecious\n");
        return;
    }
    assert_eq!(checkout.file(kept, "a.dat"), "one\nprecious\n");
    assert_eq!(checkout.file(kept, "b.dat"), "new\n");
    assert!(checkout.file(kept, "calc.py").contains("a + b"));
}

#[test]
fn a_file_that_git_would_convert_now_is_no_change_of_a_step() {
    let checkout = Checkout::new();
    std::fs::write(checkout.project.path("z.py"), "x\r\ny\r\n").unwrap();
    checkout.git(&["add", "z.py"]);
    checkout.git(&["commit", "-q", "-m", "as it is"]);
    std::fs::write(checkout.project.path(".gitattributes"), "*.py text\n").unwrap();
    checkout.git(&["add", ".gitattributes"]);
    checkout.git(&["commit", "-q", "-m", "text"]);
    let _ = checkout.run(MENDS, &["--test", "test -e calc.py", "--baseline"]).exits(0);
    assert_eq!(checkout.commits(), ["edit 01"]);
    let changed = checkout.git(&["diff", "--name-only", "main", "engine/r/ws-task"]);
    assert_eq!(changed, "calc.py\n");
}
