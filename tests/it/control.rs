//! Canceling, running again, holding and waiting, against claims, kills and the clock.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{
    Scenario, at_each_step, attempts, check, job, make_old, put, recover_and_check, starts, steps,
};
use crate::support::{Project, Running, Said, eventually, fake_tool};

/// A project that has run something, so that all directories are there.
fn project() -> Project {
    let project = Project::new();
    project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    project
}

/// A job `a` that notes its start and then runs until the file `go` exists.
fn long(more: &Value) -> Value {
    let mut job = job(more);
    let script = "echo $ENGINE_ATTEMPT >> starts; until [ -e go ]; do sleep 0.01; done";
    job["command"]["args"] = json!(["-c", script]);
    job
}

/// Starts `a`, which is not ended but by force or by `go`.
fn start(project: &Project, job: &Value) -> Running {
    let before = starts(project);
    let name = project.job(job);
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the tool runs", || starts(project) > before);
    running
}

fn go(project: &Project) {
    std::fs::write(project.path("go"), "").unwrap();
}

fn request(project: &Project) -> PathBuf {
    project.root("state/control/a.cancel")
}

/// A request to cancel as `engine cancel` writes it.
fn write_request(project: &Project, life: u32, attempt: u32) {
    let request_text = json!({
        "schema_version": 1, "job_id": "a", "life": life, "attempt": attempt, "at": "2026-01-01T00:00:00.000Z",
    });
    std::fs::write(request(project), request_text.to_string()).unwrap();
}

#[track_caller]
fn is_canceled(project: &Project) -> Value {
    let record = project.record("a");
    assert_eq!(record["status"], "canceled", "{record}");
    assert!(!request(project).exists(), "the request stays");
    check(project, "a", "canceled");
    record
}

#[track_caller]
fn done(said: &Said) -> String {
    said.json()["done"].as_str().unwrap().to_owned()
}

#[test]
fn a_queued_job_that_is_canceled_never_runs() {
    let project = project();
    put(&project, "queued", &job(&json!({"run_id": "r"})).to_string());
    let said = project.engine(&["cancel", "a"]);
    assert!(said.err.is_empty(), "{}", said.err);
    assert_eq!(said.exits(0), "a: canceled; it was queued\n");
    let record = is_canceled(&project);
    assert_eq!(record["result"]["reason"]["code"], "canceled_by_user");
    assert_eq!(record["job"]["run_id"], "r");
    assert_eq!(attempts(&record), 0);
    project.engine(&["run-job", "--claim", "a"]).exits(125);
    assert_eq!(starts(&project), 0);
    project.engine(&["cancel", "a"]).exits(0);
}

#[test]
fn a_queued_file_that_is_no_valid_job_can_be_canceled_and_a_foreign_one_not() {
    let project = project();
    put(&project, "queued", r#"{"job_id": "a", "tool": 7}"#);
    project.engine(&["cancel", "a"]).exits(0);
    is_canceled(&project);
    let project = self::project();
    put(&project, "queued", r#"{"job_id": "b", "tool": "shell", "command": {"exe": "true"}}"#);
    let said = project.engine(&["cancel", "--json", "a"]);
    assert_eq!(done(&said), "refused");
    said.exits(1);
    assert_eq!(project.places("a"), ["queued"]);
}

#[test]
fn what_has_ended_or_does_not_exist_is_not_canceled() {
    let project = project();
    let said = project.engine(&["cancel", "other", "none"]);
    assert!(said.out.contains("other: not canceled: it had ended, succeeded"), "{}", said.out);
    assert!(said.out.contains("none: no such job"), "{}", said.out);
    said.exits(1);
    assert_eq!(project.record("other")["status"], "succeeded");
    assert!(!project.root("state/jobs/none.jsonl").exists(), "a record was made");
}

#[test]
fn an_unreadable_record_stops_its_own_job_only() {
    let project = ended(3);
    std::fs::write(project.root("state/jobs/broken.jsonl"), "[]\n").unwrap();
    let said = project.engine(&["requeue", "broken", "a"]);
    assert!(said.err.contains("broken"), "{}", said.err);
    assert_eq!(said.exits(125), "a: queued again\n");
    let said = project.engine(&["cancel", "broken", "a"]);
    assert!(said.out.ends_with("a: canceled; it was queued\n"), "{}", said.out);
    said.exits(125);
    is_canceled(&project);
}

#[test]
fn a_running_job_is_canceled_at_once_and_its_run_ends_with_143() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    let begun = Instant::now();
    let said = project.engine(&["cancel", "a"]);
    let took = begun.elapsed();
    assert_eq!(said.exits(0), "a: canceled; attempt 1 was ended\n");
    // Without the wake-up the runner would have looked after a second.
    assert!(took < Duration::from_millis(900), "{took:?}");
    let ran = running.wait();
    assert_eq!(ran.json()["reason"]["code"], "canceled_by_user", "{}", ran.out);
    ran.exits(143);
    let record = is_canceled(&project);
    assert_eq!(record["attempts"][0]["outcome"], "canceled");
}

#[test]
fn a_stopped_runner_is_named_by_every_reader_and_cancel_wakes_it() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    running.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", running.pid());
    eventually("it stands", || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")));
    let explained = project.engine(&["explain", "--json", "a"]).json();
    assert_eq!(explained["findings"][0]["code"], "runner_stopped", "{explained}");
    let resume = format!("kill -CONT {}", running.pid());
    assert!(explained["findings"][0]["hint"].as_str().unwrap().contains(&resume), "{explained}");
    for verb in [&["show", "a"][..], &["status"][..]] {
        let said = project.engine(verb).exits(0);
        assert!(said.contains("stopped") && said.contains(&resume), "{said}");
    }
    assert_eq!(project.engine(&["status", "--json"]).json()["running"][0]["runner_stopped"], true);
    assert!(project.engine(&["list"]).exits(0).contains("runner_stopped"));
    assert_eq!(project.engine(&["cancel", "a"]).exits(0), "a: canceled; attempt 1 was ended\n");
    running.wait().exits(143);
    is_canceled(&project);
}

#[test]
fn a_stopped_runner_whose_time_is_over_is_canceled_and_not_timed_out() {
    let project = project();
    let running = start(&project, &long(&json!({"metadata": {"timeout_seconds": 1}})));
    running.signal(Signal::STOP);
    let begun = Instant::now();
    eventually("its time is over", || begun.elapsed() > Duration::from_millis(3500));
    let said = project.engine(&["cancel", "--no-wait", "a"]).exits(0);
    assert_eq!(said, "a: its runner, which was stopped, is woken and asked to end it\n");
    running.wait().exits(143);
    is_canceled(&project);
}

#[test]
fn cancel_tick_a_request_without_a_wake_up_is_found_within_a_tick() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    write_request(&project, 1, 1);
    running.wait().exits(143);
    is_canceled(&project);
}

