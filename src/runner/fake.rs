//! Programs under test: a scripted `Spawner` on a real store, with a clock that only the script turns.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use super::{Conclusion, Patience, RunError, Workplace, run_claimed, run_direct};
use crate::adapter::Environment;
use crate::clock::testing::ManualClock;
use crate::clock::{Clock, Timestamp};
use crate::job::result::Usage;
use crate::job::{JobId, parse_job};
use crate::process::output::{Onward, Output};
use crate::process::{
    CommandSpec, Ended, Exit, Interrupt, Paused, SpawnError, Spawner, StopCause, StopHook, Stream,
};
use crate::store::Store;

/// The end of a program, whether or not it started.
pub(super) type Comes = Result<Exit, SpawnError>;

/// The end of a program that leaves nothing.
pub(super) fn exit(ended: Ended, stopped: Option<StopCause>) -> Exit {
    Exit { ended, stopped, usage: Usage::default(), stragglers: 0, left_alive: Vec::new(), kept: Vec::new() }
}

/// A program that exits by itself.
pub(super) fn code(code: i32) -> Comes {
    Ok(exit(Ended::Code(code), None))
}

/// A start for which the system lacked descriptors.
pub(super) fn short() -> Comes {
    let source = std::io::Error::from_raw_os_error(libc::EMFILE);
    Err(SpawnError::System { action: "making the streams", exe: "tool".to_owned(), source })
}

/// The programs of a test, one after the other, and their outcomes.
pub(super) struct FakeSpawner<'a> {
    clock: &'a ManualClock,
    script: VecDeque<Comes>,
    /// How long each of them runs.
    pub(super) takes: Duration,
    /// The output of each.
    pub(super) prints: &'static str,
    /// When a signal interrupts a pause, by the monotonic clock.
    pub(super) interrupted_at: Option<Duration>,
    /// When each was started, by the monotonic clock.
    pub(super) started: Vec<Duration>,
}

impl<'a> FakeSpawner<'a> {
    pub(super) fn new(clock: &'a ManualClock, script: Vec<Comes>) -> Self {
        let takes = Duration::from_secs(1);
        Self { clock, script: script.into(), takes, prints: "", interrupted_at: None, started: Vec::new() }
    }

    /// Runs a job file as `run-job --job-file` does.
    pub(super) fn direct(
        &mut self,
        store: &Store,
        text: &str,
        patience: Patience,
    ) -> Result<Conclusion, RunError> {
        let environment = environment(store);
        let mut place = self.place(store, &environment);
        run_direct(&mut place, &parse_job(text.as_bytes(), "").unwrap(), text.as_bytes(), patience)
    }

    /// Runs a queued job as `run-job --claim` does.
    pub(super) fn claimed(&mut self, store: &Store, id: &str) -> Result<Conclusion, RunError> {
        let environment = environment(store);
        let mut place = self.place(store, &environment);
        run_claimed(&mut place, &JobId::new(id).unwrap())
    }

    fn place<'p>(&'p mut self, store: &'p Store, environment: &'p Environment) -> Workplace<'p>
    where
        'a: 'p,
    {
        Workplace { store, clock: self.clock, spawner: self, environment, onward: Onward::default() }
    }
}

/// The directory in which the programs of a test are found.
pub(super) fn programs(store: &Store) -> &Path {
    store.project_dir()
}

fn environment(store: &Store) -> Environment {
    Environment::new([("PATH".into(), programs(store).into())])
}

impl Spawner for FakeSpawner<'_> {
    fn run(&mut self, _: CommandSpec, asked: StopHook<'_>, output: &mut Output<'_>) -> Comes {
        if asked() {
            return Err(SpawnError::Requested);
        }
        let comes = self.script.pop_front().expect("one program more than the script has")?;
        self.started.push(self.clock.monotonic());
        output.push(Stream::Stdout, self.prints.as_bytes(), self.clock.monotonic());
        self.clock.sleep(self.takes);
        output.finish(self.clock.monotonic());
        Ok(comes)
    }

    fn pause(&mut self, wait: Duration) -> Paused {
        let now = self.clock.monotonic();
        match self.interrupted_at.filter(|at| *at <= now + wait) {
            Some(at) => {
                self.clock.sleep(at.saturating_sub(now));
                Paused::Interrupted(Interrupt::Term)
            }
            None => {
                self.clock.sleep(wait);
                Paused::Over
            }
        }
    }
}

/// The time at which each test begins.
pub(super) fn begin() -> ManualClock {
    ManualClock::starting_at(Timestamp::parse("2026-11-21T10:00:00Z").unwrap())
}
