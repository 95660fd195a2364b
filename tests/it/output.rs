//! Input, output and environment of a tool: nothing hangs, nothing secret is shown, nothing grows without bound.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Project, Said, eventually, fake_tool, processes_with};

/// A job that runs the scripted tool.
fn job(script: &[&str]) -> Value {
    json!({"job_id": "j", "tool": "shell", "command": {"exe": fake_tool(), "args": script}})
}

fn job_with(script: &[&str], more: Value) -> Value {
    let mut document = job(script);
    let Value::Object(more) = more else { panic!("an object is needed") };
    document.as_object_mut().unwrap().extend(more);
    document
}

#[track_caller]
fn ends(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "\nstdout: {}\nstderr: {}", said.out, said.err);
    let result = said.json();
    // Every tool here that does not end, and every long grace, lasts longer.
    assert!(result["duration_s"].as_f64().unwrap() < 20.0, "{result}");
    result
}

fn log(project: &Project) -> String {
    std::fs::read_to_string(project.root("state/logs/j.1.log")).unwrap()
}

/// Everything that was kept of a job: record, journal, log and report.
fn all_state(project: &Project) -> String {
    let mut text = String::new();
    for entry in walkdir::WalkDir::new(project.root("state")).into_iter().flatten() {
        if entry.file_type().is_file() {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
    text
}

#[test]
fn a_tool_that_reads_standard_input_without_any_gets_its_end() {
    let project = Project::new();
    // Not that of the engine, which may be a terminal or a pipe that nobody ends.
    let (ours, _open) = rustix::pipe::pipe().unwrap();
    let limits = json!({"metadata": {"timeout_seconds": 15}});
    let name = project.job(&job_with(&["stdin", "print", "end"], limits));
    let mut command = project.command(&["run-job", "--json", "--job-file", &name]);
    let output = command.stdin(Stdio::from(ours)).output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["stdout"], "end\n");
}

#[test]
fn a_text_is_standard_input_to_its_last_byte() {
    let project = Project::new();
    let said = project.run(&job_with(&["stdin"], json!({"stdin": {"text": "ä\nb without a newline"}})));
    assert_eq!(ends(&said, 0)["stdout"], "ä\nb without a newline");
}

#[test]
fn a_text_larger_than_a_pipe_arrives_whole_while_the_tool_writes_it_back() {
    let project = Project::new();
    let text = "0123456789abcde\n".repeat(50_000);
    let mut document = job_with(&[], json!({"stdin": {"text": text}}));
    document["command"] = json!({"exe": "cat"});
    ends(&project.run(&document), 0);
    assert!(log(&project) == text, "the log has {} bytes", log(&project).len());
}

#[test]
fn a_large_text_that_the_tool_does_not_read_does_not_hang_the_run() {
    let project = Project::new();
    let text = "x".repeat(990_000);
    let said = project.run(&job_with(&["print", "ok"], json!({"stdin": {"text": text}})));
    assert_eq!(ends(&said, 0)["stdout"], "ok\n");
    let limits = json!({"stdin": {"text": text}, "metadata": {"timeout_seconds": 0.3}});
    let said = project.run(&job_with(&["sleep", "60"], limits));
    assert_eq!(ends(&said, 124)["outcome"], "timed_out");
}

#[test]
fn a_file_is_standard_input_and_a_missing_one_is_named_before_the_start() {
    let project = Project::new();
    std::fs::write(project.path("in.txt"), "from a file\n").unwrap();
    let said = project.run(&job_with(&["stdin"], json!({"stdin": {"file": "in.txt"}})));
    assert_eq!(ends(&said, 0)["stdout"], "from a file\n");
    let said = project.run(&job_with(&["touch", "ran"], json!({"stdin": {"file": "absent.txt"}})));
    let result = ends(&said, 125);
    assert_eq!(
        (&result["outcome"], &result["reason"]["code"]),
        (&json!("not_started"), &json!("path_missing"))
    );
    assert!(!project.path("ran").exists());
}

#[test]
fn a_pipe_that_nobody_writes_to_does_not_hang_the_run_before_its_limits_hold() {
    let project = Project::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, project.path("pipe"), rustix::fs::Mode::from(0o600)).unwrap();
    let name = project.job(&job_with(&["touch", "ran"], json!({"stdin": {"file": "pipe"}})));
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the job ended", || {
        project.record_if_any("j").is_some_and(|record| record["status"] == "quarantined")
    });
    let result = ends(&running.wait(), 125);
    assert_eq!(
        (&result["outcome"], &result["reason"]["code"]),
        (&json!("not_started"), &json!("stdin_not_a_file"))
    );
    assert!(!project.path("ran").exists());
    let said = project.run(&job_with(&["stdin", "print", "end"], json!({"stdin": {"file": "/dev/null"}})));
    assert_eq!(ends(&said, 0)["stdout"], "end\n");
}

