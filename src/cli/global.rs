//! What every command shares: its options, and what it reads of its surroundings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use crate::adapter::Environment;

/// Options of every command.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Global {
    /// The engine root (default: ENGINE_ROOT, else the nearest directory with engine.toml or .engine/)
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print only errors on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What this process was started with, for tools.
pub(super) fn environment() -> Environment {
    #[expect(clippy::disallowed_methods, reason = "the command line is the one reader of the environment")]
    Environment::new(std::env::vars_os()).with_home(home())
}

/// `HOME`, or what the user database says where that is not set or empty.
pub(super) fn home() -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the command line is the one reader of the environment")]
    std::env::home_dir().map(OsString::from).filter(|home| !home.is_empty())
}

pub(super) fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the command line is the one reader of the environment")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub(super) fn current_dir() -> Result<PathBuf, CliError> {
    #[expect(clippy::disallowed_methods, reason = "the command line is the one reader of the environment")]
    std::env::current_dir()
        .map_err(|source| CliError::plain("the working directory is gone").because(&source))
}
