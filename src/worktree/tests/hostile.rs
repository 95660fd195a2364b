//! What agents do that no one asked for, and what the judgement makes of it.

use super::super::aside::put_aside_and_reset;
use super::super::checkpoint::{after_check, reset, taken};
use super::super::judge::{Left, Rules, judge, left};
use super::super::look::{Seen, look};
use super::{Bench, counted};
use crate::bundle::table::PatchPolicy;
use crate::job::Code;
use crate::worktree::tree::Found;

/// Plays an agent, and judges it.
fn play(bench: &Bench, script: &str) -> (Left, Seen, Option<Code>) {
    let counted = counted(&bench.place, &["src"]);
    let before = look(&bench.place, &bench.client()).unwrap();
    bench.agent(script);
    let left = left(&bench.place, &bench.head(), &counted, &bench.client()).unwrap();
    let after = look(&bench.place, &bench.client()).unwrap();
    let seen = before.compare(&after, &bench.place, &bench.client()).unwrap();
    let rules = Rules {
        scope: &counted.scope,
        protected: &[],
        executed: &[],
        patch: PatchPolicy::default(),
        allow_no_change: false,
        allow_test_removal: false,
    };
    let code = judge(&left, &seen, &rules).unwrap().map(|reason| reason.code);
    (left, seen, code)
}

/// Plays an agent whose changes may be taken however it made them, and takes them.
#[track_caller]
fn is_taken(script: &str) {
    let bench = Bench::made();
    let (left, seen, code) = play(&bench, script);
    assert_eq!(code, None, "{script}: {:?} {seen:?}", left.changes);
    bench.take("edit", 1);
    bench.is_clean();
    assert_eq!(bench.agent("cat src/one.txt"), "edited", "{script}");
    assert_eq!(bench.agent("git log --format=%s"), "ws-a: edit 01\nbase", "{script}");
    bench.user_is_untouched();
}

#[test]
fn an_edit_counts_whatever_an_agent_did_to_commits_branches_and_index() {
    for script in [
        "echo edited > src/one.txt",
        "echo edited > src/one.txt; git commit -q -a -m mine",
        "echo edited > src/one.txt; git checkout -q -b other; git commit -q -a -m mine",
        "echo edited > src/one.txt; git commit -q -a --amend -m rewritten",
        "echo edited > src/one.txt; git checkout -q --detach; git branch -q -D engine/r1/ws-a",
        "echo edited > src/one.txt; git update-index --assume-unchanged src/one.txt",
        "echo edited > src/one.txt; git update-index --skip-worktree src/one.txt; git add -A",
        "git rm -q -r --cached .; echo edited > src/one.txt",
        "echo x > src/one.txt; git stash -q; echo edited > src/one.txt",
        "echo edited > src/one.txt; git commit -q -a -m a; git reset -q --soft HEAD~1",
        "git checkout -q -b side; echo side > src/one.txt; git commit -q -a -m side; git checkout -q engine/r1/ws-a
         echo ours > src/one.txt; git commit -q -a -m ours; git merge -q side > /dev/null || true; echo edited > src/one.txt",
        "echo edited > src/one.txt; git worktree add -q ../../mine; git gc -q",
        "echo edited > src/one.txt; touch -d '2020-01-01' src/one.txt; echo junk > .git.bak.log",
        "echo edited > src/one.txt; : > $(git rev-parse --git-dir)/HEAD",
        "echo edited > src/one.txt; g=$(git rev-parse --git-dir); rm $g/HEAD; mkdir $g/HEAD",
        "echo edited > src/one.txt; rm -f $(git rev-parse --git-dir)/index; touch $(git rev-parse --git-dir)/MERGE_HEAD",
    ] {
        is_taken(script);
    }
}

