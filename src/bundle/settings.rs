//! The settings of a run: flags, variables, `engine.toml`, the files of the original and defaults, made one.
//!
//! Pure: the caller reads files and environment. Hard rule: every value keeps its origin, and what has no effect is named.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checks::{self, Check, Known};
use super::layers::{Layer, Sourced};
use super::limits::{self, Found};
use super::original::Original;
use super::paths;
use super::profiles::Profiles;
use super::spec::Bundle;
use super::table::{CheckEntry, KeepWorktrees, PatchPolicy, WorkstreamsTable};
use crate::fix_loop::limits::{CheckKind, Limits, Recovery};
use crate::job::ToolId;
use crate::job::number::Seconds;
use crate::job::spec::{EnvValue, OnCrash};

pub(crate) use super::original::{Fault, OriginalFile};

/// The files of the original, relative to the project, the most specific first.
pub(crate) const ORIGINAL_FILES: [&str; 5] = [
    "config/circuit_breakers.yaml",
    "config/circuit_breaker_config.yaml",
    "config/tool_profiles.json",
    "config/invoke.yaml",
    "invoke.yaml",
];

/// A larger file is refused unread.
pub(crate) const MOST_BYTES: u64 = 1 << 20;

/// The flags of `engine run` that are settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `--slots`, `--max-workers`.
    pub max_workers: Option<u32>,
    /// `--tool`.
    pub tool: Option<ToolId>,
    /// `--check`, in order.
    pub checks: Vec<String>,
    /// `--test`, in order.
    pub tests: Vec<String>,
}

/// Everything that settings come from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub flags: &'a Flags,
    /// The variables of the environment that begin with `PIPELINE_`.
    pub variables: &'a BTreeMap<String, String>,
    pub table: &'a WorkstreamsTable,
    /// Those of `ORIGINAL_FILES` that exist, in that order.
    pub files: &'a [OriginalFile],
    /// The adapters that may be named as a check: those with a command of their own that are no agents.
    pub adapters: &'a BTreeSet<String>,
}

/// The settings that are frozen into the job file of each workstream. An absent key has its default, for an engine of another
/// version may have written them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// How many workstreams run at once. Default 4.
    pub max_workers: u32,
    /// The agent of `engine run --task`.
    pub tool: Option<ToolId>,
    /// Commands for `/bin/sh -c` that run once in each new worktree.
    pub setup: Vec<String>,
    /// Environment variables of every step; those of a check outrank them.
    pub env: BTreeMap<String, EnvValue>,
    /// Protected files beside the built-in ones.
    pub protected: Vec<String>,
    /// Total time of a step by its kind.
    pub timeouts: Timeouts,
    /// What follows a failed step of an agent.
    pub recovery: Recovery,
    /// Limits of a change.
    pub patch: PatchPolicy,
    /// Which worktrees are kept.
    pub keep_worktrees: KeepWorktrees,
    /// The directory of all worktrees; absent: a cache directory of the user.
    pub worktrees: Option<String>,
    /// True if a check may run in an environment that holds an editable install of the checkout.
    pub shared_environment: bool,
    /// What happens to a step of an agent whose runner was killed. Default `requeue`.
    pub on_crash: OnCrash,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_workers: 4,
            tool: None,
            setup: Vec::new(),
            env: BTreeMap::new(),
            protected: Vec::new(),
            timeouts: Timeouts::default(),
            recovery: Recovery::default(),
            patch: PatchPolicy::default(),
            keep_worktrees: KeepWorktrees::default(),
            worktrees: None,
            shared_environment: false,
            on_crash: OnCrash::Requeue,
        }
    }
}

/// Total time of a step by its kind; `setup` has that of `edit`, acceptance that of `runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Timeouts {
    pub edit: Seconds,
    #[serde(rename = "static")]
    pub of_static: Seconds,
    pub runtime: Seconds,
    pub fix: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        let five_minutes = Seconds::FIVE_MINUTES;
        Self { edit: Seconds::TEN_MINUTES, of_static: five_minutes, runtime: five_minutes, fix: five_minutes }
    }
}

