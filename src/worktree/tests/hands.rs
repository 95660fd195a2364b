//! What a person did with git in the worktree or on the branch: a merge stays one, and an unfinished one is no work.

use super::{Bench, counted};
use crate::job::{Code, Reason};
use crate::worktree::hand::{hand, takes_over};

impl Bench {
    fn by_hand(&self) -> Result<Option<String>, Reason> {
        hand(&self.place, 3, &counted(&self.place, &["src"]), &self.client())
    }

    /// A commit of another workstream that does not merge with `mine`.
    fn other(&self) -> String {
        self.commit(&self.base, "echo theirs > src/one.txt; echo theirs > src/theirs.txt")
    }

    fn holds(&self, commit: &str) -> bool {
        self.user(&format!(
            "git merge-base --is-ancestor {commit} refs/engine/r1/ws-a/head && echo yes || true"
        )) == "yes"
    }
}

const RESOLVES: &str = "echo both > src/one.txt; git add src";

#[test]
fn what_a_person_merged_stays_merged() {
    let merge = "git merge -q OTHER || true";
    for (script, content) in [
        // Committed on the branch, in the worktree.
        (format!("{merge}; {RESOLVES}; git commit -q -m merged"), "both"),
        // With more upon it, and some that is not committed.
        (
            format!(
                "{merge}; {RESOLVES}; git commit -q -m merged; echo x > src/x; git add src; git commit -q -m x; echo y > src/y"
            ),
            "both",
        ),
        // Resolved, and not committed.
        (format!("{merge}; {RESOLVES}"), "both"),
        // By the content of one side alone: the tree is the same.
        ("git merge -q -s ours OTHER".to_owned(), "mine"),
        // On no branch.
        (format!("git switch -q --detach; {merge}; {RESOLVES}; git commit -q -m merged"), "both"),
    ] {
        let bench = Bench::made();
        bench.agent("echo mine > src/one.txt");
        let first = bench.take("edit", 1);
        let other = bench.other();
        bench.agent(&script.replace("OTHER", &other));
        let taken = bench.by_hand().unwrap().unwrap();
        assert!(bench.holds(&other) && bench.holds(&first), "{script}");
        assert_eq!(
            bench.agent("git log -1 --format=%s; cat src/one.txt"),
            format!("ws-a: hand 03\n{content}")
        );
        assert_eq!(bench.user(&format!("git rev-parse {taken}^1")), first);
        bench.is_clean();
        // Once.
        assert_eq!(bench.by_hand().unwrap(), None, "{script}");
    }
}

#[test]
fn a_merge_or_a_rebase_that_is_not_finished_is_refused_and_stays() {
    for (script, words, then) in [
        ("git merge -q OTHER || true", "conflicts in `src/one.txt`", "git reset -q --hard"),
        (
            "git merge -q OTHER || true; echo half > src/one.txt",
            "git add",
            "git add src; git commit -q -m done",
        ),
        ("git cherry-pick OTHER > /dev/null 2>&1 || true", "conflicts in", "git reset -q --hard"),
        ("git rebase -q OTHER 2> /dev/null || true", "a rebase (git rebase --continue", "git rebase --abort"),
        ("git bisect start > /dev/null", "git bisect reset", "git bisect reset 2> /dev/null"),
    ] {
        let bench = Bench::made();
        bench.agent("echo mine > src/one.txt");
        bench.take("edit", 1);
        bench.agent(&script.replace("OTHER", &bench.other()));
        let look = || bench.agent("git status --porcelain; git rev-parse HEAD; cat src/one.txt");
        let before = (look(), bench.heads());
        let refused = bench.by_hand().unwrap_err();
        assert_eq!(refused.code, Code::MergeUnfinished, "{script}: {}", refused.message);
        assert!(refused.message.contains(words), "{script}: {}", refused.message);
        assert_eq!((look(), bench.heads()), before, "{script}");
        bench.agent(then);
        let _ = bench.by_hand().unwrap();
        bench.is_clean();
    }
}

#[test]
fn a_person_takes_over_what_was_put_aside_with_one_of_its_files_and_not_with_another() {
    let bench = Bench::made();
    let aside = bench.commit(&bench.base, "echo 1 > src/one.txt; echo 2 > src/two.txt; git rm -q src/link");
    let by_hand = |script: &str| {
        let hand = bench.commit(&bench.base, script);
        takes_over(&bench.place, &hand, &aside, &bench.client()).unwrap()
    };
    assert!(by_hand("echo 1 > src/one.txt"));
    assert!(by_hand("echo 2 > src/two.txt; echo other > src/one.txt"));
    assert!(by_hand("git rm -q src/link"));
    assert!(!by_hand("echo other > src/one.txt; echo new > src/new.txt"));
}
