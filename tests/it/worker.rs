//! The worker: order, overlap, waiting, dying runners and workers, and stopping.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::check;
use crate::support::{self, Project, eventually, processes_with, shell, with};

/// Puts a job into the queue as a person does: written beside, moved in.
fn queue(project: &Project, document: &Value) {
    let id = document["job_id"].as_str().unwrap();
    let hidden = project.root(&format!("jobs/queued/.{id}.hidden"));
    std::fs::create_dir_all(hidden.parent().unwrap()).unwrap();
    std::fs::write(&hidden, document.to_string()).unwrap();
    std::fs::rename(&hidden, project.root(&format!("jobs/queued/{id}.json"))).unwrap();
}

/// Lets the directories be made that a root gets with its first change.
fn ready() -> Project {
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    project
}

/// A worker whose runners hold no pipe of ours when it is killed.
fn silent(project: &Project, args: &[&str]) -> std::process::Child {
    project.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn lines(project: &Project, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_of_a_worker_is_alive_when_it_has_ended() {
    let project = ready();
    let mark = project.dir().to_string_lossy().into_owned();
    for round in 0..20 {
        queue(&project, &shell(&format!("job-{round}"), "true"));
        let mut worker = project.command(&["work", "--drain", "-q"]);
        // A pipe would be waited for.
        let status = worker.env("MARK", &mark).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        assert_eq!(processes_with(&mark), [0; 0], "round {round}");
    }
}

#[test]
fn a_drain_runs_everything_once_in_the_order_of_priority_and_age() {
    let project = ready();
    for (age, (id, priority)) in
        [("b", "normal"), ("a", "normal"), ("l", "low"), ("c", "critical"), ("h", "high")]
            .into_iter()
            .enumerate()
    {
        queue(&project, &with(shell(id, &format!("echo {id} >> order")), &json!({"priority": priority})));
        let file = std::fs::File::options()
            .append(true)
            .open(project.root(&format!("jobs/queued/{id}.json")))
            .unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(1000 - age as u64);
        file.set_modified(old).unwrap();
    }
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(lines(&project, "order"), ["c", "h", "b", "a", "l"]);
    for id in ["a", "b", "c", "h", "l"] {
        assert_eq!(project.places(id), ["done"]);
        check(&project, id, "drained");
    }
}

#[test]
fn two_workers_never_run_one_job_twice() {
    let project = ready();
    for n in 0..60 {
        queue(&project, &shell(&format!("j{n}"), &format!("echo {n} >> ran")));
    }
    let workers: Vec<_> = (0..3).map(|_| project.start(&["work", "--drain", "--slots", "2"], &[])).collect();
    for worker in workers {
        worker.wait().exits(0);
    }
    let ran = lines(&project, "ran");
    assert_eq!(ran.len(), 60, "{ran:?}");
    assert_eq!(ran.iter().collect::<BTreeSet<_>>().len(), 60);
}

#[test]
fn a_drain_says_1_if_something_failed_and_leaves_what_depends_on_it() {
    let project = ready();
    queue(&project, &with(shell("third", "echo third >> ran"), &json!({"depends_on": ["second"]})));
    queue(&project, &with(shell("second", "echo second >> ran; exit 3"), &json!({"depends_on": ["first"]})));
    queue(&project, &shell("first", "echo first >> ran"));
    let said = project.engine(&["work", "--drain", "--slots", "2"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("third waits for second"), "{}", said.err);
    // The next drain has no failure of its own, and says in one line what it leaves.
    let left = "engine: error: 1 job is left that can never run: engine list --state waiting\n";
    assert_eq!(project.engine(&["work", "--drain", "-q"]).says_with(1), left);
    assert_eq!(lines(&project, "ran"), ["first", "second"]);
    assert_eq!(project.places("third"), ["queued"]);
    assert_eq!(project.record("second")["attempts"][0]["dependencies"][0]["job_id"], "first");
}

#[test]
fn jobs_with_the_same_lock_never_overlap_and_those_without_do() {
    let project = ready();
    let script = "mkdir inside || echo overlap >> overlaps; sleep 0.02; rmdir inside; echo x >> ran";
    for n in 0..8 {
        queue(&project, &with(shell(&format!("l{n}"), script), &json!({"locks": ["gpu"]})));
    }
    let workers: Vec<_> = (0..2).map(|_| project.start(&["work", "--drain", "--slots", "3"], &[])).collect();
    for worker in workers {
        worker.wait().exits(0);
    }
    assert_eq!(lines(&project, "overlaps"), Vec::<String>::new());
    assert_eq!(lines(&project, "ran").len(), 8);
    // Two that wait for each other's file can only end if they run at once.
    for (id, own, other) in [("p", "one", "two"), ("q", "two", "one")] {
        queue(&project, &shell(id, &format!("touch {own}; until test -e {other}; do sleep 0.01; done")));
    }
    project.engine(&["work", "--drain", "--slots", "2"]).exits(0);
}

#[test]
fn the_slots_of_the_root_are_shared_by_all_its_workers() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "slots = 1\n").unwrap();
    let script = "mkdir inside || echo overlap >> overlaps; sleep 0.02; rmdir inside; echo x >> ran";
    for n in 0..6 {
        queue(&project, &shell(&format!("s{n}"), script));
    }
    let workers: Vec<_> = (0..2).map(|_| project.start(&["work", "--drain", "--slots", "2"], &[])).collect();
    for worker in workers {
        worker.wait().exits(0);
    }
    assert_eq!(lines(&project, "overlaps"), Vec::<String>::new());
    assert_eq!(lines(&project, "ran").len(), 6);
}

#[test]
fn a_retry_frees_its_slot_and_a_drain_waits_for_it() {
    let project = ready();
    let retry = json!({"metadata": {"retry_policy": "retry_same", "max_retries": 2,
        "backoff": {"strategy": "immediate"}}});
    queue(&project, &with(shell("r", "echo r >> ran; test $(wc -l < ran) -ge 3"), &retry));
    queue(&project, &shell("other", "echo other >> ran"));
    project.engine(&["work", "--drain"]).exits(0);
    let record = project.record("r");
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(record["attempts"].as_array().unwrap().len(), lines(&project, "ran").len() - 1);
}

#[test]
fn what_waits_for_a_time_or_a_hold_is_left_by_a_drain_and_named() {
    let project = ready();
    queue(&project, &with(shell("later", "true"), &json!({"not_before": "2099-01-01T00:00:00Z"})));
    queue(&project, &shell("held", "true"));
    std::fs::write(project.root("state/control/held.hold"), "").unwrap();
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.contains("later waits until 2099-01-01") && said.err.contains("held waits"),
        "{}",
        said.err
    );
    assert_eq!(
        (project.places("later"), project.places("held")),
        (vec!["queued".into()], vec!["queued".into()])
    );
}

