//! `engine runs merge` that loses a person's work, leaves half of a merge behind, or moves a branch that it did not look at.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::checkout::{BEFORE, CHECK, Checkout, FAILS, MENDS, WAITS};
use crate::crash::traced;
use crate::model::stopped_at;
use crate::support::{Said, eventually, processes_with};

const MENDED: &str = "def add(a, b):\n    return a + b\n";

const MERGE: [&str; 3] = ["runs", "merge", "r"];

/// A checkout with a run `r` that has succeeded.
fn succeeded() -> Checkout {
    let checkout = Checkout::new();
    checkout.run(MENDS, &["--test", CHECK]).exits(0);
    // A user without a name makes one call of git more.
    checkout.git(&["config", "user.name", "a"]);
    checkout.git(&["config", "user.email", "a@example.org"]);
    checkout
}

impl Checkout {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.project.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.project.path(name)).unwrap()
    }

    /// Commits a file on the branch of the checkout.
    fn commits_file(&self, name: &str, text: &str) {
        self.write(name, text);
        self.git(&["add", name]);
        self.git(&["commit", "-q", "-m", name]);
    }

    fn commit_of(&self, name: &str) -> String {
        self.git(&["rev-parse", name]).trim().to_owned()
    }

    /// References, HEAD, what git sees of the files, and what they hold.
    fn state(&self) -> Vec<String> {
        let git = |args: &[&str]| self.git(args);
        let files = git(&["ls-files", "-z", "--cached", "--others"]);
        let files = files.split('\0').filter(|name| !name.is_empty() && !name.starts_with(".engine/"));
        let files = files.map(|name| {
            format!("{name}: {}", std::fs::read_to_string(self.project.path(name)).unwrap_or_default())
        });
        let told = [git(&["for-each-ref"]), self.read(".git/HEAD"), git(&["status", "--porcelain"])];
        files.chain(told).collect()
    }

    /// Merges, is refused with these words, and leaves everything as it was.
    #[track_caller]
    fn refuses(&self, args: &[&str], words: &[&str]) -> String {
        let before = self.state();
        let said = self.engine(&[&MERGE, args].concat());
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        for word in words {
            assert!(said.err.contains(word), "no `{word}` in {}", said.err);
        }
        assert_eq!(self.state(), before, "{}", said.err);
        self.leaves_nothing();
        said.out
    }

    /// No lock file, and no place for merges.
    #[track_caller]
    fn leaves_nothing(&self) {
        assert!(!self.project.root("state/runs/r/merge").exists());
        assert!(!self.project.root("state/runs/r/merge.json").exists());
        let find = std::process::Command::new("find")
            .arg(self.project.path(".git"))
            .args(["-name", "*.lock"])
            .output();
        assert_eq!(Said::of(&find.unwrap()).out, "");
    }
}

#[test]
fn a_branch_that_has_not_moved_is_fast_forwarded_with_its_checkout() {
    let checkout = succeeded();
    checkout.write("other.txt", "mine\n");
    checkout.write("new", "mine too\n");
    let head = checkout.commit_of("engine/r/ws-task");
    let said = checkout.engine(&MERGE);
    assert_eq!(said.exits(0), format!("`main` is now at {}\n", &head[..12]));
    assert_eq!(
        (checkout.read("calc.py"), checkout.read("other.txt")),
        (MENDED.to_owned(), "mine\n".to_owned())
    );
    assert_eq!(checkout.commit_of("main"), head);
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), " M other.txt\n");
    assert_eq!(
        checkout.git(&["log", "-1", "--walk-reflogs", "--format=%gs", "main"]),
        format!("merge {head}: Fast-forward\n")
    );
    // Said again, and by a run that a person has built upon since.
    checkout.commits_file("later", "x");
    assert_eq!(checkout.engine(&MERGE).exits(0), "`main` has all of `r` already\n");
    checkout.leaves_nothing();
    checkout.git(&["fsck", "--no-dangling", "--strict"]);
}

#[test]
fn what_was_taken_is_merged_and_not_what_the_branch_of_the_run_is_at() {
    let checkout = succeeded();
    let head = checkout.commit_of("engine/r/ws-task");
    checkout.git(&["branch", "-f", "engine/r/ws-task", "main"]);
    checkout.engine(&MERGE).exits(0);
    assert_eq!(checkout.commit_of("main"), head);
}

