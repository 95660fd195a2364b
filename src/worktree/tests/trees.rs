//! Making, finding, repairing and removing worktrees.

use std::path::Path;

use super::super::tree::{
    Found, check, make, make_or_find, mark_setup, put_aside_lost, remove, remove_left_locks, setup_is_done,
    wait_for_locks,
};
use super::{Bench, client, counted, sh};
use crate::git::{Deadline, Repository};
use crate::job::Code;
use crate::worktree::Place;

#[test]
fn a_work_tree_is_made_once_and_found_again() {
    let bench = Bench::made();
    bench.is_clean();
    bench.user_is_untouched();
    assert_eq!(bench.agent("cat src/one.txt src/link"), "one\none");
    assert_eq!(bench.heads(), [Some(bench.base.clone()), Some(bench.base.clone())]);
    assert!(bench.user("git worktree list").contains("locked"));
    bench.agent("echo edited > src/one.txt");
    assert_eq!(bench.find(), Found::AsLeft);
    assert_eq!(bench.agent("cat src/one.txt"), "edited");
    // What a user does in between concerns no one.
    bench.user("git worktree prune; git gc -q --prune=now; git pack-refs --all");
    assert_eq!(bench.find(), Found::AsLeft);
}

#[test]
fn what_a_person_deleted_is_made_again() {
    let bench = Bench::made();
    bench.agent("echo new > src/new.txt");
    let taken = bench.take("edit", 1);
    let whole = |how: &str| {
        assert_eq!(bench.find(), Found::Made, "{how}");
        assert_eq!(bench.agent("cat src/new.txt"), "new", "{how}");
        bench.is_clean();
        assert_eq!(bench.heads()[0].as_deref(), Some(&*taken), "{how}");
    };
    let dir = bench.place.dir.display();
    for how in [
        format!("rm -rf {dir}"),
        format!("rm -rf {dir}; git worktree prune"),
        format!("rm -rf {dir} $(dirname {dir})"),
        format!("git worktree unlock {dir}; git worktree remove {dir}; git branch -q -D engine/r1/ws-a"),
        format!("rm -rf {dir} .git/worktrees"),
        format!("git worktree remove -f -f {dir}"),
    ] {
        bench.user(&how);
        whole(&how);
    }
}

#[test]
fn a_deleted_branch_and_a_broken_pointer_are_written_again() {
    let bench = Bench::made();
    bench.agent("echo new > src/new.txt");
    let taken = bench.take("edit", 1);
    bench.agent("rm .git; git init -q; git add -A; git -c user.name=x -c user.email=y commit -q -m mine");
    assert_eq!(bench.find(), Found::Repaired);
    bench.is_clean();
    bench.user("git update-ref -d refs/heads/engine/r1/ws-a");
    let counted = counted(&bench.place, &["src"]);
    super::super::checkpoint::reset(&bench.place, &counted, &bench.client()).unwrap();
    assert_eq!(bench.heads()[1], Some(taken));
    bench.is_clean();
}

#[test]
fn files_whose_git_directory_is_gone_are_put_aside_before_they_are_removed() {
    let bench = Bench::made();
    bench.agent("echo precious > src/new.txt");
    bench.user("rm -rf .git/worktrees");
    assert_eq!(bench.find(), Found::Made);
    bench.is_clean();
    assert_eq!(bench.user("git show refs/engine/r1/ws-a/00:src/new.txt"), "precious");
}

#[test]
fn files_of_which_a_power_loss_has_left_no_mark_are_put_aside_and_a_repository_is_left_alone() {
    let bench = Bench::made();
    let dir = bench.place.dir.display();
    // Each of these files is not synced. The index of the engine is removed by `mend`.
    let lost = format!(
        "rm {dir}.made {dir}.index .git/worktrees/ws-a/index; : > .git/worktrees/ws-a/gitdir; echo precious > {dir}/src/new.txt"
    );
    let refused = || make_or_find(&bench.place, &bench.base, &bench.client()).unwrap_err().code;
    for (more, is_left) in [
        (format!("rm {dir}/.git"), false),
        (format!(": > {dir}/.git"), false),
        (format!("rm {dir}/.git; git init -q {dir}"), true),
        (format!("rm {dir}/.git; git init -q {dir}/mine; touch {dir}/mine/x"), true),
        (format!("rm {dir}/.git; truncate -s 40M {dir}/large"), true),
    ] {
        bench.user(&format!("{lost}; {more}"));
        assert_eq!(refused(), Code::WorktreePlace, "{more}");
        put_aside_lost(&bench.place, &bench.client()).unwrap();
        if is_left {
            assert_eq!(refused(), Code::WorktreePlace, "{more}");
            assert_eq!(bench.user(&format!("cat {dir}/src/new.txt")), "precious", "{more}");
            bench.user(&format!("rm -rf {dir}"));
        } else {
            assert_eq!(bench.user("git show refs/engine/r1/ws-a/00:src/new.txt"), "precious", "{more}");
        }
        assert_eq!(bench.find(), Found::Made, "{more}");
        bench.is_clean();
    }
}