impl Timeouts {
    /// That of a check.
    #[must_use]
    pub(crate) fn of(self, kind: CheckKind) -> Seconds {
        match kind {
            CheckKind::Static => self.of_static,
            CheckKind::Runtime | CheckKind::Accept => self.runtime,
        }
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub settings: Settings,
    pub limits: Limits,
    /// The static checks in order, then the runtime checks; of a bundle, then its acceptance tests that are commands.
    pub checks: Vec<Check>,
    /// The checks of the merged tree of several bundles.
    pub integration: Vec<Check>,
    /// Every value with its origin, by dotted keys.
    pub values: Layer,
    pub profiles: Profiles,
    /// `PIPELINE_DRY_RUN`.
    pub dry_run: bool,
    /// What has no effect.
    pub warnings: Vec<Fault>,
}

/// Makes the settings of a run.
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn resolve(sources: &Sources<'_>) -> Result<Resolved, Vec<Fault>> {
    let mut found = Found::default();
    let dry_run = dry_run(sources.variables).unwrap_or_else(|fault| {
        found.faults.push(fault);
        false
    });
    found.values = of_flags(sources.flags);
    found.variables(sources.variables);
    found.table(sources.table);
    let mut profiles = Profiles::default();
    for file in sources.files {
        found.file(file, &mut profiles);
    }
    found.values.fill(Layer::of(defaults(), "default"));
    let Found { values, mut faults, mut warnings } = found;
    let settings: Settings = typed(values.tree(), &mut faults).unwrap_or_default();
    let limits = values.tree().get("limits").cloned().unwrap_or_default();
    let limits = typed(limits, &mut faults).unwrap_or_default();
    patterns(&settings, &values, &mut faults);
    let known = Known { profiles: &profiles, adapters: sources.adapters };
    let mut of_key = |kind: CheckKind, key: &str| {
        let Sourced { value, from } = values.get(key)?;
        let entries: Vec<CheckEntry> = typed(value.clone(), &mut faults).unwrap_or_default();
        match known.checks(&entries, kind, settings.timeouts.of(kind), from, &mut warnings) {
            Ok(made) => Some(made),
            Err(wrong) => {
                faults.extend(wrong);
                None
            }
        }
    };
    let mut checks = of_key(CheckKind::Static, "checks.static").unwrap_or_default();
    checks.extend(of_key(CheckKind::Runtime, "checks.runtime").unwrap_or_default());
    let integration = of_key(CheckKind::Runtime, "checks.integration").unwrap_or_else(|| checks.clone());
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Resolved { settings, limits, checks, integration, values, profiles, dry_run, warnings })
}

/// Reads what the layers hold; they were checked, so a fault here is one of the engine.
fn typed<T: DeserializeOwned>(value: Value, faults: &mut Vec<Fault>) -> Option<T> {
    serde_json::from_value(value).map_err(|error| faults.push(Fault::of("settings", error.to_string()))).ok()
}

/// A pattern that is none would protect nothing, and be found out in the middle of a run.
fn patterns(settings: &Settings, values: &Layer, faults: &mut Vec<Fault>) {
    for (key, patterns) in [("protected", &settings.protected), ("patch", &settings.patch.forbidden_paths)] {
        let from = values.get(key).map_or("default", |sourced| &sourced.from);
        let wrong = patterns.iter().filter_map(|given| Some((given, paths::read(given).err()?)));
        faults.extend(wrong.map(|(given, problem)| Fault::of(from, format!("`{key}`: `{given}` {problem}"))));
    }
}

fn defaults() -> Value {
    let mut values = json!(Settings::default());
    values["limits"] = json!(Limits::default());
    values["checks"] = json!({ "static": [], "runtime": [] });
    values
}

fn of_flags(flags: &Flags) -> Layer {
    let mut layer = Layer::default();
    if let Some(count) = flags.max_workers {
        layer.set("max_workers", count, "flag --slots");
    }
    if let Some(tool) = &flags.tool {
        layer.set("tool", tool.as_str(), "flag --tool");
    }
    for (key, lines, flag) in
        [("checks.static", &flags.checks, "flag --check"), ("checks.runtime", &flags.tests, "flag --test")]
    {
        if !lines.is_empty() {
            layer.set(key, lines.clone(), flag);
        }
    }
    layer
}

