//! Whether a job may start now.

use super::*;
use crate::job::{JobFile, parse_job};
use crate::queue::ready::{Blocker, Met, blockers, judge};
use crate::store::control::{self, Held};

/// What a job waits for, in a line.
fn word(judged: &Result<Met, Blocker>) -> String {
    match judged {
        Ok(found) => format!("starts after {}", found.dependencies.len()),
        Err(blocker) => blocker.reason().message,
    }
}

fn judged(root: &Root, more: &Value, parked_until: Option<Timestamp>) -> String {
    word(&judge(&root.store, &parsed(more), parked_until, root.clock.now()).unwrap())
}

fn parsed(more: &Value) -> JobFile {
    parse_job(document(&id("a"), more).to_string().as_bytes(), "a").unwrap().job
}

#[test]
fn a_hold_counts_before_a_time_and_a_time_before_a_dependency() {
    let root = Root::new();
    let now = root.clock.now();
    let later = now.after(Duration::from_secs(1));
    let latest = now.after(Duration::from_secs(9));
    let waiting = json!({"not_before": later, "depends_on": ["unknown"]});
    assert_eq!(judged(&root, &json!({}), None), "starts after 0");
    assert_eq!(judged(&root, &json!({}), Some(now)), "starts after 0", "its time has come");
    assert_eq!(judged(&root, &json!({"not_before": now}), None), "starts after 0");
    assert_eq!(judged(&root, &json!({}), Some(later)), format!("not before {later}"));
    assert_eq!(judged(&root, &waiting, None), format!("not before {later}"));
    assert_eq!(judged(&root, &waiting, Some(latest)), format!("not before {latest}"), "the later one counts");
    assert_eq!(judged(&root, &waiting, Some(now)), format!("not before {later}"));
    root.clock.set(later);
    assert_eq!(judged(&root, &waiting, None), "waits for `unknown`, which is not known here");
    control::hold(&root.store, Held::Job(&id("a")), Some("not today"), now).unwrap();
    assert_eq!(judged(&root, &waiting, Some(latest)), "held by `state/control/a.hold`: not today");
    control::release(&root.store, Held::Job(&id("a"))).unwrap();
    control::hold(&root.store, Held::Job(&id("b")), None, now).unwrap();
    assert_eq!(judged(&root, &json!({}), None), "starts after 0", "another job is held");
    control::hold(&root.store, Held::Queue, None, now).unwrap();
    assert_eq!(judged(&root, &json!({}), None), "held by `state/control/HOLD`");
}

#[test]
fn only_a_success_lets_a_dependant_start_and_the_first_that_lacks_it_is_named() {
    let root = Root::new();
    for (name, line) in [
        ("accepted", Line::Accepted),
        ("retry", Line::Retry),
        ("runs", Line::Started),
        ("succeeded", Line::Ended(Status::Succeeded)),
        ("failed", Line::Ended(Status::Failed)),
        ("canceled", Line::Ended(Status::Canceled)),
        ("quarantined", Line::Ended(Status::Quarantined)),
        ("empty", Line::Empty),
    ] {
        root.record(&id(name), line);
    }
    root.put_job(&Place::Queued, &id("put"), &json!({}));
    root.record(&id("damaged"), Line::Started);
    let damaged = fs::open_append(&root.store.record_path(&id("damaged")), Create::No).unwrap();
    fs::append(&damaged, &root.store.record_path(&id("damaged")), b"{}\n").unwrap();
    let waits = |on: &str, why: &str| {
        let wanted = format!("waits for `{on}`, which {why}");
        assert_eq!(judged(&root, &json!({"depends_on": [on]}), None), wanted);
        assert_eq!(judged(&root, &json!({"depends_on": ["succeeded", on, "unknown"]}), None), wanted);
    };
    waits("unknown", "is not known here");
    waits("empty", "is not known here");
    waits("put", "is queued");
    waits("accepted", "is queued");
    waits("retry", "is queued");
    waits("runs", "is running");
    waits("failed", "is failed");
    waits("canceled", "is canceled");
    waits("quarantined", "is quarantined");
    waits("damaged", "has a record that cannot be read");
    assert_eq!(judged(&root, &json!({"depends_on": ["succeeded"]}), None), "starts after 1");
}

#[test]
fn everything_that_keeps_a_job_is_reported_in_its_order() {
    let root = Root::new();
    let later = root.clock.now().after(Duration::from_secs(9));
    root.record(&id("failed"), Line::Ended(Status::Failed));
    root.record(&id("succeeded"), Line::Ended(Status::Succeeded));
    control::hold(&root.store, Held::Queue, None, later).unwrap();
    let more = json!({"depends_on": ["failed", "succeeded", "unknown"]});
    let job = parsed(&more);
    let found = blockers(&root.store, &job, Some(later), root.clock.now()).unwrap();
    let wanted = [
        "held by `state/control/HOLD`".to_owned(),
        format!("not before {later}"),
        "waits for `failed`, which is failed".to_owned(),
        "waits for `unknown`, which is not known here".to_owned(),
    ];
    assert_eq!(found.iter().map(|blocker| blocker.reason().message).collect::<Vec<_>>(), wanted);
}

/// Ends a job by handing it on to another.
fn hand_on(root: &Root, from: &JobId, to: &str) {
    root.record(from, Line::Ended(Status::Failed));
    root.write(from, |line| {
        let attempt = line.attempts.last().cloned();
        let mut result =
            crate::queue::attempt::blank_result(line, attempt.unwrap().outcome.unwrap(), None, line.at);
        result.metadata.insert("escalated_to".to_owned(), to.into());
        line.result = Some(result);
    });
}

#[test]
fn a_job_that_was_handed_on_is_judged_by_the_last_of_its_line_however_that_ends() {
    let root = Root::new();
    hand_on(&root, &id("b"), "b.x");
    let depends = || judged(&root, &json!({"depends_on": ["b"]}), None);
    assert_eq!(depends(), "waits for `b`, which is not known here");
    hand_on(&root, &id("b.x"), "b.y");
    root.record(&id("b.y"), Line::Started);
    assert_eq!(depends(), "waits for `b`, which is running");
    root.record(&id("b.y"), Line::Ended(Status::Succeeded));
    assert_eq!(depends(), "starts after 1");
    // A circle is none that a job may wait in for ever.
    hand_on(&root, &id("c"), "d");
    hand_on(&root, &id("d"), "c");
    let circle = judged(&root, &json!({"depends_on": ["c"]}), None);
    assert_eq!(circle, "waits for `c`, which was escalated too often");
}
