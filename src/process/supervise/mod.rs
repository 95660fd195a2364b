//! The loop that runs one program: reads its streams (`streams`), keeps its limits (`end`), and reaps everything it leaves.
//!
//! One thread, one `poll`. The process is a subreaper, so every orphan of the tool becomes its child, and ECHILD from
//! `wait4` proves that nothing of the job is alive. Hard rule: `run` does not return before that, or before it can say
//! what is left.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use super::kin::Kin;
use super::left_over::{self, MARKER};
use super::output::Output;
use super::reap::{self, Reaped};
use super::signals::{Asked, Signals, TerminalStop};
use super::spawn::{self, Child};
use super::tree::Stat;
use super::{
    CommandSpec, Ended, Exit, Limits, Named, Paused, SpawnError, Spawner, StopCause, StopHook, tree,
};
use crate::clock::{Clock, timespec};
use crate::job::result::Usage;

mod end;
mod streams;

/// How often the tree is swept while it is being killed.
const SWEEP_EVERY: Duration = Duration::from_millis(20);
/// How often the hook is asked if no signal comes.
const ASK_HOOK_EVERY: Duration = Duration::from_secs(1);
/// How long children are reaped before the loop looks at everything else again: a tool may end more of them than can be reaped.
const REAP_TURN: Duration = Duration::from_millis(10);
/// Children reaped between two looks at the clock: a few microseconds each, but a busy machine may give this process no more.
const REAPED_BETWEEN_LOOKS: usize = 16;
/// A signal that ended the tool may have been sent to us as well (by systemd, by a shutdown): so long it may take to come.
const SHARED_SIGNAL: Duration = Duration::from_millis(200);
/// What the tool has started in its last moments may still be on its way to become a program that is kept.
const BECOMES_KEPT: Duration = Duration::from_millis(200);
/// Size of the read buffer, until a read fills it: most tools print little, and untouched memory costs nothing.
const FIRST_BUFFER: usize = 4 << 10;

/// The real `Spawner`.
pub(crate) struct Supervisor<'a> {
    signals: &'a Signals,
    clock: &'a dyn Clock,
}

impl std::fmt::Debug for Supervisor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

impl<'a> Supervisor<'a> {
    /// Makes a supervisor on installed handlers.
    #[must_use]
    pub(crate) fn new(signals: &'a Signals, clock: &'a dyn Clock) -> Self {
        Self { signals, clock }
    }
}

impl Spawner for Supervisor<'_> {
    fn run(
        &mut self,
        spec: CommandSpec,
        stop_requested: StopHook<'_>,
        output: &mut Output<'_>,
    ) -> Result<Exit, SpawnError> {
        if let Asked::Once(interrupt) | Asked::Again(interrupt) = self.signals.asked() {
            return Err(SpawnError::Interrupted(interrupt));
        }
        if stop_requested() {
            return Err(SpawnError::Requested);
        }
        let limits = spec.limits;
        let mark = spec.env.iter().rfind(|(name, _)| name == MARKER);
        let mark = mark.and_then(|(_, value)| value.to_str()).map(left_over::variables);
        let mark = mark.into_iter().flatten().collect();
        let kin = Kin::before_the_start(mark).keeping(spec.keep.clone());
        // Without it an orphan of the tool goes to init: recovery still finds it by its marker.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        // Before the start: else a Ctrl-Z in between would stop this process alone.
        let _terminal_stop = TerminalStop::catch();
        let child = spawn::spawn(spec)?;
        let hook =
            Hook { ask: stop_requested, next: self.clock.monotonic() + ASK_HOOK_EVERY, said_yes: false };
        Ok(Run::new(self.signals, self.clock, child, limits, hook, kin).run_to_end(output))
    }

    fn pause(&mut self, wait: Duration) -> Paused {
        let mut fds = [PollFd::new(self.signals, PollFlags::IN)];
        let woken = rustix::event::poll(&mut fds, Some(&timespec(wait)));
        self.signals.drain();
        match self.signals.asked() {
            Asked::Once(interrupt) | Asked::Again(interrupt) => Paused::Interrupted(interrupt),
            Asked::Not if woken == Ok(0) => Paused::Over,
            Asked::Not => Paused::Woken,
        }
    }
}

