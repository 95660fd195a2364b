//! What the reader makes of the reports of many tools, and of hostile ones.

use crate::job::Code;
use proptest::prelude::*;

use super::super::counts::MAX_NAMES;
use super::*;

/// Passed, failed, skipped, errors, and how many doubts there are.
fn numbers(xml: &str) -> (u64, u64, u64, u64, usize) {
    let found = counts(xml.as_bytes()).unwrap();
    (found.passed, found.failed, found.skipped, found.errors, found.doubts.len())
}

fn doubt(xml: &str) -> String {
    let found = counts(xml.as_bytes()).unwrap();
    assert!(found.failed == 0 && found.errors == 0, "{found:?}");
    found.doubts.first().map(|doubt| doubt.message.clone()).unwrap_or_default()
}

#[test]
fn test_cases_are_counted_and_failed_ones_named() {
    let xml = r#"<?xml version="1.0"?><testsuites><testsuite name="s" tests="5">
        <testcase classname="a.B" name="ok"/><testcase classname="a.B" name="bad &lt;1&gt;"><failure message="m">x</failure></testcase>
        <testcase name="skip"><skipped/></testcase><testcase name="err"><error/></testcase>
        <testcase name="both"><failure/><error/></testcase></testsuite></testsuites>"#;
    let found = counts(xml.as_bytes()).unwrap();
    assert_eq!(found.total(), 5);
    assert_eq!(numbers(xml), (1, 2, 1, 1, 0));
    assert_eq!(found.failed_tests, ["a.B::bad <1>", "err", "both"]);
}

