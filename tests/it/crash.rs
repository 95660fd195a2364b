//! The program ends at every durable step, one after the other, and recovery makes up for it.
//!
//! `at_each_step` runs a scenario with the N-th step as its last, N = 1, 2, …, until it runs through. After each end
//! `engine recover` runs twice, the invariants are checked, the job is drained from the queue and then run again.
//! All roots of a scenario are copies of one, so they have one uuid and one marker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{Project, Said, processes_with};

/// The tool of these tests: a line in `starts` for each time it really started.
pub const TOOL: &str = "echo $ENGINE_ATTEMPT >> starts; exit $(cat code 2>/dev/null || echo 0)";

/// A shell job `a` with that tool and more keys.
pub fn job(more: &Value) -> Value {
    let mut job = json!({"job_id": "a", "tool": "shell", "command": {"exe": "sh", "args": ["-c", TOOL]}});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

/// What is done, and what it may at most do.
pub struct Scenario {
    /// The state before.
    pub before: Project,
    /// What is run and ended at each step.
    pub args: Vec<&'static str>,
    /// How often the tool may start by the run and, if its job was left in the queue, one more claim.
    pub starts: usize,
}

impl Scenario {
    /// `run-job --job-file a.json` in a fresh root.
    pub fn direct(job: &Value) -> Self {
        let before = Project::new();
        before.job(job);
        Self { before, args: vec!["run-job", "--job-file", "a.json"], starts: 1 }
    }

    /// `run-job --claim a` of a file that a person put into the queue.
    pub fn claim(text: &str) -> Self {
        let before = Project::new();
        // What makes the directories: a run of another job.
        before.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
        put(&before, "queued", text);
        Self { before, args: vec!["run-job", "--claim", "a"], starts: 1 }
    }
}

/// A root in which a job has run, so that all directories are there.
pub fn project() -> Project {
    let project = Project::new();
    project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    project
}

/// One with a queued job `a` with more keys.
pub fn with_queued(more: &Value) -> Project {
    let project = project();
    put(&project, "queued", &job(more).to_string());
    project
}

/// Puts a job file of `a` in a place, as if it had been there for a while.
pub fn put(project: &Project, place: &str, text: &str) {
    let path = project.root(&format!("jobs/{place}/a.json"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    make_old(&path);
}

/// Sets the time of a file back, as if nobody had touched it for two hours.
pub fn make_old(path: &Path) {
    let file = std::fs::File::options().read(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
}

/// One durable step of a run, as the trace says it.
#[derive(Debug, Clone)]
pub struct Step {
    pub number: u64,
    pub kind: String,
    pub bytes: u64,
    pub path: String,
}

impl Step {
    pub fn is(&self, kind: &str, path: &str) -> bool {
        self.kind == kind && self.path.contains(path)
    }
}

/// The steps of a command; it is run in this project.
pub fn steps<S: AsRef<std::ffi::OsStr>>(project: &Project, args: &[S]) -> Vec<Step> {
    let file = project.path("trace");
    let _ = std::fs::remove_file(&file);
    let _ = project.engine_with(args, &[("ENGINE_TEST_TRACE", file.to_str().unwrap())]);
    let steps = traced(&file);
    std::fs::remove_file(&file).unwrap();
    steps
}

/// The steps in a trace.
pub fn traced(file: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, '\t').collect();
            Step {
                number: fields[0].parse().unwrap(),
                kind: fields[1].into(),
                bytes: fields[2].parse().unwrap(),
                path: fields[3].into(),
            }
        })
        .collect()
}

/// The number of the n-th step (from 1) of a kind on a path.
#[track_caller]
pub fn nth(steps: &[Step], n: usize, kind: &str, path: &str) -> u64 {
    let found = steps.iter().filter(|step| step.is(kind, path)).nth(n - 1);
    found.unwrap_or_else(|| panic!("no {n}. {kind} of {path} in {steps:#?}")).number
}

/// How many times the tool started.
pub fn starts(project: &Project) -> usize {
    std::fs::read_to_string(project.path("starts")).unwrap_or_default().lines().count()
}

/// How many times the tool of one job started.
pub fn starts_of(project: &Project, id: &str) -> usize {
    let text = std::fs::read_to_string(project.path("starts")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("/{id}/"))).count()
}