#[test]
fn without_pty_a_tool_sees_no_terminal() {
    let project = Project::new();
    assert_eq!(ends(&project.run(&job(&["isatty"])), 0)["stdout"], "false false false\n");
}

#[test]
fn with_pty_a_tool_sees_a_terminal_whose_output_is_logged_and_whose_input_ends() {
    let project = Project::new();
    let script = ["isatty", "eprint", "error", "stdin", "print", "end"];
    let more = json!({"pty": true, "metadata": {"timeout_seconds": 20}});
    let result = ends(&project.run(&job_with(&script, more)), 0);
    assert_eq!(result["stdout"], "true true true\r\nerror\r\nend\r\n");
    assert_eq!(
        (&result["stderr"], log(&project).as_str()),
        (&json!(""), "true true true\r\nerror\r\nend\r\n")
    );
}

#[test]
fn the_end_of_a_long_output_is_not_left_in_the_terminal() {
    let project = Project::new();
    let more = json!({"pty": true, "metadata": {"timeout_seconds": 20}});
    for _ in 0..5 {
        let result = ends(&project.run(&job_with(&["lines", "3000"], more.clone())), 0);
        let log = std::fs::read_to_string(result["log_path"].as_str().unwrap()).unwrap();
        assert_eq!((log.lines().count(), log.lines().last()), (3000, Some("line 3000")));
        assert!(result["stdout"].as_str().unwrap().ends_with("line 3000\n"), "{}", result["stdout"]);
    }
}

#[test]
fn with_pty_and_a_text_the_tool_reads_the_text() {
    let project = Project::new();
    let more = json!({"pty": true, "stdin": {"text": "typed"}, "metadata": {"timeout_seconds": 20}});
    let result = ends(&project.run(&job_with(&["isatty", "stdin"], more)), 0);
    assert_eq!(result["stdout"], "false true true\r\ntyped");
}

#[test]
fn a_daemon_that_keeps_the_terminal_does_not_delay_the_end() {
    let project = Project::new();
    let more = json!({"pty": true, "metadata": {"timeout_seconds": 20, "grace_seconds": 0.2}});
    let said = project.run(&job_with(&["ignore-term", "hold-pipe", "60", "print", "ok"], more));
    assert_eq!(ends(&said, 0)["stdout"], "ok\r\n");
}

#[test]
fn the_environment_is_inherited_added_to_and_referred_to() {
    let project = Project::new();
    let script = ["env", "OUTER", "env", "ADDED", "env", "REFERRED", "env", "EMPTY"];
    let env = json!({"OUTER": "changed", "ADDED": "a b", "REFERRED": {"from_env": "SOURCE"}, "EMPTY": ""});
    let name = project.job(&job_with(&script, json!({"env": env})));
    let outer = [("OUTER", "outer"), ("SOURCE", "src")];
    let said = project.engine_with(&["run-job", "--json", "--job-file", &name], &outer);
    assert_eq!(ends(&said, 0)["stdout"], "changed\na b\nsrc\n\n");
    let name = project.job(&job(&["env", "OUTER"]));
    let said = project.engine_with(&["run-job", "--json", "--job-file", &name], &outer);
    assert_eq!(ends(&said, 0)["stdout"], "outer\n");
}

#[test]
fn a_reference_to_a_variable_that_is_not_set_is_no_empty_value() {
    let project = Project::new();
    let said = project.run(&job_with(&["touch", "ran"], json!({"env": {"A": {"from_env": "ABSENT"}}})));
    let result = ends(&said, 125);
    assert_eq!(
        (&result["outcome"], &result["reason"]["code"]),
        (&json!("not_started"), &json!("env_missing"))
    );
    assert!(!project.path("ran").exists());
}

