//! Why no tool was started.

use super::end::{End, Then};
use super::{Workplace, verdict};
use crate::adapter::registry;
use crate::job::{Code, JobFile, Reason};
use crate::process::SpawnError;
use crate::queue::cancel;

/// The end of an attempt whose adapter does not exist.
pub(crate) fn no_adapter(place: &Workplace<'_>, job: &JobFile) -> End {
    let near = registry::nearest(place.store, &job.tool);
    let hint =
        near.map_or_else(|| "see `engine adapters`".to_owned(), |near| format!("did you mean `{near}`?"));
    Reason::new(Code::NoAdapter, format!("there is no adapter `{}`; {hint}", job.tool)).into()
}

/// The end of an attempt whose program could not be started.
pub(crate) fn spawn_failed(error: &SpawnError) -> End {
    let message = match error {
        SpawnError::System { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    match error {
        SpawnError::NotFound { exe } => {
            let is_line = exe.contains(char::is_whitespace);
            let hint = if is_line {
                "a command line needs a shell: sh -c '…'"
            } else {
                "is it installed, and in PATH?"
            };
            Reason::new(Code::ToolNotFound, format!("{message}; {hint}")).into()
        }
        SpawnError::NotExecutable { .. } => Reason::new(Code::ToolNotExecutable, message).into(),
        SpawnError::Interrupted(interrupt) => End::canceled(verdict::interrupted(*interrupt)),
        SpawnError::Requested => End::canceled(cancel::by_user()),
        SpawnError::System { .. } => {
            let reason = Reason { shortage: error.shortage(), ..Reason::new(Code::StartFailed, message) };
            // Also what is no shortage may pass: a file system that is away, a limit of the container.
            End { then: Then::Retry, ..reason.into() }
        }
    }
}
