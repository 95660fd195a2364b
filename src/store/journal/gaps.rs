//! Writing again what the journal lacks: the lines of runners that died between a record line and its journal line.
//!
//! Each job is filled under its lease, and after a second look at what the journal got meanwhile: a living runner writes
//! its own lines, and two recoveries do not write one line twice.

use std::collections::{BTreeSet, HashMap};

use super::super::brief::{self, StatusLine};
use super::super::hash::hash;
use super::super::{Acquire, Lease, Record, Result, Store};
use super::follow::DISORDER;
use super::prune;
use super::read::{Glance, Part, Position, advance, glances, open};
use crate::clock::Timestamp;
use crate::fs::Create;
use crate::job::JobId;
use crate::job::event::JournalLine;

/// Fewer jobs than this are looked for as text before a line is parsed.
const FEW: usize = 16;
/// So many bytes of the journal are read back to see what it lacks of one job.
const READ_BACK: u64 = 1 << 20;

/// The lines of one job that the journal holds.
#[derive(Debug, Default)]
struct JournaledLines {
    /// When line 1 was written: a record that was removed and begun anew has another.
    first: Option<Timestamp>,
    /// When the latest line was written.
    latest: Option<Timestamp>,
    /// The lines 1 to 64, a bit each.
    low: u64,
    /// The others.
    high: BTreeSet<u64>,
}

impl JournaledLines {
    fn insert(&mut self, seq: u64, at: Timestamp) {
        // Line 1 of a record begun anew; or, where the journal got it late, one line too many is written again.
        if seq == 1 && self.first != Some(at) && (self.first.is_some() || self.latest < Some(at)) {
            *self = Self::default();
        }
        self.latest = self.latest.max(Some(at));
        if seq == 1 {
            self.first = Some(at);
        }
        match seq {
            0 => {}
            1..=64 => self.low |= 1 << (seq - 1),
            _ => drop(self.high.insert(seq)),
        }
    }

    fn has(&self, seq: u64) -> bool {
        match seq {
            0 => true,
            1..=64 => self.low & (1 << (seq - 1)) != 0,
            _ => self.high.contains(&seq),
        }
    }

    fn has_all(&self, last: u64) -> bool {
        let low = u32::try_from(last.min(64)).unwrap_or(64);
        let wanted = u64::MAX.checked_shr(64 - low).unwrap_or(0);
        self.low & wanted == wanted && (65..=last).all(|seq| self.high.contains(&seq))
    }
}

/// What was read of the journal so far, for the jobs that are looked for.
struct Reading<'a> {
    ids: &'a BTreeSet<JobId>,
    needles: Option<aho_corasick::AhoCorasick>,
    seen: HashMap<u64, JournaledLines>,
    /// The same of records that gc has retired, with the time of the line that says so.
    retired: HashMap<u64, (Timestamp, JournaledLines)>,
    positions: Vec<Position>,
    /// What is older was cleared away with the oldest parts: it is not missing.
    cleared: Option<Timestamp>,
}

impl<'a> Reading<'a> {
    fn new(store: &Store, ids: &'a BTreeSet<JobId>) -> Self {
        let few = ids.len() < FEW;
        let needles =
            few.then(|| aho_corasick::AhoCorasick::new(ids.iter().map(JobId::as_str)).ok()).flatten();
        let cleared = prune::cleared_before(store);
        Self { ids, needles, seen: HashMap::new(), retired: HashMap::new(), positions: Vec::new(), cleared }
    }

    /// Reads what the journal got since the last time.
    fn read_on(&mut self, store: &Store) -> Result<()> {
        let parts = open(store)?;
        match self.read(&parts)? {
            Some(positions) => self.positions = positions,
            // Another journal was put there: it is read from its beginning.
            None => {
                self.seen.clear();
                self.retired.clear();
                self.positions.clear();
                self.positions = self.read(&parts)?.unwrap_or_default();
            }
        }
        Ok(())
    }

