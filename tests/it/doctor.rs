//! The doctor names every kind of damage, harms none of it, and what can be healed is healed by `--repair`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::crash::{make_old, nth, snapshot, steps};
use crate::support::{Project, eventually, is_root};

fn job(id: &str) -> Value {
    json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}})
}

/// A root with two jobs that ended.
fn healthy() -> Project {
    let project = Project::new();
    for id in ["a", "b"] {
        project.run(&job(id)).exits(0);
    }
    project
}

fn done(project: &Project, id: &str) -> std::path::PathBuf {
    let place = project.record(id)["place"].as_str().unwrap().to_owned();
    project.root(&format!("jobs/{place}/{id}.json"))
}

fn look(project: &Project, args: &[&str]) -> (i32, Value) {
    let said = project.engine(&[&["doctor", "--json"], args].concat());
    assert!(said.code == 0 || said.code == 1, "{}", said.err);
    let found = said.json();
    assert_eq!(said.code == 1, found["verdict"] == "fail", "{found:#}");
    (said.code, found)
}

fn check<'a>(found: &'a Value, name: &str) -> &'a Value {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|one| one["check"] == name).unwrap_or_else(|| panic!("no check {name}: {found:#}"))
}

/// The doctor says this of a check, names this, and changes nothing.
#[track_caller]
fn says(project: &Project, name: &str, verdict: &str, item: &str) {
    let before = snapshot(project);
    let (_, found) = look(project, &[]);
    assert!(before == snapshot(project), "{name}: the doctor changed something");
    let one = check(&found, name);
    assert_eq!(one["verdict"], verdict, "{one:#}");
    let text = format!("{} {}", one["items"], one["found"]);
    assert!(text.contains(item), "{item} is not named: {one:#}");
    for key in ["meaning", "found"] {
        assert!(!one[key].as_str().unwrap().is_empty(), "{one:#}");
    }
}

/// `--repair` heals it, and the doctor says so.
#[track_caller]
fn is_healed(project: &Project, name: &str) {
    let (code, found) = look(project, &["--repair"]);
    assert_eq!(check(&found, name)["verdict"], "ok", "{:#}", check(&found, name));
    assert_eq!(code, 0, "{found:#}");
    project.engine(&["doctor", "-q"]).exits(0);
}

