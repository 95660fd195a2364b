//! Processes: whatever a tool does, it ends in time, and nothing of it is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Project, Running, Said, eventually, fake_tool, not_run, processes_with};

/// A job that runs the scripted tool.
fn job(script: &[&str], metadata: &Value) -> Value {
    json!({
        "job_id": "j", "tool": "shell", "command": { "exe": fake_tool(), "args": script }, "metadata": metadata,
    })
}

/// The result of a finished run, with its exit status checked.
#[track_caller]
fn ends(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "\nstdout: {}\nstderr: {}", said.out, said.err);
    let result = said.json();
    // Every tool here that does not end, and every long grace, lasts longer.
    assert!(result["duration_s"].as_f64().unwrap() < 20.0, "{result}");
    result
}

/// Starts a job and waits until its tool has made the file `ready`.
#[track_caller]
fn start(project: &Project, document: &Value) -> Running {
    let name = project.job(document);
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the tool is ready", || project.path("ready").exists());
    running
}

/// Living processes that carry the marker of this root.
fn left(project: &Project) -> Vec<i32> {
    let version: Value =
        serde_json::from_slice(&std::fs::read(project.root("state/VERSION")).unwrap()).unwrap();
    processes_with(version["store"].as_str().unwrap())
}

#[track_caller]
fn pid_in(project: &Project, file: &str) -> i32 {
    std::fs::read_to_string(project.path(file)).unwrap().trim().parse().unwrap()
}

/// True unless it is gone or a zombie.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn a_tool_that_never_ends_is_stopped_after_its_total_time() {
    let project = Project::new();
    let said = project.run(&job(&["print", "hi", "sleep", "60"], &json!({"timeout_seconds": 0.3})));
    let result = ends(&said, 124);
    assert_eq!((&result["outcome"], &result["reason"]["code"]), (&json!("timed_out"), &json!("timed_out")));
    assert_eq!((&result["stdout"], &result["exit_code"]), (&json!("hi\n"), &Value::Null));
    assert!(result["duration_s"].as_f64().unwrap() >= 0.3);
    assert_eq!(project.places("j"), ["quarantined"]);
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn output_does_not_extend_the_total_time() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.4, "idle_timeout_seconds": 40});
    let said = project.run(&job(&["tick", "3000", "0.01"], &limits));
    assert_eq!(ends(&said, 124)["outcome"], "timed_out");
}

#[test]
fn a_silent_tool_is_stopped_as_stalled() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 40, "idle_timeout_seconds": 0.3});
    let result = ends(&project.run(&job(&["print", "hi", "sleep", "60"], &limits)), 124);
    assert_eq!((&result["outcome"], &result["reason"]["code"]), (&json!("stalled"), &json!("stalled")));
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn a_tool_that_prints_now_and_then_is_not_stalled() {
    let project = Project::new();
    let said = project.run(&job(&["tick", "15", "0.1"], &json!({"idle_timeout_seconds": 1})));
    let result = ends(&said, 0);
    assert!(result["duration_s"].as_f64().unwrap() > 1.0, "the tool must outlast its idle time");
}

#[test]
fn a_tool_that_ignores_term_is_killed_after_its_grace() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.2, "grace_seconds": 0.3});
    let result = ends(&project.run(&job(&["ignore-term", "sleep", "60"], &limits)), 124);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("timed_out"), &json!(9)));
    assert!(result["duration_s"].as_f64().unwrap() >= 0.5, "{result}");
}

#[test]
fn a_tool_that_cleans_up_when_it_is_asked_is_heard_and_has_still_timed_out() {
    let project = Project::new();
    let script = "trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.02; done";
    let result = ends(
        &project.run(&json!({
            "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
            "metadata": {"timeout_seconds": 0.5, "grace_seconds": 30},
        })),
        124,
    );
    assert_eq!((&result["outcome"], &result["exit_code"]), (&json!("timed_out"), &json!(0)));
    assert_eq!((&result["stdout"], &result["success"]), (&json!("hi\nbye\n"), &json!(false)));
}

#[test]
fn a_stopped_tool_is_ended_without_waiting_for_the_grace() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.3, "grace_seconds": 30});
    let result = ends(&project.run(&job(&["stop", "sleep", "60"], &limits)), 124);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("timed_out"), &json!(15)));
}

#[test]
fn a_stopped_tool_that_ignores_term_is_killed() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.3, "grace_seconds": 0.2});
    let result =
        ends(&project.run(&job(&["ignore-term", "stop", "stop", "stop", "sleep", "60"], &limits)), 124);
    assert_eq!(result["signal"], 9);
}

#[test]
fn a_daemon_does_not_outlive_the_job_that_started_it() {
    let project = Project::new();
    let script = ["double-fork", "pid", "setsid-child", "pid2", "print", "ok"];
    let result = ends(&project.run(&job(&script, &json!({"grace_seconds": 30}))), 0);
    assert_eq!(result["stdout"], "ok\n");
    assert!(!is_alive(pid_in(&project, "pid")) && !is_alive(pid_in(&project, "pid2")));
    assert_eq!(left(&project), [] as [i32; 0]);
}

/// A copy of the fake tool under another name: what a job starts by it can be kept.
fn server(project: &Project) -> PathBuf {
    let server = project.path("server");
    std::fs::copy(fake_tool(), &server).unwrap();
    server
}