#[test]
fn a_test_that_was_not_run_is_skipped_however_its_tool_says_so() {
    // googletest.
    let disabled = r#"<testsuites tests="2" disabled="2"><testsuite name="S" tests="2" disabled="2">
        <testcase name="DISABLED_a" status="notrun" result="suppressed"/>
        <testcase name="DISABLED_b" status="notrun" result="suppressed"/></testsuite></testsuites>"#;
    assert_eq!(numbers(disabled), (0, 0, 2, 0, 0));
    // CTest.
    let ctest = r#"<testsuite tests="3" failures="0" disabled="1" skipped="1">
        <testcase name="a" status="run"/><testcase name="b" status="notrun"><skipped message="SKIP"/></testcase>
        <testcase name="c" status="disabled"/></testsuite>"#;
    assert_eq!(numbers(ctest), (1, 0, 2, 0, 0));
    // Rust's libtest leaves out what it ignored.
    let omitted = r#"<testsuite tests="3" skipped="2"><testcase name="a"/></testsuite>"#;
    assert_eq!(numbers(omitted), (1, 0, 2, 0, 0));
    assert_eq!(numbers(r#"<testsuite disabled="2"/>"#), (0, 0, 2, 0, 0));
    // Some count only what was run.
    let ran = r#"<testsuite tests="1" skipped="1"><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>"#;
    assert_eq!(numbers(ran), (1, 0, 1, 0, 0));
}

#[test]
fn a_failure_is_found_wherever_it_stands() {
    let suite = r#"<testsuites><testsuite name="s" tests="1"><testcase name="a"/></testsuite>
        <testsuite name="broken" tests="0" errors="1"><error message="import failed"/></testsuite></testsuites>"#;
    assert_eq!(numbers(suite), (1, 0, 0, 1, 0));
    assert_eq!(counts(suite.as_bytes()).unwrap().failed_tests, ["broken"]);
    for (xml, failed, errors) in [
        (r#"<testsuite name="s" failures="2"><testcase name="a"/></testsuite>"#, 2, 0),
        (r#"<testsuites errors="1"><testsuite><testcase name="a"/></testsuite></testsuites>"#, 0, 1),
        (r#"<testsuite><testcase name="a" status="failed"/></testsuite>"#, 1, 0),
        (r#"<testsuite><testcase name="a" result="Error"/></testsuite>"#, 0, 1),
        (r#"<testsuite><failure/></testsuite>"#, 0, 1),
        (r#"<testsuite><testcase name="a"><Failure/></testcase></testsuite>"#, 1, 0),
        (r#"<testsuite><testcase name="a"><rerunFailure/></testcase></testsuite>"#, 1, 0),
        (r#"<x:testsuite xmlns:x="u"><x:testcase name="a"><x:failure/></x:testcase></x:testsuite>"#, 1, 0),
        (
            r#"<testsuite><testsuite><testsuite><testcase name="a"><error/></testcase></testsuite></testsuite></testsuite>"#,
            0,
            1,
        ),
    ] {
        let found = counts(xml.as_bytes()).unwrap();
        assert_eq!((found.failed, found.errors), (failed, errors), "{xml}");
    }
    for xml in [
        r#"<testsuite><testcase name="a"><system-err>error</system-err></testcase><system-err/></testsuite>"#,
        r#"<testsuite><properties><property name="error"/></properties><testcase name="a"/></testsuite>"#,
        r#"<testsuite><testcase name="a"><system-out><![CDATA[<failure/>]]></system-out></testcase></testsuite>"#,
        r#"<testsuite><testcase name="a"><properties><error/></properties></testcase><!-- <failure/> --></testsuite>"#,
        r#"<testsuite><limits><timeout/></limits><testcase name="a"><limits><timeout/></limits><passed/></testcase></testsuite>"#,
    ] {
        assert_eq!(numbers(xml), (1, 0, 0, 0, 0), "{xml}");
    }
}

#[test]
fn an_element_that_is_named_as_a_failure_is_a_doubt_unless_the_failures_are_counted() {
    for element in ["<crashed/>", "<Failed/>", "<timeout>30</timeout>", "<regression>false</regression>"] {
        let case = format!("<testcase name='a'>{element}</testcase>");
        let name = element.trim_start_matches('<').split(['>', '/']).next().unwrap();
        for xml in [
            format!("<testsuite>{case}</testsuite>"),
            format!("<testsuites><testsuite tests='1'>{case}</testsuite></testsuites>"),
        ] {
            let found = counts(xml.as_bytes()).unwrap();
            assert_eq!((found.passed, found.failed, found.errors, found.doubts.len()), (1, 0, 0, 1), "{xml}");
            let want = format!("the test `a` contains `<{name}>`, but no suite counts the failures");
            assert_eq!(
                (found.doubts[0].code.clone(), &found.doubts[0].message),
                (Code::TestCountsDisagree, &want)
            );
        }
        for counted in [
            format!("<testsuite tests='1' failures='0' errors='0'>{case}</testsuite>"),
            format!("<testsuites failures='0'><testsuite tests='1'>{case}</testsuite></testsuites>"),
        ] {
            assert_eq!(numbers(&counted), (1, 0, 0, 0, 0), "{counted}");
            let failed = counted.replace("failures='0'", "failures='1'");
            assert_eq!(counts(failed.as_bytes()).unwrap().failed, 1, "{failed}");
        }
    }
}

#[test]
fn counts_that_disagree_are_a_doubt_that_says_which() {
    let xml = r#"<testsuite name="s" tests="5"><testcase name="a"/></testsuite>"#;
    assert_eq!(doubt(xml), "the test suite `s` counts 5 tests, and its report shows 1");
    assert!(doubt(r#"<testsuites tests="3"><testsuite tests="0"/></testsuites>"#).contains("counts 3 tests"));
    let more = r#"<testsuite name="s" tests="1"><testcase name="a"/><testcase name="b"/></testsuite>"#;
    assert_eq!(doubt(more), "the test suite `s` counts 1 test, and its report shows 2");
    let hidden =
        r#"<testsuite name="s" tests="2" disabled="2"><testcase name="a"/><testcase name="b"/></testsuite>"#;
    assert_eq!(doubt(hidden), "the test suite `s` counts 2 tests that were not run, and its report shows 0");
    let failures = counts(br#"<testsuite name="s" failures="1"><testcase name="a"/></testsuite>"#).unwrap();
    assert_eq!(
        failures.doubts[0].message,
        "the test suite `s` counts 1 failure or error, and its report shows 0"
    );
    assert_eq!((failures.total(), failures.failed), (1, 1));
    assert_eq!(
        numbers(r#"<testsuite tests="1" errors="1"><testcase name="a"/></testsuite>"#),
        (0, 0, 0, 1, 1)
    );
    // The test that failed has no element.
    assert_eq!(
        numbers(r#"<testsuite tests="2" errors="1"><testcase name="a"/></testsuite>"#),
        (1, 0, 0, 1, 2)
    );
    let nested = r#"<testsuites failures="5"><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite></testsuites>"#;
    assert_eq!(numbers(nested), (0, 5, 0, 0, 1));
    assert!(doubt(r#"<testsuite tests="2"/>"#).starts_with("a test suite without a name counts 2 tests"));
    assert_eq!(counts(br#"<testsuite errors="1"/>"#).unwrap().failed_tests, ["(a test suite)"]);
}

#[test]
fn counts_of_nested_suites_agree_whether_or_not_they_hold_the_inner_ones() {
    for outer in ["3", "1"] {
        let xml = format!(
            r#"<testsuites tests="3"><testsuite tests="{outer}"><testcase name="a"/>
            <testsuite tests="2"><testcase name="a"/><testcase name="b"/></testsuite></testsuite></testsuites>"#
        );
        assert_eq!(numbers(&xml), (3, 0, 0, 0, 0), "{outer}");
    }
    let wrong = r#"<testsuite name="o" tests="2"><testcase name="a"/><testsuite><testcase name="a"/><testcase name="b"/></testsuite></testsuite>"#;
    assert!(doubt(wrong).contains("`o` counts 2 tests"));
}

#[test]
fn attempts_of_one_test_are_one_test_and_the_last_counts() {
    let case = |end: &str| format!("<testcase classname='c' name='n'>{end}</testcase>");
    let suite = |tests: &str, ends: &[&str]| {
        let cases: String = ends.iter().map(|end| case(end)).collect();
        format!("<testsuite {tests}>{cases}</testsuite>")
    };
    // The suite counts one test, or no failure.
    for attributes in ["tests='1'", "tests='1' failures='0'", "failures='0'"] {
        let flaky = suite(attributes, &["<failure/>", ""]);
        assert_eq!(numbers(&flaky), (1, 0, 0, 0, 0), "{attributes}");
        assert_eq!(counts(flaky.as_bytes()).unwrap().flaky, 1);
    }
    // pytest-rerunfailures writes a case without a word for each attempt but the last, and counts tests.
    let pytest = |attributes: &str, ends: &[&str]| suite(&format!("name='pytest' {attributes}"), ends);
    assert_eq!(numbers(&pytest("tests='1'", &["", "", ""])), (1, 0, 0, 0, 0));
    assert_eq!(numbers(&pytest("tests='1' failures='1'", &["", "", "<failure/>"])), (0, 1, 0, 0, 0));
    let outer = format!("<testsuites name='pytest tests'>{}</testsuites>", suite("tests='1'", &["", ""]));
    assert_eq!(numbers(&outer), (1, 0, 0, 0, 0));
    assert_eq!(numbers(&suite("", &["<failure/>", "<failure/>", "<failure/>"])), (0, 1, 0, 0, 0));
    assert_eq!(numbers(&suite("", &["<failure/>", "<skipped/>"])), (0, 1, 0, 0, 0));
    // A test that failed, and its clean-up too.
    assert_eq!(numbers(&suite("tests='2'", &["<failure/>", "<error/>"])), (0, 1, 0, 0, 0));
    // Parameters that do not stand in the name: the suite says that each is a test.
    assert_eq!(numbers(&suite("tests='3'", &["", "", ""])), (3, 0, 0, 0, 0));
    // A test that passed is not tried again: of another tool these are tests that the suite does not count.
    for (attributes, ends) in [
        ("tests='1'", &["", "", "", "", ""][..]),
        ("tests='2'", &["", "", ""]),
        ("tests='1' failures='0'", &["<failure/>", "", ""]),
    ] {
        let found = counts(suite(attributes, ends).as_bytes()).unwrap();
        assert_eq!(
            found.doubts.first().map(|doubt| doubt.code.clone()),
            Some(Code::TestCountsDisagree),
            "{attributes} {ends:?}"
        );
    }
    let parametrized =
        "<testsuite><testcase name='n[1]'><failure/></testcase><testcase name='n[2]'/></testsuite>";
    assert_eq!(numbers(parametrized), (1, 1, 0, 0, 0));
    // Nothing says that they are one test, so the one does not undo the other.
    for (attributes, passed) in [
        ("tests='2' failures='1'", 1),
        ("tests='2' failures='0'", 1),
        ("tests='2'", 1),
        ("tests='1' failures='1'", 0),
        ("failures='1'", 0),
        ("errors='1'", 0),
        ("", 0),
    ] {
        for ends in [["<failure/>", ""], ["", "<failure/>"]] {
            let xml = suite(attributes, &ends);
            let found = counts(xml.as_bytes()).unwrap();
            assert_eq!((found.passed, found.failed, found.flaky), (passed, 1, 0), "{xml}");
            assert_eq!(found.failed_tests, ["c::n"]);
        }
    }
    let outer = format!("<testsuites failures='1'>{}</testsuites>", suite("tests='1'", &["<failure/>", ""]));
    assert_eq!(numbers(&outer), (0, 1, 0, 0, 0));
    let lines = "<testsuite><testcase name='n' line='3'><failure/></testcase><testcase name='n' line='9'/></testsuite>";
    assert_eq!(numbers(lines), (1, 1, 0, 0, 0));
    let suites =
        format!("<testsuites failures='1'>{}{}</testsuites>", suite("", &["<failure/>"]), suite("", &[""]));
    assert_eq!(numbers(&suites), (1, 1, 0, 0, 0));
    // surefire and cargo-nextest.
    assert_eq!(numbers(&suite("tests='1' failures='0'", &["<flakyFailure/>"])), (1, 0, 0, 0, 0));
    assert_eq!(counts(suite("", &["<flakyFailure/>"]).as_bytes()).unwrap().flaky, 1);
    assert_eq!(numbers(&suite("tests='1' failures='1'", &["<failure/><rerunFailure/>"])), (0, 1, 0, 0, 0));
}

#[test]
fn tools_that_count_more_than_tests_are_believed() {
    let xml =
        |attributes: &str| format!("<testsuite {attributes} tests='16'><testcase name='a'/></testsuite>");
    for attributes in ["name='pytest'", "name='x' hostname='tbd'", "name='doctest'"] {
        assert_eq!(numbers(&xml(attributes)), (1, 0, 0, 0, 0), "{attributes}");
    }
    let named = format!("<testsuites name='pytest tests'>{}</testsuites>", xml("name='mine'"));
    assert_eq!(numbers(&named), (1, 0, 0, 0, 0));
    // pytest.exit("…", 0) leaves a case without a name that is not counted.
    let exit = "<testsuite name='pytest' tests='1'><testcase name='a'/><testcase time='0.0'/></testsuite>";
    assert!(doubt(exit).contains("counts 1 test,"));
}

#[test]
fn what_xml_forbids_is_no_reason_not_to_read_a_report() {
    for xml in [
        &b"<testsuite><testcase name='a'/><system-out>\x1b[31m\x00\xff</system-out></testsuite>"[..],
        b"\n\n<?xml version='1.0'?><!DOCTYPE x><testsuite><testcase name='&e;&nbsp;&#0;'/></testsuite>",
        b"<testsuite tests='' failures='' disabled='false'><testcase name='a' name='b' x/></testsuite>\n\n<!-- x -->",
        b"> npm test\n<testsuite><testcase name='a'/></testsuite>",
    ] {
        let found = counts(xml).unwrap();
        assert_eq!((found.passed, found.doubts.len()), (1, 0), "{}", String::from_utf8_lossy(xml));
    }
}

#[test]
fn a_count_that_is_no_number_is_a_doubt_and_no_success() {
    for value in ["one", "-1", "1.0", "99999999999999999999999", "1,000", "NaN"] {
        for key in ["tests", "failures", "errors"] {
            let suite = format!("<testsuite name='s' {key}='{value}'><testcase name='a'/></testsuite>");
            let want = format!("the test suite `s` gives `{key}` as `{value}`, which is not a count");
            assert_eq!(doubt(&suite), want);
            let root = format!(
                "<testsuites {key}='{value}'><testsuite><testcase name='a'/></testsuite></testsuites>"
            );
            assert!(doubt(&root).starts_with("a test suite without a name gives"), "{root}");
        }
    }
    assert_eq!(
        numbers("<testsuite tests=' 1 ' failures='0'><testcase name='a'/></testsuite>"),
        (1, 0, 0, 0, 0)
    );
    assert_eq!(numbers("<testsuite tests='1' failures='&#49;'><testcase name='a'/></testsuite>").1, 1);
}

#[test]
fn what_can_hide_a_failure_behind_the_root_or_in_a_document_type_breaks_a_report() {
    let passed = "<testsuite tests='1'><testcase name='a'/></testsuite>";
    for (xml, why) in [
        (format!("{passed} Segmentation fault (core dumped)"), "text follows"),
        (format!("{passed}<![CDATA[failed]]>"), "text follows"),
        (format!("{passed}&failed;"), "text follows"),
        (format!("{passed}\0\0"), "text follows"),
        (format!("{passed} failed {passed}"), "text follows"),
        (
            "<!DOCTYPE x [<!ENTITY f '<failure/>'>]><testsuite><testcase name='a'>&f;</testcase></testsuite>"
                .to_owned(),
            "its document type",
        ),
        (format!("<!DOCTYPE x[<!ATTLIST testcase status CDATA 'failed'>]>{passed}"), "its document type"),
        (format!("<!DOCTYPE testsuite SYSTEM 'x.dtd'>{passed}"), "its document type"),
    ] {
        let Err(NoReport::Broken(found)) = counts(xml.as_bytes()) else { panic!("{xml} was read") };
        assert!(found.contains(why), "{xml}: {found}");
    }
    // What it shows outweighs what it may hide, and other XML has document types too.
    let failed = "<testsuite><testcase name='a'><Failure/></testcase></testsuite> Aborted";
    assert_eq!(numbers(failed), (0, 1, 0, 0, 0));
    let coverage = "<!DOCTYPE report PUBLIC '-//JACOCO//DTD Report 1.1//EN' 'report.dtd'><report/>\nx";
    assert_eq!(counts(coverage.as_bytes()), Err(NoReport::OtherXml));
}

#[test]
fn a_word_that_is_not_known_is_a_doubt_and_no_success() {
    let with = |attributes: &str| format!("<testsuite><testcase name='a' {attributes}/></testsuite>");
    for word in ["status='exploded'", "result='?'", "status='run' result='incomplete'", "status='1'"] {
        let found = counts(with(word).as_bytes()).unwrap();
        assert_eq!((found.failed, found.errors, found.doubts.len()), (0, 0, 1), "{word}");
        assert!(
            found.doubts[0].code == Code::TestStatusUnknown
                && found.doubts[0].message.contains("test `a` has the unknown result")
        );
    }
    for word in ["timeout", "Timed Out", "TIMED_OUT", "aborted", "crashed", "broken"] {
        assert_eq!(numbers(&with(&format!("status='{word}'"))), (0, 0, 0, 1, 0), "{word}");
    }
    for word in ["", "run", "completed", "PASSED", "pass", "Success", "ok", "FIXED", "executed", "flaky"] {
        assert_eq!(numbers(&with(&format!("result='{word}'"))), (1, 0, 0, 0, 0), "{word}");
    }
    for word in ["not_run", "not run", "untested", "SKIPPED"] {
        assert_eq!(numbers(&with(&format!("status='{word}'"))), (0, 0, 1, 0, 0), "{word}");
    }
    // The element says it.
    let failed = "<testsuite><testcase name='a' status='odd'><failure/></testcase></testsuite>";
    assert_eq!(numbers(failed), (0, 1, 0, 0, 0));
}

#[test]
fn a_failure_counts_at_any_depth_and_without_a_suite() {
    for (xml, failed, errors) in [
        ("<testsuite><testcase name='a'><rerun><failure/></rerun></testcase></testsuite>", 1, 0),
        ("<testsuite><testcase name='a'><x><y><error/></y></x></testcase></testsuite>", 0, 1),
        ("<testsuite><x><error/></x></testsuite>", 0, 1),
        ("<testcase name='a'><failure/></testcase>", 1, 0),
        ("<results><testcase name='a' status='failed'/><testcase name='b'/></results>", 1, 0),
    ] {
        let found = counts(xml.as_bytes()).unwrap();
        assert_eq!((found.failed, found.errors), (failed, errors), "{xml}");
    }
    let quiet =
        "<testsuite><testcase name='a'><system-out><x><failure/></x></system-out></testcase></testsuite>";
    assert_eq!(numbers(quiet), (1, 0, 0, 0, 0));
    // Of other XML, only a failed test matters.
    for xml in ["<testcase name='a'/>", "<checkstyle><file><error line='1'/></file></checkstyle>"] {
        assert_eq!(counts(xml.as_bytes()), Err(NoReport::OtherXml), "{xml}");
    }
}

#[test]
fn an_attribute_that_cannot_be_read_breaks_a_report() {
    for xml in [
        "<testsuite failures=1><testcase name='a'/></testsuite>",
        "<testsuite><testcase name='a' status=failed/></testsuite>",
        "<testsuite><testcase name='a' status=/></testsuite>",
    ] {
        assert!(
            matches!(counts(xml.as_bytes()), Err(NoReport::Broken(why)) if why.starts_with("not XML: ")),
            "{xml}"
        );
    }
}

/// A text of pieces that matter to the reader, in an order that a number decides.
fn scrambled(seed: u64, pieces: usize) -> Vec<u8> {
    const PIECES: [&[u8]; 20] = [
        b"<testsuites tests='3'>",
        b"<testsuite name='s' tests='2' failures='1' skipped='9'>",
        b"<testcase name='a'>",
        b"<testcase name='b' status='failed'/>",
        b"</testcase>",
        b"</testsuite>",
        b"</testsuites>",
        b"<failure/>",
        b"<error>",
        b"</error>",
        b"<skipped/>",
        b"<![CDATA[",
        b"]]>",
        b"<!--",
        b"-->",
        b"\xff\xfe",
        b"&amp;",
        b"'\"",
        b"<?xml version='1.0' encoding='Shift_JIS'?>",
        b"tests='18446744073709551615'",
    ];
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        PIECES[usize::try_from(state % PIECES.len() as u64).unwrap()]
    };
    (0..pieces).flat_map(next).copied().collect()
}

proptest! {
    #[test]
    fn any_text_has_counts_or_a_reason(seed in any::<u64>(), pieces in 0usize..200) {
        let text = scrambled(seed, pieces);
        if let Ok(found) = counts(&text) {
            prop_assert!(found.failed_tests.len() <= MAX_NAMES && found.doubts.len() <= MAX_NAMES);
        }
    }

    #[test]
    fn a_report_that_is_cut_anywhere_is_no_success(cut in 1usize..150) {
        let xml = "<testsuites tests='2'><testsuite name='s' tests='2'><testcase classname='c' name='a'/>\
                   <testcase classname='c' name='b'></testcase></testsuite></testsuites>";
        let read = counts(&xml.as_bytes()[..cut.min(xml.len() - 1)]);
        prop_assert!(!read.is_ok_and(|found| found.passed > 0 && found.doubts.is_empty()));
    }
}

#[test]
fn a_large_or_hostile_report_is_read_in_one_pass() {
    let many = |text: &str, times: usize| text.repeat(times);
    let attributes: String = (0..100_000).map(|n| format!(" a{n}='1'")).collect();
    let cases: String =
        (0..100_000).map(|n| format!("<testcase name='t{n}'><failure/></testcase>")).collect();
    for xml in [
        format!("<testsuite>{cases}</testsuite>"),
        format!("<testsuite{attributes}><testcase name='a'{attributes}/></testsuite>"),
        format!("{}{}", many("<testsuite>", 400_000), many("</testsuite>", 400_000)),
        format!("<testsuite>{}</testsuite>", many("<testcase name='a'><failure/></testcase>", 100_000)),
        format!("<testsuite>{}{}</testsuite>", many("<testcase>", 400_000), many("</testcase>", 400_000)),
        format!(
            "<testsuite name='{}'>{}</testsuite>",
            many("n", 1 << 20),
            many("<error/><testcase/>", 100_000)
        ),
    ] {
        // What is quadratic in one of these takes minutes, and the test is ended.
        assert!(counts(xml.as_bytes()).unwrap().failed_tests.len() <= MAX_NAMES);
    }
}
