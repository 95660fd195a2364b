//! A conductor that dies between the end of a step and its judgement, or before it has taken what a person did: what the step did
//! that it must not is known all the same, and a person's work is not lost.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::checkout::{BEFORE, CHECK, Checkout, FAILS, JOB, MENDS};
use crate::crash::{Step, traced};
use crate::support::{Said, eventually, processes_with};
use crate::workstream_crash::{is_just_before, sample_of};

const RUN: [&str; 7] = ["run", "--run", "r", "--task", "mend", "--files", "calc.py"];
const RESUME: [&str; 3] = ["run", "--resume", "r"];

/// Something that happens to the first conductor at one of its durable steps.
fn at_step(
    checkout: &Checkout,
    args: &[&str],
    edit: &str,
    (variable, number): (&str, u64),
) -> std::process::Command {
    let turns = checkout.out(&format!("turns-{number}-{variable}"));
    std::fs::create_dir(&turns).unwrap();
    let mut command = checkout.command(args, edit);
    command.env("ENGINE_TEST_AIM", format!("conduct:1:{}", turns.display()));
    command.env("ENGINE_TEST_TRACE", checkout.out("trace")).env(variable, number.to_string());
    command
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().chain(more).copied().collect()
}

/// The durable steps of the conductor of such a run.
fn steps(prepare: &dyn Fn() -> Checkout, args: &[&str], edit: &str) -> Vec<Step> {
    let checkout = prepare();
    let _ = at_step(&checkout, args, edit, ("UNUSED", 0)).output().unwrap();
    traced(&checkout.out("trace"))
}

/// The durable step that follows the run of the n-th step of the workstream, counted from 1: the look at what it left.
fn after_run(steps: &[Step], n: usize) -> u64 {
    let noted =
        steps.iter().filter(|step| step.kind == "Rename" && step.path.ends_with("ws-task.look")).nth(n - 1);
    noted.unwrap_or_else(|| panic!("no {n}. look in {steps:#?}")).number + 1
}

/// The durable step that forgets the look before the n-th step: it is judged.
fn judged(steps: &[Step], n: usize) -> u64 {
    let after = after_run(steps, n);
    let is_it =
        |step: &&Step| step.number >= after && step.kind == "Unlink" && step.path.ends_with("ws-task.look");
    steps.iter().find(is_it).unwrap_or_else(|| panic!("no {n}. judgement in {steps:#?}")).number
}

/// A run whose conductor is killed before this durable step, and goes on by itself.
fn killed(prepare: &dyn Fn() -> Checkout, args: &[&str], edit: &str, number: u64) -> Checkout {
    let checkout = prepare();
    let _ = at_step(&checkout, args, edit, ("ENGINE_TEST_KILL_AT", number)).output().unwrap();
    assert!(is_just_before(&checkout.out("trace"), number), "not the same steps each time");
    checkout
}

/// A run whose conductor is killed after the run of its n-th step.
fn killed_after_run(args: &[&str], edit: &str, n: usize) -> Checkout {
    let number = after_run(&steps(&Checkout::new, args, edit), n);
    killed(&Checkout::new, args, edit, number)
}

#[test]
fn a_check_that_changed_files_has_not_passed_in_the_next_process_either() {
    let edit = "if [ \"$ENGINE_STEP\" = edit ]; then sed -i 's/a - b/a  +  b/' calc.py; else sed -i 's/  +  / + /' calc.py; fi";
    let args = with(&RUN, &["--tool", "ed", "--test", "sed -i 's/  +  / + /' calc.py"]);
    let all = steps(&Checkout::new, &args, edit);
    for number in [after_run(&all, 2), judged(&all, 2)] {
        let checkout = killed(&Checkout::new, &args, edit, number);
        let steps = ["01-edit", "02-runtime", "03-fix", "04-runtime"].map(|step| format!("{step} succeeded"));
        checkout.shown().is("succeeded", "", &steps.each_ref().map(String::as_str));
        assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE.replace('-', "+"));
        assert_eq!(checkout.commits(), ["fix 03", "edit 01"]);
        checkout.is_at_rest();
    }
}

