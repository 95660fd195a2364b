//! From the end of a tool and what a reader made of it to the outcome of the attempt.

use std::time::Duration;

use crate::adapter::{Reading, Verdict};
use crate::job::{Outcome, Reason};
use crate::process::{Ended, Exit, Limits, StopCause};

/// How an attempt is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The outcome.
    pub outcome: Outcome,
    /// Why; none for a plain success.
    pub reason: Option<Reason>,
}

/// Judges a tool that ran: first what the engine did to it, then how it ended, then what it left.
#[must_use]
pub fn judge(exit: &Exit, limits: Limits, reading: Option<&Reading>) -> Judged {
    if let Some(cause) = exit.stopped {
        return stopped(cause, limits);
    }
    match (exit.ended, reading) {
        (Ended::Signal(signal), _) => Judged { outcome: Outcome::Killed, reason: Some(killed(signal)) },
        (Ended::Code(_), Some(reading)) => match reading.verdict {
            Verdict::Success => Judged { outcome: Outcome::Succeeded, reason: left_alive(exit) },
            Verdict::Failure => Judged { outcome: Outcome::Failed, reason: reading.reason.clone() },
        },
        (Ended::Code(code), None) => {
            let reason = Reason::new("exit_code", format!("exited with code {code}"));
            Judged { outcome: Outcome::Failed, reason: Some(reason) }
        }
    }
}

fn stopped(cause: StopCause, limits: Limits) -> Judged {
    let seconds = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
    let (outcome, reason) = match cause {
        StopCause::TotalTime => {
            let message = format!("not finished after {} s", seconds(limits.total));
            (Outcome::TimedOut, Reason::new("timeout", message))
        }
        StopCause::IdleTime => {
            let message = format!("no output for {} s", seconds(limits.idle));
            (Outcome::Stalled, Reason::new("idle_timeout", message))
        }
        StopCause::Interrupt(interrupt) => (Outcome::Canceled, interrupted(interrupt)),
        StopCause::Requested => (Outcome::Canceled, crate::queue::cancel::by_user()),
        StopCause::Watch => {
            (Outcome::Failed, Reason::new("stopped", "the engine ended it for what it printed".to_owned()))
        }
    };
    Judged { outcome, reason: Some(reason) }
}

/// The reason of an attempt that a person interrupted.
#[must_use]
pub fn interrupted(interrupt: crate::process::Interrupt) -> Reason {
    let signal = interrupt.number();
    Reason::new(&format!("signal:{signal}"), format!("the engine was interrupted by signal {signal}"))
}

fn killed(signal: i32) -> Reason {
    let hint = if signal == libc::SIGKILL { "; the kernel does that when memory runs out" } else { "" };
    Reason::new(
        &format!("signal:{signal}"),
        format!("ended by signal {signal}, which the engine did not send{hint}"),
    )
}

fn left_alive(exit: &Exit) -> Option<Reason> {
    if exit.left_alive.is_empty() {
        return None;
    }
    let message = format!("processes that could not be ended: {}", exit.left_alive.join(", "));
    Some(Reason::new("left_alive", message))
}
