//! The signature of a failure: equal for two runs that failed in the same way.
//!
//! Of the output goes what differs between two runs of the same program on the same files: colours, durations, times, memory
//! addresses, process ids, temporary paths, and the place of the worktree. What is left of the tail is hashed.

use serde_json::{Map, Value};

use crate::job::{RecordLine, ToolId, digest};

/// So many characters of the end of the output count.
const TAIL: usize = 2000;

/// Stands for what was taken out.
const OUT: char = '~';

/// What is known of a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'a> {
    /// The tool of the check.
    pub(crate) tool: &'a str,
    /// Its exit code; none if it did not exit.
    pub(crate) exit_code: Option<i32>,
    /// The names of the tests that failed, in any order.
    pub(crate) failed_tests: &'a [String],
    /// Its output.
    pub(crate) output: &'a str,
    /// The path of the worktree.
    pub(crate) worktree: &'a str,
}

/// SHA-256, hexadecimal.
pub(crate) fn signature(failure: &Failure<'_>) -> String {
    let mut tests: Vec<&String> = failure.failed_tests.iter().collect();
    tests.sort();
    tests.dedup();
    let output = normalized(failure.output, failure.worktree);
    let start = output.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
    let tail = output.get(start..).unwrap_or_default();
    let text = serde_json::json!([failure.tool, failure.exit_code, tests, tail]).to_string();
    digest::sha256(text.as_bytes())
}

/// The signature of what the last line of a check's record says; the worktree's path is taken out.
#[must_use]
pub(crate) fn of_record(line: &RecordLine, worktree: &str) -> String {
    let result = line.result.as_ref();
    let failed_tests = result.map(|result| failed_tests(&result.metadata)).unwrap_or_default();
    let output = result.map(|result| format!("{}\n{}", result.stdout, result.stderr)).unwrap_or_default();
    signature(&Failure {
        tool: line.job.tool.as_ref().map(ToolId::as_str).unwrap_or_default(),
        exit_code: result.and_then(|result| result.exit_code),
        failed_tests: &failed_tests,
        output: &output,
        worktree,
    })
}

/// The signature of a run of a check that passed and does not count, by the reason for that.
#[must_use]
pub(crate) fn of_message(line: &RecordLine, message: &str) -> String {
    let tool = line.job.tool.as_ref().map(ToolId::as_str).unwrap_or_default();
    signature(&Failure { tool, exit_code: None, failed_tests: &[], output: message, worktree: "" })
}

/// The names of the tests that failed, as a result has them.
#[must_use]
pub(crate) fn failed_tests(metadata: &Map<String, Value>) -> Vec<String> {
    let names = metadata.get("failed_tests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The output without what differs between runs; blanks and line breaks are one space.
fn normalized(output: &str, worktree: &str) -> String {
    let mut plain = without_escapes(output);
    if !worktree.is_empty() {
        plain = plain.replace(worktree, "");
    }
    let mut made = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while let Some(c) = rest.chars().next() {
        let is_inside =
            made.chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_');
        let length = if is_inside { 0 } else { volatile(rest) };
        if length > 0 {
            made.push(OUT);
        } else if !c.is_whitespace() {
            made.push(c);
        } else if !made.is_empty() && !made.ends_with(' ') {
            made.push(' ');
        }
        rest = rest.get(length.max(c.len_utf8())..).unwrap_or_default();
    }
    made.truncate(made.trim_end().len());
    made
}

/// Takes out escape sequences of terminals and other control characters that are no blanks.
fn without_escapes(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\u{1b}', Some('[')) => {
                chars.next();
                // Parameters, then one character that ends it.
                while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
                chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            ('\u{1b}', Some(']')) => {
                // A title or a link: up to a bell, or to an escape whose rest the next turn takes.
                while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
            }
            ('\u{1b}', Some(_)) => drop(chars.next()),
            (c, _) if c.is_control() && !c.is_whitespace() => {}
            (c, _) => made.push(c),
        }
    }
    made
}

/// The length of what differs between runs at the beginning of a text; 0 if nothing does.
fn volatile(text: &str) -> usize {
    [address, date, clock, duration, endpoint, process_id, temporary]
        .into_iter()
        .find_map(|look| look(text))
        .unwrap_or(0)
}

/// How many characters at the beginning, all of one byte, are of a kind.
fn count(text: &str, is_it: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii() && is_it(*byte)).count()
}

