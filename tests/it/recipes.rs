//! The recipes of the docs, run as they stand there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Project, eventually};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes").join(name)
}

/// A program with `engine` in its PATH, in the project.
fn command(project: &Project, program: &Path, args: &[&str]) -> std::process::Command {
    let built = Path::new(env!("CARGO_BIN_EXE_engine")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir(project.dir()).env_clear().env("PATH", path).env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(project: &Project, program: &Path, args: &[&str]) -> (i32, String, String) {
    let output = command(project, program, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn jobs(project: &Project, scripts: &[(&str, &str)]) {
    let lines: Vec<String> = scripts
        .iter()
        .map(|(id, script)| {
            json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}})
                .to_string()
        })
        .collect();
    std::fs::write(project.path("jobs.jsonl"), lines.join("\n") + "\n").unwrap();
}

#[test]
fn the_pipeline_runs_a_batch_and_says_whether_all_of_it_succeeded() {
    let project = Project::new();
    jobs(&project, &[("a", "echo a >> ran"), ("b", "echo b >> ran")]);
    let (code, _, err) = run(&project, &recipe("pipeline.sh"), &["jobs.jsonl"]);
    assert_eq!(code, 0, "{err}");
    // Again: nothing is submitted twice, nothing runs twice.
    let (code, _, err) = run(&project, &recipe("pipeline.sh"), &["jobs.jsonl"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::read_to_string(project.path("ran")).unwrap().lines().count(), 2);
    jobs(&project, &[("c", "exit 3"), ("d", "echo d >> ran")]);
    let (code, _, err) = run(&project, &recipe("pipeline.sh"), &["jobs.jsonl"]);
    assert_eq!(code, 1, "the status of `engine wait`: {err}");
    assert_eq!(project.places("d"), ["done"]);
    jobs(&project, &[("c", "exit 4")]);
    let (code, _, err) = run(&project, &recipe("pipeline.sh"), &["jobs.jsonl"]);
    assert_eq!(code, 1, "what was changed under a known id is refused: {err}");
}

#[test]
fn the_report_of_a_night_is_made_when_everything_is_at_rest() {
    let project = Project::new();
    let on = |id: &str, on: &str| {
        json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}, "depends_on": [on]}).to_string()
    };
    jobs(&project, &[("a", "exit 3"), ("b", "true")]);
    let jobs = std::fs::read_to_string(project.path("jobs.jsonl")).unwrap();
    std::fs::write(project.path("jobs.jsonl"), format!("{jobs}{}\n{}\n", on("c", "a"), on("d", "b")))
        .unwrap();
    let (code, out, err) = run(&project, &recipe("nightly-report.sh"), &["jobs.jsonl"]);
    assert_eq!(code, 0, "{err}");
    let said: Vec<&str> = out.lines().map(|line| line.split("  (").next().unwrap()).collect();
    assert_eq!(said, ["a  quarantined", "b  succeeded", "c  queued", "d  succeeded"], "{out} {err}");
}

#[test]
fn an_interrupted_make_leaves_no_job_behind() {
    use std::os::unix::process::CommandExt;
    let project = Project::new();
    let makefile = recipe("Makefile.engine");
    let mut make = command(&project, Path::new("make"), &["-j8", "-f", makefile.to_str().unwrap()]);
    // As in a terminal: the whole group is interrupted.
    let make = make.process_group(0).spawn().unwrap();
    let queued = || std::fs::read_dir(project.root("jobs/queued")).map_or(0, Iterator::count);
    let is_verb = |pid: i32, verb: &[u8]| {
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text.split(|byte| *byte == 0).nth(1) == Some(verb)
    };
    eventually("the jobs of lint and docs are waited for", || {
        let of_project =
            |pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir == project.dir());
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids: Vec<i32> =
            all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_project).collect();
        let count = |verb: &[u8]| pids.iter().filter(|pid| is_verb(**pid, verb)).count();
        queued() == 2 && count(b"wait") == 2 && count(b"submit") == 0
    });
    rustix::process::kill_process_group(rustix::process::Pid::from_child(&make), Signal::INT).unwrap();
    let ended = make.wait_with_output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    eventually("nothing is left in the queue", || queued() == 0);
}