#[test]
fn the_marker_of_an_attempt_can_not_be_changed_by_its_job() {
    let project = Project::new();
    let said = project.run(&job_with(&["env", "ENGINE_ATTEMPT"], json!({"env": {"ENGINE_ATTEMPT": "none"}})));
    let shown = ends(&said, 0)["stdout"].as_str().unwrap().to_owned();
    assert!(shown.ends_with("/j/1\n"), "{shown}");
}

const SECRETS: [(&str, &str); 3] = [
    ("SOME_API_KEY", "sk-by-its-name"),
    ("HARMLESS", "pw-by-reference"),
    ("OTHER_TOKEN", "tk-split-over-reads"),
];

/// Prints each secret on both streams, one of them in two pieces, and fails.
fn leaky() -> Value {
    let script = [
        "print",
        "1 sk-by-its-name .",
        "eprint",
        "2 sk-by-its-name .",
        "print",
        "3 pw-by-reference .",
        "eprint",
        "4 pw-by-reference .",
        "split-print",
        "tk-split-over-reads",
        "exit",
        "3",
    ];
    job_with(&script, json!({"env": {"PASSED": {"from_env": "HARMLESS"}}}))
}

#[test]
fn secrets_stand_in_no_log_record_report_or_result_also_when_split_over_two_reads() {
    let project = Project::new();
    let name = project.job(&leaky());
    let said = project.engine_with(&["run-job", "--json", "--job-file", &name], &SECRETS);
    let result = ends(&said, 3);
    assert_eq!(result["stdout"], "1 [redacted] .\n3 [redacted] .\n[redacted]\n");
    assert_eq!(result["stderr"], "2 [redacted] .\n4 [redacted] .\n");
    let kept = all_state(&project);
    assert!(kept.contains("4 [redacted] ."), "the report and the record show the rest");
    let report = std::fs::read_to_string(project.root("state/logs/j.1.error.json")).unwrap();
    assert!(report.contains("[redacted]"), "{report}");
    for (_, secret) in SECRETS {
        assert!(
            !kept.contains(secret) && !said.out.contains(secret) && !said.err.contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn secrets_do_not_pass_through_to_our_own_streams() {
    for when in ["always", "failure"] {
        let project = Project::new();
        let name = project.job(&leaky());
        let said = project.engine_with(&["run-job", "--output", when, "--job-file", &name], &SECRETS);
        assert_eq!(said.code, 3);
        let shown = format!("{}{}", said.out, said.err);
        for text in ["1 [redacted] .", "2 [redacted] .", "3 [redacted] .", "4 [redacted] ."] {
            assert!(shown.contains(text), "{when}: {shown}");
        }
        for (_, secret) in SECRETS {
            assert!(!shown.contains(secret), "{when}: {secret}");
        }
    }
}

#[test]
fn a_value_given_in_the_job_under_the_name_of_a_secret_is_one() {
    let project = Project::new();
    let said = project.run(&job_with(&["env", "MY_PASSWORD"], json!({"env": {"MY_PASSWORD": "hunter22"}})));
    assert_eq!(ends(&said, 0)["stdout"], "[redacted]\n");
    assert_eq!(log(&project), "[redacted]\n");
}

#[test]
fn a_beginning_of_a_secret_at_the_very_end_is_shown() {
    let project = Project::new();
    let mut document = job_with(&[], json!({"env": {"MY_PASSWORD": "hunter22"}}));
    document["command"] = json!({"exe": "printf", "args": ["a hunter2"]});
    assert_eq!(ends(&project.run(&document), 0)["stdout"], "a hunter2");
}

#[test]
fn the_log_is_capped_with_head_and_tail_while_all_of_the_output_is_read() {
    let project = Project::new();
    let said = project.run(&job_with(
        &["print", "first", "write", "3", "print", "last", "touch", "done"],
        json!({"limits": {"log_bytes": 10_000}}),
    ));
    ends(&said, 0);
    assert!(project.path("done").exists(), "the tool was not held up");
    let log = log(&project);
    assert!(log.len() <= 10_000 + 64, "{}", log.len());
    assert!(log.starts_with("first\n0123456789abcde\n") && log.ends_with("0123456789abcde\nlast\n"));
    let (head, rest) = log.split_once("\n[engine: ").unwrap();
    let (number, rest) = rest.split_once(" bytes left out]").unwrap();
    let tail = rest.split_once('\n').unwrap().1;
    let left_out: usize = number.parse().unwrap();
    assert_eq!(head.len() + left_out + tail.len(), (3 << 20) + "first\nlast\n".len());
}

#[test]
fn a_tiny_log_limit_does_not_make_the_engine_too_slow_for_the_total_time() {
    let project = Project::new();
    for bytes in [0, 1, 100] {
        let more = json!({"limits": {"log_bytes": bytes}, "metadata": {"timeout_seconds": 20}});
        let said = project.run(&job_with(&["write", "5", "print", "last"], more));
        let result = ends(&said, 0);
        let log = std::fs::read_to_string(result["log_path"].as_str().unwrap()).unwrap();
        assert!(log.len() < 10_000 && log.ends_with("\nlast\n"), "{bytes}: {}", log.len());
    }
}

#[test]
fn previews_have_a_hundred_and_fifty_lines_with_both_ends() {
    let project = Project::new();
    let result = ends(&project.run(&job(&["lines", "100", "elines", "50"])), 0);
    assert_eq!(result["stdout"].as_str().unwrap().lines().count(), 100);
    assert_eq!(result["stderr"].as_str().unwrap().lines().count(), 50);
    let result = ends(&project.run(&job(&["lines", "100000", "elines", "1000"])), 0);
    for (stream, lines, last) in [("stdout", 100, "line 100000\n"), ("stderr", 50, "line 1000\n")] {
        let shown = result[stream].as_str().unwrap();
        // One more for the mark.
        assert_eq!(shown.lines().count(), lines + 1, "{stream}");
        assert!(shown.starts_with("line 1\nline 2\n") && shown.ends_with(last), "{stream}: {shown}");
        assert!(shown.contains("\n[engine: "), "{stream}: {shown}");
    }
}

#[test]
fn one_line_without_an_end_does_not_swell_the_record() {
    let project = Project::new();
    let mut document = job(&[]);
    document["command"] = json!({"exe": "sh", "args": ["-c", "head -c 3000000 /dev/zero | tr '\\0' x"]});
    let said = project.run(&document);
    ends(&said, 0);
    let record = std::fs::metadata(project.root("state/jobs/j.jsonl")).unwrap().len();
    assert!(record < 100_000, "{record}");
}

#[test]
fn output_that_is_not_utf8_is_logged_as_it_is() {
    let project = Project::new();
    let mut document = job(&[]);
    document["command"] = json!({"exe": "printf", "args": ["a\\377\\000b\\n"]});
    let result = ends(&project.run(&document), 0);
    assert_eq!(result["stdout"], "a\u{fffd}\0b\n");
    assert_eq!(std::fs::read(project.root("state/logs/j.1.log")).unwrap(), b"a\xff\0b\n");
}

#[test]
fn the_log_is_there_while_the_tool_still_runs() {
    let project = Project::new();
    let name = project.job(&job(&["print", "early", "wait-for", "go"]));
    let running = project.start(&["run-job", "--json", "--job-file", &name], &[]);
    eventually("the first line is in the log", || {
        std::fs::read_to_string(project.root("state/logs/j.1.log")).is_ok_and(|text| text == "early\n")
    });
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
}

#[test]
fn output_passes_through_live_and_on_its_own_stream() {
    let project = Project::new();
    let name = project.job(&job(&["eprint", "to stderr", "print", "to stdout", "wait-for", "go"]));
    let mut child = project.command(&["run-job", "--job-file", &name]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "to stdout\n");
    std::fs::write(project.path("go"), "").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), rest.as_str()), (Some(0), ""));
    assert_eq!(output.stderr, b"to stderr\n");
}