#[test]
fn what_a_step_did_beside_its_tree_is_seen_by_the_next_process() {
    let alias = "git config alias.x '!id'";
    let forged = "git commit -q --allow-empty -m one; git commit -q --allow-empty -m 'ws-task: edit 01' \
                  -m 'Engine-Job: r.ws-task\nEngine-Step: ws-task/01'; git update-ref refs/engine/r/ws-task/head HEAD";
    let forged_upon_it = forged.replace("git commit -q --allow-empty -m one; ", "");
    let gone = "git update-ref -d refs/engine/r/ws-task/head";
    let hook = "echo x > \"$(git rev-parse --git-path hooks)/pre-push\"";
    for (edit, check, n, names) in [
        (format!("{MENDS}; {alias}"), CHECK, 1, ".git/config"),
        (format!("{MENDS}; {alias}; exit 7"), CHECK, 1, ".git/config"),
        (format!("{forged}; {MENDS}"), CHECK, 1, "refs/engine/r/ws-task/head"),
        (format!("{forged_upon_it}; {MENDS}"), CHECK, 1, "refs/engine/r/ws-task/head"),
        (format!("{MENDS}; {gone}"), CHECK, 1, "refs/engine/r/ws-task/head"),
        (MENDS.to_owned(), hook, 2, ".git/hooks/pre-push"),
        (MENDS.to_owned(), gone, 2, "refs/engine/r/ws-task/head"),
    ] {
        let args = with(&RUN, &["--tool", "ed", "--test", check]);
        let checkout = killed_after_run(&args, &edit, n);
        let shown = checkout.shown();
        assert_eq!(
            (shown.status(), shown.code(), shown.steps().len()),
            ("quarantined", "git_dir_changed", n),
            "{edit}, {check}: {:#}",
            shown.0
        );
        assert!(shown.message().contains(names), "{edit}, {check}: {}", shown.message());
        let taken: &[&str] = if n == 1 { &[] } else { &["edit 01"] };
        assert_eq!(checkout.commits(), taken, "{edit}, {check}");
        checkout.is_at_rest();
    }
}

#[test]
fn references_that_a_step_moved_are_known_wherever_the_conductor_dies_before_the_judgement() {
    let gone = "git update-ref -d refs/engine/r/ws-task/head; git update-ref refs/engine/r/ws-task/07 HEAD";
    let cases = [
        (format!("{MENDS}; {gone}"), CHECK, 1),
        (MENDS.to_owned(), gone, 2),
        (format!("{gone}; exit 7"), CHECK, 1),
    ];
    for (case, (edit, check, n)) in cases.into_iter().enumerate() {
        let args = with(&RUN, &["--tool", "ed", "--test", check]);
        let all = steps(&Checkout::new, &args, &edit);
        let numbers = after_run(&all, n)..=judged(&all, n);
        assert!(numbers.clone().count() > 5, "{all:#?}");
        // Each case another third of them: a run takes a second or two.
        for number in numbers.skip(case).step_by(3) {
            let checkout = killed(&Checkout::new, &args, &edit, number);
            let shown = checkout.shown();
            let found = (shown.status(), shown.code(), shown.steps().len());
            let at = &all[usize::try_from(number - 1).unwrap()];
            assert_eq!(
                found,
                ("quarantined", "git_dir_changed", n),
                "{edit}, {check} at {at:?}: {:#}",
                shown.0
            );
            assert!(shown.message().contains("refs/engine/r/ws-task/head"), "{at:?}: {}", shown.message());
            checkout.is_at_rest();
        }
    }
}

#[test]
fn a_check_that_stops_its_own_runner_each_time_ends_the_workstream() {
    let checkout = Checkout::new();
    let check = "echo x >> \"$OUT/checks\"; kill -TERM $PPID; sleep 5";
    let _ = checkout.run(MENDS, &["--test", check]).exits(1);
    let shown = checkout.shown();
    assert_eq!((shown.status(), shown.code()), ("failed", "step_repeats"), "{:#}", shown.0);
    let starts = std::fs::read_to_string(checkout.out("checks")).unwrap().lines().count();
    assert!((2..=20).contains(&starts), "{starts}");
    checkout.is_at_rest();
}

#[test]
fn a_refusal_of_a_step_that_left_its_tree_clean_is_known_to_the_next_process_and_not_to_the_next_attempt() {
    let edit = "git config alias.x '!id'; exit 7";
    let args = with(&RUN, &["--tool", "ed", "--test", CHECK]);
    let number = judged(&steps(&Checkout::new, &args, edit), 1);
    let checkout = killed(&Checkout::new, &args, edit, number);
    checkout.shown().is("quarantined", "git_dir_changed", &["01-edit exit_code"]);
    let kept = checkout.git(&["log", "-1", "--format=%(trailers)%T", "refs/engine/r/ws-task/01"]);
    assert!(kept.contains("Engine-Refused: git_dir_changed"), "{kept}");
    assert!(kept.contains(checkout.git(&["rev-parse", "main^{tree}"]).trim()), "{kept}");
    let _ = checkout.resume(MENDS).exits(0);
    checkout.shown().is("succeeded", "", &["01-edit exit_code", "02-edit succeeded", "03-runtime succeeded"]);
}

