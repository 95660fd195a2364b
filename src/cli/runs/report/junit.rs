//! A report as `JUnit` XML: a test case for each workstream, and for each gate, the integration, and each of their checks.
//!
//! What ended without success is a failure, and what has not ended, or was canceled, an error: nothing is green that was not
//! proved. Skipped is only what needs something that did not succeed, which counts itself.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::summary::{Part, Reason, Row, Summary};
use crate::cli::scrub;
use crate::job::{Code, Status};
use crate::view::run::status::WorkstreamStatus;

/// The document.
pub(super) fn document(summary: &Summary) -> String {
    let mut suites = vec![Suite { name: "workstreams", cases: summary.rows.iter().map(of_row).collect() }];
    suites.extend(summary.parts.iter().map(of_part));
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // To memory nothing fails.
    let _ = write(&mut writer, summary, &suites);
    let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.push('\n');
    text
}

struct Suite<'a> {
    name: &'a str,
    cases: Vec<Case<'a>>,
}

struct Case<'a> {
    name: &'a str,
    seconds: Option<f64>,
    end: End<'a>,
    output: &'a [String],
}

enum End<'a> {
    Passed,
    /// The element that says how it ended, and why.
    Not(Kind, &'static str, Option<&'a Reason>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failure,
    Error,
    Skipped,
}

impl Kind {
    fn element(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

fn end(status: WorkstreamStatus, reason: Option<&Reason>) -> End<'_> {
    let is_behind = reason.is_some_and(|reason| reason.code == Code::WaitingDependency);
    let kind = match status {
        WorkstreamStatus::Succeeded => return End::Passed,
        WorkstreamStatus::Failed | WorkstreamStatus::Quarantined => Kind::Failure,
        WorkstreamStatus::Blocked if is_behind => Kind::Skipped,
        WorkstreamStatus::Canceled
        | WorkstreamStatus::Pending
        | WorkstreamStatus::Running
        | WorkstreamStatus::Parked
        | WorkstreamStatus::Blocked => Kind::Error,
    };
    End::Not(kind, status.as_str(), reason)
}

fn end_of_check(status: Status) -> End<'static> {
    let kind = match status {
        Status::Succeeded => return End::Passed,
        Status::Failed | Status::Quarantined => Kind::Failure,
        Status::Canceled | Status::Queued | Status::Running => Kind::Error,
    };
    End::Not(kind, status.as_str(), None)
}

fn of_row(row: &Row) -> Case<'_> {
    let end = end(row.status, row.reason.as_ref());
    Case { name: &row.name, seconds: row.seconds, end, output: &row.steps }
}

fn of_part(one: &Part) -> Suite<'_> {
    let of_checks: f64 = one.checks.iter().filter_map(|check| check.seconds).sum();
    // The checks are cases of their own.
    let seconds = one.seconds.map(|all| (all - of_checks).max(0.0));
    let whole = Case { name: &one.name, seconds, end: end(one.status, one.reason.as_ref()), output: &[] };
    let checks = one.checks.iter().map(|check| Case {
        name: &check.name,
        seconds: check.seconds,
        end: end_of_check(check.status),
        output: &[],
    });
    Suite { name: &one.name, cases: std::iter::once(whole).chain(checks).collect() }
}

type Result = std::io::Result<()>;

fn write(writer: &mut Writer<Vec<u8>>, summary: &Summary, suites: &[Suite<'_>]) -> Result {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let cases = || suites.iter().flat_map(|suite| &suite.cases);
    let mut all = BytesStart::new("testsuites");
    attribute(&mut all, "name", &summary.run);
    counts(&mut all, &cases());
    attribute(&mut all, "time", &seconds(summary.duration_s.unwrap_or_default()));
    writer.write_event(Event::Start(all))?;
    for suite in suites {
        let mut element = BytesStart::new("testsuite");
        attribute(&mut element, "name", suite.name);
        counts(&mut element, &suite.cases.iter());
        attribute(&mut element, "time", &seconds(suite.cases.iter().filter_map(|case| case.seconds).sum()));
        attribute(&mut element, "timestamp", &summary.created_at.to_string());
        writer.write_event(Event::Start(element))?;
        suite.cases.iter().try_for_each(|one| case(writer, &summary.run, one))?;
        writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuites")))
}

fn counts<'a, 'b: 'a>(element: &mut BytesStart<'_>, cases: &(impl Iterator<Item = &'a Case<'b>> + Clone)) {
    let of = |kind: Kind| {
        let is_it = |case: &&Case<'_>| matches!(case.end, End::Not(found, ..) if found == kind);
        cases.clone().filter(is_it).count().to_string()
    };
    attribute(element, "tests", &cases.clone().count().to_string());
    attribute(element, "failures", &of(Kind::Failure));
    attribute(element, "errors", &of(Kind::Error));
    attribute(element, "skipped", &of(Kind::Skipped));
}

fn case(writer: &mut Writer<Vec<u8>>, run: &str, case: &Case<'_>) -> Result {
    let mut element = BytesStart::new("testcase");
    attribute(&mut element, "classname", run);
    attribute(&mut element, "name", case.name);
    attribute(&mut element, "time", &seconds(case.seconds.unwrap_or_default()));
    writer.write_event(Event::Start(element))?;
    if let End::Not(kind, status, reason) = &case.end {
        let mut element = BytesStart::new(kind.element());
        let message = reason.map_or_else(|| (*status).to_owned(), |reason| reason.message.clone());
        attribute(&mut element, "message", &message);
        if *kind == Kind::Skipped {
            writer.write_event(Event::Empty(element))?;
        } else {
            let kind = reason.map_or_else(|| (*status).to_owned(), |reason| reason.code.to_string());
            attribute(&mut element, "type", &kind);
            content(writer, element, &message)?;
        }
    }
    if !case.output.is_empty() {
        content(writer, BytesStart::new("system-out"), &case.output.join("\n"))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testcase")))
}

fn content(writer: &mut Writer<Vec<u8>>, element: BytesStart<'_>, text: &str) -> Result {
    let end = element.to_end().into_owned();
    writer.write_event(Event::Start(element))?;
    let lines: Vec<String> = text.split('\n').map(allowed).collect();
    writer.write_event(Event::Text(BytesText::new(&lines.join("\n"))))?;
    writer.write_event(Event::End(end))
}

fn attribute(element: &mut BytesStart<'_>, name: &str, value: &str) {
    element.push_attribute((name, &*allowed(value)));
}

/// A line without the characters that no XML document may have.
fn allowed(line: &str) -> String {
    scrub::line(line).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

fn seconds(seconds: f64) -> String {
    // The sum of nothing is a negative zero.
    format!("{:.3}", seconds + 0.0)
}