fn digits(text: &str) -> usize {
    count(text, |byte| byte.is_ascii_digit())
}

/// The rest behind a number with so many digits.
fn number(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<&str> {
    let length = digits(text);
    lengths.contains(&length).then(|| text.get(length..)).flatten()
}

fn length(text: &str, rest: &str) -> usize {
    text.len() - rest.len()
}

fn is_at_end_of_word(rest: &str) -> bool {
    !rest.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// A memory address. A short hexadecimal number may be a value that a test compares.
fn address(text: &str) -> Option<usize> {
    let hexadecimal = count(text.strip_prefix("0x")?, |byte| byte.is_ascii_hexdigit());
    (hexadecimal >= 6).then_some(hexadecimal + 2)
}

/// `2026-11-21`, also with a time and a zone behind it.
fn date(text: &str) -> Option<usize> {
    let month = number(text, 4..=4)?.strip_prefix('-')?;
    let day = number(month, 2..=2)?.strip_prefix('-')?;
    let rest = number(day, 2..=2)?;
    let time = rest.strip_prefix(['T', ' ']).and_then(|time| Some((clock(time)?, time)));
    let rest = time.and_then(|(length, time)| time.get(length..)).unwrap_or(rest);
    let zone = rest
        .strip_prefix(['+', '-'])
        .map_or(0, |zone| count(zone, |byte| byte.is_ascii_digit() || byte == b':'));
    let rest = if zone >= 4 { rest.get(zone + 1..)? } else { rest.strip_prefix('Z').unwrap_or(rest) };
    Some(length(text, rest))
}

/// `10:00:00`, also with a fraction. Two numbers may be a line and a column.
fn clock(text: &str) -> Option<usize> {
    let minutes = number(text, 1..=2)?.strip_prefix(':')?;
    let seconds = number(minutes, 2..=2)?.strip_prefix(':')?;
    Some(length(text, without_fraction(number(seconds, 2..=2)?)))
}

fn without_fraction(rest: &str) -> &str {
    rest.strip_prefix(['.', ',']).and_then(|fraction| number(fraction, 1..=9)).unwrap_or(rest)
}

/// Units of time, and whether a blank may stand before them. A longer one comes before its beginning.
const UNITS: [(&str, bool); 17] = [
    ("milliseconds", true),
    ("seconds", true),
    ("second", true),
    ("secs", true),
    ("sec", true),
    ("minutes", true),
    ("minute", true),
    ("mins", true),
    ("min", true),
    ("hours", true),
    ("ms", true),
    ("us", false),
    ("µs", true),
    ("ns", true),
    ("s", true),
    ("m", false),
    ("h", false),
];

/// `0.12s`, `3 ms`, `1m 2.5s`.
fn duration(text: &str) -> Option<usize> {
    let mut rest = behind_one_duration(text)?;
    while let Some(more) = behind_one_duration(rest.trim_start_matches(' ')) {
        rest = more;
    }
    Some(length(text, rest))
}

fn behind_one_duration(text: &str) -> Option<&str> {
    let rest = without_fraction(number(text, 1..=12)?);
    let unit = rest.strip_prefix(' ').unwrap_or(rest);
    let fits = |(word, may_stand_apart): &(&str, bool)| {
        let behind = unit.strip_prefix(word)?;
        let is_whole = is_at_end_of_word(behind) || behind.starts_with(|c: char| c.is_ascii_digit());
        (is_whole && (*may_stand_apart || unit.len() == rest.len())).then_some(behind)
    };
    UNITS.iter().find_map(fits)
}

/// `127.0.0.1:40213`: the port is often another one each time.
fn endpoint(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix("localhost");
    if rest.is_none() {
        rest = number(text, 1..=3);
        for _ in 0..3 {
            rest = rest.and_then(|rest| number(rest.strip_prefix('.')?, 1..=3));
        }
    }
    number(rest?.strip_prefix(':')?, 1..=5).map(|rest| length(text, rest))
}

/// `pid 4711`, `process 4711`, `==4711==`.
fn process_id(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix("==") {
        return number(rest, 1..=10)?.strip_prefix("==").map(|rest| length(text, rest));
    }
    let word = count(text, |byte| byte.is_ascii_alphabetic());
    let (word, rest) = text.split_at_checked(word)?;
    let is_one = ["pid", "process"].iter().any(|one| word.eq_ignore_ascii_case(one));
    let rest = is_one.then(|| rest.trim_start_matches([' ', '=', ':', '#', '(', '[']))?;
    number(rest, 1..=10).map(|rest| length(text, rest))
}

/// A path below a directory of temporary files.
fn temporary(text: &str) -> Option<usize> {
    let is_one = ["/tmp/", "/var/tmp/"].iter().any(|one| text.starts_with(one));
    let end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ':' | ',' | ')' | ']' | '>');
    is_one.then(|| text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Failure<'_> =
        Failure { tool: "tests", exit_code: Some(1), failed_tests: &[], output: "", worktree: "/w/r-1/ws-a" };

    fn of(output: &str) -> String {
        signature(&Failure { output, ..BASE })
    }

    #[test]
    fn two_runs_of_one_failure_have_one_signature() {
        for (one, other) in [
            ("1 failed in 0.12s", "1 failed in 13.07s"),
            ("1 failed in 0.12s (0:00:12)", "1 failed in 72.1s (0:01:12)"),
            ("took 3 ms", "took 17 ms"),
            ("took 1m 2.5s today", "took 3.25 seconds today"),
            ("2026-11-21T10:00:00.123Z error", "2026-11-22 23:59:59,9+01:00 error"),
            ("10:00:00 error", "9:59:59.5 error"),
            ("<Thing object at 0x7f12ab34cd56>", "<Thing object at 0x55d0c0ffee00>"),
            ("worker pid 4711 died", "worker PID: 12 died"),
            ("==4711==ERROR", "==99==ERROR"),
            ("connect to 127.0.0.1:40213 refused", "connect to 127.0.0.1:5 refused"),
            ("see /tmp/pytest-of-me/pytest-3/test_a0: gone", "see /tmp/pytest-of-me/pytest-12/test_a0: gone"),
            ("\u{1b}[1;31mE\u{1b}[0m   x", "E x"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7}", "link"),
            ("a\r\n\n\t b  \n", "a b"),
            ("File /w/r-1/ws-a/src/a.py, line 3", "File /src/a.py, line 3"),
        ] {
            assert_eq!(normalized(one, BASE.worktree), normalized(other, BASE.worktree), "{one:?} {other:?}");
            assert_eq!(of(one), of(other));
        }
    }

    #[test]
    fn what_tells_failures_apart_stays() {
        for (one, other) in [
            ("a.py:12:30: E501", "a.py:12:31: E501"),
            ("assert 3 == 4", "assert 3 == 5"),
            ("assert 0x1f == 0x20", "assert 0x1f == 0x21"),
            ("E501 line too long (88 > 79)", "E501 line too long (90 > 79)"),
            ("test_12s failed", "test_13s failed"),
            ("3 errors", "4 errors"),
            ("version 1.2.3", "version 1.2.4"),
            ("processes 3", "processes 4"),
            ("5 meters", "6 meters"),
        ] {
            assert_ne!(of(one), of(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn tool_exit_code_and_failed_tests_count_and_their_order_does_not() {
        let tests = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (ab, ba, a) = (tests(&["a", "b"]), tests(&["b", "a", "a"]), tests(&["a"]));
        let with = |failed_tests: &[String]| signature(&Failure { failed_tests, ..BASE });
        assert_eq!(with(&ab), with(&ba));
        assert_ne!(with(&ab), with(&a));
        assert_ne!(of(""), signature(&Failure { tool: "shell", ..BASE }));
        assert_ne!(of(""), signature(&Failure { exit_code: None, ..BASE }));
    }

    #[test]
    fn only_the_tail_of_the_output_counts() {
        let tail = "ä".repeat(TAIL);
        assert_eq!(of(&format!("one {tail}")), of(&format!("another {tail}")));
        assert_ne!(of(&format!("x{}", &tail[2..])), of(&format!("y{}", &tail[2..])));
    }

    proptest::proptest! {
        #[test]
        fn every_output_becomes_one_line_without_control_characters(
            output in "([0-9]{1,4}[-:. sm]|0x[0-9a-f]{0,8}|pid |/tmp/|\u{1b}[\\[\\]m]|==|.|\\PC){0,60}",
        ) {
            let once = normalized(&output, "");
            proptest::prop_assert!(!once.contains("  ") && once.chars().all(|c| !c.is_control()));
        }
    }
}
