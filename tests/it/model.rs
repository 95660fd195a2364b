//! The scenarios of the protocol's model (`docs/model/protocol.py`), each named after its rule.
//!
//! Here are those that one job meets in a run, a claim, a recovery or a copy of its root. What cancel, requeue, gc and a hold
//! meet is in `matrix`, `control` and `power_loss`, a batch and its keys in `submit` and `door`, the slots of a lock in
//! `records`. Two rules have no test of their own, see `UNTESTED`.
//!
//! Order is asserted on the trace of durable steps. Interleavings stop one actor before each of its steps, run
//! another to its end, and let the first go on. States after a power loss are built by hand.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::{
    Step, attempts, check, job, make_old, nth, put, recover_and_check, snapshot, starts, steps,
};
use crate::support::{self, Project, Running, eventually, fake_tool, processes_with};

const RUN: [&str; 3] = ["run-job", "--job-file", "a.json"];
const CLAIM: [&str; 3] = ["run-job", "--claim", "a"];
const RECORD: &str = "state/jobs/a.jsonl";

/// A root in which a job has run, so that all directories are there.
fn project() -> Project {
    let project = Project::new();
    project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    project.job(&job(&json!({})));
    project
}

fn with_queued() -> Project {
    let project = project();
    put(&project, "queued", &job(&json!({})).to_string());
    project
}

#[track_caller]
fn in_order(steps: &[Step], wanted: &[(&str, &str)]) {
    let mut rest = steps.iter();
    for (kind, path) in wanted {
        assert!(rest.any(|step| step.is(kind, path)), "{kind} of {path} is not there in order: {steps:#?}");
    }
}

