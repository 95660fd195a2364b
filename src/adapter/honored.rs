//! Which keys of `metadata` have an effect with an adapter. A limit that nothing enforces must be reported, not discovered.
//!
//! Pure. A key that a template of the manifest names is honored, and one that the adapter honors to which the job escalates.

use std::rc::Rc;

use super::manifest::{Argument, Manifest, ReaderName, StdinFrom};
use super::read::junit;
use crate::job::{JobFile, ToolId};

/// Keys that have an effect with some adapters only.
const CONDITIONAL: [&str; 15] = [
    "allow_no_change",
    "arguments",
    "fallback_on",
    "files_scope",
    "function",
    "git_operation",
    "junit_file",
    "max_cost_usd",
    "max_parks",
    "max_tokens",
    "message_file",
    "model",
    "prompt",
    "retry_budget_seconds",
    "test_paths",
];

/// A key of `metadata` that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithoutEffect {
    /// The key.
    pub key: &'static str,
    /// One sentence.
    pub message: String,
}

/// The keys of a job that have no effect; `find` gives the adapter of a tool.
pub(crate) fn without_effect(
    job: &JobFile,
    mut find: impl FnMut(&ToolId) -> Option<Rc<Manifest>>,
) -> Vec<WithoutEffect> {
    let is_set = |key: &&str| job.metadata.all.get(*key).is_some_and(|value| !value.is_null());
    let mut keys: Vec<&'static str> = CONDITIONAL.into_iter().filter(is_set).collect();
    if keys.is_empty() {
        return Vec::new();
    }
    let Some(manifest) = find(&job.tool) else { return Vec::new() };
    let given = Given::by(job);
    let names_nothing =
        Some(&manifest).filter(|manifest| reads_junit_file(manifest)).and(names_no_report(job));
    keys.retain(|key| match *key {
        "fallback_on" => job.escalates_to().is_none(),
        key => !honors(&manifest, key, given),
    });
    if keys.is_empty() {
        return names_nothing.into_iter().collect();
    }
    if let Some(next) = job.escalates_to().and_then(find) {
        // It builds a command of its own.
        keys.retain(|key| !honors(&next, key, Given::default()));
    }
    let told = |key| WithoutEffect { key, message: message(key, &manifest, given) };
    keys.into_iter().map(told).chain(names_nothing).collect()
}

fn reads_junit_file(manifest: &Manifest) -> bool {
    matches!(manifest.reader, ReaderName::Pytest | ReaderName::Junit)
}

/// What is wrong with a `junit_file` that names no file.
fn names_no_report(job: &JobFile) -> Option<WithoutEffect> {
    let value = job.metadata.all.get("junit_file").filter(|value| !value.is_null())?;
    let message = match junit::names(value) {
        Ok(Some(_)) => return None,
        Ok(None) => "`junit_file` is empty and names no test report".to_owned(),
        Err(why) => format!("{why}: the job will fail with `test_report_unreadable`"),
    };
    Some(WithoutEffect { key: "junit_file", message })
}

/// Whether an adapter of the job is handed a key that means nothing to the engine: in its request, or by a template.
pub(crate) fn uses(job: &JobFile, key: &str, mut find: impl FnMut(&ToolId) -> Option<Rc<Manifest>>) -> bool {
    let mut is_passed =
        |tool: &ToolId, given| find(tool).is_some_and(|manifest| is_passed_to_tool(&manifest, key, given));
    is_passed(&job.tool, Given::by(job))
        || job.escalates_to().is_some_and(|next| is_passed(next, Given::default()))
}

/// What the job gives itself, in place of what the adapter would build.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    command: bool,
    stdin: bool,
}

impl Given {
    fn by(job: &JobFile) -> Self {
        Self { command: job.command.exe.is_some(), stdin: job.stdin.is_some() }
    }

    fn stdin_of(self, manifest: &Manifest) -> StdinFrom {
        if self.stdin { StdinFrom::None } else { manifest.stdin }
    }
}

