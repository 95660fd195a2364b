//! Errors at the edge: what was attempted, why it failed, what to do, and the exit status.

use crate::job::Code;
use std::error::Error;

use super::print;
use crate::adapter::ManifestError;
use crate::causes::causes;
use crate::fs::FsError;
use crate::queue::QueueError;
use crate::runner::RunError;
use crate::runner::exit_status::ENGINE;
use crate::store::StoreError;

/// The answer is no.
pub(super) const NO: u8 = 1;
/// Wrong usage.
pub(super) const USAGE: u8 = 2;

/// An error that ends a command.
#[derive(Debug)]
pub struct CliError {
    /// A word for programs.
    pub code: Code,
    /// The error and its causes.
    pub message: String,
    hint: Option<String>,
    status: u8,
}

impl CliError {
    /// An engine error.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { code: Code::Error, message: message.into(), hint: None, status: ENGINE }
    }

    /// The answer is no.
    pub fn no(message: impl Into<String>) -> Self {
        Self { status: NO, code: Code::NotFound, ..Self::plain(message) }
    }

    /// The command line is not valid.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: USAGE, code: Code::Usage, ..Self::plain(message) }
    }

    /// With another exit status.
    pub fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// With another word for programs.
    pub fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// With what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With a cause.
    pub fn because(self, cause: &dyn Error) -> Self {
        Self { message: format!("{}: {cause}", self.message), ..self }
    }

    /// Prints the error and gives the exit status.
    pub fn print(&self, quiet: bool) -> u8 {
        print::note(&format!("error: {}", self.message));
        if let Some(hint) = self.hint.as_ref().filter(|_| !quiet) {
            print::note(&format!("hint: {hint}"));
        }
        self.status
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self { code: error.code(), hint: error.hint(), ..Self::plain(causes(&error)) }
    }
}

impl From<FsError> for CliError {
    fn from(error: FsError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<QueueError> for CliError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(error) => error.into(),
            QueueError::Refused(_) | QueueError::DependencyRetired { .. } => {
                Self { code: error.code(), ..Self::plain(causes(&error)) }
            }
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        let code = error.code();
        match error {
            RunError::Queue(error) => error.into(),
            RunError::ResultNotKept { .. } => Self { code, ..Self::plain(causes(&error)) }
                .hint("free some space, then run `engine recover`"),
        }
    }
}

impl From<ManifestError> for CliError {
    fn from(error: ManifestError) -> Self {
        Self { code: Code::AdapterInvalid, ..Self::plain(causes(&error)) }
    }
}
