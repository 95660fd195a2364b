//! The order in which queued jobs are taken, and what is said of it.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Project, eventually};

/// A job that notes that it ran.
fn noting(id: &str, more: &Value) -> Value {
    let script = format!("echo {id} >> order");
    let mut job = json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn submit(project: &Project, jobs: &[Value]) {
    std::fs::write(project.path("batch.json"), Value::from(jobs.to_vec()).to_string()).unwrap();
    project.engine(&["submit", "-q", "batch.json"]).exits(0);
}

fn order(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn codes(project: &Project, id: &str) -> Vec<String> {
    let said = project.engine(&["explain", id, "--json"]).json();
    said["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

fn steps() -> (Vec<Value>, Vec<String>) {
    let names: Vec<String> = (1..=12).map(|number| format!("step-{number}")).collect();
    (names.iter().map(|name| noting(name, &json!({}))).collect(), names)
}

#[test]
fn a_batch_runs_in_its_own_order_and_is_listed_in_it() {
    let project = Project::new();
    let (jobs, names) = steps();
    submit(&project, &jobs);
    assert_eq!(project.record("step-10")["accepted"]["place"], 9);
    // The newest first: what changed in one moment is listed from its last to its first.
    let listed = project.engine(&["list", "--json"]).exits(0);
    let rows: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = rows.iter().rev().map(|row| row["job_id"].as_str().unwrap()).collect();
    assert_eq!(ids, names);
    let text = project.engine(&["explain", "step-10"]).exits(0);
    assert!(text.contains("9 jobs of higher priority or older come first: `step-1`"), "{text}");
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(order(&project), names);
}

#[test]
fn a_batch_that_comes_in_while_a_worker_idles_runs_in_its_own_order() {
    let project = Project::new();
    submit(&project, &[noting("before", &json!({}))]);
    let worker = project.start(&["work"], &[]);
    eventually("the worker works", || project.places("before") == ["done"]);
    let (jobs, names) = steps();
    submit(&project, &jobs);
    eventually("all ran", || order(&project).len() == 13);
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    assert_eq!(order(&project)[1..], names);
}

#[test]
fn an_edited_job_keeps_its_place_also_before_a_worker_that_runs() {
    let project = Project::new();
    submit(&project, &["c", "b", "a"].map(|id| noting(id, &json!({}))));
    project.engine(&["hold", "--all", "-q"]).exits(0);
    let worker = project.start(&["work"], &[]);
    for id in ["c", "b"] {
        let edited = noting(id, &json!({"run_id": "edited"}));
        std::fs::write(project.path("new.json"), edited.to_string()).unwrap();
        std::fs::rename(project.path("new.json"), project.root(&format!("jobs/queued/{id}.json"))).unwrap();
    }
    project.engine(&["release", "--all", "-q"]).exits(0);
    eventually("all ran", || order(&project).len() == 3);
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    assert_eq!(order(&project), ["c", "b", "a"]);
}

#[test]
fn a_retry_keeps_its_acceptance_and_a_new_life_is_a_new_one() {
    let project = Project::new();
    let retries = json!({"metadata": {"retry_policy": "retry_same", "max_retries": 1,
        "backoff": {"strategy": "immediate"}}});
    let mut job = noting("a", &retries);
    job["command"]["args"][1] = "exit 3".into();
    submit(&project, &[noting("other", &json!({})), job]);
    let accepted = project.record("a")["accepted"].clone();
    assert_eq!((&accepted["life"], &accepted["place"]), (&json!(1), &json!(1)));
    project.engine(&["work", "--drain"]).exits(1);
    assert_eq!(project.record("a")["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(project.record("a")["accepted"], accepted);
    project.engine(&["requeue", "a", "-q"]).exits(0);
    let again = project.record("a")["accepted"].clone();
    assert_eq!(again["life"], 2);
    assert!(again["at"].as_str() > accepted["at"].as_str(), "{again} {accepted}");
}

#[test]
fn a_record_of_an_older_program_ranks_by_its_line_and_one_whose_key_is_of_a_former_life_too() {
    let project = Project::new();
    submit(&project, &["b", "a"].map(|id| noting(id, &json!({}))));
    let write = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut line = project.record(id);
        change(&mut line);
        std::fs::write(project.root(&format!("state/jobs/{id}.jsonl")), format!("{line}\n")).unwrap();
    };
    write("b", &|line| {
        line.as_object_mut().unwrap().remove("accepted");
        line["at"] = "2026-01-02T00:00:00.000Z".into();
    });
    write("a", &|line| {
        line["accepted"] = json!({"life": 7, "at": "2020-01-01T00:00:00.000Z", "place": 0});
        line["at"] = "2026-01-03T00:00:00.000Z".into();
    });
    assert_eq!(codes(&project, "b"), ["ready"]);
    assert_eq!(codes(&project, "a"), ["behind"]);
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(order(&project), ["b", "a"]);
}

#[test]
fn what_a_high_job_waits_for_has_its_priority_and_explain_says_so() {
    let project = Project::new();
    submit(
        &project,
        &[
            noting("normal", &json!({})),
            noting("begin", &json!({"priority": "low"})),
            noting("middle", &json!({"priority": "low", "depends_on": ["begin"]})),
            noting("high", &json!({"priority": "high", "depends_on": ["middle"]})),
        ],
    );
    assert_eq!(codes(&project, "begin"), ["ready", "priority_lent"]);
    let text = project.engine(&["explain", "begin"]).exits(0);
    assert!(text.contains("it takes the place of `high` in the order, which waits for it"), "{text}");
    let text = project.engine(&["explain", "normal"]).exits(0);
    assert!(text.contains("comes first: `begin`, for which `high` waits"), "{text}");
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(order(&project), ["begin", "middle", "high", "normal"]);
}

#[test]
fn each_hour_of_waiting_counts_one_priority_and_explain_says_so() {
    let project = Project::new();
    submit(&project, &[noting("high", &json!({"priority": "high"}))]);
    for (id, minutes) in [("young", 110), ("old", 130)] {
        let path = project.root(&format!("jobs/queued/{id}.json"));
        std::fs::write(&path, noting(id, &json!({"priority": "low"})).to_string()).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(minutes * 60)).unwrap();
    }
    assert_eq!(codes(&project, "old"), ["ready", "priority_aged"]);
    let text = project.engine(&["explain", "high"]).exits(0);
    assert!(text.contains("comes first: `old`, of lower priority: each hour"), "{text}");
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(order(&project), ["old", "high", "young"]);
}

/// Puts files of jobs into the queue that wait for each other.
fn circle(project: &Project) {
    project.engine(&["recover", "-q"]).exits(0);
    for (id, on) in [("k1", "k2"), ("k2", "k3"), ("k3", "k1"), ("k4", "k1")] {
        let text = noting(id, &json!({"depends_on": [on]})).to_string();
        std::fs::write(project.path("new.json"), text).unwrap();
        std::fs::rename(project.path("new.json"), project.root(&format!("jobs/queued/{id}.json"))).unwrap();
    }
}

#[test]
fn a_circle_of_files_is_told_by_everything_and_nothing_waits_for_it() {
    let project = Project::new();
    circle(&project);
    let told = "the dependencies run in a circle: `k1` waits for `k2` waits for `k3` waits for `k1`";
    assert!(codes(&project, "k4").contains(&"dependency_circle".to_owned()));
    assert!(project.engine(&["explain", "k1"]).exits(0).contains(told));
    assert!(project.engine(&["status"]).exits(0).contains(told));
    assert_eq!(project.engine(&["status", "--json"]).json()["circles"], json!([["k1", "k2", "k3"]]));
    for id in ["k1", "k4"] {
        let said = project.engine(&["wait", id]);
        assert!(said.err.contains("the dependencies run in a circle: `k"), "{}", said.err);
        said.exits(1);
    }
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains(told) && said.err.contains("k4 waits for ever behind it"), "{}", said.err);
    said.exits(1);
}

#[test]
fn a_circle_that_comes_in_by_an_edit_of_submitted_jobs_is_told_too() {
    let project = Project::new();
    submit(&project, &[noting("a", &json!({})), noting("b", &json!({"depends_on": ["a"]}))]);
    let edited = noting("a", &json!({"depends_on": ["b"]})).to_string();
    std::fs::write(project.root("jobs/queued/a.json"), edited).unwrap();
    assert!(codes(&project, "b").contains(&"dependency_circle".to_owned()));
    let said = project.engine(&["wait", "b"]);
    assert!(said.err.contains("circle"), "{}", said.err);
    said.exits(1);
}

#[test]
fn a_file_that_depends_on_itself_is_no_circle_but_a_file_that_the_next_claim_refuses() {
    let project = Project::new();
    submit(&project, &[noting("edited", &json!({}))]);
    for (id, on) in [("edited", "edited"), ("dropped", "dropped"), ("behind", "edited")] {
        let path = project.root(&format!("jobs/queued/{id}.json"));
        std::fs::write(&path, noting(id, &json!({"depends_on": [on]})).to_string()).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
    let why = "/depends_on/0: the job depends on itself";
    let status = project.engine(&["status"]).exits(0);
    let refused: Vec<&str> =
        status.lines().filter(|line| line.contains("is refused by the next claim: ")).collect();
    assert_eq!(refused.len(), 2, "{status}");
    for (line, id) in refused.iter().zip(["dropped", "edited"]) {
        assert!(line.starts_with(&format!("jobs/queued/{id}.json ")) && line.ends_with(why), "{line}");
    }
    let document = project.engine(&["status", "--json"]).json();
    assert_eq!((&document["circles"], &document["counts"]["queued"]), (&json!([]), &json!(3)));
    assert_eq!(document["refused"][1]["file"], "jobs/queued/edited.json");
    assert_eq!(document["refused"][1]["reason"]["code"], "invalid_job_file");
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("behind waits for edited, which did not succeed"), "{}", said.err);
    said.exits(1);
    for id in ["edited", "dropped", "behind"] {
        project.engine(&["wait", id]).exits(1);
    }
    assert_eq!(project.engine(&["status", "--json"]).json()["refused"], json!([]));
}

#[test]
fn who_waits_for_a_file_behind_a_failed_job_does_not_wait_for_ever() {
    let project = Project::new();
    submit(&project, &[noting("bad", &json!({"command": {"exe": "false"}}))]);
    project.engine(&["work", "--drain"]).exits(1);
    let text = noting("after", &json!({"depends_on": ["bad"]})).to_string();
    std::fs::write(project.root("jobs/queued/after.json"), text).unwrap();
    let said = project.engine(&["wait", "after"]);
    assert!(said.err.contains("after waits for bad: engine requeue bad"), "{}", said.err);
    said.exits(1);
    let said = project.engine(&["work", "--drain"]);
    assert!(
        said.err.contains("after waits for bad, which did not succeed: engine requeue bad"),
        "{}",
        said.err
    );
}

#[test]
fn a_job_that_waits_for_a_lock_says_so_everywhere_and_names_the_lock_that_is_held() {
    let project = Project::new();
    let script = "touch started; until test -e go; do sleep 0.01; done";
    let mut holder = noting("holder", &json!({"locks": ["gpu"]}));
    holder["command"]["args"][1] = script.into();
    submit(&project, &[holder]);
    let worker = project.start(&["work", "--slots", "3", "-v"], &[]);
    eventually("it runs", || project.path("started").exists());
    submit(&project, &[noting("wants", &json!({"locks": ["db", "gpu", "zoo"]})), noting("free", &json!({}))]);
    eventually("the other one ran", || project.places("free") == ["done"]);
    let listed = project.engine(&["list", "--state", "waiting", "--json"]).exits(0);
    let row: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(row["job_id"], "wants");
    assert_eq!(
        row["waiting"],
        json!({"code": "waiting_lock", "message": "the lock `gpu` is held by `holder`"})
    );
    let table = project.engine(&["list", "--state", "queued"]).exits(0);
    assert!(table.contains("waiting_lock"), "{table}");
    assert!(project.engine(&["status"]).exits(0).contains("waiting: 1 for a lock"));
    assert_eq!(codes(&project, "wants"), ["waiting_lock"]);
    worker.signal(Signal::TERM);
    std::fs::write(project.path("go"), "").unwrap();
    worker.wait().exits(0);
}

#[test]
fn a_drain_beside_a_holder_of_another_lock_waits_for_the_one_that_is_held() {
    let project = Project::new();
    let mut holder = noting("holder", &json!({"locks": ["zoo"]}));
    holder["command"]["args"][1] = "touch started; until test -e go; do sleep 0.01; done".into();
    let name = project.job(&holder);
    let direct = project.start(&["run-job", "-q", "--job-file", &name], &[]);
    eventually("it runs", || project.path("started").exists());
    submit(&project, &[noting("wants", &json!({"locks": ["db", "zoo"]}))]);
    let worker = project.start(&["work", "--drain", "-v"], &[]);
    eventually("the worker tried", || {
        codes(&project, "wants") == ["waiting_lock"] && project.root("state/locks/db.0").exists()
    });
    std::fs::write(project.path("go"), "").unwrap();
    direct.wait().exits(0);
    worker.wait().exits(0);
    assert_eq!(order(&project), ["wants"]);
}

#[test]
fn a_file_that_is_no_job_is_listed_in_quarantine_with_its_reason() {
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    let path = project.root("jobs/queued/junk.json");
    std::fs::write(&path, "no json").unwrap();
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    project.engine(&["work", "--drain"]).exits(1);
    assert!(project.root("jobs/quarantined/junk~1.json").exists());
    let listed = project.engine(&["list", "--state", "quarantined"]).exits(0);
    assert!(listed.contains("junk~1.json") && listed.contains("not_a_job_file"), "{listed}");
    let row: Value =
        serde_json::from_str(&project.engine(&["list", "--state", "quarantined", "--json"]).exits(0))
            .unwrap();
    assert_eq!((&row["job_id"], &row["file"]), (&Value::Null, &json!("junk~1.json")));
    assert!(!row["reason"]["message"].as_str().unwrap().is_empty());
    let status = project.engine(&["status"]).exits(0);
    assert!(status.contains("jobs/quarantined/junk~1.json is no job: "), "{status}");
    assert_eq!(project.engine(&["list", "--state", "queued"]).exits(0), "");
    assert_eq!(project.engine(&["list", "--state", "quarantined", "--run", "r"]).exits(0), "");
}

#[test]
fn a_shortage_of_descriptors_at_the_start_parks_the_job_and_uses_up_no_retry() {
    use std::os::unix::process::CommandExt;
    let project = Project::new();
    let mut parked = 0;
    for limit in 9..20u32 {
        let id = format!("a{limit}");
        submit(&project, &[noting(&id, &json!({}))]);
        let mut command = project.command(&["run-job", "--claim", &id]);
        // SAFETY: sets a limit between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit.into(), rlim_max: limit.into() };
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                Ok(())
            });
        }
        let said = command.output().unwrap();
        let record = project.record(&id);
        assert_ne!(record["status"], "quarantined", "{limit}: {record}");
        if record["attempts"][0]["outcome"] == "parked" {
            parked += 1;
            // Where not even a directory can be opened it is not told that the job waits.
            let code =
                if String::from_utf8_lossy(&said.stderr).contains("error: error opening") { 125 } else { 75 };
            assert_eq!((&record["status"], said.status.code()), (&json!("queued"), Some(code)));
            assert_eq!(record["attempts"][0]["reason"]["code"], "start_failed");
            assert!(!record["not_before"].is_null());
        }
    }
    assert!(parked > 0, "no limit met the start of a tool");
}