fn message(key: &str, manifest: &Manifest, given: Given) -> String {
    let Manifest { id, reader, .. } = manifest;
    match key {
        key if key != "fallback_on" && honors(manifest, key, Given::default()) => {
            let own = if given.command { "command.exe" } else { "stdin" };
            format!(
                "`{key}` has no effect: the job gives `{own}` itself, so the adapter `{id}` does not use it"
            )
        }
        "fallback_on" => format!("`{key}` has no effect without a `retry_policy` of `escalate_to_<adapter>`"),
        key if is_passed_to_tool(manifest, key, given) => format!(
            "`{key}` is passed to the tool, but the adapter `{id}` (reader `{reader}`) does not enforce it"
        ),
        _ => {
            let hint = match key {
                "junit_file" => "; the readers `pytest` and `junit` read it",
                key if is_kept_by_agents(key) => {
                    "; adapters of agents honor it (reader `agent` for one of your own)"
                }
                _ => "",
            };
            format!("`{key}` has no effect: the adapter `{id}` (reader `{reader}`) does not honor it{hint}")
        }
    }
}

/// The keys that only the engine can enforce, by reading an agent while it runs and by looking at the worktree.
fn is_kept_by_agents(key: &str) -> bool {
    let limits =
        ["allow_no_change", "files_scope", "max_cost_usd", "max_parks", "max_tokens", "retry_budget_seconds"];
    limits.contains(&key)
}

/// Whether the tool gets the value of a key: in its request, or by a template.
fn is_passed_to_tool(manifest: &Manifest, key: &str, given: Given) -> bool {
    names(manifest, key, given) || given.stdin_of(manifest) == StdinFrom::Request
}

fn honors(manifest: &Manifest, key: &str, given: Given) -> bool {
    let is_agent = manifest.reader.dialect().is_some();
    let names = |key| names(manifest, key, given);
    let stdin = given.stdin_of(manifest);
    let is_passed =
        names(key) || (stdin == StdinFrom::Request && (!is_kept_by_agents(key) || key == "files_scope"));
    let by_reader = match key {
        "files_scope" => is_agent || names("scope_files"),
        "prompt" | "message_file" => {
            (manifest.needs_prompt && !given.command) || stdin == StdinFrom::Prompt || names("prompt_file")
        }
        "junit_file" => reads_junit_file(manifest),
        // Prices are looked up by it.
        "model" => is_agent,
        key => is_agent && is_kept_by_agents(key),
    };
    is_passed || by_reader
}

