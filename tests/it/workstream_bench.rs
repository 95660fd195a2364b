//! A run of workstreams that is interrupted, and what must hold of it afterwards, whatever the interruption was.
//!
//! A scenario says what the run is and how each of its jobs ends; its processes are killed, or its power is lost, elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::crash::walk;
use crate::support::{Project, Said, eventually, processes_with};

/// An edit that does not pass the check of `ONE_FIX`, and a fix that does; or of a bundle, whose file is called as it, but for a
/// chain that shares one. Each appends, so that a step that is run again upon what its first run has left is noticed by the tree,
/// and so is another order.
const EDIT: &str = r#"cat > /dev/null
echo "$ENGINE_WORKSTREAM_ID/$ENGINE_STEP_NUMBER" >> "$STARTS"
case $ENGINE_WORKSTREAM_ID/$ENGINE_STEP in
    ws-task/edit) echo edited >> calc.py; echo new >> new.py ;;
    ws-task/*) echo mended >> calc.py; echo mended >> new.py ;;
    ws-bad/*) ;;
    ws-[efg]/*) echo "$ENGINE_WORKSTREAM_ID" >> e.txt ;;
    *) echo "$ENGINE_WORKSTREAM_ID" >> "${ENGINE_WORKSTREAM_ID#ws-}.txt" ;;
esac
test "$PAUSE" != random || PAUSE=$(printf '0.%03d' "$(od -An -N1 -tu1 /dev/urandom)")
test -z "$PAUSE" || sleep "$PAUSE"
"#;

/// The check of `ONE_FIX`; it notes its starts as well.
const CHECK: &str = "echo \"$ENGINE_WORKSTREAM_ID/$ENGINE_STEP_NUMBER\" >> \"$STARTS\"\ntest -z \"$PAUSE\" || sleep \"$PAUSE\"\nexec grep -q mended calc.py\n";

/// What a run is, and how it ends.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The arguments that begin it. It is called `r`.
    run: &'static [&'static str],
    /// How many steps run at once, if that is said.
    slots: Option<&'static str>,
    /// Its bundles: the id, the files, and what else.
    bundles: &'static [(&'static str, &'static str, &'static str)],
    /// The status of each job at its end, and the code of its reason.
    ends: &'static [(&'static str, &'static str)],
    /// The steps whose work counts.
    steps: &'static [&'static str],
}

/// One task that is mended by one fix.
pub const ONE_FIX: Scenario = Scenario {
    run: &[
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
    ],
    slots: None,
    bundles: &[],
    ends: &[("ws-task", "succeeded")],
    steps: &["ws-task.01-edit", "ws-task.02-runtime", "ws-task.03-fix", "ws-task.04-runtime"],
};

/// The command of a run of bundles.
const OF_BUNDLES: [&str; 6] = ["run", "--run", "r", "bundles", "--check", "test -e calc.py"];

/// A diamond of dependencies, a chain of three that share a file, a conflict group, and one that fails for good, with two that
/// need it.
pub const TWELVE: Scenario = Scenario {
    run: &OF_BUNDLES,
    slots: Some("3"),
    bundles: &[
        ("ws-a", "a.txt", "{}"),
        ("ws-b", "b.txt", r#"{"depends_on": ["ws-a"]}"#),
        ("ws-c", "c.txt", r#"{"depends_on": ["ws-a"]}"#),
        ("ws-d", "d.txt", r#"{"depends_on": ["ws-b", "ws-c"]}"#),
        ("ws-e", "e.txt", "{}"),
        ("ws-f", "e.txt", "{}"),
        ("ws-g", "e.txt", "{}"),
        ("ws-h", "h.txt", r#"{"conflict_group": "group"}"#),
        ("ws-i", "i.txt", r#"{"conflict_group": "group"}"#),
        ("ws-bad", "bad.txt", "{}"),
        ("ws-needs", "needs.txt", r#"{"depends_on": ["ws-bad"]}"#),
        ("ws-last", "last.txt", r#"{"depends_on": ["ws-needs", "ws-a"]}"#),
    ],
    ends: &[
        ("integration", "failed incomplete"),
        ("ws-a", "succeeded"),
        ("ws-b", "succeeded"),
        ("ws-bad", "failed no_change"),
        ("ws-c", "succeeded"),
        ("ws-d", "succeeded"),
        ("ws-e", "succeeded"),
        ("ws-f", "succeeded"),
        ("ws-g", "succeeded"),
        ("ws-h", "succeeded"),
        ("ws-i", "succeeded"),
        ("ws-last", "blocked"),
        ("ws-needs", "blocked"),
    ],
    steps: &[
        "ws-a.01-edit",
        "ws-a.02-static",
        "ws-b.01-edit",
        "ws-b.02-static",
        "ws-c.01-edit",
        "ws-c.02-static",
        "ws-d.01-edit",
        "ws-d.02-static",
        "ws-e.01-edit",
        "ws-e.02-static",
        "ws-f.01-edit",
        "ws-f.02-static",
        "ws-g.01-edit",
        "ws-g.02-static",
        "ws-h.01-edit",
        "ws-h.02-static",
        "ws-i.01-edit",
        "ws-i.02-static",
    ],
};

/// Two that share a file: the second one comes after the first.
pub const CHAIN: Scenario = Scenario {
    run: &OF_BUNDLES,
    slots: Some("2"),
    bundles: &[("ws-e", "e.txt", "{}"), ("ws-f", "e.txt", "{}")],
    ends: &[("integration", "succeeded"), ("ws-e", "succeeded"), ("ws-f", "succeeded")],
    steps: &["ws-e.01-edit", "ws-e.02-static", "ws-f.01-edit", "ws-f.02-static"],
};

/// Three of which one builds on the merge of the two others, and one more, which only the integration merges.
pub const MERGES: Scenario = Scenario {
    run: &OF_BUNDLES,
    slots: Some("1"),
    bundles: &[
        ("ws-a", "a.txt", "{}"),
        ("ws-b", "b.txt", "{}"),
        ("ws-c", "c.txt", r#"{"depends_on": ["ws-a", "ws-b"]}"#),
        ("ws-h", "h.txt", "{}"),
    ],
    ends: &[
        ("integration", "succeeded"),
        ("ws-a", "succeeded"),
        ("ws-b", "succeeded"),
        ("ws-c", "succeeded"),
        ("ws-h", "succeeded"),
    ],
    steps: &[
        "ws-a.01-edit",
        "ws-a.02-static",
        "ws-b.01-edit",
        "ws-b.02-static",
        "ws-c.01-edit",
        "ws-c.02-static",
        "ws-h.01-edit",
        "ws-h.02-static",
    ],
};

/// A checkout with an adapter that edits, and a directory beside it for the worktrees.
pub struct Bench {
    pub project: Project,
    pub outside: tempfile::TempDir,
    scenario: &'static Scenario,
    before: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Bench {
    pub fn new(scenario: &'static Scenario) -> Self {
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
            "echo mine >> calc.py; echo staged > s; git add s; echo new > u; rm b.sh; git branch other; mkdir bundles",
        );
        for (id, files, more) in scenario.bundles {
            let mut bundle = json!({"id": id, "openspec_change": "-", "ccpm_issue": 0, "gate": 1,
                "files_scope": [files], "tasks": ["append"], "tool": "ed"});
            let more: serde_json::Map<String, Value> = serde_json::from_str(more).unwrap();
            bundle.as_object_mut().unwrap().extend(more);
            std::fs::write(project.path(&format!("bundles/{id}.json")), bundle.to_string()).unwrap();
        }
        let manifest = json!({"id": "ed", "executable": "/bin/sh", "args": ["-c", EDIT], "stdin": "prompt", "needs_prompt": true});
        std::fs::create_dir_all(project.root("adapters")).unwrap();
        std::fs::write(project.root("adapters/ed.json"), manifest.to_string()).unwrap();
        let toml = project.root("engine.toml");
        let settings = std::fs::read_to_string(&toml).unwrap_or_default();
        // One that fails for good is not waited for.
        let settings = format!("{settings}\n[workstreams]\nrecovery = {{ backoff_seconds = 0 }}\n");
        std::fs::write(toml, settings).unwrap();
        Self::of(project, scenario)
    }

    /// The same, beside this one.
    pub fn copy(&self) -> Self {
        Self::of(self.project.copy(), self.scenario)
    }

    fn of(project: Project, scenario: &'static Scenario) -> Self {
        let before = of_the_user(&project);
        Self { project, outside: tempfile::tempdir().unwrap(), scenario, before }
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
        self.begin_with(self.scenario.slots)
    }

    /// Begins with so many slots.
    pub fn begin_with(&self, slots: Option<&str>) -> Command {
        let mut command = self.command(self.scenario.run);
        command.args(slots.into_iter().flat_map(|slots| ["--slots", slots]));
        command
    }

    /// Goes on with the run, or makes it.
    pub fn next(&self) -> Command {
        match self.project.root("state/runs/r/run.json").exists() {
            true => self.command(&["run", "--resume", "r"]),
            false => self.begin(),
        }
    }

    /// Goes on with the run, or makes it, until it has ended as it must.
    pub fn go_on(&self, at: &str) {
        let mut told = Vec::new();
        for _ in 0..4 {
            let said = Said::of(&self.next().output().unwrap());
            if self.ends() == self.wanted_ends() {
                return;
            }
            told.push(format!("{}: {}", said.code, said.err));
        }
        panic!("{at}: no end: {}\n{}", told.join("\n\n"), self.records());
    }

    /// Checks that the run has ended as it must.
    pub fn has_ended(&self, at: &str) {
        assert_eq!(self.ends(), self.wanted_ends(), "{at}\n{}", self.records());
    }

    fn wanted_ends(&self) -> BTreeMap<String, String> {
        let ends = self.scenario.ends.iter();
        ends.map(|(job, end)| ((*job).to_owned(), (*end).to_owned())).collect()
    }

    /// The status of each job, and the code of its reason.
    fn ends(&self) -> BTreeMap<String, String> {
        let said = self.engine(&["runs", "show", "r", "--json"], &[]);
        let shown: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let end = |job: &Value| {
            let status = job["status"].as_str().unwrap_or_default();
            let code = job["reason"]["code"].as_str().filter(|_| status == "failed").unwrap_or_default();
            format!("{status} {code}").trim_end().to_owned()
        };
        let workstreams = shown["workstreams"].as_array().into_iter().flatten();
        let mut ends: BTreeMap<String, String> =
            workstreams.map(|one| (one["ws_id"].as_str().unwrap_or_default().to_owned(), end(one))).collect();
        if shown["integration"].is_object() {
            ends.insert("integration".to_owned(), end(&shown["integration"]));
        }
        ends
    }

    /// The last line of each record, for a failure.
    fn records(&self) -> String {
        let ids = ids(&self.project);
        ids.iter().map(|id| format!("{}\n", self.project.record_if_any(id).unwrap_or_default())).collect()
    }

    /// How often the tool of each step has started, of the workstreams that succeed.
    pub fn starts(&self) -> BTreeMap<String, usize> {
        let text = std::fs::read_to_string(self.outside.path().join("starts")).unwrap_or_default();
        let mut starts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with("ws-bad/")) {
            *starts.entry(line.to_owned()).or_default() += 1;
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
        let heads = self.git(&["for-each-ref", "--format=%(refname) %(tree)", "refs/heads/engine/r/"]);
        let mut commits: Vec<String> = self
            .git(&["log", "--format=%s", "--glob=refs/heads/engine/r/*", "--not", "main"])
            .lines()
            // Of the merges of bases those are here that the branches hold.
            .map(str::to_owned)
            .collect();
        commits.sort();
        let of_steps = |id: &String| !id.starts_with("r.ws-bad.") && !id.starts_with("r.integration.");
        End {
            trees: heads.lines().map(str::to_owned).collect(),
            commits,
            worktrees: self.git(&["worktree", "list"]).lines().count(),
            ids: ids(&self.project).into_iter().filter(of_steps).collect(),
            starts: self.starts().into_keys().collect(),
        }
    }

    /// Checks what must hold of a run in which the work of at most so many steps was lost.
    pub fn check(&self, want: &End, interruptions: usize, at: &str) {
        assert_eq!(&self.end(), want, "{at}\n{}", self.records());
        self.has_ended(at);
        let starts = self.starts();
        let repeated: usize = starts.values().map(|starts| starts - 1).sum();
        assert!(repeated <= interruptions, "{at}: {starts:?}\n{}", self.records());
        for step in self.scenario.steps {
            assert_eq!(own_ends(&self.project, &format!("r.{step}")), 1, "{at}: {step} ran again");
        }
        let has_done = |id: &&String| self.scenario.steps.iter().any(|step| id.ends_with(step));
        for id in want.ids.iter().filter(has_done) {
            assert_eq!(self.project.places(id), ["done"], "{at}: the file of {id}");
        }
        self.nothing_is_left(at);
    }

    /// Checks what must hold even where the power took steps that were made: the same work is done. Torn objects that nothing
    /// leads to are git's to find.
    pub fn check_work(&self, want: &End, at: &str) {
        assert_eq!(self.end().trees, want.trees, "{at}\n{}", self.records());
        self.has_ended(at);
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
    /// Each branch of the run with its tree.
    trees: BTreeSet<String>,
    /// The subjects of all commits of these branches.
    commits: Vec<String>,
    worktrees: usize,
    ids: BTreeSet<String>,
    /// The steps that were started.
    starts: BTreeSet<String>,
}

/// The end of a run that nothing interrupts.
pub fn undisturbed(template: &Bench) -> End {
    let bench = template.copy();
    bench.begin().output().unwrap();
    let want = bench.end();
    let scenario = template.scenario;
    let jobs = scenario.ends.iter().map(|(job, _)| job).chain(scenario.steps);
    assert_eq!(want.ids, jobs.map(|name| format!("r.{name}")).collect());
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
