//! Records that others removed, changed, damaged or moved, and files that stand where an attempt writes.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::for_tests::{Acquire, Create, Lease, Store};
use engine::job::JobId;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{nth, steps};
use crate::support::{Project, Said, eventually, shell, with};

#[test]
fn a_lease_that_was_given_back_is_free_while_other_threads_start_programs() {
    let project = Project::new();
    project.engine(&["submit", "-q", "--", "true"]).exits(0);
    let store = Store::open_to_change(&project.root("")).unwrap();
    let id = JobId::new("free").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // With a hook the child is forked, and holds every descriptor until it executes its program.
                    let mut command = Command::new("true");
                    // SAFETY: the hook does nothing.
                    unsafe { command.pre_exec(|| Ok(())) };
                    assert!(command.status().unwrap().success());
                }
            });
        }
        let busy = (0..2000)
            .filter(|_| matches!(Lease::acquire(&store, &id, Create::IfMissing).unwrap(), Acquire::Busy))
            .count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(busy, 0, "of 2000");
    });
}

#[test]
fn a_result_whose_record_was_removed_or_replaced_is_not_told() {
    for script in [
        "rm -r \"$ROOT/state/jobs\"",
        "rm \"$ROOT/state/jobs/a.jsonl\"",
        "cd \"$ROOT/state/jobs\"; cp a.jsonl b; mv b a.jsonl",
        "mv \"$ROOT/state/jobs\" \"$ROOT/elsewhere\"; mkdir \"$ROOT/state/jobs\"",
    ] {
        let project = Project::new();
        let root = project.root("");
        let job = with(shell("a", script), &json!({"env": {"ROOT": root.to_str().unwrap()}}));
        let said = project.run(&job);
        assert_eq!(said.code, 125, "{script}: {}{}", said.out, said.err);
        assert_eq!(said.json()["reason"]["code"], "result_not_kept", "{script}: {}", said.out);
    }
}

#[test]
fn a_result_is_kept_whole_behind_what_others_wrote_into_its_record() {
    for script in [
        "printf half >> \"$RECORD\"",
        "echo a line >> \"$RECORD\"",
        "head -c 500000 /dev/zero >> \"$RECORD\"",
        ": > \"$RECORD\"",
    ] {
        let project = Project::new();
        let record = project.root("state/jobs/a.jsonl");
        let job = with(shell("a", script), &json!({"env": {"RECORD": record.to_str().unwrap()}}));
        project.run(&job).exits(0);
        assert_eq!(project.record("a")["status"], "succeeded", "{script}");
        assert_eq!(project.engine(&["show", "a", "--json"]).json()["status"], "succeeded", "{script}");
        project.run(&job).exits(0);
        assert_eq!(project.record("a")["life"], 2, "{script}");
    }
}

/// Runs the program with at most so much address space.
fn within(project: &Project, megabytes: u64, args: &[&str]) -> Said {
    let limit = libc::rlimit { rlim_cur: megabytes << 20, rlim_max: megabytes << 20 };
    let mut command = project.command(args);
    // SAFETY: one system call on a value that lives through it.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Said::of(&command.output().unwrap())
}

#[test]
fn a_record_of_gigabytes_without_a_line_end_stops_its_own_job_only() {
    let project = Project::new();
    project.run(&shell("a", "true")).exits(0);
    project.run(&shell("b", "true")).exits(0);
    let record = std::fs::File::options().write(true).open(project.root("state/jobs/a.jsonl")).unwrap();
    record.set_len(3 << 30).unwrap();
    let run = |args: &[&str]| {
        let said = within(&project, 256, args);
        assert!((0..=125).contains(&said.code), "{args:?}: {}\n{}{}", said.code, said.out, said.err);
        said
    };
    let listed = run(&["list", "--json"]);
    assert!(listed.out.contains("\"b\"") && listed.err.contains("a.jsonl"), "{}{}", listed.out, listed.err);
    let shown = run(&["show", "a"]);
    assert!(shown.err.contains("contain no complete line"), "{}", shown.err);
    let _ = run(&["show", "a", "--all"]);
    run(&["status"]).exits(0);
    let _ = run(&["recover", "-q"]);
    let _ = run(&["gc", "--older-than", "0s"]);
    let found = run(&["doctor"]).out;
    assert!(found.contains("a.jsonl"), "{found}");
    run(&["run-job", "-q", "--job-file", "a.json"]).exits(125);
    run(&["run-job", "-q", "--job-file", "b.json"]).exits(0);
}