/// What is being done about ending the tool and its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing: the tool runs.
    Running,
    /// It was asked to end and has until then.
    Asked { kill_at: Duration },
    /// Everything is being killed, and given up at that time.
    Killing { give_up_at: Duration },
}

/// The caller's hook, and when it is asked next if nothing happens.
struct Hook<'a> {
    ask: StopHook<'a>,
    next: Duration,
    said_yes: bool,
}

impl Hook<'_> {
    /// Asks if something woke us, or if it is time.
    fn look(&mut self, woken: bool, now: Duration) {
        if !self.said_yes && (woken || now >= self.next) {
            self.said_yes = (self.ask)();
            self.next = now + ASK_HOOK_EVERY;
        }
    }
}

struct Run<'a> {
    signals: &'a Signals,
    clock: &'a dyn Clock,
    limits: Limits,
    hook: Hook<'a>,
    kin: Kin,
    pid: i32,
    stdin: Option<(OwnedFd, Vec<u8>)>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Streams that have ended, kept open: to close our end of a terminal is to hang up on a tool that is just exiting.
    ended_streams: Vec<OwnedFd>,
    start: Duration,
    last_output: Duration,
    phase: Phase,
    stopped: Option<StopCause>,
    ended: Option<Ended>,
    /// Until when a signal of our own is waited for, which would explain that of the tool.
    signal_until: Option<Duration>,
    /// True if more children may have ended than were reaped.
    unreaped: bool,
    /// Groups that were killed since all that had ended was reaped: a signal to one costs time for each of its dead.
    killed_groups: HashSet<Pid>,
    stragglers: usize,
    kept: Vec<Named>,
    /// From when on what the ended tool left is asked to end.
    ask_left_at: Duration,
    usage: Usage,
    buffer: Vec<u8>,
}

/// Whether there are children left to be reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaping {
    Done,
    NoChild,
}

/// Whether the tree of the job is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tree {
    Alive,
    Gone,
    /// Given up: these are left.
    Left(Vec<String>),
}

impl<'a> Run<'a> {
    fn new(
        signals: &'a Signals,
        clock: &'a dyn Clock,
        child: Child,
        limits: Limits,
        hook: Hook<'a>,
        mut kin: Kin,
    ) -> Self {
        kin.started(child.pid);
        let start = clock.monotonic();
        Self {
            signals,
            clock,
            limits,
            hook,
            kin,
            pid: child.pid,
            stdin: child.stdin,
            stdout: Some(child.stdout),
            stderr: child.stderr,
            ended_streams: Vec::new(),
            start,
            last_output: start,
            phase: Phase::Running,
            stopped: None,
            ended: None,
            signal_until: None,
            unreaped: false,
            killed_groups: HashSet::new(),
            stragglers: 0,
            kept: Vec::new(),
            ask_left_at: start,
            usage: Usage::default(),
            buffer: vec![0; FIRST_BUFFER],
        }
    }

    fn run_to_end(mut self, output: &mut Output<'_>) -> Exit {
        let left_alive = loop {
            let tree = self.reap();
            self.explain();
            match tree {
                Tree::Gone if self.signal_until.is_none() => break Vec::new(),
                Tree::Gone => {}
                Tree::Left(alive) => break alive,
                Tree::Alive => self.enforce(output),
            }
            self.wait(output);
            if TerminalStop::is_asked() {
                self.stand_still();
            }
        };
        self.read_the_rest(output);
        output.finish(self.clock.monotonic());
        Exit {
            ended: self.ended.unwrap_or(Ended::Signal(libc::SIGKILL)),
            stopped: self.stopped,
            usage: self.usage,
            stragglers: self.stragglers,
            left_alive,
            kept: self.kept,
        }
    }

