//! Readers: status, list and events tell the truth of the records, whatever happened to journal and cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use engine::clock::{Clock, SystemClock, Timestamp};
use engine::for_tests::cache::{self, Totals};
use engine::for_tests::listing::{self, State, Wanted};
use engine::for_tests::{
    Acquire, Create, Lease, Store, Sync, WorkTrees, journal, new_life, next_line, open_attempt,
    unknown_summary,
};
use engine::job::event::JournalLine;
use engine::job::{JobId, Outcome, Place, Status};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::crash;
use crate::support::{Project, eventually, shell};

fn id(number: usize) -> JobId {
    JobId::new(&format!("j{number}")).unwrap()
}

/// How many jobs are in each status, from the records and the files in the queue alone.
fn truth(project: &Project) -> BTreeMap<String, u64> {
    let mut ids = BTreeSet::new();
    for (dir, end) in [("state/jobs", ".jsonl"), ("jobs/queued", ".json"), ("jobs/running", ".json")] {
        for entry in std::fs::read_dir(project.root(dir)).into_iter().flatten().flatten() {
            ids.extend(entry.file_name().to_string_lossy().strip_suffix(end).map(str::to_owned));
        }
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for id in ids {
        let is_there = !project.places(&id).is_empty();
        let status = match project.record_if_any(&id) {
            // A free id.
            Some(record)
                if record["status"] == "queued"
                    && record["attempts"] == json!([])
                    && record["life"] == 1
                    && !is_there =>
            {
                continue;
            }
            Some(record) => record["status"].as_str().unwrap().to_owned(),
            None if is_there => "queued".to_owned(),
            None => continue,
        };
        *counts.entry(status).or_default() += 1;
    }
    counts
}

fn ended(project: &Project) -> Totals {
    let truth = truth(project);
    let of = |status: &str| truth.get(status).copied().unwrap_or(0);
    Totals {
        succeeded: of("succeeded"),
        failed: of("failed"),
        canceled: of("canceled"),
        quarantined: of("quarantined"),
    }
}

fn status(project: &Project) -> Value {
    project.engine(&["status", "--json"]).json()
}

/// Asserts that `status` tells what the records do; what it said on standard error.
#[track_caller]
fn tells_the_truth(project: &Project, when: &str) -> String {
    let said = project.engine(&["status", "--json", "-v"]);
    let counts = said.json()["counts"].clone();
    let truth = truth(project);
    for status in ["queued", "running", "succeeded", "failed", "canceled", "quarantined"] {
        let want = truth.get(status).copied().unwrap_or(0);
        assert_eq!(counts[status], want, "{status} {when}: {counts} {truth:?}");
    }
    said.err.lines().filter(|line| line.contains(" records again: ")).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    std::fs::File::options().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

// ---------------------------------------------------------------- random lives

/// What happens to the store between two looks at it.
#[derive(Debug, Clone)]
enum Happens {
    /// A job goes on: accepted, started, ended, run again; the number chooses among what can be.
    Step(usize, usize),
    /// The same, but the writer dies before it tells the journal.
    Untold(usize, usize),
    /// A journal line stands once more.
    Again(usize),
    /// A writer dies in the middle of a journal line.
    Torn,
    /// The journal is moved aside, and one writer still has the old file open.
    Rotated,
    /// A record is removed, as gc does.
    Removed(usize),
    /// Somebody looks.
    Looked,
    /// Recovery fills the gaps.
    Filled,
}

fn happens() -> impl Strategy<Value = Happens> {
    let step = (0..7usize, 0..12usize);
    prop_oneof![
        10 => step.clone().prop_map(|(job, what)| Happens::Step(job, what)),
        2 => step.prop_map(|(job, what)| Happens::Untold(job, what)),
        2 => (0..50usize).prop_map(Happens::Again),
        1 => Just(Happens::Torn),
        1 => Just(Happens::Rotated),
        1 => (0..7usize).prop_map(Happens::Removed),
        3 => Just(Happens::Looked),
        1 => Just(Happens::Filled),
    ]
}

/// One more line of a record, through the store.
fn step(store: &Store, job: &JobId, choice: usize) {
    let Acquire::Held(mut lease) = Lease::acquire(store, job, Create::IfMissing).unwrap() else {
        panic!("the lease of {job} is taken")
    };
    let now = SystemClock::start().now();
    let mut line = next_line(&lease, now);
    let go = |line: &mut engine::job::RecordLine, status: Status, place: Place| {
        line.status = status;
        line.place = place;
    };
    match lease.line().map(|line| line.status) {
        None => {
            line.job.run_id = Some(format!("r{}", choice % 2));
            go(&mut line, Status::Queued, Place::Queued);
        }
        Some(Status::Queued) if choice == 0 => go(&mut line, Status::Canceled, Place::Done(now.day())),
        Some(Status::Queued) => {
            line.attempts.push(open_attempt(store, line.next_attempt(), now));
            go(&mut line, Status::Running, Place::Running);
        }
        Some(Status::Running) => {
            let (status, place, outcome) = match choice % 5 {
                0 => (Status::Queued, Place::Queued, Outcome::Failed),
                1 => (Status::Failed, Place::Done(now.day()), Outcome::Failed),
                2 => (Status::Quarantined, Place::Quarantined, Outcome::Lost),
                3 => (Status::Canceled, Place::Done(now.day()), Outcome::Canceled),
                _ => (Status::Succeeded, Place::Done(now.day()), Outcome::Succeeded),
            };
            line.attempts.last_mut().unwrap().outcome = Some(outcome);
            go(&mut line, status, place);
        }
        Some(_) => line = new_life(lease.line().unwrap(), unknown_summary(), now),
    }
    // The job file is where the record says, as after a run or a recovery.
    let place = line.place.clone();
    lease.commit(store, line, Sync::Later).unwrap();
    let text = json!({"job_id": job.as_str(), "tool": "shell"}).to_string();
    for place in [Place::Queued, Place::Running] {
        let _ = std::fs::remove_file(store.job_file(&place, job));
    }
    if matches!(place, Place::Queued | Place::Running) {
        std::fs::write(store.job_file(&place, job), text).unwrap();
    }
}

/// True if the journal lacks nothing.
fn happen(project: &Project, store: &Store, complete: bool, what: &Happens) -> bool {
    let live = project.root("state/events.jsonl");
    let before = std::fs::read(&live).unwrap_or_default();
    match what {
        Happens::Step(job, choice) => step(store, &id(*job), *choice),
        Happens::Untold(job, choice) => {
            step(store, &id(*job), *choice);
            let file = std::fs::File::options().write(true).open(&live).unwrap();
            file.set_len(before.len() as u64).unwrap();
            return false;
        }
        Happens::Again(which) => {
            let lines: Vec<&[u8]> = before.split_inclusive(|b| *b == b'\n').collect();
            if let Some(line) = lines.get(which % lines.len().max(1)).filter(|line| line.ends_with(b"\n")) {
                append(&live, line);
            }
        }
        Happens::Torn => append(&live, b"{\"schema_version\":1,\"at\":\"2026"),
        Happens::Rotated if !before.is_empty() => {
            let inode = journal::live_inode(store).unwrap();
            let stamp = SystemClock::start().now().as_millis();
            std::fs::rename(&live, project.root(&format!("state/events.{stamp}-{inode}.jsonl"))).unwrap();
        }
        Happens::Rotated => {}
        Happens::Removed(job) => {
            // As gc does it: the journal is told before the record goes.
            let Acquire::Held(lease) = Lease::acquire(store, &id(*job), Create::IfMissing).unwrap() else {
                panic!("it is taken")
            };
            let now = SystemClock::start().now();
            if let Some(line) = lease.line() {
                journal::append(store, &JournalLine::retired(line, "2026-11", now)).unwrap();
            }
            for path in [
                store.record_path(&id(*job)),
                store.job_file(&Place::Queued, &id(*job)),
                store.job_file(&Place::Running, &id(*job)),
            ] {
                let _ = std::fs::remove_file(path);
            }
            // No id is archived and taken again within a millisecond.
            let clock = SystemClock::start();
            let removed = clock.now();
            eventually("the clock goes on", || clock.now() > removed);
        }
        Happens::Looked => drop(cache::counts(store, &SystemClock::start()).unwrap()),
        Happens::Filled => {
            let ids: BTreeSet<JobId> = store.recorded_ids().unwrap().into_iter().collect();
            journal::fill_gaps(store, &ids).unwrap();
            assert_eq!(journal::fill_gaps(store, &ids).unwrap(), 0, "the gaps were filled");
            return true;
        }
    }
    complete
}

fn listed(store: &Store, wanted: &Wanted) -> Vec<(Timestamp, JobId, Status)> {
    let listed = listing::list(store, SystemClock::start().now(), wanted, &WorkTrees(store)).unwrap();
    listed.rows.into_iter().map(|row| (row.at, row.id, row.status)).collect()
}

/// Every list by journal, directory or cache is the part of the full scan that it should be.
fn lists_agree(store: &Store) {
    let all =
        listing::list(store, SystemClock::start().now(), &Wanted::default(), &WorkTrees(store)).unwrap().rows;
    let full = |keep: &dyn Fn(&listing::Row) -> bool, limit: usize| -> Vec<(Timestamp, JobId, Status)> {
        let kept = all.iter().filter(|row| keep(row)).take(limit);
        kept.map(|row| (row.at, row.id.clone(), row.status)).collect()
    };
    for limit in [1, 3, 100] {
        let limit_only = Wanted { limit: Some(limit), ..Wanted::default() };
        assert_eq!(listed(store, &limit_only), full(&|_| true, limit), "--limit {limit}");
        for run in ["r0", "r1"] {
            let wanted = Wanted { run: Some(run.to_owned()), ..limit_only.clone() };
            let of_run = |row: &listing::Row| row.job.run_id.as_deref() == Some(run);
            assert_eq!(listed(store, &wanted), full(&of_run, limit), "--run {run} --limit {limit}");
        }
        for state in [
            Status::Queued,
            Status::Running,
            Status::Succeeded,
            Status::Failed,
            Status::Canceled,
            Status::Quarantined,
        ] {
            let wanted = Wanted { state: Some(State::Is(state)), ..limit_only.clone() };
            assert_eq!(listed(store, &wanted), full(&|row| row.status == state, limit), "--state {state}");
        }
    }
    if let Some(middle) = all.get(all.len() / 2) {
        let wanted = Wanted { since: Some(middle.at), ..Wanted::default() };
        assert_eq!(listed(store, &wanted), full(&|row| row.at >= middle.at, usize::MAX), "--since");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn counts_and_lists_are_those_of_the_records_after_any_history(
        history in proptest::collection::vec(happens(), 1..60)
    ) {
        let project = Project::new();
        let store = Store::open_to_change(&project.root("")).unwrap();
        let mut complete = true;
        for what in &history {
            complete = happen(&project, &store, complete, what);
            if complete && matches!(what, Happens::Looked) {
                prop_assert_eq!(cache::counts(&store, &SystemClock::start()).unwrap().totals, ended(&project));
            }
        }
        happen(&project, &store, complete, &Happens::Filled);
        let counts = cache::counts(&store, &SystemClock::start()).unwrap();
        prop_assert_eq!(counts.totals, ended(&project));
        lists_agree(&store);
    }
}

#[test]
fn counts_stay_right_when_the_sorted_file_is_written_anew_many_times() {
    let project = Project::new();
    let store = Store::open_to_change(&project.root("")).unwrap();
    for round in 0..3 {
        for number in round * 1500..round * 1500 + 2200 {
            for choice in [1, 1, number + round] {
                step(&store, &id(number), choice);
            }
        }
        let counts = cache::counts(&store, &SystemClock::start()).unwrap();
        assert_eq!(counts.totals, ended(&project), "round {round}");
        assert_eq!(counts.rebuilt.is_some(), round == 0, "{:?}", counts.rebuilt);
    }
    let parts = std::fs::read_dir(project.root("state/cache")).unwrap().count();
    assert!(parts <= 4, "{parts} files");
}

#[test]
fn a_job_that_is_not_what_its_directory_says_is_counted_right_among_a_thousand() {
    let project = Project::new();
    let store = Store::open_to_change(&project.root("")).unwrap();
    for number in 0..1200 {
        step(&store, &id(number), 1);
    }
    cache::counts(&store, &SystemClock::start()).unwrap();
    // One was started and one canceled by who died before it moved the file.
    for (number, choice) in [(7, 1), (8, 0)] {
        step(&store, &id(number), choice);
        let _ = std::fs::remove_file(store.job_file(&Place::Running, &id(number)));
        std::fs::write(store.job_file(&Place::Queued, &id(number)), "{}").unwrap();
    }
    tells_the_truth(&project, "with 1,200 queued");
    assert_eq!(status(&project)["running"][0]["job_id"], "j7");
    assert_eq!(status(&project)["waiting"], Value::Null, "too many to look at each");
}

#[test]
fn a_line_that_a_living_runner_is_about_to_write_is_not_written_by_recovery() {
    let project = Project::new();
    let store = Store::open_to_change(&project.root("")).unwrap();
    let ids = BTreeSet::from([id(1)]);
    step(&store, &id(1), 1);
    std::fs::remove_file(project.root("state/events.jsonl")).unwrap();
    let Acquire::Held(lease) = Lease::acquire(&store, &id(1), Create::No).unwrap() else { panic!("taken") };
    assert_eq!(journal::fill_gaps(&store, &ids).unwrap(), 0);
    drop(lease);
    assert_eq!(journal::fill_gaps(&store, &ids).unwrap(), 1);
    assert_eq!(journal::fill_gaps(&store, &ids).unwrap(), 0);
}

// ---------------------------------------------------------------- kill -9

#[test]
fn counts_are_right_after_a_kill_at_any_step_of_a_run_and_a_recovery() {
    for again in [false, true] {
        let before = Project::new();
        before.job(&shell("a", "exit 1"));
        before.run(&shell("other", "true")).exits(0);
        if again {
            before.engine(&["run-job", "--job-file", "a.json"]).exits(1);
        }
        let run = ["run-job", "--job-file", "a.json"];
        let steps = crash::steps(&before.copy(), &run).len();
        assert!(steps > 8, "{steps} steps");
        for step in 1..=steps {
            for how in ["ENGINE_TEST_KILL_AT", "ENGINE_TEST_TEAR_AT"] {
                let project = before.copy();
                let _ = status(&project);
                let _ = project.engine_with(&run, &[(how, &step.to_string())]);
                let _ = status(&project);
                project.engine(&["recover"]).exits(0);
                let err = tells_the_truth(&project, &format!("after {how} {step}"));
                assert_eq!(err, "", "the cache was of use");
                let store = Store::open_to_read(&project.root("")).unwrap();
                lists_agree(&store);
            }
        }
    }
}

#[test]
fn a_job_that_was_killed_while_it_ran_is_shown_without_its_runner() {
    let project = Project::new();
    let file = project.job(&shell("a", "sleep 60"));
    let job = project.start(&["run-job", "--job-file", &file], &[]);
    eventually("the job runs", || status(&project)["counts"]["running"] == 1);
    let running = status(&project)["running"][0].clone();
    assert_eq!(
        (&running["job_id"], &running["attempt"], &running["pid"], &running["runner_gone"]),
        (&json!("a"), &json!(1), &json!(job.pid()), &json!(false))
    );
    drop(job);
    assert_eq!(status(&project)["running"][0]["runner_gone"], true);
    assert!(project.engine(&["status"]).exits(0).contains("its runner is gone: engine recover"));
    project.engine(&["recover"]).exits(0);
    assert_eq!(status(&project)["running"], json!([]));
    tells_the_truth(&project, "after recovery");
}

// ---------------------------------------------------------------- the cache itself

/// A project with jobs, its cache, and another change that the cache does not know.
fn with_cache() -> Project {
    let project = Project::new();
    project.run(&shell("a", "true")).exits(0);
    project.run(&shell("b", "exit 1")).exits(1);
    assert!(tells_the_truth(&project, "at first").contains("there is no cache"));
    assert_eq!(tells_the_truth(&project, "from the cache"), "");
    project.run(&shell("c", "true")).exits(0);
    project
}

#[test]
fn whatever_is_wrong_with_the_cache_it_is_made_anew() {
    let edit = |key: &'static str, value: Value| {
        move |project: &Project| {
            let path = project.root("state/cache/counts.json");
            let mut cache: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            *cache.pointer_mut(key).unwrap() = value.clone();
            std::fs::write(&path, cache.to_string()).unwrap();
        }
    };
    let journal = json!([{"inode": 1, "offset": 0, "check": 0}]);
    let totals = json!({"succeeded": 10, "failed": 0, "canceled": 0, "quarantined": 0});
    type Break = Box<dyn Fn(&Project)>;
    let wrongs: Vec<(&str, Break)> = vec![
        ("deleted", Box::new(|project| std::fs::remove_dir_all(project.root("state/cache")).unwrap())),
        ("empty", Box::new(|project| std::fs::write(project.root("state/cache/counts.json"), "").unwrap())),
        (
            "torn",
            Box::new(|project| {
                let path = project.root("state/cache/counts.json");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }),
        ),
        ("newer", Box::new(edit("/origin/schema_version", json!(2)))),
        ("of another store", Box::new(edit("/origin/store", json!("x")))),
        ("of a former boot", Box::new(edit("/origin/boot_id", json!("x")))),
        ("of another journal", Box::new(edit("/journal", journal))),
        ("impossible", Box::new(edit("/totals", totals))),
        ("without its other half", Box::new(edit("/index", json!("counted-x")))),
        ("outside", Box::new(edit("/index", json!("../VERSION")))),
        ("with a torn half", Box::new(edit("/entries", json!(1)))),
        (
            "from the future",
            Box::new(|project| {
                // The journal was cut: the cache knows more of it than there is.
                let journal = std::fs::read(project.root("state/events.jsonl")).unwrap();
                std::fs::write(project.root("state/events.jsonl"), &journal[..100]).unwrap();
            }),
        ),
        (
            "without journal",
            Box::new(|project| std::fs::remove_file(project.root("state/events.jsonl")).unwrap()),
        ),
        (
            "with another journal in the same file",
            Box::new(|project| {
                let path = project.root("state/events.jsonl");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text.replace("\"b\"", "\"d\"")).unwrap();
            }),
        ),
    ];
    for (name, break_it) in wrongs {
        let project = with_cache();
        break_it(&project);
        let err = tells_the_truth(&project, name);
        assert!(err.starts_with("engine: debug: counted 3 records again: "), "{name}: {err}");
        let quiet = project.engine(&["status"]);
        assert!(!quiet.err.contains("counted"), "{name}: {}", quiet.err);
        assert_eq!(tells_the_truth(&project, name), "", "{name}: it was written again");
    }
}

#[test]
fn a_cache_that_can_not_be_written_is_done_without() {
    let project = with_cache();
    std::fs::remove_dir_all(project.root("state/cache")).unwrap();
    std::fs::write(project.root("state/cache"), "in the way").unwrap();
    for _ in 0..2 {
        assert!(tells_the_truth(&project, "without cache").contains("there is no cache"));
        assert_eq!(project.engine(&["list", "--run", "r", "--json"]).exits(0), "");
    }
    let said = project.engine(&["-q", "status"]);
    assert_eq!(said.err, "");
    said.exits(0);
}

#[test]
fn readers_that_write_the_cache_at_once_leave_one_that_is_right() {
    let project = with_cache();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let _ = status(&project);
                }
            });
        }
        for number in 0..20 {
            project.run(&shell(&format!("n{number}"), "true")).exits(0);
            if number % 5 == 0 {
                let _ = std::fs::remove_file(project.root("state/cache/counts.json"));
            }
        }
    });
    tells_the_truth(&project, "after the race");
    assert_eq!(tells_the_truth(&project, "once more"), "");
}

