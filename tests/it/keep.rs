//! What is kept and what goes: gc, its archive, and the file systems on which nothing may be changed.
//!
//! The fear is always the same: something that was not archived is gone, or something that still lives was taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::crash::{make_old, snapshot, steps};
use crate::support::{Project, Running, eventually};

/// A job that says a word and succeeds, or not; its starts are counted in the file `starts`.
fn job(id: &str) -> Value {
    let script = "echo $ENGINE_ATTEMPT >> starts; echo a word; exit $(cat code 2>/dev/null || echo 0)";
    json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}})
}

fn run(project: &Project, ids: &[&str]) {
    ids.iter().for_each(|id| drop(project.run(&job(id)).exits(0)));
}

fn record_path(project: &Project, id: &str) -> std::path::PathBuf {
    project.root(&format!("state/jobs/{id}.jsonl"))
}

/// Rewrites each line of a record.
fn edit_record(project: &Project, id: &str, edit: impl Fn(usize, &mut Value)) {
    let path = record_path(project, id);
    let mut text = String::new();
    for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        edit(number, &mut line);
        text.push_str(&format!("{line}\n"));
    }
    std::fs::write(path, text).unwrap();
}

/// Sets all times of a record to this day.
fn set_day(project: &Project, id: &str, day: &str) {
    edit_record(project, id, |number, line| line["at"] = json!(format!("{day}T10:00:00.{number:03}Z")));
}