#[test]
fn a_tool_that_ignores_term_is_killed_after_its_grace() {
    let project = project();
    let mut job = long(&json!({"metadata": {"grace_seconds": 0.2}}));
    let script = "echo $ENGINE_ATTEMPT >> starts; exec \"$0\" \"$@\"";
    job["command"]["args"] =
        json!(["-c", script, fake_tool(), "ignore-term", "touch", "deaf", "sleep", "60"]);
    let running = start(&project, &job);
    eventually("it ignores TERM", || project.path("deaf").exists());
    project.engine(&["cancel", "a"]).exits(0);
    running.wait().exits(143);
    is_canceled(&project);
}

#[test]
fn a_job_in_the_backoff_of_its_direct_run_is_canceled() {
    let project = project();
    let retry = json!({"retry_policy": "retry_same", "backoff": {"strategy": "linear", "base_seconds": 600}});
    std::fs::write(project.path("code"), "3").unwrap();
    let name = project.job(&job(&json!({"metadata": retry})));
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("it waits for the second attempt", || {
        let record = project.record_if_any("a");
        record.is_some_and(|record| record["attempts"][0]["outcome"] == "failed")
    });
    let begun = Instant::now();
    let said = project.engine(&["cancel", "a"]);
    assert!(begun.elapsed() < Duration::from_millis(900), "it was not woken");
    assert_eq!(said.exits(0), "a: canceled; it waited for its next attempt\n");
    running.wait().exits(143);
    let record = is_canceled(&project);
    assert_eq!(record["attempts"][0]["outcome"], "failed");
    assert_eq!(starts(&project), 1);
}

#[test]
fn a_job_that_is_left_for_its_next_attempt_is_canceled_and_keeps_its_attempts() {
    let project = project();
    let retry = json!({"retry_policy": "retry_same", "backoff": {"strategy": "linear", "base_seconds": 600}});
    std::fs::write(project.path("code"), "3").unwrap();
    put(&project, "queued", &job(&json!({"metadata": retry})).to_string());
    project.engine(&["run-job", "--claim", "a"]).exits(75);
    project.engine(&["cancel", "a"]).exits(0);
    let record = is_canceled(&project);
    assert_eq!(record["attempts"][0]["exit_code"], 3);
    assert_eq!(record["result"]["outcome"], "canceled");
}

#[test]
fn cancel_life_a_request_for_another_life_does_not_cancel() {
    for (life, attempt) in [(1, 1), (1, 2)] {
        let project = project();
        project.run(&job(&json!({}))).exits(0);
        let running = start(&project, &long(&json!({})));
        assert_eq!((&project.record("a")["life"], attempts(&project.record("a"))), (&json!(2), 2));
        write_request(&project, life, attempt);
        running.signal(Signal::USR1);
        go(&project);
        running.wait().exits(0);
        assert_eq!(project.record("a")["status"], "succeeded");
        assert!(!request(&project).exists(), "a request for a former attempt stays");
    }
}

