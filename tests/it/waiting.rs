//! What keeps a job from starting: holds, times, dependencies, locks, another run, paths, newer formats.

use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{attempts, check, job, make_old, put, recover_and_check, starts};
use crate::support::{Project, Running, Said, eventually, fake_tool};

const RUN: [&str; 4] = ["run-job", "--json", "--job-file", "a.json"];

/// Refused with this code: 125, and nothing is written.
#[track_caller]
fn refused(said: &Said, code: &str) {
    assert_eq!(said.code, 125, "{} {}", said.out, said.err);
    assert_eq!(said.json()["reason"]["code"], code, "{}", said.out);
}

#[track_caller]
fn nothing_was_written(project: &Project) {
    assert_eq!(starts(project), 0);
    assert!(project.record_if_any("a").is_none());
    assert_eq!(project.places("a"), Vec::<String>::new());
}

/// A job that runs until the file `go` exists.
fn long(id: &str, more: &Value) -> Value {
    let script = "echo $ENGINE_ATTEMPT >> starts; until [ -e go ]; do sleep 0.01; done";
    let mut job = job(more);
    job["job_id"] = id.into();
    job["command"]["args"] = json!(["-c", script]);
    job
}

fn start_long(project: &Project, id: &str, more: &Value) -> Running {
    let before = starts(project);
    let name = project.job(&long(id, more));
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the tool runs", || starts(project) > before);
    running
}

fn go(project: &Project) {
    std::fs::write(project.path("go"), "").unwrap();
}

/// Starts a run with `--wait` and gives it when it has looked once and waits.
fn start_waiting(project: &Project) -> Running {
    let mut args = RUN.to_vec();
    args.extend(["--wait", "30"]);
    project.start(&args, &[])
}

#[test]
fn a_hold_keeps_a_job_from_starting() {
    for file in ["HOLD", "a.hold"] {
        let project = Project::new();
        project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
        let hold = project.root(&format!("state/control/{file}"));
        std::fs::write(&hold, "").unwrap();
        refused(&project.run(&job(&json!({}))), "waiting_hold");
        nothing_was_written(&project);
        put(&project, "queued", &job(&json!({})).to_string());
        refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "waiting_hold");
        std::fs::remove_file(project.root("jobs/queued/a.json")).unwrap();
        let waiting = start_waiting(&project);
        std::fs::remove_file(&hold).unwrap();
        waiting.wait().exits(0);
        assert_eq!(starts(&project), 1);
    }
}

#[test]
fn a_hold_of_another_job_does_not_count() {
    let project = Project::new();
    project.run(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    std::fs::write(project.root("state/control/b.hold"), "").unwrap();
    project.run(&job(&json!({}))).exits(0);
}

#[test]
fn a_time_that_has_not_come_keeps_a_job_from_starting() {
    let project = Project::new();
    refused(&project.run(&job(&json!({"not_before": "2999-01-01T00:00:00.000Z"}))), "waiting_time");
    nothing_was_written(&project);
    project.run(&job(&json!({"not_before": "2001-01-01T00:00:00.000Z"}))).exits(0);
}

#[test]
fn a_parked_job_waits_in_the_queue_for_its_time() {
    let project = Project::new();
    project.job(&job(&json!({"not_before": "2999-01-01T00:00:00.000Z"})));
    let mut args = RUN.to_vec();
    args.push("--park");
    project.engine(&args).exits(75);
    assert_eq!(project.places("a"), ["queued"]);
    refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "waiting_time");
    refused(&project.engine(&RUN), "waiting_time");
    project.job(&job(&json!({})));
    refused(&project.engine(&RUN), "id_queued");
    check(&project, "a", "parked");
}

#[test]
fn a_dependency_must_have_succeeded() {
    let project = Project::new();
    let dependant = job(&json!({"depends_on": ["b"]}));
    refused(&project.run(&dependant), "waiting_dependency");
    project.run(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "false"}})).exits(1);
    refused(&project.run(&dependant), "waiting_dependency");
    nothing_was_written(&project);
    let waiting = start_waiting(&project);
    project.run(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    waiting.wait().exits(0);
    let found = &project.record("a")["attempts"][0]["dependencies"];
    let seq = &project.record("b")["seq"];
    assert_eq!(found, &json!([{"job_id": "b", "status": "succeeded", "seq": seq}]));
}

