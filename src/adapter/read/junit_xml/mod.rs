//! One file of the `JUnit` XML form, as pytest, Maven, googletest, cargo-nextest, Jest and others write it.
//!
//! Responsible for walking the XML; `suite` counts the `testcase` elements of a suite and holds its attributes against them,
//! `end` reads how one of them ended. Hard rule: time and memory are linear in the size of the file.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesStart, Event};

use super::counts::TestCounts;
use super::encoding::decode;
use crate::job::Code;

mod end;
mod suite;

use end::End;
use suite::{Case, Suite, in_words, settle};

/// Why a file has no counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoReport {
    /// It is XML of another kind.
    OtherXml,
    /// It is not whole, or no XML.
    Broken(String),
}

/// Counts the tests of a report.
///
/// # Errors
/// What is wrong with it, where it is not well-formed or not such a report.
pub(crate) fn counts(xml: &[u8]) -> Result<TestCounts, NoReport> {
    let text = decode(xml);
    let mut reader = Reader::from_str(&text);
    let mut tree = Tree::default();
    loop {
        match reader.read_event() {
            Err(error) => return Err(NoReport::Broken(format!("not XML: {error}"))),
            Ok(Event::Eof) if !tree.open.is_empty() => return Err(NoReport::Broken("truncated".to_owned())),
            Ok(Event::Eof) => break,
            Ok(Event::Start(element)) => tree.open(&element)?,
            Ok(Event::Empty(element)) => {
                tree.open(&element)?;
                tree.close();
            }
            Ok(Event::End(_)) => tree.close(),
            Ok(Event::Text(text)) if text.trim().is_empty() => {}
            Ok(Event::Text(_) | Event::CData(_) | Event::GeneralRef(_)) => tree.text(),
            Ok(Event::DocType(text)) => tree.document_type(&text),
            Ok(_) => {}
        }
    }
    let has_failed = tree.found.failed > 0 || tree.found.errors > 0;
    match (tree.is_report, tree.elements) {
        (true, _) => match tree.flaw.filter(|_| !has_failed) {
            Some(flaw) => Err(NoReport::Broken(flaw.to_owned())),
            None => Ok(tree.found),
        },
        (false, 0) if text.trim().is_empty() => Err(NoReport::Broken("empty".to_owned())),
        (false, 0) => Err(NoReport::Broken("not XML".to_owned())),
        (false, _) => Err(NoReport::OtherXml),
    }
}

/// The kind of an open element, or of its parent; suites and cases are in lists of their own, so that the innermost is found
/// at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Suite,
    Case,
    InSuite,
    InCase,
    /// Output and properties: what is in it says nothing of a test.
    Quiet,
    Outside,
}

#[derive(Default)]
struct Tree {
    open: Vec<Node>,
    suites: Vec<Suite>,
    cases: Vec<Case>,
    found: TestCounts,
    elements: u64,
    is_report: bool,
    /// The name of the outermost suite says which tool it was.
    is_pytest: bool,
    /// What may hide a failure.
    flaw: Option<&'static str>,
}