#[test]
fn make_targets_are_jobs_and_end_with_their_verdict() {
    let project = Project::new();
    let makefile = recipe("Makefile.engine");
    let mut worker = command(&project, Path::new("engine"), &["work", "--slots", "4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (code, out, err) = run(&project, Path::new("make"), &["-j8", "-f", makefile.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    let journal = project.journal();
    let succeeded = journal.iter().filter(|line| line["status"] == "succeeded").count();
    assert_eq!(succeeded, 3, "{journal:?}");
    let (code, ..) = run(
        &project,
        Path::new("make"),
        &["-f", makefile.to_str().unwrap(), "lint", "JOB=engine submit -- false; true"],
    );
    assert_ne!(code, 0, "a target whose job fails fails");
    rustix::process::kill_process(rustix::process::Pid::from_child(&worker), Signal::TERM).unwrap();
    worker.wait().unwrap();
}

#[test]
fn the_line_for_cron_is_silent_when_all_is_well_and_refuses_to_overlap() {
    let project = Project::new();
    let script = "touch started; until test -e go; do sleep 0.01; done; echo done";
    project.job(&json!({"job_id": "nightly", "tool": "shell", "on_failure": "done",
        "command": {"exe": "sh", "args": ["-c", script]}}));
    let line = std::fs::read_to_string(recipe("README.md")).unwrap();
    let line = line.lines().find(|line| line.contains("nightly.json") && line.contains("cd ")).unwrap();
    let line = line.split_once("&& ").unwrap().1.to_owned();
    let sh = Path::new("sh");
    let first = command(&project, sh, &["-c", &line]).spawn().unwrap();
    eventually("the first runs", || project.path("started").exists());
    let (code, _, err) = run(&project, sh, &["-c", &line]);
    assert_eq!(code, 125, "{err}");
    assert!(err.contains("is running"), "{err}");
    std::fs::write(project.path("go"), "").unwrap();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success() && first.stdout.is_empty() && first.stderr.is_empty(), "{first:?}");
    // The next night.
    let (code, out, err) = run(&project, sh, &["-c", &line]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    assert_eq!(project.record("nightly")["life"], 2);
}

#[test]
fn the_systemd_unit_starts_a_worker_that_one_term_ends() {
    let project = Project::new();
    let unit = std::fs::read_to_string(recipe("engine-worker.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = start.split(' ');
    let program = Path::new(words.next().unwrap()).file_name().unwrap();
    let args: Vec<&str> = words.collect();
    let worker = command(&project, Path::new(program), &args).spawn().unwrap();
    project.job(&json!({"job_id": "a", "tool": "shell", "command": {"exe": "true"}}));
    project.engine(&["submit", "a.json"]).exits(0);
    eventually("the job ran", || project.places("a") == ["done"]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&worker), Signal::TERM).unwrap();
    let ended = worker.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn the_pollers_show_every_job_from_the_files_alone() {
    let project = Project::new();
    for id in ["a", "b"] {
        project.run(&json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}})).exits(0);
    }
    let root = project.root("");
    let torn = project.root("state/jobs/b.jsonl");
    let text = std::fs::read_to_string(&torn).unwrap();
    std::fs::write(&torn, text + "{\"schema_version\":1,\"seq\":9,\"at\":\"torn").unwrap();
    for (poller, args) in
        [("poller.py", vec![root.to_str().unwrap(), "--once"]), ("poller.sh", vec![root.to_str().unwrap()])]
    {
        let (code, out, err) = run(&project, &recipe(poller), &args);
        assert_eq!(code, 0, "{poller}: {err}");
        for id in ["a", "b"] {
            assert!(out.contains(&format!("{id} succeeded")), "{poller}: {out}");
        }
        assert!(!out.contains("torn"), "{poller}: {out}");
    }
}

#[test]
fn the_python_poller_goes_on_after_gc_and_over_lines_that_are_no_events() {
    let project = Project::new();
    for id in ["a", "b"] {
        project.run(&json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}})).exits(0);
    }
    let journal = project.root("state/events.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text + "{\"at\": 1, }\n[1]\n{}\n").unwrap();
    project.engine(&["gc", "--keep-count", "1"]).exits(0);
    let root = project.root("");
    let (code, out, err) = run(&project, &recipe("poller.py"), &[root.to_str().unwrap(), "--once"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("a retired to archive/20") && out.contains("now: not there"), "{out}");
    assert!(out.contains("b succeeded succeeded now: succeeded"), "{out}");
}

/// A repository with a run that was only submitted: `false` as its check fails, `true` passes.
fn submitted_run(project: &Project, run: &str, check: &str) {
    let adapter = json!({"id": "editor", "executable": "/bin/sh", "needs_prompt": true, "stdin": "prompt",
        "args": ["-c", "cat > /dev/null; echo changed >> a.txt"]});
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root("adapters/editor.json"), adapter.to_string()).unwrap();
    std::fs::write(project.root("engine.toml"), "[workstreams]\nworktrees = \".trees\"\n").unwrap();
    if !project.path(".git").exists() {
        std::fs::write(project.path("a.txt"), "").unwrap();
        let commands = "git init -q . && git add a.txt && git -c user.name=a -c user.email=a commit -q -m a";
        let (code, _, err) = run_line(project, commands);
        assert_eq!(code, 0, "{err}");
    }
    let line =
        format!("engine run --run {run} --detach --task edit --files a.txt --tool editor --test {check}");
    let (code, out, err) = run_line(project, &line);
    assert_eq!((code, out.trim()), (0, run), "{err}");
}

