//! Tool profiles of the original in their five shapes: each becomes a command, an agent's name, or a refusal that says why.
//!
//! Not responsible for whether the program is there. Hard rule: no key that decides a verdict is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::original::{Fault, Node, Original};
use crate::job::number::Seconds;
use crate::job::spec::EnvValue;

/// The command of a profile; `{name}` in its texts is replaced when the check runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProfileCommand {
    /// The name of the profile.
    pub profile: String,
    /// The program.
    pub exe: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The working directory below the worktree; empty: the worktree itself.
    pub working_dir: String,
    /// The exit codes that are a success.
    pub success_exit_codes: Vec<u8>,
}

/// A profile that can be used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
    pub command: ProfileCommand,
    /// True if it is that of an agent, which is no check.
    pub is_agent: bool,
    pub env: BTreeMap<String, EnvValue>,
    pub timeout_seconds: Option<Seconds>,
    /// Keys that have no effect here.
    pub ignored: Vec<Fault>,
}

/// The profiles of a project by name: usable ones, and refused ones with the reason, which matters where they are named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profiles(BTreeMap<String, Result<Profile, Fault>>);

const PROGRAM: [&str; 3] = ["command", "binary", "command_template"];
const TIMEOUT: [&str; 5] =
    ["timeout-sec", "timeout_sec", "timeout_seconds", "timeout", "default_timeout_seconds"];
const EXIT_CODES: [&str; 2] = ["success-exit-codes", "success_exit_codes"];
const WORKING_DIR: [&str; 2] = ["working-dir", "working_dir"];
const ENV: [&str; 2] = ["env", "default_env"];

/// Keys that decide whether a tool has succeeded, by means that the engine does not use.
const VERDICT: [&str; 4] = ["success_pattern", "success-pattern", "failure_pattern", "failure-pattern"];

/// Keys that are read elsewhere, that describe, or that concern agents only.
const OTHERS: [&str; 12] = [
    "type",
    "args",
    "model",
    "description",
    "tool_id",
    "contract_version",
    "exit_codes",
    "optional_env",
    "requirements",
    "capture-output",
    "capture_output",
    "name",
];

impl Profiles {
    /// Takes the profiles of a file; a name that is known keeps its first meaning.
    pub(super) fn add(&mut self, file: &Original<'_>) {
        let top = file.top();
        let container = ["profiles", "tools"]
            .iter()
            .find_map(|key| top.get(key).filter(|found| found.value.is_object() && !is_profile(found)));
        let container = container.unwrap_or(top);
        for (name, node) in container.entries().filter(|(_, node)| is_profile(node)) {
            self.0
                .entry(name.to_owned())
                .or_insert_with(|| profile(name, &node).map_err(|fault| named(name, fault)));
        }
    }

    /// True if there is one of this name, usable or not.
    #[must_use]
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A profile that is used as a check; `None` if there is none of this name.
    pub(super) fn check(&self, name: &str) -> Option<Result<&Profile, Fault>> {
        Some(self.0.get(name)?.as_ref().map_err(Clone::clone))
    }

    /// The adapter of the agent that a profile names: that of its own name, else that of its program, whichever exists.
    #[must_use]
    pub(crate) fn agent<'p>(&'p self, name: &'p str, exists: impl Fn(&str) -> bool) -> Option<&'p str> {
        let profile = self.0.get(name)?.as_ref().ok()?;
        let program = profile.command.exe.rsplit('/').next().unwrap_or_default();
        [name, program].into_iter().find(|adapter| exists(adapter))
    }
}

fn is_profile(node: &Node<'_>) -> bool {
    PROGRAM
        .iter()
        .any(|key| node.get(key).is_some_and(|program| program.value.is_string() || program.value.is_array()))
}

fn named(name: &str, fault: Fault) -> Fault {
    Fault { message: format!("profile `{name}`: {}", fault.message), ..fault }
}

fn profile(name: &str, node: &Node<'_>) -> Result<Profile, Fault> {
    if let Some(pattern) = node.first(&VERDICT) {
        let hint = "it decides the verdict and is not read here: let the exit code decide, or write a check with `run`";
        return Err(pattern.fault(hint));
    }
    let (exe, args) = command(node)?;
    let env = node.first(&ENV).map(Node::variables).transpose()?.unwrap_or_default();
    let kind = node.get("type").map(|kind| kind.text()).transpose()?;
    Ok(Profile {
        command: ProfileCommand {
            profile: name.to_owned(),
            exe,
            args,
            working_dir: node.first(&WORKING_DIR).map_or(Ok(String::new()), |dir| working_dir(&dir))?,
            success_exit_codes: node.first(&EXIT_CODES).map_or(Ok(vec![0]), |codes| exit_codes(&codes))?,
        },
        is_agent: kind == Some("ai"),
        env: env.into_iter().map(|(name, value)| (name, EnvValue::Text(value))).collect(),
        timeout_seconds: node.first(&TIMEOUT).map(|timeout| timeout.seconds()).transpose()?,
        ignored: node
            .entries()
            .filter(|(key, _)| !is_known(key))
            .map(|(_, node)| ignored(name, &node))
            .collect(),
    })
}