#[test]
fn a_wait_that_is_over_is_refused_and_an_interrupted_one_ends_at_once() {
    let project = Project::new();
    project.job(&job(&json!({"depends_on": ["b"]})));
    let mut args = RUN.to_vec();
    args.extend(["--wait", "0"]);
    refused(&project.engine(&args), "waiting_dependency");
    let waiting = start_waiting(&project);
    // It has installed its handlers once the root is completed.
    eventually("it waits", || project.root("state/VERSION").exists());
    waiting.signal(Signal::INT);
    let said = waiting.wait();
    assert!(said.code == 130 || said.code == -2, "{}", said.code);
    nothing_was_written(&project);
}

#[test]
fn a_named_lock_is_held_by_one_job_at_a_time() {
    let project = Project::new();
    let holder = start_long(&project, "b", &json!({"locks": ["gpu"]}));
    let slot = std::fs::read_to_string(project.root("state/locks/gpu.0")).unwrap();
    assert!(slot.starts_with("b 1 "), "{slot}");
    let wants = job(&json!({"locks": ["gpu"]}));
    let said = project.run(&wants);
    refused(&said, "waiting_lock");
    assert!(said.json()["reason"]["message"].as_str().unwrap().contains("`b`"), "{}", said.out);
    assert_eq!(starts(&project), 1);
    put(&project, "queued", &wants.to_string());
    refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "waiting_lock");
    std::fs::remove_file(project.root("jobs/queued/a.json")).unwrap();
    let waiting = start_waiting(&project);
    go(&project);
    holder.wait().exits(0);
    waiting.wait().exits(0);
    assert_eq!(std::fs::read_to_string(project.root("state/locks/gpu.0")).unwrap(), "");
}

#[test]
fn a_lock_with_two_slots_is_held_by_two_jobs_and_locks_are_taken_all_or_none() {
    let project = Project::new();
    let b = start_long(&project, "b", &json!({"locks": ["db:2"]}));
    let c = start_long(&project, "c", &json!({"locks": ["db:2"]}));
    refused(&project.run(&job(&json!({"locks": ["aa", "db:2"]}))), "waiting_lock");
    // The first one was given back.
    project.run(&job(&json!({"locks": ["aa"]}))).exits(0);
    go(&project);
    b.wait().exits(0);
    c.wait().exits(0);
}

#[test]
fn the_lock_of_a_killed_runner_is_free_only_when_its_job_is_recovered() {
    let project = Project::new();
    let mut more = json!({"locks": ["gpu"]});
    more["on_crash"] = "quarantine".into();
    // It ignores the death signal, so it outlives its runner until recovery ends it.
    let mut holder = long("b", &more);
    holder["command"]["args"] =
        json!(["-c", "trap '' TERM; echo $ENGINE_ATTEMPT >> starts; while :; do sleep 0.01; done"]);
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.1\n").unwrap();
    let name = project.job(&holder);
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("the tool runs", || starts(&project) == 1);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    project.run(&job(&json!({"locks": ["gpu"]}))).exits(0);
    let record = project.record("b");
    assert_eq!(record["attempts"][0]["outcome"], "lost", "{record}");
    assert_eq!(project.places("b"), ["quarantined"]);
    check(&project, "b", "its lock was taken over");
    assert_eq!(std::fs::read_to_string(project.root("state/locks/gpu.0")).unwrap(), "");
}

/// Kills the runner of `a`, which holds a lock.
fn killed_with_a_lock(more: &Value) -> Project {
    let project = Project::new();
    let mut more = more.clone();
    more["locks"] = json!(["gpu"]);
    let running = start_long(&project, "a", &more);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    go(&project);
    project
}

#[test]
fn a_job_can_take_the_lock_that_its_own_dead_attempt_left() {
    let project = killed_with_a_lock(&json!({"on_crash": "requeue"}));
    recover_and_check(&project, "a", "recovered");
    assert_eq!(project.places("a"), ["queued"]);
    project.engine(&["run-job", "--json", "--claim", "a"]).exits(0);
    assert_eq!(attempts(&project.record("a")), 2);
    // And without `engine recover` in between.
    let project = killed_with_a_lock(&json!({"on_crash": "requeue"}));
    put(&project, "queued", &long("a", &json!({"locks": ["gpu"]})).to_string());
    std::fs::remove_file(project.root("jobs/running/a.json")).unwrap();
    project.engine(&["run-job", "--json", "--claim", "a"]).exits(0);
}