#[test]
fn a_request_that_comes_with_the_failure_cancels_the_retry() {
    let project = project();
    let retry = json!({"retry_policy": "retry_same", "backoff": {"strategy": "linear", "base_seconds": 600}});
    let mut job = long(&json!({"metadata": retry}));
    // The tool itself asks, and fails before anybody looks.
    let text = r#"{"schema_version":1,"job_id":"a","life":1,"attempt":1,"at":"2026-01-01T00:00:00Z"}"#;
    let script = format!(
        "echo $ENGINE_ATTEMPT >> starts; trap '' TERM; echo '{text}' > .engine/state/control/a.cancel; exit 3"
    );
    job["command"]["args"] = json!(["-c", script]);
    put(&project, "queued", &job.to_string());
    project.engine(&["run-job", "--claim", "a"]).exits(143);
    is_canceled(&project);
    assert_eq!(starts(&project), 1);
}

#[test]
fn cancel_recovery_the_request_to_a_runner_that_was_killed_is_honored_by_recovery() {
    let project = project();
    let running = start(&project, &long(&json!({"on_crash": "requeue"})));
    running.signal(Signal::STOP);
    write_request(&project, 1, 1);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    recover_and_check(&project, "a", "canceled by recovery");
    let record = is_canceled(&project);
    assert_eq!(record["attempts"][0]["outcome"], "lost", "what may have run is not forgotten");
}

#[test]
fn a_job_whose_runner_was_killed_is_canceled_and_not_queued_again() {
    let project = project();
    let running = start(&project, &long(&json!({"on_crash": "requeue"})));
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    project.engine(&["cancel", "a"]).exits(0);
    is_canceled(&project);
    recover_and_check(&project, "a", "canceled after the runner's death");
    assert_eq!(starts(&project), 1);
}

#[test]
fn a_process_that_is_not_the_runner_is_not_signalled() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    // As if the runner's pid had become another's: a process that SIGUSR1 would end.
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let path = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let pid = project.record("a")["attempts"][0]["pid"].as_i64().unwrap();
    let other = text.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{}", stranger.id()));
    assert_ne!(text, other);
    // In place: another inode would be another lease.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options().write(true).open(&path).unwrap(),
        format!("{other:<width$}", width = text.len()).as_bytes(),
        0,
    )
    .unwrap();
    project.engine(&["cancel", "a"]).exits(0);
    running.wait().exits(143);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_dependant_of_a_canceled_job_stays_queued() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    project.engine(&["cancel", "a"]).exits(0);
    let dependant = json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}, "depends_on": ["a"]});
    std::fs::write(project.root("jobs/queued/b.json"), dependant.to_string()).unwrap();
    let said = project.engine(&["run-job", "--json", "--claim", "b"]);
    assert_eq!(said.json()["reason"]["code"], "waiting_dependency");
    assert_eq!(project.places("b"), ["queued"]);
}

