//! A check: how it is run as a job, how it is judged, and what of it can be known beforehand.
//!
//! Frozen into the job file of a workstream. Not responsible for running it. Hard rule: the digest covers what a result
//! proves, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::acceptance::Acceptance;
use super::command_line;
use super::original::Fault;
use super::profiles::{ProfileCommand, Profiles, WORK_TREE};
use super::spec::Bundle;
use super::table::{CheckEntry, CheckTable, Lock};
use crate::fix_loop::limits::CheckKind;
use crate::job::ToolId;
use crate::job::digest::sha256;
use crate::job::number::Seconds;
use crate::job::spec::EnvValue;

/// A check of a workstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Its name in reports.
    pub name: String,
    /// What it looks at.
    pub kind: CheckKind,
    /// What runs.
    pub command: CheckCommand,
    /// Its total time.
    pub timeout_seconds: Seconds,
    /// Named locks that are held while it runs.
    #[serde(default)]
    pub locks: Vec<Lock>,
    /// True if it does not run where its program is missing.
    #[serde(default)]
    pub optional: bool,
    /// The test report that it writes.
    #[serde(default)]
    pub junit_file: Option<String>,
    /// Environment variables of its own.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckCommand {
    /// A command line for `/bin/sh -c`.
    Run(String),
    /// The command of a tool profile.
    Profile(ProfileCommand),
    /// An adapter with a command of its own.
    Adapter(ToolId),
}

/// What decides whether a check has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JudgedBy {
    /// The tests that ran: none is a failure.
    Tests,
    /// The exit code alone.
    ExitCode,
    /// The reader of an adapter.
    Adapter,
}

/// What a check becomes in a job file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckJob {
    /// The adapter: `tool`.
    pub tool: String,
    /// `command.exe`.
    pub exe: Option<String>,
    /// `command.args`.
    pub args: Vec<String>,
    /// `paths.working_dir`, below the worktree; absent: the worktree itself.
    pub working_dir: Option<String>,
    /// `env`.
    pub env: BTreeMap<String, EnvValue>,
    /// `locks`.
    pub locks: Vec<String>,
    /// Keys of `metadata`.
    pub metadata: Map<String, Value>,
}

impl Check {
    fn plain(name: String, kind: CheckKind, command: CheckCommand, timeout_seconds: Seconds) -> Self {
        let (locks, env) = (Vec::new(), BTreeMap::new());
        Self { name, kind, command, timeout_seconds, locks, optional: false, junit_file: None, env }
    }

    /// The fingerprint of its definition: two checks with one digest prove the same.
    #[must_use]
    pub(crate) fn digest(&self) -> String {
        let definition = json!([self.kind, self.command, self.junit_file, self.env]);
        sha256(definition.to_string().as_bytes())
    }

    /// The program to look for before the run is made; none if an adapter knows it, or only the shell does.
    #[must_use]
    pub(crate) fn program(&self) -> Option<String> {
        match &self.command {
            CheckCommand::Run(line) => command_line::program(line),
            CheckCommand::Profile(command) => Some(in_work_tree(&command.exe, ".")),
            CheckCommand::Adapter(_) => None,
        }
    }

    /// True unless it is sure to load no package of the Python environment that is active.
    #[must_use]
    pub(crate) fn may_load_python(&self) -> bool {
        match &self.command {
            CheckCommand::Run(line) => command_line::may_load_python(line),
            CheckCommand::Profile(command) => command_line::words_may_load_python(command.words()),
            CheckCommand::Adapter(_) => true,
        }
    }

    /// The files of the tree that it may execute, as paths from its top: programs named by a path, and scripts.
    #[must_use]
    pub(crate) fn executes(&self) -> Vec<String> {
        match &self.command {
            CheckCommand::Run(line) => command_line::executes(line),
            CheckCommand::Profile(command) => {
                let words: Vec<String> = command.words().map(|word| in_work_tree(word, ".")).collect();
                command_line::words_execute(words.iter().map(String::as_str))
            }
            CheckCommand::Adapter(_) => Vec::new(),
        }
    }

