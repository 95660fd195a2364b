//! Each reason of the engine's own, with its hints, as the run, `show` and `explain` tell it. `codes` sees that none is missing.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Session, executable, shell, with};
use crate::support::{Project, eventually};

/// Runs a job and tells what became of it.
fn outcome(session: &mut Session<'_>, document: &Value) {
    session.job(document);
    let id = document["job_id"].as_str().unwrap();
    for line in [format!("run-job --job-file {id}.json"), format!("show {id}"), format!("explain {id}")] {
        session.engine(&line);
    }
}

fn tool(id: &str, tool: &str, metadata: &Value) -> Value {
    json!({"job_id": id, "tool": tool, "metadata": metadata})
}

/// Puts a file into the queue as a person does, minutes ago, and says so.
fn by_hand(session: &mut Session<'_>, name: &str, text: &str, minutes: u64) {
    session.note(&format!("minutes ago: {minutes}"));
    session.file(&format!(".engine/jobs/{name}"), text);
    let path = session.project.root(&format!("jobs/{name}"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(minutes * 60)).unwrap();
}

#[test]
fn of_a_job_that_cannot_start() {
    let project = Project::new();
    let mut session = Session::new(&project);
    std::fs::write(project.path("plain"), "no program").unwrap();
    executable(&project.path("lost-interpreter"), "#!/no/such/interpreter\n");
    let paths = |id: &str, key: &str, value: &str| with(shell(id, "true"), &json!({"paths": {(key): value}}));
    let exe = |id: &str, exe: &str| json!({"job_id": id, "tool": "shell", "command": {"exe": exe}});
    let stdin = |id: &str, file: &str| with(shell(id, "true"), &json!({"stdin": {"file": file}}));
    for document in [
        tool("no-adapter", "nothing", &json!({})),
        json!({"job_id": "command-missing", "tool": "shell"}),
        exe("tool-not-found", "no-such-program-anywhere"),
        exe("line-not-found", "make test"),
        exe("tool-not-executable", "./plain"),
        exe("lost-interpreter", "./lost-interpreter"),
        with(shell("env-missing", "true"), &json!({"env": {"KEY": {"from_env": "NOT_SET"}}})),
        with(shell("env-invalid", "true"), &json!({"env": {"A": "a\u{0}b"}})),
        json!({"job_id": "argument-invalid", "tool": "shell", "command": {"exe": "true", "args": ["a\u{0}b"]}}),
        tool("argument-missing", "python", &json!({})),
        paths("path-missing", "working_dir", "nowhere"),
        paths("path-foreign", "repo_root", "C:/work"),
        paths("path-escapes", "log_file", "../outside.log"),
        paths("path-invalid", "working_dir", "a\u{0}b"),
        paths("log-not-writable", "log_file", "plain/log"),
        stdin("stdin-missing", "nowhere"),
        stdin("stdin-not-a-file", "."),
        json!({"job_id": "argument-too-long", "tool": "shell", "command": {"exe": "true", "args": ["x".repeat(200_000)]}}),
    ] {
        let too_long = document["job_id"] == "argument-too-long";
        if too_long {
            std::fs::write(project.path("argument-too-long.json"), document.to_string()).unwrap();
            session.note("argument-too-long.json: an argument of 200000 bytes");
            session.engine("run-job --job-file argument-too-long.json");
            session.engine("show argument-too-long");
        } else {
            outcome(&mut session, &document);
        }
    }
    session.file(".engine/adapters/torn.json", "{");
    outcome(&mut session, &tool("adapter-invalid", "torn", &json!({})));
    session.matches("reasons-not-started");
}

#[test]
fn of_a_job_that_ended_badly() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let metadata =
        |id: &str, script: &str, metadata: &Value| with(shell(id, script), &json!({"metadata": metadata}));
    for document in [
        shell("exit-code", "exit 3"),
        shell("signal", "kill -9 $$"),
        metadata("timed-out", "exec sleep 600", &json!({"timeout_seconds": 0.1})),
        metadata("stalled", "exec sleep 600", &json!({"idle_timeout_seconds": 0.1})),
        json!({"job_id": "answer-invalid", "tool": "plugin", "command": {"exe": "true"}}),
        json!({"job_id": "answer-no", "tool": "plugin",
            "command": {"exe": "echo", "args": ["{\"success\": false, \"message\": \"not today\"}"]}}),
    ] {
        outcome(&mut session, &document);
    }
    executable(&project.path("bin/git"), "#!/bin/sh\necho 'fatal: not today' >&2; exit 128\n");
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    session.env.push(("PATH".to_owned(), path));
    outcome(&mut session, &json!({"job_id": "git", "tool": "git", "command": {"args": ["status"]}}));
    session.matches("reasons-failed");
}