#[test]
fn a_worker_that_idles_starts_a_job_that_comes_in_and_one_that_is_released() {
    let project = ready();
    std::fs::write(project.root("state/control/HOLD"), "").unwrap();
    queue(&project, &shell("held", "touch held-ran"));
    let worker = project.start(&["work", "-v"], &[]);
    eventually("the worker looks at the held job", || !processes_with("work\0-v").is_empty());
    std::fs::remove_file(project.root("state/control/HOLD")).unwrap();
    eventually("the released job ran", || project.path("held-ran").exists());
    // Well before the worker would look by itself.
    eventually("it ended", || project.places("held") == ["done"]);
    let start = Instant::now();
    queue(&project, &shell("new", "touch new-ran"));
    eventually("the new job ran", || project.path("new-ran").exists());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    worker.signal(Signal::TERM);
    let said = worker.wait();
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn a_killed_runner_is_recovered_at_once_and_nothing_of_its_job_is_left() {
    let project = ready();
    queue(&project, &shell("k", "touch started; sleep 600"));
    let worker = project.start(&["work", "--drain"], &[]);
    eventually("the tool runs", || project.path("started").exists());
    let runner = i32::try_from(project.record("k")["attempts"][0]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(runner).unwrap(), Signal::KILL).unwrap();
    let said = worker.wait();
    assert_eq!(said.code, 1, "{}", said.err);
    let record = project.record("k");
    assert_eq!(
        (&record["status"], &record["attempts"][0]["outcome"]),
        (&json!("quarantined"), &json!("lost"))
    );
    check(&project, "k", "after the runner was killed");
}

#[test]
fn a_repeatable_job_of_a_killed_runner_runs_again() {
    let project = ready();
    let script = "echo x >> ran; test $(wc -l < ran) -ge 2 || { touch started; sleep 600; }";
    queue(&project, &with(shell("k", script), &json!({"on_crash": "requeue"})));
    let worker = project.start(&["work", "--drain"], &[]);
    eventually("the tool runs", || project.path("started").exists());
    let runner = i32::try_from(project.record("k")["attempts"][0]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(runner).unwrap(), Signal::KILL).unwrap();
    worker.wait().exits(0);
    let record = project.record("k");
    let outcomes: Vec<&Value> =
        record["attempts"].as_array().unwrap().iter().map(|a| &a["outcome"]).collect();
    assert_eq!(outcomes, ["lost", "succeeded"]);
}

#[test]
fn a_killed_worker_costs_nothing_its_runners_end_their_jobs() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    queue(&project, &shell("b", "true"));
    let mut worker = silent(&project, &["work", "--drain"]);
    eventually("the tool runs", || project.path("started").exists());
    worker.kill().unwrap();
    worker.wait().unwrap();
    std::fs::write(project.path("go"), "").unwrap();
    eventually("the job ended without a worker", || project.places("a") == ["done"]);
    assert_eq!(project.record("a")["status"], "succeeded");
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("b"), ["done"]);
}

#[test]
fn an_abandoned_job_of_a_dead_worker_is_recovered_by_the_next_one() {
    let project = ready();
    queue(&project, &shell("a", "touch started; sleep 600"));
    let mut worker = silent(&project, &["work"]);
    eventually("the tool runs", || project.path("started").exists());
    let runner = i32::try_from(project.record("a")["attempts"][0]["pid"].as_i64().unwrap()).unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(runner).unwrap(), Signal::KILL).unwrap();
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("its runner died"), "{}", said.err);
    assert_eq!(project.record("a")["attempts"][0]["outcome"], "lost");
    check(&project, "a", "after both were killed");
}

#[test]
fn a_drain_does_not_pass_over_a_file_that_is_put_aside_as_no_job() {
    let project = ready();
    let half = project.root("jobs/queued/half.json");
    std::fs::create_dir_all(half.parent().unwrap()).unwrap();
    std::fs::write(&half, "{\"job_id\":").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::options().append(true).open(&half).unwrap().set_modified(long_ago).unwrap();
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("half was not run: "), "{}", said.err);
    assert!(!half.exists());
}

