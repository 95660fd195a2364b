//! Adapters against real and scripted tools: what is called, what it is given, and what its words are taken for.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::fake_agent::{BEFORE, EDIT, Fakes, TOOLS, case, ends, ends_as};
use crate::support::{Project, Said, eventually, fake_tool};

/// Runs a job with `bin/` of the project before the system's programs; nothing of the user's git is read.
fn run(project: &Project, document: &Value) -> Said {
    let name = project.job(document);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", project.path("bin").display());
    let env = [
        ("PATH", path.as_str()),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@example.org"),
    ];
    project.engine_with(&["run-job", "--json", "--job-file", &name], &env)
}

/// A shell script as a program of the project.
fn script(project: &Project, name: &str, text: &str) {
    let path = project.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn read(project: &Project, name: &str) -> String {
    std::fs::read_to_string(project.path(name)).unwrap()
}

fn git(operation: &str, args: &[&str]) -> Value {
    json!({
        "job_id": "g", "tool": "git", "command": {"args": args}, "metadata": {"git_operation": operation},
        "paths": {"working_dir": if operation == "init" { "." } else { "repo" }},
    })
}

/// A project with a repository in `repo/` that has one commit.
fn repository() -> Project {
    let project = Project::new();
    ends(&run(&project, &git("init", &["-q", "-b", "main", "repo"])), 0);
    std::fs::write(project.path("repo/a"), "one\n").unwrap();
    ends(&run(&project, &git("add", &["a"])), 0);
    let result = ends(&run(&project, &git("commit", &["-m", "first: a [b] c"])), 0);
    assert_eq!(result["metadata"]["branch"], "main");
    let head = read(&project, "repo/.git/refs/heads/main");
    assert!(head.starts_with(result["metadata"]["commit"].as_str().unwrap()), "{head}");
    project
}

#[test]
fn a_commit_without_changes_is_told_apart_from_a_broken_one() {
    let project = repository();
    let result = ends(&run(&project, &git("commit", &["-m", "again"])), 1);
    assert_eq!(result["reason"]["code"], "nothing_to_commit");
    std::fs::write(project.path("repo/b"), "untracked\n").unwrap();
    let result = ends(&run(&project, &git("commit", &["-m", "again"])), 1);
    assert_eq!(result["reason"]["code"], "nothing_to_commit");
    std::fs::write(project.path("repo/a"), "two\n").unwrap();
    std::fs::write(project.path("repo/.git/index.lock"), "").unwrap();
    let result = ends(&run(&project, &git("commit", &["-a", "-m", "locked"])), 128);
    assert_eq!(result["reason"]["code"], "index_locked");
    let report = &project.record("g")["error_report"];
    assert_eq!((&report["git_command"], &report["exit_code"]), (&json!("commit"), &json!(128)));
}

#[test]
fn a_merge_conflict_is_named_with_its_files() {
    let project = repository();
    let operations: [(&str, &[&str], Option<&str>); 4] = [
        ("checkout", &["-q", "-b", "other"], Some("theirs\n")),
        ("commit", &["-a", "-m", "theirs"], None),
        ("checkout", &["-q", "main"], Some("ours\n")),
        ("commit", &["-a", "-m", "ours"], None),
    ];
    for (operation, args, content) in operations {
        ends(&run(&project, &git(operation, args)), 0);
        if let Some(content) = content {
            std::fs::write(project.path("repo/a"), content).unwrap();
        }
    }
    let result = ends(&run(&project, &git("merge", &["other"])), 1);
    assert_eq!((&result["outcome"], &result["reason"]["code"]), (&json!("failed"), &json!("merge_conflict")));
    assert_eq!(result["metadata"]["conflicts"].as_array().unwrap().len(), 1);
    assert!(result["metadata"]["conflicts"][0].as_str().unwrap().ends_with(" a"), "{result}");
    let text = std::fs::read_to_string(result["error_report_path"].as_str().unwrap()).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["git_command"], "merge");
}