#[test]
fn state_of_gigabytes_that_holds_no_line_is_passed_over_in_bounded_memory() {
    let project = Project::new();
    project.run(&shell("a", "true")).exits(0);
    for file in [
        "state/events.jsonl",
        "state/usage.jsonl",
        "state/archive/2026-01.jsonl.zst",
        "state/cache/counts.json",
        "state/control/HOLD",
        "state/control/a.cancel",
        "state/boot",
        "state/VERSION",
        "state/keys/x",
        "state/locks/gpu.0",
        "prices.json",
        "engine.toml",
        "jobs/queued/b.json",
    ] {
        let copy = project.copy();
        std::fs::create_dir_all(copy.root(file).parent().unwrap()).unwrap();
        std::fs::write(copy.root(file), "").unwrap();
        std::fs::File::options().write(true).open(copy.root(file)).unwrap().set_len(3 << 30).unwrap();
        let readers = [&["list"][..], &["usage"], &["doctor"], &["show", "a"]];
        let writers = [&["recover"][..], &["run-job", "--", "true"], &["work", "--drain"]];
        let gc = [&["gc", "--keep-count", "0"][..], &["requeue", "a"], &["gc", "--keep-count", "0"]];
        for args in readers.iter().chain(&writers).chain(&gc) {
            let said = within(&copy, 256, args);
            assert!(
                (0..=125).contains(&said.code),
                "{file} {args:?}: {}\n{}{}",
                said.code,
                said.out,
                said.err
            );
        }
    }
}

#[test]
fn a_line_of_a_record_is_bounded_whatever_the_job_names() {
    let project = Project::new();
    let text = "w".repeat(300_000);
    let job = with(shell("long", "exit 3"), &json!({"workstream_id": text, "run_id": text, "key": text}));
    project.run(&job).exits(3);
    let git = json!({"job_id": "git", "tool": "git", "workstream_id": text, "command": {"exe": "git", "args": ["g".repeat(120_000)]}});
    assert_ne!(project.run(&git).code, 0);
    for id in ["long", "git"] {
        let record = std::fs::read_to_string(project.root(&format!("state/jobs/{id}.jsonl"))).unwrap();
        assert!(record.lines().all(|line| line.len() < 64 << 10), "{id}: a line is too long");
        assert_eq!(project.record(id)["status"], "quarantined");
        project.engine(&["explain", id]).exits(0);
        project.engine(&["requeue", id]).exits(0);
    }
}

#[test]
fn one_record_of_gigabytes_that_ends_in_a_line_does_not_stop_gc() {
    let project = Project::new();
    project.run(&shell("a", "true")).exits(0);
    project.run(&shell("b", "true")).exits(0);
    let path = project.root("state/jobs/a.jsonl");
    let last = std::fs::read_to_string(&path).unwrap().lines().last().unwrap().to_owned();
    let mut record = std::fs::File::options().append(true).open(&path).unwrap();
    record.set_len(3 << 30).unwrap();
    std::io::Write::write_all(&mut record, format!("\n{last}\n").as_bytes()).unwrap();
    let said = within(&project, 256, &["gc", "--keep-count", "0"]);
    assert!(said.code < 126 && said.err.contains("more than the engine writes"), "{}{}", said.out, said.err);
    assert!(path.exists(), "what was not archived stays");
    assert!(!project.root("state/jobs/b.jsonl").exists(), "the others are retired");
}

/// Kills the runner of `a`, which holds the lock `gpu`, damages its record, and queues `b`, which needs that lock.
fn damaged_holder(script: &str) -> Project {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.1\n").unwrap();
    let more = json!({"locks": ["gpu"]});
    let name = project.job(&with(shell("a", &format!("{script} echo > started; exec sleep 60")), &more));
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("it runs", || project.path("started").exists());
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    let record = project.root("state/jobs/a.jsonl");
    let damaged = std::fs::read_to_string(&record).unwrap() + "garbage\n";
    std::fs::write(&record, damaged).unwrap();
    let name = project.job(&with(shell("b", "true"), &json!({"locks": ["gpu"]})));
    project.engine(&["submit", "-q", &name]).exits(0);
    project
}