#[test]
fn a_quiet_drain_says_in_one_line_that_jobs_did_not_succeed() {
    let project = ready();
    queue(&project, &shell("a", "true"));
    let said = project.engine(&["-q", "work", "--drain"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    queue(&project, &shell("b", "false"));
    let said = project.engine(&["-q", "work", "--drain"]);
    let want = "engine: error: 1 job did not succeed: engine list --state quarantined\n";
    assert_eq!((said.code, said.err.as_str()), (1, want));
}

#[test]
fn the_first_signal_lets_jobs_end_the_second_asks_and_the_third_kills_them() {
    let project = ready();
    let stubborn = "trap 'touch asked' TERM; touch started; while :; do sleep 0.05; done";
    // In the order of their ids, for files of one instant have no other.
    queue(&project, &with(shell("a", stubborn), &json!({"metadata": {"grace_seconds": 600}})));
    queue(&project, &shell("never", "touch never-ran"));
    let said = std::fs::File::create(project.path("said")).unwrap();
    let mut worker = project.command(&["work"]).stdout(Stdio::null()).stderr(said).spawn().unwrap();
    let pid = i32::try_from(worker.id()).unwrap();
    let says = |text: &str| lines(&project, "said").iter().any(|line| line.contains(text));
    eventually("the tool runs", || project.path("started").exists());
    kill(pid, Signal::INT);
    eventually("the worker waits for its job", || says("waiting for 1 running job"));
    assert!(!project.path("asked").exists() && !says("asked to stop"));
    kill(pid, Signal::TERM);
    eventually("the tool is asked to end", || project.path("asked").exists());
    assert_eq!(project.record("a")["status"], "running");
    kill(pid, Signal::TERM);
    eventually("the job is killed", || project.places("a") == ["done"]);
    worker.wait().unwrap();
    let record = project.record("a");
    assert_eq!(record["attempts"][0]["outcome"], "canceled", "{record}");
    assert_eq!(project.places("never"), ["queued"]);
    assert!(!project.path("never-ran").exists());
    check(&project, "a", "killed by the third signal");
}

#[test]
fn the_first_signal_alone_waits_for_the_running_job_and_starts_no_other() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    queue(&project, &shell("b", "true"));
    let worker = project.start(&["work"], &[]);
    eventually("the tool runs", || project.path("started").exists());
    worker.signal(Signal::TERM);
    std::fs::write(project.path("go"), "").unwrap();
    let said = worker.wait();
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(project.record("a")["status"], "succeeded");
    assert_eq!(project.places("b"), ["queued"]);
}

#[test]
fn files_that_are_no_jobs_do_not_keep_the_others_from_running() {
    let project = ready();
    queue(&project, &shell("good", "true"));
    std::fs::write(project.root("jobs/queued/torn.json"), "{\"job_id\": \"to").unwrap();
    std::fs::write(project.root("jobs/queued/wrong.json"), shell("another", "touch ran").to_string())
        .unwrap();
    std::fs::write(project.root("jobs/queued/notes.txt"), "hello").unwrap();
    std::fs::create_dir(project.root("jobs/queued/dir.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", project.root("jobs/queued/link.json")).unwrap();
    for name in ["torn", "wrong"] {
        crate::crash::make_old(&project.root(&format!("jobs/queued/{name}.json")));
    }
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(project.places("good"), ["done"]);
    assert!(!project.path("ran").exists());
    for name in ["torn", "wrong"] {
        assert!(project.root(&format!("jobs/quarantined/{name}~1.json")).exists(), "{name}: {}", said.err);
    }
    for name in ["notes.txt", "dir.json", "link.json"] {
        assert!(
            project.root(&format!("jobs/queued/{name}")).symlink_metadata().is_ok(),
            "{name} is left alone"
        );
    }
}

#[test]
fn an_invalid_job_is_refused_on_record_by_its_claim() {
    let project = ready();
    queue(
        &project,
        &json!({"job_id": "bad", "tool": "shell", "priority": "urgent", "command": {"exe": "true"}}),
    );
    crate::crash::make_old(&project.root("jobs/queued/bad.json"));
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(project.record("bad")["attempts"][0]["outcome"], "invalid");
    assert_eq!(project.places("bad"), ["quarantined"]);
}

#[test]
fn a_worker_for_one_run_or_tool_leaves_the_rest() {
    let project = ready();
    queue(&project, &with(shell("mine", "true"), &json!({"run_id": "r1"})));
    queue(&project, &with(shell("other", "true"), &json!({"run_id": "r2"})));
    queue(&project, &json!({"job_id": "none", "tool": "git", "run_id": "r1", "command": {"exe": "true"}}));
    project.engine(&["work", "--drain", "--run", "r1", "--tool", "shell"]).exits(0);
    assert_eq!(project.places("mine"), ["done"]);
    assert_eq!(
        (project.places("other"), project.places("none")),
        (vec!["queued".into()], vec!["queued".into()])
    );
}

#[test]
fn a_worker_starts_nothing_while_the_disk_is_nearly_full() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "min_free_bytes = 1000000000000000\n").unwrap();
    queue(&project, &shell("a", "touch ran"));
    let mut command = project.command(&["work"]);
    let log = std::fs::File::create(project.path("said")).unwrap();
    let mut worker = command.stderr(log).spawn().unwrap();
    eventually("it says so", || lines(&project, "said").iter().any(|line| line.contains("min_free_bytes")));
    let pid = rustix::process::Pid::from_child(&worker);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    worker.wait().unwrap();
    assert!(!project.path("ran").exists());
    assert_eq!(project.places("a"), ["queued"]);
}

