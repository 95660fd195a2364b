//! Trees that git does not see in full, or not as they are.

use super::super::aside::put_aside_and_reset;
use super::super::checkpoint::{after_check, put_back};
use super::super::clean::{TreeState, remains};
use super::super::judge::{Left, left};
use super::super::parents::make_directory;
use super::{Bench, counted, sh};
use crate::job::Code;

impl Bench {
    fn left(&self) -> Left {
        left(&self.place, &self.head(), &counted(&self.place, &["src"]), &self.client()).unwrap()
    }

    /// What is left in place.
    fn put_aside(&self, step: u32) -> Vec<String> {
        let counted = counted(&self.place, &["src"]);
        let (_, left) = put_aside_and_reset(&self.place, step, &counted, None, &self.client()).unwrap();
        left.iter().map(|path| path.display().to_string()).collect()
    }

    /// Every name of the worktree but `.git`, with its kind and mode.
    fn names(&self) -> String {
        self.agent("find . -path ./.git -prune -o -printf '%y %m %P\\n' | sort")
    }
}

#[test]
fn whatever_a_step_leaves_the_tree_is_as_it_was_after_it_is_put_aside() {
    let bench = Bench::made();
    let before = bench.names();
    for script in [
        "mkfifo pipe src/pipe; mkdir -p new/deep; mkfifo new/deep/pipe",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"src/socket\")'",
        "rm src/one.txt; mkfifo src/one.txt",
        "mkfifo src/.gitignore; echo x > src/new.txt",
        "mkfifo .gitattributes; echo x > src/one.txt",
        "rm .gitignore; mkfifo .gitignore",
        "mkdir -p a/b/c src/empty; rm -r src; mkdir src",
        "d=$(printf 'd/%.0s' $(seq 500)); mkdir -p $d; echo x > $d/file",
        "printf x > \"$(printf 'new\\nline')\"; printf x > \"$(printf '\\377\\376')\"; mkdir \"$(printf 'a\\nb')\"; touch \"$(printf 'a\\nb/c')\"",
        "mkdir -p src/new; echo x > src/new/x; chmod 600 src/new; chmod 000 src/one.txt",
        "rm src/two.txt; mkdir src/two.txt; echo x > src/two.txt/x; ln -s / src/root; ln -s loop src/loop",
    ] {
        bench.agent(script);
        assert_eq!(bench.put_aside(1), [""; 0], "{script}");
        assert_eq!(bench.names(), before, "{script}");
        bench.is_clean();
    }
    bench.agent("mkdir build; mkfifo build/pipe; mkdir build/empty");
    assert_eq!(bench.put_aside(1), [""; 0]);
    assert_eq!(bench.agent("ls build"), "empty\npipe", "what git ignores stays");
}

#[test]
fn a_tree_deeper_than_any_path_is_refused_and_goes() {
    let bench = Bench::made();
    let before = bench.names();
    bench.agent("python3 -c \"import os\nfor _ in range(4000): os.mkdir('d'); os.chdir('d')\"");
    let left = bench.left();
    assert!(!left.tree.unread.is_empty());
    assert_eq!(bench.put_aside(1), [""; 0]);
    assert_eq!(bench.names(), before);
    bench.is_clean();
}

#[test]
fn pipes_and_sockets_of_a_step_are_removed_and_named_and_its_work_is_taken() {
    let bench = Bench::made();
    bench.agent(
        "echo edited > src/one.txt; mkfifo src/pipe src/.gitignore build.log; mkdir build; mkfifo build/p",
    );
    let left = bench.left();
    let removed: Vec<_> = left.removed.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(left.changes.len(), 1, "{:?}", left.changes);
    assert_eq!(
        bench.agent("ls build src"),
        "build:\np\n\nsrc:\ncalc.py\nlink\none.txt\ntest_calc.py\ntwo.txt"
    );
}

#[test]
fn a_check_that_leaves_a_pipe_for_rules_stops_nothing() {
    let bench = Bench::made();
    bench.agent("mkfifo .gitattributes src/.gitignore; echo x > src/one.txt");
    let (head, counted) = (bench.head(), counted(&bench.place, &["src"]));
    let at = (&head, Some(&*bench.base));
    let after = after_check(&bench.place, &counted, at, &bench.client()).unwrap();
    assert_eq!(after.changed, [std::path::PathBuf::from("src/one.txt")]);
    put_back(&bench.place, at, &bench.client()).unwrap();
    assert_eq!(bench.agent("cat src/one.txt"), "one");
}

