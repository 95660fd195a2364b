//! Test reports in the `JUnit` XML form, as pytest, Maven, cargo-nextest, Jest and others write it.
//!
//! Counted are the `testcase` elements, not the attributes of their suite, which not every tool keeps right.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

use super::{Evidence, Reading, Report, Verdict};

/// Counts of a test run, and the names of what did not pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestCounts {
    /// Tests that passed, expected failures included.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run.
    pub skipped: u64,
    /// Tests, or files of tests, that could not be run.
    pub errors: u64,
    /// Names of failed tests and errors, at most `MAX_NAMES`.
    pub failed_tests: Vec<String>,
}

/// More names of failed tests are only counted.
pub const MAX_NAMES: usize = 100;

impl TestCounts {
    /// All tests that were found.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.failed, self.skipped, self.errors].into_iter().fold(self.passed, u64::saturating_add)
    }

    /// The counts as they stand in a result.
    #[must_use]
    pub fn as_json(&self) -> Value {
        json!({
            "total": self.total(),
            "passed": self.passed,
            "failed": self.failed,
            "skipped": self.skipped,
            "errors": self.errors,
            "failed_tests": self.failed_tests,
        })
    }

    /// Adds the name of a test that did not pass.
    pub fn name(&mut self, name: &str) {
        if self.failed_tests.len() < MAX_NAMES {
            // Cut only after the redaction: a secret on the edge would lose its end and not be known any more.
            self.failed_tests.push(name.to_owned());
        }
    }

    /// Judges a run: no failure, no error, and at least one test that ran.
    #[must_use]
    pub fn judge(self, evidence: &Evidence<'_>) -> Reading {
        let mut reading = Reading::of_exit_code(evidence);
        if self.failed > 0 || self.errors > 0 {
            let message = format!("tests failed: {} failures, {} errors", self.failed, self.errors);
            reading.fail("tests_failed", message);
            reading.details.clone_from(&self.failed_tests);
        } else if self.passed == 0 {
            let message = format!("no test was run ({} skipped)", self.skipped);
            reading.fail("no_tests_run", message);
        }
        let counts = self.as_json();
        reading.metadata = counts.as_object().cloned().unwrap_or_default();
        reading.test_results = Some(counts);
        reading
    }
}

/// Reads the report that the job names.
#[must_use]
pub fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading::of_exit_code(evidence);
    match evidence.report {
        Report::Written(xml) => match counts(xml) {
            Ok(counts) => return counts.judge(evidence),
            Err(problem) => reading.fail("test_report_unreadable", format!("the test report is {problem}")),
        },
        _ if reading.verdict == Verdict::Failure => {}
        Report::NotWritten => {
            reading
                .fail("test_report_missing", "the tool exited with success but did not write `junit_file`");
        }
        Report::NotNamed => reading.fail("test_report_missing", "give `metadata.junit_file`"),
    }
    reading
}

/// Counts the test cases of a report.
///
/// # Errors
/// What is wrong with it, where it is not well-formed or not such a report.
pub fn counts(xml: &[u8]) -> Result<TestCounts, String> {
    let mut reader = Reader::from_reader(xml);
    let mut buffer = Vec::new();
    let mut found = TestCounts::default();
    let mut case: Option<Case> = None;
    let mut is_report = false;
    let mut depth = 0usize;
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer) {
            Err(error) => return Err(format!("not XML: {error}")),
            Ok(Event::Eof) if depth > 0 => return Err("truncated".to_owned()),
            Ok(Event::Eof) => break,
            Ok(Event::Start(element)) => {
                depth += 1;
                is_report |= element.name().as_ref().starts_with("testsuite");
                open(&element, &mut case);
            }
            Ok(Event::Empty(element)) => {
                is_report |= element.name().as_ref().starts_with("testsuite");
                let is_case = element.name().as_ref() == "testcase";
                open(&element, &mut case);
                if is_case {
                    close(&mut case, &mut found);
                }
            }
            Ok(Event::End(element)) => {
                depth = depth.saturating_sub(1);
                if element.name().as_ref() == "testcase" {
                    close(&mut case, &mut found);
                }
            }
            Ok(_) => {}
        }
    }
    if is_report { Ok(found) } else { Err("not a JUnit report".to_owned()) }
}

