//! Checkpoints and the way back to them.

use super::super::changes::{Stat, changes, patch};
use super::super::checkpoint::{after_check, put_back, put_back_head, reset, take, taken};
use super::super::content::tree_now;
use super::super::hand::hand;
use super::{Bench, counted};
use crate::worktree::tree::Found;

#[test]
fn a_step_is_taken_once_with_its_trailers_and_the_author_of_the_user() {
    let bench = Bench::made();
    bench.agent(
        "echo fixed > src/calc.py; echo junk > x.pyc; echo c > .aider.chat; mkdir build; echo o > build/o",
    );
    let tree = bench.tree();
    let commit = bench.take("edit", 1);
    assert_eq!(
        bench.agent("git log -1 --format='%an <%ae>|%cn|%s|%T'"),
        format!("Ada <ada@example.com>|Ada|ws-a: edit 01|{tree}")
    );
    let trailers = "Engine-Run: r1\nEngine-Job: r1.ws-a\nEngine-Step: ws-a/01";
    assert_eq!(bench.agent("git log -1 --format='%(trailers)'"), trailers);
    assert_eq!(bench.agent("git show --format= --name-only HEAD"), "src/calc.py");
    assert_eq!(bench.agent("git status --porcelain"), "?? .aider.chat\n?? x.pyc");
    // Again, after more changes: it is taken, and they are not.
    bench.agent("echo more > src/more.txt");
    assert_eq!(take(&bench.place, &bench.base, ("edit", 1), &tree, &bench.client()).unwrap(), commit);
    let seen = taken(&bench.place, (&bench.base, &bench.place.head_ref()), &bench.client()).unwrap();
    let seen: Vec<_> =
        seen.iter().map(|taken| (taken.head.step, &*taken.kind, &*taken.head.commit)).collect();
    assert_eq!(seen, [(Some(1), "edit", &*commit)]);
    let second = bench.take("fix", 3);
    assert_eq!(super::heads(&bench.place, &bench.client()).unwrap().head.unwrap().step, Some(3));
    let seen = taken(&bench.place, (&bench.base, &bench.place.head_ref()), &bench.client()).unwrap();
    let seen: Vec<_> =
        seen.iter().map(|taken| (taken.head.step, &*taken.kind, &*taken.head.commit)).collect();
    assert_eq!(seen, [(Some(1), "edit", &*commit), (Some(3), "fix", &*second)]);
    bench.user_is_untouched();
}

#[test]
fn without_a_name_of_the_user_the_engine_is_the_author() {
    let bench = Bench::with("user.signingkey=none commit.gpgsign=true core.autocrlf=false", false);
    bench.find();
    bench.agent("echo fixed > src/calc.py");
    bench.take("edit", 1);
    assert_eq!(
        bench.agent("git log -1 --format='%an <%ae>|%cn <%ce>'"),
        "engine <engine@localhost>|engine <engine@localhost>"
    );
    bench.is_clean();
}

#[test]
fn a_crash_after_the_reference_moved_is_completed_by_the_next_take() {
    let bench = Bench::made();
    bench.agent("echo fixed > src/calc.py");
    let tree = bench.tree();
    let commit = bench.take("edit", 1);
    // As if it had been killed before the branch, HEAD and the index followed; and the index of the engine was lost.
    bench.user(&format!("git update-ref refs/heads/engine/r1/ws-a {}", bench.base));
    bench.user(&format!("rm .git/worktrees/ws-a/index {}.index", bench.place.dir.display()));
    assert_eq!(take(&bench.place, &bench.base, ("edit", 1), &tree, &bench.client()).unwrap(), commit);
    bench.is_clean();
    // A torn index, as a power loss leaves it.
    bench.user(&format!(": > {}.index", bench.place.dir.display()));
    assert_eq!(bench.tree(), tree);
}

