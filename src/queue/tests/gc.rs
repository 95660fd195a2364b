//! What gc retires, what it leaves, and that nothing is lost on the way.

use super::Line::{Accepted, Empty, Ended, NoRecord, Requeued, Retry, Started};
use super::*;
use crate::job::{RunId, RunManifest};
use crate::policy::retention::{Cause, Finished, Limits};
use crate::queue::gc::{GcLock, Report, Skip, collect, plan};
use crate::store::{archived, keys, run_dir};

const DAY: Duration = Duration::from_secs(86_400);
const ALL: Limits = Limits { older_than: None, keep_count: Some(0), keep_bytes: None };

impl Root {
    fn gc(&self, limits: &Limits) -> Report {
        let lock = GcLock::acquire(&self.store).unwrap().unwrap();
        collect(&self.store, &self.clock, limits, (&|_, _| false, &lock)).unwrap()
    }

    /// A job that has ended now, with its file, a log and a report.
    fn ended(&self, name: &str, status: Status) -> JobId {
        let id = id(name);
        self.record(&id, Ended(status));
        let place = self.line_of(&id).unwrap().place;
        self.put_job(&place, &id, &json!({}));
        for ending in ["log", "error.json"] {
            drop(fs::create_new(&self.store.state(&format!("logs/{id}.1.{ending}")), b"text").unwrap());
        }
        id
    }

    /// The names of all files of a job, of whatever kind.
    fn files_of(&self, id: &JobId) -> Vec<String> {
        let dirs = ["state/jobs", "state/logs", "state/keys", "state/control", "jobs/queued", "jobs/running"];
        let days = fs::names(&self.store.root().join("jobs/done")).unwrap().into_iter();
        let dirs = dirs.iter().map(|dir| (*dir).to_owned()).chain(days.map(|day| format!("jobs/done/{day}")));
        let names = dirs.flat_map(|dir| fs::names(&self.store.root().join(dir)).unwrap());
        names.filter(|name| name.starts_with(&format!("{id}."))).collect()
    }
}

fn ids(jobs: &[(Finished, Cause)]) -> Vec<(&str, Cause)> {
    jobs.iter().map(|(job, cause)| (job.id.as_str(), *cause)).collect()
}

/// Ten jobs that ended a day apart, `j0` today.
fn ten_days(root: &Root) {
    let now = root.clock.now();
    for (age, status) in (0..10).zip([Status::Succeeded, Status::Failed, Status::Quarantined].iter().cycle())
    {
        root.clock.set(now.before(DAY * age));
        root.ended(&format!("j{age}"), *status);
    }
    root.clock.set(now);
}

#[test]
fn a_plan_says_what_is_done_and_what_is_done_loses_nothing() {
    for older_than in [None, Some(DAY * 3), Some(DAY * 20)] {
        for keep_count in [None, Some(0), Some(4)] {
            for keep_bytes in [None, Some(0), Some(1 << 40)] {
                let root = Root::new();
                let limits = Limits { older_than, keep_count, keep_bytes };
                ten_days(&root);
                let before = root.snapshot();
                let planned = plan(&root.store, &root.clock, &limits, &|_, _| false).unwrap();
                assert!(root.snapshot() == before, "{limits:?}: a plan changes something");
                let report = root.gc(&limits);
                assert_eq!(ids(&report.dropped), ids(&planned.dropped), "{limits:?}");
                assert_eq!((report.kept, report.failed.len()), (planned.kept, 0), "{limits:?}");
                let stay = if keep_bytes == Some(0) || keep_count == Some(0) {
                    0
                } else {
                    let by_age = if older_than == Some(DAY * 3) { 4 } else { 10 };
                    keep_count.map_or(by_age, |count| by_age.min(count as usize))
                };
                assert_eq!((report.kept, report.dropped.len()), (stay, 10 - stay), "{limits:?}");
                for age in 0..10 {
                    let id = id(&format!("j{age}"));
                    let archived = archived::last_of(&root.store, &id).unwrap();
                    let (record, files) = (root.line_of(&id), root.files_of(&id).len());
                    assert_eq!(archived.is_some(), age >= stay, "{limits:?}, {id}");
                    assert_eq!((record.is_some(), files > 0), (age < stay, age < stay), "{limits:?}, {id}");
                }
                let again = root.gc(&limits);
                assert_eq!((again.dropped.len(), again.kept), (0, stay), "{limits:?}");
            }
        }
    }
}

