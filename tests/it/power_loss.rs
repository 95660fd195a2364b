//! The machine loses its power: every state that the disk may show afterwards is recovered from.
//!
//! A command runs once and logs its steps with all that they write; `disk` makes from the log each state that a disk may
//! show after a power loss at any of them. Each state becomes a root of its own: `engine recover` runs twice, the
//! invariants are checked, what was told must hold, and the job is drained and must not have run too often.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{
    attempts, check, check_without_file, job, make_old, project, snapshot, starts_of, with_queued,
};
use crate::disk::{self, Files, Lost, Model};
use crate::support::{Project, Running, eventually, row};

/// A file system of which nothing is known but that its locks reach everybody.
pub const ANY_DISK: &str = "1 1 0:1 / / rw - f2fs /dev/x rw";

/// In the suite a scenario with more states takes every second, third, … of them; `benches/matrix.sh` takes all.
const AT_MOST: usize = 80;

/// What a command has told with its end, and what must hold from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The jobs are accepted: they run, however often the power goes.
    Accepted,
    /// The result stands in the record.
    Result,
    /// The job is canceled and does not run.
    Canceled,
    /// The record is kept, here or in the archive, from before the command on.
    Kept,
    /// The queue is held.
    Held,
}

struct Scenario {
    before: Project,
    args: Vec<&'static str>,
    ids: Vec<&'static str>,
    told: Told,
    /// How often the tool of each job may start, before and after the loss, with its starts before the command.
    starts: usize,
    /// What a person repeats who was told nothing; it must work, and then as much as told is promised.
    again: Option<Vec<&'static str>>,
    /// True if nobody was promised the file of a job that has ended.
    file_may_go: bool,
    /// What runs until the power goes.
    running: RefCell<Option<Running>>,
}