#[test]
fn a_job_is_canceled_or_run_and_never_both() {
    let before = project();
    put(&before, "queued", &job(&json!({})).to_string());
    let claim = ["run-job", "--claim", "a"];
    let all = steps(&before.copy(), &claim);
    for step in all.iter().filter(|step| step.kind != "Tell") {
        let project = before.copy();
        let at = format!("the claim stands before step {step:?}");
        let running = project.start(&claim, &[("ENGINE_TEST_STOP_AT", &step.number.to_string())]);
        eventually("it stands", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
        let canceled = project.engine(&["cancel", "--no-wait", "a"]);
        running.signal(Signal::CONT);
        let ran = running.wait();
        // What was only asked is honored, or the job had done its work.
        let told = project.engine(&["cancel", "--json", "a"]);
        let record = project.record("a");
        match record["status"].as_str().unwrap() {
            "canceled" => assert!(ran.code == 143 || ran.code == 125, "{at}: {} {}", ran.code, ran.err),
            "succeeded" => assert_eq!((ran.code, starts(&project)), (0, 1), "{at}: {}", canceled.out),
            other => panic!("{at}: {other}, {} {}", canceled.out, told.out),
        }
        assert!(starts(&project) <= attempts(&record), "{at}: it ran and nobody knows: {record}");
        recover_and_check(&project, "a", &at);
        assert!(!request(&project).exists(), "{at}: the request stays");
    }
}

#[test]
fn a_cancel_that_is_killed_at_any_step_leaves_the_job_canceled_or_queued() {
    let before = project();
    put(&before, "queued", &job(&json!({})).to_string());
    let steps = at_each_step(&Scenario { before, args: vec!["cancel", "a"], starts: 1 });
    assert!(steps >= 4, "only {steps} steps");
}

#[test]
fn a_cancel_of_a_running_job_that_is_killed_at_any_step_can_be_repeated() {
    let project = project();
    let last = {
        let running = start(&project, &long(&json!({})));
        let all = steps(&project, &["cancel", "a"]);
        running.wait().exits(143);
        all.last().unwrap().number
    };
    assert!(last >= 4, "only {last} steps");
    for number in 1..=last {
        let running = start(&project, &long(&json!({})));
        let at = number.to_string();
        let _ = project.engine_with(&["cancel", "a"], &[("ENGINE_TEST_KILL_AT", &at)]);
        project.engine(&["cancel", "a"]).exits(0);
        running.wait().exits(143);
        is_canceled(&project);
    }
    let left: Vec<PathBuf> = std::fs::read_dir(project.root("state/control"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    left.iter().for_each(|path| make_old(path));
    project.engine(&["recover"]).exits(0);
    assert_eq!(std::fs::read_dir(project.root("state/control")).unwrap().count(), 0, "temporary files stay");
}

/// A job `a` that ended with this exit code.
fn ended(code: i32) -> Project {
    let project = project();
    std::fs::write(project.path("code"), code.to_string()).unwrap();
    project.run(&job(&json!({"run_id": "r"}))).exits(code);
    project
}

#[test]
fn an_ended_job_is_queued_again_and_keeps_its_former_results() {
    for code in [0, 3] {
        let project = ended(code);
        assert_eq!(project.engine(&["requeue", "a"]).exits(0), "a: queued again\n");
        let record = project.record("a");
        assert_eq!((&record["status"], &record["life"]), (&json!("queued"), &json!(2)));
        assert_eq!(record["former"]["attempts"], 1);
        check(&project, "a", "requeued");
        project.engine(&["requeue", "a"]).exits(1);
        std::fs::write(project.path("code"), "0").unwrap();
        project.engine(&["run-job", "--claim", "a"]).exits(0);
        let all = project.engine(&["show", "a", "--all"]).exits(0);
        assert!(all.contains(&format!("\"exit_code\":{code},")), "{all}");
        assert_eq!(project.record("a")["attempts"][0]["attempt"], 2);
    }
}

#[test]
fn a_canceled_job_can_be_queued_again_and_is_not_canceled_by_the_old_request() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    project.engine(&["cancel", "a"]).exits(0);
    // At once: whoever ended it may still hold the lease.
    project.engine(&["requeue", "a"]).exits(0);
    running.wait().exits(143);
    write_request(&project, 1, 2);
    go(&project);
    project.engine(&["run-job", "--claim", "a"]).exits(0);
}

#[test]
fn a_requeue_that_is_killed_at_any_step_leaves_the_job_ended_or_queued() {
    for code in [0, 3] {
        let steps = at_each_step(&Scenario { before: ended(code), args: vec!["requeue", "a"], starts: 1 });
        assert!(steps >= 5, "only {steps} steps");
    }
}

#[test]
fn a_requeue_is_refused_for_what_is_queued_running_or_unknown() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    let said = project.engine(&["requeue", "--json", "a"]);
    assert_eq!(done(&said), "id_queued");
    said.exits(1);
    assert_eq!(done(&project.engine(&["requeue", "--json", "none"])), "not_found");
    project.engine(&["cancel", "a"]).exits(0);
    let running = start(&project, &long(&json!({})));
    assert_eq!(done(&project.engine(&["requeue", "--json", "a"])), "id_running");
    go(&project);
    running.wait().exits(0);
}

#[test]
fn a_job_whose_runner_died_is_recovered_and_then_queued_again() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    project.engine(&["requeue", "a"]).exits(0);
    let record = project.record("a");
    assert_eq!((&record["status"], &record["former"]["last_outcome"]), (&json!("queued"), &json!("lost")));
    check(&project, "a", "requeued after a crash");
}

