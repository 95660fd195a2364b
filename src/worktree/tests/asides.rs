//! What is put aside.

use super::super::aside::{lay_out, put_aside, put_aside_and_reset};
use super::super::checkpoint::reset;
use super::super::git::{Aside, StepRun, heads};
use super::super::tree::Found;
use super::{Bench, counted};
use crate::job::{Code, Reason};

#[test]
fn what_is_put_aside_is_all_there_and_a_second_time_loses_nothing() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    let aside = || put_aside(&bench.place, 2, &counted, None, &bench.client()).unwrap();
    assert_eq!(aside(), None);
    bench.agent("echo edited > src/one.txt; echo new > outside.txt; rm src/two.txt; git init -q inner; echo i > inner/i");
    let first = aside().unwrap();
    assert_eq!(first.tree.nested, [std::path::PathBuf::from("inner")]);
    // As after a crash before the reset.
    assert_eq!(aside().unwrap().commit, first.commit);
    assert_eq!(bench.user("git show refs/engine/r1/ws-a/02:outside.txt"), "new");
    assert_eq!(bench.user("git log -1 --format=%P refs/engine/r1/ws-a/02"), bench.base);
    reset(&bench.place, &counted, &bench.client()).unwrap();
    bench.agent("rm -rf inner");
    bench.is_clean();
    bench.agent("echo other > outside.txt");
    let second = aside().unwrap();
    let parents = format!("{} {}", bench.base, first.commit);
    assert_eq!(bench.user(&format!("git log -1 --format=%P {}", second.commit)), parents);
    assert_eq!(second.reference, "refs/engine/r1/ws-a/02");
    assert_eq!(aside().unwrap().commit, second.commit);
    reset(&bench.place, &counted, &bench.client()).unwrap();
    // The way back that people are told of.
    bench.agent("git restore --source=refs/engine/r1/ws-a/02 -SW -- .");
    assert_eq!(bench.agent("cat outside.txt"), "other");
}

#[test]
fn large_untracked_files_are_named_and_not_kept() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    bench.agent("echo small > small; truncate -s 20M mid; truncate -s 30M large; echo x > src/one.txt");
    let aside = put_aside(&bench.place, 1, &counted, None, &bench.client()).unwrap().unwrap();
    assert_eq!(aside.not_kept, [std::path::PathBuf::from("large")]);
    assert_eq!(
        bench.user("git ls-tree --name-only refs/engine/r1/ws-a/01 | tr '\\n' ' '"),
        ".gitignore mid small src"
    );
    reset(&bench.place, &counted, &bench.client()).unwrap();
    bench.is_clean();
}

#[test]
fn a_parked_tree_comes_back_onto_a_work_tree_that_was_made_anew() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    assert!(!lay_out(&bench.place, 4, &bench.client()).unwrap());
    bench.agent("echo half > src/one.txt; echo new > src/new.txt; rm src/two.txt; echo l > a.log");
    let tree = bench.tree();
    put_aside(&bench.place, 4, &counted, None, &bench.client()).unwrap().unwrap();
    assert_eq!(bench.tree(), tree, "it stays");
    bench.user(&format!("rm -rf {}", bench.place.dir.display()));
    assert_eq!(bench.find(), Found::Made);
    bench.is_clean();
    assert!(lay_out(&bench.place, 4, &bench.client()).unwrap());
    assert_eq!(bench.tree(), tree);
    assert_eq!(
        bench.agent("git status --porcelain | tr '\\n' ' '"),
        " M src/one.txt  D src/two.txt ?? src/new.txt"
    );
    bench.take("edit", 4);
    assert_eq!(bench.agent("git status --porcelain"), "");
    assert_eq!(bench.agent("git rev-parse HEAD^{tree}"), tree);
}

#[test]
fn files_that_an_agent_hid_by_ignore_rules_are_put_aside_too() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    bench.agent(
        "echo '*' >> .gitignore; echo hidden > hidden.txt; truncate -s 40M large; echo x > src/one.txt",
    );
    let (aside, left) = put_aside_and_reset(&bench.place, 1, &counted, None, &bench.client()).unwrap();
    assert_eq!((aside.unwrap().not_kept, left), (vec!["large".into()], vec![]));
    bench.is_clean();
    assert_eq!(bench.user("git show refs/engine/r1/ws-a/01:hidden.txt"), "hidden");
    assert_eq!(bench.user("git show refs/engine/r1/ws-a/01^2:src/one.txt"), "x");
    assert_eq!(
        put_aside_and_reset(&bench.place, 1, &counted, None, &bench.client()).unwrap(),
        (None, vec![])
    );
}

#[test]
fn a_refusal_is_kept_where_the_tree_did_not_change_and_is_of_its_attempt_alone() {
    let bench = Bench::made();
    let counted = counted(&bench.place, &["src"]);
    let run = |attempt| StepRun { n: 3, attempt: Some(attempt) };
    let refused = Reason::new(Code::GitDirChanged, "it changed `.git/config`;  look at it");
    let put = |attempt, why| {
        put_aside_and_reset(&bench.place, run(attempt), &counted, why, &bench.client()).unwrap().0
    };
    assert!(put(1, None).is_none());
    let commit = put(1, Some(&refused)).unwrap().commit;
    assert!(put(1, Some(&refused)).is_none(), "it is said");
    let found = || heads(&bench.place, &bench.client()).unwrap().asides;
    let told = Reason::new(Code::GitDirChanged, "it changed `.git/config`; look at it");
    assert_eq!(
        found(),
        [Aside { step: 3, attempt: Some(1), commit: commit.clone(), refused: Some(told), is_own: true }]
    );
    bench.agent("echo half > src/one.txt");
    let later = put(2, None).unwrap().commit;
    assert_eq!(
        found(),
        [Aside { step: 3, attempt: Some(2), commit: later.clone(), refused: None, is_own: true }]
    );
    assert_eq!(bench.user(&format!("git log -1 --format=%P {later}")), format!("{} {commit}", bench.base));
    // A parked attempt gets back what is of it, and no other attempt does.
    assert!(!lay_out(&bench.place, run(1), &bench.client()).unwrap());
    assert!(lay_out(&bench.place, run(2), &bench.client()).unwrap());
    assert_eq!(bench.agent("cat src/one.txt"), "half");
}

#[test]
fn a_message_of_a_commit_is_no_reference_of_the_engine() {
    let bench = Bench::made();
    let forged = "0123456789012345678901234567890123456789";
    bench.agent(&format!(
        "git commit -q --allow-empty -m one -m '{forged} {forged} refs/engine/r1/ws-a/head r1.ws-a ws-a/01'"
    ));
    assert_eq!(bench.heads()[0], Some(bench.base.clone()));
}