#[test]
fn a_direct_run_of_a_job_that_died_with_a_lock_is_the_repetition() {
    for crash in ["requeue", "quarantine"] {
        let project = killed_with_a_lock(&json!({"on_crash": crash}));
        project.engine(&RUN).exits(0);
        assert_eq!(attempts(&project.record("a")), 2, "{crash}");
        check(&project, "a", crash);
    }
}

#[test]
fn a_running_id_is_refused() {
    let project = Project::new();
    let running = start_long(&project, "a", &json!({}));
    refused(&project.engine(&RUN), "id_running");
    let mut args = RUN.to_vec();
    args.push("--park");
    refused(&project.engine(&args), "id_running");
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.record("a")["status"], "running", "recovery leaves the living alone");
    go(&project);
    running.wait().exits(0);
    assert_eq!(starts(&project), 1);
}

#[test]
fn an_id_in_its_backoff_is_running_and_its_file_is_queued() {
    let project = Project::new();
    let backoff = json!({"strategy": "linear", "base_seconds": 60});
    project.job(&job(&json!({"metadata": {"retry_policy": "retry_same", "backoff": backoff}})));
    std::fs::write(project.path("code"), "3").unwrap();
    let running = project.start(&RUN, &[]);
    eventually("the first attempt failed", || {
        project
            .record_if_any("a")
            .is_some_and(|record| record["status"] == "queued" && attempts(&record) == 1)
    });
    eventually("its file is back", || project.places("a") == ["queued"]);
    refused(&project.engine(&RUN), "id_running");
    refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "id_running");
    running.signal(Signal::TERM);
    running.wait().exits(143);
    assert_eq!(project.record("a")["status"], "canceled");
    assert_eq!(project.places("a"), ["done"]);
    check(&project, "a", "canceled");
}

#[test]
fn a_park_between_two_attempts_says_when_the_next_one_is() {
    let project = Project::new();
    let backoff = json!({"strategy": "linear", "base_seconds": 60});
    project.job(&job(&json!({"metadata": {"retry_policy": "retry_same", "backoff": backoff}})));
    std::fs::write(project.path("code"), "3").unwrap();
    let mut args = RUN.to_vec();
    args.push("--park");
    project.engine(&args).exits(75);
    assert!(project.record("a")["not_before"].is_string());
    refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "waiting_time");
    check(&project, "a", "parked");
}

#[test]
fn retries_back_off_and_end_when_they_are_used_up() {
    let project = Project::new();
    let backoff = json!({"strategy": "exponential", "base_seconds": 0.02, "max_seconds": 0.05});
    let metadata = json!({"retry_policy": "retry_same", "max_retries": 3, "backoff": backoff});
    std::fs::write(project.path("code"), "3").unwrap();
    project.run(&job(&json!({"metadata": metadata}))).exits(3);
    let record = project.record("a");
    assert_eq!(attempts(&record), 4);
    assert_eq!(starts(&project), 4);
    assert_eq!(record["status"], "quarantined");
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    for (index, least) in [20, 40, 50].into_iter().enumerate() {
        let waited =
            time(&record["attempts"][index + 1]["started_at"]) - time(&record["attempts"][index]["ended_at"]);
        assert!(waited >= least, "attempt {} began {waited} ms after the one before", index + 2);
    }
    check(&project, "a", "used up");
}

/// A project with an adapter that takes a prompt, and whose program is there.
fn with_helper() -> Project {
    let project = Project::new();
    let manifest =
        json!({"id": "helper", "executable": fake_tool(), "needs_prompt": true, "stdin": "prompt"});
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root("adapters/helper.json"), manifest.to_string()).unwrap();
    project
}