/// `PIPELINE_DRY_RUN`.
///
/// # Errors
/// A value that is neither yes nor no: a run costs money, so what was meant is not guessed.
pub(crate) fn dry_run(variables: &BTreeMap<String, String>) -> Result<bool, Fault> {
    match variables.get("PIPELINE_DRY_RUN").map(String::as_str) {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(Fault::of("PIPELINE_DRY_RUN", "expected 0 or 1")),
    }
}

impl Found {
    fn variables(&mut self, variables: &BTreeMap<String, String>) {
        for (name, key) in
            [("PIPELINE_MAX_WORKERS", "max_workers"), ("PIPELINE_TIMEOUT_SEC", "limits.timeout_seconds")]
        {
            let Some(text) = variables.get(name).filter(|text| !text.is_empty()) else { continue };
            match text.trim().parse::<u32>() {
                Ok(count) if count > 0 => self.values.fill(Layer::one(key, count, name)),
                _ => self.faults.push(Fault::of(name, "expected an integer from 1")),
            }
        }
        if variables.contains_key("PIPELINE_DB_PATH") {
            self.warnings.push(Fault::of("PIPELINE_DB_PATH", "it has no effect: the state is in the root"));
        }
    }

    fn table(&mut self, table: &WorkstreamsTable) {
        let mut value = json!(table);
        if let Some(keys) = value.as_object_mut() {
            let checks = ["static", "runtime", "integration"]
                .map(|key| (key.to_owned(), keys.remove(key).unwrap_or_default()));
            keys.insert("checks".to_owned(), Value::Object(checks.into_iter().collect()));
        }
        self.values.fill(Layer::of(value, "engine.toml"));
        if table.wave_delay_sec.is_some() {
            self.warnings
                .push(Fault::of("engine.toml", "`wave_delay_sec` has no effect: nothing waits for a wave"));
        }
    }

    fn file(&mut self, file: &OriginalFile, profiles: &mut Profiles) {
        let original = match Original::read(file) {
            Ok(original) => original,
            Err(faults) => return self.faults.extend(faults),
        };
        if !file.name.ends_with("tool_profiles.json") {
            let found = Self::of_file(&original);
            self.values.fill(found.values);
            self.faults.extend(found.faults);
            self.warnings.extend(found.warnings);
        }
        profiles.add(&original);
    }
}

impl Resolved {
    /// The settings of one bundle: what it says for itself outranks all but flags and variables. `file` is its file.
    #[must_use]
    pub(crate) fn for_bundle(&self, file: &str, bundle: &Bundle) -> Self {
        let mut own = self.clone();
        own.values.overlay(self.of_bundle(file, bundle));
        let tree = own.values.tree();
        let limits = tree.get("limits").cloned().unwrap_or_default();
        // Of counts and times that were valid nothing invalid was made.
        own.settings = serde_json::from_value(tree).unwrap_or(own.settings);
        own.limits = serde_json::from_value(limits).unwrap_or(own.limits);
        own.checks.extend(checks::acceptance(bundle, own.settings.timeouts.of(CheckKind::Accept)));
        own
    }

    /// What a bundle says for itself, as far as it counts: flags and variables outrank it. `file` is its file.
    #[must_use]
    pub(crate) fn of_bundle(&self, file: &str, bundle: &Bundle) -> Layer {
        let mut own = limits::of_bundle(file, bundle);
        let outranks =
            |value: &Sourced| value.from.starts_with("flag ") || value.from.starts_with("PIPELINE_");
        own.retain(|key| !self.values.get(key).is_some_and(outranks));
        own
    }