#[test]
fn a_job_without_a_file_is_not_queued_again_and_an_invalid_one_only_after_an_edit() {
    let project = project();
    let missing = ended(3);
    std::fs::remove_file(missing.root("jobs/quarantined/a.json")).unwrap();
    let said = missing.engine(&["requeue", "--json", "a"]);
    assert_eq!(done(&said), "job_file_missing");
    said.exits(1);
    put(&project, "queued", r#"{"job_id": "a", "tool": 7}"#);
    project.engine(&["run-job", "--claim", "a"]).exits(125);
    assert_eq!(done(&project.engine(&["requeue", "--json", "a"])), "invalid_job_file");
    assert_eq!(project.places("a"), ["quarantined"]);
    put(&project, "quarantined", &job(&json!({})).to_string());
    project.engine(&["requeue", "a"]).exits(0);
    project.engine(&["run-job", "--claim", "a"]).exits(0);
}

#[test]
fn the_failed_jobs_of_a_run_are_queued_again_and_no_others() {
    let project = ended(3);
    for (id, run, exe) in [("ok", "r", "true"), ("else", "s", "false"), ("bad", "r", "false")] {
        let document = json!({"job_id": id, "run_id": run, "tool": "shell", "command": {"exe": exe}});
        let _ = project.run(&document);
    }
    assert_eq!(
        project.engine(&["requeue", "--run", "r", "--failed"]).exits(0),
        "a: queued again\nbad: queued again\n"
    );
    assert_eq!(project.places("ok"), ["done"]);
    assert_eq!(project.places("else"), ["quarantined"]);
    project.engine(&["requeue", "--run", "none", "--failed"]).exits(1);
    project.engine(&["requeue", "--run", "r"]).exits(2);
}

#[test]
fn jobs_that_are_requeued_together_keep_their_order() {
    let project = Project::new();
    let ids = ["m", "z", "b", "y", "a", "c"];
    let line = |id: &&str| {
        let command = json!({"exe": "sh", "args": ["-c", format!("echo {id} >> order; exit 1")]});
        format!("{}\n", json!({"job_id": id, "run_id": "r", "tool": "shell", "command": command}))
    };
    let lines: String = ids.iter().map(line).collect();
    std::fs::write(project.path("jobs.jsonl"), lines).unwrap();
    project.engine(&["submit", "jobs.jsonl"]).exits(0);
    let _ = project.engine(&["work", "--drain", "--slots", "1"]);
    let order = || std::fs::read_to_string(project.path("order")).unwrap();
    assert_eq!(order().split_whitespace().collect::<Vec<_>>(), ids);
    let again = |args: &[&str]| -> Vec<String> {
        let said = project.engine(&[&["requeue"], args].concat()).exits(0);
        let told = said.lines().map(|line| line.split_once(':').unwrap().0.to_owned()).collect();
        std::fs::remove_file(project.path("order")).unwrap();
        let _ = project.engine(&["work", "--drain", "--slots", "1"]);
        assert_eq!(order().split_whitespace().map(str::to_owned).collect::<Vec<_>>(), told);
        told
    };
    assert_eq!(again(&["--run", "r", "--failed"]), ids);
    // Of ids that are named their own order counts, also for the next time.
    assert_eq!(again(&["c", "z", "a", "m", "b", "y"]), ["c", "z", "a", "m", "b", "y"]);
    assert_eq!(again(&["--run", "r", "--failed"]), ["c", "z", "a", "m", "b", "y"]);
}

#[test]
fn a_requeue_against_a_claim_runs_the_job_once() {
    let before = ended(3);
    let args = ["requeue", "a"];
    for step in steps(&before.copy(), &args) {
        let project = before.copy();
        std::fs::write(project.path("code"), "0").unwrap();
        let at = format!("the requeue stands before {step:?}");
        let requeue = project.start(&args, &[("ENGINE_TEST_STOP_AT", &step.number.to_string())]);
        eventually("it stands", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", requeue.pid())).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
        // The file may be in `queued/`: the record still says that it is ended.
        project.engine(&["run-job", "--claim", "a"]).exits(125);
        requeue.signal(Signal::CONT);
        requeue.wait().exits(0);
        project.engine(&["run-job", "--claim", "a"]).exits(0);
        assert_eq!(starts(&project), 2, "{at}");
        check(&project, "a", &at);
    }
}

#[test]
fn a_hold_keeps_a_claim_away_and_says_why() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    for (hold, release) in [
        (vec!["hold", "a", "--reason", "new disk"], vec!["release", "a"]),
        (vec!["hold", "--all", "--reason", "new disk"], vec!["release", "--all"]),
    ] {
        project.engine(&hold).exits(0);
        let said = project.engine(&["run-job", "--json", "--claim", "a"]);
        assert_eq!(said.json()["reason"]["code"], "waiting_hold");
        assert!(said.out.contains("new disk"), "{}", said.out);
        said.exits(125);
        project.engine(&release).exits(0);
        assert!(project.engine(&release).exits(0).contains("not held"));
    }
    project.engine(&["run-job", "--claim", "a"]).exits(0);
    project.engine(&["hold", "none"]).exits(1);
    project.engine(&["release", "none"]).exits(1);
    project.engine(&["hold"]).exits(2);
}

#[test]
fn a_hold_does_not_touch_an_attempt_that_runs() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    project.engine(&["hold", "a"]).exits(0);
    go(&project);
    running.wait().exits(0);
}

#[test]
fn a_wait_answers_with_the_ends_of_all() {
    let project = ended(3);
    project.engine(&["wait", "other"]).exits(0);
    let said = project.engine(&["wait", "other", "a", "--json"]);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().any(|line| line["job_id"] == "a" && line["success"] == false));
    assert!(said.err.contains("a failed: `sh` exited with code 3"), "{}", said.err);
    said.exits(1);
    let said = project.engine(&["wait", "other", "none"]);
    assert!(said.err.contains("there is no job `none`"), "{}", said.err);
    said.exits(1);
    project.engine(&["wait", "--run", "none"]).exits(1);
}

