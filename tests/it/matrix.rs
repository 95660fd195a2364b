//! The rest of the crash matrix: who meets whom at which step, clocks that step, and locks that fail.
//!
//! What other files test already is not repeated: claims against cancel (`control`), gc against runs (`keep`), everything
//! that one command alone can meet (`crash`, `model`, `power_loss`).

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{
    attempts, check, job, make_old, nth, project, put, recover_and_check, snapshot, starts, steps,
    with_queued,
};
use crate::model::{interleave, stopped_at};
use crate::support::{Project, eventually};

const CLAIM: [&str; 3] = ["run-job", "--claim", "a"];
const GC: [&str; 3] = ["gc", "--keep-count", "0"];

fn ended() -> Project {
    let project = project();
    project.run(&job(&json!({}))).exits(0);
    project
}

fn quietly(args: &'static [&'static str]) -> impl Fn(&Project) {
    move |project| drop(project.engine(args).out)
}

// ---- two commands ------------------------------------------------------------------------------------------------

#[test]
fn cancel_lock_a_claim_while_a_cancel_works() {
    interleave(&with_queued(&json!({})), &["cancel", "--no-wait", "a"], quietly(&CLAIM), |project, at| {
        let _ = project.engine(&["cancel", "a"]).out;
        let record = project.record("a");
        let ran = usize::from(record["status"] == "succeeded");
        assert!(ran == 1 || record["status"] == "canceled", "{at}: {record}");
        assert_eq!(starts(project), ran, "{at}: canceled and run: {record}");
    });
}

#[test]
fn req_order_a_claim_or_a_recovery_while_a_requeue_works() {
    for other in [&CLAIM[..], &["recover"]] {
        let other = move |project: &Project| drop(project.engine(other).out);
        interleave(&ended(), &["requeue", "a"], other, |project, at| {
            let _ = project.engine(&["work", "--drain"]).out;
            let record = project.record("a");
            assert_eq!(record["status"], "succeeded", "{at}");
            assert_eq!((starts(project), attempts(&record)), (2, 2), "{at}: {record}");
        });
    }
}

#[test]
fn gc_lock_a_requeue_while_gc_works_and_gc_while_a_requeue_works() {
    let judge = |project: &Project, at: &str| {
        // Either it is retired, or it is queued again, whole.
        let shown = project.engine(&["show", "a", "--json"]);
        assert_eq!(shown.code, 0, "{at}: nothing is known of it: {}", shown.err);
        match project.record_if_any("a") {
            None => assert!(project.places("a").is_empty(), "{at}: a file without a record"),
            Some(record) if record["status"] == "queued" => {
                project.engine(&CLAIM).exits(0);
                assert_eq!(starts(project), 2, "{at}");
            }
            Some(record) => assert_eq!(record["status"], "succeeded", "{at}"),
        }
    };
    for (one, other) in [(&GC[..], &["requeue", "a"][..]), (&["requeue", "a"], &GC)] {
        for number in (1..100).step_by(if one[0] == "gc" { 3 } else { 1 }) {
            let project = ended();
            let at = format!("{one:?} stopped before step {number}");
            let running = match stopped_at(&project, one, number) {
                Ok(running) => running,
                Err(running) => {
                    let _ = running.wait();
                    assert!(number > 4, "only {number} steps");
                    break;
                }
            };
            let _ = project.engine(other).out;
            running.signal(Signal::CONT);
            let _ = running.wait();
            project.engine(&["recover"]).exits(0);
            judge(&project, &at);
        }
    }
}

#[test]
fn gc_request_a_request_goes_for_good_before_the_record_does() {
    let project = ended();
    let request =
        json!({"schema_version": 1, "job_id": "a", "life": 1, "attempt": 1, "at": "2026-01-01T00:00:00Z"});
    std::fs::write(project.root("state/control/a.cancel"), request.to_string()).unwrap();
    let steps = steps(&project, &GC);
    let wanted = [("Unlink", "a.cancel"), ("SyncDir", "state/control"), ("Unlink", "a.jsonl")];
    let found = wanted.map(|(kind, path)| nth(&steps, 1, kind, path));
    assert!(found.is_sorted(), "{found:?} in {steps:#?}");
    // The next job of that id is not canceled by it.
    project.run(&job(&json!({}))).exits(0);
}

#[test]
fn hold_locked_no_claim_looks_past_a_hold_that_was_told() {
    interleave(&with_queued(&json!({})), &["hold", "--all"], quietly(&CLAIM), |project, at| {
        let before = starts(project);
        project.engine(&CLAIM).exits(125);
        assert_eq!(starts(project), before, "{at}");
        project.engine(&["release", "--all"]).exits(0);
        let _ = project.engine(&CLAIM).out;
        assert_eq!(starts(project), 1, "{at}");
    });
}

