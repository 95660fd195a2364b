//! One file of the `JUnit` XML form, as pytest, Maven, googletest, cargo-nextest, Jest and others write it.
//!
//! Counted are the `testcase` elements. The attributes of a suite are held against them: a failure that only they tell of is a
//! failure, and counts that disagree are a doubt. Time and memory are linear in the size of the file.

use crate::job::Code;
use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesStart, Event};

use super::counts::{TestCounts, number};
use super::encoding::decode;

/// Why a file has no counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReport {
    /// It is XML of another kind.
    OtherXml,
    /// It is not whole, or no XML.
    Broken(String),
}

/// Counts the tests of a report.
///
/// # Errors
/// What is wrong with it, where it is not well-formed or not such a report.
pub fn counts(xml: &[u8]) -> Result<TestCounts, NoReport> {
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

/// How a test ended; of several signs the last one here counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    #[default]
    Passed,
    Skipped,
    Error,
    Failed,
}

impl End {
    fn is_bad(self) -> bool {
        matches!(self, Self::Error | Self::Failed)
    }

    /// What an element inside a test, or a suite, says of it.
    fn of_element(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "failure" | "rerunfailure" => Some(Self::Failed),
            "error" | "rerunerror" => Some(Self::Error),
            "skipped" | "disabled" | "ignored" | "notrun" => Some(Self::Skipped),
            _ => None,
        }
    }

    /// What an attribute `status` or `result` says, as googletest, `CTest` and others write it; `None` for a word that none of
    /// them writes.
    fn of_word(word: &str) -> Option<Self> {
        let letters = word.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase());
        match letters.collect::<String>().as_str() {
            "fail" | "failed" | "failure" | "failing" | "regression" | "unexpected" => Some(Self::Failed),
            "error" | "errored" | "broken" | "timeout" | "timedout" | "aborted" | "crashed" => {
                Some(Self::Error)
            }
            "notrun" | "skip" | "skipped" | "disabled" | "ignored" | "pending" | "suppressed"
            | "untested" | "todo" | "notexecuted" => Some(Self::Skipped),
            "run" | "completed" | "complete" | "pass" | "passed" | "success" | "successful" | "succeeded"
            | "ok" | "fixed" | "executed" | "expected" | "xfail" | "xfailed" | "xpass" | "xpassed"
            | "flaky" => Some(Self::Passed),
            // `status=""`.
            "" if word.trim().is_empty() => Some(Self::Passed),
            _ => None,
        }
    }

    /// The end of a test that was there before, after one more attempt: the last counts, but nothing that was not run undoes
    /// what was, and a test that failed and has an error in its clean-up is one failed test.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Passed | Self::Failed | Self::Error, Self::Skipped) => self,
            (Self::Failed, Self::Error) => Self::Failed,
            _ => next,
        }
    }
}

/// A `testcase` element.
#[derive(Debug, Default)]
struct Case {
    name: String,
    /// Tests of one name in different lines of a file are different tests.
    place: String,
    end: End,
    flaky: bool,
    /// A word for its end that is not known.
    unknown: Option<String>,
    /// An element in it that no format has, and that is named as a bad end.
    odd: Option<String>,
}

/// All elements of one test.
#[derive(Debug, Default)]
struct Test {
    name: String,
    end: End,
    flaky: bool,
    passes: u64,
    skips: u64,
    bad: u64,
}

/// What elements show: each attempt, and each test once.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    cases: u64,
    tests: u64,
    bad: u64,
    /// How many of the bad ones a later attempt of the same test undid.
    undone: u64,
    skipped: u64,
}

impl Shown {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.tests += other.tests;
        self.bad += other.bad;
        self.undone += other.undone;
        self.skipped += other.skipped;
    }

    /// Whether a suite may count so many tests: each attempt or each test once, with or without those that were not run.
    fn agrees(&self, counted: u64) -> bool {
        (self.tests.saturating_sub(self.skipped)..=self.cases).contains(&counted)
    }
}

/// A `testsuite` or `testsuites` element.
#[derive(Debug, Default)]
struct Suite {
    name: String,
    counted: Counted,
    tests: Vec<Test>,
    index: BTreeMap<(String, String), usize>,
    /// Errors outside of any test.
    errors: u64,
    own: Shown,
    inner: Shown,
    /// What may be a failure, as long as no suite counts failures.
    odd: Option<String>,
}