fn explained(project: &Project) -> String {
    project.engine(&["explain", "b"]).out
}

#[test]
fn slot_proof_a_lock_is_free_when_nothing_is_left_of_a_dead_holder_whose_record_cannot_be_read() {
    let project = damaged_holder("trap '' TERM;");
    assert!(explained(&project).contains("`a`, whose record cannot be read"), "{}", explained(&project));
    let found = project.engine(&["doctor"]).out;
    assert!(found.contains("gpu.0: held by a, which has a record that cannot be read"), "{found}");
    project.engine(&["work", "--drain", "-q"]).exits(0);
    assert_eq!(project.record("b")["status"], "succeeded");
    let uuid: Value = serde_json::from_slice(&std::fs::read(project.root("state/VERSION")).unwrap()).unwrap();
    let marker = format!("ENGINE_ATTEMPT={}/a/1", uuid["store"].as_str().unwrap());
    assert_eq!(crate::support::processes_with(&marker), Vec::<i32>::new());
}

#[test]
fn slot_identity_a_lock_whose_dead_holder_cannot_be_judged_is_not_taken_and_its_holder_is_named() {
    let project = damaged_holder("");
    // By an older engine, and by a runner in another container.
    for line in ["a 1\n", "a 1 host 00000000-0000-0000-0000-000000000000 pid:[1]\n"] {
        std::fs::write(project.root("state/locks/gpu.0"), line).unwrap();
        let said = project.engine(&["run-job", "--json", "--claim", "b"]);
        assert_eq!(said.code, 125, "{}", said.err);
        let reason = &said.json()["reason"];
        assert_eq!(reason["code"], "lock_not_released", "{line}: {}", said.out);
        assert!(reason["message"].as_str().unwrap().contains("`a`"), "{}", said.out);
        assert!(explained(&project).contains("`a`"), "{}", explained(&project));
    }
}

#[test]
fn who_needs_a_job_whose_record_cannot_be_read_waits_for_it_and_is_told_so() {
    let project = Project::new();
    let a = project.job(&shell("a", "true"));
    let b = project.job(&with(shell("b", "true"), &json!({"depends_on": ["a"]})));
    project.engine(&["submit", "-q", &a, &b]).exits(0);
    project.engine(&["run-job", "-q", "--claim", "a"]).exits(0);
    let record = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, format!("{text}garbage\n")).unwrap();
    assert!(
        explained(&project).contains("it depends on `a`, whose state is unknown"),
        "{}",
        explained(&project)
    );
    let drained = project.engine(&["work", "--drain"]);
    assert!(!drained.err.contains("was not run"), "{}", drained.err);
    let said = project.engine(&["run-job", "--json", "--claim", "b"]);
    assert_eq!(said.json()["reason"]["code"], "waiting_dependency", "{}", said.out);
    let waited = project.engine(&["wait", "b", "--timeout", "20"]);
    assert_eq!(waited.code, 1, "{}", waited.err);
    std::fs::write(&record, text).unwrap();
    project.engine(&["work", "--drain", "-q"]).exits(0);
    assert_eq!(project.record("b")["status"], "succeeded");
}

#[test]
fn slot_first_slot_named_the_slot_of_a_lock_names_each_attempt_of_a_direct_run() {
    let project = Project::new();
    let script = "cat .engine/state/locks/gpu.0 >> seen; [ $(wc -l < seen) = 2 ]";
    let more = json!({
        "locks": ["gpu"],
        "metadata": {"retry_policy": "retry_same", "backoff": {"strategy": "immediate"}}
    });
    project.run(&with(shell("a", script), &more)).exits(0);
    let seen = std::fs::read_to_string(project.path("seen")).unwrap();
    let numbers: Vec<&str> = seen.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(numbers, ["1", "2"], "{seen}");
}

