//! `init`, `run-job`, `new`, `validate`, `schema`, `completions`, `adapters`.

use serde_json::json;

use super::{Session, executable, shell, with};
use crate::support::Project;

#[test]
fn init() {
    let project = Project::without_root();
    let mut session = Session::new(&project);
    for line in ["init", "init", "init deep/er", "-q init quiet", "init --adopt", "init --shared-read"] {
        session.engine(line);
    }
    session.file("file", "no directory");
    session.engine("init file/below");
    session.engine("init --adopt nowhere");
    let other = project.copy_not_accepted();
    session.matches("init");
    let mut session = Session::new(&other);
    session.note("a copy of that directory");
    for line in ["init", "status", "init --adopt", "init --adopt"] {
        session.engine(line);
    }
    session.matches("init-copy");
}

#[test]
fn run_job() {
    let project = Project::without_root();
    let mut session = Session::new(&project);
    session.jobs(&[
        shell("good", "echo out; echo err >&2"),
        with(shell("bad", "echo out; echo err >&2; exit 3"), &json!({"run_id": "nightly"})),
        with(shell("bad-but-done", "exit 3"), &json!({"on_failure": "done"})),
    ]);
    for line in ["run-job --job-file good.json", "run-job --job-file good.json --json"] {
        session.engine(line);
    }
    for line in ["", " --json", " --output failure", " --output never", " -q", " --json --output always"] {
        session.engine(&format!("run-job --job-file bad.json{line}"));
    }
    session.engine("run-job --job-file bad-but-done.json");
    session.engine("run-job -- sh -c 'echo from a command line'");
    session.engine("run-job --json -- true");
    session.engine_reads("run-job --job-file -", &shell("from-stdin", "echo hello").to_string());
    session.matches("run-job");
}

#[test]
fn run_job_cannot() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[
        shell("queued", "true"),
        with(shell("patient", "true"), &json!({"not_before": "2999-01-01T00:00:00Z"})),
        json!({"job_id": "wrong", "tool": "shell", "comand": {"exe": "true"}, "priority": "urgent", "locks": ["a:0"]}),
    ]);
    session.file("torn.json", "{\"job_id\": \"torn\",\n  \"tool\": ");
    session.engine_all(&[
        "run-job --job-file nowhere.json",
        "run-job --job-file torn.json",
        "run-job --job-file wrong.json",
        "run-job --job-file wrong.json --json",
        "run-job --job-file .",
        "run-job --claim unknown",
        "run-job --claim unknown --json",
        "run-job --claim 'no id'",
        "run-job --claim 'no id' --json",
        "run-job -- no-such-program-anywhere",
        "run-job --output sometimes --job-file queued.json",
        "submit queued.json",
        "run-job --claim queued",
        "run-job --claim queued",
        "run-job --job-file patient.json",
        "run-job --job-file patient.json --json",
        "run-job --job-file patient.json --park",
        "run-job --job-file patient.json",
        "run-job --job-file patient.json --park --json",
        "--root nowhere run-job --job-file queued.json",
    ]);
    session.matches("run-job-cannot");
}

#[test]
fn new() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.engine_all(&[
        "new shell -- make test",
        "new shell --id a -- make test",
        "new shell --id a -- make test",
        "new shell",
        "new shel -- true",
        "new shell --id 'no id' -- true",
        "new tests --file sub/t.json -- pytest",
    ]);
    for tool in ["shell", "git", "python", "plugin", "tests", "claude"] {
        session.engine(&format!("new {tool} --id b --file - -- an argument"));
    }
    session.matches("new");
}

#[test]
fn validate() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[
        shell("good", "true"),
        with(shell("warned", "true"), &json!({"key": "k", "metadata": {"timout_seconds": 3}})),
    ]);
    session.file(
        "bad.json",
        "{\n  \"job_id\": \"a b\",\n  \"tool\": 3,\n  \"comand\": {\"exe\": \"true\"},\n  \"depends_on\": \"x\",\n  \
         \"metadata\": {\"timeout_seconds\": -1, \"retry_policy\": \"retry_some\"},\n  \"metadata\": {}\n}\n",
    );
    session.file("torn.json", "{\"job_id\": \n");
    session
        .file("batch.json", "{\"job_id\":\"x\",\"tool\":\"shell\"}\n{\"job_id\":\"x\",\"tool\":\"git\"}\n");
    session.engine_all(&[
        "validate good.json warned.json",
        "validate bad.json",
        "validate good.json bad.json torn.json nowhere.json --json",
        "validate batch.json",
        "validate nowhere.json",
        "validate",
    ]);
    session.engine_reads("validate -", "[]");
    session
        .engine_reads("validate -", "[{\"job_id\":\"a\",\"tool\":\"shell\",\"command\":{\"exe\":\"true\"}}]");
    session.matches("validate");
}

#[test]
fn schema_and_completions() {
    let project = Project::without_root();
    let mut session = Session::new(&project);
    for schema in engine::cli::SCHEMAS {
        session.first_lines(4, &format!("schema {}", schema.name));
    }
    session.engine("schema jbo");
    session.engine("schema");
    for shell in ["bash", "zsh", "fish"] {
        session.first_lines(3, &format!("completions {shell}"));
    }
    session.engine("completions csh");
    session.matches("schema-completions");
}

#[test]
fn adapters() {
    let project = Project::new();
    let bin = project.path("bin");
    executable(&bin.join("git"), "#!/bin/sh\necho git version 2.47.3\n");
    executable(&bin.join("claude"), "#!/bin/sh\necho '2.1.197 (Claude Code)'\n");
    executable(&bin.join("mine"), "#!/bin/sh\necho mine 1.2.3\n");
    let path = bin.display().to_string();
    let mut session = Session::with(&project, &[("PATH", path.as_str())]);
    session.note("git and claude are installed");
    session.engine("adapters");
    session.engine("adapters --json");
    let manifest = json!({
        "schema_version": 1, "id": "mine", "summary": "of this root", "executable": "mine", "capabilities": [],
        "detect": {"args": ["--version"]}, "reader": "exit_code",
    });
    session.file(".engine/adapters/mine.json", &manifest.to_string());
    session.file(".engine/adapters/torn.json", "{");
    session.engine("adapters");
    session.engine("adapters --detect");
    session.engine("--root nowhere adapters");
    session.matches("adapters");
}