#[derive(Debug, Default)]
struct Case {
    name: String,
    failed: bool,
    error: bool,
    skipped: bool,
}

fn open(element: &BytesStart<'_>, case: &mut Option<Case>) {
    match (element.name().as_ref(), case) {
        ("testcase", case) => *case = Some(Case { name: full_name(element), ..Case::default() }),
        ("failure", Some(case)) => case.failed = true,
        ("error", Some(case)) => case.error = true,
        ("skipped", Some(case)) => case.skipped = true,
        _ => {}
    }
}

fn close(case: &mut Option<Case>, found: &mut TestCounts) {
    let Some(case) = case.take() else { return };
    // A test can fail and then have an error in its clean-up: it is one failed test.
    match case {
        Case { failed: true, name, .. } => {
            found.failed += 1;
            found.name(&name);
        }
        Case { error: true, name, .. } => {
            found.errors += 1;
            found.name(&name);
        }
        Case { skipped: true, .. } => found.skipped += 1,
        Case { .. } => found.passed += 1,
    }
}

fn full_name(element: &BytesStart<'_>) -> String {
    let attribute = |name: &str| {
        let found = element.try_get_attribute(name).ok()??;
        let raw = found.value.into_owned();
        Some(quick_xml::escape::unescape(&raw).map_or(raw.clone(), std::borrow::Cow::into_owned))
    };
    match (attribute("classname").filter(|class| !class.is_empty()), attribute("name")) {
        (Some(class), Some(name)) => format!("{class}::{name}"),
        (None, Some(name)) => name,
        (class, None) => class.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::read_texts;
    use super::*;
    use crate::adapter::manifest::ReaderName;

    const XML: &str = r#"<?xml version="1.0"?><testsuites><testsuite name="s" tests="99">
        <testcase classname="a.B" name="ok"/><testcase classname="a.B" name="bad &lt;1&gt;"><failure message="m">x</failure></testcase>
        <testcase name="skip"><skipped/></testcase><testcase name="err"><error/></testcase>
        <testcase name="both"><failure/><error/></testcase></testsuite></testsuites>"#;

    #[expect(clippy::needless_pass_by_value, reason = "the cases are written where they are read")]
    fn read(code: i32, report: Report) -> Reading {
        read_texts(ReaderName::Junit, code, b"", b"", &report)
    }

    #[test]
    fn test_cases_are_counted_and_failed_ones_named() {
        let counts = counts(XML.as_bytes()).unwrap();
        assert_eq!(
            (counts.total(), counts.passed, counts.failed, counts.skipped, counts.errors),
            (5, 1, 2, 1, 1)
        );
        assert_eq!(counts.failed_tests, ["a.B::bad <1>", "err", "both"]);
    }

    #[test]
    fn an_exit_code_of_zero_does_not_outweigh_a_failed_test() {
        let reading = read(0, Report::Written(XML.as_bytes().to_vec()));
        assert_eq!(reading.reason.unwrap().code, "tests_failed");
    }

    #[test]
    fn a_report_that_is_missing_empty_cut_or_something_else_is_no_success() {
        let code = |report| read(0, report).reason.unwrap().code;
        assert_eq!(code(Report::NotNamed), "test_report_missing");
        assert_eq!(code(Report::NotWritten), "test_report_missing");
        for xml in ["", "<html></html>", "<testsuite><testcase name='a'/>", "no xml"] {
            assert_eq!(code(Report::Written(xml.into())), "test_report_unreadable", "{xml}");
        }
        assert_eq!(code(Report::Written("<testsuite/>".into())), "no_tests_run");
    }

    #[test]
    fn all_passed_and_a_failing_exit_code_is_a_failure() {
        let xml = "<testsuite><testcase name='a'/></testsuite>";
        assert_eq!(read(0, Report::Written(xml.into())).verdict, Verdict::Success);
        assert_eq!(read(3, Report::Written(xml.into())).reason.unwrap().code, "exit_code");
    }
}
