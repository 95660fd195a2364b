//! The breaker files of the original in their forms, and a bundle's `circuit_breaker`, as values of one canonical form.
//!
//! The table of limits in `docs/settings.md` says which key becomes which value. Hard rule: a key that is not read is named.

use serde_json::Value;

use super::layers::Layer;
use super::original::{Fault, Node, Original};
use super::spec::Bundle;

/// What a file of breakers says.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub values: Layer,
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

/// The steps of the original's loop that may be mended.
const PHASES: [&str; 2] = ["static", "runtime"];

/// A rule of the loop that sees less than two of anything would trip at once.
const FEWEST: u32 = 2;

impl Found {
    /// Reads the breakers of a file, whichever form it has.
    pub(super) fn of_file(file: &Original<'_>) -> Self {
        let mut found = Self::default();
        let top = file.top();
        if top.value.is_null() {
            return found;
        }
        match (top.value.is_object(), file.name.ends_with("invoke.yaml")) {
            (true, false) => found.flat(&top),
            // The settings of the whole of the original: only two of its tables matter.
            (true, true) => found.orchestrator(&top),
            (false, _) => found.faults.push(top.fault("expected an object")),
        }
        match top.get("circuit_breakers") {
            Some(list) if list.value.is_array() => found.list(&list),
            Some(flat) if flat.value.is_object() => found.flat(&flat),
            Some(other) => found.faults.push(other.fault("expected a list or an object")),
            None => {}
        }
        found
    }

