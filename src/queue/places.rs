//! Where job files are, and how they move.

use serde_json::json;

use super::{QueueError, Result};
use crate::fs::{self, Entry, FsError, Moved};
use crate::job::place::is_day;
use crate::job::{Code, JobId, Place, Reason};
use crate::store::{Store, StoreError};

/// Finds the job file of an id: where the record says, else in every directory, the newest day first.
pub(crate) fn locate(store: &Store, id: &JobId, expected: Option<&Place>) -> Result<Option<Place>> {
    for place in expected.into_iter().chain(&[Place::Queued, Place::Running, Place::Quarantined]) {
        if is_at(store, id, place)? {
            return Ok(Some(place.clone()));
        }
    }
    let mut days = fs::names(&store.root().join("jobs/done"))?;
    days.retain(|name| is_day(name));
    days.sort();
    for day in days.into_iter().rev() {
        let place = Place::Done(day);
        if is_at(store, id, &place)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// How often a file that others may be moving is looked for: a start and an end are two moves.
const LOOKS: u32 = 5;

/// Reads a job file without its lease, wherever it is. A runner moves it only after the record says so and is durable, so that
/// for a while it is not where the record says; and it may go between the look and the reading. `None`: it is nowhere.
///
/// # Errors
/// File system errors, and those of `read`.
pub(crate) fn read_moving<T>(
    store: &Store,
    id: &JobId,
    recorded: Option<&Place>,
    read: &dyn Fn(&std::path::Path) -> Result<T>,
) -> Result<Option<T>> {
    for _ in 0..LOOKS {
        let Some(place) = locate(store, id, recorded)? else { continue };
        match read(&store.job_file(&place, id)) {
            Err(QueueError::Store(StoreError::Fs(error))) if error.is_not_found() => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// True if the job file is at a place: a regular file that only we can write. Anything else of its name (a link, a
/// directory, a FIFO, a file of another user) is left alone.
pub(crate) fn is_at(store: &Store, id: &JobId, place: &Place) -> Result<bool> {
    Ok(fs::entry(&store.job_file(place, id), store.owner())? == Entry::Ours)
}

/// The ids of the job files at a place, unsorted; whatever else is there is left out.
pub(crate) fn ids(store: &Store, place: &Place) -> Result<Vec<JobId>> {
    let mut ids = Vec::new();
    for name in fs::names(&store.place_dir(place))? {
        let Some(id) = name.strip_suffix(".json").and_then(|stem| JobId::new(stem).ok()) else { continue };
        if is_at(store, &id, place)? {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The files of a job in the directories of those that have not ended.
#[derive(Debug)]
pub(crate) struct ActiveFiles {
    /// A file is in `queued/`.
    pub queued: bool,
    /// A file is in `running/`.
    pub running: bool,
    /// Something that is no job file has its name there.
    pub in_the_way: Option<Reason>,
}

impl ActiveFiles {
    /// Where they are.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let both = [(self.running, Place::Running), (self.queued, Place::Queued)];
        both.into_iter().filter(|(there, _)| *there).map(|(_, place)| place)
    }
}

/// Looks for the files of a job that has not ended.
pub(crate) fn active_files(store: &Store, id: &JobId) -> Result<ActiveFiles> {
    let look = |place: &Place| {
        let path = store.job_file(place, id);
        fs::entry(&path, store.owner()).map(|entry| (entry, path))
    };
    let both = [look(&Place::Queued)?, look(&Place::Running)?];
    let wrong = both.iter().find(|(entry, _)| !matches!(entry, Entry::Ours | Entry::Missing));
    let in_the_way = wrong.map(|(_, path)| {
        let message = format!("`{}` is not a regular file of yours that only you can write", path.display());
        Reason::new(Code::JobFileNotTrusted, message)
    });
    let [queued, running] = both.map(|(entry, _)| entry == Entry::Ours);
    Ok(ActiveFiles { queued, running, in_the_way })
}

/// Moves a job file to where its record says, which a crash may have left undone. Without sync: the record decides.
///
/// A file that already has the name there stays; the one that was to be moved is then a duplicate and is quarantined.
pub(crate) fn settle(store: &Store, id: &JobId, from: &Place, to: &Place) -> Result<()> {
    if from == to {
        return Ok(());
    }
    let (source, target) = (store.job_file(from, id), store.job_file(to, id));
    if fs::entry(&source, store.owner())? == Entry::NotRegular {
        // It was put there in the place of the job file: it is left alone.
        return Ok(());
    }
    let moved = match fs::rename_noreplace(&source, &target) {
        Err(error) if error.is_not_found() => {
            fs::create_dir(&store.place_dir(to))?;
            fs::rename_noreplace(&source, &target)
        }
        other => other,
    };
    match moved? {
        Moved::Done | Moved::SourceMissing => Ok(()),
        // Two names of one file, as a crash in the middle of a link or a person's `ln` leaves them.
        Moved::TargetExists if fs::is_same_entry(&source, &target)? => {
            fs::remove(&source)?;
            Ok(())
        }
        Moved::TargetExists => {
            let reason = Reason::new(Code::Duplicate, format!("`{}` exists", target.display()));
            quarantine_foreign(store, from, &format!("{id}.json"), &reason)
        }
    }
}

/// Moves a file that is no job of ours to a free name in `quarantined/`, with its reason beside it.
///
/// The name is `<stem>~<n>.json`, which no job can have, so that it never takes the place of a job file. The reason is
/// written first and keeps the name; a crash in between leaves a reason without a file.
pub(crate) fn quarantine_foreign(store: &Store, from: &Place, name: &str, reason: &Reason) -> Result<()> {
    let source = store.place_dir(from).join(name);
    let dir = store.place_dir(&Place::Quarantined);
    let stem = name.strip_suffix(".json").unwrap_or(name);
    let text = format!("{}\n", json!({ "schema_version": 1, "from": from, "reason": reason }));
    for number in 1u32.. {
        let beside = dir.join(format!("{stem}~{number}.json.reason.json"));
        match fs::create_new(&beside, text.as_bytes()) {
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => continue,
            other => drop(other?),
        }
        match fs::rename_noreplace(&source, &dir.join(format!("{stem}~{number}.json")))? {
            Moved::Done => return Ok(()),
            // Another process moved it, for a reason of its own.
            Moved::SourceMissing => {
                fs::remove(&beside)?;
                return Ok(());
            }
            Moved::TargetExists => {
                fs::remove(&beside)?;
            }
        }
    }
    Ok(())
}

/// Writes a job file under a temporary name in `queued/`, durable or not, and gives that name.
///
/// # Errors
/// File system errors; nothing is left behind.
pub(crate) fn write_temporary(
    store: &Store,
    bytes: &[u8],
    sync: TemporarySync,
) -> Result<std::path::PathBuf> {
    let path = fs::temporary_in(&store.place_dir(&Place::Queued));
    let written = fs::create_new(&path, bytes).map_err(QueueError::from).and_then(|file| match sync {
        TemporarySync::Now => Ok(store.sync_data(&file, &path)?),
        TemporarySync::Never => Ok(()),
    });
    if let Err(error) = written {
        let _: std::result::Result<bool, FsError> = fs::remove(&path);
        return Err(error);
    }
    Ok(path)
}

/// Whether a new job file is synced before it gets its name `SUBMIT_DATA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemporarySync {
    /// Yes: the job is then reported as accepted.
    Now,
    /// No: nothing is reported before the start line, which is synced.
    Never,
}

/// All ids that have a record or a file in `queued/`, sorted.
pub(crate) fn all_ids(store: &Store) -> Result<Vec<JobId>> {
    let mut all = store.recorded_ids()?;
    all.extend(ids(store, &Place::Queued)?);
    all.sort();
    all.dedup();
    Ok(all)
}