fn failing(more: &Value) -> Value {
    let mut more = more.clone();
    more["metadata"] =
        json!({"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}});
    job(&more)
}

/// The rules that nothing can show from outside, each with its reason.
const UNTESTED: [(&str, &str); 3] = [
    ("AFTER_RECHECK", "nothing durable happens between the two looks; `queue/rest.rs` has a test"),
    ("FIN_DATA", "a record is appended to, never replaced"),
    ("LOCK_FIRST", "START_REC and RECHECK are what it looks like"),
];

#[test]
fn each_rule_of_the_model_has_a_test_of_its_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = std::fs::read_to_string(dir.join("docs/model/protocol.py")).unwrap();
    let rules: BTreeSet<&str> = model
        .lines()
        .filter_map(|line| line.strip_prefix(" '")?.split_once("': '"))
        .map(|(rule, _)| rule)
        .filter(|rule| rule.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    assert!(rules.len() > 50, "{rules:?}");
    let sources = std::fs::read_dir(dir.join("tests/it")).unwrap().map(|file| file.unwrap().path());
    let texts = sources.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap());
    let texts: Vec<String> = texts.collect();
    let tests = texts.iter().flat_map(|text| text.split("#[test]\nfn ").skip(1));
    let names: Vec<&str> = tests.filter_map(|text| Some(text.split_once('(')?.0)).collect();
    let names = names.join(" ");
    let is_untested = |rule: &&str| {
        let rule = rule.to_lowercase();
        !names.contains(&format!(" {rule}_")) && !names.contains(&format!("_{rule}_"))
    };
    assert_eq!(rules.into_iter().filter(is_untested).collect::<Vec<_>>(), UNTESTED.map(|(rule, _)| rule));
}

// ---- order -------------------------------------------------------------------------------------------------------

#[test]
fn rec_first_and_start_rec_the_record_says_so_before_the_file_leaves_the_queue() {
    for (project, args) in [(project(), RUN), (with_queued(), CLAIM)] {
        in_order(&steps(&project, &args), &[("Append", RECORD), ("Rename", "running/a.json"), ("Spawn", "")]);
    }
}

#[test]
fn start_sync_the_start_line_is_durable_before_the_tool_starts() {
    for (project, args) in [(project(), RUN), (with_queued(), CLAIM)] {
        let all = steps(&project, &args);
        in_order(&all, &[("Reserve", RECORD), ("Append", RECORD), ("Sync", RECORD), ("Spawn", "")]);
        let sync = nth(&all, 1, "Sync", RECORD);
        assert!(
            sync < nth(&all, 1, "Rename", "running/a.json"),
            "[REC_FIRST] durable before the move: {all:#?}"
        );
    }
}

#[test]
fn fin_sync_the_result_is_durable_before_it_is_told() {
    for (project, args) in [(project(), RUN), (with_queued(), CLAIM)] {
        in_order(
            &steps(&project, &args),
            &[("Spawn", ""), ("Append", RECORD), ("Sync", RECORD), ("Tell", "")],
        );
    }
}

#[test]
fn fin_order_the_record_is_durable_before_the_file_leaves_running() {
    let all = steps(&project(), &RUN);
    in_order(
        &all,
        &[("Spawn", ""), ("Append", RECORD), ("Sync", RECORD), ("Append", "events"), ("Rename", "done/")],
    );
}

#[test]
fn retry_order_the_record_is_durable_before_the_file_goes_back() {
    let project = project();
    project.job(&failing(&json!({})));
    std::fs::write(project.path("code"), "3").unwrap();
    let all = steps(&project, &RUN);
    let end = [("Spawn", ""), ("Append", RECORD), ("Sync", RECORD), ("Rename", "queued/a.json")];
    in_order(&all, &[&end[..], &[("Append", RECORD), ("Sync", RECORD), ("Spawn", "")]].concat());
}

#[test]
fn submit_data_and_submit_dir_a_parked_job_is_durable_before_it_is_told() {
    let project = project();
    project.job(&job(&json!({"depends_on": ["nobody"]})));
    let all = steps(&project, &["run-job", "--job-file", "a.json", "--park"]);
    let temporary = "jobs/queued/.engine-";
    in_order(
        &all,
        &[
            ("Write", temporary),
            ("Sync", temporary),
            ("Rename", "queued/a.json"),
            ("SyncDir", "jobs/queued"),
            ("Append", RECORD),
            ("Tell", ""),
        ],
    );
}

#[test]
fn park_sync_a_direct_run_makes_up_its_syncs_before_it_tells_75() {
    let project = project();
    project.job(&failing(&json!({})));
    std::fs::write(project.path("code"), "3").unwrap();
    let all = steps(&project, &["run-job", "--job-file", "a.json", "--park"]);
    let made_up = [("Sync", "queued/a.json"), ("SyncDir", "jobs/queued"), ("Tell", "")];
    in_order(
        &all,
        &[&[("Append", RECORD), ("Sync", RECORD), ("Rename", "queued/a.json")][..], &made_up].concat(),
    );
}

#[test]
fn a_direct_run_of_a_free_id_skips_the_two_syncs_of_a_submission() {
    let all = steps(&project(), &RUN);
    assert_eq!(all.iter().filter(|step| step.kind == "Sync").count(), 2, "{all:#?}");
}

#[test]
fn req_order_req_sync_an_ended_id_runs_again_by_way_of_the_queue() {
    let project = project();
    project.engine(&RUN).exits(0);
    let all = steps(&project, &RUN);
    in_order(
        &all,
        &[
            ("Sync", "jobs/queued/.engine-"),
            ("Rename", "queued/a.json"),
            ("Rename", "queued/a.json"),
            ("SyncDir", "jobs/queued"),
            ("Append", RECORD),
            ("Sync", RECORD),
            ("Append", RECORD),
            ("Sync", RECORD),
            ("Rename", "running/a.json"),
            ("Spawn", ""),
        ],
    );
}

#[test]
fn rec_resync_what_a_killed_writer_left_is_synced_before_it_is_acted_on() {
    // The end was appended but not synced: whoever recovers it syncs it before the move.
    let before = project();
    let end = nth(&steps(&before.copy(), &RUN), 2, "Sync", RECORD).to_string();
    let _ = before.engine_with(&RUN, &[("ENGINE_TEST_KILL_AT", &end)]);
    assert_eq!(before.record("a")["status"], "succeeded");
    assert_eq!(before.places("a"), ["running"]);
    for args in [&["recover"][..], &RUN] {
        in_order(&steps(&before.copy(), args), &[("Sync", RECORD), ("Rename", "done/")]);
    }
    // The start was appended but not synced.
    let before = project();
    let start = nth(&steps(&before.copy(), &RUN), 1, "Sync", RECORD).to_string();
    let _ = before.engine_with(&RUN, &[("ENGINE_TEST_KILL_AT", &start)]);
    in_order(
        &steps(&before, &["recover"]),
        &[("Sync", RECORD), ("Append", RECORD), ("Sync", RECORD), ("Rename", "")],
    );
}

/// As `project`, where the name of a synced file is not durable by itself.
fn on_tmpfs() -> Option<Project> {
    let project = support::on_tmpfs()?;
    project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    project.job(&job(&json!({})));
    Some(project)
}

#[test]
fn rec_name_the_first_synced_line_makes_the_name_of_the_record_durable() {
    let Some(project) = on_tmpfs() else { return };
    in_order(
        &steps(&project, &RUN),
        &[("Append", RECORD), ("Sync", RECORD), ("SyncDir", "state/jobs"), ("Spawn", "")],
    );
    let again = steps(&project, &RUN);
    assert!(!again.iter().any(|step| step.is("SyncDir", "state/jobs")), "once is enough: {again:#?}");
}

#[test]
fn rec_name_also_where_an_unsynced_line_stands_before_it() {
    let Some(project) = on_tmpfs() else { return };
    // Line 1 of a submission is not synced: the first synced line is the start.
    project.job(&job(&json!({"depends_on": ["later"]})));
    project.engine(&["run-job", "--job-file", "a.json", "--park"]).exits(75);
    project.run(&json!({"job_id": "later", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    in_order(&steps(&project, &CLAIM), &[("Sync", RECORD), ("SyncDir", "state/jobs"), ("Spawn", "")]);
}

#[test]
fn rec_name_also_where_the_first_writer_was_killed_before_it() {
    let Some(project) = on_tmpfs() else { return };
    let at = nth(&steps(&project.copy(), &RUN), 1, "Sync", RECORD).to_string();
    let _ = project.engine_with(&RUN, &[("ENGINE_TEST_KILL_AT", &at)]);
    in_order(&steps(&project, &["recover"]), &[("Sync", RECORD), ("SyncDir", "state/jobs"), ("Rename", "")]);
}

// ---- interleavings -----------------------------------------------------------------------------------------------

pub fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

fn is_over(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

/// Starts A and gives it stopped before its n-th step; `None`: it has fewer and has ended.
pub fn stopped_at(project: &Project, args: &[&str], number: u64) -> Result<Running, Running> {
    let running = project.start(args, &[("ENGINE_TEST_STOP_AT", &number.to_string())]);
    let pid = running.pid();
    eventually("it stops or ends", || is_stopped(pid) || is_over(pid));
    if is_stopped(pid) { Ok(running) } else { Err(running) }
}

/// For each step of A: B runs while A is stopped before it; then A goes on. `judge` looks at the end.
#[track_caller]
pub fn interleave(before: &Project, a: &[&str], b: impl Fn(&Project), judge: impl Fn(&Project, &str)) {
    for number in 1..100 {
        let project = before.copy();
        for place in ["queued", "running"] {
            let path = project.root(&format!("jobs/{place}/a.json"));
            if path.exists() {
                make_old(&path);
            }
        }
        let at = format!("{a:?} stopped before step {number}");
        match stopped_at(&project, a, number) {
            Ok(running) => {
                b(&project);
                running.signal(Signal::CONT);
                let _ = running.wait();
            }
            Err(running) => {
                let _ = running.wait();
                return;
            }
        }
        recover_and_check(&project, "a", &at);
        judge(&project, &at);
    }
    panic!("more than 100 steps");
}

fn ran_once(project: &Project, at: &str) {
    if project.places("a") == ["queued"] {
        project.engine(&CLAIM).exits(0);
    }
    assert_eq!(starts(project), 1, "{at}: the tool runs exactly once");
    assert_eq!(attempts(&project.record("a")), 1, "{at}");
    assert_eq!(project.record("a")["status"], "succeeded", "{at}");
}

fn quietly(args: &'static [&'static str]) -> impl Fn(&Project) {
    move |project| drop(project.engine(args).out)
}

#[test]
fn recheck_two_claims_of_one_job() {
    interleave(&with_queued(), &CLAIM, quietly(&CLAIM), ran_once);
}

#[test]
fn recheck_rec_recovery_while_a_job_is_claimed() {
    interleave(&with_queued(), &CLAIM, quietly(&["recover"]), ran_once);
}

#[test]
fn recheck_rec_a_claim_while_recovery_looks() {
    interleave(&with_queued(), &["recover"], quietly(&CLAIM), ran_once);
}

#[test]
fn read_locked_a_second_direct_run_of_a_new_id() {
    // The second is refused while the first holds the lease, and is a new life where the first is over.
    interleave(&project(), &RUN, quietly(&RUN), |project, at| {
        if project.places("a") == ["queued"] {
            project.engine(&CLAIM).exits(0);
        }
        let record = project.record("a");
        assert_eq!(record["status"], "succeeded", "{at}");
        assert_eq!(starts(project), attempts(&record), "{at}: {record}");
        assert!(starts(project) <= 2, "{at}");
    });
}

#[test]
fn one_door_a_claim_while_a_direct_run_enters() {
    interleave(&project(), &RUN, quietly(&CLAIM), ran_once);
}

#[test]
fn one_door_a_file_that_is_put_there_while_a_direct_run_enters() {
    let cp = |project: &Project| put(project, "queued", &job(&json!({})).to_string());
    interleave(&project(), &RUN, cp, |project, at| {
        for _ in 0..3 {
            if project.places("a") == ["queued"] {
                let _ = project.engine(&CLAIM).out;
            }
        }
        let record = project.record("a");
        assert_eq!(record["status"], "succeeded", "{at}: {record}");
        assert_eq!(starts(project), attempts(&record), "{at}");
    });
}

#[test]
fn unlock_last_recovery_while_a_job_ends() {
    interleave(&project(), &RUN, quietly(&["recover"]), ran_once);
}

#[test]
fn unlock_last_the_next_life_while_a_job_ends() {
    let before = project();
    before.engine(&RUN).exits(0);
    interleave(&before, &RUN, quietly(&RUN), |project, at| {
        let record = project.record("a");
        assert_eq!(record["status"], "succeeded", "{at}");
        assert_eq!(starts(project), attempts(&record), "{at}");
    });
}

#[test]
fn id_lock_an_editor_that_saves_by_rename() {
    let save = |project: &Project| {
        if project.root("jobs/queued/a.json").exists() {
            let mut edited = job(&json!({}));
            edited["command"]["args"][1] =
                json!("echo $ENGINE_ATTEMPT >> starts; echo $ENGINE_ATTEMPT >> edited");
            let new = project.root("jobs/queued/.a.json.swp");
            std::fs::write(&new, edited.to_string()).unwrap();
            std::fs::rename(&new, project.root("jobs/queued/a.json")).unwrap();
        }
    };
    let edited = |project: &Project, at: &str| {
        let there = project.path("edited").exists();
        ran_once(project, at);
        // The edit came before the file left the queue, or it came to nothing.
        assert!(there || !project.root("jobs/queued/a.json").exists(), "{at}");
    };
    interleave(&with_queued(), &CLAIM, save, edited);
    interleave(&with_queued(), &["recover"], save, ran_once);
    // And one more claim right after the editor.
    let save_and_claim = |project: &Project| {
        save(project);
        let _ = project.engine(&CLAIM).out;
    };
    interleave(&with_queued(), &CLAIM, save_and_claim, ran_once);
}

#[test]
fn rec_wins_a_direct_run_while_recovery_works() {
    let before = project();
    let end = nth(&steps(&before.copy(), &RUN), 2, "Append", RECORD).to_string();
    let _ = before.engine_with(&RUN, &[("ENGINE_TEST_KILL_AT", &end)]);
    interleave(&before, &["recover"], quietly(&RUN), |project, at| {
        let record = project.record("a");
        assert_eq!(starts(project), attempts(&record), "{at}: {record}");
        assert!(starts(project) <= 2, "{at}");
    });
}

// ---- processes ---------------------------------------------------------------------------------------------------

/// A tool that neither TERM nor the death of its runner ends.
fn deaf(more: &Value) -> Value {
    let mut job = job(more);
    job["command"]["args"] =
        json!(["-c", "trap '' TERM; echo $ENGINE_ATTEMPT >> starts; while :; do sleep 0.01; done"]);
    job
}

fn uuid(project: &Project) -> String {
    let text = std::fs::read_to_string(project.root("state/VERSION")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["store"].as_str().unwrap().to_owned()
}

fn runner_killed(job: &Value) -> Project {
    let project = project();
    std::fs::write(project.root("engine.toml"), "grace_seconds = 0.1\n").unwrap();
    project.job(job);
    let running = project.start(&RUN, &[]);
    eventually("the tool runs", || starts(&project) == 1);
    running.signal(Signal::KILL);
    running.wait().exits(-9);
    project
}

#[test]
fn kill_first_marker_left_overs_are_ended_before_the_job_is_moved() {
    let project = runner_killed(&deaf(&json!({"on_crash": "requeue"})));
    let marker = format!("ENGINE_ATTEMPT={}/a/1", uuid(&project));
    assert!(!processes_with(&marker).is_empty(), "the tool outlives its runner");
    // Stopped before its first change of the record, recovery has ended them all.
    let steps_of_recovery = 1 + nth_sync_of_recovery();
    let running = stopped_at(&project, &["recover"], steps_of_recovery).ok().expect("it stops");
    assert_eq!(processes_with(&marker), Vec::<i32>::new());
    assert_eq!(project.record("a")["status"], "running");
    assert_eq!(project.places("a"), ["running"]);
    running.signal(Signal::CONT);
    running.wait().exits(0);
    assert_eq!(project.places("a"), ["queued"]);
    check(&project, "a", "recovered");
}

/// Recovery syncs the foreign line, then ends the processes, then appends. It makes nothing else before.
fn nth_sync_of_recovery() -> u64 {
    // Another root: a copy has the same uuid, and its recovery would end the processes of this one.
    let other = runner_killed(&deaf(&json!({"on_crash": "requeue"})));
    nth(&steps(&other, &["recover"]), 1, "Sync", RECORD)
}

#[test]
fn kill_first_also_by_a_direct_run_of_the_same_id() {
    let project = runner_killed(&deaf(&json!({"on_crash": "requeue"})));
    project.job(&job(&json!({})));
    project.engine(&RUN).exits(0);
    assert_eq!(processes_with(&format!("ENGINE_ATTEMPT={}/a/", uuid(&project))), Vec::<i32>::new());
    assert_eq!(attempts(&project.record("a")), 2);
    check(&project, "a", "run again");
}

#[test]
fn scan_forks_an_orphan_that_forks_and_exits_all_the_time_is_not_called_dead() {
    let mut job = job(&json!({"on_crash": "requeue"}));
    let script = "trap '' TERM; \"$0\" ignore-term comets 1 3; echo $ENGINE_ATTEMPT >> starts; \
                  while :; do sleep 0.01; done";
    job["command"]["args"] = json!(["-c", script, fake_tool()]);
    let project = runner_killed(&job);
    let report = project.engine(&["recover", "--json"]).json();
    if report["jobs"][0]["done"] == "lost" {
        let beat = || std::fs::read_to_string(project.path("beat")).unwrap_or_default();
        let (before, since) = (beat(), Instant::now());
        eventually("it would have shown itself", || since.elapsed() > Duration::from_millis(500));
        assert_eq!(beat(), before, "it is alive");
    }
    eventually("it ends", || {
        project.engine(&["recover"]).exits(0);
        project.places("a") == ["queued"]
    });
    check(&project, "a", "recovered");
}

/// Ends what carries a marker, and waits until it is gone.
fn end_all(marker: &str) {
    eventually("all of it is gone", || {
        let left = processes_with(marker);
        for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        left.is_empty()
    });
}

#[test]
fn former_marker_a_copy_waits_for_what_is_left_of_the_original() {
    let project = runner_killed(&deaf(&json!({"on_crash": "requeue"})));
    let marker = format!("ENGINE_ATTEMPT={}/a/1", uuid(&project));
    let copy = project.copy();
    std::fs::remove_dir_all(project.root("")).unwrap();
    let report = copy.engine(&["recover", "--json"]).json();
    assert_eq!(report["jobs"][0]["done"], "still_running", "{report}");
    let message = report["jobs"][0]["message"].as_str().unwrap();
    let alive = processes_with(&marker);
    assert!(alive.iter().any(|pid| message.contains(&pid.to_string())), "{alive:?} {message}");
    assert!(message.contains("the original of this copied root"), "{message}");
    assert_ne!(copy.engine(&RUN).code, 0);
    assert_eq!((starts(&copy), copy.places("a")), (1, vec!["running".to_owned()]));
    end_all(&marker);
    recover_and_check(&copy, "a", "the original's tool is gone");
    assert_eq!(copy.places("a"), ["queued"]);
}

#[test]
fn former_marker_also_for_a_lock_whose_holder_has_an_unreadable_record() {
    let project = runner_killed(&deaf(&json!({"locks": ["x"]})));
    let marker = format!("ENGINE_ATTEMPT={}/a/1", uuid(&project));
    let copy = project.copy();
    std::fs::write(copy.root(RECORD), "{}\n").unwrap();
    let next = json!({"job_id": "next", "tool": "shell", "command": {"exe": "touch", "args": ["ran"]}, "locks": ["x"]});
    let said = copy.run(&next);
    assert!(said.code != 0 && !copy.path("ran").exists(), "{}", said.out);
    assert!(!processes_with(&marker).is_empty());
    end_all(&marker);
    copy.run(&next).exits(0);
}

/// Gives a copy the identity of its original, as a snapshot of a whole file system has it.
fn make_a_snapshot_of(project: &Project, copy: &Project) {
    let path = copy.root("state/VERSION");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut version: Value = serde_json::from_str(&text).unwrap();
    version["store"] = uuid(project).into();
    version.as_object_mut().unwrap().remove("former");
    std::fs::write(&path, format!("{version}\n")).unwrap();
}

/// Runs a job of two attempts, and copies its root during the first one. The copy does not know which process runs it.
fn copied_during_the_first_attempt() -> (Project, Running, Project) {
    let project = project();
    let script = "trap '' TERM; echo $ENGINE_ATTEMPT >> starts; \
                  case $ENGINE_ATTEMPT in */1) until [ -e second ]; do sleep 0.01; done; exit 3;; esac; \
                  until [ -e go ]; do sleep 0.01; done";
    let mut job = failing(&json!({}));
    job["command"]["args"] = json!(["-c", script]);
    project.job(&job);
    let running = project.start(&RUN, &[]);
    eventually("the first attempt runs", || starts(&project) == 1);
    let copy = project.copy();
    make_a_snapshot_of(&project, &copy);
    std::fs::write(copy.root("engine.toml"), "grace_seconds = 0.1\n").unwrap();
    let path = copy.root(RECORD);
    let text = std::fs::read_to_string(&path).unwrap();
    let pid = format!("\"pid\":{}", running.pid());
    assert!(text.contains(&pid), "{text}");
    std::fs::write(&path, text.replace(&pid, "\"pid\":2147483000")).unwrap();
    (project, running, copy)
}

#[test]
fn marker_exact_the_recovery_of_a_copy_does_not_end_a_later_attempt_of_the_original() {
    let (project, running, copy) = copied_during_the_first_attempt();
    std::fs::write(project.path("second"), "").unwrap();
    eventually("the second attempt runs", || starts(&project) == 2);
    let second = processes_with(&format!("ENGINE_ATTEMPT={}/a/2", uuid(&project)));
    let report = copy.engine(&["recover", "--json"]).json();
    assert_eq!(report["jobs"][0]["done"], "lost", "of the first attempt nothing is left: {report}");
    let after = processes_with(&format!("ENGINE_ATTEMPT={}/a/2", uuid(&project)));
    assert!(!second.is_empty() && second.iter().any(|pid| after.contains(pid)), "{second:?} {after:?}");
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
    check(&project, "a", "its copy was recovered");
}

#[track_caller]
fn is_said_to_be_a_copy(report: &Value) {
    assert_eq!(report["jobs"][0]["done"], "still_running", "{report}");
    assert!(report["jobs"][0]["message"].as_str().unwrap().contains("this root is a copy"), "{report}");
}

#[test]
fn copy_held_also_where_the_tool_of_the_original_recovers_the_copy() {
    let project = project();
    let script = "echo $ENGINE_ATTEMPT >> starts; until [ -e copy ]; do sleep 0.01; done; \
                  cd \"$(cat copy)\" && \"$0\" recover --json > report";
    let mut job = job(&json!({}));
    let engine = project.command(&["recover"]).get_program().to_owned();
    job["command"]["args"] = json!(["-c", script, engine.to_str().unwrap()]);
    project.job(&job);
    let running = project.start(&RUN, &[]);
    eventually("the tool runs", || starts(&project) == 1);
    let copy = project.copy();
    make_a_snapshot_of(&project, &copy);
    let text = std::fs::read_to_string(copy.root(RECORD)).unwrap();
    let pid = format!("\"pid\":{}", running.pid());
    std::fs::write(copy.root(RECORD), text.replace(&pid, "\"pid\":2147483000")).unwrap();
    std::fs::write(project.path("copy.new"), copy.dir().to_str().unwrap()).unwrap();
    std::fs::rename(project.path("copy.new"), project.path("copy")).unwrap();
    running.wait().exits(0);
    let report = std::fs::read_to_string(copy.path("report")).unwrap();
    is_said_to_be_a_copy(&serde_json::from_str(&report).unwrap());
    assert_eq!(copy.record("a")["status"], "running");
}

#[test]
fn copy_held_the_recovery_of_a_copy_leaves_the_same_attempt_of_a_live_runner_alone() {
    let (project, running, copy) = copied_during_the_first_attempt();
    let report = copy.engine(&["recover", "--json"]).json();
    is_said_to_be_a_copy(&report);
    assert_eq!(project.record("a")["status"], "running");
    std::fs::write(project.path("second"), "").unwrap();
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
    // Its exit code is that of a tool that nobody ended.
    assert_eq!(project.record("a")["attempts"][0]["exit_code"], 3);
    check(&project, "a", "its copy was recovered");
}

#[test]
fn pdeath_the_tool_is_asked_to_end_when_its_runner_dies() {
    let mut job = job(&json!({}));
    job["command"]["args"] = json!(["-c", "echo $ENGINE_ATTEMPT >> starts; exec sleep 1000"]);
    let project = runner_killed(&job);
    let marker = format!("ENGINE_ATTEMPT={}/a/1", uuid(&project));
    eventually("nothing of it lives", || processes_with(&marker).is_empty());
}

#[test]
fn cloexec_the_tool_inherits_neither_lease_nor_locks_nor_log() {
    let project = project();
    let mut job = job(&json!({"locks": ["gpu"], "paths": {"log_file": "a.log"}}));
    job["command"]["args"] = json!(["-c", "ls -l /proc/$$/fd > fds"]);
    project.run(&job).exits(0);
    let fds = std::fs::read_to_string(project.path("fds")).unwrap();
    assert!(!fds.contains(".engine") && !fds.contains("a.log"), "{fds}");
    // Standard streams, and what the shell itself opens for `ls`.
    assert!(fds.contains("pipe:") && fds.contains("/dev/null"), "{fds}");
}

#[test]
fn cloexec_a_daemon_of_the_tool_does_not_keep_the_lease_of_a_killed_runner() {
    let project = runner_killed(&deaf(&json!({})));
    let lease = std::fs::File::options().read(true).write(true).open(project.root(RECORD)).unwrap();
    fs2::FileExt::try_lock_exclusive(&lease).unwrap();
    drop(lease);
    recover_and_check(&project, "a", "the tool was alive");
}

// ---- states after a crash or a power loss ------------------------------------------------------------------------

/// Writes a record of `a` with these lines below the start line of a run.
fn write_record(project: &Project, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(project.root(RECORD), text).unwrap();
}

/// The lines of a run of `a`: started, ended. Nothing of that run is left but these.
fn lines_of_a_run(more: &Value, code: &str) -> Vec<Value> {
    let project = project();
    project.job(&job(more));
    std::fs::write(project.path("code"), code).unwrap();
    let _ = project.engine(&RUN).out;
    let text = std::fs::read_to_string(project.root(RECORD)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A state by hand: the record's lines and a file in each of the places. As many starts as the record has attempts.
fn state(lines: &[Value], places: &[&str], more: &Value) -> Project {
    let project = project();
    write_record(&project, lines);
    for place in places {
        put(&project, place, &job(more).to_string());
    }
    if let Some(last) = lines.last() {
        std::fs::write(project.path("starts"), "x/a/x\n".repeat(attempts(last))).unwrap();
    }
    project
}

/// Recovery, a claim and a direct run of the same state; each time `judge` looks after a recovery.
#[track_caller]
fn by_all(before: &Project, judge: impl Fn(&Project, &str)) {
    for args in [&["recover"][..], &CLAIM] {
        let project = before.copy();
        for place in ["queued", "running"] {
            let path = project.root(&format!("jobs/{place}/a.json"));
            if path.exists() {
                make_old(&path);
            }
        }
        let _ = project.engine(args).out;
        let at = format!("{args:?}");
        settle(&project, &at);
        check(&project, "a", &at);
        judge(&project, &at);
    }
    // A direct run recovers first, whatever it is, and is then a new life or refused.
    let project = before.copy();
    let had = starts(&project);
    let said = project.engine(&RUN);
    settle(&project, "direct");
    check(&project, "a", "direct");
    assert_eq!(starts(&project) - had, usize::from(said.code == 0), "direct: {}", said.err);
}

/// Recovery handles one name at a time: it is repeated until nothing changes, at most three times.
#[track_caller]
fn settle(project: &Project, at: &str) {
    for _ in 0..3 {
        let before = snapshot(project);
        project.engine(&["recover"]).exits(0);
        if before == snapshot(project) {
            return;
        }
    }
    panic!("{at}: recovery does not come to an end");
}

#[track_caller]
fn is(project: &Project, status: &str, outcome: &str, places: &[&str], at: &str) {
    let record = project.record("a");
    assert_eq!(record["status"], status, "{at}: {record}");
    let last = record["attempts"].as_array().unwrap().last().cloned().unwrap_or_default();
    assert_eq!(last["outcome"], outcome, "{at}: {record}");
    assert_eq!(project.places("a"), places, "{at}");
}

#[test]
fn rec_wins_a_terminal_record_is_never_run_again() {
    for (code, status, outcome, home) in
        [("0", "succeeded", "succeeded", "done"), ("3", "quarantined", "failed", "quarantined")]
    {
        let lines = lines_of_a_run(&json!({}), code);
        for place in ["queued", "running"] {
            by_all(&state(&lines, &[place], &json!({})), |project, at| {
                is(project, status, outcome, &[home], at);
                assert_eq!(starts(project), 1, "{at}: run again");
            });
        }
    }
}

#[test]
fn rec_wins_an_open_attempt_is_lost_wherever_its_file_is() {
    let lines = &lines_of_a_run(&json!({}), "0")[..1];
    for place in ["queued", "running"] {
        by_all(&state(lines, &[place], &json!({})), |project, at| {
            is(project, "quarantined", "lost", &["quarantined"], at);
            assert_eq!(project.record("a")["attempts"][0]["reason"]["code"], "crash", "{at}");
            assert_eq!(starts(project), 1, "{at}: run again");
        });
    }
}

#[test]
fn rec_wins_an_open_attempt_of_a_repeatable_job_is_lost_and_queued() {
    let more = json!({"on_crash": "requeue"});
    let lines = &lines_of_a_run(&more, "0")[..1];
    for place in ["queued", "running"] {
        let project = state(lines, &[place], &more);
        recover_and_check(&project, "a", place);
        is(&project, "queued", "lost", &["queued"], place);
        project.engine(&CLAIM).exits(0);
        is(&project, "succeeded", "succeeded", &["done"], place);
        assert_eq!(attempts(&project.record("a")), 2);
        // A claim recovers first and is then the second attempt.
        let project = state(lines, &["queued"], &more);
        project.engine(&CLAIM).exits(0);
        assert_eq!(attempts(&project.record("a")), 2);
    }
}

#[test]
fn rec_wins_the_third_crash_of_a_repeatable_job_is_poison() {
    let more = json!({"on_crash": "requeue"});
    let project = project();
    put(&project, "queued", &job(&more).to_string());
    for crash in 1..=3 {
        let copy = project.copy();
        make_old(&copy.root("jobs/queued/a.json"));
        let at = nth(&steps(&copy, &CLAIM), 2, "Append", RECORD).to_string();
        let said = project.engine_with(&CLAIM, &[("ENGINE_TEST_KILL_AT", &at)]);
        assert_eq!(said.code, -9, "crash {crash}: {}", said.err);
        recover_and_check(&project, "a", "crash");
    }
    let record = project.record("a");
    assert_eq!(record["attempts"][2]["reason"]["code"], "poison", "{record}");
    assert_eq!(project.places("a"), ["quarantined"]);
}

#[test]
fn retry_order_a_retry_whose_file_was_not_moved_goes_back() {
    let more = json!({"metadata": {"retry_policy": "retry_same", "backoff": {"strategy": "immediate"}}});
    let lines = &lines_of_a_run(&more, "3")[..2];
    assert_eq!(lines[1]["status"], "queued");
    let project = state(lines, &["running"], &more);
    recover_and_check(&project, "a", "retry");
    is(&project, "queued", "failed", &["queued"], "retry");
    project.engine(&CLAIM).exits(0);
    assert_eq!(attempts(&project.record("a")), 2);
}

#[test]
fn rec_scan_an_open_or_waiting_record_without_a_file_is_quarantined() {
    let more = json!({"on_crash": "requeue", "metadata": {"retry_policy": "retry_same"}});
    let more = &more;
    let mut retry = more.clone();
    retry["metadata"]["backoff"] = json!({"strategy": "immediate"});
    let lines = lines_of_a_run(&retry, "3");
    for (lines, what) in [(&lines[..1], "open"), (&lines[..2], "waiting")] {
        let project = state(lines, &[], more);
        recover_and_check(&project, "a", what);
        let record = project.record("a");
        assert_eq!(record["status"], "quarantined", "{what}: {record}");
        assert_eq!(record["result"]["reason"]["code"], "job_file_missing", "{what}");
        assert_eq!(record["attempts"].as_array().unwrap().len(), 1, "{what}");
        assert_eq!(project.places("a"), Vec::<String>::new());
        project.engine(&RUN).exits(0);
        check(&project, "a", what);
    }
}

#[test]
fn rec_first_a_file_in_running_without_a_record_is_lost() {
    let queued = {
        let project = project();
        project.job(&job(&json!({"depends_on": ["nobody"]})));
        project.engine(&["run-job", "--job-file", "a.json", "--park"]).exits(75);
        project.record("a")
    };
    for lines in [&[][..], &[queued]] {
        let project = state(lines, &["running"], &json!({}));
        recover_and_check(&project, "a", "running");
        is(&project, "quarantined", "lost", &["quarantined"], "running");
        assert_eq!(project.record("a")["attempts"][0]["attempt"], 1);
        assert_eq!(starts(&project), 0);
        project.engine(&RUN).exits(0);
    }
}

#[test]
fn take_over_an_id_that_was_never_accepted_is_free() {
    let queued = {
        let project = project();
        project.job(&job(&json!({"depends_on": ["nobody"]})));
        project.engine(&["run-job", "--job-file", "a.json", "--park"]).exits(75);
        project.record("a")
    };
    for lines in [&[][..], &[queued]] {
        let project = state(lines, &[], &json!({}));
        recover_and_check(&project, "a", "free");
        project.engine(&RUN).exits(0);
        is(&project, "succeeded", "succeeded", &["done"], "free");
        assert_eq!(starts(&project), 1);
    }
}

#[test]
fn a_torn_line_at_the_end_of_a_record_is_not_there() {
    let lines = lines_of_a_run(&json!({}), "0");
    // Half of the start: nothing was started.
    let torn = |project: &Project, line: &Value| {
        let text = std::fs::read_to_string(project.root(RECORD)).unwrap() + &line.to_string()[..200];
        std::fs::write(project.root(RECORD), text).unwrap();
    };
    let project = state(&[], &["queued"], &json!({}));
    torn(&project, &lines[0]);
    recover_and_check(&project, "a", "half a start");
    project.engine(&CLAIM).exits(0);
    is(&project, "succeeded", "succeeded", &["done"], "half a start");
    assert_eq!(starts(&project), 1);
    // Half of the end: lost.
    let project = state(&lines[..1], &["running"], &json!({}));
    torn(&project, &lines[1]);
    recover_and_check(&project, "a", "half an end");
    is(&project, "quarantined", "lost", &["quarantined"], "half an end");
    // Half of the first line of a new life: the former one counts.
    let project = state(&lines, &["queued"], &json!({}));
    torn(&project, &lines[0]);
    recover_and_check(&project, "a", "half a new life");
    is(&project, "succeeded", "succeeded", &["done"], "half a new life");
}

#[test]
fn submit_data_a_torn_job_file_is_never_run() {
    let zeros = String::from_utf8(vec![0; 300]).unwrap();
    let half = job(&json!({})).to_string()[..40].to_owned();
    let lines = lines_of_a_run(&json!({"on_crash": "requeue"}), "0");
    for text in ["", &zeros, &half] {
        // Without a record: not ours.
        let project = project();
        put(&project, "queued", text);
        project.engine(&["recover"]).exits(0);
        assert!(project.root("jobs/quarantined/a~1.json").exists(), "{text:?}");
        assert!(project.root("jobs/quarantined/a~1.json.reason.json").exists(), "{text:?}");
        // With an empty record, as a refused claim leaves one.
        let project = state(&[], &[], &json!({}));
        put(&project, "queued", text);
        project.engine(&["recover"]).exits(0);
        assert!(!project.root("jobs/queued/a.json").exists(), "{text:?}");
        // With an open attempt, although the job was repeatable.
        for place in ["queued", "running"] {
            let project = state(&lines[..1], &[], &json!({}));
            put(&project, place, text);
            recover_and_check(&project, "a", text);
            is(&project, "quarantined", "lost", &["quarantined"], text);
            assert_eq!(project.record("a")["attempts"][0]["reason"]["code"], "job_file_missing", "{text:?}");
        }
    }
}

#[test]
fn submit_data_a_torn_job_file_of_an_accepted_job_is_quarantined_on_record() {
    let zeros = String::from_utf8(vec![0; 300]).unwrap();
    let before = project();
    before.job(&job(&json!({"depends_on": ["nobody"]})));
    before.engine(&["run-job", "--job-file", "a.json", "--park"]).exits(75);
    for text in ["", &zeros, &job(&json!({})).to_string()[..40]] {
        for args in [&["recover"][..], &CLAIM] {
            let project = before.copy();
            put(&project, "queued", text);
            let _ = project.engine(args).out;
            let at = format!("{args:?} {text:?}");
            recover_and_check(&project, "a", &at);
            let record = project.record("a");
            assert_eq!(record["status"], "quarantined", "{at}: {record}");
            assert_eq!(record["result"]["reason"]["code"], "job_file_missing", "{at}: {record}");
            assert_eq!(project.places("a"), ["quarantined"], "{at}");
            assert_eq!(starts(&project), 0, "{at}");
        }
    }
}

#[test]
fn noreplace_of_two_names_the_one_that_the_record_names_stays() {
    let lines = lines_of_a_run(&json!({}), "0");
    let day = lines[1]["place"].as_str().unwrap().to_owned();
    let other = job(&json!({"workstream_id": "the other one"})).to_string();
    for place in ["queued", "running"] {
        let project = state(&lines, &[&day], &json!({}));
        put(&project, place, &other);
        settle(&project, place);
        check(&project, "a", place);
        is(&project, "succeeded", "succeeded", &["done"], place);
        let kept = std::fs::read_to_string(project.root(&format!("jobs/{day}/a.json"))).unwrap();
        assert_eq!(kept, job(&json!({})).to_string(), "{place}: replaced");
        // Nothing is thrown away.
        let aside = project.root("jobs/quarantined/a~1.json");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), other, "{place}");
        let reason = std::fs::read_to_string(project.root("jobs/quarantined/a~1.json.reason.json")).unwrap();
        assert!(reason.contains("duplicate"), "{reason}");
    }
    // An open attempt with both names.
    let project = state(&lines[..1], &["queued", "running"], &json!({}));
    settle(&project, "both");
    check(&project, "a", "both");
    is(&project, "quarantined", "lost", &["quarantined"], "both");
}

#[test]
fn noreplace_an_attempt_on_another_machine_is_left_alone_until_a_person_says_so() {
    let mut line = lines_of_a_run(&json!({}), "0")[0].clone();
    line["attempts"][0]["host"] = "elsewhere".into();
    line["attempts"][0]["boot_id"] = "another".into();
    let before = state(&[line], &["running"], &json!({}));
    let first = snapshot(&before);
    before.engine(&["recover"]).exits(0);
    before.engine(&RUN).exits(125);
    let mut after = snapshot(&before);
    // The journal is told, and the boot is remembered.
    after.retain(|path, _| !path.ends_with("events.jsonl") && !path.ends_with("state/boot"));
    for (path, content) in after {
        assert_eq!(first.get(&path), Some(&content), "{}", path.display());
    }
    before.engine(&["recover", "--host-is-dead", "wrong"]).exits(0);
    assert_eq!(before.record("a")["status"], "running");
    before.engine(&["recover", "--host-is-dead", "elsewhere"]).exits(0);
    recover_and_check(&before, "a", "declared dead");
    is(&before, "quarantined", "lost", &["quarantined"], "declared dead");
}

#[test]
fn power_an_attempt_of_the_same_machine_before_a_reboot_is_lost() {
    let mut line = lines_of_a_run(&json!({}), "0")[0].clone();
    line["attempts"][0]["boot_id"] = "another".into();
    line["attempts"][0]["pid_namespace"] = "pid:[1]".into();
    let project = state(&[line], &["running"], &json!({}));
    recover_and_check(&project, "a", "rebooted");
    is(&project, "quarantined", "lost", &["quarantined"], "rebooted");
}

#[test]
fn place_a_wrong_day_in_the_record_is_found_all_the_same() {
    let lines = lines_of_a_run(&json!({}), "0");
    let project = state(&lines, &["done/2001-01-01"], &json!({}));
    // Nobody looks for gaps of the journal in a job that is over.
    let journal: String =
        lines.iter().map(|line| format!("{}\n", json!({"job_id": "a", "seq": line["seq"]}))).collect();
    std::fs::write(project.root("state/events.jsonl"), journal).unwrap();
    recover_and_check(&project, "a", "another day");
    project.engine(&RUN).exits(0);
    check(&project, "a", "another day");
    assert!(!project.root("jobs/done/2001-01-01/a.json").exists(), "the former file was taken back");
}
