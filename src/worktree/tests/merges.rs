//! Merges of two commits, of many heads, and the branch of the integration.

use std::path::{Path, PathBuf};

use super::{Bench, sh};
use crate::clock::Timestamp;
use crate::job::{Code, Reason};
use crate::worktree::compose::{OfRun, Part, compose, merge_parts};
use crate::worktree::integration::{INTEGRATION, Integrated, integrate};
use crate::worktree::merge::{Conflict, ConflictKind, Merge, Merging};
use crate::worktree::{Place, heads};

/// The run of the tests.
fn of_run() -> OfRun<'static> {
    OfRun { run: "r1", made_at: Timestamp::parse("2026-12-01T01:02:03.456Z").unwrap() }
}

impl Bench {
    /// A commit that a script makes upon another one, on no branch.
    fn commit(&self, upon: &str, script: &str) -> String {
        self.user(&format!(
            "rm -rf ../side; git worktree prune; git worktree add -q --detach ../side {upon}; cd ../side
             {script}
             git add -A; git commit -q --allow-empty -m x; git rev-parse HEAD; cd ../repo; git worktree remove --force ../side"
        ))
    }

    fn merge(&self, ours: &str, theirs: &str) -> Merge {
        self.try_merge(ours, theirs).unwrap()
    }

    fn try_merge(&self, ours: &str, theirs: &str) -> Result<Merge, Reason> {
        let client = self.client();
        let repo = self.place.repository(&client);
        let merged = Merging::open(&repo, ours)?.merge(ours, theirs);
        assert!(!repo.scratch.exists());
        merged
    }

    /// The tree of a clean merge.
    #[track_caller]
    fn merged(&self, ours: &str, theirs: &str) -> String {
        match self.merge(ours, theirs) {
            Merge::Clean(tree) => tree,
            Merge::Conflicts(conflicts) => panic!("{conflicts:?}"),
        }
    }

    /// The kinds and first paths of the conflicts of a merge.
    #[track_caller]
    fn conflicts(&self, ours: &str, theirs: &str) -> Vec<(ConflictKind, String)> {
        let Merge::Conflicts(conflicts) = self.merge(ours, theirs) else { panic!("a clean merge") };
        let first =
            |conflict: &Conflict| conflict.paths.first().map_or("", |path| path.to_str().unwrap()).to_owned();
        conflicts.iter().map(|conflict| (conflict.kind, first(conflict))).collect()
    }