#[test]
fn an_unreadable_record_is_named_and_counts_again_when_it_is_mended() {
    let project = with_cache();
    let path = project.root("state/jobs/a.jsonl");
    let good = std::fs::read(&path).unwrap();
    append(&path, b"{\"schema_version\":1}\n");
    std::fs::remove_dir_all(project.root("state/cache")).unwrap();
    for _ in 0..2 {
        let said = project.engine(&["status", "--json"]);
        assert!(said.err.contains("error: a: "), "{}", said.err);
        assert_eq!(said.json()["unreadable"][0]["job_id"], "a");
        assert_eq!(said.json()["counts"]["succeeded"], 1);
    }
    std::fs::write(&path, good).unwrap();
    assert_eq!(tells_the_truth(&project, "after it was mended"), "");
}

#[test]
fn what_gc_retired_is_not_counted_any_more() {
    let project = with_cache();
    assert_eq!(tells_the_truth(&project, "before"), "");
    project.engine(&["gc", "--keep-count", "1"]).exits(0);
    assert_eq!(tells_the_truth(&project, "after gc"), "", "nothing is counted anew");
    assert_eq!(status(&project)["counts"]["succeeded"], 1);
    let archived =
        project.engine(&["list", "--archived", "--json", "--tool", "shell", "--since", "1h"]).exits(0);
    assert_eq!(archived.lines().count(), 2);
    assert_eq!(project.engine(&["list", "--archived", "--tool", "git"]).exits(0), "");
}