#[test]
fn the_tree_has_what_filters_make_of_files_and_no_setting_of_line_breaks_stops_it() {
    let bench =
        Bench::with("core.autocrlf=true core.safecrlf=true filter.up.clean=rev filter.up.smudge=rev", true);
    bench.user("echo '*.up filter=up -text' > .gitattributes; git -c core.safecrlf=false add -A; git -c user.name=a -c user.email=b commit -q -m attributes");
    let base = bench.user("git rev-parse HEAD");
    let bench = Bench { base, ..bench };
    bench.find();
    bench.agent("echo abc > src/x.up; printf 'mixed\\r\\nends\\n' > src/mixed.txt");
    let tree = bench.tree();
    assert_eq!(bench.user(&format!("git cat-file blob {tree}:src/x.up")), "cba");
    assert_eq!(
        bench.user(&format!("git cat-file blob {tree}:src/mixed.txt | od -c | grep -c '.r' || true")),
        "0"
    );
    bench.take("edit", 1);
    bench.agent("rm src/x.up");
    reset(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    assert_eq!(bench.agent("cat src/x.up"), "abc");
}

#[test]
fn a_file_that_the_scope_names_counts_although_git_ignores_it() {
    let bench = Bench::made();
    bench.agent("echo g > literal.gen; mkdir -p build/deep; echo b > build/deep/b.py; echo c > build/c.py");
    let counted = counted(&bench.place, &["src", "literal.gen", "build/deep/b.py"]);
    let tree = tree_now(&bench.place, &counted, &bench.client()).unwrap();
    let seen = changes(&bench.place, (&bench.base, &tree.id), &bench.client()).unwrap();
    let paths: Vec<_> = seen.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["build/deep/b.py", "literal.gen"]);
    reset(&bench.place, &counted, &bench.client()).unwrap();
    assert_eq!(bench.agent("ls literal.gen build/deep build 2>/dev/null || true"), "build:\nc.py");
}

#[test]
fn a_reset_brings_every_file_back_and_leaves_what_git_ignores() {
    let bench = Bench::made();
    bench.agent(
        "echo x >> src/one.txt; rm src/two.txt; mkdir src/two.txt; echo d > src/two.txt/d; rm -r src/link; mkfifo src/link
         echo n > new.txt; mkdir -p a/b; echo n > a/b/c; chmod +x src/calc.py; mkdir build; echo o > build/o; echo l > src/x.log
         git init -q inner; echo i > inner/i; mv src/test_calc.py src/Test_calc.py",
    );
    let left = reset(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    assert_eq!(left, [std::path::PathBuf::from("inner")]);
    assert_eq!(bench.agent("cat build/o src/x.log inner/i src/link; ls"), "o\nl\ni\none\nbuild\ninner\nsrc");
    bench.agent("rm -rf inner");
    bench.is_clean();
}

#[test]
fn what_a_person_did_becomes_a_checkpoint_and_no_commit_of_a_person_is_lost() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    let by_hand = || hand(&bench.place, 3, &counted, &bench.client()).unwrap();
    assert_eq!(by_hand(), None);
    // In the worktree, uncommitted.
    bench.agent("echo by hand > src/one.txt");
    let first = by_hand().unwrap();
    bench.is_clean();
    assert_eq!(bench.agent("git log -1 --format=%s"), "ws-a: hand 03");
    // Committed in the worktree, with more on top.
    bench.agent("echo committed > src/two.txt; git commit -q -a -m mine; echo more > src/more.txt");
    let mine = bench.agent("git rev-parse HEAD");
    let second = by_hand().unwrap();
    bench.is_clean();
    assert_eq!(
        bench.agent("git log -1 --format=%P; cat src/two.txt src/more.txt"),
        format!("{first}\ncommitted\nmore")
    );
    assert_eq!(bench.user(&format!("git rev-parse refs/engine/r1/ws-a/hand-{mine}")), mine);
    // Moved from elsewhere.
    let other = bench.user(&format!(
        "git commit-tree -p {second} -m elsewhere $(git rev-parse main^{{tree}}) | tee id; rm id"
    ));
    bench.user(&format!("git update-ref refs/heads/engine/r1/ws-a {other}"));
    by_hand().unwrap();
    bench.is_clean();
    assert_eq!(
        bench
            .agent("cat src/one.txt src/two.txt; ls src/more.txt 2>&1 || true")
            .lines()
            .take(2)
            .collect::<Vec<_>>(),
        ["one", "two"]
    );
    let seen = taken(&bench.place, (&bench.base, &bench.place.head_ref()), &bench.client()).unwrap();
    assert_eq!(
        seen.iter().map(|taken| (taken.head.step, &*taken.kind)).collect::<Vec<_>>(),
        [(None, "hand"); 3]
    );
    assert_eq!(bench.find(), Found::AsLeft);
}

