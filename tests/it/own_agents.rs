//! An adapter of one's own whose limits do nothing: with the reader `agent` they do, with any other that is said.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::fake_agent::WAIT;
use crate::support::{Project, Said};

/// A project that is a git repository, with the example of the documentation as its adapter.
fn project() -> Project {
    let project = Project::new();
    let mut git = std::process::Command::new("git");
    git.args(["init", "-q", "-b", "main"]).current_dir(project.dir());
    assert!(git.status().unwrap().success());
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own-agent");
    std::fs::copy(examples.join("my-agent.json"), project.root("adapters/my-agent.json")).unwrap();
    std::fs::create_dir(project.path("bin")).unwrap();
    std::fs::copy(examples.join("my-agent"), project.path("bin/my-agent")).unwrap();
    project
}

/// In place of the example: a script that does what a test wants.
fn plays(project: &Project, script: &str) {
    let path = project.path("bin/my-agent");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn engine(project: &Project, args: &[&str]) -> Said {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", project.path("bin").display());
    project.engine_with(args, &[("PATH", &path)])
}

fn job(id: &str, metadata: &Value) -> Value {
    let mut job = json!({"job_id": id, "tool": "my-agent", "metadata": {"prompt": "the task"}});
    for (key, value) in metadata.as_object().unwrap() {
        job["metadata"][key] = value.clone();
    }
    job
}

fn run(project: &Project, id: &str, metadata: &Value) -> Said {
    let name = project.job(&job(id, metadata));
    engine(project, &["run-job", "--json", "--job-file", &name])
}

#[track_caller]
fn code_of(said: &Said) -> String {
    let result = said.json();
    result["reason"]["code"].as_str().unwrap_or_else(|| panic!("{result:#}\n{}", said.err)).to_owned()
}

#[test]
fn the_example_of_the_documentation_runs_and_is_counted() {
    let project = project();
    let said =
        run(&project, "note", &json!({"model": "m-7", "files_scope": ["NOTES.md"], "max_cost_usd": 1}));
    let result = said.json();
    assert_eq!((said.code, &result["success"]), (0, &json!(true)), "{result:#}");
    assert_eq!(std::fs::read_to_string(project.path("NOTES.md")).unwrap(), "the task\n");
    let metadata = &result["metadata"];
    assert_eq!((&metadata["model"], &metadata["cost_usd"]), (&json!("m-7"), &json!(0.012)), "{metadata:#}");
    assert_eq!(metadata["tokens"]["input_tokens"], 1200);
    assert_eq!(metadata["evidence"]["files_total"], 1);
    assert!(metadata["session_id"].as_str().unwrap().starts_with("s-"));
    assert_eq!(metadata["warnings"], Value::Null);
    assert!(!said.err.contains("warning"), "{}", said.err);
    let ledger = std::fs::read_to_string(project.root("state/usage.jsonl")).unwrap();
    assert!(ledger.contains("\"cost_usd\":0.012") && ledger.contains("my-agent"), "{ledger}");
}

#[test]
fn an_own_agent_is_judged_by_its_exit_code_the_work_tree_and_its_scope() {
    let project = project();
    plays(&project, "cat > /dev/null; exit 0");
    assert_eq!(code_of(&run(&project, "idle", &json!({}))), "no_change");
    assert_eq!(run(&project, "review", &json!({"allow_no_change": true})).code, 0);
    plays(&project, "cat > /dev/null; echo x >> changed; exit 4");
    let failed = run(&project, "fails", &json!({}));
    assert_eq!((failed.code, code_of(&failed).as_str()), (4, "failed"));
    plays(&project, "cat > /dev/null; echo x >> elsewhere");
    let outside = run(&project, "outside", &json!({"files_scope": ["NOTES.md"]}));
    assert_eq!((outside.code, code_of(&outside).as_str()), (1, "scope_violation"));
    let mut manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(project.root("adapters/my-agent.json")).unwrap())
            .unwrap();
    manifest["success_exit_codes"] = json!([0, 4]);
    std::fs::write(project.root("adapters/my-agent.json"), manifest.to_string()).unwrap();
    plays(&project, "cat > /dev/null; echo y >> changed; exit 4");
    assert_eq!(run(&project, "four", &json!({})).json()["success"], true);
}