#[test]
fn a_run_is_found_by_its_cache_and_without_it() {
    let project = Project::new();
    let in_run = |id: &str, run: &str| {
        let mut job = shell(id, "true");
        job["run_id"] = json!(run);
        job
    };
    let ids = |run: &str| -> BTreeSet<String> {
        let lines = project.engine(&["list", "--run", run, "--json"]).exits(0);
        let id =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["job_id"].as_str().unwrap().to_owned();
        lines.lines().map(id).collect()
    };
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    let run = "a/../b ä";
    project.run(&in_run("one", run)).exits(0);
    assert_eq!(ids(run), set(&["one"]));
    project.run(&in_run("two", run)).exits(0);
    std::fs::write(project.root("jobs/queued/three.json"), in_run("three", run).to_string()).unwrap();
    assert_eq!(ids(run), set(&["one", "two", "three"]), "the cache is read on");
    project.run(&in_run("one", "other")).exits(0);
    assert_eq!(ids(run), set(&["two", "three"]), "the record says where it is");
    let cache = std::fs::read_dir(project.root("state/cache/runs")).unwrap().next().unwrap().unwrap().path();
    let of_another_boot =
        std::fs::read_to_string(&cache).unwrap().replace("\"boot_id\":\"", "\"boot_id\":\"x");
    let of_another_boot =
        of_another_boot.lines().filter(|id| *id != "two").collect::<Vec<_>>().join("\n") + "\n";
    let of_another_boot = of_another_boot.replace("\"ids\":3", "\"ids\":2");
    for text in ["", "{}\none\n", "torn", &of_another_boot] {
        std::fs::write(&cache, text).unwrap();
        assert_eq!(ids(run), set(&["two", "three"]), "{text:?}");
    }
    std::fs::remove_file(project.root("state/events.jsonl")).unwrap();
    assert_eq!(ids(run), set(&["two", "three"]), "from the records");
}

