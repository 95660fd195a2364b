//! The door as people and scripts meet it: an id or a key that is there already, what is judged beforehand, and every word of it.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{nth, snapshot, steps};
use crate::support::{Project, Running, Said, eventually, with};

fn job(id: &str, script: &str) -> Value {
    json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}})
}

/// Runs the program with this on standard input.
fn piped(project: &Project, args: &[&str], text: &str) -> Said {
    let mut child = project.command(args).stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    Said::of(&child.wait_with_output().unwrap())
}

fn submit(project: &Project, args: &[&str], jobs: &[Value]) -> Said {
    let text: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    piped(project, &[&["submit"], args, &["-"]].concat(), &text)
}

fn ran(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn is_stopped(running: &Running) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('T')
}

/// The one key file of a project.
fn key_file(project: &Project) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(project.root("state/keys")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    files.pop().unwrap().path()
}

/// What a power loss, a full disk or a person leave of a key file.
const TORN: [&[u8]; 5] = [b"", b"a", b"\0\0\0", b"no id at all!\n", b"\xff\xfe\n"];

#[test]
fn key_records_a_key_file_that_names_nobody_is_of_the_job_that_has_the_key_by_the_records() {
    for torn in TORN {
        let project = Project::new();
        let first = with(job("a", "echo a >> ran"), &json!({"key": "k"}));
        submit(&project, &[], std::slice::from_ref(&first)).exits(0);
        std::fs::write(key_file(&project), torn).unwrap();
        let other = with(job("b", "echo b >> ran"), &json!({"key": "k"}));
        let said = submit(&project, &["--json"], &[other]);
        assert!(said.code == 1 && said.out.contains("\"key_taken\""), "{torn:?}: {} {}", said.out, said.err);
        assert_eq!(std::fs::read(key_file(&project)).unwrap(), b"a\n", "{torn:?}: it is whole again");
        std::fs::write(key_file(&project), torn).unwrap();
        let same = with(job("c", "echo a >> ran"), &json!({"key": "k"}));
        assert_eq!(submit(&project, &[], &[same]).exits(0), "a\n", "{torn:?}");
        std::fs::write(key_file(&project), torn).unwrap();
        assert_eq!(submit(&project, &[], &[first]).exits(0), "a\n", "{torn:?}: the same job again");
    }
}

#[test]
fn key_lock_key_recheck_of_two_claimants_of_a_torn_key_file_one_gets_the_key() {
    for (round, torn) in TORN.iter().cycle().take(20).enumerate() {
        let project = Project::new();
        // Makes the directories, and the key file, of a job that is gone again.
        submit(&project, &[], &[with(job("a", "true"), &json!({"key": "k"}))]).exits(0);
        let file = key_file(&project);
        for gone in ["jobs/queued/a.json", "state/jobs/a.jsonl"] {
            std::fs::remove_file(project.root(gone)).unwrap();
        }
        std::fs::write(&file, torn).unwrap();
        let claimants: Vec<Running> = ["x", "y", "z"]
            .into_iter()
            .map(|id| {
                let name = project.job(&with(job(id, id), &json!({"key": "k"})));
                project.start(&["submit", &name], &[])
            })
            .collect();
        let accepted: Vec<Said> =
            claimants.into_iter().map(Running::wait).filter(|said| said.code == 0).collect();
        assert_eq!(accepted.len(), 1, "round {round}, {torn:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), accepted[0].out);
    }
}

#[test]
fn the_refusal_of_a_long_circle_fits_on_a_screen() {
    let circle: Vec<Value> = (0..300)
        .map(|n| {
            with(job(&format!("j{n}"), "true"), &json!({"depends_on": [format!("j{}", (n + 299) % 300)]}))
        })
        .collect();
    let project = Project::new();
    let said = submit(&project, &[], &circle);
    assert_eq!(said.code, 1);
    assert!(said.err.lines().count() <= 24, "{}", said.err);
    assert!(said.err.contains("(300 jobs)"), "{}", said.err);
    let said = submit(&project, &["--json"], &circle);
    assert_eq!(said.out.lines().count(), 300, "a program is told of each");
    assert!(said.out.len() < 300 * 400, "{}", said.out.len());
}

#[test]
fn a_queued_job_is_run_by_its_own_file_as_the_job_that_it_is() {
    let project = Project::new();
    let a = job("a", "echo a >> ran");
    let file = project.job(&a);
    submit(&project, &[], std::slice::from_ref(&a)).exits(0);
    project.engine(&["run-job", "--job-file", &file]).exits(0);
    assert_eq!((ran(&project).len(), project.record("a")["life"].as_u64()), (1, Some(1)));
    assert_eq!(project.places("a"), ["done"]);
    // `engine requeue` is what the hint after a failure says; the next night runs the same file.
    project.engine(&["requeue", "a"]).exits(0);
    project.engine(&["run-job", "--job-file", &file]).exits(0);
    assert_eq!((ran(&project).len(), project.record("a")["life"].as_u64()), (2, Some(2)));
    // Another content is another job, and the hint says what works.
    submit(&project, &[], &[job("b", "echo b >> ran")]).exits(0);
    let file = project.job(&job("b", "echo changed >> ran"));
    let said = project.engine(&["run-job", "--job-file", &file]);
    assert_eq!(said.code, 125, "{}", said.err);
    assert!(said.err.contains("different content") && said.err.contains("engine cancel b"), "{}", said.err);
    assert_eq!(project.places("b"), ["queued"]);
    project.engine(&["cancel", "b"]).exits(0);
    project.engine(&["run-job", "--job-file", &file]).exits(0);
    assert_eq!(ran(&project), ["a", "a", "changed"]);
}

#[test]
fn a_queued_job_whose_direct_run_can_not_be_recorded_stays_in_the_queue() {
    let project = Project::new();
    let a = job("a", "echo a >> ran");
    let file = project.job(&a);
    submit(&project, &[], &[a]).exits(0);
    let args = ["run-job", "--job-file", &file];
    let at = nth(&steps(&project.copy(), &args), 1, "Append", "state/jobs/a.jsonl").to_string();
    let said = project.engine_with(&args, &[("ENGINE_TEST_FAIL_AT", &at)]);
    // A failed append is made once more by whoever can; the job is there, or it ran, and never gone.
    assert!(project.places("a") == ["queued"] || said.code == 0, "{:?} {}", project.places("a"), said.err);
    if said.code != 0 {
        project.engine(&args).exits(0);
    }
    assert_eq!(ran(&project), ["a"]);
}

#[test]
fn a_parked_job_is_not_run_before_its_time_by_its_own_file() {
    let project = Project::new();
    let retry = json!({"metadata": {"max_retries": 1, "retry_policy": "retry_same",
        "backoff": {"strategy": "linear", "base_seconds": 3600, "jitter": false}}});
    let file = project.job(&with(job("a", "echo a >> ran; exit 1"), &retry));
    let code = |args: &[&str]| project.engine(&[args, &["--job-file", &file]].concat()).code;
    assert_eq!(code(&["run-job", "--park"]), 75);
    assert_eq!(code(&["run-job", "--park"]), 75, "it is left where it is");
    assert_eq!(code(&["run-job"]), 125);
    assert_eq!(ran(&project).len(), 1);
    assert_eq!(project.places("a"), ["queued"]);
}

#[test]
fn output_failure_says_nothing_of_a_job_that_succeeds_in_the_end() {
    let project = Project::without_root();
    let script = "echo out; echo err >&2; test -e second || { touch second; exit 1; }";
    let retry =
        json!({"metadata": {"max_retries": 1, "timeout_second": 5, "backoff": {"strategy": "immediate"}}});
    let flaky = with(job("a", script), &retry);
    let flaky = with(flaky, &json!({"env": {"API_TOKEN": "0123456789abcdef"}}));
    let mut flaky = flaky;
    flaky["metadata"]["retry_policy"] = json!("retry_same");
    let file = project.job(&flaky);
    let run = ["run-job", "--output", "failure", "--job-file", &file];
    let said = project.engine(&run);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    assert_eq!(project.record("a")["attempts"].as_array().unwrap().len(), 2);
    // Of one that fails, all of it.
    let file = project.job(&job("b", "echo out; exit 3"));
    let said = project.engine(&["-v", "run-job", "--output", "failure", "--job-file", &file]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("out\n") && said.err.contains("b failed"), "{}", said.err);
}

#[test]
fn a_direct_run_honors_its_key() {
    let project = Project::new();
    let keyed = |id: &str, script: &str| project.job(&with(job(id, script), &json!({"key": "k"})));
    let run = |file: &str| project.engine(&["run-job", "--job-file", file]);
    run(&keyed("a", "echo a >> ran; exit 4")).exits(4);
    // The same job under another id: its result, and no second run.
    let said = run(&keyed("b", "echo a >> ran; exit 4"));
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("b is already the job `a`"), "{}", said.err);
    assert_eq!(ran(&project).len(), 1);
    let said = run(&keyed("c", "echo c >> ran"));
    assert_eq!(said.code, 125);
    assert!(said.err.contains("the key belongs to the job `a`"), "{}", said.err);
    // The owner runs again, and with another key gives the former one up.
    run(&keyed("a", "echo again >> ran")).exits(0);
    run(&project.job(&with(job("a", "echo other >> ran"), &json!({"key": "k2"})))).exits(0);
    run(&keyed("c", "echo c >> ran")).exits(0);
    assert_eq!(ran(&project), ["a", "again", "other", "c"]);
    // One that waits in the queue is claimed.
    submit(&project, &[], &[with(job("q", "echo q >> ran"), &json!({"key": "q"}))]).exits(0);
    let said = run(&project.job(&with(job("r", "echo q >> ran"), &json!({"key": "q"}))));
    assert_eq!((said.code, project.places("q")), (0, vec!["done".to_owned()]), "{}", said.err);
    assert!(project.places("r").is_empty());
    // A submission knows the keys of direct runs.
    assert_eq!(
        submit(&project, &[], &[with(job("s", "echo c >> ran"), &json!({"key": "k"}))]).exits(0),
        "c\n"
    );
}