/// A job that fails once it may, and would be tried again at once.
fn fails_when_it_may() -> Value {
    let script = "echo $ENGINE_ATTEMPT >> starts; until test -e go; do sleep 0.01; done; exit 3";
    json!({
        "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"retry_policy": "retry_same", "max_retries": 3, "backoff": {"strategy": "immediate"}},
    })
}

#[test]
fn cancel_claim_a_retry_that_comes_between_the_look_and_the_request_does_not_start() {
    let mut asked = 0;
    for number in 1..40 {
        let project = with_queued(&fails_when_it_may());
        let runner = project.start(&CLAIM, &[]);
        eventually("it runs", || starts(&project) == 1);
        let cancel = stopped_at(&project, &["cancel", "--no-wait", "a"], number);
        std::fs::write(project.path("go"), "").unwrap();
        let _ = runner.wait();
        let (Ok(cancel) | Err(cancel)) = cancel;
        cancel.signal(Signal::CONT);
        let said = cancel.wait();
        assert_eq!(said.code, 0, "step {number}: {}", said.err);
        asked += usize::from(said.out.contains("asked"));
        let _ = project.engine(&["work", "--drain"]).out;
        assert_eq!(project.record("a")["status"], "canceled", "step {number}: {}", said.out);
        assert_eq!(starts(&project), 1, "step {number}: it was told `{}` and ran again", said.out.trim());
        check(&project, "a", "canceled");
        if number > 8 {
            break;
        }
    }
    assert!(asked > 3, "the request was only made {asked} times");
}

#[test]
fn cancel_earlier_a_later_attempt_that_runs_already_is_ended_too() {
    let project = with_queued(&fails_when_it_may());
    let first = project.start(&CLAIM, &[]);
    eventually("it runs", || starts(&project) == 1);
    let number = 1 + nth(
        &steps(&with_request_to_make(), &["cancel", "--no-wait", "a"]),
        1,
        "Create",
        "state/control/",
    );
    let Ok(cancel) = stopped_at(&project, &["cancel", "--no-wait", "a"], number) else {
        panic!("the cancel has no step {number}");
    };
    std::fs::write(project.path("go"), "").unwrap();
    let _ = first.wait();
    std::fs::remove_file(project.path("go")).unwrap();
    let second = project.start(&CLAIM, &[]);
    eventually("it runs again", || starts(&project) == 2);
    cancel.signal(Signal::CONT);
    cancel.wait().exits(0);
    second.wait().exits(143);
    assert_eq!(project.record("a")["status"], "canceled");
    check(&project, "a", "canceled");
}

/// A job with an open attempt and no runner, of which a cancel makes a request as of one that runs.
fn with_request_to_make() -> Project {
    let project = with_queued(&json!({}));
    let at = nth(&steps(&project.copy(), &CLAIM), 1, "Spawn", "");
    let _ = project.engine_with(&CLAIM, &[("ENGINE_TEST_KILL_AT", &at.to_string())]);
    project
}

#[test]
fn a_submission_while_gc_retires_its_dependency_runs_or_is_refused() {
    let before = project();
    let late =
        json!({"job_id": "late", "tool": "shell", "command": {"exe": "true"}, "depends_on": ["other"]});
    before.job(&late);
    for (one, other) in [(&GC[..], &["submit", "late.json"][..]), (&["submit", "late.json"], &GC)] {
        for number in 1..100 {
            let project = before.copy();
            let at = format!("{one:?} stopped before step {number}");
            let running = match stopped_at(&project, one, number) {
                Ok(running) => running,
                Err(running) => {
                    let _ = running.wait();
                    assert!(number > 4, "only {number} steps");
                    break;
                }
            };
            let said = project.engine(other);
            running.signal(Signal::CONT);
            let went_on = running.wait();
            let submitted = if other[0] == "submit" { said } else { went_on };
            let _ = project.engine(&["work", "--drain"]).out;
            let places = project.places("late");
            if submitted.code == 0 {
                assert_eq!(places, ["done"], "{at}: it waits for what is gone");
            } else {
                assert!(submitted.err.contains("`other`"), "{at}: {}", submitted.err);
                assert_eq!(places, Vec::<String>::new(), "{at}: refused, and there: {}", submitted.err);
            }
        }
    }
}

// ---- clocks that step --------------------------------------------------------------------------------------------

/// Sets the time of a file, in seconds from now.
fn set_time(project: &Project, file: &str, seconds: i64) {
    let now = std::time::SystemTime::now();
    let by = std::time::Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { now - by } else { now + by };
    std::fs::File::options().append(true).open(project.root(file)).unwrap().set_modified(time).unwrap();
}

const YEARS: [i64; 2] = [-300_000_000, 300_000_000];

