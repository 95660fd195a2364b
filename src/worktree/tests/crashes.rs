//! A workstream that is killed at each of its durable steps, and in the middle of each write.

use std::path::Path;

use super::super::aside::put_aside_and_reset;
use super::super::checkpoint::{take, taken};
use super::super::git::checkpoint;
use super::super::judge::left;
use super::super::tree::{make_or_find, remove, remove_left_locks};
use super::{Bench, client, counted, sh};
use crate::fs::steps::{Interference, interfere};
use crate::git::Repository;
use crate::worktree::Place;

/// A conductor of three steps: an edit that is taken, one that is put aside, and the end. What it has done is in files, as in the
/// records of steps; it can be run again at any time.
fn conduct(dir: &Path) {
    let client = client(dir);
    let repository = Repository::find(&dir.join("repo"), &client).unwrap();
    let place = Place::new(repository.clone(), dir.join("trees/r1/ws-a"), ("r1", "ws-a"), false);
    let base = repository.head.unwrap();
    let counted = counted(&place, &["src"]);
    if dir.join("ended").exists() {
        return remove(&place, &counted, &client).unwrap();
    }
    remove_left_locks(&place).unwrap();
    make_or_find(&place, &base, &client).unwrap();
    let is_taken = || {
        taken(&place, (&base, &place.head_ref()), &client)
            .unwrap()
            .iter()
            .any(|taken| taken.head.step == Some(1))
    };
    let agent = |script: &str| sh(&dir.join("home"), &place.dir, script);
    if !dir.join("1").exists() {
        put_aside_and_reset(&place, 1, &counted, None, &client).unwrap();
        agent(
            "echo edited > src/one.txt; mkdir src/deep; echo new > src/deep/new.txt; rm src/two.txt; touch ../../../1",
        );
    }
    if !is_taken() {
        let head = checkpoint(&place, &client).unwrap();
        let left = left(&place, &head, &counted, &client).unwrap();
        take(&place, &base, ("edit", 1), &left.tree.id, &client).unwrap();
    }
    if !dir.join("2").exists() {
        agent("echo out > outside.txt; echo again > src/one.txt; git commit -q -a -m mine; touch ../../../2");
    }
    if !dir.join("3").exists() {
        put_aside_and_reset(&place, 2, &counted, None, &client).unwrap();
        sh(dir, dir, "touch 3");
    }
    sh(dir, dir, "touch ended");
    remove(&place, &counted, &client).unwrap();
}

/// Kills a conductor at every second step, from this one, and lets another one complete its work. Two tests share the steps.
#[expect(clippy::disallowed_methods, reason = "each conductor is a process that is killed")]
fn kill_from(first: usize, name: &str) {
    if let Some(dir) = std::env::var_os("ENGINE_TEST_CRASH") {
        let tear_at = std::env::var("ENGINE_TEST_STEP").unwrap().parse().ok();
        interfere(Interference { tear_at, ..Interference::default() });
        return conduct(Path::new(&dir));
    }
    let fresh = Bench::new();
    for step in (first..).step_by(2) {
        let bench = fresh.copied();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("worktree::tests::crashes::{name}")]);
        command.env("ENGINE_TEST_CRASH", bench.path()).env("ENGINE_TEST_STEP", step.to_string());
        let ended = command.output().unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(libc::SIGKILL);
        assert!(killed || ended.status.success(), "{step}: {}", String::from_utf8_lossy(&ended.stdout));
        conduct(&bench.path());
        is_as_without_a_crash(&bench, step);
        if !killed {
            assert!(step > 30, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_kill_at_an_odd_step_is_completed_and_nothing_is_taken_twice() {
    kill_from(1, "a_kill_at_an_odd_step_is_completed_and_nothing_is_taken_twice");
}

#[test]
fn a_kill_at_an_even_step_is_completed_and_nothing_is_taken_twice() {
    kill_from(2, "a_kill_at_an_even_step_is_completed_and_nothing_is_taken_twice");
}

fn is_as_without_a_crash(bench: &Bench, step: usize) {
    let seen = bench.user(
        "branch=engine/r1/ws-a; git log --format=%s $branch; git show --format= --name-status $branch
         git show refs/$branch/02:outside.txt refs/$branch/02:src/one.txt
         git fsck --no-dangling 2>&1; find .git -name '*.lock'; ls ../trees; ls .git/worktrees 2>/dev/null || true",
    );
    let want = "ws-a: edit 01\nbase\nA\tsrc/deep/new.txt\nM\tsrc/one.txt\nD\tsrc/two.txt\nout\nagain";
    assert_eq!(seen, want, "killed at step {step}");
    let [head, branch] = bench.heads();
    assert_eq!(head, branch, "killed at step {step}");
    bench.user_is_untouched();
}
