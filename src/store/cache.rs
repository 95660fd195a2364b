//! How many jobs have ended, by status: `state/cache/counts.json`.
//!
//! A line of the journal only says which record to look at; a job is counted as what its record says, and what it was
//! counted as before is kept (`counted`). So a line that is repeated, late or missing cannot make a job count twice; a
//! missing one makes it late. Hard rule: nothing is decided by this; whatever is not as expected is thrown away and made
//! again from the records.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::brief::{self, StatusLine};
use super::counted::Counted;
use super::identity::Origin;
use super::journal::{self, Position};
use super::{Result, Store, gc_lock, json_line};
use crate::clock::{Clock, Timestamp};
use crate::fs;
use crate::job::{JobId, Status};

/// With more changes than this the sorted file is written anew.
const MOST_CHANGES: usize = 2048;
/// A larger file is none of ours.
const LARGEST: u64 = 4 << 20;
/// A sorted file that is older may be removed once nothing points at it.
const OLD: std::time::Duration = std::time::Duration::from_secs(60);

/// How many jobs have ended so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly, and that is an answer.
    pub failed: u64,
    /// A person stopped them.
    pub canceled: u64,
    /// Need a person.
    pub quarantined: u64,
}

impl Totals {
    fn total_mut(&mut self, status: Status) -> Option<&mut u64> {
        match status {
            Status::Queued | Status::Running => None,
            Status::Succeeded => Some(&mut self.succeeded),
            Status::Failed => Some(&mut self.failed),
            Status::Canceled => Some(&mut self.canceled),
            Status::Quarantined => Some(&mut self.quarantined),
        }
    }

    fn sum(self) -> u64 {
        let Self { succeeded, failed, canceled, quarantined } = self;
        succeeded.saturating_add(failed).saturating_add(canceled).saturating_add(quarantined)
    }
}

/// The counts, and the status that each job has in them.
#[derive(Debug)]
pub struct Counts {
    /// How many jobs have ended.
    pub totals: Totals,
    /// The records that cannot be read, and why.
    pub unreadable: Vec<(JobId, String)>,
    /// If they had to be made anew: from how many records, and why.
    pub rebuilt: Option<Rebuilt>,
    counted: Counted,
}

/// Counts that were made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// How many records were read.
    pub records: usize,
    /// What was wrong with the cache.
    pub why: String,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    origin: Origin,
    totals: Totals,
    journal: Vec<Position>,
    /// The sorted file, and how many entries it has.
    index: String,
    entries: u64,
    changes: Vec<u64>,
    unreadable: Vec<JobId>,
}

impl Counts {
    /// Makes ready for so many questions.
    ///
    /// # Errors
    /// File system errors.
    pub fn expect(&mut self, questions: usize) -> Result<()> {
        self.counted.expect(questions)
    }

    /// The status of a job when it was last counted; `None` for one that is queued, or that is not known.
    ///
    /// # Errors
    /// File system errors.
    pub fn status_of(&self, id: &JobId) -> Result<Option<Status>> {
        self.counted.get(id)
    }
}

/// Counts the jobs that have ended: by the cache and what the journal got since, else from the records. The cache is
/// written if it is not current and can be.
///
/// # Errors
/// File system errors of the records' directory. Whatever is wrong with cache or journal is not an error.
pub fn counts(store: &Store, clock: &dyn Clock) -> Result<Counts> {
    let before = store.cache_dir().and_then(|dir| read_file(&dir.join(COUNTS)));
    let loaded = load(store, before.as_deref()).and_then(|known| advance(store, known));
    let (counts, written) = match loaded {
        Ok((counts, None)) => return Ok(counts),
        Ok((counts, Some(written))) => (counts, written),
        Err(why) => rebuild(store, why)?,
    };
    if let Some(dir) = store.make_cache_dir()
        && let Err(error) = write(store, &dir, clock, before.as_deref(), &counts, written)
    {
        tracing::debug!(%error, "the cache is not written");
    }
    Ok(counts)
}

const COUNTS: &str = "counts.json";

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let file = fs::open_regular(path).ok()?;
    fs::read_limited(&file, path, LARGEST).ok()?
}

/// What is written beside the counts themselves.
struct Written {
    /// None while `gc` works: it adds a job to the journal before it removes the record, which was then counted once more.
    journal: Option<Vec<Position>>,
    /// The sorted file that is there, with its entries; none: it is to be made.
    index: Option<(String, u64)>,
}

fn load(store: &Store, bytes: Option<&[u8]>) -> std::result::Result<(OnDisk, Counted), String> {
    let bytes = bytes.ok_or("there is no cache")?;
    let known: OnDisk = serde_json::from_slice(bytes).map_err(|_| "the cache cannot be read")?;
    if !known.origin.counts_beside(&store.origin()) {
        return Err("the cache is of another store, program or boot".to_owned());
    }
    let is_name = known.index.starts_with("counted-") && !known.index.contains('/');
    let counted = if is_name {
        Counted::open(&store.state("cache").join(&known.index), known.entries, &known.changes)
    } else {
        Ok(None)
    };
    let counted = counted.ok().flatten().ok_or("a part of the cache is missing or torn")?;
    if known.totals.sum() > known.entries.saturating_add(known.changes.len() as u64) {
        return Err("its totals are impossible".to_owned());
    }
    Ok((known, counted))
}

