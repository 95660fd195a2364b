//! Running one program and everything it starts, until nothing of it is left.
//!
//! Knows commands, never jobs. The seam `Spawner` has one real form (`Supervisor`) and fakes in tests.

pub(crate) mod child;
mod command;
pub(crate) mod detached;
pub(crate) mod excerpt;
pub(crate) mod exec;
pub(crate) mod git_variables;
pub(crate) mod helper;
pub(crate) mod kin;
pub(crate) mod left_over;
pub(crate) mod log;
pub(crate) mod not_executable;
pub(crate) mod output;
pub(crate) mod pass_through;
pub(crate) mod program;
pub(crate) mod pty;
pub(crate) mod reap;
pub(crate) mod redact;
pub(crate) mod signals;
pub(crate) mod spawn;
mod stream;
pub(crate) mod supervise;
pub(crate) mod tree;
pub(crate) mod wake;
pub(crate) mod watch;

pub(crate) use command::{
    CommandSpec, Ended, Exit, Input, Limits, Named, Paused, SpawnError, Spawner, StopCause, StopHook,
    Terminal,
};
pub(crate) use signals::Interrupt;
pub use stream::Stream;
pub(crate) use supervise::Supervisor;