/// Starts a keyed job that runs until the file `go` is there.
fn start_keyed(project: &Project, id: &str) -> (Running, String) {
    let keyed =
        |id: &str| with(job(id, "echo x >> ran; until [ -e go ]; do sleep 0.01; done"), &json!({"key": "k"}));
    let running = project.start(&["run-job", "--job-file", &project.job(&keyed(id))], &[]);
    eventually("it runs", || ran(project).len() == 1);
    (running, project.job(&keyed("twin")))
}

#[test]
fn a_key_whose_job_runs_is_running_and_who_waits_gets_its_result() {
    let project = Project::new();
    let (running, twin) = start_keyed(&project, "k1");
    for args in [&[][..], &["--park"], &["--wait", "0"]] {
        let said = project.engine(&[&["run-job", "--json", "--job-file", &twin], args].concat());
        assert_eq!(
            (said.code, &said.json()["reason"]["code"]),
            (125, &json!("id_running")),
            "{args:?}: {}",
            said.err
        );
        assert!(
            said.err.contains("the job `k1` is running") && !said.err.contains("--job-file"),
            "{}",
            said.err
        );
    }
    let said = project.engine(&["run-job", "--json", "--claim", "k1"]);
    assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("id_running")));
    let waiting = project.start(&["run-job", "--json", "--wait", "60", "--job-file", &twin], &[]);
    std::fs::write(project.path("go"), "").unwrap();
    assert_eq!(running.wait().code, 0);
    let said = waiting.wait();
    assert_eq!((said.code, &said.json()["job_id"]), (0, &json!("k1")), "{}", said.err);
    assert_eq!((ran(&project).len(), project.places("twin")), (1, vec![]));
}

#[test]
fn a_key_whose_job_waits_is_parked_with_it_or_waited_for() {
    let project = Project::new();
    let keyed = |id: &str| with(job(id, "echo x >> ran"), &json!({"key": "k"}));
    submit(&project, &[], &[keyed("k1")]).exits(0);
    project.engine(&["hold", "k1"]).exits(0);
    let twin = project.job(&keyed("twin"));
    let said = project.engine(&["run-job", "--park", "--job-file", &twin]);
    assert!(said.code == 75 && said.err.contains("k1 is left in the queue"), "{} {}", said.code, said.err);
    let waiting = project.start(&["run-job", "-v", "--wait", "60", "--job-file", &twin], &[]);
    project.engine(&["release", "k1"]).exits(0);
    waiting.wait().exits(0);
    assert_eq!(project.record("k1")["status"], "succeeded");
}

