//! The references of runs.

use super::super::refs::{check_names, delete, delete_of_run, hold_base};
use super::Bench;
use crate::job::Code;

#[test]
fn a_name_in_the_way_of_a_run_is_told_before_anything_is_made() {
    let bench = Bench::new();
    let code = |base_is_ours| {
        check_names(&bench.place.repo, "r1", base_is_ours, &bench.client()).err().map(|reason| reason.code)
    };
    assert_eq!(code(false), None);
    for (name, want) in [
        ("refs/heads/engine", Some(Code::BranchInUse)),
        ("refs/heads/engine/r1", Some(Code::BranchInUse)),
        ("refs/engine/r1", Some(Code::BranchInUse)),
        ("refs/heads/engine/r1/ws-z", Some(Code::IdTaken)),
        ("refs/engine/r1/ws-z/head", Some(Code::IdTaken)),
        ("refs/engine/r1/base", Some(Code::IdTaken)),
        ("refs/heads/engine/r11/ws-z", None),
        ("refs/heads/engines", None),
    ] {
        bench.user(&format!("git update-ref {name} HEAD"));
        assert_eq!(code(false), want, "{name}");
        assert_eq!(code(true), want.filter(|_| !name.ends_with("/base")), "{name}");
        bench.user(&format!("git update-ref -d {name}"));
    }
}

#[test]
fn the_base_of_a_run_is_held_once_and_its_references_end_with_it() {
    let bench = Bench::made();
    let hold = |commit: &str| hold_base(&bench.place.repo, ("r1", commit), (&bench.client(), true));
    hold(&bench.base).unwrap();
    hold(&bench.base).unwrap();
    bench.agent("echo x > src/new.txt");
    let commit = bench.take("edit", 1);
    assert_eq!(hold(&commit).unwrap_err().code, Code::RefMoved);
    bench.user("git update-ref refs/engine/r11/ws-b/head HEAD");
    let names = || {
        bench.user(
            "git for-each-ref --format='%(refname:lstrip=1)' refs/engine refs/heads/engine | tr '\n' ' '",
        )
    };
    assert_eq!(delete(&bench.place.repo, &["refs/engine/r1/base".to_owned()], &bench.client()).unwrap(), 1);
    assert_eq!(names(), "engine/r1/ws-a/head engine/r11/ws-b/head heads/engine/r1/ws-a");
    hold(&bench.base).unwrap();
    let all = || delete_of_run(&bench.place.repo, "r1", &bench.client()).unwrap();
    assert_eq!((all(), all()), (2, 0));
    assert_eq!(names(), "engine/r11/ws-b/head heads/engine/r1/ws-a");
}