#[test]
fn each_way_out_of_the_scope_is_a_violation_and_leaves_nothing_after_the_reset() {
    for (script, want) in [
        ("echo x > outside.txt", Code::ScopeViolation),
        ("echo x > outside.txt; git add -A; git commit -q -m mine", Code::ScopeViolation),
        ("mkdir Src; mv src/one.txt Src/one.txt", Code::ScopeViolation),
        ("rm .gitignore", Code::ScopeViolation),
        ("echo '*' >> .gitignore; echo x > outside.txt", Code::ScopeViolation),
        ("rm src/test_calc.py", Code::TestsVanished),
        ("git mv src/test_calc.py src/calc_notes.py; git commit -q -m mine", Code::TestsVanished),
        ("echo '[pytest]' > src/pytest.ini", Code::GateTampered),
        ("echo x > src/x; git init -q src/inner", Code::TreeNotClean),
        ("echo x > src/x; cd src; git init -q .", Code::TreeNotClean),
        ("true", Code::NoChange),
        ("git commit -q --allow-empty -m nothing", Code::NoChange),
        ("echo x > src/one.txt; git stash -q", Code::NoChange),
        ("echo junk > junk.pyc; mkdir build; echo o > build/o; echo t > .aider.tags", Code::NoChange),
    ] {
        let bench = Bench::made();
        let (left, seen, code) = play(&bench, script);
        assert_eq!(code, Some(want), "{script}: {:?} {seen:?}", left.changes);
        let kept = reset(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
        bench.agent(&format!(
            "rm -rf src/.git {}",
            kept.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        ));
        bench.agent("rm -f junk.pyc .aider.tags");
        bench.is_clean();
        bench.user_is_untouched();
    }
}

#[test]
fn settings_hooks_and_rules_that_outlive_the_step_are_a_violation_and_daily_settings_are_none() {
    for (script, want) in [
        ("git config core.hooksPath /tmp/x", Some(".git/config: core.hookspath")),
        ("git config filter.x.clean evil", Some(".git/config: filter.x.clean")),
        ("git config core.bare true", Some(".git/config: core.bare")),
        ("git config core.ignoreStat true", Some(".git/config: core.ignorestat")),
        (
            "git config extensions.worktreeConfig true; cd ../../../repo; git config --worktree core.hooksPath x",
            Some(".git/main-worktree/config.worktree: core.hookspath"),
        ),
        (
            "echo \"$(git rev-parse HEAD HEAD)\" > $(git rev-parse --git-common-dir)/info/grafts",
            Some(".git/info/grafts"),
        ),
        ("echo x > $(git rev-parse --git-common-dir)/hooks/post-commit", Some(".git/hooks/post-commit")),
        (
            "echo '* filter=x' > $(git rev-parse --git-common-dir)/info/attributes",
            Some(".git/info/attributes"),
        ),
        ("echo 'x' >> $(git rev-parse --git-common-dir)/info/exclude", Some(".git/info/exclude")),
        ("echo '[core]' > $(git rev-parse --git-dir)/config.worktree", Some(".git/config.worktree")),
        (
            "echo x > $(git rev-parse --git-dir)/commondir.new; echo .. > $(git rev-parse --git-dir)/commondir",
            Some(".git/commondir"),
        ),
        ("git config user.name Eve; git config remote.o.url /x; git config branch.main.merge x", None),
        ("git gc -q; git update-server-info; git pack-refs --all", None),
    ] {
        let bench = Bench::made();
        let (_, seen, code) = play(&bench, &format!("echo edited > src/one.txt; {script}"));
        assert_eq!(code, want.map(|_| Code::GitDirChanged), "{script}: {seen:?}");
        assert_eq!(seen.git_dir, want.into_iter().collect::<Vec<_>>(), "{script}");
    }
}

#[test]
fn a_daily_setting_that_changed_is_named() {
    let bench = Bench::made();
    let script = "echo edited > src/one.txt; git config user.name Eve; git remote add evil https://evil/x";
    let (_, seen, code) = play(&bench, script);
    let want = [".git/config: remote.evil.fetch", ".git/config: remote.evil.url", ".git/config: user.name"];
    let mut settings = seen.settings;
    settings.sort();
    assert_eq!((code, settings), (None, want.map(str::to_owned).to_vec()));
}

#[test]
fn no_setting_hides_a_change_of_a_later_step() {
    let hide = "git config core.ignoreStat true; git config core.checkStat minimal; git config core.trustctime false";
    let bench = Bench::made();
    bench.agent(hide);
    let counted = counted(&bench.place, &["src"]);
    bench.agent("echo other > outside.txt; touch -d 2020-01-01 src/calc.py src/one.txt");
    after_check(&bench.place, &counted, (&bench.head(), Some(&bench.base)), &bench.client()).unwrap();
    reset(&bench.place, &counted, &bench.client()).unwrap();
    let (_, _, code) =
        play(&bench, "touch -r src/one.txt ref.pyc; echo 2ne > src/one.txt; touch -r ref.pyc src/one.txt");
    assert_eq!(code, None, "a change of the same size and time is one");
}

#[test]
fn grafts_give_a_checkpoint_no_other_history() {
    let bench = Bench::made();
    bench.agent("echo edited > src/one.txt");
    let commit = bench.take("edit", 1);
    let forged = bench.agent(
        "git commit-tree HEAD^{tree} -p HEAD~1 -m 'ws-a: fix 02' -m 'Engine-Run: r1\nEngine-Job: r1.ws-a\nEngine-Step: ws-a/02'",
    );
    bench.agent(&format!("echo '{commit} {forged}' > $(git rev-parse --git-common-dir)/info/grafts"));
    let seen = taken(&bench.place, (&bench.base, &bench.place.head_ref()), &bench.client()).unwrap();
    assert_eq!(seen.iter().map(|taken| taken.head.step).collect::<Vec<_>>(), [Some(1)]);
}

#[test]
fn a_write_through_a_link_or_to_another_work_tree_is_seen_and_moved_references_are_named() {
    let bench = Bench::made();
    let out = bench.path().join("out");
    crate::fs::create_dir(&out).unwrap();
    let (_, seen, code) = play(&bench, &format!("ln -s {} src/door; echo x > src/door/file", out.display()));
    assert_eq!(
        (code, seen.outside),
        (Some(Code::ScopeViolation), vec![out.join("file").display().to_string()])
    );
    let bench = Bench::made();
    let script = "echo edited > src/one.txt; git update-ref refs/heads/other HEAD; git update-ref refs/engine/r1/ws-b/head HEAD";
    let (_, seen, code) = play(&bench, script);
    assert_eq!(seen.moved_refs, ["refs/heads/other"]);
    // The caller leaves out what a conductor has moved.
    assert_eq!((code, seen.of_run), (Some(Code::GitDirChanged), vec!["refs/engine/r1/ws-b/head".to_owned()]));
    let script =
        "echo x > src/two.txt; git commit -q -a -m forged; git update-ref refs/engine/r1/ws-a/head HEAD";
    assert_eq!(play(&bench, script).2, Some(Code::GitDirChanged));
}

#[test]
fn a_submodule_that_was_filled_and_edited_is_a_violation() {
    let bench = Bench::new();
    let inner = bench.path().join("inner");
    bench.user(&format!(
        "git init -q {0}; cd {0}; echo i > i; git add i; git -c user.name=a -c user.email=b commit -q -m i; cd -
         git -c protocol.file.allow=always submodule --quiet add {0} src/sub; git commit -q -m sub",
        inner.display()
    ));
    let bench = Bench { base: bench.user("git rev-parse HEAD"), ..bench };
    bench.find();
    bench.is_clean();
    let fill = "git -c protocol.file.allow=always submodule --quiet update --init";
    let (_, _, code) = play(&bench, &format!("{fill}; echo edited > src/one.txt"));
    assert_eq!(code, None);
    bench.take("edit", 1);
    let (_, _, code) = play(&bench, "echo edited > src/two.txt");
    assert_eq!(code, None);
    let (left, _, code) = play(&bench, "echo edited > src/sub/i");
    assert_eq!((code, left.tree.submodules), (Some(Code::SubmoduleChanged), vec!["src/sub".into()]));
}

#[test]
fn an_agent_that_removes_its_own_work_tree_loses_nothing_that_was_taken() {
    let bench = Bench::made();
    bench.agent("echo edited > src/one.txt");
    bench.take("edit", 1);
    for script in [
        "rm -rf ../ws-a",
        "rm -rf ../ws-a; ln -s ../../repo ../ws-a",
        "cd /; git -C $OLDPWD worktree remove -f -f $OLDPWD",
        "rm -rf $(git rev-parse --git-dir) .git",
    ] {
        bench.agent(script);
        assert_eq!(bench.find(), Found::Made, "{script}");
        assert_eq!(bench.agent("cat src/one.txt"), "edited");
        bench.is_clean();
    }
}

#[test]
fn nothing_is_changed_behind_a_link_in_place_of_the_work_tree() {
    let bench = Bench::made();
    bench.user("echo unsaved > unsaved.txt; echo work > src/one.txt");
    bench.agent("rm -rf ../ws-a; ln -s ../../repo ../ws-a");
    let (counted, client) = (counted(&bench.place, &["src"]), bench.client());
    let codes = [
        left(&bench.place, &bench.head(), &counted, &client).unwrap_err().code,
        reset(&bench.place, &counted, &client).unwrap_err().code,
        put_aside_and_reset(&bench.place, 1, &counted, None, &client).unwrap_err().code,
    ];
    assert_eq!(codes, [Code::TreeNotClean, Code::TreeNotClean, Code::TreeNotClean]);
    assert_eq!(bench.find(), Found::Made);
    assert_eq!(bench.user("cat unsaved.txt src/one.txt"), "unsaved\nwork");
    bench.is_clean();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test starts itself without the rights of root")]
fn a_tree_that_an_agent_made_unreadable_is_named_and_brought_back() {
    const NAME: &str =
        "worktree::tests::hostile::a_tree_that_an_agent_made_unreadable_is_named_and_brought_back";
    if std::env::var_os("ENGINE_TEST_HEEDS_MODES").is_none() && crate::fs::this_user() == 0 {
        let mut heeding = std::process::Command::new("setpriv");
        heeding.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]);
        heeding
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("ENGINE_TEST_HEEDS_MODES", "1");
        match heeding.output() {
            Ok(ended) => assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout)),
            Err(error) => eprintln!("not run: no `setpriv`, by which root heeds modes: {error}"),
        }
        return;
    }
    let bench = Bench::made();
    let spoil = "chmod 000 src/one.txt; echo x > src/two.txt; mkdir -p closed/in; echo y > closed/in/y; chmod 000 closed/in closed
                 echo z > src/z; chmod 555 src";
    let (left, _, code) = play(&bench, spoil);
    assert_eq!(code, Some(Code::TreeNotClean), "{left:?}");
    assert_eq!(left.tree.unread, ["src/one.txt", "closed"].map(std::path::PathBuf::from));
    let counted = counted(&bench.place, &["src"]);
    let (aside, kept) = put_aside_and_reset(&bench.place, 1, &counted, None, &bench.client()).unwrap();
    assert_eq!((aside.map(|aside| aside.not_kept), kept), (Some(vec![]), vec![]));
    assert_eq!(bench.agent("cat src/one.txt src/two.txt; ls"), "one\ntwo\nsrc");
    bench.is_clean();
    assert_eq!(
        bench.user("git show refs/engine/r1/ws-a/01:closed/in/y; git show refs/engine/r1/ws-a/01:src/z"),
        "y\nz"
    );
}

#[test]
fn files_of_another_user_are_named_and_replaced_by_our_own() {
    if crate::fs::this_user() != 0 {
        eprintln!("not run: only root can give a file away");
        return;
    }
    let bench = Bench::made();
    let (left, _, code) =
        play(&bench, "echo x > src/one.txt; chown 1 src/one.txt; echo y > src/y; chown 1 src/y");
    assert_eq!(code, Some(Code::TreeNotClean), "{left:?}");
    assert_eq!(left.tree.foreign, ["src/one.txt", "src/y"].map(std::path::PathBuf::from));
    reset(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    bench.is_clean();
    assert_eq!(bench.agent("stat -c %u src/one.txt"), "0");
}