impl Tree {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), NoReport> {
        self.elements += 1;
        let local = element.local_name();
        let name: &str = local.as_ref();
        let node = match name {
            "testsuite" | "testsuites" => {
                let suite = self.suite(element)?;
                self.suites.push(suite);
                Node::Suite
            }
            "testcase" => {
                self.cases.push(case(element)?);
                Node::Case
            }
            "properties" | "system-out" | "system-err" => Node::Quiet,
            _ => self.note(name),
        };
        self.open.push(node);
        Ok(())
    }

    /// Text before the root element may be what a runner prints before a report on the same stream; behind it, it may be why
    /// the report is complete.
    fn text(&mut self) {
        if self.open.is_empty() && self.elements > 0 {
            self.flaw = Some("not well-formed: text follows its last element");
        }
    }

    /// Takes a document type that has more than a name: it can define entities that expand to elements, and attributes that
    /// an element does not show. No tool writes one into such a report.
    fn document_type(&mut self, text: &str) {
        if text.trim().contains(|c: char| c.is_whitespace() || c == '[') {
            self.flaw = Some("not read: its document type can define entities that hide a failure");
        }
    }

    fn suite(&mut self, element: &BytesStart<'_>) -> Result<Suite, NoReport> {
        self.is_report = true;
        let mut suite = Suite::default();
        let mut no_count = None;
        for attribute in attributes(element) {
            let (key, value) = attribute?;
            let number = || value.trim().parse::<u64>().ok();
            let mut count = || {
                let count = number();
                // An attribute without a value says nothing.
                if count.is_none() && !value.trim().is_empty() {
                    no_count = Some(format!("`{key}` as `{value}`"));
                }
                count
            };
            match key {
                "name" => suite.name = value.into_owned(),
                "tests" => suite.counted.tests = count(),
                "failures" => suite.counted.failures = count(),
                "errors" => suite.counted.errors = count(),
                // No failure hides in them, and some tools write `disabled="false"`.
                "skipped" | "disabled" | "skip" | "skips" | "ignored" => {
                    suite.counted.skipped = suite.counted.skipped.saturating_add(number().unwrap_or(0));
                }
                // Catch2 writes it, and counts assertions.
                "hostname" if value == "tbd" => suite.counted.more = true,
                _ => {}
            }
        }
        // pytest counts subtests, which have no element of their own; doctest counts assertions.
        self.is_pytest |= suite.name == "pytest tests";
        suite.counted.hides_attempts = self.is_pytest || suite.name == "pytest";
        suite.counted.more |= suite.counted.hides_attempts || suite.name == "doctest";
        if let Some(no_count) = no_count {
            let message = format!("{} gives {no_count}, which is not a count", in_words(&suite.name));
            self.found.doubt(Code::TestCountsDisagree, message);
        }
        Ok(suite)
    }

    /// Takes what an element says of the test or suite around it, at any depth.
    fn note(&mut self, name: &str) -> Node {
        let end = End::of_element(name);
        match self.open.last() {
            Some(parent @ (Node::Case | Node::InCase)) => {
                if let Some(case) = self.cases.last_mut() {
                    case.flaky |= matches!(name, "flakyFailure" | "flakyError");
                    // `<crashed/>` may be a failure; `<timeout>30</timeout>` is a property.
                    let is_odd =
                        end.is_none() && *parent == Node::Case && End::of_word(name).is_some_and(End::is_bad);
                    if is_odd && case.odd.is_none() {
                        case.odd = Some(name.to_owned());
                    }
                    let end = end.filter(|end| end.is_bad() || *parent == Node::Case);
                    case.end = case.end.max(end.unwrap_or_default());
                }
                Node::InCase
            }
            Some(Node::Suite | Node::InSuite) => {
                if let Some(suite) = self.suites.last_mut().filter(|_| end.is_some_and(End::is_bad)) {
                    suite.errors += 1;
                    suite.own.bad += 1;
                }
                Node::InSuite
            }
            Some(Node::Quiet) => Node::Quiet,
            Some(Node::Outside) | None => Node::Outside,
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Node::Case) => {
                let Some(mut case) = self.cases.pop() else { return };
                if let Some(word) = case.unknown.take().filter(|_| case.end == End::Passed) {
                    let message = format!("the test `{}` has the unknown result `{word}`", case.name);
                    self.found.doubt(Code::TestStatusUnknown, message);
                }
                let odd = case.odd.take().filter(|_| case.end == End::Passed).map(|element| {
                    let name = &case.name;
                    format!("the test `{name}` contains `<{element}>`, but no suite counts the failures")
                });
                match self.suites.last_mut() {
                    Some(suite) => {
                        suite.odd = suite.odd.take().or(odd);
                        suite.push(case);
                    }
                    // Other XML has tests too; but a failure is one wherever it is.
                    None if case.end.is_bad() => {
                        self.is_report = true;
                        let mut suite = Suite::default();
                        suite.push(case);
                        settle(suite, &mut self.found);
                    }
                    None => {}
                }
            }
            Some(Node::Suite) => {
                let Some(mut suite) = self.suites.pop() else { return };
                // Counts decide: a failure that they have and no element shows is found when they are held against it.
                let odd = suite.odd.take().filter(|_| suite.counted.bad().is_none());
                let shown = settle(suite, &mut self.found);
                match (self.suites.last_mut(), odd) {
                    (Some(outer), odd) => {
                        outer.inner.add(shown);
                        outer.odd = outer.odd.take().or(odd);
                    }
                    (None, Some(odd)) => self.found.doubt(Code::TestCountsDisagree, odd),
                    (None, None) => {}
                }
            }
            _ => {}
        }
    }
}

fn case(element: &BytesStart<'_>) -> Result<Case, NoReport> {
    let mut case = Case::default();
    let (mut class, mut name) = (None, None);
    for attribute in attributes(element) {
        let (key, value) = attribute?;
        match key {
            "classname" => class = Some(value).filter(|class| !class.is_empty()),
            "name" => name = Some(value),
            "file" | "line" => {
                case.place.push_str(&value);
                case.place.push('\n');
            }
            "status" | "result" => match End::of_word(&value) {
                Some(end) => case.end = case.end.max(end),
                None => case.unknown = Some(value.into_owned()),
            },
            _ => {}
        }
    }
    case.name = match (class, name) {
        (Some(class), Some(name)) => format!("{class}::{name}"),
        (class, name) => name.or(class).unwrap_or_default().into_owned(),
    };
    Ok(case)
}

/// An attribute: its name and its value.
type Attribute<'a> = (&'a str, Cow<'a, str>);

/// The attributes of an element. A name without a value is passed over; a value that cannot be read may be that of a failure.
fn attributes<'a>(element: &'a BytesStart<'_>) -> impl Iterator<Item = Result<Attribute<'a>, NoReport>> {
    let mut all = element.attributes();
    // The check for a repeated name costs the square of their number.
    all.with_checks(false);
    all.filter(|attribute| !matches!(attribute, Err(AttrError::ExpectedEq(_)))).map(|attribute| {
        let attribute = attribute.map_err(|error| NoReport::Broken(format!("not XML: {error}")))?;
        let value = match quick_xml::escape::unescape(&attribute.value) {
            Ok(value) => Cow::Owned(value.into_owned()),
            Err(_) => attribute.value.clone(),
        };
        Ok((attribute.key.local_name().into_inner(), value))
    })
}

#[cfg(test)]
mod tests;
