//! A workstream with one fix, each process of it killed at every durable step, calls of git included: `engine run --resume`
//! ends it as if nothing had happened.
//!
//! In the suite a sample of these steps; `tests/workstreams/crash.sh` takes all. `ENGINE_STRESS_SEED` repeats a sample, and a
//! failure names its process and its step.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::crash::{Step, traced};
use crate::stress::{Random, seed};
use crate::support::{Project, Said, eventually, processes_with, row};

/// An edit that does not pass the check, and a fix that does. Each appends, so that a step that is run again upon what its
/// first run has left is noticed by the tree.
const EDIT: &str = r#"cat > /dev/null
echo "$ENGINE_STEP_NUMBER" >> "$STARTS"
if test "$ENGINE_STEP" = edit; then
    echo edited >> calc.py
    echo new >> new.py
else
    echo mended >> calc.py
    echo mended >> new.py
fi
test -z "$PAUSE" || sleep "$PAUSE"
"#;

/// The check; it notes its starts as well.
const CHECK: &str = "echo \"$ENGINE_STEP_NUMBER\" >> \"$STARTS\"\ntest -z \"$PAUSE\" || sleep \"$PAUSE\"\nexec grep -q mended calc.py\n";

const STEPS: [&str; 4] = ["01-edit", "02-runtime", "03-fix", "04-runtime"];

const RUN: [&str; 12] = [
    "run",
    "--run",
    "r",
    "--task",
    "mend it",
    "--files",
    "calc.py",
    "new.py",
    "--tool",
    "ed",
    "--test",
    "sh check.sh",
];

/// A checkout with an adapter that edits, and a directory beside it for the worktrees.
pub struct Bench {
    pub project: Project,
    pub outside: tempfile::TempDir,
    before: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Bench {
    pub fn new() -> Self {
        let project = Project::new();
        let script =
            format!("echo 'def add(a, b)' > calc.py; printf '%s' '{CHECK}' > check.sh; cp check.sh b.sh");
        shell(&project, &script);
        shell(
            &project,
            "git init -q -b main . && git add calc.py check.sh b.sh && git commit -qm one && git tag t",
        );
        // The user is in the middle of something.
        shell(
            &project,
            "echo mine >> calc.py; echo staged > s; git add s; echo new > u; rm b.sh; git branch other",
        );
        let manifest = json!({"id": "ed", "executable": "/bin/sh", "args": ["-c", EDIT], "stdin": "prompt", "needs_prompt": true});
        std::fs::create_dir_all(project.root("adapters")).unwrap();
        std::fs::write(project.root("adapters/ed.json"), manifest.to_string()).unwrap();
        Self::of(project)
    }

    /// The same, beside this one.
    pub fn copy(&self) -> Self {
        Self::of(self.project.copy())
    }

    fn of(project: Project) -> Self {
        let before = of_the_user(&project);
        Self { project, outside: tempfile::tempdir().unwrap(), before }
    }

    /// Runs the program with more in its environment.
    pub fn engine(&self, args: &[&str], more: &[(&str, &str)]) -> Said {
        Said::of(&self.command(args).envs(more.iter().copied()).output().unwrap())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        command.env("XDG_CACHE_HOME", self.outside.path()).env("STARTS", self.outside.path().join("starts"));
        command
    }

    /// Begins.
    pub fn begin(&self) -> Command {
        self.command(&RUN)
    }

    /// Goes on with the run, or makes it, until it has succeeded.
    pub fn go_on(&self, at: &str) {
        let mut told = Vec::new();
        for _ in 0..4 {
            let is_made = self.project.root("state/runs/r/run.json").exists();
            let args: &[&str] = if is_made { &["run", "--resume", "r"] } else { &RUN };
            let said = self.engine(args, &[]);
            if said.code == 0 {
                return;
            }
            told.push(format!("{}: {}", said.code, said.err));
        }
        panic!("{at}: no end: {}\n{}", told.join("\n\n"), self.records());
    }

    /// The last line of each record, for a failure.
    fn records(&self) -> String {
        let ids = ids(&self.project);
        ids.iter().map(|id| format!("{}\n", self.project.record_if_any(id).unwrap_or_default())).collect()
    }

    /// How often the tool of each step has started.
    pub fn starts(&self) -> BTreeMap<u32, usize> {
        let text = std::fs::read_to_string(self.outside.path().join("starts")).unwrap_or_default();
        let mut starts = BTreeMap::new();
        for line in text.lines() {
            *starts.entry(line.parse().unwrap()).or_default() += 1;
        }
        starts
    }

    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").args(args).current_dir(self.project.dir()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        format!("{out}{err}")
    }

    /// The state that does not depend on how often it was interrupted.
    pub fn end(&self) -> End {
        End {
            tree: self.git(&["rev-parse", "refs/heads/engine/r/ws-task^{tree}"]),
            subjects: self.git(&["log", "--format=%s", "main..refs/heads/engine/r/ws-task"]),
            worktrees: self.git(&["worktree", "list"]).lines().count(),
            ids: ids(&self.project),
        }
    }

