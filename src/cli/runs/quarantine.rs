//! `engine runs quarantine`: a person's word that nothing of a run may be used.

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::print;
use crate::clock::{Clock, SystemClock};
use crate::job::{RunId, RunManifest};
use crate::store::Store;
use crate::store::run_dir::{self, Quarantine};
use crate::view::run::status::RunStatus;
use crate::view::run::{self, Depth};

/// `engine runs quarantine`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs quarantine last --reason \"the agent copied licensed code\"\n  engine runs quarantine last --ack\n\n\
    Only of a run that works or has failed. One that works goes on, and is quarantined at its end: stop it with engine runs cancel. A quarantined run is neither\n\
    merged nor resumed. After --ack it counts as failed and can be resumed."
)]
pub struct RunsQuarantineArgs {
    /// The run, or `last`
    pub run: String,
    /// Why nothing of it may be used
    #[arg(long, value_name = "TEXT", required_unless_present = "ack")]
    pub reason: Option<String>,
    /// Take the word back: the run counts as failed
    #[arg(long, conflicts_with = "reason")]
    pub ack: bool,
}

/// Quarantines the run, or takes that back; 1 if its status does not allow it.
pub(super) fn run(store: &Store, args: &RunsQuarantineArgs) -> Result<u8, CliError> {
    let manifest = named(store, &args.run)?;
    let name = manifest.run_id.clone();
    let Some(dir) = run_dir::take(store, &name)? else {
        return Err(CliError::no(format!("another process is changing the run `{name}`")));
    };
    let clock = SystemClock::start();
    let said = run_dir::quarantine(store, &name)?;
    let status = status(store, manifest, &clock)?;
    let word = match &args.reason {
        Some(reason) if status.may_become(RunStatus::Quarantined) => {
            Quarantine { reason: reason.clone(), at: clock.now(), acknowledged_at: None }
        }
        Some(_) => return Err(refused(&name, status)),
        None => match said.filter(|word| word.acknowledged_at.is_none()) {
            Some(word) => Quarantine { acknowledged_at: Some(clock.now()), ..word },
            None if status == RunStatus::Quarantined => {
                let error = CliError::no(format!("a job of the run `{name}` is quarantined, not the run"));
                return Err(error.hint(format!("engine run --resume {name}")));
            }
            None => return Err(CliError::no(status.refusal(RunStatus::Failed))),
        },
    };
    dir.write_quarantine(store, &word)?;
    print::report([match (word.acknowledged_at, status) {
        (Some(_), _) => format!("{name}: acknowledged; it counts as failed: engine run --resume {name}"),
        (None, RunStatus::Running) => {
            format!("{name}: quarantined when it ends; engine runs cancel {name} ends it")
        }
        (None, _) => format!("{name}: quarantined"),
    }]);
    Ok(0)
}

/// Why a run cannot be quarantined, and what keeps it from being used all the same.
fn refused(run: &RunId, status: RunStatus) -> CliError {
    let error = CliError::no(status.refusal(RunStatus::Quarantined));
    match status {
        RunStatus::Succeeded => error.hint(format!(
            "nothing of it is in a branch of yours before engine runs merge; engine runs clean {run} --branches removes it"
        )),
        RunStatus::Pending => error.hint(format!("engine runs cancel {run}")),
        _ => error,
    }
}

fn status(store: &Store, manifest: RunManifest, clock: &SystemClock) -> Result<RunStatus, CliError> {
    Ok(RunStatus::of(&run::read(store, manifest, Depth::Status, clock.now())?))
}
