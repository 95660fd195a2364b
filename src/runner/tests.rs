//! What a run makes of the ends of its tools, on real stores with scripted programs.

use std::time::Duration;

use super::fake::{Comes, FakeSpawner, begin, code, exit, programs, short};
use super::{Conclusion, Patience, exit_status};
use crate::clock::Clock;
use crate::job::{Code, JobId, JobResult, Outcome, Place, Status};
use crate::process::{Ended, Interrupt, SpawnError, StopCause};
use crate::store::control::{self, AttemptId};
use crate::store::testing::store;
use crate::store::{Durability, Store};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn job(metadata: &str) -> String {
    format!(r#"{{"job_id":"a","tool":"shell","command":{{"exe":"tool"}},"metadata":{{{metadata}}}}}"#)
}

fn quick_store() -> (tempfile::TempDir, Store) {
    let (dir, mut store) = store();
    store.config.durability = Durability::Fast;
    (dir, store)
}

fn result(conclusion: Conclusion) -> JobResult {
    match conclusion {
        Conclusion::Result(result) => *result,
        other => panic!("{other:?}"),
    }
}

/// Runs a job with these programs; gives its result and when they were started.
fn run(store: &Store, text: &str, script: Vec<Comes>) -> (JobResult, Vec<Duration>) {
    let clock = begin();
    let mut spawner = FakeSpawner::new(&clock, script);
    let conclusion = spawner.direct(store, text, Patience::Refuse).unwrap();
    (result(conclusion), spawner.started)
}

fn not_found() -> Comes {
    Err(SpawnError::NotFound { exe: "tool".to_owned() })
}

#[test]
fn each_end_of_a_tool_has_its_outcome_its_retries_and_its_exit_status() {
    type Row = (fn() -> Comes, Outcome, bool, Status, u8);
    let rows: [Row; 9] = [
        (|| code(0), Outcome::Succeeded, false, Status::Succeeded, 0),
        (|| code(3), Outcome::Failed, true, Status::Quarantined, 3),
        (
            || Ok(exit(Ended::Signal(15), Some(StopCause::TotalTime))),
            Outcome::TimedOut,
            true,
            Status::Quarantined,
            124,
        ),
        (
            || Ok(exit(Ended::Signal(15), Some(StopCause::IdleTime))),
            Outcome::Stalled,
            true,
            Status::Quarantined,
            124,
        ),
        (|| Ok(exit(Ended::Signal(11), None)), Outcome::Killed, true, Status::Quarantined, 139),
        (
            || Ok(exit(Ended::Code(0), Some(StopCause::Interrupt(Interrupt::Int)))),
            Outcome::Canceled,
            false,
            Status::Canceled,
            130,
        ),
        (
            || Ok(exit(Ended::Code(0), Some(StopCause::Requested))),
            Outcome::Canceled,
            false,
            Status::Canceled,
            143,
        ),
        (not_found, Outcome::NotStarted, false, Status::Quarantined, 127),
        (|| Err(SpawnError::Interrupted(Interrupt::Term)), Outcome::Canceled, false, Status::Canceled, 143),
    ];
    for (comes, outcome, is_repeated, status, exit_status) in rows {
        for retries in 0..3 {
            let (_dir, store) = quick_store();
            let script = (0..=retries).map(|_| comes()).collect();
            let text = job(&format!(r#""max_retries":{retries},"backoff":{{"strategy":"immediate"}}"#));
            let (result, _) = run(&store, &text, script);
            let attempts = if is_repeated { retries + 1 } else { 1 };
            assert_eq!((result.outcome, result.status, result.attempt), (outcome, status, attempts));
            assert_eq!(exit_status::for_result(&result), exit_status, "{outcome:?}");
            let line = store.read_record(&id("a")).unwrap().unwrap().line;
            assert_eq!((line.status, line.attempts.len()), (status, attempts as usize), "{outcome:?}");
            assert_eq!(result.error_report_path.is_some(), outcome != Outcome::Succeeded, "{outcome:?}");
        }
    }
}

#[test]
fn the_waits_between_attempts_are_those_of_the_policy_and_end_with_the_first_success() {
    for (strategy, at) in [
        ("immediate", [0, 1, 2, 3]),
        ("linear", [0, 3, 8, 15]),
        ("exponential", [0, 3, 8, 17]),
        ("fibonacci", [0, 3, 6, 11]),
    ] {
        let (_dir, store) = quick_store();
        let text = job(&format!(
            r#""max_retries":9,"backoff":{{"strategy":"{strategy}","base_seconds":2,"jitter":false}}"#
        ));
        let (result, started) = run(&store, &text, vec![code(1), code(1), code(1), code(0)]);
        assert_eq!((result.outcome, started), (Outcome::Succeeded, at.map(seconds).to_vec()), "{strategy}");
    }
}

#[test]
fn a_run_that_parks_leaves_the_job_in_the_queue_with_the_time_of_its_next_attempt() {
    let (_dir, store) = quick_store();
    let clock = begin();
    let mut spawner = FakeSpawner::new(&clock, vec![code(1)]);
    let text = job(r#""max_retries":1,"backoff":{"base_seconds":60}"#);
    let result = result(spawner.direct(&store, &text, Patience::Park).unwrap());
    assert_eq!((result.status, exit_status::for_result(&result)), (Status::Queued, exit_status::PARKED));
    let line = store.read_record(&id("a")).unwrap().unwrap().line;
    assert_eq!((line.place, line.not_before), (Place::Queued, Some(clock.now().after(seconds(60)))));
    // Before its time it is refused, and nothing is started.
    let conclusion = spawner.claimed(&store, "a").unwrap();
    assert!(
        matches!(&conclusion, Conclusion::Refused(_, reason) if reason.code == Code::WaitingTime),
        "{conclusion:?}"
    );
}

#[test]
fn a_signal_or_a_request_in_the_backoff_cancels_the_job_at_once() {
    for by_signal in [true, false] {
        let (_dir, store) = quick_store();
        let clock = begin();
        let mut spawner = FakeSpawner::new(&clock, vec![code(1)]);
        let text = job(r#""max_retries":1,"backoff":{"base_seconds":600}"#);
        if by_signal {
            spawner.interrupted_at = Some(seconds(30));
        } else {
            // It names the next attempt: the first one has ended when it is looked at.
            let next = AttemptId { life: 1, attempt: 2 };
            control::request_cancel(&store, &id("a"), next, clock.now()).unwrap();
        }
        let result = result(spawner.direct(&store, &text, Patience::Refuse).unwrap());
        let code = if by_signal { Code::Signal(15) } else { Code::CanceledByUser };
        assert_eq!((result.outcome, result.reason.unwrap().code), (Outcome::Canceled, code));
        assert_eq!(clock.monotonic(), seconds(if by_signal { 30 } else { 1 }));
        assert_eq!(store.read_record(&id("a")).unwrap().unwrap().line.status, Status::Canceled);
    }
}

#[test]
fn a_shortage_parks_ten_times_and_longer_each_time_without_a_retry_and_then_counts_as_failure() {
    let (_dir, store) = quick_store();
    let clock = begin();
    let mut spawner = FakeSpawner::new(&clock, (0..12).map(|_| short()).collect());
    let mut last = result(spawner.direct(&store, &job(r#""max_retries":1"#), Patience::Refuse).unwrap());
    for park in 0..10 {
        assert_eq!((last.outcome, last.status), (Outcome::Parked, Status::Queued), "{park}");
        assert_eq!(last.reason.as_ref().unwrap().code, Code::StartFailed);
        let until = store.read_record(&id("a")).unwrap().unwrap().line.not_before.unwrap();
        assert_eq!(until, clock.now().after(seconds(5 << park)), "{park}");
        clock.sleep(seconds(5 << park));
        last = result(spawner.claimed(&store, "a").unwrap());
    }
    // The eleventh is a failed start like another: it has one retry, and the twelfth has none.
    assert_eq!((last.outcome, last.status), (Outcome::NotStarted, Status::Queued));
    clock.sleep(seconds(3600));
    last = result(spawner.claimed(&store, "a").unwrap());
    assert_eq!((last.outcome, last.status), (Outcome::NotStarted, Status::Quarantined));
    assert_eq!(exit_status::for_result(&last), exit_status::ENGINE);
    assert!(spawner.started.is_empty());
}

#[test]
fn no_attempt_is_made_beside_processes_that_are_alive() {
    let (_dir, store) = quick_store();
    let alive =
        |end: Comes| end.map(|exit| crate::process::Exit { left_alive: vec!["7 x".to_owned()], ..exit });
    let (result, started) = run(&store, &job(r#""max_retries":5"#), vec![alive(code(1))]);
    assert_eq!((result.outcome, result.status, started.len()), (Outcome::Failed, Status::Quarantined, 1));
    assert_eq!(result.metadata["left_alive"][0], "7 x");
}

/// Makes an executable of this name that the programs of the test find.
fn install(store: &Store, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = crate::fs::create_new(&programs(store).join(name), b"#!/bin/sh\n").unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_job_is_handed_on_after_its_last_failure_and_for_other_causes_only_where_it_allows_them() {
    type Row = (fn() -> Comes, &'static str, bool);
    let rows: [Row; 8] = [
        (|| code(0), "", false),
        (|| code(1), "", true),
        (|| Ok(exit(Ended::Signal(9), None)), "", true),
        (|| Ok(exit(Ended::Code(1), Some(StopCause::Requested))), "", false),
        (not_found, "", false),
        (not_found, r#""absent""#, true),
        (not_found, r#""auth","quota""#, false),
        (short, r#""absent","auth","quota""#, false),
    ];
    for (comes, allowed, is_handed_on) in rows {
        let (_dir, store) = quick_store();
        install(&store, "claude");
        let text =
            job(&format!(r#""retry_policy":"escalate_to_claude","max_retries":0,"fallback_on":[{allowed}]"#));
        let (result, _) = run(&store, &text, vec![comes()]);
        let linked = store.read_record(&id("a.claude")).unwrap();
        assert_eq!(linked.is_some(), is_handed_on, "{allowed} {result:?}");
        assert_eq!(result.metadata.contains_key("escalated_to"), is_handed_on, "{allowed}");
        if is_handed_on {
            assert_eq!((result.outcome, result.status), (Outcome::Failed, Status::Failed));
            assert_eq!(linked.unwrap().line.status, Status::Queued);
        }
    }
}

#[test]
fn an_adapter_that_is_not_installed_is_reported_and_the_job_ends_as_it_would_without() {
    let (_dir, store) = quick_store();
    let text = job(r#""retry_policy":"escalate_to_claude","max_retries":0"#);
    let (result, _) = run(&store, &text, vec![code(1)]);
    assert_eq!((result.outcome, result.status), (Outcome::Failed, Status::Quarantined));
    assert_eq!(result.metadata["not_escalated"], "`claude` is not installed");
}

#[test]
fn what_a_tool_prints_is_in_its_log_and_in_the_result() {
    let (_dir, store) = quick_store();
    let clock = begin();
    let mut spawner = FakeSpawner::new(&clock, vec![code(0)]);
    spawner.prints = "hello\n";
    let result = result(spawner.direct(&store, &job(""), Patience::Refuse).unwrap());
    let log = std::fs::read_to_string(result.log_path.unwrap()).unwrap();
    assert_eq!((log.as_str(), result.stdout.as_str(), result.duration_s), ("hello\n", "hello\n", 1.0));
}
