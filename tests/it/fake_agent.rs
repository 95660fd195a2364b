//! An agent that is a script: it answers its version, notes what it is given, and plays what a test wants, mostly the
//! recorded streams of the real tools.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Project, Running, Said};

/// The tools, and the versions that were recorded.
pub const TOOLS: [(&str, &str); 4] =
    [("aider", "0.86.2"), ("claude", "2.1.197"), ("codex", "0.169.0"), ("gemini", "0.61.0")];

/// What the repository holds before.
pub const BEFORE: &str = "def add(a, b):\n    return a - b\n";

/// The edit, as a line of a play.
pub const EDIT: &str = "sed -i 's/a - b/a + b/' calc.py\n";

/// Waits to be ended, a second at a time: nothing is left over.
pub const WAIT: &str = "while :; do sleep 1; done\n";

/// Notes its arguments (one a line), standard input and environment by the number of the run, then plays.
const SCRIPT: &str = r#"#!/bin/sh
F='{fake}'
if [ "$1" = --version ]; then echo asked >> "$F/versions"; cat "$F/version"; exit 0; fi
read -r n < "$F/count"; n=$((n + 1)); echo $n > "$F/count"
side=; before=
for argument; do
    printf '%s\n' "$argument"
    [ "$before" = --analytics-log ] && side=$argument
    before=$argument
done > "$F/argv.$n"
# By its name, as aider opens its message file: of a socket there is none.
cat /dev/stdin > "$F/stdin.$n"
env > "$F/environ.$n"
play="$F/play.$n"; [ -f "$play" ] || play="$F/play"
. "$play"
"#;

/// A recorded run of a real tool.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub tool: String,
    pub name: String,
    base: PathBuf,
}

/// All recorded runs of a tool.
pub fn recorded(tool: &str) -> Vec<Recorded> {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams");
    let mut found: Vec<Recorded> = std::fs::read_dir(&streams)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| {
            let base = file.strip_suffix(".stdout")?;
            let mut parts = base.splitn(3, '-');
            let (of, _version, name) = (parts.next()?, parts.next()?, parts.next()?);
            let recorded = || Recorded { tool: of.into(), name: name.into(), base: streams.join(base) };
            (of == tool).then(recorded)
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 20, "only {} recorded runs of {tool}", found.len());
    found
}

/// One recorded run of a tool.
pub fn case(tool: &str, name: &str) -> Recorded {
    let found = recorded(tool).into_iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("{tool} {name} is not recorded"))
}

impl Recorded {
    pub fn text(&self, ending: &str) -> String {
        let path = format!("{}.{ending}", self.base.display());
        std::fs::read_to_string(path).unwrap_or_default()
    }

    pub fn exit(&self) -> i32 {
        self.text("exit").trim().parse().unwrap()
    }

    /// True if the recording ended it with TERM: by itself it would have gone on.
    pub fn was_ended(&self) -> bool {
        let by_code = match self.tool.as_str() {
            "claude" => self.exit() == 143,
            // It exits with 0 after TERM, and then without a result.
            "gemini" => self.exit() == 0 && !self.text("stdout").contains(r#""type":"result""#),
            _ => false,
        };
        self.exit() < 0 || by_code
    }

    /// The session that its stream names.
    pub fn session(&self) -> Option<String> {
        let out = self.text("stdout");
        let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ids = events.filter_map(|event| {
            let id = event.get("thread_id").or_else(|| event.get("session_id"))?;
            id.as_str().map(str::to_owned)
        });
        ids.next()
    }

    pub fn requests(&self) -> Vec<Value> {
        let served: Value = serde_json::from_str(&self.text("served.json")).unwrap();
        served["requests"].as_array().unwrap().clone()
    }
}

/// A project with a repository in `repo/` and agents in `bin/`, with a home of its own.
pub struct Fakes {
    pub project: Project,
}

impl Fakes {
    pub fn new() -> Self {
        let fakes = Self { project: Project::new() };
        for dir in ["bin", "home", "tmp", "repo"] {
            std::fs::create_dir(fakes.path(dir)).unwrap();
        }
        fakes.write("repo/calc.py", BEFORE);
        fakes.git(&["init", "-q", "-b", "main"]);
        fakes.git(&["add", "."]);
        fakes.git(&["commit", "-q", "-m", "start"]);
        fakes.git(&["tag", "start"]);
        for (tool, version) in TOOLS {
            fakes.install(tool, version);
        }
        fakes
    }

