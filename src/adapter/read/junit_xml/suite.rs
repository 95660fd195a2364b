//! The tests of one suite: attempts of one test made one, and the suite's own attributes held against them.
//!
//! Not responsible for XML. Hard rule: a failure that only an attribute reports is a failure, and counts that disagree are a
//! doubt.

use std::collections::BTreeMap;

use super::end::End;
use crate::adapter::read::counts::{TestCounts, number};
use crate::job::Code;

/// A `testcase` element.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) name: String,
    /// Tests of one name in different lines of a file are different tests.
    pub(super) place: String,
    pub(super) end: End,
    pub(super) flaky: bool,
    /// An unknown word for its end.
    pub(super) unknown: Option<String>,
    /// An element in it that no format has, and that is named as a bad end.
    pub(super) odd: Option<String>,
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
pub(super) struct Shown {
    cases: u64,
    tests: u64,
    pub(super) bad: u64,
    /// How many of the bad ones a later attempt of the same test undid.
    undone: u64,
    skipped: u64,
}

impl Shown {
    pub(super) fn add(&mut self, other: Self) {
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
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) counted: Counted,
    tests: Vec<Test>,
    index: BTreeMap<(String, String), usize>,
    /// Errors outside of any test.
    pub(super) errors: u64,
    pub(super) own: Shown,
    pub(super) inner: Shown,
    /// What may be a failure, as long as no suite counts failures.
    pub(super) odd: Option<String>,
}

/// The attributes of a suite that count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) tests: Option<u64>,
    pub(super) failures: Option<u64>,
    pub(super) errors: Option<u64>,
    pub(super) skipped: u64,
    /// `tests` counts more than tests there.
    pub(super) more: bool,
    /// A failed attempt has an element of its own, like one that passed.
    pub(super) hides_attempts: bool,
}

impl Counted {
    /// Tests that did not pass, if it counts them.
    pub(super) fn bad(self) -> Option<u64> {
        let of = |count: Option<u64>| count.unwrap_or(0);
        self.failures.or(self.errors).map(|_| of(self.failures).saturating_add(of(self.errors)))
    }
}

impl Suite {
    pub(super) fn push(&mut self, case: Case) {
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

/// Counts the tests of a suite, and holds its attributes against all that is in it.
pub(super) fn settle(suite: Suite, found: &mut TestCounts) -> Shown {
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

pub(super) fn in_words(name: &str) -> String {
    if name.is_empty() {
        "a test suite without a name".to_owned()
    } else {
        format!("the test suite `{name}`")
    }
}

/// Adds the tests that only the suite reports as not passed.
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
