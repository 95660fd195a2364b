//! A job that comes after others starts too early, not at all, or only when somebody looks: the rules `AFTER_…` of the model,
//! and what people write into `after`.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::steps;
use crate::support::{Project, Running, Said, eventually, shell, with};

/// A root with its directories, and jobs that were submitted one after the other.
fn submitted(jobs: &[Value]) -> Project {
    let project = Project::new();
    for job in jobs {
        project.engine(&["submit", "-q", &project.job(job)]).exits(0);
    }
    project
}

fn after(id: &str, others: &[&str]) -> Value {
    with(shell(id, &format!("echo {id} >> ran")), &json!({"after": others}))
}

fn on(id: &str, others: &[&str], script: &str) -> Value {
    with(shell(id, script), &json!({"depends_on": others}))
}

/// A tool that runs until the file of this name is there, and then exits with this code.
fn until(file: &str, code: u8) -> String {
    format!("touch {file}-runs; until test -e {file}; do sleep 0.01; done; exit {code}")
}

/// Claims a queued job as another worker would, and lets it run until `file` is there.
fn runs_elsewhere(project: &Project, id: &str, file: &str) -> Running {
    let running = project.start(&["run-job", "--claim", id], &[]);
    eventually("it runs", || project.path(&format!("{file}-runs")).exists());
    running
}

fn touch(project: &Project, file: &str) {
    std::fs::write(project.path(file), "").unwrap();
}

fn ran(project: &Project, id: &str) -> bool {
    std::fs::read_to_string(project.path("ran")).unwrap_or_default().lines().any(|line| line == id)
}

fn waits(project: &Project, id: &str) -> String {
    project.engine(&["explain", id]).exits(0)
}

#[track_caller]
fn refused(said: &Said, part: &str) {
    let document = said.json();
    assert_eq!((said.code, &document["reason"]["code"]), (125, &json!("waiting_after")), "{}", said.out);
    assert!(document["reason"]["message"].as_str().unwrap().contains(part), "{}", said.out);
}

/// A worker that drains and has looked at the job, which then waits.
fn drains(project: &Project, id: &str) -> Running {
    let marker = json!({"job_id": format!("seen-{id}"), "tool": "shell", "priority": "low",
        "command": {"exe": "touch", "args": [format!("looked-{id}")]}});
    project.engine(&["submit", "-q", &project.job(&marker)]).exits(0);
    let worker = project.start(&["work", "--drain", "--slots", "2"], &[]);
    eventually("the worker has passed it", || project.path(&format!("looked-{id}")).exists());
    worker
}

#[test]
fn after_locked_a_claim_judges_again_what_was_at_rest_before() {
    let project = submitted(&[shell("x", "exit 3"), after("r", &["x"])]);
    project.engine(&["run-job", "--claim", "x"]).exits(3);
    assert!(waits(&project, "r").contains("it is ready"));
    project.engine(&["requeue", "-q", "x"]).exits(0);
    refused(&project.engine(&["run-job", "--json", "--claim", "r"]), "comes after `x`, which is queued");
    assert_eq!(project.record("r")["attempts"], json!([]));
    project.engine(&["cancel", "-q", "x"]).exits(0);
    project.engine(&["run-job", "--claim", "r"]).exits(0);
    let seen = &project.record("r")["attempts"][0]["after"];
    assert_eq!(seen["counts"], json!({"canceled": 1}));
    assert_eq!(seen["not_succeeded"][0]["job_id"], "x");
}

#[test]
fn after_held_a_report_runs_when_all_that_is_left_waits_for_what_failed() {
    let project = submitted(&[
        shell("a", "exit 1"),
        on("b", &["a"], "true"),
        on("c", &["b"], "true"),
        shell("d", "true"),
        after("r", &["d", "c", "b", "a"]),
    ]);
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let seen = project.record("r")["attempts"][0]["after"].clone();
    assert_eq!(seen["counts"], json!({"queued": 2, "succeeded": 1, "quarantined": 1}));
    let named =
        seen["not_succeeded"].as_array().unwrap().iter().map(|found| found["job_id"].as_str().unwrap());
    assert_eq!(named.collect::<Vec<_>>(), ["c", "b", "a"]);
    assert_eq!((project.places("b"), project.places("c")), (vec!["queued".into()], vec!["queued".into()]));
    // What was mended goes on, and the report can be made again.
    std::fs::write(project.root("jobs/quarantined/a.json"), shell("a", "true").to_string()).unwrap();
    project.engine(&["requeue", "-q", "a", "r"]).exits(0);
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.record("r")["attempts"][0]["after"]["counts"], json!({"succeeded": 4}));
}