    fn read(&mut self, parts: &[Part]) -> Result<Option<Vec<Position>>> {
        let positions = std::mem::take(&mut self.positions);
        Ok(advance(parts, &positions, &mut |block| self.note(block))?.ok())
    }

    fn note(&mut self, block: &[u8]) {
        let (ids, seen, retired) = (self.ids, &mut self.seen, &mut self.retired);
        let mut note = |line: &Glance<'_>| {
            if JobId::new(&line.job_id).is_ok_and(|id| ids.contains(&id)) {
                let key = hash(line.job_id.as_bytes());
                if !line.is_retirement() {
                    seen.entry(key).or_default().insert(line.seq, line.at);
                } else if let Some(former) = seen.remove(&key) {
                    retired.insert(key, (line.at, former));
                }
            }
        };
        match &self.needles {
            None => glances(block).for_each(|line| note(&line)),
            Some(needles) => {
                for line in block.split_inclusive(|b| *b == b'\n').filter(|line| needles.is_match(*line)) {
                    glances(line).for_each(|line| note(&line));
                }
            }
        }
    }

    /// Reads the end of the journal, however long it is; the time of the first line that was read, none if that is all.
    fn read_back(&mut self, store: &Store) -> Result<Option<Timestamp>> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        'parts: for part in open(store)?.iter().rev() {
            let mut backward = part.backward()?;
            while let Some(block) = backward.block()? {
                bytes += block.len() as u64;
                blocks.push(block);
                if bytes >= READ_BACK {
                    break 'parts;
                }
            }
        }
        blocks.reverse();
        blocks.iter().for_each(|block| self.note(block));
        let first = blocks.first().and_then(|block| glances(block).map(|line| line.at).next());
        Ok(first.filter(|_| bytes >= READ_BACK))
    }

    /// What the journal has of the record whose last line is of this time. The one that gc retired may still be there: a crash
    /// came before its removal.
    fn lines_of(&self, id: &JobId, last: Timestamp) -> Option<&JournaledLines> {
        let key = hash(id.as_str().as_bytes());
        let former = self.retired.get(&key).filter(|(retired, _)| last <= *retired);
        former.map(|(_, seen)| seen).or_else(|| self.seen.get(&key))
    }

    fn missing(&self, id: &JobId, history: Vec<Record>) -> impl Iterator<Item = Record> {
        // Lines of a record of the same id that gc has retired say nothing of this one's.
        let first = history.first().filter(|record| record.line.seq == 1).map(|record| record.line.at);
        let is_of_this =
            |seen: &&JournaledLines| first.is_none() || seen.first.is_none() || seen.first == first;
        let seen = history.last().and_then(|record| self.lines_of(id, record.line.at)).filter(is_of_this);
        let cleared = self.cleared;
        history
            .into_iter()
            .filter(move |record| cleared.is_none_or(|cleared| record.line.at >= cleared))
            .filter(move |record| seen.is_none_or(|seen| !seen.has(record.line.seq)))
    }

    fn lacks(&self, id: &JobId, last: u64, at: Timestamp) -> bool {
        // A number may belong to a record of the same id that gc has retired; then the last line is younger.
        let is_lacking = |seen: &JournaledLines| !seen.has_all(last) || seen.latest < Some(at);
        self.cleared.is_none_or(|cleared| at >= cleared) && self.lines_of(id, at).is_none_or(is_lacking)
    }
}

/// Writes again what the journal lacks of these jobs, from their records; the number of lines written. A job whose
/// lease another process holds is left to the next recovery.
///
/// # Errors
/// File system errors.
pub fn fill_gaps(store: &Store, ids: &BTreeSet<JobId>) -> Result<usize> {
    let mut reading = Reading::new(store, ids);
    reading.read_on(store)?;
    let mut written = 0;
    for id in lacking(store, &reading)? {
        written += fill(store, &mut reading, &id)?;
    }
    Ok(written)
}

