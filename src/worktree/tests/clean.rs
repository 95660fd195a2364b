//! What is left of a workstream, and its removal.

use super::{Bench, counted};
use crate::fs;
use crate::job::RunId;
use crate::worktree::clean::{
    Remains, TreeState, remains, remove_branch, remove_references, remove_rest, remove_tree,
};
use crate::worktree::{hand, remove_clean};

impl Bench {
    fn remains(&self) -> Remains {
        remains(&self.place, &counted(&self.place, &["src"]), &self.client()).unwrap()
    }

    /// A checkpoint with an edit.
    fn taken() -> Self {
        let bench = Self::made();
        bench.agent("echo 'def add(a, b): return a + b' > src/calc.py");
        bench.take("edit", 1);
        bench
    }

    fn references(&self) -> String {
        self.user("git for-each-ref --format='%(refname)' refs/engine refs/heads/engine")
    }
}

#[test]
fn what_is_in_a_branch_of_the_user_is_merged_and_nothing_else_is() {
    let bench = Bench::taken();
    let found = bench.remains();
    assert_eq!((found.tree, found.is_merged), (TreeState::Clean, false));
    assert_eq!(found.references, 1);
    bench.user(
        "git branch other engine/r1/ws-a; git branch engine/r1/copy engine/r1/ws-a; git branch -q -D other",
    );
    assert!(!bench.remains().is_merged, "a branch of the engine's is none of the user's");
    bench.user("git merge -q engine/r1/ws-a");
    assert!(bench.remains().is_merged);
    bench.user("git checkout -q engine/r1/copy; git commit -q --allow-empty -m by-hand; git update-ref refs/heads/engine/r1/ws-a HEAD");
    assert!(!bench.remains().is_merged, "a person's commit on the branch is not merged");
}

