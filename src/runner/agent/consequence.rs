//! The consequence of an agent's class for its job.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::end::{End, Then};
use super::ran::Ran;
use crate::adapter::agent::Judged;
use crate::clock::Timestamp;
use crate::job::class::{Class, Consequence};
use crate::job::spec::FallbackOn;
use crate::job::{JobFile, Outcome, Reason};
use crate::policy::backoff;

/// A service that says to come back later than this is asked before.
const LONGEST_PARK: Duration = Duration::from_secs(40 * 86_400);

/// The end of an agent's run of a class, and what the result tells of the class.
pub(super) fn follow(
    ran: &Ran<'_>,
    judged: Judged,
    now: Timestamp,
    metadata: &mut Map<String, Value>,
) -> End {
    metadata.insert("class".to_owned(), json!(judged.class));
    metadata.insert("reset_at".to_owned(), json!(judged.reset_at));
    let goes_on_at = goes_on_at(ran, &judged, now);
    let reason = Some(Reason::new(judged.class.code(), judged.message));
    let failed = |then| End { then, ..End::from_outcome(Outcome::Failed, reason.clone()) };
    let hand_on = |else_park| failed(Then::HandOn { only_on: needs(judged.class), else_park });
    match judged.class.consequence() {
        Consequence::Succeed => End::from_outcome(Outcome::Succeeded, reason),
        Consequence::Own(outcome) => End::from_outcome(outcome, reason),
        Consequence::Fail => failed(Then::Retry),
        Consequence::FailForGood => hand_on(None),
        Consequence::Park if hands_on(ran.job, judged.class) => hand_on(ran.may_park().then_some(goes_on_at)),
        Consequence::Park if ran.may_park() => {
            End { then: Then::Park(goes_on_at), ..End::from_outcome(Outcome::Parked, reason) }
        }
        Consequence::Park => {
            let mut end = hand_on(None);
            if let Some(reason) = &mut end.reason {
                reason.message = format!("{} (after waiting {} times)", reason.message, ran.past.parks);
            }
            end
        }
    }
}

/// What a job must allow to be handed on after a failure of this class.
fn needs(class: Class) -> Option<FallbackOn> {
    match class {
        Class::Auth | Class::Billing => Some(FallbackOn::Auth),
        Class::Quota => Some(FallbackOn::Quota),
        _ => None,
    }
}

/// True if the job is to be handed to another adapter rather than wait.
fn hands_on(job: &JobFile, class: Class) -> bool {
    let allowed = job.metadata.known.fallback_on.as_deref().unwrap_or_default();
    class == Class::Quota && allowed.contains(&FallbackOn::Quota) && job.escalates_to().is_some()
}

