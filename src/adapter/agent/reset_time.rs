//! When a service that refuses is open again, as its words say it.
//!
//! Pure: the time of now is given. Hard rule: a text that says no time has none; nothing is guessed.

use std::time::Duration;

use crate::clock::{Timestamp, Zone};

/// When a quota is open again, if a text says so: at a time, or after some time.
#[must_use]
pub(crate) fn reset_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let plain = text.replace(['\u{2019}', '\u{202f}', '\u{a0}'], " ");
    let lower = plain.to_lowercase();
    if let Some((_, rest)) = lower.split_once("limit reached|") {
        let seconds: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return seconds.parse().ok().and_then(in_seconds_since_1970);
    }
    let marks = [
        "retrydelay",
        "try again at ",
        "try again in ",
        "please retry in ",
        "retry in ",
        "retry after ",
        "resets in ",
        "resets at ",
        "reset after ",
        "reset at ",
        "reset in ",
        "resets ",
    ];
    for mark in marks {
        for (at, _) in lower.match_indices(mark) {
            // In JSON a quoted value follows.
            let rest =
                lower.get(at + mark.len()..).unwrap_or_default().trim_start_matches(['"', '\\', ':', ' ']);
            if let Some(wait) = duration(rest) {
                return Some(now.after(wait));
            }
            if let Some(time) = moment(rest, now) {
                return Some(time);
            }
        }
    }
    None
}

/// True if a text says when the refusal is over.
#[must_use]
pub(crate) fn names_a_time(text: &str) -> bool {
    // Any moment will do: whether a time is named does not depend on it.
    reset_time(text, Timestamp::from_millis(1_700_000_000_000)).is_some()
}

/// A time from a number of seconds since 1970, if it is one of our age.
#[must_use]
pub(crate) fn in_seconds_since_1970(seconds: i64) -> Option<Timestamp> {
    (1_000_000_000..10_000_000_000).contains(&seconds).then(|| Timestamp::from_millis(seconds * 1000))
}

/// `2h39m`, `1.5s`, `3600 seconds`, `5 days 2 hours`, at the beginning of a text.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut sum = None;
    loop {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let Ok(number) = rest.get(..number_end).unwrap_or_default().trim_end_matches('.').parse::<f64>()
        else {
            break;
        };
        let after = rest.get(number_end..).unwrap_or_default();
        let spaced = after.trim_start();
        let unit_end = spaced.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(spaced.len());
        let factor = match spaced.get(..unit_end).unwrap_or_default() {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        sum = Some(sum.unwrap_or(0.0) + number * factor);
        rest = spaced.get(unit_end..).unwrap_or_default().trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    let seconds: f64 = sum?;
    (0.0..=100.0 * 86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// `mar 17th, 2030 5:46 pm`, `mar 17, 2030, 5:46pm (utc)`, `8pm (america/new_york)`, `2030-03-17t17:46:00z`.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let first = text.split([' ', '"', ')', ',']).next().unwrap_or_default().trim_end_matches('.');
    if let Ok(time) = Timestamp::parse(&first.to_uppercase()) {
        return Some(time);
    }
    let zone = zone(text);
    let text: String = text.chars().take_while(|c| !matches!(c, '(' | '\n' | '"')).take(60).collect();
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let Some(month) = words.first().and_then(|word| month(word)) else {
        let (hour, minute) = clock_time(&words)?;
        return now.next_at(hour, minute, &zone);
    };
    let digits = |word: &str| word.chars().take_while(char::is_ascii_digit).collect::<String>();
    let day: i8 = digits(words.get(1)?).parse().ok()?;
    let year: Option<i16> = digits(words.get(2)?).parse().ok().filter(|year| *year >= 1970);
    let (hour, minute) = clock_time(words.get(if year.is_some() { 3 } else { 2 }..)?)?;
    now.at_date(year, month, day, (hour, minute), &zone)
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let name: String = word.chars().take(3).collect();
    let index = MONTHS.iter().position(|month| *month == name)?;
    i8::try_from(index + 1).ok()
}

/// `5:46 pm`, `5:46pm`, `8pm`, `17:46`, with a leading `at`.
fn clock_time(words: &[&str]) -> Option<(i8, i8)> {
    let words = if words.first() == Some(&"at") { words.get(1..)? } else { words };
    let first = words.first()?.trim_end_matches('.');
    let (time, half) = match first.strip_suffix("am").map(|t| (t, "am")) {
        Some(found) => found,
        None => match first.strip_suffix("pm") {
            Some(time) => (time, "pm"),
            None => (first, words.get(1).map_or("", |word| word.trim_end_matches('.'))),
        },
    };
    let (hour, minute) = time.split_once(':').unwrap_or((time, "0"));
    if half.is_empty() && !time.contains(':') {
        return None;
    }
    let (hour, minute): (i8, i8) = (hour.parse().ok()?, minute.parse().ok()?);
    match half {
        "pm" if (1..=11).contains(&hour) => Some((hour + 12, minute)),
        "am" if hour == 12 => Some((0, minute)),
        _ => Some((hour, minute)),
    }
}

/// The time zone in parentheses, `(America/New_York)`; else that of this machine.
fn zone(text: &str) -> Zone {
    let named = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name.trim());
    named.and_then(Zone::named).unwrap_or_else(Zone::of_this_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_reset_is_read_in_every_form_that_tools_print() {
        let now = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        let at = |text: &str| reset_time(text, now).map(|time| time.to_string());
        for (text, want) in [
            ("session limit - resets Mar 17, 2030, 5:46pm (UTC)", "2030-03-17T17:46:00.000Z"),
            ("resets 8pm (America/New_York)", "2026-11-22T01:00:00.000Z"),
            ("resets 9:30am (UTC)", "2026-11-22T09:30:00.000Z"),
            ("resets Dec 1 at 12am (UTC)", "2026-12-01T00:00:00.000Z"),
            ("resets Jan 2, 3am (UTC)", "2027-01-02T03:00:00.000Z"),
            ("exhausted your quota, resets in 1h", "2026-11-21T11:00:00.000Z"),
            ("Your quota will reset after 2h39m.", "2026-11-21T12:39:00.000Z"),
            ("try again in 1.5s", "2026-11-21T10:00:01.500Z"),
            ("Please retry in 26 seconds.", "2026-11-21T10:00:26.000Z"),
            (r#"{"@type":"x.RetryInfo","retryDelay":"26s"}"#, "2026-11-21T10:00:26.000Z"),
            (r#"{\"retryDelay\": \"1.5s\"}"#, "2026-11-21T10:00:01.500Z"),
            ("Claude AI usage limit reached|1900000000", "2030-03-17T17:46:40.000Z"),
            ("resets at 2026-11-21T13:00:00Z.", "2026-11-21T13:00:00.000Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(want), "{text}");
        }
        for text in ["try again later", "resets soon", "try again at", "resets in -3h", "resets 99pm"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_that_of_this_machine() {
        let now = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        let got = reset_time("or try again at Mar 17th, 2030 5:46 PM.", now).unwrap();
        let wanted = now.at_date(Some(2030), 3, 17, (17, 46), &Zone::of_this_machine()).unwrap();
        assert_eq!(got, wanted);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s).{0,120}") {
            let now = Timestamp::from_millis(1_795_000_000_000);
            let _ = (reset_time(&text, now), reset_time(&format!("resets {text}"), now));
        }
    }
}
