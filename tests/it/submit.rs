//! Submission: no acknowledged job is lost, nothing half-written is seen, and a batch goes in whole or not at all.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::crash::{Step, make_old, nth, recover_and_check, starts_of, steps};
use crate::full_disk::{Disk, Guard};
use crate::support::{Project, Said, eventually};

const TOOL: &str = "echo $ENGINE_ATTEMPT >> starts";

fn job(id: &str, more: &Value) -> Value {
    let mut job = json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", TOOL]}});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn lines(jobs: &[Value]) -> String {
    jobs.iter().map(|job| format!("{job}\n")).collect()
}

/// Submits what is on standard input.
fn submit(project: &Project, args: &[&str], text: impl AsRef<[u8]>) -> Said {
    let mut args = args.to_vec();
    args.insert(0, "submit");
    args.push("-");
    let mut child = project.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    // A reader that gives up is seen by its exit status.
    let _ = child.stdin.take().unwrap().write_all(text.as_ref());
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Submits what must be accepted.
#[track_caller]
fn accept(project: &Project, jobs: &[Value]) -> String {
    submit(project, &[], lines(jobs)).exits(0)
}

/// The names in `queued/`, sorted.
fn queued(project: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(project.root("jobs/queued")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn queued_job(project: &Project, id: &str) -> Value {
    let text = std::fs::read_to_string(project.root(&format!("jobs/queued/{id}.json"))).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{id} is torn: {error}: {text}"))
}

/// A project with `batch.jsonl`.
fn with_batch(jobs: &[Value]) -> Project {
    let project = Project::new();
    // Makes the directories of the root.
    project.run(&job("other", &json!({}))).exits(0);
    std::fs::write(project.path("batch.jsonl"), lines(jobs)).unwrap();
    project
}

fn three() -> Vec<Value> {
    vec![
        job("a", &json!({"depends_on": ["c"]})),
        job("b", &json!({"key": "the key of b"})),
        job("c", &json!({"priority": "high"})),
    ]
}

const SUBMIT: [&str; 2] = ["submit", "batch.jsonl"];
const SUBMIT_REST: [&str; 3] = ["submit", "--skip-existing", "batch.jsonl"];

/// What must hold after a submission was ended: whoever was told of is there and whole, and the rest can follow.
#[track_caller]
fn after_a_crash(project: &Project, jobs: &[Value], said: &Said, at: &str) {
    for id in said.out.lines() {
        assert!(
            project.root(&format!("jobs/queued/{id}.json")).exists(),
            "{at}: {id} was told of and is lost"
        );
    }
    let ids: Vec<&str> = jobs.iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    for (id, job) in ids.iter().zip(jobs) {
        if project.root(&format!("jobs/queued/{id}.json")).exists() {
            assert_eq!(queued_job(project, id), *job, "{at}: a job that is seen is whole");
        }
        recover_and_check(project, id, at);
    }
    let again = project.engine(&SUBMIT_REST);
    assert_eq!(again.code, 0, "{at}: {}", again.err);
    assert_eq!(again.out.lines().collect::<Vec<_>>(), ids, "{at}: all of them, in order");
    for (id, job) in ids.iter().zip(jobs) {
        assert_eq!(queued_job(project, id), *job, "{at}");
        recover_and_check(project, id, at);
    }
    assert_eq!(queued(project).len(), jobs.len(), "{at}: {:?}", queued(project));
    for id in ids.iter().rev() {
        let claimed = project.engine(&["run-job", "--claim", id]);
        assert_eq!(claimed.code, 0, "{at}: {id}: {}", claimed.err);
        assert_eq!(starts_of(project, id), 1, "{at}");
    }
}

#[track_caller]
fn end_at_each_step(before: &Project, jobs: &[Value], args: &[&str]) -> u64 {
    let steps = steps(&before.copy(), args);
    let last = steps.last().unwrap().number;
    let torn = steps.iter().filter(|step| step.bytes > 0).map(|step| ("ENGINE_TEST_TEAR_AT", step.number));
    let killed = (1..=last).map(|number| ("ENGINE_TEST_KILL_AT", number));
    for (variable, number) in killed.chain(torn) {
        let project = before.copy();
        let said = project.engine_with(args, &[(variable, &number.to_string())]);
        assert_eq!(said.code, -9, "the same steps each time: {}", said.err);
        after_a_crash(&project, jobs, &said, &format!("{variable}={number}"));
    }
    let project = before.copy();
    let said = project.engine(args);
    assert_eq!(said.code, 0, "{}", said.err);
    after_a_crash(&project, jobs, &said, "not ended");
    last
}

#[test]
fn a_batch_that_is_killed_at_each_step_loses_nothing_and_can_be_completed() {
    let jobs = three();
    assert!(end_at_each_step(&with_batch(&jobs), &jobs, &SUBMIT) > 20);
}

#[test]
fn one_job_with_a_key_that_is_killed_at_each_step_loses_nothing_and_can_be_completed() {
    let jobs = [job("b", &json!({"key": "the key of b"}))];
    assert!(end_at_each_step(&with_batch(&jobs), &jobs, &SUBMIT) > 8);
}

#[test]
fn skip_sync_the_completion_of_a_batch_can_be_killed_at_each_step_too() {
    let jobs = three();
    let before = with_batch(&jobs);
    accept(&before, &jobs[1..2]);
    assert!(end_at_each_step(&before, &jobs, &SUBMIT_REST) > 15);
}

#[track_caller]
fn in_order(steps: &[Step], wanted: &[(&str, &str)]) {
    let mut from = 0;
    for (kind, path) in wanted {
        let found = steps[from..].iter().position(|step| step.is(kind, path));
        from += found.unwrap_or_else(|| panic!("no {kind} of {path} behind step {from} of {steps:#?}")) + 1;
    }
}

#[test]
fn submit_data_and_submit_dir_a_batch_shares_its_syncs_and_is_told_after_them() {
    let project = with_batch(&three());
    let steps = steps(&project, &SUBMIT);
    in_order(
        &steps,
        &[
            ("Create", "jobs/a.jsonl"),
            ("Create", "jobs/c.jsonl"),
            ("Link", "state/keys/"),
            ("Write", "jobs/queued/.engine-"),
            ("Write", "jobs/queued/.engine-"),
            ("Write", "jobs/queued/.engine-"),
            ("Sync", ""),
            ("Rename", "jobs/queued/a.json"),
            ("Rename", "jobs/queued/b.json"),
            ("Rename", "jobs/queued/c.json"),
            // The queue last: a job without its key would be submitted again.
            ("SyncDir", "state/keys"),
            ("SyncDir", "jobs/queued"),
            ("Append", "jobs/a.jsonl"),
            ("Tell", ""),
        ],
    );
    let first_name = nth(&steps, 1, "Rename", "jobs/queued/");
    let syncs = steps.iter().filter(|step| step.kind == "Sync").count();
    assert!(steps.iter().filter(|step| step.is("Write", "queued")).all(|step| step.number < first_name));
    // Three files and a key: together where the file system can, else each of them.
    assert!(syncs == 1 || syncs == 4, "{syncs}");
    assert_eq!(project.record("b")["status"], "queued");
    assert_eq!(project.record("b")["job"]["key"], "the key of b");
}

#[test]
fn skip_sync_a_job_that_is_there_is_synced_before_it_is_told() {
    let project = with_batch(&three()[1..2]);
    project.engine(&SUBMIT).exits(0);
    let steps = steps(&project, &SUBMIT_REST);
    in_order(&steps, &[("Sync", "jobs/queued/b.json"), ("SyncDir", "jobs/queued"), ("Tell", "")]);
}

#[test]
fn two_submitters_of_the_same_ids_in_any_order_accept_each_once() {
    let jobs: Vec<Value> = (0..40).map(|n| job(&format!("j{n:02}"), &json!({}))).collect();
    for round in 0..6 {
        let project = with_batch(&jobs);
        let reversed: Vec<Value> = jobs.iter().rev().cloned().collect();
        std::fs::write(project.path("reversed.jsonl"), lines(&reversed)).unwrap();
        let names = ["batch.jsonl", "reversed.jsonl", "batch.jsonl", "reversed.jsonl"];
        let racers: Vec<_> = names.map(|name| project.start(&["submit", name], &[])).into_iter().collect();
        let said: Vec<Said> = racers.into_iter().map(crate::support::Running::wait).collect();
        let mut codes: Vec<i32> = said.iter().map(|said| said.code).collect();
        codes.sort_unstable();
        let errors: Vec<&str> = said.iter().map(|said| said.err.as_str()).collect();
        assert_eq!(codes, [0, 1, 1, 1], "{round}: {errors:#?}");
        let told: Vec<&str> = said.iter().flat_map(|said| said.out.lines()).collect();
        assert_eq!((told.len(), told.iter().collect::<BTreeSet<_>>().len()), (40, 40), "{round}");
        assert_eq!(queued(&project).len(), 40, "{round}");
    }
}

#[test]
fn one_door_who_meets_another_submitter_waits_and_then_says_so() {
    let project = with_batch(&three());
    let at = nth(&steps(&project.copy(), &SUBMIT), 1, "Rename", "jobs/queued/").to_string();
    let stopped = project.start(&SUBMIT, &[("ENGINE_TEST_STOP_AT", &at)]);
    eventually("the first submitter stands before its first name", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", stopped.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    let said = project.engine(&["submit", "batch.jsonl", "--json"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.out.contains("\"id_busy\""), "{}", said.out);
    assert_eq!(queued(&project).iter().filter(|name| !name.starts_with('.')).count(), 0);
    stopped.signal(rustix::process::Signal::CONT);
    assert_eq!(stopped.wait().exits(0), "a\nb\nc\n");
    assert_eq!(queued(&project), ["a.json", "b.json", "c.json"]);
}

#[test]
fn an_id_that_is_taken_is_refused_with_its_place_and_nothing_of_the_batch_goes_in() {
    let project = Project::new();
    project.run(&job("ended", &json!({}))).exits(0);
    accept(&project, &[job("waits", &json!({}))]);
    let batch =
        [job("new", &json!({})), job("ended", &json!({})), job("waits", &json!({})), job("new", &json!({}))];
    let said = submit(&project, &[], lines(&batch));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    let place =
        format!(":{}: /job_id: ", lines(&batch).find("\"ended\"").unwrap() - lines(&batch[..1]).len() + 1);
    assert!(
        said.err.contains(&format!("-:2{place}the id `ended` is taken by a job that has ended")),
        "{}",
        said.err
    );
    assert!(said.err.contains("the job `waits` is queued"), "{}", said.err);
    assert!(said.err.contains("-:4:"), "{}", said.err);
    assert!(said.err.contains("duplicate id in this batch, first at -:1 (`new`)"), "{}", said.err);
    assert!(said.err.contains("hint: --skip-existing"), "{}", said.err);
    assert!(said.err.contains("hint: --keep-going submits the 1 that"), "{}", said.err);
    assert_eq!(queued(&project), ["waits.json"]);
    let said = submit(&project, &["--keep-going"], lines(&batch));
    assert_eq!((said.code, said.out.as_str()), (1, "new\n"), "{}", said.err);
    assert!(said.err.contains("submitted: 1, refused: 3"), "{}", said.err);
    assert_eq!(queued(&project), ["new.json", "waits.json"]);
}

#[test]
fn a_running_job_is_refused_and_counts_as_there_with_skip_existing() {
    let project = Project::new();
    let command = json!({"exe": "sh", "args": ["-c", "until [ -e go ]; do sleep 0.01; done"]});
    let name = project.job(&job("a", &json!({ "command": command })));
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("it runs", || project.places("a") == ["running"]);
    let said = project.engine(&["submit", &name]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the job `a` is running"), "{}", said.err);
    let said = project.engine(&["submit", "--skip-existing", "--json", &name]);
    let document = said.json();
    assert_eq!((&document["submitted"], &document["place"]), (&json!("skipped"), &json!("running")));
    assert_eq!(said.code, 0);
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().exits(0);
}

#[test]
fn a_job_file_that_a_person_copied_into_the_queue_takes_its_id() {
    let project = with_batch(&three());
    std::fs::write(project.root("jobs/queued/b.json"), job("b", &json!({})).to_string()).unwrap();
    project.engine(&SUBMIT).exits(1);
    project.engine(&SUBMIT_REST).exits(1);
    assert_eq!(queued_job(&project, "b"), job("b", &json!({})));
    let queued = format!("{:#}", three()[1]);
    std::fs::write(project.root("jobs/queued/b.json"), &queued).unwrap();
    project.engine(&["submit", "--keep-going", "batch.jsonl"]).exits(0);
    assert_eq!(project.engine(&SUBMIT_REST).exits(0), "a\nb\nc\n");
    assert_eq!(std::fs::read_to_string(project.root("jobs/queued/b.json")).unwrap(), queued);
    // One that is no job would be lost if it counted as one.
    std::fs::write(project.root("jobs/queued/c.json"), "").unwrap();
    let said = project.engine(&SUBMIT_REST);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("batch.jsonl:3:") && said.err.contains("is not a job file"), "{}", said.err);
}

#[test]
fn what_is_no_job_file_in_the_way_refuses_its_id_and_is_left_alone() {
    let project = with_batch(&three());
    let link = project.root("jobs/queued/c.json");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let said = project.engine(&SUBMIT);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("batch.jsonl:3:") && said.err.contains("is not a regular file"),
        "{}",
        said.err
    );
    // Who depends on it is refused with it.
    let said = project.engine(&["submit", "--keep-going", "batch.jsonl"]);
    assert_eq!((said.code, said.out.as_str()), (1, "b\n"), "{}", said.err);
    assert!(said.err.contains("depends on `c`, which is also refused"), "{}", said.err);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn two_jobs_with_one_key_and_one_content_are_one_job() {
    let project = Project::new();
    let keyed = |id: &str| job(id, &json!({"key": "k"}));
    assert_eq!(accept(&project, &[keyed("a"), keyed("b")]), "a\na\n");
    assert_eq!(accept(&project, &[keyed("c")]), "a\n");
    assert_eq!(accept(&project, &[keyed("a")]), "a\n");
    assert_eq!(queued(&project), ["a.json"]);
    // Also while nobody knows it any more but the record.
    project.engine(&["run-job", "--claim", "a"]).exits(0);
    let said = submit(&project, &["--json"], lines(&[keyed("d")]));
    assert_eq!(said.json()["submitted"], "reused", "{}", said.err);
    assert_eq!(said.json()["job_id"], "a");
    assert!(said.json()["path"].as_str().unwrap().contains("/jobs/done/"));
}

#[test]
fn a_key_of_another_content_is_refused_with_its_owner() {
    let project = Project::new();
    accept(&project, &[job("a", &json!({"key": "k"}))]);
    let other = |id: &str| job(id, &json!({"key": "k", "priority": "low"}));
    for id in ["a", "b"] {
        let said = submit(&project, &[], lines(&[job("new", &json!({})), other(id)]));
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
        let want = if id == "a" { "the job `a` is queued" } else { "/key: the key belongs to the job `a`" };
        assert!(said.err.contains(want), "{}", said.err);
    }
    let said = submit(
        &project,
        &[],
        lines(&[job("x", &json!({"key": "q"})), job("y", &json!({"key": "q", "pty": false}))]),
    );
    assert!(
        said.err.contains("/key: duplicate key in this batch, first at -:1 (`x`), with different content"),
        "{}",
        said.err
    );
    assert_eq!(said.code, 1);
    assert_eq!(queued(&project), ["a.json"]);
}

#[test]
fn key_owner_a_key_whose_owner_never_came_in_is_taken_over() {
    let before = with_batch(&[job("a", &json!({"key": "k"}))]);
    let steps = steps(&before.copy(), &SUBMIT);
    for at in nth(&steps, 1, "Link", "state/keys/")..=nth(&steps, 1, "Rename", "jobs/queued/a.json") {
        let project = before.copy();
        assert_eq!(project.engine_with(&SUBMIT, &[("ENGINE_TEST_KILL_AT", &at.to_string())]).code, -9);
        // Two at once, in one batch with the former owner, which has another key now.
        let batch = [job("a", &json!({"key": "l"})), job("b", &json!({"key": "k", "pty": false}))];
        assert_eq!(accept(&project, &batch), "a\nb\n", "{at}");
        let said = submit(&project, &[], lines(&[job("c", &json!({"key": "k"}))]));
        assert!(said.err.contains("the key belongs to the job `b`"), "{at}: {}", said.err);
    }
}

#[test]
fn key_owner_of_many_claimants_of_a_key_one_gets_it() {
    for round in 0..6 {
        let before = with_batch(&[job("a", &json!({"key": "k"}))]);
        if round % 2 == 1 {
            // The key names a free id.
            let at = nth(&steps(&before.copy(), &SUBMIT), 1, "Rename", "jobs/queued/a.json").to_string();
            assert_eq!(before.engine_with(&SUBMIT, &[("ENGINE_TEST_KILL_AT", &at)]).code, -9);
        }
        let names: Vec<String> = (0..5)
            .map(|n| before.job(&job(&format!("j{n}"), &json!({"key": "k", "run_id": n.to_string()}))))
            .collect();
        let racers: Vec<_> = names.iter().map(|name| before.start(&["submit", name], &[])).collect();
        let said: Vec<Said> = racers.into_iter().map(crate::support::Running::wait).collect();
        let errors: Vec<&str> = said.iter().map(|said| said.err.as_str()).collect();
        assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1, "{round}: {errors:#?}");
        assert_eq!(said.iter().filter(|said| said.code == 1).count(), 4, "{round}: {errors:#?}");
        let names = queued(&before);
        assert_eq!(names.iter().filter(|name| !name.starts_with('.')).count(), 1, "{round}: {names:?}");
    }
}

#[test]
fn a_circle_is_refused_also_through_a_job_that_waits_already() {
    let project = Project::new();
    let on = |id: &str, other: &str| job(id, &json!({ "depends_on": [other] }));
    let said = submit(&project, &[], lines(&[on("a", "b"), on("b", "c"), on("c", "a"), on("d", "a")]));
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert_eq!(
        said.err.matches("in a circle: `a` waits for `b` waits for `c` waits for `a`").count(),
        1,
        "{}",
        said.err
    );
    assert_eq!(said.err.matches("it is on the circle of `a`").count(), 2, "{}", said.err);
    assert!(said.err.contains("depends on `a`, which is also refused"), "{}", said.err);
    // A person's `cp` waits for a job that is not there yet.
    project.run(&job("other", &json!({}))).exits(0);
    std::fs::write(project.root("jobs/queued/early.json"), on("early", "late").to_string()).unwrap();
    accept(&project, &[on("middle", "early")]);
    let said = submit(&project, &["--keep-going"], lines(&[on("late", "middle"), job("fine", &json!({}))]));
    assert_eq!((said.code, said.out.as_str()), (1, "fine\n"), "{}", said.err);
    assert!(
        said.err.contains("`early` waits for `late` waits for `middle` waits for `early`"),
        "{}",
        said.err
    );
}

#[test]
fn a_dependency_may_come_later_in_the_batch_or_be_known_but_not_be_unknown() {
    let project = Project::new();
    project.run(&job("ended", &json!({}))).exits(0);
    let on = |id: &str, others: &[&str]| job(id, &json!({ "depends_on": others }));
    assert_eq!(accept(&project, &[on("a", &["b", "ended"]), on("b", &[])]), "a\nb\n");
    assert_eq!(accept(&project, &[on("c", &["a", "b", "ended"])]), "c\n");
    let said = submit(&project, &[], lines(&[on("d", &["a", "nowhere"])]));
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("/depends_on/1: the job depends on `nowhere`, which is neither"),
        "{}",
        said.err
    );
    // The record of an id that never came in is no job.
    std::fs::write(project.root("state/jobs/ghost.jsonl"), "").unwrap();
    let said = submit(&project, &[], lines(&[on("e", &["ghost"])]));
    assert!(said.err.contains("`ghost`, which is neither"), "{}", said.err);
    // With --keep-going whoever waits for what is refused is refused, in any order.
    let batch = [on("x", &["y"]), on("y", &["z"]), on("z", &["nowhere"]), on("w", &[])];
    let said = submit(&project, &["--keep-going"], lines(&batch));
    assert_eq!((said.code, said.out.as_str()), (1, "w\n"), "{}", said.err);
    assert_eq!(said.err.matches("which is also refused").count(), 2, "{}", said.err);
}

