//! Many heads merged upon a base, and the branch of the integration.

use std::path::PathBuf;

use super::{Bench, sh};
use crate::clock::Timestamp;
use crate::job::run::INTEGRATION;
use crate::job::{Code, Reason};
use crate::worktree::compose::{OfRun, Part, compose, merge_parts};
use crate::worktree::integration::{Integrated, integrate};
use crate::worktree::merge::ConflictKind;
use crate::worktree::{Place, heads};

/// The run of the tests.
fn of_run() -> OfRun<'static> {
    OfRun { run: "r1", made_at: Timestamp::parse("2026-12-01T01:02:03.456Z").unwrap() }
}

impl Bench {
    fn part(&self, ws: &str, base: &str, script: &str) -> Part {
        let head = self.commit(base, script);
        Part { ws: ws.to_owned(), base: base.to_owned(), head, depends_on: Vec::new() }
    }

    fn integration(&self) -> Place {
        let dir = self.place.dir.with_file_name(INTEGRATION);
        Place { ws: INTEGRATION.to_owned(), dir, ..self.place.clone() }
    }

    fn integrate(&self, parts: &[Part]) -> Result<Integrated, Reason> {
        integrate(&self.integration(), of_run(), (&self.base, parts), &self.client())
    }

    fn compose(&self, parts: &[Part]) -> Result<String, Reason> {
        compose(&self.place.repository(&self.client()), of_run(), &self.base, parts)
    }
}

#[test]
fn a_base_is_composed_in_plan_order_and_is_the_same_each_time() {
    let bench = Bench::new();
    let base = bench.base.clone();
    assert_eq!(bench.compose(&[]).unwrap(), base);
    let a = bench.part("ws-a", &base, "echo a >> src/one.txt");
    let unchanged = Part { ws: "ws-none".into(), head: base.clone(), ..a.clone() };
    // One head needs no commit of the engine.
    assert_eq!(bench.compose(&[unchanged.clone(), a.clone()]).unwrap(), a.head);
    let b = bench.part("ws-b", &base, "echo b >> src/two.txt");
    let c = bench.part("ws-c", &a.head, "echo c >> src/one.txt");
    let all = [a.clone(), b.clone(), c.clone(), unchanged];
    let composed = bench.compose(&all).unwrap();
    let subjects = |commit: &str| {
        bench.user(&format!("git log --first-parent --format='%s %an %ae %ad' --date=iso {commit} -2"))
    };
    let by = "engine engine@localhost 2026-12-01 01:02:03 +0000";
    assert!(
        subjects(&composed).starts_with(&format!("merge ws-c {by}\nmerge ws-b {by}")),
        "{}",
        subjects(&composed)
    );
    // Whoever asks, and whenever.
    bench.user("git config user.name Eve; git config user.email eve@localhost; git config i18n.commitEncoding latin1");
    assert_eq!(bench.compose(&all).unwrap(), composed);
    let other = bench.copied();
    assert_eq!(other.compose(&all).unwrap(), composed);
    // What was built on it needs no second merge.
    let d = bench.part("ws-d", &composed, "echo d > d");
    assert_eq!(bench.compose(&[a.clone(), b.clone(), c, d.clone()]).unwrap(), d.head);
    // In another order the same tree.
    let turned = bench.compose(&[b, a]).unwrap();
    assert_eq!(bench.file(&turned, "src/two.txt"), "two\nb");
    assert_eq!(bench.user("git fsck --no-dangling --strict"), "");
}

#[test]
fn predecessors_that_do_not_merge_are_both_named_with_the_paths() {
    let bench = Bench::new();
    let part = |ws: &str, script: &str| bench.part(ws, &bench.base, script);
    let a = part("ws-a", "echo a > src/one.txt; echo a > src/two.txt");
    let b = part("ws-b", "echo b > b");
    let c = part("ws-c", "echo c > src/one.txt; git rm -q src/two.txt");
    let refused = bench.compose(&[a, b, c]).unwrap_err();
    assert_eq!(refused.code, Code::BaseConflict);
    assert_eq!(
        refused.message,
        "`ws-a` and `ws-c` do not merge with each other: src/one.txt (content), src/two.txt (delete); \
         merge them by hand: git switch engine/r1/ws-c && git merge engine/r1/ws-a, resolve, commit, go back to your branch, and resume"
    );
}

