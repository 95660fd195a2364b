//! No reason code without a snapshot: the table of the codes, compared with those that the snapshots show.

use std::collections::BTreeSet;

use engine::job::Code;

/// Codes that no snapshot shows, each with why. One that is shown after all is to go from here.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("given_up", "the tests of workstreams compare it, without a snapshot"),
    ("incomplete", "the tests of workstreams compare it, without a snapshot"),
    ("integration_failed", "the tests of workstreams compare it, without a snapshot"),
    ("run_quarantined", "`engine run --resume` says it on standard error, and has no document of it"),
    ("baseline_failed", "the tests of workstreams compare it, without a snapshot"),
    ("base_missing", "`engine run` says it on standard error, and has no document of it"),
    ("environment_of_checkout", "`engine run` says it on standard error, and has no document of it"),
    ("id_busy", "a process has to hold the lease of an id for all the patience of `submit`"),
    ("internal_error", "no way is known: the state table refuses a line"),
    ("home_not_writable", "the home has to be mounted read-only: root may write everywhere else"),
    ("interrupted", "a signal has to come while git is asked"),
    ("job_file_not_moved", "the directory has to fail between two steps of a start"),
    ("key_busy", "a process has to hold a key for all the patience of `submit`"),
    ("killed", "a process of recovery has to be killed"),
    ("not_found", "`cancel` and `requeue` say it as what they did"),
    ("lock_not_released", "the holder of a lock has to run on another host"),
    ("lost", "the ledger of usage shows it, and no command does"),
    ("left_alive", "a process of another user has to outlive the tool"),
    ("repository_not_trusted", "the repository has to belong to another user"),
    ("root_not_readable", "the root has to belong to another user"),
    ("start_failed", "the kernel has to refuse a process or a descriptor"),
    ("attempt_limit", "the tests of workstreams compare it, without a snapshot"),
    ("check_killed", "the tests of workstreams compare it, without a snapshot"),
    ("fix_disabled", "the tests of workstreams compare it, without a snapshot"),
    ("fix_limit", "the tests of workstreams compare it, without a snapshot"),
    ("no_progress", "the tests of workstreams compare it, without a snapshot"),
    ("setup_failed", "the tests of workstreams compare it, without a snapshot"),
    ("step_repeats", "the tests of workstreams compare it, without a snapshot"),
    ("step_canceled", "the tests of workstreams compare it, without a snapshot"),
    ("tool_missing", "the tests of workstreams compare it, without a snapshot"),
    ("check_changed_files", "a prompt and a warning say it, and the record of the check says that it passed"),
    ("usage", "the message stands on standard error, and `--json` has no document of it"),
    ("work_tree_not_writable", "the worktree has to be mounted read-only: root may write everywhere else"),
    ("base_conflict", "no command runs several workstreams yet"),
    ("integration_moved", "no command runs several workstreams yet"),
    ("branch_in_use", "the tests of workstreams compare it, without a snapshot"),
    ("gate_tampered", "the tests of workstreams compare it, without a snapshot"),
    ("git_dir_changed", "the tests of workstreams compare it, without a snapshot"),
    ("git_failed", "the tests of workstreams compare it, without a snapshot"),
    ("base_conflict", "no command runs several workstreams yet"),
    ("integration_moved", "no command runs several workstreams yet"),
    ("git_killed", "its conductor tries again, and no one kills it so often"),
    ("git_too_old", "the tests of workstreams compare it, without a snapshot"),
    ("patch_policy", "the tests of workstreams compare it, without a snapshot"),
    ("merge_unfinished", "the tests of workstreams compare it, without a snapshot"),
    ("ref_moved", "the tests of workstreams compare it, without a snapshot"),
    ("submodule_changed", "the tests of workstreams compare it, without a snapshot"),
    ("tests_vanished", "the tests of workstreams compare it, without a snapshot"),
    ("tree_not_clean", "the tests of workstreams compare it, without a snapshot"),
    ("worktree_locked", "the tests of workstreams compare it, without a snapshot"),
    ("worktree_place", "the tests of workstreams compare it, without a snapshot"),
];

/// The word of a literal that a text begins with, if it is one that a program may compare.
fn word(text: &str) -> Option<&str> {
    let (word, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    let fits = |c: char| c.is_ascii_lowercase() || c == '_';
    (!word.is_empty() && word.chars().all(fits)).then_some(word)
}

fn behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1)
}

/// The codes that a snapshot shows as codes: in documents, and in front of what `show` tells of a reason.
fn of_snapshot(text: &str) -> BTreeSet<String> {
    let keys = ["\"code\":", "\"reason_code\":"];
    let mut codes: BTreeSet<String> =
        keys.iter().flat_map(|key| behind(text, key)).filter_map(word).map(str::to_owned).collect();
    let reasons = behind(text, "|   reason       ").filter_map(|rest| rest.split_once(": "));
    codes.extend(reasons.map(|(code, _)| code.to_owned()).filter(|code| !code.contains(':')));
    codes
}

fn of_snapshots() -> BTreeSet<String> {
    let entries = std::fs::read_dir(super::DIR).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|extension| extension == "snap"));
    texts.flat_map(|path| of_snapshot(&std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn no_code_is_without_a_snapshot_or_a_reason_why() {
    let made: BTreeSet<String> = Code::ALL.iter().map(|row| row.code.to_string()).collect();
    let shown = of_snapshots();
    let excused: BTreeSet<String> = NOT_SHOWN.iter().map(|(code, _)| (*code).to_owned()).collect();
    let missing: Vec<&String> =
        made.iter().filter(|code| !shown.contains(*code) && !excused.contains(*code)).collect();
    assert!(missing.is_empty(), "no snapshot shows these codes, and nothing says why: {missing:#?}");
    let idle: Vec<&String> =
        excused.iter().filter(|code| shown.contains(*code) || !made.contains(*code)).collect();
    assert!(idle.is_empty(), "these are shown, or made no more: {idle:#?}");
    let unknown: Vec<&String> = shown.iter().filter(|code| !made.contains(*code)).collect();
    assert!(unknown.is_empty(), "the snapshots show words that are no codes: {unknown:#?}");
}

#[test]
fn codes_are_found_in_snapshots() {
    let shown = of_snapshot(
        "|   reason       one: why\n|   reason       signal:9: x\n\"code\": \"two\"\n\"code\":\"three\",\"code\":null",
    );
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}