/// Whether a template of the manifest names the key; those of arguments are not used for a command of the job's own.
fn names(manifest: &Manifest, key: &str, given: Given) -> bool {
    let name = format!("{{{key}}}");
    let args = manifest.args.iter().chain(manifest.resume_args.iter().flatten()).filter(|_| !given.command);
    let texts = args.flat_map(|argument| match argument {
        Argument::One(text) => std::slice::from_ref(text),
        Argument::Optional(texts) => texts.as_slice(),
    });
    texts.chain(manifest.env.values()).any(|text| text.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse_job;

    fn keys(manifest: &str, rest: &str) -> Vec<&'static str> {
        let metadata = r#""files_scope": ["a"], "max_cost_usd": 1, "prompt": "p", "model": "m", "junit_file": null, "mine": 1"#;
        let text = format!(r#"{{"job_id": "j", "tool": "mine", "metadata": {{{metadata}{rest}}}}}"#);
        let job = parse_job(text.as_bytes(), "f").unwrap().job;
        let find = |tool: &ToolId| match tool.as_str() {
            "mine" => Some(Rc::new(serde_json::from_str(manifest).unwrap())),
            _ => super::super::find(None, tool).unwrap().map(Rc::new),
        };
        without_effect(&job, find).into_iter().map(|without| without.key).collect()
    }

    #[test]
    fn a_key_has_an_effect_by_the_reader_a_template_standard_input_or_the_adapter_that_follows() {
        let all = ["files_scope", "max_cost_usd", "model", "prompt"];
        assert_eq!(keys(r#"{"id": "mine"}"#, ""), all);
        assert_eq!(
            keys(r#"{"id": "mine", "args": [["--only", "{files_scope}"]], "env": {"M": "{model}"}}"#, ""),
            ["max_cost_usd", "prompt"]
        );
        assert_eq!(
            keys(r#"{"id": "mine", "args": ["{scope_files}", "{prompt_file}"]}"#, ""),
            ["max_cost_usd", "model"]
        );
        assert_eq!(keys(r#"{"id": "mine", "stdin": "request"}"#, ""), ["max_cost_usd"]);
        assert_eq!(keys(r#"{"id": "mine", "reader": "agent", "stdin": "prompt"}"#, ""), [""; 0]);
        assert_eq!(keys(r#"{"id": "mine"}"#, r#", "retry_policy": "escalate_to_codex""#), [""; 0]);
        let fallback = r#", "fallback_on": ["absent"]"#;
        assert_eq!(
            keys(r#"{"id": "mine", "reader": "agent", "stdin": "prompt"}"#, fallback),
            ["fallback_on"]
        );
    }

    #[test]
    fn what_the_job_gives_itself_is_not_built_from_its_keys() {
        let messages = |text: &str| -> Vec<String> {
            let job = parse_job(text.as_bytes(), "f").unwrap().job;
            let find = |tool: &ToolId| super::super::find(None, tool).unwrap().map(Rc::new);
            without_effect(&job, find).into_iter().map(|without| without.message).collect()
        };
        let git = r#"{"job_id": "j", "tool": "git", "command": {"exe": "git", "args": ["status"]}, "metadata": {"git_operation": "push"}}"#;
        let want = "`git_operation` has no effect: the job gives `command.exe` itself, so the adapter `git` does not use it";
        assert_eq!(messages(git), [want]);
        let agent = r#"{"job_id": "j", "tool": "claude", "command": {"exe": "x"}, "metadata": {"files_scope": ["a"], "max_cost_usd": 1, "model": "m"}}"#;
        assert_eq!(messages(agent), [""; 0]);
        let plugin = r#"{"job_id": "j", "tool": "plugin", "command": {"exe": "x"}, "stdin": {"text": "own"}, "metadata": {"model": "m"}}"#;
        let told = messages(plugin);
        assert!(told.len() == 1 && told[0].contains("the job gives"), "{told:?}");
    }

    #[test]
    fn a_junit_file_that_names_no_file_is_told_where_it_is_read() {
        let messages = |tool: &str, value: &str| -> Vec<String> {
            let text =
                format!(r#"{{"job_id": "j", "tool": "{tool}", "metadata": {{"junit_file": {value}}}}}"#);
            let job = parse_job(text.as_bytes(), "f").unwrap().job;
            let find = |tool: &ToolId| super::super::find(None, tool).unwrap().map(Rc::new);
            without_effect(&job, find).into_iter().map(|without| without.message).collect()
        };
        for value in ["5", "true", "{}", "[1]", "[\"\"]", "[[]]"] {
            let told = messages("tests", value);
            assert!(
                told.len() == 1 && told[0].contains("neither a path nor a list of paths"),
                "{value}: {told:?}"
            );
        }
        for value in ["[]", "\"\""] {
            assert_eq!(
                messages("tests", value),
                ["`junit_file` is empty and names no test report"],
                "{value}"
            );
        }
        for value in ["null", "\"r.xml\"", "[\"a\", \"b/*.xml\"]"] {
            assert_eq!(messages("tests", value), [""; 0], "{value}");
        }
        assert!(messages("shell", "5")[0].contains("has no effect"));
    }

    #[test]
    fn every_key_of_a_built_in_adapter_has_an_effect_with_it() {
        for (tool, keys) in [
            ("python", r#""function": "m:f", "arguments": [1]"#),
            ("git", r#""git_operation": "status""#),
            ("tests", r#""junit_file": "j.xml", "test_paths": ["t"]"#),
            (
                "claude",
                r#""prompt": "p", "model": "m", "max_tokens": 5, "max_parks": 2, "allow_no_change": true"#,
            ),
            (
                "aider",
                r#""message_file": "p", "files_scope": ["a"], "max_cost_usd": 5, "retry_budget_seconds": 2"#,
            ),
        ] {
            let text = format!(r#"{{"job_id": "j", "tool": "{tool}", "metadata": {{{keys}}}}}"#);
            let job = parse_job(text.as_bytes(), "f").unwrap().job;
            let find = |tool: &ToolId| super::super::find(None, tool).unwrap().map(Rc::new);
            assert_eq!(without_effect(&job, find), [], "{tool}");
        }
    }
}