#[test]
fn a_drain_ends_while_the_disk_is_nearly_full_and_leaves_the_jobs_queued() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "min_free_bytes = 1000000000000000\n").unwrap();
    queue(&project, &shell("a", "touch ran"));
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 125, "{}", said.err);
    assert!(
        said.err.contains("the rest stays queued: ") && said.err.contains("min_free_bytes"),
        "{}",
        said.err
    );
    assert_eq!(project.places("a"), ["queued"]);
    std::fs::write(project.root("engine.toml"), "").unwrap();
    project.engine(&["work", "--drain"]).exits(0);
    assert!(project.path("ran").exists());
}

/// Runs a drain that must end by itself; how many runners it started stands beside what it said.
fn drained(project: &Project, before: &str) -> (support::Said, usize) {
    let script = format!("{before} exec '{}' work --drain -v", env!("CARGO_BIN_EXE_engine"));
    let log = std::fs::File::create(project.path("said")).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(project.dir()).stdin(Stdio::null()).stderr(log);
    let mut drain = Killed(shell.spawn().unwrap());
    eventually("the drain ends by itself", || drain.0.try_wait().unwrap().is_some());
    let code = drain.0.wait().unwrap().code().unwrap_or(-1);
    let err = lines(project, "said").join("\n");
    let started = lines(project, "said").iter().filter(|line| line.ends_with(" started")).count();
    (support::Said { code, out: String::new(), err }, started)
}

/// A process that does not outlive a test that fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_drain_says_1_and_why_once_if_a_job_could_not_be_run() {
    type Spoil = fn(&Project);
    let no_record: Spoil = |project| std::fs::write(project.root("state/jobs/a.jsonl"), "garbage\n").unwrap();
    let directory: Spoil = |project| {
        std::fs::remove_file(project.root("state/jobs/a.jsonl")).unwrap();
        std::fs::create_dir(project.root("state/jobs/a.jsonl")).unwrap();
    };
    let lock: Spoil = |project| std::fs::create_dir(project.root("state/locks/g.0")).unwrap();
    let link: Spoil = |project| {
        std::os::unix::fs::symlink("/dev/null", project.root("state/locks/g.0")).unwrap();
    };
    for (spoil, why) in
        [(no_record, "cannot read `"), (directory, "a.jsonl`"), (lock, "g.0`"), (link, "g.0`")]
    {
        let project = ready();
        let name = project.job(&with(shell("a", "touch ran"), &json!({"locks": ["g"]})));
        project.engine(&["submit", "-q", &name]).exits(0);
        queue(&project, &shell("good", "true"));
        spoil(&project);
        let (said, started) = drained(&project, "");
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(started < 7, "{}", said.err);
        let told: Vec<&str> = said.err.lines().filter(|line| line.contains("a was not run: ")).collect();
        assert!(told.len() == 1 && told[0].contains(why), "{}", said.err);
        assert!(said.err.contains("a waits because it could not be run: "), "{}", said.err);
        assert!(
            said.err.contains("error: 1 job is left that could not be run: engine explain a"),
            "{}",
            said.err
        );
        assert_eq!((project.places("good"), project.path("ran").exists()), (vec!["done".to_owned()], false));
    }
}

#[test]
fn a_drain_does_not_fail_for_a_file_that_comes_in_or_a_job_that_another_process_has() {
    let project = ready();
    let name = project.job(&shell("theirs", "true"));
    project.engine(&["submit", "-q", &name]).exits(0);
    let record = std::fs::File::open(project.root("state/jobs/theirs.jsonl")).unwrap();
    rustix::fs::flock(&record, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::fs::write(project.root("jobs/queued/torn.json"), "{\"job_id\": \"to").unwrap();
    let (said, _) = drained(&project, "");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.contains("theirs waits because ") && said.err.contains("torn waits because "),
        "{}",
        said.err
    );
}

#[test]
fn a_drain_ends_if_the_file_of_an_ended_job_cannot_be_moved() {
    let project = ready();
    project.run(&shell("d", "true")).exits(0);
    let place = project.record("d")["place"].as_str().unwrap().to_owned();
    let day = project.root(&format!("jobs/{place}"));
    std::fs::rename(day.join("d.json"), project.root("jobs/queued/d.json")).unwrap();
    std::fs::remove_dir(&day).unwrap();
    std::fs::write(&day, "").unwrap();
    let (said, started) = drained(&project, "");
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(started < 6, "{}", said.err);
    assert_eq!(said.err.matches("d was not run: error moving").count(), 1, "{}", said.err);
    std::fs::remove_file(&day).unwrap();
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("d"), ["done"]);
}

#[test]
fn a_job_whose_locks_cannot_all_be_opened_is_parked_and_waits_for_no_lock() {
    let project = ready();
    let locks: Vec<String> = (0..60).map(|n| format!("l{n}")).collect();
    queue(&project, &with(shell("many", "touch ran"), &json!({"locks": locks})));
    queue(&project, &shell("good", "true"));
    let (said, started) = drained(&project, "ulimit -n 50;");
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(started, 2, "{}", said.err);
    assert!(said.err.contains("many waits until ") && !said.err.contains("the lock"), "{}", said.err);
    let record = project.record("many");
    assert_eq!(record["attempts"][0]["outcome"], "parked", "{record}");
    assert_eq!(record["attempts"][0]["reason"]["code"], "start_failed", "{record}");
    assert_eq!(
        (project.places("good"), project.places("many")),
        (vec!["done".into()], vec!["queued".into()])
    );
    assert!(!project.path("ran").exists());
}

