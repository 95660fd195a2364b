//! What services say when they refuse, and the class of it; the time at which a quota is open again.
//!
//! The status counts first, the words last: every provider and gateway words it differently. Pure.

use std::time::Duration;

use crate::clock::{Timestamp, Zone};
use crate::job::class::Class;

/// Words that tell a quota that is used up from too many requests for the moment.
const QUOTA: [&str; 12] = [
    "usage limit",
    "session limit",
    "weekly limit",
    "daily quota",
    "daily limit",
    "exhausted your quota",
    "exhausted your daily",
    "limit reached|",
    "quota will reset",
    "quota resets",
    "exceeded your current quota, please retry",
    "hit your limit",
];

const BILLING: [&str; 9] = [
    "insufficient_quota",
    "billing",
    "credit balance",
    "payment required",
    "insufficient funds",
    "insufficient credits",
    "out of credits",
    "purchase credits",
    "check your plan",
];

const AUTH: [&str; 14] = [
    "incorrect api key",
    "invalid api key",
    "invalid x-api-key",
    "api key not valid",
    "api key is invalid",
    "missing environment variable",
    "authentication_failed",
    "authenticationerror",
    "authentication_error",
    "not able to authenticate",
    "not logged in",
    "invalid auth method",
    "unauthorized",
    "permission_denied",
];

const CONTEXT: [&str; 11] = [
    "context_length_exceeded",
    "context length",
    "context window",
    "prompt is too long",
    "maximum context",
    "maximum number of tokens",
    "too many tokens",
    "contextwindowexceeded",
    "input is too long",
    "request too large",
    "exceeds the maximum number of input tokens",
];

const REFUSED: [&str; 6] = [
    "content_filter",
    "safety settings",
    "content policy",
    "usage policy",
    "prohibited_content",
    "responsible ai",
];

const RATE: [&str; 8] = [
    "ratelimiterror",
    "rate limit",
    "rate_limit",
    "too many requests",
    "resource_exhausted",
    "resource has been exhausted",
    "status: 429",
    "throttl",
];

const OVERLOADED: [&str; 20] = [
    "overloaded",
    "high demand",
    "at capacity",
    "internalservererror",
    "internal server error",
    "service unavailable",
    "serviceunavailableerror",
    "bad gateway",
    "gateway timeout",
    "connection error",
    "connection refused",
    "connectionrefused",
    "unable to connect",
    "waiting for network",
    "fetch failed",
    "error sending request",
    "econnrefused",
    "timed out",
    "etimedout",
    "enotfound",
];

const PROTOCOL: [&str; 15] = [
    "empty or invalid response",
    "failed to parse json",
    "incomplete json",
    "stream disconnected",
    "stream closed before",
    "transport error",
    "connection to the api was lost",
    "econnreset",
    "terminated",
    "empty or malformed response",
    "expecting value",
    "expected property name",
    "unexpected token",
    "ended without a finish reason",
    "error decoding response",
];

/// The class of a refusal, by its HTTP status if that is known, and by its words.
#[must_use]
pub fn class_of(status: Option<u16>, text: &str) -> Option<Class> {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        Some(402) => Some(Class::Billing),
        Some(429) if says(&BILLING) && !says(&QUOTA) => Some(Class::Billing),
        Some(429) if says(&QUOTA) => Some(Class::Quota),
        Some(429) => Some(Class::RateLimited),
        Some(401) => Some(Class::Auth),
        Some(403) if says(&BILLING) => Some(Class::Billing),
        Some(403) if says(&QUOTA) => Some(Class::Quota),
        Some(403) => Some(Class::Auth),
        Some(408 | 500..=599) => Some(Class::Overloaded),
        Some(400 | 413 | 422) if says(&CONTEXT) => Some(Class::ContextOverflow),
        Some(400..=499) if says(&BILLING) => Some(Class::Billing),
        Some(400) if says(&AUTH) => Some(Class::Auth),
        Some(400..=499) if says(&REFUSED) => Some(Class::Refused),
        Some(400..=499) => Some(Class::Failed),
        _ => by_words(&says),
    }
}