#[test]
fn a_half_made_work_tree_is_made_anew_and_what_is_not_ours_is_refused() {
    let bench = Bench::made();
    let dir = bench.place.dir.display();
    bench.user(&format!("rm {dir}.made .git/worktrees/ws-a/index {dir}/src/one.txt"));
    assert_eq!(bench.find(), Found::Made);
    bench.is_clean();
    // The mark alone may be cleared with a cache, and the index by a step.
    for lost in [format!("{dir}.made"), ".git/worktrees/ws-a/index".to_owned()] {
        bench.user(&format!("rm {lost}; echo edited > {dir}/src/one.txt"));
        assert_eq!(bench.find(), Found::AsLeft);
        assert_eq!(bench.agent("cat src/one.txt"), "edited");
        make(&bench.place, &bench.client()).unwrap();
    }
    bench.is_clean();
    // Killed within `git worktree add`, before and after the branch.
    bench.user(&format!("rm -rf {dir} {dir}.*; rm .git/worktrees/ws-a/HEAD .git/worktrees/ws-a/commondir"));
    assert_eq!(bench.find(), Found::Made);
    bench.is_clean();
    bench.user(&format!("rm -rf {dir} {dir}.* .git/worktrees; mkdir {dir}; echo mine > {dir}/thesis.txt"));
    let refused = make_or_find(&bench.place, &bench.base, &bench.client()).unwrap_err();
    assert_eq!(refused.code, Code::WorktreePlace);
    assert_eq!(bench.user(&format!("cat {dir}/thesis.txt")), "mine");
}

#[test]
fn a_branch_that_a_person_has_checked_out_is_left_alone() {
    let bench = Bench::made();
    let dir = bench.place.dir.display();
    bench.user(&format!("git worktree remove -f -f {dir}; git checkout -q engine/r1/ws-a"));
    let refused = make_or_find(&bench.place, &bench.base, &bench.client()).unwrap_err();
    assert_eq!(refused.code, Code::BranchInUse, "{}", refused.message);
    bench.user("git checkout -q main");
    assert_eq!(bench.find(), Found::Made);
    bench.is_clean();
}

#[test]
fn only_a_work_tree_at_its_checkpoint_is_removed() {
    let bench = Bench::made();
    let removed = || remove(&bench.place, &counted(&bench.place, &["src"]), &bench.client());
    for (spoil, mend) in [("echo x > src/x", "rm src/x"), ("git init -q src/inner", "rm -rf src/inner")] {
        bench.agent(spoil);
        assert_eq!(removed().unwrap_err().code, Code::TreeNotClean, "{spoil}");
        bench.agent(mend);
    }
    bench.agent("mkdir build; echo x > build/ignored; echo x > a.pyc");
    removed().unwrap();
    assert!(!bench.path().join("trees/r1").exists() && !bench.place.common_dir.join("worktrees").exists());
    assert_eq!(bench.heads(), [Some(bench.base.clone()), Some(bench.base.clone())]);
    removed().unwrap();
    assert_eq!(bench.find(), Found::Made);
}

#[test]
fn included_files_are_copied_with_their_modes_and_never_become_a_change() {
    let bench = Bench::new();
    bench.user(
        "printf 'build/keep.log\\n.env\\n*.log\\n*.txt\\n' > .worktreeinclude; echo .env >> .git/info/exclude
         mkdir build; echo 1 > build/keep.log; echo secret > .env; chmod 600 .env; echo 2 > run.log; chmod 755 run.log
         echo untracked > notes.txt; ln -s /etc/passwd out.log; echo no > other.gen",
    );
    assert_eq!(bench.find(), Found::Made);
    assert_eq!(
        bench.agent("cat build/keep.log .env run.log; stat -c %a .env run.log"),
        "1\nsecret\n2\n600\n755"
    );
    assert_eq!(bench.agent("ls -A | tr '\\n' ' '"), ".env .git .gitignore build run.log src");
    bench.is_clean();
}

#[test]
fn setup_is_done_once_in_each_new_work_tree() {
    let bench = Bench::made();
    assert!(!setup_is_done(&bench.place, "d1"));
    mark_setup(&bench.place, "d1").unwrap();
    assert!(setup_is_done(&bench.place, "d1") && !setup_is_done(&bench.place, "d2"));
    bench.user(&format!("rm -rf {}", bench.place.dir.display()));
    assert_eq!(bench.find(), Found::Made);
    assert!(!setup_is_done(&bench.place, "d1"));
}

#[test]
fn lock_files_that_another_program_leaves_are_removed_once_none_holds_them() {
    let bench = Bench::made();
    bench.user("touch -d '1 minute ago' .git/refs/engine/r1/ws-a/head.lock .git/refs/heads/engine/r1/ws-a.lock .git/refs/heads/main.lock");
    // It is alive, and began later.
    let _alive = std::fs::File::open(bench.place.repo.join(".git/refs/heads/main.lock")).unwrap();
    assert_eq!(wait_for_locks(&bench.place, &bench.client()).unwrap().len(), 2);
    assert_eq!(bench.user("find .git -name '*.lock'"), ".git/refs/heads/main.lock");
    bench.user("rm .git/refs/heads/main.lock");
    bench.agent("echo new > src/new.txt");
    bench.take("edit", 1);
    bench.is_clean();
}

