//! A workstream that is killed at each of its durable steps, and in the middle of each write.

use std::path::Path;

use super::super::aside::put_aside_and_reset;
use super::super::checkpoint::{take, taken};
use super::super::git::checkpoint;
use super::super::judge::left;
use super::super::tree::{make_or_find, remove, remove_left_locks};
use super::{Bench, client, counted, sh};
use crate::clock::Timestamp;
use crate::fs::steps::{Interference, interfere};
use crate::git::Repository;
use crate::job::run::INTEGRATION;
use crate::worktree::Place;
use crate::worktree::compose::{OfRun, Part};
use crate::worktree::integration::integrate;

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

/// A story that is killed.
struct Story {
    /// Does what is left of it, in the directory of a bench.
    go_on: fn(&Path),
    /// Checks its end.
    check: fn(&Bench, usize),
    /// It has more steps than this.
    steps: usize,
}

/// Kills a story at every second step, from this one, and has it completed by another process. Two tests share the steps.
#[expect(clippy::disallowed_methods, reason = "each conductor is a process that is killed")]
fn kill_from(first: usize, name: &str, fresh: &Bench, story: &Story) {
    if let Some(dir) = std::env::var_os("ENGINE_TEST_CRASH") {
        let tear_at = std::env::var("ENGINE_TEST_STEP").unwrap().parse().ok();
        interfere(Interference { tear_at, ..Interference::default() });
        return (story.go_on)(Path::new(&dir));
    }
    for step in (first..).step_by(2) {
        let bench = fresh.copied();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("worktree::tests::crashes::{name}")]);
        command.env("ENGINE_TEST_CRASH", bench.path()).env("ENGINE_TEST_STEP", step.to_string());
        let ended = command.output().unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(libc::SIGKILL);
        assert!(killed || ended.status.success(), "{step}: {}", String::from_utf8_lossy(&ended.stdout));
        (story.go_on)(&bench.path());
        (story.check)(&bench, step);
        if !killed {
            assert!(step > story.steps, "only {step} steps");
            return;
        }
    }
}

const CONDUCTOR: Story = Story { go_on: conduct, check: is_as_without_a_crash, steps: 30 };

#[test]
fn a_kill_at_an_odd_step_is_completed_and_nothing_is_taken_twice() {
    kill_from(1, "a_kill_at_an_odd_step_is_completed_and_nothing_is_taken_twice", &Bench::new(), &CONDUCTOR);
}

#[test]
fn a_kill_at_an_even_step_is_completed_and_nothing_is_taken_twice() {
    kill_from(2, "a_kill_at_an_even_step_is_completed_and_nothing_is_taken_twice", &Bench::new(), &CONDUCTOR);
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

/// An integration of the branches `w1` and `w2`, upon the one that an earlier life has made of `w1` alone.
fn integrate_again(dir: &Path) {
    let client = client(dir);
    let repository = Repository::find(&dir.join("repo"), &client).unwrap();
    let place = dir.join("trees/r1").join(INTEGRATION);
    let place = Place::new(repository.clone(), place, ("r1", INTEGRATION), true);
    let base = repository.head.unwrap();
    let heads = sh(&dir.join("home"), &place.repo, "git rev-parse w1 w2");
    let part = |(ws, head): (&str, &str)| Part {
        ws: ws.to_owned(),
        base: base.clone(),
        head: head.to_owned(),
        depends_on: Vec::new(),
    };
    let run = OfRun { run: "r1", made_at: Timestamp::from_millis(1_796_000_000_000) };
    let parts: Vec<Part> = ["w1", "w2"].into_iter().zip(heads.lines()).map(part).collect();
    for parts in [&parts[..1], &parts] {
        integrate(&place, run, (&base, parts), &client).unwrap();
    }
}

fn is_integrated(bench: &Bench, step: usize) {
    let seen = bench.user(
        "git log --format=%s --first-parent main..engine/r1/integration
         git rev-parse engine/r1/integration refs/engine/r1/integration/head | uniq | wc -l
         git ls-tree --name-only engine/r1/integration | grep f; git fsck --no-dangling 2>&1; find .git -name '*.lock'",
    );
    assert_eq!(seen, "merge w2\nw1\n1\nf1\nf2", "killed at step {step}");
    assert!(!bench.place.dir.with_file_name("integration.merge").exists(), "killed at step {step}");
    bench.user_is_untouched();
}

fn kill_integration_from(first: usize, name: &str) {
    let fresh = Bench::new();
    fresh.user(
        "for n in 1 2; do git checkout -q -b w$n main; echo $n > f$n; git add f$n; git commit -q -m w$n; done
         git checkout -q main",
    );
    let story = Story { go_on: integrate_again, check: is_integrated, steps: 10 };
    kill_from(first, name, &fresh, &story);
}

#[test]
fn an_integration_killed_at_an_odd_step_is_completed_and_its_branch_is_known() {
    kill_integration_from(1, "an_integration_killed_at_an_odd_step_is_completed_and_its_branch_is_known");
}

#[test]
fn an_integration_killed_at_an_even_step_is_completed_and_its_branch_is_known() {
    kill_integration_from(2, "an_integration_killed_at_an_even_step_is_completed_and_its_branch_is_known");
}