/// The attributes of a suite that count.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    tests: Option<u64>,
    failures: Option<u64>,
    errors: Option<u64>,
    skipped: u64,
    /// `tests` counts more than tests there.
    more: bool,
    /// A failed attempt has an element of its own, like one that passed.
    hides_attempts: bool,
}

impl Counted {
    /// Tests that did not pass, if it counts them.
    fn bad(self) -> Option<u64> {
        let of = |count: Option<u64>| count.unwrap_or(0);
        self.failures.or(self.errors).map(|_| of(self.failures).saturating_add(of(self.errors)))
    }
}

impl Suite {
    fn push(&mut self, case: Case) {
        let Case { name, place, end, flaky, unknown: _, odd: _ } = case;
        self.own.cases += 1;
        self.own.bad += u64::from(end.is_bad());
        self.own.skipped += u64::from(end == End::Skipped);
        let key = (name, place);
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => {
                self.own.tests += 1;
                self.tests.push(Test { name: key.0.clone(), end, ..Test::default() });
                self.index.insert(key, self.tests.len() - 1);
                self.tests.len() - 1
            }
        };
        let Some(test) = self.tests.get_mut(at) else { return };
        test.flaky |= flaky || (test.end.is_bad() && end == End::Passed);
        test.end = test.end.then(end);
        test.passes += u64::from(end == End::Passed);
        test.skips += u64::from(end == End::Skipped);
        test.bad += u64::from(end.is_bad());
    }

    /// Whether it says itself that a test that failed is undone by a later attempt of the same name: it counts no failure, or
    /// such attempts as one test. Another test of the same name undoes nothing.
    fn has_attempts(&self, all: Shown) -> bool {
        let is_each = |tests| tests >= self.own.cases;
        match (self.counted.tests, self.counted.bad()) {
            (Some(tests), _) if is_each(tests) => false,
            (_, Some(bad)) => bad <= all.bad - all.undone,
            (tests, None) => tests.is_some(),
        }
    }

    /// Tests beyond the first of each name. A test is tried again because it did not pass, so a second pass is another test
    /// of that name: a suite that counts fewer disagrees with it. Only pytest's suites are believed: pytest-rerunfailures
    /// writes every attempt but the last without a word for its end.
    fn namesakes(&self) -> u64 {
        let further = self.tests.iter().map(|test| test.passes.saturating_sub(1)).sum();
        if self.counted.hides_attempts { 0 } else { further }
    }

    /// Bad attempts of tests that passed in the end.
    fn undone(&self) -> u64 {
        self.tests.iter().filter(|test| !test.end.is_bad()).map(|test| test.bad).sum()
    }
}