    /// Every value with its origin, for people and programs.
    #[must_use]
    pub(crate) fn report(&self) -> Value {
        json!(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given {
        flags: Flags,
        variables: BTreeMap<String, String>,
        table: WorkstreamsTable,
        files: Vec<OriginalFile>,
    }

    fn given(variables: &[(&str, &str)], table: Value, files: &[(&str, &str)]) -> Given {
        Given {
            flags: Flags::default(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            table: serde_json::from_value(table).unwrap(),
            files: files
                .iter()
                .map(|(name, text)| OriginalFile {
                    name: (*name).to_owned(),
                    bytes: text.as_bytes().to_vec(),
                })
                .collect(),
        }
    }

    impl Given {
        fn resolve(&self) -> Result<Resolved, Vec<String>> {
            let adapters = BTreeSet::from(["tests".to_owned()]);
            let Self { flags, variables, table, files } = self;
            let resolved = resolve(&Sources { flags, variables, table, files, adapters: &adapters });
            resolved.map_err(|faults| faults.iter().map(Fault::to_string).collect())
        }
    }

    fn from(resolved: &Resolved, key: &str) -> String {
        resolved.values.get(key).unwrap_or_else(|| panic!("{key}")).from.clone()
    }

    #[test]
    fn nothing_given_means_the_defaults_and_each_says_so() {
        let resolved = given(&[], json!({}), &[]).resolve().unwrap();
        assert_eq!((&resolved.settings, &resolved.limits), (&Settings::default(), &Limits::default()));
        assert!(resolved.checks.is_empty() && resolved.warnings.is_empty() && !resolved.dry_run);
        for key in [
            "max_workers",
            "limits.fixes.static",
            "timeouts.edit",
            "recovery.retries",
            "keep_worktrees",
            "checks.static",
        ] {
            assert_eq!(from(&resolved, key), "default", "{key}");
        }
        let report = resolved.report();
        assert_eq!(report["limits.fixes.static"], json!({ "value": 3, "from": "default" }));
        assert_eq!(report["timeouts.edit"], json!({ "value": 600.0, "from": "default" }));
        assert_eq!(report["limits.timeout_seconds"]["value"], json!(3600.0));
    }

    #[test]
    fn a_flag_outranks_a_variable_that_outranks_engine_toml_that_outranks_the_original_files() {
        let breakers =
            ("config/circuit_breakers.yaml", "defaults: {oscillation_window: 7, oscillation_threshold: 3}");
        let documented =
            ("config/circuit_breaker_config.yaml", "oscillation_window: 9\ntimeouts:\n  edit: 9");
        let table =
            json!({ "max_workers": 2, "tool": "codex", "limits": { "repeats": 4, "timeout_seconds": 10 } });
        let mut given = given(
            &[("PIPELINE_MAX_WORKERS", "3"), ("PIPELINE_TIMEOUT_SEC", "20")],
            table,
            &[breakers, documented],
        );
        let resolved = given.resolve().unwrap();
        assert_eq!(
            (resolved.settings.max_workers, from(&resolved, "max_workers")),
            (3, "PIPELINE_MAX_WORKERS".to_owned())
        );
        assert_eq!(from(&resolved, "limits.timeout_seconds"), "PIPELINE_TIMEOUT_SEC");
        assert_eq!(resolved.limits.timeout_seconds, Seconds::new(20.0).unwrap());
        assert_eq!(
            (resolved.limits.repeats, from(&resolved, "limits.repeats")),
            (4, "engine.toml".to_owned())
        );
        assert_eq!(
            (resolved.limits.window, from(&resolved, "limits.window")),
            (7, "config/circuit_breakers.yaml:1".to_owned())
        );
        assert_eq!(from(&resolved, "timeouts.edit"), "config/circuit_breaker_config.yaml:3");
        given.flags = Flags { max_workers: Some(5), tool: ToolId::new("aider").ok(), ..Flags::default() };
        let resolved = given.resolve().unwrap();
        assert_eq!(
            (resolved.settings.max_workers, from(&resolved, "max_workers")),
            (5, "flag --slots".to_owned())
        );
        assert_eq!(
            (
                resolved.settings.tool.unwrap().as_str().to_owned(),
                resolved.values.get("tool").unwrap().from.as_str()
            ),
            ("aider".to_owned(), "flag --tool")
        );
    }

    #[test]
    fn every_key_of_the_table_arrives_and_is_read_back_from_a_job_file() {
        let table = json!({
            "max_workers": 1, "tool": "claude", "static": ["ruff check ."], "runtime": [{ "run": "pytest -q" }],
            "setup": ["npm ci"], "env": { "A": { "from_env": "B" } }, "protected": ["conftest.py"],
            "timeouts": { "edit": 1, "static": 2, "runtime": 3, "fix": 4 },
            "recovery": { "retries": 2, "backoff_seconds": 6, "reduce_context": false, "fallback": ["codex"] },
            "patch": { "max_lines_changed": 300, "max_files_changed": 10, "forbid_binary": true, "forbidden_paths": ["secrets/**"] },
            "keep_worktrees": "always", "worktrees": "/w", "shared_environment": true, "on_crash": "quarantine",
            "limits": {
                "fixes": { "static": 1, "runtime": 4 }, "window": 6, "repeats": 3, "same_failure": 5,
                "fix_for": ["runtime"], "agent_attempts": 7, "timeout_seconds": 60, "on_trip": "quarantine",
            },
        });
        let resolved = given(&[], table.clone(), &[]).resolve().unwrap();
        let (mut settings, limits) = (json!(resolved.settings), json!(resolved.limits));
        for key in [
            "setup",
            "env",
            "protected",
            "recovery",
            "patch",
            "keep_worktrees",
            "worktrees",
            "shared_environment",
            "on_crash",
            "tool",
            "max_workers",
        ] {
            assert_eq!(settings[key], table[key], "{key}");
        }
        assert_eq!(settings["timeouts"], json!({ "edit": 1.0, "static": 2.0, "runtime": 3.0, "fix": 4.0 }));
        let mut wanted = table["limits"].clone();
        wanted["timeout_seconds"] = json!(60.0);
        assert_eq!(limits, wanted);
        let kinds: Vec<_> = resolved.checks.iter().map(|check| (check.kind, check.name.as_str())).collect();
        assert_eq!(kinds, [(CheckKind::Static, "ruff check ."), (CheckKind::Runtime, "pytest -q")]);
        assert_eq!(resolved.checks[1].timeout_seconds, Seconds::new(3.0).unwrap());
        assert_eq!(serde_json::from_value::<Settings>(settings.clone()).unwrap(), resolved.settings);
        // An older engine wrote less, a newer one more.
        settings.as_object_mut().unwrap().remove("patch");
        settings["of_tomorrow"] = json!(1);
        assert_eq!(serde_json::from_value::<Settings>(settings).unwrap().patch, PatchPolicy::default());
    }

    #[test]
    fn checks_come_as_a_whole_from_the_highest_that_names_some() {
        let invoke = ("config/invoke.yaml", include_str!("../../tests/data/workstreams/invoke.yaml"));
        let mut given = given(&[], json!({ "static": [] }), &[invoke]);
        let resolved = given.resolve().unwrap();
        let names: Vec<_> = resolved.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(
            (names, from(&resolved, "checks.static"), from(&resolved, "checks.runtime")),
            (vec!["pytest"], "engine.toml".to_owned(), "config/invoke.yaml:29".to_owned())
        );
        given.flags.checks = vec!["ruff".to_owned(), "mypy .".to_owned()];
        let resolved = given.resolve().unwrap();
        let names: Vec<_> = resolved.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(
            (names, from(&resolved, "checks.static")),
            (vec!["ruff", "mypy .", "pytest"], "flag --check".to_owned())
        );
    }

    #[test]
    fn a_bundle_outranks_files_and_gives_way_to_flags_and_variables() {
        let table = json!({ "recovery": { "retries": 5 }, "limits": { "repeats": 4, "same_failure": 6 } });
        let given = given(&[("PIPELINE_TIMEOUT_SEC", "20")], table, &[]);
        let bundle = Bundle::read(&json!({
            "id": "ws-a", "openspec_change": "-", "ccpm_issue": 1, "gate": 1, "files_scope": ["a"], "tasks": ["t"],
            "tool": "aider", "circuit_breaker": { "oscillation_threshold": 3, "max_attempts": 2 },
            "capability_payload": { "max_retries": 0, "timeout_ms": 2000 }, "acceptance_tests": ["$ make"],
        }));
        let own = given.resolve().unwrap().for_bundle("b.json", &bundle.unwrap());
        assert_eq!((own.checks.len(), own.checks[0].kind), (1, CheckKind::Accept));
        assert_eq!((own.limits.repeats, own.limits.same_failure, own.limits.agent_attempts), (3, 6, Some(2)));
        assert_eq!(
            (own.settings.recovery.retries, own.settings.timeouts.edit),
            (0, Seconds::new(2.0).unwrap())
        );
        assert_eq!(
            (from(&own, "limits.repeats"), from(&own, "limits.same_failure")),
            ("b.json".to_owned(), "engine.toml".to_owned())
        );
        assert_eq!(own.limits.timeout_seconds, Seconds::new(20.0).unwrap());
    }

    #[test]
    fn variables_are_read_or_named() {
        let dry_run = |value: &str| {
            given(&[("PIPELINE_DRY_RUN", value)], json!({}), &[]).resolve().map(|resolved| resolved.dry_run)
        };
        assert_eq!(
            ["1", "true", "0", "false", ""].map(|value| dry_run(value).unwrap()),
            [true, true, false, false, false]
        );
        assert_eq!(dry_run("yes, please").unwrap_err(), ["PIPELINE_DRY_RUN: expected 0 or 1"]);
        for (name, value) in
            [("PIPELINE_MAX_WORKERS", "0"), ("PIPELINE_MAX_WORKERS", "many"), ("PIPELINE_TIMEOUT_SEC", "-1")]
        {
            assert_eq!(
                given(&[(name, value)], json!({}), &[]).resolve().unwrap_err(),
                [format!("{name}: expected an integer from 1")]
            );
        }
        let table = json!({ "wave_delay_sec": 2 });
        let resolved = given(&[("PIPELINE_DB_PATH", "x"), ("PIPELINE_WORKSTREAM_DIR", "ws")], table, &[])
            .resolve()
            .unwrap();
        let warnings: Vec<_> = resolved.warnings.iter().map(Fault::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("PIPELINE_DB_PATH: ")
                && warnings[1].starts_with("engine.toml: `wave_delay_sec`")
        );
    }

    #[test]
    fn files_that_cannot_be_read_are_named_with_line_and_column_and_all_at_once() {
        let files = [
            ("config/circuit_breakers.yaml", "defaults:\n  a: 1\n  a: 2\n"),
            ("config/circuit_breaker_config.yaml", "timeouts: {edit: soon}"),
            ("config/tool_profiles.json", "{\"a\": 1,\n \"a\": 2}"),
            ("config/invoke.yaml", "a: [1"),
        ];
        let table = json!({
            "static": [{ "profile": "no" }], "protected": ["a[", "b"], "patch": { "forbidden_paths": ["../x"] },
        });
        let mut given = given(&[("PIPELINE_MAX_WORKERS", "x")], table, &files);
        given.files.push(OriginalFile { name: "invoke.yaml".into(), bytes: b"a: \xff".to_vec() });
        let faults = given.resolve().unwrap_err();
        for (fault, wanted) in faults.iter().zip([
            "PIPELINE_MAX_WORKERS: expected",
            "config/circuit_breakers.yaml:3:3: /defaults/a: duplicate key",
            "config/circuit_breaker_config.yaml:1:18: /timeouts/edit: expected a number of seconds",
            "config/tool_profiles.json:2:2: /a: duplicate key",
            "config/invoke.yaml:",
            "invoke.yaml:1:4: the file is not UTF-8",
            "engine.toml: `protected`: `a[` is not a valid glob",
            "engine.toml: `patch`: `../x` ",
            "engine.toml: no tool profile is called `no`",
        ]) {
            assert!(fault.starts_with(wanted), "{fault}: {wanted}");
        }
        assert_eq!(faults.len(), 9, "{faults:?}");
    }
}