#[test]
fn a_branch_that_has_moved_gets_a_merge_commit_of_the_user() {
    let checkout = succeeded();
    checkout.commits_file("other.txt", "ours\n");
    let (main, head) = (checkout.commit_of("main"), checkout.commit_of("engine/r/ws-task"));
    let told = checkout.engine(&[&MERGE, ["--json"].as_slice()].concat()).json();
    assert_eq!(
        told,
        json!({"schema_version": 1, "run_id": "r", "into": "refs/heads/main", "commit": head, "outcome": "merged",
            "from": main, "to": checkout.commit_of("main"), "conflicts": [], "left_out": []})
    );
    assert_eq!(
        (checkout.read("calc.py"), checkout.read("other.txt")),
        (MENDED.to_owned(), "ours\n".to_owned())
    );
    assert_eq!(
        checkout.git(&["log", "-1", "--format=%P%n%s%n%ae%n%(trailers)"]),
        format!("{main} {head}\nMerge run r\na@example.org\nEngine-Run: r\n\n")
    );
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), "");
    checkout.leaves_nothing();
    checkout.git(&["fsck", "--no-dangling", "--strict"]);
}

#[test]
fn conflicts_are_named_by_path_and_change_nothing() {
    let checkout = succeeded();
    checkout.commits_file("calc.py", "def add(a, b):\n    return b - a\n");
    checkout.write("other.txt", "mine\n");
    let out = checkout
        .refuses(&[], &["`r` and `main` do not merge: calc.py (content)", "git switch main && git merge "]);
    assert_eq!(out, "");
    let told: Value = serde_json::from_str(&checkout.refuses(&["--json"], &[])).unwrap();
    assert_eq!(
        (&told["outcome"], &told["conflicts"]),
        (&json!("conflict"), &json!([{"type": "content", "path": "calc.py"}]))
    );
    assert_eq!(told["from"], told["to"]);
}

#[test]
fn uncommitted_work_in_the_way_is_named_and_stays() {
    let checkout = succeeded();
    checkout.write("calc.py", "mine\n");
    checkout.refuses(&[], &["calc.py", "not committed", "`main`"]);
    checkout.git(&["add", "calc.py"]);
    checkout.refuses(&[], &["calc.py"]);
    checkout.git(&["reset", "-q", "--hard"]);
    // A merge that is not finished.
    checkout.git(&["branch", "other"]);
    checkout.commits_file("other.txt", "a\n");
    checkout.git(&["switch", "-q", "other"]);
    checkout.commits_file("other.txt", "b\n");
    let merge = std::process::Command::new("git")
        .args(["merge", "-q", "main"])
        .current_dir(checkout.project.dir())
        .output();
    assert!(!merge.unwrap().status.success());
    checkout.refuses(&[], &["unfinished merge"]);
}

#[test]
fn files_that_git_does_not_know_are_not_overwritten_either() {
    let checkout = Checkout::new();
    let edit = format!("{MENDS}; echo theirs > new; echo theirs > ignored");
    checkout.run(&edit, &["--files", "calc.py", "new", "ignored", "--test", CHECK]).exits(0);
    checkout.write("new", "mine\n");
    checkout.refuses(&[], &["new"]);
    std::fs::remove_file(checkout.project.path("new")).unwrap();
    checkout.write("ignored", "mine\n");
    checkout.write(".git/info/exclude", "ignored\n");
    checkout.refuses(&[], &["ignored"]);
    assert_eq!(checkout.read("ignored"), "mine\n");
    // Nor by settings of the branch.
    for setting in
        ["merge.autoStash=true", "branch.main.mergeOptions=--overwrite-ignore --squash --quiet --autostash"]
    {
        let (name, value) = setting.split_once('=').unwrap();
        checkout.git(&["config", name, value]);
        checkout.refuses(&[], &["ignored"]);
    }
    std::fs::remove_file(checkout.project.path("ignored")).unwrap();
    checkout.engine(&MERGE).exits(0);
    assert_eq!(checkout.commit_of("main"), checkout.commit_of("engine/r/ws-task"));
}