    /// With an agent that does something.
    pub fn playing(tool: &str, play: &str) -> Self {
        let fakes = Self::new();
        fakes.play(tool, play);
        fakes
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.project.path(name)
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A file of the project; empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts a fake of a tool into `bin/`, which does nothing yet.
    pub fn install(&self, tool: &str, version: &str) {
        let told = match tool {
            "aider" => format!("aider {version}\n"),
            "claude" => format!("{version} (Claude Code)\n"),
            "codex" => format!("codex-cli {version}\n"),
            _ => format!("{version}\n"),
        };
        self.write(&format!("fake/{tool}/version"), told);
        self.write(&format!("fake/{tool}/count"), "0\n");
        self.play(tool, "exit 99");
        let fake = self.path(&format!("fake/{tool}"));
        self.executable(&format!("bin/{tool}"), &SCRIPT.replace("{fake}", &fake.display().to_string()));
    }

    /// What the tool does in each run that has no play of its own.
    pub fn play(&self, tool: &str, play: &str) {
        self.write(&format!("fake/{tool}/play"), play);
    }

    /// What the tool does in its n-th run.
    pub fn play_in_run(&self, tool: &str, run: u32, play: &str) {
        self.write(&format!("fake/{tool}/play.{run}"), play);
    }

    /// The play of a recorded run: its streams, its side file where the tool has it, the edit, its end.
    pub fn replay(&self, case: &Recorded, edit: &str) -> String {
        let out = self.put(case, "stdout");
        let err = self.put(case, "stderr");
        let side = self.put(case, "side.jsonl");
        let place = side_file(&case.tool, &case.session().unwrap_or_default());
        let put_side = match case.text("side.jsonl").is_empty() || place.is_empty() {
            true => String::new(),
            false => format!("mkdir -p \"$(dirname \"{place}\")\"; cat \"{side}\" > \"{place}\"\n"),
        };
        let show = format!("cat \"{err}\" >&2\ncat \"{out}\"\n");
        // A run that was ended would have gone on with more of the same: another notice ends it, not silence.
        let more = format!("sleep 0.5\n{show}{WAIT}");
        let end = match (case.was_ended(), case.exit()) {
            (true, code) if code < 0 => more,
            (true, code) => format!("trap 'exit {code}' TERM\n{more}"),
            (false, code) => format!("exit {code}\n"),
        };
        format!("{put_side}{edit}{show}{end}")
    }

    /// Copies a recorded file beside the fake, with its places filled in.
    fn put(&self, case: &Recorded, ending: &str) -> String {
        let repo = self.path("repo").display().to_string();
        let places = [
            ("{repo}", repo.as_str()),
            ("{repo-dashed}", "-repo"),
            ("{home}", "/home/x"),
            ("{tmp}", "/tmp/x"),
            ("{base}", "/tmp/x"),
            ("{agents}", "/opt/x"),
            ("{port}", "4"),
            ("{host}", "h"),
        ];
        let text = places.iter().fold(case.text(ending), |text, (name, value)| text.replace(name, value));
        let name = format!("fake/{}/{}.{ending}", case.tool, case.name);
        self.write(&name, text);
        self.path(&name).display().to_string()
    }

    /// The outer environment: keys for all tools, `bin/` before the system's programs, nothing of the user's.
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let plain = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
            ("OPENAI_API_KEY", "test-key-of-openai"),
            ("ANTHROPIC_API_KEY", "test-key-of-anthropic"),
            ("GEMINI_API_KEY", "test-key-of-gemini"),
            ("TZ", "UTC"),
        ];
        let mut env: Vec<(String, String)> = vec![
            ("PATH".to_owned(), format!("{}:/usr/local/bin:/usr/bin:/bin", path("bin"))),
            ("HOME".to_owned(), path("home")),
            ("TMPDIR".to_owned(), path("tmp")),
            ("CODEX_HOME".to_owned(), path("home/of codex")),
            ("CLAUDE_CONFIG_DIR".to_owned(), path("home/of claude")),
        ];
        env.extend(plain.map(|(name, value)| (name.to_owned(), value.to_owned())));
        env
    }

