//! Running one program and everything it starts, until nothing of it is left.
//!
//! Knows commands, never jobs. The seam `Spawner` has one real form (`Supervisor`) and fakes in tests.

mod command;
pub mod detached;
pub mod excerpt;
pub mod exec;
pub mod git_variables;
pub mod helper;
pub mod kin;
pub mod left_over;
pub mod log;
pub mod not_executable;
pub mod output;
pub mod pass_through;
pub mod program;
pub mod pty;
pub mod reap;
pub mod redact;
pub mod signals;
pub mod spawn;
mod stream;
pub mod supervise;
pub mod tree;
pub mod wake;
pub mod watch;

pub use command::{
    CommandSpec, Ended, Exit, Input, Limits, Named, Paused, SpawnError, Spawner, StopCause, StopHook,
    Terminal,
};
pub use signals::Interrupt;
pub use stream::Stream;
pub use supervise::Supervisor;