    fn file(&self, tree: &str, path: &str) -> String {
        self.user(&format!("git show {tree}:{path}"))
    }

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
fn changes_of_different_files_merge_and_nothing_else_is_touched() {
    let bench = Bench::new();
    let (one, two) =
        (bench.commit("main", "echo 1 >> src/one.txt"), bench.commit("main", "echo 2 >> src/two.txt"));
    let state = "git status --porcelain; git for-each-ref; ls -A . .git";
    bench.user("echo mine > src/one.txt; echo new > untracked");
    let before = bench.user(state);
    let tree = bench.merged(&one, &two);
    assert_eq!(bench.file(&tree, "src/one.txt"), "one\n1");
    assert_eq!(bench.file(&tree, "src/two.txt"), "two\n2");
    assert_eq!(bench.user(state), before);
    assert_eq!(bench.merged(&two, &one), tree);
}

#[test]
fn conflicts_are_named_by_kind_and_path() {
    use ConflictKind::{Content, Delete, Other, Rename};
    let bench = Bench::new();
    let base = bench.commit(
        "main",
        "seq 20 > n; seq 30 60 > m; mkdir dir; seq 9 > dir/a; seq 8 > dir/b; printf 'a\\0b' > bin",
    );
    for (ours, theirs, want) in [
        ("sed -i s/^5$/x/ n", "sed -i s/^5$/y/ n", vec![(Content, "n")]),
        ("echo 1 > new", "echo 2 > new", vec![(Content, "new")]),
        ("printf 'a\\0c' > bin", "printf 'a\\0d' > bin", vec![(Content, "bin")]),
        ("git rm -q n", "echo 1 >> n", vec![(Delete, "n")]),
        ("echo 1 >> n", "git rm -q n", vec![(Delete, "n")]),
        ("git mv n one", "git mv n two", vec![(Rename, "n")]),
        ("git mv n one", "git rm -q n", vec![(Rename, "one")]),
        ("git mv dir moved", "echo 1 > dir/new", vec![(Rename, "moved/new")]),
        ("rm n; mkdir n; echo 1 > n/file", "echo 1 >> n", vec![(Other, "n")]),
        ("rm n; ln -s m n", "rm n; mkdir n; echo 1 > n/x; echo 2 >> m", vec![(Other, "n")]),
        ("rm n; ln -s m n", "rm n; ln -s bin n", vec![(Content, "n")]),
        (
            "sed -i s/^5$/x/ n; echo 1 >> m",
            "sed -i s/^5$/y/ n; git rm -q m",
            vec![(Delete, "m"), (Content, "n")],
        ),
    ] {
        let (one, two) = (bench.commit(&base, ours), bench.commit(&base, theirs));
        let want: Vec<_> = want.into_iter().map(|(kind, path)| (kind, path.to_owned())).collect();
        assert_eq!(bench.conflicts(&one, &two), want, "{ours} / {theirs}");
    }
}

#[test]
fn renames_modes_and_directories_merge_where_they_can() {
    let bench = Bench::new();
    let base = bench.commit("main", "seq 20 > n; seq 40 > f");
    for (ours, theirs, path, want) in [
        ("git mv n renamed", "sed -i s/^5$/y/ n", "renamed", "1\n2\n3\n4\ny\n6"),
        ("chmod +x n", "sed -i s/^5$/y/ n", "n", "1\n2\n3\n4\ny\n6"),
        // A file that becomes a directory, where the other side has nothing to do with it.
        ("git rm -q f; mkdir f; echo 1 > f/x", "sed -i s/^5$/y/ n", "f/x", "1"),
    ] {
        let (one, two) = (bench.commit(&base, ours), bench.commit(&base, theirs));
        let tree = bench.merged(&one, &two);
        assert!(bench.file(&tree, path).starts_with(want), "{ours} / {theirs}");
        assert_eq!(bench.merged(&two, &one), tree, "{ours} / {theirs}");
    }
}

#[test]
fn names_are_bytes() {
    let bench = Bench::new();
    let base = bench.commit("main", "mkdir 'a b'; seq 9 > \"$(printf 'a b/\\377\\n\\t~x')\"");
    let change = |text: &str| format!("for file in 'a b'/*; do sed -i s/^5$/{text}/ \"$file\"; done");
    let (one, two) = (bench.commit(&base, &change("x")), bench.commit(&base, &change("y")));
    let Merge::Conflicts(conflicts) = bench.merge(&one, &two) else { panic!("a clean merge") };
    let want = PathBuf::from(std::ffi::OsString::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a b/\xff\n\t~x"),
    ));
    assert_eq!(conflicts, [Conflict { paths: vec![want], kind: ConflictKind::Content }]);
}

#[test]
fn histories_without_a_common_commit_do_not_merge() {
    let bench = Bench::new();
    let other = bench.user(
        "git checkout -q --orphan other; git commit -q -m other; git rev-parse HEAD; git checkout -q main",
    );
    let Merge::Conflicts(conflicts) = bench.merge(&bench.base, &other) else { panic!("a clean merge") };
    assert_eq!(conflicts, [Conflict { paths: Vec::new(), kind: ConflictKind::Other }]);
}