fn is_known(key: &str) -> bool {
    let read = [&PROGRAM[..], &TIMEOUT, &EXIT_CODES, &WORKING_DIR, &ENV, &OTHERS];
    read.iter().any(|keys| keys.contains(&key)) || key.starts_with("aim_") || key.starts_with("headless_")
}

fn ignored(name: &str, node: &Node<'_>) -> Fault {
    named(name, node.fault("the key has no effect"))
}

fn command(node: &Node<'_>) -> Result<(String, Vec<String>), Fault> {
    let args = node.get("args").map(|args| args.texts()).transpose()?.unwrap_or_default();
    let program = node.first(&PROGRAM).ok_or_else(|| node.fault("it has no command"))?;
    if !program.value.is_array() {
        return Ok((program.text()?.to_owned(), args));
    }
    let mut words = program.texts()?.into_iter();
    let exe = words.next().filter(|exe| !exe.is_empty()).ok_or_else(|| program.fault("it has no command"))?;
    Ok((exe, words.chain(args).collect()))
}

fn exit_codes(node: &Node<'_>) -> Result<Vec<u8>, Fault> {
    let expected = "expected a list of exit codes from 0 to 255";
    let codes =
        node.value.as_array().filter(|codes| !codes.is_empty()).ok_or_else(|| node.fault(expected))?;
    let code = |code: &serde_json::Value| code.as_u64().and_then(|code| u8::try_from(code).ok());
    codes.iter().map(|value| code(value).ok_or_else(|| node.fault(expected))).collect()
}

/// Names that stand for the worktree: the original's `{repo_root}` would lead a check out of it.
pub(super) const WORK_TREE: [&str; 3] = ["{cwd}", "{worktree_path}", "{repo_root}"];