fn run_line(project: &Project, line: &str) -> (i32, String, String) {
    run(project, Path::new("sh"), &["-c", line])
}

#[test]
fn the_line_for_a_run_that_waits_goes_on_with_it_and_requeues_nothing() {
    let project = Project::new();
    let line = std::fs::read_to_string(recipe("README.md")).unwrap();
    let line = line.lines().find(|line| line.contains("--run nightly")).unwrap();
    let line = line.split_once("&& ").unwrap().1.to_owned();
    submitted_run(&project, "nightly", "true");
    assert_eq!(run_line(&project, &line), (0, String::new(), String::new()));
    assert_eq!(project.record("nightly.ws-task")["status"], "succeeded");
    submitted_run(&project, "red", "false");
    let line = line.replace("nightly", "red");
    let (code, out, err) = run_line(&project, &line);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    let ended = project.record("red.ws-task");
    assert_eq!(ended["status"], "failed");
    // The next time there is nothing to do, and cron has nothing to send.
    assert_eq!(run_line(&project, &line), (0, String::new(), String::new()));
    assert_eq!(project.record("red.ws-task")["seq"], ended["seq"]);
}

#[test]
fn the_poller_of_a_run_shows_each_step_and_ends_with_the_run() {
    let project = Project::new();
    submitted_run(&project, "nightly", "true");
    let root = project.root("");
    let poller = recipe("run_poller.py");
    let args = [root.to_str().unwrap(), "nightly"];
    let (code, out, err) = run(&project, &poller, &[args[0], args[1], "--once"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nightly pending"), "{out}");
    let waiting = command(&project, &poller, &args).spawn().unwrap();
    let (code, _, err) = run_line(&project, "engine -q work --run nightly --drain");
    assert_eq!(code, 0, "{err}");
    let ended = waiting.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&ended.stdout);
    for line in
        ["nightly.ws-task.01-edit succeeded", "nightly.ws-task.02-runtime succeeded", "nightly succeeded"]
    {
        assert!(out.contains(line), "{line}: {out}{}", String::from_utf8_lossy(&ended.stderr));
    }
}