/// Looks at every record that the journal names since.
fn advance(
    store: &Store,
    (known, counted): (OnDisk, Counted),
) -> std::result::Result<(Counts, Option<Written>), String> {
    let told = |error: super::StoreError| error.to_string();
    let mut ids: BTreeSet<JobId> = known.unreadable.iter().cloned().collect();
    let parts = journal::open(store).map_err(told)?;
    let named = |block: &[u8]| note_ids(block, &mut ids);
    let positions = read_on(&parts, &known.journal, named).map_err(told)?.map_err(str::to_owned)?;
    // After the journal and before the records: a gc that begins later is seen later.
    let is_collected = !ids.is_empty() && gc_lock::is_collected(store);
    let mut counts = Counts { totals: known.totals, unreadable: Vec::new(), rebuilt: None, counted };
    let ids: Vec<JobId> = ids.into_iter().collect();
    apply(store, &mut counts, &ids).map_err(told)?;
    let current = positions == known.journal
        && counts.totals == known.totals
        && known.unreadable.iter().eq(counts.unreadable.iter().map(|(id, _)| id));
    let index = Some((known.index, known.entries));
    let journal = (!is_collected).then_some(positions);
    Ok((counts, (!current).then_some(Written { journal, index })))
}

fn read_on(
    parts: &[journal::Part],
    known: &[Position],
    mut each: impl FnMut(&[u8]),
) -> Result<std::result::Result<Vec<Position>, &'static str>> {
    Ok(journal::advance(parts, known, &mut each)?.map_err(|changed| changed.0))
}

fn note_ids(block: &[u8], ids: &mut BTreeSet<JobId>) {
    ids.extend(journal::glances(block).filter_map(|line| JobId::new(&line.job_id).ok()));
}

/// Counts these jobs as what their records say now.
fn apply(store: &Store, counts: &mut Counts, ids: &[JobId]) -> Result<()> {
    let found = brief::read_many(store, ids, |id, line| Some((id.clone(), status_of(line))))?;
    counts.counted.expect(ids.len())?;
    for (id, standing) in found {
        let status = match standing {
            Ok(status) => status,
            Err(problem) => {
                counts.unreadable.push((id.clone(), problem));
                None
            }
        };
        let before = counts.counted.get(&id)?;
        if before == status {
            continue;
        }
        if let Some(total) = before.and_then(|before| counts.totals.total_mut(before)) {
            *total = total.saturating_sub(1);
        }
        if let Some(total) = status.and_then(|status| counts.totals.total_mut(status)) {
            *total = total.saturating_add(1);
        }
        counts.counted.set(&id, status);
    }
    Ok(())
}

/// As what a record counts. A queued job counts by its file. A part of another job counts as nothing: as one that runs, which is
/// in no total, and whose record is read where it has a file.
fn status_of(line: Result<Option<StatusLine>>) -> std::result::Result<Option<Status>, String> {
    match line {
        Ok(Some(line)) if line.job.parent.is_some() => Ok(Some(Status::Running)),
        Ok(line) => Ok(line.map(|line| line.status).filter(|status| *status != Status::Queued)),
        Err(error) => Err(error.to_string()),
    }
}

fn rebuild(store: &Store, why: String) -> Result<(Counts, Written)> {
    // The end of the journal first: what is written while the records are read is looked at again the next time.
    let journal = match ends(store) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::debug!(%error, "the journal cannot be read");
            Vec::new()
        }
    };
    let journal = (!gc_lock::is_collected(store)).then_some(journal);
    let ids = store.recorded_ids()?;
    let rebuilt = Some(Rebuilt { records: ids.len(), why });
    let mut counts =
        Counts { totals: Totals::default(), unreadable: Vec::new(), rebuilt, counted: Counted::empty() };
    apply(store, &mut counts, &ids)?;
    Ok((counts, Written { journal, index: None }))
}

fn ends(store: &Store) -> Result<Vec<Position>> {
    journal::open(store)?.iter().map(journal::Part::end).collect()
}

/// Writes the cache, unless another process has since it was read.
fn write(
    store: &Store,
    dir: &Path,
    clock: &dyn Clock,
    before: Option<&[u8]>,
    counts: &Counts,
    written: Written,
) -> Result<()> {
    let Some(journal) = written.journal else { return Ok(()) };
    let changes = counts.counted.changes();
    let (index, entries, changes) = match written.index.clone() {
        Some((index, entries)) if changes.len() <= MOST_CHANGES => (index, entries, changes),
        _ => {
            let bytes = counts.counted.all()?;
            let index = format!("counted-{}", uuid::Uuid::now_v7());
            fs::replace(&dir.join(&index), &bytes)?;
            (index, Counted::entries(&bytes), Vec::new())
        }
    };
    let document = OnDisk {
        origin: store.origin(),
        totals: counts.totals,
        journal,
        index,
        entries,
        changes,
        unreadable: counts.unreadable.iter().map(|(id, _)| id.clone()).collect(),
    };
    let path = dir.join(COUNTS);
    let bytes = json_line(&path, &document)?;
    if read_file(&path).as_deref() == before {
        fs::replace(&path, &bytes)?;
    }
    let former = written.index.map(|(index, _)| index);
    remove_old(dir, clock.now(), &[Some(document.index), former])
}

/// Removes sorted files that nothing points at: not the one before this, which another reader may be writing about.
fn remove_old(dir: &Path, now: Timestamp, keep: &[Option<String>]) -> Result<()> {
    for name in fs::names(dir)?.into_iter().filter(|name| name.starts_with("counted-")) {
        if keep.iter().flatten().any(|kept| *kept == name) {
            continue;
        }
        let path = dir.join(&name);
        let modified =
            std::fs::symlink_metadata(&path).ok().and_then(|metadata| Timestamp::modified(&metadata));
        if modified.is_some_and(|modified| now.since(modified) >= OLD) {
            fs::remove(&path)?;
        }
    }
    Ok(())
}
