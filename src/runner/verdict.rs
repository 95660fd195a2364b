//! Judges the outcome of an attempt from the end of the tool and the verdict of its reader.

use std::time::Duration;

use super::end::{End, Stop, Then};
use crate::adapter::{Reading, Telling, Told, Verdict};
use crate::clock::Timestamp;
use crate::job::{Code, Outcome, Reason};
use crate::process::{Ended, Exit, Limits, StopCause};

/// Judges a tool that ran: first what the engine did to it, then how it ended, then what it left.
///
/// A tool that tells its verdict itself is judged at this time.
#[must_use]
pub(super) fn judge(exit: &Exit, limits: Limits, reading: Option<&Reading>, now: Timestamp) -> End {
    let telling = reading.map_or(Telling::NotAsked, |reading| reading.telling);
    if let Some(forced) = by_force(exit, limits) {
        return match (telling, reading) {
            // Its last act was to tell how it ended.
            (Telling::This(told, until), Some(reading)) if exit.stopped.is_none() => {
                of_told(told, until, reading, now)
            }
            (Telling::Nothing | Telling::This(..), _) if exit.stopped.is_some() => not_again(forced),
            _ => forced,
        };
    }
    let Some(reading) = reading else {
        let message = match exit.ended {
            Ended::Code(code) => format!("exited with code {code}"),
            Ended::Signal(signal) => format!("ended by signal {signal}"),
        };
        return End::from_outcome(Outcome::Failed, Some(Reason::new(Code::ExitCode, message)));
    };
    match (telling, reading.verdict) {
        (Telling::This(told, until), _) => of_told(told, until, reading, now),
        (_, Verdict::Success) => End::from_outcome(Outcome::Succeeded, left_alive(exit)),
        (Telling::NotAsked, Verdict::Failure) => End::from_outcome(Outcome::Failed, reading.reason.clone()),
        (Telling::Nothing, Verdict::Failure) => {
            not_again(End::from_outcome(Outcome::Failed, reading.reason.clone()))
        }
    }
}

/// A tool that parks itself and does not say until when waits so long.
const PARKED_FOR: Duration = Duration::from_secs(60);

/// Of a program that tells its verdict itself only an attempt that was killed before it could is repeated.
fn not_again(end: End) -> End {
    match end.then {
        Then::Retry => End { then: Then::Stop(Stop::Told), ..end },
        _ => end,
    }
}

/// The end that the tool told itself.
fn of_told(told: Told, until: Option<Timestamp>, reading: &Reading, now: Timestamp) -> End {
    let (outcome, then) = match told {
        Told::Succeeded => (Outcome::Succeeded, Then::Stop(Stop::Done)),
        Told::Failed => (Outcome::Failed, Then::Stop(Stop::Told)),
        Told::Quarantined => (Outcome::Failed, Then::Stop(Stop::Quarantined)),
        Told::Parked => (Outcome::Parked, Then::Park(until.unwrap_or(now.after(PARKED_FOR)))),
        Told::Canceled => (Outcome::Canceled, Then::Stop(Stop::Canceled)),
    };
    End { outcome, reason: reading.reason.clone(), then }
}

/// The end of a tool that a limit, a person or a signal of others ended; `None` if it ended by itself, or because of what it
/// printed.
#[must_use]
pub(super) fn by_force(exit: &Exit, limits: Limits) -> Option<End> {
    let seconds = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
    let (outcome, reason) = match (exit.stopped, exit.ended) {
        (Some(StopCause::TotalTime), _) => {
            let message = format!("not finished after {} s", seconds(limits.total));
            (Outcome::TimedOut, Reason::new(Code::TimedOut, message))
        }
        (Some(StopCause::IdleTime), _) => {
            let message = format!("no output for {} s", seconds(limits.idle));
            (Outcome::Stalled, Reason::new(Code::Stalled, message))
        }
        (Some(StopCause::Interrupt(interrupt)), _) => (Outcome::Canceled, interrupted(interrupt)),
        (Some(StopCause::Requested), _) => (Outcome::Canceled, crate::queue::cancel::by_user()),
        (None, Ended::Signal(signal)) => (Outcome::Killed, killed(signal)),
        (Some(StopCause::Watch), _) | (None, Ended::Code(_)) => return None,
    };
    Some(End::from_outcome(outcome, Some(reason)))
}

/// The reason of an attempt that a person interrupted.
#[must_use]
pub(crate) fn interrupted(interrupt: crate::process::Interrupt) -> Reason {
    let signal = interrupt.number();
    Reason::new(Code::Signal(signal), format!("the engine was interrupted by signal {signal}"))
}

fn killed(signal: i32) -> Reason {
    let hint = if signal == libc::SIGKILL { "; the kernel sends it when memory runs out" } else { "" };
    Reason::new(
        Code::Signal(signal),
        format!("ended by signal {signal}, which the engine did not send{hint}"),
    )
}

