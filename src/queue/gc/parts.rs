//! What `gc` does for jobs that are a part of another one, beside what it does for all.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Report, Skip};
use super::survey::Survey;
use crate::clock::Clock;
use crate::fs::Create;
use crate::job::{Code, JobId, Reason, RecordLine, Status};
use crate::policy::retention::{Cause, Finished};
use crate::queue::situation::Situation;
use crate::queue::{Result, cancel, places};
use crate::store::{Acquire, Lease, Store};

/// Cancels the parts that wait for a parent that is about to go `CHILD_GC_QUEUED`: nothing would ever run them. They then go as
/// the others; where that is not possible, neither goes.
pub(super) fn cancel_waiting_parts(
    store: &Store,
    clock: &dyn Clock,
    survey: &Survey,
    drop: &mut [(Finished, Cause)],
    report: &mut Report,
) {
    let parents: BTreeMap<JobId, u64> = drop.iter().map(|(job, _)| (job.id.clone(), job.seq)).collect();
    for (job, _) in drop.iter_mut().filter(|(job, _)| job.status == Status::Queued) {
        let Some((parent, seq)) = job.parent.as_ref().and_then(|parent| parents.get_key_value(parent)) else {
            continue;
        };
        match cancel_part(store, clock, &job.id, (parent, *seq)) {
            Ok(Some(line)) => *job = survey.finished_job(store, line),
            // It is not what it was; that is seen again under its lease.
            Ok(None) => {}
            Err(error) => report.fail(&job.id, &error),
        }
    }
}

/// Cancels a part that waits, if its parent is still at the end that was seen: under the leases of both.
fn cancel_part(
    store: &Store,
    clock: &dyn Clock,
    id: &JobId,
    (parent, seq): (&JobId, u64),
) -> Result<Option<RecordLine>> {
    let Acquire::Held(of_parent) = Lease::acquire(store, parent, Create::No)? else { return Ok(None) };
    let Acquire::Held(mut lease) = Lease::acquire(store, id, Create::No)? else { return Ok(None) };
    let has_ended = of_parent.line().is_some_and(|line| line.seq == seq);
    let waits = Situation::judge(lease.line(), &places::active_files(store, id)?) == Situation::Queued;
    if !has_ended || !waits {
        return Ok(None);
    }
    let message = format!("`{parent}`, which it is a part of, has ended and is retired by gc");
    cancel::write(store, clock, &mut lease, Reason::new(Code::NotUnderParent, message))?;
    Ok(lease.line().cloned())
}

/// Takes out the jobs of which a part was to go and stays.
pub(super) fn hold_back(
    parts: &[(Finished, Cause)],
    others: &mut Vec<(Finished, Cause)>,
    report: &mut Report,
) {
    let gone: BTreeSet<&JobId> = report.dropped.iter().map(|(job, _)| &job.id).collect();
    let stay = parts.iter().map(|(job, _)| job).filter(|job| !gone.contains(&job.id));
    let held: BTreeSet<&JobId> = stay.filter_map(|job| job.parent.as_ref()).collect();
    others.retain(|(job, _)| {
        let goes = !held.contains(&job.id);
        if !goes {
            report.skipped.push((job.id.clone(), Skip::Part));
        }
        goes
    });
}