#[test]
fn a_job_that_fails_for_good_is_handed_on_with_what_is_known_of_its_failure() {
    let project = with_helper();
    std::fs::write(project.path("code"), "3").unwrap();
    let metadata = json!({
        "retry_policy": "escalate_to_helper", "max_retries": 1, "backoff": {"strategy": "immediate"}, "model": "m",
    });
    let said = project.run(&job(&json!({"metadata": metadata, "locks": ["gpu"]})));
    assert_eq!(said.code, 3);
    let result = said.json();
    assert_eq!((&result["reason"]["code"], &result["status"]), (&json!("escalated"), &json!("failed")));
    assert_eq!(result["metadata"]["escalated_to"], "a.helper");
    let linked: Value =
        serde_json::from_slice(&std::fs::read(project.root("jobs/queued/a.helper.json")).unwrap()).unwrap();
    assert_eq!((&linked["tool"], &linked["locks"]), (&json!("helper"), &json!(["gpu"])));
    assert_eq!(linked["metadata"]["escalated_from"], json!(["shell"]));
    assert!(linked.get("command").is_none() && linked["metadata"].get("model").is_none(), "{linked}");
    let prompt = linked["metadata"]["prompt"].as_str().unwrap();
    for part in ["echo $ENGINE_ATTEMPT >> starts", "attempt 1: failed", "attempt 2: failed", "Exit code: 3"] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
    project.engine(&["validate", project.root("jobs/queued/a.helper.json").to_str().unwrap()]).exits(0);
    // Handed on once more (cron): the linked job that waits is the one.
    let again = project.run(&job(&json!({"metadata": metadata})));
    assert_eq!(again.json()["metadata"]["escalated_to"], "a.helper");
}

#[test]
fn wait_goes_on_with_the_job_that_was_handed_on_to() {
    let project = with_helper();
    for (id, code, status) in [("good", "0", 0), ("bad", "3", 1)] {
        std::fs::write(project.path("code"), "3").unwrap();
        let policy = json!({"metadata": {"retry_policy": "escalate_to_helper", "max_retries": 0}});
        let mut document = job(&policy);
        document["job_id"] = id.into();
        project.run(&document).exits(3);
        let linked = format!("{id}.helper");
        assert_eq!(project.record(id)["result"]["metadata"]["escalated_to"], json!(linked));
        // It has ended, and is not judged yet.
        project.engine(&["wait", id, "--timeout", "0.1"]).exits(124);
        let waiting = project.start(&["wait", id, "--timeout", "60", "--json"], &[]);
        let manifest = json!({
            "id": "helper", "executable": "sh", "args": ["-c", format!("exit {code}")], "needs_prompt": true,
            "stdin": "prompt",
        });
        std::fs::write(project.root("adapters/helper.json"), manifest.to_string()).unwrap();
        let _ = project.engine(&["run-job", "--claim", &linked]);
        let said = waiting.wait();
        assert_eq!(said.code, status, "{} {}", said.out, said.err);
        let told = said.json();
        assert_eq!((&told["job_id"], &told["judged_by"]), (&json!(id), &json!(linked)), "{told}");
        assert_eq!(told["success"], status == 0);
        assert_eq!(said.err.contains(&format!("bad failed (as `{linked}`)")), status == 1, "{}", said.err);
    }
}

#[test]
fn a_cancel_that_comes_when_the_tool_has_failed_wins_against_the_escalation() {
    let project = with_helper();
    let metadata = json!({"retry_policy": "escalate_to_helper", "max_retries": 0});
    // Its last act: no runner is woken, and the tool is gone when the request is seen.
    let request = json!({"schema_version": 1, "job_id": "a", "life": 1, "attempt": 1, "at": "2026-01-01T00:00:00.000Z"});
    let script = "printf %s \"$REQUEST\" > .engine/state/control/a.cancel; exit 3";
    let said = project.run(&json!({"job_id": "a", "tool": "shell", "metadata": metadata,
        "command": {"exe": "sh", "args": ["-c", script]}, "env": {"REQUEST": request.to_string()}}));
    let result = said.json();
    assert_eq!((&result["outcome"], &result["status"]), (&json!("canceled"), &json!("canceled")), "{result}");
    assert_eq!((said.code, &result["metadata"]["escalated_to"]), (143, &Value::Null));
    assert_eq!(project.places("a.helper"), [] as [&str; 0]);
    assert_eq!(project.places("a"), ["done"]);
}