    fn note<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        let note = |fault: Fault| {
            // A key that counts for several steps is wrong once.
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        };
        result.map_err(note).ok()
    }

    fn set(&mut self, key: &str, node: &Node<'_>, value: impl Into<Value>) {
        self.values.set(key, value, node.origin());
    }

    fn ignore(&mut self, node: &Node<'_>) {
        self.warnings.push(node.fault("it has no effect"));
    }

    fn count(&mut self, key: &str, node: &Node<'_>) {
        if let Some(count) = self.note(node.count()) {
            self.set(key, node, count);
        }
    }

    fn count_of_many(&mut self, key: &str, node: &Node<'_>) {
        let Some(count) = self.note(node.count()) else { return };
        if count < FEWEST {
            self.warnings.push(node.fault(format!("{count} counts as {FEWEST}")));
        }
        self.set(key, node, count.max(FEWEST));
    }

    /// The keys of an object that is no list of breakers: of the documented file, and of the real one.
    fn flat(&mut self, object: &Node<'_>) {
        let defaults = object.get("defaults").and_then(|node| self.note(node.object()));
        let steps = object.get("per_step").and_then(|node| self.note(node.object()));
        let of_defaults = defaults.iter().flat_map(Node::entries).collect::<Vec<_>>();
        for (key, node) in of_defaults.into_iter().chain(object.entries()) {
            match key {
                "max_fix_iterations" => self.fix_iterations(&node),
                "timeouts" => self.timeouts(&node),
                "min_oscillation_repeats" => self.count_of_many("limits.repeats", &node),
                "circuit_breakers" | "defaults" | "per_step" => {}
                key => self.of_all_steps(key, &node),
            }
        }
        for (name, step) in steps.iter().flat_map(Node::entries) {
            self.step(name, &step);
        }
        for phase in PHASES {
            let step = steps.as_ref().and_then(|steps| steps.get(phase));
            self.fixes(phase, &[step.as_ref(), Some(object), defaults.as_ref()]);
        }
    }

    fn of_all_steps(&mut self, key: &str, node: &Node<'_>) {
        match key {
            "oscillation_window" => self.count_of_many("limits.window", node),
            "oscillation_threshold" => self.count_of_many("limits.repeats", node),
            "max_attempts_per_error_signature" => self.count_of_many("limits.same_failure", node),
            "enable_fix_for_steps" => self.fix_for(node),
            // These two are read together; `max_attempts` is their name in the list form.
            "max_fix_attempts_per_step" | "max_attempts_per_step" | "max_attempts" => {}
            _ => self.ignore(node),
        }
    }

    fn step(&mut self, name: &str, step: &Node<'_>) {
        if !PHASES.contains(&name) {
            return self.ignore(step);
        }
        let Some(step) = self.note(step.clone().object()) else { return };
        let is_read = |key| matches!(key, "max_fix_attempts_per_step" | "max_attempts_per_step");
        for (_, node) in step.entries().filter(|(key, _)| !is_read(*key)) {
            self.ignore(&node);
        }
    }

    /// How many fixes two limits leave: the smaller of fixes and of runs less the first one. Each comes from the first object
    /// that has it.
    fn fixes(&mut self, phase: &str, objects: &[Option<&Node<'_>>]) {
        let first = |keys: &[&str]| objects.iter().flatten().find_map(|object| object.first(keys));
        let fixes = first(&["max_fix_attempts_per_step"]);
        let runs = first(&["max_attempts_per_step", "max_attempts"]);
        let fixes = fixes.and_then(|node| Some((self.note(node.count())?, node)));
        let runs = runs.and_then(|node| Some((self.note(node.count())?.saturating_sub(1), node)));
        if let Some((count, node)) = fixes.into_iter().chain(runs).min_by_key(|(count, _)| *count) {
            self.set(&format!("limits.fixes.{phase}"), &node, count);
        }
    }

    fn fix_iterations(&mut self, object: &Node<'_>) {
        let Some(object) = self.note(object.clone().object()) else { return };
        for (name, node) in object.entries() {
            match PHASES.contains(&name) {
                true => self.count(&format!("limits.fixes.{name}"), &node),
                false => self.ignore(&node),
            }
        }
    }

    fn timeouts(&mut self, object: &Node<'_>) {
        let Some(object) = self.note(object.clone().object()) else { return };
        for (name, node) in object.entries() {
            if !["edit", "static", "runtime", "fix"].contains(&name) {
                self.ignore(&node);
            } else if let Some(seconds) = self.note(node.seconds()) {
                self.set(&format!("timeouts.{name}"), &node, serde_json::json!(seconds));
            }
        }
    }

    fn fix_for(&mut self, node: &Node<'_>) {
        let Some(steps) = self.note(node.texts()) else { return };
        for item in node.items().filter(|item| !PHASES.iter().any(|phase| item.value == phase)) {
            self.ignore(&item);
        }
        let steps: Vec<String> = steps.into_iter().filter(|step| PHASES.contains(&step.as_str())).collect();
        self.set("limits.fix_for", node, steps);
    }

    /// The form that lists breakers with a type each.
    fn list(&mut self, list: &Node<'_>) {
        for item in list.items() {
            let Some(item) = self.note(item.object()) else { continue };
            let kind = item.get("type").ok_or_else(|| item.fault("a breaker needs a `type`"));
            let kind = kind.and_then(|kind| kind.text().map(|text| (text, kind)));
            let Some((kind, at)) = self.note(kind) else { continue };
            match kind {
                "oscillation" => {
                    for (name, key) in [("window_size", "limits.window"), ("threshold", "limits.repeats")] {
                        item.get(name).iter().for_each(|node| self.count_of_many(key, node));
                    }
                }
                "max_attempts" => self.runs(&item),
                "timeout" => self.minutes(&item),
                // A change out of scope always ends a workstream.
                "scope_violation" => {}
                _ => self.ignore(&at),
            }
        }
    }

    fn runs(&mut self, item: &Node<'_>) {
        let Some(node) = item.get("limit") else { return };
        let Some(limit) = self.note(node.count()) else { return };
        for phase in PHASES {
            self.set(&format!("limits.fixes.{phase}"), &node, limit.saturating_sub(1));
        }
    }

    fn minutes(&mut self, item: &Node<'_>) {
        let Some(node) = item.get("duration_minutes") else { return };
        let Some(minutes) = node.value.as_f64().filter(|minutes| *minutes > 0.0) else {
            self.faults.push(node.fault("expected a number of minutes above 0"));
            return;
        };
        self.set("limits.timeout_seconds", &node, minutes * 60.0);
    }

    /// The checks that the original's own settings name.
    fn orchestrator(&mut self, top: &Node<'_>) {
        let Some(settings) = top.get("orchestrator").and_then(|node| self.note(node.object())) else {
            return;
        };
        if let Some(node) = settings.get("static_tools")
            && let Some(tools) = self.note(node.texts())
        {
            self.set("checks.static", &node, tools);
        }
        if let Some(node) = settings.get("runtime_tool")
            && let Some(tool) = self.note(node.text())
        {
            self.set("checks.runtime", &node, vec![tool]);
        }
        if let Some(node) = settings.get("wave_delay_sec") {
            self.ignore(&node);
        }
    }
}