impl Scenario {
    fn new(before: Project, args: &[&'static str], told: Told) -> Self {
        Self {
            before,
            args: args.to_vec(),
            ids: vec!["a"],
            told,
            starts: 1,
            again: None,
            file_may_go: false,
            running: RefCell::default(),
        }
    }
}

/// What is in a directory, by paths below it.
pub fn read(dir: &Path) -> (Files, BTreeSet<PathBuf>) {
    let (mut files, mut dirs) = (Files::new(), BTreeSet::from([PathBuf::new()]));
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).unwrap().flatten() {
            let below = entry.path().strip_prefix(dir).unwrap().to_path_buf();
            if entry.file_type().unwrap().is_dir() {
                dirs.insert(below);
                todo.push(entry.path());
            } else {
                files.insert(below, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    (files, dirs)
}

/// A project with the files that a disk shows, and the notes of the tool's starts before the power went.
pub fn boot(lost: &Lost, starts: &str) -> Project {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::without_root();
    for dir in &lost.dirs {
        std::fs::create_dir_all(project.dir().join(dir)).unwrap();
        std::fs::set_permissions(project.dir().join(dir), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    for (path, content) in &lost.files {
        let path = project.dir().join(path);
        std::fs::write(&path, content).unwrap();
        make_old(&path);
    }
    std::fs::write(project.path("starts"), starts).unwrap();
    // A tool that waits for this waits no more.
    std::fs::write(project.path("go"), "").unwrap();
    // What stands for the disk is a copy, which a power loss does not make of it.
    project.engine(&["init", "-q", "--adopt"]).exits(0);
    project
}

/// Runs the scenario once, loses the power in every way, and checks what must hold; gives the number of states.
fn in_every_way(scenario: &Scenario, model: Model) -> usize {
    let (files, dirs) = read(scenario.before.dir());
    let log = scenario.before.path("disk-log");
    let mut env = vec![("ENGINE_TEST_DISK", log.to_str().unwrap())];
    if model == Model::ByFile {
        env.push(("ENGINE_TEST_MOUNT", ANY_DISK));
    }
    let said = scenario.before.engine_with(&scenario.args, &env);
    // The power takes what runs, too.
    drop(scenario.running.take());
    assert!(said.code == 0 || said.code == 3 || said.code == 75, "{} {}", said.code, said.err);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let steps = disk::parse(&text, scenario.before.dir(), &files);
    let began =
        String::from_utf8_lossy(files.get(Path::new("starts")).map_or(&[][..], |bytes| bytes)).into_owned();
    let all = std::fs::read_to_string(scenario.before.path("starts")).unwrap_or_default();
    let states = disk::states(model, &files, &dirs, &steps);
    let every =
        if std::env::var_os("ENGINE_STRESS_JOBS").is_some() { 1 } else { states.len().div_ceil(AT_MOST) };
    for lost in states.iter().step_by(every) {
        let spawned = steps[..lost.at].iter().filter(|step| step.name == "Spawn").count();
        let lines = began.lines().count() + spawned;
        let noted: String = all.lines().take(lines).map(|line| format!("{line}\n")).collect();
        let mut told = lost.at == steps.len();
        let at = format!("{:?}, {}", scenario.args, lost.how);
        let project = boot(lost, &noted);
        recovers(scenario, &project, &at);
        if let Some(again) = scenario.again.as_ref().filter(|_| !told) {
            let said = project.engine(again);
            assert_eq!(said.code, 0, "{at}: not completed: {}", said.err);
            told = true;
        }
        if told {
            keeps_its_word(scenario, &project, &at);
        }
        runs_no_more_than_asked(scenario, &project, told, &at);
    }
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or_default().replace('_', " ");
    let command = scenario.args.join(" ");
    let what = format!("power loss {test} (`engine {command}`), {model:?} disk: states recovered from");
    row(&what, states.len());
    states.len()
}

fn recovers(scenario: &Scenario, project: &Project, at: &str) {
    let said = project.engine(&["recover"]);
    assert_eq!(said.code, 0, "{at}: {}", said.err);
    let first = snapshot(project);
    project.engine(&["recover"]).exits(0);
    let second = snapshot(project);
    let changed: Vec<&PathBuf> =
        first.keys().chain(second.keys()).filter(|path| first.get(*path) != second.get(*path)).collect();
    assert!(changed.is_empty(), "{at}: a second recovery changed {changed:?}");
    for id in &scenario.ids {
        let ended = project.record_if_any(id).is_some_and(|record| record["status"] != "queued");
        if scenario.told == Told::Kept {
            // The record may have gone on purpose; that it is in the archive is looked at below.
            let gone = project.record_if_any(id).is_none();
            if !gone {
                check_without_file(project, id, at);
            }
        } else if scenario.file_may_go && ended {
            check_without_file(project, id, at);
        } else {
            check(project, id, at);
        }
    }
}

/// What the command had told when the power went.
fn keeps_its_word(scenario: &Scenario, project: &Project, at: &str) {
    for id in &scenario.ids {
        let record = project.record_if_any(id);
        match scenario.told {
            Told::Accepted => {
                assert_eq!(project.places(id), ["queued"], "{at}: {id} was accepted: {record:?}");
            }
            Told::Result => {
                let (there, told) = (record.unwrap_or_default(), scenario.before.record(id));
                for key in ["status", "result", "attempts"] {
                    assert_eq!(there[key], told[key], "{at}: this was told of {id}");
                }
            }
            Told::Canceled => {
                let record = record.unwrap_or_else(|| panic!("{at}: nothing is known of {id}"));
                assert_eq!(record["status"], "canceled", "{at}: {id}");
            }
            Told::Held => {
                let refused = project.engine(&["run-job", "--claim", id]);
                assert_eq!(refused.code, 125, "{at}: {}", refused.out);
                assert!(refused.err.contains("held"), "{at}: {}", refused.err);
            }
            Told::Kept => {}
        }
    }
}

fn runs_no_more_than_asked(scenario: &Scenario, project: &Project, told: bool, at: &str) {
    let _ = project.engine(&["release", "--all"]);
    for id in &scenario.ids {
        for _ in 0..5 {
            if project.places(id) != ["queued"] {
                break;
            }
            make_old(&project.root(&format!("jobs/queued/{id}.json")));
            let claimed = project.engine(&["run-job", "--claim", id]);
            if !told && claimed.code == 125 && claimed.err.contains("waiting_dependency") {
                break;
            }
            assert_ne!(claimed.code, 125, "{at}: not claimed: {}", claimed.err);
        }
        let ran = starts_of(project, id);
        assert!(ran <= scenario.starts, "{at}: {id} started {ran} times");
        let record = project.record_if_any(id);
        if let Some(record) = &record {
            assert_eq!(record["status"] == "succeeded", ran > 0 && succeeded(record), "{at}: {record}");
            assert!(ran <= attempts(record), "{at}: a start was forgotten: {record}");
        }
        if told && scenario.told == Told::Accepted {
            assert_eq!(record.unwrap()["status"], "succeeded", "{at}: {id} was accepted and did not run");
        }
        if scenario.told == Told::Kept {
            let shown = project.engine(&["show", id, "--json"]);
            assert_eq!(shown.code, 0, "{at}: {id} is gone: {}", shown.err);
            assert_eq!(shown.json()["status"], "succeeded", "{at}: {id}");
            assert!(
                project.record_if_any(id).is_some() || project.places(id).is_empty(),
                "{at}: a file without a record"
            );
        }
    }
}

fn succeeded(record: &Value) -> bool {
    record["result"]["outcome"] == "succeeded"
}

/// Both disks; the scenario is made anew for each, for it runs once.
#[track_caller]
fn on_both_disks(at_least: usize, scenario: impl Fn() -> Scenario) {
    for model in [Model::Ordered, Model::ByFile] {
        let states = in_every_way(&scenario(), model);
        assert!(states >= at_least, "{model:?}: only {states} states");
    }
}

#[test]
fn during_the_parking_of_a_job_that_waits() {
    on_both_disks(8, || {
        let before = project();
        before.job(&job(&json!({"not_before": "2020-01-01T00:00:00Z", "depends_on": ["other"]})));
        before.engine(&["hold", "--all"]).exits(0);
        let args = ["run-job", "--job-file", "a.json", "--park"];
        let mut scenario = Scenario::new(before, &args, Told::Accepted);
        scenario.file_may_go = true;
        scenario
    });
}

fn batch() -> String {
    let one = |id: &str, more: &Value| {
        let mut one = job(more);
        one["job_id"] = json!(id);
        format!("{one}\n")
    };
    one("a", &json!({"key": "k"})) + &one("b", &json!({})) + &one("c", &json!({"depends_on": ["a"]}))
}

#[test]
fn during_a_submission_of_one() {
    on_both_disks(8, || {
        let before = project();
        before.job(&job(&json!({})));
        let mut scenario = Scenario::new(before, &["submit", "a.json"], Told::Accepted);
        scenario.again = Some(vec!["submit", "--skip-existing", "a.json"]);
        scenario
    });
}

#[test]
fn during_a_submission_of_a_batch() {
    on_both_disks(20, || {
        let before = project();
        std::fs::write(before.path("batch.jsonl"), batch()).unwrap();
        let mut scenario = Scenario::new(before, &["submit", "batch.jsonl"], Told::Accepted);
        scenario.ids = vec!["a", "b", "c"];
        scenario.again = Some(vec!["submit", "--skip-existing", "batch.jsonl"]);
        scenario
    });
}

/// A check that finds nothing proves nothing: without the syncs, each kind of promise is seen to break.
#[test]
fn of_a_root_without_syncs_is_noticed() {
    let fast = |before: &Project| {
        let settings = before.root("engine.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(settings, format!("durability = \"fast\"\n{text}")).unwrap();
    };
    let scenarios = || {
        let submitted = project();
        submitted.job(&job(&json!({})));
        let ended = project();
        ended.run(&job(&json!({}))).exits(0);
        let mut again = Scenario::new(ended, &["requeue", "a"], Told::Accepted);
        again.starts = 2;
        vec![
            Scenario::new(submitted, &["submit", "a.json"], Told::Accepted),
            Scenario::new(with_queued(&json!({})), &["run-job", "--claim", "a"], Told::Result),
            Scenario::new(with_queued(&json!({})), &["cancel", "a"], Told::Canceled),
            Scenario::new(with_queued(&json!({})), &["hold", "--all"], Told::Held),
            again,
        ]
    };
    for model in [Model::Ordered, Model::ByFile] {
        for scenario in scenarios() {
            fast(&scenario.before);
            let looked =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_every_way(&scenario, model)));
            assert!(looked.is_err(), "{model:?}: {:?} lost nothing without its syncs", scenario.args);
        }
    }
}

#[test]
fn during_a_direct_run_of_a_new_id() {
    on_both_disks(15, || {
        let before = project();
        before.job(&job(&json!({})));
        let mut scenario = Scenario::new(before, &["run-job", "--job-file", "a.json"], Told::Result);
        scenario.file_may_go = true;
        scenario
    });
}

#[test]
fn during_a_direct_run_of_an_ended_id() {
    on_both_disks(15, || {
        let before = project();
        before.job(&job(&json!({})));
        before.engine(&["run-job", "--job-file", "a.json"]).exits(0);
        let mut scenario = Scenario::new(before, &["run-job", "--job-file", "a.json"], Told::Result);
        scenario.starts = 2;
        scenario
    });
}

#[test]
fn during_a_claim_by_a_worker() {
    on_both_disks(15, || Scenario::new(with_queued(&json!({})), &["work", "--drain"], Told::Result));
}

#[test]
fn during_a_claim_of_a_repeatable_job() {
    on_both_disks(15, || {
        let before = with_queued(&json!({"on_crash": "requeue"}));
        let mut scenario = Scenario::new(before, &["run-job", "--claim", "a"], Told::Result);
        // Once before the power went, and once more because the job says that it may.
        scenario.starts = 2;
        scenario
    });
}

fn failing_once() -> Value {
    let script =
        format!("echo $ENGINE_ATTEMPT >> starts; test -s {0} || {{ echo x > {0}; exit 3; }}", "once");
    let backoff = json!({"strategy": "immediate"});
    json!({
        "command": {"exe": "sh", "args": ["-c", script]},
        "metadata": {"retry_policy": "retry_same", "max_retries": 1, "backoff": backoff},
    })
}

#[test]
fn during_a_retry_of_a_worker() {
    on_both_disks(20, || {
        let mut scenario = Scenario::new(with_queued(&failing_once()), &["work", "--drain"], Told::Result);
        scenario.starts = 2;
        scenario
    });
}

#[test]
fn req_data_during_a_requeue() {
    on_both_disks(6, || {
        let before = project();
        before.run(&job(&json!({}))).exits(0);
        let mut scenario = Scenario::new(before, &["requeue", "a"], Told::Accepted);
        scenario.starts = 2;
        scenario
    });
}

#[test]
fn during_a_cancel_of_a_queued_job() {
    on_both_disks(6, || Scenario::new(with_queued(&json!({})), &["cancel", "a"], Told::Canceled));
}

#[test]
fn hold_sync_during_a_hold() {
    on_both_disks(4, || Scenario::new(with_queued(&json!({})), &["hold", "--all"], Told::Held));
}

#[test]
fn cancel_sync_during_a_cancel_of_a_running_job() {
    for model in [Model::Ordered, Model::ByFile] {
        let before = project();
        let script = "echo $ENGINE_ATTEMPT >> starts; until test -e go; do sleep 0.01; done";
        let command = json!({"exe": "sh", "args": ["-c", script]});
        before.job(&job(&json!({"on_crash": "requeue", "command": command})));
        let running = before.start(&["run-job", "--job-file", "a.json"], &[]);
        eventually("it runs", || starts_of(&before, "a") == 1);
        // The runner does not honor the request before the power goes.
        running.signal(Signal::STOP);
        let mut scenario = Scenario::new(before, &["cancel", "--no-wait", "a"], Told::Canceled);
        scenario.starts = 2;
        scenario.file_may_go = true;
        scenario.running = RefCell::new(Some(running));
        let states = in_every_way(&scenario, model);
        assert!(states >= 4, "{model:?}: only {states} states");
    }
}

#[test]
fn gc_sync_during_gc() {
    on_both_disks(8, || {
        let before = project();
        before.run(&job(&json!({}))).exits(0);
        Scenario::new(before, &["gc", "--keep-count", "0"], Told::Kept)
    });
}