#[test]
fn an_error_is_told_with_its_line_of_the_stream() {
    let project = Project::new();
    let good = |id: &str| format!("{{\"job_id\": \"{id}\", \"tool\": \"shell\"}}\n");
    let text = format!("{}\n{{\"job_id\": \"x\", \"toll\": \"shell\"}}\n{}", good("a"), good("b"));
    let said = submit(&project, &[], &text);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("-:3:1: the key `tool` is missing"), "{}", said.err);
    assert!(said.err.contains("-:3:17: /toll: unknown key `toll` (did you mean `tool`?)"), "{}", said.err);
    assert!(!project.root("jobs/queued").exists() || queued(&project).is_empty());
    // A line that is cut off costs itself only.
    let text = format!("{}{{\"job_id\": \"x\", \"tool\": \n{}", good("a"), good("b"));
    let said = submit(&project, &["--keep-going"], &text);
    assert_eq!((said.code, said.out.as_str()), (1, "a\nb\n"), "{}", said.err);
    assert!(said.err.contains("-:2:"), "{}", said.err);
    // In an array over several lines.
    let text = "[\n  {\"job_id\": \"c\", \"tool\": \"shell\"},\n  {\"job_id\": \"d\", \"tool\": 7}\n]";
    let said = submit(&project, &["--keep-going", "--json"], text);
    let told: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{}", said.out);
    assert_eq!((&told[0]["submitted"], &told[0]["job_id"]), (&json!("refused"), &json!("d")));
    assert_eq!(told[0]["reason"]["code"], "invalid_job_file");
    assert_eq!((&told[0]["problems"][0]["line"], &told[0]["problems"][0]["column"]), (&json!(3), &json!(27)));
    assert_eq!((&told[1]["submitted"], &told[1]["place"]), (&json!("accepted"), &json!("queued")));
    assert!(std::path::Path::new(told[1]["path"].as_str().unwrap()).exists());
}

