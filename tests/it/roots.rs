//! Roots that came from elsewhere, belong to another user, or hold links: nothing outside is changed, nothing of theirs is
//! run, and each refusal says what it refused.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Project, Said, is_root, not_run};

/// Every name of the layout that a root can have, but for the root itself.
const LAYOUT: [&str; 34] = [
    "adapters",
    "engine.toml",
    "jobs",
    "jobs/done",
    "jobs/done/DAY",
    "jobs/quarantined",
    "jobs/queued",
    "jobs/queued/queued.json",
    "jobs/running",
    "prices.json",
    "state",
    "state/VERSION",
    "state/archive",
    "state/archive/FIRST",
    "state/attempts",
    "state/boot",
    "state/cache",
    "state/cache/counts.json",
    "state/cache/runs",
    "state/control",
    "state/control/HOLD",
    "state/events.jsonl",
    "state/gc.lock",
    "state/jobs",
    "state/jobs/ended.jsonl",
    "state/keys",
    "state/keys/FIRST",
    "state/locks",
    "state/locks/gpu.0",
    "state/logs",
    "state/logs/ended.1.log",
    "state/prompts",
    "state/prompts/ended.1.md",
    "state/usage.jsonl",
];

const READERS: [&[&str]; 12] = [
    &["status"],
    &["list"],
    &["list", "--run", "r"],
    &["show", "ended"],
    &["explain", "queued"],
    &["events"],
    &["usage"],
    &["adapters"],
    &["log", "ended"],
    &["doctor"],
    &["wait", "--timeout", "0", "ended"],
    &["validate", "new.json"],
];

const WRITERS: [&[&str]; 14] = [
    &["recover"],
    &["gc", "--older-than", "0s"],
    &["hold", "queued"],
    &["release", "queued"],
    &["requeue", "ended"],
    &["cancel", "queued"],
    &["submit", "new.json"],
    &["run-job", "--", "true"],
    &["run-job", "--claim", "queued"],
    &["run-job", "--job-file", "direct.json"],
    &["init", "--adopt"],
    &["work", "--drain"],
    &["gc", "--keep-count", "0"],
    &["doctor", "--repair"],
];