    /// Takes every child that has ended, the tool and the orphans alike.
    fn reap(&mut self) -> Tree {
        if self.reap_some() == Reaping::NoChild {
            return Tree::Gone;
        }
        let gives_up = self.gives_up();
        if self.ended.is_none() || (!gives_up && (self.kin.all_are_to_end() || self.unreaped)) {
            return Tree::Alive;
        }
        let family = match self.kin.family_proved() {
            Ok(family) => family,
            Err(error) if gives_up => {
                return Tree::Left(vec![format!("processes that cannot be seen: {error}")]);
            }
            Err(_) => return Tree::Alive,
        };
        if family.ours.is_empty() && family.bystanders + family.kept.len() > 0 {
            // With others among the children ECHILD never comes: then the process table is the proof.
            let name = |stat: &Stat| tree::executable(stat.pid).unwrap_or_else(|| stat.name.clone());
            self.kept = family.kept.iter().map(|stat| Named { pid: stat.pid, name: name(stat) }).collect();
            return Tree::Gone;
        }
        // None lives, and more have ended than were reaped in this turn.
        let only_dead = family.ours.is_empty() && self.unreaped;
        if !gives_up || only_dead {
            return Tree::Alive;
        }
        let mut left: Vec<String> =
            family.ours.iter().map(|stat| format!("{} {}", stat.pid, stat.name)).collect();
        if left.is_empty() {
            // The kernel says that a child is alive, and /proc does not show it.
            left.push("a process that /proc does not show".to_owned());
        }
        Tree::Left(left)
    }

    /// Takes children that have ended, no longer than leaves time for everything else.
    fn reap_some(&mut self) -> Reaping {
        self.unreaped = false;
        let until = self.clock.monotonic() + REAP_TURN;
        let kills = matches!(self.phase, Phase::Killing { .. }) && self.kin.all_are_to_end();
        loop {
            for _ in 0..REAPED_BETWEEN_LOOKS {
                if kills && let Some(dead) = reap::peek() {
                    tree::kill_group_of(dead, &mut self.killed_groups);
                }
                match reap::next() {
                    Reaped::Again => {}
                    Reaped::Ended(child) => self.note_end(child),
                    Reaped::Nothing => return Reaping::Done,
                    Reaped::NoChild => return Reaping::NoChild,
                }
            }
            if self.clock.monotonic() >= until {
                self.unreaped = true;
                return Reaping::Done;
            }
        }
    }

    fn note_end(&mut self, child: reap::Child) {
        if self.kin.reaped(child.pid) {
            return;
        }
        add_usage(&mut self.usage, child.usage);
        // When it was reaped, another orphan may get its pid.
        if child.pid == self.pid && self.ended.is_none() {
            self.ended = Some(child.ended);
            if self.phase == Phase::Running {
                let wait = if may_be_shared(child.ended) { SHARED_SIGNAL } else { Duration::ZERO };
                let now = self.clock.monotonic();
                self.signal_until = Some(now + wait);
                self.ask_left_at = now + if self.kin.keeps() { BECOMES_KEPT } else { Duration::ZERO };
            }
        }
    }

    /// A signal that came to us together with the end of the tool is why it ended.
    fn explain(&mut self) {
        let Some(until) = self.signal_until else { return };
        if let Asked::Once(interrupt) | Asked::Again(interrupt) = self.signals.asked() {
            self.stopped = Some(StopCause::Interrupt(interrupt));
            self.signal_until = None;
        } else if self.clock.monotonic() >= until {
            self.signal_until = None;
        }
    }

    /// How long the loop may sleep if nothing happens.
    fn next_deadline(&self, now: Duration, stop_at: Option<Duration>) -> Option<Duration> {
        if self.unreaped {
            return Some(Duration::ZERO);
        }
        let until = match self.phase {
            Phase::Killing { .. } => return Some(SWEEP_EVERY),
            Phase::Asked { kill_at } => kill_at,
            Phase::Running => {
                let total = self.limits.total.map(|total| self.start + total);
                let idle = self.limits.idle.map(|idle| self.last_output + idle);
                total.into_iter().chain(idle).chain(stop_at).chain([self.hook.next]).min()?
            }
        };
        // No signal announces a process that has lost its parent: look again now and then.
        let wait = self.signal_until.map_or(until, |signal| signal.min(until)).saturating_sub(now);
        Some(if self.ended.is_some() { wait.min(Duration::from_millis(100)) } else { wait })
    }
}

/// An end by a signal that is also sent to whole groups and services, by itself or as a shell reports it.
fn may_be_shared(ended: Ended) -> bool {
    let (Ended::Signal(signal) | Ended::Code(signal)) = ended;
    let told = if matches!(ended, Ended::Code(_)) { 128 } else { 0 };
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&(signal - told))
}

fn add_usage(sum: &mut Usage, usage: Usage) {
    sum.cpu_user_s += usage.cpu_user_s;
    sum.cpu_system_s += usage.cpu_system_s;
    sum.max_rss_bytes = sum.max_rss_bytes.max(usage.max_rss_bytes);
}