#[test]
fn a_drain_with_too_few_descriptors_ends_and_says_what_is_lacking() {
    let mut drains = 0;
    for limit in 6..16 {
        let project = ready();
        for id in ["a", "b"] {
            let name = project.job(&shell(id, "true"));
            project.engine(&["submit", "-q", &name]).exits(0);
        }
        let (said, _) = drained(&project, &format!("ulimit -n {limit};"));
        assert!(!said.err.contains("no longer exists"), "{limit}: {}", said.err);
        let done = ["a", "b"].iter().filter(|id| project.places(id) == ["done"]).count();
        let is_parked = said.err.contains("waits until ");
        assert!(done == 2 || is_parked || said.code != 0, "{limit}: {}", said.err);
        drains += usize::from(done == 2);
    }
    assert!(drains > 0, "no limit was enough");
}

#[test]
fn a_killed_launcher_ends_its_worker_and_loses_no_job() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    let mut worker = silent(&project, &["work", "--drain"]);
    eventually("the tool runs", || project.path("started").exists());
    let runner = project.record("a")["attempts"][0]["pid"].as_i64().unwrap();
    let launcher = parent_of(i32::try_from(runner).unwrap());
    assert_ne!(launcher, i32::try_from(worker.id()).unwrap());
    rustix::process::kill_process(rustix::process::Pid::from_raw(launcher).unwrap(), Signal::KILL).unwrap();
    // A drain whose jobs are in nobody's hands has not said yes.
    assert_eq!(worker.wait().unwrap().code(), Some(125));
    queue(&project, &shell("b", "touch b-ran"));
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("b"), ["done"]);
    std::fs::write(project.path("go"), "").unwrap();
    eventually("the first job ends", || project.places("a") == ["done"]);
    assert_eq!(project.record("a")["attempts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_launcher_that_dies_at_a_start_is_the_worker_s_trouble_and_no_job_s() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    queue(&project, &shell("b", "true"));
    // A full pipe keeps the worker between the start of `a`, which it tells, and that of `b`.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    for size in [4096, 1] {
        while rustix::io::write(&write, &vec![b'.'; size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    let mut command = project.command(&["work", "--slots", "2", "-v"]);
    let mut worker = command.stdout(Stdio::null()).stderr(write).spawn().unwrap();
    drop(command);
    eventually("the tool runs", || project.path("started").exists());
    let runner = project.record("a")["attempts"][0]["pid"].as_i64().unwrap();
    let launcher = parent_of(i32::try_from(runner).unwrap());
    kill(launcher, Signal::KILL);
    eventually("the launcher is gone", || state_of(launcher) == 'Z');
    std::fs::write(project.path("go"), "").unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut said).unwrap();
    let said = said.trim_start_matches('.');
    assert_eq!(worker.wait().unwrap().code(), Some(125), "{said}");
    assert!(said.contains("a started") && said.contains("launcher"), "{said}");
    assert!(!said.contains("b was not run") && !said.contains("b started"), "{said}");
    assert_eq!(project.places("b"), ["queued"]);
    assert!(project.record_if_any("b").is_none());
    eventually("the first job ends", || project.places("a") == ["done"]);
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("b"), ["done"]);
}

#[test]
fn a_held_queue_is_left_alone_by_a_drain_without_a_single_start() {
    let project = ready();
    for n in 0..20 {
        queue(&project, &shell(&format!("j{n}"), "true"));
    }
    project.engine(&["hold", "--all"]).exits(0);
    let said = project.engine(&["work", "--drain", "-v"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("engine release --all") && !said.err.contains("started"), "{}", said.err);
    project.engine(&["release", "--all"]).exits(0);
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.places("j19"), ["done"]);
}

#[test]
fn a_job_that_is_edited_while_it_waits_is_looked_at_again() {
    let project = ready();
    queue(&project, &with(shell("later", "touch ran"), &json!({"not_before": "2099-01-01T00:00:00Z"})));
    let mut worker = silent(&project, &["work"]);
    queue(&project, &shell("first", "true"));
    eventually("the worker works", || project.places("first") == ["done"]);
    queue(&project, &shell("later", "touch ran"));
    eventually("the edited job ran", || project.path("ran").exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&worker), Signal::TERM).unwrap();
    worker.wait().unwrap();
}

#[test]
fn the_copy_of_a_root_in_use_leaves_the_tools_of_the_original_alone() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    let mut worker = silent(&project, &["work", "--drain"]);
    eventually("the tool runs", || project.path("started").exists());
    let copy = project.copy();
    let said = copy.engine(&["recover"]);
    assert!(said.out.contains("this root is a copy"), "{}{}", said.out, said.err);
    std::fs::write(project.path("go"), "").unwrap();
    assert!(worker.wait().unwrap().success());
    assert_eq!(project.record("a")["status"], "succeeded");
    // When nothing of the original runs any more, the copy can be recovered.
    copy.engine(&["recover"]).exits(0);
    assert_eq!(copy.record("a")["attempts"][0]["outcome"], "lost");
}

#[test]
fn a_worker_whose_root_is_taken_away_has_not_drained_it() {
    let project = ready();
    queue(&project, &shell("a", "touch started; until test -e go; do sleep 0.01; done"));
    queue(&project, &shell("b", "true"));
    let mut worker = silent(&project, &["work", "--drain"]);
    eventually("the tool runs", || project.path("started").exists());
    std::fs::rename(project.root(""), project.path("elsewhere")).unwrap();
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(worker.wait().unwrap().code(), Some(125));
}