#[test]
fn a_crash_between_the_linked_job_and_the_end_is_completed_by_recovery() {
    let project = with_helper();
    std::fs::write(project.path("code"), "3").unwrap();
    let metadata = json!({"retry_policy": "escalate_to_helper", "max_retries": 0});
    let document = job(&json!({"metadata": metadata, "on_failure": "quarantine"}));
    project.run(&document).exits(3);
    let place = project.record("a")["place"].as_str().unwrap().to_owned();
    // As it was before the last line, which told the end.
    let record = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&record).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let started = lines.iter().rposition(|line| line.contains("\"status\":\"running\"")).unwrap();
    std::fs::write(&record, format!("{}\n", lines[..=started].join("\n"))).unwrap();
    let done = project.root(&format!("jobs/{place}/a.json"));
    std::fs::rename(done, project.root("jobs/running/a.json")).unwrap();
    project.engine(&["recover"]).exits(0);
    let record = project.record("a");
    assert_eq!(
        (&record["status"], &record["result"]["reason"]["code"]),
        (&json!("failed"), &json!("escalated"))
    );
    assert_eq!(record["result"]["metadata"]["escalated_to"], "a.helper");
    // A linked job of an earlier life is none of this attempt.
    project.run(&document).exits(3);
    assert_eq!(project.record("a")["life"], 2);
}

#[test]
fn a_way_that_leads_back_is_not_taken_and_a_canceled_or_missing_tool_hands_nothing_on() {
    let project = with_helper();
    std::fs::write(project.path("code"), "3").unwrap();
    let metadata = |from: &str| json!({"retry_policy": "escalate_to_helper", "max_retries": 0, "escalated_from": [from]});
    let said = project.run(&job(&json!({"metadata": metadata("helper")}))).json();
    assert_eq!(said["metadata"]["not_escalated"], "the job came from that adapter");
    assert_eq!(said["status"], "quarantined");
    let missing = json!({"job_id": "b", "tool": "shell", "command": {"exe": "no-such-tool"},
        "metadata": {"retry_policy": "escalate_to_helper", "max_retries": 0}});
    let said = project.run(&missing).json();
    assert_eq!((&said["outcome"], &said["status"]), (&json!("not_started"), &json!("quarantined")));
    let mut allowed = missing;
    allowed["metadata"]["fallback_on"] = json!(["absent"]);
    let said = project.run(&allowed).json();
    assert_eq!(said["metadata"]["escalated_to"], "b.helper");
}

#[test]
fn a_log_that_the_job_names_is_put_aside_by_the_next_attempt() {
    let project = Project::new();
    let backoff = json!({"strategy": "immediate"});
    let mut document = job(&json!({
        "paths": {"log_file": "out/a.log"},
        "metadata": {"retry_policy": "retry_same", "max_retries": 2, "backoff": backoff},
    }));
    document["command"]["args"] = json!(["-c", "echo x >> starts; wc -l < starts; exit 3"]);
    project.run(&document).exits(3);
    let log = |name: &str| std::fs::read_to_string(project.path(name)).unwrap().trim().to_owned();
    assert_eq!(log("out/a.log.1"), "1");
    assert_eq!(log("out/a.log.2"), "2");
    assert_eq!(log("out/a.log"), "3");
    // A new life goes on counting.
    project.run(&document).exits(3);
    assert_eq!(log("out/a.log.3"), "3");
    assert_eq!(log("out/a.log"), "6");
}

#[test]
fn a_log_that_is_there_before_the_first_attempt_is_appended_to() {
    let project = Project::new();
    std::fs::write(project.path("a.log"), "mine\n").unwrap();
    let mut document = job(&json!({"paths": {"log_file": "a.log"}}));
    document["command"]["args"] = json!(["-c", "echo yours"]);
    project.run(&document).exits(0);
    assert_eq!(std::fs::read_to_string(project.path("a.log")).unwrap(), "mine\nyours\n");
}

#[test]
fn the_log_of_a_running_job_is_not_shared() {
    let project = Project::new();
    let paths = json!({"paths": {"log_file": "shared.log"}});
    let running = start_long(&project, "b", &paths);
    let said = project.run(&job(&paths));
    assert_eq!(said.code, 125);
    let result = said.json();
    assert_eq!(
        (&result["outcome"], &result["reason"]["code"]),
        (&json!("not_started"), &json!("log_in_use"))
    );
    go(&project);
    running.wait().exits(0);
    assert_eq!(starts(&project), 1);
}

/// Runs a job with these paths, which must not start.
#[track_caller]
fn not_started(project: &Project, paths: &Value, code: &str) {
    let said = project.run(&job(&json!({"paths": paths})));
    assert_eq!(said.code, 125, "{paths}: {}", said.out);
    let result = said.json();
    assert_eq!(result["outcome"], "not_started", "{paths}");
    assert_eq!(result["reason"]["code"], code, "{paths}: {}", result["reason"]);
    assert_eq!(starts(project), 0, "{paths}");
}