#[test]
fn lock_files_of_a_killed_git_are_removed_and_those_of_others_stay() {
    let bench = Bench::made();
    let dir = bench.place.dir.display();
    bench.user(&format!(
        "touch .git/worktrees/ws-a/index.lock .git/worktrees/ws-a/HEAD.lock {dir}.index.lock .git/index.lock
         touch .git/refs/heads/engine/r1/ws-a.lock .git/refs/heads/engine/r1/ws-b.lock .git/refs/engine/r1/ws-a/head.lock"
    ));
    // A git of a person keeps them open.
    let names = [
        ".git/worktrees/ws-a/index.lock",
        ".git/worktrees/ws-a/HEAD.lock",
        ".git/refs/engine/r1/ws-a/head.lock",
    ];
    let mut held: Vec<_> =
        names.iter().map(|name| std::fs::File::open(bench.place.repo.join(name)).unwrap()).collect();
    held.push(std::fs::File::open(bench.place.beside("index.lock")).unwrap());
    held.push(std::fs::File::open(bench.place.repo.join(".git/refs/heads/engine/r1/ws-a.lock")).unwrap());
    let mut soon = bench.client();
    soon.deadline = Deadline::new("the wait", std::time::Duration::from_millis(60));
    assert_eq!(wait_for_locks(&bench.place, &soon).unwrap_err().code, Code::WorktreeLocked);
    drop(held);
    assert_eq!(remove_left_locks(&bench.place).unwrap().len(), 5);
    assert_eq!(wait_for_locks(&bench.place, &bench.client()).unwrap(), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        bench.user("find .git -name '*.lock' | sort | tr '\\n' ' '"),
        ".git/index.lock .git/refs/heads/engine/r1/ws-b.lock"
    );
    bench.user("rm .git/index.lock");
    assert!(bench.user("git worktree list").contains("locked"), "the lock of the worktree itself stays");
    bench.agent("echo new > src/new.txt");
    bench.take("edit", 1);
    bench.is_clean();
}

#[test]
fn a_place_for_work_trees_that_is_not_ours_or_in_a_work_tree_is_refused() {
    let bench = Bench::new();
    let code = |dir: &Path, may_be_inside| {
        check(&bench.place.repo, dir, may_be_inside, &bench.client()).err().map(|reason| reason.code)
    };
    let inside = bench.place.repo.join("trees/deep");
    assert_eq!(code(&inside, false), Some(Code::WorktreePlace));
    assert_eq!(code(&inside, true), None);
    assert_eq!(code(&bench.path().join("trees"), false), None);
    assert_eq!(code(Path::new("trees"), false), Some(Code::WorktreePlace));
    sh(&bench.path(), &bench.path(), "mkdir open; chmod 777 open; touch file");
    assert_eq!(code(&bench.path().join("open"), false), Some(Code::WorktreePlace));
    assert_eq!(code(&bench.path().join("file/x"), false), Some(Code::WorktreePlace));
    assert!(!bench.path().join("trees").exists());
}

/// The test below starts itself so often.
const PROCESSES: usize = 32;

#[test]
#[expect(clippy::disallowed_methods, reason = "one process for each conductor")]
fn so_many_processes_make_work_trees_of_one_repository_and_none_fails() {
    if let Some(dir) = std::env::var_os("ENGINE_TEST_TREES") {
        let (dir, ws) = (Path::new(&dir), std::env::var("ENGINE_TEST_WS").unwrap());
        let client = client(dir);
        let repository = Repository::find(&dir.join("repo"), &client).unwrap();
        let place = Place::new(repository.clone(), dir.join("trees/r1").join(&ws), ("r1", &ws), false);
        assert_eq!(make_or_find(&place, &repository.head.unwrap(), &client).unwrap(), Found::Made);
        return;
    }
    let bench = Bench::new();
    let name = "worktree::tests::trees::so_many_processes_make_work_trees_of_one_repository_and_none_fails";
    let start = |number: usize| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env("ENGINE_TEST_TREES", bench.path());
        command
            .env("ENGINE_TEST_WS", format!("ws-{number}"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut started: Vec<_> = (0..PROCESSES).map(start).collect();
    let ended: Vec<bool> = started.iter_mut().map(|child| child.wait().unwrap().success()).collect();
    assert_eq!(ended, [true; PROCESSES]);
    for number in 0..PROCESSES {
        let dir = bench.path().join(format!("trees/r1/ws-{number}"));
        let seen = sh(&bench.path(), &dir, "git status --porcelain; git symbolic-ref HEAD; cat src/one.txt");
        assert_eq!(seen, format!("refs/heads/engine/r1/ws-{number}\none"));
    }
    assert_eq!(bench.user("git worktree list | wc -l"), (PROCESSES + 1).to_string());
    assert_eq!(bench.user("find .git -name '*.lock'"), "");
    bench.user_is_untouched();
}
