//! What of the caller's environment reaches a tool: not the caller's repository, directory and ways of asking a person.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engine::for_tests::REPOSITORY_LOCAL;
use serde_json::{Value, json};

use crate::support::{Project, Said};

/// Variables of an ordinary caller; none of the machine's own git settings.
const CALLER: [(&str, &str); 6] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_AUTHOR_NAME", "a"),
    ("GIT_AUTHOR_EMAIL", "a@example.org"),
    ("GIT_COMMITTER_NAME", "a"),
    ("GIT_COMMITTER_EMAIL", "a@example.org"),
    ("LANG", "C"),
];

fn run(project: &Project, document: &Value, env: &[(&str, &str)]) -> Said {
    let name = project.job(document);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", project.path("bin").display());
    let env = [&CALLER[..], &[("PATH", path.as_str())], env].concat();
    project.engine_with(&["run-job", "--json", "--job-file", &name], &env)
}

/// A git job in `repo/`.
fn git(operation: &str, args: &[&str]) -> Value {
    json!({
        "job_id": "g", "tool": "git", "command": {"args": args}, "metadata": {"git_operation": operation},
        "paths": {"working_dir": "repo"},
    })
}

/// Plays a person at a shell.
fn by_hand(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(dir).envs(CALLER).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with one commit, named after its directory.
fn repository(project: &Project, name: &str) {
    let dir = project.path(name);
    std::fs::create_dir(&dir).unwrap();
    by_hand(&dir, &["init", "-q", "-b", "main"]);
    std::fs::write(dir.join("file"), name).unwrap();
    by_hand(&dir, &["add", "file"]);
    by_hand(&dir, &["commit", "-qm", name]);
}

fn script(project: &Project, name: &str, text: &str) -> String {
    let path = project.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The environment of a tool, as the tool itself prints it.
fn environment_of(project: &Project, env: &Value, caller: &[(&str, &str)]) -> Vec<String> {
    let job = json!({"job_id": "e", "tool": "shell", "command": {"exe": "env"}, "env": env,
        "paths": {"working_dir": "sub"}});
    let said = run(project, &job, caller);
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()["stdout"].as_str().unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_job_that_a_hook_starts_commits_into_its_own_repository_and_not_into_the_hooks() {
    let project = Project::new();
    repository(&project, "caller");
    repository(&project, "repo");
    let (git_dir, index) = (project.path("caller/.git"), project.path("caller/.git/index"));
    let hook = [
        ("GIT_DIR", git_dir.to_str().unwrap()),
        ("GIT_INDEX_FILE", index.to_str().unwrap()),
        ("GIT_WORK_TREE", project.dir().to_str().unwrap()),
    ];
    for (id, shell) in [("adapter", false), ("shell", true)] {
        std::fs::write(project.path("repo/file"), id).unwrap();
        let mut job = if shell {
            json!({"tool": "shell", "command": {"exe": "git", "args": ["commit", "-qam", id]},
                "paths": {"working_dir": "repo"}})
        } else {
            git("commit", &["-qam", id])
        };
        job["job_id"] = id.into();
        let said = run(&project, &job, &hook);
        assert_eq!(said.code, 0, "{}", said.out);
        assert_eq!(by_hand(&project.path("repo"), &["log", "-1", "--format=%s"]), id);
        assert_eq!(by_hand(&project.path("caller"), &["log", "-1", "--format=%s"]), "caller");
    }
}

#[test]
fn no_variable_that_names_the_callers_repository_or_directory_is_inherited_and_those_of_the_job_count() {
    let project = Project::new();
    std::fs::create_dir(project.path("sub")).unwrap();
    let sub = project.path("sub").canonicalize().unwrap();
    let mut caller: Vec<(&str, &str)> = REPOSITORY_LOCAL.iter().map(|name| (*name, "/elsewhere")).collect();
    caller.extend([("PWD", "/elsewhere"), ("OLDPWD", "/elsewhere"), ("LANGUAGE", "de"), ("GIT_TRACE2", "0")]);
    let seen = environment_of(&project, &json!({}), &caller);
    assert!(!seen.iter().any(|line| line.contains("elsewhere")), "{seen:#?}");
    assert!(seen.contains(&format!("PWD={}", sub.display())), "{seen:#?}");
    for kept in ["LANGUAGE=de", "GIT_TRACE2=0", "GIT_AUTHOR_NAME=a"] {
        assert!(seen.iter().any(|line| line == kept), "{kept} in {seen:#?}");
    }
    let own = json!({"GIT_DIR": "/of-job", "OLDPWD": "/before", "PWD": "/as-said", "LC_ALL": "C.UTF-8"});
    let seen = environment_of(&project, &own, &caller);
    for given in ["GIT_DIR=/of-job", "OLDPWD=/before", "PWD=/as-said"] {
        assert_eq!(seen.iter().filter(|line| line == &given).count(), 1, "{given} in {seen:#?}");
    }
    assert!(!seen.iter().any(|line| line.starts_with("LANGUAGE=")), "it would outweigh LC_ALL: {seen:#?}");
}

#[test]
fn the_terminal_of_a_job_has_the_type_that_the_job_says() {
    let project = Project::new();
    let term = |env: Value| {
        let job = json!({"job_id": "t", "tool": "shell", "pty": true, "env": env,
            "command": {"exe": "sh", "args": ["-c", "echo $TERM"]}});
        let said = run(&project, &job, &[("TERM", "of-the-caller")]);
        said.json()["stdout"].as_str().unwrap().trim().to_owned()
    };
    assert_eq!(term(json!({"TERM": "dumb"})), "dumb");
    assert_eq!(term(json!({})), "xterm-256color");
}

#[test]
fn settings_of_git_that_the_caller_or_the_job_gives_stay_beside_those_of_the_adapter() {
    let project = Project::new();
    repository(&project, "repo");
    let given = |value: &str| {
        [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "my.flag"), ("GIT_CONFIG_VALUE_0", value)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let caller = given("of-the-caller");
    let caller: Vec<(&str, &str)> = caller.iter().map(|(name, value)| (&**name, &**value)).collect();
    let show = |job: &Value, caller: &[(&str, &str)]| {
        let said = run(&project, job, caller);
        let result = said.json();
        assert_eq!(said.code, 0, "{result:#}");
        result["stdout"].as_str().unwrap().to_owned()
    };
    let mut job = git("config", &["--list", "--show-scope"]);
    let shown = show(&job, &caller);
    assert!(shown.contains("my.flag=of-the-caller") && shown.contains("gc.autodetach=false"), "{shown}");
    assert!(shown.contains("maintenance.autodetach=false"), "{shown}");
    job["env"] = given("of-the-job").into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    let shown = show(&job, &caller);
    assert!(shown.contains("my.flag=of-the-job") && shown.contains("gc.autodetach=false"), "{shown}");
    assert!(!shown.contains("of-the-caller"), "{shown}");
}

/// A server that wants a password for everything; gives its address. It ends with the test.
fn locked_server() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    format!("http://{address}/x.git")
}

#[test]
fn git_asks_no_person_for_a_password_and_fails_at_once_with_its_reason() {
    let project = Project::new();
    repository(&project, "repo");
    let url = locked_server();
    // Waits for an answer until it is ended.
    let ask = script(&project, "ask", "echo asked >> \"$0.log\"; exec sleep 1000");
    let started = Instant::now();
    let fails = |caller: &[(&str, &str)]| {
        let result = run(&project, &git("ls-remote", &[&url]), caller).json();
        assert_eq!(result["reason"]["code"], "authentication", "{caller:?}: {result:#}");
    };
    fails(&[("GIT_ASKPASS", &ask)]);
    fails(&[("SSH_ASKPASS", &ask), ("SSH_ASKPASS_REQUIRE", "force"), ("DISPLAY", ":0")]);
    by_hand(&project.path("repo"), &["config", "core.askPass", &ask]);
    fails(&[]);
    by_hand(&project.path("repo"), &["config", "credential.interactive", "false"]);
    fails(&[]);
    assert!(!project.path("ask.log").exists(), "somebody was asked");
    assert!(started.elapsed().as_secs() < 60, "no timeout decided");
}

#[test]
fn a_store_of_credentials_and_an_askpass_program_of_the_job_are_still_used() {
    let project = Project::new();
    repository(&project, "repo");
    let url = locked_server();
    let store = script(
        &project,
        "store",
        "[ \"$1\" = get ] && echo used > \"$0.log\" && printf 'username=u\\npassword=p\\n'",
    );
    by_hand(&project.path("repo"), &["config", "credential.helper", &store]);
    let result = run(&project, &git("ls-remote", &[&url]), &[]).json();
    assert_eq!(result["reason"]["code"], "authentication", "{result:#}");
    assert!(project.path("store.log").exists(), "the store was not asked");
    by_hand(&project.path("repo"), &["config", "--unset", "credential.helper"]);
    let ask = script(&project, "answer", "echo used > \"$0.log\"; echo known");
    let mut job = git("ls-remote", &[&url]);
    job["env"] = json!({"GIT_ASKPASS": ask});
    let _ = run(&project, &job, &[]);
    assert!(project.path("answer.log").exists(), "the job's own program was not asked");
}

#[test]
fn the_callers_ssh_is_called_once_as_git_calls_it_and_can_ask_nobody() {
    let project = Project::new();
    repository(&project, "repo");
    let fake = |name: &str| {
        let text = "echo \"$0 $*\" >> \"${0%/bin/*}/log\"; echo \"$SSH_ASKPASS $SSH_ASKPASS_REQUIRE\" > \"${0%/bin/*}/asks\"
            [ \"$1\" != -G ] || exit 0
            echo 'a@b: Permission denied (password).' >&2; exit 255";
        script(&project, name, text)
    };
    let (ssh, own, plink) = (fake("bin/ssh"), fake("bin/own"), fake("bin/plink"));
    // The program and what it was called with; of our own setting nothing is among it.
    let called = |url: &str, caller: &[(&str, &str)]| {
        let mut job = git("ls-remote", &[url]);
        job["pty"] = true.into();
        let result = run(&project, &job, caller).json();
        assert_eq!(result["reason"]["code"], "authentication", "{result:#}");
        assert_eq!(std::fs::read_to_string(project.path("asks")).unwrap(), "false force\n");
        let calls = std::fs::read_to_string(project.path("log")).unwrap();
        std::fs::remove_file(project.path("log")).unwrap();
        calls.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (url, port) = ("git@host:it's/x.git", "ssh://git@host:2222/x.git");
    let command = "git@host git-upload-pack 'it'\\''s/x.git'";
    let calls = called(url, &[]);
    assert!(calls.len() == 1 && calls[0].starts_with(&format!("{ssh} ")), "{calls:#?}");
    assert!(calls[0].ends_with(command), "{calls:#?}");
    let calls = called(port, &[]);
    assert!(calls.len() == 1 && calls[0].contains(" -p 2222 git@host "), "{calls:#?}");
    let calls = called(url, &[("GIT_SSH_COMMAND", "own -i 'a key'")]);
    assert!(calls.last().unwrap().starts_with(&format!("{own} -i a key ")), "{calls:#?}");
    let calls = called(url, &[("GIT_SSH", &own)]);
    let last = calls.last().unwrap();
    assert!(last.starts_with(&format!("{own} ")) && last.ends_with(command), "{calls:#?}");
    // Its kind is told by its name, and it has another option for the port.
    by_hand(&project.path("repo"), &["config", "core.sshCommand", &format!("{plink} -i 'a key'")]);
    let calls = called(port, &[("GIT_SSH", &ssh)]);
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert!(calls[0].starts_with(&format!("{plink} -i a key -P 2222 git@host ")), "{calls:#?}");
}

#[test]
fn no_editor_and_no_pager_of_the_caller_is_started() {
    let project = Project::new();
    repository(&project, "repo");
    std::fs::write(project.path("repo/file"), "two").unwrap();
    by_hand(&project.path("repo"), &["commit", "-qam", "two"]);
    let waits = script(&project, "waits", "echo started > \"$0.log\"; exec sleep 1000");
    let caller = ["GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_PAGER", "EDITOR", "VISUAL", "PAGER"];
    let caller = caller.map(|name| (name, waits.as_str()));
    assert_eq!(run(&project, &git("rebase", &["-i", "HEAD~1"]), &caller).code, 0);
    assert_eq!(run(&project, &git("commit", &["--amend"]), &caller).code, 0);
    let mut log = git("log", &[]);
    log["pty"] = true.into();
    assert_eq!(run(&project, &log, &caller).code, 0);
    assert!(!project.path("waits.log").exists());
}
