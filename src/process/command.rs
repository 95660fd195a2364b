//! A program to run, the ways to stop it, and the facts that remain when it and all its descendants are gone.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::output::Output;
use super::signals::Interrupt;
use crate::causes::Shortage;
use crate::job::result::Usage;

/// Asked while a program runs, at each wake-up by a signal and once a second: whether it is to be stopped.
pub(crate) type StopHook<'a> = &'a dyn Fn() -> bool;

/// A program to run.
#[derive(Debug)]
pub(crate) struct CommandSpec {
    /// The program: a name for PATH, or a path.
    pub exe: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where it is looked for, if its name is not a path.
    pub search_path: Option<OsString>,
    /// Its working directory; must exist.
    pub cwd: PathBuf,
    /// Variables added to the environment of this process.
    pub env: Vec<(OsString, OsString)>,
    /// Standard input.
    pub stdin: Input,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
    /// When it is stopped.
    pub limits: Limits,
    /// Names of executables that may outlive it, with what they start.
    pub keep: Vec<String>,
}

/// Standard input of a program.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing: end of file at once.
    Null,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// A file.
    File(File),
}

/// Whether a program gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Pipes: standard output and standard error apart.
    No,
    /// A pseudo-terminal for both, and as the controlling terminal.
    Yes,
}

/// When a program is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// After this time in all.
    pub total: Option<Duration>,
    /// After this time without output.
    pub idle: Option<Duration>,
    /// Between asking it to end and killing it.
    pub grace: Duration,
    /// The signal that asks it to end. Absent: INT after a Ctrl-C, else TERM.
    pub stop_signal: Option<i32>,
}

/// Why the engine stopped a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// The total time was over.
    TotalTime,
    /// It printed nothing for too long.
    IdleTime,
    /// A signal interrupted the engine.
    Interrupt(Interrupt),
    /// The hook said so.
    Requested,
    /// The watcher of its output asked for it.
    Watch,
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paused {
    /// Its time is.
    Over,
    /// The engine was woken: there may be something to look at.
    Woken,
    /// A signal interrupted the engine.
    Interrupted(Interrupt),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It exited with a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// The facts that remain when a program and all its descendants are gone.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    /// How the program itself ended.
    pub ended: Ended,
    /// Why the engine stopped it, if it did.
    pub stopped: Option<StopCause>,
    /// What all of its processes used.
    pub usage: Usage,
    /// Descendants that had to be ended after the program.
    pub stragglers: usize,
    /// Descendants that could not be ended (of another user): pid and name.
    pub left_alive: Vec<String>,
    /// Descendants that were let live, as `CommandSpec::keep` says: pid and name.
    pub kept: Vec<Named>,
}

/// A process, and the file name of its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub pid: i32,
    pub name: String,
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is no such program.
    #[error("`{exe}` was not found")]
    NotFound {
        /// The program.
        exe: String,
    },
    /// The file is there but cannot be executed.
    #[error("`{exe}` cannot be executed: {problem}")]
    NotExecutable {
        /// The program.
        exe: String,
        /// Why.
        problem: String,
    },
    /// The engine was interrupted before the program was started.
    #[error("interrupted before the start")]
    Interrupted(Interrupt),
    /// The hook asked for its end before the program was started.
    #[error("stopped before the start")]
    Requested,
    /// The system could not make the process, its pipes or its terminal.
    #[error("error {action} for `{exe}`")]
    System {
        /// What was attempted.
        action: &'static str,
        /// The program.
        exe: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl SpawnError {
    /// The shortage that kept the program from being started, if it was one.
    #[must_use]
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let Self::System { source, .. } = self else { return None };
        match source.raw_os_error()? {
            // `/dev/ptmx` is the only file that is made for a start.
            libc::ENOSPC => Some(Shortage::Terminals),
            errno => Shortage::from_errno(errno),
        }
    }
}

/// The seam for processes.
pub(crate) trait Spawner {
    /// Runs a program to its end and the end of all its descendants.
    ///
    /// # Errors
    /// `SpawnError`: then nothing of it runs.
    fn run(
        &mut self,
        spec: CommandSpec,
        stop_requested: StopHook<'_>,
        output: &mut Output<'_>,
    ) -> Result<Exit, SpawnError>;

    /// Waits; ends early when the engine is woken or interrupted.
    fn pause(&mut self, wait: Duration) -> Paused;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_by_its_kind_and_no_other_failure_is_one() {
        let of = |errno| {
            let source = std::io::Error::from_raw_os_error(errno);
            SpawnError::System { action: "making the streams", exe: "x".to_owned(), source }.shortage()
        };
        assert_eq!(
            (of(libc::EMFILE), of(libc::ENFILE)),
            (Some(Shortage::Descriptors), Some(Shortage::Descriptors))
        );
        assert_eq!((of(libc::EAGAIN), of(libc::ENOMEM)), (Some(Shortage::Processes), Some(Shortage::Memory)));
        assert_eq!((of(libc::ENOSPC), of(libc::EIO)), (Some(Shortage::Terminals), None));
        assert_eq!(SpawnError::NotFound { exe: "x".to_owned() }.shortage(), None);
    }
}