#[test]
fn criss_cross_merges_merge() {
    let bench = Bench::new();
    let base = bench.commit("main", "seq 20 > n");
    let one = bench.commit(&base, "sed -i s/^5$/five/ n");
    let two = bench.commit(&base, "sed -i s/^15$/fifteen/ n");
    let join = |upon: &str, other: &str| {
        bench.commit(upon, &format!("git merge -q --no-ff -m x {other} > /dev/null"))
    };
    let (left, right) = (join(&one, &two), join(&two, &one));
    let left = bench.commit(&left, "sed -i s/^1$/one/ n");
    let right = bench.commit(&right, "sed -i s/^20$/twenty/ n");
    let text = bench.file(&bench.merged(&left, &right), "n");
    for word in ["one", "five", "fifteen", "twenty"] {
        assert!(text.lines().any(|line| line == word), "{text}");
    }
}

#[test]
fn a_submodule_that_both_sides_moved_is_a_conflict_and_one_that_one_side_moved_is_none() {
    let bench = Bench::new();
    let entry = |commit: &str| {
        format!(
            "git update-index --add --cacheinfo 160000,{commit},sub; git commit -q -m sub; git rev-parse HEAD; exit 0"
        )
    };
    let head = |n: u32| format!("{n:040}");
    let base = bench.commit("main", &entry(&head(1)));
    let (one, two) = (bench.commit(&base, &entry(&head(2))), bench.commit(&base, &entry(&head(3))));
    let other = bench.commit(
        &base,
        "mkdir -p sub; echo 1 >> src/one.txt; git add src; git commit -q -m x; git rev-parse HEAD; exit 0",
    );
    assert_eq!(bench.conflicts(&one, &two), [(ConflictKind::Other, "sub".to_owned())]);
    assert_eq!(bench.user(&format!("git rev-parse {}:sub", bench.merged(&one, &other))), head(2));
}

#[test]
fn the_commits_decide_and_not_what_the_user_has_in_the_checkout_or_the_settings() {
    let bench = Bench::new();
    let base =
        bench.commit("main", "printf 'u* merge=union\\n' > .gitattributes; seq 9 > united; seq 9 > plain");
    let change = |text: &str| format!("sed -i s/^5$/{text}/ united");
    let (one, two) = (bench.commit(&base, &change("x")), bench.commit(&base, &change("y")));
    let tree = bench.merged(&one, &two);
    assert_eq!(bench.file(&tree, "united"), "1\n2\n3\n4\nx\ny\n6\n7\n8\n9");
    // The checkout has no such attribute, and another one that would let the rest merge too.
    bench.user("printf 'plain merge=union\\nunited -merge\\n' > .gitattributes");
    assert_eq!(bench.merged(&one, &two), tree);
    let change = |text: &str| format!("sed -i s/^5$/{text}/ plain");
    let (one, two) = (bench.commit(&base, &change("x")), bench.commit(&base, &change("y")));
    assert_eq!(bench.conflicts(&one, &two), [(ConflictKind::Content, "plain".to_owned())]);
    // Nor do settings that would find other renames.
    let (one, two) =
        (bench.commit(&base, "git mv plain moved"), bench.commit(&base, "sed -i s/^5$/y/ plain"));
    let tree = bench.merged(&one, &two);
    bench.user("git config merge.renames false; git config merge.directoryRenames true; git config merge.renameLimit 1");
    assert_eq!(bench.merged(&one, &two), tree);
}

