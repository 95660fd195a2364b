//! pytest's own words: the summary line (`== 5 passed, 2 failed in 0.12s ==`), that of pytest-sugar (`Results (0.12s):`),
//! the lines `FAILED file::test - why`, and whether the run finished.

use super::counts::TestCounts;
use super::{Evidence, Reading, Report, Verdict};
use crate::job::Code;

/// Reads the `JUnit` report if the job names one, else what pytest printed.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    if *evidence.report != Report::NotNamed {
        return super::junit::read(evidence);
    }
    let ending = evidence.stdout.ending();
    let text = strip_colors(&String::from_utf8_lossy(&ending));
    // A carriage return ends a line too: of a terminal, or of a progress bar.
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    let runs = runs(&lines);
    // Called wrongly: it says "no tests ran", but that is not the point.
    let usable = |counts: &TestCounts| evidence.exit_code != 4 || counts.total() > 0;
    if let Some(counts) = counts(&runs).filter(usable) {
        return counts.judge(evidence);
    }
    let mut reading = Reading::of_exit_code(evidence);
    reading.details = runs.iter().flat_map(Run::names).map(str::to_owned).collect();
    match evidence.exit_code {
        // The codes that pytest documents; other tools may mean something else by them, and their words are below.
        2 => {
            reading.fail(
                Code::ExitCode,
                "the test run was interrupted, or collecting the tests failed (code 2)",
            );
        }
        4 => {
            reading.fail(Code::ExitCode, "pytest was invoked incorrectly, or a path does not exist (code 4)");
        }
        5 => reading.fail(Code::NoTestsRun, "no test was found (code 5)"),
        _ if !reading.details.is_empty() => {
            let message = format!("pytest names {} failed tests but gives no counts", reading.details.len());
            reading.fail(Code::TestsFailed, message);
        }
        _ if reading.verdict == Verdict::Success => reading.fail(
            Code::NoTestSummary,
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

/// What one run of pytest printed, as far as it was kept.
struct Run<'a> {
    /// Up to the line of the summary, or to the end.
    lines: &'a [&'a str],
    summary: Option<TestCounts>,
}

/// Takes all lines apart behind each summary.
fn runs<'a>(lines: &'a [&'a str]) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    let mut from = 0;
    for at in 0..lines.len() {
        let summary = summary_at(lines, at);
        if summary.is_some() || at + 1 == lines.len() {
            runs.push(Run { lines: lines.get(from..=at).unwrap_or_default(), summary });
            from = at + 1;
        }
    }
    runs
}