#[test]
fn a_healthy_root_is_well_and_stays_as_it_is() {
    let project = healthy();
    let before = snapshot(&project);
    let (code, found) = look(&project, &[]);
    assert_eq!(code, 0, "{found:#}");
    for one in found["checks"].as_array().unwrap() {
        assert_ne!(one["verdict"], "fail", "{one:#}");
        if one["part"] == "root" {
            assert_eq!((&one["verdict"], &one["items"]), (&json!("ok"), &json!([])), "{one:#}");
        }
    }
    assert!(before == snapshot(&project), "the doctor changed something");
    let names: Vec<_> = std::fs::read_dir(project.root("")).unwrap().flatten().collect();
    assert_eq!(names.len(), 4, "a directory of trials is left: {names:?}");
    let text = project.engine(&["doctor"]).exits(0);
    for part in ["file system", "kernel", "root", "flock", "subreaper", "permissions"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    is_healed(&project, "jobs");
}

#[test]
fn a_root_that_no_command_has_changed_is_well_and_no_root_can_not_be_looked_at() {
    let project = Project::without_root();
    std::fs::write(project.path("engine.toml"), "").unwrap();
    project.engine(&["doctor", "--root", "."]).exits(0);
    assert_eq!(std::fs::read_dir(project.dir()).unwrap().count(), 1);
    project.engine(&["doctor", "--root", "nowhere"]).exits(125);
}

#[test]
fn an_attempt_whose_runner_was_killed_is_named_and_one_that_runs_is_not() {
    let project = healthy();
    let mut long = job("long");
    long["command"] = json!({"exe": "sleep", "args": ["1000"]});
    let name = project.job(&long);
    let running = project.start(&["run-job", "--job-file", &name], &[]);
    eventually("it runs", || project.places("long") == ["running"]);
    says(&project, "jobs", "ok", "no jobs");
    running.signal(rustix::process::Signal::KILL);
    running.wait().exits(-9);
    says(&project, "jobs", "fail", "long: its runner is gone");
    is_healed(&project, "jobs");
    assert_eq!(project.record("long")["attempts"][0]["outcome"], "lost");
}

#[test]
fn a_crash_at_any_step_of_a_run_is_named_and_healed() {
    let before = Project::new();
    let name = before.job(&job("a"));
    let args = ["run-job", "--job-file", name.as_str()];
    let trace = steps(&before.copy(), &args);
    for (kind, path, verdict) in [
        ("Rename", "running/a.json", "fail"),
        ("Append", "events.jsonl", "fail"),
        ("Rename", "jobs/done/", "fail"),
    ] {
        let project = before.copy();
        let at = nth(&trace, 1, kind, path).to_string();
        project.engine_with(&args, &[("ENGINE_TEST_KILL_AT", &at)]).exits(-9);
        says(&project, "jobs", verdict, "a: ");
        is_healed(&project, "jobs");
    }
}

#[test]
fn files_that_are_not_where_the_record_says_are_named() {
    let project = healthy();
    let moved = project.root("jobs/running/a.json");
    std::fs::rename(done(&project, "a"), moved).unwrap();
    says(&project, "jobs", "fail", "a: its file is in jobs/running");
    is_healed(&project, "jobs");
    assert_eq!(project.places("a"), ["done"]);

    std::fs::copy(done(&project, "b"), project.root("jobs/queued/b.json")).unwrap();
    says(&project, "jobs", "fail", "b: has files in jobs/queued and jobs/done");
    is_healed(&project, "jobs");
    assert_eq!(project.places("b"), ["done"]);
    says(&project, "foreign_files", "ok", "no entries");

    std::fs::write(project.root("jobs/quarantined/nobody.json"), job("nobody").to_string()).unwrap();
    says(&project, "ended_files", "warn", "nobody: a file in jobs/quarantined without a record");
    std::fs::create_dir_all(project.root("jobs/done/2026-01-01")).unwrap();
    std::fs::write(project.root("jobs/done/2026-01-01/nobody.json"), job("nobody").to_string()).unwrap();
    let both = "nobody: files in jobs/quarantined and jobs/done/2026-01-01 without a record";
    says(&project, "ended_files", "warn", both);

    let name = project.job(&job("moved"));
    project.engine(&["submit", &name]).exits(0);
    std::fs::rename(project.root("jobs/queued/moved.json"), project.root("jobs/quarantined/moved.json"))
        .unwrap();
    let withdrawn = "moved: was accepted and not run, and its file was moved to jobs/quarantined";
    says(&project, "ended_files", "warn", withdrawn);
}

#[test]
fn a_record_that_says_running_and_tells_of_no_attempt_is_for_recovery_wherever_it_is_looked_at() {
    let project = healthy();
    let name = project.job(&job("odd"));
    project.engine(&["submit", &name]).exits(0);
    let mut line = project.record("odd");
    line["seq"] = (line["seq"].as_u64().unwrap() + 1).into();
    line["status"] = "running".into();
    line["place"] = "running".into();
    line["attempts"] = serde_json::json!([]);
    let record = project.root("state/jobs/odd.jsonl");
    let lines = std::fs::read_to_string(&record).unwrap();
    std::fs::write(
        &record,
        format!(
            "{lines}{line}
"
        ),
    )
    .unwrap();
    for is_there in [true, false] {
        if !is_there {
            std::fs::remove_file(project.root("jobs/queued/odd.json")).unwrap();
        }
        let explained = project.engine(&["explain", "odd", "--json"]).json();
        assert_eq!(explained["findings"][0]["code"], "needs_recovery", "{explained}");
        says(&project, "jobs", "fail", "odd: its runner is gone");
    }
    is_healed(&project, "jobs");
    assert_eq!(project.record("odd")["status"], "quarantined");
}

#[test]
fn records_that_are_damaged_or_newer_are_named_and_a_torn_line_is_none() {
    let project = healthy();
    let record = |id: &str| project.root(&format!("state/jobs/{id}.jsonl"));
    let append = |id: &str, text: &str| {
        let whole = std::fs::read_to_string(record(id)).unwrap();
        std::fs::write(record(id), whole + text).unwrap();
    };
    append("a", "{\"half\":");
    says(&project, "records", "ok", "no records");
    append("b", "{\"schema_version\": 9, \"job_id\": \"b\"}\n");
    says(&project, "newer_records", "warn", "b.jsonl");
    std::fs::write(record("c"), "no json\n").unwrap();
    says(&project, "records", "fail", "c.jsonl");
    // It needs a person: no repair throws a record away.
    let (code, found) = look(&project, &["--repair"]);
    assert_eq!((code, &check(&found, "records")["verdict"]), (1, &json!("fail")));
    assert_eq!(std::fs::read_to_string(record("c")).unwrap(), "no json\n");
}

#[test]
fn what_is_no_job_file_is_named_and_never_opened() {
    let project = healthy();
    let queued = |name: &str| project.root(&format!("jobs/queued/{name}"));
    std::fs::create_dir(queued("dir.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", queued("link.json")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, queued("fifo.json"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::write(queued("backup.json~"), "x").unwrap();
    std::fs::write(queued("open.json"), job("open").to_string()).unwrap();
    chmod(&queued("open.json"), 0o666);
    std::fs::write(project.root("jobs/done/notes"), "x").unwrap();
    for item in ["dir.json", "link.json", "fifo.json", "backup.json~", "open.json", "jobs/done/notes"] {
        // `snapshot` would wait for the FIFO.
        let (code, found) = look(&project, &[]);
        let one = check(&found, "foreign_files");
        assert_eq!((code, &one["verdict"]), (0, &json!("warn")), "{found:#}");
        assert!(one["items"].to_string().contains(item), "{item}: {one:#}");
    }
    look(&project, &["--repair"]);
    assert!(queued("link.json").is_symlink() && queued("dir.json").is_dir() && queued("open.json").exists());
}

#[test]
fn a_queued_file_that_no_one_can_run_and_ids_that_differ_by_case_are_named() {
    let project = healthy();
    let path = project.root("jobs/queued/bad.json");
    std::fs::write(&path, r#"{"job_id": "bad", "tool": 7}"#).unwrap();
    make_old(&path);
    says(&project, "job_files", "warn", "bad.json");
    std::fs::remove_file(path).unwrap();
    project.run(&job("A")).exits(0);
    says(&project, "case", "warn", "A, a");
}

#[test]
fn what_killed_processes_left_is_named_and_removed() {
    let project = healthy();
    let temporary = project.root("jobs/queued/.engine-018f0000-0000-7000-8000-000000000001.tmp");
    let young = project.root("jobs/queued/.engine-018f0000-0000-7000-8000-000000000002.tmp");
    std::fs::write(&temporary, "x").unwrap();
    std::fs::write(&young, "x").unwrap();
    let trials = project.root(".engine-probe-1");
    std::fs::create_dir(&trials).unwrap();
    std::fs::write(trials.join("lock"), "x").unwrap();
    make_old(&temporary);
    make_old(&trials);
    says(&project, "temporary_files", "warn", ".engine-018f0000-0000-7000-8000-000000000001.tmp");
    says(&project, "temporary_files", "warn", ".engine-probe-1");
    is_healed(&project, "temporary_files");
    assert!(!temporary.exists() && !trials.exists() && young.exists());
}

#[test]
fn requests_that_nobody_answers_and_holds_are_named_and_only_dead_requests_go() {
    let project = healthy();
    let control = |name: &str| project.root(&format!("state/control/{name}"));
    for name in ["a.cancel", "a.hold", "gone.hold", "HOLD", "notes"] {
        std::fs::write(control(name), "").unwrap();
    }
    for item in ["a.cancel: asks", "gone.hold: holds a job that is not here", "HOLD: no job", "notes: is no"]
    {
        says(&project, "control", "warn", item);
    }
    let (code, found) = look(&project, &["--repair"]);
    assert_eq!((code, &found["repaired"]["requests"]), (0, &json!(1)));
    assert!(!control("a.cancel").exists());
    assert!(["a.hold", "gone.hold", "HOLD", "notes"].iter().all(|name| control(name).exists()));
}

#[test]
fn locks_gaps_and_caches_that_a_crash_left_are_named() {
    let project = healthy();
    std::fs::write(project.root("state/locks/gpu.0"), "a 1\n").unwrap();
    says(&project, "locks", "warn", "gpu.0: held by a");
    std::fs::create_dir_all(project.root("state/cache")).unwrap();
    std::fs::write(project.root("state/cache/counts.json"), "{").unwrap();
    says(&project, "cache", "warn", "cannot be read");
    let journal = project.root("state/events.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
    says(&project, "journal", "warn", "a line 1");
    is_healed(&project, "journal");
}

#[test]
fn what_stands_in_the_place_of_a_lock_is_named_by_doctor_and_by_explain() {
    let project = healthy();
    let mut wants = job("wants");
    wants["locks"] = json!(["gpu"]);
    project.engine(&["submit", &project.job(&wants)]).exits(0);
    let slot = project.root("state/locks/gpu.0");
    let explained = || project.engine(&["explain", "--json", "wants"]).exits(0);
    assert!(explained().contains("\"ready\""));
    std::fs::create_dir(&slot).unwrap();
    says(&project, "locks", "warn", "gpu.0: cannot be taken");
    assert!(explained().contains("the lock `gpu` cannot be taken"), "{}", explained());
    let listed = project.engine(&["list", "--state", "queued", "--json"]).exits(0);
    assert!(listed.contains("waiting_lock"), "{listed}");
    std::fs::remove_dir(&slot).unwrap();
    std::os::unix::fs::symlink("/dev/null", &slot).unwrap();
    says(&project, "locks", "warn", "gpu.0: cannot be taken");
    assert!(explained().contains("cannot be taken") && !explained().contains("\"ready\""), "{}", explained());
    std::fs::remove_file(&slot).unwrap();
    project.engine(&["run-job", "--claim", "wants"]).exits(0);
}

#[test]
fn an_archive_that_is_torn_is_cut_and_one_that_is_damaged_is_left_to_a_person() {
    let project = healthy();
    project.engine(&["gc", "--keep-count", "1"]).exits(0);
    let dir = std::fs::read_dir(project.root("state/archive")).unwrap();
    let path = dir.flatten().next().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();
    says(&project, "archive", "warn", "torn from byte");
    is_healed(&project, "archive");
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    says(&project, "archive", "fail", "damaged at byte");
    let (code, _) = look(&project, &["--repair"]);
    assert_eq!(code, 1);
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "a repair threw something away");
}

#[test]
fn what_a_crash_left_of_a_run_and_what_is_no_run_is_named() {
    let project = healthy();
    for (name, item) in
        [("r-1", "r-1: has no manifest: engine runs clean r-1"), ("no.run", "no.run: is no run")]
    {
        let dir = project.root("state/runs").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        says(&project, "runs", "warn", item);
        std::fs::remove_dir(&dir).unwrap();
    }
    says(&project, "runs", "ok", "0 runs");
    let left = project.root("state/runs/r-2/.engine-0192a6c8-0000-7000-8000-000000000000.tmp");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::create(&left).unwrap().set_modified(old).unwrap();
    says(&project, "temporary_files", "warn", "r-2/.engine-");
    let (_, found) = look(&project, &["--repair"]);
    assert_eq!(check(&found, "temporary_files")["verdict"], "ok", "{found:#}");
    assert!(!left.exists());
}

#[test]
fn a_root_that_others_can_write_or_a_newer_engine_made_is_named() {
    let project = healthy();
    chmod(&project.root("jobs/queued"), 0o777);
    says(&project, "permissions", "fail", "jobs/queued");
    chmod(&project.root("jobs/queued"), 0o700);
    says(&project, "permissions", "ok", "no directories");
    std::fs::write(project.root("state/VERSION"), r#"{"schema_version": 9, "store": "x"}"#).unwrap();
    says(&project, "version", "fail", "format version 9");
    std::fs::write(project.root("state/VERSION"), "x").unwrap();
    says(&project, "version", "fail", "VERSION");
    project.engine(&["doctor", "--repair"]).exits(125);
}

#[test]
fn a_clock_behind_the_newest_record_a_fast_store_and_a_full_disk_are_told() {
    let project = healthy();
    let path = project.root("state/jobs/a.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = project.record("a")["at"].as_str().unwrap().to_owned();
    std::fs::write(&path, text.replace(&at, "2999-01-01T00:00:00.000Z")).unwrap();
    says(&project, "clock", "warn", "ahead of the clock");
    let settings = "durability = \"fast\"\nmin_free_bytes = 18000000000000000000\n";
    std::fs::write(project.root("engine.toml"), settings).unwrap();
    says(&project, "durability", "warn", "fast");
    says(&project, "space", "fail", "needed");
}

#[test]
fn locks_that_do_not_leave_the_machine_are_explained() {
    let project = healthy();
    let line = "30 21 0:40 / /mnt rw - nfs server:/a rw,nolock";
    let said = project.engine_with(&["doctor", "--json"], &[("ENGINE_TEST_MOUNT", line)]);
    assert_eq!(said.code, 1);
    let found = said.json();
    let one = check(&found, "locks_reach");
    assert_eq!(one["verdict"], "fail");
    assert!(one["found"].as_str().unwrap().contains("nolock"), "{one:#}");
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn each_manifest_that_cannot_be_used_is_named() {
    let project = healthy();
    says(&project, "adapters", "ok", "no manifests");
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root("adapters/torn.json"), "{").unwrap();
    std::fs::write(project.root("adapters/other.json"), "{\"id\": \"another\"}").unwrap();
    says(&project, "adapters", "warn", "torn.json");
    says(&project, "adapters", "warn", "other.json");
    says(&project, "adapters", "warn", "2 manifests");
}

#[test]
fn a_root_of_another_user_is_called_that_and_not_insecure() {
    if !is_root() {
        return;
    }
    let project = healthy();
    for entry in walkdir::WalkDir::new(project.dir()).into_iter().map(Result::unwrap) {
        std::os::unix::fs::chown(entry.path(), Some(65534), Some(65534)).unwrap();
    }
    says(&project, "permissions", "ok", "the root belongs to another user (uid 65534): read-only for you");
    let said = project.engine(&["doctor"]);
    assert!(!said.out.contains("chmod"), "{}", said.out);
}
