//! The bundle: what to change, where, with which tool, and when it is right.
//!
//! The types are the gate: a document that they read is valid but for its paths (`check.rs`). The format is that of the original,
//! whose top level is closed; the objects below it are open, and a key that has no meaning there is warned of.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::acceptance::{self, Acceptance};
use super::classify::{self, Classification};
use super::fields::{
    BundleMetadata, Issue, WorkstreamId, count, not_empty, objects, some, some_count, some_object, some_word,
};
use super::paths;
use crate::job::ToolId;
use crate::job::annotations;
use crate::job::number::{Count, Usd};
use crate::job::spec::strict::word;

const ANY: u64 = u64::MAX;

/// What an agent is to change, and how that is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "engine workstream bundle")]
pub(crate) struct Bundle {
    /// The name of the workstream.
    pub(crate) id: WorkstreamId,
    /// The change of the specification that it belongs to; `-` if there is none.
    pub(crate) openspec_change: String,
    /// The issue that it belongs to.
    pub(crate) ccpm_issue: Issue,
    /// The phase that it belongs to.
    #[serde(deserialize_with = "count::<1, ANY, _>")]
    #[schemars(extend("minimum" = 1, "x-expected" = "an integer from 1"))]
    pub(crate) gate: Count,
    /// The files that may be changed: paths, directories and globs, relative to the repository.
    #[serde(deserialize_with = "not_empty")]
    #[schemars(length(min = 1), extend("x-expected" = "an array of one path at least"))]
    pub(crate) files_scope: Vec<String>,
    /// What is to be done, a sentence each.
    pub(crate) tasks: Vec<String>,
    /// The adapter of the agent.
    pub(crate) tool: ToolId,
    /// Files that may be created, beside those of `files_scope`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files_create: Vec<String>,
    /// When it is right: commands (behind `$ ` or in backticks), and sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acceptance_tests: Vec<String>,
    /// Bundles that must have succeeded first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<String>,
    /// When it is given up.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CircuitBreaker")]
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    /// Facts for people and other programs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) metadata: BundleMetadata,
    /// What the tool must be able to do.
    #[serde(default, deserialize_with = "some_word", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Capability")]
    pub(crate) capability: Option<Capability>,
    /// The request to a tool that has the capability.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CapabilityPayload")]
    pub(crate) capability_payload: Option<CapabilityPayload>,
    /// False if it runs beside no other. Default true.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(crate) parallel_ok: Option<bool>,
    /// Bundles of one group do not run beside each other.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) conflict_group: Option<String>,
    /// The kind of work. Default impl.
    #[serde(default, deserialize_with = "some_word", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BundleKind")]
    pub(crate) kind: Option<BundleKind>,
    /// Whether a person waits for it. Default foreground.
    #[serde(default, deserialize_with = "some_word", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Urgency")]
    pub(crate) priority: Option<Urgency>,
    /// How many tokens the files and the prompt probably have.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Count")]
    pub(crate) estimated_context_tokens: Option<Count>,
    /// What all its agents together may cost, in US dollars.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Usd")]
    pub(crate) max_cost_usd: Option<Usd>,
    /// Commands that undo it outside of the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) compensation_actions: Vec<String>,
    /// Tests at the end of a phase.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub(crate) test_gates: Vec<TestGate>,
}

/// When a workstream is given up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CircuitBreaker {
    /// How often an agent may run.
    #[serde(default, deserialize_with = "some_count::<1, ANY, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Count", extend("minimum" = 1, "x-expected" = "an integer from 1"))]
    pub(crate) max_attempts: Option<Count>,
    /// How often one failure may come in a row.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Count")]
    pub(crate) max_error_repeats: Option<Count>,
    /// How often one failure may come back.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Count")]
    pub(crate) oscillation_threshold: Option<Count>,
}

/// The request to a tool that has the capability.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CapabilityPayload {
    /// The files that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<String>,
    /// The prompt, instead of the tasks.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) prompt: Option<String>,
    /// How long the tool may take, in milliseconds.
    #[serde(
        default,
        deserialize_with = "some_count::<1000, ANY, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Count", extend("minimum" = 1000, "x-expected" = "an integer from 1000"))]
    pub(crate) timeout_ms: Option<Count>,
    /// How often a failed edit is repeated.
    #[serde(default, deserialize_with = "some_count::<0, 5, _>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Count", extend("maximum" = 5, "x-expected" = "an integer from 0 to 5"))]
    pub(crate) max_retries: Option<Count>,
}