#[test]
fn a_reference_that_a_program_moved_is_put_back_and_a_race_is_refused() {
    let bench = Bench::made();
    bench.agent("echo fixed > src/calc.py");
    let commit = bench.take("edit", 1);
    bench.agent("git commit -q --allow-empty -m forged; git update-ref refs/engine/r1/ws-a/head HEAD");
    let put_back = || put_back_head(&bench.place, &commit, &bench.client()).unwrap();
    assert!(put_back() && !put_back());
    reset(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    assert_eq!(bench.heads()[0], Some(commit.clone()));
    bench.is_clean();
    bench.agent("git update-ref -d refs/engine/r1/ws-a/head");
    assert!(put_back());
    bench.is_clean();
}

#[test]
fn numbers_and_patch_are_those_of_git() {
    let bench = Bench::made();
    bench.agent("git mv src/two.txt src/deux.txt; printf 'a\\nb\\n' >> src/one.txt; printf 'x\\0y' > src/bin; rm src/calc.py");
    let tree = bench.tree();
    let seen = changes(&bench.place, (&bench.base, &tree), &bench.client()).unwrap();
    assert_eq!(Stat::of(&seen), Stat { files: 4, insertions: 2, deletions: 1 });
    let (bytes, cut) = patch(&bench.place, (&bench.base, &tree), 1 << 20, &bench.client()).unwrap();
    assert!(!cut);
    std::io::Write::write_all(&mut crate::fs::create_new(&bench.path().join("p"), &bytes).unwrap(), b"")
        .unwrap();
    bench.user("git apply --index ../p");
    assert_eq!(bench.user("git write-tree"), tree);
    let (bytes, cut) = patch(&bench.place, (&bench.base, &tree), 100, &bench.client()).unwrap();
    assert!(cut && bytes.len() <= 100 && bytes.ends_with(b"\n"));
}

#[test]
fn objects_that_a_user_pruned_are_missed_and_recorded_again() {
    let bench = Bench::made();
    for prune in ["git gc -q --prune=now", "git prune"] {
        bench.agent(&format!("echo '{prune}' > src/new.txt"));
        let tree = bench.tree();
        bench.user(prune);
        let taken = take(&bench.place, &bench.base, ("edit", 1), &tree, &bench.client());
        assert_eq!(taken.unwrap_err().code, crate::job::Code::GitFailed, "{prune}");
        assert_eq!(bench.heads()[0], Some(bench.base.clone()));
        assert_eq!(bench.tree(), tree);
    }
    bench.take("edit", 1);
    bench.is_clean();
}

#[test]
fn a_check_that_changes_the_tree_is_told_from_one_that_adds_to_it() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    let check = |script: &str| {
        bench.agent(script);
        let heads = super::heads(&bench.place, &bench.client()).unwrap();
        let (head, branch) = (heads.head.unwrap(), heads.branch.unwrap());
        let at = (&head, Some(branch.commit.as_str()));
        let after = after_check(&bench.place, &counted, at, &bench.client()).unwrap();
        if !after.changed.is_empty() {
            put_back(&bench.place, at, &bench.client()).unwrap();
        }
        let text = |paths: Vec<std::path::PathBuf>| -> Vec<String> {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        (text(after.changed), text(after.added), text(after.left))
    };
    let (none, report) = (Vec::<String>::new(), || vec!["report.xml".to_owned()]);
    assert_eq!(check("echo l > x.log; echo c > y.pyc"), (none.clone(), none.clone(), none.clone()));
    assert_eq!(check("echo r > report.xml"), (none.clone(), report(), none.clone()));
    // It stays one that was added, also after a look at the whole tree.
    bench.tree();
    let changed = vec!["src/calc.py".to_owned(), "src/one.txt".to_owned()];
    let script =
        "echo r2 > report.xml; echo x > src/one.txt; rm src/calc.py; git add -A; git commit -q -m by-a-check";
    assert_eq!(check(script), (changed, report(), none.clone()));
    assert_eq!(
        bench.agent("cat src/one.txt report.xml; git status --porcelain"),
        "one\nr2\n?? report.xml\n?? y.pyc"
    );
    assert_eq!(bench.heads(), [Some(bench.base.clone()), Some(bench.base.clone())]);
    reset(&bench.place, &counted, &bench.client()).unwrap();
    bench.agent("rm y.pyc");
    bench.is_clean();
}
