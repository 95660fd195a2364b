//! What a worker does with its queue, on real stores with a scripted world.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fake::{Comes, World, id, orders, seconds, store, submit};
use super::recoveries::RECOVERIES;
use super::wait::Wait;
use super::{Filter, Left, Orders, Until, WorkError, scan};
use crate::clock::Clock;
use crate::fs::Create;
use crate::fs::mount::Ordering;
use crate::job::id::LockName;
use crate::job::{Code, Outcome, Place, Reason, Status};
use crate::queue::recovery::Recovered;
use crate::store::control::{self, Held};
use crate::store::named_locks::{Holder, NamedLocks, TryLocks};
use crate::store::{Acquire, Lease, Store, boot};

fn status(store: &Store, name: &str) -> Status {
    store.read_record(&id(name)).unwrap().unwrap().line.status
}

/// The jobs that wait at the end, each with what for.
fn waiting(summary: &super::Summary) -> Vec<(&str, &Wait)> {
    summary.waiting.iter().map(|(id, wait)| (id.as_str(), wait)).collect()
}

#[test]
fn jobs_start_by_priority_then_age_and_never_more_than_there_are_slots() {
    for slots in 1..=9 {
        let (_dir, store) = store();
        let world = World::new(&store);
        for (name, priority) in
            [("a", "low"), ("b", "normal"), ("c", "critical"), ("d", "normal"), ("e", "high"), ("f", "low")]
        {
            world.submit(name, &format!(r#","priority":"{priority}""#));
            world.clock.sleep(seconds(1));
        }
        let summary = world.drain(slots);
        assert_eq!(world.order(), ["c", "e", "b", "d", "a", "f"]);
        assert_eq!((summary.succeeded, summary.failed, summary.stopped), (6, 0, false));
        assert_eq!(world.most.get().0, slots.min(6));
    }
}

#[test]
fn every_end_is_reported_once_and_counted_once_by_the_record() {
    let ends = [
        (Outcome::Succeeded, Status::Succeeded, (1, 0)),
        (Outcome::Failed, Status::Quarantined, (0, 1)),
        (Outcome::TimedOut, Status::Quarantined, (0, 1)),
        (Outcome::Stalled, Status::Quarantined, (0, 1)),
        (Outcome::Killed, Status::Quarantined, (0, 1)),
        (Outcome::NotStarted, Status::Quarantined, (0, 1)),
        (Outcome::Invalid, Status::Quarantined, (0, 1)),
        (Outcome::Canceled, Status::Canceled, (0, 1)),
    ];
    for (outcome, is, counts) in ends {
        for retries in 0..4 {
            let (_dir, store) = store();
            let world = World::new(&store);
            world.submit("a", "");
            (0..retries).for_each(|_| world.script("a", seconds(1), Comes::AgainIn(seconds(2))));
            world.script("a", seconds(1), Comes::To(outcome));
            let summary = world.drain(1);
            let mut events = vec!["a failed, again".to_owned(); retries];
            events.push(format!("a {is}"));
            assert_eq!((world.news(), status(&store, "a")), (events, is));
            assert_eq!((summary.succeeded, summary.failed), counts);
        }
    }
}

#[test]
fn a_retry_starts_at_its_time_and_others_run_meanwhile() {
    for wait in [0, 1, 7, 300, 3600] {
        let (_dir, store) = store();
        let world = World::new(&store);
        world.submit("a", "");
        world.submit("b", r#","priority":"low""#);
        world.script("a", seconds(3), Comes::AgainIn(seconds(wait)));
        let summary = world.drain(1);
        let started = world.started.borrow();
        let at = |times: usize, name: &str| {
            started.iter().filter(|(started, _)| started == name).nth(times).unwrap().1
        };
        assert_eq!((at(0, "a"), summary.succeeded), (Duration::ZERO, 2));
        if wait > 0 {
            assert_eq!(at(0, "b"), seconds(3));
            // `b` may have the slot for its second.
            assert_eq!(at(1, "a"), seconds(3 + wait), "{wait}");
        }
    }
}

#[test]
fn a_drain_leaves_parked_jobs_and_a_worker_without_end_runs_them_at_their_time() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", "");
    world.submit("b", r#","depends_on":["a"]"#);
    world.script("a", seconds(1), Comes::ParkedFor(seconds(3600)));
    let summary = world.drain(2);
    let until = world.clock.now().after(seconds(3600));
    let on_a = Wait::Dependency(id("a"));
    assert_eq!(waiting(&summary), [("a", &Wait::Time(until)), ("b", &on_a)]);
    assert_eq!((summary.succeeded, world.news()), (0, vec!["a parked, again".to_owned()]));
    world.request_at(seconds(7200));
    let summary = world.work(orders(2, Until::Stopped)).unwrap();
    assert_eq!(
        (summary.succeeded, summary.stopped, world.order()),
        (2, true, ["a", "a", "b"].map(str::to_owned).into())
    );
    assert_eq!(world.started.borrow()[1].1, seconds(3601));
}

#[test]
fn what_waits_for_a_person_or_a_time_does_not_keep_a_drain() {
    let (_dir, store) = store();
    let world = World::new(&store);
    let later = world.clock.now().after(seconds(600));
    world.submit("timed", &format!(r#","not_before":"{later}""#));
    world.submit("held", "");
    world.submit("stray", r#","depends_on":["nowhere"]"#);
    world.submit("behind", r#","depends_on":["held"]"#);
    control::hold(&store, Held::Job(&id("held")), None, world.clock.now()).unwrap();
    let summary = world.drain(4);
    let (nowhere, held) = (Wait::Dependency(id("nowhere")), Wait::Dependency(id("held")));
    let mut found = waiting(&summary);
    found.sort_by_key(|(name, _)| *name);
    let want = [("behind", &held), ("held", &Wait::Hold), ("stray", &nowhere), ("timed", &Wait::Time(later))];
    assert_eq!((found, world.order().len()), (want.to_vec(), 0));
}

#[test]
fn a_release_a_submission_and_the_end_of_a_foreign_job_start_what_waits_for_them_at_once() {
    let (_dir, store) = store();
    let world = World::new(&store);
    control::hold(&store, Held::Queue, None, world.clock.now()).unwrap();
    world.submit("a", "");
    world.at(seconds(40), |store, _| assert!(control::release(store, Held::Queue).unwrap()));
    world.at(seconds(100), |store, clock| submit(store, clock, "b", ""));
    world.at(seconds(200), |store, clock| {
        submit(store, clock, "c", "");
        control::hold(store, Held::Job(&id("c")), None, clock.now()).unwrap();
    });
    world.at(seconds(300), |store, _| assert!(control::release(store, Held::Job(&id("c"))).unwrap()));
    world.request_at(seconds(400));
    let summary = world.work(orders(1, Until::Stopped)).unwrap();
    let want = [("a", 40), ("b", 100), ("c", 300)].map(|(name, at)| (name.to_owned(), seconds(at)));
    assert_eq!((world.started.borrow().as_slice(), summary.succeeded), (want.as_slice(), 3));
}

#[test]
fn a_held_queue_is_a_drained_one_and_says_so() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", "");
    control::hold(&store, Held::Queue, None, world.clock.now()).unwrap();
    let summary = world.drain(1);
    assert!(summary.queue_is_held && world.order().is_empty());
}

#[test]
fn the_locks_of_own_jobs_are_counted_so_that_no_runner_is_refused_for_one() {
    for (slots, lock_slots) in [(1, 1), (4, 1), (4, 2), (9, 3)] {
        let (_dir, store) = store();
        let world = World::new(&store);
        for number in 0..8 {
            let lock = format!(r#","locks":["gpu:{lock_slots}"]"#);
            world.submit(&format!("a{number}"), &lock);
        }
        let summary = world.drain(slots);
        let most = slots.min(lock_slots);
        assert_eq!((summary.succeeded, world.order().len(), world.most.get().0), (8, 8, most));
        assert_eq!(world.clock.monotonic(), seconds(8 / most as u64 + u64::from(8 % most != 0)));
    }
}

#[test]
fn a_lock_that_others_hold_is_waited_for_without_a_word_until_it_is_free() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", r#","locks":["gpu"]"#);
    world.submit("b", "");
    let by = Holder { id: &id("other"), attempt: 1 };
    let gpu = [LockName::parse("gpu").unwrap()];
    let TryLocks::Held(held) = NamedLocks::acquire(&store, &gpu, by, &BTreeSet::new()).unwrap() else {
        panic!("it is taken")
    };
    world.at(seconds(5), move |_, _| held.release().unwrap());
    let summary = world.drain(1);
    assert_eq!(
        (world.news(), summary.succeeded),
        (["b succeeded", "a succeeded"].map(str::to_owned).into(), 2)
    );
    let started = world.started.borrow();
    assert_eq!(
        (&started[1], started.last()),
        (&("b".to_owned(), seconds(0)), Some(&("a".to_owned(), seconds(5))))
    );
}

#[test]
fn a_refused_start_is_reported_once_and_a_drain_gives_it_up_after_four_times() {
    for (comes, code) in [
        (Comes::Refused(Code::IdRunning), Code::IdRunning),
        (Comes::Refused(Code::DiskFull), Code::DiskFull),
        (Comes::NotForked, Code::Killed),
    ] {
        let (_dir, store) = store();
        let world = World::new(&store);
        world.submit("a", "");
        world.submit("b", "");
        (0..50).for_each(|_| world.script("a", Duration::ZERO, comes.clone()));
        let summary = world.drain(1);
        assert_eq!((summary.succeeded, world.order().len()), (1, 5), "{code}");
        assert_eq!(summary.refused[&id("a")].code, code);
        assert!(matches!(waiting(&summary)[..], [("a", Wait::Refused(_))]));
        let events: Vec<_> = world.news().into_iter().filter(|event| event.contains("not run")).collect();
        let once = if code == Code::Killed { vec![] } else { vec![format!("a not run: {code}")] };
        assert_eq!(events, once);
        assert_eq!(summary.low_space.is_some(), code == Code::DiskFull);
    }
}

#[test]
fn the_first_request_waits_for_the_running_jobs_the_second_asks_them_and_the_third_kills() {
    for (needs, requests, ends_at) in [(1, 2, 20), (2, 3, 30)] {
        let (_dir, store) = store();
        let world = World::new(&store);
        ["a", "b", "c"].iter().for_each(|name| world.submit(name, ""));
        ["a", "b"].iter().for_each(|name| world.script(name, Duration::ZERO, Comes::WhenAsked(needs)));
        (1..=requests).for_each(|number| world.request_at(seconds(10 * number)));
        let summary = world.drain(2);
        let mut events = vec!["stopping, 2 run", "2 asked"];
        events.extend((needs == 2).then_some("2 killed"));
        events.extend(["a canceled", "b canceled"]);
        let mut news = world.news();
        news.sort_by_key(|event| event.ends_with("canceled"));
        assert_eq!(
            (news, world.order()),
            (events.iter().map(ToString::to_string).collect(), vec!["a".to_owned(), "b".to_owned()])
        );
        assert!(summary.stopped && world.clock.monotonic() == seconds(ends_at));
        assert_eq!((summary.failed, status(&store, "c")), (2, Status::Queued));
    }
}

#[test]
fn a_worker_that_is_asked_once_lets_its_jobs_come_to_their_ends_and_starts_none() {
    let (_dir, store) = store();
    let world = World::new(&store);
    ["a", "b"].iter().for_each(|name| world.submit(name, ""));
    world.script("a", seconds(500), Comes::To(Outcome::Succeeded));
    world.request_at(seconds(1));
    let summary = world.drain(1);
    assert_eq!(
        (world.news(), summary.succeeded),
        (["stopping, 1 run", "a succeeded"].map(str::to_owned).into(), 1)
    );
    assert_eq!((world.clock.monotonic(), status(&store, "b")), (seconds(500), Status::Queued));
}

#[test]
fn without_its_launcher_a_worker_ends_and_says_how_many_jobs_go_on() {
    for slots in 0..4 {
        let (_dir, store) = store();
        let world = World::new(&store);
        ["a", "b", "c"].iter().for_each(|name| world.submit(name, ""));
        ["a", "b", "c"]
            .iter()
            .for_each(|name| world.script(name, seconds(60), Comes::To(Outcome::Succeeded)));
        world.launcher_gone_at.set(Some(seconds(30)));
        let ended = world.work(orders(slots, Until::Stopped));
        assert!(matches!(ended, Err(WorkError::LauncherGone { running }) if running == slots), "{ended:?}");
    }
}

#[test]
fn a_root_that_is_gone_ends_a_worker_that_is_idle() {
    let (dir, store) = store();
    let world = World::new(&store);
    let root = dir.path().join("root");
    world.at(seconds(30), move |_, _| crate::fs::rename_replace(&root, &root.with_extension("old")).unwrap());
    let ended = world.work(orders(1, Until::Stopped));
    assert!(matches!(ended, Err(WorkError::RootGone { .. })), "{ended:?}");
}

#[test]
fn a_job_whose_runner_is_killed_is_recovered_beside_the_work_and_repeated() {
    let (_dir, store) = store();
    let world = World::new(&store);
    ["a", "b", "c"].iter().for_each(|name| world.submit(name, ""));
    world.script("a", seconds(1), Comes::Killed);
    world.slow_recovery("a", seconds(100));
    let summary = world.drain(1);
    // The other two need not wait for it.
    let want = [("a", 0), ("b", 1), ("c", 2), ("a", 101)].map(|(name, at)| (name.to_owned(), seconds(at)));
    assert_eq!(world.started.borrow().as_slice(), want);
    assert_eq!(world.news(), ["b succeeded", "c succeeded", "a Lost(Queued)", "a succeeded"]);
    assert_eq!((summary.succeeded, summary.failed), (3, 0));
}

#[test]
fn a_job_that_kills_its_runner_again_and_again_is_quarantined_and_counts_as_failed() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", "");
    (0..9).for_each(|_| world.script("a", seconds(1), Comes::Killed));
    let summary = world.drain(1);
    assert_eq!(world.news(), ["a Lost(Queued)", "a Lost(Queued)", "a Lost(Quarantined)", "a quarantined"]);
    assert_eq!((summary.succeeded, summary.failed), (0, 1));
}

#[test]
fn a_failed_recovery_is_reported_once_and_retried_after_a_growing_delay() {
    for said in [
        Some(Ok(Recovered::StillRunning(vec!["1 sleep".to_owned()]))),
        Some(Ok(Recovered::CannotTell("no proc".to_owned()))),
        Some(Ok(Recovered::Elsewhere("other".to_owned()))),
        Some(Err(Reason::new(Code::StateUnreadable, "m"))),
        None,
    ] {
        let (_dir, store) = store();
        let world = World::new(&store);
        world.submit("a", "");
        world.script("a", seconds(1), Comes::Killed);
        (0..3).for_each(|_| world.script_recovery("a", said.clone()));
        world.request_at(seconds(3000));
        let summary = world.work(orders(1, Until::Stopped)).unwrap();
        let news = world.news();
        assert_eq!((news.len(), summary.succeeded), (4, 1), "{news:?}");
        assert_eq!(news[1..], ["a Lost(Queued)", "a succeeded", "stopping, 0 run"]);
        assert_eq!(world.begun.borrow().len(), 4);
        assert!(world.started.borrow()[1].1 > seconds(10 + 20 + 40), "{:?}", world.started.borrow());
    }
}

#[test]
fn a_job_that_another_runner_was_faster_with_is_not_counted() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", "");
    world.submit("b", r#","depends_on":["a"]"#);
    world.script("a", seconds(1), Comes::Late);
    let summary = world.drain(1);
    assert_eq!((world.news(), summary.succeeded), (vec!["b succeeded".to_owned()], 1));
}

#[test]
fn a_worker_for_a_run_or_a_tool_takes_no_other_job() {
    let filters = [
        (Filter { run: Some("r".to_owned()), tool: None }, vec!["a", "c"]),
        (Filter { run: Some("q".to_owned()), tool: None }, vec!["b"]),
        (Filter { run: None, tool: Some("shell".to_owned()) }, vec!["a", "b", "c", "d"]),
        (Filter { run: None, tool: Some("pytest".to_owned()) }, vec![]),
    ];
    for (filter, takes) in filters {
        let (_dir, store) = store();
        let world = World::new(&store);
        for (name, run) in [("a", "r"), ("b", "q"), ("c", "r")] {
            world.submit(name, &format!(r#","run_id":"{run}""#));
        }
        world.submit("d", "");
        let summary = world.work(Orders { filter, ..orders(1, Until::Drained) }).unwrap();
        assert_eq!(
            (world.order(), summary.succeeded),
            (takes.iter().map(ToString::to_string).collect(), takes.len())
        );
    }
}

#[test]
fn without_space_nothing_starts_and_a_drain_says_why() {
    let (_dir, mut store) = store();
    store.config.min_free_bytes = u64::MAX;
    let world = World::new(&store);
    world.submit("a", "");
    let summary = world.drain(1);
    assert_eq!((world.news(), world.order().len()), (vec!["paused".to_owned()], 0));
    assert!(summary.low_space.is_some() && summary.waiting.is_empty());
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_a_retry_waiting() {
    let (_dir, store) = store();
    let world = World::new(&store);
    world.submit("a", "");
    world.script("a", seconds(1), Comes::AgainIn(seconds(60)));
    world.at(seconds(10), |_, clock| clock.set(clock.now().before(seconds(86_400))));
    let summary = world.drain(1);
    assert_eq!(summary.succeeded, 1);
    assert!(world.started.borrow()[1].1 < seconds(200), "{:?}", world.started.borrow());
}

#[test]
fn a_request_to_cancel_a_queued_job_is_honored_by_the_store_and_nothing_is_started() {
    let (_dir, store) = store();
    let world = World::new(&store);
    ["a", "b"].iter().for_each(|name| world.submit(name, ""));
    world.script("a", seconds(5), Comes::To(Outcome::Succeeded));
    world.at(seconds(2), |store, clock| {
        crate::queue::cancel::look(store, clock, &id("b")).unwrap();
    });
    let summary = world.drain(1);
    assert_eq!((world.order(), summary.succeeded, summary.failed), (vec!["a".to_owned()], 1, 0));
}

#[test]
fn a_thousand_abandoned_jobs_are_recovered_a_handful_at_a_time_behind_one_that_does_not_end() {
    let (_dir, mut store) = store();
    // After each boot of such a machine every record is looked at, until a worker remembers that it was.
    store.ordering = Ordering::Unknown;
    let world = World::new(&store);
    world.submit("next", "");
    let names: Vec<String> = (0..1000).map(|number| format!("a{number:03}")).collect();
    let lost = Some(Ok(Recovered::Lost(Place::Queued)));
    names.iter().for_each(|name| world.script_recovery(name, lost.clone()));
    world.slow_recovery("a000", seconds(100));
    assert!(boot::needs_a_look_at_every_record(&store).unwrap());
    let left = Left { jobs: names.iter().map(|name| id(name)).collect(), is_all: true };
    world.work(Orders { left, ..orders(1, Until::Drained) }).unwrap();
    let news = world.news();
    assert_eq!((world.begun.borrow().len(), world.most.get().1, news.len()), (1000, RECOVERIES, 1001));
    assert_eq!(
        news.last().map(String::as_str),
        Some("a000 Lost(Queued)"),
        "the others waited for the first one"
    );
    assert_eq!(world.started.borrow()[0].1, Duration::ZERO, "the claim waited for recoveries");
    assert!(!boot::needs_a_look_at_every_record(&store).unwrap());
}

/// A batch of which a later job has its line already; the lease of the first one is held until a time.
fn half_a_batch<'s>(store: &'s Store, until: Option<Duration>) -> World<'s> {
    let Acquire::Held(lease) = Lease::acquire(store, &id("step-1"), Create::IfMissing).unwrap() else {
        panic!("it is busy")
    };
    let bytes = br#"{"job_id":"step-1","tool":"shell","command":{"exe":"true"}}"#;
    crate::fs::create_new(&store.job_file(&Place::Queued, &id("step-1")), bytes).unwrap();
    let world = World::new(store);
    world.clock.sleep(Duration::from_millis(10));
    world.submit("step-6", "");
    world.clock.set_monotonic(Duration::ZERO);
    match until {
        Some(until) => world.at(until, move |_, _| drop(lease)),
        None => std::mem::forget(lease),
    }
    world
}

#[test]
fn what_came_in_later_is_not_started_before_one_whose_line_is_on_its_way() {
    let (_dir, store) = store();
    let until = scan::COMES_IN_WITHIN - seconds(1);
    let world = half_a_batch(&store, Some(until));
    world.drain(1);
    assert_eq!(world.order(), ["step-1", "step-6"]);
    assert_eq!(world.started.borrow()[0].1, until);
}

#[test]
fn a_job_whose_lease_is_held_on_and_on_holds_up_the_queue_for_no_longer_than_a_submission_takes() {
    let (_dir, store) = store();
    let world = half_a_batch(&store, None);
    // By the clock its name stays new, as that of a file that is touched again and again.
    let now = world.clock.now();
    (1..100).for_each(|step| world.at(Duration::from_millis(100) * step, move |_, clock| clock.set(now)));
    world.drain(1);
    assert_eq!(
        world.order()[..2],
        ["step-1", "step-6"],
        "it is left to its runner, which looks at the lease"
    );
    assert_eq!(world.started.borrow()[0].1, scan::COMES_IN_WITHIN);
}

/// A small generator: equal seeds give equal queues.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

#[test]
fn whatever_the_queue_and_its_runners_do_a_drain_ends_and_keeps_slots_locks_and_dependencies() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (_dir, store) = store();
        let world = World::new(&store);
        let count = 1 + dice.below(7);
        let mut behind = Vec::new();
        for number in 0..count {
            let name = format!("j{number}");
            let priority = ["low", "normal", "high", "critical"][usize::try_from(dice.below(4)).unwrap()];
            let mut more = format!(r#","priority":"{priority}""#);
            if number > 0 && dice.below(3) == 0 {
                let on = format!("j{}", dice.below(number));
                more.push_str(&format!(r#","depends_on":["{on}"]"#));
                behind.push((name.clone(), on));
            }
            if dice.below(3) == 0 {
                more.push_str(r#","locks":["gpu:2"]"#);
            }
            world.submit(&name, &more);
            for _ in 0..dice.below(3) {
                let (after, wait) = (seconds(dice.below(5)), seconds(dice.below(9)));
                let comes =
                    [Comes::AgainIn(wait), Comes::NotForked, Comes::Killed, Comes::Refused(Code::IdBusy)];
                world.script(&name, after, comes[usize::try_from(dice.below(4)).unwrap()].clone());
            }
            let last = [Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed]
                [usize::try_from(dice.below(3)).unwrap()];
            world.script(&name, seconds(dice.below(5)), Comes::To(last));
        }
        let slots = 1 + usize::try_from(dice.below(3)).unwrap();
        let summary = world.drain(slots);
        let ended = summary.succeeded + summary.failed;
        assert_eq!(
            ended + summary.waiting.len(),
            usize::try_from(count).unwrap(),
            "{seed}: {:?}",
            world.events
        );
        assert!(world.most.get().0 <= slots, "{seed}");
        // All locks are the worker's own, so it never spends a process on a job that must wait for one.
        assert_eq!(world.refused_for_locks.get(), 0, "{seed}: {:?}", world.events);
        for (name, on) in behind {
            let ran = world.order().contains(&name);
            assert_eq!(ran, status(&store, &on) == Status::Succeeded, "{seed}: {name} behind {on}");
        }
    }
}