#[test]
fn the_job_of_a_key_that_was_left_by_a_crash_is_recovered_before_it_is_told() {
    let project = Project::new();
    let (running, twin) = start_keyed(&project, "k1");
    running.signal(Signal::KILL);
    drop(running);
    std::fs::write(project.path("go"), "").unwrap();
    let said = project.engine(&["run-job", "--json", "--wait", "30", "--job-file", &twin]);
    assert_eq!(said.json()["job_id"], "k1", "{}", said.err);
    assert_eq!(project.record("k1")["status"], "quarantined");
}

#[test]
fn an_ended_job_of_a_key_is_told_as_one_that_was_not_run_again() {
    let project = Project::new();
    let keyed = |id: &str, script: &str, key: &str| project.job(&with(job(id, script), &json!({"key": key})));
    let run =
        |args: &[&str], file: &str| project.engine(&[&["run-job"], args, &["--job-file", file]].concat());
    for (id, script, key, code) in [("good", "echo out", "g", 0), ("bad", "echo out; exit 3", "b", 3)] {
        run(&[], &keyed(id, script, key)).exits(code);
        let twin = keyed("twin", script, key);
        let said = run(&[], &twin);
        let told = format!("and was not run again; `engine requeue {id}` runs it again");
        assert!(said.code == code && said.err.contains(&told), "{}", said.err);
        assert!(
            said.err.contains(project.record(id)["result"]["finished_at"].as_str().unwrap()),
            "{}",
            said.err
        );
        let said = run(&["--json"], &twin);
        assert_eq!((said.code, &said.json()["ran"]), (code, &json!(false)));
        let said = run(&["--output", "failure"], &twin);
        assert_eq!((said.code, said.err.is_empty()), (code, code == 0), "{}", said.err);
    }
    assert_eq!(run(&["--json"], &keyed("good", "true", "g")).json()["ran"], Value::Null, "one that was run");
}

#[test]
fn a_queued_job_is_the_one_of_its_file_as_it_was_accepted_too() {
    for end in ["", "\n"] {
        let project = Project::new();
        let text = format!("{}{end}", job("a", "echo first >> ran"));
        piped(&project, &["submit", "-"], &text).exits(0);
        // What stands there now waits for a lock that the other file does not name.
        let edited = with(job("a", "echo edited >> ran"), &json!({"locks": ["gpu"]}));
        std::fs::write(project.root("jobs/queued/a.json"), edited.to_string()).unwrap();
        assert_eq!(piped(&project, &["submit", "--skip-existing", "-"], &text).exits(0), "a\n");
        std::fs::write(project.path("a.json"), &text).unwrap();
        project.engine(&["run-job", "--job-file", "a.json"]).exits(0);
        assert_eq!(
            (ran(&project), project.places("a")),
            (vec!["edited".to_owned()], vec!["done".to_owned()])
        );
        assert!(project.root("state/locks/gpu.0").exists());
    }
}

#[test]
fn a_dry_run_tells_apart_what_would_wait_and_what_has_ended() {
    let project = Project::new();
    project.run(&job("a", "true")).exits(0);
    let said = submit(&project, &["--skip-existing", "--dry-run"], &[job("a", "true"), job("b", "true")]);
    let told = "1 job would be in the queue, 1 job runs or has ended and would be left as it is, 0 refused";
    assert!(said.code == 0 && said.err.contains(told), "{}", said.err);
}

#[test]
fn skip_existing_skips_the_same_and_refuses_what_was_changed() {
    let project = Project::new();
    submit(&project, &[], &[job("a", "echo a"), job("b", "echo b")]).exits(0);
    project.engine(&["run-job", "--claim", "b"]).exits(0);
    let same =
        submit(&project, &["--skip-existing"], &[job("a", "echo a"), job("b", "echo b"), job("c", "true")]);
    assert_eq!(same.exits(0), "a\nb\nc\n");
    for (id, way) in [("a", "engine cancel a"), ("b", "engine requeue b")] {
        let said = submit(&project, &["--skip-existing"], &[job(id, "echo changed"), job("d", "true")]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
        assert!(
            said.err.contains("different content") && said.err.contains("a new `job_id`"),
            "{}",
            said.err
        );
        assert!(said.err.contains(way), "{}", said.err);
        let said = submit(&project, &["--skip-existing", "--json", "--dry-run"], &[job(id, "echo changed")]);
        assert!(said.out.contains("\"id_changed\""), "{}", said.out);
    }
    assert!(project.places("d").is_empty(), "all of a batch or none");
    // A person edited the queued file: what was accepted is still the same job.
    let queued = project.root("jobs/queued/a.json");
    let edited = std::fs::read_to_string(&queued).unwrap().replace("echo a", "echo edited");
    std::fs::write(&queued, edited).unwrap();
    assert_eq!(submit(&project, &["--skip-existing"], &[job("a", "echo a")]).exits(0), "a\n");
    assert!(std::fs::read_to_string(&queued).unwrap().contains("edited"));
}

#[test]
fn a_dry_run_judges_everything_and_writes_nothing() {
    let project = Project::new();
    let old = with(job("old", "echo old"), &json!({"key": "k"}));
    submit(&project, &[], &[old]).exits(0);
    let before = snapshot(&project);
    let new = [
        job("a", "true"),
        with(job("b", "true"), &json!({"depends_on": ["a"]})),
        with(job("c", "echo old"), &json!({"key": "k"})),
        job("old", "echo old"),
    ];
    let said = submit(&project, &["--dry-run"], &new[..3]);
    assert_eq!((said.code, said.out.as_str()), (0, "a\nb\nold\n"), "{}", said.err);
    assert!(said.err.contains("nothing was written"), "{}", said.err);
    let said = submit(&project, &["--dry-run", "--json", "--keep-going"], &new);
    assert_eq!(said.code, 1, "{}", said.err);
    let told: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let how: Vec<&str> = told.iter().map(|one| one["submitted"].as_str().unwrap()).collect();
    assert_eq!(how, ["refused", "accepted", "accepted", "reused"]);
    let bad =
        [with(job("x", "true"), &json!({"depends_on": ["y"]})), with(job("z", "no"), &json!({"key": "k"}))];
    let said = submit(&project, &["--dry-run"], &bad);
    assert!(said.code == 1 && said.out.is_empty(), "{}", said.out);
    assert!(
        said.err.contains("nor known here") && said.err.contains("belongs to the job `old`"),
        "{}",
        said.err
    );
    assert_eq!(snapshot(&project), before);
    let nowhere = Project::without_root();
    let said = submit(&nowhere, &["--dry-run"], &new[..2]);
    assert_eq!(said.exits(0), "a\nb\n");
    assert!(!nowhere.root("").exists());
}

#[test]
fn a_submitter_that_stands_still_is_waited_for_once_and_not_for_each_id() {
    let project = Project::new();
    submit(&project, &[], &[job("other", "true")]).exits(0);
    let batch: Vec<Value> = (0..6).map(|n| job(&format!("j{n}"), "true")).collect();
    let text: String = batch.iter().map(|job| format!("{job}\n")).collect();
    std::fs::write(project.path("batch.jsonl"), text).unwrap();
    let args = ["submit", "batch.jsonl"];
    let at = nth(&steps(&project.copy(), &args), 1, "Rename", "jobs/queued/").to_string();
    let stopped = project.start(&args, &[("ENGINE_TEST_STOP_AT", &at)]);
    eventually("the first submitter stands still", || is_stopped(&stopped));
    let begun = Instant::now();
    let said = project.engine(&["submit", "--keep-going", "--json", "batch.jsonl"]);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!(said.code, 1);
    assert_eq!(said.out.matches("\"id_busy\"").count(), 6, "{}", said.out);
    // Nothing was written for them, and so nothing was asked.
    let said = project.engine(&["cancel", "--no-wait", "--json", "j0"]);
    assert_eq!((said.code, &said.json()["done"]), (1, &json!("busy")), "{}", said.out);
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.wait().exits(0).lines().count(), 6);
}

