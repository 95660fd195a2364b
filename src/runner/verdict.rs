//! From the end of a tool and what a reader made of it to the outcome of the attempt.

use std::time::Duration;

use crate::adapter::{Reading, Verdict};
use crate::job::{Code, Outcome, Reason};
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
    if let Some(forced) = by_force(exit, limits) {
        return Judged { outcome: forced.outcome, reason: Some(forced.reason) };
    }
    match (exit.ended, reading) {
        (_, Some(reading)) => match reading.verdict {
            Verdict::Success => Judged { outcome: Outcome::Succeeded, reason: left_alive(exit) },
            Verdict::Failure => Judged { outcome: Outcome::Failed, reason: reading.reason.clone() },
        },
        (ended, None) => {
            let reason = Reason::new(Code::ExitCode, format!("it ended: {ended:?}"));
            Judged { outcome: Outcome::Failed, reason: Some(reason) }
        }
    }
}

/// An outcome that does not depend on what the tool left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// The outcome.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

/// The outcome of a tool that a limit, a person or a signal of others ended; `None` if it ended by itself, or because of what
/// it printed.
#[must_use]
pub fn by_force(exit: &Exit, limits: Limits) -> Option<Forced> {
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
    Some(Forced { outcome, reason })
}

/// The reason of an attempt that a person interrupted.
#[must_use]
pub fn interrupted(interrupt: crate::process::Interrupt) -> Reason {
    let signal = interrupt.number();
    Reason::new(Code::Signal(signal), format!("the engine was interrupted by signal {signal}"))
}

fn killed(signal: i32) -> Reason {
    let hint = if signal == libc::SIGKILL { "; the kernel does that when memory runs out" } else { "" };
    Reason::new(
        Code::Signal(signal),
        format!("ended by signal {signal}, which the engine did not send{hint}"),
    )
}

fn left_alive(exit: &Exit) -> Option<Reason> {
    if exit.left_alive.is_empty() {
        return None;
    }
    let message = format!("processes that could not be ended: {}", exit.left_alive.join(", "));
    Some(Reason::new(Code::LeftAlive, message))
}