fn left_alive(exit: &Exit) -> Option<Reason> {
    if exit.left_alive.is_empty() {
        return None;
    }
    let message = format!("processes that did not end: {}", exit.left_alive.join(", "));
    Some(Reason::new(Code::LeftAlive, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Interrupt;
    use crate::process::signals::Interrupt::Term;

    const LIMITS: Limits = Limits {
        total: Some(Duration::from_secs(60)),
        idle: Some(Duration::from_millis(1500)),
        grace: Duration::ZERO,
        stop_signal: None,
    };

    fn now() -> Timestamp {
        Timestamp::from_millis(0)
    }

    fn exit(ended: Ended, stopped: Option<StopCause>) -> Exit {
        Exit { ended, stopped, usage: Default::default(), stragglers: 0, left_alive: vec![], kept: vec![] }
    }

    fn reading(verdict: Verdict) -> Reading {
        Reading {
            verdict,
            telling: Telling::NotAsked,
            reason: (verdict == Verdict::Failure).then(|| Reason::new(Code::TestsFailed, "1 failed")),
            details: vec![],
            metadata: Default::default(),
            test_results: None,
            git_command: None,
        }
    }

    #[test]
    fn what_the_engine_or_a_signal_did_decides_before_what_the_tool_left() {
        let signal: Interrupt = Term;
        for (stopped, ended, outcome, code, message) in [
            (
                Some(StopCause::TotalTime),
                Ended::Code(0),
                Outcome::TimedOut,
                Code::TimedOut,
                "not finished after 60 s",
            ),
            (
                Some(StopCause::IdleTime),
                Ended::Signal(9),
                Outcome::Stalled,
                Code::Stalled,
                "no output for 1.5 s",
            ),
            (
                Some(StopCause::Interrupt(signal)),
                Ended::Code(0),
                Outcome::Canceled,
                Code::Signal(15),
                "the engine was interrupted by signal 15",
            ),
            (
                Some(StopCause::Requested),
                Ended::Code(3),
                Outcome::Canceled,
                Code::CanceledByUser,
                "canceled by `engine cancel`",
            ),
            (
                None,
                Ended::Signal(11),
                Outcome::Killed,
                Code::Signal(11),
                "ended by signal 11, which the engine did not send",
            ),
        ] {
            let end = judge(&exit(ended, stopped), LIMITS, Some(&reading(Verdict::Success)), now());
            let reason = end.reason.unwrap();
            assert_eq!((end.outcome, reason.code, reason.message.as_str()), (outcome, code, message));
            let then = if outcome == Outcome::Canceled { Then::Stop(Stop::Canceled) } else { Then::Retry };
            assert_eq!(end.then, then, "{outcome:?}");
        }
    }

    #[test]
    fn a_tool_that_ended_by_itself_is_judged_by_its_reading() {
        let plain = exit(Ended::Code(0), None);
        assert_eq!(
            judge(&plain, LIMITS, Some(&reading(Verdict::Success)), now()),
            End::from_outcome(Outcome::Succeeded, None)
        );
        let failed = judge(&plain, LIMITS, Some(&reading(Verdict::Failure)), now());
        assert_eq!((failed.outcome, failed.then), (Outcome::Failed, Then::Retry));
        let left = Exit { left_alive: vec!["7 x".to_owned()], ..plain };
        let end = judge(&left, LIMITS, Some(&reading(Verdict::Success)), now());
        assert_eq!((end.outcome, end.reason.unwrap().code), (Outcome::Succeeded, Code::LeftAlive));
    }

    #[test]
    fn without_a_reading_the_reason_states_the_end_of_the_program() {
        for (ended, message) in
            [(Ended::Code(3), "exited with code 3"), (Ended::Signal(15), "ended by signal 15")]
        {
            let end = judge(&exit(ended, Some(StopCause::Watch)), LIMITS, None, now());
            assert_eq!((end.outcome, end.reason.unwrap().message.as_str()), (Outcome::Failed, message));
        }
    }

    #[test]
    fn what_a_tool_told_itself_counts_beside_what_the_engine_did_to_it() {
        use crate::process::signals::Interrupt::Term;
        let (stop, until) = (Some(StopCause::Interrupt(Term)), Timestamp::from_millis(9000));
        let told = |told, not_before| {
            let why = (told != Told::Succeeded).then(|| Reason::new(Code::Quota, "m"));
            Reading { telling: Telling::This(told, not_before), reason: why, ..reading(Verdict::Success) }
        };
        let untold = || Reading { telling: Telling::Nothing, ..reading(Verdict::Failure) };
        let (code, killed) = (Ended::Code(0), Ended::Signal(9));
        let minute = Timestamp::from_millis(60_000);
        for (ended, stopped, told, outcome, then) in [
            (code, None, told(Told::Succeeded, None), Outcome::Succeeded, Then::Stop(Stop::Done)),
            (code, None, told(Told::Failed, None), Outcome::Failed, Then::Stop(Stop::Told)),
            (code, None, told(Told::Quarantined, None), Outcome::Failed, Then::Stop(Stop::Quarantined)),
            (code, None, told(Told::Parked, Some(until)), Outcome::Parked, Then::Park(until)),
            (code, None, told(Told::Parked, None), Outcome::Parked, Then::Park(minute)),
            (code, None, told(Told::Canceled, None), Outcome::Canceled, Then::Stop(Stop::Canceled)),
            (killed, None, told(Told::Failed, None), Outcome::Failed, Then::Stop(Stop::Told)),
            (killed, None, untold(), Outcome::Killed, Then::Retry),
            (code, None, untold(), Outcome::Failed, Then::Stop(Stop::Told)),
            (code, stop, told(Told::Parked, None), Outcome::Canceled, Then::Stop(Stop::Canceled)),
            (
                code,
                Some(StopCause::TotalTime),
                told(Told::Failed, None),
                Outcome::TimedOut,
                Then::Stop(Stop::Told),
            ),
            (killed, Some(StopCause::TotalTime), untold(), Outcome::TimedOut, Then::Stop(Stop::Told)),
        ] {
            let end = judge(&exit(ended, stopped), LIMITS, Some(&told), now());
            assert_eq!((end.outcome, end.then), (outcome, then), "{told:?}");
        }
    }
}