/// What becomes of a job when everything goes that may go, by its record and the files beside it.
const TABLE: [(Line, Files, &str); 14] = [
    (NoRecord, Files::None, "stays"),
    (NoRecord, Files::Queued, "stays"),
    (Empty, Files::None, "free"),
    (Empty, Files::Queued, "stays"),
    (Empty, Files::Running, "stays"),
    (Accepted, Files::None, "free"),
    (Accepted, Files::Queued, "stays"),
    (Requeued, Files::Queued, "stays"),
    (Retry, Files::None, "stays"),
    (Started, Files::Running, "stays"),
    (Ended(Status::Succeeded), Files::None, "dropped"),
    (Ended(Status::Quarantined), Files::None, "dropped"),
    (Ended(Status::Canceled), Files::Queued, "recover"),
    (Ended(Status::Succeeded), Files::Running, "recover"),
];

#[test]
fn only_what_has_ended_and_is_where_it_belongs_goes_and_no_lease_is_passed_over() {
    for held in [false, true] {
        let root = Root::new();
        let jobs: Vec<_> = TABLE.into_iter().zip(0..).map(|(row, n)| (id(&format!("j{n}")), row)).collect();
        for (id, (line, files, _)) in &jobs {
            match line {
                Ended(status) => drop(root.ended(id.as_str(), *status)),
                line => root.record(id, *line),
            }
            for place in files.places() {
                root.put_job(place, id, &json!({}));
            }
        }
        let leases: Vec<_> = jobs.iter().filter(|_| held).map(|(id, _)| root.lease(id, Create::No)).collect();
        let report = root.gc(&ALL);
        drop(leases);
        for (id, (line, files, wanted)) in &jobs {
            let skip = report.skipped.iter().find(|(skipped, _)| skipped == id).map(|(_, skip)| *skip);
            let found = match skip {
                Some(Skip::Held) => "held",
                Some(Skip::NeedsRecovery) => "recover",
                Some(other) => panic!("{other:?}"),
                None if report.free.contains(id) => "free",
                None if report.dropped.iter().any(|(job, _)| job.id == *id) => "dropped",
                None => "stays",
            };
            let wanted = match *wanted {
                "dropped" | "recover" if held => "held",
                "free" if held => "stays",
                wanted => wanted,
            };
            assert_eq!(found, wanted, "{line:?} {files:?}, held: {held}");
            let is_gone = matches!(found, "dropped" | "free") || (*line, *files) == (NoRecord, Files::None);
            assert_eq!(root.files_of(id).is_empty(), is_gone, "{line:?} {files:?}, held: {held}");
        }
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    }
}

#[test]
fn what_a_job_still_needs_stays_with_those_that_it_was_handed_on_to() {
    for (place, record) in [(Place::Queued, NoRecord), (Place::Queued, Accepted), (Place::Running, Started)] {
        let root = Root::new();
        for name in ["needed", "other"] {
            root.ended(name, Status::Succeeded);
        }
        root.record(&id("dependant"), record);
        root.put_job(&place, &id("dependant"), &json!({"depends_on": ["needed"]}));
        let report = root.gc(&ALL);
        assert_eq!(ids(&report.dropped), [("other", Cause::Count)], "{record:?}");
        assert_eq!(report.needed, [id("needed")], "{record:?}");
        fs::remove(&root.store.job_file(&place, &id("dependant"))).unwrap();
        root.record(&id("dependant"), Ended(Status::Canceled));
        assert_eq!(root.gc(&ALL).dropped.len(), 2, "{record:?}");
    }
}

#[test]
fn a_key_and_a_request_go_with_their_job_and_those_of_others_stay() {
    let root = Root::new();
    let mine = root.ended("mine", Status::Succeeded);
    let theirs = root.ended("theirs", Status::Succeeded);
    for id in [&mine, &theirs] {
        root.write(id, |line| line.job.key = Some("k".to_owned()));
        drop(fs::create_new(&root.store.state(&format!("control/{id}.hold")), b"{}").unwrap());
    }
    drop(fs::create_new(&root.store.state(&format!("control/{mine}.cancel")), b"{}").unwrap());
    fs::create_dir(&keys::dir(&root.store)).unwrap();
    drop(fs::create_new(&keys::path(&root.store, "k"), b"theirs\n").unwrap());
    let held = root.lease(&theirs, Create::No);
    assert_eq!(ids(&root.gc(&ALL).dropped), [("mine", Cause::Count)]);
    assert_eq!(root.files_of(&mine), ["mine.hold"], "a hold stays until its owner removes it");
    assert_eq!(keys::owner(&root.store, "k").unwrap(), Some(theirs.clone()));
    drop(held);
    assert_eq!(ids(&root.gc(&ALL).dropped), [("theirs", Cause::Count)]);
    assert_eq!(keys::owner(&root.store, "k").unwrap(), None);
}