/// All attempts that a record knows, of all lives.
pub fn attempts(record: &Value) -> usize {
    let former = record["former"]["attempts"].as_u64().unwrap();
    usize::try_from(former).unwrap() + record["attempts"].as_array().unwrap().len()
}

/// The files below a directory.
pub fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Every file of the root with its content.
pub fn snapshot(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = Vec::new();
    walk(&project.root(""), &mut files);
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn temporary_files(project: &Project) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".engine-") && name.ends_with(".tmp")
    };
    snapshot(project).into_keys().filter(ours).collect()
}

/// The complete lines of the record of `a`, parsed; panics on one that does not parse.
fn lines(project: &Project, id: &str) -> Vec<Value> {
    let bytes = std::fs::read(project.root(&format!("state/jobs/{id}.jsonl"))).unwrap_or_default();
    let Some(complete) = bytes.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
    bytes[..complete].split(|b| *b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// What always holds after recovery. `queued` and nothing else is allowed to be unfinished.
#[track_caller]
pub fn check(project: &Project, id: &str, at: &str) {
    check_without_file(project, id, at);
    let Some(record) = project.record_if_any(id) else { return };
    let untouched = record["status"] == "queued" && attempts(&record) == 0;
    let missing = record["result"]["reason"]["code"] == "job_file_missing";
    if !untouched && !missing {
        let expected = record["place"].as_str().unwrap().split('/').next().unwrap();
        assert_eq!(project.places(id), [expected], "{at}: the file is where the record says: {record}");
    }
}

/// What always holds after recovery, also of a job whose file was never promised to anybody.
#[track_caller]
pub fn check_without_file(project: &Project, id: &str, at: &str) {
    let places = project.places(id);
    assert!(places.len() <= 1, "{at}: two names: {places:?}");
    assert!(!places.contains(&"running".to_owned()), "{at}: a file is in running/");
    let all = lines(project, id);
    for (index, line) in all.iter().enumerate() {
        assert_eq!(line["seq"], index as u64 + 1, "{at}: seq goes on by one");
    }
    let journal: BTreeSet<(String, u64)> = project
        .journal()
        .iter()
        .map(|line| (line["job_id"].as_str().unwrap().to_owned(), line["seq"].as_u64().unwrap()))
        .collect();
    for line in &all {
        let key = (id.to_owned(), line["seq"].as_u64().unwrap());
        assert!(journal.contains(&key), "{at}: line {key:?} is not in the journal");
    }
    let uuid = std::fs::read_to_string(project.root("state/VERSION")).unwrap_or_default();
    if let Ok(version) = serde_json::from_str::<Value>(&uuid) {
        let marker = format!("ENGINE_ATTEMPT={}/{id}/", version["store"].as_str().unwrap());
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{at}: a process of the job is alive");
    }
    let Some(record) = all.last() else {
        assert_eq!(starts_of(project, id), 0, "{at}: a start was forgotten");
        assert!(places.iter().all(|place| place == "queued"), "{at}: no record, but in {places:?}");
        return;
    };
    let open = record["attempts"].as_array().unwrap().iter().any(|attempt| attempt["outcome"].is_null());
    assert!(!open && record["status"] != "running", "{at}: an attempt is open: {record}");
    assert!(starts_of(project, id) <= attempts(record), "{at}: a start was forgotten: {record}");
    let directory = record["place"].as_str().unwrap().split('/').next().unwrap();
    let expected = match record["status"].as_str().unwrap() {
        "queued" => "queued",
        "succeeded" | "canceled" | "failed" => "done",
        "quarantined" => "quarantined",
        other => panic!("{at}: status {other}"),
    };
    assert_eq!(directory, expected, "{at}: status and place disagree: {record}");
    if let [place] = &places[..] {
        assert_eq!(place, expected, "{at}: the file is where the record says: {record}");
    }
}

/// Recovers, recovers again, and checks what must hold then.
#[track_caller]
pub fn recover_and_check(project: &Project, id: &str, at: &str) {
    project.engine(&["recover"]).exits(0);
    let first = snapshot(project);
    project.engine(&["recover"]).exits(0);
    let changed: Vec<PathBuf> = {
        let second = snapshot(project);
        let keys: BTreeSet<&PathBuf> = first.keys().chain(second.keys()).collect();
        keys.into_iter().filter(|path| first.get(*path) != second.get(*path)).cloned().collect()
    };
    assert!(changed.is_empty(), "{at}: a second recovery changed {changed:?}");
    check(project, id, at);
    let temporary = temporary_files(project);
    if !temporary.is_empty() {
        temporary.iter().for_each(|path| make_old(path));
        project.engine(&["recover"]).exits(0);
        assert_eq!(temporary_files(project), Vec::<PathBuf>::new(), "{at}: temporary files stay");
    }
}

/// Runs a scenario once for each of its steps, and once more for each write, torn; gives how many steps there were.
#[track_caller]
pub fn at_each_step(scenario: &Scenario) -> u64 {
    let steps = steps(&scenario.before.copy(), &scenario.args);
    let last = steps.last().map_or(0, |step| step.number);
    for number in 1..=last {
        assert_eq!(end_at(scenario, "ENGINE_TEST_KILL_AT", number), -9, "the same steps each time");
    }
    for step in steps.iter().filter(|step| step.bytes > 0) {
        assert_eq!(end_at(scenario, "ENGINE_TEST_TEAR_AT", step.number), -9, "the same steps each time");
    }
    // And one that runs through.
    assert_ne!(end_at(scenario, "ENGINE_TEST_KILL_AT", last + 1), -9, "the same steps each time");
    last
}

#[track_caller]
fn end_at(scenario: &Scenario, variable: &str, number: u64) -> i32 {
    let project = scenario.before.copy();
    let said = project.engine_with(&scenario.args, &[(variable, &number.to_string())]);
    after(scenario, &project, &said, &format!("{:?} with {variable}={number}", scenario.args));
    said.code
}

/// What must hold after a run that ended, or was ended.
#[track_caller]
fn after(scenario: &Scenario, project: &Project, said: &Said, at: &str) {
    let before = starts(&scenario.before);
    recover_and_check(project, "a", at);
    let told = said.code != -9;
    if told && scenario.args[0] == "run-job" {
        let record = project.record("a");
        assert_eq!(said.code == 0, record["status"] == "succeeded", "{at}: told {} of {record}", said.code);
    }
    // A job that waits is run to its end by claims, as a worker would.
    for _ in 0..10 {
        if project.places("a") != ["queued"] {
            break;
        }
        make_old(&project.root("jobs/queued/a.json"));
        let claimed = project.engine(&["run-job", "--claim", "a"]);
        assert_ne!(claimed.code, 125, "{at}: not claimed: {}", claimed.err);
        check(project, "a", at);
    }
    let ran = starts(project) - before;
    assert!(ran <= scenario.starts, "{at}: the tool started {ran} times, at most {} asked", scenario.starts);
    // The id can be used again.
    let text = job(&json!({})).to_string();
    std::fs::write(project.path("again.json"), text).unwrap();
    std::fs::write(project.path("code"), "0").unwrap();
    let again = project.engine(&["run-job", "--job-file", "again.json"]);
    assert_eq!(again.code, 0, "{at}: not run again: {}", again.err);
    assert_eq!(starts(project), before + ran + 1, "{at}: run again");
    check(project, "a", &format!("{at}, run again"));
}

#[test]
fn a_direct_run_that_succeeds() {
    let steps = at_each_step(&Scenario::direct(&job(&json!({}))));
    assert!(steps > 15, "only {steps} steps");
}

#[test]
fn a_direct_run_that_makes_its_root() {
    let before = Project::without_root();
    before.job(&job(&json!({})));
    for number in 1..60 {
        let project = before.copy();
        let args = ["run-job", "--job-file", "a.json"];
        let said = project.engine_with(&args, &[("ENGINE_TEST_KILL_AT", &number.to_string())]);
        let at = format!("step {number}");
        if project.root("engine.toml").exists() {
            recover_and_check(&project, "a", &at);
        }
        if project.places("a") == ["queued"] {
            project.engine(&["run-job", "--claim", "a"]).exits(0);
        } else {
            project.engine(&args).exits(0);
        }
        check(&project, "a", &at);
        if said.code != -9 {
            return;
        }
    }
    panic!("more than 60 steps");
}

#[test]
fn a_direct_run_that_fails() {
    let scenario = Scenario::direct(&job(&json!({})));
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    at_each_step(&scenario);
}

#[test]
fn a_direct_run_of_an_ended_id() {
    let scenario = Scenario::direct(&job(&json!({})));
    scenario.before.engine(&scenario.args).exits(0);
    at_each_step(&scenario);
}

#[test]
fn a_direct_run_of_an_id_that_ended_badly() {
    let scenario = Scenario::direct(&job(&json!({})));
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    scenario.before.engine(&scenario.args).exits(3);
    at_each_step(&scenario);
}

fn with_retries() -> Value {
    let backoff = json!({"strategy": "immediate"});
    job(&json!({"metadata": {"retry_policy": "retry_same", "max_retries": 1, "backoff": backoff}}))
}

#[test]
fn a_direct_run_with_a_retry() {
    let mut scenario = Scenario::direct(&with_retries());
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    scenario.starts = 2;
    at_each_step(&scenario);
}

#[test]
fn a_direct_run_that_is_parked_between_two_attempts() {
    let mut scenario = Scenario::direct(&with_retries());
    scenario.args.push("--park");
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    scenario.starts = 2;
    at_each_step(&scenario);
}

#[test]
fn a_job_that_is_parked_before_it_starts() {
    let scenario = Scenario::direct(&job(&json!({"depends_on": ["other"]})));
    let other = json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}});
    let name = scenario.before.job(&other);
    for number in 1..60 {
        let project = scenario.before.copy();
        let args = ["run-job", "--job-file", "a.json", "--park"];
        let said = project.engine_with(&args, &[("ENGINE_TEST_KILL_AT", &number.to_string())]);
        let at = format!("step {number}");
        recover_and_check(&project, "a", &at);
        assert!(said.code != 75 || project.places("a") == ["queued"], "{at}: told that it waits");
        project.engine(&["run-job", "--job-file", &name]).exits(0);
        if project.places("a") == ["queued"] {
            project.engine(&["run-job", "--claim", "a"]).exits(0);
        } else {
            project.engine(&["run-job", "--job-file", "a.json"]).exits(0);
        }
        assert_eq!(starts(&project), 1, "{at}");
        if said.code != -9 {
            said.exits(75);
            return;
        }
    }
    panic!("more than 60 steps");
}