#[test]
fn another_branch_moves_alone_or_with_the_work_tree_that_has_it() {
    let checkout = succeeded();
    let head = checkout.commit_of("engine/r/ws-task");
    checkout.git(&["branch", "free"]);
    let beside = checkout.out("beside");
    checkout.git(&["worktree", "add", "-q", "-b", "linked", beside.to_str().unwrap()]);
    let before = checkout.git(&["status", "--porcelain"]);
    for branch in ["free", "refs/heads/linked"] {
        checkout.engine(&[&MERGE, ["--into", branch].as_slice()].concat()).exits(0);
        assert_eq!(checkout.commit_of(branch), head);
    }
    assert_eq!(checkout.git(&["log", "-1", "--walk-reflogs", "--format=%gs", "free"]), "merge run r\n");
    assert_eq!(
        (checkout.read("calc.py"), checkout.git(&["status", "--porcelain"])),
        (BEFORE.to_owned(), before)
    );
    assert_eq!(std::fs::read_to_string(beside.join("calc.py")).unwrap(), MENDED);
    // One that leads to another branch stays what it is.
    checkout.git(&["branch", "real"]);
    checkout.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/real"]);
    checkout.engine(&[&MERGE, ["--into", "alias"].as_slice()].concat()).exits(0);
    assert_eq!(checkout.git(&["symbolic-ref", "refs/heads/alias"]), "refs/heads/real\n");
    assert_eq!(checkout.commit_of("real"), head);
    // Its uncommitted work counts, not that of the checkout; and one that is gone is not passed over.
    checkout.git_in(&beside, &["reset", "-q", "--hard", "main"]);
    std::fs::write(beside.join("calc.py"), "mine\n").unwrap();
    checkout.refuses(&["--into", "linked"], &["calc.py", "beside"]);
    std::fs::remove_dir_all(&beside).unwrap();
    checkout.refuses(&["--into", "linked"], &["beside", "missing"]);
}

#[test]
fn a_branch_that_cannot_be_meant_is_refused() {
    let checkout = succeeded();
    checkout.refuses(&["--into", "none"], &["there is no branch `none`"]);
    checkout.refuses(&["--into", "main~0"], &["there is no branch `main~0`"]);
    checkout.refuses(&["--into", "m*"], &["there is no branch `m*`"]);
    checkout.refuses(&["--into", "engine/r/ws-task"], &["a branch of the engine"]);
    checkout.git(&["checkout", "-q", "--detach"]);
    checkout.refuses(&[], &["on no branch", "--into"]);
    checkout.git(&["switch", "-q", "--orphan", "empty"]);
    checkout.refuses(&[], &["no branch `empty` with a commit"]);
    checkout.git(&["commit", "-q", "--allow-empty", "-m", "nothing in common"]);
    checkout.refuses(&[], &["nothing in common"]);
    // It would come back to the commit that it began with.
    checkout.git(&["switch", "-q", "main"]);
    for text in ["1", "2"] {
        checkout.commits_file("other.txt", text);
    }
    let rebase = ["-c", "sequence.editor=sed -i s/pick/edit/", "rebase", "-q", "-i", "HEAD~1"];
    checkout.git(&rebase);
    checkout.refuses(&["--into", "main"], &["a rebase of `main` is under way"]);
    checkout.git(&["rebase", "--abort"]);
    checkout.git(&["bisect", "start", "-q"]);
    checkout.git(&["checkout", "-q", "--detach"]);
    checkout.refuses(&["--into", "main"], &["a bisection of `main` is under way"]);
}

