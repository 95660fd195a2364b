//! Admits a job: recovers crash left-overs, waits for its conditions, takes its locks and its lease.

use std::collections::BTreeSet;
use std::time::Duration;

use super::tree_lock::{self, TreeLock};
use super::{Patience, RunError, Workplace, recover, recover_holder, why_not_recovered};
use crate::adapter::Manifest;
use crate::causes::{Shortage, causes};
use crate::job::id::LockName;
use crate::job::{Code, JobFile, JobId, Reason, Status};
use crate::process::Paused;
use crate::process::left_over::MARKER;
use crate::queue::claim::{self, Claimable, Ready};
use crate::queue::door::Incoming;
use crate::queue::enter::{self, Entered, Waited};
use crate::queue::parent;
use crate::queue::ready::{self, Met};
use crate::queue::recovery::{Again, Recovered};
use crate::store::named_locks::{Holder, NamedLocks, TryLocks};
use crate::store::{Lease, Store, StoreError};

/// The locks of a job while it runs.
#[derive(Debug)]
pub(super) struct Locks {
    named: NamedLocks,
    _tree: TreeLock,
}

/// The named locks of a job, and that of the worktree where it is an agent's; all or none.
pub(super) fn with_tree(
    place: &Workplace<'_>,
    job: &JobFile,
    manifest: Option<&Manifest>,
    named: Result<NamedLocks, Reason>,
) -> Result<Locks, Reason> {
    let named = named?;
    match tree_lock::try_take(place.store, place.environment, job, manifest) {
        Ok(tree) => Ok(Locks { named, _tree: tree }),
        Err(reason) => {
            release_named(named);
            Err(reason)
        }
    }
}

/// Waits, as far as it has patience, until hold, time, dependencies and locks let the job start.
pub(super) fn ready_to_start(
    place: &mut Workplace<'_>,
    job: &JobFile,
    manifest: Option<&Manifest>,
    patience: Patience,
) -> Result<Result<Locks, Reason>, RunError> {
    let until = match patience {
        Patience::Wait(wait) => place.clock.monotonic().saturating_add(wait),
        Patience::Refuse | Patience::Park => Duration::ZERO,
    };
    loop {
        // Which attempt it will be is known under the lease.
        // Only a waiting run looks at the record: the others judge it under the lease.
        let parked = match patience {
            Patience::Wait(_) => {
                place.store.read_record(&job.job_id)?.filter(|r| r.line.status == Status::Queued)
            }
            Patience::Refuse | Patience::Park => None,
        };
        let now = place.clock.now();
        let parked = parked.and_then(|record| record.line.waits_until(now));
        let found = match ready::judge_under(place.store, job, parked, now)? {
            Ok(_) => with_tree(
                place,
                job,
                manifest,
                take_locks(place, job, job.locks.as_deref().unwrap_or_default(), 1, BTreeSet::new())?,
            ),
            Err(blocker) => Err(blocker.reason()),
        };
        let left = until.saturating_sub(place.clock.monotonic());
        if found.is_ok() || left.is_zero() {
            return Ok(found);
        }
        let pause = place.spawner.pause(left.min(Duration::from_millis(200)));
        if let Paused::Interrupted(_) = pause {
            return Ok(found);
        }
    }
}

/// Takes the named locks of a job; the last holder of a slot that was not released is recovered first, unless it is
/// in `recovered`.
pub(super) fn take_locks(
    place: &Workplace<'_>,
    job: &JobFile,
    names: &[LockName],
    attempt: u32,
    mut recovered: BTreeSet<JobId>,
) -> Result<Result<NamedLocks, Reason>, RunError> {
    if names.is_empty() {
        return Ok(Ok(NamedLocks::default()));
    }
    loop {
        let by = Holder { id: &job.job_id, attempt };
        let tried = match NamedLocks::acquire(place.store, names, by, &recovered) {
            Err(error) if Shortage::behind(&error).is_some() => {
                let message = format!("cannot take its locks: {}", causes(&error));
                return Ok(Err(Reason::new(Code::StartFailed, message).because(&error)));
            }
            tried => tried?,
        };
        let (lock, holder) = match tried {
            TryLocks::Held(locks) => return Ok(Ok(locks)),
            TryLocks::Busy { lock, holder } => {
                let by = holder.map_or_else(String::new, |holder| format!(" by `{holder}`"));
                return Ok(Err(Reason::new(Code::WaitingLock, format!("the lock `{lock}` is held{by}"))));
            }
            TryLocks::Abandoned { lock, holder } => (lock, holder),
        };
        // A job that left the lock itself is run now: this run is the repetition.
        let again = if holder.id == job.job_id { Again::Never } else { Again::IfRepeatable };
        match recover_holder(place.store, place.clock, &holder, again)? {
            Recovered::Healthy
            | Recovered::Moved(_)
            | Recovered::Lost(_)
            | Recovered::Canceled(_)
            | Recovered::Quarantined(_) => {
                recovered.insert(holder.id);
            }
            Recovered::Alive => {
                let id = holder.id;
                let message = format!("`{id}`, which is alive, has not released the lock `{lock}`");
                return Ok(Err(Reason::new(Code::WaitingLock, message)));
            }
            // Nothing tells when it is free: a wait for it could be without end.
            Recovered::Elsewhere(host) => {
                let message = format!(
                    "the lock `{lock}` was not released by `{}`, which was started on `{host}` (or in another container \
                     there); if that machine is dead, run `engine recover --host-is-dead {host}`",
                    holder.id
                );
                return Ok(Err(Reason::new(Code::LockNotReleased, message)));
            }
            Recovered::StillRunning(_) | Recovered::CannotTell(_) => {
                let id = holder.id;
                let message = format!("`{id}`, which may be alive, has not released the lock `{lock}`");
                return Ok(Err(Reason::new(Code::LockNotReleased, message)));
            }
        }
    }
}