/// Stops the conductor before this durable step, and kills everything, so that nothing goes on by itself.
fn power_lost(args: &[&str], edit: &str, number: u64) -> Checkout {
    let checkout = Checkout::new();
    let mut command = at_step(&checkout, args, edit, ("ENGINE_TEST_STOP_AT", number));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let outside = checkout.out("").display().to_string();
    let is_stopped = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    eventually("the conductor stops", || {
        is_just_before(&checkout.out("trace"), number) && processes_with(&outside).into_iter().any(is_stopped)
    });
    eventually("everything is dead", || {
        let all = processes_with(&outside);
        for pid in &all {
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
        }
        let _ = child.try_wait();
        all.is_empty()
    });
    child.wait().unwrap();
    checkout
}

/// Another boot: the records are of the one before.
fn boot(checkout: &Checkout) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for entry in std::fs::read_dir(checkout.project.root("state/jobs")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        std::fs::write(entry.path(), text.replace(boot.trim(), "00000000-0000-4000-8000-000000000000"))
            .unwrap();
    }
}

#[test]
fn work_that_was_lost_before_it_was_taken_is_done_again_and_is_no_success_without_a_change() {
    for tool in ["ed", "agent"] {
        for reboots in [true, false] {
            // Without a hash in the record nobody can tell, as long as the machine ran on.
            if tool == "ed" && !reboots {
                continue;
            }
            let edit = format!(
                "echo x >> \"$OUT/edits\"; {MENDS}; echo '{{\"engine_usage\": {{\"cost_usd\": 0.1}}}}'"
            );
            let args = with(&RUN, &["--tool", tool, "--test", "true"]);
            let number = after_run(&steps(&Checkout::new, &args, &edit), 1);
            let checkout = power_lost(&args, &edit, number);
            assert_eq!(checkout.project.record("r.ws-task.01-edit")["status"], "succeeded");
            std::fs::write(checkout.worktree().join("calc.py"), BEFORE).unwrap();
            if reboots {
                boot(&checkout);
            }
            let said = checkout.engine_editing(&RESUME, &edit);
            assert_eq!(said.code, 0, "{tool}, {reboots}: {}", said.err);
            checkout.shown().is("succeeded", "", &["01-edit succeeded", "02-runtime succeeded"]);
            assert_eq!(
                std::fs::read_to_string(checkout.out("edits")).unwrap(),
                "x\nx\n",
                "{tool}, {reboots}"
            );
            assert_eq!(checkout.file("engine/r/ws-task", "calc.py"), BEFORE.replace('-', "+"));
            checkout.is_at_rest();
        }
    }
}

#[test]
fn work_of_an_agent_that_is_still_there_is_taken_after_a_crash_and_after_a_reboot() {
    let edit =
        format!("echo x >> \"$OUT/edits\"; {MENDS}; echo '{{\"engine_usage\": {{\"cost_usd\": 0.1}}}}'");
    let args = with(&RUN, &["--tool", "agent", "--test", CHECK]);
    let number = after_run(&steps(&Checkout::new, &args, &edit), 1);
    for reboots in [true, false] {
        let checkout = power_lost(&args, &edit, number);
        if reboots {
            boot(&checkout);
        }
        let said = checkout.engine_editing(&RESUME, &edit);
        assert_eq!(said.code, 0, "{reboots}: {}", said.err);
        assert_eq!(std::fs::read_to_string(checkout.out("edits")).unwrap(), "x\n", "{reboots}");
        assert_eq!(checkout.commits(), ["edit 01"]);
        checkout.is_at_rest();
    }
}