#[test]
fn a_lock_that_somebody_else_holds_costs_a_worker_no_processes() {
    let project = ready();
    project.job(&with(
        shell("holder", "touch held; until test -e go; do sleep 0.01; done"),
        &json!({"locks": ["gpu"]}),
    ));
    let mut holder = silent(&project, &["run-job", "--job-file", "holder.json"]);
    eventually("the lock is held", || project.path("held").exists());
    for n in 0..3 {
        queue(&project, &with(shell(&format!("w{n}"), "true"), &json!({"locks": ["gpu"]})));
    }
    let log = std::fs::File::create(project.path("said")).unwrap();
    let mut worker = project.command(&["work", "-v", "--drain"]).stderr(log).spawn().unwrap();
    let started = || lines(&project, "said").iter().filter(|line| line.ends_with(" started")).count();
    eventually("each was tried", || started() >= 3);
    // A second of waiting for the lock may try one more a lock; a storm would try hundreds.
    let before = Instant::now();
    eventually("a second is over", || before.elapsed() > Duration::from_secs(1));
    assert!(started() < 12, "{} runners", started());
    std::fs::write(project.path("go"), "").unwrap();
    assert!(worker.wait().unwrap().success());
    holder.wait().unwrap();
    assert_eq!(project.places("w2"), ["done"]);
}

/// This process and everything below it.
fn tree_of(pid: i32) -> Vec<i32> {
    let below = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = below.split_whitespace().flat_map(|child| tree_of(child.parse().unwrap()));
    std::iter::once(pid).chain(below).collect()
}

#[test]
fn a_shutdown_that_signals_every_process_of_a_worker_cancels_its_jobs() {
    let project = Project::new();
    let script = "echo > started; exec sleep 1000";
    let name = project
        .job(&json!({"job_id": "a", "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}}));
    project.engine(&["submit", "-q", &name]).exits(0);
    let worker = project.start(&["work"], &[]);
    eventually("it runs", || project.path("started").exists());
    // The worker, its launcher, the runner and the tool, as a service manager does it.
    let all = tree_of(worker.pid());
    assert_eq!(all.len(), 4, "{all:?}");
    for pid in all {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    let said = worker.wait();
    assert!(!said.err.contains("launcher"), "{}", said.err);
    assert_eq!(project.record("a")["status"], "canceled", "{}{}", said.out, said.err);
}

/// A job whose tool ignores TERM and notes who runs it.
fn stubborn(id: &str) -> Value {
    shell(id, "trap '' TERM; echo $PPID > .runner; mv .runner runner; while :; do sleep 0.05; done")
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn runner_of(project: &Project) -> i32 {
    eventually("the tool runs", || project.path("runner").exists());
    std::fs::read_to_string(project.path("runner")).unwrap().trim().parse().unwrap()
}

/// Leaves the open attempt of a job `a` whose runner and worker are dead and whose tool ignores TERM.
fn abandon_stubborn(project: &Project) {
    queue(project, &stubborn("a"));
    let mut first = silent(project, &["work"]);
    let runner = runner_of(project);
    first.kill().unwrap();
    first.wait().unwrap();
    kill(runner, Signal::KILL);
    eventually("its runner is gone", || holder_of(project, "a").is_none());
}

/// The process that holds the lease of a job, if one does.
fn holder_of(project: &Project, id: &str) -> Option<i32> {
    let record = project.root(&format!("state/jobs/{id}.jsonl"));
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(record).unwrap());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let line = locks.lines().find(|line| line.contains(&format!(":{inode} ")))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

fn state_of(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

fn is_open(project: &Project, id: &str) -> bool {
    project.record(id)["attempts"].as_array().unwrap().last().unwrap()["outcome"].is_null()
}

#[test]
fn a_worker_starts_other_jobs_while_it_recovers_one_whose_left_over_ignores_term() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 3\n").unwrap();
    queue(&project, &stubborn("a"));
    let worker = project.start(&["work", "--slots", "2", "--drain"], &[]);
    kill(runner_of(&project), Signal::KILL);
    queue(&project, &shell("next", "true"));
    eventually("the next job ran", || project.places("next") == ["done"]);
    assert!(is_open(&project, "a"), "the next job waited for the recovery");
    // A drain ends when the recovery has.
    let said = worker.wait();
    assert!(said.err.contains("2 jobs ended: 1 succeeded, 1 did not"), "{}", said.err);
    said.exits(1);
    assert_eq!(project.places("a"), ["quarantined"]);
    check(&project, "a", "after its recovery");
}

#[test]
fn a_signal_ends_a_worker_at_once_while_it_recovers_and_the_recovery_goes_on() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 4\n").unwrap();
    abandon_stubborn(&project);
    // Its launcher, which goes on, holds no pipe of ours.
    let mut worker = silent(&project, &["work"]);
    queue(&project, &shell("next", "true"));
    eventually("the next job ran", || project.places("next") == ["done"]);
    kill(i32::try_from(worker.id()).unwrap(), Signal::INT);
    assert!(worker.wait().unwrap().success());
    assert!(is_open(&project, "a"), "the worker waited for the recovery");
    eventually("the recovery is made without the worker", || project.places("a") == ["quarantined"]);
    check(&project, "a", "after its recovery");
}

#[test]
fn a_worker_that_stops_recovers_the_job_of_its_runner_that_is_killed_meanwhile_and_waits_for_that() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 1\n").unwrap();
    queue(&project, &stubborn("a"));
    let said = std::fs::File::create(project.path("said")).unwrap();
    let mut worker = Killed(project.command(&["work"]).stdout(Stdio::null()).stderr(said).spawn().unwrap());
    let runner = runner_of(&project);
    kill(i32::try_from(worker.0.id()).unwrap(), Signal::TERM);
    eventually("the worker waits for its job", || {
        lines(&project, "said").iter().any(|line| line.contains("waiting for 1 running job"))
    });
    kill(runner, Signal::KILL);
    assert!(worker.0.wait().unwrap().success());
    assert_eq!(project.record("a")["attempts"][0]["outcome"], "lost", "{:?}", lines(&project, "said"));
    assert_eq!(project.places("a"), ["quarantined"]);
    check(&project, "a", "after the end of its worker");
}

#[test]
fn a_recovery_that_is_killed_is_made_by_the_next_look() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 60\n").unwrap();
    queue(&project, &with(stubborn("a"), &json!({"on_crash": "quarantine"})));
    let worker = project.start(&["work", "-v"], &[]);
    kill(runner_of(&project), Signal::KILL);
    // The process that ends what is left holds the lease of the job.
    eventually("it is being recovered", || holder_of(&project, "a").is_some());
    kill(holder_of(&project, "a").unwrap(), Signal::KILL);
    let of_this_test = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/cwd"))
            .is_ok_and(|dir| dir == project.dir().canonicalize().unwrap())
    };
    for pid in processes_with("echo $PPID > .runner").into_iter().filter(of_this_test) {
        kill(pid, Signal::KILL);
    }
    eventually("it is recovered all the same", || project.places("a") == ["quarantined"]);
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    check(&project, "a", "after a killed recovery");
}

#[test]
fn a_launcher_that_is_killed_during_a_recovery_ends_its_worker_at_once() {
    let project = ready();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 10\n").unwrap();
    abandon_stubborn(&project);
    let mut worker = silent(&project, &["work"]);
    // The worker itself holds the lease for a moment, to look at the record.
    let worker_pid = i32::try_from(worker.id()).unwrap();
    let mut launcher = None;
    eventually("a child of its launcher recovers the job", || {
        let holder = holder_of(&project, "a").filter(|holder| *holder != worker_pid);
        launcher = holder.map(parent_of).filter(|launcher| parent_of(*launcher) == worker_pid);
        launcher.is_some()
    });
    kill(launcher.unwrap(), Signal::KILL);
    assert_eq!(worker.wait().unwrap().code(), Some(125));
    assert!(is_open(&project, "a"), "the worker waited for the recovery");
    eventually("the recovery goes on without both", || project.places("a") == ["quarantined"]);
    check(&project, "a", "after its recovery");
}

/// A project with a job to recover, where the first worker of a boot looks at every record.
fn on_tmpfs() -> Option<Project> {
    let project = support::on_tmpfs()?;
    std::fs::write(project.root("engine.toml"), "grace_seconds = 4\n").unwrap();
    abandon_stubborn(&project);
    std::fs::remove_file(project.root("state/boot")).unwrap();
    Some(project)
}

#[test]
fn the_first_worker_of_a_boot_works_and_heeds_signals_while_it_recovers() {
    let Some(project) = on_tmpfs() else { return };
    queue(&project, &shell("next", "true"));
    let mut worker = silent(&project, &["work"]);
    eventually("the next job ran", || project.places("next") == ["done"]);
    kill(i32::try_from(worker.id()).unwrap(), Signal::TERM);
    assert!(worker.wait().unwrap().success());
    assert!(is_open(&project, "a"), "the next job, or the end, waited for the recovery");
    assert!(!project.root("state/boot").exists(), "not everything is recovered");
    eventually("the recovery goes on without the worker", || project.places("a") == ["quarantined"]);
    check(&project, "a", "after its recovery");
}

#[test]
fn the_first_worker_of_a_boot_remembers_it_when_the_last_job_is_recovered() {
    let Some(project) = on_tmpfs() else { return };
    // Its record is open and no directory names it: only the look at every record finds it.
    std::fs::rename(project.root("jobs/running/a.json"), project.path("taken-away")).unwrap();
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("its runner died") && !said.err.contains("boot"), "{}", said.err);
    assert_eq!(project.record("a")["attempts"][0]["outcome"], "lost");
    assert!(project.root("state/boot").exists());
}