#[test]
fn a_recovery_that_failed_is_not_remembered_as_the_recovery_of_this_boot() {
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    for verb in [&["recover", "-q"][..], &["doctor", "--repair", "-q"][..]] {
        std::fs::remove_file(project.root("state/boot")).unwrap();
        std::fs::write(project.root("state/jobs/torn.jsonl"), "{\"schema_version\":1}\n").unwrap();
        assert_ne!(project.engine(verb).code, 0);
        assert!(!project.root("state/boot").exists(), "{verb:?}");
        std::fs::remove_file(project.root("state/jobs/torn.jsonl")).unwrap();
        project.engine(&["recover", "-q"]).exits(0);
        assert!(project.root("state/boot").exists());
    }
}

#[test]
fn a_job_whose_file_others_can_write_is_still_of_its_run() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new();
    submit(&project, &[noting("a", &json!({"run_id": "r"}))]);
    let path = project.root("jobs/queued/a.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let said = project.engine(&["wait", "--run", "r", "--timeout", "0.1"]);
    assert!(!said.err.contains("there is no job of a run"), "{}", said.err);
}

#[test]
fn a_job_that_an_editor_saves_while_it_starts_loses_nothing_and_the_others_go_on() {
    let project = Project::new();
    let names: Vec<String> = (0..12).map(|n| format!("e{n}")).collect();
    submit(&project, &names.iter().map(|id| noting(id, &json!({}))).collect::<Vec<_>>());
    let worker = project.start(&["work", "--slots", "2"], &[]);
    // Saved by rename again and again until it has left the queue, as an editor does it, with another priority.
    for id in &names {
        let text = noting(id, &json!({"priority": "high", "run_id": "edited"})).to_string();
        let path = project.root(&format!("jobs/queued/{id}.json"));
        for _ in 0..20 {
            std::fs::write(project.path("new.json"), &text).unwrap();
            std::fs::rename(project.path("new.json"), &path).unwrap();
        }
    }
    let is_over = |id: &String| {
        let status = project.record(id)["status"].as_str().unwrap().to_owned();
        ["succeeded", "quarantined"].contains(&status.as_str()) && project.places(id).len() == 1
    };
    eventually("every job has ended, and no second file of it is left in the queue", || {
        names.iter().all(is_over)
    });
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    for id in &names {
        let record = project.record(id);
        assert_eq!(record["status"], "succeeded", "{record}");
        assert_eq!(order(&project).iter().filter(|ran| *ran == id).count(), 1, "{id} ran once");
    }
}

