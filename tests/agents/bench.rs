//! A project, a home and a job for one case, and the engine run in them as by a user.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::tool::{KEY_VARIABLE, Login, Tool, fill};

/// What stands for the key; nothing that is kept may hold it.
pub const CANARY: &str = "sk-canary-Zq7fW2pXv9LrT4mKd8YbNc3HsJ6gAe5u";

/// What `calc.py` holds before an agent comes.
pub const BEFORE: &str = "def add(a, b):\n    return a - b\n";

/// Longest run of the engine; then it is killed and the case has failed.
const LONGEST: Duration = Duration::from_secs(170);

/// The directories of one case.
pub struct Bench {
    pub tool: Tool,
    pub job_id: String,
    base: tempfile::TempDir,
}

/// How a run of the engine ended.
pub struct Ended {
    /// The exit status, or the negative number of the signal.
    pub exit: i32,
    pub seconds: f64,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// What was printed on standard output as a document, if it is one.
    pub fn document(&self) -> Option<Value> {
        serde_json::from_str(&self.out).ok()
    }
}

impl Bench {
    /// A root, and a repository with one file and one commit.
    pub fn new(tool: Tool, case: &str) -> Self {
        let base = tempfile::Builder::new().prefix("engine-agents-").tempdir().unwrap();
        let bench = Self { tool, job_id: format!("{}-{}", tool.name(), case.replace('_', "-")), base };
        for dir in ["project", "home", "tmp"] {
            std::fs::create_dir(bench.path(dir)).unwrap();
        }
        fill(&bench.path("project/calc.py"), BEFORE);
        let init = bench.engine(&["init", "-q"]);
        assert_eq!(init.exit, 0, "{}", init.err);
        for words in ["init --quiet -b main", "config user.name t", "config user.email t@example.com"] {
            bench.git(&words.split(' ').collect::<Vec<_>>());
        }
        bench.commit(&[]);
        bench
    }

    /// Commits these files of the project, and `calc.py`.
    pub fn commit(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            fill(&self.path("project").join(path), text);
        }
        fill(&self.path("project/.git/info/exclude"), ".engine/\n");
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", "start"]);
    }

    /// What git says of the project.
    pub fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(args).current_dir(self.path("project")).env("HOME", self.path("home"));
        let said = git.output().unwrap();
        assert!(said.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
    }

    /// A path below the directory that holds everything of this case.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.base.path().join(relative)
    }

    /// What all processes of this case have in their environment: the directory that is only theirs.
    pub fn mark(&self) -> &str {
        self.base.path().to_str().unwrap()
    }

    /// A path below the root of the engine.
    pub fn root(&self, relative: &str) -> PathBuf {
        self.path("project/.engine").join(relative)
    }

    pub fn calc(&self) -> String {
        std::fs::read_to_string(self.path("project/calc.py")).unwrap()
    }

    /// Leaves the directories for a look by hand, and says where.
    pub fn keep(self) -> PathBuf {
        self.base.keep()
    }

    /// Writes the job file, and gives its path.
    pub fn job(&self, case: &str, url: &str, login: Login, more: &Value, args: &[&str]) -> PathBuf {
        let mut job = json!({
            "job_id": self.job_id, "tool": self.tool.name(),
            "env": self.tool.point_at(url, &self.path("home"), login),
            "metadata": {
                "prompt": format!("[[job:{case}]] Correct add() in calc.py: it subtracts."),
                "model": self.tool.model(), "files_scope": ["calc.py"],
            },
        });
        if let Some(more) = more.as_object() {
            job["metadata"].as_object_mut().unwrap().extend(more.clone());
        }
        if !args.is_empty() {
            job["command"] = json!({"args": args});
        }
        let path = self.path("job.json");
        fill(&path, &format!("{job:#}\n"));
        path
    }

    /// Runs the engine to its end.
    pub fn engine(&self, args: &[&str]) -> Ended {
        self.engine_with(args, &mut |_| {})
    }

    /// Runs the engine to its end and asks `meanwhile` again and again, which may send signals.
    pub fn engine_with(&self, args: &[&str], meanwhile: &mut dyn FnMut(&Child)) -> Ended {
        let (out, err) = (self.path("out"), self.path("err"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(args).current_dir(self.path("project")).env_clear();
        command.env("PATH", format!("{}:{path}", self.tool.bin().display()));
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("tmp")).env(KEY_VARIABLE, CANARY);
        command.envs([("LANG", "C.UTF-8"), ("TZ", "UTC"), ("GIT_CONFIG_NOSYSTEM", "1")]);
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LONGEST {
                child.kill().unwrap();
            }
            meanwhile(&child);
            std::thread::sleep(Duration::from_millis(5));
        };
        let seconds = start.elapsed().as_secs_f64();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let exit = status.code().unwrap_or_else(|| -signal.unwrap_or(0));
        Ended { exit, seconds, out: text(&out), err: text(&err) }
    }

    /// All lines of the record of its job.
    pub fn record(&self) -> Vec<String> {
        self.record_of(&self.job_id)
    }

    /// All lines of a record.
    pub fn record_of(&self, job: &str) -> Vec<String> {
        let path = self.root(&format!("state/jobs/{job}.jsonl"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
