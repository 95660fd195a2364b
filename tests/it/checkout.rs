//! A user's repository and a tool that is a script, for tests of `engine run`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Project, Running, Said, eventually, processes_with};

/// The job of the workstream of each run here, which is called `r`.
pub const JOB: &str = "r.ws-task";

/// What the repository holds before.
pub const BEFORE: &str = "def add(a, b):\n    return a - b\n";

/// Mends `calc.py` at once.
pub const MENDS: &str = "sed -i 's/a . b/a + b/' calc.py";

/// Edits `calc.py`, but the check fails; changes something else in each fix.
pub const FAILS: &str = "sed -i 's/a - b/a * b/' calc.py; echo \"# $ENGINE_STEP_NUMBER\" >> calc.py";

/// Passes if `calc.py` is mended.
pub const CHECK: &str = "grep 'a + b' calc.py";

/// Says that it has begun, and waits for the word of the test.
pub const WAITS: &str = "touch \"$OUT/begun\"; while [ ! -e \"$OUT/go\" ]; do sleep 0.05; done";

/// Waits between tries are left out; what hangs is ended soon.
const SETTINGS: &str = "
[workstreams]
recovery = { backoff_seconds = 0 }
timeouts = { runtime = 20, static = 1 }
";

/// A repository with one commit, which is a project with a root, and a directory for all that is outside of it.
pub struct Checkout {
    pub project: Project,
    outside: tempfile::TempDir,
}

impl Checkout {
    pub fn new() -> Self {
        let checkout = Self::without_root();
        checkout.engine(&["init", "-q"]).exits(0);
        checkout.set(SETTINGS);
        std::fs::create_dir_all(checkout.project.root("adapters")).unwrap();
        let script = "cat > \"$OUT/prompt\"; eval \"$ED\"";
        checkout.adapter(&json!({"id": "ed", "executable": "/bin/sh", "args": ["-c", script],
            "stdin": "prompt", "needs_prompt": true}));
        checkout.adapter(&json!({"id": "agent", "executable": "/bin/sh", "args": ["-c", script, "agent"],
            "resume_args": ["-c", script, "agent", "{session_id}"], "stdin": "prompt", "needs_prompt": true, "reader": "agent"}));
        checkout
    }

    pub fn without_root() -> Self {
        let checkout = Self { project: Project::without_root(), outside: tempfile::tempdir().unwrap() };
        for (name, text) in
            [("calc.py", BEFORE), ("other.txt", "x\n"), ("test_calc.py", "def test_add():\n    pass\n")]
        {
            std::fs::write(checkout.project.path(name), text).unwrap();
        }
        checkout.git(&["init", "-q", "-b", "main"]);
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "-q", "-m", "start"]);
        checkout
    }

    /// Adds to the settings.
    pub fn set(&self, lines: &str) {
        let toml = self.project.root("engine.toml");
        let text = std::fs::read_to_string(&toml).unwrap_or_default();
        std::fs::write(toml, text + lines).unwrap();
    }

    pub fn adapter(&self, manifest: &Value) {
        let name = format!("adapters/{}.json", manifest["id"].as_str().unwrap());
        std::fs::write(self.project.root(&name), manifest.to_string()).unwrap();
    }

    /// A path that is no part of the repository: `$OUT` of the scripts.
    pub fn out(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    fn env(&self) -> [(String, String); 7] {
        let out = self.outside.path().display().to_string();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        [
            pair("OUT", &out),
            pair("XDG_CACHE_HOME", &format!("{out}/cache")),
            pair("GIT_CONFIG_NOSYSTEM", "1"),
            pair("GIT_AUTHOR_NAME", "a"),
            pair("GIT_AUTHOR_EMAIL", "a@example.org"),
            pair("GIT_COMMITTER_NAME", "a"),
            pair("GIT_COMMITTER_EMAIL", "a@example.org"),
        ]
    }

    pub fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(args).current_dir(dir).env("HOME", "/nonexistent").envs(self.env());
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {err}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn git(&self, args: &[&str]) -> String {
        self.git_in(self.project.dir(), args)
    }

    pub fn command(&self, args: &[&str], edit: &str) -> Command {
        let mut command = self.project.command(args);
        command.envs(self.env()).env("ED", edit);
        command
    }

    pub fn engine(&self, args: &[&str]) -> Said {
        self.engine_editing(args, "exit 9")
    }

    /// Runs the program to its end, with a script for the tool.
    pub fn engine_editing(&self, args: &[&str], edit: &str) -> Said {
        Said::of(&self.command(args, edit).output().unwrap())
    }

    /// The run `r`: a task for `calc.py`, with a script for the tool and more arguments.
    pub fn run(&self, edit: &str, more: &[&str]) -> Said {
        self.engine_editing(&task(more), edit)
    }

    /// Starts the program with a script for the tool.
    pub fn start_editing(&self, args: &[&str], edit: &str) -> Running {
        let env = self.env();
        let mut env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.push(("ED", edit));
        self.project.start(args, &env)
    }

    /// Goes on with the run.
    pub fn resume(&self, edit: &str) -> Said {
        self.engine_editing(&["run", "--resume", "r"], edit)
    }

    /// The run as it is.
    #[track_caller]
    pub fn shown(&self) -> Shown {
        Shown(self.engine(&["runs", "show", "r", "--json"]).json())
    }

    /// The names of all references but that of the user's branch, and their commits.
    pub fn refs(&self) -> BTreeMap<String, String> {
        let text = self.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let pairs = pairs.filter(|(name, _)| *name != "refs/heads/main");
        pairs.map(|(name, commit)| (name.to_owned(), commit.to_owned())).collect()
    }

    /// A file of a commit.
    pub fn file(&self, commit: &str, name: &str) -> String {
        self.git(&["show", &format!("{commit}:{name}")])
    }

    /// The subjects of the commits upon the base, the last first.
    pub fn commits(&self) -> Vec<String> {
        let list = ["log", "--format=%s", "main..engine/r/ws-task"];
        self.git(&list)
            .lines()
            .map(|line| line.strip_prefix("ws-task: ").unwrap_or(line).to_owned())
            .collect()
    }

    pub fn worktree(&self) -> PathBuf {
        let stores = std::fs::read_dir(self.out("cache/engine/worktrees")).unwrap();
        let store = stores.flatten().next().unwrap().path();
        store.join("r/ws-task")
    }

    /// What holds at rest, whatever happened: the user's checkout is as it was, the worktree is clean, nothing is alive.
    #[track_caller]
    pub fn is_at_rest(&self) {
        assert_eq!(self.git(&["status", "--porcelain"]).replace("?? .engine/\n", ""), "");
        assert_eq!(self.git(&["symbolic-ref", "HEAD"]), "refs/heads/main\n");
        assert_eq!(self.git(&["log", "--format=%s", "-1"]), "start\n");
        let _ = self.git(&["fsck", "--no-dangling"]);
        let worktree = self.worktree();
        if worktree.join(".git").is_file() {
            assert_eq!(self.git_in(&worktree, &["status", "--porcelain"]), "");
            let head = self.git_in(&worktree, &["rev-parse", "HEAD"]);
            assert_eq!(Some(head.trim()), self.refs().get("refs/engine/r/ws-task/head").map(String::as_str));
        }
        let alive = processes_with(&self.outside.path().display().to_string());
        assert_eq!(alive, Vec::<i32>::new());
        let find = Command::new("find").arg(self.project.path(".git")).args(["-name", "*.lock"]).output();
        assert_eq!(Said::of(&find.unwrap()).out, "");
    }

    /// Lets a time pass for which jobs wait.
    pub fn let_time_pass(&self, jobs: &[&str]) {
        for job in jobs {
            let until = self.project.record(job)["not_before"].as_str().unwrap().to_owned();
            let file = self.project.root(&format!("state/jobs/{job}.jsonl"));
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace(&until, "2020-01-01T00:00:00.000Z")).unwrap();
        }
    }
}