#[test]
fn every_form_of_input_is_understood() {
    let object = "{\n  \"job_id\": \"ID\",\n  \"tool\": \"shell\"\n}\n";
    let id = |id: &str| object.replace("ID", id);
    let project = Project::new();
    let forms: [(String, &str); 6] = [
        (id("one"), "one\n"),
        (format!("\u{feff}{}", id("marked")), "marked\n"),
        (format!("{}{}", id("jq1"), id("jq2")), "jq1\njq2\n"),
        (format!("[{},{}]", id("el1"), id("el2")), "el1\nel2\n"),
        (id("crlf").replace('\n', "\r\n"), "crlf\n"),
        (
            "{\"job_id\":\"l1\",\"tool\":\"t\"}\r\n\r\n{\"job_id\":\"l2\",\"tool\":\"t\"}".to_owned(),
            "l1\nl2\n",
        ),
    ];
    for (text, ids) in forms {
        let said = submit(&project, &[], &text);
        assert_eq!((said.code, said.out.as_str()), (0, ids), "{text}: {}", said.err);
    }
    // A file keeps its bytes.
    let queued_text = std::fs::read_to_string(project.root("jobs/queued/one.json")).unwrap();
    assert_eq!(queued_text, id("one"));
}

#[test]
fn what_is_no_job_is_refused_for_what_it_is() {
    let project = Project::new();
    let large = format!("{{\"job_id\": \"a\", \"tool\": \"t\", \"run_id\": \"{}\"}}", "x".repeat(1_000_000));
    let too_large = format!("-:1:1: the file has {} bytes, expected at most 1000000", large.len());
    let cases: [(&[u8], &str); 7] = [
        (b"", "-:1:1: the file is empty"),
        (b"\n \n", "-:3:1: the file is empty"),
        (b"\0\0\0\0", "-:1:1: the file is empty"),
        (b"{\"job_id\": \"\xE4\"}", "-:1:13: the file is not UTF-8"),
        (b"\xFF\xFE{\0}\0", "-:1:1: the file is UTF-16"),
        (b"[{\"job_id\": \"a\", \"tool\": \"t\"},]", "a value is missing, expected a job"),
        (large.as_bytes(), &too_large),
    ];
    for (text, want) in cases {
        let said = submit(&project, &[], text);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{want}");
        assert!(said.err.contains(want), "{want}: {}", said.err);
    }
    assert!(submit(&project, &[], "[]").exits(0).is_empty());
    std::fs::create_dir(project.path("dir")).unwrap();
    let said = project.engine(&["submit", "dir", "missing.json"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("dir:1:1: this is a directory, expected files, as dir/*.json"), "{}", said.err);
    assert!(said.err.contains("missing.json:1:1: error opening"), "{}", said.err);
    project.engine(&["submit"]).exits(2);
}

#[test]
fn a_refused_file_makes_no_root() {
    let project = Project::without_root();
    submit(&project, &[], "{").exits(1);
    assert_eq!(std::fs::read_dir(project.dir()).unwrap().count(), 0);
    let said = project.engine(&["submit", "--", "echo", "--json"]);
    assert!(said.err.contains("made the root"), "{}", said.err);
    let id = said.exits(0);
    assert_eq!(queued_job(&project, id.trim())["command"], json!({"exe": "echo", "args": ["--json"]}));
    project.engine(&["run-job", "--claim", id.trim()]).exits(0);
}

#[test]
fn many_jobs_go_in_with_few_descriptors_and_are_told_in_their_order() {
    let project = Project::new();
    let padding = "x".repeat(10_000);
    let jobs: Vec<Value> = (0..600).map(|n| job(&format!("j{n}"), &json!({ "run_id": padding }))).collect();
    std::fs::write(project.path("batch.jsonl"), lines(&jobs)).unwrap();
    let script = format!("ulimit -n 80; exec '{}' submit batch.jsonl", env!("CARGO_BIN_EXE_engine"));
    let output =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(project.dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let want: String = (0..600).map(|n| format!("j{n}\n")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), want);
    assert_eq!(queued(&project).len(), 600);
    assert_eq!(queued_job(&project, "j599"), jobs[599]);
    assert_eq!(project.journal().len(), 600);
}

#[test]
fn a_reader_that_goes_away_costs_no_job() {
    let jobs: Vec<Value> = (0..300).map(|n| job(&format!("j{n}"), &json!({}))).collect();
    let project = with_batch(&jobs);
    let mut child = project.command(&SUBMIT).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(queued(&project).len(), 300);
    // One that takes nothing because its disk is full is told of.
    let project = with_batch(&jobs[..3]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = project.command(&SUBMIT).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(125));
    assert_eq!(queued(&project).len(), 3);
}

#[test]
fn a_full_disk_accepts_nothing_of_a_batch_and_leaves_nothing_half_written() {
    for room in [0, 4096, 3 * 4096, 5 * 4096] {
        let Some(disk) = Disk::new(&Guard::Off) else { return };
        let jobs: Vec<Value> =
            (0..12).map(|n| job(&format!("j{n}"), &json!({"key": n.to_string()}))).collect();
        std::fs::write(disk.project.path("batch.jsonl"), lines(&jobs)).unwrap();
        disk.fill_but(room);
        let said = disk.project.engine(&SUBMIT);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{room}: {}", said.err);
        assert!(said.err.contains("No space left"), "{room}: {}", said.err);
        assert_eq!(queued(&disk.project), [""; 0], "{room}");
        let keys = std::fs::read_dir(disk.project.root("state/keys")).into_iter().flatten().count();
        assert_eq!(keys, 0, "{room}: the keys are free again");
        disk.free();
        disk.project.engine(&SUBMIT).exits(0);
        assert_eq!(queued(&disk.project).len(), 12, "{room}");
        recover_and_check(&disk.project, "j3", "afterwards");
    }
}

#[test]
fn a_read_only_state_is_told_and_nothing_is_written() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    let name = disk.project.job(&job("a", &json!({})));
    assert_eq!(disk.mount.call(libc::MS_REMOUNT | libc::MS_RDONLY, "size=2m,mode=0700"), 0);
    let said = disk.project.engine(&["submit", &name]);
    assert_eq!((said.code, said.out.as_str()), (125, ""), "{}", said.err);
    assert!(said.err.contains("Read-only file system"), "{}", said.err);
    disk.mount.call(libc::MS_REMOUNT, "size=2m,mode=0700");
    assert_eq!(disk.project.engine(&["submit", &name]).exits(0), "a\n");
}