#[test]
fn a_dependency_whose_file_waits_without_a_record_is_queued() {
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    std::fs::write(project.root("jobs/queued/base.json"), noting("base", &json!({})).to_string()).unwrap();
    submit(&project, &[noting("next", &json!({"depends_on": ["base"]}))]);
    let said = project.engine(&["explain", "next"]).exits(0);
    assert!(said.contains("it depends on `base`, which is queued\n    -> engine explain base"), "{said}");
    let said = project.engine(&["list", "--json", "--state", "waiting"]).exits(0);
    assert!(said.contains("waits for `base`, which is queued"), "{said}");
}

#[test]
fn one_in_a_circle_has_no_place_in_the_order() {
    let project = Project::new();
    circle(&project);
    for id in ["k1", "k2", "k3", "k4"] {
        assert_eq!(codes(&project, id), ["dependency_circle", "waiting_dependency"], "{id}");
    }
}

#[test]
fn a_job_that_waits_for_a_lock_comes_before_nobody() {
    let project = Project::new();
    let holds = json!({"locks": ["gpu"], "command": {"args": ["-c", "touch runs; until [ -e go ]; do sleep 0.01; done"], "exe": "sh"}});
    let running = project.start(&["run-job", "--job-file", &project.job(&noting("holder", &holds))], &[]);
    eventually("it runs", || project.path("runs").exists());
    submit(
        &project,
        &[
            noting("locked", &json!({"locks": ["gpu"], "priority": "high"})),
            noting("b", &json!({})),
            noting("c", &json!({})),
        ],
    );
    assert_eq!(codes(&project, "b"), ["ready"]);
    let said = project.engine(&["explain", "c"]).exits(0);
    assert!(said.contains("1 job of higher priority or older comes first: `b`"), "{said}");
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
    assert_eq!(codes(&project, "b"), ["behind"]);
}