#[test]
fn a_log_or_report_does_not_lead_out_of_the_project() {
    let project = Project::new();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), project.path("out")).unwrap();
    symlink(outside.path().join("file"), project.path("link")).unwrap();
    for log in ["../x.log", "a/../../x.log", "/etc/x.log", "out/x.log", "link"] {
        not_started(&project, &json!({"log_file": log}), "path_escapes");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    not_started(&project, &json!({"log_file": "z".repeat(500_000)}), "path_invalid");
    let said = project.engine(&["show", "--json", "a"]);
    assert!(said.out.len() < 20_000, "the record holds the path");
    // A report is written after the tool: where it cannot be, it stands in the record.
    std::fs::write(project.path("code"), "3").unwrap();
    project.run(&job(&json!({"paths": {"error_report": "out/x.json"}}))).exits(3);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(project.record("a")["error_report"].is_object());
}

#[test]
fn a_path_of_another_system_or_a_missing_one_starts_nothing_and_makes_nothing() {
    let project = Project::new();
    let entries = || std::fs::read_dir(project.dir()).unwrap().count();
    project.job(&job(&json!({})));
    let before = entries();
    for (key, code) in
        [("C:/work", "path_foreign"), ("\\\\server\\x", "path_foreign"), ("nowhere", "path_missing")]
    {
        not_started(&project, &json!({"repo_root": key}), code);
        not_started(&project, &json!({"working_dir": key}), code);
    }
    not_started(&project, &json!({"log_file": "C:\\logs\\a.log"}), "path_foreign");
    assert_eq!(entries(), before, "something was made");
}

#[test]
fn a_newer_record_is_not_appended_to() {
    let project = Project::new();
    project.run(&job(&json!({}))).exits(0);
    let path = project.root("state/jobs/a.jsonl");
    let mut record = project.record("a");
    record["schema_version"] = 2.into();
    record["seq"] = 4.into();
    let text = std::fs::read_to_string(&path).unwrap() + &record.to_string() + "\n";
    std::fs::write(&path, &text).unwrap();
    refused(&project.engine(&RUN), "newer_format");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // It stops its own job only.
    project.run(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    put(&project, "queued", &job(&json!({})).to_string());
    project.engine(&["recover"]).exits(125);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(starts(&project), 1);
}

#[test]
fn a_newer_root_is_not_changed() {
    let project = Project::new();
    project.run(&job(&json!({}))).exits(0);
    let path = project.root("state/VERSION");
    std::fs::write(&path, r#"{"schema_version":2,"store":"x"}"#).unwrap();
    refused(&project.engine(&RUN), "newer_format");
    project.engine(&["recover"]).exits(125);
    project.engine(&["show", "a"]).exits(0);
    project.engine(&["list"]).exits(0);
    assert_eq!(starts(&project), 1);
}

#[test]
fn a_file_that_is_still_being_copied_is_not_judged() {
    let project = Project::new();
    project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    put(&project, "queued", "{\"job_id\": \"a\", ");
    let path = project.root("jobs/queued/a.json");
    std::fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    refused(&project.engine(&["run-job", "--json", "--claim", "a"]), "job_file_changing");
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.places("a"), ["queued"]);
    make_old(&path);
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.places("a"), Vec::<String>::new(), "and is not taken for the job `a` in quarantine");
}

#[test]
fn an_ended_job_that_is_parked_again_waits_in_the_queue() {
    let project = Project::new();
    let quick = |more: &Value| {
        let mut document = json!({"job_id": "p", "tool": "shell", "command": {"exe": "true"}});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    project.run(&quick(&json!({}))).exits(0);
    let name = project.job(&quick(&json!({"depends_on": ["nobody"]})));
    project.engine(&["run-job", "--park", "--job-file", &name]).exits(75);
    assert_eq!(project.places("p"), ["queued"]);
    assert_eq!(project.record("p")["life"], 2);
}

#[test]
fn a_manifest_that_others_can_write_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new();
    std::fs::create_dir(project.root("adapters")).unwrap();
    let manifest = project.root("adapters/mine.json");
    std::fs::write(&manifest, r#"{"id": "mine", "executable": "true"}"#).unwrap();
    std::fs::set_permissions(&manifest, std::fs::Permissions::from_mode(0o666)).unwrap();
    let said = project.run(&json!({"job_id": "m", "tool": "mine"}));
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("adapter_invalid")));
}

