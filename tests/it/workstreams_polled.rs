//! A reader that polls status and events of a run that is killed and resumed: it never sees a move that is not allowed, no event
//! vanishes, and at the end it has seen each of them, in order.
//!
//! `ENGINE_POLLED_RUNS=50` polls so many runs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::checkout::Checkout;
use crate::workstreams_many::{APPENDS, diamond};

/// What a poller has seen.
#[derive(Default)]
struct Seen {
    statuses: Vec<String>,
    events: Vec<Key>,
}

/// The key of an event.
type Key = (String, u64, String);

fn may_become(from: &str, to: &str) -> bool {
    match (from, to) {
        ("pending", to) => ["running", "canceled"].contains(&to),
        ("running", to) => ["succeeded", "failed", "quarantined", "canceled"].contains(&to),
        ("failed", "quarantined") | ("quarantined", "failed") => true,
        (_, to) => to == "running",
    }
}

/// Looks once; none before the run is made.
fn look(checkout: &Checkout) -> Option<(String, Vec<Key>)> {
    let shown = checkout.engine(&["runs", "show", "r", "--json"]);
    if shown.code != 0 {
        assert!(
            shown.err.contains("there is no run") || shown.err.contains("was never made"),
            "{}",
            shown.err
        );
        return None;
    }
    let status = shown.json()["status"].as_str().unwrap().to_owned();
    let text = checkout.engine(&["runs", "events", "r", "--json"]).exits(0);
    let key = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (text("job_id"), event["seq"].as_u64().unwrap(), text("event"))
    };
    Some((status, text.lines().map(key).collect()))
}

impl Seen {
    fn add(&mut self, (status, events): (String, Vec<Key>)) {
        if let Some(last) = self.statuses.last().filter(|last| **last != status) {
            // Two moves may lie between two looks.
            let is_allowed =
                may_become(last, &status) || may_become(last, "running") && may_become("running", &status);
            assert!(is_allowed, "{last} to {status} after {:?}", self.statuses);
        }
        if self.statuses.last() != Some(&status) {
            self.statuses.push(status);
        }
        let now: BTreeSet<&Key> = events.iter().collect();
        let gone: Vec<&Key> = self.events.iter().filter(|event| !now.contains(event)).collect();
        assert_eq!(gone, Vec::<&Key>::new(), "events vanished");
        self.events = events;
    }
}

/// Kills the run at this durable step, and resumes it; gives what a poller saw meanwhile.
fn polled(step: u64) -> (Checkout, Seen) {
    let checkout = Checkout::new();
    diamond(&checkout);
    let ends = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut seen = Seen::default();
            while !ends.load(Ordering::SeqCst) {
                if let Some(found) = look(&checkout) {
                    seen.add(found);
                }
            }
            seen
        });
        let bundles = checkout.out("bundles").display().to_string();
        let args = ["run", "--run", "r", &*bundles, "--check", "test -e calc.py", "--slots", "2"];
        let kill = ("ENGINE_TEST_KILL_AT", step.to_string());
        // It may end by itself before that step, or after processes of its own were killed there.
        let _ = checkout.command(&args, APPENDS).env(kill.0, kill.1).output().unwrap();
        let is_made = checkout.project.root("state/runs/r/run.json").exists();
        let again = if is_made { vec!["run", "--resume", "r", "--slots", "2"] } else { args.to_vec() };
        let said = checkout.engine_editing(&again, APPENDS);
        ends.store(true, Ordering::SeqCst);
        let seen = poller.join().unwrap();
        let _ = said.exits(0);
        seen
    });
    (checkout, seen)
}

#[test]
fn a_poller_sees_only_moves_that_are_allowed_and_every_event_once_in_order() {
    let runs: u64 = std::env::var("ENGINE_POLLED_RUNS").map_or(2, |runs| runs.parse().unwrap());
    for round in 0..runs {
        let (checkout, mut seen) = polled(17 + 89 * round % 400);
        seen.add(look(&checkout).unwrap());
        assert_eq!(seen.statuses.last().unwrap(), "succeeded");
        let once: BTreeSet<&Key> = seen.events.iter().collect();
        let told: Vec<&str> = seen.events.iter().map(|(_, _, event)| event.as_str()).collect();
        assert_eq!((told.first(), told.last()), (Some(&"run_created"), Some(&"run_completed")), "{told:?}");
        // Of each job in the order of its record.
        let jobs: BTreeSet<&str> = once.iter().map(|(job, ..)| job.as_str()).collect();
        for job in jobs {
            let of_job = seen.events.iter().filter(|(id, ..)| id == job).map(|(_, seq, _)| *seq);
            assert!(of_job.is_sorted(), "{job}: {:?}", seen.events);
        }
        for wanted in ["workstream_start", "workstream_end"] {
            let of = told.iter().filter(|event| **event == wanted).count();
            assert!(of >= 6, "{of} {wanted}");
        }
    }
}
