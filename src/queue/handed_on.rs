//! Recovers a crash between handing a job on and its end: the linked job exists, and the end is written from it.
//!
//! Hard rule: a linked job counts only if its file names this job and if it came after the attempt had started; any other
//! job of that name is unrelated.

use std::path::Path;

use super::attempt::{self, End, blank_result, next_line};
use super::{Result, claim, places};
use crate::clock::{Clock, Timestamp};
use crate::job::spec::OnFailure;
use crate::job::state::{Ending, Next};
use crate::job::{Code, JobFile, JobId, Outcome, Place, Reason};
use crate::store::{Lease, Store};

/// The job that the open attempt of `job` was handed on to before its runner died.
#[must_use]
pub(super) fn linked_job(store: &Store, job: &JobFile, started_at: Timestamp) -> Option<JobId> {
    let id = JobId::new(&format!("{}.{}", job.job_id, job.escalates_to()?)).ok()?;
    let record = store.read_record(&id).ok().flatten();
    if record.as_ref().is_some_and(|record| record.line.at < started_at) {
        return None;
    }
    let recorded = record.map(|record| record.line.place);
    let read = |path: &Path| claim::read_at(path, &id, true, Timestamp::from_millis(0));
    let found = places::read_moving(store, &id, recorded.as_ref(), &read);
    let Ok(Some((claim::Content::Job(linked, _), _))) = found else { return None };
    let from = linked.job.metadata.known.escalated_from_job.as_ref();
    (from == Some(&job.job_id)).then_some(id)
}

/// Ends the open attempt as its runner would have.
pub(super) fn end(store: &Store, clock: &dyn Clock, lease: &mut Lease, linked: &JobId) -> Result<Place> {
    let now = clock.now();
    let message = format!("handed on to `{linked}`; its runner died before it recorded why");
    let reason = Reason::new(Code::Escalated, message);
    let line = next_line(lease, now);
    let mut result = blank_result(&line, Outcome::Failed, Some(reason), now);
    result.metadata.insert("escalated_to".to_owned(), linked.to_string().into());
    let ending = Ending { outcome: Outcome::Failed, next: Next::Stop, on_failure: OnFailure::Done };
    attempt::end(store, clock, lease, End::from_result(ending, result))?;
    Ok(lease.line().map_or(Place::Running, |line| line.place.clone()))
}