#[test]
fn a_job_file_from_another_time_runs_once_and_a_torn_one_is_quarantined() {
    for seconds in YEARS {
        let project = with_queued(&json!({}));
        std::fs::write(project.root("jobs/queued/torn.json"), "{").unwrap();
        set_time(&project, "jobs/queued/a.json", seconds);
        set_time(&project, "jobs/queued/torn.json", seconds);
        let _ = project.engine(&["work", "--drain"]).out;
        assert_eq!((starts(&project), project.places("a")), (1, vec!["done".to_owned()]), "{seconds}");
        let in_quarantine: Vec<_> =
            std::fs::read_dir(project.root("jobs/quarantined")).unwrap().flatten().collect();
        assert!(
            in_quarantine.iter().any(|entry| entry.file_name().to_string_lossy().starts_with("torn")),
            "{seconds}: {in_quarantine:?}"
        );
        for args in [&["list", "--json"][..], &["status"], &["explain", "a"], &["doctor"]] {
            let said = project.engine(args);
            assert_eq!(said.code, 0, "{seconds}: {args:?}: {}{}", said.out, said.err);
        }
    }
}

/// Moves all times of a record into another year, as a clock that stepped would have written them.
fn set_year(project: &Project, year: &str) {
    let path = project.root("state/jobs/a.jsonl");
    let now = project.record("a")["at"].as_str().unwrap()[..4].to_owned();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&format!("\"{now}-"), &format!("\"{year}-"))).unwrap();
}

#[test]
fn a_record_from_another_time_is_recovered_run_again_canceled_and_retired() {
    for year in ["1999", "2099"] {
        // An attempt whose runner died under the other clock.
        let lost = with_request_to_make();
        set_year(&lost, year);
        recover_and_check(&lost, "a", year);
        assert_eq!(lost.record("a")["attempts"][0]["outcome"], "lost", "{year}");
        assert!(
            lost.record("a")["result"]["duration_s"].as_f64().unwrap() >= 0.0,
            "{year}: time ran backwards"
        );
        // An end under the other clock, then all that can follow it.
        let project = ended();
        set_year(&project, year);
        project.engine(&["show", "a"]).exits(0);
        project.engine(&["list"]).exits(0);
        project.engine(&["requeue", "a"]).exits(0);
        project.engine(&["work", "--drain"]).exits(0);
        assert_eq!((starts(&project), attempts(&project.record("a"))), (2, 2), "{year}");
        check(&project, "a", year);
        project.engine(&["requeue", "a"]).exits(0);
        project.engine(&["cancel", "a"]).exits(0);
        set_year(&project, year);
        project.engine(&GC).exits(0);
        assert!(project.record_if_any("a").is_none(), "{year}: not retired");
        let shown = project.engine(&["show", "a", "--json"]);
        assert_eq!(shown.json()["status"], "canceled", "{year}");
    }
}

#[test]
fn a_start_time_waits_for_the_clock_and_one_in_the_past_does_not() {
    let project = with_queued(&json!({"not_before": "2099-01-01T00:00:00Z"}));
    let _ = project.engine(&["work", "--drain"]).out;
    assert_eq!((starts(&project), project.places("a")), (0, vec!["queued".to_owned()]));
    let said = project.engine(&["explain", "a"]);
    assert!(said.out.contains("2099"), "{}", said.out);
    put(&project, "queued", &job(&json!({"not_before": "1999-01-01T00:00:00Z"})).to_string());
    project.engine(&["work", "--drain"]).exits(0);
    assert_eq!(starts(&project), 1);
}

// ---- locks that fail ---------------------------------------------------------------------------------------------

#[test]
fn where_locks_stay_on_the_machine_the_queue_is_refused_before_anything_is_written() {
    let project = with_queued(&json!({}));
    project.job(&json!({"job_id": "b", "tool": "shell", "command": {"exe": "true"}}));
    make_old(&project.root("jobs/queued/a.json"));
    let before = snapshot(&project);
    let pretend = [("ENGINE_TEST_MOUNT", "30 21 0:40 / /mnt/share rw - nfs server:/a rw,vers=3,nolock")];
    for args in [
        &["submit", "b.json"][..],
        &["work", "--drain"],
        &CLAIM,
        &["cancel", "a"],
        &["requeue", "other"],
        &["hold", "--all"],
        &["release", "--all"],
    ] {
        let said = project.engine_with(args, &pretend);
        assert_eq!(said.code, 125, "{args:?}: {}{}", said.out, said.err);
        assert!(said.err.contains("/mnt/share") && said.err.contains("hint: "), "{args:?}: {}", said.err);
    }
    assert!(before == snapshot(&project), "something was written");
    for args in [&["list"][..], &["status"], &["explain", "a"], &["show", "other"]] {
        project.engine_with(args, &pretend).exits(0);
    }
}