#[test]
fn of_a_command_of_git() {
    let project = Project::new();
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let mut session = Session::with(&project, &[("PATH", path.as_str())]);
    for (id, said) in [
        ("conflict", "CONFLICT (content): Merge conflict in a"),
        ("nothing", "nothing to commit, working tree clean"),
        ("index", "fatal: Unable to create 'index.lock': File exists."),
        ("ref", "error: cannot lock ref: Unable to create 'main.lock': File exists."),
        ("owner", "fatal: detected dubious ownership in repository"),
        ("login", "fatal: could not read Username: terminal prompts disabled"),
        ("rejected", " ! [rejected] main -> main (fetch first)"),
        ("author", "*** Please tell me who you are."),
        ("changes", "error: Your local changes to the following files would be overwritten by merge:"),
    ] {
        session.note(&format!("git: {said}"));
        executable(&project.path("bin/git"), &format!("#!/bin/sh\necho \"{said}\" >&2; exit 1\n"));
        session.job(&json!({"job_id": id, "tool": "git", "command": {"args": ["status"]}}));
        session.engine(&format!("run-job --job-file {id}.json"));
        session.engine(&format!("show {id}"));
    }
    session.matches("reasons-git");
}

#[test]
fn of_a_test_run() {
    let project = Project::new();
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let mut session = Session::with(&project, &[("PATH", path.as_str())]);
    let case =
        |body: &str| format!("<testsuite><testcase classname='a' name='x'>{body}</testcase></testsuite>");
    let plays = [
        ("no-summary", "exit 0".to_owned(), false),
        ("none-ran", "echo '== no tests ran in 0.01s =='; exit 5".to_owned(), false),
        (
            "some-failed",
            "echo 'FAILED a.py::test_x - boom'; echo '== 1 failed, 4 passed in 0.1s =='; exit 1".to_owned(),
            false,
        ),
        ("no-report", "echo '== 1 passed in 0.12s =='".to_owned(), true),
        ("report-torn", "echo '<testsuite' > report.xml".to_owned(), true),
        (
            "counts-disagree",
            format!("echo \"{}\" > report.xml", case("").replace("<testsuite>", "<testsuite tests='5'>")),
            true,
        ),
        (
            "status-unknown",
            format!("echo \"{}\" > report.xml", case("").replace("'x'", "'x' status='odd'")),
            true,
        ),
        (
            "interrupted",
            "echo '== 2 passed in 0.12s =='; echo '!!!!!!! KeyboardInterrupt !!!!!!!'; exit 2".to_owned(),
            false,
        ),
    ];
    for (id, play, with_report) in plays {
        session.note(&format!("pytest: {play}"));
        executable(&project.path("bin/pytest"), &format!("#!/bin/sh\n{play}\n"));
        let metadata = if with_report { json!({"junit_file": "report.xml"}) } else { json!({}) };
        outcome(&mut session, &tool(id, "tests", &metadata));
    }
    session.matches("reasons-tests");
}