#[test]
fn git_outside_of_a_repository_does_not_use_the_one_of_somebody_else() {
    let project = Project::new();
    let mut document = git("status", &[]);
    document["paths"] = json!({});
    document["env"] = json!({"GIT_CEILING_DIRECTORIES": project.dir().parent().unwrap()});
    let result = ends(&run(&project, &document), 128);
    assert_eq!(result["reason"]["code"], "not_a_repository");
}

#[test]
fn git_that_would_open_an_editor_does_not_wait_for_one() {
    let project = repository();
    std::fs::write(project.path("repo/a"), "two\n").unwrap();
    let result = ends(&run(&project, &git("commit", &["-a"])), 1);
    assert_eq!(result["outcome"], "failed");
    assert!(result["duration_s"].as_f64().unwrap() < 30.0);
}

fn python(function: &str, arguments: &Value) -> Value {
    json!({
        "job_id": "p", "tool": "python", "metadata": {"function": function, "arguments": arguments},
    })
}

const MODULE: &str = "
import sys
class Deep:
    @staticmethod
    def add(a, b):
        print('noise on standard output')
        sys.stdout.write('{\"success\": false}\\n')
        return {'sum': a + b}
def boom():
    raise ValueError('no such thing')
def leave():
    sys.exit(0)
";

#[test]
fn a_python_function_that_prints_does_not_spoil_its_answer() {
    let project = Project::new();
    std::fs::write(project.path("functions.py"), MODULE).unwrap();
    for arguments in [json!([2, 3]), json!({"a": 2, "b": 3})] {
        let result = ends(&run(&project, &python("functions:Deep.add", &arguments)), 0);
        assert_eq!(result["metadata"]["content"], json!({"sum": 5}));
        assert!(result["stderr"].as_str().unwrap().contains("noise on standard output"));
    }
}

#[test]
fn a_python_function_that_raises_or_leaves_is_no_success() {
    let project = Project::new();
    std::fs::write(project.path("functions.py"), MODULE).unwrap();
    let result = ends(&run(&project, &python("functions:boom", &json!([]))), 1);
    assert_eq!(result["reason"]["code"], "plugin_failed");
    assert_eq!(result["reason"]["message"], "ValueError: no such thing");
    let details = project.record("p")["error_report"]["details"].to_string();
    assert!(details.contains("Traceback") && details.contains("functions.py"), "{details}");
    let result = ends(&run(&project, &python("functions:leave", &json!([]))), 1);
    assert_eq!(result["reason"]["code"], "invalid_answer");
    let result = ends(&run(&project, &python("functions:absent", &json!([]))), 1);
    assert_eq!(result["reason"]["code"], "plugin_failed");
    let result = ends(&run(&project, &json!({"job_id": "p", "tool": "python"})), 125);
    assert_eq!(result["reason"]["code"], "argument_missing");
}

fn plugin() -> Value {
    json!({
        "job_id": "p", "tool": "plugin", "command": {"exe": "./plugin.sh", "args": ["x"]},
        "metadata": {"anything": {"n": [1]}},
    })
}

#[test]
fn a_plugin_gets_one_request_and_its_answer_is_the_verdict() {
    let project = Project::new();
    let answer = r#"cat > request; echo '{"success": true, "message": "done", "content": [1, {"a": null}]}'"#;
    script(&project, "plugin.sh", answer);
    let result = ends(&run(&project, &plugin()), 0);
    assert_eq!(result["metadata"], json!({"message": "done", "content": [1, {"a": null}]}));
    let request: Value = serde_json::from_str(&read(&project, "request")).unwrap();
    let dir = project.dir().canonicalize().unwrap();
    let want = json!({
        "schema_version": 1, "job_id": "p", "attempt": 1, "tool": "plugin", "repo_root": dir, "working_dir": dir,
        "metadata": {"anything": {"n": [1]}},
    });
    assert_eq!(request, want);
}