    /// What decides whether it has passed.
    #[must_use]
    pub(crate) fn judged_by(&self) -> JudgedBy {
        let calls_pytest = match &self.command {
            CheckCommand::Run(line) => command_line::calls_pytest(line),
            CheckCommand::Profile(command) => command_line::words_call_pytest(command.words()),
            CheckCommand::Adapter(_) => return JudgedBy::Adapter,
        };
        if calls_pytest || self.junit_file.is_some() { JudgedBy::Tests } else { JudgedBy::ExitCode }
    }

    /// Its job in a worktree; `files` are the paths of the scope.
    #[must_use]
    pub(crate) fn job(&self, work_tree: &str, files: &[String]) -> CheckJob {
        let tool = match (&self.command, self.judged_by()) {
            (CheckCommand::Adapter(adapter), _) => adapter.as_str(),
            (_, JudgedBy::Tests) => "tests",
            _ => "shell",
        };
        let (exe, args, working_dir) = match &self.command {
            CheckCommand::Adapter(_) => (None, Vec::new(), None),
            CheckCommand::Run(line) => (Some(SHELL.to_owned()), vec!["-c".to_owned(), line.clone()], None),
            CheckCommand::Profile(command) => command.job(self.judged_by(), work_tree, files),
        };
        let mut metadata = Map::from_iter([("timeout_seconds".to_owned(), json!(self.timeout_seconds))]);
        if let Some(report) = &self.junit_file {
            metadata.insert("junit_file".to_owned(), json!(report));
        }
        let locks = self.locks.iter().map(|lock| lock.as_str().to_owned()).collect();
        CheckJob { tool: tool.to_owned(), exe, args, working_dir, env: self.env.clone(), locks, metadata }
    }
}

/// The commands among a bundle's `acceptance_tests`, each of them once.
#[must_use]
pub(super) fn acceptance(bundle: &Bundle, timeout_seconds: Seconds) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for item in bundle.acceptance() {
        let Acceptance::Command(line) = item else { continue };
        if !checks.iter().any(|check| check.name == line) {
            let command = CheckCommand::Run(line.clone());
            checks.push(Check::plain(line, CheckKind::Accept, command, timeout_seconds));
        }
    }
    checks
}

const SHELL: &str = "/bin/sh";

/// A text of a profile with the worktree for the names that stand for it.
fn in_work_tree(text: &str, work_tree: &str) -> String {
    WORK_TREE.iter().fold(text.to_owned(), |text, name| text.replace(name, work_tree))
}

/// Names that stand for the files of the scope, an argument for each.
const FILES: [&str; 2] = ["{files}", "{file_paths}"];

/// A name that stands for the tests to run, where that is all of them: no argument.
const ALL_TESTS: &str = "{test_paths}";

impl ProfileCommand {
    /// The program and its arguments.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.exe).chain(&self.args).map(String::as_str)
    }

    /// A name in its texts that has no value in a check.
    fn unknown_name(&self) -> Option<String> {
        self.words().find_map(|word| {
            let known = WORK_TREE.iter().chain(&FILES).chain(&[ALL_TESTS]);
            let rest = known.fold(word.to_owned(), |rest, name| rest.replace(name, ""));
            let (_, behind) = rest.split_once('{')?;
            let (name, _) = behind.split_once('}')?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (!name.is_empty() && name.chars().all(is_name)).then(|| format!("{{{name}}}"))
        })
    }

    fn job(
        &self,
        judged_by: JudgedBy,
        work_tree: &str,
        files: &[String],
    ) -> (Option<String>, Vec<String>, Option<String>) {
        let exe = in_work_tree(&self.exe, work_tree);
        let args = self.args.iter().flat_map(|arg| spread(arg, files));
        let args = args.map(|arg| in_work_tree(&arg, work_tree));
        let working_dir = Some(self.working_dir.clone()).filter(|dir| !dir.is_empty());
        // What counts tests does not go by the exit code alone.
        if self.success_exit_codes == [0] || judged_by == JudgedBy::Tests {
            return (Some(exe), args.collect(), working_dir);
        }
        let shell = ["-c".to_owned(), translation(&self.success_exit_codes), exe.clone(), exe];
        (Some(SHELL.to_owned()), shell.into_iter().chain(args).collect(), working_dir)
    }
}