fn job(id: &str, more: &Value) -> Value {
    let mut job =
        json!({"job_id": id, "tool": "shell", "run_id": "r", "command": {"exe": "echo", "args": ["hi"]}});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

/// A root in which everything of the layout is, with an ended and a queued job.
fn lived_in() -> Project {
    let project = Project::new();
    project.run(&job("retired", &json!({}))).exits(0);
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    project.run(&job("ended", &json!({"key": "k", "locks": ["gpu"]}))).exits(0);
    project.job(&job("direct", &json!({"locks": ["gpu"]})));
    project.engine(&["status"]).exits(0);
    project.engine(&["list", "--run", "r"]).exits(0);
    let queued = project.job(&job("queued", &json!({"locks": ["gpu"], "key": "queued"})));
    project.engine(&["submit", &queued]).exits(0);
    project.job(&job("new", &json!({"key": "other"})));
    for (name, text) in [
        ("adapters/mine.json", r#"{"id": "mine", "executable": "true"}"#),
        ("state/attempts/ended.1/kept", "mine"),
        ("state/attempts/backup.1/kept", "mine"),
        ("state/prompts/ended.1.md", "mine"),
        ("prices.json", "{}"),
        ("state/boot", "{}"),
        ("state/usage.jsonl", ""),
    ] {
        let path = project.root(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    project
}

/// Every file and directory below, with what it holds.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap) {
        let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
        let content =
            if entry.file_type().is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        found.insert(name, content);
    }
    found
}

fn path_of(project: &Project, name: &str) -> std::path::PathBuf {
    let days = std::fs::read_dir(project.root("jobs/done")).unwrap();
    let day = days.flatten().next().unwrap().file_name().into_string().unwrap();
    let path = project.root(&name.replace("DAY", &day));
    if !name.ends_with("/FIRST") {
        return path;
    }
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    files.flatten().map(|file| file.path()).next().unwrap()
}

#[test]
fn nothing_is_changed_through_a_link_at_any_place_of_the_layout() {
    for name in LAYOUT {
        let project = lived_in();
        if name == "state/control/HOLD" {
            std::fs::write(project.root(name), "").unwrap();
        }
        let (place, outside) = (path_of(&project, name), project.path("outside"));
        assert!(place.exists(), "{name} is not in the root of this test");
        std::fs::create_dir(&outside).unwrap();
        std::fs::rename(&place, outside.join("moved")).unwrap();
        symlink(outside.join("moved"), &place).unwrap();
        let before = tree(&outside);
        let is_dir = outside.join("moved").is_dir();
        for args in READERS.iter().chain(&WRITERS) {
            let said = project.engine(args);
            assert_eq!(
                tree(&outside),
                before,
                "{name}: `engine {args:?}` changed it: {}{}",
                said.out,
                said.err
            );
            let refused = said.code == 125 && said.err.contains("is a symbolic link");
            if is_dir && WRITERS.contains(args) {
                assert!(refused, "{name}: `engine {args:?}` exits {}: {}{}", said.code, said.out, said.err);
            }
        }
        if is_dir {
            let doctor = project.engine(&["doctor"]);
            assert!(doctor.out.contains("is a symbolic link"), "{name}: {}{}", doctor.out, doctor.err);
        }
    }
}

#[test]
fn gc_leaves_what_no_record_says_is_the_engines() {
    let project = lived_in();
    for (name, text) in [("state/logs/ended.7.log", "mine"), ("state/logs/notes.txt", "mine")] {
        std::fs::write(project.root(name), text).unwrap();
    }
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert!(!project.root("state/attempts/ended.1").exists());
    assert!(!project.root("state/logs/ended.1.log").exists());
    for kept in ["state/attempts/backup.1/kept", "state/logs/ended.7.log", "state/logs/notes.txt"] {
        assert!(project.root(kept).exists(), "{kept}");
    }
}

/// What a repository can hold: a root with a queued job, a manifest of its own and one in place of a built-in.
fn hostile_clone() -> Project {
    let project = Project::without_root();
    for (name, text) in [
        ("engine.toml", String::new()),
        (
            "jobs/queued/evil.json",
            job("evil", &json!({"command": {"exe": "touch", "args": ["pwned"]}})).to_string(),
        ),
        ("adapters/evil.json", detected("evil")),
        ("adapters/shell.json", detected("shell")),
    ] {
        let path = project.root(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    project
}

fn detected(id: &str) -> String {
    json!({"id": id, "executable": "sh", "args": ["-c", "touch pwned"], "detect": {"args": ["-c", "touch pwned"]}})
        .to_string()
}

#[test]
fn a_root_that_came_with_a_clone_runs_nothing_until_a_person_accepts_it() {
    let project = hostile_clone();
    project.job(&job("mine", &json!({})));
    project.job(&job("new", &json!({})));
    project.job(&json!({"job_id": "theirs", "tool": "evil"}));
    for args in READERS.iter().chain(&WRITERS).filter(|args| args[0] != "init") {
        let said = project.engine(args);
        assert!(!project.path("pwned").exists(), "`engine {args:?}` ran what the clone names");
        let is_direct = args[0] == "run-job" && args[1] != "--claim";
        if WRITERS.contains(args) && !is_direct {
            assert_eq!(said.code, 125, "{args:?}: {}", said.err);
            assert!(said.err.contains("engine init --adopt"), "{args:?}: {}", said.err);
        }
    }
    // A job of the person's own runs, by the built-in adapter.
    let said = project.engine(&["run-job", "--job-file", "mine.json"]);
    assert!(
        said.err.contains("is used instead of") && said.err.contains("adapters/shell.json`"),
        "{}",
        said.err
    );
    assert_eq!(said.exits(0), "hi\n");
    let said = project.engine(&["run-job", "--json", "--job-file", "theirs.json"]);
    assert!(said.out.contains("is not accepted"), "{}", said.out);
    said.exits(125);
    assert!(!project.path("pwned").exists());
    let refused = project.engine(&["init"]);
    assert!(refused.err.contains("--adopt"), "{}", refused.err);
    refused.exits(125);

    let adopted = project.engine(&["init", "--adopt"]);
    assert!(adopted.err.contains("1 queued job; adapters of its own: evil, shell"), "{}", adopted.err);
    adopted.exits(0);
    project.engine(&["adapters"]).exits(0);
    assert!(!project.path("pwned").exists(), "a listing runs nothing unless it is asked to");
    project.engine(&["adapters", "--detect"]).exits(0);
    assert!(project.path("pwned").exists());
}

#[test]
fn what_gc_cannot_remove_keeps_its_record_and_a_tree_deeper_than_a_path_goes() {
    let project = lived_in();
    let script =
        "cd .engine/state/attempts/ended.1; for i in $(seq 600); do mkdir deep && cd -P deep || exit 1; done";
    let status =
        std::process::Command::new("sh").args(["-c", script]).current_dir(project.dir()).status().unwrap();
    assert!(status.success());
    project.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert!(!project.root("state/attempts/ended.1").exists());
}

#[test]
fn a_log_does_not_reach_the_engines_own_places_through_a_link() {
    let project = Project::new();
    symlink(".engine", project.path("e")).unwrap();
    for log in ["e/adapters/shell.json", "e/state/keys/new/x", "e/jobs/queued/x.json"] {
        let said = project.run(&job("a", &json!({"paths": {"log_file": log}})));
        assert_eq!(said.json()["reason"]["code"], "path_escapes", "{log}: {}", said.out);
    }
    assert!(!project.root("adapters").exists() && !project.root("state/keys").exists());
    // A directory of a person's own with such a name is a person's own.
    std::fs::create_dir_all(project.path("sub/state/logs")).unwrap();
    project.run(&job("b", &json!({"paths": {"log_file": "sub/state/logs/b.log"}}))).exits(0);
    assert_eq!(project.engine(&["log", "b"]).exits(0), "hi\n");
}

#[test]
fn a_version_that_a_clone_forges_accepts_nothing() {
    let project = hostile_clone();
    std::fs::create_dir(project.root("state")).unwrap();
    let inode = std::fs::metadata(project.root("state")).unwrap().ino();
    for born in [json!(null), json!("0.000000000"), json!("1700000000.123456789")] {
        let forged = json!({"schema_version": 1, "store": "x", "accepted": true,
            "state": {"inode": inode, "born": born}});
        std::fs::write(project.root("state/VERSION"), forged.to_string()).unwrap();
        let said = project.engine(&["work", "--drain"]);
        assert!(said.err.contains("was cloned") && !project.path("pwned").exists(), "{born}: {}", said.err);
        said.exits(125);
    }
}

#[test]
fn readers_say_that_a_root_is_not_accepted() {
    let project = lived_in();
    let copy = project.copy_not_accepted();
    for (args, code) in [(["status", "-q"], 0), (["explain", "queued"], 0), (["doctor", "-q"], 0)] {
        let said = copy.engine(&args);
        assert!(said.out.contains("engine init --adopt"), "{args:?}: {}{}", said.out, said.err);
        said.exits(code);
        assert!(!project.engine(&args).out.contains("--adopt"));
    }
    assert_eq!(copy.engine(&["status", "--json"]).json()["accepted"], false);
}

#[test]
fn a_command_that_waits_in_the_queue_goes_with_its_project() {
    let project = Project::new();
    std::fs::create_dir(project.path("inner")).unwrap();
    let mut command = project.command(&["submit", "-q", "--", "touch", "here"]);
    let id = Said::of(&command.current_dir(project.path("inner")).output().unwrap()).exits(0);
    let copy = project.copy();
    copy.engine(&["work", "--drain"]).exits(0);
    assert!(copy.path("inner/here").exists() && !project.path("inner/here").exists(), "{id}");
}

#[test]
fn a_clone_without_settings_is_no_fresh_root_either() {
    let project = hostile_clone();
    std::fs::remove_file(project.root("engine.toml")).unwrap();
    project.engine(&["run-job", "--", "true"]).exits(0);
    let said = project.engine(&["work", "--drain"]);
    assert!(said.err.contains("was cloned"), "{}", said.err);
    said.exits(125);
    assert!(!project.path("pwned").exists());
}

#[test]
fn a_root_that_is_moved_stays_known_and_a_copy_is_not() {
    let project = lived_in();
    let uuid = |root: &Path| -> Value {
        let text = std::fs::read(root.join("state/VERSION")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["store"].clone()
    };
    let here = project.root("");
    let first = uuid(&here);
    let (moved, copied) = (project.path("moved"), project.path("copied"));
    std::fs::rename(&here, &moved).unwrap();
    let root = |dir: &Path, args: &[&str]| -> Said {
        let mut all = vec!["--root", dir.to_str().unwrap()];
        all.extend(args);
        project.engine(&all)
    };
    root(&moved, &["requeue", "ended"]).exits(0);
    assert_eq!(uuid(&moved), first);
    let cp = std::process::Command::new("cp").arg("-a").args([&moved, &copied]).status().unwrap();
    assert!(cp.success());
    let said = root(&copied, &["work", "--drain"]);
    assert!(said.err.contains("was cloned, copied or restored"), "{}", said.err);
    said.exits(125);
    assert_ne!(uuid(&copied), first, "a marker of the copy never names a process of the original");
    root(&copied, &["status"]).exits(0);
    root(&copied, &["init", "--adopt", copied.to_str().unwrap()]).exits(0);
    let adopted = uuid(&copied);
    root(&copied, &["work", "--drain"]).exits(0);
    assert_eq!(uuid(&copied), adopted);
    root(&moved, &["work", "--drain"]).exits(0);
    assert_eq!(uuid(&moved), first);
}

#[test]
fn a_root_that_is_seen_through_a_bind_mount_stays_known() {
    let project = lived_in();
    std::fs::create_dir(project.path("elsewhere")).unwrap();
    let script = "mount --bind .engine elsewhere || exit 99; exec \"$0\" --root elsewhere work --drain";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_engine")]).current_dir(project.dir());
    let said = Said::of(&command.output().unwrap());
    if said.code == 99 || said.err.contains("unshare failed") {
        return not_run("this user cannot mount");
    }
    said.exits(0);
    assert_eq!(project.record("queued")["status"], "succeeded");
}

/// Runs the program as the user `nobody`.
fn as_nobody(project: &Project, args: &[&str]) -> Said {
    let mut command = project.command(args);
    command.uid(65534).gid(65534);
    Said::of(&command.output().unwrap())
}

/// What other users may do with each file and directory of a root.
fn modes_for_others(root: &Path) -> Vec<(String, u32)> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    let shown = entries.map(|entry| {
        let name = entry.path().strip_prefix(root).unwrap().display().to_string();
        (name, entry.metadata().unwrap().permissions().mode() & 0o077)
    });
    shown.collect()
}

#[test]
fn other_users_read_a_root_that_its_owner_shares_and_no_other() {
    let project = Project::new();
    let run = ["run-job", "-q", "--", "sh", "-c", "echo hello"];
    project.engine(&run).exits(0);
    assert!(modes_for_others(&project.root("")).iter().all(|(_, mode)| *mode == 0), "private by default");

    std::fs::write(project.root("engine.toml"), "# mine\nslots = 3\n[timeouts]\nshell = 9\n").unwrap();
    let shared = project.engine(&["init", "--shared-read"]).says_with(0);
    assert!(shared.contains("other users may read it"), "{shared}");
    let settings = std::fs::read_to_string(project.root("engine.toml")).unwrap();
    assert_eq!(settings, "shared_read = true\n# mine\nslots = 3\n[timeouts]\nshell = 9\n");
    project.engine(&["init", "--shared-read"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.root("engine.toml")).unwrap(), settings, "said once");

    // What was there, and what is made from now on.
    project.engine(&run).exits(0);
    project.engine(&["submit", "--", "true"]).exits(0);
    project.engine(&["hold", "--all"]).exits(0);
    for (name, mode) in modes_for_others(&project.root("")) {
        let wanted = if project.root(&name).is_dir() { 0o055 } else { 0o044 };
        assert!(mode == wanted || name.starts_with("state/attempts/"), "{name}: {mode:o}");
    }
    project.engine(&["release", "--all"]).exits(0);
    let mut masked = std::process::Command::new("sh");
    masked.args(["-c", "umask 077; exec \"$0\" run-job -q --job-file -", env!("CARGO_BIN_EXE_engine")]);
    let mut masked = masked.current_dir(project.dir()).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let text = json!({"job_id": "masked", "tool": "shell", "command": {"exe": "true"}}).to_string();
    std::io::Write::write_all(&mut masked.stdin.take().unwrap(), text.as_bytes()).unwrap();
    masked.wait().unwrap();
    let record = std::fs::metadata(project.root("state/jobs/masked.jsonl")).unwrap();
    assert_eq!(record.permissions().mode() & 0o777, 0o600, "the umask is heeded");

    std::fs::write(project.root("engine.toml"), "shared_read = false\n").unwrap();
    let refused = project.engine(&["init", "--shared-read"]).says_with(125);
    assert!(refused.contains("shared_read"), "{refused}");
}

#[test]
fn a_root_that_another_user_may_not_read_is_there_all_the_same() {
    if !is_root() {
        return;
    }
    let project = Project::new();
    project.run(&job("one", &json!({"command": {"exe": "echo", "args": ["hello"]}}))).exits(0);
    std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let named = project.dir().display().to_string();
    for args in [&["status"][..], &["--root", &named, "log", "one"], &["list"], &["submit", "--", "true"]] {
        let said = as_nobody(&project, args).says_with(125);
        assert!(said.contains("exists, but you may not read it"), "{args:?}: {said}");
        assert!(said.contains("init --shared-read"), "{args:?}: {said}");
    }
    project.engine(&["init", "--shared-read"]).exits(0);
    let before = tree(&project.root(""));
    assert_eq!(as_nobody(&project, &["log", "one"]).exits(0), "hello\n");
    for args in [&["status"][..], &["list"], &["show", "one"], &["explain", "one"], &["events"], &["usage"]] {
        as_nobody(&project, args).exits(0);
    }
    let refused = as_nobody(&project, &["submit", "--", "true"]).says_with(125);
    assert!(refused.contains("belongs to another user"), "{refused}");
    assert_eq!(tree(&project.root("")), before);
}

#[test]
fn a_linked_directory_of_a_root_is_refused_for_what_it_is() {
    let project = Project::new();
    project.engine(&["run-job", "-q", "--", "true"]).exits(0);
    for name in ["jobs", "state"] {
        let (here, there) = (project.root(name), project.path(&format!("moved-{name}")));
        std::fs::rename(&here, &there).unwrap();
        symlink(&there, &here).unwrap();
        let refused = project.engine(&["submit", "--", "true"]).says_with(125);
        assert!(refused.contains("the engine changes nothing through one"), "{refused}");
        assert!(!refused.contains("commands as you"), "{refused}");
        assert!(refused.contains("hint: make the root where its files belong"), "{refused}");
        std::fs::remove_file(&here).unwrap();
        std::fs::rename(&there, &here).unwrap();
    }
}

#[test]
fn a_reader_makes_nothing_in_a_root_of_another_user_and_tells_the_same_as_its_owner() {
    if !is_root() {
        return;
    }
    let project = Project::new();
    let sleep = json!({"command": {"exe": "sh", "args": ["-c", "touch started; until test -e go; do sleep 0.01; done"]}});
    project.job(&job("running", &sleep));
    std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in walkdir::WalkDir::new(project.dir()).into_iter().map(Result::unwrap) {
        std::os::unix::fs::chown(entry.path(), Some(65534), Some(65534)).unwrap();
    }
    let mut command = project.command(&["run-job", "-q", "--job-file", "running.json"]);
    let mut running = command.uid(65534).gid(65534).spawn().unwrap();
    crate::support::eventually("it runs", || project.path("started").exists());

    let before = tree(&project.root(""));
    for args in READERS {
        let said = project.engine(args);
        assert_eq!(tree(&project.root("")), before, "{args:?}: {}{}", said.out, said.err);
    }
    let counted = |said: Said| said.json()["counts"].clone();
    let theirs = counted(project.engine(&["status", "--json"]));
    assert_eq!(theirs["running"], 1, "{theirs}");
    assert_eq!(theirs, counted(as_nobody(&project, &["status", "--json"])));
    std::fs::write(project.path("go"), "").unwrap();
    running.wait().unwrap();

    // A cache that another user made is as good as none.
    for name in ["state/cache", "state/cache/counts.json"] {
        std::os::unix::fs::chown(project.root(name), Some(0), Some(0)).unwrap();
    }
    assert_eq!(std::fs::metadata(project.root("state/cache")).unwrap().uid(), 0);
    as_nobody(&project, &["status"]).exits(0);
    as_nobody(&project, &["doctor"]).exits(0);
    as_nobody(&project, &["gc", "--keep-count", "0"]).exits(0);
}

#[test]
fn a_report_and_a_log_go_through_a_link_of_a_person_that_stays_below_the_project_and_through_no_other() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("real/inner")).unwrap();
    symlink("real", project.path("inside")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), project.path("outside")).unwrap();
    symlink(project.dir(), elsewhere.path().join("project")).unwrap();
    let fails = |id: &str, log: &str, report: &str| {
        job(
            id,
            &json!({"command": {"exe": "sh", "args": ["-c", "echo hi; exit 3"]},
            "paths": {"repo_root": elsewhere.path().join("project"), "log_file": log, "error_report": report}}),
        )
    };
    for run in 0..2 {
        let said = project.run(&fails("in", "inside/inner/a.log", "inside/r.json"));
        assert_eq!(said.code, 3, "{run}: {}{}", said.out, said.err);
        assert!(project.path("real/inner/a.log").is_file() && project.path("real/r.json").is_file());
    }
    assert!(project.path("real/r.json.1").is_file(), "the report of the first run is kept");
    let said = project.run(&fails("out", "outside/a.log", "r.json"));
    assert_eq!(said.json()["reason"]["code"], "path_escapes", "{}", said.out);
    let said = project.run(&fails("out", "a.log", "outside/r.json"));
    assert!(
        said.err.contains("leads out of") || said.out.contains("leads out of"),
        "{}{}",
        said.out,
        said.err
    );
    let found: Vec<_> =
        std::fs::read_dir(elsewhere.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(found, ["project"]);
}

#[test]
fn the_nearest_root_is_shared_where_none_is_named() {
    let project = Project::new();
    std::fs::create_dir(project.path("sub")).unwrap();
    let mut command = project.command(&["init", "--shared-read"]);
    Said::of(&command.current_dir(project.path("sub")).output().unwrap()).exits(0);
    assert!(!project.path("sub/.engine").exists());
    assert!(std::fs::read_to_string(project.root("engine.toml")).unwrap().contains("shared_read = true"));
}

#[test]
fn of_a_root_in_a_repository_git_shows_only_what_a_team_would_commit() {
    let project = Project::without_root();
    let git = |args: &[&str]| {
        let output =
            std::process::Command::new("git").args(args).current_dir(project.dir()).output().unwrap();
        assert!(output.status.success(), "git {args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    project.engine(&["init", "-q"]).exits(0);
    let job = json!({"job_id": "j", "tool": "shell", "command": {"exe": "true"}});
    let _ = project.run(&job).exits(0);
    let _ = std::fs::remove_file(project.path("j.json"));
    let shown = git(&["ls-files", "--others", "--exclude-standard"]);
    assert_eq!(shown, ".engine/.gitignore\n.engine/engine.toml\n");
}