/// Visits the record lines of these jobs that the journal lacks. One that is just being written may be among them.
///
/// # Errors
/// File system errors, and the visitor's.
pub(crate) fn each_gap(
    store: &Store,
    ids: &BTreeSet<JobId>,
    visit: &mut dyn FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let mut reading = Reading::new(store, ids);
    reading.read_on(store)?;
    for id in lacking(store, &reading)? {
        reading
            .missing(&id, store.record_history(&id).unwrap_or_default())
            .try_for_each(|record| visit(&record))?;
    }
    Ok(())
}

/// The jobs whose record has a line that the journal lacks.
fn lacking(store: &Store, reading: &Reading<'_>) -> Result<Vec<JobId>> {
    let wanted: Vec<JobId> = reading.ids.iter().cloned().collect();
    brief::read_many(store, &wanted, |id, line: Result<Option<StatusLine>>| match line {
        Ok(Some(line)) => reading.lacks(id, line.seq, line.at).then(|| id.clone()),
        // An unreadable record stops its own job only; what can be read of it is written.
        Err(_) => Some(id.clone()),
        Ok(None) => None,
    })
}

/// Writes again what the end of the journal lacks of one job; the number of lines written. What is read does not grow with
/// the journal: a last line that was written long ago may be written twice, which followers must bear, and what is missing
/// further up is left to `fill_gaps`.
///
/// # Errors
/// File system errors.
pub fn fill_latest(store: &Store, id: &JobId) -> Result<usize> {
    let Some(lease) = lease_of(store, id) else { return Ok(0) };
    let ids = BTreeSet::from([id.clone()]);
    let mut reading = Reading::new(store, &ids);
    // Under the lease: a writer of a line of this job holds it until the journal has the line, too.
    let since = reading.read_back(store)?;
    let history = store.record_history(lease.id()).unwrap_or_default();
    let last = history.last().map(|record| record.line.seq);
    let is_told_there = |record: &Record| since.is_none_or(|since| record.line.at > since.after(DISORDER));
    let missing = reading.missing(id, history);
    tell(store, missing.filter(|record| Some(record.line.seq) == last || is_told_there(record)))
}

/// The lease of a job, unless it is held; an unreadable record stops its own job only.
fn lease_of(store: &Store, id: &JobId) -> Option<Box<Lease>> {
    match Lease::acquire(store, id, Create::No) {
        Ok(Acquire::Held(lease)) => Some(lease),
        Ok(Acquire::Busy | Acquire::NoRecord) => None,
        Err(error) => {
            tracing::debug!(%error, %id, "not looked for gaps of the journal");
            None
        }
    }
}

fn fill(store: &Store, reading: &mut Reading<'_>, id: &JobId) -> Result<usize> {
    let Some(lease) = lease_of(store, id) else { return Ok(0) };
    reading.read_on(store)?;
    // An unreadable record stops its own job only.
    let history = store.record_history(lease.id()).unwrap_or_default();
    tell(store, reading.missing(id, history))
}

fn tell(store: &Store, missing: impl Iterator<Item = Record>) -> Result<usize> {
    let mut written = 0;
    for record in missing {
        super::append(store, &JournalLine::from_record(&record.line))?;
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_known_by_number_and_a_record_begun_anew_has_none_of_the_old() {
        let time = Timestamp::from_millis;
        let mut seen = JournaledLines::default();
        assert!(seen.has_all(0) && !seen.has_all(1));
        for seq in 1..=70 {
            seen.insert(seq, time(i64::try_from(seq).unwrap()));
            assert!(seen.has_all(seq) && !seen.has_all(seq + 1), "{seq}");
        }
        seen.insert(1, time(1));
        assert!(seen.has_all(70));
        seen.insert(1, time(99));
        assert!(seen.has_all(1) && !seen.has(2) && !seen.has(65));
        // The journal never got line 1 of the record that is gone.
        let mut seen = JournaledLines::default();
        for (seq, at) in [(2, 5), (3, 6), (1, 7), (2, 8)] {
            seen.insert(seq, time(at));
        }
        assert!(seen.has_all(2) && !seen.has(3));
        // Line 1 came late.
        seen.insert(1, time(7));
        assert!(seen.has_all(2));
    }
}
