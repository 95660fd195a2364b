//! Ending the tool and its tree: what the limits, the signals and the caller ask for, and how long each step may take.
//!
//! Not responsible for reaping, nor for waiting. Hard rule: the tool is asked first and killed when its time is over, and
//! nothing but what the job started is signaled.

use std::time::Duration;

use rustix::process::Signal;

use super::{Phase, Reaping, Run};
use crate::process::output::Output;
use crate::process::signals::{Asked, TerminalStop};
use crate::process::stream::Stream;
use crate::process::{Interrupt, StopCause, kin, tree};

/// How long processes may take to vanish after KILL before they are reported as left alive.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long killing may take before the loop looks at everything else again.
const KILL_TURN: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Keeps the limits: what has to be done at this moment to end the tool or its tree.
    pub(super) fn enforce(&mut self, output: &mut Output<'_>) {
        let now = self.clock.monotonic();
        let asked = self.signals.asked();
        if output.is_full(Stream::Stdout) || output.is_full(Stream::Stderr) {
            // A tool that waits for a slow reader of its output is not idle.
            self.last_output = now;
        }
        if self.phase == Phase::Running {
            if self.ended.is_none() {
                self.stopped = self.cause_to_stop(now, asked, output.stop_at());
                if self.stopped.is_some() {
                    output.asked_to_end();
                }
            }
            // The tool may also be gone, and something that it started is not.
            if self.stopped.is_some() || (self.ended.is_some() && now >= self.ask_left_at) {
                self.ask(now);
            }
        }
        match self.phase {
            Phase::Asked { kill_at } if now >= kill_at || matches!(asked, Asked::Again(_)) => {
                self.phase = Phase::Killing { give_up_at: now + KILL_PATIENCE };
                if self.ended.is_some() {
                    self.stragglers = self.stragglers.max(1);
                }
                self.kill(now);
            }
            Phase::Asked { .. } if self.ended.is_some() && self.stragglers == 0 => self.ask_stragglers(),
            Phase::Killing { .. } => self.kill(now),
            Phase::Asked { .. } | Phase::Running => {}
        }
    }

    fn cause_to_stop(&self, now: Duration, asked: Asked, stop_at: Option<Duration>) -> Option<StopCause> {
        if let Asked::Once(interrupt) | Asked::Again(interrupt) = asked {
            return Some(StopCause::Interrupt(interrupt));
        }
        if self.hook.said_yes {
            return Some(StopCause::Requested);
        }
        if stop_at.is_some_and(|stop_at| now >= stop_at) {
            return Some(StopCause::Watch);
        }
        if self.limits.total.is_some_and(|total| now >= self.start + total) {
            return Some(StopCause::TotalTime);
        }
        let idle = self.limits.idle.is_some_and(|idle| now >= self.last_output + idle);
        idle.then_some(StopCause::IdleTime)
    }

    fn ask(&mut self, now: Duration) {
        self.phase = Phase::Asked { kill_at: now + self.limits.grace };
        if self.ended.is_some() {
            self.ask_stragglers();
            return;
        }
        let usual = match self.stopped {
            Some(StopCause::Interrupt(Interrupt::Int)) => libc::SIGINT,
            _ => libc::SIGTERM,
        };
        self.signal_group(self.limits.stop_signal.unwrap_or(usual));
        self.signal_group(libc::SIGCONT);
    }

    /// Signals the whole group: some tools ignore a signal themselves and leave it to their children.
    fn signal_group(&self, signal: i32) {
        if self.ended.is_none() {
            // SAFETY: a plain system call; the group is that of our child, which we have not waited for. It needs no
            // process table.
            unsafe { libc::kill(-self.pid, signal) };
        }
    }

    /// A terminal's Ctrl-Z reaches this process alone: the tool and what it started stop with it, and all go on together.
    pub(super) fn stand_still(&mut self) {
        let (clock, began) = (self.clock, self.clock.monotonic());
        // Seen before they are stopped: what was stopped by another stays so.
        let stopped = kin::stop_descendants(&mut self.kin, &|| clock.monotonic() < began + KILL_TURN);
        let unseen = stopped.is_empty();
        if unseen {
            self.signal_group(libc::SIGSTOP);
        }
        TerminalStop::obey();
        for process in &stopped {
            let _ = tree::signal(process, Signal::CONT);
        }
        if unseen {
            self.signal_group(libc::SIGCONT);
        }
        let stood = self.clock.monotonic().saturating_sub(began);
        self.start += stood;
        self.last_output += stood;
        match &mut self.phase {
            Phase::Running => {}
            Phase::Asked { kill_at: until } | Phase::Killing { give_up_at: until } => *until += stood,
        }
    }

    /// Asks what the tool left to end; not while the process table is full of what has ended, for then a walk takes too long.
    fn ask_stragglers(&mut self) {
        if self.unreaped {
            return;
        }
        let left = self.kin.family().unwrap_or_default().ours;
        self.stragglers = left.len().max(1);
        tree::ask(&left);
    }

    fn kill(&mut self, now: Duration) {
        self.signal_group(libc::SIGKILL);
        if !self.kin.keeps() && (self.kill_fast() || (self.unreaped && self.kin.all_are_to_end())) {
            return;
        }
        let (clock, until) = (self.clock, self.clock.monotonic() + KILL_TURN);
        let denied = kin::kill_descendants(&mut self.kin, &|| clock.monotonic() < until).unwrap_or_default();
        let all_denied =
            !denied.is_empty() && self.kin.family().is_ok_and(|family| family.ours.len() == denied.len());
        if all_denied && self.ended.is_some() {
            // They belong to another user: waiting longer does not help.
            self.phase = Phase::Killing { give_up_at: now };
        }
    }

    /// Kills and reaps the children, and their orphans, as long as new ones come; true if there are none any more.
    fn kill_fast(&mut self) -> bool {
        let until = self.clock.monotonic() + KILL_TURN;
        let mut killed = Vec::new();
        loop {
            // What has ended makes the list long, and what still forks the faster.
            while self.reap_some() == Reaping::Done && self.unreaped {
                if self.clock.monotonic() >= until {
                    return false;
                }
            }
            // What lives may have joined one of them since.
            self.killed_groups.clear();
            let before = std::mem::replace(&mut killed, self.kin.kill_children(&mut self.killed_groups));
            if killed.is_empty() || killed == before || self.clock.monotonic() >= until {
                return killed.is_empty() && self.reap_some() == Reaping::NoChild;
            }
        }
    }

    /// True if the processes had time to vanish, and once more as much if not all that have ended could be reaped.
    pub(super) fn gives_up(&self) -> bool {
        let Phase::Killing { give_up_at } = self.phase else { return false };
        let more = if self.unreaped { KILL_PATIENCE } else { Duration::ZERO };
        self.clock.monotonic() >= give_up_at + more
    }
}
