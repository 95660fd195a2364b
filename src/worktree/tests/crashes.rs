//! A workstream that is killed at each of its durable steps, and in the middle of each write.

use std::path::Path;

use super::super::aside::put_aside_and_reset;
use super::super::checkpoint::{take, taken};
use super::super::judge::left;
use super::super::tree::{make_or_find, remove, remove_left_locks};
use super::{Bench, client, counted, sh};
use crate::fs::steps::{Interference, interfere};
use crate::git::Repository;
use crate::worktree::Place;

const NAME: &str = "worktree::tests::crashes::a_kill_at_any_step_is_completed_and_nothing_is_taken_twice";

/// A conductor of three steps: an edit that is taken, one that is put aside, and the end. What it has done is in files, as in the
/// records of steps; it can be run again at any time.
fn conduct(dir: &Path) {
    let client = client(dir);
    let repository = Repository::find(&dir.join("repo"), &client).unwrap();
    let place = Place::new(&repository, &dir.join("trees"), ("r1", "ws-a"), false);
    let base = repository.head.unwrap();
    let counted = counted(&place, &["src"]);
    if dir.join("ended").exists() {
        return remove(&place, &counted, &client).unwrap();
    }
    remove_left_locks(&place).unwrap();
    make_or_find(&place, &base, &client).unwrap();
    let is_taken = || taken(&place, &base, &client).unwrap().iter().any(|taken| taken.head.step == Some(1));
    let agent = |script: &str| sh(&dir.join("home"), &place.dir, script);
    if !dir.join("1").exists() {
        put_aside_and_reset(&place, 1, &counted, &client).unwrap();
        agent(
            "echo edited > src/one.txt; mkdir src/deep; echo new > src/deep/new.txt; rm src/two.txt; touch ../../../1",
        );
    }
    if !is_taken() {
        let left = left(&place, &counted, &client).unwrap();
        take(&place, &base, ("edit", 1), &left.tree.id, &client).unwrap();
    }
    if !dir.join("2").exists() {
        agent("echo out > outside.txt; echo again > src/one.txt; git commit -q -a -m mine; touch ../../../2");
    }
    if !dir.join("3").exists() {
        put_aside_and_reset(&place, 2, &counted, &client).unwrap();
        sh(dir, dir, "touch 3");
    }
    sh(dir, dir, "touch ended");
    remove(&place, &counted, &client).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "each conductor is a process that is killed")]
fn a_kill_at_any_step_is_completed_and_nothing_is_taken_twice() {
    if let Some(dir) = std::env::var_os("ENGINE_TEST_CRASH") {
        let tear_at = std::env::var("ENGINE_TEST_STEP").unwrap().parse().ok();
        interfere(Interference { tear_at, ..Interference::default() });
        return conduct(Path::new(&dir));
    }
    let mut steps = 0u32;
    for step in 1.. {
        let bench = Bench::new();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME]).env("ENGINE_TEST_CRASH", bench.path());
        let ended = command.env("ENGINE_TEST_STEP", step.to_string()).output().unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(libc::SIGKILL);
        assert!(killed || ended.status.success(), "{step}: {}", String::from_utf8_lossy(&ended.stdout));
        conduct(&bench.path());
        is_as_without_a_crash(&bench, step);
        if !killed {
            break;
        }
        steps = step;
    }
    assert!(steps > 30, "only {steps} steps");
}

fn is_as_without_a_crash(bench: &Bench, step: u32) {
    assert_eq!(bench.user("git log --format=%s engine/r1/ws-a"), "ws-a: edit 01\nbase", "{step}");
    assert_eq!(
        bench.user("git show --format= --name-status engine/r1/ws-a"),
        "A\tsrc/deep/new.txt\nM\tsrc/one.txt\nD\tsrc/two.txt"
    );
    let [head, branch] = bench.heads();
    assert_eq!(head, branch, "{step}");
    assert_eq!(
        bench.user("git show refs/engine/r1/ws-a/02:outside.txt refs/engine/r1/ws-a/02:src/one.txt"),
        "out\nagain"
    );
    assert_eq!(
        bench.user(
            "git fsck --no-dangling 2>&1; find .git -name '*.lock'; ls .git/worktrees 2>/dev/null || true"
        ),
        ""
    );
    assert_eq!(bench.user("ls ../trees"), "", "{step}");
    bench.user_is_untouched();
}