#[test]
fn a_wait_that_is_over_says_what_has_not_ended() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    let said = project.engine(&["wait", "a", "--timeout", "0.05"]);
    assert!(said.err.contains("a is queued"), "{}", said.err);
    said.exits(124);
    project.engine(&["wait", "a", "--timeout", "soon"]).exits(2);
}

/// True once a process waits in `poll`, with its watches made.
fn sleeps(running: &Running) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).into_iter().flatten().flatten();
    let inotify =
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to.ends_with("anon_inode:inotify"));
    let state = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
    inotify && state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

#[test]
fn a_wait_ends_within_a_tenth_of_a_second_after_its_job() {
    let once = || {
        let project = project();
        let running = start(&project, &long(&json!({})));
        let waiting = project.start(&["wait", "a"], &[]);
        eventually("it waits", || sleeps(&waiting));
        go(&project);
        running.wait().exits(0);
        let ended = Instant::now();
        waiting.wait().exits(0);
        ended.elapsed()
    };
    // Whoever only polls has just looked and takes a second each time; a busy machine is late now and then.
    let took: Vec<Duration> = (0..3).map(|_| once()).collect();
    assert!(took.iter().any(|took| *took < Duration::from_millis(100)), "{took:?}");
}

#[test]
fn a_wait_for_a_run_ends_with_the_last_of_it_also_of_those_that_join() {
    let project = ended(0);
    let running = start(&project, &long(&json!({"run_id": "r"})));
    let waiting = project.start(&["wait", "--run", "r", "--json"], &[]);
    eventually("it waits", || sleeps(&waiting));
    let joins = json!({"job_id": "b", "run_id": "r", "tool": "shell", "command": {"exe": "false"}});
    std::fs::write(project.root("jobs/queued/b.json"), joins.to_string()).unwrap();
    go(&project);
    running.wait().exits(0);
    project.engine(&["run-job", "--claim", "b"]).exits(1);
    let said = waiting.wait();
    assert!(said.out.contains("\"job_id\":\"b\"") && said.out.contains("\"job_id\":\"a\""), "{}", said.out);
    said.exits(1);
}

#[test]
fn a_job_between_two_attempts_has_not_ended() {
    let project = project();
    let retry = json!({"retry_policy": "retry_same", "backoff": {"strategy": "immediate"}});
    std::fs::write(project.path("code"), "3").unwrap();
    put(&project, "queued", &job(&json!({"metadata": retry})).to_string());
    project.engine(&["run-job", "--claim", "a"]).exits(75);
    project.engine(&["wait", "a", "--timeout", "0.05"]).exits(124);
    std::fs::write(project.path("code"), "0").unwrap();
    project.engine(&["run-job", "--claim", "a"]).exits(0);
    project.engine(&["wait", "a"]).exits(0);
}

#[test]
fn a_wait_for_a_job_whose_runner_is_gone_says_so() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    let said = project.engine(&["wait", "a", "--timeout", "0.05"]);
    assert!(said.err.contains("engine recover"), "{}", said.err);
    said.exits(124);
}

#[test]
fn a_wait_writes_nothing() {
    let project = ended(3);
    let before = crate::crash::snapshot(&project);
    project.engine(&["wait", "a"]).exits(1);
    assert!(before == crate::crash::snapshot(&project));
}

