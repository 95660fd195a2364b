//! Merges of two commits.

use std::path::{Path, PathBuf};

use super::Bench;
use crate::job::{Code, Reason};
use crate::worktree::merge::{Conflict, ConflictKind, Merge, Merging};

impl Bench {
    /// A commit that a script makes upon another one, on no branch.
    pub(super) fn commit(&self, upon: &str, script: &str) -> String {
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

    pub(super) fn file(&self, tree: &str, path: &str) -> String {
        self.user(&format!("git show {tree}:{path}"))
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