#[test]
fn of_the_door() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let keyed = |id: &str, script: &str| with(shell(id, script), &json!({"key": "k"}));
    session.jobs(&[
        shell("queued", "true"),
        shell("ended", "true"),
        keyed("keyed", "true"),
        keyed("other", "false"),
    ]);
    session.engine("submit queued.json keyed.json");
    session.quietly("run-job --job-file ended.json", 0);
    for line in
        ["submit ended.json --json", "submit other.json --json", "run-job --job-file other.json --json"]
    {
        session.engine(line);
    }
    session.jobs(&[shell("queued", "false"), shell("ended", "false")]);
    session.job(&with(shell("loop", "true"), &json!({"depends_on": ["loop"]})));
    session.job(&with(shell("ring-1", "true"), &json!({"depends_on": ["ring-2"]})));
    session.job(&with(shell("ring-2", "true"), &json!({"depends_on": ["ring-1"]})));
    session.job(&with(shell("orphan", "true"), &json!({"depends_on": ["unknown"]})));
    session.job(&with(shell("follows", "true"), &json!({"depends_on": ["orphan"]})));
    session.engine_all(&[
        "run-job --job-file queued.json --json",
        "submit queued.json --json",
        "submit queued.json --skip-existing --json",
        "submit ended.json --skip-existing --json",
        "submit loop.json --json",
        "submit ring-1.json ring-2.json --json",
        "submit orphan.json follows.json --json",
        "requeue queued --json",
    ]);
    let shared = json!({"paths": {"log_file": "shared.log"}});
    let running = session.start("running", &shared);
    for line in
        ["run-job --job-file running.json --json", "submit running.json --json", "requeue running --json"]
    {
        session.engine(line);
    }
    session.job(&with(shell("shares", "true"), &shared));
    session.engine("run-job --job-file shares.json --json");
    session.quietly("cancel running", 0);
    let _ = running.wait();
    session.jobs(&[keyed("twin-1", "exit 1"), keyed("twin-2", "exit 1")]);
    session.engine("submit twin-1.json twin-2.json --keep-going --json");
    session.file("repeated.jsonl", &format!("{}\n{}\n", keyed("again", "true"), keyed("again", "false")));
    session.engine("submit repeated.jsonl --json");
    session.file("one-key.jsonl", &format!("{}\n{}\n", keyed("first", "true"), keyed("second", "false")));
    session.engine("submit one-key.jsonl --json");
    session.engine("run-job --claim unknown --json");
    by_hand(&mut session, "queued/queued.json", "{", 1);
    session.engine("submit queued.json --json");
    session.engine("submit queued.json --json --skip-existing");
    by_hand(&mut session, "queued/torn.json", "{", 1);
    symlink("elsewhere", project.root("jobs/running/linked.json")).unwrap();
    session.note("ln -s elsewhere .engine/jobs/running/linked.json");
    session.jobs(&[shell("torn", "true"), shell("linked", "true")]);
    for line in
        ["submit torn.json --json", "submit linked.json --json", "run-job --job-file linked.json --json"]
    {
        session.engine(line);
    }
    session.matches("reasons-door");
}

#[test]
fn of_a_part_of_another_job() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let part = with(shell("part", "true"), &json!({"parent": "whole"}));
    session.job(&part);
    session.engine_all(&["run-job --job-file part.json --json", "submit part.json --json"]);
    session.job(&shell("whole", "true"));
    session.quietly("run-job --job-file whole.json", 0);
    session.engine("run-job --job-file part.json");
    by_hand(&mut session, "queued/part.json", &part.to_string(), 1);
    session.engine_all(&[
        "run-job --claim part",
        "explain part",
        "explain part --json",
        "show part",
        "list --steps",
    ]);
    session.engine_all(&["cancel part", "requeue part", "explain part"]);
    session.matches("reasons-part");
}

#[test]
fn of_files_in_the_queue() {
    let project = Project::new();
    let mut session = Session::new(&project);
    by_hand(&mut session, "queued/torn.json", "{", 1);
    by_hand(&mut session, "queued/misnamed.json", &shell("another", "true").to_string(), 1);
    by_hand(
        &mut session,
        "queued/invalid.json",
        "{\"job_id\": \"invalid\", \"tool\": \"shell\", \"comand\": 1}",
        1,
    );
    by_hand(&mut session, "queued/copied.json", "{\"job_id\": ", 0);
    session.engine_all(&[
        "explain torn",
        "explain misnamed",
        "explain invalid",
        "explain torn --json",
        "explain invalid --json",
        "run-job --claim copied --json",
        "run-job --claim torn --json",
    ]);
    session.engine_all(&[
        "run-job --claim misnamed --json",
        "run-job --claim invalid --json",
        "list",
        "explain invalid",
        "show torn~1 --json",
    ]);
    session.job(&shell("edited", "exit 3"));
    session.quietly("run-job --job-file edited.json", 3);
    session.quietly("requeue edited", 0);
    by_hand(&mut session, "queued/edited.json", &shell("edited", "true").to_string(), 0);
    session.engine("explain edited");
    let retry = json!({"metadata": {"retry_policy": "retry_same", "backoff": {"strategy": "linear", "base_seconds": 600}}});
    session.job(&with(shell("gone", "exit 3"), &retry));
    session.engine("run-job --park --job-file gone.json");
    let path = project.root("state/jobs/gone.jsonl");
    let mut line = project.record("gone");
    line["at"] = json!("2998-01-01T00:00:00.000Z");
    line["not_before"] = json!("2998-01-01T00:10:00.000Z");
    session.note("the clock was fast when the record of `gone` was written");
    std::fs::write(path, format!("{line}\n")).unwrap();
    session.engine("explain gone --json");
    session.note("rm .engine/jobs/queued/gone.json");
    std::fs::remove_file(project.root("jobs/queued/gone.json")).unwrap();
    for line in ["explain gone", "recover", "explain gone", "show gone", "requeue gone"] {
        session.engine(line);
    }
    session.job(&shell("twice", "true"));
    session.quietly("submit twice.json", 0);
    by_hand(&mut session, "quarantined/twice.json", &shell("twice", "false").to_string(), 1);
    session.quietly("doctor --repair", 0);
    session.note("engine doctor --repair");
    by_hand(&mut session, "quarantined/odd~1.json", "{", 1);
    by_hand(&mut session, "quarantined/odd~1.json.reason.json", "{", 1);
    session.engine("list --state quarantined");
    session.engine("list --state quarantined --json");
    session.note("chmod 0666 .engine/jobs/queued/twice.json");
    std::fs::set_permissions(project.root("jobs/queued/twice.json"), PermissionsExt::from_mode(0o666))
        .unwrap();
    for line in ["explain twice", "run-job --claim twice --json", "status"] {
        session.engine(line);
    }
    session.matches("reasons-files");
}

