//! The signals that ask this process to end, as a verb heeds them.
//!
//! Not responsible for the handlers (see `process::signals`).

use super::error::CliError;
use crate::process::signals::{Asked, Signals};
use crate::runner::exit_status;

/// Heeds signals from now on.
pub(super) fn install() -> Result<Signals, CliError> {
    Signals::install()
        .map_err(|error| CliError::plain("error installing the signal handlers").because(&error))
}

/// The exit status of a process that was asked to end.
pub(super) fn exit_status(signals: &Signals) -> Option<u8> {
    match signals.asked() {
        Asked::Not => None,
        Asked::Once(interrupt) | Asked::Again(interrupt) => Some(exit_status::for_signal(interrupt.number())),
    }
}