#[test]
fn a_dirty_tree_is_put_aside_before_it_is_removed() {
    let bench = Bench::taken();
    bench.agent("echo by hand > src/new.txt; echo litter > src/x.pyc");
    assert_eq!(bench.remains().tree, TreeState::Dirty);
    remove_tree(&bench.place, 7, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    assert!(!bench.place.dir.exists());
    assert_eq!(bench.user("git show refs/engine/r1/ws-a/07:src/new.txt"), "by hand");
    assert_eq!(bench.user("git worktree list --porcelain | grep -c ^worktree"), "1");
    let found = bench.remains();
    assert_eq!((found.tree, found.references), (TreeState::None, 2));
    // Nothing is left to do.
    remove_tree(&bench.place, 7, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
}

#[test]
fn a_nested_repository_stays_and_is_named() {
    let bench = Bench::taken();
    bench.agent(
        "git init -q src/inner; echo x > src/inner/x; git -C src/inner add x; git -C src/inner -c user.name=A -c user.email=a@b commit -qm x",
    );
    let refused =
        remove_tree(&bench.place, 7, &counted(&bench.place, &["src"]), &bench.client()).unwrap_err();
    assert!(refused.message.contains("src/inner"), "{}", refused.message);
    assert!(bench.place.dir.join("src/inner/x").exists());
}

/// With a submodule `sub`, as a command of `setup` leaves it.
fn with_submodule() -> Bench {
    let bench = Bench::new();
    let inner = bench.path().join("inner");
    bench.user(&format!(
        "git init -q -b main {0}; git -C {0} -c user.name=A -c user.email=a@b commit -q --allow-empty -m inner
         git -c protocol.file.allow=always submodule --quiet add {0} sub; git commit -q -m sub",
        inner.display()
    ));
    let bench = Bench { base: bench.user("git rev-parse HEAD"), ..bench };
    bench.find();
    bench.agent("git -c protocol.file.allow=always submodule --quiet update --init; git -C sub config user.name A; git -C sub config user.email a@b");
    bench
}

#[test]
fn what_a_submodule_alone_holds_stays_and_is_named() {
    for (makes, takes_back) in [
        ("echo x > sub/new", "rm sub/new"),
        ("git -C sub commit -q --allow-empty -m mine", "git -C sub reset -q --hard @{u}"),
        (
            "git -C sub checkout -q -b mine; git -C sub commit -q --allow-empty -m mine; git -C sub checkout -q --detach HEAD~1",
            "git -C sub branch -q -D mine",
        ),
    ] {
        let bench = with_submodule();
        bench.agent("git -C sub checkout -q main");
        bench.agent(makes);
        assert_eq!(bench.remains().tree, TreeState::Dirty, "{makes}");
        let counted = counted(&bench.place, &["src"]);
        let refused = remove_tree(&bench.place, 7, &counted, &bench.client()).unwrap_err();
        assert!(refused.message.contains("the submodule sub;"), "{makes}: {}", refused.message);
        assert!(remove_clean(&bench.place, &bench.client()).is_err(), "{makes}");
        assert!(bench.place.dir.join("sub/.git").exists());
        // One that is as the checkpoint says may go.
        bench.agent(takes_back);
        assert_eq!(bench.remains().tree, TreeState::Clean, "{makes}");
        remove_tree(&bench.place, 7, &counted, &bench.client()).unwrap();
        assert!(!bench.place.dir.exists());
    }
}

#[test]
fn commits_of_a_submodule_stay_where_the_files_of_the_worktree_are_gone() {
    let bench = with_submodule();
    bench.agent("git -C sub commit -q --allow-empty -m mine");
    fs::remove_tree(&bench.place.dir).unwrap();
    assert_eq!(bench.remains().tree, TreeState::Dirty);
    let counted = counted(&bench.place, &["src"]);
    let refused = remove_tree(&bench.place, 7, &counted, &bench.client()).unwrap_err();
    assert!(refused.message.contains("the submodule sub"), "{}", refused.message);
}

#[test]
fn a_commit_of_a_submodule_that_a_checkpoint_names_is_held_by_nothing_else() {
    let bench = with_submodule();
    bench.agent("git -C sub commit -q --allow-empty -m mine; git add sub; git commit -q -m link");
    hand(&bench.place, 1, &counted(&bench.place, &["src"]), &bench.client()).unwrap().unwrap();
    let refused = remove_clean(&bench.place, &bench.client()).unwrap_err();
    assert!(refused.message.contains("the submodule sub"), "{}", refused.message);
}

#[test]
fn references_go_with_what_was_put_aside_and_the_branch_alone_stays() {
    let bench = Bench::taken();
    bench.agent("echo by hand > src/new.txt");
    let counted = counted(&bench.place, &["src"]);
    remove_tree(&bench.place, 7, &counted, &bench.client()).unwrap();
    bench.user(&format!(
        "git update-ref refs/engine/r1/base {}; git update-ref refs/engine/r1/ws-b/head HEAD",
        bench.base
    ));
    // A commit of a person that was on the branch is kept by a reference of another kind.
    bench.user(&format!("git update-ref refs/engine/r1/ws-a/hand-{0} {0}", bench.base));
    assert_eq!(bench.remains().references, 3);
    assert_eq!(remove_references(&bench.place, &bench.client()).unwrap(), 3);
    assert_eq!(
        bench.references(),
        "refs/engine/r1/base\nrefs/engine/r1/ws-b/head\nrefs/heads/engine/r1/ws-a"
    );
    remove_branch(&bench.place, &bench.client()).unwrap();
    // What else is below the names of the run, as long as it is not merged, only of one that was named.
    bench.user("git update-ref refs/heads/engine/r1/integration/x $(git commit-tree -m x HEAD^{tree})");
    let rest = |how| remove_rest(&bench.place, &RunId::new("r1").unwrap(), how, &bench.client()).unwrap();
    assert_eq!(rest((false, true)), ["refs/engine/r1/ws-b/head"]);
    assert_eq!(rest((true, false)), Vec::<String>::new());
    assert_eq!(bench.references(), "refs/heads/engine/r1/integration/x");
    assert_eq!(rest((true, true)), ["refs/heads/engine/r1/integration/x"]);
    assert_eq!(bench.references(), "");
}

#[test]
fn a_branch_that_a_person_has_checked_out_stays() {
    let bench = Bench::taken();
    remove_tree(&bench.place, 1, &counted(&bench.place, &["src"]), &bench.client()).unwrap();
    bench.user("git checkout -q engine/r1/ws-a");
    let refused = remove_branch(&bench.place, &bench.client()).unwrap_err();
    assert!(refused.message.contains("engine/r1/ws-a"), "{}", refused.message);
    assert!(bench.references().contains("refs/heads/engine/r1/ws-a"));
}