/// The sum of all runs: a later one without a failure does not undo one that failed. `None` if none has a summary.
fn counts(runs: &[Run<'_>]) -> Option<TestCounts> {
    runs.iter().find(|run| run.summary.is_some())?;
    let mut all = TestCounts::default();
    runs.iter().for_each(|run| all.add(run.counts()));
    Some(all)
}

impl<'a> Run<'a> {
    fn counts(&self) -> TestCounts {
        let mut counts = self.summary.clone().unwrap_or_default();
        if counts.failed == 0 && counts.errors == 0 {
            // Where collecting fails, pytest-sugar counts nothing.
            counts.errors = self.names().count() as u64;
        }
        self.names().for_each(|name| counts.name(name));
        if let Some(why) = self.lines.iter().find_map(|line| interruption(line)) {
            counts.doubt(Code::TestRunInterrupted, format!("pytest did not finish: {why}"));
        }
        counts
    }

    /// The tests that are named as failed. A captured log has lines that begin so, too: only what follows the headline
    /// counts.
    fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
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
            Some(rest.split_once(" - ").map_or(rest, |(name, _)| name).trim())
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

/// The counts of the summary on a line.
fn summary_at(lines: &[&str], at: usize) -> Option<TestCounts> {
    let line = *lines.get(at)?;
    let sugar = line.strip_prefix("Results (").and_then(|rest| rest.trim_end().strip_suffix("):"));
    if !sugar.is_some_and(is_duration) {
        return summary(line);
    }
    let mut counts = TestCounts::default();
    for line in lines.get(at + 1..)?.iter().map(|line| line.trim()) {
        // Names of failed tests come between, and empty pieces where lines end with two characters.
        if !(line.is_empty() || line.starts_with("- ") || count(line, &mut counts).is_some()) {
            break;
        }
    }
    Some(counts)
}

/// `0.12s`, or `65.43s (0:01:05)`; before pytest 5 `0.12 seconds`. A sentence of others gives no hundredths.
fn is_duration(text: &str) -> bool {
    let Some((number, rest)) = text.split_once(" seconds").or_else(|| text.split_once('s')) else {
        return false;
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = number.split_once('.').is_some_and(|(whole, part)| is_digits(whole) && is_digits(part));
    let clock = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    is_number && (rest.is_empty() || clock.is_some_and(|clock| clock.contains(':')))
}

/// Reads one line as a summary.
fn summary(line: &str) -> Option<TestCounts> {
    let line = line.trim().trim_matches('=').trim();
    let (parts, time) = line.rsplit_once(" in ")?;
    if !is_duration(time) {
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

/// Adds `3 passed` to the counts; whether pytest itself has the word, `None` for what is not a count.
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
        assert_eq!(numbers("== 2 passed in 0.12 seconds =="), Some((2, 0, 0, 0)));
        assert_eq!(numbers("== 2 passed in 90000.12s (1 day, 1:00:00) =="), Some((2, 0, 0, 0)));
        assert_eq!(numbers("==== no tests ran in 0.01s ===="), Some((0, 0, 0, 0)));
        assert_eq!(numbers("2 skipped in 0.01s"), Some((0, 0, 2, 0)));
        let others = [
            "",
            "passed in 1s",
            "I passed the test in 3 minutes",
            "collected 5 items",
            "1 in 2",
            "4 files in 2s",
            "7 passed in 3 minutes",
            "7 passed in 3s",
            "7 passed in 3.5 minutes",
            "7 passed in 3.50s of 10",
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
        assert_eq!(reading.reason.unwrap().message, "tests failed: 1 failure, 1 error");
    }

    #[test]
    fn zero_tests_run_is_not_a_success() {
        assert_eq!(read(5, "==== no tests ran in 0.01s ====").reason.unwrap().code, Code::NoTestsRun);
        assert_eq!(read(0, "2 skipped in 0.01s").reason.unwrap().code, Code::NoTestsRun);
        assert_eq!(read(0, "").reason.unwrap().code, Code::NoTestSummary);
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
        let long = "Results (65.43s (0:01:05)):\n       1 passed\n       2 failed\n";
        assert_eq!(read(0, long).metadata["failed"], 2);
        let none =
            "collected 9 items / 9 deselected / 0 selected\n\n\nResults (0.07s):\n       9 deselected\n";
        assert_eq!(read(0, none).reason.unwrap().code, Code::NoTestsRun);
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
            assert_eq!(read(0, &out).reason.unwrap().code, Code::TestRunInterrupted, "{out}");
        }
        let other = format!("!!! a test prints this !!!\n{passed}");
        assert_eq!(read(0, &other).verdict, Verdict::Success);
        let errors = format!("{}=== 1 error in 0.29s ===\n", mark("Interrupted: 1 error during collection"));
        let reason = read(0, &errors).reason.unwrap();
        assert!(
            reason.code == Code::TestsFailed && reason.message.contains("during collection"),
            "{reason:?}"
        );
    }

    #[test]
    fn a_named_failure_outweighs_missing_counts() {
        let reading = read(0, FAILED);
        assert_eq!((reading.reason.unwrap().code, reading.details.len()), (Code::TestsFailed, 5));
        let collecting = "= short test summary info =\nFAILED test_c.py\n\nResults (0.33s):\n";
        assert_eq!(read(0, collecting).metadata["errors"], 1);
        // A captured log is not a summary.
        let log = "ERROR    root:test_a.py:3 refused\n=== 3 passed in 0.1s ===\n";
        assert_eq!(read(0, log).verdict, Verdict::Success);
    }

    #[test]
    fn a_sentence_behind_the_summary_is_no_summary() {
        let out = "=== 1 failed, 2 passed in 0.10s ===\n7 passed in 3 minutes\n";
        assert_eq!(read(0, out).metadata["failed"], 1);
    }

    #[test]
    fn several_runs_are_summed_and_none_undoes_a_failure_of_another() {
        let first = format!("{FAILED}=== 5 failed, 1 passed in 0.1s ===\n");
        for out in [
            format!("{first}... \n=== 5 passed in 0.1s ===\n"),
            format!("=== 5 passed in 0.1s ===\n{first}"),
            format!("{first}\nResults (0.1s):\n   5 passed\n"),
        ] {
            let reading = read(0, &out);
            let of = |key: &str| reading.metadata[key].as_u64().unwrap();
            assert_eq!((of("passed"), of("failed")), (6, 5), "{out}");
            assert_eq!(reading.reason.unwrap().code, Code::TestsFailed);
            assert_eq!(reading.details.len(), 5);
        }
        let good =
            read(0, "=== 2 passed in 0.1s ===\n=== no tests ran in 0.01s ===\n=== 1 passed in 0.1s ===");
        assert_eq!((good.verdict, &good.metadata["passed"]), (Verdict::Success, &3.into()));
        // The second run has no summary (`-qq`), and the first did not come to its end.
        let unsummed = format!("=== 2 passed in 0.1s ===\n{FAILED}");
        assert_eq!(read(0, &unsummed).metadata["errors"], 5);
        let stopped = "!!! KeyboardInterrupt !!!\n=== 2 passed in 0.1s ===\n=== 3 passed in 0.1s ===\n";
        assert_eq!(read(0, stopped).reason.unwrap().code, Code::TestRunInterrupted);
    }
}