#[test]
fn a_run_is_integrated_and_what_conflicts_is_left_out_with_what_needs_it() {
    let bench = Bench::new();
    let base = bench.base.clone();
    let a = bench.part("ws-a", &base, "echo a > src/one.txt");
    let b = bench.part("ws-b", &base, "echo b > b; echo b > src/two.txt");
    let c = bench.part("ws-c", &base, "echo c > src/one.txt; echo c > c");
    // On c: by its commits alone, and by its word alone.
    let built = bench.part("ws-d", &c.head, "echo d > d");
    let needs = Part { depends_on: vec!["ws-c".into()], ..bench.part("ws-e", &base, "echo e > e") };
    let needs_that = Part { depends_on: vec!["ws-e".into()], ..bench.part("ws-f", &base, "echo f > f") };
    let free = bench.part("ws-g", &base, "echo g > g");
    let parts = [a, b, c, built, needs, needs_that, free];
    let done = bench.integrate(&parts).unwrap();
    assert_eq!(done.merged, ["ws-a", "ws-b", "ws-g"]);
    assert_eq!(done.skipped, ["ws-d", "ws-e", "ws-f"]);
    assert_eq!(
        serde_json::to_value(&done.conflicts).unwrap(),
        serde_json::json!([{"ws_id": "ws-c", "with": "ws-a", "type": "content", "path": "src/one.txt"}])
    );
    assert_eq!(bench.user("git rev-parse engine/r1/integration"), done.commit);
    assert_eq!(bench.user("git ls-tree --name-only engine/r1/integration").lines().last(), Some("src"));
    assert_eq!(bench.file(&done.commit, "g"), "g");
    // A second time nothing moves, and anew it is the same.
    let refs = bench.user("git for-each-ref refs/engine refs/heads/engine");
    assert_eq!(bench.integrate(&parts).unwrap(), done);
    assert_eq!(bench.user("git for-each-ref refs/engine refs/heads/engine"), refs);
    bench.user("git update-ref -d refs/heads/engine/r1/integration");
    assert_eq!(bench.integrate(&parts).unwrap(), done);
    assert_eq!(bench.user("git for-each-ref refs/engine refs/heads/engine"), refs);
    // With more it is built from the base again.
    let fewer = bench.integrate(&parts[1..]).unwrap();
    assert_eq!(fewer.merged, ["ws-b", "ws-c", "ws-d", "ws-e", "ws-f", "ws-g"]);
    assert_eq!(bench.user("git rev-parse engine/r1/integration"), fewer.commit);
    assert_eq!(bench.user("git fsck --no-dangling --strict"), "");
}

#[test]
fn the_earlier_workstream_of_a_conflict_is_found_by_what_it_changed() {
    let bench = Bench::new();
    let base = bench.commit("main", "mkdir dir; seq 9 > dir/a; seq 20 > n");
    let bench = Bench { base: base.clone(), ..bench };
    let other = bench.part("ws-a", &base, "echo 1 > other");
    let moved = bench.part("ws-b", &base, "git mv dir moved");
    let new = bench.part("ws-c", &base, "echo 1 > dir/new");
    let first = bench.part("ws-d", &base, "sed -i s/^5$/x/ n");
    let second = bench.part("ws-e", &first.head, "sed -i s/^x$/xx/ n");
    let third = bench.part("ws-f", &base, "sed -i s/^5$/y/ n");
    let done = bench.integrate(&[other, moved, new, first, second, third]).unwrap();
    let told: Vec<_> =
        done.conflicts.iter().map(|one| (&*one.ws_id, one.with.as_deref(), one.kind)).collect();
    assert_eq!(
        told,
        [("ws-c", Some("ws-b"), ConflictKind::Rename), ("ws-f", Some("ws-e"), ConflictKind::Content)]
    );
}