#[test]
fn more_jobs_than_a_batch_holds_go_and_one_that_cannot_be_read_stops_none() {
    let root = Root::new();
    for n in 0..300 {
        root.record(&id(&format!("j{n}")), Ended(Status::Succeeded));
    }
    let damaged = id("j7");
    let path = root.store.record_path(&damaged);
    fs::append(&fs::open_append(&path, Create::No).unwrap(), &path, b"garbage\n").unwrap();
    let report = root.gc(&ALL);
    assert_eq!((report.dropped.len(), report.failed.len()), (299, 1));
    assert_eq!(report.failed[0].0, damaged);
    assert_eq!(root.store.recorded_ids().unwrap(), [damaged]);
}

/// Makes the directory of a run of these jobs.
fn run_of(root: &Root, name: &str, workstreams: &[&str]) {
    let run = RunId::new(name).unwrap();
    let jobs: Vec<_> = workstreams.iter().map(|ws| json!({ "job_id": format!("{name}.{ws}") })).collect();
    let manifest = run_dir::testing::manifest(&run, root.clock.now(), workstreams);
    run_dir::testing::make(&root.store, manifest, &jobs);
}

#[test]
fn the_directory_of_a_run_goes_after_its_last_job_and_never_before() {
    let root = Root::new();
    let runs = || {
        let listed = run_dir::list(&root.store).unwrap().runs;
        let mut names: Vec<_> = listed.into_iter().map(|run| run.run_id.to_string()).collect();
        names.sort();
        names.join(" ")
    };
    for (run, workstreams) in [
        ("gone", &["ws-a", "ws-b"][..]),
        ("open", &["ws-a", "ws-b"]),
        ("unsubmitted", &["ws-a"]),
        ("partly", &["ws-a", "ws-b"]),
        ("left", &["ws-a"]),
        ("step", &["ws-a"]),
        ("busy", &["ws-a"]),
    ] {
        run_of(&root, run, workstreams);
    }
    for name in ["gone.ws-a", "gone.ws-b", "open.ws-a", "partly.ws-a", "left.ws-a", "step.ws-a", "busy.ws-a"]
    {
        root.ended(name, Status::Succeeded);
    }
    root.record(&id("open.ws-b"), Started);
    let is_left = |run: &RunManifest, _: &[Value]| run.run_id.as_str() == "left";
    let planned = plan(&root.store, &root.clock, &ALL, &is_left).unwrap();
    assert_eq!(planned.runs.iter().map(RunId::as_str).collect::<Vec<_>>(), ["busy", "gone", "step"]);
    let gc = || {
        let lock = GcLock::acquire(&root.store).unwrap().unwrap();
        let report = collect(&root.store, &root.clock, &ALL, (&is_left, &lock)).unwrap();
        report.runs.iter().map(RunId::to_string).collect::<Vec<_>>().join(" ")
    };
    // A step whose record stays, whyever; and a process that works on the directory.
    root.record(&id("step.ws-a.01-edit"), Started);
    let held = run_dir::take(&root.store, &RunId::new("busy").unwrap()).unwrap().unwrap();
    assert_eq!(gc(), "gone");
    assert_eq!(runs(), "busy left open partly step unsubmitted");
    drop(held);
    assert_eq!(gc(), "busy");
    assert_eq!(gc(), "");
    assert_eq!(runs(), "left open partly step unsubmitted");
}

#[test]
fn a_chain_of_jobs_that_never_ran_is_kept_while_one_comes_after_it() {
    let root = Root::new();
    let put = |name: &str, status: Status, place: Place, after: &[&str]| {
        root.write(&id(name), |line| (line.status, line.place) = (status, place.clone()));
        root.put_job(&place, &id(name), &json!({"after": after}));
    };
    root.record(&id("a"), Started);
    root.put_job(&Place::Running, &id("a"), &json!({}));
    put("b", Status::Canceled, root.done(), &["a"]);
    put("c", Status::Canceled, root.done(), &["b"]);
    put("alone", Status::Canceled, root.done(), &["a"]);
    put("d", Status::Queued, Place::Queued, &["c"]);
    let report = root.gc(&ALL);
    assert_eq!(ids(&report.dropped), [("alone", Cause::Count)], "{report:?}");
}