#[test]
fn a_plugin_that_says_no_or_nothing_clear_is_a_failure_although_it_exits_with_0() {
    let project = Project::new();
    for (text, code) in [
        (r#"echo '{"success": false, "message": "not today"}'"#, "plugin_failed"),
        (r#"echo 'debug: starting'; echo '{"success": true}'"#, "invalid_answer"),
        (r#"echo '{"success": "true"}'"#, "invalid_answer"),
        ("true", "invalid_answer"),
    ] {
        script(&project, "plugin.sh", text);
        let result = ends(&run(&project, &plugin()), 1);
        assert_eq!((&result["reason"]["code"], &result["exit_code"]), (&json!(code), &json!(0)), "{text}");
    }
    script(&project, "plugin.sh", r#"echo '{"success": true}'; exit 9"#);
    assert_eq!(ends(&run(&project, &plugin()), 9)["outcome"], "failed");
}

fn manifest(project: &Project, id: &str, document: &Value) {
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root(&format!("adapters/{id}.json")), document.to_string()).unwrap();
}

#[test]
fn a_manifest_of_the_root_wins_over_the_built_in_one() {
    let project = Project::new();
    let own = json!({
        "id": "git", "executable": fake_tool(), "args": ["print", "{job_id} {attempt} {branch}", ["print", "{absent}"]],
        "env": {"FROM": "manifest"}, "success_exit_codes": [0, 5],
    });
    manifest(&project, "git", &own);
    let document = json!({
        "job_id": "m", "tool": "git", "command": {"args": ["env", "FROM", "exit", "5"]}, "metadata": {"branch": "b c"},
    });
    let result = ends(&run(&project, &document), 0);
    assert_eq!((&result["stdout"], &result["exit_code"]), (&json!("m 1 b c\nmanifest\n"), &json!(5)));
    let mut changed = document;
    changed["env"] = json!({"FROM": "job"});
    assert_eq!(ends(&run(&project, &changed), 0)["stdout"], "m 2 b c\njob\n");
}

#[test]
fn a_broken_manifest_is_named_and_the_built_in_one_does_not_run_in_its_place() {
    let project = Project::new();
    manifest(&project, "shell", &json!({"id": "shell", "exe": "x"}));
    let document = json!({"job_id": "m", "tool": "shell", "command": {"exe": "touch", "args": ["ran"]}});
    let result = ends(&run(&project, &document), 125);
    assert_eq!(
        (&result["outcome"], &result["reason"]["code"]),
        (&json!("not_started"), &json!("adapter_invalid"))
    );
    assert!(result["reason"]["message"].as_str().unwrap().contains("shell.json"));
    assert!(!project.path("ran").exists());
}

#[test]
fn a_tool_that_nobody_knows_or_that_is_not_installed_is_told_apart_by_the_exit_status() {
    let project = Project::new();
    let result = ends(&run(&project, &json!({"job_id": "m", "tool": "gti"})), 125);
    assert_eq!(result["reason"]["code"], "no_adapter");
    assert!(result["reason"]["message"].as_str().unwrap().contains("did you mean `git`?"));
    let absent = json!({"job_id": "m", "tool": "shell", "command": {"exe": "no-such-program"}});
    assert_eq!(ends(&run(&project, &absent), 127)["reason"]["code"], "tool_not_found");
    std::fs::write(project.path("plain"), "text").unwrap();
    let plain = json!({"job_id": "m", "tool": "shell", "command": {"exe": "./plain"}});
    assert_eq!(ends(&run(&project, &plain), 126)["reason"]["code"], "tool_not_executable");
}

const PROMPT: &str = "Change $(touch pwned) `it` --please\nsecond line ä\n";

#[test]
fn a_prompt_reaches_an_agent_whole_and_never_by_its_arguments_or_environment() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, "success"), EDIT));
        fakes.write("repo/p.md", PROMPT);
        for (run, given) in [(1, "prompt"), (2, "message_file")] {
            fakes.write("repo/calc.py", BEFORE);
            let value = if given == "prompt" { PROMPT } else { "p.md" };
            let mut document = Fakes::job("a", tool, &json!({"model": "some-model"}));
            document["metadata"].as_object_mut().unwrap().remove("prompt");
            document["metadata"][given] = value.into();
            ends(&fakes.run(&document), 0);
            assert_eq!(fakes.given(tool, "stdin", run), PROMPT, "{tool} {given}");
            let argv = fakes.given(tool, "argv", run);
            assert!(argv.contains("some-model") && !argv.contains("second line"), "{tool} {given}: {argv}");
            assert_eq!(argv.contains("--message-file\n/dev/stdin\n"), tool == "aider", "{argv}");
            assert!(!fakes.given(tool, "environ", run).contains("second line"), "{tool} {given}");
            assert!(!fakes.path("repo/pwned").exists() && !fakes.path("pwned").exists());
            assert_eq!(fakes.state_files("prompts"), [""; 0], "{tool} {given}");
        }
    }
}