/// What others are told of a job that runs by its own key and file, or has ended so.
fn is_one_job_for_all(project: &Project, at: &str) {
    let same = |said: Said| assert_eq!(said.exits(0), "a\n", "{at}");
    same(project.engine(&["submit", "twin.json"]));
    same(project.engine(&["submit", "--skip-existing", "spaced.json"]));
    let said = project.engine(&["run-job", "--json", "--job-file", "twin.json"]);
    let reason = &said.json()["reason"]["code"];
    assert!(said.code == 0 || reason == "id_running", "{at}: {} {}", said.out, said.err);
    let said = project.engine(&["submit", "other.json"]);
    assert!(said.err.contains("different content"), "{at}: {}", said.err);
    let said = project.engine(&["explain", "a"]).exits(0);
    for wrong in ["was not moved", "engine recover", "is not in jobs/", "job file is missing"] {
        assert!(!said.contains(wrong), "{at}: {said}");
    }
    let said = project.engine(&["doctor", "--json"]).json();
    for check in said["checks"].as_array().unwrap() {
        let is_of_jobs = ["journal", "jobs", "ended_files"].iter().any(|name| check["check"] == *name);
        assert!(!is_of_jobs || check["verdict"] == "ok", "{at}: {check:#}");
    }
}

#[test]
fn a_job_that_starts_or_ends_is_the_job_of_its_id_and_key_at_each_step() {
    let before = Project::new();
    let keyed = |id: &str, script: &str| with(job(id, script), &json!({"key": "k"}));
    let a = keyed("a", "[ $ENGINE_ATTEMPT != ${ENGINE_ATTEMPT%/2} ]");
    let a =
        with(a, &json!({"metadata": {"retry_policy": "retry_same", "backoff": {"strategy": "immediate"}}}));
    before.job(&a);
    before.job(&with(a.clone(), &json!({"job_id": "twin"})));
    std::fs::write(before.path("spaced.json"), format!("{a:#}")).unwrap();
    before.job(&keyed("other", "false"));
    let args = ["run-job", "--job-file", "a.json"];
    let all = steps(&before.copy(), &args);
    let mut looked = 0;
    for step in all.iter().filter(|step| ["Sync", "Rename"].contains(&step.kind.as_str())) {
        let project = before.copy();
        let running = project.start(&args, &[("ENGINE_TEST_STOP_AT", &step.number.to_string())]);
        eventually("it stands", || is_stopped(&running));
        let place = project.record_if_any("a").and_then(|line| line["place"].as_str().map(str::to_owned));
        // `done` has days.
        let is_between =
            place.is_some_and(|place| !project.places("a").iter().any(|at| place.starts_with(at)));
        if is_between {
            is_one_job_for_all(&project, &format!("{step:?}"));
            looked += 1;
        }
        running.signal(Signal::CONT);
        let said = running.wait();
        assert_eq!(said.code, 0, "{step:?}: {}", said.err);
        assert_eq!(project.record("a")["attempts"].as_array().unwrap().len(), 2, "{step:?}");
    }
    assert!(looked >= 8, "{looked} of {all:#?}");
}

#[test]
fn a_job_whose_file_is_gone_is_not_called_another_job() {
    let project = Project::new();
    let keyed = |id: &str| with(job(id, "true"), &json!({"key": "k"}));
    project.run(&keyed("a")).exits(0);
    let done = project.root(&format!("jobs/{}/a.json", project.record("a")["place"].as_str().unwrap()));
    std::fs::remove_file(done).unwrap();
    let said = submit(&project, &[], &[keyed("b")]);
    assert!(said.code == 1 && said.err.contains("its file is missing"), "{}", said.err);
    assert!(!said.err.contains("different content"), "{}", said.err);
    std::fs::write(project.path("spaced.json"), format!("{:#}", keyed("a"))).unwrap();
    let said = project.engine(&["submit", "--skip-existing", "--json", "spaced.json"]);
    assert!(said.code == 1 && said.out.contains("\"job_file_unreadable\""), "{} {}", said.out, said.err);
    // The very bytes that were accepted are known without the file.
    assert_eq!(project.engine(&["submit", "--skip-existing", "a.json"]).exits(0), "a\n");
}

#[test]
fn an_unknown_adapter_is_told_at_the_door_with_the_nearest_and_accepted() {
    let project = Project::new();
    let typo = with(job("a", "true"), &json!({"tool": "shel"}));
    let said = submit(&project, &[], std::slice::from_ref(&typo));
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "a\n"),
        "it may be meant for another machine: {}",
        said.err
    );
    assert!(said.err.contains("-:1:") && said.err.contains("/tool: "), "{}", said.err);
    assert!(said.err.contains("no adapter `shel` (did you mean `shell`?)"), "{}", said.err);
    let escalates = json!({"metadata": {"retry_policy": "escalate_to_clod"}});
    let file = project.job(&with(job("b", "true"), &escalates));
    let said = project.engine(&["validate", &file]).exits(0);
    assert!(said.contains("/metadata/retry_policy: there is no adapter `clod`"), "{said}");
    assert!(said.contains("(did you mean `escalate_to_claude`?)"), "{said}");
    let said = project.engine(&["submit", "-q", &project.job(&typo).replace("a.json", "b.json")]);
    assert_eq!(said.err, "", "quiet is quiet");
}

