//! How a worker waits for the jobs that others come after, on real stores with a scripted world.

use super::Until;
use super::fake::{Comes, World, id, orders, seconds, store};
use super::wait::Wait;
use crate::job::{Outcome, Status};
use crate::store::Store;
use crate::store::control::{self, Held};

fn fails(world: &World<'_>, name: &str, after: u64) {
    world.script(name, seconds(after), Comes::To(Outcome::Failed));
}

fn started_at(world: &World<'_>, name: &str) -> Option<std::time::Duration> {
    world.started.borrow().iter().find(|(started, _)| started == name).map(|(_, at)| *at)
}

fn status(store: &Store, name: &str) -> Status {
    store.read_record(&id(name)).unwrap().unwrap().line.status
}

#[test]
fn a_job_starts_at_the_last_end_of_those_that_it_comes_after_whatever_the_outcomes() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("report", r#","after":["a","b","c","d"]"#);
    for name in ["a", "b", "c"] {
        world.submit(name, "");
    }
    world.submit("d", r#","depends_on":["b"]"#);
    fails(&world, "b", 7);
    world.script("c", seconds(2), Comes::To(Outcome::Canceled));
    let summary = world.drain(3);
    // `d` is at rest when `b` has failed.
    assert_eq!(started_at(&world, "report"), Some(seconds(7)));
    assert_eq!((summary.succeeded, summary.failed, summary.waiting.len()), (2, 2, 1));
    assert_eq!(started_at(&world, "d"), None);
}

#[test]
fn a_job_that_comes_after_a_retry_or_a_park_waits_for_the_end_of_it() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("report", r#","after":["a"]"#);
    world.submit("a", "");
    world.script("a", seconds(1), Comes::AgainIn(seconds(60)));
    world.script("a", seconds(1), Comes::ParkedFor(seconds(600)));
    fails(&world, "a", 1);
    let summary = world.drain(2);
    let on_a = Wait::After { of: id("a"), on: id("a") };
    assert!(summary.waiting.contains(&(id("report"), on_a)), "{:?}", summary.waiting);
    world.request_at(seconds(3600));
    world.work(orders(2, Until::Stopped)).unwrap();
    assert_eq!(started_at(&world, "report"), Some(seconds(663)));
}

#[test]
fn a_wait_behind_a_job_that_is_held_ends_when_another_dependency_fails() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("report", r#","priority":"critical","after":["x"]"#);
    world.submit("h", "");
    world.submit("z", "");
    world.submit("x", r#","depends_on":["h","z"]"#);
    control::hold(&store, Held::Job(&id("h")), None, crate::clock::Clock::now(&world.clock)).unwrap();
    fails(&world, "z", 5);
    let summary = world.drain(1);
    assert_eq!(started_at(&world, "report"), Some(seconds(5)));
    let waits: Vec<_> = summary.waiting.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((waits.len(), waits.contains(&"x"), status(&store, "x")), (2, true, Status::Queued));
}

#[test]
fn a_chain_of_jobs_that_come_after_each_other_runs_one_by_one() {
    let (_dir, store) = store();
    let world = World::new(&store);
    for n in (0..30).rev() {
        let after = if n == 0 { String::new() } else { format!(r#","after":["c{}"]"#, n - 1) };
        world.submit(&format!("c{n}"), &after);
        if n % 3 == 0 {
            fails(&world, &format!("c{n}"), 1);
        }
    }
    let summary = world.drain(8);
    let order: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    assert_eq!((world.order(), summary.succeeded, summary.failed), (order, 20, 10));
}

#[test]
fn a_job_waits_through_those_that_never_ran_for_the_one_that_they_come_after() {
    let (_dir, store) = store();
    let world = World::new(&store);
    for (name, on) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("report", Some("c"))] {
        world.submit(name, &on.map(|on| format!(r#","after":["{on}"]"#)).unwrap_or_default());
    }
    fails(&world, "a", 50);
    for name in ["b", "c"] {
        world.at(seconds(5), move |store, clock| {
            crate::queue::cancel::look(store, clock, &id(name)).map(drop).unwrap();
        });
    }
    world.drain(3);
    assert_eq!(
        (started_at(&world, "report"), world.order()),
        (Some(seconds(50)), vec!["a".to_owned(), "report".to_owned()])
    );
}

/// `AFTER_RESET`: without it the worker would try again and again.
#[test]
fn a_refused_claim_sends_the_worker_back_to_the_first_job_which_it_then_waits_for() {
    let (_dir, store) = store();
    let world = World::new(&store);
    for name in ["a", "x"] {
        world.submit(name, "");
    }
    world.submit("report", r#","after":["a","x"]"#);
    world.script("a", seconds(1), Comes::To(Outcome::Succeeded));
    world.script("x", seconds(10), Comes::To(Outcome::Succeeded));
    world.script("a", seconds(1000), Comes::To(Outcome::Failed));
    world.at(seconds(5), |store, clock| {
        let again = crate::queue::requeue::requeue(store, clock, &id("a"), 0).unwrap();
        assert!(matches!(again, crate::queue::requeue::Requeued::Done));
    });
    world.drain(3);
    let order = world.order();
    assert_eq!(order.iter().filter(|name| *name == "report").count(), 2, "{order:?}");
    let started = world.started.borrow();
    assert!(
        started.iter().rev().find(|(name, _)| name == "report").unwrap().1 >= seconds(1005),
        "{started:?}"
    );
}