#[test]
fn after_follow_a_job_that_was_escalated_is_at_rest_with_its_successor() {
    let project = submitted(&[shell("x", "exit 3"), after("r", &["x"])]);
    project.engine(&["run-job", "--claim", "x"]).exits(3);
    let path = project.root("state/jobs/x.jsonl");
    let mut record = project.record("x");
    record["seq"] = json!(record["seq"].as_u64().unwrap() + 1);
    record["result"]["metadata"] = json!({"escalated_to": "x.other"});
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{record}\n")).unwrap();
    let claim = || project.engine(&["run-job", "--json", "--claim", "r"]);
    refused(&claim(), "comes after `x`, which is not known here");
    project.engine(&["submit", "-q", &project.job(&shell("x.other", "exit 4"))]).exits(0);
    refused(&claim(), "comes after `x`, which is queued");
    project.engine(&["run-job", "--claim", "x.other"]).exits(4);
    assert_eq!(claim().code, 0);
    assert_eq!(project.record("r")["attempts"][0]["after"]["not_succeeded"][0]["job_id"], "x");
}

#[test]
fn after_chain_a_job_that_never_ran_does_not_cut_what_it_comes_after() {
    // `b` is canceled before it starts, or is held by `f`: `c` waits for `a` through it.
    for held in [false, true] {
        let b = json!({"after": ["a"], "depends_on": if held { &["f"][..] } else { &[] }});
        let project = submitted(&[
            shell("a", &until("go", 3)),
            shell("f", "exit 3"),
            with(shell("b", "true"), &b),
            after("c", &["b"]),
            after("d", &["c"]),
        ]);
        project.engine(&["run-job", "--claim", "f"]).exits(3);
        if !held {
            project.engine(&["cancel", "-q", "b"]).exits(0);
        }
        project.engine(&["cancel", "-q", "c"]).exits(0);
        let elsewhere = runs_elsewhere(&project, "a", "go");
        let claim = || project.engine(&["run-job", "--json", "--claim", "d"]);
        refused(&claim(), "comes after `c`, which is canceled");
        assert!(waits(&project, "d").contains("comes after `c`, which is canceled; `a` comes first"));
        let worker = drains(&project, "d");
        assert!(!ran(&project, "d"));
        touch(&project, "go");
        elsewhere.wait().exits(3);
        // `b`, which is held, is left.
        worker.wait().exits(i32::from(held));
        assert!(ran(&project, "d"));
    }
}

#[test]
fn after_unknown_what_may_be_on_its_way_in_is_waited_for() {
    let project = submitted(&[shell("other", "true")]);
    std::fs::write(project.root("jobs/queued/r.json"), after("r", &["x"]).to_string()).unwrap();
    refused(&project.engine(&["run-job", "--json", "--claim", "r"]), "`x`, which is not known here");
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("r waits for the end of x: engine explain r"), "{}", said.err);
    assert!(!ran(&project, "r"));
    project.engine(&["submit", "-q", &project.job(&shell("x", "exit 1"))]).exits(0);
    assert_eq!(project.engine(&["work", "--drain"]).code, 1);
    assert!(ran(&project, "r"));
}

#[test]
fn after_sync_the_ends_are_durable_before_the_start_line() {
    let project = submitted(&[
        shell("x", "exit 3"),
        shell("y", "exit 3"),
        on("z", &["y"], "true"),
        after("r", &["x", "z"]),
    ]);
    for id in ["x", "y"] {
        project.engine(&["run-job", "--claim", id]).exits(3);
    }
    let steps = steps(&project, &["run-job", "--claim", "r"]);
    let sync = |path: &str| steps.iter().position(|step| step.is("Sync", path));
    let start = sync("state/jobs/r.jsonl").unwrap();
    for path in ["state/jobs/x.jsonl", "state/jobs/y.jsonl"] {
        assert!(sync(path).is_some_and(|at| at < start), "{path}: {steps:#?}");
    }
}

#[test]
fn after_ends_a_worker_without_end_wakes_by_a_failure_wherever_it_happens() {
    let project = submitted(&[shell("x", &until("go", 3)), shell("y", "exit 3"), after("r", &["y", "x"])]);
    let elsewhere = runs_elsewhere(&project, "x", "go");
    let worker = project.start(&["work", "-v"], &[]);
    eventually("the worker ran y", || project.places("y") == ["quarantined"]);
    assert!(!ran(&project, "r"));
    touch(&project, "go");
    elsewhere.wait().exits(3);
    eventually("it is woken", || ran(&project, "r"));
    worker.signal(Signal::TERM);
    let _ = worker.wait();
}