#[test]
fn a_job_that_the_own_runner_cancels_at_its_claim_is_told_and_counted() {
    let project = ready();
    let request = json!({"schema_version": 1, "job_id": "a", "life": 1, "attempt": 1, "at": "2026-01-01T00:00:00.000Z"});
    std::fs::write(project.root("state/control/a.cancel"), request.to_string()).unwrap();
    queue(&project, &shell("a", "touch ran"));
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("1 job ended: 0 succeeded, 1 did not"), "{}", said.err);
    assert!(said.err.contains("a canceled after"), "{}", said.err);
    assert_eq!(said.code, 1);
    assert!(!project.path("ran").exists());
    assert_eq!(project.record("a")["status"], "canceled");
    // What another cancels is not of this worker's doing.
    queue(&project, &shell("b", "true"));
    project.engine(&["cancel", "-q", "b"]).exits(0);
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("0 jobs ended"), "{}", said.err);
    said.exits(0);
}

#[test]
fn a_circle_is_told_once_with_all_that_wait_in_it_and_behind_it() {
    let project = ready();
    for (id, on) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "d")] {
        queue(&project, &with(shell(id, "true"), &json!({"depends_on": [on]})));
    }
    let said = project.engine(&["work", "--drain"]).says_with(1);
    assert_eq!(said.matches("run in a circle").count(), 1, "{said}");
    for part in
        ["  a, b, c wait for ever in it\n", "  d, e wait for ever behind it\n", "error: 5 jobs are left"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_merely_waits_is_no_failure_of_a_drain_and_is_named_itself() {
    let project = ready();
    queue(&project, &with(shell("m", "true"), &json!({"depends_on": ["nonex"]})));
    queue(&project, &with(shell("n", "true"), &json!({"depends_on": ["held"]})));
    queue(&project, &shell("held", "true"));
    std::fs::write(project.root("state/control/held.hold"), "").unwrap();
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("m waits for nonex: engine explain m\n"), "{}", said.err);
    assert!(said.err.contains("n waits for held: engine explain n\n"), "{}", said.err);
    assert!(!said.err.contains("never run"), "{}", said.err);
    said.exits(0);
}