#[test]
fn what_is_not_here_is_told_alike_by_validate_and_submit_and_a_torn_manifest_is_told_once() {
    let project = Project::new();
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root("adapters/torn.json"), r#"{"id": "torn""#).unwrap();
    let absent = r#""command": {"exe": "no-such-program"}}"#;
    let text = [
        r#"{"job_id": "a", "tool": "torn"}"#.to_owned(),
        format!("{{\"job_id\": \"b\", \"tool\": \"shell\",\n {absent}"),
        r#"{"job_id": "c", "tool": "shell", "depends_on": ["b"], "command": {"exe": "./made"}, "stdin": {"file": "made"}}"#
            .to_owned(),
    ]
    .join(",\n");
    let text = format!("[{text}]");
    let validated = piped(&project, &["validate", "-"], &text).exits(0);
    let told: Vec<&str> = validated.lines().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(told.len(), 2, "{validated}");
    assert!(told[0].starts_with("-:1:26: warning: /tool: the job cannot start here: `"), "{}", told[0]);
    assert!(told[0].contains("torn.json` is not a valid adapter manifest"), "{}", told[0]);
    assert_eq!(
        told[1],
        "-:3:21: warning: /command/exe: the job cannot start here: there is no program `no-such-program`: \
         is it installed, and in PATH?"
    );
    let submitted = piped(&project, &["submit", "-"], &text);
    let same = |line: &str| submitted.err.contains(&line.replacen(": warning", "", 1));
    assert!(submitted.code == 0 && told.iter().all(|line| same(line)), "{}", submitted.err);
    assert_eq!(submitted.err.lines().count(), 2, "{}", submitted.err);
}

#[test]
fn validate_takes_what_submit_takes_and_places_what_is_missing_here() {
    let project = Project::new();
    let lines = format!("{}\n{}\n", job("a", "true"), json!({"job_id": "b", "tool": 5}));
    let array = format!("[{},\n {}]", job("a", "true"), job("b", "true"));
    let objects = format!("{:#}\n{:#}\n", job("a", "true"), job("b", "true"));
    let said = piped(&project, &["validate", "-"], &lines);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("-:2:"), "{}", said.out);
    for text in [&array, &objects] {
        assert_eq!(piped(&project, &["validate", "-"], text).exits(0), "-: valid, 2 jobs\n");
    }
    assert_eq!(piped(&project, &["validate", "-"], "").code, 1);
    let cases = [
        (
            json!({"command": {"exe": "no-such-program"}}),
            "/command/exe: the job cannot start here: there is no program",
        ),
        (
            json!({"stdin": {"file": "missing.txt"}}),
            "/stdin/file: the job cannot start here: there is no file",
        ),
        (json!({"paths": {"working_dir": "nowhere"}}), "/paths/working_dir: the job cannot start here"),
        (json!({"paths": {"repo_root": "nowhere"}}), "/paths/repo_root: the job cannot start here"),
        (json!({"env": {"A=B": "c"}}), "/env/A=B: the job cannot start here"),
    ];
    for (more, want) in cases {
        let text = format!("{:#}", with(job("a", "true"), &more));
        let said = piped(&project, &["validate", "-"], &text).exits(0);
        assert!(said.contains(&format!("warning: {want}")), "{said}");
        assert!(!said.starts_with("-:1:1:"), "the place is told: {said}");
    }
    // What is wrong does not hide what is only doubtful.
    let both = with(job("a", "true"), &json!({"priorty": "high", "metadata": {"timeout": 5}}));
    let said = piped(&project, &["validate", "-"], &both.to_string()).exits(1);
    assert!(said.contains("/priorty") && said.contains("warning: /metadata/timeout"), "{said}");
}