#[test]
fn a_newer_state_is_left_alone() {
    let project = with_batch(&three());
    std::fs::write(project.root("state/VERSION"), r#"{"schema_version":2,"store":"x"}"#).unwrap();
    let said = project.engine(&SUBMIT);
    assert_eq!((said.code, said.out.as_str()), (125, ""));
    assert!(said.err.contains("format version 2"), "{}", said.err);
    assert_eq!(queued(&project), [""; 0]);
}

#[test]
fn take_over_a_free_id_with_an_old_record_goes_in_and_an_ended_one_does_not() {
    let project = Project::new();
    accept(&project, &[job("a", &json!({}))]);
    // Somebody took the file away before it was claimed: nothing is promised any more.
    std::fs::remove_file(project.root("jobs/queued/a.json")).unwrap();
    assert_eq!(accept(&project, &[job("a", &json!({"priority": "low"}))]), "a\n");
    assert_eq!(project.record("a")["job"]["priority"], "low");
    make_old(&project.root("jobs/queued/a.json"));
    project.engine(&["run-job", "--claim", "a"]).exits(0);
    let said = submit(&project, &[], lines(&[job("a", &json!({}))]));
    assert!(said.err.contains("the id `a` is taken by a job that has ended"), "{}", said.err);
    assert_eq!(said.code, 1);
}