#[test]
fn a_claim() {
    at_each_step(&Scenario::claim(&job(&json!({})).to_string()));
}

#[test]
fn a_claim_of_a_repeatable_job() {
    let mut scenario = Scenario::claim(&job(&json!({"on_crash": "requeue"})).to_string());
    // Once by the run that was ended, and once more because the job says that it may.
    scenario.starts = 2;
    at_each_step(&scenario);
}

#[test]
fn a_claim_with_a_retry() {
    let mut scenario = Scenario::claim(&with_retries().to_string());
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    scenario.starts = 2;
    at_each_step(&scenario);
}

/// The name of the file of `a` in quarantine, with its reason beside it or in the record.
fn in_quarantine(project: &Project) -> Option<String> {
    let names = std::fs::read_dir(project.root("jobs/quarantined")).unwrap().flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names
        .into_iter()
        .find(|name| (name.starts_with("a.") || name.starts_with("a~")) && !name.ends_with(".reason.json"))
}

#[test]
fn a_claim_of_a_file_that_is_no_valid_job() {
    for text in [r#"{"job_id": "a", "tool": 7}"#, r#"{"job_id": "other", "tool": "shell"}"#, "{", ""] {
        let scenario = Scenario::claim(text);
        // A torn write is one of the record or the journal, as everywhere; here it is tried on one of the texts.
        let ends = ["ENGINE_TEST_KILL_AT", "ENGINE_TEST_TEAR_AT"];
        for end in ends.into_iter().take(if text == "{" { 2 } else { 1 }) {
            for number in 1..60 {
                let at = format!("{text:?}: {end}={number}");
                let project = scenario.before.copy();
                make_old(&project.root("jobs/queued/a.json"));
                let said = project.engine_with(&scenario.args, &[(end, &number.to_string())]);
                project.engine(&["recover"]).exits(0);
                if project.places("a") == ["queued"] {
                    project.engine(&["run-job", "--claim", "a"]).exits(125);
                }
                project.engine(&["recover"]).exits(0);
                let after = snapshot(&project);
                project.engine(&["recover"]).exits(0);
                assert!(after == snapshot(&project), "{at}: recovery changed something again");
                assert!(!project.root("jobs/queued/a.json").exists(), "{at}");
                assert!(!project.root("jobs/running/a.json").exists(), "{at}");
                let name = in_quarantine(&project).unwrap_or_else(|| panic!("{at}: not in quarantine"));
                assert_eq!(starts(&project), 0, "{at}");
                if project.record_if_any("a").is_none() {
                    // No job of ours: the person takes it away.
                    std::fs::remove_file(project.root(&format!("jobs/quarantined/{name}"))).unwrap();
                }
                project.run(&job(&json!({}))).exits(0);
                check(&project, "a", &at);
                if said.code != -9 {
                    said.exits(125);
                    break;
                }
            }
        }
    }
}