#[test]
fn no_job_names_the_engines_own_files_as_its_log_or_report() {
    let project = Project::new();
    for (key, path) in [
        ("error_report", ".engine/state/jobs/w.jsonl"),
        ("log_file", ".engine/state/jobs/other.jsonl"),
        ("log_file", ".engine/jobs/queued/w.json"),
        ("log_file", ".engine/engine.toml"),
    ] {
        let job =
            json!({"job_id": "w", "tool": "shell", "command": {"exe": "false"}, "paths": {(key): path}});
        let said = project.run(&job);
        let code = if key == "log_file" { 125 } else { 1 };
        assert_eq!(said.code, code, "{path}: {}", said.err);
        assert_eq!(project.record("w")["status"], "quarantined", "{path}");
    }
}

#[test]
fn a_report_does_not_replace_what_stood_there() {
    let project = Project::new();
    std::fs::write(project.path("notes.txt"), "precious").unwrap();
    let job = json!({"job_id": "w", "tool": "shell", "command": {"exe": "false"}, "paths": {"error_report": "notes.txt"}});
    project.run(&job).exits(1);
    assert_eq!(std::fs::read_to_string(project.path("notes.txt.1")).unwrap(), "precious");
}

#[test]
fn a_record_that_is_no_file_and_a_journal_that_is_none_stop_no_other_recovery() {
    let project = Project::new();
    let mkfifo = |path: &str| {
        let path = project.root(path);
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let name =
        project.job(&json!({"job_id": "w", "tool": "shell", "command": {"exe": "sleep", "args": ["60"]}}));
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("it runs", || project.record_if_any("w").is_some_and(|record| record["status"] == "running"));
    running.signal(Signal::KILL);
    drop(running);
    std::fs::write(project.root("jobs/queued/bad.json"), r#"{"job_id": "bad", "tool": "shell"}"#).unwrap();
    mkfifo("state/jobs/bad.jsonl");
    mkfifo("state/events.jsonl");
    let _ = project.engine(&["recover"]);
    assert_eq!(project.record("w")["status"], "quarantined");
}

#[test]
fn what_is_no_file_in_the_queue_is_left_alone_by_a_run_of_its_id() {
    let project = Project::new();
    symlink("/etc/passwd", project.root("jobs/running/w.json")).unwrap();
    let said = project.run(&json!({"job_id": "w", "tool": "shell", "command": {"exe": "true"}}));
    refused(&said, "job_file_not_trusted");
    assert!(project.root("jobs/running/w.json").is_symlink());
}

#[test]
fn the_result_of_one_attempt_is_not_mixed_with_that_of_another() {
    let project = Project::new();
    let script = "if [ -e again ]; then echo '{\"success\": true}'; else touch again; \
                  echo '{\"success\": false, \"message\": \"boom\", \"content\": {\"a\": 1}}'; fi";
    let job = json!({"job_id": "w", "tool": "plugin", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"retry_policy": "retry_same", "backoff": {"strategy": "immediate"}}});
    project.run(&job).exits(0);
    assert_eq!(project.record("w")["result"]["metadata"], json!({}));
}

#[test]
fn first_commands_at_once_make_one_root() {
    for _ in 0..5 {
        let project = Project::without_root();
        let all: Vec<Running> = (0..4).map(|_| project.start(&["run-job", "--", "true"], &[])).collect();
        for running in all {
            running.wait().exits(0);
        }
    }
}

#[test]
fn a_secret_in_a_git_argument_is_in_no_record_or_report() {
    let project = Project::new();
    let job = json!({"job_id": "w", "tool": "git", "command": {"args": ["https://x:secretvalue123@host/r"]},
        "env": {"GIT_PASS": {"from_env": "PASS"}}});
    let name = project.job(&job);
    let said = project.engine_with(&["run-job", "--job-file", &name], &[("PASS", "secretvalue123")]);
    assert_ne!(said.code, 0);
    let record = project.record("w").to_string();
    assert!(record.contains("[redacted]") && !record.contains("secretvalue123"), "{record}");
    let report = std::fs::read_to_string(project.root("state/logs/w.1.error.json")).unwrap();
    assert!(!report.contains("secretvalue123"), "{report}");
}