/// The first kind of words that is found; what is more special stands before what is more general.
fn by_words(says: &dyn Fn(&[&str]) -> bool) -> Option<Class> {
    let kinds: [(&[&str], Class); 8] = [
        (&CONTEXT, Class::ContextOverflow),
        (&QUOTA, Class::Quota),
        (&BILLING, Class::Billing),
        (&AUTH, Class::Auth),
        (&REFUSED, Class::Refused),
        (&PROTOCOL, Class::Protocol),
        (&RATE, Class::RateLimited),
        (&OVERLOADED, Class::Overloaded),
    ];
    kinds.into_iter().find(|(words, _)| says(words)).map(|(_, class)| class)
}

/// The HTTP status that a text names: after `status`, `code` or `API Error:`.
#[must_use]
pub fn status_in(text: &str) -> Option<u16> {
    let lower = text.to_lowercase();
    for mark in [
        "last status: ",
        "unexpected status ",
        "status code ",
        "with status ",
        "status ",
        "\"code\":",
        "api error: ",
    ] {
        for (at, _) in lower.match_indices(mark) {
            let rest = lower.get(at + mark.len()..).unwrap_or_default().trim_start();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if digits.len() == 3
                && let Ok(status) = digits.parse::<u16>()
                && (400..600).contains(&status)
            {
                return Some(status);
            }
        }
    }
    None
}

/// When a quota is open again, if a text says so: at a time, or after some time.
#[must_use]
pub fn reset_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let plain = text.replace(['\u{2019}', '\u{202f}', '\u{a0}'], " ");
    let lower = plain.to_lowercase();
    if let Some((_, rest)) = lower.split_once("limit reached|") {
        let seconds: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return seconds.parse().ok().and_then(in_seconds_since_1970);
    }
    let marks = [
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
            let rest = lower.get(at + mark.len()..).unwrap_or_default();
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

/// A time from a number of seconds since 1970, if it is one of our age.
#[must_use]
pub fn in_seconds_since_1970(seconds: i64) -> Option<Timestamp> {
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
    fn the_status_counts_before_the_words() {
        for (status, text, want) in [
            (Some(401), "rate limit", Class::Auth),
            (Some(402), "", Class::Billing),
            (Some(429), "slow down", Class::RateLimited),
            (
                Some(429),
                "You exceeded your current quota, please check your plan and billing details",
                Class::Billing,
            ),
            (Some(429), "You have exhausted your daily quota on this model.", Class::Quota),
            (Some(429), "exhausted your quota, resets in 1h", Class::Quota),
            (Some(529), "Overloaded", Class::Overloaded),
            (Some(400), "prompt is too long: 210000 tokens > 200000 maximum", Class::ContextOverflow),
            (Some(400), "API key not valid. Please pass a valid API key.", Class::Auth),
            (Some(404), "model not found", Class::Failed),
        ] {
            assert_eq!(class_of(status, text), Some(want), "{status:?} {text}");
        }
    }

    #[test]
    fn without_a_status_the_words_tell_as_far_as_they_do() {
        for (text, want) in [
            (
                "You've hit your usage limit. Upgrade, or try again at Mar 17th, 2030 5:46 PM.",
                Some(Class::Quota),
            ),
            ("Quota exceeded. Check your plan and billing details.", Some(Class::Billing)),
            ("Codex ran out of room in the model's context window.", Some(Class::ContextOverflow)),
            ("stream disconnected before completion: Transport error", Some(Class::Protocol)),
            ("Reconnecting... waiting for network", Some(Class::Overloaded)),
            ("litellm.AuthenticationError: OpenAIException - Incorrect API key", Some(Class::Auth)),
            ("I have changed the file.", None),
        ] {
            assert_eq!(class_of(None, text), want, "{text}");
        }
        assert_eq!(
            status_in("unexpected status 401 Unauthorized: x, url: http://127.0.0.1:8402/v1"),
            Some(401)
        );
        assert_eq!(status_in("exceeded retry limit, last status: 429 Too Many Requests"), Some(429));
        assert_eq!(status_in("Attempt 1 failed with status 503. Retrying"), Some(503));
        assert_eq!(status_in(r#"[API Error: {"error":{"code":402,"message":"x"}}]"#), Some(402));
        assert_eq!(status_in("status of 12 files"), None);
    }

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
            let _ = (class_of(status_in(&text), &text), reset_time(&text, now));
            let _ = reset_time(&format!("resets {text}"), now);
        }
    }
}