#[test]
fn what_git_does_not_record_is_named_stays_and_stops_nothing() {
    for (script, path) in [
        ("mkdir .GIT; echo x > .GIT/config; mkdir src/a; echo y > src/a/y", ".GIT/config"),
        ("mkdir -p src/.Git; echo x > src/.Git/x; echo y > src/y", "src/.Git/x"),
    ] {
        let bench = Bench::made();
        bench.agent(script);
        let left = bench.left();
        let refused: Vec<_> = left.tree.refused.iter().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(refused, [path], "{script}");
        assert_eq!(bench.put_aside(1), [path], "{script}");
        assert_eq!(bench.agent(&format!("cat {path}")), "x", "no reference holds it");
        assert_eq!(bench.agent("ls src"), "calc.py\nlink\none.txt\ntest_calc.py\ntwo.txt");
        let remains = remains(&bench.place, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
        assert_eq!(remains.tree, TreeState::Dirty);
    }
}

#[test]
fn a_git_file_that_is_no_repository_is_named() {
    for script in [
        "mkdir new; echo 'gitdir: /nowhere' > new/.git; echo x > new/x",
        "mkdir -p new; echo garbage > new/.git",
        "mkdir -p new; mkfifo new/.git",
    ] {
        let bench = Bench::made();
        bench.agent(script);
        assert_eq!(bench.left().tree.nested, [std::path::PathBuf::from("new/.git")], "{script}");
        assert_eq!(bench.put_aside(1), ["new/.git"], "{script}");
    }
}

#[test]
fn a_filter_that_gives_another_content_each_time_is_named_and_no_one_is_blamed() {
    for clean in ["cat; date +%N", "sed s/^/x/"] {
        let bench = Bench::new();
        bench.user(&format!(
            "git config filter.stamp.clean '{clean}'; git config filter.stamp.smudge 'sed s/^/y/'
            echo '*.stamp filter=stamp' > .gitattributes"
        ));
        bench.user("echo a > a.stamp; git add -A; git commit -q -m stamp");
        let bench = Bench { base: bench.user("git rev-parse HEAD"), ..bench };
        bench.find();
        bench.agent("touch -d 2020-01-01 a.stamp; echo edited > src/one.txt");
        let left = bench.left();
        assert_eq!(left.unstable, [std::path::PathBuf::from("a.stamp")], "{clean}: {:?}", left.changes);
    }
    // Where the files are as the commit has them, nothing has changed.
    let bench = Bench::new();
    bench.user("git config filter.stamp.clean 'cat; date +%N'; echo '*.stamp filter=stamp' > .gitattributes");
    bench.user("echo a > a.stamp; git add -A; git commit -q -m stamp");
    let bench = Bench { base: bench.user("git rev-parse HEAD"), ..bench };
    bench.find();
    bench.agent("touch -d 2020-01-01 a.stamp; echo edited > src/one.txt");
    let left = bench.left();
    assert_eq!((left.unstable.len(), left.changes.len()), (0, 1), "{:?}", left.changes);
    // A filter that is stable, and a file that the step has changed.
    let bench = Bench::new();
    bench.user("git config filter.up.clean rev; git config filter.up.smudge rev; echo '*.up filter=up' > .gitattributes");
    bench.user("echo ab > a.up; git add -A; git commit -q -m up");
    let bench = Bench { base: bench.user("git rev-parse HEAD"), ..bench };
    bench.find();
    bench.agent("echo other > a.up");
    let left = bench.left();
    assert_eq!((left.unstable.len(), left.changes.len()), (0, 1));
}

#[test]
fn a_directory_is_made_within_the_work_tree_alone_and_through_no_link() {
    let bench = Bench::made();
    let out = bench.path().join("out");
    sh(&bench.path(), &bench.path(), "mkdir out");
    bench.agent(&format!("ln -s {} door; ln -s src inner; echo x > file; mkfifo pipe", out.display()));
    for (dir, why) in [
        ("door", "`door` is a link"),
        ("door/new", "`door` is a link"),
        ("inner/new", "`inner` is a link"),
        ("file/new", "the file `file` is in the way"),
        ("pipe", "the file `pipe` is in the way"),
        ("src/one.txt/new", "the file `src/one.txt` is in the way"),
        ("../new", "it leads out"),
        ("src/../../new", "it leads out"),
        ("/new", "it leads out"),
        ("Src/new", "`Src` differs from `src` only in case"),
        (".git/hooks", "`.git` is git's own"),
        ("src/.GIT", "`.git` is git's own"),
    ] {
        let refused = make_directory(&bench.place, dir).unwrap_err();
        assert_eq!(refused.code, Code::ScopeInvalid, "{dir}");
        assert!(refused.message.contains(why) && refused.message.contains(dir), "{dir}: {}", refused.message);
    }
    assert_eq!(sh(&bench.path(), &out, "ls -A; ls -A .."), "home\nout\nrepo\ntrees");
    make_directory(&bench.place, "src/new/deep/").unwrap();
    make_directory(&bench.place, "./src/new/deep").unwrap();
    assert_eq!(bench.agent("find src/new"), "src/new\nsrc/new/deep");
    bench.agent("rm -rf ../ws-a; ln -s ../../out ../ws-a");
    assert_eq!(make_directory(&bench.place, "new").unwrap_err().code, Code::TreeNotClean);
    assert_eq!(sh(&bench.path(), &out, "ls -A"), "");
}