/// A run whose standard output nobody reads, and that end of the pipe.
fn unread(project: &Project, document: &Value) -> (std::process::Child, std::process::ChildStdout) {
    let name = project.job(document);
    let mut child = project.command(&["run-job", "--job-file", &name]).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    (child, stdout)
}

#[test]
fn a_slow_reader_of_our_output_does_not_defeat_the_total_time() {
    let project = Project::new();
    let more =
        json!({"metadata": {"timeout_seconds": 0.5, "idle_timeout_seconds": 0.1, "grace_seconds": 0.2}});
    let (mut child, mut stdout) =
        unread(&project, &job_with(&["ignore-term", "pid", "pid", "write", "50"], more));
    eventually("the tool runs", || project.path("pid").exists());
    let pid: i32 = std::fs::read_to_string(project.path("pid")).unwrap().parse().unwrap();
    let fake = fake_tool();
    eventually("the tool was killed", || !processes_with(&fake).contains(&pid));
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    // Waiting for a reader is no idleness of the tool.
    assert_eq!(project.record("j")["result"]["outcome"], "timed_out");
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_an_ended_job_running() {
    let project = Project::new();
    // More than the two pipes hold, so that some of it waits in the engine.
    let (mut child, mut stdout) = unread(&project, &job(&["lines", "16000"]));
    let ended = || project.record_if_any("j").is_some_and(|record| record["status"] == "succeeded");
    eventually("the result is recorded", ended);
    assert!(child.try_wait().unwrap().is_none(), "the engine waits for its reader");
    let total = std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!((total, child.wait().unwrap().code()), (164_894, Some(0)));
}

#[test]
fn a_slow_reader_of_our_output_gets_all_of_it() {
    let project = Project::new();
    let (mut child, mut stdout) = unread(&project, &job(&["touch", "ready", "write", "3"]));
    eventually("the tool runs", || project.path("ready").exists());
    let (mut total, mut buffer) = (0, vec![0; 10_000]);
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        total += count;
    }
    assert_eq!((total, child.wait().unwrap().code()), (3 << 20, Some(0)));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_job() {
    let project = Project::new();
    let (mut child, stdout) =
        unread(&project, &job(&["print", "x", "wait-for", "go", "write", "1", "print", "end"]));
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(log(&project).ends_with("\nend\n"), "the rest is in the log");
    assert_eq!(project.places("j"), ["done"]);
}

#[test]
fn a_failure_is_shown_on_standard_error_and_a_success_not_at_all() {
    let project = Project::new();
    for (code, shown) in [("0", ""), ("3", "out\nerr\n")] {
        let name = project.job(&job(&["print", "out", "eprint", "err", "exit", code]));
        let said = project.engine(&["run-job", "--output", "failure", "--job-file", &name]);
        assert_eq!(said.out, "");
        assert!(said.err.starts_with(shown) && said.err.is_empty() == shown.is_empty(), "{}", said.err);
    }
}

#[test]
fn the_use_of_processor_and_memory_is_recorded_with_that_of_children() {
    let project = Project::new();
    let mut document = job(&[]);
    let script = "\"$0\" burn 0.3; \"$0\" hold-memory 60";
    document["command"] = json!({"exe": "sh", "args": ["-c", script, fake_tool()]});
    let result = ends(&project.run(&document), 0);
    let usage = &result["usage"];
    let cpu = usage["cpu_user_s"].as_f64().unwrap();
    assert!(cpu > 0.05 && cpu < 30.0, "{usage}");
    let rss = usage["max_rss_bytes"].as_u64().unwrap();
    assert!(rss > 60 << 20 && rss < 100 << 20, "{usage}");
    assert_eq!(&project.record("j")["result"]["usage"], usage);
}

#[test]
fn a_tool_that_writes_200_megabytes_does_not_grow_the_engine() {
    let project = Project::new();
    let kilobytes_of = |megabytes: &str| -> u64 {
        let more = json!({"limits": {"log_bytes": 1_000_000}});
        let name = project.job(&job_with(&["write", megabytes], more));
        let engine = project.command(&["run-job", "--json", "--job-file", &name]);
        let mut measured = std::process::Command::new(fake_tool());
        measured.args(["max-rss", "rss"]).arg(engine.get_program()).args(engine.get_args());
        let output = measured.current_dir(project.dir()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(project.path("rss")).unwrap().parse().unwrap()
    };
    // The program of a debug build alone takes most of it.
    let before = kilobytes_of("2");
    let start = Instant::now();
    let kilobytes = kilobytes_of("200");
    assert!(kilobytes < before + (4 << 10), "{kilobytes} KB, and {before} KB with 2 MB of output");
    let log = std::fs::read(project.root("state/logs/j.2.log")).unwrap();
    assert!(log.len() < 1_100_000 && start.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_end_of_a_terminal_does_not_hang_up_on_a_tool_that_is_just_exiting() {
    let project = Project::new();
    let job = json!({"job_id": "j", "tool": "shell", "pty": true, "command": {"exe": "cat"}});
    // A race: without the fix about half of the runs ended by a signal.
    for _ in 0..25 {
        project.run(&job).exits(0);
    }
}