#[test]
fn line_breaks_and_filters_are_left_as_the_commits_have_them() {
    let bench = Bench::new();
    let note = bench.path().join("filtered");
    bench.user(&format!(
        "git config core.autocrlf true; git config filter.lfs.clean 'sed s/plain/POINTER/; echo >> {0}'
         git config filter.lfs.smudge 'sed s/POINTER/plain/; echo >> {0}'",
        note.display()
    ));
    let base = bench.commit("main", "printf '*.big filter=lfs merge=lfs -text\\n*.txt text\\n' > .gitattributes; echo plain > a.big; printf '1\\r\\n2\\r\\n3\\r\\n4\\r\\n5\\r\\n' > crlf.txt");
    assert_eq!(bench.file(&base, "a.big"), "POINTER");
    let one = bench.commit(&base, "printf '1\\n2\\n3\\n4\\nfive\\n' > crlf.txt");
    let two =
        bench.commit(&base, "printf 'one\\r\\n2\\r\\n3\\r\\n4\\r\\n5\\r\\n' > crlf.txt; echo plain2 > b.big");
    let filtered = || std::fs::read_to_string(&note).unwrap();
    let before = filtered();
    let tree = bench.merged(&one, &two);
    assert_eq!(filtered(), before, "a filter ran");
    assert_eq!(bench.file(&tree, "crlf.txt"), "one\n2\n3\n4\nfive");
    assert_eq!(bench.file(&tree, "b.big"), "POINTER2");
    // Pointers of one file do not merge.
    let (one, two) = (bench.commit(&base, "echo plain3 > a.big"), bench.commit(&base, "echo plain4 > a.big"));
    assert_eq!(bench.conflicts(&one, &two), [(ConflictKind::Content, "a.big".to_owned())]);
}

#[test]
fn a_driver_for_merges_of_the_user_takes_part_and_leaves_no_file_in_the_checkout() {
    let bench = Bench::new();
    let note = bench.path().join("where");
    bench.user(&format!(
        "git config merge.both.driver 'pwd > {}; ls -A >> {}; cat %A %B > joined; mv joined %A'",
        note.display(),
        note.display()
    ));
    let base =
        bench.commit("main", "printf 'joined.txt merge=both\\n' > .gitattributes; echo 0 > joined.txt");
    let (one, two) = (bench.commit(&base, "echo 1 > joined.txt"), bench.commit(&base, "echo 2 > joined.txt"));
    assert_eq!(bench.file(&bench.merged(&one, &two), "joined.txt"), "1\n2");
    let told = std::fs::read_to_string(note).unwrap();
    let scratch = Path::new(told.lines().next().unwrap());
    assert!(!scratch.starts_with(&bench.place.repo) && !scratch.exists(), "{told}");
    assert!(told.contains(".merge_file_"), "{told}");
}

#[test]
fn a_repository_of_fifty_thousand_files_merges() {
    let bench = Bench::new();
    // Written by git itself: 50,000 files on the disk would take the time of the whole suite.
    let script = "(blob=$(echo 1 | git hash-object -w --stdin); awk -v blob=$blob 'BEGIN { for (i = 0; i < 50000; i++) \
                  printf \"100644 %s\\tdir%d/sub%d/file%d\\n\", blob, i % 50, i % 500, i }' | git update-index --index-info)
                  git commit -q -m many; git rev-parse HEAD; git reset -q --hard HEAD~1";
    let base = bench.user(script);
    let upon = |path: &str| {
        bench.user(&format!(
            "export GIT_INDEX_FILE=../index; rm -f ../index; git read-tree {base}
             git update-index --add --cacheinfo 100644,$(echo {path} | git hash-object -w --stdin),{path}
             git commit-tree -p {base} -m x $(git write-tree)"
        ))
    };
    let (one, two) = (upon("dir1/sub1/file1"), upon("dir2/sub2/file2"));
    let tree = bench.merged(&one, &two);
    assert_eq!(bench.file(&tree, "dir2/sub2/file2"), "dir2/sub2/file2");
    assert_eq!(bench.user(&format!("git ls-tree -r {tree} | wc -l")), (50_000 + 6).to_string());
}

#[test]
fn what_git_does_not_say_is_no_merge() {
    let bench = Bench::new();
    let refused = bench.try_merge(&bench.base, &"1".repeat(40)).unwrap_err();
    assert_eq!(refused.code, Code::GitFailed, "{refused:?}");
    assert!(refused.message.contains("merge-tree"), "{}", refused.message);
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
         let one of them depend on the other"
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
    // Where nothing has to move it is in nobody's way.
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
        "mkdir {0}; printf '#!/bin/sh\necho \"$@\" >> {1}\nexec %s \"$@\"\n' $(command -v git) > {0}/git; chmod +x {0}/git",
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
