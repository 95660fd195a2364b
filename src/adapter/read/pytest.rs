//! pytest's own summary: the last line (`== 5 passed, 2 failed in 0.12s ==`) and the lines `FAILED file::test - why`.

use super::junit::TestCounts;
use super::{Evidence, Reading, Report, Verdict};

/// Reads the `JUnit` report if the job names one, else what pytest printed.
#[must_use]
pub fn read(evidence: &Evidence<'_>) -> Reading {
    if *evidence.report != Report::NotNamed {
        return super::junit::read(evidence);
    }
    let ending = evidence.stdout.ending();
    let text = strip_colors(&String::from_utf8_lossy(&ending));
    // Called wrongly: it says "no tests ran", but that is not the point.
    if let Some(counts) = counts(&text).filter(|counts| evidence.exit_code != 4 || counts.total() > 0) {
        return counts.judge(evidence);
    }
    let mut reading = Reading::of_exit_code(evidence);
    match evidence.exit_code {
        // The codes that pytest documents; other tools may mean something else by them, and their words are below.
        2 => {
            reading
                .fail("exit_code", "the test run was interrupted, or collecting the tests failed (code 2)");
        }
        4 => reading.fail("exit_code", "pytest was called wrongly, or a path does not exist (code 4)"),
        5 => reading.fail("no_tests_run", "no test was found (code 5)"),
        _ if reading.verdict == Verdict::Success => reading.fail(
            "no_test_summary",
            "exit code 0, but nothing says that a test was run: no pytest summary line in the output \
             (not `-qq`), and no `metadata.junit_file`",
        ),
        _ => {}
    }
    if reading.details.is_empty() {
        reading.details = super::last_lines(evidence.stdout, 20);
    }
    reading
}

/// Finds the last summary line and the names before it.
fn counts(text: &str) -> Option<TestCounts> {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().rposition(|line| summary(line).is_some())?;
    let mut counts = summary(lines.get(last)?)?;
    for line in lines.get(..last).unwrap_or_default() {
        if let Some(rest) = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR ")) {
            let name = rest.split_once(" - ").map_or(rest, |(name, _)| name);
            counts.name(name.trim());
        }
    }
    Some(counts)
}

/// Reads one line as a summary.
fn summary(line: &str) -> Option<TestCounts> {
    let line = line.trim().trim_matches('=').trim();
    let (parts, time) = line.rsplit_once(" in ")?;
    if !time.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut counts = TestCounts::default();
    if parts == "no tests ran" {
        return Some(counts);
    }
    for part in parts.split(", ") {
        let (number, what) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match what {
            "passed" | "xfailed" | "xpassed" => counts.passed = counts.passed.saturating_add(number),
            "failed" => counts.failed = counts.failed.saturating_add(number),
            "skipped" => counts.skipped = counts.skipped.saturating_add(number),
            "error" | "errors" => counts.errors = counts.errors.saturating_add(number),
            "warning" | "warnings" | "deselected" | "rerun" | "subtests passed" => {}
            // `3 subtests failed` and what plug-ins add.
            _ if what.ends_with("failed") => counts.failed = counts.failed.saturating_add(number),
            _ if what.chars().all(|c| c.is_ascii_alphabetic() || c == ' ') => {}
            _ => return None,
        }
    }
    Some(counts)
}

fn strip_colors(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = after.get(end..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::super::testing::read_texts;
    use super::*;
    use crate::adapter::manifest::ReaderName;

    fn read(code: i32, out: &str) -> Reading {
        read_texts(ReaderName::Pytest, code, out.as_bytes(), b"", &Report::NotNamed)
    }

    fn numbers(line: &str) -> Option<(u64, u64, u64, u64)> {
        summary(line).map(|c| (c.passed, c.failed, c.skipped, c.errors))
    }

    #[test]
    fn summary_lines_of_all_forms_are_read() {
        assert_eq!(
            numbers("===== 5 passed, 2 failed, 1 skipped, 1 error in 0.12s ====="),
            Some((5, 2, 1, 1))
        );
        assert_eq!(numbers("5 passed in 0.1s"), Some((5, 0, 0, 0)));
        assert_eq!(
            numbers("= 1 failed, 3 passed, 2 warnings, 1 xfailed, 4 deselected in 65.43s (0:01:05) ="),
            Some((4, 1, 0, 0))
        );
        assert_eq!(numbers("==== no tests ran in 0.01s ===="), Some((0, 0, 0, 0)));
        assert_eq!(numbers("2 skipped in 0.01s"), Some((0, 0, 2, 0)));
        for line in ["", "passed in 1s", "I passed the test in 3 minutes", "collected 5 items", "1 in 2"] {
            assert_eq!(numbers(line), None, "{line}");
        }
    }

    #[test]
    fn counts_and_names_of_failed_tests_are_read_with_colors_too() {
        let out = "\u{1b}[1m=== short test summary info ===\u{1b}[0m\nFAILED t/test_a.py::test_x - assert 1 == 2\n\
                   ERROR t/test_b.py\n\u{1b}[31m==== \u{1b}[1m1 failed\u{1b}[0m, 1 error\u{1b}[0m in 0.10s ====\u{1b}[0m\n";
        let reading = read(1, out);
        assert_eq!(reading.details, ["t/test_a.py::test_x", "t/test_b.py"]);
        assert_eq!(reading.metadata["failed"], 1);
        assert_eq!(reading.reason.unwrap().message, "tests failed: 1 failures, 1 errors");
    }

    #[test]
    fn zero_tests_run_is_not_a_success() {
        assert_eq!(read(5, "==== no tests ran in 0.01s ====").reason.unwrap().code, "no_tests_run");
        assert_eq!(read(0, "2 skipped in 0.01s").reason.unwrap().code, "no_tests_run");
        assert_eq!(read(0, "").reason.unwrap().code, "no_test_summary");
    }

    #[test]
    fn passed_tests_and_exit_code_zero_are_a_success_and_either_alone_is_not() {
        assert_eq!(read(0, "3 passed in 1.00s").verdict, Verdict::Success);
        assert_eq!(read(1, "3 passed in 1.00s").verdict, Verdict::Failure);
        assert_eq!(read(0, "3 passed, 1 failed in 1.00s").verdict, Verdict::Failure);
    }
}