/// A shell that plays this script, in which `$0` is the server.
fn starts_a_server(script: &str, server: &Path, metadata: &Value) -> Value {
    json!({
        "job_id": "j", "tool": "shell", "metadata": metadata,
        "command": {"exe": "sh", "args": ["-c", script, server]},
    })
}

fn end_server(project: &Project, file: &str) -> bool {
    let pid = pid_in(project, file);
    let lived = is_alive(pid);
    signal(pid, Signal::KILL);
    lived
}

#[test]
fn a_program_that_is_to_be_kept_outlives_its_job_with_what_it_starts_and_nothing_else_does() {
    let project = Project::new();
    let server = server(&project);
    // The shell itself bears no such name, and ends before what it forked has become the server.
    let script =
        "sleep 60 & echo $! > other; setsid \"$0\" setsid-child child pid pid sleep 60 >/dev/null 2>&1 &";
    let metadata = json!({"keep": ["server", "ccache"], "grace_seconds": 30});
    let result = ends(&project.run(&starts_a_server(script, &server, &metadata)), 0);
    eventually("the server runs", || project.path("pid").exists() && project.path("child").exists());
    let kept: Vec<&Value> = result["metadata"]["kept"].as_array().unwrap().iter().collect();
    let pids: Vec<i64> = kept.iter().map(|kept| kept["pid"].as_i64().unwrap()).collect();
    assert!(kept.iter().all(|kept| kept["name"] == "server"), "{kept:?}");
    assert!(pids.contains(&i64::from(pid_in(&project, "pid"))), "{kept:?}");
    assert_eq!(result["metadata"]["left_over_processes"], 1);
    assert!(!is_alive(pid_in(&project, "other")));
    let (child, parent) = (end_server(&project, "child"), end_server(&project, "pid"));
    assert!(child && parent);
}

#[test]
fn a_kept_program_outlives_a_cancel_and_is_named_in_the_result() {
    let project = Project::new();
    let server = server(&project);
    let script = "setsid \"$0\" ignore-term pid pid sleep 60 >/dev/null 2>&1 &
                  exec \"$0\" ignore-term sleep 60";
    let limits = json!({"keep": ["server"], "grace_seconds": 0.2});
    let name = project.job(&starts_a_server(script, &server, &limits));
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the server runs", || project.path("pid").exists());
    project.engine(&["cancel", "j"]).exits(0);
    let result = ends(&running.wait(), 143);
    let pid = pid_in(&project, "pid");
    assert_eq!(result["metadata"], json!({"kept": [{"pid": pid, "name": "server"}], "kept_processes": 1}));
    let shown = project.engine(&["show", "j"]).exits(0);
    assert!(shown.contains(&format!("kept         {pid} server")), "{shown}");
    assert!(end_server(&project, "pid"));
}

#[test]
fn the_tool_itself_is_not_kept_and_neither_is_anything_when_its_runner_was_killed() {
    let project = Project::new();
    let server = server(&project);
    let limits = json!({"keep": ["server"], "timeout_seconds": 0.3, "grace_seconds": 0.2});
    ends(&project.run(&starts_a_server("exec \"$0\" ignore-term sleep 60", &server, &limits)), 124);
    let script = "setsid \"$0\" pid pid sleep 60 >/dev/null 2>&1 & wait";
    let mut document = starts_a_server(script, &server, &json!({"keep": ["server"]}));
    document["job_id"] = "crashed".into();
    let name = project.job(&document);
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("the server runs", || project.path("pid").exists());
    let pid = pid_in(&project, "pid");
    running.signal(Signal::KILL);
    drop(running.wait());
    let said = project.engine(&["recover"]);
    let lives = is_alive(pid);
    signal(pid, Signal::KILL);
    assert!(!lives, "{}", said.err);
}

#[test]
fn a_daemon_that_ignores_term_is_killed_after_the_grace() {
    let project = Project::new();
    let script = ["ignore-term", "double-fork", "pid", "setsid-child", "pid2"];
    ends(&project.run(&job(&script, &json!({"grace_seconds": 0.2}))), 0);
    assert!(!is_alive(pid_in(&project, "pid")) && !is_alive(pid_in(&project, "pid2")));
}

#[test]
fn a_daemon_that_lost_the_marker_does_not_outlive_a_live_run() {
    let project = Project::new();
    let mut document = job(&[], &json!({"grace_seconds": 30}));
    document["command"] = json!({"exe": "env", "args": ["-i", fake_tool(), "double-fork", "pid"]});
    ends(&project.run(&document), 0);
    assert!(!is_alive(pid_in(&project, "pid")));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_delay_the_end() {
    let project = Project::new();
    let start = Instant::now();
    let result =
        ends(&project.run(&job(&["hold-pipe", "60", "print", "ok"], &json!({"grace_seconds": 30}))), 0);
    assert_eq!((&result["outcome"], &result["stdout"]), (&json!("succeeded"), &json!("ok\n")));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn a_whole_tree_that_ignores_term_ends_with_the_job() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.3, "grace_seconds": 0.2});
    let script =
        ["ignore-term", "fork-children", "40", "double-fork", "pid", "print", "ready", "sleep", "60"];
    let result = ends(&project.run(&job(&script, &limits)), 124);
    assert_eq!(result["outcome"], "timed_out");
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn a_child_that_answers_term_with_a_new_process_does_not_escape() {
    let project = Project::new();
    let phoenix = "trap 'setsid sh -c \"trap : TERM; while :; do sleep 0.05; done\" & exit' TERM; touch ready; \
                   while :; do sleep 0.02; done";
    let script = "sh -c \"$0\" & while [ ! -e ready ]; do sleep 0.01; done";
    let said = project.run(&json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script, phoenix]},
        "metadata": {"grace_seconds": 0.3},
    }));
    ends(&said, 0);
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn a_tool_that_somebody_killed_is_not_a_tool_that_failed() {
    let project = Project::new();
    let result = ends(&project.run(&job(&["die", "9"], &json!({}))), 137);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("killed"), &json!(9)));
    assert_eq!((&result["reason"]["code"], &result["exit_code"]), (&json!("signal:9"), &Value::Null));
}