#[test]
fn only_a_run_that_has_succeeded_is_merged_unless_a_person_insists() {
    let checkout = Checkout::new();
    checkout.refuses(&[], &["there is no run `r`"]);
    let running = checkout.start_editing(
        &["run", "--run", "r", "--task", "t", "--files", "calc.py", "--tool", "ed", "--test", "false"],
        &format!("{WAITS}; {FAILS}"),
    );
    eventually("the edit has begun", || checkout.out("begun").exists());
    checkout.refuses(&["--force"], &["has not ended", "engine runs events r --follow"]);
    std::fs::write(checkout.out("go"), "").unwrap();
    let _ = running.wait().exits(1);
    checkout.refuses(&[], &["has not succeeded: failed", "--force"]);
    checkout.engine(&["runs", "quarantine", "r", "--reason", "copied"]).exits(0);
    checkout.refuses(&["--force"], &["is quarantined: copied", "engine runs quarantine r --ack"]);
    checkout.engine(&["runs", "quarantine", "r", "--ack"]).exits(0);
    checkout.engine(&[&MERGE, ["--force"].as_slice()].concat()).exits(0);
    assert!(checkout.read("calc.py").contains("a * b"), "{}", checkout.read("calc.py"));
    assert_eq!(checkout.commit_of("main"), checkout.commit_of("refs/engine/r/ws-task/head"));
}

#[test]
fn a_run_whose_commits_are_gone_or_that_another_process_holds_is_refused() {
    let checkout = succeeded();
    let running = stopped_at(&checkout.project, &MERGE, 1).ok().unwrap();
    checkout.refuses(&[], &["another process works on the run `r`"]);
    let said = checkout.engine(&["runs", "clean", "r"]);
    assert!(
        said.code == 1 && said.out.contains("in use  left alone: another process"),
        "{}{}",
        said.out,
        said.err
    );
    running.signal(Signal::CONT);
    let _ = running.wait().exits(0);
    assert_eq!(checkout.read("calc.py"), MENDED);
    checkout.git(&["reset", "-q", "--hard", "HEAD~1"]);
    checkout.engine(&["runs", "clean", "r", "--branches"]).exits(0);
    for args in [["reflog", "expire", "--expire=now", "--all"].as_slice(), &["prune", "--expire=now"]] {
        checkout.git(args);
    }
    checkout.refuses(&[], &["is gone"]);
}

/// The steps of a merge, with the number of the call that moves the branch.
fn steps(checkout: &Checkout, args: &[&str], call: &str) -> (u64, u64) {
    let trace = checkout.out("trace");
    let mut command = checkout.command(args, "");
    Said::of(&command.env("ENGINE_TEST_TRACE", &trace).output().unwrap()).exits(0);
    let steps = traced(&trace);
    std::fs::remove_file(trace).unwrap();
    let found = steps.iter().find(|step| step.kind == "Git" && step.path == call);
    (found.unwrap_or_else(|| panic!("{steps:#?}")).number, steps.last().unwrap().number)
}

#[test]
fn a_branch_that_moves_between_the_look_and_the_merge_is_left() {
    let checkout = succeeded();
    checkout.commits_file("other.txt", "1\n");
    checkout.git(&["branch", "side", "HEAD~1"]);
    let before = checkout.commit_of("main");
    let reset = |commit: &str| {
        checkout.git(&["switch", "-q", "main"]);
        checkout.git(&["reset", "-q", "--hard", commit]);
    };
    let (call, _) = steps(&checkout, &MERGE, "merge");
    for meanwhile in [
        // Onwards, backwards, to another commit, and to another branch.
        ["commit", "-q", "--allow-empty", "-m", "mine"].as_slice(),
        &["reset", "-q", "--hard", "HEAD~1"],
        &["commit", "-q", "--amend", "-m", "amended"],
        &["switch", "-q", "side"],
        &["checkout", "-q", "--detach", "side"],
    ] {
        reset(&before);
        checkout.write("new", "mine\n");
        let running = stopped_at(&checkout.project, &MERGE, call).ok().unwrap();
        checkout.git(meanwhile);
        let state = checkout.state();
        running.signal(Signal::CONT);
        let said = running.wait();
        assert!(
            said.code == 1 && said.err.contains("was moved meanwhile"),
            "{meanwhile:?}: {}{}",
            said.out,
            said.err
        );
        assert_eq!(checkout.state(), state, "{meanwhile:?}");
    }
    // One that is checked out nowhere.
    reset(&before);
    let args = [&MERGE, ["--into", "side"].as_slice()].concat();
    let (call, _) = steps(&checkout, &args, "update-ref");
    checkout.git(&["branch", "-f", "side", "main~1"]);
    let running = stopped_at(&checkout.project, &args, call).ok().unwrap();
    checkout.git(&["branch", "-f", "side", "main"]);
    let state = checkout.state();
    running.signal(Signal::CONT);
    let said = running.wait();
    assert!(said.code == 1 && said.err.contains("was moved meanwhile"), "{}{}", said.out, said.err);
    assert_eq!(checkout.state(), state);
}

