//! The workstreams that do not start any more because of another one: after a failure with `--fail-fast`, and where the budget of
//! the run is used up.
//!
//! Called before the end that causes it is reported, so that none of them starts after it. The integration is never among them.

use super::assignment::job_of;
use super::conductor::Means;
use super::result::{Verdict, Word};
use crate::job::{Code, Reason, RunId, RunManifest};
use crate::queue::cancel;
use crate::store::run_dir;

/// The key of a run's options.
pub(super) const FAIL_FAST: &str = "fail_fast";

/// Cancels the workstreams of a run that have not started, if this verdict asks for it.
///
/// # Errors
/// A reason where a record cannot be read or written.
pub(super) fn give_up_others(means: &Means<'_>, run: &RunId, verdict: &Verdict) -> Result<(), Reason> {
    if !matches!(verdict.word, Word::Failed | Word::Quarantined) {
        return Ok(());
    }
    let Some(manifest) = run_dir::read_manifest(means.store, run)? else { return Ok(()) };
    let Some(why) = why(&manifest, verdict) else { return Ok(()) };
    for ordered in &manifest.order {
        cancel::untouched(means.store, means.clock, &job_of(run, &ordered.ws_id)?, &why)?;
    }
    Ok(())
}

/// Why the others are given up; none if they are not.
fn why(manifest: &RunManifest, verdict: &Verdict) -> Option<Reason> {
    let option = |key: &str| manifest.options.get(key);
    let is_spent = verdict.reason.as_ref().is_some_and(|reason| reason.code == Code::BudgetExceeded)
        && option("max_cost_usd").is_some_and(|most| !most.is_null());
    let is_fail_fast = option(FAIL_FAST).is_some_and(|value| value.as_bool() == Some(true));
    let what = match (is_spent, is_fail_fast) {
        (true, _) => "the budget of the run is used up",
        (_, true) => "another workstream failed, and `--fail-fast` is set",
        _ => return None,
    };
    let message = format!("{what}: engine run --resume {}", manifest.run_id);
    Some(Reason::new(Code::GivenUp, message))
}