/// A crash at a step of a run, and then one at each step of the recovery from it.
#[track_caller]
fn recovery_ends_too(scenario: &Scenario, kind: &str, path: &str, nth_of: usize) {
    let at = nth(&steps(&scenario.before.copy(), &scenario.args), nth_of, kind, path).to_string();
    let before = scenario.before.copy();
    let said = before.engine_with(&scenario.args, &[("ENGINE_TEST_KILL_AT", &at)]);
    assert_eq!(said.code, -9);
    let recovery = Scenario { before, args: vec!["recover"], starts: scenario.starts };
    let steps = at_each_step(&recovery);
    assert!(steps > 1, "nothing was to be recovered after {kind} of {path}");
}

#[test]
fn recovery_itself_of_an_attempt_that_is_lost() {
    recovery_ends_too(&Scenario::direct(&job(&json!({}))), "Append", "jobs/a.jsonl", 2);
}

#[test]
fn recovery_itself_of_a_repeatable_job() {
    let mut scenario = Scenario::direct(&job(&json!({"on_crash": "requeue"})));
    scenario.starts = 1;
    recovery_ends_too(&scenario, "Append", "jobs/a.jsonl", 2);
}

#[test]
fn recovery_itself_of_a_start_that_was_not_moved() {
    let mut scenario = Scenario::direct(&job(&json!({"on_crash": "requeue"})));
    scenario.starts = 1;
    recovery_ends_too(&scenario, "Rename", "running/a.json", 1);
}