#[test]
fn what_waits_behind_a_failure_that_gc_has_retired_is_told_to_submit_that_anew() {
    let project = ready();
    let kept = json!({"on_failure": "done"});
    project.run(&with(shell("f", "exit 3"), &kept)).exits(3);
    let waits = |id: &str, on: &str| queue(&project, &with(shell(id, "true"), &json!({"depends_on": [on]})));
    waits("m", "f");
    let said = project.engine(&["work", "--drain"]).says_with(1);
    assert!(said.contains("m waits for f, which did not succeed: engine requeue f\n"), "{said}");
    project.engine(&["cancel", "-q", "m"]).exits(0);
    project.engine(&["gc", "-q", "--older-than", "0s"]).exits(0);
    assert!(project.record_if_any("f").is_none());
    waits("k", "f");
    waits("l", "k");
    let said = project.engine(&["work", "--drain"]).says_with(1);
    assert!(said.contains("k waits for f, which did not succeed: submit `f` again\n"), "{said}");
    assert!(said.contains("l waits for k, behind f, which did not succeed: submit `f` again\n"), "{said}");
}

#[test]
fn a_worker_counts_and_tells_only_what_its_own_runners_did() {
    let project = ready();
    let worker = project.start(&["work", "--slots", "4"], &[]);
    queue(&project, &shell("own", "exit 5"));
    eventually("its own job ran", || project.places("own") == ["quarantined"]);
    for number in 0..30 {
        assert_eq!(project.run(&shell(&format!("direct-{number}"), "exit 7")).code, 7);
    }
    worker.signal(Signal::TERM);
    let said = worker.wait();
    assert!(said.err.contains("1 job ended: 0 succeeded, 1 did not"), "{}", said.err);
    assert!(!said.err.contains("exited with code 7"), "{}", said.err);
}

#[test]
fn what_an_earlier_attempt_said_is_not_told_again_and_no_retry_starts_before_its_time() {
    let project = ready();
    let policy = json!({"metadata": {"retry_policy": "retry_same", "max_retries": 2,
        "backoff": {"strategy": "linear", "base_seconds": 600}}});
    let name = project.job(&with(shell("later", "exit 3"), &policy));
    project.engine(&["run-job", "-q", "--park", "--job-file", &name]).exits(75);
    let worker = project.start(&["work", "-v"], &[]);
    queue(&project, &shell("own", "true"));
    eventually("the worker works", || project.places("own") == ["done"]);
    // A touch tells the worker of the file.
    let file = std::fs::File::options().append(true).open(project.root("jobs/queued/later.json")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    drop(file);
    queue(&project, &shell("second", "true"));
    eventually("the worker works on", || project.places("second") == ["done"]);
    worker.signal(Signal::TERM);
    let said = worker.wait();
    assert!(!said.err.contains("later started") && !said.err.contains("tried again"), "{}", said.err);
}

#[test]
fn a_retry_is_told_once() {
    let project = ready();
    let policy = json!({"metadata": {"retry_policy": "retry_same", "max_retries": 1,
        "backoff": {"strategy": "linear", "base_seconds": 1}}});
    queue(&project, &with(shell("a", "exit 3"), &policy));
    let said = project.engine(&["work", "--drain", "-v"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(said.err.matches("it will be retried").count(), 1, "{}", said.err);
    assert_eq!(said.err.matches("a started").count(), 2, "{}", said.err);
}

#[test]
fn a_drain_does_not_wait_for_a_lock_that_a_runner_on_another_host_has_left() {
    let project = ready();
    let holder = with(shell("holder", "touch started; exec sleep 600"), &json!({"locks": ["g"]}));
    let name = project.job(&holder);
    let mut runner = silent(&project, &["run-job", "--job-file", &name]);
    eventually("the holder runs", || project.path("started").exists());
    runner.kill().unwrap();
    runner.wait().unwrap();
    eventually("its tool is gone", || processes_with("/holder/1").is_empty());
    let record = project.root("state/jobs/holder.jsonl");
    let line = project.record("holder");
    let mut moved = std::fs::read_to_string(&record).unwrap();
    for (key, other) in [("host", "elsewhere"), ("boot_id", "another")] {
        let here = line["attempts"][0][key].as_str().unwrap();
        moved = moved.replace(&format!("\"{here}\""), &format!("\"{other}\""));
    }
    std::fs::write(&record, moved).unwrap();
    queue(&project, &with(shell("next", "touch ran"), &json!({"locks": ["g"]})));
    let said = project.engine(&["work", "--drain"]).says_with(1);
    assert!(said.contains("engine recover --host-is-dead elsewhere"), "{said}");
    assert!(!project.path("ran").exists());
    project.engine(&["recover", "--host-is-dead", "elsewhere"]).exits(0);
    project.engine(&["work", "--drain"]).exits(0);
    assert!(project.path("ran").exists());
}