#[test]
fn a_tool_that_crashes_after_its_child_is_judged_by_its_own_signal() {
    let project = Project::new();
    let result = ends(&project.run(&job(&["fork-children", "1", "die", "11"], &json!({}))), 139);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("killed"), &json!(11)));
}

#[test]
fn one_interrupt_cancels_the_job_and_is_told_apart_by_the_exit_status() {
    for (asked, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let project = Project::new();
        let document =
            job(&["double-fork", "pid", "touch", "ready", "sleep", "60"], &json!({"grace_seconds": 30}));
        let running = start(&project, &document);
        running.signal(asked);
        let result = ends(&running.wait(), code);
        assert_eq!((&result["outcome"], &result["status"]), (&json!("canceled"), &json!("canceled")));
        assert_eq!(result["reason"]["code"], format!("signal:{}", code - 128));
        assert_eq!(project.places("j"), ["done"]);
        assert_eq!(project.record("j")["status"], "canceled");
        assert!(!is_alive(pid_in(&project, "pid")));
        assert_eq!(left(&project), [] as [i32; 0]);
    }
}

#[test]
fn a_second_interrupt_kills_at_once_a_tool_that_ignores_the_first() {
    let project = Project::new();
    let document =
        job(&["catch-term", "asked", "touch", "ready", "sleep", "60"], &json!({"grace_seconds": 30}));
    let running = start(&project, &document);
    running.signal(Signal::TERM);
    eventually("the tool was asked", || project.path("asked").exists());
    assert!(!left(&project).is_empty(), "the tool has its grace");
    running.signal(Signal::INT);
    let result = ends(&running.wait(), 143);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("canceled"), &json!(9)));
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn an_interrupt_while_leftovers_of_an_ended_tool_have_their_grace_does_not_change_the_verdict() {
    let project = Project::new();
    let document = job(
        &["pid", "tool", "ignore-term", "double-fork", "pid", "print", "ok", "touch", "ready"],
        &json!({"grace_seconds": 30}),
    );
    let running = start(&project, &document);
    let tool = format!("/proc/{}", pid_in(&project, "tool"));
    eventually("the tool has ended and was reaped", || !Path::new(&tool).exists());
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    let result = running.wait().json();
    assert_eq!(result["outcome"], "succeeded");
    assert!(!is_alive(pid_in(&project, "pid")));
}

#[test]
fn a_tool_is_told_when_its_runner_is_killed() {
    let project = Project::new();
    let document = job(&["catch-term", "asked", "pid", "pid", "touch", "ready", "sleep", "60"], &json!({}));
    let running = start(&project, &document);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    eventually("the tool was asked to end", || project.path("asked").exists());
    signal(pid_in(&project, "pid"), Signal::KILL);
    assert_eq!(project.record("j")["status"], "running");
}

#[test]
fn an_ordinary_tool_ends_when_its_runner_is_killed() {
    let project = Project::new();
    let running = start(&project, &job(&["touch", "ready", "sleep", "60"], &json!({})));
    assert_eq!(left(&project).len(), 1);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    eventually("the tool ended", || left(&project).is_empty());
}

#[test]
fn recovery_ends_daemons_that_ignore_term_before_it_calls_the_attempt_lost() {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    let script =
        ["ignore-term", "double-fork", "pid", "setsid-child", "pid2", "touch", "ready", "sleep", "60"];
    let running = start(&project, &job(&script, &json!({})));
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    assert_eq!(left(&project).len(), 3, "the tool and both daemons ignore TERM");
    let report = project.engine(&["recover", "--json"]).exits(0);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["jobs"][0]["job_id"], &report["jobs"][0]["done"]), (&json!("j"), &json!("lost")));
    assert_eq!(left(&project), [] as [i32; 0]);
    assert!(!is_alive(pid_in(&project, "pid")) && !is_alive(pid_in(&project, "pid2")));
    let record = project.record("j");
    assert_eq!(
        (&record["status"], &record["attempts"][0]["outcome"]),
        (&json!("quarantined"), &json!("lost"))
    );
    assert_eq!(record["result"]["reason"]["code"], "crash");
    assert_eq!(project.places("j"), ["quarantined"]);
}

#[test]
fn recovery_finds_a_process_without_the_marker_by_the_session_of_one_that_has_it() {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    // The child has an empty environment, the tool that waits for it has the marker, and both ignore TERM.
    let script = "trap '' TERM; env -i \"$0\" pid pid touch ready sleep 60";
    let mut document = job(&[], &json!({}));
    document["command"] = json!({"exe": "sh", "args": ["-c", script, fake_tool()]});
    let running = start(&project, &document);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    let pid = pid_in(&project, "pid");
    assert!(is_alive(pid) && !left(&project).contains(&pid));
    project.engine(&["recover"]).exits(0);
    assert!(!is_alive(pid));
    assert_eq!(project.record("j")["attempts"][0]["outcome"], "lost");
}