/// The limits that a bundle sets for itself; `file` is its file.
#[must_use]
pub(super) fn of_bundle(file: &str, bundle: &Bundle) -> Layer {
    let mut values = Layer::default();
    if let Some(breaker) = &bundle.circuit_breaker {
        for (key, count, least) in [
            ("limits.agent_attempts", breaker.max_attempts, 1),
            ("limits.same_failure", breaker.max_error_repeats, FEWEST),
            ("limits.repeats", breaker.oscillation_threshold, FEWEST),
        ] {
            if let Some(count) = count {
                values.set(key, count.as_u32().max(least), file);
            }
        }
    }
    let payload = bundle.capability_payload.as_ref();
    if let Some(retries) = payload.and_then(|payload| payload.max_retries) {
        values.set("recovery.retries", retries.as_u32(), file);
    }
    if let Some(milliseconds) = payload.and_then(|payload| payload.timeout_ms) {
        values.set("timeouts.edit", f64::from(milliseconds.as_u32()) / 1000.0, file);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::original::OriginalFile;
    use serde_json::json;

    fn found(name: &str, text: &str) -> Found {
        let file = OriginalFile { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
        Found::of_file(&Original::read(&file).unwrap())
    }

    fn lines(faults: &[Fault]) -> Vec<String> {
        faults.iter().map(Fault::to_string).collect()
    }

    /// Cells of the table of limits in `docs/settings.md`: what a file says, the key, its value, and the line.
    type Cells<'a> = [(&'a str, &'a str, &'a str, usize)];

    fn hold(name: &str, cells: &Cells<'_>) {
        for (text, key, value, line) in cells {
            let found = found(name, text);
            assert_eq!(lines(&found.faults), [""; 0], "{text}");
            let sourced = found.values.get(key).unwrap_or_else(|| panic!("{key} of {text}"));
            assert_eq!(sourced.value.to_string(), *value, "{key} of {text}");
            assert_eq!(sourced.from, format!("{name}:{line}"), "{key} of {text}");
        }
    }

    #[test]
    fn every_key_of_the_documented_form_has_its_value() {
        let cells: &Cells<'_> = &[
            ("max_fix_iterations:\n  static: 4", "limits.fixes.static", "4", 2),
            ("max_fix_iterations: {runtime: 0}", "limits.fixes.runtime", "0", 1),
            ("oscillation_window: 6", "limits.window", "6", 1),
            ("min_oscillation_repeats: 3", "limits.repeats", "3", 1),
            ("min_oscillation_repeats: 1", "limits.repeats", "2", 1),
            ("timeouts:\n  edit: 1.5", "timeouts.edit", "1.5", 2),
            ("timeouts: {static: 7}", "timeouts.static", "7.0", 1),
            ("timeouts: {runtime: 7}", "timeouts.runtime", "7.0", 1),
            ("timeouts: {fix: 7}", "timeouts.fix", "7.0", 1),
        ];
        hold("config/circuit_breaker_config.yaml", cells);
    }

    #[test]
    fn every_key_of_the_form_with_defaults_and_steps_has_its_value() {
        let runs = "defaults:\n  max_attempts_per_step: 3\n  max_fix_attempts_per_step: ";
        let both = (format!("{runs}1"), format!("{runs}5"));
        let step =
            "defaults: {max_fix_attempts_per_step: 1}\nper_step:\n  static: {max_fix_attempts_per_step: 4}";
        let mixed =
            "per_step: {static: {max_fix_attempts_per_step: 4}}\ndefaults: {max_attempts_per_step: 3}";
        let cells: &Cells<'_> = &[
            ("defaults:\n  max_attempts_per_step: 3", "limits.fixes.static", "2", 2),
            ("defaults: {max_attempts_per_step: 0}", "limits.fixes.static", "0", 1),
            ("defaults:\n  max_fix_attempts_per_step: 2", "limits.fixes.runtime", "2", 2),
            (&both.0, "limits.fixes.static", "1", 3),
            (&both.1, "limits.fixes.runtime", "2", 2),
            ("defaults: {oscillation_window: 6}", "limits.window", "6", 1),
            ("defaults: {oscillation_threshold: 3}", "limits.repeats", "3", 1),
            ("defaults: {oscillation_threshold: 1}", "limits.repeats", "2", 1),
            ("defaults: {max_attempts_per_error_signature: 4}", "limits.same_failure", "4", 1),
            ("defaults: {enable_fix_for_steps: [runtime]}", "limits.fix_for", "[\"runtime\"]", 1),
            // What is given for one step outranks what is given for all; each of the two keys by itself.
            (step, "limits.fixes.static", "4", 3),
            (step, "limits.fixes.runtime", "1", 1),
            (mixed, "limits.fixes.static", "2", 2),
            // The flat form without a table around it.
            ("max_fix_attempts_per_step: 3", "limits.fixes.static", "3", 1),
        ];
        hold("config/circuit_breakers.yaml", cells);
    }

    #[test]
    fn every_key_of_the_form_that_lists_breakers_has_its_value() {
        let one = |rest: &str| format!("circuit_breakers:\n- {{id: a, type: {rest}");
        let (attempts, window) = (one("max_attempts, limit: 3}"), one("oscillation, window_size: 3}"));
        let (repeats, minutes) = (one("oscillation, threshold: 3}"), one("timeout, duration_minutes: 60}"));
        let beside = format!("{attempts}\ndefaults: {{max_attempts: 9}}");
        let cells: &Cells<'_> = &[
            (&attempts, "limits.fixes.static", "2", 2),
            (&attempts, "limits.fixes.runtime", "2", 2),
            (&window, "limits.window", "3", 2),
            (&repeats, "limits.repeats", "3", 2),
            (&minutes, "limits.timeout_seconds", "3600.0", 2),
            // A breaker of the list outranks the defaults beside it.
            (&beside, "limits.fixes.static", "2", 2),
            ("circuit_breakers: []\ndefaults: {max_attempts: 9}", "limits.fixes.static", "8", 2),
        ];
        hold("config/circuit_breakers.yaml", cells);
    }

    #[test]
    fn every_key_of_the_settings_of_the_original_has_its_value() {
        let step = "circuit_breakers:\n  per_step:\n    runtime: {max_attempts_per_step: 3}";
        let cells: &Cells<'_> = &[
            ("circuit_breakers:\n  oscillation_window: 6", "limits.window", "6", 2),
            ("circuit_breakers:\n  max_attempts_per_step: 3", "limits.fixes.runtime", "2", 2),
            (step, "limits.fixes.runtime", "2", 3),
            ("orchestrator:\n  static_tools: [ruff, mypy]", "checks.static", "[\"ruff\",\"mypy\"]", 2),
            ("orchestrator:\n  runtime_tool: pytest", "checks.runtime", "[\"pytest\"]", 2),
        ];
        hold("config/invoke.yaml", cells);
        hold("invoke.yaml", cells);
    }

    #[test]
    fn a_bundle_sets_its_own_limits() {
        let mut document = json!({
            "id": "ws-a", "openspec_change": "-", "ccpm_issue": 1, "gate": 1, "files_scope": ["a"], "tasks": ["t"],
            "tool": "aider",
        });
        assert_eq!(of_bundle("f", &Bundle::read(&document).unwrap()), Layer::default());
        document["circuit_breaker"] =
            json!({ "max_attempts": 4, "max_error_repeats": 0, "oscillation_threshold": 3 });
        document["capability_payload"] = json!({ "timeout_ms": 1500, "max_retries": 0 });
        let layer = of_bundle("workstreams/a.json", &Bundle::read(&document).unwrap());
        let tree = json!({
            "limits": { "agent_attempts": 4, "same_failure": 2, "repeats": 3 },
            "timeouts": { "edit": 1.5 }, "recovery": { "retries": 0 },
        });
        assert_eq!(layer.tree(), tree);
        assert_eq!(layer.get("timeouts.edit").unwrap().from, "workstreams/a.json");
    }

    #[test]
    fn whole_files_are_read_and_what_has_no_effect_is_named_with_its_line() {
        let read = |name: &str, text: &str| {
            let found = found(name, text);
            assert_eq!(lines(&found.faults), [""; 0], "{name}");
            (found.values.tree(), lines(&found.warnings))
        };
        let (tree, warnings) =
            read("a.yaml", include_str!("../../tests/data/workstreams/circuit_breaker_config.yaml"));
        let wanted = json!({
            "limits": { "fixes": { "static": 4, "runtime": 1 }, "window": 6, "repeats": 3 },
            "timeouts": { "edit": 900.0, "static": 200.5, "runtime": 400.0, "fix": 500.0 },
        });
        assert_eq!(
            (tree, warnings),
            (wanted, vec!["a.yaml:12:17: /wave_delay_sec: it has no effect".to_owned()])
        );
        let (tree, warnings) =
            read("b.yaml", include_str!("../../tests/data/workstreams/circuit_breakers.yaml"));
        let wanted = json!({ "limits": {
            "fixes": { "static": 3, "runtime": 1 }, "window": 7, "repeats": 3, "same_failure": 4, "fix_for": ["static"],
        } });
        assert_eq!((tree, warnings.len()), (wanted, 1), "{warnings:?}");
        assert!(warnings[0].starts_with("b.yaml:10:7: /defaults/enable_fix_for_steps/1: "), "{warnings:?}");
        let (tree, warnings) =
            read("c.yaml", include_str!("../../tests/data/workstreams/circuit_breakers_list.yaml"));
        let wanted = json!({ "limits": {
            "fixes": { "static": 2, "runtime": 2 }, "window": 8, "repeats": 4, "timeout_seconds": 90.0,
        } });
        assert_eq!((tree, warnings.len()), (wanted, 1), "{warnings:?}");
        assert!(warnings[0].starts_with("c.yaml:20:11: /circuit_breakers/4/type: "), "{warnings:?}");
        let (tree, warnings) = read("invoke.yaml", include_str!("../../tests/data/workstreams/invoke.yaml"));
        let wanted = json!({
            "checks": { "static": ["ruff"], "runtime": ["pytest"] },
            "limits": {
                "fixes": { "static": 2, "runtime": 1 }, "window": 4, "repeats": 2, "same_failure": 3,
                "fix_for": ["static", "runtime"],
            },
        });
        assert_eq!((tree, warnings.len()), (wanted, 2), "{warnings:?}");
        assert_eq!(read("d.yaml", "# nothing\n"), (json!({}), vec![]));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_a_fault_at_its_place_and_all_are_told() {
        for (text, wanted) in [
            (
                "defaults: {oscillation_window: many}",
                vec!["f.yaml:1:32: /defaults/oscillation_window: expected an integer"],
            ),
            ("defaults: {oscillation_window: -1}", vec!["expected an integer from 0"]),
            ("defaults: {oscillation_window: 1.5}", vec!["expected an integer from 0"]),
            ("defaults: {oscillation_window: '4'}", vec!["expected an integer from 0"]),
            (
                "defaults: 4\nper_step: []",
                vec!["f.yaml:1:11: /defaults: expected an object", "f.yaml:2:11: /per_step: "],
            ),
            ("per_step: {static: 3}", vec!["/per_step/static: expected an object"]),
            ("max_fix_iterations: {static: no}", vec!["/max_fix_iterations/static: expected an integer"]),
            ("timeouts: {edit: 0}", vec!["expected a number of seconds above 0"]),
            ("defaults: {enable_fix_for_steps: static}", vec!["expected a list of texts"]),
            ("defaults: {max_attempts_per_step: x}", vec!["max_attempts_per_step: expected an integer"]),
            ("circuit_breakers: 3", vec!["/circuit_breakers: expected a list or an object"]),
            (
                "circuit_breakers: [3, {id: a}]",
                vec!["/circuit_breakers/0: expected an object", "needs a `type`"],
            ),
            ("circuit_breakers: [{type: timeout, duration_minutes: 0}]", vec!["minutes above 0"]),
            ("[1]", vec!["f.yaml:1:1: expected an object"]),
        ] {
            let faults = lines(&found("f.yaml", text).faults);
            assert!(faults.len() == wanted.len(), "{text}: {faults:?}");
            assert!(
                faults.iter().zip(&wanted).all(|(fault, wanted)| fault.contains(wanted)),
                "{text}: {faults:?}"
            );
        }
    }
}