#[test]
fn aider_is_told_the_files_of_the_scope_one_by_one() {
    let fakes = Fakes::new();
    fakes.play("aider", &fakes.replay(&case("aider", "success"), EDIT));
    fakes.write("repo/y z.py", "");
    let scope = json!({"files_scope": ["calc.py", "y*.py", "new.py"]});
    ends(&fakes.run(&Fakes::job("a", "aider", &scope)), 0);
    let argv = fakes.given("aider", "argv", 1);
    let files: Vec<&str> = argv.split("--file\n").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    assert_eq!(files.len(), 3, "{argv}");
    assert!(files.iter().all(|file| ["calc.py", "y z.py", "new.py"].contains(file)), "{files:?}");
}

#[test]
fn a_prompt_file_that_the_engine_writes_is_ours_alone_and_named_after_job_and_attempt() {
    let project = Project::new();
    script(&project, "bin/own", r#"cat "$1" > message; echo "$1" > named"#);
    let own = json!({"id": "own", "executable": "own", "args": ["{prompt_file}"], "needs_prompt": true});
    manifest(&project, "own", &own);
    for (attempt, prompt) in [(1, PROMPT), (2, "another")] {
        // A second execution is another attempt with a prompt of its own.
        ends(&run(&project, &json!({"job_id": "a", "tool": "own", "metadata": {"prompt": prompt}})), 0);
        let file = project.root(&format!("state/prompts/a.{attempt}.md"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), prompt);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&project, "named"), format!("{}\n", file.canonicalize().unwrap().display()));
        assert_eq!(read(&project, "message"), prompt);
    }
}

#[test]
fn an_agent_without_prompt_or_with_a_missing_file_is_not_started() {
    let fakes = Fakes::new();
    for (tool, _) in TOOLS {
        for (metadata, code) in
            [(json!({}), "prompt_missing"), (json!({"message_file": "absent.md"}), "path_missing")]
        {
            let mut document = Fakes::job("a", tool, &metadata);
            document["metadata"].as_object_mut().unwrap().remove("prompt");
            ends_as(&fakes.run(&document), 125, "not_started", code);
        }
        assert_eq!(fakes.runs(tool), 0);
    }
}

fn tests(metadata: &Value) -> Value {
    json!({"job_id": "t", "tool": "tests", "metadata": metadata})
}

#[test]
fn the_summary_of_a_test_run_is_the_verdict_and_not_the_exit_code_alone() {
    let project = Project::new();
    let passed = "printf '%s\\n' \"$@\" > argv; echo '===== 5 passed, 1 skipped in 0.12s ====='";
    script(&project, "bin/pytest", passed);
    let result = ends(&run(&project, &tests(&json!({"test_paths": ["a.py", "b.py"]}))), 0);
    let metadata = &result["metadata"];
    assert_eq!(
        (&metadata["total"], &metadata["passed"], &metadata["skipped"]),
        (&json!(6), &json!(5), &json!(1))
    );
    assert_eq!(read(&project, "argv"), "a.py\nb.py\n");
    for (text, code) in [
        ("exit 0", "no_test_summary"),
        ("echo '== no tests ran in 0.01s =='; exit 5", "no_tests_run"),
        ("echo '== 3 skipped in 0.01s =='", "no_tests_run"),
        ("echo 'FAILED a.py::test_x - boom'; echo '== 1 failed, 4 passed in 0.1s =='", "tests_failed"),
    ] {
        script(&project, "bin/pytest", text);
        let said = run(&project, &tests(&json!({})));
        assert_ne!(said.code, 0, "{text}");
        assert_eq!(said.json()["reason"]["code"], code, "{text}");
    }
    let report = &project.record("t")["error_report"];
    assert_eq!(report["test_results"]["failed_tests"], json!(["a.py::test_x"]));
    assert_eq!(report["test_results"]["failed"], 1);
}

