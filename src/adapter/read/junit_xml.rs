//! One file of the `JUnit` XML form, as pytest, Maven, googletest, cargo-nextest, Jest and others write it.
//!
//! Counted are the `testcase` elements. The attributes of a suite are held against them: a failure that only they tell of is a
//! failure, and counts that disagree are a doubt. Time and memory are linear in the size of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::counts::{COUNTS_DISAGREE, TestCounts};
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
            Ok(Event::Start(element)) => tree.open(&element),
            Ok(Event::Empty(element)) => {
                tree.open(&element);
                tree.close();
            }
            Ok(Event::End(_)) => tree.close(),
            Ok(_) => {}
        }
    }
    match (tree.is_report, tree.elements) {
        (true, _) => Ok(tree.found),
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
        match name {
            "failure" | "rerunFailure" => Some(Self::Failed),
            "error" | "rerunError" => Some(Self::Error),
            "skipped" | "disabled" | "ignored" | "notrun" => Some(Self::Skipped),
            _ => None,
        }
    }

    /// What an attribute `status` or `result` says, as googletest, `CTest` and others write it.
    fn of_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "fail" | "failed" | "failure" => Some(Self::Failed),
            "error" | "errored" => Some(Self::Error),
            "notrun" | "not_run" | "skip" | "skipped" | "disabled" | "ignored" | "pending" | "suppressed" => {
                Some(Self::Skipped)
            }
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
}

/// All elements of one test.
#[derive(Debug, Default)]
struct Test {
    name: String,
    end: End,
    flaky: bool,
    passes: u64,
    skips: u64,
}

/// What elements show: each attempt, and each test once.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    cases: u64,
    tests: u64,
    bad: u64,
    skipped: u64,
}

impl Shown {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.tests += other.tests;
        self.bad += other.bad;
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
}

/// The attributes of a suite that count.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    tests: Option<u64>,
    failures: u64,
    errors: u64,
    skipped: u64,
    /// `tests` counts more than tests there.
    more: bool,
}

impl Suite {
    fn push(&mut self, case: Case) {
        let Case { name, place, end, flaky } = case;
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
    }
}

/// What an open element is; suites and cases stand in lists of their own, so that the innermost is found at once.
enum Node {
    Suite,
    Case,
    Other,
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
}

impl Tree {
    fn open(&mut self, element: &BytesStart<'_>) {
        self.elements += 1;
        let local = element.local_name();
        let name: &str = local.as_ref();
        let node = match name {
            "testsuite" | "testsuites" => {
                let suite = self.suite(element);
                self.suites.push(suite);
                Node::Suite
            }
            "testcase" => {
                self.cases.push(case(element));
                Node::Case
            }
            _ => {
                self.note(name);
                Node::Other
            }
        };
        self.open.push(node);
    }