/// What a person did in the worktree, or to the branch, after a verdict.
fn by_hand(kind: &str) -> Checkout {
    let checkout = Checkout::new();
    checkout.set("limits = { fixes = { static = 0, runtime = 0 } }\n");
    let _ = checkout.run(FAILS, &["--test", CHECK]).exits(1);
    let worktree = checkout.worktree();
    std::fs::write(worktree.join("calc.py"), BEFORE.replace('-', "+")).unwrap();
    std::fs::write(worktree.join("other.txt"), "by hand\n").unwrap();
    if kind != "files" {
        checkout.git_in(&worktree, &["commit", "-q", "-a", "-m", "by hand"]);
    }
    if kind == "branch" {
        checkout.git_in(&worktree, &["update-ref", "refs/heads/kept", "HEAD"]);
        checkout.git_in(&worktree, &["reset", "-q", "--hard", "refs/engine/r/ws-task/head"]);
        checkout.git_in(&worktree, &["update-ref", "refs/heads/engine/r/ws-task", "refs/heads/kept"]);
        checkout.git_in(&worktree, &["read-tree", "refs/engine/r/ws-task/head"]);
    }
    checkout
}

/// Kills the conductor of the first resume before each of its durable steps, or a sample of them, up to its first step's run.
fn is_taken(kind: &str) {
    let prepare = || by_hand(kind);
    let all = steps(&prepare, &RESUME, "exit 9");
    let first = after_run(&all, 1);
    let mut before: Vec<u64> = all.iter().map(|step| step.number).filter(|number| *number < first).collect();
    assert!(before.len() > 5, "{kind}: {all:#?}");
    sample_of(&mut before, 5);
    for number in before {
        let checkout = killed(&prepare, &RESUME, "exit 9", number);
        let shown = checkout.shown();
        assert_eq!(
            (shown.status(), shown.steps().len()),
            ("succeeded", 3),
            "{kind}, {number}: {:#}",
            shown.0
        );
        assert_eq!(checkout.commits(), ["hand 02", "edit 01"], "{kind}, {number}");
        assert_eq!(checkout.file("engine/r/ws-task", "other.txt"), "by hand\n", "{kind}, {number}");
        checkout.is_at_rest();
    }
}

#[test]
fn files_that_a_person_changed_are_taken_wherever_the_first_resume_dies_before_a_step() {
    is_taken("files");
}

#[test]
fn a_commit_that_a_person_made_is_taken_wherever_the_first_resume_dies_before_a_step() {
    is_taken("commit");
}

#[test]
fn a_branch_that_a_person_moved_is_taken_wherever_the_first_resume_dies_before_a_step() {
    is_taken("branch");
}

#[test]
fn a_commit_of_a_person_is_kept_where_its_branch_is_moved_back() {
    let args = with(&RUN, &["--tool", "ed", "--test", CHECK]);
    let edit = format!("{MENDS}; exit 7");
    let number = after_run(&steps(&Checkout::new, &args, &edit), 1);
    let checkout = power_lost(&args, &edit, number);
    let worktree = checkout.worktree();
    checkout.git_in(&worktree, &["commit", "-q", "-a", "--allow-empty", "-m", "by hand"]);
    let mine = checkout.git_in(&worktree, &["rev-parse", "HEAD"]);
    let _ = checkout.engine_editing(&RESUME, MENDS);
    let kept = format!("refs/engine/r/ws-task/hand-{}", mine.trim());
    assert_eq!(checkout.refs().get(&kept).map(String::as_str), Some(mine.trim()), "{:?}", checkout.refs());
}

#[test]
fn an_error_of_git_in_the_loop_is_told_with_what_is_known_and_the_work_is_judged_later() {
    crate::support::heeding_modes(|| {
        let checkout = Checkout::new();
        let objects = checkout.project.path(".git/objects").display().to_string();
        let edit = format!("echo x >> \"$OUT/edits\"; {MENDS}; chmod -R a-w '{objects}'");
        let said = checkout.run(&edit, &["--test", CHECK]);
        assert_eq!(said.code, 1, "{}", said.err);
        let shown = checkout.shown();
        assert_eq!((shown.status(), shown.code()), ("failed", "git_failed"), "{:#}", shown.0);
        let result = checkout.project.record(JOB)["result"]["metadata"].clone();
        assert_eq!(result["left_clean"], false, "{result:#}");
        assert_eq!(result["head"].as_str(), Some(checkout.git(&["rev-parse", "main"]).trim()), "{result:#}");
        assert!(
            result["warnings"][0].as_str().is_some_and(|text| text.contains("not left clean")),
            "{result:#}"
        );
        let chmod = ["-R", "u+w", &objects];
        let _ = Said::of(&std::process::Command::new("chmod").args(chmod).output().unwrap()).exits(0);
        let _ = checkout.resume("exit 9").exits(0);
        assert_eq!(std::fs::read_to_string(checkout.out("edits")).unwrap(), "x\n");
        assert_eq!(checkout.commits(), ["edit 01"]);
        checkout.is_at_rest();
    });
}