/// When a parked job goes on: when the service says, but not so soon that waiting is no waiting, and not all at once; else after a
/// wait that grows.
fn goes_on_at(ran: &Ran<'_>, judged: &Judged, now: Timestamp) -> Timestamp {
    let is_quota = judged.class == Class::Quota;
    let (id, parks) = (ran.job.job_id.as_str(), ran.past.parks);
    let wait = backoff::park_wait(is_quota, id, parks);
    match judged.reset_at.filter(|reset| *reset > now) {
        Some(reset) if is_quota => {
            reset.after(backoff::spread(reset.since(now), id, parks)).min(now.after(LONGEST_PARK))
        }
        Some(reset) => reset.max(now.after(wait / 2)).min(now.after(LONGEST_PARK)),
        None => now.after(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::end::Stop;
    use super::super::super::halt::Halt;
    use super::super::super::past::Past;
    use super::*;
    use crate::adapter;
    use crate::adapter::agent::watch::Watched;
    use crate::job::{Code, parse_job};
    use crate::process::redact::Secrets;
    use crate::process::{Ended, Exit};
    use crate::store::control::AttemptId;

    /// The consequence of a class for a job with this metadata that was parked so often.
    fn after(class: Class, metadata: &str, parks: u32, reset_in: Option<u64>) -> End {
        let text = format!(r#"{{"job_id":"a","tool":"claude","metadata":{{"prompt":"x"{metadata}}}}}"#);
        let job = parse_job(text.as_bytes(), "").unwrap().job;
        let (_dir, store) = crate::store::testing::store();
        let manifest = adapter::find(&store, &job.tool).unwrap().unwrap();
        let (past, secrets) = (Past { parks, ..Past::default() }, Secrets::default());
        let exit = Exit {
            ended: Ended::Code(1),
            stopped: None,
            usage: crate::job::result::Usage::default(),
            stragglers: 0,
            left_alive: Vec::new(),
            kept: Vec::new(),
        };
        let ran = Ran {
            job: &job,
            manifest: &manifest,
            target: AttemptId { life: 1, attempt: 1 },
            past: &past,
            exit: &exit,
            watched: Watched::default(),
            by_force: None,
            halt: Halt::from_now(None),
            unread_lines: 0,
            secrets: &secrets,
        };
        let reset_at = reset_in.map(|seconds| now().after(Duration::from_secs(seconds)));
        let mut metadata = Map::new();
        let end = follow(&ran, Judged { class, message: "m".to_owned(), reset_at }, now(), &mut metadata);
        assert_eq!((&metadata["class"], &metadata["reset_at"]), (&json!(class), &json!(reset_at)));
        end
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(0)
    }

    const ESCALATES: &str = r#","retry_policy":"escalate_to_codex""#;
    const ON_QUOTA: &str = r#","retry_policy":"escalate_to_codex","fallback_on":["quota"]"#;

    #[test]
    fn each_class_has_its_outcome_its_code_and_what_follows() {
        let auth = Then::HandOn { only_on: Some(FallbackOn::Auth), else_park: None };
        for (class, outcome, then) in [
            (Class::Ok, Outcome::Succeeded, Then::Stop(Stop::Done)),
            (Class::NoChange, Outcome::Failed, Then::Retry),
            (Class::Failed, Outcome::Failed, Then::Retry),
            (Class::Refused, Outcome::Failed, Then::Retry),
            (Class::NeedsInput, Outcome::Failed, Then::Retry),
            (Class::ContextOverflow, Outcome::Failed, Then::Retry),
            (Class::Protocol, Outcome::Failed, Then::Retry),
            (Class::Auth, Outcome::Failed, auth),
            (Class::Billing, Outcome::Failed, auth),
            (Class::Stalled, Outcome::Stalled, Then::Retry),
            (Class::TimedOut, Outcome::TimedOut, Then::Retry),
        ] {
            for metadata in ["", ESCALATES, ON_QUOTA] {
                let end = after(class, metadata, 0, None);
                let reason = end.reason.unwrap();
                assert_eq!((end.outcome, end.then, reason.code), (outcome, then, class.code()));
                assert_eq!(reason.message, "m");
            }
        }
    }

    #[test]
    fn a_service_that_is_not_available_parks_the_job_until_it_waited_often_enough() {
        for class in [Class::Quota, Class::RateLimited, Class::Overloaded] {
            for metadata in ["", ESCALATES] {
                for parks in [0, 9] {
                    let end = after(class, metadata, parks, None);
                    assert!(matches!(end.then, Then::Park(until) if until > now()), "{class:?} {parks}");
                    assert_eq!(end.outcome, Outcome::Parked);
                }
                let end = after(class, metadata, 10, None);
                let only_on = (class == Class::Quota).then_some(FallbackOn::Quota);
                assert_eq!(end.then, Then::HandOn { only_on, else_park: None }, "{class:?}");
                assert_eq!(
                    (end.outcome, end.reason.unwrap().message.as_str()),
                    (Outcome::Failed, "m (after waiting 10 times)")
                );
            }
        }
        let often = r#","max_parks":2"#;
        assert_eq!(
            [1, 2].map(|parks| after(Class::Overloaded, often, parks, None).outcome),
            [Outcome::Parked, Outcome::Failed]
        );
    }

    #[test]
    fn a_used_up_quota_hands_the_job_on_where_that_is_allowed_and_parks_it_only_without_another_adapter() {
        for (parks, is_parked) in [(0, true), (10, false)] {
            let end = after(Class::Quota, ON_QUOTA, parks, None);
            let Then::HandOn { only_on: Some(FallbackOn::Quota), else_park } = end.then else {
                panic!("{end:?}")
            };
            assert_eq!(
                (end.outcome, else_park.is_some(), end.reason.unwrap().code),
                (Outcome::Failed, is_parked, Code::Quota)
            );
        }
        // A service that is busy for a moment is no reason to change the adapter.
        assert_eq!(after(Class::RateLimited, ON_QUOTA, 0, None).outcome, Outcome::Parked);
    }

    #[test]
    fn a_job_goes_on_when_the_service_says_so_neither_at_once_nor_in_a_year() {
        let until = |class, reset_in| match after(class, "", 0, Some(reset_in)).then {
            Then::Park(until) => until.since(now()),
            other => panic!("{other:?}"),
        };
        let hour = Duration::from_secs(3600);
        assert_eq!(until(Class::Overloaded, 3600), hour);
        let quota = until(Class::Quota, 3600);
        assert!(quota >= hour && quota <= hour + Duration::from_secs(30), "{quota:?}");
        assert!(until(Class::RateLimited, 1) > Duration::from_secs(5), "not before half of its own wait");
        for class in [Class::Quota, Class::RateLimited, Class::Overloaded] {
            assert_eq!(until(class, 366 * 86_400), LONGEST_PARK, "{class:?}");
        }
    }
}