#[test]
fn a_merge_that_is_killed_before_a_step_leaves_the_old_branch_or_the_new_one_and_is_said_again() {
    let checkout = succeeded();
    checkout.commits_file("other.txt", "1\n");
    checkout.write("new", "mine\n");
    let before = checkout.commit_of("main");
    let (call, last) = steps(&checkout, &MERGE, "merge");
    let tree = checkout.git(&["rev-parse", "main^{tree}"]);
    for step in 1..=last {
        checkout.git(&["reset", "-q", "--hard", &before]);
        let killed =
            checkout.command(&MERGE, "").env("ENGINE_TEST_KILL_AT", step.to_string()).output().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9), "step {step}");
        let is_old = checkout.commit_of("main") == before;
        assert_eq!(is_old, step <= call, "step {step} of {last}");
        checkout.engine(&MERGE).exits(0);
        assert_eq!(checkout.git(&["rev-parse", "main^{tree}"]), tree, "step {step}");
        assert_eq!(
            checkout.git(&["status", "--porcelain"]).replace("?? .engine/\n", ""),
            "?? new\n",
            "step {step}"
        );
        checkout.leaves_nothing();
    }
}

#[test]
fn no_hook_runs_and_the_checkout_keeps_its_line_breaks() {
    let checkout = Checkout::new();
    checkout.git(&["config", "core.autocrlf", "true"]);
    checkout.run(MENDS, &["--test", CHECK]).exits(0);
    let hook = checkout.project.path(".git/hooks/post-merge");
    std::fs::write(&hook, "#!/bin/sh\ntouch hooked\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    checkout.engine(&MERGE).exits(0);
    assert!(!checkout.project.path("hooked").exists());
    assert_eq!(checkout.read("calc.py"), MENDED.replace('\n', "\r\n"));
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), "");
}

/// A run `r` that has succeeded, whose files include one with a filter: it says that it writes, and waits for the word of the test.
fn slow() -> Checkout {
    let checkout = Checkout::new();
    checkout.git(&["config", "filter.slow.smudge", SLOW]);
    checkout.git(&["config", "filter.slow.clean", "cat"]);
    checkout.git(&["config", "filter.slow.required", "true"]);
    checkout.write(".gitattributes", "slow.txt filter=slow\n");
    checkout.write("gone.txt", "gone\n");
    checkout.git(&["add", ".gitattributes", "gone.txt"]);
    checkout.commits_file("slow.txt", "slow\n");
    std::fs::write(checkout.out("go"), "").unwrap();
    let edit = format!("{MENDS}; mkdir a; echo theirs > a/new; rm gone.txt; echo more >> slow.txt");
    let files = ["--files", "calc.py", "a/new", "gone.txt", "slow.txt", "--test", CHECK];
    checkout.run(&edit, &files).exits(0);
    checkout
}

const SLOW: &str = "text=$(cat); touch \"$OUT/writes\"; while [ ! -e \"$OUT/go\" ]; do sleep 0.02; done; \
    if [ -e \"$OUT/fails\" ]; then printf '\\tat line 1\\n' >&2; exit 1; fi; \
    case $text in *more*) if [ -e \"$OUT/fails-new\" ]; then printf '\\tat line 1\\n' >&2; exit 1; fi;; esac; printf '%s\\n' \"$text\"";

impl Checkout {
    /// Starts a merge, and waits until git is in the middle of writing the checkout.
    fn in_the_middle(&self) -> crate::support::Running {
        for name in ["go", "writes"] {
            let _ = std::fs::remove_file(self.out(name));
        }
        let running = self.start_editing(&MERGE, "exit 9");
        eventually("git writes", || self.out("writes").exists());
        assert_eq!(self.read("calc.py"), MENDED);
        assert_eq!(self.read("a/new"), "theirs\n");
        assert!(!self.project.path("gone.txt").exists() && !self.project.path("slow.txt").exists());
        running
    }