    fn suite(&mut self, element: &BytesStart<'_>) -> Suite {
        self.is_report = true;
        let mut suite = Suite::default();
        for (key, value) in attributes(element) {
            let number = || value.trim().parse::<u64>().ok();
            match key {
                "name" => suite.name = value.into_owned(),
                "tests" => suite.counted.tests = number(),
                "failures" => suite.counted.failures = number().unwrap_or(0),
                "errors" => suite.counted.errors = number().unwrap_or(0),
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
        suite.counted.more |= self.is_pytest || matches!(suite.name.as_str(), "pytest" | "doctest");
        suite
    }

    fn note(&mut self, name: &str) {
        let end = End::of_element(name);
        match self.open.last() {
            Some(Node::Case) => {
                let Some(case) = self.cases.last_mut() else { return };
                case.flaky |= matches!(name, "flakyFailure" | "flakyError");
                case.end = case.end.max(end.unwrap_or_default());
            }
            Some(Node::Suite) if end.is_some_and(End::is_bad) => {
                let Some(suite) = self.suites.last_mut() else { return };
                suite.errors += 1;
                suite.own.bad += 1;
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Node::Case) => {
                let (Some(case), Some(suite)) = (self.cases.pop(), self.suites.last_mut()) else {
                    return;
                };
                suite.push(case);
            }
            Some(Node::Suite) => {
                let Some(suite) = self.suites.pop() else { return };
                let shown = settle(suite, &mut self.found);
                if let Some(outer) = self.suites.last_mut() {
                    outer.inner.add(shown);
                }
            }
            Some(Node::Other) | None => {}
        }
    }
}

/// Counts the tests of a suite, and holds its attributes against all that is in it.
fn settle(suite: Suite, found: &mut TestCounts) -> Shown {
    let Suite { name, counted, tests, index: _, errors, own, inner } = suite;
    let mut all = own;
    all.add(inner);
    // Elements of one name are attempts of one test, unless the suite says that each is a test.
    let each = counted.tests.is_some_and(|tests| own.cases > 0 && (tests == own.cases || tests == all.cases));
    if errors > 0 {
        found.errors = found.errors.saturating_add(errors);
        found.name(if name.is_empty() { "(a test suite)" } else { &name });
    }
    for test in tests {
        let test_name = if test.name.is_empty() { &name } else { &test.name };
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

fn hold_against(name: &str, counted: Counted, own: Shown, all: &mut Shown, found: &mut TestCounts) {
    let disagree = |found: &mut TestCounts, counts: u64, what: &str, shown: u64| {
        let message = format!("the test suite `{name}` counts {counts} {what}, and its report shows {shown}");
        found.doubt(COUNTS_DISAGREE, message);
    };
    let bad = counted.failures.saturating_add(counted.errors);
    if bad > all.bad {
        disagree(found, bad, "failures and errors", all.bad);
        let more = if counted.failures == 0 { &mut found.errors } else { &mut found.failed };
        *more = more.saturating_add(bad - all.bad);
        found.name(name);
        all.bad = bad;
    }
    if counted.skipped > all.skipped {
        // Some tools leave out what was not run.
        let missing = counted.skipped - all.skipped;
        let room = counted.tests.map_or(missing, |tests| tests.saturating_sub(all.cases));
        let omitted = missing.min(room);
        if missing > omitted {
            disagree(found, counted.skipped, "tests that were not run", all.skipped);
        }
        found.skipped = found.skipped.saturating_add(omitted);
        let of = |count: u64| count.saturating_add(omitted);
        *all = Shown { cases: of(all.cases), tests: of(all.tests), skipped: of(all.skipped), bad: all.bad };
    }
    let Some(tests) = counted.tests else { return };
    let more = counted.more && tests > all.cases;
    if !(all.agrees(tests) || own.agrees(tests) && own.cases < all.cases || more) {
        disagree(found, tests, "tests", all.cases);
    }
}

fn case(element: &BytesStart<'_>) -> Case {
    let mut case = Case::default();
    let (mut class, mut name) = (None, None);
    for (key, value) in attributes(element) {
        match key {
            "classname" => class = Some(value).filter(|class| !class.is_empty()),
            "name" => name = Some(value),
            "file" | "line" => {
                case.place.push_str(&value);
                case.place.push('\n');
            }
            "status" | "result" => case.end = case.end.max(End::of_word(&value).unwrap_or_default()),
            _ => {}
        }
    }
    case.name = match (class, name) {
        (Some(class), Some(name)) => format!("{class}::{name}"),
        (class, name) => name.or(class).unwrap_or_default().into_owned(),
    };
    case
}

/// The attributes of an element, as far as they can be read.
fn attributes<'a>(element: &'a BytesStart<'_>) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
    let mut all = element.attributes();
    // The check for a repeated name costs the square of their number.
    all.with_checks(false);
    all.filter_map(Result::ok).map(|attribute| {
        let value = match quick_xml::escape::unescape(&attribute.value) {
            Ok(value) => Cow::Owned(value.into_owned()),
            Err(_) => attribute.value.clone(),
        };
        (attribute.key.local_name().into_inner(), value)
    })
}

#[cfg(test)]
mod tests;