#[test]
fn of_the_values_of_a_job_that_it_would_not_start_for_validate_hides_none_behind_another() {
    let project = Project::new();
    let places = |document: &Value| {
        let said = piped(&project, &["validate", "--json", "-"], &document.to_string());
        let file: Value = serde_json::from_str(&said.exits(0)).unwrap();
        assert_eq!(file["valid"], true);
        let warnings = file["warnings"].as_array().unwrap().iter();
        warnings.map(|warning| warning["pointer"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut all = json!({
        "job_id": "a", "tool": "shell", "command": {"exe": "no-such-program"}, "stdin": {"file": "/no-such-file"},
        "paths": {"repo_root": "nowhere", "working_dir": "/nowhere"}, "env": {"A": {"from_env": "NO"}, "B=C": "d"},
        "metadata": {"retry_policy": "escalate_to_clod"},
    });
    let here = ["/metadata/retry_policy", "/command/exe"];
    let rest = ["/paths/repo_root", "/paths/working_dir", "/env/A", "/env/B=C", "/stdin/file"];
    assert_eq!(places(&all), [here.as_slice(), &rest].concat());
    // What another job may make is not told; the job itself is.
    all["depends_on"] = json!(["nonex"]);
    assert_eq!(places(&all), [here.as_slice(), &["/env/A", "/env/B=C", "/depends_on/0"]].concat());
    // Where a place hangs on another one, only that is told; of a file in it nothing is known.
    all["depends_on"] = json!([]);
    all["paths"]["working_dir"] = "nowhere".into();
    all["stdin"]["file"] = "no-such-file".into();
    assert_eq!(places(&all), [here.as_slice(), &["/paths/repo_root", "/env/A", "/env/B=C"]].concat());
    let mut prompt = json!({
        "job_id": "b", "tool": "claude", "stdin": {"file": "no-1"}, "env": {"A": {"from_env": "NO"}},
        "metadata": {"message_file": "no-2"},
    });
    let told = places(&prompt);
    assert!(
        told.ends_with(&["/env/A", "/stdin/file", "/metadata/message_file"].map(str::to_owned)),
        "{told:?}"
    );
    prompt["metadata"] = json!({"keep": ["sccache"]});
    let told = places(&prompt);
    assert!(told.ends_with(&["/env/A", "/metadata/keep", "/metadata"].map(str::to_owned)), "{told:?}");
}

#[test]
fn validate_finds_the_place_of_a_path_by_its_key_and_not_by_the_words_of_a_message() {
    let project = Project::new();
    let named = with(job("a", "true"), &json!({"paths": {"working_dir": "of `paths.repo_root`"}}));
    let said = piped(&project, &["validate", "-"], &named.to_string()).exits(0);
    assert!(said.contains("warning: /paths/working_dir: ") && !said.contains("/paths/repo_root: "), "{said}");
}

#[test]
fn a_record_that_cannot_be_read_is_a_warning_of_the_dependency_and_hides_no_other_file() {
    let project = Project::new();
    std::fs::create_dir_all(project.root("state/jobs/odd.jsonl")).unwrap();
    for (id, on) in [("a", "odd"), ("b", "nonex"), ("c", "odd")] {
        project.job(&with(job(id, "true"), &json!({"depends_on": [on]})));
    }
    let said = project.engine(&["validate", "a.json", "b.json", "c.json"]).exits(0);
    let odd = "warning: /depends_on/0: cannot check whether `odd` is known here: ";
    assert_eq!(said.matches(odd).count(), 2, "{said}");
    assert!(said.contains("the job depends on `nonex`") && said.ends_with("c.json: valid\n"), "{said}");
    // If the job is in one of the files, nothing is looked for.
    project.job(&job("odd", "true"));
    assert!(!project.engine(&["validate", "a.json", "odd.json"]).exits(0).contains("warning"));
}

#[test]
fn a_file_that_waits_for_no_later_one_is_told_before_the_next_is_read() {
    let project = Project::new();
    let first = project.job(&job("a", "true"));
    // The second one is a pipe, which has its end only when the first one was told.
    let told = std::fs::File::create(project.path("told")).unwrap();
    let mut validate = project.command(&["validate", &first, "-"]);
    let mut validate = validate.stdin(Stdio::piped()).stdout(told).spawn().unwrap();
    let told = || std::fs::read_to_string(project.path("told")).unwrap();
    eventually("the first file is told", || told() == "a.json: valid\n");
    drop(validate.stdin.take());
    assert_eq!(validate.wait().unwrap().code(), Some(1), "standard input holds no job");
}

#[test]
fn validate_warns_of_a_dependency_that_is_in_none_of_the_files_and_not_known_here() {
    let project = Project::new();
    submit(&project, &[], &[job("waits", "true")]).exits(0);
    project.run(&job("ended", "true")).exits(0);
    let depends = |id: &str, on: Value| with(job(id, "true"), &json!({"depends_on": on}));
    let lines = |documents: &[Value]| documents.iter().map(|d| format!("{d}\n")).collect::<String>();
    let here = [depends("a", json!(["waits", "ended", "b", "later", "nonex"])), job("b", "true")];
    std::fs::write(project.path("first.jsonl"), lines(&here)).unwrap();
    // One that is not valid is refused for that; who depends on it is no mistake.
    let other = [json!({"job_id": "later", "tool": 5}), depends("c", json!(["b", "later"]))];
    std::fs::write(project.path("second.jsonl"), lines(&other)).unwrap();
    let said = project.engine(&["validate", "first.jsonl", "second.jsonl"]).exits(1);
    let told: Vec<&str> = said.lines().filter(|line| line.contains("depends_on")).collect();
    assert_eq!(told.len(), 1, "{said}");
    let want =
        "warning: /depends_on/4: the job depends on `nonex`, which is neither in the batch nor known here";
    assert!(told[0].starts_with("first.jsonl:1:") && told[0].ends_with(want), "{said}");
    let alone = project.engine(&["validate", "first.jsonl"]).exits(0);
    assert!(alone.contains("/depends_on/3") && alone.ends_with("first.jsonl: valid, 2 jobs\n"), "{alone}");
    let said = project.engine(&["validate", "first.jsonl", "missing.jsonl"]);
    assert!(said.code == 125 && said.out == alone, "what was read before is told: {}", said.out);
}

#[test]
fn what_is_handed_to_a_plugin_is_not_called_ignored() {
    let project = Project::new();
    let plugin =
        json!({"job_id": "a", "tool": "plugin", "command": {"exe": "true"}, "metadata": {"models": "m"}});
    let said = piped(&project, &["validate", "-"], &plugin.to_string()).exits(0);
    assert_eq!(said, "-: valid\n");
    let shell = with(job("a", "true"), &json!({"metadata": {"models": "m"}}));
    let said = piped(&project, &["validate", "-"], &shell.to_string()).exits(0);
    assert!(said.contains("did you mean `model`"), "{said}");
}

#[test]
fn a_new_agent_job_limits_nothing_without_saying_so() {
    let project = Project::new();
    for tool in ["claude", "codex", "gemini", "aider"] {
        let document = project.engine(&["new", tool, "--file", "-"]).json();
        assert!(document["metadata"]["files_scope"].is_null(), "an empty scope is no scope: {document}");
    }
}

#[test]
fn wrong_usage_is_answered_with_the_right_form() {
    let project = Project::new();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["run-job"], &["run-job [OPTIONS] --job-file <FILE>", "run-job [OPTIONS] -- <COMMAND>..."]),
        (&["run-job", "job.json"], &["--job-file <FILE>"]),
        (&["run-job", "make", "test"], &["-- <COMMAND>..."]),
        (&["requeue", "--failed"], &["requeue [OPTIONS] --run <RUN> --failed"]),
        (&["hold"], &["hold [OPTIONS] --all", "hold [OPTIONS] <ID>..."]),
        (&["wait"], &["wait [OPTIONS] --run <RUN>", "wait [OPTIONS] <ID>..."]),
        (&["submit"], &["submit [OPTIONS] <FILE>...", "submit [OPTIONS] -- <COMMAND>..."]),
    ];
    for (args, wanted) in cases {
        let said = project.engine(args);
        assert_ne!(said.code, 0);
        for want in wanted {
            assert!(said.err.contains(want), "{args:?}: {}", said.err);
        }
    }
}

#[test]
fn a_hint_works_where_it_is_printed() {
    let project = Project::new();
    let elsewhere = Project::without_root();
    let root = project.dir().to_str().unwrap();
    let said = elsewhere.engine(&["run-job", "--root", root, "--", "false"]);
    assert!(said.err.contains(&format!("engine --root {root} show ")), "{}", said.err);
    let hint = said.err.lines().find_map(|line| line.split_once("hint: ")).unwrap().1.to_owned();
    let words: Vec<&str> = hint.split(' ').skip(1).collect();
    elsewhere.engine(&words).exits(0);
    let said = project.engine(&["run-job", "--", "false"]);
    assert!(said.err.contains("hint: engine show "), "{}", said.err);
    // So does one that is printed as data.
    submit(&project, &[], &[job("waits", "true"), job("held", "true")]).exits(0);
    let said = elsewhere.engine(&["explain", "--root", root, "waits"]).exits(0);
    let hint = said.lines().find_map(|line| line.split_once("-> ")).unwrap().1;
    let commands =
        format!("engine --root {root} work, or for this one: engine --root {root} run-job --claim waits");
    assert_eq!(hint, commands, "{said}");
    let words: Vec<&str> = hint.rsplit_once("engine ").unwrap().1.split(' ').collect();
    elsewhere.engine(&words).exits(0);
    let said = project.engine(&["explain", "held"]).exits(0);
    assert!(said.contains("-> engine work, or for this one: engine run-job --claim held"), "{said}");
    project.engine(&["hold", "--all"]).exits(0);
    let said = elsewhere.engine(&["doctor", "--root", root]).out;
    assert!(said.contains(&format!("no job starts: engine --root {root} release --all")), "{said}");
    let said = elsewhere.engine(&["explain", "--root", root, "held", "--json"]).exits(0);
    assert!(!said.contains("--root"), "a document is the same everywhere: {said}");
    project.engine(&["release", "--all"]).exits(0);
    // A time of the job's own is not passed by a new life: the hint says what passes it.
    let later = with(job("later", "true"), &json!({"not_before": "2999-01-01T00:00:00Z"}));
    submit(&project, &[], &[later]).exits(0);
    let said = project.engine(&["run-job", "--claim", "later"]);
    assert!(said.err.contains("take `not_before` out of"), "{}", said.err);
    let said = submit(&project, &[], &[job("later", "echo")]);
    assert!(
        said.err.contains("engine requeue ID") && said.err.contains("run-job --job-file"),
        "{}",
        said.err
    );
}

#[test]
fn a_hold_of_an_ended_job_says_when_it_counts() {
    let project = Project::new();
    project.run(&job("a", "true")).exits(0);
    let said = project.engine(&["hold", "a"]);
    assert!(said.code == 0 && said.err.contains("has ended (succeeded)"), "{}", said.err);
}

#[test]
fn wait_reads_ids_and_says_when_there_is_none() {
    let project = Project::new();
    project.run(&job("a", "true")).exits(0);
    assert_eq!(piped(&project, &["wait", "-"], "a\n").code, 0);
    project.run(&job("b", "exit 3")).exits(3);
    assert_eq!(piped(&project, &["wait", "-"], "a\nb\n").code, 1);
    let said = piped(&project, &["wait", "-"], "");
    assert!(said.code == 1 && said.err.contains("no ids on standard input"), "{}", said.err);
}

#[test]
fn an_interrupted_wait_cancels_what_has_not_ended_if_asked() {
    let project = Project::new();
    submit(&project, &[], &[job("a", "true"), job("b", "true")]).exits(0);
    let waiting = project.start(&["wait", "--cancel-on-interrupt", "a", "b"], &[]);
    let heeds = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", waiting.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & (1 << (libc::SIGINT - 1)) != 0
    };
    eventually("it heeds signals", heeds);
    waiting.signal(Signal::INT);
    assert_eq!(waiting.wait().code, 130);
    for id in ["a", "b"] {
        assert_eq!(project.record(id)["status"], "canceled");
    }
    // Without it an interrupted wait only ends.
    submit(&project, &[], &[job("c", "true")]).exits(0);
    let waiting = project.start(&["wait", "c"], &[]);
    eventually("it waits", || {
        std::fs::read_link(format!("/proc/{}/exe", waiting.pid())).is_ok_and(|exe| exe.ends_with("engine"))
    });
    waiting.signal(Signal::INT);
    assert_eq!(waiting.wait().code, -libc::SIGINT);
    assert_eq!(project.places("c"), ["queued"]);
}

