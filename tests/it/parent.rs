//! A job that is a part of another one: who may run it, and what becomes of it when its parent is stopped, killed or retired.
//!
//! The tests that are named after rules are the scenarios of part 8 of the model. The parent's tool is a script that plays the
//! conductor of a workstream.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::model::is_stopped;
use crate::support::{Project, Running, eventually, processes_with, shell, with};

const ENGINE: &str = env!("CARGO_BIN_EXE_engine");

/// A root with an adapter whose tool is a script that tells its verdict.
fn project() -> Project {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let adapter = json!({
        "id": "conductor", "executable": "sh", "args": ["-c", "{script}"], "reader": "verdict", "repeatable": true,
    });
    std::fs::write(project.root("adapters/conductor.json"), adapter.to_string()).unwrap();
    project
}

/// A job whose tool runs a script in which `run` and `claim` run the child `c`, and `tell WORD` is the last line.
fn told(id: &str, script: &str) -> Value {
    let script = format!(
        "exec 2>/dev/null
         run() {{ {ENGINE} run-job -q --output never --job-file c.json; }}
         claim() {{ {ENGINE} run-job -q --claim c; }}
         tell() {{ echo \"{{\\\"verdict\\\": \\\"$1\\\"$2}}\"; exit 0; }}
         {script}"
    );
    json!({"job_id": id, "tool": "conductor", "metadata": {"script": script}})
}

fn parent(script: &str) -> Value {
    told("p", script)
}

fn child(script: &str) -> Value {
    with(shell("c", script), &json!({"parent": "p"}))
}

fn uuid(project: &Project) -> String {
    let text = std::fs::read_to_string(project.root("state/VERSION")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["store"].as_str().unwrap().to_owned()
}

fn pid_in(project: &Project, file: &str) -> Pid {
    let text = || std::fs::read_to_string(project.path(file)).unwrap_or_default();
    eventually(file, || text().ends_with('\n'));
    Pid::from_raw(text().trim().parse().unwrap()).unwrap()
}

/// The child's tool, once it has written its pid, and the pid of its runner.
fn running_child(project: &Project) -> (Pid, Pid) {
    let tool = pid_in(project, "tool");
    let runner = project.record("c")["attempts"][0]["pid"].as_i64().unwrap();
    (tool, Pid::from_raw(i32::try_from(runner).unwrap()).unwrap())
}

/// A parent that runs and whose child's tool has started.
fn started(project: &Project, script: &str, tool: &str) -> Running {
    project.job(&child(&format!("{tool} echo $$ > tool; while :; do sleep 0.01; done")));
    project.job(&parent(script));
    let running = project.start(&["run-job", "--job-file", "p.json"], &[]);
    let _ = running_child(project);
    running
}

// ---- who runs it -------------------------------------------------------------------------------------------------

#[test]
fn child_under_its_parents_tool_runs_it_and_nothing_else_does() {
    let project = project();
    project.job(&child("env | grep ^ENGINE_ | sort > seen"));
    let by_hand = ["run-job", "--json", "--job-file", "c.json"];
    let refused = |said: crate::support::Said| {
        assert_eq!(said.code, 125, "{}", said.err);
        assert_eq!(said.json()["reason"]["code"], "not_under_parent");
    };
    refused(project.engine(&by_hand));
    assert!(project.record_if_any("c").is_none() && project.places("c").is_empty());

    project.run(&parent("run || tell failed; tell succeeded")).exits(0);
    assert_eq!(project.record("c")["job"]["parent"], "p");
    assert!(project.journal().iter().any(|line| line["job_id"] == "c" && line["parent"] == "p"));
    let uuid = uuid(&project);
    let seen = std::fs::read_to_string(project.path("seen")).unwrap();
    let want = format!("ENGINE_ATTEMPT={uuid}/c/1\nENGINE_PARENT_ATTEMPT={uuid}/p/1\n");
    assert_eq!(seen, want);

    // The parent's attempt is over: its name opens no door any more.
    let over = format!("{uuid}/p/1");
    refused(project.engine_with(&by_hand, &[("ENGINE_ATTEMPT", &over)]));
    assert_eq!(project.record("c")["life"], 1);
}

#[test]
fn child_under_another_job_or_another_attempt_is_refused() {
    let project = project();
    let uuid = uuid(&project);
    project.job(&child("true"));
    project.job(&parent("touch runs; until [ -e go ]; do sleep 0.01; done; tell succeeded"));
    let running = project.start(&["run-job", "--job-file", "p.json"], &[]);
    eventually("it runs", || project.path("runs").exists());
    let with_marker = |marker: &str| {
        project.engine_with(&["run-job", "--json", "--job-file", "c.json"], &[("ENGINE_ATTEMPT", marker)])
    };
    for marker in ["", "x", &format!("{uuid}/p/2"), &format!("{uuid}/other/1"), "0/p/1"] {
        assert_eq!(with_marker(marker).json()["reason"]["code"], "not_under_parent", "{marker}");
    }
    with_marker(&format!("{uuid}/p/1")).exits(0);
    // A child has no children.
    project.job(&with(shell("g", "true"), &json!({"parent": "c"})));
    let deeper = project.engine(&["run-job", "--json", "--job-file", "g.json"]);
    assert_eq!(deeper.json()["reason"]["code"], "not_under_parent");
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
}

#[test]
fn child_claim_a_parked_child_is_left_alone_by_workers_and_claimed_under_its_parent() {
    let project = project();
    std::fs::write(project.root("engine.toml"), "slots = 1\n").unwrap();
    let wait = r#", \"not_before\": \"2020-01-01T00:00:00Z\""#;
    let script = format!("[ -e again ] && tell succeeded; tell parked '{}'", wait.replace('\\', ""));
    let parked = with(told("c", &script), &json!({"parent": "p"}));
    project.job(&parked);
    project.job(&parent(&format!(
        "[ -e again ] && {{ claim && tell succeeded; tell failed; }}; run; [ $? = 75 ] && tell parked '{}'; tell failed",
        wait.replace('\\', "")
    )));
    project.engine(&["run-job", "--json", "--job-file", "p.json"]).exits(75);
    for id in ["p", "c"] {
        assert_eq!(project.record(id)["status"], "queued", "{id}");
        assert_eq!(project.record(id)["result"]["outcome"], "parked", "{id}");
    }
    let by_hand = project.engine(&["run-job", "--json", "--claim", "c"]);
    assert_eq!((by_hand.code, &by_hand.json()["reason"]["code"]), (125, &json!("not_under_parent")));
    let explained = project.engine(&["explain", "c"]).exits(0);
    assert!(explained.contains("it is a part of `p`, whose tool starts it"), "{explained}");

    // With one slot for the whole root, which the parent holds.
    std::fs::write(project.path("again"), "").unwrap();
    project.engine(&["work", "--drain", "--slots", "2"]).exits(0);
    for id in ["p", "c"] {
        let record = project.record(id);
        assert_eq!((&record["status"], &record["life"]), (&json!("succeeded"), &json!(1)), "{id}");
        assert_eq!(record["attempts"].as_array().unwrap().len(), 2, "{id}");
    }
}

#[test]
fn a_queued_child_is_replaced_by_what_its_parent_wants_now() {
    let project = project();
    std::fs::create_dir_all(project.root("jobs/queued")).unwrap();
    std::fs::write(project.root("jobs/queued/c.json"), child("exit 9").to_string()).unwrap();
    project.job(&child("exit 3"));
    let said = project.run(&parent("run; [ $? = 3 ] && tell succeeded; tell failed"));
    said.exits(0);
    assert_eq!(project.record("c")["result"]["exit_code"], 3);
    // And an ended one gets a new life.
    project.job(&child("exit 0"));
    project.run(&parent("run && tell succeeded; tell failed")).exits(0);
    assert_eq!(
        (&project.record("c")["life"], &project.record("c")["status"]),
        (&json!(2), &json!("succeeded"))
    );
}

#[test]
fn no_other_door_lets_a_child_in() {
    let project = project();
    let name = project.job(&child("true"));
    let said = project.engine(&["submit", "--json", &name]);
    assert_eq!((said.code, &said.json()["reason"]["code"]), (1, &json!("not_under_parent")));
    for wrong in [json!({"parent": "c"}), json!({"metadata": {"retry_policy": "escalate_to_codex"}})] {
        let name = project.job(&with(child("true"), &wrong));
        project.engine(&["validate", &name]).exits(1);
    }
    // A person may put anything into the queue; it waits there until it is canceled.
    project.job(&child("true"));
    std::fs::create_dir_all(project.root("jobs/queued")).unwrap();
    std::fs::copy(project.path("c.json"), project.root("jobs/queued/c.json")).unwrap();
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("c"), ["queued"]);
    project.engine(&["cancel", "c"]).exits(0);
    assert_eq!(project.record("c")["status"], "canceled");
}

#[test]
fn child_requeue_is_refused_and_names_the_parent() {
    let project = project();
    project.job(&child("exit 1"));
    project.run(&parent("run; tell failed")).exits(1);
    let said = project.engine(&["requeue", "c"]);
    assert!(said.says_with(1).contains("`c` is a part of `p`: requeue that one"));
    assert_eq!(project.record("c")["life"], 1);
    let explained = project.engine(&["explain", "c"]).exits(0);
    assert!(explained.contains("engine requeue p"), "{explained}");
}

// ---- stopped and killed ------------------------------------------------------------------------------------------

#[test]
fn child_mark_what_a_step_left_is_ended_with_its_parent_whatever_session_it_made() {
    let project = project();
    // Conductor, runner and tool survive the parent's runner; the runner is killed as well, and its tool hears no signal.
    let running = started(&project, "trap : TERM; run; while :; do sleep 0.01; done", "trap '' TERM;");
    let (_, runner) = running_child(&project);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    kill_process(runner, Signal::KILL).unwrap();
    let of_child = format!("ENGINE_ATTEMPT={}/c/1", uuid(&project));
    let of_parent = format!("ENGINE_ATTEMPT={}/p/1", uuid(&project));
    for marker in [&of_child, &of_parent] {
        assert!(!processes_with(marker).is_empty(), "{marker}");
    }

    // Only the parent: its slot of a lock, a direct run of it, or a worker has it recovered before the child.
    project.job(&parent("tell succeeded"));
    project.engine(&["run-job", "-q", "--job-file", "p.json"]).exits(0);
    assert_eq!(processes_with(&of_child), [0; 0]);
    assert_eq!(processes_with(&of_parent), [0; 0]);
    assert_eq!(project.record("c")["status"], "running", "it is recovered by itself");
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.record("c")["result"]["outcome"], "lost");
}

#[test]
fn a_step_whose_runner_is_killed_at_any_moment_is_run_again_by_its_conductor() {
    for number in 1.. {
        let project = project();
        project.job(&child("echo >> starts"));
        // One that was ended is not run again: a step that is taken counts.
        let ended = r#"tail -n 1 .engine/state/jobs/c.jsonl 2> /dev/null | grep -q '"status":"succeeded"'"#;
        let script = format!(
            "(export ENGINE_TEST_KILL_AT={number}; run && touch whole); {ended} || run; tell succeeded"
        );
        project.run(&parent(&script)).exits(0);
        project.engine(&["recover"]).exits(0);
        assert_eq!(project.record("c")["status"], "succeeded", "killed at step {number}");
        assert_eq!(project.places("c"), ["done"], "killed at step {number}");
        let starts = std::fs::read_to_string(project.path("starts")).unwrap().lines().count();
        assert!((1..=2).contains(&starts), "{starts} starts, killed at step {number}");
        assert_eq!(processes_with(&format!("ENGINE_ATTEMPT={}/", uuid(&project))), [0; 0]);
        if project.path("whole").exists() {
            assert!(number > 15, "only {number} steps");
            break;
        }
    }
}

#[test]
fn a_worker_recovers_a_killed_parent_and_its_next_conductor_goes_on_with_the_step() {
    for whose in ["parent's runner", "conductor", "all"] {
        let project = project();
        // A step that another process is recovering is refused for that long.
        let mut job = parent(
            "trap : TERM; until run; [ $? != 125 ]; do sleep 0.01; done; [ -e go ] && tell succeeded; tell failed",
        );
        job["on_crash"] = json!("requeue");
        job["metadata"]["retry_policy"] = json!("retry_same");
        job["metadata"]["backoff"] = json!({"strategy": "immediate"});
        project.job(&child(
            "echo x >> starts; [ -e go ] || { trap '' TERM; echo $$ > tool; while :; do sleep 0.01; done; }",
        ));
        project.job(&job);
        project.engine(&["submit", "p.json"]).exits(0);
        let worker = project.start(&["work", "--drain"], &[]);
        let (tool, runner) = running_child(&project);
        std::fs::write(project.path("go"), "").unwrap();
        let of_parent = project.record("p")["attempts"][0]["pid"].as_i64().unwrap();
        let of_parent = Pid::from_raw(i32::try_from(of_parent).unwrap()).unwrap();
        let conductor = processes_with(&format!("ENGINE_ATTEMPT={}/p/1", uuid(&project)))
            .into_iter()
            .filter_map(Pid::from_raw)
            .find(|pid| *pid != runner);
        let killed = match whose {
            "parent's runner" => vec![of_parent],
            "conductor" => vec![conductor.unwrap()],
            _ => vec![of_parent, conductor.unwrap(), runner, tool],
        };
        for pid in killed {
            kill_process(pid, Signal::KILL).unwrap();
        }
        worker.wait().exits(0);
        let record = project.record("p");
        assert_eq!(
            (&record["status"], record["attempts"].as_array().unwrap().len()),
            (&json!("succeeded"), 2),
            "{whose}"
        );
        assert_eq!(project.record("c")["status"], "succeeded", "{whose}");
        let starts = std::fs::read_to_string(project.path("starts")).unwrap();
        assert_eq!(starts.lines().count(), 2, "{whose}");
    }
}

#[test]
fn child_kill_first_the_next_run_of_a_step_ends_what_the_last_one_left() {
    let project = project();
    let script = "run; touch second; run && tell succeeded; tell failed";
    project.job(&child(
        "[ -e second ] && { kill -0 $(cat tool) && exit 9; exit 0; }; trap '' TERM; echo $$ > tool; \
         while :; do sleep 0.01; done",
    ));
    project.job(&parent(script));
    let running = project.start(&["run-job", "--job-file", "p.json"], &[]);
    let (_, runner) = running_child(&project);
    kill_process(runner, Signal::KILL).unwrap();
    running.wait().exits(0);
    let record = project.record("c");
    assert_eq!((&record["life"], &record["former"]["last_outcome"]), (&json!(2), &json!("lost")));
    assert_eq!(record["attempts"][0]["outcome"], "succeeded");
}

#[test]
fn child_canceled_is_what_a_step_says_that_was_asked_to_stop_before_its_end_was_recorded() {
    // Its tool has failed by itself, or by a signal that came to it first: what it was is not known.
    let project = project();
    let trace = project.path("trace");
    project.job(&child("exit 1"));
    project.run(&parent(&format!("export ENGINE_TEST_TRACE={}; run; tell failed", trace.display()))).exits(1);
    let text = std::fs::read_to_string(trace).unwrap();
    let number = |kind: &str, path: &str| {
        let is = |line: &&str| line.contains(kind) && line.ends_with(path);
        text.lines().rfind(is).unwrap().split('\t').next().unwrap().parse::<u64>().unwrap()
    };
    let (spawn, end) = (number("Spawn", ""), number("Append", "state/jobs/c.jsonl"));
    assert!(spawn + 1 < end, "{text}");
    for stop_at in spawn + 1..end {
        let project = crate::parent::project();
        project.job(&child("exit 1"));
        project.job(&parent(&format!("export ENGINE_TEST_STOP_AT={stop_at}; run; tell failed")));
        let running = project.start(&["run-job", "--job-file", "p.json"], &[]);
        let runner = || project.record_if_any("c").and_then(|record| record["attempts"][0]["pid"].as_i64());
        eventually("its runner stops", || {
            runner().is_some_and(|pid| is_stopped(i32::try_from(pid).unwrap()))
        });
        let runner = Pid::from_raw(i32::try_from(runner().unwrap()).unwrap()).unwrap();
        kill_process(runner, Signal::TERM).unwrap();
        kill_process(runner, Signal::CONT).unwrap();
        running.wait().exits(1);
        let record = project.record("c");
        assert_eq!(record["status"], "canceled", "asked at step {stop_at}: {record}\n{text}");
        assert_eq!(record["error_report"]["outcome"], "canceled");
    }
}

#[test]
fn child_runner_first_recovery_of_the_parent_asks_tools_when_no_runner_is_left() {
    let project = project();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 10\n").unwrap();
    // TERM comes to each of them once by the death of its runner. Asked again, the conductor stays for a while and looks whether
    // the tool is asked meanwhile.
    let count = |file: &str| format!("[ \"$(cat {file} 2> /dev/null | wc -l)\" -ge 2 ]");
    let script = format!(
        "trap 'echo >> asks' TERM; run; until {}; do sleep 0.01; done; \
         for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 0.02; {} && touch early; done; touch done",
        count("asks"),
        count("terms"),
    );
    let tool = format!("trap 'echo >> terms; {} && exit 1' TERM;", count("terms"));
    let running = started(&project, &script, &tool);
    let (_, runner) = running_child(&project);
    kill_process(runner, Signal::KILL).unwrap();
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    for file in ["asks", "terms"] {
        eventually(file, || project.path(file).exists());
    }
    project.job(&parent("tell succeeded"));
    project.engine(&["run-job", "-q", "--job-file", "p.json"]).exits(0);
    assert!(project.path("done").exists(), "it had its time");
    assert!(!project.path("early").exists(), "its tool was asked before it");
    assert_eq!(std::fs::read_to_string(project.path("terms")).unwrap().lines().count(), 2);
}

#[test]
fn a_recovery_of_the_parent_makes_no_failure_of_its_steps() {
    let project = project();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 1\n").unwrap();
    let running = started(&project, "trap : TERM; run; while :; do sleep 0.01; done", "trap 'exit 1' TERM;");
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    project.job(&parent("tell succeeded"));
    project.engine(&["run-job", "-q", "--job-file", "p.json"]).exits(0);
    assert_eq!(project.record("c")["result"]["outcome"], "canceled");
}

#[test]
fn a_cancel_of_the_parent_reaches_conductor_runner_and_tool() {
    let project = project();
    let running = started(&project, "run; tell failed", "trap 'exit 1' TERM;");
    project.engine(&["cancel", "p"]).exits(0);
    running.wait().exits(143);
    assert_eq!(processes_with(&format!("ENGINE_ATTEMPT={}/", uuid(&project))), [0; 0]);
    assert_eq!(project.record("c")["result"]["outcome"], "canceled");
}

#[test]
fn a_step_that_a_person_cancels_ends_alone() {
    let project = project();
    let running = started(&project, "run; [ $? = 143 ] && tell failed; tell succeeded", "");
    project.engine(&["cancel", "c"]).exits(0);
    running.wait().exits(1);
    assert_eq!(project.record("c")["result"]["reason"]["code"], "canceled_by_user");
}

// ---- the verdict -------------------------------------------------------------------------------------------------

#[test]
fn each_verdict_has_its_exit_status_and_its_directory() {
    for (script, on_failure, exit, status, outcome) in [
        ("tell succeeded", "quarantine", 0, "succeeded", "succeeded"),
        ("tell failed", "done", 1, "failed", "failed"),
        ("tell failed", "quarantine", 1, "quarantined", "failed"),
        ("tell quarantined", "done", 1, "quarantined", "failed"),
        ("tell parked", "done", 75, "queued", "parked"),
        ("tell canceled", "done", 143, "canceled", "canceled"),
        ("exit 0", "done", 1, "failed", "failed"),
        ("echo '{\"verdict\": \"succeeded\"}'; exit 4", "done", 4, "failed", "failed"),
    ] {
        let project = project();
        let more = r#"', "reason": {"code": "fix_limit", "message": "m"}, "metadata": {"head": "abc"}'"#;
        let script = if script.starts_with("tell") { format!("{script} {more}") } else { script.to_owned() };
        let mut job = with(parent(&script), &json!({"on_failure": on_failure}));
        job["metadata"]["max_retries"] = json!(3);
        let said = project.run(&job);
        assert_eq!(said.code, exit, "{script}: {}", said.err);
        let result = said.json();
        let record = project.record("p");
        assert_eq!((&record["status"], &result["outcome"]), (&json!(status), &json!(outcome)), "{script}");
        assert_eq!(record["attempts"].as_array().unwrap().len(), 1, "it is not repeated: {script}");
        if script.starts_with("tell") {
            assert_eq!(result["reason"]["code"], "fix_limit");
            assert_eq!(
                (&result["metadata"]["head"], result["metadata"]["verdict"].is_string()),
                (&json!("abc"), true)
            );
        }
    }
}

#[test]
fn a_verdict_counts_also_where_the_runner_stopped_the_conductor() {
    let script = "trap 'tell failed' TERM; touch runs; while :; do sleep 0.01; done";
    let job = |more: Value| {
        let mut job =
            parent(&script.replace("tell failed", r#"tell failed ", \"metadata\": {\"clean\": true}""#));
        job["metadata"]["max_retries"] = json!(3);
        job["metadata"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    };
    let project = project();
    let result = project.run(&job(json!({"timeout_seconds": 0.3}))).json();
    assert_eq!((&result["outcome"], &result["attempt"]), (&json!("timed_out"), &json!(1)));
    assert_eq!(
        (&result["metadata"]["clean"], &result["metadata"]["verdict"]),
        (&json!(true), &json!("failed"))
    );

    std::fs::remove_file(project.path("runs")).unwrap();
    project.job(&job(json!({})));
    let running = project.start(&["run-job", "--json", "--job-file", "p.json"], &[]);
    eventually("it runs", || project.path("runs").exists());
    running.signal(Signal::TERM);
    let said = running.wait();
    assert_eq!(said.code, 143);
    let result = said.json();
    assert_eq!((&result["outcome"], &result["metadata"]["verdict"]), (&json!("canceled"), &json!("failed")));
}

#[test]
fn only_a_conductor_that_was_killed_without_a_verdict_runs_again() {
    let project = project();
    let mut job = parent("[ -e second ] && tell succeeded; touch second; kill -9 $$");
    job["metadata"]["retry_policy"] = json!("retry_same");
    job["metadata"]["backoff"] = json!({"strategy": "immediate"});
    project.run(&job).exits(0);
    let attempts = project.record("p")["attempts"].clone();
    assert_eq!((&attempts[0]["outcome"], &attempts[1]["outcome"]), (&json!("killed"), &json!("succeeded")));
}

#[test]
fn the_adapter_of_workstreams_runs_this_program_on_this_root() {
    let project = project();
    let job = json!({"job_id": "w", "tool": "workstream"});
    let result = project.run(&job).json();
    // Up to now there is no such verb; what was run is the engine itself.
    let dry = project.engine(&["adapters", "--json"]).json();
    assert_eq!(dry["workstream"]["executable"], "/proc/self/exe");
    assert_ne!(result["reason"]["code"], "tool_not_found", "{result}");
}

// ---- what lists, counts and retires ------------------------------------------------------------------------------

/// A run of two parents, each with a child that has ended, and a job without parts.
fn a_run() -> Project {
    let project = project();
    for name in ["a", "b"] {
        let step = format!("r.{name}.01-edit");
        let child = with(
            shell(&step, if name == "a" { "true" } else { "exit 1" }),
            &json!({"parent": format!("r.{name}"), "run_id": "r", "on_failure": "done"}),
        );
        std::fs::write(project.path("c.json"), child.to_string()).unwrap();
        let id = format!("r.{name}");
        let parent = with(
            told(&id, "run || tell failed; tell succeeded"),
            &json!({"run_id": "r", "on_failure": "done"}),
        );
        let _ = project.run(&parent).out;
    }
    project.run(&shell("alone", "true")).exits(0);
    project
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn lists_counts_and_runs_mean_jobs_without_a_parent() {
    let project = a_run();
    let list = |args: &[&str]| project.engine(&[&["list"], args].concat()).exits(0);
    assert_eq!(lines(&list(&[])), ["ID", "alone", "r.a", "r.b"]);
    assert_eq!(lines(&list(&["--run", "r"])), ["ID", "r.a", "r.b"]);
    assert_eq!(lines(&list(&["--limit", "2"])), ["ID", "alone", "r.b"]);
    let all = ["ID", "alone", "r.a", "r.a.01-edit", "r.b", "r.b.01-edit"];
    assert_eq!(lines(&list(&["--steps"])), all);
    let counts = || project.engine(&["status", "--json"]).json()["counts"].clone();
    let want =
        json!({"queued": 0, "running": 0, "succeeded": 2, "failed": 1, "canceled": 0, "quarantined": 0});
    assert_eq!(counts(), want);
    assert_eq!(counts(), want, "by the cache");
    std::fs::remove_dir_all(project.root("state/cache")).unwrap();
    assert_eq!(counts(), want, "from the records");
    project.engine(&["wait", "--run", "r"]).exits(1);
    let requeued = project.engine(&["requeue", "--run", "r", "--failed"]).exits(0);
    assert_eq!(lines(&requeued), ["r.b:"]);

    let shown = project.engine(&["show", "r.a"]).exits(0);
    assert!(shown.contains("step         r.a.01-edit  succeeded"), "{shown}");
    let steps = project.engine(&["show", "r.b", "--json"]).json()["steps"].clone();
    assert_eq!((&steps[0]["job_id"], &steps[0]["outcome"]), (&json!("r.b.01-edit"), &json!("failed")));
    assert_eq!(steps.as_array().unwrap().len(), 1);
}

/// A parent that has ended while its child waits.
fn with_waiting_child() -> Project {
    let project = project();
    let parked = told("c", "tell parked ', \"not_before\": \"2020-01-01T00:00:00Z\"'");
    project.job(&with(parked, &json!({"parent": "p"})));
    project.run(&with(parent("run; tell failed"), &json!({"on_failure": "done"}))).exits(1);
    assert_eq!(project.record("c")["status"], "queued");
    project
}

#[test]
fn child_gc_queued_what_waits_for_a_retired_parent_is_canceled_and_goes_with_it() {
    let project = with_waiting_child();
    let dry = project.engine(&["gc", "--dry-run", "--keep-count", "0", "--json"]).json();
    assert_eq!(dry["retired"].as_array().unwrap().len(), 2, "{dry}");
    assert_eq!(project.record("c")["status"], "queued");
    // As long as no limit wants the parent, its child waits: a person may requeue the parent.
    project.engine(&["gc", "--older-than", "1d"]).exits(0);
    assert_eq!(project.record("c")["status"], "queued");
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert!(project.places("c").is_empty() && project.places("p").is_empty());
    assert!(project.record_if_any("c").is_none() && project.record_if_any("p").is_none());
    let archived = project.engine(&["list", "--archived", "--steps", "--json"]).exits(0);
    let step: Value =
        serde_json::from_str(archived.lines().find(|line| line.contains("\"c\"")).unwrap()).unwrap();
    assert_eq!((&step["status"], &step["parent"]), (&json!("canceled"), &json!("p")));
    assert_eq!(lines(&project.engine(&["list", "--archived"]).exits(0)), ["ID", "p"]);
}

#[test]
fn child_gc_first_a_gc_that_is_killed_leaves_no_child_without_its_parent() {
    for number in 1..200 {
        let project = with_waiting_child();
        let killed = project
            .engine_with(&["gc", "--keep-count", "0"], &[("ENGINE_TEST_KILL_AT", &number.to_string())]);
        let (child, parent) = (project.record_if_any("c").is_some(), project.record_if_any("p").is_some());
        assert!(parent || !child, "killed at step {number}");
        assert!(parent || project.places("c").is_empty(), "killed at step {number}");
        project.engine(&["recover"]).exits(0);
        project.engine(&["gc", "--keep-count", "0"]).exits(0);
        assert!(
            project.record_if_any("c").is_none() && project.record_if_any("p").is_none(),
            "after step {number}"
        );
        if killed.code == 0 {
            assert!(number > 10, "only {number} steps");
            return;
        }
    }
    panic!("gc does not end");
}

#[test]
fn a_run_is_retired_as_a_whole() {
    let project = a_run();
    project.engine(&["requeue", "r.b"]).exits(0);
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert_eq!(
        lines(&project.engine(&["list", "--steps"]).exits(0)),
        ["ID", "r.a", "r.a.01-edit", "r.b", "r.b.01-edit"]
    );
    project.engine(&["cancel", "r.b"]).exits(0);
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert_eq!(project.engine(&["list", "--steps"]).exits(0), "");
}

#[test]
fn the_doctor_names_a_waiting_child_whose_parent_is_gone() {
    let project = with_waiting_child();
    project.engine(&["doctor", "--quiet"]).exits(0);
    std::fs::remove_file(project.root("state/jobs/p.jsonl")).unwrap();
    let said = project.engine(&["doctor"]);
    assert!(said.out.contains("c: is a part of `p`, of which there is no record"), "{}", said.out);
}

#[test]
fn a_part_may_have_a_pattern_of_its_scope_that_matches_nothing_yet() {
    let project = project();
    let mut git = std::process::Command::new("git");
    git.args(["init", "-q", "-b", "main"]).current_dir(project.dir());
    assert!(git.status().unwrap().success());
    let adapter = json!({"id": "own", "executable": "sh", "args": ["-c", "{script}"], "reader": "agent"});
    std::fs::write(project.root("adapters/own.json"), adapter.to_string()).unwrap();
    let job = |id: &str, script: &str, scope: Value| json!({"job_id": id, "tool": "own", "metadata": {"script": script, "files_scope": scope}});
    let alone = project.run(&job("alone", "mkdir src; echo > src/new.py", json!(["src/*.py"]))).json();
    assert_eq!(alone["reason"]["code"], "scope_matches_nothing");
    for (script, scope, code) in [
        ("mkdir src; echo > src/new.py", json!(["src/*.py", "docs/none/x.md"]), "ok"),
        ("echo > other.py", json!(["lib/*.py"]), "scope_violation"),
    ] {
        project.job(&with(job("c", script, scope), &json!({"parent": "p"})));
        let _ = project.run(&parent("run; tell succeeded")).out;
        assert_eq!(project.record("c")["attempts"][0]["reason"]["code"], code, "{script}");
    }
}