/// A test at the end of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TestGate {
    /// Which one.
    #[serde(rename = "type", deserialize_with = "word")]
    pub(crate) gate_type: GateType,
    /// True if it must have run.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(crate) required: Option<bool>,
    /// True if nothing later runs when it fails.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(crate) blocking: Option<bool>,
}

/// What a tool can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    CodeGeneration,
    Linting,
    Refactoring,
    Testing,
    VersionChecking,
}

/// The kind of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BundleKind {
    Design,
    #[default]
    Impl,
    Test,
    Docs,
    Infra,
    Refactor,
    Background,
    Spike,
}

/// Whether a person waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Urgency {
    Foreground,
    Background,
}

/// A kind of test at the end of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum GateType {
    #[serde(rename = "GATE_LINT")]
    Lint,
    #[serde(rename = "GATE_UNIT")]
    Unit,
    #[serde(rename = "GATE_INTEGRATION")]
    Integration,
    #[serde(rename = "GATE_SECURITY")]
    Security,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Bundle {
    /// Reads a document: the gate. Annotations are ignored. The paths are not checked.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn read(document: &Value) -> Result<Self, serde_json::Error> {
        let object = document.as_object().ok_or_else(|| serde::de::Error::custom("expected an object"))?;
        let mut object = object.clone();
        object.retain(|key, _| !annotations::is_annotation(key));
        Self::deserialize(&object)
    }

    /// The bundle of a task from the command line, where there is no file.
    ///
    /// # Errors
    /// A sentence for each value that cannot be one.
    pub(crate) fn of_task(task: &str, files: &[String], tool: &ToolId) -> Result<Self, Vec<String>> {
        let wrong = |file: &String| {
            let why = match Path::new(file).is_absolute() {
                true => Some("is absolute: give it from the top of the repository".to_owned()),
                false => paths::read(file).err(),
            };
            why.map(|why| format!("`{file}` in `--files` {why}"))
        };
        let mut problems: Vec<String> = files.iter().filter_map(wrong).collect();
        if files.is_empty() {
            problems.push("`--files` names no file".to_owned());
        }
        if task.trim().is_empty() {
            problems.push("`--task` is empty".to_owned());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let document = serde_json::json!({
            "id": "ws-task", "openspec_change": "-", "ccpm_issue": 0, "gate": 1, "files_scope": files,
            "tasks": [task], "tool": tool,
        });
        Self::read(&document).map_err(|error| vec![error.to_string()])
    }

    /// That of the integration of a run, which has nothing to do but its checks.
    pub(crate) fn of_integration() -> Option<Self> {
        // No agent: a check that fails there is not mended.
        let document = serde_json::json!({
            "id": "ws-integration", "openspec_change": "-", "ccpm_issue": 0, "gate": 1, "files_scope": ["."],
            "tasks": [], "tool": "shell",
        });
        Self::read(&document).ok()
    }

    /// What may be changed and created, normalised, relative to the repository; `.` is all of it.
    pub(crate) fn writable(&self) -> Vec<String> {
        let given = self.files_scope.iter().chain(&self.files_create);
        given.filter_map(|path| paths::read(path).ok()).map(|path| paths::shown(&path)).collect()
    }

    /// The paths without a pattern that it says may be changed, normalised.
    pub(crate) fn plain_scope(&self) -> Vec<String> {
        let read = self.files_scope.iter().filter_map(|path| paths::read(path).ok());
        read.filter(|path| !path.has_wildcard()).map(|path| paths::shown(&path)).collect()
    }

    /// The acceptance tests, in their order.
    pub(crate) fn acceptance(&self) -> Vec<Acceptance> {
        self.acceptance_tests.iter().map(|item| acceptance::read(item)).collect()
    }

    /// Those that are prose, which is not run.
    pub(crate) fn prose(&self) -> Vec<String> {
        let texts = self.acceptance().into_iter().filter_map(|item| match item {
            Acceptance::Prose { text, .. } => Some(text),
            Acceptance::Command(_) => None,
        });
        texts.collect()
    }

    /// False if only the checks run.
    pub(crate) fn has_edit(&self) -> bool {
        !self.tasks.is_empty() || self.prompt().is_some()
    }

    /// The prompt that takes the place of the tasks.
    pub(crate) fn prompt(&self) -> Option<&str> {
        self.capability_payload.as_ref()?.prompt.as_deref()
    }

    /// The kind of its work.
    pub(crate) fn kind(&self) -> BundleKind {
        self.kind.unwrap_or_default()
    }

    /// The group of bundles that do not run beside each other; an empty name is none, as in the original.
    pub(crate) fn group(&self) -> Option<&str> {
        self.conflict_group.as_deref().filter(|group| !group.is_empty())
    }

    /// False if it runs beside no other.
    pub(crate) fn is_parallel_ok(&self) -> bool {
        self.parallel_ok.unwrap_or(true)
    }

    /// True if it waits for those that are not in the background.
    pub(crate) fn is_background(&self) -> bool {
        self.priority == Some(Urgency::Background)
    }

    /// True if it may succeed without a change.
    pub(crate) fn allow_no_change(&self) -> bool {
        self.metadata.is_set("allow_no_change")
    }

    /// True if tests may vanish.
    pub(crate) fn allow_test_removal(&self) -> bool {
        self.metadata.is_set("allow_test_removal")
    }

    /// What a prompt says of the size and the nature of the work.
    pub(crate) fn classification(&self) -> Classification {
        let facts = classify::Facts {
            paths: &self.writable(),
            tasks: &self.tasks,
            gate: self.gate.get(),
            named: self.metadata.0.get("classification").and_then(Value::as_object),
        };
        classify::classify(&facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(files: &[&str]) -> Result<Bundle, Vec<String>> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        Bundle::of_task("add() subtracts; mend it", &files, &ToolId::new("claude").unwrap())
    }

    #[test]
    fn a_task_of_the_command_line_is_a_bundle() {
        let bundle = task(&["calc.py", "src\\sub/"]).unwrap();
        assert_eq!((bundle.id.as_str(), bundle.gate.get()), ("ws-task", 1));
        assert_eq!(bundle.writable(), ["calc.py", "src/sub"]);
        assert_eq!(bundle.tasks, ["add() subtracts; mend it"]);
        assert!(bundle.has_edit() && !bundle.allow_no_change() && !bundle.allow_test_removal());
        let written = serde_json::to_value(&bundle).unwrap();
        assert_eq!(written.as_object().unwrap().len(), 7, "nothing is written that was not given: {written}");
        assert_eq!(Bundle::read(&written).unwrap(), bundle);
    }

    #[test]
    fn every_path_of_a_task_is_checked_at_once() {
        assert_eq!(
            task(&["../x", "a", "b[", "", "/etc/passwd"]).unwrap_err(),
            [
                "`../x` in `--files` leads out of the repository",
                "`b[` in `--files` is not a valid glob: invalid range pattern",
                "`` in `--files` is empty",
                "`/etc/passwd` in `--files` is absolute: give it from the top of the repository",
            ]
        );
        let nothing = Bundle::of_task(" ", &[], &ToolId::new("claude").unwrap());
        assert_eq!(nothing.unwrap_err(), ["`--files` names no file", "`--task` is empty"]);
    }

    #[test]
    fn what_is_created_is_writable_and_a_glob_keeps_its_meaning() {
        let mut bundle = task(&["./src/./a.py", "docs/", "lib/*/", "x/../y", "."]).unwrap();
        bundle.files_create = vec!["tests\\new_test.py".to_owned()];
        assert_eq!(bundle.writable(), ["src/a.py", "docs", "lib/*/", "y", ".", "tests/new_test.py"]);
    }

    #[test]
    fn a_prompt_is_an_edit_and_flags_are_read_from_metadata() {
        let mut bundle = task(&["a"]).unwrap();
        bundle.tasks.clear();
        assert!(!bundle.has_edit());
        bundle.capability_payload =
            Some(CapabilityPayload { prompt: Some("do".to_owned()), ..CapabilityPayload::default() });
        assert_eq!((bundle.has_edit(), bundle.prompt()), (true, Some("do")));
        bundle.metadata.0.insert("allow_no_change".to_owned(), true.into());
        bundle.metadata.0.insert("allow_test_removal".to_owned(), false.into());
        assert!(bundle.allow_no_change() && !bundle.allow_test_removal());
    }
}