#[test]
fn an_interrupt_while_the_ids_are_read_cancels_those_that_were_read() {
    for signal in [Signal::INT, Signal::TERM] {
        let project = Project::new();
        submit(&project, &[], &[job("a", "true"), job("ab", "true")]).exits(0);
        let args = ["wait", "--cancel-on-interrupt", "-"];
        let mut waiting = project.command(&args).stdin(Stdio::piped()).spawn().unwrap();
        let mut ids = waiting.stdin.take().unwrap();
        // The last line is cut off: `a` may become `ab`.
        ids.write_all(b"ab\na").unwrap();
        eventually("all is read", || rustix::io::ioctl_fionread(&ids).unwrap() == 0);
        let pid = rustix::process::Pid::from_child(&waiting);
        rustix::process::kill_process(pid, signal).unwrap();
        let ended = waiting.wait().unwrap();
        assert_eq!(ended.code(), Some(128 + signal.as_raw()));
        assert_eq!(
            (&project.record("ab")["status"], project.places("a")),
            (&json!("canceled"), vec!["queued".to_owned()])
        );
    }
}

#[test]
fn what_gc_has_retired_is_said_by_every_verb_that_cannot_do_anything_to_it() {
    let project = with_archive();
    for args in [&["cancel", "a"][..], &["hold", "a"], &["release", "a"]] {
        let said = project.engine(args);
        assert_eq!(said.code, 1);
        assert!(
            format!("{}{}", said.out, said.err).contains("gc has retired the job `a` (succeeded)"),
            "{args:?}: {}{}",
            said.out,
            said.err
        );
    }
    assert_eq!(project.engine(&["cancel", "--json", "a"]).json()["done"], "archived");
    assert_eq!(project.engine(&["cancel", "--json", "nobody"]).json()["done"], "not_found");
}

#[test]
fn a_run_that_gc_has_retired_is_judged_by_the_archive() {
    let project = Project::new();
    for (id, run, code) in [("a", "good", 0), ("b", "bad", 0), ("c", "bad", 3)] {
        let more = json!({"run_id": run, "on_failure": "done"});
        project.run(&with(job(id, &format!("exit {code}")), &more)).exits(code);
    }
    project.engine(&["gc", "--older-than", "0s"]).exits(0);
    project.engine(&["wait", "--run", "good"]).exits(0);
    let said = project.engine(&["wait", "--run", "bad", "--json"]);
    assert!(said.code == 1 && said.out.lines().count() == 2 && said.err.contains("c failed"), "{}", said.err);
    let said = project.engine(&["requeue", "--run", "bad", "--failed"]);
    assert!(said.code == 1 && said.err.contains("gc has retired the jobs of the run `bad`"), "{}", said.err);
    let said = project.engine(&["wait", "--run", "none"]);
    assert!(said.code == 1 && said.err.contains("no job of a run `none`"), "{}", said.err);
    // An id that another job has by now is of that one's run.
    project.run(&with(job("a", "exit 0"), &json!({"run_id": "later"}))).exits(0);
    assert_eq!(project.engine(&["wait", "--run", "good"]).code, 1);
}