    /// Waits until nothing of a merge that was ended is alive, and lets its lock file get old.
    fn is_over(&self) {
        std::fs::write(self.out("go"), "").unwrap();
        let all = || processes_with(&self.out("").display().to_string());
        eventually("git has ended", || all().is_empty());
        let lock = std::fs::File::open(self.project.path(".git/index.lock")).unwrap();
        lock.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
}

#[test]
fn a_merge_that_is_ended_while_git_writes_is_completed_when_it_is_said_again() {
    let checkout = slow();
    let before = checkout.commit_of("main");
    let head = checkout.commit_of("engine/r/ws-task");
    for (signals, codes) in [
        ([Signal::KILL].as_slice(), [-9].as_slice()),
        // A person who insists; any of them may be the first that is heard.
        (&[Signal::INT, Signal::TERM, Signal::HUP], &[130, 143, 129]),
    ] {
        checkout.git(&["reset", "-q", "--hard", &before]);
        checkout.write("mine", "mine\n");
        checkout.write("other.txt", "mine too\n");
        let running = checkout.in_the_middle();
        signals.iter().for_each(|signal| running.signal(*signal));
        let said = running.wait();
        assert!(codes.contains(&said.code), "{}: {}{}", said.code, said.out, said.err);
        checkout.is_over();
        // As git leaves a file when it is killed within it.
        checkout.write("a/new", "the");
        let said = checkout.engine(&MERGE);
        assert_eq!(said.exits(0), format!("`main` is now at {}\n", &head[..12]));
        assert_eq!(checkout.commit_of("main"), head);
        assert_eq!(
            (checkout.read("a/new"), checkout.read("slow.txt")),
            ("theirs\n".to_owned(), "slow\nmore\n".to_owned())
        );
        assert_eq!(
            (checkout.read("other.txt"), checkout.read("mine")),
            ("mine too\n".to_owned(), "mine\n".to_owned())
        );
        assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), " M other.txt\n");
        checkout.leaves_nothing();
    }
}

#[test]
fn a_merge_that_was_killed_before_the_branch_moved_is_made_again_where_a_file_gives_way_to_a_directory() {
    let checkout = Checkout::new();
    checkout.write("d", "a file\n");
    checkout.git(&["add", "d"]);
    checkout.write("e", "a file\n");
    checkout.git(&["add", "e"]);
    checkout.commits_file("f", "f\n");
    let edit = format!("{MENDS}; rm d e; mkdir d; echo x > d/x; ln -s f e; chmod +x f");
    checkout.run(&edit, &["--files", "calc.py", "d", "d/**", "e", "f", "--test", CHECK]).exits(0);
    let (from, to) = (checkout.commit_of("main"), checkout.commit_of("engine/r/ws-task"));
    let mark = json!({"schema_version": 1, "branch": "refs/heads/main", "from": from, "to": to});
    for is_indexed in [true, false] {
        checkout.git(&["reset", "-q", "--hard", &from]);
        checkout.write("other.txt", "mine\n");
        checkout.git(&["add", "other.txt"]);
        std::fs::write(checkout.project.root("state/runs/r/merge.json"), mark.to_string()).unwrap();
        checkout.git(&["read-tree", "-m", "-u", &from, &to]);
        if !is_indexed {
            checkout.git(&["read-tree", &from]);
        }
        checkout.engine(&MERGE).exits(0);
        assert_eq!(checkout.commit_of("main"), to);
        let status = if is_indexed { "M  other.txt\n" } else { " M other.txt\n" };
        assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), status);
        checkout.leaves_nothing();
    }
}