#[test]
fn an_own_agent_that_spends_more_than_it_may_is_ended() {
    let project = project();
    let spends = r#"echo '{"engine_usage": {"cost_usd": 0.5}}'; echo x >> changed; echo '{"engine_usage": {"cost_usd": 2.5}}'"#;
    plays(&project, &format!("cat > /dev/null\n{spends}\n{WAIT}"));
    let said = run(&project, "dear", &json!({"max_cost_usd": 2}));
    assert_eq!(code_of(&said), "budget_exceeded");
    assert_eq!(said.json()["metadata"]["cost_usd"], 2.5);
}

#[test]
fn an_own_agent_whose_service_is_busy_waits_and_goes_on_with_its_session() {
    let project = project();
    plays(
        &project,
        r#"cat > stdin.1; echo "$*" >> args; echo '{"engine_usage": {"session_id": "s-1"}}'; exit 75"#,
    );
    let said = run(&project, "busy", &json!({"model": "m"}));
    assert_eq!(said.code, 75, "{}", said.out);
    let record = project.record("busy");
    assert_eq!((&record["status"], &record["attempts"][0]["outcome"]), (&json!("queued"), &json!("parked")));
    let args = || std::fs::read_to_string(project.path("args")).unwrap();
    assert_eq!(args(), "--model m\n");
    // The time has come.
    let file = project.root("state/jobs/busy.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let until = record["not_before"].as_str().unwrap();
    std::fs::write(&file, text.replace(until, "2020-01-01T00:00:00.000Z")).unwrap();
    plays(&project, r#"cat > stdin.2; echo "$*" >> args"#);
    engine(&project, &["run-job", "--claim", "busy"]).exits(0);
    assert_eq!(args(), "--model m\n--model m --resume s-1\n");
    let told = std::fs::read_to_string(project.path("stdin.2")).unwrap();
    assert!(told.starts_with("You were interrupted"), "{told}");
}

const PLAIN: &str = r#"{"id": "plain", "executable": "true", "args": [["--model", "{model}"]]}"#;

#[test]
fn a_key_that_the_adapter_does_not_honor_is_named_everywhere_and_changes_no_status() {
    let project = project();
    std::fs::write(project.root("adapters/plain.json"), PLAIN).unwrap();
    let job = json!({"job_id": "j", "tool": "plain",
        "metadata": {"model": "m", "files_scope": ["a"], "max_cost_usd": 1, "mine": 2}});
    let name = project.job(&job);
    let warned = |text: &str| {
        for key in ["files_scope", "max_cost_usd"] {
            let what =
                format!("`{key}` has no effect: the adapter `plain` (reader `exit_code`) does not honor it");
            assert!(text.contains(&what), "{what} in {text}");
        }
        assert!(!text.contains("`model`") && !text.contains("`mine`"), "{text}");
    };
    let said = project.engine(&["validate", &name]);
    warned(&said.out);
    assert!(said.out.contains("j.json:1:") && said.out.ends_with("j.json: valid\n"), "{}", said.out);
    assert_eq!(said.code, 0);
    let said = project.engine(&["validate", "--json", &name]);
    assert_eq!(said.json()["warnings"][0]["pointer"], "/metadata/files_scope");
    let said = project.engine(&["run-job", "--job-file", &name]);
    warned(&said.err);
    assert_eq!(said.code, 0, "{}", said.err);
    warned(&project.record("j")["result"]["metadata"]["warnings"].to_string());
    warned(&project.engine(&["show", "j"]).exits(0));
    let quiet = project.engine(&["run-job", "-q", "--job-file", &name]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    let mut other = job;
    other["job_id"] = "k".into();
    let name = project.job(&other);
    let said = project.engine(&["submit", &name]);
    warned(&said.err);
    said.exits(0);
}

#[test]
fn an_agent_whose_work_tree_cannot_be_locked_for_want_of_descriptors_is_not_started() {
    use std::os::unix::process::CommandExt;
    let project = project();
    let mut git = std::process::Command::new("git");
    assert!(git.args(["init", "-q", "inner"]).current_dir(project.dir()).status().unwrap().success());
    // Another agent works in the tree around it, whose lock needs one descriptor more.
    let top = std::fs::File::open(project.dir()).unwrap();
    rustix::fs::flock(&top, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (mut short, mut busy) = (0, 0);
    for limit in 4..24u32 {
        let id = format!("a{limit}");
        let mut inner = job(&id, &json!({}));
        inner["paths"] = json!({"repo_root": "inner"});
        let name = project.job(&inner);
        engine(&project, &["submit", "-q", &name]).exits(0);
        let mut command = project.command(&["run-job", "--claim", &id]);
        command.env("PATH", format!("{}:/usr/bin:/bin", project.path("bin").display()));
        // SAFETY: sets a limit between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit.into(), rlim_max: limit.into() };
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                Ok(())
            });
        }
        let said = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
        busy += u32::from(said.contains("another agent works"));
        let record = project.record(&id);
        short += u32::from(record.to_string().contains("cannot be locked"));
        assert_eq!(record["status"], "queued", "{limit}: {said}");
        for attempt in record["attempts"].as_array().unwrap() {
            let how = (&attempt["outcome"], &attempt["reason"]["code"]);
            assert_eq!(how, (&json!("parked"), &json!("start_failed")), "{limit}: {said}");
        }
        assert!(!project.root(&format!("state/logs/{id}.1.log")).exists(), "{limit}: {said}");
    }
    assert!(short > 0 && busy > 0, "{short} {busy}");
}

#[test]
fn a_worker_parks_an_agent_s_job_whose_work_trees_cannot_all_be_locked_and_goes_on() {
    let project = project();
    plays(&project, "touch ran");
    // Each of the trees around the innermost one needs a descriptor, more than there are.
    let inner = (0..60).map(|depth| depth.to_string()).collect::<Vec<_>>().join("/");
    for dir in project.path(&inner).ancestors().take_while(|dir| *dir != project.dir()) {
        std::fs::create_dir_all(dir.join(".git")).unwrap();
    }
    let mut deep = job("deep", &json!({}));
    deep["paths"] = json!({"repo_root": inner});
    let plain = json!({"job_id": "plain", "tool": "shell", "command": {"exe": "true"}});
    for job in [deep, plain] {
        let name = project.job(&job);
        engine(&project, &["submit", "-q", &name]).exits(0);
    }
    let drain = format!("ulimit -n 50; exec '{}' work --drain", env!("CARGO_BIN_EXE_engine"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &drain]).current_dir(project.dir());
    shell.env("PATH", format!("{}:/usr/bin:/bin", project.path("bin").display()));
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("deep waits until "), "{said}");
    assert!(!said.contains("another agent works"), "{said}");
    let last = &project.record("deep")["attempts"][0];
    assert_eq!((&last["outcome"], &last["reason"]["code"]), (&json!("parked"), &json!("start_failed")));
    assert!(last["reason"]["message"].as_str().unwrap().contains("cannot be locked"), "{last}");
    assert_eq!(
        (project.places("plain"), project.places("deep")),
        (vec!["done".into()], vec!["queued".into()])
    );
    assert!(!project.path(&inner).join("ran").exists());
}

#[test]
fn a_tree_that_ignores_the_agent_s_own_is_not_locked_also_without_a_home() {
    let project = project();
    plays(&project, "touch ran");
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        assert!(git.args(args).current_dir(project.dir()).status().unwrap().success());
    };
    git(&["init", "-q", "inner"]);
    std::fs::write(project.path(".gitignore"), "inner/\n").unwrap();
    // Without a home directory git refuses to read that.
    git(&["config", "core.attributesFile", "~/attributes"]);
    git(&["config", "core.excludesFile", "~/excludes"]);
    let top = std::fs::File::open(project.dir()).unwrap();
    rustix::fs::flock(&top, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut inner = job("inner", &json!({}));
    inner["paths"] = json!({"repo_root": "inner"});
    let name = project.job(&inner);
    let mut command = project.command(&["run-job", "--job-file", &name]);
    command.env_remove("HOME");
    command.env("PATH", format!("{}:/usr/bin:/bin", project.path("bin").display()));
    let said = Said::of(&command.output().unwrap());
    assert!(!said.err.contains("another agent works"), "{}", said.err);
    assert!(project.path("inner/ran").exists(), "{}", said.err);
}