#[test]
fn recovery_leaves_the_processes_of_other_jobs_alone() {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    let running = start(&project, &job(&["ignore-term", "touch", "ready", "sleep", "60"], &json!({})));
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    std::fs::remove_file(project.path("ready")).unwrap();
    // `j` is the beginning of its id.
    let mut other = job(&["touch", "ready", "wait-for", "go"], &json!({}));
    other["job_id"] = "j2".into();
    let other = start(&project, &other);
    project.engine(&["recover"]).exits(0);
    assert_eq!(left(&project).len(), 1);
    std::fs::write(project.path("go"), "").unwrap();
    ends(&other.wait(), 0);
}

/// The engine, started by a shell that first does something and then becomes the engine.
fn exec_by_shell(project: &Project, first: &str, name: &str) -> Command {
    command_by_shell(project, first, &["run-job", "--json", "--job-file", name])
}

fn command_by_shell(project: &Project, first: &str, args: &[&str]) -> Command {
    let engine = project.command(args);
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{first} exec \"$0\" \"$@\""))
        .arg(engine.get_program())
        .args(engine.get_args());
    shell.current_dir(project.dir()).env_clear();
    shell.envs(engine.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn a_hangup_that_nohup_ignored_stays_ignored_for_engine_and_tool() {
    let project = Project::new();
    let name =
        project.job(&job(&["raise", "1", "touch", "ready", "wait-for", "go", "print", "ok"], &json!({})));
    let child = exec_by_shell(&project, "trap '' HUP;", &name).spawn().unwrap();
    eventually("the tool survived its own hang-up", || project.path("ready").exists());
    signal(i32::try_from(child.id()).unwrap(), Signal::HUP);
    std::fs::write(project.path("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &result["outcome"]), (Some(0), &json!("succeeded")));
    assert_eq!(result["stdout"], "ok\n");
}

#[test]
fn a_child_that_the_shell_had_before_it_became_the_engine_is_neither_killed_nor_waited_for() {
    let limits = json!({"timeout_seconds": 0.3, "grace_seconds": 0.2});
    for (script, code) in [
        (&["print", "ok"] as &[&str], 0),
        (&["ignore-term", "double-fork", "pid"], 0),
        (&["ignore-term", "double-fork", "pid", "sleep", "60"], 124),
    ] {
        let project = Project::new();
        let name = project.job(&job(script, &limits));
        let first = "sleep 60 >/dev/null 2>&1 & echo $! > stranger;";
        let output = exec_by_shell(&project, first, &name).output().unwrap();
        let stranger = pid_in(&project, "stranger");
        let survived = is_alive(stranger);
        signal(stranger, Signal::KILL);
        assert!(survived, "{script:?}");
        assert_eq!(output.status.code(), Some(code), "{script:?}");
        assert_eq!(left(&project), [] as [i32; 0], "{script:?}");
    }
}

#[test]
fn an_orphan_of_the_shells_earlier_children_is_not_taken_for_the_jobs() {
    let project = Project::new();
    let name = project.job(&job(&["touch", "ready", "wait-for", "go"], &json!({})));
    let first =
        "(while [ ! -e ready ]; do sleep 0.01; done; sleep 60 & echo $! > stranger; exit) >/dev/null 2>&1 &";
    let child = exec_by_shell(&project, first, &name).spawn().unwrap();
    eventually("the orphan is there", || {
        std::fs::read_to_string(project.path("stranger")).is_ok_and(|text| text.ends_with('\n'))
    });
    let stranger = pid_in(&project, "stranger");
    std::fs::write(project.path("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let survived = is_alive(stranger);
    signal(stranger, Signal::KILL);
    assert!(survived);
    assert_eq!(output.status.code(), Some(0));
}

/// A child of the shell that starts a daemon in a session of its own once the tool is ready, and leaves it to the engine.
const LEAVES_A_DAEMON: &str = "(while [ ! -e ready ]; do sleep 0.01; done; setsid sleep 60 & echo $! > new; \
                               mv new stranger; exit) >/dev/null 2>&1 &";

#[test]
fn a_daemon_of_the_shells_earlier_children_outlives_the_job() {
    let project = Project::new();
    let script = ["touch", "ready", "wait-for", "stranger", "double-fork", "pid"];
    let name = project.job(&job(&script, &json!({"grace_seconds": 30})));
    let output = exec_by_shell(&project, LEAVES_A_DAEMON, &name).output().unwrap();
    let stranger = pid_in(&project, "stranger");
    let survived = is_alive(stranger);
    signal(stranger, Signal::KILL);
    assert!(survived);
    assert_eq!(output.status.code(), Some(0));
    assert!(!is_alive(pid_in(&project, "pid")), "the tool's own daemon");
}

#[test]
fn a_daemon_of_the_shells_earlier_children_outlives_a_helper() {
    let project = Project::new();
    let tool = project.path("slow");
    let script = format!(
        "#!/bin/sh\ncd '{}'\nsetsid sleep 60 >/dev/null 2>&1 &\necho $! > own\n: > ready\n\
         while [ ! -e stranger ]; do sleep 0.01; done\necho 1.0\n",
        project.dir().display()
    );
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let adapter = json!({"id": "slow", "executable": tool});
    std::fs::write(project.root("adapters/slow.json"), adapter.to_string()).unwrap();
    let output =
        command_by_shell(&project, LEAVES_A_DAEMON, &["adapters", "--json", "--detect"]).output().unwrap();
    let stranger = pid_in(&project, "stranger");
    let survived = is_alive(stranger);
    signal(stranger, Signal::KILL);
    assert!(survived, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    assert!(!is_alive(pid_in(&project, "own")), "the helper's own daemon");
}

#[test]
fn what_came_into_the_container_beside_the_job_outlives_an_attempt() {
    let project = Project::new();
    // The first attempt fails when the stranger is there, the second one looks for it.
    let script = "if [ -e ready ]; then kill -0 $(cat stranger) && echo alive; exit; fi; : > ready; \
                  while [ ! -e stranger ]; do sleep 0.01; done; exit 3";
    let retry = json!({"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}});
    let name = project.job(&json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}, "metadata": retry,
    }));
    let engine = project.command(&["run-job", "--json", "--job-file", &name]);
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    container.arg(engine.get_program()).args(engine.get_args()).current_dir(project.dir());
    let mut child = container.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the tool runs, or there is no container", || {
        project.path("ready").exists() || child.try_wait().unwrap().is_some()
    });
    if !project.path("ready").exists() {
        return not_run("`unshare --pid` does not work here");
    }
    let stranger = "setsid sleep 60 >/dev/null 2>&1 & echo $! > new; mv new stranger";
    let first = format!("/proc/{0}/task/{0}/children", child.id());
    let first = std::fs::read_to_string(first).unwrap();
    let mut entering = Command::new("nsenter");
    entering.args(["--pid", "--target", first.trim(), "sh", "-c", stranger]);
    assert!(entering.current_dir(project.dir()).status().unwrap().success());
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(ends(&said, 0)["stdout"], "alive\n", "{}", said.err);
}

#[test]
fn a_process_without_its_main_thread_is_seen() {
    let is_gone = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) < 2;
    let script = ["ignore-term", "no-main-thread", "pid", "pid", "touch", "ready", "sleep", "60"];
    // By recovery, as what is left of a dead attempt.
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    let running = start(&project, &job(&script, &json!({})));
    let pid = pid_in(&project, "pid");
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    assert!(!is_gone(pid));
    project.engine(&["recover"]).exits(0);
    assert!(is_gone(pid), "it works on, and its attempt is {}", project.record("j")["status"]);
    // By its runner, beside a child that proves that not all is gone.
    let project = Project::new();
    let daemon = "setsid \"$0\" \"$@\" >/dev/null 2>&1 & while [ ! -e ready ]; do sleep 0.01; done";
    let mut document = job(&[], &json!({"grace_seconds": 0.2}));
    let tool = fake_tool();
    let args = [&["-c", daemon, tool.as_str()], &script[..]].concat();
    document["command"] = json!({"exe": "sh", "args": args});
    let name = project.job(&document);
    let first = "sleep 60 >/dev/null 2>&1 & echo $! > stranger;";
    let output = exec_by_shell(&project, first, &name).output().unwrap();
    signal(pid_in(&project, "stranger"), Signal::KILL);
    assert_eq!(output.status.code(), Some(0));
    assert!(is_gone(pid_in(&project, "pid")));
}

#[test]
fn a_recovery_that_cannot_read_all_that_it_must_calls_nothing_lost() {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    let mut document = job(&["ignore-term", "touch", "ready", "sleep", "60"], &json!({}));
    document["on_crash"] = "requeue".into();
    let running = start(&project, &document);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    let engine = project.command(&["recover", "--json"]);
    for files in 3..100 {
        let mut few = Command::new("sh");
        few.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
        few.arg(engine.get_program()).args(engine.get_args()).current_dir(project.dir());
        let _ = few.output().unwrap();
        if project.record("j")["status"] != "running" {
            assert_eq!(left(&project), [] as [i32; 0], "with {files} descriptors");
            assert!(files > 3, "the limit keeps it from nothing");
            return;
        }
    }
    panic!("recovery never succeeds");
}

#[test]
fn a_child_that_the_shell_had_before_and_that_ends_meanwhile_is_not_the_tool() {
    let project = Project::new();
    let name = project.job(&job(&["touch", "ready", "wait-for", "go", "exit", "7"], &json!({})));
    let first = "(while [ ! -e ready ]; do sleep 0.01; done; exit 3) >/dev/null 2>&1 & echo $! > stranger;";
    let child = exec_by_shell(&project, first, &name).spawn().unwrap();
    eventually("the tool is ready", || project.path("ready").exists());
    let stranger = pid_in(&project, "stranger");
    eventually("the stranger was reaped", || !Path::new(&format!("/proc/{stranger}")).exists());
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(7));
}

/// Blocks signals and then becomes another program, as a careless daemon does to what it starts.
const BLOCKING: &str = "import os, signal, sys\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})\n\
    os.execv(sys.argv[1], sys.argv[1:])";

#[test]
fn signals_that_our_parent_has_blocked_reach_engine_and_tool() {
    let project = Project::new();
    let script = "grep SigBlk /proc/self/status; : > ready; exec sleep 60";
    let name = project.job(&json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"grace_seconds": 30, "timeout_seconds": 30},
    }));
    let engine = project.command(&["run-job", "--json", "--job-file", &name]);
    let mut python = Command::new("/usr/bin/python3");
    python
        .args(["-c", BLOCKING])
        .arg(engine.get_program())
        .args(engine.get_args())
        .current_dir(project.dir());
    let child = python.stdout(Stdio::piped()).spawn().unwrap();
    eventually("the tool is ready", || project.path("ready").exists());
    signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &result["outcome"]), (Some(143), &json!("canceled")));
    assert_eq!(result["stdout"], "SigBlk:\t0000000000000000\n");
}

