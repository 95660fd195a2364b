//! Counts of a test run, and how they are judged.

use crate::job::Code;
use serde_json::{Value, json};

use super::{Evidence, Reading};

/// Counts of a test run, and the names of what did not pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TestCounts {
    /// Tests that passed, expected failures included.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run.
    pub skipped: u64,
    /// Tests, or files of tests, that could not be run.
    pub errors: u64,
    /// Tests that passed after an attempt that failed; they are among those that passed.
    pub flaky: u64,
    /// Names of failed tests and errors, at most `MAX_NAMES`.
    pub failed_tests: Vec<String>,
    /// Why the counts are not the whole truth, one sentence each, at most `MAX_NAMES`: with any of them the run is not a
    /// success.
    pub doubts: Vec<Doubt>,
}

/// Why counts are not the whole truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The code of the reason.
    pub code: Code,
    /// What contradicts the counts.
    pub message: String,
}

/// More names of failed tests are only counted.
pub(crate) const MAX_NAMES: usize = 100;

/// `1 test`, `2 tests`.
#[must_use]
pub(crate) fn number(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl TestCounts {
    /// All tests that were found.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        [self.failed, self.skipped, self.errors].into_iter().fold(self.passed, u64::saturating_add)
    }

    /// The counts as a result has them.
    #[must_use]
    pub(crate) fn as_json(&self) -> Value {
        let mut counts = json!({
            "total": self.total(),
            "passed": self.passed,
            "failed": self.failed,
            "skipped": self.skipped,
            "errors": self.errors,
            "failed_tests": self.failed_tests,
        });
        if let (true, Some(object)) = (self.flaky > 0, counts.as_object_mut()) {
            object.insert("flaky".to_owned(), self.flaky.into());
        }
        counts
    }

    /// Adds the name of a test that did not pass.
    pub(crate) fn name(&mut self, name: &str) {
        if self.failed_tests.len() < MAX_NAMES {
            // Cut only after the redaction: a secret on the edge would lose its end and not be known any more.
            self.failed_tests.push(name.to_owned());
        }
    }

    /// Adds a reason not to trust the counts.
    pub(crate) fn doubt(&mut self, code: Code, message: String) {
        if self.doubts.len() < MAX_NAMES {
            self.doubts.push(Doubt { code, message });
        }
    }

    /// Adds the counts of another report of the same run.
    pub(crate) fn add(&mut self, other: Self) {
        let sum = |one: &mut u64, other: u64| *one = one.saturating_add(other);
        sum(&mut self.passed, other.passed);
        sum(&mut self.failed, other.failed);
        sum(&mut self.skipped, other.skipped);
        sum(&mut self.errors, other.errors);
        sum(&mut self.flaky, other.flaky);
        other.failed_tests.iter().for_each(|name| self.name(name));
        other.doubts.into_iter().for_each(|doubt| self.doubt(doubt.code, doubt.message));
    }

    /// Judges a run: no failure, no error, no doubt, and at least one test that ran.
    #[must_use]
    pub(crate) fn judge(self, evidence: &Evidence<'_>) -> Reading {
        let mut reading = Reading::of_exit_code(evidence);
        let doubt = self.doubts.first();
        if self.failed > 0 || self.errors > 0 {
            let why = doubt.map_or_else(String::new, |doubt| format!("; {}", doubt.message));
            let (failures, errors) = (number(self.failed, "failure"), number(self.errors, "error"));
            let message = format!("tests failed: {failures}, {errors}{why}");
            reading.fail(Code::TestsFailed, message);
            reading.details.clone_from(&self.failed_tests);
        } else if let Some(Doubt { code, message }) = doubt {
            reading.fail(code.clone(), message.clone());
            reading.details = self.doubts.iter().map(|doubt| doubt.message.clone()).collect();
        } else if self.passed == 0 {
            let message = format!("no test ran ({} skipped)", self.skipped);
            reading.fail(Code::NoTestsRun, message);
        }
        let counts = self.as_json();
        reading.metadata = counts.as_object().cloned().unwrap_or_default();
        reading.test_results = Some(counts);
        reading
    }
}