fn lines(project: &Project, id: &str) -> Vec<String> {
    let text = std::fs::read_to_string(record_path(project, id)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What `list --archived` names, with how often.
fn archived(project: &Project) -> BTreeMap<String, usize> {
    let out = project.engine(&["list", "--archived", "--json"]).exits(0);
    let mut found = BTreeMap::new();
    for line in out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        *found.entry(line["job_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

fn once(ids: &[&str]) -> BTreeMap<String, usize> {
    ids.iter().map(|id| ((*id).to_owned(), 1)).collect()
}

fn gc_json(project: &Project, args: &[&str]) -> Value {
    let said = project.engine(&[&["gc", "--json"], args].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()
}

fn ids(list: &Value) -> Vec<String> {
    let id = |one: &Value| one["job_id"].as_str().or_else(|| one.as_str()).unwrap().to_owned();
    list.as_array().unwrap().iter().map(id).collect()
}

// ---------------------------------------------------------------- what goes and what stays

#[test]
fn without_a_limit_gc_says_so_and_no_job_goes() {
    let project = Project::new();
    run(&project, &["a"]);
    set_day(&project, "a", "2020-01-01");
    let said = project.engine(&["gc"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    assert!(said.err.contains("no limit is set") && said.err.contains("[retention]"), "{}", said.err);
    assert_eq!(project.record("a")["status"], "succeeded");
    assert!(!project.root("state/archive").exists());
}

#[test]
fn the_limits_of_engine_toml_count_and_options_go_before_them() {
    let project = Project::new();
    run(&project, &["old", "a", "b"]);
    set_day(&project, "old", "2020-01-01");
    std::fs::write(project.root("engine.toml"), "[retention]\ndays = 30\ncount = 100\n").unwrap();
    let plan = gc_json(&project, &["--dry-run"]);
    assert_eq!(ids(&plan["retired"]), ["old"]);
    assert_eq!(plan["retired"][0]["cause"], "age");
    assert_eq!(plan["kept"], 2);
    let plan = gc_json(&project, &["--dry-run", "--older-than", "36500d", "--keep-count", "1"]);
    assert_eq!(ids(&plan["retired"]), ["old", "a"]);
    assert_eq!(plan["retired"][0]["cause"], "count");
    std::fs::write(project.root("engine.toml"), "[retention]\nbytes = 0\n").unwrap();
    let plan = gc_json(&project, &["--dry-run"]);
    assert_eq!(ids(&plan["retired"]), ["old", "a", "b"]);
    assert!(plan["retired"][0]["bytes"].as_u64().unwrap() > 100, "{plan}");
}

#[test]
fn a_dry_run_changes_nothing_and_a_reader_may_make_it() {
    let project = Project::new();
    run(&project, &["a", "b"]);
    std::fs::write(record_path(&project, "free"), "").unwrap();
    let before = snapshot(&project);
    let plan = gc_json(&project, &["--dry-run", "--keep-count", "0"]);
    assert_eq!(ids(&plan["retired"]), ["a", "b"]);
    assert_eq!(ids(&plan["free_ids"]), ["free"]);
    assert!(before == snapshot(&project), "a dry run changed something");
    let after = gc_json(&project, &["--keep-count", "0"]);
    assert_eq!((&after["retired"], &after["free_ids"]), (&plan["retired"], &plan["free_ids"]));
}

#[test]
fn a_retired_job_leaves_nothing_but_its_archived_record() {
    let project = Project::new();
    std::fs::write(project.path("code"), "3").unwrap();
    let mut document = job("a");
    document["key"] = json!("k1");
    document["paths"] = json!({"log_file": "mine.log"});
    project.run(&document).exits(3);
    project.run(&job("b")).exits(3);
    let own = sha256("k1");
    assert_eq!(std::fs::read_to_string(project.root(&format!("state/keys/{own}"))).unwrap(), "a\n");
    std::fs::write(project.root(&format!("state/keys/{}", sha256("other"))), "c\n").unwrap();
    std::fs::create_dir(project.root("state/prompts")).unwrap();
    std::fs::write(project.root("state/prompts/b.1.md"), "do it").unwrap();
    std::fs::write(project.root("state/prompts/b.1.1.md"), "of the job b.1").unwrap();
    std::fs::write(project.root("state/control/a.cancel"), "{}").unwrap();
    std::fs::write(project.root("state/control/a.hold"), "").unwrap();
    std::fs::create_dir_all(project.root("state/cache")).unwrap();
    std::fs::write(project.root("state/cache/counts.json"), "{}").unwrap();
    assert!(
        project.root("state/logs/b.1.log").exists() && project.root("state/logs/b.1.error.json").exists()
    );
    let before = [lines(&project, "a"), lines(&project, "b")];
    project.engine(&["gc", "--keep-count", "0"]).exits(0);

    let left: BTreeSet<String> = snapshot(&project)
        .into_keys()
        .map(|path| path.strip_prefix(project.root("")).unwrap().display().to_string())
        .filter(|name| {
            let of_the_root =
                ["engine.toml", ".gitignore", "state/VERSION", "state/events.jsonl", "state/gc.lock"];
            !of_the_root.contains(&name.as_str()) && name != "state/cache/counts.json"
        })
        .collect();
    let month = format!("state/archive/{}.jsonl.zst", &jiff_today()[..7]);
    let other = format!("state/keys/{}", sha256("other"));
    let want = [month.as_str(), "state/control/a.hold", &other, "state/prompts/b.1.1.md"];
    assert_eq!(left, want.map(str::to_owned).into());
    assert!(project.path("mine.log").exists(), "a log that the job names is its user's");
    for (id, before) in ["a", "b"].into_iter().zip(before) {
        let shown = project.engine(&["show", id, "--all"]).exits(0);
        let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let before: Vec<Value> = before.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(shown, before, "every line is in the archive as it stood");
    }
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Today as the engine writes it.
fn jiff_today() -> String {
    let now = engine::clock::Clock::now(&engine::clock::SystemClock::start());
    now.day()
}

#[test]
fn an_archived_job_is_shown_listed_and_its_id_is_free() {
    let project = Project::new();
    run(&project, &["a", "b"]);
    set_day(&project, "a", "2026-02-03");
    let said = project.engine(&["gc", "--keep-count", "1", "-q"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "quiet is quiet");
    let said = project.engine(&["show", "a"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("archived in state/archive/2026-02.jsonl.zst"), "{}", said.out);
    let shown = project.engine(&["show", "a", "--json"]).json();
    assert_eq!(shown["archived"], "state/archive/2026-02.jsonl.zst");
    assert_eq!((&shown["status"], &shown["attempts"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    assert!(project.engine(&["list"]).exits(0).lines().skip(1).all(|line| line.starts_with("b ")));
    let listed = project.engine(&["list", "--archived"]).exits(0);
    assert!(listed.lines().nth(1).unwrap().starts_with("a "), "{listed}");
    assert_eq!(archived(&project), once(&["a"]));
    assert_eq!(project.engine(&["list", "--archived", "--state", "failed"]).exits(0), "");
    project.engine(&["show", "c"]).exits(1);

    // The id is used again, and retired again: two records of one id.
    run(&project, &["a"]);
    assert_eq!(project.record("a")["life"], 1);
    assert!(project.engine(&["show", "a", "--json"]).json()["archived"].is_null());
    assert_eq!(archived(&project), once(&["a"]));
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert_eq!(archived(&project), BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
    let all = project.engine(&["show", "a", "--all"]).exits(0);
    let starts = all.lines().filter(|line| line.contains("\"seq\":1,")).count();
    assert_eq!(starts, 2, "both records: {all}");
}

#[test]
fn nothing_goes_that_has_not_ended_or_is_needed() {
    let project = Project::new();
    run(&project, &["dep", "by_cp", "escalated", "target", "of_a_temporary", "goes"]);
    edit_record(&project, "escalated", |_, line| {
        if line["result"].is_object() {
            line["result"]["metadata"]["escalated_to"] = json!("target");
        }
    });
    let waiting = |id: &str, dep: &str| {
        let mut document = job(id);
        document["depends_on"] = json!([dep]);
        document["not_before"] = json!("2999-01-01T00:00:00Z");
        document
    };
    let name = project.job(&waiting("waits", "dep"));
    project.engine(&["run-job", "--park", "--job-file", &name]).exits(75);
    std::fs::write(project.root("jobs/queued/put.json"), waiting("put", "by_cp").to_string()).unwrap();
    std::fs::write(project.root("jobs/queued/esc.json"), waiting("esc", "escalated").to_string()).unwrap();
    let temporary = project.root("jobs/queued/.engine-018f0000-0000-7000-8000-000000000001.tmp");
    std::fs::write(temporary, waiting("x", "of_a_temporary").to_string()).unwrap();
    let report = gc_json(&project, &["--keep-count", "0"]);
    assert_eq!(ids(&report["retired"]), ["goes"]);
    let needed: BTreeSet<String> = ids(&report["needed"]).into_iter().collect();
    let want = ["dep", "by_cp", "escalated", "target", "of_a_temporary"].map(str::to_owned);
    assert_eq!(needed, want.into());
    assert_eq!(project.places("waits"), ["queued"]);
    assert_eq!(project.record("waits")["status"], "queued");
}

#[test]
fn what_a_job_needs_that_comes_in_meanwhile_stays() {
    let project = Project::new();
    run(&project, &["dep", "goes"]);
    let args = ["gc", "--keep-count", "0", "--json"];
    // After everything was looked at, before the first lease.
    let at = crate::crash::nth(&steps(&project.copy(), &args), 1, "Mkdir", "state/archive");
    let gc = stopped(&project, &args, at).unwrap();
    let mut document = job("late");
    document["depends_on"] = json!(["dep"]);
    std::fs::write(project.root("jobs/queued/late.json"), document.to_string()).unwrap();
    gc.signal(rustix::process::Signal::CONT);
    let said = gc.wait();
    assert_eq!(said.code, 0, "{}", said.err);
    let report = said.json();
    assert_eq!(ids(&report["retired"]), ["goes"]);
    assert_eq!(ids(&report["skipped"]), ["dep"]);
    project.engine(&["run-job", "--claim", "late"]).exits(0);
}

#[test]
fn a_job_whose_lease_is_held_and_one_that_a_crash_left_stay() {
    let project = Project::new();
    run(&project, &["held", "left", "goes"]);
    let from = project.root(&format!("jobs/done/{}/left.json", jiff_today()));
    std::fs::rename(from, project.root("jobs/running/left.json")).unwrap();
    std::fs::write(record_path(&project, "free"), "").unwrap();
    let holders: Vec<std::fs::File> = ["held", "free"]
        .map(|id| {
            let file = std::fs::File::options().append(true).open(record_path(&project, id)).unwrap();
            file.try_lock().unwrap();
            file
        })
        .into();
    let report = gc_json(&project, &["--keep-count", "0"]);
    assert_eq!(ids(&report["retired"]), ["goes"]);
    let skipped: BTreeSet<String> = ids(&report["skipped"]).into_iter().collect();
    assert_eq!(skipped, ["held", "left"].map(str::to_owned).into());
    assert_eq!(report["free_ids"], json!([]));
    drop(holders);
    project.engine(&["recover"]).exits(0);
    let report = gc_json(&project, &["--keep-count", "0"]);
    assert_eq!(ids(&report["free_ids"]), ["free"]);
    assert_eq!(archived(&project), once(&["held", "left", "goes"]));
}

#[test]
fn an_empty_record_with_a_queued_file_stays_and_a_record_that_can_not_be_read_is_named() {
    let project = Project::new();
    std::fs::write(record_path(&project, "put"), "").unwrap();
    std::fs::write(project.root("jobs/queued/put.json"), job("put").to_string()).unwrap();
    std::fs::write(record_path(&project, "broken"), "{\"no\": \"record\"}\n").unwrap();
    let said = project.engine(&["gc", "--keep-count", "0"]);
    assert_eq!(said.code, 125);
    assert!(said.err.contains("broken") && said.err.contains("cannot read `"), "{}", said.err);
    assert!(record_path(&project, "put").exists() && record_path(&project, "broken").exists());
    project.engine(&["run-job", "--claim", "put"]).exits(0);
}

#[test]
fn stray_temporary_files_and_empty_days_of_the_past_go() {
    let project = Project::new();
    for (name, old) in [
        ("jobs/queued/.engine-018f0000-0000-7000-8000-000000000001.tmp", true),
        ("state/logs/.engine-018f0000-0000-7000-8000-000000000002.tmp", true),
        ("state/.engine-018f0000-0000-7000-8000-000000000003.tmp", false),
    ] {
        std::fs::write(project.root(name), "x").unwrap();
        if old {
            make_old(&project.root(name));
        }
    }
    for day in ["2020-01-01", "2020-01-02", "notaday"] {
        std::fs::create_dir(project.root(&format!("jobs/done/{day}"))).unwrap();
    }
    std::fs::write(project.root("jobs/done/2020-01-02/x"), "").unwrap();
    assert_eq!(gc_json(&project, &[])["temporary_files"], 2);
    assert!(
        project.root("state/.engine-018f0000-0000-7000-8000-000000000003.tmp").exists(),
        "another process may be writing it"
    );
    assert!(!project.root("jobs/done/2020-01-01").exists());
    assert!(project.root("jobs/done/2020-01-02/x").exists() && project.root("jobs/done/notaday").exists());
}

// ---------------------------------------------------------------- crashes and races

/// Four jobs: two that ended well, in two months, one in quarantine, one that ran twice; and a free id.
fn before_gc() -> Project {
    let project = Project::new();
    run(&project, &["a", "b", "twice"]);
    run(&project, &["twice"]);
    std::fs::write(project.path("code"), "3").unwrap();
    project.run(&job("bad")).exits(3);
    std::fs::remove_file(project.path("code")).unwrap();
    set_day(&project, "b", "2026-02-03");
    std::fs::write(record_path(&project, "free"), "").unwrap();
    project
}

const JOBS: [&str; 4] = ["a", "b", "bad", "twice"];

/// Every line is in the record or in the archive, and a job file goes only after its record was archived.
#[track_caller]
fn nothing_is_lost(project: &Project, before: &Project, at: &str) {
    for id in JOBS {
        let shown = project.engine(&["show", id, "--all"]).exits(0);
        let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let want: Vec<Value> =
            lines(before, id).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(shown, want, "{at}: {id}");
        let live = record_path(project, id).exists();
        assert_eq!(!archived(project).contains_key(id), live, "{at}: {id} is shown as what it is not");
        assert!(live || project.places(id).is_empty(), "{at}: {id} has a job file and no record");
    }
}

#[test]
fn gc_that_is_killed_at_any_step_loses_nothing_and_the_next_one_archives_nothing_twice() {
    let before = before_gc();
    let args = ["gc", "--keep-count", "0"];
    let steps = steps(&before.copy(), &args);
    assert!(steps.len() > 20, "only {} steps", steps.len());
    let mut ends: Vec<(&str, u64)> = steps.iter().map(|step| ("ENGINE_TEST_KILL_AT", step.number)).collect();
    ends.extend(steps.iter().filter(|s| s.bytes > 0).map(|step| ("ENGINE_TEST_TEAR_AT", step.number)));
    for (end, number) in ends {
        let at = format!("{end}={number}");
        let project = before.copy();
        let said = project.engine_with(&args, &[(end, &number.to_string())]);
        assert_eq!(said.code, -9, "{at}: the same steps each time");
        nothing_is_lost(&project, &before, &at);
        // Recovery finds nothing to do: what ended has ended.
        let recovered = project.engine(&["recover", "--json"]);
        assert_eq!(recovered.json()["jobs"], json!([]), "{at}");
        project.engine(&args).exits(0);
        nothing_is_lost(&project, &before, &at);
        assert_eq!(archived(&project), once(&JOBS), "{at}");
        assert_eq!(std::fs::read_dir(project.root("state/jobs")).unwrap().count(), 0, "{at}");
        for file in std::fs::read_dir(project.root("state/archive")).unwrap().flatten() {
            unpack(&file.path(), &at);
        }
    }
}

#[test]
fn a_sync_that_fails_at_any_step_of_gc_leaves_what_it_was_for() {
    let before = before_gc();
    let args = ["gc", "--keep-count", "0"];
    let mut failed = 0;
    for step in steps(&before.copy(), &args).iter().filter(|step| step.kind == "Sync") {
        let at = format!("the sync at step {} fails", step.number);
        let project = before.copy();
        let said = project.engine_with(&args, &[("ENGINE_TEST_FAIL_AT", &step.number.to_string())]);
        assert_eq!(said.code, 125, "{at}: {}", said.err);
        assert!(said.err.contains(".jsonl.zst"), "{at}: {}", said.err);
        nothing_is_lost(&project, &before, &at);
        assert!(archived(&project).len() < JOBS.len(), "{at}: something went that was not kept");
        project.engine(&args).exits(0);
        nothing_is_lost(&project, &before, &at);
        assert_eq!(archived(&project), once(&JOBS), "{at}");
        failed += 1;
    }
    assert_eq!(failed, 2, "one for each month");
}

/// The archive as any program that knows zstd reads it: every frame is whole.
fn unpack(path: &Path, at: &str) {
    let bytes = std::fs::read(path).unwrap();
    let mut out = vec![0; 10 << 20];
    let length = ruzstd::decoding::FrameDecoder::new().decode_all(&bytes, &mut out);
    let length = length.unwrap_or_else(|error| panic!("{at}: {}: {error}", path.display()));
    let text = std::str::from_utf8(&out[..length]).unwrap();
    text.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
}

#[test]
fn the_directory_of_an_attempt_stays_while_the_attempt_is_open_and_then_goes() {
    let project = Project::new();
    run(&project, &["ended"]);
    let name = project.job(&json!({"job_id": "open", "tool": "shell",
        "command": {"exe": "sh", "args": ["-c", "echo > started; exec sleep 1000"]}}));
    let runner = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("the tool runs", || project.path("started").exists());
    let dir = |name: &str| project.root(&format!("state/attempts/{name}"));
    let names = ["ended.1", "open.1", "open.7", "gone.3", "no attempt", "gone.x"];
    for name in names {
        std::fs::create_dir_all(dir(name).join("git")).unwrap();
        std::fs::write(dir(name).join("git/index"), "x").unwrap();
    }
    let there = || names.into_iter().filter(|name| dir(name).exists()).collect::<Vec<_>>();
    assert_eq!(gc_json(&project, &[])["temporary_files"], 1, "the lease of `open` is held");
    assert_eq!(there(), ["open.1", "open.7", "gone.3", "no attempt", "gone.x"]);
    assert!(!record_path(&project, "gone").exists(), "no record is left of an id that has none");
    runner.signal(rustix::process::Signal::KILL);
    drop(runner.wait());
    assert_eq!(gc_json(&project, &["--dry-run"])["temporary_files"], 0);
    assert_eq!(gc_json(&project, &[])["temporary_files"], 0, "recovery reads what the dead attempt left");
    drop(project.engine(&["recover"]));
    assert_eq!(gc_json(&project, &["--dry-run"])["temporary_files"], 1);
    assert_eq!(gc_json(&project, &[])["temporary_files"], 1);
    assert_eq!(there(), ["open.7", "gone.3", "no attempt", "gone.x"], "no record tells of these attempts");
}

/// A gc that stands still before its n-th step; none if it has fewer.
fn stopped(project: &Project, args: &[&str], at: u64) -> Option<Running> {
    let running = project.start(args, &[("ENGINE_TEST_STOP_AT", &at.to_string())]);
    let mut state = ' ';
    eventually("it stands still or has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
        state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or(' ');
        matches!(state, 'T' | 'Z')
    });
    (state == 'T').then_some(running)
}

/// Attempts of an id over its record and the archive.
fn all_attempts(project: &Project, id: &str) -> usize {
    let all = project.engine(&["show", id, "--all"]).exits(0);
    let mut last: BTreeMap<(String, u64), Value> = BTreeMap::new();
    let mut begun = String::new();
    for line in all.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["seq"] == 1 {
            begun = line["at"].as_str().unwrap().to_owned();
        }
        last.insert((begun.clone(), line["life"].as_u64().unwrap()), line);
    }
    last.values().map(|line| line["attempts"].as_array().unwrap().len()).sum()
}

#[test]
fn a_run_of_the_same_id_at_any_moment_of_gc_is_refused_or_kept() {
    let before = Project::new();
    run(&before, &["a"]);
    let name = before.job(&job("a"));
    let args = ["gc", "--keep-count", "0"];
    let chosen = crate::crash::nth(&steps(&before.copy(), &args), 1, "Mkdir", "state/archive");
    let mut kept = 0;
    for step in 1..100 {
        let project = before.copy();
        let Some(gc) = stopped(&project, &args, step) else {
            assert!(step > 8 && kept > 0, "{step} steps, {kept} runs");
            return;
        };
        let said = project.engine(&["run-job", "--json", "--job-file", &name]);
        if said.code == 0 {
            kept += 1;
        } else {
            assert_eq!((said.code, &said.json()["reason"]["code"]), (125, &json!("id_running")), "{step}");
        }
        gc.signal(rustix::process::Signal::CONT);
        gc.wait().exits(0);
        let starts = crate::crash::starts(&project);
        assert_eq!(starts, if said.code == 0 { 2 } else { 1 });
        assert_eq!(all_attempts(&project, "a"), starts, "{step}: an attempt was forgotten");
        // A run that gc could see before it chose may go, too.
        if said.code == 0 && step >= chosen {
            assert_eq!(project.record("a")["status"], "succeeded", "{step}: the new run was taken away");
            assert_eq!(project.places("a"), ["done"], "{step}");
        }
        project.engine(&["recover"]).exits(0);
        project.engine(&["run-job", "--job-file", &name]).exits(0);
        assert_eq!(all_attempts(&project, "a"), starts + 1, "{step}");
    }
    panic!("more than 100 steps");
}

#[test]
fn a_claim_of_a_file_that_comes_in_at_any_moment_of_gc_of_its_free_id_runs_once() {
    let before = Project::new();
    std::fs::write(record_path(&before, "a"), "").unwrap();
    let text = job("a").to_string();
    for step in 1..100 {
        let project = before.copy();
        let Some(gc) = stopped(&project, &["gc"], step) else {
            assert!(step > 2, "{step} steps");
            return;
        };
        std::fs::write(project.root("jobs/queued/a.json"), &text).unwrap();
        let claimed = project.engine(&["run-job", "--claim", "a"]);
        gc.signal(rustix::process::Signal::CONT);
        gc.wait().exits(0);
        if claimed.code != 0 {
            assert_eq!(project.places("a"), ["queued"], "{step}: {}", claimed.err);
            project.engine(&["run-job", "--claim", "a"]).exits(0);
        }
        assert_eq!(crate::crash::starts(&project), 1, "{step}");
        assert_eq!(project.record("a")["status"], "succeeded", "{step}");
    }
    panic!("more than 100 steps");
}

#[test]
fn a_second_gc_is_refused_while_one_works() {
    let project = Project::new();
    run(&project, &["a"]);
    let gc = stopped(&project, &["gc", "--keep-count", "0"], 2).unwrap();
    let said = project.engine(&["gc", "--keep-count", "0"]);
    assert_eq!(said.code, 125);
    assert!(said.err.contains("another `engine gc` runs"), "{}", said.err);
    gc.signal(rustix::process::Signal::CONT);
    gc.wait().exits(0);
    assert_eq!(archived(&project), once(&["a"]));
}

#[test]
fn an_archive_with_a_torn_end_is_read_and_goes_on_after_what_was_whole() {
    let project = Project::new();
    run(&project, &["a"]);
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    let path = project.root(&format!("state/archive/{}.jsonl.zst", &jiff_today()[..7]));
    let whole = std::fs::read(&path).unwrap();
    for torn in [1, 10, 23, 24, 30, whole.len() - 1] {
        std::fs::write(&path, [&whole[..], &whole[..torn]].concat()).unwrap();
        assert_eq!(archived(&project), once(&["a"]), "{torn}");
        run(&project, &["b"]);
        project.engine(&["gc", "--keep-count", "0"]).exits(0);
        assert_eq!(archived(&project), once(&["a", "b"]), "{torn}");
        unpack(&path, "torn");
    }
}

#[test]
fn an_archive_that_is_not_ours_is_not_touched_and_its_jobs_stay() {
    let project = Project::new();
    run(&project, &["a", "b"]);
    set_day(&project, "b", "2026-02-03");
    std::fs::create_dir(project.root("state/archive")).unwrap();
    let path = project.root("state/archive/2026-02.jsonl.zst");
    std::fs::write(&path, "something else that somebody put here").unwrap();
    let said = project.engine(&["gc", "--keep-count", "0"]);
    assert_eq!(said.code, 125);
    assert!(said.err.contains("2026-02.jsonl.zst") && said.err.contains("move it aside"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else that somebody put here");
    assert_eq!(project.record("b")["status"], "succeeded");
    assert_eq!(project.places("b"), ["done"]);
    assert_eq!(archived(&project), once(&["a"]));
}

#[test]
fn more_jobs_than_a_batch_holds_go_in_one_run() {
    let project = Project::new();
    run(&project, &["a"]);
    let day = jiff_today();
    let record = std::fs::read_to_string(record_path(&project, "a")).unwrap();
    let text = std::fs::read_to_string(project.root(&format!("jobs/done/{day}/a.json"))).unwrap();
    for number in 0..300 {
        let rename = |text: &str| text.replace("\"job_id\":\"a\"", &format!("\"job_id\":\"j{number}\""));
        std::fs::write(record_path(&project, &format!("j{number}")), rename(&record)).unwrap();
        std::fs::write(project.root(&format!("jobs/done/{day}/j{number}.json")), rename(&text)).unwrap();
    }
    let report = gc_json(&project, &["--keep-count", "1"]);
    assert_eq!(report["retired"].as_array().unwrap().len(), 300);
    assert_eq!(archived(&project).len(), 300);
    assert_eq!(std::fs::read_dir(project.root("state/jobs")).unwrap().count(), 1);
}

// ---------------------------------------------------------------- file systems without locks

#[test]
fn a_file_system_whose_locks_stay_on_the_machine_is_refused_before_anything_is_written() {
    let project = Project::new();
    run(&project, &["a"]);
    let name = project.job(&job("b"));
    let before = snapshot(&project);
    for line in [
        "30 21 0:40 / /mnt/share rw - nfs server:/a rw,vers=3,nolock",
        "30 21 0:40 / /mnt/share rw - fuse.sshfs host: rw,user_id=0",
    ] {
        let pretend = [("ENGINE_TEST_MOUNT", line)];
        for args in [&["run-job", "--json", "--job-file", &name][..], &["gc"], &["recover"], &["init"]] {
            let said = project.engine_with(args, &pretend);
            assert_eq!(said.code, 125, "{args:?}: {}", said.err);
            assert!(said.err.contains("/mnt/share") && said.err.contains("hint: "), "{args:?}: {}", said.err);
            if args.contains(&"--json") {
                assert_eq!(said.json()["reason"]["code"], "locks_unsupported");
            }
        }
        // Who only reads needs no lock.
        project.engine_with(&["list"], &pretend).exits(0);
    }
    assert!(before == snapshot(&project), "something was written");
    assert_eq!(crate::crash::starts(&project), 1);
    let shared = [("ENGINE_TEST_MOUNT", "30 21 0:40 / /mnt rw - nfs4 server:/a rw,local_lock=none")];
    project.engine_with(&["run-job", "--job-file", &name], &shared).exits(0);
}

#[test]
fn no_root_is_made_where_locks_stay_on_the_machine() {
    let project = Project::without_root();
    let pretend = [("ENGINE_TEST_MOUNT", "30 21 0:40 / /mnt rw - 9p share rw,trans=virtio")];
    for args in [&["init"][..], &["run-job", "--", "true"]] {
        let said = project.engine_with(args, &pretend);
        assert_eq!(said.code, 125, "{}", said.err);
        assert!(!project.path(".engine").exists(), "{args:?} made something");
    }
}