fn working_dir(node: &Node<'_>) -> Result<String, Fault> {
    let text = node.text()?;
    let below = WORK_TREE.iter().find_map(|name| text.strip_prefix(name));
    let below = below.unwrap_or(if text.starts_with('/') { ".." } else { text });
    let parts: Vec<&str> = below.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.iter().any(|part| *part == ".." || part.contains('{')) {
        return Err(node.fault("expected a directory of the worktree"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::original::OriginalFile;

    fn profiles(name: &str, text: &str) -> Profiles {
        let file = OriginalFile { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
        let mut profiles = Profiles::default();
        profiles.add(&Original::read(&file).unwrap());
        profiles
    }

    fn names(profiles: &Profiles) -> Vec<&str> {
        profiles.0.keys().map(String::as_str).collect()
    }

    fn of(profiles: &Profiles, name: &str) -> Profile {
        profiles.check(name).unwrap().unwrap().clone()
    }

    fn seconds(profile: &Profile) -> f64 {
        profile.timeout_seconds.unwrap().duration().as_secs_f64()
    }

    const KEBAB: &str = include_str!("../../tests/data/workstreams/profiles_kebab.json");

    #[test]
    fn five_shapes_are_read() {
        let kebab = profiles("a.json", KEBAB);
        assert_eq!(names(&kebab), ["aider", "echo", "ruff"]);
        let ruff = of(&kebab, "ruff");
        let command = ProfileCommand {
            profile: "ruff".into(),
            exe: "ruff".into(),
            args: vec!["check".into(), "src".into()],
            working_dir: "app".into(),
            success_exit_codes: vec![0, 3],
        };
        assert_eq!((&ruff.command, seconds(&ruff), ruff.ignored.len()), (&command, 120.0, 0));
        assert_eq!(ruff.env["RUFF_NO_CACHE"], EnvValue::Text("1".into()));

        let binary = profiles("b.json", include_str!("../../tests/data/workstreams/profiles_binary.json"));
        let ruff = of(&binary, "ruff");
        assert_eq!(
            (ruff.command.args.as_slice(), seconds(&ruff)),
            (&["check".to_owned(), "{files}".to_owned()][..], 60.0)
        );

        let invoke = profiles("invoke.yaml", include_str!("../../tests/data/workstreams/invoke.yaml"));
        assert_eq!(names(&invoke), ["aider", "pytest", "ruff"]);
        let pytest = of(&invoke, "pytest");
        assert_eq!((pytest.command.success_exit_codes.as_slice(), seconds(&pytest)), (&[0, 5][..], 600.0));
        assert_eq!(pytest.env["DEBUG"], EnvValue::Text("1".into()));

        let patterns =
            profiles("d.json", include_str!("../../tests/data/workstreams/profiles_patterns.json"));
        assert_eq!(names(&patterns), ["black", "mypy"], "`doc_id` is no profile");
        assert_eq!(seconds(&of(&patterns, "black")), 60.0);

        let template =
            profiles("e.json", include_str!("../../tests/data/workstreams/profiles_template.json"));
        assert_eq!(names(&template), ["pytest", "ruff"]);
        let pytest = of(&template, "pytest");
        assert_eq!((pytest.command.exe.as_str(), pytest.command.args[0].as_str()), ("pytest", "-v"));
        assert_eq!((&pytest.env["CI"], seconds(&pytest)), (&EnvValue::Text("1".into()), 600.0));
        let ignored = &of(&template, "ruff").ignored;
        assert_eq!(ignored.len(), 1);
        assert_eq!(
            ignored[0].to_string(),
            "e.json:18:18: profile `ruff`: /profiles/ruff/retries: the key has no effect"
        );
    }

    #[test]
    fn a_profile_that_cannot_be_a_check_says_why() {
        let refused =
            |profiles: &Profiles, name: &str| profiles.check(name).unwrap().unwrap_err().to_string();
        let patterns =
            profiles("d.json", include_str!("../../tests/data/workstreams/profiles_patterns.json"));
        let fault = refused(&patterns, "mypy");
        assert!(
            fault.starts_with("d.json:7:24: profile `mypy`: /mypy/success_pattern: it decides the verdict"),
            "{fault}"
        );
        assert!(of(&profiles("a.json", KEBAB), "aider").is_agent);
        for (body, wanted) in [
            (r#""command": "x", "failure_pattern": "E""#, "decides the verdict"),
            (r#""command": """#, "/p/command: expected a text"),
            (r#""command_template": []"#, "it has no command"),
            (r#""command": "x", "args": "y""#, "/p/args: expected a list of texts"),
            (r#""command": "x", "args": [["y"]]"#, "expected a list of texts"),
            (r#""command": "x", "env": ["A=b"]"#, "expected an object"),
            (r#""command": "x", "env": {"A": {}}"#, "expected a text"),
            (r#""command": "x", "timeout": 0"#, "expected a number of seconds above 0"),
            (r#""command": "x", "success_exit_codes": [256]"#, "exit codes from 0 to 255"),
            (r#""command": "x", "success_exit_codes": []"#, "exit codes from 0 to 255"),
            (r#""command": "x", "working_dir": "/tmp""#, "expected a directory of the worktree"),
            (r#""command": "x", "working_dir": "{repo_root}/../b""#, "expected a directory of the worktree"),
            (r#""command": "x", "working_dir": "{home}""#, "expected a directory of the worktree"),
        ] {
            let fault = refused(&profiles("f.json", &format!("{{\"p\": {{{body}}}}}")), "p");
            assert!(fault.starts_with("f.json:1:") && fault.contains(wanted), "{body}: {fault}");
        }
    }

    #[test]
    fn arguments_and_variables_are_as_they_were_written() {
        let text = "tools:\n  x:\n    command: x\n    args: [3.10, True, 007]\n    env: {VERSION: 3.10, DEBUG: yes}\n";
        let x = of(&profiles("invoke.yaml", text), "x");
        assert_eq!(x.command.args, ["3.10", "True", "007"]);
        let value = |text: &str| EnvValue::Text(text.into());
        assert_eq!((&x.env["VERSION"], &x.env["DEBUG"]), (&value("3.10"), &value("yes")));
    }

    #[test]
    fn an_agent_is_the_adapter_of_its_name_or_of_its_program() {
        let profiles = profiles(
            "f.json",
            r#"{"fast": {"type": "ai", "command": "/opt/aider"}, "codex": {"type": "ai", "command": "python"}}"#,
        );
        let exists = |name: &str| ["aider", "codex", "python"].contains(&name);
        assert_eq!(profiles.agent("fast", exists), Some("aider"));
        assert_eq!(profiles.agent("codex", exists), Some("codex"));
        assert_eq!((profiles.agent("slow", exists), profiles.agent("fast", |_| false)), (None, None));
    }

    #[test]
    fn the_first_file_that_has_a_profile_counts() {
        let mut both = profiles("a.json", KEBAB);
        let file = OriginalFile {
            name: "b.json".into(),
            bytes: br#"{"ruff": {"command": "other"}, "new": {"command": "n"}}"#.to_vec(),
        };
        both.add(&Original::read(&file).unwrap());
        assert_eq!(
            (of(&both, "ruff").command.exe, of(&both, "new").command.exe),
            ("ruff".into(), "n".into())
        );
    }
}