#[test]
fn a_failed_dependency_in_the_archive_is_to_be_submitted_again() {
    let project = with_archive();
    submit(&project, &[], &[with(job("d", "true"), &json!({"depends_on": ["b"]}))]).exits(0);
    let said = project.engine(&["explain", "d"]).exits(0);
    assert!(
        said.contains("which was failed when gc retired it") && said.contains("-> submit `b` again"),
        "{said}"
    );
    let said = project.engine(&["wait", "d"]);
    assert!(said.code == 1 && said.err.contains("d waits for b: submit `b` again"), "{}", said.err);
    assert!(!format!("{}{}", said.out, said.err).contains("requeue"), "{}", said.err);
}

/// A project in which gc has retired `a`, which succeeded, and `b`, which failed.
fn with_archive() -> Project {
    let project = Project::new();
    project.run(&job("a", "true")).exits(0);
    project.run(&with(job("b", "exit 3"), &json!({"on_failure": "done"}))).exits(3);
    project.engine(&["gc", "--older-than", "0s"]).exits(0);
    assert!(project.record_if_any("a").is_none() && project.record_if_any("b").is_none());
    project
}

#[test]
fn a_dependency_that_gc_has_retired_is_judged_by_the_archive() {
    let project = with_archive();
    let on =
        |id: &str, other: &str| with(job(id, "echo $ENGINE_JOB_ID >> ran"), &json!({"depends_on": [other]}));
    submit(&project, &[], &[on("c", "a"), on("d", "b")]).exits(0);
    let said = submit(&project, &[], &[on("e", "nobody")]);
    assert!(said.code == 1 && said.err.contains("nor known here"), "{}", said.err);
    let _ = project.engine(&["-q", "work", "--drain"]);
    assert_eq!(project.record("c")["status"], "succeeded");
    assert_eq!(project.record("c")["attempts"][0]["dependencies"][0]["job_id"], "a");
    assert_eq!(project.places("d"), ["queued"]);
    assert!(project.engine(&["explain", "d"]).out.contains("it depends on `b`, which was failed"));
    assert!(project.engine(&["list"]).out.contains("waiting_dependency"));
    // A direct run judges it likewise.
    project.run(&on("f", "a")).exits(0);
    assert_eq!(project.run(&on("g", "b")).json()["reason"]["code"], "waiting_dependency");
    // Without its index.
    std::fs::remove_dir_all(project.root("state/cache")).unwrap();
    project.run(&on("h", "a")).exits(0);
    // A new job of the name counts in its place.
    submit(&project, &[], &[job("b", "true")]).exits(0);
    project.engine(&["-q", "work", "--drain"]).exits(0);
    assert_eq!(project.record("d")["status"], "succeeded");
}

#[test]
fn wait_and_requeue_know_what_gc_has_retired() {
    let project = with_archive();
    project.engine(&["wait", "a"]).exits(0);
    let said = project.engine(&["wait", "a", "b", "--json"]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("\"judged_by\":\"a\"") && said.out.contains("\"status\":\"failed\""),
        "{}",
        said.out
    );
    let said = project.engine(&["requeue", "a"]);
    assert!(said.code == 1 && said.err.contains("gc has retired it (state/archive/"), "{}", said.err);
    let said = project.engine(&["wait", "nobody"]);
    assert!(said.code == 1 && said.err.contains("there is no job `nobody`"), "{}", said.err);
}

/// The names below `jobs/` that begin with the id, sorted, with what is in them.
fn files_of(project: &Project, id: &str) -> Vec<(String, String)> {
    let jobs = project.root("jobs");
    let mut found = Vec::new();
    let mut ahead = vec![jobs.clone()];
    while let Some(dir) = ahead.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                ahead.push(path);
            } else if name.starts_with(id) && !name.ends_with(".reason.json") {
                let relative = path.strip_prefix(&jobs).unwrap().display().to_string();
                found.push((relative, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_second_file_of_an_id_is_a_duplicate_and_the_one_of_the_record_stays() {
    use std::os::unix::fs::PermissionsExt;
    let put = |project: &Project, place: &str, text: &str| {
        let dir = project.root("jobs").join(place);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(dir.join("a.json"), text).unwrap();
        std::fs::set_permissions(dir.join("a.json"), PermissionsExt::from_mode(0o600)).unwrap();
    };
    let other = job("a", "echo other").to_string();
    for state in ["queued", "done", "quarantined"] {
        let project = Project::new();
        match state {
            "queued" => drop(submit(&project, &[], &[job("a", "true")]).exits(0)),
            "done" => drop(project.run(&job("a", "true")).exits(0)),
            _ => drop(project.run(&job("a", "exit 1")).exits(1)),
        }
        let own = files_of(&project, "a");
        for second in ["queued", "running", "quarantined", "done/2026-01-01"] {
            if own[0].0.starts_with(second) {
                continue;
            }
            let copy = project.copy();
            put(&copy, second, &other);
            // Of a job that waits, a file in `running/` is the beginning of an attempt.
            if (state, second) == ("queued", "running") {
                continue;
            }
            let said = copy.engine(&["doctor", "--repair"]);
            assert_eq!(said.code, 0, "{state} {second}: {}{}", said.out, said.err);
            let left = files_of(&copy, "a");
            assert!(left.contains(&own[0]), "{state} {second}: {left:?}");
            assert!(
                left.contains(&("quarantined/a~1.json".to_owned(), other.clone())),
                "{state} {second}: {left:?}"
            );
            assert_eq!(left.len(), 2, "{state} {second}: {left:?}");
        }
        // One that was only carried elsewhere comes back.
        if state != "queued" {
            let copy = project.copy();
            std::fs::remove_file(copy.root("jobs").join(&own[0].0)).unwrap();
            put(&copy, "done/2026-01-01", &own[0].1);
            copy.engine(&["doctor", "--repair"]).exits(0);
            assert_eq!(files_of(&copy, "a"), own, "{state}");
        }
    }
}