#[test]
fn a_branch_that_a_person_committed_to_or_has_checked_out_stays() {
    let bench = Bench::new();
    let a = bench.part("ws-a", &bench.base, "echo a > a");
    let b = bench.part("ws-b", &bench.base, "echo b > b");
    let done = bench.integrate(std::slice::from_ref(&a)).unwrap();
    let all = [a.clone(), b.clone()];
    let refs = "git for-each-ref refs/engine refs/heads/engine";

    bench.user("git checkout -q engine/r1/integration");
    let before = bench.user(refs);
    // Where nothing has to move, it blocks nothing.
    assert_eq!(bench.integrate(std::slice::from_ref(&a)).unwrap(), done);
    let refused = bench.integrate(&all).unwrap_err();
    assert_eq!(refused.code, Code::BranchInUse, "{}", refused.message);
    assert!(refused.message.contains("`engine/r1/integration`"), "{}", refused.message);
    assert_eq!(bench.user(refs), before);

    bench.user("git commit -q --allow-empty -m mine; git checkout -q main");
    let before = bench.user(refs);
    let refused = bench.integrate(&all).unwrap_err();
    assert_eq!(refused.code, Code::IntegrationMoved, "{}", refused.message);
    assert_eq!(bench.user(refs), before);

    // The way out that it names.
    bench.user("git branch -m engine/r1/integration mine");
    assert_eq!(bench.integrate(&all).unwrap().merged, ["ws-a", "ws-b"]);
    // One that a person moves to a commit of the engine is moved as well.
    bench.user(&format!("git branch -f engine/r1/integration {}", b.head));
    assert_eq!(bench.integrate(&all).unwrap_err().code, Code::IntegrationMoved);
}

#[test]
fn a_work_tree_of_the_integration_follows_by_a_reset() {
    let bench = Bench::new();
    let place = bench.integration();
    let counted = super::counted(&place, &["."]);
    let a = bench.part("ws-a", &bench.base, "echo a > a");
    bench.integrate(std::slice::from_ref(&a)).unwrap();
    crate::worktree::make_or_find(&place, &bench.base, &bench.client()).unwrap();
    assert!(place.dir.join("a").exists());
    let b = bench.part("ws-b", &bench.base, "echo b > b");
    let done = bench.integrate(&[a, b]).unwrap();
    crate::worktree::put_aside_and_reset(&place, 1, &counted, None, &bench.client()).unwrap();
    assert!(place.dir.join("b").exists());
    assert_eq!(sh(&bench.path(), &place.dir, "git status --porcelain; git rev-parse HEAD"), done.commit);
    let found = heads(&place, &bench.client()).unwrap();
    assert_eq!(found.head.unwrap().commit, done.commit);
}

/// A git that notes its calls.
fn noting(bench: &Bench) -> (crate::git::Client, PathBuf) {
    let (dir, note) = (bench.path().join("bin"), bench.path().join("calls"));
    let script = format!(
        "mkdir {0}; printf '#!/bin/sh\necho \"$@\" >> {1}\nexec %s \"$@\"\n' $(command -v git) > {0}/git; chmod +x {0}/*",
        dir.display(),
        note.display()
    );
    sh(&bench.path(), &bench.path(), &script);
    let client = bench.client();
    let program = crate::git::Program::find(
        Some(dir.as_os_str()),
        Some(bench.path().join("home").into()),
        &bench.place.repo,
    )
    .unwrap();
    (crate::git::Client { program, ..client }, note)
}

#[test]
fn each_workstream_costs_one_merge_and_one_commit() {
    let bench = Bench::new();
    let part = |n: u32| bench.part(&format!("ws-{n}"), &bench.base, &format!("echo > f{n}"));
    let parts: Vec<Part> = (0..6).map(part).collect();
    let (client, note) = noting(&bench);
    let merged = merge_parts(&bench.place.repository(&client), of_run(), &bench.base, &parts).unwrap();
    assert_eq!(merged.merged.len(), 6);
    let calls = std::fs::read_to_string(note).unwrap();
    let count = |verb: &str| calls.lines().filter(|call| call.split(' ').any(|word| word == verb)).count();
    // The first is a fast-forward; before it a list of commits and one of attributes, at the end one of objects.
    assert_eq!([count("merge-tree"), count("commit-tree"), count("rev-list")], [5, 5, 2], "{calls}");
    assert_eq!(calls.lines().count(), 13, "{calls}");
}
