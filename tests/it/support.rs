//! A root of its own for each test, the built program, and waiting with a deadline.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A project directory with a root in `.engine/`, in a hermetic environment.
pub struct Project {
    dir: tempfile::TempDir,
}

/// What a finished `engine` said.
#[must_use]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        Self {
            code,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit status (a signal is negative) and gives standard output.
    #[track_caller]
    pub fn exits(self, code: i32) -> String {
        assert_eq!(self.code, code, "\nstdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// The same; what it said of the error.
    #[track_caller]
    pub fn says_with(self, code: i32) -> String {
        assert_eq!(self.code, code, "\nstdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

impl Project {
    pub fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.engine(&["init", "-q"]).exits(0);
        project
    }

    /// A directory without a root.
    pub fn without_root() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A project below this directory, on another file system than the others.
    pub fn in_dir(dir: &Path) -> Self {
        let project = Self { dir: tempfile::tempdir_in(dir).unwrap() };
        project.engine(&["init", "-q"]).exits(0);
        project
    }

    /// Another project with the same files, beside this one, whose root is accepted.
    pub fn copy(&self) -> Self {
        let copy = self.copy_not_accepted();
        if copy.root("engine.toml").exists() {
            copy.engine(&["init", "-q", "--adopt"]).exits(0);
        }
        copy
    }

    /// The same as `cp -a` leaves it.
    pub fn copy_not_accepted(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir_in(self.dir().parent().unwrap()).unwrap() };
        copy_tree(self.dir(), copy.dir());
        copy
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A path below the root.
    pub fn root(&self, relative: &str) -> PathBuf {
        self.dir.path().join(".engine").join(relative)
    }

    /// The program, in this directory, with nothing of the outer environment but PATH.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        heed_signals();
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn engine<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    /// Runs the program to its end with more variables in its environment.
    pub fn engine_with<S: AsRef<OsStr>>(&self, args: &[S], env: &[(&str, &str)]) -> Said {
        Said::of(&self.command(args).envs(env.iter().copied()).output().unwrap())
    }

    /// Starts the program; it is killed when the handle is dropped.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S], env: &[(&str, &str)]) -> Running {
        Running(Some(self.command(args).envs(env.iter().copied()).spawn().unwrap()))
    }

    /// Writes a job file `<id>.json` in the project directory and gives its name.
    pub fn job(&self, document: &Value) -> String {
        let name = format!("{}.json", document["job_id"].as_str().unwrap());
        std::fs::write(self.path(&name), document.to_string()).unwrap();
        name
    }

    /// Runs a job document and gives what was said.
    pub fn run(&self, document: &Value) -> Said {
        let name = self.job(document);
        self.engine(&["run-job", "--json", "--job-file", &name])
    }

    /// The last complete line of a record.
    #[track_caller]
    pub fn record(&self, id: &str) -> Value {
        self.record_if_any(id).unwrap_or_else(|| panic!("no record of {id}"))
    }

    /// The same, with the paths of this root, as `show --json` prints it.
    #[track_caller]
    pub fn record_shown(&self, id: &str) -> Value {
        let logs = format!("\"{}", self.root("state/logs/").display());
        serde_json::from_str(&self.record(id).to_string().replace("\"state/logs/", &logs)).unwrap()
    }

    pub fn record_if_any(&self, id: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.root(&format!("state/jobs/{id}.jsonl"))).ok()?;
        let complete = text.rfind('\n')?;
        serde_json::from_str(text[..complete].rsplit('\n').next()?).ok()
    }

    /// The places below `jobs/` where a file of the job is.
    pub fn places(&self, id: &str) -> Vec<String> {
        let mut found = Vec::new();
        for place in ["queued", "running", "quarantined"] {
            if self.root(&format!("jobs/{place}/{id}.json")).exists() {
                found.push(place.to_owned());
            }
        }
        for day in std::fs::read_dir(self.root("jobs/done")).into_iter().flatten().flatten() {
            if day.path().join(format!("{id}.json")).exists() {
                found.push("done".to_owned());
            }
        }
        found
    }

    /// All complete, parsable journal lines.
    pub fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.root("state/events.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Makes this process, and so every program that it starts, heed the signals that a shell lets its background jobs ignore.
fn heed_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: sets the default action; the tests install no handlers of their own.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
}

/// A running `engine`.
pub struct Running(Option<Child>);

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.as_ref().unwrap().id()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Said {
        Said::of(&self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
            std::fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Says that a test, or a part of it, does not run on this machine; past the capture of the test's output. With
/// `ENGINE_TESTS_REQUIRED=1`, as `.ci/run` sets it, that is a failure.
#[track_caller]
pub fn not_run(why: &str) {
    let required = std::env::var_os("ENGINE_TESTS_REQUIRED").is_some_and(|value| value == "1");
    assert!(!required, "not run: {why}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "not run: {test}: {why}");
}

/// True if the tests run as root, which can act as two users; else that is said.
pub fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_run("only root can act as two users");
    }
    is_root
}

/// A project on a tmpfs: its disk does not make the name of a synced file durable by itself, and the first worker of a boot
/// looks at every record there.
pub fn on_tmpfs() -> Option<Project> {
    const TMPFS: i64 = 0x0102_1994;
    let dir = Path::new("/dev/shm");
    if rustix::fs::statfs(dir).is_ok_and(|found| found.f_type == TMPFS) {
        return Some(Project::in_dir(dir));
    }
    not_run("/dev/shm is not a tmpfs");
    None
}

/// Runs something to which the modes of files apply, although it is root's, and so do all programs that it starts.
pub fn heeding_modes(run: impl FnOnce() + Send) {
    // Capabilities belong to a thread: the others keep theirs.
    let heeding = || {
        drop_override();
        run();
    };
    let ran = std::thread::scope(|scope| scope.spawn(heeding).join());
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Drops `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH` of this thread; a program that it starts does not regain them.
fn drop_override() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // For each half of the capabilities those that are effective, permitted and inheritable.
    let mut sets = [[0u32; 3]; 2];
    let is_root = rustix::process::geteuid().is_root();
    // SAFETY: plain system calls with the structures that they ask for; they concern this thread alone.
    unsafe {
        for capability in [1, 2] {
            assert!(!is_root || libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0);
        }
        assert_eq!(libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets), 0);
        sets[0] = sets[0].map(|set| set & !0b110);
        assert_eq!(libc::syscall(libc::SYS_capset, &raw const header, &raw const sets), 0);
    }
}

/// A row of the crash matrix, past the capture of the test's output; `benches/matrix.sh` makes a table of them.
pub fn row(what: &str, times: usize) {
    let _ = writeln!(std::io::stdout(), "MATRIX\t{what}\t{times}");
}

/// Waits until a condition holds, at most 30 seconds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A job that runs a script.
pub fn shell(id: &str, script: &str) -> Value {
    json!({"job_id": id, "tool": "shell", "command": {"exe": "sh", "args": ["-c", script]}})
}

/// A document with more keys.
pub fn with(mut document: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

/// The scripted tool (`tests/helper/fake_tool.rs`), which cargo builds beside the tests.
pub fn fake_tool() -> String {
    let mut dir = std::env::current_exe().unwrap();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let tool = dir.join("examples/fake_tool");
    assert!(tool.exists(), "`cargo test --test it` alone does not make it: cargo build --example fake_tool");
    tool.to_string_lossy().into_owned()
}

/// The living processes that carry this text in their environment or command line.
pub fn processes_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let holds = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        if !zombie
            && pid != i32::try_from(std::process::id()).unwrap()
            && (holds("environ") || holds("cmdline"))
        {
            found.push(pid);
        }
    }
    found
}
