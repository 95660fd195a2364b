//! What a prompt says of the size and the nature of the work, by the rules of the original.

use serde_json::{Map, Value};

/// The size and the nature of the work, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classification {
    /// `simple`, `moderate`, `complex` or `enterprise`.
    pub(crate) complexity: String,
    /// `standard` or `production`.
    pub(crate) quality: String,
    /// `docs`, `tests` or `code`.
    pub(crate) domain: String,
    /// `refactor`, `bugfix`, `analysis_only` or `feature`.
    pub(crate) operation: String,
}

/// What is classified.
pub(super) struct Facts<'a> {
    pub(super) paths: &'a [String],
    pub(super) tasks: &'a [String],
    pub(super) gate: u64,
    /// What the author says of it, which wins.
    pub(super) named: Option<&'a Map<String, Value>>,
}

/// Classifies a bundle.
pub(super) fn classify(facts: &Facts<'_>) -> Classification {
    let named = |key: &str, derived: &str| {
        let word = facts.named.and_then(|named| named.get(key)).and_then(Value::as_str);
        word.unwrap_or(derived).to_owned()
    };
    Classification {
        complexity: named("complexity", complexity(facts.paths.len(), facts.tasks.len())),
        quality: named("quality", if facts.gate >= 2 { "production" } else { "standard" }),
        domain: named("domain", domain(facts.paths)),
        operation: named("operation", operation(facts.tasks)),
    }
}

fn complexity(files: usize, tasks: usize) -> &'static str {
    match (files, tasks) {
        (0..=2, 0..=3) => "simple",
        (0..=5, 0..=5) => "moderate",
        (0..=10, _) => "complex",
        _ => "enterprise",
    }
}

fn domain(paths: &[String]) -> &'static str {
    if paths.iter().any(|path| path.ends_with(".md")) {
        "docs"
    } else if paths.iter().any(|path| path.contains("test")) {
        "tests"
    } else {
        "code"
    }
}

fn operation(tasks: &[String]) -> &'static str {
    let text = tasks.join("\n").to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["refactor"]) {
        "refactor"
    } else if has(&["fix", "bug"]) {
        "bugfix"
    } else if has(&["analyze", "review"]) {
        "analysis_only"
    } else {
        "feature"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(paths: &[&str], tasks: &[&str], gate: u64, named: &Value) -> [String; 4] {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (paths, tasks) = (owned(paths), owned(tasks));
        let facts = Facts { paths: &paths, tasks: &tasks, gate, named: named.as_object() };
        let Classification { complexity, quality, domain, operation } = classify(&facts);
        [complexity, quality, domain, operation]
    }

    #[test]
    fn a_bundle_is_classified_by_its_files_tasks_and_gate() {
        let none = Value::Null;
        assert_eq!(words(&["a.py"], &["Add it"], 1, &none), ["simple", "standard", "code", "feature"]);
        assert_eq!(
            words(&["a", "b", "tests/c"], &["Fix it"], 2, &none),
            ["moderate", "production", "tests", "bugfix"]
        );
        assert_eq!(
            words(&["x"; 10], &["Review the code"; 6], 1, &none),
            ["complex", "standard", "code", "analysis_only"]
        );
        assert_eq!(
            words(&["test.md"; 11], &["Fix and refactor"], 1, &none),
            ["enterprise", "standard", "docs", "refactor"]
        );
    }

    #[test]
    fn what_the_author_says_wins() {
        let named = serde_json::json!({"complexity": "complex", "domain": 3, "operation": "bugfix"});
        assert_eq!(words(&["a"], &["Add"], 1, &named), ["complex", "standard", "code", "bugfix"]);
    }
}