#[test]
fn the_end_of_a_tool_is_seen_although_our_parent_has_blocked_the_signal_that_tells_it() {
    let project = Project::new();
    // It closes its streams long before it ends: no end of file tells that it ended.
    let script = "exec >&- 2>&-; sleep 0.3";
    let name = project.job(&json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"grace_seconds": 1, "timeout_seconds": 10},
    }));
    let engine = project.command(&["run-job", "--json", "--job-file", &name]);
    let mut python = Command::new("/usr/bin/python3");
    python
        .args(["-c", BLOCKING])
        .arg(engine.get_program())
        .args(engine.get_args())
        .current_dir(project.dir());
    let output = python.output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["outcome"], "succeeded");
    assert!(result["duration_s"].as_f64().unwrap() < 5.0, "{result}");
}

#[test]
fn a_process_whose_name_is_cut_in_the_middle_of_a_character_does_not_escape() {
    let project = Project::new();
    // 15 bytes are the end of a name in the process table: here half of a character.
    std::fs::copy("/bin/sleep", project.path("резервирование")).unwrap();
    let script = "setsid ./резервирование 77 >/dev/null 2>&1 & exit 0";
    let job = json!({"job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
    let said = project.run(&job);
    assert_eq!(said.json()["reason"], Value::Null);
    assert_eq!(left(&project), [] as [i32; 0]);
}

#[test]
fn a_limit_on_file_sizes_ends_neither_the_engine_nor_the_tool() {
    let project = Project::new();
    let name = project.job(&job(&["write", "1", "touch", "done"], &json!({})));
    let mut command = project.command(&["run-job", "--output", "never", "--job-file", &name]);
    use std::os::unix::process::CommandExt;
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: a plain system call between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        })
    };
    assert_eq!(command.status().unwrap().code(), Some(0));
    assert!(project.path("done").exists());
    assert!(project.record("j")["result"]["metadata"]["log_error"].is_string());
}