#[test]
fn an_escalated_job_is_judged_by_its_successor() {
    let project = ended(3);
    let path = project.root("state/jobs/a.jsonl");
    let mut record = project.record("a");
    record["seq"] = json!(record["seq"].as_u64().unwrap() + 1);
    record["result"]["metadata"] = json!({"escalated_to": "a.other"});
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{record}\n")).unwrap();
    project.engine(&["wait", "a", "--timeout", "0.05"]).exits(124);
    let waiting = project.start(&["wait", "a"], &[]);
    eventually("it waits", || sleeps(&waiting));
    project.run(&json!({"job_id": "a.other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    waiting.wait().exits(0);
}

/// The codes of `engine explain a`, sorted; every finding has a sentence.
#[track_caller]
fn codes(project: &Project) -> Vec<String> {
    let said = project.engine(&["explain", "a", "--json"]);
    let document = said.json();
    let findings = document["findings"].as_array().unwrap();
    let text = project.engine(&["explain", "a"]).exits(0);
    // How much space is free changes from one look to the next.
    for finding in findings.iter().filter(|finding| finding["code"] != "low_space") {
        assert!(text.contains(finding["message"].as_str().unwrap()), "{text}");
    }
    let mut codes: Vec<String> = findings.iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    said.exits(0);
    codes
}

#[track_caller]
fn explained(project: &Project, part: &str) {
    let text = project.engine(&["explain", "a"]).exits(0);
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_job_that_could_start_is_explained_by_those_before_it() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    assert_eq!(codes(&project), ["ready"]);
    let write = |id: &str, more: &Value| {
        let mut other = job(more);
        other["job_id"] = id.into();
        std::fs::write(project.root(&format!("jobs/queued/{id}.json")), other.to_string()).unwrap();
    };
    // Younger; older but of lower priority; of higher priority but held back: none of them comes before it.
    write("young", &json!({}));
    write("low", &json!({"priority": "low"}));
    write("later", &json!({"priority": "critical", "not_before": "2999-01-01T00:00:00Z"}));
    assert_eq!(codes(&project), ["ready"]);
    write("first", &json!({"priority": "high"}));
    // Two hours make up for one priority.
    assert_eq!(codes(&project), ["priority_aged", "ready"]);
    let file = std::fs::File::options().append(true).open(project.root("jobs/queued/a.json")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    assert_eq!(codes(&project), ["behind"]);
    explained(&project, "1 job of higher priority or older comes first: `first`");
    project.engine(&["explain", "none"]).exits(1);
}

#[test]
fn everything_that_keeps_a_queued_job_from_starting_is_explained_at_once() {
    let project = project();
    let holder = json!({
        "job_id": "holder", "tool": "shell", "locks": ["gpu"],
        "command": {"exe": "sh", "args": ["-c", "until [ -e go ]; do sleep 0.01; done"]},
    });
    let name = project.job(&holder);
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("it holds the lock", || {
        project.record_if_any("holder").is_some_and(|record| record["status"] == "running")
    });
    let _ = project.run(&json!({"job_id": "bad", "tool": "shell", "command": {"exe": "false"}}));
    let waits = json!({
        "locks": ["gpu"], "depends_on": ["other", "bad", "none"], "not_before": "2999-01-01T00:00:00Z",
    });
    put(&project, "queued", &job(&waits).to_string());
    project.engine(&["hold", "a", "--reason", "new disk"]).exits(0);
    assert_eq!(
        codes(&project),
        ["waiting_dependency", "waiting_dependency", "waiting_hold", "waiting_lock", "waiting_time"]
    );
    explained(&project, "new disk");
    explained(&project, "the lock `gpu` is held by `holder` since 20");
    explained(&project, "-> engine requeue bad");
    explained(&project, "`none`, which is not known here");
    explained(&project, "2999-01-01");
    go(&project);
    running.wait().exits(0);
}

#[test]
fn two_jobs_that_disagree_on_the_slots_of_a_lock_are_told() {
    let project = project();
    put(&project, "queued", &job(&json!({"locks": ["db:2"]})).to_string());
    let other = json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}, "locks": ["db:3"]});
    std::fs::write(project.root("jobs/queued/b.json"), other.to_string()).unwrap();
    assert_eq!(codes(&project), ["lock_slots_disagree", "ready"]);
    explained(&project, "`db` 2 slots, `b` gives it 3: 3 may run at once");
}

#[test]
fn a_full_disk_is_explained() {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    std::fs::write(project.root("engine.toml"), "min_free_bytes = 9000000000000000000\n").unwrap();
    assert_eq!(codes(&project), ["low_space"]);
}

#[test]
fn what_is_wrong_with_a_queued_file_is_explained() {
    let project = project();
    put(&project, "queued", r#"{"job_id": "a", "tool": 7}"#);
    assert_eq!(codes(&project), ["invalid_job_file"]);
    put(&project, "queued", r#"{"job_id": "b", "tool": "shell"}"#);
    assert_eq!(codes(&project), ["not_a_job"]);
    let path = project.root("jobs/queued/a.json");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(codes(&project).contains(&"job_file_not_trusted".to_owned()));
    // One that was edited after it was accepted.
    let project = ended(3);
    project.engine(&["requeue", "a"]).exits(0);
    put(&project, "queued", &job(&json!({"priority": "high"})).to_string());
    assert_eq!(codes(&project), ["job_file_changed", "ready"]);
}

#[test]
fn a_retry_is_explained_by_the_attempt_before() {
    let project = project();
    let retry = json!({"retry_policy": "retry_same", "backoff": {"strategy": "linear", "base_seconds": 600}});
    std::fs::write(project.path("code"), "3").unwrap();
    put(&project, "queued", &job(&json!({"metadata": retry})).to_string());
    project.engine(&["run-job", "--claim", "a"]).exits(75);
    assert_eq!(codes(&project), ["waiting_time"]);
    explained(&project, "attempt 1 did not succeed (`sh` exited with code 3)");
    std::fs::remove_file(project.root("jobs/queued/a.json")).unwrap();
    assert_eq!(codes(&project), ["job_file_missing"]);
}

#[test]
fn a_running_job_is_explained_with_its_runner() {
    let project = project();
    let running = start(&project, &long(&json!({})));
    assert_eq!(codes(&project), ["running"]);
    explained(&project, &format!("(pid {})", running.pid()));
    project.engine(&["hold", "a"]).exits(0);
    running.signal(Signal::STOP);
    write_request(&project, 1, 1);
    put(&project, "running", &job(&json!({"priority": "high"})).to_string());
    assert_eq!(codes(&project), ["cancel_requested", "held", "job_file_changed", "runner_stopped"]);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    assert!(codes(&project).contains(&"runner_gone".to_owned()));
    // As another machine on a shared file system would see it.
    let path = project.root("state/jobs/a.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for key in ["host", "boot_id"] {
        let here = project.record("a")["attempts"][0][key].to_string();
        text = text.replace(&format!("\"{key}\":{here}"), &format!("\"{key}\":\"far\""));
    }
    std::fs::write(&path, text).unwrap();
    assert!(codes(&project).contains(&"running_elsewhere".to_owned()));
    explained(&project, "engine recover --host-is-dead far");
    let said = project.engine(&["cancel", "--json", "a"]);
    assert_eq!(done(&said), "refused");
    said.exits(1);
}

#[test]
fn an_ended_job_is_explained_with_its_reason_and_the_way_back() {
    let project = ended(0);
    assert_eq!(codes(&project), ["ended"]);
    let project = ended(3);
    assert_eq!(codes(&project), ["quarantined"]);
    explained(&project, "attempt 1: `sh` exited with code 3");
    explained(&project, "engine requeue a");
    // A crash before the move.
    std::fs::rename(project.root("jobs/quarantined/a.json"), project.root("jobs/running/a.json")).unwrap();
    assert_eq!(codes(&project), ["needs_recovery", "quarantined"]);
    std::fs::remove_file(project.root("jobs/running/a.json")).unwrap();
    assert_eq!(codes(&project), ["job_file_missing", "quarantined"]);
    let project = self::project();
    put(&project, "queued", r#"{"job_id": "a", "tool": 7}"#);
    project.engine(&["run-job", "--claim", "a"]).exits(125);
    assert_eq!(codes(&project), ["invalid_job_file", "quarantined"]);
    let project = ended(3);
    let mut record = project.record("a");
    record["seq"] = json!(record["seq"].as_u64().unwrap() + 1);
    record["result"]["metadata"] = json!({"escalated_to": "a.other"});
    let path = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{record}\n")).unwrap();
    assert_eq!(codes(&project), ["escalated"]);
}

#[test]
fn a_worker_goes_on_after_the_cancel_of_a_job_that_it_runs() {
    let project = project();
    put(&project, "queued", &long(&json!({"priority": "high"})).to_string());
    let after = json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}});
    std::fs::write(project.root("jobs/queued/b.json"), after.to_string()).unwrap();
    let worker = project.start(&["work", "--slots", "1", "--drain"], &[]);
    eventually("the tool runs", || starts(&project) == 1);
    project.engine(&["cancel", "a"]).exits(0);
    project.engine(&["wait", "b"]).exits(0);
    let _ = worker.wait();
    is_canceled(&project);
    assert_eq!(starts(&project), 1);
}

#[test]
fn a_wait_for_a_job_behind_a_failed_one_ends_and_names_it() {
    let project = Project::new();
    project.run(&json!({"job_id": "root", "tool": "shell", "command": {"exe": "false"}})).exits(1);
    for (id, on) in [("middle", "root"), ("last", "middle")] {
        project.job(&json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}, "depends_on": [on]}));
        project.engine(&["submit", &format!("{id}.json")]).exits(0);
    }
    let said = project.engine(&["wait", "last", "--timeout", "60"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("last waits for root: engine requeue root"), "{}", said.err);
}

#[test]
fn a_run_with_an_unreadable_record_has_not_succeeded() {
    let project = Project::new();
    for id in ["good", "bad"] {
        project
            .run(&json!({"job_id": id, "tool": "shell", "run_id": "r", "command": {"exe": "true"}}))
            .exits(0);
    }
    project.engine(&["wait", "--run", "r"]).exits(0);
    std::fs::write(project.root("state/jobs/bad.jsonl"), "xx\n").unwrap();
    let said = project.engine(&["wait", "--run", "r"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("bad, which may be of this run"), "{}", said.err);
}

#[test]
fn a_queued_job_that_another_process_has_is_not_said_to_have_a_runner() {
    let project = Project::new();
    let document = json!({"job_id": "a", "tool": "shell", "command": {"exe": "true"}});
    project.engine(&["submit", &project.job(&document)]).exits(0);
    let record = std::fs::File::options().append(true).open(project.root("state/jobs/a.jsonl")).unwrap();
    rustix::fs::flock(&record, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = project.engine(&["cancel", "--no-wait", "a"]);
    assert!(
        said.code == 0 && said.out.contains("a: it is queued, but another process holds it"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("runner"), "{}", said.out);
}