#[test]
fn recovery_itself_of_an_end_that_was_not_moved() {
    recovery_ends_too(&Scenario::direct(&job(&json!({}))), "Rename", "jobs/done/", 1);
}

#[test]
fn recovery_itself_of_an_end_without_journal_line() {
    recovery_ends_too(&Scenario::direct(&job(&json!({}))), "Append", "events.jsonl", 2);
}

#[test]
fn recovery_itself_of_a_retry_that_was_not_moved() {
    let mut scenario = Scenario::direct(&with_retries());
    std::fs::write(scenario.before.path("code"), "3").unwrap();
    scenario.starts = 1;
    recovery_ends_too(&scenario, "Rename", "queued/a.json", 2);
}

#[test]
fn recovery_itself_of_an_ended_id_on_its_way_back_into_the_queue() {
    let scenario = Scenario::direct(&job(&json!({})));
    scenario.before.engine(&scenario.args).exits(0);
    recovery_ends_too(&scenario, "SyncDir", "queued", 1);
}

#[test]
fn a_sync_that_fails_is_made_again_on_new_bytes_or_its_line_is_not_there() {
    let scenario = Scenario::direct(&job(&json!({})));
    let steps = steps(&scenario.before.copy(), &scenario.args);
    let of_the_record: Vec<&Step> = steps.iter().filter(|step| step.is("Sync", "/a.jsonl")).collect();
    assert_eq!(of_the_record.len(), 2, "{steps:#?}");
    for step in of_the_record {
        let project = scenario.before.copy();
        let trace = project.path("trace");
        let env = [
            ("ENGINE_TEST_FAIL_AT", step.number.to_string()),
            ("ENGINE_TEST_TRACE", trace.to_str().unwrap().into()),
        ];
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        project.engine_with(&scenario.args, &env).exits(0);
        // What was synced in vain was cut off and written again before it was synced again.
        let made = std::fs::read_to_string(&trace).unwrap();
        let kinds: Vec<&str> = made
            .lines()
            .filter(|line| line.ends_with("/a.jsonl"))
            .skip_while(|line| !line.starts_with(&format!("{}\t", step.number)))
            .take(4)
            .map(|line| line.split('\t').nth(1).unwrap())
            .collect();
        assert_eq!(kinds, ["Sync", "Truncate", "Append", "Sync"], "{made}");
        check(&project, "a", "a failed sync");
        assert_eq!(starts(&project), 1);
    }
}