#[test]
fn after_first_a_drain_waits_for_what_runs_below_and_not_for_what_is_held() {
    // `x` is at rest as soon as `z` fails, whatever becomes of `h`.
    let project = submitted(&[
        shell("h", "true"),
        shell("z", &until("go", 3)),
        on("x", &["h", "z"], "true"),
        after("r", &["x"]),
    ]);
    project.engine(&["hold", "-q", "h"]).exits(0);
    let elsewhere = runs_elsewhere(&project, "z", "go");
    let worker = drains(&project, "r");
    assert!(waits(&project, "r").contains("it comes after `x`, which is queued; `z` comes first"));
    touch(&project, "go");
    elsewhere.wait().exits(3);
    let said = worker.wait();
    assert!(ran(&project, "r"), "{}", said.err);
    assert_eq!(project.places("x"), ["queued"]);
}

#[test]
fn after_drain_a_drain_goes_on_while_the_job_runs_elsewhere() {
    for code in [0, 3] {
        let project = submitted(&[shell("x", &until("go", code)), after("r", &["x"])]);
        let elsewhere = runs_elsewhere(&project, "x", "go");
        let worker = drains(&project, "r");
        touch(&project, "go");
        elsewhere.wait().exits(i32::from(code));
        worker.wait().exits(0);
        assert!(ran(&project, "r"));
    }
}

#[test]
fn after_again_what_waits_is_judged_once_more_before_a_drain_ends() {
    // At the first look nothing below runs: it waits for `h`, which never moves, and `z` fails elsewhere meanwhile.
    let project = submitted(&[]);
    let batch = [
        shell("h", "true"),
        shell("z", "exit 3"),
        on("x", &["h", "z"], "true"),
        with(after("r", &["x"]), &json!({"priority": "critical"})),
        with(shell("busy", &until("go", 0)), &json!({"priority": "critical"})),
    ];
    let lines: Vec<String> = batch.iter().map(ToString::to_string).collect();
    std::fs::write(project.path("batch.jsonl"), lines.join("\n")).unwrap();
    project.engine(&["submit", "-q", "batch.jsonl"]).exits(0);
    project.engine(&["hold", "-q", "h", "z"]).exits(0);
    let worker = project.start(&["work", "--drain", "--slots", "1"], &[]);
    eventually("the worker has passed r", || project.path("go-runs").exists());
    project.engine(&["release", "-q", "z"]).exits(0);
    project.engine(&["run-job", "--claim", "z"]).exits(3);
    touch(&project, "go");
    let said = worker.wait();
    assert!(ran(&project, "r"), "{}", said.err);
}

#[test]
fn after_reset_a_refused_claim_sends_the_worker_back_to_the_first() {
    let project = submitted(&[
        shell("a", "test ! -e again || exec sh long"),
        shell("x", &until("go", 3)),
        after("r", &["a", "x"]),
    ]);
    std::fs::write(project.path("long"), until("later", 0)).unwrap();
    project.engine(&["run-job", "--claim", "a"]).exits(0);
    let elsewhere = runs_elsewhere(&project, "x", "go");
    // It has passed `a` and waits for `x`.
    let worker = drains(&project, "r");
    touch(&project, "again");
    project.engine(&["requeue", "-q", "a"]).exits(0);
    eventually("a runs again", || project.path("later-runs").exists());
    touch(&project, "go");
    elsewhere.wait().exits(3);
    eventually("x has ended", || project.places("x") == ["quarantined"]);
    assert!(!ran(&project, "r"));
    touch(&project, "later");
    worker.wait().exits(0);
    assert!(ran(&project, "r"));
}

#[test]
fn a_worker_that_saw_it_moving_dies_and_the_next_one_begins_anew() {
    let project = submitted(&[shell("x", &until("go", 3)), after("r", &["x"])]);
    let elsewhere = runs_elsewhere(&project, "x", "go");
    let worker = drains(&project, "r");
    worker.signal(Signal::KILL);
    let _ = worker.wait();
    touch(&project, "go");
    elsewhere.wait().exits(3);
    project.engine(&["work", "--drain"]).exits(0);
    assert!(ran(&project, "r"));
}

#[test]
fn what_no_job_can_come_after_is_refused_with_its_place() {
    let project = submitted(&[shell("a", "true"), on("b", &["a"], "true")]);
    for (job, part) in [
        (after("r", &["a", "r"]), "/after/1: the job comes after itself"),
        (
            after("r", &["a", "nobody"]),
            "/after/1: the job comes after `nobody`, which is neither in the batch nor known here",
        ),
        (after("r", &["a", "no/id"]), "/after/1: "),
        (with(shell("r", "true"), &json!({"after": "a"})), "/after: "),
        (
            with(after("r", &["a"]), &json!({"depends_on": ["b", "nobody"]})),
            "/depends_on/1: the job depends on `nobody`",
        ),
    ] {
        let said = project.engine(&["submit", &project.job(&job)]);
        assert!(said.code != 0 && said.err.contains(part), "{} {}", said.code, said.err);
        assert_eq!(project.places("r"), Vec::<String>::new());
    }
    // A circle through both keys.
    let batch = format!("{}\n{}\n", after("p", &["q"]), on("q", &["p"], "true"));
    std::fs::write(project.path("batch.jsonl"), batch).unwrap();
    let said = project.engine(&["submit", "batch.jsonl"]);
    assert!(
        said.code != 0 && said.err.contains("the dependencies run in a circle: `p` waits for `q`"),
        "{}",
        said.err
    );
    assert!(said.err.contains("/after/0"), "{}", said.err);
}