#[test]
fn of_a_job_that_waits() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let running = session.start("holder", &json!({"locks": ["gpu"]}));
    session.jobs(&[
        shell("bad", "exit 3"),
        with(
            shell("all", "true"),
            &json!({"depends_on": ["bad", "later"], "locks": ["gpu"], "not_before": "2999-01-01T00:00:00Z"}),
        ),
        with(shell("locked", "true"), &json!({"locks": ["gpu"]})),
        with(shell("later", "true"), &json!({"not_before": "2999-01-01T00:00:00Z"})),
        with(shell("report", "true"), &json!({"after": ["bad", "all", "later"]})),
    ]);
    session.quietly("run-job --job-file bad.json", 3);
    session.engine("submit later.json all.json report.json");
    session.engine("hold all --reason 'new disk'");
    session.engine_all(&[
        "explain all",
        "explain all --json",
        "run-job --claim all --json",
        "run-job --job-file locked.json --json",
        "run-job --job-file locked.json --wait 0",
        "show all",
        "explain report",
        "run-job --claim report --json",
        "list --state waiting",
    ]);
    session.engine("release all");
    session.quietly("cancel holder", 0);
    let _ = running.wait();
    session.matches("reasons-waiting");
}

#[test]
fn of_the_order_of_the_queue() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let file = |id: &str, more: &Value| with(shell(id, "true"), more).to_string();
    by_hand(&mut session, "queued/old.json", &file("old", &json!({"priority": "low"})), 310);
    by_hand(&mut session, "queued/lent.json", &file("lent", &json!({"priority": "low"})), 9);
    by_hand(
        &mut session,
        "queued/first.json",
        &file("first", &json!({"priority": "critical", "depends_on": ["lent"]})),
        8,
    );
    by_hand(&mut session, "queued/two.json", &file("two", &json!({"locks": ["db:2"]})), 7);
    by_hand(&mut session, "queued/three.json", &file("three", &json!({"locks": ["db:3"]})), 6);
    by_hand(&mut session, "queued/ring-1.json", &file("ring-1", &json!({"depends_on": ["ring-2"]})), 5);
    by_hand(&mut session, "queued/ring-2.json", &file("ring-2", &json!({"depends_on": ["ring-1"]})), 4);
    for id in ["old", "lent", "first", "two", "three", "ring-1"] {
        session.engine(&format!("explain {id}"));
        session.engine(&format!("explain {id} --json"));
    }
    session.engine("status");
    session.file(".engine/engine.toml", "min_free_bytes = 9000000000000000000\n");
    session.engine("explain lent --json");
    session.engine("status");
    session.matches("reasons-order");
}

#[test]
fn of_a_running_job() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let running = session.start("runs", &json!({}));
    session.engine("hold runs");
    session.note("kill -STOP its runner");
    running.signal(rustix::process::Signal::STOP);
    eventually("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap().contains(") T ")
    });
    by_hand(&mut session, "running/runs.json", &shell("runs", "false").to_string(), 0);
    let request = json!({"schema_version": 1, "job_id": "runs", "life": 1, "attempt": 1, "at": "2026-01-01T00:00:00.000Z"});
    session.file(".engine/state/control/runs.cancel", &request.to_string());
    for line in ["explain runs", "explain runs --json", "status", "list"] {
        session.engine(line);
    }
    session.abandon("runs", running);
    for line in ["explain runs", "run-job --claim runs --json", "recover --json", "show runs"] {
        session.engine(line);
    }
    session.matches("reasons-running");
}