/// What an open element is, or what it stands in; suites and cases stand in lists of their own, so that the innermost is found
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
    /// the report came to its end.
    fn text(&mut self) {
        if self.open.is_empty() && self.elements > 0 {
            self.flaw = Some("not well-formed: text stands behind its last element");
        }
    }

    /// Takes a document type that has more than a name: it can define entities that stand for elements, and attributes that
    /// an element does not show. No tool writes one into such a report.
    fn document_type(&mut self, text: &str) {
        if text.trim().contains(|c: char| c.is_whitespace() || c == '[') {
            self.flaw = Some("not read: its document type can define what stands for a failure");
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
            let message = format!("{} gives {no_count}, which is no count", in_words(&suite.name));
            self.found.doubt(Code::TestCountsDisagree, message);
        }
        Ok(suite)
    }

    /// Takes what an element says of the test or suite that it stands in, at any depth.
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
                    let message = format!("the test `{}` ended as `{word}`, which is not known", case.name);
                    self.found.doubt(Code::TestStatusUnknown, message);
                }
                let odd = case.odd.take().filter(|_| case.end == End::Passed).map(|element| {
                    let name = &case.name;
                    format!("the test `{name}` holds `<{element}>`, and no suite counts the failures")
                });
                match self.suites.last_mut() {
                    Some(suite) => {
                        suite.odd = suite.odd.take().or(odd);
                        suite.push(case);
                    }
                    // Other XML has tests too; but a failure is one wherever it stands.
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

/// Counts the tests of a suite, and holds its attributes against all that is in it.
fn settle(suite: Suite, found: &mut TestCounts) -> Shown {
    let mut suite = suite;
    suite.own.undone = suite.undone();
    suite.own.tests += suite.namesakes();
    let mut all = suite.own;
    all.add(suite.inner);
    if suite.own.undone > 0 && !suite.has_attempts(all) {
        let undone = suite.tests.iter_mut().filter(|test| !test.end.is_bad() && test.bad > 0);
        undone.for_each(|test| test.end = End::Failed);
        all.undone -= suite.own.undone;
    }
    let Suite { name, counted, tests, index: _, errors, own, inner: _, odd: _ } = suite;
    // Elements of one name are attempts of one test, unless the suite says that each is a test.
    let each = counted.tests.is_some_and(|tests| own.cases > 0 && (tests == own.cases || tests == all.cases));
    if errors > 0 {
        found.errors = found.errors.saturating_add(errors);
        found.name(shown_name(&name));
    }
    for test in tests {
        let test_name = if test.name.is_empty() { shown_name(&name) } else { &test.name };
        if each && test.end.is_bad() {
            found.passed += test.passes;
        }
        match test.end {
            End::Passed => {
                found.passed += if each { test.passes } else { 1 };
                found.flaky += u64::from(test.flaky);
            }
            End::Skipped => found.skipped += if each { test.skips } else { 1 },
            End::Error => {
                found.errors += 1;
                found.name(test_name);
            }
            End::Failed => {
                found.failed += 1;
                found.name(test_name);
            }
        }
    }
    hold_against(&name, counted, own, &mut all, found);
    all
}

fn shown_name(name: &str) -> &str {
    if name.is_empty() { "(a test suite)" } else { name }
}

fn in_words(name: &str) -> String {
    if name.is_empty() {
        "a test suite without a name".to_owned()
    } else {
        format!("the test suite `{name}`")
    }
}

/// Adds the tests that did not pass of which only the suite tells.
fn add_bad(name: &str, counted: Counted, all: &mut Shown, found: &mut TestCounts) {
    let bad = counted.bad().unwrap_or(0);
    let missing = bad.saturating_sub(all.bad - all.undone);
    if missing == 0 {
        return;
    }
    let more = if counted.failures.unwrap_or(0) == 0 { &mut found.errors } else { &mut found.failed };
    *more = more.saturating_add(missing);
    // They are among the tests that seem to have passed, but for those that have no element.
    let passed = all.tests.saturating_sub((all.bad - all.undone).saturating_add(all.skipped));
    let without_element = counted.tests.unwrap_or(0).saturating_sub(all.cases);
    let among = missing.saturating_sub(without_element).min(passed);
    found.passed = found.passed.saturating_sub(among);
    found.flaky = found.flaky.saturating_sub(all.undone.min(missing));
    found.name(shown_name(name));
    all.undone = all.undone.saturating_sub(missing);
    all.bad = all.bad.max(bad);
}

fn hold_against(name: &str, counted: Counted, own: Shown, all: &mut Shown, found: &mut TestCounts) {
    let disagree = |found: &mut TestCounts, counts: String, shown: u64| {
        let suite = in_words(name);
        found.doubt(
            Code::TestCountsDisagree,
            format!("{suite} counts {counts}, and its report shows {shown}"),
        );
    };
    if let Some(bad) = counted.bad().filter(|bad| *bad > all.bad) {
        let counts =
            if bad == 1 { "1 failure or error".to_owned() } else { format!("{bad} failures and errors") };
        disagree(found, counts, all.bad);
    }
    add_bad(name, counted, all, found);
    if counted.skipped > all.skipped {
        // Some tools leave out what was not run.
        let missing = counted.skipped - all.skipped;
        let room = counted.tests.map_or(missing, |tests| tests.saturating_sub(all.cases));
        let omitted = missing.min(room);
        if missing > omitted {
            let were = if counted.skipped == 1 { "was" } else { "were" };
            let counts = format!("{} that {were} not run", number(counted.skipped, "test"));
            disagree(found, counts, all.skipped);
        }
        found.skipped = found.skipped.saturating_add(omitted);
        let of = |count: u64| count.saturating_add(omitted);
        *all = Shown { cases: of(all.cases), tests: of(all.tests), skipped: of(all.skipped), ..*all };
    }
    let Some(tests) = counted.tests else { return };
    let more = counted.more && tests > all.cases;
    if !(all.agrees(tests) || own.agrees(tests) && own.cases < all.cases || more) {
        disagree(found, number(tests, "test"), all.cases);
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