/// The state of a process as the kernel's letter; `-` if it is gone.
fn state(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

#[track_caller]
fn pass(time: Duration) {
    let start = Instant::now();
    eventually("some time is over", || start.elapsed() > time);
}

#[test]
fn a_tool_that_makes_its_runner_its_tracer_is_judged_by_its_end_and_not_by_a_stop() {
    // It stops for a tracer at a signal, and at its own `execve`.
    for script in [
        &["traceme", "raise", "17", "print", "done"][..],
        &["traceme", "become", "raise", "17", "print", "done"][..],
    ] {
        let project = Project::new();
        let result = ends(&project.run(&job(script, &json!({"timeout_seconds": 10}))), 0);
        assert_eq!(
            (&result["outcome"], &result["stdout"]),
            (&json!("succeeded"), &json!("done\n")),
            "{script:?}"
        );
    }
    let project = Project::new();
    let result = ends(&project.run(&job(&["traceme", "die", "15"], &json!({"timeout_seconds": 10}))), 143);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("killed"), &json!(15)));
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.5, "grace_seconds": 30});
    let result = ends(&project.run(&job(&["traceme", "stop", "sleep", "60"], &limits)), 124);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("timed_out"), &json!(15)));
}

/// Orphans that end faster than they are reaped, and by themselves after so many seconds.
fn storm(project: &Project, comets: &str, seconds: &str) -> String {
    let limits = json!({"timeout_seconds": 0.5, "grace_seconds": 0.2});
    let script = ["touch", "ready", "catch-term", "asked", "comets", comets, seconds, "sleep", "60"];
    project.job(&job(&script, &limits))
}

/// Runs a command in a pid namespace that it was put into: its session is that of a process outside. `look` is called when the
/// command has ended, then all that is left there ends: no engine that fails leaves a storm, or its dead, to the machine.
fn contained(engine: &Command, after: &str, look: impl FnOnce()) -> Option<Said> {
    let dir = engine.get_current_dir().unwrap();
    let mut container = Command::new("unshare");
    let script =
        format!("\"$0\" \"$@\"; code=$?; {after} echo $code > code; mv code ended; read -r end; exit $code");
    container.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script]);
    container.arg(engine.get_program()).args(engine.get_args()).current_dir(dir).env_clear();
    container.envs(engine.get_envs().filter_map(|(name, value)| Some((name, value?))));
    container.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = container.spawn().unwrap();
    eventually("it has ended, or there is no container", || {
        dir.join("ended").exists() || child.try_wait().unwrap().is_some()
    });
    if !dir.join("ended").exists() {
        not_run("`unshare --pid` does not work here");
        return None;
    }
    look();
    Some(Said::of(&child.wait_with_output().unwrap()))
}

#[test]
fn a_session_outside_the_pid_namespace_does_not_keep_it_from_killing() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.2, "grace_seconds": 0.2});
    let name = project.job(&job(&["ignore-term", "double-fork", "pid", "sleep", "60"], &limits));
    let engine = project.command(&["run-job", "--json", "--job-file", &name]);
    let left = || assert_eq!(left(&project), [] as [i32; 0]);
    let Some(said) = contained(&engine, "", left) else { return };
    let result = ends(&said, 124);
    assert_eq!((&result["outcome"], &result["signal"]), (&json!("timed_out"), &json!(9)));
}

