//! pytest's own words: the summary line (`== 5 passed, 2 failed in 0.12s ==`), that of pytest-sugar (`Results (0.12s):`), the
//! lines `FAILED file::test - why`, and whether the run came to its end.

use super::counts::{INTERRUPTED, TestCounts};
use super::{Evidence, Reading, Report, Verdict};

/// Reads the `JUnit` report if the job names one, else what pytest printed.
#[must_use]
pub fn read(evidence: &Evidence<'_>) -> Reading {
    if *evidence.report != Report::NotNamed {
        return super::junit::read(evidence);
    }
    let ending = evidence.stdout.ending();
    let text = strip_colors(&String::from_utf8_lossy(&ending));
    // A carriage return ends a line too: of a terminal, or of a progress bar.
    let run = Run::of(text.split(['\n', '\r']).collect());
    // Called wrongly: it says "no tests ran", but that is not the point.
    let usable = |counts: &TestCounts| evidence.exit_code != 4 || counts.total() > 0;
    if let Some(counts) = run.counts().filter(usable) {
        return counts.judge(evidence);
    }
    let mut reading = Reading::of_exit_code(evidence);
    reading.details = run.names().map(|(_, name)| name.to_owned()).collect();
    match evidence.exit_code {
        // The codes that pytest documents; other tools may mean something else by them, and their words are below.
        2 => {
            reading
                .fail("exit_code", "the test run was interrupted, or collecting the tests failed (code 2)");
        }
        4 => reading.fail("exit_code", "pytest was called wrongly, or a path does not exist (code 4)"),
        5 => reading.fail("no_tests_run", "no test was found (code 5)"),
        _ if !reading.details.is_empty() => {
            let message =
                format!("pytest names {} tests that failed, and gives no counts", reading.details.len());
            reading.fail("tests_failed", message);
        }
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

/// What the last run of pytest printed, as far as it was kept.
struct Run<'a> {
    lines: Vec<&'a str>,
    summary: Option<TestCounts>,
}

impl<'a> Run<'a> {
    /// Takes the last run from all lines: from the summary before it to the end.
    fn of(mut lines: Vec<&'a str>) -> Self {
        let at = |lines: &[&str]| (0..lines.len()).rev().find(|at| summary_at(lines, *at).is_some());
        let last = at(&lines);
        let summary = last.and_then(|last| summary_at(&lines, last));
        let before = last.and_then(|last| at(lines.get(..last)?));
        lines.drain(..before.map_or(0, |before| before + 1));
        Self { lines, summary }
    }

    fn counts(&self) -> Option<TestCounts> {
        let mut counts = self.summary.clone()?;
        let named = self.names().count() as u64;
        if counts.failed == 0 && counts.errors == 0 {
            // Where collecting fails, pytest-sugar counts nothing.
            counts.errors = named;
        }
        self.names().for_each(|(_, name)| counts.name(name));
        if let Some(why) = self.lines.iter().find_map(|line| interruption(line)) {
            counts.doubt(INTERRUPTED, format!("pytest did not come to its end: {why}"));
        }
        Some(counts)
    }

    /// The tests that are named as failed. A captured log has lines that begin so, too: only what stands behind the headline
    /// counts.
    fn names(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        let headline = self.lines.iter().rposition(|line| line.contains("= short test summary info ="));
        // Without one, they only say which tests the summary counts.
        let counted = self.summary.as_ref().is_some_and(|counts| counts.failed > 0 || counts.errors > 0);
        let from = headline.or(counted.then_some(0));
        let lines = from.and_then(|from| self.lines.get(from..)).unwrap_or_default();
        lines.iter().filter_map(|line| {
            let kind = ["FAILED", "ERROR", "SUBFAILED", "SUBFAIL"]
                .into_iter()
                .find(|kind| line.strip_prefix(kind).is_some_and(|rest| rest.starts_with([' ', '[', '('])))?;
            let rest = line.strip_prefix(kind)?;
            Some((kind, rest.split_once(" - ").map_or(rest, |(name, _)| name).trim()))
        })
    }
}

/// The words of a line `!!!!! Interrupted: 1 error during collection !!!!!`.
fn interruption(line: &str) -> Option<&str> {
    let line = line.trim();
    let words = line.strip_prefix("!!!")?.strip_suffix("!!!")?.trim_matches('!').trim();
    let known = ["Interrupted: ", "KeyboardInterrupt", "outcomes.Exit: ", "stopping after "];
    known.iter().any(|known| words.contains(known)).then_some(words)
}

/// The counts of the summary that stands at a line.
fn summary_at(lines: &[&str], at: usize) -> Option<TestCounts> {
    let line = *lines.get(at)?;
    let is_sugar = line.strip_prefix("Results (").is_some_and(|rest| rest.trim_end().ends_with("s):"));
    if !is_sugar {
        return summary(line);
    }
    let mut counts = TestCounts::default();
    for line in lines.get(at + 1..)?.iter().map(|line| line.trim()) {
        // Names of failed tests stand between, and empty pieces where lines end with two characters.
        if !(line.is_empty() || line.starts_with("- ") || count(line, &mut counts).is_some()) {
            break;
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
    let mut is_known = false;
    for part in parts.split(", ") {
        is_known |= count(part, &mut counts)?;
    }
    // Other tools say that they did `4 files in 2s`.
    is_known.then_some(counts)
}

/// Adds `3 passed` to the counts; whether pytest itself has the word, `None` for what is no count.
fn count(part: &str, counts: &mut TestCounts) -> Option<bool> {
    let (number, what) = part.split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    let sum = match what {
        "passed" | "xfailed" | "xpassed" => &mut counts.passed,
        "failed" => &mut counts.failed,
        "skipped" => &mut counts.skipped,
        "error" | "errors" => &mut counts.errors,
        "warning" | "warnings" | "deselected" | "rerun" | "subtests passed" => return Some(true),
        // `3 subtests failed` and what plug-ins add.
        _ if what.ends_with("failed") => &mut counts.failed,
        _ if what.chars().all(|c| c.is_ascii_alphabetic() || c == ' ') => return Some(false),
        _ => return None,
    };
    *sum = sum.saturating_add(number);
    Some(true)
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
        let others = [
            "",
            "passed in 1s",
            "I passed the test in 3 minutes",
            "collected 5 items",
            "1 in 2",
            "4 files in 2s",
        ];
        for line in others {
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
    /// What pytest 9.2 prints of one file with a failed subtest, an error in the clean-up and a parametrized test.
    const FAILED: &str = "\
=========================== short test summary info ============================
FAILED test_a.py::test_bad - assert 1 == 2
FAILED test_a.py::test_p[2] - assert 2 == 1
SUBFAILED[m] (i=1) test_a.py::test_sub - assert 1 != 1
FAILED test_a.py::test_sub - contains 1 failed subtest
ERROR test_a.py::test_td - ValueError: teardown
";

    /// What pytest-sugar 1.1 prints behind it.
    const SUGAR: &str = "
Results (0.11s):
       6 passed
       4 failed
         - test_a.py:3 test_bad
         - test_a.py:4 test_p[2]
       2 error
       1 xfailed
       1 skipped
";

    #[test]
    fn a_failed_subtest_is_named_with_its_values() {
        let out = format!("{FAILED}== 4 failed, 3 passed, 1 error, 2 subtests passed in 0.13s ==\n");
        let reading = read(0, &out);
        assert_eq!(reading.details[2], "[m] (i=1) test_a.py::test_sub");
        assert_eq!((&reading.metadata["failed"], &reading.metadata["passed"]), (&4.into(), &3.into()));
    }

    #[test]
    fn the_summary_of_pytest_sugar_is_read_with_line_ends_of_any_kind() {
        for out in [format!("{FAILED}{SUGAR}"), format!("{FAILED}{SUGAR}").replace('\n', "\r\n")] {
            let reading = read(0, &out);
            let of = |key: &str| reading.metadata[key].as_u64().unwrap();
            assert_eq!((of("passed"), of("failed"), of("errors"), of("skipped")), (7, 4, 2, 1));
            assert_eq!(reading.details.len(), 5);
        }
        let passed = "\r test_a.py \u{2713}   100% \u{2588}\n\nResults (0.09s):\n       1 passed\n       6 deselected\n";
        assert_eq!(read(0, passed).verdict, Verdict::Success);
        let none =
            "collected 9 items / 9 deselected / 0 selected\n\n\nResults (0.07s):\n       9 deselected\n";
        assert_eq!(read(0, none).reason.unwrap().code, "no_tests_run");
    }

    #[test]
    fn a_run_that_was_interrupted_is_no_success_whatever_it_counts_and_whatever_the_exit_code_is() {
        let mark = |words: &str| format!("!!!!!!!!!!!!! {words} !!!!!!!!!!!!!!\n");
        let passed = "============ 1 passed in 0.52s ============\n";
        for out in [
            format!("{}{passed}", mark("KeyboardInterrupt")),
            format!("{passed}{}", mark("_pytest.outcomes.Exit: stop")),
            format!("{}\nResults (0.38s):\n       1 passed\n", mark("KeyboardInterrupt")),
            format!("{}{passed}", mark("xdist.dsession.Interrupted: stopping after 1 failures")),
        ] {
            assert_eq!(read(0, &out).reason.unwrap().code, "test_run_interrupted", "{out}");
        }
        let other = format!("!!! a test prints this !!!\n{passed}");
        assert_eq!(read(0, &other).verdict, Verdict::Success);
        let errors = format!("{}=== 1 error in 0.29s ===\n", mark("Interrupted: 1 error during collection"));
        let reason = read(0, &errors).reason.unwrap();
        assert!(reason.code == "tests_failed" && reason.message.contains("during collection"), "{reason:?}");
    }

    #[test]
    fn a_named_failure_outweighs_missing_counts() {
        let reading = read(0, FAILED);
        assert_eq!((reading.reason.unwrap().code.as_str(), reading.details.len()), ("tests_failed", 5));
        let collecting = "= short test summary info =\nFAILED test_c.py\n\nResults (0.33s):\n";
        assert_eq!(read(0, collecting).metadata["errors"], 1);
        // A captured log is no summary.
        let log = "ERROR    root:test_a.py:3 refused\n=== 3 passed in 0.1s ===\n";
        assert_eq!(read(0, log).verdict, Verdict::Success);
    }

    #[test]
    fn the_last_of_several_runs_counts_with_the_names_of_its_own() {
        let first = format!("{FAILED}=== 5 failed, 1 passed in 0.1s ===\n");
        let reading = read(0, &format!("{first}... \n=== 5 passed in 0.1s ===\n"));
        assert_eq!(
            (reading.verdict, &reading.metadata["failed_tests"]),
            (Verdict::Success, &serde_json::json!([]))
        );
    }
}