fn task<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "--run", "r", "--task", "mend add", "--files", "calc.py"];
    if !more.contains(&"--tool") {
        args.extend(["--tool", "ed"]);
    }
    args.extend(more);
    args
}

/// `runs show --json`.
pub struct Shown(pub Value);

impl Shown {
    pub fn status(&self) -> &str {
        self.0["status"].as_str().unwrap()
    }

    pub fn workstream(&self) -> &Value {
        &self.0["workstreams"][0]
    }

    /// The word of its reason; empty for a success.
    pub fn code(&self) -> &str {
        self.workstream()["reason"]["code"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.workstream()["reason"]["message"].as_str().unwrap_or_default()
    }

    /// A line a step: its id, and why it did not succeed.
    pub fn steps(&self) -> Vec<String> {
        let steps = self.workstream()["steps"].as_array().unwrap();
        let why = |step: &Value| match step["outcome"].as_str() {
            Some("succeeded") => "succeeded".to_owned(),
            _ => step["reason_code"].as_str().unwrap_or("open").to_owned(),
        };
        let line = |step: &Value| {
            let (n, kind) = (step["n"].as_u64().unwrap(), step["kind"].as_str().unwrap());
            format!("{n:02}-{kind} {}", why(step))
        };
        steps.iter().map(line).collect()
    }

    pub fn warnings(&self) -> String {
        self.workstream()["warnings"].to_string()
    }

    /// Status, reason and steps at once, with the whole document in the failure.
    #[track_caller]
    pub fn is(&self, status: &str, code: &str, steps: &[&str]) {
        let found = (self.status(), self.code(), self.steps());
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        assert_eq!(found, (status, code, steps), "{:#}", self.0);
    }
}

/// `engine run` in the foreground, with its standard error in a file.
pub struct Working<'a> {
    checkout: &'a Checkout,
    pub child: Child,
}

impl<'a> Working<'a> {
    pub fn start(checkout: &'a Checkout, mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(File::create(checkout.out("err")).unwrap());
        Self { checkout, child: command.spawn().unwrap() }
    }

    /// Waits until the scripts of steps have made these files.
    pub fn begun(self, files: &[&str]) -> Self {
        eventually("the steps have begun", || files.iter().all(|file| self.checkout.out(file).exists()));
        self
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.checkout.out("err")).unwrap()
    }

    /// Sends a signal, and waits until the program says what it makes of it.
    pub fn signal(&self, signal: Signal, answer: &str) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        eventually(answer, || self.said().contains(answer));
    }

    pub fn exits(mut self, code: i32) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.said());
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