const PASSED: &str = "<testsuites><testsuite><testcase classname='a' name='x'/></testsuite></testsuites>";

#[test]
fn a_stale_test_report_is_no_evidence() {
    let project = Project::new();
    let metadata = json!({"junit_file": "report.xml"});
    std::fs::write(project.path("report.xml"), PASSED).unwrap();
    // Its words say success too.
    script(&project, "bin/pytest", "echo '== 1 passed in 0.12s =='");
    let result = ends(&run(&project, &tests(&metadata)), 1);
    assert_eq!((&result["exit_code"], &result["reason"]["code"]), (&json!(0), &json!("test_report_missing")));
    script(&project, "bin/pytest", &format!("[ \"$1\" = --junit-xml ] && echo \"{PASSED}\" > \"$2\""));
    let result = ends(&run(&project, &tests(&metadata)), 0);
    assert_eq!((&result["metadata"]["total"], &result["metadata"]["passed"]), (&json!(1), &json!(1)));
    // And a third time it is stale again.
    script(&project, "bin/pytest", "exit 0");
    ends(&run(&project, &tests(&metadata)), 1);
}

#[test]
fn reports_named_by_a_glob_are_one_run_and_those_of_a_former_attempt_are_warned_of() {
    let project = Project::new();
    let document = tests(&json!({"junit_file": "out/**/*.xml"}));
    let report = |name: &str| format!("mkdir -p out/a; echo \"{PASSED}\" > out/a/{name}.xml\n");
    script(&project, "bin/pytest", &format!("{}{}", report("one"), report("two")));
    let mut list = document.clone();
    list["command"] = json!({"exe": "pytest"});
    let result = ends(&run(&project, &list), 0);
    assert_eq!((&result["metadata"]["total"], &result["metadata"]["warnings"]), (&json!(2), &Value::Null));
    script(&project, "bin/pytest", &report("three"));
    let result = ends(&run(&project, &list), 0);
    assert_eq!(result["metadata"]["total"], 1);
    let warning = result["metadata"]["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("2 of 3 files of `junit_file` were not written by this attempt"),
        "{warning}"
    );
    script(&project, "bin/pytest", "exit 0");
    let reason = &ends(&run(&project, &list), 1)["reason"];
    assert_eq!(reason["code"], "test_report_missing");
    assert!(
        reason["message"].as_str().unwrap().ends_with("all 3 files are older than this attempt"),
        "{reason}"
    );
}

