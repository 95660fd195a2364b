//! The words of services that refuse, and their class.
//!
//! The status counts first, the words last: every provider and gateway words it differently. Pure. `reset_time`
//! finds the time of its end.

use super::reset_time::names_a_time;
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

/// The one word for missing money that no service uses for anything else.
const NO_MONEY: &str = "insufficient_quota";

/// Also words of a link or of advice: of a refusal that is over by itself they tell nothing.
const BILLING: [&str; 9] = [
    NO_MONEY,
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

/// Names of limits that are counted for a day.
const PER_DAY: [&str; 4] = ["perday", "per day", "per_day", "daily"];

/// What is over by itself in a moment, though it may name no time.
const PER_MINUTE: [&str; 6] =
    ["perminute", "per minute", "per_minute", "per min ", "retryinfo", "retrydelay"];

/// The class of a refusal, by its HTTP status if that is known, and by its words.
#[must_use]
pub(crate) fn class_of(status: Option<u16>, text: &str) -> Option<Class> {
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        Some(402) => Some(Class::Billing),
        Some(429) => Some(of_too_many(&text, &says)),
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
        _ => by_words(&text, &says),
    }
}

/// Of too many requests: no money, no more for today, or not in this minute.
fn of_too_many(text: &str, says: &dyn Fn(&[&str]) -> bool) -> Class {
    let is_over_soon = || says(&PER_MINUTE) || says(&PER_DAY) || names_a_time(text);
    if says(&QUOTA) {
        Class::Quota
    } else if text.contains(NO_MONEY) || (says(&BILLING) && !is_over_soon()) {
        Class::Billing
    } else if says(&PER_DAY) {
        Class::Quota
    } else {
        Class::RateLimited
    }
}

/// The first kind of words that is found; the more special ones come before the more general ones.
fn by_words(text: &str, says: &dyn Fn(&[&str]) -> bool) -> Option<Class> {
    let billing = if says(&BILLING) { of_too_many(text, says) } else { Class::Billing };
    let kinds: [(&[&str], Class); 8] = [
        (&CONTEXT, Class::ContextOverflow),
        (&QUOTA, Class::Quota),
        (&BILLING, billing),
        (&AUTH, Class::Auth),
        (&REFUSED, Class::Refused),
        (&PROTOCOL, Class::Protocol),
        (&RATE, Class::RateLimited),
        (&OVERLOADED, Class::Overloaded),
    ];
    kinds.into_iter().find(|(words, _)| says(words)).map(|(_, class)| class)
}

/// The class of a refusal by its words alone, the status that they name among them.
#[must_use]
pub(crate) fn class_in(text: &str) -> Option<Class> {
    class_of(status_in(text), text)
}

/// The HTTP status that a text names: after `status`, `code` or `API Error:`.
#[must_use]
pub(crate) fn status_in(text: &str) -> Option<u16> {
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
            (Some(429), "You have run out of credits, retry in 5s (insufficient_quota)", Class::Billing),
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
    fn a_limit_of_the_minute_that_links_to_billing_is_not_one_of_money() {
        let quota = "You exceeded your current quota, please check your plan and billing details. For more information \
                     on this error, head over to: https://ai.google.dev/gemini-api/docs/rate-limits.";
        let metric = "* Quota exceeded for metric: generate_content_free_tier_requests, limit: 10";
        let failure =
            |id: &str| format!(r#"{quota} [{{"quotaId":"GenerateRequests{id}PerProjectPerModel"}}]"#);
        let openai = "Rate limit reached for gpt-x on tokens per min (TPM): Limit 10000. Please try again in 6ms. You \
                      can increase your rate limit by adding a payment method at https://x/account/billing.";
        for (text, want) in [
            (quota.to_owned(), Class::Billing),
            (format!("{quota}\n{metric}\nPlease retry in 26.387s."), Class::RateLimited),
            (format!("{quota} Please retry in 26s"), Class::RateLimited),
            (failure("PerMinute"), Class::RateLimited),
            (failure("PerDay"), Class::Quota),
            (format!("{} Please retry in 26s", failure("PerDay")), Class::Quota),
            (
                format!(r#"{quota} {{"@type":"type.googleapis.com/google.rpc.RetryInfo"}}"#),
                Class::RateLimited,
            ),
            (openai.to_owned(), Class::RateLimited),
        ] {
            assert_eq!(class_of(Some(429), &text), Some(want), "{text}");
            assert_eq!(class_of(None, &text), Some(want), "without a status: {text}");
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

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s).{0,120}") {
            let _ = class_of(status_in(&text), &text);
            let _ = class_of(Some(429), &format!("billing resets {text}"));
        }
    }
}
