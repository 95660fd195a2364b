//! Test reports in files, as `metadata.junit_file` names them.

use crate::job::Code;
use serde_json::{Value, json};

use super::counts::TestCounts;
use super::junit_xml::{NoReport, counts};
use super::{Evidence, Reading, Report, ReportFile, Verdict};

/// What `metadata.junit_file` names: a path, a directory, a glob, or a list of them; `None` if nothing.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn names(value: &Value) -> Result<Option<Vec<String>>, String> {
    let one = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let names: Option<Vec<String>> = match value {
        Value::Null => return Ok(None),
        Value::String(name) if name.is_empty() => return Ok(None),
        Value::Array(items) if items.is_empty() => return Ok(None),
        Value::Array(items) => items.iter().map(one).collect(),
        value => one(value).map(|name| vec![name]),
    };
    names.map(Some).ok_or_else(|| "`metadata.junit_file` is neither a path nor a list of paths".to_owned())
}

/// Reads the reports that the job names.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading::of_exit_code(evidence);
    match evidence.report {
        Report::Written { files, not_of_this_attempt } => {
            reading = match sum(files) {
                Ok(counts) => counts.judge(evidence),
                Err(problem) => {
                    reading.fail(Code::TestReportUnreadable, problem);
                    reading
                }
            };
            if *not_of_this_attempt > 0 {
                let message = format!(
                    "{not_of_this_attempt} of {} files of `junit_file` were not written by this attempt and are not counted",
                    files.len() + not_of_this_attempt
                );
                reading.metadata.insert("warnings".to_owned(), json!([message]));
            }
        }
        // What the tool says itself comes first; the report could only have been worse.
        _ if reading.verdict == Verdict::Failure => {}
        Report::Unreadable(why) => reading.fail(Code::TestReportUnreadable, why.clone()),
        Report::NotWritten(why) => reading.fail(
            Code::TestReportMissing,
            format!("the tool exited with success, but wrote no test report: {why}"),
        ),
        Report::NotNamed => reading.fail(Code::TestReportMissing, "give `metadata.junit_file`"),
    }
    reading
}

/// The counts of all files; a failure in one outweighs another that cannot be read.
fn sum(files: &[ReportFile]) -> Result<TestCounts, String> {
    let mut all = TestCounts::default();
    let mut broken = None;
    let mut other = None;
    let mut reports = 0usize;
    for file in files {
        match counts(&file.content) {
            Ok(counts) => {
                reports += 1;
                all.add(counts);
            }
            Err(NoReport::OtherXml) => {
                other.get_or_insert_with(|| format!("the test report `{}` is not a JUnit report", file.name));
            }
            Err(NoReport::Broken(why)) => {
                broken.get_or_insert_with(|| format!("the test report `{}` is {why}", file.name));
            }
        }
    }
    let failed = all.failed > 0 || all.errors > 0;
    match broken.filter(|_| !failed).or(other.filter(|_| reports == 0)) {
        Some(problem) => Err(problem),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{read_texts, written};
    use super::*;
    use crate::adapter::manifest::ReaderName;

    fn read(code: i32, report: &Report) -> Reading {
        read_texts(ReaderName::Junit, code, b"", b"", report)
    }

    fn code(report: &Report) -> Code {
        read(0, report).reason.unwrap().code
    }

    fn files(contents: &[&str], not_of_this_attempt: usize) -> Report {
        let file = |(at, content): (usize, &&str)| ReportFile {
            name: format!("{at}.xml"),
            content: content.as_bytes().to_vec(),
        };
        Report::Written { files: contents.iter().enumerate().map(file).collect(), not_of_this_attempt }
    }

    const PASSED: &str = "<testsuite><testcase name='a'/></testsuite>";
    const FAILED: &str = "<testsuite><testcase name='b'><failure/></testcase></testsuite>";

    #[test]
    fn an_exit_code_of_zero_does_not_outweigh_a_failed_test() {
        assert_eq!(code(&written(FAILED.as_bytes())), Code::TestsFailed);
    }

    #[test]
    fn a_report_that_is_missing_empty_cut_or_something_else_is_no_success() {
        assert_eq!(code(&Report::NotNamed), Code::TestReportMissing);
        let missing = read(0, &Report::NotWritten("`r.xml` is not there".to_owned())).reason.unwrap();
        assert!(missing.code == Code::TestReportMissing && missing.message.ends_with("`r.xml` is not there"));
        let unreadable = read(0, &Report::Unreadable("it has 3 bytes too many".to_owned())).reason.unwrap();
        assert_eq!(
            (unreadable.code, unreadable.message.as_str()),
            (Code::TestReportUnreadable, "it has 3 bytes too many")
        );
        for (xml, why) in [
            ("", "is empty"),
            ("\u{feff}\n", "is empty"),
            ("<html></html>", "is not a JUnit report"),
            ("<testsuite><testcase name='a'/>", "is truncated"),
            ("no xml", "is not XML"),
            ("<testsuite></testcase>", "is not XML"),
        ] {
            let reason = read(0, &written(xml.as_bytes())).reason.unwrap();
            assert!(
                reason.code == Code::TestReportUnreadable && reason.message.contains(why),
                "{xml}: {reason:?}"
            );
        }
        assert_eq!(code(&written(b"<testsuite/>")), Code::NoTestsRun);
    }

    #[test]
    fn all_passed_and_a_failing_exit_code_is_a_failure() {
        assert_eq!(read(0, &written(PASSED.as_bytes())).verdict, Verdict::Success);
        assert_eq!(read(3, &written(PASSED.as_bytes())).reason.unwrap().code, Code::ExitCode);
    }

    #[test]
    fn the_reports_of_a_run_are_one_and_a_failure_in_one_outweighs_another_that_is_broken() {
        let both = read(0, &files(&[PASSED, FAILED, PASSED], 0));
        assert_eq!((&both.metadata["passed"], &both.metadata["failed_tests"]), (&2.into(), &json!(["b"])));
        // A directory has other XML too.
        assert_eq!(read(0, &files(&["<coverage/>", PASSED], 0)).verdict, Verdict::Success);
        let broken = read(0, &files(&[PASSED, "<testsuite>"], 0)).reason.unwrap();
        assert!(broken.message.contains("`1.xml` is truncated"), "{broken:?}");
        assert_eq!(code(&files(&["<testsuite>", FAILED], 0)), Code::TestsFailed);
        let rootless = "<testcase name='b'><failure/></testcase>";
        assert_eq!(code(&files(&[PASSED, rootless], 0)), Code::TestsFailed);
        assert_eq!(code(&files(&[PASSED, "<testsuite failures=1/>"], 0)), Code::TestReportUnreadable);
        let unknown = "<testsuite><testcase name='a' status='exploded'/></testsuite>";
        assert_eq!(code(&files(&[PASSED, unknown], 0)), Code::TestStatusUnknown);
    }

    #[test]
    fn what_was_there_before_is_warned_of() {
        let reading = read(0, &files(&[PASSED], 2));
        assert_eq!(reading.verdict, Verdict::Success);
        assert!(reading.metadata["warnings"][0].as_str().unwrap().starts_with("2 of 3 files"));
    }
}