#[test]
fn orphans_that_end_faster_than_they_are_reaped_do_not_outlast_the_limits() {
    let project = Project::new();
    let name = storm(&project, "32", "15");
    let engine = project.command(&["run-job", "--json", "--job-file", &name]);
    let start = Instant::now();
    let left = || assert_eq!(left(&project), [] as [i32; 0]);
    let Some(said) = contained(&engine, "", left) else { return };
    // The limit, the grace and the patience of a kill; a machine that is busy with other tests may need twice as long.
    assert!(start.elapsed() < Duration::from_secs(10), "they ended by themselves: {:?}", start.elapsed());
    let result = ends(&said, 124);
    assert_eq!((&result["outcome"], &result["metadata"]["left_alive"]), (&json!("timed_out"), &Value::Null));
    let at = |file: &str| std::fs::metadata(project.path(file)).unwrap().modified().unwrap();
    let asked_after = at("asked").duration_since(at("ready")).unwrap();
    assert!(asked_after < Duration::from_secs(5), "asked to end when they had ended: {asked_after:?}");
}

#[test]
fn orphans_that_end_faster_than_they_are_reaped_are_killed_beside_a_child_that_the_shell_had_before() {
    let project = Project::new();
    let name = storm(&project, "8", "15");
    let shell = exec_by_shell(&project, "sleep 60 >/dev/null 2>&1 & echo $! > stranger;", &name);
    let start = Instant::now();
    let left = || assert_eq!(left(&project), [] as [i32; 0]);
    let Some(said) = contained(&shell, "kill -0 $(cat stranger) && : > survived;", left) else { return };
    assert!(start.elapsed() < Duration::from_secs(10), "they ended by themselves: {:?}", start.elapsed());
    assert_eq!(ends(&said, 124)["outcome"], "timed_out");
    assert!(project.path("survived").exists());
}

#[test]
fn a_signal_that_reaches_runner_and_tool_together_cancels_whichever_is_looked_at_first() {
    for (both, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        let project = Project::new();
        let running = start(&project, &job(&["pid", "pid", "touch", "ready", "sleep", "60"], &json!({})));
        let tool = pid_in(&project, "pid");
        running.signal(Signal::STOP);
        eventually("the runner stands", || state(running.pid()) == 'T');
        signal(tool, both);
        eventually("the tool has ended", || state(tool) == 'Z');
        running.signal(both);
        running.signal(Signal::CONT);
        let result = ends(&running.wait(), code);
        assert_eq!((&result["outcome"], &result["status"]), (&json!("canceled"), &json!("canceled")));
        assert_eq!(result["reason"]["code"], format!("signal:{}", code - 128));
        assert_eq!(project.places("j"), ["done"]);
    }
}

#[test]
fn a_tool_that_gets_the_shared_signal_first_is_canceled_too() {
    // Ended by the signal itself, and as a shell tells it.
    let told = "trap 'exit 143' TERM; echo $$ > pid; : > ready; while :; do sleep 0.01; done";
    for script in ["echo $$ > pid; : > ready; exec sleep 60", told] {
        let canceled = || {
            let project = Project::new();
            let job =
                json!({"job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
            let running = start(&project, &job);
            let tool = pid_in(&project, "pid");
            signal(tool, Signal::TERM);
            eventually("the tool was reaped", || state(tool) == '-');
            running.signal(Signal::TERM);
            ends(&running.wait(), 143)["outcome"] == "canceled"
        };
        // A busy machine may take longer between the two than the runner waits.
        assert!((0..5).any(|_| canceled()), "{script}");
    }
}

#[test]
fn a_tool_that_was_ended_by_a_signal_of_its_own_is_not_canceled() {
    let project = Project::new();
    let result = ends(&project.run(&job(&["die", "15"], &json!({}))), 143);
    assert_eq!((&result["outcome"], &result["reason"]["code"]), (&json!("killed"), &json!("signal:15")));
    assert!(result["duration_s"].as_f64().unwrap() < 5.0);
}

/// A shell that says which signal asked it to end.
fn tells_its_signal() -> Value {
    let script = "for s in INT TERM HUP USR1; do trap \"echo $s; exit 0\" $s; done; : > ready; \
                  while :; do sleep 0.01; done";
    json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"grace_seconds": 30},
    })
}

#[test]
fn ctrl_c_reaches_the_tool_as_int_and_every_other_request_as_term() {
    for (asked, code, told) in
        [(Signal::INT, 130, "INT\n"), (Signal::TERM, 143, "TERM\n"), (Signal::HUP, 129, "TERM\n")]
    {
        let project = Project::new();
        let running = start(&project, &tells_its_signal());
        running.signal(asked);
        let result = ends(&running.wait(), code);
        assert_eq!((&result["outcome"], &result["stdout"]), (&json!("canceled"), &json!(told)));
    }
}