#[test]
fn a_manifest_that_cannot_be_used_stops_its_own_jobs_only_and_says_why() {
    let project = Project::new();
    std::fs::create_dir_all(project.root("adapters/dir.json")).unwrap();
    for (id, text) in [
        ("torn", r#"{"id": "torn", "exe"#),
        ("typo", r#"{"id": "typo", "executabel": "true"}"#),
        ("good", "\u{feff}{\"id\": \"good\", \"executable\": \"true\"}"),
    ] {
        std::fs::write(project.root(&format!("adapters/{id}.json")), text).unwrap();
    }
    for (id, why) in [("torn", "EOF while parsing"), ("typo", "executabel"), ("dir", "not a regular file")] {
        let reason = &ends(&run(&project, &json!({"job_id": id, "tool": id})), 125)["reason"];
        let message = reason["message"].as_str().unwrap();
        assert!(message.contains(&format!("{id}.json")) && message.contains(why), "{reason}");
    }
    ends(&run(&project, &json!({"job_id": "good", "tool": "good"})), 0);
}

#[test]
fn a_test_report_outweighs_the_exit_code_and_shows_no_secret() {
    let project = Project::new();
    let failed = "<testsuite><testcase name='t[sk-secret-1]'><failure message='x'/></testcase></testsuite>";
    script(&project, "bin/pytest", &format!("echo \"{failed}\" > report.xml"));
    let mut document = tests(&json!({"junit_file": "report.xml"}));
    document["env"] = json!({"SOME_TOKEN": "sk-secret-1"});
    let said = run(&project, &document);
    let result = ends(&said, 1);
    assert_eq!(result["reason"]["code"], "tests_failed");
    assert_eq!(result["metadata"]["failed_tests"], json!(["t[[redacted]]"]));
    let record = std::fs::read_to_string(project.root("state/jobs/t.jsonl")).unwrap();
    let report = std::fs::read_to_string(result["error_report_path"].as_str().unwrap()).unwrap();
    assert!(record.contains("[redacted]") && report.contains("[redacted]"));
    assert!(!format!("{record}{report}{}{}", said.out, said.err).contains("sk-secret-1"));
}

#[test]
fn a_message_that_quotes_a_report_is_cut_after_its_secrets_are_gone() {
    let project = Project::new();
    let value = "sk-secret-1 ".repeat(25_000);
    let odd = format!("<testsuite name='{value}' tests='{value}'><testcase name='a'/></testsuite>");
    std::fs::write(project.path("odd.xml"), odd).unwrap();
    script(&project, "bin/pytest", "cp odd.xml report.xml");
    let mut document = tests(&json!({"junit_file": "report.xml"}));
    document["env"] = json!({"SOME_TOKEN": "sk-secret-1"});
    let reason = &ends(&run(&project, &document), 1)["reason"];
    assert_eq!(reason["code"], "test_counts_disagree");
    let message = reason["message"].as_str().unwrap();
    assert!(
        message.contains("the test suite `[redacted]") && message.ends_with("which is not a count"),
        "{message}"
    );
    assert!(message.len() < 5000 && !message.contains("sk-"), "{} bytes: {message}", message.len());
}

#[test]
fn a_real_pytest_run_is_counted_and_its_failures_are_named() {
    let project = Project::new();
    let mut version = std::process::Command::new("python3");
    let is_there =
        version.args(["-m", "pytest", "--version"]).output().is_ok_and(|said| said.status.success());
    if !is_there {
        return crate::support::not_run("there is no pytest");
    }
    let suite = "def test_one():\n    assert True\n\ndef test_two():\n    assert 1 == 2\n";
    std::fs::write(project.path("test_it.py"), suite).unwrap();
    let run = |id: &str, args: &[&str]| {
        let args: Vec<&str> =
            ["-m", "pytest", "-p", "no:cacheprovider"].iter().chain(args).copied().collect();
        project.run(&json!({"job_id": id, "tool": "tests", "command": {"exe": "python3", "args": args}}))
    };
    let failed = run("failed", &["-q"]);
    assert_eq!(failed.code, 1);
    let result = failed.json();
    assert_eq!((&result["metadata"]["passed"], &result["metadata"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(project.record("failed")["error_report"]["details"], json!(["test_it.py::test_two"]));
    run("passed", &["-k", "one"]).exits(0);
    let none = run("none", &["-k", "no_such_test"]);
    assert_eq!((none.code, &none.json()["reason"]["code"]), (5, &json!("no_tests_run")));
}

#[test]
fn a_tool_that_is_asked_for_its_version_does_not_outlive_the_engine_that_is_interrupted() {
    let project = Project::new();
    let (tool, pids) = (project.path("slow"), project.path("pids"));
    // A wrapper with a child of its own, as many tools are.
    let script = format!(
        "#!/bin/sh\nsleep 1000 &\necho $$ $! > '{0}.new'\nmv '{0}.new' '{0}'\nwait\n",
        pids.display()
    );
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let adapter = json!({"id": "slow", "executable": tool});
    std::fs::write(project.root("adapters/slow.json"), adapter.to_string()).unwrap();
    let engine = project.start(&["adapters", "--detect"], &[]);
    eventually("the tool is asked", || pids.exists());
    engine.signal(rustix::process::Signal::INT);
    let said = engine.wait();
    assert!(said.code != 0, "{}", said.out);
    let pids = std::fs::read_to_string(pids).unwrap();
    let is_alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let alive: Vec<&str> = pids.split_whitespace().filter(|pid| is_alive(pid)).collect();
    assert!(pids.split_whitespace().count() == 2 && alive.is_empty(), "{alive:?}");
}