/// Runs a command whose move of the job file to `running/` fails; what it said.
fn with_a_failing_move(project: &Project, args: &[&str]) -> Said {
    let trial = project.copy();
    let moves = nth(&steps(&trial, args), 1, "Rename", "jobs/running/a.json");
    let running = project.start(args, &[("ENGINE_TEST_STOP_AT", &moves.to_string())]);
    eventually("it stands still", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    let (there, aside) = (project.root("jobs/running"), project.root("jobs/aside"));
    std::fs::rename(&there, &aside).unwrap();
    std::fs::write(&there, "").unwrap();
    running.signal(Signal::CONT);
    let ended = || project.record("a")["attempts"][0]["outcome"] == "not_started";
    eventually("its attempt has ended", ended);
    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&aside, &there).unwrap();
    running.wait()
}

#[test]
fn an_attempt_whose_job_file_could_not_be_moved_has_not_started_and_is_made_again() {
    let job = shell("a", "echo >> ran");
    let claimed = Project::new();
    let name = claimed.job(&job);
    claimed.engine(&["submit", "-q", &name]).exits(0);
    let said = with_a_failing_move(&claimed, &["run-job", "--json", "--claim", "a"]);
    assert_eq!(said.code, 75, "{}{}", said.out, said.err);
    assert_eq!(said.json()["reason"]["code"], "job_file_not_moved", "{}", said.out);
    assert!(!claimed.path("ran").exists());
    claimed.engine(&["work", "--drain", "-q"]).exits(0);

    let direct = Project::new();
    let name = direct.job(&job);
    with_a_failing_move(&direct, &["run-job", "--json", "--job-file", &name]).exits(0);
    for project in [claimed, direct] {
        assert_eq!(std::fs::read_to_string(project.path("ran")).unwrap(), "\n");
        let record = project.record("a");
        let outcomes: Vec<&Value> =
            record["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
        assert_eq!(outcomes, ["not_started", "succeeded"], "{record}");
        assert_eq!(project.places("a"), ["done"]);
    }
}

#[test]
fn a_retry_that_a_fast_clock_set_does_not_wait_for_that_time() {
    let project = Project::new();
    let more = json!({"metadata": {
        "retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "linear", "base_seconds": 1}
    }});
    let name = project.job(&with(shell("a", "[ -e go ]"), &more));
    project.engine(&["submit", "-q", &name]).exits(0);
    project.engine(&["run-job", "-q", "--claim", "a"]).exits(75);
    let record = project.root("state/jobs/a.jsonl");
    let line = project.record("a");
    let year = |key: &str| line[key].as_str().unwrap().get(..4).unwrap().to_owned();
    let text = std::fs::read_to_string(&record).unwrap();
    let ahead: u32 = year("at").parse::<u32>().unwrap() + 2;
    std::fs::write(&record, text.replace(&format!("\"{}-", year("at")), &format!("\"{ahead}-"))).unwrap();
    let explained = project.engine(&["explain", "a"]).out;
    assert!(explained.contains("by a fast clock") && explained.contains("starts next"), "{explained}");
    assert_eq!(project.engine(&["list", "--state", "waiting", "--json"]).exits(0), "");
    std::fs::write(project.path("go"), "").unwrap();
    project.engine(&["work", "--drain", "-q"]).exits(0);
    assert_eq!(project.record("a")["status"], "succeeded");
}

#[test]
fn nothing_that_stands_where_a_report_or_a_log_goes_is_overwritten() {
    let project = Project::new();
    let kept = |text: &str| {
        let files = std::fs::read_dir(project.dir()).unwrap().flatten();
        let count = files.filter(|file| {
            file.path().is_file() && std::fs::read_to_string(file.path()).is_ok_and(|all| all == text)
        });
        count.count()
    };
    for name in ["r.json", "r.json.1", "r.json.2", "out.log.1"] {
        std::fs::write(project.path(name), name).unwrap();
    }
    let more = json!({
        "paths": {"error_report": "r.json", "log_file": "out.log"}, "metadata": {
            "retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}
        }
    });
    let reports = || {
        let names = std::fs::read_dir(project.dir()).unwrap().flatten();
        let names = names.filter(|file| file.file_name().to_string_lossy().starts_with("r.json"));
        names.filter(|file| std::fs::read_to_string(file.path()).unwrap().contains("exit_code")).count()
    };
    for run in 1..=3 {
        let _ = project.run(&with(shell("a", "echo $ENGINE_ATTEMPT; exit 3"), &more)).exits(3);
        // Its attempts are counted from 1 again.
        project.engine(&["gc", "--older-than", "0s"]).exits(0);
        assert_eq!(reports(), 2 * run);
    }
    for name in ["r.json", "r.json.1", "r.json.2", "out.log.1"] {
        assert_eq!(kept(name), 1, "{name}");
    }
}

/// The paths in a record's line.
fn recorded(project: &Project) -> Vec<String> {
    let line = project.record("a");
    let paths = [
        &line["attempts"][0]["log_path"],
        &line["result"]["log_path"],
        &line["result"]["error_report_path"],
        &line["error_report"]["log_path"],
    ];
    paths.map(|path| path.as_str().unwrap().to_owned()).to_vec()
}

#[test]
fn a_root_that_is_moved_or_copied_shows_its_own_logs() {
    let given = json!({"paths": {"log_file": "logs/out.log", "error_report": "r.json"}});
    let cases = [
        (json!({}), ["state/logs/a.1.log", "state/logs/a.1.error.json"], ".engine/state/logs/a.1.log"),
        (given, ["../logs/out.log", "../r.json"], "logs/out.log"),
    ];
    for (more, [log, report], file) in cases {
        let project = Project::new();
        let told = project.run(&with(shell("a", "echo hi; exit 1"), &more)).json();
        assert_eq!(recorded(&project), [log, log, report, log]);
        let shown = project.engine(&["show", "a", "--json"]).json();
        for absolute in [&told["log_path"], &shown["result"]["log_path"], &shown["attempts"][0]["log_path"]] {
            assert_eq!(
                absolute.as_str().unwrap(),
                project.path(file).canonicalize().unwrap().to_str().unwrap()
            );
        }
        let copy = project.copy();
        std::fs::write(project.path(file), "changed\n").unwrap();
        assert_eq!(copy.engine(&["log", "a"]).exits(0), "hi\n");
        let moved = Project::without_root();
        std::fs::remove_dir(moved.dir()).unwrap();
        std::fs::rename(copy.dir(), moved.dir()).unwrap();
        std::fs::create_dir(copy.dir()).unwrap();
        assert_eq!(moved.engine(&["log", "a"]).exits(0), "hi\n");
        let shown = moved.engine(&["show", "a"]).exits(0);
        assert!(shown.contains(moved.path(file).to_str().unwrap()), "{shown}");
    }
}

#[test]
fn a_record_with_the_absolute_path_of_a_former_place_shows_the_log_of_this_root() {
    let project = Project::new();
    project.run(&shell("a", "echo hi; exit 1")).exits(1);
    let record = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"state/logs/", "\"/gone/.engine/state/logs/")).unwrap();
    assert_eq!(project.engine(&["log", "a"]).exits(0), "hi\n");
    let shown = project.engine(&["show", "a", "--json"]).json();
    assert_eq!(Path::new(shown["result"]["log_path"].as_str().unwrap()), project.root("state/logs/a.1.log"));
}

#[test]
fn a_root_below_a_name_that_is_no_utf_8_or_holds_newlines_runs_and_shows_its_jobs() {
    let project = Project::without_root();
    for name in [&b"b\xffd"[..], b"new\nline", b"sp ace '\"$x"] {
        let dir = project.dir().join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir(&dir).unwrap();
        let run = |args: &[&str]| Said::of(&project.command(args).current_dir(&dir).output().unwrap());
        run(&["init"]).exits(0);
        std::fs::write(dir.join("a.json"), shell("a", "echo hi").to_string()).unwrap();
        run(&["run-job", "--job-file", "a.json"]).exits(0);
        assert_eq!(run(&["log", "a"]).exits(0), "hi\n", "{name:?}");
        run(&["show", "a"]).exits(0);
    }
}