    pub fn git(&self, args: &[&str]) {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.path("repo")).env_clear().envs(self.env());
        assert!(command.status().unwrap().success(), "git {args:?}");
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        command.envs(self.env());
        command
    }

    pub fn engine(&self, args: &[&str]) -> Said {
        let env = self.env();
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.project.engine_with(args, &env)
    }

    pub fn start(&self, args: &[&str]) -> Running {
        let env = self.env();
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.project.start(args, &env)
    }

    /// Runs a job, directly.
    pub fn run(&self, document: &Value) -> Said {
        let name = self.project.job(document);
        self.engine(&["run-job", "--json", "--job-file", &name])
    }

    /// How often the tool was started; without the questions for its version.
    pub fn runs(&self, tool: &str) -> u32 {
        self.read(&format!("fake/{tool}/count")).trim().parse().unwrap()
    }

    /// How often the tool was asked for its version.
    pub fn asked_for_version(&self, tool: &str) -> usize {
        self.read(&format!("fake/{tool}/versions")).lines().count()
    }

    /// What the n-th run was given: `argv`, `stdin`, `environ`.
    pub fn given(&self, tool: &str, what: &str, run: u32) -> String {
        self.read(&format!("fake/{tool}/{what}.{run}"))
    }

    /// The lines of the ledger.
    pub fn ledger(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.project.root("state/usage.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What is below a directory of `state/`.
    pub fn state_files(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.project.root(&format!("state/{dir}")));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A job of the tool, with more in its metadata.
    pub fn job(id: &str, tool: &str, metadata: &Value) -> Value {
        let mut document = json!({
            "job_id": id, "tool": tool, "paths": {"repo_root": "repo"},
            "metadata": {"prompt": "Correct add() in calc.py: it subtracts.\n"},
        });
        for (key, value) in metadata.as_object().unwrap() {
            document["metadata"][key] = value.clone();
        }
        document
    }
}

/// Where a tool has its file of a session, as the script writes it.
pub fn side_file(tool: &str, session: &str) -> String {
    match tool {
        "aider" => "$side".to_owned(),
        _ if session.is_empty() => String::new(),
        "codex" => format!("$CODEX_HOME/sessions/2026/11/21/rollout-2026-11-21T10-00-00-{session}.jsonl"),
        "claude" => format!("$CLAUDE_CONFIG_DIR/projects/-repo/{session}.jsonl"),
        "gemini" => {
            let short: String = session.chars().take(8).collect();
            format!("$HOME/.gemini/tmp/repo/chats/session-2026-11-21T10-00-{short}.jsonl")
        }
        other => panic!("{other}"),
    }
}

/// Asserts the exit status and gives the result.
#[track_caller]
pub fn ends(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "\nstdout: {}\nstderr: {}", said.out, said.err);
    said.json()
}

/// Asserts the exit status, the outcome and the word of the reason, and gives the result.
#[track_caller]
pub fn ends_as(said: &Said, code: i32, outcome: &str, reason: &str) -> Value {
    let result = ends(said, code);
    let found = (result["outcome"].as_str(), result["reason"]["code"].as_str());
    assert_eq!(found, (Some(outcome), Some(reason)), "{result:#}");
    result
}