    /// Checks what must hold of a run that was interrupted at most so many times.
    pub fn check(&self, want: &End, interruptions: usize, at: &str) {
        assert_eq!(&self.end(), want, "{at}\n{}", self.records());
        let status = self.project.record("r.ws-task")["status"].clone();
        assert_eq!(status, "succeeded", "{at}\n{}", self.records());
        let starts = self.starts();
        let repeated: usize = starts.values().map(|starts| starts - 1).sum();
        assert_eq!(starts.len(), STEPS.len(), "{at}: {starts:?}\n{}", self.records());
        assert!(repeated <= interruptions, "{at}: {starts:?}\n{}", self.records());
        for step in STEPS {
            assert_eq!(own_ends(&self.project, &format!("r.ws-task.{step}")), 1, "{at}: {step} ran again");
        }
        for id in &want.ids {
            assert_eq!(self.project.places(id), ["done"], "{at}: the file of {id}");
        }
        self.nothing_is_left(at);
    }

    /// Checks what must hold even where the power took steps that were made: the same work is done. Torn objects that nothing
    /// leads to are git's to find.
    pub fn check_work(&self, want: &End, at: &str) {
        assert_eq!(self.end().tree, want.tree, "{at}\n{}", self.records());
        assert_eq!(self.project.record("r.ws-task")["status"], "succeeded", "{at}\n{}", self.records());
        let reached = "git rev-list --verify-objects --all 2>&1 > /dev/null";
        assert_eq!(shell_says(&self.project, reached), "", "{at}: an object of a reference");
        self.nothing_runs_or_is_left(at);
    }

    fn nothing_is_left(&self, at: &str) {
        let told = self.git(&["fsck", "--full", "--strict", "--no-dangling", "--no-progress"]);
        assert_eq!(told, "", "{at}: git fsck");
        self.nothing_runs_or_is_left(at);
    }

    fn nothing_runs_or_is_left(&self, at: &str) {
        let version = std::fs::read_to_string(self.project.root("state/VERSION")).unwrap();
        let store: Value = serde_json::from_str(&version).unwrap();
        let marker = format!("ENGINE_ATTEMPT={}/", store["store"].as_str().unwrap());
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{at}: a process of a job is alive");
        let cache = format!("XDG_CACHE_HOME={}", self.outside.path().display());
        // A launcher outlives its worker until it has seen its runners end.
        eventually("the engine's own processes end", || processes_with(&cache).is_empty());
        let mut files = Vec::new();
        walk(&self.project.path(".git"), &mut files);
        walk(self.outside.path(), &mut files);
        let is_left = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".lock") || name.ends_with(".tmp")
        };
        let left: Vec<_> = files.iter().filter(is_left).collect();
        assert!(left.is_empty(), "{at}: left behind: {left:?}");
        assert_eq!(of_the_user(&self.project), self.before, "{at}: the checkout of the user");
    }
}

/// What is the same at the end of every run of the scenario.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    tree: String,
    subjects: String,
    worktrees: usize,
    ids: BTreeSet<String>,
}

/// The end of a run that nothing interrupts.
pub fn undisturbed(template: &Bench) -> End {
    let bench = template.copy();
    Said::of(&bench.begin().output().unwrap()).exits(0);
    let want = bench.end();
    let steps: BTreeSet<String> = STEPS.iter().map(|step| format!("r.ws-task.{step}")).collect();
    assert_eq!(want.ids, steps.into_iter().chain(["r.ws-task".to_owned()]).collect());
    bench.check(&want, 0, "undisturbed");
    want
}

fn shell(project: &Project, script: &str) {
    let identity = ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), format!("GIT_{who}_EMAIL")));
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(project.dir());
    for (name, mail) in identity {
        command.env(name, "u").env(mail, "u@localhost");
    }
    assert!(command.status().unwrap().success(), "{script}");
}