/// How a job came in, with what it waited for as it was judged under its lease.
#[derive(Debug)]
pub(super) enum CameIn {
    /// It is new, or a new life of an ended job.
    New(Box<Lease>, Met),
    /// It waited in the queue already.
    Waited(Box<Waited>, Met),
    /// It did not: it is this job.
    Is(JobId),
}

/// Lets the job in, with what it waited for as it is judged under its lease; what a crash left of its last run is
/// recovered first.
pub(super) fn enter_or_recover(
    place: &Workplace<'_>,
    incoming: Incoming<'_>,
) -> Result<Result<CameIn, Reason>, RunError> {
    let id = &incoming.job.job_id;
    let mut met = Met::default();
    let mut judge = |until| match ready::judge_under(place.store, incoming.job, until, place.clock.now())? {
        Ok(found) => {
            met = found;
            Ok(None)
        }
        Err(blocker) => Ok(Some(blocker.reason())),
    };
    // Once for what a crash left, and once more for what that recovery itself uncovers.
    for _ in 0..3 {
        match enter::direct(place.store, place.clock, incoming, &mut judge)? {
            Entered::Inside(lease) => return Ok(Ok(CameIn::New(lease, met))),
            Entered::Waited(waited) => return Ok(Ok(CameIn::Waited(waited, met))),
            Entered::Is(other) => return Ok(Ok(CameIn::Is(other))),
            Entered::Refused(reason) => return Ok(Err(reason)),
            Entered::NeedsRecovery => {
                // This run is the repetition.
                let recovered = recover(place.store, place.clock, id, Again::Never)?;
                if matches!(recovered, Recovered::Lost(_)) {
                    tracing::warn!(
                        "the last attempt of {id} was lost: it may have run; running it again as requested"
                    );
                }
                if let Err(reason) = why_not_recovered(recovered, id) {
                    return Ok(Err(reason));
                }
            }
        }
    }
    Ok(Err(not_recovered(id)))
}

/// Why this process may not run a job that is a part of another one, if it may not.
pub(super) fn why_not_under_parent(place: &Workplace<'_>, job: &JobFile) -> Result<Option<Reason>, RunError> {
    Ok(parent::why_not_under(place.store, job, place.environment.get(MARKER))?)
}

pub(super) fn look_or_recover(place: &Workplace<'_>, id: &JobId) -> Result<Result<Ready, Reason>, RunError> {
    for _ in 0..3 {
        match claim::look(place.store, id, place.clock.now())? {
            Claimable::Ready(ready) => return Ok(Ok(*ready)),
            Claimable::Refused(reason) => return Ok(Err(reason)),
            Claimable::NeedsRecovery => {
                if let Err(reason) =
                    why_not_recovered(recover(place.store, place.clock, id, Again::IfRepeatable)?, id)
                {
                    return Ok(Err(reason));
                }
            }
        }
    }
    Ok(Err(not_recovered(id)))
}

pub(super) fn not_recovered(id: &JobId) -> Reason {
    Reason::new(Code::NeedsRecovery, format!("a crash left the job `{id}` unfinished; run `engine recover`"))
}

impl Locks {
    /// Names the attempt that is about to start in the slots that are held.
    pub(super) fn name_attempt(&self, store: &Store, id: &JobId, attempt: u32) -> Result<(), StoreError> {
        self.named.name_holder(store, Holder { id, attempt })
    }
}

/// Gives locks back; a slot that could not be emptied is recovered by its next user.
pub(super) fn release(locks: Locks) {
    release_named(locks.named);
}

fn release_named(locks: NamedLocks) {
    if let Err(error) = locks.release() {
        tracing::warn!(error = causes(&error), "named lock not emptied");
    }
}