#[test]
fn both_keys_the_same_id_twice_and_a_job_of_another_run_are_allowed() {
    let project = submitted(&[with(shell("a", "exit 3"), &json!({"run_id": "one"})), shell("b", "true")]);
    let both = json!({"after": ["a", "b", "a"], "depends_on": ["b"], "run_id": "two"});
    project.engine(&["submit", "-q", &project.job(&with(shell("r", "echo r >> ran"), &both))]).exits(0);
    project
        .engine(&["submit", "-q", &project.job(&with(after("s", &["a"]), &json!({"depends_on": ["a"]})))])
        .exits(0);
    assert_eq!(project.engine(&["work", "--drain"]).code, 1);
    let attempt = &project.record("r")["attempts"][0];
    assert_eq!(attempt["after"]["counts"], json!({"quarantined": 1, "succeeded": 1}));
    assert_eq!(attempt["dependencies"][0]["job_id"], "b");
    // Both conditions count: `a` is at rest, and has not succeeded.
    assert!(waits(&project, "s").contains("it depends on `a`, which is quarantined"));
}

#[test]
fn gc_keeps_what_is_named_and_what_it_has_retired_counts_by_its_archived_end() {
    let project = submitted(&[shell("a", "exit 3"), shell("old", "exit 3")]);
    assert_eq!(project.engine(&["work", "--drain"]).code, 1);
    let named = with(after("r", &["a"]), &json!({"not_before": "2099-01-01T00:00:00Z"}));
    project.engine(&["submit", "-q", &project.job(&named)]).exits(0);
    project.engine(&["gc", "-q", "--keep-count", "0"]).exits(0);
    assert_eq!((project.places("a"), project.places("old")), (vec!["quarantined".into()], vec![]));
    project.engine(&["submit", "-q", &project.job(&after("s", &["old"]))]).exits(0);
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(project.record("s")["attempts"][0]["after"]["counts"], json!({"quarantined": 1}));
}

#[test]
fn thousands_of_jobs_are_waited_for_and_the_record_stays_small() {
    let project = Project::new();
    let ids: Vec<String> = (0..3000).map(|n| format!("job-{n:05}")).collect();
    // Ended long ago but for two: gc has retired them.
    let line = |id: &String| {
        json!({"schema_version": 1, "seq": 2, "at": "2026-11-01T00:00:00.000Z", "job_id": id, "status": "failed",
            "place": "done/2026-11-01", "not_before": null, "job": {"run_id": null, "workstream_id": null, "tool": "shell",
            "key": null, "priority": null, "depends_on": [], "sha256": null}, "life": 1, "first_attempt": 1,
            "former": {"lives": 0, "attempts": 0, "last_outcome": null}, "attempts": [], "result": null,
            "error_report": null})
    };
    project.engine(&["recover", "-q"]).exits(0);
    for id in &ids[..2998] {
        std::fs::write(project.root(&format!("state/jobs/{id}.jsonl")), format!("{}\n", line(id))).unwrap();
    }
    for id in &ids[2998..] {
        project.engine(&["submit", "-q", &project.job(&shell(id, "exit 3"))]).exits(0);
    }
    let report = with(shell("r", "echo r >> ran"), &json!({"after": ids}));
    project.engine(&["submit", "-q", &project.job(&report)]).exits(0);
    let text = project.engine(&["list", "--state", "waiting", "--json"]).exits(0);
    assert!(text.contains("comes after `job-02998`, which is queued"), "{text}");
    let said = project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(ran(&project, "r"), "{}", said.err);
    let record = project.record("r");
    assert_eq!(record["attempts"][0]["after"]["counts"], json!({"failed": 2998, "quarantined": 2}));
    assert_eq!(record["attempts"][0]["after"]["not_succeeded"].as_array().unwrap().len(), 50);
    assert_eq!((&record["job"]["after_count"], record["job"].get("after")), (&json!(3000), None));
    assert!(std::fs::metadata(project.root("state/jobs/r.jsonl")).unwrap().len() < 40_000);
}