/// What a script in the checkout prints.
fn shell_says(project: &Project, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(project.dir()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ids(project: &Project) -> BTreeSet<String> {
    let names = std::fs::read_dir(project.root("state/jobs")).into_iter().flatten().flatten();
    names.filter_map(|name| Some(name.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned())).collect()
}

/// How many attempts of a job came to an end of their own.
fn own_ends(project: &Project, id: &str) -> usize {
    let text = std::fs::read_to_string(project.root(&format!("state/jobs/{id}.jsonl"))).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let attempts = lines.flat_map(|line| line["attempts"].as_array().cloned().unwrap_or_default());
    let ended =
        attempts.filter(|attempt| attempt["outcome"] == "succeeded" || attempt["outcome"] == "failed");
    ended.map(|attempt| attempt["attempt"].as_u64()).collect::<BTreeSet<_>>().len()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Every file of the checkout, and those of its git directory that are not the engine's, with mode and bytes.
fn of_the_user(project: &Project) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut files = Vec::new();
    walk(project.dir(), &mut files);
    let of_engine = [
        ".engine",
        ".git/objects",
        ".git/worktrees",
        ".git/refs/engine",
        ".git/refs/heads/engine",
        ".git/logs/refs/heads/engine",
    ];
    files.retain(|path| !of_engine.iter().any(|dir| path.starts_with(project.path(dir))));
    let read = |path: PathBuf| {
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
        let bytes = std::fs::read(&path).unwrap();
        (path.strip_prefix(project.dir()).unwrap().to_owned(), (mode, bytes))
    };
    files.into_iter().map(read).collect()
}

/// The environment that interferes with one process of a run.
pub fn aimed(bench: &Bench, process: (&str, u32), more: (&str, &str)) -> Vec<(String, String)> {
    let dir = bench.outside.path().join("turns");
    std::fs::create_dir(&dir).unwrap();
    let trace = bench.outside.path().join("trace");
    vec![
        ("ENGINE_TEST_AIM".into(), format!("{}:{}:{}", process.0, process.1, dir.display())),
        ("ENGINE_TEST_TRACE".into(), trace.to_str().unwrap().into()),
        (more.0.into(), more.1.into()),
    ]
}

/// The durable steps of one process of a run.
pub fn steps(template: &Bench, process: (&str, u32)) -> Vec<Step> {
    let bench = template.copy();
    let mut command = bench.begin();
    command.envs(aimed(&bench, process, ("UNUSED", "")));
    Said::of(&command.output().unwrap()).exits(0);
    traced(&bench.outside.path().join("trace"))
}

/// One end of one process.
struct Point {
    process: (&'static str, u32),
    variable: &'static str,
    number: u64,
}

fn points(template: &Bench, process: (&'static str, u32)) -> Vec<Point> {
    let steps = steps(template, process);
    assert!(steps.len() > 5, "only {} steps of {process:?}", steps.len());
    let writes = steps.iter().filter(|step| step.bytes > 0);
    let torn = writes.map(|step| Point { process, variable: "ENGINE_TEST_TEAR_AT", number: step.number });
    let killed =
        steps.iter().map(|step| Point { process, variable: "ENGINE_TEST_KILL_AT", number: step.number });
    killed.chain(torn).collect()
}

/// True if a process came as far as a step, by its trace. Several threads sync objects at the same time: of those before the one
/// that ends the process some may have counted their step, and not traced it.
pub fn is_just_before(trace: &Path, number: u64) -> bool {
    let last = traced(trace).iter().map(|step| step.number).max().unwrap_or(0);
    last < number && last + 8 >= number
}

fn end_at(template: &Bench, want: &End, point: &Point) {
    let bench = template.copy();
    let at = format!("{:?} with {}={}", point.process, point.variable, point.number);
    let mut command = bench.begin();
    command.envs(aimed(&bench, point.process, (point.variable, &point.number.to_string())));
    let _ = command.output().unwrap();
    // The process that died was there, and came as far as this step.
    assert!(
        is_just_before(&bench.outside.path().join("trace"), point.number),
        "{at}: not the same steps each time"
    );
    bench.go_on(&at);
    bench.check(want, 1, &at);
}

/// Leaves so many of all points, unless all are asked for.
pub fn sample_of<T>(all: &mut Vec<T>, sample: u64) {
    if std::env::var_os("ENGINE_WORKSTREAM_CRASH").is_none_or(|value| value != "all") {
        let mut random = Random(seed());
        let chosen = |_| all.swap_remove(usize::try_from(random.below(all.len() as u64)).unwrap());
        *all = (0..sample).map(chosen).collect();
    }
}

/// Ends these processes at each step, or at so many of them.
fn at_each_step(what: &str, processes: &[(&'static str, u32)], sample: u64) {
    let template = Bench::new();
    let want = undisturbed(&template);
    let mut all: Vec<Point> = processes.iter().flat_map(|process| points(&template, *process)).collect();
    sample_of(&mut all, sample);
    all.iter().for_each(|point| end_at(&template, &want, point));
    row(&format!("a workstream with one fix: {what} ends before a step, or in a write"), all.len());
}

#[test]
fn the_conductor() {
    at_each_step("its conductor", &[("conduct", 1)], 5);
}

#[test]
fn the_runner_of_a_step() {
    at_each_step(
        "the runner of a step",
        &[("run-job", 1), ("run-job", 2), ("run-job", 3), ("run-job", 4)],
        4,
    );
}

#[test]
fn the_runner_of_the_workstream() {
    at_each_step("its runner", &[("fork", 1)], 3);
}

#[test]
fn the_command_itself() {
    at_each_step("`engine run`", &[("run", 1)], 3);
}