#[test]
fn of_a_crash() {
    let project = Project::new();
    let mut session = Session::new(&project);
    let running = session.start("once", &json!({}));
    session.abandon("once", running);
    for line in ["explain once --json", "recover", "explain once", "show once"] {
        session.engine(line);
    }
    let running = session.start("again", &json!({"on_crash": "requeue"}));
    session.abandon("again", running);
    session.engine("recover --json");
    for _ in 0..2 {
        let running = session.start_again("again", "run-job --claim again");
        session.abandon("again", running);
        session.engine("recover");
    }
    for line in ["explain again", "show again"] {
        session.engine(line);
    }
    session.job(&shell("ended", "true"));
    session.quietly("run-job --job-file ended.json", 0);
    let done =
        project.root(&format!("jobs/{}/ended.json", project.record("ended")["place"].as_str().unwrap()));
    std::fs::rename(done, project.root("jobs/running/ended.json")).unwrap();
    session.note("the file of `ended` is still in jobs/running");
    for line in ["explain ended --json", "recover --json", "show ended"] {
        session.engine(line);
    }
    session.matches("reasons-crash");
}

#[test]
fn of_a_root_that_cannot_be_used() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.jobs(&[shell("a", "true"), shell("b", "true")]);
    session.quietly("submit b.json", 0);
    let all = [
        "run-job --job-file a.json --json",
        "submit a.json",
        "work --drain",
        "explain b",
        "list",
        "doctor -q --repair",
    ];
    let each = |session: &mut Session<'_>, what: &str| {
        session.note(what);
        all[..5].iter().for_each(|line| session.engine(line));
    };
    let toml = project.root("engine.toml");
    session.file(".engine/engine.toml", "min_free_bytes = 9000000000000000000\n");
    each(&mut session, "too few bytes are free");
    std::fs::write(&toml, "").unwrap();
    session.file(".engine/engine.toml", "slot = 3\n");
    each(&mut session, "an unknown key");
    std::fs::write(&toml, "").unwrap();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(project.root(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("jobs/queued", 0o777);
    each(&mut session, "chmod 0777 .engine/jobs/queued");
    mode("jobs/queued", 0o700);
    let version = std::fs::read_to_string(project.root("state/VERSION")).unwrap();
    std::fs::write(project.root("state/VERSION"), "{\"schema_version\": 2, \"store\": \"x\"}").unwrap();
    each(&mut session, "state/VERSION says 2");
    std::fs::write(project.root("state/VERSION"), version).unwrap();
    std::fs::write(project.root("state/jobs/a.jsonl"), "no record\n").unwrap();
    each(&mut session, "state/jobs/a.jsonl is no record");
    session.engine("cancel a --json");
    session.engine("requeue a --json");
    std::fs::write(project.root("state/jobs/a.jsonl"), "{\"schema_version\": 2}\n").unwrap();
    each(&mut session, "state/jobs/a.jsonl is of version 2");
    std::fs::remove_file(project.root("state/jobs/a.jsonl")).unwrap();
    session.env.push((
        "ENGINE_TEST_MOUNT".to_owned(),
        "30 21 0:40 / /mnt/share rw - nfs server:/a rw,vers=3,nolock".to_owned(),
    ));
    each(&mut session, "its file system is one of another machine, with locks of its own");
    session.env.clear();
    std::fs::create_dir(project.root("state/jobs/a.jsonl")).unwrap();
    each(&mut session, "state/jobs/a.jsonl is a directory");
    std::fs::remove_dir(project.root("state/logs")).unwrap();
    std::fs::write(project.root("state/logs"), "").unwrap();
    each(&mut session, "state/logs is a file");
    session.matches("reasons-root");

    let original = Project::new();
    let mut session = Session::new(&original);
    session.jobs(&[shell("a", "true"), shell("b", "true")]);
    session.engine("submit b.json");
    let other = original.copy_not_accepted();
    let mut session = Session::new(&other);
    each(&mut session, "the root was copied");
    session.engine("explain b --json");
    session.matches("reasons-copied");
}

#[test]
fn of_a_place_where_no_root_is_made() {
    let project = Project::without_root();
    std::fs::set_permissions(project.dir(), PermissionsExt::from_mode(0o777)).unwrap();
    let mut session = Session::new(&project);
    session.note("chmod 0777 .");
    session.engine("run-job --json -- true");
    session.engine("submit -- true");
    session.matches("reasons-no-place");
}

#[test]
fn of_a_result_that_cannot_be_kept() {
    let project = Project::new();
    let mut session = Session::new(&project);
    session.job(&shell("a", "rm .engine/state/jobs/a.jsonl"));
    session.engine("run-job --job-file a.json --json");
    session.engine("explain a --json");
    session.job(&shell("left", "setsid sh -c 'exec sleep 600' > /dev/null 2>&1 &"));
    session.engine("run-job --job-file left.json --json");
    session.matches("reasons-result");
}