/// An argument, once for each file where it names them.
fn spread(arg: &str, files: &[String]) -> Vec<String> {
    match FILES.iter().find(|name| arg.contains(**name)) {
        Some(name) => files.iter().map(|file| arg.replace(name, file)).collect(),
        None if arg == ALL_TESTS => Vec::new(),
        None => vec![arg.to_owned()],
    }
}

/// A script that runs its arguments and exits with 0 for the codes that are a success, and for no other.
fn translation(success: &[u8]) -> String {
    let codes = success.iter().map(u8::to_string).collect::<Vec<_>>().join("|");
    format!("\"$@\"; code=$?; case $code in {codes}) exit 0 ;; 0) exit 1 ;; *) exit \"$code\" ;; esac")
}

/// What a check may name.
pub(super) struct Known<'a> {
    pub profiles: &'a Profiles,
    pub adapters: &'a BTreeSet<String>,
}

impl Known<'_> {
    /// Makes the checks of a list; what is wrong, and what has no effect, is told with `from` where it has no place.
    pub(super) fn checks(
        &self,
        entries: &[CheckEntry],
        kind: CheckKind,
        timeout_seconds: Seconds,
        from: &str,
        warnings: &mut Vec<Fault>,
    ) -> Result<Vec<Check>, Vec<Fault>> {
        let (mut checks, mut faults): (Vec<Check>, Vec<Fault>) = (Vec::new(), Vec::new());
        for entry in entries {
            let table = self.table(entry);
            match self.check(&table, kind, timeout_seconds, from, warnings) {
                Ok(check) if checks.iter().any(|other| other.name == check.name) => {
                    faults.push(Fault::of(from, format!("two checks are called `{}`", check.name)));
                }
                Ok(check) => checks.push(check),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(checks) } else { Err(faults) }
    }

    /// The long form of an entry: a word without blanks may name a profile or an adapter.
    fn table(&self, entry: &CheckEntry) -> CheckTable {
        let text = match entry {
            CheckEntry::Table(table) => return (**table).clone(),
            CheckEntry::Text(text) => text.clone(),
        };
        if self.profiles.has(&text) {
            CheckTable { profile: Some(text), ..CheckTable::default() }
        } else if self.adapters.contains(&text) {
            CheckTable { adapter: Some(text), ..CheckTable::default() }
        } else {
            CheckTable { run: Some(text), ..CheckTable::default() }
        }
    }

    fn check(
        &self,
        table: &CheckTable,
        kind: CheckKind,
        timeout_seconds: Seconds,
        from: &str,
        warnings: &mut Vec<Fault>,
    ) -> Result<Check, Fault> {
        let named = table.run.as_ref().or(table.profile.as_ref()).or(table.adapter.as_ref());
        let name = table.name.clone().or(named.cloned()).unwrap_or_default();
        let command = match (&table.profile, &table.adapter) {
            (Some(name), _) => CheckCommand::Profile(self.profile(name, from, warnings)?),
            (None, Some(name)) => CheckCommand::Adapter(self.adapter(name, from)?),
            (None, None) => CheckCommand::Run(table.run.clone().unwrap_or_default()),
        };
        let profile = table.profile.as_ref().and_then(|name| self.profiles.check(name)?.ok());
        let mut env = profile.map(|profile| profile.env.clone()).unwrap_or_default();
        env.extend(table.env.clone());
        let own_time = table.timeout_seconds.or_else(|| profile?.timeout_seconds);
        Ok(Check {
            locks: table.locks.clone(),
            optional: table.optional,
            junit_file: table.junit_file.clone().filter(|name| !name.is_empty()),
            env,
            ..Check::plain(name, kind, command, own_time.unwrap_or(timeout_seconds))
        })
    }

    fn profile(&self, name: &str, from: &str, warnings: &mut Vec<Fault>) -> Result<ProfileCommand, Fault> {
        let profile = self.profiles.check(name);
        let profile =
            profile.ok_or_else(|| Fault::of(from, format!("no tool profile is called `{name}`")))??;
        if profile.is_agent {
            let message = format!("profile `{name}` is that of an agent, which is no check");
            return Err(Fault::of(from, message));
        }
        if let Some(unknown) = profile.command.unknown_name() {
            let message = format!("profile `{name}`: `{unknown}` has no value in a check");
            return Err(Fault::of(from, message));
        }
        warnings.extend(profile.ignored.iter().cloned());
        if command_line::words_call_pytest(profile.command.words())
            && profile.command.success_exit_codes != [0]
        {
            let message =
                format!("profile `{name}`: its exit codes have no effect, for its tests are counted");
            warnings.push(Fault::of(from, message));
        }
        Ok(profile.command.clone())
    }

    fn adapter(&self, name: &str, from: &str) -> Result<ToolId, Fault> {
        let known = self.adapters.contains(name).then(|| ToolId::new(name).ok()).flatten();
        known.ok_or_else(|| Fault::of(from, format!("no adapter called `{name}` has a command of its own")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::original::{Original, OriginalFile};

    fn profiles(text: &str) -> Profiles {
        let file = OriginalFile { name: "p.json".into(), bytes: text.as_bytes().to_vec() };
        let mut profiles = Profiles::default();
        profiles.add(&Original::read(&file).unwrap());
        profiles
    }

    fn minute() -> Seconds {
        Seconds::new(60.0).unwrap()
    }

    fn checks(profiles_text: &str, entries: &str) -> Result<(Vec<Check>, Vec<Fault>), String> {
        let (profiles, adapters) =
            (profiles(profiles_text), BTreeSet::from(["tests".to_owned(), "ruff".to_owned()]));
        let known = Known { profiles: &profiles, adapters: &adapters };
        let entries: Vec<CheckEntry> = serde_json::from_str(entries).map_err(|error| error.to_string())?;
        let mut warnings = Vec::new();
        let made = known.checks(&entries, CheckKind::Static, minute(), "engine.toml", &mut warnings);
        let told = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ");
        made.map(|checks| (checks, warnings)).map_err(told)
    }

    fn one(profiles_text: &str, entry: &str) -> Check {
        checks(profiles_text, &format!("[{entry}]")).unwrap().0.remove(0)
    }

    const FIXTURE: &str = include_str!("../../tests/data/workstreams/profiles_template.json");

    #[test]
    fn a_word_without_blanks_names_a_profile_an_adapter_or_a_program_in_this_order() {
        let command = |entry: &str| one(FIXTURE, entry).command;
        assert!(matches!(command(r#""ruff""#), CheckCommand::Profile(command) if command.profile == "ruff"));
        assert_eq!(command(r#""tests""#), CheckCommand::Adapter(ToolId::new("tests").unwrap()));
        assert_eq!(command(r#"" make ""#), CheckCommand::Run("make".into()));
        assert_eq!(command(r#""ruff check .""#), CheckCommand::Run("ruff check .".into()));
        // The long form says it, whatever else has the name.
        assert_eq!(command(r#"{"run": "ruff"}"#), CheckCommand::Run("ruff".into()));
        assert_eq!(command(r#"{"adapter": "ruff"}"#), CheckCommand::Adapter(ToolId::new("ruff").unwrap()));
    }

    #[test]
    fn a_check_that_calls_pytest_or_names_a_report_is_judged_by_its_tests() {
        for (entry, tool, judged_by) in [
            (r#""pytest -q""#, "tests", JudgedBy::Tests),
            (r#""pytest""#, "tests", JudgedBy::Tests),
            (r#"{"run": "npm test", "junit_file": "out/*.xml"}"#, "tests", JudgedBy::Tests),
            (r#"{"run": "npm test", "junit_file": ""}"#, "shell", JudgedBy::ExitCode),
            (r#""npm test""#, "shell", JudgedBy::ExitCode),
            (r#""ruff""#, "shell", JudgedBy::ExitCode),
            (r#""tests""#, "tests", JudgedBy::Adapter),
        ] {
            let check = one(FIXTURE, entry);
            assert_eq!((check.job("/w", &[]).tool.as_str(), check.judged_by()), (tool, judged_by), "{entry}");
        }
    }

    #[test]
    fn a_check_becomes_a_job_with_all_its_settings() {
        let entry = r#"{"name": "unit", "run": "npm test", "timeout_seconds": 5, "locks": ["db", "cpu:2"],
                        "junit_file": "r.xml", "optional": true, "env": {"A": "1", "B": {"from_env": "C"}}}"#;
        let check = one("{}", entry);
        assert!(check.optional);
        let job = check.job("/w", &[]);
        assert_eq!(
            (job.exe.as_deref(), job.args.as_slice()),
            (Some("/bin/sh"), &["-c".to_owned(), "npm test".to_owned()][..])
        );
        assert_eq!((job.locks, job.working_dir), (vec!["db".to_owned(), "cpu:2".to_owned()], None));
        assert_eq!(json!(job.metadata), json!({ "timeout_seconds": 5.0, "junit_file": "r.xml" }));
        assert_eq!(json!(job.env), json!({ "A": "1", "B": { "from_env": "C" } }));
        assert_eq!(
            serde_json::from_value::<Check>(json!(check)).unwrap(),
            check,
            "it is frozen into a job file"
        );
    }

    #[test]
    fn files_are_spread_and_every_name_of_the_work_tree_means_the_work_tree() {
        let files = ["a b.py".to_owned(), "c.py".to_owned()];
        let job = one(FIXTURE, r#""ruff""#).job("/w", &files);
        assert_eq!(job.args, ["check", "--config", "/w/ruff.toml", "a b.py", "c.py"]);
        assert_eq!(json!(job.metadata), json!({ "timeout_seconds": 120.0 }), "the profile's own time");
        let text = r#"{"x": {"command": "{repo_root}/x.sh", "args": ["--f={files}", "{worktree_path}", "{}", "{\"a\": 1}"], "working_dir": "{cwd}/sub"}}"#;
        let check = one(text, r#""x""#);
        let job = check.job("/w", &files);
        assert_eq!(job.exe.as_deref(), Some("/w/x.sh"));
        assert_eq!(job.args, ["--f=a b.py", "--f=c.py", "/w", "{}", "{\"a\": 1}"]);
        assert_eq!(job.working_dir.as_deref(), Some("sub"));
        assert_eq!((check.program().as_deref(), check.executes()), (Some("./x.sh"), vec!["x.sh".to_owned()]));
        assert_eq!(check.job("/w", &[]).args, ["/w", "{}", "{\"a\": 1}"]);
        assert_eq!(one(FIXTURE, r#""pytest""#).job("/w", &files).args, ["-v"]);
    }

    #[test]
    fn exit_codes_of_a_profile_are_translated_by_the_shell() {
        let exit = |codes: &str, code: &str| {
            let text = format!(
                r#"{{"x": {{"command": "sh", "args": ["-c", "exit $0", "{code}"], "success_exit_codes": {codes}}}}}"#
            );
            let job = one(&text, r#""x""#).job("/w", &[]);
            duct::cmd(job.exe.unwrap(), job.args).unchecked().run().unwrap().status.code()
        };
        for (codes, code, wanted) in [
            ("[0, 3]", "3", 0),
            ("[0, 3]", "0", 0),
            ("[0, 3]", "4", 4),
            ("[1]", "1", 0),
            ("[1]", "0", 1),
            ("[0]", "7", 7),
        ] {
            assert_eq!(exit(codes, code), Some(wanted), "{codes} {code}");
        }
        // Tests are counted: a run without any is a failure, whatever the profile says.
        let (made, warnings) =
            checks(include_str!("../../tests/data/workstreams/profiles_kebab.json"), r#"["ruff"]"#).unwrap();
        assert_eq!((made[0].job("/w", &[]).exe.as_deref(), warnings.len()), (Some("/bin/sh"), 0));
        let text = r#"{"p": {"command": "pytest", "success_exit_codes": [0, 5]}}"#;
        let (made, warnings) = checks(text, r#"["p"]"#).unwrap();
        assert_eq!(made[0].job("/w", &[]).exe.as_deref(), Some("pytest"));
        assert!(warnings[0].message.contains("its tests are counted"), "{warnings:?}");
    }

    #[test]
    fn a_digest_covers_what_a_result_proves() {
        let digest = |entry: &str| one("{}", entry).digest();
        let base = digest(r#""make""#);
        for same in [
            r#"{"run": "make", "name": "x"}"#,
            r#"{"run": "make", "timeout_seconds": 9, "locks": ["a"], "optional": true}"#,
        ] {
            assert_eq!(digest(same), base, "{same}");
        }
        for other in
            [r#""make -j""#, r#"{"run": "make", "junit_file": "x"}"#, r#"{"run": "make", "env": {"A": "1"}}"#]
        {
            assert_ne!(digest(other), base, "{other}");
        }
        let bundle = Bundle::read(&json!({
            "id": "ws-a", "openspec_change": "-", "ccpm_issue": 1, "gate": 1, "files_scope": ["a"], "tasks": [],
            "tool": "aider", "acceptance_tests": ["$ make", "it is fast", "`make`", "$ make -j"],
        }));
        let acceptance = acceptance(&bundle.unwrap(), minute());
        let names: Vec<_> = acceptance.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["make", "make -j"]);
        assert_ne!(acceptance[0].digest(), base, "another kind of check is another check");
    }

    #[test]
    fn what_is_no_check_is_refused_with_all_that_is_wrong() {
        for (entries, wanted) in [
            (r#"[""]"#, "a check is an empty text"),
            (r#"[{"run": " "}]"#, "a check is an empty text"),
            (r#"[{"name": "x"}]"#, "exactly one of `run`, `profile` and `adapter`"),
            (r#"[{"run": "x", "adapter": "tests"}]"#, "exactly one of `run`, `profile` and `adapter`"),
            (r#"[{"run": "x", "lock": "db"}]"#, "unknown field `lock`"),
            (r#"[{"run": "x", "locks": ["a b"]}]"#, "a b"),
            (r#"[3]"#, "a command line, or a table"),
            (r#"[{"profile": "no"}]"#, "engine.toml: no tool profile is called `no`"),
            (r#"[{"adapter": "no"}]"#, "engine.toml: no adapter called `no` has a command of its own"),
            (r#"["make", {"name": "make", "run": "x"}]"#, "engine.toml: two checks are called `make`"),
            (
                r#"[{"profile": "echo"}, {"profile": "aider"}]"#,
                "`{message}` has no value in a check; engine.toml: profile `aider` is that of an agent",
            ),
        ] {
            let text = include_str!("../../tests/data/workstreams/profiles_kebab.json");
            let fault = checks(text, entries).unwrap_err();
            assert!(fault.contains(wanted), "{entries}: {fault}");
        }
    }
}