#[test]
fn what_a_person_writes_after_a_merge_was_killed_is_in_the_way_and_the_rest_is_undone() {
    let checkout = slow();
    let state = checkout.state();
    let running = checkout.in_the_middle();
    running.signal(Signal::KILL);
    let _ = running.wait();
    checkout.is_over();
    checkout.write("calc.py", "mine\n");
    let said = checkout.engine(&MERGE);
    assert!(
        said.code == 1 && said.err.contains("in the way of `main`: calc.py;"),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(checkout.read("calc.py"), "mine\n");
    assert!(!checkout.project.path("a").exists(), "a directory of the merge is left");
    checkout.git(&["checkout", "-q", "--", "calc.py"]);
    assert_eq!(checkout.state(), state);
    checkout.leaves_nothing();
    checkout.engine(&MERGE).exits(0);
    assert_eq!(checkout.read("calc.py"), MENDED);
}

#[test]
fn a_signal_does_not_end_a_merge_while_git_writes() {
    let checkout = slow();
    let running = checkout.in_the_middle();
    running.signal(Signal::INT);
    running.signal(Signal::HUP);
    std::fs::write(checkout.out("go"), "").unwrap();
    let said = running.wait();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(checkout.commit_of("main"), checkout.commit_of("engine/r/ws-task"));
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), "");
    checkout.leaves_nothing();
}

#[test]
fn a_filter_that_fails_leaves_the_checkout_as_it_was_or_says_what_to_do() {
    let checkout = slow();
    std::fs::write(checkout.out("fails-new"), "").unwrap();
    checkout.refuses(&[], &["git could not write the checkout", "which is as it was"]);
    std::fs::write(checkout.out("fails"), "").unwrap();
    let said = checkout.engine(&MERGE);
    assert!(said.code == 1 && said.err.contains("git checkout -- slow.txt"), "{}{}", said.out, said.err);
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), " D slow.txt\n");
    for name in ["fails", "fails-new"] {
        std::fs::remove_file(checkout.out(name)).unwrap();
    }
    checkout.engine(&MERGE).exits(0);
    assert_eq!(checkout.read("slow.txt"), "slow\nmore\n");
    checkout.leaves_nothing();
}

#[test]
fn what_git_refuses_is_a_refusal_in_plain_words() {
    let checkout = succeeded();
    let lock = checkout.project.path(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    let said = checkout.engine(&MERGE);
    assert!(said.code == 1 && said.err.contains("another git works on `"), "{}{}", said.out, said.err);
    assert!(said.err.contains("/.git/index.lock` is there"), "{}", said.err);
    assert!(lock.exists(), "it may be of a git that works there");
    std::fs::remove_file(&lock).unwrap();
    // git takes the lock of the branch once it has written the files.
    let lock = checkout.project.path(".git/refs/heads/main.lock");
    std::fs::write(&lock, "").unwrap();
    let said = checkout.engine(&MERGE);
    assert!(said.code == 1 && said.err.contains("main.lock` is there"), "{}{}", said.out, said.err);
    assert_eq!(checkout.git(&["status", "--porcelain", "-uno"]), "");
    assert_eq!(checkout.read("calc.py"), BEFORE);
    std::fs::remove_file(&lock).unwrap();
    // A driver that crashes.
    checkout.write(".gitattributes", "calc.py merge=bad\n");
    checkout.git(&["config", "merge.bad.driver", "kill -9 $$"]);
    checkout.git(&["add", ".gitattributes"]);
    checkout.commits_file("calc.py", "def add(a, b):\n    return b - a\n");
    checkout.refuses(&[], &["git could not merge `r` into `main`, which is as it was", "died of signal 9"]);
}

#[test]
fn a_refusal_is_a_document_too() {
    let checkout = succeeded();
    checkout.write("calc.py", "mine\n");
    let told: Value = serde_json::from_str(&checkout.refuses(&["--json"], &["calc.py"])).unwrap();
    assert_eq!(
        (&told["run_id"], &told["outcome"], &told["reason"]["code"]),
        (&json!("r"), &json!("refused"), &json!("local_changes"))
    );
    let message = told["reason"]["message"].as_str().unwrap();
    assert!(message.contains("calc.py"), "{message}");
    // And one of a run that merges at its end.
    let args = ["run", "--run", "s", "--task", "t", "--files", "calc.py", "--tool", "ed", "--test", CHECK];
    let said = checkout.engine_editing(&[args.as_slice(), &["--merge", "--json"]].concat(), MENDS);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["merge"]["outcome"], &last["merge"]["reason"]["code"]),
        (&json!("refused"), &json!("local_changes")),
        "{last}"
    );
}