// ---------------------------------------------------------------- what stands in the way

#[test]
fn a_job_file_that_others_can_write_is_named_by_status_and_not_counted() {
    let project = Project::new();
    let path = project.root("jobs/queued/a.json");
    std::fs::write(&path, shell("a", "true").to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let document = status(&project);
    assert_eq!(document["counts"]["queued"], 0);
    assert_eq!(document["left_alone"][0]["file"], "jobs/queued/a.json");
    let text = project.engine(&["status"]).exits(0);
    assert!(
        text.contains("jobs/queued/a.json is left alone: others can write it (mode 0666): chmod go-w"),
        "{text}"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        (&status(&project)["counts"]["queued"], &status(&project)["left_alone"]),
        (&json!(1), &json!([]))
    );
}

#[test]
fn status_and_list_tell_what_queued_jobs_wait_for() {
    let project = Project::new();
    let put = |id: &str, key: &str, value: Value| {
        let mut job = shell(id, "true");
        job[key] = value;
        std::fs::write(project.root(&format!("jobs/queued/{id}.json")), job.to_string()).unwrap();
    };
    project.run(&shell("bad", "exit 1")).exits(1);
    put("later", "not_before", json!("2999-01-01T00:00:00Z"));
    put("after", "depends_on", json!(["bad"]));
    put("held", "priority", json!("low"));
    put("ready", "priority", json!("low"));
    std::fs::write(project.root("state/control/held.hold"), "").unwrap();
    let document = status(&project);
    assert_eq!(document["waiting"], json!({"hold": 1, "time": 1, "dependency": 1, "lock": 0}));
    assert_eq!((&document["counts"]["queued"], &document["held"]), (&json!(4), &json!(false)));
    let waiting = || -> BTreeMap<String, String> {
        let lines = project.engine(&["list", "--state", "waiting", "--json"]).exits(0);
        let parsed = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed.map(|row| (row["job_id"].to_string(), row["waiting"]["code"].to_string())).collect()
    };
    let want = |(id, why): &(&str, &str)| (format!("\"{id}\""), format!("\"waiting_{why}\""));
    assert_eq!(
        waiting(),
        [("after", "dependency"), ("held", "hold"), ("later", "time")].iter().map(want).collect()
    );
    std::fs::write(project.root("state/control/HOLD"), "").unwrap();
    assert_eq!(waiting().len(), 4);
    assert!(project.engine(&["status"]).exits(0).contains("held by state/control/HOLD"));
}

// ---------------------------------------------------------------- events

fn line(id: &str, seq: u64, at: &str) -> String {
    let line = json!({"schema_version": 1, "at": at, "job_id": id, "seq": seq, "attempt": null, "status": "queued",
        "outcome": null, "reason_code": null, "place": "queued", "run_id": null, "workstream_id": null, "tool": null,
        "of_a_newer_engine": 1});
    format!("{line}\n")
}

#[test]
fn a_follower_gives_every_line_once_over_rotations_and_never_a_torn_one() {
    let project = Project::new();
    let live = project.root("state/events.jsonl");
    std::fs::create_dir_all(project.root("state")).unwrap();
    let mut all = String::new();
    let write = |bytes: &str| append(&live, bytes.as_bytes());
    let mut child = project.command(&["events", "--follow", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap() + "\n";
    for number in 0..40 {
        let text = line("a", number, "2026-11-21T10:00:00.000Z");
        let (head, tail) = text.split_at(text.len() / 2);
        write(head);
        if number % 7 == 3 {
            // The writer of the other half is dead: the next one ends the line.
            write("\n");
            write(&text);
        } else {
            write(tail);
        }
        assert_eq!(next(), text);
        all.push_str(&text);
        if number % 10 == 5 {
            let aside = project.root(&format!("state/events.{number}-1.jsonl"));
            std::fs::rename(&live, &aside).unwrap();
            let late = line("late", number, "2026-11-21T10:00:00.000Z");
            // Somebody had opened the file before it was moved aside.
            append(&aside, late.as_bytes());
            assert_eq!(next(), late);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let printed = project.engine(&["events", "--json"]).exits(0);
    assert_eq!(printed.lines().count(), 44);
    assert!(printed.contains("of_a_newer_engine"), "a line is printed as it is");
}

#[test]
fn a_follower_ends_when_nobody_reads_any_more_even_if_nothing_happens() {
    let project = Project::new();
    project.run(&shell("a", "true")).exits(0);
    let mut child = project.command(&["events", "--follow"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("running      a  attempt 1"), "{first}");
    eventually("the follower ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn events_are_chosen_by_time_job_and_run() {
    let project = Project::new();
    let mut job = shell("a", "true");
    job["run_id"] = json!("r");
    project.run(&job).exits(0);
    project.run(&shell("b", "exit 3")).exits(3);
    let old = project.root("state/events.1-1.jsonl");
    std::fs::write(&old, line("old", 1, "2020-01-01T00:00:00.000Z")).unwrap();
    let count = |args: &[&str]| {
        let mut all = vec!["events"];
        all.extend(args);
        project.engine(&all).exits(0).lines().count()
    };
    assert_eq!(count(&[]), 5);
    assert_eq!(count(&["--since", "1h"]), 4);
    assert_eq!(count(&["--since", "2019-12-31T00:00:00Z"]), 5);
    assert_eq!(count(&["--since", "2999-01-01T00:00:00Z"]), 0);
    assert_eq!(count(&["--job", "b"]), 2);
    assert_eq!(count(&["--run", "r"]), 2);
    assert_eq!(project.engine(&["events", "--since", "soon"]).code, 2);
}

#[test]
fn a_record_begun_anew_whose_lines_were_never_told_is_not_taken_for_the_old_one() {
    for number in 0..20 {
        let project = Project::new();
        let store = Store::open_to_change(&project.root("")).unwrap();
        let first = if number % 2 == 0 { Happens::Step(6, 0) } else { Happens::Untold(6, 0) };
        let history =
            [first, Happens::Step(6, 0), Happens::Removed(6), Happens::Untold(6, 0), Happens::Untold(6, 0)];
        let complete = history.iter().fold(true, |complete, what| happen(&project, &store, complete, what));
        happen(&project, &store, complete, &Happens::Filled);
        lists_agree(&store);
    }
}

#[test]
fn recovery_of_one_job_reads_the_same_of_a_small_journal_and_of_a_large_one() {
    let read = |megabytes: usize| {
        let project = Project::new();
        let store = Store::open_to_change(&project.root("")).unwrap();
        let live = project.root("state/events.jsonl");
        let block = line("other", 1, "2026-11-21T10:00:00.000Z").repeat(4000);
        for part in 0..megabytes.div_ceil(64) {
            let path = project.root(&format!("state/events.{part}-1.jsonl"));
            for _ in 0..64 * (1 << 20) / block.len() {
                append(&path, block.as_bytes());
            }
        }
        append(&live, block.repeat(3).as_bytes());
        step(&store, &id(1), 0);
        step(&store, &id(1), 0);
        // The line of a runner that died before it told it.
        let told = std::fs::metadata(&live).unwrap().len();
        step(&store, &id(1), 0);
        let file = std::fs::File::options().write(true).open(&live).unwrap();
        file.set_len(told).unwrap();
        let before = bytes_read();
        assert_eq!(journal::fill_latest(&store, &id(1)).unwrap(), 1);
        let read = bytes_read() - before;
        assert_eq!(journal::fill_latest(&store, &id(1)).unwrap(), 0, "it is told");
        let ids = BTreeSet::from([id(1)]);
        assert_eq!(journal::fill_gaps(&store, &ids).unwrap(), 0, "nothing else was lacking");
        read
    };
    let (small, large) = (read(0), read(128));
    assert!(large < small + (1 << 20), "{large} bytes of a large journal, {small} of a small one");
}

/// What this thread has read from files.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_last_line_that_was_told_long_ago_is_told_again_and_nothing_before_it() {
    let project = Project::new();
    let store = Store::open_to_change(&project.root("")).unwrap();
    (0..3).for_each(|_| step(&store, &id(1), 0));
    let seq = store.read_record(&id(1)).unwrap().unwrap().line.seq;
    let live = project.root("state/events.jsonl");
    append(&live, line("other", 1, "2999-11-21T10:00:00.000Z").repeat(10_000).as_bytes());
    assert_eq!(journal::fill_latest(&store, &id(1)).unwrap(), 1);
    let last = project.journal().pop().unwrap();
    assert_eq!((last["job_id"].as_str(), last["seq"].as_u64()), (Some("j1"), Some(seq)));
}

#[test]
fn gc_tells_the_journal_of_each_job_and_the_counts_follow_it() {
    let project = Project::new();
    for name in ["a", "b", "c"] {
        project.run(&shell(name, "true")).exits(0);
    }
    assert!(tells_the_truth(&project, "before").contains("there is no cache"));
    project.engine(&["gc", "--keep-count", "1"]).exits(0);
    assert_eq!(tells_the_truth(&project, "after"), "", "nothing is counted anew");
    let retired: Vec<Value> = project
        .journal()
        .into_iter()
        .filter(|line| line["place"].as_str().unwrap().starts_with("archive/20"))
        .collect();
    assert_eq!(retired.len(), 2);
    assert_eq!((&retired[0]["job_id"], &retired[0]["seq"]), (&json!("a"), &json!(3)));
    assert_eq!(retired[0]["status"], "succeeded");
    let events = project.engine(&["events", "--job", "a"]).exits(0);
    assert!(events.lines().last().unwrap().contains("retired to archive/20"), "{events}");
    // Neither recovery nor another gc tells it again, and a job of the same id begins at 1.
    project.engine(&["recover"]).exits(0);
    project.engine(&["gc", "--keep-count", "1"]).exits(0);
    project.run(&shell("a", "true")).exits(0);
    project.engine(&["recover"]).exits(0);
    let of_a: Vec<u64> = project
        .journal()
        .iter()
        .filter(|line| line["job_id"] == "a")
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(of_a, [1, 2, 3, 1, 2]);
    tells_the_truth(&project, "after a new one");
}

#[test]
fn gc_clears_old_parts_of_the_journal_but_never_the_newest_two_and_recovery_does_not_write_them_again() {
    let project = Project::new();
    project.run(&shell("kept", "true")).exits(0);
    let live = project.root("state/events.jsonl");
    let part = |number: u32| project.root(&format!("state/events.{number}-1.jsonl"));
    // Its lines stand in the oldest part, and that is cleared away while the record stays.
    std::fs::rename(&live, part(1)).unwrap();
    for number in 2..=4 {
        append(&part(number), line("old", 1, "2020-01-01T00:00:00.000Z").as_bytes());
    }
    let parts = || (1..=4).filter(|number| part(*number).exists()).collect::<Vec<_>>();
    project.engine(&["gc"]).exits(0);
    assert_eq!(parts(), [1, 2, 3, 4], "without a limit nothing goes");
    project.engine(&["gc", "--older-than", "30d"]).exits(0);
    assert_eq!(parts(), [1, 2, 3, 4], "the first part is not old");
    std::fs::remove_file(part(1)).unwrap();
    append(&part(1), line("old", 1, "2020-01-01T00:00:00.000Z").as_bytes());
    let plan = project.engine(&["gc", "--older-than", "30d", "--dry-run", "--json"]).json();
    assert_eq!(plan["journal_parts"], 2);
    assert_eq!(parts(), [1, 2, 3, 4]);
    project.engine(&["gc", "--older-than", "30d"]).exits(0);
    assert_eq!(parts(), [3, 4]);
    tells_the_truth(&project, "after the parts went");
}

#[test]
fn gc_by_count_keeps_the_parts_that_tell_of_a_job_that_stays_and_none_goes_where_that_is_not_known() {
    for kept in ["ended", "waiting", "on its second life"] {
        let project = Project::new();
        let mut job = shell("kept", if kept == "on its second life" { "false" } else { "true" });
        if kept == "waiting" {
            job["not_before"] = json!("2999-01-01T00:00:00Z");
        }
        let code = match kept {
            "ended" => 0,
            "waiting" => 75,
            _ => 1,
        };
        project.engine(&["run-job", "--park", "--job-file", &project.job(&job)]).exits(code);
        let path = project.root("state/jobs/kept.jsonl");
        let day = SystemClock::start().now().day();
        let long_ago = std::fs::read_to_string(&path).unwrap();
        let long_ago = long_ago.replace(&format!("\"{day}T"), "\"2020-01-01T");
        std::fs::write(&path, long_ago).unwrap();
        if kept == "on its second life" {
            project.engine(&["requeue", "kept"]).exits(0);
        }
        let live = project.root("state/events.jsonl");
        std::fs::rename(&live, project.root("state/events.2-1.jsonl")).unwrap();
        std::fs::write(project.root("state/events.2-1.jsonl"), line("kept", 1, "2020-01-01T23:59:59.999Z"))
            .unwrap();
        append(
            &project.root("state/events.1-1.jsonl"),
            line("old", 1, "2019-01-01T00:00:00.000Z").as_bytes(),
        );
        for number in 3..=5 {
            let path = project.root(&format!("state/events.{number}-1.jsonl"));
            append(&path, line("new", 1, "2020-01-02T00:00:00.000Z").as_bytes());
        }
        let parts = || {
            let there = |number: &u32| project.root(&format!("state/events.{number}-1.jsonl")).exists();
            (1..=5).filter(there).collect::<Vec<_>>()
        };
        // A record that cannot be read says nothing of the time that it is of.
        let torn = project.root("state/jobs/torn.jsonl");
        std::fs::write(&torn, "{}\n").unwrap();
        project.engine(&["gc", "--keep-count", "1"]).exits(125);
        assert_eq!(parts(), [1, 2, 3, 4, 5], "{kept}");
        std::fs::remove_file(&torn).unwrap();
        let plan = project.engine(&["gc", "--keep-count", "1", "--dry-run", "--json"]).json();
        assert_eq!(plan["journal_parts"], 1, "{kept}");
        project.engine(&["gc", "--keep-count", "1"]).exits(0);
        assert_eq!(parts(), [2, 3, 4, 5], "{kept}");
    }
}

#[test]
fn a_part_of_the_journal_that_is_gone_already_is_not_counted_as_removed() {
    let project = Project::new();
    for number in 1..=4 {
        let path = project.root(&format!("state/events.{number}-1.jsonl"));
        append(&path, line("old", 1, "2020-01-01T00:00:00.000Z").as_bytes());
    }
    let store = Store::open_to_change(&project.root("")).unwrap();
    let far = Timestamp::parse("2999-01-01T00:00:00Z").unwrap();
    let old = journal::old_parts(&store, far).unwrap();
    std::fs::remove_file(project.root("state/events.1-1.jsonl")).unwrap();
    assert_eq!((old.len() - 1, journal::remove(&store, &old).unwrap()), (1, 1));
}

#[test]
fn what_was_cleared_away_is_not_missing() {
    let project = Project::new();
    project.run(&shell("kept", "true")).exits(0);
    let live = project.root("state/events.jsonl");
    for number in 1..=3 {
        std::fs::copy(&live, project.root(&format!("state/events.{number}-1.jsonl"))).unwrap();
    }
    std::fs::remove_file(&live).unwrap();
    let store = Store::open_to_change(&project.root("")).unwrap();
    let far = Timestamp::parse("2999-01-01T00:00:00Z").unwrap();
    let old = journal::old_parts(&store, far).unwrap();
    assert_eq!(old.len(), 1);
    journal::remove(&store, &old).unwrap();
    for number in 2..=3 {
        std::fs::remove_file(project.root(&format!("state/events.{number}-1.jsonl"))).unwrap();
    }
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.journal(), Vec::<Value>::new());
    assert!(!project.engine(&["doctor"]).out.contains("kept line"), "doctor does not miss them either");
    project.run(&shell("new", "true")).exits(0);
    std::fs::remove_file(&live).unwrap();
    project.engine(&["recover"]).exits(0);
    assert_eq!(project.journal().len(), 2, "what came later is");
}
