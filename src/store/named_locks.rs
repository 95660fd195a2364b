//! Named locks: `state/locks/<name>.<k>`, k from 0, taken all or none.
//!
//! A slot's file holds `<id> <attempt> <host> <boot id> <pid namespace>` while it is held and is emptied by a clean release.
//! A process that gets the lock of a slot that is not empty has found a dead holder, whose tool may live: that job is
//! recovered before the slot is used. The file alone says which attempt that was and where, should the record not be
//! readable. The files are never deleted.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Identity, Result, Store};
use crate::fs::{self, Create, FsError};
use crate::job::id::LockName;
use crate::job::{JobFile, JobId};
use crate::lock::Locked;

/// The slots that one job holds; dropping it without `release` leaves them to be recovered.
#[derive(Debug, Default)]
pub(crate) struct NamedLocks {
    held: Vec<(PathBuf, Locked)>,
}

/// What became of an attempt to take locks.
#[derive(Debug)]
pub(crate) enum TryLocks {
    /// All of them.
    Held(NamedLocks),
    /// A lock has no free slot.
    Busy {
        /// Which.
        lock: String,
        /// The holder, as far as its file says.
        holder: Option<JobId>,
    },
    /// A slot is free but its last holder did not release it.
    Abandoned {
        /// Which.
        lock: String,
        /// The job to recover first, as the slot names it.
        holder: LastHolder,
    },
}

enum Slot {
    Free(PathBuf, Locked),
    Busy(Option<JobId>),
    Abandoned(LastHolder, PathBuf, Locked),
}

/// The content of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastHolder {
    /// The job.
    pub id: JobId,
    /// Its attempt, and where its runner was; unknown where an older engine wrote the file.
    pub attempt: Option<(u32, Identity)>,
}

impl LastHolder {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let id = JobId::new(words.next()?).ok()?;
        let attempt = words.next().and_then(|word| word.parse().ok());
        let mut word = || words.next().map(str::to_owned);
        let identity = (|| Some(Identity { host: word()?, boot_id: word()?, pid_namespace: word()? }))();
        Some(Self { id, attempt: attempt.zip(identity) })
    }
}

/// The taker of a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    /// The job.
    pub id: &'a JobId,
    /// Its attempt.
    pub attempt: u32,
}

/// What a claimed job takes: the locks that it names, and one of the slots that all workers of the root share. A part of another
/// job takes none: that one has it.
#[must_use]
pub(crate) fn of_claim(store: &Store, job: &JobFile) -> Vec<LockName> {
    let shared = store.config.shared_slots().filter(|_| job.parent.is_none()).map(LockName::of_the_root);
    in_order(job.locks.iter().flatten().cloned().chain(shared).collect())
}

/// Locks in the order in which they are taken; of one name with two numbers the larger counts.
fn in_order(mut names: Vec<LockName>) -> Vec<LockName> {
    names.sort_by(|a, b| a.name.cmp(&b.name).then(b.slots.cmp(&a.slots)));
    names.dedup_by(|a, b| a.name == b.name);
    names
}

impl NamedLocks {
    /// Tries to take all locks of a job, in sorted order. A slot whose last holder is in `recovered` counts as free.
    ///
    /// # Errors
    /// File system and lock errors.
    pub(crate) fn acquire(
        store: &Store,
        names: &[LockName],
        by: Holder<'_>,
        recovered: &BTreeSet<JobId>,
    ) -> Result<TryLocks> {
        let sorted = in_order(names.to_vec());
        let mut held = Vec::new();
        for lock in &sorted {
            match free_slot(store, lock)? {
                Slot::Free(path, file) => held.push((path, file)),
                Slot::Busy(holder) => return Ok(TryLocks::Busy { lock: lock.name.clone(), holder }),
                // Its last holder was looked after: nothing of it runs.
                Slot::Abandoned(holder, path, file) if recovered.contains(&holder.id) => {
                    held.push((path, file));
                }
                Slot::Abandoned(holder, ..) => {
                    return Ok(TryLocks::Abandoned { lock: lock.name.clone(), holder });
                }
            }
        }
        let locks = Self { held };
        locks.name_holder(store, by)?;
        Ok(TryLocks::Held(locks))
    }

    /// Writes the holder of the slots: before each attempt, for the number shows recovery which processes are meant.
    pub(crate) fn name_holder(&self, store: &Store, by: Holder<'_>) -> Result<()> {
        let Identity { host, boot_id, pid_namespace } = &store.identity;
        let text = format!("{} {} {host} {boot_id} {pid_namespace}\n", by.id, by.attempt);
        for (path, file) in &self.held {
            fs::overwrite(file, path, text.as_bytes())?;
        }
        Ok(())
    }

    /// Gives the locks back: emptied, then unlocked.
    ///
    /// # Errors
    /// File system errors; a slot that could not be emptied looks abandoned.
    pub(crate) fn release(self) -> Result<()> {
        for (path, file) in self.held {
            fs::truncate(&file, &path, 0)?;
        }
        Ok(())
    }
}

fn free_slot(store: &Store, lock: &LockName) -> Result<Slot> {
    let mut busy = None;
    let mut abandoned = None;
    for k in 0..lock.slots {
        let path = store.state("locks").join(format!("{}.{k}", lock.name));
        let file = fs::open_append(&path, Create::IfMissing)?;
        let holder = holder(&file);
        let Some(file) = Locked::exclusive(file, &path)? else {
            busy = holder.map(|holder| holder.id);
            continue;
        };
        // Read again under the lock.
        match self::holder(&file) {
            None => return Ok(Slot::Free(path, file)),
            Some(left) => abandoned = abandoned.or(Some(Slot::Abandoned(left, path, file))),
        }
    }
    // A free slot is better than one whose last holder must be looked after first.
    Ok(abandoned.unwrap_or(Slot::Busy(busy)))
}

/// What the slots of a lock say.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// The jobs in the first slots, in their order, whether they live or not.
    pub holders: Vec<JobId>,
    /// Why the lock cannot be taken although one is free: what has the name of a slot is not a file of ours.
    pub unusable: Option<FsError>,
}

/// Looks at the slots of a lock. Reads only.
#[must_use]
pub(crate) fn look(store: &Store, lock: &LockName) -> Slots {
    let mut slots = Slots::default();
    for k in 0..lock.slots {
        match fs::open_regular(&store.state("locks").join(format!("{}.{k}", lock.name))) {
            Ok(file) => slots.holders.extend(holder(&file).map(|holder| holder.id)),
            // Slots are taken in order: behind one that was never used there is none.
            Err(error) if error.is_not_found() => break,
            Err(error) => {
                let is_first_free = usize::try_from(k).is_ok_and(|before| before == slots.holders.len());
                slots.unusable = is_first_free.then_some(error);
                break;
            }
        }
    }
    slots
}

fn holder(file: &File) -> Option<LastHolder> {
    let mut bytes = [0; 512];
    let length = file.read_at(&mut bytes, 0).ok()?;
    LastHolder::parse(&String::from_utf8_lossy(bytes.get(..length)?))
}
