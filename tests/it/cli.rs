//! The command line as people and programs see it: texts, documents, exit statuses, and where a root is.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use engine::job::parse::explain::Explainer;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Project, Said, eventually, shell};

const TIME: &str = "9999-99-99T99:99:99.999Z";

/// Takes out what differs from run to run. In a shape, `9` is a digit, `#` some digits, `?` a letter or digit.
fn redact(project: &Project, text: &str) -> String {
    let dir = project.dir().canonicalize().unwrap();
    let mut text =
        text.replace(dir.to_str().unwrap(), "[DIR]").replace(project.dir().to_str().unwrap(), "[DIR]");
    for (shape, instead) in [
        (TIME, "[TIME]"),
        ("done/9999-99-99", "done/[DAY]"),
        ("shell-99999999-999999-????????", "[ID]"),
        ("#.99 s", "[SECONDS]"),
        ("memory # KiB", "memory [N] KiB"),
    ] {
        text = replace_shape(&text, shape, instead);
    }
    text
}

fn replace_shape(text: &str, shape: &str, instead: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut out) = (0, String::new());
    while at < chars.len() {
        if let Some(end) = shape_end(&chars, at, shape) {
            out.push_str(instead);
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

fn shape_end(chars: &[char], mut at: usize, shape: &str) -> Option<usize> {
    for wanted in shape.chars() {
        let found = *chars.get(at)?;
        match wanted {
            '9' if found.is_ascii_digit() => {}
            '?' if found.is_ascii_alphanumeric() => {}
            '#' if found.is_ascii_digit() => {
                while chars.get(at + 1).is_some_and(char::is_ascii_digit) {
                    at += 1;
                }
            }
            _ if wanted == found && !"9?#".contains(wanted) => {}
            _ => return None,
        }
        at += 1;
    }
    Some(at)
}

fn with(mut document: Value, key: &str, value: Value) -> Value {
    document[key] = value;
    document
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn valid(schema: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/jobs/{schema}.schema.json"));
    let explainer = Explainer::new(&std::fs::read_to_string(path).unwrap()).unwrap();
    let places = engine::job::parse::locate::Locations::default();
    assert!(explainer.accepts(document), "{:#?}\n{document:#}", explainer.explain(document, &places));
}

// ---------------------------------------------------------------- init, new, validate, schema

#[test]
fn init_makes_a_root_once_and_says_so() {
    let project = Project::without_root();
    let said = project.engine(&["init"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    assert_eq!(redact(&project, &said.err), "engine: made the root [DIR]/.engine\n");
    let settings = std::fs::read(project.root("engine.toml")).unwrap();
    let said = project.engine(&["init"]);
    assert_eq!(said.code, 0);
    assert_eq!(redact(&project, &said.err), "engine: there is already a root at [DIR]/.engine\n");
    assert_eq!(std::fs::read(project.root("engine.toml")).unwrap(), settings);
    assert_eq!(names(&project.root("")), [".gitignore", "engine.toml", "jobs", "state"]);
    assert_eq!(names(&project.root("jobs")), ["done", "quarantined", "queued", "running"]);
    for private in ["jobs", "jobs/queued", "state", "state/jobs"] {
        assert_eq!(
            project.root(private).metadata().unwrap().permissions().mode() & 0o777,
            0o700,
            "{private}"
        );
    }
}

#[test]
fn init_makes_any_directory_a_root_and_is_silent_when_asked_to_be() {
    let project = Project::without_root();
    let said = project.engine(&["init", "-q", "deep/er"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    assert_eq!(names(&project.path("deep/er")), ["engine.toml", "jobs", "state"]);
}

#[test]
fn new_writes_a_valid_file_for_every_adapter_and_never_over_another() {
    let project = Project::new();
    let listed = project.engine_with(&["adapters", "--json"], &[("PATH", "/nonexistent")]).json();
    for tool in listed.as_object().unwrap().keys() {
        let needs_command = listed[tool]["executable"].is_null();
        let id = format!("my-{tool}");
        let mut args = vec!["new", tool, "--id", &id];
        if needs_command {
            project.engine(&args).exits(2);
            args.extend(["--", "make", "test"]);
        }
        assert_eq!(project.engine(&args).exits(0), format!("{id}.json\n"));
        let file = format!("{id}.json");
        let said = project.engine(&["validate", &file]).exits(0);
        let is_here = |line: &str| line == format!("{file}: valid") || line.contains("there is no program");
        assert!(said.lines().all(is_here) && said.ends_with(": valid\n"), "{said}");
        let before = std::fs::read(project.path(&file)).unwrap();
        let said = project.engine(&args);
        assert!(said.code == 125 && said.err.contains("my-"), "{} {}", said.code, said.err);
        assert_eq!(std::fs::read(project.path(&file)).unwrap(), before);
    }
    let document = project.engine(&["new", "shell", "--id", "a", "--file", "-", "--", "make", "test"]).json();
    let command = json!({"exe": "make", "args": ["test"]});
    assert_eq!(document, json!({"schema_version": 1, "job_id": "a", "tool": "shell", "command": command}));
    let said = project.engine(&["new", "shel", "--", "x"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("there is no adapter `shel`"), "{}", said.err);
    project.engine(&["new", "shell", "--id", "a/b", "--", "x"]).exits(2);
}

#[test]
fn validate_names_every_problem_with_file_line_column_and_pointer() {
    let project = Project::without_root();
    let good = r#"{"job_id": "a", "tool": "shell", "command": {"exe": "true"}}"#;
    std::fs::write(project.path("good.json"), good).unwrap();
    let bad = "{\n  \"job_id\": \"a b\",\n  \"tool\": \"shell\",\n  \"priorty\": \"high\",\n  \
               \"metadata\": {\"timeout_seconds\": \"10\"},\n  \"env\": {\"KEY\": 5}\n}\n";
    std::fs::write(project.path("bad.json"), bad).unwrap();
    assert_eq!(project.engine(&["validate", "good.json"]).exits(0), "good.json: valid\n");
    let want = "\
bad.json:2:13: /job_id: found \"a b\", expected 1 to 128 characters A-Z a-z 0-9 . _ -, the first a letter or digit
bad.json:4:3: /priorty: unknown key `priorty` (did you mean `priority`?)
bad.json:5:35: /metadata/timeout_seconds: found \"10\", expected a number of seconds above 0
bad.json:6:18: /env/KEY: found a number, expected a string, or {\"from_env\": NAME} for a variable of the engine's own environment
";
    assert_eq!(project.engine(&["validate", "bad.json"]).exits(1), want);
    let both = project.engine(&["validate", "good.json", "bad.json"]).exits(1);
    assert_eq!(both, format!("good.json: valid\n{want}"));
    let lines = project.engine(&["validate", "--json", "good.json", "bad.json"]).exits(1);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({"file": "good.json", "valid": true, "problems": [], "warnings": []}));
    assert_eq!((&lines[1]["file"], &lines[1]["valid"]), (&json!("bad.json"), &json!(false)));
    let problem = json!({
        "pointer": "/priorty", "line": 4, "column": 3, "message": "unknown key `priorty`", "expected": null,
        "did_you_mean": "priority",
    });
    assert_eq!(lines[1]["problems"].as_array().unwrap().len(), 4);
    assert_eq!(lines[1]["problems"][1], problem);
    assert_eq!(names(project.dir()), ["bad.json", "good.json"], "a reading command creates nothing");
}

#[test]
fn validate_reads_standard_input_and_says_what_it_can_not_read() {
    let project = Project::without_root();
    let mut child = project.command(&["validate", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"{\"job_id\": \"a\"}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("-:1:1: the key `tool` is missing"), "{text}");
    let said = project.engine(&["validate", "missing.json"]);
    assert_eq!((said.code, said.out.as_str()), (125, ""));
    assert!(said.err.contains("`missing.json`"), "{}", said.err);
}

#[test]
fn what_is_ignored_in_a_historical_file_is_a_warning() {
    let project = Project::new();
    let document = json!({
        "job_id": "job-2025-11-20-001", "workstream_id": "w", "tool": "git", "env": {}, "surprise": 1,
        "command": {"exe": "true", "args": []},
        "paths": {"repo_root": "", "working_dir": "", "log_file": "", "error_report": ""},
    });
    let file = project.job(&document);
    let said = project.engine(&["validate", &file]).exits(0);
    assert!(said.contains("warning: /surprise: unknown key `surprise`; it is ignored"), "{said}");
    assert!(said.ends_with(": valid\n"), "{said}");
    let said = project.engine(&["run-job", "--job-file", &file]);
    assert!(said.err.contains("warning: /surprise"), "{}", said.err);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn schema_prints_the_committed_schema_and_names_the_others() {
    let project = Project::without_root();
    for name in
        ["job", "record", "result", "error_report", "event", "adapter", "usage", "prices", "workstream"]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/jobs/{name}.schema.json"));
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(project.engine(&["schema", name]).exits(0), committed);
    }
    let said = project.engine(&["schema", "jobs"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    let want = "engine: error: there is no schema `jobs`\n\
                engine: hint: did you mean `job`? There are: job, record, result, error_report, event, adapter, \
                usage, prices, workstream, run, run_manifest, run_event, patch\n";
    assert_eq!(said.err, want);
}

// ---------------------------------------------------------------- show, list, log

#[test]
fn show_tells_what_happened_and_why() {
    let project = Project::new();
    let document = with(shell("a", "echo out; echo wrong >&2; exit 3"), "run_id", json!("r1"));
    project.run(&document).exits(3);
    let want = "\
a  quarantined  (jobs/quarantined/a.json)
  tool         shell
  run          r1
  attempt 1    failed, started [TIME], took [SECONDS], exit code 3, cpu [SECONDS], memory [N] KiB
  reason       exit_code: `sh` exited with code 3
  log          [DIR]/.engine/state/logs/a.1.log
  report       [DIR]/.engine/state/logs/a.1.error.json
               wrong
";
    assert_eq!(redact(&project, &project.engine(&["show", "a"]).exits(0)), want);
    let document = project.engine(&["show", "a", "--json"]).json();
    assert_eq!((&document["status"], &document["waiting"]), (&json!("quarantined"), &Value::Null));
    let mut record = document.clone();
    record.as_object_mut().unwrap().remove("waiting");
    assert_eq!(record, project.record_shown("a"));
    valid("record", &record);
    let report: Value =
        serde_json::from_slice(&std::fs::read(project.root("state/logs/a.1.error.json")).unwrap()).unwrap();
    valid("error_report", &report);
    assert_eq!(report, record["error_report"]);
    for line in project.engine(&["show", "a", "--all"]).exits(0).lines() {
        valid("record", &serde_json::from_str(line).unwrap());
    }
    for line in project.journal() {
        valid("event", &line);
    }
}

#[test]
fn show_says_no_for_an_unknown_job_and_usage_for_what_is_no_id() {
    let project = Project::new();
    for args in [["show", "b"], ["log", "b"]] {
        let said = project.engine(&args);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{args:?}");
        assert!(said.err.starts_with("engine: error: the") && said.err.contains("`b`"), "{}", said.err);
    }
    project.engine(&["show", "b", "--all"]).exits(1);
    project.engine(&["show", "../b"]).exits(2);
    project.engine(&["log", "../b"]).exits(2);
    project.engine(&["show"]).exits(2);
    project.engine(&["shw", "a"]).exits(2);
}

#[test]
fn a_file_that_a_person_put_into_the_queue_is_shown_and_listed() {
    let project = Project::new();
    let document = with(shell("a", "true"), "not_before", json!("2999-01-01T00:00:00Z"));
    std::fs::write(project.root("jobs/queued/a.json"), document.to_string()).unwrap();
    let text = project.engine(&["show", "a"]).exits(0);
    assert_eq!(text, "a  queued\n  waits: not before 2999-01-01T00:00:00.000Z\n");
    let shown = project.engine(&["show", "a", "--json"]).json();
    assert_eq!((&shown["status"], &shown["waiting"]["code"]), (&json!("queued"), &json!("waiting_time")));
    let listed = project.engine(&["list", "--json"]).json();
    assert_eq!(
        (&listed["job_id"], &listed["status"], &listed["tool"]),
        (&json!("a"), &json!("queued"), &json!("shell"))
    );
    assert!(project.record_if_any("a").is_none(), "a reading command writes nothing");
}

#[test]
fn list_shows_the_newest_first_and_filters() {
    let project = Project::new();
    assert_eq!(project.engine(&["list"]).exits(0), "");
    project.run(&with(shell("first", "exit 4"), "run_id", json!("r1"))).exits(4);
    project.run(&with(shell("second", "true"), "run_id", json!("r2"))).exits(0);
    project
        .run(&with(with(shell("third", "exit 1"), "run_id", json!("r1")), "on_failure", json!("done")))
        .exits(1);
    let want = "\
ID      STATUS       TOOL   TRIES  AT      WHY
third   failed       shell  1      [TIME]  exit_code
second  succeeded    shell  1      [TIME]
first   quarantined  shell  1      [TIME]  exit_code
";
    // The column of times is as wide as a time.
    let text = redact(&project, &project.engine(&["list"]).exits(0))
        .replace(&format!("AT{}", " ".repeat(22)), "AT    ");
    assert_eq!(text, want);
    let ids = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["list", "--json"];
        all.extend(args);
        let lines = project.engine(&all).exits(0);
        let id =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["job_id"].as_str().unwrap().to_owned();
        lines.lines().map(id).collect()
    };
    assert_eq!(ids(&[]), ["third", "second", "first"]);
    assert_eq!(ids(&["--state", "quarantined"]), ["first"]);
    assert_eq!(ids(&["--state", "running"]), [""; 0]);
    assert_eq!(ids(&["--run", "r1"]), ["third", "first"]);
    assert_eq!(ids(&["--run", "r1", "--limit", "1"]), ["third"]);
    assert_eq!(ids(&["--run", "r1", "--state", "failed"]), ["third"]);
    assert_eq!(ids(&["--limit", "0"]), [""; 0]);
    assert_eq!(ids(&["--state", "waiting"]), [""; 0]);
    project.engine(&["list", "--state", "gone"]).exits(2);
    let line: Value =
        serde_json::from_str(project.engine(&["list", "--json", "--limit", "1"]).exits(0).trim()).unwrap();
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    let want = [
        "at",
        "attempts",
        "job_id",
        "outcome",
        "parent",
        "place",
        "reason_code",
        "run_id",
        "status",
        "tool",
        "waiting",
        "workstream_id",
    ];
    assert_eq!(keys, want);
}

#[test]
fn log_prints_the_attempt_that_was_asked_for() {
    let project = Project::new();
    let retries =
        json!({"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}});
    let script = "echo x >> tries; echo try $(wc -l < tries); exit 5";
    project.run(&with(shell("a", script), "metadata", retries)).exits(5);
    assert_eq!(project.engine(&["log", "a"]).exits(0), "try 2\n");
    assert_eq!(project.engine(&["log", "a", "--attempt", "1"]).exits(0), "try 1\n");
    assert_eq!(project.engine(&["log", "a", "--attempt", "2", "--follow"]).exits(0), "try 2\n");
    let said = project.engine(&["log", "a", "--attempt", "3"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert_eq!(said.err, "engine: error: the job `a` has no attempt 3\nengine: hint: engine show a\n");
}

#[test]
fn a_slow_reader_of_a_log_sees_the_attempts_that_ended_meanwhile_and_no_runner_that_is_gone() {
    let project = Project::new();
    let script = "head -c 300000 /dev/zero | tr '\\0' x; if [ -e ran ]; then echo second; exit 0; fi; \
                  : > ran; until [ -e go ]; do sleep 0.01; done; exit 1";
    let job = json!({
        "job_id": "a", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"max_retries": 1, "retry_policy": "retry_same", "backoff": {"strategy": "immediate"}},
    });
    let name = project.job(&job);
    let mut runner = project.command(&["run-job", "--job-file", &name]);
    let mut runner = runner.stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("the job prints", || {
        std::fs::metadata(project.root("state/logs/a.1.log")).is_ok_and(|log| log.len() == 300_000)
    });
    let mut follower = project.command(&["log", "a", "--follow"]).spawn().unwrap();
    let mut out = follower.stdout.take().unwrap();
    // It is in the middle of the first log, and the pipe is full until somebody reads.
    std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut out, &mut text).unwrap();
    let said = follower.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!((text.matches('x').count(), text.ends_with("xsecond\n")), (599_999, true));
}

#[test]
fn a_follower_of_a_job_whose_file_was_deleted_says_so() {
    let project = Project::new();
    let job = json!({"job_id": "a", "tool": "shell", "command": {"exe": "true"}, "not_before": "2999-01-01T00:00:00Z"});
    let name = project.job(&job);
    project.engine(&["run-job", "--park", "--job-file", &name]).exits(75);
    let mut follower = project.command(&["log", "a", "--follow"]).spawn().unwrap();
    let mut first = String::new();
    let mut err = std::io::BufReader::new(follower.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut err, &mut first).unwrap();
    assert!(first.contains("has not started yet"), "{first}");
    std::fs::remove_file(project.root("jobs/queued/a.json")).unwrap();
    eventually("the follower ends", || follower.try_wait().unwrap().is_some());
    assert_eq!(follower.wait().unwrap().code(), Some(1));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut err, &mut rest).unwrap();
    assert!(rest.contains("there is no job `a` any more"), "{rest}");
    let said = project.engine(&["log", "a"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("there is no job `a` any more"), "{}", said.err);
}

#[test]
fn show_names_no_file_that_is_gone_nothing_twice_and_counts_in_the_right_number() {
    let project = Project::new();
    let job = |id: &str, script: &str| json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
    project.run(&job("a", "echo x; exit 3")).exits(3);
    project.engine(&["requeue", "a"]).exits(0);
    let shown = project.engine(&["show", "a"]).exits(0);
    assert!(shown.contains("1 attempt in 1 life\n"), "{shown}");
    project.engine(&["cancel", "a"]).exits(0);
    let mut later = job("later", "true");
    later["not_before"] = json!("2999-01-01T00:00:00Z");
    later["depends_on"] = json!(["needed"]);
    project.run(&job("needed", "true")).exits(0);
    project.engine(&["run-job", "--park", "--job-file", &project.job(&later)]).exits(75);
    let shown = project.engine(&["show", "later"]).exits(0);
    assert_eq!(shown.matches("2999-01-01").count(), 1, "{shown}");
    project.run(&job("b", "echo x; exit 3")).exits(3);
    assert!(project.engine(&["show", "b"]).exits(0).contains(".log"));
    let said = project.engine(&["gc", "--keep-count", "0"]);
    let note = "1 stays, 1 of them because a job that waits or runs depends on it";
    assert!(said.err.contains(note) && said.err.contains("retired 2 jobs"), "{}", said.err);
    let shown = project.engine(&["show", "b"]).exits(0);
    assert!(shown.starts_with("b  quarantined  (archived)\n"), "{shown}");
    for gone in ["  log ", "  report ", ".log", "jobs/"] {
        assert!(!shown.contains(gone), "{gone}: {shown}");
    }
}

#[test]
fn a_name_that_is_not_there_is_not_suggested_for_itself() {
    let project = Project::new();
    std::fs::create_dir_all(project.root("state/jobs")).unwrap();
    project.engine(&["init"]).exits(0);
    std::fs::write(project.root("state/jobs/q.jsonl"), "").unwrap();
    for args in [&["log", "q"][..], &["explain", "q"], &["show", "q"], &["show", "q", "--all"]] {
        let said = project.engine(args);
        assert_eq!(said.code, 1, "{args:?}");
        assert!(said.err.contains("there is no job `q`"), "{}", said.err);
        assert!(!said.err.contains("did you mean"), "{}", said.err);
    }
}

#[test]
fn log_follows_a_running_job_to_its_end() {
    let project = Project::new();
    let gate = project.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let file = project.job(&shell("a", "echo one; read line < gate; echo two; exit 6"));
    let job = project.start(&["run-job", "--output", "never", "--job-file", &file], &[]);
    eventually("the job prints", || project.engine(&["log", "a"]).out == "one\n");
    assert_eq!(project.engine(&["list", "--json", "--state", "running"]).json()["job_id"], "a");
    assert!(project.engine(&["show", "a"]).out.starts_with("a  running  (jobs/running/a.json)\n"));
    let copy = project.path("copy");
    let mut command = project.command(&["log", "a", "--follow"]);
    let mut follower = command.stdout(std::fs::File::create(&copy).unwrap()).spawn().unwrap();
    eventually("the follower prints", || std::fs::read(&copy).unwrap() == b"one\n");
    assert!(follower.try_wait().unwrap().is_none(), "it ends with the job");
    std::fs::write(&gate, "go\n").unwrap();
    assert_eq!(job.wait().code, 6);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "one\ntwo\n");
}

#[test]
fn adapters_are_listed_whether_their_tools_are_here_or_not() {
    let project = Project::new();
    let said = project.engine_with(&["adapters", "--json"], &[("PATH", "/nonexistent")]);
    let listed = said.json();
    let ids: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(
        ids,
        [
            "aider",
            "claude",
            "codex",
            "gemini",
            "git",
            "integration",
            "plugin",
            "python",
            "shell",
            "tests",
            "workstream"
        ]
    );
    for (id, adapter) in listed.as_object().unwrap() {
        let keys: Vec<&String> = adapter.as_object().unwrap().keys().collect();
        let want = [
            "capabilities",
            "executable",
            "file",
            "path",
            "present",
            "reader",
            "repeatable",
            "summary",
            "version",
        ];
        assert_eq!(keys, want, "{id}");
        if ["integration", "workstream"].contains(&id.as_str()) {
            // That is this program.
            assert_eq!((&adapter["path"], &adapter["present"]), (&json!("/proc/self/exe"), &json!(true)));
            continue;
        }
        assert_eq!(
            (&adapter["file"], &adapter["path"], &adapter["version"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let present = if adapter["executable"].is_null() { Value::Null } else { json!(false) };
        assert_eq!(adapter["present"], present, "{id}");
    }
    let tool = project.path("bin/git");
    std::fs::create_dir(project.path("bin")).unwrap();
    std::fs::write(&tool, "#!/bin/sh\necho git version 9.8.7\n").unwrap();
    chmod(&tool, 0o755);
    let path = project.path("bin");
    let table = project.engine_with(&["adapters"], &[("PATH", path.to_str().unwrap())]).exits(0);
    let line = |id: &str| {
        table.lines().find(|line| line.starts_with(id)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("git"), ["git", "yes", "9.8.7", "git", "commit,branch,worktree,status,diff"]);
    assert_eq!(line("aider")[..3], ["aider", "no", "-"]);
    assert_eq!(line("shell")[..3], ["shell", "-", "-"]);
}

// ---------------------------------------------------------------- run-job: documents and exit statuses

/// Runs a job and checks exit status, outcome, reason, and the shape of the printed document.
#[track_caller]
fn ends(project: &Project, document: &Value, code: i32, outcome: &str, reason: Option<&str>) -> Value {
    let said = project.run(document);
    assert_eq!(said.code, code, "{document}\n{}\n{}", said.out, said.err);
    let result = said.json();
    valid("result", &result);
    assert_eq!(result["outcome"], outcome, "{result}");
    assert_eq!(result["reason"]["code"].as_str(), reason, "{result}");
    let id = document["job_id"].as_str().unwrap();
    assert_eq!(project.record_shown(id)["result"], result, "what is printed is what is recorded");
    result
}

#[test]
fn exit_status_success_and_the_tools_own_code_even_when_it_equals_one_of_ours() {
    let project = Project::new();
    let result = ends(&project, &shell("ok", "echo hi; echo ho >&2"), 0, "succeeded", None);
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("hi\n"), &json!("ho\n")));
    assert_eq!(
        (&result["success"], &result["exit_code"], &result["signal"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    for code in [1, 7, 75, 124, 125, 126, 127, 130, 255] {
        let result = ends(
            &project,
            &shell(&format!("c{code}"), &format!("exit {code}")),
            code,
            "failed",
            Some("exit_code"),
        );
        assert_eq!(result["exit_code"], code);
    }
}

#[test]
fn exit_status_1_when_the_tool_said_0_and_the_verdict_is_failure() {
    let project = Project::new();
    let mut document = shell("p", "echo '{\"success\": false, \"message\": \"no\"}'");
    document["tool"] = json!("plugin");
    let result = project.run(&document);
    assert_eq!(result.code, 1, "{}", result.out);
    let result = result.json();
    valid("result", &result);
    assert_eq!((&result["success"], &result["exit_code"]), (&json!(false), &json!(0)));
    document = with(with(document, "job_id", json!("t")), "tool", json!("tests"));
    assert_eq!(project.run(&document).code, 1);
}

#[test]
fn exit_status_75_when_the_job_is_left_in_the_queue() {
    let project = Project::new();
    for (id, key, value, reason) in [
        ("d", "depends_on", json!(["other"]), "waiting_dependency"),
        ("n", "not_before", json!("2999-01-01T00:00:00Z"), "waiting_time"),
    ] {
        let file = project.job(&with(shell(id, "true"), key, value));
        let said = project.engine(&["run-job", "--json", "--job-file", &file]);
        assert_eq!(said.code, 125);
        assert_eq!(said.json()["reason"]["code"], reason);
        assert!(said.err.contains("hint: --wait SECONDS waits for it"), "{}", said.err);
        assert!(
            project.places(id).is_empty() && project.record_if_any(id).is_none(),
            "a refused job leaves nothing"
        );
        let said = project.engine(&["run-job", "--json", "--park", "--job-file", &file]);
        assert_eq!(said.code, 75, "{}", said.err);
        let document = said.json();
        assert_eq!((&document["status"], &document["reason"]["code"]), (&json!("queued"), &json!(reason)));
        assert_eq!(project.places(id), ["queued"]);
        let shown = project.engine(&["show", id, "--json"]).json();
        assert_eq!(shown["waiting"]["code"], reason);
    }
    let retries =
        json!({"retry_policy": "retry_same", "backoff": {"base_seconds": 3600, "max_seconds": 3600}});
    let file = project.job(&with(shell("r", "exit 9"), "metadata", retries));
    let said = project.engine(&["run-job", "--json", "--park", "--job-file", &file]);
    assert_eq!(said.code, 75, "{}", said.err);
    let result = said.json();
    valid("result", &result);
    assert_eq!(
        (&result["status"], &result["outcome"], &result["exit_code"]),
        (&json!("queued"), &json!("failed"), &json!(9))
    );
    assert_eq!(project.places("r"), ["queued"]);
    assert!(project.record("r")["not_before"].is_string());
}

#[test]
fn exit_status_75_for_a_hold_and_125_without_park() {
    let project = Project::new();
    std::fs::write(project.root("state/control/HOLD"), "").unwrap();
    let file = project.job(&shell("h", "true"));
    let said = project.engine(&["run-job", "--json", "--job-file", &file]);
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("waiting_hold")));
    project.engine(&["run-job", "--park", "--job-file", &file]).exits(75);
    std::fs::remove_file(project.root("state/control/HOLD")).unwrap();
    project.engine(&["run-job", "--claim", "h"]).exits(0);
    assert_eq!(project.places("h"), ["done"]);
}

#[test]
fn a_job_that_can_not_start_is_waited_for_as_long_as_was_asked() {
    let project = Project::new();
    let hold = project.root("state/control/HOLD");
    std::fs::write(&hold, "").unwrap();
    let file = project.job(&shell("w", "true"));
    let said = project.engine(&["run-job", "--json", "--wait", "0", "--job-file", &file]);
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("waiting_hold")));
    let waiting = project.start(&["run-job", "--json", "--wait", "600", "--job-file", &file], &[]);
    let gone = project.start(&["run-job", "--json", "--wait", "600", "--", "true"], &[]);
    let proc = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let catches = |pid: i32| {
        let status = proc(pid);
        let mask =
            status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & (1 << (15 - 1)) != 0
    };
    eventually("both wait", || catches(waiting.pid()) && catches(gone.pid()));
    gone.signal(Signal::TERM);
    let said = gone.wait();
    assert_eq!((said.code, &said.json()["status"]), (143, &json!(null)), "{}", said.err);
    std::fs::remove_file(&hold).unwrap();
    waiting.wait().exits(0);
    assert_eq!(project.places("w"), ["done"]);
}

#[test]
fn exit_status_124_for_a_job_that_takes_too_long_or_says_nothing() {
    let project = Project::new();
    let limits = json!({"timeout_seconds": 0.2, "grace_seconds": 0.2});
    ends(&project, &with(shell("t", "sleep 600"), "metadata", limits), 124, "timed_out", Some("timed_out"));
    let limits = json!({"idle_timeout_seconds": 0.2, "grace_seconds": 0.2});
    ends(
        &project,
        &with(shell("s", "echo x; sleep 600"), "metadata", limits),
        124,
        "stalled",
        Some("stalled"),
    );
}

#[test]
fn exit_status_125_for_what_the_engine_can_not_do() {
    let project = Project::new();
    let missing = |id: &str| json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}});
    let mut document = missing("adapter");
    document["tool"] = json!("shel");
    let result = ends(&project, &document, 125, "not_started", Some("no_adapter"));
    assert!(result["reason"]["message"].as_str().unwrap().contains("did you mean `shell`?"));
    let document = with(missing("gone"), "paths", json!({"repo_root": "gone"}));
    ends(&project, &document, 125, "not_started", Some("path_missing"));
    let document = with(missing("drive"), "paths", json!({"repo_root": "C:/work"}));
    ends(&project, &document, 125, "not_started", Some("path_foreign"));
    let document = with(missing("out"), "paths", json!({"log_file": "../../out.log"}));
    ends(&project, &document, 125, "not_started", Some("path_escapes"));
    ends(
        &project,
        &json!({"job_id": "empty", "tool": "shell", "command": {"exe": ""}}),
        125,
        "not_started",
        Some("command_missing"),
    );
    ends(&project, &json!({"job_id": "agent", "tool": "codex"}), 125, "not_started", Some("prompt_missing"));
    assert!(!project.path("gone").exists() && !project.path("C:").exists(), "no directory is created");
}

#[test]
fn exit_status_125_for_a_file_that_is_missing_or_invalid_and_nothing_is_written() {
    let project = Project::without_root();
    let said = project.engine(&["run-job", "--json", "--job-file", "missing.json"]);
    assert_eq!(said.code, 125);
    assert_eq!(said.json()["success"], false);
    std::fs::write(project.path("bad.json"), "{\"job_id\": \"a\", \"tool\": \"shell\", \"prioriti\": 1}")
        .unwrap();
    let said = project.engine(&["run-job", "--json", "--job-file", "bad.json"]);
    assert_eq!(said.code, 125);
    let document = said.json();
    assert_eq!(
        (&document["outcome"], &document["reason"]["code"]),
        (&json!("invalid"), &json!("invalid_job_file"))
    );
    assert_eq!(document["problems"][0]["did_you_mean"], "priority");
    assert!(said.err.contains("bad.json:1:34: /prioriti: unknown key"), "{}", said.err);
    assert_eq!(names(project.dir()), ["bad.json"], "no root was made for it");
}

#[test]
fn exit_status_125_for_an_id_that_is_busy() {
    let project = Project::new();
    let gate = project.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let file = project.job(&shell("a", "read line < gate"));
    let job = project.start(&["run-job", "--job-file", &file], &[]);
    eventually("the job runs", || project.places("a") == ["running"]);
    let said = project.engine(&["run-job", "--json", "--job-file", &file]);
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("id_running")));
    std::fs::write(&gate, "go\n").unwrap();
    assert_eq!(job.wait().code, 0);
    std::fs::write(project.root("jobs/queued/b.json"), shell("b", "true").to_string()).unwrap();
    let said = project.run(&shell("b", "echo another"));
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("id_queued")));
}

#[test]
fn exit_status_125_for_wrong_usage_of_run_job() {
    let project = Project::new();
    for args in [
        &["run-job"][..],
        &["run-job", "--job-fil", "x"],
        &["run-job", "--job-file", "x", "--claim", "y"],
        &["run-job", "--output", "sometimes", "--", "true"],
        &["run-job", "--claim", "a/b"],
        &["run-job", "--claim", "unknown"],
    ] {
        let said = project.engine(args);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{args:?}: {}", said.err);
        assert!(!said.err.is_empty(), "{args:?}");
    }
}

#[test]
fn exit_status_126_and_127_for_tools_that_can_not_be_started() {
    let project = Project::new();
    std::fs::write(project.path("plain"), "#!/bin/sh\n").unwrap();
    chmod(&project.path("plain"), 0o644);
    std::fs::create_dir(project.path("dir")).unwrap();
    for (id, exe, code, reason) in [
        ("plain", "./plain", 126, "tool_not_executable"),
        ("dir", "./dir", 126, "tool_not_executable"),
        ("name", "no-such-tool-here", 127, "tool_not_found"),
        ("path", "./no/such/tool", 127, "tool_not_found"),
    ] {
        let document = json!({"job_id": id, "tool": "shell", "command": {"exe": exe}});
        let result = ends(&project, &document, code, "not_started", Some(reason));
        assert!(result["exit_code"].is_null());
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_is_not_called_missing_itself() {
    let project = Project::new();
    for (id, text, named) in [
        ("windows", "#!/bin/sh\r\necho hi\r\n", "interpreter `/bin/sh\\r` was not found"),
        ("missing", "#!/no/such/interpreter\n", "interpreter `/no/such/interpreter` was not found"),
        ("text", "echo hi\n", "no `#!` line"),
    ] {
        std::fs::write(project.path(id), text).unwrap();
        chmod(&project.path(id), 0o755);
        for exe in [format!("./{id}"), id.to_owned()] {
            let path = format!("{}:/bin", project.dir().display());
            let document =
                json!({"job_id": id, "tool": "shell", "command": {"exe": exe}, "env": {"PATH": path}});
            let result = ends(&project, &document, 126, "not_started", Some("tool_not_executable"));
            let message = result["reason"]["message"].as_str().unwrap();
            assert!(message.contains(named), "{message}");
            assert!(message.contains("carriage return") == (id == "windows"), "{message}");
        }
    }
}

#[test]
fn exit_status_128_and_the_signal_that_ended_the_tool_or_the_engine() {
    let project = Project::new();
    let result = ends(&project, &shell("k", "kill -9 $$"), 137, "killed", Some("signal:9"));
    assert_eq!((&result["signal"], &result["exit_code"]), (&json!(9), &Value::Null));
    for (id, signal, code) in [("i", Signal::INT, 130), ("t", Signal::TERM, 143), ("h", Signal::HUP, 129)] {
        let file = project.job(&shell(id, "touch started-$0; exec sleep 600"));
        let job = project.start(&["run-job", "--json", "--job-file", &file], &[]);
        eventually("the tool started", || project.path("started-sh").exists());
        std::fs::remove_file(project.path("started-sh")).unwrap();
        job.signal(signal);
        let said = job.wait();
        assert_eq!(said.code, code, "{}", said.err);
        let result = said.json();
        valid("result", &result);
        assert_eq!(
            (&result["outcome"], &result["status"]),
            (&json!("canceled"), &json!("canceled")),
            "{result}"
        );
        assert_eq!(project.places(id), ["done"]);
    }
}

#[test]
fn output_is_passed_on_as_was_asked() {
    let project = Project::new();
    let run = |args: &[&str], code: i32| -> (String, String) {
        let mut all = vec!["run-job"];
        all.extend(args);
        let script = format!("echo out; echo err >&2; exit {code}");
        all.extend(["--", "sh", "-c", &script]);
        let said = project.engine(&all);
        assert_eq!(said.code, code);
        (said.out, redact(&project, &said.err))
    };
    let notes =
        "engine: [ID] failed after [SECONDS]: `sh` exited with code 2\nengine: hint: engine show [ID]\n";
    let both = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(run(&[], 0), both("out\n", "err\n"));
    assert_eq!(run(&["--output", "always"], 2), both("out\n", &format!("err\n{notes}")));
    assert_eq!(run(&["--output", "failure"], 0), both("", ""));
    assert_eq!(run(&["--output", "failure"], 2), both("", &format!("out\nerr\n{notes}")));
    assert_eq!(run(&["--output", "never"], 2), both("", notes));
    assert_eq!(run(&["--output", "never"], 0), both("", ""));
    assert_eq!(run(&["--output", "never", "-q"], 2), both("", ""));
    // One document on standard output, whatever the tool prints.
    for args in [&["--json"][..], &["--json", "--output", "always"], &["--json", "--output", "failure"]] {
        let (out, err) = run(args, 2);
        valid("result", &serde_json::from_str(&out).unwrap());
        assert_eq!(err.contains("out\n"), args.len() > 1, "{args:?}: {err}");
    }
}

#[test]
fn nothing_is_colored_with_or_without_no_color() {
    let project = Project::new();
    project.run(&shell("a", "exit 1")).exits(1);
    for args in [
        &["list"][..],
        &["show", "a"],
        &["--help"],
        &["run-job", "--help"],
        &["shw"],
        &["show", "b"],
        &["log", "a"],
    ] {
        for env in [&[("NO_COLOR", "1")][..], &[("CLICOLOR_FORCE", "1"), ("TERM", "xterm-256color")], &[]] {
            let said = project.engine_with(args, env);
            assert!(!said.out.contains('\x1b') && !said.err.contains('\x1b'), "{args:?} {env:?}");
        }
    }
}

// ---------------------------------------------------------------- where the root is

fn root_of(said: &Said, project: &Project) -> String {
    assert_eq!(said.code, 0, "{}", said.err);
    let log = said.json()["log_path"].as_str().unwrap().to_owned();
    let log = redact(project, &log);
    log.split("/state/").next().unwrap().to_owned()
}

#[test]
fn the_root_is_the_one_that_is_named_else_the_nearest() {
    let project = Project::without_root();
    for root in ["named", "by-env", "outer", "outer/inner/.engine", "beside"] {
        project.engine(&["init", root]).exits(0);
    }
    for dir in ["outer/below/deep", "outer/inner/below", "elsewhere"] {
        std::fs::create_dir_all(project.path(dir)).unwrap();
    }
    let document = |id: &str| shell(id, "echo x").to_string();
    std::fs::write(project.path("beside/job.json"), document("beside")).unwrap();
    let run = |dir: &str, args: &[&str], env: &[(&str, &str)]| -> String {
        let mut all = vec!["run-job", "--json"];
        all.extend(args);
        if !args.contains(&"--job-file") {
            all.extend(["--", "echo", "x"]);
        }
        let output =
            project.command(&all).current_dir(project.path(dir)).envs(env.iter().copied()).output().unwrap();
        let said = Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        root_of(&said, &project)
    };
    let path = |relative: &str| project.path(relative).to_str().unwrap().to_owned();
    let env = path("by-env");
    assert_eq!(run("outer", &["--root", "../named"], &[("ENGINE_ROOT", &env)]), "[DIR]/named");
    assert_eq!(run("outer", &[], &[("ENGINE_ROOT", &env)]), "[DIR]/by-env");
    assert_eq!(run("outer/below/deep", &[], &[]), "[DIR]/outer");
    assert_eq!(run("outer/below/deep", &[], &[("ENGINE_ROOT", "")]), "[DIR]/outer");
    assert_eq!(run("outer/inner/below", &[], &[]), "[DIR]/outer/inner/.engine");
    assert_eq!(run("outer/below", &["--job-file", &path("beside/job.json")], &[]), "[DIR]/outer");
    assert_eq!(run("elsewhere", &["--job-file", "../beside/job.json"], &[]), "[DIR]/beside");
    assert!(!project.path("elsewhere/.engine").exists());
    // What is named must be there.
    let said = project.engine(&["run-job", "--root", "gone", "--", "true"]);
    assert_eq!(said.code, 125);
    assert!(said.err.contains("no engine root at `gone`") && said.err.contains("hint: "), "{}", said.err);
    assert!(!project.path("gone").exists());
}

#[test]
fn a_root_is_made_with_one_line_where_there_is_none() {
    let project = Project::without_root();
    let said = project.engine(&["run-job", "--", "true"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(redact(&project, &said.err), "engine: made the root [DIR]/.engine\n");
    assert!(project.root("engine.toml").is_file());
    assert_eq!(project.engine(&["run-job", "--", "true"]).err, "");
}

#[test]
fn a_reading_command_makes_no_root_and_says_how_to() {
    let project = Project::without_root();
    for args in [&["list"][..], &["show", "a"], &["log", "a"], &["recover"], &["run-job", "--claim", "a"]] {
        let said = project.engine(args);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{args:?}");
        let want = "engine: error: no engine root at `[DIR]`\n\
                    engine: hint: make one with `engine init`, or name one with --root\n";
        assert_eq!(redact(&project, &said.err), want, "{args:?}");
    }
    project.engine(&["adapters"]).exits(0);
    assert_eq!(names(project.dir()), [""; 0]);
}

#[test]
fn no_root_is_made_in_the_file_systems_root_or_at_home_or_where_others_can_write() {
    let project = Project::without_root();
    let refused = |dir: &Path, home: &Path, why: &str| {
        let mut command = project.command(&["run-job", "--", "true"]);
        let output = command.current_dir(dir).env("HOME", home).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{err}");
        assert!(err.contains(why) && err.contains("engine: hint: engine init DIR\n"), "{err}");
        assert!(!dir.join(".engine").exists());
    };
    let nowhere = Path::new("/nonexistent");
    refused(Path::new("/"), nowhere, "the root of the file system");
    refused(project.dir(), project.dir(), "your home directory");
    // On some systems /home is a link, and the working directory is always told without links.
    let link = project.path("link");
    let home = project.path("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink(&home, &link).unwrap();
    refused(&home, &link, "your home directory");
    let open = project.path("open");
    std::fs::create_dir(&open).unwrap();
    chmod(&open, 0o777);
    refused(&open, nowhere, "writable by others");
    chmod(&open, 0o1777);
    refused(&open, nowhere, "writable by others");
}

#[test]
fn a_root_that_others_can_write_is_refused() {
    for dir in [
        "",
        "jobs",
        "jobs/queued",
        "jobs/running",
        "jobs/done",
        "jobs/quarantined",
        "state",
        "state/jobs",
        "state/control",
        "adapters",
    ] {
        let project = Project::new();
        let path = project.root(dir);
        std::fs::create_dir_all(&path).unwrap();
        chmod(&path, 0o702);
        let said = project.engine(&["run-job", "--json", "--", "true"]);
        assert_eq!(said.code, 125, "{dir}: {}", said.err);
        assert!(
            said.err.contains("writable by others") && said.err.contains("hint: chmod go-w "),
            "{}",
            said.err
        );
        assert_eq!(said.json()["success"], false);
        chmod(&path, 0o700);
        project.engine(&["run-job", "--", "true"]).exits(0);
    }
}

#[test]
fn init_leaves_nothing_in_a_directory_that_others_can_write() {
    let project = Project::without_root();
    let open = project.path("open");
    std::fs::create_dir(&open).unwrap();
    chmod(&open, 0o777);
    let said = project.engine(&["init", "open"]);
    assert_eq!(said.code, 125);
    assert!(said.err.contains("writable by others"), "{}", said.err);
    assert_eq!(names(&open), [""; 0]);
}

// ---------------------------------------------------------------- help, completions, a reader that is gone

#[test]
fn help_is_data_and_shows_examples() {
    let project = Project::without_root();
    for verb in engine::cli::args::Cli::command().get_subcommands() {
        let text = project.engine(&[verb.get_name(), "--help"]).exits(0);
        assert!(text.contains(&format!("Usage: engine {}", verb.get_name())), "{text}");
    }
    for args in [&["--help"][..], &["init", "--help"], &["run-job", "--help"], &["new", "--help"]] {
        let text = project.engine(args).exits(0);
        assert!(text.contains("Examples:\n  engine "), "{args:?}: {text}");
    }
    let version = concat!("engine ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(project.engine(&["--version"]).exits(0), version);
    assert_eq!(project.engine(&["-V"]).exits(0), version);
    let said = project.engine::<&str>(&[]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("Usage: engine"), "{}", said.err);
}

#[test]
fn completions_know_the_verbs() {
    let project = Project::without_root();
    for name in ["bash", "zsh", "fish"] {
        let script = project.engine(&["completions", name]).exits(0);
        assert!(script.contains("run-job") && script.contains("job-file"), "{name}: {script:.200}");
    }
    project.engine(&["completions", "tcsh"]).exits(2);
}

#[test]
fn a_reader_that_is_gone_is_no_panic_and_changes_no_verdict() {
    let project = Project::new();
    project.run(&shell("a", "echo x; exit 1")).exits(1);
    for (args, code) in [
        (&["list"][..], 0),
        (&["list", "--json"], 0),
        (&["show", "a"], 0),
        (&["show", "a", "--json"], 0),
        (&["log", "a"], 0),
        (&["schema", "job"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["adapters"], 0),
        (&["validate", "a.json"], 0),
        (&["run-job", "--json", "--", "true"], 0),
        (&["run-job", "--", "echo", "x"], 0),
        (&["run-job", "--", "sh", "-c", "seq 100000; exit 3"], 3),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = project.command(args).stdout(writer).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    }
}

/// Title, bell, erase, a one-byte escape, lines of its own, and text that runs backwards.
const HOSTILE: &str =
    "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}31m\rFORGED\u{202e}\nFORGED:1:1: x\u{2028}FORGED\r\n::error::FORGED\t";

/// Whether a line begins with a text of others. Python and JavaScript take more characters than `\n` for ends of lines.
fn has_a_forged_line(text: &str) -> bool {
    let mut lines = text.split(['\n', '\r', '\u{2028}', '\u{2029}']);
    lines.any(|line| line.starts_with("FORGED") || line.starts_with("::"))
}

/// A project whose jobs, files and manifests hold hostile texts; some of the jobs have run.
fn hostile_project() -> Project {
    let project = Project::new();
    let x = HOSTILE;
    let put = |name: &str, document: Value| std::fs::write(project.path(name), document.to_string()).unwrap();
    put(
        "t.json",
        json!({"job_id": "t", "tool": "shell", "run_id": x, "workstream_id": x, "metadata": {x: x},
        "command": {"exe": "sh", "args": ["-c", "printf '%s' \"$0\" >&2; exit 3", x]}}),
    );
    put(
        "w.json",
        json!({"job_id": "w", "tool": "shell", "command": {"exe": x}, "paths": {"working_dir": x}}),
    );
    put("n.json", json!({"job_id": "n", "tool": x, x: 1, "command": {"exe": 1}, "env": {x: 1}}));
    put(
        "r.json",
        json!({"job_id": "r", "tool": "shell", "command": {"exe": "r\nFORGED"}, "run_id": "r\nFORGED"}),
    );
    put(&format!("{x}.json"), json!({"job_id": "v", "tool": "shell"}));
    put("q.json", json!({"job_id": "q", "tool": "shell", "command": {"exe": "true"}}));
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let adapter = json!({"id": "ad", "summary": x, "executable": "sh", "capabilities": [x, "a\nforged  yes"],
        "detect": {"args": ["-c", format!("printf '1.2%s' '{x}'")]}});
    std::fs::write(project.root("adapters/ad.json"), adapter.to_string()).unwrap();
    std::fs::write(project.root("adapters/bd.json"), json!({"id": format!("b{x}")}).to_string()).unwrap();
    let _ = project.engine(&["run-job", "-q", "--output", "never", "--job-file", "t.json"]);
    let _ = project.engine(&["run-job", "-q", "--job-file", "w.json"]);
    let _ = project.engine(&["submit", "q.json", "r.json"]);
    std::fs::write(project.root(&format!("jobs/queued/n{x}.json")), "{").unwrap();
    project
}

#[test]
fn no_verb_lets_a_file_a_name_or_a_manifest_control_the_terminal_or_begin_a_line() {
    let (project, x) = (hostile_project(), HOSTILE);
    let named = format!("{x}.json");
    let calls: Vec<Vec<&str>> = vec![
        vec!["validate", &named],
        vec!["validate", &named, "--json"],
        vec!["validate", "n.json"],
        vec!["submit", &named, x],
        vec!["submit", "n.json", "--json"],
        vec!["run-job", "--job-file", "n.json"],
        vec!["run-job", "--job-file", x],
        vec!["run-job", "--output", "never", "--job-file", "w.json", "--json"],
        vec!["run-job", "--job-file", "w.json"],
        vec!["run-job", "--output", "never", "--job-file", "t.json"],
        vec!["work", "--drain", "-v"],
        vec!["list"],
        vec!["list", "--json"],
        vec!["list", "--run", x],
        vec!["status"],
        vec!["status", "--json"],
        vec!["events"],
        vec!["events", "--json"],
        vec!["show", "t"],
        vec!["show", "t", "--json"],
        vec!["show", "t", "--all"],
        vec!["show", "w"],
        vec!["show", "r"],
        vec!["explain", "w"],
        vec!["wait", "w", "r", "t"],
        vec!["show", x],
        vec!["explain", "t"],
        vec!["explain", x],
        vec!["usage"],
        vec!["adapters"],
        vec!["adapters", "--json"],
        vec!["doctor"],
        vec!["recover"],
        vec!["requeue", "w"],
        vec!["hold", "w", "--reason", x],
        vec!["show", "w"],
        vec!["explain", "w"],
        vec!["list", "-v"],
        vec!["hold", x],
        vec!["cancel", "t", x],
        vec!["requeue", x],
        vec!["wait", "--run", x],
        vec!["gc", "--dry-run"],
        vec!["log", x],
        vec!["new", x, "--", "true"],
        vec!["new", "shell", "--file", "-", "--", x],
        vec!["work", "--drain", "--tool", x],
        vec![x],
    ];
    for call in calls {
        let said = project.engine(&call);
        for text in [&said.out, &said.err] {
            let raw = text.chars().find(|c| engine::for_tests::moves_the_cursor(*c));
            assert_eq!(raw, None, "{call:?}: {text:?}");
            assert!(!has_a_forged_line(text), "{call:?}: {text}");
        }
    }
    let table = project.engine(&["adapters"]).out;
    assert!(!table.lines().any(|line| line.starts_with("forged")), "{table}");
    let said = project.engine(&["validate", "n.json"]).exits(1);
    assert!(said.lines().all(|line| line.starts_with("n.json:1:")) && said.contains("/env/"), "{said}");
    let row = |text: &str| text.lines().any(|line| line.ends_with("r\\nFORGED"));
    assert!(row(&project.engine(&["show", "r"]).out) && row(&project.engine(&["events"]).out));
    let document = project.engine(&["show", "t", "--json"]).json();
    assert_eq!(document["job"]["run_id"], x, "a document is what it was");
}

#[test]
fn the_log_of_a_hostile_tool_is_scrubbed_in_a_terminal_but_for_colors_and_whole_in_a_file() {
    let project = Project::new();
    let output = "\u{1b}[31mred\u{1b}[0m \u{1b}]0;pwned\u{7}\u{1b}[2Jend";
    let job = json!({"job_id": "t", "tool": "shell", "command": {"exe": "printf", "args": ["%s", output]}});
    assert_eq!(project.run(&job).code, 0);
    assert_eq!(project.engine(&["log", "t"]).out, output);
    let in_terminal = |args: &[&str]| {
        let pty = engine::for_tests::open_terminal().unwrap();
        let mut child = project.command(args).stdout(pty.tool).spawn().unwrap();
        // The child alone holds the terminal: its end is the end of the output.
        let mut shown = Vec::new();
        let mut engine = std::fs::File::from(pty.engine);
        let _ = std::io::Read::read_to_end(&mut engine, &mut shown);
        assert!(child.wait().unwrap().success());
        String::from_utf8(shown).unwrap()
    };
    let shown = in_terminal(&["log", "t"]);
    assert_eq!(shown, "\u{1b}[31mred\u{1b}[0m \u{fffd}]0;pwned\u{fffd}\u{fffd}[2Jend");
    assert_eq!(in_terminal(&["log", "t", "--raw"]), output);
}

// ---------------------------------------------------------------- logs of jobs that have none, and full disks

#[test]
fn a_log_that_is_not_there_is_told_by_what_is_true_of_the_job() {
    let project = Project::new();
    let job = |id: &str, script: &str| json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
    project.run(&job("nightly", "echo hi")).exits(0);
    let said = project.engine(&["log", "nihgtly"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("there is no job `nihgtly`") && said.err.contains("did you mean `nightly`"),
        "{}",
        said.err
    );
    project.job(&job("waits", "true"));
    project.engine(&["submit", "waits.json"]).exits(0);
    let said = project.engine(&["log", "waits"]);
    assert!(said.err.contains("has not started yet") && said.err.contains("--follow"), "{}", said.err);
    assert_eq!(said.code, 1);
    project.engine(&["cancel", "waits"]).exits(0);
    for follow in [&["log", "waits"][..], &["log", "waits", "--follow"]] {
        let said = project.engine(follow);
        assert!(said.err.contains("was canceled before its first attempt"), "{}", said.err);
        assert_eq!(said.code, 1);
    }
    let said = project.run(&json!({"job_id": "lost", "tool": "nope"}));
    assert_ne!(said.code, 0);
    let said = project.engine(&["log", "lost"]);
    assert!(said.err.contains("did not start and has no log"), "{}", said.err);
    let shown = project.engine(&["show", "lost", "--json"]).json();
    assert_eq!(shown["result"]["log_path"], Value::Null, "no path of a file that is not there");
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    for args in [&["log", "nightly"][..], &["log", "nightly", "--follow"]] {
        let said = project.engine(args);
        assert!(
            said.err.contains("`nightly` succeeded at 20") && said.err.contains("its logs are gone"),
            "{}",
            said.err
        );
        assert!(said.err.contains("engine show nightly"), "{}", said.err);
    }
    let said = project.engine(&["explain", "nightly", "--json"]);
    assert_eq!((said.code, said.json()["findings"][0]["code"].clone()), (0, json!("archived")));
}

#[test]
fn a_follower_waits_for_the_start_and_ends_with_the_job_over_its_retries() {
    let project = Project::new();
    let script = "echo try $(cat n 2>/dev/null || echo 1); test -e n && exit 0; echo 2 > n; exit 1";
    project.job(&json!({"job_id": "a", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}}}));
    project.engine(&["submit", "a.json"]).exits(0);
    let mut follower = project.command(&["log", "a", "--follow"]).spawn().unwrap();
    let mut word = String::new();
    let mut err = std::io::BufReader::new(follower.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut err, &mut word).unwrap();
    assert!(word.contains("`a` has not started yet"), "{word}");
    project.engine(&["work", "--drain"]).exits(0);
    let said = follower.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "try 1\ntry 2\n", "{said:?}");
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn a_follower_of_a_log_ends_when_its_reader_is_gone_even_if_nothing_is_printed() {
    let project = Project::new();
    let script = "echo a; until test -e go; do sleep 0.01; done";
    let path = project
        .job(&json!({"job_id": "a", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}}));
    let mut job = project.command(&["run-job", "--job-file", &path]).spawn().unwrap();
    eventually("it prints", || project.root("state/logs/a.1.log").exists());
    let mut follower = project.command(&["log", "a", "--follow"]).spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(follower.stdout.take().unwrap()), &mut first)
        .unwrap();
    assert_eq!(first, "a\n");
    eventually("the follower ends", || follower.try_wait().unwrap().is_some());
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    std::fs::write(project.path("go"), "").unwrap();
    job.wait().unwrap();
}

#[test]
fn what_could_not_be_written_is_never_an_exit_status_of_0() {
    let project = Project::new();
    let job = json!({"job_id": "a", "tool": "shell", "command": {"exe": "echo", "args": ["hi"]}});
    project.run(&job).exits(0);
    let path =
        project.job(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "echo", "args": ["hi"]}}));
    for args in [
        &["--version"][..],
        &["--help"],
        &["completions", "bash"],
        &["schema", "job"],
        &["log", "a"],
        &["log", "a", "--follow"],
        &["events"],
        &["events", "--follow"],
        &["list"],
        &["show", "a"],
        &["show", "a", "--json"],
        &["status"],
        &["explain", "a"],
        &["run-job", "--job-file", &path],
        &["run-job", "--json", "--job-file", &path],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let said = project.command(args).stdout(full).output().unwrap();
        assert_ne!(said.status.code(), Some(0), "{args:?}: {said:?}");
        let err = String::from_utf8_lossy(&said.stderr);
        assert!(err.contains("error writing to standard output"), "{args:?}: {err}");
        // Closed, and not open for writing.
        for redirect in [">&-", "<&- >&-", "1<b.json"] {
            let said = redirected(&project, args, redirect);
            assert_ne!(said.code, 0, "{args:?} {redirect}");
            let lost = "error writing to standard output: Bad file descriptor";
            assert!(said.err.contains(lost), "{args:?} {redirect}: {}", said.err);
        }
    }
    // What has no data to print loses none.
    for redirect in [">&-", ">/dev/null", "1<>/dev/null"] {
        redirected(&project, &["run-job", "--", "true"], redirect).exits(0);
    }
    redirected(&project, &["log", "a"], "1<>/dev/null").exits(0);
    let said = redirected(&project, &["submit", "--", "true"], ">&-");
    assert_eq!(said.code, 125, "{}", said.err);
}

/// Runs the program with a redirection that a shell makes.
fn redirected(project: &Project, args: &[&str], redirect: &str) -> Said {
    let plain = project.command(args);
    let script = format!("exec \"$@\" {redirect}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(plain.get_program()).args(args).current_dir(project.dir());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
    Said::of(&command.output().unwrap())
}

#[test]
fn an_excerpt_that_is_not_all_says_so_and_a_whole_one_does_not() {
    let project = Project::new();
    let run = |id: &str, script: &str| {
        let job = json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
        let path = project.job(&job);
        project.engine(&["run-job", "--json", "--job-file", &path]).json()
    };
    let whole = run("whole", "seq 100; seq 50 >&2");
    assert_eq!((&whole["stdout_truncated"], &whole["stderr_truncated"]), (&Value::Null, &Value::Null));
    let lines = run("lines", "seq 101; seq 51 >&2");
    assert_eq!((&lines["stdout_truncated"], &lines["stderr_truncated"]), (&json!(true), &json!(true)));
    let bytes = run("bytes", "head -c 20000 /dev/zero | tr '\\0' x");
    assert_eq!((&bytes["stdout_truncated"], &bytes["stderr_truncated"]), (&json!(true), &Value::Null));
    let shown = project.engine(&["show", "lines", "--json"]).json();
    assert_eq!(shown["result"]["stdout_truncated"], true);
}