#[test]
fn a_job_or_its_adapter_says_which_signal_asks_the_tool_to_end() {
    let project = Project::new();
    std::fs::create_dir(project.root("adapters")).unwrap();
    let manifest = json!({"id": "mine", "stop_signal": "HUP"});
    std::fs::write(project.root("adapters/mine.json"), manifest.to_string()).unwrap();
    for (tool, own, told) in
        [("mine", None, "HUP\n"), ("mine", Some("USR1"), "USR1\n"), ("shell", Some("INT"), "INT\n")]
    {
        let mut document = tells_its_signal();
        document["tool"] = tool.into();
        document["metadata"]["timeout_seconds"] = json!(0.7);
        if let Some(own) = own {
            document["metadata"]["stop_signal"] = own.into();
        }
        let result = ends(&project.run(&document), 124);
        assert_eq!((&result["outcome"], &result["stdout"]), (&json!("timed_out"), &json!(told)));
    }
    let mut document = tells_its_signal();
    document["metadata"]["stop_signal"] = "KILL".into();
    let said = project.run(&document);
    assert!(
        said.err.contains("TERM") && said.err.contains("USR2") && said.err.contains("stop_signal"),
        "{}",
        said.err
    );
    assert_eq!(said.code, 125);
}

#[test]
fn time_in_which_the_runner_was_stopped_is_no_silence_of_the_tool() {
    let project = Project::new();
    let script = ["touch", "ready", "wait-for", "go", "print", "done"];
    let running = start(&project, &job(&script, &json!({"idle_timeout_seconds": 3})));
    running.signal(Signal::STOP);
    eventually("the runner stands", || state(running.pid()) == 'T');
    pass(Duration::from_millis(4500));
    running.signal(Signal::CONT);
    // Until it has looked at its clocks, once a second.
    pass(Duration::from_millis(1500));
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(ends(&running.wait(), 0)["stdout"], "done\n");
}

#[test]
fn ctrl_z_stops_the_tool_too_and_both_go_on_together_with_their_time() {
    use std::os::unix::process::CommandExt;
    let project = Project::new();
    let script = ["pid", "pid", "touch", "ready", "wait-for", "go", "print", "done"];
    let name = project.job(&job(&script, &json!({"timeout_seconds": 2.5, "idle_timeout_seconds": 2.5})));
    // A process group with a parent outside of it, as a shell makes it: others are not stopped by TSTP.
    let child =
        project.command(&["run-job", "--json", "--job-file", &name]).process_group(0).spawn().unwrap();
    eventually("the tool is ready", || project.path("ready").exists());
    let (runner, tool) = (i32::try_from(child.id()).unwrap(), pid_in(&project, "pid"));
    for _ in 0..2 {
        signal(runner, Signal::TSTP);
        eventually("both stand", || state(runner) == 'T' && state(tool) == 'T');
        pass(Duration::from_millis(1500));
        signal(runner, Signal::CONT);
        eventually("both go on", || state(runner) != 'T' && state(tool) != 'T');
    }
    std::fs::write(project.path("go"), "").unwrap();
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(ends(&said, 0)["stdout"], "done\n");
}

#[test]
fn ctrl_z_stops_what_left_the_group_of_the_tool_too_and_wakes_nothing_that_stood_before() {
    use std::os::unix::process::CommandExt;
    let project = Project::new();
    let script = "setsid \"$0\" pid daemon sleep 60 >/dev/null 2>&1 & \"$0\" stop sleep 60 & echo $! > stopped; \
                  while [ ! -e daemon ]; do sleep 0.01; done; exec \"$0\" touch ready wait-for go";
    let name = project.job(&json!({
        "job_id": "j", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script, fake_tool()]},
    }));
    let child =
        project.command(&["run-job", "--json", "--job-file", &name]).process_group(0).spawn().unwrap();
    eventually("the tool is ready", || project.path("ready").exists());
    let runner = i32::try_from(child.id()).unwrap();
    let (daemon, stopped) = (pid_in(&project, "daemon"), pid_in(&project, "stopped"));
    eventually("one stands already", || state(stopped) == 'T');
    signal(runner, Signal::TSTP);
    eventually("all stand", || state(runner) == 'T' && state(daemon) == 'T');
    signal(runner, Signal::CONT);
    eventually("both go on", || state(runner) != 'T' && state(daemon) != 'T');
    assert_eq!(state(stopped), 'T');
    std::fs::write(project.path("go"), "").unwrap();
    ends(&Said::of(&child.wait_with_output().unwrap()), 0);
}

#[test]
fn without_proc_recovery_does_not_call_an_attempt_lost_whose_tool_is_alive() {
    let project = Project::new();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.2\n").unwrap();
    let mut document = job(&["ignore-term", "touch", "ready", "sleep", "60"], &json!({}));
    document["on_crash"] = "requeue".into();
    let running = start(&project, &document);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    let engine = project.command(&["recover", "--json"]);
    let script = "umount -l /proc && exec \"$0\" \"$@\"";
    let mut blind = Command::new("unshare");
    blind.args(["-m", "sh", "-c", script]).arg(engine.get_program()).args(engine.get_args());
    let output = blind.current_dir(project.dir()).output().unwrap();
    if output.status.code() != Some(0) {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return not_run(&format!("/proc cannot be unmounted: {why}"));
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["jobs"][0]["done"], "cannot_tell", "{report}");
    assert!(report["jobs"][0]["message"].as_str().unwrap().contains("/proc"), "{report}");
    assert_eq!((left(&project).len(), &project.record("j")["status"]), (1, &json!("running")));
    project.engine(&["recover"]).exits(0);
    assert_eq!((left(&project).len(), project.places("j")), (0, vec!["queued".to_owned()]));
}