#[test]
fn a_batch_is_listed_from_its_last_to_its_first_whatever_the_priorities() {
    let project = Project::new();
    let priorities = ["low", "critical", "normal", "high", "low"];
    let jobs: Vec<Value> = priorities
        .iter()
        .enumerate()
        .map(|(n, p)| noting(&format!("j{n}"), &json!({"priority": p})))
        .collect();
    submit(&project, &jobs);
    // All in one moment.
    for n in 0..priorities.len() {
        let path = project.root(&format!("state/jobs/j{n}.jsonl"));
        let mut line = project.record(&format!("j{n}"));
        line["at"] = "2026-01-02T00:00:00.000Z".into();
        line["accepted"]["at"] = line["at"].clone();
        std::fs::write(path, format!("{line}\n")).unwrap();
    }
    let said = project.engine(&["list", "--json", "--state", "queued"]).exits(0);
    let ids: Vec<String> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["job_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["j4", "j3", "j2", "j1", "j0"]);
}

#[test]
fn a_long_circle_is_answered_at_once_and_each_of_its_jobs_is_counted() {
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    let ids: Vec<String> = (0..1500).map(|n| format!("c{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let on = &ids[(n + 1) % ids.len()];
        let text = noting(id, &json!({"depends_on": [on]})).to_string();
        std::fs::write(project.root(&format!("jobs/queued/{id}.json")), text).unwrap();
    }
    let args: Vec<&str> = ["wait"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let begun = std::time::Instant::now();
    let said = project.engine(&args);
    assert!(said.code == 1 && said.err.contains("(1500 jobs)"), "{}", said.err);
    // The square of it takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Status does not read so many files, and does not say that there is no circle.
    let status = project.engine(&["status", "--json"]).json();
    assert_eq!((&status["circles"], &status["refused"]), (&json!(null), &json!(null)), "{status:#}");
    let status = project.engine(&["status"]).exits(0);
    assert!(status.contains("1500 jobs are queued: not looked for circles"), "{status}");
}
